//! Commands from the queues of a file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{consumer::Consumer, error::EmbeddedError, queue::EmbeddedQueue};
use crate::{
    backoff::Backoff,
    broker::{BrokerState, CommandQueue, CommandSource, Delivery, Prefetch, Receipt},
    telemetry,
};

/// The most deliveries that one read of the table returns.
const RECEIVE_MAX: usize = 1_024;
/// Waits between attempts on a file that is busy.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// How deliveries are settled.
#[derive(Debug)]
enum Settlement {
    Done(Vec<Receipt>),
    GivenBack(Vec<Receipt>),
}

/// Takes commands from the queues of a file, as its only consumer.
#[derive(Debug)]
pub struct EmbeddedSource {
    queue: EmbeddedQueue,
    incoming: Mutex<mpsc::Receiver<Delivery>>,
    settlements: mpsc::UnboundedSender<Settlement>,
    shared: Arc<SourceState>,
    tasks: TaskTracker,
    state: watch::Sender<BrokerState>,
}

#[derive(Debug)]
struct SourceState {
    consumer: Consumer,
    /// Deliveries handed out but not settled.
    unsettled: AtomicUsize,
    paused: watch::Sender<bool>,
    /// Notified after a delivery is settled, since there may be room for more.
    room: Notify,
    /// Cancelled to take no more messages.
    stopping: CancellationToken,
    /// Cancelled to settle the rest at once and then end.
    closing: CancellationToken,
}

impl EmbeddedSource {
    /// Starts consuming.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::AlreadyConsumed`] if another process consumes.
    pub async fn start(queue: &EmbeddedQueue, prefetch: u16) -> Result<Arc<Self>, EmbeddedError> {
        let shared = Arc::new(SourceState {
            consumer: queue.consume().await?,
            unsettled: AtomicUsize::new(0),
            paused: watch::Sender::new(false),
            room: Notify::new(),
            stopping: CancellationToken::new(),
            closing: CancellationToken::new(),
        });
        let (send, incoming) = mpsc::channel(usize::from(prefetch).max(1));
        let (settlements, settled) = mpsc::unbounded_channel();
        let tasks = TaskTracker::new();
        tasks.spawn(receive(Arc::clone(&shared), Prefetch::new(prefetch), send));
        tasks.spawn(settle(Arc::clone(&shared), settled));
        Ok(Arc::new(Self {
            queue: queue.clone(),
            incoming: Mutex::new(incoming),
            settlements,
            shared,
            tasks,
            state: watch::Sender::new(BrokerState {
                consuming: true,
                publishing: true,
                ..BrokerState::default()
            }),
        }))
    }

    /// Writes all settlements to the table and frees the lock of the file.
    pub async fn close(&self) {
        self.shared.stopping.cancel();
        self.shared.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn send(&self, receipts: &[Receipt], settlement: fn(Vec<Receipt>) -> Settlement) {
        // After `close` the receiver is gone: the next process delivers again, and the inbox
        // recognises the command.
        let _ = self.settlements.send(settlement(receipts.to_vec()));
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

    fn pause(&self, paused: bool) {
        self.shared.paused.send_replace(paused);
    }

    async fn stop(&self) {
        self.shared.stopping.cancel();
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    async fn dead_letters(&self) -> Option<u64> {
        let count = self.queue.dead_count().await.ok()?;
        u64::try_from(count).ok()
    }
}

/// Takes deliveries while there is room for them.
async fn receive(
    shared: Arc<SourceState>,
    mut prefetch: Prefetch,
    incoming: mpsc::Sender<Delivery>,
) {
    let mut paused = shared.paused.subscribe();
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    loop {
        prefetch.adapt();
        let unsettled_max = usize::from(prefetch.now());
        let room = async {
            // The channel cannot be closed: `shared` holds its sender.
            let _ = paused.wait_for(|paused| !paused).await;
            loop {
                let freed = shared.room.notified();
                let room = unsettled_max.saturating_sub(shared.unsettled.load(Ordering::Relaxed));
                if room > 0 {
                    break room.min(RECEIVE_MAX);
                }
                freed.await;
            }
        };
        let deliveries = async {
            let limit = u32::try_from(room.await).unwrap_or(u32::MAX);
            shared.consumer.next(&CommandQueue::ALL, limit).await
        };
        let deliveries = tokio::select! {
            deliveries = deliveries => deliveries,
            // Messages that the dropped call had leased become available again.
            () = shared.stopping.cancelled() => return,
        };
        match deliveries {
            Ok(deliveries) => {
                backoff.reset();
                shared
                    .unsettled
                    .fetch_add(deliveries.len(), Ordering::Relaxed);
                for delivery in deliveries {
                    prefetch.delivered(delivery.body.len());
                    // The channel has room for all unsettled deliveries, so this does not wait.
                    if incoming.send(delivery).await.is_err() {
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

/// Writes settlements to the table: each transaction takes all that have arrived.
async fn settle(shared: Arc<SourceState>, mut settled: mpsc::UnboundedReceiver<Settlement>) {
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
                Settlement::Done(receipts) => done.extend(receipts),
                Settlement::GivenBack(receipts) => given_back.extend(receipts),
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
    done: &[Receipt],
    given_back: &[Receipt],
) -> Result<(), EmbeddedError> {
    if !done.is_empty() {
        consumer.ack(done).await?;
    }
    if !given_back.is_empty() {
        consumer.release(given_back).await?;
    }
    Ok(())
}
