//! Operators' acts, and the pauses of workflows that follow from them.

use async_trait::async_trait;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};

use super::{
    super::{
        ActFacts, ActLog, AnnotatorPause, CommandRow, DerivePauses, EventStoreError, Pauses,
        PlannedAct, RecordedOutcome, WorkflowPause,
    },
    PgEventStore,
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    error::{classify, classify_commit},
    outbox::enqueue,
    rows::to_json,
    tasks::{command_row, slug},
};
use crate::ids::{CommandId, UserId};

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
    SELECT pause_id, workflow, reason, since, until, archived, ended_at,
           until IS NULL OR until > statement_timestamp() AS holds
    FROM workflow_pauses WHERE ended_at IS NULL ORDER BY workflow";

const OPEN_OF: &str = "
    SELECT pause_id, workflow, reason, since, until, archived, ended_at
    FROM workflow_pauses WHERE ended_at IS NULL AND workflow = $1";

const ALL: &str = "
    SELECT pause_id, workflow, reason, since, until, archived, ended_at
    FROM workflow_pauses ORDER BY pause_id";

const SET: &str = "
    INSERT INTO workflow_pauses (pause_id, workflow, reason, since, until, archived, ended_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (pause_id) DO UPDATE
    SET reason = excluded.reason, until = excluded.until, archived = excluded.archived,
        ended_at = excluded.ended_at";

const NEWEST_OF_ANNOTATOR: &str = "
    SELECT pause_id, workflow, user_id, reason, by_rule, since, ended_at, judged_anew
    FROM annotator_pauses
    WHERE workflow = $1 AND user_id = $2 ORDER BY since DESC, pause_id DESC LIMIT 1";

const OF_ANNOTATORS: &str = "
    SELECT pause_id, workflow, user_id, reason, by_rule, since, ended_at, judged_anew
    FROM annotator_pauses
    WHERE $1::uuid IS NULL OR user_id = $1 ORDER BY since, pause_id";

const SET_ANNOTATOR: &str = "
    INSERT INTO annotator_pauses
        (pause_id, workflow, user_id, reason, by_rule, since, ended_at, judged_anew)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT (pause_id) DO UPDATE
    SET reason = excluded.reason, by_rule = excluded.by_rule, ended_at = excluded.ended_at,
        judged_anew = excluded.judged_anew";

const FORGET: [&str; 2] = [
    "DELETE FROM workflow_pauses",
    "DELETE FROM annotator_pauses",
];

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
        archived: row.try_get("archived").map_err(classify)?,
        ended_at: row.try_get("ended_at").map_err(classify)?,
    })
}

fn annotator_pause(row: &PgRow) -> Result<AnnotatorPause, EventStoreError> {
    Ok(AnnotatorPause {
        pause_id: CommandId(row.try_get("pause_id").map_err(classify)?),
        workflow: slug(
            "annotator_pauses",
            row.try_get("workflow").map_err(classify)?,
        )?,
        user_id: UserId(row.try_get("user_id").map_err(classify)?),
        reason: row.try_get("reason").map_err(classify)?,
        by_rule: row.try_get("by_rule").map_err(classify)?,
        since: row.try_get("since").map_err(classify)?,
        ended_at: row.try_get("ended_at").map_err(classify)?,
        judged_anew: row.try_get("judged_anew").map_err(classify)?,
    })
}

async fn of_annotators(
    conn: &mut PgConnection,
    user: Option<UserId>,
) -> Result<Vec<AnnotatorPause>, EventStoreError> {
    let rows = sqlx::query(OF_ANNOTATORS)
        .bind(user.map(|user| user.0))
        .fetch_all(conn)
        .await
        .map_err(classify)?;
    rows.iter().map(annotator_pause).collect()
}

async fn set(conn: &mut PgConnection, pauses: &Pauses) -> Result<(), EventStoreError> {
    // One statement a row: a pause is closed before the next one of its workflow is opened.
    for pause in &pauses.workflows {
        sqlx::query(SET)
            .bind(pause.pause_id.0)
            .bind(pause.workflow.as_str())
            .bind(pause.reason.as_deref())
            .bind(pause.since)
            .bind(pause.until)
            .bind(pause.archived)
            .bind(pause.ended_at)
            .execute(&mut *conn)
            .await
            .map_err(classify)?;
    }
    for pause in &pauses.annotators {
        sqlx::query(SET_ANNOTATOR)
            .bind(pause.pause_id.0)
            .bind(pause.workflow.as_str())
            .bind(pause.user_id.0)
            .bind(pause.reason.as_deref())
            .bind(pause.by_rule)
            .bind(pause.since)
            .bind(pause.ended_at)
            .bind(pause.judged_anew)
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

async fn act(conn: &mut PgConnection, act: PlannedAct) -> Result<CommandRow, EventStoreError> {
    let mut tx = conn.begin().await.map_err(classify)?;
    let row = act_in(&mut tx, act).await?;
    tx.commit().await.map_err(classify_commit)?;
    Ok(row)
}

/// Decides an act in a transaction, under the lock of acts until its end, and writes what it leads
/// to.
pub(super) async fn act_in(
    tx: &mut PgConnection,
    act: PlannedAct,
) -> Result<CommandRow, EventStoreError> {
    let PlannedAct {
        id,
        subject,
        decide,
    } = act;
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
        .bind(subject.workflow.as_str())
        .fetch_optional(&mut *tx)
        .await
        .map_err(classify)?;
    let annotator = sqlx::query(NEWEST_OF_ANNOTATOR)
        .bind(subject.workflow.as_str())
        .bind(subject.user_id.map(|user| user.0))
        .fetch_optional(&mut *tx)
        .await
        .map_err(classify)?;
    let facts = ActFacts {
        now: sqlx::query_scalar(NOW)
            .fetch_one(&mut *tx)
            .await
            .map_err(classify)?,
        pause: pause.as_ref().map(pause_row).transpose()?,
        annotator: annotator.as_ref().map(annotator_pause).transpose()?,
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
    set(tx, &written.pauses).await?;
    enqueue(tx, &written.messages).await?;
    Ok(written.record.into())
}

#[async_trait]
impl ActLog for PgEventStore {
    async fn act(&self, planned: PlannedAct) -> Result<CommandRow, EventStoreError> {
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move { act(conn, planned).await })
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

    async fn annotator_pauses(
        &self,
        user: Option<UserId>,
    ) -> Result<Vec<AnnotatorPause>, EventStoreError> {
        self.run(WORK_TIMEOUT, move |conn| {
            Box::pin(async move { of_annotators(conn, user).await })
        })
        .await
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
                wanted.workflows.sort_by_key(|pause| pause.pause_id);
                wanted.annotators.sort_by_key(AnnotatorPause::age);
                let rows = sqlx::query(ALL)
                    .fetch_all(&mut *tx)
                    .await
                    .map_err(classify)?;
                let found: Result<Vec<_>, _> = rows.iter().map(pause_row).collect();
                let annotators = of_annotators(&mut tx, None).await;
                if found.is_ok_and(|found| found == wanted.workflows)
                    && annotators.is_ok_and(|found| found == wanted.annotators)
                {
                    return Ok(false);
                }
                for sql in FORGET {
                    sqlx::query(sql).execute(&mut *tx).await.map_err(classify)?;
                }
                set(&mut tx, &wanted).await?;
                // Unknown is as good as failed: a second time finds nothing to change.
                tx.commit().await.map_err(classify)?;
                Ok(true)
            })
        })
        .await
    }
}
