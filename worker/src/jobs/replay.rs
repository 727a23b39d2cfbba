//! Items go through the pipeline, as many at a time as the canary allows.

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    pin::Pin,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use glyph_workflow_engine::{
    command::Sender,
    store::{JobItem, JobItemOutcome, JobItemState, JobRow, JobWrite},
};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    canary::Canary,
    error::{JobError, stopped_by},
    fate::Fate,
    freeze::ids_of,
    runner::JobRun,
    spec::{JobKind, JobSettings, command_of},
};
use crate::{
    broker::Publication,
    dead_letters::Letter,
    metrics::JobOutcome,
    pipeline::reply_publication,
    wire::{CommandReply, read_delivery},
};

/// Items read at a time; each may be large.
const PAGE: u32 = 50;
/// Items, and about their bytes, that wait in memory.
const WAITING_MAX: usize = 400;
const WAITING_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How soon a stop is noticed.
const LOOK: Duration = Duration::from_secs(1);
/// The wait of an item that could not be decided for a reason outside it.
const LATER: Duration = Duration::from_secs(1);

/// An item that was tried, with the reply that its producer asked for.
struct Tried {
    item: JobItem,
    fate: Fate,
    reply: Option<Publication>,
}

type Trying = Pin<Box<dyn Future<Output = Tried> + Send>>;

/// The items of a job that wait or are under way.
struct Work<'r> {
    run: &'r JobRun<'r>,
    kind: JobKind,
    sender: Sender,
    canary: Canary,
    /// Pending items, by ordinal: all up to `read`.
    waiting: VecDeque<JobItem>,
    waiting_bytes: usize,
    read: i64,
    read_all: bool,
    /// Keys of the items under way. The next one of a key waits for the outcome.
    busy: HashSet<String>,
    under_way: FuturesUnordered<Trying>,
    /// Cancelled so that nothing more is begun.
    halt: CancellationToken,
    /// Whether the pipeline took an item no more.
    turned_away: bool,
}

impl JobRun<'_> {
    /// Tries the pending items. Returns why the job stops, if it does before all were tried.
    pub(super) async fn replay(
        &self,
        kind: JobKind,
        job: &JobRow,
        settings: &JobSettings,
    ) -> Result<Option<String>, JobError> {
        let failed = job.count(JobItemState::Failed) + job.count(JobItemState::Failing);
        let succeeded = job.count(JobItemState::Succeeded);
        let mut work = Work {
            run: self,
            kind,
            sender: Sender::operator(job.actor.clone()),
            canary: Canary::new(job.items(), succeeded, failed, settings.stop_at),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            read: 0,
            read_all: false,
            busy: HashSet::new(),
            under_way: FuturesUnordered::new(),
            halt: self.stopping.child_token(),
            turned_away: false,
        };
        let mut stop = job.stop_by.as_ref().map(|by| stopped_by(by));
        let mut look = interval(LOOK);
        loop {
            let reason = stop.clone().or_else(|| work.canary.verdict());
            let draining = self.stopping.is_cancelled();
            if reason.is_some() {
                work.halt.cancel();
            } else if !draining && !work.turned_away {
                work.launch().await?;
            }
            if work.under_way.is_empty() {
                return match (reason, draining || work.turned_away) {
                    (Some(reason), _) => Ok(Some(reason)),
                    (None, true) => Err(JobError::Draining),
                    // Nothing waits: what is under way would keep others back.
                    (None, false) => Ok(None),
                };
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled(), if !draining => {}
                _ = look.tick() => {
                    let row = self.store.job(self.id).await?;
                    stop = row.and_then(|row| row.stop_by).map(|by| stopped_by(&by));
                }
                Some(tried) = work.under_way.next() => {
                    let mut all = vec![tried];
                    while let Some(Some(tried)) = work.under_way.next().now_or_never() {
                        all.push(tried);
                    }
                    work.record(all).await?;
                }
            }
        }
    }
}

impl Work<'_> {
    /// Tries as many items as the canary allows, in their order.
    async fn launch(&mut self) -> Result<(), JobError> {
        self.fill().await?;
        let mut room = self.canary.room(self.under_way.len() as u64);
        let mut kept = VecDeque::with_capacity(self.waiting.len());
        while room > 0
            && let Some(item) = self.waiting.pop_front()
        {
            let key = item.order_key.as_ref();
            if key.is_some_and(|key| self.busy.contains(key)) {
                kept.push_back(item);
                continue;
            }
            self.busy.extend(key.cloned());
            self.waiting_bytes = self.waiting_bytes.saturating_sub(item.body.len());
            self.under_way.push(self.attempt(item, None));
            room -= 1;
        }
        kept.append(&mut self.waiting);
        self.waiting = kept;
        Ok(())
    }

    async fn fill(&mut self) -> Result<(), JobError> {
        while !self.read_all
            && self.waiting.len() < WAITING_MAX
            && self.waiting_bytes < WAITING_BYTES_MAX
        {
            let run = self.run;
            let page = run
                .store
                .job_items(run.id, JobItemState::Pending, self.read, PAGE);
            let page = page.await?;
            let Some(last) = page.last() else {
                self.read_all = true;
                break;
            };
            self.read = last.ordinal;
            self.waiting_bytes += page.iter().map(|item| item.body.len()).sum::<usize>();
            self.waiting.extend(page);
        }
        Ok(())
    }

    /// Records what became of items, and puts back those that are dead again.
    async fn record(&mut self, tried: Vec<Tried>) -> Result<(), JobError> {
        let (mut outcomes, mut dead, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        for Tried { item, fate, reply } in tried {
            let (state, detail) = match fate {
                Fate::Succeeded => (JobItemState::Succeeded, None),
                Fate::Rejected(why) => (JobItemState::Failed, Some(why)),
                Fate::Dead { reason, error } => {
                    // A database keeps no U+0000.
                    let detail = format!("{reason}: {error}").replace('\0', "\u{fffd}");
                    let state = match self.kind {
                        JobKind::ReplayDeadLetters => JobItemState::Failing,
                        // It is still in the inbox, as it was.
                        JobKind::ReplayRejected => JobItemState::Failed,
                    };
                    (state, Some(detail))
                }
                Fate::Later(why) => {
                    tracing::debug!(why, ordinal = item.ordinal, "an item is tried again");
                    let again = Instant::now() + LATER;
                    self.under_way.push(self.attempt(item, Some(again)));
                    continue;
                }
                Fate::Stopped => {
                    self.turned_away = true;
                    continue;
                }
            };
            if let Some(key) = &item.order_key {
                self.busy.remove(key);
            }
            let failed = state != JobItemState::Succeeded;
            self.canary.count(failed);
            self.run.metrics.job_item(if failed {
                JobOutcome::Failed
            } else {
                JobOutcome::Succeeded
            });
            outcomes.push(JobItemOutcome {
                ordinal: item.ordinal,
                state,
                detail: detail.clone(),
            });
            if state == JobItemState::Failing {
                dead.push(JobItem { detail, ..item });
            }
            replies.extend(reply);
        }
        let run = self.run;
        if !outcomes.is_empty() {
            let write = JobWrite {
                outcomes,
                ..JobWrite::default()
            };
            run.write(write).await?;
        }
        run.publish(&dead, JobItemState::Failing).await?;
        if !replies.is_empty() {
            // Best effort, as for every reply.
            run.publisher.publish(run.channel, &replies).await;
        }
        Ok(())
    }
}

impl Work<'_> {
    /// Tries one item, at once or at a time.
    fn attempt(&self, item: JobItem, at: Option<Instant>) -> Trying {
        let pipeline = self.run.pipeline.clone();
        let (kind, sender) = (self.kind, self.sender.clone());
        let stopping = self.halt.clone();
        Box::pin(async move {
            if let Some(at) = at {
                let wait = sleep(at.saturating_duration_since(Instant::now()));
                stopping.run_until_cancelled(wait).await;
            }
            let stopped = |item| Tried {
                item,
                fate: Fate::Stopped,
                reply: None,
            };
            if stopping.is_cancelled() {
                return stopped(item);
            }
            let unreadable = |item, fate| Tried {
                item,
                fate,
                reply: None,
            };
            let (envelope, asked) = match kind {
                JobKind::ReplayDeadLetters => {
                    // The body is kept until the outcome is recorded: it may have to go back.
                    let letter = match Letter::from_stored(&item.properties, item.body.clone()) {
                        Ok(letter) => letter,
                        Err(error) => return unreadable(item, Fate::Later(error.to_string())),
                    };
                    let properties = letter.command_properties();
                    match read_delivery(&item.body, &properties) {
                        Ok(read) => (read.envelope, Some((properties, read.ignored.paths))),
                        Err(error) => {
                            let fate = Fate::of_unreadable(&error);
                            return unreadable(item, fate);
                        }
                    }
                }
                JobKind::ReplayRejected => {
                    let payload = serde_json::from_slice(&item.body).unwrap_or_default();
                    let command = match ids_of(&item.properties) {
                        Ok(ids) => command_of(&payload, ids.replay),
                        Err(error) => return unreadable(item, Fate::Later(error.to_string())),
                    };
                    match command {
                        Ok(mut envelope) => {
                            envelope.sender = sender;
                            (envelope, None)
                        }
                        Err(error) => {
                            let fate = Fate::of_unreadable(&error);
                            return unreadable(item, fate);
                        }
                    }
                }
            };
            let id = envelope.command_id;
            let Ok(outcome) = pipeline.submit(envelope).await else {
                return stopped(item);
            };
            let fate = Fate::of(&outcome);
            let dead = match &fate {
                Fate::Dead { reason, .. } => Some(*reason),
                Fate::Succeeded | Fate::Rejected(_) | Fate::Later(_) | Fate::Stopped => None,
            };
            let reply = asked.filter(|_| !matches!(fate, Fate::Later(_))).and_then(
                |(properties, ignored)| {
                    let reply = CommandReply::of(id, &outcome, dead, ignored);
                    reply_publication(&properties, &reply, chrono::Utc::now())
                },
            );
            Tried { item, fate, reply }
        })
    }
}
