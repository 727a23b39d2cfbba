//! How a projection follows the log: page after page, then at its own pace.

use std::time::Duration;

use glyph_workflow_engine::store::{EventStoreError, OpenProjection, ProjectionWrite};
use tokio_util::sync::CancellationToken;

use super::StepOutcome;
use crate::{
    backoff::Backoff,
    faults::{CrashPoint, Faults},
    telemetry,
};

const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Something that is folded from the log, step by step.
pub(super) trait Follows: Sync {
    /// What it is called where a step fails.
    const NAME: &'static str;
    /// How often it looks for more.
    const POLL: Duration;

    /// Reads what is new in the log, at most one page of it.
    fn next(&self) -> impl Future<Output = Result<StepOutcome, EventStoreError>> + Send;
}

/// Follows the log until stopped.
pub(super) async fn follow<P: Follows>(projection: &P, stopping: &CancellationToken) {
    let mut backoff = Backoff::new(P::POLL, BACKOFF_MAX);
    while !stopping.is_cancelled() {
        let wait = match projection.next().await {
            Ok(StepOutcome::Read(_)) => continue,
            Ok(StepOutcome::CaughtUp | StepOutcome::Elsewhere) => {
                backoff.reset();
                P::POLL
            }
            Err(error) => {
                let error = telemetry::chain(&error);
                tracing::warn!(error, "{} could not follow the log; trying again", P::NAME);
                backoff.next()
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stopping.cancelled() => {}
        }
    }
}

/// Commits a step, past the crash points of the tests.
pub(super) async fn commit(
    step: Box<dyn OpenProjection>,
    write: ProjectionWrite,
    faults: &Faults,
) -> Result<(), EventStoreError> {
    let commit = step.commit(write);
    faults
        .pass_within(CrashPoint::BeforeProjection, commit)
        .await?;
    faults.pass(CrashPoint::AfterProjection);
    Ok(())
}
