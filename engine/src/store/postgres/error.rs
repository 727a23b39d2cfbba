//! Classifies driver errors for a batch: by SQLSTATE, never by text.

use std::{error::Error as StdError, io};

use sqlx::postgres::PgDatabaseError;

use super::super::{EventStoreError, SplitReason};

/// The client's own time limit expired.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(super) struct TimedOut(pub(super) std::time::Duration);

/// What a failed statement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The server, or the whole database, is of no use now.
    Unavailable,
    /// This work was not finished; other work may be.
    Hindered(SplitReason),
    /// The content was rejected.
    Data,
}

/// Classifies an error before `COMMIT` was sent: nothing was written.
pub(super) fn classify(error: sqlx::Error) -> EventStoreError {
    match meaning(&error) {
        Meaning::Unavailable => EventStoreError::Unavailable(error.into()),
        Meaning::Hindered(reason) => EventStoreError::hindered(reason, error),
        Meaning::Data => EventStoreError::Data(error.into()),
    }
}

/// Classifies an error of `COMMIT` itself.
///
/// If the server names any reason other than its own shutdown, it has rolled back. Otherwise the
/// outcome is unknown.
pub(super) fn classify_commit(error: sqlx::Error) -> EventStoreError {
    match sql_state(&error)
        .map(|code| code.get(..2).unwrap_or_default().to_owned())
        .as_deref()
    {
        None | Some("08" | "57" | "58" | "XX") => EventStoreError::CommitUnknown(error.into()),
        Some(_) => classify(error),
    }
}

/// Whether the connection can be used again after this error.
pub(super) fn connection_survives(error: &EventStoreError) -> bool {
    match error {
        EventStoreError::CommitUnknown(_) | EventStoreError::Unavailable(_) => false,
        // The server's own message about one statement. Without one, or with the end of the
        // session, nothing more comes over this connection.
        EventStoreError::Hindered { source, reason, .. } => match sql_state(source.as_ref()) {
            Some(code) => !code.starts_with("25P") && !code.starts_with("57P"),
            // A race that was lost: every statement was answered.
            None => *reason == SplitReason::Conflict,
        },
        EventStoreError::Data(_)
        | EventStoreError::VersionConflict { .. }
        | EventStoreError::Unreadable { .. }
        | EventStoreError::Corrupt(_)
        | EventStoreError::Row { .. }
        | EventStoreError::Other(_)
        | EventStoreError::NotMigrated { .. }
        | EventStoreError::Unsuitable(_) => true,
    }
}

/// Whether another transaction has held a lock for too long.
pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    sql_state(error).as_deref() == Some("55P03")
}

/// Whether the table does not exist.
pub(super) fn is_undefined_table(error: &sqlx::Error) -> bool {
    sql_state(error).as_deref() == Some("42P01")
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the driver's errors are many and grow; the others mean one thing here"
)]
fn meaning(error: &sqlx::Error) -> Meaning {
    if let Some(code) = sql_state(error) {
        return of_code(&code, constraint(error));
    }
    match error {
        // No connection was free or could be made: this work was not even begun.
        sqlx::Error::PoolClosed | sqlx::Error::PoolTimedOut => Meaning::Unavailable,
        sqlx::Error::Encode(_) => Meaning::Data,
        other if has::<TimedOut>(other) => Meaning::Hindered(SplitReason::TooSlow),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Meaning::Hindered(SplitReason::ConnectionLost),
        other if has::<io::Error>(other) => Meaning::Hindered(SplitReason::ConnectionLost),
        _ => Meaning::Hindered(SplitReason::Unexplained),
    }
}

/// The meaning of an SQLSTATE. A command is blamed only by the classes that speak of content.
fn of_code(code: &str, constraint: Option<&str>) -> Meaning {
    use SplitReason::{Blocked, Conflict, ConnectionLost, TooBig, TooSlow, Unexplained};
    match (code, code.get(..2).unwrap_or_default()) {
        // Two batches with the same command id on different tasks: the next run finds the first
        // one.
        ("23505", _) if constraint == Some("commands_pkey") => Meaning::Hindered(Conflict),
        // A head moves together with its events, so this duplicate key can only be a bug.
        ("23505", _) if constraint == Some("stored_events_pkey") => Meaning::Hindered(Unexplained),
        // Statement timeout (or a cancelled statement), idle in a transaction, too long in one.
        ("57014" | "25P03" | "25P04", _) => Meaning::Hindered(TooSlow),
        ("53200", _) => Meaning::Hindered(TooBig),
        ("55P03", _) => Meaning::Hindered(Blocked),
        // Rollback: serialization, deadlock.
        (_, "40") => Meaning::Hindered(Conflict),
        // Connection; operator: shutdown, crash, starting up.
        (_, "08" | "57") => Meaning::Hindered(ConnectionLost),
        // `25006`: the server has become a standby. Table, column, function or right missing. Then by
        // class: login; database or schema missing; resources, a full disk; the system around the
        // server. No batch is the cause, and none would succeed.
        ("25006" | "42P01" | "42703" | "42883" | "42501", _)
        | (_, "28" | "3D" | "3F" | "53" | "58") => Meaning::Unavailable,
        // Data; integrity; limits.
        (_, "22" | "23" | "54") => Meaning::Data,
        _ => Meaning::Hindered(Unexplained),
    }
}

fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'e (dyn StdError + 'static)| {
        let error: &'e (dyn StdError + 'static) = *error;
        error.source()
    })
}

/// Whether an error of this type is anywhere in the chain.
fn has<E: StdError + 'static>(error: &sqlx::Error) -> bool {
    chain(error).any(<dyn StdError + 'static>::is::<E>)
}

fn database_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e PgDatabaseError> {
    chain(error).find_map(|error| match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::Database(inner)) => inner.try_downcast_ref(),
        _ => error.downcast_ref(),
    })
}

fn sql_state(error: &(dyn StdError + 'static)) -> Option<String> {
    database_error(error).map(|error| error.code().to_owned())
}

fn constraint<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e str> {
    database_error(error).and_then(PgDatabaseError::constraint)
}

#[cfg(test)]
mod tests {
    use super::{super::super::Verdict, *};

    #[test]
    fn the_sqlstate_says_what_to_do() {
        use SplitReason::{Blocked, Conflict, ConnectionLost, TooBig, TooSlow, Unexplained};
        let away = [
            "53300", "53100", "25006", "28000", "28P01", "3D000", "3F000", "42P01", "42501",
            "58030",
        ];
        for code in away {
            assert_eq!(of_code(code, None), Meaning::Unavailable, "{code}");
        }
        for (code, reason) in [
            ("57014", TooSlow),
            ("25P03", TooSlow),
            ("25P04", TooSlow),
            ("53200", TooBig),
            ("55P03", Blocked),
            ("40001", Conflict),
            ("40P01", Conflict),
            ("08006", ConnectionLost),
            ("57P01", ConnectionLost),
            ("P0001", Unexplained),
            ("0A000", Unexplained),
            ("26000", Unexplained),
            ("XX000", Unexplained),
            ("", Unexplained),
            ("4", Unexplained),
        ] {
            assert_eq!(of_code(code, None), Meaning::Hindered(reason), "{code}");
        }
        for code in ["22P05", "22003", "23514", "54000"] {
            assert_eq!(of_code(code, None), Meaning::Data, "{code}");
        }
        let duplicate = |constraint| of_code("23505", Some(constraint));
        assert_eq!(duplicate("commands_pkey"), Meaning::Hindered(Conflict));
        assert_eq!(
            duplicate("stored_events_pkey"),
            Meaning::Hindered(Unexplained)
        );
        assert_eq!(duplicate("outbox_message_id_key"), Meaning::Data);
    }

    #[test]
    fn work_that_got_no_connection_waits_although_others_have_one() {
        let error = classify(sqlx::Error::PoolTimedOut);
        assert_eq!(error.verdict(true), Verdict::Wait);
    }

    #[test]
    fn a_commit_without_an_answer_is_unknown() {
        let error = classify_commit(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        assert!(matches!(error, EventStoreError::CommitUnknown(_)));
        assert!(!connection_survives(&error));
    }

    #[test]
    fn a_broken_link_is_one_wherever_it_stands_in_the_chain() {
        let error = sqlx::Error::Io(io::Error::from(io::ErrorKind::BrokenPipe));
        let error = classify(sqlx::Error::Configuration(Box::new(error)));
        assert_eq!(error.verdict(false), Verdict::Wait);
        assert_eq!(
            error.verdict(true),
            Verdict::Split(SplitReason::ConnectionLost)
        );
        assert!(!connection_survives(&error));
    }
}
