//! Claimed slots, and submissions.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    events::ReleaseReason,
    ids::UserId,
    state::{AnnotationData, Assignment, Visit},
};

/// A person has claimed a slot.
pub(super) fn assigned(visit: &mut Visit, assignment: Assignment) {
    visit.assignments_made = assignment.n;
    visit.assignments.push(assignment);
}

/// A person was active in a claimed slot.
pub(super) fn active(visit: &mut Visit, user: UserId, expires_at: DateTime<Utc>) {
    let held = visit.assignments.iter_mut();
    for assignment in held.filter(|a| a.user_id == user) {
        assignment.expires_at = expires_at;
    }
    // Whoever is at work is not interrupted by closing the visit early.
    visit.closes_at = visit.closes_at.map(|at| at.max(expires_at));
}

/// A person has released or lost a slot.
pub(super) fn released(visit: &mut Visit, user: UserId, cause: ReleaseReason) {
    visit.assignments.retain(|a| a.user_id != user);
    match cause {
        ReleaseReason::Reassigned => visit.excluded.push(user),
        ReleaseReason::Released if !visit.released.contains(&user) => visit.released.push(user),
        ReleaseReason::Released | ReleaseReason::Inactivity | ReleaseReason::StepEnded => {}
    }
}

/// A person has submitted.
pub(super) fn submitted(
    visit: &mut Visit,
    annotation: &Arc<AnnotationData>,
    closes_at: Option<DateTime<Utc>>,
) {
    visit
        .assignments
        .retain(|a| a.user_id != annotation.user_id);
    visit.annotations.push(Arc::clone(annotation));
    visit.closes_at = closes_at;
}
