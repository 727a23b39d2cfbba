//! Commands that wait for a lane, and how the next batch is taken from them.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use glyph_workflow_engine::ids::CommandId;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    job::Incoming,
    sizing::{BatchLimit, BatchMax, Redelivered, batch_len, may_be_poison},
    suspects::Suspects,
};
use crate::broker::Receipt;

/// A command that was at work at a death waits no longer than this for others to go first.
const POSTPONED_MAX: Duration = Duration::from_mins(1);
/// How long it waits at least after the first death, in every lane: about the time in which others
/// are run and their acks reach the broker.
const SUSPECT_WAIT: Duration = Duration::from_millis(500);
/// The longest such wait, to which up to a second is added.
const SUSPECT_WAIT_MAX: Duration = Duration::from_secs(2);
/// So many deliveries make a batch of one.
const ALONE: u32 = u32::MAX;

/// When a command may be run that was at work at a death; none if it was not.
fn not_before(job: &Incoming, known: &HashMap<CommandId, u64>) -> Option<Instant> {
    let (id, runs) = (job.command_id()?, runs_of(job, known));
    let at = job.received_at() + suspect_wait(id, runs);
    (runs > 0 && at > Instant::now()).then_some(at)
}

/// How long a command waits that was at work at so many deaths. The more it was, the longer: other lanes
/// have suspects, too, and the harmless ones have to be through before. Each time for another while, so
/// that a harmless one that was at work as often is not run at the moment of every death.
fn suspect_wait(id: CommandId, runs: u64) -> Duration {
    let times = u32::try_from(runs.saturating_mul(runs)).unwrap_or(u32::MAX);
    let mut hasher = DefaultHasher::new();
    (id, runs).hash(&mut hasher);
    let spread = Duration::from_millis(hasher.finish() % 1_000);
    SUSPECT_WAIT.saturating_mul(times).min(SUSPECT_WAIT_MAX) + spread
}

/// How often a command was at work when a process died.
fn runs_of(job: &Incoming, known: &HashMap<CommandId, u64>) -> u64 {
    let id = job.command_id();
    id.and_then(|id| known.get(&id).copied()).unwrap_or(0)
}

/// Collects batches from the commands that enter a lane.
pub(super) struct Collector {
    incoming: mpsc::Receiver<Incoming>,
    /// Received commands that are not in a batch yet.
    waiting: VecDeque<Incoming>,
    pub(super) limit: BatchLimit,
    pub(super) redelivered: Redelivered,
    bytes_max: usize,
    batch_wait: Duration,
    suspects: Arc<Suspects>,
}

impl Collector {
    pub(super) fn new(
        incoming: mpsc::Receiver<Incoming>,
        max: BatchMax,
        batch_wait: Duration,
        suspects: Arc<Suspects>,
    ) -> Self {
        Self {
            incoming,
            waiting: VecDeque::new(),
            limit: BatchLimit::new(max.commands),
            redelivered: Redelivered::default(),
            bytes_max: max.bytes,
            batch_wait,
            suspects,
        }
    }

    /// Whether commands are there.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.incoming.is_empty()
    }

    /// The next batch: all commands that are there, up to the maximum size. A batch that is not
    /// full waits for more until its oldest command has waited long enough; while the previous
    /// batch runs, that time has usually passed. None once every sender is gone and nothing waits.
    pub(super) async fn next_batch(&mut self) -> Option<Vec<Incoming>> {
        if self.waiting.is_empty() {
            self.waiting.push_back(self.incoming.recv().await?);
        }
        let max = BatchMax {
            commands: self.limit.commands(),
            bytes: self.bytes_max,
        };
        let known = loop {
            self.gather(max.commands).await;
            let known = self.postpone_suspects().await;
            // Only those are left; another one that comes goes first.
            let Some(not_before) = self.waiting.front().and_then(|job| not_before(job, &known))
            else {
                break known;
            };
            match timeout_at(not_before, self.incoming.recv()).await {
                Ok(Some(next)) => self.waiting.push_back(next),
                Ok(None) | Err(_) => break known,
            }
        };
        let len = batch_len(
            &self.waiting,
            max,
            |job| match runs_of(job, &known) {
                // The list tells which of them are to blame: no need for smaller ones.
                0 => self.redelivered.divide(job.deliveries_before()),
                _ => ALONE,
            },
            Incoming::bytes,
        );
        Some(self.waiting.drain(..len.max(1)).collect())
    }

    /// Takes what is there, and waits for more until the oldest command has waited long enough.
    async fn gather(&mut self, batch_max: usize) {
        let oldest = self
            .waiting
            .front()
            .map_or_else(Instant::now, Incoming::received_at);
        let deadline = oldest + self.batch_wait;
        let mut more = Vec::new();
        while self.waiting.len() < batch_max {
            let room = batch_max - self.waiting.len();
            match timeout_at(deadline, self.incoming.recv_many(&mut more, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => self.waiting.extend(more.drain(..)),
            }
        }
    }

    /// Lets all others go before the commands that were at work when a process died, for a while.
    /// Changing the order is safe: a task is protected by its version, not by the order of commands.
    async fn postpone_suspects(&mut self) -> HashMap<CommandId, u64> {
        let front = self.waiting.front().map(Incoming::deliveries_before);
        if !front.is_some_and(may_be_poison) {
            return HashMap::new();
        }
        let mut known = self.suspects.known().await;
        let has_waited = |job: &Incoming| job.received_at().elapsed() >= POSTPONED_MAX;
        for job in self.waiting.iter().filter(|job| has_waited(job)) {
            if let Some(id) = job.command_id() {
                known.remove(&id);
            }
        }
        // Stable: the others keep their order.
        self.waiting
            .make_contiguous()
            .sort_by_key(|job| runs_of(job, &known));
        known
    }

    /// Takes out everything that is not in a batch yet; returns the receipts that must be given
    /// back.
    pub(super) fn clear(&mut self) -> Vec<Receipt> {
        let mut receipts: Vec<_> = self
            .waiting
            .drain(..)
            .filter_map(|job| job.receipt())
            .collect();
        while let Ok(job) = self.incoming.try_recv() {
            receipts.extend(job.receipt());
        }
        receipts
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    /// Two suspects in different lanes, one of them harmless, died together each time. It has to be far
    /// enough ahead of the other once before both have used up their deliveries.
    #[test]
    fn suspects_that_died_together_do_not_go_together_for_ever() {
        const AHEAD: Duration = Duration::from_millis(200);
        let is_never_ahead = |pair: &u128| {
            let [harmless, deadly] =
                [2 * pair, 2 * pair + 1].map(|id| CommandId(Uuid::from_u128(id)));
            !(1..=16).any(|runs| suspect_wait(harmless, runs) + AHEAD <= suspect_wait(deadly, runs))
        };
        let never = (0..1_000).filter(is_never_ahead).count();
        assert!(never <= 5, "{never} of 1,000");
        let id = CommandId(Uuid::nil());
        assert!(suspect_wait(id, 1) >= SUSPECT_WAIT);
        assert!(suspect_wait(id, u64::MAX) < SUSPECT_WAIT_MAX + Duration::from_secs(1));
    }
}
