//! The graph of a workflow: unreachable steps, trapped steps and unbounded cycles.

use std::collections::HashSet;

use petgraph::{
    graph::{DiGraph, NodeIndex},
    visit::{Dfs, Reversed},
};

use super::{
    draft::{Draft, Goal},
    fault::Faults,
    report::DiagnosticCode as Code,
    tree::Node,
    ways::Ways,
};
use crate::config::{ConditionType, JoinMode};

/// Reports every fault of the graph.
pub(super) fn check(draft: &Draft<'_>, ways: &Ways<'_>, faults: &mut Faults) {
    let mut graph = DiGraph::<(), ()>::new();
    let nodes: Vec<NodeIndex> = draft.steps.iter().map(|_| graph.add_node(())).collect();
    let end = graph.add_node(());
    for way in &ways.all {
        let to = match way.to {
            Goal::Step(at) => nodes[at],
            Goal::Complete | Goal::Failed | Goal::Unknown => end,
        };
        graph.add_edge(nodes[way.from], to, ());
    }
    for (at, node) in nodes.iter().enumerate() {
        if !ways.all.iter().any(|way| way.from == at) {
            graph.add_edge(*node, end, ());
        }
    }
    // An edge that cannot be read has been reported; it may be the one that is missing.
    if let Some(entry) = draft.entry.filter(|_| !ways.unread) {
        let reached = reached(Dfs::new(&graph, nodes[entry]), |dfs| dfs.next(&graph));
        report_steps(
            draft,
            &nodes,
            &reached,
            faults,
            Code::UnreachableStep,
            |id| {
                format!(
                    "no way leads from {} to the step `{id}`",
                    name(draft, entry)
                )
            },
        );
    }
    if !ways.unread {
        let reversed = Reversed(&graph);
        let ending = reached(Dfs::new(reversed, end), |dfs| dfs.next(reversed));
        report_steps(draft, &nodes, &ending, faults, Code::TrappedStep, |id| {
            format!("no way leads from the step `{id}` to `_complete` or `_failed`")
        });
    }
    for at in closing(draft, ways) {
        let way = &ways.all[at];
        let message = match way.to {
            Goal::Step(to) => format!(
                "the way back from {} to {} closes a cycle that nothing bounds",
                name(draft, way.from),
                name(draft, to)
            ),
            Goal::Complete | Goal::Failed | Goal::Unknown => {
                "the way closes a cycle that nothing bounds".to_owned()
            }
        };
        faults.add(Code::UnmarkedCycle, way.origin, message).suggest(
            "add `loop: { max_iterations: 3, on_exhausted: _failed }` to a transition of the cycle",
        );
    }
    if !ways.unread {
        joins(draft, ways, &graph, &nodes, faults);
    }
}

fn reached<D>(mut dfs: D, mut next: impl FnMut(&mut D) -> Option<NodeIndex>) -> HashSet<NodeIndex> {
    std::iter::from_fn(|| next(&mut dfs)).collect()
}

fn report_steps(
    draft: &Draft<'_>,
    nodes: &[NodeIndex],
    good: &HashSet<NodeIndex>,
    faults: &mut Faults,
    code: Code,
    message: impl Fn(&str) -> String,
) {
    for (at, (step, node)) in draft.steps.iter().zip(nodes).enumerate() {
        // A step without an id, or with a duplicate one, has been reported for that already.
        if let Some(id) = step
            .id
            .filter(|id| draft.find(id) == Some(at) && !good.contains(node))
        {
            faults.add(code, &step.node.origin, message(id)).value(id);
        }
    }
}

/// The unbounded edges that close a cycle, by depth-first search from the entry in file order.
fn closing(draft: &Draft<'_>, ways: &Ways<'_>) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let count = draft.steps.len();
    let mut leaving: Vec<Vec<(usize, usize)>> = vec![Vec::new(); count];
    for (at, way) in ways.all.iter().enumerate() {
        // A guess is not enough to report a cycle.
        let counts = way.bound.is_none() && !way.guessed;
        if let (Goal::Step(to), true) = (way.to, counts) {
            leaving[way.from].push((at, to));
        }
    }
    let mut marks = vec![Mark::New; count];
    let mut closing = Vec::new();
    for start in draft.entry.into_iter().chain(0..count) {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        // A stack of its own: 500 steps in a row are no reason to recurse.
        let mut stack = vec![(start, 0)];
        while let Some((step, next)) = stack.pop() {
            let Some((way, to)) = leaving[step].get(next).copied() else {
                marks[step] = Mark::Done;
                continue;
            };
            stack.push((step, next + 1));
            match marks[to] {
                Mark::Open => closing.push(way),
                Mark::New => {
                    marks[to] = Mark::Open;
                    stack.push((to, 0));
                }
                Mark::Done => {}
            }
        }
    }
    closing
}

/// Reports a `join_mode` without a fork before it: a step that has two edges that can fire together
/// and both lead to the join.
fn joins(
    draft: &Draft<'_>,
    ways: &Ways<'_>,
    graph: &DiGraph<(), ()>,
    nodes: &[NodeIndex],
    faults: &mut Faults,
) {
    let joining: Vec<usize> = (0..draft.steps.len())
        .filter(|at| draft.steps[*at].node.get("join_mode").is_some())
        .collect();
    if joining.is_empty() {
        return;
    }
    let parallel = draft.is_parallel();
    let reversed = Reversed(graph);
    for at in joining {
        let step = &draft.steps[at];
        let leads = reached(Dfs::new(reversed, nodes[at]), |dfs| dfs.next(reversed));
        let forked =
            parallel && (0..draft.steps.len()).any(|from| forks(draft, from, &leads, nodes));
        if !forked {
            let message = "the step joins branches, but no fork leads to it";
            let suggestion = if parallel {
                "give a step before it two transitions that fire together, or remove `join_mode`"
            } else {
                "remove `join_mode`, or set `allow_parallel_steps: true` and fork before it"
            };
            faults
                .add(Code::JoinWithoutFork, &step.node.origin, message)
                .suggest(suggestion);
            continue;
        }
        let incoming = ways
            .all
            .iter()
            .filter(|way| way.to == Goal::Step(at))
            .count();
        let Some(config) = &step.config else { continue };
        if let (Some(JoinMode::NOfM), Some(count)) = (config.join_mode, config.join_count)
            && count as usize > incoming
        {
            let origin = step
                .node
                .get("join_count")
                .map_or(&step.node.origin, |n| &n.origin);
            let message = format!("{count} branches are waited for, but {incoming} lead here");
            faults.add(Code::OutOfRange, origin, message).value(count);
        }
    }
}

/// Whether two transitions of `from` can fire together and both lead into `leads`.
fn forks(draft: &Draft<'_>, from: usize, leads: &HashSet<NodeIndex>, nodes: &[NodeIndex]) -> bool {
    let into: Vec<_> = draft
        .transitions
        .iter()
        .filter(|t| t.from == Some(from))
        .filter(|t| matches!(t.to, Goal::Step(to) if leads.contains(&nodes[to])))
        .map(|t| {
            t.config
                .as_ref()
                .and_then(|config| config.condition.as_ref())
        })
        .collect();
    let opposed = |a: Option<ConditionType>, b: Option<ConditionType>| {
        matches!(
            (a, b),
            (
                Some(ConditionType::OnAgreement),
                Some(ConditionType::OnDisagreement)
            ) | (
                Some(ConditionType::OnDisagreement),
                Some(ConditionType::OnAgreement)
            )
        )
    };
    into.iter().enumerate().any(|(at, a)| {
        into[..at]
            .iter()
            .any(|b| !opposed(a.map(|c| c.kind), b.map(|c| c.kind)))
    })
}

fn name(draft: &Draft<'_>, at: usize) -> String {
    match draft.steps[at].id {
        Some(id) => format!("`{id}`"),
        None => format!("step {}", at + 1),
    }
}

/// Whether a conditional step has both branches, so that its transitions never decide.
pub(super) fn has_both_branches(step: &Node) -> bool {
    step.get("true_branch").is_some() && step.get("false_branch").is_some()
}
