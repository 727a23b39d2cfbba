//! Hard rules: no second submission, no missing role, no review of one's own work.

use uuid::Uuid;

use crate::{
    config::StepConfig,
    ids::UserId,
    state::{Visit, WorkflowSnapshot},
};

/// What a person may do with a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// The person has claimed a slot.
    HoldsSlot,
    /// A slot is free.
    FreeSlot,
    /// Every slot is submitted or reserved by a claim.
    Full,
}

impl Eligibility {
    /// What `user` may do with `visit`, as far as slots go: free slots = count − submitted −
    /// reserved. A person with a reservation uses that one.
    pub fn of(visit: &Visit, user: UserId) -> Self {
        if visit.assignment_of(user).is_some() {
            Self::HoldsSlot
        } else if visit.free_slots().is_none_or(|free| free > 0) {
            Self::FreeSlot
        } else {
            Self::Full
        }
    }

    /// Whether `user` may submit to `visit`. Where the step completes by confidence, submissions
    /// are allowed beyond claims: claims are limited to what the step asks for now, while
    /// unsolicited submissions are accepted as long as the answer is not sure and the step's
    /// maximum is not reached.
    pub fn to_submit(step: &StepConfig, visit: &Visit, user: UserId) -> Self {
        let slots = Self::of(visit, user);
        let taken = visit.annotations.len() + visit.assignments.len();
        let room = step
            .most_submissions()
            .is_some_and(|most| u32::try_from(taken).is_ok_and(|taken| taken < most));
        if slots == Self::Full && room {
            Self::FreeSlot
        } else {
            slots
        }
    }
}

/// Whether the visit already has this submission. Submissions are compared by person, or by
/// annotation id where a person may submit more than once.
pub fn submitted(step: &StepConfig, visit: &Visit, user: UserId, annotation: Option<Uuid>) -> bool {
    visit.annotations.iter().any(|accepted| {
        if step.unique_annotators() {
            accepted.user_id == user
        } else {
            Some(accepted.annotation_id) == annotation
        }
    })
}

/// Whether one of `roles` is enough for the step.
pub fn check_roles(step: &StepConfig, roles: &[String]) -> bool {
    let required = step.required_roles();
    required.is_empty() || roles.iter().any(|role| required.contains(role))
}

/// Whether `skills` include all skills that the step requires.
pub fn check_skills(step: &StepConfig, skills: &[String]) -> bool {
    step.required_skills()
        .iter()
        .all(|skill| skills.contains(skill))
}

/// Whether the person is an author of what this visit is about (false where the step allows that),
/// or has done a step that the visit excludes.
pub fn reviews_own_work(
    state: &WorkflowSnapshot,
    step: &StepConfig,
    visit: &Visit,
    user: UserId,
) -> bool {
    let among = |people: Vec<UserId>| people.binary_search(&user).is_ok();
    (step.prevents_reassignment() && among(state.authors(visit)))
        || among(state.excluded_by_work(visit))
}
