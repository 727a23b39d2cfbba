//! Messages between commit and confirm.

use std::time::Duration;

use glyph_workflow_engine::store::{
    CLAIM_BYTES_MAX, NewOutboxRow, OpenedTask, OutboxRow, PublisherId, Store, UnconfirmedMessage,
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
    let rows = batch.commit(writes).await.unwrap();
    assert!(rows.is_sorted_by(|a, b| a.position < b.position));
    let found: Vec<_> = rows
        .iter()
        .map(|row| NewOutboxRow {
            message_id: row.message_id,
            task_id: row.task_id,
            routing_key: row.routing_key.clone(),
            message_type: "step.completed",
            body: row.body.clone(),
        })
        .collect();
    assert_eq!(found, expected);
    assert!(
        rows.iter()
            .all(|row| row.attempts == 0 && row.message_type == "step.completed")
    );
    assert!(claim(&*store, relay).await.is_empty());

    // Without a publisher they belong to the relay.
    assert!(
        append(&*store, task("three"), None, started("flow", &[]))
            .await
            .is_empty()
    );
    let claimed = claim(&*store, relay).await;
    assert_eq!(claimed.len(), 2);
    assert!(claimed.iter().all(|row| row.task_id == Some(task("three"))));
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
    store.confirmed(&positions(&first)).await.unwrap();
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
    store.release(&positions(&mine), None).await.unwrap();
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

    store.release(&positions(&third), None).await.unwrap();
    assert!(
        claim(&*store, two).await.is_empty(),
        "the oldest of the task is still held"
    );
    store.release(&positions(&first), None).await.unwrap();
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
    append(&*store, task("a"), None, started("flow", &[])).await;
    append(&*store, task("b"), None, started("flow", &[])).await;
    let all = claim(&*store, relay).await;
    assert_eq!(all.len(), 4);
    let failed = Some(("no route \0".to_owned(), LONG));
    store.release(&positions(&all)[..1], failed).await.unwrap();
    store.release(&positions(&all)[1..], None).await.unwrap();
    let next = claim(&*store, relay).await;
    assert_eq!(positions(&next), positions(&all)[2..]);
    assert!(next.iter().all(|row| row.task_id == Some(task("b"))));

    let listed = store.outbox_failed(10).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].row.position, listed[0].row.attempts),
        (all[0].position, 1)
    );
    assert!(listed[0].error.starts_with("no route"));
    let seen = store.unconfirmed(all[0].message_id).await.unwrap().unwrap();
    assert_eq!(seen.attempts, 1);
    assert!(seen.last_error.unwrap().starts_with("no route"));
    let waiting = store.unconfirmed(all[1].message_id).await.unwrap();
    assert_eq!(waiting, Some(UnconfirmedMessage::default()));
    store.confirmed(&positions(&all)[3..]).await.unwrap();
    assert_eq!(store.unconfirmed(all[3].message_id).await.unwrap(), None);

    // Retried when due, together with the messages behind it.
    store
        .release(
            &positions(&all)[..1],
            Some(("again".to_owned(), Duration::ZERO)),
        )
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
    store.release(&positions(&taken), None).await.unwrap();
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
    let all = [first.clone(), second.clone()].concat();
    assert_eq!(store.leased(me, 0).await.unwrap(), all);
    // Also messages unknown to the caller: written by a commit whose reply was lost.
    assert_eq!(leased(me, first[1].position).await, positions(&second));
    // A claim is a commit, too.
    let claimed = claim(&*store, relay).await;
    assert_eq!(leased(relay, 0).await, positions(&claimed));
    // Neither confirmed nor released messages.
    store.confirmed(&positions(&first)).await.unwrap();
    store.release(&positions(&second), None).await.unwrap();
    assert!(leased(me, 0).await.is_empty());
}

pub(in crate::stores) async fn confirmed_messages_are_gone(a: &impl Adapter) {
    let store = a.store();
    assert_eq!(store.outbox_stats().await.unwrap().pending, 0);
    assert!(store.outbox_stats().await.unwrap().oldest_seconds.abs() < f64::EPSILON);
    let rows = append(
        &*store,
        task("a"),
        Some(publisher("me")),
        started("flow", &[]),
    )
    .await;
    until(async || (store.outbox_stats().await.unwrap().oldest_seconds > 0.0).then_some(())).await;
    store.confirmed(&positions(&rows)[..1]).await.unwrap();
    assert_eq!(store.outbox_stats().await.unwrap().pending, 1);
    store.confirmed(&positions(&rows)).await.unwrap();
    store.confirmed(&[]).await.unwrap();
    store.release(&positions(&rows), None).await.unwrap();
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
    let mut sizes = Vec::new();
    for _ in 0..4 {
        sizes.push(claim(&*store, publisher("relay")).await.len());
    }
    assert_eq!(sizes, [2, 2, 1, 0]);
}

pub(in crate::stores) async fn messages_without_a_batch_are_queued_once(a: &impl Adapter) {
    let store = a.store();
    let rows = vec![message(id("goal"), None), message(id("other"), None)];
    store.enqueue(rows.clone()).await.unwrap();
    store.enqueue(rows).await.unwrap();
    store.enqueue(Vec::new()).await.unwrap();
    let claimed = claim(&*store, publisher("relay")).await;
    let ids: Vec<_> = claimed.iter().map(|row| row.message_id).collect();
    assert_eq!(ids, [id("goal"), id("other")]);
    assert!(claimed.iter().all(|row| row.task_id.is_none()));
}
