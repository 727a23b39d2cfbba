//! The edges that a task can really take, given how its steps can end.

use super::{
    draft::Goal,
    outcomes::Ends,
    ways::{By, Way},
};
use crate::config::{CompletionType, HookStage, Performer, StepConfig, StepSet};

/// The edges that can be taken.
pub(super) struct Map<'e, 'a> {
    pub(super) ways: Vec<&'e Way<'a>>,
    /// For each step, the indexes of the edges that leave it.
    pub(super) leaving: Vec<Vec<usize>>,
    /// For each step, the indexes of the edges that lead to it.
    pub(super) entering: Vec<Vec<usize>>,
}

impl<'e, 'a> Map<'e, 'a> {
    pub(super) fn of(ends: &Ends<'e, 'a>) -> Self {
        let steps = &ends.draft.steps;
        let decided =
            |at: usize| steps[at].true_branch.is_some() && steps[at].false_branch.is_some();
        let ways: Vec<&Way<'a>> = ends
            .ways
            .all
            .iter()
            .filter(|way| match way.by {
                By::Branch(_) => true,
                By::Transition(at) | By::Exhausted(at) => {
                    !decided(way.from) && can_fire(ends, way.from, at)
                }
            })
            .collect();
        let mut leaving = vec![Vec::new(); steps.len()];
        let mut entering = vec![Vec::new(); steps.len()];
        for (at, way) in ways.iter().enumerate() {
            leaving[way.from].push(at);
            if let Goal::Step(to) = way.to {
                entering[to].push(at);
            }
        }
        Self {
            ways,
            leaving,
            entering,
        }
    }

    /// The step to which an edge leads.
    pub(super) fn target(&self, way: usize) -> Option<usize> {
        match self.ways[way].to {
            Goal::Step(to) => Some(to),
            Goal::Complete | Goal::Failed | Goal::Unknown => None,
        }
    }

    /// The step itself, and every step that a task at it can come to; without `barred` edges.
    pub(super) fn reached(&self, from: usize, barred: impl Fn(&Way<'_>) -> bool) -> StepSet {
        let mut seen = StepSet::none(self.leaving.len());
        let mut waiting = vec![from];
        while let Some(at) = waiting.pop() {
            if seen.add(at) {
                let open = self.leaving[at]
                    .iter()
                    .filter(|way| !barred(self.ways[**way]));
                waiting.extend(open.filter_map(|way| self.target(*way)));
            }
        }
        seen
    }
}

/// Whether the step can end so that this transition fires.
pub(super) fn can_fire(ends: &Ends<'_, '_>, from: usize, at: usize) -> bool {
    ends.endings[from].as_ref().is_none_or(|endings| {
        let mut outcomes = 0..endings.outcomes.len();
        outcomes.any(|outcome| ends.can_take(endings, outcome, By::Transition(at)))
    })
}

/// Whether a step can end as soon as it has begun. `post_process` hooks are ignored: they are
/// skipped where the step has no value, so they do not always delay the step.
pub(super) fn is_instant(step: &StepConfig) -> bool {
    matches!(
        step.kind.spec().performer,
        Performer::Handler | Performer::Expression
    ) && step.completion_type() == CompletionType::Auto
        && step.external_handler().is_none()
        && !waits_outside(step, HookStage::PreProcess)
}

/// Whether a task can stay at a step for a while.
pub(super) fn can_linger(step: &StepConfig) -> bool {
    !is_instant(step) || waits_outside(step, HookStage::PostProcess)
}

/// Whether a hook that the step waits for calls an external handler; all other hooks run within the
/// decision.
fn waits_outside(step: &StepConfig, stage: HookStage) -> bool {
    let mut hooks = step.hooks_at(stage).iter();
    hooks.any(|hook| hook.external_handler().is_some())
}
