//! Headers of AMQP, and the ones by which copies keep what AMQP itself would lose.

use lapin::{BasicProperties as MessageProperties, types::AMQPValue};

/// A command's first routing key, where it cannot be published with it.
pub const ROUTING_KEY: &str = "x-glyph-routing-key";
/// The user whom the broker verified: a copy is published by the worker. No proof: anybody can set
/// a header.
pub const USER_ID: &str = "x-glyph-user-id";
/// The expiration of a command: a copy does not expire.
pub const EXPIRATION: &str = "x-glyph-expiration";
/// A reply queue that the broker accepts only from its own consumer.
pub const REPLY_TO: &str = "x-glyph-reply-to";
/// Names of the headers for which a copy had no room.
pub const LEFT_OUT: &str = "x-glyph-headers-left-out";

/// Headers that the broker writes when it moves messages.
pub fn is_brokers_own(name: &str) -> bool {
    name == "x-death"
        || is_count_of_reads(name)
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// Headers in which the broker counts how often a message was read.
pub fn is_count_of_reads(name: &str) -> bool {
    name == "x-delivery-count" || name == "x-acquired-count"
}

/// A header of a message.
pub fn header<'a>(properties: &'a MessageProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

/// Whether the broker moved a command to the dead queue after its last delivery. The list of its
/// moves also has the retries that expired.
pub fn died_at_the_limit(properties: &MessageProperties) -> bool {
    let died_of = |death: &AMQPValue, reason: &str| {
        let AMQPValue::FieldTable(death) = death else {
            return false;
        };
        let said = death.inner().get("reason").and_then(as_text);
        said.as_deref() == Some(reason)
    };
    let Some(AMQPValue::FieldArray(deaths)) = header(properties, "x-death") else {
        return false;
    };
    let mut deaths = deaths.as_slice().iter();
    deaths.any(|death| died_of(death, "delivery_limit"))
}

/// A header as text; none for tables, lists and bytes.
pub fn as_text(value: &AMQPValue) -> Option<String> {
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
pub fn as_count(value: &AMQPValue) -> Option<u32> {
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

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::*;

    fn died(reasons: &[&str]) -> MessageProperties {
        let deaths: Vec<_> = reasons
            .iter()
            .map(|reason| {
                let mut death = FieldTable::default();
                death.insert("reason".into(), AMQPValue::LongString((*reason).into()));
                AMQPValue::FieldTable(death)
            })
            .collect();
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::FieldArray(deaths.into()));
        MessageProperties::default().with_headers(headers)
    }

    #[test]
    fn a_retry_that_expired_is_no_failed_delivery() {
        assert!(!died_at_the_limit(&MessageProperties::default()));
        assert!(!died_at_the_limit(&died(&["expired"])));
        let both = died(&["delivery_limit", "expired"]);
        assert!(died_at_the_limit(&both));
    }
}
