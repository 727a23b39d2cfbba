//! Plays a script.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Asking, Happening, NextTask, Played, Simulation, Trace, TraceStep,
    expect::{compare_end, listed, unexpected_outcome},
};
use crate::{
    command::{
        Activity, Advance, AnnotationInput, Assign, Command, Control, Migrate, OperatorCommand,
        Outcome, Pause, ProcessResult, Release, Start, Submission,
    },
    config::{Move, PersonMove, Script, SubmitMove, WorkflowConfig, WorkflowMove},
    expression::ExpressionError,
    ids::{RevisionId, Slug, TaskId, UserId, WorkflowId, WorkflowSelector},
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
    play_with(workflows, Vec::new(), script)
}

/// As [`play`], with the revisions to which moves migrate ([`Script::revisions`]) by the names of
/// their files.
///
/// # Errors
///
/// As [`Simulation::new`].
pub fn play_with(
    workflows: Vec<WorkflowConfig>,
    revisions: Vec<(String, WorkflowConfig)>,
    script: &Script,
) -> Result<Trace, CompileError> {
    let Some(workflow) = workflows.first().map(|workflow| workflow.id.clone()) else {
        return Err(ExpressionError::Empty.into());
    };
    let begin = script.clock.unwrap_or_else(usual_start);
    let mut simulation = Simulation::new(workflows, begin)?;
    for (step, answers) in &script.handlers {
        simulation.answer(step, answers.iter().cloned());
    }
    let revisions = revisions
        .into_iter()
        .map(|(file, config)| Ok((file, simulation.add(config)?)))
        .collect::<Result<_, CompileError>>()?;
    let mut player = Player {
        task_id: played_task(&workflow),
        workflow,
        simulation,
        script,
        revisions,
        people: people_of(script),
    };
    let mut steps = vec![player.start()];
    for (at, one) in script.moves.iter().enumerate() {
        steps.push(player.make(at + 1, one));
    }
    Ok(player.finish(steps))
}

/// The task that is played of a workflow.
pub(super) fn played_task(workflow: &WorkflowId) -> TaskId {
    let name = format!("glyph/task/{workflow}");
    TaskId(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
}

/// When a task starts unless a script says it.
pub(super) fn usual_start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + FROM_EPOCH
}

/// 2026-01-01T00:00:00Z.
const FROM_EPOCH: TimeDelta = TimeDelta::seconds(1_767_225_600);

struct Player<'s> {
    simulation: Simulation,
    script: &'s Script,
    workflow: WorkflowId,
    task_id: TaskId,
    /// The revisions to which moves migrate, by file.
    revisions: BTreeMap<String, RevisionId>,
    people: BTreeMap<UserId, String>,
}

/// What a move came to.
struct Made {
    played: Vec<Played>,
    /// The outcome and its detail, where it is not that of the first command.
    outcome: Option<(String, Option<String>)>,
    /// The step in which a slot was offered.
    offered: Option<String>,
}

impl From<Vec<Played>> for Made {
    fn from(played: Vec<Played>) -> Self {
        Self {
            played,
            outcome: None,
            offered: None,
        }
    }
}

fn people_of(script: &Script) -> BTreeMap<UserId, String> {
    let by = script.moves.iter().filter_map(|one| {
        let of_person = |person: &Option<PersonMove>| person.as_ref().map(|p| p.by.clone());
        of_person(&one.assign)
            .or_else(|| of_person(&one.next))
            .or_else(|| of_person(&one.activity))
            .or_else(|| one.release.as_ref().map(|release| release.by.clone()))
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
        self.simulation.sampling = script.sampling;
        let played = self.simulation.run(command);
        let mut step = self.step(0, "start".to_owned(), at, &Made::from(played));
        step.mismatches
            .extend(unexpected_outcome(&step.outcome, None));
        step
    }

    fn make(&mut self, number: usize, one: &Move) -> TraceStep {
        let at = self.simulation.now();
        let action = action_text(one);
        let not_made = |player: &Self, action: String, why: String| {
            let mut step = player.step(number, action, at, &Made::from(Vec::new()));
            step.mismatches.push(why);
            step
        };
        let Some(task_id) = self.task_of(one.within.as_deref()) else {
            let within = one.within.as_deref().unwrap_or_default();
            let why = format!("no child task of step `{within}` has begun");
            return not_made(&*self, action, why);
        };
        let made = match self.carry_out(one, task_id) {
            Ok(made) => made,
            Err(why) => return not_made(&*self, action, why),
        };
        let mut step = self.step(number, action, at, &made);
        step.mismatches
            .extend(unexpected_outcome(&step.outcome, one.expect));
        if let Some(wanted) = one
            .offered
            .as_ref()
            .filter(|w| Some(*w) != made.offered.as_ref())
        {
            let offered = made.offered.as_deref().unwrap_or("nothing");
            step.mismatches
                .push(format!("expected {wanted} to be offered, it is {offered}"));
        }
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

    /// Does what a move says, or says what is missing for it.
    fn carry_out(&mut self, one: &Move, task_id: TaskId) -> Result<Made, String> {
        if let Some(time) = one.pass {
            let played = self.simulation.pass(time.get());
            return Ok(Made {
                outcome: Some((self.status_word().to_owned(), None)),
                ..Made::from(played)
            });
        }
        if let Some(next) = &one.next {
            return Ok(self.next(next, one.within.as_ref().map(|_| task_id)));
        }
        if let Some(command) = self.operator_command(one, task_id) {
            return self.operate(&command);
        }
        if let Some(migrate) = &one.migrate {
            let Some(revision) = self.revisions.get(&migrate.to) else {
                return Err(format!("the file `{}` is not at hand", migrate.to));
            };
            let steps = migrate.steps.iter();
            let steps = steps.filter_map(|(from, to)| Some((Slug::new(from).ok()?, to.clone())));
            let command = Command::Migrate(Migrate {
                task_id,
                to: WorkflowSelector::Revision(*revision),
                steps: steps.collect(),
            });
            return Ok(self.simulation.run(command).into());
        }
        let command = self.command(one, task_id);
        Ok(command
            .map_or_else(Vec::new, |command| self.simulation.run(command))
            .into())
    }

    fn next(&mut self, next: &PersonMove, task: Option<TaskId>) -> Made {
        let script = self.script;
        let known = script.people.get(&next.by);
        let asking = Asking {
            user_id: person(&next.by),
            roles: known.map_or(&[][..], |person| &person.roles),
            skills: known.map_or(&[][..], |person| &person.skills),
            task,
            step: next.step.as_deref(),
        };
        match self.simulation.next_task(asking) {
            NextTask::Nothing { why, detail } => Made {
                outcome: Some((why.as_str().to_owned(), Some(detail))),
                ..Made::from(Vec::new())
            },
            NextTask::Offered {
                task_id,
                step_id,
                visit,
                played,
            } => {
                // With `within` the step is named as in the child's own file.
                let step = match task {
                    Some(_) => step_id.to_string(),
                    None => self.simulation.named(task_id, &step_id),
                };
                let granted = matches!(
                    played.first().map(|first| &first.outcome),
                    Some(Outcome::Applied(_))
                );
                let detail = format!("{step}, visit {visit}");
                Made {
                    outcome: granted.then(|| ("offered".to_owned(), Some(detail))),
                    offered: granted.then_some(step),
                    played,
                }
            }
        }
    }

    fn operate(&mut self, command: &OperatorCommand) -> Result<Made, String> {
        let known = self.simulation.workflows.iter();
        let mut known = known.map(|workflow| &workflow.config().id);
        if !known.any(|id| id == command.workflow()) {
            return Err(format!(
                "there is no workflow `{}`: name its file in `workflows`",
                command.workflow()
            ));
        }
        let (played, outcome) = match self.simulation.run_operator_command(command) {
            Ok(played) => (played, (self.status_word().to_owned(), None)),
            Err(rejection) => {
                let code = rejection.code.to_string();
                (Vec::new(), (code, Some(rejection.detail)))
            }
        };
        Ok(Made {
            outcome: Some(outcome),
            ..Made::from(played)
        })
    }

    /// The command of a move that is about a whole workflow.
    fn operator_command(&self, one: &Move, task_id: TaskId) -> Option<OperatorCommand> {
        let own = || {
            let state = self.simulation.state(task_id);
            state.map_or(self.workflow.clone(), |state| {
                state.workflow.workflow.clone()
            })
        };
        let about = |about: &WorkflowMove| {
            let workflow = about.workflow.clone().unwrap_or_else(own);
            (workflow, about.reason.clone())
        };
        if let Some(pause) = &one.workflow_pause {
            return Some(OperatorCommand::WorkflowPause {
                workflow: pause.workflow.clone().unwrap_or_else(own),
                reason: pause.reason.clone(),
                until: pause.lasting.map(|time| self.simulation.now() + time.get()),
            });
        }
        if let Some((workflow, reason)) = one.workflow_resume.as_ref().map(about) {
            return Some(OperatorCommand::WorkflowResume {
                workflow,
                reason,
                ran_out: None,
            });
        }
        if let Some((workflow, reason)) = one.workflow_archive.as_ref().map(about) {
            return Some(OperatorCommand::WorkflowArchive { workflow, reason });
        }
        let (workflow, reason) = one.workflow_restore.as_ref().map(about)?;
        Some(OperatorCommand::WorkflowRestore { workflow, reason })
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
                reason: release.reason.clone(),
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

    fn step(&self, number: usize, action: String, at: DateTime<Utc>, made: &Made) -> TraceStep {
        let own = || match made.played.first() {
            Some(first) => outcome_text(&first.outcome),
            None => (self.status_word().to_owned(), None),
        };
        let (outcome, detail) = made.outcome.clone().unwrap_or_else(own);
        let events = made.played.iter().flat_map(|played| &played.events);
        let happened = events
            .map(|event| {
                let within = self.simulation.path_to(event.task_id);
                Happening::of(event, within, &self.people)
            })
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

    fn active(&self, task: TaskId) -> Vec<String> {
        let steps = self
            .simulation
            .state(task)
            .map(WorkflowSnapshot::current_steps);
        steps.iter().flatten().map(ToString::to_string).collect()
    }

    /// The status of the task, in the words of outcomes.
    fn status_word(&self) -> &'static str {
        match self
            .simulation
            .state(self.task_id)
            .map(|state| state.status)
        {
            Some(TaskStatus::Completed) => "completed",
            Some(TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::Archived) => "failed",
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
    } else if let Some(next) = &one.next {
        text = by("next task", next);
    } else if let Some(release) = &one.release {
        text = format!("release{} by {}", at(&release.step), release.by);
    } else if let Some(activity) = &one.activity {
        text = by("activity", activity);
    } else if let Some(advance) = &one.advance {
        text = format!("advance{}", at(&advance.step));
    } else if let Some(pause) = &one.pause {
        text = format!("pause{}", at(&pause.step));
    } else if let Some(migrate) = &one.migrate {
        text = format!("migrate to {}", migrate.to);
    } else if let Some(pause) = &one.workflow_pause {
        text = format!("pause the workflow{}", at_workflow(pause.workflow.as_ref()));
    } else if let Some(time) = one.pass {
        text = format!("{time} pass");
    }
    for (verb, about) in [
        ("resume", &one.workflow_resume),
        ("archive", &one.workflow_archive),
        ("restore", &one.workflow_restore),
    ] {
        if let Some(about) = about {
            text = format!(
                "{verb} the workflow{}",
                at_workflow(about.workflow.as_ref())
            );
        }
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

fn at_workflow(workflow: Option<&WorkflowId>) -> String {
    workflow.map_or(String::new(), |workflow| format!(" {workflow}"))
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
