//! Candidates for a claim: the steps that are open to a person, and their open slots.
//!
//! They are read without a lock, so a candidate may be gone when it is claimed.

use std::collections::HashSet;

use super::{
    OrchestrationError, WorkflowOrchestrator,
    offer::{ClaimPriority, OfferedStep},
};
use crate::{
    assignment::{Offer, check_roles, check_skills, is_for_gold},
    command::{ClaimRequest, Dead, Rejection, RejectionCode},
    config::StepConfig,
    ids::{RevisionId, TaskId, WorkflowId, WorkflowSelector},
    store::{AnnotatorPause, SlotOrder, SlotQuery, Store},
};

/// Candidates of one step that are considered in a round.
const WINDOW: u32 = 64;

impl WorkflowOrchestrator {
    /// Steps in which the person may work according to their revisions.
    pub(super) async fn offered_steps(
        &self,
        store: &dyn Store,
        request: &ClaimRequest,
    ) -> Result<Vec<OfferedStep>, OrchestrationError> {
        let (workflow, revision) = self.named_workflow(request).await?;
        let open = store
            .open_steps(workflow.as_ref(), request.step.as_ref())
            .await?;
        // An annotator who is paused in a workflow is offered nothing there, not even gold tasks.
        let mut pauses = store.annotator_pauses(Some(request.user_id)).await?;
        pauses.retain(AnnotatorPause::is_open);
        let mut offered = Vec::new();
        for step in open {
            if revision.is_some_and(|revision| revision != step.revision_id) {
                continue;
            }
            let compiled = self.compiled(step.revision_id.0).await?;
            let workflow = &compiled.config().id;
            if pauses.iter().any(|pause| pause.workflow == *workflow) {
                continue;
            }
            let config = compiled.config().step(&step.step_id);
            let may = |config: &&StepConfig| {
                config.kind.takes_submissions()
                    && check_roles(config, &request.roles)
                    && check_skills(config, &request.skills)
            };
            offered.extend(config.filter(may).map(|config| OfferedStep {
                step,
                workflow: compiled.config().id.clone(),
                config: config.clone(),
                gold_share: compiled.config().gold.as_ref().map(|gold| gold.share),
                claim_priority: ClaimPriority::default(),
            }));
        }
        Ok(offered)
    }

    /// Whether the person has claimed as many slots as a step allows, of those steps that the
    /// request is about: the ones that are open to the person, and those where the person has
    /// claimed a slot.
    pub async fn is_at_limit(
        &self,
        store: &dyn Store,
        request: &ClaimRequest,
    ) -> Result<bool, OrchestrationError> {
        let claimed = store.claimed_slots(request.user_id).await?;
        let reached = |step: &StepConfig| {
            let most = step.max_concurrent();
            most.is_some_and(|most| claimed.len() >= most as usize)
        };
        if claimed.is_empty() {
            return Ok(false);
        }
        let open = self.offered_steps(store, request).await?;
        if open.iter().any(|offered| reached(&offered.config)) {
            return Ok(true);
        }
        let (workflow, revision) = self.named_workflow(request).await?;
        for slot in claimed.iter().take(WINDOW as usize) {
            let Some(task) = store.task(slot.task_id).await? else {
                continue;
            };
            let asked = workflow.as_ref().is_none_or(|id| task.workflow == *id)
                && revision.is_none_or(|id| task.revision_id == id)
                && request.step.as_ref().is_none_or(|id| slot.step_id == *id);
            let compiled = self.compiled(task.revision_id.0).await?;
            let step = compiled.config().step(&slot.step_id);
            if asked && step.is_some_and(reached) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The workflow that a request names, and the revision if it names one.
    pub(super) async fn named_workflow(
        &self,
        request: &ClaimRequest,
    ) -> Result<(Option<WorkflowId>, Option<RevisionId>), OrchestrationError> {
        let Some(selector) = &request.workflow else {
            return Ok((None, None));
        };
        let found = self
            .workflows
            .resolve(std::slice::from_ref(selector))
            .await?;
        let Some(workflow) = found.get(selector) else {
            return Err(OrchestrationError::Dead(Dead::WorkflowNotFound(
                selector.to_string(),
            )));
        };
        let config = workflow.config();
        let is_latest = matches!(selector, WorkflowSelector::Latest(_));
        let step = request.step.as_ref();
        // An unknown step is only reported if no older revision can have it.
        if let Some(step) = step.filter(|step| config.step(step).is_none())
            && (!is_latest || config.revision == 1)
        {
            return Err(OrchestrationError::Rejected(Rejection {
                code: RejectionCode::UnknownStep,
                detail: format!("workflow `{}` has no step `{step}`", config.id),
            }));
        }
        let revision = (!is_latest).then_some(config.revision_id);
        Ok((Some(config.id.clone()), revision))
    }
}

/// Open slots that the person may claim, of all offered steps.
///
/// If the workflow file sets a share of gold tasks, the claim's id decides whether the claim is for
/// gold: so a repetition decides the same, and many claims have that share. A claim for gold falls
/// back to other tasks if there is no gold, or only gold that the person has released, and never
/// the other way.
pub(super) async fn offers(
    store: &dyn Store,
    request: &ClaimRequest,
    steps: &[OfferedStep],
    draws_gold: bool,
) -> Result<Vec<Offer>, OrchestrationError> {
    let mut offers = Vec::new();
    for offered in steps {
        let share = offered.gold_share.filter(|_| draws_gold);
        if share.is_some_and(|share| is_for_gold(request.command_id, share)) {
            offers.extend(slots(store, request, offered, true).await?);
        }
    }
    let released = |offer: &Offer| offer.slot.released.contains(&request.user_id);
    if !offers.iter().all(released) {
        return Ok(offers);
    }
    for offered in steps {
        offers.extend(slots(store, request, offered, false).await?);
        if offered.gold_share.is_none() {
            offers.extend(slots(store, request, offered, true).await?);
        }
    }
    Ok(offers)
}

/// Open slots of one step. If the claim prefers begun tasks, the oldest of those are included,
/// however many fresh tasks there are.
async fn slots(
    store: &dyn Store,
    request: &ClaimRequest,
    offered: &OfferedStep,
    gold: bool,
) -> Result<Vec<Offer>, OrchestrationError> {
    let query = |order| SlotQuery {
        step: offered.step.clone(),
        gold,
        user: request.user_id,
        prevents_reassignment: offered.config.prevents_reassignment(),
        order,
        limit: WINDOW,
    };
    let mut slots = store.open_slots(query(SlotOrder::FewestPeople)).await?;
    if offered.claim_priority.prefers_begun() {
        let fewest: HashSet<TaskId> = slots.iter().map(|slot| slot.task_id).collect();
        let begun = store.open_slots(query(SlotOrder::OldestBegun)).await?;
        slots.extend(begun.into_iter().filter(|p| !fewest.contains(&p.task_id)));
    }
    let strategy = offered.config.load_balancing();
    Ok(offered.claim_priority.offers(slots, strategy))
}
