//! Equal answers counted together.

use serde_json::Value;

use super::{form::most_written, value::Answer};

/// Weights are sums of logarithms: what differs by rounding only is equal.
const EQUAL: f64 = 1e-9;

/// Who gave which answer. Nothing of it depends on the order of the people but
/// [`Candidate::by`].
#[derive(Clone, Debug)]
pub struct Ballot<'a> {
    /// Different answers in their order.
    pub(super) candidates: Vec<Candidate<'a>>,
}

/// Equal answers.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    pub(super) members: Vec<Member<'a>>,
    weight: f64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Member<'a> {
    pub(super) answer: &'a Answer,
    pub(super) place: usize,
    pub(super) weight: f64,
}

impl<'a> Candidate<'a> {
    /// How many gave the answer.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// The sum of the weights of those who gave it; their number where nobody has a weight.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// Positions of those who gave it, in the order of the answers.
    pub fn by(&self) -> Vec<usize> {
        let mut by: Vec<usize> = self.members.iter().map(|member| member.place).collect();
        by.sort_unstable();
        by
    }

    /// The answer, written as most people wrote it.
    pub fn value(&self) -> Value {
        most_written(self.members.iter().map(|member| &member.answer.json))
    }

    pub(super) fn answer(&self) -> &'a Answer {
        self.members[0].answer
    }
}

impl<'a> Ballot<'a> {
    /// Counts `answers`, each with the weight of who gave it; 1 where there are no weights.
    pub fn new(answers: &[&'a Answer], weights: Option<&[f64]>) -> Self {
        let members = answers.iter().enumerate().map(|(place, answer)| Member {
            answer,
            place,
            weight: weights.map_or(1.0, |weights| weights.get(place).copied().unwrap_or(0.0)),
        });
        Self::of_members(members.collect())
    }

    pub(super) fn of_members(mut members: Vec<Member<'a>>) -> Self {
        // By weight after the form, so that sums of weights are the same in every order of people.
        members.sort_by(|a, b| {
            let weight = || a.weight.total_cmp(&b.weight);
            a.answer.cmp(b.answer).then_with(weight)
        });
        let candidates = members
            .chunk_by(|a, b| a.answer == b.answer)
            .map(|members| Candidate {
                members: members.to_vec(),
                weight: members.iter().map(|member| member.weight).sum(),
            });
        Self {
            candidates: candidates.collect(),
        }
    }

    /// Different answers, in their order.
    pub fn candidates(&self) -> &[Candidate<'a>] {
        &self.candidates
    }

    /// The different answers, most votes first, then in their order.
    pub fn by_votes(&self) -> Vec<&Candidate<'a>> {
        let mut sorted: Vec<&Candidate<'a>> = self.candidates.iter().collect();
        sorted.sort_by_key(|candidate| std::cmp::Reverse(candidate.count()));
        sorted
    }

    /// What each member counts where strengths are added up: weights, none of them below zero, or one
    /// each.
    pub(super) fn strength(&self, weighted: bool) -> impl Fn(&Member<'_>) -> f64 + use<> {
        let members = self.candidates.iter().flat_map(|c| &c.members);
        // Where nobody is trusted at all, everybody is trusted alike.
        let weighted = weighted && members.map(|m| m.weight.max(0.0)).sum::<f64>() > 0.0;
        move |member| {
            if weighted {
                member.weight.max(0.0)
            } else {
                1.0
            }
        }
    }

    /// The strength of each candidate.
    pub(super) fn strengths(&self, weighted: bool) -> Vec<f64> {
        let strength = self.strength(weighted);
        let of = |candidate: &Candidate<'_>| candidate.members.iter().map(&strength).sum();
        self.candidates.iter().map(of).collect()
    }

    /// The candidate with the most votes or the most weight; none where two share the first place.
    pub(super) fn elect(&self, weighted: bool) -> Option<&Candidate<'a>> {
        let votes = |candidate: &Candidate<'_>| {
            if weighted {
                candidate.weight
            } else {
                candidate.count() as f64
            }
        };
        unique_best(&self.candidates, votes)
    }

    /// Of those that share the most votes, the one with the most weight.
    pub(super) fn elect_among_first(&self) -> Option<&Candidate<'a>> {
        let most = self.candidates.iter().map(Candidate::count).max()?;
        let first = |candidate: &&Candidate<'_>| candidate.count() == most;
        let first: Vec<&Candidate<'a>> = self.candidates.iter().filter(first).collect();
        unique_best(&first, |candidate| candidate.weight).copied()
    }
}

/// The item of the greatest score; none where two share it.
pub(super) fn unique_best<T>(items: &[T], score: impl Fn(&T) -> f64) -> Option<&T> {
    let best = items.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    let rivals = items
        .iter()
        .filter(|item| score(best) - score(item) <= EQUAL);
    (rivals.count() == 1).then_some(best)
}

/// Whether two sums of weights are equal but for rounding.
pub(super) fn equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= EQUAL
}

/// Whether a part is more than a share of the whole, by more than rounding.
pub(super) fn exceeds(part: f64, whole: f64, share: f64) -> bool {
    whole > 0.0 && part / whole - share > 1e-12
}
