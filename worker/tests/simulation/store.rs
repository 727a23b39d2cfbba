//! The store as a worker sees it: the store in memory, behind a network and a server that fail.
//!
//! A call may be refused, take long, or have its answer lost, whether it was done or not. What was
//! acknowledged is never lost.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    WorkflowConfig, WorkflowConfigStore, WorkflowEvent,
    events::LogPosition,
    ids::{CommandId, LogId, RevisionId, StepId, TaskId, UserId, WorkflowId, WorkflowSelector},
    state::{ClaimedSlot, Draft, OpenSlot, Slots, TaskStatus, WorkflowSnapshot},
    store::{
        AnnotatorPause, BatchTx, BroughtBack, ClaimCount, CommandLog, CommandPage, CommandRow,
        Deployment, DerivePauses, DerivedChanges, EventPage, EventRange, EventStore,
        EventStoreError, FailedOutboxRow, GoalActionOutcome, GoalActionRow, GoalStore, JobItem,
        JobItemState, JobRow, JobStore, JobWrite, Leftover, LeftoverPage, LogEntry, LogFilter,
        LogPage, LoggedMessage, MemoryStore, MessageLog, ModelCheckpoint, NewJob, NewMessage,
        OpenBatch, OpenPauses, OpenProjection, OpenRequest, OperatorLog, Outbox, OutboxMessage,
        OutboxRow, OutboxStats, PeopleSeen, PlannedOperatorCommand, ProjectionRows,
        ProjectionStore, ProjectionTx, ProjectionWrite, PublisherId, RangeEvents, Rebuild,
        RejectedFilter, ReleasedRow, ReliabilityStore, RestoreReport, Retention, SkippedMessage,
        SlotIndex, SlotQuery, SnapshotRow, SplitReason, StepLoad, StepWithOpenSlots, TableSize,
        TaskFilter, TaskIndex, TaskPage, TaskRow, TaskWrite, Timer, TimerLane, TimerQueue,
        TimerStats, ToArchive, UnconfirmedMessage, WaitingPage, WholeTask, WorkflowRow,
    },
};
use uuid::Uuid;

use super::{
    planted::{self, Bug},
    process::{Process, Tx},
    world::{Effect, Fate, World, hindered, lost},
};

/// A label that no store takes: the content of such a command is to blame.
pub(crate) const CURSED: &str = "cursed";

type Answer<T> = Result<T, EventStoreError>;

/// A worker's connection to the store.
pub(crate) struct SimulatedStore {
    process: Arc<Process>,
    inner: MemoryStore,
    /// The last position that was claimed, for [`Bug::RelayByCursor`].
    cursor: Mutex<i64>,
}

impl SimulatedStore {
    pub(crate) fn new(process: &Arc<Process>) -> Self {
        Self {
            process: Arc::clone(process),
            inner: process.world.store.clone(),
            cursor: Mutex::default(),
        }
    }

    fn world(&self) -> &World {
        &self.process.world
    }

    fn has(&self, bug: Bug) -> bool {
        self.world().plan.bug == Some(bug)
    }

    /// A call with the fate that the run gives it.
    async fn call<T>(
        &self,
        name: &str,
        effect: Effect,
        work: impl Future<Output = Answer<T>>,
    ) -> Answer<T> {
        self.process.look(name).await;
        let fate = self.world().state().fate(effect, &self.world().plan);
        let answer = match fate {
            Fate::Fine => work.await,
            Fate::Refused(error) => Err(error),
            Fate::Lost { done } => {
                if done {
                    let _ = work.await;
                }
                Err(lost())
            }
        };
        // A death after a read is one before the next step.
        match answer
            .as_ref()
            .err()
            .map(|error| format!("{name}: {error:?}"))
        {
            Some(failed) => self.process.step(failed).await,
            None if effect == Effect::Writes => self.process.look("written").await,
            None => {}
        }
        answer
    }
}

/// The methods of a trait, each of which only reads or writes.
macro_rules! calls {
    ($($store:ident { $($effect:ident $name:ident($($arg:ident: $type:ty),*) -> $out:ty;)* })*) => {$(
        #[async_trait]
        impl $store for SimulatedStore {
            $(async fn $name(&self, $($arg: $type),*) -> Answer<$out> {
                let work = $store::$name(&self.inner, $($arg),*);
                self.call(stringify!($name), Effect::$effect, work).await
            })*
        }
    )*};
}

calls! {
    ReliabilityStore {
        Reads read_workflow_log(filter: LogFilter, after: LogPosition, limit: u32) -> LogPage;
        Reads model_checkpoint(model: Uuid) -> Option<ModelCheckpoint>;
        Reads checkpoint_position(model: Uuid) -> Option<LogPosition>;
        Writes keep_model(row: ModelCheckpoint) -> ();
        Writes forget_models() -> ();
    }
    TaskIndex {
        Reads task(task: TaskId) -> Option<TaskRow>;
        Reads tasks(filter: TaskFilter) -> TaskPage;
        Reads task_counts() -> BTreeMap<TaskStatus, i64>;
        Reads tasks_with_incidents(up_to: u32) -> u64;
        Reads waiting(after: Option<TaskId>, limit: u32) -> WaitingPage;
        Reads step_loads() -> Vec<StepLoad>;
        Reads drafts(task: TaskId) -> Vec<Draft>;
    }
    SlotIndex {
        Reads open_steps(workflow: Option<&WorkflowId>, step: Option<&StepId>) -> Vec<StepWithOpenSlots>;
        Reads open_slots(query: SlotQuery) -> Vec<OpenSlot>;
        Reads claimed_slots(user: UserId) -> Vec<ClaimedSlot>;
        Reads claim_counts(limit: u32) -> Vec<ClaimCount>;
        Reads people_seen(workflow: &WorkflowId, events: u32) -> PeopleSeen;
    }
    CommandLog {
        Reads command(id: CommandId) -> Option<CommandRow>;
        Reads commands(ids: &[CommandId]) -> Vec<CommandRow>;
        Reads rejected(filter: &RejectedFilter, after: Option<CommandId>, limit: u32) -> CommandPage;
        Writes drop_rejected(ids: &[CommandId], actor: &str) -> u64;
        Writes mark_exported(ids: &[CommandId], actor: &str) -> u64;
    }
    OperatorLog {
        Writes operator_command(operator_command: PlannedOperatorCommand) -> CommandRow;
        Reads operator_commands() -> Vec<CommandRow>;
        Reads workflow_pauses() -> OpenPauses;
        Reads annotator_pauses(user: Option<UserId>) -> Vec<AnnotatorPause>;
        Writes replace_pauses(derive: DerivePauses) -> bool;
    }
    WorkflowConfigStore {
        Writes save_by(config: &WorkflowConfig, actor: Option<&str>) -> Uuid;
        Reads load(id: Uuid) -> Option<WorkflowConfig>;
        Reads load_by_name(name: &str) -> Option<WorkflowConfig>;
        Reads resolve(selectors: &[WorkflowSelector]) -> HashMap<WorkflowSelector, RevisionId>;
        Reads revisions(workflow: Option<&WorkflowId>) -> Vec<WorkflowRow>;
    }
    GoalStore {
        Writes claim_goal_actions(lease: Duration, limit: u32) -> Vec<GoalActionRow>;
        Writes settle_goal_action(id: Uuid, outcome: GoalActionOutcome) -> ();
        Reads goal_actions() -> Vec<GoalActionRow>;
    }
    JobStore {
        Writes create_job(job: NewJob) -> ();
        Reads job(id: Uuid) -> Option<JobRow>;
        Reads jobs(limit: u32) -> Vec<JobRow>;
        Writes stop_job(id: Uuid, actor: &str) -> bool;
        Writes claim_job(runner: Uuid, lease: Duration) -> Option<JobRow>;
        Writes write_job(id: Uuid, runner: Uuid, write: JobWrite) -> bool;
        Reads job_items(id: Uuid, state: JobItemState, after: i64, limit: u32) -> Vec<JobItem>;
        Reads last_job_item(id: Uuid) -> Option<JobItem>;
    }
    Rebuild {
        Reads stream_ids(after: Option<TaskId>, limit: u32) -> Vec<TaskId>;
        Writes replace_derived(task: TaskRow, slots: Slots, snapshots: Vec<SnapshotRow>, due: Vec<Timer>) -> DerivedChanges;
        Writes recount_tasks() -> bool;
    }
    Retention {
        Reads check_owner() -> ();
        Writes leftovers(kind: Leftover, after: Option<Uuid>, limit: u32, delete: bool) -> LeftoverPage;
        Reads archivable(before: DateTime<Utc>, after: Option<TaskId>, limit: u32) -> Vec<TaskId>;
        Reads whole_task(task: TaskId) -> Option<WholeTask>;
        Writes archive(tasks: &[ToArchive]) -> Vec<TaskId>;
        Writes bring_back(task: &WholeTask) -> BroughtBack;
        Reads archived(tasks: &[TaskId]) -> HashMap<TaskId, DateTime<Utc>>;
    }
    Deployment {
        Reads deployment() -> Uuid;
        Reads log_id() -> LogId;
        Reads check_whole() -> ();
        Writes restored() -> RestoreReport;
        Reads table_sizes() -> Vec<TableSize>;
    }
    MessageLog {
        Reads log_end() -> LogPosition;
        Reads logged_messages(after: LogPosition, through: LogPosition, limit: u32) -> Vec<(LogPosition, LoggedMessage)>;
    }
}

#[async_trait]
impl Outbox for SimulatedStore {
    async fn enqueue(&self, messages: Vec<NewMessage>) -> Answer<()> {
        let work = self.inner.enqueue(messages);
        self.call("enqueue", Effect::Writes, work).await
    }

    async fn claim(
        &self,
        publisher: PublisherId,
        lease: Duration,
        limit: u32,
    ) -> Answer<Vec<OutboxRow>> {
        let lease = self.lease(lease);
        let work = async {
            let mut rows = self.inner.claim(publisher, lease, limit).await?;
            if !rows.is_empty() {
                let rows: Vec<_> = rows.iter().map(|row| row.position).collect();
                self.process.step(format!("claims rows {rows:?}")).await;
            }
            if self.has(Bug::RelayByCursor) {
                let mut cursor = self.cursor.lock().unwrap();
                rows.retain(|row| row.position > *cursor);
                *cursor = rows.last().map_or(*cursor, |row| row.position);
            }
            Ok(rows)
        };
        self.call("claim", Effect::Writes, work).await
    }

    async fn events_of(&self, ranges: &[EventRange]) -> Answer<Vec<Answer<RangeEvents>>> {
        let work = self.inner.events_of(ranges);
        self.call("events_of", Effect::Reads, work).await
    }

    async fn confirmed(&self, positions: &[i64]) -> Answer<()> {
        let work = self.inner.confirmed(positions);
        self.process
            .step(format!("deletes rows {positions:?}"))
            .await;
        self.call("confirmed", Effect::Writes, work).await
    }

    async fn release(
        &self,
        rows: &[ReleasedRow],
        failed: Option<(String, Duration)>,
    ) -> Answer<()> {
        let released: Vec<_> = rows
            .iter()
            .map(|row| (row.position, row.from_version))
            .collect();
        let work = self.inner.release(rows, failed);
        self.process
            .step(format!("releases rows {released:?}"))
            .await;
        self.call("release", Effect::Writes, work).await
    }

    async fn skip(&self, message: SkippedMessage) -> Answer<bool> {
        self.call("skip", Effect::Writes, self.inner.skip(message))
            .await
    }

    async fn leased(&self, publisher: PublisherId, after: i64) -> Answer<Vec<OutboxRow>> {
        let work = self.inner.leased(publisher, after);
        self.call("leased", Effect::Reads, work).await
    }

    async fn renew(&self, publisher: PublisherId, lease: Duration) -> Answer<()> {
        let work = self.inner.renew(publisher, self.lease(lease));
        self.call("renew", Effect::Writes, work).await
    }

    async fn outbox_stats(&self) -> Answer<OutboxStats> {
        let work = self.inner.outbox_stats();
        self.call("outbox_stats", Effect::Reads, work).await
    }

    async fn outbox_failed(&self, limit: u32) -> Answer<Vec<FailedOutboxRow>> {
        let work = self.inner.outbox_failed(limit);
        self.call("outbox_failed", Effect::Reads, work).await
    }

    async fn unconfirmed(&self, task: TaskId, version: u64) -> Answer<Option<UnconfirmedMessage>> {
        let work = self.inner.unconfirmed(task, version);
        self.call("unconfirmed", Effect::Reads, work).await
    }
}

#[async_trait]
impl TimerQueue for SimulatedStore {
    async fn claim_timers(
        &self,
        lane: TimerLane,
        lease: Duration,
        limit: u32,
    ) -> Answer<Vec<Timer>> {
        let work = async {
            // Those of the paused workflow come first, fill the claim, and are of no use.
            let is_full = self.has(Bug::PausedTimersFirst)
                && !self.inner.workflow_pauses().await?.active.is_empty();
            let limit = if is_full { 0 } else { limit };
            self.inner
                .claim_timers(lane, self.lease(lease), limit)
                .await
        };
        self.call("claim_timers", Effect::Writes, work).await
    }

    async fn drop_timers(&self, rows: &[Timer]) -> Answer<()> {
        self.call("drop_timers", Effect::Writes, self.inner.drop_timers(rows))
            .await
    }

    async fn timer_stats(&self) -> Answer<TimerStats> {
        self.call("timer_stats", Effect::Reads, self.inner.timer_stats())
            .await
    }
}

#[async_trait]
impl EventStore for SimulatedStore {
    async fn open(&self, request: OpenRequest) -> Answer<OpenBatch> {
        let name = format!(
            "open {} tasks, {} commands",
            request.tasks.len(),
            request.commands.len()
        );
        self.process.step(&name).await;
        let fate = self.world().state().fate(Effect::Reads, &self.world().plan);
        let is_claim = request.claimant.is_some();
        let unlocked = self.has(Bug::CountOutsideVersionCheck)
            || (is_claim && self.has(Bug::ClaimWithoutHeadLock));
        let again = unlocked.then(|| request.clone());
        let publisher = request.publisher;
        let opened = match fate {
            Fate::Refused(error) => Err(error),
            Fate::Fine | Fate::Lost { .. } => self.inner.open(request).await,
        };
        let opened = opened.map(|open| {
            let OpenBatch {
                mut known,
                now,
                log,
                tasks,
                passed_over,
                pauses,
                claimed_by_claimant,
                started,
                tx,
            } = open;
            if self.has(Bug::NoInbox) {
                known.clear();
            }
            let held = match again {
                Some(request) => Held::Nothing(Box::new(request)),
                None => Held::Tx(self.process.hold(Tx::Batch(tx))),
            };
            OpenBatch {
                known,
                now,
                log,
                tasks,
                passed_over,
                pauses,
                claimed_by_claimant,
                started,
                tx: Box::new(SimulatedTx {
                    process: Arc::clone(&self.process),
                    held,
                    publisher,
                }),
            }
        });
        match opened
            .as_ref()
            .err()
            .map(|error| format!("{name}: {error:?}"))
        {
            Some(failed) => self.process.step(failed).await,
            None => self.process.look("opened").await,
        }
        opened
    }

    async fn ping(&self) -> Answer<()> {
        let work = self.inner.ping();
        self.call("ping", Effect::Reads, work).await
    }

    async fn load(&self, tasks: &[TaskId]) -> Answer<HashMap<TaskId, WorkflowSnapshot>> {
        let work = EventStore::load(&self.inner, tasks);
        self.call("load", Effect::Reads, work).await
    }

    async fn events(&self, task: TaskId, after: u64, limit: u32) -> Answer<EventPage> {
        let work = self.inner.events(task, after, limit);
        self.call("events", Effect::Reads, work).await
    }

    async fn read_log(&self, after: LogPosition, limit: u32) -> Answer<Vec<LogEntry>> {
        let work = async {
            let mut entries = self.inner.read_log(after, limit).await?;
            if self.has(Bug::LogReadPastGap) {
                let at = self.world().at();
                let state = self.world().state();
                entries.retain(|entry| state.ledger.is_visible(entry.event.event_id, at));
            }
            Ok(entries)
        };
        self.call("read_log", Effect::Reads, work).await
    }
}

impl SimulatedStore {
    /// A lease as the process writes it.
    fn lease(&self, lease: Duration) -> Duration {
        planted::lease(self.world().plan.bug, self.process.number, lease)
    }
}

#[async_trait]
impl ProjectionStore for SimulatedStore {
    async fn open_projection(&self, name: &str, limit: u32) -> Answer<Option<OpenProjection>> {
        let work = async {
            let Some(mut open) = self.inner.open_projection(name, limit).await? else {
                return Ok(None);
            };
            if self.has(Bug::LogReadPastGap) {
                let at = self.world().at();
                let state = self.world().state();
                open.entries
                    .retain(|entry| state.ledger.is_visible(entry.event.event_id, at));
            }
            let OpenProjection { tx, .. } = open;
            let tx = Box::new(SimulatedProjection {
                process: Arc::clone(&self.process),
                name: name.to_owned(),
                held: self.process.hold(Tx::Projection(tx)),
            });
            Ok(Some(OpenProjection { tx, ..open }))
        };
        self.call(&format!("open projection {name}"), Effect::Reads, work)
            .await
    }

    async fn projection_rows(&self, name: &str) -> Answer<ProjectionRows> {
        let work = self.inner.projection_rows(name);
        self.call("projection_rows", Effect::Reads, work).await
    }

    async fn projection_lags(&self) -> Answer<BTreeMap<String, f64>> {
        let work = self.inner.projection_lags();
        self.call("projection_lags", Effect::Reads, work).await
    }

    async fn reset_projection(&self, name: &str) -> Answer<()> {
        let work = self.inner.reset_projection(name);
        self.call("reset_projection", Effect::Writes, work).await
    }
}

/// What a write adds to its task, for the trace.
fn summary(write: &TaskWrite) -> String {
    let events = write.events.iter();
    let events: Vec<_> = events.map(|event| event.event.event_type()).collect();
    let from = write.expected_version;
    format!("{} from {from}: {}", write.task_id, events.join(" "))
}

fn is_cursed(write: &TaskWrite) -> bool {
    write.events.iter().any(|event| match &event.event {
        WorkflowEvent::AnnotationSubmitted { annotation, .. } => annotation.data["label"] == CURSED,
        _ => false,
    })
}

/// What an open batch holds.
enum Held {
    /// A transaction of the process.
    Tx(u64),
    /// Nothing, for bugs that lock nothing: the batch is opened again when it commits.
    Nothing(Box<OpenRequest>),
}

struct SimulatedTx {
    process: Arc<Process>,
    held: Held,
    publisher: Option<PublisherId>,
}

impl Drop for SimulatedTx {
    /// A transaction that is not committed is rolled back.
    fn drop(&mut self) {
        if let Held::Tx(number) = self.held {
            drop(self.process.take(number));
        }
    }
}

impl SimulatedTx {
    async fn write(&self, mut writes: Vec<TaskWrite>) -> Answer<Vec<OutboxMessage>> {
        let world = &self.process.world;
        let tx = match &self.held {
            Held::Tx(number) => match self.process.take(*number) {
                Some(Tx::Batch(tx)) => tx,
                Some(Tx::Projection(_)) | None => {
                    return Err(hindered(SplitReason::ConnectionLost));
                }
            },
            Held::Nothing(request) => {
                let open = world.store.open((**request).clone()).await?;
                for write in &mut writes {
                    let version = open
                        .tasks
                        .get(&write.task_id)
                        .map_or(0, |task| task.version);
                    planted::rebase(write, version, open.log);
                }
                open.tx
            }
        };
        if writes.iter().any(is_cursed) {
            return Err(EventStoreError::Data("a cursed label (22000)".into()));
        }
        let digest = writes.clone();
        if world.plan.bug == Some(Bug::NoInbox) {
            let state = world.state();
            for write in &mut writes {
                write
                    .commands
                    .retain(|command| !state.ledger.has_outcome(command.command_id));
            }
        }
        let written = tx.commit(writes).await;
        let at = world.at();
        let state = &mut *world.state();
        let verdict = match &written {
            Ok(_) => state.ledger.committed(&digest, at, &mut state.random),
            Err(error @ EventStoreError::VersionConflict { .. }) => {
                Err(format!("a stream moved under its lock: {error}"))
            }
            Err(_) => Ok(()),
        };
        state.judge(verdict);
        written
    }
}

#[async_trait]
impl BatchTx for SimulatedTx {
    async fn commit(self: Box<Self>, writes: Vec<TaskWrite>) -> Answer<Vec<OutboxMessage>> {
        let world = Arc::clone(&self.process.world);
        let commands: usize = writes.iter().map(|write| write.commands.len()).sum();
        let events: Vec<String> = writes.iter().map(summary).collect();
        self.process
            .step(format!("commit {commands} commands: {}", events.join("; ")))
            .await;
        let most = world.plan.faults.commands_max;
        let fate = {
            let mut state = world.state();
            if most > 0 && commands > most && !state.calm {
                state.count("batch too slow");
                Fate::Refused(hindered(SplitReason::TooSlow))
            } else {
                state.fate(Effect::Writes, &world.plan)
            }
        };
        if world.plan.bug == Some(Bug::PublishBeforeCommit) {
            let messages = writes.iter().flat_map(|write| &write.outbox);
            for message in messages {
                let mut state = world.state();
                let verdict = state.ledger.is_told(message.message_id);
                state.judge(verdict);
            }
        }
        let answer = match fate {
            Fate::Refused(error) => Err(error),
            Fate::Fine => self.write(writes).await,
            Fate::Lost { done } => {
                if done {
                    let _ = self.write(writes).await;
                }
                Err(lost())
            }
        };
        if let (Some(publisher), true) = (self.publisher, answer.is_ok()) {
            let lease = glyph_workflow_engine::store::OUTBOX_LEASE;
            let written = planted::lease(world.plan.bug, self.process.number, lease);
            if written != lease {
                world.store.renew(publisher, written).await?;
            }
        }
        match &answer {
            Ok(messages) => {
                let messages = messages.len();
                self.process
                    .step(format!("committed, {messages} messages"))
                    .await;
            }
            Err(error) => self.process.step(format!("commit: {error:?}")).await,
        }
        answer
    }
}

struct SimulatedProjection {
    process: Arc<Process>,
    name: String,
    held: u64,
}

impl Drop for SimulatedProjection {
    fn drop(&mut self) {
        drop(self.process.take(self.held));
    }
}

#[async_trait]
impl ProjectionTx for SimulatedProjection {
    async fn commit(
        self: Box<Self>,
        write: ProjectionWrite,
        last: Option<LogPosition>,
    ) -> Answer<()> {
        let world = Arc::clone(&self.process.world);
        let what = format!(
            "commit projection {} to {last:?}, {} messages",
            self.name,
            write.messages.len()
        );
        self.process.step(what).await;
        let fate = world.state().fate(Effect::Writes, &world.plan);
        let work = async {
            match self.process.take(self.held) {
                Some(Tx::Projection(tx)) => tx.commit(write, last).await,
                Some(Tx::Batch(_)) | None => Err(hindered(SplitReason::ConnectionLost)),
            }
        };
        let answer = match fate {
            Fate::Refused(error) => Err(error),
            Fate::Fine => work.await,
            Fate::Lost { done } => {
                if done {
                    let _ = work.await;
                }
                Err(lost())
            }
        };
        self.process.look("written").await;
        answer
    }
}
