//! How a task goes on: steps end, transitions fire, steps begin.

use uuid::Uuid;

use super::work::Work;
use crate::{
    config::{StepConfig, StepType, Target},
    engine::{error_chain, outcome::failed_by_transition},
    events::{StepActivated, TransitionOccurred, WorkflowEvent},
    executor::{Closing, ExecutionResult, task_output},
    ids::StepId,
    limits::TRANSITIONS_PER_COMMAND_MAX,
    state::{Incident, IncidentCode, StepVisit, VisitStatus},
    transition::{Choice, TransitionEvaluator},
};

impl Work<'_> {
    /// Asks an active step whether it is over; if so, ends it and follows the way out, through
    /// every step that needs nobody, until the task waits or ends.
    pub(super) fn go_on(&mut self, step: &StepConfig, closing: Option<Closing<'_>>) {
        if self.finish_step(step, closing) {
            self.leave(step.id.clone());
        }
    }

    /// Follows the way out of a step that has ended. A loop, not a recursion: how far a command
    /// can drive a task is bounded by the transition budget, not by the stack.
    pub(super) fn leave(&mut self, step_id: StepId) {
        let mut left = Some(step_id);
        while let Some(step_id) = left.take() {
            if let Some(entered) = self.follow(&step_id) {
                left = self.begin(entered, Some(step_id));
            }
        }
    }

    /// Begins a step; follows on where it needs nobody.
    pub(super) fn enter(&mut self, step_id: StepId, from: Option<StepId>) {
        if let Some(ended) = self.begin(step_id, from) {
            self.leave(ended);
        }
    }

    /// Begins a visit. Answers the step where it has ended at once.
    fn begin(&mut self, step_id: StepId, from: Option<StepId>) -> Option<StepId> {
        let step = self.step(&step_id);
        let visits = self.current().steps.get(&step_id).map_or(0, |state| state.visits.len());
        let visit = u32::try_from(visits + 1).unwrap_or(u32::MAX);
        let judges = from.as_ref().and_then(|from| self.judged_through(from));
        self.emit(WorkflowEvent::StepActivated(StepActivated {
            step_id: step_id.clone(),
            visit,
            from_step: from,
            judges,
            places: step.kind.takes_submissions().then(|| step.places()).flatten(),
        }));
        let waits = step.kind.takes_submissions();
        (!waits && self.finish_step(step, None)).then_some(step_id)
    }

    /// What a review or adjudication entered from `from` judges: that step, or what that step
    /// judges itself where it made no annotations of its own.
    fn judged_through(&self, from: &StepId) -> Option<StepVisit> {
        let visit = self.current().current_visit(from)?;
        match self.step(from).kind {
            StepType::Annotation | StepType::SubWorkflow => {
                Some(StepVisit { step_id: from.clone(), visit: visit.number })
            }
            StepType::Review
            | StepType::Adjudication
            | StepType::AutoProcess
            | StepType::Conditional => visit.judges.clone(),
        }
    }

    /// Ends the step's visit if its executor says so. Answers whether it has ended.
    fn finish_step(&mut self, step: &StepConfig, closing: Option<Closing<'_>>) -> bool {
        let visit = self.visit(&step.id).number;
        match self.execute(step, closing) {
            Ok(ExecutionResult::Waiting { .. }) => false,
            Ok(ExecutionResult::Completed { result, consensus }) => {
                if let Some(consensus) = consensus {
                    self.emit(WorkflowEvent::ConsensusCalculated(*consensus));
                }
                let step_id = step.id.clone();
                self.emit(WorkflowEvent::StepCompleted { step_id, visit, result });
                true
            }
            Err(error) => {
                let code = match &error {
                    crate::executor::ExecutorError::Expression { .. } => {
                        IncidentCode::ExpressionFailed
                    }
                    _ => IncidentCode::HandlerFailed,
                };
                self.open_incident(&step.id, code, error_chain(&error));
                false
            }
        }
    }

    /// Takes the way out of a step that has ended. Answers the step to enter.
    fn follow(&mut self, step_id: &StepId) -> Option<StepId> {
        let step = self.step(step_id);
        let visit = self.visit(step_id);
        let choice = TransitionEvaluator::new(self.workflow()).choose(self.current(), step, visit);
        let from_visit = visit.number;
        match choice {
            Ok(Choice::End) => {
                self.complete();
                None
            }
            Ok(Choice::Go { .. }) if self.transitions >= TRANSITIONS_PER_COMMAND_MAX => {
                let reason = format!("one command led to {} transitions", self.transitions);
                self.open_incident(step_id, IncidentCode::TransitionBudget, reason);
                None
            }
            Ok(Choice::Go { to, condition_met, transition, looped }) => {
                self.transitions += 1;
                self.emit(WorkflowEvent::TransitionOccurred(TransitionOccurred {
                    from_step: step_id.clone(),
                    from_visit,
                    to_step: to.clone(),
                    condition_met,
                    transition,
                    looped,
                }));
                match to {
                    Target::Step(next) => Some(next),
                    Target::Complete => {
                        self.complete();
                        None
                    }
                    Target::Failed => {
                        self.fail(failed_by_transition(step_id));
                        None
                    }
                }
            }
            Ok(Choice::Stuck) => {
                let reason = format!("step `{step_id}` has ended and no transition matches");
                self.open_incident(step_id, IncidentCode::NoTransition, reason);
                None
            }
            Ok(Choice::Exhausted { transition, max_iterations }) => {
                let reason = format!(
                    "transition {transition} has fired {max_iterations} times, its bound, and has \
                     no `on_exhausted`"
                );
                self.open_incident(step_id, IncidentCode::LoopExhausted, reason);
                None
            }
            Err(error) => {
                self.open_incident(step_id, IncidentCode::ExpressionFailed, error_chain(&error));
                None
            }
        }
    }

    fn complete(&mut self) {
        let output = task_output(self.current());
        self.emit(WorkflowEvent::WorkflowCompleted { output });
    }

    pub(super) fn fail(&mut self, error: String) {
        self.emit(WorkflowEvent::WorkflowFailed { error });
    }

    /// Opens an incident, which holds the step until `retry` or another verb resolves it.
    pub(super) fn open_incident(&mut self, step_id: &StepId, code: IncidentCode, reason: String) {
        let n = self.current().incidents_opened + 1;
        let visit = self.visit(step_id).number;
        self.emit(WorkflowEvent::IncidentOpened {
            incident_id: Uuid::new_v5(&self.task_id().0, format!("incident/{n}").as_bytes()),
            step_id: step_id.clone(),
            visit,
            code,
            reason,
        });
    }

    /// Resolves the incidents of one step, or all.
    pub(super) fn resolve_incidents(&mut self, step_id: Option<&StepId>, resolution: &str) {
        let open: Vec<Incident> = self
            .current()
            .incidents
            .iter()
            .filter(|incident| step_id.is_none_or(|step| incident.step_id == *step))
            .cloned()
            .collect();
        for incident in open {
            self.emit(WorkflowEvent::IncidentResolved {
                incident_id: incident.incident_id,
                step_id: incident.step_id,
                visit: incident.visit,
                resolution: resolution.to_owned(),
            });
        }
    }

    /// Withdraws every active visit.
    pub(super) fn withdraw_active(&mut self, reason: &str) {
        let active: Vec<(StepId, u32)> = self
            .current()
            .steps
            .iter()
            .filter_map(|(id, step)| Some((id, step.current()?)))
            .filter(|(_, visit)| visit.status == VisitStatus::Active)
            .map(|(id, visit)| (id.clone(), visit.number))
            .collect();
        for (step_id, visit) in active {
            self.emit(WorkflowEvent::StepWithdrawn { step_id, visit, reason: reason.to_owned() });
        }
    }
}
