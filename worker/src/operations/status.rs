//! The deployment at a glance, as far as the database knows.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    ids::{StepId, TaskId, WorkflowId},
    state::WorkflowPause,
    store::{EventStoreError, FailedOutboxRow, StepLoad, Store},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Messages that the broker has refused and that are listed.
const REFUSED_MAX: u32 = 20;
/// Steps that are listed: those of the first workflows by name.
const STEPS_MAX: usize = 1_000;

/// What the database says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// When it was read.
    pub at: DateTime<Utc>,
    /// The end of the log: whatever was committed changes it.
    pub log_end: String,
    /// Tasks by status.
    pub tasks: BTreeMap<String, i64>,
    /// The tasks that have not ended, by workflow, revision and step. A task in two steps is in both.
    pub steps: Vec<StepStatus>,
    /// What waits to be published.
    pub outbox: OutboxStatus,
    /// Timers that are due and were not run yet.
    pub timers: TimerStatus,
    /// The workflows that are paused or archived.
    pub paused: Vec<WorkflowPause>,
}

/// The tasks in a step that have not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepStatus {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The number of the revision.
    pub revision: u32,
    /// The step.
    pub step_id: StepId,
    /// Running tasks.
    pub running: u64,
    /// Paused tasks.
    pub paused: u64,
    /// Tasks with an open incident, in this step or another one.
    pub with_incidents: u64,
    /// When something last happened to the running task that has been left alone longest.
    pub oldest_at: Option<DateTime<Utc>>,
}

impl From<StepLoad> for StepStatus {
    fn from(load: StepLoad) -> Self {
        Self {
            workflow: load.workflow,
            revision: load.revision,
            step_id: load.step_id,
            running: load.running,
            paused: load.paused,
            with_incidents: load.with_incidents,
            oldest_at: load.oldest_at,
        }
    }
}

/// What waits to be published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutboxStatus {
    /// Rows that wait: what one commit said about a task.
    pub pending: i64,
    /// Age of the oldest one, in seconds.
    pub oldest_seconds: f64,
    /// Those whose message the broker has refused, oldest first, at most twenty.
    pub refused: Vec<RefusedMessage>,
}

/// A message that the broker has refused. It is sent again, and holds back its own task only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedMessage {
    /// The task.
    pub task_id: Option<TaskId>,
    /// Attempts so far.
    pub attempts: i32,
    /// Why the last one failed.
    pub error: String,
}

impl From<FailedOutboxRow> for RefusedMessage {
    fn from(failed: FailedOutboxRow) -> Self {
        Self {
            task_id: failed.row.task_id,
            attempts: failed.row.attempts,
            error: failed.error,
        }
    }
}

/// Timers that are due.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimerStatus {
    /// How many.
    pub due: i64,
    /// For how long the oldest has been due, in seconds.
    pub oldest_seconds: f64,
}

/// Reads the figures. Those of tasks are read again only if something was committed since `last`.
///
/// # Errors
///
/// The store cannot be read.
pub async fn figures(
    store: &dyn Store,
    last: Option<&Figures>,
) -> Result<Figures, EventStoreError> {
    let log_end = store.log_end().await?.to_string();
    let known = last.filter(|last| last.log_end == log_end);
    let (tasks, steps) = if let Some(known) = known {
        (known.tasks.clone(), known.steps.clone())
    } else {
        let counts = store.task_counts().await?.into_iter();
        let loads = store.step_loads().await?.into_iter();
        (
            counts
                .map(|(status, count)| (status.as_str().to_owned(), count))
                .collect(),
            loads.take(STEPS_MAX).map(StepStatus::from).collect(),
        )
    };
    let outbox = store.outbox_stats().await?;
    // Mostly nothing waits, and then nothing was refused.
    let refused = if outbox.pending == 0 {
        Vec::new()
    } else {
        store.outbox_failed(REFUSED_MAX).await?
    };
    let timers = store.timer_stats().await?;
    Ok(Figures {
        at: Utc::now(),
        log_end,
        tasks,
        steps,
        outbox: OutboxStatus {
            pending: outbox.pending,
            oldest_seconds: outbox.oldest_seconds,
            refused: refused.into_iter().map(RefusedMessage::from).collect(),
        },
        timers: TimerStatus {
            due: timers.due,
            oldest_seconds: timers.oldest_seconds,
        },
        paused: store.workflow_pauses().await?.active,
    })
}
