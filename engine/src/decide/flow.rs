//! How a task advances: steps end, transitions fire, steps begin.

use std::collections::VecDeque;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{builder::DecisionBuilder, child::given_context};
use crate::{
    command::failed_by_transition,
    config::{DisagreementStrategy, Fallback, HookStage, StepConfig, Target},
    events::{
        ConsensusCalculated, ConsensusMethod, StepActivated, TransitionOccurred, WorkflowEvent,
    },
    executor::{Closing, ExecutionResult, ExecutorError, error_chain, task_output},
    ids::StepId,
    limits::TRANSITIONS_PER_COMMAND_MAX,
    state::{FoundResult, Incident, IncidentCode, PendingJoin, StepState, VisitStatus},
    transition::{Choice, TransitionEvaluator},
};

/// How a step is entered.
#[derive(Default)]
struct Way {
    /// The step whose transition leads there.
    from: Option<StepId>,
    /// Whether a bounded transition leads there.
    looped: bool,
    /// Other joins whose waiting branches are no longer needed.
    discards: Vec<StepId>,
}

/// A step to enter.
struct Entry {
    step_id: StepId,
    looped: bool,
}

impl DecisionBuilder<'_> {
    /// Ends an active step if it is complete, then follows its transitions through every step that
    /// needs no one, until the task waits or ends.
    pub(super) fn go_on(&mut self, step: &StepConfig, closing: Option<Closing<'_>>) {
        if self.finish_step(step, closing) {
            self.leave(step.id.clone());
        }
    }

    /// Follows the transitions out of a step that has ended. A loop, not a recursion, so that the
    /// transition budget bounds how far a command can drive a task, not the stack.
    pub(super) fn leave(&mut self, step_id: StepId) {
        let mut ended = VecDeque::from([step_id]);
        loop {
            while let Some(step_id) = ended.pop_front() {
                for Entry {
                    step_id: next,
                    looped,
                } in self.follow(&step_id)
                {
                    let way = Way {
                        from: Some(step_id.clone()),
                        looped,
                        discards: Vec::new(),
                    };
                    ended.extend(self.begin(next, way));
                }
                if self.current().status.is_final() {
                    return;
                }
            }
            // Only now, with every branch advanced as far as possible, is it known which joins have
            // everything that can still arrive.
            match self.ready_join() {
                Some(join) => ended.extend(self.begin_join(join)),
                None => break,
            }
        }
        self.complete_if_over();
    }

    /// Begins a step, and follows its transitions if it ends at once.
    pub(super) fn enter(&mut self, step_id: StepId, from: Option<StepId>) {
        let way = Way {
            from,
            ..Way::default()
        };
        if let Some(ended) = self.begin(step_id, way) {
            self.leave(ended);
        }
    }

    /// Begins a visit. Returns the step if the visit has ended at once.
    fn begin(&mut self, step_id: StepId, way: Way) -> Option<StepId> {
        let step = self.step(&step_id);
        let visits = self
            .current()
            .steps
            .get(&step_id)
            .map_or(0, |state| state.visits.len());
        let visit = u32::try_from(visits + 1).unwrap_or(u32::MAX);
        let arrived = self.arriving(&step_id, way.from.as_ref(), way.looped);
        let reviewed = arrived.last().and_then(|last| self.reviewed_through(last));
        let reviewed_with = self.reviewed_beside(&arrived, reviewed.as_ref());
        let subject = self.subject_of(step, &arrived);
        let opening = !step.hooks_at(HookStage::PreProcess).is_empty();
        self.emit(WorkflowEvent::StepActivated(StepActivated {
            step_id: step_id.clone(),
            visit,
            from_step: way.from,
            reviewed,
            reviewed_with,
            subject,
            arrived,
            looped: way.looped,
            not_who_did: step.not_who_did().to_vec(),
            slots: step
                .kind
                .takes_submissions()
                .then(|| step.slots())
                .flatten(),
            discards: way.discards,
            opening,
        }));
        if !opening {
            self.notify(step, HookStage::OnStart);
        }
        let waits = step.kind.takes_submissions() && !opening;
        (!waits && self.finish_step(step, None)).then_some(step_id)
    }

    /// Begins the step of a join with the branches that have arrived, and advances the task from
    /// there.
    pub(super) fn expire_join(&mut self, join: StepId) {
        match self.begin_join(join) {
            Some(ended) => self.leave(ended),
            None => self.complete_if_over(),
        }
    }

    /// A join that is complete: enough branches have arrived, or all that still can.
    fn ready_join(&self) -> Option<StepId> {
        let state = self.current();
        let ready = |(join, pending): (&StepId, &PendingJoin)| {
            let needed = self
                .workflow()
                .join(self.step(join))
                .and_then(|join| join.needed);
            let enough =
                needed.is_some_and(|n| u32::try_from(pending.arrived.len()).is_ok_and(|a| a >= n));
            // If another branch is still at the step, the join begins after that visit has ended.
            ((enough || !self.awaited(join)) && !self.busy(join)).then(|| join.clone())
        };
        state.joins.iter().find_map(ready)
    }

    /// Whether a branch can still arrive at a join: from an active step, a step with an incident,
    /// or another join that has not begun.
    fn awaited(&self, join: &StepId) -> bool {
        let state = self.current();
        let steps = state.current_steps();
        steps
            .iter()
            .chain(state.joins.keys())
            .any(|from| self.workflow().leads(from, join))
    }

    /// The paused steps that a join which begins to wait now waits for, sorted by id.
    fn paused_before(&self, join: &StepId) -> Vec<StepId> {
        let state = self.current();
        if state.joins.contains_key(join) {
            return Vec::new();
        }
        let leads = |step: &&StepId| self.workflow().leads(step, join);
        state.paused_steps().filter(leads).cloned().collect()
    }

    /// Begins the step of a join, and withdraws branches that could still have arrived.
    fn begin_join(&mut self, join: StepId) -> Option<StepId> {
        if self.busy(&join) {
            return None;
        }
        let (state, workflow) = (self.current(), self.workflow());
        let late = |from: &&StepId| workflow.leads(from, &join);
        let losers: Vec<StepId> = state.current_steps().iter().filter(late).cloned().collect();
        let discards = state.joins.keys().filter(late).cloned().collect();
        let arrived = state
            .joins
            .get(&join)
            .map(|pending| pending.arrived.clone());
        for loser in losers {
            self.resolve_incidents(Some(&loser), "withdrawn");
            self.withdraw(
                &loser,
                &format!("the join at step `{join}` went on without it"),
            );
        }
        let from = arrived.and_then(|arrived| arrived.last().map(|last| last.step_id.clone()));
        let way = Way {
            from,
            looped: false,
            discards,
        };
        self.begin(join, way)
    }

    /// Whether another branch is active at the step.
    fn busy(&self, step_id: &StepId) -> bool {
        self.current()
            .steps
            .get(step_id)
            .is_some_and(StepState::is_active)
    }

    /// Completes the task if no branch has anything left to do.
    fn complete_if_over(&mut self) {
        let state = self.current();
        let over = state.current_steps().is_empty() && state.joins.is_empty();
        if over && !state.status.is_final() {
            let output = task_output(state);
            self.emit(WorkflowEvent::WorkflowCompleted { output });
        }
    }

    /// Begins the joins that are complete, for example after a migration that changed their
    /// numbers.
    pub(super) fn begin_ready_joins(&mut self) {
        while !self.current().status.is_final()
            && let Some(join) = self.ready_join()
        {
            self.expire_join(join);
        }
    }

    /// Advances the step's visit as far as possible: through its hooks, and to its end if its
    /// executor says so. Returns whether it has ended.
    fn finish_step(&mut self, step: &StepConfig, closing: Option<Closing<'_>>) -> bool {
        if !self.open(step) {
            return false;
        }
        if self.visit(&step.id).found.is_some() {
            return self.refine(step);
        }
        let visit = self.visit(&step.id).number;
        let ready = match closing {
            None => self.require_child(step),
            Some(_) => Ok(()),
        };
        match ready.and_then(|()| self.execute(step, closing)) {
            Ok(ExecutionResult::Waiting { .. }) => false,
            Ok(ExecutionResult::NeedsCall { handler }) => {
                self.request_first(step, handler, None);
                false
            }
            Ok(ExecutionResult::NeedsMore { slots, consensus }) => {
                self.emit(WorkflowEvent::ConsensusCalculated(*consensus));
                let step_id = step.id.clone();
                self.emit(WorkflowEvent::SlotsAdded {
                    step_id,
                    visit,
                    slots,
                });
                false
            }
            Ok(ExecutionResult::Completed {
                mut result,
                mut consensus,
            }) => {
                // JSON does not distinguish null from an absent value, so decide as a replay will.
                if result.value.as_ref().is_some_and(Value::is_null) {
                    (result.value, result.resolved_by) = (None, None);
                }
                if let Some(consensus) = &mut consensus
                    && consensus.value.as_ref().is_some_and(Value::is_null)
                {
                    (consensus.value, consensus.resolved_by) = (None, None);
                }
                let escalation = consensus.as_ref().and_then(|c| escalation(step, c));
                if let Some(consensus) = consensus {
                    self.emit(WorkflowEvent::ConsensusCalculated(*consensus));
                }
                let context = match closing {
                    Some(Closing::Advance(Some(output))) => given_context(step, output),
                    _ => Map::new(),
                };
                let found = FoundResult {
                    result,
                    escalation,
                    context,
                };
                self.conclude(step, found)
            }
            Err(error) => {
                let reason = error_chain(&error);
                let code = match &error {
                    ExecutorError::Expression { .. } => IncidentCode::ExpressionFailed,
                    ExecutorError::Child { .. }
                    | ExecutorError::ChildDepth { .. }
                    | ExecutorError::ChildInput { .. } => IncidentCode::ChildFailed,
                    ExecutorError::UnknownHandler { .. }
                    | ExecutorError::Handler { .. }
                    | ExecutorError::MissingKey { .. } => IncidentCode::HandlerFailed,
                };
                self.step_failed(step, code, reason)
            }
        }
    }

    /// Takes the transitions out of a step that has ended. Returns the steps to enter.
    fn follow(&mut self, step_id: &StepId) -> Vec<Entry> {
        let step = self.step(step_id);
        let visit = self.visit(step_id);
        let evaluator = TransitionEvaluator::new(self.workflow());
        match evaluator.choose(self.current(), step, visit) {
            Ok(choices) => {
                let from_visit = visit.number;
                let mut entered: Vec<Entry> = Vec::new();
                for choice in choices {
                    // Two transitions to the same step begin one visit.
                    let next = self.take(step_id, from_visit, choice);
                    let known = |next: &Entry| entered.iter().any(|e| e.step_id == next.step_id);
                    let next = next.filter(|next| !known(next));
                    entered.extend(next);
                    if self.current().status.is_final() {
                        return Vec::new();
                    }
                }
                entered
            }
            Err(error) => {
                self.open_incident(step_id, IncidentCode::ExpressionFailed, error_chain(&error));
                Vec::new()
            }
        }
    }

    /// Takes one transition. Returns the step to enter, unless the branch ends or waits at a join.
    fn take(&mut self, step_id: &StepId, from_visit: u32, choice: Choice) -> Option<Entry> {
        let (to, condition_met, transition, looped) = match choice {
            Choice::Go { .. } if self.transitions >= TRANSITIONS_PER_COMMAND_MAX => {
                let reason = format!("one command led to {} transitions", self.transitions);
                self.open_incident(step_id, IncidentCode::TransitionBudget, reason);
                return None;
            }
            Choice::Go {
                to,
                condition_met,
                transition,
                looped,
            } => (to, condition_met, transition, looped),
            Choice::End => {
                self.resolve_escalation(step_id);
                return None;
            }
            Choice::Stuck => {
                let reason = format!("step `{step_id}` has ended and no transition matches");
                self.open_incident(step_id, IncidentCode::NoTransition, reason);
                return None;
            }
            Choice::Exhausted {
                transition,
                max_iterations,
            } => {
                let reason = format!(
                    "transition {transition} has fired {max_iterations} times, its bound, and has \
                     no `on_exhausted`"
                );
                self.open_incident(step_id, IncidentCode::LoopExhausted, reason);
                return None;
            }
        };
        // A bounded transition loops back: it opens a new visit at once and waits at no join.
        let joins = to.step().filter(|_| !looped).map(|to| self.step(to));
        let join = joins.filter(|to| self.workflow().join(to).is_some());
        if let (None, Some(target)) = (join, to.step())
            && self.busy(target)
        {
            let reason = format!("step `{target}` is still active in another branch");
            self.open_incident(step_id, IncidentCode::StepBusy, reason);
            return None;
        }
        self.transitions += 1;
        self.resolve_escalation(step_id);
        self.emit(WorkflowEvent::TransitionOccurred(TransitionOccurred {
            from_step: step_id.clone(),
            from_visit,
            to_step: to.clone(),
            condition_met,
            transition,
            looped,
            waits: join.is_some(),
            join_expires_at: join
                .and_then(|to| to.join_timeout)
                .map(|t| self.now + t.get()),
            held_by: join.map_or_else(Vec::new, |to| self.paused_before(&to.id)),
        }));
        match to {
            Target::Step(step_id) if join.is_none() => Some(Entry { step_id, looped }),
            // The branch ends; the task ends with it if no other branch has anything left to do.
            Target::Step(_) | Target::Complete => None,
            Target::Failed => {
                self.fail(failed_by_transition(step_id));
                None
            }
        }
    }

    /// Fails the task, and withdraws the visits that are still active.
    pub(super) fn fail(&mut self, error: String) {
        self.withdraw_active("the task has failed");
        self.emit(WorkflowEvent::WorkflowFailed { error });
    }

    /// Cancels the task, and withdraws the visits that are still active.
    pub(super) fn cancel(&mut self, reason: Option<String>) {
        self.resolve_incidents(None, "cancel");
        self.withdraw_active("the task was cancelled");
        self.emit(WorkflowEvent::WorkflowCancelled { reason });
    }

    /// Opens an incident, which stops the step until `retry` or another verb resolves it.
    pub(super) fn open_incident(&mut self, step_id: &StepId, code: IncidentCode, reason: String) {
        self.incident(step_id, code, reason, false);
    }

    /// Opens an incident because the workflow asks for operators to be notified.
    pub(super) fn escalate(&mut self, step_id: &StepId, code: IncidentCode, reason: String) {
        self.incident(step_id, code, reason, true);
    }

    fn incident(&mut self, step_id: &StepId, code: IncidentCode, reason: String, escalated: bool) {
        let n = self.current().incidents_opened + 1;
        let visit = self.visit(step_id).number;
        self.emit(WorkflowEvent::IncidentOpened {
            incident_id: Uuid::new_v5(&self.task_id().0, format!("incident/{n}").as_bytes()),
            step_id: step_id.clone(),
            visit,
            code,
            reason,
            escalated,
        });
    }

    /// Resolves the incidents of one step, or of all steps.
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

    /// Resolves the incidents that only notified operators (annotators disagree, or a person was
    /// inactive) when the task leaves the step.
    fn resolve_escalation(&mut self, step_id: &StepId) {
        let notified = |incident: &&Incident| {
            let code = incident.code;
            incident.step_id == *step_id
                && matches!(
                    code,
                    IncidentCode::Disagreement | IncidentCode::InactivityTimeout
                )
        };
        while let Some(incident) = self.current().incidents.iter().find(notified).cloned() {
            self.emit(WorkflowEvent::IncidentResolved {
                incident_id: incident.incident_id,
                step_id: incident.step_id,
                visit: incident.visit,
                resolution: "transition".to_owned(),
            });
        }
    }

    /// Withdraws every active visit.
    pub(super) fn withdraw_active(&mut self, reason: &str) {
        let active: Vec<StepId> = self.current().active_steps().cloned().collect();
        for step_id in active {
            self.withdraw(&step_id, reason);
        }
    }

    /// Withdraws a step's visit, if it is active.
    fn withdraw(&mut self, step_id: &StepId, reason: &str) {
        let visit = self.visit(step_id);
        if visit.status == VisitStatus::Active {
            let visit = visit.number;
            let (step_id, reason) = (step_id.clone(), reason.to_owned());
            self.emit(WorkflowEvent::StepWithdrawn {
                step_id,
                visit,
                reason,
            });
        }
    }
}

/// Why operators are notified that annotators disagree: the step's strategy is `escalate`, or its
/// fallback when no more people may be asked.
fn escalation(step: &StepConfig, calculated: &ConsensusCalculated) -> Option<String> {
    let fallback = || step.consensus.as_ref()?.on_disagreement.fallback;
    let asked = match calculated.method {
        ConsensusMethod::Disagreement(DisagreementStrategy::Escalate) => true,
        ConsensusMethod::Disagreement(DisagreementStrategy::AdditionalAnnotators) => {
            fallback() == Some(Fallback::Escalate)
        }
        ConsensusMethod::Agreement(_)
        | ConsensusMethod::Disagreement(_)
        | ConsensusMethod::Posterior(_) => false,
    };
    let without = !calculated.agreed && calculated.value.is_none();
    (asked && without).then(|| {
        let threshold = calculated.threshold;
        match calculated.agreement {
            Some(agreement) => format!(
                "annotators disagree: agreement is {agreement:.3}, below the threshold {threshold}"
            ),
            None => "annotators disagree".to_owned(),
        }
    })
}
