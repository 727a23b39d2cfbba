//! Explains from state and events alone why a task waits, and how it was decided.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    WorkflowEvent, WorkflowSnapshot,
    config::{HookId, Target},
    events::{ConsensusCalculated, StoredEvent},
    ids::{StepId, TaskId},
    state::{ParentTask, Pause, PendingCall, StepResult, TaskStatus, Visit, WorkflowPause},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::waiting::{Known, Waiting, last_comparison, of_pause, waiting};

/// Why a task is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The task.
    pub task_id: TaskId,
    /// The version that is explained.
    pub version: u64,
    /// The status of the task.
    pub status: TaskStatus,
    /// The visit of the parent task that runs this task as its sub-workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentTask>,
    /// The explanation in one sentence.
    pub summary: String,
    /// The pause of the whole task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// The pause of all tasks of its workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_pause: Option<WorkflowPause>,
    /// The steps that wait, and what they wait for.
    pub waiting: Vec<Waiting>,
    /// Hooks that have not answered yet or were given up. No step waits for a pending hook unless
    /// `waiting` says so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookStatus>,
    /// The decisions so far in order, each with its basis.
    pub decisions: Vec<StepDecision>,
    /// The transitions that the task took.
    pub path: Vec<PathEntry>,
    /// The output of a completed task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// A hook that is pending or was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HookStatus {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// Which hook.
    #[serde(flatten)]
    pub hook: HookId,
    /// The call that has not been answered yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<PendingCall>,
    /// Why it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_up: Option<String>,
}

impl HookStatus {
    fn all(state: &WorkflowSnapshot) -> Vec<Self> {
        let visits = state
            .steps
            .iter()
            .flat_map(|(step, state)| state.visits.iter().map(move |visit| (step, visit)));
        let reliability = |step: &StepId, visit: &Visit, hook| Self {
            step_id: step.clone(),
            visit: visit.number,
            hook,
            call: None,
            given_up: None,
        };
        visits
            .flat_map(|(step, visit)| {
                let calls = visit.call.iter().chain(&visit.notifications);
                let pending = calls.filter_map(move |call| {
                    let call_of = reliability(step, visit, call.hook?);
                    let call = Some(call.clone());
                    Some(Self { call, ..call_of })
                });
                let given_up = visit.hooks_failed.iter().map(move |failed| Self {
                    given_up: Some(failed.error.clone()),
                    ..reliability(step, visit, failed.hook)
                });
                pending.chain(given_up)
            })
            .collect()
    }
}

/// How a visit ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepDecision {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// The version at which it ended.
    pub version: u64,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// The result.
    pub result: StepResult,
    /// The comparison behind it: metric, agreement, threshold, votes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consensus: Option<ConsensusCalculated>,
}

/// One transition that fired.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PathEntry {
    /// The step left.
    pub from_step: StepId,
    /// The step or terminal entered.
    pub to_step: Target,
    /// The condition under which it fired.
    pub condition_met: String,
    /// The version at which it fired.
    pub version: u64,
}

/// What a task waits for in one sentence, from its state and the current pauses of workflows alone.
pub fn summary_of(state: &WorkflowSnapshot, pauses: Vec<WorkflowPause>) -> String {
    let known = Known {
        pauses,
        ..Known::default()
    };
    explain(state, &[], &known).summary
}

/// Explains `state`, which follows from `events`.
pub(super) fn explain(
    state: &WorkflowSnapshot,
    events: &[StoredEvent],
    known: &Known,
) -> Explanation {
    let of_task = |pause: &&WorkflowPause| {
        pause.workflow == state.workflow.workflow && !state.status.is_final()
    };
    let workflow_pause = known.pauses.iter().find(of_task).cloned();
    let of_step = |step| {
        Some(waiting(
            state,
            &step,
            state.current_visit(&step)?,
            events,
            known,
        ))
    };
    let waiting: Vec<Waiting> = state
        .current_steps()
        .into_iter()
        .filter_map(of_step)
        .collect();
    Explanation {
        task_id: state.task_id,
        version: state.version,
        status: state.status,
        parent: state.parent.clone(),
        summary: summary(state, workflow_pause.as_ref(), &waiting),
        pause: state.pause.clone(),
        workflow_pause,
        waiting,
        hooks: HookStatus::all(state),
        decisions: decisions(events),
        path: events.iter().filter_map(path_entry).collect(),
        output: state.output.clone(),
    }
}

fn summary(
    state: &WorkflowSnapshot,
    workflow_pause: Option<&WorkflowPause>,
    waiting: &[Waiting],
) -> String {
    let steps = || {
        let each = waiting
            .iter()
            .map(|w| format!("`{}`: {}", w.step_id, w.reason));
        each.collect::<Vec<_>>().join("; ")
    };
    match state.status {
        TaskStatus::Running if let Some(pause) = workflow_pause => of_pause(pause),
        TaskStatus::Running if waiting.is_empty() => "it runs, and no step waits".to_owned(),
        TaskStatus::Running => format!("it waits in {}", steps()),
        TaskStatus::Paused => {
            let reason = state
                .pause
                .as_ref()
                .and_then(|pause| pause.reason.as_deref());
            format!(
                "it is paused ({}); `resume` lets it go on",
                reason.unwrap_or("no reason given")
            )
        }
        TaskStatus::Completed => "it has its output".to_owned(),
        TaskStatus::Failed => {
            format!(
                "it failed: {}",
                state.error.as_deref().unwrap_or("no reason given")
            )
        }
        TaskStatus::Archived => archived(state),
        TaskStatus::Cancelled => {
            format!(
                "it was cancelled: {}",
                state.error.as_deref().unwrap_or("no reason given")
            )
        }
    }
}

fn archived(state: &WorkflowSnapshot) -> String {
    let at = state.archived.map(|archived| archived.at);
    let at = at.map_or_else(String::new, |at| format!(" on {}", at.format("%F")));
    format!(
        "it is {}, and was archived{at}: most of its history is in the archive, which `glyph task \
         import --archive` brings back",
        state.ended()
    )
}

fn decisions(events: &[StoredEvent]) -> Vec<StepDecision> {
    let decided = events.iter().filter_map(|event| match &event.event {
        WorkflowEvent::StepCompleted {
            step_id,
            visit,
            result,
            ..
        } => Some(StepDecision {
            step_id: step_id.clone(),
            visit: *visit,
            version: event.version,
            at: event.occurred_at,
            result: result.clone(),
            consensus: last_comparison(before(events, event.version), step_id, *visit),
        }),
        _ => None,
    });
    decided.collect()
}

/// The `events`, which are in order, below a version.
fn before(events: &[StoredEvent], version: u64) -> &[StoredEvent] {
    &events[..events.partition_point(|event| event.version < version)]
}

fn path_entry(event: &StoredEvent) -> Option<PathEntry> {
    match &event.event {
        WorkflowEvent::TransitionOccurred(t) => Some(PathEntry {
            from_step: t.from_step.clone(),
            to_step: t.to_step.clone(),
            condition_met: t.condition_met.clone(),
            version: event.version,
        }),
        _ => None,
    }
}
