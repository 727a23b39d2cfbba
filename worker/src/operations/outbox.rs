//! Messages that the broker has refused.

use std::{collections::HashMap, sync::Arc};

use glyph_workflow_engine::{
    MessageBuilder,
    ids::TaskId,
    limits::PAGE_MAX,
    store::{EventStoreError, FailedOutboxRow, OutboxMessage, SkippedMessage, Store},
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
    /// Its id; null if its event cannot be read.
    pub message_id: Option<Uuid>,
    /// The task.
    pub task_id: Option<TaskId>,
    /// The version of the first event that waits; null for a message without an event.
    pub from_version: Option<u64>,
    /// The version of the last event that waits.
    pub to_version: Option<u64>,
    /// The routing key without the prefix.
    pub routing_key: Option<String>,
    /// Attempts so far.
    pub attempts: i32,
    /// Why the last one failed.
    pub error: String,
}

/// A message that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DroppedMessage {
    /// Its id.
    pub message_id: Uuid,
    /// Its task.
    pub task_id: Option<TaskId>,
    /// The routing key without the prefix.
    pub routing_key: String,
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
            refused: refused.map(HeldMessage::from).collect(),
        })
    }
}

impl From<(FailedOutboxRow, Option<OutboxMessage>)> for HeldMessage {
    fn from((failed, message): (FailedOutboxRow, Option<OutboxMessage>)) -> Self {
        let range = failed.row.content.events();
        Self {
            message_id: message.as_ref().map(|message| message.message_id),
            task_id: failed.row.task_id,
            from_version: range.map(|range| range.from),
            to_version: range.map(|range| range.to),
            routing_key: message.map(|message| message.routing_key),
            attempts: failed.row.attempts,
            error: failed.error,
        }
    }
}

/// The rows whose first message was refused, each with that message; without it where it cannot be
/// built.
async fn refused(
    store: &dyn Store,
    limit: u32,
) -> Result<Vec<(FailedOutboxRow, Option<OutboxMessage>)>, EventStoreError> {
    let failed = store.outbox_failed(limit).await?;
    // Every kind of message, whatever is published now: the operator sees what a row is about.
    let builder: Arc<dyn MessageBuilder> = Arc::new(CloudEventMessages::default());
    let rows = failed.iter().map(|failed| failed.row.clone()).collect();
    let rebuilt = rebuild_messages(store, &builder, rows).await?;
    let mut first: HashMap<i64, OutboxMessage> = HashMap::new();
    for message in rebuilt.messages {
        first.entry(message.position).or_insert(message);
    }
    let with_message = failed.into_iter().map(|failed| {
        let message = first.remove(&failed.row.position);
        (failed, message)
    });
    Ok(with_message.collect())
}

/// Gives up one message that the broker has refused: it is not sent again, and the later ones of its
/// task go out. The task itself stays as it is.
///
/// # Errors
///
/// The message is not among the refused ones (the oldest [`PAGE_MAX`] are looked at), it is being
/// sent at this moment, or the store fails.
pub async fn drop_refused(
    store: &dyn Store,
    message_id: Uuid,
) -> Result<DroppedMessage, DropFailure> {
    let refused = refused(store, PAGE_MAX).await?.into_iter();
    let mut named = refused.filter_map(|(failed, message)| Some((failed, message?)));
    let found = named.find(|(_, message)| message.message_id == message_id);
    let (failed, message) = found.ok_or(DropFailure::NotRefused(message_id))?;
    let range = failed.row.content.events();
    let skipped = SkippedMessage {
        position: failed.row.position,
        versions: range.map(|range| range.from).zip(message.version),
    };
    if !store.skip(skipped).await? {
        return Err(DropFailure::BeingSent(message_id));
    }
    let behind = match message.task_id {
        Some(task) => format!("the later messages of task {task} go out"),
        None => "nothing waits for it".to_owned(),
    };
    Ok(DroppedMessage {
        message_id,
        task_id: message.task_id,
        consequence: format!(
            "no consumer gets it from now on, and {behind}; what it tells of stays in the log, and \
             `glyph events replay` can send it later"
        ),
        routing_key: message.routing_key,
    })
}
