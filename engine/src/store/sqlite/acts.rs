//! Operators' acts, and the pauses of workflows that follow from them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::{
    super::{
        ActDecision, ActFacts, ActLog, CommandRow, DerivePauses, EventStoreError, WorkflowPause,
    },
    outbox::enqueue,
    rows::{self, array, micros, plain},
    store::{SqliteEventStore, commit, detached},
    write,
};
use crate::ids::{CommandId, TaskId, WorkflowId};

const KNOWN: &str = "SELECT * FROM commands WHERE command_id = ?1";

const ACTS: &str = "
    SELECT * FROM commands
    WHERE task_id IS NULL AND outcome = 'applied'
    ORDER BY decided_at, command_id";

const OPEN: &str = "SELECT * FROM workflow_pauses WHERE ended_at IS NULL ORDER BY workflow";

const OPEN_OF: &str = "SELECT * FROM workflow_pauses WHERE ended_at IS NULL AND workflow = ?1";

const ALL: &str = "SELECT * FROM workflow_pauses ORDER BY pause_id";

/// Those that can still matter to one of the tasks.
const MATTERING: &str = "
    SELECT * FROM workflow_pauses
    WHERE ended_at IS NULL
       OR ended_at > (
           SELECT MIN(t.updated_at) FROM tasks AS t
           WHERE t.task_id IN (SELECT value FROM json_each(?1)))";

const SET: &str = "
    INSERT INTO workflow_pauses (pause_id, workflow, reason, since, until, ended_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (pause_id) DO UPDATE SET
        reason = excluded.reason, until = excluded.until, ended_at = excluded.ended_at";

const FORGET: &str = "DELETE FROM workflow_pauses";

async fn pauses(
    connection: &mut SqliteConnection,
    sql: &'static str,
) -> Result<Vec<WorkflowPause>, EventStoreError> {
    sqlx::query(sql)
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(rows::pause)
        .collect()
}

/// Pauses that can still matter to a batch of tasks.
pub(super) async fn mattering(
    connection: &mut SqliteConnection,
    tasks: &[TaskId],
) -> Result<Vec<WorkflowPause>, EventStoreError> {
    sqlx::query(MATTERING)
        .bind(array(tasks)?)
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(rows::pause)
        .collect()
}

async fn set(
    connection: &mut SqliteConnection,
    pauses: &[WorkflowPause],
) -> Result<(), EventStoreError> {
    let at = |time: Option<DateTime<Utc>>| time.map(micros);
    // One statement a row: a pause is closed before the next one of its workflow is opened.
    for pause in pauses {
        let reason = pause.reason.as_deref().map(plain).transpose()?;
        let row = (
            pause.pause_id,
            &pause.workflow,
            reason,
            micros(pause.since),
            at(pause.until),
            at(pause.ended_at),
        );
        sqlx::query(SET)
            .bind(array(&[row])?)
            .execute(&mut *connection)
            .await
            .map_err(EventStoreError::from_sqlite)?;
    }
    Ok(())
}

async fn acts(connection: &mut SqliteConnection) -> Result<Vec<CommandRow>, EventStoreError> {
    sqlx::query(ACTS)
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(rows::command)
        .collect()
}

#[async_trait]
impl ActLog for SqliteEventStore {
    async fn act(
        &self,
        id: CommandId,
        workflow: &WorkflowId,
        decide: ActDecision,
    ) -> Result<CommandRow, EventStoreError> {
        let (store, workflow) = (self.clone(), workflow.clone());
        detached(async move {
            let mut tx = store.begin().await?;
            let known = sqlx::query(KNOWN)
                .bind(id.0.hyphenated())
                .fetch_optional(&mut *tx)
                .await
                .map_err(EventStoreError::from_sqlite)?;
            if let Some(known) = known {
                return rows::command(&known);
            }
            let pause = sqlx::query(OPEN_OF)
                .bind(workflow.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(EventStoreError::from_sqlite)?;
            let now = store.now();
            let facts = ActFacts {
                now,
                pause: pause.as_ref().map(rows::pause).transpose()?,
            };
            let written = decide(facts);
            write::records(&mut tx, &[&written.record]).await?;
            set(&mut tx, &written.pauses).await?;
            enqueue(&mut tx, &written.messages, now).await?;
            commit(tx).await?;
            Ok(written.record.into())
        })
        .await
    }

    async fn acts(&self) -> Result<Vec<CommandRow>, EventStoreError> {
        let mut connection = self
            .readers()
            .acquire()
            .await
            .map_err(EventStoreError::from_sqlite)?;
        acts(&mut connection).await
    }

    async fn workflow_pauses(
        &self,
    ) -> Result<(Vec<WorkflowPause>, Vec<WorkflowPause>), EventStoreError> {
        let mut connection = self
            .readers()
            .acquire()
            .await
            .map_err(EventStoreError::from_sqlite)?;
        let open = pauses(&mut connection, OPEN).await?;
        let now = self.now();
        Ok(open.into_iter().partition(|pause| pause.holds_at(now)))
    }

    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let mut wanted = derive(&acts(&mut tx).await?);
            let found = pauses(&mut tx, ALL).await;
            let mut sorted = wanted.clone();
            sorted.sort_unstable_by_key(|pause| pause.pause_id.0.hyphenated().to_string());
            if found.is_ok_and(|found| found == sorted) {
                return Ok(false);
            }
            sqlx::query(FORGET)
                .execute(&mut *tx)
                .await
                .map_err(EventStoreError::from_sqlite)?;
            // Closed ones first: a workflow has one that is open.
            wanted.sort_by_key(|pause| pause.ended_at.is_none());
            set(&mut tx, &wanted).await?;
            commit(tx).await?;
            Ok(true)
        })
        .await
    }
}
