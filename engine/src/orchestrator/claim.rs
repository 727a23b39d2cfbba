//! Claiming the next task: a person asks for work and gets a slot.
//!
//! Candidates are read without a lock, then claimed one at a time under the lock of the task's
//! head, by the same decision as an `assign`: so overlap is never exceeded and nobody comes twice,
//! whatever the index said. Who was too late for a candidate goes on with the next; nothing is
//! recorded of that. Claims of one person run one at a time under a lock of their own, taken before
//! the head, under which the slots that the person holds are counted.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    OrchestrationError, WorkflowOrchestrator,
    candidates::offers,
    chain::{ChainEnd, Run},
};
use crate::{
    assignment::{Eligibility, Offer, offer_order, probe_order},
    command::{
        Assign, Claim, ClaimRequest, Command, CommandEnvelope, Dead, Outcome, ShownAnnotation,
    },
    config::StepConfig,
    events::OfferBasis,
    executor::annotators::Annotators,
    ids::{StepId, TaskId, UserId},
    state::{OpenSlot, WorkflowSnapshot},
    store::{Claimant, CommandRow, OpenRequest, RecordedOutcome, Store, TaskWrite},
};

/// Rounds: how often candidates are read anew where every one of them was claimed by others first
/// or was busy. Beyond it the answer is that nothing is free.
const ROUNDS_MAX: u32 = 4;

/// What the inbox keeps of a claim.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RecordedClaim {
    task_id: TaskId,
    step_id: StepId,
    visit: u32,
    user_id: UserId,
    expires_at: DateTime<Utc>,
}

/// What became of one candidate.
enum Attempt {
    Claimed(RecordedClaim, Box<WorkflowSnapshot>),
    /// The id is in the inbox.
    Known(CommandRow),
    /// Somebody was faster, or the task is not what it was.
    Lost,
    /// The person holds as many slots as the step allows.
    Enough,
}

impl WorkflowOrchestrator {
    /// Claims a slot for a person who asks for work; none where nothing is free that the person
    /// may take. The same id again answers the same slot; where it got none it is not kept, and
    /// asks anew.
    ///
    /// `store` is the same store as this orchestrator's.
    ///
    /// # Errors
    ///
    /// [`Dead::WorkflowNotFound`] and [`RejectionCode::UnknownStep`](crate::command::RejectionCode::UnknownStep) where there is nothing of that
    /// name, [`Dead::CommandIdReused`] where the id stands for something else, and what the store
    /// fails with.
    pub async fn claim_next(
        &self,
        store: &dyn Store,
        request: &ClaimRequest,
    ) -> Result<Option<Claim>, OrchestrationError> {
        if let Some(known) = store.command(request.command_id).await? {
            return self.known_claim(store, request, known).await;
        }
        let mut steps = self.offered_steps(store, request).await?;
        self.take_priorities(request.user_id, request.command_id, &mut steps)
            .await?;
        for round in 1..=ROUNDS_MAX {
            // Passing over what others write to is fast while there is more; the last round waits
            // instead, so that "nothing is free" is never said of what was only busy.
            let waits = round == ROUNDS_MAX;
            // Who was too late for every gold task gets another one rather than none.
            let draws_gold = round == 1;
            let mut offers = offers(store, request, &steps, draws_gold).await?;
            if offers.is_empty() {
                return Ok(None);
            }
            offer_order(&mut offers);
            for tried in 0..offers.len() {
                let Offer { slot, priority, .. } = offers[tried].clone();
                let Some(offered) = steps.iter().find(|offered| offered.has(&slot)) else {
                    continue;
                };
                let basis = offered.claim_priority.basis(&slot, priority);
                match self.try_claim(request, &slot, basis, waits).await? {
                    Attempt::Claimed(claim, state) => {
                        return self.claimed(store, claim, Some(*state)).await.map(Some);
                    }
                    Attempt::Known(row) => return self.known_claim(store, request, row).await,
                    Attempt::Lost => {}
                    // The step has nothing for this person; others may allow more.
                    Attempt::Enough => steps.retain(|offered| !offered.has(&slot)),
                }
                if tried == 0 {
                    probe_order(&mut offers[1..], request.user_id);
                }
            }
        }
        Ok(None)
    }

    /// Claims one candidate, if it is still free for this person.
    async fn try_claim(
        &self,
        request: &ClaimRequest,
        slot: &OpenSlot,
        offered: Option<OfferBasis>,
        waits: bool,
    ) -> Result<Attempt, OrchestrationError> {
        let task = slot.task_id;
        let commands = [assignment(request, slot, offered)];
        let cached = self.states.get(task);
        let version = cached.as_ref().map_or(0, |state| state.version);
        let mut open = self
            .event_store
            .open(OpenRequest {
                tasks: [(task, version)].into(),
                commands: vec![request.command_id],
                publisher: None,
                claimant: Some(Claimant {
                    user_id: request.user_id,
                    waits,
                }),
            })
            .await?;
        if let Some(known) = open.known(request.command_id) {
            return Ok(Attempt::Known(known.clone()));
        }
        let opened = open.take_task(task);
        if opened.version == 0 {
            return Ok(Attempt::Lost);
        }
        let mut run = Run::new(self, &commands, HashMap::new(), &open);
        let state = run.catch_up(cached.as_ref(), opened)?;
        run.load_workflow(state.as_ref()).await?;
        let free = |state: &&WorkflowSnapshot| is_free(state, slot, request.user_id);
        let Some(free) = state.as_ref().filter(free) else {
            return Ok(Attempt::Lost);
        };
        let most = self.max_concurrent(free, &slot.step_id).await?;
        if most.is_some_and(|most| open.claimed_by_claimant >= most) {
            return Ok(Attempt::Enough);
        }
        // Claims are about slots, not about answers.
        let annotators = Annotators::default();
        let end = run.run_chain(task, state, &[0], &open, annotators);
        let applied = matches!(run.outcomes.first(), Some(Some(Outcome::Applied(_))));
        // A refusal is the next candidate's chance, and is not recorded: nobody asked for this one.
        let granted = applied.then(|| granted(request, slot, end)).flatten();
        let Some((claim, state, write)) = granted else {
            return Ok(Attempt::Lost);
        };
        // What another process then finds there is read under its own lock; an unknown commit is
        // asked for again under the same id.
        let committed = open.commit(vec![write]).await;
        if committed.is_err() {
            self.states.forget(task);
        }
        committed?;
        self.states.put(state.clone());
        Ok(Attempt::Claimed(claim, Box::new(state)))
    }

    /// How many slots of a step one person may hold at a time; none where it does not say.
    async fn max_concurrent(
        &self,
        state: &WorkflowSnapshot,
        step: &StepId,
    ) -> Result<Option<u32>, OrchestrationError> {
        let compiled = self.compiled(state.workflow.revision_id.0).await?;
        let config = compiled.config().step(step);
        Ok(config.and_then(StepConfig::max_concurrent))
    }

    /// The slot that an id got before.
    async fn known_claim(
        &self,
        store: &dyn Store,
        request: &ClaimRequest,
        known: CommandRow,
    ) -> Result<Option<Claim>, OrchestrationError> {
        let claim = match known.outcome {
            RecordedOutcome::Applied { result } if known.content_hash == request.content_hash() => {
                serde_json::from_value::<RecordedClaim>(result).ok()
            }
            RecordedOutcome::Applied { .. } | RecordedOutcome::Rejected { .. } => None,
        };
        match claim {
            Some(claim) => self.claimed(store, claim, None).await.map(Some),
            None => Err(OrchestrationError::Dead(Dead::CommandIdReused)),
        }
    }

    /// What the person needs to begin.
    async fn claimed(
        &self,
        store: &dyn Store,
        claim: RecordedClaim,
        state: Option<WorkflowSnapshot>,
    ) -> Result<Claim, OrchestrationError> {
        let state = match state {
            Some(state) => Arc::new(state),
            None => Arc::new(self.get_task_state(claim.task_id.0).await?.into_snapshot()),
        };
        let drafts = store.drafts(claim.task_id).await?;
        let draft = drafts.into_iter().find(|draft| {
            draft.step_id == claim.step_id
                && draft.visit == claim.visit
                && draft.user_id == claim.user_id
        });
        let visit = state.visit(&claim.step_id, claim.visit);
        let judged = visit
            .and_then(|visit| visit.reviewed.as_ref())
            .and_then(|judged| state.visit(&judged.step_id, judged.visit));
        let judged = judged.map_or(&[][..], |visit| &visit.annotations);
        Ok(Claim {
            task_id: claim.task_id,
            workflow: state.workflow.workflow.clone(),
            revision: state.workflow.revision,
            step_id: claim.step_id,
            visit: claim.visit,
            user_id: claim.user_id,
            expires_at: claim.expires_at,
            input: state.input.clone(),
            labels: state.labels.clone(),
            judged: judged
                .iter()
                .map(|annotation| ShownAnnotation {
                    annotation_id: annotation.annotation_id,
                    data: annotation.data.clone(),
                })
                .collect(),
            draft: draft.map(|draft| draft.draft),
        })
    }
}

/// The command that a candidate is claimed by. It stands for the request: its id and its hash are
/// those of the claim, whichever candidate it is.
fn assignment(
    request: &ClaimRequest,
    slot: &OpenSlot,
    offered: Option<OfferBasis>,
) -> CommandEnvelope {
    CommandEnvelope {
        command_id: request.command_id,
        content_hash: request.content_hash(),
        correlation_id: request.correlation_id.clone(),
        traceparent: request.traceparent.clone(),
        command: Command::Assign(Assign {
            task_id: slot.task_id,
            step_id: Some(slot.step_id.to_string()),
            user_id: request.user_id,
            roles: (!request.roles.is_empty()).then(|| request.roles.clone()),
            offered,
        }),
    }
}

/// The claim that a decision has granted, the state after it, and what is to be written: the inbox
/// keeps the claim as the result, from which a repetition is answered.
fn granted(
    request: &ClaimRequest,
    slot: &OpenSlot,
    end: ChainEnd,
) -> Option<(RecordedClaim, WorkflowSnapshot, TaskWrite)> {
    let (state, mut write) = (end.state?, end.write?);
    let visit = state.current_visit(&slot.step_id)?;
    let claim = RecordedClaim {
        task_id: slot.task_id,
        step_id: slot.step_id.clone(),
        visit: slot.visit,
        user_id: request.user_id,
        expires_at: visit.assignment_of(request.user_id)?.expires_at,
    };
    for record in &mut write.commands {
        record.outcome = RecordedOutcome::Applied {
            result: serde_json::to_value(&claim).unwrap_or_default(),
        };
    }
    Some((claim, state, write))
}

/// Whether the candidate is still what the index said, and free for this person.
fn is_free(state: &WorkflowSnapshot, slot: &OpenSlot, user: UserId) -> bool {
    let visit = state.current_visit(&slot.step_id);
    state.workflow.revision_id == slot.revision_id
        && visit.is_some_and(|visit| {
            visit.number == slot.visit
                && !visit.excluded.contains(&user)
                && visit.annotations.iter().all(|a| a.user_id != user)
                && Eligibility::of(visit, user) == Eligibility::FreeSlot
        })
}
