//! Volume goals: counted from the log, exactly once.
//!
//! The store runs [`GoalProjector::step`] over the next events of the log and commits rows, messages
//! and checkpoint together; one process at a time.
//!
//! A goal that is new counts from the beginning of the log: when a revision brings one, all goals
//! are counted anew. Completion messages have ids of goal and epoch, so a recount repeats none.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use glyph_workflow_engine::{
    WorkflowConfig,
    config::CompletionActionConfig,
    goals::{GoalDefinition, GoalTracker},
    ids::{RevisionId, Slug, WorkflowId},
    limits::PAGE_MAX,
    store::{
        EventStoreError, GoalProgressRow, GoalProjection, LogEntry, LogPosition, NewOutboxRow,
        Store, WorkflowConfigStore,
    },
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{backoff::Backoff, telemetry, wire::CloudEventMessages};

/// How often the log is looked at; bounds how late a goal is seen to be met.
const POLL: Duration = Duration::from_secs(1);
/// A goal tells of its progress at most once in this time; what came in between is in the next one.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

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

    /// The pure part: counts the entries.
    fn project(
        &self,
        mut tracker: GoalTracker,
        entries: &[LogEntry],
        at_beginning: bool,
    ) -> GoalProjection {
        if at_beginning {
            tracker.open_missing();
        }
        for entry in entries {
            tracker.apply(&entry.workflow, &entry.event);
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
