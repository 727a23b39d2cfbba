//! Keeps the leases of this process alive, and pauses intake while the outbox is full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use glyph_workflow_engine::store::{OUTBOX_LEASE, Outbox, PublisherId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, IntakePause, IntakePauseReason};
use crate::metrics::Metrics;

/// Two renewals may fail before an [`OUTBOX_LEASE`] runs out.
const RENEW_EVERY: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Renews leases and watches the outbox; it publishes nothing, so a slow broker cannot delay it.
pub(super) struct LeaseRenewer {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) publishers: Vec<PublisherId>,
    pub(super) outbox_max: u64,
    /// Whether anything waits, for the relay: counting is not for free.
    pub(super) backlog: Arc<AtomicBool>,
    pub(super) gate: Arc<Gate>,
    pub(super) metrics: Arc<Metrics>,
    /// Cancelled when nothing is leased any more; ends the task.
    pub(super) done: CancellationToken,
}

impl LeaseRenewer {
    pub(super) async fn run(self) {
        let mut full: Option<IntakePause> = None;
        let mut renew_at = Instant::now() + RENEW_EVERY;
        loop {
            tokio::select! {
                biased;
                () = self.done.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if Instant::now() >= renew_at {
                renew_at = Instant::now() + RENEW_EVERY;
                self.renew().await;
            }
            match self.outbox.outbox_stats().await {
                Ok(stats) => {
                    self.metrics.outbox(stats.pending, stats.oldest_seconds);
                    self.backlog.store(stats.pending > 0, Ordering::Relaxed);
                    let is_full =
                        u64::try_from(stats.pending).is_ok_and(|pending| pending > self.outbox_max);
                    match (&full, is_full) {
                        (None, true) => full = Some(self.gate.pause(IntakePauseReason::OutboxFull)),
                        (Some(_), false) => full = None,
                        (None, false) | (Some(_), true) => {}
                    }
                }
                Err(error) => tracing::warn!(%error, "the outbox could not be measured"),
            }
        }
    }

    async fn renew(&self) {
        for publisher in &self.publishers {
            if let Err(error) = self.outbox.renew(*publisher, OUTBOX_LEASE).await {
                tracing::warn!(%error, "leases could not be renewed");
            }
        }
    }
}
