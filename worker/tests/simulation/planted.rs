//! Bugs that are planted on purpose: a simulation that does not find them would not find others.
//!
//! Each lies in what surrounds the production code: a store without a lock, a broker that
//! acknowledges too early. So the product has no switch for any of them.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use glyph_worker::pipeline::CommandProcessor;
use glyph_workflow_engine::{
    BatchReport, MessageBuilder, OrchestrationError, WorkflowOrchestrator,
    command::{CommandEnvelope, Dead, Outcome},
    ids::LogId,
    store::{EventStoreError, OnLocked, PublisherId, TaskWrite},
};

use super::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bug {
    /// A delivery is acknowledged when it arrives.
    AckBeforeCommit,
    /// Messages leave before their events are committed.
    PublishBeforeCommit,
    /// Nobody knows which commands have been decided.
    NoInbox,
    /// The relay reads on behind the last row that it has seen, and misses those that came back.
    RelayByCursor,
    /// A decision counts what it has read without a lock, and its events are appended to whatever
    /// is there by then.
    CountOutsideVersionCheck,
    /// A source takes deliveries although intake is held.
    SubscribeWhileHeld,
    /// What fails in a batch is blamed on all of it.
    NoSplit,
    /// Timers of paused workflows are claimed before others.
    PausedTimersFirst,
    /// Readers of the log go on behind an entry that is not visible yet.
    LogReadPastGap,
    /// The end of a lease is calculated by the worker's clock, which goes wrong.
    LeaseByWorkersClock,
    /// A copy of a command has only its body.
    CopyWithoutProperties,
    /// A slot is claimed without the lock of its task.
    ClaimWithoutHeadLock,
    /// A store that was restored goes on under the id of its log, and gives ids a second time.
    RestoreUnderOldLog,
    /// A batch holds as many bytes as come.
    BatchWithoutBytes,
}

impl Bug {
    pub(crate) const ALL: [Self; 14] = [
        Self::AckBeforeCommit,
        Self::PublishBeforeCommit,
        Self::NoInbox,
        Self::RelayByCursor,
        Self::CountOutsideVersionCheck,
        Self::SubscribeWhileHeld,
        Self::NoSplit,
        Self::PausedTimersFirst,
        Self::LogReadPastGap,
        Self::LeaseByWorkersClock,
        Self::CopyWithoutProperties,
        Self::ClaimWithoutHeadLock,
        Self::RestoreUnderOldLog,
        Self::BatchWithoutBytes,
    ];
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}"))
    }
}

/// A lease as a process writes it. With the bug, the clocks of some are an hour ahead.
pub(crate) fn lease(bug: Option<Bug>, process: usize, lease: Duration) -> Duration {
    const AHEAD: Duration = Duration::from_hours(1);
    if bug == Some(Bug::LeaseByWorkersClock) && process % 2 == 1 {
        lease + AHEAD
    } else {
        lease
    }
}

/// Appends the events of a decision to a stream that has moved since.
pub(crate) fn rebase(write: &mut TaskWrite, version: u64, log: LogId) {
    let moved = version - write.expected_version;
    if moved == 0 {
        return;
    }
    write.expected_version = version;
    write.snapshot = None;
    for event in &mut write.events {
        event.version += moved;
        event.event_id = log.event_id(event.task_id, event.version);
    }
    if let Some(row) = &mut write.task {
        row.version += moved;
    }
    for message in &mut write.outbox {
        if let Some(version) = &mut message.version {
            *version += moved;
            message.message_id = log.event_id(write.task_id, *version);
        }
    }
}

/// The orchestrator, as lanes see it. With [`Bug::NoSplit`], what fails in a batch is blamed on all of
/// it.
pub(crate) struct Processor {
    pub(crate) orchestrator: Arc<WorkflowOrchestrator>,
    pub(crate) world: Arc<World>,
}

impl Processor {
    /// A batch is within its bytes, unless it is a single command.
    fn is_within(&self, batch: &[Arc<CommandEnvelope>]) -> Result<(), String> {
        let bytes: usize = batch.iter().map(|command| command.content_bytes).sum();
        let most = self.world.plan.batch_bytes;
        if batch.len() < 2 || bytes <= most {
            return Ok(());
        }
        let commands = batch.len();
        Err(format!(
            "a batch of {commands} commands has {bytes} bytes, and may have {most}"
        ))
    }
}

#[async_trait]
impl CommandProcessor for Processor {
    async fn process_batch(
        &self,
        batch: Vec<Arc<CommandEnvelope>>,
        publisher: Option<PublisherId>,
        on_locked: OnLocked,
    ) -> Result<BatchReport, OrchestrationError> {
        let commands = batch.len();
        let verdict = self.is_within(&batch);
        self.world.state().judge(verdict);
        let work = self
            .orchestrator
            .process_batch_with(batch, publisher, on_locked);
        match work.await {
            Err(OrchestrationError::EventStoreError(error @ EventStoreError::Hindered { .. }))
                if commands > 1 && self.world.plan.bug == Some(Bug::NoSplit) =>
            {
                let dead = Outcome::Dead(Dead::Malformed(error.to_string()));
                Ok(BatchReport {
                    outcomes: vec![dead; commands],
                    ..BatchReport::default()
                })
            }
            report => report,
        }
    }

    async fn store_answers(&self) -> bool {
        CommandProcessor::store_answers(&*self.orchestrator).await
    }

    fn messages(&self) -> Arc<dyn MessageBuilder> {
        self.orchestrator.messages()
    }
}
