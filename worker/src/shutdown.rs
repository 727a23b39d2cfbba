//! How the process is asked to stop.
//!
//! A [`Shutdown`] has two levels. *Drain* means: take no new work and finish what has begun. Every
//! loop watches it and stops at a safe state. *Abort* means that the time for draining is over: a
//! second signal, or the end of the drain's deadline.

use tokio_util::sync::CancellationToken;

/// Both levels of a shutdown; clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Shutdown {
    /// A shutdown that has not been requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that the first SIGTERM or SIGINT begins and the second one aborts.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = Self::new();
        let asked = shutdown.clone();
        tokio::spawn(async move {
            for level in [&asked.drain, &asked.abort] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                level.cancel();
            }
        });
        Ok(shutdown)
    }

    /// Requests a drain.
    pub fn begin(&self) {
        self.drain.cancel();
    }

    /// Requests an immediate end. This also requests a drain, so that one wait suffices.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Whether a drain has been requested.
    pub fn begun(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Waits until a drain is requested.
    pub async fn wait(&self) {
        self.drain.cancelled().await;
    }

    /// Waits until an immediate end is requested.
    pub async fn aborted(&self) {
        self.abort.cancelled().await;
    }

    /// The token of the drain, for parts that take one.
    pub fn token(&self) -> CancellationToken {
        self.drain.clone()
    }
}
