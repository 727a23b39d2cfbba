//! Gold tasks: tasks with a known answer.

use serde_json::Value;

use super::builder::DecisionBuilder;
use crate::{events::WorkflowEvent, ids::StepId, state::AnnotationData};

impl DecisionBuilder<'_> {
    /// Compares an accepted answer with the known one, if the task has one that applies to the
    /// step.
    pub(super) fn score(&mut self, step_id: &StepId, visit: u32, annotation: &AnnotationData) {
        let state = self.current();
        let (Some(expected), Some(visited)) = (&state.expected, state.visit(step_id, visit)) else {
            return;
        };
        let step = self.step(step_id);
        if !step.kind.spec().takes_answers {
            return;
        }
        let question = self.asked(step, visited);
        let input = state.input.as_ref().unwrap_or(&Value::Null);
        let least = self.config().gold.as_ref().and_then(|gold| gold.similarity);
        if let Some(verdict) = question.judge(&annotation.data, expected, input, least) {
            self.emit(WorkflowEvent::GoldScored {
                step_id: step_id.clone(),
                visit,
                annotation_id: annotation.annotation_id,
                user_id: annotation.user_id,
                correct: verdict.correct,
                similarity: Some(verdict.similarity),
            });
        }
    }

    /// Scores the answers that were accepted before the known one was supplied.
    pub(super) fn score_earlier(&mut self) {
        let steps = &self.current().steps;
        let answers: Vec<_> = steps
            .iter()
            .flat_map(|(step_id, state)| state.visits.iter().map(move |visit| (step_id, visit)))
            .flat_map(|(step_id, visit)| {
                let annotations = visit.annotations.iter();
                annotations.map(move |given| (step_id.clone(), visit.number, given.clone()))
            })
            .collect();
        for (step_id, visit, annotation) in answers {
            self.score(&step_id, visit, &annotation);
        }
    }
}
