//! The dead queue, for operators.

use std::collections::VecDeque;

use async_trait::async_trait;

use super::{
    error::EmbeddedError,
    message::StoredMessage,
    queue::{EmbeddedQueue, detached, json},
    route::DEAD,
};
use crate::{
    broker::{BrokerError, CommandQueue},
    dead_letters::{
        Chosen, DeadLetter, DeadLetters, Handles, KeepError, Letter, LetterStore, PAGE_BYTES,
        PAGE_LETTERS, Visit, Visitor, is_set_aside,
    },
    wire::reasons::{HEADER_REASON, REASON_DELIVERY_LIMIT},
};

/// Dead letters per read of the table.
const DEAD_PAGE: u32 = 500;

const COUNT: &str = "SELECT COUNT(*) FROM queue_messages WHERE queue = ?1";

const LAST: &str = "SELECT COALESCE(MAX(id), 0) FROM queue_messages WHERE queue = ?1";

const DROP: &str = "
    DELETE FROM queue_messages
    WHERE queue = ?1 AND id IN (SELECT value FROM json_each(?2))
    RETURNING id";

const REPLACE: &str = "
    UPDATE queue_messages
    SET routing_key = ?3, message_id = ?4, message_type = ?5, correlation_id = ?6, reply_to = ?7,
        headers = ?8, body = ?9
    WHERE queue = ?1 AND id = ?2";

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

    /// The letters that are there now, oldest first.
    async fn read(&self) -> Result<Reading<'_>, BrokerError> {
        Ok(Reading {
            queue: &self.queue,
            page: VecDeque::new(),
            after: 0,
            last: self.queue.last_dead().await.map_err(refused("a look"))?,
            handles: Handles::default(),
        })
    }

    async fn remove(&self, ids: &[i64]) -> Result<usize, BrokerError> {
        let dropped = self.queue.drop_dead(ids).await;
        Ok(dropped.map_err(refused("a drop"))?.len())
    }
}

#[async_trait]
impl DeadLetters for EmbeddedDeadLetters {
    async fn visit(&self, visitor: Visitor<'_>) -> Result<usize, BrokerError> {
        let (mut reading, mut removed) = (self.read().await?, 0);
        while let Some((id, handle, letter)) = reading.next().await? {
            match visitor(&handle, &letter) {
                Visit::Leave => {}
                Visit::Remove => removed += self.remove(&[id]).await?,
                Visit::End => break,
            }
        }
        Ok(removed)
    }

    async fn set_aside(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        let (mut found, mut handles) = (Vec::new(), Handles::default());
        for queue in CommandQueue::ALL {
            let mut after = 0;
            while found.len() < limit {
                let page = self.queue.browse(queue.as_str(), after, DEAD_PAGE).await;
                let page = page.map_err(refused("a look"))?;
                let Some(last) = page.last() else { break };
                after = last.id;
                for letter in page.into_iter().map(letter_of) {
                    if is_set_aside(&letter.reason()) {
                        found.push(letter.shown(&handles.of(&letter)));
                    }
                }
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn take(
        &self,
        chosen: Chosen<'_>,
        keeper: &mut dyn LetterStore,
    ) -> Result<usize, BrokerError> {
        let (mut reading, mut taken) = (self.read().await?, 0);
        let (mut page, mut ids, mut bytes) = (Vec::new(), Vec::new(), 0);
        loop {
            let next = reading.next().await?;
            let is_end = next.is_none();
            if let Some((id, handle, letter)) = next
                && chosen(&handle, &letter)
            {
                bytes += letter.body.len();
                ids.push(id);
                page.push(letter);
            }
            let is_full = page.len() >= PAGE_LETTERS || bytes >= PAGE_BYTES;
            if !page.is_empty() && (is_full || is_end) {
                let page = std::mem::take(&mut page);
                keeper.keep(page).await.map_err(unkept)?;
                taken += self.remove(&ids).await?;
                keeper.removed().await.map_err(unkept)?;
                ids.clear();
                bytes = 0;
            }
            if is_end {
                return Ok(taken);
            }
        }
    }

    async fn replace(&self, handle: &str, by: Letter) -> Result<bool, BrokerError> {
        let mut reading = self.read().await?;
        while let Some((id, found, _)) = reading.next().await? {
            if found == handle {
                let replaced = self.queue.replace_dead(id, by).await;
                replaced.map_err(refused("an edit"))?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Reads letters page by page.
struct Reading<'q> {
    queue: &'q EmbeddedQueue,
    page: VecDeque<(i64, Letter)>,
    /// The last letter read.
    after: i64,
    /// The last one to read.
    last: i64,
    handles: Handles,
}

impl Reading<'_> {
    /// The next letter, with its id and handle.
    async fn next(&mut self) -> Result<Option<(i64, String, Letter)>, BrokerError> {
        if self.page.is_empty() && self.after < self.last {
            let page = self.queue.dead_letters(self.after, DEAD_PAGE).await;
            self.page = page.map_err(refused("a look"))?.into();
        }
        let Some((id, letter)) = self.page.pop_front().filter(|(id, _)| *id <= self.last) else {
            return Ok(None);
        };
        self.after = id;
        Ok(Some((id, self.handles.of(&letter), letter)))
    }
}

fn unkept(source: KeepError) -> BrokerError {
    BrokerError::Refused {
        action: "to keep dead letters".to_owned(),
        source,
    }
}

fn refused(action: &'static str) -> impl Fn(EmbeddedError) -> BrokerError {
    move |error| BrokerError::Refused {
        action: action.to_owned(),
        source: Box::new(error),
    }
}

impl EmbeddedQueue {
    /// Dead messages after an id, oldest first, each with its id.
    pub async fn dead_letters(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, Letter)>, EmbeddedError> {
        let found = self.browse(DEAD, after, limit).await?;
        let letters = found
            .into_iter()
            .map(|stored| (stored.id, letter_of(stored)));
        Ok(letters.collect())
    }

    /// The number of dead messages.
    pub async fn dead_count(&self) -> Result<i64, EmbeddedError> {
        Ok(sqlx::query_scalar(COUNT)
            .bind(DEAD)
            .fetch_one(self.store.readers())
            .await?)
    }

    async fn last_dead(&self) -> Result<i64, EmbeddedError> {
        Ok(sqlx::query_scalar(LAST)
            .bind(DEAD)
            .fetch_one(self.store.readers())
            .await?)
    }

    /// Deletes dead messages; returns the ids of those that existed.
    pub async fn drop_dead(&self, ids: &[i64]) -> Result<Vec<i64>, EmbeddedError> {
        let (queue, ids) = (self.clone(), json(ids));
        detached(async move {
            let mut tx = queue.store.begin().await?;
            let dropped = sqlx::query_scalar(DROP)
                .bind(DEAD)
                .bind(ids)
                .fetch_all(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(dropped)
        })
        .await
    }

    /// Gives a dead message another content.
    async fn replace_dead(&self, id: i64, by: Letter) -> Result<(), EmbeddedError> {
        let queue = self.clone();
        detached(async move {
            let properties = by.command_properties();
            let mut tx = queue.store.begin().await?;
            sqlx::query(REPLACE)
                .bind(DEAD)
                .bind(id)
                .bind(properties.routing_key)
                .bind(properties.message_id)
                .bind(properties.message_type)
                .bind(properties.correlation_id)
                .bind(properties.reply_to)
                .bind(json(&properties.headers))
                .bind(by.body)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }
}

/// The queue moves what ran out of deliveries as it is, and sets no reason, as RabbitMQ does. It
/// moves nothing else by itself.
fn letter_of(message: StoredMessage) -> Letter {
    let has_reason = message.properties.headers.contains_key(HEADER_REASON);
    let letter = Letter {
        properties: message.properties.to_amqp().into(),
        routing_key: message.properties.routing_key,
        body: message.body,
    };
    if has_reason {
        letter
    } else {
        letter.with_headers([(HEADER_REASON, REASON_DELIVERY_LIMIT.to_owned())])
    }
}
