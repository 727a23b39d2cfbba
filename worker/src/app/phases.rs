//! The order in which a worker starts and stops: two tables, executed from top to bottom.
//!
//! A phase begins when the one before has ended. During a drain, a part that produces work stops
//! before the part that consumes it, so no work is begun that cannot finish. The listeners start
//! first and stop last: HTTP answers from the first moment to the last, alive and not ready.

use std::time::Duration;

use tokio::time::Instant;

/// Part of a drain that is reserved for closing connections and HTTP.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A phase of the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct StartPhase {
    /// Its name in the log.
    pub(super) name: &'static str,
    /// What starts.
    pub(super) part: StartPart,
    /// Whether it may wait without limit, so that a drain cancels it.
    pub(super) ends_with_drain: bool,
}

/// What starts in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StartPart {
    /// HTTP and metrics listen.
    Servers,
    /// The database is reachable, and its schema is right.
    Database,
    /// Broker, pipeline and background work.
    Work,
}

/// The phases of the start.
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
    /// Its name in the log.
    pub(super) name: &'static str,
    /// What stops.
    pub(super) part: StopPart,
    /// How long it may take.
    pub(super) limit: Limit,
    /// Whether exceeding the limit fails the drain; otherwise it is only a warning.
    pub(super) must_finish: bool,
}

/// What stops in a phase of the drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopPart {
    /// Background work: timers, pauses, projections, goals.
    Background,
    /// Lanes and relay: commands under way are decided, and their messages published.
    Pipeline,
    /// Consumer and publisher.
    Broker,
    /// The spans that wait to be exported.
    Traces,
}

/// How long a phase of the drain may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Until the time for work is over.
    Drain,
    /// [`CLOSE_TIMEOUT`] from the start of the phase, but not beyond the end of the drain.
    Close,
}

/// The time of a drain: what is left of it for closing is kept from the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainTime {
    work_ends: Instant,
    ends: Instant,
}

impl DrainTime {
    /// From now until `ends`.
    pub(super) fn until(ends: Instant) -> Self {
        let whole = ends.saturating_duration_since(Instant::now());
        Self {
            work_ends: ends - CLOSE_TIMEOUT.min(whole / 5),
            ends,
        }
    }
}

impl Limit {
    /// The deadline of a phase that begins now.
    pub(super) fn ends_at(self, drain: DrainTime) -> Instant {
        match self {
            Self::Drain => drain.work_ends,
            Self::Close => drain.ends.min(Instant::now() + CLOSE_TIMEOUT),
        }
    }
}

/// The phases of a drain; the listeners stop after them.
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
    // All work is done by then, and the broker notices a closed socket: not worth a failure.
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
    fn no_phase_goes_beyond_the_time_of_the_drain() {
        for seconds in [0, 1, 25, 3_600] {
            let ends = Instant::now() + Duration::from_secs(seconds);
            let time = DrainTime::until(ends);
            assert!(STOP.iter().all(|phase| phase.limit.ends_at(time) <= ends));
            let kept = ends - Limit::Drain.ends_at(time);
            assert!(kept <= CLOSE_TIMEOUT, "{kept:?}");
            assert_eq!(kept.is_zero(), seconds == 0);
        }
    }

    #[test]
    fn only_what_may_take_for_ever_is_ended_by_a_drain() {
        let endless = START.iter().filter(|phase| phase.ends_with_drain);
        let parts: Vec<_> = endless.map(|phase| phase.part).collect();
        assert_eq!(parts, [StartPart::Database]);
    }
}
