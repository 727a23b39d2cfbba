//! Acks by watermark: one frame for a whole batch of settled deliveries.
//!
//! The broker numbers the deliveries of a channel 1, 2, 3, …; one ack frame can cover everything up
//! to a tag. A settled delivery therefore waits until all before it are settled too, and one frame
//! acks them all. One slow delivery must not block the rest for ever, because the broker stops at
//! the prefetch limit: once a delivery lags by more than half of that limit, the settled ones
//! behind it are acked singly. So they are, too, while a delivery is open that has failed before: it may
//! be what kills the process, and what is settled behind it would be delivered again at each death, until
//! it reached the delivery limit with it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::broker::Receipt;

/// A frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Acks this tag and every one below it.
    AckUpTo(u64),
    /// Acks this tag alone.
    Ack(u64),
    /// Returns this tag alone to its queue.
    GiveBack(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    /// Delivered; its work is not finished.
    Open(Opened),
    /// Settled, but not yet acked.
    Settled,
    /// Acked or returned: the broker knows.
    Acknowledged,
}

/// A delivery at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Opened {
    bytes: usize,
    /// It was delivered before.
    again: bool,
}

/// The state of the deliveries of one channel.
#[derive(Debug)]
pub(super) struct Watermark {
    /// Every tag up to this one has been acked or returned.
    low: u64,
    /// The tags above it, in order, up to the highest delivered.
    tags: VecDeque<Tag>,
    given_back: Vec<u64>,
    lag_max: usize,
    /// Open deliveries that were delivered before.
    again: usize,
    held: Arc<Held>,
    /// No delivery will come any more.
    ended: bool,
}

/// What there is to report to the broker.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) frames: Vec<Frame>,
    /// With these frames the channel has done all it was opened for.
    pub(super) is_last: bool,
}

impl Watermark {
    /// `prefetch` is the most deliveries the broker leaves unacknowledged.
    pub(super) fn new(prefetch: u16, held: Arc<Held>) -> Self {
        Self {
            low: 0,
            tags: VecDeque::new(),
            given_back: Vec::new(),
            lag_max: usize::from(prefetch / 2),
            again: 0,
            held,
            ended: false,
        }
    }

    /// Records a delivery, and whether it is not the first one of its message. Tags of a channel come
    /// in order, without gaps.
    pub(super) fn delivered(&mut self, tag: u64, bytes: usize, again: bool) {
        while self.highest() < tag {
            self.tags.push_back(Tag::Open(Opened { bytes, again }));
            self.held.add(bytes);
            self.again += usize::from(again);
        }
    }

    /// Marks a delivery as done. A tag that was never delivered, or is no longer open, changes
    /// nothing: an ack that the broker does not expect would close the channel.
    pub(super) fn settle(&mut self, tag: u64) {
        self.close(tag, Tag::Settled);
    }

    /// Marks a delivery to be delivered again.
    pub(super) fn give_back(&mut self, tag: u64) {
        if self.close(tag, Tag::Acknowledged) {
            self.given_back.push(tag);
        }
    }

    /// Deliveries that the broker waits for although none will follow them.
    fn left(&self) -> usize {
        let known = |tag: &&Tag| **tag == Tag::Acknowledged;
        let unknown = self.tags.len() - self.tags.iter().filter(known).count();
        if self.ended { unknown } else { 0 }
    }

    /// No delivery will come any more: nothing waits for those before it.
    pub(super) fn end(&mut self) {
        self.ended = true;
        self.lag_max = 0;
    }

    /// Reports to the broker everything that may be reported now.
    pub(super) fn take(&mut self) -> Report {
        let mut frames: Vec<_> = self.given_back.drain(..).map(Frame::GiveBack).collect();
        let mut settled = None;
        while let Some(state) = self
            .tags
            .front()
            .filter(|state| !matches!(state, Tag::Open(_)))
        {
            self.low += 1;
            // Only a settled tag may be named: the broker refuses a tag that it has already seen.
            if *state == Tag::Settled {
                settled = Some(self.low);
            }
            self.tags.pop_front();
        }
        frames.extend(settled.map(Frame::AckUpTo));
        if self.tags.len() > self.lag_max || self.again > 0 {
            for (tag, state) in (self.low + 1..).zip(&mut self.tags) {
                if *state == Tag::Settled {
                    *state = Tag::Acknowledged;
                    frames.push(Frame::Ack(tag));
                }
            }
        }
        Report {
            frames,
            is_last: self.ended && self.tags.is_empty(),
        }
    }

    fn highest(&self) -> u64 {
        self.low + self.tags.len() as u64
    }

    /// Ends an open delivery; returns whether it was open.
    fn close(&mut self, tag: u64, to: Tag) -> bool {
        let above = tag.checked_sub(self.low + 1);
        let at = above.and_then(|above| usize::try_from(above).ok());
        let state = at.and_then(|at| self.tags.get_mut(at));
        let Some(state) = state else { return false };
        let Tag::Open(opened) = *state else {
            return false;
        };
        *state = to;
        self.held.remove(opened.bytes);
        self.again -= usize::from(opened.again);
        true
    }
}

/// The deliveries that are neither settled nor given back, of all channels of a queue.
#[derive(Debug, Default)]
pub(super) struct Held {
    count: AtomicUsize,
    bytes: AtomicUsize,
    /// Notified after a delivery is settled or given back.
    freed: Notify,
}

impl Held {
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until no more than this is held. For one waiter.
    pub(super) async fn at_most(&self, count: usize, bytes: usize) {
        while self.count() > count || self.bytes() > bytes {
            self.freed.notified().await;
        }
    }

    fn add(&self, bytes: usize) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&self, bytes: usize) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.freed.notify_one();
    }
}

/// The watermark of a live channel, and the notification that wakes the task that sends its frames.
#[derive(Debug)]
pub(super) struct ChannelAcks {
    watermark: Mutex<Watermark>,
    bell: Notify,
}

impl ChannelAcks {
    pub(super) fn delivered(&self, tag: u64, bytes: usize, again: bool) {
        self.lock().delivered(tag, bytes, again);
    }

    /// No delivery will come any more.
    pub(super) fn end(&self) {
        self.lock().end();
        self.bell.notify_one();
    }

    pub(super) fn take(&self) -> Report {
        self.lock().take()
    }

    /// Waits until something was settled since the last wait.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Watermark> {
        // No code path panics half-way through a change of the watermark.
        self.watermark
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A channel that is live until this is dropped. Its unsettled deliveries are dropped with it: the
/// broker delivers them again, on another channel.
#[derive(Debug)]
pub(super) struct LiveChannel {
    /// Never used again for another channel.
    pub(super) id: u64,
    pub(super) acks: Arc<ChannelAcks>,
    tracker: Arc<AckTracker>,
}

impl Drop for LiveChannel {
    fn drop(&mut self) {
        self.tracker
            .channels
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

/// The live channels.
#[derive(Debug, Default)]
pub(super) struct AckTracker {
    channels: RwLock<HashMap<u64, Arc<ChannelAcks>>>,
    opened: AtomicU64,
    late: AtomicU64,
}

impl AckTracker {
    /// A new channel on which the broker leaves at most `prefetch` deliveries unacknowledged.
    pub(super) fn open(self: &Arc<Self>, prefetch: u16, held: Arc<Held>) -> LiveChannel {
        let id = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let acks = Arc::new(ChannelAcks {
            watermark: Mutex::new(Watermark::new(prefetch, held)),
            bell: Notify::new(),
        });
        self.channels
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, Arc::clone(&acks));
        LiveChannel {
            id,
            acks,
            tracker: Arc::clone(self),
        }
    }

    pub(super) fn is_live(&self, channel: u64) -> bool {
        self.channels
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(&channel)
    }

    pub(super) fn settle(&self, receipts: &[Receipt]) {
        self.apply(receipts, Watermark::settle);
    }

    pub(super) fn give_back(&self, receipts: &[Receipt]) {
        self.apply(receipts, Watermark::give_back);
    }

    /// Deliveries of cancelled consumers that the broker waits for.
    pub(super) fn left(&self) -> usize {
        let channels = self.channels.read();
        let channels = channels.unwrap_or_else(PoisonError::into_inner);
        channels.values().map(|acks| acks.lock().left()).sum()
    }

    /// Receipts that came after their channel was gone.
    pub(super) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    fn apply(&self, receipts: &[Receipt], change: fn(&mut Watermark, u64)) {
        for run in receipts.chunk_by(|one, other| one.channel == other.channel) {
            let acks = self
                .channels
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&run[0].channel)
                .cloned();
            let Some(acks) = acks else {
                self.late.fetch_add(run.len() as u64, Ordering::Relaxed);
                continue;
            };
            {
                let mut watermark = acks.lock();
                for receipt in run {
                    change(&mut watermark, receipt.tag);
                }
            }
            acks.bell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The broker's side of a channel, as strict as RabbitMQ.
    #[derive(Debug, Default)]
    struct Broker {
        delivered: u64,
        unacknowledged: BTreeSet<u64>,
        acked: BTreeSet<u64>,
        requeued: BTreeSet<u64>,
    }

    impl Broker {
        fn receive(&mut self, frame: Frame) {
            let (Frame::AckUpTo(tag) | Frame::Ack(tag) | Frame::GiveBack(tag)) = frame;
            assert!(
                self.unacknowledged.contains(&tag),
                "unknown delivery tag {tag}: channel closed"
            );
            match frame {
                Frame::AckUpTo(tag) => {
                    let above = self.unacknowledged.split_off(&(tag + 1));
                    self.acked.append(&mut self.unacknowledged);
                    self.unacknowledged = above;
                }
                Frame::Ack(tag) => {
                    self.unacknowledged.remove(&tag);
                    self.acked.insert(tag);
                }
                Frame::GiveBack(tag) => {
                    self.unacknowledged.remove(&tag);
                    self.requeued.insert(tag);
                }
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Deliver,
        Settle(u64),
        GiveBack(u64),
        Send,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Deliver),
            4 => (0_u64..60).prop_map(Step::Settle),
            1 => (0_u64..60).prop_map(Step::GiveBack),
            2 => Just(Step::Send),
        ]
    }

    proptest! {
        #[test]
        fn exactly_what_was_settled_is_acked(
            prefetch in 1_u16..40,
            steps in proptest::collection::vec(step(), 0..400),
        ) {
            let mut broker = Broker::default();
            let mut watermark = Watermark::new(prefetch, Arc::default());
            let (mut settled, mut given_back) = (BTreeSet::new(), BTreeSet::new());
            for step in steps {
                match step {
                    Step::Deliver if broker.unacknowledged.len() < usize::from(prefetch) => {
                        broker.delivered += 1;
                        broker.unacknowledged.insert(broker.delivered);
                        watermark.delivered(broker.delivered, 3, broker.delivered.is_multiple_of(7));
                    }
                    Step::Deliver => {}
                    Step::Settle(tag) => {
                        watermark.settle(tag);
                        if (1..=broker.delivered).contains(&tag) && !given_back.contains(&tag) {
                            settled.insert(tag);
                        }
                    }
                    Step::GiveBack(tag) => {
                        watermark.give_back(tag);
                        if (1..=broker.delivered).contains(&tag) && !settled.contains(&tag) {
                            given_back.insert(tag);
                        }
                    }
                    Step::Send => {
                        watermark.take().frames.into_iter().for_each(|frame| broker.receive(frame));
                        prop_assert!(broker.acked.is_subset(&settled));
                        prop_assert_eq!(&broker.requeued, &given_back);
                        // The broker can continue: fewer deliveries are outstanding than the
                        // prefetch allows.
                        let open = broker.unacknowledged.difference(&settled).count();
                        let waiting = broker.unacknowledged.len() - open;
                        prop_assert!(waiting <= usize::from(prefetch / 2));
                    }
                }
            }
            for tag in 1..=broker.delivered {
                if !given_back.contains(&tag) {
                    watermark.settle(tag);
                    settled.insert(tag);
                }
            }
            watermark.take().frames.into_iter().for_each(|frame| broker.receive(frame));
            prop_assert_eq!(&broker.acked, &settled);
            prop_assert_eq!(&broker.requeued, &given_back);
            prop_assert!(broker.unacknowledged.is_empty());
            prop_assert!(watermark.tags.is_empty());
            prop_assert_eq!((watermark.held.count(), watermark.held.bytes()), (0, 0));
        }
    }

    #[test]
    fn a_batch_takes_one_frame() {
        let mut watermark = Watermark::new(100, Arc::default());
        (1..=40).for_each(|tag| watermark.delivered(tag, 1, false));
        (1..=40).rev().for_each(|tag| watermark.settle(tag));
        assert_eq!(watermark.take().frames, [Frame::AckUpTo(40)]);
        assert_eq!(watermark.take().frames, []);
    }

    #[test]
    fn a_straggler_holds_back_no_more_than_half_the_prefetch() {
        let mut watermark = Watermark::new(10, Arc::default());
        (1..=5).for_each(|tag| watermark.delivered(tag, 1, false));
        (2..=5).for_each(|tag| watermark.settle(tag));
        assert_eq!(watermark.take().frames, []);
        watermark.delivered(6, 1, false);
        let singly: Vec<_> = (2..=5).map(Frame::Ack).collect();
        assert_eq!(watermark.take().frames, singly);
        watermark.settle(1);
        watermark.settle(6);
        assert_eq!(watermark.take().frames, [Frame::AckUpTo(6)]);
    }

    /// It may be what kills the process, again and again.
    #[test]
    fn nothing_waits_behind_a_delivery_that_has_failed_before() {
        let mut watermark = Watermark::new(100, Arc::default());
        watermark.delivered(1, 1, true);
        (2..=4).for_each(|tag| watermark.delivered(tag, 1, false));
        (2..=3).for_each(|tag| watermark.settle(tag));
        assert_eq!(watermark.take().frames, [Frame::Ack(2), Frame::Ack(3)]);
        watermark.settle(1);
        assert_eq!(watermark.take().frames, [Frame::AckUpTo(1)]);
        watermark.settle(4);
        assert_eq!(watermark.take().frames, [Frame::AckUpTo(4)]);
    }

    /// What the broker sent and nobody received is delivered again once the channel is closed.
    #[test]
    fn a_channel_that_has_ended_is_over_once_all_is_settled() {
        let mut watermark = Watermark::new(100, Arc::default());
        (1..=3).for_each(|tag| watermark.delivered(tag, 1, false));
        watermark.settle(2);
        assert_eq!(watermark.left(), 0);
        watermark.end();
        assert_eq!(watermark.left(), 3);
        let report = |frames, is_last| Report { frames, is_last };
        assert_eq!(watermark.take(), report(vec![Frame::Ack(2)], false));
        assert_eq!(watermark.left(), 2);
        watermark.give_back(1);
        assert_eq!(watermark.take(), report(vec![Frame::GiveBack(1)], false));
        watermark.settle(3);
        assert_eq!(watermark.take(), report(vec![Frame::AckUpTo(3)], true));
        assert_eq!(watermark.left(), 0);
        let mut unused = Watermark::new(100, Arc::default());
        assert_eq!(unused.take(), report(vec![], false));
        unused.end();
        assert_eq!(unused.take(), report(vec![], true));
    }

    #[test]
    fn a_receipt_of_a_dead_channel_is_counted_and_changes_nothing() {
        let tracker = Arc::new(AckTracker::default());
        let receipt = |channel, tag| Receipt { channel, tag };
        let old = tracker.open(10, Arc::default()).id;
        let new = tracker.open(10, Arc::default());
        new.acks.delivered(1, 1, false);
        tracker.settle(&[receipt(old, 1), receipt(old, 2)]);
        assert_eq!((tracker.late(), new.acks.take().frames), (2, vec![]));
        tracker.settle(&[receipt(new.id, 1)]);
        let ack = vec![Frame::AckUpTo(1)];
        assert_eq!((tracker.late(), new.acks.take().frames), (2, ack));
    }
}
