//! What becomes of the rows of a window: confirmed, or released to the relay.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use glyph_workflow_engine::{
    ids::TaskId,
    store::{Outbox, OutboxMessage, ReleasedRow},
};
use tokio_util::sync::CancellationToken;

use crate::{backoff::Backoff, broker::PublishOutcome, metrics::Metrics};

/// The first wait after a failure; each failure doubles it.
const FAILED_WAIT_FIRST: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const FAILED_WAIT_MAX: Duration = Duration::from_mins(1);

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

/// Rows to release to the relay, grouped by error and back-off time. `None` for rows that only wait
/// behind a failed one.
pub(crate) type Released = BTreeMap<Option<(String, Duration)>, Vec<ReleasedRow>>;

/// A row none of which was confirmed.
pub(crate) fn whole_row(position: i64) -> ReleasedRow {
    ReleasedRow {
        position,
        from_version: None,
    }
}

/// The outcome of a window.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Rows all of whose messages are confirmed.
    pub(crate) confirmed: Vec<i64>,
    pub(crate) released: Released,
    /// Tasks of which the sender of this window may publish nothing further.
    pub(crate) held: HashSet<TaskId>,
}

/// Sorts the rows of a window by the outcomes of their messages. A row of which messages follow
/// `later` is not confirmed yet.
pub(crate) fn judge(
    messages: &[OutboxMessage],
    outcomes: &[PublishOutcome],
    later: &[OutboxMessage],
    metrics: &Metrics,
) -> Verdict {
    let missing = PublishOutcome::Unknown("no outcome".to_owned());
    let mut verdict = Verdict::default();
    let mut failed = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let outcome = outcomes.get(index).unwrap_or(&missing);
        let Some(text) = failure_text(outcome) else {
            metrics.published(&message.message_type);
            continue;
        };
        if matches!(outcome, PublishOutcome::Returned(_)) {
            metrics.unroutable();
        }
        if !failed.insert(message.position) {
            continue;
        }
        // The first failed row of a task backs off and is counted; those behind it wait for it.
        let leads = message.task_id.is_none_or(|task| verdict.held.insert(task));
        let why = leads.then(|| (text, failed_wait(message.attempts)));
        verdict.released.entry(why).or_default().push(ReleasedRow {
            position: message.position,
            from_version: message.version,
        });
    }
    let later: HashSet<i64> = later.iter().map(|message| message.position).collect();
    verdict.confirmed = messages
        .iter()
        .map(|message| message.position)
        .filter(|position| !failed.contains(position) && !later.contains(position))
        .collect();
    verdict.confirmed.dedup();
    verdict
}

/// Releases rows to the relay, retrying until it succeeds: rows that stay leased would block their
/// task for as long as this process renews its leases. Once `stopping`, it no longer retries: the
/// leases run out. Returns whether all are released.
pub(crate) async fn release(
    outbox: &dyn Outbox,
    released: Released,
    stopping: &CancellationToken,
) -> bool {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    for (why, rows) in released.into_iter().filter(|(_, rows)| !rows.is_empty()) {
        if let Some((error, wait)) = &why {
            let (count, wait) = (rows.len(), wait.as_secs());
            tracing::warn!(%error, count, wait, "messages could not be published; they are held");
        }
        while let Err(error) = outbox.release(&rows, why.clone()).await {
            tracing::debug!(%error, "messages could not be given back");
            if stopping.is_cancelled() {
                return false;
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                () = tokio::time::sleep(backoff.next()) => {}
            }
        }
    }
    true
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use super::*;

    /// A message of a row of its own.
    fn alone(position: i64, task: u128, attempts: i32) -> OutboxMessage {
        message(position, task, 1, attempts)
    }

    /// A message of a row that it may share.
    pub(in crate::outbox) fn message(
        position: i64,
        task: u128,
        version: u64,
        attempts: i32,
    ) -> OutboxMessage {
        OutboxMessage {
            position,
            message_id: Uuid::from_u128(position.unsigned_abs().into()),
            task_id: (task > 0).then(|| TaskId(Uuid::from_u128(task))),
            version: (task > 0).then_some(version),
            routing_key: "step.completed.w.s".to_owned(),
            message_type: "step.completed".to_owned(),
            body: "{}".into(),
            attempts,
        }
    }

    fn returned() -> PublishOutcome {
        PublishOutcome::Returned("312 NO_ROUTE".to_owned())
    }

    fn no_route(seconds: u64) -> (String, Duration) {
        (
            "returned: 312 NO_ROUTE".to_owned(),
            Duration::from_secs(seconds),
        )
    }

    fn from(position: i64, version: u64) -> ReleasedRow {
        ReleasedRow {
            position,
            from_version: Some(version),
        }
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let waits: Vec<_> = (0..8).map(|n| failed_wait(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(failed_wait(-1).as_secs(), 1);
        assert_eq!(failed_wait(i32::MAX).as_secs(), 60);
    }

    #[test]
    fn a_failure_holds_its_own_task_only_and_is_counted_once() {
        let messages = [
            alone(1, 1, 1),
            alone(2, 2, 0),
            alone(3, 1, 0),
            alone(4, 1, 0),
            alone(5, 0, 0),
        ];
        let outcomes = [
            returned(),
            PublishOutcome::Confirmed,
            returned(),
            PublishOutcome::Confirmed,
            PublishOutcome::Nacked,
        ];
        let verdict = judge(&messages, &outcomes, &[], &Metrics::new().unwrap());
        assert_eq!(verdict.confirmed, [2, 4]);
        assert_eq!(verdict.held, HashSet::from([TaskId(Uuid::from_u128(1))]));
        let refused = Some(("refused by the broker".to_owned(), Duration::from_secs(1)));
        let expected = BTreeMap::from([
            (Some(no_route(2)), vec![from(1, 1)]),
            (None, vec![from(3, 1)]),
            (refused, vec![whole_row(5)]),
        ]);
        assert_eq!(verdict.released, expected);
    }

    #[test]
    fn a_row_is_confirmed_with_its_last_message_and_goes_back_from_the_first_that_failed() {
        let messages = [
            message(1, 1, 1, 0),
            message(1, 1, 2, 0),
            message(2, 2, 4, 3),
            message(2, 2, 5, 0),
            message(2, 2, 7, 0),
            message(3, 2, 9, 0),
            message(4, 3, 1, 2),
        ];
        let outcomes = [
            PublishOutcome::Confirmed,
            PublishOutcome::Confirmed,
            PublishOutcome::Confirmed,
            returned(),
            PublishOutcome::Nacked,
            PublishOutcome::Confirmed,
            PublishOutcome::Confirmed,
        ];
        // Of the last row, one message is still to be sent.
        let later = [message(4, 3, 2, 0)];
        let verdict = judge(&messages, &outcomes, &later, &Metrics::new().unwrap());
        assert_eq!(verdict.confirmed, [1, 3]);
        assert_eq!(verdict.held, HashSet::from([TaskId(Uuid::from_u128(2))]));
        // It is another message than the one that failed before, so it waits as after one attempt.
        let expected = BTreeMap::from([(Some(no_route(1)), vec![from(2, 5)])]);
        assert_eq!(verdict.released, expected);
    }

    #[test]
    fn an_outcome_that_is_missing_is_unknown() {
        let verdict = judge(&[alone(1, 1, 0)], &[], &[], &Metrics::new().unwrap());
        assert!(verdict.confirmed.is_empty());
        assert_eq!(verdict.held.len(), 1);
    }
}
