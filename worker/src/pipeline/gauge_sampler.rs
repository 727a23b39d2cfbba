//! Reads from the store what no single command can measure: tasks by status, and waiting times.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use glyph_workflow_engine::{
    config::StepType,
    ids::{RevisionId, TaskId},
    limits::PAGE_MAX,
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
/// A reading is repeated only after this many times as long as it took: it takes no more than a
/// fiftieth of one connection.
const PAUSE_FACTOR: u32 = 50;
/// No more tasks with incidents are counted.
const INCIDENTS_MAX: u32 = 10_000;
/// For so long running tasks are looked at in one reading; the next one goes on where it ended.
const LOOK_TIME_MAX: Duration = Duration::from_millis(100);

/// What is read from the store or the broker, each by itself. What a reading costs does not grow with
/// the number of tasks or timers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reading {
    Tasks,
    Timers,
    Goals,
    Agreement,
    Waiting,
    Incidents,
    Projections,
    DeadLetters,
}

impl Reading {
    const ALL: [Self; 8] = [
        Self::Tasks,
        Self::Timers,
        Self::Goals,
        Self::Agreement,
        Self::Waiting,
        Self::Incidents,
        Self::Projections,
        Self::DeadLetters,
    ];
}

/// When each reading is due.
struct Schedule([(Reading, Instant); Reading::ALL.len()]);

impl Schedule {
    fn new(now: Instant) -> Self {
        Self(Reading::ALL.map(|reading| (reading, now)))
    }

    fn due(&self, now: Instant) -> Vec<Reading> {
        let due = self.0.iter().filter(|(_, due)| *due <= now);
        due.map(|(reading, _)| *reading).collect()
    }

    /// Records how a reading ended. One that failed is told, and hinders no other.
    fn ended(
        &mut self,
        reading: Reading,
        result: Result<(), EventStoreError>,
        begun: Instant,
        now: Instant,
    ) {
        if let Err(error) = result {
            let error = telemetry::chain(&error);
            tracing::warn!(gauge = ?reading, error, "a gauge keeps its last value");
        }
        for (_, due) in self.0.iter_mut().filter(|(of, _)| *of == reading) {
            *due = now + SAMPLE_EVERY.max((now - begun) * PAUSE_FACTOR);
        }
    }
}

/// A look at all running tasks, page by page, for who has waited longest. With many tasks it takes
/// several readings.
pub(super) struct Look {
    begun: Instant,
    /// The last task that was looked at.
    after: Option<TaskId>,
    /// For how long the task that waits longest had waited when the look began, in seconds, by step
    /// type; below zero where it began to wait later.
    waited: BTreeMap<&'static str, f64>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            after: None,
            waited: BTreeMap::new(),
        }
    }
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
    pub(super) look: Look,
    pub(super) stopping: CancellationToken,
}

impl GaugeSampler {
    /// Runs until stopped.
    pub(super) async fn run(mut self) {
        let mut schedule = Schedule::new(Instant::now());
        loop {
            self.show_process();
            for reading in schedule.due(Instant::now()) {
                if self.stopping.is_cancelled() {
                    return;
                }
                let begun = Instant::now();
                let result = self.read(reading).await;
                schedule.ended(reading, result, begun, Instant::now());
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(SAMPLE_EVERY) => {}
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
                self.store.fold_task_counts().await?;
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
            Reading::Incidents => {
                let count = self.store.tasks_with_incidents(INCIDENTS_MAX).await?;
                self.metrics.tasks_with_incidents(count);
            }
            Reading::Projections => {
                let lags = self.store.projection_lags().await?;
                self.metrics.projection_lags(&lags);
            }
            Reading::DeadLetters => {
                let Some(source) = &self.source else {
                    return Ok(());
                };
                match source.dead_letters().await {
                    Some(count) => self.metrics.dead_letters_waiting(count),
                    // Readiness says already that the broker is away.
                    None if !source.state().borrow().consuming => {}
                    None => {
                        let why = "the broker did not say how many dead letters there are";
                        return Err(EventStoreError::Other(why.into()));
                    }
                }
            }
        }
        Ok(())
    }

    async fn sample_waiting(&mut self) -> Result<(), EventStoreError> {
        let begun = Instant::now();
        if self.look.after.is_none() {
            self.look = Look::default();
        }
        while begun.elapsed() < LOOK_TIME_MAX {
            let page = self.store.waiting(self.look.after, PAGE_MAX).await?;
            for step in page.steps {
                if let Some(kind) = self.step_type(step.revision_id, &step.step_id).await? {
                    let waited = step.oldest_seconds - self.look.begun.elapsed().as_secs_f64();
                    let longest = self.look.waited.entry(kind.as_str()).or_insert(waited);
                    *longest = longest.max(waited);
                }
            }
            self.look.after = page.next_after;
            if self.look.after.is_none() {
                for kind in StepType::ALL {
                    let waited = self.look.waited.get(kind.as_str());
                    let waits =
                        waited.map(|waited| waited + self.look.begun.elapsed().as_secs_f64());
                    self.metrics
                        .waiting_oldest(kind, waits.unwrap_or_default().max(0.0));
                }
                break;
            }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing::{Level, Subscriber, field, span};

    use super::*;

    /// Keeps the gauges that are warned about.
    #[derive(Clone, Default)]
    struct Warned(Arc<Mutex<Vec<String>>>);

    impl Subscriber for Warned {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            event.record(&mut |field: &field::Field, value: &dyn std::fmt::Debug| {
                if field.name() == "gauge" {
                    self.0.lock().unwrap().push(format!("{value:?}"));
                }
            });
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn each_gauge_fails_alone_and_is_told_of() {
        for failing in Reading::ALL {
            let warned = Warned::default();
            let _told = tracing::subscriber::set_default(warned.clone());
            let mut now = Instant::now();
            let mut schedule = Schedule::new(now);
            for _ in 0..2 {
                assert_eq!(schedule.due(now), Reading::ALL);
                for reading in schedule.due(now) {
                    let result = if reading == failing {
                        Err(EventStoreError::Other("of the test".into()))
                    } else {
                        Ok(())
                    };
                    schedule.ended(reading, result, now, now);
                }
                assert_eq!(schedule.due(now), []);
                now += SAMPLE_EVERY;
            }
            let name = format!("{failing:?}");
            assert_eq!(*warned.0.lock().unwrap(), [name.clone(), name]);
        }
    }

    #[test]
    fn a_slow_reading_is_repeated_seldom_and_the_others_are_not() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        let second = Duration::from_secs(1);
        for reading in schedule.due(now) {
            let begun = if reading == Reading::Tasks {
                now
            } else {
                now + second
            };
            schedule.ended(reading, Ok(()), begun, now + second);
        }
        now += second + SAMPLE_EVERY;
        let others = Reading::ALL
            .into_iter()
            .filter(|one| *one != Reading::Tasks);
        assert_eq!(schedule.due(now), others.collect::<Vec<_>>());
        now += second * PAUSE_FACTOR;
        assert_eq!(schedule.due(now), Reading::ALL);
    }
}
