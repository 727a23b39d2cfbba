//! Servers that answer, and are not used.

/// Why a Postgres server that answers is not used.
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
}

impl UnsuitableServer {
    /// Whether it stays so until somebody changes it. A standby becomes the primary by itself.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Encoding(_) | Self::Fsync | Self::TransactionPooling => true,
            Self::Standby | Self::ReadOnly => false,
        }
    }
}
