//! How the process is asked to stop, and to read again what may change while it runs.
//!
//! A [`Shutdown`] has two levels. *Drain* means: take no new work and finish what has begun. Every
//! loop watches it and stops at a safe state. *Abort* means that the time for draining is over: a
//! second signal, or the end of the drain's deadline.

use std::{fs::File, sync::Arc};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Both levels of a shutdown; clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
    reload: Arc<Notify>,
}

impl Shutdown {
    /// A shutdown that has not been requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that the first SIGTERM or SIGINT begins and the second one aborts. SIGHUP asks
    /// for a reload; with a controlling terminal, which it says is gone, it begins the shutdown.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let has_terminal = File::open("/dev/tty").is_ok();
        let shutdown = Self::new();
        let asked = shutdown.clone();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                if has_terminal {
                    asked.begin();
                } else {
                    // A permit is kept where nobody waits yet.
                    asked.reload.notify_one();
                }
            }
        });
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

    /// Waits until a reload is requested. One task at a time may wait.
    pub async fn reload_requested(&self) {
        self.reload.notified().await;
    }

    /// The token of the drain, for parts that take one.
    pub fn token(&self) -> CancellationToken {
        self.drain.clone()
    }
}
