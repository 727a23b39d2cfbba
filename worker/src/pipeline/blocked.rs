//! Commands whose tasks another transaction has locked. They wait beside their lane, and are tried
//! again at short intervals; a lane that waited for the lock would keep back everybody else.
//!
//! Usually it is a batch of another worker that holds the lock, for some milliseconds. Then the task is
//! passed over: its commands join each batch of the lane, or make one when there is no other, and a
//! batch that runs anyway costs hardly more with them. After a while a batch waits for the lock,
//! because waiting has a turn and passing by has none.
//!
//! Later commands of such a task join them, so that they keep their order.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use glyph_workflow_engine::{ids::TaskId, store::OnLocked};
use tokio::time::Instant;

use super::{
    job::Job,
    sizing::{BatchMax, batch_len},
};
use crate::{backoff::Backoff, broker::Receipt};

/// How long a batch waits for the locks of its tasks: so long the lane's other commands may be kept
/// back. Longer than full batches of other workers take, which usually hold them.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// How long a task is passed over before a batch waits for it.
const PASS_FOR: Duration = Duration::from_millis(400);
/// From a try that passed it over to the next one, without other batches in between.
const PASS_PAUSE: Duration = Duration::from_millis(20);
/// How long a lane rests at the most after a batch of which others have locked most.
const REST_MAX: Duration = Duration::from_millis(100);
/// Beyond this time commands are set aside. Longer than the slowest batch of another worker takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// From the first try that waited to the next one; it doubles.
const WAIT_PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest such pause.
const WAIT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// For batches that pass over locked tasks.
pub(super) const PASSING: OnLocked = OnLocked::PassOver {
    others: Some(LOCK_WAIT),
};
/// For batches that wait for them.
const WAITING: OnLocked = OnLocked::WaitAtMost(LOCK_WAIT);

/// How long a task has been blocked.
struct Wait {
    since: Instant,
    /// How often a batch waited for it.
    waits: u32,
    /// When it is tried again.
    at: Instant,
}

impl Wait {
    fn of(now: Instant) -> Self {
        Self {
            since: now,
            waits: 0,
            at: now,
        }
    }

    fn passes(&self, now: Instant) -> bool {
        self.waits == 0 && now - self.since < PASS_FOR
    }
}

/// When a lane tries again whose tasks others have locked for the most part. Each try costs as much as a
/// batch and brings little, so it rests, the longer the more often that happens; who rests has more
/// commands together when the locks are free. Lanes of several workers with the same few tasks take turns
/// in this way.
pub(super) struct Rest {
    pauses: Backoff,
    until: Option<Instant>,
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            pauses: Backoff::new(PASS_PAUSE, REST_MAX),
            until: None,
        }
    }
}

impl Rest {
    /// A batch has decided so many commands and passed over so many.
    pub(super) fn after(&mut self, decided: usize, passed_over: usize) {
        if passed_over > decided {
            self.until = Some(Instant::now() + self.pauses.next());
        } else {
            self.pauses.reset();
            self.until = None;
        }
    }

    /// Until when the lane rests.
    pub(super) fn until(&mut self) -> Option<Instant> {
        self.until.take()
    }
}

/// The commands of one lane that wait for locks.
#[derive(Default)]
pub(super) struct Blocked {
    /// In the order in which they came.
    jobs: VecDeque<Job>,
    tasks: HashMap<TaskId, Wait>,
}

impl Blocked {
    /// Takes commands that a batch has just passed over.
    pub(super) fn pass(&mut self, jobs: Vec<Job>, now: Instant) {
        for job in &jobs {
            let wait = self.tasks.entry(job.task()).or_insert(Wait::of(now));
            wait.at = now + PASS_PAUSE;
        }
        self.add(jobs);
    }

    /// Takes commands for which a batch has just waited in vain. Returns those whose tasks have been
    /// blocked for too long.
    pub(super) fn put(&mut self, jobs: Vec<Job>, now: Instant) -> Vec<Job> {
        let waited: HashSet<TaskId> = jobs.iter().map(Job::task).collect();
        for task in waited {
            let wait = self.tasks.entry(task).or_insert(Wait::of(now));
            let pause = WAIT_PAUSE_FIRST * 2_u32.saturating_pow(wait.waits);
            wait.at = now + pause.min(WAIT_PAUSE_MAX);
            wait.waits += 1;
        }
        let has_patience = |job: &Job| now - self.tasks[&job.task()].since < PATIENCE;
        let (wait, mut over): (Vec<_>, Vec<_>) = jobs.into_iter().partition(has_patience);
        self.add(wait);
        if !over.is_empty() {
            let given_up: HashSet<TaskId> = over.iter().map(Job::task).collect();
            self.tasks.retain(|task, _| !given_up.contains(task));
            let is_over = |job: &Job| given_up.contains(&job.task());
            over.extend(extract(&mut self.jobs, is_over));
        }
        over
    }

    /// Keeps the commands of tasks that wait already, and returns the others.
    pub(super) fn join(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        if self.tasks.is_empty() {
            return jobs;
        }
        let is_blocked = |job: &Job| self.tasks.contains_key(&job.task());
        let (blocked, others): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_blocked);
        self.jobs.extend(blocked);
        others
    }

    /// These tasks are not blocked any more.
    pub(super) fn settled(&mut self, of: impl Iterator<Item = TaskId>) {
        if !self.tasks.is_empty() {
            for task in of {
                self.tasks.remove(&task);
            }
        }
    }

    /// When the next of them is to be tried; none if none waits.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.jobs.iter().map(|job| self.at(job)).min()
    }

    /// Adds to a batch those whose tasks are passed over, as many as it may hold.
    pub(super) fn join_batch(&mut self, batch: &mut Vec<Job>, max: BatchMax) {
        if self.jobs.is_empty() {
            return;
        }
        let now = Instant::now();
        let tasks = &self.tasks;
        let passes = |job: &Job| tasks.get(&job.task()).is_none_or(|wait| wait.passes(now));
        let mut passing = extract(&mut self.jobs, passes);
        let bytes: usize = batch.iter().map(|job| job.envelope.content_bytes).sum();
        let mut room = max.bytes.saturating_sub(bytes);
        let count = passing.iter().take_while(|job| {
            let bytes = job.envelope.content_bytes;
            let fits = bytes <= room;
            room = room.saturating_sub(bytes);
            fits
        });
        let most = max.commands.saturating_sub(batch.len());
        let left = passing.split_off(count.take(most).count());
        self.add(left);
        batch.extend(passing);
    }

    /// Takes a batch of those that are to be tried by then, and tells what it does about locks. All at
    /// once, so that many blocked tasks cost their lane no more than one; those that are passed over
    /// once more go first.
    pub(super) fn take_due(&mut self, by: Instant, max: BatchMax) -> (Vec<Job>, OnLocked) {
        let tasks = &self.tasks;
        let is_due = |job: &Job| tasks.get(&job.task()).is_none_or(|wait| wait.at <= by);
        let mut due = extract(&mut self.jobs, is_due);
        let passes = |job: &Job| tasks.get(&job.task()).is_none_or(|wait| wait.passes(by));
        let mut first = extract(&mut due, passes);
        let mut on_locked = PASSING;
        if first.is_empty() {
            (first, due, on_locked) = (due, first, WAITING);
        }
        let len = batch_len(&first, max, |_| 0, |job| job.envelope.content_bytes);
        let left = first.split_off(len.max(1).min(first.len()));
        self.add(left.into_iter().chain(due));
        (first.into(), on_locked)
    }

    /// Takes a batch that waits, whenever it is to be tried.
    pub(super) fn take_any(&mut self, max: BatchMax) -> (Vec<Job>, OnLocked) {
        let (jobs, _) = self.take_due(Instant::now() + WAIT_PAUSE_MAX, max);
        (jobs, WAITING)
    }

    /// Takes out everything; returns the receipts that must be given back.
    pub(super) fn clear(&mut self) -> Vec<Receipt> {
        self.tasks.clear();
        self.jobs
            .drain(..)
            .filter_map(|job| job.receipt())
            .collect()
    }

    /// Adds commands of tasks that wait already.
    pub(super) fn add(&mut self, jobs: impl IntoIterator<Item = Job>) {
        self.jobs.extend(jobs);
        let jobs = self.jobs.make_contiguous();
        jobs.sort_by_key(|job| job.received_at);
    }

    fn at(&self, job: &Job) -> Instant {
        let wait = self.tasks.get(&job.task());
        wait.map_or(job.received_at, |wait| wait.at)
    }
}

/// Takes out what matches; both parts keep their order.
fn extract(jobs: &mut VecDeque<Job>, matches: impl Fn(&Job) -> bool) -> VecDeque<Job> {
    let (taken, left) = jobs.drain(..).partition(matches);
    *jobs = left;
    taken
}
