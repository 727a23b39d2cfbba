//! Warnings about chains of automatic steps that exceed the number of transitions that one command
//! may cause.

use super::{
    fault::Faults,
    map::{Map, is_instant},
    outcomes::Ends,
    report::DiagnosticCode as Code,
};
use crate::limits::TRANSITIONS_PER_COMMAND_MAX;

/// Adds the warning.
pub(super) fn check(map: &Map<'_, '_>, ends: &Ends<'_, '_>, faults: &mut Faults) {
    let steps = ends.draft.steps.iter();
    let chains = Chains {
        map,
        instant: steps
            .map(|step| step.config.as_ref().is_some_and(is_instant))
            .collect(),
    };
    let most = if ends.parallel {
        chains.of_all_branches()
    } else {
        chains.of_one_branch()
    };
    let Some((at, count)) = most else { return };
    if count <= TRANSITIONS_PER_COMMAND_MAX {
        return;
    }
    let step = &ends.draft.steps[at];
    let message = format!(
        "up to {count} transitions can follow from here before somebody is asked; a task stops \
         with an incident after {TRANSITIONS_PER_COMMAND_MAX}"
    );
    faults
        .add(Code::LongChain, &step.node.origin, message)
        .suggest("bound the loops more tightly, or do the work of several steps in one");
}

struct Chains<'m, 'e, 'a> {
    map: &'m Map<'e, 'a>,
    /// Steps that can end as soon as they have begun.
    instant: Vec<bool>,
}

impl Chains<'_, '_, '_> {
    /// The longest chain of transitions through instant steps, and the step at which it begins.
    fn of_one_branch(&self) -> Option<(usize, usize)> {
        let map = self.map;
        let order = self.order();
        let lengths = self.longest(&order, None);
        let chain = (0..map.leaving.len())
            .filter(|at| self.instant[*at])
            .max_by_key(|at| lengths[*at])?;
        let mut count = lengths[chain].unwrap_or(0);
        for (at, way) in map.ways.iter().enumerate() {
            if let (Some(to), Some(bound)) = (map.target(at), way.bound)
                && self.instant[to]
                && self.instant[way.from]
                && let Some(round) = self.longest(&order, Some(way.from))[to]
            {
                count += bound as usize * (round + 1);
            }
        }
        // One more for the transition that leads to the first step of the chain.
        Some((chain, count + 1))
    }

    /// An upper bound: all transitions of instant steps, counted once, and once more for each round
    /// of a loop among these steps.
    fn of_all_branches(&self) -> Option<(usize, usize)> {
        let map = self.map;
        let chained = |at: &usize| self.instant[map.ways[*at].from];
        let ways = (0..map.ways.len()).filter(chained);
        let first = map.ways[ways.clone().next()?].from;
        let count = ways
            .clone()
            .filter(|at| map.ways[*at].bound.is_none())
            .count();
        let rounds: u32 = ways
            .filter(|at| map.target(*at).is_some_and(|to| self.instant[to]))
            .filter_map(|at| map.ways[at].bound)
            .sum();
        let fork = map.leaving.iter().map(Vec::len).max().unwrap_or(0);
        Some((first, count * (1 + rounds as usize) + fork))
    }

    /// The instant steps in reverse topological order: each comes after the steps that it leads to.
    /// Unbounded edges form no cycle, because this check runs only on files without errors.
    fn order(&self) -> Vec<usize> {
        let map = self.map;
        let mut order = Vec::new();
        let mut seen = vec![false; map.leaving.len()];
        for start in 0..map.leaving.len() {
            // An explicit stack avoids recursion over up to 500 steps in a row.
            let mut stack = vec![(start, 0)];
            while let Some((at, next)) = stack.pop() {
                if next == 0 && (!self.instant[at] || std::mem::replace(&mut seen[at], true)) {
                    continue;
                }
                match map.leaving[at].get(next) {
                    Some(way) => {
                        stack.push((at, next + 1));
                        if let (Some(to), None) = (map.target(*way), map.ways[*way].bound) {
                            stack.push((to, 0));
                        }
                    }
                    None => order.push(at),
                }
            }
        }
        order
    }

    /// For each instant step, the number of transitions of its longest chain without loops: to any
    /// end, or to `goal`, if the chain leads there.
    fn longest(&self, order: &[usize], goal: Option<usize>) -> Vec<Option<usize>> {
        let map = self.map;
        let mut lengths = vec![None; map.leaving.len()];
        for at in order {
            let onward = map.leaving[*at].iter().filter_map(|way| {
                let target = map.target(*way).filter(|_| map.ways[*way].bound.is_none());
                match (target, goal) {
                    (Some(to), _) if self.instant[to] => {
                        lengths[to].map(|length: usize| length + 1)
                    }
                    (_, None) => Some(1),
                    (_, Some(_)) => None,
                }
            });
            let here = (goal == Some(*at)).then_some(0);
            lengths[*at] = onward.max().max(here);
        }
        lengths
    }
}
