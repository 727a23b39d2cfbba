//! Classifies driver errors for a batch: by SQLSTATE, never by text.

use std::{error::Error as StdError, io};

use sqlx::postgres::PgDatabaseError;

use super::super::EventStoreError;

type Source = Box<dyn StdError + Send + Sync>;

/// The client's own time limit expired.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(super) struct TimedOut(pub(super) std::time::Duration);

/// What the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The connection or the server is away, slow, or asks to retry.
    Unavailable,
    /// The content was rejected.
    Data,
    /// A bug or a wrong setup.
    Other,
}

/// Classifies an error before `COMMIT` was sent: nothing was written.
pub(super) fn classify(error: sqlx::Error) -> EventStoreError {
    let meaning = meaning(&error);
    wrap(meaning, error.into())
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
        EventStoreError::CommitUnknown(_) => false,
        EventStoreError::Unavailable(source) => sql_state(source.as_ref())
            .is_some_and(|code| code.starts_with("40") || code.starts_with("55")),
        EventStoreError::Data(_)
        | EventStoreError::VersionConflict { .. }
        | EventStoreError::Unreadable { .. }
        | EventStoreError::Corrupt(_)
        | EventStoreError::Row { .. }
        | EventStoreError::Other(_)
        | EventStoreError::NotMigrated { .. } => true,
    }
}

/// Whether the table does not exist.
pub(super) fn is_undefined_table(error: &sqlx::Error) -> bool {
    sql_state(error).as_deref() == Some("42P01")
}

fn wrap(meaning: Meaning, source: Source) -> EventStoreError {
    match meaning {
        Meaning::Unavailable => EventStoreError::Unavailable(source),
        Meaning::Data => EventStoreError::Data(source),
        Meaning::Other => EventStoreError::Other(source),
    }
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
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Meaning::Unavailable,
        sqlx::Error::Encode(_) => Meaning::Data,
        other if chain(other).any(|e| e.is::<io::Error>() || e.is::<TimedOut>()) => {
            Meaning::Unavailable
        }
        _ => Meaning::Other,
    }
}

/// The meaning of an SQLSTATE.
fn of_code(code: &str, constraint: Option<&str>) -> Meaning {
    match (code, code.get(..2).unwrap_or_default()) {
        // Two batches with the same command id on different tasks: the retry finds the first one.
        ("23505", _) if constraint == Some("commands_pkey") => Meaning::Unavailable,
        // A head moves together with its events, so a duplicate key can only be a bug.
        ("23505", _) if constraint == Some("workflow_events_pkey") => Meaning::Other,
        // `25006`: the server has become a standby; `25P03`: the transaction was idle for too long.
        // Then by class: connection; login; database or schema missing; rollback; table or right
        // missing (the statements are fixed, so no command is the cause); resources; wrong state
        // (locks); operator; system; internal server error.
        ("25006" | "25P03", _)
        | (_, "08" | "28" | "3D" | "3F" | "40" | "42" | "53" | "55" | "57" | "58" | "XX") => {
            Meaning::Unavailable
        }
        // Data; integrity; limits.
        (_, "22" | "23" | "54") => Meaning::Data,
        _ => Meaning::Other,
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
    use super::*;

    #[test]
    fn classes_of_sqlstate_say_what_to_do() {
        for code in [
            "08006", "57P01", "57014", "53300", "40001", "40P01", "55P03", "25006", "28000",
            "28P01", "3D000", "3F000", "42P01", "42501", "XX000",
        ] {
            assert_eq!(of_code(code, None), Meaning::Unavailable, "{code}");
        }
        for code in ["22P05", "22003", "23514", "54000"] {
            assert_eq!(of_code(code, None), Meaning::Data, "{code}");
        }
        for code in ["0A000", "P0001", "", "4"] {
            assert_eq!(of_code(code, None), Meaning::Other, "{code}");
        }
        assert_eq!(
            of_code("23505", Some("commands_pkey")),
            Meaning::Unavailable
        );
        assert_eq!(
            of_code("23505", Some("workflow_events_pkey")),
            Meaning::Other
        );
        assert_eq!(
            of_code("23505", Some("outbox_message_id_key")),
            Meaning::Data
        );
    }

    #[test]
    fn a_commit_without_an_answer_is_unknown() {
        let error = classify_commit(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        assert!(matches!(error, EventStoreError::CommitUnknown(_)));
        assert!(!connection_survives(&error));
    }

    #[test]
    fn a_broken_link_is_unavailable_wherever_it_stands_in_the_chain() {
        let error = sqlx::Error::Io(io::Error::from(io::ErrorKind::BrokenPipe));
        let error = classify(sqlx::Error::Configuration(Box::new(error)));
        assert!(
            matches!(error, EventStoreError::Unavailable(_)),
            "{error:?}"
        );
        assert!(!connection_survives(&error));
    }
}
