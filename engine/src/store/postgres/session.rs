//! What a server must be to be used, and what every session is set to.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, PgConnection, Row, raw_sql};
use tokio::time::Instant;

use super::super::{EventStoreError, UnsuitableServer};

/// In the simple protocol: behind a pooler, a prepared statement may be another connection's.
const FACTS: &str = "
    SELECT pg_backend_pid(), current_setting('server_encoding'), current_setting('fsync'),
           pg_is_in_recovery(), current_setting('transaction_read_only')";
const PID: &str = "SELECT pg_backend_pid()";
const HOLD: &str = "BEGIN; SELECT pg_backend_pid()";
/// The answer of a pooler that allows no transaction at all.
const PROTOCOL_VIOLATION: &str = "08P01";

/// What was found out about a server.
pub(super) struct Survey {
    /// Why it is not used.
    pub(super) unsuitable: Option<UnsuitableServer>,
    /// Whether a second connection has shown that sessions are not shared.
    pub(super) saw_sessions: bool,
}

/// Looks at the server of `one`. With `other`, also whether connections share sessions: while
/// `other` holds a transaction open, `one` must keep its session.
pub(super) async fn survey(
    one: &mut PgConnection,
    other: Option<&mut PgConnection>,
    is_local: bool,
) -> Result<Survey, sqlx::Error> {
    let facts = raw_sql(FACTS).fetch_one(&mut *one).await?;
    let (pid, encoding): (i32, String) = (facts.try_get(0)?, facts.try_get(1)?);
    let (fsync, read_only): (String, String) = (facts.try_get(2)?, facts.try_get(4)?);
    let saw_sessions = other.is_some();
    let shared = match other {
        Some(other) => shares_sessions(one, pid, other).await?,
        None => false,
    };
    let unsuitable = if encoding != "UTF8" {
        Some(UnsuitableServer::Encoding(encoding))
    } else if fsync == "off" && !is_local {
        Some(UnsuitableServer::Fsync)
    } else if shared {
        Some(UnsuitableServer::TransactionPooling)
    } else if facts.try_get(3)? {
        Some(UnsuitableServer::Standby)
    } else if read_only == "on" {
        Some(UnsuitableServer::ReadOnly)
    } else {
        None
    };
    Ok(Survey {
        unsuitable,
        saw_sessions,
    })
}

async fn shares_sessions(
    one: &mut PgConnection,
    pid: i32,
    other: &mut PgConnection,
) -> Result<bool, sqlx::Error> {
    let held: i32 = match raw_sql(HOLD).fetch_one(&mut *other).await {
        Ok(row) => row.try_get(0)?,
        Err(sqlx::Error::Database(error))
            if error.code().as_deref() == Some(PROTOCOL_VIOLATION) =>
        {
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    // The session of one is in the hands of the other; a pooler of one session would wait for ever.
    let shared = held == pid || session_of(one).await? != pid;
    raw_sql("ROLLBACK").execute(other).await?;
    // A pooler that takes a session back only after its answer has had two of them in use by now,
    // each back with its own: what tells is that it gives the one last returned first.
    Ok(shared || session_of(one).await? != pid)
}

async fn session_of(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    raw_sql(PID).fetch_one(conn).await?.try_get(0)
}

/// Stops all work while sessions are shared, and lets go of the connections from that time: their
/// prepared statements are in sessions of others.
#[derive(Debug, Default)]
pub(super) struct SessionGuard {
    shared: AtomicBool,
    valid_from: Mutex<Option<Instant>>,
}

impl SessionGuard {
    /// Takes in what was found.
    pub(super) fn learn(&self, survey: &Survey) {
        if survey.unsuitable == Some(UnsuitableServer::TransactionPooling) {
            let mut valid_from = self
                .valid_from
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *valid_from = Some(Instant::now());
            self.shared.store(true, Ordering::Release);
        } else if survey.saw_sessions {
            self.shared.store(false, Ordering::Release);
        }
    }

    /// Fails while sessions are shared.
    pub(super) fn usable(&self) -> Result<(), EventStoreError> {
        if self.shared.load(Ordering::Acquire) {
            return Err(UnsuitableServer::TransactionPooling.into());
        }
        Ok(())
    }

    /// Whether a connection of this age was made after sessions were last shared.
    pub(super) fn admits(&self, age: Duration) -> bool {
        let valid_from = *self
            .valid_from
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        valid_from.is_none_or(|from| from.elapsed() > age)
    }
}

/// Sets these settings in one statement. Not as start-up options, which poolers refuse; and a
/// setting that the server does not know is left out. A commit that waits for less than the local
/// disk could be lost after it was acknowledged; one that waits for more stays as it is.
pub(super) async fn set(
    conn: &mut PgConnection,
    settings: &[(&'static str, String)],
) -> Result<(), sqlx::Error> {
    let given = settings.iter().map(|(name, value)| {
        let value = value.replace('\'', "''");
        format!("('{name}', '{value}')")
    });
    let given = given.collect::<Vec<_>>().join(", ");
    let sql = format!(
        "SELECT set_config(s.name, given.value, false)
         FROM (VALUES {given}, ('synchronous_commit', 'on')) AS given (name, value)
         JOIN pg_settings s ON s.name = given.name
         WHERE s.name <> 'synchronous_commit' OR s.setting NOT IN ('on', 'remote_apply')"
    );
    raw_sql(AssertSqlSafe(sql)).execute(conn).await.map(drop)
}
