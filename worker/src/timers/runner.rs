//! Claims timers, performs their effects and submits their commands.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use glyph_workflow_engine::{
    Effect, WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Dead, EffectOutcome, FireTimer, Outcome, Undecided},
    store::{EventStoreError, RecordedOutcome, Timer, TimerLane, TimerQueue},
    timer_command_id,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Handlers;
use crate::{
    pipeline::{PipelineHandle, PipelineStopped},
    poll::{Every, Found, poll},
    telemetry,
    webhook::CALL_TIMEOUT_MAX,
};

/// How late due timers may be noticed.
const EVERY: Every = Every {
    idle: Duration::from_millis(250),
    longest: Duration::from_secs(10),
};
/// How long a claimed row is leased to its claimer.
const LEASE: Duration = Duration::from_secs(30);
/// How long a claimed call is leased to its claimer: the longest call, and time to decide on it.
const CALL_LEASE: Duration = Duration::from_secs(CALL_TIMEOUT_MAX.as_secs() + 30);
/// Rows of one claim: about a batch for each lane.
const CLAIM_MAX: u32 = 512;
/// Calls under way at a time; further ones stay due, and any process may claim them.
const CALLS_MAX: usize = 64;
/// How long a stop waits for calls under way. A call that is cut off is repeated under the same
/// idempotency key, when its lease has run out.
const CALLS_GRACE: Duration = Duration::from_secs(5);

/// Runs timers through a pipeline.
pub struct TimerRunner {
    queue: Arc<dyn TimerQueue>,
    orchestrator: Arc<WorkflowOrchestrator>,
    pipeline: PipelineHandle,
    handlers: Arc<dyn Handlers>,
}

impl TimerRunner {
    /// A runner; several processes may each run one.
    pub fn new(
        queue: Arc<dyn TimerQueue>,
        orchestrator: Arc<WorkflowOrchestrator>,
        pipeline: PipelineHandle,
        handlers: Arc<dyn Handlers>,
    ) -> Self {
        Self {
            queue,
            orchestrator,
            pipeline,
            handlers,
        }
    }

    /// Runs until stopped; claimed timers are finished first.
    pub async fn run(self, stopping: CancellationToken) {
        let runner = Arc::new(self);
        let calls = Arc::clone(&runner).run_calls(&stopping);
        tokio::join!(runner.run_decisions(&stopping), calls);
    }

    async fn run_decisions(&self, stopping: &CancellationToken) {
        let look = || self.run_due_decisions();
        poll(EVERY, stopping, look, |error: EventStoreError| {
            tracing::warn!(%error, "timers could not be read; trying again");
        })
        .await;
    }

    async fn run_due_decisions(&self) -> Result<Found, EventStoreError> {
        let claimed = self
            .queue
            .claim_timers(TimerLane::Decisions, LEASE, CLAIM_MAX);
        let rows = claimed.await?;
        let more = rows.len() >= CLAIM_MAX as usize;
        self.run_rows(rows).await;
        Ok(Found::more_if(more))
    }

    async fn run_rows(&self, rows: Vec<Timer>) {
        let mut running: FuturesUnordered<_> =
            rows.into_iter().map(|row| self.run_row(row)).collect();
        let mut settled = Vec::new();
        while let Some(row) = running.next().await {
            settled.extend(row);
        }
        self.drop_settled(&settled).await;
    }

    async fn drop_settled(&self, rows: &[Timer]) {
        if rows.is_empty() {
            return;
        }
        if let Err(error) = self.queue.drop_timers(rows).await {
            // The rows are claimed again, and their commands are duplicates again.
            tracing::debug!(%error, "settled timers could not be deleted");
        }
    }

    /// Calls have permits of their own, so that slow handlers delay only other calls.
    async fn run_calls(self: Arc<Self>, stopping: &CancellationToken) {
        let slots = Arc::new(Semaphore::new(CALLS_MAX));
        let calls = TaskTracker::new();
        let abandoned = CancellationToken::new();
        let look = || self.start_due_calls(&slots, &calls, stopping, &abandoned);
        poll(EVERY, stopping, look, |error: EventStoreError| {
            tracing::warn!(%error, "timers of calls could not be read; trying again");
        })
        .await;
        calls.close();
        if tokio::time::timeout(CALLS_GRACE, calls.wait())
            .await
            .is_err()
        {
            abandoned.cancel();
            calls.wait().await;
        }
    }

    /// Starts as many calls as there are free permits; waits for the first permit.
    async fn start_due_calls(
        self: &Arc<Self>,
        slots: &Arc<Semaphore>,
        calls: &TaskTracker,
        stopping: &CancellationToken,
        abandoned: &CancellationToken,
    ) -> Result<Found, EventStoreError> {
        let slot = stopping.run_until_cancelled(Arc::clone(slots).acquire_owned());
        let Some(Ok(slot)) = slot.await else {
            return Ok(Found::Nothing);
        };
        let mut free = vec![slot];
        free.extend(std::iter::from_fn(|| {
            Arc::clone(slots).try_acquire_owned().ok()
        }));
        let limit = u32::try_from(free.len()).unwrap_or(u32::MAX);
        let rows = self
            .queue
            .claim_timers(TimerLane::Calls, CALL_LEASE, limit)
            .await?;
        let more = rows.len() >= free.len();
        for (row, slot) in rows.into_iter().zip(free) {
            let call = Arc::clone(self).run_call(row, slot, abandoned.clone());
            calls.spawn(call);
        }
        Ok(Found::more_if(more))
    }

    async fn run_call(
        self: Arc<Self>,
        row: Timer,
        slot: OwnedSemaphorePermit,
        abandoned: CancellationToken,
    ) {
        let settled = abandoned.run_until_cancelled(self.run_row(row)).await;
        if let Some(Some(row)) = settled {
            self.drop_settled(&[row]).await;
        }
        drop(slot);
    }

    /// Runs one row; returns it if its command was settled before and it may still exist.
    async fn run_row(&self, row: Timer) -> Option<Timer> {
        let outcome = match self.orchestrator.effect_of(&row).await {
            Ok(None) => None,
            // If the pipeline has stopped, the row is left until its lease runs out.
            Ok(Some(effect)) => Some(self.perform(effect).await.ok()?),
            Err(error) => {
                let reason = telemetry::chain(&error);
                tracing::debug!(due = %row.id, reason, "an effect could not be read");
                return None;
            }
        };
        let performed = outcome.is_some();
        match self.submit(&row, outcome).await {
            Ok(Outcome::Duplicate(_)) => Some(row),
            // The handler's answer cannot be stored; the fact that it cannot is stored instead.
            Ok(Outcome::Dead(Dead::Malformed(error))) if performed => {
                let error = format!("the answer cannot be stored: {error}");
                let failed = EffectOutcome::Failed {
                    error,
                    is_final: true,
                    retry_after: None,
                };
                let second = self.submit(&row, Some(failed)).await;
                matches!(second, Ok(Outcome::Duplicate(_))).then_some(row)
            }
            // A row that was paused after the claim is claimed again once the pause ends, and one that
            // was set aside when its lease runs out; the lane has told.
            Ok(
                Outcome::Applied(_)
                | Outcome::Undecided(Undecided::Paused | Undecided::SetAside { .. }),
            )
            | Err(PipelineStopped) => None,
            // The row stays and is tried again when its lease runs out; no work is lost.
            Ok(outcome @ (Outcome::Rejected(_) | Outcome::Undecided(_) | Outcome::Dead(_))) => {
                tracing::error!(due = %row.id, ?outcome, "a timer was not applied");
                None
            }
        }
    }

    async fn submit(
        &self,
        row: &Timer,
        outcome: Option<EffectOutcome>,
    ) -> Result<Outcome, PipelineStopped> {
        let id = timer_command_id(row);
        let row = row.clone();
        let command = Command::FireTimer(FireTimer { row, outcome });
        self.pipeline
            .submit(CommandEnvelope::new(id, command))
            .await
    }

    async fn perform(&self, effect: Effect) -> Result<EffectOutcome, PipelineStopped> {
        match effect {
            Effect::Call(call) => Ok(self.handlers.call(&call).await),
            Effect::Command(envelope) => {
                let outcome = self.pipeline.submit(*envelope).await?;
                Ok(notified(outcome))
            }
        }
    }
}

/// The outcome of a command to another task. A duplicate has the outcome of the first.
fn notified(outcome: Outcome) -> EffectOutcome {
    let failed = |error: String, is_final| EffectOutcome::Failed {
        error,
        is_final,
        retry_after: None,
    };
    match outcome {
        Outcome::Applied(result) => EffectOutcome::Done {
            // Plain data with string keys always serializes.
            output: serde_json::to_value(result).unwrap_or_default(),
        },
        Outcome::Duplicate(RecordedOutcome::Applied { result }) => {
            EffectOutcome::Done { output: result }
        }
        Outcome::Duplicate(RecordedOutcome::Rejected { reason, detail }) => {
            failed(format!("{reason}: {detail}"), true)
        }
        Outcome::Rejected(rejection) => {
            failed(format!("{}: {}", rejection.code, rejection.detail), true)
        }
        Outcome::Dead(dead) => failed(dead.to_string(), true),
        Outcome::Undecided(undecided) => failed(undecided.to_string(), false),
    }
}
