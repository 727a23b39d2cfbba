//! Messages between commit and confirm.

use std::time::Duration;

use glyph_workflow_engine::{
    WorkflowEvent,
    events::{EVENT_SCHEMA_VERSION, upcast},
    store::{
        CLAIM_BYTES_MAX, EventRange, NewMessage, OpenedTask, OutboxMessage, OutboxRow, PublisherId,
        ReleasedRow, SkippedMessage, Store, UnconfirmedMessage,
    },
};
use serde_json::json;

use super::until;
use crate::stores::{adapter::Adapter, samples::*};

const LONG: Duration = Duration::from_mins(10);

async fn claim(store: &dyn Store, by: PublisherId) -> Vec<OutboxRow> {
    store.claim(by, LONG, 100).await.unwrap()
}

fn positions(rows: &[OutboxRow]) -> Vec<i64> {
    rows.iter().map(|row| row.position).collect()
}

/// The rows of messages in memory.
fn rows_of(messages: &[OutboxMessage]) -> Vec<i64> {
    let mut positions: Vec<i64> = messages.iter().map(|message| message.position).collect();
    positions.dedup();
    positions
}

fn whole(positions: &[i64]) -> Vec<ReleasedRow> {
    let whole = |position: &i64| ReleasedRow {
        position: *position,
        from_version: None,
    };
    positions.iter().map(whole).collect()
}

fn range_of(row: &OutboxRow) -> (u64, u64) {
    let range = row.content.events().unwrap();
    assert_eq!(Some(range.task_id), row.task_id);
    (range.from, range.to)
}

pub(in crate::stores) async fn messages_belong_to_the_publisher_that_commits_them(
    a: &impl Adapter,
) {
    let store = a.store();
    let (me, relay) = (publisher("me"), publisher("relay"));
    let (one, two) = (task("one"), task("two"));
    let mut batch = open(&*store, &[one, two], Some(me)).await;
    let now = batch.now;
    assert!(!batch.take_task(one).relay_only);
    let mut expected = Vec::new();
    let mut writes = Vec::new();
    for task in [two, one] {
        let (mut write, _) = write_on(None, task, now, started("flow", &[]));
        write.outbox = write.events.iter().map(message_of).collect();
        expected.extend(write.outbox.clone());
        writes.push(write);
    }
    let messages = batch.commit(writes).await.unwrap();
    assert!(messages.is_sorted_by(|a, b| a.position <= b.position));
    // One row for each task, which its messages share.
    assert_eq!(rows_of(&messages).len(), 2);
    let found: Vec<_> = messages
        .iter()
        .map(|message| NewMessage {
            message_id: message.message_id,
            task_id: message.task_id,
            version: message.version,
            routing_key: message.routing_key.clone(),
            message_type: "step.completed",
            body: message.body.clone(),
        })
        .collect();
    assert_eq!(found, expected);
    assert!(
        messages
            .iter()
            .all(|message| message.attempts == 0 && message.message_type == "step.completed")
    );
    assert!(claim(&*store, relay).await.is_empty());

    // Without a publisher they belong to the relay.
    assert!(
        append(&*store, task("three"), None, started("flow", &[]))
            .await
            .is_empty()
    );
    let claimed = claim(&*store, relay).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].task_id, Some(task("three")));
    assert_eq!(range_of(&claimed[0]), (1, 2));
}

pub(in crate::stores) async fn a_message_without_an_event_is_carried_in_its_place(
    a: &impl Adapter,
) {
    let store = a.store();
    let one = task("one");
    let rejection = message(id("rejection"), Some(one));
    let carried = rejection.clone();
    let events = vec![
        annotated(json!(1)),
        annotated(json!(2)),
        annotated(json!(3)),
    ];
    append(&*store, one, None, started("flow", &[])).await;
    append_with(&*store, one, None, events, |write, _| {
        // The second event has no message.
        write.outbox.remove(1);
        write.outbox.insert(1, carried);
    })
    .await;
    let claimed = claim(&*store, publisher("relay")).await;
    assert_eq!(claimed.len(), 4);
    assert!(claimed.iter().all(|row| row.task_id == Some(one)));
    assert_eq!(range_of(&claimed[0]), (1, 2));
    assert_eq!(range_of(&claimed[1]), (3, 3));
    let found = claimed[2].content.message().unwrap();
    assert_eq!(found.message_id, rejection.message_id);
    assert_eq!(found.routing_key, rejection.routing_key);
    assert_eq!(found.message_type, rejection.message_type);
    assert_eq!(found.body, rejection.body);
    assert_eq!(range_of(&claimed[3]), (5, 5));
}

pub(in crate::stores) async fn the_events_of_a_row_are_read_with_what_they_stand_on(
    a: &impl Adapter,
) {
    let store = a.store();
    let event = |event_type: &str, data: serde_json::Value| {
        upcast(event_type, EVENT_SCHEMA_VERSION, &data.to_string()).unwrap()
    };
    let (one, two) = (task("one"), task("two"));
    append(&*store, one, None, started("flow", &[("k", "v")])).await;
    append(&*store, one, None, vec![annotated(json!(1.5e17))]).await;
    let migrated = event(
        "workflow_migrated",
        json!({"from_revision": 1, "workflow_id": id("flow 2"), "workflow": "flow", "revision": 2,
               "content_hash": "0".repeat(64)}),
    );
    append(&*store, one, None, vec![migrated.clone()]).await;
    append(&*store, one, None, vec![annotated(json!("x"))]).await;
    append(&*store, two, None, started("flow", &[])).await;

    let range = |task_id, from, to| EventRange { task_id, from, to };
    let ranges = [
        range(one, 3, 4),
        range(two, 1, 2),
        range(one, 5, 5),
        range(one, 5, 7),
        range(task("nobody"), 1, 1),
    ];
    let read = store.events_of(&ranges).await.unwrap();
    let read: Vec<_> = read.into_iter().map(Result::unwrap).collect();
    let versions: Vec<Vec<u64>> = read
        .iter()
        .map(|read| read.events.iter().map(|event| event.version).collect())
        .collect();
    // What is not there is left out.
    assert_eq!(versions, [vec![3, 4], vec![1, 2], vec![5], vec![5], vec![]]);
    let stream = store.events(one, 0, 100).await.unwrap().events;
    assert_eq!(read[0].events, stream[2..4]);
    assert_eq!(read[2].events, stream[4..]);
    let before: Vec<Vec<u64>> = read
        .iter()
        .map(|read| read.before.iter().map(|event| event.version).collect())
        .collect();
    assert_eq!(before, [vec![1], vec![], vec![1, 4], vec![1, 4], vec![]]);
    let WorkflowEvent::WorkflowStarted(started) = &read[0].before[0].event else {
        panic!("{:?}", read[0].before)
    };
    assert_eq!(started.workflow.revision_id.0, id("flow"));
    assert_eq!(read[2].before[1].event, migrated);
    assert!(store.events_of(&[]).await.unwrap().is_empty());
}

pub(in crate::stores) async fn messages_behind_those_of_others_go_to_the_relay(a: &impl Adapter) {
    let store = a.store();
    let (me, other, relay) = (publisher("me"), publisher("other"), publisher("relay"));
    let one = task("one");
    let opened = async |by| -> OpenedTask { open(&*store, &[one], by).await.take_task(one) };
    let first = append(&*store, one, Some(me), started("flow", &[])).await;
    assert_eq!(first.len(), 2);
    // Own messages are in front: own ones may follow. Another's must not overtake.
    assert!(!opened(Some(me)).await.relay_only);
    assert!(opened(Some(other)).await.relay_only);
    let second = append(&*store, one, Some(other), vec![annotated(json!(1))]).await;
    assert!(second.is_empty());
    // Now an unleased message is in front, also of the own ones.
    assert!(opened(Some(me)).await.relay_only);
    assert!(
        append(&*store, one, Some(me), vec![annotated(json!(2))])
            .await
            .is_empty()
    );
    // It stays behind the own messages until those are confirmed.
    assert!(claim(&*store, relay).await.is_empty());
    store.confirmed(&rows_of(&first)).await.unwrap();
    let claimed = claim(&*store, relay).await;
    assert_eq!(claimed.len(), 2);
    assert!(opened(Some(me)).await.relay_only);
    store.confirmed(&positions(&claimed)).await.unwrap();
    assert!(!opened(Some(me)).await.relay_only);
    assert_eq!(
        append(&*store, one, Some(me), vec![annotated(json!(3))])
            .await
            .len(),
        1
    );
    // Released, it belongs to the relay.
    let mine = append(&*store, one, Some(me), vec![annotated(json!(4))]).await;
    store.release(&whole(&rows_of(&mine)), None).await.unwrap();
    assert!(opened(Some(me)).await.relay_only);
}

pub(in crate::stores) async fn a_claim_takes_the_oldest_and_keeps_the_order_of_a_task(
    a: &impl Adapter,
) {
    let store = a.store();
    let (one, two) = (publisher("one"), publisher("two"));
    append(&*store, task("a"), None, started("flow", &[])).await;
    append(&*store, task("b"), None, started("flow", &[])).await;
    append(&*store, task("a"), None, vec![annotated(json!(1))]).await;
    append(&*store, task("b"), None, vec![annotated(json!(1))]).await;
    append(&*store, task("a"), None, vec![annotated(json!(2))]).await;
    let first = store.claim(one, LONG, 1).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].task_id, Some(task("a")));
    // The rest of the task is behind messages leased by another.
    let second = claim(&*store, two).await;
    assert_eq!(second.len(), 2);
    assert!(second.iter().all(|row| row.task_id == Some(task("b"))));
    assert!(second[0].position < second[1].position);
    // The lease holder itself may continue.
    let third = claim(&*store, one).await;
    assert_eq!(third.len(), 2);
    assert!(first[0].position < third[0].position && third[0].position < third[1].position);
    assert!(claim(&*store, one).await.is_empty());
    assert!(claim(&*store, two).await.is_empty());

    let release = async |rows: &[OutboxRow]| {
        store.release(&whole(&positions(rows)), None).await.unwrap();
    };
    release(&third).await;
    assert!(
        claim(&*store, two).await.is_empty(),
        "the oldest of the task is still held"
    );
    release(&first).await;
    let all = claim(&*store, two).await;
    assert_eq!(
        positions(&all),
        [positions(&first), positions(&third)].concat()
    );
    assert!(all.iter().all(|row| row.attempts == 0));
}

pub(in crate::stores) async fn a_message_that_backs_off_holds_back_its_own_task_only(
    a: &impl Adapter,
) {
    let store = a.store();
    let relay = publisher("relay");
    let (one, two) = (task("a"), task("b"));
    for task in [one, two] {
        append(&*store, task, None, started("flow", &[])).await;
        append(&*store, task, None, vec![annotated(json!(1))]).await;
    }
    let all = claim(&*store, relay).await;
    assert_eq!(all.len(), 4);
    let failed = Some(("no route \0".to_owned(), LONG));
    let rows = whole(&positions(&all));
    store.release(&rows[..1], failed).await.unwrap();
    store.release(&rows[1..], None).await.unwrap();
    let next = claim(&*store, relay).await;
    assert_eq!(positions(&next), positions(&all)[2..]);
    assert!(next.iter().all(|row| row.task_id == Some(two)));

    let listed = store.outbox_failed(10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].row.position, listed[0].row.attempts),
        (all[0].position, 1)
    );
    assert!(listed[0].error.starts_with("no route"));
    let seen = store.unconfirmed(one, 1).await.unwrap().unwrap();
    assert_eq!(seen.attempts, 1);
    assert!(seen.last_error.unwrap().starts_with("no route"));
    // Those behind it in its row, and in the next one, have not been tried.
    for version in [2, 3] {
        let waiting = store.unconfirmed(one, version).await.unwrap();
        assert_eq!(waiting, Some(UnconfirmedMessage::default()), "{version}");
    }
    store.confirmed(&positions(&all)[3..]).await.unwrap();
    assert_eq!(store.unconfirmed(two, 3).await.unwrap(), None);
    assert_eq!(store.unconfirmed(one, 4).await.unwrap(), None);

    // Retried when due, together with the messages behind it.
    store
        .release(&rows[..1], Some(("again".to_owned(), Duration::ZERO)))
        .await
        .unwrap();
    let retried = until(async || {
        let rows = claim(&*store, relay).await;
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(positions(&retried), positions(&all)[..2]);
    assert_eq!((retried[0].attempts, retried[1].attempts), (2, 0));
}

pub(in crate::stores) async fn a_row_goes_back_from_the_first_version_that_was_not_confirmed(
    a: &impl Adapter,
) {
    let store = a.store();
    let relay = publisher("relay");
    let one = task("one");
    let events = (0..4).map(|n| annotated(json!(n)));
    let events = started("flow", &[]).into_iter().chain(events);
    append(&*store, one, None, events.collect()).await;
    let row = claim(&*store, relay).await.remove(0);
    assert_eq!((range_of(&row), row.attempts), ((1, 6), 0));
    let release = async |from_version, error: Option<&str>| {
        let released = ReleasedRow {
            position: row.position,
            from_version,
        };
        let failed = error.map(|error| (error.to_owned(), Duration::ZERO));
        store.release(&[released], failed).await.unwrap();
        until(async || claim(&*store, relay).await.pop()).await
    };
    let error = async |version| {
        let seen = store.unconfirmed(one, version).await.unwrap();
        seen.map(|seen| seen.last_error)
    };
    // The same message fails again and again.
    for attempts in 1..=2 {
        let again = release(Some(3), Some("refused")).await;
        assert_eq!((range_of(&again), again.attempts), ((3, 6), attempts));
    }
    assert_eq!(error(2).await, None);
    assert_eq!(error(3).await, Some(Some("refused".to_owned())));
    // Another one fails for the first time.
    let next = release(Some(5), Some("returned")).await;
    assert_eq!((range_of(&next), next.attempts), ((5, 6), 1));
    assert_eq!(store.outbox_failed(10).await.unwrap()[0].error, "returned");
    // One that only waits has not failed; what is behind never goes back.
    let waits = release(Some(6), None).await;
    assert_eq!((range_of(&waits), waits.attempts), ((6, 6), 0));
    assert_eq!(error(6).await, Some(None));
    let waits = release(Some(2), None).await;
    assert_eq!(range_of(&waits), (6, 6));
    assert!(store.outbox_failed(10).await.unwrap().is_empty());
    assert_eq!(store.outbox_stats().await.unwrap().pending, 1);
}

pub(in crate::stores) async fn a_refused_message_can_be_given_up(a: &impl Adapter) {
    let store = a.store();
    let relay = publisher("relay");
    let one = task("one");
    append(&*store, one, None, started("flow", &[])).await;
    store
        .enqueue(vec![message(id("goal"), None)])
        .await
        .unwrap();
    let rows = claim(&*store, relay).await;
    let [of_task, of_goal] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert_eq!(range_of(of_task), (1, 2));
    let skip = async |position, versions| {
        let message = SkippedMessage { position, versions };
        store.skip(message).await.unwrap()
    };
    let first = Some((1, 1));
    // What is leased is being tried, and what has not failed may be confirmed at any time.
    assert!(!skip(of_task.position, first).await);
    store
        .release(&whole(&positions(&rows)), None)
        .await
        .unwrap();
    assert!(!skip(of_task.position, first).await);
    assert!(!skip(of_goal.position, None).await);
    claim(&*store, relay).await;
    let failed = Some(("returned".to_owned(), LONG));
    store
        .release(&whole(&positions(&rows)), failed)
        .await
        .unwrap();
    // Another beginning is another message.
    assert!(!skip(of_task.position, Some((2, 2))).await);
    assert!(!skip(of_task.position, None).await);
    assert!(!skip(of_goal.position, first).await);
    assert!(skip(of_task.position, first).await);
    assert!(!skip(of_task.position, first).await);
    // What was behind it goes out at once, and has not failed.
    let free = claim(&*store, relay).await;
    assert_eq!(positions(&free), [of_task.position]);
    assert_eq!((range_of(&free[0]), free[0].attempts), ((2, 2), 0));
    // The last message of a row takes it along.
    let failed = Some(("returned".to_owned(), LONG));
    let last = ReleasedRow {
        position: of_task.position,
        from_version: Some(2),
    };
    store.release(&[last], failed).await.unwrap();
    assert!(skip(of_task.position, Some((2, 2))).await);
    assert!(skip(of_goal.position, None).await);
    assert_eq!(store.outbox_stats().await.unwrap().pending, 0);
}

pub(in crate::stores) async fn a_lapsed_lease_is_taken_over_and_a_renewed_one_is_not(
    a: &impl Adapter,
) {
    let store = a.store();
    let (dead, alive, relay) = (publisher("dead"), publisher("alive"), publisher("relay"));
    append(&*store, task("a"), None, started("flow", &[])).await;
    let left = store
        .claim(dead, Duration::from_millis(300), 10)
        .await
        .unwrap();
    append(&*store, task("b"), None, started("flow", &[])).await;
    let kept = store
        .claim(alive, Duration::from_millis(300), 10)
        .await
        .unwrap();
    store.renew(alive, LONG).await.unwrap();
    let taken = until(async || {
        let rows = claim(&*store, relay).await;
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(positions(&taken), positions(&left));
    assert!(kept.iter().all(|row| row.task_id == Some(task("b"))));
    // Renewing does not bring back messages that another took over.
    store.renew(dead, LONG).await.unwrap();
    store
        .release(&whole(&positions(&taken)), None)
        .await
        .unwrap();
    assert_eq!(positions(&claim(&*store, dead).await), positions(&left));
    assert!(claim(&*store, relay).await.is_empty());
}

pub(in crate::stores) async fn a_publisher_finds_out_what_it_holds(a: &impl Adapter) {
    let store = a.store();
    let (me, other, relay) = (publisher("me"), publisher("other"), publisher("relay"));
    let leased = async |by, after| positions(&store.leased(by, after).await.unwrap());
    assert!(leased(me, 0).await.is_empty());
    let first = append(&*store, task("a"), Some(me), started("flow", &[])).await;
    append(&*store, task("b"), Some(other), started("flow", &[])).await;
    append(&*store, task("c"), None, started("flow", &[])).await;
    let second = append(&*store, task("a"), Some(me), vec![annotated(json!(1))]).await;
    let (first, second) = (rows_of(&first), rows_of(&second));
    let all = store.leased(me, 0).await.unwrap();
    assert_eq!(positions(&all), [first.clone(), second.clone()].concat());
    assert_eq!(range_of(&all[0]), (1, 2));
    assert_eq!(range_of(&all[1]), (3, 3));
    // Also messages unknown to the caller: written by a commit whose reply was lost.
    assert_eq!(leased(me, first[0]).await, second);
    // A claim is a commit, too.
    let claimed = claim(&*store, relay).await;
    assert_eq!(leased(relay, 0).await, positions(&claimed));
    // Neither confirmed nor released messages.
    store.confirmed(&first).await.unwrap();
    store.release(&whole(&second), None).await.unwrap();
    assert!(leased(me, 0).await.is_empty());
}

pub(in crate::stores) async fn confirmed_messages_are_gone(a: &impl Adapter) {
    let store = a.store();
    assert_eq!(store.outbox_stats().await.unwrap().pending, 0);
    assert!(store.outbox_stats().await.unwrap().oldest_seconds.abs() < f64::EPSILON);
    let me = Some(publisher("me"));
    let mut rows = Vec::new();
    for name in ["a", "b"] {
        rows.extend(rows_of(
            &append(&*store, task(name), me, started("flow", &[])).await,
        ));
    }
    until(async || (store.outbox_stats().await.unwrap().oldest_seconds > 0.0).then_some(())).await;
    store.confirmed(&rows[..1]).await.unwrap();
    assert_eq!(store.outbox_stats().await.unwrap().pending, 1);
    store.confirmed(&rows).await.unwrap();
    store.confirmed(&[]).await.unwrap();
    store.release(&whole(&rows), None).await.unwrap();
    store.release(&[], None).await.unwrap();
    assert_eq!(store.outbox_stats().await.unwrap().pending, 0);
}

pub(in crate::stores) async fn a_claim_ends_after_so_many_bytes(a: &impl Adapter) {
    let store = a.store();
    let large = |n: u32| {
        let mut row = message(id(&n.to_string()), None);
        row.body = "x".repeat(CLAIM_BYTES_MAX / 2 + 1).into();
        row
    };
    store.enqueue((0..5).map(large).collect()).await.unwrap();
    assert_eq!(claimed_sizes(&*store).await, [2, 2, 1, 0]);
}

async fn claimed_sizes(store: &dyn Store) -> [usize; 4] {
    let mut sizes = [0; 4];
    for size in &mut sizes {
        *size = claim(store, publisher("relay")).await.len();
    }
    sizes
}

/// What has to be read, also of events that have no message.
pub(in crate::stores) async fn a_claim_counts_the_bytes_of_events(a: &impl Adapter) {
    let store = a.store();
    for n in 0..5 {
        append(
            &*store,
            numbered(n),
            Some(publisher("me")),
            started("flow", &[]),
        )
        .await;
        let half = json!("x".repeat(CLAIM_BYTES_MAX / 4 + 1));
        let events = vec![
            annotated(json!(1)),
            annotated(half.clone()),
            annotated(half),
            annotated(json!(2)),
        ];
        append_with(&*store, numbered(n), None, events, |write, _| {
            write.outbox.drain(1..3);
        })
        .await;
    }
    let me = store.leased(publisher("me"), 0).await.unwrap();
    store.confirmed(&positions(&me)).await.unwrap();
    assert_eq!(claimed_sizes(&*store).await, [2, 2, 1, 0]);
}

pub(in crate::stores) async fn messages_without_a_batch_are_queued_once(a: &impl Adapter) {
    let store = a.store();
    let messages = vec![message(id("goal"), None), message(id("other"), None)];
    store.enqueue(messages.clone()).await.unwrap();
    store.enqueue(messages).await.unwrap();
    store.enqueue(Vec::new()).await.unwrap();
    let claimed = claim(&*store, publisher("relay")).await;
    let ids: Vec<_> = claimed
        .iter()
        .map(|row| row.content.message().unwrap().message_id)
        .collect();
    assert_eq!(ids, [id("goal"), id("other")]);
    assert!(claimed.iter().all(|row| row.task_id.is_none()));
}
