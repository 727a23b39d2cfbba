//! Claiming the next task: a person asks for work and gets a slot.
//!
//! Candidates are read without a lock, then tried one at a time under the lock of the task's head,
//! by the same decision as an `assign`. So overlap is never exceeded and no one gets a task twice,
//! even if the index was stale. A claim that is too late for a candidate tries the next one, and
//! records nothing of the failure. Claims of one person run one at a time under a lock of their
//! own, taken before the head; the person's claimed slots are counted under it.

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
    command::{Activity, Assign, Claim, ClaimRequest, Command, CommandEnvelope, Dead, Outcome},
    config::StepConfig,
    events::OfferBasis,
    executor::annotators::Annotators,
    ids::{StepId, TaskId, UserId},
    state::{ClaimedSlot, OpenSlot, WorkflowSnapshot},
    store::{CommandRow, OnLocked, OpenRequest, RecordedOutcome, Store, TaskWrite},
};

/// How often candidates are read when every one of them was busy or claimed by others first. After
/// that, the claim reports that nothing is open.
const ROUNDS_MAX: u32 = 4;
/// Slots held by one person that are considered when one of them is given back.
const HELD_MAX: usize = 64;

/// The result of a claim in the inbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RecordedClaim {
    task_id: TaskId,
    step_id: StepId,
    visit: u32,
    user_id: UserId,
    expires_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    resumed: bool,
}

/// The slot that a claim tries to get.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// An open one.
    Open(&'a OpenSlot, &'a Option<OfferBasis>),
    /// One that the person holds already.
    Held(&'a ClaimedSlot),
}

/// The outcome for one candidate.
enum Attempt {
    Claimed(RecordedClaim, Box<WorkflowSnapshot>),
    /// The id is in the inbox.
    Known(CommandRow),
    /// Another person was faster, or the task has changed.
    Lost,
    /// The person has claimed as many slots as the step allows.
    Enough,
}

impl WorkflowOrchestrator {
    /// Claims a slot for a person who asks for work; none if no slot is open to the person. A slot
    /// that the person holds comes first, unless the request is for a fresh one; its time begins
    /// anew. The same id again returns the same slot. If the id got none, it is not recorded, and a
    /// repetition searches again.
    ///
    /// `store` is the same store as this orchestrator's.
    ///
    /// # Errors
    ///
    /// [`Dead::WorkflowNotFound`] and
    /// [`RejectionCode::UnknownStep`](crate::command::RejectionCode::UnknownStep) if the name is
    /// unknown, [`Dead::CommandIdReused`] if the id was used for something else, and errors of the
    /// store.
    pub async fn claim_next(
        &self,
        store: &dyn Store,
        request: &ClaimRequest,
    ) -> Result<Option<Claim>, OrchestrationError> {
        if let Some(known) = store.command(request.command_id).await? {
            return self.known_claim(store, request, known).await;
        }
        if !request.fresh
            && let Some(claim) = self.resume(store, request).await?
        {
            return Ok(Some(claim));
        }
        let mut steps = self.offered_steps(store, request).await?;
        self.take_priorities(request.user_id, request.command_id, &mut steps)
            .await?;
        for round in 1..=ROUNDS_MAX {
            // Skipping tasks that others are writing to is fast while there are more candidates.
            // The last round waits for them instead, so that busy slots are never reported as none.
            let waits = round == ROUNDS_MAX;
            let on_locked = if waits {
                OnLocked::Wait
            } else {
                OnLocked::PassOver { others: None }
            };
            // A claim that was too late for every gold task gets another task rather than none.
            let draws_gold = round == 1;
            let mut offers = offers(store, request, &steps, draws_gold).await?;
            if offers.is_empty() {
                return Ok(None);
            }
            offer_order(&mut offers, request.user_id);
            for tried in 0..offers.len() {
                let Offer { slot, priority, .. } = offers[tried].clone();
                let Some(offered) = steps.iter().find(|offered| offered.has(&slot)) else {
                    continue;
                };
                // What the person gave back is for when nothing else is there, not for when all
                // else is busy for a moment.
                if tried > 0 && !waits && slot.released.contains(&request.user_id) {
                    break;
                }
                let basis = offered.claim_priority.basis(&slot, priority);
                let wanted = Wanted::Open(&slot, &basis);
                match self.try_claim(request, wanted, on_locked).await? {
                    Attempt::Claimed(claim, state) => {
                        return self.claimed(store, claim, Some(*state)).await.map(Some);
                    }
                    Attempt::Known(row) => return self.known_claim(store, request, row).await,
                    Attempt::Lost => {}
                    // This step allows the person no more slots; other steps may.
                    Attempt::Enough => steps.retain(|offered| !offered.has(&slot)),
                }
                if tried == 0 {
                    probe_order(&mut offers[1..], request.user_id);
                }
            }
        }
        Ok(None)
    }

    /// Gives a held slot back to its person: of those that the request is about, the one whose time
    /// ends first. None if the person holds none in which work goes on.
    async fn resume(
        &self,
        store: &dyn Store,
        request: &ClaimRequest,
    ) -> Result<Option<Claim>, OrchestrationError> {
        let mut claimed = store.claimed_slots(request.user_id).await?;
        claimed.retain(|slot| {
            request
                .step
                .as_ref()
                .is_none_or(|step| slot.step_id == *step)
        });
        if claimed.is_empty() {
            return Ok(None);
        }
        claimed.truncate(HELD_MAX);
        let (workflow, revision) = self.named_workflow(request).await?;
        let mut tasks: Vec<TaskId> = claimed.iter().map(|slot| slot.task_id).collect();
        tasks.dedup();
        let states = self.event_store.load(&tasks).await?;
        let mut held: Vec<(DateTime<Utc>, ClaimedSlot)> = claimed
            .into_iter()
            .filter_map(|slot| {
                let state = states.get(&slot.task_id)?;
                let asked = workflow
                    .as_ref()
                    .is_none_or(|id| state.workflow.workflow == *id)
                    && revision.is_none_or(|id| state.workflow.revision_id == id);
                let visit = state.current_visit(&slot.step_id).filter(|_| asked)?;
                let expires_at = visit.assignment_of(request.user_id)?.expires_at;
                Some((expires_at, slot))
            })
            .collect();
        held.sort();
        for (_, slot) in held {
            match self
                .try_claim(request, Wanted::Held(&slot), OnLocked::Wait)
                .await?
            {
                Attempt::Claimed(claim, state) => {
                    return self.claimed(store, claim, Some(*state)).await.map(Some);
                }
                Attempt::Known(row) => return self.known_claim(store, request, row).await,
                // It has run out, or its task is paused.
                Attempt::Lost | Attempt::Enough => {}
            }
        }
        Ok(None)
    }

    /// Claims one candidate, if it is still open to this person.
    async fn try_claim(
        &self,
        request: &ClaimRequest,
        wanted: Wanted<'_>,
        on_locked: OnLocked,
    ) -> Result<Attempt, OrchestrationError> {
        let task = wanted.task();
        let commands = [Arc::new(wanted.command(request))];
        let cached = self.states.get(task);
        let version = cached.as_ref().map_or(0, |state| state.version);
        let mut open = self
            .event_store
            .open(OpenRequest {
                tasks: [(task, version)].into(),
                last_decided: cached
                    .iter()
                    .map(|state| (task, state.updated_at))
                    .collect(),
                commands: vec![request.command_id],
                claimant: Some(request.user_id),
                on_locked,
                ..OpenRequest::default()
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
        let there = |state: &&WorkflowSnapshot| wanted.is_there(state, request.user_id);
        let Some(there) = state.as_ref().filter(there) else {
            return Ok(Attempt::Lost);
        };
        if let Wanted::Open(slot, _) = wanted {
            let most = self.max_concurrent(there, &slot.step_id).await?;
            if most.is_some_and(|most| open.claimed_by_claimant >= most) {
                return Ok(Attempt::Enough);
            }
        }
        // Assigning a slot compares no answers, so it needs no annotator models.
        let annotators = Annotators::default();
        let end = run.run_chain(task, state, &[0], &open, annotators);
        let applied = matches!(run.outcomes.first(), Some(Some(Outcome::Applied(_))));
        // A refusal is not recorded, because the person did not ask for this candidate; the next
        // one is tried.
        let granted = applied.then(|| granted(request, wanted, end)).flatten();
        let Some((claim, state, write)) = granted else {
            return Ok(Attempt::Lost);
        };
        // Another process reads the result under its own lock. After an unknown commit, the caller
        // repeats the claim under the same id.
        let committed = open.commit(vec![write]).await;
        if committed.is_err() {
            self.states.forget(task);
        }
        committed?;
        self.states.put(state.clone());
        Ok(Attempt::Claimed(claim, Box::new(state)))
    }

    /// How many slots of a step one person may have claimed at a time; none if unlimited.
    async fn max_concurrent(
        &self,
        state: &WorkflowSnapshot,
        step: &StepId,
    ) -> Result<Option<u32>, OrchestrationError> {
        let compiled = self.compiled(state.workflow.revision_id.0).await?;
        let config = compiled.config().step(step);
        Ok(config.and_then(StepConfig::max_concurrent))
    }

    /// The slot that an id got earlier.
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

    /// The claim, with everything the person needs to begin.
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
        let compiled = self.compiled(state.workflow.revision_id.0).await?;
        let show = compiled.config().step(&claim.step_id);
        let show = show.map_or(&[][..], StepConfig::shows);
        let work = visit.map(|visit| state.shown_work(&claim.step_id, visit, show));
        Ok(Claim {
            task_id: claim.task_id,
            workflow: state.workflow.workflow.clone(),
            revision: state.workflow.revision,
            step_id: claim.step_id,
            visit: claim.visit,
            user_id: claim.user_id,
            expires_at: claim.expires_at,
            resumed: claim.resumed,
            input: state.input.clone(),
            labels: state.labels.clone(),
            work: work.unwrap_or_default(),
            prepared: visit.and_then(|visit| visit.prepared.clone()),
            draft: draft.map(|draft| draft.draft),
        })
    }
}

impl Wanted<'_> {
    fn task(self) -> TaskId {
        match self {
            Self::Open(slot, _) => slot.task_id,
            Self::Held(slot) => slot.task_id,
        }
    }

    fn step(&self) -> &StepId {
        match self {
            Self::Open(slot, _) => &slot.step_id,
            Self::Held(slot) => &slot.step_id,
        }
    }

    /// The command that claims it. Its id and hash are those of the request, whichever candidate it
    /// is for. A slot that is held is kept by what keeps it else: activity.
    fn command(self, request: &ClaimRequest) -> CommandEnvelope {
        let command = match self {
            Self::Open(slot, offered) => Command::Assign(Assign {
                task_id: slot.task_id,
                step_id: Some(slot.step_id.to_string()),
                user_id: request.user_id,
                roles: (!request.roles.is_empty()).then(|| request.roles.clone()),
                offered: offered.clone(),
            }),
            Self::Held(slot) => Command::Activity(Activity {
                task_id: slot.task_id,
                step_id: Some(slot.step_id.to_string()),
                user_id: request.user_id,
                draft: None,
            }),
        };
        CommandEnvelope {
            command_id: request.command_id,
            content_hash: request.content_hash(),
            content_bytes: 0,
            correlation_id: request.correlation_id.clone(),
            traceparent: request.traceparent.clone(),
            sender: request.sender.clone(),
            command,
        }
    }

    /// Whether the slot is still as the index said, and open to this person or held by the person.
    fn is_there(self, state: &WorkflowSnapshot, user: UserId) -> bool {
        let Some(visit) = state.current_visit(self.step()) else {
            return false;
        };
        match self {
            Self::Held(_) => visit.assignment_of(user).is_some(),
            Self::Open(slot, _) => {
                state.workflow.revision_id == slot.revision_id
                    && visit.number == slot.visit
                    && !visit.excluded.contains(&user)
                    && visit.annotations.iter().all(|a| a.user_id != user)
                    && Eligibility::of(visit, user) == Eligibility::FreeSlot
            }
        }
    }
}

/// The claim that a decision has granted, the state after it, and the write. The inbox stores the
/// claim as the result, so that a repetition returns it.
fn granted(
    request: &ClaimRequest,
    wanted: Wanted<'_>,
    end: ChainEnd,
) -> Option<(RecordedClaim, WorkflowSnapshot, TaskWrite)> {
    let (state, mut write) = (end.state?, end.write?);
    let visit = state.current_visit(wanted.step())?;
    let claim = RecordedClaim {
        task_id: wanted.task(),
        step_id: wanted.step().clone(),
        visit: visit.number,
        user_id: request.user_id,
        expires_at: visit.assignment_of(request.user_id)?.expires_at,
        resumed: matches!(wanted, Wanted::Held(_)),
    };
    for record in &mut write.commands {
        record.outcome = RecordedOutcome::Applied {
            result: serde_json::to_value(&claim).unwrap_or_default(),
        };
    }
    Some((claim, state, write))
}
