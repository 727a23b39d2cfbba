//! Reads from the store what no single command can measure: tasks by status, and waiting times.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use glyph_workflow_engine::{
    config::StepType,
    ids::RevisionId,
    store::{EventStoreError, Store, WorkflowConfigStore},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    aside::SetAside,
    gate::{Gate, IntakePauseReason},
};
use crate::{
    broker::CommandSource,
    metrics::Metrics,
    projections::{agreement, read_goals},
    telemetry,
};

const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// A reading is repeated only after this many times as long as it took: whatever the number of tasks
/// and timers, reading it takes no more than a fiftieth of one connection.
const PAUSE_FACTOR: u32 = 50;

/// What is read from the store or the broker, each by itself.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Tasks,
    Timers,
    Goals,
    Agreement,
    Waiting,
    DeadLetters,
}

impl Reading {
    const ALL: [Self; 6] = [
        Self::Tasks,
        Self::Timers,
        Self::Goals,
        Self::Agreement,
        Self::Waiting,
        Self::DeadLetters,
    ];
}

/// Keeps the gauges up to date.
pub(super) struct GaugeSampler {
    pub(super) store: Arc<dyn Store>,
    pub(super) source: Option<Arc<dyn CommandSource>>,
    pub(super) gate: Arc<Gate>,
    pub(super) aside: Arc<SetAside>,
    pub(super) metrics: Arc<Metrics>,
    /// Step types by revision; revisions never change, so each is read once.
    pub(super) step_types: HashMap<RevisionId, HashMap<String, StepType>>,
    pub(super) stopping: CancellationToken,
}

impl GaugeSampler {
    /// Runs until stopped.
    pub(super) async fn run(mut self) {
        let mut due = Reading::ALL.map(|reading| (reading, Instant::now()));
        loop {
            self.show_process();
            for (reading, due) in &mut due {
                if *due > Instant::now() || self.stopping.is_cancelled() {
                    continue;
                }
                let begun = Instant::now();
                if let Err(error) = self.read(*reading).await {
                    let error = telemetry::chain(&error);
                    tracing::warn!(gauge = ?reading, error, "a gauge keeps its last value");
                }
                *due = Instant::now() + SAMPLE_EVERY.max(begun.elapsed() * PAUSE_FACTOR);
            }
            tokio::select! {
                () = tokio::time::sleep(SAMPLE_EVERY) => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// What this process knows of itself.
    fn show_process(&self) {
        let reasons = self.gate.reasons().borrow().clone();
        for reason in IntakePauseReason::ALL {
            let is_held = reasons.contains(&reason);
            self.metrics.intake_held(reason.as_str(), is_held);
        }
        if let Some(source) = &self.source {
            let consuming = source.state().borrow().consuming && reasons.is_empty();
            self.metrics.consumer_connected(consuming);
        }
        for (reason, count) in self.aside.counts() {
            self.metrics.set_aside(reason, count.tasks, count.oldest);
        }
    }

    async fn read(&mut self, reading: Reading) -> Result<(), EventStoreError> {
        match reading {
            Reading::Tasks => {
                for (status, count) in self.store.task_counts().await? {
                    self.metrics.tasks(status, count);
                }
            }
            Reading::Timers => self.metrics.timers(&self.store.timer_stats().await?),
            Reading::Goals => {
                let goals = read_goals(&*self.store).await?;
                self.metrics.goals(
                    goals
                        .values()
                        .map(|goal| (goal.workflow.as_str(), goal.goal().as_str(), goal.ratio())),
                );
            }
            Reading::Agreement => {
                let windows = agreement::summaries(&*self.store).await?;
                self.metrics.agreement_windows(&windows);
            }
            Reading::Waiting => self.sample_waiting().await?,
            Reading::DeadLetters => {
                if let Some(source) = &self.source
                    && let Some(count) = source.dead_letters().await
                {
                    self.metrics.dead_letters_waiting(count);
                }
            }
        }
        Ok(())
    }

    async fn sample_waiting(&mut self) -> Result<(), EventStoreError> {
        let mut oldest: BTreeMap<&'static str, (StepType, f64)> = StepType::ALL
            .into_iter()
            .map(|kind| (kind.as_str(), (kind, 0.0)))
            .collect();
        for step in self.store.waiting_oldest().await? {
            let Some(kind) = self.step_type(step.revision_id, &step.step_id).await? else {
                continue;
            };
            if let Some((_, longest)) = oldest.get_mut(kind.as_str()) {
                *longest = longest.max(step.oldest_seconds);
            }
        }
        for (kind, seconds) in oldest.into_values() {
            self.metrics.waiting_oldest(kind, seconds);
        }
        Ok(())
    }

    async fn step_type(
        &mut self,
        revision: RevisionId,
        step: &str,
    ) -> Result<Option<StepType>, EventStoreError> {
        if !self.step_types.contains_key(&revision) {
            let config = WorkflowConfigStore::load(&*self.store, revision.0).await?;
            let steps = config.into_iter().flat_map(|config| config.steps);
            let kinds = steps.map(|step| (step.id.to_string(), step.kind)).collect();
            self.step_types.insert(revision, kinds);
        }
        Ok(self
            .step_types
            .get(&revision)
            .and_then(|kinds| kinds.get(step))
            .copied())
    }
}
