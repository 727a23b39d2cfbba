//! One of several values without order.

use serde_json::Value;

use super::{Found, How, Kind, Values, any::NOMINAL, values};
use crate::{
    answer::{
        ballot::Ballot,
        error::AnswerError,
        reader::Reader,
        value::{Answer, Parts},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, Metric},
};

/// A scalar, one of `values` where they are given. Two are equal or not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Category {
    pub(crate) values: Option<Values>,
}

impl Kind for Category {
    fn name(&self) -> AnswerKind {
        AnswerKind::Category
    }

    fn metrics(&self) -> &'static [Metric] {
        NOMINAL
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        &[AgreementMethod::MostVotes]
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        let form = match &self.values {
            Some(values) => values.check(value),
            None => values::scalar(value),
        };
        let form = form.map_err(|problem| reader.wrong(problem))?;
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
        Ok(f64::from(u8::from(a == b)))
    }

    fn unite(&self, _: &Ballot<'_>, _: How, _: &mut Work) -> Result<Found, TooMuch> {
        Ok(Found::tie())
    }

    fn class(&self, answer: &Answer) -> Option<String> {
        answer.name()
    }

    fn schema(&self) -> Value {
        values::schema(self.values.as_ref())
    }
}
