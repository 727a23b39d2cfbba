//! Timers: what a task must do at a later time.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::EventStoreError;
use crate::ids::{StepId, TaskId};

/// The kinds of timers.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TimerKind {
    /// Releases a claimed slot unless its holder was active.
    AssignmentTimeout,
    /// Resumes a paused task.
    Resume,
    /// Continues a join with the branches that have arrived.
    JoinTimeout,
    /// Calls an external handler.
    HandlerCall,
    /// Starts a child task.
    ChildStart,
    /// Pauses a child task together with its parent.
    ChildPause,
    /// Resumes a child task together with its parent.
    ChildResume,
    /// Cancels a child task whose parent no longer waits for it.
    ChildCancel,
    /// Reports the end of a child task to its parent.
    ChildReport,
    /// Continues a step whose child ended while the task could not proceed.
    ChildEnded,
    /// Publishes an unanswered job again, or gives it up.
    JobTimeout,
    /// Closes a visit with the submissions it has, when nobody has submitted for too long.
    ProceedTimeout,
}

/// How timers are run: calls may take a minute and must not delay other due timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerLane {
    /// Decisions, at most with a command to another task first.
    Decisions,
    /// Calls to external services.
    Calls,
}

impl TimerKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::AssignmentTimeout,
        Self::Resume,
        Self::JoinTimeout,
        Self::HandlerCall,
        Self::ChildStart,
        Self::ChildPause,
        Self::ChildResume,
        Self::ChildCancel,
        Self::ChildReport,
        Self::ChildEnded,
        Self::JobTimeout,
        Self::ProceedTimeout,
    ];

    /// Whether firing a timer of this kind has an effect outside any transaction, before the
    /// decision.
    pub fn has_effect(self) -> bool {
        match self {
            Self::AssignmentTimeout
            | Self::Resume
            | Self::JoinTimeout
            | Self::JobTimeout
            | Self::ProceedTimeout
            | Self::ChildEnded => false,
            Self::HandlerCall
            | Self::ChildStart
            | Self::ChildPause
            | Self::ChildResume
            | Self::ChildCancel
            | Self::ChildReport => true,
        }
    }

    /// Whether it carries a message between a parent and a child task.
    pub fn is_between_tasks(self) -> bool {
        match self {
            Self::ChildStart
            | Self::ChildPause
            | Self::ChildResume
            | Self::ChildCancel
            | Self::ChildReport => true,
            Self::AssignmentTimeout
            | Self::Resume
            | Self::JoinTimeout
            | Self::HandlerCall
            | Self::JobTimeout
            | Self::ProceedTimeout
            | Self::ChildEnded => false,
        }
    }

    /// The lane that runs timers of this kind. The stores name the call kinds in their SQL.
    pub fn lane(self) -> TimerLane {
        match self {
            Self::AssignmentTimeout
            | Self::Resume
            | Self::JoinTimeout
            | Self::ChildStart
            | Self::ChildPause
            | Self::ChildResume
            | Self::ChildCancel
            | Self::ChildReport
            | Self::ChildEnded
            | Self::JobTimeout
            | Self::ProceedTimeout => TimerLane::Decisions,
            Self::HandlerCall => TimerLane::Calls,
        }
    }

    /// The name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AssignmentTimeout => "assignment_timeout",
            Self::Resume => "resume",
            Self::JoinTimeout => "join_timeout",
            Self::HandlerCall => "handler_call",
            Self::ChildStart => "child_start",
            Self::ChildPause => "child_pause",
            Self::ChildResume => "child_resume",
            Self::ChildCancel => "child_cancel",
            Self::ChildReport => "child_report",
            Self::ChildEnded => "child_ended",
            Self::JobTimeout => "job_timeout",
            Self::ProceedTimeout => "proceed_timeout",
        }
    }

    /// The kind with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Something that must happen later, derived from a task's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timer {
    /// Derived from task, step, visit, kind and number.
    pub id: Uuid,
    /// The task.
    pub task_id: TaskId,
    /// The step.
    pub step_id: Option<StepId>,
    /// The visit.
    pub visit: u32,
    /// The kind.
    pub kind: TimerKind,
    /// Number within the visit.
    pub n: u32,
    /// When it is due, by the database's clock.
    pub due_at: DateTime<Utc>,
}

/// Timers that are counted; of more it is only known that they are at least as many.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(super) const TIMERS_COUNTED_MAX: i64 = 10_000;

/// Statistics of timers. Counts stop at about ten thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimerStats {
    /// Timers that are due, of workflows that are not paused.
    pub due: i64,
    /// For how long the oldest of them has been due, in seconds; 0 if none is.
    pub oldest_seconds: f64,
    /// All timers.
    pub total: i64,
}

/// Timers.
#[async_trait]
pub trait TimerQueue: Send + Sync {
    /// Leases timers of one lane that are due by the store's clock; an expired lease frees them.
    ///
    /// Timers of paused workflows are skipped until the workflow resumes. They are looked for
    /// workflow by workflow, so that those of a paused one cost nothing, however many they are.
    async fn claim_timers(
        &self,
        lane: TimerLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Timer>, EventStoreError>;

    /// Deletes timers whose command was settled before (its id is in the inbox). One that is due at
    /// another time by now has another command, and stays.
    async fn drop_timers(&self, rows: &[Timer]) -> Result<(), EventStoreError>;

    /// How many timers are due.
    async fn timer_stats(&self) -> Result<TimerStats, EventStoreError>;
}
