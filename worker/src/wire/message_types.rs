//! The kinds of message.

use std::{fmt, str::FromStr};

macro_rules! message_types {
    ($($variant:ident $name:literal $schema:literal;)+) => {
        /// The kinds of message; every routing key begins with one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum MessageType {
            $(#[doc = concat!("`", $name, "`.")] $variant,)+
        }

        impl MessageType {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in routing keys, settings and metrics, such as `step.completed`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The CloudEvents `type`, such as `dev.glyph.step.completed.v1`.
            pub fn event_type(self) -> &'static str {
                match self { $(Self::$variant => concat!("dev.glyph.", $name, ".v1"),)+ }
            }

            /// The schema of the data: its path below the folder of schemas.
            pub fn schema_path(self) -> &'static str {
                match self { $(Self::$variant => concat!("messages/", $schema, ".v1.json"),)+ }
            }
        }
    };
}

message_types! {
    StepActivated "step.activated" "step_activated";
    StepCompleted "step.completed" "step_completed";
    StepFailed "step.failed" "step_failed";
    StepSkipped "step.skipped" "step_skipped";
    StepWithdrawn "step.withdrawn" "step_withdrawn";
    TransitionOccurred "transition.occurred" "transition_occurred";
    ConsensusCalculated "consensus.calculated" "consensus_calculated";
    WorkflowStarted "workflow.started" "workflow_started";
    WorkflowCompleted "workflow.completed" "workflow_completed";
    WorkflowFailed "workflow.failed" "workflow_failed";
    WorkflowPaused "workflow.paused" "workflow_paused";
    WorkflowResumed "workflow.resumed" "workflow_resumed";
    WorkflowCancelled "workflow.cancelled" "workflow_cancelled";
    WorkflowMigrated "workflow.migrated" "workflow_migrated";
    TaskAssigned "task.assigned" "task_assigned";
    TaskReleased "task.released" "task_released";
    TaskStalled "task.stalled" "task_stalled";
    JobRequested "job.requested" "job_requested";
    IncidentOpened "incident.opened" "incident_opened";
    IncidentResolved "incident.resolved" "incident_resolved";
    GoalProgressed "goal.progressed" "goal_progressed";
    GoalCompleted "goal.completed" "goal_completed";
    AgreementProgressed "agreement.progressed" "agreement_progressed";
    GoalAlert "goal.alert" "goal_alert";
    AnnotatorFlagged "annotator.flagged" "annotator_flagged";
    AnswerRevised "answer.revised" "answer_revised";
    CommandRejected "command.rejected" "command_rejected";
}

impl MessageType {
    /// Whether it is a fault if the message reaches no queue: its queue is part of the topology, or
    /// a worker has to act on it.
    pub fn is_mandatory(self) -> bool {
        matches!(
            self,
            Self::StepCompleted | Self::TransitionOccurred | Self::JobRequested
        )
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is not the name of a kind of message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no message type; they are {}", names(MessageType::ALL))]
pub struct UnknownMessageType {
    /// The rejected text.
    pub name: String,
}

fn names(kinds: &[MessageType]) -> String {
    kinds
        .iter()
        .map(|kind| kind.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

impl FromStr for MessageType {
    type Err = UnknownMessageType;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_name(name).ok_or_else(|| UnknownMessageType {
            name: name.to_owned(),
        })
    }
}
