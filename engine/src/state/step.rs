//! The state of one step.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{AuditedAnswer, ChildTask, Pause, ReviewDecision, StepResult, Subject};
use crate::{
    config::{ExternalHandler, HookId, HookStage},
    ids::{StepId, UserId},
};

/// The visits of one step, oldest first; every re-entry by a loop is a new visit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepState {
    /// The visits, numbered from 1.
    pub visits: Vec<Visit>,
}

impl StepState {
    /// The last visit; only this one may be active.
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
    /// Its status.
    pub status: VisitStatus,
    /// The step whose transition led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entered_from: Option<StepId>,
    /// The subject: the visit under review or adjudication.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "judges")]
    pub reviewed: Option<StepVisit>,
    /// Visits whose work arrived by other branches of a join.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "judges_with")]
    pub reviewed_with: Vec<StepVisit>,
    /// What it is about, if it reviews or adjudicates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<Subject>>,
    /// The visits that led here: one, or at a join those whose branches had arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arrived: Vec<StepVisit>,
    /// Whether a bounded transition led here, which begins another round.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub looped: bool,
    /// Steps whose submitters, in any visit, are excluded from this visit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_who_did: Vec<StepId>,
    /// Number of submissions required; none if people submit freely until an `advance`.
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
    /// Claims made so far; numbers the next one.
    #[serde(default)]
    pub assignments_made: u32,
    /// People who lost their slot and take no further part in the visit (timeout action
    /// `reassign`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<UserId>,
    /// People who released a slot: they are offered the visit again only when nothing else is open
    /// to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub released: Vec<UserId>,
    /// When it is closed with the submissions it has, unless somebody submits before (timeout
    /// action `proceed`); none while it has too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<DateTime<Utc>>,
    /// The answer that was sure, while people are asked on because the task is audited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audited: Option<Box<AuditedAnswer>>,
    /// Why and until when the step is paused while other branches continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// The task that runs its sub-workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<ChildTask>,
    /// Its result, once completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<StepResult>,
    /// The call to an external handler that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<PendingCall>,
    /// Calls that nothing waits for: those of the hooks `on_start` and `on_complete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[serde(rename = "told")]
    pub notifications: Vec<PendingCall>,
    /// Calls begun so far; numbers the next one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calls_made: u32,
    /// Whether its `pre_process` hooks are running: it is not open to people or its handler yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opening: bool,
    /// Hooks that are done in the current stage, `pre_process` or `post_process`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hooks_done: u32,
    /// The output of the `pre_process` hooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared: Option<Value>,
    /// The result that its `post_process` hooks work on: the visit accepts nothing more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<FoundResult>,
    /// Hooks that were abandoned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks_failed: Vec<FailedHook>,
}

/// A result that is not final yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FoundResult {
    /// The result, as the hooks so far have made it.
    pub result: StepResult,
    /// The notification for operators, once the result is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalation: Option<String>,
    /// Values that are added to the task's context then.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
}

/// A hook that was abandoned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FailedHook {
    /// The hook.
    #[serde(flatten)]
    pub hook: HookId,
    /// Why.
    pub error: String,
    /// When it was abandoned.
    pub at: DateTime<Utc>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A call to an external handler that has no answer yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PendingCall {
    /// Its number within the visit, from 1: part of the idempotency key.
    pub n: u32,
    /// The kind of handler.
    pub handler: ExternalHandler,
    /// The hook that the call is for; none for the step's own work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookId>,
    /// The attempt that is due or under way, from 1.
    pub attempt: u32,
    /// When the attempt is made. For a job: when it counts as failed without an answer (none
    /// without a timeout).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime<Utc>>,
    /// When the first attempt of the call was requested.
    pub since: DateTime<Utc>,
    /// Why the previous attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Visit {
    /// Whether people and its handler may work on it: it has not ended, its `pre_process` hooks are
    /// done, and its result has not been found yet.
    pub fn is_open(&self) -> bool {
        self.status == VisitStatus::Active && !self.opening && self.found.is_none()
    }

    /// The hook that the visit waits for now, if it waits for one.
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

    /// The pending call with that number.
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

    /// Whether `user` has claimed a slot in it or submitted to it.
    pub fn concerns(&self, user: UserId) -> bool {
        self.assignment_of(user).is_some() || self.annotations.iter().any(|a| a.user_id == user)
    }

    /// Slots neither submitted nor claimed; `None` if the number of slots is not limited.
    pub fn free_slots(&self) -> Option<u32> {
        let taken = u32::try_from(self.annotations.len() + self.assignments.len()).ok()?;
        self.slots.map(|slots| slots.saturating_sub(taken))
    }
}

impl PendingCall {
    /// Whether its time is a deadline for an external worker, not the time of the next attempt.
    pub fn runs_out(&self) -> bool {
        self.handler == ExternalHandler::Queue && self.due_at.is_some()
    }
}

/// Status of a visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VisitStatus {
    /// It waits for people, a handler or an operator.
    Active,
    /// It ended with a result.
    Completed,
    /// It failed.
    Failed,
    /// It was skipped after a failure.
    Skipped,
    /// Another branch made it unnecessary, or the task ended.
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
    /// Its id; derived from the command if the producer sets none.
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
    /// The group of annotators whose errors go together that the person belonged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl AnnotationData {
    /// The reviewer's decision: from the annotation, else from its data. None on work that is no
    /// review.
    pub fn review_decision(&self) -> Option<ReviewDecision> {
        let named = self.decision.as_deref();
        named
            .or_else(|| self.data.get("decision")?.as_str())
            .and_then(ReviewDecision::from_name)
    }

    /// An annotation with only an id, a person and data.
    pub fn new(annotation_id: Uuid, user_id: impl Into<UserId>, data: Value) -> Self {
        Self {
            annotation_id,
            user_id: user_id.into(),
            data,
            decision: None,
            submitted_at: None,
            roles: Vec::new(),
            confidence: None,
            group: None,
        }
    }
}

/// A slot that a person has claimed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Assignment {
    /// Its number within the visit, from 1.
    pub n: u32,
    /// The person who claimed it.
    pub user_id: UserId,
    /// Roles that the person named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// When it was claimed.
    pub assigned_at: DateTime<Utc>,
    /// When it expires for inactivity.
    pub expires_at: DateTime<Utc>,
}
