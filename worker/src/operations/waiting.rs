//! What a step waits for, in a sentence that says what helps.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    WorkflowConfig, WorkflowEvent, WorkflowSnapshot,
    config::{AskedOn, ExternalHandler},
    events::{ConsensusCalculated, PosteriorCalculated, StoredEvent},
    ids::{StepId, TaskId, UserId, WorkflowId},
    state::{
        ChildTask, Incident, IncidentCode, PendingCall, TaskStatus, Visit, VisitStatus,
        WorkflowPause,
    },
    store::{PeopleSeen, UnconfirmedMessage},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A step that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// When it is closed with the submissions it has, unless somebody submits before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<DateTime<Utc>>,
    /// Roles and skills that the step asks for and that nobody has shown in the workflow yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nobody_has: Vec<String>,
    /// The task that runs its sub-workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<ChildStatus>,
    /// The pending call to an external handler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<PendingCall>,
    /// How far the job of that call has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
    /// The last comparison of the submissions, after which more were requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consensus: Option<ConsensusCalculated>,
    /// The incident that stops it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<Incident>,
}

/// A claimed slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// The user.
    pub user_id: UserId,
    /// When the claim expires without activity.
    pub expires_at: DateTime<Utc>,
}

/// The state of a child task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The pause of all tasks of its workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_pause: Option<WorkflowPause>,
    /// What it waits for itself, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
}

impl ChildStatus {
    /// The child of a visit. `seen` is its state and what it waits for, once it has started.
    pub(super) fn of(
        child: &ChildTask,
        pauses: &[WorkflowPause],
        seen: Option<(&WorkflowSnapshot, String)>,
    ) -> Self {
        let pause = pauses.iter().find(|p| p.workflow == child.workflow);
        let order = child.order.as_ref().filter(|order| order.failures > 0);
        let known = child.outcome.as_ref().map(|outcome| outcome.status);
        let status = seen.as_ref().map(|(state, _)| state.status).or(known);
        let over = status.is_some_and(TaskStatus::is_final);
        let state = seen.as_ref().map(|(state, _)| *state);
        Self {
            task_id: child.task_id,
            workflow: child.workflow.clone(),
            status,
            current_steps: state.map_or_else(Vec::new, WorkflowSnapshot::current_steps),
            incidents: state.map_or(0, |state| {
                u32::try_from(state.incidents.len()).unwrap_or(u32::MAX)
            }),
            workflow_pause: pause.filter(|_| !over).cloned(),
            waits_for: match (seen, pause, order) {
                (Some((_, waits_for)), ..) => Some(waits_for),
                (None, Some(pause), _) if !over => Some(of_pause(pause)),
                (None, _, Some(order)) => Some(format!(
                    "{} attempts to start it have failed; the next one is due from {}",
                    order.failures, order.due_at
                )),
                (None, ..) => None,
            },
        }
    }
}

/// How far the message of a job has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobStatus {
    /// The message.
    pub message_id: Uuid,
    /// Whether it is published, and a queue has confirmed it.
    pub taken: bool,
    /// Failed attempts at publishing it.
    pub attempts: i32,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl JobStatus {
    fn of(message_id: Uuid, unconfirmed: Option<&UnconfirmedMessage>) -> Self {
        Self {
            message_id,
            taken: unconfirmed.is_none(),
            attempts: unconfirmed.map_or(0, |message| message.attempts),
            last_error: unconfirmed.and_then(|message| message.last_error.clone()),
        }
    }

    fn describe(&self) -> String {
        match (self.taken, &self.last_error) {
            (true, _) => "a queue has taken its job".to_owned(),
            (false, None) => "its job waits in the outbox to be published".to_owned(),
            (false, Some(error)) => format!(
                "no queue has taken its job in {} attempts ({error}); it is sent again, and `glyph \
                 outbox list` shows it",
                self.attempts
            ),
        }
    }
}

/// What is known beyond a task's own stream.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The current pauses of workflows.
    pub(super) pauses: Vec<WorkflowPause>,
    /// The children that steps wait for.
    pub(super) children: HashMap<TaskId, ChildStatus>,
    /// Messages of jobs that no queue has confirmed.
    pub(super) unconfirmed: HashMap<Uuid, UnconfirmedMessage>,
    /// Roles and skills that steps ask for and nobody has shown.
    pub(super) nobody_has: BTreeMap<StepId, Missing>,
}

/// Roles and skills that a step asks for and that nobody has shown in its workflow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Missing {
    roles: Vec<String>,
    skills: Vec<String>,
    /// Whether the whole log was examined.
    whole: bool,
}

impl Missing {
    /// What nobody has shown of what a step asks for; none where somebody could do it. A person
    /// needs one of the roles, and all skills; skills show only by working in a step that asks for
    /// them.
    pub(super) fn of(workflow: &WorkflowConfig, step: &StepId, seen: &PeopleSeen) -> Option<Self> {
        let step = workflow.step(step)?;
        let roles = step.required_roles();
        let has_role = roles.iter().any(|role| seen.roles.contains(role));
        let shown = |skill: &&String| {
            let worked = workflow.steps.iter();
            let mut worked = worked.filter(|step| seen.steps.contains(&step.id));
            worked.any(|step| step.required_skills().contains(skill))
        };
        let skills = step.required_skills().iter();
        let missing = Self {
            roles: if has_role { &[] } else { roles }.to_vec(),
            skills: skills.filter(|skill| !shown(skill)).cloned().collect(),
            whole: seen.whole,
        };
        (!missing.roles.is_empty() || !missing.skills.is_empty()).then_some(missing)
    }

    pub(super) fn describe(&self) -> String {
        let quoted = |names: &[String], between: &str| {
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join(between)
        };
        let mut lacks = Vec::new();
        if !self.roles.is_empty() {
            lacks.push(format!("role {}", quoted(&self.roles, " or ")));
        }
        if !self.skills.is_empty() {
            lacks.push(format!("skill {}", quoted(&self.skills, " and ")));
        }
        let lately = if self.whole { "yet" } else { "lately" };
        format!(
            "no annotator with {} has submitted or claimed in this workflow {lately}",
            lacks.join(" and ")
        )
    }
}

/// What the step of a visit waits for.
pub(super) fn waiting(
    state: &WorkflowSnapshot,
    step: &StepId,
    visit: &Visit,
    events: &[StoredEvent],
    known: &Known,
) -> Waiting {
    let incident = state.incident_of(step).cloned();
    let consensus = last_comparison(events, step, visit.number);
    let claims = visit.assignments.iter();
    let missing = known.nobody_has.get(step);
    let names = |missing: &Missing| [&missing.roles[..], &missing.skills].concat();
    let child = visit.child.as_ref();
    let mut waiting = Waiting {
        step_id: step.clone(),
        visit: visit.number,
        since: incident
            .as_ref()
            .map_or(visit.activated_at, |incident| incident.opened_at),
        reason: String::new(),
        submitted: visit.annotations.len(),
        slots: visit.slots,
        free_slots: visit.free_slots(),
        claims: claims
            .map(|claim| Claim {
                user_id: claim.user_id,
                expires_at: claim.expires_at,
            })
            .collect(),
        closes_at: visit.closes_at,
        nobody_has: missing.map(names).unwrap_or_default(),
        child: child.map(|child| match known.children.get(&child.task_id) {
            Some(seen) => seen.clone(),
            None => ChildStatus::of(child, &known.pauses, None),
        }),
        call: visit.call.clone(),
        job: visit
            .call
            .as_ref()
            .and_then(|call| job_event(events, step, visit.number, call))
            .map(|job| JobStatus::of(job.event_id, known.unconfirmed.get(&job.event_id))),
        consensus,
        incident,
    };
    waiting.reason = reason(visit, &waiting, missing);
    waiting
}

/// The event whose message is the job that a call waits for; none if the handler is called
/// directly.
pub(super) fn job_event<'a>(
    events: &'a [StoredEvent],
    step: &StepId,
    visit: u32,
    call: &PendingCall,
) -> Option<&'a StoredEvent> {
    let asked = events.iter().rev().find_map(|event| match &event.event {
        WorkflowEvent::HandlerRequested(e)
            if e.step_id == *step && e.visit == visit && e.n == call.n =>
        {
            Some((event, e.job.is_some()))
        }
        _ => None,
    });
    asked.filter(|(_, is_job)| *is_job).map(|(event, _)| event)
}

/// The last comparison of a visit among `events`.
pub(super) fn last_comparison(
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

/// Whether a step has an open slot for people of a role or with skills.
pub(super) fn wants_somebody(
    state: &WorkflowSnapshot,
    workflow: &WorkflowConfig,
    id: &StepId,
) -> bool {
    let is_free =
        |visit: &Visit| visit.is_open() && visit.pause.is_none() && visit.free_slots() != Some(0);
    state.current_visit(id).is_some_and(is_free)
        && workflow.step(id).is_some_and(|step| {
            !step.required_roles().is_empty() || !step.required_skills().is_empty()
        })
}

/// That a workflow is paused or archived, and what ends that.
pub(super) fn of_pause(pause: &WorkflowPause) -> String {
    format!(
        "its workflow is {} ({}); it goes on when that is {}",
        pause.word(),
        pause.reason.as_deref().unwrap_or("no reason given"),
        if pause.archived {
            "restored"
        } else {
            "resumed"
        }
    )
}

fn reason(visit: &Visit, waiting: &Waiting, missing: Option<&Missing>) -> String {
    if let Some(pause) = &visit.pause {
        let reason = pause.reason.as_deref().unwrap_or("no reason given");
        return format!("the step is paused ({reason}); `resume` lets it go on");
    }
    if let Some(incident) = &waiting.incident {
        return held_by(incident, visit);
    }
    if let Some((child, seen)) = visit.child.as_ref().zip(waiting.child.as_ref()) {
        let child = child.describe();
        return match &seen.waits_for {
            Some(waits_for) => format!("{child}: {waits_for}"),
            None => child,
        };
    }
    if let Some(call) = &visit.call {
        let calling = calling(call, waiting.job.as_ref());
        return match call.hook {
            Some(hook) => format!("at its hook `{hook}`: {calling}"),
            None => calling,
        };
    }
    let submitted = visit.annotations.len();
    let mut reason = match (visit.slots, visit.assignments.len()) {
        (None, _) => format!("{submitted} submissions so far; an `advance` ends it"),
        (Some(slots), 0) => format!("{submitted} of {slots} submissions; no slot is claimed"),
        (Some(slots), claimed) => {
            format!("{submitted} of {slots} submissions; {claimed} slots are claimed")
        }
    };
    let unsure = waiting.consensus.as_ref().and_then(unsure);
    let closes = visit
        .closes_at
        .map(|at| format!("if nobody submits, it is closed with what it has at {at}"));
    let missing = missing.map(Missing::describe);
    for more in [unsure, closes, missing].into_iter().flatten() {
        reason += "; ";
        reason += &more;
    }
    reason
}

/// That an incident holds a step, and what helps.
pub(super) fn held_by(incident: &Incident, visit: &Visit) -> String {
    let Incident { code, reason, .. } = incident;
    let over = visit.status != VisitStatus::Active;
    let helps = match code {
        IncidentCode::NoTransition | IncidentCode::Disagreement => {
            "`retry` evaluates the same transitions again; where nothing that they read has \
             changed, `migrate` the task to a revision with one that matches, then `retry`"
        }
        IncidentCode::ExpressionFailed if over => {
            "`retry` evaluates the same expression again; where nothing that it reads has changed, \
             `migrate` the task to a revision whose expression can be evaluated, then `retry`"
        }
        IncidentCode::ExpressionFailed => {
            "an `advance` with `output` stands in for it; `retry` evaluates the same expression \
             again, so `migrate` the task to a revision that mends it before"
        }
        IncidentCode::LoopExhausted => {
            "`retry` meets the same bound again: `migrate` the task to a revision with a higher \
             `max_iterations` or with `on_exhausted`, then `retry`"
        }
        IncidentCode::TransitionBudget => "`retry` goes on from here",
        IncidentCode::StepBusy => "`retry` goes on once that step has ended",
        IncidentCode::InactivityTimeout => {
            "the slot is open again, and `retry` closes the incident"
        }
        IncidentCode::HandlerFailed => "`retry` calls the handler again",
        IncidentCode::ChildFailed => "`retry` starts another child task",
    };
    format!("held by an incident, {code}: {reason}; {helps}")
}

/// Why a step that completes by confidence requests more submissions.
fn unsure(compared: &ConsensusCalculated) -> Option<String> {
    let PosteriorCalculated {
        target,
        max,
        soft_labels,
        ..
    } = compared.posterior.as_deref()?;
    let probable = format!("the best answer is {:.3} probable", soft_labels.confidence);
    Some(match compared.asked_on {
        Some(AskedOn::Learn) => format!(
            "{probable}, but the task is one of the first of its workflow, which ask all {max} people"
        ),
        Some(AskedOn::Audit) => format!(
            "its answer is sure; the task is audited, so {max} people are asked all the same"
        ),
        None if soft_labels.confidence >= *target => {
            format!("{probable}, but it is not what people say, so more are asked, {max} at most")
        }
        None => format!(
            "{probable}, which is below the target of {target}, so more people are asked, {max} at \
             most"
        ),
    })
}

fn calling(call: &PendingCall, job: Option<&JobStatus>) -> String {
    let PendingCall { attempt, .. } = call;
    let after = match &call.last_error {
        Some(error) => format!("; the one before failed: {error}"),
        None => String::new(),
    };
    let job = job.map_or_else(
        || "its job has been requested".to_owned(),
        JobStatus::describe,
    );
    let answers = "an `advance` with `output` answers it";
    match (call.handler, call.due_at) {
        (ExternalHandler::Webhook, Some(due_at)) => {
            format!("attempt {attempt} at its webhook is due from {due_at}{after}")
        }
        (ExternalHandler::Queue, Some(due_at)) => {
            format!("{job}; {answers}; attempt {attempt} fails at {due_at}{after}")
        }
        (ExternalHandler::Webhook | ExternalHandler::Queue, None) => format!("{job}; {answers}"),
    }
}

#[cfg(test)]
mod tests {
    use glyph_workflow_engine::parse_workflow;

    use super::*;

    const YAML: &str = "
workflow:
  id: w
  steps:
    - { id: a, type: annotation, assignment: { required_skills: [icd] } }
    - { id: b, type: adjudication, assignment: { required_roles: [lead, expert], required_skills: [icd, latin] } }
  transitions:
    - { from: a, to: b }
";

    #[test]
    fn what_nobody_has_shown_is_named_and_hedged_where_the_log_is_longer() {
        let workflow = parse_workflow(YAML).unwrap();
        let step = workflow.steps[1].id.clone();
        let mut seen = PeopleSeen {
            whole: true,
            ..PeopleSeen::default()
        };
        let missing = Missing::of(&workflow, &step, &seen).unwrap();
        assert_eq!(
            missing.describe(),
            "no annotator with role `lead` or `expert` and skill `icd` and `latin` has submitted \
             or claimed in this workflow yet"
        );
        // Who has worked in step `a` has the skill that it asks for, and one role is enough.
        seen.steps.insert(workflow.steps[0].id.clone());
        seen.roles.insert("expert".to_owned());
        seen.whole = false;
        let missing = Missing::of(&workflow, &step, &seen).unwrap();
        assert_eq!(
            missing.describe(),
            "no annotator with skill `latin` has submitted or claimed in this workflow lately"
        );
        seen.steps.insert(step.clone());
        assert_eq!(Missing::of(&workflow, &step, &seen), None);
    }

    #[test]
    fn a_job_is_taken_once_no_message_of_it_waits() {
        let id = Uuid::from_u128(1);
        let waits = |attempts, error: Option<&str>| UnconfirmedMessage {
            attempts,
            last_error: error.map(str::to_owned),
        };
        let taken = JobStatus::of(id, None);
        assert_eq!(taken.describe(), "a queue has taken its job");
        let fresh = JobStatus::of(id, Some(&waits(0, None)));
        assert!(!fresh.taken && fresh.describe().contains("outbox"));
        let refused = JobStatus::of(id, Some(&waits(2, Some("returned: NO_ROUTE"))));
        let text = refused.describe();
        assert!(text.contains("2 attempts (returned: NO_ROUTE)"), "{text}");
    }
}
