//! A message in the dead queue.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, SecondsFormat};
use glyph_workflow_engine::store::{SplitReason, hex};
use lapin::types::{AMQPValue, FieldTable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    broker::{
        MessageProperties, Properties,
        headers::{
            as_count, as_text, died_at_the_limit, header, is_brokers_own, is_count_of_reads,
        },
    },
    wire::{
        Unreadable, read_delivery,
        reasons::{
            HEADER_ATTEMPTS, HEADER_EDITED_BY, HEADER_ERROR, HEADER_FIRST_FAILED_AT, HEADER_PREFIX,
            HEADER_REASON, HEADER_REPLAY, REASON_DELIVERY_LIMIT, REASON_UNROUTABLE,
        },
    },
};

/// A message in the dead queue, as it stands there.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The routing key it came by.
    pub routing_key: String,
    /// Everything that is said about it.
    pub properties: Arc<MessageProperties>,
    /// The command as it was received.
    pub body: Vec<u8>,
}

/// What belongs to a letter beside its body, as a job stores it.
#[derive(Deserialize, Serialize)]
struct Stored {
    routing_key: String,
    properties: MessageProperties,
}

/// A letter that a replay has put back: the job and the number of its item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkedLetter {
    /// The job.
    pub job: String,
    /// The item.
    pub ordinal: i64,
}

/// The mark of a letter that a job puts back.
pub fn mark_of(job: impl std::fmt::Display, ordinal: i64) -> String {
    format!("{job}/{ordinal}")
}

impl Letter {
    /// What is stored beside its body; none if it could not be read back as it is (a header that is
    /// not a number).
    pub fn stored(&self) -> Option<String> {
        let stored = Stored {
            routing_key: self.routing_key.clone(),
            properties: (*self.properties).clone(),
        };
        let text = serde_json::to_string(&stored).ok()?;
        let again: Stored = serde_json::from_str(&text).ok()?;
        (again.properties == *self.properties).then_some(text)
    }

    /// A letter that was stored.
    pub fn from_stored(stored: &str, body: Vec<u8>) -> Result<Self, serde_json::Error> {
        let stored: Stored = serde_json::from_str(stored)?;
        Ok(Self {
            routing_key: stored.routing_key,
            properties: Arc::new(stored.properties),
            body,
        })
    }

    /// A letter with these headers set beside the ones it has; they replace those of the same name.
    #[must_use]
    pub fn with_headers<'h>(self, set: impl IntoIterator<Item = (&'h str, String)>) -> Self {
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        for (name, value) in set {
            headers.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        Self {
            properties: Arc::new((*self.properties).clone().with_headers(headers)),
            ..self
        }
    }

    /// The letter with another body, which `actor` has given it.
    ///
    /// # Errors
    ///
    /// The body cannot be read as a command: a letter that is put back can.
    pub fn edited(self, body: Vec<u8>, actor: &str) -> Result<Self, Unreadable> {
        read_delivery(&body, &self.command_properties())?;
        Ok(Self { body, ..self }.with_headers([(HEADER_EDITED_BY, actor.to_owned())]))
    }

    /// What matters to whoever reads it as a command.
    pub fn command_properties(&self) -> Properties {
        Properties::of_amqp(Arc::clone(&self.properties), &self.routing_key)
    }

    /// Identifies its content, however often it is read.
    pub fn hash(&self) -> String {
        let mut headers = FieldTable::default();
        for (name, value) in self.properties.headers().iter().flatten() {
            if !is_brokers_own(name.as_str()) {
                headers.insert(name.clone(), value.clone());
            }
        }
        let properties = (*self.properties).clone().with_headers(headers);
        let mut hasher = Sha256::new();
        for part in [
            self.routing_key.as_bytes(),
            &serde_json::to_vec(&properties).unwrap_or_default(),
            &self.body,
        ] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hex(&hasher.finalize())
    }

    /// Why it is dead. The worker sets no reason on what the broker moved itself.
    pub fn reason(&self) -> String {
        self.header(HEADER_REASON).unwrap_or_else(|| {
            let died = died_at_the_limit(&self.properties);
            let reason = if died {
                REASON_DELIVERY_LIMIT
            } else {
                REASON_UNROUTABLE
            };
            reason.to_owned()
        })
    }

    /// The command's id: the one in the body, or else the one in the properties.
    pub fn command_id(&self) -> Option<String> {
        let inner = self.field("command_id");
        inner.or_else(|| {
            self.properties
                .message_id()
                .as_ref()
                .map(ToString::to_string)
        })
    }

    /// The task, if the body names one.
    pub fn task(&self) -> Option<String> {
        self.field("task_id")
    }

    /// The job that has put it back.
    pub fn mark(&self) -> Option<MarkedLetter> {
        let mark = self.header(HEADER_REPLAY)?;
        let (job, ordinal) = mark.split_once('/')?;
        Some(MarkedLetter {
            job: job.to_owned(),
            ordinal: ordinal.parse().ok()?,
        })
    }

    /// Attempts made.
    pub fn attempts(&self) -> u32 {
        header(&self.properties, HEADER_ATTEMPTS)
            .or_else(|| header(&self.properties, "x-delivery-count"))
            .and_then(as_count)
            .unwrap_or_default()
    }

    /// It as operators see it.
    pub fn shown(&self, handle: &str) -> DeadLetter {
        let mut properties = match serde_json::to_value(&*self.properties) {
            Ok(Value::Object(properties)) => properties,
            _ => Map::new(),
        };
        properties.retain(|name, value| name != "headers" && !value.is_null());
        if let Some(kind) = properties.remove("kind") {
            properties.insert("type".to_owned(), kind);
        }
        let headers = self.properties.headers().iter().flatten();
        // Those of reading it are no part of it.
        let headers = headers.filter(|(name, _)| !is_count_of_reads(name.as_str()));
        let headers = headers.map(|(name, value)| (name.to_string(), shown(value)));
        let read = self.command_properties();
        DeadLetter {
            letter: handle.to_owned(),
            command_id: self.command_id(),
            task_id: self.task(),
            reason: self.reason(),
            error: self.header(HEADER_ERROR).filter(|text| !text.is_empty()),
            attempts: self.attempts(),
            first_failed_at: self
                .header(HEADER_FIRST_FAILED_AT)
                .or_else(|| self.first_death()),
            routing_key: read.routing_key,
            properties,
            headers: headers.collect(),
            body: String::from_utf8_lossy(&self.body).into_owned(),
            bytes: self.body.len(),
        }
    }

    fn header(&self, name: &str) -> Option<String> {
        header(&self.properties, name).and_then(as_text)
    }

    /// A string field of a JSON object; none if the body is not an object or lacks it.
    fn field(&self, name: &str) -> Option<String> {
        let value: Value = serde_json::from_slice(&self.body).ok()?;
        value.get(name)?.as_str().map(ToOwned::to_owned)
    }

    /// When the broker first moved it. The list has the latest move first.
    fn first_death(&self) -> Option<String> {
        let AMQPValue::FieldArray(deaths) = header(&self.properties, "x-death")? else {
            return None;
        };
        let AMQPValue::FieldTable(first) = deaths.as_slice().last()? else {
            return None;
        };
        let AMQPValue::Timestamp(seconds) = first.inner().get("time")? else {
            return None;
        };
        let time = DateTime::from_timestamp(i64::try_from(*seconds).ok()?, 0)?;
        Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }
}

/// A header as JSON, for people.
fn shown(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(n) => json!(n),
        AMQPValue::ShortShortUInt(n) => json!(n),
        AMQPValue::ShortInt(n) => json!(n),
        AMQPValue::ShortUInt(n) => json!(n),
        AMQPValue::LongInt(n) => json!(n),
        AMQPValue::LongUInt(n) => json!(n),
        AMQPValue::LongLongInt(n) => json!(n),
        AMQPValue::Timestamp(n) => json!(n),
        AMQPValue::Float(n) => json!(n),
        AMQPValue::Double(n) => json!(n),
        AMQPValue::DecimalValue(n) => json!(format!("{}e-{}", n.value, n.scale)),
        AMQPValue::ShortString(text) => json!(text.as_str()),
        AMQPValue::LongString(text) => json!(text.to_string()),
        AMQPValue::ByteArray(bytes) => json!(bytes.as_slice()),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(shown).collect(),
        AMQPValue::FieldTable(table) => {
            let fields = table.into_iter();
            Value::Object(
                fields
                    .map(|(name, value)| (name.to_string(), shown(value)))
                    .collect(),
            )
        }
        AMQPValue::Void => Value::Null,
    }
}

/// A message in the dead queue, as operators see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// The handle by which it can be named: the same as long as it is there.
    pub letter: String,
    /// The command's id, where it has one that can be read.
    pub command_id: Option<String>,
    /// The task, where that can be read.
    pub task_id: Option<String>,
    /// Why it is dead: `malformed`, `too_large`, `command_id_reused`, `task_not_found`,
    /// `workflow_not_found`, `retries_exhausted` or `delivery_limit`.
    pub reason: String,
    /// What was wrong, for people.
    pub error: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// When it failed first, RFC 3339.
    pub first_failed_at: Option<String>,
    /// The routing key it was first published with.
    pub routing_key: String,
    /// What its producer said about it, by the names of AMQP.
    pub properties: Map<String, Value>,
    /// Its headers, those of the worker included.
    pub headers: Map<String, Value>,
    /// The command as it was received; bytes that are not UTF-8 are replaced.
    pub body: String,
    /// Bytes of the body.
    pub bytes: usize,
}

impl DeadLetter {
    /// Its headers that are not the worker's or the broker's.
    pub fn producers_headers(&self) -> impl Iterator<Item = (&String, &Value)> {
        let own = |name: &str| name.starts_with(HEADER_PREFIX) || is_brokers_own(name);
        self.headers.iter().filter(move |(name, _)| !own(name))
    }
}

/// Whether a reason says that the command is not dead: it was set aside and waits for its next try.
pub fn is_set_aside(reason: &str) -> bool {
    SplitReason::ALL
        .into_iter()
        .any(|aside| aside.as_str() == reason)
}

/// Hands out handles: a hash of the content, and a number for further letters of the same content.
#[derive(Debug, Default)]
pub struct Handles(HashMap<String, u32>);

impl Handles {
    /// Hexadecimal digits of a handle.
    const DIGITS: usize = 12;

    /// The handle of the next letter of the queue.
    pub fn of(&mut self, letter: &Letter) -> String {
        let mut handle = letter.hash();
        handle.truncate(Self::DIGITS);
        let count = self.0.entry(handle.clone()).or_default();
        *count += 1;
        if *count > 1 {
            handle = format!("{handle}-{count}");
        }
        handle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(body: &str) -> Letter {
        Letter {
            routing_key: "submission".to_owned(),
            properties: Arc::default(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn equal_letters_have_handles_of_their_own() {
        let mut handles = Handles::default();
        let [a, b, c] = ["{", "{", "}"].map(|body| handles.of(&letter(body)));
        assert_eq!((a.len(), format!("{a}-2")), (12, b));
        assert_ne!(a, c);
        // What the broker adds when a letter was read is no part of it.
        let counted = MessageProperties::default().with_headers({
            let mut headers = FieldTable::default();
            headers.insert("x-delivery-count".into(), AMQPValue::LongInt(3));
            headers
        });
        let counted = Letter {
            properties: Arc::new(counted),
            ..letter("}")
        };
        assert_eq!(Handles::default().of(&counted), c);
    }

    #[test]
    fn a_letter_without_an_id_is_shown_without_one_and_a_mark_is_read_back() {
        let plain = letter(r#"{"type": "advance", "task_id": "t"}"#);
        let shown = plain.shown("h");
        assert_eq!(
            (shown.command_id, shown.task_id.as_deref()),
            (None, Some("t"))
        );
        assert_eq!(shown.reason, "unroutable");
        assert_eq!(plain.mark(), None);
        let marked = plain.with_headers([(HEADER_REPLAY, mark_of("job", 7))]);
        let mark = marked.mark().unwrap();
        assert_eq!((&*mark.job, mark.ordinal), ("job", 7));
        let stored = marked.stored().unwrap();
        let again = Letter::from_stored(&stored, marked.body.clone()).unwrap();
        assert_eq!(again, marked);
    }
}
