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
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::BrokerState,
    metrics::Metrics,
    projections::{agreement, read_goals},
};

const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// Keeps the gauges up to date.
pub(super) struct GaugeSampler {
    pub(super) store: Arc<dyn Store>,
    pub(super) consumer: Option<watch::Receiver<BrokerState>>,
    pub(super) metrics: Arc<Metrics>,
    /// Step types by revision; revisions never change, so each is read once.
    pub(super) step_types: HashMap<RevisionId, HashMap<String, StepType>>,
    pub(super) stopping: CancellationToken,
}

impl GaugeSampler {
    /// Runs until stopped.
    pub(super) async fn run(mut self) {
        loop {
            if let Some(consumer) = &self.consumer {
                self.metrics.consumer_connected(consumer.borrow().consuming);
            }
            if let Err(error) = self.sample().await {
                tracing::debug!(%error, "gauges could not be read; they keep their last values");
            }
            tokio::select! {
                () = tokio::time::sleep(SAMPLE_EVERY) => {}
                () = self.stopping.cancelled() => return,
            }
        }
    }

    async fn sample(&mut self) -> Result<(), EventStoreError> {
        for (status, count) in self.store.task_counts().await? {
            self.metrics.tasks(status, count);
        }
        self.metrics.timers_due(self.store.timer_stats().await?.due);
        let goals = read_goals(&*self.store).await?;
        self.metrics.goals(
            goals
                .values()
                .map(|goal| (goal.workflow.as_str(), goal.goal().as_str(), goal.ratio())),
        );
        self.metrics
            .agreement_windows(&agreement::summaries(&*self.store).await?);
        self.sample_waiting().await
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
