//! Goals: folded from the log, exactly once.
//!
//! Each step is opened under the lock of the projection. It folds the next events of the log,
//! advances to the time up to which the log is complete, and commits rows, messages, actions and
//! checkpoint together. After a crash, the next step starts from the last commit. The fold itself
//! determines the instants at which time has an effect, so the result does not depend on how the
//! log is divided into steps.
//!
//! Completions, alerts and actions have ids derived from goal and epoch. The ids are kept for good,
//! so that a rebuild repeats none of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::{
    WorkflowConfig, WorkflowEvent, completions_of,
    config::CompletionActionConfig,
    events::StoredEvent,
    goals::{CompletionAction, GoalDefinition, GoalEffect, GoalProgress, GoalTracker, Goals},
    ids::{RevisionId, Slug, TaskId, WorkflowId},
    limits::{FOLDED_MAX, PAGE_MAX},
    store::{
        CommandRow, EventStoreError, LogEntry, NewGoalAction, ProjectionRows, ProjectionWrite,
        RecordedOutcome, Store, WorkflowConfigStore,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    pace::{Follows, PageOutcome, commit, follow},
    rounds::Rounds,
};
use crate::{
    failpoints::Failpoints,
    wire::{CloudEventMessages, GoalReport, from_goals::ToldIn},
};

/// The name of the projection.
pub const GOALS: &str = "goals";

/// At most one progress message per goal in this time; the next message includes the changes in
/// between.
const PROGRESS_EVERY: TimeDelta = TimeDelta::seconds(5);
/// Prefix of the rows that record the last progress message; they are not part of the fold.
const NOTIFIED: &str = "told/";

/// Folds the log into the progress of goals, and publishes it.
pub struct GoalProjector {
    store: Arc<dyn Store>,
    messages: CloudEventMessages,
    /// Whether progress messages are sent; a recount by an operator sends only completions and
    /// alerts.
    reports_progress: bool,
    revisions: Mutex<HashMap<RevisionId, Arc<WorkflowConfig>>>,
    failpoints: Failpoints,
}

impl Follows for GoalProjector {
    const NAME: &'static str = GOALS;
    /// Bounds how late a reached goal is noticed.
    const POLL: Duration = Duration::from_secs(1);

    async fn next(&self) -> Result<PageOutcome, EventStoreError> {
        self.step().await
    }
}

/// The last progress message about a goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Notified {
    at: DateTime<Utc>,
    epoch: u32,
    current: Option<f64>,
}

/// The current state of all goals.
pub async fn read_goals(store: &dyn Store) -> Result<Goals, EventStoreError> {
    let rows = store.projection_rows(GOALS).await?;
    glyph_workflow_engine::goals::goals_of(&rows).map_err(unreadable)
}

/// One goal. If no worker has counted it yet, it is taken from the newest revision, without
/// progress.
pub async fn find_goal(
    store: &dyn Store,
    workflow: &WorkflowId,
    goal: &Slug,
) -> Result<Option<GoalProgress>, EventStoreError> {
    let key = (workflow.clone(), goal.clone());
    if let Some(mut found) = read_goals(store).await?.remove(&key) {
        if found.completed_at.is_none() && found.config.is_by_hand() {
            found.completed_at = recorded_since(store, workflow, goal, found.since).await?;
        }
        return Ok(Some(found));
    }
    let Some(config) = store.load_by_name(workflow).await? else {
        return Ok(None);
    };
    let Some(config) = config.goals.iter().find(|config| config.id == *goal) else {
        return Ok(None);
    };
    let since = DateTime::UNIX_EPOCH;
    let mut found = GoalProgress::new(GoalDefinition {
        workflow: workflow.clone(),
        revision: 0,
        since,
        config: config.clone(),
    });
    if config.is_by_hand() {
        found.completed_at = recorded_since(store, workflow, goal, since).await?;
    }
    Ok(Some(found))
}

/// When a person last confirmed that the goal is reached, even if that is too recent to be counted.
async fn recorded_since(
    store: &dyn Store,
    workflow: &WorkflowId,
    goal: &Slug,
    since: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, EventStoreError> {
    let says_so = |row: &CommandRow| match &row.outcome {
        RecordedOutcome::Applied { result } => {
            result["workflow"] == workflow.as_str()
                && result["goal"] == goal.as_str()
                && row.decided_at >= since
        }
        RecordedOutcome::Rejected { .. } => false,
    };
    let operator_commands = store.operator_commands().await?;
    Ok(operator_commands
        .iter()
        .rfind(|row| says_so(row))
        .map(|row| row.decided_at))
}

fn unreadable(error: serde_json::Error) -> EventStoreError {
    EventStoreError::Row {
        table: "projection_rows",
        source: Box::new(error),
    }
}

impl GoalProjector {
    /// A projector; several processes may each have one.
    pub fn new(store: Arc<dyn Store>, messages: CloudEventMessages) -> Self {
        Self {
            store,
            messages,
            reports_progress: true,
            revisions: Mutex::default(),
            failpoints: Failpoints::default(),
        }
    }

    /// Turns progress messages off.
    #[must_use]
    pub fn without_progress(mut self) -> Self {
        self.reports_progress = false;
        self
    }

    /// Adds the crash points of the tests.
    #[must_use]
    pub fn with_failpoints(mut self, failpoints: Failpoints) -> Self {
        self.failpoints = failpoints;
        self
    }

    /// Runs until stopped, in step with the other projections of `rounds`.
    pub async fn run(self, rounds: Rounds, stopping: CancellationToken) {
        follow(&self, &rounds, &stopping).await;
    }

    /// Folds at most one page of new log entries, and advances to the present.
    pub async fn step(&self) -> Result<PageOutcome, EventStoreError> {
        let definitions = self.definitions().await?;
        if definitions.is_empty() {
            // There is nothing to count; the first goal will start from the beginning of the log.
            return Ok(PageOutcome::CaughtUp);
        }
        // Of each task whose work counts once the stream is read, while the step is open.
        let reads_streams = definitions.iter().any(|goal| goal.config.dedupe);
        let limit = if reads_streams { PAGE_MAX } else { FOLDED_MAX };
        let Some(mut step) = self.store.open_projection(GOALS, limit).await? else {
            return Ok(PageOutcome::Elsewhere);
        };
        // Read after the step was opened, so that they include all that was settled by then.
        let definitions = self.definitions().await?;
        let rows = std::mem::take(&mut step.rows);
        let completions = completions_of(&self.store.operator_commands().await?);
        let mut tracker =
            GoalTracker::resume(rows.clone(), definitions, completions).map_err(unreadable)?;
        if tracker.must_begin_anew() {
            drop(step);
            tracing::info!("a goal asks for more than was counted; all goals are made anew");
            self.store.reset_projection(GOALS).await?;
            return Ok(PageOutcome::MORE);
        }
        let mut streams = Streams::default();
        for entry in &step.entries {
            let is_first =
                !tracker.asks_for_first(entry) || streams.is_first(&*self.store, entry).await?;
            tracker.apply(entry, is_first);
        }
        tracker.advance(step.settled);
        let found = tracker.finish().map_err(unreadable)?;
        let log = std::mem::take(&mut step.log);
        let told = ToldIn {
            log: &log,
            now: step.now,
        };
        let mut write = ProjectionWrite {
            rows: found.rows.into_iter().map(|(k, v)| (k, Some(v))).collect(),
            ..ProjectionWrite::default()
        };
        for effect in &found.effects {
            self.bring_about(effect, &found.goals, told, &mut write);
        }
        for goal in found.goals.values() {
            self.report_progress(goal, &found.goals, &rows, told, &mut write);
        }
        let outcome = PageOutcome::of(&step);
        if outcome != PageOutcome::CaughtUp || !write.rows.is_empty() {
            commit(step, write, &self.failpoints).await?;
        }
        Ok(outcome)
    }

    fn bring_about(
        &self,
        effect: &GoalEffect,
        goals: &Goals,
        told: ToldIn<'_>,
        write: &mut ProjectionWrite,
    ) {
        let now = told.now;
        match effect {
            GoalEffect::Alert(alert) => {
                let report = GoalReport::of(&alert.progress, goals, alert.at);
                write
                    .messages
                    .extend(self.messages.goal_alert(alert, report, told));
            }
            GoalEffect::Completed(completed) => {
                let report = GoalReport::of(&completed.progress, goals, now);
                match &completed.action {
                    CompletionActionConfig::Notify => {
                        write
                            .messages
                            .extend(self.messages.goal_completed(&report, told));
                    }
                    CompletionActionConfig::TriggerWebhook(config) => {
                        let body = json!({"type": "goal.completed", "time": now, "data": report});
                        let payload = json!({"config": config, "body": body});
                        write.actions.push(outside(completed, payload));
                    }
                    CompletionActionConfig::Pause | CompletionActionConfig::Archive => {
                        write.actions.push(outside(completed, Value::Null));
                    }
                }
            }
        }
    }

    /// Sends a progress message if the goal has changed and the last message is old enough. The
    /// last message is recorded in a row, so all workers of a deployment share one pace.
    fn report_progress(
        &self,
        goal: &GoalProgress,
        goals: &Goals,
        rows: &ProjectionRows,
        told: ToldIn<'_>,
        write: &mut ProjectionWrite,
    ) {
        let now = told.now;
        let key = format!("{NOTIFIED}{}/{}", goal.workflow, goal.goal());
        let last = rows
            .get(&key)
            .and_then(|row| Notified::deserialize(row).ok());
        let (epoch, current) = (goal.epoch, goal.current());
        let has_moved = match &last {
            None => current.is_some_and(|current| current > 0.0),
            Some(last) => last.current != current && now - last.at >= PROGRESS_EVERY,
        };
        if !has_moved {
            return;
        }
        let notified = Notified {
            at: now,
            epoch,
            current,
        };
        write.rows.insert(key, Some(json!(notified)));
        if self.reports_progress {
            let report = GoalReport::of(goal, goals, now);
            write
                .messages
                .extend(self.messages.goal_progressed(&report, told));
        }
    }

    /// The goals of all revisions of all workflows.
    async fn definitions(&self) -> Result<Vec<GoalDefinition>, EventStoreError> {
        let mut definitions = Vec::new();
        for row in self.store.revisions(None).await? {
            let Some(config) = self.revision(row.id).await? else {
                continue;
            };
            definitions.extend(config.goals.iter().map(|goal| GoalDefinition {
                workflow: row.workflow.clone(),
                revision: row.revision,
                since: row.created_at,
                config: goal.clone(),
            }));
        }
        Ok(definitions)
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

/// An action that is performed outside the transaction, by the process that claims it.
fn outside(completed: &CompletionAction, payload: Value) -> NewGoalAction {
    let progress = &completed.progress;
    NewGoalAction {
        id: completed.id(),
        workflow: progress.workflow.clone(),
        goal: progress.goal().clone(),
        epoch: progress.epoch,
        action: completed.action.as_str().to_owned(),
        payload,
    }
}

/// Streams that were read to check whether an annotation is its annotator's first.
#[derive(Default)]
struct Streams(HashMap<TaskId, Vec<StoredEvent>>);

impl Streams {
    /// Whether the annotator of this event had not submitted to the step before. The part of a
    /// stream before an event never changes, so the result is always the same.
    async fn is_first(
        &mut self,
        store: &dyn Store,
        entry: &LogEntry,
    ) -> Result<bool, EventStoreError> {
        let WorkflowEvent::AnnotationSubmitted {
            step_id,
            annotation,
            ..
        } = &entry.event.event
        else {
            return Ok(true);
        };
        let (task, version) = (entry.event.task_id, entry.event.version);
        let stream = self.0.entry(task).or_default();
        while stream.last().is_none_or(|last| last.version < version) {
            let after = stream.last().map_or(0, |last| last.version);
            let page = store.events(task, after, PAGE_MAX).await?;
            if page.events.is_empty() {
                break;
            }
            stream.extend(page.events);
        }
        let mut before = stream.iter().take_while(|event| event.version < version);
        Ok(!before.any(|event| match &event.event {
            WorkflowEvent::AnnotationSubmitted {
                step_id: step,
                annotation: earlier,
                ..
            } => step == step_id && earlier.user_id == annotation.user_id,
            _ => false,
        }))
    }
}
