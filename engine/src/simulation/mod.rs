//! Plays workflows without a store, a clock or a broker.
//!
//! Commands go through the same `decide` as in production, and timers are derived from the state by
//! the same `derive_timers`. Only time, ids and the replies of external handlers are simulated,
//! always in the same way. So a simulation shows what a worker would do.
//!
//! ```
//! use glyph_workflow_engine::{parse_workflow, parser::check_script, simulation::play};
//!
//! let workflow = parse_workflow("workflow: { id: sentiment, template: multi_adjudication }").unwrap();
//! let (script, faults) = check_script(
//!     b"moves:
//!   - submit: { by: ada, data: positive }
//!   - submit: { by: bob, data: negative }
//!     active: [adjudicate]
//!   - submit: { by: ada, data: positive }
//!     expect: self_review
//!   - submit: { by: cleo, data: positive }
//! expect: { status: completed, output: { result: positive, resolved_by: adjudication } }
//! ",
//!     &workflow,
//! );
//! assert_eq!(faults, []);
//! let trace = play(vec![workflow], &script.unwrap()).unwrap();
//! assert!(trace.as_expected());
//! ```

mod expect;
mod explore;
mod next;
mod play;
mod trace;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

pub use explore::{
    Crowd, CrowdEdge, CrowdEnd, CrowdError, CrowdReport, CrowdStep, Exploration, ExploredCase,
    GoldAnswers, Mark, Wait, explore, plausible_answers, play_crowd,
};
pub use next::{Asking, NextTask, NotOffered};
pub use play::{person, play, play_with};
pub use trace::{Happening, Trace, TraceStep};

use crate::{
    command::{
        Command, CommandEnvelope, EffectOutcome, FireTimer, OperatorCommand, Outcome, Rejection,
        operator,
    },
    config::{HandlerAnswer, HookStage, Sampling, WorkflowConfig},
    decide::{DecideContext, Decision, decide},
    events::{LogPosition, StoredEvent},
    executor::{
        HandlerRegistry,
        annotators::{AnnotatorModel, Annotators, ModelKey},
    },
    ids::{CommandId, LogId, RevisionId, TaskId, WorkflowSelector},
    limits::SIMULATION_TIMERS_MAX,
    reliability::ReliabilityError,
    state::{WorkflowPause, WorkflowSnapshot},
    store::{OperatorFacts, Timer, TimerKind, content_hash, revision_id},
    timers::{Effect, HandlerCall, derive_timers, effect_of, timer_command_id},
    transition::{CompileError, CompiledWorkflow},
};

/// Tasks of workflows, decided one command after the other.
#[derive(Clone)]
pub struct Simulation {
    workflows: Vec<CompiledWorkflow>,
    handlers: HandlerRegistry,
    /// Replies of external handlers, by step.
    answers: BTreeMap<String, VecDeque<HandlerAnswer>>,
    /// Whether calls of which nothing is said wait for whoever plays, instead of failing.
    holds_calls: bool,
    /// Pauses of whole workflows, ended ones too.
    pauses: Vec<WorkflowPause>,
    /// The samples that tasks belong to which a `start` begins; none unless whoever plays says so.
    pub(super) sampling: Sampling,
    /// Models of annotators, which learn from every event; none unless whoever plays says so.
    models: HashMap<ModelKey, AnnotatorModel>,
    /// Events so far; the simulated log has no other position.
    position: i64,
    tasks: BTreeMap<TaskId, PlayedTask>,
    now: DateTime<Utc>,
    commands: u64,
}

/// A task of a simulation.
#[derive(Clone, Debug, Default)]
pub struct PlayedTask {
    /// The state; `None` before its first event.
    pub state: Option<WorkflowSnapshot>,
    /// All its events.
    pub log: Vec<StoredEvent>,
}

/// A decided command.
#[derive(Clone, Debug)]
pub struct Played {
    /// The command.
    pub command: Command,
    /// Its outcome.
    pub outcome: Outcome,
    /// The events.
    pub events: Vec<StoredEvent>,
    /// When it was decided.
    pub at: DateTime<Utc>,
}

impl Simulation {
    /// A simulation of these workflows, each in its first revision, with the built-in handlers.
    ///
    /// # Errors
    ///
    /// A workflow that the parser has not checked: see [`CompileError`].
    pub fn new(workflows: Vec<WorkflowConfig>, now: DateTime<Utc>) -> Result<Self, CompileError> {
        let mut simulation = Self {
            workflows: Vec::new(),
            handlers: HandlerRegistry::built_in(),
            answers: BTreeMap::new(),
            holds_calls: false,
            pauses: Vec::new(),
            sampling: Sampling::default(),
            models: HashMap::new(),
            position: 0,
            tasks: BTreeMap::new(),
            now,
            commands: 0,
        };
        for workflow in workflows {
            simulation.add(workflow)?;
        }
        Ok(simulation)
    }

    /// Adds a workflow, or the next revision of one. New tasks and children begin on the first one.
    ///
    /// # Errors
    ///
    /// As [`Simulation::new`].
    pub fn add(&mut self, mut config: WorkflowConfig) -> Result<RevisionId, CompileError> {
        let known = self.workflows.iter();
        let known = known.filter(|workflow| workflow.config().id == config.id);
        config.revision = u32::try_from(known.count())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        config.revision_id = revision_id(&config.id, config.revision);
        let revision = config.revision_id;
        let hash = content_hash(&config);
        self.workflows
            .push(CompiledWorkflow::new(config.into(), hash)?);
        Ok(revision)
    }

    /// Sets the replies of an external handler when `step` calls it, or of a hook of a step, named
    /// like `step.pre_process`. The last reply is repeated for all further calls.
    pub fn answer(&mut self, step: &str, answers: impl IntoIterator<Item = HandlerAnswer>) {
        self.answers
            .insert(step.to_owned(), answers.into_iter().collect());
    }

    /// Lets models of annotators learn from now on what is answered in these workflows.
    fn learn(&mut self, workflows: &[WorkflowConfig]) -> Result<(), ReliabilityError> {
        for key in workflows.iter().flat_map(ModelKey::all_of) {
            let model = AnnotatorModel::new(key.clone())?;
            self.models.insert(key, model);
        }
        Ok(())
    }

    /// The current time.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// A task.
    pub fn task(&self, task: TaskId) -> Option<&PlayedTask> {
        self.tasks.get(&task)
    }

    /// The state of a task that has been started.
    pub fn state(&self, task: TaskId) -> Option<&WorkflowSnapshot> {
        self.tasks.get(&task)?.state.as_ref()
    }

    /// The revision that a task runs on.
    fn workflow_of(&self, state: &WorkflowSnapshot) -> Option<&WorkflowConfig> {
        let revision = WorkflowSelector::Revision(state.workflow.revision_id);
        named(&self.workflows, &revision).map(|workflow| &**workflow.config())
    }

    /// The path of `sub_workflow` steps that lead to a child task; none for a task without a parent.
    fn path_to(&self, task: TaskId) -> Option<String> {
        let parent = self.state(task)?.parent.as_ref()?;
        Some(match self.path_to(parent.task_id) {
            Some(path) => format!("{path}/{}", parent.step_id),
            None => parent.step_id.to_string(),
        })
    }

    /// Decides a command under a new id, and then everything that is due at once.
    pub fn run(&mut self, command: Command) -> Vec<Played> {
        let id = self.command_id(command.task_id().0);
        let mut played = vec![self.decide(&CommandEnvelope::new(id, command))];
        played.extend(self.settle());
        played
    }

    /// Decides an operator command on a whole workflow, and then everything that is due at once.
    ///
    /// # Errors
    ///
    /// The rejection, if the workflow is not as the command expects it.
    pub fn run_operator_command(
        &mut self,
        command: &OperatorCommand,
    ) -> Result<Vec<Played>, Rejection> {
        let id = self.command_id(Uuid::NAMESPACE_OID);
        let now = self.now;
        let open = |pause: &&WorkflowPause| {
            pause.workflow == *command.workflow() && pause.ended_at.is_none()
        };
        // A worker would have recorded the end of a pause that has run out.
        let in_force = |pause: &&WorkflowPause| pause.until.is_none_or(|until| until > now);
        let facts = OperatorFacts {
            now,
            pause: self.pauses.iter().filter(open).find(in_force).cloned(),
            annotator: None,
        };
        let effect = operator::decide(command, CommandId(id), facts)?;
        for pause in effect.pauses.workflows {
            self.pauses.retain(|known| known.pause_id != pause.pause_id);
            self.pauses.push(pause);
        }
        Ok(self.settle())
    }

    fn command_id(&mut self, space: Uuid) -> Uuid {
        self.commands += 1;
        Uuid::new_v5(&space, format!("simulated/{}", self.commands).as_bytes())
    }

    /// Decides one command and nothing else.
    pub fn decide(&mut self, envelope: &CommandEnvelope) -> Played {
        let task = self.tasks.entry(envelope.command.task_id()).or_default();
        let named = envelope
            .command
            .workflow()
            .and_then(|selector| named(&self.workflows, selector));
        let own = task.state.as_ref().and_then(|state| {
            let revision = WorkflowSelector::Revision(state.workflow.revision_id);
            self::named(&self.workflows, &revision)
        });
        let context = DecideContext {
            workflow: own,
            named,
            handlers: &self.handlers,
            pauses: &self.pauses,
            annotators: Annotators::new(&self.models),
            sampling: if matches!(envelope.command, Command::Start(_)) {
                self.sampling
            } else {
                Sampling::default()
            },
            now: self.now,
            log: LogId::default(),
        };
        let Decision {
            outcome,
            events,
            state,
            draft: _,
        } = decide(task.state.as_ref(), envelope, &context);
        for event in &events {
            self.position += 1;
            let position = LogPosition {
                entry: self.position,
                position: 0,
            };
            for model in self.models.values_mut() {
                model.learn(position, event);
            }
        }
        task.state = state;
        task.log.extend(events.iter().cloned());
        if task.log.is_empty() {
            self.tasks.remove(&envelope.command.task_id());
        }
        Played {
            command: envelope.command.clone(),
            outcome,
            events,
            at: self.now,
        }
    }

    /// Advances time; timers that become due are fired at their time.
    pub fn pass(&mut self, time: Duration) -> Vec<Played> {
        let end = self.now + time;
        let played = self.fire_until(end);
        self.now = end;
        played
    }

    /// Fires everything due by now.
    fn settle(&mut self) -> Vec<Played> {
        self.fire_until(self.now)
    }

    fn fire_until(&mut self, end: DateTime<Utc>) -> Vec<Played> {
        let mut played = Vec::new();
        while let Some((at, row)) = self.next_due().filter(|(at, _)| *at <= end)
            && played.len() < SIMULATION_TIMERS_MAX
        {
            self.now = self.now.max(at);
            played.extend(self.fire(row));
        }
        played
    }

    /// The timer that fires next, and when. Those of a paused workflow fire once it goes on.
    fn next_due(&self) -> Option<(DateTime<Utc>, Timer)> {
        let states = self.tasks.values().filter_map(|task| task.state.as_ref());
        let timers = states.flat_map(|state| {
            let rows = derive_timers(state).into_iter();
            rows.filter(|row| !self.is_held(state, row))
                .filter_map(|row| Some((self.fires_at(state, &row)?, row)))
        });
        timers.min_by_key(|(at, row)| (*at, row.due_at, row.task_id, row.id))
    }

    /// When a timer fires; never while its workflow is paused without an end.
    fn fires_at(&self, state: &WorkflowSnapshot, row: &Timer) -> Option<DateTime<Utc>> {
        let mut at = row.due_at.max(self.now);
        let own = |pause: &&WorkflowPause| pause.workflow == state.workflow.workflow;
        while let Some(pause) = self.pauses.iter().filter(own).find(|p| p.applies_at(at)) {
            at = [pause.until, pause.ended_at].into_iter().flatten().min()?;
        }
        Some(at)
    }

    /// Whether a call waits for whoever plays.
    fn is_held(&self, state: &WorkflowSnapshot, row: &Timer) -> bool {
        if !self.holds_calls || row.kind != TimerKind::HandlerCall {
            return false;
        }
        let visit = row
            .step_id
            .as_ref()
            .and_then(|step| state.visit(step, row.visit));
        let call = visit.and_then(|visit| visit.call.as_ref());
        let blocking = call.filter(|call| call.n == row.n);
        blocking.is_some_and(|call| {
            let hook = call.hook.map(|hook| hook.stage);
            let step = row.step_id.as_deref().unwrap_or_default();
            !self.answers.contains_key(&caller(step, hook))
        })
    }

    /// Runs the effect of a timer, then decides the timer with its outcome.
    fn fire(&mut self, row: Timer) -> Vec<Played> {
        let state = self.state(row.task_id);
        let effect = state.and_then(|state| {
            let revision = WorkflowSelector::Revision(state.workflow.revision_id);
            effect_of(state, named(&self.workflows, &revision)?, &row)
        });
        let mut played = Vec::new();
        let outcome = effect.map(|effect| match effect {
            Effect::Call(call) => self.call(&call),
            Effect::Command(envelope) => {
                let notified = self.decide(&envelope);
                let outcome = effect_outcome(&notified.outcome);
                played.push(notified);
                outcome
            }
        });
        played.push(self.fire_with(row, outcome));
        played
    }

    /// Decides a timer with the outcome of its effect.
    fn fire_with(&mut self, row: Timer, outcome: Option<EffectOutcome>) -> Played {
        let id = timer_command_id(&row);
        let due = Command::FireTimer(FireTimer { row, outcome });
        self.decide(&CommandEnvelope::new(id, due))
    }

    fn call(&mut self, call: &HandlerCall) -> EffectOutcome {
        let failed = |error: String, is_final: bool| EffectOutcome::Failed {
            error,
            is_final,
            retry_after: None,
        };
        let caller = caller(&call.step_id, call.hook);
        let Some(answers) = self.answers.get_mut(&caller) else {
            // Nothing depends on the reply to a notification.
            if call.hook.is_some_and(|stage| !stage.blocks_step()) {
                return EffectOutcome::Done {
                    output: Value::Null,
                };
            }
            // A job for an external worker is done once it is published.
            return match call.handler.as_str() {
                "queue" => EffectOutcome::Done {
                    output: Value::Null,
                },
                handler => failed(format!("nothing is said of what `{handler}` answers"), true),
            };
        };
        let last = answers.len() <= 1;
        let answer = if last {
            answers.front().cloned()
        } else {
            answers.pop_front()
        };
        let answer = answer.unwrap_or_default();
        match answer.error {
            Some(error) => failed(error, answer.is_final.unwrap_or(false)),
            None => EffectOutcome::Done {
                output: answer.output.unwrap_or_default(),
            },
        }
    }
}

/// What a script calls the caller of a handler: the step, or a hook of it.
fn caller(step: &str, hook: Option<HookStage>) -> String {
    match hook {
        None => step.to_owned(),
        Some(stage) => format!("{step}.{stage}"),
    }
}

fn named<'w>(
    workflows: &'w [CompiledWorkflow],
    selector: &WorkflowSelector,
) -> Option<&'w CompiledWorkflow> {
    workflows.iter().find(|workflow| {
        let config = workflow.config();
        selector.names(&config.id, config.revision_id)
    })
}

/// The outcome of a command to another task.
fn effect_outcome(outcome: &Outcome) -> EffectOutcome {
    let failed = |error: String| EffectOutcome::Failed {
        error,
        is_final: true,
        retry_after: None,
    };
    match outcome {
        Outcome::Applied(_) | Outcome::Duplicate(_) => EffectOutcome::Done {
            output: Value::Null,
        },
        Outcome::Rejected(rejection) => failed(rejection.detail.clone()),
        Outcome::Undecided(undecided) => failed(undecided.to_string()),
        Outcome::Dead(dead) => failed(dead.to_string()),
    }
}
