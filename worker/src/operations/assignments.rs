//! What a person holds: claimed slots, with the drafts left in them.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator,
    assignment::{check_roles, check_skills},
    command::{ClaimRequest, Command, CommandEnvelope, Outcome, Release, Sender},
    config::{StepConfig, WorkflowConfig},
    ids::{CommandId, StepId, TaskId, UserId, WorkflowId},
    state::ClaimedSlot,
    store::{EventStore, EventStoreError, RecordedOutcome, Store},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{tasks::Budget, workflows::resolve_one};

/// A page of the slots that a person has claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AssignmentList {
    /// The claimed slots, by task.
    pub assignments: Vec<HeldSlot>,
    /// The task after which the next page starts; null on the last page.
    pub next_after: Option<TaskId>,
}

/// A slot that a person has claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeldSlot {
    /// The task.
    pub task_id: TaskId,
    /// Its workflow.
    pub workflow: WorkflowId,
    /// The number of the revision that it runs on.
    pub revision: u32,
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// The person.
    pub user_id: UserId,
    /// When the slot was claimed.
    pub since: DateTime<Utc>,
    /// When the claim expires without activity. While the task, its step or its workflow is paused,
    /// this time does not run.
    pub expires_at: DateTime<Utc>,
    /// The draft that the person left in this visit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<Value>,
}

/// What was released of a person's slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReleasedSlots {
    /// The slots that are free now.
    pub released: Vec<ReleasedSlot>,
    /// The slots that could not be released, with the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptSlot>,
}

/// A slot that was released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReleasedSlot {
    /// The task.
    pub task_id: TaskId,
    /// The step.
    pub step_id: StepId,
}

/// A slot that could not be released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KeptSlot {
    /// The slot.
    #[serde(flatten)]
    pub slot: ReleasedSlot,
    /// The code of the rejection.
    pub code: String,
}

/// Releases all slots that a person has claimed.
#[derive(Clone, Debug)]
pub struct ReleaseAll {
    /// The person.
    pub user: UserId,
    /// Why.
    pub reason: Option<String>,
    /// The id from which those of the single commands are derived.
    pub id: CommandId,
    /// What the single commands are correlated by.
    pub correlation_id: String,
    /// Who releases them.
    pub sender: Sender,
}

impl ReleaseAll {
    /// The command for each slot that the person holds.
    pub async fn commands(
        &self,
        store: &dyn Store,
    ) -> Result<Vec<(ReleasedSlot, CommandEnvelope)>, EventStoreError> {
        let held = store.claimed_slots(self.user).await?;
        let commands = held.into_iter().map(|held| {
            let name = format!("release/{}/{}", held.task_id, held.step_id);
            let release = Release {
                task_id: held.task_id,
                step_id: Some(held.step_id.to_string()),
                user_id: self.user,
                reason: self.reason.clone(),
            };
            let id = Uuid::new_v5(&self.id.0, name.as_bytes());
            let mut command = CommandEnvelope::new(id, Command::Release(release));
            command.correlation_id = Some(self.correlation_id.clone());
            command.sender = self.sender.clone();
            let slot = ReleasedSlot {
                task_id: held.task_id,
                step_id: held.step_id,
            };
            (slot, command)
        });
        Ok(commands.collect())
    }
}

impl ReleasedSlots {
    /// Adds what became of a slot's command.
    pub fn add(&mut self, slot: ReleasedSlot, outcome: Outcome) {
        let code = match outcome {
            Outcome::Applied(_) | Outcome::Duplicate(RecordedOutcome::Applied { .. }) => {
                self.released.push(slot);
                return;
            }
            Outcome::Rejected(rejection) => rejection.code.as_str().to_owned(),
            Outcome::Duplicate(RecordedOutcome::Rejected { reason, .. }) => reason,
            Outcome::Undecided(_) | Outcome::Dead(_) => "undecided".to_owned(),
        };
        self.kept.push(KeptSlot { slot, code });
    }
}

/// The slots that `user` has claimed in at most `limit` tasks after `after`.
pub async fn held_slots(
    store: &dyn Store,
    user: UserId,
    after: Option<TaskId>,
    limit: u32,
) -> Result<AssignmentList, EventStoreError> {
    let mut claimed = store.claimed_slots(user).await?;
    claimed.retain(|slot| after.is_none_or(|after| slot.task_id > after));
    let mut tasks: Vec<TaskId> = claimed.iter().map(|slot| slot.task_id).collect();
    tasks.dedup();
    let more = tasks.len() > limit as usize;
    tasks.truncate(limit as usize);
    let mut next_after = tasks.last().copied().filter(|_| more);
    claimed.retain(|slot| next_after.is_none_or(|last| slot.task_id <= last));
    let states = EventStore::load(store, &tasks).await?;
    let mut assignments: Vec<HeldSlot> = Vec::with_capacity(claimed.len());
    // Drafts are large: a page ends early where they are. Slots of one task stay on one page.
    let mut budget = Budget::of_a_page();
    for ClaimedSlot {
        task_id, step_id, ..
    } in claimed
    {
        let last = assignments.last().map(|slot| slot.task_id);
        if budget.is_spent() && last != Some(task_id) {
            next_after = last;
            break;
        }
        // The claim may have ended since the index was read.
        let Some((state, visit, claim)) = states.get(&task_id).and_then(|state| {
            let visit = state.current_visit(&step_id)?;
            Some((state, visit, visit.assignment_of(user)?))
        }) else {
            continue;
        };
        let drafts = store.drafts(task_id).await?;
        let draft = drafts.into_iter().find(|draft| {
            draft.step_id == step_id && draft.visit == visit.number && draft.user_id == user
        });
        let slot = HeldSlot {
            task_id,
            workflow: state.workflow.workflow.clone(),
            revision: state.workflow.revision,
            step_id,
            visit: visit.number,
            user_id: user,
            since: claim.assigned_at,
            expires_at: claim.expires_at,
            draft: draft.map(|draft| draft.draft),
        };
        budget.spend(&slot);
        assignments.push(slot);
    }
    Ok(AssignmentList {
        assignments,
        next_after,
    })
}

/// Why a person is offered nothing, where more is known than that no slot is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NothingReason {
    /// The person is paused in a workflow that was asked for.
    AnnotatorPaused,
    /// The workflow that was asked for is paused or archived.
    WorkflowPaused,
    /// No step of the workflow that was asked for is for the roles and skills of the person.
    NotQualified,
    /// The person has claimed as many slots as a step allows.
    MaxConcurrent,
}

impl NothingReason {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::AnnotatorPaused,
        Self::WorkflowPaused,
        Self::NotQualified,
        Self::MaxConcurrent,
    ];

    /// The name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AnnotatorPaused => "annotator_paused",
            Self::WorkflowPaused => "workflow_paused",
            Self::NotQualified => "not_qualified",
            Self::MaxConcurrent => "max_concurrent",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|reason| reason.as_str() == name)
    }
}

/// Why a request for work that found nothing found nothing; none if no slot is open.
///
/// It is found from settings and from the person's own work alone, never from tasks that are open to
/// others: that there is one to adjudicate would tell what others answered.
///
/// # Errors
///
/// The store cannot be read.
pub async fn why_nothing(
    store: &dyn Store,
    orchestrator: &WorkflowOrchestrator,
    request: &ClaimRequest,
) -> Result<Option<NothingReason>, OrchestrationError> {
    let asked = match &request.workflow {
        Some(selector) => resolve_one(store, &selector.to_string()).await?,
        None => None,
    };
    if is_paused(store, request, asked.as_ref()).await? {
        return Ok(Some(NothingReason::AnnotatorPaused));
    }
    if let Some(asked) = &asked {
        let pauses = store.workflow_pauses().await?;
        if pauses.active.iter().any(|pause| pause.workflow == asked.id) {
            return Ok(Some(NothingReason::WorkflowPaused));
        }
        if !asked.steps.iter().any(|step| is_for(step, request)) {
            return Ok(Some(NothingReason::NotQualified));
        }
    }
    let is_at_limit = orchestrator.is_at_limit(store, request).await?;
    Ok(is_at_limit.then_some(NothingReason::MaxConcurrent))
}

/// Whether the person is paused in the workflow that was asked for, or in any if none was.
async fn is_paused(
    store: &dyn Store,
    request: &ClaimRequest,
    asked: Option<&WorkflowConfig>,
) -> Result<bool, EventStoreError> {
    let pauses = store.annotator_pauses(Some(request.user_id)).await?;
    let mut open = pauses.iter().filter(|pause| pause.is_open());
    Ok(match (&request.workflow, asked) {
        (None, _) => open.next().is_some(),
        (Some(_), asked) => open.any(|pause| asked.is_some_and(|asked| pause.workflow == asked.id)),
    })
}

/// Whether a step is offered to people of such roles and skills.
fn is_for(step: &StepConfig, request: &ClaimRequest) -> bool {
    step.kind.takes_submissions()
        && request.step.as_ref().is_none_or(|asked| *asked == step.id)
        && check_roles(step, &request.roles)
        && check_skills(step, &request.skills)
}
