//! Commands from the queues: delivered, settled, returned, drained.

use std::{collections::BTreeSet, time::Duration};

use glyph_worker::{
    amqp::AmqpSource,
    broker::{CommandQueue, CommandSource, Destination, Receipt},
};
use tokio::time::timeout;

use super::{
    DEADLINE, bodies, commands, consuming, eventually, message, next, next_many, proxy,
    publish_all, receipts, with_world,
};
use crate::support::proxy::Cable;

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

        // The first delivery of each queue, and every seventh, are never settled and must be
        // redelivered.
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

        // Acks that wait behind an unsettled delivery are lost with the connection if they lag by
        // less than half the prefetch, so more may be redelivered than was kept.
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

        // One delivery stays unsettled behind all the others; the broker must keep delivering.
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
        settings.prefetch = 20;
        let source = AmqpSource::start(settings);
        consuming(&source).await;
        publish_all(&publisher, &commands("submission", 0..100)).await;
        let queue = world.topology.queue(CommandQueue::Submission);
        world.wait_for_waiting(&queue, 80).await;

        source.stop().await;
        let mut drained = Vec::new();
        while let Some(delivery) = timeout(DEADLINE, source.next()).await.unwrap() {
            drained.push(delivery);
        }
        assert_eq!(drained.len(), 20);
        source.settle(&receipts(&drained));
        source.close().await;
        assert_eq!(world.waiting(&queue).await, 80);
        // The other 80 were never delivered.
        let again = world.source().await;
        let rest = next_many(&again, 80).await;
        assert!(rest.iter().all(|delivery| delivery.deliveries_before == 0));
        again.close().await;
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_source_leaves_commands_to_the_broker() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let mut settings = world.settings();
        settings.prefetch = 10;
        let source = AmqpSource::start(settings);
        consuming(&source).await;
        let queue = world.topology.queue(CommandQueue::Submission);
        source.pause(true);
        eventually("no consumer", async || world.consumers(&queue).await == 0).await;
        publish_all(&publisher, &commands("submission", 0..50)).await;
        world.wait_for_waiting(&queue, 50).await;
        source.pause(false);
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

/// However often the link is lost while intake is held, no delivery is counted against a command:
/// none is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_source_uses_up_no_deliveries() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let proxy = proxy(Cable::Whole).await;
        let source = AmqpSource::start(world.settings_by(&proxy.url()));
        consuming(&source).await;
        publish_all(&publisher, &commands("submission", 0..3)).await;
        // Delivered before the hold, so its count goes up by one, once.
        let held = next_many(&source, 3).await;
        source.pause(true);
        for _ in 0..4 {
            let mut state = source.state();
            proxy.set(Cable::Cut);
            timeout(DEADLINE, state.wait_for(|state| !state.consuming))
                .await
                .unwrap()
                .unwrap();
            proxy.set(Cable::Whole);
            consuming(&source).await;
        }
        let queue = world.topology.queue(CommandQueue::Submission);
        world.wait_for_waiting(&queue, 3).await;
        assert_eq!(world.consumers(&queue).await, 0);
        source.pause(false);
        let again = next_many(&source, 3).await;
        assert_eq!(bodies(&again), bodies(&held));
        assert!(again.iter().all(|delivery| delivery.deliveries_before == 1));
        source.settle(&receipts(&again));
        source.close().await;
        publisher.close().await;
    })
    .await;
}

/// For the broker they are delivered; the consumer, cancelled or not, is never told of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deliveries_that_are_lost_on_the_way_are_made_again() {
    with_world(async |world| {
        let publisher = world.publisher().await;
        let proxy = proxy(Cable::Whole).await;
        let mut settings = world.settings_by(&proxy.url());
        settings.silence_max = Duration::MAX;
        let paused = AmqpSource::start(settings.clone());
        consuming(&paused).await;
        proxy.set(Cable::LosesDeliveries);
        publish_all(&publisher, &commands("submission", 0..3)).await;
        eventually("all are lost", async || proxy.lost() == 3).await;
        proxy.set(Cable::Whole);
        paused.pause(true);
        let queue = world.topology.queue(CommandQueue::Submission);
        world.wait_for_waiting(&queue, 3).await;
        paused.pause(false);
        let again = next_many(&paused, 3).await;
        assert!(again.iter().all(|delivery| delivery.deliveries_before == 1));
        paused.settle(&receipts(&again));
        paused.close().await;

        settings.silence_max = Duration::from_millis(500);
        let silent = AmqpSource::start(settings);
        consuming(&silent).await;
        proxy.set(Cable::LosesDeliveries);
        // All that it may hold to begin with.
        publish_all(&publisher, &commands("submission", 0..32)).await;
        eventually("all are lost", async || proxy.lost() == 35).await;
        proxy.set(Cable::Whole);
        let again = next_many(&silent, 32).await;
        assert!(again.iter().all(|delivery| delivery.deliveries_before >= 1));
        silent.settle(&receipts(&again));
        silent.close().await;
        assert_eq!(world.waiting(&queue).await, 0);
        publisher.close().await;
    })
    .await;
}

/// What is at work does not become more because nothing arrives, or because intake was held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_holds_all_it_may_takes_no_more() {
    with_world(async |world| {
        let publisher = world.publisher_on_a_whole_topology().await;
        publish_all(&publisher, &commands("submission", 0..30)).await;
        let mut settings = world.settings();
        (settings.prefetch, settings.silence_max) = (10, Duration::from_millis(50));
        let source = AmqpSource::start(settings);
        let held = next_many(&source, 10).await;
        let none_comes = async || {
            timeout(Duration::from_millis(300), source.next())
                .await
                .is_err()
        };
        assert!(none_comes().await);
        source.pause(true);
        assert!(none_comes().await);
        source.pause(false);
        assert!(none_comes().await);
        // Held again while it waits for room.
        source.pause(true);
        source.settle(&receipts(&held[..5]));
        assert!(none_comes().await);
        source.pause(false);
        let more = next_many(&source, 10).await;
        assert!(none_comes().await);
        source.settle(&receipts(&held[5..]));
        source.settle(&receipts(&more));
        for _ in 0..10 {
            source.settle(&[next(&source).await.receipt]);
        }
        source.close().await;
        let queue = world.topology.queue(CommandQueue::Submission);
        assert_eq!(world.waiting(&queue).await, 0);
        publisher.close().await;
    })
    .await;
}

/// The broker counts messages; the source asks for fewer of them when they are large.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_source_holds_is_bounded_in_bytes() {
    with_world(async |world| {
        let (publisher, source) = (world.publisher().await, world.source().await);
        let queue = world.topology.queue(CommandQueue::Submission);
        let body = "x".repeat(1 << 20);
        let large = |count| -> Vec<_> {
            (0..count)
                .map(|_| message(Destination::Commands, "submission", &body))
                .collect()
        };
        publish_all(&publisher, &large(8)).await;
        for _ in 0..8 {
            let delivery = next(&source).await;
            source.settle(&[delivery.receipt]);
        }
        for _ in 0..3 {
            publish_all(&publisher, &large(8)).await;
        }
        // 8 MiB of them.
        let held = next_many(&source, 8).await;
        world.wait_for_waiting(&queue, 16).await;
        source.settle(&receipts(&held));
        for _ in 0..16 {
            let delivery = next(&source).await;
            source.settle(&[delivery.receipt]);
        }
        source.close().await;
        assert_eq!(world.waiting(&queue).await, 0);
        publisher.close().await;
    })
    .await;
}
