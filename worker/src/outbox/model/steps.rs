//! The steps of a model, and what each of them changes.

use super::{
    Chore, Guard, Lane, Model, Owner, Part, Parts, Promise, ROWS, Row, Sender, Set, TASKS, WORKERS,
    Window, Worker, World, has, only,
};

/// A step of a worker. Workers may change their numbers from step to step: they are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A batch begins and reads under its locks; with so many commands of each task.
    Begin(usize, [u8; TASKS]),
    Commit(usize),
    CommitWithoutAnswer(usize),
    /// The process dies between the commit of the events and that of the rows.
    CommitHalf(usize),
    /// Commands end without an answer of the store.
    GiveUp(usize),
    LookUp(usize),
    LookUpFails(usize),
    TakeWindow(usize),
    TakeWindowWithoutBroker(usize),
    /// The first chore of a publisher or a relay.
    DoChore(usize, SenderOf),
    /// The same, while another worker's relay claims: it finds these rows locked.
    DoChoreDuringClaim(usize, SenderOf, Set),
    /// A publisher's release fails, and the worker is told to end.
    ReleaseFails(usize),
    /// Outcomes of the messages in base 3: confirmed, taken without an answer, refused.
    Send(usize, SenderOf, u8),
    Delete(usize),
    /// The rows that are claimed.
    Claim(usize, Set),
    /// Nothing is known of the claim, or its events cannot be read.
    ClaimLost(usize, Set),
    GiveBack(usize),
    /// A worker that was told to end does so.
    End(usize),
    Crash(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SenderOf {
    Lane,
    Relay,
}

const SENDERS: [SenderOf; 2] = [SenderOf::Lane, SenderOf::Relay];

/// Steps with whether nothing goes wrong in them, and the worlds after them.
type Next = Vec<(Step, bool, World)>;

fn number(n: usize) -> u8 {
    u8::try_from(n).expect("counts of the model are small")
}

/// The members of a set.
fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..8).filter(move |member| has(set, *member))
}

fn subsets(set: Set) -> impl Iterator<Item = Set> {
    (0..=set).filter(move |subset| subset & !set == 0)
}

impl World {
    fn sender(&mut self, worker: usize, of: SenderOf) -> &mut Sender {
        match of {
            SenderOf::Lane => &mut self.workers[worker].publisher,
            SenderOf::Relay => &mut self.workers[worker].relay,
        }
    }

    fn rows_where(&self, holds: impl Fn(usize, &Row) -> bool) -> Set {
        let mut set = 0;
        for (position, row) in self.rows.iter().enumerate() {
            if row.is_there && holds(position, row) {
                set |= only(position);
            }
        }
        set
    }

    fn tasks_of(&self, rows: Set) -> Set {
        members(rows).fold(0, |set, row| set | only(self.rows[row].task.into()))
    }

    /// Rows, each whole.
    fn whole(&self, rows: Set) -> [u8; ROWS] {
        let mut from = [0; ROWS];
        for row in members(rows) {
            from[row] = self.rows[row].first;
        }
        from
    }

    fn break_promise(&mut self, promise: Promise) {
        self.broken = self.broken.or(Some(promise));
    }

    fn has_taken(&self, task: usize, version: u8) -> bool {
        has(self.taken[task], usize::from(version) - 1)
    }

    /// Checks what must hold of each world.
    fn check(&mut self) {
        for task in 0..TASKS {
            for version in 1..=self.versions[task] {
                let waits = self.rows.iter().any(|row| {
                    row.is_there
                        && usize::from(row.task) == task
                        && (row.from..=row.last).contains(&version)
                });
                if !waits && !self.has_taken(task, version) {
                    self.break_promise(Promise::Kept);
                }
            }
        }
    }

    fn delete(&mut self, rows: Set) {
        for position in members(rows) {
            let row = self.rows[position];
            let versions = row.first..=row.last;
            if row.is_there
                && !versions
                    .into_iter()
                    .all(|v| self.has_taken(row.task.into(), v))
            {
                self.break_promise(Promise::ConfirmedFirst);
            }
            self.rows[position] = Row {
                is_there: false,
                owner: Owner::Nobody,
                has_failed: false,
                ..row
            };
        }
        self.check();
    }

    /// Writes events and rows; returns the rows that are leased to the lane.
    fn write(&mut self, n: usize, commands: [u8; TASKS], relay_only: Set) -> Set {
        let mut leased = 0;
        for task in members(tasks_with(commands)) {
            let first = self.versions[task] + 1;
            self.versions[task] += commands[task];
            let position = usize::from(self.used);
            self.used += 1;
            let owner = if has(relay_only, task) {
                Owner::Nobody
            } else {
                leased |= only(position);
                Owner::Lane(number(n))
            };
            self.rows[position] = Row {
                task: number(task),
                first,
                last: self.versions[task],
                from: first,
                is_there: true,
                owner,
                has_failed: false,
            };
        }
        self.check();
        leased
    }

    /// Messages in the order in which they are sent: row, task, version.
    fn messages(&self, parts: Parts) -> ([(usize, usize, u8); ROWS], usize) {
        let (mut messages, mut count) = ([(0, 0, 0); ROWS], 0);
        for (row, part) in parts.iter().enumerate().filter(|(_, part)| part.to > 0) {
            for version in part.from..=part.to {
                messages[count] = (row, self.rows[row].task.into(), version);
                count += 1;
            }
        }
        (messages, count)
    }

    /// The same world in its simplest form: without rows that nobody knows, what a sender knew that
    /// has nothing to do, and which worker is which.
    fn simplest(mut self) -> Self {
        for worker in &mut self.workers {
            for sender in [&mut worker.publisher, &mut worker.relay] {
                if sender.is_idle() {
                    *sender = Sender::default();
                }
            }
        }
        let mut position = 0;
        while position < usize::from(self.used) {
            let is_known = self.workers.iter().any(|worker| worker.knows(position));
            if self.rows[position].is_there || is_known {
                position += 1;
            } else {
                self.forget(position);
            }
        }
        if self.workers[0] < self.workers[1] {
            return self;
        }
        let mut swapped = self;
        swapped.workers.swap(0, 1);
        for row in &mut swapped.rows {
            row.owner = match row.owner {
                Owner::Lane(worker) => Owner::Lane(1 - worker),
                Owner::Relay(worker) => Owner::Relay(1 - worker),
                owner => owner,
            };
        }
        swapped.min(self)
    }

    /// Closes the gap of a row that is gone.
    fn forget(&mut self, position: usize) {
        fn close<T: Copy + Default>(list: &mut [T; ROWS], position: usize) {
            list.copy_within(position + 1.., position);
            list[ROWS - 1] = T::default();
        }
        let cut = |set: &mut Set| {
            let below = only(position) - 1;
            *set = (*set & below) | (*set >> 1 & !below);
        };
        close(&mut self.rows, position);
        self.used -= 1;
        for worker in &mut self.workers {
            for window in &mut worker.windows {
                cut(&mut window.rows);
                cut(&mut window.left);
            }
            cut(&mut worker.deletions);
            if let Lane::Written { rows, .. } = &mut worker.lane {
                cut(rows);
            }
            for sender in [&mut worker.publisher, &mut worker.relay] {
                close(&mut sender.now, position);
                close(&mut sender.later, position);
                cut(&mut sender.had_failed);
                for chore in &mut sender.chores {
                    match chore {
                        Chore::Release { from, .. } => close(from, position),
                        Chore::Delete(rows) => cut(rows),
                        Chore::None | Chore::Hold(_) => {}
                    }
                }
            }
        }
    }
}

impl Model {
    pub(super) fn begin(&self) -> World {
        World {
            workers: [Worker::default(); WORKERS],
            rows: [Row::default(); ROWS],
            used: 0,
            waiting: self.commands,
            versions: [0; TASKS],
            taken: [0; TASKS],
            faults: self.faults,
            broken: None,
        }
    }

    /// Whether everything is decided, published and deleted.
    pub(super) fn is_done(&self, world: &World) -> bool {
        world.versions == self.commands
            && world.rows_where(|_, _| true) == 0
            && (0..TASKS)
                .all(|task| (1..=self.commands[task]).all(|version| world.has_taken(task, version)))
    }

    /// All steps from a world.
    pub(super) fn steps(&self, world: &World, next: &mut Next) {
        // A publisher that takes its next window touches nothing of others: whatever else may happen
        // now may as well happen after it.
        for (n, worker) in world.workers.iter().enumerate() {
            if worker.publisher.is_idle() && worker.windows[0] != Window::default() {
                self.take_windows(world, n, next);
                return;
            }
        }
        for n in 0..WORKERS {
            self.lane(world, n, next);
            for of in SENDERS {
                self.sender(world, n, of, next);
            }
            let deletions = world.workers[n].deletions;
            if deletions != 0 {
                go(world, next, Step::Delete(n), false, |world| {
                    world.workers[n].deletions = 0;
                    world.delete(deletions);
                });
            }
            crash(world, n, next);
        }
    }

    fn lane(&self, world: &World, n: usize, next: &mut Next) {
        let worker = &world.workers[n];
        match worker.lane {
            Lane::Idle => {
                self.batches(world, n, next);
                if worker.unknown != 0 && !worker.gave_up {
                    go(world, next, Step::GiveUp(n), true, |world| {
                        if self.guards(Guard::LookUpAtEnd) {
                            world.workers[n].lane = Lane::Written { rows: 0, held: 0 };
                        } else {
                            world.workers[n].gave_up = true;
                        }
                    });
                }
            }
            Lane::Open {
                commands,
                relay_only,
                held,
            } => {
                go(world, next, Step::Commit(n), false, |world| {
                    let rows = world.write(n, commands, relay_only);
                    let worker = &mut world.workers[n];
                    if worker.unknown == 0 || !self.guards(Guard::LookUp) {
                        worker.unknown = 0;
                        worker.lane = Lane::Idle;
                        hand_over(
                            worker,
                            Window {
                                rows,
                                held,
                                ..Window::default()
                            },
                        );
                    } else {
                        worker.lane = Lane::Written { rows, held };
                    }
                });
                go(world, next, Step::CommitWithoutAnswer(n), true, |world| {
                    world.write(n, commands, relay_only);
                    let worker = &mut world.workers[n];
                    worker.lane = Lane::Idle;
                    worker.unknown |= tasks_with(commands);
                });
                if !self.guards(Guard::OneCommit) {
                    go(world, next, Step::CommitHalf(n), true, |world| {
                        for (version, count) in world.versions.iter_mut().zip(commands) {
                            *version += count;
                        }
                        world.workers[n] = Worker::default();
                        world.check();
                    });
                }
            }
            Lane::Written { rows, held } => {
                let tasks = world.tasks_of(rows);
                go(world, next, Step::LookUp(n), false, |world| {
                    let asked = world.workers[n].unknown | tasks;
                    let left = world.rows_where(|position, row| {
                        row.owner == Owner::Lane(number(n))
                            && has(asked, row.task.into())
                            && !has(rows, position)
                            && !world.workers[n].lane_knows(position)
                    });
                    let worker = &mut world.workers[n];
                    worker.lane = Lane::Idle;
                    worker.gave_up = false;
                    let mut unsure = std::mem::take(&mut worker.unknown);
                    if !self.guards(Guard::HoldUnknown) {
                        unsure = 0;
                    }
                    hand_over(
                        worker,
                        Window {
                            rows,
                            left,
                            unsure,
                            held,
                        },
                    );
                });
                go(world, next, Step::LookUpFails(n), true, |world| {
                    let worker = &mut world.workers[n];
                    worker.lane = Lane::Idle;
                    worker.unknown |= tasks;
                });
            }
        }
    }

    /// The batches that may begin: of commands that wait, and a batch that runs again although its
    /// commands have been decided.
    fn batches(&self, world: &World, n: usize, next: &mut Next) {
        let is_locked = |task: usize| {
            let locks =
                |lane: Lane| matches!(lane, Lane::Open { commands, .. } if commands[task] > 0);
            self.guards(Guard::HeadLock) && world.workers.iter().any(|worker| locks(worker.lane))
        };
        let most = |task| {
            if is_locked(task) {
                0
            } else {
                world.waiting[task]
            }
        };
        let worker = &world.workers[n];
        for first in 0..=most(0) {
            for second in 0..=most(1) {
                let commands = [first, second];
                if commands == [0; TASKS] && (worker.unknown == 0 || worker.gave_up) {
                    continue;
                }
                let tasks = tasks_with(commands);
                let others = world.rows_where(|_, row| row.owner != Owner::Lane(number(n)));
                let own = world.rows_where(|_, _| true) & !others;
                let (others, own) = (world.tasks_of(others), world.tasks_of(own) & !others);
                // A lease of its own that has run out counts as one of others.
                for ended in subsets(own & tasks) {
                    let relay_only = if self.guards(Guard::RelayOnly) {
                        tasks & (others | ended)
                    } else {
                        0
                    };
                    go(world, next, Step::Begin(n, commands), ended != 0, |world| {
                        world.waiting[0] -= first;
                        world.waiting[1] -= second;
                        world.workers[n].lane = Lane::Open {
                            commands,
                            relay_only,
                            held: 0,
                        };
                    });
                }
            }
        }
    }

    fn take_windows(&self, world: &World, n: usize, next: &mut Next) {
        let step = Step::TakeWindow(n);
        go(world, next, step, false, |world| {
            self.take_window(world, n, false);
        });
        let step = Step::TakeWindowWithoutBroker(n);
        go(world, next, step, true, |world| {
            self.take_window(world, n, true);
        });
    }

    fn take_window(&self, world: &mut World, n: usize, without_broker: bool) {
        let worker = &mut world.workers[n];
        let window = worker.windows[0];
        worker.windows.copy_within(1.., 0);
        worker.windows[ROWS - 1] = Window::default();
        let mut sender = Sender::default();
        let found = world.tasks_of(window.left) | window.unsure;
        self.leave(&mut sender, world.whole(window.left), found);
        let held = window.held | found | world.workers[n].left_leased;
        let is_behind = |row: &usize| without_broker || has(held, world.rows[*row].task.into());
        let behind = members(window.rows).filter(is_behind);
        let behind = behind.fold(0, |set, row| set | only(row));
        let released = if self.guards(Guard::ReleaseBehind) {
            behind
        } else {
            0
        };
        self.leave(&mut sender, world.whole(released), world.tasks_of(behind));
        for row in members(window.rows & !behind) {
            sender.now[row] = Part {
                from: world.rows[row].first,
                to: world.rows[row].last,
            };
        }
        world.workers[n].publisher = sender;
    }

    /// Leaves rows, and the tasks from then on, to the relay.
    fn leave(&self, sender: &mut Sender, from: [u8; ROWS], tasks: Set) {
        let release = Chore::Release {
            from,
            failed: false,
        };
        let chores = if self.guards(Guard::HoldAfterRelease) {
            [release, Chore::Hold(tasks)]
        } else {
            [Chore::Hold(tasks), release]
        };
        for chore in chores {
            sender.add(chore);
        }
    }

    /// What a publisher or a relay may do next.
    fn sender(&self, world: &World, n: usize, of: SenderOf, next: &mut Next) {
        let worker = &world.workers[n];
        let sender = match of {
            SenderOf::Lane => &worker.publisher,
            SenderOf::Relay => &worker.relay,
        };
        if sender.chores[0] != Chore::None {
            go(world, next, Step::DoChore(n, of), false, |world| {
                self.do_chore(world, n, of);
            });
            self.chore_during_claim(world, n, of, next);
            if let (SenderOf::Lane, Chore::Release { from, .. }) = (of, sender.chores[0]) {
                go(world, next, Step::ReleaseFails(n), true, |world| {
                    let rows = (0..ROWS).filter(|row| from[*row] > 0);
                    let tasks = world.tasks_of(rows.fold(0, |set, row| set | only(row)));
                    let worker = &mut world.workers[n];
                    worker.is_ending = true;
                    if self.guards(Guard::HoldUnreleased) {
                        worker.left_leased |= tasks;
                    }
                    worker.publisher.chores.copy_within(1.., 0);
                    worker.publisher.chores[3] = Chore::None;
                });
            }
        } else if sender.now != Parts::default() {
            let (_, count) = world.messages(sender.now);
            for outcomes in 0..3_u8.pow(u32::from(number(count))) {
                let step = Step::Send(n, of, outcomes);
                go(world, next, step, outcomes != 0, |world| {
                    self.send(world, n, of, outcomes);
                });
            }
        } else if of == SenderOf::Relay && worker.unsure {
            go(world, next, Step::GiveBack(n), false, |world| {
                world.workers[n].unsure = false;
                let owner = self.relay(n);
                let rows = world.rows_where(|_, row| row.owner == owner);
                if self.guards(Guard::ClaimAnew) {
                    let from = world.whole(rows);
                    let failed = false;
                    world.workers[n].relay.add(Chore::Release { from, failed });
                } else {
                    self.adopt(world, n, rows);
                }
            });
        } else if of == SenderOf::Relay {
            for (rows, is_fault) in self.claims(world, n, 0) {
                go(world, next, Step::Claim(n, rows), is_fault, |world| {
                    self.claim(world, n, rows);
                });
                if world.faults > u8::from(is_fault) {
                    go(world, next, Step::ClaimLost(n, rows), true, |world| {
                        world.faults -= u8::from(is_fault);
                        self.claim(world, n, rows);
                        world.workers[n].relay = Sender::default();
                        world.workers[n].unsure = true;
                    });
                }
            }
        }
    }

    fn do_chore(&self, world: &mut World, n: usize, of: SenderOf) {
        let sender = world.sender(n, of);
        let chore = sender.chores[0];
        sender.chores.copy_within(1.., 0);
        sender.chores[3] = Chore::None;
        match chore {
            Chore::None => {}
            Chore::Delete(rows) => world.delete(rows),
            Chore::Release { from, failed } => {
                for (row, from) in world.rows.iter_mut().zip(from) {
                    if from == 0 || !row.is_there {
                        continue;
                    }
                    row.owner = Owner::Nobody;
                    if from > row.from {
                        row.from = from;
                        row.has_failed = false;
                    }
                    row.has_failed |= failed;
                }
                world.check();
            }
            Chore::Hold(tasks) => {
                let worker = &mut world.workers[n];
                for window in &mut worker.windows {
                    if *window != Window::default() {
                        window.held |= tasks;
                    }
                }
                if let Lane::Open { held, .. } | Lane::Written { held, .. } = &mut worker.lane
                    && self.guards(Guard::HoldBegun)
                {
                    *held |= tasks;
                }
            }
        }
    }

    /// While rows are released, a claim skips them. It may then not claim what is behind them.
    fn chore_during_claim(&self, world: &World, n: usize, of: SenderOf, next: &mut Next) {
        let Chore::Release { from, .. } = world.clone().sender(n, of).chores[0] else {
            return;
        };
        let locked = (0..ROWS).fold(0, |set, row| set | (Set::from(from[row] > 0) << row));
        for other in (0..WORKERS).filter(|other| (*other, SenderOf::Relay) != (n, of)) {
            let relay = &world.workers[other];
            if !relay.relay.is_idle() || relay.unsure {
                continue;
            }
            for (rows, _) in self.claims(world, other, locked) {
                let step = Step::DoChoreDuringClaim(n, of, rows);
                go(world, next, step, true, |world| {
                    self.claim(world, other, rows);
                    self.do_chore(world, n, of);
                });
            }
        }
    }

    fn relay(&self, n: usize) -> Owner {
        if self.guards(Guard::RelayName) {
            Owner::Relay(number(n))
        } else {
            Owner::Lane(number(n))
        }
    }

    /// The sets of rows that a relay may claim, and whether a lease must have run out for it under a
    /// process that is alive. A claim may be full before it has all.
    fn claims(&self, world: &World, n: usize, locked: Set) -> Vec<(Set, bool)> {
        let leased = world.rows_where(|_, row| row.is_leased());
        let alive = world.rows_where(|_, row| row.is_leased() && row.owner != Owner::Dead);
        let may_end = if self.guards(Guard::LeaseEnds) {
            leased
        } else {
            0
        };
        let mut claims: Vec<(Set, bool)> = Vec::new();
        for ended in subsets(may_end) {
            for backing_off in subsets(world.rows_where(|_, row| row.has_failed)) {
                let mut rows = 0;
                for row in members(self.claimable(world, n, leased & !ended, backing_off, locked)) {
                    rows |= only(row);
                    if claims.iter().all(|(known, _)| *known != rows) {
                        claims.push((rows, rows & alive != 0));
                    }
                }
            }
        }
        claims
    }

    fn claimable(
        &self,
        world: &World,
        n: usize,
        leased: Set,
        backing_off: Set,
        locked: Set,
    ) -> Set {
        let others = world.rows_where(|_, row| row.owner != self.relay(n)) & leased;
        let mut before = 0;
        for (guard, rows) in [
            (Guard::ClaimBehindLeased, others),
            (Guard::ClaimBehindFailed, backing_off),
            (Guard::ClaimBehindLocked, locked),
        ] {
            if self.guards(guard) {
                before |= rows;
            }
        }
        world.rows_where(|position, row| {
            let is_free = !has(leased | backing_off | locked, position);
            let is_older = |older: usize| older < position && world.rows[older].task == row.task;
            is_free && !members(before).any(is_older)
        })
    }

    fn claim(&self, world: &mut World, n: usize, rows: Set) {
        for row in members(rows) {
            world.rows[row].owner = self.relay(n);
        }
        self.adopt(world, n, rows);
    }

    /// Divides the messages of rows into those that are sent now and those behind a message that has
    /// failed before.
    fn adopt(&self, world: &mut World, n: usize, rows: Set) {
        let mut sender = Sender::default();
        let mut probed = 0;
        for position in members(rows) {
            let row = world.rows[position];
            let all = Part {
                from: row.from,
                to: row.last,
            };
            if row.has_failed {
                sender.had_failed |= only(position);
            }
            if has(probed, row.task.into()) {
                sender.later[position] = all;
            } else if row.has_failed && self.guards(Guard::ProbeFirst) {
                probed |= only(row.task.into());
                sender.now[position] = Part {
                    from: row.from,
                    to: row.from,
                };
                if row.from < row.last {
                    sender.later[position] = Part {
                        from: row.from + 1,
                        to: row.last,
                    };
                }
            } else {
                sender.now[position] = all;
            }
        }
        world.workers[n].relay = sender;
    }

    /// Sends the window, and judges its outcomes.
    fn send(&self, world: &mut World, n: usize, of: SenderOf, mut outcomes: u8) {
        let sender = *world.sender(n, of);
        let (messages, count) = world.messages(sender.now);
        let mut failed = [0; ROWS];
        for (index, (row, task, version)) in messages[..count].iter().copied().enumerate() {
            let outcome = outcomes % 3;
            outcomes /= 3;
            if outcome < 2 && !world.has_taken(task, version) {
                // Those ahead of it in the window that fail for the first time are the exception.
                let is_ahead = |earlier: u8| {
                    messages[..index].iter().any(|(row, of, version)| {
                        let is_probe =
                            has(sender.had_failed, *row) && sender.now[*row].from == *version;
                        (*of, *version) == (task, earlier) && !is_probe
                    })
                };
                let mut earlier = 1..version;
                if !earlier.all(|earlier| world.has_taken(task, earlier) || is_ahead(earlier)) {
                    world.break_promise(Promise::Order);
                }
                world.taken[task] |= only(usize::from(version) - 1);
            }
            if outcome > 0 && failed[row] == 0 {
                failed[row] = version;
            }
        }
        let (mut held, mut confirmed) = (0, 0);
        let (mut first, mut behind) = ([0; ROWS], [0; ROWS]);
        for position in 0..ROWS {
            let task = usize::from(world.rows[position].task);
            let version = failed[position];
            if sender.now[position].to == 0 {
                continue;
            }
            if version == 0 {
                if sender.later[position].to == 0 || !self.guards(Guard::LaterMessages) {
                    confirmed |= only(position);
                }
                continue;
            }
            let from = if self.guards(Guard::FromFirstFailed) {
                version
            } else {
                version + 1
            };
            let released = if has(held, task) {
                &mut behind
            } else {
                &mut first
            };
            released[position] = from;
            held |= only(task);
            let is_begun = version > sender.now[position].from;
            if !self.guards(Guard::ConfirmedOnly) || (is_begun && !self.guards(Guard::WholeRow)) {
                confirmed |= only(position);
            }
        }
        let chores = [
            Chore::Release {
                from: behind,
                failed: false,
            },
            Chore::Release {
                from: first,
                failed: true,
            },
        ];
        let mut after = Sender::default();
        match of {
            SenderOf::Lane => {
                world.workers[n].deletions |= confirmed;
                for chore in chores {
                    after.add(chore);
                }
                if self.guards(Guard::HoldFailed) {
                    after.add(Chore::Hold(held));
                }
            }
            SenderOf::Relay => {
                after.add(Chore::Delete(confirmed));
                for chore in chores {
                    after.add(chore);
                }
                let mut blocked = [0; ROWS];
                for (row, part) in sender
                    .later
                    .iter()
                    .enumerate()
                    .filter(|(_, part)| part.to > 0)
                {
                    let is_held = has(held, world.rows[row].task.into());
                    if !is_held || !self.guards(Guard::ProbeHolds) {
                        after.now[row] = *part;
                    } else if failed[row] == 0 {
                        blocked[row] = world.rows[row].first;
                    }
                }
                after.add(Chore::Release {
                    from: blocked,
                    failed: false,
                });
            }
        }
        *world.sender(n, of) = after;
    }
}

/// The process dies; another one takes its place.
fn crash(world: &World, n: usize, next: &mut Next) {
    let has_rows = world.rows_where(|_, row| is_of(row.owner, n)) != 0;
    if world.workers[n] == Worker::default() && !has_rows {
        return;
    }
    go(world, next, Step::Crash(n), true, |world| end(world, n));
    if world.workers[n].is_ending {
        go(world, next, Step::End(n), false, |world| end(world, n));
    }
}

fn is_of(owner: Owner, n: usize) -> bool {
    owner == Owner::Lane(number(n)) || owner == Owner::Relay(number(n))
}

/// A process is gone.
fn end(world: &mut World, n: usize) {
    // The broker delivers again what was not decided.
    if let Lane::Open { commands, .. } = world.workers[n].lane {
        world.waiting[0] += commands[0];
        world.waiting[1] += commands[1];
    }
    world.workers[n] = Worker::default();
    for row in world.rows.iter_mut().filter(|row| is_of(row.owner, n)) {
        row.owner = Owner::Dead;
    }
}

/// Adds a step, unless it is a fault too many.
fn go(world: &World, next: &mut Next, step: Step, is_fault: bool, change: impl FnOnce(&mut World)) {
    if is_fault && world.faults == 0 {
        return;
    }
    let mut after = *world;
    after.faults -= u8::from(is_fault);
    change(&mut after);
    next.push((step, !is_fault, after.simplest()));
}

fn tasks_with(commands: [u8; TASKS]) -> Set {
    members((1 << TASKS) - 1)
        .filter(|task| commands[*task] > 0)
        .fold(0, |set, task| set | only(task))
}

fn hand_over(worker: &mut Worker, window: Window) {
    let free = worker
        .windows
        .iter()
        .position(|window| *window == Window::default());
    let is_empty = window.rows | window.left | window.unsure == 0;
    if let (false, Some(free)) = (is_empty, free) {
        worker.windows[free] = window;
    }
}
