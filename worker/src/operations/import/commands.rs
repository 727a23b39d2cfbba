//! Commands with ids that follow from what they say: importing a file twice sends the same ones.

use glyph_workflow_engine::{
    ids::{CommandId, TaskId},
    limits::COMMAND_BYTES_MAX,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::record::Refusal;
use crate::wire::{CommandRequest, read_request};

/// A command of an import, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportedCommand {
    /// The task.
    pub task_id: TaskId,
    /// `start` or `submission`.
    pub command_type: &'static str,
    /// Derived from the task and the content.
    pub command_id: CommandId,
    /// The whole command as JSON on one line.
    pub body: String,
}

/// A command, checked as a worker would.
pub(super) fn command(
    command_type: &'static str,
    task_id: TaskId,
    mut fields: Map<String, Value>,
) -> Result<ImportedCommand, Refusal> {
    let body = Value::Object(fields.clone()).to_string();
    let request = CommandRequest {
        command_type,
        task_id,
        command_id: CommandId(Uuid::nil()),
        correlation_id: None,
        traceparent: None,
        body: body.as_bytes(),
    };
    let read = read_request(&request).map_err(|error| sized(&error.to_string(), &body))?;
    let mut name = format!("import/{command_type}/").into_bytes();
    name.extend(read.envelope.content_hash);
    let command_id = CommandId(Uuid::new_v5(&task_id.0, &name));
    for (key, value) in [
        ("type", command_type.to_owned()),
        ("command_id", command_id.to_string()),
        ("task_id", task_id.to_string()),
    ] {
        fields.insert(key.to_owned(), value.into());
    }
    let body = Value::Object(fields).to_string();
    if body.len() > COMMAND_BYTES_MAX {
        let reason = format!(
            "{} bytes are more than the {COMMAND_BYTES_MAX} allowed",
            body.len()
        );
        return Err(sized(&reason, &body));
    }
    Ok(ImportedCommand {
        task_id,
        command_type,
        command_id,
        body,
    })
}

fn sized(reason: &str, body: &str) -> Refusal {
    let refusal = Refusal::new(reason);
    if body.len() > COMMAND_BYTES_MAX / 2 {
        return refusal.hint("keep large items elsewhere and import where they are");
    }
    refusal
}

#[cfg(test)]
mod tests {
    use glyph_workflow_engine::ids::TaskId;
    use serde_json::json;

    use super::*;
    use crate::{broker::Properties, wire::read_delivery};

    fn start(task: &str, input: &Value) -> Result<ImportedCommand, Refusal> {
        let fields = json!({"workflow": "w", "input": input});
        command(
            "start",
            TaskId::of_key(task),
            fields.as_object().unwrap().clone(),
        )
    }

    #[test]
    fn the_same_content_has_the_same_id_and_any_other_has_another() {
        let one = start("a", &json!({"x": 1, "y": null})).unwrap();
        assert_eq!(start("a", &json!({"x": 1, "y": null})).unwrap(), one);
        let ids = [
            start("a", &json!({"x": 2, "y": null})).unwrap().command_id,
            start("b", &json!({"x": 1, "y": null})).unwrap().command_id,
        ];
        assert!(!ids.contains(&one.command_id));
        let read = read_delivery(one.body.as_bytes(), &Properties::default()).unwrap();
        assert_eq!(read.envelope.command_id, one.command_id);
        assert_eq!(read.envelope.command.task_id(), TaskId::of_key("a"));
    }

    #[test]
    fn what_no_worker_would_read_is_refused() {
        let large = start("a", &json!({"x": "y".repeat(COMMAND_BYTES_MAX)})).unwrap_err();
        assert!(
            large.reason.contains("allowed") && large.hint.is_some(),
            "{large:?}"
        );
        assert!(
            start("a", &json!({"x": "\0"}))
                .unwrap_err()
                .reason
                .contains("NUL")
        );
    }
}
