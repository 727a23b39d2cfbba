//! Decodes database rows. Databases differ in their column types, not in what the rows mean.

use std::fmt;

use chrono::{DateTime, Utc};
use futures::{Stream, TryStreamExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{
    AnnotatorPause, ClaimCount, CommandRow, Draft, EventRange, EventStoreError, FailedOutboxRow,
    GoalActionRow, GoalActionStatus, JobCounts, JobItem, JobItemState, JobRow, JobState, LogEntry,
    LogPosition, LoggedMessage, ModelCheckpoint, NewGoalAction, OutboxContent, OutboxRow,
    PeopleSeen, RecordedOutcome, StepLoad, StepWithOpenSlots, TaskRow, Timer, TimerKind,
    UnconfirmedMessage, WholeEvent, WorkflowPause, WorkflowRow,
    retention::{EventPlace, LastState},
};
use crate::{
    config::WorkflowConfig,
    events::{EventMetadata, StoredEvent, upcast},
    ids::{CommandId, LogId, LogIds, RevisionId, Slug, StepId, TaskId, UserId},
    state::{ClaimedSlot, OpenSlot, TaskStatus, WorkflowSnapshot},
};

/// Why a column cannot be read.
pub(super) type ColumnError = Box<dyn std::error::Error + Send + Sync>;

/// A database row. A value is `None` if the column is null.
pub(super) trait Record {
    /// Text, or JSON as text.
    fn text(&self, column: &str) -> Result<Option<&str>, ColumnError>;
    /// An integer of any width.
    fn number(&self, column: &str) -> Result<Option<i64>, ColumnError>;
    /// A boolean.
    fn flag(&self, column: &str) -> Result<Option<bool>, ColumnError>;
    /// An id.
    fn uuid(&self, column: &str) -> Result<Option<Uuid>, ColumnError>;
    /// A time.
    fn time(&self, column: &str) -> Result<Option<DateTime<Utc>>, ColumnError>;
    /// Bytes.
    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, ColumnError>;
    /// A list of text values.
    fn texts(&self, column: &str) -> Result<Option<Vec<String>>, ColumnError>;
    /// A list of ids.
    fn uuids(&self, column: &str) -> Result<Option<Vec<Uuid>>, ColumnError>;
    /// The position in the log.
    fn log_position(&self) -> Result<LogPosition, ColumnError>;
}

/// A column contains a value that this build never writes.
#[derive(Debug, thiserror::Error)]
#[error("column `{column}` holds {value}")]
struct BadValue {
    column: &'static str,
    value: String,
}

/// A column that is never null is null.
#[derive(Debug, thiserror::Error)]
#[error("column `{0}` is null")]
struct NullValue(&'static str);

/// A row with the table it comes from.
pub(super) struct Columns<'r, R> {
    row: &'r R,
    table: &'static str,
}

impl<'r, R: Record> Columns<'r, R> {
    pub(super) fn of(table: &'static str, row: &'r R) -> Self {
        Self { row, table }
    }

    fn unreadable(&self, source: impl Into<ColumnError>) -> EventStoreError {
        EventStoreError::Row {
            table: self.table,
            source: source.into(),
        }
    }

    fn bad(&self, column: &'static str, value: &(impl fmt::Display + ?Sized)) -> EventStoreError {
        self.unreadable(BadValue {
            column,
            value: value.to_string(),
        })
    }

    fn needed<T>(
        &self,
        column: &'static str,
        value: Result<Option<T>, ColumnError>,
    ) -> Result<T, EventStoreError> {
        self.optional(value)?
            .ok_or_else(|| self.unreadable(NullValue(column)))
    }

    fn optional<T>(
        &self,
        value: Result<Option<T>, ColumnError>,
    ) -> Result<Option<T>, EventStoreError> {
        value.map_err(|error| self.unreadable(error))
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&'r str, EventStoreError> {
        self.needed(column, self.row.text(column))
    }

    pub(super) fn opt_text(
        &self,
        column: &'static str,
    ) -> Result<Option<&'r str>, EventStoreError> {
        self.optional(self.row.text(column))
    }

    pub(super) fn string(&self, column: &'static str) -> Result<String, EventStoreError> {
        self.text(column).map(str::to_owned)
    }

    pub(super) fn opt_string(
        &self,
        column: &'static str,
    ) -> Result<Option<String>, EventStoreError> {
        Ok(self.opt_text(column)?.map(str::to_owned))
    }

    pub(super) fn number<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<T, EventStoreError> {
        let number = self.needed(column, self.row.number(column))?;
        T::try_from(number).map_err(|_| self.bad(column, &number))
    }

    fn opt_number<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, EventStoreError> {
        let number = self.optional(self.row.number(column))?;
        number
            .map(|number| T::try_from(number).map_err(|_| self.bad(column, &number)))
            .transpose()
    }

    pub(super) fn flag(&self, column: &'static str) -> Result<bool, EventStoreError> {
        self.needed(column, self.row.flag(column))
    }

    pub(super) fn uuid(&self, column: &'static str) -> Result<Uuid, EventStoreError> {
        self.needed(column, self.row.uuid(column))
    }

    pub(super) fn task(&self, column: &'static str) -> Result<TaskId, EventStoreError> {
        self.uuid(column).map(TaskId)
    }

    fn opt_task(&self, column: &'static str) -> Result<Option<TaskId>, EventStoreError> {
        Ok(self.optional(self.row.uuid(column))?.map(TaskId))
    }

    #[cfg(feature = "postgres")]
    pub(super) fn tasks(&self, column: &'static str) -> Result<Vec<TaskId>, EventStoreError> {
        let ids = self.needed(column, self.row.uuids(column))?;
        Ok(ids.into_iter().map(TaskId).collect())
    }

    fn users(&self, column: &'static str) -> Result<Vec<UserId>, EventStoreError> {
        let ids = self.needed(column, self.row.uuids(column))?;
        Ok(ids.into_iter().map(UserId).collect())
    }

    pub(super) fn time(&self, column: &'static str) -> Result<DateTime<Utc>, EventStoreError> {
        self.needed(column, self.row.time(column))
    }

    pub(super) fn opt_time(
        &self,
        column: &'static str,
    ) -> Result<Option<DateTime<Utc>>, EventStoreError> {
        self.optional(self.row.time(column))
    }

    pub(super) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, EventStoreError> {
        self.needed(column, self.row.bytes(column))
    }

    pub(super) fn slug(&self, column: &'static str) -> Result<Slug, EventStoreError> {
        Slug::new(self.text(column)?).map_err(|error| self.unreadable(error))
    }

    fn opt_slug(&self, column: &'static str) -> Result<Option<Slug>, EventStoreError> {
        self.opt_text(column)?
            .map(Slug::new)
            .transpose()
            .map_err(|error| self.unreadable(error))
    }

    pub(super) fn slugs(&self, column: &'static str) -> Result<Vec<Slug>, EventStoreError> {
        let texts = self.needed(column, self.row.texts(column))?;
        texts
            .into_iter()
            .map(|text| Slug::new(&text).map_err(|error| self.unreadable(error)))
            .collect()
    }

    pub(super) fn json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<T, EventStoreError> {
        serde_json::from_str(self.text(column)?).map_err(|error| self.unreadable(error))
    }

    pub(super) fn opt_json<T: DeserializeOwned>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, EventStoreError> {
        self.opt_text(column)?
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| self.unreadable(error))
    }

    /// JSON as it is stored.
    pub(super) fn raw_json(&self, column: &'static str) -> Result<Box<RawValue>, EventStoreError> {
        let text = self.string(column)?;
        RawValue::from_string(text).map_err(|error| self.unreadable(error))
    }

    pub(super) fn log_position(&self) -> Result<LogPosition, EventStoreError> {
        self.row
            .log_position()
            .map_err(|error| self.unreadable(error))
    }
}

/// Bytes of events' data, as text, after which what is read of the log at once ends. The database
/// may keep them compressed to a hundredth, and in memory they are several times that.
pub(super) const LOG_BYTES_MAX: usize = 8 << 20;

/// What a row holds, and the bytes of its data as text.
pub(super) type WithSize<T> = (T, usize);

/// Reads rows until their data reach [`LOG_BYTES_MAX`]; returns what they hold, and whether they did.
/// Each is decoded as it comes: nothing else is in memory.
pub(super) async fn read_within<R, T>(
    rows: impl Stream<Item = Result<R, EventStoreError>>,
    decode: impl Fn(&R) -> Result<WithSize<T>, EventStoreError>,
) -> Result<(Vec<T>, bool), EventStoreError> {
    let mut rows = std::pin::pin!(rows);
    let (mut read, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.try_next().await? {
        let (content, size) = decode(&row)?;
        bytes += size;
        read.push(content);
        if bytes >= LOG_BYTES_MAX {
            return Ok((read, true));
        }
    }
    Ok((read, false))
}

/// The checksum of a state's text.
pub(super) fn checksum(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// A stored event of any schema version.
pub(super) fn event(row: &impl Record) -> Result<StoredEvent, EventStoreError> {
    let columns = Columns::of("stored_events", row);
    let task_id = columns.task("stream_id")?;
    let event_type = columns.text("event_type")?;
    let unreadable = |source| EventStoreError::Unreadable { task_id, source };
    let metadata = cause(&columns)?;
    let data = columns.text("event_data")?;
    let event = upcast(event_type, metadata.schema_version, data).map_err(unreadable)?;
    Ok(StoredEvent {
        event_id: columns.uuid("event_id")?,
        task_id,
        version: columns.number("version")?,
        occurred_at: columns.time("occurred_at")?,
        metadata,
        event,
    })
}

/// What caused an event.
fn cause(columns: &Columns<'_, impl Record>) -> Result<EventMetadata, EventStoreError> {
    let command_id = columns.uuid("command_id")?;
    Ok(EventMetadata {
        command_id: CommandId(command_id),
        correlation_id: columns
            .opt_string("correlation_id")?
            .unwrap_or_else(|| command_id.to_string()),
        traceparent: columns.opt_string("traceparent")?,
        actor: columns.opt_string("actor")?,
        schema_version: columns.number("schema_version")?,
        gold: columns.flag("gold")?,
    })
}

/// The correlation id, where it is not the command's id: the column of events.
pub(super) fn own_correlation(cause: &EventMetadata) -> Option<&str> {
    let mut command_id = Uuid::encode_buffer();
    let command_id = cause
        .command_id
        .0
        .hyphenated()
        .encode_lower(&mut command_id);
    (cause.correlation_id != *command_id).then_some(&cause.correlation_id)
}

pub(super) fn log_entry(row: &impl Record) -> Result<WithSize<LogEntry>, EventStoreError> {
    let columns = Columns::of("stored_events", row);
    let entry = LogEntry {
        position: columns.log_position()?,
        workflow: columns.slug("workflow")?,
        started_at: columns.time("started_at")?,
        event: event(row)?,
    };
    Ok((entry, columns.text("event_data")?.len()))
}

/// A message of the log.
pub(super) fn logged_message(row: &impl Record) -> Result<LoggedMessage, EventStoreError> {
    let columns = Columns::of("log_messages", row);
    Ok(LoggedMessage {
        message_id: columns.uuid("message_id")?,
        task_id: columns.opt_task("task_id")?,
        routing_key: columns.string("routing_key")?,
        message_type: columns.string("message_type")?,
        body: columns.text("body")?.into(),
    })
}

/// The position of an event that was examined, and the event if it belongs to `workflow`.
pub(super) fn log_row(
    row: &impl Record,
    workflow: &Slug,
) -> Result<WithSize<(LogPosition, Option<StoredEvent>)>, EventStoreError> {
    let columns = Columns::of("stored_events", row);
    let position = columns.log_position()?;
    if columns.opt_text("workflow")? != Some(workflow.as_str()) {
        return Ok(((position, None), 0));
    }
    Ok((
        (position, Some(event(row)?)),
        columns.text("event_data")?.len(),
    ))
}

/// The state of a snapshot; `None` if its checksum does not match. Its stream is then replayed.
pub(super) fn snapshot(
    columns: &Columns<'_, impl Record>,
    task: TaskId,
) -> Result<Option<WorkflowSnapshot>, EventStoreError> {
    let version: u64 = columns.number("version")?;
    let text = columns.text("state")?;
    let state = (columns.bytes("checksum")? == checksum(text))
        .then(|| serde_json::from_str::<WorkflowSnapshot>(text).ok())
        .flatten()
        .filter(|state| state.task_id == task && state.version == version);
    if state.is_none() {
        tracing::warn!(%task, version, "a snapshot is not whole; its stream is replayed");
    }
    Ok(state)
}

/// The last state of an archived task, and when it was archived. It cannot be made anew, so one that
/// cannot be read is an error.
pub(super) fn archived(
    columns: &Columns<'_, impl Record>,
) -> Result<(LastState, DateTime<Utc>), EventStoreError> {
    Ok((columns.json("state")?, columns.time("archived_at")?))
}

/// A model checkpoint; `None` if its checksum does not match. The model is then rebuilt.
pub(super) fn learnt(
    row: &impl Record,
    model: Uuid,
) -> Result<Option<ModelCheckpoint>, EventStoreError> {
    let columns = Columns::of("annotator_models", row);
    let state = columns.text("state")?;
    if columns.bytes("checksum")? != checksum(state) {
        tracing::warn!(%model, "a learnt model is not whole; it is learnt anew");
        return Ok(None);
    }
    Ok(Some(ModelCheckpoint {
        model,
        workflow: columns.slug("workflow")?,
        step_id: columns.slug("step_id")?,
        position: columns.log_position()?,
        state: state.to_owned(),
    }))
}

pub(super) fn task(row: &impl Record) -> Result<TaskRow, EventStoreError> {
    let columns = Columns::of("tasks", row);
    Ok(TaskRow {
        task_id: columns.task("task_id")?,
        workflow: columns.slug("workflow")?,
        revision: columns.number("revision")?,
        revision_id: RevisionId(columns.uuid("workflow_id")?),
        version: columns.number("version")?,
        status: status(row)?,
        current_steps: columns.slugs("current_steps")?,
        labels: columns.json("labels")?,
        incidents: columns.number("incidents")?,
        started_at: columns.time("started_at")?,
        updated_at: columns.time("updated_at")?,
    })
}

/// The tasks of a step that have not ended.
pub(super) fn step_load(row: &impl Record) -> Result<StepLoad, EventStoreError> {
    let columns = Columns::of("tasks", row);
    Ok(StepLoad {
        workflow: columns.slug("workflow")?,
        revision_id: RevisionId(columns.uuid("workflow_id")?),
        revision: columns.number("revision")?,
        step_id: columns.slug("step_id")?,
        running: columns.number("running")?,
        paused: columns.number("paused")?,
        with_incidents: columns.number("with_incidents")?,
        oldest_at: columns.opt_time("oldest_at")?,
    })
}

/// The status of a task.
pub(super) fn status(row: &impl Record) -> Result<TaskStatus, EventStoreError> {
    let columns = Columns::of("tasks", row);
    let name = columns.text("status")?;
    TaskStatus::from_name(name).ok_or_else(|| columns.bad("status", name))
}

pub(super) fn command(row: &impl Record) -> Result<CommandRow, EventStoreError> {
    let columns = Columns::of("commands", row);
    Ok(CommandRow {
        command_id: CommandId(columns.uuid("command_id")?),
        task_id: columns.opt_task("task_id")?,
        command_type: columns.string("type")?,
        content_hash: columns
            .bytes("content_hash")?
            .try_into()
            .map_err(|_| columns.bad("content_hash", "no hash"))?,
        outcome: match columns.text("outcome")? {
            "applied" => RecordedOutcome::Applied {
                result: columns.json("result")?,
            },
            "rejected" => RecordedOutcome::Rejected {
                reason: columns.string("reason")?,
                detail: columns.string("detail")?,
            },
            other => return Err(columns.bad("outcome", other)),
        },
        payload: columns.opt_json("payload")?,
        decided_at: columns.time("decided_at")?,
    })
}

pub(super) fn outbox(row: &impl Record) -> Result<OutboxRow, EventStoreError> {
    let columns = Columns::of("outbox", row);
    let task_id = columns.opt_task("task_id")?;
    let from: Option<u64> = columns.opt_number("from_version")?;
    let content = match (task_id, from) {
        (Some(task_id), Some(from)) => OutboxContent::Events(EventRange {
            task_id,
            from,
            to: columns.number("to_version")?,
        }),
        (None, _) | (_, None) => OutboxContent::Message(logged_message(row)?),
    };
    Ok(OutboxRow {
        position: columns.number("position")?,
        task_id,
        content,
        attempts: columns.number("attempts")?,
    })
}

pub(super) fn failed_outbox(row: &impl Record) -> Result<FailedOutboxRow, EventStoreError> {
    let error = Columns::of("outbox", row).opt_string("last_error")?;
    Ok(FailedOutboxRow {
        row: outbox(row)?,
        error: error.unwrap_or_default(),
    })
}

pub(super) fn unconfirmed(row: &impl Record) -> Result<UnconfirmedMessage, EventStoreError> {
    let columns = Columns::of("outbox", row);
    Ok(UnconfirmedMessage {
        attempts: columns.number("attempts")?,
        last_error: columns.opt_string("last_error")?,
    })
}

pub(super) fn due(row: &impl Record) -> Result<Timer, EventStoreError> {
    let columns = Columns::of("timers", row);
    let kind = columns.text("kind")?;
    Ok(Timer {
        id: columns.uuid("id")?,
        task_id: columns.task("task_id")?,
        step_id: columns.opt_slug("step_id")?,
        visit: columns.number("visit")?,
        kind: TimerKind::from_name(kind).ok_or_else(|| columns.bad("kind", kind))?,
        n: columns.number("n")?,
        due_at: columns.time("due_at")?,
    })
}

pub(super) fn draft(row: &impl Record) -> Result<Draft, EventStoreError> {
    let columns = Columns::of("drafts", row);
    Ok(Draft {
        task_id: columns.task("task_id")?,
        step_id: columns.slug("step_id")?,
        visit: columns.number("visit")?,
        user_id: UserId(columns.uuid("user_id")?),
        draft: columns.json("draft")?,
        saved_at: columns.time("saved_at")?,
    })
}

pub(super) fn workflow(row: &impl Record) -> Result<WorkflowRow, EventStoreError> {
    let columns = Columns::of("workflows", row);
    Ok(WorkflowRow {
        id: RevisionId(columns.uuid("id")?),
        workflow: columns.slug("workflow")?,
        revision: columns.number("revision")?,
        content_hash: columns.string("content_hash")?,
        created_at: columns.time("created_at")?,
        actor: columns.opt_string("actor")?,
    })
}

/// The content of a revision, with its number and UUID.
pub(super) fn config(row: &impl Record) -> Result<WorkflowConfig, EventStoreError> {
    let columns = Columns::of("workflows", row);
    let mut config: WorkflowConfig = columns.json("config")?;
    config.revision_id = RevisionId(columns.uuid("id")?);
    config.revision = columns.number("revision")?;
    Ok(config)
}

pub(super) fn pause(row: &impl Record) -> Result<WorkflowPause, EventStoreError> {
    let columns = Columns::of("workflow_pauses", row);
    Ok(WorkflowPause {
        pause_id: CommandId(columns.uuid("pause_id")?),
        workflow: columns.slug("workflow")?,
        reason: columns.opt_string("reason")?,
        since: columns.time("since")?,
        until: columns.opt_time("until")?,
        archived: columns.flag("archived")?,
        ended_at: columns.opt_time("ended_at")?,
    })
}

pub(super) fn annotator_pause(row: &impl Record) -> Result<AnnotatorPause, EventStoreError> {
    let columns = Columns::of("annotator_pauses", row);
    Ok(AnnotatorPause {
        pause_id: CommandId(columns.uuid("pause_id")?),
        workflow: columns.slug("workflow")?,
        user_id: UserId(columns.uuid("user_id")?),
        reason: columns.opt_string("reason")?,
        by_rule: columns.flag("by_rule")?,
        since: columns.time("since")?,
        ended_at: columns.opt_time("ended_at")?,
        judged_anew: columns.flag("judged_anew")?,
    })
}

pub(super) fn open_step(row: &impl Record) -> Result<StepWithOpenSlots, EventStoreError> {
    let columns = Columns::of("slots", row);
    Ok(StepWithOpenSlots {
        revision_id: RevisionId(columns.uuid("workflow_id")?),
        step_id: columns.slug("step_id")?,
    })
}

pub(super) fn open_slot(row: &impl Record) -> Result<OpenSlot, EventStoreError> {
    let columns = Columns::of("slots", row);
    Ok(OpenSlot {
        task_id: columns.task("task_id")?,
        step_id: columns.slug("step_id")?,
        visit: columns.number("visit")?,
        workflow: columns.slug("workflow")?,
        revision_id: RevisionId(columns.uuid("workflow_id")?),
        gold: columns.flag("gold")?,
        submitted: columns.number("submitted")?,
        reserved: columns.number("reserved")?,
        waiting_since: columns.time("waiting_since")?,
        barred: columns.users("barred")?,
        released: columns.users("released")?,
        authors: columns.users("judged")?,
    })
}

pub(super) fn claimed_slot(row: &impl Record) -> Result<ClaimedSlot, EventStoreError> {
    let columns = Columns::of("claims", row);
    Ok(ClaimedSlot {
        user_id: UserId(columns.uuid("user_id")?),
        task_id: columns.task("task_id")?,
        step_id: columns.slug("step_id")?,
    })
}

/// A person with the number of claimed slots.
pub(super) fn claim_count(row: &impl Record) -> Result<ClaimCount, EventStoreError> {
    let columns = Columns::of("claims", row);
    Ok(ClaimCount {
        user_id: UserId(columns.uuid("user_id")?),
        slots: columns.number("slots")?,
    })
}

/// A step in which people have worked, and a role that one of them named.
pub(super) fn seen(row: &impl Record) -> Result<(StepId, Option<String>), EventStoreError> {
    let columns = Columns::of("stored_events", row);
    Ok((columns.slug("step_id")?, columns.opt_string("role")?))
}

/// The people of these rows.
pub(super) fn people_seen(rows: Vec<(StepId, Option<String>)>, whole: bool) -> PeopleSeen {
    let mut seen = PeopleSeen {
        whole,
        ..PeopleSeen::default()
    };
    for (step_id, role) in rows {
        seen.steps.insert(step_id);
        seen.roles.extend(role);
    }
    seen
}

pub(super) fn goal_action(row: &impl Record) -> Result<GoalActionRow, EventStoreError> {
    let columns = Columns::of("goal_work", row);
    let status = columns.text("status")?;
    Ok(GoalActionRow {
        action: NewGoalAction {
            id: columns.uuid("id")?,
            workflow: columns.slug("workflow")?,
            goal: columns.slug("goal")?,
            epoch: columns.number("epoch")?,
            action: columns.string("action")?,
            payload: columns.json("payload")?,
        },
        status: GoalActionStatus::from_name(status).ok_or_else(|| columns.bad("status", status))?,
        attempts: columns.number("attempts")?,
        last_error: columns.opt_string("last_error")?,
        changed_at: columns.time("changed_at")?,
    })
}

/// A job.
pub(super) fn job(row: &impl Record) -> Result<JobRow, EventStoreError> {
    let columns = Columns::of("jobs", row);
    let state = columns.text("state")?;
    Ok(JobRow {
        id: columns.uuid("id")?,
        kind: columns.string("kind")?,
        actor: columns.string("actor")?,
        settings: columns.json("settings")?,
        state: JobState::from_name(state).ok_or_else(|| columns.bad("state", state))?,
        phase: columns.string("phase")?,
        reason: columns.opt_string("reason")?,
        stop_by: columns.opt_string("stop_by")?,
        created_at: columns.time("created_at")?,
        changed_at: columns.time("changed_at")?,
        counts: columns.json("counts")?,
    })
}

/// An event with all its columns.
pub(super) fn whole_event(row: &impl Record) -> Result<WholeEvent, EventStoreError> {
    let columns = Columns::of("stored_events", row);
    Ok(WholeEvent {
        version: columns.number("version")?,
        event_id: columns.uuid("event_id")?,
        event_type: columns.string("event_type")?,
        event_data: columns.raw_json("event_data")?,
        metadata: columns.raw_json("metadata")?,
        occurred_at: columns.time("occurred_at")?,
        batch: columns.number("batch")?,
        position: columns.number("position")?,
    })
}

/// Where an event is, with its version.
pub(super) fn event_place(row: &impl Record) -> Result<(u64, EventPlace), EventStoreError> {
    let columns = Columns::of("stored_events", row);
    let place = EventPlace {
        event_id: columns.uuid("event_id")?,
        batch: columns.number("batch")?,
        position: columns.number("position")?,
    };
    Ok((columns.number("version")?, place))
}

/// What is kept of how many items a job has.
pub(super) fn job_counts(row: &impl Record) -> Result<JobCounts, EventStoreError> {
    Columns::of("jobs", row).json("counts")
}

/// The states of an item before and after.
pub(super) fn job_item_change(
    row: &impl Record,
) -> Result<(JobItemState, JobItemState), EventStoreError> {
    let columns = Columns::of("job_items", row);
    let state = |name| {
        let state = columns.text(name)?;
        JobItemState::from_name(state).ok_or_else(|| columns.bad(name, state))
    };
    Ok((state("was")?, state("state")?))
}

/// An item of a job.
pub(super) fn job_item(row: &impl Record) -> Result<JobItem, EventStoreError> {
    let columns = Columns::of("job_items", row);
    let state = columns.text("state")?;
    Ok(JobItem {
        ordinal: columns.number("ordinal")?,
        state: JobItemState::from_name(state).ok_or_else(|| columns.bad("state", state))?,
        identity: columns.string("identity")?,
        order_key: columns.opt_string("order_key")?,
        properties: columns.string("properties")?,
        body: columns.bytes("body")?,
        detail: columns.opt_string("detail")?,
    })
}

/// A row of a projection with its key.
pub(super) fn projection_row(row: &impl Record) -> Result<(String, Value), EventStoreError> {
    let columns = Columns::of("projection_rows", row);
    Ok((columns.string("key")?, columns.json("value")?))
}

/// The ids of a log, of the columns `log_id` and `former_logs` of `deployment`.
pub(super) fn log_ids(present: Uuid, former: &str) -> Result<LogIds, EventStoreError> {
    let former = serde_json::from_str(former);
    Ok(LogIds {
        present: LogId(present),
        former: former.map_err(|error| EventStoreError::Other(error.into()))?,
    })
}
