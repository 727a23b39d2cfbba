//! One lane: the only place of this process where the commands of its tasks are decided.
//!
//! A lane is three parts in a row: [`Collector`] takes the next batch from what waits,
//! [`BatchRunner`] runs it until the store has an answer (and knows which messages it was given to
//! publish, also after a COMMIT whose answer was lost), and the lane itself ends its commands:
//! it answers them, acknowledges or copies them, and hands what is to be sent to its publisher.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    BatchReport,
    command::{Outcome, Undecided},
};
use tokio::sync::mpsc;

use super::{
    collecting::Collector,
    job::{CommandCopy, CopyCause, Incoming, Job, Origin, attempts_before, reply_publication},
    running::{Attempt, BatchRunner},
    shared::LaneContext,
    window::PublishBatch,
};
use crate::{
    broker::Receipt,
    failpoints::CrashPoint,
    metrics::{CacheResult, FinalOutcome, Metrics},
    wire::CommandReply,
};

pub(super) struct Lane {
    pub(super) shared: Arc<LaneContext>,
    pub(super) collector: Collector,
    pub(super) runner: BatchRunner,
    /// What is to be sent; taken by the lane's publisher.
    pub(super) windows: mpsc::Sender<PublishBatch>,
}

impl Lane {
    /// Runs until every sender is gone and nothing waits.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.collector.next_batch().await {
            let jobs = self.set_unreadable_aside(batch).await;
            self.run_batch(jobs).await;
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
        self.publish(PublishBatch::of_copies(copies)).await;
        jobs
    }

    /// Runs a batch to its end. One that fails as a whole is run again in halves, with the same
    /// ids, until the command to blame is alone.
    ///
    /// Batches are halved in two places, for two kinds of failure:
    ///
    /// - `WorkflowOrchestrator::process_batch` (the engine's `orchestrator/batch.rs`) halves where
    ///   the store refuses the content of a command (class `Data`). Only it sees that error. The
    ///   command that it finds is dead for good.
    /// - This function halves where the orchestrator itself fails: it panics, or answers an error of
    ///   class `Bug`. That is caught only from outside. The command that it finds climbs the ladder
    ///   of retries, as another build may decide it.
    async fn run_batch(&mut self, jobs: Vec<Job>) {
        let mut parts = vec![jobs];
        while let Some(mut jobs) = parts.pop() {
            if jobs.is_empty() {
                continue;
            }
            match self.runner.attempt(&jobs).await {
                Attempt::Done { report, number } => self.finish(jobs, report, number).await,
                Attempt::Poison(error) if jobs.len() == 1 => self.give_up(jobs, error).await,
                Attempt::Poison(_) => {
                    let second = jobs.split_off(jobs.len() / 2);
                    parts.push(second);
                    parts.push(jobs);
                }
                Attempt::Stopped => {
                    let unfinished = parts.iter().flatten().chain(&jobs);
                    let receipts: Vec<_> = unfinished.filter_map(Job::receipt).collect();
                    self.shared.give_back(&receipts);
                    self.shared.give_back(&self.collector.clear());
                    return;
                }
            }
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
        let number = self.runner.begun();
        self.finish(jobs, report, number).await;
    }

    /// Acknowledges what has its outcome and hands on what is to be sent.
    async fn finish(&mut self, jobs: Vec<Job>, report: BatchReport, number: u64) {
        record(&report, jobs.len(), &self.shared.metrics);
        let mut window = PublishBatch::of_batch(number, report.messages);
        let mut settled = Vec::with_capacity(jobs.len());
        let now = Utc::now();
        for (job, outcome) in jobs.into_iter().zip(report.outcomes) {
            settled.extend(self.end_job(job, outcome, now, &mut window));
        }
        if !settled.is_empty() {
            self.shared.failpoints.pass(CrashPoint::BeforeAck);
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
        window: &mut PublishBatch,
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
        if let Some(cause) = CopyCause::of(&outcome, attempts_before(properties)) {
            let copy = CommandCopy::of_job(delivery, &envelope, &outcome, &cause, received_at, now);
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
    async fn publish(&self, window: PublishBatch) {
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
