//! The dead queue, for operators.
//!
//! Each operation uses a connection of its own for as long as it runs. It takes the queue's
//! messages without acking them, so that it sees each message once, and acks only those to remove.
//! In the end it puts the rest back, in order. The queue has no delivery limit, so listing costs a
//! message nothing.
//!
//! Messages are read by pages: a consumer is sent as many as it may hold, and cancelled. It counts
//! as a consumer of the queue until all that it was sent is settled, and the queue forgets it, or
//! returns what it held when its channel goes, in one step. (A `get` would do the same for one
//! message, in a command of its own to each replica.) Two things hang on that number. An operation
//! does not see what another one holds, nor what a process held that was killed, as long as its
//! channel is not gone: so it begins once nobody holds anything, and fails if somebody came between.
//! And an ack has no answer: a quorum queue takes acks later than its channel, and those that it has
//! not taken when the channel goes are lost: so letters are called removed only once the queue
//! counts no more consumers than there are pages with something left.
//!
//! RabbitMQ answers that there is no message and no consumer when a queue does not answer in time.
//! So that answer is only believed when it cannot be told from the truth by what is held
//! ([`QueueReader::ask`]).
//!
//! If a process dies while it holds pages, each page is put back in order; of more than 32 pages,
//! the pages come back in any order.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt;
use lapin::{
    Channel, Confirmation, Consumer,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions,
        BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::time::{Instant, sleep, timeout};

use super::{connection::Link, message, settings::AmqpSettings};
use crate::{
    broker::{BrokerError, RetryDelay},
    dead_letters::{
        Chosen, DeadLetter, DeadLetters, Handles, KeepError, Letter, LetterStore, PAGE_BYTES,
        PAGE_LETTERS, Visit, Visitor, is_set_aside,
    },
};

/// How often to look whether the queue has taken what was told.
const LOOK: Duration = Duration::from_millis(2);
/// How often a queue must seem empty before that is looked into.
const EMPTY_ANSWERS: u32 = 3;
/// How long a queue may take to notice that a consumer's channel is closed.
const PROBE_LEAVES_MAX: Duration = Duration::from_secs(5);
/// How long no letter comes before the queue is looked at for whether there is one.
const SILENCE: Duration = Duration::from_millis(200);
/// The most letters of a page: as many as the broker puts back in order by one command.
const IN_ORDER: usize = 32;
/// Pages that are put back at once.
const PAGES_AT_ONCE: usize = 16;
/// Letters of the first page.
const PAGE_LETTERS_FIRST: usize = 8;

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

    /// Opens a queue on a connection of its own. Waits until nobody holds a message of it; messages that
    /// come later are not read.
    async fn open(&self, queue: String) -> Result<QueueReader<'_>, BrokerError> {
        let link = Link::open(&self.settings, "dead letters").await?;
        let channel = link
            .confirming_within(self.settings.connect_timeout)
            .await?;
        let mut reader = QueueReader {
            settings: &self.settings,
            link,
            channel,
            queue,
            unread: 0,
            held: VecDeque::new(),
            pages: 0,
            largest: 0,
            is_untold: false,
        };
        match reader.told().await {
            Ok(ready) => {
                reader.unread = ready;
                Ok(reader)
            }
            Err(error) => reader.close(Err(error)).await,
        }
    }
}

#[async_trait]
impl DeadLetters for AmqpDeadLetters {
    async fn visit(&self, visitor: Visitor<'_>) -> Result<usize, BrokerError> {
        let mut reader = self.open(self.dead()).await?;
        let visited = reader.visit(visitor).await;
        reader.close(visited).await
    }

    async fn set_aside(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        let queue = self.settings.topology().retry(RetryDelay::S60);
        let mut reader = self.open(queue).await?;
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
        reader.close(visited).await?;
        Ok(found)
    }

    async fn take(
        &self,
        chosen: Chosen<'_>,
        keeper: &mut dyn LetterStore,
    ) -> Result<usize, BrokerError> {
        let mut reader = self.open(self.dead()).await?;
        let taken = reader.take(chosen, keeper).await;
        reader.close(taken).await
    }

    async fn replace(&self, handle: &str, by: Letter) -> Result<bool, BrokerError> {
        let mut reader = self.open(self.dead()).await?;
        let replaced = reader.replace(handle, &by).await;
        reader.close(replaced).await
    }
}

/// A queue whose messages are read page by page and stay unacked.
struct QueueReader<'a> {
    settings: &'a AmqpSettings,
    link: Link,
    channel: Channel,
    queue: String,
    /// Messages that were there at the beginning and were not read yet.
    unread: usize,
    /// The delivery tags of what is neither removed nor put back, by page, oldest first.
    held: VecDeque<Vec<u64>>,
    pages: usize,
    largest: usize,
    /// Letters were removed, and the queue has not told that it has taken that.
    is_untold: bool,
}

/// Letters, with their delivery tags.
type Page = Vec<(u64, Letter)>;

impl QueueReader<'_> {
    async fn visit(&mut self, visitor: Visitor<'_>) -> Result<usize, BrokerError> {
        let (mut handles, mut removed, mut is_ended) = (Handles::default(), 0, false);
        while !is_ended {
            let page = self.page().await?;
            if page.is_empty() {
                break;
            }
            let mut tags = Vec::new();
            for (tag, letter) in page {
                match visitor(&handles.of(&letter), &letter) {
                    Visit::Leave => {}
                    Visit::Remove => tags.push(tag),
                    Visit::End => {
                        is_ended = true;
                        break;
                    }
                }
            }
            self.remove(&tags).await?;
            removed += tags.len();
        }
        if !is_ended {
            self.seen_all().await?;
        }
        Ok(removed)
    }

    async fn take(
        &mut self,
        chosen: Chosen<'_>,
        keeper: &mut dyn LetterStore,
    ) -> Result<usize, BrokerError> {
        let (mut handles, mut taken) = (Handles::default(), 0);
        let (mut letters, mut tags, mut bytes) = (Vec::new(), Vec::new(), 0);
        // As long as letters of a page are held, the queue does not tell of the others.
        let mut can_tell = true;
        loop {
            // Read before the others are removed: as long as one is held, no other reader begins.
            let page = self.page().await?;
            let is_full = letters.len() >= PAGE_LETTERS || bytes >= PAGE_BYTES;
            if !letters.is_empty() && (is_full || page.is_empty()) {
                taken += letters.len();
                let letters = std::mem::take(&mut letters);
                keeper.keep(letters).await.map_err(unkept)?;
                can_tell &= self.remove(&tags).await?;
                if can_tell {
                    // Were the process killed with an ack on its way, the letter would be there again.
                    self.told().await?;
                    keeper.removed().await.map_err(unkept)?;
                }
                tags.clear();
                bytes = 0;
            }
            if page.is_empty() {
                break;
            }
            for (tag, letter) in page {
                if chosen(&handles.of(&letter), &letter) {
                    bytes += letter.body.len();
                    tags.push(tag);
                    letters.push(letter);
                }
            }
        }
        self.seen_all().await?;
        if !can_tell {
            self.put_back().await?;
            keeper.removed().await.map_err(unkept)?;
        }
        Ok(taken)
    }

    async fn replace(&mut self, handle: &str, by: &Letter) -> Result<bool, BrokerError> {
        let mut handles = Handles::default();
        loop {
            let page = self.page().await?;
            if page.is_empty() {
                return Ok(false);
            }
            let found = page.iter().find(|(_, letter)| handles.of(letter) == handle);
            if let Some((tag, _)) = found {
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
                self.remove(&[*tag]).await?;
                return Ok(true);
            }
        }
    }

    /// Puts back what was not removed, if the work was done, and closes the connection.
    async fn close<T>(mut self, worked: Result<T, BrokerError>) -> Result<T, BrokerError> {
        let returned = match worked {
            Ok(done) => self.put_back().await.map(|()| done),
            Err(error) => Err(error),
        };
        self.link.close().await;
        returned
    }

    /// Waits until the queue has taken the removal of whole pages, and nobody else holds a message of
    /// it. Returns how many are there to be read.
    async fn told(&mut self) -> Result<usize, BrokerError> {
        let told = async {
            loop {
                let (others, ready) = self.ask().await?;
                if others == 0 {
                    return Ok(ready);
                }
                sleep(LOOK).await;
            }
        };
        let told = timeout(self.settings.confirm_timeout, told).await;
        let ready = told.unwrap_or_else(|_| Err(self.in_use()))?;
        self.is_untold = false;
        Ok(ready)
    }

    /// Fails if somebody came between and holds messages that were not seen.
    async fn seen_all(&self) -> Result<(), BrokerError> {
        // A removal that the queue has not taken counts as others; the return of the rest waits for it. And
        // where nothing was there at the beginning, nobody has held anything of it since.
        if self.is_untold || self.pages == 0 {
            return Ok(());
        }
        let asked = self.settings.answered("a look at dead letters", self.ask());
        if asked.await?.0 > 0 {
            return Err(self.in_use());
        }
        Ok(())
    }

    fn in_use(&self) -> BrokerError {
        BrokerError::InUse {
            queue: self.queue.clone(),
        }
    }

    /// How many consumers the queue counts beside those that hold pages, and how many messages are
    /// there to be read.
    async fn ask(&self) -> Result<(usize, usize), BrokerError> {
        let mut empty = 0;
        while empty < EMPTY_ANSWERS {
            match self.look().await? {
                (0, 0) if self.held.is_empty() => empty += 1,
                // It counts at least those that hold pages.
                (0, 0) => {}
                (consumers, ready) => {
                    return Ok((consumers.saturating_sub(self.held.len()), ready));
                }
            }
            sleep(LOOK).await;
        }
        self.probe().await
    }

    /// [`ask`](Self::ask), of a queue that seems empty: with a consumer of its own, which a true answer
    /// counts.
    ///
    /// A message that comes just now may be given to that consumer, and even be on its way to it when
    /// it is cancelled. So its channel ends with it, with which the queue takes back what it gave; until
    /// it has, the consumer would be taken for somebody else, who holds what is to be read.
    async fn probe(&self) -> Result<(usize, usize), BrokerError> {
        let probing = async {
            let refused = |error| {
                let action = format!("a look at queue {}", self.queue);
                self.settings.refused(&action, error)
            };
            let channel = self.link.channel().await?;
            let _probe = self
                .subscribe(&channel, "probe", 1)
                .await
                .map_err(refused)?;
            let (consumers, mut ready) = loop {
                match self.look().await? {
                    (0, _) => sleep(LOOK).await,
                    answer => break answer,
                }
            };
            channel.close(200, "OK".into()).await.map_err(refused)?;
            // One answer alone is not believed, as above. Who stays for longer is somebody else.
            let (since, mut fewer) = (Instant::now(), 0);
            loop {
                sleep(LOOK).await;
                let (others, there) = self.look().await?;
                fewer += u32::from(others < consumers);
                ready = ready.max(there);
                if fewer == EMPTY_ANSWERS || since.elapsed() > PROBE_LEAVES_MAX {
                    return Ok((others, ready));
                }
            }
        };
        self.settings
            .answered("a look at dead letters", probing)
            .await
    }

    /// A consumer that is sent so many messages.
    async fn subscribe(
        &self,
        channel: &Channel,
        name: &str,
        prefetch: u16,
    ) -> lapin::Result<Consumer> {
        let qos = BasicQosOptions::default();
        channel.basic_qos(prefetch, qos).await?;
        let (queue, options) = (self.queue.as_str().into(), BasicConsumeOptions::default());
        channel
            .basic_consume(queue, name.into(), options, FieldTable::default())
            .await
    }

    /// What the consumer was sent stays unacked.
    async fn unsubscribe(&self, name: &str) -> lapin::Result<()> {
        let options = BasicCancelOptions::default();
        self.channel.basic_cancel(name.into(), options).await
    }

    /// How many consumers the queue counts, and how many messages are there to be read; neither if
    /// the queue did not answer in time.
    async fn look(&self) -> Result<(usize, usize), BrokerError> {
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
        Ok((
            found.consumer_count() as usize,
            found.message_count() as usize,
        ))
    }

    /// The next letters, none after the last.
    async fn page(&mut self) -> Result<Page, BrokerError> {
        // Grows from a few, since nobody knows before how large they are.
        let by_turn = PAGE_LETTERS_FIRST << self.pages.min(8);
        let by_size = PAGE_BYTES / self.largest.max(1);
        let most = IN_ORDER.min(by_turn).min(by_size).max(1);
        let wanted = most.min(self.unread);
        if wanted == 0 {
            return Ok(Page::new());
        }
        let page = self.consume(wanted).await?;
        let is_end = page.len() < wanted;
        self.unread = if is_end { 0 } else { self.unread - wanted };
        self.pages += 1;
        let sizes = page.iter().map(|(_, letter)| letter.body.len());
        self.largest = sizes.fold(self.largest, usize::max);
        if !page.is_empty() {
            self.held
                .push_back(page.iter().map(|(tag, _)| *tag).collect());
        }
        Ok(page)
    }

    /// Messages, by a consumer that then ends and leaves them unacked. Fewer than wanted if the rest
    /// is gone; fails if somebody else holds it.
    async fn consume(&self, wanted: usize) -> Result<Page, BrokerError> {
        // The order of their names is the order in which the broker puts back what they hold.
        let consumer = format!("page-{:08}", self.pages);
        let reading = async {
            let refused = |error| {
                let action = format!("reading queue {}", self.queue);
                self.settings.refused(&action, error)
            };
            let prefetch = u16::try_from(wanted).unwrap_or(u16::MAX);
            let deliveries = self.subscribe(&self.channel, &consumer, prefetch).await;
            let mut deliveries = deliveries.map_err(refused)?;
            let mut page = Page::with_capacity(wanted);
            while page.len() < wanted {
                let Ok(next) = timeout(SILENCE, deliveries.next()).await else {
                    match self.look().await? {
                        // It did not answer: this consumer is one.
                        (0, _) => continue,
                        (consumers, 0) if consumers > self.held.len() + 1 => {
                            return Err(self.in_use());
                        }
                        (_, 0) => break,
                        _ => continue,
                    }
                };
                let Some(delivery) = next else { break };
                let delivery = delivery.map_err(refused)?;
                let letter = Letter {
                    routing_key: delivery.routing_key.to_string(),
                    properties: Arc::new(delivery.properties),
                    body: delivery.data,
                };
                page.push((delivery.delivery_tag, letter));
            }
            self.unsubscribe(&consumer).await.map_err(refused)?;
            Ok(page)
        };
        self.settings.answered("dead letters", reading).await
    }

    /// Acks letters, by ascending tags. Returns whether nothing else is held of their pages.
    async fn remove(&mut self, tags: &[u64]) -> Result<bool, BrokerError> {
        if tags.is_empty() {
            return Ok(true);
        }
        self.is_untold = true;
        let removal = async {
            for tag in tags {
                let acking = self.channel.basic_ack(*tag, BasicAckOptions::default());
                acking.await.map_err(|error| {
                    self.settings.refused("the removal of a dead letter", error)
                })?;
            }
            Ok(())
        };
        let removed = self
            .settings
            .answered("the removal of a dead letter", removal);
        removed.await?;
        let mut are_whole = true;
        for page in &mut self.held {
            let held = page.len();
            page.retain(|tag| tags.binary_search(tag).is_err());
            are_whole &= page.is_empty() || page.len() == held;
        }
        self.held.retain(|page| !page.is_empty());
        Ok(are_whole)
    }

    /// Puts back everything that was not removed, in order. Closing would do so too, but later; the
    /// next operation should find the queue unchanged. If letters were removed, the queue has taken
    /// that when this returns.
    ///
    /// The broker keeps the order of a few messages that one command returns. If its channel has
    /// told the queue much that the queue has not taken, it makes one command of several. So what
    /// is on its way is kept little.
    async fn put_back(&mut self) -> Result<(), BrokerError> {
        let removed = self.is_untold;
        let at_once = if removed { 1 } else { PAGES_AT_ONCE };
        while !self.held.is_empty() {
            let pages = self.held.drain(..at_once.min(self.held.len()));
            let pages: Vec<_> = pages.filter_map(|page| page.last().copied()).collect();
            self.give_back(&pages).await?;
            if removed || !self.held.is_empty() {
                self.told().await?;
            }
        }
        if self.is_untold {
            self.told().await?;
        }
        Ok(())
    }

    /// Puts back pages, each given by its last tag.
    async fn give_back(&self, pages: &[u64]) -> Result<(), BrokerError> {
        let returning = async {
            let refused = |error| self.settings.refused("the return of dead letters", error);
            let up_to = BasicNackOptions {
                multiple: true,
                requeue: true,
            };
            for last in pages {
                let returned = self.channel.basic_nack(*last, up_to).await;
                returned.map_err(refused)?;
            }
            // This call has an answer, which arrives only after the broker has processed what came
            // before.
            let qos = self.channel.basic_qos(1, BasicQosOptions::default());
            qos.await.map_err(refused)
        };
        self.settings
            .answered("the dead letters' return", returning)
            .await
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
