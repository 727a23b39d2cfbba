//! Any JSON.

use std::cmp::Ordering;

use serde_json::{Value, json};

use super::{Found, How, Kind};
use crate::{
    answer::{
        ballot::Ballot,
        error::{AnswerError, Problem},
        form::Form,
        reader::Reader,
        value::{Answer, Parts},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, Metric},
};

/// JSON of any shape but null. Scalars are equal or not; of two objects the share of equal fields
/// counts, over the keys that either has; of two lists the share of equal positions, over the longer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Any;

/// The nominal measures.
pub(super) const NOMINAL: &[Metric] = &[
    Metric::PercentAgreement,
    Metric::CohenKappa,
    Metric::FleissKappa,
    Metric::KrippendorffAlpha,
    Metric::GwetAc1,
];

impl Kind for Any {
    fn name(&self) -> AnswerKind {
        AnswerKind::Any
    }

    fn metrics(&self) -> &'static [Metric] {
        NOMINAL
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        &[AgreementMethod::MostVotes]
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        if value.is_null() {
            return Err(reader.wrong(Problem::Missing));
        }
        Ok(Answer::new(Form::of(value), value, Parts::None))
    }

    fn similarity(
        &self,
        _: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch> {
        work.spend(a.size.min(b.size))?;
        Ok(likeness(&a.form, &b.form))
    }

    fn unite(&self, _: &Ballot<'_>, _: How, _: &mut Work) -> Result<Found, TooMuch> {
        Ok(Found::tie())
    }

    fn class(&self, answer: &Answer) -> Option<String> {
        answer.form.is_scalar().then(|| answer.name()).flatten()
    }

    fn schema(&self) -> Value {
        json!({"not": {"type": "null"}})
    }
}

/// Share of equal parts.
pub(super) fn likeness(a: &Form, b: &Form) -> f64 {
    if a == b {
        return 1.0;
    }
    match (a, b) {
        (Form::Object(a), Form::Object(b)) => {
            let (mut equal, mut keys) = (0_usize, 0_usize);
            let (mut i, mut j) = (0, 0);
            while i < a.len() || j < b.len() {
                let order = match (a.get(i), b.get(j)) {
                    (Some(a), Some(b)) => a.0.cmp(&b.0),
                    (Some(_), None) => Ordering::Less,
                    _ => Ordering::Greater,
                };
                if order.is_eq() {
                    equal += usize::from(a[i].1 == b[j].1);
                }
                keys += 1;
                i += usize::from(order.is_le());
                j += usize::from(order.is_ge());
            }
            equal as f64 / keys as f64
        }
        (Form::List(a), Form::List(b)) => {
            let equal = a.iter().zip(b).filter(|(a, b)| a == b).count();
            equal as f64 / a.len().max(b.len()) as f64
        }
        _ => 0.0,
    }
}
