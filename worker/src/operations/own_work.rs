//! What a person sees of a task: its input, the person's own work and what that work is about.
//!
//! Nothing here tells what others have answered, whether the answer is known beforehand, or how
//! people are judged. So a task has no version here, and events are numbered anew: a gap would show
//! that something was recorded about an answer.

use std::{collections::BTreeMap, sync::Arc};

use glyph_workflow_engine::{
    WorkflowEvent, WorkflowSnapshot,
    config::StepConfig,
    events::StoredEvent,
    ids::{StepId, TaskId, UserId, WorkflowId},
    state::{AnnotationData, Assignment, ShownWork},
    store::{EventPage, EventStoreError, Store, WorkflowConfigStore},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::tasks::{Budget, READ_AT_ONCE};

/// What a person sees of a task.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OwnTask {
    /// The task.
    pub task_id: TaskId,
    /// Its workflow.
    pub workflow: WorkflowId,
    /// The number of the revision that it runs on.
    pub revision: u32,
    /// The person.
    pub user_id: UserId,
    /// The item to label.
    pub input: Option<Value>,
    /// The steps in which the person holds a slot or has submitted.
    pub steps: BTreeMap<StepId, OwnStep>,
}

/// A step in which the person holds a slot or has submitted.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OwnStep {
    /// The visits with work of the person, oldest first.
    pub visits: Vec<OwnVisit>,
}

/// A visit with work of the person.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OwnVisit {
    /// Its number, from 1.
    pub number: u32,
    /// The slot that the person has claimed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assignments: Vec<Assignment>,
    /// What the person has submitted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Arc<AnnotationData>>,
    /// What the person sees of the work of others.
    #[serde(flatten)]
    pub work: ShownWork,
    /// The output of the step's `pre_process` hooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Value>,
    /// The draft that the person left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Value>,
}

/// What `user` sees of a task.
pub async fn own_task(
    store: &dyn Store,
    state: &WorkflowSnapshot,
    user: UserId,
) -> Result<OwnTask, EventStoreError> {
    let revision = state.workflow.revision_id.0;
    let config = WorkflowConfigStore::load(store, revision).await?;
    let drafts = store.drafts(state.task_id).await?;
    let mut steps = BTreeMap::new();
    for (step_id, step) in &state.steps {
        let config = config.as_ref().and_then(|config| config.step(step_id));
        let show = config.map_or(&[][..], StepConfig::shows);
        let own = step.visits.iter().filter(|visit| visit.concerns(user));
        let visits: Vec<OwnVisit> = own
            .map(|visit| {
                let draft = drafts.iter().find(|draft| {
                    draft.step_id == *step_id
                        && draft.visit == visit.number
                        && draft.user_id == user
                });
                let annotations = visit.annotations.iter();
                OwnVisit {
                    number: visit.number,
                    assignments: visit.assignment_of(user).into_iter().cloned().collect(),
                    annotations: annotations
                        .filter(|given| given.user_id == user)
                        .cloned()
                        .collect(),
                    work: state.shown_work(step_id, visit, show),
                    prepared: visit.prepared.clone(),
                    draft: draft.map(|draft| draft.draft.clone()),
                }
            })
            .collect();
        if !visits.is_empty() {
            steps.insert(step_id.clone(), OwnStep { visits });
        }
    }
    Ok(OwnTask {
        task_id: state.task_id,
        workflow: state.workflow.workflow.clone(),
        revision: state.workflow.revision,
        user_id: user,
        input: state.input.clone(),
        steps,
    })
}

/// A page of what `user` did in a task, oldest first, numbered from 1.
pub async fn own_history(
    store: &dyn Store,
    task: TaskId,
    user: UserId,
    after: u64,
    limit: u32,
) -> Result<EventPage, EventStoreError> {
    let mut page = EventPage {
        events: Vec::new(),
        next_after: None,
        archived: None,
    };
    let mut budget = Budget::of_a_page();
    let (mut number, mut read_after) = (0, 0);
    loop {
        let read = store.events(task, read_after, READ_AT_ONCE).await?;
        for stored in read.events {
            let Some(own) = own_event(stored, user, number + 1) else {
                continue;
            };
            number += 1;
            if number <= after {
                continue;
            }
            if page.events.len() >= limit as usize || budget.is_spent() {
                page.next_after = page.events.last().map(|last| last.version);
                return Ok(page);
            }
            budget.spend(&own);
            page.events.push(own);
        }
        match read.next_after {
            Some(next) => read_after = next,
            None => return Ok(page),
        }
    }
}

/// An event as its person sees it, under the number `number`; none if it is not about what the
/// person did.
fn own_event(stored: StoredEvent, user: UserId, number: u64) -> Option<StoredEvent> {
    let StoredEvent {
        task_id,
        occurred_at,
        mut metadata,
        mut event,
        ..
    } = stored;
    let of = match &mut event {
        WorkflowEvent::TaskAssigned {
            user_id,
            offered,
            n,
            ..
        } => {
            *offered = None;
            *n = 1;
            *user_id
        }
        WorkflowEvent::AnnotationSubmitted {
            annotation,
            closes_at,
            ..
        } => {
            *closes_at = None;
            annotation.user_id
        }
        WorkflowEvent::ActivityRecorded { user_id, .. }
        | WorkflowEvent::TaskReleased { user_id, .. }
        | WorkflowEvent::TaskStalled { user_id, .. } => *user_id,
        _ => return None,
    };
    metadata.gold = false;
    // Who took a slot away is not the person's business.
    metadata.actor = None;
    (of == user).then(|| StoredEvent {
        // The id of an event tells its version.
        event_id: Uuid::new_v5(&task_id.0, format!("own/{user}/{number}").as_bytes()),
        task_id,
        version: number,
        occurred_at,
        metadata,
        event,
    })
}
