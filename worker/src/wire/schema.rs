//! JSON Schemas of all incoming and outgoing data, generated from its types.

use std::collections::BTreeMap;

use glyph_workflow_engine::{
    command::Command,
    parser::{diagnostic_schema, script_file_schema, workflow_file_schema},
};
use schemars::{JsonSchema, Schema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{
    data::{
        AgreementProgress, AnnotatorFlagged, CommandRejected, ConsensusCalculated, InTask,
        IncidentOpened, IncidentResolved, JobRequested, StepActivated, StepCompleted, StepEnded,
        StepFailed, TaskAssigned, TaskOrWorkflow, TaskReleased, TaskStalled, TransitionOccurred,
        WorkflowCancelled, WorkflowCompleted, WorkflowFailed, WorkflowMigrated, WorkflowPaused,
        WorkflowReleased, WorkflowStarted,
    },
    envelope::Envelope,
    goals::{AlertReport, GoalReport},
    known_fields::command_schema,
    labels::AnswerRevised,
    links::SCHEMA_BASE,
    message_types::MessageType,
    replies::CommandReply,
};

/// Every schema file: path below the folder `schemas` and content.
pub fn schema_files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut add = |path: &str, title: &str, schema: Schema| {
        files.insert(path.to_owned(), document(path, title, schema));
    };
    for name in Command::TYPES {
        if let Some(schema) = command_schema(name) {
            let title = format!("Command `{name}`");
            add(
                &format!("commands/{name}.v1.json"),
                &title,
                as_command(name, schema),
            );
        }
    }
    for kind in MessageType::ALL {
        let mut schema = data_schema(*kind);
        // Many kinds share a type, whose own description says what they have in common.
        schema.insert("description".to_owned(), kind.about().into());
        let title = format!("Data of message `{kind}`");
        add(kind.schema_path(), &title, schema);
    }
    add(
        "messages/message.v1.json",
        "Message (CloudEvents 1.0)",
        outgoing::<Envelope<'_, Value>>(),
    );
    add(
        "messages/reply.v1.json",
        "Answer to a command",
        outgoing::<CommandReply>(),
    );
    for (path, title, schema) in [
        ("workflow.v1.json", "Workflow file", workflow_file_schema()),
        (
            "script.v1.json",
            "Script for `glyph workflow dry-run`",
            script_file_schema(),
        ),
        (
            "diagnostic.v1.json",
            "Diagnostic of a workflow file",
            diagnostic_schema(),
        ),
    ] {
        // The engine's generator always returns an object. If it did not, the file would be missing
        // and the comparison with the committed ones would fail.
        if let Ok(schema) = Schema::try_from(schema) {
            add(path, title, schema);
        }
    }
    files
}

/// The schema of the data of a kind of message.
fn data_schema(kind: MessageType) -> Schema {
    match kind {
        MessageType::StepActivated => outgoing::<InTask<'_, StepActivated<'_>>>(),
        MessageType::StepCompleted => outgoing::<InTask<'_, StepCompleted<'_>>>(),
        MessageType::StepFailed => outgoing::<InTask<'_, StepFailed<'_>>>(),
        MessageType::StepSkipped | MessageType::StepWithdrawn => {
            outgoing::<InTask<'_, StepEnded<'_>>>()
        }
        MessageType::TransitionOccurred => outgoing::<InTask<'_, TransitionOccurred<'_>>>(),
        MessageType::ConsensusCalculated => outgoing::<InTask<'_, ConsensusCalculated<'_>>>(),
        MessageType::WorkflowStarted => outgoing::<InTask<'_, WorkflowStarted<'_>>>(),
        MessageType::WorkflowCompleted => outgoing::<InTask<'_, WorkflowCompleted<'_>>>(),
        MessageType::WorkflowFailed => outgoing::<InTask<'_, WorkflowFailed<'_>>>(),
        MessageType::WorkflowPaused => outgoing::<TaskOrWorkflow<'_, WorkflowPaused<'_>>>(),
        MessageType::WorkflowResumed => outgoing::<TaskOrWorkflow<'_, WorkflowReleased<'_>>>(),
        MessageType::WorkflowCancelled => outgoing::<InTask<'_, WorkflowCancelled<'_>>>(),
        MessageType::WorkflowMigrated => outgoing::<InTask<'_, WorkflowMigrated<'_>>>(),
        MessageType::TaskAssigned => outgoing::<InTask<'_, TaskAssigned<'_>>>(),
        MessageType::TaskReleased => outgoing::<InTask<'_, TaskReleased<'_>>>(),
        MessageType::TaskStalled => outgoing::<InTask<'_, TaskStalled<'_>>>(),
        MessageType::JobRequested => outgoing::<InTask<'_, JobRequested<'_>>>(),
        MessageType::IncidentOpened => outgoing::<InTask<'_, IncidentOpened<'_>>>(),
        MessageType::IncidentResolved => outgoing::<InTask<'_, IncidentResolved<'_>>>(),
        MessageType::GoalProgressed | MessageType::GoalCompleted => outgoing::<GoalReport>(),
        MessageType::GoalAlert => outgoing::<AlertReport>(),
        MessageType::AnnotatorFlagged => outgoing::<AnnotatorFlagged>(),
        MessageType::AnswerRevised => outgoing::<AnswerRevised>(),
        MessageType::AgreementProgressed => outgoing::<AgreementProgress>(),
        MessageType::CommandRejected => outgoing::<CommandRejected<'_>>(),
    }
}

/// The schema of data that the worker writes: fields that it always writes are required.
fn outgoing<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Adds the fields that every command has. Neither is required: both may be in the AMQP properties
/// instead.
fn as_command(name: &str, mut schema: Schema) -> Schema {
    let fields = [
        (
            "type",
            json!({
                "const": name,
                "description": "The command's type; may stand in the AMQP property `type` or the routing key instead."
            }),
        ),
        (
            "command_id",
            json!({
                "type": "string",
                "format": "uuid",
                "description": "The idempotency key: the same id again changes nothing. May stand in the AMQP property `message_id` instead."
            }),
        ),
    ];
    let properties = schema
        .ensure_object()
        .entry("properties")
        .or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        properties.extend(fields.map(|(name, field)| (name.to_owned(), field)));
    }
    schema
}

fn document(path: &str, title: &str, mut schema: Schema) -> String {
    schema.insert("$id".to_owned(), format!("{SCHEMA_BASE}/{path}").into());
    schema.insert("title".to_owned(), title.into());
    // A `Value` always serializes.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
