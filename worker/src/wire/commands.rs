//! Commands as producers send them: bytes in, [`CommandEnvelope`] out, or a reason why not.
//!
//! Queue, HTTP and CLI share everything but where type and ids come from. Whatever a store could
//! choke on is refused here, one command at a time: later it would abort a whole batch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use chrono::{DateTime, Datelike, Utc};
use glyph_workflow_engine::{
    command::{
        Activity, Advance, AnnotationInput, Assign, Command, CommandEnvelope, Control, Migrate,
        Pause, Release, Start, Submission,
    },
    ids::{CommandId, TaskId},
    limits,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::broker::Properties;

/// A command that was read.
#[derive(Clone, Debug)]
pub struct ReadCommand {
    /// The command.
    pub envelope: CommandEnvelope,
    /// Fields that nobody knows; they were ignored.
    pub unknown_fields: u64,
}

/// A command that cannot be read, now or ever.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Unreadable {
    /// The kind of fault.
    pub code: UnreadableCode,
    /// What is wrong, for people; begins with the path of the field where there is one.
    pub error: String,
    /// The command's id, where that could be read.
    pub command_id: Option<CommandId>,
}

/// Kinds of fault in an unreadable command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnreadableCode {
    /// Not JSON, or not the JSON of a command.
    Malformed,
    /// More bytes than [`limits::COMMAND_BYTES_MAX`].
    TooLarge,
}

impl UnreadableCode {
    /// The name in headers, answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
        }
    }
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
    let read = || {
        let body: &[u8] = if request.body.is_empty() {
            b"{}"
        } else {
            request.body
        };
        let mut fields = parse(body)?;
        fields.insert("task_id".to_owned(), request.task_id.to_string().into());
        let outside = Outside {
            command_id: request.command_id,
            correlation_id: request.correlation_id,
            traceparent: request.traceparent,
        };
        read_fields(fields, request.command_type, &outside)
    };
    read().map_err(|fault: Fault| fault.into_unreadable(Some(request.command_id)))
}

/// What is wrong, before it is known whose command it is.
pub(super) struct Fault {
    code: UnreadableCode,
    error: String,
}

impl Fault {
    fn malformed(error: impl Into<String>) -> Self {
        Self {
            code: UnreadableCode::Malformed,
            error: error.into(),
        }
    }

    pub(super) fn into_unreadable(self, command_id: Option<CommandId>) -> Unreadable {
        Unreadable {
            code: self.code,
            error: self.error,
            command_id,
        }
    }
}

/// What does not stand in the body.
struct Outside<'a> {
    command_id: CommandId,
    correlation_id: Option<&'a str>,
    traceparent: Option<&'a str>,
}

/// `command_id` comes in as the one from the properties and leaves as the best one known.
fn read_queue_body(
    body: &[u8],
    properties: &Properties,
    command_id: &mut Option<CommandId>,
) -> Result<ReadCommand, Fault> {
    let mut fields = parse(body)?;
    match fields.remove("command_id") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => {
            *command_id = None;
            let id = Uuid::parse_str(&text).map_err(|_| {
                Fault::malformed(format!("command_id: `{}` is no UUID", clip(&text)))
            })?;
            *command_id = Some(CommandId(id));
        }
        Some(_) => {
            *command_id = None;
            return Err(Fault::malformed("command_id: must be a UUID in a string"));
        }
    }
    let command_type = match fields.remove("type") {
        Some(Value::String(text)) => Some(text),
        None | Some(Value::Null) => properties.message_type.clone().filter(|t| !t.is_empty()),
        Some(_) => return Err(Fault::malformed("type: must be a string")),
    };
    let command_id = command_id.ok_or_else(|| {
        Fault::malformed(match &properties.message_id {
            Some(id) => format!("command_id: the message_id `{}` is no UUID", clip(id)),
            None => "command_id: missing, in the body and as message_id".to_owned(),
        })
    })?;
    let outside = Outside {
        command_id,
        correlation_id: properties.correlation_id.as_deref(),
        traceparent: properties.headers.get("traceparent").map(String::as_str),
    };
    read_fields(
        fields,
        command_type.as_deref().unwrap_or(&properties.routing_key),
        &outside,
    )
}

/// Bytes to an object that every store can keep.
pub(super) fn parse(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    if body.len() > limits::COMMAND_BYTES_MAX {
        return Err(Fault {
            code: UnreadableCode::TooLarge,
            error: format!(
                "{} bytes are more than the {} allowed",
                body.len(),
                limits::COMMAND_BYTES_MAX
            ),
        });
    }
    let text = std::str::from_utf8(body)
        .map_err(|e| Fault::malformed(format!("not UTF-8 after byte {}", e.valid_up_to())))?;
    // serde_json refuses numbers that no finite f64 holds, and nesting beyond 128.
    let value: Value =
        serde_json::from_str(text).map_err(|e| Fault::malformed(format!("not JSON: {e}")))?;
    if let Some((byte, number)) = too_large_integer(text) {
        return Err(Fault::malformed(format!(
            "byte {byte}: the whole number {number} has more than 64 bits and would be rounded: send it as a text"
        )));
    }
    check_content(&value, 1)?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(Fault::malformed("a command is a JSON object")),
    }
}

/// The first whole number of a valid JSON text that no 64 bits hold, and where it stands. The reader
/// makes it a decimal number, which is another one.
fn too_large_integer(text: &str) -> Option<(usize, &str)> {
    let (mut at, bytes) = (0, text.as_bytes());
    while let Some(byte) = bytes.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => {
                while bytes.get(at).is_some_and(|byte| *byte != b'"') {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let inside =
                    |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                while bytes.get(at).is_some_and(inside) {
                    at += 1;
                }
                let number = &text[start..at];
                let whole = !number.contains(['.', 'e', 'E']);
                if whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some((start, number));
                }
            }
            _ => {}
        }
    }
    None
}

/// Whether a value from outside can be kept in every store; the error says why not.
pub(crate) fn check_storable(value: &Value) -> Result<(), String> {
    check_content(value, 1).map_err(|fault| fault.error)
}

/// Refuses nesting beyond [`limits::COMMAND_DEPTH_MAX`] and the NUL character, which Postgres
/// keeps neither in text nor in jsonb.
fn check_content(value: &Value, depth: usize) -> Result<(), Fault> {
    let check_text = |text: &str| {
        if text.contains('\0') {
            Err(Fault::malformed("a string holds the NUL character"))
        } else {
            Ok(())
        }
    };
    if depth > limits::COMMAND_DEPTH_MAX && (value.is_object() || value.is_array()) {
        return Err(Fault::malformed(format!(
            "nested more than {} levels deep",
            limits::COMMAND_DEPTH_MAX
        )));
    }
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) => check_text(text),
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| check_content(item, depth + 1)),
        Value::Object(fields) => fields.iter().try_for_each(|(key, item)| {
            check_text(key)?;
            check_content(item, depth + 1)
        }),
    }
}

/// Ignored like any unknown field, it would do what its sender only wanted to look at.
fn refuse_dry_run(fields: &Map<String, Value>, command_type: &str) -> Result<(), Fault> {
    match fields.get("dry_run").filter(|_| command_type == "migrate") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(()),
        Some(_) => Err(Fault::malformed(
            "dry_run: a command is carried out; what it would do is told by `glyph task migrate \
             --dry-run` and over HTTP, with `\"dry_run\": true`",
        )),
    }
}

fn read_fields(
    mut fields: Map<String, Value>,
    command_type: &str,
    outside: &Outside<'_>,
) -> Result<ReadCommand, Fault> {
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
        // Due work is the worker's own: `keep_known` has refused it with every other stranger.
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

fn unknown_type(name: &str) -> Fault {
    Fault::malformed(format!(
        "type: `{}` is none of {}",
        clip(name),
        Command::TYPES.join(", ")
    ))
}

pub(super) fn typed<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, Fault> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        Fault::malformed(if path == "." {
            inner.to_string()
        } else {
            format!("{path}: {inner}")
        })
    })
}

/// The names that a command type knows, from the schema of its struct.
struct KnownFields {
    fields: BTreeSet<String>,
    annotation: BTreeSet<String>,
}

static KNOWN_FIELDS: LazyLock<BTreeMap<&'static str, KnownFields>> = LazyLock::new(|| {
    Command::TYPES
        .into_iter()
        .filter_map(|name| Some((name, KnownFields::of(command_schema(name)?))))
        .collect()
});

impl KnownFields {
    fn of(schema: schemars::Schema) -> Self {
        let schema = schema.to_value();
        let names = |pointer: &str| {
            let properties = schema.pointer(pointer).and_then(Value::as_object);
            properties
                .into_iter()
                .flat_map(Map::keys)
                .cloned()
                .collect()
        };
        let annotation = names("/$defs/AnnotationInput/properties");
        Self {
            fields: names("/properties"),
            annotation,
        }
    }
}

/// The schema of the struct behind a command type, without `type` and `command_id`.
pub(super) fn command_schema(command_type: &str) -> Option<schemars::Schema> {
    fn schema<T: JsonSchema>(generator: SchemaGenerator) -> schemars::Schema {
        generator.into_root_schema_for::<T>()
    }
    let generator = SchemaSettings::draft2020_12()
        .for_deserialize()
        .into_generator();
    Some(match command_type {
        "start" => schema::<Start>(generator),
        "submission" => schema::<Submission>(generator),
        "advance" => schema::<Advance>(generator),
        "assign" => schema::<Assign>(generator),
        "release" => schema::<Release>(generator),
        "activity" => schema::<Activity>(generator),
        "pause" => schema::<Pause>(generator),
        "resume" | "cancel" | "retry" => schema::<Control>(generator),
        "migrate" => schema::<Migrate>(generator),
        _ => return None,
    })
}

/// Takes out what nobody knows (and counts it), and every null: an absent field and a null one are
/// the same command, also where a type has no null of its own.
fn keep_known(fields: &mut Map<String, Value>, command_type: &str) -> Result<u64, Fault> {
    let known = KNOWN_FIELDS
        .get(command_type)
        .ok_or_else(|| unknown_type(command_type))?;
    let mut unknown = 0;
    let mut keep = |names: &BTreeSet<String>, key: &str, value: &Value| {
        let is_known = names.contains(key);
        unknown += u64::from(!is_known && key != "type" && key != "command_id");
        is_known && !value.is_null()
    };
    fields.retain(|key, value| keep(&known.fields, key, value));
    if let Some(Value::Object(annotation)) = fields.get_mut("annotation") {
        annotation.retain(|key, value| keep(&known.annotation, key, value));
    }
    Ok(unknown)
}

fn check_bounds(command: &Command) -> Result<(), Fault> {
    match command {
        Command::Start(c) => c.labels.as_ref().map_or(Ok(()), check_labels),
        Command::Submission(c) => check_annotation(&c.annotation),
        Command::Assign(c) => check_roles("roles", c.roles.as_deref()),
        Command::Release(c) => check_reason(c.reason.as_deref()),
        Command::Pause(c) => {
            check_reason(c.reason.as_deref())?;
            check_time("until", c.until)
        }
        Command::Resume(c) | Command::Cancel(c) | Command::Retry(c) => {
            check_reason(c.reason.as_deref())
        }
        Command::Advance(_)
        | Command::Activity(_)
        | Command::Migrate(_)
        | Command::Child(_)
        | Command::Due(_) => Ok(()),
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Fault> {
    if labels.len() > limits::LABELS_MAX {
        return Err(Fault::malformed(format!(
            "labels: {} are more than the {} allowed",
            labels.len(),
            limits::LABELS_MAX
        )));
    }
    labels.iter().try_for_each(|(key, value)| {
        check_text("labels", key, limits::LABEL_BYTES_MAX)?;
        check_text(&format!("labels.{key}"), value, limits::LABEL_BYTES_MAX)
    })
}

fn check_annotation(annotation: &AnnotationInput) -> Result<(), Fault> {
    check_roles("annotation.roles", annotation.roles.as_deref())?;
    check_time("annotation.submitted_at", annotation.submitted_at)?;
    match annotation.confidence {
        Some(c) if !(0.0..=1.0).contains(&c) => Err(Fault::malformed(format!(
            "annotation.confidence: {c} is not between 0 and 1"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn check_roles(path: &str, roles: Option<&[String]>) -> Result<(), Fault> {
    let roles = roles.unwrap_or_default();
    if roles.len() > limits::ROLES_MAX {
        return Err(Fault::malformed(format!(
            "{path}: {} are more than the {} allowed",
            roles.len(),
            limits::ROLES_MAX
        )));
    }
    roles
        .iter()
        .try_for_each(|role| check_text(path, role, limits::LABEL_BYTES_MAX))
}

pub(super) fn check_reason(reason: Option<&str>) -> Result<(), Fault> {
    reason.map_or(Ok(()), |text| {
        check_text("reason", text, limits::TEXT_BYTES_MAX)
    })
}

/// The NUL check matters for what comes from outside the body only; it costs next to nothing.
fn check_text(path: &str, text: &str, bytes_max: usize) -> Result<(), Fault> {
    if text.len() > bytes_max {
        return Err(Fault::malformed(format!(
            "{path}: {} bytes are more than the {bytes_max} allowed",
            text.len()
        )));
    }
    if text.contains('\0') {
        return Err(Fault::malformed(format!("{path}: holds the NUL character")));
    }
    Ok(())
}

/// RFC 3339 has years of four digits; the parser and the databases each have limits of their own.
pub(super) fn check_time(path: &str, time: Option<DateTime<Utc>>) -> Result<(), Fault> {
    match time {
        Some(time) if !(0..=9_999).contains(&time.year()) => Err(Fault::malformed(format!(
            "{path}: the year must have four digits"
        ))),
        _ => Ok(()),
    }
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

/// The beginning of a text that somebody else chose, for an error message.
fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ID: &str = "0190a6e0-0000-7000-8000-000000000001";

    #[test]
    fn whole_numbers_that_would_be_rounded_are_refused() {
        let read = |text: &str| {
            parse(text.as_bytes())
                .map(drop)
                .map_err(|fault| fault.error)
        };
        for exact in [
            r#"{"a": 18446744073709551615, "b": -9223372036854775808}"#,
            r#"{"a": "18446744073709551616", "b": "\"99999999999999999999"}"#,
            r#"{"a": 1.5e20, "b": 99999999999999999999.0, "c": -0}"#,
        ] {
            assert_eq!(read(exact), Ok(()), "{exact}");
        }
        for rounded in [
            r#"{"a": [18446744073709551616]}"#,
            r#"{"a": "x\\", "b": -9223372036854775809}"#,
        ] {
            let error = read(rounded).unwrap_err();
            assert!(error.contains("more than 64 bits"), "{error}");
        }
    }
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
