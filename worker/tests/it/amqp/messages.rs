//! Messages to the exchanges: outcomes, order, replies, retries.

use std::{collections::HashSet, time::Duration};

use glyph_worker::broker::{
    CommandQueue, CommandSource, Destination, MessagePublisher, PublishOutcome, RetryDelay,
};
use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};
use tokio::time::Instant;

use super::{commands, message, next_many, publish_all, receipts, with_world};

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
        // Another type may have no listener, and a message may be invalid in AMQP.
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

/// An operator declared the queue with other properties; it is used as it is.
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
        // A message that a producer put into the queue directly.
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
            // A message with an unknown routing key; its type says where it belongs.
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
