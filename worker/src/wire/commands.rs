//! Commands as producers send them: bytes in, [`CommandEnvelope`] out, or a reason why not.
//!
//! Queue, HTTP and CLI share everything but where type and ids come from: the bytes become JSON
//! (`body.rs`), what a type does not know is taken out (`known_fields.rs`), and what is left is
//! checked (`bounds.rs`).

use glyph_workflow_engine::{
    command::{
        Activity, Advance, Assign, Command, CommandEnvelope, Control, Migrate, Pause, Release,
        Start, Submission,
    },
    ids::{CommandId, TaskId},
    limits,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    body::{parse, parse_or_empty, typed},
    bounds::{check_bounds, check_text},
    known_fields::{keep_known, unknown_type},
    unreadable::{CommandFault, Unreadable, clip},
};
use crate::broker::Properties;

/// A command that was read.
#[derive(Clone, Debug)]
pub struct ReadCommand {
    /// The command.
    pub envelope: CommandEnvelope,
    /// Fields that nobody knows; they were ignored.
    pub unknown_fields: u64,
}

/// A command as HTTP and the CLI give it: type, task and id stand outside the body.
#[derive(Clone, Copy, Debug)]
pub struct CommandRequest<'a> {
    /// The type, from the route or verb; it wins over the body's.
    pub command_type: &'a str,
    /// The task, from the path or argument; it wins over the body's.
    pub task_id: TaskId,
    /// The idempotency key, from its header or made by the server; it wins over the body's.
    pub command_id: CommandId,
    /// What the caller uses to follow a piece of work.
    pub correlation_id: Option<&'a str>,
    /// W3C trace context, from the header of that name.
    pub traceparent: Option<&'a str>,
    /// The JSON; an empty body is an empty object.
    pub body: &'a [u8],
}

/// Reads a command from a queue. Its type is the body's, else the AMQP `type`, else the routing
/// key; its id is the body's, else the AMQP `message_id`.
pub fn read_delivery(body: &[u8], properties: &Properties) -> Result<ReadCommand, Unreadable> {
    let outer_id = properties
        .message_id
        .as_deref()
        .and_then(|id| Uuid::parse_str(id).ok());
    let mut command_id = outer_id.map(CommandId);
    read_queue_body(body, properties, &mut command_id)
        .map_err(|fault| fault.into_unreadable(command_id))
}

/// Reads a command from HTTP or the CLI.
pub fn read_request(request: &CommandRequest<'_>) -> Result<ReadCommand, Unreadable> {
    read_request_with(request, |_| Ok(()))
}

/// The same, where `complete` adds to the fields of the body what stands elsewhere, or refuses them.
pub fn read_request_with<E: From<Unreadable>>(
    request: &CommandRequest<'_>,
    complete: impl FnOnce(&mut Map<String, Value>) -> Result<(), E>,
) -> Result<ReadCommand, E> {
    let unreadable = |fault: CommandFault| fault.into_unreadable(Some(request.command_id));
    let mut fields = parse_or_empty(request.body).map_err(unreadable)?;
    complete(&mut fields)?;
    fields.insert("task_id".to_owned(), request.task_id.to_string().into());
    let outside = OutsideFields {
        command_id: request.command_id,
        correlation_id: request.correlation_id,
        traceparent: request.traceparent,
    };
    Ok(read_fields(fields, request.command_type, &outside).map_err(unreadable)?)
}

/// What does not stand in the body.
struct OutsideFields<'a> {
    command_id: CommandId,
    correlation_id: Option<&'a str>,
    traceparent: Option<&'a str>,
}

/// `command_id` comes in as the one from the properties and leaves as the best one known.
fn read_queue_body(
    body: &[u8],
    properties: &Properties,
    command_id: &mut Option<CommandId>,
) -> Result<ReadCommand, CommandFault> {
    let mut fields = parse(body)?;
    match fields.remove("command_id") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => {
            *command_id = None;
            let id = Uuid::parse_str(&text).map_err(|_| {
                CommandFault::malformed(format!("command_id: `{}` is no UUID", clip(&text)))
            })?;
            *command_id = Some(CommandId(id));
        }
        Some(_) => {
            *command_id = None;
            return Err(CommandFault::malformed(
                "command_id: must be a UUID in a string",
            ));
        }
    }
    let command_type = match fields.remove("type") {
        Some(Value::String(text)) => Some(text),
        None | Some(Value::Null) => properties.message_type.clone().filter(|t| !t.is_empty()),
        Some(_) => return Err(CommandFault::malformed("type: must be a string")),
    };
    let command_id = command_id.ok_or_else(|| {
        CommandFault::malformed(match &properties.message_id {
            Some(id) => format!("command_id: the message_id `{}` is no UUID", clip(id)),
            None => "command_id: missing, in the body and as message_id".to_owned(),
        })
    })?;
    let outside = OutsideFields {
        command_id,
        correlation_id: properties.correlation_id.as_deref(),
        traceparent: properties.traceparent(),
    };
    read_fields(
        fields,
        command_type.as_deref().unwrap_or(&properties.routing_key),
        &outside,
    )
}

/// Ignored like any unknown field, it would do what its sender only wanted to look at.
fn refuse_dry_run(fields: &Map<String, Value>, command_type: &str) -> Result<(), CommandFault> {
    match fields.get("dry_run").filter(|_| command_type == "migrate") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(_) => Err(CommandFault::malformed(
            "dry_run: a command is carried out; what it would do is told by `glyph task migrate \
             --dry-run` and over HTTP, with `\"dry_run\": true`",
        )),
    }
}

fn read_fields(
    mut fields: Map<String, Value>,
    command_type: &str,
    outside: &OutsideFields<'_>,
) -> Result<ReadCommand, CommandFault> {
    refuse_dry_run(&fields, command_type)?;
    let unknown_fields = keep_known(&mut fields, command_type)?;
    let command = match command_type {
        "start" => Command::Start(typed::<Start>(fields)?),
        "submission" => Command::Submission(typed::<Submission>(fields)?),
        "advance" => Command::Advance(typed::<Advance>(fields)?),
        "assign" => Command::Assign(typed::<Assign>(fields)?),
        "release" => Command::Release(typed::<Release>(fields)?),
        "activity" => Command::Activity(typed::<Activity>(fields)?),
        "pause" => Command::Pause(typed::<Pause>(fields)?),
        "resume" => Command::Resume(typed::<Control>(fields)?),
        "cancel" => Command::Cancel(typed::<Control>(fields)?),
        "retry" => Command::Retry(typed::<Control>(fields)?),
        "migrate" => Command::Migrate(typed::<Migrate>(fields)?),
        // FireTimer work is the worker's own: `keep_known` has refused it with every other stranger.
        other => return Err(unknown_type(other)),
    };
    check_bounds(&command)?;
    let correlation_id = outside.correlation_id.filter(|id| !id.is_empty());
    if let Some(id) = correlation_id {
        check_text("correlation_id", id, limits::TEXT_BYTES_MAX)?;
    }
    let envelope = CommandEnvelope {
        command_id: outside.command_id,
        content_hash: command.content_hash(),
        correlation_id: correlation_id.map(str::to_owned),
        traceparent: outside
            .traceparent
            .filter(|t| is_traceparent(t))
            .map(str::to_owned),
        command,
    };
    Ok(ReadCommand {
        envelope,
        unknown_fields,
    })
}

/// Whether the text is a trace context that a consumer could follow; the standard says to go on
/// without it otherwise.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |digits: usize| {
        parts.next().is_some_and(|part| {
            part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    hex(2) && hex(32) && hex(16) && hex(2) && text.len() == 55 && !text.starts_with("ff")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wire::UnreadableCode;

    const ID: &str = "0190a6e0-0000-7000-8000-000000000001";
    const TASK: &str = "0190a6e0-0000-7000-8000-0000000000aa";
    const USER: &str = "0190a6e0-0000-7000-8000-0000000000bb";

    fn submission() -> Value {
        json!({
            "type": "submission", "command_id": ID, "task_id": TASK, "step_id": "annotate",
            "annotation": {"user_id": USER, "data": {"label": "positive", "score": 0.5}},
        })
    }

    fn read(value: &Value) -> Result<ReadCommand, Unreadable> {
        read_delivery(value.to_string().as_bytes(), &Properties::default())
    }

    fn error(value: &Value) -> String {
        let unreadable = read(value).unwrap_err();
        assert_eq!(unreadable.code, UnreadableCode::Malformed);
        unreadable.error
    }

    /// `submission()` with one field (by pointer of its parent) set.
    fn with(parent: &str, key: &str, value: Value) -> Value {
        let mut body = submission();
        body.pointer_mut(parent).unwrap()[key] = value;
        body
    }

    #[test]
    fn type_and_id_come_from_body_or_properties_and_the_hash_stays() {
        let in_body = read(&submission()).unwrap();
        let mut rest = submission();
        rest.as_object_mut().unwrap().remove("type");
        rest.as_object_mut().unwrap().remove("command_id");
        let by = |message_type: Option<&str>, routing_key: &str| {
            let properties = Properties {
                message_id: Some(ID.to_owned()),
                message_type: message_type.map(str::to_owned),
                routing_key: routing_key.to_owned(),
                ..Properties::default()
            };
            read_delivery(rest.to_string().as_bytes(), &properties)
                .unwrap()
                .envelope
        };
        for outside in [by(Some("submission"), "whatever"), by(None, "submission")] {
            assert_eq!(outside.command_id, in_body.envelope.command_id);
            assert_eq!(outside.content_hash, in_body.envelope.content_hash);
        }
    }

    #[test]
    fn the_hash_ignores_order_nulls_and_unknown_fields() {
        let plain = read(&submission()).unwrap();
        let text = format!(
            r#"{{"workflow":null,"annotation":{{"data":{{"score":0.5,"label":"positive"}},"mood":1,
               "confidence":null,"user_id":"{USER}"}},"step_id":"annotate","extra":{{}},
               "task_id":"{TASK}","command_id":"{ID}","type":"submission"}}"#
        );
        let other = read_delivery(text.as_bytes(), &Properties::default()).unwrap();
        assert_eq!(other.envelope.content_hash, plain.envelope.content_hash);
        assert_eq!((plain.unknown_fields, other.unknown_fields), (0, 2));
        let changed = read(&with("/annotation/data", "label", json!("negative"))).unwrap();
        assert_ne!(changed.envelope.content_hash, plain.envelope.content_hash);
    }

    #[test]
    fn a_request_and_a_delivery_of_the_same_command_have_the_same_hash() {
        let body = json!({"step_id": "annotate", "annotation": submission()["annotation"]});
        let body = body.to_string();
        let request = CommandRequest {
            command_type: "submission",
            task_id: TASK.parse().unwrap(),
            command_id: ID.parse().unwrap(),
            correlation_id: Some("order-7"),
            traceparent: None,
            body: body.as_bytes(),
        };
        let by_http = read_request(&request).unwrap().envelope;
        assert_eq!(
            by_http.content_hash,
            read(&submission()).unwrap().envelope.content_hash
        );
        assert_eq!(by_http.correlation_id.as_deref(), Some("order-7"));
        let empty = CommandRequest {
            command_type: "advance",
            body: b"",
            ..request
        };
        assert!(read_request(&empty).is_ok());
    }

    #[test]
    fn a_null_map_is_an_absent_one() {
        let with_null = json!({"type": "migrate", "command_id": ID, "task_id": TASK, "to": "a@2", "steps": null});
        let without = json!({"type": "migrate", "command_id": ID, "task_id": TASK, "to": "a@2"});
        assert_eq!(
            read(&with_null).unwrap().envelope.content_hash,
            read(&without).unwrap().envelope.content_hash
        );
    }

    #[test]
    fn faults_are_named_with_their_path() {
        let cases = [
            (
                with("/annotation", "user_id", json!("me")),
                "annotation.user_id: ",
            ),
            (with("", "task_id", json!(7)), "task_id: "),
            (with("", "task_id", Value::Null), "missing field `task_id`"),
            (
                with("", "command_id", json!("me")),
                "command_id: `me` is no UUID",
            ),
            (
                with("", "command_id", json!(1)),
                "command_id: must be a UUID in a string",
            ),
            (with("", "command_id", Value::Null), "command_id: missing"),
            (
                with("", "type", json!("due")),
                "type: `due` is none of start, ",
            ),
            (with("", "type", json!(3)), "type: must be a string"),
            (
                with("/annotation", "confidence", json!(1.5)),
                "annotation.confidence: 1.5 is not",
            ),
            (
                with("/annotation", "roles", json!(vec!["r"; 65])),
                "annotation.roles: 65 are more",
            ),
            (
                with("/annotation", "data", json!("a\u{0}b")),
                "a string holds the NUL character",
            ),
            (
                with("/annotation", "data", json!({"\u{0}": 1})),
                "a string holds the NUL character",
            ),
            (
                with("", "workflow", json!("No Slug")),
                "workflow: `No Slug` is neither",
            ),
            (json!([]), "a command is a JSON object"),
        ];
        for (body, expected) in cases {
            let found = error(&body);
            assert!(
                found.starts_with(expected),
                "{found:?} does not begin with {expected:?}"
            );
        }
    }

    #[test]
    fn what_no_store_can_keep_is_malformed() {
        let number = submission().to_string().replace("0.5", "1e200000");
        let deep = |levels: usize| {
            let nested = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            submission().to_string().replace("0.5", &nested)
        };
        let read = |text: &[u8]| read_delivery(text, &Properties::default());
        assert_eq!(
            read(number.as_bytes()).unwrap_err().code,
            UnreadableCode::Malformed
        );
        // The command, its annotation and the data are three levels.
        assert!(read(deep(61).as_bytes()).is_ok());
        assert!(
            read(deep(62).as_bytes())
                .unwrap_err()
                .error
                .contains("64 levels")
        );
        assert!(read(deep(200).as_bytes()).is_err());
        assert!(
            read(b"\xff\xfe")
                .unwrap_err()
                .error
                .starts_with("not UTF-8")
        );
        assert!(read(b"{").unwrap_err().error.starts_with("not JSON"));
    }

    #[test]
    fn size_is_checked_at_its_bound_and_the_id_of_the_properties_is_kept() {
        let mut body = submission().to_string().into_bytes();
        body.resize(limits::COMMAND_BYTES_MAX, b' ');
        let properties = Properties {
            message_id: Some(ID.to_owned()),
            ..Properties::default()
        };
        assert!(read_delivery(&body, &properties).is_ok());
        body.push(b' ');
        let unreadable = read_delivery(&body, &properties).unwrap_err();
        assert_eq!(unreadable.code, UnreadableCode::TooLarge);
        assert_eq!(unreadable.command_id, Some(ID.parse().unwrap()));
    }

    #[test]
    fn labels_reasons_and_times_are_bounded() {
        let base = |rest: Value| {
            let mut body = json!({"command_id": ID, "task_id": TASK});
            body.as_object_mut()
                .unwrap()
                .extend(rest.as_object().unwrap().clone());
            body
        };
        let labels = |n: usize| {
            let labels: Map<_, _> = (0..n).map(|i| (format!("k{i}"), json!("v"))).collect();
            base(json!({"type": "start", "workflow": "w", "labels": labels}))
        };
        assert!(read(&labels(64)).is_ok());
        assert!(error(&labels(65)).starts_with("labels: 65"));
        let reason = |bytes: usize| base(json!({"type": "cancel", "reason": "r".repeat(bytes)}));
        assert!(read(&reason(limits::TEXT_BYTES_MAX)).is_ok());
        assert!(error(&reason(limits::TEXT_BYTES_MAX + 1)).starts_with("reason: 4097 bytes"));
        let until = base(json!({"type": "pause", "until": "+12345-01-01T00:00:00Z"}));
        assert!(error(&until).starts_with("until: "));
    }

    #[test]
    fn only_a_whole_traceparent_is_carried_on() {
        let read_with = |traceparent: &str| {
            let headers = [("traceparent".to_owned(), traceparent.to_owned())];
            let properties = Properties {
                headers: headers.into(),
                ..Properties::default()
            };
            let read = read_delivery(submission().to_string().as_bytes(), &properties).unwrap();
            read.envelope.traceparent
        };
        let whole = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(read_with(whole).as_deref(), Some(whole));
        for broken in ["", "00-abc", &whole.to_uppercase(), &format!("{whole}-x")] {
            assert_eq!(read_with(broken), None, "{broken}");
        }
    }
}
