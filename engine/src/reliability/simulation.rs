//! Simulated crowds, to test a model of annotators with known truth.
//!
//! A crowd is a description and a seed; equal ones give equal labels. Of all this only [`Random`] is used
//! in production.

/// The properties of a crowd and of its items.
#[derive(Debug, Clone, PartialEq)]
pub struct Crowd {
    /// Items to label.
    pub items: usize,
    /// Relative frequency of each class; its length is the number of classes, at least two.
    pub frequencies: Vec<f64>,
    /// People in the crowd.
    pub annotators: usize,
    /// Labels per item, at most one from each person.
    pub labels: usize,
    /// Mean and standard deviation, over the crowd, of the log-odds of a correct label.
    pub skill: (f64, f64),
    /// Standard deviation of those log-odds between the classes of one person, and of the logarithm
    /// of a person's preference for one wrong class over another.
    pub class_effects: f64,
    /// How fast errors become rarer with the distance between classes, as on an ordered scale; 0:
    /// not at all.
    pub neighbours: f64,
    /// Share of people who ignore the item: half of them always give one class, half give any
    /// class.
    pub spammers: f64,
    /// Share of the others whose log-odds are inverted.
    pub adversaries: f64,
    /// Share of items on which half of all labels are guesses.
    pub hard: f64,
    /// Share of items that mislead everyone: half of the correct labels become one and the same
    /// wrong class.
    pub misleading: f64,
    /// Number of consecutive items that the same people label; 0: anyone may label any item.
    pub batch: usize,
    /// Probability of a correct label in each class, the same for everyone; empty: by `skill`.
    pub rates: Vec<f64>,
    /// The first people of the crowd, who form a group: how many, the share of their labels that
    /// repeat one label drawn for the item, and the probability that their labels are correct.
    pub copies: (usize, f64, f64),
    /// Whether everyone is offered every item in one order instead of a random one.
    pub fixed_order: bool,
}

impl Default for Crowd {
    /// 500 items of two classes, forty people of median accuracy 0.77, ten labels per item.
    fn default() -> Self {
        Self {
            items: 500,
            frequencies: vec![1.0; 2],
            annotators: 40,
            labels: 10,
            skill: (1.2, 0.7),
            class_effects: 0.0,
            neighbours: 0.0,
            spammers: 0.0,
            adversaries: 0.0,
            hard: 0.0,
            misleading: 0.0,
            batch: 0,
            rates: Vec::new(),
            copies: (0, 0.0, 0.0),
            fixed_order: false,
        }
    }
}

/// Labels with the truth behind them; annotators and classes are numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Labelled {
    /// Number of classes in use.
    pub classes: usize,
    /// The labels of each item in the order they are offered: annotator and class.
    pub labels: Vec<Vec<(usize, usize)>>,
    /// True class of each item, where known.
    pub truth: Vec<Option<usize>>,
    /// The probability that each annotator's label of an item drawn at random is correct, where
    /// known.
    pub accuracy: Vec<f64>,
}

impl Crowd {
    /// Generates the labels.
    pub fn label(&self, seed: u64) -> Labelled {
        let mut random = Random::new(seed);
        let classes = self.frequencies.len().max(2);
        let mut people: Vec<Vec<Vec<f64>>> = (0..self.annotators)
            .map(|_| self.person(classes, &mut random))
            .collect();
        for person in people.iter_mut().take(self.copies.0) {
            *person = even(&[self.copies.2], classes);
        }
        let (mut labels, mut truth) = (Vec::new(), Vec::new());
        for item in 0..self.items {
            let class = random.pick(&self.frequencies);
            let hard = random.unit() < self.hard;
            let misleads = random.unit() < self.misleading;
            let wrong = (class + 1 + random.below(classes - 1)) % classes;
            let mut who: Vec<usize> = match item.checked_div(self.batch) {
                None => (0..self.annotators).collect(),
                Some(batch) => (0..self.labels)
                    .map(|k| (batch * self.labels + k) % self.annotators)
                    .collect(),
            };
            if !self.fixed_order {
                random.shuffle(&mut who);
            }
            // A group comes first.
            if self.copies.0 > 0 {
                who.sort_by_key(|&annotator| annotator >= self.copies.0);
            }
            let mut shared = None;
            who.truncate(self.labels);
            labels.push(
                who.into_iter()
                    .map(|annotator| {
                        let mut row = people[annotator][class].clone();
                        if hard {
                            for share in &mut row {
                                *share = f64::midpoint(*share, 1.0 / classes as f64);
                            }
                        }
                        if misleads {
                            let moved = row[class] / 2.0;
                            row[class] -= moved;
                            row[wrong] += moved;
                        }
                        let own = random.pick(&row);
                        let in_group = annotator < self.copies.0;
                        if in_group && random.unit() < self.copies.1 {
                            (annotator, *shared.get_or_insert(own))
                        } else {
                            (annotator, own)
                        }
                    })
                    .collect(),
            );
            truth.push(Some(class));
        }
        let sum: f64 = self.frequencies.iter().sum();
        let chance = 1.0 / classes as f64;
        let of = |person: &Vec<Vec<f64>>| {
            let rows = person.iter().zip(&self.frequencies).enumerate();
            let right: f64 = rows.map(|(z, (row, weight))| row[z] * weight / sum).sum();
            let right = right - self.hard * (right - chance) / 2.0;
            right * (1.0 - self.misleading / 2.0)
        };
        Labelled {
            classes,
            accuracy: people.iter().map(of).collect(),
            labels,
            truth,
        }
    }

    /// The confusion matrix of one person.
    fn person(&self, classes: usize, random: &mut Random) -> Vec<Vec<f64>> {
        let others = (classes - 1) as f64;
        if random.unit() < self.spammers {
            let favourite = random.below(classes);
            let constant = random.unit() < 0.5;
            let row = (0..classes).map(|label| match (constant, label == favourite) {
                (false, _) => 1.0 / classes as f64,
                (true, true) => 0.94,
                (true, false) => 0.06 / others,
            });
            return vec![row.collect(); classes];
        }
        if !self.rates.is_empty() {
            return even(&self.rates, classes);
        }
        let skill = self.skill.0 + self.skill.1 * random.normal();
        let sign = if random.unit() < self.adversaries {
            -1.0
        } else {
            1.0
        };
        (0..classes)
            .map(|class| {
                let odds = sign * (skill + self.class_effects * random.normal());
                let right = 1.0 / (1.0 + (-odds).exp());
                let mut row: Vec<f64> = (0..classes)
                    .map(|label| {
                        let distance = class.abs_diff(label) as f64;
                        (self.class_effects * random.normal() - self.neighbours * distance).exp()
                    })
                    .collect();
                row[class] = 0.0;
                let sum: f64 = row.iter().sum();
                for share in &mut row {
                    *share *= (1.0 - right) / sum;
                }
                row[class] = right;
                row
            })
            .collect()
    }
}

/// The confusion matrix with these rates of correct labels by class (the first one where there is
/// none), and errors spread evenly.
fn even(rates: &[f64], classes: usize) -> Vec<Vec<f64>> {
    let row = |class: usize| {
        let rate = rates.get(class).or(rates.first()).copied().unwrap_or(0.5);
        let mut row = vec![(1.0 - rate) / (classes - 1) as f64; classes];
        row[class] = rate;
        row
    };
    (0..classes).map(row).collect()
}

/// Seeded pseudo-random numbers: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence that depends on the seed alone.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform over all numbers.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.bits()) * bound as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// A position, drawn with probability proportional to its weight.
    pub fn pick(&mut self, weights: &[f64]) -> usize {
        let sum: f64 = weights.iter().sum();
        let mut left = self.unit() * sum;
        for (position, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return position;
            }
        }
        weights.len().saturating_sub(1)
    }

    /// A random permutation, all equally likely (Fisher and Yates).
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for end in (1..values.len()).rev() {
            values.swap(end, self.below(end + 1));
        }
    }
}
