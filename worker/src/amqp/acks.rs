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
        atomic::{AtomicU64, Ordering},
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
    /// Bytes of the open deliveries.
    held_bytes: usize,
    /// Open deliveries that were delivered before.
    again: usize,
}

impl Watermark {
    /// `prefetch` is the most deliveries the broker leaves unacknowledged.
    pub(super) fn new(prefetch: u16) -> Self {
        Self {
            low: 0,
            tags: VecDeque::new(),
            given_back: Vec::new(),
            lag_max: usize::from(prefetch / 2),
            held_bytes: 0,
            again: 0,
        }
    }

    /// Records a delivery, and whether it is not the first one of its message. Tags of a channel come
    /// in order, without gaps.
    pub(super) fn delivered(&mut self, tag: u64, bytes: usize, again: bool) {
        while self.highest() < tag {
            self.tags.push_back(Tag::Open(Opened { bytes, again }));
            self.held_bytes += bytes;
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

    /// The frames that report to the broker everything that may be reported now.
    pub(super) fn take(&mut self) -> Vec<Frame> {
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
        frames
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
        self.held_bytes -= opened.bytes;
        self.again -= usize::from(opened.again);
        true
    }
}

/// The watermark of a live channel, and the notification that wakes the task that sends its frames.
#[derive(Debug)]
pub(super) struct ChannelAcks {
    watermark: Mutex<Watermark>,
    bell: Notify,
    /// Notified after a delivery is settled or given back.
    freed: Notify,
}

impl ChannelAcks {
    pub(super) fn delivered(&self, tag: u64, bytes: usize, again: bool) {
        self.lock().delivered(tag, bytes, again);
    }

    /// The broker leaves at most this many deliveries unacknowledged from now on.
    pub(super) fn prefetch(&self, prefetch: u16) {
        self.lock().lag_max = usize::from(prefetch / 2);
    }

    /// Bytes of the deliveries that are neither settled nor given back.
    pub(super) fn held_bytes(&self) -> usize {
        self.lock().held_bytes
    }

    /// Waits until no more than `bytes` are held. For one waiter.
    pub(super) async fn holds_at_most(&self, bytes: usize) {
        while self.held_bytes() > bytes {
            self.freed.notified().await;
        }
    }

    pub(super) fn take(&self) -> Vec<Frame> {
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

/// The live channels. A channel that is gone drops its unsettled deliveries: the broker delivers
/// them again, on another channel.
#[derive(Debug, Default)]
pub(super) struct AckTracker {
    lanes: RwLock<HashMap<u64, Arc<ChannelAcks>>>,
    opened: AtomicU64,
    late: AtomicU64,
}

impl AckTracker {
    /// A new channel, with an id that is never reused.
    pub(super) fn open(&self, prefetch: u16) -> (u64, Arc<ChannelAcks>) {
        let channel = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let lane = Arc::new(ChannelAcks {
            watermark: Mutex::new(Watermark::new(prefetch)),
            bell: Notify::new(),
            freed: Notify::new(),
        });
        self.lanes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(channel, Arc::clone(&lane));
        (channel, lane)
    }

    /// Removes a channel that is gone.
    pub(super) fn close(&self, channel: u64) {
        self.lanes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&channel);
    }

    pub(super) fn is_live(&self, channel: u64) -> bool {
        self.lanes
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

    /// Receipts that came after their channel was gone.
    pub(super) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    fn apply(&self, receipts: &[Receipt], change: fn(&mut Watermark, u64)) {
        for run in receipts.chunk_by(|one, other| one.channel == other.channel) {
            let lane = self
                .lanes
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&run[0].channel)
                .cloned();
            let Some(lane) = lane else {
                self.late.fetch_add(run.len() as u64, Ordering::Relaxed);
                continue;
            };
            {
                let mut watermark = lane.lock();
                for receipt in run {
                    change(&mut watermark, receipt.tag);
                }
            }
            lane.bell.notify_one();
            lane.freed.notify_one();
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
            let mut watermark = Watermark::new(prefetch);
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
                        watermark.take().into_iter().for_each(|frame| broker.receive(frame));
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
            watermark.take().into_iter().for_each(|frame| broker.receive(frame));
            prop_assert_eq!(&broker.acked, &settled);
            prop_assert_eq!(&broker.requeued, &given_back);
            prop_assert!(broker.unacknowledged.is_empty());
            prop_assert!(watermark.tags.is_empty());
            prop_assert_eq!(watermark.held_bytes, 0);
        }
    }

    #[test]
    fn a_batch_takes_one_frame() {
        let mut watermark = Watermark::new(100);
        (1..=40).for_each(|tag| watermark.delivered(tag, 1, false));
        (1..=40).rev().for_each(|tag| watermark.settle(tag));
        assert_eq!(watermark.take(), [Frame::AckUpTo(40)]);
        assert_eq!(watermark.take(), []);
    }

    #[test]
    fn a_straggler_holds_back_no_more_than_half_the_prefetch() {
        let mut watermark = Watermark::new(10);
        (1..=5).for_each(|tag| watermark.delivered(tag, 1, false));
        (2..=5).for_each(|tag| watermark.settle(tag));
        assert_eq!(watermark.take(), []);
        watermark.delivered(6, 1, false);
        let singly: Vec<_> = (2..=5).map(Frame::Ack).collect();
        assert_eq!(watermark.take(), singly);
        watermark.settle(1);
        watermark.settle(6);
        assert_eq!(watermark.take(), [Frame::AckUpTo(6)]);
    }

    /// It may be what kills the process, again and again.
    #[test]
    fn nothing_waits_behind_a_delivery_that_has_failed_before() {
        let mut watermark = Watermark::new(100);
        watermark.delivered(1, 1, true);
        (2..=4).for_each(|tag| watermark.delivered(tag, 1, false));
        (2..=3).for_each(|tag| watermark.settle(tag));
        assert_eq!(watermark.take(), [Frame::Ack(2), Frame::Ack(3)]);
        watermark.settle(1);
        assert_eq!(watermark.take(), [Frame::AckUpTo(1)]);
        watermark.settle(4);
        assert_eq!(watermark.take(), [Frame::AckUpTo(4)]);
    }

    #[test]
    fn a_receipt_of_a_dead_channel_is_counted_and_changes_nothing() {
        let book = AckTracker::default();
        let (old, _) = book.open(10);
        book.close(old);
        let (new, lane) = book.open(10);
        lane.delivered(1, 1, false);
        book.settle(&[
            Receipt {
                channel: old,
                tag: 1,
            },
            Receipt {
                channel: old,
                tag: 2,
            },
        ]);
        assert_eq!((book.late(), lane.take()), (2, vec![]));
        book.settle(&[Receipt {
            channel: new,
            tag: 1,
        }]);
        assert_eq!((book.late(), lane.take()), (2, vec![Frame::AckUpTo(1)]));
    }
}
