//! The dead queue, for operators.
//!
//! Each operation uses a connection of its own for as long as it runs. It takes the queue's
//! messages without acking them, so that it sees each message once, and acks only those to remove.
//! Closing the connection puts the rest back in order. The queue has no delivery limit, so listing
//! costs a message nothing.
//!
//! An operation does not see what another one holds, nor what a process held that was killed, as
//! long as its channel is not gone. And an ack has no answer: a quorum queue takes acks later than
//! its channel, and those that it has not taken when the channel goes are lost. One number tells both:
//! a quorum queue counts each message that was got and is not settled as a consumer, and forgets
//! consumer and message, or returns the message, in one step. So an operation begins once nobody
//! holds anything, fails if somebody came between, and calls letters removed only once the queue counts no
//! more than what it still holds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lapin::{
    Channel, Confirmation,
    message::Delivery,
    options::{
        BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::time::{sleep, timeout};

use super::{connection::Link, message, settings::AmqpSettings};
use crate::{
    broker::{BrokerError, RetryDelay},
    dead_letters::{
        Chosen, DeadLetter, DeadLetters, Handles, KeepError, Letter, LetterStore, PAGE_BYTES,
        PAGE_LETTERS, Visit, Visitor, is_set_aside,
    },
};

/// How often to look whether the queue has taken what was told.
const LOOK: Duration = Duration::from_millis(5);

/// The dead queue of a deployment.
#[derive(Clone, Debug)]
pub struct AmqpDeadLetters {
    settings: AmqpSettings,
}

impl AmqpDeadLetters {
    /// Does not connect until it is used.
    pub fn new(settings: AmqpSettings) -> Self {
        Self { settings }
    }

    fn dead(&self) -> String {
        self.settings.topology().dead()
    }

    /// Opens a queue on a connection of its own.
    async fn open(&self, queue: String) -> Result<(Link, QueueReader<'_>), BrokerError> {
        let link = Link::open(&self.settings, "dead letters").await?;
        match QueueReader::open(&self.settings, &link, queue).await {
            Ok(reader) => Ok((link, reader)),
            Err(error) => {
                link.close().await;
                Err(error)
            }
        }
    }
}

#[async_trait]
impl DeadLetters for AmqpDeadLetters {
    async fn visit(&self, visitor: Visitor<'_>) -> Result<usize, BrokerError> {
        let (link, reader) = self.open(self.dead()).await?;
        let visited = reader.visit(visitor).await;
        reader.close(&link, visited).await
    }

    async fn set_aside(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        let queue = self.settings.topology().retry(RetryDelay::S60);
        let (link, reader) = self.open(queue).await?;
        let mut found = Vec::new();
        let mut visitor = |handle: &str, letter: &Letter| {
            if found.len() >= limit {
                return Visit::End;
            }
            if is_set_aside(&letter.reason()) {
                found.push(letter.shown(handle));
            }
            Visit::Leave
        };
        let visited = reader.visit(&mut visitor).await;
        reader.close(&link, visited).await?;
        Ok(found)
    }

    async fn take(
        &self,
        chosen: Chosen<'_>,
        keeper: &mut dyn LetterStore,
    ) -> Result<usize, BrokerError> {
        let (link, reader) = self.open(self.dead()).await?;
        let taken = reader.take(chosen, keeper).await;
        reader.close(&link, taken).await
    }

    async fn replace(&self, handle: &str, by: Letter) -> Result<bool, BrokerError> {
        let (link, reader) = self.open(self.dead()).await?;
        let replaced = reader.replace(handle, &by).await;
        reader.close(&link, replaced).await
    }
}

/// A queue whose messages are read one by one and stay unacked.
struct QueueReader<'a> {
    settings: &'a AmqpSettings,
    channel: Channel,
    queue: String,
    /// Messages that were read and neither removed nor put back.
    held: AtomicU32,
}

impl<'a> QueueReader<'a> {
    async fn open(
        settings: &'a AmqpSettings,
        link: &Link,
        queue: String,
    ) -> Result<Self, BrokerError> {
        let channel = timeout(settings.connect_timeout, link.confirming())
            .await
            .unwrap_or_else(|elapsed| Err(link.lost(elapsed)))?;
        Ok(Self {
            settings,
            channel,
            queue,
            held: AtomicU32::new(0),
        })
    }

    async fn visit(&self, visitor: Visitor<'_>) -> Result<usize, BrokerError> {
        let (mut handles, mut removed) = (Handles::default(), 0);
        for _ in 0..self.settled().await? {
            let Some((tag, letter)) = self.next().await? else {
                break;
            };
            match visitor(&handles.of(&letter), &letter) {
                Visit::Leave => {}
                Visit::Remove => {
                    self.remove(&[tag]).await?;
                    removed += 1;
                }
                Visit::End => {
                    self.settled().await?;
                    return Ok(removed);
                }
            }
        }
        if removed > 0 {
            self.settled().await?;
        } else {
            self.seen_all().await?;
        }
        Ok(removed)
    }

    async fn take(
        &self,
        chosen: Chosen<'_>,
        keeper: &mut dyn LetterStore,
    ) -> Result<usize, BrokerError> {
        let (mut handles, mut taken) = (Handles::default(), 0);
        let (mut page, mut tags, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut left = self.settled().await?;
        loop {
            // Read before the page is removed: as long as one is held, no other reader begins.
            let next = if left > 0 { self.next().await? } else { None };
            left = left.saturating_sub(1);
            let is_full = page.len() >= PAGE_LETTERS || bytes >= PAGE_BYTES;
            if !page.is_empty() && (is_full || next.is_none()) {
                taken += page.len();
                let page = std::mem::take(&mut page);
                keeper.keep(page).await.map_err(unkept)?;
                self.remove(&tags).await?;
                // Were the process killed with an ack on its way, the letter would be there again.
                self.settled().await?;
                keeper.removed().await.map_err(unkept)?;
                tags.clear();
                bytes = 0;
            }
            let Some((tag, letter)) = next else {
                self.seen_all().await?;
                return Ok(taken);
            };
            if chosen(&handles.of(&letter), &letter) {
                bytes += letter.body.len();
                tags.push(tag);
                page.push(letter);
            }
        }
    }

    async fn replace(&self, handle: &str, by: &Letter) -> Result<bool, BrokerError> {
        let mut handles = Handles::default();
        for _ in 0..self.settled().await? {
            let Some((tag, letter)) = self.next().await? else {
                break;
            };
            if handles.of(&letter) == handle {
                let (dead, as_it_is) = (self.settings.topology().dead(), BTreeMap::new());
                publish_alone(
                    self.settings,
                    &self.channel,
                    (&dead, &by.routing_key),
                    by,
                    &as_it_is,
                    "an edited dead letter",
                )
                .await?;
                self.remove(&[tag]).await?;
                self.settled().await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts back what was not removed, if the work was done, and closes the connection.
    async fn close<T>(
        &self,
        link: &Link,
        worked: Result<T, BrokerError>,
    ) -> Result<T, BrokerError> {
        let returned = match worked {
            Ok(done) => self
                .settings
                .answered("the dead letters' return", self.put_back())
                .await
                .map(|()| done),
            Err(error) => Err(error),
        };
        link.close().await;
        returned
    }

    /// Waits until the queue has taken every removal and nobody else holds a message of it. Returns
    /// how many are there to be read: those that come while they are read are not read.
    async fn settled(&self) -> Result<u32, BrokerError> {
        let settled = async {
            loop {
                if let Some(ready) = self.look().await? {
                    return Ok(ready);
                }
                sleep(LOOK).await;
            }
        };
        timeout(self.settings.confirm_timeout, settled)
            .await
            .unwrap_or_else(|_| Err(self.in_use()))
    }

    /// Fails if somebody came between and holds messages that were not seen.
    async fn seen_all(&self) -> Result<(), BrokerError> {
        match self.look().await? {
            Some(_) => Ok(()),
            None => Err(self.in_use()),
        }
    }

    fn in_use(&self) -> BrokerError {
        BrokerError::InUse {
            queue: self.queue.clone(),
        }
    }

    /// How many messages are there to be read; none if others are held than those of this reader.
    async fn look(&self) -> Result<Option<u32>, BrokerError> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = self.queue.as_str().into();
        let declared = self
            .channel
            .queue_declare(name, options, FieldTable::default());
        let action = format!("a look at queue {}", self.queue);
        let looked = async {
            declared
                .await
                .map_err(|error| self.settings.refused(&action, error))
        };
        let found = self.settings.answered(&action, looked).await?;
        let is_alone = found.consumer_count() <= self.held.load(Ordering::Relaxed);
        Ok(is_alone.then(|| found.message_count()))
    }

    /// The next message, with its delivery tag.
    async fn next(&self) -> Result<Option<(u64, Letter)>, BrokerError> {
        let got = self.settings.answered("a dead letter", self.get()).await?;
        Ok(got.map(|delivery| {
            self.held.fetch_add(1, Ordering::Relaxed);
            let letter = Letter {
                routing_key: delivery.routing_key.to_string(),
                properties: Arc::new(delivery.properties),
                body: delivery.data,
            };
            (delivery.delivery_tag, letter)
        }))
    }

    async fn remove(&self, tags: &[u64]) -> Result<(), BrokerError> {
        let removal = async {
            for tag in tags {
                self.channel
                    .basic_ack(*tag, BasicAckOptions::default())
                    .await
                    .map_err(|error| {
                        self.settings.refused("the removal of a dead letter", error)
                    })?;
                self.held.fetch_sub(1, Ordering::Relaxed);
            }
            Ok(())
        };
        self.settings
            .answered("the removal of a dead letter", removal)
            .await
    }

    /// This call has an answer, which arrives only after the broker has processed what came before.
    async fn sync(&self) -> Result<(), BrokerError> {
        self.channel
            .basic_qos(0, BasicQosOptions::default())
            .await
            .map_err(|error| self.settings.refused("the return of dead letters", error))
    }

    async fn get(&self) -> Result<Option<Delivery>, BrokerError> {
        let got = self
            .channel
            .basic_get(self.queue.as_str().into(), BasicGetOptions::default())
            .await
            .map_err(|error| {
                self.settings
                    .refused(&format!("reading queue {}", self.queue), error)
            })?;
        Ok(got.map(|message| message.delivery))
    }

    /// Puts back everything that was not acked. Closing does so too, but with a delay; the next
    /// operation should find the queue unchanged.
    async fn put_back(&self) -> Result<(), BrokerError> {
        let all = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        self.channel
            .basic_nack(0, all)
            .await
            .map_err(|error| self.settings.refused("the return of dead letters", error))?;
        self.held.store(0, Ordering::Relaxed);
        self.sync().await
    }
}

/// Publishes a letter by itself, so that a returned message can only be this one.
pub(super) async fn publish_alone(
    settings: &AmqpSettings,
    channel: &Channel,
    (exchange, key): (&str, &str),
    letter: &Letter,
    own_headers: &BTreeMap<String, String>,
    action: &str,
) -> Result<(), BrokerError> {
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| BrokerError::Refused {
        action: action.to_owned(),
        source,
    };
    let key = message::short(key).ok_or_else(|| refused("its routing key is too long".into()))?;
    let options = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    let properties = message::copied(&letter.properties, own_headers);
    let published = async {
        let confirming =
            channel.basic_publish(exchange.into(), key, options, &letter.body, properties);
        let confirmed = async { confirming.await?.await };
        confirmed
            .await
            .map_err(|error| settings.refused(action, error))
    };
    match settings.answered(action, published).await? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(message)) => Err(refused(message.reply_text.as_str().into())),
        Confirmation::Nack(_) | Confirmation::NotRequested => Err(refused("not confirmed".into())),
    }
}

fn unkept(source: KeepError) -> BrokerError {
    BrokerError::Refused {
        action: "to keep dead letters".to_owned(),
        source,
    }
}
