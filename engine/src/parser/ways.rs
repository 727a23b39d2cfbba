//! The edges between the steps of a file, listed once for every check that follows them.

use super::{
    draft::{Draft, Goal, TransitionDraft},
    path::Path,
    tree::Node,
};
use crate::config::FlowGraph;

/// What takes an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A conditional step, at this verdict.
    Branch(bool),
    /// A transition: its place in the order in which those that leave the step are tried.
    Transition(usize),
    /// The same for the `on_exhausted` of a transition, once its loop has run out.
    Exhausted(usize),
}

impl By {
    /// The transition, by its place.
    pub(super) fn transition(self) -> Option<usize> {
        match self {
            Self::Transition(at) | Self::Exhausted(at) => Some(at),
            Self::Branch(_) => None,
        }
    }
}

/// One edge out of a step.
pub(super) struct Way<'a> {
    pub(super) from: usize,
    pub(super) to: Goal,
    pub(super) by: By,
    /// The part of the file to report: the transition, its `on_exhausted`, or the key of a branch.
    pub(super) origin: &'a Path,
    /// How often the edge can be taken at most, where a `loop` bounds it.
    pub(super) bound: Option<u32>,
    /// Whether one of its ends is a step with a similar name, not the one that was written.
    pub(super) guessed: bool,
}

/// The edges of a file.
pub(super) struct Ways<'a> {
    pub(super) all: Vec<Way<'a>>,
    /// Whether an end of an edge, or the id of a step, cannot be read. Then nothing follows from
    /// the absence of an edge.
    pub(super) unread: bool,
    /// What is before what along the edges that nothing bounds.
    pub(super) graph: FlowGraph,
}

impl<'a> Ways<'a> {
    pub(super) fn of(draft: &Draft<'a>) -> Self {
        let mut all = Vec::new();
        for (from, step) in draft.steps.iter().enumerate() {
            for (key, verdict, to) in [
                ("true_branch", true, step.true_branch),
                ("false_branch", false, step.false_branch),
            ] {
                if let (Some(to), Some(node)) = (to, step.node.get(key)) {
                    all.push(Way {
                        from,
                        to,
                        by: By::Branch(verdict),
                        origin: &node.origin,
                        bound: None,
                        guessed: is_guess(draft, to, Some(node)),
                    });
                }
            }
        }
        let leaving = draft.all_leaving();
        for transition in &draft.transitions {
            let Some(from) = transition.from else {
                continue;
            };
            let mut tried = leaving[from].iter();
            if let Some(at) = tried.position(|tried| std::ptr::eq(*tried, transition)) {
                all.extend(ways_of(draft, from, at, transition));
            }
        }
        let unread = all.iter().any(|way| way.to == Goal::Unknown)
            || draft.transitions.iter().any(|t| t.from.is_none())
            || draft.steps.iter().any(|step| step.id.is_none());
        let edges = all.iter().filter_map(|way| match (way.to, way.bound) {
            (Goal::Step(to), None) => Some((way.from, to)),
            _ => None,
        });
        let graph = FlowGraph::new(draft.steps.len(), edges);
        Self { all, unread, graph }
    }
}

fn ways_of<'a>(
    draft: &Draft<'a>,
    from: usize,
    at: usize,
    transition: &TransitionDraft<'a>,
) -> impl Iterator<Item = Way<'a>> {
    let node = transition.node;
    let looped = node.get("loop");
    let config = transition.config.as_ref();
    let bound = looped.map(|_| {
        let bound = config.and_then(|config| config.loop_bound.as_ref());
        bound.map_or(1, |bound| bound.max_iterations)
    });
    let from_guess = is_guess(draft, Goal::Step(from), node.get("from"));
    let onward = Way {
        from,
        to: transition.to,
        by: By::Transition(at),
        origin: &node.origin,
        bound,
        guessed: from_guess || is_guess(draft, transition.to, node.get("to")),
    };
    let exhausted = looped.and_then(|looped| looped.get("on_exhausted"));
    // It fires again on every later visit, so nothing bounds it.
    let exhausted = transition
        .on_exhausted
        .zip(exhausted)
        .map(|(to, node)| Way {
            from,
            to,
            by: By::Exhausted(at),
            origin: &node.origin,
            bound: None,
            guessed: from_guess || is_guess(draft, to, Some(node)),
        });
    std::iter::once(onward).chain(exhausted)
}

/// Whether the step is not the one that was written, but one with a similar name.
fn is_guess(draft: &Draft<'_>, step: Goal, written: Option<&Node>) -> bool {
    match step {
        Goal::Step(at) => written.and_then(Node::as_str) != draft.steps[at].id,
        Goal::Complete | Goal::Failed | Goal::Unknown => false,
    }
}
