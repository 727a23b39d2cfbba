//! Postgres and RabbitMQ, with a database and names for each test.

use std::{collections::BTreeMap, process::Stdio, sync::Arc, time::Duration};

use glyph_worker::{
    amqp::{AmqpPublisher, AmqpSettings, AmqpSource, Topology},
    broker::{CommandQueue, RetryDelay},
    failpoints::Failpoints,
    metrics::Metrics,
    pipeline::{CommandProcessor, Pipeline, PipelineHandle, PipelineParts, PipelineSettings},
    traces::Traces,
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    store::{PgEventStore, PgSettings},
};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{
    process::{Child, Command},
    time::Instant,
};
use uuid::Uuid;

use super::{DEADLINE, engine::DUAL, eventually, schemas::assert_message};

fn database_url() -> String {
    std::env::var("DATABASE_URL")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

pub(crate) fn amqp_url() -> String {
    std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// A message taken from a queue.
pub(crate) struct Taken {
    pub(crate) body: Vec<u8>,
    pub(crate) properties: BasicProperties,
}

/// Services of one test; [`Services::remove`] removes everything that it created.
pub(crate) struct Services {
    database: String,
    pub(crate) database_url: String,
    pub(crate) prefix: String,
    pub(crate) topology: Topology,
    pub(crate) store: PgEventStore,
    amqp_url: String,
    channel: Channel,
    connection: Connection,
}

impl Services {
    pub(crate) async fn new() -> Self {
        Self::on(amqp_url()).await
    }

    /// With another broker than that of the other tests.
    pub(crate) async fn on(amqp_url: String) -> Self {
        let name = format!("glyph_it_{}", Uuid::now_v7().simple());
        let admin_url = database_url();
        let mut admin = PgConnection::connect(&admin_url).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(create).execute(&mut admin).await.unwrap();
        let (base, query) = admin_url.split_once('?').unwrap_or((&admin_url, ""));
        let base = base.rsplit_once('/').unwrap().0;
        let database_url = format!("{base}/{name}?{query}");
        let store = PgEventStore::connect(&database_url, PgSettings::default())
            .await
            .unwrap();
        store.migrate().await.unwrap();
        orchestrator(&store).create_workflow(DUAL).await.unwrap();
        let properties = ConnectionProperties::default();
        let connection = Connection::connect(&amqp_url, properties).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let topology = Topology::new(&name);
        Self {
            database: name.clone(),
            database_url,
            prefix: name,
            topology,
            store,
            amqp_url,
            channel,
            connection,
        }
    }

    pub(crate) fn amqp_settings(&self) -> AmqpSettings {
        AmqpSettings::new(&self.amqp_url, &self.prefix).unwrap()
    }

    /// A worker in this process.
    pub(crate) fn worker(&self, processor: Arc<dyn CommandProcessor>) -> Worker {
        let source = AmqpSource::start(self.amqp_settings());
        let publisher = AmqpPublisher::start(self.amqp_settings());
        let metrics = Arc::new(Metrics::new().unwrap());
        let pipeline = Pipeline::start(PipelineParts {
            orchestrator: processor,
            store: Arc::new(self.store.clone()),
            source: Some(source.clone()),
            publisher: Some(publisher.clone()),
            settings: PipelineSettings::default(),
            metrics: Arc::clone(&metrics),
            failpoints: Failpoints::default(),
            traces: Traces::default(),
        });
        Worker {
            pipeline,
            metrics,
            source,
            publisher,
        }
    }

    /// The real binary as a worker, not yet spawned.
    pub(crate) fn worker_process(&self) -> Command {
        let mut command = self.process(&["worker", "--no-http"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The binary with these services.
    pub(crate) fn process(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glyph"));
        command
            .args(arguments)
            .env("DATABASE_URL", &self.database_url)
            .env("AMQP_URL", &self.amqp_url)
            .env("GLYPH_PREFIX", &self.prefix)
            .env("GLYPH_BATCH_MAX", "32")
            .env("GLYPH_LOG", "warn")
            .env_remove("GLYPH_CRASH_AT")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub(crate) fn orchestrator(&self) -> Arc<WorkflowOrchestrator> {
        Arc::new(orchestrator(&self.store))
    }

    /// Waits until a worker has declared the topology, and binds a queue to every message.
    pub(crate) async fn tap(&self) -> String {
        let commands = self.topology.queue(CommandQueue::Control);
        eventually("the topology", || async {
            let channel = self.connection.create_channel().await.unwrap();
            let options = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let queue = commands.as_str().into();
            channel
                .queue_declare(queue, options, FieldTable::default())
                .await
                .ok()
        })
        .await;
        // The worker declares its exchanges before its queues.
        let queue = format!("{}.tap", self.prefix);
        let options = QueueDeclareOptions::default();
        let name = || queue.as_str().into();
        self.channel
            .queue_declare(name(), options, FieldTable::default())
            .await
            .unwrap();
        let (events, bind) = (self.topology.events(), QueueBindOptions::default());
        let exchange = events.as_str().into();
        let table = FieldTable::default();
        self.channel
            .queue_bind(name(), exchange, "#".into(), bind, table)
            .await
            .unwrap();
        queue
    }

    /// Publishes commands and waits for their confirms. What the broker refuses, as a queue may that
    /// has no leader yet, is sent again, as a producer does.
    pub(crate) async fn send(&self, commands: &[Value]) {
        let deadline = Instant::now() + DEADLINE;
        let mut left: Vec<&Value> = commands.iter().collect();
        while !left.is_empty() {
            let mut confirms = Vec::new();
            for command in &left {
                let key = command["type"].as_str().unwrap_or("submission");
                confirms.push(self.publish(key, command.to_string().as_bytes()).await);
            }
            let mut refused = Vec::new();
            for (command, confirm) in left.into_iter().zip(confirms) {
                if !confirm.await.unwrap().is_ack() {
                    refused.push(command);
                }
            }
            left = refused;
            assert!(left.is_empty() || Instant::now() < deadline, "{left:?}");
        }
    }

    pub(crate) async fn send_bytes(&self, key: &str, body: &[u8]) {
        assert!(self.publish(key, body).await.await.unwrap().is_ack());
    }

    /// Publishes a command with its producer's properties.
    pub(crate) async fn send_with(&self, key: &str, body: &[u8], properties: BasicProperties) {
        let sent = self.publish_with(key, body, properties).await;
        assert!(sent.await.unwrap().is_ack());
    }

    /// Publishes a command; returns a future of its confirm.
    async fn publish(
        &self,
        key: &str,
        body: &[u8],
    ) -> impl Future<Output = lapin::Result<Confirmation>> + use<> {
        let properties = BasicProperties::default().with_delivery_mode(2);
        self.publish_with(key, body, properties).await
    }

    async fn publish_with(
        &self,
        key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> impl Future<Output = lapin::Result<Confirmation>> + use<> {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let commands = self.topology.commands();
        let exchange = commands.as_str().into();
        self.channel
            .basic_publish(exchange, key.into(), options, body, properties)
            .await
            .unwrap()
    }

    /// Takes all messages that wait in a queue.
    pub(crate) async fn take(&self, queue: &str) -> Vec<Taken> {
        let options = BasicGetOptions { no_ack: true };
        let mut taken = Vec::new();
        while let Some(message) = self.channel.basic_get(queue.into(), options).await.unwrap() {
            let message = message.delivery;
            taken.push(Taken {
                body: message.data,
                properties: message.properties,
            });
        }
        taken
    }

    /// Takes messages until `enough` of them are there.
    pub(crate) async fn take_until(
        &self,
        queue: &str,
        enough: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let mut messages = Vec::new();
        let deadline = Instant::now() + 2 * DEADLINE;
        while !enough(&messages) {
            for taken in self.take(queue).await {
                let body: Value = serde_json::from_slice(&taken.body).unwrap();
                assert_message(&body);
                messages.push(body);
            }
            assert!(
                Instant::now() < deadline,
                "only {} messages in {queue}",
                messages.len()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        messages
    }

    /// One number from the database.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        let query = AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query)
            .fetch_one(self.store.pool())
            .await
            .unwrap()
    }

    /// Sets a parameter for the sessions of this database, and ends those that have begun.
    pub(crate) async fn set_for_database(&self, setting: &str) {
        let mut admin = PgConnection::connect(&database_url()).await.unwrap();
        let alter = AssertSqlSafe(format!("ALTER DATABASE {} SET {setting}", self.database));
        sqlx::query(alter).execute(&mut admin).await.unwrap();
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        let end = sqlx::query(end).bind(&self.database);
        end.execute(&mut admin).await.unwrap();
    }

    /// Waits until the outbox is empty.
    pub(crate) async fn outbox_empty(&self) {
        let deadline = Instant::now() + 2 * DEADLINE;
        while self.count("SELECT count(*) FROM outbox").await > 0 {
            assert!(Instant::now() < deadline, "the outbox does not empty");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether no command waits, in the queues or on the retry ladder.
    pub(crate) async fn queues_empty(&self) -> bool {
        let mut queues: Vec<_> = CommandQueue::ALL.map(|q| self.topology.queue(q)).into();
        queues.extend(RetryDelay::ALL.map(|delay| self.topology.retry(delay)));
        for queue in queues {
            let options = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let declare = self
                .channel
                .queue_declare(queue.into(), options, FieldTable::default());
            if declare.await.unwrap().message_count() > 0 {
                return false;
            }
        }
        true
    }

    /// Whether there is such a queue.
    pub(crate) async fn queue_exists(&self, queue: &str) -> bool {
        // A refusal closes the channel.
        let channel = self.connection.create_channel().await.unwrap();
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        declared.await.is_ok()
    }

    /// Ends a worker process, and removes everything.
    pub(crate) async fn end(self, mut worker: Child) {
        worker.start_kill().unwrap();
        worker.wait().await.unwrap();
        self.remove().await;
    }

    /// Removes database, queues and exchanges.
    pub(crate) async fn remove(self) {
        let mut queues = self.topology.queues();
        queues.push(format!("{}.tap", self.prefix));
        for queue in queues {
            // A refusal closes the channel, so each gets its own.
            let channel = self.connection.create_channel().await.unwrap();
            let _ = channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await;
        }
        for exchange in self.topology.exchanges() {
            let channel = self.connection.create_channel().await.unwrap();
            let _ = channel
                .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
                .await;
        }
        self.store.pool().close().await;
        let mut admin = PgConnection::connect(&database_url()).await.unwrap();
        let drop = AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.database));
        sqlx::query(drop).execute(&mut admin).await.unwrap();
    }
}

fn orchestrator(store: &PgEventStore) -> WorkflowOrchestrator {
    let store = Arc::new(store.clone());
    WorkflowOrchestrator::new(store.clone(), store)
        .with_messages(Arc::new(CloudEventMessages::default()))
}

/// A worker in this process.
pub(crate) struct Worker {
    pub(crate) pipeline: PipelineHandle,
    pub(crate) metrics: Arc<Metrics>,
    source: Arc<AmqpSource>,
    publisher: Arc<AmqpPublisher>,
}

impl Worker {
    pub(crate) async fn stop(self) {
        assert!(
            self.pipeline.drain(Instant::now() + DEADLINE).await,
            "not drained in time"
        );
        self.source.close().await;
        self.publisher.close().await;
    }
}

/// Versions of each task in the order of their first delivery; panics if one is early.
pub(crate) fn assert_first_deliveries_in_order(messages: &[Value]) {
    let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in messages
        .iter()
        .filter(|message| message.get("sequence").is_some())
    {
        let task = message["subject"].as_str().unwrap().to_owned();
        let sequence = message["sequence"].as_str().unwrap().to_owned();
        let of_task = seen.entry(task).or_default();
        if !of_task.contains(&sequence) {
            assert!(
                of_task.last() < Some(&sequence),
                "{of_task:?} before {message:#}"
            );
            of_task.push(sequence);
        }
    }
}
