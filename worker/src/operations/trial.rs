//! Trials: a crowd of made-up people works on made-up tasks of a workflow. Nothing is stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use glyph_workflow_engine::{
    WorkflowConfig,
    backtest::{ChangeError, change_settings},
    config::StepLibrary,
    ids::WorkflowId,
    simulation::{Crowd, CrowdError, CrowdReport, play_crowd},
    store::{StorageError, Store},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to try.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrialRequest {
    /// Who answers, how well, and how many tasks.
    pub crowd: Crowd,
    /// Settings to change: from a path in the expanded workflow to its value. The step may be left
    /// out of a path if only one has it.
    pub set: BTreeMap<String, Value>,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trial {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The revision, before its settings were changed; 0 for a file.
    pub revision: u32,
    /// The crowd.
    pub crowd: Crowd,
    /// The settings that were changed, by their full paths.
    pub set: BTreeMap<String, Value>,
    /// What came of the tasks.
    #[serde(flatten)]
    pub report: CrowdReport,
}

/// Why there is no trial.
#[derive(Debug, thiserror::Error)]
pub enum TrialFailure {
    /// The settings cannot be changed so.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The crowd is impossible, or cannot play the workflow.
    #[error(transparent)]
    Crowd(#[from] CrowdError),
    /// A bug.
    #[error("the trial panicked")]
    Panicked,
}

/// Tries a workflow, with its settings changed. `children` are the workflows that it runs, `library` and
/// `handlers` are those by which a changed workflow is checked. `within`: for how long tasks are played;
/// a report of fewer says so. Works off the threads that serve others.
///
/// # Errors
///
/// [`TrialFailure`].
pub async fn trial(
    workflow: WorkflowConfig,
    children: Vec<WorkflowConfig>,
    request: TrialRequest,
    (library, handlers): (&StepLibrary, &[&str]),
    within: Option<Duration>,
) -> Result<Trial, TrialFailure> {
    let settings: Vec<(String, Value)> = request.set.into_iter().collect();
    let changed = change_settings(&workflow, &settings, library, handlers)?;
    let (id, revision, crowd) = (workflow.id, workflow.revision, request.crowd);
    let mut workflows = vec![changed.config];
    workflows.extend(children);
    let playing = tokio::task::spawn_blocking(move || {
        let began = Instant::now();
        let goes_on = || within.is_none_or(|within| began.elapsed() < within);
        play_crowd(workflows, &crowd, goes_on)
    });
    let report = playing.await.map_err(|_| TrialFailure::Panicked)??;
    Ok(Trial {
        workflow: id,
        revision,
        crowd,
        set: changed
            .changes
            .into_iter()
            .map(|change| (change.path, change.after))
            .collect(),
        report,
    })
}

/// The newest revisions of the workflows that a workflow runs, and of those that they run.
///
/// # Errors
///
/// The store cannot be read.
pub async fn children_of(
    store: &dyn Store,
    workflow: &WorkflowConfig,
) -> Result<Vec<WorkflowConfig>, StorageError> {
    let mut known = BTreeSet::from([workflow.id.clone()]);
    let mut open = named_by(workflow);
    let mut children = Vec::new();
    while let Some(id) = open.pop() {
        if !known.insert(id.clone()) {
            continue;
        }
        if let Some(child) = store.load_by_name(&id).await? {
            open.extend(named_by(&child));
            children.push(child);
        }
    }
    Ok(children)
}

fn named_by(workflow: &WorkflowConfig) -> Vec<WorkflowId> {
    let steps = workflow.steps.iter();
    steps.filter_map(|step| step.workflow.clone()).collect()
}
