//! Explains from state and events alone why a task waits, and how it was decided.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    WorkflowEvent, WorkflowSnapshot,
    config::{ExternalHandler, HookId, Target},
    events::{ConsensusCalculated, PosteriorCalculated, StoredEvent},
    ids::{StepId, TaskId, UserId, WorkflowId},
    state::{ChildTask, Incident, ParentTask, Pause, PendingCall, StepResult, TaskStatus, Visit},
    store::{TaskRow, WorkflowPause},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// Why a task is where it is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookStatus>,
    /// The decisions so far in order, each with its basis.
    pub decisions: Vec<StepDecision>,
    /// The transitions that the task took.
    pub path: Vec<PathEntry>,
    /// The output of a completed task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
}

/// A step that waits.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Waiting {
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// Since when it waits.
    pub since: DateTime<Utc>,
    /// The reason in one sentence, with the command that helps where there is one.
    pub reason: String,
    /// Accepted submissions.
    pub submitted: usize,
    /// Submissions required; null where the step waits for an `advance`.
    #[serde(rename = "places")]
    pub slots: Option<u32>,
    /// Slots without a submission or a claim.
    #[serde(rename = "free_places")]
    pub free_slots: Option<u32>,
    /// The claimed slots, each with its user and expiry.
    pub claims: Vec<Claim>,
    /// The task that runs its sub-workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<ChildStatus>,
    /// The pending call to an external handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<PendingCall>,
    /// The last comparison of the submissions, after which more were requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consensus: Option<ConsensusCalculated>,
    /// The incident that stops it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
}

/// A hook that is pending or was given up.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
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

/// The state of a child task.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ChildStatus {
    /// The child.
    pub task_id: TaskId,
    /// Its workflow.
    pub workflow: WorkflowId,
    /// Its status; null until it has started.
    pub status: Option<TaskStatus>,
    /// Its current steps.
    pub current_steps: Vec<StepId>,
    /// Its open incidents.
    pub incidents: u32,
}

impl ChildStatus {
    fn of(child: &ChildTask) -> Self {
        Self {
            task_id: child.task_id,
            workflow: child.workflow.clone(),
            status: child.outcome.as_ref().map(|outcome| outcome.status),
            current_steps: Vec::new(),
            incidents: 0,
        }
    }

    /// Updates it from the child's own row.
    pub(super) fn see(&mut self, row: TaskRow) {
        self.status = Some(row.status);
        self.current_steps = row.current_steps;
        self.incidents = row.incidents;
    }
}

/// A claimed slot.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Claim {
    /// The user.
    pub user_id: UserId,
    /// When the claim expires without activity.
    pub expires_at: DateTime<Utc>,
}

/// How a visit ended.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
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

/// Explains `state`, which follows from `events`. `pauses` are the current pauses of workflows.
pub fn explain(
    state: &WorkflowSnapshot,
    events: &[StoredEvent],
    pauses: Vec<WorkflowPause>,
) -> Explanation {
    let workflow_pause = pauses
        .into_iter()
        .find(|pause| pause.workflow == state.workflow.workflow && !state.status.is_final());
    let waiting: Vec<Waiting> = state
        .current_steps()
        .into_iter()
        .filter_map(|step| Some(waiting(state, &step, state.current_visit(&step)?, events)))
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

fn waiting(
    state: &WorkflowSnapshot,
    step: &StepId,
    visit: &Visit,
    events: &[StoredEvent],
) -> Waiting {
    let incident = state.incident_of(step).cloned();
    let consensus = last_comparison(events, step, visit.number);
    let claims = visit.assignments.iter();
    Waiting {
        step_id: step.clone(),
        visit: visit.number,
        since: incident
            .as_ref()
            .map_or(visit.activated_at, |incident| incident.opened_at),
        reason: waiting_reason(visit, incident.as_ref(), consensus.as_ref()),
        submitted: visit.annotations.len(),
        slots: visit.slots,
        free_slots: visit.free_slots(),
        claims: claims
            .map(|claim| Claim {
                user_id: claim.user_id,
                expires_at: claim.expires_at,
            })
            .collect(),
        child: visit.child.as_ref().map(ChildStatus::of),
        call: visit.call.clone(),
        consensus,
        incident,
    }
}

/// The last comparison of a visit among `events`.
fn last_comparison(
    events: &[StoredEvent],
    step: &StepId,
    visit: u32,
) -> Option<ConsensusCalculated> {
    events.iter().rev().find_map(|event| match &event.event {
        WorkflowEvent::ConsensusCalculated(c) if c.step_id == *step && c.visit == visit => {
            Some(c.clone())
        }
        _ => None,
    })
}

/// Why a step that completes by confidence requests more submissions.
fn unsure(compared: &ConsensusCalculated) -> Option<String> {
    let PosteriorCalculated {
        target,
        max,
        soft_labels,
        ..
    } = compared.posterior.as_deref()?;
    Some(format!(
        "the best answer is {:.3} probable, which is below the target of {target}, so more people \
         are asked, {max} at most",
        soft_labels.confidence
    ))
}

fn waiting_reason(
    visit: &Visit,
    incident: Option<&Incident>,
    compared: Option<&ConsensusCalculated>,
) -> String {
    if let Some(pause) = &visit.pause {
        let reason = pause.reason.as_deref().unwrap_or("no reason given");
        return format!("the step is paused ({reason}); `resume` lets it go on");
    }
    if let Some(Incident { code, reason, .. }) = incident {
        return format!("held by an incident, {code}: {reason}; `retry` tries again");
    }
    if let Some(child) = &visit.child {
        return child.describe();
    }
    if let Some(call) = &visit.call {
        return match call.hook {
            Some(hook) => format!("at its hook `{hook}`: {}", calling(call)),
            None => calling(call),
        };
    }
    let submitted = visit.annotations.len();
    let slots = match (visit.slots, visit.assignments.len()) {
        (None, _) => format!("{submitted} submissions so far; an `advance` ends it"),
        (Some(slots), 0) => format!("{submitted} of {slots} submissions; no slot is claimed"),
        (Some(slots), claimed) => {
            format!("{submitted} of {slots} submissions; {claimed} slots are claimed")
        }
    };
    match compared.and_then(unsure) {
        Some(unsure) => format!("{slots}; {unsure}"),
        None => slots,
    }
}

fn calling(call: &PendingCall) -> String {
    let PendingCall { attempt, .. } = call;
    let after = match &call.last_error {
        Some(error) => format!("; the one before failed: {error}"),
        None => String::new(),
    };
    match (call.handler, call.due_at) {
        (ExternalHandler::Webhook, Some(due_at)) => {
            format!("attempt {attempt} at its webhook is due from {due_at}{after}")
        }
        (ExternalHandler::Queue, Some(due_at)) => format!(
            "attempt {attempt} at its job is published and fails at {due_at}; an `advance` with \
             `output` answers it{after}"
        ),
        (ExternalHandler::Webhook | ExternalHandler::Queue, None) => {
            "its job is published; an `advance` with `output` answers it".to_owned()
        }
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
        TaskStatus::Running if let Some(pause) = workflow_pause => format!(
            "its workflow is {} ({}); it goes on when that is {}",
            pause.word(),
            pause.reason.as_deref().unwrap_or("no reason given"),
            if pause.archived {
                "restored"
            } else {
                "resumed"
            }
        ),
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
        TaskStatus::Cancelled => {
            format!(
                "it was cancelled: {}",
                state.error.as_deref().unwrap_or("no reason given")
            )
        }
    }
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
