//! Checks when a step is done.

use super::validator::{Validator, blamed};
use crate::{
    config::{Completion, CompletionType, ExternalHandler, StepConfig, TimeoutAction},
    limits::JOB_TIMEOUT_MAX,
    parser::{fault::Spot, report::DiagnosticCode as Code, resolve::quoted, tree::Node},
    reliability::{CLASSES_MAX, ClassError, class_of},
};

impl Validator<'_, '_> {
    pub(super) fn completion(&mut self, node: &Node, completion: &Completion, config: &StepConfig) {
        let step = config.kind;
        let takes_job = config.external_handler() == Some(ExternalHandler::Queue);
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
                    .add(Code::MisplacedKey, blamed(child, node.get("type")), message)
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
        for class in classes.iter().filter(|class| !class.broken) {
            // The other faults of a class are those of an answer's values.
            if let Err(error @ ClassError::TooLong { .. }) = class_of(&class.to_value()) {
                self.faults
                    .add(Code::InvalidValue, &class.origin, error.to_string())
                    .value_of(class);
            }
        }
    }
}
