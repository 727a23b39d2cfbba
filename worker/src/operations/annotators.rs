//! What is known about the people who annotate.

use std::collections::BTreeSet;

use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator,
    executor::annotators::{AnnotatorModel, ModelKey},
    ids::{StepId, UserId, WorkflowId},
    reliability::{CONFUSION_CLASSES_MAX, value_of},
    store::Store,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    projections::gold::{AnnotatorReliability, reliabilities},
    wire::labels::ModelAt,
};

/// What is known about an annotator.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AnnotatorReport {
    /// The annotator.
    pub user_id: UserId,
    /// By workflow, step and field, where the person has given labels that are categories.
    pub questions: Vec<QuestionReport>,
    /// The newest answers to gold tasks, and pauses, by workflow.
    pub workflows: Vec<AnnotatorReliability>,
}

/// What is known about an annotator's answers to one question.
#[derive(Debug, Serialize, JsonSchema)]
pub struct QuestionReport {
    #[serde(flatten)]
    accuracy: QuestionAccuracy,
    /// The answers, in the order of the rows and columns of `confusion`.
    pub classes: Vec<Value>,
    /// For each true answer (row) the probability that the person gives each answer (column). Empty
    /// where there are more answers than a model learns pairs of.
    pub confusion: Vec<Vec<f64>>,
}

/// How reliable an annotator is on one question.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct QuestionAccuracy {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step_id: StepId,
    /// The path of the answer in `annotation.data`; null where it is all of the data.
    pub field: Option<String>,
    /// The annotator.
    pub user_id: UserId,
    /// Labels, those on gold tasks included.
    pub labels: u64,
    /// The expected share of right labels.
    pub accuracy: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end of its 95 % interval.
    pub high: f64,
    /// Labels on gold tasks.
    pub gold_answers: u64,
    /// Right ones.
    pub gold_right: u64,
    /// Comparisons with the label of another person in the same visit.
    pub compared: u64,
    /// The share of them in which both gave the same answer; null without any.
    pub agreement_with_others: Option<f64>,
    /// How much the model has learned.
    pub model_position: ModelAt,
}

impl QuestionAccuracy {
    /// None if the person has given no label.
    fn of(known: &AnnotatorModel, user_id: UserId) -> Option<Self> {
        let name = user_id.to_string();
        let reliability = known.model().reliability(&name);
        if reliability.labels == 0 {
            return None;
        }
        let peers = known.agreement_with_others(&name);
        let key = known.key();
        Some(Self {
            workflow: key.workflow.clone(),
            step_id: key.step.clone(),
            field: key.field.clone(),
            user_id,
            labels: reliability.labels,
            accuracy: reliability.accuracy,
            low: reliability.low,
            high: reliability.high,
            gold_answers: reliability.gold_labels,
            gold_right: reliability.gold_right,
            compared: peers.compared,
            agreement_with_others: (peers.compared > 0)
                .then(|| peers.equal as f64 / peers.compared as f64),
            model_position: known.model_position().into(),
        })
    }
}

impl QuestionReport {
    /// How reliable the person is.
    pub fn accuracy(&self) -> &QuestionAccuracy {
        &self.accuracy
    }

    fn of(known: &AnnotatorModel, user: UserId) -> Option<Self> {
        let accuracy = QuestionAccuracy::of(known, user)?;
        let model = known.model();
        let confusion = if model.classes().len() <= CONFUSION_CLASSES_MAX {
            model.confusion(&user.to_string())
        } else {
            Vec::new()
        };
        Some(Self {
            accuracy,
            classes: model
                .classes()
                .iter()
                .map(|class| value_of(class))
                .collect(),
            confusion,
        })
    }
}

/// The report of one annotator, in one workflow or in all.
pub async fn annotator_report(
    store: &dyn Store,
    orchestrator: &WorkflowOrchestrator,
    user: UserId,
    workflow: Option<&WorkflowId>,
) -> Result<AnnotatorReport, OrchestrationError> {
    let keys = keys(orchestrator, workflow).await?;
    let mut questions = Vec::new();
    for key in keys {
        let known = orchestrator.known_annotators([key.clone()]).await?;
        let report = known.look(|models| QuestionReport::of(models.model(&key)?, user));
        questions.extend(report);
    }
    let mut workflows = reliabilities(store).await?;
    workflows.retain(|one| {
        one.user_id == user && workflow.is_none_or(|workflow| one.workflow == *workflow)
    });
    Ok(AnnotatorReport {
        user_id: user,
        questions,
        workflows,
    })
}

/// How reliable every annotator of a workflow is, by question and then by user id.
pub async fn annotator_accuracies(
    orchestrator: &WorkflowOrchestrator,
    workflow: &WorkflowId,
) -> Result<Vec<QuestionAccuracy>, OrchestrationError> {
    let mut all = Vec::new();
    for key in keys(orchestrator, Some(workflow)).await? {
        let known = orchestrator.known_annotators([key.clone()]).await?;
        known.look(|models| {
            let Some(known) = models.model(&key) else {
                return;
            };
            let people = known.model().annotators();
            let people: BTreeSet<UserId> = people
                .filter_map(|name| name.parse().ok().map(UserId))
                .collect();
            all.extend(
                people
                    .into_iter()
                    .filter_map(|user| QuestionAccuracy::of(known, user)),
            );
        });
    }
    Ok(all)
}

/// The questions of the newest revisions: of one workflow all whose answers are categories, of all
/// workflows only those whose models decisions use. A model that no decision uses reads the whole
/// log once, which is not done for every workflow at once.
async fn keys(
    orchestrator: &WorkflowOrchestrator,
    workflow: Option<&WorkflowId>,
) -> Result<BTreeSet<ModelKey>, OrchestrationError> {
    let store = &orchestrator.config_store;
    let mut keys = BTreeSet::new();
    if let Some(workflow) = workflow {
        if let Some(config) = store.load_by_name(workflow).await? {
            let steps = config.steps.iter();
            keys.extend(steps.flat_map(|step| ModelKey::of_report(&config, step)));
        }
        return Ok(keys);
    }
    let mut newest = None;
    for row in store.revisions(None).await? {
        if newest.as_ref() != Some(&row.workflow) {
            let config = orchestrator.workflow(row.id.0).await?;
            let offers = config.steps.iter();
            keys.extend(ModelKey::all_of(&config));
            keys.extend(offers.flat_map(|step| ModelKey::of_offers(&config.id, step)));
            newest = Some(row.workflow);
        }
    }
    Ok(keys)
}
