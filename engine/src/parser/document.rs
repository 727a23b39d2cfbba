//! The shape of a workflow file, and the JSON Schemas that files are checked against.

use std::{collections::BTreeMap, sync::OnceLock};

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::report::ValidationError;
use crate::{
    config::{
        ConsensusConfig, ExternalHandler, GoalConfig, GoldConfig, InternalHandler,
        ReliabilityConfig, Script, Settings, StepConfig, TransitionConfig, WebhookConfig,
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
    /// How the reliability of annotators is learned.
    reliability: Option<ReliabilityConfig>,
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

/// The JSON Schema of one diagnostic.
pub fn diagnostic_schema() -> Value {
    schemars::schema_for!(ValidationError).to_value()
}

/// Removes a key from an object's schema.
pub(super) fn forget(schema: &mut Value, key: &str) {
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove(key);
    }
    if let Some(required) = schema["required"].as_array_mut() {
        required.retain(|name| name != key);
    }
}
