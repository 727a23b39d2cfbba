//! Messages for the world outside: CloudEvents 1.0 in structured JSON, one for each event that
//! others may care about.
//!
//! The body is made once, in the transaction that commits the event, and never changed: whoever
//! publishes it later, and how often, sends the same bytes under the same id.
//!
//! Here is which kinds are published; `from_events.rs` and `from_goals.rs` make the messages.

use std::collections::BTreeSet;

use glyph_workflow_engine::store::NewOutboxRow;
use serde::Serialize;

use super::{envelope::Message, message_types::MessageType};

/// Makes the messages of events and rejections, of those kinds that are to be published.
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
    /// Makes messages of those kinds only whose names `published` accepts.
    pub fn only(published: impl Fn(&str) -> bool) -> Self {
        let kinds = MessageType::ALL.iter().copied();
        Self {
            published: kinds.filter(|kind| published(kind.as_str())).collect(),
        }
    }

    /// The row of a message, if its kind is to be published.
    pub(super) fn row<D: Serialize>(
        &self,
        message: &Message<'_>,
        data: &D,
    ) -> Option<NewOutboxRow> {
        // A job is no news but work: whoever reads less news still wants it done.
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
