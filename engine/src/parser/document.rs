//! The shape of a workflow file, and the JSON Schemas generated from it.

use std::{collections::BTreeMap, sync::OnceLock};

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::report::ValidationError;
use crate::{
    config::{
        ConsensusConfig, ExternalHandler, GoalConfig, GoldConfig, InternalHandler, Script,
        Settings, StepConfig, TransitionConfig, WebhookConfig,
    },
    ids::{StepId, WorkflowId},
};

/// A workflow file.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "only its schema is used; parts are deserialised one by one"
)]
struct WorkflowFile {
    /// The workflow.
    workflow: WorkflowBody,
    /// Reusable steps by name, without `id`; a step of the workflow takes one by `ref`.
    step_library: Option<BTreeMap<String, StepConfig>>,
    /// Goals of the workflow.
    goals: Option<Vec<GoalConfig>>,
}

/// The workflow as a whole, once templates and library steps are resolved.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct WorkflowBody {
    /// The name in commands.
    id: WorkflowId,
    /// A name for people; the id when left out.
    name: Option<String>,
    /// The purpose of the workflow.
    description: Option<String>,
    /// The step at which a task begins; the first step when left out.
    entry_step: Option<StepId>,
    /// Settings that apply to every step.
    settings: Option<Settings>,
    /// The steps.
    #[schemars(length(min = 1, max = 500))]
    steps: Vec<StepConfig>,
    /// The transitions; a step without any completes the workflow.
    #[schemars(length(max = 2000))]
    transitions: Option<Vec<TransitionConfig>>,
    /// Share of tasks with a known answer among claims.
    gold: Option<GoldConfig>,
}

/// Settings of the handler `consensus_calculator`: a consensus block and the step it applies to.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct CalculatorConfig {
    /// The annotation step whose annotations are compared; the preceding one when left out.
    step: Option<StepId>,
}

/// Settings of the handler `result_merger`.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct MergerConfig {
    /// The steps whose values are merged; the steps that lead to this one when left out.
    #[schemars(length(min = 1))]
    steps: Option<Vec<StepId>>,
}

/// Settings of the handler `finalize`.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its schema is used")]
struct FinalizeConfig {
    /// Keys of the last value to keep; all when left out.
    #[schemars(length(min = 1))]
    fields: Option<Vec<String>>,
}

/// A schema to check a resolved document against.
pub(super) struct CheckSchema {
    pub(super) root: Value,
}

impl CheckSchema {
    fn of(schema: schemars::Schema) -> Self {
        Self {
            root: schema.to_value(),
        }
    }

    /// Follows `$ref`.
    pub(super) fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match Self::name(schema) {
            Some(name) => &self.root["$defs"][name],
            None => schema,
        }
    }

    /// The definition that a schema refers to.
    pub(super) fn name(schema: &Value) -> Option<&str> {
        schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|name| name.strip_prefix("#/$defs/"))
    }
}

/// The schema of the whole resolved file. It follows the types, except that library steps have no
/// `id`.
pub(super) fn file_schema() -> &'static CheckSchema {
    static SCHEMA: OnceLock<CheckSchema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = CheckSchema::of(schemars::schema_for!(WorkflowFile));
        let mut step = schema.root["$defs"]["StepConfig"].clone();
        forget(&mut step, "id");
        schema.root["$defs"]["LibraryStep"] = step;
        schema.root["properties"]["step_library"]["additionalProperties"] =
            json!({"$ref": "#/$defs/LibraryStep"});
        schema
    })
}

/// The schema of a script for a dry run.
pub(super) fn script_schema() -> &'static CheckSchema {
    static SCHEMA: OnceLock<CheckSchema> = OnceLock::new();
    SCHEMA.get_or_init(|| CheckSchema::of(schemars::schema_for!(Script)))
}

/// The JSON Schema of a script for a dry run, for editors.
pub fn script_file_schema() -> Value {
    script_schema().root.clone()
}

/// The schema of the `config` of a built-in handler.
pub(super) fn handler_schema(handler: &str) -> Option<&'static CheckSchema> {
    static CALCULATOR: OnceLock<CheckSchema> = OnceLock::new();
    static MERGER: OnceLock<CheckSchema> = OnceLock::new();
    static FINALIZE: OnceLock<CheckSchema> = OnceLock::new();
    static WEBHOOK: OnceLock<CheckSchema> = OnceLock::new();
    if let Some(handler) = ExternalHandler::from_name(handler) {
        return match handler {
            ExternalHandler::Webhook => {
                Some(WEBHOOK.get_or_init(|| CheckSchema::of(schemars::schema_for!(WebhookConfig))))
            }
            // The settings of `queue` are passed on to the consumer of its jobs, unchecked.
            ExternalHandler::Queue => None,
        };
    }
    Some(match InternalHandler::from_name(handler)? {
        InternalHandler::ConsensusCalculator => CALCULATOR.get_or_init(|| {
            let mut schema = CheckSchema::of(schemars::schema_for!(ConsensusConfig));
            let own = schemars::schema_for!(CalculatorConfig).to_value();
            schema.root["properties"]["step"] = own["properties"]["step"].clone();
            for (name, definition) in own["$defs"].as_object().into_iter().flatten() {
                schema.root["$defs"][name] = definition.clone();
            }
            schema
        }),
        InternalHandler::ResultMerger => {
            MERGER.get_or_init(|| CheckSchema::of(schemars::schema_for!(MergerConfig)))
        }
        InternalHandler::Finalize => {
            FINALIZE.get_or_init(|| CheckSchema::of(schemars::schema_for!(FinalizeConfig)))
        }
    })
}

/// The JSON Schema (draft 2020-12) of a workflow file, for editors.
///
/// It covers single keys and values. Relations between several of them (references, cycles,
/// conflicting keys) are checked by [`check_workflow`](super::check_workflow) only.
pub fn workflow_file_schema() -> Value {
    let mut schema = file_schema().root.clone();
    schema["title"] = json!("Glyph workflow");
    let hook = schema["$defs"]["Hook"].take();
    schema["$defs"]["Hook"] = json!({
        "description": "One call of a hook; the name of a handler that needs no settings will do.",
        "anyOf": [{"type": "string"}, hook]
    });
    let partial = partial_definitions(&schema["$defs"]);
    let Some(defs) = schema["$defs"].as_object_mut() else {
        return schema;
    };
    defs.extend(partial);

    let step = &mut defs["StepConfig"];
    step["properties"]["ref"] = json!({
        "type": "string",
        "description": "Takes a step from the library; the step keeps its own id."
    });
    step["properties"]["overrides"] = json!({
        "$ref": "#/$defs/PartialLibraryStep",
        "description": "Merged deeply over the step of the library."
    });
    step["required"] = json!(["id"]);
    step["anyOf"] = json!([{"required": ["type"]}, {"required": ["ref"]}]);

    let body = &mut defs["WorkflowBody"];
    let mut overrides = body.clone();
    forget(&mut overrides, "id");
    strip_required(&mut overrides);
    overrides["description"] = json!("Merged deeply over the expanded template.");
    overrides["properties"]["steps"] = json!({
        "type": "object",
        "description": "From the id of a step to the keys to replace.",
        "additionalProperties": {"$ref": "#/$defs/PartialLibraryStep"}
    });
    body["properties"]["template"] = json!({
        "type": "string",
        "enum": crate::config::Template::ALL.map(crate::config::Template::as_str),
        "description": "A whole workflow to start from."
    });
    body["properties"]["overrides"] = json!({"$ref": "#/$defs/Overrides"});
    body["required"] = json!(["id"]);
    body["anyOf"] = json!([{"required": ["steps"]}, {"required": ["template"]}]);
    defs.insert("Overrides".to_owned(), overrides);
    schema
}

/// The JSON Schema of one diagnostic.
pub fn diagnostic_schema() -> Value {
    schemars::schema_for!(ValidationError).to_value()
}

/// A copy of every definition without required keys, for parts that are merged over a complete one.
fn partial_definitions(definitions: &Value) -> Map<String, Value> {
    let mut partial = Map::new();
    for (name, definition) in definitions.as_object().into_iter().flatten() {
        let mut definition = definition.clone();
        strip_required(&mut definition);
        partial.insert(format!("Partial{name}"), definition);
    }
    partial
}

fn strip_required(schema: &mut Value) {
    match schema {
        Value::Object(entries) => {
            if entries.get("required").is_some_and(Value::is_array) {
                entries.remove("required");
            }
            if let Some(Value::String(name)) = entries.get_mut("$ref") {
                *name = name.replace("#/$defs/", "#/$defs/Partial");
            }
            entries.values_mut().for_each(strip_required);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_required),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn forget(schema: &mut Value, key: &str) {
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove(key);
    }
    if let Some(required) = schema["required"].as_array_mut() {
        required.retain(|name| name != key);
    }
}
