//! A decision in progress: the state so far and the events so far.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};

use super::{DecideContext, Decision, decision::Refusal};
use crate::{
    answer::Question,
    command::{Authority, CommandEnvelope, Outcome, ProcessResult},
    config::{Sampling, StepConfig, WorkflowConfig},
    events::{EVENT_SCHEMA_VERSION, EventMetadata, StoredEvent, WorkflowEvent, evolve},
    executor::{ExecutionContext, HandlerRegistry, annotators::Annotators, asked, create_executor},
    ids::{LogId, Slug, StepId, TaskId},
    state::{Archived, Draft, TaskStatus, Visit, WorkflowPause, WorkflowSnapshot},
    transition::CompiledWorkflow,
};

pub(super) struct DecisionBuilder<'a> {
    task_id: TaskId,
    metadata: EventMetadata,
    /// What the sender of the command may decide.
    pub(super) authority: Authority,
    state: Option<WorkflowSnapshot>,
    events: Vec<StoredEvent>,
    workflow: Option<&'a CompiledWorkflow>,
    pub(super) named: Option<&'a CompiledWorkflow>,
    pub(super) handlers: &'a HandlerRegistry,
    pub(super) annotators: Annotators<'a>,
    pub(super) sampling: Sampling,
    pub(super) now: DateTime<Utc>,
    log: LogId,
    pauses: &'a [WorkflowPause],
    pub(super) draft: Option<Draft>,
    /// Transitions taken by this command; bounded by the transition budget.
    pub(super) transitions: usize,
    /// The step that the command concerned, for the result.
    pub(super) subject: Option<StepId>,
    /// Whether this is a `retry`, which repeats what has failed for good.
    pub(super) retries: bool,
}

impl<'a> DecisionBuilder<'a> {
    pub(super) fn new(
        state: Option<WorkflowSnapshot>,
        envelope: &CommandEnvelope,
        context: &DecideContext<'a>,
    ) -> Self {
        Self {
            task_id: envelope.command.task_id(),
            metadata: EventMetadata {
                command_id: envelope.command_id,
                correlation_id: envelope
                    .correlation_id
                    .clone()
                    .unwrap_or_else(|| envelope.command_id.to_string()),
                traceparent: envelope.traceparent.clone(),
                actor: envelope.sender.name.clone(),
                schema_version: EVENT_SCHEMA_VERSION,
                gold: false,
            },
            authority: envelope.sender.authority.clone(),
            state,
            events: Vec::new(),
            workflow: context.workflow,
            named: context.named,
            handlers: context.handlers,
            annotators: context.annotators,
            sampling: context.sampling,
            now: context.now,
            log: context.log,
            pauses: context.pauses,
            draft: None,
            transitions: 0,
            subject: None,
            retries: false,
        }
    }

    pub(super) fn task_id(&self) -> TaskId {
        self.task_id
    }

    pub(super) fn correlation_id(&self) -> &str {
        &self.metadata.correlation_id
    }

    pub(super) fn command_id(&self) -> crate::ids::CommandId {
        self.metadata.command_id
    }

    pub(super) fn is_started(&self) -> bool {
        self.state.is_some()
    }

    /// When the task was archived, if it was.
    pub(super) fn archived(&self) -> Option<Archived> {
        self.state.as_ref().and_then(|state| state.archived)
    }

    /// The state; refused if the task has not been started.
    pub(super) fn state(&self) -> Result<&WorkflowSnapshot, Refusal> {
        self.state.as_ref().ok_or(Refusal::TaskNotFound)
    }

    /// The revision that the task runs on.
    pub(super) fn workflow(&self) -> &'a CompiledWorkflow {
        self.workflow
            .expect("INV-07: a started task is decided with its own revision")
    }

    pub(super) fn config(&self) -> &'a WorkflowConfig {
        self.workflow().config()
    }

    /// Binds the task to a revision, before its first event.
    pub(super) fn bind(&mut self, workflow: &'a CompiledWorkflow) {
        self.workflow = Some(workflow);
    }

    /// The state after the events so far.
    pub(super) fn current(&self) -> &WorkflowSnapshot {
        self.state
            .as_ref()
            .expect("INV-08: only a started task goes on")
    }

    /// A step of the workflow, whose id comes from the state.
    pub(super) fn step(&self, id: &str) -> &'a StepConfig {
        self.config()
            .step(id)
            .expect("INV-09: a state names steps of its revision only")
    }

    /// The last visit of a step, which the state is known to have.
    pub(super) fn visit(&self, id: &str) -> &Visit {
        self.current()
            .current_visit(id)
            .expect("INV-10: the step has been visited")
    }

    /// The pause of the whole workflow that is in force now.
    pub(super) fn workflow_pause(&self) -> Option<&'a WorkflowPause> {
        self.pauses_of_workflow()
            .find(|pause| pause.applies_at(self.now))
    }

    fn pauses_of_workflow(&self) -> impl Iterator<Item = &'a WorkflowPause> {
        let workflow = self.workflow.map(|workflow| &workflow.config().id);
        self.pauses
            .iter()
            .filter(move |pause| Some(&pause.workflow) == workflow)
    }

    /// Extends the task's timers by the time that its workflow was paused since the task's last
    /// event.
    ///
    /// Pausing or resuming a workflow writes nothing to its tasks, however many there are. Their
    /// timers stay unchanged meanwhile, and the next decision on a task (also for a timer) begins
    /// here. Because every decision does, no pause is counted twice or missed: the time before the
    /// last event was given back with that event. A task that is paused itself gets all of its
    /// pause back when it resumes.
    pub(super) fn give_back_paused_time(&mut self) {
        let Some(state) = &self.state else { return };
        if state.status != TaskStatus::Running || !state.has_timers() {
            return;
        }
        let since = state.updated_at;
        let paused: TimeDelta = self
            .pauses_of_workflow()
            .map(|pause| pause.covers(since, self.now))
            .sum();
        let micros = paused.num_microseconds().unwrap_or_default();
        if let Some(paused_micros) = u64::try_from(micros).ok().filter(|micros| *micros > 0) {
            self.emit(WorkflowEvent::TimersRearmed { paused_micros });
        }
    }

    /// Records an event and applies it to the state.
    pub(super) fn emit(&mut self, event: WorkflowEvent) {
        let version = self.state.as_ref().map_or(0, |state| state.version) + 1;
        let known_before = self
            .state
            .as_ref()
            .is_some_and(|state| state.expected.is_some());
        let event = StoredEvent {
            event_id: self.log.event_id(self.task_id, version),
            task_id: self.task_id,
            version,
            occurred_at: self.now,
            metadata: EventMetadata {
                gold: known_before || event.expected().is_some(),
                ..self.metadata.clone()
            },
            event,
        };
        evolve(&mut self.state, &event).expect("INV-06: decide emits only what evolve allows");
        self.events.push(event);
    }

    /// Runs the step's executor on its visit.
    pub(super) fn execute(
        &self,
        step: &StepConfig,
        closing: Option<crate::executor::Closing<'_>>,
    ) -> Result<crate::executor::ExecutionResult, crate::executor::ExecutorError> {
        create_executor(step.kind).execute(&self.context(step, closing))
    }

    /// What a visit asks for.
    pub(super) fn asked(&self, step: &StepConfig, visit: &Visit) -> Cow<'a, Question> {
        asked(self.workflow().questions(), step, visit)
    }

    /// Everything that a step's executor may read.
    pub(super) fn context<'c>(
        &'c self,
        step: &'c StepConfig,
        closing: Option<crate::executor::Closing<'c>>,
    ) -> ExecutionContext<'c> {
        let expression = step
            .condition
            .as_ref()
            .and_then(|c| self.workflow().expression(&c.expression));
        ExecutionContext {
            workflow: self.config(),
            questions: self.workflow().questions(),
            step,
            state: self.current(),
            visit: self.visit(&step.id),
            handlers: self.handlers,
            annotators: self.annotators,
            expression,
            closing,
        }
    }

    pub(super) fn finish(self) -> Decision {
        let result = self.result();
        Decision {
            outcome: Outcome::Applied(result),
            events: self.events,
            state: self.state,
            draft: self.draft,
        }
    }

    /// The result for the caller: how the task ended, where it went, or what it waits for.
    fn result(&self) -> ProcessResult {
        let state = self.current();
        match state.ended() {
            TaskStatus::Completed => ProcessResult::Completed {
                output: state.output.clone().unwrap_or_default(),
            },
            TaskStatus::Failed | TaskStatus::Archived => ProcessResult::Failed {
                error: state.error.clone().unwrap_or_default(),
            },
            TaskStatus::Cancelled => ProcessResult::Failed {
                error: match &state.error {
                    Some(reason) => format!("cancelled: {reason}"),
                    None => "cancelled".to_owned(),
                },
            },
            TaskStatus::Running | TaskStatus::Paused => self.unfinished(state),
        }
    }

    fn unfinished(&self, state: &WorkflowSnapshot) -> ProcessResult {
        let steps = state.current_steps();
        let moved = self
            .events
            .iter()
            .any(|e| matches!(e.event, WorkflowEvent::TransitionOccurred(_)));
        let step_id = self
            .subject
            .clone()
            .filter(|step| steps.contains(step))
            .or_else(|| steps.first().cloned())
            .unwrap_or_else(|| self.config().entry_step.clone());
        if let Some(incident) = state.incident_of(&step_id) {
            let reason = format!("incident {}: {}", incident.code, incident.reason);
            return ProcessResult::Waiting { step_id, reason };
        }
        if moved && let Some(next_step) = steps.first().cloned() {
            return ProcessResult::Advanced {
                next_step,
                next_steps: steps,
            };
        }
        ProcessResult::Waiting {
            reason: self.waiting_reason(state, &step_id),
            step_id,
        }
    }

    fn waiting_reason(&self, state: &WorkflowSnapshot, step_id: &Slug) -> String {
        if let Some(pause) = &state.pause {
            return match &pause.reason {
                Some(reason) => format!("paused: {reason}"),
                None => "paused".to_owned(),
            };
        }
        let visit = state.current_visit(step_id);
        if let Some(pause) = visit.and_then(|visit| visit.pause.as_ref()) {
            return match &pause.reason {
                Some(reason) => format!("the step is paused: {reason}"),
                None => "the step is paused".to_owned(),
            };
        }
        if let Some(pause) = self.workflow_pause() {
            let word = pause.word();
            return match &pause.reason {
                Some(reason) => format!("the workflow is {word}: {reason}"),
                None => format!("the workflow is {word}"),
            };
        }
        if let Some(hook) = visit.and_then(Visit::current_hook) {
            return format!("the hook `{hook}`");
        }
        match self.execute(self.step(step_id), None) {
            Ok(crate::executor::ExecutionResult::Waiting { reason }) => reason,
            _ => "waiting".to_owned(),
        }
    }
}
