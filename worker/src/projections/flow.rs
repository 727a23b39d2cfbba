//! How many tasks went from step to step lately: counts of the last day by hour and of the last hour by
//! five minutes, for each workflow.
//!
//! Old counts are dropped as new ones come, so a row stays small. Events that an archived task no
//! longer has in the log are not counted again, so `glyph rebuild` leaves these rows alone: within a day
//! they hold nothing but what came since.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    WorkflowEvent,
    ids::WorkflowId,
    store::{EventStoreError, LogEntry, ProjectionRows, ProjectionWrite, Store},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    pace::{Follows, PageOutcome, fold_page, follow},
    rounds::Rounds,
};
use crate::failpoints::Failpoints;

/// The projection's name in the table of checkpoints.
const PROJECTION: &str = "flow";

/// Seconds of a count, and how many of them are kept.
const MINUTES: (i64, i64) = (300, 12);
const HOURS: (i64, i64) = (3_600, 24);

/// Follows the ways of tasks through the log.
pub struct FlowProjector {
    store: Arc<dyn Store>,
    failpoints: Failpoints,
}

impl Follows for FlowProjector {
    const NAME: &'static str = PROJECTION;
    const POLL: Duration = Duration::from_secs(1);

    async fn next(&self) -> Result<PageOutcome, EventStoreError> {
        self.step().await
    }
}

/// The row of a workflow: by the step left and by what was entered.
type Row = BTreeMap<String, BTreeMap<String, Counts>>;

/// What went one way lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counts {
    /// The number of a span of five minutes since 1970, and how many.
    minutes: BTreeMap<i64, u64>,
    /// The same by hour.
    hours: BTreeMap<i64, u64>,
}

/// How many tasks went from a step to another one, or to an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// The step left.
    pub from: String,
    /// The step entered, `_complete` or `_failed`.
    pub to: String,
    /// How often within about an hour: since the last full five minutes an hour ago.
    pub last_hour: u64,
    /// How often within about a day: since the last full hour a day ago.
    pub last_day: u64,
}

impl Counts {
    fn add(&mut self, at: DateTime<Utc>) {
        for (counts, (seconds, kept)) in [(&mut self.minutes, MINUTES), (&mut self.hours, HOURS)] {
            let span = at.timestamp().div_euclid(seconds);
            *counts.entry(span).or_default() += 1;
            let newest = counts.last_key_value().map_or(span, |(newest, _)| *newest);
            *counts = counts.split_off(&(newest - kept));
        }
    }

    /// What was counted in full spans before `now`, and in the one that goes on.
    fn since(counts: &BTreeMap<i64, u64>, (seconds, kept): (i64, i64), now: DateTime<Utc>) -> u64 {
        let span = now.timestamp().div_euclid(seconds);
        counts.range(span - kept..).map(|(_, count)| count).sum()
    }
}

impl FlowProjector {
    /// A projector; several processes may each have one.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            failpoints: Failpoints::default(),
        }
    }

    /// Adds the crash points of the tests.
    #[must_use]
    pub fn with_failpoints(mut self, failpoints: Failpoints) -> Self {
        self.failpoints = failpoints;
        self
    }

    /// Runs until stopped, in step with the other projections of `rounds`.
    pub async fn run(self, rounds: Rounds, stopping: CancellationToken) {
        follow(&self, &rounds, &stopping).await;
    }

    /// Processes at most one page of new log entries.
    pub async fn step(&self) -> Result<PageOutcome, EventStoreError> {
        let fold = async |rows, entries: &[Arc<LogEntry>]| Ok(folded(rows, entries));
        fold_page(&*self.store, PROJECTION, &self.failpoints, fold).await
    }
}

fn folded(mut rows: ProjectionRows, entries: &[Arc<LogEntry>]) -> ProjectionWrite {
    let mut changed: BTreeMap<String, Row> = BTreeMap::new();
    for entry in entries {
        let WorkflowEvent::TransitionOccurred(went) = &entry.event.event else {
            continue;
        };
        let key = entry.workflow.to_string();
        let row = changed.entry(key).or_insert_with_key(|key| {
            let stored = rows.remove(key);
            // A row that cannot be read starts empty.
            let stored = stored.and_then(|row| serde_json::from_value(row).ok());
            stored.unwrap_or_default()
        });
        let counts = row.entry(went.from_step.to_string()).or_default();
        let counts = counts.entry(went.to_step.to_string()).or_default();
        counts.add(entry.event.occurred_at);
    }
    let rows = changed
        .into_iter()
        .map(|(key, row)| (key, serde_json::to_value(row).ok()));
    ProjectionWrite {
        rows: rows.collect(),
        ..ProjectionWrite::default()
    }
}

/// How many tasks of a workflow went which way, over all its revisions.
///
/// # Errors
///
/// The store cannot be read.
pub async fn flow_of(
    store: &dyn Store,
    workflow: &WorkflowId,
    now: DateTime<Utc>,
) -> Result<Vec<Flow>, EventStoreError> {
    let mut rows = store.projection_rows(PROJECTION).await?;
    let row = rows.remove(workflow.as_str());
    let row: Row = row
        .and_then(|row| serde_json::from_value(row).ok())
        .unwrap_or_default();
    let ways = row.into_iter().flat_map(|(from, to)| {
        to.into_iter().map(move |(to, counts)| Flow {
            from: from.clone(),
            to,
            last_hour: Counts::since(&counts.minutes, MINUTES, now),
            last_day: Counts::since(&counts.hours, HOURS, now),
        })
    });
    Ok(ways.filter(|flow| flow.last_day > 0).collect())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::minutes(minute)
    }

    fn lately(counts: &Counts, now: DateTime<Utc>) -> (u64, u64) {
        (
            Counts::since(&counts.minutes, MINUTES, now),
            Counts::since(&counts.hours, HOURS, now),
        )
    }

    #[test]
    fn counts_are_of_the_last_hour_and_of_the_last_day() {
        let mut counts = Counts::default();
        // Commits of several workers are not in the order of their times.
        for minute in [0, 600, 1_300, 1_290, 1_439] {
            counts.add(at(minute));
        }
        assert_eq!(lately(&counts, at(1_440)), (1, 5));
        assert_eq!(lately(&counts, at(1_440 + 59)), (1, 5));
        assert_eq!(lately(&counts, at(1_440 + 66)), (0, 4));
        assert_eq!(lately(&counts, at(4_000)), (0, 0));
    }

    #[test]
    fn a_row_stays_small() {
        let mut counts = Counts::default();
        for minute in 0..100_000 {
            counts.add(at(minute));
        }
        assert_eq!((counts.minutes.len(), counts.hours.len()), (13, 25));
    }
}
