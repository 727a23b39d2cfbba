//! Every name on the broker, and the routes between them.
//!
//! ```text
//! {p}.commands (topic) ──┬─> {p}.submission ─┐
//!        ^               ├─> {p}.advance    ─┼─ delivery limit ─> {p}.dead (fanout) ─> {p}.dead
//!        │ TTL           └─> {p}.control    ─┘                         ^
//!        └── {p}.retry.1s … 60s <── {p}.retry.1s … 60s (fanout)        └── copies by the worker
//! {p}.events (topic) ──┬─> {p}.step-completed
//!                      └─> {p}.transition-occurred
//! ```
//!
//! **The way back from a retry.** A dead-lettered message keeps the routing key it was published
//! with. If the worker published straight to a retry queue, that key would be the retry queue's
//! name, which leads nowhere. So each delay has a fanout exchange in front of its queue: the worker
//! publishes there with the command's own key, and after the TTL `{p}.commands` routes the command
//! by that key to the queue it came from. Each command queue is also bound to its own name, for
//! commands that were put into a queue directly. Each delay has its own queue, since a queue
//! expires messages only at its head: a long wait would block the short ones behind it.

use glyph_workflow_engine::command::Command;

use crate::broker::{CommandQueue, RetryDelay, queues};

/// Deliveries before the broker itself moves a command to the dead queue. Set explicitly: before
/// RabbitMQ 4.0 there was no limit, and since then the default is a different one.
pub const DELIVERY_LIMIT: i32 = 20;

/// The names under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    prefix: String,
}

impl Topology {
    /// Names that begin with `prefix` and a dot.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// What every name begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The topic exchange that producers publish to.
    pub fn commands(&self) -> String {
        self.name("commands")
    }

    /// The topic exchange of all outgoing messages.
    pub fn events(&self) -> String {
        self.name("events")
    }

    /// The fanout exchange before the dead queue, and that queue.
    pub fn dead(&self) -> String {
        self.name(queues::DEAD)
    }

    /// A command queue.
    pub fn queue(&self, queue: CommandQueue) -> String {
        self.name(queue.as_str())
    }

    /// The fanout exchange before a retry queue, and that queue.
    pub fn retry(&self, delay: RetryDelay) -> String {
        self.name(&format!("retry.{}s", delay.seconds()))
    }

    /// The queue of `step.completed` messages.
    pub fn step_completed(&self) -> String {
        self.name(queues::STEP_COMPLETED)
    }

    /// The queue of `transition.occurred` messages.
    pub fn transition_occurred(&self) -> String {
        self.name(queues::TRANSITION_OCCURRED)
    }

    /// Every queue.
    pub fn queues(&self) -> Vec<String> {
        let commands = CommandQueue::ALL.map(|queue| self.queue(queue));
        let retries = RetryDelay::ALL.map(|delay| self.retry(delay));
        let others = [
            self.dead(),
            self.step_completed(),
            self.transition_occurred(),
        ];
        commands.into_iter().chain(retries).chain(others).collect()
    }

    /// Every exchange.
    pub fn exchanges(&self) -> Vec<String> {
        let retries = RetryDelay::ALL.map(|delay| self.retry(delay));
        let others = [self.commands(), self.events(), self.dead()];
        others.into_iter().chain(retries).collect()
    }

    /// The keys that lead from `{p}.commands` to a queue: command types, and its own name.
    pub fn keys(&self, queue: CommandQueue) -> Vec<String> {
        Command::TYPES
            .into_iter()
            .filter(|command_type| CommandQueue::of(command_type) == queue)
            .map(ToOwned::to_owned)
            .chain([self.queue(queue)])
            .collect()
    }

    /// A key that `{p}.commands` can route: the given one, or else the queue of the command type. A
    /// message that reached a command queue through another binding must find its way back, too.
    pub(super) fn routable(&self, routing_key: &str, command_type: &str) -> String {
        let known = CommandQueue::ALL
            .iter()
            .any(|queue| self.keys(*queue).iter().any(|key| key == routing_key));
        if known {
            routing_key.to_owned()
        } else {
            self.queue(CommandQueue::of(command_type))
        }
    }

    /// Whether a queue is one of these. Others may have the prefix too: an account that may configure
    /// only names under it has its queues for answers there.
    pub fn owns(&self, queue: &str) -> bool {
        queue.starts_with(&self.prefix) && self.queues().iter().any(|own| own == queue)
    }

    fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_of_other_deployments_and_programs_are_not_its_own() {
        let topology = Topology::new("glyph");
        for own in ["glyph.dead", "glyph.retry.1s", "glyph.step-completed"] {
            assert!(topology.owns(own), "{own}");
        }
        for other in ["glyph", "glyph.answers", "glyph2.dead", "amq.gen-x", ""] {
            assert!(!topology.owns(other), "{other}");
        }
    }

    #[test]
    fn every_command_finds_its_queue() {
        let topology = Topology::new("p");
        for queue in CommandQueue::ALL {
            for key in topology.keys(queue) {
                assert_eq!(topology.routable(&key, "anything"), key);
                if !key.contains('.') {
                    assert_eq!(CommandQueue::of(&key), queue);
                }
            }
        }
        assert_eq!(topology.routable("their.own.key", "advance"), "p.advance");
        assert_eq!(topology.retry(RetryDelay::S16), "p.retry.16s");
    }
}
