//! The RabbitMQ adapter against a real broker. Each test uses its own names and removes them
//! afterwards. Broken connections are simulated by a small proxy between adapter and broker.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

mod commands;
mod dead_letters;
mod failures;
mod messages;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use futures::FutureExt;
use glyph_worker::{
    amqp::{AmqpPublisher, AmqpSettings, AmqpSource, Topology, declare_topology},
    broker::{
        CommandQueue, CommandSource, Delivery, Destination, MessagePublisher, Publication,
        PublishOutcome, Receipt, RetryDelay,
    },
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions,
        QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use tokio::time::{Instant, timeout};

use crate::support::proxy::{Cable, Proxy};

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

// Fixtures

fn broker_url() -> String {
    std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// A raw connection and the names of one test.
#[derive(Clone)]
struct World {
    topology: Topology,
    channel: Channel,
    connection: Arc<Connection>,
}

impl World {
    fn settings(&self) -> AmqpSettings {
        self.settings_by(&broker_url())
    }

    fn settings_by(&self, url: &str) -> AmqpSettings {
        AmqpSettings::new(url, self.topology.prefix()).unwrap()
    }

    fn queues(&self) -> Vec<String> {
        let mut names: Vec<_> = CommandQueue::ALL
            .iter()
            .map(|queue| self.topology.queue(*queue))
            .collect();
        names.extend(
            RetryDelay::ALL
                .iter()
                .map(|delay| self.topology.retry(*delay)),
        );
        names.extend([
            self.topology.dead(),
            self.topology.step_completed(),
            self.topology.transition_occurred(),
            self.topology.deployment(),
        ]);
        names
    }

    async fn remove_names(&self) {
        // Any refusal closes the channel, so each queue gets its own.
        for queue in self.queues() {
            let channel = self.connection.create_channel().await.unwrap();
            let _ = channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await;
        }
        let mut exchanges: Vec<_> = RetryDelay::ALL
            .iter()
            .map(|delay| self.topology.retry(*delay))
            .collect();
        exchanges.extend([
            self.topology.commands(),
            self.topology.events(),
            self.topology.dead(),
        ]);
        for exchange in exchanges {
            let channel = self.connection.create_channel().await.unwrap();
            let _ = channel
                .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
                .await;
        }
    }

    /// Consumers of a queue.
    async fn consumers(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        self.channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .unwrap()
            .consumer_count()
    }

    /// Messages that wait in a queue.
    async fn waiting(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        self.channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .unwrap()
            .message_count()
    }

    async fn wait_for_waiting(&self, queue: &str, count: u32) {
        eventually(&format!("{count} messages in {queue}"), async || {
            self.waiting(queue).await == count
        })
        .await;
    }

    /// Takes all messages of a queue.
    async fn drain(&self, queue: &str) -> Vec<lapin::message::Delivery> {
        let mut taken = Vec::new();
        while let Some(message) = self
            .channel
            .basic_get(queue.into(), BasicGetOptions { no_ack: true })
            .await
            .unwrap()
        {
            taken.push(message.delivery);
        }
        taken
    }

    /// Publishes straight into a queue.
    async fn put(&self, queue: &str, body: &str) {
        self.channel
            .basic_publish(
                "".into(),
                queue.into(),
                BasicPublishOptions {
                    mandatory: true,
                    immediate: false,
                },
                body.as_bytes(),
                BasicProperties::default().with_delivery_mode(2),
            )
            .await
            .unwrap()
            .await
            .unwrap();
    }

    async fn publisher(&self) -> Arc<AmqpPublisher> {
        let publisher = AmqpPublisher::start(self.settings());
        publishing(&publisher).await;
        publisher
    }

    /// One that finds everything declared, so that nobody searches the dead queue meanwhile.
    async fn publisher_on_a_whole_topology(&self) -> Arc<AmqpPublisher> {
        declare_topology(&self.settings(), false).await.unwrap();
        self.publisher().await
    }

    async fn source(&self) -> Arc<AmqpSource> {
        let source = AmqpSource::start(self.settings());
        consuming(&source).await;
        source
    }
}

/// Runs a test with its own names, which are removed even if it fails. Without a broker the test
/// fails, unless only tests without services were requested.
async fn with_world(test: impl AsyncFnOnce(World)) {
    if std::env::var("GLYPH_TEST_CORE").is_ok_and(|value| value == "1") {
        eprintln!("not run: it needs RabbitMQ");
        return;
    }
    let url = broker_url();
    let connection = timeout(
        DEADLINE,
        Connection::connect(&url, ConnectionProperties::default()),
    )
    .await
    .expect("RabbitMQ must answer at AMQP_URL")
    .expect("RabbitMQ must be running at AMQP_URL");
    let channel = connection.create_channel().await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let world = World {
        topology: Topology::new(&format!("it-{}", uuid::Uuid::now_v7().simple())),
        channel,
        connection: Arc::new(connection),
    };
    let outcome = AssertUnwindSafe(test(world.clone())).catch_unwind().await;
    // The client may report channels that were closed by a refusal, and a farewell may never end; the
    // result is the same.
    let farewell = async {
        world.remove_names().await;
        world.connection.close(200, "OK".into()).await
    };
    let _ = timeout(DEADLINE, farewell).await;
    if let Err(failure) = outcome {
        std::panic::resume_unwind(failure);
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        look.tick().await;
    }
}

async fn publishing(publisher: &AmqpPublisher) {
    let mut state = publisher.state();
    timeout(DEADLINE, state.wait_for(|state| state.publishing))
        .await
        .unwrap()
        .unwrap();
}

async fn consuming(source: &AmqpSource) {
    let mut state = source.state();
    timeout(DEADLINE, state.wait_for(|state| state.consuming))
        .await
        .unwrap()
        .unwrap();
}

async fn next(source: &AmqpSource) -> Delivery {
    timeout(DEADLINE, source.next())
        .await
        .expect("a delivery in time")
        .expect("a delivery")
}

async fn next_many(source: &AmqpSource, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(count);
    while deliveries.len() < count {
        deliveries.push(next(source).await);
    }
    deliveries
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt).collect()
}

fn bodies(deliveries: &[Delivery]) -> BTreeSet<String> {
    deliveries
        .iter()
        .map(|delivery| String::from_utf8(delivery.body.clone()).unwrap())
        .collect()
}

fn message(destination: Destination, routing_key: &str, body: &str) -> Publication {
    Publication {
        destination,
        routing_key: routing_key.to_owned(),
        message_id: uuid::Uuid::now_v7().to_string(),
        message_type: routing_key.to_owned(),
        correlation_id: Some("correlation".to_owned()),
        reply_to: None,
        headers: BTreeMap::from([("traceparent".to_owned(), "00-abc-def-01".to_owned())]),
        original: None,
        content_type: "application/json",
        body: body.as_bytes().into(),
        timestamp: Utc::now(),
        mandatory: true,
        persistent: true,
    }
}

fn commands(kind: &str, bodies: impl Iterator<Item = usize>) -> Vec<Publication> {
    bodies
        .map(|body| message(Destination::Commands, kind, &body.to_string()))
        .collect()
}

async fn publish_all(publisher: &AmqpPublisher, window: &[Publication]) {
    let outcomes = publisher.publish(0, window).await;
    assert_eq!(outcomes, vec![PublishOutcome::Confirmed; window.len()]);
}

/// A proxied connection to the broker.
async fn proxy(cable: Cable) -> Proxy {
    Proxy::start(&broker_url(), 5672, cable).await
}

// Commands

// Messages

// Failures

// Dead letters
