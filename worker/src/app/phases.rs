//! The order in which a worker comes up and goes down: two tables, carried out from top to bottom.
//!
//! A phase begins when the one before has ended. On the way down, whatever hands work on ends before
//! what it hands work to, so that nothing is begun that nobody finishes. The listeners come first and
//! go last: HTTP answers from the first moment to the last one, alive and not ready.

use std::time::Duration;

use tokio::time::Instant;

/// Part of a drain that is kept for closing connections and HTTP.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A phase of the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartPhase {
    /// What the log calls it.
    pub(super) name: &'static str,
    /// What begins.
    pub(super) part: StartPart,
    /// Whether it may take for ever, so that a drain ends it.
    pub(super) ends_with_drain: bool,
}

/// What begins in a phase of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartPart {
    /// HTTP and metrics listen.
    Servers,
    /// The database is there, and its schema is right.
    Database,
    /// Broker, pipeline, and what works of its own accord.
    Work,
}

/// How a worker comes up.
pub(super) const START: [StartPhase; 3] = [
    StartPhase {
        name: "listeners",
        part: StartPart::Servers,
        ends_with_drain: false,
    },
    StartPhase {
        name: "database",
        part: StartPart::Database,
        ends_with_drain: true,
    },
    StartPhase {
        name: "work",
        part: StartPart::Work,
        ends_with_drain: false,
    },
];

/// A phase of the drain.
#[derive(Clone, Copy, Debug)]
pub(super) struct StopPhase {
    /// What the log calls it.
    pub(super) name: &'static str,
    /// What ends.
    pub(super) part: StopPart,
    /// How long it may take.
    pub(super) limit: Limit,
    /// Whether the drain has failed where it took longer; else that is only worth a warning.
    pub(super) must_finish: bool,
}

/// What ends in a phase of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopPart {
    /// What works of its own accord: timers, pauses, projections, goals.
    Background,
    /// Lanes and relay: what is begun is decided, what was decided is published.
    Pipeline,
    /// Both sides of the broker.
    Broker,
    /// The spans that wait for the collector.
    Traces,
}

/// How long a phase of the drain may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Until the deadline of the whole drain.
    Drain,
    /// [`CLOSE_TIMEOUT`] from its beginning, which may be after that deadline.
    Close,
}

impl Limit {
    /// The end of a phase that begins now, in a drain with this deadline.
    pub(super) fn ends_at(self, drain: Instant) -> Instant {
        match self {
            Self::Drain => drain,
            Self::Close => Instant::now() + CLOSE_TIMEOUT,
        }
    }
}

/// How a worker goes down; the listeners end after it.
pub(super) const STOP: [StopPhase; 4] = [
    StopPhase {
        name: "background work",
        part: StopPart::Background,
        limit: Limit::Drain,
        must_finish: true,
    },
    StopPhase {
        name: "pipeline",
        part: StopPart::Pipeline,
        limit: Limit::Drain,
        must_finish: true,
    },
    // All work is done by then, and a broker notices a closed socket: not worth a failure.
    StopPhase {
        name: "connection to the broker",
        part: StopPart::Broker,
        limit: Limit::Close,
        must_finish: false,
    },
    StopPhase {
        name: "traces",
        part: StopPart::Traces,
        limit: Limit::Close,
        must_finish: false,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_hands_work_on_ends_before_what_it_hands_work_to() {
        let at = |part| STOP.iter().position(|phase| phase.part == part).unwrap();
        assert!(at(StopPart::Background) < at(StopPart::Pipeline));
        assert!(at(StopPart::Pipeline) < at(StopPart::Broker));
        assert!(at(StopPart::Pipeline) < at(StopPart::Traces));
    }

    #[test]
    fn only_what_may_take_for_ever_is_ended_by_a_drain() {
        let endless = START.iter().filter(|phase| phase.ends_with_drain);
        let parts: Vec<_> = endless.map(|phase| phase.part).collect();
        assert_eq!(parts, [StartPart::Database]);
    }
}
