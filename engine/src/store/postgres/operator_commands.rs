//! Operator commands, and the pauses that follow from them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{
    super::{
        AnnotatorPause, CommandRecord, CommandRow, DerivePauses, EventStoreError, NewMessage,
        OpenPauses, OperatorLog, Pauses, PlannedOperatorCommand, WorkflowPause,
        operator_commands::{OperatorTables, operator_command_in, replace_pauses_in},
        rows,
    },
    PgEventStore,
    commands::{COMMAND, command_columns},
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    outbox::enqueue,
    query::{begin, commit, commit_repeatable, execute, fetch, fetch_optional, scalar},
    rows::to_json,
};
use crate::ids::{CommandId, UserId, WorkflowId};

/// The columns of a pause of a workflow.
macro_rules! pause_columns {
    () => {
        "pause_id, workflow, reason, since, until, archived, ended_at"
    };
}
pub(super) use pause_columns;

/// The columns of a pause of an annotator.
macro_rules! annotator_pause_columns {
    () => {
        "pause_id, workflow, user_id, reason, by_rule, since, ended_at, judged_anew"
    };
}

/// The key of the lock of operator commands.
macro_rules! operator_lock {
    () => {
        "hashtextextended('glyph operator commands ' || current_schema(), 0)"
    };
}
pub(super) use operator_lock;

/// One operator command at a time, in any process.
const LOCK: &str = concat!("SELECT pg_advisory_xact_lock(", operator_lock!(), ")");

/// A separate statement after the lock, so its snapshot is taken under the lock.
const NOW: &str = "SELECT clock_timestamp()";

const ACTS: &str = concat!(
    "SELECT ",
    command_columns!(),
    " FROM commands WHERE task_id IS NULL AND outcome = 'applied' ORDER BY decided_at, command_id"
);

const RECORD: &str = "
    INSERT INTO commands
        (command_id, task_id, type, outcome, reason, detail, result, content_hash, payload,
         decided_at)
    VALUES ($1, NULL, $2, $3, $4, $5, $6::json, $7, $8::jsonb, $9)";

/// Ordered by workflow; pauses in effect and expired pauses.
const OPEN: &str = concat!(
    "SELECT ",
    pause_columns!(),
    ", until IS NULL OR until > statement_timestamp() AS holds
    FROM workflow_pauses WHERE ended_at IS NULL ORDER BY workflow"
);

const OPEN_OF: &str = concat!(
    "SELECT ",
    pause_columns!(),
    " FROM workflow_pauses WHERE ended_at IS NULL AND workflow = $1"
);

const ALL: &str = concat!(
    "SELECT ",
    pause_columns!(),
    " FROM workflow_pauses ORDER BY pause_id"
);

const SET: &str = concat!(
    "INSERT INTO workflow_pauses (",
    pause_columns!(),
    ")
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (pause_id) DO UPDATE
    SET reason = excluded.reason, until = excluded.until, archived = excluded.archived,
        ended_at = excluded.ended_at"
);

const NEWEST_OF_ANNOTATOR: &str = concat!(
    "SELECT ",
    annotator_pause_columns!(),
    "
    FROM annotator_pauses
    WHERE workflow = $1 AND user_id = $2 ORDER BY since DESC, pause_id DESC LIMIT 1"
);

const OF_ANNOTATORS: &str = concat!(
    "SELECT ",
    annotator_pause_columns!(),
    "
    FROM annotator_pauses
    WHERE $1::uuid IS NULL OR user_id = $1 ORDER BY since, pause_id"
);

const SET_ANNOTATOR: &str = concat!(
    "INSERT INTO annotator_pauses (",
    annotator_pause_columns!(),
    ")
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (pause_id) DO UPDATE
    SET reason = excluded.reason, by_rule = excluded.by_rule, ended_at = excluded.ended_at,
        judged_anew = excluded.judged_anew"
);

const FORGET: [&str; 2] = [
    "DELETE FROM workflow_pauses",
    "DELETE FROM annotator_pauses",
];

/// The tables of operator commands, in the transaction of a connection.
pub(super) struct Tables<'c>(pub(super) &'c mut PgConnection);

#[async_trait]
impl OperatorTables for Tables<'_> {
    async fn lock(&mut self) -> Result<(), EventStoreError> {
        execute(self.0, sqlx::query(LOCK)).await.map(drop)
    }

    async fn now(&mut self) -> Result<DateTime<Utc>, EventStoreError> {
        scalar(self.0, sqlx::query(NOW)).await
    }

    async fn command(&mut self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError> {
        fetch_optional(self.0, sqlx::query(COMMAND).bind(id.0), rows::command).await
    }

    async fn open_pause(
        &mut self,
        workflow: &WorkflowId,
    ) -> Result<Option<WorkflowPause>, EventStoreError> {
        let query = sqlx::query(OPEN_OF).bind(workflow.as_str());
        fetch_optional(self.0, query, rows::pause).await
    }

    async fn newest_pause(
        &mut self,
        workflow: &WorkflowId,
        user: UserId,
    ) -> Result<Option<AnnotatorPause>, EventStoreError> {
        let query = sqlx::query(NEWEST_OF_ANNOTATOR)
            .bind(workflow.as_str())
            .bind(user.0);
        fetch_optional(self.0, query, rows::annotator_pause).await
    }

    async fn record(&mut self, record: &CommandRecord) -> Result<(), EventStoreError> {
        let outcome = record.outcome.columns();
        let query = sqlx::query(RECORD)
            .bind(record.command_id.0)
            .bind(record.command_type)
            .bind(outcome.outcome)
            .bind(outcome.reason)
            .bind(outcome.detail)
            .bind(outcome.result.map(to_json).transpose()?)
            .bind(record.content_hash.as_slice())
            .bind(record.payload.as_ref().map(to_json).transpose()?)
            .bind(record.decided_at);
        execute(self.0, query).await.map(drop)
    }

    async fn put_pauses(&mut self, pauses: &Pauses) -> Result<(), EventStoreError> {
        for pause in &pauses.workflows {
            let query = sqlx::query(SET)
                .bind(pause.pause_id.0)
                .bind(pause.workflow.as_str())
                .bind(pause.reason.as_deref())
                .bind(pause.since)
                .bind(pause.until)
                .bind(pause.archived)
                .bind(pause.ended_at);
            execute(self.0, query).await?;
        }
        for pause in &pauses.annotators {
            let query = sqlx::query(SET_ANNOTATOR)
                .bind(pause.pause_id.0)
                .bind(pause.workflow.as_str())
                .bind(pause.user_id.0)
                .bind(pause.reason.as_deref())
                .bind(pause.by_rule)
                .bind(pause.since)
                .bind(pause.ended_at)
                .bind(pause.judged_anew);
            execute(self.0, query).await?;
        }
        Ok(())
    }

    async fn enqueue(&mut self, messages: &[NewMessage]) -> Result<(), EventStoreError> {
        enqueue(self.0, messages).await
    }

    async fn operator_commands(&mut self) -> Result<Vec<CommandRow>, EventStoreError> {
        fetch(self.0, sqlx::query(ACTS), rows::command).await
    }

    async fn all_pauses(&mut self) -> Result<Pauses, EventStoreError> {
        let annotators = sqlx::query(OF_ANNOTATORS).bind(None::<uuid::Uuid>);
        Ok(Pauses {
            workflows: fetch(self.0, sqlx::query(ALL), rows::pause).await?,
            annotators: fetch(self.0, annotators, rows::annotator_pause).await?,
        })
    }

    async fn forget_pauses(&mut self) -> Result<(), EventStoreError> {
        for sql in FORGET {
            execute(self.0, sqlx::query(sql)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl OperatorLog for PgEventStore {
    async fn operator_command(
        &self,
        operator_command: PlannedOperatorCommand,
    ) -> Result<CommandRow, EventStoreError> {
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                let row = operator_command_in(&mut Tables(&mut tx), operator_command).await?;
                commit(tx).await?;
                Ok(row)
            })
        })
        .await
    }

    async fn operator_commands(&self) -> Result<Vec<CommandRow>, EventStoreError> {
        self.fetch(LONG_WORK_TIMEOUT, sqlx::query(ACTS), rows::command)
            .await
    }

    async fn workflow_pauses(&self) -> Result<OpenPauses, EventStoreError> {
        let found = self
            .fetch(WORK_TIMEOUT, sqlx::query(OPEN), |row| {
                let holds = rows::Columns::of("workflow_pauses", row).flag("holds")?;
                Ok((holds, rows::pause(row)?))
            })
            .await?;
        let mut open = OpenPauses::default();
        for (holds, pause) in found {
            let list = if holds {
                &mut open.active
            } else {
                &mut open.expired
            };
            list.push(pause);
        }
        Ok(open)
    }

    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError> {
        let query = sqlx::query(OF_ANNOTATORS).bind(user.map(|user| user.0));
        self.fetch(WORK_TIMEOUT, query, rows::annotator_pause).await
    }

    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                let changed = replace_pauses_in(&mut Tables(&mut tx), derive).await?;
                // A second run finds nothing to change.
                commit_repeatable(tx).await?;
                Ok(changed)
            })
        })
        .await
    }
}
