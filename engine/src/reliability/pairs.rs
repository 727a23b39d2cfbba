//! Annotators who agree more than their accuracy explains.

use std::collections::{BTreeMap, BTreeSet};

use super::ReliabilityModel;
use super::expert::Vote;
use super::fair::{alike_expected, likelihood, skills_beside};
use super::group::Share;

/// How much more probable a correlation of errors must be than none, as a logarithm, beside the
/// pairs that are compared.
const PAIR_LOG: f64 = 5.0;
/// Items that two annotators must share.
const PAIR_ITEMS: usize = 10;
/// Labels of an item that are compared with each other.
const LABELS_MAX: usize = 30;
/// Multiplications by class and level that comparisons may take: well below a second.
const WORK_MAX: usize = 50_000_000;
/// How many labels more a comparison costs than the item has.
const LABELS_EXTRA: usize = 32;

/// Two annotators who agree more than their accuracy explains.
#[derive(Debug, Clone, PartialEq)]
pub struct SuspiciousPair {
    /// One of them.
    pub first: String,
    /// The other one.
    pub second: String,
    /// Items that both labelled.
    pub items: u64,
    /// On how many of them they gave the same label.
    pub alike: u64,
    /// On how many of them two people of their accuracy who err independently would, given what
    /// everybody else's labels say of the answers and of the difficulty of the items.
    pub alike_expected: f64,
    /// The correlation of their errors that explains the labels best: 1 for copies.
    pub correlation: f64,
    /// Logarithm of how much more probable the labels are with that correlation than without.
    pub log_evidence: f64,
}

/// Two annotators, the smaller position first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pair(usize, usize);

impl Pair {
    fn of(one: usize, other: usize) -> Self {
        Self(one.min(other), one.max(other))
    }
}

/// An item as it is compared.
struct Compared {
    /// The first label of each annotator.
    votes: Vec<Vote>,
    gold: Option<usize>,
}

impl Compared {
    /// The labels of all others than the two, with one label for each of the pairs `found`.
    fn others(&self, pair: Pair, found: &BTreeSet<Pair>) -> Vec<Vote> {
        let copies = |one: usize, other: usize| found.contains(&Pair::of(one, other));
        let mut others: Vec<Vote> = Vec::new();
        for vote in &self.votes {
            let who = vote.annotator;
            let is_own = [pair.0, pair.1]
                .iter()
                .any(|own| *own == who || copies(*own, who));
            if !is_own && !others.iter().any(|other| copies(other.annotator, who)) {
                others.push(*vote);
            }
        }
        others
    }
}

impl ReliabilityModel {
    /// Pairs of annotators, of no common group, who agree more than their accuracy and the
    /// difficulty of the items explain: copies, or models of one family. The most suspicious first.
    ///
    /// A pair is named if a correlation of errors makes its labels more probable than none by
    /// exp(5) times the number of pairs compared. Those who share ten items are compared, over the
    /// newest items and the first thirty labels of each: as many items as take less than a second,
    /// which is all within reach if few people label each. Who is contradicted by copies would look
    /// like a pair, too; so a pair counts as one opinion where less suspicious ones are judged.
    pub fn suspicious_pairs(&self) -> Vec<SuspiciousPair> {
        let compared = self.compared();
        let mut shared: BTreeMap<Pair, Vec<&Compared>> = BTreeMap::new();
        for item in &compared {
            for (t, one) in item.votes.iter().enumerate() {
                for other in &item.votes[..t] {
                    if !self.are_together(one.annotator, other.annotator) {
                        let pair = Pair::of(one.annotator, other.annotator);
                        shared.entry(pair).or_default().push(item);
                    }
                }
            }
        }
        shared.retain(|_, items| items.len() >= PAIR_ITEMS);
        let limit = PAIR_LOG + (shared.len().max(1) as f64).ln();
        let crowd = self.fair.crowd(self.classes.len());
        let judge = |pair, items: &[&Compared], found: &BTreeSet<Pair>| {
            let judged = self.judge(&crowd, pair, items, found);
            judged.filter(|one| one.log_evidence > limit)
        };
        let mut suspected: Vec<(Pair, f64)> = Vec::new();
        for (pair, items) in &shared {
            let one = judge(*pair, items, &BTreeSet::new());
            suspected.extend(one.map(|one| (*pair, one.log_evidence)));
        }
        suspected.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut found = BTreeSet::new();
        let mut named = Vec::new();
        for (pair, _) in suspected {
            if let Some(one) = judge(pair, &shared[&pair], &found) {
                found.insert(pair);
                named.push(one);
            }
        }
        named.sort_by(|a, b| b.log_evidence.total_cmp(&a.log_evidence));
        named
    }

    /// The newest items, as many as comparisons have time for.
    fn compared(&self) -> Vec<Compared> {
        let mut left = WORK_MAX;
        let mut compared = Vec::new();
        for item in self.items.values().rev() {
            let mut votes: Vec<Vote> = Vec::new();
            for vote in &item.votes {
                if votes.iter().all(|one| one.annotator != vote.annotator) {
                    votes.push(*vote);
                }
                if votes.len() == LABELS_MAX {
                    break;
                }
            }
            let pairs = votes.len() * votes.len().saturating_sub(1) / 2;
            let work = pairs * (votes.len() + LABELS_EXTRA) * self.classes.len();
            let Some(after) = left.checked_sub(work) else {
                break;
            };
            left = after;
            if pairs > 0 {
                let gold = item.gold;
                compared.push(Compared { votes, gold });
            }
        }
        compared
    }

    fn are_together(&self, first: usize, second: usize) -> bool {
        let group = |id: usize| self.annotators[id].group;
        group(first).is_some() && group(first) == group(second)
    }

    /// What explains the labels of two annotators best, if the pairs `found` are one opinion each;
    /// `None` if no correlation does better than none.
    fn judge(
        &self,
        crowd: &[f64],
        pair: Pair,
        items: &[&Compared],
        found: &BTreeSet<Pair>,
    ) -> Option<SuspiciousPair> {
        let Pair(first, second) = pair;
        // How good the two are is told by everybody else's labels alone: who agrees with a copy
        // looks better than it is.
        let known: Vec<([usize; 2], Vec<f64>)> = items
            .iter()
            .map(|item| {
                let label = |id: usize| {
                    let own = item.votes.iter().find(|vote| vote.annotator == id);
                    own.map_or(0, |vote| vote.class)
                };
                let others = self.tied(item.others(pair, found).into_iter());
                let others = self.fair.posterior(crowd, others.into_iter(), item.gold);
                ([label(first), label(second)], others)
            })
            .collect();
        let skills = [0, 1].map(|of: usize| {
            let labels = known
                .iter()
                .map(|(own, others)| (own[of], others.as_slice()));
            skills_beside(crowd, &labels.collect::<Vec<_>>())
        });
        let mut logs = Share::none(0).logs;
        for (own, others) in &known {
            let own: Vec<(usize, Vec<f64>)> = own
                .iter()
                .zip(&skills)
                .map(|(&label, skills)| (label, likelihood(skills, label)))
                .collect();
            for (sum, log) in logs.iter_mut().zip(Share::of(0, others, &own).logs) {
                *sum += log;
            }
        }
        let alike = known.iter().filter(|(own, _)| own[0] == own[1]).count() as u64;
        let others = known.iter().map(|(_, others)| others.as_slice());
        let alike_expected = alike_expected((&skills[0], &skills[1]), others);
        let (correlation, log_evidence) = Share::best(&logs)?;
        Some(SuspiciousPair {
            first: self.annotators[first].name.clone(),
            second: self.annotators[second].name.clone(),
            items: items.len() as u64,
            alike,
            alike_expected,
            correlation,
            log_evidence,
        })
    }
}
