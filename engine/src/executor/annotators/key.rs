//! Which annotator models a workflow needs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    answer::{Answer, Question},
    config::{
        AgreementMethod, CompletionType, ConsensusConfig, DisagreementStrategy, Fallback,
        InternalHandler, LoadBalancing, Performer, StepConfig, TieBreaker, WorkflowConfig,
    },
    ids::{StepId, WorkflowId},
    reliability::Classes,
};

/// What a model learns from: the answers to one question of one workflow, over all its revisions.
///
/// A revision that asks for another field, or declares other classes, asks another question. Its
/// model learns from all matching answers in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ModelKey {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step that people submit to.
    pub step: StepId,
    /// The path in `annotation.data`; all of the data if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Names of the declared classes, sorted; absent if any answer is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<String>>,
}

impl ModelKey {
    /// The answers at `field` of `step`, which asks `question`.
    pub fn new(
        workflow: &WorkflowId,
        step: &StepConfig,
        question: &Question,
        field: Option<&str>,
    ) -> Self {
        let same_question = is_confident(step) && question.field() == field;
        let classes = question
            .values()
            .filter(|_| same_question)
            .and_then(|values| {
                let names = values
                    .iter()
                    .filter_map(|value| Answer::plain(value).name());
                let mut names: Vec<String> = names.collect();
                names.sort();
                names.dedup();
                (!names.is_empty()).then_some(names)
            });
        Self {
            workflow: workflow.clone(),
            step: step.id.clone(),
            field: field.map(str::to_owned),
            classes,
        }
    }

    /// The answers that complete `step` by confidence; `None` if it completes otherwise.
    pub fn of_confidence(
        workflow: &WorkflowId,
        step: &StepConfig,
        question: &Question,
    ) -> Option<Self> {
        is_confident(step).then(|| Self::new(workflow, step, question, question.field()))
    }

    /// Every model that a decision about a task of the workflow may read.
    pub fn all_of(config: &WorkflowConfig) -> Vec<Self> {
        let mut keys = Vec::new();
        for step in &config.steps {
            // A step that asks nothing clearly is refused before any task runs on it.
            if let Ok(question) = step.question() {
                keys.extend(Self::of_confidence(&config.id, step, &question));
            }
            if let Some(consensus) = step.consensus.as_ref().filter(|c| weighs_votes(c)) {
                keys.extend(weighed(config, step, consensus));
            }
            if step.calls(InternalHandler::ConsensusCalculator) {
                keys.extend(calculated(config, step));
            }
        }
        keys.sort();
        keys.dedup();
        keys
    }

    /// The models of the answers to `step`, each with the place of what it knows in the step's
    /// value: that of a record's field, else the value itself. Only of a step that completes by
    /// confidence or may weigh votes.
    pub fn of_answers(config: &WorkflowConfig, step: &StepConfig) -> Vec<(Self, Option<String>)> {
        if let Ok(question) = step.question()
            && let Some(key) = Self::of_confidence(&config.id, step, &question)
        {
            return vec![(key, None)];
        }
        let weighing = step.consensus.as_ref().filter(|c| weighs_votes(c));
        let Some(question) = weighing.and_then(|c| step.question_compared_by(c).ok()) else {
            return Vec::new();
        };
        Self::of_question(&config.id, step, &question)
    }

    /// The models of one question to `step`, each with the path of its field: one for each field of
    /// a record, else one without a path.
    pub(in crate::executor) fn of_question(
        workflow: &WorkflowId,
        step: &StepConfig,
        question: &Question,
    ) -> Vec<(Self, Option<String>)> {
        let key = |field: Option<&str>| Self::new(workflow, step, question, field);
        if question.mode().is_none() {
            return vec![(key(question.field()), None)];
        }
        let fields = question.fields().into_iter();
        fields
            .map(|field| {
                let path = question.path_of(field.path);
                (key(Some(&path)), Some(field.path.to_owned()))
            })
            .collect()
    }

    /// The models that tell how reliable the annotators of `step` are: those of its answers, and
    /// of every other category that it asks for.
    pub fn of_report(config: &WorkflowConfig, step: &StepConfig) -> Vec<Self> {
        let answers = Self::of_answers(config, step).into_iter();
        let mut keys: Vec<Self> = answers.map(|(key, _)| key).collect();
        if let Ok(question) = step.question() {
            for (field, _) in question.categorical() {
                if keys.iter().all(|key| key.field != field) {
                    keys.push(Self::new(&config.id, step, &question, field.as_deref()));
                }
            }
        }
        keys
    }

    /// The models by which `step` assigns work; empty if it does not assign by quality.
    pub fn of_offers(workflow: &WorkflowId, step: &StepConfig) -> Vec<Self> {
        if step.load_balancing() != LoadBalancing::QualityWeighted {
            return Vec::new();
        }
        let Ok(question) = step.question() else {
            return Vec::new();
        };
        let categories = question.categorical().into_iter();
        categories
            .map(|(field, _)| Self::new(workflow, step, &question, field.as_deref()))
            .collect()
    }

    /// The id of the model in stores.
    pub fn id(&self) -> Uuid {
        let name = serde_json::to_string(self).unwrap_or_default();
        Uuid::new_v5(
            &Uuid::NAMESPACE_OID,
            format!("glyph/models/{name}").as_bytes(),
        )
    }

    /// The possible answers.
    pub fn possible(&self) -> Classes {
        self.classes
            .clone()
            .map_or(Classes::Open, Classes::Declared)
    }
}

fn is_confident(step: &StepConfig) -> bool {
    step.completion_type() == CompletionType::Confidence
}

/// Whether the votes of annotators may have different weights.
pub(in crate::executor) fn weighs_votes(consensus: &ConsensusConfig) -> bool {
    consensus.on_agreement.method == AgreementMethod::WeightedVote
        || consensus.on_disagreement.strategy == DisagreementStrategy::WeightedVote
        || consensus.on_disagreement.fallback == Some(Fallback::WeightedVote)
        || consensus.tie_breaker == TieBreaker::QualityWeighted
}

/// The models behind the weighted votes of `consensus` over the annotations of `step`.
fn weighed(
    config: &WorkflowConfig,
    step: &StepConfig,
    consensus: &ConsensusConfig,
) -> Vec<ModelKey> {
    let Ok(question) = step.question_compared_by(consensus) else {
        return Vec::new();
    };
    let keys = ModelKey::of_question(&config.id, step, &question);
    keys.into_iter().map(|(key, _)| key).collect()
}

/// The models of a `consensus_calculator`: it compares the step its `config` names, else the
/// subject step, which may be any annotation step.
fn calculated(config: &WorkflowConfig, step: &StepConfig) -> Vec<ModelKey> {
    let block = step.config.as_ref().unwrap_or(&Value::Null);
    let Ok((named, consensus)) = ConsensusConfig::of_calculator(block) else {
        return Vec::new();
    };
    if !weighs_votes(&consensus) {
        return Vec::new();
    }
    let compared = config.steps.iter().filter(|step| match &named {
        Some(id) => *step.id == **id,
        None => step.kind.spec().performer == Performer::Annotators,
    });
    compared
        .flat_map(|step| weighed(config, step, &consensus))
        .collect()
}
