//! Inactivity: when claims expire, when visits are closed early, and who has lost a slot.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{builder::DecisionBuilder, decision::Refusal};
use crate::{
    command::RejectionCode,
    config::{StepConfig, TimeoutAction, WorkflowConfig},
    ids::UserId,
    limits::INACTIVITY_MAX,
    state::{Visit, VisitStatus},
};

/// When a slot claimed or kept now expires; never later than the limit.
pub(super) fn expiry(builder: &DecisionBuilder<'_>, step: &StepConfig) -> DateTime<Utc> {
    builder.now + inactivity(builder.config(), step)
}

/// The inactivity after which a step's timeout action follows.
fn inactivity(workflow: &WorkflowConfig, step: &StepConfig) -> Duration {
    let completion = step.completion.as_ref();
    let timeout = completion.and_then(|completion| completion.timeout);
    let timeout = timeout.unwrap_or(workflow.settings.default_timeout);
    timeout.get().min(INACTIVITY_MAX)
}

/// The time after a submission after which a visit with `submitted` submissions is closed with what
/// it has, if its step says so (timeout action `proceed`) and they are enough.
pub(super) fn closes_after(
    workflow: &WorkflowConfig,
    step: &StepConfig,
    submitted: usize,
) -> Option<Duration> {
    let enough = u32::try_from(submitted).is_ok_and(|n| n >= step.min_required().max(1));
    (step.timeout_action() == TimeoutAction::Proceed && enough).then(|| inactivity(workflow, step))
}

/// When the visit is closed early, if the submission that is made now is the last one.
pub(super) fn closes_at(builder: &DecisionBuilder<'_>, step: &StepConfig) -> Option<DateTime<Utc>> {
    let submitted = builder.visit(&step.id).annotations.len() + 1;
    closes_after(builder.config(), step, submitted).map(|after| builder.now + after)
}

/// Refuses people whose slot in the visit was given to others for their inactivity.
pub(super) fn refuse_excluded(
    step: &StepConfig,
    visit: &Visit,
    user: UserId,
) -> Result<(), Refusal> {
    if visit.status != VisitStatus::Active || !visit.excluded.contains(&user) {
        return Ok(());
    }
    Err(Refusal::rejected(
        RejectionCode::Surplus,
        format!(
            "annotator {user} was inactive for too long in visit {} of step `{}`, and its \
             `timeout_action: reassign` gives the slot to somebody else",
            visit.number, step.id
        ),
    ))
}
