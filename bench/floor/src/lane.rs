//! From the queues to the confirmed messages.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    hash::Hasher,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::try_join_all, stream::FuturesOrdered};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions,
    },
    types::{FieldTable, ShortString},
};
use serde_json::Value;
use tokio::{sync::mpsc, time::timeout};
use uuid::Uuid;

use crate::{
    Fallible,
    batch::{Batch, Queued, published},
    setup::Setup,
};

/// As the worker's defaults.
const PREFETCH: u16 = 2_048;
const LINGER: Duration = Duration::from_millis(2);
/// Batches that may wait to be published.
const WINDOWS: usize = 8;
const QUEUES: [&str; 3] = ["submission", "advance", "control"];

/// A command, as far as the program reads it.
struct Command {
    id: Uuid,
    task: Uuid,
    delivery: Delivery,
    acks: Arc<Acks>,
}

/// The acks of a queue: one frame for all deliveries below which nothing is open.
struct Acks {
    channel: Channel,
    /// The last tag that was acked, and those beyond it that are settled.
    settled: Mutex<(u64, BTreeSet<u64>)>,
}

impl Acks {
    fn new(channel: Channel) -> Arc<Self> {
        Arc::new(Self {
            channel,
            settled: Mutex::default(),
        })
    }

    /// Settles deliveries; returns the tag to ack up to.
    fn settle(&self, tags: impl Iterator<Item = u64>) -> Option<u64> {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let (acked, open) = &mut *settled;
        let before = *acked;
        open.extend(tags);
        while open.remove(&(*acked + 1)) {
            *acked += 1;
        }
        (*acked > before).then_some(*acked)
    }
}

/// What is to be published of a batch.
struct Window {
    rows: Vec<Queued>,
    messages: usize,
    /// The commands' ids, by which whoever enqueued them knows their messages.
    ids: Vec<ShortString>,
    /// Where answers go.
    replies: Vec<(ShortString, Option<ShortString>)>,
}

/// Runs until something fails.
pub(crate) async fn run(setup: &Setup) -> Fallible<()> {
    let consuming = Connection::connect(&setup.broker, ConnectionProperties::default()).await?;
    let publishing = Connection::connect(&setup.broker, ConnectionProperties::default()).await?;
    let mut lanes = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..setup.lanes {
        let (sender, receiver) = mpsc::channel(usize::from(PREFETCH) * QUEUES.len());
        senders.push(sender);
        lanes.push(lane(setup, &publishing, receiver));
    }
    let consumers = QUEUES.map(|queue| consume(setup, &consuming, queue, &senders));
    tokio::try_join!(try_join_all(consumers), try_join_all(lanes)).map(drop)
}

async fn consume(
    setup: &Setup,
    connection: &Connection,
    queue: &str,
    lanes: &[mpsc::Sender<Command>],
) -> Fallible<()> {
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut deliveries = channel
        .basic_consume(
            format!("{}.{queue}", setup.prefix).into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let acks = Acks::new(channel);
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        let body: Value = serde_json::from_slice(&delivery.data)?;
        let id = |key: &str| -> Fallible<Uuid> {
            Ok(Uuid::parse_str(body[key].as_str().unwrap_or_default())?)
        };
        let (id, task) = (id("command_id")?, id("task_id")?);
        let mut hasher = DefaultHasher::new();
        hasher.write_u128(task.as_u128());
        let lane = usize::try_from(hasher.finish() % lanes.len() as u64)?;
        let acks = Arc::clone(&acks);
        let command = Command {
            id,
            task,
            delivery,
            acks,
        };
        lanes[lane].send(command).await?;
    }
    Err("the broker ended the consumer".into())
}

/// Batches the commands of a lane, commits them, and hands their messages to its publisher, which
/// works while the next batch does.
async fn lane(
    setup: &Setup,
    connection: &Connection,
    mut commands: mpsc::Receiver<Command>,
) -> Fallible<()> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let (windows, waiting) = mpsc::channel(WINDOWS);
    let publisher = publish(setup, channel, waiting);
    let committing = async {
        let mut database = setup.connect().await?;
        let event = filler(setup.event_bytes);
        let mut owed = (0.0, 0.0);
        while let Some(first) = commands.recv().await {
            let mut taken = vec![first];
            let gather = async {
                while taken.len() < setup.batch_max
                    && let Some(next) = commands.recv().await
                {
                    taken.push(next);
                }
            };
            let _ = timeout(LINGER, gather).await;
            let batch = Batch {
                commands: taken
                    .iter()
                    .map(|command| (command.id, command.task, whole(&mut owed.0, setup.events)))
                    .collect(),
            };
            let rows = batch.commit(&mut database, &event).await?;
            let mut messages = 0;
            for _ in &taken {
                messages += whole(&mut owed.1, setup.messages);
            }
            let window = Window {
                rows,
                messages: usize::try_from(messages)?,
                ids: taken
                    .iter()
                    .map(|command| command.id.to_string().into())
                    .collect(),
                replies: taken.iter().filter_map(reply_to).collect(),
            };
            windows.send(window).await?;
            ack(&taken).await?;
        }
        Ok(())
    };
    tokio::try_join!(committing, publisher).map(drop)
}

/// Acks the commands of a batch, one frame for each of their queues.
async fn ack(taken: &[Command]) -> Fallible<()> {
    let mut queues: Vec<&Arc<Acks>> = Vec::new();
    for command in taken {
        if !queues.iter().any(|acks| Arc::ptr_eq(acks, &command.acks)) {
            queues.push(&command.acks);
        }
    }
    for acks in queues {
        let own = taken
            .iter()
            .filter(|command| Arc::ptr_eq(acks, &command.acks));
        if let Some(tag) = acks.settle(own.map(|command| command.delivery.delivery_tag)) {
            let options = BasicAckOptions { multiple: true };
            acks.channel.basic_ack(tag, options).await?;
        }
    }
    Ok(())
}

async fn publish(
    setup: &Setup,
    channel: Channel,
    mut windows: mpsc::Receiver<Window>,
) -> Fallible<()> {
    let mut database = setup.connect().await?;
    let exchange = format!("{}.events", setup.prefix);
    let body = filler(setup.message_bytes);
    let keys = ["step.completed.w.s", "transition.occurred.w.s"];
    while let Some(window) = windows.recv().await {
        for (queue, correlation) in window.replies {
            let mut properties = BasicProperties::default();
            if let Some(id) = correlation {
                properties = properties.with_correlation_id(id);
            }
            let options = BasicPublishOptions::default();
            // Confirmed with the others, and not waited for.
            drop(
                channel
                    .basic_publish("".into(), queue, options, b"{}", properties)
                    .await?,
            );
        }
        let mut confirms = FuturesOrdered::new();
        for index in 0..window.messages {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_message_id(Uuid::now_v7().to_string().into())
                .with_correlation_id(window.ids[index * window.ids.len() / window.messages].clone())
                .with_content_type("application/cloudevents+json".into());
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let key = keys[index % keys.len()].into();
            confirms.push_back(
                channel
                    .basic_publish(
                        exchange.as_str().into(),
                        key,
                        options,
                        body.as_bytes(),
                        properties,
                    )
                    .await?,
            );
        }
        while let Some(confirm) = confirms.next().await {
            confirm?;
        }
        published(&mut database, &window.rows).await?;
    }
    Ok(())
}

fn reply_to(command: &Command) -> Option<(ShortString, Option<ShortString>)> {
    let properties = &command.delivery.properties;
    let queue = properties.reply_to().clone()?;
    Some((queue, properties.correlation_id().clone()))
}

/// Whole numbers that have `average` on average.
#[expect(clippy::cast_possible_truncation, reason = "a handful")]
fn whole(owed: &mut f64, average: f64) -> i64 {
    *owed += average;
    let now = owed.floor();
    *owed -= now;
    now as i64
}

/// JSON of about that many bytes.
fn filler(bytes: usize) -> String {
    let text: String = ('a'..='z').cycle().take(bytes.saturating_sub(8)).collect();
    format!("{{\"x\":\"{text}\"}}")
}
