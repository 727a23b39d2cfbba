//! The content of every drawing: steps, terminals, and the edges between them with their
//! conditions.

use glyph_workflow_engine::config::{
    ConditionConfig, ConditionType, JoinMode, Performer, StepConfig, Target, TransitionConfig,
    WorkflowConfig,
};

/// The most characters of a line in a node or at an edge.
const LINE_MAX: usize = 44;

/// A workflow as nodes and edges.
pub(super) struct Graph {
    /// The title of the drawing.
    pub(super) title: String,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

/// A step, the start or a terminal.
pub(super) struct Node {
    pub(super) kind: NodeKind,
    /// The first line is the id; the others describe it.
    pub(super) lines: Vec<String>,
}

impl Node {
    /// The step's id, or what a terminal is called in transitions.
    pub(super) fn name(&self) -> &str {
        match self.kind {
            NodeKind::Start => "",
            NodeKind::Complete => "_complete",
            NodeKind::Failed => "_failed",
            NodeKind::People | NodeKind::Machine | NodeKind::Question => {
                self.lines.first().map_or("", String::as_str)
            }
        }
    }
}

/// The kind of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    Start,
    /// A step for people.
    People,
    /// A step for a machine.
    Machine,
    /// A step that an expression decides.
    Question,
    Complete,
    Failed,
}

/// A transition.
pub(super) struct Edge {
    pub(super) from: usize,
    pub(super) to: usize,
    /// The condition; empty for always.
    pub(super) label: String,
    /// Whether it goes back: a loop, or the transition taken once the loop is exhausted.
    pub(super) kind: EdgeKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EdgeKind {
    Onward,
    /// A loop.
    Back,
    /// Taken once a loop is exhausted.
    Exhausted,
}

impl Graph {
    pub(super) fn of(config: &WorkflowConfig) -> Self {
        let mut graph = Self {
            title: config.name.clone().unwrap_or_else(|| config.id.to_string()),
            nodes: vec![Node {
                kind: NodeKind::Start,
                lines: vec!["start".to_owned()],
            }],
            edges: Vec::new(),
        };
        graph
            .nodes
            .extend(config.steps.iter().map(|step| node_of(config, step)));
        let at = |id: &str| {
            config
                .steps
                .iter()
                .position(|step| step.id == *id)
                .map(|at| at + 1)
        };
        if let Some(to) = at(&config.entry_step) {
            graph.edge(0, to, "", EdgeKind::Onward);
        }
        for (index, step) in config.steps.iter().enumerate() {
            let from = index + 1;
            let mut leaves = false;
            for (target, label) in [(&step.true_branch, "yes"), (&step.false_branch, "no")] {
                if let Some(target) = target {
                    leaves = true;
                    let to = graph.target(target, &at);
                    graph.edge(from, to, label, EdgeKind::Onward);
                }
            }
            if step.true_branch.is_some() && step.false_branch.is_some() {
                continue;
            }
            for (_, transition) in config.transitions_from(&step.id) {
                leaves = true;
                graph.transition(from, transition, &at);
            }
            if !leaves {
                let to = graph.target(&Target::Complete, &at);
                graph.edge(from, to, "", EdgeKind::Onward);
            }
        }
        graph
    }

    fn transition(
        &mut self,
        from: usize,
        transition: &TransitionConfig,
        at: &impl Fn(&str) -> Option<usize>,
    ) {
        let condition = transition
            .condition
            .as_ref()
            .map(condition_text)
            .unwrap_or_default();
        let to = self.target(&transition.to, at);
        let Some(bound) = &transition.loop_bound else {
            self.edge(from, to, &condition, EdgeKind::Onward);
            return;
        };
        let times = format!("at most {} times", bound.max_iterations);
        let label = if condition.is_empty() {
            times
        } else {
            format!("{condition}\n{times}")
        };
        self.edge(from, to, &label, EdgeKind::Back);
        if let Some(exhausted) = &bound.on_exhausted {
            let to = self.target(exhausted, at);
            self.edge(from, to, "exhausted", EdgeKind::Exhausted);
        }
    }

    fn edge(&mut self, from: usize, to: usize, label: &str, kind: EdgeKind) {
        let clipped: Vec<String> = label.lines().map(clipped).collect();
        self.edges.push(Edge {
            from,
            to,
            label: clipped.join("\n"),
            kind,
        });
    }

    /// The node of a target; terminal nodes are created when first used.
    fn target(&mut self, target: &Target, at: &impl Fn(&str) -> Option<usize>) -> usize {
        let (kind, name) = match target {
            Target::Step(id) => return at(id).unwrap_or(0),
            Target::Complete => (NodeKind::Complete, "completed"),
            Target::Failed => (NodeKind::Failed, "failed"),
        };
        if let Some(found) = self.nodes.iter().position(|node| node.kind == kind) {
            return found;
        }
        self.nodes.push(Node {
            kind,
            lines: vec![name.to_owned()],
        });
        self.nodes.len() - 1
    }
}

fn node_of(config: &WorkflowConfig, step: &StepConfig) -> Node {
    let (kind, mut what) = match step.kind.spec().performer {
        Performer::Annotators | Performer::Person => {
            (NodeKind::People, step.kind.as_str().to_owned())
        }
        Performer::Handler => (NodeKind::Machine, step.handler.clone().unwrap_or_default()),
        Performer::ChildTask => {
            let workflow = step.workflow.as_ref().map(ToString::to_string);
            let what = format!("workflow {}", workflow.unwrap_or_default());
            (NodeKind::Machine, what)
        }
        Performer::Expression => {
            let condition = step.condition.as_ref();
            let what = condition.map(|condition| condition.expression.clone());
            (NodeKind::Question, what.unwrap_or_default())
        }
    };
    if let Some(slots) = step.slots().filter(|slots| *slots > 1) {
        what = format!("{what} by {slots}");
    }
    let mut lines = vec![step.id.to_string(), clipped(&what)];
    if !step.required_roles().is_empty() {
        lines.push(clipped(&step.required_roles().join(", ")));
    }
    if let Some(join) = join_text(config, step) {
        lines.push(join);
    }
    lines.retain(|line| !line.is_empty());
    Node { kind, lines }
}

/// Which incoming branches a step waits for, and whether branches start there.
fn join_text(config: &WorkflowConfig, step: &StepConfig) -> Option<String> {
    if !config.settings.allow_parallel_steps {
        return None;
    }
    let incoming = config.transitions.iter().filter(|transition| {
        transition.loop_bound.is_none() && transition.to.step() == Some(&step.id)
    });
    let mut sources: Vec<&str> = incoming
        .map(|transition| transition.from.as_str())
        .collect();
    sources.dedup();
    let join = match step.join_mode {
        Some(JoinMode::All) => Some("joins all".to_owned()),
        Some(JoinMode::Any) => Some("joins any".to_owned()),
        Some(JoinMode::NOfM) => Some(format!("joins {}", step.join_count.unwrap_or(1))),
        None => (sources.len() > 1).then(|| "joins all".to_owned()),
    };
    let forks = config
        .transitions_from(&step.id)
        .iter()
        .filter(|(_, transition)| transition.loop_bound.is_none())
        .count()
        > 1;
    match (join, forks) {
        (Some(join), true) => Some(format!("{join}, forks")),
        (Some(join), false) => Some(join),
        (None, true) => Some("forks".to_owned()),
        (None, false) => None,
    }
}

fn condition_text(condition: &ConditionConfig) -> String {
    let threshold = |text: &str| match condition.threshold {
        Some(threshold) => format!("{text} {threshold}"),
        None => text.to_owned(),
    };
    match condition.kind {
        ConditionType::Always | ConditionType::OnComplete => String::new(),
        ConditionType::OnAgreement => match condition.threshold {
            Some(_) => threshold("agreement ≥"),
            None => "agreement".to_owned(),
        },
        ConditionType::OnDisagreement => match condition.threshold {
            Some(_) => threshold("agreement <"),
            None => "disagreement".to_owned(),
        },
        ConditionType::Expression => condition.expression.clone().unwrap_or_default(),
    }
}

fn clipped(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(LINE_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
