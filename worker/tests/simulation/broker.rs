//! The broker: queues with redeliveries and a limit of them, a ladder of retries, links that are
//! cut, confirms and acks that are lost.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use glyph_worker::{
    backoff::Reconnecting,
    broker::{
        BrokerState, CommandQueue, CommandSource, Delivery, Destination, MessagePublisher,
        Properties, Publication, PublishOutcome, QueueDepth, Receipt,
    },
    dead_letters::Letter,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{ledger::Ledger, planted::Bug, process::Process, random::Random, world::World};

/// A message that was delivered more often than this goes to the dead queue.
const DELIVERY_LIMIT: u32 = 20;
/// How many times as quick as in production the rungs of the ladder are: no code depends on their
/// times, and most of a run would be waiting for them.
const HURRY: u32 = 10;

#[derive(Clone, Debug)]
struct Message {
    queue: CommandQueue,
    body: Vec<u8>,
    properties: Properties,
    /// How often it was delivered before.
    deliveries: u32,
}

/// The broker itself.
#[derive(Debug)]
pub(crate) struct Broker {
    ready: VecDeque<Message>,
    /// Messages that wait in a retry queue, or are on their way.
    later: usize,
    /// Live copies of a body: wherever they are but in the dead queue.
    copies: BTreeMap<Vec<u8>, usize>,
    /// The dead queue, by the order of arrival.
    dead: BTreeMap<u64, Letter>,
    /// How often each body was put into it by who decides commands.
    buried: BTreeMap<Vec<u8>, usize>,
    died: u64,
    consumers: BTreeMap<usize, Consumer>,
    channels: u64,
    /// From how many messages at the head of the queue the next one is taken.
    reorder: usize,
    /// Mandatory messages come back.
    pub(crate) queue_missing: bool,
}

/// A worker's link for consuming.
#[derive(Debug)]
struct Consumer {
    /// Since when it has a link.
    linked_at: Option<Instant>,
    reconnecting: Reconnecting,
    channel: u64,
    /// What it was told to do.
    is_held: bool,
    /// What it does.
    is_paused: bool,
    is_stopped: bool,
    prefetch: usize,
    next_tag: u64,
    /// Delivered and not yet handed out.
    buffer: VecDeque<Delivery>,
    unacked: BTreeMap<u64, Message>,
    /// Settled, and waiting for the watermark.
    settled: BTreeSet<u64>,
    arrived: Arc<Notify>,
}

impl Broker {
    pub(crate) fn new(reorder: usize) -> Self {
        Self {
            ready: VecDeque::new(),
            later: 0,
            copies: BTreeMap::new(),
            dead: BTreeMap::new(),
            buried: BTreeMap::new(),
            died: 0,
            consumers: BTreeMap::new(),
            channels: 0,
            reorder,
            queue_missing: false,
        }
    }

    /// Whether nothing is on its way to a worker or at one.
    pub(crate) fn is_empty(&self) -> bool {
        self.copies.is_empty() && self.later == 0
    }

    /// Bodies that were put into the dead queue, how often, and how often they are in it.
    pub(crate) fn dead(&self) -> BTreeMap<&[u8], (usize, usize)> {
        let count = |body: &[u8]| {
            let letters = self.dead.values();
            letters.filter(|letter| letter.body == body).count()
        };
        let buried = self.buried.iter();
        buried
            .map(|(body, times)| (body.as_slice(), (*times, count(body))))
            .collect()
    }

    pub(crate) fn letters(&self) -> Vec<(u64, Letter)> {
        let letters = self.dead.iter();
        letters
            .map(|(number, letter)| (*number, letter.clone()))
            .collect()
    }

    pub(crate) fn take_letter(&mut self, number: u64) {
        self.dead.remove(&number);
    }

    fn bury(&mut self, letter: Letter, is_back: bool) {
        if !is_back {
            *self.buried.entry(letter.body.clone()).or_default() += 1;
        }
        self.died += 1;
        self.dead.insert(self.died, letter);
    }

    /// What is left, for people.
    pub(crate) fn waiting(&self) -> String {
        format!(
            "{} ready, {} later, {} copies",
            self.ready.len(),
            self.later,
            self.copies.len()
        )
    }

    /// Hands messages to consumers that have room.
    fn deliver(
        &mut self,
        random: &mut Random,
        ledger: &mut Ledger,
        at: Duration,
    ) -> Result<(), String> {
        while !self.ready.is_empty() {
            let able = |consumer: &&mut Consumer| {
                consumer.linked_at.is_some()
                    && !consumer.is_paused
                    && !consumer.is_stopped
                    && consumer.unacked.len() < consumer.prefetch
            };
            let mut able: Vec<_> = self.consumers.values_mut().filter(able).collect();
            if able.is_empty() {
                break;
            }
            let consumer = random.index(able.len());
            let consumer = &mut *able[consumer];
            if consumer.is_held {
                return Err("INV-28: a worker takes a command although it holds intake".to_owned());
            }
            let index = random.index(self.reorder.min(self.ready.len()));
            if let Some(message) = self.ready.remove(index) {
                ledger.delivered(&message.body, at);
                consumer.take(message);
            }
        }
        Ok(())
    }

    /// Takes back what a worker has not acknowledged.
    fn take_back(&mut self, number: usize, ledger: &Ledger) -> Result<(), String> {
        let Some(consumer) = self.consumers.get_mut(&number) else {
            return Ok(());
        };
        consumer.linked_at = None;
        consumer.buffer.clear();
        consumer.settled.clear();
        let unacked = std::mem::take(&mut consumer.unacked);
        let mut verdict = Ok(());
        for message in unacked.into_values().rev() {
            verdict = verdict.and(self.requeue(message, ledger));
        }
        verdict
    }

    fn requeue(&mut self, mut message: Message, ledger: &Ledger) -> Result<(), String> {
        message.deliveries += 1;
        if message.deliveries <= DELIVERY_LIMIT {
            self.ready.push_front(message);
            return Ok(());
        }
        self.forget(&message.body);
        let verdict = ledger.died(&message.body, "delivery_limit");
        let letter = Letter {
            routing_key: message.properties.routing_key.clone(),
            properties: Arc::new(message.properties.to_amqp()),
            body: message.body,
        };
        self.bury(letter, false);
        verdict
    }

    /// One copy less of a body.
    fn forget(&mut self, body: &[u8]) {
        if let Some(copies) = self.copies.get_mut(body) {
            *copies -= 1;
            if *copies == 0 {
                self.copies.remove(body);
            }
        }
    }

    fn others(&self, body: &[u8]) -> usize {
        let live = self.copies.get(body).copied().unwrap_or_default();
        live.saturating_sub(1) + self.buried.get(body).copied().unwrap_or_default()
    }

    /// A worker is gone.
    pub(crate) fn leave(&mut self, number: usize, ledger: &Ledger) -> Result<(), String> {
        let verdict = self.take_back(number, ledger);
        self.consumers.remove(&number);
        verdict
    }
}

impl Consumer {
    fn take(&mut self, message: Message) {
        self.next_tag += 1;
        self.buffer.push_back(Delivery {
            queue: message.queue,
            receipt: Receipt {
                channel: self.channel,
                tag: self.next_tag,
            },
            body: message.body.clone(),
            properties: message.properties.clone(),
            deliveries_before: message.deliveries,
        });
        self.unacked.insert(self.next_tag, message);
        self.arrived.notify_one();
    }
}

/// Sends a command, which arrives after a while.
pub(crate) fn send(world: &Arc<World>, body: Vec<u8>, properties: Properties, delay: Duration) {
    let kind = properties.message_type.clone().unwrap_or_default();
    let message = Message {
        queue: CommandQueue::of(&kind),
        body,
        properties,
        deliveries: 0,
    };
    arrive_later(world, message, delay);
}

fn arrive_later(world: &Arc<World>, message: Message, delay: Duration) {
    {
        let broker = &mut world.state().broker;
        broker.later += 1;
        *broker.copies.entry(message.body.clone()).or_default() += 1;
    }
    let world = Arc::clone(world);
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        {
            let broker = &mut world.state().broker;
            broker.later -= 1;
            broker.ready.push_back(message);
        }
        deliver(&world);
    });
}

/// Delivers what waits, after something has changed.
pub(crate) fn deliver(world: &World) {
    let at = world.at();
    let state = &mut *world.state();
    let (random, ledger) = (&mut state.random, &mut state.ledger);
    let verdict = state.broker.deliver(random, ledger, at);
    state.judge(verdict);
}

/// A worker's source of commands.
pub(crate) struct SimulatedSource {
    process: Arc<Process>,
    arrived: Arc<Notify>,
    state: watch::Sender<BrokerState>,
}

fn linked() -> BrokerState {
    BrokerState {
        consuming: true,
        publishing: true,
        ..BrokerState::default()
    }
}

impl SimulatedSource {
    pub(crate) fn start(process: &Arc<Process>) -> Arc<Self> {
        let arrived = Arc::new(Notify::new());
        {
            let state = &mut *process.world.state();
            state.broker.channels += 1;
            let consumer = Consumer {
                linked_at: Some(Instant::now()),
                reconnecting: Reconnecting::default(),
                channel: state.broker.channels,
                is_held: false,
                is_paused: false,
                is_stopped: false,
                prefetch: process.world.plan.prefetch,
                next_tag: 0,
                buffer: VecDeque::new(),
                unacked: BTreeMap::new(),
                settled: BTreeSet::new(),
                arrived: Arc::clone(&arrived),
            };
            state.broker.consumers.insert(process.number, consumer);
        }
        deliver(&process.world);
        Arc::new(Self {
            process: Arc::clone(process),
            arrived,
            state: watch::Sender::new(linked()),
        })
    }

    fn world(&self) -> &Arc<World> {
        &self.process.world
    }

    /// Acks travel for a while; a cut loses them.
    fn flush_later(&self) {
        let (world, number) = (Arc::clone(self.world()), self.process.number);
        let (channel, travels) = {
            let state = &mut *world.state();
            let consumer = state.broker.consumers.get(&number);
            let channel = consumer.map_or(0, |consumer| consumer.channel);
            (channel, state.random.millis(0, 30))
        };
        tokio::spawn(async move {
            tokio::time::sleep(travels).await;
            world.state().broker.acked(number, channel);
            deliver(&world);
        });
    }
}

impl Broker {
    /// Acks of a channel have arrived, up to the watermark.
    fn acked(&mut self, number: usize, channel: u64) {
        let Some(consumer) = self.consumers.get_mut(&number) else {
            return;
        };
        if consumer.channel != channel || consumer.linked_at.is_none() {
            return;
        }
        let mut gone = Vec::new();
        while let Some(entry) = consumer.unacked.first_entry() {
            if !consumer.settled.remove(entry.key()) {
                break;
            }
            gone.push(entry.remove());
        }
        for message in gone {
            self.forget(&message.body);
        }
    }

    /// Takes note that deliveries are settled; says so of those whose command may not be.
    fn settle(
        &mut self,
        number: usize,
        receipts: &[Receipt],
        ledger: &Ledger,
    ) -> Result<(), String> {
        let mut verdict = Ok(());
        let Some(consumer) = self.consumers.get_mut(&number) else {
            return verdict;
        };
        let mut bodies = Vec::new();
        for receipt in receipts {
            if receipt.channel == consumer.channel
                && let Some(message) = consumer.unacked.get(&receipt.tag)
            {
                bodies.push(message.body.clone());
                consumer.settled.insert(receipt.tag);
            }
        }
        for body in bodies {
            verdict = verdict.and(ledger.settled(&body, self.others(&body)));
        }
        verdict
    }

    fn give_back(
        &mut self,
        number: usize,
        receipts: &[Receipt],
        ledger: &Ledger,
    ) -> Result<(), String> {
        let mut verdict = Ok(());
        for receipt in receipts.iter().rev() {
            let Some(consumer) = self.consumers.get_mut(&number) else {
                break;
            };
            if receipt.channel == consumer.channel
                && let Some(message) = consumer.unacked.remove(&receipt.tag)
            {
                verdict = verdict.and(self.requeue(message, ledger));
            }
        }
        verdict
    }
}

#[async_trait]
impl CommandSource for SimulatedSource {
    async fn next(&self) -> Option<Delivery> {
        loop {
            self.process.pass().await;
            let number = self.process.number;
            let (next, is_stopped) = {
                let state = &mut *self.world().state();
                match state.broker.consumers.get_mut(&number) {
                    Some(consumer) => (consumer.buffer.pop_front(), consumer.is_stopped),
                    None => (None, false),
                }
            };
            if let Some(delivery) = next {
                let tag = delivery.receipt.tag;
                let body = String::from_utf8_lossy(&delivery.body);
                let before = delivery.deliveries_before;
                self.process
                    .step(format!("takes {tag} ({before} before): {body}"))
                    .await;
                if self.world().plan.bug == Some(Bug::AckBeforeCommit) {
                    self.settle(&[delivery.receipt]);
                }
                return Some(delivery);
            }
            if is_stopped {
                return None;
            }
            self.arrived.notified().await;
        }
    }

    fn settle(&self, receipts: &[Receipt]) {
        if !self.process.is_alive() {
            return;
        }
        let at = self.world().at();
        {
            let state = &mut *self.world().state();
            let tags: Vec<_> = receipts.iter().map(|receipt| receipt.tag).collect();
            let number = self.process.number;
            state.trace.note(at, number, &format!("settles {tags:?}"));
            let verdict = state.broker.settle(number, receipts, &state.ledger);
            state.judge(verdict);
        }
        self.flush_later();
    }

    fn give_back(&self, receipts: &[Receipt]) {
        if !self.process.is_alive() {
            return;
        }
        {
            let at = self.world().at();
            let state = &mut *self.world().state();
            let tags: Vec<_> = receipts.iter().map(|receipt| receipt.tag).collect();
            let number = self.process.number;
            state
                .trace
                .note(at, number, &format!("gives back {tags:?}"));
            let verdict = state.broker.give_back(number, receipts, &state.ledger);
            state.judge(verdict);
        }
        deliver(self.world());
    }

    fn pause(&self, paused: bool) {
        if !self.process.is_alive() {
            return;
        }
        let at = self.world().at();
        let number = self.process.number;
        {
            let plan = &self.world().plan;
            let state = &mut *self.world().state();
            state
                .trace
                .note(at, number, &format!("intake is held: {paused}"));
            if let Some(consumer) = state.broker.consumers.get_mut(&number) {
                consumer.is_held = paused;
                consumer.is_paused = paused && plan.bug != Some(Bug::SubscribeWhileHeld);
            }
        }
        deliver(self.world());
    }

    async fn stop(&self) {
        self.process.pass().await;
        let state = &mut *self.world().state();
        let number = self.process.number;
        let mut buffered = Vec::new();
        if let Some(consumer) = state.broker.consumers.get_mut(&number) {
            consumer.is_stopped = true;
            buffered.extend(consumer.buffer.drain(..).map(|delivery| delivery.receipt));
        }
        let verdict = state.broker.give_back(number, &buffered, &state.ledger);
        state.judge(verdict);
        self.arrived.notify_one();
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    async fn dead_letters(&self) -> Option<u64> {
        self.process.pass().await;
        Some(self.world().state().broker.dead.len() as u64)
    }
}

/// Cuts a worker's link for consuming, until the worker, which may be frozen, makes another.
pub(crate) fn cut(process: &Arc<Process>) {
    let (world, number) = (&process.world, process.number);
    world.note(format!("the link of #{number} is cut"));
    let away = {
        let state = &mut *world.state();
        let consumer = state.broker.consumers.get_mut(&number);
        let linked = consumer.and_then(|consumer| Some((consumer.linked_at?, consumer)));
        let Some((linked_at, consumer)) = linked else {
            return;
        };
        let away = consumer.reconnecting.wait_after(linked_at.elapsed());
        let verdict = state.broker.take_back(number, &state.ledger);
        state.judge(verdict);
        away
    };
    deliver(world);
    let process = Arc::clone(process);
    tokio::spawn(async move {
        tokio::time::sleep(away).await;
        process.pass().await;
        let world = &process.world;
        {
            let broker = &mut world.state().broker;
            broker.channels += 1;
            let channel = broker.channels;
            let consumer = broker.consumers.get_mut(&number);
            if let Some(consumer) = consumer {
                consumer.linked_at = Some(Instant::now());
                consumer.channel = channel;
                consumer.next_tag = 0;
            }
        }
        deliver(world);
    });
}

/// A worker's publisher.
pub(crate) struct SimulatedPublisher {
    process: Arc<Process>,
    state: watch::Sender<BrokerState>,
}

impl SimulatedPublisher {
    pub(crate) fn start(process: &Arc<Process>) -> Arc<Self> {
        Arc::new(Self {
            process: Arc::clone(process),
            state: watch::Sender::new(linked()),
        })
    }

    /// Publishes no more for a while.
    pub(crate) fn block(self: &Arc<Self>, time: Duration) {
        self.process.world.note(format!(
            "#{} cannot publish for {time:?}",
            self.process.number
        ));
        self.state.send_modify(|state| state.publishing = false);
        let publisher: Weak<Self> = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if let Some(publisher) = publisher.upgrade() {
                publisher.state.send_modify(|state| state.publishing = true);
            }
        });
    }
}

#[async_trait]
impl MessagePublisher for SimulatedPublisher {
    async fn publish(&self, lane: usize, window: &[Publication]) -> Vec<PublishOutcome> {
        let world = &self.process.world;
        let ids: Vec<_> = window.iter().map(shown).collect();
        self.process
            .step(format!("publishes on {lane}: {}", ids.join(" ")))
            .await;
        if !self.state.borrow().publishing {
            return vec![PublishOutcome::Unknown("no link".to_owned()); window.len()];
        }
        learn_logged(world, window).await;
        let (arrives, confirmed) = {
            let state = &mut *world.state();
            if state.strikes("lost confirms", world.plan.faults.confirms_lost) {
                let arrives = state.random.index(window.len() + 1);
                (arrives, state.random.index(arrives + 1))
            } else {
                (window.len(), window.len())
            }
        };
        let verdict = world.state().ledger.window(&window[..arrives]);
        world.state().judge(verdict);
        let mut outcomes: Vec<_> = window[..arrives]
            .iter()
            .map(|publication| self.accept(publication))
            .collect();
        outcomes.truncate(confirmed);
        outcomes.resize(window.len(), PublishOutcome::Unknown("a cut".to_owned()));
        self.process.step(format!("confirms: {outcomes:?}")).await;
        outcomes
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    async fn queues(&self) -> Option<Vec<QueueDepth>> {
        None
    }
}

/// A publication in the trace: the ids of replies are drawn.
fn shown(publication: &Publication) -> String {
    match &publication.destination {
        Destination::Events => publication.message_id.clone(),
        other => format!("{other:?}"),
    }
}

/// Messages of projections and operators are in the log of the store alone.
async fn learn_logged(world: &World, window: &[Publication]) {
    use glyph_workflow_engine::{events::LogPosition, store::MessageLog};
    let is_known = |publication: &Publication| {
        let id = publication.message_id.parse().unwrap_or_default();
        publication.destination != Destination::Events || world.state().ledger.knows(id)
    };
    if window.iter().all(is_known) {
        return;
    }
    let end = world.store.log_end().await.unwrap();
    let all = world
        .store
        .logged_messages(LogPosition::default(), end, u32::MAX);
    let all = all.await.unwrap().into_iter();
    let ids = all.map(|(_, message)| message.message_id);
    world.state().ledger.logged(ids);
}

impl SimulatedPublisher {
    /// One message that reaches the broker.
    fn accept(&self, publication: &Publication) -> PublishOutcome {
        let world = &self.process.world;
        {
            let state = &mut *world.state();
            if state.strikes("refused message", world.plan.faults.refused) {
                return PublishOutcome::Nacked;
            }
        }
        match &publication.destination {
            Destination::Events => {
                let state = &mut *world.state();
                if state.broker.queue_missing && publication.mandatory {
                    return PublishOutcome::Returned("no queue".to_owned());
                }
                let verdict = state.ledger.receive(publication);
                state.judge(verdict);
            }
            Destination::Dead => {
                let copy = self.as_sent(publication);
                let letter = letter_of(&copy);
                let is_back = copy.original.is_some();
                let properties = letter.command_properties();
                let state = &mut *world.state();
                let mut verdict = state.ledger.copied(&letter.body, &properties);
                if !is_back {
                    verdict = verdict.and(state.ledger.died(&letter.body, &letter.reason()));
                }
                state.judge(verdict);
                state.broker.bury(letter, is_back);
            }
            Destination::Retry(delay) => {
                let copy = self.as_sent(publication);
                let properties = properties_of(&copy);
                {
                    let state = &mut *world.state();
                    let verdict = state.ledger.copied(&copy.body, &properties);
                    state.judge(verdict);
                }
                let message = Message {
                    queue: CommandQueue::of(&copy.message_type),
                    body: copy.body.to_vec(),
                    properties,
                    deliveries: 0,
                };
                let waits = Duration::from_secs(delay.seconds()) / HURRY;
                arrive_later(world, message, waits);
            }
            Destination::Reply(_) | Destination::Commands | Destination::Queue(_) => {}
        }
        PublishOutcome::Confirmed
    }

    /// A copy as it reaches the broker.
    fn as_sent(&self, publication: &Publication) -> Publication {
        let mut copy = publication.clone();
        if self.process.world.plan.bug == Some(Bug::CopyWithoutProperties) {
            copy.correlation_id = None;
            copy.reply_to = None;
        }
        copy
    }
}

/// A copy as it stands in the dead queue.
fn letter_of(copy: &Publication) -> Letter {
    let Some(original) = &copy.original else {
        return Letter {
            routing_key: copy.routing_key.clone(),
            properties: Arc::new(properties_of(copy).to_amqp()),
            body: copy.body.to_vec(),
        };
    };
    let letter = Letter {
        routing_key: copy.routing_key.clone(),
        properties: Arc::clone(original),
        body: copy.body.to_vec(),
    };
    let headers = copy.headers.iter();
    letter.with_headers(headers.map(|(name, value)| (name.as_str(), value.clone())))
}

fn properties_of(copy: &Publication) -> Properties {
    Properties {
        message_id: Some(copy.message_id.clone()).filter(|id| !id.is_empty()),
        message_type: Some(copy.message_type.clone()),
        correlation_id: copy.correlation_id.clone(),
        reply_to: copy.reply_to.clone(),
        user_id: None,
        routing_key: copy.routing_key.clone(),
        headers: copy.headers.clone(),
        original: None,
    }
}
