//! Which annotator models a workflow needs.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    config::{
        AgreementMethod, CompletionType, ConsensusConfig, DisagreementStrategy, Fallback,
        InternalHandler, LoadBalancing, Performer, StepConfig, TieBreaker, WorkflowConfig,
    },
    ids::{StepId, WorkflowId},
    reliability::{Classes, class_of},
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
    /// The answers at `field` of `step`.
    pub fn new(workflow: &WorkflowId, step: &StepConfig, field: Option<&str>) -> Self {
        let same_question = is_confident(step) && answer_field(step) == field;
        let declared = step.completion.as_ref().filter(|_| same_question);
        let classes = declared.and_then(|completion| {
            let mut names: Vec<String> = completion
                .classes
                .iter()
                .flatten()
                .filter_map(|class| class_of(class).ok())
                .collect();
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
    pub fn of_confidence(workflow: &WorkflowId, step: &StepConfig) -> Option<Self> {
        is_confident(step).then(|| Self::new(workflow, step, answer_field(step)))
    }

    /// Every model that a decision about a task of the workflow may read.
    pub fn all_of(config: &WorkflowConfig) -> Vec<Self> {
        let mut keys = Vec::new();
        for step in &config.steps {
            keys.extend(Self::of_confidence(&config.id, step));
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

    /// The models by which `step` assigns work; empty if it does not assign by quality.
    pub fn of_offers(workflow: &WorkflowId, step: &StepConfig) -> Vec<Self> {
        if step.load_balancing() != LoadBalancing::QualityWeighted {
            return Vec::new();
        }
        let categories = step.categories().into_iter();
        categories
            .map(|field| Self::new(workflow, step, field))
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

/// The path of the answer in `annotation.data`.
fn answer_field(step: &StepConfig) -> Option<&str> {
    let of_consensus = || step.consensus.as_ref()?.field.as_deref();
    step.field.as_deref().or_else(of_consensus)
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
    let fields: Vec<Option<&str>> = match &consensus.per_field {
        Some(fields) => fields.keys().map(|field| Some(field.as_str())).collect(),
        None => vec![consensus.field.as_deref()],
    };
    let key = |field| ModelKey::new(&config.id, step, field);
    fields.into_iter().map(key).collect()
}

/// The models of a `consensus_calculator`: it compares the step its `config` names, else the
/// subject step, which may be any annotation step.
fn calculated(config: &WorkflowConfig, step: &StepConfig) -> Vec<ModelKey> {
    let mut block = step.config.clone().unwrap_or(Value::Null);
    let named = block.as_object_mut().and_then(|keys| keys.remove("step"));
    let Ok(consensus) = serde_json::from_value::<ConsensusConfig>(block) else {
        return Vec::new();
    };
    if !weighs_votes(&consensus) {
        return Vec::new();
    }
    let named = named.as_ref().and_then(Value::as_str);
    let compared = config.steps.iter().filter(|step| match named {
        Some(id) => step.id == *id,
        None => step.kind.spec().performer == Performer::Annotators,
    });
    compared
        .flat_map(|step| weighed(config, step, &consensus))
        .collect()
}
