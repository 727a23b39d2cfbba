//! Outgoing messages: CloudEvents 1.0 in structured JSON, one for each event that consumers may
//! need.
//!
//! A message is a function of its event and of what the event's task said before, so whoever
//! publishes it sends the same bytes under the same id. A message without an event is built once,
//! and its body is kept.
//!
//! This module selects which kinds are published; `from_events.rs`, `from_goals.rs` and `labels.rs`
//! build the messages.

use std::collections::BTreeSet;

use glyph_workflow_engine::store::NewMessage;
use serde::Serialize;

use super::{envelope::Message, links::Links, message_types::MessageType};

/// Builds the messages of events and rejections, if their kind is to be published.
#[derive(Clone, Debug)]
pub struct CloudEventMessages {
    published: BTreeSet<MessageType>,
    links: Links,
}

impl Default for CloudEventMessages {
    fn default() -> Self {
        Self {
            published: MessageType::ALL.iter().copied().collect(),
            links: Links::default(),
        }
    }
}

impl CloudEventMessages {
    /// Builds only messages of the kinds whose names `published` accepts.
    pub fn only(published: impl Fn(&str) -> bool) -> Self {
        let kinds = MessageType::ALL.iter().copied();
        Self {
            published: kinds.filter(|kind| published(kind.as_str())).collect(),
            links: Links::default(),
        }
    }

    /// Makes the links in messages by `links`.
    #[must_use]
    pub fn with_links(self, links: Links) -> Self {
        Self { links, ..self }
    }

    /// Messages of every kind, with the same links.
    #[must_use]
    pub fn of_every_kind(&self) -> Self {
        Self::default().with_links(self.links.clone())
    }

    /// The outbox row of a message, if its kind is to be published.
    pub(super) fn row<D: Serialize>(&self, message: &Message<'_>, data: &D) -> Option<NewMessage> {
        // A job is always published, even if fewer kinds of message are: it is work, not only news.
        let is_work = message.kind == MessageType::JobRequested;
        (is_work || self.published.contains(&message.kind)).then(|| NewMessage {
            message_id: message.id,
            task_id: message.task,
            version: message.version,
            routing_key: message.routing_key(),
            message_type: message.kind.as_str(),
            body: message.body(data, &self.links).into(),
        })
    }
}
