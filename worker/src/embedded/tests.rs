//! The queues through their public interface and through the traits of the broker, each on its own
//! file.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use chrono::Utc;
use glyph_workflow_engine::store::SqliteEventStore;

use super::*;
use crate::{
    broker::{
        CommandQueue::{self, Advance, Control, Submission},
        CommandSource, Delivery, Destination, MessagePublisher, Properties, Publication,
        PublishOutcome, Receipt, RetryDelay,
        queues::{STEP_COMPLETED, TRANSITION_OCCURRED},
    },
    dead_letters::{DeadLetters, KeepError, Letter, LetterStore, Visit},
    wire::reasons::{HEADER_ATTEMPTS, HEADER_REASON},
};

async fn queue(path: &Path) -> EmbeddedQueue {
    let store = SqliteEventStore::open(path, Arc::new(Utc::now))
        .await
        .unwrap();
    store.migrate().await.unwrap();
    EmbeddedQueue::open(store).await.unwrap()
}

fn message(key: &str, body: impl Into<Vec<u8>>) -> NewMessage {
    NewMessage {
        properties: Properties {
            message_id: Some("m".to_owned()),
            message_type: Some(key.to_owned()),
            correlation_id: Some("c".to_owned()),
            reply_to: None,
            user_id: None,
            routing_key: key.to_owned(),
            headers: BTreeMap::from([("traceparent".to_owned(), "00-a-b-01".to_owned())]),
            original: None,
        },
        body: body.into(),
    }
}

async fn commands(queue: &EmbeddedQueue, key: &str, count: usize) {
    let messages = (0..count).map(|n| message(key, n.to_string())).collect();
    queue.publish(Exchange::Commands, messages).await.unwrap();
}

fn receipts(deliveries: &[Delivery]) -> Vec<Receipt> {
    deliveries.iter().map(|delivery| delivery.receipt).collect()
}

fn ids(receipts: &[Receipt]) -> Vec<i64> {
    let tags = receipts.iter().map(|receipt| receipt.tag);
    tags.map(|tag| tag.try_into().unwrap()).collect()
}

fn failure(receipt: Receipt) -> Failure {
    Failure {
        receipt,
        reason: "malformed".to_owned(),
        error: "not JSON: \"{\"".to_owned(),
        attempts: 3,
        first_failed_at: Utc::now(),
    }
}

#[tokio::test]
async fn messages_come_out_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    let bodies: [&[u8]; 4] = [
        b"",
        b"\x00\xff\xfe{",
        "{\"ü\": 1}".as_bytes(),
        &vec![7; 100_000],
    ];
    let routed = queue
        .publish(
            Exchange::Commands,
            bodies
                .iter()
                .map(|body| message("submission", *body))
                .collect(),
        )
        .await
        .unwrap();
    assert_eq!(routed, [Routed::Queued; 4]);

    let consumer = queue.consume().await.unwrap();
    let deliveries = consumer.next(&CommandQueue::ALL, 10).await.unwrap();
    let found: Vec<&[u8]> = deliveries.iter().map(|delivery| &*delivery.body).collect();
    assert_eq!(found, bodies);
    assert_eq!(
        deliveries[0].properties,
        message("submission", "").properties
    );
    assert_eq!(deliveries[0].properties.traceparent(), Some("00-a-b-01"));
    assert_eq!(
        (deliveries[0].queue, deliveries[0].deliveries_before),
        (Submission, 0)
    );

    // Leased once, gone when settled.
    assert_eq!(consumer.receive(&CommandQueue::ALL, 10).await.unwrap(), []);
    consumer.ack(&receipts(&deliveries)).await.unwrap();
    assert_eq!(queue.counts().await.unwrap(), []);
}

#[tokio::test]
async fn keys_lead_to_queues() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    let keys = ["submission", "advance", "start", "retry", "nonsense"];
    let routed = queue
        .publish(
            Exchange::Commands,
            keys.iter().map(|key| message(key, "")).collect(),
        )
        .await
        .unwrap();
    assert_eq!(routed[..4], [Routed::Queued; 4]);
    assert_eq!(routed[4], Routed::Returned);
    let routed = queue
        .publish(
            Exchange::Events,
            [
                "step.completed.w.s",
                "transition.occurred.w.s",
                "workflow.started.w",
            ]
            .iter()
            .map(|key| message(key, ""))
            .collect(),
        )
        .await
        .unwrap();
    assert_eq!(routed, [Routed::Queued, Routed::Queued, Routed::Dropped]);
    queue
        .send("answers", message("answers", "{}"))
        .await
        .unwrap();
    let counts = queue.counts().await.unwrap();
    let found: Vec<_> = counts
        .iter()
        .map(|count| (&*count.queue, count.ready))
        .collect();
    assert_eq!(
        found,
        [
            ("advance", 1),
            ("answers", 1),
            ("control", 2),
            (STEP_COMPLETED, 1),
            ("submission", 1),
            (TRANSITION_OCCURRED, 1),
        ]
    );
}

#[tokio::test]
async fn the_oldest_comes_first_over_all_queues() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    for key in ["submission", "advance", "start", "submission"] {
        commands(&queue, key, 2).await;
    }
    let consumer = queue.consume().await.unwrap();
    let first = consumer.next(&CommandQueue::ALL, 5).await.unwrap();
    let queues: Vec<_> = first.iter().map(|delivery| delivery.queue).collect();
    assert_eq!(queues, [Submission, Submission, Advance, Advance, Control]);
    let only = consumer.next(&[Submission], 5).await.unwrap();
    assert_eq!(only.len(), 2);
}

#[tokio::test]
async fn one_process_consumes_and_others_enqueue() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.db");
    let first = queue(&path).await;
    let second = queue(&path).await;
    let consumer = first.consume().await.unwrap();
    assert!(matches!(
        second.consume().await,
        Err(EmbeddedError::AlreadyConsumed { .. })
    ));

    // Without a wake-up in this process, found by polling.
    let waiting = tokio::spawn(async move {
        let deliveries = consumer.next(&[Submission], 10).await.unwrap();
        (consumer, deliveries)
    });
    commands(&second, "submission", 1).await;
    let (consumer, deliveries) = tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(deliveries.len(), 1);
    drop(consumer);
    second.consume().await.unwrap();
}

#[tokio::test]
async fn a_publication_wakes_the_consumer() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    let consumer = queue.consume().await.unwrap();
    let producer = queue.clone();
    let (deliveries, ()) = tokio::join!(consumer.next(&[Submission], 10), async move {
        tokio::task::yield_now().await;
        commands(&producer, "submission", 3).await;
    });
    assert_eq!(deliveries.unwrap().len(), 3);
}

#[tokio::test]
async fn a_crash_returns_what_was_not_settled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.db");
    let first = queue(&path).await;
    commands(&first, "submission", 4).await;
    let consumer = first.consume().await.unwrap();
    let deliveries = consumer.next(&[Submission], 3).await.unwrap();
    consumer.ack(&receipts(&deliveries)[..1]).await.unwrap();
    drop(consumer);
    first.store.close().await;

    let second = queue(&path).await;
    let consumer = second.consume().await.unwrap();
    let deliveries = consumer.next(&[Submission], 10).await.unwrap();
    let found: Vec<_> = deliveries
        .iter()
        .map(|delivery| (&*delivery.body, delivery.deliveries_before))
        .collect();
    assert_eq!(found, [(&b"1"[..], 1), (b"2", 1), (b"3", 0)]);
}

#[tokio::test]
async fn an_old_consumer_cannot_settle_what_a_new_one_holds() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.db");
    let queue = queue(&path).await;
    commands(&queue, "submission", 1).await;
    let old = queue.consume().await.unwrap();
    let stale = receipts(&old.next(&[Submission], 1).await.unwrap());
    // As if the lock had been lost: its file is gone.
    std::fs::remove_file(dir.path().join("q.db.lock")).unwrap();
    let new = queue.consume().await.unwrap();
    let held = new.next(&[Submission], 1).await.unwrap();
    assert_eq!(receipts(&held), stale);
    old.ack(&stale).await.unwrap();
    old.bury(vec![failure(stale[0])]).await.unwrap();
    new.release(&stale).await.unwrap();
    assert_eq!(
        new.next(&[Submission], 1).await.unwrap()[0].deliveries_before,
        1
    );
}

#[tokio::test]
async fn what_is_returned_counts_and_what_is_released_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    commands(&queue, "submission", 2).await;
    let consumer = queue.consume().await.unwrap();
    let taken = receipts(&consumer.next(&[Submission], 2).await.unwrap());
    consumer.nack(&taken[..1]).await.unwrap();
    consumer.release(&taken[1..]).await.unwrap();
    let again = consumer.next(&[Submission], 2).await.unwrap();
    let counted: Vec<_> = again
        .iter()
        .map(|delivery| delivery.deliveries_before)
        .collect();
    assert_eq!(counted, [1, 0]);
}

#[tokio::test]
async fn a_poison_message_ends_in_the_dead_queue() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    commands(&queue, "submission", 1).await;
    let mut deliveries = 0;
    // In every round a process dies while it has the message.
    loop {
        let consumer = queue.consume().await.unwrap();
        match consumer.receive(&[Submission], 1).await.unwrap().len() {
            0 => break,
            _ => deliveries += 1,
        }
    }
    assert_eq!(deliveries, DELIVERY_LIMIT + 1);
    let (_, dead) = queue.dead_letters(0, 10).await.unwrap().remove(0);
    assert_eq!((&*dead.reason(), dead.attempts()), ("delivery_limit", 21));
    assert!(dead.shown("").first_failed_at.is_some());
    assert_eq!(dead.routing_key, "submission");
}

#[tokio::test]
async fn a_retry_waits_for_its_time_and_keeps_its_headers() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    commands(&queue, "submission", 2).await;
    let consumer = queue.consume().await.unwrap();
    let taken = receipts(&consumer.next(&[Submission], 2).await.unwrap());
    let retry = |receipt, delay| Retry {
        receipt,
        delay,
        headers: BTreeMap::from([(HEADER_ATTEMPTS.to_owned(), "2".to_owned())]),
    };
    consumer
        .retry(vec![
            retry(taken[0], Duration::from_millis(300)),
            retry(taken[1], Duration::from_hours(1)),
        ])
        .await
        .unwrap();
    assert_eq!(consumer.receive(&[Submission], 2).await.unwrap(), []);
    assert_eq!(queue.counts().await.unwrap()[0].delayed, 2);
    let again = consumer.next(&[Submission], 2).await.unwrap();
    assert_eq!(receipts(&again), taken[..1]);
    assert_eq!(again[0].deliveries_before, 0);
    assert_eq!(again[0].properties.headers["x-glyph-attempts"], "2");
    assert_eq!(again[0].properties.traceparent(), Some("00-a-b-01"));
}

#[tokio::test]
async fn dead_messages_are_listed_dropped_and_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    commands(&queue, "submission", 3).await;
    let consumer = queue.consume().await.unwrap();
    let taken = receipts(&consumer.next(&[Submission], 3).await.unwrap());
    consumer
        .bury(taken.iter().map(|receipt| failure(*receipt)).collect())
        .await
        .unwrap();

    let taken = ids(&taken);
    let dead = queue.dead_letters(0, 2).await.unwrap();
    assert_eq!(dead.len(), 2);
    let first = dead[0].1.shown("");
    assert_eq!(
        (&*first.reason, first.error.as_deref()),
        ("malformed", Some("not JSON: \"{\""))
    );
    assert_eq!((first.attempts, &*first.body), (3, "0"));
    let (third, _) = &queue.dead_letters(taken[1], 2).await.unwrap()[0];
    assert_eq!(*third, taken[2]);
    assert_eq!(queue.dead_count().await.unwrap(), 3);

    assert_eq!(queue.drop_dead(&[taken[0], -1]).await.unwrap(), taken[..1]);
    assert_eq!(queue.dead_count().await.unwrap(), 2);
}

#[tokio::test]
async fn downstream_queues_keep_their_newest_messages() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db"))
        .await
        .with_downstream_max(50);
    for n in 0..200 {
        let body = n.to_string();
        let messages = vec![
            message("step.completed.w.s", &*body),
            message("submission", &*body),
        ];
        let exchange = if n % 2 == 0 {
            Exchange::Events
        } else {
            Exchange::Commands
        };
        queue.publish(exchange, messages).await.unwrap();
    }
    let counts = queue.counts().await.unwrap();
    let count = |queue| {
        counts
            .iter()
            .find(|count| count.queue == queue)
            .unwrap()
            .ready
    };
    assert!((50..=55).contains(&count(STEP_COMPLETED)), "{counts:?}");
    assert_eq!(count("submission"), 100);
    let kept = queue.browse(STEP_COMPLETED, 0, 100).await.unwrap();
    assert_eq!(kept.last().unwrap().body, b"198");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_caller_stops_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    commands(&queue, "submission", 100).await;
    let consumer = queue.consume().await.unwrap();
    let (mut done, mut given_up) = (0, 0);
    let mut patience = Duration::ZERO;
    while done < 100 {
        let waited = tokio::time::timeout(patience, consumer.next(&[Submission], 10)).await;
        if let Ok(deliveries) = waited {
            let deliveries = deliveries.unwrap();
            consumer.ack(&receipts(&deliveries)).await.unwrap();
            done += deliveries.len();
            patience = Duration::ZERO;
        } else {
            given_up += 1;
            assert!(given_up < 20_000, "{done} done, {:?}", queue.counts().await);
            patience += Duration::from_micros(100);
        }
    }
    assert!(given_up > 0);
    assert_eq!(queue.counts().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_drains_while_others_add_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let queue = queue(&dir.path().join("q.db")).await;
    let producer = queue.clone();
    let producing = tokio::spawn(async move {
        for _ in 0..20 {
            commands(&producer, "submission", 200).await;
            commands(&producer, "advance", 50).await;
        }
    });
    let consumer = queue.consume().await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 5_000 {
        let deliveries = consumer.next(&CommandQueue::ALL, 300).await.unwrap();
        consumer.ack(&receipts(&deliveries)).await.unwrap();
        for delivery in deliveries {
            assert!(
                seen.insert(delivery.receipt.tag),
                "{:?} came twice",
                delivery.receipt
            );
        }
    }
    producing.await.unwrap();
    assert_eq!(queue.counts().await.unwrap(), []);
}

async fn file() -> (tempfile::TempDir, EmbeddedQueue) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("glyph.db");
    let queue = queue(&path).await;
    (folder, queue)
}

fn publication(destination: Destination, key: &str) -> Publication {
    Publication {
        destination,
        routing_key: key.to_owned(),
        message_id: "m".to_owned(),
        message_type: key.to_owned(),
        correlation_id: None,
        reply_to: None,
        headers: BTreeMap::from([(HEADER_ATTEMPTS.to_owned(), "3".to_owned())]),
        original: None,
        content_type: "application/json",
        body: Arc::from(&b"{}"[..]),
        timestamp: Utc::now(),
        mandatory: true,
        persistent: true,
    }
}

#[tokio::test]
async fn a_delivery_is_settled_or_comes_again() {
    let (_folder, queue) = file().await;
    let publisher = EmbeddedPublisher::new(queue.clone());
    let command = publication(Destination::Commands, "submission");
    let window = vec![
        command.clone(),
        publication(Destination::Commands, "nonsense"),
        command,
    ];
    let outcomes = publisher.publish(0, &window).await;
    assert!(matches!(
        outcomes.as_slice(),
        [
            PublishOutcome::Confirmed,
            PublishOutcome::Returned(_),
            PublishOutcome::Confirmed
        ]
    ));

    let source = EmbeddedSource::start(&queue, 16).await.unwrap();
    let first = source.next().await.unwrap();
    let second = source.next().await.unwrap();
    assert_eq!(first.queue, Submission);
    assert_eq!(first.properties.headers["x-glyph-attempts"], "3");
    source.settle(&[first.receipt]);
    source.give_back(&[second.receipt]);
    let again = source.next().await.unwrap();
    assert_eq!(
        (again.receipt, again.deliveries_before),
        (second.receipt, 0)
    );
    source.settle(&[again.receipt]);
    source.stop().await;
    assert!(source.next().await.is_none());
    source.close().await;
    assert_eq!(queue.counts().await.unwrap(), []);
}

#[tokio::test]
async fn prefetch_bounds_what_is_handed_out() {
    let (_folder, queue) = file().await;
    let publisher = EmbeddedPublisher::new(queue.clone());
    let window = vec![publication(Destination::Commands, "advance"); 3];
    publisher.publish(0, &window).await;
    let source = EmbeddedSource::start(&queue, 2).await.unwrap();
    let first = source.next().await.unwrap();
    source.next().await.unwrap();
    let third = tokio::time::timeout(Duration::from_millis(300), source.next()).await;
    assert!(third.is_err());
    source.settle(&[first.receipt]);
    assert!(source.next().await.is_some());
}

#[tokio::test]
async fn what_is_set_aside_is_listed_and_dead_letters_are_counted() {
    let (_folder, queue) = file().await;
    let publisher = EmbeddedPublisher::new(queue.clone());
    let because = |destination, reason: &str| {
        let mut copy = publication(destination, "advance");
        copy.headers
            .insert(HEADER_REASON.to_owned(), reason.to_owned());
        copy
    };
    let window = [
        because(Destination::Retry(RetryDelay::S60), "blocked"),
        because(Destination::Retry(RetryDelay::S16), "task_not_found"),
        because(Destination::Dead, "malformed"),
    ];
    publisher.publish(0, &window).await;
    let letters = EmbeddedDeadLetters::new(queue.clone());
    let listed = letters.set_aside(10).await.unwrap();
    let reasons: Vec<_> = listed.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["blocked"]);
    let source = EmbeddedSource::start(&queue, 2).await.unwrap();
    assert_eq!(source.dead_letters().await, Some(1));
    source.close().await;
}

#[tokio::test]
async fn retries_wait_and_dead_letters_can_be_taken_and_put_back() {
    let (_folder, queue) = file().await;
    let publisher = EmbeddedPublisher::new(queue.clone());
    let mut dead = publication(Destination::Dead, "start");
    dead.headers
        .insert(HEADER_REASON.to_owned(), "task_not_found".to_owned());
    let window = [
        publication(Destination::Retry(RetryDelay::S60), "advance"),
        dead,
    ];
    let outcomes = publisher.publish(0, &window).await;
    assert_eq!(
        outcomes,
        [PublishOutcome::Confirmed, PublishOutcome::Confirmed]
    );
    let counts = queue.counts().await.unwrap();
    let delayed = counts
        .iter()
        .find(|count| count.queue == "advance")
        .unwrap();
    assert_eq!((delayed.ready, delayed.delayed), (0, 1));

    let letters = EmbeddedDeadLetters::new(queue.clone());
    let listed = letters.list(10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].reason.as_str(), listed[0].attempts),
        ("task_not_found", 3)
    );
    assert_eq!(listed[0].letter.len(), 12);

    // Taken page by page: kept before it is removed.
    let mut kept = Kept::default();
    let other = |_: &str, letter: &Letter| letter.reason() == "other";
    assert_eq!(letters.take(&other, &mut kept).await.unwrap(), 0);
    assert_eq!(letters.take(&|_, _| true, &mut kept).await.unwrap(), 1);
    assert_eq!((kept.letters.len(), kept.removed), (1, 1));
    assert_eq!(letters.list(10).await.unwrap(), []);

    // Put back with everything it had, it is the same letter.
    let letter = kept.letters.remove(0);
    let back = Publication {
        original: Some(Arc::clone(&letter.properties)),
        routing_key: letter.routing_key.clone(),
        body: letter.body.clone().into(),
        headers: BTreeMap::new(),
        ..publication(Destination::Dead, "")
    };
    publisher.publish(0, &[back]).await;
    assert_eq!(letters.list(10).await.unwrap(), listed);

    let edited = Letter {
        body: b"{}".to_vec(),
        ..letter
    };
    assert!(!letters.replace("nothing", edited.clone()).await.unwrap());
    assert!(letters.replace(&listed[0].letter, edited).await.unwrap());
    let again = letters.list(10).await.unwrap();
    assert_eq!(
        (&*again[0].body, &again[0].headers),
        ("{}", &listed[0].headers)
    );
    assert_eq!(letters.visit(&mut |_, _| Visit::Remove).await.unwrap(), 1);
    assert_eq!(letters.list(10).await.unwrap(), []);
}

#[derive(Default)]
struct Kept {
    letters: Vec<Letter>,
    removed: usize,
}

#[async_trait::async_trait]
impl LetterStore for Kept {
    async fn keep(&mut self, page: Vec<Letter>) -> Result<(), KeepError> {
        self.letters.extend(page);
        Ok(())
    }

    async fn removed(&mut self) -> Result<(), KeepError> {
        self.removed += 1;
        Ok(())
    }
}
