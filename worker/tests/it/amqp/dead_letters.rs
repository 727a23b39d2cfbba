//! The dead queue.

use glyph_worker::{
    amqp::{AmqpDeadLetters, DELIVERY_LIMIT},
    broker::{CommandQueue, CommandSource, DeadLetters, Destination, Publication},
};
use lapin::options::{BasicGetOptions, BasicRejectOptions};

use super::{eventually, message, next_many, publish_all, receipts, with_world};

/// A command as the worker puts it on the dead queue.
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
        // Their attempts count from the start again.
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
        // The gauge of operators counts it, although no worker put it there.
        let source = world.source().await;
        eventually("counted", async || source.dead_letters().await == Some(1)).await;
        source.close().await;
        assert_eq!(letters.replay(&|_| true).await.unwrap(), 1);
        world.wait_for_waiting(&queue, 1).await;
        publisher.close().await;
    })
    .await;
}
