//! All annotators at once, for reports: what they have in common is computed once.

use super::fair::{LEVELS, LabelSeen};
use super::look::Common;
use super::model::Item;
use super::{Reliability, ReliabilityModel};

/// Labels on each side of a change.
const CHANGE_LABELS: usize = 15;
/// How much more probable a change must be than none, as a logarithm, beside the places it could be
/// at.
const CHANGE_LOG: f64 = 5.0;
/// Places at which a change is looked for.
const CHANGE_PLACES: usize = 100;

/// How often an annotator is right: altogether, of late, and whether that has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct AnnotatorNow {
    /// As [`ReliabilityModel::reliability`] says.
    pub whole: Reliability,
    /// The same with older labels counting less: half as much as one `half_life` labels of the
    /// annotator later.
    pub lately: Reliability,
    /// Where the accuracy changed most, if it did beyond chance.
    pub change: Option<Change>,
}

/// A place where an annotator's accuracy changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The item of the first label after it. Labels are in the order in which their items got their
    /// first label.
    pub item: String,
    /// How many labels of the annotator came before it, of the newest thousand within reach.
    pub labels_before: u64,
    /// How many came after it.
    pub labels_since: u64,
    /// Accuracy before, from 0.02 to 0.98.
    pub before: f64,
    /// Accuracy after, from 0.02 to 0.98.
    pub now: f64,
    /// Logarithm of how much more probable the labels are with the change than without.
    pub log_evidence: f64,
}

/// How far others agree with an annotator about one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassAgreement {
    /// The class.
    pub class: String,
    /// Pairs of a label of the annotator and one of somebody else on the same item, one of them at
    /// least this class, that are both this class.
    pub both: u64,
    /// Pairs in which exactly one is this class.
    pub one: u64,
    /// 2 both / (2 both + one), the specific agreement; `None` without such pairs.
    pub agreement: Option<f64>,
}

/// A model seen by annotator. It takes time in proportion to the labels within reach to make one,
/// and for each annotator in proportion to their own.
#[derive(Debug)]
pub struct Survey<'m> {
    model: &'m ReliabilityModel,
    common: Common,
    /// By annotator: the items with labels of theirs, in order of their first label.
    items: Vec<Vec<&'m Item>>,
}

impl ReliabilityModel {
    /// The model seen by annotator, for reports about many of them.
    pub fn survey(&self) -> Survey<'_> {
        let mut items: Vec<Vec<&Item>> = vec![Vec::new(); self.annotators.len()];
        for item in self.items.values() {
            for vote in &item.votes {
                let known = &mut items[vote.annotator];
                if !known.last().is_some_and(|last| std::ptr::eq(*last, item)) {
                    known.push(item);
                }
            }
        }
        Survey {
            model: self,
            common: self.common(),
            items,
        }
    }
}

impl Survey<'_> {
    /// What is known of an annotator; the prior for an unknown one. With `half_life` (in labels of
    /// the same annotator, above 0), older labels fade in [`AnnotatorNow::lately`].
    pub fn annotator(&self, name: &str, half_life: f64) -> AnnotatorNow {
        let Self { model, common, .. } = self;
        let id = model.annotator_ids.get(name).copied();
        let mut labels = id.map_or_else(Vec::new, |id| {
            let newest_first = self.items[id].iter().rev().copied();
            model.labels_and_others(id, newest_first, &common.crowd)
        });
        let (count, gold) = id.map_or((0, (0, 0)), |id| {
            let one = &model.annotators[id];
            (one.labels, (one.gold_labels, one.gold_right))
        });
        let reliability = |labels: &[LabelSeen<'_>], past: f64| {
            let (mean, variance) = model.moments_of(common, id, labels, past);
            Reliability::new(mean, variance, count, gold)
        };
        let whole = reliability(&labels, 1.0);
        let change = change_in(&labels, common.crowd.len());
        let within_reach = labels.len();
        for (later, label) in labels.iter_mut().rev().enumerate() {
            label.weight *= faded(later as f64, half_life);
        }
        let older = (count as f64 - within_reach as f64).max(0.0);
        let past = mean_faded(within_reach as f64, older, half_life);
        AnnotatorNow {
            whole,
            lately: reliability(&labels, past),
            change,
        }
    }

    /// The agreement of an annotator with everybody else, by class, over the items within reach.
    pub fn agreement(&self, name: &str) -> Vec<ClassAgreement> {
        let classes = &self.model.classes;
        let mut counts = vec![(0_u64, 0_u64); classes.len()];
        let id = self.model.annotator_ids.get(name).copied();
        for item in id.into_iter().flat_map(|id| &self.items[id]) {
            let (own, others): (Vec<_>, Vec<_>) = item
                .votes
                .iter()
                .map(|vote| (Some(vote.annotator) == id, vote.class))
                .partition(|(is_own, _)| *is_own);
            for (_, one) in own {
                for &(_, other) in &others {
                    if one == other {
                        counts[one].0 += 1;
                    } else {
                        counts[one].1 += 1;
                        counts[other].1 += 1;
                    }
                }
            }
        }
        let of = |(class, (both, one)): (&String, (u64, u64))| ClassAgreement {
            class: class.clone(),
            both,
            one,
            agreement: (both + one > 0).then(|| 2.0 * both as f64 / (2 * both + one) as f64),
        };
        classes.iter().zip(counts).map(of).collect()
    }
}

/// How much a label counts after `later` further ones.
fn faded(later: f64, half_life: f64) -> f64 {
    (-later / half_life).exp2()
}

/// The mean of [`faded`] over `older` labels that have `later` or more after them.
fn mean_faded(later: f64, older: f64, half_life: f64) -> f64 {
    let ratio = faded(1.0, half_life);
    if older <= 0.0 || ratio >= 1.0 {
        return faded(later, half_life);
    }
    faded(later, half_life) * (1.0 - ratio.powf(older)) / ((1.0 - ratio) * older)
}

/// Where the accuracy behind labels changed most, if it did beyond chance: the likelihood ratio of
/// two rates against one.
fn change_in(labels: &[LabelSeen<'_>], classes: usize) -> Option<Change> {
    let last = labels.len().checked_sub(CHANGE_LABELS)?;
    if last < CHANGE_LABELS {
        return None;
    }
    let lines: Vec<(f64, f64)> = labels.iter().map(|label| line(label, classes)).collect();
    let rates = Rates::of(&lines);
    let (whole, _) = rates.best(0, labels.len());
    let step = (labels.len() / CHANGE_PLACES).max(1);
    let places = || (CHANGE_LABELS..=last).step_by(step);
    let tried = places().count() as f64;
    let mut found: Option<(usize, f64, f64, f64)> = None;
    for at in places() {
        let (before, now) = (rates.best(0, at), rates.best(at, labels.len()));
        let log_evidence = before.0 + now.0 - whole;
        if found.is_none_or(|(_, most, ..)| log_evidence > most) {
            found = Some((at, log_evidence, before.1, now.1));
        }
    }
    let (at, log_evidence, before, now) = found?;
    (log_evidence > CHANGE_LOG + tried.ln() / 2.0).then(|| Change {
        item: labels[at].item.to_owned(),
        labels_before: at as u64,
        labels_since: (labels.len() - at) as u64,
        before,
        now,
        log_evidence,
    })
}

/// The probability of a label at rate 0 of correct labels, and its slope.
fn line(label: &LabelSeen<'_>, classes: usize) -> (f64, f64) {
    let alternatives = classes.max(2) as f64;
    let (mut at_zero, mut slope) = (0.0, 0.0);
    for (class, by_level) in label.others.chunks_exact(LEVELS.len()).enumerate() {
        let wrong = 1.0 / (alternatives - 1.0);
        let (zero, one) = if class == label.class {
            (0.0, 1.0)
        } else {
            (wrong, 0.0)
        };
        for (share, level) in by_level.iter().zip(LEVELS) {
            at_zero += share * ((1.0 - level) * zero + level / alternatives);
            slope += share * (1.0 - level) * (one - zero);
        }
    }
    (at_zero, slope)
}

/// For each rate of correct labels that is tried, the logarithms of the products of the first *n*
/// labels' probabilities.
struct Rates(Vec<(f64, Vec<f64>)>);

impl Rates {
    fn of(lines: &[(f64, f64)]) -> Self {
        let rates = (0..25).map(|n| 0.02 + 0.04 * f64::from(n));
        let sums = |rate: f64| {
            let mut sum = 0.0;
            let mut sums = vec![0.0];
            sums.extend(lines.iter().map(|(zero, slope)| {
                sum += (zero + slope * rate).max(f64::MIN_POSITIVE).ln();
                sum
            }));
            (rate, sums)
        };
        Self(rates.map(sums).collect())
    }

    /// The largest logarithm for the labels from one place to another, and its rate.
    fn best(&self, from: usize, to: usize) -> (f64, f64) {
        let mut best = (f64::NEG_INFINITY, 0.5);
        for (rate, sums) in &self.0 {
            let sum = sums[to] - sums[from];
            if sum > best.0 {
                best = (sum, *rate);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reliability::Classes;

    #[test]
    fn what_is_out_of_reach_fades_too() {
        let mut model = ReliabilityModel::new(Classes::Open).unwrap();
        model.items_max = 60;
        for n in 0..460 {
            let item = format!("{n}");
            let (truth, other) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
            for good in ["ada", "bob", "cem"] {
                model.observe(&item, good, truth).unwrap();
            }
            let tired = if n >= 400 && n % 4 < 2 { other } else { truth };
            model.observe(&item, "tired", tired).unwrap();
            model.close(&item);
        }
        let tired = model.survey().annotator("tired", 20.0);
        // The prior is worth twelve labels, and those of late are worth twenty-one.
        assert!(tired.whole.accuracy > 0.9, "{tired:?}");
        assert!(tired.lately.accuracy < 0.7, "{tired:?}");
    }

    #[test]
    fn older_labels_count_what_they_would_one_by_one() {
        let one_by_one: f64 = (0..40).map(|n| faded(f64::from(30 + n), 50.0)).sum();
        assert!((mean_faded(30.0, 40.0, 50.0) * 40.0 - one_by_one).abs() < 1e-9);
        assert!((mean_faded(30.0, 0.0, 50.0) - faded(30.0, 50.0)).abs() < 1e-12);
    }
}
