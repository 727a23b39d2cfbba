//! Goals: which keys are allowed with which type, and references between goals.

use std::collections::HashMap;

use super::validator::Validator;
use crate::{
    config::{CompletionActionConfig, GoalConfig, GoalType, VolumeUnit},
    consensus::wilson_interval,
    limits::WINDOW_SAMPLES_MAX,
    parser::{
        draft::typed, fault::Spot, report::DiagnosticCode as Code, resolve::quoted, tree::Node,
    },
};

/// Keys allowed for every goal.
const ANY_GOAL: [&str; 4] = ["id", "type", "description", "on_complete"];
/// Most items of a handwritten list.
const ITEMS_MAX: usize = 100;

impl Validator<'_, '_> {
    pub(super) fn goals(&mut self, nodes: &[Node]) {
        self.duplicate_ids(nodes.iter(), "goal");
        for node in nodes {
            if let Some(goal) = typed::<GoalConfig>(node, self.faults) {
                self.goal(node, &goal, nodes);
            }
        }
        self.cycles_of_goals(nodes);
    }

    fn goal(&mut self, node: &Node, goal: &GoalConfig, all: &[Node]) {
        self.keys_of_goal(node, goal.kind);
        match goal.kind {
            GoalType::Volume => self.volume(node, goal),
            GoalType::Quality => self.quality(node, goal),
            GoalType::Deadline => self.deadline(node, goal),
            GoalType::Duration => self.need(node, goal.kind, "within", "add `within: 2h`"),
            GoalType::Composite => self.composite(node, goal),
            GoalType::Manual => {}
        }
        for key in ["within", "window"] {
            if let Some(child) = node.get(key)
                && child.as_str().and_then(|text| text.parse().ok())
                    == Some(crate::config::ConfigDuration::from(
                        std::time::Duration::ZERO,
                    ))
            {
                self.faults
                    .add(Code::OutOfRange, &child.origin, "it must last at least 1s")
                    .value_of(child);
            }
        }
        for key in ["goals", "required_roles", "checklist", "on_complete"] {
            if let Some(list) = node.get(key)
                && list.list().is_some_and(|items| items.len() > ITEMS_MAX)
            {
                let message = format!("the list has more than {ITEMS_MAX} entries");
                self.faults.add(Code::OutOfRange, &list.origin, message);
            }
        }
        self.alerts(node, goal);
        self.references(node, all);
        if let Some(step) = node.get("step").filter(|step| !step.broken) {
            self.draft.step(step, self.suggester, self.faults);
        }
        self.actions(node, goal);
    }

    fn keys_of_goal(&mut self, node: &Node, kind: GoalType) {
        for (key, child) in node.map().into_iter().flatten() {
            let key = key.as_str();
            if ANY_GOAL.contains(&key) || kind.keys().contains(&key) {
                continue;
            }
            let owners: Vec<&str> = GoalType::ALL
                .into_iter()
                .filter(|other| other.keys().contains(&key))
                .map(GoalType::as_str)
                .collect();
            let message = format!("`{key}` does not go with the goal type `{}`", kind.as_str());
            self.faults
                .add(Code::MisplacedKey, &child.origin, message)
                .at(Spot::Key)
                .value_of(child)
                .suggest(format!("it belongs to goals of type {}", quoted(&owners)));
        }
    }

    fn need(&mut self, node: &Node, kind: GoalType, key: &str, suggestion: &str) {
        if node.get(key).is_none() {
            let message = format!("a goal of type `{}` needs `{key}`", kind.as_str());
            self.faults
                .add(Code::MissingKey, &node.origin, message)
                .suggest(suggestion);
        }
    }

    fn volume(&mut self, node: &Node, goal: &GoalConfig) {
        self.need(node, goal.kind, "target", "add `target`: how many to reach");
        if let (Some(target), Some(at)) = (goal.target, node.get("target"))
            && (target < 1.0 || target.fract() != 0.0)
        {
            self.faults
                .add(
                    Code::OutOfRange,
                    &at.origin,
                    "a volume is a whole number of 1 or more",
                )
                .value_of(at);
        }
        if goal.unit.unwrap_or_default() == VolumeUnit::Tasks {
            for key in ["step", "dedupe"] {
                if let Some(child) = node.get(key) {
                    let message = format!("`{key}` goes with `unit: annotations` only");
                    self.faults
                        .add(Code::MisplacedKey, &child.origin, message)
                        .at(Spot::Key)
                        .value_of(child)
                        .suggest("add `unit: annotations`, or leave it out");
                }
            }
        }
    }

    fn quality(&mut self, node: &Node, goal: &GoalConfig) {
        let metrics = "add `metric`: one of `agreement`, `gold_accuracy`, `approval_rate`";
        self.need(node, goal.kind, "metric", metrics);
        self.need(node, goal.kind, "target", "add `target`: a ratio, as 0.9");
        if let (Some(target), Some(at)) = (goal.target, node.get("target"))
            && !(target > 0.0 && target <= 1.0)
        {
            self.faults
                .add(
                    Code::OutOfRange,
                    &at.origin,
                    "the target of a quality goal is a ratio above 0 and at most 1",
                )
                .value_of(at);
            return;
        }
        let confidence = goal.confidence();
        let most = wilson_interval(WINDOW_SAMPLES_MAX, WINDOW_SAMPLES_MAX, confidence);
        if let (Ok(most), Some(target), Some(at)) = (most, goal.target, node.get("target"))
            && target > most.lower
        {
            let message = format!(
                "it cannot be reached: the lower end of the {} % interval must be at the target, and \
                 even where all of the newest {WINDOW_SAMPLES_MAX} measurements are right it is {:.4}",
                confidence * 100.0,
                most.lower
            );
            self.faults
                .add(Code::OutOfRange, &at.origin, message)
                .value_of(at)
                .suggest("lower the target, or the `confidence`");
        }
    }

    fn deadline(&mut self, node: &Node, goal: &GoalConfig) {
        let when = "add `deadline: 2031-05-17T12:00:00Z`";
        self.need(node, goal.kind, "deadline", when);
        match (goal.target, goal.goals.is_empty()) {
            (None, true) if node.get("goals").is_none() => {
                self.faults
                    .add(
                        Code::MissingKey,
                        &node.origin,
                        "a deadline needs what must be reached by then",
                    )
                    .suggest("add `goals: [volume]` with the ids of goals, or a `target`");
            }
            (None, _) => {
                for key in ["unit", "step", "dedupe"] {
                    if let Some(child) = node.get(key) {
                        let message = format!("`{key}` goes with a `target` of the deadline only");
                        self.faults
                            .add(Code::MisplacedKey, &child.origin, message)
                            .at(Spot::Key)
                            .value_of(child);
                    }
                }
            }
            (Some(_), true) => self.volume(node, goal),
            (Some(_), false) => {
                self.faults
                    .add(
                        Code::ConflictingKeys,
                        &node.origin,
                        "a deadline is for `goals` or for a `target` of its own, not both",
                    )
                    .suggest("remove `target`, or remove `goals`");
            }
        }
    }

    fn composite(&mut self, node: &Node, goal: &GoalConfig) {
        if goal.goals.is_empty() {
            self.faults
                .add(
                    Code::MissingKey,
                    &node.origin,
                    "a goal of type `composite` needs `goals`",
                )
                .suggest("add `goals: [...]` with the ids of other goals");
        }
        if !goal.allow_override {
            for key in ["required_roles", "checklist", "require_reason"] {
                if let Some(child) = node.get(key) {
                    let message = format!("`{key}` goes with `override: true` only");
                    self.faults
                        .add(Code::MisplacedKey, &child.origin, message)
                        .at(Spot::Key)
                        .value_of(child)
                        .suggest("add `override: true`, or leave it out");
                }
            }
        }
    }

    fn alerts(&mut self, node: &Node, goal: &GoalConfig) {
        let Some(alerts) = node.get("alerts").filter(|alerts| !alerts.broken) else {
            return;
        };
        let known = goal.kind.alerts();
        // For a type without alerts, the whole key has been reported already.
        for (key, child) in alerts.map().into_iter().flatten() {
            if known.is_empty() || known.contains(&key.as_str()) {
                continue;
            }
            let message = format!(
                "the alert `{key}` does not go with the goal type `{}`",
                goal.kind.as_str()
            );
            self.faults
                .add(Code::MisplacedKey, &child.origin, message)
                .at(Spot::Key)
                .value_of(child)
                .suggest(format!("with it go {}", quoted(known)));
        }
        let Some(config) = &goal.alerts else { return };
        let bound = match (config.below.zip(goal.target), config.above.zip(goal.within)) {
            (Some((below, target)), _) if below > target => {
                alerts.get("below").map(|at| (at, "is above the `target`"))
            }
            (_, Some((above, within))) if above < within => {
                alerts.get("above").map(|at| (at, "is below `within`"))
            }
            _ => None,
        };
        if let Some((at, why)) = bound {
            self.faults
                .add(
                    Code::ConflictingKeys,
                    &at.origin,
                    format!("the bound of the alert {why}, so it would be raised beside success"),
                )
                .value_of(at);
        }
    }

    /// Reports unknown goal names, and a goal that names itself.
    fn references(&mut self, node: &Node, all: &[Node]) {
        let own = node.get("id").and_then(Node::as_str);
        let ids = || {
            all.iter()
                .filter_map(|node| node.get("id").and_then(Node::as_str))
                .filter(|id| Some(*id) != own)
        };
        let named = node.get("goals").and_then(Node::list).unwrap_or_default();
        for reference in named.iter().filter(|reference| !reference.broken) {
            let Some(name) = reference.as_str() else {
                continue;
            };
            if ids().any(|id| id == name) {
                continue;
            }
            let (message, near) = if Some(name) == own {
                ("a goal cannot wait for itself".to_owned(), None)
            } else {
                let near = self.suggester.nearest(name, ids());
                (format!("there is no goal `{name}`"), near)
            };
            let others: Vec<&str> = ids().collect();
            let others = if others.is_empty() {
                "there is no other goal: remove it".to_owned()
            } else {
                format!("the other goals are {}", quoted(&others))
            };
            self.faults
                .add(Code::UnknownGoal, &reference.origin, message)
                .value(name)
                .suggest(others)
                .did_you_mean(near);
        }
    }

    /// Reports goals that wait for each other, which would be for ever. Every goal that can be
    /// reached from itself is on a cycle; the first goal of each cycle is reported.
    fn cycles_of_goals(&mut self, nodes: &[Node]) {
        let names = |node: &Node| -> Vec<String> {
            let list = node.get("goals").and_then(Node::list).unwrap_or_default();
            let own = node.get("id").and_then(Node::as_str);
            list.iter()
                .filter_map(Node::as_str)
                .filter(|name| Some(*name) != own)
                .map(str::to_owned)
                .collect()
        };
        let next: HashMap<&str, Vec<String>> = nodes
            .iter()
            .filter_map(|node| Some((node.get("id")?.as_str()?, names(node))))
            .collect();
        let mut reported: Vec<&str> = Vec::new();
        for node in nodes {
            let Some(id) = node.get("id").and_then(Node::as_str) else {
                continue;
            };
            let mut open = next.get(id).cloned().unwrap_or_default();
            let mut seen: Vec<String> = Vec::new();
            while let Some(name) = open.pop() {
                if !seen.contains(&name) {
                    open.extend(next.get(name.as_str()).cloned().unwrap_or_default());
                    seen.push(name);
                }
            }
            let on_cycle = |other: &&str| seen.iter().any(|name| name == other);
            if seen.iter().any(|name| name == id) && !reported.iter().any(on_cycle) {
                reported.push(id);
                let at = node.get("goals").unwrap_or(node);
                let message = format!("the goal `{id}` waits for itself through {}", quoted(&seen));
                self.faults
                    .add(Code::GoalCycle, &at.origin, message)
                    .value_of(at)
                    .suggest("take one of them out of `goals`");
            }
        }
    }

    fn actions(&mut self, node: &Node, goal: &GoalConfig) {
        let nodes = node.get("on_complete").and_then(Node::list);
        let nodes = nodes.unwrap_or_default().iter().filter(|node| !node.broken);
        for (at, (action, node)) in goal.on_complete.iter().zip(nodes).enumerate() {
            if goal.on_complete[..at].contains(action) {
                let message = format!("`{}` is there already", action.as_str());
                self.faults
                    .add(Code::ConflictingKeys, &node.origin, message)
                    .value_of(node)
                    .suggest("an action happens once; leave one of the two out");
            }
            if matches!(action, CompletionActionConfig::TriggerWebhook(_))
                && let Some(config) = node.get("trigger_webhook")
            {
                self.webhook(config);
            }
        }
    }
}
