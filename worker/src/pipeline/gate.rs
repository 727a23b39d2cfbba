//! Pauses intake, and publishes the reasons.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::broker::CommandSource;

/// Why intake is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IntakePauseReason {
    /// The store cannot be used; batches wait for it.
    StoreUnavailable,
    /// More messages wait to be published than allowed.
    OutboxFull,
}

impl IntakePauseReason {
    pub(super) const ALL: [Self; 2] = [Self::StoreUnavailable, Self::OutboxFull];

    /// The name in logs and health.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreUnavailable => "store_unavailable",
            Self::OutboxFull => "outbox_full",
        }
    }
}

/// Pauses the source while at least one reason is in force. Reasons are counted, because several
/// lanes may wait for the same database.
pub(super) struct Gate {
    source: Option<Arc<dyn CommandSource>>,
    paused: Mutex<Paused>,
    reasons: watch::Sender<BTreeSet<IntakePauseReason>>,
}

impl Gate {
    pub(super) fn new(source: Option<Arc<dyn CommandSource>>) -> Arc<Self> {
        let (reasons, _) = watch::channel(BTreeSet::new());
        Arc::new(Self {
            source,
            paused: Mutex::default(),
            reasons,
        })
    }

    /// Takes no more commands, whatever reasons end. Lanes that stop wait for nothing: what they took
    /// while the store is away they would give back at once, and take again, until the broker's
    /// delivery limit is used up.
    pub(super) fn close(&self) {
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        paused.is_closed = true;
        if let Some(source) = &self.source {
            source.pause(true);
        }
    }

    /// Pauses intake until the returned guard is dropped.
    pub(super) fn pause(self: &Arc<Self>, reason: IntakePauseReason) -> IntakePause {
        self.change(reason, |count| count + 1);
        IntakePause {
            gate: Arc::clone(self),
            reason,
        }
    }

    pub(super) fn reasons(&self) -> watch::Receiver<BTreeSet<IntakePauseReason>> {
        self.reasons.subscribe()
    }

    fn change(&self, reason: IntakePauseReason, change: impl Fn(usize) -> usize) {
        // The lock spans the calls below, so that two changes cannot reach the source in the
        // wrong order. Nothing under it can panic or wait.
        let mut paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = IntakePauseReason::ALL.iter().zip(&mut paused.reasons);
        for (_, count) in counts.filter(|(of, _)| **of == reason) {
            *count = change(*count);
        }
        let counts = IntakePauseReason::ALL.into_iter().zip(&paused.reasons);
        let now: BTreeSet<_> = counts
            .filter(|(_, n)| **n > 0)
            .map(|(reason, _)| reason)
            .collect();
        let changed = self.reasons.send_if_modified(|reasons| {
            let before = std::mem::replace(reasons, now);
            before != *reasons
        });
        if changed {
            let reasons = self.reasons.borrow();
            let names: Vec<_> = reasons.iter().map(|reason| reason.as_str()).collect();
            tracing::info!(
                reasons = names.join(","),
                "intake {}",
                if names.is_empty() {
                    "goes on"
                } else {
                    "is held"
                }
            );
            if let Some(source) = &self.source {
                source.pause(paused.is_closed || !reasons.is_empty());
            }
        }
    }
}

/// How many wait for each reason, and whether intake has ended.
#[derive(Debug, Default)]
struct Paused {
    reasons: [usize; IntakePauseReason::ALL.len()],
    is_closed: bool,
}

/// A reason in force.
pub(super) struct IntakePause {
    gate: Arc<Gate>,
    reason: IntakePauseReason,
}

impl Drop for IntakePause {
    fn drop(&mut self) {
        self.gate
            .change(self.reason, |count| count.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::broker::{BrokerState, Delivery, Receipt};

    #[test]
    fn intake_goes_on_when_the_last_reason_is_gone() {
        let gate = Gate::new(None);
        let reasons = gate.reasons();
        let first = gate.pause(IntakePauseReason::StoreUnavailable);
        let second = gate.pause(IntakePauseReason::StoreUnavailable);
        let full = gate.pause(IntakePauseReason::OutboxFull);
        drop(first);
        assert_eq!(reasons.borrow().len(), 2);
        drop(second);
        assert_eq!(*reasons.borrow(), [IntakePauseReason::OutboxFull].into());
        drop(full);
        assert!(reasons.borrow().is_empty());
    }

    /// A source that only remembers whether it is paused.
    #[derive(Default)]
    struct Pausable(AtomicBool);

    #[async_trait]
    impl CommandSource for Pausable {
        async fn next(&self) -> Option<Delivery> {
            None
        }

        fn settle(&self, _: &[Receipt]) {}

        fn give_back(&self, _: &[Receipt]) {}

        fn pause(&self, paused: bool) {
            self.0.store(paused, Ordering::SeqCst);
        }

        async fn stop(&self) {}

        fn state(&self) -> watch::Receiver<BrokerState> {
            watch::channel(BrokerState::default()).1
        }

        async fn dead_letters(&self) -> Option<u64> {
            None
        }
    }

    #[test]
    fn intake_that_is_closed_stays_so_when_a_lane_waits_no_longer() {
        let source = Arc::new(Pausable::default());
        let gate = Gate::new(Some(Arc::clone(&source) as _));
        let first = gate.pause(IntakePauseReason::StoreUnavailable);
        gate.close();
        drop(first);
        assert!(source.0.load(Ordering::SeqCst));
        drop(gate.pause(IntakePauseReason::StoreUnavailable));
        assert!(source.0.load(Ordering::SeqCst));
    }
}
