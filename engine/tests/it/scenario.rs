//! A scenario for one workflow: commands in, one line of text out, without store and clock.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::{
    DecideContext, Decision, Effect, HandlerCall, HandlerRegistry, OfferedVerb, Outcome,
    ProcessResult, StateRebuilder, WorkflowSnapshot,
    command::{
        Activity, Advance, AnnotationInput, Assign, Command, CommandEnvelope, Control,
        EffectOutcome, FireTimer, Pause, Release, Start, Submission,
    },
    config::Sampling,
    decide, derive_timers, effect_of,
    events::{EVENT_SCHEMA_VERSION, StoredEvent, upcast},
    executor::annotators::{AnnotatorModel, Annotators, ModelKey},
    ids::{CommandId, LogId, RevisionId, StepId, TaskId, UserId, WorkflowSelector},
    offered_verbs, parse_workflow,
    store::{Timer, WorkflowPause},
    timer_command_id,
    transition::CompiledWorkflow,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// One task in a workflow, decided directly.
pub(crate) struct Scenario {
    workflow: CompiledWorkflow,
    /// A revision that the task may migrate to.
    revised: Option<CompiledWorkflow>,
    handlers: HandlerRegistry,
    /// The reliability of the annotators.
    pub(crate) annotators: HashMap<ModelKey, AnnotatorModel>,
    /// The current state.
    pub(crate) state: Option<WorkflowSnapshot>,
    /// All events so far.
    pub(crate) log: Vec<StoredEvent>,
    /// The time at which the next command is decided.
    pub(crate) now: DateTime<Utc>,
    /// The pauses of its workflow.
    pub(crate) pauses: Vec<WorkflowPause>,
    /// The samples that a task belongs to which starts.
    pub(crate) sampling: Sampling,
    /// The results of the next calls to external handlers, in order. When none is left, calls are
    /// answered with `"answer"`.
    pub(crate) answers: VecDeque<EffectOutcome>,
    /// The calls made so far.
    pub(crate) calls: Vec<HandlerCall>,
    commands: u128,
}

/// An event that a store writes is read back unchanged.
fn assert_readable(event: &StoredEvent) {
    let written = serde_json::to_value(&event.event).expect("events are plain data");
    let name = event.event.event_type();
    let read = upcast(
        name,
        EVENT_SCHEMA_VERSION,
        &written["event_data"].to_string(),
    );
    let read = read.map(|event| serde_json::to_value(event).expect("plain data"));
    assert_eq!(read.ok().as_ref(), Some(&written), "{name}");
}

/// The annotator with this number.
pub(crate) fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(0xA000 + n))
}

/// The only task of a scenario.
pub(crate) const TASK: TaskId = TaskId(Uuid::from_u128(0x7A5C));

fn compiled(yaml: &str, revision: u32) -> CompiledWorkflow {
    let mut config = parse_workflow(yaml).unwrap_or_else(|e| panic!("{:#?}", e.diagnostics));
    config.revision_id = RevisionId(Uuid::from_u128(0xF00 + u128::from(revision) - 1));
    config.revision = revision;
    CompiledWorkflow::new(config.into(), "hash".to_owned()).unwrap()
}

impl Scenario {
    pub(crate) fn new(yaml: &str) -> Self {
        Self {
            workflow: compiled(yaml, 1),
            revised: None,
            handlers: HandlerRegistry::built_in(),
            annotators: HashMap::new(),
            state: None,
            log: Vec::new(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            pauses: Vec::new(),
            sampling: Sampling::default(),
            answers: VecDeque::new(),
            calls: Vec::new(),
            commands: 0,
        }
    }

    /// A scenario whose task has been started.
    pub(crate) fn started(yaml: &str) -> Self {
        let mut scenario = Self::new(yaml);
        let answer = scenario.start(json!(null));
        assert!(answer.starts_with("waiting"), "{answer}");
        scenario
    }

    /// Decides a command; returns the outcome and the events, as `completed | annotation_submitted,
    /// step_completed, …`.
    pub(crate) fn run(&mut self, command: Command) -> String {
        self.commands += 1;
        let id = match &command {
            Command::FireTimer(due) => timer_command_id(&due.row).0,
            _ => Uuid::from_u128(0xC000_0000 + self.commands),
        };
        self.run_as(id, command)
    }

    fn run_as(&mut self, id: Uuid, command: Command) -> String {
        let decision = self.decision(id, command);
        let events: Vec<_> = decision
            .events
            .iter()
            .map(|e| e.event.event_type())
            .collect();
        self.state = decision.state;
        let revision = self.state.as_ref().map(|state| state.workflow.revision_id);
        let moved = |revised: &mut CompiledWorkflow| Some(revised.config().revision_id) == revision;
        if let Some(revised) = self.revised.take_if(moved) {
            self.workflow = revised;
        }
        decision.events.iter().for_each(assert_readable);
        self.log.extend(decision.events);
        self.check();
        let outcome = match decision.outcome {
            Outcome::Applied(ProcessResult::Waiting { step_id, .. }) => {
                format!("waiting {step_id}")
            }
            Outcome::Applied(ProcessResult::Advanced { next_steps, .. }) => {
                format!("advanced {next_steps:?}").replace('"', "")
            }
            Outcome::Applied(ProcessResult::Completed { .. }) => "completed".to_owned(),
            Outcome::Applied(ProcessResult::Failed { error }) => format!("failed {error}"),
            Outcome::Rejected(rejection) => format!("rejected {}", rejection.code),
            other => format!("{other:?}"),
        };
        if events.is_empty() {
            outcome
        } else {
            format!("{outcome} | {}", events.join(", "))
        }
    }

    /// The decision of a command, of which nothing comes.
    fn decision(&self, id: Uuid, command: Command) -> Decision {
        let named = command.workflow().and_then(|selector| {
            let mut known = self.revised.iter().chain([&self.workflow]);
            known.find(|known| selector.names(&known.config().id, known.config().revision_id))
        });
        let context = DecideContext {
            named,
            ..self.context()
        };
        decide(
            self.state.as_ref(),
            &CommandEnvelope::new(id, command),
            &context,
        )
    }

    fn context(&self) -> DecideContext<'_> {
        DecideContext {
            log: LogId::default(),
            workflow: self.state.is_some().then_some(&self.workflow),
            named: None,
            handlers: &self.handlers,
            annotators: Annotators::new(&self.annotators),
            sampling: self.sampling,
            now: self.now,
            pauses: &self.pauses,
        }
    }

    /// The steps of its workflow.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &StepId> {
        self.workflow.config().steps.iter().map(|step| &step.id)
    }

    /// The verbs that are offered for the task as it is now.
    pub(crate) fn verbs(&self) -> Vec<OfferedVerb> {
        let offered = |state| offered_verbs(state, &self.context());
        self.state.as_ref().map(offered).unwrap_or_default()
    }

    /// Whether a verb is accepted from an operator who sees it offered. The task is left as it is.
    pub(crate) fn accepts(&self, offered: &OfferedVerb) -> bool {
        let step_id = offered.step_id.as_ref().map(ToString::to_string);
        let control = Control {
            task_id: TASK,
            step_id: step_id.clone(),
            reason: Some("tried".to_owned()),
        };
        let needs = |field| offered.needs.contains(&field);
        let command = match offered.verb {
            "retry" => Command::Retry(control),
            "resume" => Command::Resume(control),
            "cancel" => Command::Cancel(control),
            "pause" => Command::Pause(Pause {
                task_id: TASK,
                step_id,
                reason: None,
                until: None,
            }),
            "advance" => Command::Advance(Advance {
                task_id: TASK,
                step_id,
                output: needs("output").then(|| json!({"by": "hand"})),
            }),
            "release" => Command::Release(Release {
                task_id: TASK,
                step_id,
                user_id: offered.user_id.expect("a claim is somebody's"),
                reason: None,
            }),
            "assign" => {
                let step = self
                    .workflow
                    .config()
                    .step(offered.step_id.as_deref().unwrap());
                Command::Assign(Assign {
                    task_id: TASK,
                    step_id,
                    user_id: user(0x99),
                    roles: step.map(|step| step.required_roles().to_vec()),
                    offered: None,
                })
            }
            other => panic!("`{other}` is no verb of an operator"),
        };
        let outcome = self.decision(Uuid::from_u128(0xC0DE), command).outcome;
        matches!(outcome, Outcome::Applied(_))
    }

    /// Adds another revision, for the task to migrate to.
    pub(crate) fn revise(&mut self, yaml: &str) -> WorkflowSelector {
        let revised = compiled(yaml, 2);
        let selector = WorkflowSelector::Revision(revised.config().revision_id);
        self.revised = Some(revised);
        selector
    }

    /// The invariant after every command: replay equals live.
    fn check(&self) {
        let replayed = StateRebuilder::rebuild(&self.log).expect("the log replays");
        assert_eq!(replayed, self.state, "replay equals live");
        let written = serde_json::to_value(&self.state).expect("states are plain data");
        let read = serde_json::from_value(written).expect("a snapshot is read again");
        assert_eq!(self.state, read, "a snapshot is the state");
    }

    /// Pauses the whole workflow.
    pub(crate) fn pause_workflow(&mut self, until: Option<DateTime<Utc>>) {
        self.resume_workflow();
        self.commands += 1;
        self.pauses.push(WorkflowPause {
            pause_id: CommandId(Uuid::from_u128(0xAC70 + self.commands)),
            workflow: self.workflow.config().id.clone(),
            reason: Some("audit".to_owned()),
            since: self.now,
            until,
            archived: false,
            ended_at: None,
        });
    }

    /// Resumes the whole workflow.
    pub(crate) fn resume_workflow(&mut self) {
        if let Some(pause) = self.pauses.iter_mut().find(|p| p.applies_at(self.now)) {
            pause.ended_at = Some(self.now);
        }
    }

    /// Advances the time and fires each timer when it is due.
    pub(crate) fn pass(&mut self, time: TimeDelta) -> Vec<String> {
        let end = self.now + time;
        let mut fired = Vec::new();
        while let Some(row) = self.next_due(end) {
            self.now = self.now.max(row.due_at);
            // As in every store: no timer is claimed while the workflow is paused.
            if let Some(pause) = self.pauses.iter().find(|p| p.applies_at(self.now)) {
                match pause.until.filter(|until| *until <= end) {
                    Some(until) => self.now = until,
                    None => break,
                }
            }
            let due = self.perform(row);
            fired.push(self.run(Command::FireTimer(due)));
        }
        self.now = end;
        fired
    }

    /// Performs the effect of a row before the row is decided.
    pub(crate) fn perform(&mut self, row: Timer) -> FireTimer {
        let state = self.state.as_ref().expect("the task has been started");
        let Some(Effect::Call(call)) = effect_of(state, &self.workflow, &row) else {
            return FireTimer::alone(row);
        };
        self.calls.push(call);
        let answer = self.answers.pop_front();
        let outcome = answer.unwrap_or(EffectOutcome::Done {
            output: json!("answer"),
        });
        FireTimer {
            row,
            outcome: Some(outcome),
        }
    }

    /// All timers of the state.
    pub(crate) fn due(&self) -> Vec<Timer> {
        self.state.as_ref().map(derive_timers).unwrap_or_default()
    }

    fn next_due(&self, end: DateTime<Utc>) -> Option<Timer> {
        let rows = self.due();
        rows.into_iter()
            .filter(|row| row.due_at <= end && !row.kind.is_between_tasks())
            .min_by_key(|row| row.due_at)
    }

    pub(crate) fn start(&mut self, input: Value) -> String {
        let workflow = WorkflowSelector::Latest(self.workflow.config().id.clone());
        self.run(Command::Start(Start {
            task_id: TASK,
            workflow,
            input: (!input.is_null()).then_some(input),
            labels: None,
            expected: None,
        }))
    }

    pub(crate) fn submit(&mut self, step: &str, who: u128, data: Value) -> String {
        self.submit_with(step, who, data, |_| {})
    }

    pub(crate) fn submit_with(
        &mut self,
        step: &str,
        who: u128,
        data: Value,
        change: impl FnOnce(&mut Submission),
    ) -> String {
        let mut submission = Submission {
            task_id: TASK,
            step_id: (!step.is_empty()).then(|| step.to_owned()),
            annotation: AnnotationInput {
                annotation_id: None,
                user_id: user(who),
                data,
                decision: None,
                submitted_at: None,
                roles: None,
                confidence: None,
            },
            workflow: None,
        };
        change(&mut submission);
        self.run(Command::Submission(submission))
    }

    pub(crate) fn label(&mut self, step: &str, who: u128, label: &str) -> String {
        self.submit(step, who, json!({"label": label}))
    }

    pub(crate) fn review(&mut self, step: &str, who: u128, decision: &str) -> String {
        self.submit_with(step, who, json!({}), |s| {
            s.annotation.decision = Some(decision.to_owned());
        })
    }

    pub(crate) fn advance(&mut self, step: &str, output: Option<Value>) -> String {
        let step_id = (!step.is_empty()).then(|| step.to_owned());
        self.run(Command::Advance(Advance {
            task_id: TASK,
            step_id,
            output,
        }))
    }

    pub(crate) fn assign(&mut self, step: &str, who: u128) -> String {
        self.run(Command::Assign(Assign {
            task_id: TASK,
            step_id: Some(step.to_owned()),
            user_id: user(who),
            roles: None,
            offered: None,
        }))
    }

    pub(crate) fn release(&mut self, step: &str, who: u128) -> String {
        self.run(Command::Release(Release {
            task_id: TASK,
            step_id: Some(step.to_owned()),
            user_id: user(who),
            reason: None,
        }))
    }

    pub(crate) fn activity(&mut self, step: &str, who: u128) -> String {
        self.run(Command::Activity(Activity {
            task_id: TASK,
            step_id: Some(step.to_owned()),
            user_id: user(who),
            draft: Some(json!({"half": "done"})),
        }))
    }

    pub(crate) fn pause(&mut self, until: Option<DateTime<Utc>>) -> String {
        self.run(Command::Pause(Pause {
            task_id: TASK,
            step_id: None,
            reason: None,
            until,
        }))
    }

    pub(crate) fn pause_step(&mut self, step: &str, until: Option<DateTime<Utc>>) -> String {
        self.run(Command::Pause(Pause {
            task_id: TASK,
            step_id: Some(step.to_owned()),
            reason: None,
            until,
        }))
    }

    pub(crate) fn resume_step(&mut self, step: &str) -> String {
        self.run(Command::Resume(Control {
            task_id: TASK,
            step_id: Some(step.to_owned()),
            reason: None,
        }))
    }

    pub(crate) fn control(&mut self, command: fn(Control) -> Command) -> String {
        self.run(command(Control {
            task_id: TASK,
            step_id: None,
            reason: None,
        }))
    }

    /// The output of a completed task.
    pub(crate) fn output(&self) -> &Value {
        self.state
            .as_ref()
            .and_then(|s| s.output.as_ref())
            .expect("the task has completed")
    }
}
