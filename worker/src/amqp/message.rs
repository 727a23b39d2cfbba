//! Messages to and from AMQP properties.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

pub(super) use crate::broker::headers::{ROUTING_KEY as ROUTING_KEY_HEADER, as_count, header};
use crate::{
    broker::{
        Publication,
        headers::{EXPIRATION, LEFT_OUT, REPLY_TO, USER_ID, is_brokers_own},
    },
    wire::reasons::HEADER_PREFIX,
};

/// The most bytes that the text headers of one message may take. They travel in one frame, which
/// the broker limits to 128 KiB; a longer one would cost the connection.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// The most bytes that the headers of a copy may take: what its producer could send, but for what
/// the worker adds.
const COPY_BYTES_MAX: usize = 120 * 1024;

/// Names of headers that were left out, in bytes.
const LEFT_OUT_BYTES_MAX: usize = 1024;

/// The reply-to that RabbitMQ accepts only from its own consumer. A copy of it in a retry would
/// close the channel.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Text that fits an AMQP short string (255 bytes); otherwise none.
pub(super) fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

/// The AMQP properties of a message. An id that is too long for AMQP is left out; the body still
/// has it.
pub(super) fn to_amqp(
    publication: &Publication,
    headers: &BTreeMap<String, String>,
) -> BasicProperties {
    if let Some(original) = &publication.original {
        return copied(original, headers);
    }
    let mut properties = BasicProperties::default()
        .with_content_type(publication.content_type.into())
        .with_app_id("glyph".into())
        .with_delivery_mode(if publication.persistent { 2 } else { 1 })
        .with_timestamp(u64::try_from(publication.timestamp.timestamp()).unwrap_or_default());
    if let Some(id) = short(&publication.message_id) {
        properties = properties.with_message_id(id);
    }
    if let Some(kind) = short(&publication.message_type) {
        properties = properties.with_type(kind);
    }
    if let Some(id) = publication.correlation_id.as_deref().and_then(short) {
        properties = properties.with_correlation_id(id);
    }
    let reply_to = publication
        .reply_to
        .as_deref()
        .filter(|name| *name != DIRECT_REPLY_TO);
    if let Some(name) = reply_to.and_then(short) {
        properties = properties.with_reply_to(name);
    }
    let table = header_table(headers);
    if !table.inner().is_empty() {
        properties = properties.with_headers(table);
    }
    properties
}

/// The worker's own headers first, because retries depend on them; headers beyond the bound are cut
/// off.
fn header_table(headers: &BTreeMap<String, String>) -> FieldTable {
    let mut ordered: Vec<_> = headers.iter().collect();
    ordered.sort_by_key(|(name, _)| !name.starts_with(HEADER_PREFIX));
    let mut table = FieldTable::default();
    let mut room = HEADER_BYTES_MAX;
    for (name, value) in ordered {
        let Some(key) = short(name) else { continue };
        let Some(left) = room.checked_sub(name.len() + 16) else {
            break;
        };
        let end = (0..=left.min(value.len()))
            .rev()
            .find(|end| value.is_char_boundary(*end));
        let value = &value[..end.unwrap_or_default()];
        room = left - value.len();
        table.insert(key, AMQPValue::LongString(value.into()));
    }
    table
}

/// A copy of a command: everything that its producer set, with the worker's headers, and without
/// those of the broker. A copy survives a restart, does not expire, and has no user, since the
/// broker accepts only the worker's own; headers keep what that changes.
pub(super) fn copied(
    original: &BasicProperties,
    own: &BTreeMap<String, String>,
) -> BasicProperties {
    let mut own = own.clone();
    let kept = [
        (USER_ID, original.user_id().as_ref()),
        (EXPIRATION, original.expiration().as_ref()),
        (
            REPLY_TO,
            original.reply_to().as_ref().filter(|to| is_direct(to)),
        ),
    ];
    for (name, value) in kept {
        if let Some(value) = value {
            own.insert(name.to_owned(), value.to_string());
        }
    }
    let mut copy = BasicProperties::default().with_delivery_mode(2);
    let headers = copied_headers(original.headers().as_ref(), &own);
    if !headers.inner().is_empty() {
        copy = copy.with_headers(headers);
    }
    macro_rules! keep {
        ($($read:ident => $write:ident),*) => {
            $(if let Some(value) = original.$read() {
                copy = copy.$write(value.clone());
            })*
        };
    }
    keep!(
        content_type => with_content_type,
        content_encoding => with_content_encoding,
        priority => with_priority,
        correlation_id => with_correlation_id,
        message_id => with_message_id,
        timestamp => with_timestamp,
        kind => with_type,
        app_id => with_app_id,
        cluster_id => with_cluster_id
    );
    if let Some(to) = original.reply_to().as_ref().filter(|to| !is_direct(to)) {
        copy = copy.with_reply_to(to.clone());
    }
    copy
}

fn is_direct(reply_to: &ShortString) -> bool {
    reply_to.as_str().starts_with(DIRECT_REPLY_TO)
}

/// The worker's headers, and the producer's with their types. Those of the producer for which there
/// is no room are named, not cut: half a value would be another one.
fn copied_headers(original: Option<&FieldTable>, own: &BTreeMap<String, String>) -> FieldTable {
    let mut table = header_table(own);
    let mut room = COPY_BYTES_MAX.saturating_sub(size_of_table(&table));
    let mut left_out = String::new();
    for (name, value) in original.into_iter().flatten() {
        if is_brokers_own(name.as_str()) || table.inner().contains_key(name.as_str()) {
            continue;
        }
        let bytes = 1 + name.as_str().len() + size_of(value);
        if bytes <= room {
            room -= bytes;
            table.insert(name.clone(), value.clone());
        } else if left_out.len() + name.as_str().len() < LEFT_OUT_BYTES_MAX {
            if !left_out.is_empty() {
                left_out.push(' ');
            }
            left_out.push_str(name.as_str());
        }
    }
    if !left_out.is_empty() {
        table.insert(LEFT_OUT.into(), AMQPValue::LongString(left_out.into()));
    }
    table
}

fn size_of_table(table: &FieldTable) -> usize {
    let sizes = table
        .into_iter()
        .map(|(name, value)| 1 + name.as_str().len() + size_of(value));
    4 + sizes.sum::<usize>()
}

/// Bytes of a value on the wire, with its type.
fn size_of(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(size_of).sum::<usize>(),
        AMQPValue::FieldTable(table) => size_of_table(table),
        AMQPValue::Void => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lapin::types::{ByteArray, DecimalValue, FieldArray};

    use super::*;
    use crate::broker::Properties;

    fn every_type() -> FieldTable {
        let values = [
            AMQPValue::Boolean(true),
            AMQPValue::ShortShortInt(-1),
            AMQPValue::ShortShortUInt(1),
            AMQPValue::ShortInt(-300),
            AMQPValue::ShortUInt(300),
            AMQPValue::LongInt(-70_000),
            AMQPValue::LongUInt(70_000),
            AMQPValue::LongLongInt(1_764_300_000_000),
            AMQPValue::Float(0.1),
            AMQPValue::Double(0.1),
            AMQPValue::DecimalValue(DecimalValue {
                scale: 2,
                value: 314,
            }),
            AMQPValue::LongString(vec![0, 255].into()),
            AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Void])),
            AMQPValue::Timestamp(1),
            AMQPValue::FieldTable(FieldTable::default()),
            AMQPValue::ByteArray(ByteArray::from(vec![1, 2])),
            AMQPValue::Void,
        ];
        let mut table = FieldTable::default();
        for (n, value) in values.into_iter().enumerate() {
            table.insert(format!("h{n}").into(), value);
        }
        table
    }

    #[test]
    fn a_copy_keeps_every_property_and_every_type_of_header() {
        let original = BasicProperties::default()
            .with_content_type("text/plain".into())
            .with_content_encoding("gzip".into())
            .with_headers(every_type())
            .with_delivery_mode(1)
            .with_priority(3)
            .with_correlation_id("c".into())
            .with_reply_to("answers".into())
            .with_expiration("60000".into())
            .with_timestamp(7)
            .with_user_id("feeder".into())
            .with_app_id("labeller".into())
            .with_cluster_id("k".into());
        let own = BTreeMap::from([("x-glyph-reason".to_owned(), "malformed".to_owned())]);
        let copy = copied(&original, &own);
        assert_eq!(copy.content_type(), original.content_type());
        assert_eq!(copy.content_encoding(), original.content_encoding());
        assert_eq!(copy.priority(), original.priority());
        assert_eq!(copy.correlation_id(), original.correlation_id());
        assert_eq!(copy.reply_to(), original.reply_to());
        assert_eq!(copy.timestamp(), original.timestamp());
        assert_eq!(copy.app_id(), original.app_id());
        assert_eq!(copy.cluster_id(), original.cluster_id());
        // Nothing is invented.
        assert!(copy.message_id().is_none() && copy.kind().is_none());
        // What a copy cannot have is in headers.
        assert!(copy.user_id().is_none() && copy.expiration().is_none());
        assert_eq!(*copy.delivery_mode(), Some(2));
        let headers = copy.headers().as_ref().unwrap().inner();
        for (name, value) in &every_type() {
            assert_eq!(headers.get(name.as_str()), Some(value), "{name}");
        }
        let text = |name| header(&copy, name).and_then(crate::broker::headers::as_text);
        assert_eq!(text(USER_ID).as_deref(), Some("feeder"));
        assert_eq!(text(EXPIRATION).as_deref(), Some("60000"));
        assert_eq!(text("x-glyph-reason").as_deref(), Some("malformed"));
        // A copy of the copy keeps them too.
        let again = copied(&copy, &BTreeMap::new());
        assert_eq!(again, copy);
        // As a job stores it.
        let stored = serde_json::to_string(&original).unwrap();
        assert_eq!(
            serde_json::from_str::<BasicProperties>(&stored).unwrap(),
            original
        );
    }

    #[test]
    fn what_has_no_room_in_a_copy_is_named() {
        let mut headers = FieldTable::default();
        headers.insert(
            "big".into(),
            AMQPValue::LongString("x".repeat(119 * 1024).into()),
        );
        headers.insert(
            "second".into(),
            AMQPValue::LongString("y".repeat(4096).into()),
        );
        headers.insert("small".into(), AMQPValue::Boolean(true));
        let original = BasicProperties::default().with_headers(headers);
        let copy = copied(&original, &BTreeMap::new());
        let headers = copy.headers().as_ref().unwrap().inner();
        assert!(headers.contains_key("big") && headers.contains_key("small"));
        let left_out = header(&copy, LEFT_OUT).and_then(crate::broker::headers::as_text);
        assert_eq!(left_out.as_deref(), Some("second"));
    }

    #[test]
    fn the_user_whom_the_broker_verified_is_read() {
        let properties = BasicProperties::default().with_user_id("feeder".into());
        let read = Properties::of_amqp(Arc::new(properties), "submission");
        assert_eq!(read.user_id.as_deref(), Some("feeder"));
    }

    #[test]
    fn headers_stay_within_a_frame_and_ours_come_first() {
        let headers = BTreeMap::from([
            ("a".to_owned(), "ä".repeat(HEADER_BYTES_MAX)),
            ("x-glyph-attempts".to_owned(), "3".to_owned()),
            ("n".repeat(300), "too long a name".to_owned()),
        ]);
        let table = header_table(&headers);
        assert_eq!(
            table.inner().get("x-glyph-attempts").and_then(as_count),
            Some(3)
        );
        let bytes: usize = table
            .into_iter()
            .map(|(name, value)| {
                name.as_str().len()
                    + crate::broker::headers::as_text(value).map_or(0, |text| text.len())
            })
            .sum();
        assert!(bytes <= HEADER_BYTES_MAX && bytes > HEADER_BYTES_MAX / 2);
    }
}
