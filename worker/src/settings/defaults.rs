//! The defaults. Code that starts a part of a worker without settings, as tests do, uses them too.

use std::time::Duration;

/// The most unacknowledged deliveries per queue: two batches of every lane, with room for deliveries
/// that wait for acks.
pub(super) const PREFETCH_DEFAULT: u16 = 2_048;
/// Maximum number of commands in a batch.
pub const BATCH_MAX_DEFAULT: usize = 256;
/// How long a batch that is not full waits for more commands.
pub const BATCH_WAIT_DEFAULT: Duration = Duration::from_millis(2);
/// Batches that run at the same time.
pub const LANES_DEFAULT: usize = 2;
/// Rows of the outbox that may wait for the broker before intake pauses.
pub const OUTBOX_MAX_DEFAULT: u64 = 100_000;
/// How long a drain may take; shorter than the 30 s that orchestrators wait before they kill.
pub(super) const DRAIN_DEFAULT: Duration = Duration::from_secs(25);
/// Newest items over which the agreement of a step is measured; a window is read and written as one
/// row.
pub(super) const AGREEMENT_WINDOW_DEFAULT: usize = 1_000;
