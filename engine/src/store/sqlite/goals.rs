//! Goals and their progress: a projection of the log.

use std::collections::HashSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    super::{EventStoreError, GoalProgressRow, GoalProjection, GoalStore, LogEntry, NewOutboxRow},
    outbox::enqueue,
    read::log_after,
    rows::{self, array, micros},
    store::{SqliteEventStore, commit, detached},
};

const BEHIND: &str = "
    SELECT EXISTS (
        SELECT 1 FROM workflow_events
        WHERE position > COALESCE((SELECT position FROM projections WHERE name = 'goals'), 0)
    )";

const CHECKPOINT: &str =
    "SELECT COALESCE((SELECT position FROM projections WHERE name = 'goals'), 0)";

const SET_CHECKPOINT: &str = "
    INSERT INTO projections (name, position) VALUES ('goals', ?1)
    ON CONFLICT (name) DO UPDATE SET position = excluded.position";

const GOALS: &str = "SELECT * FROM goals ORDER BY workflow, goal";

const SET_GOALS: &str = "
    INSERT INTO goals (workflow, goal, epoch, target, current, completed_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (workflow, goal) DO UPDATE SET
        epoch = excluded.epoch, target = excluded.target, current = excluded.current,
        completed_at = excluded.completed_at";

/// Answers the messages that no earlier reading of the log has caused.
const SET_ACTIONS: &str = "
    INSERT INTO goal_actions (message_id, message_type, routing_key, caused_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, ?2
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (message_id) DO NOTHING
    RETURNING message_id";

pub(super) const FORGET_GOALS: &str = "DELETE FROM goals";
pub(super) const FORGET_CHECKPOINT: &str = "DELETE FROM projections WHERE name = 'goals'";

async fn all(connection: &mut SqliteConnection) -> Result<Vec<GoalProgressRow>, EventStoreError> {
    sqlx::query(GOALS)
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .iter()
        .map(rows::goal)
        .collect()
}

/// What a step of the projection works on, with the transaction that writes its result.
type Step = (
    Transaction<'static, Sqlite>,
    Vec<GoalProgressRow>,
    Vec<LogEntry>,
);

async fn next_step(store: SqliteEventStore, limit: u32) -> Result<Option<Step>, EventStoreError> {
    let behind: bool = sqlx::query_scalar(BEHIND)
        .fetch_one(store.readers())
        .await
        .map_err(EventStoreError::from_sqlite)?;
    if !behind || limit == 0 {
        return Ok(None);
    }
    let mut tx = store.begin().await?;
    let position = sqlx::query_scalar(CHECKPOINT)
        .fetch_one(&mut *tx)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    let entries = log_after(&mut tx, position, limit).await?;
    let goals = all(&mut tx).await?;
    Ok(Some((tx, goals, entries)))
}

async fn not_yet_caused(
    connection: &mut SqliteConnection,
    mut messages: Vec<NewOutboxRow>,
    now: DateTime<Utc>,
) -> Result<Vec<NewOutboxRow>, EventStoreError> {
    if messages.is_empty() {
        return Ok(messages);
    }
    let rows: Vec<_> = messages
        .iter()
        .map(|m| (m.message_id, m.message_type, &m.routing_key))
        .collect();
    let new: HashSet<Uuid> = sqlx::query_scalar(SET_ACTIONS)
        .bind(array(&rows)?)
        .bind(micros(now))
        .fetch_all(connection)
        .await
        .map_err(EventStoreError::from_sqlite)?
        .into_iter()
        .map(Hyphenated::into_uuid)
        .collect();
    messages.retain(|message| new.contains(&message.message_id));
    Ok(messages)
}

async fn write_step(
    store: SqliteEventStore,
    mut tx: Transaction<'static, Sqlite>,
    result: GoalProjection,
    position: i64,
) -> Result<(), EventStoreError> {
    let goals: Vec<_> = result
        .rows
        .iter()
        .map(|row| {
            let completed_at = row.completed_at.map(micros);
            (
                &row.workflow,
                &row.goal,
                row.epoch,
                row.target,
                row.current,
                completed_at,
            )
        })
        .collect();
    if !goals.is_empty() {
        sqlx::query(SET_GOALS)
            .bind(array(&goals)?)
            .execute(&mut *tx)
            .await
            .map_err(EventStoreError::from_sqlite)?;
    }
    let messages = not_yet_caused(&mut tx, result.messages, store.now()).await?;
    enqueue(&mut tx, &messages, store.now()).await?;
    sqlx::query(SET_CHECKPOINT)
        .bind(position)
        .execute(&mut *tx)
        .await
        .map_err(EventStoreError::from_sqlite)?;
    commit(tx).await
}

#[async_trait]
impl GoalStore for SqliteEventStore {
    /// Two processes wait for each other, as writers do, so the answer is never `None`.
    async fn project_goals(
        &self,
        project: &(dyn for<'e> Fn(Vec<GoalProgressRow>, &'e [LogEntry]) -> GoalProjection + Sync),
        limit: u32,
    ) -> Result<Option<usize>, EventStoreError> {
        let Some((tx, goals, entries)) = detached(next_step(self.clone(), limit)).await? else {
            return Ok(Some(0));
        };
        let Some(last) = entries.last() else {
            return Ok(Some(0));
        };
        let result = project(goals, &entries);
        detached(write_step(self.clone(), tx, result, last.position.position)).await?;
        Ok(Some(entries.len()))
    }

    async fn goals(&self) -> Result<Vec<GoalProgressRow>, EventStoreError> {
        let mut connection = self
            .readers()
            .acquire()
            .await
            .map_err(EventStoreError::from_sqlite)?;
        all(&mut connection).await
    }
}
