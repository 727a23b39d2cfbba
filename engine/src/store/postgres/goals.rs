//! External actions that reached goals trigger.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, GoalActionOutcome, GoalActionRow, GoalStore, NewGoalAction,
        goals::Settlement, rows,
    },
    PgEventStore,
    connection::WORK_TIMEOUT,
    query::execute,
    rows::to_json,
};

/// The columns of an action, with its payload as text; the table is `w` in the statement.
macro_rules! goal_action_columns {
    () => {
        "w.id, w.workflow, w.goal, w.epoch, w.action, w.payload::text AS payload, w.status, \
         w.attempts, w.last_error, w.changed_at"
    };
}

const ADD: &str = "
    INSERT INTO goal_actions (id, workflow, goal, epoch, action, payload)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb)
    ON CONFLICT (id) DO NOTHING";

const CLAIM: &str = concat!(
    "
    WITH free AS (
        SELECT id FROM goal_actions
        WHERE status = 'waiting' AND due_at <= statement_timestamp()
        ORDER BY due_at LIMIT $2
        FOR UPDATE SKIP LOCKED
    )
    UPDATE goal_actions w SET due_at = clock_timestamp() + make_interval(secs => $1)
    FROM free WHERE w.id = free.id
    RETURNING ",
    goal_action_columns!()
);

const SETTLE: &str = "
    UPDATE goal_actions
    SET status = $2, attempts = attempts + $3, last_error = coalesce($4, last_error),
        due_at = clock_timestamp() + make_interval(secs => $5), changed_at = clock_timestamp()
    WHERE id = $1";

const ALL: &str = concat!(
    "SELECT ",
    goal_action_columns!(),
    " FROM goal_actions w ORDER BY workflow, goal, epoch, action, id"
);

/// Adds actions that are not known yet.
pub(super) async fn add(
    conn: &mut PgConnection,
    actions: &[NewGoalAction],
) -> Result<(), EventStoreError> {
    for action in actions {
        let query = sqlx::query(ADD)
            .bind(action.id)
            .bind(action.workflow.as_str())
            .bind(action.goal.as_str())
            .bind(i32::try_from(action.epoch).unwrap_or(i32::MAX))
            .bind(&action.action)
            .bind(to_json(&action.payload)?);
        execute(conn, query).await?;
    }
    Ok(())
}

#[async_trait]
impl GoalStore for PgEventStore {
    async fn claim_goal_actions(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<GoalActionRow>, EventStoreError> {
        let query = sqlx::query(CLAIM)
            .bind(lease.as_secs_f64())
            .bind(i64::from(limit));
        self.fetch(WORK_TIMEOUT, query, rows::goal_action).await
    }

    async fn settle_goal_action(
        &self,
        id: Uuid,
        outcome: GoalActionOutcome,
    ) -> Result<(), EventStoreError> {
        let settlement = Settlement::from(outcome);
        let query = sqlx::query(SETTLE)
            .bind(id)
            .bind(settlement.status.as_str())
            .bind(i32::from(settlement.error.is_some()))
            .bind(settlement.error)
            .bind(settlement.after.as_secs_f64());
        self.execute(WORK_TIMEOUT, query).await
    }

    async fn goal_actions(&self) -> Result<Vec<GoalActionRow>, EventStoreError> {
        self.fetch(WORK_TIMEOUT, sqlx::query(ALL), rows::goal_action)
            .await
    }
}
