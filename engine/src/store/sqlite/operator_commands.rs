//! Operators' acts, and the pauses of workflows that follow from them.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;

use super::{
    super::{
        ActFacts, ActLog, AnnotatorPause, CommandRow, DerivePauses, EventStoreError, Pauses,
        PlannedAct, WorkflowPause,
    },
    connection::{SqliteEventStore, commit, detached},
    outbox::enqueue,
    rows::{self, array, micros, plain},
    write,
};
use crate::ids::{CommandId, TaskId, UserId};

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

async fn of_annotators(
    connection: &mut SqliteConnection,
    user: Option<UserId>,
) -> Result<Vec<AnnotatorPause>, EventStoreError> {
    sqlx::query(OF_ANNOTATORS)
        .bind(user.map(|user| user.0.hyphenated()))
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(rows::annotator_pause)
        .collect()
}

async fn set(connection: &mut SqliteConnection, pauses: &Pauses) -> Result<(), EventStoreError> {
    let at = |time: Option<DateTime<Utc>>| time.map(micros);
    // One statement a row: a pause is closed before the next one of its workflow is opened.
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
        sqlx::query(SET)
            .bind(array(&[row])?)
            .execute(&mut *connection)
            .await
            .map_err(EventStoreError::from_sqlite)?;
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
        sqlx::query(SET_ANNOTATOR)
            .bind(array(&[row])?)
            .execute(&mut *connection)
            .await
            .map_err(EventStoreError::from_sqlite)?;
    }
    Ok(())
}

/// Decides an act in a transaction, which is the only one that writes, and writes what it leads to.
pub(super) async fn act_in(
    connection: &mut SqliteConnection,
    act: PlannedAct,
    now: DateTime<Utc>,
) -> Result<CommandRow, EventStoreError> {
    let PlannedAct {
        id,
        subject,
        decide,
    } = act;
    let known = sqlx::query(KNOWN)
        .bind(id.0.hyphenated())
        .fetch_optional(&mut *connection)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    if let Some(known) = known {
        return rows::command(&known);
    }
    let pause = sqlx::query(OPEN_OF)
        .bind(subject.workflow.as_str())
        .fetch_optional(&mut *connection)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    let annotator = sqlx::query(NEWEST_OF_ANNOTATOR)
        .bind(subject.workflow.as_str())
        .bind(subject.user_id.map(|user| user.0.hyphenated()))
        .fetch_optional(&mut *connection)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    let written = decide(ActFacts {
        now,
        pause: pause.as_ref().map(rows::pause).transpose()?,
        annotator: annotator.as_ref().map(rows::annotator_pause).transpose()?,
    });
    write::records(connection, &[&written.record]).await?;
    set(connection, &written.pauses).await?;
    enqueue(connection, &written.messages, now).await?;
    Ok(written.record.into())
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
    async fn act(&self, act: PlannedAct) -> Result<CommandRow, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let row = act_in(&mut tx, act, store.now()).await?;
            commit(tx).await?;
            Ok(row)
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

    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError> {
        let mut connection = self
            .readers()
            .acquire()
            .await
            .map_err(EventStoreError::from_sqlite)?;
        of_annotators(&mut connection, user).await
    }

    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError> {
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let mut wanted = derive(&acts(&mut tx).await?);
            let id = |pause: CommandId| pause.0.hyphenated().to_string();
            wanted.workflows.sort_by_cached_key(|p| id(p.pause_id));
            wanted.annotators.sort_by_key(AnnotatorPause::age);
            let found = pauses(&mut tx, ALL).await;
            let annotators = of_annotators(&mut tx, None).await;
            if found.is_ok_and(|found| found == wanted.workflows)
                && annotators.is_ok_and(|found| found == wanted.annotators)
            {
                return Ok(false);
            }
            for sql in FORGET {
                sqlx::query(sql)
                    .execute(&mut *tx)
                    .await
                    .map_err(EventStoreError::from_sqlite)?;
            }
            set(&mut tx, &wanted).await?;
            commit(tx).await?;
            Ok(true)
        })
        .await
    }
}
