//! Backtests: recorded tasks of a workflow, decided again under other settings.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use glyph_workflow_engine::{
    OrchestrationError, WorkflowConfig, WorkflowOrchestrator,
    backtest::{
        Backtest, BacktestError, BacktestOptions, BacktestReport, ChangeError, Prices,
        change_settings,
    },
    ids::{TaskId, WorkflowId},
    limits::PAGE_MAX,
    store::{EventStoreError, LogPage, LogPosition, Store, TaskFilter},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to backtest.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BacktestRequest {
    /// The workflow: its id for the newest revision, `id@revision`, or the UUID of a revision. Its
    /// tasks of all revisions are decided again by this one.
    pub workflow: String,
    /// Settings to change: from a path in the expanded workflow to its value. The step may be left
    /// out of a path if only one has it.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
    /// Only tasks with all these key-value pairs are reported.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Prices of annotations.
    #[serde(default)]
    pub prices: Prices,
    /// Answers that became known after the task, by task. They measure the accuracy, like the
    /// known answers of gold tasks, but nothing learns from them.
    #[serde(default)]
    pub known: HashMap<TaskId, Value>,
}

/// What to backtest, with the workflow at hand.
#[derive(Clone, Debug)]
pub struct BacktestPlan {
    /// The revision that decides, before the settings are changed.
    pub workflow: WorkflowConfig,
    /// Settings to change, by their paths.
    pub set: Vec<(String, Value)>,
    /// Only tasks with all these key-value pairs are reported.
    pub labels: BTreeMap<String, String>,
    /// Prices of annotations.
    pub prices: Prices,
    /// Answers that became known after the task.
    pub known: HashMap<TaskId, Value>,
}

impl BacktestRequest {
    /// The plan, with the workflow that the request names.
    pub fn plan(self, workflow: WorkflowConfig) -> BacktestPlan {
        BacktestPlan {
            workflow,
            set: self.set.into_iter().collect(),
            labels: self.labels,
            prices: self.prices,
            known: self.known,
        }
    }
}

/// Why there is no backtest.
#[derive(Debug, thiserror::Error)]
pub enum BacktestFailure {
    /// No such workflow is stored, so nothing of it is recorded.
    #[error("there is no workflow `{0}`")]
    UnknownWorkflow(WorkflowId),
    /// The settings cannot be changed so.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A price that is no amount of money.
    #[error("the price {0} is not a number of at least 0")]
    Price(f64),
    /// The workflow cannot be simulated.
    #[error(transparent)]
    Backtest(#[from] BacktestError),
    /// The store or the engine failed.
    #[error(transparent)]
    Engine(#[from] OrchestrationError),
    /// The time was up before the tasks were found.
    #[error("the tasks were not found in time; `glyph backtest` has no such limit")]
    TimeUp,
    /// A bug.
    #[error("the backtest panicked")]
    Panicked,
}

impl From<EventStoreError> for BacktestFailure {
    fn from(error: EventStoreError) -> Self {
        Self::Engine(error.into())
    }
}

/// Decides the recorded tasks of a workflow again, page by page of its log. Changes nothing.
///
/// `within`: for how long to read; without limit if absent. A report of a part of the log says so.
/// `progress` is told how many events have been read. Decisions are made off the threads that
/// serve other work.
///
/// # Errors
///
/// [`BacktestFailure`].
pub async fn backtest(
    store: &dyn Store,
    orchestrator: &WorkflowOrchestrator,
    plan: BacktestPlan,
    within: Option<Duration>,
    progress: impl Fn(u64),
) -> Result<BacktestReport, BacktestFailure> {
    let began = Instant::now();
    let is_over = || within.is_some_and(|within| began.elapsed() >= within);
    let prices = plan.prices.each.iter().chain(plan.prices.roles.values());
    if let Some(price) = prices
        .copied()
        .find(|price| !price.is_finite() || *price < 0.0)
    {
        return Err(BacktestFailure::Price(price));
    }
    let id = &plan.workflow.id;
    let known = orchestrator.config_store.load_by_name(id).await;
    if known.map_err(OrchestrationError::from)?.is_none() {
        return Err(BacktestFailure::UnknownWorkflow(id.clone()));
    }
    let handlers: Vec<&str> = orchestrator.handler_registry.own_names().collect();
    let library = &orchestrator.step_library;
    let changed = change_settings(&plan.workflow, &plan.set, library, &handlers)?;
    let tasks = if plan.labels.is_empty() {
        None
    } else {
        Some(tasks_with(store, id, &plan.labels, is_over).await?)
    };
    let options = BacktestOptions {
        tasks,
        known: plan.known,
        prices: plan.prices,
    };
    let registry = (*orchestrator.handler_registry).clone();
    let mut backtest = Backtest::new(changed, registry, options)?;
    let filter = backtest.filter();
    let read = async |after: LogPosition| -> Result<LogPage, EventStoreError> {
        let mut page = store
            .read_workflow_log(filter.clone(), after, PAGE_MAX)
            .await?;
        leave_out_archived(store, &mut page).await?;
        Ok(page)
    };
    let mut page = read(LogPosition::default()).await?;
    loop {
        for revision in backtest.unknown_revisions(&page) {
            backtest.know(orchestrator.workflow(revision.0).await?);
        }
        let (through, is_last) = (page.through, page.is_last);
        let deciding = tokio::task::spawn_blocking(move || {
            backtest.read(&page);
            backtest
        });
        let next = async {
            if is_last {
                Ok(LogPage::default())
            } else {
                read(through).await
            }
        };
        // The next page is read while this one is decided.
        let (decided, next) = tokio::join!(deciding, next);
        backtest = decided.map_err(|_| BacktestFailure::Panicked)?;
        page = next?;
        progress(backtest.events());
        if is_last || is_over() {
            let finished = tokio::task::spawn_blocking(move || backtest.finish(is_last));
            return finished.await.map_err(|_| BacktestFailure::Panicked);
        }
    }
}

/// Of archived tasks the log has not what a backtest needs.
async fn leave_out_archived(store: &dyn Store, page: &mut LogPage) -> Result<(), EventStoreError> {
    let tasks = page.entries.iter().map(|(_, event)| event.task_id);
    let tasks: Vec<TaskId> = tasks.collect::<HashSet<_>>().into_iter().collect();
    let archived = store.archived(&tasks).await?;
    page.entries
        .retain(|(_, event)| !archived.contains_key(&event.task_id));
    Ok(())
}

/// The tasks of a workflow with these key-value pairs.
async fn tasks_with(
    store: &dyn Store,
    workflow: &WorkflowId,
    labels: &BTreeMap<String, String>,
    is_over: impl Fn() -> bool,
) -> Result<HashSet<TaskId>, BacktestFailure> {
    let mut found = HashSet::new();
    let mut after = None;
    loop {
        let filter = TaskFilter {
            workflow: Some(workflow.clone()),
            labels: labels.clone(),
            after,
            limit: PAGE_MAX,
            ..TaskFilter::default()
        };
        let page = store.tasks(filter).await?;
        found.extend(page.tasks.iter().map(|task| task.task_id));
        after = page.next_after;
        if after.is_none() {
            return Ok(found);
        }
        if is_over() {
            return Err(BacktestFailure::TimeUp);
        }
    }
}
