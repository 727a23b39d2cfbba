//! Projections of the log: checkpoint and rows, under the one lock of the file.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::{
    super::{
        EventStoreError, LogPosition, OpenProjection, ProjectionRows, ProjectionStore,
        ProjectionTx, ProjectionWrite,
        operator_commands::operator_command_in,
        rows::{self, Columns},
    },
    connection::{SqliteEventStore, commit, detached},
    deployment, goals,
    log::read_log,
    operator_commands::Tables,
    outbox::enqueue,
    query::{execute, fetch, fetch_optional, scalar},
    rows::{array, json},
};
use crate::limits::PAGE_MAX;

const CHECKPOINT: &str = "SELECT position FROM projections WHERE name = ?1";

const LAST: &str = "SELECT COALESCE(MAX(position), 0) FROM stored_events";

const ROWS: &str = "SELECT key, value FROM projection_rows WHERE projection = ?1";

const LAGS: &str = "
    SELECT p.name, (
        SELECT e.occurred_at FROM stored_events AS e
        WHERE e.position > p.position ORDER BY e.position LIMIT 1
    ) AS oldest FROM projections AS p";

const MOVE: &str = "
    INSERT INTO projections (name, position) VALUES (?1, ?2)
    ON CONFLICT (name) DO UPDATE SET position = excluded.position";

const SET: &str = "
    INSERT INTO projection_rows (projection, key, value)
    SELECT ?1, value ->> 0, value ->> 1 FROM json_each(?2) WHERE true ORDER BY key
    ON CONFLICT (projection, key) DO UPDATE SET value = excluded.value";

const UNSET: &str = "
    DELETE FROM projection_rows
    WHERE projection = ?1 AND key IN (SELECT value FROM json_each(?2))";

const FORGET: [&str; 2] = [
    "DELETE FROM projection_rows WHERE projection = ?1",
    "DELETE FROM projections WHERE name = ?1",
];

/// The transaction of an open step. It is the only writer of the file, so nothing is decided
/// concurrently.
struct SqliteProjection {
    store: SqliteEventStore,
    tx: Transaction<'static, Sqlite>,
    name: String,
    now: DateTime<Utc>,
}

async fn open(
    store: SqliteEventStore,
    name: String,
    limit: u32,
) -> Result<OpenProjection, EventStoreError> {
    let mut tx = store.begin().await?;
    let now = store.now();
    let log = deployment::logs(&mut tx).await?;
    let query = sqlx::query(CHECKPOINT).bind(&name);
    let checkpoint = fetch_optional(&mut *tx, query, |row| {
        Columns::of("projections", row).log_position()
    })
    .await?;
    let after = checkpoint.unwrap_or_default();
    // Nobody else writes meanwhile, so a step is short.
    let limit = limit.min(PAGE_MAX);
    let entries = read_log(&mut *tx, after, limit).await?;
    let last: i64 = scalar(&mut *tx, sqlx::query(LAST)).await?;
    let read = entries.last().map_or(after, |entry| entry.position);
    let settled = if read.entry >= last {
        now
    } else {
        DateTime::UNIX_EPOCH
    };
    let query = sqlx::query(ROWS).bind(&name);
    let rows = fetch(&mut *tx, query, rows::projection_row).await?;
    Ok(OpenProjection {
        now,
        log,
        settled,
        is_full: read.entry < last,
        entries: entries.into_iter().map(Arc::new).collect(),
        at_beginning: checkpoint.is_none(),
        rows: rows.into_iter().collect(),
        tx: Box::new(SqliteProjection {
            store,
            tx,
            name,
            now,
        }),
    })
}

async fn change_rows(
    connection: &mut SqliteConnection,
    sql: &'static str,
    name: &str,
    rows: String,
) -> Result<(), EventStoreError> {
    execute(connection, sqlx::query(sql).bind(name).bind(rows)).await
}

impl SqliteProjection {
    async fn write(
        self,
        write: ProjectionWrite,
        last: Option<LogPosition>,
    ) -> Result<(), EventStoreError> {
        let Self {
            store,
            mut tx,
            name,
            now,
        } = self;
        let (set, unset): (Vec<_>, Vec<_>) =
            write.rows.into_iter().partition(|(_, row)| row.is_some());
        if !set.is_empty() {
            let set = set
                .iter()
                .map(|(key, row)| Ok((key, json(row)?)))
                .collect::<Result<Vec<_>, EventStoreError>>()?;
            change_rows(&mut tx, SET, &name, array(&set)?).await?;
        }
        if !unset.is_empty() {
            let unset: Vec<_> = unset.into_iter().map(|(key, _)| key).collect();
            change_rows(&mut tx, UNSET, &name, array(&unset)?).await?;
        }
        enqueue(&mut tx, &write.messages, store.now()).await?;
        goals::add(&mut tx, &write.actions, now).await?;
        for operator_command in write.operator_commands {
            let mut tables = Tables {
                connection: &mut tx,
                now: store.now(),
            };
            operator_command_in(&mut tables, operator_command).await?;
        }
        if let Some(last) = last {
            let query = sqlx::query(MOVE).bind(&name).bind(last.entry);
            execute(&mut tx, query).await?;
        }
        commit(tx).await
    }
}

#[async_trait]
impl ProjectionTx for SqliteProjection {
    async fn commit(
        self: Box<Self>,
        write: ProjectionWrite,
        last: Option<LogPosition>,
    ) -> Result<(), EventStoreError> {
        detached(self.write(write, last)).await
    }
}

#[async_trait]
impl ProjectionStore for SqliteEventStore {
    /// Two processes wait for each other, as writers do, so this never returns `None`.
    async fn open_projection(
        &self,
        name: &str,
        limit: u32,
    ) -> Result<Option<OpenProjection>, EventStoreError> {
        let opened = detached(open(self.clone(), name.to_owned(), limit)).await?;
        Ok(Some(opened))
    }

    async fn projection_rows(&self, name: &str) -> Result<ProjectionRows, EventStoreError> {
        let query = sqlx::query(ROWS).bind(name);
        let found = self.fetch(query, rows::projection_row).await?;
        Ok(found.into_iter().collect())
    }

    async fn projection_lags(&self) -> Result<BTreeMap<String, f64>, EventStoreError> {
        let now = self.now();
        let lags = self.fetch(sqlx::query(LAGS), |row| {
            let columns = Columns::of("projections", row);
            let oldest = columns.opt_time("oldest")?;
            let lag = oldest.map_or(0.0, |oldest| (now - oldest).as_seconds_f64().max(0.0));
            Ok((columns.string("name")?, lag))
        });
        Ok(lags.await?.into_iter().collect())
    }

    async fn reset_projection(&self, name: &str) -> Result<(), EventStoreError> {
        let (store, name) = (self.clone(), name.to_owned());
        detached(async move {
            let mut tx = store.begin().await?;
            for sql in FORGET {
                execute(&mut tx, sqlx::query(sql).bind(&name)).await?;
            }
            commit(tx).await
        })
        .await
    }
}
