//! Conditions of transitions, and all expressions.

use serde_json::{Value, json};

use super::validator::Validator;
use crate::{
    config::ConditionType,
    expression::Expression,
    limits::{EXPRESSION_BYTES_MAX, EXPRESSIONS_BYTES_MAX, EXPRESSIONS_MAX},
    parser::{
        draft::TransitionDraft, fault::Spot, report::DiagnosticCode as Code, resolve::quoted,
        suggest::did_you_mean, tree::Node,
    },
};

impl Validator<'_, '_> {
    pub(super) fn transition(&mut self, transition: &TransitionDraft<'_>) {
        let Some(node) = transition.node.below(&["condition"]) else {
            return;
        };
        let Some(kind) = transition
            .config
            .as_ref()
            .and_then(|config| config.condition.as_ref())
            .map(|condition| condition.kind)
            .or_else(|| serde_json::from_value(node.get("type")?.to_value()).ok())
        else {
            return;
        };
        let is_expression = kind == ConditionType::Expression;
        match node.get("expression") {
            Some(source) if is_expression => self.expression(source),
            Some(source) => {
                let message = format!(
                    "`expression` does not go with the condition `{}`",
                    kind.as_str()
                );
                self.faults
                    .add(Code::MisplacedKey, &source.origin, message)
                    .at(Spot::Key)
                    .value_of(source)
                    .suggest("use `type: expression`, or remove it");
            }
            None if is_expression => {
                self.faults
                    .add(
                        Code::MissingKey,
                        &node.origin,
                        "a condition of type `expression` needs `expression`",
                    )
                    .suggest("add `expression: \"result.decision == 'reject'\"`");
            }
            None => {}
        }
        let has_threshold = matches!(
            kind,
            ConditionType::OnAgreement | ConditionType::OnDisagreement
        );
        if let Some(threshold) = node.get("threshold").filter(|_| !has_threshold) {
            let message = format!(
                "`threshold` does not go with the condition `{}`",
                kind.as_str()
            );
            self.faults
                .add(Code::MisplacedKey, &threshold.origin, message)
                .at(Spot::Key)
                .value_of(threshold)
                .suggest("it goes with `on_agreement` and `on_disagreement`");
        }
    }

    /// An expression that must yield true or false.
    pub(super) fn expression(&mut self, node: &Node) {
        self.compile(node, true);
    }

    pub(super) fn compile(&mut self, node: &Node, asks: bool) {
        let Some(source) = node.as_str().filter(|_| !node.broken) else {
            return;
        };
        if !self.expressions.contains_key(source) {
            if self.expressions_left.is_none() {
                return;
            }
            let bytes = source.len().min(EXPRESSION_BYTES_MAX);
            self.expressions_left = self
                .expressions_left
                .and_then(|left| left.checked_sub(bytes));
            if self.expressions.len() == EXPRESSIONS_MAX || self.expressions_left.is_none() {
                let message = format!(
                    "the file has more than {EXPRESSIONS_MAX} different expressions, or \
                     {EXPRESSIONS_BYTES_MAX} bytes of them"
                );
                self.faults.add(Code::OutOfRange, &node.origin, message);
                self.expressions_left = None;
                return;
            }
        }
        let compiled = self
            .expressions
            .entry(source.to_owned())
            .or_insert_with(|| {
                if asks {
                    Expression::compile_bool(source)
                } else {
                    Expression::compile(source)
                }
            });
        match compiled {
            Ok(expression) => {
                if let Some(reason) = always_fails(expression) {
                    self.faults
                        .add(
                            Code::BadExpression,
                            &node.origin,
                            format!("the expression fails whenever it is asked: {reason}"),
                        )
                        .value(source);
                }
                for reference in expression.step_references() {
                    if self.draft.find(&reference.id).is_some() {
                        continue;
                    }
                    let near = self.draft.nearest(&reference.id, &[], self.suggester);
                    self.faults
                        .add(
                            Code::UnknownStep,
                            &node.origin,
                            format!("there is no step `{}`", reference.id),
                        )
                        .at(Spot::Within {
                            text: source.to_owned(),
                            byte: reference.offset,
                        })
                        .value(reference.id.as_str())
                        .suggest(format!("the steps are {}", quoted(&self.draft.ids())))
                        .did_you_mean(near);
                }
            }
            Err(error) => {
                let fault = self
                    .faults
                    .add(Code::BadExpression, &node.origin, error.to_string())
                    .value(source);
                if let Some(byte) = error.offset() {
                    fault.at(Spot::Within {
                        text: source.to_owned(),
                        byte,
                    });
                }
                if let Some(near) = error.suggestion() {
                    fault.suggest(did_you_mean(near));
                }
            }
        }
    }
}

/// The error of an expression that fails with and without an agreement; `None` if it also reads
/// other variables.
pub(in crate::parser) fn always_fails(expression: &Expression) -> Option<String> {
    let mut read = expression.variables().iter();
    if !read.all(|name| matches!(*name, "agreement" | "threshold")) {
        return None;
    }
    let sample = |agreement: Value| json!({"agreement": agreement, "threshold": 0.5});
    let measured = expression.evaluate(&sample(json!(0.5))).err()?;
    expression.evaluate(&sample(Value::Null)).err()?;
    Some(measured.to_string())
}
