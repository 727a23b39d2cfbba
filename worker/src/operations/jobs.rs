//! Bulk work of operators, as both sides show it.

use glyph_workflow_engine::store::{EventStoreError, JobItemState, JobRow, Store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Failed items that are shown of a job.
const FAILED_SHOWN: u32 = 100;

/// Jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobList {
    /// The jobs, newest first.
    pub jobs: Vec<JobRow>,
}

/// A job with what failed of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobDocument {
    /// The job.
    #[serde(flatten)]
    pub job: JobRow,
    /// The first items that failed.
    pub failed: Vec<FailedItem>,
}

/// A job that goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartedJob {
    /// Its id.
    pub job: Uuid,
}

/// An item that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedItem {
    /// The number of the item.
    pub item: i64,
    /// The task that it is about, where it has one.
    pub task_id: Option<String>,
    /// Why it failed.
    pub detail: Option<String>,
}

impl JobDocument {
    /// A job with its first failed items.
    ///
    /// # Errors
    ///
    /// The store cannot be read.
    pub async fn of(job: JobRow, store: &dyn Store) -> Result<Self, EventStoreError> {
        let failed = store.job_items(job.id, JobItemState::Failed, 0, FAILED_SHOWN);
        let failed = failed.await?.into_iter().map(|item| FailedItem {
            item: item.ordinal,
            task_id: item.order_key,
            detail: item.detail,
        });
        Ok(Self {
            failed: failed.collect(),
            job,
        })
    }
}
