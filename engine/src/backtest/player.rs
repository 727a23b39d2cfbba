//! Decides the commands of simulated tasks.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::{course::Course, report::Counts, report::Prices};
use crate::{
    command::{Command, CommandEnvelope, FireTimer, Outcome, Sender},
    config::WorkflowConfig,
    decide::{DecideContext, Decision, decide},
    events::LogPosition,
    executor::{
        HandlerRegistry,
        annotators::{AnnotatorModel, Annotators, ModelKey},
    },
    ids::{CommandId, LogId, WorkflowSelector},
    limits::SIMULATION_TIMERS_MAX,
    orchestrator::sampling,
    reliability::ReliabilityError,
    state::WorkflowSnapshot,
    store::{Timer, TimerKind},
    timers::{derive_timers, timer_command_id},
    transition::CompiledWorkflow,
};

/// Decides by the changed workflow, and lets the models of annotators learn from what comes of it.
pub(super) struct Player {
    pub(super) workflow: CompiledWorkflow,
    handlers: HandlerRegistry,
    models: HashMap<ModelKey, AnnotatorModel>,
    /// Events so far; the simulated log has no other position.
    position: i64,
    /// Tasks that have started so far.
    started: u32,
}

/// The simulated side of a task.
pub(super) struct Simulated<'t> {
    pub(super) state: &'t mut Option<Box<WorkflowSnapshot>>,
    pub(super) course: &'t mut Course,
    /// None if the task is not reported.
    pub(super) counts: Option<(&'t mut Counts, &'t Prices)>,
}

impl Player {
    pub(super) fn new(
        workflow: CompiledWorkflow,
        handlers: HandlerRegistry,
    ) -> Result<Self, ReliabilityError> {
        let keys = ModelKey::all_of(workflow.config()).into_iter();
        let models = keys.map(|key| Ok((key.clone(), AnnotatorModel::new(key)?)));
        Ok(Self {
            models: models.collect::<Result<_, _>>()?,
            workflow,
            handlers,
            position: 0,
            started: 0,
        })
    }

    pub(super) fn config(&self) -> &WorkflowConfig {
        self.workflow.config()
    }

    /// The selector of the changed workflow.
    pub(super) fn selector(&self) -> WorkflowSelector {
        WorkflowSelector::Revision(self.config().revision_id)
    }

    /// Whether decisions depend on what other tasks were labelled with.
    pub(super) fn has_models(&self) -> bool {
        !self.models.is_empty()
    }

    /// Decides a command as a live worker would that is fed one command after the other.
    pub(super) fn decide(
        &mut self,
        task: &mut Simulated<'_>,
        id: CommandId,
        command: Command,
        now: DateTime<Utc>,
    ) -> Outcome {
        let decision = self.preview(task.state.as_deref(), id, command, now);
        self.started += u32::from(task.state.is_none() && decision.state.is_some());
        for event in &decision.events {
            self.position += 1;
            let position = LogPosition {
                entry: self.position,
                position: 0,
            };
            for model in self.models.values_mut() {
                model.learn(position, event);
            }
            task.course.take(&event.event);
            if let Some((counts, prices)) = &mut task.counts {
                counts.take(&event.event, prices);
            }
        }
        if !decision.events.is_empty() {
            *task.state = decision.state.map(Box::new);
        }
        decision.outcome
    }

    /// Decides a command without any consequence.
    pub(super) fn preview(
        &self,
        state: Option<&WorkflowSnapshot>,
        id: CommandId,
        command: Command,
        now: DateTime<Utc>,
    ) -> Decision {
        let named = command.workflow().map(|_| &self.workflow);
        let envelope = CommandEnvelope {
            command_id: id,
            // No inbox: what is recorded was accepted once.
            content_hash: [0; 32],
            content_bytes: 0,
            correlation_id: None,
            traceparent: None,
            sender: Sender::default(),
            command,
        };
        let context = DecideContext {
            workflow: state.map(|_| &self.workflow),
            named,
            handlers: &self.handlers,
            annotators: Annotators::new(&self.models),
            sampling: sampling(
                envelope.command.task_id(),
                self.config(),
                Some(self.started),
            ),
            now,
            log: LogId::default(),
            pauses: &[],
        };
        decide(state, &envelope, &context)
    }

    /// Fires what runs out by `until`: visits that are closed with what they have, and joins.
    /// Claims are not simulated, and calls are answered by the recording.
    pub(super) fn fire_due(&mut self, task: &mut Simulated<'_>, until: DateTime<Utc>) {
        for _ in 0..SIMULATION_TIMERS_MAX {
            let state = task.state.as_deref().filter(|state| state.has_timers());
            let rows = state.map(derive_timers).unwrap_or_default().into_iter();
            let due = rows.filter(|row| {
                let kinds = [TimerKind::ProceedTimeout, TimerKind::JoinTimeout];
                kinds.contains(&row.kind) && row.due_at <= until
            });
            let Some(row) = due.min_by_key(|row| (row.due_at, row.id)) else {
                break;
            };
            self.fire(task, FireTimer::alone(row));
        }
    }

    /// Decides a timer at its time.
    pub(super) fn fire(&mut self, task: &mut Simulated<'_>, due: FireTimer) {
        let Timer { due_at, .. } = due.row;
        let id = timer_command_id(&due.row);
        self.decide(task, id, Command::FireTimer(due), due_at);
    }
}
