//! Tasks: the state as a document, and the explanation.

use std::collections::BTreeMap;

use glyph_workflow_engine::{
    WorkflowSnapshot,
    events::StoredEvent,
    ids::{StepId, TaskId},
    limits::PAGE_MAX,
    state::ShownWork,
    store::{EventStoreError, Store},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::explain::{Explanation, explain};

/// Maximum number of events that an explanation reads; a usual history is ten times shorter.
const EXPLAINED_EVENTS_MAX: usize = 20_000;

/// The state of a task with its current steps, which are derived from it.
#[derive(Serialize, JsonSchema)]
pub struct StateDocument<'a> {
    #[serde(flatten)]
    state: &'a WorkflowSnapshot,
    /// The steps in which the task is now.
    current_steps: Vec<StepId>,
    /// What is reviewed or adjudicated now, and what reviewers said about the round before, by
    /// step.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    work: BTreeMap<StepId, ShownWork>,
}

impl<'a> From<&'a WorkflowSnapshot> for StateDocument<'a> {
    fn from(state: &'a WorkflowSnapshot) -> Self {
        let shown = state.active_steps().filter_map(|step| {
            let work = state.shown_work(step, state.current_visit(step)?, &[]);
            (work != ShownWork::default()).then(|| (step.clone(), work))
        });
        Self {
            state,
            current_steps: state.current_steps(),
            work: shown.collect(),
        }
    }
}

/// The state of a task as JSON, as the API returns it.
pub fn state_document(state: &WorkflowSnapshot) -> Value {
    // Plain data with string keys always serializes.
    serde_json::to_value(StateDocument::from(state)).unwrap_or_default()
}

/// Explains a task from its state, its history and the pauses of workflows, with the current state
/// of its child tasks.
pub async fn explain_task(
    store: &dyn Store,
    state: &WorkflowSnapshot,
) -> Result<Explanation, EventStoreError> {
    let events = whole_history(store, state.task_id).await?;
    let active = store.workflow_pauses().await?.active;
    let mut explanation = explain(state, &events, active);
    let children = explanation
        .waiting
        .iter_mut()
        .filter_map(|w| w.child.as_mut());
    for child in children {
        if let Some(row) = store.task(child.task_id).await? {
            child.see(row);
        }
    }
    Ok(explanation)
}

/// The history of a task, oldest first, up to [`EXPLAINED_EVENTS_MAX`] events.
async fn whole_history(
    store: &dyn Store,
    task: TaskId,
) -> Result<Vec<StoredEvent>, EventStoreError> {
    let (mut events, mut after) = (Vec::new(), 0);
    while events.len() < EXPLAINED_EVENTS_MAX {
        let page = store.events(task, after, PAGE_MAX).await?;
        events.extend(page.events);
        match page.next_after {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(events)
}
