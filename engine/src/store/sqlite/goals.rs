//! What reached goals set off outside.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, GoalActionOutcome, GoalActionRow, GoalActionStatus, GoalStore,
        NewGoalAction,
    },
    connection::{SqliteEventStore, commit, detached},
    outbox::later,
    rows::{Columns, json, micros, plain},
};

const ADD: &str = "
    INSERT INTO goal_work (id, workflow, goal, epoch, action, payload, due_at, changed_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
    ON CONFLICT (id) DO NOTHING";

/// Asked of a connection that reads, so that an idle runner does not keep writers waiting.
const CLAIMABLE: &str =
    "SELECT EXISTS (SELECT 1 FROM goal_work WHERE status = 'waiting' AND due_at <= ?1)";

const CLAIM: &str = "
    UPDATE goal_work SET due_at = ?2
    WHERE id IN (
        SELECT id FROM goal_work WHERE status = 'waiting' AND due_at <= ?1
        ORDER BY due_at LIMIT ?3
    )
    RETURNING *";

const SETTLE: &str = "
    UPDATE goal_work
    SET status = ?2, attempts = attempts + ?3, last_error = COALESCE(?4, last_error), due_at = ?5,
        changed_at = ?6
    WHERE id = ?1";

const ALL: &str = "SELECT * FROM goal_work ORDER BY workflow, goal, epoch, action, id";

/// Adds actions that are not known yet.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    actions: &[NewGoalAction],
    now: DateTime<Utc>,
) -> Result<(), EventStoreError> {
    for action in actions {
        sqlx::query(ADD)
            .bind(action.id.hyphenated())
            .bind(action.workflow.as_str())
            .bind(action.goal.as_str())
            .bind(i64::from(action.epoch))
            .bind(plain(&action.action)?)
            .bind(json(&action.payload)?)
            .bind(micros(now))
            .execute(&mut *connection)
            .await
            .map_err(EventStoreError::from_sqlite)?;
    }
    Ok(())
}

#[async_trait]
impl GoalStore for SqliteEventStore {
    async fn claim_goal_actions(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<GoalActionRow>, EventStoreError> {
        let claimable: bool = sqlx::query_scalar(CLAIMABLE)
            .bind(micros(self.now()))
            .fetch_one(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?;
        if !claimable {
            return Ok(Vec::new());
        }
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let now = store.now();
            let rows = sqlx::query(CLAIM)
                .bind(micros(now))
                .bind(later(now, lease))
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await
                .map_err(EventStoreError::from_sqlite)?;
            commit(tx).await?;
            rows.iter().map(row).collect()
        })
        .await
    }

    async fn settle_goal_action(
        &self,
        id: Uuid,
        outcome: GoalActionOutcome,
    ) -> Result<(), EventStoreError> {
        let (status, error, after) = match outcome {
            GoalActionOutcome::Done => (GoalActionStatus::Done, None, Duration::ZERO),
            GoalActionOutcome::Retry { error, after } => {
                (GoalActionStatus::Waiting, Some(error), after)
            }
            GoalActionOutcome::Failed { error } => {
                (GoalActionStatus::Failed, Some(error), Duration::ZERO)
            }
        };
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let now = store.now();
            sqlx::query(SETTLE)
                .bind(id.hyphenated())
                .bind(status.as_str())
                .bind(i64::from(error.is_some()))
                .bind(error.as_deref().map(plain).transpose()?)
                .bind(later(now, after))
                .bind(micros(now))
                .execute(&mut *tx)
                .await
                .map_err(EventStoreError::from_sqlite)?;
            commit(tx).await
        })
        .await
    }

    async fn goal_actions(&self) -> Result<Vec<GoalActionRow>, EventStoreError> {
        sqlx::query(ALL)
            .fetch_all(self.readers())
            .await
            .map_err(EventStoreError::from_sqlite)?
            .iter()
            .map(row)
            .collect()
    }
}

fn row(row: &SqliteRow) -> Result<GoalActionRow, EventStoreError> {
    let columns = Columns::of("goal_work", row);
    let status: &str = columns.get("status")?;
    Ok(GoalActionRow {
        action: NewGoalAction {
            id: columns.uuid("id")?,
            workflow: columns.slug("workflow")?,
            goal: columns.slug("goal")?,
            epoch: columns.unsigned("epoch")?,
            action: columns.get("action")?,
            payload: columns.json("payload")?,
        },
        status: GoalActionStatus::from_name(status)
            .ok_or_else(|| columns.bad("status", &status))?,
        attempts: columns.unsigned("attempts")?,
        last_error: columns.get("last_error")?,
        changed_at: columns.time("changed_at")?,
    })
}
