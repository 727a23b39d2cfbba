//! The dead queue, for operators.
//!
//! Each operation uses a connection of its own for as long as it runs. It takes the queue's
//! messages without acking them, so that it sees each message once, and acks only those to remove.
//! Closing the connection puts the rest back in order. The queue has no delivery limit, so listing
//! costs a message nothing. While one operation runs, another sees only what the first has not
//! taken.

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat};
use lapin::{
    Channel, Confirmation,
    message::Delivery,
    options::{
        BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions,
    },
    types::AMQPValue,
};
use tokio::time::timeout;

use super::{connection::Link, message, moves::brokers_reason, settings::AmqpSettings};
use crate::{
    broker::{BrokerError, DeadLetter, DeadLetters, RetryDelay},
    wire::reasons::{HEADER_ATTEMPTS, HEADER_ERROR, HEADER_FIRST_FAILED_AT, HEADER_REASON},
};

/// The most letters, and the most bytes, that one replay holds in memory. It returns how many it
/// replayed; running it again takes the next ones.
const REPLAY_MAX: usize = 10_000;
const REPLAY_BYTES_MAX: usize = 256 * 1024 * 1024;

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

    /// Reads the queue until it is empty or `limit` is reached. Returns the listed letters, and to
    /// how many the operation was applied.
    async fn visit(
        &self,
        queue: String,
        limit: usize,
        verb: Verb<'_>,
    ) -> Result<(Vec<DeadLetter>, usize), BrokerError> {
        let link = Link::open(&self.settings, "dead letters").await?;
        let visited = async {
            let declarer = Declarer::open(&self.settings, &link, queue).await?;
            let (mut listed, mut done) = (Vec::new(), 0);
            let (mut to_replay, mut bytes) = (Vec::new(), 0);
            while listed.len() < limit
                && to_replay.len() < REPLAY_MAX
                && bytes < REPLAY_BYTES_MAX
                && let Some(delivery) = declarer.bounded("a dead letter", declarer.get()).await?
            {
                let letter = read(&delivery);
                match verb {
                    Verb::List => listed.push(letter),
                    Verb::Replay(chosen) | Verb::Drop(chosen) if !chosen(&letter) => {}
                    Verb::Replay(_) => {
                        bytes += letter.bytes;
                        to_replay.push((delivery, letter.routing_key));
                    }
                    Verb::Drop(_) => {
                        declarer
                            .bounded("the removal of a dead letter", declarer.ack(&delivery))
                            .await?;
                        done += 1;
                    }
                }
            }
            // Only after the queue was read: a replayed command may die again at once, and would
            // otherwise be replayed for ever.
            for (delivery, routing_key) in to_replay {
                let published = declarer.publish(&delivery, &routing_key);
                declarer.bounded("a replayed command", published).await?;
                declarer
                    .bounded("the removal of a dead letter", declarer.ack(&delivery))
                    .await?;
                done += 1;
            }
            declarer
                .bounded("the dead letters' return", declarer.put_back())
                .await?;
            Ok((listed, done))
        }
        .await;
        link.close().await;
        visited
    }
}

type Chosen<'a> = &'a (dyn for<'l> Fn(&'l DeadLetter) -> bool + Sync);

/// The operation to apply to each dead letter.
#[derive(Clone, Copy)]
enum Verb<'a> {
    List,
    Replay(Chosen<'a>),
    Drop(Chosen<'a>),
}

#[async_trait]
impl DeadLetters for AmqpDeadLetters {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        Ok(self.visit(self.dead(), limit, Verb::List).await?.0)
    }

    async fn set_aside(&self, limit: usize) -> Result<Vec<DeadLetter>, BrokerError> {
        let queue = self.settings.topology().retry(RetryDelay::S60);
        let mut waiting = self.visit(queue, usize::MAX, Verb::List).await?.0;
        waiting.retain(DeadLetter::is_set_aside);
        waiting.truncate(limit);
        Ok(waiting)
    }

    async fn replay(
        &self,
        chosen: &(dyn for<'a> Fn(&'a DeadLetter) -> bool + Sync),
    ) -> Result<usize, BrokerError> {
        Ok(self
            .visit(self.dead(), usize::MAX, Verb::Replay(chosen))
            .await?
            .1)
    }

    async fn drop(
        &self,
        chosen: &(dyn for<'a> Fn(&'a DeadLetter) -> bool + Sync),
    ) -> Result<usize, BrokerError> {
        Ok(self
            .visit(self.dead(), usize::MAX, Verb::Drop(chosen))
            .await?
            .1)
    }
}

struct Declarer<'a> {
    settings: &'a AmqpSettings,
    channel: Channel,
    queue: String,
}

impl<'a> Declarer<'a> {
    async fn open(
        settings: &'a AmqpSettings,
        link: &Link,
        queue: String,
    ) -> Result<Self, BrokerError> {
        let opening = async {
            let channel = link.channel().await?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .map_err(|error| link.lost(error))?;
            Ok(channel)
        };
        let channel = timeout(settings.connect_timeout, opening)
            .await
            .unwrap_or_else(|elapsed| Err(link.lost(elapsed)))?;
        Ok(Self {
            settings,
            channel,
            queue,
        })
    }

    async fn get(&self) -> Result<Option<Delivery>, BrokerError> {
        let got = self
            .channel
            .basic_get(self.queue.as_str().into(), BasicGetOptions::default())
            .await
            .map_err(|error| self.refused(&format!("reading queue {}", self.queue), error))?;
        Ok(got.map(|message| message.delivery))
    }

    /// Puts back everything that was not acked. Closing does so too, but with a delay; the next
    /// operation should find the queue unchanged.
    async fn put_back(&self) -> Result<(), BrokerError> {
        let all = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        let failed = |error| self.refused("the return of dead letters", error);
        self.channel.basic_nack(0, all).await.map_err(failed)?;
        // This call has an answer, which arrives only after the broker has processed what came
        // before.
        self.channel
            .basic_qos(0, BasicQosOptions::default())
            .await
            .map_err(failed)
    }

    async fn ack(&self, delivery: &Delivery) -> Result<(), BrokerError> {
        self.channel
            .basic_ack(delivery.delivery_tag, BasicAckOptions::default())
            .await
            .map_err(|error| self.refused("the removal of a dead letter", error))
    }

    /// One message at a time, so that a returned message can only be this one.
    async fn publish(&self, delivery: &Delivery, first_key: &str) -> Result<(), BrokerError> {
        let topology = self.settings.topology();
        let kind = delivery.properties.kind().as_ref().map_or_else(
            || json_text(&delivery.data, "type").unwrap_or_default(),
            ToString::to_string,
        );
        let key = topology.routable(first_key, &kind);
        let action = || {
            format!(
                "the replay of a command to {} by {key}",
                topology.commands()
            )
        };
        let confirmation = self
            .channel
            .basic_publish(
                topology.commands().into(),
                key.as_str().into(),
                BasicPublishOptions {
                    mandatory: true,
                    immediate: false,
                },
                &delivery.data,
                message::revived(&delivery.properties),
            )
            .await
            .map_err(|error| self.refused(&action(), error))?
            .await
            .map_err(|error| self.refused(&action(), error))?;
        match confirmation {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(message)) => Err(BrokerError::Refused {
                action: action(),
                source: message.reply_text.as_str().into(),
            }),
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(BrokerError::Refused {
                action: action(),
                source: "not confirmed".into(),
            }),
        }
    }

    async fn bounded<T>(
        &self,
        action: &str,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        timeout(self.settings.confirm_timeout, work)
            .await
            .unwrap_or_else(|_| {
                Err(BrokerError::Unconfirmed {
                    action: action.to_owned(),
                    seconds: self.settings.confirm_timeout.as_secs(),
                })
            })
    }

    fn refused(&self, action: &str, error: lapin::Error) -> BrokerError {
        if error.is_amqp_error() {
            BrokerError::Refused {
                action: action.to_owned(),
                source: error.into(),
            }
        } else {
            self.settings.unreachable(error)
        }
    }
}

fn read(delivery: &Delivery) -> DeadLetter {
    let properties = message::from_amqp(&delivery.properties, delivery.routing_key.as_str());
    let text = |name: &str| properties.headers.get(name).cloned();
    let counted = message::header(&delivery.properties, HEADER_ATTEMPTS)
        .or_else(|| message::header(&delivery.properties, "x-delivery-count"))
        .and_then(message::as_count);
    DeadLetter {
        command_id: json_text(&delivery.data, "command_id").or(properties.message_id),
        reason: text(HEADER_REASON)
            .unwrap_or_else(|| brokers_reason(&delivery.properties).to_owned()),
        error: text(HEADER_ERROR),
        attempts: counted.unwrap_or_default(),
        first_failed_at: text(HEADER_FIRST_FAILED_AT).or_else(|| first_death(delivery)),
        routing_key: properties.routing_key,
        body: String::from_utf8_lossy(&delivery.data).into_owned(),
        bytes: delivery.data.len(),
    }
}

/// A string field of a JSON object; none if the text is not an object or lacks it.
fn json_text(body: &[u8], field: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    value.get(field)?.as_str().map(ToOwned::to_owned)
}

/// When the broker first moved it. The list has the latest move first.
fn first_death(delivery: &Delivery) -> Option<String> {
    let AMQPValue::FieldArray(deaths) = message::header(&delivery.properties, "x-death")? else {
        return None;
    };
    let AMQPValue::FieldTable(first) = deaths.as_slice().last()? else {
        return None;
    };
    let AMQPValue::Timestamp(seconds) = first.inner().get("time")? else {
        return None;
    };
    let time = DateTime::from_timestamp(i64::try_from(*seconds).ok()?, 0)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}
