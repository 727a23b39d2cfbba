//! Sub-workflows: orders from a parent to its child tasks, and reports from child to parent.
//!
//! A parent never reads its child's stream, nor a child its parent's: each decides from its own
//! state, and timers carry commands between them (see [`ChildTask`]). Every hop is safe to repeat:
//!
//! - A timer row is kept until its own stream has recorded that the other side was notified.
//! - The command to the other side has an id derived from the row, so a second copy is a duplicate.
//! - A command that arrives too late for the other stream lapses there without events.
//!
//! So a crash between any two commits repeats a command that changes nothing.
//!
//! [`ChildTask`]: crate::state::ChildTask

use chrono::TimeDelta;
use serde_json::{Map, Value, json};

use super::{builder::DecisionBuilder, control, decision::Refusal, inactivity::expiry, start};
use crate::{
    answer::value_at,
    assignment::{Eligibility, check_roles},
    command::{ChildCommand, ChildReport, ChildStart, EffectOutcome, FireTimer},
    config::StepConfig,
    events::{ChildEnded, ChildRequested, WorkflowEvent},
    executor::{ExecutorError, check_bounds},
    ids::StepId,
    state::{ChildOrder, ChildOutcome, SlotHolder, TaskStatus, Visit, VisitStatus},
    store::Timer,
    timers::order_kind,
    transition::variables,
};

/// Decides a command from a parent or a child.
pub(super) fn child(
    builder: &mut DecisionBuilder<'_>,
    command: &ChildCommand,
) -> Result<(), Refusal> {
    match command {
        ChildCommand::Start(command) => begin(builder, command),
        ChildCommand::Order {
            parent_task_id,
            order,
            ..
        } => {
            let parent = builder.state()?.parent.as_ref();
            if parent.is_some_and(|parent| parent.task_id == *parent_task_id) {
                obey(builder, *order);
            }
            Ok(())
        }
        ChildCommand::Report(report) => learn(builder, report),
    }
}

/// Starts as the child of a task.
fn begin(builder: &mut DecisionBuilder<'_>, command: &ChildStart) -> Result<(), Refusal> {
    if builder.is_started() {
        return adopt(builder, command);
    }
    start::begin(
        builder,
        start::Details {
            by_submission: false,
            input: command.input.clone(),
            labels: command.labels.clone(),
            expected: None,
            parent: Some(command.parent.clone()),
        },
    )?;
    let entry = builder.config().entry_step.clone();
    builder.enter(entry.clone(), None);
    reserve(builder, &entry, &command.holders);
    Ok(())
}

/// Handles the start of a child that exists already: started by this same command, or earlier by
/// a person's submission that named the workflow. Any other task is refused.
fn adopt(builder: &mut DecisionBuilder<'_>, command: &ChildStart) -> Result<(), Refusal> {
    let state = builder.current();
    match &state.parent {
        Some(parent) if parent.task_id == command.parent.task_id => return Ok(()),
        None if state.awaits_details => {}
        Some(_) | None => return Err(start::already_started(builder)),
    }
    start::require_same_workflow(builder, Some(&command.workflow))?;
    builder.emit(WorkflowEvent::TaskDetailsSupplied {
        input: command.input.clone(),
        labels: command.labels.clone(),
        expected: None,
        parent: Some(command.parent.clone()),
    });
    Ok(())
}

/// Claims slots in the first step for `holders`, as far as slots are free and their roles allow.
fn reserve(builder: &mut DecisionBuilder<'_>, entry: &StepId, holders: &[SlotHolder]) {
    let step = builder.step(entry);
    if !step.kind.takes_submissions() {
        return;
    }
    for holder in holders {
        let visit = builder.visit(entry);
        if visit.status != VisitStatus::Active
            || Eligibility::of(visit, holder.user_id) != Eligibility::FreeSlot
            || !check_roles(step, &holder.roles)
        {
            continue;
        }
        let (visit, n) = (visit.number, visit.assignments_made + 1);
        let expires_at = expiry(builder, step);
        builder.emit(WorkflowEvent::TaskAssigned {
            step_id: entry.clone(),
            visit,
            n,
            user_id: holder.user_id,
            roles: holder.roles.clone(),
            expires_at,
            offered: None,
        });
    }
}

/// Follows an order of the parent. A child that an operator paused stays paused when the parent
/// resumes, and a child that an operator resumed runs on while the parent is paused.
fn obey(builder: &mut DecisionBuilder<'_>, order: ChildOrder) {
    let state = builder.current();
    let held_by_parent = state.pause.as_ref().is_some_and(|pause| pause.by_parent);
    match order {
        ChildOrder::Pause if state.status == TaskStatus::Running => {
            builder.emit(WorkflowEvent::WorkflowPaused {
                step_id: None,
                reason: Some("the parent task is paused".to_owned()),
                until: None,
                by_parent: true,
                holds: Vec::new(),
            });
        }
        ChildOrder::Resume if held_by_parent => {
            let reason = Some("the parent task goes on".to_owned());
            control::go_on_after_pause(builder, None, reason);
        }
        ChildOrder::Cancel if !state.status.is_final() => {
            builder.cancel(Some("the parent task no longer waits for it".to_owned()));
        }
        ChildOrder::Start | ChildOrder::Pause | ChildOrder::Resume | ChildOrder::Cancel => {}
    }
}

/// Applies a child's report of its end. A report for a visit that has ended, or from a child that
/// the visit no longer waits for, lapses.
fn learn(builder: &mut DecisionBuilder<'_>, report: &ChildReport) -> Result<(), Refusal> {
    let waits = |visit: &&Visit| {
        visit.status == VisitStatus::Active
            && visit.child.as_ref().is_some_and(|child| {
                child.task_id == report.child_task_id && child.outcome.is_none()
            })
    };
    // Found by the child's id, not the step's: the parent may have been migrated in the meantime.
    let found = builder.state()?.steps.iter().find_map(|(id, step)| {
        let visit = step.current().filter(waits)?;
        Some((id.clone(), visit.number))
    });
    let Some((step_id, visit)) = found else {
        return Ok(());
    };
    let output = report.output.as_ref().unwrap_or(&Value::Null);
    let part = |key| output.get(key).filter(|value| !value.is_null());
    let completed = report.status == TaskStatus::Completed;
    let context = if completed {
        mapped_output(builder.step(&step_id), output)
    } else {
        Map::new()
    };
    let outcome = ChildOutcome {
        status: report.status,
        workflow: Some(report.workflow.clone()),
        value: part("result").cloned(),
        agreement: part("agreement").and_then(Value::as_f64),
        error: report.error.clone(),
        people: report.people.clone(),
    };
    builder.end_child(&step_id, visit, outcome, context);
    Ok(())
}

/// What an `advance` output that replaces a child's result adds to the context.
pub(super) fn given_context(step: &StepConfig, output: &Value) -> Map<String, Value> {
    mapped_output(step, &json!({"result": output}))
}

/// What a child's output adds to the parent's context; null for a path that the output lacks.
fn mapped_output(step: &StepConfig, output: &Value) -> Map<String, Value> {
    let mapping = step.output_mapping.iter().flatten();
    mapping
        .map(|(key, path)| {
            let value = value_at(output, Some(path)).cloned();
            (key.clone(), value.unwrap_or_default())
        })
        .collect()
}

/// Records that a child received its order, or that the order failed.
pub(super) fn order_fired(
    builder: &mut DecisionBuilder<'_>,
    due: &FireTimer,
) -> Result<(), Refusal> {
    let Some((step_id, visit, order, failures)) = pending_order(builder, &due.row) else {
        return Ok(());
    };
    let n = due.row.n;
    match (&due.outcome, order) {
        (Some(EffectOutcome::Done { .. }), _)
        // A child that refuses an order for good will not follow it on a retry either.
        | (
            Some(EffectOutcome::Failed { is_final: true, .. }),
            ChildOrder::Pause | ChildOrder::Resume | ChildOrder::Cancel,
        ) => {
            builder.emit(WorkflowEvent::ChildNotified {
                step_id,
                visit,
                order,
                n,
            });
            Ok(())
        }
        // Retried whatever the reason: the workflow may be created in the meantime.
        (Some(EffectOutcome::Failed { error, .. }), ChildOrder::Start) => {
            let error = error.clone();
            if failures < builder.config().settings.max_retries {
                let retry_at = builder.now + retry_delay(failures + 1);
                builder.emit(WorkflowEvent::ChildStartFailed {
                    step_id,
                    visit,
                    n,
                    error,
                    retry_at,
                });
            } else {
                let outcome = ChildOutcome {
                    status: TaskStatus::Failed,
                    workflow: None,
                    value: None,
                    agreement: None,
                    error: Some(format!("it could not start: {error}")),
                    people: Vec::new(),
                };
                builder.end_child(&step_id, visit, outcome, Map::new());
            }
            Ok(())
        }
        (None | Some(EffectOutcome::Failed { .. }), _) => Err(Refusal::NotPerformed),
    }
}

/// The order of a row, if it has not been delivered yet: step, visit, order, failures.
fn pending_order(
    builder: &DecisionBuilder<'_>,
    row: &Timer,
) -> Option<(StepId, u32, ChildOrder, u32)> {
    let step_id = row.step_id.clone()?;
    let child = builder
        .current()
        .visit(&step_id, row.visit)?
        .child
        .as_ref()?;
    let order = child.order.as_ref()?;
    let same =
        order.n == row.n && order.due_at == row.due_at && order_kind(order.order) == row.kind;
    same.then_some((step_id, row.visit, order.order, order.failures))
}

/// Records that the parent was notified how this task ended.
pub(super) fn report_due(
    builder: &mut DecisionBuilder<'_>,
    due: &FireTimer,
) -> Result<(), Refusal> {
    if builder.current().report_due != Some(due.row.due_at) {
        return Ok(());
    }
    match &due.outcome {
        Some(EffectOutcome::Done { .. } | EffectOutcome::Failed { is_final: true, .. }) => {
            builder.emit(WorkflowEvent::ParentNotified {});
            Ok(())
        }
        None | Some(EffectOutcome::Failed { .. }) => Err(Refusal::NotPerformed),
    }
}

impl DecisionBuilder<'_> {
    /// Ensures that the visit of a `sub_workflow` step has a child: requests the first, or another
    /// one on a `retry` after the last one failed.
    pub(super) fn require_child(&mut self, step: &StepConfig) -> Result<(), ExecutorError> {
        let Some(workflow) = &step.workflow else {
            return Ok(());
        };
        let visit = self.visit(&step.id);
        let n = match &visit.child {
            None => 1,
            Some(child) => {
                let lost = child.outcome.as_ref();
                if !self.retries || lost.is_none_or(|o| o.status == TaskStatus::Completed) {
                    return Ok(());
                }
                child.n + 1
            }
        };
        let state = self.current();
        let depth = state.parent.as_ref().map_or(0, |parent| parent.depth);
        let own_max = depth.saturating_add(self.config().settings.max_sub_workflow_depth);
        let inherited = state
            .parent
            .as_ref()
            .map_or(own_max, |parent| parent.depth_max);
        let depth_max = own_max.min(inherited);
        if depth >= depth_max {
            return Err(ExecutorError::ChildDepth {
                step_id: step.id.clone(),
                workflow: workflow.clone(),
                depth_max,
            });
        }
        let requested = ChildRequested {
            step_id: step.id.clone(),
            visit: visit.number,
            n,
            task_id: self.task_id().child(&step.id, visit.number, n),
            workflow: workflow.clone(),
            input: self.mapped_input(step, visit)?,
            labels: state.labels.clone(),
            holders: self.holders(step, visit),
            depth_max,
            correlation_id: Some(self.correlation_id().to_owned()),
        };
        self.emit(WorkflowEvent::ChildRequested(requested));
        Ok(())
    }

    /// The child's input: the values of `input_mapping`, else the parent's input.
    fn mapped_input(
        &self,
        step: &StepConfig,
        visit: &Visit,
    ) -> Result<Option<Value>, ExecutorError> {
        let Some(mapping) = &step.input_mapping else {
            return Ok(self.current().input.clone());
        };
        let variables = variables(self.config(), self.current(), step, visit);
        let mut input = Map::new();
        for (key, source) in mapping {
            // Compiled with the revision; a revision without it could not have been stored.
            let Some(expression) = self.workflow().expression(source) else {
                continue;
            };
            let value =
                expression
                    .evaluate(&variables)
                    .map_err(|error| ExecutorError::Expression {
                        step_id: step.id.clone(),
                        expression: source.clone(),
                        source: error,
                    })?;
            input.insert(key.clone(), value);
        }
        let input = Value::Object(input);
        check_bounds(&input).map_err(|reason| ExecutorError::ChildInput {
            step_id: step.id.clone(),
            reason,
        })?;
        Ok(Some(input))
    }

    /// Who gets a slot in the child's first step, if this step or the one that led here sets
    /// `propagate_assignment`: those who submitted to the step that led here or, if nobody did, to
    /// the subject of this visit.
    fn holders(&self, step: &StepConfig, visit: &Visit) -> Vec<SlotHolder> {
        let propagates = |step: &StepConfig| step.assignment.as_ref()?.propagate_assignment;
        let from = visit.entered_from.as_ref();
        let said_before = || propagates(self.step(from?));
        if propagates(step).or_else(said_before) != Some(true) {
            return Vec::new();
        }
        let state = self.current();
        let before = from.and_then(|from| state.current_visit(from));
        let judged = visit.reviewed.as_ref();
        let judged = judged.and_then(|judged| state.visit(&judged.step_id, judged.visit));
        let mut holders: Vec<SlotHolder> = Vec::new();
        for annotation in [before, judged]
            .into_iter()
            .flatten()
            .map(|visit| &visit.annotations)
            .find(|annotations| !annotations.is_empty())
            .into_iter()
            .flatten()
        {
            if holders
                .iter()
                .all(|known| known.user_id != annotation.user_id)
            {
                holders.push(SlotHolder {
                    user_id: annotation.user_id,
                    roles: annotation.roles.clone(),
                });
            }
        }
        holders
    }

    /// Records how a child ended, and advances its step. If the task is paused now, the step
    /// advances later (see [`ended_timers`]).
    fn end_child(
        &mut self,
        step_id: &StepId,
        visit: u32,
        outcome: ChildOutcome,
        context: Map<String, Value>,
    ) {
        let child = self
            .current()
            .visit(step_id, visit)
            .and_then(|v| v.child.as_ref());
        let Some(task_id) = child.map(|child| child.task_id) else {
            return;
        };
        self.subject = Some(step_id.clone());
        self.emit(WorkflowEvent::ChildEnded(ChildEnded {
            step_id: step_id.clone(),
            visit,
            task_id,
            outcome,
            context,
        }));
        let goes_on = self.require_running().is_ok() && self.require_step_running(step_id).is_ok();
        if goes_on && self.has_unused_outcome(step_id, visit) {
            let step = self.step(step_id);
            self.go_on(step, None);
        }
    }

    /// Whether the step still waits although its child has ended.
    fn has_unused_outcome(&self, step_id: &StepId, visit: u32) -> bool {
        let state = self.current();
        state.incident_of(step_id).is_none()
            && state.visit(step_id, visit).is_some_and(|visit| {
                let child = visit.child.as_ref();
                visit.is_open() && child.is_some_and(|c| c.outcome.is_some())
            })
    }
}

/// Advances a step whose child ended while the task was paused. A timer is needed because the end
/// of a workflow's pause writes nothing to its tasks.
pub(super) fn ended_timers(builder: &mut DecisionBuilder<'_>, row: &Timer) {
    let Some(step_id) = row.step_id.clone() else {
        return;
    };
    if builder.has_unused_outcome(&step_id, row.visit) {
        let step = builder.step(&step_id);
        builder.subject = Some(step_id);
        builder.go_on(step, None);
    }
}

/// The delay before the next attempt at a start: 1 s, 4 s, 16 s, and then 60 s each.
fn retry_delay(failures: u32) -> TimeDelta {
    TimeDelta::seconds(4_i64.saturating_pow(failures.saturating_sub(1)).min(60))
}
