//! Open incidents: what waits for an operator, by code.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    ids::{StepId, TaskId, WorkflowId},
    limits::PAGE_MAX,
    state::IncidentCode,
    store::{EventStore, EventStoreError, Store, TaskFilter, TaskPage},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Open incidents of some tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentList {
    /// The incidents by code.
    pub groups: Vec<IncidentGroup>,
    /// The task after which the next page starts; null on the last page.
    pub next_after: Option<TaskId>,
}

/// Open incidents with one code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentGroup {
    /// The code.
    pub code: IncidentCode,
    /// The incidents, by task.
    pub incidents: Vec<OpenIncident>,
}

/// An open incident of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OpenIncident {
    /// The task.
    pub task_id: TaskId,
    /// Its workflow.
    pub workflow: WorkflowId,
    /// The number of the revision.
    pub revision: u32,
    /// The step that cannot go on.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// What happened.
    pub reason: String,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
}

/// Which incidents.
#[derive(Clone, Debug, Default)]
pub struct IncidentFilter {
    /// Only in this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only with this code.
    pub code: Option<IncidentCode>,
}

/// Tasks whose states are in memory at a time.
const TASKS_AT_ONCE: u32 = 100;

/// The open incidents of the next `limit` tasks that have one.
///
/// # Errors
///
/// The store cannot be read.
pub async fn incidents(
    store: &dyn Store,
    filter: &IncidentFilter,
    mut after: Option<TaskId>,
    limit: u32,
) -> Result<IncidentList, EventStoreError> {
    let mut groups: BTreeMap<IncidentCode, Vec<OpenIncident>> = BTreeMap::new();
    let mut left = limit;
    while left > 0 {
        let tasks = TaskFilter {
            workflow: filter.workflow.clone(),
            incidents: true,
            after,
            limit: left.min(TASKS_AT_ONCE),
            ..TaskFilter::default()
        };
        let page = store.tasks(tasks).await?;
        let ids: Vec<TaskId> = page.tasks.iter().map(|task| task.task_id).collect();
        let states = EventStore::load(store, &ids).await?;
        let unfinished = ids.iter().filter_map(|id| states.get(id));
        for state in unfinished.filter(|state| !state.status.is_final()) {
            let wanted = |code| filter.code.is_none_or(|wanted| wanted == code);
            for incident in state.incidents.iter().filter(|one| wanted(one.code)) {
                groups.entry(incident.code).or_default().push(OpenIncident {
                    task_id: state.task_id,
                    workflow: state.workflow.workflow.clone(),
                    revision: state.workflow.revision,
                    step_id: incident.step_id.clone(),
                    visit: incident.visit,
                    reason: incident.reason.clone(),
                    opened_at: incident.opened_at,
                });
            }
        }
        left = left.saturating_sub(u32::try_from(page.tasks.len()).unwrap_or(u32::MAX));
        after = page.next_after;
        if after.is_none() {
            break;
        }
    }
    let groups = groups.into_iter();
    Ok(IncidentList {
        groups: groups
            .map(|(code, incidents)| IncidentGroup { code, incidents })
            .collect(),
        next_after: after,
    })
}

/// A page of a search for tasks, of which only those with an open incident of that code are kept.
/// A page with fewer tasks than asked for says whether there may be more. Where
/// the oldest come first, the code is looked for among the oldest [`PAGE_MAX`] with an incident.
///
/// # Errors
///
/// The store cannot be read.
pub async fn tasks_with(
    store: &dyn Store,
    filter: TaskFilter,
    code: IncidentCode,
) -> Result<TaskPage, EventStoreError> {
    let wanted = filter.limit as usize;
    let mut found = TaskPage::default();
    let mut looked_at = 0;
    let mut after = filter.after;
    while looked_at < PAGE_MAX {
        let limit = if filter.oldest_first {
            PAGE_MAX
        } else {
            TASKS_AT_ONCE
        };
        let page = store
            .tasks(TaskFilter {
                incidents: true,
                after,
                limit,
                ..filter.clone()
            })
            .await?;
        looked_at += limit;
        found.next_after = page.next_after;
        found.more = page.more;
        after = page.next_after;
        for rows in page.tasks.chunks(TASKS_AT_ONCE as usize) {
            let ids: Vec<TaskId> = rows.iter().map(|task| task.task_id).collect();
            let states = EventStore::load(store, &ids).await?;
            for row in rows {
                if found.tasks.len() == wanted {
                    // More may follow behind the last one that was taken.
                    let last = found.tasks.last().map(|task| task.task_id);
                    found.next_after = last.filter(|_| !filter.oldest_first);
                    found.more = true;
                    return Ok(found);
                }
                let state = states.get(&row.task_id);
                let has_it = state.is_some_and(|state| {
                    !state.status.is_final() && state.incidents.iter().any(|one| one.code == code)
                });
                if has_it {
                    found.tasks.push(row.clone());
                }
            }
        }
        if after.is_none() {
            break;
        }
    }
    Ok(found)
}
