//! What reached goals set off outside.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::{PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, GoalActionOutcome, GoalActionRow, GoalActionStatus, GoalStore,
        NewGoalAction,
    },
    PgEventStore,
    connection::WORK_TIMEOUT,
    error::classify,
    rows::{to_json, unsigned},
    tasks::{int, slug, unreadable},
};

const ADD: &str = "
    INSERT INTO goal_work (id, workflow, goal, epoch, action, payload)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb)
    ON CONFLICT (id) DO NOTHING";

const CLAIM: &str = "
    WITH free AS (
        SELECT id FROM goal_work
        WHERE status = 'waiting' AND due_at <= statement_timestamp()
        ORDER BY due_at LIMIT $2
        FOR UPDATE SKIP LOCKED
    )
    UPDATE goal_work w SET due_at = clock_timestamp() + make_interval(secs => $1)
    FROM free WHERE w.id = free.id
    RETURNING w.id, workflow, goal, epoch, action, payload::text AS payload, status, attempts,
              last_error, changed_at";

const SETTLE: &str = "
    UPDATE goal_work
    SET status = $2, attempts = attempts + $3, last_error = coalesce($4, last_error),
        due_at = clock_timestamp() + make_interval(secs => $5), changed_at = clock_timestamp()
    WHERE id = $1";

const ALL: &str = "
    SELECT id, workflow, goal, epoch, action, payload::text AS payload, status, attempts,
           last_error, changed_at
    FROM goal_work ORDER BY workflow, goal, epoch, action, id";

/// Adds actions that are not known yet.
pub(super) async fn add(
    conn: &mut PgConnection,
    actions: &[NewGoalAction],
) -> Result<(), EventStoreError> {
    for action in actions {
        sqlx::query(ADD)
            .bind(action.id)
            .bind(action.workflow.as_str())
            .bind(action.goal.as_str())
            .bind(i32::try_from(action.epoch).unwrap_or(i32::MAX))
            .bind(&action.action)
            .bind(to_json(&action.payload)?)
            .execute(&mut *conn)
            .await
            .map_err(classify)?;
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
        let rows = self
            .run(WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    sqlx::query(CLAIM)
                        .bind(lease.as_secs_f64())
                        .bind(i64::from(limit))
                        .fetch_all(conn)
                        .await
                        .map_err(classify)
                })
            })
            .await?;
        rows.iter().map(row).collect()
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
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let done = sqlx::query(SETTLE)
                    .bind(id)
                    .bind(status.as_str())
                    .bind(i32::from(error.is_some()))
                    .bind(error)
                    .bind(after.as_secs_f64())
                    .execute(conn)
                    .await;
                done.map(drop).map_err(classify)
            })
        })
        .await
    }

    async fn goal_actions(&self) -> Result<Vec<GoalActionRow>, EventStoreError> {
        let rows = self
            .run(WORK_TIMEOUT, |conn| {
                Box::pin(async move { sqlx::query(ALL).fetch_all(conn).await.map_err(classify) })
            })
            .await?;
        rows.iter().map(row).collect()
    }
}

/// A status that no build has written.
#[derive(Debug, thiserror::Error)]
#[error("there is no status `{0}`")]
struct UnknownStatus(String);

fn row(row: &PgRow) -> Result<GoalActionRow, EventStoreError> {
    let table = "goal_work";
    let payload: &str = row.try_get("payload").map_err(classify)?;
    let status: &str = row.try_get("status").map_err(classify)?;
    Ok(GoalActionRow {
        action: NewGoalAction {
            id: row.try_get("id").map_err(classify)?,
            workflow: slug(table, row.try_get("workflow").map_err(classify)?)?,
            goal: slug(table, row.try_get("goal").map_err(classify)?)?,
            epoch: unsigned(table, int(row, "epoch")?)?,
            action: row.try_get("action").map_err(classify)?,
            payload: serde_json::from_str(payload).map_err(|error| unreadable(table, error))?,
        },
        status: GoalActionStatus::from_name(status)
            .ok_or_else(|| unreadable(table, UnknownStatus(status.to_owned())))?,
        attempts: unsigned(table, int(row, "attempts")?)?,
        last_error: row.try_get("last_error").map_err(classify)?,
        changed_at: row.try_get("changed_at").map_err(classify)?,
    })
}
