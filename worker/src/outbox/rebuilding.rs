//! Builds the messages of rows anew, for whoever did not commit them.

use std::{collections::HashSet, sync::Arc};

use glyph_workflow_engine::{
    MessageBuilder, RebuildMessagesError,
    ids::TaskId,
    messages_of,
    store::{
        EventRange, EventStoreError, NewMessage, Outbox, OutboxContent, OutboxMessage, OutboxRow,
        RangeEvents, Verdict,
    },
};

use super::verdict::{Released, failed_wait, whole_row};
use crate::telemetry;

/// The messages of some rows.
#[derive(Debug, Default)]
pub(crate) struct RebuiltMessages {
    /// The messages, in the order of the rows.
    pub(crate) messages: Vec<OutboxMessage>,
    /// Rows without a message of a kind that is published now.
    pub(crate) empty: Vec<i64>,
    /// Rows that cannot be built, which back off, and rows of the same tasks behind them.
    pub(crate) released: Released,
}

/// Why a row cannot be built.
#[derive(Debug, thiserror::Error)]
enum Unbuildable {
    #[error("its events cannot be read")]
    Unreadable(#[source] EventStoreError),
    #[error(transparent)]
    Incomplete(#[from] RebuildMessagesError),
}

/// Reads the events of rows and builds their messages.
///
/// # Errors
///
/// The store cannot be used; the rows are still leased.
pub(crate) async fn rebuild_messages(
    outbox: &dyn Outbox,
    builder: &Arc<dyn MessageBuilder>,
    rows: Vec<OutboxRow>,
) -> Result<RebuiltMessages, EventStoreError> {
    let ranges: Vec<EventRange> = rows.iter().filter_map(|row| row.content.events()).collect();
    let mut read = read(outbox, &ranges).await?.into_iter();
    let mut rebuilt = RebuiltMessages::default();
    let mut held: HashSet<TaskId> = HashSet::new();
    for row in rows {
        let built = match row.content.events() {
            Some(range) => read.next().map(|read| build(&**builder, range, read)),
            None => None,
        };
        let is_behind = row.task_id.is_some_and(|task| held.contains(&task));
        match (built, row.content) {
            _ if is_behind => rebuilt.release(None, row.position),
            (Some(Ok(messages)), _) if messages.is_empty() => rebuilt.empty.push(row.position),
            (Some(Ok(messages)), _) => {
                let mut messages: Vec<_> = messages
                    .into_iter()
                    .map(|message| message.at(row.position))
                    .collect();
                // Attempts are those at the first message.
                if let Some(first) = messages.first_mut() {
                    first.attempts = row.attempts;
                }
                rebuilt.messages.extend(messages);
            }
            (Some(Err(error)), _) => {
                let error = telemetry::chain(&error);
                held.extend(row.task_id);
                rebuilt.release(Some((error, failed_wait(row.attempts))), row.position);
            }
            (None, OutboxContent::Message(message)) => rebuilt.messages.push(OutboxMessage {
                position: row.position,
                message_id: message.message_id,
                task_id: row.task_id,
                version: None,
                routing_key: message.routing_key,
                message_type: message.message_type,
                body: message.body,
                attempts: row.attempts,
            }),
            // Every range has a result. Without one the row stays where it is.
            (None, OutboxContent::Events(_)) => rebuilt.release(None, row.position),
        }
    }
    Ok(rebuilt)
}

impl RebuiltMessages {
    fn release(&mut self, why: Option<(String, std::time::Duration)>, position: i64) {
        self.released
            .entry(why)
            .or_default()
            .push(whole_row(position));
    }
}

fn build(
    builder: &dyn MessageBuilder,
    range: EventRange,
    read: Result<RangeEvents, EventStoreError>,
) -> Result<Vec<NewMessage>, Unbuildable> {
    let read = read.map_err(Unbuildable::Unreadable)?;
    Ok(messages_of(builder, range, &read)?)
}

/// Reads the events of all ranges at once; if one of them makes that fail, each by itself.
async fn read(
    outbox: &dyn Outbox,
    ranges: &[EventRange],
) -> Result<Vec<Result<RangeEvents, EventStoreError>>, EventStoreError> {
    let is_away = |error: &EventStoreError| error.verdict(true) == Verdict::Wait;
    match outbox.events_of(ranges).await {
        Ok(read) => return Ok(read),
        Err(error) if is_away(&error) => return Err(error),
        Err(error) => {
            tracing::warn!(%error, rows = ranges.len(), "events are read row by row");
        }
    }
    let mut read = Vec::with_capacity(ranges.len());
    for range in ranges {
        match outbox.events_of(&[*range]).await {
            Ok(one) => read.extend(one),
            Err(error) if is_away(&error) => return Err(error),
            Err(error) => read.push(Err(error)),
        }
    }
    Ok(read)
}
