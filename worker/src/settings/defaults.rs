//! What holds where nothing is set. Whoever starts a part of a worker without settings, as tests do,
//! takes the same.

use std::time::Duration;

/// Deliveries in flight a channel: two batches of every lane, with room for what waits for acks.
pub(super) const PREFETCH_DEFAULT: u16 = 2_048;
/// Commands of a batch; beyond it the next batch begins.
pub const BATCH_MAX_DEFAULT: usize = 256;
/// How long a batch that is not full waits for more commands.
pub const BATCH_WAIT_DEFAULT: Duration = Duration::from_millis(2);
/// Batches under way at a time.
pub const LANES_DEFAULT: usize = 2;
/// Messages that may wait for the broker before intake pauses.
pub const OUTBOX_MAX_DEFAULT: u64 = 100_000;
/// How long a drain may take; shorter than the 30 s that orchestrators wait before they kill.
pub(super) const DRAIN_DEFAULT: Duration = Duration::from_secs(25);
/// Items over which the agreement of a step is followed; what a window holds is read and written as one.
pub(super) const AGREEMENT_WINDOW_DEFAULT: usize = 1_000;
