//! What a batch came to.

use std::{collections::BTreeMap, time::Duration};

use crate::{command::Outcome, store::OutboxRow};

/// What a batch came to.
#[derive(Clone, Debug, Default)]
pub struct BatchReport {
    /// One outcome for each command, in the order of the batch.
    pub outcomes: Vec<Outcome>,
    /// Messages that the publisher named by the caller now holds, in order.
    pub messages: Vec<OutboxRow>,
    /// What it took.
    pub stats: BatchStats,
}

/// What a batch took, for metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchStats {
    /// Events appended, by type.
    pub events: BTreeMap<&'static str, u64>,
    /// States found in the cache.
    pub cache_hits: u64,
    /// States in the cache that another process had moved on; brought up to date under the lock.
    pub cache_stale: u64,
    /// States read from the store.
    pub cache_misses: u64,
    /// Snapshots written.
    pub snapshots: u64,
    /// Agreements calculated.
    pub agreements: Vec<f64>,
    /// Jobs that were answered (true) or given up, and how long after their first publication.
    pub jobs: Vec<(bool, Duration)>,
}

impl BatchStats {
    pub(super) fn add(&mut self, other: Self) {
        for (event_type, count) in other.events {
            *self.events.entry(event_type).or_default() += count;
        }
        self.cache_hits += other.cache_hits;
        self.cache_stale += other.cache_stale;
        self.cache_misses += other.cache_misses;
        self.snapshots += other.snapshots;
        self.agreements.extend(other.agreements);
        self.jobs.extend(other.jobs);
    }
}
