//! Which free slot is offered first.

use sha2::{Digest, Sha256};

use crate::{
    config::LoadBalancing,
    ids::{CommandId, TaskId, UserId},
    state::OpenSlot,
};

/// A free slot, and how its step wants it offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The slot.
    pub slot: OpenSlot,
    /// How its step shares work.
    pub strategy: LoadBalancing,
    /// Its priority for the person who asks.
    pub priority: OfferPriority,
}

/// The priority of a free slot for a person who asks; higher priorities (declared first) are
/// offered first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum OfferPriority {
    /// The claim is drawn for the tasks that have waited longest.
    Overdue,
    /// Others have begun the task, and the person is known to be reliable.
    Contested {
        /// Certainty of the best answer so far, in percent: the least certain is offered first.
        percent: u8,
    },
    /// The same priority as for everyone else.
    #[default]
    Usual,
}

/// Where work is shared by quality, this share of claims gets the task that has waited longest, so
/// that no task waits for ever behind fresh or more contested ones.
const OVERDUE_SHARE: f64 = 0.1;

/// Sorts offers for `user`: the first one is claimed.
///
/// Visits in which the person has released a slot come after all others. Else the order is breadth
/// first: tasks that nobody has begun come before partially done ones, also
/// where a step asks for more people as it goes (`confidence`). Where work is shared by quality, a
/// reliable person gets contested tasks before fresh ones. Among equals, the task that has waited
/// longest comes first. Ties are broken by id, so that two readers of the same slots agree.
pub fn offer_order(offers: &mut [Offer], user: UserId) {
    offers.sort_by_key(|offer| {
        let Offer { slot, priority, .. } = offer;
        let level = match (priority, offer.strategy) {
            (OfferPriority::Overdue | OfferPriority::Contested { .. }, _) => (0, 0),
            (OfferPriority::Usual, LoadBalancing::RoundRobin | LoadBalancing::QualityWeighted) => {
                (slot.taken(), 0)
            }
            (OfferPriority::Usual, LoadBalancing::LeastLoaded) => (slot.reserved, slot.submitted),
        };
        let released = slot.released.contains(&user);
        (released, *priority, level, slot.waiting_since, slot.task_id)
    });
}

/// Reorders sorted offers for a person who lost the race for the first one, by a number drawn from
/// person and task. People who ask at the same time see the same order. After the first try each
/// continues at a different slot, so they spread over the free slots instead of losing to each
/// other again and again. Fresh tasks still come before partially done ones, contested tasks before
/// both, and what the person has released after all others.
pub fn probe_order(offers: &mut [Offer], user: UserId) {
    offers.sort_by_cached_key(|Offer { slot, priority, .. }| {
        let level = match priority {
            OfferPriority::Overdue => (0, 0),
            OfferPriority::Contested { .. } => (1, 0),
            OfferPriority::Usual => (2, slot.taken()),
        };
        let released = slot.released.contains(&user);
        (released, level, draw(user, slot.task_id))
    });
}

/// Whether a claim gets a gold task, if `share` of all claims are to get one. The number is drawn
/// from the claim's id, so nobody can predict it, and a repeated claim gets the same result.
pub fn is_for_gold(claim: CommandId, share: f64) -> bool {
    is_drawn(b"gold", claim, share)
}

/// Whether a claim gets the task that has waited longest, where its step shares work by quality.
pub fn is_for_overdue(claim: CommandId) -> bool {
    is_drawn(b"overdue", claim, OVERDUE_SHARE)
}

fn is_drawn(what: &[u8], claim: CommandId, share: f64) -> bool {
    let mut hash = Sha256::new();
    hash.update(what);
    hash.update(claim.0.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let drawn = digest[..4]
        .iter()
        .fold(0_u32, |drawn, byte| drawn << 8 | u32::from(*byte));
    f64::from(drawn) < share * (f64::from(u32::MAX) + 1.0)
}

fn draw(user: UserId, task: TaskId) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(user.0.as_bytes());
    hash.update(task.0.as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use uuid::Uuid;

    use super::*;
    use crate::ids::{RevisionId, Slug};

    fn offer(task: u128, submitted: u32, reserved: u32, since: i64) -> Offer {
        Offer {
            slot: OpenSlot {
                task_id: TaskId(Uuid::from_u128(task)),
                step_id: Slug::new("annotate").unwrap(),
                visit: 1,
                workflow: Slug::new("w").unwrap(),
                revision_id: RevisionId(Uuid::nil()),
                gold: false,
                submitted,
                reserved,
                waiting_since: DateTime::<Utc>::from_timestamp(since, 0).unwrap(),
                barred: Vec::new(),
                released: Vec::new(),
                authors: Vec::new(),
            },
            strategy: LoadBalancing::RoundRobin,
            priority: OfferPriority::Usual,
        }
    }

    const ANN: UserId = UserId(Uuid::from_u128(1));

    fn tasks(offers: &[Offer]) -> Vec<u128> {
        offers.iter().map(|o| o.slot.task_id.0.as_u128()).collect()
    }

    #[test]
    fn fresh_tasks_come_first_and_the_oldest_of_them() {
        let mut offers = [
            offer(1, 1, 0, 10),
            offer(2, 0, 1, 5),
            offer(3, 0, 0, 30),
            offer(4, 0, 0, 20),
        ];
        offer_order(&mut offers, ANN);
        assert_eq!(tasks(&offers), [4, 3, 2, 1]);
    }

    #[test]
    fn the_least_loaded_are_those_that_nobody_is_at() {
        let mut offers = [offer(1, 0, 1, 5), offer(2, 2, 0, 10), offer(3, 1, 0, 20)];
        for offer in &mut offers {
            offer.strategy = LoadBalancing::LeastLoaded;
        }
        offer_order(&mut offers, ANN);
        assert_eq!(tasks(&offers), [3, 2, 1]);
    }

    #[test]
    fn a_reliable_person_gets_what_is_contested_most() {
        let mut offers = [
            offer(1, 0, 0, 5),
            offer(2, 1, 0, 10),
            offer(3, 2, 0, 30),
            offer(4, 2, 0, 20),
        ];
        offers[1].priority = OfferPriority::Contested { percent: 80 };
        for contested in &mut offers[2..] {
            contested.priority = OfferPriority::Contested { percent: 60 };
        }
        offer_order(&mut offers, ANN);
        assert_eq!(tasks(&offers), [4, 3, 2, 1]);
        probe_order(&mut offers[1..], ANN);
        assert_eq!(tasks(&offers).last(), Some(&1), "fresh ones come last");
        // Overdue offers are ordered by age alone.
        for offer in &mut offers {
            offer.priority = OfferPriority::Overdue;
        }
        offer_order(&mut offers, ANN);
        assert_eq!(tasks(&offers), [1, 2, 4, 3]);
    }

    #[test]
    fn what_the_person_released_comes_last_under_every_strategy() {
        for strategy in [
            LoadBalancing::RoundRobin,
            LoadBalancing::LeastLoaded,
            LoadBalancing::QualityWeighted,
        ] {
            let mut offers = [offer(1, 0, 0, 5), offer(2, 2, 1, 10), offer(3, 0, 0, 20)];
            for offer in &mut offers {
                offer.strategy = strategy;
            }
            offers[0].slot.released = vec![ANN];
            offers[0].priority = OfferPriority::Overdue;
            offer_order(&mut offers, ANN);
            assert_eq!(tasks(&offers), [3, 2, 1], "{strategy:?}");
            probe_order(&mut offers, ANN);
            assert_eq!(tasks(&offers), [3, 2, 1], "{strategy:?}");
            // Nobody else is concerned.
            offer_order(&mut offers, UserId(Uuid::from_u128(2)));
            assert_eq!(tasks(&offers)[0], 1, "{strategy:?}");
        }
    }

    #[test]
    fn the_share_of_gold_is_kept_over_many_claims() {
        let drawn = |share: f64| {
            let claims = (0..10_000).map(|n| CommandId(Uuid::from_u128(n)));
            claims.filter(|claim| is_for_gold(*claim, share)).count()
        };
        assert_eq!((drawn(0.0), drawn(1.0)), (0, 10_000));
        assert!((400..600).contains(&drawn(0.05)), "{}", drawn(0.05));
        let overdue = (0..10_000).filter(|n| is_for_overdue(CommandId(Uuid::from_u128(*n))));
        let overdue = overdue.count();
        assert!((900..1_100).contains(&overdue), "{overdue}");
    }

    #[test]
    fn people_who_were_too_late_go_on_at_different_places() {
        let order = |user: u128| {
            let mut offers: Vec<Offer> = (0..64).map(|task| offer(task, 0, 0, 0)).collect();
            offers.push(offer(99, 1, 0, 0));
            probe_order(&mut offers, UserId(Uuid::from_u128(user)));
            let tasks = tasks(&offers);
            assert_eq!(tasks.last(), Some(&99), "partially done comes last");
            tasks
        };
        let firsts: std::collections::BTreeSet<u128> = (1..50).map(|user| order(user)[0]).collect();
        assert!(firsts.len() > 25, "{} different slots", firsts.len());
        assert_eq!(order(1), order(1));
    }
}
