//! Messages to the queues of a file.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    error::EmbeddedError,
    message::{NewMessage, Routed},
    queue::{EmbeddedQueue, detached, json},
    route::{DEAD, Exchange},
};
use crate::{
    broker::{
        BrokerState, CommandQueue, Destination, MessagePublisher, Properties, Publication,
        PublishOutcome, QueueDepth,
    },
    telemetry,
};

/// Adds a message that is delivered later: the retry ladder.
const INSERT_DELAYED: &str = "
    INSERT INTO queue_messages
        (queue, routing_key, message_id, message_type, correlation_id, reply_to, headers, body,
         enqueued_at, available_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

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
            state: watch::Sender::new(BrokerState {
                consuming: true,
                publishing: true,
                ..BrokerState::default()
            }),
        })
    }

    /// Publishes messages with the same destination, in order.
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
            Destination::Reply(queue) | Destination::Queue(queue) => {
                self.send_all(queue, messages).await
            }
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
            for NewMessage { properties, body } in messages {
                let queue = CommandQueue::of(&properties.routing_key);
                sqlx::query(INSERT_DELAYED)
                    .bind(queue.as_str())
                    .bind(properties.routing_key)
                    .bind(properties.message_id)
                    .bind(properties.message_type)
                    .bind(properties.correlation_id)
                    .bind(properties.reply_to)
                    .bind(json(&properties.headers))
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
        // One transaction for each destination in the window, not one for each message.
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

    async fn queues(&self) -> Option<Vec<QueueDepth>> {
        let counts = self.queue.counts().await.ok()?;
        // Empty queues are not counted. Messages that wait for a retry are in their queue already.
        let commands = CommandQueue::ALL.map(CommandQueue::as_str).into_iter();
        let mut depths: BTreeMap<&str, u64> =
            commands.chain([DEAD]).map(|name| (name, 0)).collect();
        for count in &counts {
            let messages = count.ready + count.delayed + count.leased;
            depths.insert(&count.queue, u64::try_from(messages).unwrap_or_default());
        }
        let depth = |(queue, messages): (&str, u64)| QueueDepth {
            queue: queue.to_owned(),
            messages: Some(messages),
            consumers: None,
        };
        Some(depths.into_iter().map(depth).collect())
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
        if let Some(original) = &publication.original {
            let key = publication.routing_key.as_str();
            let mut properties = Properties::of_amqp(Arc::clone(original), key);
            let headers = publication.headers.clone();
            properties.headers.extend(headers);
            return Self {
                properties,
                body: publication.body.to_vec(),
            };
        }
        Self {
            properties: Properties {
                message_id: Some(publication.message_id.clone()).filter(|id| !id.is_empty()),
                message_type: Some(publication.message_type.clone()).filter(|t| !t.is_empty()),
                correlation_id: publication.correlation_id.clone(),
                reply_to: publication.reply_to.clone(),
                user_id: None,
                routing_key: publication.routing_key.clone(),
                headers: publication.headers.clone(),
                original: None,
            },
            body: publication.body.to_vec(),
        }
    }
}
