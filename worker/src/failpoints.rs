//! Points at which a test may end the process, to check that a restart recovers.
//!
//! With the feature `faults`, `GLYPH_CRASH_AT=point:n` aborts the process on the n-th pass of that
//! point, and `GLYPH_CRASH_ON_TASK=UUID` as soon as a batch has a command for that task. Without it,
//! every call here is empty and the variables are not read.

use std::{fmt, future::Future, str::FromStr, sync::Arc};

use glyph_workflow_engine::store::EventStore;

/// Where a crash hurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CrashPoint {
    /// A batch is decided; its transaction is open and nothing is written.
    Decided,
    /// The commit has been sent, and the process ends before its answer arrives.
    BeforeCommit,
    /// The batch is committed; nothing is published, nothing acknowledged.
    AfterCommit,
    /// Messages have been sent to the broker; no confirm has arrived.
    BeforeConfirm,
    /// Messages are confirmed; their rows are still there.
    AfterConfirm,
    /// Everything is written; the deliveries are not acknowledged.
    BeforeAck,
    /// A step of a projection is folded; its commit has been sent, and the process ends before the
    /// answer.
    BeforeProjection,
    /// A step of a projection is committed.
    AfterProjection,
    /// An action of a goal is claimed but not yet performed.
    BeforeAction,
    /// An action of a goal is performed but not yet settled.
    AfterAction,
}

impl CrashPoint {
    /// Every point.
    pub const ALL: [Self; 10] = [
        Self::Decided,
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::BeforeConfirm,
        Self::AfterConfirm,
        Self::BeforeAck,
        Self::BeforeProjection,
        Self::AfterProjection,
        Self::BeforeAction,
        Self::AfterAction,
    ];

    /// Whether commands pass this point in the pipeline. The other points lie in projections of the
    /// log and in the actions that they trigger.
    pub fn is_on_the_road(self) -> bool {
        match self {
            Self::Decided
            | Self::BeforeCommit
            | Self::AfterCommit
            | Self::BeforeConfirm
            | Self::AfterConfirm
            | Self::BeforeAck => true,
            Self::BeforeProjection
            | Self::AfterProjection
            | Self::BeforeAction
            | Self::AfterAction => false,
        }
    }

    /// The name in `GLYPH_CRASH_AT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decided => "decided",
            Self::BeforeCommit => "before_commit",
            Self::AfterCommit => "after_commit",
            Self::BeforeConfirm => "before_confirm",
            Self::AfterConfirm => "after_confirm",
            Self::BeforeAck => "before_ack",
            Self::BeforeProjection => "before_projection",
            Self::AfterProjection => "after_projection",
            Self::BeforeAction => "before_action",
            Self::AfterAction => "after_action",
        }
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text does not name a crash point and a pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no `point:n`")]
pub struct InvalidCrash {
    /// The rejected text.
    pub text: String,
}

/// A planned crash: the point and the number of the pass, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Where.
    pub point: CrashPoint,
    /// On which pass.
    pub pass: u64,
}

impl FromStr for Crash {
    type Err = InvalidCrash;
    fn from_str(text: &str) -> Result<Self, InvalidCrash> {
        let read = || {
            let (point, pass) = text.split_once(':')?;
            let point = CrashPoint::ALL.into_iter().find(|p| p.as_str() == point)?;
            Some(Self {
                point,
                pass: pass.parse().ok().filter(|n| *n > 0)?,
            })
        };
        read().ok_or_else(|| InvalidCrash {
            text: text.to_owned(),
        })
    }
}

/// Counts passes of crash points and ends the process at the chosen one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Failpoints {
    #[cfg(feature = "faults")]
    armed: Option<Arc<(Crash, std::sync::atomic::AtomicU64)>>,
    /// The task whose commands kill.
    #[cfg(feature = "faults")]
    deadly: Option<glyph_workflow_engine::ids::TaskId>,
}

#[cfg(feature = "faults")]
impl Failpoints {
    /// The crash requested by the environment.
    pub fn from_env() -> Result<Self, InvalidCrash> {
        let faults = match std::env::var("GLYPH_CRASH_AT") {
            Ok(text) => text.parse().map(Self::at)?,
            Err(_) => Self::default(),
        };
        let deadly = std::env::var("GLYPH_CRASH_ON_TASK");
        Ok(Self {
            deadly: deadly.ok().and_then(|task| task.parse().ok()),
            ..faults
        })
    }

    /// Ends the process if one of the tasks is the deadly one.
    fn touch<'a>(&self, mut tasks: impl Iterator<Item = &'a glyph_workflow_engine::ids::TaskId>) {
        if self.deadly.is_some() && tasks.any(|task| Some(*task) == self.deadly) {
            std::process::abort();
        }
    }

    fn at(crash: Crash) -> Self {
        Self {
            armed: Some(Arc::new((crash, std::sync::atomic::AtomicU64::new(0)))),
            deadly: None,
        }
    }

    /// Whether this pass of `point` is the chosen one.
    fn strikes(&self, point: CrashPoint) -> bool {
        let Some(armed) = self.armed.as_deref().filter(|armed| armed.0.point == point) else {
            return false;
        };
        armed.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1 == armed.0.pass
    }

    /// Ends the process if this pass of `point` is the chosen one.
    pub fn pass(&self, point: CrashPoint) {
        if self.strikes(point) {
            crash(point);
        }
    }

    /// Runs `work`. If this pass of `point` is the chosen one, the process ends once `work` waits
    /// for the first time, so that whatever it sent is already under way.
    pub async fn pass_within<F: Future>(&self, point: CrashPoint, work: F) -> F::Output {
        if !self.strikes(point) {
            return work.await;
        }
        let mut work = std::pin::pin!(work);
        let _ = futures::poll!(&mut work);
        // Gives the tasks that it spawned or woke a chance to run too.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        crash(point)
    }
}

/// Abort, not exit: nothing is flushed, closed or reported, as after a power cut.
#[cfg(feature = "faults")]
fn crash(point: CrashPoint) -> ! {
    tracing::error!(%point, "crashing on purpose");
    std::process::abort()
}

#[cfg(not(feature = "faults"))]
impl Failpoints {
    /// No crash.
    pub fn from_env() -> Result<Self, InvalidCrash> {
        Ok(Self::default())
    }

    /// Nothing.
    pub fn pass(&self, _point: CrashPoint) {}

    /// Runs `work`.
    pub async fn pass_within<F: Future>(&self, _point: CrashPoint, work: F) -> F::Output {
        work.await
    }
}

/// Wraps `store` so that it passes the crash points around its commits, if a crash can happen
/// there; otherwise returns `store` unchanged.
#[cfg(not(feature = "faults"))]
#[expect(clippy::needless_pass_by_value, reason = "the other build keeps it")]
pub fn around_commits(store: Arc<dyn EventStore>, _faults: Failpoints) -> Arc<dyn EventStore> {
    Arc::clone(&store)
}

/// A store that passes the crash points around its commits.
#[cfg(feature = "faults")]
pub fn around_commits(store: Arc<dyn EventStore>, failpoints: Failpoints) -> Arc<dyn EventStore> {
    Arc::new(decorator::CrashingStore { store, failpoints })
}

#[cfg(feature = "faults")]
mod decorator {
    use std::{collections::HashMap, sync::Arc};

    use async_trait::async_trait;
    use glyph_workflow_engine::{
        ids::TaskId,
        state::WorkflowSnapshot,
        store::{
            BatchTx, EventPage, EventStore, EventStoreError, LogEntry, LogFilter, LogPage,
            LogPosition, ModelCheckpoint, OpenBatch, OpenRequest, OutboxMessage, ReliabilityStore,
            TaskWrite,
        },
    };

    use uuid::Uuid;

    use super::{CrashPoint, Failpoints};

    pub(super) struct CrashingStore {
        pub(super) store: Arc<dyn EventStore>,
        pub(super) failpoints: Failpoints,
    }

    #[async_trait]
    impl EventStore for CrashingStore {
        async fn open(&self, request: OpenRequest) -> Result<OpenBatch, EventStoreError> {
            self.failpoints.touch(request.tasks.keys());
            let open = self.store.open(request).await?;
            Ok(OpenBatch {
                tx: Box::new(CrashingTx {
                    tx: open.tx,
                    failpoints: self.failpoints.clone(),
                }),
                ..open
            })
        }

        async fn ping(&self) -> Result<(), EventStoreError> {
            self.store.ping().await
        }

        async fn load(
            &self,
            tasks: &[TaskId],
        ) -> Result<HashMap<TaskId, WorkflowSnapshot>, EventStoreError> {
            self.store.load(tasks).await
        }

        async fn events(
            &self,
            task: TaskId,
            after: u64,
            limit: u32,
        ) -> Result<EventPage, EventStoreError> {
            self.store.events(task, after, limit).await
        }

        async fn read_log(
            &self,
            after: LogPosition,
            limit: u32,
        ) -> Result<Vec<LogEntry>, EventStoreError> {
            self.store.read_log(after, limit).await
        }
    }

    #[async_trait]
    impl ReliabilityStore for CrashingStore {
        async fn read_workflow_log(
            &self,
            filter: LogFilter,
            after: LogPosition,
            limit: u32,
        ) -> Result<LogPage, EventStoreError> {
            self.store.read_workflow_log(filter, after, limit).await
        }

        async fn model_checkpoint(
            &self,
            model: Uuid,
        ) -> Result<Option<ModelCheckpoint>, EventStoreError> {
            self.store.model_checkpoint(model).await
        }

        async fn checkpoint_position(
            &self,
            model: Uuid,
        ) -> Result<Option<LogPosition>, EventStoreError> {
            self.store.checkpoint_position(model).await
        }

        async fn keep_model(&self, row: ModelCheckpoint) -> Result<(), EventStoreError> {
            self.store.keep_model(row).await
        }

        async fn forget_models(&self) -> Result<(), EventStoreError> {
            self.store.forget_models().await
        }
    }

    struct CrashingTx {
        tx: Box<dyn BatchTx>,
        failpoints: Failpoints,
    }

    #[async_trait]
    impl BatchTx for CrashingTx {
        async fn commit(
            self: Box<Self>,
            writes: Vec<TaskWrite>,
        ) -> Result<Vec<OutboxMessage>, EventStoreError> {
            self.failpoints.pass(CrashPoint::Decided);
            let commit = self.tx.commit(writes);
            let rows = self
                .failpoints
                .pass_within(CrashPoint::BeforeCommit, commit)
                .await?;
            self.failpoints.pass(CrashPoint::AfterCommit);
            Ok(rows)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_read_by_its_name() {
        for point in CrashPoint::ALL {
            assert_eq!(format!("{point}:3").parse(), Ok(Crash { point, pass: 3 }));
        }
        for bad in ["", "decided", "decided:0", "decided:x", "nowhere:1"] {
            assert!(bad.parse::<Crash>().is_err(), "{bad}");
        }
    }

    #[cfg(feature = "faults")]
    #[test]
    fn it_strikes_on_the_chosen_pass_only() {
        let failpoints = Failpoints::at("before_ack:2".parse().unwrap());
        let passes: Vec<_> = (0..3)
            .map(|_| failpoints.strikes(CrashPoint::BeforeAck))
            .collect();
        assert_eq!(passes, [false, true, false]);
        assert!(!failpoints.strikes(CrashPoint::Decided));
    }
}
