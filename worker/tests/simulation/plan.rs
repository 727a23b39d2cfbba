//! What a seed decides before a run begins: the configuration, the load and the faults.

use std::time::Duration;

use super::{planted::Bug, random::Random, workflows::SHAPES};

/// How likely faults are, in a thousand, and how many there may be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// A call to the store is refused before it has an effect.
    pub(crate) store_refuses: u64,
    /// A write to the store is done, or not, and its answer is lost.
    pub(crate) answer_lost: u64,
    /// The store is slow: a call takes up to seconds.
    pub(crate) store_slow: u64,
    /// Periods in which the store is away.
    pub(crate) outages: u64,
    /// Periods in which somebody else holds the heads of tasks.
    pub(crate) locked: u64,
    /// A window reaches the broker in part, and its confirms are lost.
    pub(crate) confirms_lost: u64,
    /// The broker refuses a message.
    pub(crate) refused: u64,
    /// Cuts of a worker's links to the broker.
    pub(crate) cuts: u64,
    /// Periods in which a queue is missing, and mandatory messages come back.
    pub(crate) queue_missing: u64,
    /// The broker takes no publications for a while.
    pub(crate) blocked: u64,
    /// Workers that die.
    pub(crate) crashes: u64,
    /// Workers that stand still for a while.
    pub(crate) freezes: u64,
    /// Workers that are told to end, and drain.
    pub(crate) drains: u64,
    /// Calls of handlers that fail.
    pub(crate) calls_fail: u64,
    /// Batches of more commands are too slow for the store; 0 for none.
    pub(crate) commands_max: usize,
    /// Jumps of the store's clock, as when another server takes over.
    pub(crate) clock_jumps: u64,
    /// Restores of the store to what it was a while before.
    pub(crate) restores: u64,
}

/// A run as its seed wants it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) bug: Option<Bug>,
    pub(crate) workers: usize,
    /// How many of them run projections: those of others take turns with the first one's, and cost
    /// the time of a run.
    pub(crate) projecting: usize,
    pub(crate) lanes: usize,
    pub(crate) batch_max: usize,
    /// Bytes of commands that a batch may hold.
    pub(crate) batch_bytes: usize,
    pub(crate) batch_wait: Duration,
    pub(crate) outbox_max: u64,
    pub(crate) prefetch: usize,
    /// Indexes of [`SHAPES`].
    pub(crate) shapes: Vec<usize>,
    pub(crate) tasks: usize,
    /// Commands that producers send without being asked, for each task.
    pub(crate) commands: usize,
    /// People who ask for work.
    pub(crate) people: usize,
    /// How often each of them asks.
    pub(crate) asks: usize,
    /// Commands that are sent twice, in a thousand.
    pub(crate) duplicates: u64,
    /// From how many waiting messages the broker takes one.
    pub(crate) reorder: usize,
    /// Commands that are refused for good, in a thousand.
    pub(crate) poison: u64,
    /// Acts of operators.
    pub(crate) operator: usize,
    /// How long producers and people are at work, and faults happen.
    pub(crate) load: Duration,
    /// How many turns a step that takes no time may leave to whatever else is ready.
    pub(crate) turns: u64,
    /// How long the locks of a worker that died stay.
    pub(crate) linger: Duration,
    pub(crate) faults: Faults,
}

impl Plan {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut draw = Random::new(seed ^ 0x006c_6c61_6320_6e61);
        let shapes = 1 + draw.index(3);
        let shapes = (0..shapes).map(|_| draw.index(SHAPES.len())).collect();
        // One run in eight has no faults: what fails there is no matter of faults.
        let calm = draw.strikes(125);
        let mut often = |per_mille: u64, most: u64| {
            if calm || !draw.strikes(per_mille) {
                0
            } else {
                draw.between(1, most)
            }
        };
        let faults = Faults {
            store_refuses: often(500, 60),
            answer_lost: often(600, 120),
            store_slow: often(400, 40),
            outages: often(250, 2),
            locked: often(250, 2),
            confirms_lost: often(500, 150),
            refused: often(300, 120),
            cuts: often(400, 5),
            queue_missing: often(150, 2),
            blocked: often(200, 2),
            crashes: often(600, 4),
            freezes: often(150, 1),
            drains: often(150, 1),
            calls_fail: often(400, 400),
            commands_max: usize::try_from(often(150, 6)).unwrap(),
            clock_jumps: 0,
            restores: 0,
        };
        let mut plan = Self {
            seed,
            bug,
            workers: draw.pick(&[1, 1, 2, 2, 3]),
            projecting: draw.pick(&[1, 1, 1, 3]),
            lanes: draw.pick(&[1, 1, 2, 3]),
            batch_max: draw.pick(&[1, 3, 16, 256]),
            batch_bytes: 2 << 20,
            batch_wait: draw.millis(0, 20),
            outbox_max: draw.pick(&[3, 1_000]),
            prefetch: draw.pick(&[1, 4, 64]),
            shapes,
            tasks: 1 + draw.index(4),
            commands: 1 + draw.index(5),
            people: draw.index(4),
            asks: 1 + draw.index(4),
            duplicates: draw.between(0, 300),
            reorder: draw.pick(&[1, 1, 4, 16]),
            poison: draw.pick(&[0, 0, 60]),
            operator: draw.index(4),
            load: draw.millis(1_000, 4_000),
            turns: 0,
            linger: draw.millis(0, 1_500),
            faults,
        };
        // Drawn last, so that the plans of older seeds are what they were.
        if !calm && draw.strikes(150) {
            plan.faults.clock_jumps = draw.between(1, 2);
        }
        if !calm && draw.strikes(150) {
            plan.faults.restores = 1;
        }
        if draw.strikes(300) {
            plan.batch_bytes = 500;
        }
        if draw.strikes(400) {
            plan.turns = draw.between(1, 8);
        }
        plan
    }
}
