//! Why a job does not go on, for now or at all.

use glyph_workflow_engine::store::EventStoreError;
use uuid::Uuid;

use crate::broker::BrokerError;

/// Why a job does not go on for now. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] EventStoreError),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// Letters could not be put back.
    #[error("the dead queue did not take a letter: {0}")]
    PutBack(String),
    /// An earlier job has not ended yet.
    #[error("it begins when job {0} has ended, which may still put letters back")]
    Behind(Uuid),
    /// The process is going down.
    #[error("the worker is shutting down")]
    Draining,
    /// Another process has it, or it has ended.
    #[error("another worker has the job")]
    Lost,
    /// It was created by another version.
    #[error("the job cannot be read; another version of the worker may be able to")]
    Unknown,
}

/// Why a job has ended that somebody stopped.
pub(super) fn stopped_by(actor: &str) -> String {
    format!("stopped by {actor}")
}
