//! How a projection follows the log: page after page, then by polling.

use std::time::Duration;

use glyph_workflow_engine::{
    limits::PAGE_MAX,
    store::{EventStoreError, LogEntry, OpenProjection, ProjectionRows, ProjectionWrite, Store},
};
use tokio_util::sync::CancellationToken;

use crate::{
    failpoints::{CrashPoint, Failpoints},
    poll::{Every, Found, poll},
    telemetry,
};

const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOutcome {
    /// The number of events that were read; there may be more.
    Read(usize),
    /// There was nothing new.
    CaughtUp,
    /// Another process is running the projection.
    Elsewhere,
}

/// A projection: state that is folded from the log, step by step.
pub(super) trait Follows: Sync {
    /// The name in the log message of a failed step.
    const NAME: &'static str;
    /// How often it looks for more.
    const POLL: Duration;

    /// Processes at most one page of new log entries.
    fn next(&self) -> impl Future<Output = Result<PageOutcome, EventStoreError>> + Send;
}

/// Follows the log until stopped.
pub(super) async fn follow<P: Follows>(projection: &P, stopping: &CancellationToken) {
    let every = Every {
        idle: P::POLL,
        longest: BACKOFF_MAX,
    };
    let look = || async {
        let outcome = projection.next().await?;
        Ok(Found::more_if(matches!(outcome, PageOutcome::Read(_))))
    };
    poll(every, stopping, look, |error: EventStoreError| {
        let error = telemetry::chain(&error);
        tracing::warn!(error, "{} could not follow the log; trying again", P::NAME);
    })
    .await;
}

/// Opens the projection `name` for at most one page of new log entries, folds them and the rows into
/// what is to be written, and commits it.
pub(super) async fn fold_page(
    store: &dyn Store,
    name: &str,
    failpoints: &Failpoints,
    fold: impl AsyncFnOnce(ProjectionRows, &[LogEntry]) -> Result<ProjectionWrite, EventStoreError>,
) -> Result<PageOutcome, EventStoreError> {
    let Some(mut step) = store.open_projection(name, PAGE_MAX).await? else {
        return Ok(PageOutcome::Elsewhere);
    };
    let read = step.entries.len();
    if read == 0 {
        return Ok(PageOutcome::CaughtUp);
    }
    let rows = std::mem::take(&mut step.rows);
    let write = fold(rows, &step.entries).await?;
    commit(step, write, failpoints).await?;
    Ok(PageOutcome::Read(read))
}

/// Commits a step, passing the crash points of the tests.
pub(super) async fn commit(
    step: OpenProjection,
    write: ProjectionWrite,
    failpoints: &Failpoints,
) -> Result<(), EventStoreError> {
    let commit = step.commit(write);
    failpoints
        .pass_within(CrashPoint::BeforeProjection, commit)
        .await?;
    failpoints.pass(CrashPoint::AfterProjection);
    Ok(())
}
