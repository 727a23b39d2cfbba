//! Tasks: the state as a document, and the explanation.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::{FutureExt, future::BoxFuture};
use glyph_workflow_engine::{
    WorkflowSnapshot,
    events::StoredEvent,
    ids::{StepId, TaskId},
    limits::{PAGE_MAX, SUB_WORKFLOW_DEPTH_DEFAULT},
    state::{ShownWork, Visit, WorkflowPause},
    store::{
        EventPage, EventStore, EventStoreError, Store, TaskPage, TaskRow, WorkflowConfigStore,
    },
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{
    explain::{Explanation, explain},
    waiting::{ChildStatus, Known, Missing, job_event, wants_somebody},
};

/// Maximum number of events that an explanation reads; a usual history is ten times shorter.
const EXPLAINED_EVENTS_MAX: usize = 20_000;

/// The newest events of the log that are searched for people with a role.
pub(super) const PEOPLE_EVENTS_MAX: u32 = 20_000;

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

/// Bytes of JSON after which a page ends, whatever its number of rows.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Events that are read at once: so much more than a page is held in memory at most.
pub(super) const READ_AT_ONCE: u32 = 32;

/// How much of a page is left, in bytes.
pub(super) struct Budget(usize);

impl Budget {
    /// The bytes of one page.
    pub(super) fn of_a_page() -> Self {
        Self(PAGE_BYTES_MAX)
    }

    /// Counts a row.
    pub(super) fn spend(&mut self, row: &impl Serialize) {
        let bytes = serde_json::to_string(row).map_or(0, |text| text.len());
        self.0 = self.0.saturating_sub(bytes);
    }

    /// Whether the page is full.
    pub(super) fn is_spent(&self) -> bool {
        self.0 == 0
    }
}

/// The beginning of a page of tasks, where their labels are so long that it is too large.
pub fn bounded(mut page: TaskPage) -> TaskPage {
    let mut budget = Budget::of_a_page();
    let fits = |row: &&TaskRow| {
        let fits = !budget.is_spent();
        budget.spend(row);
        fits
    };
    let kept = page.tasks.iter().take_while(fits).count();
    if kept < page.tasks.len() {
        page.tasks.truncate(kept);
        page.next_after = page.tasks.last().map(|row| row.task_id);
        page.more = true;
    }
    page
}

/// A page of the history of a task, oldest first: at most `limit` events, and fewer where they are
/// large.
pub async fn history(
    store: &dyn Store,
    task: TaskId,
    after: u64,
    limit: u32,
) -> Result<EventPage, EventStoreError> {
    let mut page = whole_page(store, task, after, limit).await?;
    page.archived = archived_before(store, task, after, &page).await?;
    Ok(page)
}

/// When the task was archived, if versions of a page are missing in the log.
async fn archived_before(
    store: &dyn Store,
    task: TaskId,
    after: u64,
    page: &EventPage,
) -> Result<Option<DateTime<Utc>>, EventStoreError> {
    let mut versions = page
        .events
        .iter()
        .map(|event| event.version)
        .zip(after + 1..);
    if versions.all(|(version, wanted)| version == wanted) {
        return Ok(None);
    }
    Ok(store.archived(&[task]).await?.remove(&task))
}

async fn whole_page(
    store: &dyn Store,
    task: TaskId,
    after: u64,
    limit: u32,
) -> Result<EventPage, EventStoreError> {
    let mut page = EventPage::default();
    let mut budget = Budget::of_a_page();
    let mut read_after = after;
    loop {
        let left = limit.saturating_sub(u32::try_from(page.events.len()).unwrap_or(limit));
        let read = store
            .events(task, read_after, left.min(READ_AT_ONCE))
            .await?;
        for event in read.events {
            if budget.is_spent() {
                page.next_after = page.events.last().map(|last| last.version);
                return Ok(page);
            }
            budget.spend(&event);
            page.events.push(event);
        }
        match read.next_after {
            Some(next) if page.events.len() < limit as usize => read_after = next,
            next => {
                page.next_after = next;
                return Ok(page);
            }
        }
    }
}

/// Explains a task from its state and its history, and from what can be seen around it: pauses of
/// workflows, child tasks and what those wait for, the messages of jobs, and the people who have
/// worked in its workflow.
pub async fn explain_task(
    store: &dyn Store,
    state: &WorkflowSnapshot,
) -> Result<Explanation, EventStoreError> {
    let pauses = store.workflow_pauses().await?.active;
    explain_below(store, state, &pauses, SUB_WORKFLOW_DEPTH_DEFAULT).await
}

/// Explains a task, and its children down to `depth` levels below it.
fn explain_below<'a>(
    store: &'a dyn Store,
    state: &'a WorkflowSnapshot,
    pauses: &'a [WorkflowPause],
    depth: u32,
) -> BoxFuture<'a, Result<Explanation, EventStoreError>> {
    let explained = async move {
        let events = whole_history(store, state.task_id).await?;
        let visits = state
            .current_steps()
            .into_iter()
            .filter_map(|step| Some((state.current_visit(&step)?, step)));
        let visits: Vec<(&Visit, StepId)> = visits.collect();
        let mut known = Known {
            pauses: pauses.to_vec(),
            ..Known::default()
        };
        for (visit, step) in &visits {
            if let Some(child) = visit.child.as_ref().filter(|_| depth > 0) {
                let found = EventStore::load(store, &[child.task_id]).await?;
                let seen = match found.get(&child.task_id) {
                    Some(seen) => {
                        let below = explain_below(store, seen, pauses, depth - 1).await?;
                        Some((seen, below.summary))
                    }
                    None => None,
                };
                let status = ChildStatus::of(child, pauses, seen);
                known.children.insert(child.task_id, status);
            }
            let call = visit.call.as_ref();
            let job = call.and_then(|call| job_event(&events, step, visit.number, call));
            if let Some(job) = job
                && let Some(unconfirmed) = store.unconfirmed(job.task_id, job.version).await?
            {
                known.unconfirmed.insert(job.event_id, unconfirmed);
            }
        }
        known.nobody_has = nobody_has(store, state, &visits).await?;
        Ok(explain(state, &events, &known))
    };
    explained.boxed()
}

/// Roles and skills that the waiting steps ask for and that nobody has shown in the workflow.
async fn nobody_has(
    store: &dyn Store,
    state: &WorkflowSnapshot,
    visits: &[(&Visit, StepId)],
) -> Result<BTreeMap<StepId, Missing>, EventStoreError> {
    let revision = state.workflow.revision_id.0;
    let workflow = WorkflowConfigStore::load(store, revision).await?;
    let Some(workflow) = workflow else {
        return Ok(BTreeMap::new());
    };
    let asks = |step: &&StepId| wants_somebody(state, &workflow, step);
    let asking: Vec<&StepId> = visits.iter().map(|(_, step)| step).filter(asks).collect();
    if asking.is_empty() {
        return Ok(BTreeMap::new());
    }
    let seen = store.people_seen(&workflow.id, PEOPLE_EVENTS_MAX).await?;
    let missing = asking
        .into_iter()
        .filter_map(|step| Some((step.clone(), Missing::of(&workflow, step, &seen)?)));
    Ok(missing.collect())
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
