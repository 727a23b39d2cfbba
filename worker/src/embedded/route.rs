//! Which queue a routing key leads to.

/// Submissions.
pub const SUBMISSION: &str = "submission";
/// Advances.
pub const ADVANCE: &str = "advance";
/// All other commands.
pub const CONTROL: &str = "control";
/// Commands that cannot be read or ran out of retries.
pub const DEAD: &str = "dead";
/// `step.completed.#`, for downstream systems.
pub const STEP_COMPLETED: &str = "step-completed";
/// `transition.occurred.#`, for downstream systems.
pub const TRANSITION_OCCURRED: &str = "transition-occurred";
/// `job.requested.#`, for external workers.
const JOB_REQUESTED: &str = "job-requested";

/// The queues that commands wait in.
pub const COMMAND_QUEUES: [&str; 3] = [CONTROL, SUBMISSION, ADVANCE];

/// Where a message is published.
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
            Self::Commands => match routing_key {
                "submission" => Some(SUBMISSION),
                "advance" => Some(ADVANCE),
                "start" | "activity" | "assign" | "release" | "pause" | "resume" | "cancel"
                | "retry" | "migrate" => Some(CONTROL),
                _ => None,
            },
            Self::Events => [
                ("step.completed", STEP_COMPLETED),
                ("transition.occurred", TRANSITION_OCCURRED),
                ("job.requested", JOB_REQUESTED),
            ]
            .into_iter()
            .find(|(words, _)| {
                routing_key
                    .strip_prefix(words)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
            .map(|(_, queue)| queue),
        }
    }

    /// Whether a message without a queue is an error, as it is for whoever sends commands.
    pub(super) fn mandatory(self) -> bool {
        self == Self::Commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_by_their_type() {
        assert_eq!(Exchange::Commands.queue("submission"), Some(SUBMISSION));
        assert_eq!(Exchange::Commands.queue("advance"), Some(ADVANCE));
        assert_eq!(Exchange::Commands.queue("migrate"), Some(CONTROL));
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
