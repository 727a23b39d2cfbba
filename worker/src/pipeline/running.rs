//! Runs one batch until the store has an answer.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use glyph_workflow_engine::{
    BatchReport, OrchestrationError,
    command::{CommandEnvelope, Dead, Outcome, Undecided},
    ids::TaskId,
    store::{EventStoreError, OnLocked, Outbox, SplitReason, Verdict},
};

use super::{
    gate::IntakePauseReason,
    job::Job,
    shared::{BatchNumbers, LaneContext},
    unknown_commit::{LaneRows, LeftToRelay},
};
use crate::{backoff::Backoff, telemetry};

/// The first wait for a store that cannot be used.
const STORE_WAIT_FIRST: Duration = Duration::from_millis(100);
/// The longest wait for a store that cannot be used.
const STORE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often a batch is run again whole, one run after the other, when its size need not be the
/// cause; then it is run in parts.
const WHOLE_RUNS_MAX: u32 = 3;

/// The result of running a batch.
pub(super) enum Attempt {
    /// It is committed.
    Done {
        report: BatchReport,
        number: u64,
        /// What earlier batches leave to the relay.
        left: LeftToRelay,
    },
    /// It would fail again: run it in parts.
    Failed(Failure),
    /// The store is away, and there is no time left to wait for it.
    Stopped,
}

/// Why a batch is not run again whole.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) cause: FailureCause,
    /// For people.
    pub(super) error: String,
    /// The tasks known to be the cause; empty if any may be.
    pub(super) tasks: BTreeSet<TaskId>,
}

/// Who or what is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureCause {
    /// Not the command.
    Split(SplitReason),
    /// The content of a command.
    Content,
    /// Deciding it panicked.
    Panic,
}

impl Failure {
    /// The outcome of a command that failed so alone.
    pub(super) fn outcome(&self) -> Outcome {
        let error = self.error.clone();
        match self.cause {
            FailureCause::Split(reason) => {
                Outcome::Undecided(Undecided::SetAside { reason, error })
            }
            FailureCause::Content => Outcome::Dead(Dead::Malformed(error)),
            FailureCause::Panic => Outcome::Undecided(Undecided::Panicked(error)),
        }
    }
}

/// A run of a batch that returned no report.
enum FailedRun {
    /// By an error of the orchestrator.
    Error(OrchestrationError),
    Panic(String),
    /// By the end of the runtime.
    Cancelled(String),
}

/// Runs the batches of a lane, one at a time.
pub(super) struct BatchRunner {
    shared: Arc<LaneContext>,
    numbers: Arc<BatchNumbers>,
    rows: LaneRows,
}

impl BatchRunner {
    pub(super) fn new(
        shared: Arc<LaneContext>,
        numbers: Arc<BatchNumbers>,
        outbox: Arc<dyn Outbox>,
    ) -> Self {
        let rows = LaneRows::new(outbox, shared.publisher);
        Self {
            shared,
            numbers,
            rows,
        }
    }

    /// The number of the last batch that has begun.
    pub(super) fn begun(&self) -> u64 {
        self.numbers.begun()
    }

    /// Runs the same batch, with the same ids, until it is committed or would fail again.
    pub(super) async fn attempt(&mut self, jobs: &[Job], on_locked: OnLocked) -> Attempt {
        let mut backoff = Backoff::new(STORE_WAIT_FIRST, STORE_WAIT_MAX);
        let mut hold = None;
        let mut whole_runs = 0;
        loop {
            let number = self.numbers.begin();
            let _span = self
                .shared
                .traces
                .begin_batch(jobs.iter().map(|job| &job.span));
            let envelopes = jobs.iter().map(|job| Arc::clone(&job.envelope)).collect();
            let (verdict, error, tasks) = match self.run_once(envelopes, on_locked).await {
                Ok(report) if report.outcomes.len() == jobs.len() => {
                    match self.written(report, number, jobs).await {
                        Ok(done) => return done,
                        // The batch is written; only its rows are still to be read.
                        Err(error) => (Verdict::Wait, telemetry::chain(&error), BTreeSet::new()),
                    }
                }
                Ok(report) => {
                    self.commit_unknown(jobs);
                    let (outcomes, commands) = (report.outcomes.len(), jobs.len());
                    let error = format!("{outcomes} outcomes of {commands} commands");
                    return Attempt::Failed(panicked(error));
                }
                Err(FailedRun::Panic(error)) => {
                    // The batch may have been written by then.
                    self.commit_unknown(jobs);
                    return Attempt::Failed(panicked(error));
                }
                Err(FailedRun::Cancelled(error)) => {
                    self.commit_unknown(jobs);
                    (Verdict::Wait, error, BTreeSet::new())
                }
                Err(FailedRun::Error(error)) => {
                    let answers = self.shared.processor.store_answers().await;
                    let verdict = error.verdict(answers);
                    if verdict == Verdict::Unknown {
                        self.commit_unknown(jobs);
                    }
                    let text = telemetry::chain(&error);
                    (verdict, text, culprits(error))
                }
            };
            let (cause, runs_max) = match verdict {
                Verdict::Wait => {
                    if hold.is_none() {
                        tracing::warn!(%error, "the store cannot be used; the batch waits");
                        hold = Some(self.shared.gate.pause(IntakePauseReason::StoreUnavailable));
                    }
                    whole_runs = 0;
                    (FailureCause::Split(SplitReason::TooSlow), u32::MAX)
                }
                // A COMMIT whose answer is lost again and again is too slow, or breaks the link.
                Verdict::Unknown => (FailureCause::Split(SplitReason::TooSlow), WHOLE_RUNS_MAX),
                Verdict::Split(reason) if reason.is_passing() => {
                    (FailureCause::Split(reason), WHOLE_RUNS_MAX)
                }
                Verdict::Split(reason) => (FailureCause::Split(reason), 1),
                Verdict::Blame => (FailureCause::Content, 1),
            };
            whole_runs += 1;
            if whole_runs >= runs_max {
                tracing::warn!(%error, commands = jobs.len(), ?cause, "a batch failed");
                return Attempt::Failed(Failure {
                    cause,
                    error,
                    tasks,
                });
            }
            // The broker redelivers unfinished commands, so a drain need not wait for the store.
            tokio::select! {
                biased;
                () = self.shared.stopping.cancelled() => {}
                () = tokio::time::sleep(backoff.next()) => {}
            }
            if self.shared.stopping.is_cancelled() {
                return Attempt::Stopped;
            }
        }
    }

    /// Runs in a task of its own: nothing that happens to the lane cancels a transaction half-way,
    /// and a panic ends the task, not the lane.
    async fn run_once(
        &self,
        batch: Vec<Arc<CommandEnvelope>>,
        on_locked: OnLocked,
    ) -> Result<BatchReport, FailedRun> {
        let processor = Arc::clone(&self.shared.processor);
        let publisher = self.shared.publisher;
        let run = async move { processor.process_batch(batch, publisher, on_locked).await };
        let work = tokio::spawn(run);
        match work.await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => {
                if is_version_conflict(&error) {
                    self.shared.metrics.version_conflict();
                }
                Err(FailedRun::Error(error))
            }
            Err(ended) if ended.is_panic() => {
                let error = telemetry::panic_text(&*ended.into_panic());
                tracing::error!(%error, "a batch panicked");
                Err(FailedRun::Panic(error))
            }
            Err(cancelled) => Err(FailedRun::Cancelled(cancelled.to_string())),
        }
    }

    /// Ends a committed batch, with the rows of earlier batches whose commit was unknown.
    async fn written(
        &mut self,
        report: BatchReport,
        number: u64,
        jobs: &[Job],
    ) -> Result<Attempt, EventStoreError> {
        let tasks = jobs.iter().map(Job::task);
        let left = self.rows.of_written(&report.messages, tasks).await?;
        Ok(Attempt::Done {
            report,
            number,
            left,
        })
    }

    /// Looks up what batches without an answer have left, once the lane has given them up: no batch
    /// may come any more that would. Waits for the store, unless a stop is requested.
    pub(super) async fn look_up(&mut self) -> LeftToRelay {
        let mut backoff = Backoff::new(STORE_WAIT_FIRST, STORE_WAIT_MAX);
        loop {
            match self.rows.of_written(&[], std::iter::empty()).await {
                Ok(left) => return left,
                Err(error) => tracing::debug!(%error, "the rows of a lane could not be read"),
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                // The leases run out.
                () = self.shared.stopping.cancelled() => return LeftToRelay::default(),
            }
        }
    }

    fn commit_unknown(&mut self, jobs: &[Job]) {
        self.rows.commit_unknown(jobs.iter().map(Job::task));
    }
}

fn panicked(error: String) -> Failure {
    Failure {
        cause: FailureCause::Panic,
        error,
        tasks: BTreeSet::new(),
    }
}

/// The tasks that the store names as the cause.
fn culprits(error: OrchestrationError) -> BTreeSet<TaskId> {
    match error {
        OrchestrationError::EventStoreError(EventStoreError::Hindered { tasks, .. }) => tasks,
        OrchestrationError::EventStoreError(
            EventStoreError::VersionConflict { task_id, .. }
            | EventStoreError::Unreadable { task_id, .. },
        ) => [task_id].into(),
        _ => BTreeSet::new(),
    }
}

/// Whether the final version check failed, although the streams were locked.
fn is_version_conflict(error: &OrchestrationError) -> bool {
    matches!(
        error,
        OrchestrationError::EventStoreError(EventStoreError::VersionConflict { .. })
    )
}
