//! Properties and headers of AMQP messages.

use std::sync::Arc;

use glyph_worker::{
    broker::{MessageProperties, Properties},
    wire::read_delivery,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};

use super::{Target, check_text, kind_of};

/// One line for each property or header: its name, `=`, for a header its type, and its value.
pub(super) fn target() -> Target {
    let command = b"message_id=0190a1b2-0000-7000-8000-000000000001\ntype=pause\ncorrelation_id=order 7\nreply_to=answers\n";
    let retry = b"message_id=0190a1b2-0000-7000-8000-000000000001\nkey=pause\nuser_id=app\nexpiration=1000\nx-glyph-attempts=i3\nx-glyph-first-failed-at=s2026-01-01T00:00:00Z\nx-glyph-routing-key=spause\ntraceparent=s00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n";
    let types = b"message_id=x\na=i-1\nb=btrue\nc=t1700000000\nd=f1.5\ne=n\nf=ss\ng=aone,two\nh=mone\ni=d12\n";
    Target {
        name: "properties",
        samples: vec![command.to_vec(), retry.to_vec(), types.to_vec()],
        words: &[
            "message_id=",
            "type=",
            "submission",
            "start",
            "correlation_id=",
            "traceparent=s",
            "x-glyph-attempts=",
            "x-death=a",
            "x-delivery-count=i9",
            "=s",
            "=i",
            "=a",
            "=m",
            "\n",
            "\u{0}",
            "\u{7f}",
            "amq.rabbitmq.reply-to",
            "18446744073709551615",
            "-9223372036854775808",
            "00-00000000000000000000000000000000-0000000000000000-00",
        ],
        check,
    }
}

fn value_of(text: &str) -> Option<AMQPValue> {
    let rest = text.get(1..)?;
    Some(match text.as_bytes()[0] {
        b'i' => AMQPValue::LongLongInt(rest.parse().ok()?),
        b'b' => AMQPValue::Boolean(rest.parse().ok()?),
        b't' => AMQPValue::Timestamp(rest.parse().ok()?),
        b'f' => AMQPValue::Double(rest.parse().ok()?),
        b'd' => AMQPValue::ShortShortUInt(rest.parse().ok()?),
        b'n' => AMQPValue::Void,
        b'a' => {
            let mut array = FieldArray::default();
            for text in rest.split(',') {
                array.push(AMQPValue::LongString(text.into()));
            }
            AMQPValue::FieldArray(array)
        }
        b'm' => {
            let mut table = FieldTable::default();
            table.insert(short(rest)?, AMQPValue::Void);
            AMQPValue::FieldTable(table)
        }
        _ => AMQPValue::LongString(rest.into()),
    })
}

fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

/// What a message with such lines has, and its routing key.
fn message_of(input: &str) -> (MessageProperties, String) {
    let mut properties = MessageProperties::default();
    let mut headers = FieldTable::default();
    let mut key = "pause".to_owned();
    for (name, value) in input.split('\n').filter_map(|line| line.split_once('=')) {
        properties = match (name, short(value)) {
            ("message_id", Some(value)) => properties.with_message_id(value),
            ("type", Some(value)) => properties.with_type(value),
            ("correlation_id", Some(value)) => properties.with_correlation_id(value),
            ("reply_to", Some(value)) => properties.with_reply_to(value),
            ("user_id", Some(value)) => properties.with_user_id(value),
            ("expiration", Some(value)) => properties.with_expiration(value),
            ("key", _) => {
                value.clone_into(&mut key);
                properties
            }
            _ => {
                if let (Some(name), Some(value)) = (short(name), value_of(value)) {
                    headers.insert(name, value);
                }
                properties
            }
        };
    }
    (properties.with_headers(headers), key)
}

fn check(input: &[u8]) -> String {
    let (message, key) = message_of(&String::from_utf8_lossy(input));
    let read = Properties::of_amqp(Arc::new(message.clone()), &key);
    assert_eq!(read.to_amqp(), message, "a copy keeps everything");
    // A queue that keeps only what the worker reads gives the same back.
    let kept = Properties {
        original: None,
        ..read.clone()
    };
    let again = Properties::of_amqp(Arc::new(kept.to_amqp()), &kept.routing_key);
    let again = Properties {
        original: None,
        ..again
    };
    let texts = |p: &Properties| {
        let ids = [
            &p.message_id,
            &p.message_type,
            &p.correlation_id,
            &p.reply_to,
        ]
        .map(Clone::clone);
        (ids, p.headers.clone(), p.routing_key.clone())
    };
    assert_eq!(texts(&again), texts(&kept));
    let body = br#"{"task_id":"0190a1b2-0000-7000-8000-000000000002"}"#;
    match read_delivery(body, &read) {
        Err(refused) => {
            check_text(&refused.error);
            kind_of(&refused.error)
        }
        Ok(command) => {
            let envelope = command.envelope;
            let trace = envelope.traceparent.as_deref().unwrap_or_default();
            let is_trace = |c: char| c.is_ascii_hexdigit() || c == '-';
            assert!(trace.len() <= 255 && trace.chars().all(is_trace), "{trace}");
            format!(
                "{} {} {} {}",
                envelope.command.type_name(),
                envelope.correlation_id.is_some(),
                !trace.is_empty(),
                read.headers.len()
            )
        }
    }
}
