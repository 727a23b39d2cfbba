//! The JSON Schema of a workflow file for editors: the schema of the types, and of the rules between
//! keys those that JSON Schema can say.
//!
//! It never refuses a file that [`check_workflow`](super::check_workflow) accepts with the built-in
//! handlers. Library steps and overrides are only parts of a step, so the rules do not apply to
//! them. An empty key (null) counts as left out, also where the key does not belong.

use serde_json::{Map, Value, json};

use super::{
    document::{file_schema, forget, handler_schema},
    validate::{CHILD_ASSIGNMENT, OUTPUT_KEYS},
};
use crate::{
    config::{
        AdvanceNeeds, BUILT_IN_HANDLERS, CompletionType, ExternalHandler, GoalType, HookStage,
        InternalHandler, StepType, Template,
    },
    limits::FIELDS_MAX,
    reliability::CLASSES_MAX,
};

/// Keys with dots between them.
const FIELD: &str = r"^[^. ]([^.]*[^. ])?(\.[^. ]([^.]*[^. ])?)*$";
/// A duration that is not zero.
const SOME_TIME: &str = "^[0-9]{0,8}[1-9][0-9]{0,8}[smhd]$";
/// A URL that a webhook may have, roughly.
const URL: &str = r"^https?://[^/?#@ ]+([/?#][^ ]*)?$";

/// The JSON Schema (draft 2020-12) of a workflow file, for editors.
///
/// It covers single keys and values, and which keys go together. References, cycles and conflicts
/// between distant keys are checked by [`check_workflow`](super::check_workflow) only.
pub fn workflow_file_schema() -> Value {
    let mut schema = file_schema().root.clone();
    schema["title"] = json!("Glyph workflow");
    let hook = schema["$defs"]["Hook"].take();
    schema["$defs"]["Hook"] = json!({
        "description": "One call of a hook; the name of a handler that needs no settings will do.",
        "anyOf": [{"type": "string"}, hook]
    });
    let mut defs = object(schema["$defs"].take());
    defs.extend(partial_definitions(&defs));
    let whole_body = defs["WorkflowBody"].clone();
    for (name, rules) in [
        ("CompletionRules", completion_rules()),
        ("ConsensusRules", consensus_rules()),
        ("HandlerRules", handler_rules()),
        ("HookRules", hook_rules()),
    ] {
        defs.insert(name.to_owned(), rules);
    }
    handlers(&mut defs);
    step(&mut defs["StepConfig"]);
    defs.insert(
        "StepPatch".to_owned(),
        step_patch(&defs["PartialLibraryStep"]),
    );
    transition(&mut defs);
    goal(&mut defs["GoalConfig"]);
    defs["Settings"]["properties"]["default_timeout"] = with(
        &defs["Settings"]["properties"]["default_timeout"],
        json!({"pattern": SOME_TIME}),
    );
    defs.insert("Overrides".to_owned(), overrides(whole_body));
    body(&mut defs["WorkflowBody"]);
    schema["$defs"] = defs.into();
    schema
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(entries) => entries,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Map::new()
        }
    }
}

/// The schema with further rules.
fn with(schema: &Value, rules: Value) -> Value {
    let mut schema = schema.clone();
    match schema["allOf"].as_array_mut() {
        Some(all) => all.push(rules),
        None => schema["allOf"] = json!([rules]),
    }
    schema
}

fn add(schema: &mut Value, rules: Value) {
    *schema = with(schema, rules);
}

/// The key is there and has one of these values.
fn is(key: &str, values: &[&str]) -> Value {
    json!({"properties": {key: {"enum": values}}, "required": [key]})
}

/// These keys are left out.
fn without(keys: &[&str]) -> Value {
    if keys.is_empty() {
        return json!(true);
    }
    // A pattern, so that editors do not offer the keys.
    json!({"patternProperties": {format!("^({})$", keys.join("|")): {"type": "null"}}})
}

/// The key is there, and not empty.
fn needs(key: &str) -> Value {
    json!({"properties": {key: {"not": {"type": "null"}}}, "required": [key]})
}

/// A definition, or an empty key.
fn or_nothing(name: &str, description: &str) -> Value {
    json!({
        "description": description,
        "anyOf": [{"$ref": format!("#/$defs/{name}")}, {"type": "null"}]
    })
}

/// One kind of a mapping: the value of the key that names it, the keys that only some kinds have,
/// and rules.
struct Kind {
    name: &'static str,
    keys: Vec<&'static str>,
    rules: Vec<Value>,
}

/// Gives each kind the keys that go with it. Before the kind is known, only common keys are
/// offered.
fn by_kind(schema: &mut Value, key: &str, kinds: &[Kind]) {
    let Some(properties) = schema["properties"].as_object().cloned() else {
        return;
    };
    let special = |name: &str| kinds.iter().any(|kind| kind.keys.contains(&name));
    let (own, common): (Map<_, _>, Map<_, _>) =
        properties.into_iter().partition(|(name, _)| special(name));
    let mut rules = Vec::new();
    for kind in kinds {
        let mut properties: Map<String, Value> = common
            .keys()
            .map(|name| (name.clone(), json!(true)))
            .collect();
        let (mine, foreign): (Vec<&String>, Vec<&String>) = own
            .keys()
            .partition(|name| kind.keys.contains(&name.as_str()));
        for name in mine {
            properties.insert(name.clone(), own[name].clone());
        }
        let foreign: Vec<&str> = foreign.into_iter().map(String::as_str).collect();
        let mut then = json!({"properties": properties, "additionalProperties": false});
        if let Some(pattern) = without(&foreign).get("patternProperties") {
            then["patternProperties"] = pattern.clone();
        }
        if !kind.rules.is_empty() {
            then["allOf"] = kind.rules.clone().into();
        }
        rules.push(json!({"if": is(key, &[kind.name]), "then": then}));
    }
    schema["properties"] = common.into();
    schema["allOf"] = rules.into();
    if let Some(entries) = schema.as_object_mut() {
        entries.remove("additionalProperties");
    }
}

fn step(step: &mut Value) {
    step["description"] =
        json!("One step of a workflow. Which keys it takes depends on its `type`.");
    step["properties"]["handler"] = json!({
        "description": step["properties"]["handler"]["description"],
        "anyOf": [{"enum": BUILT_IN_HANDLERS}, {"type": ["string", "null"]}]
    });
    let kinds = StepType::ALL.map(step_kind);
    by_kind(step, "type", &kinds);
    step["properties"]["ref"] = json!({
        "type": "string",
        "description": "Takes a step from the library; the step keeps its own id."
    });
    step["properties"]["overrides"] = or_nothing(
        "PartialLibraryStep",
        "Merged deeply over the step of the library.",
    );
    step["required"] = json!(["id"]);
    step["anyOf"] = json!([{"required": ["type"]}, {"required": ["ref"]}]);
    step["dependentRequired"] = json!({"overrides": ["ref"]});
    add(
        step,
        json!({
            "if": {"required": ["ref"]},
            "then": {
                "properties": {
                    "id": true, "name": true, "description": true, "ref": true, "overrides": true
                },
                "additionalProperties": false
            },
            "else": {"properties": {
                "completion": {"$ref": "#/$defs/CompletionRules"},
                "join_timeout": {"pattern": SOME_TIME}
            }}
        }),
    );
    add(
        step,
        json!({
            "if": is("join_mode", &["n_of_m"]),
            "then": needs("join_count"),
            "else": without(&["join_count"])
        }),
    );
}

fn step_kind(kind: StepType) -> Kind {
    let spec = kind.spec();
    let completions: Vec<&str> = spec.completions.iter().map(|kind| kind.as_str()).collect();
    let mut rules = vec![json!({"properties": {
        "completion": {"properties": {"type": {"enum": completions}}},
        "consensus": {"$ref": "#/$defs/ConsensusRules"},
        "field": {"pattern": FIELD},
        "condition": {"properties": {"expression": {"minLength": 1}}},
        "input_mapping": {"additionalProperties": {"minLength": 1}},
        "output_mapping": {"additionalProperties": {"pattern": output_path()}}
    }})];
    rules.extend(spec.required_key.map(needs));
    let no_timeout = json!({"properties": {"completion": without(&["timeout"])}});
    if spec.keys.contains(&"handler") {
        let job = is("handler", &[ExternalHandler::Queue.as_str()]);
        rules.push(json!({"if": job, "else": no_timeout}));
        rules.push(json!({"$ref": "#/$defs/HandlerRules"}));
    } else if spec.completions == [CompletionType::Auto] {
        rules.push(no_timeout);
    }
    if spec.advance == AdvanceNeeds::Output {
        // Nobody is assigned to a child task.
        let allowed: Map<String, Value> = CHILD_ASSIGNMENT
            .iter()
            .map(|key| ((*key).to_owned(), json!(true)))
            .collect();
        rules.push(json!({"properties": {
            "assignment": {"properties": allowed, "additionalProperties": {"type": "null"}}
        }}));
    }
    let mut keys = spec.keys.to_vec();
    if spec.takes_hooks {
        keys.push("hooks");
        rules.push(json!({"properties": {"hooks": {"$ref": "#/$defs/HookRules"}}}));
    }
    Kind {
        name: kind.as_str(),
        keys,
        rules,
    }
}

fn output_path() -> String {
    format!(
        r"^(\$\.)?({})(\.[^. ]([^.]*[^. ])?)*$",
        OUTPUT_KEYS.join("|")
    )
}

fn completion_rules() -> Value {
    let kinds = [
        CompletionType::AnnotationCount,
        CompletionType::Confidence,
        CompletionType::ReviewDecision,
        CompletionType::Auto,
        CompletionType::Manual,
    ];
    let keys = || kinds.iter().flat_map(|kind| kind.keys());
    let rules: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let mut foreign: Vec<&str> = keys()
                .copied()
                // A job in a queue has a timeout; its step says whether it is one.
                .filter(|key| !kind.keys().contains(key))
                .filter(|key| *kind != CompletionType::Auto || *key != "timeout")
                .collect();
            foreign.sort_unstable();
            foreign.dedup();
            json!({"if": is("type", &[kind.as_str()]), "then": without(&foreign)})
        })
        .collect();
    json!({
        "properties": {
            "timeout": {"pattern": SOME_TIME},
            "target": {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
            "classes": {"minItems": 2, "maxItems": CLASSES_MAX}
        },
        "allOf": rules
    })
}

fn consensus_rules() -> Value {
    json!({"properties": {
        "field": {"pattern": FIELD},
        "per_field": {
            "minProperties": 1,
            "maxProperties": FIELDS_MAX,
            "propertyNames": {"pattern": FIELD},
            "additionalProperties": {"properties": {"weight": {"exclusiveMinimum": 0}}}
        },
        "on_disagreement": {
            "if": is("strategy", &["additional_annotators"]),
            "else": without(&["max_additional", "fallback"])
        }
    }})
}

/// The settings of the built-in handlers.
fn handlers(defs: &mut Map<String, Value>) {
    defs["WebhookConfig"]["properties"]["url"]["pattern"] = json!(URL);
    defs["WebhookConfig"]["properties"]["timeout"] = with(
        &defs["WebhookConfig"]["properties"]["timeout"],
        json!({"pattern": SOME_TIME}),
    );
    for handler in InternalHandler::ALL {
        let Some(schema) = handler_schema(handler.as_str()) else {
            continue;
        };
        let mut settings = object(schema.root.clone());
        settings.remove("$schema");
        for (name, definition) in object(settings.remove("$defs").unwrap_or_default()) {
            defs.entry(name).or_insert(definition);
        }
        let mut settings = Value::from(settings);
        if handler == InternalHandler::ConsensusCalculator {
            settings["title"] = json!("CalculatorConfig");
            add(&mut settings, json!({"$ref": "#/$defs/ConsensusRules"}));
        }
        defs.insert(settings_name(handler).to_owned(), settings);
    }
}

fn settings_name(handler: InternalHandler) -> &'static str {
    match handler {
        InternalHandler::ConsensusCalculator => "CalculatorConfig",
        InternalHandler::ResultMerger => "MergerConfig",
        InternalHandler::Finalize => "FinalizeConfig",
    }
}

/// Which settings go with which handler.
fn handler_rules() -> Value {
    let config = |handler: &str, name: &str| {
        json!({
            "if": is("handler", &[handler]),
            "then": {"properties": {"config": {"$ref": format!("#/$defs/{name}")}}}
        })
    };
    let webhook = ExternalHandler::Webhook.as_str();
    let mut rules = vec![
        config(webhook, "WebhookConfig"),
        json!({"if": is("handler", &[webhook]), "then": {"required": ["config"]}}),
    ];
    let internal = InternalHandler::ALL.into_iter();
    rules.extend(internal.map(|handler| config(handler.as_str(), settings_name(handler))));
    json!({"allOf": rules})
}

fn hook_rules() -> Value {
    let (webhook, queue) = (
        ExternalHandler::Webhook.as_str(),
        ExternalHandler::Queue.as_str(),
    );
    let blocking = json!({
        "$ref": "#/$defs/HandlerRules",
        "not": {"const": webhook},
        "if": is("handler", &[queue]),
        "then": {"properties": {"timeout": {"pattern": SOME_TIME}}},
        "else": without(&["timeout"])
    });
    let mut notifying = json!({
        "$ref": "#/$defs/HandlerRules",
        "if": {"type": "string"},
        "then": {"const": queue},
        "else": {"properties": {"handler": {"enum": [webhook, queue]}}}
    });
    add(&mut notifying, without(&["timeout"]));
    let stages: Map<String, Value> = HookStage::ALL
        .into_iter()
        .map(|stage| {
            let rules = if stage.blocks_step() {
                &blocking
            } else {
                &notifying
            };
            (stage.as_str().to_owned(), json!({"items": rules}))
        })
        .collect();
    json!({"properties": stages})
}

fn transition(defs: &mut Map<String, Value>) {
    let condition = &mut defs["ConditionConfig"];
    add(
        condition,
        json!({
            "if": is("type", &["expression"]),
            "then": {
                "properties": {"expression": {"type": "string", "minLength": 1}},
                "required": ["expression"]
            },
            "else": without(&["expression"])
        }),
    );
    add(
        condition,
        json!({
            "if": is("type", &["on_agreement", "on_disagreement"]),
            "else": without(&["threshold"])
        }),
    );
}

fn goal(goal: &mut Value) {
    for list in ["goals", "required_roles", "checklist", "on_complete"] {
        goal["properties"][list]["maxItems"] = json!(100);
    }
    goal["properties"]["on_complete"]["uniqueItems"] = json!(true);
    for time in ["within", "window"] {
        let property = &mut goal["properties"][time];
        add(property, json!({"pattern": SOME_TIME}));
    }
    goal["description"] =
        json!("One goal of the workflow. Which keys it takes depends on its `type`.");
    let kinds = GoalType::ALL.map(goal_kind);
    by_kind(goal, "type", &kinds);
}

fn goal_kind(kind: GoalType) -> Kind {
    let known = kind.alerts();
    let mut foreign: Vec<&str> = GoalType::ALL
        .into_iter()
        .flat_map(GoalType::alerts)
        .copied()
        .filter(|alert| !known.contains(alert))
        .collect();
    foreign.sort_unstable();
    foreign.dedup();
    let mut rules = Vec::new();
    if !known.is_empty() {
        rules.push(json!({"properties": {"alerts": without(&foreign)}}));
    }
    let volume = json!({
        "properties": {"target": {"type": "integer", "minimum": 1}},
        "if": is("unit", &["annotations"]),
        "else": without(&["step", "dedupe"])
    });
    match kind {
        GoalType::Volume => rules.extend([needs("target"), volume]),
        GoalType::Quality => rules.extend([
            needs("metric"),
            needs("target"),
            json!({"properties": {"target": {"exclusiveMinimum": 0, "maximum": 1}}}),
        ]),
        GoalType::Deadline => rules.extend([
            needs("deadline"),
            json!({"anyOf": [{"required": ["goals"]}, needs("target")]}),
            json!({"if": needs("target"), "then": volume}),
        ]),
        GoalType::Duration => rules.push(needs("within")),
        GoalType::Composite => rules.extend([
            needs("goals"),
            json!({"properties": {"goals": {"minItems": 1}}}),
            json!({
                "if": {"properties": {"override": {"const": true}}, "required": ["override"]},
                "else": without(&["required_roles", "checklist", "require_reason"])
            }),
        ]),
        GoalType::Manual => {}
    }
    Kind {
        name: kind.as_str(),
        keys: kind.keys().to_vec(),
        rules,
    }
}

/// What `overrides` may say of one step of a template.
fn step_patch(partial: &Value) -> Value {
    let mut patch = partial.clone();
    patch["properties"]["ref"] = json!({
        "type": "string",
        "description": "Takes another step, from the library, in place of the template's."
    });
    patch["properties"]["overrides"] = or_nothing(
        "PartialLibraryStep",
        "Merged deeply over the step of the library.",
    );
    patch["dependentRequired"] = json!({"overrides": ["ref"]});
    patch
}

fn overrides(body: Value) -> Value {
    let transitions = body["properties"]["transitions"].clone();
    let mut overrides = body;
    forget(&mut overrides, "id");
    strip_required(&mut overrides);
    overrides["description"] = json!("Merged deeply over the expanded template.");
    // A list replaces the template's, so its entries are complete.
    overrides["properties"]["transitions"] = transitions;
    overrides["properties"]["steps"] = json!({
        "type": ["object", "null"],
        "description": "From the id of a step to the keys to replace.",
        "additionalProperties": or_nothing("StepPatch", "The keys to replace.")
    });
    overrides
}

fn body(body: &mut Value) {
    body["properties"]["template"] = json!({
        "type": "string",
        "enum": Template::ALL.map(Template::as_str),
        "description": "A whole workflow to start from."
    });
    body["properties"]["overrides"] = or_nothing("Overrides", "What differs from the template.");
    body["required"] = json!(["id"]);
    body["anyOf"] = json!([{"required": ["steps"]}, {"required": ["template"]}]);
    body["dependentRequired"] = json!({"overrides": ["template"]});
    add(
        body,
        json!({
            "if": {"required": ["template"]},
            "then": {"properties": {"steps": false, "transitions": false}}
        }),
    );
}

/// A copy of every definition without required keys, for parts that are merged over a complete one.
fn partial_definitions(definitions: &Map<String, Value>) -> Map<String, Value> {
    let mut partial = Map::new();
    for (name, definition) in definitions {
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
