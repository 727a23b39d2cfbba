//! Reads labels page by page.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator,
    config::WorkflowConfig,
    executor::annotators::ModelKey,
    ids::{RevisionId, StepId, TaskId, WorkflowId, WorkflowSelector},
    state::TaskStatus,
    store::{EventStore, Store, TaskFilter},
};

use super::label::{Label, Revision};

/// Tasks whose states are in memory at once.
const TASKS_AT_ONCE: u32 = 100;

/// Which labels to read.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelFilter {
    /// Of this workflow, in all its revisions.
    pub workflow: WorkflowId,
    /// Of this step.
    pub step: Option<StepId>,
    /// Of tasks with all these key-value pairs.
    pub labels: BTreeMap<String, String>,
    /// Of tasks that ended at this time or later.
    pub since: Option<DateTime<Utc>>,
}

impl LabelFilter {
    /// All labels of a workflow.
    pub fn new(workflow: WorkflowId) -> Self {
        Self {
            workflow,
            step: None,
            labels: BTreeMap::new(),
            since: None,
        }
    }
}

/// The labels of some tasks.
#[derive(Debug, Default)]
pub struct LabelPage {
    /// The labels, by task and then in the order of the workflow's steps.
    pub labels: Vec<Label>,
    /// The tasks that were looked at.
    pub tasks: u32,
    /// The task after which the next page starts; none on the last page.
    pub next_after: Option<TaskId>,
}

/// Reads the labels of completed tasks, by task id.
pub struct LabelReader<'a> {
    store: &'a dyn Store,
    orchestrator: &'a WorkflowOrchestrator,
    filter: LabelFilter,
    revisions: HashMap<RevisionId, Arc<Revision>>,
}

impl std::fmt::Debug for LabelReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabelReader")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl<'a> LabelReader<'a> {
    /// A reader of the labels that `filter` selects.
    pub fn new(
        store: &'a dyn Store,
        orchestrator: &'a WorkflowOrchestrator,
        filter: LabelFilter,
    ) -> Self {
        Self {
            store,
            orchestrator,
            filter,
            revisions: HashMap::new(),
        }
    }

    /// The labels of the next tasks: at most `limit`, and at most a hundred, so a page
    /// may be shorter than asked for.
    pub async fn page(
        &mut self,
        after: Option<TaskId>,
        limit: u32,
    ) -> Result<LabelPage, OrchestrationError> {
        let filter = TaskFilter {
            workflow: Some(self.filter.workflow.clone()),
            status: Some(TaskStatus::Completed),
            or_archived: true,
            labels: self.filter.labels.clone(),
            after,
            limit: limit.min(TASKS_AT_ONCE),
            ..TaskFilter::default()
        };
        let page = self.store.tasks(filter).await?;
        let in_time = page.tasks.iter().filter(|task| {
            let since = self.filter.since;
            since.is_none_or(|since| task.updated_at >= since)
        });
        let tasks: Vec<TaskId> = in_time.map(|task| task.task_id).collect();
        let mut states = if tasks.is_empty() {
            HashMap::new()
        } else {
            EventStore::load(self.store, &tasks).await?
        };
        // What is archived may have ended otherwise.
        states.retain(|_, state| state.ended() == TaskStatus::Completed);
        let mut keys = BTreeSet::new();
        for state in states.values() {
            let revision = self.revision(state.workflow.revision_id).await?;
            let step = self.filter.step.as_ref();
            keys.extend(revision.keys(step).cloned());
        }
        let known = self.orchestrator.known_annotators(keys).await?;
        let labels = known.look(|models| {
            let of = tasks.iter().filter_map(|task| {
                let state = states.get(task)?;
                let revision = self.revisions.get(&state.workflow.revision_id)?;
                Some(revision.labels(state, self.filter.step.as_ref(), models))
            });
            of.flatten().collect()
        });
        Ok(LabelPage {
            labels,
            tasks: u32::try_from(page.tasks.len()).unwrap_or(u32::MAX),
            next_after: page.next_after,
        })
    }

    /// Whether any model of the annotators knows the answers of the newest revision.
    pub async fn has_models(&self) -> Result<bool, OrchestrationError> {
        let newest = newest_revision(self.orchestrator, &self.filter.workflow);
        let step = self.filter.step.as_ref();
        let has_models = newest.await?.is_some_and(|config| {
            let steps = config.steps.iter();
            let mut steps = steps.filter(|of| step.is_none_or(|step| *step == of.id));
            steps.any(|step| !ModelKey::of_answers(&config, step).is_empty())
        });
        Ok(has_models)
    }

    async fn revision(&mut self, id: RevisionId) -> Result<Arc<Revision>, OrchestrationError> {
        if let Some(known) = self.revisions.get(&id) {
            return Ok(Arc::clone(known));
        }
        let revision = Arc::new(Revision::of(self.orchestrator.workflow(id.0).await?));
        self.revisions.insert(id, Arc::clone(&revision));
        Ok(revision)
    }
}

/// The newest revision of a workflow, if there is one. Its content is read from the store only
/// where it is not known yet.
pub(crate) async fn newest_revision(
    orchestrator: &WorkflowOrchestrator,
    workflow: &WorkflowId,
) -> Result<Option<Arc<WorkflowConfig>>, OrchestrationError> {
    let selector = WorkflowSelector::Latest(workflow.clone());
    let store = &orchestrator.config_store;
    let found = store.resolve(std::slice::from_ref(&selector)).await?;
    match found.get(&selector) {
        Some(id) => orchestrator.workflow(id.0).await.map(Some),
        None => Ok(None),
    }
}
