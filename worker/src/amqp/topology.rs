//! Every name on the broker, and the routes between them.
//!
//! ```text
//! {p}.commands (topic) ──┬─> {p}.submission ─┐
//!        ^ │             ├─> {p}.advance    ─┼─ delivery limit ─> {p}.dead (fanout) ─> {p}.dead
//!    TTL │ │             └─> {p}.control    ─┘                      ^     ^
//!        │ └── keys that lead nowhere (alternate exchange) ─────────┘     └── copies by the worker
//!        └── {p}.retry.1s … 60s <── {p}.retry.1s … 60s (fanout)
//! {p}.events (topic) ──┬─> {p}.step-completed
//!                      └─> {p}.transition-occurred
//! {p}.deployment: no messages; its arguments say whose the prefix is
//! ```
//!
//! **Keys that lead nowhere.** A producer's mistyped key would lose the command, so what
//! `{p}.commands` cannot route ends in the dead queue (`unroutable`). A command whose queue was
//! missing ends there too, and is put back once the queue exists.
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
    event_queues: bool,
}

impl Topology {
    /// Names that begin with `prefix` and a dot.
    pub fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            event_queues: true,
        }
    }

    /// With the queues of events, the default; or without: consumers bind their own, and no message
    /// must reach a queue.
    #[must_use]
    pub fn with_event_queues(mut self, declared: bool) -> Self {
        self.event_queues = declared;
        self
    }

    /// Whether the queues of events are part of it.
    pub fn has_event_queues(&self) -> bool {
        self.event_queues
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

    /// The queue whose arguments say which deployment uses the prefix. It holds no messages.
    pub fn deployment(&self) -> String {
        self.name("deployment")
    }

    /// Every name that a queue of a deployment can have.
    pub fn queues(&self) -> Vec<String> {
        let commands = CommandQueue::ALL.map(|queue| self.queue(queue));
        let retries = RetryDelay::ALL.map(|delay| self.retry(delay));
        let others = [
            self.dead(),
            self.step_completed(),
            self.transition_occurred(),
            self.deployment(),
        ];
        commands.into_iter().chain(retries).chain(others).collect()
    }

    /// The queues that messages go through, without the prefix.
    pub(super) fn working_queues(&self) -> Vec<String> {
        let commands = CommandQueue::ALL.map(|queue| queue.as_str().to_owned());
        let retries = RetryDelay::ALL.map(|delay| format!("retry.{}s", delay.seconds()));
        let events = [queues::STEP_COMPLETED, queues::TRANSITION_OCCURRED];
        let events = events.into_iter().filter(|_| self.event_queues);
        let others = [queues::DEAD].into_iter().chain(events);
        let others = others.map(str::to_owned);
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

    /// The queue that a key of `{p}.commands` leads to.
    pub(super) fn leads_to(&self, routing_key: &str) -> Option<CommandQueue> {
        let leads = |queue: &CommandQueue| self.keys(*queue).iter().any(|key| key == routing_key);
        CommandQueue::ALL.into_iter().find(leads)
    }

    /// A key that `{p}.commands` can route: the given one, or else the queue of the command type. A
    /// message that reached a command queue through another binding must find its way back, too.
    pub(super) fn routable(&self, routing_key: &str, command_type: &str) -> String {
        match self.leads_to(routing_key) {
            Some(_) => routing_key.to_owned(),
            None => self.queue(CommandQueue::of(command_type)),
        }
    }

    /// Whether a queue is one of these. Others may have the prefix too: an account that may configure
    /// only names under it has its queues for answers there.
    pub fn owns(&self, queue: &str) -> bool {
        queue.starts_with(&self.prefix) && self.queues().iter().any(|own| own == queue)
    }

    pub(super) fn name(&self, rest: &str) -> String {
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
