//! The log of all events, and the annotator models learned from it.

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{SqliteExecutor, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, LogEntry, LogFilter, LogPage, LogPosition, LoggedMessage, MessageLog,
        ModelCheckpoint, ReliabilityStore,
        rows::{self, Columns, checksum, read_within},
    },
    connection::SqliteEventStore,
    error::classify,
    query::nth,
    rows::array,
};

/// The workflow and the start time are in the head of the stream; if the head is lost, they come
/// from its first event.
const LOG: &str = "
    SELECT e.position, e.stream_id, e.version, e.event_id, e.event_type, e.event_data,
           e.occurred_at, e.command_id, e.correlation_id, e.traceparent, e.actor, e.schema_version,
           e.gold,
           coalesce(t.workflow, (
               SELECT first.event_data ->> 'workflow' FROM stored_events AS first
               WHERE first.stream_id = e.stream_id AND first.version = 1
           )) AS workflow,
           coalesce(t.started_at, (
               SELECT first.occurred_at FROM stored_events AS first
               WHERE first.stream_id = e.stream_id AND first.version = 1
           )) AS started_at
    FROM stored_events AS e
    LEFT JOIN tasks AS t ON t.task_id = e.stream_id
    WHERE e.position > ?1
    ORDER BY e.position
    LIMIT ?2";

/// The next events; for those that do not match, only the position is returned.
const PAGE: &str = "
    SELECT page.position, page.stream_id, page.version, page.event_id, page.event_type,
           page.occurred_at, page.command_id, page.correlation_id, page.traceparent, page.actor,
           page.schema_version, page.gold, page.workflow,
           CASE WHEN page.workflow = ?3 THEN page.event_data END AS event_data
    FROM (
        SELECT e.*, CASE WHEN e.event_type IN (SELECT value FROM json_each(?4)) THEN coalesce(
            (SELECT workflow FROM tasks WHERE task_id = e.stream_id),
            (SELECT first.event_data ->> 'workflow' FROM stored_events AS first
             WHERE first.stream_id = e.stream_id AND first.version = 1)
        ) END AS workflow
        FROM stored_events AS e
        WHERE e.position > ?1
        ORDER BY e.position
        LIMIT ?2
    ) AS page
    ORDER BY page.position";

const LEARNT: &str =
    "SELECT workflow, step_id, position, state, checksum FROM annotator_models WHERE model = ?1";

/// If another process has stored a later checkpoint, that one stays.
const KEEP: &str = "
    INSERT INTO annotator_models (model, workflow, step_id, position, state, checksum)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (model) DO UPDATE SET
        position = excluded.position, state = excluded.state, checksum = excluded.checksum
    WHERE position < excluded.position";

const POSITION: &str = "SELECT position FROM annotator_models WHERE model = ?1";
const FORGET: &str = "DELETE FROM annotator_models";

const END: &str = "
    SELECT (SELECT COALESCE(MAX(position), 0) FROM stored_events),
           (SELECT COALESCE(MAX(position), 0) FROM log_messages)";

/// A message comes after the last event before it, so its place is that event's entry.
const MESSAGES: &str = "
    SELECT after_event, position, message_id, task_id, routing_key, message_type, body
    FROM log_messages
    WHERE (after_event, position) > (?1, ?2) AND (after_event, position) <= (?3, ?4)
    ORDER BY after_event, position
    LIMIT ?5";

/// The events after a position in the log, in order. With one writer, no gap can be filled later.
pub(super) async fn read_log<'c>(
    from: impl SqliteExecutor<'c>,
    after: LogPosition,
    limit: u32,
) -> Result<Vec<LogEntry>, EventStoreError> {
    let query = sqlx::query(LOG).bind(after.entry).bind(i64::from(limit));
    let (read, _) = read_within(query.fetch(from).map_err(classify), rows::log_entry).await?;
    Ok(read)
}

#[async_trait]
impl MessageLog for SqliteEventStore {
    async fn log_end(&self) -> Result<LogPosition, EventStoreError> {
        let end = self.fetch_optional(sqlx::query(END), place);
        Ok(end.await?.unwrap_or_default())
    }

    async fn logged_messages(
        &self,
        after: LogPosition,
        through: LogPosition,
        limit: u32,
    ) -> Result<Vec<(LogPosition, LoggedMessage)>, EventStoreError> {
        let query = sqlx::query(MESSAGES)
            .bind(after.entry)
            .bind(after.position)
            .bind(through.entry)
            .bind(through.position)
            .bind(i64::from(limit));
        self.fetch(query, |row| Ok((place(row)?, rows::logged_message(row)?)))
            .await
    }
}

/// A place among the messages, in the first two columns.
fn place(row: &SqliteRow) -> Result<LogPosition, EventStoreError> {
    Ok(LogPosition {
        entry: nth(row, 0)?,
        position: nth(row, 1)?,
    })
}

#[async_trait]
impl ReliabilityStore for SqliteEventStore {
    async fn read_workflow_log(
        &self,
        filter: LogFilter,
        after: LogPosition,
        limit: u32,
    ) -> Result<LogPage, EventStoreError> {
        let query = sqlx::query(PAGE)
            .bind(after.entry)
            .bind(i64::from(limit))
            .bind(filter.workflow.as_str())
            .bind(array(&filter.event_types)?);
        let found = query.fetch(self.readers()).map_err(classify);
        let decode = |row: &SqliteRow| rows::log_row(row, &filter.workflow);
        let (examined, ended_by_size) = read_within(found, decode).await?;
        Ok(LogPage::of(examined, ended_by_size, after, limit))
    }

    async fn model_checkpoint(
        &self,
        model: Uuid,
    ) -> Result<Option<ModelCheckpoint>, EventStoreError> {
        let query = sqlx::query(LEARNT).bind(model.hyphenated());
        let found = self.fetch_optional(query, |row| rows::learnt(row, model));
        Ok(found.await?.flatten())
    }

    async fn checkpoint_position(
        &self,
        model: Uuid,
    ) -> Result<Option<LogPosition>, EventStoreError> {
        let query = sqlx::query(POSITION).bind(model.hyphenated());
        self.fetch_optional(query, |row| {
            Columns::of("annotator_models", row).log_position()
        })
        .await
    }

    async fn keep_model(&self, row: ModelCheckpoint) -> Result<(), EventStoreError> {
        let proof = checksum(&row.state);
        let query = sqlx::query(KEEP)
            .bind(row.model.hyphenated())
            .bind(row.workflow.as_str())
            .bind(row.step_id.as_str())
            .bind(row.position.entry)
            .bind(&row.state)
            .bind(proof.as_slice());
        self.execute(query).await
    }

    async fn forget_models(&self) -> Result<(), EventStoreError> {
        self.execute(sqlx::query(FORGET)).await
    }
}
