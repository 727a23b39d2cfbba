//! Steps: which keys are allowed with which type, joins, sub-workflows, and the settings of gold.

use super::validator::Validator;
use crate::{
    config::{
        BUILT_IN_HANDLERS, CompletionType, ExpectedEnd, JoinMode, LoadBalancing, Performer,
        StepConfig, StepType,
    },
    limits::JOIN_TIMEOUT_MAX,
    parser::{
        draft::StepDraft, fault::Spot, report::DiagnosticCode as Code, resolve::quoted, tree::Node,
    },
};

/// Keys allowed for every step.
const ANY_STEP: &[&str] = &[
    "id",
    "name",
    "description",
    "type",
    "completion",
    "on_error",
    "hooks",
    "join_mode",
    "join_count",
    "join_timeout",
];

/// The types to which a key belongs that does not go with `kind`; none where it does.
fn owners(key: &str, kind: StepType) -> Vec<&'static str> {
    if ANY_STEP.contains(&key) || kind.spec().keys.contains(&key) {
        return Vec::new();
    }
    StepType::ALL
        .into_iter()
        .filter(|other| other.spec().keys.contains(&key))
        .map(StepType::as_str)
        .collect()
}

/// Keys of `assignment` allowed for a `sub_workflow` step, to which nobody is assigned.
pub(in crate::parser) const CHILD_ASSIGNMENT: &[&str] = &["propagate_assignment"];

/// The keys of a task's output.
pub(in crate::parser) const OUTPUT_KEYS: [&str; 6] = ExpectedEnd::OUTPUT_KEYS;

impl Validator<'_, '_> {
    /// Warns about `on_fall: pause` without `min_accuracy`, which never pauses anyone.
    pub(super) fn gold(&mut self, node: &Node) {
        let pauses = |on_fall: &&Node| on_fall.as_str() == Some("pause");
        if let Some(on_fall) = node.get("on_fall").filter(pauses)
            && node.get("min_accuracy").is_none()
        {
            let message = "nobody is paused: no `min_accuracy` says who falls short";
            self.faults
                .add(Code::NoEffect, &on_fall.origin, message)
                .value_of(on_fall)
                .suggest("add `min_accuracy`");
        }
    }

    pub(super) fn step(&mut self, step: &StepDraft<'_>) {
        let Some(config) = &step.config else { return };
        if self.retyped(step.node, config) {
            return;
        }
        self.keys_by_type(step.node, config.kind);
        if let Some(completion) = &config.completion
            && let Some(node) = step.node.get("completion")
        {
            self.completion(node, completion, config);
        }
        if let (Some(consensus), Some(node)) = (&config.consensus, step.node.get("consensus")) {
            self.consensus(node, consensus);
            self.nobody_to_disagree(node, config);
        }
        if let Some(node) = step
            .node
            .get("handler")
            .filter(|_| config.kind.spec().performer == Performer::Handler)
        {
            self.handler(step.node, node);
        }
        self.hooks(step.node, config.kind);
        if let Some(node) = step.node.below(&["condition", "expression"]) {
            self.expression(node);
        }
        if config.kind.spec().performer == Performer::ChildTask {
            self.sub_workflow(step.node);
        }
        self.join(step.node, config);
        self.question(step.node, config);
        for key in ["not_who_did", "show"] {
            let named = step.node.below(&["assignment", key]).and_then(Node::list);
            for node in named.into_iter().flatten() {
                self.draft.step(node, self.suggester, self.faults);
            }
        }
        if let Some(node) = step.node.below(&["assignment", "load_balancing"]) {
            self.load_balancing(node, config);
        }
    }

    /// Reports a `type` written over a template's or library's step whose other keys do not go with
    /// it. Returns whether it has.
    fn retyped(&mut self, node: &Node, config: &StepConfig) -> bool {
        let Some(written) = node.get("type").filter(|written| !written.is_borrowed()) else {
            return false;
        };
        let spec = config.kind.spec();
        let borrowed = |keys: &[&str]| node.below(keys).is_some_and(Node::is_borrowed);
        let mut brought: Vec<&str> = node
            .map()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .filter(|key| borrowed(&[key]) && !owners(key, config.kind).is_empty())
            .collect();
        if borrowed(&["completion", "type"])
            && !spec.completions.contains(&config.completion_type())
        {
            brought.push("completion");
        }
        if brought.is_empty() {
            return false;
        }
        let message = format!(
            "the step brings along {}, which do not go with the type `{}`",
            quoted(&brought),
            config.kind.as_str()
        );
        self.faults
            .add(Code::MisplacedKey, &written.origin, message)
            .value_of(written)
            .suggest("leave its type as it is, or take another step with `ref`");
        true
    }

    fn keys_by_type(&mut self, node: &Node, kind: StepType) {
        let Some(entries) = node.map() else { return };
        let spec = kind.spec();
        for (key, child) in entries {
            let key = key.as_str();
            let owners = owners(key, kind);
            if owners.is_empty() {
                continue;
            }
            let message = format!("`{key}` does not go with the type `{}`", kind.as_str());
            self.faults
                .add(Code::MisplacedKey, &child.origin, message)
                .at(Spot::Key)
                .value_of(child)
                .suggest(format!("it belongs to steps of type {}", quoted(&owners)));
        }
        if let Some(key) = spec.required_key.filter(|key| node.get(key).is_none()) {
            let message = format!("a step of type `{}` needs `{key}`", kind.as_str());
            let fault = self.faults.add(Code::MissingKey, &node.origin, message);
            match key {
                "handler" => fault.suggest(format!("built in are {}", quoted(&BUILT_IN_HANDLERS))),
                "condition" => {
                    fault.suggest("add `condition: { expression: \"input.language == 'de'\" }`")
                }
                _ => fault.suggest(format!("add `{key}`")),
            };
        }
    }

    /// Warns about disagreement settings where a step has one annotator.
    fn nobody_to_disagree(&mut self, consensus: &Node, config: &StepConfig) {
        let one =
            config.completion_type() == CompletionType::AnnotationCount && !config.asks_several();
        for key in ["on_disagreement", "tie_breaker"] {
            if let Some(node) = consensus.get(key).filter(|_| one) {
                let message = format!("`{key}` is never asked: the step has one annotator");
                self.faults
                    .add(Code::NoEffect, &node.origin, message)
                    .at(Spot::Key)
                    .value_of(node)
                    .suggest("raise `completion.count`, or remove it");
            }
        }
    }

    /// Warns about `quality_weighted` where there is nothing to weigh.
    fn load_balancing(&mut self, node: &Node, config: &StepConfig) {
        if config.load_balancing() != LoadBalancing::QualityWeighted {
            return;
        }
        let (why, how) = if !config.asks_several() {
            (
                "only one person is asked, so there is nobody to agree with",
                "raise `completion.count`, or use `round_robin`",
            )
        } else if config
            .question()
            .is_ok_and(|asked| asked.categorical().is_empty())
        {
            (
                "its answers are no categories, so that nobody is simply right or wrong",
                "compare a field that holds a category, or use `round_robin`",
            )
        } else {
            return;
        };
        let message =
            format!("`quality_weighted` shares this step's work like `round_robin`: {why}");
        self.faults
            .add(Code::NoEffect, &node.origin, message)
            .value_of(node)
            .suggest(how);
    }

    fn sub_workflow(&mut self, step: &Node) {
        let entries = |keys: &[&str]| step.below(keys).and_then(Node::map).into_iter().flatten();
        for (_, source) in entries(&["input_mapping"]) {
            self.compile(source, false);
        }
        for (_, path) in entries(&["output_mapping"]) {
            self.output_path(path);
        }
        for (key, child) in entries(&["assignment"]) {
            if !CHILD_ASSIGNMENT.contains(&key.as_str()) {
                let message = format!("`{key}` does not go with the type `sub_workflow`");
                self.faults
                    .add(Code::MisplacedKey, &child.origin, message)
                    .at(Spot::Key)
                    .value_of(child)
                    .suggest(
                        "nobody is assigned to the step itself; say it in the child's workflow",
                    );
            }
        }
    }

    /// A path in the output of a child task.
    fn output_path(&mut self, node: &Node) {
        let Some(text) = node.as_str() else { return };
        let path = text.strip_prefix("$.").unwrap_or(text);
        if !self.field(node) {
            return;
        }
        let first = path.split('.').next().unwrap_or_default();
        if !OUTPUT_KEYS.contains(&first) {
            let near = self.suggester.nearest(first, OUTPUT_KEYS);
            self.faults
                .add(
                    Code::InvalidValue,
                    &node.origin,
                    format!(
                        "`{text}` is no path in an output, which has the keys {}",
                        quoted(&OUTPUT_KEYS)
                    ),
                )
                .value(text)
                .suggest(format!(
                    "write `result.{path}` for a part of the child's result"
                ))
                .did_you_mean(near);
        }
    }

    fn join(&mut self, node: &Node, config: &StepConfig) {
        match (config.join_mode, config.join_count) {
            (Some(JoinMode::NOfM), None) => {
                self.faults
                    .add(
                        Code::MissingKey,
                        &node.origin,
                        "`join_mode: n_of_m` needs `join_count`",
                    )
                    .suggest("add `join_count`");
            }
            (None | Some(JoinMode::All | JoinMode::Any), Some(_)) => {
                let path = node
                    .get("join_count")
                    .map_or(&node.origin, |count| &count.origin);
                self.faults
                    .add(
                        Code::MisplacedKey,
                        path,
                        "`join_count` goes with `join_mode: n_of_m` only",
                    )
                    .at(Spot::Key);
            }
            _ => {}
        }
        if let Some(timeout) = node.get("join_timeout") {
            self.duration(timeout, JOIN_TIMEOUT_MAX, "a join may wait");
        }
    }
}
