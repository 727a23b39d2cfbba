//! What a visit is based on: the visits that led to it, the value that arrived, and whose work is
//! in it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use serde_json::Value;

use super::builder::DecisionBuilder;
use crate::{
    config::{InternalHandler, Performer, StepConfig, SubjectRole},
    events::Judgement,
    executor::settled,
    ids::{StepId, UserId},
    state::{ResolvedBy, ReviewDecision, StepResult, StepVisit, Subject},
};

impl DecisionBuilder<'_> {
    /// The visits whose branches have led to a step that is about to begin: those that wait at its
    /// join, else the last visit of `from` that has ended. A loop waits at no join.
    pub(super) fn arriving(
        &self,
        step_id: &StepId,
        from: Option<&StepId>,
        looped: bool,
    ) -> Vec<StepVisit> {
        let join = self.current().joins.get(step_id).filter(|_| !looped);
        match join {
            Some(join) => join.arrived.clone(),
            None => from
                .and_then(|from| self.current().last_ended(from))
                .into_iter()
                .collect(),
        }
    }

    /// The subject of a step entered from `from`: that step, or the subject of that step if it
    /// makes no annotations of its own.
    pub(super) fn reviewed_through(&self, from: &StepVisit) -> Option<StepVisit> {
        self.works_behind(from).into_iter().next()
    }

    /// Visits whose work a step is based on besides its subject: those of the other branches that
    /// arrived at it, and those of branches joined on the way.
    pub(super) fn reviewed_beside(
        &self,
        arrived: &[StepVisit],
        reviewed: Option<&StepVisit>,
    ) -> Vec<StepVisit> {
        let mut found: Vec<StepVisit> = Vec::new();
        for visit in arrived.iter().flat_map(|from| self.works_behind(from)) {
            if reviewed != Some(&visit) && !found.contains(&visit) {
                found.push(visit);
            }
        }
        found
    }

    /// The visits whose annotations are behind the value of a visit, its subject first. A step that
    /// makes annotations replaces the work before it.
    fn works_behind(&self, from: &StepVisit) -> Vec<StepVisit> {
        if self.step(&from.step_id).kind.spec().makes_subject() {
            return vec![from.clone()];
        }
        let sources = self.named_sources(from);
        if !sources.is_empty() {
            return sources
                .iter()
                .flat_map(|at| self.works_behind(at))
                .collect();
        }
        let Some(visit) = self.current().visit(&from.step_id, from.visit) else {
            return Vec::new();
        };
        let visits = visit.reviewed.iter().chain(&visit.reviewed_with);
        visits.cloned().collect()
    }

    /// The visits whose values a merger or calculator has taken, nearest first, where it names
    /// their steps: they need not be the steps right before it.
    fn named_sources(&self, at: &StepVisit) -> Vec<StepVisit> {
        let step = self.step(&at.step_id);
        let handler = step.handler.as_deref().and_then(InternalHandler::from_name);
        let key = match handler {
            Some(InternalHandler::ResultMerger) => "steps",
            Some(InternalHandler::ConsensusCalculator) => "step",
            Some(InternalHandler::Finalize) | None => return Vec::new(),
        };
        let named = match step.config.as_ref().and_then(|config| config.get(key)) {
            Some(Value::Array(named)) => named.as_slice(),
            Some(named) => std::slice::from_ref(named),
            None => return Vec::new(),
        };
        let Some(visit) = self.current().visit(&at.step_id, at.visit) else {
            return Vec::new();
        };
        let mut found: Vec<StepVisit> = Vec::new();
        for before in self.current().lineage(&at.step_id, visit) {
            let is_named = named.iter().any(|named| *named == *before.step_id);
            if is_named && !found.iter().any(|known| known.step_id == before.step_id) {
                found.push(before);
            }
        }
        found
    }

    /// What the value that a review or adjudication ends with says about the answers of others. None
    /// where no person judged, or where the step asks for something else than they answered.
    pub(super) fn judgement(&self, step: &StepConfig, result: &StepResult) -> Option<Judgement> {
        let judged = matches!(
            result.resolved_by,
            Some(ResolvedBy::Adjudication | ResolvedBy::Review)
        );
        if !judged || step.answer.is_some() || !step.kind.spec().has_subject() {
            return None;
        }
        let visit = self.visit(&step.id);
        let question = self.asked(step, visit);
        let disputed = settled(step, visit).map(|(_, disputed)| disputed);
        let disputed = disputed.filter(|_| question.mode().is_some());
        let disputed = disputed.and_then(Value::as_array).map(|paths| {
            let paths = paths.iter().filter_map(Value::as_str);
            paths.map(|path| question.path_of(path)).collect()
        });
        Some(Judgement {
            of: visit.reviewed.clone()?,
            user_id: visit.annotations.last()?.user_id,
            field: question.field().map(str::to_owned),
            only: disputed,
        })
    }

    /// What a review or adjudication that is about to begin is about; none for any other step.
    pub(super) fn subject_of(
        &self,
        step: &StepConfig,
        arrived: &[StepVisit],
    ) -> Option<Arc<Subject>> {
        if !step.kind.spec().has_subject() {
            return None;
        }
        let (authors, last) = (self.authors_of(arrived), arrived.last());
        let result = last.and_then(|last| self.last_result(last));
        let part = |part: fn(&StepResult) -> Option<&Value>| result.and_then(part).cloned();
        Some(Arc::new(Subject {
            value: part(|result| result.value.as_ref()),
            authors: authors.into_iter().collect(),
            agreed: part(|result| result.agreed.as_ref()),
            disputed: part(|result| result.agreed.as_ref().and(result.disputed.as_ref())),
        }))
    }

    /// The last result on the way that says anything about the value: of a calculator, a merger, a
    /// review that fixed, a child. A review that refused leaves the value before it as the subject,
    /// so that another reviewer can still approve it.
    fn last_result(&self, last: &StepVisit) -> Option<&StepResult> {
        let mut next = Some(last.clone());
        // Each turn goes back to an earlier visit, and there are finitely many.
        while let Some(at) = next {
            let visit = self.current().visit(&at.step_id, at.visit)?;
            let makes = self.step(&at.step_id).kind.spec().makes_subject();
            let result = visit.result.as_ref();
            if makes || result.is_some_and(|result| result.value.is_some()) {
                return result;
            }
            next = self.current().visits_before(&at.step_id, visit).pop();
        }
        None
    }

    /// Everyone whose work is in what arrived by these visits.
    fn authors_of(&self, arrived: &[StepVisit]) -> BTreeSet<UserId> {
        let mut authors = BTreeSet::new();
        let mut waiting: VecDeque<StepVisit> = arrived.iter().cloned().collect();
        let mut seen = BTreeSet::new();
        while let Some(at) = waiting.pop_front() {
            if !seen.insert((at.step_id.clone(), at.visit)) {
                continue;
            }
            let spec = self.step(&at.step_id).kind.spec();
            self.add_workers(&at.step_id, spec.performer, &mut authors);
            let Some(visit) = self.current().visit(&at.step_id, at.visit) else {
                continue;
            };
            match (spec.subject, &visit.subject) {
                // A step that makes annotations replaces the work before it.
                (SubjectRole::Makes, _) => {}
                (SubjectRole::WorksOn, Some(subject)) => authors.extend(&subject.authors),
                (SubjectRole::WorksOn, None) => authors.extend(self.current().authors(visit)),
                (SubjectRole::PassesOn, _) => {
                    let sources = self.named_sources(&at);
                    waiting.extend(if sources.is_empty() {
                        self.current().visits_before(&at.step_id, visit)
                    } else {
                        sources
                    });
                }
            }
        }
        authors
    }

    /// Adds those whose work a step's value is, over all its visits.
    fn add_workers(&self, step_id: &StepId, performer: Performer, authors: &mut BTreeSet<UserId>) {
        let visits = self.current().steps.get(step_id);
        for visit in visits.into_iter().flat_map(|step| &step.visits) {
            let annotations = visit.annotations.iter();
            match performer {
                Performer::Annotators => {
                    authors.extend(annotations.map(|given| given.user_id));
                }
                // Who approves or refuses has made nothing.
                Performer::Person => authors.extend(
                    annotations
                        .filter(|given| match given.review_decision() {
                            None | Some(ReviewDecision::Fix) => true,
                            Some(
                                ReviewDecision::Approve
                                | ReviewDecision::Reject
                                | ReviewDecision::RequestChanges,
                            ) => false,
                        })
                        .map(|given| given.user_id),
                ),
                Performer::ChildTask => {
                    let child = visit.child.as_ref().and_then(|c| c.outcome.as_ref());
                    authors.extend(child.into_iter().flat_map(|outcome| &outcome.people));
                }
                Performer::Handler | Performer::Expression => {}
            }
        }
    }
}
