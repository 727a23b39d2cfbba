//! What SQLite's errors mean.

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
    /// Classifies an error of the SQLite driver.
    ///
    /// Busy, locked, a full disk and broken input or output pass by themselves or by an operator's
    /// hand; a constraint or a value that is too big is the content's fault; the rest is a bug.
    pub fn from_sqlite(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                match database
                    .code()
                    .and_then(|code| code.parse::<u32>().ok())
                    .map(|c| c & 0xff)
                {
                    Some(BUSY | LOCKED | IO | FULL | CANNOT_OPEN | PROTOCOL) => {
                        Self::Unavailable(Box::new(error))
                    }
                    Some(TOO_BIG | CONSTRAINT | MISMATCH) => Self::Data(Box::new(error)),
                    _ => Self::Other(Box::new(error)),
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::BeginFailed
            | sqlx::Error::InvalidSavePointStatement => Self::Unavailable(Box::new(error)),
            _ => Self::Other(Box::new(error)),
        }
    }

    /// Classifies an error of COMMIT: what SQLite itself refused is not there, anything else may be.
    pub(super) fn from_sqlite_commit(error: sqlx::Error) -> Self {
        let unknown = match &error {
            sqlx::Error::Database(database) => database
                .code()
                .and_then(|code| code.parse::<u32>().ok())
                .is_some_and(|code| code & 0xff == IO),
            _ => true,
        };
        if unknown {
            Self::CommitUnknown(Box::new(error))
        } else {
            Self::from_sqlite(error)
        }
    }
}
