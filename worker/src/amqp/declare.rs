//! Declares everything that the [`Topology`] names, and deletes it.

use lapin::{
    Channel, ErrorKind, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    protocol::{AMQPErrorKind, AMQPSoftError},
    types::{AMQPValue, FieldTable},
};

use super::{
    AmqpSettings,
    connection::Link,
    topology::{DELIVERY_LIMIT, Topology},
};
use crate::broker::{BrokerError, CommandQueue, RetryDelay};

/// Declares everything. If the account may not declare, or finds other properties than these, the
/// existing objects that an operator made are used unchanged. They must exist.
pub(super) async fn declare(topology: &Topology, link: &Link) -> Result<(), BrokerError> {
    let mut declarer = Declarer {
        link,
        channel: link.channel().await?,
        kept: Vec::new(),
    };
    declarer
        .exchange(&topology.commands(), ExchangeKind::Topic)
        .await?;
    declarer
        .exchange(&topology.events(), ExchangeKind::Topic)
        .await?;
    declarer
        .exchange(&topology.dead(), ExchangeKind::Fanout)
        .await?;

    declarer.queue(&topology.dead(), unlimited_queue()).await?;
    declarer
        .bind(&topology.dead(), &topology.dead(), "")
        .await?;
    for queue in CommandQueue::ALL {
        let mut arguments = dead_lettering(&topology.dead());
        arguments.insert(
            "x-delivery-limit".into(),
            AMQPValue::LongInt(DELIVERY_LIMIT),
        );
        let name = topology.queue(queue);
        declarer.queue(&name, arguments).await?;
        for key in topology.keys(queue) {
            declarer.bind(&name, &topology.commands(), &key).await?;
        }
    }
    for delay in RetryDelay::ALL {
        let name = topology.retry(delay);
        let mut arguments = dead_lettering(&topology.commands());
        let milliseconds = i64::try_from(delay.seconds() * 1_000).unwrap_or(i64::MAX);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(milliseconds));
        declarer.exchange(&name, ExchangeKind::Fanout).await?;
        declarer.queue(&name, arguments).await?;
        declarer.bind(&name, &name, "").await?;
    }
    for (name, key) in [
        (topology.step_completed(), "step.completed.#"),
        (topology.transition_occurred(), "transition.occurred.#"),
    ] {
        declarer.queue(&name, unlimited_queue()).await?;
        declarer.bind(&name, &topology.events(), key).await?;
    }
    if !declarer.kept.is_empty() {
        tracing::info!(
            kept = declarer.kept.join(", "),
            "the account may not declare these, or they differ; used as they are"
        );
    }
    // Closing is left to the drop of the last handle: nothing waits for it.
    Ok(())
}

/// Deletes everything under the prefix of `settings`, with its messages. For a topology that was
/// declared temporarily.
pub async fn delete_topology(settings: &AmqpSettings) -> Result<(), BrokerError> {
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

/// A queue whose messages are removed only once they have arrived at `exchange`. The default
/// strategy sends them and forgets them.
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

/// A queue that never drops a message for having been read too often: the dead queue, which
/// operators browse, and the queues of events, whose consumers belong to other systems. No value
/// means "no limit" on every broker. Since 4.0, leaving it out means 20. There, -1 means no limit,
/// but it makes 3.10 drop a message the first time it is put back. So the limit is a number that no
/// message reaches.
fn unlimited_queue() -> FieldTable {
    let mut arguments = quorum();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(i32::MAX));
    arguments
}

/// Declares one object after the other. After each refusal it opens a new channel, because a
/// refusal closes the channel.
struct Declarer<'a> {
    link: &'a Link,
    channel: Channel,
    kept: Vec<String>,
}

impl Declarer<'_> {
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

    /// A refused binding is assumed to exist, since the broker offers no way to ask. Publishing is
    /// mandatory wherever it matters, so a missing binding shows up there.
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
