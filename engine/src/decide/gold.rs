//! Gold tasks: tasks with a known answer.

use super::builder::DecisionBuilder;
use crate::{
    events::WorkflowEvent,
    executor::{is_expected, selection},
    ids::StepId,
    state::AnnotationData,
};

impl DecisionBuilder<'_> {
    /// Compares an accepted answer with the known one, if the task has one that applies to the
    /// step.
    pub(super) fn score(&mut self, step_id: &StepId, visit: u32, annotation: &AnnotationData) {
        let state = self.current();
        let (Some(expected), Some(visited)) = (&state.expected, state.visit(step_id, visit)) else {
            return;
        };
        let step = self.step(step_id);
        let selection = selection(self.config(), step, visited);
        let correct = is_expected(&selection, &annotation.data, expected);
        if let Some(correct) = correct.filter(|_| step.kind.spec().takes_answers) {
            self.emit(WorkflowEvent::GoldScored {
                step_id: step_id.clone(),
                visit,
                annotation_id: annotation.annotation_id,
                user_id: annotation.user_id,
                correct,
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
