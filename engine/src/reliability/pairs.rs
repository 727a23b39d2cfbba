//! Annotators who agree more than their accuracy explains.

use std::collections::BTreeMap;

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

/// An item as it is compared.
struct Compared {
    /// The first label of each annotator.
    votes: Vec<Vote>,
    gold: Option<usize>,
}

impl ReliabilityModel {
    /// Pairs of annotators, of no common group, who agree more than their accuracy and the
    /// difficulty of the items explain: copies, or models of one family. The most suspicious first;
    /// with `of`, only those of one annotator.
    ///
    /// A pair is named if a correlation of errors makes its labels more probable than none by
    /// exp(5) times the number of pairs compared. Those who share ten items are compared, over the
    /// newest items and the first thirty labels of each: as many items as take less than a second,
    /// which is all within reach if few people label each.
    pub fn suspicious_pairs(&self, of: Option<&str>) -> Vec<SuspiciousPair> {
        let compared = self.compared();
        let mut shared: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (at, item) in compared.iter().enumerate() {
            for (t, one) in item.votes.iter().enumerate() {
                for other in &item.votes[..t] {
                    if !self.are_together(one.annotator, other.annotator) {
                        let (first, second) = (one.annotator, other.annotator);
                        let pair = (first.min(second), first.max(second));
                        shared.entry(pair).or_default().push(at);
                    }
                }
            }
        }
        shared.retain(|_, items| items.len() >= PAIR_ITEMS);
        let limit = PAIR_LOG + (shared.len().max(1) as f64).ln();
        let crowd = self.fair.crowd(self.classes.len());
        let mut found = Vec::new();
        for (pair, items) in shared {
            let names = [pair.0, pair.1].map(|id| self.annotators[id].name.as_str());
            if of.is_some_and(|of| !names.contains(&of)) {
                continue;
            }
            let items: Vec<&Compared> = items.into_iter().map(|at| &compared[at]).collect();
            let one = self.pair(&crowd, pair, &items);
            found.extend(one.filter(|one| one.log_evidence > limit));
        }
        found.sort_by(|a, b| b.log_evidence.total_cmp(&a.log_evidence));
        found
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

    /// What explains the labels of two annotators best; `None` if no correlation does better than
    /// none.
    fn pair(
        &self,
        crowd: &[f64],
        (first, second): (usize, usize),
        items: &[&Compared],
    ) -> Option<SuspiciousPair> {
        // How good the two are is told by everybody else's labels alone: who agrees with a copy
        // looks better than it is.
        let known: Vec<([usize; 2], Vec<f64>)> = items
            .iter()
            .map(|item| {
                let is_own = |vote: &&Vote| vote.annotator == first || vote.annotator == second;
                let label = |id: usize| {
                    let own = item.votes.iter().find(|vote| vote.annotator == id);
                    own.map_or(0, |vote| vote.class)
                };
                let others = item.votes.iter().filter(|vote| !is_own(vote)).copied();
                let others = self.tied(others).into_iter();
                let others = self.fair.posterior(crowd, others, item.gold);
                ([label(first), label(second)], others)
            })
            .collect();
        let skills = [0, 1].map(|of: usize| {
            let labels = known
                .iter()
                .map(|(own, others)| (own[of], others.as_slice()));
            skills_beside(crowd, labels)
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
