//! Rust's types in SQLite's columns, and back.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Decode, Row, Sqlite, Type, sqlite::SqliteRow};
use uuid::{Uuid, fmt::Hyphenated};

use super::super::{
    AnnotatorPause, CommandRow, Draft, DueKind, DueRow, EventStoreError, LogEntry, LogPosition,
    OutboxRow, RecordedOutcome, TaskRow, WorkflowPause, WorkflowRow,
};
use crate::{
    events::{EventMetadata, StoredEvent, WorkflowEvent, upcast},
    ids::{CommandId, RevisionId, Slug, TaskId, UserId},
    state::{HeldPlace, OpenPlace, TaskStatus},
};

/// What a column holds cannot be what was written.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}` holds {value}")]
struct BadValue {
    column: &'static str,
    value: String,
}

/// Content with a character that no store keeps.
#[derive(Debug, thiserror::Error)]
#[error("a text contains the character U+0000")]
struct NulInText;

/// A time in a column: microseconds since 1970.
pub(super) fn micros(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros()
}

/// A version or count in a column.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// An array for `json_each`.
pub(super) fn array<T: Serialize>(rows: &[T]) -> Result<String, EventStoreError> {
    serde_json::to_string(rows).map_err(|error| EventStoreError::Other(Box::new(error)))
}

/// JSON in a column. U+0000 is refused, as it is by Postgres.
pub(super) fn json<T: Serialize>(value: &T) -> Result<String, EventStoreError> {
    let text =
        serde_json::to_string(value).map_err(|error| EventStoreError::Data(Box::new(error)))?;
    let nul = text.match_indices("\\u0000").any(|(at, _)| {
        // An even number of backslashes before it: this one begins the escape.
        text.as_bytes()[..at]
            .iter()
            .rev()
            .take_while(|byte| **byte == b'\\')
            .count()
            % 2
            == 0
    });
    if nul {
        Err(EventStoreError::Data(Box::new(NulInText)))
    } else {
        Ok(text)
    }
}

/// Plain text in a column. U+0000 is refused, as it is by Postgres.
pub(super) fn plain(text: &str) -> Result<&str, EventStoreError> {
    if text.contains('\0') {
        Err(EventStoreError::Data(Box::new(NulInText)))
    } else {
        Ok(text)
    }
}

/// What proves the text of a snapshot whole.
pub(super) fn checksum(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The content of an event without its type.
pub(super) fn event_data(event: &WorkflowEvent) -> Result<String, EventStoreError> {
    let mut value =
        serde_json::to_value(event).map_err(|error| EventStoreError::Data(Box::new(error)))?;
    json(&value.get_mut("event_data").map_or(Value::Null, Value::take))
}

/// A row with the table that it comes from.
pub(super) struct Columns<'r> {
    row: &'r SqliteRow,
    table: &'static str,
}

impl<'r> Columns<'r> {
    pub(super) fn of(table: &'static str, row: &'r SqliteRow) -> Self {
        Self { row, table }
    }

    fn unreadable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> EventStoreError {
        EventStoreError::Row {
            table: self.table,
            source: source.into(),
        }
    }

    pub(super) fn bad(&self, column: &'static str, value: &impl ToString) -> EventStoreError {
        self.unreadable(BadValue {
            column,
            value: value.to_string(),
        })
    }

    pub(super) fn get<T>(&self, column: &'static str) -> Result<T, EventStoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite>,
    {
        self.row
            .try_get(column)
            .map_err(|error| self.unreadable(error))
    }

    pub(super) fn uuid(&self, column: &'static str) -> Result<Uuid, EventStoreError> {
        Ok(self.get::<Hyphenated>(column)?.into_uuid())
    }

    fn opt_uuid(&self, column: &'static str) -> Result<Option<Uuid>, EventStoreError> {
        Ok(self
            .get::<Option<Hyphenated>>(column)?
            .map(Hyphenated::into_uuid))
    }

    pub(super) fn task(&self, column: &'static str) -> Result<TaskId, EventStoreError> {
        self.uuid(column).map(TaskId)
    }

    pub(super) fn slug(&self, column: &'static str) -> Result<Slug, EventStoreError> {
        let text: &str = self.get(column)?;
        Slug::new(text).map_err(|error| self.unreadable(error))
    }

    fn opt_slug(&self, column: &'static str) -> Result<Option<Slug>, EventStoreError> {
        let text: Option<&str> = self.get(column)?;
        text.map(Slug::new)
            .transpose()
            .map_err(|error| self.unreadable(error))
    }

    pub(super) fn unsigned<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<T, EventStoreError> {
        let number: i64 = self.get(column)?;
        T::try_from(number).map_err(|_| self.bad(column, &number))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<DateTime<Utc>, EventStoreError> {
        let number: i64 = self.get(column)?;
        DateTime::from_timestamp_micros(number).ok_or_else(|| self.bad(column, &number))
    }

    fn opt_time(&self, column: &'static str) -> Result<Option<DateTime<Utc>>, EventStoreError> {
        let number: Option<i64> = self.get(column)?;
        number
            .map(|n| DateTime::from_timestamp_micros(n).ok_or_else(|| self.bad(column, &n)))
            .transpose()
    }

    pub(super) fn json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<T, EventStoreError> {
        let text: &str = self.get(column)?;
        serde_json::from_str(text).map_err(|error| self.unreadable(error))
    }

    fn opt_json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, EventStoreError> {
        let text: Option<&str> = self.get(column)?;
        text.map(serde_json::from_str)
            .transpose()
            .map_err(|error| self.unreadable(error))
    }
}

pub(super) fn event(row: &SqliteRow) -> Result<StoredEvent, EventStoreError> {
    let columns = Columns::of("workflow_events", row);
    let task_id = columns.task("stream_id")?;
    let metadata: EventMetadata = columns.json("metadata")?;
    let event = upcast(
        columns.get("event_type")?,
        metadata.schema_version,
        columns.json("event_data")?,
    )
    .map_err(|source| EventStoreError::Unreadable { task_id, source })?;
    Ok(StoredEvent {
        event_id: columns.uuid("event_id")?,
        task_id,
        version: columns.unsigned("version")?,
        occurred_at: columns.time("occurred_at")?,
        metadata,
        event,
    })
}

pub(super) fn log_entry(row: &SqliteRow) -> Result<LogEntry, EventStoreError> {
    let columns = Columns::of("workflow_events", row);
    Ok(LogEntry {
        position: LogPosition {
            transaction: 0,
            position: columns.get("position")?,
        },
        workflow: columns.slug("workflow")?,
        started_at: columns.time("started_at")?,
        event: event(row)?,
    })
}

pub(super) fn task(row: &SqliteRow) -> Result<TaskRow, EventStoreError> {
    let columns = Columns::of("tasks", row);
    let status: &str = columns.get("status")?;
    Ok(TaskRow {
        task_id: columns.task("task_id")?,
        workflow: columns.slug("workflow")?,
        revision: columns.unsigned("revision")?,
        revision_id: RevisionId(columns.uuid("workflow_id")?),
        version: columns.unsigned("version")?,
        status: TaskStatus::from_name(status).ok_or_else(|| columns.bad("status", &status))?,
        current_steps: columns.json("current_steps")?,
        labels: columns.json("labels")?,
        incidents: columns.unsigned("incidents")?,
        started_at: columns.time("started_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

pub(super) fn command(row: &SqliteRow) -> Result<CommandRow, EventStoreError> {
    let columns = Columns::of("commands", row);
    let hash: &[u8] = columns.get("content_hash")?;
    let outcome: &str = columns.get("outcome")?;
    Ok(CommandRow {
        command_id: CommandId(columns.uuid("command_id")?),
        task_id: columns.opt_uuid("task_id")?.map(TaskId),
        command_type: columns.get("type")?,
        content_hash: hash
            .try_into()
            .map_err(|error: std::array::TryFromSliceError| columns.unreadable(error))?,
        outcome: match outcome {
            "applied" => RecordedOutcome::Applied {
                result: columns.json("result")?,
            },
            "rejected" => RecordedOutcome::Rejected {
                reason: columns.get("reason")?,
                detail: columns.get("detail")?,
            },
            other => return Err(columns.bad("outcome", &other)),
        },
        payload: columns.opt_json("payload")?,
        decided_at: columns.time("decided_at")?,
    })
}

pub(super) fn outbox(row: &SqliteRow) -> Result<OutboxRow, EventStoreError> {
    let columns = Columns::of("outbox", row);
    Ok(OutboxRow {
        position: columns.get("position")?,
        message_id: columns.uuid("message_id")?,
        task_id: columns.opt_uuid("task_id")?.map(TaskId),
        routing_key: columns.get("routing_key")?,
        message_type: columns.get("message_type")?,
        body: Arc::from(columns.get::<&str>("body")?),
        attempts: columns.unsigned("attempts")?,
    })
}

pub(super) fn due(row: &SqliteRow) -> Result<DueRow, EventStoreError> {
    let columns = Columns::of("timers", row);
    let kind: &str = columns.get("kind")?;
    Ok(DueRow {
        id: columns.uuid("id")?,
        task_id: columns.task("task_id")?,
        step_id: columns.opt_slug("step_id")?,
        visit: columns.unsigned("visit")?,
        kind: DueKind::from_name(kind).ok_or_else(|| columns.bad("kind", &kind))?,
        n: columns.unsigned("n")?,
        due_at: columns.time("due_at")?,
    })
}

pub(super) fn draft(row: &SqliteRow) -> Result<Draft, EventStoreError> {
    let columns = Columns::of("drafts", row);
    Ok(Draft {
        task_id: columns.task("task_id")?,
        step_id: columns.slug("step_id")?,
        visit: columns.unsigned("visit")?,
        user_id: UserId(columns.uuid("user_id")?),
        draft: columns.json("draft")?,
        saved_at: columns.time("saved_at")?,
    })
}

pub(super) fn workflow(row: &SqliteRow) -> Result<WorkflowRow, EventStoreError> {
    let columns = Columns::of("workflows", row);
    Ok(WorkflowRow {
        id: RevisionId(columns.uuid("id")?),
        workflow: columns.slug("workflow")?,
        revision: columns.unsigned("revision")?,
        content_hash: columns.get("content_hash")?,
        created_at: columns.time("created_at")?,
    })
}

pub(super) fn pause(row: &SqliteRow) -> Result<WorkflowPause, EventStoreError> {
    let columns = Columns::of("workflow_pauses", row);
    Ok(WorkflowPause {
        pause_id: CommandId(columns.uuid("pause_id")?),
        workflow: columns.slug("workflow")?,
        reason: columns.get("reason")?,
        since: columns.time("since")?,
        until: columns.opt_time("until")?,
        archived: columns.get("archived")?,
        ended_at: columns.opt_time("ended_at")?,
    })
}

pub(super) fn annotator_pause(row: &SqliteRow) -> Result<AnnotatorPause, EventStoreError> {
    let columns = Columns::of("annotator_pauses", row);
    Ok(AnnotatorPause {
        pause_id: CommandId(columns.uuid("pause_id")?),
        workflow: columns.slug("workflow")?,
        user_id: UserId(columns.uuid("user_id")?),
        reason: columns.get("reason")?,
        by_rule: columns.get("by_rule")?,
        since: columns.time("since")?,
        ended_at: columns.opt_time("ended_at")?,
        judged_anew: columns.get("judged_anew")?,
    })
}

pub(super) fn open_place(row: &SqliteRow) -> Result<OpenPlace, EventStoreError> {
    let columns = Columns::of("places", row);
    Ok(OpenPlace {
        task_id: columns.task("task_id")?,
        step_id: columns.slug("step_id")?,
        visit: columns.unsigned("visit")?,
        workflow: columns.slug("workflow")?,
        revision_id: RevisionId(columns.uuid("workflow_id")?),
        gold: columns.get("gold")?,
        submitted: columns.unsigned("submitted")?,
        reserved: columns.unsigned("reserved")?,
        waiting_since: columns.time("waiting_since")?,
        barred: columns.json("barred")?,
        judged: columns.json("judged")?,
    })
}

pub(super) fn held_place(row: &SqliteRow) -> Result<HeldPlace, EventStoreError> {
    let columns = Columns::of("claims", row);
    Ok(HeldPlace {
        user_id: UserId(columns.uuid("user_id")?),
        task_id: columns.task("task_id")?,
        step_id: columns.slug("step_id")?,
    })
}
