//! The kinds of message.

use std::{fmt, str::FromStr};

/// The parts of a routing key behind the name.
const WORKFLOW: &[&str] = &["workflow"];
const STEP: &[&str] = &["workflow", "step"];

macro_rules! message_types {
    ($($variant:ident $name:literal $schema:literal $parts:ident $about:literal;)+) => {
        /// The kinds of message; every routing key begins with one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum MessageType {
            $(#[doc = concat!("`", $name, "`: ", $about)] $variant,)+
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

            /// The name of its schema and of its example, such as `step_completed`.
            pub fn schema_name(self) -> &'static str {
                match self { $(Self::$variant => $schema,)+ }
            }

            /// The schema of the data: its path below the folder of schemas.
            pub fn schema_path(self) -> &'static str {
                match self { $(Self::$variant => concat!("messages/", $schema, ".v1.json"),)+ }
            }

            /// What it says, in a sentence for readers of the documentation.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)+ }
            }

            /// What its routing key says behind the name: `workflow`, and `step`. A message that is
            /// about no step leaves the step out.
            pub fn key_parts(self) -> &'static [&'static str] {
                match self { $(Self::$variant => $parts,)+ }
            }
        }
    };
}

message_types! {
    StepActivated "step.activated" "step_activated" STEP
        "A visit of a step is open for work.";
    StepCompleted "step.completed" "step_completed" STEP
        "A visit of a step ended with a result.";
    StepFailed "step.failed" "step_failed" STEP
        "A visit of a step failed for good.";
    StepSkipped "step.skipped" "step_skipped" STEP
        "A visit of a step was skipped because its handler failed, and its task went on.";
    StepWithdrawn "step.withdrawn" "step_withdrawn" STEP
        "A visit of a step is no longer needed: its task went on, or ended, without it.";
    TransitionOccurred "transition.occurred" "transition_occurred" STEP
        "A task moved from a step, the one of the routing key, to another one or to its end.";
    ConsensusCalculated "consensus.calculated" "consensus_calculated" STEP
        "The annotations of a visit were compared.";
    WorkflowStarted "workflow.started" "workflow_started" WORKFLOW
        "A task was started.";
    WorkflowCompleted "workflow.completed" "workflow_completed" WORKFLOW
        "A task completed, with its output.";
    WorkflowFailed "workflow.failed" "workflow_failed" WORKFLOW
        "A task ended without an output.";
    WorkflowPaused "workflow.paused" "workflow_paused" STEP
        "A task, one step of it, or a whole workflow was paused.";
    WorkflowResumed "workflow.resumed" "workflow_resumed" STEP
        "A task, one step of it, or a whole workflow goes on.";
    WorkflowCancelled "workflow.cancelled" "workflow_cancelled" WORKFLOW
        "An operator cancelled a task.";
    WorkflowMigrated "workflow.migrated" "workflow_migrated" WORKFLOW
        "A task was moved to another revision of its workflow.";
    TaskAssigned "task.assigned" "task_assigned" STEP
        "A person claimed a slot of a step.";
    TaskReleased "task.released" "task_released" STEP
        "A claim ended without a submission; `cause` says why.";
    TaskStalled "task.stalled" "task_stalled" STEP
        "A claim ran out because its person was inactive for too long; `action` says what follows.";
    JobRequested "job.requested" "job_requested" STEP
        "A step or a hook asks a program outside for something; the command `advance` answers.";
    IncidentOpened "incident.opened" "incident_opened" STEP
        "A step cannot go on without an operator.";
    IncidentResolved "incident.resolved" "incident_resolved" STEP
        "What held a step up is resolved.";
    GoalProgressed "goal.progressed" "goal_progressed" WORKFLOW
        "A goal has moved; sent at most every five seconds for each goal.";
    GoalCompleted "goal.completed" "goal_completed" WORKFLOW
        "A goal is reached, and its `on_complete` has `notify`.";
    AgreementProgressed "agreement.progressed" "agreement_progressed" STEP
        "The agreement of annotators in a step, or in a field of it, has changed.";
    GoalAlert "goal.alert" "goal_alert" WORKFLOW
        "An alert of a goal was raised.";
    AnnotatorFlagged "annotator.flagged" "annotator_flagged" WORKFLOW
        "An annotator is wrong on known answers more often than the workflow allows.";
    AnswerRevised "answer.revised" "answer_revised" STEP
        "The answer of a completed task would be another one now; the task has not changed.";
    CommandRejected "command.rejected" "command_rejected" STEP
        "The rules or the state of its task forbid a command; it changed nothing.";
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
