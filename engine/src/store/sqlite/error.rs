//! Classifies SQLite errors.

use super::super::EventStoreError;

/// Primary result codes, as in SQLite's list.
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const IO: u32 = 10;
const FULL: u32 = 13;
const CANNOT_OPEN: u32 = 14;
const PROTOCOL: u32 = 15;
const TOO_BIG: u32 = 18;
const CONSTRAINT: u32 = 19;
const MISMATCH: u32 = 20;

impl EventStoreError {
    /// Classifies an error of the SQLite driver, for programs that keep their own tables in the
    /// store's file.
    pub fn from_sqlite(error: sqlx::Error) -> Self {
        classify(error)
    }
}

/// The primary result code.
fn code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<u32>().ok()? & 0xff)
}

/// Classifies an error before COMMIT: nothing was written.
///
/// Busy, locked, a full disk and I/O errors pass by themselves or after an operator's action. A
/// constraint violation or an oversized value is caused by the content. Anything else is a bug.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the driver's errors are many and grow; the others mean one thing here"
)]
pub(super) fn classify(error: sqlx::Error) -> EventStoreError {
    match &error {
        sqlx::Error::Database(_) => match code(&error) {
            Some(BUSY | LOCKED | IO | FULL | CANNOT_OPEN | PROTOCOL) => {
                EventStoreError::Unavailable(error.into())
            }
            Some(TOO_BIG | CONSTRAINT | MISMATCH) => EventStoreError::Data(error.into()),
            _ => EventStoreError::Other(error.into()),
        },
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::InvalidSavePointStatement => EventStoreError::Unavailable(error.into()),
        _ => EventStoreError::Other(error.into()),
    }
}

/// Classifies an error of COMMIT: if SQLite itself rejected it, nothing was written; otherwise the
/// outcome is unknown.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the driver's errors are many and grow; the others mean one thing here"
)]
pub(super) fn classify_commit(error: sqlx::Error) -> EventStoreError {
    let unknown = match &error {
        sqlx::Error::Database(_) => code(&error) == Some(IO),
        _ => true,
    };
    if unknown {
        EventStoreError::CommitUnknown(error.into())
    } else {
        classify(error)
    }
}
