//! Retention: deletes as the owner of the tables.
//!
//! The trigger that keeps the log append-only lets events go in a transaction that has set
//! `glyph.retention`, and only for the owner of the table.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use sqlx::{PgConnection, raw_sql};
use uuid::Uuid;

use super::{
    super::{
        BroughtBack, EventStoreError, Leftover, LeftoverPage, Retention, TaskIndex, ToArchive,
        UnsuitableServer, WholeCommand, WholeTask,
        nul::refuse_nul,
        rows::{self, Columns},
    },
    PgEventStore,
    commands::{command_columns, without_output},
    connection::{LONG_WORK_TIMEOUT, WORK_TIMEOUT},
    error::classify,
    query::{PgQuery, begin, commit_repeatable, execute, fetch, fetch_optional, nth},
    rebuild::set_task,
    rows::{column, signed, to_json, try_column},
};
use crate::{ids::TaskId, state::TaskStatus};

/// The account, if it may not act as the owner of the log.
const NOT_OWNER: &str = "
    SELECT current_user::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relname = 'stored_events'
      AND NOT pg_has_role(current_user, c.relowner, 'USAGE')";

/// Pages of leftovers: the next rows by id, and what of them is of no further use. A task whose rows
/// a page does not take to the end is seen again on the next one.
macro_rules! leftovers {
    ($table:literal, $id:literal, $change:literal) => {
        concat!(
            "
            WITH page AS MATERIALIZED (
                SELECT ",
            $id,
            " AS id FROM ",
            $table,
            " WHERE $1::uuid IS NULL OR ",
            $id,
            " > $1 ORDER BY ",
            $id,
            " LIMIT $2
            ), ids AS MATERIALIZED (SELECT DISTINCT id FROM page),
            found AS (",
            $change,
            ")
            SELECT count(*), coalesce(sum(bytes), 0)::bigint,
                   (SELECT id FROM page WHERE (SELECT count(*) FROM page) = $2
                    ORDER BY id DESC LIMIT 1)
            FROM found"
        )
    };
}

const OLD_SNAPSHOTS: &str = leftovers!(
    "workflow_snapshots",
    "task_id",
    "SELECT pg_column_size(s.state) AS bytes FROM ids JOIN workflow_snapshots s ON s.task_id = ids.id
     WHERE EXISTS (SELECT FROM workflow_snapshots n WHERE n.task_id = s.task_id AND n.version > s.version)"
);
const DELETE_OLD_SNAPSHOTS: &str = leftovers!(
    "workflow_snapshots",
    "task_id",
    "DELETE FROM workflow_snapshots s USING ids WHERE s.task_id = ids.id
     AND EXISTS (SELECT FROM workflow_snapshots n WHERE n.task_id = s.task_id AND n.version > s.version)
     RETURNING pg_column_size(s.state) AS bytes"
);
const ENDED_DRAFTS: &str = leftovers!(
    "drafts",
    "task_id",
    "SELECT pg_column_size(d.draft) AS bytes
     FROM ids JOIN tasks t ON t.task_id = ids.id JOIN drafts d ON d.task_id = ids.id
     WHERE t.status NOT IN ('running', 'paused')"
);
const DELETE_ENDED_DRAFTS: &str = leftovers!(
    "drafts",
    "task_id",
    "DELETE FROM drafts d USING ids, tasks t
     WHERE d.task_id = ids.id AND t.task_id = ids.id AND t.status NOT IN ('running', 'paused')
     RETURNING pg_column_size(d.draft) AS bytes"
);
const EXPORTED_PAYLOADS: &str = leftovers!(
    "exported_rejections",
    "command_id",
    "SELECT pg_column_size(c.payload) AS bytes FROM ids JOIN commands c ON c.command_id = ids.id
     WHERE c.outcome = 'rejected' AND c.payload IS NOT NULL"
);
const DELETE_EXPORTED_PAYLOADS: &str = leftovers!(
    "exported_rejections",
    "command_id",
    "UPDATE commands c SET payload = NULL
     FROM ids JOIN commands old ON old.command_id = ids.id
     WHERE c.command_id = ids.id AND c.outcome = 'rejected' AND old.payload IS NOT NULL
     RETURNING pg_column_size(old.payload) AS bytes"
);

/// What is still to happen to a task keeps it: a timer, a message on its way.
const ARCHIVABLE: &str = "
    SELECT task_id FROM tasks t
    WHERE status IN ('completed', 'failed', 'cancelled') AND updated_at < $1
      AND ($2::uuid IS NULL OR task_id > $2)
      AND NOT EXISTS (SELECT FROM timers WHERE task_id = t.task_id)
      AND NOT EXISTS (SELECT FROM outbox WHERE task_id = t.task_id)
    ORDER BY task_id LIMIT $3";

const EVENTS: &str = "
    SELECT version, event_id, event_type, event_data::text AS event_data,
           metadata::text AS metadata, occurred_at, batch, position
    FROM workflow_events WHERE stream_id = $1 ORDER BY version";

/// Those that caused its events, found by their ids, and those that were rejected.
const COMMANDS: &str = concat!(
    "SELECT ",
    command_columns!(),
    "
    FROM commands
    WHERE task_id = $1 AND command_id IN (
        SELECT command_id FROM stored_events WHERE stream_id = $1)
    UNION
    SELECT ",
    command_columns!(),
    "
    FROM commands WHERE task_id = $1 AND outcome = 'rejected'
    ORDER BY decided_at, command_id"
);

/// Under the locks: tasks that are as they were read, and at which nobody is at work.
const LOCK: &str = "
    SELECT t.task_id FROM tasks t
    JOIN unnest($1::uuid[], $2::bigint[]) AS w (task_id, version) ON w.task_id = t.task_id
    WHERE t.version = w.version AND t.status IN ('completed', 'failed', 'cancelled')
    ORDER BY t.task_id FOR UPDATE OF t SKIP LOCKED";

const PENDING: &str = "
    SELECT task_id FROM timers WHERE task_id = ANY ($1)
    UNION SELECT task_id FROM outbox WHERE task_id = ANY ($1)";

const KEEP: &str = "
    INSERT INTO archived_tasks (task_id, archived_at, state)
    SELECT a.task_id, transaction_timestamp(), a.state::json
    FROM unnest($1::uuid[], $2::text[]) AS a (task_id, state)";

const SET_ARCHIVED: &str = "UPDATE tasks SET status = 'archived' WHERE task_id = ANY ($1)";

const OPEN_THE_LOG: &str = "SET LOCAL glyph.retention = 'on'";

const DELETE_EVENTS: &str = "
    DELETE FROM stored_events e USING unnest($1::uuid[], $2::bigint[]) AS g (stream_id, version)
    WHERE e.stream_id = g.stream_id AND e.version = g.version";

const DELETE_COMMANDS: &str = "
    DELETE FROM commands c
    WHERE c.command_id = ANY ($1) AND (
        c.outcome = 'applied' OR c.payload IS NULL
        OR EXISTS (SELECT FROM exported_rejections x WHERE x.command_id = c.command_id))";

const DELETE_SNAPSHOTS: &str = "DELETE FROM workflow_snapshots WHERE task_id = ANY ($1)";
const DELETE_DRAFTS: &str = "DELETE FROM drafts WHERE task_id = ANY ($1)";

const HEAD: &str = "SELECT version, status FROM tasks WHERE task_id = $1 FOR UPDATE";

const PLACES: &str =
    "SELECT version, event_id, batch, position FROM stored_events WHERE stream_id = $1";

const PUT_EVENTS: &str = "
    INSERT INTO stored_events
        (stream_id, version, event_id, event_type, event_data, occurred_at, position, batch,
         command_id, correlation_id, traceparent, actor, schema_version, gold)
    SELECT $1, e.version, e.event_id, e.event_type, e.event_data, e.occurred_at, e.position,
           e.batch, (e.metadata ->> 'command_id')::uuid,
           nullif(e.metadata ->> 'correlation_id', e.metadata ->> 'command_id'),
           e.metadata ->> 'traceparent', e.metadata ->> 'actor',
           (e.metadata ->> 'schema_version')::int, coalesce((e.metadata ->> 'gold')::boolean, false)
    FROM (
        SELECT version, event_id, event_type, event_data, metadata::jsonb, occurred_at, position, batch
        FROM unnest($2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
                    $8::bigint[], $9::bigint[])
             AS e (version, event_id, event_type, event_data, metadata, occurred_at, position, batch)
    ) e
    ON CONFLICT (stream_id, version) DO NOTHING";

const PUT_COMMANDS: &str = "
    INSERT INTO commands
        (command_id, task_id, type, outcome, reason, detail, result, content_hash, payload, decided_at)
    SELECT c.command_id, $1, c.type, c.outcome, c.reason, c.detail, c.result::json, c.content_hash,
           c.payload::jsonb, c.decided_at
    FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                $9::text[], $10::timestamptz[])
         AS c (command_id, type, outcome, reason, detail, result, content_hash, payload, decided_at)
    ON CONFLICT (command_id) DO NOTHING";

const PUT_DRAFTS: &str = "
    INSERT INTO drafts (task_id, step_id, visit, user_id, draft, saved_at)
    SELECT $1, d.step_id, d.visit, d.user_id, d.draft::jsonb, d.saved_at
    FROM unnest($2::text[], $3::int[], $4::uuid[], $5::text[], $6::timestamptz[])
         AS d (step_id, visit, user_id, draft, saved_at)
    ON CONFLICT (task_id, step_id, visit, user_id) DO NOTHING";

const FORGET_ARCHIVED: &str = "DELETE FROM archived_tasks WHERE task_id = $1";

const ARCHIVED: &str = "SELECT task_id, archived_at FROM archived_tasks WHERE task_id = ANY ($1)";

#[async_trait]
impl Retention for PgEventStore {
    async fn check_owner(&self) -> Result<(), EventStoreError> {
        let found = self.fetch_optional(WORK_TIMEOUT, sqlx::query(NOT_OWNER), |row| nth(row, 0));
        match found.await? {
            Some(account) => Err(UnsuitableServer::NotOwner(account).into()),
            None => Ok(()),
        }
    }

    async fn leftovers(
        &self,
        kind: Leftover,
        after: Option<Uuid>,
        limit: u32,
        delete: bool,
    ) -> Result<LeftoverPage, EventStoreError> {
        let sql = match (kind, delete) {
            (Leftover::Snapshots, false) => OLD_SNAPSHOTS,
            (Leftover::Snapshots, true) => DELETE_OLD_SNAPSHOTS,
            (Leftover::Drafts, false) => ENDED_DRAFTS,
            (Leftover::Drafts, true) => DELETE_ENDED_DRAFTS,
            (Leftover::RejectedPayloads, false) => EXPORTED_PAYLOADS,
            (Leftover::RejectedPayloads, true) => DELETE_EXPORTED_PAYLOADS,
        };
        let query = sqlx::query(sql).bind(after).bind(i64::from(limit));
        let page = self.fetch_optional(LONG_WORK_TIMEOUT, query, |row| {
            let number = |index| nth::<i64>(row, index).map(|n| u64::try_from(n).unwrap_or(0));
            Ok(LeftoverPage {
                rows: number(0)?,
                bytes: number(1)?,
                next_after: nth(row, 2)?,
            })
        });
        Ok(page.await?.unwrap_or_default())
    }

    async fn archivable(
        &self,
        before: DateTime<Utc>,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError> {
        let query = sqlx::query(ARCHIVABLE)
            .bind(before)
            .bind(after.map(|task| task.0))
            .bind(i64::from(limit));
        self.fetch(LONG_WORK_TIMEOUT, query, |row| Ok(TaskId(nth(row, 0)?)))
            .await
    }

    async fn whole_task(&self, task: TaskId) -> Result<Option<WholeTask>, EventStoreError> {
        let Some(row) = TaskIndex::task(self, task).await? else {
            return Ok(None);
        };
        let drafts = TaskIndex::drafts(self, task).await?;
        let (events, commands) = self
            .run(LONG_WORK_TIMEOUT, move |conn| {
                Box::pin(async move {
                    let events =
                        fetch(conn, sqlx::query(EVENTS).bind(task.0), rows::whole_event).await?;
                    let query = sqlx::query(COMMANDS).bind(task.0);
                    Ok((events, fetch(conn, query, rows::command).await?))
                })
            })
            .await?;
        Ok(Some(WholeTask {
            task: row,
            events,
            commands: commands.into_iter().map(WholeCommand::from).collect(),
            drafts,
        }))
    }

    async fn archive(&self, tasks: &[ToArchive]) -> Result<Vec<TaskId>, EventStoreError> {
        let tasks = tasks.to_vec();
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                let archived = archive(&mut tx, tasks).await?;
                // A second run finds the tasks archived.
                commit_repeatable(tx).await?;
                Ok(archived)
            })
        })
        .await
    }

    async fn bring_back(&self, task: &WholeTask) -> Result<BroughtBack, EventStoreError> {
        let task = task.clone();
        self.run(LONG_WORK_TIMEOUT, move |conn| {
            Box::pin(async move {
                let mut tx = begin(conn).await?;
                let done = bring_back(&mut tx, &task).await?;
                commit_repeatable(tx).await?;
                Ok(done)
            })
        })
        .await
    }

    async fn archived(
        &self,
        tasks: &[TaskId],
    ) -> Result<HashMap<TaskId, DateTime<Utc>>, EventStoreError> {
        if tasks.is_empty() {
            return Ok(HashMap::new());
        }
        let query = sqlx::query(ARCHIVED).bind(column(tasks, |task| task.0));
        let found = self.fetch(WORK_TIMEOUT, query, |row| {
            Ok((TaskId(nth(row, 0)?), nth(row, 1)?))
        });
        Ok(found.await?.into_iter().collect())
    }
}

async fn archive(
    conn: &mut PgConnection,
    mut tasks: Vec<ToArchive>,
) -> Result<Vec<TaskId>, EventStoreError> {
    let lock = sqlx::query(LOCK)
        .bind(column(&tasks, |one| one.whole.task.task_id.0))
        .bind(try_column(&tasks, |one| {
            signed::<i64, _>(one.whole.task.version)
        })?);
    let locked: Vec<Uuid> = fetch(conn, lock, |row| nth(row, 0)).await?;
    let mut locked: HashSet<Uuid> = locked.into_iter().collect();
    let pending = sqlx::query(PENDING).bind(locked.iter().copied().collect::<Vec<_>>());
    for task in fetch::<Uuid>(conn, pending, |row| nth(row, 0)).await? {
        locked.remove(&task);
    }
    tasks.retain(|one| locked.contains(&one.whole.task.task_id.0));
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = column(&tasks, |one| one.whole.task.task_id.0);
    let mut leaving = (Vec::new(), Vec::new());
    for one in &tasks {
        for version in one.whole.leaving() {
            leaving.0.push(one.whole.task.task_id.0);
            leaving.1.push(signed::<i64, _>(version)?);
        }
    }
    let states = try_column(&tasks, |one| to_json(&one.last_state()?))?;
    let commands: Vec<Uuid> = tasks
        .iter()
        .flat_map(|one| one.whole.command_ids())
        .collect();
    raw_sql(OPEN_THE_LOG)
        .execute(&mut *conn)
        .await
        .map_err(classify)?;
    let statements = [
        sqlx::query(KEEP).bind(ids.clone()).bind(states),
        sqlx::query(SET_ARCHIVED).bind(ids.clone()),
        sqlx::query(DELETE_EVENTS).bind(leaving.0).bind(leaving.1),
        sqlx::query(DELETE_COMMANDS).bind(commands),
        sqlx::query(DELETE_SNAPSHOTS).bind(ids.clone()),
        sqlx::query(DELETE_DRAFTS).bind(ids.clone()),
    ];
    for statement in statements {
        execute(conn, statement).await?;
    }
    Ok(ids.into_iter().map(TaskId).collect())
}

async fn bring_back(
    conn: &mut PgConnection,
    whole: &WholeTask,
) -> Result<BroughtBack, EventStoreError> {
    let task = whole.task.task_id.0;
    let head = fetch_optional(conn, sqlx::query(HEAD).bind(task), |row| {
        let version: u64 = Columns::of("tasks", row).number("version")?;
        Ok((version, rows::status(row)?))
    });
    let Some((version, status)) = head.await? else {
        return Ok(BroughtBack::NotThere);
    };
    let found = fetch(conn, sqlx::query(PLACES).bind(task), rows::event_place).await?;
    if version != whole.task.version || !whole.has(found) {
        return Ok(BroughtBack::Another);
    }
    if status != TaskStatus::Archived {
        return Ok(BroughtBack::AlreadyWhole);
    }
    execute(conn, put_events(whole)?).await?;
    execute(conn, put_commands(whole)?).await?;
    execute(conn, put_drafts(whole)?).await?;
    execute(conn, set_task(&whole.task)?).await?;
    execute(conn, sqlx::query(FORGET_ARCHIVED).bind(task)).await?;
    Ok(BroughtBack::Restored)
}

/// The content of an event from a file: written anew, so that the column holds nothing that `jsonb` does
/// not take.
fn event_data_of(raw: &RawValue) -> Result<String, EventStoreError> {
    let value: serde_json::Value =
        serde_json::from_str(raw.get()).map_err(|error| EventStoreError::Data(error.into()))?;
    let content = to_json(&value)?;
    refuse_nul(&content)?;
    Ok(content)
}

fn put_events(whole: &WholeTask) -> Result<PgQuery, EventStoreError> {
    let events = &whole.events;
    Ok(sqlx::query(PUT_EVENTS)
        .bind(whole.task.task_id.0)
        .bind(try_column(events, |one| signed::<i64, _>(one.version))?)
        .bind(column(events, |one| one.event_id))
        .bind(column(events, |one| one.event_type.clone()))
        .bind(try_column(events, |one| event_data_of(&one.event_data))?)
        .bind(column(events, |one| text(&one.metadata)))
        .bind(column(events, |one| one.occurred_at))
        .bind(column(events, |one| one.position))
        .bind(column(events, |one| one.batch)))
}

fn put_commands(whole: &WholeTask) -> Result<PgQuery, EventStoreError> {
    let commands = &whole.commands;
    let json = |value: Option<&serde_json::Value>| value.map(to_json).transpose();
    Ok(sqlx::query(PUT_COMMANDS)
        .bind(whole.task.task_id.0)
        .bind(column(commands, |one| one.command_id.0))
        .bind(column(commands, |one| one.command_type.clone()))
        .bind(column(commands, |one| one.outcome.columns().outcome))
        .bind(column(commands, |one| {
            one.outcome.columns().reason.map(str::to_owned)
        }))
        .bind(column(commands, |one| {
            one.outcome.columns().detail.map(str::to_owned)
        }))
        .bind(try_column(commands, |one| {
            let result = one.outcome.columns().result;
            result
                .map(|result| to_json(&without_output(result)))
                .transpose()
        })?)
        .bind(column(commands, |one| {
            one.hash().unwrap_or_default().to_vec()
        }))
        .bind(try_column(commands, |one| json(one.payload.as_ref()))?)
        .bind(column(commands, |one| one.decided_at)))
}

fn put_drafts(whole: &WholeTask) -> Result<PgQuery, EventStoreError> {
    let drafts = &whole.drafts;
    Ok(sqlx::query(PUT_DRAFTS)
        .bind(whole.task.task_id.0)
        .bind(column(drafts, |one| one.step_id.to_string()))
        .bind(try_column(drafts, |one| signed::<i32, _>(one.visit))?)
        .bind(column(drafts, |one| one.user_id.0))
        .bind(try_column(drafts, |one| to_json(&one.draft))?)
        .bind(column(drafts, |one| one.saved_at)))
}

fn text(json: &RawValue) -> String {
    json.get().to_owned()
}
