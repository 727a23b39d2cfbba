//! Why tasks do not go on, grouped by cause.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator, WorkflowSnapshot,
    ids::{StepId, TaskId, UserId, WorkflowId},
    state::{IncidentCode, TaskStatus, WorkflowPause},
    store::{EventStore, EventStoreError, PeopleSeen, StepLoad, Store, TaskFilter},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    tasks::PEOPLE_EVENTS_MAX,
    waiting::{Missing, held_by, of_pause},
};

/// Tasks with an incident, paused tasks and refused messages that are looked at; more are counted
/// where a number is kept, and otherwise said to be there.
const LOOKED_AT_MAX: u32 = 200;
/// Tasks that are named for a group.
const NAMED_MAX: usize = 20;
/// People whose claims are listed.
const PEOPLE_MAX: u32 = 50;

/// Why tasks do not go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stuck {
    /// The groups, those with the most tasks first.
    pub groups: Vec<StuckGroup>,
    /// Whether there are more incidents, paused tasks or refused messages than were looked at, so
    /// that numbers of tasks are at least what they say.
    pub more: bool,
    /// Who holds slots, those with the most first.
    pub claims: Vec<HeldByPerson>,
}

/// Tasks that do not go on for one cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StuckGroup {
    /// The cause.
    pub cause: StuckCause,
    /// The cause in a sentence, with the command that helps where there is one.
    pub reason: String,
    /// The kind of problem, of an incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<IncidentCode>,
    /// The workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<WorkflowId>,
    /// The step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_id: Option<StepId>,
    /// How many tasks.
    pub tasks: u64,
    /// Since when the first of them is held, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Who caused it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Some of the tasks.
    pub examples: Vec<TaskId>,
}

/// Why a task does not go on.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum StuckCause {
    /// An incident holds a step.
    Incident,
    /// Nobody has shown a role or skill that a step asks for.
    NobodyQualified,
    /// The broker takes a message in no queue: a job that nobody gets, for example.
    MessageRefused,
    /// The whole workflow is paused or archived.
    WorkflowPaused,
    /// The task is paused.
    TaskPaused,
}

/// How many slots a person holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeldByPerson {
    /// The person.
    pub user_id: UserId,
    /// The slots.
    pub slots: u64,
}

impl StuckGroup {
    fn new(cause: StuckCause, reason: String) -> Self {
        Self {
            cause,
            reason,
            code: None,
            workflow: None,
            step_id: None,
            tasks: 0,
            since: None,
            actor: None,
            examples: Vec::new(),
        }
    }

    fn add(&mut self, task: TaskId, since: Option<DateTime<Utc>>) {
        self.tasks += 1;
        self.since = match (self.since, since) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if self.examples.len() < NAMED_MAX {
            self.examples.push(task);
        }
    }
}

/// Looks for everything that holds tasks.
///
/// # Errors
///
/// The store cannot be read.
pub async fn stuck(
    store: &dyn Store,
    orchestrator: &WorkflowOrchestrator,
) -> Result<Stuck, OrchestrationError> {
    let (loads, workflows, incidents, tasks, refused, claims) = tokio::try_join!(
        store.step_loads(),
        store.workflow_pauses(),
        by_incident(store),
        paused_tasks(store),
        refused_messages(store),
        store.claim_counts(PEOPLE_MAX),
    )?;
    let (mut groups, held_beyond) = incidents;
    let (paused, paused_beyond) = tasks;
    let (refused, refused_beyond) = refused;
    groups.extend(nobody_qualified(store, orchestrator, &loads).await?);
    groups.extend(refused);
    groups.extend(paused_workflows(store, &workflows.active, &loads).await?);
    groups.extend(paused);
    groups.sort_by_key(|group| (std::cmp::Reverse(group.tasks), group.cause));
    let claims = claims.into_iter().map(|count| HeldByPerson {
        user_id: count.user_id,
        slots: count.slots,
    });
    Ok(Stuck {
        groups,
        more: held_beyond || paused_beyond || refused_beyond,
        claims: claims.collect(),
    })
}

/// The states of the tasks that a filter finds, and whether it finds more.
async fn states(
    store: &dyn Store,
    filter: TaskFilter,
) -> Result<(Vec<WorkflowSnapshot>, bool), EventStoreError> {
    let page = store.tasks(filter).await?;
    let ids: Vec<TaskId> = page.tasks.iter().map(|task| task.task_id).collect();
    let mut states = EventStore::load(store, &ids).await?;
    let found = ids.iter().filter_map(|id| states.remove(id));
    Ok((found.collect(), page.next_after.is_some()))
}

async fn by_incident(store: &dyn Store) -> Result<(Vec<StuckGroup>, bool), EventStoreError> {
    let filter = TaskFilter {
        incidents: true,
        limit: LOOKED_AT_MAX,
        ..TaskFilter::default()
    };
    let (states, more) = states(store, filter).await?;
    let mut groups: BTreeMap<_, StuckGroup> = BTreeMap::new();
    for state in states.iter().filter(|state| !state.status.is_final()) {
        for incident in &state.incidents {
            let Some(visit) = state.current_visit(&incident.step_id) else {
                continue;
            };
            let workflow = &state.workflow.workflow;
            let key = (workflow, &incident.step_id, incident.code.as_str());
            let group = groups.entry(key).or_insert_with(|| StuckGroup {
                code: Some(incident.code),
                workflow: Some(workflow.clone()),
                step_id: Some(incident.step_id.clone()),
                ..StuckGroup::new(StuckCause::Incident, held_by(incident, visit))
            });
            group.add(state.task_id, Some(incident.opened_at));
        }
    }
    Ok((groups.into_values().collect(), more))
}

/// Paused tasks, by workflow and the reason that was given.
async fn paused_tasks(store: &dyn Store) -> Result<(Vec<StuckGroup>, bool), EventStoreError> {
    let filter = TaskFilter {
        status: Some(TaskStatus::Paused),
        limit: LOOKED_AT_MAX,
        ..TaskFilter::default()
    };
    let (states, more) = states(store, filter).await?;
    let mut groups: BTreeMap<_, StuckGroup> = BTreeMap::new();
    for state in &states {
        let pause = state.pause.as_ref();
        let reason = pause.and_then(|pause| pause.reason.as_deref());
        let workflow = &state.workflow.workflow;
        let group = groups.entry((workflow, reason)).or_insert_with(|| {
            let reason = reason.unwrap_or("no reason given");
            let sentence = format!("the task is paused ({reason}); `resume` lets it go on");
            StuckGroup {
                workflow: Some(workflow.clone()),
                ..StuckGroup::new(StuckCause::TaskPaused, sentence)
            }
        });
        group.add(state.task_id, pause.map(|pause| pause.since));
    }
    Ok((groups.into_values().collect(), more))
}

/// Messages that the broker takes in no queue, by what it said.
async fn refused_messages(store: &dyn Store) -> Result<(Vec<StuckGroup>, bool), EventStoreError> {
    let failed = store.outbox_failed(LOOKED_AT_MAX).await?;
    let more = failed.len() >= LOOKED_AT_MAX as usize;
    let mut groups: BTreeMap<&str, StuckGroup> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for row in &failed {
        let group = groups.entry(&row.error).or_insert_with(|| {
            let error = &row.error;
            let sentence = format!(
                "the broker has refused a message ({error}); it is sent again, and holds back the \
                 later ones of its task; `glyph outbox list` shows it"
            );
            StuckGroup::new(StuckCause::MessageRefused, sentence)
        });
        if let Some(task) = row.row.task_id.filter(|task| seen.insert(*task)) {
            group.add(task, None);
        }
    }
    Ok((groups.into_values().collect(), more))
}

/// Steps whose open slots nobody can take, as far as the log tells.
async fn nobody_qualified(
    store: &dyn Store,
    orchestrator: &WorkflowOrchestrator,
    loads: &[StepLoad],
) -> Result<Vec<StuckGroup>, OrchestrationError> {
    let mut people: HashMap<WorkflowId, PeopleSeen> = HashMap::new();
    let mut groups = Vec::new();
    for open in store.open_steps(None, None).await? {
        let workflow = orchestrator.workflow(open.revision_id.0).await?;
        let step = workflow.step(&open.step_id);
        let asks = step.is_some_and(|step| {
            !step.required_roles().is_empty() || !step.required_skills().is_empty()
        });
        if !asks {
            continue;
        }
        if !people.contains_key(&workflow.id) {
            let seen = store.people_seen(&workflow.id, PEOPLE_EVENTS_MAX).await?;
            people.insert(workflow.id.clone(), seen);
        }
        let seen = people.get(&workflow.id);
        let missing = seen.and_then(|seen| Missing::of(&workflow, &open.step_id, seen));
        let Some(missing) = missing else { continue };
        let is_here =
            |load: &&StepLoad| load.revision_id == open.revision_id && load.step_id == open.step_id;
        let here = loads.iter().find(is_here);
        let filter = TaskFilter {
            workflow: Some(workflow.id.clone()),
            status: Some(TaskStatus::Running),
            step: Some(open.step_id.clone()),
            limit: u32::try_from(NAMED_MAX).unwrap_or(u32::MAX),
            ..TaskFilter::default()
        };
        let examples = store.tasks(filter).await?.tasks.into_iter();
        groups.push(StuckGroup {
            workflow: Some(workflow.id.clone()),
            step_id: Some(open.step_id),
            tasks: here.map_or(0, |load| load.running),
            since: here.and_then(|load| load.oldest_at),
            examples: examples.map(|task| task.task_id).collect(),
            ..StuckGroup::new(StuckCause::NobodyQualified, missing.describe())
        });
    }
    Ok(groups)
}

async fn paused_workflows(
    store: &dyn Store,
    pauses: &[WorkflowPause],
    loads: &[StepLoad],
) -> Result<Vec<StuckGroup>, EventStoreError> {
    let mut groups = Vec::new();
    for pause in pauses {
        let command = store.command(pause.pause_id).await?;
        let payload = command.and_then(|command| command.payload);
        let actor = payload.and_then(|payload| {
            let actor = payload.get("actor").and_then(Value::as_str);
            actor.map(str::to_owned)
        });
        let here = loads.iter().filter(|load| load.workflow == pause.workflow);
        groups.push(StuckGroup {
            workflow: Some(pause.workflow.clone()),
            tasks: here.map(|load| load.running).sum(),
            since: Some(pause.since),
            actor,
            ..StuckGroup::new(StuckCause::WorkflowPaused, of_pause(pause))
        });
    }
    Ok(groups)
}
