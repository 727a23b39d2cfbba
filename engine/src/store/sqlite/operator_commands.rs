//! Operator commands, and the pauses that follow from them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::{
    super::{
        AnnotatorPause, CommandRecord, CommandRow, DerivePauses, EventStoreError, NewMessage,
        OpenPauses, OperatorLog, Pauses, PlannedOperatorCommand, WorkflowPause,
        operator_commands::{OperatorTables, operator_command_in, replace_pauses_in},
        rows,
    },
    commands::COMMAND,
    connection::{SqliteEventStore, commit, detached},
    outbox::enqueue,
    query::{execute, fetch, fetch_optional},
    rows::{array, micros, plain},
    write,
};
use crate::ids::{CommandId, TaskId, UserId, WorkflowId};

const ACTS: &str = "
    SELECT * FROM commands
    WHERE task_id IS NULL AND outcome = 'applied'
    ORDER BY decided_at, command_id";

const OPEN: &str = "SELECT * FROM workflow_pauses WHERE ended_at IS NULL ORDER BY workflow";

const OPEN_OF: &str = "SELECT * FROM workflow_pauses WHERE ended_at IS NULL AND workflow = ?1";

const ALL: &str = "SELECT * FROM workflow_pauses ORDER BY pause_id";

/// Pauses that can still affect one of the tasks.
const MATTERING: &str = "
    SELECT * FROM workflow_pauses
    WHERE ended_at IS NULL
       OR ended_at > (
           SELECT MIN(t.updated_at) FROM tasks AS t
           WHERE t.task_id IN (SELECT value FROM json_each(?1)))";

const SET: &str = "
    INSERT INTO workflow_pauses (pause_id, workflow, reason, since, until, archived, ended_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (pause_id) DO UPDATE SET
        reason = excluded.reason, until = excluded.until, archived = excluded.archived,
        ended_at = excluded.ended_at";

const FORGET: [&str; 2] = [
    "DELETE FROM workflow_pauses",
    "DELETE FROM annotator_pauses",
];

const NEWEST_OF_ANNOTATOR: &str = "
    SELECT * FROM annotator_pauses
    WHERE workflow = ?1 AND user_id = ?2 ORDER BY since DESC, pause_id DESC LIMIT 1";

const OF_ANNOTATORS: &str = "
    SELECT * FROM annotator_pauses
    WHERE ?1 IS NULL OR user_id = ?1 ORDER BY since, pause_id";

const SET_ANNOTATOR: &str = "
    INSERT INTO annotator_pauses
        (pause_id, workflow, user_id, reason, by_rule, since, ended_at, judged_anew)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (pause_id) DO UPDATE SET
        reason = excluded.reason, by_rule = excluded.by_rule, ended_at = excluded.ended_at,
        judged_anew = excluded.judged_anew";

/// Pauses that can still affect a batch of tasks.
pub(super) async fn mattering(
    connection: &mut SqliteConnection,
    tasks: &[TaskId],
) -> Result<Vec<WorkflowPause>, EventStoreError> {
    let query = sqlx::query(MATTERING).bind(array(tasks)?);
    fetch(connection, query, rows::pause).await
}

/// The tables of operator commands, in the only write transaction.
pub(super) struct Tables<'c> {
    pub(super) connection: &'c mut SqliteConnection,
    pub(super) now: DateTime<Utc>,
}

#[async_trait]
impl OperatorTables for Tables<'_> {
    /// The file is already locked.
    async fn lock(&mut self) -> Result<(), EventStoreError> {
        Ok(())
    }

    async fn now(&mut self) -> Result<DateTime<Utc>, EventStoreError> {
        Ok(self.now)
    }

    async fn command(&mut self, id: CommandId) -> Result<Option<CommandRow>, EventStoreError> {
        let query = sqlx::query(COMMAND).bind(id.0.hyphenated());
        fetch_optional(&mut *self.connection, query, rows::command).await
    }

    async fn open_pause(
        &mut self,
        workflow: &WorkflowId,
    ) -> Result<Option<WorkflowPause>, EventStoreError> {
        let query = sqlx::query(OPEN_OF).bind(workflow.as_str());
        fetch_optional(&mut *self.connection, query, rows::pause).await
    }

    async fn newest_pause(
        &mut self,
        workflow: &WorkflowId,
        user: UserId,
    ) -> Result<Option<AnnotatorPause>, EventStoreError> {
        let query = sqlx::query(NEWEST_OF_ANNOTATOR)
            .bind(workflow.as_str())
            .bind(user.0.hyphenated());
        fetch_optional(&mut *self.connection, query, rows::annotator_pause).await
    }

    async fn record(&mut self, record: &CommandRecord) -> Result<(), EventStoreError> {
        write::records(self.connection, &[record]).await
    }

    async fn put_pauses(&mut self, pauses: &Pauses) -> Result<(), EventStoreError> {
        let at = |time: Option<DateTime<Utc>>| time.map(micros);
        for pause in &pauses.workflows {
            let reason = pause.reason.as_deref().map(plain).transpose()?;
            let row = (
                pause.pause_id,
                &pause.workflow,
                reason,
                micros(pause.since),
                at(pause.until),
                u8::from(pause.archived),
                at(pause.ended_at),
            );
            execute(self.connection, sqlx::query(SET).bind(array(&[row])?)).await?;
        }
        for pause in &pauses.annotators {
            let reason = pause.reason.as_deref().map(plain).transpose()?;
            let row = (
                pause.pause_id,
                &pause.workflow,
                pause.user_id,
                reason,
                u8::from(pause.by_rule),
                micros(pause.since),
                at(pause.ended_at),
                u8::from(pause.judged_anew),
            );
            let query = sqlx::query(SET_ANNOTATOR).bind(array(&[row])?);
            execute(self.connection, query).await?;
        }
        Ok(())
    }

    async fn enqueue(&mut self, messages: &[NewMessage]) -> Result<(), EventStoreError> {
        enqueue(self.connection, messages, self.now).await
    }

    async fn operator_commands(&mut self) -> Result<Vec<CommandRow>, EventStoreError> {
        fetch(&mut *self.connection, sqlx::query(ACTS), rows::command).await
    }

    async fn all_pauses(&mut self) -> Result<Pauses, EventStoreError> {
        let annotators = sqlx::query(OF_ANNOTATORS).bind(None::<String>);
        Ok(Pauses {
            workflows: fetch(&mut *self.connection, sqlx::query(ALL), rows::pause).await?,
            annotators: fetch(&mut *self.connection, annotators, rows::annotator_pause).await?,
        })
    }

    async fn forget_pauses(&mut self) -> Result<(), EventStoreError> {
        for sql in FORGET {
            execute(self.connection, sqlx::query(sql)).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl OperatorLog for SqliteEventStore {
    async fn operator_command(
        &self,
        operator_command: PlannedOperatorCommand,
    ) -> Result<CommandRow, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let mut tables = Tables {
                connection: &mut tx,
                now: store.now(),
            };
            let row = operator_command_in(&mut tables, operator_command).await?;
            commit(tx).await?;
            Ok(row)
        })
        .await
    }

    async fn operator_commands(&self) -> Result<Vec<CommandRow>, EventStoreError> {
        self.fetch(sqlx::query(ACTS), rows::command).await
    }

    async fn workflow_pauses(&self) -> Result<OpenPauses, EventStoreError> {
        let open = self.fetch(sqlx::query(OPEN), rows::pause).await?;
        Ok(OpenPauses::at(open, self.now()))
    }

    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError> {
        let query = sqlx::query(OF_ANNOTATORS).bind(user.map(|user| user.0.hyphenated()));
        self.fetch(query, rows::annotator_pause).await
    }

    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let mut tables = Tables {
                connection: &mut tx,
                now: store.now(),
            };
            let changed = replace_pauses_in(&mut tables, derive).await?;
            commit(tx).await?;
            Ok(changed)
        })
        .await
    }
}
