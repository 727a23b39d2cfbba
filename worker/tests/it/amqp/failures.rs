//! Missing queues, connections that break or fall silent, brokers that do not answer.

use std::time::Duration;

use glyph_worker::{
    amqp::{AmqpPublisher, AmqpSource},
    broker::{CommandQueue, CommandSource, Destination, MessagePublisher, PublishOutcome},
};
use lapin::{
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::FieldTable,
};
use tokio::time::{Instant, timeout};

use super::{
    DEADLINE, commands, consuming, eventually, message, next_many, proxy, publish_all, publishing,
    receipts, with_world,
};
use crate::support::proxy::Cable;

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
            // Others come and go: what puts commands back after a queue was declared has its own.
            eventually("one connection consumes, one publishes", async || {
                proxy.open() == 2
            })
            .await;
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

/// A publish window that its caller abandons leaves returns behind; the next window must not
/// inherit them.
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
        // The next attempt may be accepted just before the end of the last one is noticed.
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

/// Another connection owns the name exclusively, so the queue can neither be declared nor used.
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
