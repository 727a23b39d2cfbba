//! An in-memory broker under the control of a test.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use glyph_worker::broker::{
    BrokerState, CommandQueue, CommandSource, Delivery, Destination, MessagePublisher, Properties,
    Publication, PublishOutcome, QueueDepth, Receipt,
};
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::schemas::assert_message;

type Judge = Box<dyn FnMut(&Publication) -> PublishOutcome + Send>;

/// Both sides of a broker. Commands wait until they are settled or returned. The test decides the
/// outcome of each publication, and all are kept in order.
pub(crate) struct FakeBroker {
    inner: Mutex<Inner>,
    arrived: Notify,
    source_state: watch::Sender<BrokerState>,
    publisher_state: watch::Sender<BrokerState>,
    stalls: watch::Sender<bool>,
}

struct Inner {
    waiting: VecDeque<Delivery>,
    next_tag: u64,
    stopped: bool,
    paused: bool,
    pauses: usize,
    settled: Vec<u64>,
    given_back: Vec<u64>,
    published: Vec<(Publication, PublishOutcome)>,
    judge: Judge,
}

impl FakeBroker {
    pub(crate) fn new() -> Arc<Self> {
        let up = BrokerState {
            consuming: true,
            publishing: true,
            ..BrokerState::default()
        };
        let inner = Inner {
            waiting: VecDeque::new(),
            next_tag: 1,
            stopped: false,
            paused: false,
            pauses: 0,
            settled: Vec::new(),
            given_back: Vec::new(),
            published: Vec::new(),
            judge: Box::new(|_| PublishOutcome::Confirmed),
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            arrived: Notify::new(),
            source_state: watch::channel(up.clone()).0,
            publisher_state: watch::channel(up).0,
            stalls: watch::channel(false).0,
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Enqueues a command; returns its tag.
    pub(crate) fn send(&self, body: &Value) -> u64 {
        self.send_with(body.to_string().as_bytes(), Properties::default(), 0)
    }

    pub(crate) fn send_with(
        &self,
        body: &[u8],
        properties: Properties,
        deliveries_before: u32,
    ) -> u64 {
        let mut inner = self.inner();
        let tag = inner.next_tag;
        inner.next_tag += 1;
        inner.waiting.push_back(Delivery {
            queue: CommandQueue::Submission,
            receipt: Receipt { channel: 1, tag },
            body: body.to_vec(),
            properties,
            deliveries_before,
        });
        drop(inner);
        self.arrived.notify_one();
        tag
    }

    /// Sets the outcome of everything published from now on.
    pub(crate) fn judge(&self, judge: impl FnMut(&Publication) -> PublishOutcome + Send + 'static) {
        self.inner().judge = Box::new(judge);
    }

    pub(crate) fn set_publishing(&self, publishing: bool) {
        self.publisher_state
            .send_modify(|state| state.publishing = publishing);
    }

    /// Whether it takes nothing and says nothing, as a broker whose alarm is on.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalls.send_replace(stalled);
    }

    pub(crate) fn settled(&self) -> Vec<u64> {
        let mut settled = self.inner().settled.clone();
        settled.sort_unstable();
        settled
    }

    pub(crate) fn given_back(&self) -> Vec<u64> {
        let mut given_back = self.inner().given_back.clone();
        given_back.sort_unstable();
        given_back
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.inner().paused
    }

    /// How often intake was paused.
    pub(crate) fn pauses(&self) -> usize {
        self.inner().pauses
    }

    /// Messages sent to `destination` and confirmed, in order.
    pub(crate) fn confirmed(&self, is_there: impl Fn(&Destination) -> bool) -> Vec<Publication> {
        self.sent(is_there)
            .into_iter()
            .filter(|(_, outcome)| *outcome == PublishOutcome::Confirmed)
            .map(|(publication, _)| publication)
            .collect()
    }

    /// All messages sent there, in order, with their outcomes.
    pub(crate) fn sent(
        &self,
        is_there: impl Fn(&Destination) -> bool,
    ) -> Vec<(Publication, PublishOutcome)> {
        let inner = self.inner();
        inner
            .published
            .iter()
            .filter(|(p, _)| is_there(&p.destination))
            .cloned()
            .collect()
    }

    /// Messages downstream, in order.
    pub(crate) fn events(&self) -> Vec<Value> {
        let messages = self.confirmed(|to| *to == Destination::Events);
        messages
            .iter()
            .map(|message| serde_json::from_slice(&message.body).unwrap())
            .collect()
    }
}

#[async_trait]
impl CommandSource for FakeBroker {
    async fn next(&self) -> Option<Delivery> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut inner = self.inner();
                if let Some(delivery) = inner.waiting.pop_front() {
                    return Some(delivery);
                }
                if inner.stopped {
                    return None;
                }
            }
            arrived.await;
        }
    }

    fn settle(&self, receipts: &[Receipt]) {
        self.inner()
            .settled
            .extend(receipts.iter().map(|receipt| receipt.tag));
    }

    fn give_back(&self, receipts: &[Receipt]) {
        self.inner()
            .given_back
            .extend(receipts.iter().map(|receipt| receipt.tag));
    }

    fn pause(&self, paused: bool) {
        let mut inner = self.inner();
        inner.paused = paused;
        inner.pauses += usize::from(paused);
    }

    async fn stop(&self) {
        self.inner().stopped = true;
        self.arrived.notify_one();
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.source_state.subscribe()
    }

    async fn dead_letters(&self) -> Option<u64> {
        None
    }
}

#[async_trait]
impl MessagePublisher for FakeBroker {
    async fn publish(&self, _lane: usize, window: &[Publication]) -> Vec<PublishOutcome> {
        // Yields to lanes and relay, as a network would.
        tokio::task::yield_now().await;
        let mut stalls = self.stalls.subscribe();
        stalls.wait_for(|stalls| !stalls).await.unwrap();
        let mut inner = self.inner();
        let mut outcomes = Vec::new();
        for publication in window {
            if publication.destination == Destination::Events {
                assert_message(&serde_json::from_slice(&publication.body).unwrap());
            }
            let outcome = (inner.judge)(publication);
            inner.published.push((publication.clone(), outcome.clone()));
            outcomes.push(outcome);
        }
        outcomes
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.publisher_state.subscribe()
    }

    async fn queues(&self) -> Option<Vec<QueueDepth>> {
        None
    }
}
