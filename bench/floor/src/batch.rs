//! One transaction.

use std::collections::BTreeMap;

use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use crate::Fallible;

const HEADS: &str = "
    INSERT INTO heads (task_id, version, status) SELECT unnest($1::uuid[]), 0, 'running'
    ON CONFLICT DO NOTHING";

const LOCK: &str = "
    SELECT task_id, version FROM heads WHERE task_id = ANY($1) ORDER BY task_id FOR UPDATE";

const WRITE: &str = "
    WITH written AS (
        INSERT INTO events (stream_id, version, type, data)
        SELECT stream_id, version, 'event', data::jsonb
        FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS e (stream_id, version, data)
    ), inbox AS (
        INSERT INTO commands (command_id, task_id, outcome, content_hash, decided_at)
        SELECT command_id, task_id, 'applied', sha256(uuid_send(command_id)), statement_timestamp()
        FROM unnest($4::uuid[], $5::uuid[]) AS c (command_id, task_id)
    ), queued AS (
        INSERT INTO outbox (task_id, from_version, to_version, owner)
        SELECT task_id, from_version, to_version, 1
        FROM unnest($6::uuid[], $7::bigint[], $8::bigint[]) AS o (task_id, from_version, to_version)
    )
    UPDATE heads SET version = to_version, status = 'running'
    FROM unnest($6::uuid[], $8::bigint[]) AS h (task, to_version) WHERE task_id = task";

const PUBLISHED: &str = "
    DELETE FROM outbox USING unnest($1::uuid[], $2::bigint[]) AS o (task, version)
    WHERE task_id = task AND from_version = version";

/// The commands of a batch, and what each of them leads to.
pub(crate) struct Batch {
    /// Command id, task, number of events.
    pub(crate) commands: Vec<(Uuid, Uuid, i64)>,
}

/// A row of the outbox.
pub(crate) struct Queued {
    task: Uuid,
    from_version: i64,
}

impl Batch {
    /// Commits it. A command that is known is an error: the program has no inbox to look it up in.
    pub(crate) async fn commit(
        &self,
        connection: &mut PgConnection,
        event: &str,
    ) -> Fallible<Vec<Queued>> {
        let mut events: BTreeMap<Uuid, i64> = BTreeMap::new();
        for (_, task, count) in &self.commands {
            *events.entry(*task).or_default() += count;
        }
        let tasks: Vec<Uuid> = events.keys().copied().collect();
        let mut transaction = connection.begin().await?;
        sqlx::query(HEADS)
            .bind(&tasks)
            .execute(&mut *transaction)
            .await?;
        let heads = sqlx::query(LOCK)
            .bind(&tasks)
            .fetch_all(&mut *transaction)
            .await?;
        let mut streams = (Vec::new(), Vec::new(), Vec::new());
        let mut queued = (Vec::new(), Vec::new(), Vec::new());
        for head in heads {
            let (task, version): (Uuid, i64) = (head.try_get(0)?, head.try_get(1)?);
            let count = events.get(&task).copied().unwrap_or_default();
            for next in version + 1..=version + count {
                streams.0.push(task);
                streams.1.push(next);
                streams.2.push(event);
            }
            queued.0.push(task);
            queued.1.push(version + 1);
            queued.2.push(version + count);
        }
        let (ids, of): (Vec<Uuid>, Vec<Uuid>) = self
            .commands
            .iter()
            .map(|(id, task, _)| (*id, *task))
            .unzip();
        sqlx::query(WRITE)
            .bind(&streams.0)
            .bind(&streams.1)
            .bind(&streams.2)
            .bind(&ids)
            .bind(&of)
            .bind(&queued.0)
            .bind(&queued.1)
            .bind(&queued.2)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        let rows = queued.0.into_iter().zip(queued.1);
        Ok(rows
            .map(|(task, from_version)| Queued { task, from_version })
            .collect())
    }
}

/// Deletes what is confirmed.
pub(crate) async fn published(connection: &mut PgConnection, rows: &[Queued]) -> Fallible<()> {
    let tasks: Vec<Uuid> = rows.iter().map(|row| row.task).collect();
    let versions: Vec<i64> = rows.iter().map(|row| row.from_version).collect();
    sqlx::query(PUBLISHED)
        .bind(&tasks)
        .bind(&versions)
        .execute(connection)
        .await?;
    Ok(())
}
