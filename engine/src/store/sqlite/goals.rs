//! External actions that reached goals trigger.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, GoalActionOutcome, GoalActionRow, GoalStore, NewGoalAction,
        goals::Settlement, rows,
    },
    connection::{SqliteEventStore, commit, detached},
    query::{execute, fetch},
    rows::{json, later, micros, plain},
};

const ADD: &str = "
    INSERT INTO goal_actions (id, workflow, goal, epoch, action, payload, due_at, changed_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7)
    ON CONFLICT (id) DO NOTHING";

/// Queried on a reading connection, so an idle runner does not block writers.
const CLAIMABLE: &str =
    "SELECT EXISTS (SELECT 1 FROM goal_actions WHERE status = 'waiting' AND due_at <= ?1)";

const CLAIM: &str = "
    UPDATE goal_actions SET due_at = ?2
    WHERE id IN (
        SELECT id FROM goal_actions WHERE status = 'waiting' AND due_at <= ?1
        ORDER BY due_at LIMIT ?3
    )
    RETURNING *";

const SETTLE: &str = "
    UPDATE goal_actions
    SET status = ?2, attempts = attempts + ?3, last_error = COALESCE(?4, last_error), due_at = ?5,
        changed_at = ?6
    WHERE id = ?1";

const ALL: &str = "SELECT * FROM goal_actions ORDER BY workflow, goal, epoch, action, id";

/// Adds actions that are not known yet.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    actions: &[NewGoalAction],
    now: DateTime<Utc>,
) -> Result<(), EventStoreError> {
    for action in actions {
        let query = sqlx::query(ADD)
            .bind(action.id.hyphenated())
            .bind(action.workflow.as_str())
            .bind(action.goal.as_str())
            .bind(i64::from(action.epoch))
            .bind(plain(&action.action)?)
            .bind(json(&action.payload)?)
            .bind(micros(now));
        execute(connection, query).await?;
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
        let query = sqlx::query(CLAIMABLE).bind(micros(self.now()));
        if !self.scalar::<bool>(query).await? {
            return Ok(Vec::new());
        }
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let now = store.now();
            let query = sqlx::query(CLAIM)
                .bind(micros(now))
                .bind(later(now, lease))
                .bind(i64::from(limit));
            let claimed = fetch(&mut *tx, query, rows::goal_action).await?;
            commit(tx).await?;
            Ok(claimed)
        })
        .await
    }

    async fn settle_goal_action(
        &self,
        id: Uuid,
        outcome: GoalActionOutcome,
    ) -> Result<(), EventStoreError> {
        let settlement = Settlement::from(outcome);
        let now = self.now();
        let query = sqlx::query(SETTLE)
            .bind(id.hyphenated())
            .bind(settlement.status.as_str())
            .bind(i64::from(settlement.error.is_some()))
            .bind(settlement.error.as_deref().map(plain).transpose()?)
            .bind(later(now, settlement.after))
            .bind(micros(now));
        self.execute(query).await
    }

    async fn goal_actions(&self) -> Result<Vec<GoalActionRow>, EventStoreError> {
        self.fetch(sqlx::query(ALL), rows::goal_action).await
    }
}
