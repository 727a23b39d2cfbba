//! Deletes confirmed rows, many at a time.

use std::{sync::Arc, time::Duration};

use glyph_workflow_engine::store::Outbox;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::backoff::Backoff;

/// With this many rows the deleter does not wait for more.
const ROWS_MAX: usize = 4_096;
/// How long a confirmed row may stay. Short, because the row makes other workers leave the task's
/// next messages to the relay; yet long enough that one statement serves many windows.
const WAIT: Duration = Duration::from_millis(200);
/// Windows that may wait to be deleted; at this bound publishing waits for the database.
const WINDOWS_MAX: usize = 256;

/// Accepts positions of confirmed rows. Dropping every clone ends the deleter, once it is done.
pub(crate) type Deletions = mpsc::Sender<Vec<i64>>;

/// Starts the deleter. Once `stopping`, it no longer retries: a relay finds the remaining rows and
/// publishes them again, under the same id.
pub(crate) fn start_deletions(
    outbox: Arc<dyn Outbox>,
    stopping: CancellationToken,
    tracker: &TaskTracker,
) -> Deletions {
    let (deletions, mut confirmed) = mpsc::channel::<Vec<i64>>(WINDOWS_MAX);
    tracker.spawn(async move {
        while let Some(mut positions) = confirmed.recv().await {
            let deadline = Instant::now() + WAIT;
            while positions.len() < ROWS_MAX {
                match tokio::time::timeout_at(deadline, confirmed.recv()).await {
                    Ok(Some(more)) => positions.extend(more),
                    Ok(None) | Err(_) => break,
                }
            }
            delete(&*outbox, &positions, &stopping).await;
        }
    });
    deletions
}

/// Deletes, retrying until it succeeds or a stop is requested.
pub(super) async fn delete(outbox: &dyn Outbox, positions: &[i64], stopping: &CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    while let Err(error) = outbox.confirmed(positions).await {
        tracing::debug!(%error, rows = positions.len(), "confirmed messages could not be deleted");
        if stopping.is_cancelled() {
            return;
        }
        tokio::select! {
            biased;
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}
