//! Claims due rows and submits their commands.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use glyph_workflow_engine::{
    command::{Command, CommandEnvelope, Outcome},
    due_command_id,
    store::{DueQueue, DueRow},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{backoff::Backoff, pipeline::PipelineHandle};

/// How late due work may be noticed.
const POLL: Duration = Duration::from_millis(250);
/// How long a claimed row is left to its claimer.
const LEASE: Duration = Duration::from_secs(30);
/// Rows of one claim: about a batch for each lane.
const CLAIM_MAX: u32 = 512;

/// Runs due work through a pipeline.
pub struct DueRunner {
    queue: Arc<dyn DueQueue>,
    pipeline: PipelineHandle,
}

impl DueRunner {
    /// A runner; several processes may each have one.
    pub fn new(queue: Arc<dyn DueQueue>, pipeline: PipelineHandle) -> Self {
        Self { queue, pipeline }
    }

    /// Runs until stopped; what was claimed is finished first.
    pub async fn run(self, stopping: CancellationToken) {
        let mut backoff = Backoff::new(POLL, Duration::from_secs(10));
        while !stopping.is_cancelled() {
            let wait = match self.queue.claim_due(LEASE, CLAIM_MAX).await {
                Ok(rows) => {
                    backoff.reset();
                    let is_last = rows.len() < CLAIM_MAX as usize;
                    self.run_rows(rows).await;
                    if is_last { POLL } else { Duration::ZERO }
                }
                Err(error) => {
                    tracing::debug!(%error, "due work could not be read");
                    backoff.next()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopping.cancelled() => return,
            }
        }
    }

    async fn run_rows(&self, rows: Vec<DueRow>) {
        let mut running: FuturesUnordered<_> =
            rows.into_iter().map(|row| self.run_row(row)).collect();
        let mut settled = Vec::new();
        while let Some(id) = running.next().await {
            settled.extend(id);
        }
        if settled.is_empty() {
            return;
        }
        if let Err(error) = self.queue.drop_due(&settled).await {
            // They are claimed again, and are duplicates again.
            tracing::debug!(%error, "settled due work could not be deleted");
        }
    }

    /// Runs one row; answers its id where it was settled before and is still there.
    async fn run_row(&self, row: DueRow) -> Option<Uuid> {
        let id = row.id;
        let envelope = CommandEnvelope::new(due_command_id(&row), Command::Due(row));
        match self.pipeline.submit(envelope).await {
            Ok(Outcome::Duplicate(_)) => Some(id),
            Ok(Outcome::Applied(_)) | Err(_) => None,
            // The row stays and is tried again when its lease runs out; nobody's work is lost.
            Ok(outcome @ (Outcome::Rejected(_) | Outcome::Undecided(_) | Outcome::Dead(_))) => {
                tracing::error!(due = %id, ?outcome, "due work was not applied");
                None
            }
        }
    }
}
