//! Latency through the broker, at a steady pace.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use uuid::Uuid;

use super::{
    super::{
        CliError,
        connect::{amqp, wait_until_publishing},
        publish::command_publication,
    },
    workload::Workload,
};
use crate::{
    amqp::{AmqpPublisher, AmqpSettings, AmqpTap, Tapped},
    broker::{MessagePublisher, Publication, PublishOutcome},
    settings::{SecretUrl, Settings},
};

/// How often commands that are due are published.
const TICK: Duration = Duration::from_millis(2);
/// Channels that publish: a window waits for its confirms, and others must not wait for it. What has become
/// due meanwhile makes one window, so a producer whose confirms are slow does not fall behind its pace.
const CHANNELS: usize = 8;
/// How long the last answers may take.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Times from the moment at which a command was to be enqueued, whatever held up the producer.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    /// Commands a second.
    pub(super) commands_per_second: f64,
    /// Commands that were answered.
    pub(super) commands: u64,
    /// Until the reply to the command, which follows its commit.
    pub(super) to_commit: Quantiles,
    /// Until the first message that it led to was received downstream, where it led to one.
    pub(super) to_receipt: Quantiles,
    /// Until the producer published it, which is a part of both: a machine that is too busy for the pace.
    pub(super) to_publish: Quantiles,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the JSON says its unit")]
pub(super) struct Quantiles {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

/// Publishes `workload` at that pace for `seconds`, and measures.
pub(super) async fn measure(
    settings: &Settings,
    broker: &SecretUrl,
    workload: Workload,
    per_second: f64,
    seconds: u64,
) -> Result<Latency, CliError> {
    let mut amqp = amqp(broker, settings)?;
    amqp.publish_channels = CHANNELS;
    let queues = [
        amqp.topology().step_completed(),
        amqp.topology().transition_occurred(),
    ];
    let mut tap = AmqpTap::open(&amqp, &queues).await?;
    let producer = Producer::start(amqp).await?;
    let run = Uuid::now_v7();
    let mut due = HashMap::new();
    let mut measured = Measured::new()?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    let ends = began + Duration::from_secs(seconds);
    let mut index = 0_u64;
    while Instant::now() < ends {
        tokio::select! {
            tapped = tap.next() => measured.take(&tapped?, &due, queues.len()),
            now = ticks.tick() => {
                let mut window = Vec::new();
                while began + at(index, per_second) <= now {
                    let load = workload.load(run, index);
                    due.insert(load.id.to_string(), began + at(index, per_second));
                    index += 1;
                    let id = load.id.to_string();
                    let mut publication = command_publication(load.kind, id.clone(), load.body.into());
                    publication.correlation_id = Some(id);
                    publication.reply_to = Some(tap.replies().to_owned());
                    window.push((began + at(index - 1, per_second), publication));
                }
                if !window.is_empty() {
                    producer.send(window)?;
                }
            }
        }
    }
    let rest = async {
        while measured.committed.len() < index {
            let tapped = tap.next().await?;
            measured.take(&tapped, &due, queues.len());
        }
        Ok::<_, CliError>(())
    };
    // What is not answered by then is not counted: the report has the number.
    if let Ok(failed) = timeout(LAST_ANSWERS, rest).await {
        failed?;
    }
    tap.close().await;
    let published = producer.end().await?;
    Ok(Latency {
        commands_per_second: per_second,
        commands: measured.committed.len(),
        to_commit: Quantiles::of(&measured.committed),
        to_receipt: Quantiles::of(&measured.received),
        to_publish: Quantiles::of(&published),
    })
}

fn at(index: u64, per_second: f64) -> Duration {
    Duration::from_secs_f64(index as f64 / per_second.max(1.0))
}

/// Commands with the times at which they are due.
type Window = Vec<(Instant, Publication)>;

/// Publishes windows on several channels.
struct Producer {
    lanes: Vec<mpsc::UnboundedSender<Window>>,
    next: Cell<usize>,
    /// Each ends with the delays of its commands.
    tasks: JoinSet<Histogram<u64>>,
}

impl Producer {
    async fn start(settings: AmqpSettings) -> Result<Self, CliError> {
        let publisher = AmqpPublisher::start(settings);
        wait_until_publishing(&*publisher).await?;
        let mut tasks = JoinSet::new();
        let mut lane = |lane: usize| {
            let (sender, mut windows) = mpsc::unbounded_channel::<Window>();
            let publisher = Arc::clone(&publisher);
            let mut delays = histogram()?;
            tasks.spawn(async move {
                while let Some(mut window) = windows.recv().await {
                    while let Ok(more) = windows.try_recv() {
                        window.extend(more);
                    }
                    let (due, window): (Vec<_>, Vec<_>) = window.into_iter().unzip();
                    for due in due {
                        delays.saturating_record(micros_since(due));
                    }
                    let outcomes = publisher.publish(lane, &window).await;
                    let lost = outcomes.iter().filter(|o| **o != PublishOutcome::Confirmed);
                    let lost = lost.count();
                    if lost > 0 {
                        tracing::warn!(lost, "commands were not confirmed");
                    }
                }
                delays
            });
            Ok::<_, CliError>(sender)
        };
        let lanes = (0..CHANNELS).map(&mut lane).collect::<Result<_, _>>()?;
        Ok(Self {
            lanes,
            next: Cell::new(0),
            tasks,
        })
    }

    fn send(&self, window: Window) -> Result<(), CliError> {
        let lane = self.next.get();
        self.next.set((lane + 1) % self.lanes.len());
        let sent = self.lanes[lane].send(window);
        sent.map_err(|_| CliError::failed("bug", "a publishing task ended".to_owned()))
    }

    /// Publishes the rest. Returns the delays of all commands, in microseconds.
    async fn end(mut self) -> Result<Histogram<u64>, CliError> {
        self.lanes.clear();
        let mut all = histogram()?;
        while let Some(delays) = self.tasks.join_next().await {
            let added = delays.map(|delays| all.add(delays));
            added
                .map_err(|error| CliError::failed("bug", error.to_string()))?
                .map_err(|error| CliError::failed("bug", error.to_string()))?;
        }
        Ok(all)
    }
}

/// Of microseconds.
fn histogram() -> Result<Histogram<u64>, CliError> {
    Histogram::new_with_bounds(1, 120_000_000, 3)
        .map_err(|error| CliError::failed("bug", error.to_string()))
}

fn micros_since(time: Instant) -> u64 {
    u64::try_from(time.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Times in microseconds.
struct Measured {
    committed: Histogram<u64>,
    received: Histogram<u64>,
    /// Commands of which a message was received.
    seen: HashSet<String>,
}

impl Measured {
    fn new() -> Result<Self, CliError> {
        Ok(Self {
            committed: histogram()?,
            received: histogram()?,
            seen: HashSet::new(),
        })
    }

    fn take(&mut self, tapped: &Tapped, due: &HashMap<String, Instant>, replies: usize) {
        let Some(id) = &tapped.correlation_id else {
            return;
        };
        let Some(since) = due.get(id) else { return };
        let micros = micros_since(*since);
        if tapped.queue == replies {
            self.committed.saturating_record(micros);
        } else if self.seen.insert(id.clone()) {
            self.received.saturating_record(micros);
        }
    }
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        Self {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1_000.0,
        }
    }
}
