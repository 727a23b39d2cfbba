//! Publishes the messages of a lane's batches in their order, while the lane decides the next
//! batch. They are in memory: nothing is read of what was just written.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use glyph_workflow_engine::{
    ids::TaskId,
    store::{Outbox, OutboxMessage},
};
use tokio::{sync::mpsc, time::Instant};

use super::{
    job::{CommandCopy, CopyKind},
    shared::{BatchNumbers, LaneContext},
    window::PublishBatch,
};
use crate::{
    backoff::Backoff,
    broker::{MessagePublisher, Publication, PublishOutcome},
    failpoints::CrashPoint,
    metrics::FinalOutcome,
    outbox::{Deletions, judge, publication_of, release, whole_row},
};

/// Publishes the windows of one lane, one at a time.
///
/// **Order.** Windows come in the order of their commits, so the messages of a task leave in the
/// order of its versions, as long as this publisher sends all of them. If one cannot be published,
/// the relay becomes the task's only publisher. These steps keep later messages from overtaking it:
///
/// 1. The row of the failed message, from that message on, and all later rows of its task are
///    released to the relay.
/// 2. A batch that locks the task after that release has committed either sees the released rows
///    and leaves its own to the relay, behind them; or the relay has already published them, and
///    nothing is left to overtake. Either way the lane may send the messages leased to such a
///    batch.
/// 3. A batch that began earlier may have checked before the release. If it has leased rows of the
///    task, they are released too when its window comes up. To detect such batches, they are
///    numbered as they begin, before they touch the store. After each release of a task, the number
///    of the last batch that has begun is noted, and every window up to that number is treated this
///    way. That release may again be too late for a batch that began meanwhile, so it notes the
///    number again.
/// 4. A worker that stops may have to leave rows leased to itself, which no batch takes for a sign.
///    Then it publishes nothing more of their tasks: the relay does when the lease has run out.
pub(super) struct LanePublisher {
    pub(super) shared: Arc<LaneContext>,
    pub(super) lane: usize,
    pub(super) windows: mpsc::Receiver<PublishBatch>,
    pub(super) numbers: Arc<BatchNumbers>,
    pub(super) outbox: Arc<dyn Outbox>,
    /// None if this process does not publish; then no rows are leased to its batches.
    pub(super) publisher: Option<Arc<dyn MessagePublisher>>,
    pub(super) deletions: Deletions,
    /// Tasks that only the relay may publish, in all windows up to the number.
    pub(super) held: HashMap<TaskId, u64>,
    /// Copies that were not confirmed; their originals are not acknowledged until they are.
    pub(super) unconfirmed: Vec<CommandCopy>,
}

impl LanePublisher {
    /// Runs until the lane is gone and every copy is confirmed, or a stop is requested.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
        let mut retry_at = Instant::now();
        let mut open = true;
        while open || !self.unconfirmed.is_empty() {
            let failing = !self.unconfirmed.is_empty();
            tokio::select! {
                biased;
                // First, so that a busy lane does not keep the copies waiting.
                () = tokio::time::sleep_until(retry_at), if failing => {
                    self.publish(PublishBatch::of_copies(Vec::new())).await;
                    if !self.unconfirmed.is_empty() && self.shared.stopping.is_cancelled() && !open {
                        break;
                    }
                }
                batch = self.windows.recv(), if open => match batch {
                    Some(batch) => self.publish(batch).await,
                    None => open = false,
                },
            }
            if self.unconfirmed.is_empty() {
                backoff.reset();
            } else if retry_at <= Instant::now() {
                retry_at = Instant::now() + backoff.next();
            }
        }
        let receipts: Vec<_> = self.unconfirmed.iter().map(|copy| copy.receipt).collect();
        self.shared.give_back(&receipts);
    }

    async fn publish(&mut self, batch: PublishBatch) {
        let PublishBatch {
            number,
            left,
            messages,
            copies,
            replies,
        } = batch;
        self.held.retain(|_, mark| *mark >= number);
        self.unconfirmed.extend(copies);
        let rows = left.rows.iter().map(|row| (row.position, row.task_id));
        self.leave_to_relay(rows).await;
        self.hold(left.tasks, true);
        let publisher = self
            .publisher
            .clone()
            .filter(|p| p.state().borrow().publishing);
        let Some(publisher) = publisher else {
            // Waiting here would gain nothing: callers over HTTP and timers go on without the
            // broker, and the relay publishes when the broker is back.
            self.leave_to_relay(rows_of(&messages)).await;
            return;
        };
        let (behind, ours): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| {
            message
                .task_id
                .is_some_and(|task| self.held.contains_key(&task))
        });
        self.leave_to_relay(rows_of(&behind)).await;
        self.send(&*publisher, ours, replies).await;
    }

    /// Sends messages, copies and replies as one window.
    async fn send(
        &mut self,
        publisher: &dyn MessagePublisher,
        messages: Vec<OutboxMessage>,
        replies: Vec<Publication>,
    ) {
        let copies = std::mem::take(&mut self.unconfirmed);
        let mut publications: Vec<_> = messages.iter().map(publication_of).collect();
        publications.extend(copies.iter().map(|copy| copy.publication.clone()));
        publications.extend(replies);
        if publications.is_empty() {
            return;
        }
        let begun = Instant::now();
        let publishing = publisher.publish(self.lane, &publications);
        let outcomes = self
            .shared
            .failpoints
            .pass_within(CrashPoint::BeforeConfirm, publishing)
            .await;
        self.shared.metrics.confirmed_after(begun.elapsed());
        let of_messages = &outcomes[..messages.len().min(outcomes.len())];
        let of_copies = outcomes.get(messages.len()..).unwrap_or_default();
        let answers = self.end_copies(copies, of_copies);
        self.end_messages(&messages, of_messages).await;
        if !answers.is_empty() {
            // Replies are best effort and go last; nothing checks whether they arrive.
            publisher.publish(self.lane, &answers).await;
        }
    }

    async fn end_messages(&mut self, messages: &[OutboxMessage], outcomes: &[PublishOutcome]) {
        if messages.is_empty() {
            return;
        }
        let verdict = judge(messages, outcomes, &[], &self.shared.metrics);
        if !verdict.confirmed.is_empty() {
            self.shared.failpoints.pass(CrashPoint::AfterConfirm);
            // The deleter outlives the lanes.
            let _ = self.deletions.send(verdict.confirmed).await;
        }
        let released = release(&*self.outbox, verdict.released, &self.shared.stopping).await;
        self.hold(verdict.held, released);
    }

    /// Settles the originals of confirmed copies and keeps the other copies for the next attempt.
    /// Returns the replies to send.
    fn end_copies(
        &mut self,
        copies: Vec<CommandCopy>,
        outcomes: &[PublishOutcome],
    ) -> Vec<Publication> {
        let mut settled = Vec::new();
        let mut answers = Vec::new();
        for (index, copy) in copies.into_iter().enumerate() {
            match outcomes.get(index) {
                Some(PublishOutcome::Confirmed) => {
                    settled.push(copy.receipt);
                    self.count(&copy);
                    answers.extend(copy.reply);
                }
                outcome => {
                    tracing::warn!(
                        ?outcome,
                        "a copy of a command was not confirmed; it is sent again"
                    );
                    self.unconfirmed.push(copy);
                }
            }
        }
        self.shared.settle(&settled);
        answers
    }

    fn count(&self, copy: &CommandCopy) {
        match copy.kind {
            CopyKind::Retry(_, reason) => self.shared.metrics.retry(reason),
            CopyKind::Dead(reason) => {
                self.shared.metrics.dead_letter(reason);
                let outcome = FinalOutcome::Dead;
                let received_at = copy.received_at;
                self.shared
                    .count(copy.command_type, copy.command_id, outcome, received_at);
            }
        }
    }

    /// Leaves whole rows to the relay; a row may be named more than once.
    async fn leave_to_relay(&mut self, rows: impl Iterator<Item = (i64, Option<TaskId>)>) {
        let rows: BTreeMap<i64, Option<TaskId>> = rows.collect();
        if rows.is_empty() {
            return;
        }
        let released = rows.keys().map(|position| whole_row(*position)).collect();
        let released = BTreeMap::from([(None, released)]);
        let released = release(&*self.outbox, released, &self.shared.stopping).await;
        self.hold(rows.into_values().flatten().collect(), released);
    }

    /// Marks tasks as the relay's, after their rows were released or had to be left leased.
    fn hold(&mut self, tasks: HashSet<TaskId>, released: bool) {
        let mark = if released {
            self.numbers.begun()
        } else {
            u64::MAX
        };
        for task in tasks {
            let held = self.held.entry(task).or_default();
            *held = mark.max(*held);
        }
    }
}

fn rows_of(messages: &[OutboxMessage]) -> impl Iterator<Item = (i64, Option<TaskId>)> {
    messages
        .iter()
        .map(|message| (message.position, message.task_id))
}
