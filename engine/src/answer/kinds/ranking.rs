//! All values in the order of preference.

use serde_json::{Value, json};

use super::{Found, How, Kind, Values, values};
use crate::{
    answer::{
        ballot::{Ballot, equal},
        error::{AnswerError, Problem, kind_of, shown},
        form::Form,
        reader::Reader,
        value::{Answer, Parts},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, Metric},
};

/// A list of all `values`, once each, the best first.
///
/// # Similarity
///
/// With *c* pairs of values that both put in the same order and *d* that they do not,
///
/// ```text
/// tau = (c - d) / (c + d),        similarity = (tau + 1) / 2 = c / (c + d)
/// ```
///
/// Kendall, M. G. (1938). A new measure of rank correlation. *Biometrika* 30(1-2), 81-93. Of one value
/// all rankings are alike (1).
///
/// # Uniting
///
/// The count of Borda: of *k* values the first of a ranking gets *k* - 1 points, the last none. Where two
/// values have equal points there is no order, and the ranking is tied.
///
/// Borda, J.-C. de (1784). Mémoire sur les élections au scrutin. *Histoire de l'Académie Royale des
/// Sciences pour 1781*, 657-665.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ranking {
    pub(crate) values: Values,
}

impl Ranking {
    /// Positions in `values`, in the order of the ranking.
    fn order(&self, answer: &Answer) -> Vec<usize> {
        match &answer.form {
            Form::List(items) => {
                let positions = items.iter().filter_map(|item| self.values.position(item));
                positions.collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Pairs of `items` that stand in the wrong order, counted by merging halves.
fn inversions(items: &mut [usize]) -> u64 {
    let half = items.len() / 2;
    if half == 0 {
        return 0;
    }
    let (left, right) = items.split_at_mut(half);
    let mut count = inversions(left) + inversions(right);
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() || j < right.len() {
        let from_left = match (left.get(i), right.get(j)) {
            (Some(left), Some(right)) => left <= right,
            (left, _) => left.is_some(),
        };
        if from_left {
            merged.push(left[i]);
            i += 1;
        } else {
            count += (left.len() - i) as u64;
            merged.push(right[j]);
            j += 1;
        }
    }
    items.copy_from_slice(&merged);
    count
}

impl Kind for Ranking {
    fn name(&self) -> AnswerKind {
        AnswerKind::Ranking
    }

    fn metrics(&self) -> &'static [Metric] {
        &[Metric::KendallTau]
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        &[AgreementMethod::Borda, AgreementMethod::MostVotes]
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        let items = match value {
            Value::Array(items) => items,
            Value::Null => return Err(reader.wrong(Problem::Missing)),
            _ => {
                return Err(reader.wrong(Problem::Unfit {
                    found: kind_of(value).to_owned(),
                    expected: "ranking",
                    hint: Some("give a list of all values, the first one first".to_owned()),
                }));
            }
        };
        let mut ranked = vec![false; self.values.len()];
        let mut forms = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let form = reader.at_index(index, |reader| {
                let check = self.values.check(item);
                let form = check.map_err(|problem| reader.wrong(problem))?;
                let position = self.values.position(&form).unwrap_or_default();
                if std::mem::replace(&mut ranked[position], true) {
                    let given = shown(item);
                    return Err(reader.wrong(Problem::Twice { given }));
                }
                Ok(form)
            })?;
            forms.push(form);
        }
        if let Some(missing) = ranked.iter().position(|ranked| !ranked) {
            let missing = shown(&self.values.list()[missing]);
            return Err(reader.wrong(Problem::NotRanked { missing }));
        }
        Ok(Answer::new(Form::List(forms), value, Parts::None))
    }

    fn similarity(
        &self,
        _: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch> {
        let count = self.values.len() as u64;
        work.spend(16 * count)?;
        let (a, b) = (self.order(a), self.order(b));
        let mut place = vec![0; self.values.len()];
        for (index, value) in a.into_iter().enumerate() {
            place[value] = index;
        }
        let mut seen: Vec<usize> = b.into_iter().map(|value| place[value]).collect();
        let pairs = count * (count - 1) / 2;
        if pairs == 0 {
            return Ok(1.0);
        }
        Ok((pairs - inversions(&mut seen)) as f64 / pairs as f64)
    }

    fn unite(&self, ballot: &Ballot<'_>, how: How, work: &mut Work) -> Result<Found, TooMuch> {
        let count = self.values.len();
        let mut points = vec![0.0; count];
        for (candidate, strength) in ballot.candidates.iter().zip(ballot.strengths(how.weighted)) {
            work.spend(4 * count as u64)?;
            for (index, value) in self.order(candidate.answer()).into_iter().enumerate() {
                points[value] += strength * (count - 1 - index) as f64;
            }
        }
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| points[*b].total_cmp(&points[*a]));
        if order.windows(2).any(|w| equal(points[w[0]], points[w[1]])) {
            return Ok(Found::tie());
        }
        let ranked = order
            .into_iter()
            .map(|value| self.values.list()[value].clone());
        Ok(Found::value(Value::Array(ranked.collect())))
    }

    fn schema(&self) -> Value {
        json!({
            "type": "array",
            "items": values::schema(Some(&self.values)),
            "uniqueItems": true,
            "minItems": self.values.len(),
            "maxItems": self.values.len(),
        })
    }
}
