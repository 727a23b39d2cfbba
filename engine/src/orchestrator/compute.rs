//! Work that keeps a processor busy, kept off the threads that serve everything else.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `work`, which may take seconds. What waits for this thread (timers, heartbeats, health,
/// other lanes) moves to another one meanwhile; only a runtime of a single thread has no other.
pub(super) fn compute<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The one worker thread is inside `compute`, and another task still runs.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_meanwhile() {
        let (done, others) = mpsc::channel();
        let computing = tokio::spawn(async move {
            tokio::spawn(async move { done.send(()) });
            compute(|| others.recv_timeout(std::time::Duration::from_secs(20)))
        });
        assert_eq!(computing.await.unwrap(), Ok(()));
    }
}
