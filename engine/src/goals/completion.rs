//! What happens when a goal is met.

use uuid::Uuid;

use crate::{config::CompletionActionConfig, ids::Slug, ids::WorkflowId, store::GoalProgressRow};

/// Something that must happen once, because a goal was met.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionAction {
    /// What.
    pub action: CompletionActionConfig,
    /// The progress that met the goal.
    pub progress: GoalProgressRow,
}

impl CompletionAction {
    /// The same for the same goal, epoch and action, whoever derives it and however often: what
    /// was done under this id is not done again.
    pub fn id(&self) -> Uuid {
        let GoalProgressRow {
            workflow,
            goal,
            epoch,
            ..
        } = &self.progress;
        derived_id(workflow, goal, *epoch, self.action.as_str())
    }
}

/// The id of what a goal causes.
pub(super) fn derived_id(workflow: &WorkflowId, goal: &Slug, epoch: u32, what: &str) -> Uuid {
    let name = format!("glyph/goals/{workflow}/{goal}/{epoch}/{what}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}
