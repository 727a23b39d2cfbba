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

mod play;
mod trace;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

pub use play::{person, play};
pub use trace::{Happening, Trace, TraceStep};

use crate::{
    command::{Command, CommandEnvelope, EffectOutcome, FireTimer, Outcome},
    config::{HandlerAnswer, WorkflowConfig},
    decide::{DecideContext, Decision, decide},
    events::StoredEvent,
    executor::{HandlerRegistry, annotators::Annotators},
    ids::{TaskId, WorkflowSelector},
    limits::SIMULATION_TIMERS_MAX,
    state::WorkflowSnapshot,
    store::{Timer, content_hash, revision_id},
    timers::{Effect, HandlerCall, derive_timers, effect_of, timer_command_id},
    transition::{CompileError, CompiledWorkflow},
};

/// Tasks of workflows, decided one command after the other.
pub struct Simulation {
    workflows: Vec<CompiledWorkflow>,
    handlers: HandlerRegistry,
    /// Replies of external handlers, by step.
    answers: BTreeMap<String, VecDeque<HandlerAnswer>>,
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
        let compiled = |mut config: WorkflowConfig| {
            config.revision = 1;
            config.revision_id = revision_id(&config.id, 1);
            let hash = content_hash(&config);
            CompiledWorkflow::new(config.into(), hash)
        };
        Ok(Self {
            workflows: workflows
                .into_iter()
                .map(compiled)
                .collect::<Result<_, _>>()?,
            handlers: HandlerRegistry::built_in(),
            answers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            now,
            commands: 0,
        })
    }

    /// Sets the replies of an external handler when `step` calls it, or of a hook of a step, named
    /// like `step.pre_process`. The last reply is repeated for all further calls.
    pub fn answer(&mut self, step: &str, answers: impl IntoIterator<Item = HandlerAnswer>) {
        self.answers
            .insert(step.to_owned(), answers.into_iter().collect());
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

    /// Decides a command under a new id, and then everything that is due at once.
    pub fn run(&mut self, command: Command) -> Vec<Played> {
        self.commands += 1;
        let id = Uuid::new_v5(
            &command.task_id().0,
            format!("simulated/{}", self.commands).as_bytes(),
        );
        let mut played = vec![self.decide(&CommandEnvelope::new(id, command))];
        played.extend(self.settle());
        played
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
            pauses: &[],
            // A simulation has no annotator models.
            annotators: Annotators::default(),
            now: self.now,
        };
        let Decision {
            outcome,
            events,
            state,
            draft: _,
        } = decide(task.state.as_ref(), envelope, &context);
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
        let mut played = Vec::new();
        while let Some(row) = self.next_due(end)
            && played.len() < SIMULATION_TIMERS_MAX
        {
            self.now = self.now.max(row.due_at);
            played.extend(self.fire(row));
        }
        self.now = end;
        played
    }

    /// Fires everything due by now.
    fn settle(&mut self) -> Vec<Played> {
        let mut played = Vec::new();
        while let Some(row) = self.next_due(self.now)
            && played.len() < SIMULATION_TIMERS_MAX
        {
            played.extend(self.fire(row));
        }
        played
    }

    fn next_due(&self, end: DateTime<Utc>) -> Option<Timer> {
        let states = self.tasks.values().filter_map(|task| task.state.as_ref());
        states
            .flat_map(derive_timers)
            .filter(|row| row.due_at <= end)
            .min_by_key(|row| (row.due_at, row.task_id, row.id))
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
        let id = timer_command_id(&row);
        let due = Command::FireTimer(FireTimer { row, outcome });
        played.push(self.decide(&CommandEnvelope::new(id, due)));
        played
    }

    fn call(&mut self, call: &HandlerCall) -> EffectOutcome {
        let failed = |error: String, is_final: bool| EffectOutcome::Failed {
            error,
            is_final,
            retry_after: None,
        };
        let caller = match call.hook {
            None => call.step_id.to_string(),
            Some(stage) => format!("{}.{stage}", call.step_id),
        };
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
