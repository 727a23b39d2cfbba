//! Free and claimed slots, for those who look for work.

use async_trait::async_trait;

use super::error::EventStoreError;
use crate::{
    ids::{RevisionId, StepId, UserId, WorkflowId},
    state::{ClaimedSlot, OpenSlot},
};

/// A step of a revision in which tasks wait for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepWithOpenSlots {
    /// The revision.
    pub revision_id: RevisionId,
    /// The step.
    pub step_id: StepId,
}

/// Which free slots of a step come first; of equals, those that have waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotOrder {
    /// Those of tasks on which the fewest people are or were at work.
    FewestPeople,
    /// Only those of tasks to which somebody has submitted, in the order in which they wait.
    OldestBegun,
}

/// Which free slots of a step are asked for.
#[derive(Clone, Debug)]
pub struct SlotQuery {
    /// The step.
    pub step: StepWithOpenSlots,
    /// Gold tasks, or the others.
    pub gold: bool,
    /// Who asks: slots that the person may not take are left out.
    pub user: UserId,
    /// Whether who has submitted to the judged step is kept from this one.
    pub prevents_reassignment: bool,
    /// Which come first.
    pub order: SlotOrder,
    /// Slots at most.
    pub limit: u32,
}

/// Free slots, for those who look for work.
#[async_trait]
pub trait SlotIndex: Send + Sync {
    /// Steps in which tasks wait for people, sorted; those of paused workflows are left out.
    async fn open_steps(
        &self,
        workflow: Option<&WorkflowId>,
        step: Option<&StepId>,
    ) -> Result<Vec<StepWithOpenSlots>, EventStoreError>;

    /// Free slots of a step that a person may take, in the order that the query names. Read
    /// without a lock, so another person may be faster.
    async fn open_slots(&self, query: SlotQuery) -> Result<Vec<OpenSlot>, EventStoreError>;

    /// Slots that a person holds, by task.
    async fn claimed_slots(&self, user: UserId) -> Result<Vec<ClaimedSlot>, EventStoreError>;
}
