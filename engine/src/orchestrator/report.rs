//! The report of a batch.

use std::{collections::BTreeMap, time::Duration};

use crate::{command::Outcome, store::OutboxMessage};

/// The outcomes of a batch, its leased messages and its counts.
#[derive(Clone, Debug, Default)]
pub struct BatchReport {
    /// One outcome for each command, in the order of the batch.
    pub outcomes: Vec<Outcome>,
    /// Messages that are now leased to the caller's publisher, in order.
    pub messages: Vec<OutboxMessage>,
    /// Counts for metrics.
    pub stats: BatchStats,
}

/// Counts of a batch, for metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchStats {
    /// Events appended, by type.
    pub events: BTreeMap<&'static str, u64>,
    /// States found in the cache.
    pub cache_hits: u64,
    /// Cached states that another process had advanced; brought up to date under the lock.
    pub cache_stale: u64,
    /// States read from the store.
    pub cache_misses: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Agreements calculated.
    pub agreements: Vec<f64>,
    /// Jobs that were answered (true) or abandoned, and how long after their first publication.
    pub jobs: Vec<(bool, Duration)>,
}
