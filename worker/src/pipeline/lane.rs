//! One lane: the only place of this process where the commands of its tasks are decided.

use std::{
    collections::{HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    BatchReport, OrchestrationError,
    command::{CommandEnvelope, Outcome, Undecided},
    ids::{CommandId, TaskId},
    store::{ErrorClass, EventStoreError, Outbox, OutboxRow, PublisherId},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    CommandProcessor,
    disposition::{Disposition, dispose},
    gate::{Gate, HoldReason},
    job::{
        CommandCopy, CopyKind, Failure, Incoming, Job, Origin, attempts_before, reply_publication,
    },
    publishing::Window,
    sizing::{batch_len, is_suspect},
};
use crate::{
    backoff::Backoff,
    broker::{CommandSource, Receipt},
    faults::{CrashPoint, Faults},
    metrics::{CacheResult, FinalOutcome, Metrics},
    telemetry,
    traces::Traces,
    wire::CommandReply,
};

/// The first wait for a store that cannot be used.
const STORE_WAIT_FIRST: Duration = Duration::from_millis(100);
/// The longest wait for a store that cannot be used.
const STORE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Numbers the batches of a lane as they begin.
#[derive(Debug, Default)]
pub(super) struct BatchNumbers(AtomicU64);

impl BatchNumbers {
    /// Begins the next batch. Comes before the batch touches the store.
    fn begin(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The last batch that has begun.
    pub(super) fn begun(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What all lanes share.
pub(super) struct Shared {
    pub(super) processor: Arc<dyn CommandProcessor>,
    pub(super) source: Option<Arc<dyn CommandSource>>,
    /// Under what name the messages of a batch are kept for the lane to publish; none where this
    /// process does not publish.
    pub(super) publisher: Option<PublisherId>,
    pub(super) gate: Arc<Gate>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) faults: Faults,
    pub(super) traces: Traces,
    pub(super) batch_max: usize,
    pub(super) batch_wait: Duration,
    pub(super) stopping: CancellationToken,
}

impl Shared {
    pub(super) fn settle(&self, receipts: &[Receipt]) {
        if let Some(source) = self.source.as_ref().filter(|_| !receipts.is_empty()) {
            source.settle(receipts);
        }
    }

    pub(super) fn give_back(&self, receipts: &[Receipt]) {
        if let Some(source) = self.source.as_ref().filter(|_| !receipts.is_empty()) {
            source.give_back(receipts);
        }
    }

    pub(super) fn count(
        &self,
        command_type: &'static str,
        id: Option<CommandId>,
        outcome: FinalOutcome,
        received_at: Instant,
    ) {
        let age = id.and_then(|id| age_of(id, Utc::now()));
        self.metrics
            .command(command_type, outcome, received_at.elapsed(), age);
    }
}

/// How old a command is, where its id tells: version 7 begins with the time.
fn age_of(id: CommandId, now: DateTime<Utc>) -> Option<Duration> {
    let (seconds, nanos) = id.0.get_timestamp()?.to_unix();
    let made = DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)?;
    // A producer's clock may run ahead.
    Some((now - made).to_std().unwrap_or_default())
}

pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) incoming: mpsc::Receiver<Incoming>,
    pub(super) waiting: VecDeque<Incoming>,
    pub(super) numbers: Arc<BatchNumbers>,
    pub(super) windows: mpsc::Sender<Window>,
    pub(super) outbox: Arc<dyn Outbox>,
    /// The position of the last message that a batch gave this lane to publish.
    pub(super) given: i64,
    pub(super) doubt: Option<Doubt>,
}

/// Batches of which it is not known whether they were written: the answer to COMMIT was lost.
///
/// If they were, their messages belong to this process, which renews its leases, and nobody in it
/// has them: they would wait for its end, and later messages of their tasks would overtake them.
/// Run again, the batch only finds its own commands. So the next batch that is known to be written
/// first looks what else the lane was given ([`Outbox::held`]): of tasks that are this lane's alone,
/// in positions beyond all that it knows of, as a lane commits one batch at a time.
pub(super) struct Doubt {
    /// The first of these batches. What it wrote may be older than a hold on its task that was
    /// noted since, so its messages go in a window of its number (see [`LanePublisher`]).
    ///
    /// [`LanePublisher`]: super::publishing::LanePublisher
    number: u64,
    /// The tasks of all of them.
    tasks: HashSet<TaskId>,
}

/// What a run of a batch came to.
enum Attempt {
    /// It is committed.
    Done { report: BatchReport, number: u64 },
    /// Nothing of it is known to be written, and some member is to blame.
    Guilty(String),
    /// The store is away, and there is no time left to wait for it.
    Stopped,
}

impl Lane {
    /// Runs until every sender is gone and nothing waits.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.collect().await {
            let jobs = self.set_unreadable_aside(batch).await;
            self.run_batch(jobs).await;
        }
    }

    /// The next batch: as many as are there, up to the size; a batch that is not full waits for
    /// more until its oldest command has waited long enough. While the batch before was at work
    /// that time has usually passed.
    async fn collect(&mut self) -> Option<Vec<Incoming>> {
        if self.waiting.is_empty() {
            self.waiting.push_back(self.incoming.recv().await?);
        }
        let oldest = self
            .waiting
            .front()
            .map_or_else(Instant::now, Incoming::received_at);
        let deadline = oldest + self.shared.batch_wait;
        let mut more = Vec::new();
        while self.waiting.len() < self.shared.batch_max {
            let room = self.shared.batch_max - self.waiting.len();
            match timeout_at(deadline, self.incoming.recv_many(&mut more, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => self.waiting.extend(more.drain(..)),
            }
        }
        self.shuffle_suspects();
        let len = batch_len(
            &self.waiting,
            self.shared.batch_max,
            Incoming::deliveries_before,
        );
        Some(self.waiting.drain(..len.max(1)).collect())
    }

    /// A command that kills the process comes back at the head of the queue, with its neighbours
    /// behind it. Were it always taken first, none of them would ever be acknowledged, and all
    /// would reach the delivery limit together. So among suspects the next one is drawn by lot,
    /// and the innocent get past it. Order is not what keeps a task safe; its version is.
    fn shuffle_suspects(&mut self) {
        let suspect = self
            .waiting
            .front()
            .is_some_and(|job| is_suspect(job.deliveries_before()));
        if suspect {
            let (_, lot) = uuid::Uuid::now_v7().as_u64_pair();
            let lot = usize::try_from(lot & 0xffff_ffff).unwrap_or_default() % self.waiting.len();
            self.waiting.swap(0, lot);
        }
    }

    /// What cannot be read goes to the dead queue without being run.
    async fn set_unreadable_aside(&mut self, batch: Vec<Incoming>) -> Vec<Job> {
        let mut jobs = Vec::with_capacity(batch.len());
        let mut copies = Vec::new();
        for incoming in batch {
            match incoming {
                Incoming::Job(mut job) => {
                    job.trace(&self.shared.traces);
                    jobs.push(job);
                }
                Incoming::Unreadable {
                    delivery,
                    unreadable,
                    received_at,
                } => {
                    let (error, id) = (&unreadable.error, unreadable.command_id);
                    tracing::warn!(%error, command_id = ?id, "a command cannot be read");
                    let now = Utc::now();
                    copies.push(CommandCopy::of_unreadable(
                        *delivery,
                        unreadable,
                        received_at,
                        now,
                    ));
                }
            }
        }
        self.publish(Window::of_copies(copies)).await;
        jobs
    }

    /// Runs a batch to its end. One that fails for its content is run again in halves, with the
    /// same ids, until the guilty command is alone.
    ///
    /// `WorkflowOrchestrator::process_batch` halves what it is given too, for content that the
    /// store refuses in a commit. What is left to search here is what ends the whole call.
    async fn run_batch(&mut self, jobs: Vec<Job>) {
        let mut parts = vec![jobs];
        while let Some(mut jobs) = parts.pop() {
            if jobs.is_empty() {
                continue;
            }
            match self.attempt(&jobs).await {
                Attempt::Done { report, number } => self.finish(jobs, report, number).await,
                Attempt::Guilty(error) if jobs.len() == 1 => self.give_up(jobs, error).await,
                Attempt::Guilty(_) => {
                    let second = jobs.split_off(jobs.len() / 2);
                    parts.push(second);
                    parts.push(jobs);
                }
                Attempt::Stopped => {
                    let unfinished = parts.iter().flatten().chain(&jobs);
                    let receipts: Vec<_> = unfinished.filter_map(Job::receipt).collect();
                    self.shared.give_back(&receipts);
                    self.give_back_waiting();
                    return;
                }
            }
        }
    }

    /// Gives back everything that has not been begun.
    fn give_back_waiting(&mut self) {
        let mut receipts: Vec<_> = self
            .waiting
            .drain(..)
            .filter_map(|job| job.receipt())
            .collect();
        while let Ok(job) = self.incoming.try_recv() {
            receipts.extend(job.receipt());
        }
        self.shared.give_back(&receipts);
    }

    /// Runs the same batch, with the same ids, until the store has an answer.
    async fn attempt(&mut self, jobs: &[Job]) -> Attempt {
        let mut backoff = Backoff::new(STORE_WAIT_FIRST, STORE_WAIT_MAX);
        let mut hold = None;
        loop {
            let number = self.numbers.begin();
            let _span = self
                .shared
                .traces
                .begin_batch(jobs.iter().map(|job| &job.span));
            let envelopes = jobs.iter().map(|job| job.envelope.clone()).collect();
            let error = match self.run_once(envelopes).await {
                Ok(report) => match self.given(report, number, jobs).await {
                    Ok(done) => return done,
                    Err(error) => telemetry::chain(&error),
                },
                Err(failed) => {
                    if failed.in_doubt {
                        self.doubt(number, jobs);
                    }
                    if failed.is_guilty {
                        return Attempt::Guilty(failed.error);
                    }
                    failed.error
                }
            };
            if hold.is_none() {
                tracing::warn!(%error, "the store cannot be used; the batch waits");
                hold = Some(self.shared.gate.hold(HoldReason::StoreUnavailable));
            }
            // The broker redelivers what is not finished, so a drain need not wait for the store.
            tokio::select! {
                () = tokio::time::sleep(backoff.next()) => {}
                () = self.shared.stopping.cancelled() => {}
            }
            if self.shared.stopping.is_cancelled() {
                return Attempt::Stopped;
            }
        }
    }

    fn doubt(&mut self, number: u64, jobs: &[Job]) {
        let tasks = HashSet::new();
        let doubt = self.doubt.get_or_insert(Doubt { number, tasks });
        doubt.tasks.extend(jobs.iter().map(Job::task));
    }

    /// Takes over the messages of a batch that is written, and of those in doubt before it.
    async fn given(
        &mut self,
        mut report: BatchReport,
        mut number: u64,
        jobs: &[Job],
    ) -> Result<Attempt, EventStoreError> {
        if report.outcomes.len() != jobs.len() {
            self.doubt(number, jobs);
            let (outcomes, commands) = (report.outcomes.len(), jobs.len());
            let error = format!("{outcomes} outcomes of {commands} commands");
            return Ok(Attempt::Guilty(error));
        }
        if let (Some(publisher), true) = (self.shared.publisher, self.doubt.is_some()) {
            // Should the look fail, the next one is for the messages of this batch, too.
            self.doubt(number, jobs);
            let mut held = self.outbox.held(publisher, self.given).await?;
            if let Some(doubt) = self.doubt.take() {
                let own = |row: &OutboxRow| row.task_id.is_some_and(|t| doubt.tasks.contains(&t));
                held.retain(own);
                report.messages = held;
                number = doubt.number;
            }
        }
        let last = report.messages.iter().map(|row| row.position).max();
        self.given = self.given.max(last.unwrap_or_default());
        Ok(Attempt::Done { report, number })
    }

    /// In a task of its own: nothing that happens to the lane cancels a transaction half-way, and
    /// a panic ends the task, not the lane.
    async fn run_once(&self, batch: Vec<CommandEnvelope>) -> Result<BatchReport, Failed> {
        let processor = Arc::clone(&self.shared.processor);
        let publisher = self.shared.publisher;
        let work = tokio::spawn(async move { processor.process_batch(batch, publisher).await });
        match work.await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => {
                let is_guilty = !is_store_away(&error);
                let in_doubt = matches!(
                    error,
                    OrchestrationError::EventStoreError(EventStoreError::CommitUnknown(_))
                );
                let error = telemetry::chain(&error);
                if is_guilty {
                    tracing::error!(%error, "a batch failed for its content or a bug");
                }
                Err(Failed {
                    error,
                    is_guilty,
                    in_doubt,
                })
            }
            Err(ended) if ended.is_panic() => {
                let error = telemetry::panic_text(&*ended.into_panic());
                tracing::error!(%error, "a batch panicked");
                // It may have been written by then.
                Err(Failed {
                    error,
                    is_guilty: true,
                    in_doubt: true,
                })
            }
            // Only the end of the runtime cancels it.
            Err(cancelled) => Err(Failed {
                error: cancelled.to_string(),
                is_guilty: false,
                in_doubt: true,
            }),
        }
    }

    /// A command that fails by itself, alone in its batch, could not be decided.
    async fn give_up(&mut self, jobs: Vec<Job>, error: String) {
        let outcomes = jobs
            .iter()
            .map(|_| Outcome::Undecided(Undecided::Panicked(error.clone())));
        let report = BatchReport {
            outcomes: outcomes.collect(),
            messages: Vec::new(),
            stats: glyph_workflow_engine::BatchStats::default(),
        };
        let number = self.numbers.begun();
        self.finish(jobs, report, number).await;
    }

    /// Acknowledges what has its outcome and hands on what is to be sent.
    async fn finish(&mut self, jobs: Vec<Job>, report: BatchReport, number: u64) {
        record(&report, jobs.len(), &self.shared.metrics);
        let mut window = Window::of_batch(number, report.messages);
        let mut settled = Vec::with_capacity(jobs.len());
        let now = Utc::now();
        for (job, outcome) in jobs.into_iter().zip(report.outcomes) {
            settled.extend(self.end_job(job, outcome, now, &mut window));
        }
        if !settled.is_empty() {
            self.shared.faults.pass(CrashPoint::BeforeAck);
        }
        self.shared.settle(&settled);
        self.publish(window).await;
    }

    /// Tells who waits for the command, or puts what is to be sent about it into the window.
    /// Answers what may be acknowledged now.
    fn end_job(
        &self,
        job: Job,
        outcome: Outcome,
        now: DateTime<Utc>,
        window: &mut Window,
    ) -> Option<Receipt> {
        let Job {
            envelope,
            origin,
            received_at,
            span,
        } = job;
        span.end(&outcome);
        let id = envelope.command_id;
        let count = |outcome: &Outcome| {
            if let Some(outcome) = final_outcome(outcome) {
                let command_type = envelope.command.type_name();
                self.shared
                    .count(command_type, Some(id), outcome, received_at);
            }
        };
        let delivery = match origin {
            Origin::Direct(answer) => {
                count(&outcome);
                // A caller who went away asks again, with the same id.
                let _ = answer.send(outcome);
                return None;
            }
            Origin::Queue(delivery) => *delivery,
        };
        let properties = &delivery.properties;
        if let Some(failure) = failure(&outcome, attempts_before(properties)) {
            let copy =
                CommandCopy::of_job(delivery, &envelope, &outcome, &failure, received_at, now);
            window.copies.push(copy);
            return None;
        }
        count(&outcome);
        if properties.reply_to.is_some() {
            let reply = CommandReply::of(id, &outcome, None);
            window
                .replies
                .extend(reply_publication(properties, &reply, now));
        }
        Some(delivery.receipt)
    }

    /// Waits where eight windows are under way: then it is the broker that sets the pace.
    async fn publish(&self, window: Window) {
        if window.is_empty() {
            return;
        }
        if let Err(mpsc::error::SendError(window)) = self.windows.send(window).await {
            // Its publisher panicked. The rows' leases run out, the copies' originals come back.
            tracing::error!(rows = window.rows.len(), "the lane's publisher is gone");
            let receipts: Vec<_> = window.copies.iter().map(|copy| copy.receipt).collect();
            self.shared.give_back(&receipts);
        }
    }
}

/// A run of a batch that came to no report.
struct Failed {
    error: String,
    /// Whether a member is to blame; else the store is away.
    is_guilty: bool,
    /// Whether it may have been written all the same.
    in_doubt: bool,
}

/// Whether waiting helps. A schema that is not this build's is an operator's business and no
/// command's fault; what a class `Data` leaves here belongs to a member, as a bug does.
fn is_store_away(error: &OrchestrationError) -> bool {
    match error {
        OrchestrationError::EventStoreError(EventStoreError::NotMigrated { .. }) => true,
        error => match error.class() {
            ErrorClass::Retry => true,
            ErrorClass::Data | ErrorClass::Bug => false,
        },
    }
}

fn failure(outcome: &Outcome, attempts_before: u32) -> Option<Failure> {
    match dispose(outcome, attempts_before) {
        Disposition::Settle => None,
        Disposition::Retry {
            delay,
            attempts,
            reason,
            error,
        } => Some(Failure {
            kind: CopyKind::Retry(delay, reason),
            attempts,
            error,
        }),
        Disposition::Dead {
            attempts,
            reason,
            error,
        } => Some(Failure {
            kind: CopyKind::Dead(reason),
            attempts,
            error,
        }),
    }
}

fn final_outcome(outcome: &Outcome) -> Option<FinalOutcome> {
    match outcome {
        Outcome::Applied(_) => Some(FinalOutcome::Applied),
        Outcome::Duplicate(_) => Some(FinalOutcome::Duplicate),
        Outcome::Rejected(_) => Some(FinalOutcome::Rejected),
        Outcome::Dead(_) => Some(FinalOutcome::Dead),
        Outcome::Undecided(_) => None,
    }
}

fn record(report: &BatchReport, commands: usize, metrics: &Metrics) {
    let stats = &report.stats;
    metrics.batch(commands);
    stats
        .events
        .iter()
        .for_each(|(kind, count)| metrics.events_appended(kind, *count));
    stats
        .agreements
        .iter()
        .for_each(|ratio| metrics.agreement(*ratio));
    stats
        .jobs
        .iter()
        .for_each(|(answered, took)| metrics.handler("queue", *answered, *took));
    metrics.version_conflicts(stats.conflicts);
    metrics.task_cache(CacheResult::Hit, stats.cache_hits);
    metrics.task_cache(CacheResult::Miss, stats.cache_misses);
    metrics.snapshots(stats.snapshots);
}
