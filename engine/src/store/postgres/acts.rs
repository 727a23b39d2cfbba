//! Operators' acts, and the pauses of workflows that follow from them.

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};

use super::{
    super::{
        ActDecision, ActFacts, ActLog, CommandRow, DerivePauses, EventStoreError, RecordedOutcome,
        WorkflowPause,
    },
    PgEventStore,
    codec::to_json,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    error::{classify, classify_commit},
    index::{command_row, slug},
    outbox::enqueue,
};
use crate::ids::{CommandId, WorkflowId};

/// One act at a time, in any process.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('glyph acts ' || current_schema(), 0))";

/// A statement after the lock, so a snapshot under it.
const NOW: &str = "SELECT clock_timestamp()";

const KNOWN: &str = "
    SELECT command_id, task_id, type, outcome, reason, detail, result::text AS result,
           content_hash, payload::text AS payload, decided_at
    FROM commands WHERE command_id = $1";

const ACTS: &str = "
    SELECT command_id, task_id, type, outcome, reason, detail, result::text AS result,
           content_hash, payload::text AS payload, decided_at
    FROM commands WHERE task_id IS NULL AND outcome = 'applied'
    ORDER BY decided_at, command_id";

const RECORD: &str = "
    INSERT INTO commands
        (command_id, task_id, type, outcome, reason, detail, result, content_hash, payload,
         decided_at)
    VALUES ($1, NULL, $2, $3, $4, $5, $6::jsonb, $7, $8::jsonb, $9)";

const OPEN: &str = "
    SELECT pause_id, workflow, reason, since, until, ended_at,
           until IS NULL OR until > statement_timestamp() AS holds
    FROM workflow_pauses WHERE ended_at IS NULL ORDER BY workflow";

const OPEN_OF: &str = "
    SELECT pause_id, workflow, reason, since, until, ended_at
    FROM workflow_pauses WHERE ended_at IS NULL AND workflow = $1";

const ALL: &str = "
    SELECT pause_id, workflow, reason, since, until, ended_at
    FROM workflow_pauses ORDER BY pause_id";

const SET: &str = "
    INSERT INTO workflow_pauses (pause_id, workflow, reason, since, until, ended_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (pause_id) DO UPDATE
    SET reason = excluded.reason, until = excluded.until, ended_at = excluded.ended_at";

const FORGET: &str = "DELETE FROM workflow_pauses";

/// A row of `workflow_pauses`.
pub(super) fn pause_row(row: &PgRow) -> Result<WorkflowPause, EventStoreError> {
    Ok(WorkflowPause {
        pause_id: CommandId(row.try_get("pause_id").map_err(classify)?),
        workflow: slug(
            "workflow_pauses",
            row.try_get("workflow").map_err(classify)?,
        )?,
        reason: row.try_get("reason").map_err(classify)?,
        since: row.try_get("since").map_err(classify)?,
        until: row.try_get("until").map_err(classify)?,
        ended_at: row.try_get("ended_at").map_err(classify)?,
    })
}

async fn set(conn: &mut PgConnection, pauses: &[WorkflowPause]) -> Result<(), EventStoreError> {
    // One statement a row: a pause is closed before the next one of its workflow is opened.
    for pause in pauses {
        sqlx::query(SET)
            .bind(pause.pause_id.0)
            .bind(pause.workflow.as_str())
            .bind(pause.reason.as_deref())
            .bind(pause.since)
            .bind(pause.until)
            .bind(pause.ended_at)
            .execute(&mut *conn)
            .await
            .map_err(classify)?;
    }
    Ok(())
}

async fn acts(conn: &mut PgConnection) -> Result<Vec<CommandRow>, EventStoreError> {
    let rows = sqlx::query(ACTS).fetch_all(conn).await.map_err(classify)?;
    rows.iter().map(command_row).collect()
}

async fn act(
    conn: &mut PgConnection,
    id: CommandId,
    workflow: &WorkflowId,
    decide: ActDecision,
) -> Result<CommandRow, EventStoreError> {
    let mut tx = conn.begin().await.map_err(classify)?;
    sqlx::query(LOCK)
        .execute(&mut *tx)
        .await
        .map_err(classify)?;
    let known = sqlx::query(KNOWN)
        .bind(id.0)
        .fetch_optional(&mut *tx)
        .await
        .map_err(classify)?;
    if let Some(known) = known {
        return command_row(&known);
    }
    let pause = sqlx::query(OPEN_OF)
        .bind(workflow.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(classify)?;
    let facts = ActFacts {
        now: sqlx::query_scalar(NOW)
            .fetch_one(&mut *tx)
            .await
            .map_err(classify)?,
        pause: pause.as_ref().map(pause_row).transpose()?,
    };
    let written = decide(facts);
    let record = &written.record;
    let (outcome, reason, detail, result) = match &record.outcome {
        RecordedOutcome::Applied { result } => ("applied", None, None, Some(to_json(result)?)),
        RecordedOutcome::Rejected { reason, detail } => {
            ("rejected", Some(reason), Some(detail), None)
        }
    };
    sqlx::query(RECORD)
        .bind(record.command_id.0)
        .bind(record.command_type)
        .bind(outcome)
        .bind(reason)
        .bind(detail)
        .bind(result)
        .bind(record.content_hash.as_slice())
        .bind(record.payload.as_ref().map(to_json).transpose()?)
        .bind(record.decided_at)
        .execute(&mut *tx)
        .await
        .map_err(classify)?;
    set(&mut tx, &written.pauses).await?;
    enqueue(&mut tx, &written.messages).await?;
    tx.commit().await.map_err(classify_commit)?;
    Ok(written.record.into())
}

#[async_trait]
impl ActLog for PgEventStore {
    async fn act(
        &self,
        id: CommandId,
        workflow: &WorkflowId,
        decide: ActDecision,
    ) -> Result<CommandRow, EventStoreError> {
        let workflow = workflow.clone();
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move { act(conn, id, &workflow, decide).await })
        })
        .await
    }

    async fn acts(&self) -> Result<Vec<CommandRow>, EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, |conn| Box::pin(acts(conn)))
            .await
    }

    async fn workflow_pauses(
        &self,
    ) -> Result<(Vec<WorkflowPause>, Vec<WorkflowPause>), EventStoreError> {
        let rows = self
            .run(WORK_TIMEOUT, |conn| {
                Box::pin(async move {
                    let rows = sqlx::query(OPEN).fetch_all(conn).await;
                    rows.map_err(classify)
                })
            })
            .await?;
        let (mut holding, mut over) = (Vec::new(), Vec::new());
        for row in &rows {
            let holds: bool = row.try_get("holds").map_err(classify)?;
            let side = if holds { &mut holding } else { &mut over };
            side.push(pause_row(row)?);
        }
        Ok((holding, over))
    }

    async fn replace_pauses(&self, derive: DerivePauses) -> Result<bool, EventStoreError> {
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = conn.begin().await.map_err(classify)?;
                sqlx::query(LOCK)
                    .execute(&mut *tx)
                    .await
                    .map_err(classify)?;
                let mut wanted = derive(&acts(&mut tx).await?);
                wanted.sort_by_key(|pause| pause.pause_id);
                let rows = sqlx::query(ALL)
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(classify)?;
                let found: Result<Vec<_>, _> = rows.iter().map(pause_row).collect();
                if found.is_ok_and(|found| found == wanted) {
                    return Ok(false);
                }
                sqlx::query(FORGET)
                    .execute(&mut *tx)
                    .await
                    .map_err(classify)?;
                set(&mut tx, &wanted).await?;
                // Unknown is as good as failed: a second time finds nothing to change.
                tx.commit().await.map_err(classify)?;
                Ok(true)
            })
        })
        .await
    }
}
