//! `glyph rebuild`: all derived data, rebuilt from the event log.

use std::{future::Future, sync::Arc, time::Duration};

use clap::Args;
use glyph_workflow_engine::{
    StateRebuilder, WorkflowOrchestrator, WorkflowSnapshot, derive_timers,
    ids::TaskId,
    limits::{PAGE_MAX, SNAPSHOT_EVERY},
    pauses_of,
    state::Slots,
    store::{
        DerivedChanges, EventStore, EventStoreError, RebuildReport, SnapshotRow, Store, TaskRow,
    },
};
use tokio::time::{Instant, sleep};

use super::{
    CliError, Output,
    connect::open_store,
    output::{Table, grouped},
};
use crate::{
    backoff::Backoff,
    projections::{
        AgreementProjector, GOALS, GoalProjector, GoldProjector, LabelsProjector, PageOutcome,
        agreement, gold, labels,
    },
    settings::Settings,
    telemetry,
};

/// How long a part is tried again that the store does not finish: a restart, a switch to another
/// server, a machine that gives this process no processor while it holds a transaction.
const PATIENCE: Duration = Duration::from_mins(1);
/// How soon to look again whether a worker has left a projection.
const TURN: Duration = Duration::from_millis(100);
/// Attempts to replay a task that changes meanwhile; a busier one is left to the next run.
const ATTEMPTS_MAX: u32 = 20;

/// Options of a rebuild.
#[derive(Clone, Copy, Debug, Args)]
pub struct RebuildArgs {
    /// Do not recount goals
    #[arg(long)]
    no_goals: bool,
}

pub(super) async fn run(
    args: RebuildArgs,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let store = open_store(settings).await?;
    let tasks: i64 = store.task_counts().await?.values().sum();
    let bar = output.progress(u64::try_from(tasks).ok(), "rebuilding");
    let mut report = RebuildReport::default();
    let mut after = None;
    loop {
        let ids = persistently(|| store.stream_ids(after, PAGE_MAX)).await?;
        let Some(last) = ids.last() else { break };
        after = Some(*last);
        let archived = persistently(|| store.archived(&ids)).await?;
        for task in ids {
            let is_archived = archived.contains_key(&task);
            rebuild_task(&*store, task, is_archived, &mut report).await?;
            bar.inc(1);
        }
    }
    report.counts_changed = persistently(|| store.recount_tasks()).await?;
    report.pauses_changed = persistently(|| store.replace_pauses(pauses_of)).await?;
    report.models_rebuilt = relearn(&store).await?;
    if !args.no_goals {
        recount_goals(&store, settings).await?;
    }
    measure_agreement(&store, settings).await?;
    score_annotators(&store, settings).await?;
    count_labels(&store, settings).await?;
    bar.finish_and_clear();
    output.result(&report, || report_text(&report));
    Ok(())
}

/// Rebuilds the derived data of one task. A task that changes meanwhile is replayed again.
async fn rebuild_task(
    store: &dyn Store,
    task: TaskId,
    is_archived: bool,
    report: &mut RebuildReport,
) -> Result<(), CliError> {
    for _ in 0..ATTEMPTS_MAX {
        match persistently(|| replace_derived(store, task, is_archived)).await {
            Ok(None) => return Ok(()),
            Ok(Some((version, changes))) => {
                report.tasks += 1;
                report.events += version;
                report.tasks_changed += u64::from(changes.task);
                report.snapshots_changed += u64::from(changes.snapshots);
                report.timers_changed += u64::from(changes.timers);
                return Ok(());
            }
            Err(EventStoreError::VersionConflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let text = format!("task {task} moves too fast to be rebuilt; run this again");
    Err(CliError::failed("busy_task", text))
}

/// Replays a task and replaces what is derived of it. Returns its version and what differed, or
/// nothing if there is no such task.
async fn replace_derived(
    store: &dyn Store,
    task: TaskId,
    is_archived: bool,
) -> Result<Option<(u64, DerivedChanges)>, EventStoreError> {
    let replayed = if is_archived {
        last_state(store, task).await?
    } else {
        replay(store, task).await?
    };
    let Some(Replayed { state, snapshots }) = replayed else {
        return Ok(None);
    };
    let (row, slots) = (TaskRow::from(&state), Slots::from(&state));
    let due = derive_timers(&state);
    let changes = store.replace_derived(row, slots, snapshots, due).await?;
    Ok(Some((state.version, changes)))
}

struct Replayed {
    state: WorkflowSnapshot,
    snapshots: Vec<SnapshotRow>,
}

/// The last state of an archived task, whose stream leads nowhere.
async fn last_state(store: &dyn Store, task: TaskId) -> Result<Option<Replayed>, EventStoreError> {
    let state = EventStore::load(store, &[task]).await?.remove(&task);
    Ok(state.map(|state| Replayed {
        state,
        snapshots: Vec::new(),
    }))
}

/// Replays a stream and takes snapshots where live work took them: at the end of the first batch
/// that crosses a multiple of [`SNAPSHOT_EVERY`]. All events of a batch have the same time, as the
/// store's clock is read once under the lock, so batches can be distinguished in the log.
async fn replay(store: &dyn Store, task: TaskId) -> Result<Option<Replayed>, EventStoreError> {
    let mut rebuilder = StateRebuilder::new();
    let mut snapshots = Vec::new();
    // The version before the current batch, and the time of its events.
    let mut batch = (0, None);
    let mut after = 0;
    loop {
        let page = store.events(task, after, PAGE_MAX).await?;
        for event in &page.events {
            if batch.1 != Some(event.occurred_at) {
                let before = event.version - 1;
                take_snapshot(&rebuilder, task, batch.0, before, &mut snapshots);
                batch = (before, Some(event.occurred_at));
            }
            rebuilder.apply(event)?;
            after = event.version;
        }
        if page.next_after.is_none() {
            break;
        }
    }
    take_snapshot(&rebuilder, task, batch.0, after, &mut snapshots);
    Ok(rebuilder
        .finish()
        .map(|state| Replayed { state, snapshots }))
}

/// Keeps the state at the end of a batch, if the batch crossed a multiple.
fn take_snapshot(
    rebuilder: &StateRebuilder,
    task: TaskId,
    before: u64,
    version: u64,
    snapshots: &mut Vec<SnapshotRow>,
) {
    if version / SNAPSHOT_EVERY > before / SNAPSHOT_EVERY
        && let Some(state) = rebuilder.clone().finish()
    {
        snapshots.push(SnapshotRow {
            task_id: task,
            version,
            state,
        });
    }
}

/// Does a part of the rebuild, one transaction that leads to the same each time. It is tried again
/// while the store does not finish it.
async fn persistently<T, W>(part: impl Fn() -> W) -> Result<T, EventStoreError>
where
    W: Future<Output = Result<T, EventStoreError>>,
{
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let until = Instant::now() + PATIENCE;
    loop {
        match part().await {
            Err(
                error @ (EventStoreError::Unavailable(_)
                | EventStoreError::Hindered { .. }
                | EventStoreError::CommitUnknown(_)),
            ) if Instant::now() < until => {
                let error = telemetry::chain(&error);
                tracing::warn!(error, "the store did not finish a part; trying it again");
                sleep(backoff.next()).await;
            }
            ended => return ended,
        }
    }
}

/// Runs a projection to the end of the log. A worker that has it open reads for both.
async fn to_the_end<W>(step: impl Fn() -> W) -> Result<(), EventStoreError>
where
    W: Future<Output = Result<PageOutcome, EventStoreError>>,
{
    loop {
        match persistently(&step).await? {
            PageOutcome::Read { is_full: true } => {}
            PageOutcome::Read { is_full: false } | PageOutcome::CaughtUp => return Ok(()),
            PageOutcome::Elsewhere => sleep(TURN).await,
        }
    }
}

/// Rebuilds the annotator models.
async fn relearn(store: &Arc<dyn Store>) -> Result<u64, CliError> {
    let orchestrator = WorkflowOrchestrator::new(Arc::clone(store) as _, Arc::clone(store) as _);
    let learnt = orchestrator.relearn().await?;
    Ok(u64::try_from(learnt).unwrap_or(u64::MAX))
}

/// Counts all goals from the beginning of the log.
async fn recount_goals(store: &Arc<dyn Store>, settings: &Settings) -> Result<(), CliError> {
    persistently(|| store.reset_projection(GOALS)).await?;
    let messages = settings.messages();
    let projector = GoalProjector::new(Arc::clone(store), messages).without_progress();
    Ok(to_the_end(|| projector.step()).await?)
}

/// Measures agreement from the beginning of the log, without messages.
async fn measure_agreement(store: &Arc<dyn Store>, settings: &Settings) -> Result<(), CliError> {
    persistently(|| store.reset_projection(agreement::PROJECTION)).await?;
    let (messages, length) = (settings.messages(), settings.agreement_window);
    let projector = AgreementProjector::new(Arc::clone(store), messages, length).silent();
    Ok(to_the_end(|| projector.step()).await?)
}

/// Scores annotators on gold tasks from the beginning of the log. Nobody is flagged twice.
async fn score_annotators(store: &Arc<dyn Store>, settings: &Settings) -> Result<(), CliError> {
    persistently(|| store.reset_projection(gold::PROJECTION)).await?;
    let projector = GoldProjector::new(Arc::clone(store), settings.messages());
    Ok(to_the_end(|| projector.step()).await?)
}

/// Counts calibration and completed visits from the beginning of the log. A worker then looks back
/// anew; what was told before is not told again.
async fn count_labels(store: &Arc<dyn Store>, settings: &Settings) -> Result<(), CliError> {
    persistently(|| store.reset_projection(labels::PROJECTION)).await?;
    let orchestrator = WorkflowOrchestrator::new(Arc::clone(store) as _, Arc::clone(store) as _);
    let messages = settings.messages();
    let projector = LabelsProjector::new(Arc::clone(store), Arc::new(orchestrator), messages);
    Ok(to_the_end(|| projector.step()).await?)
}

fn report_text(report: &RebuildReport) -> String {
    let mut table = Table::plain();
    table.row(["tasks replayed", &grouped(report.tasks)]);
    table.row(["events replayed", &grouped(report.events)]);
    table.row(["task rows that differed", &grouped(report.tasks_changed)]);
    table.row([
        "tasks whose snapshots differed",
        &grouped(report.snapshots_changed),
    ]);
    table.row([
        "tasks whose timers differed",
        &grouped(report.timers_changed),
    ]);
    let yes_or_no = |differed| if differed { "yes" } else { "no" };
    table.row([
        "numbers of tasks differed",
        yes_or_no(report.counts_changed),
    ]);
    table.row([
        "pauses of workflows differed",
        yes_or_no(report.pauses_changed),
    ]);
    table.row([
        "models of annotators learnt",
        &grouped(report.models_rebuilt),
    ]);
    table.render(0)
}
