//! The RabbitMQ adapter against a real broker. Each test has names of its own and removes them
//! afterwards; cables that break are a small proxy between the adapter and the broker.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends at the first thing that goes wrong"
)]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use futures::FutureExt;
use glyph_worker::{
    amqp::{AmqpDeadLetters, AmqpPublisher, AmqpSettings, AmqpSource, DELIVERY_LIMIT, Topology},
    broker::{
        CommandQueue, CommandSource, DeadLetters, Delivery, Destination, MessagePublisher,
        Publication, PublishOutcome, Receipt, RetryDelay,
    },
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions,
        ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use tokio::time::{Instant, timeout};

use crate::support::proxy::{Cable, Proxy};

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

// ---------------------------------------------------------------------------------------------
// Surroundings

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
        ]);
        names
    }

    async fn remove_names(&self) {
        // Any refusal closes the channel, so each goes on its own.
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

    /// Takes every message of a queue.
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

    async fn source(&self) -> Arc<AmqpSource> {
        let source = AmqpSource::start(self.settings());
        consuming(&source).await;
        source
    }
}

/// Runs a test with names of its own, which are removed even if it fails. Without a broker it fails,
/// unless only what needs no service is asked for.
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
    world.remove_names().await;
    // The client may complain about channels that were refused something; the end is the same.
    let _ = world.connection.close(200, "OK".into()).await;
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

/// A cable to the broker.
async fn proxy(cable: Cable) -> Proxy {
    Proxy::start(&broker_url(), 5672, cable).await
}

// ---------------------------------------------------------------------------------------------
// Commands

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_arrive_with_their_properties_and_are_acked_in_any_order() {
    with_world(async |world| {
        let (publisher, source) = (world.publisher().await, world.source().await);
        let mut window = commands("submission", 0..200);
        window.extend(commands("advance", 200..300));
        window.extend(commands("migrate", 300..400));
        publish_all(&publisher, &window).await;

        let deliveries = next_many(&source, window.len()).await;
        assert_eq!(bodies(&deliveries).len(), window.len());
        for delivery in &deliveries {
            let body: usize = std::str::from_utf8(&delivery.body)
                .unwrap()
                .parse()
                .unwrap();
            let sent = &window[body];
            assert_eq!(delivery.queue, CommandQueue::of(&sent.routing_key));
            assert_eq!(delivery.deliveries_before, 0);
            assert_eq!(delivery.properties.routing_key, sent.routing_key);
            assert_eq!(
                delivery.properties.message_id.as_ref(),
                Some(&sent.message_id)
            );
            assert_eq!(
                delivery.properties.message_type.as_ref(),
                Some(&sent.message_type)
            );
            assert_eq!(delivery.properties.correlation_id, sent.correlation_id);
            assert_eq!(delivery.properties.headers, sent.headers);
        }

        // The first of each queue, and every seventh, are never settled and must come back.
        let (kept, settled): (Vec<_>, Vec<_>) = deliveries
            .into_iter()
            .partition(|delivery| delivery.receipt.tag == 1 || delivery.receipt.tag % 7 == 0);
        let mut shuffled = receipts(&settled);
        shuffled.sort_by_key(|receipt| (receipt.tag * 7_919) % 1_009);
        for some in shuffled.chunks(13) {
            source.settle(some);
        }
        source.settle(&[
            Receipt {
                channel: 999,
                tag: 1,
            },
            Receipt {
                channel: 1,
                tag: 9_999,
            },
        ]);
        assert_eq!(source.late_receipts(), 1);
        source.close().await;

        // Acks that wait behind an unsettled delivery go down with the connection, if it lags by
        // less than half the prefetch: what comes back is at least what was kept.
        let again = world.source().await;
        let mut back = BTreeSet::new();
        let kept = bodies(&kept);
        while !back.is_superset(&kept) {
            let delivery = next(&again).await;
            assert!(delivery.deliveries_before > 0);
            back.insert(String::from_utf8(delivery.body).unwrap());
        }
        again.close().await;
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_settled_does_not_come_back() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let mut settings = world.settings();
        settings.prefetch = 20;
        let source = AmqpSource::start(settings);
        consuming(&source).await;
        publish_all(&publisher, &commands("submission", 0..500)).await;

        // One delivery lags behind all the others; the broker must not run dry for it.
        let first = next(&source).await;
        for _ in 1..500 {
            let delivery = next(&source).await;
            source.settle(&[delivery.receipt]);
        }
        source.settle(&[first.receipt]);
        source.close().await;
        assert_eq!(
            world
                .waiting(&world.topology.queue(CommandQueue::Submission))
                .await,
            0
        );
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_comes_again() {
    with_world(async |world| {
        let (publisher, source) = (world.publisher().await, world.source().await);
        publish_all(&publisher, &commands("start", 0..10)).await;
        let deliveries = next_many(&source, 10).await;
        source.give_back(&receipts(&deliveries[3..6]));
        source.settle(&receipts(&deliveries[..3]));
        source.settle(&receipts(&deliveries[6..]));
        let again = next_many(&source, 3).await;
        assert_eq!(bodies(&again), bodies(&deliveries[3..6]));
        source.settle(&receipts(&again));
        source.close().await;
        assert_eq!(
            world
                .waiting(&world.topology.queue(CommandQueue::Control))
                .await,
            0
        );
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_on_a_dead_channel_is_counted_and_the_commands_come_again() {
    with_world(async |world| {
        let proxy = proxy(Cable::Whole).await;
        let (publisher, source) = (
            world.publisher().await,
            AmqpSource::start(world.settings_by(&proxy.url())),
        );
        consuming(&source).await;
        publish_all(&publisher, &commands("advance", 0..30)).await;
        let lost = next_many(&source, 30).await;

        let mut state = source.state();
        proxy.set(Cable::Cut);
        timeout(DEADLINE, state.wait_for(|state| !state.consuming))
            .await
            .unwrap()
            .unwrap();
        source.settle(&receipts(&lost));
        assert_eq!(source.late_receipts(), 30);
        proxy.set(Cable::Whole);

        let again = next_many(&source, 30).await;
        assert_eq!(bodies(&again), bodies(&lost));
        assert!(again.iter().all(|delivery| delivery.deliveries_before == 1));
        assert!(
            again
                .iter()
                .all(|delivery| delivery.receipt.channel > lost[0].receipt.channel)
        );
        source.settle(&receipts(&again));
        source.close().await;
        assert_eq!(
            world
                .waiting(&world.topology.queue(CommandQueue::Advance))
                .await,
            0
        );
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_hands_out_what_was_buffered_and_still_acks() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let mut settings = world.settings();
        settings.prefetch = 40;
        let source = AmqpSource::start(settings);
        consuming(&source).await;
        publish_all(&publisher, &commands("submission", 0..100)).await;
        let queue = world.topology.queue(CommandQueue::Submission);
        world.wait_for_waiting(&queue, 60).await;

        source.stop().await;
        let mut drained = Vec::new();
        while let Some(delivery) = timeout(DEADLINE, source.next()).await.unwrap() {
            drained.push(delivery);
        }
        assert_eq!(drained.len(), 40);
        source.settle(&receipts(&drained));
        source.close().await;
        assert_eq!(world.waiting(&queue).await, 60);
        // Nothing was delivered in vain.
        let again = world.source().await;
        let rest = next_many(&again, 60).await;
        assert!(rest.iter().all(|delivery| delivery.deliveries_before == 0));
        again.close().await;
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_source_leaves_commands_to_the_broker() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let mut settings = world.settings();
        settings.prefetch = 10;
        let source = AmqpSource::start(settings);
        consuming(&source).await;
        source.hold(true);
        publish_all(&publisher, &commands("submission", 0..50)).await;
        let queue = world.topology.queue(CommandQueue::Submission);
        world.wait_for_waiting(&queue, 40).await;
        source.hold(false);
        for _ in 0..50 {
            let delivery = next(&source).await;
            source.settle(&[delivery.receipt]);
        }
        source.close().await;
        assert_eq!(world.waiting(&queue).await, 0);
        publisher.close().await;
    })
    .await;
}

// ---------------------------------------------------------------------------------------------
// Messages

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_window_half_unroutable_each_outcome_is_right() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let mut routed = HashSet::new();
        for round in 0..10_usize {
            let window: Vec<_> = (0..40_usize)
                .map(|n| {
                    let lost = (n * 7 + round) % 4 < 2;
                    let key = if lost {
                        "nowhere.to.go"
                    } else {
                        "step.completed.w.s"
                    };
                    message(Destination::Events, key, "{}")
                })
                .collect();
            let outcomes = publisher.publish(round, &window).await;
            for (message, outcome) in window.iter().zip(outcomes) {
                if message.routing_key == "nowhere.to.go" {
                    assert!(
                        matches!(outcome, PublishOutcome::Returned(_)),
                        "{outcome:?}"
                    );
                } else {
                    assert_eq!(outcome, PublishOutcome::Confirmed);
                    routed.insert(message.message_id.clone());
                }
            }
        }
        let arrived: HashSet<_> = world
            .drain(&world.topology.step_completed())
            .await
            .iter()
            .map(|delivery| {
                delivery
                    .properties
                    .message_id()
                    .as_ref()
                    .unwrap()
                    .to_string()
            })
            .collect();
        assert_eq!(arrived, routed);
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_window_arrive_in_order_with_their_properties() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let window: Vec<_> = (0..256)
            .map(|n| {
                message(
                    Destination::Events,
                    "transition.occurred.w.s",
                    &n.to_string(),
                )
            })
            .collect();
        publish_all(&publisher, &window).await;
        let arrived = world.drain(&world.topology.transition_occurred()).await;
        assert_eq!(arrived.len(), window.len());
        for (delivery, sent) in arrived.iter().zip(&window) {
            let properties = &delivery.properties;
            assert_eq!(delivery.data, &*sent.body);
            assert_eq!(
                properties.message_id().as_ref().unwrap().as_str(),
                sent.message_id
            );
            assert_eq!(
                properties.kind().as_ref().unwrap().as_str(),
                sent.message_type
            );
            assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "glyph");
            assert_eq!(
                properties.content_type().as_ref().unwrap().as_str(),
                "application/json"
            );
            assert_eq!(*properties.delivery_mode(), Some(2));
            assert_eq!(
                properties.timestamp().map(|seconds| seconds.to_string()),
                Some(sent.timestamp.timestamp().to_string())
            );
        }
        // Another type may have no listener, and a message may be too odd for AMQP.
        let mut free = message(Destination::Events, "goal.progressed", "{}");
        free.mandatory = false;
        let odd = message(Destination::Events, &"k".repeat(300), "{}");
        let outcomes = publisher.publish(1, &[free, odd]).await;
        assert_eq!(outcomes[0], PublishOutcome::Confirmed);
        assert!(matches!(outcomes[1], PublishOutcome::Returned(_)));
        publisher.close().await;
    })
    .await;
}

/// The queue was made by an operator, with other properties: it is used as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_nacks_and_an_operators_queue_is_used_as_it_is() {
    with_world(async |world| {
        let mut arguments = FieldTable::default();
        arguments.insert(
            "x-queue-type".into(),
            AMQPValue::LongString("quorum".into()),
        );
        arguments.insert(
            "x-overflow".into(),
            AMQPValue::LongString("reject-publish".into()),
        );
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(3));
        let options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let queue = world.topology.step_completed();
        world
            .channel
            .queue_declare(queue.as_str().into(), options, arguments)
            .await
            .unwrap();

        let publisher = world.publisher().await;
        let one = message(Destination::Events, "step.completed.w.s", "{}");
        let (mut confirmed, mut nacked) = (0, 0);
        for _ in 0..20 {
            match publisher
                .publish(0, std::slice::from_ref(&one))
                .await
                .remove(0)
            {
                PublishOutcome::Confirmed => confirmed += 1,
                PublishOutcome::Nacked => nacked += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(
            confirmed >= 3 && nacked >= 10,
            "{confirmed} confirmed, {nacked} nacked"
        );
        assert_eq!(world.drain(&queue).await.len(), confirmed);
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_goes_to_the_named_queue_and_a_bad_name_costs_nothing() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let queue = world
            .channel
            .queue_declare(
                "".into(),
                QueueDeclareOptions {
                    exclusive: true,
                    auto_delete: true,
                    ..Default::default()
                },
                FieldTable::default(),
            )
            .await
            .unwrap()
            .name()
            .to_string();
        let reply = |to: &str| {
            let mut reply = message(Destination::Reply(to.to_owned()), "", "{}");
            (reply.mandatory, reply.persistent) = (false, false);
            reply
        };
        let window = [
            reply("no-such-queue"),
            message(Destination::Events, "step.completed.w.s", "{}"),
            reply(&"n".repeat(300)),
            reply(&queue),
        ];
        let outcomes = publisher.publish(0, &window).await;
        assert_eq!(outcomes[0], PublishOutcome::Confirmed);
        assert_eq!(outcomes[1], PublishOutcome::Confirmed);
        assert!(matches!(outcomes[2], PublishOutcome::Returned(_)));
        assert_eq!(outcomes[3], PublishOutcome::Confirmed);
        let arrived = world.drain(&queue).await;
        assert_eq!(arrived.len(), 1);
        assert_eq!(*arrived[0].properties.delivery_mode(), Some(1));
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_leads_back_to_the_same_queue_with_its_routing_key() {
    with_world(async |world| {
        let (publisher, source) = (world.publisher().await, world.source().await);
        publish_all(&publisher, &commands("assign", 0..1)).await;
        // One that a producer put into the queue by itself.
        world
            .put(&world.topology.queue(CommandQueue::Advance), "1")
            .await;
        let deliveries = next_many(&source, 2).await;
        let retries: Vec<_> = deliveries
            .iter()
            .map(|delivery| {
                let mut retry = message(
                    Destination::Retry(RetryDelay::S1),
                    &delivery.properties.routing_key,
                    std::str::from_utf8(&delivery.body).unwrap(),
                );
                retry
                    .headers
                    .insert("x-glyph-attempts".to_owned(), "1".to_owned());
                retry
            })
            // One whose key means nothing here; its type says where it belongs.
            .chain([{
                let mut strange = message(Destination::Retry(RetryDelay::S1), "their.own.key", "2");
                strange.message_type = "advance".to_owned();
                strange
            }])
            .collect();
        let before = Instant::now();
        publish_all(&publisher, &retries).await;
        source.settle(&receipts(&deliveries));
        let mut again = next_many(&source, 3).await;
        assert!(before.elapsed() >= Duration::from_millis(900));
        again.sort_by_key(|delivery| delivery.body.clone());
        let advance = world.topology.queue(CommandQueue::Advance);
        let seen: Vec<_> = again
            .iter()
            .map(|delivery| (delivery.queue, delivery.properties.routing_key.as_str()))
            .collect();
        assert_eq!(
            seen,
            [
                (CommandQueue::Control, "assign"),
                (CommandQueue::Advance, advance.as_str()),
                (CommandQueue::Advance, "their.own.key"),
            ]
        );
        let mut headers = retries[0].headers.clone();
        headers.insert("x-glyph-attempts".to_owned(), "1".to_owned());
        assert_eq!(again[0].properties.headers, headers);
        source.close().await;
        publisher.close().await;
    })
    .await;
}

// ---------------------------------------------------------------------------------------------
// Failures

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_made_again_and_consumed_from() {
    with_world(async |world| {
        let (publisher, source) = (world.publisher().await, world.source().await);
        let queue = world.topology.queue(CommandQueue::Submission);
        let mut state = source.state();
        world
            .channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await
            .unwrap();
        timeout(DEADLINE, state.wait_for(|state| !state.consuming))
            .await
            .unwrap()
            .unwrap();
        consuming(&source).await;
        publish_all(&publisher, &commands("submission", 0..5)).await;
        let deliveries = next_many(&source, 5).await;
        source.settle(&receipts(&deliveries));
        source.close().await;
        assert_eq!(world.waiting(&queue).await, 0);
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_are_built_again_and_leave_nothing_behind() {
    with_world(async |world| {
        let proxy = proxy(Cable::Whole).await;
        let source = AmqpSource::start(world.settings_by(&proxy.url()));
        let publisher = AmqpPublisher::start(world.settings_by(&proxy.url()));
        for round in 0..3 {
            consuming(&source).await;
            publishing(&publisher).await;
            assert_eq!(proxy.open(), 2, "one connection consumes, one publishes");
            publish_all(
                &publisher,
                &commands("advance", round * 10..round * 10 + 10),
            )
            .await;
            let deliveries = next_many(&source, 10).await;
            source.settle(&receipts(&deliveries));
            let (mut consumer, mut outlet) = (source.state(), publisher.state());
            proxy.set(Cable::Cut);
            timeout(DEADLINE, consumer.wait_for(|state| !state.consuming))
                .await
                .unwrap()
                .unwrap();
            timeout(DEADLINE, outlet.wait_for(|state| !state.publishing))
                .await
                .unwrap()
                .unwrap();
            let outcomes = publisher.publish(0, &commands("advance", 99..100)).await;
            assert!(matches!(outcomes[0], PublishOutcome::Unknown(_)));
            proxy.set(Cable::Whole);
        }
        consuming(&source).await;
        publishing(&publisher).await;
        source.close().await;
        publisher.close().await;
        eventually("every connection is closed", async || proxy.open() == 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_into_a_silent_cable_ends_as_unknown_and_the_next_one_arrives() {
    with_world(async |world| {
        let proxy = proxy(Cable::Whole).await;
        let mut settings = world.settings_by(&proxy.url());
        settings.confirm_timeout = Duration::from_millis(500);
        settings.connect_timeout = Duration::from_secs(2);
        let publisher = AmqpPublisher::start(settings);
        publishing(&publisher).await;
        proxy.set(Cable::Silent);
        let window = commands("submission", 0..50);
        let before = Instant::now();
        let outcomes = publisher.publish(0, &window).await;
        assert!(before.elapsed() < Duration::from_secs(5));
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, PublishOutcome::Unknown(_)))
        );
        let mut state = publisher.state();
        timeout(DEADLINE, state.wait_for(|state| !state.publishing))
            .await
            .unwrap()
            .unwrap();
        proxy.set(Cable::Whole);
        publishing(&publisher).await;
        publish_all(&publisher, &window).await;
        assert!(
            world
                .waiting(&world.topology.queue(CommandQueue::Submission))
                .await
                >= 50
        );
        publisher.close().await;
        eventually("every connection is closed", async || proxy.open() == 0).await;
    })
    .await;
}

/// A window that its caller gives up leaves returns behind that the next one must not inherit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_abandoned_window_outcomes_are_still_right() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let lost: Vec<_> = (0..200)
            .map(|_| message(Destination::Events, "nowhere", "{}"))
            .collect();
        let given_up = timeout(Duration::from_micros(500), publisher.publish(0, &lost)).await;
        assert!(given_up.is_err(), "the window was faster than giving it up");
        let good = message(Destination::Events, "step.completed.w.s", "{}");
        eventually("the lane works again", async || {
            let window = [lost[0].clone(), good.clone()];
            let outcomes = publisher.publish(0, &window).await;
            match (&outcomes[0], &outcomes[1]) {
                (PublishOutcome::Returned(_), PublishOutcome::Confirmed) => true,
                // The connection is still being replaced.
                (_, PublishOutcome::Unknown(_)) => false,
                other => panic!("{other:?}"),
            }
        })
        .await;
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_answer_is_tried_one_attempt_at_a_time() {
    with_world(async |world| {
        let proxy = proxy(Cable::Silent).await;
        let mut settings = world.settings_by(&proxy.url());
        settings.connect_timeout = Duration::from_millis(200);
        let source = AmqpSource::start(settings);
        eventually("four attempts", async || proxy.accepted() >= 4).await;
        assert!(!source.state().borrow().consuming);
        assert!(source.state().borrow().reason.is_some());
        // The next attempt may be taken just before the end of the last one is noticed.
        assert!(proxy.most() <= 2);
        proxy.set(Cable::Whole);
        // The broker may need longer than that to answer.
        consuming(&source).await;
        source.close().await;
        eventually("every connection is closed", async || proxy.open() == 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_does_not_wait_for_a_broker_that_does_not_answer() {
    with_world(async |world| {
        let proxy = proxy(Cable::Silent).await;
        let source = AmqpSource::start(world.settings_by(&proxy.url()));
        let publisher = AmqpPublisher::start(world.settings_by(&proxy.url()));
        eventually("both attempts", async || proxy.accepted() == 2).await;
        let before = Instant::now();
        source.stop().await;
        assert!(timeout(DEADLINE, source.next()).await.unwrap().is_none());
        source.close().await;
        publisher.close().await;
        assert!(before.elapsed() < Duration::from_secs(2));
        eventually("every connection is closed", async || proxy.open() == 0).await;
    })
    .await;
}

/// Another connection owns the name, so it can neither be declared nor used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_cannot_be_had_is_named() {
    with_world(async |world| {
        let name = world.topology.queue(CommandQueue::Advance);
        let options = QueueDeclareOptions {
            exclusive: true,
            ..Default::default()
        };
        world
            .channel
            .queue_declare(name.as_str().into(), options, FieldTable::default())
            .await
            .unwrap();
        let source = AmqpSource::start(world.settings());
        let mut state = source.state();
        let named = state.wait_for(|state| {
            state
                .reason
                .as_ref()
                .is_some_and(|reason| reason.contains(&format!("queue {name}")))
        });
        timeout(DEADLINE, named).await.unwrap().unwrap();
        source.close().await;
    })
    .await;
}

// ---------------------------------------------------------------------------------------------
// Dead letters

fn dead(kind: &str, body: &str, reason: &str) -> Publication {
    let mut dead = message(Destination::Dead, kind, body);
    for (name, value) in [
        ("x-glyph-reason", reason),
        ("x-glyph-error", "what was wrong"),
        ("x-glyph-attempts", "5"),
        ("x-glyph-first-failed-at", "2026-01-02T03:04:05Z"),
    ] {
        dead.headers.insert(name.to_owned(), value.to_owned());
    }
    dead
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_replayed_and_dropped() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let window = [
            dead("submission", r#"{"command_id": "c-1"}"#, "task_not_found"),
            dead("advance", "{", "malformed"),
            dead(
                "their.own.key",
                r#"{"command_id": "c-3", "type": "cancel"}"#,
                "retries_exhausted",
            ),
        ];
        publish_all(&publisher, &window).await;
        let letters = AmqpDeadLetters::new(world.settings());

        for _ in 0..2 {
            let listed = letters.list(10).await.unwrap();
            let ids: Vec<_> = listed
                .iter()
                .map(|letter| letter.command_id.clone().unwrap())
                .collect();
            assert_eq!(ids, ["c-1", &window[1].message_id, "c-3"]);
            assert_eq!(listed[0].reason, "task_not_found");
            assert_eq!(listed[0].error.as_deref(), Some("what was wrong"));
            assert_eq!(listed[0].attempts, 5);
            assert_eq!(
                listed[0].first_failed_at.as_deref(),
                Some("2026-01-02T03:04:05Z")
            );
            assert_eq!(listed[2].routing_key, "their.own.key");
            assert_eq!((listed[1].body.as_str(), listed[1].bytes), ("{", 1));
        }
        assert_eq!(letters.list(1).await.unwrap().len(), 1);

        assert_eq!(
            letters
                .drop(&|letter| letter.reason == "malformed")
                .await
                .unwrap(),
            1
        );
        assert_eq!(letters.replay(&|letter| letter.bytes > 1).await.unwrap(), 2);
        assert_eq!(letters.list(10).await.unwrap(), []);

        let source = world.source().await;
        let mut again = next_many(&source, 2).await;
        again.sort_by_key(|delivery| delivery.queue);
        assert_eq!(again[0].properties.routing_key, "submission");
        assert_eq!(again[0].queue, CommandQueue::Submission);
        assert_eq!(again[1].queue, CommandQueue::Control);
        // They begin anew.
        assert_eq!(
            again[0].properties.headers,
            message(Destination::Dead, "", "").headers
        );
        assert_eq!(
            again[0].properties.message_id.as_ref(),
            Some(&window[0].message_id)
        );
        source.settle(&receipts(&again));
        source.close().await;
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_moved_at_its_limit_is_a_dead_letter_too() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        publish_all(
            &publisher,
            &[message(
                Destination::Commands,
                "pause",
                r#"{"command_id": "c"}"#,
            )],
        )
        .await;
        let queue = world.topology.queue(CommandQueue::Control);
        let mut deliveries = 0;
        eventually("the limit", async || {
            let got = world
                .channel
                .basic_get(queue.as_str().into(), BasicGetOptions::default())
                .await
                .unwrap();
            if let Some(message) = got {
                deliveries += 1;
                message
                    .reject(BasicRejectOptions { requeue: true })
                    .await
                    .unwrap();
            }
            deliveries > DELIVERY_LIMIT
        })
        .await;
        world.wait_for_waiting(&world.topology.dead(), 1).await;
        let letters = AmqpDeadLetters::new(world.settings());
        let listed = letters.list(10).await.unwrap();
        assert_eq!(listed[0].reason, "delivery_limit");
        assert_eq!(listed[0].routing_key, "pause");
        assert_eq!(listed[0].command_id.as_deref(), Some("c"));
        assert!(listed[0].first_failed_at.is_some());
        assert_eq!(letters.replay(&|_| true).await.unwrap(), 1);
        world.wait_for_waiting(&queue, 1).await;
        publisher.close().await;
    })
    .await;
}
