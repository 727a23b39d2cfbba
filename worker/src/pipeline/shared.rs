//! State that the lanes of a pipeline and their publishers share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{ids::CommandId, store::PublisherId};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    aside::SetAside, gate::Gate, processor::CommandProcessor, sizing::BatchMax, suspects::Suspects,
};
use crate::{
    broker::{CommandSource, Receipt},
    failpoints::Failpoints,
    metrics::{FinalOutcome, Metrics},
    traces::Traces,
};

/// State that all lanes share.
pub(super) struct LaneContext {
    pub(super) processor: Arc<dyn CommandProcessor>,
    pub(super) source: Option<Arc<dyn CommandSource>>,
    /// The name to which the messages of a batch are leased, for the lane to publish. None if this
    /// process does not publish.
    pub(super) publisher: Option<PublisherId>,
    pub(super) gate: Arc<Gate>,
    pub(super) aside: Arc<SetAside>,
    pub(super) suspects: Arc<Suspects>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) failpoints: Failpoints,
    pub(super) traces: Traces,
    pub(super) batch_max: BatchMax,
    pub(super) batch_wait: Duration,
    pub(super) stopping: CancellationToken,
    /// Events committed since the start.
    pub(super) committed: watch::Sender<u64>,
}

impl LaneContext {
    pub(super) fn settle(&self, receipts: &[Receipt]) {
        if let Some(source) = self.source.as_ref().filter(|_| !receipts.is_empty()) {
            source.settle(receipts);
            self.metrics.commands_held(-count(receipts));
        }
    }

    pub(super) fn give_back(&self, receipts: &[Receipt]) {
        if let Some(source) = self.source.as_ref().filter(|_| !receipts.is_empty()) {
            source.give_back(receipts);
            self.metrics.commands_held(-count(receipts));
        }
    }

    pub(super) fn count(
        &self,
        command_type: &'static str,
        id: Option<CommandId>,
        outcome: FinalOutcome,
        received_at: Instant,
    ) {
        let age = id.and_then(|id| age_of(id, Utc::now()));
        self.metrics
            .command(command_type, outcome, received_at.elapsed(), age);
    }
}

fn count(receipts: &[Receipt]) -> i64 {
    i64::try_from(receipts.len()).unwrap_or(i64::MAX)
}

/// The age of a command, if its id contains a time: UUID version 7 begins with it.
fn age_of(id: CommandId, now: DateTime<Utc>) -> Option<Duration> {
    let (seconds, nanos) = id.0.get_timestamp()?.to_unix();
    let made = DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)?;
    // A producer's clock may run ahead.
    Some((now - made).to_std().unwrap_or_default())
}

/// Numbers the batches of a lane as they begin.
#[derive(Debug, Default)]
pub(super) struct BatchNumbers(AtomicU64);

impl BatchNumbers {
    /// Begins the next batch. Comes before the batch touches the store.
    pub(super) fn begin(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The last batch that has begun.
    pub(super) fn begun(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
