//! How a case has ended.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::Serialize;
use serde_json::Value;

use crate::{
    config::{Performer, StepConfig},
    events::{StoredEvent, WorkflowEvent},
    ids::{StepId, TaskId, WorkflowId},
    simulation::{Simulation, explore::drive::Play},
    state::{TaskStatus, Visit, VisitStatus, WorkflowSnapshot},
};

/// What the cases of a workflow come to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exploration {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The input of the task, made up unless it was given; null where there is none.
    pub input: Value,
    /// How many cases were played.
    pub played: usize,
    /// How they ended; those that ended alike are one.
    pub ends: Vec<ExploredCase>,
    /// What was made up because nothing says it.
    pub made_up: Vec<String>,
    /// What could not be played.
    pub not_played: Vec<String>,
}

/// Cases that ended alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExploredCase {
    /// The cases: where they go another way than usual, as `annotate: two differ`.
    pub cases: Vec<String>,
    /// The visits of steps in the order in which they began, as `annotate #2`; `extract/mark` is a
    /// step of the child task of `extract`.
    pub path: Vec<String>,
    /// The status of the task.
    pub status: TaskStatus,
    /// The value of its output; of several cases, that of the first.
    pub value: Value,
    /// The agreement in its output.
    pub agreement: Option<f64>,
    /// What determined the value.
    pub resolved_by: Option<String>,
    /// Why the task failed.
    pub error: Option<String>,
    /// Open incidents: `CODE at STEP: reason`.
    pub incidents: Vec<String>,
    /// Where the task waits, and for whom.
    pub waits: Vec<Wait>,
    /// How the answers to a gold task were scored.
    pub gold: Option<GoldAnswers>,
    /// What was refused although it seemed plausible.
    pub refused: Vec<String>,
    /// What needs a look.
    pub marks: Vec<Mark>,
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// The step.
    pub step: String,
    /// What it waits for: `2 people with the role expert`.
    pub waits_for: String,
}

/// Answers to a gold task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GoldAnswers {
    /// Right ones.
    pub right: u32,
    /// Wrong ones.
    pub wrong: u32,
}

/// Why an end needs a look. None of them says that the workflow is wrong: a task may be meant to end so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// An incident is open: only an operator lets the task go on.
    Incident,
    /// The task completed, and its `result` is null.
    NoValue,
    /// Something plausible was refused.
    Refused,
    /// The task waits for something that nobody does.
    Stuck,
    /// The case was broken off: it did not end in as many moves as are played.
    Unfinished,
}

impl Mark {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Incident => "incident",
            Self::NoValue => "no_value",
            Self::Refused => "refused",
            Self::Stuck => "stuck",
            Self::Unfinished => "unfinished",
        }
    }
}

/// How a case that has been played ended; none if its task could not even start.
pub(super) fn outcome(case: String, play: &Play<'_>, task: TaskId) -> Option<ExploredCase> {
    let simulation = &play.simulation;
    let state = simulation.state(task)?;
    let output = state.output.clone().unwrap_or_default();
    let waits = waits(simulation);
    let incidents: Vec<String> = with_paths(simulation)
        .flat_map(|(path, state)| {
            state.incidents.iter().map(move |incident| {
                let step = named(path.as_deref(), &incident.step_id);
                format!("{} at {step}: {}", incident.code, incident.reason)
            })
        })
        .collect();
    let found = [
        (!incidents.is_empty(), Mark::Incident),
        (
            state.status == TaskStatus::Completed && output["result"].is_null(),
            Mark::NoValue,
        ),
        (!play.refused.is_empty(), Mark::Refused),
        (
            !state.status.is_final()
                && incidents.is_empty()
                && play.refused.is_empty()
                && !play.waits_on_purpose
                && !play.is_unfinished,
            Mark::Stuck,
        ),
        (play.is_unfinished, Mark::Unfinished),
    ];
    Some(ExploredCase {
        cases: vec![case],
        path: path(simulation, &play.events),
        status: state.status,
        value: output["result"].clone(),
        agreement: output["agreement"].as_f64(),
        resolved_by: output["resolved_by"].as_str().map(str::to_owned),
        error: state.error.clone(),
        incidents,
        waits,
        gold: gold(state, &play.events),
        refused: play.refused.clone(),
        marks: found
            .into_iter()
            .filter_map(|(applies, mark)| applies.then_some(mark))
            .collect(),
    })
}

impl ExploredCase {
    /// Whether two cases ended alike: by the same way, to the same effect. Of values only whether there
    /// is one counts, because they are made up.
    pub(super) fn ended_like(&self, other: &Self) -> bool {
        let same_agreement = match (self.agreement, other.agreement) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (a, b) => a.is_none() && b.is_none(),
        };
        same_agreement
            && self.value.is_null() == other.value.is_null()
            && (&self.path, self.status, &self.resolved_by, &self.error)
                == (&other.path, other.status, &other.resolved_by, &other.error)
            && (
                &self.incidents,
                &self.waits,
                self.gold,
                &self.refused,
                &self.marks,
            ) == (
                &other.incidents,
                &other.waits,
                other.gold,
                &other.refused,
                &other.marks,
            )
    }
}

/// All tasks, each with the path of steps to it.
fn with_paths(
    simulation: &Simulation,
) -> impl Iterator<Item = (Option<String>, &WorkflowSnapshot)> {
    let mut tasks: Vec<(Option<String>, &WorkflowSnapshot)> = simulation
        .tasks
        .iter()
        .filter_map(|(id, task)| Some((simulation.path_to(*id), task.state.as_ref()?)))
        .collect();
    tasks.sort_by(|(a, _), (b, _)| a.cmp(b));
    tasks.into_iter()
}

fn named(path: Option<&str>, step: &StepId) -> String {
    match path {
        Some(path) => format!("{path}/{step}"),
        None => step.to_string(),
    }
}

/// The visits in the order in which they began; one that ended without a result says so.
fn path(simulation: &Simulation, events: &[StoredEvent]) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    let mut places: BTreeMap<(TaskId, &StepId, u32), usize> = BTreeMap::new();
    for event in events {
        if let WorkflowEvent::StepActivated(begun) = &event.event {
            let step = simulation.named(event.task_id, &begun.step_id);
            let key = (event.task_id, &begun.step_id, begun.visit);
            places.insert(key, path.len());
            path.push(match begun.visit {
                1 => step,
                visit => format!("{step} #{visit}"),
            });
        }
        let place = ended(&event.event).and_then(|(step, visit, how)| {
            let place = places.get(&(event.task_id, step, visit))?;
            Some((path.get_mut(*place)?, how))
        });
        if let Some((entry, how)) = place {
            let _ = write!(entry, " ({how})");
        }
    }
    path
}

/// A visit that ended without a result, and how.
fn ended(event: &WorkflowEvent) -> Option<(&StepId, u32, &'static str)> {
    if let WorkflowEvent::StepSkipped { step_id, visit, .. } = event {
        Some((step_id, *visit, "skipped"))
    } else if let WorkflowEvent::StepFailed { step_id, visit, .. } = event {
        Some((step_id, *visit, "failed"))
    } else if let WorkflowEvent::StepWithdrawn { step_id, visit, .. } = event {
        Some((step_id, *visit, "withdrawn"))
    } else {
        None
    }
}

fn gold(state: &WorkflowSnapshot, events: &[StoredEvent]) -> Option<GoldAnswers> {
    state.expected.as_ref()?;
    let mut answers = GoldAnswers::default();
    for event in events {
        if let WorkflowEvent::GoldScored { correct, .. } = &event.event {
            if *correct {
                answers.right += 1;
            } else {
                answers.wrong += 1;
            }
        }
    }
    Some(answers)
}

/// Where the tasks wait, and for whom.
pub(super) fn waits(simulation: &Simulation) -> Vec<Wait> {
    let mut waits = Vec::new();
    for (path, state) in with_paths(simulation) {
        if state.status.is_final() {
            continue;
        }
        let Some(workflow) = simulation.workflow_of(state) else {
            continue;
        };
        for step in &workflow.steps {
            let visit = state.current_visit(&step.id);
            let active = visit.filter(|visit| visit.status == VisitStatus::Active);
            let waits_for = active
                .filter(|_| state.incident_of(&step.id).is_none())
                .and_then(|visit| waits_for(simulation, step, visit));
            if let Some(waits_for) = waits_for {
                let step = named(path.as_deref(), &step.id);
                waits.push(Wait { step, waits_for });
            }
        }
        for (step, join) in &state.joins {
            waits.push(Wait {
                step: named(path.as_deref(), step),
                waits_for: format!("other branches, after {} arrived", join.arrived.len()),
            });
        }
    }
    waits
}

fn waits_for(simulation: &Simulation, step: &StepConfig, visit: &Visit) -> Option<String> {
    if let Some(call) = &visit.call {
        return Some(format!("the answer of `{}`", call.handler));
    }
    match step.kind.spec().performer {
        Performer::Annotators | Performer::Person => Some(match visit.free_slots() {
            None => "an `advance`".to_owned(),
            Some(0) => "those who have claimed it".to_owned(),
            Some(free) => {
                let who = if free == 1 { "person" } else { "people" };
                format!("{free} {who}{}", needed(step))
            }
        }),
        Performer::Handler => Some("an `advance`".to_owned()),
        Performer::ChildTask => {
            let child = visit.child.as_ref()?;
            // A child that has begun says itself what it waits for.
            let begun = simulation.state(child.task_id).is_some();
            (!begun).then(|| format!("a child task of `{}`", child.workflow))
        }
        Performer::Expression => None,
    }
}

/// The roles and skills that a step asks for.
fn needed(step: &StepConfig) -> String {
    let roles = step.required_roles();
    let skills = step.required_skills();
    let mut text = match roles {
        [] => String::new(),
        [role] => format!(" with the role {role}"),
        roles => format!(" with one of the roles {}", roles.join(", ")),
    };
    if !skills.is_empty() {
        let _ = write!(text, " skilled in {}", skills.join(", "));
    }
    text
}
