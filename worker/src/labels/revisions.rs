//! Looking back: answers that would be other ones now.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::answer::Answer;

use super::label::Label;
use crate::wire::labels::AnswerRevised;

/// What a look at a page of labels found.
#[derive(Debug, Default)]
pub struct Revisions {
    /// The answers that would be other ones.
    pub revised: Vec<AnswerRevised>,
    /// The answers that a model knows.
    pub answers: u64,
}

/// The answers of labels that would be other ones now. Only outputs are looked at: gold tasks and
/// answers that a later step replaced are not.
pub fn revisions_of(labels: &[Label], now: DateTime<Utc>) -> Revisions {
    let mut found = Revisions::default();
    for label in labels.iter().filter(|label| label.is_output()) {
        for known in label.known_now() {
            let (Some(before), Some(value_now)) = (known.value, known.value_now) else {
                continue;
            };
            found.answers += 1;
            if Answer::plain(before) == Answer::plain(value_now) {
                continue;
            }
            let workflow = &label.context.workflow;
            found.revised.push(AnswerRevised {
                task_id: label.task_id,
                workflow_id: workflow.revision_id,
                workflow: workflow.workflow.clone(),
                revision: workflow.revision,
                step_id: label.step.clone(),
                visit: label.visit,
                field: known.field.cloned(),
                before: before.clone(),
                now: value_now.clone(),
                posterior_before: label.posterior.clone().filter(|_| known.field.is_none()),
                posterior_now: known.posterior_now.clone(),
                model_position: known.model_position,
                looked_at: now,
            });
        }
    }
    found
}
