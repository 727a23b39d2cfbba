//! Keys that lead nowhere, names that are deleted, names that belong to others.

use glyph_worker::{
    amqp::{
        AmqpDeadLetters, AmqpPublisher, AmqpSettings, AmqpSource, adopt_prefix, declare_topology,
    },
    broker::{CommandQueue, Destination, PublishOutcome, RetryDelay},
    dead_letters::DeadLetters,
};
use lapin::{
    BasicProperties, ExchangeKind,
    options::{
        BasicPublishOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    DEADLINE, World, commands, consuming, eventually, message, next, next_many, publish_all,
    publishing, receipts, with_world,
};
use glyph_worker::broker::{CommandSource, MessagePublisher};

impl World {
    async fn delete(&self, queue: &str) {
        let options = QueueDeleteOptions::default();
        self.channel
            .queue_delete(queue.into(), options)
            .await
            .unwrap();
    }

    async fn exists(&self, queue: &str) -> bool {
        let channel = self.connection.create_channel().await.unwrap();
        let options = lapin::options::QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .is_ok()
    }

    fn settings_of(&self, deployment: u128) -> AmqpSettings {
        let mut settings = self.settings();
        settings.deployment = Some(Uuid::from_u128(deployment));
        settings
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistyped_key_ends_in_the_dead_queue() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        publish_all(&publisher, &commands("submision", 0..1)).await;
        let letters = AmqpDeadLetters::new(world.settings());
        let listed = letters.list(10).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].reason, "unroutable");
        assert_eq!(listed[0].routing_key, "submision");
        // It stays there: nobody knows what it was to be.
        let source = world.source().await;
        publish_all(&publisher, &commands("submission", 1..2)).await;
        assert_eq!(next(&source).await.body, b"1");
        assert_eq!(letters.list(10).await.unwrap().len(), 1);
        source.close().await;
        publisher.close().await;
    })
    .await;
}

/// Commands that were published while their queue was missing are no dead letters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_found_no_queue_are_put_back_once_it_exists() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        world
            .delete(&world.topology.queue(CommandQueue::Submission))
            .await;
        let window = commands("submission", 0..5);
        // The publisher may have declared the queue again by now; then they are simply there.
        publish_all(&publisher, &window).await;
        publish_all(&publisher, &commands("submision", 5..6)).await;
        publisher.close().await;
        let source = world.source().await;
        let deliveries = next_many(&source, 5).await;
        for delivery in &deliveries {
            assert_eq!(delivery.queue, CommandQueue::Submission);
            assert_eq!(delivery.properties.routing_key, "submission");
            assert!(delivery.properties.headers.contains_key("traceparent"));
        }
        source.settle(&receipts(&deliveries));
        source.close().await;
        world.wait_for_waiting(&world.topology.dead(), 1).await;
    })
    .await;
}

/// A queue cannot be bound before there is an exchange, and a producer may wait for nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_is_quicker_than_the_first_start_loses_nothing() {
    with_world(async |world| {
        let exchange = world.topology.commands();
        let exists = async || {
            // A refusal closes the channel.
            let channel = world.connection.create_channel().await.unwrap();
            let passive = ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            };
            let (name, kind) = (exchange.as_str().into(), ExchangeKind::Topic);
            let found = channel.exchange_declare(name, kind, passive, FieldTable::default());
            found.await.is_ok()
        };
        let quick = async {
            // Without a pause: what follows must come before the queues.
            while !exists().await {}
            let (key, properties) = ("submission".into(), BasicProperties::default());
            let (name, options) = (exchange.as_str().into(), BasicPublishOptions::default());
            let sent = world
                .channel
                .basic_publish(name, key, options, b"1", properties);
            sent.await.unwrap();
        };
        let ((), source) = tokio::join!(quick, world.source());
        assert_eq!(next(&source).await.body, b"1");
        source.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_is_declared_again() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let queues = [
            world.topology.dead(),
            world.topology.retry(RetryDelay::S1),
            world.topology.step_completed(),
        ];
        for queue in &queues {
            world.delete(queue).await;
        }
        let options = ExchangeDeleteOptions::default();
        world
            .channel
            .exchange_delete(world.topology.commands().into(), options)
            .await
            .unwrap();
        for queue in &queues {
            eventually("the queue is back", async || world.exists(queue).await).await;
        }
        eventually("commands are routed again", async || {
            let outcomes = publisher.publish(0, &commands("advance", 0..1)).await;
            let queue = world.topology.queue(CommandQueue::Advance);
            outcomes == [PublishOutcome::Confirmed] && world.waiting(&queue).await > 0
        })
        .await;
        publisher.close().await;
    })
    .await;
}

/// The client gives each channel a number, and those that were refused something are used no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_harms_no_channel_that_comes_later() {
    const NUMBERS: usize = 2047;
    with_world(async |world| {
        let publisher = world.publisher_on_a_whole_topology().await;
        let dead = world.topology.dead();
        let source = world.source().await;
        world.delete(&dead).await;
        assert_eq!(source.dead_letters().await, None);
        eventually("the queue is back", async || world.exists(&dead).await).await;
        for _ in 0..NUMBERS {
            assert_eq!(source.dead_letters().await, Some(0));
        }
        source.close().await;
        publisher.close().await;
    })
    .await;
}

/// Nothing is deleted, so nothing is found missing: only the returned message tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_is_gone_is_made_again_for_the_message_that_came_back() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let unbound = world.channel.queue_unbind(
            world.topology.step_completed().into(),
            world.topology.events().into(),
            "step.completed.#".into(),
            FieldTable::default(),
        );
        unbound.await.unwrap();
        let window = [message(Destination::Events, "step.completed.w.s", "{}")];
        eventually("the message arrives", async || {
            publisher.publish(0, &window).await == [PublishOutcome::Confirmed]
        })
        .await;
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_queues_of_events_nothing_must_arrive() {
    with_world(async |world| {
        let publisher = AmqpPublisher::start(world.settings().with_event_queues(false));
        publishing(&publisher).await;
        publish_all(
            &publisher,
            &[message(Destination::Events, "step.completed.w.s", "{}")],
        )
        .await;
        assert!(!world.exists(&world.topology.step_completed()).await);
        assert!(!world.exists(&world.topology.transition_occurred()).await);
        publisher.close().await;
    })
    .await;
}

/// An operator's exchange of the old form keeps its bindings when it is replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_without_an_alternate_one_is_reported_and_replaced() {
    with_world(async |world| {
        let commands_exchange = world.topology.commands();
        let options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        world
            .channel
            .exchange_declare(
                commands_exchange.as_str().into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await
            .unwrap();
        let publisher = world.publisher().await;
        let outcomes = publisher.publish(0, &commands("submision", 0..1)).await;
        assert!(matches!(outcomes[0], PublishOutcome::Returned(_)));
        let declared = declare_topology(&world.settings(), false).await.unwrap();
        assert!(declared.loses_mistyped_keys(&world.topology));
        let declared = declare_topology(&world.settings(), true).await.unwrap();
        assert!(!declared.loses_mistyped_keys(&world.topology));
        assert_eq!(declared.differs, Vec::<String>::new());
        eventually("mistyped keys are kept, others routed", async || {
            let window = [commands("submision", 1..2), commands("advance", 2..3)].concat();
            publisher.publish(0, &window).await == [const { PublishOutcome::Confirmed }; 2]
        })
        .await;
        assert!(world.waiting(&world.topology.dead()).await > 0);
        let queue = world.topology.queue(CommandQueue::Advance);
        assert!(world.waiting(&queue).await > 0);
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_deployment_is_refused_until_it_takes_the_prefix_over() {
    with_world(async |world| {
        let ours = AmqpSource::start(world.settings_of(1));
        consuming(&ours).await;
        let theirs = AmqpSource::start(world.settings_of(2));
        let publisher = AmqpPublisher::start(world.settings_of(2));
        for mut state in [theirs.state(), publisher.state()] {
            let refused = state.wait_for(|state| state.refused.is_some());
            let state = timeout(DEADLINE, refused).await.unwrap().unwrap().clone();
            let reason = state.refused.unwrap();
            assert!(reason.contains("glyph topology adopt"), "{reason}");
            assert!(!state.consuming && !state.publishing);
        }
        // A second worker of the same deployment is welcome.
        let ours_too = AmqpSource::start(world.settings_of(1));
        consuming(&ours_too).await;

        adopt_prefix(&world.settings_of(2)).await.unwrap();
        for source in [&ours, &ours_too] {
            let mut state = source.state();
            let refused = state.wait_for(|state| state.refused.is_some());
            timeout(DEADLINE, refused).await.unwrap().unwrap();
        }
        consuming(&theirs).await;
        publishing(&publisher).await;
        for source in [ours, ours_too, theirs] {
            source.close().await;
        }
        publisher.close().await;
    })
    .await;
}
