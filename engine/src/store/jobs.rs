//! Durable jobs: bulk work that an operator asks for and the workers do, item by item.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::error::EventStoreError;

/// Ended jobs that are kept; an older one is deleted when a job is created.
pub const ENDED_JOBS_MAX: u32 = 100;

/// A job to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Its id.
    pub id: Uuid,
    /// What is done.
    pub kind: String,
    /// Who asks for it.
    pub actor: String,
    /// What its runner has to know.
    pub settings: Value,
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for a worker, or is at work.
    Running,
    /// Ended before everything was done.
    Stopped,
    /// Ended.
    Done,
}

impl JobState {
    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Done => "done",
        }
    }

    /// The state with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Running, Self::Stopped, Self::Done]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// The state of an item.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum JobItemState {
    /// Stored, and perhaps not yet removed from where it came from.
    Arriving,
    /// Waits for its turn.
    Pending,
    /// Done.
    Succeeded,
    /// Failed, and is being put back where it came from.
    Failing,
    /// Failed.
    Failed,
    /// Was not tried, and is being put back where it came from.
    Returning,
    /// Was not tried, and is where it came from.
    Returned,
}

impl JobItemState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Arriving,
        Self::Pending,
        Self::Succeeded,
        Self::Failing,
        Self::Failed,
        Self::Returning,
        Self::Returned,
    ];

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arriving => "arriving",
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failing => "failing",
            Self::Failed => "failed",
            Self::Returning => "returning",
            Self::Returned => "returned",
        }
    }

    /// Whether an item in this state is only counted.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn is_gone(self) -> bool {
        match self {
            Self::Succeeded | Self::Returned => true,
            Self::Arriving | Self::Pending | Self::Failing | Self::Failed | Self::Returning => {
                false
            }
        }
    }

    /// The state with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Items by state; a state without items is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct JobCounts(BTreeMap<JobItemState, u64>);

impl JobCounts {
    /// How many are in a state.
    pub fn of(&self, state: JobItemState) -> u64 {
        self.0.get(&state).copied().unwrap_or_default()
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Counts new ones.
    pub(super) fn add(&mut self, state: JobItemState, items: u64) {
        if items > 0 {
            *self.0.entry(state).or_default() += items;
        }
    }

    /// Counts those whose state has changed.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(super) fn change(&mut self, from: JobItemState, to: JobItemState, items: u64) {
        let left = self.of(from).saturating_sub(items);
        if left == 0 {
            self.0.remove(&from);
        } else {
            self.0.insert(from, left);
        }
        self.add(to, items);
    }
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobRow {
    /// Its id.
    pub id: Uuid,
    /// What is done.
    pub kind: String,
    /// Who asked for it.
    pub actor: String,
    /// What its runner has to know.
    pub settings: Value,
    /// Its state.
    pub state: JobState,
    /// How far its runner has come, in the runner's words; empty until one has it.
    pub phase: String,
    /// Why it was stopped, or what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked to stop it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_by: Option<String>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub changed_at: DateTime<Utc>,
    /// Its items by state.
    pub counts: JobCounts,
}

impl JobRow {
    /// How many items are in a state.
    pub fn count(&self, state: JobItemState) -> u64 {
        self.counts.of(state)
    }

    /// How many items there are.
    pub fn items(&self) -> u64 {
        self.counts.total()
    }
}

/// An item to add.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJobItem {
    /// What tells it from others, for a runner that goes on after another.
    pub identity: String,
    /// Items with the same key are done one after the other.
    pub order_key: Option<String>,
    /// What belongs to the content, as JSON text.
    pub properties: String,
    /// The content.
    pub body: Vec<u8>,
}

/// An item of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct JobItem {
    /// Its number in the job, from 1.
    pub ordinal: i64,
    /// Its state.
    pub state: JobItemState,
    /// What tells it from others.
    pub identity: String,
    /// Items with the same key are done one after the other.
    pub order_key: Option<String>,
    /// What belongs to the content, as JSON text; empty once it has failed.
    pub properties: String,
    /// The content; empty once it has failed.
    pub body: Vec<u8>,
    /// What became of it, for people.
    pub detail: Option<String>,
}

/// What became of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobItemOutcome {
    /// The item.
    pub ordinal: i64,
    /// Its new state.
    pub state: JobItemState,
    /// What became of it, for people; none leaves what was said before.
    pub detail: Option<String>,
}

/// What a runner writes in one transaction.
#[derive(Clone, Debug, Default)]
pub struct JobWrite {
    /// For how long the runner keeps the job; zero gives it to the next one.
    pub lease: Duration,
    /// How far the runner has come.
    pub phase: Option<&'static str>,
    /// What the job waits for; an empty text says that it does not wait any more.
    pub note: Option<String>,
    /// Makes all arriving items pending, before others are added.
    pub arrived: bool,
    /// Items to add, in this order, in this state.
    pub add: Option<(JobItemState, Vec<NewJobItem>)>,
    /// What became of items. Those that succeeded or were returned are counted and deleted; of a
    /// failed one only the detail stays.
    pub outcomes: Vec<JobItemOutcome>,
    /// Ends the job.
    pub end: Option<(JobState, Option<String>)>,
}

/// Jobs. A job belongs to one runner at a time, for the time of a lease.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Creates a job, and deletes ended ones beyond [`ENDED_JOBS_MAX`].
    async fn create_job(&self, job: NewJob) -> Result<(), EventStoreError>;

    /// One job.
    async fn job(&self, id: Uuid) -> Result<Option<JobRow>, EventStoreError>;

    /// Jobs, newest first.
    async fn jobs(&self, limit: u32) -> Result<Vec<JobRow>, EventStoreError>;

    /// Asks the runner of a job to stop it. Returns whether the job was running.
    async fn stop_job(&self, id: Uuid, actor: &str) -> Result<bool, EventStoreError>;

    /// Leases the oldest running job that nobody has a lease on, if there is one.
    async fn claim_job(
        &self,
        runner: Uuid,
        lease: Duration,
    ) -> Result<Option<JobRow>, EventStoreError>;

    /// Writes what a runner has done and renews its lease. Returns false, and writes nothing, if the
    /// job has ended or belongs to another runner.
    async fn write_job(
        &self,
        id: Uuid,
        runner: Uuid,
        write: JobWrite,
    ) -> Result<bool, EventStoreError>;

    /// Items in a state after an ordinal, by ordinal.
    async fn job_items(
        &self,
        id: Uuid,
        state: JobItemState,
        after: i64,
        limit: u32,
    ) -> Result<Vec<JobItem>, EventStoreError>;

    /// The last item of a job.
    async fn last_job_item(&self, id: Uuid) -> Result<Option<JobItem>, EventStoreError>;
}
