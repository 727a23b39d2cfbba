//! Open and claimed slots, for assignment.

use std::collections::BTreeSet;

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

/// Which open slots of a step come first; ties go to the slot that has waited longest. In either
/// order, slots of visits in which the person who asks has released one come after all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotOrder {
    /// Slots of the tasks with the fewest people working, or having worked, on them.
    FewestPeople,
    /// Only slots of tasks with at least one submission, oldest first.
    OldestBegun,
}

/// A query for open slots of a step.
#[derive(Clone, Debug)]
pub struct SlotQuery {
    /// The step.
    pub step: StepWithOpenSlots,
    /// Whether to return slots of gold tasks or of ordinary tasks.
    pub gold: bool,
    /// The person asking: slots this person may not claim are omitted.
    pub user: UserId,
    /// Whether people who submitted to the step under review are excluded.
    pub prevents_reassignment: bool,
    /// The order.
    pub order: SlotOrder,
    /// The maximum number of slots.
    pub limit: u32,
}

/// What is known of the people who have claimed or submitted in a workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeopleSeen {
    /// The roles that they have named.
    pub roles: BTreeSet<String>,
    /// The steps in which they have claimed or submitted.
    pub steps: BTreeSet<StepId>,
    /// Whether the whole log was examined.
    pub whole: bool,
}

/// How many slots a person has claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimCount {
    /// The person.
    pub user_id: UserId,
    /// The claimed slots.
    pub slots: u64,
}

/// Open and claimed slots, for assignment.
#[async_trait]
pub trait SlotIndex: Send + Sync {
    /// Steps in which tasks wait for people, sorted; steps of paused workflows are omitted.
    async fn open_steps(
        &self,
        workflow: Option<&WorkflowId>,
        step: Option<&StepId>,
    ) -> Result<Vec<StepWithOpenSlots>, EventStoreError>;

    /// Open slots of a step that a person may claim, in the order of the query. Read without a
    /// lock, so another person may claim a slot first.
    async fn open_slots(&self, query: SlotQuery) -> Result<Vec<OpenSlot>, EventStoreError>;

    /// The slots a person has claimed, ordered by task.
    async fn claimed_slots(&self, user: UserId) -> Result<Vec<ClaimedSlot>, EventStoreError>;

    /// The people who have claimed slots, at most `limit`: those with the most first.
    async fn claim_counts(&self, limit: u32) -> Result<Vec<ClaimCount>, EventStoreError>;

    /// The roles that people have named in a workflow, and the steps in which they have worked,
    /// among the newest `events` events of the log.
    async fn people_seen(
        &self,
        workflow: &WorkflowId,
        events: u32,
    ) -> Result<PeopleSeen, EventStoreError>;
}
