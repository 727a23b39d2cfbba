//! Commands that wait for a lane, and how the next batch is taken from them.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    job::Incoming,
    sizing::{BatchLimit, batch_len, may_be_poison},
};
use crate::broker::Receipt;

/// A possible poison command waits no longer than this for others to go first.
const SUSPECT_WAIT_MAX: Duration = Duration::from_secs(10);

/// Collects batches from the commands that enter a lane.
pub(super) struct Collector {
    incoming: mpsc::Receiver<Incoming>,
    /// Received commands that are not in a batch yet.
    waiting: VecDeque<Incoming>,
    pub(super) limit: BatchLimit,
    batch_wait: Duration,
}

impl Collector {
    pub(super) fn new(
        incoming: mpsc::Receiver<Incoming>,
        batch_max: usize,
        batch_wait: Duration,
    ) -> Self {
        Self {
            incoming,
            waiting: VecDeque::new(),
            limit: BatchLimit::new(batch_max),
            batch_wait,
        }
    }

    /// The next batch: all commands that are there, up to the maximum size. A batch that is not
    /// full waits for more until its oldest command has waited long enough; while the previous
    /// batch runs, that time has usually passed. None once every sender is gone and nothing waits.
    pub(super) async fn next_batch(&mut self) -> Option<Vec<Incoming>> {
        if self.waiting.is_empty() {
            self.waiting.push_back(self.incoming.recv().await?);
        }
        let oldest = self
            .waiting
            .front()
            .map_or_else(Instant::now, Incoming::received_at);
        let deadline = oldest + self.batch_wait;
        let mut more = Vec::new();
        let batch_max = self.limit.commands();
        while self.waiting.len() < batch_max {
            let room = batch_max - self.waiting.len();
            match timeout_at(deadline, self.incoming.recv_many(&mut more, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => self.waiting.extend(more.drain(..)),
            }
        }
        self.postpone_suspects();
        let len = batch_len(
            &self.waiting,
            batch_max,
            Incoming::deliveries_before,
            Incoming::bytes,
        );
        Some(self.waiting.drain(..len.max(1)).collect())
    }

    /// Lets all others go before a possible poison command, as long as there are others and it has
    /// not waited for [`SUSPECT_WAIT_MAX`]. A command that kills the process returns at the head of
    /// the queue, with its neighbours behind it. If it were always taken first, none of them would
    /// ever be acknowledged, and all would reach the delivery limit together. So those delivered the
    /// fewest times come first, and one of the equals at random: the harmless ones get past it.
    /// Changing the order is safe: a task is protected by its version, not by the order of commands.
    fn postpone_suspects(&mut self) {
        let is_suspect = |job: &Incoming| {
            may_be_poison(job.deliveries_before()) && job.received_at().elapsed() < SUSPECT_WAIT_MAX
        };
        if !self.waiting.front().is_some_and(is_suspect) {
            return;
        }
        let (_, lot) = uuid::Uuid::now_v7().as_u64_pair();
        let fewest = self.waiting.iter().map(Incoming::deliveries_before).min();
        let equals: Vec<usize> = (0..self.waiting.len())
            .filter(|at| fewest == self.waiting.get(*at).map(Incoming::deliveries_before))
            .collect();
        let lot = usize::try_from(lot & 0xffff_ffff).unwrap_or_default() % equals.len().max(1);
        if let Some(next) = equals.get(lot) {
            self.waiting.swap(0, *next);
        }
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
