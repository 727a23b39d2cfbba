//! Declares everything that the [`Topology`] names, tells what of it is missing, and deletes it.

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions,
    },
    protocol::AMQPSoftError,
    types::{AMQPValue, FieldTable},
};
use serde::Serialize;
use tokio::time::timeout;

use super::{
    AmqpSettings,
    connection::{Link, soft_error},
    moves,
    topology::{DELIVERY_LIMIT, Topology},
};
use crate::broker::{BrokerError, CommandQueue, RetryDelay};

/// How long a verb waits for everything that it asks of the broker.
const DECLARE_TIMEOUT: Duration = Duration::from_mins(2);

/// What a declaration found and made. Names are as operators write them: `queue glyph.dead`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Declared {
    /// What was not there and is now.
    pub made: Vec<String>,
    /// What is there with other properties than these; it is used as it is.
    pub differs: Vec<String>,
    /// What the account may not declare, and is there.
    pub not_allowed: Vec<String>,
}

impl Declared {
    /// Whether commands may be in the dead queue because they found no queue: one was missing. Also at
    /// the first start: a queue cannot be bound before there is an exchange, and a producer that waits
    /// for that may be quicker.
    pub(super) fn had_gaps(&self, topology: &Topology) -> bool {
        let made = |name: String| self.made.contains(&format!("queue {name}"));
        let mut queues = CommandQueue::ALL.into_iter();
        queues.any(|queue| made(topology.queue(queue)))
    }

    /// Whether the commands exchange is there without its alternate exchange, or with another one.
    pub fn loses_mistyped_keys(&self, topology: &Topology) -> bool {
        self.differs.contains(&exchange(&topology.commands()))
    }
}

/// Claims the prefix for the deployment of the settings, and declares everything. What an operator
/// made with other properties, or what the account may not declare, is used as it is, and must be
/// there.
pub(super) async fn declare(settings: &AmqpSettings, link: &Link) -> Result<Declared, BrokerError> {
    claim_prefix(settings, link).await?;
    let topology = settings.topology();
    let mut work = Declarer::on(link).await?;
    for object in objects(topology) {
        work.declare(&object).await?;
    }
    // Closing is left to the drop of the last handle: nothing waits for it.
    if !work.missing.is_empty() {
        return Err(BrokerError::Missing { what: work.missing });
    }
    Ok(work.declared)
}

/// Says in the log what an operator should know of a declaration.
pub(super) fn log(declared: &Declared, topology: &Topology) {
    if !declared.made.is_empty() {
        tracing::info!(made = declared.made.join(", "), "declared on the broker");
    }
    let kept: Vec<_> = declared
        .differs
        .iter()
        .chain(&declared.not_allowed)
        .collect();
    if !kept.is_empty() {
        let kept = kept.into_iter().map(String::as_str).collect::<Vec<_>>();
        tracing::info!(
            kept = kept.join(", "),
            "the account may not declare these, or they differ; used as they are"
        );
    }
    if declared.loses_mistyped_keys(topology) {
        tracing::warn!(
            exchange = topology.commands(),
            "the exchange has no alternate exchange: commands with a mistyped routing key are lost; \
             `glyph topology declare --replace` replaces it"
        );
    }
}

/// Which objects are not there. Costs one round trip for each object, and changes nothing.
pub(super) async fn missing(topology: &Topology, link: &Link) -> Result<Vec<String>, BrokerError> {
    let mut declarer = Declarer::on(link).await?;
    for object in objects(topology) {
        if !declarer.exists(&object).await? {
            declarer.missing.push(object.to_string());
        }
    }
    declarer.close().await;
    Ok(declarer.missing)
}

/// Claims the prefix for the deployment of the settings. Two deployments with one prefix would take
/// each other's commands, so the second is refused.
///
/// The claim is a queue with the deployment's id among its arguments: the broker compares them with
/// those of the queue that is there, so of two that start together one is refused. An account that
/// may not declare cannot ask.
pub(super) async fn claim_prefix(settings: &AmqpSettings, link: &Link) -> Result<(), BrokerError> {
    let Some(deployment) = settings.deployment else {
        return Ok(());
    };
    let topology = settings.topology();
    let mut arguments = quorum();
    // The queue is never consumed and has no messages, so nothing is ever dead-lettered by it. Of
    // the arguments that a broker compares, this key alone takes any text.
    arguments.insert(
        "x-dead-letter-exchange".into(),
        AMQPValue::LongString(topology.dead().into()),
    );
    arguments.insert(
        "x-dead-letter-routing-key".into(),
        AMQPValue::LongString(deployment.to_string().into()),
    );
    let channel = link.channel().await?;
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let name = topology.deployment();
    let claimed = channel
        .queue_declare(name.as_str().into(), options, arguments)
        .await;
    match claimed {
        Ok(_) => {
            let _ = channel.close(200, "OK".into()).await;
            Ok(())
        }
        Err(error) => match soft_error(&error) {
            Some(AMQPSoftError::PRECONDITIONFAILED) => Err(BrokerError::OtherDeployment {
                prefix: topology.prefix().to_owned(),
            }),
            Some(AMQPSoftError::ACCESSREFUSED) => Ok(()),
            _ => Err(refused(&format!("the declaration of queue {name}"), error)),
        },
    }
}

/// Declares everything, for an operator, and puts back commands that found no queue. With `replace`,
/// exchanges with other properties are deleted and made anew, with their bindings; queues and their
/// messages are left alone. Between the two, publishing to the exchange fails.
pub async fn declare_topology(
    settings: &AmqpSettings,
    replace: bool,
) -> Result<Declared, BrokerError> {
    with_link(settings, async |link| {
        let mut declared = declare(settings, link).await?;
        if declared.had_gaps(settings.topology()) {
            moves::put_back(settings).await?;
        }
        if replace {
            let topology = settings.topology();
            for object in objects(topology) {
                let name = object.to_string();
                if let Kind::Exchange(_) = object.kind
                    && declared.differs.contains(&name)
                {
                    delete_exchange(link, &object.name).await?;
                    let again = declare(settings, link).await?;
                    declared.differs.retain(|differs| *differs != name);
                    declared.made.extend(again.made);
                }
            }
        }
        Ok(declared)
    })
    .await
}

/// Takes the prefix over for the deployment of the settings; workers of the one that had it stop.
pub async fn adopt_prefix(settings: &AmqpSettings) -> Result<(), BrokerError> {
    with_link(settings, async |link| {
        delete_queue(link, &settings.topology().deployment()).await?;
        claim_prefix(settings, link).await
    })
    .await
}

/// Deletes everything under the prefix of `settings`, with its messages. For a topology that was
/// declared temporarily.
pub async fn delete_topology(settings: &AmqpSettings) -> Result<(), BrokerError> {
    let topology = settings.topology();
    with_link(settings, async |link| {
        for queue in topology.queues() {
            delete_queue(link, &queue).await?;
        }
        for exchange in topology.exchanges() {
            delete_exchange(link, &exchange).await?;
        }
        Ok(())
    })
    .await
}

async fn with_link<T>(
    settings: &AmqpSettings,
    work: impl AsyncFnOnce(&Link) -> Result<T, BrokerError>,
) -> Result<T, BrokerError> {
    let link = Link::open(settings, "topology").await?;
    // Some requests of the client never end once their connection has.
    let done = timeout(DECLARE_TIMEOUT, work(&link)).await;
    link.close().await;
    done.unwrap_or_else(|_| {
        Err(BrokerError::Unconfirmed {
            action: "what was asked of its exchanges and queues".to_owned(),
            seconds: DECLARE_TIMEOUT.as_secs(),
        })
    })
}

async fn delete_queue(link: &Link, name: &str) -> Result<(), BrokerError> {
    let deleted = link
        .channel()
        .await?
        .queue_delete(name.into(), QueueDeleteOptions::default())
        .await;
    let deleted = deleted.map(drop);
    deleted.map_err(|error| refused(&format!("the deletion of queue {name}"), error))
}

async fn delete_exchange(link: &Link, name: &str) -> Result<(), BrokerError> {
    let deleted = link
        .channel()
        .await?
        .exchange_delete(name.into(), ExchangeDeleteOptions::default())
        .await;
    deleted.map_err(|error| refused(&format!("the deletion of exchange {name}"), error))
}

/// An exchange or a queue, as it is to be.
pub(super) struct Object {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) arguments: FieldTable,
}

pub(super) enum Kind {
    Exchange(ExchangeKind),
    /// A queue, with the exchanges and keys that it is bound to.
    Queue(Vec<(String, String)>),
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            Kind::Exchange(_) => f.write_str(&exchange(&self.name)),
            Kind::Queue(_) => write!(f, "queue {}", self.name),
        }
    }
}

fn exchange(name: &str) -> String {
    format!("exchange {name}")
}

/// Every object, each after those that it names. What the commands exchange cannot route goes to
/// the dead queue, so that queue comes first.
pub(super) fn objects(topology: &Topology) -> Vec<Object> {
    let exchange = |name: String, kind: ExchangeKind, arguments: FieldTable| Object {
        name,
        kind: Kind::Exchange(kind),
        arguments,
    };
    let queue = |name: String, arguments: FieldTable, bindings: Vec<(String, String)>| Object {
        name,
        kind: Kind::Queue(bindings),
        arguments,
    };
    let plain = FieldTable::default;
    let mut objects = vec![
        exchange(topology.dead(), ExchangeKind::Fanout, plain()),
        queue(
            topology.dead(),
            unlimited_queue(),
            vec![(topology.dead(), String::new())],
        ),
        exchange(
            topology.commands(),
            ExchangeKind::Topic,
            alternate(&topology.dead()),
        ),
        exchange(topology.events(), ExchangeKind::Topic, plain()),
    ];
    for command_queue in CommandQueue::ALL {
        let mut arguments = dead_lettering(&topology.dead());
        arguments.insert(
            "x-delivery-limit".into(),
            AMQPValue::LongInt(DELIVERY_LIMIT),
        );
        let keys = topology.keys(command_queue).into_iter();
        let bindings = keys.map(|key| (topology.commands(), key)).collect();
        objects.push(queue(topology.queue(command_queue), arguments, bindings));
    }
    for delay in RetryDelay::ALL {
        let name = topology.retry(delay);
        let mut arguments = dead_lettering(&topology.commands());
        let milliseconds = i64::try_from(delay.seconds() * 1_000).unwrap_or(i64::MAX);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(milliseconds));
        objects.push(exchange(name.clone(), ExchangeKind::Fanout, plain()));
        let bindings = vec![(name.clone(), String::new())];
        objects.push(queue(name, arguments, bindings));
    }
    if topology.has_event_queues() {
        for (name, key) in [
            (topology.step_completed(), "step.completed.#"),
            (topology.transition_occurred(), "transition.occurred.#"),
        ] {
            let bindings = vec![(topology.events(), key.to_owned())];
            objects.push(queue(name, unlimited_queue(), bindings));
        }
    }
    objects
}

/// An exchange whose unroutable messages go to another one.
fn alternate(exchange: &str) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "alternate-exchange".into(),
        AMQPValue::LongString(exchange.into()),
    );
    arguments
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
    declared: Declared,
    /// What is not there and may not be declared.
    missing: Vec<String>,
}

impl<'a> Declarer<'a> {
    async fn on(link: &'a Link) -> Result<Self, BrokerError> {
        Ok(Self {
            link,
            channel: link.channel().await?,
            declared: Declared::default(),
            missing: Vec::new(),
        })
    }

    async fn declare(&mut self, object: &Object) -> Result<(), BrokerError> {
        let existed = self.exists(object).await?;
        match self.ask(object, false).await {
            Ok(()) if existed => {}
            Ok(()) => self.declared.made.push(object.to_string()),
            Err(error) => {
                let action = format!("the declaration of {object}");
                let why = self.after_refusal(error, &action).await?;
                match why {
                    AMQPSoftError::PRECONDITIONFAILED => {
                        self.declared.differs.push(object.to_string());
                    }
                    _ if existed => self.declared.not_allowed.push(object.to_string()),
                    _ => {
                        self.missing.push(object.to_string());
                        return Ok(());
                    }
                }
            }
        }
        let Kind::Queue(bindings) = &object.kind else {
            return Ok(());
        };
        for (exchange, key) in bindings {
            self.bind(&object.name, exchange, key).await?;
        }
        Ok(())
    }

    /// Whether the broker has it, with whatever properties.
    async fn exists(&mut self, object: &Object) -> Result<bool, BrokerError> {
        let Err(error) = self.ask(object, true).await else {
            return Ok(true);
        };
        if soft_error(&error) == Some(AMQPSoftError::NOTFOUND) {
            self.channel = self.link.channel().await?;
            return Ok(false);
        }
        Err(refused(&format!("the use of {object}"), error))
    }

    async fn ask(&self, object: &Object, passive: bool) -> Result<(), lapin::Error> {
        let (name, arguments) = (object.name.as_str().into(), object.arguments.clone());
        match &object.kind {
            Kind::Exchange(kind) => {
                let options = ExchangeDeclareOptions {
                    passive,
                    durable: true,
                    ..ExchangeDeclareOptions::default()
                };
                self.channel
                    .exchange_declare(name, kind.clone(), options, arguments)
                    .await
            }
            Kind::Queue(_) => {
                let options = QueueDeclareOptions {
                    passive,
                    durable: true,
                    ..QueueDeclareOptions::default()
                };
                let declared = self.channel.queue_declare(name, options, arguments);
                declared.await.map(drop)
            }
        }
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
        let binding = format!("binding {key} of queue {queue}");
        self.declared.not_allowed.push(binding);
        Ok(())
    }

    /// Goes on after a refusal that an operator may have meant.
    async fn after_refusal(
        &mut self,
        error: lapin::Error,
        action: &str,
    ) -> Result<AMQPSoftError, BrokerError> {
        match soft_error(&error) {
            Some(why @ (AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED)) => {
                self.channel = self.link.channel().await?;
                Ok(why)
            }
            _ => Err(refused(action, error)),
        }
    }

    async fn close(&self) {
        let _ = self.channel.close(200, "OK".into()).await;
    }
}

fn refused(action: &str, error: lapin::Error) -> BrokerError {
    BrokerError::Refused {
        action: action.to_owned(),
        source: error.into(),
    }
}
