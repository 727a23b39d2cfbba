//! Who may not work on a visit because of work that they have done.

use std::collections::BTreeSet;

use super::{Visit, WorkflowSnapshot};
use crate::ids::{StepId, UserId};

impl WorkflowSnapshot {
    /// The authors of what a visit is about, sorted. Visits from before subjects were settled on
    /// entry have those who submitted to the step under review.
    pub fn authors(&self, visit: &Visit) -> Vec<UserId> {
        if let Some(subject) = &visit.subject {
            return subject.authors.clone();
        }
        let steps = visit.reviewed.iter().chain(&visit.reviewed_with);
        self.submitters(steps.map(|reviewed| &reviewed.step_id))
    }

    /// Everyone excluded from a visit because of work on the steps that it names, sorted.
    pub fn excluded_by_work(&self, visit: &Visit) -> Vec<UserId> {
        self.submitters(visit.not_who_did.iter())
    }

    /// Everyone who has submitted to one of the steps, in any visit, sorted.
    fn submitters<'s>(&self, steps: impl Iterator<Item = &'s StepId>) -> Vec<UserId> {
        let visits = steps
            .filter_map(|step| self.steps.get(step))
            .flat_map(|step| &step.visits);
        let people: BTreeSet<UserId> = visits
            .flat_map(|visit| &visit.annotations)
            .map(|given| given.user_id)
            .collect();
        people.into_iter().collect()
    }
}
