//! What one comparison of a visit says about the questions that the step asks.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    answer::Answer,
    config::{DistanceWeights, Level, Metric},
    events::{ConsensusCalculated, KnownAnswers, StoredEvent, Vote, WorkflowEvent},
    ids::{StepId, UserId},
};

/// Fields of an object, and elements of a list, that are told apart; beyond them the answer counts
/// as a whole.
const PARTS_MAX: usize = 100;

/// The first comparison of a visit, read as a measurement of agreement.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparedVisit<'e> {
    /// The step.
    pub step_id: &'e StepId,
    /// What it says about each field, or about the answer as a whole.
    pub samples: Vec<Sample<'e>>,
}

/// What several people answered to one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'e> {
    /// The path in `annotation.data`; all of the data where there is none.
    pub field: Option<String>,
    /// What measures agreement.
    pub metric: Metric,
    /// Level of measurement.
    pub level: Level,
    /// What disagreement weighs by its distance on the scale.
    pub weights: Option<DistanceWeights>,
    /// Weight of the field in the step's agreement.
    pub weight: f64,
    /// How many answers are possible, as far as is known.
    pub categories: usize,
    /// How alike the answers are, for metrics that do not correct for chance.
    pub similarity: Option<f64>,
    /// The answers to each unit: one, or one for each element of lists.
    pub units: Vec<Vec<Given<'e>>>,
    /// Those who answered, in the order of the answers, if there are two and they are known.
    pub people: Option<[UserId; 2]>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Given<'e> {
    /// The value; null where a list has ended.
    pub value: &'e Value,
    /// Where it is on the scale, if there is one.
    pub place: Option<f64>,
}

impl<'e> ComparedVisit<'e> {
    /// The measurement in an event. None for events of another kind, for gold tasks, which measure
    /// people, and for later comparisons of a visit: who is asked because of an answer is asked
    /// where people differ, so these would say less agreement than there is.
    pub fn of(event: &'e StoredEvent) -> Option<Self> {
        let WorkflowEvent::ConsensusCalculated(calculated) = &event.event else {
            return None;
        };
        if event.metadata.gold || calculated.again {
            return None;
        }
        let samples: Vec<Sample<'e>> = parts(calculated)
            .iter()
            .flat_map(Part::samples)
            .filter(Sample::compares)
            .collect();
        (!samples.is_empty()).then_some(Self {
            step_id: &calculated.step_id,
            samples,
        })
    }
}

impl Sample<'_> {
    /// Whether there is anything to compare.
    fn compares(&self) -> bool {
        self.similarity.is_some() || self.units.iter().any(|unit| unit.len() >= 2)
    }
}

/// One compared unit of the event: a field, or the answer as a whole.
struct Part<'e> {
    field: Option<&'e str>,
    metric: Metric,
    level: Level,
    weight: f64,
    agreement: Option<f64>,
    votes: &'e [Vote],
    known: Option<&'e KnownAnswers>,
    annotators: &'e [UserId],
}

fn parts(calculated: &ConsensusCalculated) -> Vec<Part<'_>> {
    if calculated.fields.is_empty() {
        return vec![Part {
            field: calculated.field.as_deref(),
            metric: calculated.metric,
            level: calculated.level,
            weight: 1.0,
            agreement: calculated.agreement,
            votes: &calculated.votes,
            known: calculated.known.as_ref(),
            annotators: &calculated.annotators,
        }];
    }
    let fields = calculated.fields.iter();
    fields
        .map(|field| Part {
            field: Some(&field.field),
            metric: field.metric,
            level: field.level,
            weight: field.weight,
            agreement: field.agreement,
            votes: &field.votes,
            known: field.known.as_ref(),
            annotators: &calculated.annotators,
        })
        .collect()
}

impl<'e> Part<'e> {
    fn samples(&self) -> Vec<Sample<'e>> {
        let (values, people) = self.in_order();
        if !self.metric.corrects_for_chance() {
            let mut sample = self.sample(None, people, vec![values]);
            sample.similarity = self.agreement;
            return vec![sample];
        }
        if let Some(keys) = keys(&values) {
            let who = people_or(people.as_deref(), values.len());
            let of_key = |key: &'e str| {
                let given = values.iter().zip(&who);
                let (values, people): (Vec<_>, Vec<_>) = given
                    .filter_map(|(given, who)| Some((within(given.value.get(key)?)?, *who)))
                    .unzip();
                self.sample(Some(key), people.into_iter().collect(), vec![values])
            };
            return keys.into_iter().map(of_key).collect();
        }
        let units = elements(&values).unwrap_or_else(|| vec![values]);
        vec![self.sample(None, people, units)]
    }

    fn sample(
        &self,
        key: Option<&str>,
        people: Option<Vec<UserId>>,
        units: Vec<Vec<Given<'e>>>,
    ) -> Sample<'e> {
        let path = self.field.into_iter().chain(key).collect::<Vec<_>>();
        let said = |given: &Given<'_>| given.value.is_boolean();
        // Yes and no are two categories, whether anybody says no or not.
        let yes_or_no = units.iter().flatten().all(said);
        let known = self.known.and_then(|known| known.categories);
        Sample {
            field: (!path.is_empty()).then(|| path.join(".")),
            metric: self.metric,
            level: self.level,
            weights: self.known.and_then(|known| known.weights),
            weight: self.weight,
            categories: known
                .and_then(|known| usize::try_from(known).ok())
                .unwrap_or(if yes_or_no { 2 } else { 0 }),
            similarity: None,
            units,
            people: people.and_then(|people| people.try_into().ok()),
        }
    }

    /// The answers in the order of acceptance, with those who gave them; in the order of the votes,
    /// and without, if the votes do not say who gave them.
    fn in_order(&self) -> (Vec<Given<'e>>, Option<Vec<UserId>>) {
        let mut given: Vec<(usize, Given<'e>)> = Vec::new();
        let mut is_known = true;
        let unplaced = self.votes.iter().all(|vote| vote.by.is_empty());
        for (index, vote) in self.votes.iter().enumerate() {
            let ranks = self.known.map_or(&[][..], |known| &known.ranks);
            let one = Given {
                value: &vote.value,
                place: ranks
                    .get(index)
                    .map(|rank| f64::from(*rank))
                    .or_else(|| vote.value.as_f64()),
            };
            let count = usize::try_from(vote.count).unwrap_or(usize::MAX);
            if vote.by.len() == count {
                let places = vote.by.iter().map(|place| usize::try_from(*place).ok());
                given.extend(places.map(|place| (place.unwrap_or(usize::MAX), one.clone())));
            } else {
                is_known &= unplaced;
                // Without positions the votes list the answers one after the other.
                let first = if unplaced { given.len() } else { usize::MAX };
                let places = (0..count).map(|n| first.saturating_add(n));
                given.extend(places.map(|place| (place, one.clone())));
            }
        }
        given.sort_by_key(|(place, _)| *place);
        let who = |(place, _): &(usize, Given<'_>)| self.annotators.get(*place).copied();
        let people = given.iter().map(who).collect::<Option<Vec<UserId>>>();
        let values = given.into_iter().map(|(_, value)| value).collect();
        (values, people.filter(|_| is_known))
    }
}

/// Each of the people, or nobody for each answer.
fn people_or(people: Option<&[UserId]>, answers: usize) -> Vec<Option<UserId>> {
    match people {
        Some(people) => people.iter().copied().map(Some).collect(),
        None => vec![None; answers],
    }
}

/// The keys of answers that are all objects, where they are not too many.
fn keys<'e>(values: &[Given<'e>]) -> Option<BTreeSet<&'e str>> {
    let mut keys = BTreeSet::new();
    for given in values {
        keys.extend(given.value.as_object()?.keys().map(String::as_str));
    }
    (!keys.is_empty() && keys.len() <= PARTS_MAX).then_some(keys)
}

/// The elements of answers that are all lists, where they are not too many. That a list has ended is
/// an answer, too.
fn elements<'e>(values: &[Given<'e>]) -> Option<Vec<Vec<Given<'e>>>> {
    const ENDED: Given<'static> = Given {
        value: &Value::Null,
        place: None,
    };
    let lists: Option<Vec<&'e Vec<Value>>> = values.iter().map(|v| v.value.as_array()).collect();
    let lists = lists?;
    let longest = lists.iter().map(|list| list.len()).max()?;
    if longest == 0 || longest > PARTS_MAX {
        return None;
    }
    let unit = |at: usize| {
        let elements = lists.iter().map(|list| list.get(at));
        elements
            .map(|element| element.map_or(ENDED, given))
            .collect()
    };
    Some((0..longest).map(unit).collect())
}

/// A value inside an object; null says nothing.
fn within(value: &Value) -> Option<Given<'_>> {
    (!value.is_null()).then(|| given(value))
}

fn given(value: &Value) -> Given<'_> {
    Given {
        value,
        place: value.as_f64(),
    }
}

impl Given<'_> {
    /// Text that equal answers share and others do not.
    pub(super) fn canonical(&self) -> String {
        Answer::plain(self.value).canonical_json().to_string()
    }
}
