//! Which visits have led to a visit.

use std::collections::{BTreeSet, VecDeque};

use super::{StepVisit, Visit, VisitStatus, WorkflowSnapshot};
use crate::ids::StepId;

impl WorkflowSnapshot {
    /// The visits that led to one. A visit that a bounded transition began goes on from where its
    /// step was entered before: what the earlier round said is gone.
    ///
    /// Visits from before this was recorded have the last ended visit of the step they were entered
    /// from.
    pub fn visits_before(&self, step_id: &StepId, visit: &Visit) -> Vec<StepVisit> {
        let visits = self.steps.get(step_id).map_or(&[][..], |s| &s.visits);
        let mut back = visits.iter().rev().filter(|v| v.number <= visit.number);
        let Some(entry) = back.find(|visit| !visit.looped) else {
            return Vec::new();
        };
        if !entry.arrived.is_empty() {
            return entry.arrived.clone();
        }
        let from = entry.entered_from.as_ref();
        from.and_then(|from| self.last_ended(from))
            .into_iter()
            .collect()
    }

    /// Every visit that has led to one, nearest first, without what earlier rounds said.
    pub fn lineage(&self, step_id: &StepId, visit: &Visit) -> Vec<StepVisit> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut waiting: VecDeque<StepVisit> = self.visits_before(step_id, visit).into();
        while let Some(at) = waiting.pop_front() {
            if !seen.insert((at.step_id.clone(), at.visit)) {
                continue;
            }
            if let Some(visit) = self.visit(&at.step_id, at.visit) {
                waiting.extend(self.visits_before(&at.step_id, visit));
            }
            found.push(at);
        }
        found
    }

    /// The last visit of a step that has ended: a loop may have begun the next one already.
    pub fn last_ended(&self, step_id: &StepId) -> Option<StepVisit> {
        let visits = &self.steps.get(step_id)?.visits;
        let ended = |visit: &&Visit| visit.status != VisitStatus::Active;
        let visit = visits.iter().rev().find(ended)?;
        Some(StepVisit {
            step_id: step_id.clone(),
            visit: visit.number,
        })
    }
}
