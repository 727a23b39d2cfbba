//! Runs one batch until the store has an answer.

use std::{sync::Arc, time::Duration};

use glyph_workflow_engine::{
    BatchReport, OrchestrationError,
    command::CommandEnvelope,
    store::{ErrorClass, EventStoreError, Outbox},
};

use super::{
    gate::IntakePauseReason,
    job::Job,
    shared::{BatchNumbers, LaneContext},
    unknown_commit::LaneMessages,
};
use crate::{backoff::Backoff, telemetry};

/// The first wait for a store that cannot be used.
const STORE_WAIT_FIRST: Duration = Duration::from_millis(100);
/// The longest wait for a store that cannot be used.
const STORE_WAIT_MAX: Duration = Duration::from_secs(10);

/// The result of running a batch.
pub(super) enum Attempt {
    /// It is committed.
    Done { report: BatchReport, number: u64 },
    /// Nothing of it is known to be written, and one of its commands is poison.
    Poison(String),
    /// The store is away, and there is no time left to wait for it.
    Stopped,
}

/// A run of a batch that returned no report.
struct FailedRun {
    error: String,
    /// Whether one of its commands is poison; otherwise the store is away.
    is_poison: bool,
    /// Whether the batch may have been written nevertheless.
    unknown_commit: bool,
}

/// Runs the batches of a lane, one at a time.
pub(super) struct BatchRunner {
    shared: Arc<LaneContext>,
    numbers: Arc<BatchNumbers>,
    messages: LaneMessages,
}

impl BatchRunner {
    pub(super) fn new(
        shared: Arc<LaneContext>,
        numbers: Arc<BatchNumbers>,
        outbox: Arc<dyn Outbox>,
    ) -> Self {
        let messages = LaneMessages::new(outbox, shared.publisher);
        Self {
            shared,
            numbers,
            messages,
        }
    }

    /// The number of the last batch that has begun.
    pub(super) fn begun(&self) -> u64 {
        self.numbers.begun()
    }

    /// Runs the same batch, with the same ids, until the store has an answer.
    pub(super) async fn attempt(&mut self, jobs: &[Job]) -> Attempt {
        let mut backoff = Backoff::new(STORE_WAIT_FIRST, STORE_WAIT_MAX);
        let mut hold = None;
        loop {
            let number = self.numbers.begin();
            let _span = self
                .shared
                .traces
                .begin_batch(jobs.iter().map(|job| &job.span));
            let envelopes = jobs.iter().map(|job| job.envelope.clone()).collect();
            let error = match self.run_once(envelopes).await {
                Ok(report) => match self.written(report, number, jobs).await {
                    Ok(done) => return done,
                    Err(error) => telemetry::chain(&error),
                },
                Err(failed) => {
                    if failed.unknown_commit {
                        self.commit_unknown(number, jobs);
                    }
                    if failed.is_poison {
                        return Attempt::Poison(failed.error);
                    }
                    failed.error
                }
            };
            if hold.is_none() {
                tracing::warn!(%error, "the store cannot be used; the batch waits");
                hold = Some(self.shared.gate.pause(IntakePauseReason::StoreUnavailable));
            }
            // The broker redelivers unfinished commands, so a drain need not wait for the store.
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = self.shared.stopping.cancelled() => {}
            }
            if self.shared.stopping.is_cancelled() {
                return Attempt::Stopped;
            }
        }
    }

    /// Runs in a task of its own: nothing that happens to the lane cancels a transaction half-way,
    /// and a panic ends the task, not the lane.
    async fn run_once(&self, batch: Vec<CommandEnvelope>) -> Result<BatchReport, FailedRun> {
        let processor = Arc::clone(&self.shared.processor);
        let publisher = self.shared.publisher;
        let work = tokio::spawn(async move { processor.process_batch(batch, publisher).await });
        match work.await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => {
                let is_poison = !is_store_away(&error);
                let unknown_commit = matches!(
                    error,
                    OrchestrationError::EventStoreError(EventStoreError::CommitUnknown(_))
                );
                if is_version_conflict(&error) {
                    self.shared.metrics.version_conflict();
                }
                let error = telemetry::chain(&error);
                if is_poison {
                    tracing::error!(%error, "a batch failed for its content or a bug");
                }
                Err(FailedRun {
                    error,
                    is_poison,
                    unknown_commit,
                })
            }
            Err(ended) if ended.is_panic() => {
                let error = telemetry::panic_text(&*ended.into_panic());
                tracing::error!(%error, "a batch panicked");
                // The batch may have been written by then.
                Err(FailedRun {
                    error,
                    is_poison: true,
                    unknown_commit: true,
                })
            }
            // Only the end of the runtime cancels it.
            Err(cancelled) => Err(FailedRun {
                error: cancelled.to_string(),
                is_poison: false,
                unknown_commit: true,
            }),
        }
    }

    /// Takes the messages of a committed batch, and those of earlier batches whose commit was
    /// unknown.
    async fn written(
        &mut self,
        mut report: BatchReport,
        number: u64,
        jobs: &[Job],
    ) -> Result<Attempt, EventStoreError> {
        if report.outcomes.len() != jobs.len() {
            self.commit_unknown(number, jobs);
            let (outcomes, commands) = (report.outcomes.len(), jobs.len());
            let error = format!("{outcomes} outcomes of {commands} commands");
            return Ok(Attempt::Poison(error));
        }
        let rows = std::mem::take(&mut report.messages);
        let tasks = jobs.iter().map(Job::task);
        let messages = self.messages.of_written(number, rows, tasks).await?;
        report.messages = messages.rows;
        Ok(Attempt::Done {
            report,
            number: messages.number,
        })
    }

    fn commit_unknown(&mut self, number: u64, jobs: &[Job]) {
        self.messages
            .commit_unknown(number, jobs.iter().map(Job::task));
    }
}

/// Whether waiting helps. A schema of another build is for an operator to fix and no command's
/// fault. An error of class `Data` that gets here is caused by one of the commands, as a bug is.
fn is_store_away(error: &OrchestrationError) -> bool {
    match error {
        OrchestrationError::EventStoreError(EventStoreError::NotMigrated { .. }) => true,
        error => match error.class() {
            ErrorClass::Retry => true,
            ErrorClass::Data | ErrorClass::Bug => false,
        },
    }
}

/// Whether the final version check failed, although the streams were locked.
fn is_version_conflict(error: &OrchestrationError) -> bool {
    matches!(
        error,
        OrchestrationError::EventStoreError(EventStoreError::VersionConflict { .. })
    )
}
