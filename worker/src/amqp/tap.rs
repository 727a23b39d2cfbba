//! Messages as they arrive in some queues, for measurements.

use futures::{StreamExt, stream::SelectAll};
use lapin::{
    Consumer,
    options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::FieldTable,
};

use super::{connection::Link, settings::AmqpSettings};
use crate::broker::BrokerError;

/// Messages that may be under way to a tap.
const PREFETCH: u16 = 4_096;

/// Reads queues, and takes what it reads out of them.
pub struct AmqpTap {
    link: Link,
    consumers: SelectAll<futures::stream::BoxStream<'static, Result<Tapped, lapin::Error>>>,
    replies: String,
}

/// A message that a tap has read.
#[derive(Clone, Debug)]
pub struct Tapped {
    /// The queue, by its place among those that were asked for; the queue of replies comes after them.
    pub queue: usize,
    /// The correlation id.
    pub correlation_id: Option<String>,
    /// Bytes of the body.
    pub bytes: usize,
}

impl AmqpTap {
    /// Reads `queues`, and a queue for replies that goes with the tap.
    pub async fn open(settings: &AmqpSettings, queues: &[String]) -> Result<Self, BrokerError> {
        let link = Link::open(settings, "tap").await?;
        let replies = format!("{}.replies", settings.topology().prefix());
        let opened = Self::consume(&link, queues, &replies).await;
        match opened {
            Ok(consumers) => Ok(Self {
                link,
                consumers: consumers.into_iter().collect(),
                replies,
            }),
            Err(error) => {
                let error = link.lost(error);
                link.close().await;
                Err(error)
            }
        }
    }

    async fn consume(
        link: &Link,
        queues: &[String],
        replies: &str,
    ) -> Result<
        Vec<futures::stream::BoxStream<'static, Result<Tapped, lapin::Error>>>,
        Box<dyn std::error::Error + Send + Sync>,
    > {
        let channel = link.channel().await?;
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(replies.into(), exclusive, FieldTable::default())
            .await?;
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await?;
        let unacked = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let mut consumers = Vec::new();
        for (index, queue) in queues
            .iter()
            .map(String::as_str)
            .chain([replies])
            .enumerate()
        {
            let consumer: Consumer = channel
                .basic_consume(queue.into(), "".into(), unacked, FieldTable::default())
                .await?;
            let read = consumer.map(move |delivery| {
                let delivery = delivery?;
                let id = delivery.properties.correlation_id();
                Ok(Tapped {
                    queue: index,
                    correlation_id: id.as_ref().map(ToString::to_string),
                    bytes: delivery.data.len(),
                })
            });
            consumers.push(read.boxed());
        }
        Ok(consumers)
    }

    /// The name of the queue of replies.
    pub fn replies(&self) -> &str {
        &self.replies
    }

    /// The next message of any of the queues.
    pub async fn next(&mut self) -> Result<Tapped, BrokerError> {
        match self.consumers.next().await {
            Some(Ok(tapped)) => Ok(tapped),
            Some(Err(error)) => Err(self.link.lost(error)),
            None => Err(self.link.lost("the broker ended the consumer")),
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        self.link.close().await;
    }
}
