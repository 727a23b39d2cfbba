//! Outgoing messages: CloudEvents 1.0 in structured JSON, one for each event that consumers may
//! need.
//!
//! The transaction that commits the event also builds the body, and the body never changes: every
//! later publication sends the same bytes under the same id.
//!
//! This module selects which kinds are published; `from_events.rs`, `from_goals.rs` and `labels.rs`
//! build the messages.

use std::collections::BTreeSet;

use glyph_workflow_engine::store::NewOutboxRow;
use serde::Serialize;

use super::{envelope::Message, message_types::MessageType};

/// Builds the messages of events and rejections, if their kind is to be published.
#[derive(Clone, Debug)]
pub struct CloudEventMessages {
    published: BTreeSet<MessageType>,
}

impl Default for CloudEventMessages {
    fn default() -> Self {
        Self {
            published: MessageType::ALL.iter().copied().collect(),
        }
    }
}

impl CloudEventMessages {
    /// Builds only messages of the kinds whose names `published` accepts.
    pub fn only(published: impl Fn(&str) -> bool) -> Self {
        let kinds = MessageType::ALL.iter().copied();
        Self {
            published: kinds.filter(|kind| published(kind.as_str())).collect(),
        }
    }

    /// The outbox row of a message, if its kind is to be published.
    pub(super) fn row<D: Serialize>(
        &self,
        message: &Message<'_>,
        data: &D,
    ) -> Option<NewOutboxRow> {
        // A job is always published, even if fewer kinds of message are: it is work, not only news.
        let is_work = message.kind == MessageType::JobRequested;
        (is_work || self.published.contains(&message.kind)).then(|| NewOutboxRow {
            message_id: message.id,
            task_id: message.task,
            routing_key: message.routing_key(),
            message_type: message.kind.as_str(),
            body: message.body(data).into(),
        })
    }
}
