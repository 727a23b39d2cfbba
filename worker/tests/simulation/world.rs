//! What all workers of a run share: the store, the broker, the clock, the draws and the laws.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::store::{Clock, EventStoreError, MemoryStore, SplitReason};
use tokio::{sync::Notify, time::Instant};

use super::{broker::Broker, ledger::Ledger, plan::Plan, random::Random, trace::Trace};

/// Steps between two crashes, at most.
const STEPS_TO_CRASH: u64 = 500;

/// A law that was broken, and what came before.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) law: String,
    pub(crate) step: u64,
    pub(crate) last: Vec<String>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    /// What is stored, without faults.
    pub(crate) store: MemoryStore,
    clock: Clock,
    /// How far the clock is ahead of the run, in microseconds.
    ahead: Arc<AtomicI64>,
    began: Instant,
    state: Mutex<State>,
    /// Notified when a law is broken.
    pub(crate) over: Arc<Notify>,
}

pub(crate) struct State {
    pub(crate) random: Random,
    pub(crate) trace: Trace,
    pub(crate) broker: Broker,
    pub(crate) ledger: Ledger,
    /// No more faults: what is left must come to its end.
    pub(crate) calm: bool,
    pub(crate) outages: u32,
    /// How often each kind of fault has struck.
    pub(crate) struck: BTreeMap<&'static str, u64>,
    crashes: u64,
    next_crash: u64,
    broken: Option<Broken>,
    over: Arc<Notify>,
}

/// Whether a call to the store writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Writes,
}

/// What becomes of a call to the store.
pub(crate) enum Fate {
    Fine,
    Refused(EventStoreError),
    /// The answer is lost.
    Lost {
        /// Whether the call has had its effect.
        done: bool,
    },
}

impl World {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        let began = Instant::now();
        let over = Arc::new(Notify::new());
        let mut random = Random::new(plan.seed);
        let next_crash = random.between(1, STEPS_TO_CRASH);
        let state = State {
            trace: Trace::default(),
            broker: Broker::new(plan.reorder),
            ledger: Ledger::default(),
            calm: false,
            outages: 0,
            struck: BTreeMap::new(),
            crashes: plan.faults.crashes,
            next_crash,
            broken: None,
            over: Arc::clone(&over),
            random,
        };
        let ahead = Arc::default();
        let clock: Clock = Arc::new(clock(began, Arc::clone(&ahead)));
        Arc::new(Self {
            store: MemoryStore::with_clock(Arc::clone(&clock)),
            clock,
            ahead,
            plan,
            began,
            state: Mutex::new(state),
            over,
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The time since the beginning.
    pub(crate) fn at(&self) -> Duration {
        self.began.elapsed()
    }

    /// Notes something that no worker does.
    pub(crate) fn note(&self, what: impl fmt::Display) {
        let at = self.at();
        self.state().trace.note(at, 0, &what);
    }

    /// Puts the store's clock forward, or back.
    pub(crate) fn jump(&self, by: TimeDelta) {
        self.note(format!("the clock jumps by {by}"));
        let by = by.num_microseconds().unwrap();
        self.ahead.fetch_add(by, Ordering::SeqCst);
    }

    /// The time of the store's clock.
    pub(crate) fn store_time(&self) -> DateTime<Utc> {
        (self.clock)()
    }
}

impl State {
    /// Ends the run if a law is broken; the first one counts.
    pub(crate) fn judge(&mut self, verdict: Result<(), String>) {
        if let (Err(law), None) = (verdict, &self.broken) {
            self.broken = Some(Broken {
                law,
                step: self.trace.steps(),
                last: self.trace.last(),
            });
            self.over.notify_one();
        }
    }

    /// Whether a fault strikes now; what strikes is counted.
    pub(crate) fn strikes(&mut self, what: &'static str, per_mille: u64) -> bool {
        let strikes = !self.calm && self.random.strikes(per_mille);
        if strikes {
            self.count(what);
        }
        strikes
    }

    pub(crate) fn broken(&self) -> Option<Broken> {
        self.broken.clone()
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.struck.entry(what).or_default() += 1;
    }

    /// Whether the process that makes this step dies of it.
    pub(crate) fn crashes(&mut self) -> bool {
        if self.calm || self.crashes == 0 || self.trace.steps() < self.next_crash {
            return false;
        }
        self.crashes -= 1;
        self.next_crash = self.trace.steps() + self.random.between(1, STEPS_TO_CRASH);
        self.count("crash");
        true
    }

    /// How long a step takes: most no time at all, some long.
    pub(crate) fn wait(&mut self, slow: u64) -> Duration {
        if self.strikes("slow store", slow) {
            return self.random.millis(100, 3_000);
        }
        match self.random.below(100) {
            0..60 => Duration::ZERO,
            60..95 => self.random.millis(1, 4),
            _ => self.random.millis(5, 60),
        }
    }

    /// How many turns a step that takes no time leaves to others.
    pub(crate) fn turns(&mut self, most: u64) -> u64 {
        match most {
            0 => 0,
            _ => self.random.between(0, most),
        }
    }

    pub(crate) fn fate(&mut self, effect: Effect, plan: &Plan) -> Fate {
        if self.outages > 0 {
            return Fate::Refused(away());
        }
        if self.strikes("refusing store", plan.faults.store_refuses) {
            return Fate::Refused(self.refusal());
        }
        if effect == Effect::Writes && self.strikes("lost answer", plan.faults.answer_lost) {
            return Fate::Lost {
                done: self.random.strikes(500),
            };
        }
        Fate::Fine
    }

    /// The words of a store that is there and did not do it.
    fn refusal(&mut self) -> EventStoreError {
        // What ends with a command that is set aside for a minute is rare.
        match self.random.below(24) {
            0..8 => away(),
            8..15 => hindered(SplitReason::Conflict),
            15..21 => hindered(SplitReason::ConnectionLost),
            21 => hindered(SplitReason::TooSlow),
            22 => hindered(SplitReason::TooBig),
            _ => EventStoreError::Other("a trigger refuses it (P0001)".into()),
        }
    }
}

fn away() -> EventStoreError {
    EventStoreError::Unavailable("the store is away".into())
}

pub(crate) fn hindered(reason: SplitReason) -> EventStoreError {
    EventStoreError::Hindered {
        reason,
        tasks: std::collections::BTreeSet::new(),
        source: "the simulated store".into(),
    }
}

pub(crate) fn lost() -> EventStoreError {
    EventStoreError::CommitUnknown("the answer is lost".into())
}

/// The store's clock: that of the run, but for its jumps, and never the same time twice in a row.
fn clock(began: Instant, ahead: Arc<AtomicI64>) -> impl Fn() -> DateTime<Utc> + Send + Sync {
    let last = Mutex::new((0, DateTime::UNIX_EPOCH));
    let beginning = DateTime::from_timestamp(1_900_000_000, 0).unwrap();
    move || {
        let mut last = last.lock().unwrap();
        let ahead = ahead.load(Ordering::SeqCst);
        let elapsed = TimeDelta::from_std(began.elapsed()).unwrap();
        let mut now = beginning + elapsed + TimeDelta::microseconds(ahead);
        if ahead == last.0 {
            now = now.max(last.1 + TimeDelta::microseconds(1));
        }
        *last = (ahead, now);
        now
    }
}
