//! The log of all events, and the annotator models learned from it.

use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::{PgConnection, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, LogEntry, LogFilter, LogPage, LogPosition, LoggedMessage, MessageLog,
        ModelCheckpoint, ReliabilityStore,
        rows::{self, Columns, checksum, read_within},
    },
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    error::classify,
    query::{fetch, nth},
    recent_log::{Batch, PlacedBatch, ReadEvent, RecentLog},
    streams::{cause_columns, event_columns},
};

/// The events after a position, in a form that stays cheap whatever the planner knows of the
/// tables: entries in order, and of each its events. `OFFSET 0` keeps it from being rearranged; the
/// order by batch too, which changes nothing, is that of the index of entries with events.
macro_rules! events_of_log {
    () => {
        "(
        SELECT l.entry, b.written_at, e.*
        FROM (SELECT entry, batch FROM log_entries
              WHERE has_events AND entry >= $1 ORDER BY entry, batch OFFSET 0) l
        LEFT JOIN LATERAL (
            SELECT written_at FROM log_batches WHERE batch = l.batch ORDER BY batch LIMIT 1) b ON true
        CROSS JOIN LATERAL (
            SELECT * FROM stored_events
            WHERE batch = l.batch AND position > CASE WHEN l.entry = $1 THEN $2 ELSE -1 END
            ORDER BY position OFFSET 0) e
        ORDER BY l.entry, e.position LIMIT $3
    )"
    };
}

/// The batches with events from an entry on, in the order of the log. Each is found by the index, whatever
/// the planner knows of the tables.
const BATCHES: &str = "
    SELECT l.entry, l.batch, coalesce(b.written_at, 'epoch') AS written_at
    FROM (SELECT entry, batch FROM log_entries
          WHERE has_events AND entry >= $1 ORDER BY entry, batch LIMIT $2) l
    LEFT JOIN LATERAL (
        SELECT written_at FROM log_batches WHERE batch = l.batch ORDER BY batch LIMIT 1) b ON true
    ORDER BY l.entry";

/// How many batches are looked at in one statement.
const BATCHES_MAX: u8 = 16;

/// The workflow and the start time are in the head of the stream; if the head is lost, they come
/// from its first event.
const LOG: &str = concat!(
    "
    SELECT ",
    event_columns!("e"),
    ", e.entry, e.position, e.batch, coalesce(e.written_at, 'epoch') AS written_at,
           coalesce(t.workflow, (
               SELECT first.event_data::json ->> 'workflow' FROM stored_events first
               WHERE first.stream_id = e.stream_id AND first.version = 1
           )) AS workflow,
           coalesce(t.started_at, (
               SELECT first.occurred_at FROM stored_events first
               WHERE first.stream_id = e.stream_id AND first.version = 1
           )) AS started_at
    FROM ",
    events_of_log!(),
    " e
    LEFT JOIN tasks t ON t.task_id = e.stream_id
    ORDER BY e.entry, e.position"
);

/// The next events; for those that do not match, only the position is returned.
const PAGE: &str = concat!(
    "
    SELECT page.entry, page.position, page.stream_id, page.version, page.event_id, page.event_type,
           ",
    cause_columns!("page"),
    ", page.workflow,
           CASE WHEN page.workflow = $4 THEN page.event_data END AS event_data
    FROM (
        SELECT e.*, CASE WHEN e.event_type = ANY($5) THEN coalesce(
            (SELECT t.workflow FROM tasks t WHERE t.task_id = e.stream_id),
            (SELECT first.event_data::json ->> 'workflow' FROM stored_events first
             WHERE first.stream_id = e.stream_id AND first.version = 1)
        ) END AS workflow
        FROM ",
    events_of_log!(),
    " e
    ) page
    ORDER BY page.entry, page.position"
);

const LEARNT: &str = "
    SELECT workflow, step_id, entry, position, state::text AS state, checksum
    FROM annotator_models WHERE model = $1";

/// If another process has stored a later checkpoint, that one stays.
const KEEP: &str = "
    INSERT INTO annotator_models AS kept (model, workflow, step_id, entry, position, state, checksum)
    VALUES ($1, $2, $3, $4, $5, $6::json, $7)
    ON CONFLICT (model) DO UPDATE SET
        entry = excluded.entry, position = excluded.position, state = excluded.state,
        checksum = excluded.checksum, saved_at = clock_timestamp()
    WHERE (kept.entry, kept.position) < (excluded.entry, excluded.position)";

const POSITION: &str = "SELECT entry, position FROM annotator_models WHERE model = $1";
const FORGET: &str = "DELETE FROM annotator_models";

const END: &str = "SELECT coalesce(max(entry), 0) FROM log_entries";

/// As for events: entries in order, and of each its messages.
const MESSAGES: &str = "
    SELECT l.entry, m.*
    FROM (SELECT entry, batch FROM log_entries
          WHERE entry BETWEEN $1 AND $3 ORDER BY entry OFFSET 0) l
    CROSS JOIN LATERAL (
        SELECT position, message_id, task_id, routing_key, message_type, body FROM log_messages
        WHERE batch = l.batch AND (l.entry > $1 OR position > $2)
          AND (l.entry < $3 OR position <= $4)
        ORDER BY position OFFSET 0) m
    ORDER BY l.entry, m.position LIMIT $5";

/// The batch of a row.
fn batch(row: &PgRow) -> Result<Batch, EventStoreError> {
    let columns = Columns::of("log_batches", row);
    Ok(Batch {
        number: columns.number("batch")?,
        written_at: columns.time("written_at")?,
    })
}

/// A page of the log.
#[derive(Debug)]
pub(super) struct Page {
    /// Its events.
    pub(super) entries: Vec<Arc<LogEntry>>,
    /// Whether more events are waiting behind it.
    pub(super) has_more: bool,
}

/// Reads a page of the log; returns its events, and whether it ended at a bound.
pub(super) async fn read_log(
    conn: &mut PgConnection,
    recent: &RecentLog,
    after: LogPosition,
    limit: u32,
) -> Result<(Vec<ReadEvent>, bool), EventStoreError> {
    let limit = recent.events_for_page(limit);
    let query = sqlx::query(LOG)
        .bind(after.entry)
        .bind(after.position)
        .bind(i64::from(limit));
    let rows = query.fetch(conn).map_err(classify);
    let decode = |row: &PgRow| {
        let batch = batch(row)?;
        let (entry, bytes) = rows::log_entry(row)?;
        let entry = Arc::new(entry);
        let read = ReadEvent {
            entry,
            bytes,
            batch,
        };
        Ok((read, bytes))
    };
    let (read, ended_by_size) = read_within(rows, decode).await?;
    recent.learn_size(read.len(), read.iter().map(|event| event.bytes).sum());
    let is_full = ended_by_size || read.len() >= limit as usize;
    Ok((read, is_full))
}

/// A page of the log: what this process has committed or read a moment ago, or else what the database
/// has. Which batches there are the database says in either case, so nothing that was committed before
/// is missing in front of the end of the page.
pub(super) async fn read_recent_log(
    conn: &mut PgConnection,
    recent: &RecentLog,
    after: LogPosition,
    limit: u32,
) -> Result<Page, EventStoreError> {
    if let Some(known) = known_page(conn, recent, after, limit).await? {
        return Ok(known);
    }
    // One reads, and the others that came at the same time find it.
    let _reading = recent.reading().await;
    if let Some(known) = known_page(conn, recent, after, limit).await? {
        return Ok(known);
    }
    let (read, is_full) = read_log(conn, recent, after, limit).await?;
    recent.take(after, &read, !is_full);
    Ok(Page {
        entries: read.into_iter().map(|event| event.entry).collect(),
        has_more: is_full,
    })
}

/// A page of what is known; `None` where something that is missing would cut it to less than a half: a
/// step costs more than reading some events again.
async fn known_page(
    conn: &mut PgConnection,
    recent: &RecentLog,
    after: LogPosition,
    limit: u32,
) -> Result<Option<Page>, EventStoreError> {
    // What is read at once, so that what one of them has read is a page for the next.
    let limit = recent.events_for_page(limit) as usize;
    let mut entries: Vec<Arc<LogEntry>> = Vec::new();
    let mut from = after.entry;
    loop {
        let query = sqlx::query(BATCHES).bind(from).bind(i64::from(BATCHES_MAX));
        let batches = fetch(conn, query, |row| {
            Ok(PlacedBatch {
                entry: nth(row, 0)?,
                batch: batch(row)?,
            })
        })
        .await?;
        let known = recent.known(&batches, after, limit - entries.len());
        entries.extend(known.events);
        match batches.last() {
            _ if !known.is_all => {
                let is_worth_it = entries.len() >= limit.div_ceil(2);
                return Ok(is_worth_it.then_some(Page {
                    entries,
                    has_more: true,
                }));
            }
            Some(last) if batches.len() == usize::from(BATCHES_MAX) => from = last.entry + 1,
            _ => {
                return Ok(Some(Page {
                    entries,
                    has_more: false,
                }));
            }
        }
    }
}

#[async_trait]
impl MessageLog for PgEventStore {
    /// An entry does not change once it is visible, so all of the last one is there.
    async fn log_end(&self) -> Result<LogPosition, EventStoreError> {
        let end = self.fetch_optional(WORK_TIMEOUT, sqlx::query(END), |row| nth(row, 0));
        Ok(LogPosition {
            entry: end.await?.unwrap_or_default(),
            position: i64::MAX,
        })
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
        self.fetch(LONG_WORK_TIMEOUT, query, |row| {
            let position = Columns::of("log_messages", row).log_position()?;
            Ok((position, rows::logged_message(row)?))
        })
        .await
    }
}

#[async_trait]
impl ReliabilityStore for PgEventStore {
    async fn read_workflow_log(
        &self,
        filter: LogFilter,
        after: LogPosition,
        limit: u32,
    ) -> Result<LogPage, EventStoreError> {
        let query = sqlx::query(PAGE)
            .bind(after.entry)
            .bind(after.position)
            .bind(i64::from(limit))
            .bind(filter.workflow.as_str())
            .bind(&filter.event_types);
        let workflow = filter.workflow;
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let found = query.fetch(conn).map_err(classify);
                let decode = |row: &PgRow| rows::log_row(row, &workflow);
                let (examined, ended_by_size) = read_within(found, decode).await?;
                Ok(LogPage::of(examined, ended_by_size, after, limit))
            })
        })
        .await
    }

    async fn model_checkpoint(
        &self,
        model: Uuid,
    ) -> Result<Option<ModelCheckpoint>, EventStoreError> {
        let query = sqlx::query(LEARNT).bind(model);
        let found = self
            .fetch_optional(WORK_TIMEOUT, query, |row| rows::learnt(row, model))
            .await?;
        Ok(found.flatten())
    }

    async fn checkpoint_position(
        &self,
        model: Uuid,
    ) -> Result<Option<LogPosition>, EventStoreError> {
        let query = sqlx::query(POSITION).bind(model);
        self.fetch_optional(WORK_TIMEOUT, query, |row| {
            Columns::of("annotator_models", row).log_position()
        })
        .await
    }

    async fn keep_model(&self, row: ModelCheckpoint) -> Result<(), EventStoreError> {
        let proof = checksum(&row.state);
        let query = sqlx::query(KEEP)
            .bind(row.model)
            .bind(row.workflow.as_str())
            .bind(row.step_id.as_str())
            .bind(row.position.entry)
            .bind(row.position.position)
            .bind(row.state)
            .bind(proof.as_slice());
        self.execute(LONG_WORK_TIMEOUT, query).await
    }

    async fn forget_models(&self) -> Result<(), EventStoreError> {
        self.execute(WORK_TIMEOUT, sqlx::query(FORGET)).await
    }
}
