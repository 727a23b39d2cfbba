//! What the types cannot say about steps and settings; transitions and goals have files of their own.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    document,
    draft::{Draft, Goal, StepDraft, typed},
    fault::{Faults, Spot},
    outcomes::Expressions,
    report::DiagnosticCode as Code,
    resolve::quoted,
    rules::{ANY_STEP, CHILD_ASSIGNMENT, OUTPUT_KEYS},
    structure,
    suggest::Suggester,
    tree::{Content, Node},
};
use crate::{
    config::{
        BUILT_IN_HANDLERS, Completion, CompletionType, ConfigDuration, ConsensusConfig,
        DisagreementStrategy, HookStage, InternalHandler, JoinMode, Level, LoadBalancing, Metric,
        OutsideHandler, Performer, StepConfig, StepType, TimeoutAction,
    },
    limits::{
        EXPRESSIONS_BYTES_MAX, FIELDS_MAX, INACTIVITY_MAX, JOB_TIMEOUT_MAX, JOIN_TIMEOUT_MAX,
        WEBHOOK_TIMEOUT_MAX,
    },
    reliability::{CLASSES_MAX, class_of},
};

/// Reports every fault of single parts and of references between them. Answers the expressions.
pub(super) fn check(
    draft: &Draft<'_>,
    goals: Option<&Node>,
    handlers: &[&str],
    suggester: &Suggester,
    faults: &mut Faults,
) -> Expressions {
    let mut validator = Validator {
        draft,
        handlers,
        suggester,
        faults,
        expressions: HashMap::new(),
        expressions_left: Some(EXPRESSIONS_BYTES_MAX),
    };
    validator.duplicate_ids(draft.steps.iter().map(|step| step.node), "step");
    if let Some(timeout) = draft.body.below(&["settings", "default_timeout"]) {
        validator.timeout(timeout);
    }
    if let Some(gold) = draft.body.get("gold") {
        validator.gold(gold);
    }
    for step in &draft.steps {
        validator.step(step);
    }
    for transition in &draft.transitions {
        validator.transition(transition);
    }
    let goals = goals.and_then(Node::list).unwrap_or_default();
    validator.goals(goals);
    validator.expressions
}

/// What the checks of single parts share.
pub(super) struct Validator<'d, 'a> {
    pub(super) draft: &'d Draft<'a>,
    /// Handlers that the program brings besides the built-in ones.
    pub(super) handlers: &'d [&'d str],
    pub(super) suggester: &'d Suggester,
    pub(super) faults: &'d mut Faults,
    /// What became of the expressions so far.
    pub(super) expressions: Expressions,
    /// Bytes that further expressions may have; none once there are too many.
    pub(super) expressions_left: Option<usize>,
}

impl Validator<'_, '_> {
    pub(super) fn duplicate_ids<'n>(&mut self, nodes: impl Iterator<Item = &'n Node>, what: &str) {
        let mut seen = HashSet::new();
        for id in nodes.filter_map(|node| node.get("id")) {
            let Some(text) = id.as_str() else { continue };
            if !seen.insert(text) {
                self.faults
                    .add(
                        Code::DuplicateId,
                        &id.origin,
                        format!("another {what} has the id `{text}`"),
                    )
                    .value(text)
                    .suggest("give one of the two another id");
            }
        }
    }

    /// Without a bound nobody falls below it.
    fn gold(&mut self, node: &Node) {
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

    fn step(&mut self, step: &StepDraft<'_>) {
        let Some(config) = &step.config else { return };
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
        if let Some(node) = step.node.get("field") {
            self.field(node);
        }
        if config.kind.spec().performer == Performer::Annotators {
            self.question(step.node, config);
        }
        if let Some(node) = step.node.below(&["assignment", "load_balancing"]) {
            self.load_balancing(node, config);
        }
    }

    /// One person cannot disagree.
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

    /// Sharing by quality needs something to weigh.
    fn load_balancing(&mut self, node: &Node, config: &StepConfig) {
        if config.load_balancing() != LoadBalancing::QualityWeighted {
            return;
        }
        let (why, how) = if !config.asks_several() {
            (
                "only one person is asked, so there is nobody to agree with",
                "raise `completion.count`, or use `round_robin`",
            )
        } else if config.categories().is_empty() {
            (
                "its answers are regions, texts or numbers, of which it is not learnt who is right",
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

    fn keys_by_type(&mut self, node: &Node, kind: StepType) {
        let Some(entries) = node.map() else { return };
        let spec = kind.spec();
        for (key, child) in entries {
            let key = key.as_str();
            if ANY_STEP.contains(&key) || spec.keys.contains(&key) {
                continue;
            }
            let owners: Vec<&str> = StepType::ALL
                .into_iter()
                .filter(|other| other.spec().keys.contains(&key))
                .map(StepType::as_str)
                .collect();
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
                    fault.suggest("add `condition: { expression: \"agreement >= 0.8\" }`")
                }
                _ => fault.suggest(format!("add `{key}`")),
            };
        }
    }

    fn completion(&mut self, node: &Node, completion: &Completion, config: &StepConfig) {
        let step = config.kind;
        let takes_job = config.outside_handler() == Some(OutsideHandler::Queue);
        if let Some(timeout) = node.get("timeout") {
            if takes_job {
                self.duration(timeout, JOB_TIMEOUT_MAX, "a job may go unanswered for");
            } else {
                self.timeout(timeout);
            }
        }
        let kind = completion.kind;
        let name = kind.as_str();
        if !step.spec().completions.contains(&kind) {
            let path = node.get("type").map_or(&node.origin, |kind| &kind.origin);
            let known: Vec<&str> = step
                .spec()
                .completions
                .iter()
                .map(|kind| kind.as_str())
                .collect();
            let message = format!(
                "a step of type `{}` cannot complete by `{name}`",
                step.as_str()
            );
            self.faults
                .add(Code::MisplacedKey, path, message)
                .value(name)
                .suggest(format!("it completes by {}", quoted(&known)));
            return;
        }
        for (key, child) in node.map().into_iter().flatten() {
            let of_job = takes_job && key.as_str() == "timeout";
            if key != "type" && !of_job && !kind.keys().contains(&key.as_str()) {
                let message = format!("`{key}` does not go with the completion `{name}`");
                let fault = self
                    .faults
                    .add(Code::MisplacedKey, &child.origin, message)
                    .at(Spot::Key)
                    .value_of(child);
                if !kind.keys().is_empty() {
                    fault.suggest(format!("with it go {}", quoted(kind.keys())));
                }
            }
        }
        let count = completion.count.unwrap_or(1);
        let minimum = completion.min_required.unwrap_or(count);
        if minimum > count {
            let message = format!("`min_required` is {minimum}, more than the `count` of {count}");
            self.conflict(node, &message, "lower `min_required` or raise `count`");
        } else if completion.timeout_action == Some(TimeoutAction::Proceed)
            && (minimum >= count || kind != CompletionType::AnnotationCount)
            && kind != CompletionType::Confidence
        {
            let message = "`timeout_action: proceed` needs a `min_required` below `count`, \
                           or there is nothing to proceed with";
            self.conflict(node, message, "add `min_required`, or use `requeue`");
        }
        if kind == CompletionType::Confidence {
            self.confidence(node, completion);
        }
        if let Some((target, node)) = completion.target.zip(node.get("target"))
            && !(target > 0.0 && target < 1.0)
        {
            self.faults
                .add(
                    Code::OutOfRange,
                    &node.origin,
                    "`target` must be above 0 and below 1",
                )
                .value(target)
                .suggest("0.95 is usual");
        }
    }

    fn confidence(&mut self, node: &Node, completion: &Completion) {
        let (min, max) = (completion.min.unwrap_or(2), completion.max.unwrap_or(10));
        if min > max {
            let message = format!("`min` is {min}, more than the `max` of {max}");
            self.conflict(node, &message, "lower `min` or raise `max`");
        }
        if completion.unique_annotators == Some(false) {
            let message = "an answer gets no surer by the same person giving it again: \
                           `confidence` needs another person for every submission";
            self.conflict(node, message, "remove `unique_annotators`");
        }
        let Some((node, classes)) = node
            .get("classes")
            .and_then(|classes| Some((classes, classes.list()?)))
        else {
            return;
        };
        if classes.len() < 2 || classes.len() > CLASSES_MAX {
            let message = format!(
                "`classes` has {} answers; it may have from 2 to {CLASSES_MAX}",
                classes.len()
            );
            self.faults.add(Code::OutOfRange, &node.origin, message);
        }
        let mut seen = HashSet::new();
        for class in classes.iter().filter(|class| !class.broken) {
            match class_of(&class.to_value()) {
                Ok(name) if seen.insert(name.clone()) => {}
                Ok(name) => {
                    let message = format!("the answer `{name}` is listed twice");
                    self.faults
                        .add(Code::InvalidValue, &class.origin, message)
                        .value_of(class)
                        .suggest("remove one of the two");
                }
                Err(error) => {
                    self.faults
                        .add(Code::InvalidValue, &class.origin, error.to_string())
                        .value_of(class);
                }
            }
        }
    }

    /// An annotation step has one place that says what it asks for.
    fn question(&mut self, node: &Node, config: &StepConfig) {
        let Some(consensus) = config.consensus.as_ref() else {
            return;
        };
        let named = consensus.field.is_some() || consensus.per_field.is_some();
        if config.field.is_some() && named {
            let message = "both the step and its `consensus` name what is compared";
            self.conflict(node, message, "keep the one in `consensus`");
        }
        if config.completion_type() == CompletionType::Confidence && consensus.per_field.is_some() {
            let message = "`confidence` is about one answer and `per_field` about several";
            self.conflict(
                node,
                message,
                "name one `field`, or complete by `annotation_count`",
            );
        }
    }

    fn conflict(&mut self, node: &Node, message: &str, suggestion: &str) {
        self.faults
            .add(Code::ConflictingKeys, &node.origin, message)
            .value_of(node)
            .suggest(suggestion);
    }

    fn timeout(&mut self, node: &Node) {
        self.duration(node, INACTIVITY_MAX, "inactivity may last");
    }

    /// Durations are whole seconds, from one to a bound.
    fn duration(&mut self, node: &Node, max: Duration, what: &str) {
        let Some(duration) = node
            .as_str()
            .and_then(|text| text.parse::<ConfigDuration>().ok())
        else {
            return;
        };
        if duration.get().is_zero() || duration.get() > max {
            let max = ConfigDuration::from(max);
            self.faults
                .add(
                    Code::OutOfRange,
                    &node.origin,
                    format!("`{duration}` is out of bounds: {what} from 1s to {max}"),
                )
                .value_of(node);
        }
    }

    fn field(&mut self, node: &Node) {
        if let Some(text) = node.as_str() {
            self.path_of_keys(text, node, Spot::Value);
        }
    }

    fn path_of_keys(&mut self, text: &str, node: &Node, spot: Spot) {
        if text
            .split('.')
            .any(|key| key.trim() != key || key.is_empty())
        {
            self.faults
                .add(
                    Code::InvalidValue,
                    &node.origin,
                    format!("`{text}` is no path of keys"),
                )
                .at(spot)
                .value(text)
                .suggest("write keys with dots between them, as `label` or `answer.label`");
        }
    }

    fn consensus(&mut self, node: &Node, consensus: &ConsensusConfig) {
        if let Some(field) = node.get("field") {
            self.field(field);
        }
        let inherited =
            consensus.per_field.iter().flatten().any(|(_, own)| {
                own.level.is_none() && own.metric == Some(Metric::KrippendorffAlpha)
            });
        if !inherited {
            self.level(node, consensus.metric, consensus.level);
        }
        self.per_field(node, consensus);
        let asks_more =
            consensus.on_disagreement.strategy == DisagreementStrategy::AdditionalAnnotators;
        for key in ["max_additional", "fallback"] {
            if let Some(child) = node.below(&["on_disagreement", key]).filter(|_| !asks_more) {
                self.faults
                    .add(
                        Code::MisplacedKey,
                        &child.origin,
                        format!("`{key}` goes with the strategy `additional_annotators` only"),
                    )
                    .at(Spot::Key)
                    .value_of(child);
            }
        }
    }

    fn level(&mut self, node: &Node, metric: Metric, level: Level) {
        if level != Level::Nominal && metric != Metric::KrippendorffAlpha {
            let message = format!("`level` says nothing to the metric `{}`", metric.as_str());
            self.conflict(
                node,
                &message,
                "use `metric: krippendorff_alpha`, or remove `level`",
            );
        }
    }

    fn per_field(&mut self, node: &Node, consensus: &ConsensusConfig) {
        let fields = node.get("per_field").filter(|fields| !fields.broken);
        let Some((fields, entries)) = fields.and_then(|fields| Some((fields, fields.map()?)))
        else {
            if let Some(mode) = node.get("mode").filter(|_| node.get("per_field").is_none()) {
                let message = "`mode` says how the fields of `per_field` join, and there are none";
                self.faults
                    .add(Code::MisplacedKey, &mode.origin, message)
                    .at(Spot::Key)
                    .value_of(mode);
            }
            return;
        };
        if consensus.field.is_some() {
            let message = "`field` compares one value and `per_field` several";
            self.conflict(
                node,
                message,
                "name every field under `per_field`, or remove it",
            );
        }
        if entries.is_empty() || entries.len() > FIELDS_MAX {
            let message = format!(
                "`per_field` has {} fields; it may have from 1 to {FIELDS_MAX}",
                entries.len()
            );
            self.faults.add(Code::OutOfRange, &fields.origin, message);
        }
        for (name, field) in entries {
            self.path_of_keys(name, field, Spot::Key);
            let weight = field.get("weight").filter(|weight| !weight.broken);
            if let Some(weight) = weight
                && weight
                    .to_value()
                    .as_f64()
                    .is_some_and(|weight| weight <= 0.0)
            {
                let message = format!("the weight of `{name}` must be above 0");
                self.faults
                    .add(Code::OutOfRange, &weight.origin, message)
                    .value_of(weight);
            }
            let own = consensus.per_field.as_ref().and_then(|own| own.get(name));
            if let Some(level) = own.and_then(|own| own.level) {
                let metric = own.and_then(|own| own.metric).unwrap_or(consensus.metric);
                self.level(field, metric, level);
            }
        }
    }

    fn hooks(&mut self, step: &Node, kind: StepType) {
        let Some(hooks) = step.get("hooks") else {
            return;
        };
        if !kind.spec().takes_hooks {
            let kind = kind.as_str();
            self.faults
                .add(
                    Code::MisplacedKey,
                    &hooks.origin,
                    format!("`hooks` do not go with the type `{kind}`, which does no work"),
                )
                .at(Spot::Key)
                .suggest("move them to the steps before or after it");
            return;
        }
        for stage in HookStage::ALL {
            let of_stage = hooks.get(stage.as_str()).and_then(Node::list);
            for hook in of_stage.unwrap_or_default() {
                self.hook(hook, stage);
            }
        }
    }

    fn hook(&mut self, hook: &Node, stage: HookStage) {
        let Some((node, name)) = hook.get("handler").and_then(|n| Some((n, n.as_str()?))) else {
            return;
        };
        let outside = OutsideHandler::from_name(name);
        let known = BUILT_IN_HANDLERS.contains(&name) || self.handlers.contains(&name);
        if known && !stage.holds_step() && outside.is_none() {
            self.faults
                .add(
                    Code::InvalidValue,
                    &node.origin,
                    format!("`{name}` tells nobody: nothing becomes of what it makes here"),
                )
                .value(name)
                .suggest(format!(
                    "`{stage}` calls {}",
                    quoted(&OutsideHandler::ALL.map(OutsideHandler::as_str))
                ));
            return;
        }
        self.handler(hook, node);
        let Some(timeout) = hook.get("timeout") else {
            return;
        };
        if outside == Some(OutsideHandler::Queue) && stage.holds_step() {
            self.duration(timeout, JOB_TIMEOUT_MAX, "a job may go unanswered for");
        } else {
            self.faults
                .add(
                    Code::MisplacedKey,
                    &timeout.origin,
                    "`timeout` is for jobs (`handler: queue`) that the step waits for",
                )
                .at(Spot::Key)
                .value_of(timeout)
                .suggest("an attempt at a webhook has its `timeout` in `config`");
        }
    }

    fn handler(&mut self, step: &Node, node: &Node) {
        let Some(name) = node.as_str().filter(|_| !node.broken) else {
            return;
        };
        let known = || {
            let own = self.handlers.iter();
            let added = own.filter(|name| !BUILT_IN_HANDLERS.contains(name));
            BUILT_IN_HANDLERS.iter().chain(added).copied()
        };
        if !known().any(|handler| handler == name) {
            let near = self.suggester.nearest(name, known());
            self.faults
                .add(
                    Code::UnknownHandler,
                    &node.origin,
                    format!("there is no handler `{name}`"),
                )
                .value(name)
                .suggest(format!(
                    "known are {}",
                    quoted(&known().collect::<Vec<_>>())
                ))
                .did_you_mean(near);
            return;
        }
        // A program may replace a built-in handler, and then says what its settings are.
        let Some(schema) =
            document::handler_schema(name).filter(|_| !self.handlers.contains(&name))
        else {
            return;
        };
        let nothing = || Node::new(step.origin.clone(), Content::Map([].into()));
        let mut config = step.get("config").cloned().unwrap_or_else(nothing);
        structure::check(&mut config, schema, self.suggester, self.faults);
        if config.broken {
            return;
        }
        match InternalHandler::from_name(name) {
            Some(InternalHandler::ConsensusCalculator) => self.calculator(&config),
            Some(InternalHandler::ResultMerger) => {
                for id in config.get("steps").and_then(Node::list).unwrap_or_default() {
                    self.draft.step(id, self.suggester, self.faults);
                }
            }
            Some(InternalHandler::Finalize) | None => {}
        }
        if name == OutsideHandler::Webhook.as_str() {
            self.webhook(&config);
        }
    }

    pub(super) fn webhook(&mut self, config: &Node) {
        if let Some(timeout) = config.get("timeout") {
            self.duration(timeout, WEBHOOK_TIMEOUT_MAX, "an attempt may take");
        }
        let Some(node) = config.get("url").filter(|url| !url.broken) else {
            return;
        };
        if let Some((text, why)) = node.as_str().and_then(|text| Some((text, no_url(text)?))) {
            self.faults
                .add(
                    Code::InvalidValue,
                    &node.origin,
                    format!("`{text}` cannot be called: {why}"),
                )
                .value(text)
                .suggest("write a URL as `https://example.org/path`");
        }
    }

    fn calculator(&mut self, config: &Node) {
        let mut block = config.clone();
        if let Some(entries) = block.map_mut() {
            entries.remove("step");
        }
        if let Some(consensus) = typed::<ConsensusConfig>(&block, self.faults) {
            self.consensus(&block, &consensus);
        }
        let Some(node) = config.get("step") else {
            return;
        };
        let Goal::Step(at) = self.draft.step(node, self.suggester, self.faults) else {
            return;
        };
        let judged = &self.draft.steps[at];
        if let (Some(StepConfig { kind, .. }), Some(id)) = (&judged.config, judged.id)
            && kind.spec().performer != Performer::Annotators
            && node.as_str() == Some(id)
        {
            let message = format!(
                "`{id}` is of type `{}`; agreement needs annotations",
                kind.as_str()
            );
            self.faults
                .add(Code::UnknownStep, &node.origin, message)
                .value(id);
        }
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
        let mut keys = path.split('.');
        if keys.clone().any(|key| key.trim() != key || key.is_empty()) {
            self.field(node);
            return;
        }
        let first = keys.next().unwrap_or_default();
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

/// Why a text is no URL that a webhook can call. Whether its host may be called is for the worker
/// to say, which knows the operator's list.
fn no_url(text: &str) -> Option<&'static str> {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Some("it must begin with `https://` or `http://`");
    };
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name = match place.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            if port.parse::<u16>().is_err() {
                return Some("its port is no number from 0 to 65535");
            }
            name
        }
        _ => place,
    };
    if place.contains('@') {
        Some("it holds a user name or password, which everybody who sees the workflow could read")
    } else if name.is_empty() {
        Some("it has no host")
    } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        Some("it holds a blank")
    } else {
        None
    }
}
