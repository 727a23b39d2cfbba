//! A message of the outbox, for the broker.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::store::OutboxMessage;
use serde::Deserialize;

use crate::{
    broker::{Destination, HEADER_TRACEPARENT, Publication},
    wire::{MessageType, envelope::CONTENT_TYPE},
};

/// The attributes that are repeated as AMQP properties. They are read from the body rather than
/// stored in columns: the table stays narrow, and the two cannot disagree.
#[derive(Default, Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow, default)]
    event_type: Cow<'a, str>,
    #[serde(borrow, default)]
    correlationid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(default)]
    time: Option<DateTime<Utc>>,
}

/// The message, as the broker takes it.
pub(crate) fn publication_of(message: &OutboxMessage) -> Publication {
    Publication {
        mandatory: MessageType::from_name(&message.message_type)
            .is_some_and(MessageType::is_mandatory),
        ..publication(
            message.message_id.to_string(),
            message.routing_key.clone(),
            Arc::clone(&message.body),
        )
    }
}

/// A message about what happened, by its body. Nothing must take it.
pub(crate) fn publication(message_id: String, routing_key: String, body: Arc<str>) -> Publication {
    // No build of this program writes a body that cannot be read; such a message is published all the
    // same.
    let head: Head<'_> = serde_json::from_str(&body).unwrap_or_default();
    let traceparent = head
        .traceparent
        .map(|text| (HEADER_TRACEPARENT.to_owned(), text.into_owned()));
    Publication {
        destination: Destination::Events,
        routing_key,
        message_id,
        message_type: head.event_type.into_owned(),
        correlation_id: head.correlationid.map(Cow::into_owned),
        reply_to: None,
        headers: traceparent.into_iter().collect::<BTreeMap<_, _>>(),
        original: None,
        content_type: CONTENT_TYPE,
        timestamp: head.time.unwrap_or_else(Utc::now),
        mandatory: false,
        persistent: true,
        body: body.into(),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn message(body: &str) -> OutboxMessage {
        OutboxMessage {
            position: 1,
            message_id: Uuid::from_u128(7),
            task_id: None,
            version: None,
            routing_key: "step.completed.w.s".to_owned(),
            message_type: "step.completed".to_owned(),
            body: body.into(),
            attempts: 0,
        }
    }

    #[test]
    fn properties_repeat_the_attributes_of_the_body() {
        let body = r#"{"type":"dev.glyph.step.completed.v1","correlationid":"a\"b",
            "time":"2026-01-02T03:04:05Z","data":{"type":"other"}}"#;
        let publication = publication_of(&message(body));
        assert_eq!(publication.message_type, "dev.glyph.step.completed.v1");
        assert_eq!(publication.correlation_id.as_deref(), Some("a\"b"));
        assert_eq!(
            publication.timestamp.to_rfc3339(),
            "2026-01-02T03:04:05+00:00"
        );
        assert_eq!(&*publication.body, body.as_bytes());
        assert!(publication.mandatory && publication.persistent);
    }

    #[test]
    fn an_unreadable_body_still_goes_out() {
        assert_eq!(&*publication_of(&message("{")).body, b"{");
    }
}
