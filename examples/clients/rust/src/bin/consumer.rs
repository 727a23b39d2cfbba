//! Keeps how tasks stand, and their results, in a SQLite file: acts on each message once and in
//! order.
//!
//! ```console
//! $ AMQP_URL=amqp://guest:guest@localhost:5672 cargo run -p glyph-example-clients --bin consumer -- tasks.sqlite
//! ```
//!
//! Change `act` to what your system does with a message. Settings: `AMQP_URL`, `GLYPH_PREFIX`
//! (`glyph`), `QUEUE`, `BINDING`.

#![expect(clippy::print_stdout, reason = "it talks to whoever has started it")]

use std::{
    convert::Infallible,
    env,
    error::Error,
    time::{Duration, Instant},
};

use futures::StreamExt;
use lapin::{
    Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use sqlx::{
    Connection as _, Sqlite, SqliteConnection, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::signal::unix::{SignalKind, signal};

/// How many messages may be on their way to this program. They are acted on one after the other.
const PREFETCH: u16 = 50;
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Everything that goes wrong with a connection ends it, and another one is made.
type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<()> {
    let settings = Settings::read();
    let path = env::args().nth(1);
    let mut database = open_database(path.as_deref().unwrap_or("tasks.sqlite")).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    // Whatever is under way may be dropped: what is not acknowledged comes again.
    tokio::select! {
        never = consume_for_ever(&settings, &mut database) => match never {},
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    database.close().await?;
    Ok(())
}

struct Settings {
    url: String,
    exchange: String,
    queue: String,
    binding: String,
}

impl Settings {
    fn read() -> Self {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let prefix = set("GLYPH_PREFIX").unwrap_or_else(|| "glyph".to_owned());
        Self {
            url: set("AMQP_URL").unwrap_or_else(|| "amqp://guest:guest@localhost:5672".to_owned()),
            exchange: format!("{prefix}.events"),
            queue: set("QUEUE").unwrap_or_else(|| format!("{prefix}.task-states")),
            binding: set("BINDING").unwrap_or_else(|| "workflow.#".to_owned()),
        }
    }
}

async fn open_database(path: &str) -> Fallible<SqliteConnection> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    let mut database = SqliteConnection::connect_with(&options).await?;
    for table in [
        // The ids of messages that have been acted on. Ids older than any that can still come may
        // be deleted.
        "CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP)",
        "CREATE TABLE IF NOT EXISTS tasks
             (task_id TEXT PRIMARY KEY, sequence TEXT, workflow TEXT, status TEXT, result TEXT)",
    ] {
        sqlx::query(table).execute(&mut database).await?;
    }
    Ok(database)
}

/// Runs in the transaction that notes the id: either both are kept, or neither.
///
/// What leaves the database (a mail, a call) cannot be part of it. Give such a call the message's
/// id as its idempotency key, or write down here what is to be done and do it from there.
async fn act(transaction: &mut Transaction<'_, Sqlite>, message: &Value) -> Fallible<()> {
    let Some(sequence) = message["sequence"].as_str() else {
        return Ok(()); // about a whole workflow
    };
    let data = &message["data"];
    // `completed`, of `dev.glyph.workflow.completed.v1`
    let status = message["type"]
        .as_str()
        .and_then(|kind| kind.split('.').nth(3));
    let result = (status == Some("completed")).then(|| data["output"]["result"].to_string());
    // What comes again from the feed, or after a nack, must not replace what is newer.
    sqlx::query(
        "INSERT INTO tasks VALUES (?, ?, ?, ?, ?) ON CONFLICT (task_id) DO UPDATE
         SET sequence = excluded.sequence, workflow = excluded.workflow, status = excluded.status,
             result = excluded.result
         WHERE excluded.sequence > tasks.sequence",
    )
    .bind(message["subject"].as_str())
    .bind(sequence)
    .bind(data["workflow"].as_str())
    .bind(status)
    .bind(result)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Acts on a message unless it has been acted on before.
async fn handle(database: &mut SqliteConnection, body: &[u8]) -> Fallible<()> {
    let message: Value = serde_json::from_slice(body)?;
    let mut transaction = database.begin().await?;
    let noted = sqlx::query("INSERT OR IGNORE INTO seen (id) VALUES (?)")
        .bind(message["id"].as_str())
        .execute(&mut *transaction)
        .await?;
    if noted.rows_affected() == 1 {
        act(&mut transaction, &message).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// Until the connection fails.
async fn consume(settings: &Settings, database: &mut SqliteConnection) -> Fallible<()> {
    let name = format!("consumer of {}", settings.queue);
    let options = ConnectionProperties::default().with_connection_name(name.into());
    let connection = Connection::connect(&settings.url, options).await?;
    let channel = connection.create_channel().await?;
    // A queue of one's own. One reader at a time keeps the order; others wait in case it dies.
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let queue = settings.queue.as_str();
    channel
        .queue_declare(queue.into(), durable, arguments)
        .await?;
    channel
        .queue_bind(
            queue.into(),
            settings.exchange.as_str().into(),
            settings.binding.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut deliveries = channel
        .basic_consume(
            queue.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    println!("reading {queue}");
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        if let Err(error) = handle(database, &delivery.data).await {
            // Without an ack this message and all after it come again, in order.
            connection.close(200, "failed".into()).await?;
            return Err(error);
        }
        channel
            .basic_ack(delivery.delivery_tag, BasicAckOptions::default())
            .await?;
    }
    Err("the queue was deleted".into())
}

async fn consume_for_ever(settings: &Settings, database: &mut SqliteConnection) -> Infallible {
    let mut wait = Duration::from_secs(1);
    loop {
        let began = Instant::now();
        if let Err(error) = consume(settings, database).await {
            if began.elapsed() > WAIT_MAX {
                wait = Duration::from_secs(1);
            }
            eprintln!("{error}; again in {} s", wait.as_secs());
        }
        tokio::time::sleep(wait).await;
        wait = WAIT_MAX.min(2 * wait);
    }
}
