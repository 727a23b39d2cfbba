//! The only writer of state. Live decisions and replay go through the same fold.

use std::{collections::BTreeMap, mem::take, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    ChildRequested, HandlerRequested, HookEnded, ReleaseReason, StoredEvent, WorkflowEvent,
    WorkflowMigrated, WorkflowStarted,
};
use crate::{
    config::{HookStage, OutsideHandler, Target},
    ids::{StepId, TaskId},
    state::{
        Assignment, ChildOrder, ChildTask, FailedHook, Incident, Pause, PendingCall, PendingJoin,
        PendingOrder, StateTransitionError, StepVisit, TaskStatus, Visit, VisitStatus,
        WorkflowSnapshot,
    },
};

/// Brings `state` from one version to the next.
///
/// Checks structure alone (next version, a visit that exists and is active, a status that allows
/// the move); business rules live in `decide`, so that they may change and old streams still
/// replay. On error `state` is as it was.
pub fn evolve(
    state: &mut Option<WorkflowSnapshot>,
    event: &StoredEvent,
) -> Result<(), StateTransitionError> {
    match (&mut *state, &event.event) {
        (None, WorkflowEvent::WorkflowStarted(started)) => {
            check_version(event.task_id, 0, event.version)?;
            *state = Some(begin(event.task_id, event.occurred_at, started));
            Ok(())
        }
        (None, other) => Err(StateTransitionError::NotStarted {
            task_id: event.task_id,
            event: other.event_type(),
        }),
        (Some(_), WorkflowEvent::WorkflowStarted(_)) => Err(StateTransitionError::AlreadyStarted {
            task_id: event.task_id,
            version: event.version,
        }),
        (Some(state), other) => {
            check_version(event.task_id, state.version, event.version)?;
            change(state, other, event.occurred_at)?;
            state.version = event.version;
            state.updated_at = event.occurred_at;
            Ok(())
        }
    }
}

fn check_version(task_id: TaskId, at: u64, version: u64) -> Result<(), StateTransitionError> {
    if version == at + 1 {
        Ok(())
    } else {
        Err(StateTransitionError::VersionGap {
            task_id,
            at,
            version,
        })
    }
}

fn begin(task_id: TaskId, now: DateTime<Utc>, started: &WorkflowStarted) -> WorkflowSnapshot {
    WorkflowSnapshot {
        task_id,
        workflow: started.workflow.clone(),
        parent: started.parent.clone(),
        report_due: None,
        version: 1,
        status: TaskStatus::Running,
        started_at: now,
        updated_at: now,
        awaits_details: started.by_submission,
        input: started.input.clone(),
        labels: started.labels.clone(),
        expected: started.expected.clone(),
        context: started.context.clone(),
        steps: BTreeMap::new(),
        completed: Vec::new(),
        loops: BTreeMap::new(),
        joins: BTreeMap::new(),
        incidents: Vec::new(),
        incidents_opened: 0,
        pause: None,
        output: None,
        error: None,
    }
}

fn change(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    now: DateTime<Utc>,
) -> Result<(), StateTransitionError> {
    require_status(state, event)?;
    match event {
        // Handled by the caller: a stream has one beginning.
        WorkflowEvent::WorkflowStarted(_) => {}
        WorkflowEvent::TaskDetailsSupplied {
            input,
            labels,
            expected,
            parent,
        } => {
            state.awaits_details = false;
            if state.parent.is_none() {
                state.parent.clone_from(parent);
            }
            state.input = state.input.take().or_else(|| input.clone());
            state.expected = state.expected.take().or_else(|| expected.clone());
            for (key, value) in labels {
                state
                    .labels
                    .entry(key.clone())
                    .or_insert_with(|| value.clone());
            }
        }
        WorkflowEvent::StepActivated(activated) => {
            let step = state.steps.entry(activated.step_id.clone()).or_default();
            let visits = step.visits.len();
            if u32::try_from(visits + 1) != Ok(activated.visit) || step.is_active() {
                return Err(StateTransitionError::UnknownVisit {
                    event: event.event_type(),
                    step_id: activated.step_id.clone(),
                    visit: activated.visit,
                    visits,
                });
            }
            state.joins.remove(&activated.step_id);
            state
                .joins
                .retain(|join, _| !activated.discards.contains(join));
            step.visits.push(Visit {
                number: activated.visit,
                status: VisitStatus::Active,
                entered_from: activated.from_step.clone(),
                judges: activated.judges.clone(),
                judges_with: activated.judges_with.clone(),
                places: activated.places,
                activated_at: now,
                ended_at: None,
                annotations: Vec::new(),
                assignments: Vec::new(),
                assignments_made: 0,
                excluded: Vec::new(),
                pause: None,
                child: None,
                result: None,
                call: None,
                told: Vec::new(),
                calls_made: 0,
                opening: activated.opening,
                hooks_done: 0,
                prepared: None,
                found: None,
                hooks_failed: Vec::new(),
            });
        }
        WorkflowEvent::TaskAssigned {
            step_id,
            visit,
            n,
            user_id,
            roles,
            expires_at,
            offered: _,
        } => {
            let visit = active_visit(state, event, step_id, *visit)?;
            visit.assignments_made = *n;
            visit.assignments.push(Assignment {
                n: *n,
                user_id: *user_id,
                roles: roles.clone(),
                assigned_at: now,
                expires_at: *expires_at,
            });
        }
        WorkflowEvent::ActivityRecorded {
            step_id,
            visit,
            user_id,
            expires_at,
            ..
        } => {
            let visit = active_visit(state, event, step_id, *visit)?;
            for assignment in visit
                .assignments
                .iter_mut()
                .filter(|a| a.user_id == *user_id)
            {
                assignment.expires_at = *expires_at;
            }
        }
        WorkflowEvent::TaskReleased {
            step_id,
            visit,
            user_id,
            cause,
            ..
        } => {
            let visit = active_visit(state, event, step_id, *visit)?;
            visit.assignments.retain(|a| a.user_id != *user_id);
            if *cause == ReleaseReason::Reassigned {
                visit.excluded.push(*user_id);
            }
        }
        WorkflowEvent::TaskStalled { step_id, visit, .. }
        | WorkflowEvent::ConsensusCalculated(super::ConsensusCalculated {
            step_id, visit, ..
        }) => {
            active_visit(state, event, step_id, *visit)?;
        }
        WorkflowEvent::AnnotationSubmitted {
            step_id,
            visit,
            annotation,
        } => {
            let visit = active_visit(state, event, step_id, *visit)?;
            visit
                .assignments
                .retain(|a| a.user_id != annotation.user_id);
            visit.annotations.push(Arc::clone(annotation));
        }
        // A figure about its annotator: the task itself goes on as if nothing had happened.
        WorkflowEvent::GoldScored { step_id, visit, .. } => {
            known_visit(state, event, step_id, *visit)?;
        }
        WorkflowEvent::PlacesAdded {
            step_id,
            visit,
            places,
        } => {
            active_visit(state, event, step_id, *visit)?.places = Some(*places);
        }
        WorkflowEvent::ChildRequested(requested) => {
            let visit = active_visit(state, event, &requested.step_id, requested.visit)?;
            request_child(visit, requested, now);
        }
        WorkflowEvent::ChildTold {
            step_id,
            visit,
            order,
            n,
        } => {
            let child = child_of(state, event, step_id, *visit)?;
            if child.order.as_ref().is_some_and(|order| order.n == *n) {
                child.told = Some(*order);
                child.order = None;
                child.input = None;
                child.labels.clear();
                child.holders.clear();
            }
        }
        WorkflowEvent::ChildStartFailed {
            step_id,
            visit,
            n,
            retry_at,
            ..
        } => {
            let child = child_of(state, event, step_id, *visit)?;
            for order in child.order.iter_mut().filter(|order| order.n == *n) {
                order.failures += 1;
                order.due_at = *retry_at;
            }
        }
        WorkflowEvent::ChildEnded(ended) => {
            let child = child_of(state, event, &ended.step_id, ended.visit)?;
            child.order = None;
            child.outcome = Some(ended.outcome.clone());
            state.context.extend(ended.context.clone());
        }
        WorkflowEvent::ParentTold {} => state.report_due = None,
        WorkflowEvent::HandlerRequested(requested) => request_call(state, event, requested, now)?,
        WorkflowEvent::HandlerFailed {
            step_id,
            visit,
            n,
            attempt,
            error,
            retry_at,
        } => {
            let visit = calling_visit(state, event, step_id, *visit, Some(*n))?;
            let failed = take_call(visit, *n);
            let again = failed.filter(|_| retry_at.is_some());
            if let Some(call) = again {
                keep_call(
                    visit,
                    PendingCall {
                        attempt: attempt + 1,
                        due_at: *retry_at,
                        last_error: Some(error.clone()),
                        ..call
                    },
                );
            }
        }
        WorkflowEvent::HookEnded(ended) => end_hook(state, event, ended, now)?,
        WorkflowEvent::StepOpened(opened) => {
            let visit = active_visit(state, event, &opened.step_id, opened.visit)?;
            visit.opening = false;
            visit.call = None;
            visit.hooks_done = 0;
        }
        WorkflowEvent::ResultFound {
            step_id,
            visit,
            found,
        } => {
            let visit = active_visit(state, event, step_id, *visit)?;
            visit.found = Some(found.clone());
            visit.call = None;
            visit.hooks_done = 0;
            visit.assignments.clear();
        }
        WorkflowEvent::StepCompleted {
            step_id,
            visit,
            result,
            context,
        } => {
            state.context.extend(context.clone());
            let ended = end_visit(state, event, step_id, *visit, VisitStatus::Completed, now)?;
            ended.result = Some(result.clone());
            state.completed.push(StepVisit {
                step_id: step_id.clone(),
                visit: *visit,
            });
        }
        WorkflowEvent::StepFailed { step_id, visit, .. } => {
            end_visit(state, event, step_id, *visit, VisitStatus::Failed, now)?;
        }
        WorkflowEvent::StepSkipped { step_id, visit, .. } => {
            end_visit(state, event, step_id, *visit, VisitStatus::Skipped, now)?;
        }
        WorkflowEvent::StepWithdrawn { step_id, visit, .. } => {
            end_visit(state, event, step_id, *visit, VisitStatus::Withdrawn, now)?;
        }
        WorkflowEvent::TransitionOccurred(transition) => {
            if let (Some(index), true) = (transition.transition, transition.looped) {
                *state.loops.entry(index).or_default() += 1;
            }
            if let (true, Target::Step(join)) = (transition.waits, &transition.to_step) {
                let pending = state
                    .joins
                    .entry(join.clone())
                    .or_insert_with(|| PendingJoin {
                        arrived: Vec::new(),
                        expires_at: transition.join_expires_at,
                    });
                let (step_id, visit) = (transition.from_step.clone(), transition.from_visit);
                pending.arrived.push(StepVisit { step_id, visit });
            }
        }
        WorkflowEvent::IncidentOpened {
            incident_id,
            step_id,
            visit,
            code,
            reason,
            escalated,
        } => {
            state.incidents_opened += 1;
            state.incidents.push(Incident {
                incident_id: *incident_id,
                step_id: step_id.clone(),
                visit: *visit,
                code: *code,
                reason: reason.clone(),
                opened_at: now,
                escalated: *escalated,
            });
        }
        WorkflowEvent::IncidentResolved { incident_id, .. } => {
            state
                .incidents
                .retain(|incident| incident.incident_id != *incident_id);
        }
        WorkflowEvent::WorkflowPaused {
            step_id,
            reason,
            until,
            by_parent,
        } => {
            let pause = Pause {
                reason: reason.clone(),
                since: now,
                by_parent: *by_parent,
                until: *until,
            };
            if let Some(step_id) = step_id {
                last_active_visit(state, event, step_id)?.pause = Some(pause);
            } else {
                state.status = TaskStatus::Paused;
                state.pause = Some(pause);
            }
        }
        WorkflowEvent::WorkflowResumed { step_id, .. } => {
            if let Some(step_id) = step_id {
                let visit = last_active_visit(state, event, step_id)?;
                if let Some(pause) = visit.pause.take() {
                    rearm_visit(visit, now - pause.since, Attempts::Moved);
                }
            } else {
                state.status = TaskStatus::Running;
                if let Some(pause) = state.pause.take() {
                    rearm(state, now - pause.since, Attempts::Moved);
                }
            }
        }
        WorkflowEvent::TimersRearmed { paused_micros } => {
            let micros = i64::try_from(*paused_micros).unwrap_or(i64::MAX);
            rearm(state, TimeDelta::microseconds(micros), Attempts::Kept);
        }
        WorkflowEvent::WorkflowMigrated(migrated) => migrate(state, migrated, now),
        WorkflowEvent::WorkflowCompleted { output } => {
            state.status = TaskStatus::Completed;
            state.joins.clear();
            state.output = Some(output.clone());
        }
        WorkflowEvent::WorkflowFailed { error } => {
            state.status = TaskStatus::Failed;
            state.joins.clear();
            state.error = Some(error.clone());
        }
        WorkflowEvent::WorkflowCancelled { reason } => {
            state.status = TaskStatus::Cancelled;
            state.joins.clear();
            state.pause = None;
            state.error.clone_from(reason);
        }
    }
    report_end(state, event, now);
    order_children(state, event, now);
    Ok(())
}

/// A child that ends owes its parent a report.
fn report_end(state: &mut WorkflowSnapshot, event: &WorkflowEvent, now: DateTime<Utc>) {
    let ends = match event {
        WorkflowEvent::WorkflowCompleted { .. }
        | WorkflowEvent::WorkflowFailed { .. }
        | WorkflowEvent::WorkflowCancelled { .. } => true,
        // A person was quicker than the parent's start, and has ended the task already.
        WorkflowEvent::TaskDetailsSupplied { parent, .. } => {
            parent.is_some() && state.status.is_final()
        }
        _ => false,
    };
    if ends && state.parent.is_some() {
        state.report_due = Some(now);
    }
}

fn request_call(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    requested: &HandlerRequested,
    now: DateTime<Utc>,
) -> Result<(), StateTransitionError> {
    let HandlerRequested {
        step_id, visit, n, ..
    } = requested;
    let tells = requested.hook.is_some_and(|hook| !hook.stage.holds_step());
    let visit = if tells {
        known_visit(state, event, step_id, *visit)?
    } else {
        active_visit(state, event, step_id, *visit)?
    };
    visit.calls_made = visit.calls_made.max(*n);
    let before = take_call(visit, *n);
    // Nobody answers a job that only tells: to have it published is all.
    if !(tells && requested.handler == OutsideHandler::Queue) {
        keep_call(
            visit,
            PendingCall {
                n: *n,
                handler: requested.handler,
                hook: requested.hook,
                attempt: requested.attempt,
                due_at: requested.due_at,
                since: before.as_ref().map_or(now, |call| call.since),
                last_error: before.and_then(|call| call.last_error),
            },
        );
    }
    Ok(())
}

/// Takes the call of that number out of the visit.
fn take_call(visit: &mut Visit, n: u32) -> Option<PendingCall> {
    let of_step = visit.call.take_if(|call| call.n == n);
    let told = visit.told.iter().position(|call| call.n == n);
    of_step.or_else(|| told.map(|at| visit.told.remove(at)))
}

fn keep_call(visit: &mut Visit, call: PendingCall) {
    match call.hook {
        Some(hook) if !hook.stage.holds_step() => visit.told.push(call),
        Some(_) | None => visit.call = Some(call),
    }
}

/// The visit that made a call, or did a hook: one that only tells may be over.
fn calling_visit<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
    number: u32,
    n: Option<u32>,
) -> Result<&'s mut Visit, StateTransitionError> {
    let visit = known_visit(state, event, step_id, number)?;
    if visit.told.iter().any(|call| Some(call.n) == n) {
        return known_visit(state, event, step_id, number);
    }
    active_visit(state, event, step_id, number)
}

fn end_hook(
    state: &mut WorkflowSnapshot,
    event: &WorkflowEvent,
    ended: &HookEnded,
    now: DateTime<Utc>,
) -> Result<(), StateTransitionError> {
    let when = ended.hook.stage;
    let visit = if when.holds_step() {
        active_visit(state, event, &ended.step_id, ended.visit)?
    } else {
        known_visit(state, event, &ended.step_id, ended.visit)?
    };
    if let Some(n) = ended.n {
        take_call(visit, n);
    }
    if let Some(error) = &ended.error {
        visit.hooks_failed.push(FailedHook {
            hook: ended.hook,
            error: error.clone(),
            at: now,
        });
    }
    if when.holds_step() {
        visit.call = None;
        visit.hooks_done += 1;
    }
    if let Some(output) = &ended.output {
        match (when, &mut visit.found) {
            (HookStage::PreProcess, _) => visit.prepared = Some(output.clone()),
            (HookStage::PostProcess, Some(found)) => found.result.value = Some(output.clone()),
            (HookStage::PostProcess | HookStage::OnStart | HookStage::OnComplete, _) => {}
        }
    }
    Ok(())
}

fn request_child(visit: &mut Visit, requested: &ChildRequested, now: DateTime<Utc>) {
    let n = visit.child.as_ref().map_or(0, |child| child.orders) + 1;
    visit.child = Some(ChildTask {
        task_id: requested.task_id,
        workflow: requested.workflow.clone(),
        n: requested.n,
        input: requested.input.clone(),
        labels: requested.labels.clone(),
        holders: requested.holders.clone(),
        depth_max: requested.depth_max,
        correlation_id: requested.correlation_id.clone(),
        told: None,
        order: Some(PendingOrder {
            order: ChildOrder::Start,
            n,
            due_at: now,
            failures: 0,
        }),
        orders: n,
        outcome: None,
    });
}

/// Gives every child that has no order on its way the one that follows from the state now: it is
/// cancelled once its visit is over, and otherwise waits and goes on with the task and its step.
fn order_children(state: &mut WorkflowSnapshot, event: &WorkflowEvent, now: DateTime<Utc>) {
    use ChildOrder::{Cancel, Pause, Resume, Start};
    let may_follow = matches!(
        event,
        WorkflowEvent::ChildTold { .. }
            | WorkflowEvent::StepCompleted { .. }
            | WorkflowEvent::StepFailed { .. }
            | WorkflowEvent::StepSkipped { .. }
            | WorkflowEvent::StepWithdrawn { .. }
            | WorkflowEvent::WorkflowPaused { .. }
            | WorkflowEvent::WorkflowResumed { .. }
    );
    if !may_follow {
        return;
    }
    let paused = state.status == TaskStatus::Paused;
    for visit in state.steps.values_mut().flat_map(|step| &mut step.visits) {
        let over = visit.status != VisitStatus::Active;
        let Some(child) = visit.child.as_mut() else {
            continue;
        };
        if child.order.is_some() || child.outcome.is_some() {
            continue;
        }
        let paused = paused || visit.pause.is_some();
        let order = match child.told {
            Some(Start | Pause | Resume) if over => Cancel,
            Some(Start | Resume) if paused => Pause,
            Some(Pause) if !paused => Resume,
            None | Some(Start | Pause | Resume | Cancel) => continue,
        };
        child.orders += 1;
        child.order = Some(PendingOrder {
            order,
            n: child.orders,
            due_at: now,
            failures: 0,
        });
    }
}

/// What becomes of the times of attempts at calls.
#[derive(Clone, Copy)]
enum Attempts {
    /// An attempt under way is overtaken: it is due at another time now.
    Moved,
    /// What was not claimed meanwhile is late as it is.
    Kept,
}

/// Neither inactivity nor the patience with jobs and joins runs during a pause: what was left goes
/// on.
fn rearm(state: &mut WorkflowSnapshot, paused_for: TimeDelta, attempts: Attempts) {
    for join in state.joins.values_mut() {
        join.expires_at = join.expires_at.map(|expires_at| expires_at + paused_for);
    }
    // Visits that are over may still have something to tell.
    let visits = state.steps.values_mut().flat_map(|s| &mut s.visits);
    // A step that is paused itself gets all of its own pause back when it resumes.
    for visit in visits.filter(|visit| visit.pause.is_none()) {
        rearm_visit(visit, paused_for, attempts);
    }
}

fn rearm_visit(visit: &mut Visit, paused_for: TimeDelta, attempts: Attempts) {
    for assignment in &mut visit.assignments {
        assignment.expires_at += paused_for;
    }
    let moves = |call: &&mut PendingCall| match attempts {
        Attempts::Moved => true,
        Attempts::Kept => call.runs_out(),
    };
    for call in visit.call.iter_mut().chain(&mut visit.told).filter(moves) {
        call.due_at = call.due_at.map(|due_at| due_at + paused_for);
    }
}

/// Moves what a task has been through to the step ids of another revision.
///
/// A call that may be under way is asked for anew: what it answers was asked by the old revision.
fn migrate(state: &mut WorkflowSnapshot, migrated: &WorkflowMigrated, now: DateTime<Utc>) {
    let pause = state.pause.clone();
    let new_id = |old: &StepId| migrated.steps.get(old).unwrap_or(old).clone();
    state.workflow = migrated.workflow.clone();
    state.loops.clone_from(&migrated.loops);
    state.steps = take(&mut state.steps)
        .into_iter()
        .map(|(id, s)| (new_id(&id), s))
        .collect();
    state.joins = take(&mut state.joins)
        .into_iter()
        .map(|(id, j)| (new_id(&id), j))
        .collect();
    for visit in state.steps.values_mut().flat_map(|step| &mut step.visits) {
        visit.entered_from = visit.entered_from.as_ref().map(new_id);
        // A pause adds what it lasted, and has not yet.
        let pause = visit.pause.as_ref().or(pause.as_ref());
        let asked_at = pause.map_or(now, |pause| pause.since);
        for call in visit.call.iter_mut().chain(&mut visit.told) {
            call.due_at = call.due_at.map(|due_at| due_at.max(asked_at));
        }
        for judged in visit.judges.iter_mut().chain(&mut visit.judges_with) {
            judged.step_id = new_id(&judged.step_id);
        }
    }
    for (join, expires_at) in &migrated.joins {
        if let Some(pending) = state.joins.get_mut(join) {
            pending.expires_at = *expires_at;
        }
    }
    let arrived = state.joins.values_mut().flat_map(|join| &mut join.arrived);
    for passed in state.completed.iter_mut().chain(arrived) {
        passed.step_id = new_id(&passed.step_id);
    }
    for incident in &mut state.incidents {
        incident.step_id = new_id(&incident.step_id);
    }
    for (step_id, places) in &migrated.places {
        if let Some(visit) = state
            .steps
            .get_mut(step_id)
            .and_then(|s| s.visits.last_mut())
        {
            visit.places = *places;
        }
    }
}

/// The table of legal moves by status: what may happen to a task that is not running.
fn require_status(
    state: &WorkflowSnapshot,
    event: &WorkflowEvent,
) -> Result<(), StateTransitionError> {
    use TaskStatus::{Cancelled, Completed, Failed, Paused, Running};
    // What goes on between parent and child does not wait for either.
    let between_tasks = matches!(
        event,
        WorkflowEvent::ChildTold { .. }
            | WorkflowEvent::ChildStartFailed { .. }
            | WorkflowEvent::ChildEnded(_)
    );
    // What has happened is told, whatever has become of the task since.
    let tells = match event {
        WorkflowEvent::HookEnded(ended) => !ended.hook.stage.holds_step(),
        WorkflowEvent::HandlerFailed {
            step_id, visit, n, ..
        } => {
            let visit = state.visit(step_id, *visit);
            visit.is_some_and(|visit| visit.told.iter().any(|call| call.n == *n))
        }
        _ => false,
    };
    let by_status = match (state.status, event) {
        (Running, event) => !matches!(
            event,
            WorkflowEvent::WorkflowResumed { step_id: None, .. } | WorkflowEvent::ParentTold {}
        ),
        (
            Paused,
            WorkflowEvent::WorkflowResumed { step_id: None, .. }
            | WorkflowEvent::WorkflowCancelled { .. }
            | WorkflowEvent::WorkflowMigrated(_)
            | WorkflowEvent::TaskDetailsSupplied { .. }
            | WorkflowEvent::GoldScored { .. }
            | WorkflowEvent::TaskReleased { .. }
            | WorkflowEvent::IncidentResolved { .. }
            | WorkflowEvent::StepWithdrawn { .. },
        )
        | (
            Completed | Failed | Cancelled,
            WorkflowEvent::TaskDetailsSupplied { .. }
            | WorkflowEvent::GoldScored { .. }
            | WorkflowEvent::ParentTold {},
        ) => true,
        (Paused | Completed | Failed | Cancelled, _) => false,
    };
    if between_tasks || by_status || (tells && state.status.is_final()) {
        Ok(())
    } else {
        Err(StateTransitionError::WrongStatus {
            event: event.event_type(),
            status: state.status,
        })
    }
}

/// The visit of a step that is active now, whichever it is.
fn last_active_visit<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
) -> Result<&'s mut Visit, StateTransitionError> {
    let last = state.current_visit(step_id).map_or(0, |visit| visit.number);
    active_visit(state, event, step_id, last)
}

fn active_visit<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
    number: u32,
) -> Result<&'s mut Visit, StateTransitionError> {
    let visits = match state.steps.get_mut(step_id) {
        Some(step) => &mut step.visits,
        None => return Err(unknown_visit(event, step_id, number, 0)),
    };
    let count = visits.len();
    match visits.last_mut() {
        Some(visit) if visit.number == number && visit.status == VisitStatus::Active => Ok(visit),
        Some(visit) if visit.number == number => Err(StateTransitionError::VisitNotActive {
            event: event.event_type(),
            step_id: step_id.clone(),
            visit: number,
            status: visit.status,
        }),
        _ => Err(unknown_visit(event, step_id, number, count)),
    }
}

/// A visit, which may be over.
fn known_visit<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
    number: u32,
) -> Result<&'s mut Visit, StateTransitionError> {
    let visits = state.steps.get_mut(step_id).map(|step| &mut step.visits);
    let count = visits.as_ref().map_or(0, |visits| visits.len());
    visits
        .into_iter()
        .flatten()
        .find(|visit| visit.number == number)
        .ok_or_else(|| unknown_visit(event, step_id, number, count))
}

fn unknown_visit(
    event: &WorkflowEvent,
    step_id: &StepId,
    visit: u32,
    visits: usize,
) -> StateTransitionError {
    StateTransitionError::UnknownVisit {
        event: event.event_type(),
        step_id: step_id.clone(),
        visit,
        visits,
    }
}

/// The child of a visit, which may be over.
fn child_of<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
    number: u32,
) -> Result<&'s mut ChildTask, StateTransitionError> {
    let count = state.steps.get(step_id).map_or(0, |step| step.visits.len());
    known_visit(state, event, step_id, number)?
        .child
        .as_mut()
        .ok_or_else(|| unknown_visit(event, step_id, number, count))
}

/// Ends a visit; the places still claimed in it are gone with it.
fn end_visit<'s>(
    state: &'s mut WorkflowSnapshot,
    event: &WorkflowEvent,
    step_id: &StepId,
    number: u32,
    status: VisitStatus,
    now: DateTime<Utc>,
) -> Result<&'s mut Visit, StateTransitionError> {
    let visit = active_visit(state, event, step_id, number)?;
    visit.status = status;
    visit.ended_at = Some(now);
    visit.assignments.clear();
    visit.pause = None;
    visit.call = None;
    visit.found = None;
    if status == VisitStatus::Withdrawn {
        // That it had begun is news no more.
        visit.told.clear();
    }
    Ok(visit)
}
