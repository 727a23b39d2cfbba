//! Publishes the messages that their lanes did not publish.
//!
//! **Order.** For one task, messages leave this process in the order of their positions:
//!
//! - The store leases a row only if no older row of its task is leased by another publisher or
//!   backs off, and it leases rows to the relay in order. The relay has a publisher name of its
//!   own, different from that of the lanes: to the store they are two publishers, so neither
//!   overtakes the other.
//! - A commit of the task, here or in another process, sees under the head lock that older rows
//!   belong to the relay, and leaves its own rows behind them.
//! - After a failure the failed row backs off, which blocks all later ones of its task. When it is
//!   tried again it is sent alone; the others follow once it is confirmed.
//! - Within one window, later messages of a task may be confirmed although an earlier one was
//!   refused: they had already been sent.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use glyph_workflow_engine::{
    ids::TaskId,
    store::{OUTBOX_LEASE, Outbox, OutboxRow, PublisherId},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{deletions::delete, publication::publication_of};
use crate::{
    backoff::Backoff,
    broker::{MessagePublisher, PublishOutcome},
    failpoints::{CrashPoint, Failpoints},
    metrics::Metrics,
};

/// Rows of one claim: a window small enough for the broker to confirm well within the lease.
const CLAIM_MAX: u32 = 512;
/// Time between two polls while messages wait, but none for the relay.
const POLL_BACKLOG: Duration = Duration::from_millis(200);
/// Time between two polls while no message waits.
const POLL_IDLE: Duration = Duration::from_secs(1);
/// The first wait after a failure; each failure doubles it.
const FAILED_WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const FAILED_WAIT_MAX: Duration = Duration::from_mins(1);

/// The relay's name among publishers, next to the lanes' of the same process.
pub(crate) fn relay_id(lanes: PublisherId) -> PublisherId {
    PublisherId(Uuid::new_v5(&lanes.0, b"relay"))
}

/// How long a message waits when it has failed `attempts` times before.
pub(crate) fn failed_wait(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts).unwrap_or(0).min(6);
    (FAILED_WAIT_FIRST * 2_u32.pow(doublings)).min(FAILED_WAIT_MAX)
}

/// Why a message was not published, for operators; none if it was published.
pub(crate) fn failure_text(outcome: &PublishOutcome) -> Option<String> {
    match outcome {
        PublishOutcome::Confirmed => None,
        PublishOutcome::Returned(text) => Some(format!("returned: {text}")),
        PublishOutcome::Nacked => Some("refused by the broker".to_owned()),
        PublishOutcome::Unknown(text) => Some(format!("not confirmed: {text}")),
    }
}

/// The relay of one process.
pub(crate) struct Relay {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) publisher: Arc<dyn MessagePublisher>,
    pub(crate) id: PublisherId,
    /// The publisher's channel for the relay; the lanes use others.
    pub(crate) channel: usize,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) failpoints: Failpoints,
    pub(crate) stopping: CancellationToken,
}

impl Relay {
    /// Runs until stopped; a window that has begun is finished.
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        // Whether a claim may have succeeded although its answer was lost. Between two windows the
        // relay leases nothing else.
        let mut unknown_commit = false;
        while !self.stopping.is_cancelled() {
            if !self.publisher.state().borrow().publishing {
                self.wait_for_broker().await;
                continue;
            }
            let claimed = if unknown_commit {
                self.outbox.leased(self.id, 0).await
            } else {
                self.outbox.claim(self.id, OUTBOX_LEASE, CLAIM_MAX).await
            };
            match claimed {
                Ok(rows) => {
                    backoff.reset();
                    let had_unknown_commit = std::mem::take(&mut unknown_commit);
                    if !rows.is_empty() {
                        self.publish(rows).await;
                    } else if !had_unknown_commit {
                        self.pause(self.idle_time().await).await;
                    }
                }
                Err(error) => {
                    unknown_commit = true;
                    tracing::debug!(%error, "the outbox could not be read");
                    self.pause(backoff.next()).await;
                }
            }
        }
    }

    async fn idle_time(&self) -> Duration {
        let waits = self
            .outbox
            .outbox_stats()
            .await
            .is_ok_and(|stats| stats.pending > 0);
        if waits { POLL_BACKLOG } else { POLL_IDLE }
    }

    async fn wait_for_broker(&self) {
        let mut state = self.publisher.state();
        let connected = async { state.wait_for(|state| state.publishing).await.is_ok() };
        let gone = tokio::select! {
            connected = connected => !connected,
            () = self.stopping.cancelled() => false,
        };
        // Without a publisher the process is about to end.
        if gone {
            self.pause(POLL_IDLE).await;
        }
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// Publishes claimed rows in two rounds. The second contains the rows that wait for a message
    /// which has failed before.
    async fn publish(&self, rows: Vec<OutboxRow>) {
        let (first, behind) = split_probes(rows);
        let failed = self.publish_round(first).await;
        if behind.is_empty() {
            return;
        }
        let (blocked, free): (Vec<_>, Vec<_>) = behind
            .into_iter()
            .partition(|row| row.task_id.is_some_and(|task| failed.contains(&task)));
        let blocked = blocked.into_iter().map(|row| row.position).collect();
        self.release(BTreeMap::from([(None, blocked)])).await;
        self.publish_round(free).await;
    }

    /// Publishes one window; returns the tasks that are blocked now.
    async fn publish_round(&self, rows: Vec<OutboxRow>) -> HashSet<TaskId> {
        if rows.is_empty() {
            return HashSet::new();
        }
        let window: Vec<_> = rows.iter().map(publication_of).collect();
        let begun = Instant::now();
        let publishing = self.publisher.publish(self.channel, &window);
        let outcomes = self
            .failpoints
            .pass_within(CrashPoint::BeforeConfirm, publishing)
            .await;
        self.metrics.confirmed_after(begun.elapsed());
        let verdict = judge(&rows, &outcomes, &self.metrics);
        self.failpoints.pass(CrashPoint::AfterConfirm);
        delete(&*self.outbox, &verdict.confirmed, &self.stopping).await;
        self.release(verdict.released).await;
        verdict.held
    }

    async fn release(&self, released: Released) {
        release(&*self.outbox, released, &self.stopping).await;
    }
}

/// Rows to release to the relay, grouped by error and back-off time. `None` for rows that only wait
/// behind a failed one.
pub(crate) type Released = BTreeMap<Option<(String, Duration)>, Vec<i64>>;

/// The outcome of a window.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) confirmed: Vec<i64>,
    pub(crate) released: Released,
    /// Tasks of which the sender of this window may publish nothing further.
    pub(crate) held: HashSet<TaskId>,
}

/// Sorts a window's rows by their outcomes.
pub(crate) fn judge(rows: &[OutboxRow], outcomes: &[PublishOutcome], metrics: &Metrics) -> Verdict {
    let missing = PublishOutcome::Unknown("no outcome".to_owned());
    let mut verdict = Verdict::default();
    for (index, row) in rows.iter().enumerate() {
        let outcome = outcomes.get(index).unwrap_or(&missing);
        let Some(text) = failure_text(outcome) else {
            metrics.published(&row.message_type);
            verdict.confirmed.push(row.position);
            continue;
        };
        if matches!(outcome, PublishOutcome::Returned(_)) {
            metrics.unroutable();
        }
        // The first failed row of a task backs off and is counted; those behind it wait for it.
        let leads = row.task_id.is_none_or(|task| verdict.held.insert(task));
        let why = leads.then(|| (text, failed_wait(row.attempts)));
        verdict.released.entry(why).or_default().push(row.position);
    }
    verdict
}

/// Releases rows to the relay, retrying until it succeeds: rows that stay leased would block their
/// task for as long as this process renews its leases. Once `stopping`, it no longer retries: the
/// leases run out.
pub(crate) async fn release(outbox: &dyn Outbox, released: Released, stopping: &CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    for (why, positions) in released
        .into_iter()
        .filter(|(_, positions)| !positions.is_empty())
    {
        if let Some((error, wait)) = &why {
            let (count, wait) = (positions.len(), wait.as_secs());
            tracing::warn!(%error, count, wait, "messages could not be published; they are held");
        }
        while let Err(error) = outbox.release(&positions, why.clone()).await {
            tracing::debug!(%error, "messages could not be given back");
            if stopping.is_cancelled() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = stopping.cancelled() => {}
            }
        }
    }
}

/// Separates the rows that may be sent now from those that wait behind a message of their own task
/// which has failed before.
fn split_probes(rows: Vec<OutboxRow>) -> (Vec<OutboxRow>, Vec<OutboxRow>) {
    let mut probed: HashMap<TaskId, bool> = HashMap::new();
    rows.into_iter().partition(|row| {
        let Some(task) = row.task_id else { return true };
        let behind_a_probe = probed.get(&task).copied().unwrap_or(false);
        *probed.entry(task).or_default() |= row.attempts > 0;
        !behind_a_probe
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(position: i64, task: u128, attempts: i32) -> OutboxRow {
        OutboxRow {
            position,
            message_id: Uuid::from_u128(position.unsigned_abs().into()),
            task_id: (task > 0).then(|| TaskId(Uuid::from_u128(task))),
            routing_key: "step.completed.w.s".to_owned(),
            message_type: "step.completed".to_owned(),
            body: "{}".into(),
            attempts,
        }
    }

    fn positions(rows: &[OutboxRow]) -> Vec<i64> {
        rows.iter().map(|row| row.position).collect()
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<_> = (0..8).map(|n| failed_wait(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(failed_wait(-1).as_secs(), 1);
        assert_eq!(failed_wait(i32::MAX).as_secs(), 60);
    }

    #[test]
    fn a_message_that_failed_before_travels_alone_and_first() {
        let rows = vec![
            row(1, 1, 2),
            row(2, 2, 0),
            row(3, 1, 0),
            row(4, 2, 0),
            row(5, 0, 3),
        ];
        let (first, behind) = split_probes(rows);
        assert_eq!(positions(&first), [1, 2, 4, 5]);
        assert_eq!(positions(&behind), [3]);
    }

    #[test]
    fn a_failure_holds_its_own_task_only_and_is_counted_once() {
        let rows = [
            row(1, 1, 1),
            row(2, 2, 0),
            row(3, 1, 0),
            row(4, 1, 0),
            row(5, 0, 0),
        ];
        let returned = || PublishOutcome::Returned("312 NO_ROUTE".to_owned());
        let outcomes = [
            returned(),
            PublishOutcome::Confirmed,
            returned(),
            PublishOutcome::Confirmed,
            PublishOutcome::Nacked,
        ];
        let verdict = judge(&rows, &outcomes, &Metrics::new().unwrap());
        assert_eq!(verdict.confirmed, [2, 4]);
        assert_eq!(verdict.held, HashSet::from([TaskId(Uuid::from_u128(1))]));
        let returned = Some(("returned: 312 NO_ROUTE".to_owned(), Duration::from_secs(2)));
        let refused = Some(("refused by the broker".to_owned(), Duration::from_secs(1)));
        let expected = BTreeMap::from([(returned, vec![1]), (None, vec![3]), (refused, vec![5])]);
        assert_eq!(verdict.released, expected);
    }

    #[test]
    fn an_outcome_that_is_missing_is_unknown() {
        let verdict = judge(&[row(1, 1, 0)], &[], &Metrics::new().unwrap());
        assert!(verdict.confirmed.is_empty());
        assert_eq!(verdict.held.len(), 1);
    }
}
