//! Checks scripts for a dry run as thoroughly as workflows.

use super::{
    document,
    draft::typed,
    fault::{Faults, Spot},
    parse::{checked, nodes},
    report::{DiagnosticCode as Code, ValidationError},
    resolve::quoted,
    structure,
    suggest::Suggester,
    tree::Node,
};
use crate::config::{HookStage, Move, Script, WorkflowConfig};

/// Reads a script for `workflow`. Returns the script, unless there are errors, and all faults.
///
/// Paths are those of the script: `moves[2].submit.step`. Step names are checked only if the move
/// applies to the task itself, not to a child (`within`).
pub fn check_script(
    source: &[u8],
    workflow: &WorkflowConfig,
) -> (Option<Script>, Vec<ValidationError>) {
    checked(source, |text, positions, faults| {
        let mut root = nodes(text, positions, faults, "`moves:`")?;
        let suggester = Suggester::default();
        structure::check(&mut root, document::script_schema(), &suggester, faults);
        let mut checker = Checker {
            steps: workflow.steps.iter().map(|step| step.id.as_str()).collect(),
            people: root
                .get("people")
                .and_then(Node::map)
                .map(|people| people.keys().map(String::as_str).collect()),
            suggester: &suggester,
            faults,
        };
        for node in root.get("moves").and_then(Node::list).unwrap_or_default() {
            checker.one_action(node);
            checker.names(node);
        }
        for (step, answers) in root
            .get("handlers")
            .and_then(Node::map)
            .into_iter()
            .flatten()
        {
            checker.answers(step, answers);
        }
        Ok(typed(&root, faults))
    })
}

struct Checker<'a> {
    steps: Vec<&'a str>,
    /// `None` if the script lists no people.
    people: Option<Vec<&'a str>>,
    suggester: &'a Suggester,
    faults: &'a mut Faults,
}

impl Checker<'_> {
    fn one_action(&mut self, node: &Node) {
        let Some(entries) = node.map().filter(|_| !node.broken && !node.partial) else {
            return;
        };
        let actions = entries
            .keys()
            .filter(|key| Move::ACTIONS.contains(&key.as_str()));
        let found: Vec<&String> = actions.collect();
        match found.as_slice() {
            [_] => {}
            [] => {
                self.faults
                    .add(
                        Code::MissingKey,
                        &node.origin,
                        "the move says nothing to do",
                    )
                    .suggest(format!("add one of {}", quoted(&Move::ACTIONS)));
            }
            several => {
                let message = format!("{} cannot be one move", quoted(several));
                self.faults
                    .add(Code::ConflictingKeys, &node.origin, message)
                    .suggest("make a move of each");
            }
        }
    }

    fn names(&mut self, node: &Node) {
        if let Some(within) = node.get("within").filter(|within| !within.broken) {
            let first = within.as_str().and_then(|text| text.split('/').next());
            self.step(within, first);
        } else {
            for action in Move::ACTIONS {
                if let Some(step) = node.below(&[action, "step"]) {
                    self.step(step, step.as_str());
                }
            }
            for step in node.get("active").and_then(Node::list).unwrap_or_default() {
                self.step(step, step.as_str());
            }
        }
        for action in Move::ACTIONS {
            let Some(by) = node.below(&[action, "by"]) else {
                continue;
            };
            let (Some(name), Some(people)) = (by.as_str(), &self.people) else {
                continue;
            };
            if people.contains(&name) || uuid::Uuid::try_parse(name).is_ok() {
                continue;
            }
            let near = self.suggester.nearest(name, people.iter().copied());
            self.faults
                .add(
                    Code::InvalidValue,
                    &by.origin,
                    format!("`people` lists nobody named `{name}`"),
                )
                .value(name)
                .suggest(format!("the people are {}", quoted(people)))
                .did_you_mean(near);
        }
    }

    fn step(&mut self, node: &Node, name: Option<&str>) {
        let Some(name) = name.filter(|name| !self.steps.contains(name)) else {
            return;
        };
        let near = self.suggester.nearest(name, self.steps.iter().copied());
        self.faults
            .add(
                Code::UnknownStep,
                &node.origin,
                format!("the workflow has no step `{name}`"),
            )
            .value(name)
            .suggest(format!("the steps are {}", quoted(&self.steps)))
            .did_you_mean(near);
    }

    fn answers(&mut self, step: &str, answers: &Node) {
        // A hook of a step is named `step.stage`.
        let stages = || HookStage::ALL.iter().map(|stage| stage.as_str());
        let caller = step
            .rsplit_once('.')
            .filter(|(_, stage)| stages().any(|known| known == *stage))
            .map_or(step, |(step, _)| step);
        let at_key = self
            .steps
            .contains(&caller.split('/').next().unwrap_or(caller));
        if !at_key {
            let near = self.suggester.nearest(step, self.steps.iter().copied());
            self.faults
                .add(
                    Code::UnknownStep,
                    &answers.origin,
                    format!("the workflow has no step `{step}`"),
                )
                .at(Spot::Key)
                .value(step)
                .suggest(format!("the steps are {}", quoted(&self.steps)))
                .did_you_mean(near);
        }
        for answer in answers.list().unwrap_or_default() {
            if answer.get("output").is_some() == answer.get("error").is_some() && !answer.broken {
                self.faults
                    .add(
                        Code::ConflictingKeys,
                        &answer.origin,
                        "a handler answers either an output or an error",
                    )
                    .value_of(answer)
                    .suggest("write `output: …` or `error: …`");
            }
        }
    }
}
