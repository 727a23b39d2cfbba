//! What a person sees of the work of others: the subject of a review or adjudication, and what was
//! said about an earlier round. Annotators are never named.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{ReviewDecision, StepVisit, Visit, WorkflowSnapshot};
use crate::ids::StepId;

/// What a person sees of the work of others.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShownWork {
    /// What a review or adjudication is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<ShownSubject>,
    /// What a reviewer said about the round before, where a loop has led back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousRound>,
    /// The annotations of the steps that `assignment.show` names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<ShownStep>,
}

/// What a review or adjudication is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShownSubject {
    /// The value that `approve` keeps; null if there is none.
    pub value: Option<Value>,
    /// The annotations that led to it.
    pub steps: Vec<ShownStep>,
    /// What annotators agree on, if an adjudicator is asked for the rest only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Value>,
    /// What they do not agree on: paths of a record's fields, members of a set, or regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disputed: Option<Value>,
}

/// The annotations of one visit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShownStep {
    /// The step.
    pub step: StepId,
    /// The visit, from 1.
    pub visit: u32,
    /// Its annotations, in order of acceptance.
    pub annotations: Vec<ShownAnnotation>,
}

/// An annotation, without its annotator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ShownAnnotation {
    /// Its id.
    pub annotation_id: Uuid,
    /// What was labelled.
    pub data: Value,
}

/// What a reviewer said about the round before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PreviousRound {
    /// The decision.
    pub decision: ReviewDecision,
    /// The reason, if the reviewer's data give one.
    pub reason: Option<String>,
    /// The reviewer's data.
    pub data: Value,
}

impl WorkflowSnapshot {
    /// What whoever works on a visit sees of the work of others. `show`: the steps that the step
    /// names in `assignment.show`.
    pub fn shown_work(&self, step_id: &StepId, visit: &Visit, show: &[StepId]) -> ShownWork {
        let shown = show.iter().filter_map(|step| self.last_ended(step));
        ShownWork {
            subject: self.shown_subject(visit),
            previous: self.previous_round(step_id, visit),
            shown: shown.filter_map(|at| self.shown_step(&at)).collect(),
        }
    }

    fn shown_subject(&self, visit: &Visit) -> Option<ShownSubject> {
        let subject = visit.subject.as_ref()?;
        let visits = visit.reviewed.iter().chain(&visit.reviewed_with);
        let steps = visits.filter_map(|at| self.shown_step(at));
        Some(ShownSubject {
            value: subject.value.clone(),
            steps: steps.collect(),
            agreed: subject.agreed.clone(),
            disputed: subject.disputed.clone(),
        })
    }

    fn shown_step(&self, at: &StepVisit) -> Option<ShownStep> {
        let annotations = self.visit(&at.step_id, at.visit)?.annotations.iter();
        let shown = annotations.map(|annotation| ShownAnnotation {
            annotation_id: annotation.annotation_id,
            data: annotation.data.clone(),
        });
        Some(ShownStep {
            step: at.step_id.clone(),
            visit: at.visit,
            annotations: shown.collect(),
        })
    }

    /// The last review on the way to a visit that is not its step's first.
    fn previous_round(&self, step_id: &StepId, visit: &Visit) -> Option<PreviousRound> {
        if visit.number < 2 {
            return None;
        }
        let mut next = self.entered_through(step_id, visit);
        // Each turn goes back to a visit that ended earlier; none is longer than the history.
        for _ in 0..=self.completed.len() {
            let at = next?;
            let visit = self.visit(&at.step_id, at.visit)?;
            let said = visit.annotations.last();
            let decided = said.and_then(|said| Some((said, said.review_decision()?)));
            if let Some((said, decision)) = decided {
                let reason = said.data.get("reason").and_then(Value::as_str);
                return Some(PreviousRound {
                    decision,
                    reason: reason.map(str::to_owned),
                    data: said.data.clone(),
                });
            }
            next = self.entered_through(&at.step_id, visit);
        }
        None
    }

    /// The visit whose branch arrived last at this one, loops included.
    fn entered_through(&self, step_id: &StepId, visit: &Visit) -> Option<StepVisit> {
        match visit.arrived.last() {
            Some(last) => Some(last.clone()),
            None => self.visits_before(step_id, visit).pop(),
        }
    }
}
