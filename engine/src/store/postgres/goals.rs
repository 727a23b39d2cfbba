//! Goals: a projection of the log.

use async_trait::async_trait;
use sqlx::{PgConnection, Row};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    super::{
        EventStoreError, GoalProgressRow, GoalProjection, GoalStore, LogEntry, LogPosition,
        NewOutboxRow,
    },
    PgEventStore,
    codec::unsigned,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT, spawned, timed_out},
    error::classify,
    index::{int, slug},
    outbox,
    streams::read_log,
};

const LOCK: &str = "
    SELECT pg_try_advisory_xact_lock(hashtextextended('glyph goals ' || current_schema(), 0))";

const CHECKPOINT: &str =
    "SELECT txid::text::bigint, position FROM projections WHERE name = 'goals'";

const MOVE: &str = "
    INSERT INTO projections (name, txid, position) VALUES ('goals', $1::text::xid8, $2)
    ON CONFLICT (name) DO UPDATE SET txid = excluded.txid, position = excluded.position";

const GOALS: &str = "
    SELECT workflow, goal, epoch, target, current, completed_at FROM goals ORDER BY workflow, goal";

const UPSERT: &str = "
    INSERT INTO goals (workflow, goal, epoch, target, current, completed_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (workflow, goal) DO UPDATE
    SET epoch = excluded.epoch, target = excluded.target, current = excluded.current,
        completed_at = excluded.completed_at";

/// Answers what was not caused before.
const CAUSE: &str = "
    INSERT INTO goal_actions (message_id, message_type, routing_key)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])
    ON CONFLICT (message_id) DO NOTHING RETURNING message_id";

/// What was read for a step of the projection.
struct Step {
    tx: sqlx::Transaction<'static, sqlx::Postgres>,
    rows: Vec<GoalProgressRow>,
    entries: Vec<LogEntry>,
}

#[async_trait]
impl GoalStore for PgEventStore {
    async fn project_goals(
        &self,
        project: &(dyn for<'e> Fn(Vec<GoalProgressRow>, &'e [LogEntry]) -> GoalProjection + Sync),
        limit: u32,
    ) -> Result<Option<usize>, EventStoreError> {
        let pool = self.pool.clone();
        // The closure is the caller's, so it runs here, between two halves that nobody can cancel.
        // Dropped in between, the transaction rolls back and the step is taken again.
        let step = spawned(async move {
            let mut tx = pool.begin().await.map_err(classify)?;
            let read = timeout(LONG_WORK_TIMEOUT, read_step(&mut tx, limit)).await;
            match read {
                Ok(Ok(Some((rows, entries)))) => Ok(Some(Step { tx, rows, entries })),
                Ok(Ok(None)) => Ok(None),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(timed_out(LONG_WORK_TIMEOUT)),
            }
        })
        .await?;
        let Some(Step {
            mut tx,
            rows,
            entries,
        }) = step
        else {
            return Ok(None);
        };
        let Some(last) = entries.last().map(|entry| entry.position) else {
            return Ok(Some(0));
        };
        let GoalProjection { rows, messages } = project(rows, &entries);
        let count = entries.len();
        spawned(async move {
            let written = timeout(WORK_TIMEOUT, async {
                write_step(&mut tx, last, &rows, messages).await?;
                // Unknown is as good as failed: the checkpoint tells the next step.
                tx.commit().await.map_err(classify)
            });
            match written.await {
                Ok(written) => written,
                Err(_) => Err(timed_out(WORK_TIMEOUT)),
            }
        })
        .await?;
        Ok(Some(count))
    }

    async fn goals(&self) -> Result<Vec<GoalProgressRow>, EventStoreError> {
        self.run(WORK_TIMEOUT, |conn| Box::pin(goals(conn))).await
    }
}

type Found = (Vec<GoalProgressRow>, Vec<LogEntry>);

/// `None` where another process is at it.
async fn read_step(conn: &mut PgConnection, limit: u32) -> Result<Option<Found>, EventStoreError> {
    let locked: bool = sqlx::query_scalar(LOCK)
        .fetch_one(&mut *conn)
        .await
        .map_err(classify)?;
    if !locked {
        return Ok(None);
    }
    let checkpoint: Option<(i64, i64)> = sqlx::query_as(CHECKPOINT)
        .fetch_optional(&mut *conn)
        .await
        .map_err(classify)?;
    let after = checkpoint.map_or_else(LogPosition::default, |(transaction, position)| {
        LogPosition {
            transaction,
            position,
        }
    });
    let entries = read_log(conn, after, limit).await?;
    Ok(Some((goals(conn).await?, entries)))
}

async fn write_step(
    conn: &mut PgConnection,
    last: LogPosition,
    rows: &[GoalProgressRow],
    messages: Vec<NewOutboxRow>,
) -> Result<(), EventStoreError> {
    for row in rows {
        sqlx::query(UPSERT)
            .bind(row.workflow.as_str())
            .bind(row.goal.as_str())
            .bind(i32::try_from(row.epoch).unwrap_or(i32::MAX))
            .bind(row.target)
            .bind(row.current)
            .bind(row.completed_at)
            .execute(&mut *conn)
            .await
            .map_err(classify)?;
    }
    if !messages.is_empty() {
        let new: Vec<Uuid> = sqlx::query_scalar(CAUSE)
            .bind(
                messages
                    .iter()
                    .map(|message| message.message_id)
                    .collect::<Vec<_>>(),
            )
            .bind(
                messages
                    .iter()
                    .map(|message| message.message_type)
                    .collect::<Vec<_>>(),
            )
            .bind(
                messages
                    .iter()
                    .map(|message| message.routing_key.as_str())
                    .collect::<Vec<_>>(),
            )
            .fetch_all(&mut *conn)
            .await
            .map_err(classify)?;
        let new: Vec<NewOutboxRow> = messages
            .into_iter()
            .filter(|message| new.contains(&message.message_id))
            .collect();
        outbox::enqueue(conn, &new).await?;
    }
    sqlx::query(MOVE)
        .bind(last.transaction.to_string())
        .bind(last.position)
        .execute(conn)
        .await
        .map_err(classify)?;
    Ok(())
}

async fn goals(conn: &mut PgConnection) -> Result<Vec<GoalProgressRow>, EventStoreError> {
    let rows = sqlx::query(GOALS).fetch_all(conn).await.map_err(classify)?;
    rows.iter()
        .map(|row| {
            Ok(GoalProgressRow {
                workflow: slug("goals", row.try_get("workflow").map_err(classify)?)?,
                goal: slug("goals", row.try_get("goal").map_err(classify)?)?,
                epoch: unsigned("goals", int(row, "epoch")?)?,
                target: row.try_get("target").map_err(classify)?,
                current: row.try_get("current").map_err(classify)?,
                completed_at: row.try_get("completed_at").map_err(classify)?,
            })
        })
        .collect()
}
