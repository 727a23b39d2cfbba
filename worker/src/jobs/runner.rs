//! Leases jobs, one at a time, and takes each through its phases.

use std::{sync::Arc, time::Duration};

use glyph_workflow_engine::store::{EventStoreError, JobRow, JobState, JobWrite, Store};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    error::{JobError, stopped_by},
    spec::{JobKind, JobSettings},
};
use crate::{
    broker::MessagePublisher,
    dead_letters::DeadLetters,
    metrics::Metrics,
    pipeline::PipelineHandle,
    poll::{Every, Found, poll},
    telemetry,
};

/// How often to look for a job.
const EVERY: Every = Every {
    idle: Duration::from_secs(1),
    longest: Duration::from_secs(10),
};
/// How long a job belongs to a process that shows no life.
const LEASE: Duration = Duration::from_secs(10);
/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(3);
/// The wait before a job that could not go on is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Texts of the column `phase`.
const FREEZING: &str = "freezing";
const REPLAYING: &str = "replaying";
const RETURNING: &str = "returning";

/// Runs jobs.
pub struct JobRunner {
    /// Where jobs are.
    pub store: Arc<dyn Store>,
    /// Tries the items.
    pub pipeline: PipelineHandle,
    /// Puts letters back.
    pub publisher: Arc<dyn MessagePublisher>,
    /// The publisher's channel for that.
    pub channel: usize,
    /// Where letters come from.
    pub letters: Arc<dyn DeadLetters>,
    /// Where items are counted.
    pub metrics: Arc<Metrics>,
}

/// A job in the hands of this process.
pub(super) struct JobRun<'r> {
    pub(super) id: Uuid,
    runner: Uuid,
    pub(super) store: &'r dyn Store,
    pub(super) pipeline: &'r PipelineHandle,
    pub(super) publisher: &'r dyn MessagePublisher,
    pub(super) channel: usize,
    pub(super) letters: &'r dyn DeadLetters,
    pub(super) metrics: &'r Metrics,
    pub(super) stopping: &'r CancellationToken,
}

impl JobRunner {
    /// Runs until stopped.
    pub async fn run(self, stopping: CancellationToken) {
        let runner = Uuid::now_v7();
        let look = || self.step(runner, &stopping);
        poll(EVERY, &stopping, look, |error: EventStoreError| {
            let error = telemetry::chain(&error);
            tracing::warn!(error, "jobs cannot be read; trying again");
        })
        .await;
    }

    /// Leases a job and works on it until it ends, or cannot go on.
    async fn step(
        &self,
        runner: Uuid,
        stopping: &CancellationToken,
    ) -> Result<Found, EventStoreError> {
        let Some(job) = self.store.claim_job(runner, LEASE).await? else {
            return Ok(Found::Nothing);
        };
        let run = JobRun {
            id: job.id,
            runner,
            store: &*self.store,
            pipeline: &self.pipeline,
            publisher: &*self.publisher,
            channel: self.channel,
            letters: &*self.letters,
            metrics: &self.metrics,
            stopping,
        };
        tracing::info!(job = %job.id, kind = job.kind, phase = job.phase, "a job goes on");
        let done = tokio::select! {
            biased;
            done = run.work(job) => done,
            error = run.renew() => Err(error),
        };
        match done {
            Ok(()) => {
                tracing::info!(job = %run.id, "a job has ended");
                Ok(Found::More)
            }
            Err(error) => {
                let text = telemetry::chain(&error);
                let (lease, note) = match error {
                    JobError::Draining => (Duration::ZERO, String::new()),
                    JobError::Lost => return Ok(Found::Nothing),
                    JobError::Store(_)
                    | JobError::Broker(_)
                    | JobError::PutBack(_)
                    | JobError::Behind(_)
                    | JobError::Unknown => {
                        tracing::warn!(job = %run.id, error = text, "a job cannot go on; trying again");
                        (AGAIN, text)
                    }
                };
                let row = self.store.job(run.id).await?;
                let is_stopped = row.is_some_and(|row| row.phase == RETURNING);
                let waits = JobWrite {
                    lease,
                    note: (!is_stopped).then(|| note.replace('\0', "\u{fffd}")),
                    ..JobWrite::default()
                };
                self.store.write_job(run.id, runner, waits).await?;
                Ok(Found::Nothing)
            }
        }
    }
}

impl JobRun<'_> {
    /// Writes as the runner of the job, and renews its lease.
    pub(super) async fn write(&self, write: JobWrite) -> Result<(), JobError> {
        let write = JobWrite {
            lease: LEASE,
            ..write
        };
        if self.store.write_job(self.id, self.runner, write).await? {
            Ok(())
        } else {
            Err(JobError::Lost)
        }
    }

    /// Ends once the job belongs to somebody else.
    async fn renew(&self) -> JobError {
        loop {
            tokio::time::sleep(RENEW).await;
            match self.write(JobWrite::default()).await {
                Ok(()) => {}
                Err(JobError::Lost) => return JobError::Lost,
                Err(error) => {
                    let error = telemetry::chain(&error);
                    tracing::debug!(error, "a lease could not be renewed");
                }
            }
        }
    }

    /// Takes the job through its phases, from the one that it is in.
    async fn work(&self, job: JobRow) -> Result<(), JobError> {
        let kind = JobKind::from_name(&job.kind).ok_or(JobError::Unknown)?;
        let settings: JobSettings =
            serde_json::from_value(job.settings.clone()).map_err(|_| JobError::Unknown)?;
        let mut phase = job.phase.clone();
        if phase != RETURNING {
            // Whatever it waited for. From the stop on, this is why it was stopped.
            self.note("").await?;
        }
        if phase.is_empty() || phase == FREEZING {
            self.enter(FREEZING, false).await?;
            let frozen = match kind {
                JobKind::ReplayDeadLetters => self.freeze_letters(&job, &settings).await,
                JobKind::ReplayRejected => self.freeze_rejected(&job, &settings).await,
            };
            if let (Err(JobError::Behind(_)), Some(by)) = (&frozen, &job.stop_by) {
                // It has no items yet.
                return self.end(JobState::Stopped, Some(stopped_by(by))).await;
            }
            frozen?;
            self.enter(REPLAYING, true).await?;
            REPLAYING.clone_into(&mut phase);
        }
        self.finish_put_back().await?;
        let mut reason = job.reason.clone();
        if phase == REPLAYING {
            let now = self.store.job(self.id).await?.ok_or(JobError::Lost)?;
            reason = self.replay(kind, &now, &settings).await?;
            let Some(why) = &reason else {
                return self.end(JobState::Done, None).await;
            };
            self.write(JobWrite {
                phase: Some(RETURNING),
                note: Some(why.clone()),
                ..JobWrite::default()
            })
            .await?;
        }
        match kind {
            JobKind::ReplayDeadLetters => self.return_letters().await?,
            JobKind::ReplayRejected => self.return_rejected().await?,
        }
        self.end(JobState::Stopped, reason).await
    }

    async fn note(&self, note: &str) -> Result<(), JobError> {
        self.write(JobWrite {
            note: Some(note.to_owned()),
            ..JobWrite::default()
        })
        .await
    }

    async fn enter(&self, phase: &'static str, arrived: bool) -> Result<(), JobError> {
        self.write(JobWrite {
            phase: Some(phase),
            arrived,
            ..JobWrite::default()
        })
        .await
    }

    async fn end(&self, state: JobState, reason: Option<String>) -> Result<(), JobError> {
        self.write(JobWrite {
            end: Some((state, reason)),
            ..JobWrite::default()
        })
        .await
    }
}
