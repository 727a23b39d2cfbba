//! A model of the hand-over between lanes and relays, searched exhaustively.
//!
//! Two workers, each with a lane, its publisher, a deleter and a relay, share a store and a broker.
//! A step of the model is one transaction, one window on the wire, or one note in memory, and any
//! step of any worker may come next. What goes wrong may go wrong at any moment: a crash, a lease
//! that runs out under a process that is alive, a reply to COMMIT or a confirm that is lost, a
//! message that is returned, events that cannot be read, a broker that is away. Only the number of
//! these faults is bounded ([`Model::faults`]).
//!
//! Each condition that keeps the promises is a [`Guard`], named after the code that it stands for.
//! The tests check that no order of steps breaks a [`Promise`], and that each guard is needed:
//! without it, some order does.
//!
//! What time does is left out, which only adds behaviours: a lease ends when another publisher finds
//! it ended, and a row that has failed may back off or not, whenever somebody looks. A message
//! reaches the broker when it is sent: one that arrives later is behind the same messages.
//!
//! `stateright` was not taken: its check that something happens in the end holds for graphs without
//! cycles only, and here a row may be claimed and given back for ever.

mod search;
mod steps;

/// Tasks; a task is a number below this.
const TASKS: usize = 2;
/// Workers; a worker is a number below this.
const WORKERS: usize = 2;
/// Rows of the outbox at a time: one for each command at most.
const ROWS: usize = 3;

/// A set of tasks, or of positions of rows.
type Set = u8;

fn has(set: Set, member: usize) -> bool {
    set >> member & 1 == 1
}

fn only(member: usize) -> Set {
    1 << member
}

/// What keeps the promises. Each names the code that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Events and rows are one transaction: `BatchTx::commit`.
    OneCommit,
    /// Batches of a task come one after the other: the locks of `EventStore::open`.
    HeadLock,
    /// A commit leaves its rows to the relay behind those of others: `OpenedTask::relay_only`.
    RelayOnly,
    /// A relay is another publisher than the lanes of its process: `relay_id`.
    RelayName,
    /// Rows of the dead are taken over: the lease in `Outbox::claim`.
    LeaseEnds,
    /// Nothing is claimed behind a row that is leased to another: `Outbox::claim`.
    ClaimBehindLeased,
    /// Nothing is claimed behind a row that backs off: `Outbox::claim`.
    ClaimBehindFailed,
    /// Nothing is claimed behind a row that is locked at the moment: `Outbox::claim` of Postgres.
    ClaimBehindLocked,
    /// A returned message is not confirmed: `failure_text`.
    ConfirmedOnly,
    /// A row is confirmed with all its messages: `judge`.
    WholeRow,
    /// A row of which messages follow in another window is not confirmed: `judge`, `later`.
    LaterMessages,
    /// A row goes back from the first message that failed: `ReleasedRow::from_version`.
    FromFirstFailed,
    /// A lane sends nothing behind a message that failed: `LanePublisher::end_messages`.
    HoldFailed,
    /// A hold covers the batch that is under way: `BatchNumbers::begin` before the store is asked.
    HoldBegun,
    /// A hold comes after the release: `LanePublisher::leave_to_relay`.
    HoldAfterRelease,
    /// A hold lasts where a worker that ends has left the row leased to itself: `LanePublisher::hold`.
    HoldUnreleased,
    /// What a lane may not send goes to the relay: `LanePublisher::publish`, `behind`.
    ReleaseBehind,
    /// A message that has failed before is sent alone: `split_probes`.
    ProbeFirst,
    /// What waits behind it goes back if it fails again: `Relay::publish`, `blocked`.
    ProbeHolds,
    /// Rows of an unknown commit are looked up: `LaneRows::of_written`.
    LookUp,
    /// They are looked up although no batch comes any more: `Lane::give_up`.
    LookUpAtEnd,
    /// A lane leaves tasks of an unknown commit to the relay, whatever it finds: `LeftToRelay::tasks`.
    HoldUnknown,
    /// Rows of a claim that came to nothing are claimed anew: `Relay::give_back`.
    ClaimAnew,
}

impl Guard {
    const ALL: [Self; 23] = [
        Self::OneCommit,
        Self::HeadLock,
        Self::RelayOnly,
        Self::RelayName,
        Self::LeaseEnds,
        Self::ClaimBehindLeased,
        Self::ClaimBehindFailed,
        Self::ClaimBehindLocked,
        Self::ConfirmedOnly,
        Self::WholeRow,
        Self::LaterMessages,
        Self::FromFirstFailed,
        Self::HoldFailed,
        Self::HoldBegun,
        Self::HoldAfterRelease,
        Self::HoldUnreleased,
        Self::ReleaseBehind,
        Self::ProbeFirst,
        Self::ProbeHolds,
        Self::LookUp,
        Self::LookUpAtEnd,
        Self::HoldUnknown,
        Self::ClaimAnew,
    ];
}

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Promise {
    /// The broker takes the messages of a task in the order of versions. The one exception: those
    /// that travel in one window with a message that is refused for the first time.
    Order,
    /// A committed event is at the broker or in the outbox.
    Kept,
    /// A row is deleted only after all its messages were confirmed.
    ConfirmedFirst,
    /// Once nothing goes wrong any more, all is published and the outbox is empty.
    Ends,
}

/// What is searched.
#[derive(Debug)]
struct Model {
    /// How many commands each task gets. Each has one event, and its message.
    commands: [u8; TASKS],
    /// How much may go wrong.
    faults: u8,
    /// The guard that is left out.
    without: Option<Guard>,
}

impl Model {
    fn guards(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct World {
    workers: [Worker; WORKERS],
    /// The outbox, and rows that are gone but that somebody still has in memory.
    rows: [Row; ROWS],
    /// How many of these there are.
    used: u8,
    /// Commands that no batch has taken.
    waiting: [u8; TASKS],
    /// The versions of the tasks.
    versions: [u8; TASKS],
    /// The messages that the broker has taken, by version less one.
    taken: [Set; TASKS],
    faults: u8,
    broken: Option<Promise>,
}

/// To whom a row is leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Owner {
    #[default]
    Nobody,
    Lane(u8),
    Relay(u8),
    /// To a process that is gone.
    Dead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Row {
    task: u8,
    /// The versions that it had when it was written.
    first: u8,
    last: u8,
    /// The first version that is still to be published.
    from: u8,
    /// Whether it is in the outbox.
    is_there: bool,
    owner: Owner,
    /// Whether its first message has failed.
    has_failed: bool,
}

/// Messages of a row, from a version to a version; none if that is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Part {
    from: u8,
    to: u8,
}

/// Messages in memory, by row.
type Parts = [Part; ROWS];

/// One thing that a sender has to do before it sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Chore {
    #[default]
    None,
    Delete(Set),
    /// Rows go back to the store, each from a version; 0 for rows that do not.
    Release {
        from: [u8; ROWS],
        failed: bool,
    },
    /// Tasks are left to the relay, in all windows of batches that have begun.
    Hold(Set),
}

/// A lane's publisher, or a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sender {
    chores: [Chore; 4],
    /// The next window.
    now: Parts,
    /// Messages that follow once it is confirmed.
    later: Parts,
    /// Rows whose first message had failed when they were claimed.
    had_failed: Set,
}

/// What a lane hands to its publisher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Window {
    rows: Set,
    /// Rows that were found after an unknown commit.
    left: Set,
    /// Tasks of unknown commits.
    unsure: Set,
    /// Tasks that were left to the relay since the batch has begun.
    held: Set,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Lane {
    #[default]
    Idle,
    /// A transaction: how many commands of each task it decides, and what it read under the locks.
    Open {
        commands: [u8; TASKS],
        relay_only: Set,
        held: Set,
    },
    /// Committed; rows of earlier unknown commits are still to be looked up.
    Written { rows: Set, held: Set },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Worker {
    lane: Lane,
    /// Tasks of commits without an answer.
    unknown: Set,
    /// Whether the lane has ended the commands of such a commit without an answer.
    gave_up: bool,
    windows: [Window; ROWS],
    publisher: Sender,
    /// Tasks of rows that it could not release, and leaves leased to itself.
    left_leased: Set,
    /// Whether it ends: it does not wait for the store.
    is_ending: bool,
    deletions: Set,
    relay: Sender,
    /// Whether the relay may have claimed rows that it does not have in memory.
    unsure: bool,
}

impl Row {
    fn is_leased(self) -> bool {
        self.is_there && self.owner != Owner::Nobody
    }
}

impl Sender {
    fn is_idle(&self) -> bool {
        self.chores[0] == Chore::None && self.now == Parts::default()
    }

    fn add(&mut self, chore: Chore) {
        let is_empty = match chore {
            Chore::None => true,
            Chore::Delete(set) | Chore::Hold(set) => set == 0,
            Chore::Release { from, .. } => from == [0; ROWS],
        };
        let free = self.chores.iter().position(|chore| *chore == Chore::None);
        if let (false, Some(free)) = (is_empty, free) {
            self.chores[free] = chore;
        }
    }
}

impl Worker {
    /// Whether its lane knows of a row.
    fn lane_knows(&self, row: usize) -> bool {
        let releases =
            |chore: &Chore| matches!(chore, Chore::Release { from, .. } if from[row] > 0);
        has(self.deletions, row)
            || self.publisher.now[row].to > 0
            || self
                .windows
                .iter()
                .any(|window| has(window.rows | window.left, row))
            || self.publisher.chores.iter().any(releases)
    }

    /// Whether anything of it names a row.
    fn knows(&self, row: usize) -> bool {
        let names = |chore: &Chore| match chore {
            Chore::Release { from, .. } => from[row] > 0,
            Chore::Delete(rows) => has(*rows, row),
            Chore::None | Chore::Hold(_) => false,
        };
        self.lane_knows(row)
            || matches!(self.lane, Lane::Written { rows, .. } if has(rows, row))
            || self.relay.now[row].to > 0
            || self.relay.later[row].to > 0
            || self.relay.chores.iter().any(names)
    }
}

/// Searches whose sizes suit every run of the tests; `GLYPH_MODEL=full` adds larger ones.
mod tests {
    use std::time::Instant;

    use super::*;

    fn search(commands: [u8; TASKS], faults: u8, without: Option<Guard>) -> search::Found {
        let begun = Instant::now();
        let model = Model {
            commands,
            faults,
            without,
        };
        let found = model.search();
        let (states, steps) = (found.states, found.steps);
        let broken = found.broken.as_ref().map(|(promise, _)| promise);
        eprintln!(
            "commands {commands:?}, faults {faults}, without {without:?}: {states} states, {steps} steps, broken {broken:?}, {:?}",
            begun.elapsed()
        );
        found
    }

    #[test]
    fn no_order_of_steps_breaks_a_promise() {
        let mut sizes = vec![([2, 0], 3), ([3, 0], 2), ([2, 1], 1)];
        if std::env::var("GLYPH_MODEL").is_ok_and(|size| size == "full") {
            sizes.extend([([2, 1], 2), ([2, 0], 5), ([3, 0], 3)]);
        }
        for (commands, faults) in sizes {
            let found = search(commands, faults, None);
            assert_eq!(found.broken, None);
        }
    }

    #[test]
    fn every_guard_is_needed() {
        for guard in Guard::ALL {
            let found = search([2, 0], 3, Some(guard));
            assert!(found.broken.is_some(), "nothing needs {guard:?}");
        }
    }
}
