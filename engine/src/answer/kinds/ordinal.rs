//! One of several values from low to high.

use serde_json::{Value, json};

use super::{Found, How, Kind, Values, values};
use crate::{
    answer::{
        ballot::{Ballot, equal},
        error::{AnswerError, Problem, kind_of},
        form::Form,
        reader::Reader,
        value::{Answer, Parts},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, Metric},
};

/// One of `values`, which stand from low to high; without them a number.
///
/// Of ranks *r* and *s* on a scale of *k* values the similarity is
///
/// ```text
/// 1 - |r - s| / (k - 1)
/// ```
///
/// and 1 on a scale of one value. Numbers without a scale are equal or not: how far apart two of them
/// may be is not known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ordinal {
    pub(crate) values: Option<Values>,
}

impl Ordinal {
    pub(super) fn likeness(&self, metric: Metric, a: &Form, b: &Form) -> f64 {
        if a == b {
            return 1.0;
        }
        if metric == Metric::PercentAgreement {
            return 0.0;
        }
        let Some(values) = &self.values else {
            return 0.0;
        };
        match (values.position(a), values.position(b)) {
            (Some(a), Some(b)) => 1.0 - a.abs_diff(b) as f64 / (values.len() - 1) as f64,
            _ => 0.0,
        }
    }

    pub(super) fn check(&self, value: &Value) -> Result<Form, Problem> {
        if let Some(values) = &self.values {
            return values.check(value);
        }
        match value {
            Value::Null => Err(Problem::Missing),
            Value::Number(_) => Ok(Form::of(value)),
            _ => Err(Problem::Unfit {
                found: kind_of(value).to_owned(),
                expected: "number",
                hint: Some(
                    "without `values`, which list a scale from low to high, only numbers have an order"
                        .to_owned(),
                ),
            }),
        }
    }

    /// Where the answer is on the scale, for sorting.
    fn rank(&self, answer: &Answer) -> usize {
        let position = self.values.as_ref().map(|v| v.position(&answer.form));
        position.flatten().unwrap_or(0)
    }
}

impl Kind for Ordinal {
    fn name(&self) -> AnswerKind {
        AnswerKind::Ordinal
    }

    fn metrics(&self) -> &'static [Metric] {
        &[
            Metric::OrdinalAgreement,
            Metric::PercentAgreement,
            Metric::KrippendorffAlpha,
            Metric::CohenKappa,
        ]
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        &[AgreementMethod::MostVotes, AgreementMethod::Median]
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        let form = self.check(value).map_err(|problem| reader.wrong(problem))?;
        Ok(Answer::new(form, value, Parts::None))
    }

    fn similarity(
        &self,
        metric: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch> {
        work.spend(1)?;
        Ok(self.likeness(metric, &a.form, &b.form))
    }

    /// The median; a tie where it falls between two values, since nothing lies between them.
    fn unite(&self, ballot: &Ballot<'_>, how: How, _: &mut Work) -> Result<Found, TooMuch> {
        let strengths = ballot.strengths(how.weighted);
        let mut sorted: Vec<_> = ballot.candidates.iter().zip(strengths).collect();
        // Stable: without a scale the candidates are in the order of their numbers already.
        sorted.sort_by_key(|(candidate, _)| self.rank(candidate.answer()));
        let total: f64 = sorted.iter().map(|(_, strength)| strength).sum();
        let mut below = 0.0;
        for (candidate, strength) in sorted {
            below += strength;
            if equal(below * 2.0, total) {
                return Ok(Found::tie());
            }
            if below * 2.0 > total {
                return Ok(Found::value(candidate.value()));
            }
        }
        Ok(Found::default())
    }

    fn class(&self, answer: &Answer) -> Option<String> {
        answer.name()
    }

    fn schema(&self) -> Value {
        match &self.values {
            Some(values) => values::schema(Some(values)),
            None => json!({"type": "number"}),
        }
    }
}
