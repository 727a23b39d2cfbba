//! Checks what a step asks people for.

use super::validator::Validator;
use crate::{
    answer::{Answer, FaultCode, Question, QuestionFault},
    config::{CompletionType, ConsensusConfig, StepConfig},
    parser::{fault::Spot, report::DiagnosticCode as Code, resolve::quoted, tree::Node},
    reliability::CLASSES_MAX,
};

impl Validator<'_, '_> {
    /// Checks that a step says clearly what it asks for, and that its other keys suit that.
    pub(super) fn question(&mut self, step: &Node, config: &StepConfig) {
        // Of a step whose library step cannot be taken, not all is known that it says.
        if step.partial {
            return;
        }
        let before = self.faults.len();
        let question = match config.question() {
            Ok(question) => question,
            Err(faults) => {
                for fault in &faults {
                    self.question_fault(step, fault, before);
                }
                return;
            }
        };
        let people = config.slots();
        for mut fault in question.warnings(people) {
            fault.path = as_written(step, &fault.path);
            self.question_fault(step, &fault, before);
        }
        if let (Some(node), Some(consensus)) = (step.get("consensus"), &config.consensus) {
            self.united(node, consensus, &question);
        }
        if config.completion_type() == CompletionType::Confidence {
            self.answers_are_categories(step, config, &question);
        }
    }

    /// Checks that a comparison by `consensus` suits the answers to a step.
    pub(super) fn question_compared_by(
        &mut self,
        node: &Node,
        consensus: &ConsensusConfig,
        compared: &StepConfig,
    ) {
        let before = self.faults.len();
        match compared.question_compared_by(consensus) {
            Ok(question) => self.united(node, consensus, &question),
            Err(faults) => {
                for mut fault in faults {
                    // The block stands for the `consensus` of the step.
                    if let Some(path) = fault.path.strip_prefix("consensus.") {
                        fault.path = path.to_owned();
                        self.question_fault(node, &fault, before);
                    } else if fault.code == FaultCode::ConflictingKeys {
                        fault.path.clear();
                        self.question_fault(node, &fault, before);
                    }
                }
            }
        }
    }

    /// Checks how answers are united.
    fn united(&mut self, node: &Node, consensus: &ConsensusConfig, question: &Question) {
        let kind = question.kind().as_str();
        let method = consensus.on_agreement.method;
        if let Some(named) = node.below(&["on_agreement", "method"])
            && !question.takes_method(method)
        {
            let message = format!(
                "`{}` does not unite answers of kind `{kind}`",
                method.as_str()
            );
            self.faults
                .add(Code::ConflictingKeys, &named.origin, message)
                .value_of(named)
                .suggest("`majority_vote` unites every kind, by a rule of its own");
        }
        let in_parts = question.mode().is_some()
            || question.kind().is_regions()
            || question.kind() == crate::config::AnswerKind::Set;
        if let Some(scope) = node.below(&["on_disagreement", "scope"])
            && consensus.asks_disputed_only()
            && !in_parts
        {
            let message =
                format!("an answer of kind `{kind}` has no parts that could be agreed or disputed");
            self.faults
                .add(Code::NoEffect, &scope.origin, message)
                .at(Spot::Key)
                .value_of(scope)
                .suggest("`scope: disputed` is for records, sets and regions: remove it");
        }
    }

    /// Checks that a step that completes by confidence asks for one category.
    fn answers_are_categories(&mut self, step: &Node, config: &StepConfig, question: &Question) {
        if !question.is_categorical() {
            let message = format!(
                "`confidence` is about one answer that is right or wrong, and this step asks for \
                 an answer of kind `{}`",
                question.kind().as_str()
            );
            self.conflict(
                step,
                &message,
                "ask for a `category`, or complete by `annotation_count`",
            );
        }
        self.targets(step, question);
        let listed = config
            .answer
            .as_ref()
            .and_then(|answer| answer.values.as_ref());
        if let Some(values) = step.below(&["answer", "values"])
            && listed.is_some_and(|listed| listed.len() < 2 || listed.len() > CLASSES_MAX)
        {
            let message = format!(
                "a step that completes by `confidence` has from 2 to {CLASSES_MAX} possible answers"
            );
            self.faults.add(Code::OutOfRange, &values.origin, message);
        }
    }

    /// Checks the targets of single answers.
    fn targets(&mut self, step: &Node, question: &Question) {
        let targets = step.below(&["completion", "targets"]).and_then(Node::map);
        let values = question.values().map(|values| {
            let names = values
                .iter()
                .filter_map(|value| Answer::plain(value).name());
            names.collect::<Vec<String>>()
        });
        for (name, node) in targets.into_iter().flatten() {
            if let Some(values) = &values
                && !values.contains(name)
            {
                let known: Vec<&str> = values.iter().map(String::as_str).collect();
                let message = format!("`{name}` is none of the possible answers");
                self.faults
                    .add(Code::InvalidValue, &node.origin, message)
                    .at(Spot::Key)
                    .suggest(format!("they are {}", quoted(&known)))
                    .did_you_mean(self.suggester.nearest(name, known));
            }
            let target = node.to_value().as_f64().filter(|_| !node.broken);
            if target.is_some_and(|target| target <= 0.0 || target >= 1.0) {
                self.faults
                    .add(
                        Code::OutOfRange,
                        &node.origin,
                        "a target must be above 0 and below 1",
                    )
                    .value_of(node);
            }
        }
    }

    /// `before`: how many faults there were before the question was resolved.
    fn question_fault(&mut self, step: &Node, fault: &QuestionFault, before: usize) {
        let code = match fault.code {
            FaultCode::ConflictingKeys => Code::ConflictingKeys,
            FaultCode::InvalidValue => Code::InvalidValue,
            FaultCode::OutOfRange => Code::OutOfRange,
            FaultCode::MissingKey => Code::MissingKey,
            FaultCode::MisplacedKey => Code::MisplacedKey,
            FaultCode::BadExpression => Code::BadExpression,
            FaultCode::OddThreshold => Code::OddThreshold,
            FaultCode::PooledFields => Code::PooledFields,
            FaultCode::NumberLikeValue => Code::NumberLikeValue,
            FaultCode::UnorderedScale => Code::UnorderedScale,
        };
        let node = match fault.code {
            // Two keys at odds: the mapping that holds both.
            FaultCode::ConflictingKeys => holder(step, &fault.path),
            FaultCode::InvalidValue
            | FaultCode::OutOfRange
            | FaultCode::MissingKey
            | FaultCode::MisplacedKey
            | FaultCode::BadExpression
            | FaultCode::OddThreshold
            | FaultCode::PooledFields
            | FaultCode::NumberLikeValue
            | FaultCode::UnorderedScale => descend(step, &fault.path),
        };
        // Broken parts and guesses are no ground for further faults.
        if node.broken || self.faults.any_in(&node.origin, before) {
            return;
        }
        let added = self.faults.add(code, &node.origin, fault.message.clone());
        let names_field = fault.code == FaultCode::InvalidValue && node.map().is_some();
        if fault.code == FaultCode::MisplacedKey || names_field {
            added.at(Spot::Key);
        }
        added.value_of(node);
        if let Some(suggestion) = &fault.suggestion {
            added.suggest(suggestion.clone());
        }
    }
}

/// Where a part of the answer stands in a step that uses the short forms of `answer`.
fn as_written(step: &Node, path: &str) -> String {
    let short_forms = [
        ("answer.fields.", "consensus.per_field."),
        ("answer.values", "completion.classes"),
        ("answer", "consensus"),
    ];
    for (long, short) in short_forms {
        if let Some(rest) = path.strip_prefix(long)
            && step.get("answer").is_none()
        {
            return format!("{short}{rest}");
        }
    }
    path.to_owned()
}

/// The mapping that holds the key at `path` and the one it is at odds with: that of a field, else
/// the block, or the step where the two stand in different blocks.
fn holder<'n>(step: &'n Node, path: &str) -> &'n Node {
    let of_field = path.starts_with("answer.fields.") || path.starts_with("consensus.per_field.");
    let (block, key) = path.rsplit_once('.').unwrap_or(("", path));
    let alone = block == "answer" || step.get("answer").is_none();
    let names_place = key == "field" || block == "completion";
    if of_field || (alone && !names_place) {
        descend(step, block)
    } else {
        step
    }
}

/// The node at `path`, or the last one on the way there. Keys of fields may contain dots.
fn descend<'n>(node: &'n Node, path: &str) -> &'n Node {
    let (mut node, mut rest) = (node, path);
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (index, after) = inside.split_once(']').unwrap_or((inside, ""));
            let item = index.parse::<usize>().ok();
            let Some(next) = item.and_then(|index| node.list()?.get(index)) else {
                return node;
            };
            (node, rest) = (next, after.trim_start_matches('.'));
            continue;
        }
        let entries = node.map().into_iter().flatten();
        let found = entries
            .filter_map(|(key, child)| {
                let after = rest.strip_prefix(key.as_str())?;
                let ends = after.is_empty() || after.starts_with(['.', '[']);
                ends.then_some((key.len(), child, after))
            })
            .max_by_key(|(length, _, _)| *length);
        let Some((_, next, after)) = found else {
            return node;
        };
        (node, rest) = (next, after.trim_start_matches('.'));
    }
    node
}
