//! Messages to and from AMQP properties.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use crate::{
    broker::{Properties, Publication},
    wire::reasons::HEADER_PREFIX,
};

/// The header that keeps a command's first routing key where it cannot be published with it.
pub(super) const ROUTING_KEY_HEADER: &str = "x-glyph-routing-key";

/// The most bytes that the text headers of one message may take. They travel in one frame, which
/// the broker limits to 128 KiB; a longer one would cost the connection.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// The reply-to that RabbitMQ accepts only from its own consumer. A copy of it in a retry would
/// close the channel.
const DIRECT_REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Headers that the broker writes when it moves messages.
fn is_brokers_own(name: &str) -> bool {
    name == "x-death"
        || name == "x-delivery-count"
        || name == "x-acquired-count"
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

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

/// The properties of a delivery that matter to the worker.
pub(super) fn from_amqp(properties: &BasicProperties, routing_key: &str) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let mut headers: BTreeMap<_, _> = properties
        .headers()
        .iter()
        .flatten()
        .filter(|(name, _)| !is_brokers_own(name.as_str()))
        .filter_map(|(name, value)| Some((name.to_string(), as_text(value)?)))
        .collect();
    let first_key = headers.remove(ROUTING_KEY_HEADER);
    Properties {
        message_id: text(properties.message_id()),
        message_type: text(properties.kind()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()),
        user_id: text(properties.user_id()),
        routing_key: first_key.unwrap_or_else(|| routing_key.to_owned()),
        headers,
    }
}

/// The same properties with the first routing key kept, for a message that goes straight to a queue.
pub(super) fn with_first_key(properties: &BasicProperties, first_key: &str) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    if !headers.contains_key(ROUTING_KEY_HEADER) {
        let key = AMQPValue::LongString(first_key.into());
        headers.insert(ROUTING_KEY_HEADER.into(), key);
    }
    properties.clone().with_headers(headers)
}

/// A header of a delivery.
pub(super) fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

/// A header as text; none for tables, lists and bytes.
pub(super) fn as_text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes())
            .ok()
            .map(ToOwned::to_owned),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        other => as_count(other).map(|count| count.to_string()),
    }
}

/// A header as a count. Brokers choose the width of the integer by its value.
pub(super) fn as_count(value: &AMQPValue) -> Option<u32> {
    match value {
        AMQPValue::ShortShortInt(n) => u32::try_from(*n).ok(),
        AMQPValue::ShortShortUInt(n) => Some(u32::from(*n)),
        AMQPValue::ShortInt(n) => u32::try_from(*n).ok(),
        AMQPValue::ShortUInt(n) => Some(u32::from(*n)),
        AMQPValue::LongInt(n) => u32::try_from(*n).ok(),
        AMQPValue::LongUInt(n) => Some(*n),
        AMQPValue::LongLongInt(n) => u32::try_from(*n).ok(),
        AMQPValue::Timestamp(n) => u32::try_from(*n).ok(),
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes())
            .ok()
            .and_then(|text| text.parse().ok()),
        _ => None,
    }
}

/// A dead letter as it is published again: everything that its producer set, without what the
/// broker and the worker added when it died.
pub(super) fn revived(properties: &BasicProperties) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flatten() {
        if !is_brokers_own(name.as_str()) && !name.as_str().starts_with(HEADER_PREFIX) {
            headers.insert(name.clone(), value.clone());
        }
    }
    let mut revived = BasicProperties::default()
        .with_delivery_mode(2)
        .with_app_id("glyph".into())
        .with_headers(headers);
    if let Some(value) = properties.content_type() {
        revived = revived.with_content_type(value.clone());
    }
    if let Some(value) = properties.content_encoding() {
        revived = revived.with_content_encoding(value.clone());
    }
    if let Some(value) = properties.message_id() {
        revived = revived.with_message_id(value.clone());
    }
    if let Some(value) = properties.kind() {
        revived = revived.with_type(value.clone());
    }
    if let Some(value) = properties.correlation_id() {
        revived = revived.with_correlation_id(value.clone());
    }
    if let Some(value) = properties
        .reply_to()
        .as_ref()
        .filter(|to| to.as_str() != DIRECT_REPLY_TO)
    {
        revived = revived.with_reply_to(value.clone());
    }
    if let Some(value) = properties.timestamp() {
        revived = revived.with_timestamp(*value);
    }
    revived
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_whom_the_broker_verified_is_kept_and_no_copy_claims_to_be_it() {
        let properties = BasicProperties::default().with_user_id("feeder".into());
        let read = from_amqp(&properties, "submission");
        assert_eq!(read.user_id.as_deref(), Some("feeder"));
        // The broker would refuse a user that is not the worker's own.
        assert!(revived(&properties).user_id().is_none());
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
            .map(|(name, value)| name.as_str().len() + as_text(value).map_or(0, |text| text.len()))
            .sum();
        assert!(bytes <= HEADER_BYTES_MAX && bytes > HEADER_BYTES_MAX / 2);
    }
}
