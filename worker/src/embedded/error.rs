//! Errors of the embedded queue.

use std::path::PathBuf;

use glyph_workflow_engine::store::EventStoreError;

/// A call to the embedded queue failed.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// The database refused; the error's class tells the caller what to do.
    #[error("the embedded queue failed")]
    Store(#[from] EventStoreError),
    /// Another process consumes from the file.
    #[error("another process already consumes from this database: it holds the lock on {path}")]
    AlreadyConsumed {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The lock file cannot be opened or locked.
    #[error("cannot lock {path}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl From<sqlx::Error> for EmbeddedError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(EventStoreError::from_sqlite(error))
    }
}
