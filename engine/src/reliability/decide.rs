//! Evidence of labels: the average over experts, groups and the common cause.

use std::collections::BTreeMap;

use super::cause::CommonCause;
use super::expert::{EXPERTS, Scope, Vote};
use super::group::{Group, Share, Tie};
use super::model::Item;
use super::{Evidence, GroupEvidence, Label, LabelEvidence, ReliabilityError, ReliabilityModel};

impl ReliabilityModel {
    /// The evidence, and how much more probable the labels are with a common cause.
    pub(super) fn evidence(
        &self,
        item: Option<&Item>,
        labels: &[Label<'_>],
    ) -> Result<(Evidence, f64), ReliabilityError> {
        // New classes and annotators in the labels get the next free positions.
        let mut classes = self.classes.clone();
        let mut strangers: Vec<&str> = Vec::new();
        let mut votes = Vec::with_capacity(labels.len());
        let mut groups = Groups::new(self);
        for &Label {
            annotator,
            class,
            group,
        } in labels
        {
            let class = if let Some(&id) = self.class_ids.get(class) {
                id
            } else if let Some(id) = classes.iter().position(|known| known == class) {
                id
            } else {
                self.admits(class, classes.len())?;
                classes.push(class.to_owned());
                classes.len() - 1
            };
            let annotator = self
                .annotator_ids
                .get(annotator)
                .copied()
                .unwrap_or_else(|| {
                    let known = strangers.iter().position(|&stranger| stranger == annotator);
                    self.annotators.len()
                        + known.unwrap_or_else(|| {
                            strangers.push(annotator);
                            strangers.len() - 1
                        })
                });
            groups.take(annotator, group);
            votes.push(Vote { annotator, class });
        }
        let scope = Scope {
            classes: classes.len(),
            open: self.open,
        };
        let entries = scope.entries();
        let mut prior = vec![0.0; entries];
        // shares[e][z]: the part of the average for class z that comes from expert e, on an item
        // without a common cause.
        let mut shares = vec![vec![0.0; entries]; EXPERTS];
        let weights = self.expert_weights(item);
        let mut frequencies = Vec::with_capacity(EXPERTS);
        for (e, (share, weight)) in shares.iter_mut().zip(weights).enumerate() {
            self.experts[e].prior(scope, item.and_then(|item| item.own(e)), share);
            frequencies.push(share.clone());
            for (sum, share) in prior.iter_mut().zip(share) {
                *share *= weight;
                *sum += *share;
            }
        }
        normalise(&mut shares, &prior);
        let mut cause = CommonCause::new(
            self.causes.expected(item.map_or(1.0, |item| item.ratio)),
            &prior,
            &votes,
        );
        let mut column = vec![0.0; entries];
        let average = self.expert_weights(None);
        let mut used = Vec::with_capacity(labels.len());
        let ties = groups.ties(&votes);
        for (t, (&vote, label)) in votes.iter().zip(labels).enumerate() {
            let tie = ties.get(t).copied().unwrap_or(Tie::NONE);
            let mut honest = vec![0.0; entries];
            for (e, share) in shares.iter_mut().enumerate() {
                let own = item.and_then(|item| item.own(e));
                self.experts[e].likelihood(scope, vote, own, &frequencies[e], &mut column);
                for ((sum, share), one) in honest.iter_mut().zip(share).zip(&column) {
                    *share *= tie.apply(*one);
                    *sum += *share;
                }
            }
            normalise(&mut shares, &honest);
            let likelihood = cause.step(vote.class, &honest);
            let (accuracy, _) = self.moments(&average, vote.annotator, None);
            let here = item.map_or(0, |item| {
                item.votes
                    .iter()
                    .filter(|one| one.annotator == vote.annotator)
                    .count()
            });
            let labels = self
                .annotators
                .get(vote.annotator)
                .map_or(0, |one| one.labels);
            used.push(LabelEvidence {
                annotator: label.annotator.to_owned(),
                class: label.class.to_owned(),
                likelihood,
                accuracy,
                labels: labels.saturating_sub(here as u64),
            });
        }
        let ratio = cause.ratio(&prior);
        let evidence = Evidence {
            classes,
            unseen: self.open,
            prior,
            labels: used,
            groups: groups.worth(&votes),
            position: self.position,
        };
        Ok((evidence, ratio))
    }

    /// The group of an annotator, and the expected correlation of the errors in it: 1 for copies.
    pub fn group_of(&self, annotator: &str) -> Option<(&str, f64)> {
        let id = self.annotator_ids.get(annotator)?;
        let group = &self.groups[self.annotators[*id].group?];
        Some((&group.name, group.correlation()))
    }

    /// How many votes of independent annotators so many labels of a group on one item are worth. A
    /// group without observations is taken to err together.
    pub fn worth(&self, group: &str, labels: u32) -> f64 {
        let known = self.groups.iter().find(|known| known.name == group);
        known.map_or_else(
            || Group::new(group).worth(labels),
            |known| known.worth(labels),
        )
    }

    /// Votes with their ties.
    pub(super) fn tied(&self, votes: impl Iterator<Item = Vote>) -> Vec<(Vote, Tie)> {
        let votes: Vec<Vote> = votes.collect();
        let ties = self.ties(&votes);
        let ties = ties.into_iter().chain(std::iter::repeat(Tie::NONE));
        votes.into_iter().zip(ties).collect()
    }

    /// How each of an item's votes depends on earlier ones; empty if none does.
    pub(super) fn ties(&self, votes: &[Vote]) -> Vec<Tie> {
        if self.groups.is_empty() {
            return Vec::new();
        }
        let mut groups = Groups::new(self);
        for vote in votes {
            groups.take(vote.annotator, None);
        }
        groups.ties(votes)
    }

    /// Learns from an item how many items have a common cause, and how strongly errors go together
    /// in each group.
    pub(super) fn learn_ties(&mut self, id: u64) {
        let Some(item) = self.items.get(&id) else {
            return;
        };
        let mut ratio = 1.0;
        if item.gold.is_none()
            && let Ok((_, found)) = self.evidence(Some(item), &self.labels_of(item))
        {
            ratio = found;
        }
        let shares = self.group_shares(item);
        self.causes.learn(item.ratio, ratio);
        for share in &shares {
            let before = item.shares.iter().find(|one| one.group == share.group);
            let before = before.map_or_else(|| Share::none(share.group).logs, |one| one.logs);
            self.groups[share.group].learn(&before, &share.logs);
        }
        if let Some(item) = self.items.get_mut(&id) {
            item.ratio = ratio;
            item.shares = shares;
        }
    }

    fn group_shares(&self, item: &Item) -> Vec<Share> {
        let group_of = |vote: &Vote| self.annotators[vote.annotator].group;
        let mut groups: Vec<usize> = item.votes.iter().filter_map(group_of).collect();
        groups.extend(item.shares.iter().map(|share| share.group));
        groups.sort_unstable();
        let often = |group: &usize| groups.iter().filter(|one| *one == group).count() > 1;
        let mut wanted: Vec<usize> = groups
            .iter()
            .filter(|group| often(group))
            .copied()
            .collect();
        wanted.dedup();
        if wanted.is_empty() {
            return Vec::new();
        }
        let crowd = self.fair.crowd(self.classes.len());
        let mut shares = Vec::new();
        for group in wanted {
            let (own, others): (Vec<&Vote>, Vec<&Vote>) = item
                .votes
                .iter()
                .partition(|vote| group_of(vote) == Some(group));
            // With one other label it cannot be told who was wrong.
            if others.len() < 2 && item.gold.is_none() {
                shares.push(Share::none(group));
                continue;
            }
            let others = self.tied(others.into_iter().copied());
            let others = self.fair.posterior(&crowd, others.into_iter(), item.gold);
            let own: Vec<(usize, Vec<f64>)> = own
                .into_iter()
                .map(|&vote| (vote.class, self.fair.likelihood(&crowd, vote)))
                .collect();
            shares.push(Share::of(group, &others, &own));
        }
        shares
    }
}

/// The groups of an item's labels.
struct Groups<'a> {
    known: &'a ReliabilityModel,
    /// Groups that the model has not seen.
    strange: Vec<Group>,
    of: Vec<Option<usize>>,
}

impl<'a> Groups<'a> {
    fn new(known: &'a ReliabilityModel) -> Self {
        Self {
            known,
            strange: Vec::new(),
            of: Vec::new(),
        }
    }

    fn take(&mut self, annotator: usize, group: Option<&str>) {
        let before = self.known.groups.len();
        let of = match group {
            None => self
                .known
                .annotators
                .get(annotator)
                .and_then(|one| one.group),
            Some(name) => {
                let mut groups = self.known.groups.iter().chain(&self.strange);
                let found = groups.position(|group| group.name == name);
                Some(found.unwrap_or_else(|| {
                    self.strange.push(Group::new(name));
                    before + self.strange.len() - 1
                }))
            }
        };
        self.of.push(of);
    }

    fn get(&self, group: usize) -> Option<&Group> {
        let strange = group.wrapping_sub(self.known.groups.len());
        self.known
            .groups
            .get(group)
            .or_else(|| self.strange.get(strange))
    }

    fn ties(&self, votes: &[Vote]) -> Vec<Tie> {
        if self.of.iter().all(Option::is_none) {
            return Vec::new();
        }
        let tie = |t: usize| {
            let Some(group) = self.of[t].and_then(|group| self.get(group)) else {
                return Tie::NONE;
            };
            let earlier = (0..t).filter(|&one| self.of[one] == self.of[t]);
            let same = earlier
                .clone()
                .filter(|&one| votes[one].class == votes[t].class);
            Tie::new(group.correlation(), earlier.count(), same.count())
        };
        (0..votes.len()).map(tie).collect()
    }

    fn worth(&self, votes: &[Vote]) -> Vec<GroupEvidence> {
        let mut labels: BTreeMap<usize, u32> = BTreeMap::new();
        for group in self.of.iter().take(votes.len()).flatten() {
            *labels.entry(*group).or_default() += 1;
        }
        let worth = |(group, labels)| Some(GroupEvidence::new(self.get(group)?, labels));
        labels.into_iter().filter_map(worth).collect()
    }
}

/// Divides each column by its sum. A sum is never zero: every likelihood here is positive.
fn normalise(shares: &mut [Vec<f64>], sums: &[f64]) {
    for row in shares {
        for (share, sum) in row.iter_mut().zip(sums) {
            *share /= sum;
        }
    }
}
