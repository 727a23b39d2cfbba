//! The queues behind the traits of [`crate::broker`], so that the road of RabbitMQ serves them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    COMMAND_QUEUES, Consumer, DEAD, EmbeddedError, EmbeddedQueue, Exchange, NewMessage, Routed,
    queue::detached,
};
use crate::{
    backoff::Backoff,
    broker::{
        BrokerError, BrokerState, CommandQueue, CommandSource, DeadLetter, DeadLetters, Delivery,
        Destination, MessagePublisher, Properties, Publication, PublishOutcome, Receipt,
    },
    telemetry,
};

/// Deliveries that one look at the table brings at most.
const RECEIVE_MAX: usize = 1_024;
/// Dead letters of one look at the table.
const DEAD_PAGE: u32 = 1_000;
/// Waits between attempts on a file that is busy.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// Puts a message where it is delivered later: the ladder of retries.
const INSERT_DELAYED: &str = "
    INSERT INTO queue_messages
        (queue, routing_key, message_id, message_type, correlation_id, reply_to, headers, body,
         enqueued_at, available_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

fn connected() -> BrokerState {
    BrokerState {
        consuming: true,
        publishing: true,
        blocked: false,
        reason: None,
    }
}

/// What is done with deliveries.
#[derive(Debug)]
enum Settlement {
    Done(Vec<i64>),
    GivenBack(Vec<i64>),
}

/// Takes commands from the queues of a file, as the only process that does.
#[derive(Debug)]
pub struct EmbeddedSource {
    incoming: Mutex<mpsc::Receiver<Delivery>>,
    settlements: mpsc::UnboundedSender<Settlement>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    state: watch::Sender<BrokerState>,
}

#[derive(Debug)]
struct Shared {
    consumer: Consumer,
    /// Deliveries handed out and not settled.
    unsettled: AtomicUsize,
    unsettled_max: usize,
    held: watch::Sender<bool>,
    /// Something was settled, so that there may be room.
    room: Notify,
    /// No more is taken.
    stopping: CancellationToken,
    /// What is settled from now on is settled at once, and then it ends.
    closing: CancellationToken,
}

impl EmbeddedSource {
    /// Begins to consume.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::AlreadyConsumed`] where another process does.
    pub async fn start(queue: &EmbeddedQueue, prefetch: u16) -> Result<Arc<Self>, EmbeddedError> {
        let shared = Arc::new(Shared {
            consumer: queue.consume().await?,
            unsettled: AtomicUsize::new(0),
            unsettled_max: usize::from(prefetch).max(1),
            held: watch::Sender::new(false),
            room: Notify::new(),
            stopping: CancellationToken::new(),
            closing: CancellationToken::new(),
        });
        let (send, incoming) = mpsc::channel(shared.unsettled_max);
        let (settlements, settled) = mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        tasks.spawn(receive(Arc::clone(&shared), send));
        tasks.spawn(settle(Arc::clone(&shared), settled));
        Ok(Arc::new(Self {
            incoming: Mutex::new(incoming),
            settlements,
            shared,
            tasks,
            state: watch::Sender::new(connected()),
        }))
    }

    /// Writes down what has been settled and frees the lock of the file.
    pub async fn close(&self) {
        self.shared.stopping.cancel();
        self.shared.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn send(&self, receipts: &[Receipt], settlement: fn(Vec<i64>) -> Settlement) {
        let tags = receipts
            .iter()
            .filter_map(|r| i64::try_from(r.tag).ok())
            .collect();
        // After `close` nobody listens: the next process delivers again, and the inbox knows.
        let _ = self.settlements.send(settlement(tags));
        self.shared
            .unsettled
            .fetch_sub(receipts.len(), Ordering::Relaxed);
        self.shared.room.notify_one();
    }
}

#[async_trait]
impl CommandSource for EmbeddedSource {
    async fn next(&self) -> Option<Delivery> {
        self.incoming.lock().await.recv().await
    }

    fn settle(&self, receipts: &[Receipt]) {
        self.send(receipts, Settlement::Done);
    }

    fn give_back(&self, receipts: &[Receipt]) {
        self.send(receipts, Settlement::GivenBack);
    }

    fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    async fn stop(&self) {
        self.shared.stopping.cancel();
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }
}

/// Takes deliveries as long as there is room for them.
async fn receive(shared: Arc<Shared>, incoming: mpsc::Sender<Delivery>) {
    let mut held = shared.held.subscribe();
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    loop {
        let room = async {
            // A closed channel cannot be: `shared` holds its sender.
            let _ = held.wait_for(|held| !held).await;
            loop {
                let freed = shared.room.notified();
                let room = shared
                    .unsettled_max
                    .saturating_sub(shared.unsettled.load(Ordering::Relaxed));
                if room > 0 {
                    break room.min(RECEIVE_MAX);
                }
                freed.await;
            }
        };
        let deliveries = async {
            let limit = u32::try_from(room.await).unwrap_or(u32::MAX);
            shared.consumer.next(&COMMAND_QUEUES, limit).await
        };
        let deliveries = tokio::select! {
            deliveries = deliveries => deliveries,
            // What the dropped call had leased is available again.
            () = shared.stopping.cancelled() => return,
        };
        match deliveries {
            Ok(deliveries) => {
                backoff.reset();
                shared
                    .unsettled
                    .fetch_add(deliveries.len(), Ordering::Relaxed);
                for delivery in deliveries {
                    // The channel holds as many as may be unsettled, so this does not wait.
                    if incoming.send(Delivery::from(delivery)).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = telemetry::chain(&error),
                    "the queues cannot be read"
                );
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// Writes down what is settled, as much at a time as has come together.
async fn settle(shared: Arc<Shared>, mut settled: mpsc::UnboundedReceiver<Settlement>) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            received = settled.recv_many(&mut batch, RECEIVE_MAX) => {
                if received == 0 {
                    return;
                }
            }
            () = shared.closing.cancelled() => return,
        }
        let (mut done, mut given_back) = (Vec::new(), Vec::new());
        for settlement in batch.drain(..) {
            match settlement {
                Settlement::Done(tags) => done.extend(tags),
                Settlement::GivenBack(tags) => given_back.extend(tags),
            }
        }
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        while let Err(error) = write_down(&shared.consumer, &done, &given_back).await {
            tracing::warn!(
                error = telemetry::chain(&error),
                "settling in the file failed"
            );
            if shared.closing.is_cancelled() {
                return;
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }
}

async fn write_down(
    consumer: &Consumer,
    done: &[i64],
    given_back: &[i64],
) -> Result<(), EmbeddedError> {
    if !done.is_empty() {
        consumer.ack(done).await?;
    }
    if !given_back.is_empty() {
        consumer.release(given_back).await?;
    }
    Ok(())
}

impl From<super::Delivery> for Delivery {
    fn from(delivery: super::Delivery) -> Self {
        let queue = CommandQueue::ALL
            .into_iter()
            .find(|q| q.as_str() == delivery.queue);
        let properties = delivery.properties;
        Self {
            // Whatever is read from the command queues came from one of them.
            queue: queue.unwrap_or(CommandQueue::Control),
            receipt: Receipt {
                channel: 0,
                tag: u64::try_from(delivery.tag).unwrap_or(0),
            },
            body: delivery.body,
            properties: Properties {
                message_id: properties.message_id,
                message_type: properties.message_type,
                correlation_id: properties.correlation_id,
                reply_to: properties.reply_to,
                routing_key: delivery.routing_key,
                headers: texts(properties.headers),
            },
            deliveries_before: delivery.redelivered,
        }
    }
}

fn texts(headers: Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    headers
        .into_iter()
        .map(|(name, value)| (name, text(value)))
        .collect()
}

/// Publishes to the queues of a file.
#[derive(Debug)]
pub struct EmbeddedPublisher {
    queue: EmbeddedQueue,
    state: watch::Sender<BrokerState>,
}

impl EmbeddedPublisher {
    /// A publisher to `queue`.
    pub fn new(queue: EmbeddedQueue) -> Arc<Self> {
        Arc::new(Self {
            queue,
            state: watch::Sender::new(connected()),
        })
    }

    /// Publishes what goes one way, in order.
    async fn publish_to(
        &self,
        destination: &Destination,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Routed>, EmbeddedError> {
        let count = messages.len();
        match destination {
            Destination::Events => self.queue.publish(Exchange::Events, messages).await,
            Destination::Commands => self.queue.publish(Exchange::Commands, messages).await,
            Destination::Dead => self.send_all(DEAD, messages).await,
            Destination::Reply(queue) => self.send_all(queue, messages).await,
            Destination::Retry(delay) => {
                self.delay(messages, Duration::from_secs(delay.seconds()))
                    .await?;
                Ok(vec![Routed::Queued; count])
            }
        }
    }

    async fn send_all(
        &self,
        queue: &str,
        messages: Vec<NewMessage>,
    ) -> Result<Vec<Routed>, EmbeddedError> {
        let count = messages.len();
        for message in messages {
            self.queue.send(queue, message).await?;
        }
        Ok(vec![Routed::Queued; count])
    }

    async fn delay(&self, messages: Vec<NewMessage>, delay: Duration) -> Result<(), EmbeddedError> {
        let store = self.queue.store.clone();
        detached(async move {
            let mut tx = store.begin().await?;
            let now = store.now();
            for NewMessage {
                routing_key,
                properties,
                body,
            } in messages
            {
                let queue = Exchange::Commands.queue(&routing_key);
                sqlx::query(INSERT_DELAYED)
                    .bind(queue.unwrap_or(CommandQueue::of(&routing_key).as_str()))
                    .bind(routing_key)
                    .bind(properties.message_id)
                    .bind(properties.message_type)
                    .bind(properties.correlation_id)
                    .bind(properties.reply_to)
                    .bind(Value::Object(properties.headers).to_string())
                    .bind(body)
                    .bind(now.timestamp_micros())
                    .bind((now + delay).timestamp_micros())
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl MessagePublisher for EmbeddedPublisher {
    async fn publish(&self, _lane: usize, window: &[Publication]) -> Vec<PublishOutcome> {
        let mut outcomes = vec![PublishOutcome::Unknown("not tried".to_owned()); window.len()];
        // One transaction for each way that messages of the window go, not one for each message.
        let mut ways: Vec<(&Destination, Vec<usize>)> = Vec::new();
        for (index, publication) in window.iter().enumerate() {
            match ways
                .iter_mut()
                .find(|(way, _)| **way == publication.destination)
            {
                Some((_, indexes)) => indexes.push(index),
                None => ways.push((&publication.destination, vec![index])),
            }
        }
        for (way, indexes) in ways {
            let messages = indexes
                .iter()
                .map(|&index| NewMessage::from(&window[index]))
                .collect();
            match self.publish_to(way, messages).await {
                Ok(routed) => {
                    for (index, routed) in indexes.into_iter().zip(routed) {
                        outcomes[index] = outcome(routed, &window[index]);
                    }
                }
                Err(error) => {
                    let text = telemetry::chain(&error);
                    for index in indexes {
                        outcomes[index] = PublishOutcome::Unknown(text.clone());
                    }
                }
            }
        }
        outcomes
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }
}

fn outcome(routed: Routed, publication: &Publication) -> PublishOutcome {
    match routed {
        Routed::Queued | Routed::Dropped => PublishOutcome::Confirmed,
        Routed::Returned => {
            PublishOutcome::Returned(format!("no queue for `{}`", publication.routing_key))
        }
    }
}

impl From<&Publication> for NewMessage {
    fn from(publication: &Publication) -> Self {
        let header = |(name, text): (&String, &String)| {
            // Counts are numbers in the table, where they are compared.
            let number = (name == "x-glyph-attempts")
                .then(|| text.parse::<u64>().ok())
                .flatten();
            (
                name.clone(),
                number.map_or_else(|| Value::from(text.clone()), Value::from),
            )
        };
        Self {
            routing_key: publication.routing_key.clone(),
            properties: super::Properties {
                message_id: Some(publication.message_id.clone()).filter(|id| !id.is_empty()),
                message_type: Some(publication.message_type.clone()).filter(|t| !t.is_empty()),
                correlation_id: publication.correlation_id.clone(),
                reply_to: publication.reply_to.clone(),
                headers: publication.headers.iter().map(header).collect(),
            },
            body: publication.body.to_vec(),
        }
    }
}

/// The dead queue of a file.
#[derive(Clone, Debug)]
pub struct EmbeddedDeadLetters {
    queue: EmbeddedQueue,
}

impl EmbeddedDeadLetters {
    /// The dead queue beside `queue`.
    pub fn new(queue: EmbeddedQueue) -> Self {
        Self { queue }
    }

    /// Every dead letter with its tag, at most `limit`, oldest first.
    async fn all(&self, limit: usize) -> Result<Vec<(i64, DeadLetter)>, BrokerError> {
        let (mut letters, mut after) = (Vec::new(), 0);
        while letters.len() < limit {
            let page = self
                .queue
                .dead_letters(after, DEAD_PAGE)
                .await
                .map_err(refused("a look"))?;
            let Some(last) = page.last() else { break };
            after = last.message.tag;
            letters.extend(
                page.into_iter()
                    .map(|dead| (dead.message.tag, DeadLetter::from(dead))),
            );
        }
        letters.truncate(limit);
        Ok(letters)
    }

    async fn chosen(
        &self,
        chosen: &(dyn for<'a> Fn(&'a DeadLetter) -> bool + Sync),
    ) -> Result<Vec<i64>, BrokerError> {
        let letters = self.all(usize::MAX).await?;
        Ok(letters
            .into_iter()
            .filter(|(_, dead)| chosen(dead))
            .map(|(tag, _)| tag)
            .collect())
    }
}

#[async_trait]
impl DeadLetters for EmbeddedDeadLetters {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        Ok(self
            .all(limit)
            .await?
            .into_iter()
            .map(|(_, letter)| letter)
            .collect())
    }

    async fn replay(
        &self,
        chosen: &(dyn for<'a> Fn(&'a DeadLetter) -> bool + Sync),
    ) -> Result<usize, BrokerError> {
        let tags = self.chosen(chosen).await?;
        let replayed = self
            .queue
            .replay_dead(&tags)
            .await
            .map_err(refused("a replay"))?;
        Ok(replayed.len())
    }

    async fn drop(
        &self,
        chosen: &(dyn for<'a> Fn(&'a DeadLetter) -> bool + Sync),
    ) -> Result<usize, BrokerError> {
        let tags = self.chosen(chosen).await?;
        let dropped = self
            .queue
            .drop_dead(&tags)
            .await
            .map_err(refused("a drop"))?;
        Ok(dropped.len())
    }
}

fn refused(action: &'static str) -> impl Fn(EmbeddedError) -> BrokerError {
    move |error| BrokerError::Refused {
        action: action.to_owned(),
        source: Box::new(error),
    }
}

impl From<super::DeadLetter> for DeadLetter {
    fn from(dead: super::DeadLetter) -> Self {
        let message = dead.message;
        Self {
            command_id: command_id(&message),
            reason: dead.reason,
            error: Some(dead.error).filter(|error| !error.is_empty()),
            attempts: u32::try_from(dead.attempts).unwrap_or(u32::MAX),
            first_failed_at: dead.first_failed_at.map(|at| at.to_rfc3339()),
            routing_key: message.routing_key,
            bytes: message.body.len(),
            body: String::from_utf8_lossy(&message.body).into_owned(),
        }
    }
}

/// The id in the body, else the one beside it.
fn command_id(message: &super::Delivery) -> Option<String> {
    let body: Option<Value> = serde_json::from_slice(&message.body).ok();
    let inner = body.and_then(|body| Some(body.get("command_id")?.as_str()?.to_owned()));
    inner.or_else(|| message.properties.message_id.clone())
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use glyph_workflow_engine::store::SqliteEventStore;

    use super::*;
    use crate::broker::RetryDelay;

    async fn file() -> (tempfile::TempDir, EmbeddedQueue) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("glyph.db");
        let store = SqliteEventStore::open(&path, Arc::new(Utc::now))
            .await
            .unwrap();
        store.migrate().await.unwrap();
        (folder, EmbeddedQueue::new(store))
    }

    fn publication(destination: Destination, key: &str) -> Publication {
        Publication {
            destination,
            routing_key: key.to_owned(),
            message_id: "m".to_owned(),
            message_type: key.to_owned(),
            correlation_id: None,
            reply_to: None,
            headers: BTreeMap::from([("x-glyph-attempts".to_owned(), "3".to_owned())]),
            content_type: "application/json",
            body: Arc::from(&b"{}"[..]),
            timestamp: Utc::now(),
            mandatory: true,
            persistent: true,
        }
    }

    #[tokio::test]
    async fn a_delivery_is_settled_or_comes_again() {
        let (_folder, queue) = file().await;
        let publisher = EmbeddedPublisher::new(queue.clone());
        let command = publication(Destination::Commands, "submission");
        let window = vec![
            command.clone(),
            publication(Destination::Commands, "nonsense"),
            command,
        ];
        let outcomes = publisher.publish(0, &window).await;
        assert!(matches!(
            outcomes.as_slice(),
            [
                PublishOutcome::Confirmed,
                PublishOutcome::Returned(_),
                PublishOutcome::Confirmed
            ]
        ));

        let source = EmbeddedSource::start(&queue, 16).await.unwrap();
        let first = source.next().await.unwrap();
        let second = source.next().await.unwrap();
        assert_eq!(first.queue, CommandQueue::Submission);
        assert_eq!(first.properties.headers["x-glyph-attempts"], "3");
        source.settle(&[first.receipt]);
        source.give_back(&[second.receipt]);
        let again = source.next().await.unwrap();
        assert_eq!(
            (again.receipt, again.deliveries_before),
            (second.receipt, 0)
        );
        source.settle(&[again.receipt]);
        source.stop().await;
        assert!(source.next().await.is_none());
        source.close().await;
        assert_eq!(queue.counts().await.unwrap(), []);
    }

    #[tokio::test]
    async fn prefetch_bounds_what_is_handed_out() {
        let (_folder, queue) = file().await;
        let publisher = EmbeddedPublisher::new(queue.clone());
        let window = vec![publication(Destination::Commands, "advance"); 3];
        publisher.publish(0, &window).await;
        let source = EmbeddedSource::start(&queue, 2).await.unwrap();
        let first = source.next().await.unwrap();
        source.next().await.unwrap();
        let third = tokio::time::timeout(Duration::from_millis(300), source.next()).await;
        assert!(third.is_err());
        source.settle(&[first.receipt]);
        assert!(source.next().await.is_some());
    }

    #[tokio::test]
    async fn retries_wait_and_dead_letters_can_be_replayed() {
        let (_folder, queue) = file().await;
        let publisher = EmbeddedPublisher::new(queue.clone());
        let mut dead = publication(Destination::Dead, "start");
        dead.headers
            .insert("x-glyph-reason".to_owned(), "task_not_found".to_owned());
        let window = [
            publication(Destination::Retry(RetryDelay::S60), "advance"),
            dead,
        ];
        let outcomes = publisher.publish(0, &window).await;
        assert_eq!(
            outcomes,
            [PublishOutcome::Confirmed, PublishOutcome::Confirmed]
        );
        let counts = queue.counts().await.unwrap();
        let delayed = counts
            .iter()
            .find(|count| count.queue == "advance")
            .unwrap();
        assert_eq!((delayed.ready, delayed.delayed), (0, 1));

        let letters = EmbeddedDeadLetters::new(queue.clone());
        let listed = letters.list(10).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (listed[0].reason.as_str(), listed[0].attempts),
            ("task_not_found", 3)
        );
        assert_eq!(
            letters
                .replay(&|letter| letter.reason == "other")
                .await
                .unwrap(),
            0
        );
        assert_eq!(
            letters
                .replay(&|letter| letter.reason == "task_not_found")
                .await
                .unwrap(),
            1
        );
        assert_eq!(letters.list(10).await.unwrap(), []);
    }
}
