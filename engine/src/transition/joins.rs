//! Where branches meet.
//!
//! A join waits for every branch that can still arrive: the active steps from which it can be
//! reached. Bounded transitions (`loop`) are not counted. Every cycle has one, so the remaining
//! edges form an acyclic graph. A join therefore waits only for steps before it, and two joins
//! never wait for each other. So no reachable state is a deadlock, however branches race or end
//! elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    config::{JoinMode, StepConfig, WorkflowConfig},
    ids::StepId,
};

/// The order of steps along transitions that are not bounded.
#[derive(Clone, Debug, Default)]
pub(super) struct Ways {
    /// For each step, the steps from which it can be reached.
    before: BTreeMap<StepId, BTreeSet<StepId>>,
}

impl Ways {
    pub(super) fn of(config: &WorkflowConfig) -> Self {
        let mut next: BTreeMap<&StepId, Vec<&StepId>> = BTreeMap::new();
        for transition in config.transitions.iter().filter(|t| t.loop_bound.is_none()) {
            next.entry(&transition.from)
                .or_default()
                .extend(transition.to.step());
        }
        for (from, to) in other_ways(config) {
            next.entry(from).or_default().push(to);
        }
        let mut before: BTreeMap<StepId, BTreeSet<StepId>> = BTreeMap::new();
        for step in &config.steps {
            let mut waiting = next.get(&step.id).cloned().unwrap_or_default();
            let mut seen = BTreeSet::new();
            while let Some(reached) = waiting.pop() {
                if seen.insert(reached) {
                    before
                        .entry(reached.clone())
                        .or_default()
                        .insert(step.id.clone());
                    waiting.extend(next.get(reached).into_iter().flatten());
                }
            }
        }
        Self { before }
    }

    /// Whether `from` can still lead to `to`.
    pub(super) fn lead(&self, from: &StepId, to: &StepId) -> bool {
        self.before
            .get(to)
            .is_some_and(|before| before.contains(from))
    }
}

/// Edges besides the transitions: branches of conditional steps, and the `on_exhausted` targets of
/// loops. The latter count as unbounded, since they can be taken on every visit.
fn other_ways(config: &WorkflowConfig) -> impl Iterator<Item = (&StepId, &StepId)> {
    let branches = config.steps.iter().flat_map(|step| {
        let branches = step.true_branch.iter().chain(&step.false_branch);
        branches.filter_map(|to| Some((&step.id, to.step()?)))
    });
    let exhausted = config.transitions.iter().filter_map(|transition| {
        let bound = transition.loop_bound.as_ref()?;
        Some((&transition.from, bound.on_exhausted.as_ref()?.step()?))
    });
    branches.chain(exhausted)
}

/// How a step waits for the branches that lead to it. Steps wait only where steps may run side by
/// side: by their `join_mode`, otherwise for all branches if more than one step leads there.
pub(super) fn join_of(config: &WorkflowConfig, step: &StepConfig) -> Option<Join> {
    if !config.settings.allow_parallel_steps {
        return None;
    }
    let sources: BTreeSet<&StepId> = config
        .transitions
        .iter()
        .filter(|t| t.loop_bound.is_none() && t.to.step() == Some(&step.id))
        .map(|t| &t.from)
        .chain(
            other_ways(config)
                .filter(|(_, to)| **to == step.id)
                .map(|(from, _)| from),
        )
        .collect();
    match step.join_mode {
        Some(JoinMode::All) => Some(Join { needed: None }),
        Some(JoinMode::Any) => Some(Join { needed: Some(1) }),
        Some(JoinMode::NOfM) => Some(Join {
            needed: Some(step.join_count.unwrap_or(1)),
        }),
        None => (sources.len() > 1).then_some(Join { needed: None }),
    }
}

/// How many branches a join waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// The number of branches; `None` means all that can still arrive.
    pub needed: Option<u32>,
}
