//! Which free place is offered first.

use sha2::{Digest, Sha256};

use crate::{
    config::LoadBalancing,
    ids::{CommandId, TaskId, UserId},
    state::OpenPlace,
};

/// A free place with how its step wants it offered.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The place.
    pub place: OpenPlace,
    /// How its step shares work.
    pub strategy: LoadBalancing,
}

/// Sorts offers: the first is to be claimed.
///
/// Breadth first: what nobody has begun comes before what is partially done, also where a step
/// asks for more people as it goes (`confidence`). Of equals, the one that has waited longest comes
/// first; ties are broken by id, so that two readers of the same places agree.
pub fn offer_order(offers: &mut [Offer]) {
    offers.sort_by_key(|Offer { place, strategy }| {
        let level = match strategy {
            // Without an estimate of the person, quality has nothing to weigh.
            LoadBalancing::RoundRobin | LoadBalancing::QualityWeighted => (place.taken(), 0),
            LoadBalancing::LeastLoaded => (place.reserved, place.submitted),
        };
        (level, place.waiting_since, place.task_id)
    });
}

/// Reorders sorted offers for a person who was too late for the first one: by a number drawn from
/// person and task. Many who ask at once see the same order; after the first try each goes on at
/// another place, so they spread over what is free instead of losing to each other again and again.
/// What is partially done still comes after what is not.
pub fn probe_order(offers: &mut [Offer], user: UserId) {
    offers.sort_by_cached_key(|Offer { place, .. }| (place.taken(), draw(user, place.task_id)));
}

/// Whether a claim is for a gold task where `share` of them are to be: a number drawn from its id, so
/// that nobody can tell beforehand and a repeated claim is for the same.
pub fn is_for_gold(claim: CommandId, share: f64) -> bool {
    let mut hash = Sha256::new();
    hash.update(b"gold");
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
            place: OpenPlace {
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
                judged: Vec::new(),
            },
            strategy: LoadBalancing::RoundRobin,
        }
    }

    fn tasks(offers: &[Offer]) -> Vec<u128> {
        offers.iter().map(|o| o.place.task_id.0.as_u128()).collect()
    }

    #[test]
    fn fresh_tasks_come_first_and_the_oldest_of_them() {
        let mut offers = [
            offer(1, 1, 0, 10),
            offer(2, 0, 1, 5),
            offer(3, 0, 0, 30),
            offer(4, 0, 0, 20),
        ];
        offer_order(&mut offers);
        assert_eq!(tasks(&offers), [4, 3, 2, 1]);
    }

    #[test]
    fn the_least_loaded_are_those_that_nobody_is_at() {
        let mut offers = [offer(1, 0, 1, 5), offer(2, 2, 0, 10), offer(3, 1, 0, 20)];
        for offer in &mut offers {
            offer.strategy = LoadBalancing::LeastLoaded;
        }
        offer_order(&mut offers);
        assert_eq!(tasks(&offers), [3, 2, 1]);
    }

    #[test]
    fn the_share_of_gold_is_kept_over_many_claims() {
        let drawn = |share: f64| {
            let claims = (0..10_000).map(|n| CommandId(Uuid::from_u128(n)));
            claims.filter(|claim| is_for_gold(*claim, share)).count()
        };
        assert_eq!((drawn(0.0), drawn(1.0)), (0, 10_000));
        assert!((400..600).contains(&drawn(0.05)), "{}", drawn(0.05));
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
        assert!(firsts.len() > 25, "{} different places", firsts.len());
        assert_eq!(order(1), order(1));
    }
}
