//! Messages that the broker has refused.

use std::{collections::HashMap, sync::Arc};

use glyph_workflow_engine::{
    MessageBuilder,
    ids::TaskId,
    limits::PAGE_MAX,
    store::{
        EventRange, EventStoreError, FailedOutboxRow, OutboxContent, OutboxMessage, SkippedMessage,
        Store,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{outbox::rebuild_messages, wire::CloudEventMessages};

/// The messages that wait for the broker, and those of them that it has refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutboxList {
    /// Rows that wait: what one commit said about a task.
    pub pending: i64,
    /// The refused messages, oldest first. Each is tried again, and holds back the later ones of its
    /// task.
    pub refused: Vec<HeldMessage>,
}

/// A message that the broker has refused. The messages behind it in its row wait with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeldMessage {
    /// Its id; that of its first event, if what waits cannot be read.
    pub message_id: Uuid,
    /// The task.
    pub task_id: Option<TaskId>,
    /// The version of the first event that waits; null for a message without an event.
    pub from_version: Option<u64>,
    /// The version of the last event that waits.
    pub to_version: Option<u64>,
    /// The routing key without the prefix; null if its events cannot be read.
    pub routing_key: Option<String>,
    /// Attempts so far.
    pub attempts: i32,
    /// Why the last one failed.
    pub error: String,
}

/// A message that was given up; all of what waits, where it cannot be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DroppedMessage {
    /// Its id.
    pub message_id: Uuid,
    /// Its task.
    pub task_id: Option<TaskId>,
    /// The routing key without the prefix; null where the events could not be read.
    pub routing_key: Option<String>,
    /// What that leads to, in a sentence.
    pub consequence: String,
}

/// Why a message was not given up.
#[derive(Debug, thiserror::Error)]
pub enum DropFailure {
    /// There is no such message, or the broker has not refused it.
    #[error("the broker has refused no message {0}")]
    NotRefused(Uuid),
    /// It is being tried at this moment.
    #[error(
        "message {0} is being sent at this moment; look whether it is still refused, and try again"
    )]
    BeingSent(Uuid),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] EventStoreError),
}

impl OutboxList {
    /// At most `limit` refused messages.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn read(store: &dyn Store, limit: u32) -> Result<Self, EventStoreError> {
        let pending = store.outbox_stats().await?.pending;
        let refused = refused(store, limit).await?.into_iter();
        Ok(Self {
            pending,
            refused: refused.map(Refused::held).collect(),
        })
    }
}

/// A row whose first message was refused.
struct Refused {
    failed: FailedOutboxRow,
    message_id: Uuid,
    /// None where it cannot be built.
    message: Option<OutboxMessage>,
}

impl Refused {
    fn held(self) -> HeldMessage {
        let range = self.failed.row.content.events();
        HeldMessage {
            message_id: self.message_id,
            task_id: self.failed.row.task_id,
            from_version: range.map(|range| range.from),
            to_version: range.map(|range| range.to),
            routing_key: self.message.map(|message| message.routing_key),
            attempts: self.failed.row.attempts,
            error: self.failed.error,
        }
    }
}

async fn refused(store: &dyn Store, limit: u32) -> Result<Vec<Refused>, EventStoreError> {
    let failed = store.outbox_failed(limit).await?;
    let log = store.log_id().await?;
    // Every kind of message, whatever is published now: the operator sees what a row is about.
    let builder: Arc<dyn MessageBuilder> = Arc::new(CloudEventMessages::default());
    let rows = failed.iter().map(|failed| failed.row.clone()).collect();
    let rebuilt = rebuild_messages(store, &builder, rows).await?;
    let mut first: HashMap<i64, OutboxMessage> = HashMap::new();
    for message in rebuilt.messages {
        first.entry(message.position).or_insert(message);
    }
    let mut refused = Vec::with_capacity(failed.len());
    for failed in failed {
        let mut message = first.remove(&failed.row.position);
        if message.is_none() {
            // It may only stand behind one of its task that cannot be built.
            let alone = rebuild_messages(store, &builder, vec![failed.row.clone()]).await?;
            message = alone.messages.into_iter().next();
        }
        let message_id = match (&message, &failed.row.content) {
            (Some(message), _) => message.message_id,
            (None, OutboxContent::Message(message)) => message.message_id,
            (None, OutboxContent::Events(range)) => log.event_id(range.task_id, range.from),
        };
        refused.push(Refused {
            failed,
            message_id,
            message,
        });
    }
    Ok(refused)
}

/// Gives up one message that the broker has refused, or all messages of a row that cannot be read:
/// they are not sent again, and the later ones of the task go out. The task itself stays as it is.
///
/// # Errors
///
/// The message is not among the refused ones (the oldest [`PAGE_MAX`] are looked at), it is being
/// sent at this moment, or the store fails.
pub async fn drop_refused(
    store: &dyn Store,
    message_id: Uuid,
) -> Result<DroppedMessage, DropFailure> {
    let mut refused = refused(store, PAGE_MAX).await?.into_iter();
    let named = refused.find(|one| one.message_id == message_id);
    let Refused {
        failed, message, ..
    } = named.ok_or(DropFailure::NotRefused(message_id))?;
    let range = failed.row.content.events();
    // Where they cannot be read nobody knows which of them has a message: all are given up.
    let through = match &message {
        Some(message) => message.version,
        None => range.map(|range| range.to),
    };
    let skipped = SkippedMessage {
        position: failed.row.position,
        versions: range.map(|range| range.from).zip(through),
    };
    if !store.skip(skipped).await? {
        return Err(DropFailure::BeingSent(message_id));
    }
    let what = match (&message, range) {
        (None, Some(EventRange { from, to, .. })) => {
            format!("no consumer gets the messages of versions {from} to {to} from now on")
        }
        _ => "no consumer gets it from now on".to_owned(),
    };
    let behind = match failed.row.task_id {
        Some(task) => format!("the later messages of task {task} go out"),
        None => "nothing waits for it".to_owned(),
    };
    Ok(DroppedMessage {
        message_id,
        task_id: failed.row.task_id,
        consequence: format!(
            "{what}, and {behind}; what happened stays in the log, and `glyph events replay` can \
             send it later"
        ),
        routing_key: message.map(|message| message.routing_key),
    })
}
