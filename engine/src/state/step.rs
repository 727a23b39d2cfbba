//! The state of one step.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{ChildTask, Pause, StepResult};
use crate::{
    config::{ExternalHandler, HookId, HookStage},
    ids::{StepId, UserId},
};

/// One step's visits, oldest first; every re-entry by a loop is a new visit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepState {
    /// The visits, numbered from 1.
    pub visits: Vec<Visit>,
}

impl StepState {
    /// The last visit, which alone may be active.
    pub fn current(&self) -> Option<&Visit> {
        self.visits.last()
    }

    /// Whether the step waits for something.
    pub fn is_active(&self) -> bool {
        self.current()
            .is_some_and(|visit| visit.status == VisitStatus::Active)
    }

    /// The last visit that has completed.
    pub fn last_completed(&self) -> Option<&Visit> {
        self.visits
            .iter()
            .rev()
            .find(|visit| visit.status == VisitStatus::Completed)
    }
}

/// One pass of a task through a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Visit {
    /// Its number, from 1.
    pub number: u32,
    /// Where it is.
    pub status: VisitStatus,
    /// The step whose transition led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entered_from: Option<StepId>,
    /// The visit that a review or adjudication judges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "judges")]
    pub reviewed: Option<StepVisit>,
    /// Visits whose work came in by other branches of a join.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "judges_with")]
    pub reviewed_with: Vec<StepVisit>,
    /// Submissions asked for; none where people submit as they like until an `advance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "places")]
    pub slots: Option<u32>,
    /// When it began.
    pub activated_at: DateTime<Utc>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<DateTime<Utc>>,
    /// Accepted submissions, in order of acceptance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Arc<AnnotationData>>,
    /// Claimed slots.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub assignments: Vec<Assignment>,
    /// Claims made so far; numbers the next.
    #[serde(default)]
    pub assignments_made: u32,
    /// People who are not offered a slot again (timeout action `reassign`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<UserId>,
    /// Why and until when the step is paused beside other branches that go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// The task that runs its sub-workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<ChildTask>,
    /// What it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<StepResult>,
    /// The call to a handler outside that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<PendingCall>,
    /// Calls that nothing waits for: of the hooks `on_start` and `on_complete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "told")]
    pub notifications: Vec<PendingCall>,
    /// Calls begun so far; numbers the next.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calls_made: u32,
    /// Whether its `pre_process` hooks are at work: it is not open to people or its handler yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opening: bool,
    /// Hooks of `pre_process` or `post_process` that are done, whichever are at work.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hooks_done: u32,
    /// What the `pre_process` hooks have made ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Value>,
    /// The result that its `post_process` hooks are at work on: the visit takes nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundResult>,
    /// Hooks that were given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks_failed: Vec<FailedHook>,
}

/// A result that is not final yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FoundResult {
    /// The result, as the hooks so far have made it.
    pub result: StepResult,
    /// What operators are to be told once it is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<String>,
    /// What then becomes part of the task's context.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
}

/// A hook that was given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedHook {
    /// Which.
    #[serde(flatten)]
    pub hook: HookId,
    /// Why.
    pub error: String,
    /// When.
    pub at: DateTime<Utc>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A call to a handler outside that has no answer yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PendingCall {
    /// Its number within the visit, from 1: part of the idempotency key.
    pub n: u32,
    /// Who is called.
    pub handler: ExternalHandler,
    /// The hook that it is of; none where it is the step's own work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookId>,
    /// The attempt that is due or under way, from 1.
    pub attempt: u32,
    /// When the attempt is made; of a job, when it counts as failed without an answer (none where
    /// it may take as long as it likes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime<Utc>>,
    /// When the call began, that is, its first attempt was asked for.
    pub since: DateTime<Utc>,
    /// Why the attempt before failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Visit {
    /// Whether people and its handler may work on it: it has not ended, its `pre_process` hooks are
    /// done, and its result has not been found yet.
    pub fn is_open(&self) -> bool {
        self.status == VisitStatus::Active && !self.opening && self.found.is_none()
    }

    /// The hook that the visit is at, while it is at hooks that it waits for.
    pub fn current_hook(&self) -> Option<HookId> {
        let stage = match (self.opening, &self.found) {
            (true, _) => HookStage::PreProcess,
            (false, Some(_)) => HookStage::PostProcess,
            (false, None) => return None,
        };
        (self.status == VisitStatus::Active).then_some(HookId {
            stage,
            index: self.hooks_done,
        })
    }

    /// The call of that number which has no answer yet.
    pub fn pending_call(&self, n: u32) -> Option<&PendingCall> {
        let of_hooks = self.notifications.iter();
        self.call.iter().chain(of_hooks).find(|call| call.n == n)
    }

    /// The ids of the accepted submissions, in order of acceptance.
    pub fn annotation_ids(&self) -> Vec<Uuid> {
        let annotations = self.annotations.iter();
        annotations.map(|given| given.annotation_id).collect()
    }

    /// The claim of `user`.
    pub fn assignment_of(&self, user: UserId) -> Option<&Assignment> {
        self.assignments.iter().find(|a| a.user_id == user)
    }

    /// Slots neither submitted nor reserved; `None` where there is no count.
    pub fn free_slots(&self) -> Option<u32> {
        let taken = u32::try_from(self.annotations.len() + self.assignments.len()).ok()?;
        self.slots.map(|slots| slots.saturating_sub(taken))
    }
}

impl PendingCall {
    /// Whether its time is a deadline for somebody else, and not the moment of the next attempt.
    pub fn runs_out(&self) -> bool {
        self.handler == ExternalHandler::Queue && self.due_at.is_some()
    }
}

/// Where a visit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VisitStatus {
    /// It waits for people, a handler or an operator.
    Active,
    /// It ended with a result.
    Completed,
    /// It failed.
    Failed,
    /// It was left out after a failure.
    Skipped,
    /// Another branch made it needless, or the task ended.
    Withdrawn,
}

/// One visit of one step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct StepVisit {
    /// The step.
    pub step_id: StepId,
    /// The visit, from 1.
    pub visit: u32,
}

/// One submission of one person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotationData {
    /// Its id; derived from the command when the producer gives none.
    pub annotation_id: Uuid,
    /// Who made it.
    pub user_id: UserId,
    /// What was labelled, in the producer's own shape.
    pub data: Value,
    /// A reviewer's decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// When the person submitted, as the producer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<DateTime<Utc>>,
    /// Roles of the person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// How sure the person is, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

impl AnnotationData {
    /// An annotation with nothing but who and what.
    pub fn new(annotation_id: Uuid, user_id: impl Into<UserId>, data: Value) -> Self {
        Self {
            annotation_id,
            user_id: user_id.into(),
            data,
            decision: None,
            submitted_at: None,
            roles: Vec::new(),
            confidence: None,
        }
    }
}

/// A slot that somebody claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// Its number within the visit, from 1.
    pub n: u32,
    /// Who holds it.
    pub user_id: UserId,
    /// Roles that the holder named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// When it was claimed.
    pub assigned_at: DateTime<Utc>,
    /// When it is given up for inactivity.
    pub expires_at: DateTime<Utc>,
}
