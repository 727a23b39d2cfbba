//! How a projection follows the log: page after page, then by polling.

use std::{sync::Arc, time::Duration};

use glyph_workflow_engine::{
    limits::FOLDED_MAX,
    store::{EventStoreError, LogEntry, OpenProjection, ProjectionRows, ProjectionWrite, Store},
};
use tokio_util::sync::CancellationToken;

use super::rounds::Rounds;
use crate::{
    backoff::Backoff,
    failpoints::{CrashPoint, Failpoints},
    telemetry,
};

const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOutcome {
    /// Events were read.
    Read {
        /// Whether more of them are waiting: the page was full.
        is_full: bool,
    },
    /// There was nothing new.
    CaughtUp,
    /// Another process is running the projection.
    Elsewhere,
}

impl PageOutcome {
    /// The next step follows at once.
    pub(super) const MORE: Self = Self::Read { is_full: true };

    /// The result of a step that is committed.
    pub(super) fn of(step: &OpenProjection) -> Self {
        if step.entries.is_empty() {
            return Self::CaughtUp;
        }
        Self::Read {
            is_full: step.is_full,
        }
    }
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

/// Follows the log until stopped, together with the other projections of `rounds`.
pub(super) async fn follow<P: Follows>(
    projection: &P,
    rounds: &Rounds,
    stopping: &CancellationToken,
) {
    let mut backoff = Backoff::new(P::POLL, BACKOFF_MAX);
    let mut member = rounds.member();
    while !stopping.is_cancelled() {
        match projection.next().await {
            Ok(outcome) => {
                backoff.reset();
                let more = outcome == PageOutcome::MORE;
                let next = member.next(more, P::POLL);
                stopping.run_until_cancelled(next).await;
            }
            Err(error) => {
                let error = telemetry::chain(&error);
                tracing::warn!(error, "{} could not follow the log; trying again", P::NAME);
                member.leave();
                let pause = tokio::time::sleep(backoff.next());
                stopping.run_until_cancelled(pause).await;
            }
        }
    }
}

/// Opens the projection `name` for at most one page of new log entries, folds them and the rows into
/// what is to be written, and commits it.
pub(super) async fn fold_page(
    store: &dyn Store,
    name: &str,
    failpoints: &Failpoints,
    fold: impl AsyncFnOnce(ProjectionRows, &[Arc<LogEntry>]) -> Result<ProjectionWrite, EventStoreError>,
) -> Result<PageOutcome, EventStoreError> {
    let Some(mut step) = store.open_projection(name, FOLDED_MAX).await? else {
        return Ok(PageOutcome::Elsewhere);
    };
    let outcome = PageOutcome::of(&step);
    if outcome == PageOutcome::CaughtUp {
        return Ok(outcome);
    }
    let rows = std::mem::take(&mut step.rows);
    let write = fold(rows, &step.entries).await?;
    commit(step, write, failpoints).await?;
    Ok(outcome)
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
