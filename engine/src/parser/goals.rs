//! Goals: which keys go with which type.

use super::{
    draft::typed, fault::Spot, report::DiagnosticCode as Code, resolve::quoted, rules::UNITS,
    tree::Node, validate::Validator,
};
use crate::config::{GoalConfig, GoalType};

impl Validator<'_, '_> {
    pub(super) fn goal(&mut self, node: &Node) {
        let Some(goal) = typed::<GoalConfig>(node, self.faults) else {
            return;
        };
        match goal.kind {
            GoalType::Volume => self.volume(node, &goal),
            // Their keys are checked once they can run.
            GoalType::Quality
            | GoalType::Deadline
            | GoalType::Duration
            | GoalType::Composite
            | GoalType::Manual => {}
        }
    }

    fn volume(&mut self, node: &Node, goal: &GoalConfig) {
        match (goal.target, node.get("target")) {
            (Some(target), Some(at)) if target < 1.0 || target.fract() != 0.0 => {
                self.faults
                    .add(
                        Code::OutOfRange,
                        &at.origin,
                        "a volume is a whole number of 1 or more",
                    )
                    .value_of(at);
            }
            (Some(_), _) => {}
            (None, _) => {
                self.faults
                    .add(
                        Code::MissingKey,
                        &node.origin,
                        "a goal of type `volume` needs `target`",
                    )
                    .suggest("add `target`: how many to reach");
            }
        }
        if let Some((unit, at)) = goal.unit.as_deref().zip(node.get("unit"))
            && !UNITS.contains(&unit)
        {
            let near = self.suggester.nearest(unit, UNITS);
            self.faults
                .add(
                    Code::InvalidValue,
                    &at.origin,
                    format!("`{unit}` is none of {}", quoted(&UNITS)),
                )
                .value(unit)
                .did_you_mean(near);
        }
        for key in ["deadline", "window"] {
            if let Some(child) = node.get(key) {
                let message = format!("`{key}` does not go with the goal type `volume`");
                self.faults
                    .add(Code::MisplacedKey, &child.origin, message)
                    .at(Spot::Key)
                    .value_of(child);
            }
        }
    }
}
