//! Commands from the broker: connection A, a channel for each subscription to a command queue.
//!
//! Some of what the broker sends to a consumer never arrives: a node of a cluster ends on the way,
//! or the consumer was cancelled meanwhile. For the broker it is delivered, and stays so until
//! another delivery to the same consumer shows the gap, or the channel ends. The consumer may wait
//! for ever: with all that it may hold on the way, none is sent any more. So a subscription has a
//! channel of its own, which is closed once it has ended and everything received over it is settled;
//! and one that has been silent for a while is replaced. What was on the way is delivered again then.
//!
//! A cluster forgets to ask after a *cancelled* consumer whose node was away: if its channel ends with
//! deliveries, they stay unacknowledged until the queue has another leader (seen with RabbitMQ 3.10).
//! Nothing that a client can do changes that, so a connection that ends like this is told of.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, future::try_join_all};
use lapin::{
    Channel, Consumer,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions,
        BasicQosOptions, QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    acks::{AckTracker, ChannelAcks, Frame, Held, LiveChannel},
    connection::{Link, SETUP_TIMEOUT, Service, supervise},
    message,
    settings::AmqpSettings,
    upkeep::{declare_all, watch_prefix},
};
use crate::broker::{
    BrokerError, BrokerState, CommandQueue, CommandSource, Delivery, HELD_BYTES_MAX, Prefetch,
    Properties, Receipt,
};

/// How long the broker may take to confirm that it has stopped delivering.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a queue is given to take the last acks of a channel.
const LAST_ACKS: Duration = Duration::from_secs(2);
/// How long a look at a queue may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long [`AmqpSource::close`] waits for the supervisor, which bounds its own steps.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(15);

/// Commands from RabbitMQ. A background task owns the connection. Dropping the source ends that
/// task; [`AmqpSource::close`] also waits for its end.
#[derive(Debug)]
pub struct AmqpSource {
    intake: Arc<Intake>,
    deliveries: tokio::sync::Mutex<mpsc::UnboundedReceiver<Delivery>>,
    tasks: TaskTracker,
}

/// What the source shares with its supervisor.
#[derive(Debug)]
struct Intake {
    settings: AmqpSettings,
    acks: Arc<AckTracker>,
    state: watch::Sender<BrokerState>,
    paused: watch::Sender<bool>,
    /// Deliveries that wait for [`CommandSource::next`]: about [`HELD_BYTES_MAX`] for each queue,
    /// since the broker sends no more than the prefetch. `None` once intake has ended, which ends the receiver.
    buffer: Mutex<Option<mpsc::UnboundedSender<Delivery>>>,
    /// The connection, while there is one.
    link: Mutex<Weak<Link>>,
    /// Take no new deliveries from now on; the connection stays open for acks.
    stop: CancellationToken,
    /// Send no more acks either.
    closing: CancellationToken,
}

impl AmqpSource {
    /// Starts connecting. Waits for a broker that is not available yet.
    pub fn start(settings: AmqpSettings) -> Arc<Self> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let closing = CancellationToken::new();
        let intake = Arc::new(Intake {
            settings,
            acks: Arc::default(),
            state: watch::Sender::new(BrokerState {
                reason: Some("not connected yet".to_owned()),
                ..BrokerState::default()
            }),
            paused: watch::Sender::new(false),
            buffer: Mutex::new(Some(sender)),
            link: Mutex::default(),
            stop: closing.child_token(),
            closing,
        });
        let tasks = TaskTracker::new();
        tasks.spawn({
            let intake = Arc::clone(&intake);
            async move {
                supervise(&*intake, &intake.settings, &intake.state, &intake.stop).await;
                intake.end();
                intake.state.send_replace(BrokerState {
                    reason: Some("stopped".to_owned()),
                    ..BrokerState::default()
                });
            }
        });
        tasks.close();
        Arc::new(Self {
            intake,
            deliveries: tokio::sync::Mutex::new(receiver),
            tasks,
        })
    }

    /// Sends the last acks and closes the connection, within a bounded time. The broker redelivers
    /// whatever is not settled by then.
    pub async fn close(&self) {
        self.intake.closing.cancel();
        if timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("the consuming connection did not close in time");
        }
    }

    /// Receipts that were settled or returned after their channel was gone, since the start. The
    /// broker delivers those commands again.
    pub fn late_receipts(&self) -> u64 {
        self.intake.acks.late()
    }
}

impl Drop for AmqpSource {
    fn drop(&mut self) {
        self.intake.closing.cancel();
    }
}

#[async_trait]
impl CommandSource for AmqpSource {
    async fn next(&self) -> Option<Delivery> {
        let mut deliveries = self.deliveries.lock().await;
        loop {
            let delivery = deliveries.recv().await?;
            // The broker redelivers the deliveries of a lost channel; processing them here too
            // would be wasted.
            if self.intake.acks.is_live(delivery.receipt.channel) {
                return Some(delivery);
            }
        }
    }

    fn settle(&self, receipts: &[Receipt]) {
        self.intake.acks.settle(receipts);
    }

    fn give_back(&self, receipts: &[Receipt]) {
        self.intake.acks.give_back(receipts);
    }

    fn pause(&self, paused: bool) {
        self.intake.paused.send_replace(paused);
    }

    async fn stop(&self) {
        self.intake.stop.cancel();
        let mut state = self.intake.state.subscribe();
        // The supervisor signals this once the buffer is complete; it bounds its own steps.
        let _ = state.wait_for(|state| !state.consuming).await;
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.intake.state.subscribe()
    }

    async fn dead_letters(&self) -> Option<u64> {
        let link = self.intake.link().upgrade()?;
        let look = async {
            // A refusal closes the channel.
            let channel = link.channel().await.ok()?;
            let name = self.intake.settings.topology().dead();
            let options = QueueDeclareOptions {
                passive: true,
                ..QueueDeclareOptions::default()
            };
            let found = channel
                .queue_declare(name.into(), options, FieldTable::default())
                .await;
            let _ = channel.close(200, "OK".into()).await;
            Some(u64::from(found.ok()?.message_count()))
        };
        timeout(LOOK_TIMEOUT, look).await.ok()?
    }
}

/// How one queue is consumed from.
struct QueueIntake {
    queue: CommandQueue,
    /// The queue's name.
    name: String,
    link: Arc<Link>,
    prefetch: Prefetch,
    silence_max: Duration,
    acks: Arc<AckTracker>,
    held: Arc<Held>,
    /// What was received.
    buffer: mpsc::UnboundedSender<Delivery>,
    /// Channels whose acks are to be sent.
    opened: mpsc::UnboundedSender<(LiveChannel, Channel)>,
}

/// A consumer, on a channel of its own.
struct Subscription {
    id: u64,
    channel: Channel,
    acks: Arc<ChannelAcks>,
    consumer: Consumer,
}

#[async_trait]
impl Service for Intake {
    type Session = ();

    const ROLE: &'static str = "consume";

    async fn prepare(&self, link: &Arc<Link>) -> Result<(), BrokerError> {
        declare_all(&self.settings, link).await
    }

    async fn serve(&self, link: &Arc<Link>, (): ()) -> Result<(), BrokerError> {
        *self.link() = Arc::downgrade(link);
        let (mut intakes, mut ackers) = (JoinSet::new(), JoinSet::new());
        let served = self.pump(link, &mut intakes, &mut ackers).await;
        let deliveries = self.acks.left();
        if served.is_err() && deliveries > 0 {
            tracing::warn!(
                deliveries,
                "the connection has ended with deliveries of cancelled consumers: where a node of a \
                 cluster was away as well, they may stay with the broker (docs/operations.md, \
                 Deliveries of nobody)"
            );
        }
        // No channel is live after this.
        intakes.shutdown().await;
        ackers.shutdown().await;
        served
    }
}

impl Intake {
    /// Reads deliveries and sends acks until the connection fails or is to be closed.
    async fn pump(
        &self,
        link: &Arc<Link>,
        intakes: &mut JoinSet<Result<(), Cause>>,
        ackers: &mut JoinSet<Result<(), Cause>>,
    ) -> Result<(), BrokerError> {
        let buffer = self
            .buffer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // Closed once every queue is consumed, or held.
        let (ready, mut waiting) = mpsc::channel::<()>(1);
        let (opened, mut channels) = mpsc::unbounded_channel();
        for queue in CommandQueue::ALL {
            // None after a stop.
            let Some(buffer) = buffer.clone() else { break };
            let queue = QueueIntake {
                queue,
                name: self.settings.topology().queue(queue),
                link: Arc::clone(link),
                prefetch: Prefetch::new(self.settings.prefetch),
                silence_max: self.settings.silence_max,
                acks: Arc::clone(&self.acks),
                held: Arc::default(),
                buffer,
                opened: opened.clone(),
            };
            let paused = self.paused.subscribe();
            intakes.spawn(queue.take_in(paused, self.stop.clone(), ready.clone()));
        }
        drop((buffer, ready, opened));
        let mut is_ready = false;
        let broken = link.broken(&self.state);
        let not_ours = watch_prefix(&self.settings, link);
        tokio::pin!(broken, not_ours);
        loop {
            tokio::select! {
                // Before it is said that no acks are left to send.
                biased;
                Some((live, channel)) = channels.recv() => {
                    ackers.spawn(send_acks(live, channel, self.closing.clone()));
                }
                error = &mut broken => return Err(error),
                error = &mut not_ours => return Err(error),
                None = waiting.recv(), if !is_ready => {
                    is_ready = true;
                    let consuming = !self.stop.is_cancelled();
                    self.state.send_modify(|state| {
                        state.consuming = consuming;
                        state.reason = None;
                    });
                }
                Some(ended) = intakes.join_next() => {
                    joined(ended).map_err(|error| link.lost(error))?;
                    if intakes.is_empty() {
                        self.end();
                    }
                }
                Some(ended) = ackers.join_next() => joined(ended).map_err(|error| link.lost(error))?,
                () = self.closing.cancelled(), if intakes.is_empty() && ackers.is_empty() => {
                    return Ok(());
                }
            }
        }
    }

    fn link(&self) -> MutexGuard<'_, Weak<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No more deliveries will enter the buffer.
    fn end(&self) {
        self.buffer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.state.send_modify(|state| state.consuming = false);
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn joined(ended: Result<Result<(), Cause>, tokio::task::JoinError>) -> Result<(), Cause> {
    ended.unwrap_or_else(|panic| Err(panic.into()))
}

impl QueueIntake {
    /// Buffers the deliveries of the queue. Subscribes whenever intake is not paused, and anew with
    /// another prefetch when the commands turn out to be of another size, or when none came for a
    /// while. Returns without an error only after `stop`, once everything that the broker had sent
    /// is handed over, or where it does not answer a subscription. Closing the channel instead would
    /// count as a failed delivery of each.
    async fn take_in(
        mut self,
        mut paused: watch::Receiver<bool>,
        stop: CancellationToken,
        ready: mpsc::Sender<()>,
    ) -> Result<(), Cause> {
        let mut ready = Some(ready);
        loop {
            if *paused.borrow_and_update() {
                drop(ready.take());
            }
            let room = async {
                loop {
                    paused.wait_for(|paused| !paused).await?;
                    // The consumer may hold all of its prefetch, whatever is still at work.
                    let count = usize::from(self.prefetch.now() / 2);
                    self.held.at_most(count, HELD_BYTES_MAX).await;
                    if !*paused.borrow_and_update() {
                        return Ok::<(), Cause>(());
                    }
                }
            };
            match stop.run_until_cancelled(room).await {
                Some(room) => room?,
                None => return Ok(()),
            }
            let stopped = async {
                stop.cancelled().await;
                sleep(CANCEL_TIMEOUT).await;
            };
            let mut subscription = tokio::select! {
                subscribed = timeout(SETUP_TIMEOUT, self.subscribe()) => subscribed??,
                // A queue without a leader does not answer.
                () = stopped => return Ok(()),
            };
            drop(ready.take());
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    changed = paused.changed() => {
                        changed?;
                        if *paused.borrow_and_update() {
                            break;
                        }
                    }
                    delivery = timeout(self.silence_max, subscription.consumer.next()) => match delivery {
                        Ok(Some(delivery)) => self.hand_over(&subscription, delivery?),
                        Ok(None) => return Err("the broker cancelled the consumer".into()),
                        // Unless it has all that it may hold, which would become more.
                        Err(_silent) if self.held.count() == 0 => break,
                        Err(_silent) => {}
                    },
                }
                if self.prefetch.adapt() || self.held.bytes() > 2 * HELD_BYTES_MAX {
                    break;
                }
            }
            let cancelled = subscription
                .channel
                .basic_cancel(subscription.consumer.tag(), BasicCancelOptions::default());
            timeout(CANCEL_TIMEOUT, cancelled).await??;
            while let Some(delivery) = subscription.consumer.next().await {
                self.hand_over(&subscription, delivery?);
            }
            subscription.acks.end();
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    async fn subscribe(&self) -> Result<Subscription, Cause> {
        let refused = |error: lapin::Error| BrokerError::Refused {
            action: format!("consuming from queue {}", self.name),
            source: error.into(),
        };
        let prefetch = self.prefetch.now();
        let channel = self.link.channel().await?;
        // Set before the consumer starts; otherwise it starts with a flood.
        channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await
            .map_err(refused)?;
        let consumer = channel.basic_consume(
            self.name.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = consumer.await.map_err(refused)?;
        let live = self.acks.open(prefetch, Arc::clone(&self.held));
        let subscription = Subscription {
            id: live.id,
            channel: channel.clone(),
            acks: Arc::clone(&live.acks),
            consumer,
        };
        // Fails only if the connection is being closed.
        let _ = self.opened.send((live, channel));
        Ok(subscription)
    }

    fn hand_over(&mut self, from: &Subscription, delivery: lapin::message::Delivery) {
        let bytes = delivery.data.len();
        let tag = delivery.delivery_tag;
        let read = read(self.queue, from.id, delivery);
        self.prefetch.delivered(bytes);
        from.acks.delivered(tag, bytes, read.deliveries_before > 0);
        // Fails only if the receiver is gone.
        let _ = self.buffer.send(read);
    }
}

/// Reports settled deliveries to the broker: one frame for all that were settled since the last
/// one. Closes the channel a while after nothing is left to report.
async fn send_acks(
    live: LiveChannel,
    channel: Channel,
    closing: CancellationToken,
) -> Result<(), Cause> {
    loop {
        let is_closing = tokio::select! {
            () = live.acks.rung() => false,
            () = closing.cancelled() => true,
        };
        let report = live.acks.take();
        let channel = &channel;
        try_join_all(report.frames.into_iter().map(async |frame| {
            match frame {
                Frame::AckUpTo(tag) => {
                    channel
                        .basic_ack(tag, BasicAckOptions { multiple: true })
                        .await
                }
                Frame::Ack(tag) => {
                    channel
                        .basic_ack(tag, BasicAckOptions { multiple: false })
                        .await
                }
                Frame::GiveBack(tag) => {
                    channel
                        .basic_nack(
                            tag,
                            BasicNackOptions {
                                multiple: false,
                                requeue: true,
                            },
                        )
                        .await
                }
            }
        }))
        .await?;
        if report.is_last {
            // A quorum queue takes acks later than its channel, and what it has not taken when the channel
            // is closed comes again. The end of the connection closes the channel as well.
            let closed = async {
                sleep(LAST_ACKS).await;
                channel.close(200, "OK".into()).await
            };
            closing.run_until_cancelled(closed).await.transpose()?;
            return Ok(());
        }
        if is_closing {
            return Ok(());
        }
    }
}

fn read(queue: CommandQueue, channel: u64, delivery: lapin::message::Delivery) -> Delivery {
    let deliveries_before = message::header(&delivery.properties, "x-delivery-count")
        .and_then(message::as_count)
        // A broker that does not count deliveries still marks one as redelivered.
        .unwrap_or(u32::from(delivery.redelivered));
    Delivery {
        queue,
        receipt: Receipt {
            channel,
            tag: delivery.delivery_tag,
        },
        properties: Properties::of_amqp(
            Arc::new(delivery.properties),
            delivery.routing_key.as_str(),
        ),
        body: delivery.data,
        deliveries_before,
    }
}
