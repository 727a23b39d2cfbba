//! Claiming the next task: a person asks for work and gets a place.
//!
//! Candidates are read without a lock, then claimed one at a time under the lock of the task's
//! head, by the same decision as an `assign`: so overlap is never exceeded and nobody comes twice,
//! whatever the index said. Who was too late for a candidate goes on with the next; nothing is
//! recorded of that. Claims of one person run one at a time under a lock of their own, taken before
//! the head, under which the places that the person holds are counted.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{OrchestrationError, WorkflowOrchestrator, batch::Run, quality::Turn};
use crate::{
    assignment::{
        Eligibility, Offer, check_roles, check_skills, is_for_gold, offer_order, probe_order,
    },
    command::{
        Assign, ClaimRequest, ClaimedPlace, Command, CommandEnvelope, Dead, JudgedAnnotation,
        Outcome, Rejection, RejectionCode,
    },
    config::StepConfig,
    events::OfferBasis,
    executor::annotators::{Annotators, ModelKey},
    ids::{CommandId, RevisionId, StepId, TaskId, UserId, WorkflowId, WorkflowSelector},
    state::{OpenPlace, WorkflowSnapshot},
    store::{
        AnnotatorPause, Claimant, CommandRow, OpenRequest, OpenStep, PlaceOrder, PlaceQuery,
        RecordedOutcome, Store,
    },
};

/// Candidates of one step that are looked at in a round.
const WINDOW: u32 = 64;
/// Rounds: how often candidates are read anew where every one of them was claimed by others first
/// or was busy. Beyond it the answer is that nothing is free.
const ROUNDS_MAX: u32 = 4;

/// What the inbox keeps of a claim.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claim {
    task_id: TaskId,
    step_id: StepId,
    visit: u32,
    user_id: UserId,
    expires_at: DateTime<Utc>,
}

/// A step in which a person may work.
pub(super) struct OfferedStep {
    step: OpenStep,
    workflow: WorkflowId,
    pub(super) config: StepConfig,
    /// Share of gold tasks among claims; where the file names none they are tasks like others.
    gold_share: Option<f64>,
    /// How the step sees the claim.
    pub(super) turn: Turn,
}

impl OfferedStep {
    /// The models by which it shares its work.
    pub(super) fn questions(&self) -> Vec<ModelKey> {
        ModelKey::of_offers(&self.workflow, &self.config)
    }

    fn has(&self, place: &OpenPlace) -> bool {
        self.step.step_id == place.step_id && self.step.revision_id == place.revision_id
    }
}

/// What became of one candidate.
enum Attempt {
    Claimed(Claim, Box<WorkflowSnapshot>),
    /// The id is in the inbox.
    Known(CommandRow),
    /// Somebody was faster, or the task is not what it was.
    Lost,
    /// The person holds as many places as the step allows.
    Enough,
}

impl WorkflowOrchestrator {
    /// Claims a place for a person who asks for work; none where nothing is free that the person
    /// may take. The same id again answers the same place; where it got none it is not kept, and
    /// asks anew.
    ///
    /// `store` is the same store as this orchestrator's.
    ///
    /// # Errors
    ///
    /// [`Dead::WorkflowNotFound`] and [`RejectionCode::UnknownStep`] where there is nothing of that
    /// name, [`Dead::CommandIdReused`] where the id stands for something else, and what the store
    /// fails with.
    pub async fn claim_next(
        &self,
        store: &dyn Store,
        request: &ClaimRequest,
    ) -> Result<Option<ClaimedPlace>, OrchestrationError> {
        if let Some(known) = store.command(request.command_id).await? {
            return self.known_claim(store, request, known).await;
        }
        let mut steps = self.offered_steps(store, request).await?;
        self.take_turns(request, &mut steps).await?;
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
                let Offer { place, worth, .. } = offers[tried].clone();
                let Some(offered) = steps.iter().find(|offered| offered.has(&place)) else {
                    continue;
                };
                let basis = offered.turn.basis(&place, worth);
                match self.try_claim(request, &place, basis, waits).await? {
                    Attempt::Claimed(claim, state) => {
                        return self.claimed(store, claim, Some(*state)).await.map(Some);
                    }
                    Attempt::Known(row) => return self.known_claim(store, request, row).await,
                    Attempt::Lost => {}
                    // The step has nothing for this person; others may allow more.
                    Attempt::Enough => steps.retain(|offered| !offered.has(&place)),
                }
                if tried == 0 {
                    probe_order(&mut offers[1..], request.user_id);
                }
            }
        }
        Ok(None)
    }

    /// Steps in which the person may work, by what their revisions say.
    async fn offered_steps(
        &self,
        store: &dyn Store,
        request: &ClaimRequest,
    ) -> Result<Vec<OfferedStep>, OrchestrationError> {
        let (workflow, revision) = self.named_workflow(request).await?;
        let open = store
            .open_steps(workflow.as_ref(), request.step.as_ref())
            .await?;
        // Whoever is paused in a workflow is offered nothing there, gold tasks or others.
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
                turn: Turn::default(),
            }));
        }
        Ok(offered)
    }

    /// The workflow that a request names, and the revision where it names one.
    async fn named_workflow(
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
        // An older revision may have a step that the newest has not: nothing is said of those.
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

    /// Claims one candidate, if it is still free for this person.
    async fn try_claim(
        &self,
        request: &ClaimRequest,
        place: &OpenPlace,
        offered: Option<OfferBasis>,
        waits: bool,
    ) -> Result<Attempt, OrchestrationError> {
        let task = place.task_id;
        let mut envelope = CommandEnvelope::new(
            request.command_id,
            Command::Assign(Assign {
                task_id: task,
                step_id: Some(place.step_id.to_string()),
                user_id: request.user_id,
                roles: (!request.roles.is_empty()).then(|| request.roles.clone()),
                offered,
            }),
        );
        envelope.content_hash = request.content_hash();
        envelope.correlation_id.clone_from(&request.correlation_id);
        envelope.traceparent.clone_from(&request.traceparent);
        let commands = [envelope];
        let cached = self.states.get(task);
        let mut open = self
            .event_store
            .open(OpenRequest {
                tasks: [(task, cached.as_ref().map_or(0, |state| state.version))].into(),
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
        let mut run = Run::new(self, &commands, HashMap::new(), open.as_ref());
        let state = run.catch_up(cached.as_ref(), opened)?;
        run.load_workflow(state.as_ref()).await?;
        let Some(free) = state
            .as_ref()
            .filter(|state| is_free(state, place, request.user_id))
        else {
            return Ok(Attempt::Lost);
        };
        let compiled = self.compiled(free.workflow.revision_id.0).await?;
        let most = compiled
            .config()
            .step(&place.step_id)
            .and_then(StepConfig::max_concurrent);
        if most.is_some_and(|most| open.held_by_claimant() >= most) {
            return Ok(Attempt::Enough);
        }
        // Claims are about places, not about answers.
        let annotators = Annotators::default();
        let mut end = run.run_chain(task, state, &[0], open.as_ref(), annotators);
        let applied = matches!(run.outcomes.first(), Some(Some(Outcome::Applied(_))));
        let (Some(state), Some(mut write)) = (end.state.take(), end.write.take()) else {
            return Ok(Attempt::Lost);
        };
        let held = state
            .current_visit(&place.step_id)
            .and_then(|visit| visit.assignment_of(request.user_id));
        // A refusal is the next candidate's chance, and is not recorded: nobody asked for this one.
        let Some(held) = held.filter(|_| applied) else {
            return Ok(Attempt::Lost);
        };
        let claim = Claim {
            task_id: task,
            step_id: place.step_id.clone(),
            visit: place.visit,
            user_id: request.user_id,
            expires_at: held.expires_at,
        };
        for record in &mut write.commands {
            record.outcome = RecordedOutcome::Applied {
                result: serde_json::to_value(&claim).unwrap_or_default(),
            };
        }
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

    /// The place that an id got before.
    async fn known_claim(
        &self,
        store: &dyn Store,
        request: &ClaimRequest,
        known: CommandRow,
    ) -> Result<Option<ClaimedPlace>, OrchestrationError> {
        let claim = match known.outcome {
            RecordedOutcome::Applied { result } if known.content_hash == request.content_hash() => {
                serde_json::from_value::<Claim>(result).ok()
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
        claim: Claim,
        state: Option<WorkflowSnapshot>,
    ) -> Result<ClaimedPlace, OrchestrationError> {
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
            .and_then(|visit| visit.judges.as_ref())
            .and_then(|judged| state.visit(&judged.step_id, judged.visit));
        let judged = judged.map_or(&[][..], |visit| &visit.annotations);
        Ok(ClaimedPlace {
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
                .map(|annotation| JudgedAnnotation {
                    annotation_id: annotation.annotation_id,
                    data: annotation.data.clone(),
                })
                .collect(),
            draft: draft.map(|draft| draft.draft),
        })
    }
}

/// Free places that the person may take, of all steps on offer. Where a file names a share of gold
/// tasks, a claim is for gold or not by its id: repeated it is the same, and of many that share is.
/// A claim for gold falls back to other tasks where there is none, and never the other way.
async fn offers(
    store: &dyn Store,
    request: &ClaimRequest,
    steps: &[OfferedStep],
    draws_gold: bool,
) -> Result<Vec<Offer>, OrchestrationError> {
    let mut offers = Vec::new();
    for offered in steps {
        let share = offered.gold_share.filter(|_| draws_gold);
        if share.is_some_and(|share| is_for_gold(request.command_id, share)) {
            offers.extend(places(store, request, offered, true).await?);
        }
    }
    if !offers.is_empty() {
        return Ok(offers);
    }
    for offered in steps {
        offers.extend(places(store, request, offered, false).await?);
        if offered.gold_share.is_none() {
            offers.extend(places(store, request, offered, true).await?);
        }
    }
    Ok(offers)
}

/// Free places of one step. Where some are worth more to this person than to others, the oldest of
/// what is begun are among them, however many fresh ones there are.
async fn places(
    store: &dyn Store,
    request: &ClaimRequest,
    offered: &OfferedStep,
    gold: bool,
) -> Result<Vec<Offer>, OrchestrationError> {
    let query = |order| PlaceQuery {
        step: offered.step.clone(),
        gold,
        user: request.user_id,
        prevents_reassignment: offered.config.prevents_reassignment(),
        order,
        limit: WINDOW,
    };
    let mut places = store.open_places(query(PlaceOrder::FewestPeople)).await?;
    if offered.turn.prefers_begun() {
        let fewest: HashSet<TaskId> = places.iter().map(|place| place.task_id).collect();
        let begun = store.open_places(query(PlaceOrder::OldestBegun)).await?;
        places.extend(begun.into_iter().filter(|p| !fewest.contains(&p.task_id)));
    }
    let strategy = offered.config.load_balancing();
    Ok(offered.turn.offers(places, strategy))
}

/// Whether the candidate is still what the index said, and free for this person.
fn is_free(state: &WorkflowSnapshot, place: &OpenPlace, user: UserId) -> bool {
    let visit = state.current_visit(&place.step_id);
    state.workflow.revision_id == place.revision_id
        && visit.is_some_and(|visit| {
            visit.number == place.visit
                && !visit.excluded.contains(&user)
                && visit.annotations.iter().all(|a| a.user_id != user)
                && Eligibility::of(visit, user) == Eligibility::FreePlace
        })
}
