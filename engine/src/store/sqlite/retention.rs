//! Retention: deletes in a file that its owner alone can write.
//!
//! The trigger that keeps the log append-only lets events go while there is a row in
//! `retention_at_work`, which only the transaction that deletes them ever sees.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::SqliteConnection;
use uuid::{Uuid, fmt::Hyphenated};

use super::{
    super::{
        BroughtBack, EventStoreError, Leftover, LeftoverPage, Retention, TaskIndex, ToArchive,
        WholeCommand, WholeTask,
        rows::{self, Columns},
    },
    connection::{SqliteEventStore, commit, detached},
    query::{execute, fetch, fetch_optional, nth},
    rows::{array, integer, json, micros, plain},
    write,
};
use crate::{ids::TaskId, state::TaskStatus};

/// The ids of the next rows, each once; the last one ends the page.
macro_rules! page {
    ($table:literal, $id:literal) => {
        concat!(
            "SELECT ",
            $id,
            " AS id FROM ",
            $table,
            " WHERE ?1 IS NULL OR ",
            $id,
            " > ?1 ORDER BY ",
            $id,
            " LIMIT ?2"
        )
    };
}

/// The rows of a table that are of no further use, among the tasks or commands of an array.
struct Leftovers {
    page: &'static str,
    count: &'static str,
    delete: &'static str,
}

const SNAPSHOTS: Leftovers = Leftovers {
    page: page!("workflow_snapshots", "task_id"),
    count: "
        SELECT COUNT(*), COALESCE(SUM(octet_length(s.state)), 0) FROM workflow_snapshots AS s
        WHERE s.task_id IN (SELECT value FROM json_each(?1)) AND EXISTS (
            SELECT 1 FROM workflow_snapshots AS n
            WHERE n.task_id = s.task_id AND n.version > s.version)",
    delete: "
        DELETE FROM workflow_snapshots
        WHERE task_id IN (SELECT value FROM json_each(?1)) AND EXISTS (
            SELECT 1 FROM workflow_snapshots AS n
            WHERE n.task_id = workflow_snapshots.task_id AND n.version > workflow_snapshots.version)",
};

const DRAFTS: Leftovers = Leftovers {
    page: page!("drafts", "task_id"),
    count: "
        SELECT COUNT(*), COALESCE(SUM(octet_length(draft)), 0) FROM drafts
        WHERE task_id IN (SELECT value FROM json_each(?1)) AND task_id IN (
            SELECT task_id FROM tasks WHERE status NOT IN ('running', 'paused'))",
    delete: "
        DELETE FROM drafts
        WHERE task_id IN (SELECT value FROM json_each(?1)) AND task_id IN (
            SELECT task_id FROM tasks WHERE status NOT IN ('running', 'paused'))",
};

const PAYLOADS: Leftovers = Leftovers {
    page: page!("exported_rejections", "command_id"),
    count: "
        SELECT COUNT(*), COALESCE(SUM(octet_length(payload)), 0) FROM commands
        WHERE command_id IN (SELECT value FROM json_each(?1))
          AND outcome = 'rejected' AND payload IS NOT NULL",
    delete: "
        UPDATE commands SET payload = NULL
        WHERE command_id IN (SELECT value FROM json_each(?1))
          AND outcome = 'rejected' AND payload IS NOT NULL",
};

/// What is still to happen to a task keeps it: a timer, a message on its way.
macro_rules! may_be_archived {
    () => {
        "t.status IN ('completed', 'failed', 'cancelled')
          AND NOT EXISTS (SELECT 1 FROM timers AS d WHERE d.task_id = t.task_id)
          AND NOT EXISTS (SELECT 1 FROM outbox AS o WHERE o.task_id = t.task_id)"
    };
}

const ARCHIVABLE: &str = concat!(
    "SELECT task_id FROM tasks AS t WHERE ",
    may_be_archived!(),
    " AND t.updated_at < ?1 AND (?2 IS NULL OR t.task_id > ?2) ORDER BY t.task_id LIMIT ?3"
);

const STILL_ARCHIVABLE: &str = concat!(
    "SELECT t.task_id FROM json_each(?1) AS w CROSS JOIN tasks AS t ON t.task_id = w.value ->> 0
     WHERE t.version = w.value ->> 1 AND ",
    may_be_archived!()
);

/// This store has no batches.
const EVENTS: &str = "
    SELECT version, event_id, event_type, event_data, metadata, occurred_at, 0 AS batch, position
    FROM workflow_events WHERE stream_id = ?1 ORDER BY version";

/// Those that caused its events, found by their ids, and those that were rejected.
const COMMANDS: &str = "
    SELECT * FROM commands
    WHERE command_id IN (
        SELECT command_id FROM stored_events WHERE stream_id = ?1)
      AND task_id = ?1
    UNION
    SELECT * FROM commands WHERE task_id = ?1 AND outcome = 'rejected'
    ORDER BY decided_at, command_id";

const OPEN_THE_LOG: &str = "INSERT INTO retention_at_work (only_row) VALUES (1)";
const CLOSE_THE_LOG: &str = "DELETE FROM retention_at_work";

const KEEP: &str = "
    INSERT INTO archived_tasks (task_id, archived_at, state)
    SELECT value ->> 0, ?2, value ->> 1 FROM json_each(?1)";

const SET_ARCHIVED: &str = "
    UPDATE tasks SET status = 'archived' WHERE task_id IN (SELECT value FROM json_each(?1))";

const DELETE_EVENTS: &str = "
    DELETE FROM stored_events WHERE position IN (
        SELECT e.position FROM json_each(?1) AS g
        CROSS JOIN stored_events AS e
            ON e.stream_id = g.value ->> 0 AND e.version = g.value ->> 1)";

const DELETE_COMMANDS: &str = "
    DELETE FROM commands
    WHERE command_id IN (SELECT value FROM json_each(?1)) AND (
        outcome = 'applied' OR payload IS NULL
        OR command_id IN (SELECT command_id FROM exported_rejections))";

const DELETE_SNAPSHOTS: &str = "
    DELETE FROM workflow_snapshots WHERE task_id IN (SELECT value FROM json_each(?1))";
const DELETE_DRAFTS: &str = "DELETE FROM drafts WHERE task_id IN (SELECT value FROM json_each(?1))";

const HEAD: &str = "SELECT version, status FROM tasks WHERE task_id = ?1";
const PLACES: &str =
    "SELECT version, event_id, 0 AS batch, position FROM stored_events WHERE stream_id = ?1";

const PUT_EVENTS: &str = "
    INSERT INTO stored_events
        (position, stream_id, version, event_id, event_type, event_data, occurred_at, command_id,
         correlation_id, traceparent, actor, schema_version, gold)
    SELECT value ->> 0, ?2, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 6,
           value ->> '$[5].command_id',
           nullif(value ->> '$[5].correlation_id', value ->> '$[5].command_id'),
           value ->> '$[5].traceparent', value ->> '$[5].actor', value ->> '$[5].schema_version',
           coalesce(value ->> '$[5].gold', 0)
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT DO NOTHING";

const PUT_COMMANDS: &str = "
    INSERT INTO commands
        (command_id, task_id, type, outcome, reason, detail, result, content_hash, payload, decided_at)
    SELECT value ->> 0, ?2, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           unhex(value ->> 6), value ->> 7, value ->> 8
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (command_id) DO NOTHING";

const PUT_DRAFTS: &str = "
    INSERT INTO drafts (task_id, step_id, visit, user_id, draft, saved_at)
    SELECT ?2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
    FROM json_each(?1) WHERE true ORDER BY key
    ON CONFLICT (task_id, step_id, visit, user_id) DO NOTHING";

const FORGET_ARCHIVED: &str = "DELETE FROM archived_tasks WHERE task_id = ?1";

const ARCHIVED: &str = "
    SELECT task_id, archived_at FROM archived_tasks
    WHERE task_id IN (SELECT value FROM json_each(?1))";

#[async_trait]
impl Retention for SqliteEventStore {
    /// Whoever may write the file owns it.
    async fn check_owner(&self) -> Result<(), EventStoreError> {
        Ok(())
    }

    async fn leftovers(
        &self,
        kind: Leftover,
        after: Option<Uuid>,
        limit: u32,
        delete: bool,
    ) -> Result<LeftoverPage, EventStoreError> {
        let of = match kind {
            Leftover::Snapshots => SNAPSHOTS,
            Leftover::Drafts => DRAFTS,
            Leftover::RejectedPayloads => PAYLOADS,
        };
        let store = self.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let query = sqlx::query(of.page)
                .bind(after.map(Uuid::hyphenated))
                .bind(limit);
            let mut ids = fetch(&mut *tx, query, |row| nth::<Hyphenated>(row, 0)).await?;
            let is_full = ids.len() == limit as usize;
            let next_after = ids.last().filter(|_| is_full).map(|id| id.into_uuid());
            ids.dedup();
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let ids = array(&ids)?;
            let count = sqlx::query(of.count).bind(ids.clone());
            let found = fetch_optional(&mut *tx, count, |row| {
                let number = |index| nth::<i64>(row, index).map(|n| u64::try_from(n).unwrap_or(0));
                Ok((number(0)?, number(1)?))
            });
            let (rows, bytes) = found.await?.unwrap_or_default();
            if delete && rows > 0 {
                execute(&mut tx, sqlx::query(of.delete).bind(ids)).await?;
            }
            commit(tx).await?;
            Ok(LeftoverPage {
                rows,
                bytes,
                next_after,
            })
        })
        .await
    }

    async fn archivable(
        &self,
        before: DateTime<Utc>,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<TaskId>, EventStoreError> {
        let query = sqlx::query(ARCHIVABLE)
            .bind(micros(before))
            .bind(after.map(|task| task.0.hyphenated()))
            .bind(limit);
        self.fetch(query, |row| Columns::of("tasks", row).task("task_id"))
            .await
    }

    async fn whole_task(&self, task: TaskId) -> Result<Option<WholeTask>, EventStoreError> {
        let Some(row) = TaskIndex::task(self, task).await? else {
            return Ok(None);
        };
        let drafts = TaskIndex::drafts(self, task).await?;
        let id = task.0.hyphenated();
        let events = self
            .fetch(sqlx::query(EVENTS).bind(id), rows::whole_event)
            .await?;
        let commands = self.fetch(sqlx::query(COMMANDS).bind(id), rows::command);
        let commands = commands.await?.into_iter();
        Ok(Some(WholeTask {
            task: row,
            events,
            commands: commands.map(WholeCommand::from).collect(),
            drafts,
        }))
    }

    async fn archive(&self, tasks: &[ToArchive]) -> Result<Vec<TaskId>, EventStoreError> {
        let (store, tasks) = (self.clone(), tasks.to_vec());
        detached(async move {
            let mut tx = store.begin().await?;
            let archived = archive(&mut tx, tasks, store.now()).await?;
            commit(tx).await?;
            Ok(archived)
        })
        .await
    }

    async fn bring_back(&self, task: &WholeTask) -> Result<BroughtBack, EventStoreError> {
        let (store, task) = (self.clone(), task.clone());
        detached(async move {
            let mut tx = store.begin().await?;
            let done = bring_back(&mut tx, &task).await?;
            commit(tx).await?;
            Ok(done)
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
        let query = sqlx::query(ARCHIVED).bind(array(tasks)?);
        let found = self.fetch(query, |row| {
            let columns = Columns::of("archived_tasks", row);
            Ok((columns.task("task_id")?, columns.time("archived_at")?))
        });
        Ok(found.await?.into_iter().collect())
    }
}

async fn archive(
    connection: &mut SqliteConnection,
    mut tasks: Vec<ToArchive>,
    now: DateTime<Utc>,
) -> Result<Vec<TaskId>, EventStoreError> {
    let heads = tasks.iter().map(|one| &one.whole.task);
    let heads: Vec<_> = heads
        .map(|row| (row.task_id, integer(row.version)))
        .collect();
    let query = sqlx::query(STILL_ARCHIVABLE).bind(array(&heads)?);
    let ready = fetch(&mut *connection, query, |row| {
        Columns::of("tasks", row).task("task_id")
    });
    let ready: HashSet<TaskId> = ready.await?.into_iter().collect();
    tasks.retain(|one| ready.contains(&one.whole.task.task_id));
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<TaskId> = tasks.iter().map(|one| one.whole.task.task_id).collect();
    let states = tasks
        .iter()
        .map(|one| Ok((one.whole.task.task_id, json(&one.last_state()?)?)))
        .collect::<Result<Vec<_>, EventStoreError>>()?;
    let leaving = tasks.iter().flat_map(|one| {
        let versions = one.whole.leaving().into_iter();
        versions.map(|version| (one.whole.task.task_id, integer(version)))
    });
    let leaving: Vec<_> = leaving.collect();
    let commands: Vec<Uuid> = tasks
        .iter()
        .flat_map(|one| one.whole.command_ids())
        .collect();
    let ids_text = array(&ids)?;
    let statements = [
        sqlx::query(OPEN_THE_LOG),
        sqlx::query(KEEP).bind(array(&states)?).bind(micros(now)),
        sqlx::query(SET_ARCHIVED).bind(ids_text.clone()),
        sqlx::query(DELETE_EVENTS).bind(array(&leaving)?),
        sqlx::query(DELETE_COMMANDS).bind(array(&commands)?),
        sqlx::query(DELETE_SNAPSHOTS).bind(ids_text.clone()),
        sqlx::query(DELETE_DRAFTS).bind(ids_text),
        sqlx::query(CLOSE_THE_LOG),
    ];
    for statement in statements {
        execute(&mut *connection, statement).await?;
    }
    Ok(ids)
}

async fn bring_back(
    connection: &mut SqliteConnection,
    whole: &WholeTask,
) -> Result<BroughtBack, EventStoreError> {
    let task = whole.task.task_id.0.hyphenated();
    let head = fetch_optional(&mut *connection, sqlx::query(HEAD).bind(task), |row| {
        let version: u64 = Columns::of("tasks", row).number("version")?;
        Ok((version, rows::status(row)?))
    });
    let Some((version, status)) = head.await? else {
        return Ok(BroughtBack::NotThere);
    };
    let found = fetch(
        &mut *connection,
        sqlx::query(PLACES).bind(task),
        rows::event_place,
    )
    .await?;
    if version != whole.task.version || !whole.has(found) {
        return Ok(BroughtBack::Another);
    }
    if status != TaskStatus::Archived {
        return Ok(BroughtBack::AlreadyWhole);
    }
    let put = [
        (PUT_EVENTS, events(whole)?),
        (PUT_COMMANDS, commands(whole)?),
        (PUT_DRAFTS, drafts(whole)?),
    ];
    for (sql, rows) in put {
        execute(connection, sqlx::query(sql).bind(rows).bind(task)).await?;
    }
    write::tasks(connection, std::iter::once(&whole.task)).await?;
    execute(connection, sqlx::query(FORGET_ARCHIVED).bind(task)).await?;
    Ok(BroughtBack::Restored)
}

fn events(whole: &WholeTask) -> Result<String, EventStoreError> {
    let events = whole.events.iter().map(|one| {
        (
            one.position,
            integer(one.version),
            one.event_id,
            &one.event_type,
            one.event_data.get(),
            &one.metadata,
            micros(one.occurred_at),
        )
    });
    array(&events.collect::<Vec<_>>())
}

fn commands(whole: &WholeTask) -> Result<String, EventStoreError> {
    let commands = whole.commands.iter().map(|one| {
        let outcome = one.outcome.columns();
        Ok((
            one.command_id,
            plain(&one.command_type)?,
            outcome.outcome,
            outcome.reason.map(plain).transpose()?,
            outcome.detail.map(plain).transpose()?,
            outcome.result.map(json).transpose()?,
            &one.content_hash,
            one.payload.as_ref().map(json).transpose()?,
            micros(one.decided_at),
        ))
    });
    array(&commands.collect::<Result<Vec<_>, EventStoreError>>()?)
}

fn drafts(whole: &WholeTask) -> Result<String, EventStoreError> {
    let drafts = whole.drafts.iter().map(|one| {
        let draft = json(&one.draft)?;
        Ok((
            &one.step_id,
            one.visit,
            one.user_id,
            draft,
            micros(one.saved_at),
        ))
    });
    array(&drafts.collect::<Result<Vec<_>, EventStoreError>>()?)
}
