//! Numbers.

use serde_json::{Map, Value, json};

use super::{Found, How, Kind};
use crate::{
    answer::{
        ballot::{Ballot, equal},
        error::{AnswerError, Problem, kind_of, shown},
        form::{Exact, Form},
        reader::Reader,
        value::{Answer, Parts},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, Metric},
};

/// A number from `min` to `max`. Two are alike (1) where they are no further apart than `tolerance`,
/// else not (0).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Number {
    pub(crate) min: Option<serde_json::Number>,
    pub(crate) max: Option<serde_json::Number>,
    pub(crate) tolerance: f64,
}

impl Number {
    pub(super) fn likeness(&self, a: &Form, b: &Form) -> f64 {
        let alike = match (a.number(), b.number()) {
            (Some(a), Some(b)) => self.within(a, b),
            _ => a == b,
        };
        f64::from(u8::from(alike))
    }

    fn within(&self, a: Exact, b: Exact) -> bool {
        if a == b || self.tolerance <= 0.0 {
            return a == b;
        }
        if let (Exact::Whole(a), Exact::Whole(b)) = (a, b) {
            return a.abs_diff(b) as f64 <= self.tolerance;
        }
        // Decimal fractions have no exact double: 0.3 and 0.4 are 0.1 apart though their doubles are not.
        let (a, b) = (a.to_f64(), b.to_f64());
        let rounding = 4.0 * f64::EPSILON * a.abs().max(b.abs());
        (a - b).abs() <= self.tolerance + rounding
    }

    pub(super) fn check(&self, value: &Value) -> Result<Form, Problem> {
        let number = match value {
            Value::Null => return Err(Problem::Missing),
            Value::Number(number) => Exact::of(number),
            Value::String(text) if text.trim().parse::<f64>().is_ok() => {
                return Err(Problem::Unfit {
                    found: "a text".to_owned(),
                    expected: "number",
                    hint: Some(format!("write {} without quotation marks", text.trim())),
                });
            }
            _ => {
                return Err(Problem::Unfit {
                    found: kind_of(value).to_owned(),
                    expected: "number",
                    hint: None,
                });
            }
        };
        let outside = |side, bound: &serde_json::Number| Problem::OutOfRange {
            given: shown(value),
            side,
            bound: bound.to_string(),
        };
        if let Some(min) = self.min.as_ref().filter(|min| number < Exact::of(min)) {
            return Err(outside("below the least that is allowed,", min));
        }
        if let Some(max) = self.max.as_ref().filter(|max| number > Exact::of(max)) {
            return Err(outside("above the greatest that is allowed,", max));
        }
        Ok(Form::Number(number))
    }
}

/// The mean of two numbers, exact where whole numbers allow it.
fn middle(a: Exact, b: Exact) -> Exact {
    if let (Exact::Whole(a), Exact::Whole(b)) = (a, b)
        && let Some(sum) = a.checked_add(b)
    {
        return if sum % 2 == 0 {
            Exact::Whole(sum / 2)
        } else {
            Exact::of_f64(sum as f64 / 2.0)
        };
    }
    // Halved first, so that the sum of two large ones stays finite.
    Exact::of_f64(a.to_f64() / 2.0 + b.to_f64() / 2.0)
}

impl Kind for Number {
    fn name(&self) -> AnswerKind {
        AnswerKind::Number
    }

    fn metrics(&self) -> &'static [Metric] {
        &[Metric::Within, Metric::KrippendorffAlpha]
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        &[
            AgreementMethod::Median,
            AgreementMethod::Mean,
            AgreementMethod::MostVotes,
        ]
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        let form = self.check(value).map_err(|problem| reader.wrong(problem))?;
        Ok(Answer::new(form, value, Parts::None))
    }

    fn similarity(
        &self,
        _: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch> {
        work.spend(1)?;
        Ok(self.likeness(&a.form, &b.form))
    }

    /// The median, for an even number of answers the mean of the middle two; or the mean.
    fn unite(&self, ballot: &Ballot<'_>, how: How, _: &mut Work) -> Result<Found, TooMuch> {
        if let [only] = ballot.candidates.as_slice() {
            return Ok(Found::value(only.value()));
        }
        let strengths = ballot.strengths(how.weighted);
        let total: f64 = strengths.iter().sum();
        let sorted: Vec<_> = ballot
            .candidates
            .iter()
            .zip(strengths)
            .filter_map(|(candidate, strength)| {
                Some((candidate, candidate.answer().form.number()?, strength))
            })
            .collect();
        if how.method == AgreementMethod::Mean {
            // Each part is divided before the sum, so that it stays finite.
            let parts = sorted
                .iter()
                .map(|(_, number, strength)| number.to_f64() * (strength / total));
            let mean = Exact::of_f64(without_noise(parts.sum()));
            return Ok(Found::value(mean.to_json()));
        }
        let mut below = 0.0;
        let mut lower = None;
        for (candidate, number, strength) in sorted {
            if let Some(lower) = lower
                && strength > 0.0
            {
                return Ok(Found::value(middle(lower, number).to_json()));
            }
            below += strength;
            if equal(below * 2.0, total) {
                lower = lower.or(Some(number));
            } else if below * 2.0 > total && lower.is_none() {
                return Ok(Found::value(candidate.value()));
            }
        }
        Ok(Found::default())
    }

    fn schema(&self) -> Value {
        let mut schema = Map::new();
        schema.insert("type".to_owned(), json!("number"));
        if let Some(min) = &self.min {
            schema.insert("minimum".to_owned(), json!(min));
        }
        if let Some(max) = &self.max {
            schema.insert("maximum".to_owned(), json!(max));
        }
        Value::Object(schema)
    }
}

/// Keeps fifteen digits: what weights of a third add up to is no answer's last digit.
fn without_noise(mean: f64) -> f64 {
    format!("{mean:.14e}").parse().unwrap_or(mean)
}
