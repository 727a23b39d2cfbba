//! Storage of streams, commands, messages and timers.
//!
//! A batch is one transaction. [`EventStore::open`] locks the streams of the batch and reads what
//! the decision needs. The caller decides. [`OpenBatch::commit`] writes events, task rows, inbox,
//! outbox, timers, drafts and snapshots together or not at all.
//!
//! Each file here defines one trait and its row types; each store implements the trait in a file of
//! the same name. One conformance suite runs against all stores.

mod batch;
mod commands;
mod deployment;
mod error;
mod goals;
mod jobs;
mod log;
mod memory;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod migrations;
mod nul;
mod operator_commands;
mod outbox;
mod page;
#[cfg(feature = "postgres")]
mod postgres;
mod projections;
mod rebuild;
mod retention;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod rows;
mod slots;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tasks;
mod timers;
mod unsuitable;
mod workflows;

pub use crate::{
    events::LogPosition,
    state::{Draft, WorkflowPause},
};
pub use batch::{
    BatchTx, EventStore, OnLocked, OpenBatch, OpenRequest, OpenedTask, SNAPSHOT_SCHEMA_VERSION,
    SnapshotRow, TaskRow, TaskWrite,
};
pub use commands::{
    CommandLog, CommandPage, CommandRecord, CommandRow, RecordedOutcome, RejectedFilter,
};
pub use deployment::{Deployment, RestoreReport, TableSize};
pub use error::{EventStoreError, SplitReason, StorageError, Verdict};
pub use goals::{GoalActionOutcome, GoalActionRow, GoalActionStatus, GoalStore, NewGoalAction};
pub use jobs::{
    ENDED_JOBS_MAX, JobCounts, JobItem, JobItemOutcome, JobItemState, JobRow, JobState, JobStore,
    JobWrite, NewJob, NewJobItem,
};
pub use log::{
    EventPage, LogEntry, LogFilter, LogPage, LoggedMessage, MessageLog, ModelCheckpoint,
    ReliabilityStore,
};
pub use memory::{Clock, MemoryDump, MemoryStore};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use migrations::MigrationFile;
pub use operator_commands::{
    AnnotatorPause, DerivePauses, OpenPauses, OperatorDecision, OperatorFacts, OperatorLog,
    OperatorSubject, OperatorWrite, Pauses, PlannedOperatorCommand,
};
pub use outbox::{
    CLAIM_BYTES_MAX, EventRange, FailedOutboxRow, NewMessage, OUTBOX_LEASE, Outbox, OutboxContent,
    OutboxMessage, OutboxRow, OutboxStats, PublisherId, RangeEvents, ReleasedRow, SkippedMessage,
    UnconfirmedMessage,
};
#[cfg(feature = "postgres")]
pub use postgres::{PgEndpoint, PgEventStore, PgSettings, PgUrlError};
pub use projections::{
    OpenProjection, ProjectionRows, ProjectionStore, ProjectionTx, ProjectionWrite,
};
pub use rebuild::{DerivedChanges, Rebuild, RebuildReport};
pub use retention::{
    BroughtBack, KEPT_EVENTS, Leftover, LeftoverPage, Retention, ToArchive, WholeCommand,
    WholeEvent, WholeTask, WholeTaskError,
};
pub use slots::{ClaimCount, PeopleSeen, SlotIndex, SlotOrder, SlotQuery, StepWithOpenSlots};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteEventStore;
pub use tasks::{StepLoad, TaskFilter, TaskIndex, TaskPage, WaitingPage, WaitingStep};
pub use timers::{Timer, TimerKind, TimerLane, TimerQueue, TimerStats};
pub use unsuitable::UnsuitableServer;
pub use workflows::{WorkflowConfigStore, WorkflowRow, content_hash, hex, revision_id};

/// A complete store.
pub trait Store:
    EventStore
    + Outbox
    + TimerQueue
    + TaskIndex
    + SlotIndex
    + CommandLog
    + OperatorLog
    + WorkflowConfigStore
    + GoalStore
    + JobStore
    + ProjectionStore
    + Rebuild
    + Retention
    + Deployment
    + MessageLog
{
}

impl<T> Store for T where
    T: EventStore
        + Outbox
        + TimerQueue
        + TaskIndex
        + SlotIndex
        + CommandLog
        + OperatorLog
        + WorkflowConfigStore
        + GoalStore
        + JobStore
        + ProjectionStore
        + Rebuild
        + Retention
        + Deployment
        + MessageLog
{
}
