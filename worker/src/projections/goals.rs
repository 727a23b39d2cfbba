//! Volume goals: counted from the log, exactly once.
//!
//! The store runs [`GoalProjector::step`] over the next events of the log and commits rows, messages
//! and checkpoint together; one process at a time. Which workflow an event belongs to stands in the
//! first event of its task, so the projector remembers it, and asks the store where it does not.
//!
//! A goal that is new counts from the beginning of the log: when a revision brings one, all goals
//! are counted anew. Completion messages have ids of goal and epoch, so a recount repeats none.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use futures::{StreamExt, stream};
use glyph_workflow_engine::{
    WorkflowConfig, WorkflowEvent,
    config::CompletionActionConfig,
    goals::{GoalDefinition, GoalTracker, VolumeUnit},
    ids::{RevisionId, Slug, TaskId, WorkflowId},
    limits::PAGE_MAX,
    store::{
        EventStoreError, GoalProgressRow, GoalProjection, LogEntry, LogPosition, NewOutboxRow,
        Store, WorkflowConfigStore,
    },
};
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{backoff::Backoff, telemetry, wire::CloudEventMessages};

/// How often the log is looked at; bounds how late a goal is seen to be met.
const POLL: Duration = Duration::from_secs(1);
/// A goal tells of its progress at most once in this time; what came in between is in the next one.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Tasks whose workflow is remembered; of others the store is asked.
const TASKS_KEPT: usize = 100_000;
/// Lookups under way at a time.
const LOOKUPS: usize = 4;

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// So many events were read; there may be more.
    Read(usize),
    /// There was nothing new.
    CaughtUp,
    /// Another process is at it.
    Elsewhere,
}

/// Counts towards goals, and tells of it.
pub struct GoalProjector {
    store: Arc<dyn Store>,
    messages: CloudEventMessages,
    /// Whether progress is told of as it comes; a recount by an operator tells of completions only.
    tells_progress: bool,
    workflows: Cache<TaskId, WorkflowId>,
    revisions: Mutex<HashMap<RevisionId, Arc<WorkflowConfig>>>,
    /// When each goal was last told of, and how far it was.
    told: Mutex<BTreeMap<(WorkflowId, Slug), (Instant, f64)>>,
}

impl GoalProjector {
    /// A projector; several processes may each have one.
    pub fn new(store: Arc<dyn Store>, messages: CloudEventMessages) -> Self {
        Self {
            store,
            messages,
            tells_progress: true,
            workflows: Cache::new(TASKS_KEPT),
            revisions: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// The same, telling of completions only.
    #[must_use]
    pub fn without_progress(mut self) -> Self {
        self.tells_progress = false;
        self
    }

    /// Runs until stopped.
    pub async fn run(self, stopping: CancellationToken) {
        let mut backoff = Backoff::new(POLL, Duration::from_secs(30));
        while !stopping.is_cancelled() {
            let wait = match self.step().await {
                Ok(StepOutcome::Read(_)) => Duration::ZERO,
                Ok(StepOutcome::CaughtUp | StepOutcome::Elsewhere) => {
                    backoff.reset();
                    POLL
                }
                Err(error) => {
                    let error = telemetry::chain(&error);
                    tracing::warn!(error, "goals could not be counted; trying again");
                    backoff.next()
                }
            };
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = stopping.cancelled() => {}
                }
            }
        }
    }

    /// Reads what is new in the log, at most one page of it.
    pub async fn step(&self) -> Result<StepOutcome, EventStoreError> {
        let definitions = self.definitions().await?;
        if definitions.is_empty() {
            // Nothing counts; the first goal will begin with the log.
            return Ok(StepOutcome::CaughtUp);
        }
        let beginning = self.store.read_log(LogPosition::default(), 1).await?;
        let beginning = beginning.first().map(|entry| entry.position);
        let known = self.store.goals().await?;
        let missing = GoalTracker::new(definitions.clone(), known)
            .missing()
            .count();
        let recount = Mutex::new(false);
        let project = |rows: Vec<GoalProgressRow>, entries: &[LogEntry]| {
            let at_beginning = entries.first().map(|entry| entry.position) == beginning;
            let tracker = GoalTracker::new(definitions.clone(), rows);
            let is_short = tracker.missing().next().is_some() && !at_beginning;
            *recount.lock().unwrap_or_else(PoisonError::into_inner) = is_short;
            self.project(tracker, entries, at_beginning)
        };
        let read = self.store.project_goals(&project, PAGE_MAX).await?;
        let is_short = recount.into_inner().unwrap_or_else(PoisonError::into_inner);
        match read {
            None => Ok(StepOutcome::Elsewhere),
            // A goal without a row, and nothing to read that would have made one: its count must
            // begin with the log, unless there is no log yet.
            Some(read) if is_short || (read == 0 && missing > 0 && beginning.is_some()) => {
                tracing::info!("a goal is new; counting all goals from the beginning of the log");
                self.store.reset_goals().await?;
                Ok(StepOutcome::Read(read))
            }
            Some(0) => {
                self.tell_the_rest().await?;
                Ok(StepOutcome::CaughtUp)
            }
            Some(read) => Ok(StepOutcome::Read(read)),
        }
    }

    /// The pure part with its lookups: counts the entries.
    fn project(
        &self,
        mut tracker: GoalTracker,
        entries: &[LogEntry],
        at_beginning: bool,
    ) -> GoalProjection {
        if at_beginning {
            tracker.open_missing();
        }
        self.remember(entries);
        for entry in entries {
            if VolumeUnit::counted_by(&entry.event.event).is_some()
                && let Some(workflow) = self.workflows.get(&entry.event.task_id)
            {
                tracker.apply(&workflow, &entry.event);
            }
        }
        let now = Utc::now();
        let progress = tracker.finish();
        let completed = progress
            .actions
            .iter()
            .filter(|action| match action.action {
                CompletionActionConfig::Notify => true,
                // Goals with other actions are refused when a workflow is created.
                CompletionActionConfig::Pause
                | CompletionActionConfig::TriggerWebhook
                | CompletionActionConfig::Archive => false,
            });
        let completed = completed.filter_map(|a| self.messages.goal_completed(&a.progress, now));
        let mut messages: Vec<NewOutboxRow> = completed.collect();
        messages.extend(self.progress_messages(&progress.changed));
        GoalProjection {
            rows: progress.changed,
            messages,
        }
    }

    /// Messages of goals that have come further and have not been told of for a while.
    fn progress_messages(&self, rows: &[GoalProgressRow]) -> Vec<NewOutboxRow> {
        if !self.tells_progress {
            return Vec::new();
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = rows.iter().filter(|row| {
            let key = (row.workflow.clone(), row.goal.clone());
            let is_due = told.get(&key).is_none_or(|(at, progress)| {
                now.duration_since(*at) >= PROGRESS_EVERY && row.current > *progress
            });
            if is_due {
                told.insert(key, (now, row.current));
            }
            is_due
        });
        due.filter_map(|row| self.messages.goal_progressed(row, Utc::now()))
            .collect()
    }

    /// Tells of progress that was held back while more was coming.
    async fn tell_the_rest(&self) -> Result<(), EventStoreError> {
        let is_behind = |row: &GoalProgressRow| {
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let key = (row.workflow.clone(), row.goal.clone());
            told.get(&key)
                .is_some_and(|(_, progress)| row.current > *progress)
        };
        let mut rows = self.store.goals().await?;
        rows.retain(is_behind);
        let messages = self.progress_messages(&rows);
        if messages.is_empty() {
            Ok(())
        } else {
            self.store.enqueue(messages).await
        }
    }

    /// Sees to it that the workflow of every task that counts is known.
    ///
    /// This runs inside the store's step, which is not asynchronous; so it asks on this thread and
    /// lets the runtime move its other tasks to the next one. After a restart that happens once
    /// for each task under way, later hardly ever.
    fn remember(&self, entries: &[LogEntry]) {
        let mut unknown = Vec::new();
        for LogEntry { event, .. } in entries {
            if let WorkflowEvent::WorkflowStarted(started) = &event.event {
                self.workflows
                    .insert(event.task_id, started.workflow.workflow.clone());
            } else if VolumeUnit::counted_by(&event.event).is_some()
                && self.workflows.get(&event.task_id).is_none()
            {
                unknown.push(event.task_id);
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        if !unknown.is_empty() {
            let looked_up = self.look_up(unknown);
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(looked_up);
            });
        }
    }

    async fn look_up(&self, tasks: Vec<TaskId>) {
        let lookups = stream::iter(tasks).map(|task| async move {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
            loop {
                match self.store.task(task).await {
                    Ok(row) => break row,
                    // Counting without an answer would miscount for good.
                    Err(error) => {
                        tracing::debug!(%error, "a task could not be looked up");
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
            }
        });
        let rows = lookups.buffer_unordered(LOOKUPS).collect::<Vec<_>>().await;
        for row in rows.into_iter().flatten() {
            self.workflows.insert(row.task_id, row.workflow);
        }
    }

    /// The goals of all workflows: of each workflow those of its revisions, as the newest revision
    /// that has the goal defines it.
    async fn definitions(&self) -> Result<Vec<GoalDefinition>, EventStoreError> {
        let mut histories: BTreeMap<WorkflowId, Vec<_>> = BTreeMap::new();
        for row in self.store.revisions(None).await? {
            let Some(config) = self.revision(row.id).await? else {
                continue;
            };
            histories
                .entry(row.workflow)
                .or_default()
                .push((config, row.created_at));
        }
        let definitions = histories.into_iter().flat_map(|(workflow, mut revisions)| {
            revisions.sort_by_key(|(config, _)| config.revision);
            let goals = revisions
                .iter()
                .map(|(config, at)| (config.goals.as_slice(), *at));
            GoalDefinition::across(&workflow, goals)
        });
        Ok(definitions.collect())
    }

    async fn revision(
        &self,
        id: RevisionId,
    ) -> Result<Option<Arc<WorkflowConfig>>, EventStoreError> {
        let kept = |revisions: &Mutex<HashMap<_, Arc<_>>>| {
            revisions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&id)
                .cloned()
        };
        if let Some(config) = kept(&self.revisions) {
            return Ok(Some(config));
        }
        let config = WorkflowConfigStore::load(&*self.store, id.0)
            .await?
            .map(Arc::new);
        if let Some(config) = &config {
            let mut revisions = self
                .revisions
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            revisions.insert(id, Arc::clone(config));
        }
        Ok(config)
    }
}
