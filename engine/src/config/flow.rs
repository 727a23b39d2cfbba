//! Which steps lead to which, for joins.
//!
//! Bounded transitions (`loop`) do not count: they open a new visit at once and wait at no join.
//! Every cycle has one, so the other edges form an acyclic graph.

use std::collections::HashMap;

use super::{JoinMode, WorkflowConfig};

/// A set of steps, by their indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSet(Vec<u64>);

impl StepSet {
    /// The empty set of steps below `count`.
    pub fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    /// Whether it contains the step.
    pub fn has(&self, step: usize) -> bool {
        self.0
            .get(step / 64)
            .is_some_and(|bits| bits & (1 << (step % 64)) != 0)
    }

    /// Adds a step below `count`. Returns whether it is new.
    pub fn add(&mut self, step: usize) -> bool {
        let is_new = !self.has(step);
        self.0[step / 64] |= 1 << (step % 64);
        is_new
    }

    /// Whether every step of this set is in the other one, and the other has more.
    pub fn is_less_than(&self, other: &Self) -> bool {
        self != other
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|(own, bits)| own & !bits == 0)
    }
}

/// The unbounded edges between steps.
#[derive(Clone, Debug)]
pub struct FlowGraph {
    /// For each step, the steps that lead to it, each once.
    sources: Vec<Vec<usize>>,
    /// For each step, the steps from which it can be reached.
    before: Vec<StepSet>,
}

impl FlowGraph {
    /// The graph of `count` steps with these unbounded edges.
    pub fn new(count: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut sources = vec![Vec::new(); count];
        for (from, to) in edges {
            let of_step: &mut Vec<usize> = &mut sources[to];
            if !of_step.contains(&from) {
                of_step.push(from);
            }
        }
        let before = (0..count)
            .map(|step| {
                let mut before = StepSet::none(count);
                let mut waiting = sources[step].clone();
                while let Some(at) = waiting.pop() {
                    if before.add(at) {
                        waiting.extend(&sources[at]);
                    }
                }
                before
            })
            .collect();
        Self { sources, before }
    }

    /// The graph of a workflow, with the indexes of its steps.
    pub fn of(config: &WorkflowConfig) -> Self {
        let indexes: HashMap<&str, usize> = config
            .steps
            .iter()
            .enumerate()
            .map(|(at, step)| (step.id.as_str(), at))
            .collect();
        let index = |id: &str| indexes.get(id).copied();
        let branches = config.steps.iter().flat_map(|step| {
            let targets = step.true_branch.iter().chain(&step.false_branch);
            targets.map(move |to| (&step.id, to))
        });
        let transitions = config.transitions.iter().map(|transition| {
            let to = match &transition.loop_bound {
                None => Some(&transition.to),
                // Unbounded: it can be taken on every visit.
                Some(bound) => bound.on_exhausted.as_ref(),
            };
            (&transition.from, to)
        });
        let edges = branches
            .map(|(from, to)| (from, Some(to)))
            .chain(transitions)
            .filter_map(|(from, to)| Some((index(from)?, index(to?.step()?)?)));
        Self::new(config.steps.len(), edges)
    }

    /// Whether a branch at `from` can still come to `to`.
    pub fn leads(&self, from: usize, to: usize) -> bool {
        self.before[to].has(from)
    }

    /// The steps from which a branch can still come to the step.
    pub fn before(&self, step: usize) -> &StepSet {
        &self.before[step]
    }

    /// Whether the step waits for branches where steps may run side by side: it has a `join_mode`,
    /// or several steps lead to it.
    pub fn joins(&self, step: usize, mode: Option<JoinMode>) -> bool {
        mode.is_some() || self.sources[step].len() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_the_steps_that_were_added() {
        let mut set = StepSet::none(130);
        assert!(set.add(129) && !set.add(129) && set.add(0));
        assert!(set.has(129) && set.has(0) && !set.has(64) && !set.has(1_000));
        let mut larger = set.clone();
        assert!(!set.is_less_than(&larger));
        larger.add(64);
        assert!(set.is_less_than(&larger) && !larger.is_less_than(&set));
    }

    #[test]
    fn a_step_is_a_join_where_several_steps_lead_to_it() {
        // 0 forks to 1 and 2, which meet in 3; two edges lead from 3 to 4.
        let graph = FlowGraph::new(5, [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (3, 4)]);
        let joins: Vec<usize> = (0..5).filter(|step| graph.joins(*step, None)).collect();
        assert_eq!(joins, [3]);
        assert!(graph.joins(1, Some(JoinMode::Any)));
        assert!(graph.leads(0, 4) && graph.leads(1, 3));
        assert!(!graph.leads(1, 2) && !graph.leads(3, 3));
    }
}
