//! Plays a script.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{Happening, Played, Simulation, Trace, TraceStep};
use crate::{
    command::{
        Activity, Advance, AnnotationInput, Assign, Command, Control, Outcome, Pause,
        ProcessResult, Release, Start, Submission,
    },
    config::{ExpectedEnd, ExpectedOutcome, Move, PersonMove, Script, SubmitMove, WorkflowConfig},
    expression::ExpressionError,
    ids::{TaskId, UserId, WorkflowId, WorkflowSelector},
    state::{TaskStatus, WorkflowSnapshot},
    transition::CompileError,
};

/// The user id for a name in a script: a UUID itself, or the UUIDv5 of the name.
pub fn person(name: &str) -> UserId {
    let derived = || {
        Uuid::new_v5(
            &Uuid::NAMESPACE_OID,
            format!("glyph/person/{name}").as_bytes(),
        )
    };
    UserId(Uuid::try_parse(name).unwrap_or_else(|_| derived()))
}

/// Plays `script` for a task of the first of `workflows`; the others are the workflows it runs as
/// children.
///
/// The same script gives the same trace, byte for byte.
///
/// # Errors
///
/// As [`Simulation::new`].
pub fn play(workflows: Vec<WorkflowConfig>, script: &Script) -> Result<Trace, CompileError> {
    let Some(workflow) = workflows.first().map(|workflow| workflow.id.clone()) else {
        return Err(ExpressionError::Empty.into());
    };
    let begin = script.clock.unwrap_or(DateTime::UNIX_EPOCH + FROM_EPOCH);
    let mut simulation = Simulation::new(workflows, begin)?;
    for (step, answers) in &script.handlers {
        simulation.answer(step, answers.iter().cloned());
    }
    let mut player = Player {
        task_id: TaskId(Uuid::new_v5(
            &Uuid::NAMESPACE_OID,
            format!("glyph/task/{workflow}").as_bytes(),
        )),
        workflow,
        simulation,
        script,
        people: people_of(script),
    };
    let mut steps = vec![player.start()];
    for (at, one) in script.moves.iter().enumerate() {
        steps.push(player.make(at + 1, one));
    }
    Ok(player.finish(steps))
}

/// 2026-01-01T00:00:00Z.
const FROM_EPOCH: TimeDelta = TimeDelta::seconds(1_767_225_600);

struct Player<'s> {
    simulation: Simulation,
    script: &'s Script,
    workflow: WorkflowId,
    task_id: TaskId,
    people: BTreeMap<UserId, String>,
}

fn people_of(script: &Script) -> BTreeMap<UserId, String> {
    let by = script.moves.iter().filter_map(|one| {
        let of_person = |person: &Option<PersonMove>| person.as_ref().map(|p| p.by.clone());
        of_person(&one.assign)
            .or_else(|| of_person(&one.release))
            .or_else(|| of_person(&one.activity))
            .or_else(|| one.submit.as_ref().map(|submit| submit.by.clone()))
    });
    let named = by.chain(script.people.keys().cloned());
    named.map(|name| (person(&name), name)).collect()
}

impl Player<'_> {
    fn start(&mut self) -> TraceStep {
        let script = self.script;
        let command = Command::Start(Start {
            task_id: self.task_id,
            workflow: WorkflowSelector::Latest(self.workflow.clone()),
            input: script.input.clone(),
            labels: (!script.labels.is_empty()).then(|| script.labels.clone()),
            expected: script.expected.clone(),
        });
        let at = self.simulation.now();
        let played = self.simulation.run(command);
        let mut step = self.step(0, "start".to_owned(), at, &played);
        step.mismatches.extend(unexpected_refusal(&step, None));
        step
    }

    fn make(&mut self, number: usize, one: &Move) -> TraceStep {
        let at = self.simulation.now();
        let action = action_text(one);
        let Some(task_id) = self.task_of(one.within.as_deref()) else {
            let within = one.within.as_deref().unwrap_or_default();
            let mut step = self.step(number, action, at, &[]);
            step.mismatches
                .push(format!("no child task of step `{within}` has begun"));
            return step;
        };
        let played = match one.pass {
            Some(time) => self.simulation.pass(time.get()),
            None => match self.command(one, task_id) {
                Some(command) => self.simulation.run(command),
                None => Vec::new(),
            },
        };
        let mut step = self.step(number, action, at, &played);
        if one.pass.is_some() {
            self.reliability().clone_into(&mut step.outcome);
            step.detail = None;
        }
        step.mismatches
            .extend(unexpected_refusal(&step, one.expect));
        if let Some(active) = &one.active {
            let mut wanted: Vec<&String> = active.iter().collect();
            wanted.sort();
            let stands = self.active(task_id);
            if !wanted.iter().copied().eq(&stands) {
                let wanted: Vec<&str> = wanted.into_iter().map(String::as_str).collect();
                step.mismatches.push(format!(
                    "expected to stand at {}, stands at {}",
                    listed(&wanted),
                    listed(&stands)
                ));
            }
        }
        step
    }

    /// The task of a move: the script's own, or a child of one of its steps.
    fn task_of(&self, within: Option<&str>) -> Option<TaskId> {
        within
            .into_iter()
            .flat_map(|path| path.split('/'))
            .try_fold(self.task_id, |task, step| {
                let visit = self.simulation.state(task)?.current_visit(step)?;
                let child = visit.child.as_ref()?.task_id;
                self.simulation.state(child).map(|_| child)
            })
    }

    fn command(&self, one: &Move, task_id: TaskId) -> Option<Command> {
        let control = |control: &crate::config::ControlMove| Control {
            task_id,
            step_id: control.step.clone(),
            reason: control.reason.clone(),
        };
        if let Some(submit) = &one.submit {
            return Some(self.submission(submit, task_id));
        }
        if let Some(assign) = &one.assign {
            return Some(Command::Assign(Assign {
                task_id,
                step_id: assign.step.clone(),
                user_id: person(&assign.by),
                roles: self.roles(&assign.by),
                offered: None,
            }));
        }
        if let Some(release) = &one.release {
            return Some(Command::Release(Release {
                task_id,
                step_id: release.step.clone(),
                user_id: person(&release.by),
                reason: None,
            }));
        }
        if let Some(activity) = &one.activity {
            return Some(Command::Activity(Activity {
                task_id,
                step_id: activity.step.clone(),
                user_id: person(&activity.by),
                draft: None,
            }));
        }
        if let Some(advance) = &one.advance {
            return Some(Command::Advance(Advance {
                task_id,
                step_id: advance.step.clone(),
                output: advance.output.clone(),
            }));
        }
        if let Some(pause) = &one.pause {
            return Some(Command::Pause(Pause {
                task_id,
                step_id: pause.step.clone(),
                reason: pause.reason.clone(),
                until: pause.lasting.map(|time| self.simulation.now() + time.get()),
            }));
        }
        None.or_else(|| one.resume.as_ref().map(|c| Command::Resume(control(c))))
            .or_else(|| one.cancel.as_ref().map(|c| Command::Cancel(control(c))))
            .or_else(|| one.retry.as_ref().map(|c| Command::Retry(control(c))))
    }

    fn submission(&self, submit: &SubmitMove, task_id: TaskId) -> Command {
        Command::Submission(Submission {
            task_id,
            step_id: submit.step.clone(),
            annotation: AnnotationInput {
                annotation_id: None,
                user_id: person(&submit.by),
                data: submit.data.clone().unwrap_or_default(),
                decision: submit.decision.map(|decision| decision.as_str().to_owned()),
                submitted_at: None,
                roles: self.roles(&submit.by),
                confidence: submit.confidence,
            },
            workflow: None,
        })
    }

    fn roles(&self, name: &str) -> Option<Vec<String>> {
        let person = self.script.people.get(name)?;
        (!person.roles.is_empty()).then(|| person.roles.clone())
    }

    fn step(
        &self,
        number: usize,
        action: String,
        at: DateTime<Utc>,
        played: &[Played],
    ) -> TraceStep {
        let (outcome, detail) = match played.first() {
            Some(first) => outcome_text(&first.outcome),
            None => (self.reliability().to_owned(), None),
        };
        let events = played.iter().flat_map(|played| &played.events);
        let happened = events
            .map(|event| Happening::of(event, self.within(event.task_id), &self.people))
            .collect();
        TraceStep {
            number,
            action,
            at,
            outcome,
            detail,
            happened,
            active: self.active(self.task_id),
            mismatches: Vec::new(),
        }
    }

    /// The path of steps to a child; `None` for the script's own task.
    fn within(&self, task: TaskId) -> Option<String> {
        if task == self.task_id {
            return None;
        }
        let parent = self.simulation.state(task)?.parent.as_ref()?;
        Some(match self.within(parent.task_id) {
            Some(path) => format!("{path}/{}", parent.step_id),
            None => parent.step_id.to_string(),
        })
    }

    fn active(&self, task: TaskId) -> Vec<String> {
        let steps = self
            .simulation
            .state(task)
            .map(WorkflowSnapshot::current_steps);
        steps.iter().flatten().map(ToString::to_string).collect()
    }

    /// The status of the task, in the words of outcomes.
    fn reliability(&self) -> &'static str {
        match self
            .simulation
            .state(self.task_id)
            .map(|state| state.status)
        {
            Some(TaskStatus::Completed) => "completed",
            Some(TaskStatus::Failed | TaskStatus::Cancelled) => "failed",
            Some(TaskStatus::Running | TaskStatus::Paused) | None => "waiting",
        }
    }

    fn finish(self, steps: Vec<TraceStep>) -> Trace {
        let state = self.simulation.state(self.task_id);
        let mut mismatches = Vec::new();
        if let Some(expect) = &self.script.expect {
            compare_end(expect, state, &mut mismatches);
        }
        let incident = |incident: &crate::state::Incident| {
            format!(
                "{} at {}: {}",
                incident.code, incident.step_id, incident.reason
            )
        };
        Trace {
            workflow: self.workflow,
            task_id: self.task_id,
            steps,
            status: state.map(|state| state.status),
            output: state.and_then(|state| state.output.clone()),
            error: state.and_then(|state| state.error.clone()),
            incidents: state
                .map(|state| state.incidents.iter().map(incident).collect())
                .unwrap_or_default(),
            mismatches,
        }
    }
}

fn action_text(one: &Move) -> String {
    let at = |step: &Option<String>| step.as_ref().map_or(String::new(), |s| format!(" {s}"));
    let by =
        |verb: &str, person: &PersonMove| format!("{verb}{} by {}", at(&person.step), person.by);
    let within = one.within.as_ref().map_or(String::new(), |step| {
        format!(", in the child task of {step}")
    });
    let mut text = String::new();
    if let Some(submit) = &one.submit {
        text = format!("submit{} by {}", at(&submit.step), submit.by);
    } else if let Some(assign) = &one.assign {
        text = by("assign", assign);
    } else if let Some(release) = &one.release {
        text = by("release", release);
    } else if let Some(activity) = &one.activity {
        text = by("activity", activity);
    } else if let Some(advance) = &one.advance {
        text = format!("advance{}", at(&advance.step));
    } else if let Some(pause) = &one.pause {
        text = format!("pause{}", at(&pause.step));
    } else if let Some(time) = one.pass {
        text = format!("{time} pass");
    }
    for (verb, control) in [
        ("resume", &one.resume),
        ("cancel", &one.cancel),
        ("retry", &one.retry),
    ] {
        if let Some(control) = control {
            text = format!("{verb}{}", at(&control.step));
        }
    }
    text + &within
}

fn outcome_text(outcome: &Outcome) -> (String, Option<String>) {
    match outcome {
        Outcome::Applied(ProcessResult::Waiting { step_id, reason }) => {
            ("waiting".to_owned(), Some(format!("{step_id}: {reason}")))
        }
        Outcome::Applied(ProcessResult::Advanced { .. }) => ("advanced".to_owned(), None),
        Outcome::Applied(ProcessResult::Completed { .. }) => ("completed".to_owned(), None),
        Outcome::Applied(ProcessResult::Failed { error }) => {
            ("failed".to_owned(), Some(error.clone()))
        }
        Outcome::Rejected(rejection) => {
            (rejection.code.to_string(), Some(rejection.detail.clone()))
        }
        Outcome::Duplicate(_) => ("duplicate".to_owned(), None),
        Outcome::Undecided(undecided) => ("undecided".to_owned(), Some(undecided.to_string())),
        Outcome::Dead(dead) => ("dead".to_owned(), Some(dead.to_string())),
    }
}

/// A rejection that the script did not expect; without an expectation, any rejection is one.
fn unexpected_refusal(step: &TraceStep, expected: Option<ExpectedOutcome>) -> Option<String> {
    let applied = ["waiting", "advanced", "completed", "failed"].contains(&step.outcome.as_str());
    let good = match expected {
        None => applied,
        Some(ExpectedOutcome::Rejected) => !applied,
        Some(expected) => expected.as_str() == step.outcome,
    };
    let expected = expected.map_or("no refusal", ExpectedOutcome::as_str);
    (!good).then(|| format!("expected {expected}, came to {}", step.outcome))
}

fn compare_end(
    expect: &ExpectedEnd,
    state: Option<&WorkflowSnapshot>,
    mismatches: &mut Vec<String>,
) {
    let status = state.map_or("not started", |state| state.status.as_str());
    if let Some(expected) = expect.status.filter(|expected| expected.as_str() != status) {
        mismatches.push(format!(
            "expected the task {}, it is {status}",
            expected.as_str()
        ));
    }
    if let Some(incidents) = &expect.incidents {
        let open = state.map(|state| &state.incidents);
        let mut found: Vec<String> = open
            .into_iter()
            .flatten()
            .map(|incident| incident.code.to_string())
            .collect();
        found.sort();
        let mut wanted = incidents.clone();
        wanted.sort();
        if found != wanted {
            mismatches.push(format!(
                "expected the incidents {}, found {}",
                listed(&wanted),
                listed(&found)
            ));
        }
    }
    let null = Value::Null;
    let output = state
        .and_then(|state| state.output.as_ref())
        .unwrap_or(&null);
    for (key, value) in expect.output.iter().flatten() {
        differences(&format!("output.{key}"), value, &output[key], mismatches);
    }
}

/// Where `found` lacks or differs from `expected`: mappings by key, numbers by value.
fn differences(path: &str, expected: &Value, found: &Value, mismatches: &mut Vec<String>) {
    let same = match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, value) in expected {
                let found = found.get(key).unwrap_or(&Value::Null);
                differences(&format!("{path}.{key}"), value, found, mismatches);
            }
            true
        }
        (Value::Number(a), Value::Number(b)) => {
            a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if (a - b).abs() < 1e-9)
        }
        (expected, found) => expected == found,
    };
    if !same {
        mismatches.push(format!("expected {path} to be {expected}, it is {found}"));
    }
}

fn listed<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.join(", ")
}
