//! Databases that answer, and are not used.

/// Why a database that answers is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsuitableServer {
    /// The database cannot hold every text.
    #[error(
        "the database's encoding is {0}; UTF8 is needed, as answers may hold any character: make \
         one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding(String),
    /// A crash of the server would lose what it has acknowledged.
    #[error(
        "the server runs with fsync = off, so a crash loses what it has acknowledged: set it to \
         on; only a server on this machine, for tests, may run without"
    )]
    Fsync,
    /// Sessions are shared among connections.
    #[error(
        "the database is behind a pooler that gives each transaction another session (PgBouncer: \
         pool_mode = transaction), so statements of other programs would be run: set pool_mode = \
         session for this database, or connect without the pooler"
    )]
    TransactionPooling,
    /// The server is a standby.
    #[error("the server takes no writes: it is a standby; give the address of the primary")]
    Standby,
    /// Transactions are read-only.
    #[error(
        "the server takes no writes: default_transaction_read_only is on for the server, the \
         database or the account"
    )]
    ReadOnly,
    /// The tables have another beginning than the migrations of this build.
    #[error(
        "the tables were made by a build from before the first release, and this one does not read \
         them: give it an empty database or another schema, or go on with the old build"
    )]
    OtherBaseline,
    /// The tables do not fit each other: only a part of them was restored, or their sequences were
    /// not.
    #[error(
        "the tables do not fit the log: {0}. If the database was restored, stop every worker and run \
         `glyph restore`"
    )]
    NotWhole(String),
    /// Others use a database that must be left alone for what was asked.
    #[error("workers are connected to this database ({0}): stop every one of them first")]
    AtWork(String),
    /// The account does not own the tables.
    #[error(
        "the account {0} does not own the tables: retention deletes, which no worker's account may, \
         so run it as the owner"
    )]
    NotOwner(String),
}

impl UnsuitableServer {
    /// Whether it stays so until somebody changes it. A standby becomes the primary by itself.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Encoding(_)
            | Self::Fsync
            | Self::TransactionPooling
            | Self::OtherBaseline
            | Self::NotWhole(_)
            | Self::NotOwner(_) => true,
            Self::Standby | Self::ReadOnly | Self::AtWork(_) => false,
        }
    }
}
