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
use crate::config::{
    ExpectedEnd, ExpectedOutcome, HookStage, Move, Script, StepType, WorkflowConfig,
};

/// Reads a script for `workflow`. Returns the script, unless there are errors, and all faults.
///
/// Paths are those of the script: `moves[2].submit.step`. Step names are checked as long as they are
/// those of `workflow`: not for a child (`within`), nor after a move to another revision.
pub fn check_script(
    source: &[u8],
    workflow: &WorkflowConfig,
) -> (Option<Script>, Vec<ValidationError>) {
    checked(source, |text, positions, faults| {
        let mut root = nodes(text, positions, faults, "`moves:`")?;
        let suggester = Suggester::default();
        structure::check(&mut root, document::script_schema(), &suggester, faults);
        let children = workflow.steps.iter();
        let children = children.filter(|step| step.kind == StepType::SubWorkflow);
        let mut checker = Checker {
            steps: workflow.steps.iter().map(|step| step.id.as_str()).collect(),
            children: children.map(|step| step.id.as_str()).collect(),
            workflow,
            moved: false,
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
            checker.offer(node);
        }
        if let Some(expect) = root.get("expect").filter(|expect| !expect.broken) {
            checker.end(expect);
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
    /// The steps that run a sub-workflow.
    children: Vec<&'a str>,
    workflow: &'a WorkflowConfig,
    /// Whether a move has moved the task to another revision, which may have other steps.
    moved: bool,
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
            self.within(within);
        } else {
            for action in Move::ACTIONS {
                if let Some(step) = node.below(&[action, "step"]) {
                    self.step(step, step.as_str());
                }
            }
            for step in node.get("active").and_then(Node::list).unwrap_or_default() {
                self.step(step, step.as_str());
            }
            if let Some(offered) = node.get("offered").filter(|offered| !offered.broken) {
                let first = offered.as_str().and_then(|text| text.split('/').next());
                self.step(offered, first);
            }
            let renamed = node.below(&["migrate", "steps"]).and_then(Node::map);
            for (from, to) in renamed.into_iter().flatten() {
                self.step_at(to, Some(from), Spot::Key);
            }
            self.moved |= node.get("migrate").is_some();
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

    /// `within` names a step that runs a sub-workflow; what follows a `/` is in another file.
    fn within(&mut self, node: &Node) {
        let first = node.as_str().and_then(|text| text.split('/').next());
        self.step(node, first);
        let kind = first
            .and_then(|step| self.workflow.step(step))
            .map(|step| step.kind)
            .filter(|kind| *kind != StepType::SubWorkflow && !self.moved);
        let (Some(step), Some(kind)) = (first, kind) else {
            return;
        };
        let message = format!(
            "`within` names a sub_workflow step, and `{step}` is of type {}: it has no child task",
            kind.as_str()
        );
        let hint = match self.children.as_slice() {
            [] => "remove `within`: the workflow has no sub_workflow step".to_owned(),
            [only] => format!("the only sub_workflow step is `{only}`"),
            several => format!("the sub_workflow steps are {}", quoted(several)),
        };
        self.faults
            .add(Code::UnknownStep, &node.origin, message)
            .value(step)
            .suggest(hint);
    }

    /// Expectations of what is offered belong to a `next`.
    fn offer(&mut self, node: &Node) {
        if node.get("next").is_some() {
            return;
        }
        if let Some(offered) = node.get("offered") {
            self.faults
                .add(
                    Code::MisplacedKey,
                    &offered.origin,
                    "`offered` is for a move with `next`",
                )
                .at(Spot::Key)
                .suggest("remove it");
        }
        let only_offers = [ExpectedOutcome::Offered, ExpectedOutcome::Nothing];
        let Some(expect) = node.get("expect").filter(|expect| !expect.broken) else {
            return;
        };
        let word = expect.as_str().unwrap_or_default();
        if only_offers.iter().any(|outcome| outcome.as_str() == word) {
            self.faults
                .add(
                    Code::InvalidValue,
                    &expect.origin,
                    format!("`{word}` can only be expected of a move with `next`"),
                )
                .value(word)
                .suggest("expect `waiting`, `advanced`, `completed`, `failed`, `rejected` or the code of a rejection");
        }
    }

    /// Keys of the expected end; also those of which null is expected, which a misspelt key would
    /// always be.
    fn end(&mut self, expect: &Node) {
        for part in ["output", "exactly"] {
            let Some(output) = expect.get(part).and_then(Node::map) else {
                continue;
            };
            for (key, value) in output {
                self.known_key(
                    key,
                    value,
                    &ExpectedEnd::OUTPUT_KEYS,
                    "the output of a task",
                    ["status", "incidents", "output", "exactly"]
                        .contains(&key.as_str())
                        .then(|| format!("`{key}` stands beside `{part}`, not inside")),
                );
            }
            for (step, result) in output
                .get("steps")
                .and_then(Node::map)
                .into_iter()
                .flatten()
            {
                self.step_at(result, Some(step), Spot::Key);
                for (key, value) in result.map().into_iter().flatten() {
                    let keys = &ExpectedEnd::RESULT_KEYS;
                    self.known_key(key, value, keys, "the result of a step", None);
                }
            }
        }
    }

    fn known_key(
        &mut self,
        key: &str,
        value: &Node,
        known: &[&str],
        whose: &str,
        hint: Option<String>,
    ) {
        if known.contains(&key) {
            return;
        }
        let near = self.suggester.nearest(key, known.iter().copied());
        let hint = hint.unwrap_or_else(|| format!("its keys are {}", quoted(known)));
        self.faults
            .add(
                Code::UnknownKey,
                &value.origin,
                format!("{whose} has no key `{key}`"),
            )
            .at(Spot::Key)
            .value_of(value)
            .suggest(hint)
            .did_you_mean(near);
    }

    fn step(&mut self, node: &Node, name: Option<&str>) {
        self.step_at(node, name, Spot::Value);
    }

    fn step_at(&mut self, node: &Node, name: Option<&str>, spot: Spot) {
        let known = |name: &&str| self.moved || self.steps.contains(name);
        let Some(name) = name.filter(|name| !known(name)) else {
            return;
        };
        let near = self.suggester.nearest(name, self.steps.iter().copied());
        self.faults
            .add(
                Code::UnknownStep,
                &node.origin,
                format!("the workflow has no step `{name}`"),
            )
            .at(spot)
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
        let first = caller.split('/').next().unwrap_or(caller);
        if !self.steps.contains(&first) {
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
