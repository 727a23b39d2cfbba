//! The dead queue.

use std::{collections::BTreeSet, time::Duration};

use glyph_worker::{
    amqp::{AmqpDeadLetters, DELIVERY_LIMIT},
    broker::{BrokerError, CommandQueue, CommandSource, Destination, Publication},
    dead_letters::{DeadLetters, KeepError, Letter, LetterStore, Visit},
};
use lapin::options::{BasicGetOptions, BasicNackOptions, BasicRejectOptions};

use super::{World, eventually, message, publish_all, with_world};

/// Keeps letters; fails at the second page if told so.
#[derive(Default)]
struct Kept {
    letters: Vec<Letter>,
    removed: usize,
    fails: bool,
}

#[async_trait::async_trait]
impl LetterStore for Kept {
    async fn keep(&mut self, page: Vec<Letter>) -> Result<(), KeepError> {
        self.letters.extend(page);
        if self.fails {
            return Err("the store is away".into());
        }
        Ok(())
    }

    async fn removed(&mut self) -> Result<(), KeepError> {
        self.removed += 1;
        Ok(())
    }
}

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
async fn dead_letters_are_listed_taken_edited_and_dropped() {
    with_world(async |world| {
        let publisher = world.publisher_on_a_whole_topology().await;
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
            let handles: BTreeSet<_> = listed.iter().map(|letter| &letter.letter).collect();
            assert_eq!(handles.len(), 3);
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

        let malformed = |letter: &Letter| letter.reason() == "malformed";
        let mut drop_malformed = |_: &str, letter: &Letter| {
            if malformed(letter) {
                Visit::Remove
            } else {
                Visit::Leave
            }
        };
        assert_eq!(letters.visit(&mut drop_malformed).await.unwrap(), 1);

        // What could not be kept is still there.
        let mut failing = Kept {
            fails: true,
            ..Kept::default()
        };
        assert!(letters.take(&|_, _| true, &mut failing).await.is_err());
        assert_eq!((failing.letters.len(), failing.removed), (2, 0));
        let listed = letters.list(10).await.unwrap();
        assert_eq!(listed.len(), 2);

        let edited = Letter {
            body: br#"{"command_id": "c-3", "type": "pause"}"#.to_vec(),
            ..failing.letters[1].clone()
        };
        assert!(!letters.replace("nothing", edited.clone()).await.unwrap());
        assert!(letters.replace(&listed[1].letter, edited).await.unwrap());
        // What was put back may come after what was published meanwhile.
        let mut again = letters.list(10).await.unwrap();
        again.sort_by_key(|letter| letter.body.contains("pause"));
        assert_eq!(again[0], listed[0]);
        assert!(again[1].body.contains("pause"));
        assert_eq!(again[1].headers, listed[1].headers);
        assert_eq!(again[1].properties, listed[1].properties);

        let mut kept = Kept::default();
        let chosen = |handle: &str, _: &Letter| handle == again[1].letter;
        assert_eq!(letters.take(&chosen, &mut kept).await.unwrap(), 1);
        assert_eq!((kept.letters.len(), kept.removed), (1, 1));
        assert_eq!(kept.letters[0].command_id().as_deref(), Some("c-3"));
        assert_eq!(letters.list(10).await.unwrap(), listed[..1]);
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_moved_at_its_limit_is_a_dead_letter_too() {
    with_world(async |world| {
        let publisher = world.publisher_on_a_whole_topology().await;
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
        publisher.close().await;
    })
    .await;
}

/// Looks, whenever a page was removed, how many letters the broker would give back if the process
/// were killed now.
struct Removals<'w> {
    world: &'w World,
    held: Vec<u32>,
}

#[async_trait::async_trait]
impl LetterStore for Removals<'_> {
    async fn keep(&mut self, _: Vec<Letter>) -> Result<(), KeepError> {
        Ok(())
    }

    async fn removed(&mut self) -> Result<(), KeepError> {
        // A page that is not settled counts as a consumer.
        let held = self.world.consumers(&self.world.topology.dead()).await;
        self.held.push(held);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_was_reported_outlives_the_process() {
    with_world(async |world| {
        let publisher = world.publisher_on_a_whole_topology().await;
        let body = |n: usize| format!(r#"{{"command_id": "c-{n}"}}"#);
        let letter = |n| dead("submission", &body(n), "task_not_found");
        let window: Vec<_> = (0..900).map(letter).collect();
        publish_all(&publisher, &window).await;
        let letters = AmqpDeadLetters::new(world.settings());
        let mut removals = Removals {
            world: &world,
            held: Vec::new(),
        };
        let taken = letters.take(&|_, _| true, &mut removals).await.unwrap();
        // Of the next page, which was read already.
        assert_eq!((taken, removals.held), (900, vec![1, 0]));
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_chosen_stays_in_its_order() {
    with_world(async |world| {
        let publisher = world.publisher_on_a_whole_topology().await;
        // Pages that are taken whole, pages of which some stay, and pages that stay whole.
        let stays = |n: usize| (300..700).contains(&n) || (n < 500 && n.is_multiple_of(7));
        let window: Vec<_> = (0..900)
            .map(|n| dead("submission", &n.to_string(), "malformed"))
            .collect();
        publish_all(&publisher, &window).await;
        let letters = AmqpDeadLetters::new(world.settings());
        let mut removals = Removals {
            world: &world,
            held: Vec::new(),
        };
        let number = |letter: &Letter| -> usize {
            std::str::from_utf8(&letter.body).unwrap().parse().unwrap()
        };
        let chosen = |_: &str, letter: &Letter| !stays(number(letter));
        let expected: Vec<_> = (0..900).filter(|n| stays(*n)).collect();
        let taken = letters.take(&chosen, &mut removals).await.unwrap();
        assert_eq!(taken, 900 - expected.len());
        // The queue tells of pages of which some stay only when those have been put back.
        assert_eq!(removals.held, [0]);
        let mut left = Vec::new();
        letters
            .visit(&mut |_, letter| {
                left.push(number(letter));
                Visit::Leave
            })
            .await
            .unwrap();
        assert_eq!(left, expected);
        publisher.close().await;
    })
    .await;
}

/// Each looks with a consumer of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_may_look_at_an_empty_queue_at_once() {
    with_world(async |world| {
        let publisher = world.publisher_on_a_whole_topology().await;
        let letters = AmqpDeadLetters::new(world.settings());
        for _ in 0..20 {
            let (one, other) = tokio::join!(letters.list(10), letters.list(10));
            assert_eq!((one.unwrap(), other.unwrap()), (vec![], vec![]));
        }
        publisher.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_others_hold_are_not_overlooked() {
    with_world(async |world| {
        let publisher = world.publisher_on_a_whole_topology().await;
        // More than a reader takes at first.
        let window: Vec<_> = (0..20)
            .map(|n| dead("submission", &n.to_string(), "malformed"))
            .collect();
        publish_all(&publisher, &window).await;
        let queue = world.topology.dead();
        let get = || {
            let (name, options) = (queue.as_str().into(), BasicGetOptions::default());
            world.channel.basic_get(name, options)
        };
        let requeue = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        // Another one reads from the beginning.
        let held = get().await.unwrap().unwrap();
        let mut settings = world.settings();
        settings.confirm_timeout = Duration::from_secs(1);
        let impatient = AmqpDeadLetters::new(settings);
        let in_use = impatient.list(10).await.unwrap_err();
        assert!(matches!(in_use, BrokerError::InUse { .. }), "{in_use}");
        held.nack(requeue).await.unwrap();

        // Another one begins in between.
        let letters = AmqpDeadLetters::new(world.settings());
        let (begins, begun) = std::sync::mpsc::channel::<()>();
        let (holds, held) = std::sync::mpsc::channel::<()>();
        let visit = tokio::spawn(async move {
            let visited = &mut move |_: &str, _: &Letter| {
                // The first time only: then the other one is there.
                if begins.send(()).is_ok() {
                    let _ = held.recv();
                }
                Visit::Leave
            };
            letters.visit(visited).await
        });
        begun.recv().unwrap();
        drop(begun);
        let other = get().await.unwrap().unwrap();
        holds.send(()).unwrap();
        let in_use = visit.await.unwrap().unwrap_err();
        assert!(matches!(in_use, BrokerError::InUse { .. }), "{in_use}");
        other.nack(requeue).await.unwrap();
        let letters = AmqpDeadLetters::new(world.settings());
        assert_eq!(letters.list(30).await.unwrap().len(), 20);
        publisher.close().await;
    })
    .await;
}
