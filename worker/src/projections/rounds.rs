//! Rounds, in which the projections of a process read the log together.
//!
//! Reading the log costs more than folding it. What one projection has read, the others find in the
//! store's memory for a moment, if they follow closely; so while there is more to read, each waits
//! until the others have done their page too. One that is slow, blocked or failing keeps the others
//! for [`PATIENCE`] once; they go on without it, and it joins again when it can.
//!
//! A round begins, too, once the process has committed about a page of events since the last one: what it
//! has committed stays in the store's memory for a moment only.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use glyph_workflow_engine::limits::FOLDED_MAX;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long a projection that has more to read waits for one that is still at its page.
const PATIENCE: Duration = Duration::from_millis(500);

/// Events for which a round begins: a page, less what is committed until it is read. Of events of several
/// kilobytes memory keeps fewer, and they are read.
const WORTH_A_ROUND: u64 = FOLDED_MAX as u64 * 4 / 5;

/// The rounds of one process.
#[derive(Clone, Debug, Default)]
pub struct Rounds(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    begun: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the round.
    round: u64,
    /// Projections that take part in it.
    members: usize,
    /// Those of them that have done their page.
    waiting: usize,
    /// Whether one of those found that there is more to read, or much was committed.
    more: bool,
    /// Events that the process has committed since the round began.
    committed: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next round, with those that are waiting.
    fn begin(&self, state: &mut State) {
        state.round += 1;
        state.members = state.waiting;
        state.waiting = 0;
        state.more = false;
        state.committed = 0;
        self.begun.notify_waiters();
    }

    /// Begins the next round if there is more to read and nobody is still at a page.
    fn begin_if_due(&self, state: &mut State) {
        if state.more && state.waiting == state.members && state.members > 0 {
            self.begin(state);
        }
    }
}

impl Rounds {
    /// A projection that is about to do its first page.
    pub(super) fn member(&self) -> Member {
        let mut state = self.0.state();
        state.members += 1;
        Member {
            shared: Arc::clone(&self.0),
            round: Some(state.round),
        }
    }

    /// Follows, from now on and until stopped, how many events the process has committed.
    pub fn follow(
        self,
        mut committed: watch::Receiver<u64>,
        stopping: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        let mut counted = *committed.borrow_and_update();
        async move {
            while let Some(Ok(())) = stopping.run_until_cancelled(committed.changed()).await {
                let now = *committed.borrow_and_update();
                self.committed(now - counted);
                counted = now;
            }
        }
    }

    fn committed(&self, events: u64) {
        let mut state = self.0.state();
        state.committed += events;
        state.more |= state.committed >= WORTH_A_ROUND;
        self.0.begin_if_due(&mut state);
    }
}

/// One projection.
#[derive(Debug)]
pub(super) struct Member {
    shared: Arc<Shared>,
    /// The round that counts it, or did; none after it has left.
    round: Option<u64>,
}

impl Member {
    /// Waits, after a page, for the time of the next one: at once when every projection has done its
    /// page if one of them, maybe this, has found `more`, or much was committed; after `idle` otherwise.
    pub(super) async fn next(&mut self, more: bool, idle: Duration) {
        let shared = Arc::clone(&self.shared);
        let begun = shared.begun.notified();
        tokio::pin!(begun);
        let mut waiting = {
            let mut state = shared.state();
            // It is told of every round that begins from here on.
            begun.as_mut().enable();
            let round = state.round;
            // A round that has begun without it does not count it.
            if self.round.replace(round) != Some(round) {
                state.members += 1;
            }
            state.waiting += 1;
            state.more |= more;
            shared.begin_if_due(&mut state);
            Waiting {
                shared: &shared,
                round,
                gives_up_on_others: false,
                has_ended: false,
            }
        };
        let is_told = timeout(if more { PATIENCE } else { idle }, begun).await;
        waiting.gives_up_on_others = more && is_told.is_err();
        self.round = Some(waiting.end());
    }

    /// Leaves the round, so that nobody waits.
    pub(super) fn leave(&mut self) {
        let mut state = self.shared.state();
        if self.round.take() == Some(state.round) {
            state.members -= 1;
            self.shared.begin_if_due(&mut state);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A member that waits in a round. Dropped, it waits no more.
struct Waiting<'s> {
    shared: &'s Shared,
    round: u64,
    gives_up_on_others: bool,
    has_ended: bool,
}

impl Waiting<'_> {
    /// Waits no more. Returns the round that counts the member.
    fn end(&mut self) -> u64 {
        self.has_ended = true;
        let mut state = self.shared.state();
        if state.round == self.round {
            if self.gives_up_on_others {
                self.shared.begin(&mut state);
            } else {
                state.waiting -= 1;
            }
        }
        // Of several rounds that have begun meanwhile, it was counted in the first.
        state.round.min(self.round + 1)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn while_there_is_more_nobody_is_a_page_ahead() {
        let rounds = Rounds::default();
        let pages = Arc::new(Mutex::new([0; 3]));
        let members = (0..3).map(|n| {
            let (mut member, pages) = (rounds.member(), Arc::clone(&pages));
            tokio::spawn(async move {
                for page in 1..=50 {
                    {
                        let mut pages = pages.lock().unwrap();
                        pages[n] = page;
                        let ahead = pages.iter().max().unwrap() - pages.iter().min().unwrap();
                        assert!(ahead <= 1, "{pages:?}");
                    }
                    // Only one of them is behind; the others have nothing to read at some pages.
                    member.next(n == 0 || page % 2 == 0, HOUR).await;
                }
            })
        });
        for member in members.collect::<Vec<_>>() {
            timeout(HOUR, member).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn who_is_slow_keeps_the_others_once_and_joins_again() {
        let rounds = Rounds::default();
        let (mut slow, mut quick) = (rounds.member(), rounds.member());
        tokio::join!(slow.next(true, HOUR), quick.next(true, HOUR));
        // Now both are in a round, and one of them takes long.
        let began = Instant::now();
        quick.next(true, HOUR).await;
        assert!(began.elapsed() >= PATIENCE);
        let began = Instant::now();
        for _ in 0..100 {
            quick.next(true, HOUR).await;
        }
        assert!(began.elapsed() < PATIENCE);
        tokio::join!(slow.next(false, HOUR), quick.next(true, HOUR));
        assert_eq!(rounds.0.state().members, 2);
        slow.leave();
        let began = Instant::now();
        quick.next(true, HOUR).await;
        assert!(began.elapsed() < PATIENCE, "nobody waits for who has left");
    }

    #[tokio::test]
    async fn a_page_of_committed_events_begins_a_round() {
        let (rounds, committed) = (Rounds::default(), watch::Sender::new(7));
        let stopping = CancellationToken::new();
        let following = rounds
            .clone()
            .follow(committed.subscribe(), stopping.clone());
        let following = tokio::spawn(following);
        let (mut one, mut other) = (rounds.member(), rounds.member());
        // Lets the follower see what was committed; returns the round and what it counts since.
        let commit = async |events: u64| {
            committed.send_modify(|count| *count += events);
            tokio::task::yield_now().await;
            let state = rounds.0.state();
            (state.round, state.committed)
        };
        let commits = async {
            assert_eq!(commit(1).await, (0, 1));
            // Not while one of them is at its page.
            assert_eq!(commit(WORTH_A_ROUND).await, (0, WORTH_A_ROUND + 1));
            other.next(false, HOUR).await;
            assert_eq!(commit(2).await, (1, 2));
        };
        let both = async { tokio::join!(one.next(false, HOUR), commits) };
        timeout(HOUR, both).await.unwrap();
        stopping.cancel();
        following.await.unwrap();
    }

    #[tokio::test]
    async fn with_nothing_to_read_each_looks_at_its_own_pace() {
        let rounds = Rounds::default();
        let (mut one, mut other) = (rounds.member(), rounds.member());
        let idle = Duration::from_millis(20);
        let often = async {
            for _ in 0..5 {
                one.next(false, idle).await;
            }
        };
        assert!(timeout(HOUR, often).await.is_ok());
        // Dropped while it waits, as at a stop.
        let given_up = timeout(idle, other.next(false, HOUR)).await;
        assert!(given_up.is_err());
        drop(other);
        let state = rounds.0.state();
        assert_eq!((state.members, state.waiting), (1, 0));
    }
}
