//! How often an annotator is right on an item of average difficulty.

use serde::{Deserialize, Serialize};

use super::expert::{CONFUSION_CLASSES_MAX, Vote};
use super::group::Tie;

/// Levels of difficulty: the share of labels that are guesses.
pub(super) const LEVELS: [f64; 3] = [0.0, 0.5, 0.9];
/// Pseudo-items of each level.
const LEVELS_PRIOR: [f64; 3] = [8.0, 1.0, 1.0];
/// Pseudo-items of each class.
const CLASS_PRIOR: f64 = 2.0;
/// Strength of the prior of an annotator's rate in a class while all items are visited.
const STRENGTH: f64 = 6.0;
/// Pseudo-labels of the crowd's rate in a class, and their share of correct ones.
const CROWD_PRIOR: (f64, f64) = (10.0, 0.75);
/// Steps of expectation maximisation for the rates of one annotator.
const SKILL_STEPS: usize = 8;
/// Points at which the likelihood of an accuracy is evaluated.
const POINTS: usize = 50;

/// Expected counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counts {
    levels: [f64; LEVELS.len()],
    items: Vec<f64>,
    /// By annotator and class: correct labels, and all labels, that are no guesses.
    people: Vec<Vec<(f64, f64)>>,
}

/// Accuracies beside difficulties: what the last refit found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Fair {
    known: Counts,
    /// Counts of the pass that is under way.
    next: Counts,
    /// Counts of items out of reach.
    base: Counts,
}

/// A label of an annotator, and what everybody else's labels say of its item.
#[derive(Debug)]
pub(super) struct LabelSeen<'m> {
    pub(super) item: &'m str,
    pub(super) class: usize,
    /// How much it counts.
    pub(super) weight: f64,
    /// Probability of each class and level, given the labels of all others.
    pub(super) others: Vec<f64>,
}

/// The first two moments of an accuracy.
pub(super) type Moments = (f64, f64);

impl Counts {
    fn person(&mut self, annotator: usize, classes: usize) -> &mut Vec<(f64, f64)> {
        if self.people.len() <= annotator {
            self.people.resize_with(annotator + 1, Vec::new);
        }
        let person = &mut self.people[annotator];
        if person.len() < classes {
            person.resize(classes, (0.0, 0.0));
        }
        person
    }

    /// Correct labels and all labels of an annotator in a class; of all classes together if there
    /// are too many.
    fn rate(&self, annotator: usize, class: usize, classes: usize) -> (f64, f64) {
        let Some(person) = self.people.get(annotator) else {
            return (0.0, 0.0);
        };
        if classes > CONFUSION_CLASSES_MAX {
            let add = |sum: (f64, f64), one: &(f64, f64)| (sum.0 + one.0, sum.1 + one.1);
            return person.iter().fold((0.0, 0.0), add);
        }
        person.get(class).copied().unwrap_or_default()
    }

    fn fits(&self, classes: usize, annotators: usize) -> bool {
        self.items.len() <= classes
            && self.people.len() <= annotators
            && self.people.iter().all(|one| one.len() <= classes)
    }
}

impl Fair {
    pub(super) fn fits(&self, classes: usize, annotators: usize) -> bool {
        let all = [&self.known, &self.next, &self.base];
        all.iter().all(|counts| counts.fits(classes, annotators))
    }

    /// Whether any pass has counted an annotator.
    pub(super) fn knows(&self, annotator: usize) -> bool {
        let person = self.known.people.get(annotator);
        person.is_some_and(|one| one.iter().any(|(_, all)| *all > 0.0))
    }

    /// Starts an annotator from rates by class that are known from elsewhere.
    pub(super) fn start(&mut self, annotator: usize, rates: &[f64]) {
        let person = self.known.person(annotator, rates.len());
        for (count, rate) in person.iter_mut().zip(rates) {
            *count = (rate * STRENGTH, STRENGTH);
        }
    }

    pub(super) fn shares(&self) -> [f64; LEVELS.len()] {
        let mut shares = LEVELS_PRIOR;
        for (share, count) in shares.iter_mut().zip(self.known.levels) {
            *share += count;
        }
        let sum: f64 = shares.iter().sum();
        shares.map(|share| share / sum)
    }

    fn frequencies(&self, classes: usize) -> Vec<f64> {
        let count = |class: usize| {
            self.known.items.get(class).copied().unwrap_or(0.0).max(0.0) + CLASS_PRIOR
        };
        let sum: f64 = (0..classes).map(count).sum();
        (0..classes).map(|class| count(class) / sum).collect()
    }

    /// The crowd's rate of correct labels in each class.
    pub(super) fn crowd(&self, classes: usize) -> Vec<f64> {
        let coin = classes > CONFUSION_CLASSES_MAX;
        let rate = |class: usize| {
            let (mut right, mut all) = (CROWD_PRIOR.0 * CROWD_PRIOR.1, CROWD_PRIOR.0);
            for person in &self.known.people {
                let counted = if coin {
                    person.as_slice()
                } else {
                    person.get(class..=class).unwrap_or_default()
                };
                for (r, n) in counted {
                    right += r;
                    all += n;
                }
            }
            right / all
        };
        (0..classes).map(rate).collect()
    }

    fn skill(&self, crowd: &[f64], annotator: usize, class: usize) -> f64 {
        let (right, all) = self.known.rate(annotator, class, crowd.len());
        (right + STRENGTH * crowd[class]) / (all + STRENGTH)
    }

    /// Probability of a vote in each class and level: class by class, level by level.
    pub(super) fn likelihood(&self, crowd: &[f64], vote: Vote) -> Vec<f64> {
        let skills = (0..crowd.len()).map(|class| self.skill(crowd, vote.annotator, class));
        likelihood(&skills.collect::<Vec<f64>>(), vote.class)
    }

    /// Probability of each class and level of an item without labels.
    pub(super) fn prior(&self, classes: usize, gold: Option<usize>) -> Vec<f64> {
        let shares = self.shares();
        let mut out = Vec::with_capacity(classes * LEVELS.len());
        for (class, frequency) in self.frequencies(classes).into_iter().enumerate() {
            let frequency = match gold {
                None => frequency,
                Some(gold) => f64::from(u8::from(gold == class)),
            };
            out.extend(shares.map(|share| frequency * share));
        }
        out
    }

    /// Probability of each class and level, given votes.
    pub(super) fn posterior(
        &self,
        crowd: &[f64],
        votes: impl Iterator<Item = (Vote, Tie)>,
        gold: Option<usize>,
    ) -> Vec<f64> {
        let mut out = self.prior(crowd.len(), gold);
        for (vote, tie) in votes {
            let mut sum = 0.0;
            for (product, one) in out.iter_mut().zip(self.likelihood(crowd, vote)) {
                *product *= tie.apply(one);
                sum += *product;
            }
            for product in &mut out {
                *product /= sum;
            }
        }
        out
    }

    /// Counts an item for the next state.
    pub(super) fn count(&mut self, crowd: &[f64], votes: &[(Vote, Tie)], gold: Option<usize>) {
        let mut next = std::mem::take(&mut self.next);
        self.add(&mut next, crowd, votes, gold);
        self.next = next;
    }

    /// Counts an item that goes out of reach.
    pub(super) fn retire(&mut self, crowd: &[f64], votes: &[(Vote, Tie)], gold: Option<usize>) {
        let mut base = std::mem::take(&mut self.base);
        self.add(&mut base, crowd, votes, gold);
        self.base = base;
    }

    /// Ends a pass over all items.
    pub(super) fn end_pass(&mut self) {
        self.known = std::mem::replace(&mut self.next, self.base.clone());
    }

    /// Begins a pass over all items.
    pub(super) fn begin_pass(&mut self) {
        self.next = self.base.clone();
    }

    fn add(&self, counts: &mut Counts, crowd: &[f64], votes: &[(Vote, Tie)], gold: Option<usize>) {
        let classes = crowd.len();
        let whole = self.posterior(crowd, votes.iter().copied(), gold);
        if gold.is_none() {
            counts.items.resize(counts.items.len().max(classes), 0.0);
        }
        for (class, by_level) in whole.chunks_exact(LEVELS.len()).enumerate() {
            if gold.is_none() {
                counts.items[class] += by_level.iter().sum::<f64>();
                for (count, one) in counts.levels.iter_mut().zip(by_level) {
                    *count += one;
                }
            }
            for (vote, _) in votes {
                let own = by_skill(
                    self.skill(crowd, vote.annotator, class),
                    class == vote.class,
                    classes,
                );
                // The part of the label that is no guess.
                let meant: f64 = by_level
                    .iter()
                    .zip(LEVELS)
                    .map(|(one, level)| one * (1.0 - level) * own / blend(own, level, classes))
                    .sum();
                let (right, all) = &mut counts.person(vote.annotator, classes)[class];
                *all += meant;
                if class == vote.class {
                    *right += meant;
                }
            }
        }
    }

    /// Mean and variance of an annotator's accuracy on an item drawn at random.
    ///
    /// `prior` holds the share of one-coin models and the strengths of the priors of one coin and
    /// of rates by class. `labels` are those within reach; one out of reach counts `retired`.
    pub(super) fn moments(
        &self,
        crowd: &[f64],
        annotator: usize,
        prior: Prior,
        (labels, retired): (&[LabelSeen<'_>], f64),
    ) -> Moments {
        let classes = crowd.len();
        let shares = self.shares();
        let guessed: f64 = shares
            .iter()
            .zip(LEVELS)
            .map(|(share, level)| share * level)
            .sum();
        let part = 1.0 - guessed;
        let guess = guessed / classes.max(2) as f64;
        let frequencies = self.frequencies(classes);
        let over = |of: &[f64]| -> f64 { of.iter().zip(&frequencies).map(|(a, b)| a * b).sum() };
        let mean = if classes == 0 {
            CROWD_PRIOR.1
        } else {
            over(crowd)
        };
        let known: Vec<(f64, f64)> = (0..classes)
            .map(|class| self.base.rate(annotator, class, classes))
            .map(|(right, all)| (right * retired, all * retired))
            .collect();
        let (right, all) = if classes > CONFUSION_CLASSES_MAX {
            known.first().copied().unwrap_or_default()
        } else {
            known
                .iter()
                .fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        };
        let lines: Vec<(f64, f64, f64)> = labels
            .iter()
            .map(|label| self.line(crowd, annotator, label, None))
            .collect();
        let coin = on_a_grid(beta(prior.coin_strength, mean, right, all), &lines);
        let mut by_class = (0.0, 0.0);
        let mut shrunk = 0.0;
        if classes > 0 && classes <= CONFUSION_CLASSES_MAX && prior.coin < 1.0 {
            for (class, &frequency) in frequencies.iter().enumerate() {
                let lines: Vec<(f64, f64, f64)> = labels
                    .iter()
                    .map(|label| self.line(crowd, annotator, label, Some(class)))
                    .collect();
                let (right, all) = known[class];
                let here = |label: &LabelSeen<'_>| {
                    let by_level = &label.others[class * LEVELS.len()..][..LEVELS.len()];
                    label.weight * by_level.iter().sum::<f64>()
                };
                let seen = all + labels.iter().map(here).sum::<f64>();
                // Who is good in one class is most likely good in the others.
                let expected = (crowd[class] + coin.0 - mean).clamp(0.02, 0.98);
                let (one, spread) = on_a_grid(beta(prior.strength, expected, right, all), &lines);
                by_class.0 += frequency * one;
                by_class.1 += frequency * frequency * spread;
                shrunk += frequency * prior.strength / (prior.strength + seen);
            }
            by_class.1 += shrunk * shrunk * coin.1;
        } else {
            by_class = coin;
        }
        let both = [(prior.coin, coin), (1.0 - prior.coin, by_class)];
        let average: f64 = both.iter().map(|(weight, (one, _))| weight * one).sum();
        let variance: f64 = both
            .iter()
            .map(|(weight, (one, spread))| weight * (spread + (one - average).powi(2)))
            .sum();
        (guess + part * average, part * part * variance)
    }

    /// The probability of a label at rate 0 of correct labels in `class` (`None`: in all), and how
    /// it grows with the rate.
    fn line(
        &self,
        crowd: &[f64],
        annotator: usize,
        label: &LabelSeen<'_>,
        class: Option<usize>,
    ) -> (f64, f64, f64) {
        let classes = crowd.len();
        let (mut at_zero, mut slope) = (0.0, 0.0);
        for (other, by_level) in label.others.chunks_exact(LEVELS.len()).enumerate() {
            let hit = other == label.class;
            let varies = class.is_none_or(|class| class == other);
            let skill = if varies {
                0.0
            } else {
                self.skill(crowd, annotator, other)
            };
            let (zero, one) = (by_skill(skill, hit, classes), by_skill(1.0, hit, classes));
            for (share, level) in by_level.iter().zip(LEVELS) {
                at_zero += share * blend(zero, level, classes);
                if varies {
                    slope += share * (1.0 - level) * (one - zero);
                }
            }
        }
        (label.weight, at_zero, slope)
    }
}

/// Probability of a label in each class and level, class by class, level by level, from the rates of
/// correct labels in each class.
pub(super) fn likelihood(skills: &[f64], label: usize) -> Vec<f64> {
    let classes = skills.len();
    let mut out = Vec::with_capacity(classes * LEVELS.len());
    for (class, &skill) in skills.iter().enumerate() {
        let own = by_skill(skill, class == label, classes);
        out.extend(LEVELS.map(|level| blend(own, level, classes)));
    }
    out
}

/// The rates of correct labels in each class that explain an annotator's labels alone, by
/// expectation maximisation: each label with the probability of each class and level of its item
/// that follows from the labels of others.
pub(super) fn skills_beside(crowd: &[f64], labels: &[(usize, &[f64])]) -> Vec<f64> {
    let classes = crowd.len();
    let mut skills = crowd.to_vec();
    for _ in 0..SKILL_STEPS {
        let mut counts = vec![(0.0, 0.0); classes];
        for &(label, others) in labels {
            let meant = |class: usize, by_level: &[f64]| {
                let own = by_skill(skills[class], class == label, classes);
                let guesses = by_level.iter().zip(LEVELS);
                let (meant, all) = guesses.fold((0.0, 0.0), |(meant, all), (share, level)| {
                    let whole = share * blend(own, level, classes);
                    (meant + share * (1.0 - level) * own, all + whole)
                });
                (meant, all)
            };
            let by_class = others.chunks_exact(LEVELS.len()).enumerate();
            let by_class: Vec<(f64, f64)> = by_class.map(|(z, levels)| meant(z, levels)).collect();
            let sum: f64 = by_class.iter().map(|(_, all)| all).sum();
            for (class, (meant, _)) in by_class.into_iter().enumerate() {
                let counted = meant / sum.max(f64::MIN_POSITIVE);
                counts[class].1 += counted;
                if class == label {
                    counts[class].0 += counted;
                }
            }
        }
        if classes > CONFUSION_CLASSES_MAX {
            let add = |sum: (f64, f64), one: &(f64, f64)| (sum.0 + one.0, sum.1 + one.1);
            let all = counts.iter().fold((0.0, 0.0), add);
            counts.fill(all);
        }
        for ((skill, crowd), (right, all)) in skills.iter_mut().zip(crowd).zip(counts) {
            *skill = (right + STRENGTH * crowd) / (all + STRENGTH);
        }
    }
    skills
}

/// On how many items of these two annotators of such rates give the same label, if they err
/// independently.
pub(super) fn alike_expected<'a>(
    (first, second): (&[f64], &[f64]),
    items: impl Iterator<Item = &'a [f64]>,
) -> f64 {
    let classes = first.len();
    let wrong = (classes.max(2) - 1) as f64;
    let alike = |others: &[f64]| -> f64 {
        let by_class = others.chunks_exact(LEVELS.len()).zip(first).zip(second);
        let by_class = by_class.map(|((by_level, &first), &second)| {
            let levels = by_level.iter().zip(LEVELS);
            let levels = levels.map(|(share, level)| {
                let [a, b] = [first, second].map(|skill| blend(skill, level, classes));
                share * (a * b + (1.0 - a) * (1.0 - b) / wrong)
            });
            levels.sum::<f64>()
        });
        by_class.sum()
    };
    items.map(alike).sum()
}

fn beta(strength: f64, mean: f64, right: f64, all: f64) -> (f64, f64) {
    (
        right + strength * mean,
        (all - right).max(0.0) + strength * (1.0 - mean),
    )
}

/// What is expected of an annotator without labels.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prior {
    /// The probability that one coin describes annotators.
    pub(super) coin: f64,
    /// Pseudo-labels behind that coin.
    pub(super) coin_strength: f64,
    /// Pseudo-labels behind the rate in each class otherwise.
    pub(super) strength: f64,
}

/// Moments of a rate with a beta prior (`a` - 1 and `b` - 1 are its exponents) and a likelihood that
/// is a product of lines.
fn on_a_grid((a, b): (f64, f64), lines: &[(f64, f64, f64)]) -> Moments {
    let mut logs = [0.0; POINTS];
    let point = |n: usize| (n as f64 + 0.5) / POINTS as f64;
    for (n, log) in logs.iter_mut().enumerate() {
        let rate = point(n);
        *log = (a - 1.0) * rate.ln() + (b - 1.0) * (-rate).ln_1p();
        for (weight, at_zero, slope) in lines {
            *log += weight * (at_zero + slope * rate).max(f64::MIN_POSITIVE).ln();
        }
    }
    let best = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut mean, mut square) = (0.0, 0.0, 0.0);
    for (n, log) in logs.into_iter().enumerate() {
        let (rate, weight) = (point(n), (log - best).exp());
        sum += weight;
        mean += weight * rate;
        square += weight * rate * rate;
    }
    mean /= sum;
    // A grid cannot tell less than its own step.
    let step = 1.0 / POINTS as f64;
    (mean, (square / sum - mean * mean).max(step * step / 12.0))
}

fn by_skill(skill: f64, right: bool, classes: usize) -> f64 {
    if right {
        skill
    } else {
        (1.0 - skill) / (classes.max(2) - 1) as f64
    }
}

fn blend(own: f64, level: f64, classes: usize) -> f64 {
    (1.0 - level) * own + level / classes.max(2) as f64
}
