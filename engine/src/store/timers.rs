//! Work whose time has come.

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
    /// A claimed slot is given up unless its holder was active.
    AssignmentTimeout,
    /// A paused task goes on.
    Resume,
    /// A join goes on with the branches that have arrived.
    JoinTimeout,
    /// A handler outside is called.
    HandlerCall,
    /// A child task begins.
    ChildStart,
    /// A child task waits with its parent.
    ChildPause,
    /// A child task goes on with its parent.
    ChildResume,
    /// A child task that nobody waits for any more ends.
    ChildCancel,
    /// A parent learns how its child ended.
    ChildReport,
    /// A step whose child ended while the task could not go on does so.
    ChildEnded,
    /// A job that went unanswered is published again, or given up.
    JobTimeout,
}

/// How timers is run: calls that may take a minute never hold up what is due beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerLane {
    /// Decisions, at most with a command to another task before them.
    Decisions,
    /// Calls to the world outside.
    Calls,
}

impl TimerKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
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
    ];

    /// Whether something is to be done, outside any transaction, before a row of this kind is
    /// decided.
    pub fn has_effect(self) -> bool {
        match self {
            Self::AssignmentTimeout
            | Self::Resume
            | Self::JoinTimeout
            | Self::JobTimeout
            | Self::ChildEnded => false,
            Self::HandlerCall
            | Self::ChildStart
            | Self::ChildPause
            | Self::ChildResume
            | Self::ChildCancel
            | Self::ChildReport => true,
        }
    }

    /// Whether it carries something from a parent to a child, or from a child to its parent.
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
            | Self::ChildEnded => false,
        }
    }

    /// How rows of this kind are run. The stores name the calls in their statements.
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
            | Self::JobTimeout => TimerLane::Decisions,
            Self::HandlerCall => TimerLane::Calls,
        }
    }

    /// The name in the table.
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
        }
    }

    /// The kind of that name.
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
    /// What is to happen.
    pub kind: TimerKind,
    /// Number within the visit.
    pub n: u32,
    /// When, by the database's clock.
    pub due_at: DateTime<Utc>,
}

/// State of timers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimerStats {
    /// Rows whose time has come.
    pub due: i64,
    /// Rows in all.
    pub total: i64,
}

/// Work whose time has come.
#[async_trait]
pub trait TimerQueue: Send + Sync {
    /// Leases rows of one lane whose time has come by the store's clock; a lease that runs out
    /// frees them. Rows of tasks whose workflow is paused stay where they are until it goes on. They
    /// are passed over on every call, which costs a look at each: parking them would spare that and
    /// could lose one that is parked while the workflow is being resumed.
    async fn claim_timers(
        &self,
        lane: TimerLane,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Timer>, EventStoreError>;

    /// Deletes a row whose command turned out to be settled before (the id is in the inbox).
    async fn drop_timers(&self, ids: &[Uuid]) -> Result<(), EventStoreError>;

    /// How much is due.
    async fn timer_stats(&self) -> Result<TimerStats, EventStoreError>;
}
