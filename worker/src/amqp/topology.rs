//! Every name on the broker, and how it comes to be there.
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
//! with. Published straight to its queue, that key would be the retry queue's name, which leads
//! nowhere. So each delay has a fanout exchange before its queue: the worker publishes there with
//! the command's own key, and after the TTL `{p}.commands` routes it by that key to the queue it
//! came from. For commands that were put into a queue directly, each command queue is bound to its
//! own name, too. One queue a delay, as a queue expires messages at its head only: a long wait
//! would block the short ones behind it.

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};

use super::{AmqpSettings, connection::Link};
use crate::broker::{BrokerError, CommandQueue, RetryDelay};

/// Deliveries before the broker itself takes a command to the dead queue. Set explicitly: there
/// was no limit before RabbitMQ 4.0, and there is another one since.
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
        self.name("dead")
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
        self.name("step-completed")
    }

    /// The queue of `transition.occurred` messages.
    pub fn transition_occurred(&self) -> String {
        self.name("transition-occurred")
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

    /// Deletes everything under the prefix of `settings`, with what is in it: for those who made it
    /// only for a while.
    pub async fn delete(settings: &AmqpSettings) -> Result<(), BrokerError> {
        let topology = settings.topology();
        let link = Link::open(settings, "cleaner").await?;
        let deleted = async {
            let channel = link.channel().await?;
            for queue in topology.queues() {
                let options = QueueDeleteOptions::default();
                let deleted = channel.queue_delete(queue.into(), options).await;
                deleted.map_err(|error| link.lost(error))?;
            }
            for exchange in topology.exchanges() {
                let options = ExchangeDeleteOptions::default();
                let deleted = channel.exchange_delete(exchange.into(), options).await;
                deleted.map_err(|error| link.lost(error))?;
            }
            Ok(())
        };
        let deleted = deleted.await;
        link.close().await;
        deleted
    }

    /// The keys that lead from `{p}.commands` to a queue: command types, and its own name.
    pub fn keys(&self, queue: CommandQueue) -> Vec<String> {
        let types: &[&str] = match queue {
            CommandQueue::Submission => &["submission"],
            CommandQueue::Advance => &["advance"],
            CommandQueue::Control => &[
                "start", "activity", "assign", "release", "pause", "resume", "cancel", "retry",
                "migrate",
            ],
        };
        types
            .iter()
            .map(|key| (*key).to_owned())
            .chain([self.queue(queue)])
            .collect()
    }

    /// A key that `{p}.commands` can route: the given one, else the queue of the command type. A
    /// message that was bound to a command queue in some other way must find back, too.
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

    fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    /// Declares everything. Where the account may not declare, or finds other properties than
    /// these, what an operator made is used as it is, as long as it is there.
    pub(super) async fn declare(&self, link: &Link) -> Result<(), BrokerError> {
        let mut desk = Desk {
            link,
            channel: link.channel().await?,
            kept: Vec::new(),
        };
        desk.exchange(&self.commands(), ExchangeKind::Topic).await?;
        desk.exchange(&self.events(), ExchangeKind::Topic).await?;
        desk.exchange(&self.dead(), ExchangeKind::Fanout).await?;

        desk.queue(&self.dead(), unlimited_queue()).await?;
        desk.bind(&self.dead(), &self.dead(), "").await?;
        for queue in CommandQueue::ALL {
            let mut arguments = dead_lettering(&self.dead());
            arguments.insert(
                "x-delivery-limit".into(),
                AMQPValue::LongInt(DELIVERY_LIMIT),
            );
            let name = self.queue(queue);
            desk.queue(&name, arguments).await?;
            for key in self.keys(queue) {
                desk.bind(&name, &self.commands(), &key).await?;
            }
        }
        for delay in RetryDelay::ALL {
            let name = self.retry(delay);
            let mut arguments = dead_lettering(&self.commands());
            let milliseconds = i64::try_from(delay.seconds() * 1_000).unwrap_or(i64::MAX);
            arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(milliseconds));
            desk.exchange(&name, ExchangeKind::Fanout).await?;
            desk.queue(&name, arguments).await?;
            desk.bind(&name, &name, "").await?;
        }
        for (name, key) in [
            (self.step_completed(), "step.completed.#"),
            (self.transition_occurred(), "transition.occurred.#"),
        ] {
            desk.queue(&name, unlimited_queue()).await?;
            desk.bind(&name, &self.events(), key).await?;
        }
        if !desk.kept.is_empty() {
            tracing::info!(
                kept = desk.kept.join(", "),
                "the account may not declare these, or they differ; used as they are"
            );
        }
        // Left to the closing of its last handle: nothing waits for it.
        Ok(())
    }
}

/// A quorum queue that refuses what it has no room for. The default drops the oldest message.
fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    arguments.insert(
        "x-overflow".into(),
        AMQPValue::LongString("reject-publish".into()),
    );
    arguments
}

/// A queue whose messages leave for `exchange` only once they have arrived there. The default
/// strategy sends them off and forgets them.
fn dead_lettering(exchange: &str) -> FieldTable {
    let mut arguments = quorum();
    arguments.insert(
        "x-dead-letter-exchange".into(),
        AMQPValue::LongString(exchange.into()),
    );
    arguments.insert(
        "x-dead-letter-strategy".into(),
        AMQPValue::LongString("at-least-once".into()),
    );
    arguments
}

/// A queue that never drops a message for having been looked at too often: the dead queue, which
/// operators browse, and the queues of events, whose consumers are not ours. There is no way to say
/// "no limit" to every broker: since 4.0 leaving it out means 20, and -1, which means none there,
/// makes 3.10 drop a message the first time it is put back. So the limit is one that none reaches.
fn unlimited_queue() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
    arguments
}

/// Declares one thing after the other, on a fresh channel after each refusal (which closes the one
/// it happened on).
struct Desk<'a> {
    link: &'a Link,
    channel: Channel,
    kept: Vec<String>,
}

impl Desk<'_> {
    async fn exchange(&mut self, name: &str, kind: ExchangeKind) -> Result<(), BrokerError> {
        let mut options = ExchangeDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let declared = self
            .channel
            .exchange_declare(name.into(), kind.clone(), options, FieldTable::default())
            .await;
        let Err(error) = declared else { return Ok(()) };
        self.after_refusal(error, &format!("the declaration of exchange {name}"))
            .await?;
        options.passive = true;
        self.channel
            .exchange_declare(name.into(), kind, options, FieldTable::default())
            .await
            .map_err(|error| refused(&format!("the use of exchange {name}"), error))?;
        self.kept.push(format!("exchange {name}"));
        Ok(())
    }

    async fn queue(&mut self, name: &str, arguments: FieldTable) -> Result<(), BrokerError> {
        let mut options = QueueDeclareOptions {
            durable: true,
            ..Default::default()
        };
        let declared = self
            .channel
            .queue_declare(name.into(), options, arguments)
            .await;
        let Err(error) = declared else { return Ok(()) };
        self.after_refusal(error, &format!("the declaration of queue {name}"))
            .await?;
        options.passive = true;
        self.channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await
            .map_err(|error| refused(&format!("the use of queue {name}"), error))?;
        self.kept.push(format!("queue {name}"));
        Ok(())
    }

    /// A refused binding is taken for one that is there, as there is no way to ask. Publishing is
    /// mandatory wherever it matters, so a missing one shows.
    async fn bind(&mut self, queue: &str, exchange: &str, key: &str) -> Result<(), BrokerError> {
        let bound = self.channel.queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        let Err(error) = bound.await else {
            return Ok(());
        };
        self.after_refusal(error, &format!("the binding of queue {queue} to {key}"))
            .await?;
        self.kept.push(format!("binding {key} of queue {queue}"));
        Ok(())
    }

    async fn after_refusal(
        &mut self,
        error: lapin::Error,
        action: &str,
    ) -> Result<(), BrokerError> {
        let forgivable = matches!(
            error.kind(),
            ErrorKind::ProtocolError(error) if matches!(
                error.kind(),
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED)
            )
        );
        if !forgivable {
            return Err(refused(action, error));
        }
        self.channel = self.link.channel().await?;
        Ok(())
    }
}

fn refused(action: &str, error: lapin::Error) -> BrokerError {
    BrokerError::Refused {
        action: action.to_owned(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
