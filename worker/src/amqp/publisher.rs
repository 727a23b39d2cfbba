//! Messages to the broker: connection B, one confirming channel for each lane.
//!
//! **Returned messages.** The broker returns a mandatory message that reached no queue before it
//! confirms it. But the client attaches a returned message to whichever confirm comes next, so with
//! several messages under way it is attached to the wrong one. A window without any return is
//! certain. In any other window, returned messages are identified by their message id. Every other
//! mandatory message of that window is published once more, alone, and its confirm is awaited, so
//! that a return can only belong to that message. Those messages may arrive twice; consumers
//! recognise them by their id.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt;
use lapin::{
    Channel, Confirmation,
    message::BasicReturnMessage,
    options::{BasicPublishOptions, QueueDeclareOptions},
    types::FieldTable,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    connection::{Link, Service, supervise},
    message,
    settings::AmqpSettings,
    topology::Topology,
    upkeep::{declare_all, keep_whole},
};
use crate::{
    broker::{
        BrokerError, BrokerState, Destination, MessagePublisher, Publication, PublishOutcome,
        QueueDepth,
    },
    telemetry,
};

/// How long the broker may take to say how full its queues are.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long [`AmqpPublisher::close`] waits for the supervisor, which bounds its own steps.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Publishes to RabbitMQ. A background task owns the connection. Dropping the publisher ends that
/// task; [`AmqpPublisher::close`] also waits for its end.
#[derive(Debug)]
pub struct AmqpPublisher {
    outlet: Arc<Outlet>,
    tasks: TaskTracker,
}

/// What the publisher shares with its supervisor.
#[derive(Debug)]
struct Outlet {
    settings: AmqpSettings,
    state: watch::Sender<BrokerState>,
    session: RwLock<Option<Arc<Session>>>,
    closing: CancellationToken,
}

impl AmqpPublisher {
    /// Starts connecting. Waits for a broker that is not available yet.
    pub fn start(settings: AmqpSettings) -> Arc<Self> {
        let outlet = Arc::new(Outlet {
            settings,
            state: watch::Sender::new(BrokerState {
                reason: Some("not connected yet".to_owned()),
                ..BrokerState::default()
            }),
            session: RwLock::new(None),
            closing: CancellationToken::new(),
        });
        let tasks = TaskTracker::new();
        tasks.spawn({
            let outlet = Arc::clone(&outlet);
            async move {
                supervise(&*outlet, &outlet.settings, &outlet.state, &outlet.closing).await;
                outlet.state.send_replace(BrokerState {
                    reason: Some("stopped".to_owned()),
                    ..BrokerState::default()
                });
            }
        });
        tasks.close();
        Arc::new(Self { outlet, tasks })
    }

    /// Closes the connection, within a bounded time. Windows under way end with unknown outcomes.
    pub async fn close(&self) {
        self.outlet.closing.cancel();
        if timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("the publishing connection did not close in time");
        }
    }
}

impl Drop for AmqpPublisher {
    fn drop(&mut self) {
        self.outlet.closing.cancel();
    }
}

#[async_trait]
impl MessagePublisher for AmqpPublisher {
    async fn publish(&self, lane: usize, window: &[Publication]) -> Vec<PublishOutcome> {
        let Some(session) = self.outlet.session() else {
            return unknown(window, "not connected");
        };
        if self.outlet.state.borrow().blocked {
            return unknown(window, "the broker holds publishers back");
        }
        session.publish(&self.outlet.settings, lane, window).await
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.outlet.state.subscribe()
    }

    async fn queues(&self) -> Option<Vec<QueueDepth>> {
        let session = self.outlet.session()?;
        let counted = count_queues(&self.outlet.settings, &session.link);
        timeout(LOOK_TIMEOUT, counted).await.ok()?.ok()
    }
}

/// How full each queue of the deployment is, by a connection of its own that declares nothing.
///
/// # Errors
///
/// The broker cannot be reached, or refuses the account.
pub async fn queue_depths(settings: &AmqpSettings) -> Result<Vec<QueueDepth>, BrokerError> {
    let link = Link::open(settings, "status").await?;
    let counted = timeout(settings.connect_timeout, count_queues(settings, &link)).await;
    let counted = counted.unwrap_or_else(|elapsed| Err(link.lost(elapsed)));
    link.close().await;
    counted
}

/// How full each queue of the deployment is.
async fn count_queues(
    settings: &AmqpSettings,
    link: &Link,
) -> Result<Vec<QueueDepth>, BrokerError> {
    let topology = settings.topology();
    let mut channel = link.channel().await?;
    let mut depths = Vec::new();
    for queue in topology.working_queues() {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = topology.name(&queue);
        let found = channel
            .queue_declare(name.into(), options, FieldTable::default())
            .await
            .ok();
        if found.is_none() {
            // The refusal has closed the channel.
            channel = link.channel().await?;
        }
        depths.push(QueueDepth {
            queue,
            messages: found.as_ref().map(|found| found.message_count().into()),
            consumers: found.as_ref().map(lapin::Queue::consumer_count),
        });
    }
    let _ = channel.close(200, "OK".into()).await;
    Ok(depths)
}

fn unknown(window: &[Publication], why: &str) -> Vec<PublishOutcome> {
    window
        .iter()
        .map(|_| PublishOutcome::Unknown(why.to_owned()))
        .collect()
}

impl Outlet {
    /// The channels, while there is a connection.
    fn session(&self) -> Option<Arc<Session>> {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner);
        session.clone()
    }
}

#[async_trait]
impl Service for Outlet {
    type Session = Arc<Session>;

    const ROLE: &'static str = "publish";

    async fn prepare(&self, link: &Arc<Link>) -> Result<Self::Session, BrokerError> {
        declare_all(&self.settings, link).await?;
        let mut lanes = Vec::new();
        for _ in 0..self.settings.publish_channels.max(1) {
            lanes.push(tokio::sync::Mutex::new(link.confirming().await?));
        }
        Ok(Arc::new(Session {
            lanes,
            replies: tokio::sync::Mutex::new(None),
            link: Arc::clone(link),
            broken: CancellationToken::new(),
            returned: Notify::new(),
            why: Mutex::new(None),
        }))
    }

    async fn serve(&self, link: &Arc<Link>, session: Self::Session) -> Result<(), BrokerError> {
        let hold = |now: Option<Arc<Session>>| {
            *self.session.write().unwrap_or_else(PoisonError::into_inner) = now;
        };
        hold(Some(Arc::clone(&session)));
        self.state.send_replace(BrokerState {
            publishing: true,
            ..BrokerState::default()
        });
        let served = tokio::select! {
            error = link.broken(&self.state) => Err(error),
            error = keep_whole(&self.settings, link, &session.returned, &self.state) => Err(error),
            () = session.broken.cancelled() => {
                let why = session.why.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(link.lost(why.unwrap_or_default()))
            }
            () = self.closing.cancelled() => Ok(()),
        };
        hold(None);
        self.state.send_modify(|state| state.publishing = false);
        served
    }
}

/// The channels of one connection.
struct Session {
    /// The lock keeps windows of a lane apart, since their returns could not be told apart.
    lanes: Vec<tokio::sync::Mutex<Channel>>,
    /// Replies go to the queue that a producer names. A bad name can close the channel, so replies
    /// have a channel of their own. It is opened when needed, and losing it does not cost the
    /// connection.
    replies: tokio::sync::Mutex<Option<Channel>>,
    link: Arc<Link>,
    broken: CancellationToken,
    /// A message came back: something of the topology may be missing.
    returned: Notify,
    why: Mutex<Option<String>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

/// The broker's answer to one message.
#[derive(Debug, PartialEq)]
enum Answer {
    Ack,
    Nack,
    None(String),
}

type Confirming<'a> = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send + 'a>>;

impl Session {
    async fn publish(
        &self,
        settings: &AmqpSettings,
        lane: usize,
        window: &[Publication],
    ) -> Vec<PublishOutcome> {
        let to_reply =
            |publication: &&Publication| matches!(publication.destination, Destination::Reply(_));
        let messages: Vec<_> = window.iter().filter(|message| !to_reply(message)).collect();
        // A reply is published with the worker's rights: none goes to a queue of this deployment.
        let is_foreign =
            |publication: &&Publication| !settings.topology().owns(&publication.routing_key);
        let replies: Vec<_> = window.iter().filter(to_reply).filter(is_foreign).collect();
        let (messages, replies) = futures::join!(
            self.publish_messages(settings, lane, &messages),
            self.publish_replies(settings, &replies),
        );
        let (mut messages, mut replies) = (messages.into_iter(), replies.into_iter());
        window
            .iter()
            .map(|publication| {
                if to_reply(&publication) && !is_foreign(&publication) {
                    return PublishOutcome::Returned("a queue of this deployment".to_owned());
                }
                let outcomes = if to_reply(&publication) {
                    &mut replies
                } else {
                    &mut messages
                };
                outcomes
                    .next()
                    .unwrap_or_else(|| PublishOutcome::Unknown("not sent".to_owned()))
            })
            .collect()
    }

    async fn publish_messages(
        &self,
        settings: &AmqpSettings,
        lane: usize,
        window: &[&Publication],
    ) -> Vec<PublishOutcome> {
        if window.is_empty() {
            return Vec::new();
        }
        let channel = self.lanes[lane % self.lanes.len()].lock().await;
        // A caller that drops a window half-way leaves confirms behind, which could carry the
        // returns of the next window. This guard is dropped before the lock is released, so the
        // next window sees it.
        let abandoned = Abandoned(Some(self));
        if self.broken.is_cancelled() {
            return window
                .iter()
                .map(|_| PublishOutcome::Unknown("the connection was lost".to_owned()))
                .collect();
        }
        let topology = settings.topology();
        let deadline = Instant::now() + settings.confirm_timeout;
        let (answers, returned) = send(&channel, topology, window, deadline).await;
        let mut outcomes = Vec::with_capacity(window.len());
        for (publication, answer) in window.iter().zip(answers) {
            let outcome = match (returned.get(&publication.message_id), answer) {
                (_, Err(outcome)) => outcome,
                (_, Ok(Answer::None(why))) => {
                    self.fail(&why);
                    PublishOutcome::Unknown(why)
                }
                // Which one without an id was returned shows when they are confirmed singly.
                (Some(why), Ok(_)) if !publication.message_id.is_empty() => {
                    PublishOutcome::Returned(why.clone())
                }
                (_, Ok(Answer::Nack)) => PublishOutcome::Nacked,
                (_, Ok(Answer::Ack)) => PublishOutcome::Confirmed,
            };
            outcomes.push(outcome);
        }
        if !returned.is_empty() {
            self.returned.notify_one();
        }
        if !returned.is_empty() && !self.broken.is_cancelled() {
            self.confirm_singly(&channel, topology, window, &mut outcomes, settings)
                .await;
        }
        abandoned.finished();
        outcomes
    }

    /// Resolves the unknown outcomes of mandatory messages in a window that had returns.
    async fn confirm_singly(
        &self,
        channel: &Channel,
        topology: &Topology,
        window: &[&Publication],
        outcomes: &mut [PublishOutcome],
        settings: &AmqpSettings,
    ) {
        let deadline = Instant::now() + settings.confirm_timeout;
        for (publication, outcome) in window.iter().zip(outcomes) {
            if *outcome != PublishOutcome::Confirmed || !must_arrive(topology, publication) {
                continue;
            }
            if self.broken.is_cancelled() {
                *outcome = PublishOutcome::Unknown("the connection was lost".to_owned());
                continue;
            }
            let (answers, returned) = send(channel, topology, &[publication], deadline).await;
            *outcome = match (returned.into_values().next(), answers.into_iter().next()) {
                (_, Some(Err(outcome))) => outcome,
                (_, None) => PublishOutcome::Unknown("not sent".to_owned()),
                (_, Some(Ok(Answer::None(why)))) => {
                    self.fail(&why);
                    PublishOutcome::Unknown(why)
                }
                (Some(why), Some(Ok(_))) => PublishOutcome::Returned(why),
                (None, Some(Ok(Answer::Nack))) => PublishOutcome::Nacked,
                (None, Some(Ok(Answer::Ack))) => PublishOutcome::Confirmed,
            };
        }
    }

    /// Best effort: on any error the reply is not sent and the connection stays.
    async fn publish_replies(
        &self,
        settings: &AmqpSettings,
        window: &[&Publication],
    ) -> Vec<PublishOutcome> {
        if window.is_empty() {
            return Vec::new();
        }
        let mut slot = self.replies.lock().await;
        let deadline = Instant::now() + settings.confirm_timeout;
        let channel = match slot.take() {
            Some(channel) => channel,
            None => match timeout_at(deadline, self.link.confirming()).await {
                Ok(Ok(channel)) => channel,
                _ => return window.iter().map(|_| lost_reply("no channel")).collect(),
            },
        };
        let (answers, _) = send(&channel, settings.topology(), window, deadline).await;
        let mut sound = true;
        let outcomes = answers
            .into_iter()
            .map(|answer| match answer {
                Err(outcome) => outcome,
                Ok(Answer::Ack) => PublishOutcome::Confirmed,
                Ok(Answer::Nack) => PublishOutcome::Nacked,
                Ok(Answer::None(why)) => {
                    sound = false;
                    lost_reply(&why)
                }
            })
            .collect();
        if sound {
            *slot = Some(channel);
        }
        outcomes
    }

    /// Marks the connection to be rebuilt.
    fn fail(&self, why: &str) {
        self.why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert_with(|| why.to_owned());
        self.broken.cancel();
    }
}

fn lost_reply(why: &str) -> PublishOutcome {
    PublishOutcome::Unknown(why.to_owned())
}

/// Fails the session when it is dropped before its window has finished.
struct Abandoned<'a>(Option<&'a Session>);

impl Abandoned<'_> {
    fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            session.fail("a window was given up");
        }
    }
}

/// Copies of commands must reach a queue: the original is acked once they have.
fn must_arrive(topology: &Topology, publication: &Publication) -> bool {
    match publication.destination {
        Destination::Commands
        | Destination::Dead
        | Destination::Retry(_)
        | Destination::Queue(_) => true,
        Destination::Events => publication.mandatory && topology.has_event_queues(),
        Destination::Reply(_) => false,
    }
}

/// Publishes all messages in order, then awaits all confirms. Returns the broker's answer to each,
/// and the returned messages by message id. A message that AMQP cannot carry gets its outcome at
/// once.
async fn send(
    channel: &Channel,
    topology: &Topology,
    window: &[&Publication],
    deadline: Instant,
) -> (Vec<Result<Answer, PublishOutcome>>, HashMap<String, String>) {
    let mut under_way = Vec::with_capacity(window.len());
    for publication in window {
        under_way.push(match address(topology, publication) {
            Err(outcome) => Err(outcome),
            Ok((exchange, routing_key, properties)) => {
                let options = BasicPublishOptions {
                    mandatory: must_arrive(topology, publication),
                    immediate: false,
                };
                let body = &publication.body;
                let mut confirming: Confirming<'_> = Box::pin(async move {
                    channel
                        .basic_publish(exchange, routing_key, options, body, properties)
                        .await?
                        .await
                });
                // The first poll queues the frames, so this loop determines the order.
                let early = (&mut confirming).now_or_never();
                Ok((confirming, early))
            }
        });
    }
    let mut returned = HashMap::new();
    let mut answers = Vec::with_capacity(window.len());
    for sent in under_way {
        answers.push(match sent {
            Err(outcome) => Err(outcome),
            Ok((confirming, early)) => {
                let said = match early {
                    Some(said) => Ok(said),
                    None => timeout_at(deadline, confirming).await,
                };
                Ok(match said {
                    Ok(Ok(Confirmation::Ack(message))) => {
                        note(&mut returned, message);
                        Answer::Ack
                    }
                    Ok(Ok(Confirmation::Nack(message))) => {
                        note(&mut returned, message);
                        Answer::Nack
                    }
                    Ok(Ok(Confirmation::NotRequested)) => {
                        Answer::None("the channel does not confirm".to_owned())
                    }
                    Ok(Err(error)) => Answer::None(telemetry::chain(&error)),
                    Err(_) => Answer::None("not confirmed in time".to_owned()),
                })
            }
        });
    }
    (answers, returned)
}

/// Stores a returned message under its id. One without an id is stored under an empty id: it still
/// shows that the window had a return.
fn note(returned: &mut HashMap<String, String>, message: Option<BasicReturnMessage>) {
    if let Some(message) = message {
        let id = message
            .properties
            .message_id()
            .as_ref()
            .map(ToString::to_string);
        returned.insert(
            id.unwrap_or_default(),
            format!("{} {}", message.reply_code, message.reply_text),
        );
    }
}

type Addressed = (
    lapin::types::ShortString,
    lapin::types::ShortString,
    lapin::BasicProperties,
);

/// Exchange, routing key and properties of a message.
fn address(topology: &Topology, publication: &Publication) -> Result<Addressed, PublishOutcome> {
    let key = publication.routing_key.as_str();
    let mut headers = &publication.headers;
    let with_first_key;
    let (exchange, routing_key) = match &publication.destination {
        Destination::Events => (topology.events(), key.to_owned()),
        Destination::Commands => (topology.commands(), key.to_owned()),
        Destination::Dead => (topology.dead(), key.to_owned()),
        Destination::Reply(queue) | Destination::Queue(queue) => (String::new(), queue.clone()),
        Destination::Retry(delay) => {
            let routable = topology.routable(key, &publication.message_type);
            if routable != key {
                let mut more = headers.clone();
                more.insert(message::ROUTING_KEY_HEADER.to_owned(), key.to_owned());
                with_first_key = more;
                headers = &with_first_key;
            }
            (topology.retry(*delay), routable)
        }
    };
    let too_long = |what: &str| {
        PublishOutcome::Returned(format!("the {what} is longer than the 255 bytes of AMQP"))
    };
    Ok((
        message::short(&exchange).ok_or_else(|| too_long("exchange's name"))?,
        message::short(&routing_key).ok_or_else(|| too_long("routing key"))?,
        message::to_amqp(publication, headers),
    ))
}
