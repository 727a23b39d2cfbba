//! A workflow as far as it can be read: typed parts where they are intact, only names elsewhere.

use std::collections::HashMap;

use serde::de::DeserializeOwned;

use super::{
    fault::Faults, report::DiagnosticCode as Code, resolve::quoted, suggest::Suggester, tree::Node,
};
use crate::config::{OnError, StepConfig, TransitionConfig};

/// The parts of a workflow with their references resolved.
pub(super) struct Draft<'a> {
    pub(super) body: &'a Node,
    pub(super) steps: Vec<StepDraft<'a>>,
    pub(super) transitions: Vec<TransitionDraft<'a>>,
    /// The entry step, as an index of `steps`; `None` where it cannot be read.
    pub(super) entry: Option<usize>,
    ids: HashMap<&'a str, usize>,
}

/// A step.
pub(super) struct StepDraft<'a> {
    pub(super) node: &'a Node,
    pub(super) id: Option<&'a str>,
    /// Present only if all of it can be read.
    pub(super) config: Option<StepConfig>,
    pub(super) true_branch: Option<Goal>,
    pub(super) false_branch: Option<Goal>,
}

/// A transition.
pub(super) struct TransitionDraft<'a> {
    pub(super) node: &'a Node,
    pub(super) from: Option<usize>,
    pub(super) to: Goal,
    pub(super) on_exhausted: Option<Goal>,
    /// Present only if all of it can be read.
    pub(super) config: Option<TransitionConfig>,
}

/// The target of a transition or branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// A step, by its index.
    Step(usize),
    /// `_complete`.
    Complete,
    /// `_failed`.
    Failed,
    /// Not a known name; already reported.
    Unknown,
}

const TERMINALS: [(&str, Goal); 2] = [("_complete", Goal::Complete), ("_failed", Goal::Failed)];

impl<'a> Draft<'a> {
    pub(super) fn of(body: &'a Node, suggester: &Suggester, faults: &mut Faults) -> Self {
        let list = |key| body.get(key).and_then(Node::list).unwrap_or_default();
        let mut draft = Self {
            body,
            steps: Vec::new(),
            transitions: Vec::new(),
            entry: None,
            ids: HashMap::new(),
        };
        for (at, node) in list("steps").iter().enumerate() {
            let id = node.get("id").and_then(Node::as_str);
            if let Some(id) = id {
                draft.ids.entry(id).or_insert(at);
            }
            let config = typed(node, faults);
            draft.steps.push(StepDraft {
                node,
                id,
                config,
                true_branch: None,
                false_branch: None,
            });
        }
        for at in 0..draft.steps.len() {
            let node = draft.steps[at].node;
            let branch = |draft: &Self, key, faults: &mut Faults| {
                node.get(key)
                    .map(|node| draft.target(node, suggester, faults))
            };
            draft.steps[at].true_branch = branch(&draft, "true_branch", faults);
            draft.steps[at].false_branch = branch(&draft, "false_branch", faults);
        }
        for node in list("transitions") {
            let from =
                node.get("from")
                    .and_then(|node| match draft.step(node, suggester, faults) {
                        Goal::Step(at) => Some(at),
                        Goal::Complete | Goal::Failed | Goal::Unknown => None,
                    });
            let to = node
                .get("to")
                .map_or(Goal::Unknown, |n| draft.target(n, suggester, faults));
            let exhausted = node.get("loop").and_then(|bound| bound.get("on_exhausted"));
            let on_exhausted = exhausted.map(|node| draft.target(node, suggester, faults));
            let config = typed(node, faults);
            draft.transitions.push(TransitionDraft {
                node,
                from,
                to,
                on_exhausted,
                config,
            });
        }
        draft.entry = match body
            .get("entry_step")
            .map(|n| draft.step(n, suggester, faults))
        {
            Some(Goal::Step(at)) => Some(at),
            // It is reported; which step was meant is not known.
            Some(Goal::Complete | Goal::Failed | Goal::Unknown) => None,
            None => (!draft.steps.is_empty()).then_some(0),
        };
        draft
    }

    /// The step that `node` names; an unknown one is reported.
    pub(super) fn step(&self, node: &Node, suggester: &Suggester, faults: &mut Faults) -> Goal {
        self.refer(node, &[], suggester, faults)
    }

    /// The step or terminal that `node` names; an unknown one is reported.
    fn target(&self, node: &Node, suggester: &Suggester, faults: &mut Faults) -> Goal {
        self.refer(node, &TERMINALS.map(|(name, _)| name), suggester, faults)
    }

    fn refer(
        &self,
        node: &Node,
        terminals: &[&str],
        suggester: &Suggester,
        faults: &mut Faults,
    ) -> Goal {
        let Some(name) = node.as_str() else {
            return Goal::Unknown;
        };
        let terminal = |name: &str| {
            let allowed = TERMINALS
                .into_iter()
                .filter(|(name, _)| terminals.contains(name));
            let mut named = allowed.filter(|(known, _)| *known == name);
            named.next().map(|(_, goal)| goal)
        };
        if let Some(goal) = terminal(name) {
            return goal;
        }
        if let Some(at) = self.find(name) {
            return Goal::Step(at);
        }
        let near = self.nearest(name, terminals, suggester);
        // A name that cannot be an id has already been reported.
        if !node.broken {
            let message = format!("there is no step `{name}`");
            faults
                .add(Code::UnknownStep, &node.origin, message)
                .value(name)
                .suggest(format!("the steps are {}", quoted(&self.ids())))
                .did_you_mean(near);
        }
        match near {
            Some(near) => self
                .find(near)
                .map(Goal::Step)
                .or_else(|| terminal(near))
                .unwrap_or(Goal::Unknown),
            None => Goal::Unknown,
        }
    }

    /// The index of a step by its id.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.ids.get(id).copied()
    }

    /// The step or terminal of which `name` is probably a misspelling.
    pub(super) fn nearest<'b>(
        &'b self,
        name: &str,
        terminals: &[&'b str],
        suggester: &Suggester,
    ) -> Option<&'b str> {
        let ids = self.steps.iter().filter_map(|step| step.id);
        suggester.nearest(name, ids.chain(terminals.iter().copied()))
    }

    /// The ids of all steps, in file order.
    pub(super) fn ids(&self) -> Vec<&'a str> {
        self.steps.iter().filter_map(|step| step.id).collect()
    }

    /// Whether every matching transition fires, instead of only the first.
    pub(super) fn is_parallel(&self) -> bool {
        self.body
            .below(&["settings", "allow_parallel_steps"])
            .is_some_and(|node| node.to_value() == true)
    }

    /// What happens to a task whose step fails, according to the settings.
    pub(super) fn on_error(&self) -> Option<OnError> {
        let node = self.body.below(&["settings", "on_error"])?;
        serde_json::from_value(node.to_value()).ok()
    }

    /// For each step, the transitions that leave it: highest priority first, then in file order.
    pub(super) fn all_leaving(&self) -> Vec<Vec<&TransitionDraft<'a>>> {
        let mut leaving: Vec<Vec<_>> = self.steps.iter().map(|_| Vec::new()).collect();
        for transition in &self.transitions {
            if let Some(from) = transition.from {
                leaving[from].push(transition);
            }
        }
        for of_step in &mut leaving {
            of_step.sort_by_key(|t| std::cmp::Reverse(t.config.as_ref().map_or(0, |c| c.priority)));
        }
        leaving
    }
}

/// The node as a typed value, if no part of it is broken.
pub(super) fn typed<T: DeserializeOwned>(node: &Node, faults: &mut Faults) -> Option<T> {
    if node.broken {
        return None;
    }
    match serde_json::from_value(node.to_value()) {
        Ok(value) => Some(value),
        Err(error) => {
            // The structure was checked, so the value breaks a rule that the schema does not
            // express.
            if !node.partial {
                faults.add(Code::InvalidValue, &node.origin, error.to_string());
            }
            None
        }
    }
}
