//! What can be made up for a workflow: its input, what people answer, what handlers output.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    answers::{accepted, data_of, differs_in_one_field, path_of, plausible_answers},
    readings::{Usage, candidates, readings, set},
};
use crate::{
    answer::{Asked, Question},
    config::{AnswerKind, ConsensusConfig, InternalHandler, Performer, StepConfig, WorkflowConfig},
    ids::{Slug, StepId},
};

/// Variants made up for one step, or for the input.
const VARIANTS_MAX: usize = 6;
/// A text long enough for spans.
const TEXT: &str = "A made-up text, long enough to mark a few of its words and numbers in it.";
/// What stands for a value of which nothing is known.
const MADE_UP: &str = "made up";

/// Something made up that differs from the usual in one respect.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Variant {
    /// In which respect: `kind = "junk"`.
    pub(super) label: String,
    pub(super) value: Value,
}

/// What people can answer in a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// Answers of which no two are alike, as `annotation.data`; never empty.
    pub(super) data: Vec<Value>,
    /// One that differs from the first in a single field.
    pub(super) partly: Option<Value>,
    /// The first one with other values where the workflow asks for them.
    pub(super) variants: Vec<Variant>,
    /// Whether texts stand for answers, because the file lists none.
    pub(super) is_guess: bool,
}

/// The values that a workflow reads at one path, and what it asks of them.
type Read = BTreeMap<Vec<String>, Vec<Usage>>;

/// What can be made up for a workflow.
pub(super) struct Guide<'w> {
    pub(super) config: &'w WorkflowConfig,
    input: Read,
    labels: Read,
    /// Whether a condition depends on the id of the task.
    pub(super) reads_task_id: bool,
    /// What is read of annotations, by step.
    annotations: BTreeMap<StepId, Read>,
    /// What is read of values, by step.
    values: BTreeMap<StepId, Read>,
    /// What is read of the output of `pre_process` hooks, by step.
    prepared: BTreeMap<StepId, Read>,
    /// What a `consensus_calculator` compares, by the step whose annotations it takes.
    compared: BTreeMap<StepId, ConsensusConfig>,
}

impl<'w> Guide<'w> {
    pub(super) fn new(config: &'w WorkflowConfig) -> Self {
        let mut guide = Self {
            config,
            input: Read::new(),
            labels: Read::new(),
            reads_task_id: false,
            annotations: BTreeMap::new(),
            values: BTreeMap::new(),
            prepared: BTreeMap::new(),
            compared: BTreeMap::new(),
        };
        for transition in &config.transitions {
            let condition = transition.condition.as_ref();
            if let Some(source) = condition.and_then(|condition| condition.expression.as_ref()) {
                guide.read(source, std::slice::from_ref(&transition.from));
            }
        }
        for step in &config.steps {
            let before = guide.feeding(&step.id);
            if let Some(condition) = &step.condition {
                guide.read(&condition.expression, &before);
            }
            for source in step.input_mapping.iter().flat_map(BTreeMap::values) {
                guide.read_mapped(source, &before);
            }
            guide.read_settings(step, &before);
            for path in texts_of(step) {
                let usages = guide.input.entry(path).or_default();
                usages.push(Usage::Given(TEXT.into()));
            }
        }
        guide
    }

    /// Steps whose work a step is about: those that lead to it, through steps that only pass on.
    fn feeding(&self, step: &StepId) -> Vec<StepId> {
        let mut found = Vec::new();
        let mut seen: BTreeSet<&StepId> = BTreeSet::new();
        let mut next: Vec<&StepId> = vec![step];
        while let Some(at) = next.pop() {
            let leading = self.config.transitions.iter();
            let leading = leading.filter(|t| t.to.step() == Some(at)).map(|t| &t.from);
            let branches = self.config.steps.iter().filter(|step| {
                let branches = [&step.true_branch, &step.false_branch];
                branches
                    .into_iter()
                    .flatten()
                    .any(|to| to.step() == Some(at))
            });
            for from in leading.chain(branches.map(|step| &step.id)) {
                if !seen.insert(from) {
                    continue;
                }
                match self.config.step(from) {
                    Some(step) if makes_value(step) => found.push(from.clone()),
                    Some(_) => next.push(from),
                    None => {}
                }
            }
        }
        found
    }

    /// Notes what a condition reads; `of` are the steps whose result and annotation it sees.
    fn read(&mut self, source: &str, of: &[StepId]) {
        for reading in readings(source) {
            self.note_reading(&reading.path, &reading.usage, of);
        }
    }

    /// As [`Guide::read`], of an expression that makes a value: a path alone is no condition there.
    fn read_mapped(&mut self, source: &str, of: &[StepId]) {
        for reading in readings(source) {
            let usage = match reading.usage {
                Usage::Truth => Usage::Other,
                usage @ (Usage::Compared(..)
                | Usage::OneOf(_)
                | Usage::OneOfPath(_)
                | Usage::Has
                | Usage::Sample(_)
                | Usage::Given(_)
                | Usage::Other) => usage,
            };
            self.note_reading(&reading.path, &usage, of);
        }
    }

    fn note_reading(&mut self, path: &[String], usage: &Usage, of: &[StepId]) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["input", rest @ ..] => note(&mut self.input, rest, usage),
            ["labels", rest @ ..] => note(&mut self.labels, rest, usage),
            ["task_id"] | ["task", "id"] => self.reads_task_id = true,
            ["annotation", rest @ ..] => {
                for step in of {
                    note(
                        self.annotations.entry(step.clone()).or_default(),
                        rest,
                        usage,
                    );
                }
            }
            ["result", "value", rest @ ..] => {
                for step in of {
                    self.read_value(step, rest, usage);
                }
            }
            ["step", step, "result", "value", rest @ ..] => {
                if let Some(step) = self.config.step(step) {
                    self.read_value(&step.id, rest, usage);
                }
            }
            ["step", step, "prepared", rest @ ..] => {
                if let Some(step) = self.config.step(step) {
                    note(
                        self.prepared.entry(step.id.clone()).or_default(),
                        rest,
                        usage,
                    );
                }
            }
            _ => {}
        }
    }

    /// Whether a task can come back to a step.
    pub(super) fn is_in_loop(&self, step: &StepId) -> bool {
        let mut seen: BTreeSet<&StepId> = BTreeSet::new();
        let mut next = vec![step];
        while let Some(at) = next.pop() {
            let branches = self.config.step(at).into_iter();
            let branches = branches.flat_map(|step| [&step.true_branch, &step.false_branch]);
            let leaving = self.config.transitions.iter().filter(|t| t.from == *at);
            let targets = leaving.map(|t| &t.to).chain(branches.flatten());
            for to in targets.filter_map(|to| to.step()) {
                if to == step {
                    return true;
                }
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        false
    }

    /// Notes what is read of a step's value. Where the step passes on, judges or merges, it is read of
    /// the steps before as well.
    fn read_value(&mut self, step: &StepId, path: &[&str], usage: &Usage) {
        let mut seen: BTreeSet<StepId> = BTreeSet::new();
        let mut next = vec![(step.clone(), path.to_vec())];
        while let Some((step, path)) = next.pop() {
            let Some(config) = self
                .config
                .step(&step)
                .filter(|_| seen.insert(step.clone()))
            else {
                continue;
            };
            if makes_value(config) {
                note(self.values.entry(step.clone()).or_default(), &path, usage);
            }
            if config.calls(InternalHandler::ResultMerger) {
                let part = path.split_first();
                let part =
                    part.and_then(|(part, rest)| Some((Slug::new(part).ok()?, rest.to_vec())));
                next.extend(part);
            } else if !makes_value(config) || config.kind.spec().has_subject() {
                let before = self.feeding(&step).into_iter();
                next.extend(before.map(|before| (before, path.clone())));
            }
        }
    }

    /// Notes what the settings of internal handlers say of the steps before.
    fn read_settings(&mut self, step: &StepConfig, before: &[StepId]) {
        let config = step.config.clone().unwrap_or_default();
        if step.calls(InternalHandler::Finalize) {
            let fields = config["fields"].as_array().into_iter().flatten();
            for field in fields.filter_map(Value::as_str) {
                let path = path_of(Some(field));
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                for before in before {
                    self.read_value(before, &path, &Usage::Other);
                }
            }
        }
        if step.calls(InternalHandler::ConsensusCalculator) {
            let Ok((named, consensus)) = ConsensusConfig::of_calculator(&config) else {
                return;
            };
            let steps = self.config.steps.iter().map(|step| &step.id);
            let compared = steps.filter(|id| match &named {
                Some(named) => ***id == *named,
                None => before.contains(id),
            });
            for step in compared.cloned().collect::<Vec<_>>() {
                self.compared
                    .entry(step)
                    .or_insert_with(|| consensus.clone());
            }
        }
    }

    /// The input that is made up, null where the workflow reads none, and variants of it.
    pub(super) fn input(&self) -> (Value, Vec<Variant>) {
        self.made_up(&self.input, &Value::Null)
    }

    /// The labels that are made up, null where the workflow reads none, and variants of them.
    pub(super) fn labels(&self) -> (Value, Vec<Variant>) {
        self.made_up(&self.labels, &Value::Null)
    }

    /// What the `pre_process` hook of a step outputs, and variants of it.
    pub(super) fn prepared(&self, step: &StepId) -> (Value, Vec<Variant>) {
        let nothing = Read::new();
        let read = self.prepared.get(step).unwrap_or(&nothing);
        self.made_up(read, &Value::from(MADE_UP))
    }

    /// What a handler or a child of a step outputs, and variants of it.
    pub(super) fn output(&self, step: &StepId) -> (Value, Vec<Variant>) {
        let nothing = Read::new();
        let read = self.values.get(step).unwrap_or(&nothing);
        self.made_up(read, &Value::from(MADE_UP))
    }

    /// A document with everything that is read, and variants in which one value leads elsewhere.
    fn made_up(&self, read: &Read, without: &Value) -> (Value, Vec<Variant>) {
        if read.is_empty() {
            return (without.clone(), Vec::new());
        }
        let hints = self.hints(read);
        let mut usual = Value::Null;
        for (path, values) in &hints {
            let first = values.first().cloned().flatten();
            set(
                &mut usual,
                path,
                Some(first.unwrap_or_else(|| MADE_UP.into())),
            );
        }
        let variants = variants(&hints, &usual);
        (usual, variants)
    }

    /// The values to try at each path; none where nothing is asked of them.
    fn hints(&self, read: &Read) -> Vec<(Vec<String>, Vec<Option<Value>>)> {
        let listed = |path: &[String]| {
            let Some(("context", keys)) = path.split_first().map(|(v, keys)| (v.as_str(), keys))
            else {
                return Vec::new();
            };
            let context = self.config.settings.context.clone().into_iter();
            let context = Value::Object(context.collect::<Map<_, _>>());
            let found = keys.iter().try_fold(&context, |value, key| value.get(key));
            let found = found.and_then(Value::as_array).cloned();
            found.unwrap_or_default()
        };
        // Of a whole and its parts, the parts say more.
        let has_parts = |path: &[String]| {
            let mut others = read.keys();
            others.any(|other| other.len() > path.len() && other.starts_with(path))
        };
        let of_path = |(path, usages): (&Vec<String>, &Vec<Usage>)| {
            (path.clone(), candidates(usages, listed))
        };
        let hints = read.iter().map(of_path);
        hints
            .filter(|(path, values)| !values.is_empty() || !has_parts(path))
            .collect()
    }

    /// What people can answer in a step. `subject` is the step whose work it is about.
    pub(super) fn answers(
        &self,
        step: &StepConfig,
        subject: Option<&StepId>,
        input: &Value,
    ) -> Answers {
        let question = self.question(step, subject);
        let mut read = self.annotations.get(&step.id).cloned().unwrap_or_default();
        let own = self.values.get(&step.id);
        // An adjudicator, or a reviewer who fixes, gives what is read of the subject.
        let of_subject = subject.and_then(|subject| self.values.get(subject));
        for (path, usages) in own.into_iter().chain(of_subject).flatten() {
            let mut at = path_of(question.field());
            at.extend(path.iter().cloned());
            read.entry(at).or_default().extend(usages.iter().cloned());
        }
        let hints = self.hints(&read);
        let says_nothing = question.kind() == AnswerKind::Any && question.values().is_none();
        let has_keys = hints.iter().any(|(path, _)| !path.is_empty());
        let mut data = if says_nothing && question.field().is_none() && has_keys {
            objects(&hints)
        } else {
            let listed = hints
                .iter()
                .filter(|(path, _)| *path == path_of(question.field()));
            let listed = listed.flat_map(|(_, values)| values.iter().flatten());
            let asked: Vec<Value> = listed
                .map(|value| data_of(&question, value.clone()))
                .collect();
            let made = plausible_answers(&question, input);
            let mut data = accepted(&question, asked.into_iter().chain(made), input);
            for answer in &mut data {
                add_missing(answer, &hints);
            }
            data
        };
        if data.is_empty() {
            data.push(Value::from(MADE_UP));
        }
        let usual = data.first().cloned().unwrap_or_default();
        let mut variants = variants(&hints, &usual);
        variants.retain(|variant| question.read(&variant.value, input).is_ok());
        Answers {
            partly: differs_in_one_field(&question, input),
            variants,
            is_guess: question.values().is_none()
                && matches!(question.kind(), AnswerKind::Any | AnswerKind::Category),
            data,
        }
    }

    /// What a step asks for: its own question, else that of the step whose work it is about.
    pub(super) fn question(&self, step: &StepConfig, subject: Option<&StepId>) -> Question {
        let own = self.own_question(step);
        let of_subject = || {
            let question = self.own_question(self.config.step(subject?)?)?;
            // The same answer, perhaps at another place in the data.
            Some(match &step.field {
                Some(field) => question.at(field),
                None => question,
            })
        };
        let question = if step.kind.spec().has_subject() && step.answer.is_none() {
            of_subject().or(own)
        } else {
            own
        };
        question.unwrap_or_else(anything)
    }

    /// What a step says itself that it asks for, or a calculator says of it.
    fn own_question(&self, step: &StepConfig) -> Option<Question> {
        let compared = self.compared.get(&step.id);
        if let Some(compared) = compared.filter(|_| step.consensus.is_none()) {
            return step.question_compared_by(compared).ok();
        }
        let classes = step.completion.as_ref().and_then(|c| c.classes.as_ref());
        let says = step.answer.is_some()
            || step.consensus.is_some()
            || step.field.is_some()
            || classes.is_some();
        says.then(|| step.question().ok()).flatten()
    }
}

fn anything() -> Question {
    Question::resolve(&Asked::default()).expect("a step that says nothing asks for anything")
}

/// The paths in the input of the texts that spans of a step stand in.
fn texts_of(step: &StepConfig) -> Vec<Vec<String>> {
    let answer = step.answer.iter();
    let fields = answer.clone().flat_map(|answer| &answer.fields);
    let of_fields = fields
        .flat_map(|fields| fields.values())
        .map(|field| &field.text);
    let texts = answer.map(|answer| &answer.text).chain(of_fields).flatten();
    texts
        .filter_map(|text| {
            let path = path_of(Some(text));
            let (variable, path) = path.split_first()?;
            (variable == "input").then(|| path.to_vec())
        })
        .collect()
}

/// Whether the step's value is made outside: by people, a handler outside or a child task.
fn makes_value(step: &StepConfig) -> bool {
    match step.kind.spec().performer {
        Performer::Annotators | Performer::Person | Performer::ChildTask => true,
        Performer::Handler => step.external_handler().is_some(),
        Performer::Expression => false,
    }
}

fn note(read: &mut Read, path: &[&str], usage: &Usage) {
    let path = path.iter().map(|key| (*key).to_owned()).collect();
    read.entry(path).or_default().push(usage.clone());
}

/// Answers of which nothing is known but what is read of them.
fn objects(hints: &[(Vec<String>, Vec<Option<Value>>)]) -> Vec<Value> {
    let texts = plausible_answers(&anything(), &Value::Null);
    let is_free =
        |(path, values): &&(Vec<String>, Vec<Option<Value>>)| !path.is_empty() && values.is_empty();
    let of_text = |text: Value| {
        let mut object = Value::Object(Map::new());
        let answer = vec!["answer".to_owned()];
        let free: Vec<&Vec<String>> = hints.iter().filter(is_free).map(|(path, _)| path).collect();
        for path in if free.is_empty() { vec![&answer] } else { free } {
            set(&mut object, path, Some(text.clone()));
        }
        add_missing(&mut object, hints);
        object
    };
    texts.into_iter().map(of_text).collect()
}

/// Adds what is read of an object and is not in it.
fn add_missing(object: &mut Value, hints: &[(Vec<String>, Vec<Option<Value>>)]) {
    if !object.is_object() {
        return;
    }
    for (path, values) in hints {
        let found = path.iter().try_fold(&*object, |value, key| value.get(key));
        if found.is_none() && !path.is_empty() {
            let first = values.first().cloned().flatten();
            set(object, path, Some(first.unwrap_or_else(|| MADE_UP.into())));
        }
    }
}

/// The usual document with each other value, one at a time.
fn variants(hints: &[(Vec<String>, Vec<Option<Value>>)], usual: &Value) -> Vec<Variant> {
    let mut found: Vec<Variant> = Vec::new();
    for (path, values) in hints {
        for value in values {
            let mut changed = usual.clone();
            set(&mut changed, path, value.clone());
            let is_new = changed != *usual && found.iter().all(|known| known.value != changed);
            if is_new && found.len() < VARIANTS_MAX {
                let name = if path.is_empty() {
                    "answer".to_owned()
                } else {
                    path.join(".")
                };
                let label = match value {
                    Some(value) => format!("{name} = {value}"),
                    None => format!("without {name}"),
                };
                found.push(Variant {
                    label,
                    value: changed,
                });
            }
        }
    }
    found
}
