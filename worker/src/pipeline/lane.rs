//! One lane: the only place in this process that decides the commands of its tasks.
//!
//! A lane has four parts:
//!
//! - [`Collector`] takes the next batch from the waiting commands.
//! - [`BatchRunner`] runs it until the store has an answer. It also knows which rows were leased to
//!   the lane, even after a COMMIT whose answer was lost.
//! - [`Blocked`] keeps the commands whose tasks another transaction has locked, until they are tried
//!   again.
//! - The lane itself finishes the commands: it answers them, acknowledges or copies them, and hands
//!   the messages to its publisher.

use std::{collections::HashSet, sync::Arc};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    BatchReport,
    command::{Outcome, Undecided},
    store::{OnLocked, SplitReason},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    blocked::{Blocked, PASSING, Rest},
    collecting::Collector,
    job::{CommandCopy, CopyCause, Incoming, Job, Origin, attempts_before, reply_publication},
    running::{Attempt, BatchRunner, Failure, FailureCause},
    shared::LaneContext,
    sizing::may_be_poison,
    window::PublishBatch,
};
use crate::{
    broker::Receipt,
    failpoints::CrashPoint,
    metrics::{CacheResult, FinalOutcome, Metrics},
    wire::CommandReply,
};

/// What a lane runs next.
enum Batch {
    New(Vec<Incoming>),
    /// Commands that were blocked, and what this batch does about locks.
    Again((Vec<Job>, OnLocked)),
}

pub(super) struct Lane {
    pub(super) shared: Arc<LaneContext>,
    pub(super) collector: Collector,
    pub(super) runner: BatchRunner,
    pub(super) blocked: Blocked,
    pub(super) rest: Rest,
    /// Whether the last batch was one of blocked commands.
    pub(super) tried_again: bool,
    /// Batches to send; received by the lane's publisher.
    pub(super) windows: mpsc::Sender<PublishBatch>,
}

impl Lane {
    /// Runs until every sender is gone and nothing waits.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.next_batch().await {
            let (jobs, on_locked) = match batch {
                Batch::New(batch) => {
                    let jobs = self.set_unreadable_aside(batch).await;
                    let mut jobs = self.blocked.join(jobs);
                    self.blocked.join_batch(&mut jobs, self.shared.batch_max);
                    (jobs, PASSING)
                }
                Batch::Again(again) => again,
            };
            let is_watched = |job: &&Job| may_be_poison(job.deliveries_before());
            let watched = jobs.iter().filter(is_watched);
            let watched: Vec<_> = watched.map(|job| job.envelope.command_id).collect();
            if watched.is_empty() {
                self.run_batch(jobs, on_locked).await;
                continue;
            }
            let suspects = Arc::clone(&self.shared.suspects);
            suspects.at_work(&watched).await;
            self.run_batch(jobs, on_locked).await;
            suspects.done(&watched).await;
            self.collector.redelivered.outlived();
        }
    }

    /// The next batch, new or blocked before. At the end blocked ones are tried once more, whether it is
    /// time or not.
    async fn next_batch(&mut self) -> Option<Batch> {
        let batch_max = self.shared.batch_max;
        let stopping = self.shared.stopping.clone();
        if let Some(until) = self.rest.until() {
            stopping.run_until_cancelled(sleep_until(until)).await;
        }
        while let Some(at) = self.blocked.next_at() {
            if stopping.is_cancelled() {
                return Some(Batch::Again(self.blocked.take_any(batch_max)));
            }
            // In turns: many blocked tasks may be due one after the other all the time.
            if std::mem::take(&mut self.tried_again) && self.collector.has_waiting() {
                break;
            }
            let now = Instant::now();
            if at <= now {
                self.tried_again = true;
                return Some(Batch::Again(self.blocked.take_due(now, batch_max)));
            }
            tokio::select! {
                biased;
                () = stopping.cancelled() => {}
                // Loses nothing when it is dropped.
                batch = self.collector.next_batch() => match batch {
                    Some(batch) => return Some(Batch::New(batch)),
                    None => return Some(Batch::Again(self.blocked.take_any(batch_max))),
                },
                () = sleep_until(at) => {}
            }
        }
        self.collector.next_batch().await.map(Batch::New)
    }

    /// Unreadable deliveries go to the dead queue without being run.
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
        self.publish(PublishBatch::of_copies(copies)).await;
        jobs
    }

    /// Runs a batch to its end. One that fails as a whole is run again in parts, with the same ids,
    /// until what fails is alone; this is the only place that divides batches. Commands that failed
    /// lately run apart, after the others.
    async fn run_batch(&mut self, jobs: Vec<Job>, on_locked: OnLocked) {
        let aside = Arc::clone(&self.shared.aside);
        let is_suspect = |job: &Job| aside.is_suspect(job.task());
        let (suspects, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_suspect);
        // The next part last.
        let mut parts = vec![suspects, jobs];
        // Tasks that an earlier part has left for later.
        let mut blocked = HashSet::new();
        while let Some(jobs) = parts.pop() {
            let is_free = |job: &Job| !blocked.contains(&job.task());
            let (jobs, behind): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_free);
            self.blocked.add(behind);
            if jobs.is_empty() {
                continue;
            }
            let (begun, len) = (Instant::now(), jobs.len());
            match self.runner.attempt(&jobs, on_locked).await {
                Attempt::Done {
                    report,
                    number,
                    left,
                } => {
                    self.collector.limit.succeeded(len, begun.elapsed());
                    let window = PublishBatch::of_batch(number, left);
                    let (jobs, report, locked) = without_locked(jobs, report);
                    self.rest.after(jobs.len(), locked.len());
                    blocked.extend(locked.iter().map(Job::task));
                    aside.settled(jobs.iter().map(Job::task));
                    self.blocked.settled(jobs.iter().map(Job::task));
                    parts.push(self.finish(jobs, report, window).await);
                    self.blocked.pass(locked, Instant::now());
                }
                Attempt::Failed(failure) => {
                    if let FailureCause::Split(SplitReason::TooSlow | SplitReason::TooBig) =
                        failure.cause
                        && len > 1
                    {
                        self.collector.limit.failed(len);
                    }
                    match divided(jobs, &failure) {
                        Ok((first, second)) => parts.extend([second, first]),
                        Err(alone) => {
                            let mut kept: HashSet<_> = alone.iter().map(Job::task).collect();
                            let alone = self.wait_for_locks(alone, &failure);
                            kept.retain(|task| alone.iter().all(|job| job.task() != *task));
                            blocked.extend(kept);
                            self.give_up(alone, &failure).await;
                        }
                    }
                }
                Attempt::Stopped => {
                    let unfinished = parts.iter().flatten().chain(&jobs);
                    let receipts: Vec<_> = unfinished.filter_map(Job::receipt).collect();
                    self.shared.give_back(&receipts);
                    self.shared.give_back(&self.blocked.clear());
                    self.shared.give_back(&self.collector.clear());
                    return;
                }
            }
        }
    }

    /// Keeps commands whose tasks are blocked, for a while, and returns those that are not kept: what
    /// failed for another reason, and tasks that were set aside lately, which are tried once a minute.
    fn wait_for_locks(&mut self, alone: Vec<Job>, failure: &Failure) -> Vec<Job> {
        let is_blocked = failure.cause == FailureCause::Split(SplitReason::Blocked);
        if !is_blocked || self.shared.stopping.is_cancelled() {
            return alone;
        }
        let aside = &self.shared.aside;
        let was_aside = |job: &Job| aside.is_suspect(job.task());
        let (mut over, patient): (Vec<_>, Vec<_>) = alone.into_iter().partition(was_aside);
        over.extend(self.blocked.put(patient, Instant::now()));
        over
    }

    /// Ends commands that failed alone.
    async fn give_up(&mut self, jobs: Vec<Job>, failure: &Failure) {
        if jobs.is_empty() {
            return;
        }
        if let FailureCause::Split(reason) = failure.cause {
            let aside = &self.shared.aside;
            for job in &jobs {
                aside.note(job.task(), reason);
            }
        }
        let report = BatchReport {
            outcomes: jobs.iter().map(|_| failure.outcome()).collect(),
            ..BatchReport::default()
        };
        let left = self.runner.look_up().await;
        let window = PublishBatch::of_batch(self.runner.begun(), left);
        self.finish(jobs, report, window).await;
    }

    /// Acknowledges the commands that have an outcome and hands the messages to the publisher.
    /// Returns those that the batch had no time for.
    async fn finish(
        &mut self,
        jobs: Vec<Job>,
        report: BatchReport,
        mut window: PublishBatch,
    ) -> Vec<Job> {
        record(&report, jobs.len(), &self.shared.metrics);
        let events: u64 = report.stats.events.values().sum();
        self.shared.committed.send_modify(|count| *count += events);
        window.messages = report.messages;
        let mut settled = Vec::with_capacity(jobs.len());
        let mut left = Vec::new();
        let now = Utc::now();
        for (job, outcome) in jobs.into_iter().zip(report.outcomes) {
            if outcome == Outcome::Undecided(Undecided::OutOfTime) {
                left.push(job);
            } else {
                settled.extend(self.end_job(job, outcome, now, &mut window));
            }
        }
        if !settled.is_empty() {
            self.shared.failpoints.pass(CrashPoint::BeforeAck);
        }
        self.shared.settle(&settled);
        self.publish(window).await;
        left
    }

    /// Answers the waiting caller, or adds the messages about the command to the window. Returns
    /// the receipt that may be acknowledged now.
    fn end_job(
        &self,
        job: Job,
        outcome: Outcome,
        now: DateTime<Utc>,
        window: &mut PublishBatch,
    ) -> Option<Receipt> {
        let Job {
            envelope,
            origin,
            ignored,
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
                // A caller who has left asks again, with the same id.
                let _ = answer.send(outcome);
                return None;
            }
            Origin::Queue(delivery) => *delivery,
        };
        let properties = &delivery.properties;
        if let Some(cause) = CopyCause::of(&outcome, attempts_before(properties)) {
            let copy = CommandCopy::of_job(
                delivery,
                &envelope,
                ignored,
                &outcome,
                &cause,
                received_at,
                now,
            );
            window.copies.push(copy);
            return None;
        }
        count(&outcome);
        if properties.reply_to.is_some() {
            let reply = CommandReply::of(id, &outcome, None, ignored);
            window
                .replies
                .extend(reply_publication(properties, &reply, now));
        }
        Some(delivery.receipt)
    }

    /// Waits while the queue of windows is full: then the broker sets the pace.
    async fn publish(&self, window: PublishBatch) {
        if window.is_empty() {
            return;
        }
        if let Err(mpsc::error::SendError(window)) = self.windows.send(window).await {
            // The lane's publisher panicked. The leases of the rows run out, and the originals of
            // the copies are redelivered.
            tracing::error!(
                messages = window.messages.len(),
                "the lane's publisher is gone"
            );
            let receipts: Vec<_> = window.copies.iter().map(|copy| copy.receipt).collect();
            self.shared.give_back(&receipts);
        }
    }
}

/// Two parts of a batch that failed: without and with the tasks known to be the cause, or else its
/// halves. The batch itself if it cannot be divided.
fn divided(mut jobs: Vec<Job>, failure: &Failure) -> Result<(Vec<Job>, Vec<Job>), Vec<Job>> {
    if !failure.tasks.is_empty() {
        let is_other = |job: &Job| !failure.tasks.contains(&job.task());
        let (others, culprits): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_other);
        if others.is_empty() {
            return Err(culprits);
        }
        if !culprits.is_empty() {
            return Ok((others, culprits));
        }
        jobs = others;
    }
    if jobs.len() < 2 {
        return Err(jobs);
    }
    let second = jobs.split_off(jobs.len() / 2);
    Ok((jobs, second))
}

/// A batch without the commands whose tasks it passed over, and those.
fn without_locked(jobs: Vec<Job>, mut report: BatchReport) -> (Vec<Job>, BatchReport, Vec<Job>) {
    let is_locked = |outcome: &Outcome| *outcome == Outcome::Undecided(Undecided::Locked);
    if !report.outcomes.iter().any(is_locked) {
        return (jobs, report, Vec::new());
    }
    let ends = jobs.into_iter().zip(report.outcomes);
    let (locked, decided): (Vec<_>, Vec<_>) = ends.partition(|(_, outcome)| is_locked(outcome));
    let (jobs, outcomes) = decided.into_iter().unzip();
    report.outcomes = outcomes;
    let locked = locked.into_iter().map(|(job, _)| job).collect();
    (jobs, report, locked)
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
    metrics.task_cache(CacheResult::Hit, stats.cache_hits);
    metrics.task_cache(CacheResult::Stale, stats.cache_stale);
    metrics.task_cache(CacheResult::Miss, stats.cache_misses);
    metrics.snapshots(stats.snapshots);
}
