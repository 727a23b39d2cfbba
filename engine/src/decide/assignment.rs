//! Slots: claimed, kept, released.

use super::{
    builder::DecisionBuilder,
    decision::Refusal,
    inactivity::{expiry, refuse_excluded},
    submission::{require_active, require_open, require_skills, role_required, self_review},
};
use crate::{
    assignment::{Eligibility, check_roles, reviews_own_work, submitted},
    command::{Activity, Assign, RejectionCode, Release},
    config::StepConfig,
    events::{ReleaseReason, WorkflowEvent},
    ids::UserId,
    state::Draft,
};

pub(super) fn assign(builder: &mut DecisionBuilder<'_>, command: &Assign) -> Result<(), Refusal> {
    builder.state()?;
    let step = builder.target_step(command.step_id.as_deref(), |s| builder.is_open_to_people(s))?;
    let roles = command.roles.clone().unwrap_or_default();
    let state = builder.current();
    let visit = state.current_visit(&step.id);
    if let Some(visit) = visit.filter(|v| submitted(step, v, command.user_id, None)) {
        return Err(Refusal::rejected(
            RejectionCode::DuplicateAnnotator,
            format!(
                "annotator {} is already in visit {} of step `{}`",
                command.user_id, visit.number, step.id
            ),
        ));
    }
    if let Some(visit) = visit {
        refuse_excluded(step, visit, command.user_id)?;
    }
    let slots = visit.map(|visit| Eligibility::of(visit, command.user_id));
    if slots == Some(Eligibility::Full) {
        return Err(Refusal::rejected(
            RejectionCode::Surplus,
            format!("every slot of step `{}` is submitted or claimed", step.id),
        ));
    }
    builder.require_running()?;
    builder.require_step_running(&step.id)?;
    let visit = require_open(&step.id, visit)?;
    require_takes_submissions(step)?;
    if !check_roles(step, &roles) {
        return Err(role_required(step));
    }
    require_skills(builder, step)?;
    if reviews_own_work(state, step, visit, command.user_id) {
        return Err(self_review(step, visit));
    }
    let (number, n) = (visit.number, visit.assignments_made + 1);
    let expires_at = expiry(builder, step);
    builder.subject = Some(step.id.clone());
    builder.emit(if slots == Some(Eligibility::HoldsSlot) {
        // A second claim by the same person keeps the slot and adds none.
        WorkflowEvent::ActivityRecorded {
            step_id: step.id.clone(),
            visit: number,
            user_id: command.user_id,
            expires_at,
            draft: false,
        }
    } else {
        WorkflowEvent::TaskAssigned {
            step_id: step.id.clone(),
            visit: number,
            n,
            user_id: command.user_id,
            roles,
            expires_at,
            offered: command.offered.clone(),
        }
    });
    Ok(())
}

pub(super) fn release(builder: &mut DecisionBuilder<'_>, command: &Release) -> Result<(), Refusal> {
    let (step, visit) = claimed_slot(builder, command.step_id.as_deref(), command.user_id, false)?;
    builder.subject = Some(step.id.clone());
    builder.emit(WorkflowEvent::TaskReleased {
        step_id: step.id.clone(),
        visit,
        user_id: command.user_id,
        cause: ReleaseReason::Released,
        reason: command.reason.clone(),
    });
    Ok(())
}

pub(super) fn activity(
    builder: &mut DecisionBuilder<'_>,
    command: &Activity,
) -> Result<(), Refusal> {
    let (step, visit) = claimed_slot(builder, command.step_id.as_deref(), command.user_id, true)?;
    let expires_at = expiry(builder, step);
    builder.subject = Some(step.id.clone());
    builder.emit(WorkflowEvent::ActivityRecorded {
        step_id: step.id.clone(),
        visit,
        user_id: command.user_id,
        expires_at,
        draft: command.draft.is_some(),
    });
    builder.draft = command.draft.clone().map(|draft| Draft {
        task_id: builder.task_id(),
        step_id: step.id.clone(),
        visit,
        user_id: command.user_id,
        draft,
        saved_at: builder.now,
    });
    Ok(())
}

/// The step and visit in which `user` has claimed a slot. Slots can be released during a pause too.
fn claimed_slot<'a>(
    builder: &DecisionBuilder<'a>,
    step_id: Option<&str>,
    user: UserId,
    running: bool,
) -> Result<(&'a StepConfig, u32), Refusal> {
    let step = builder.target_step(step_id, |s| s.kind.takes_submissions())?;
    let state = builder.state()?;
    if running || state.status.is_final() {
        builder.require_running()?;
    }
    if running {
        builder.require_step_running(&step.id)?;
    }
    let visit = require_active(&step.id, state.current_visit(&step.id))?;
    if visit.assignment_of(user).is_none() {
        return Err(Refusal::rejected(
            RejectionCode::NotWaiting,
            format!(
                "annotator {user} holds no slot of step `{}`: claim one with `assign`",
                step.id
            ),
        ));
    }
    Ok((step, visit.number))
}

fn require_takes_submissions(step: &StepConfig) -> Result<(), Refusal> {
    if step.kind.takes_submissions() {
        return Ok(());
    }
    Err(Refusal::rejected(
        RejectionCode::StepNotActive,
        format!(
            "step `{}` is of type {}: nobody is assigned to it",
            step.id,
            step.kind.as_str()
        ),
    ))
}
