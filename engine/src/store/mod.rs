//! Where streams, commands, messages and due work are kept.
//!
//! One transaction a batch: [`EventStore::open`] locks the streams of a batch and reads what the
//! decision needs, the caller decides, and [`OpenBatch::commit`] writes events, task rows, inbox,
//! outbox, due work, drafts and snapshots together or not at all.

mod error;
mod memory;
mod model;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod traits;

pub use crate::{
    events::LogPosition,
    state::{Draft, WorkflowPause},
};
pub use error::{ErrorClass, EventStoreError, StorageError};
pub use memory::{Clock, MemoryStore};
pub use model::{
    ActDecision, ActFacts, ActSubject, ActWrite, AnnotatorPause, COMMIT_LEASE, Claimant,
    CommandPage, CommandRecord, CommandRow, DerivePauses, DueKind, DueLane, DueRow, DueStats,
    EventPage, GoalActionOutcome, GoalActionRow, GoalActionStatus, LearntRow, LogEntry, LogFilter,
    LogPage, NewGoalAction, NewOutboxRow, OpenRequest, OpenStep, OpenedTask, OutboxRow,
    OutboxStats, Pauses, PlaceOrder, PlaceQuery, PlannedAct, ProjectionRows, ProjectionWrite,
    PublisherId, RebuildReport, RecordedOutcome, SNAPSHOT_SCHEMA_VERSION, SnapshotRow, TaskFilter,
    TaskPage, TaskRow, TaskWrite, WorkflowRow, content_hash, revision_id,
};
#[cfg(feature = "postgres")]
pub use postgres::{PgEventStore, PgSettings};
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteEventStore;
pub use traits::{
    ActLog, CommandLog, DueQueue, EventStore, GoalStore, OpenBatch, OpenProjection, Outbox,
    PlaceIndex, ProjectionStore, Rebuild, ReliabilityStore, Store, TaskIndex, WorkflowConfigStore,
};
