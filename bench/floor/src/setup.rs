//! What the program is told, and its tables.

use std::{env, str::FromStr};

use sqlx::{AssertSqlSafe, Connection, PgConnection, postgres::PgConnectOptions};

use crate::Fallible;

/// The tables that the promises of a worker need at least.
const TABLES: &str = "
    CREATE TABLE heads (
        task_id uuid PRIMARY KEY, version bigint NOT NULL, status text NOT NULL
    ) WITH (fillfactor = 50);
    CREATE TABLE events (
        stream_id uuid NOT NULL, version bigint NOT NULL, type text NOT NULL, data jsonb NOT NULL,
        position bigint GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (stream_id, version)
    );
    CREATE TABLE commands (
        command_id uuid PRIMARY KEY, task_id uuid NOT NULL, outcome text NOT NULL,
        content_hash bytea NOT NULL, decided_at timestamptz NOT NULL
    );
    CREATE TABLE outbox (
        task_id uuid NOT NULL, from_version bigint NOT NULL, to_version bigint NOT NULL,
        owner bigint NOT NULL, PRIMARY KEY (task_id, from_version)
    );";

/// What the program is told.
pub(crate) struct Setup {
    database: PgConnectOptions,
    schema: String,
    /// The broker's URL.
    pub(crate) broker: String,
    /// The prefix of exchanges and queues, which are there.
    pub(crate) prefix: String,
    /// Batches at a time.
    pub(crate) lanes: usize,
    /// Commands in a batch.
    pub(crate) batch_max: usize,
    /// Events of a command, on average, and their bytes.
    pub(crate) events: f64,
    pub(crate) event_bytes: usize,
    /// Messages of a command, on average, and their bytes.
    pub(crate) messages: f64,
    pub(crate) message_bytes: usize,
}

impl Setup {
    /// Reads the environment.
    pub(crate) fn from_environment() -> Fallible<Self> {
        Ok(Self {
            database: PgConnectOptions::from_str(&text("DATABASE_URL")?)?,
            schema: text("GLYPH_SCHEMA")?,
            broker: text("AMQP_URL")?,
            prefix: text("GLYPH_PREFIX")?,
            lanes: number("GLYPH_LANES")?,
            batch_max: number("GLYPH_BATCH_MAX")?,
            events: number("FLOOR_EVENTS")?,
            event_bytes: number("FLOOR_EVENT_BYTES")?,
            messages: number("FLOOR_MESSAGES")?,
            message_bytes: number("FLOOR_MESSAGE_BYTES")?,
        })
    }

    /// A connection whose commits are synchronous.
    pub(crate) async fn connect(&self) -> Fallible<PgConnection> {
        let options = self.database.clone().options([
            ("search_path", self.schema.as_str()),
            ("synchronous_commit", "on"),
        ]);
        Ok(PgConnection::connect_with(&options).await?)
    }

    /// Makes the tables; they go with their schema.
    pub(crate) async fn make_tables(&self) -> Fallible<()> {
        let mut connection = self.connect().await?;
        let schema = format!("CREATE SCHEMA IF NOT EXISTS \"{}\"", self.schema);
        sqlx::raw_sql(AssertSqlSafe(schema))
            .execute(&mut connection)
            .await?;
        sqlx::raw_sql(TABLES).execute(&mut connection).await?;
        Ok(())
    }
}

fn text(name: &str) -> Fallible<String> {
    env::var(name).map_err(|_| format!("{name} is not set; `glyph bench --floor` sets it").into())
}

fn number<T: FromStr>(name: &str) -> Fallible<T> {
    let text = text(name)?;
    text.parse()
        .map_err(|_| format!("{name}: `{text}` is no number that it can be").into())
}
