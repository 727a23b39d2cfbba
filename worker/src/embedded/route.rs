//! Which queue a routing key leads to.

use glyph_workflow_engine::command::Command;

pub(super) use crate::broker::queues::DEAD;
use crate::{
    broker::{CommandQueue, queues},
    wire::MessageType,
};

/// Whether the queue of that name is a command queue.
pub(super) fn is_command_queue(name: &str) -> bool {
    CommandQueue::ALL.iter().any(|queue| queue.as_str() == name)
}

/// Whether the queue of that name is one of events for downstream systems.
pub(super) fn is_event_queue(name: &str) -> bool {
    [queues::STEP_COMPLETED, queues::TRANSITION_OCCURRED].contains(&name)
}

/// The exchange that a message is published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Commands; the routing key is the command's type.
    Commands,
    /// All outgoing messages.
    Events,
}

impl Exchange {
    /// The queue bound to `routing_key`, if there is one.
    pub fn queue(self, routing_key: &str) -> Option<&'static str> {
        match self {
            Self::Commands => Command::TYPES
                .contains(&routing_key)
                .then(|| CommandQueue::of(routing_key).as_str()),
            Self::Events => [
                (MessageType::StepCompleted, queues::STEP_COMPLETED),
                (MessageType::TransitionOccurred, queues::TRANSITION_OCCURRED),
                (MessageType::JobRequested, queues::JOB_REQUESTED),
            ]
            .into_iter()
            .find(|(kind, _)| {
                routing_key
                    .strip_prefix(kind.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
            .map(|(_, queue)| queue),
        }
    }

    /// Whether a message without a queue is an error, as it is for producers of commands.
    pub(super) fn mandatory(self) -> bool {
        self == Self::Commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::queues::{STEP_COMPLETED, TRANSITION_OCCURRED};

    #[test]
    fn commands_go_by_their_type() {
        assert_eq!(Exchange::Commands.queue("submission"), Some("submission"));
        assert_eq!(Exchange::Commands.queue("advance"), Some("advance"));
        assert_eq!(Exchange::Commands.queue("migrate"), Some("control"));
        assert_eq!(Exchange::Commands.queue("submissions"), None);
    }

    #[test]
    fn messages_go_by_the_words_of_their_key() {
        assert_eq!(
            Exchange::Events.queue("step.completed.w.s"),
            Some(STEP_COMPLETED)
        );
        assert_eq!(
            Exchange::Events.queue("step.completed"),
            Some(STEP_COMPLETED)
        );
        assert_eq!(Exchange::Events.queue("step.completedly.w"), None);
        assert_eq!(
            Exchange::Events.queue("transition.occurred.w.s"),
            Some(TRANSITION_OCCURRED)
        );
        assert_eq!(Exchange::Events.queue("workflow.completed.w"), None);
    }
}
