//! The kinds of answers: one file each, behind one trait.

mod any;
mod boxes;
mod category;
pub(super) mod each;
mod number;
mod ordinal;
mod polygons;
mod ranking;
pub(super) mod record;
pub(super) mod regions;
mod segments;
mod set;
mod spans;
mod text;
mod values;

use serde_json::Value;

pub(crate) use self::{
    any::Any,
    category::Category,
    each::{Each, Unit},
    number::Number,
    ordinal::Ordinal,
    ranking::Ranking,
    record::{Field, Record},
    regions::{Outline, Regions},
    set::Set,
    text::Text,
    values::{Values, ValuesFault},
};
use super::{
    ballot::Ballot,
    error::AnswerError,
    reader::Reader,
    value::Answer,
    work::{TooMuch, Work},
};
use crate::config::{AgreementMethod, AnswerKind, Metric};

/// What a kind of answer can do.
pub(crate) trait Kind {
    /// Its name.
    fn name(&self) -> AnswerKind;

    /// What can measure agreement on it; the first does where nothing is said.
    fn metrics(&self) -> &'static [Metric];

    /// What can unite it, besides `unanimous`; the first is what `majority_vote` stands for, and what
    /// `weighted_vote` does with weights.
    fn methods(&self) -> &'static [AgreementMethod];

    /// Checks a value and brings it into canonical form.
    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError>;

    /// How alike two answers are: 0 to 1, the same in both directions, 1 for equal ones.
    fn similarity(
        &self,
        metric: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch>;

    /// One value of several answers, by one of [`Kind::methods`] other than `most_votes`.
    fn unite(&self, ballot: &Ballot<'_>, how: How, work: &mut Work) -> Result<Found, TooMuch>;

    /// The answer as a class for models of reliability, where it is a category.
    fn class(&self, _answer: &Answer) -> Option<String> {
        None
    }

    /// JSON Schema of the value.
    fn schema(&self) -> Value;
}

/// How answers are united.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) method: AgreementMethod,
    /// By the weights of people, not by heads.
    pub(crate) weighted: bool,
    /// What measures likeness, where the method asks for it.
    pub(crate) metric: Metric,
}

/// What uniting finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    pub(crate) value: Option<Value>,
    /// There is no value because two are equally good.
    pub(crate) tied: bool,
    /// Members or regions that somebody gave and that are not in the value.
    pub(crate) open: Vec<Value>,
}

impl Found {
    pub(crate) fn value(value: Value) -> Self {
        Self {
            value: Some(value),
            ..Self::default()
        }
    }

    pub(crate) fn tie() -> Self {
        Self {
            tied: true,
            ..Self::default()
        }
    }
}

/// A kind with what the file says about it.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Any(Any),
    Category(Category),
    Ordinal(Ordinal),
    Number(Number),
    Set(Set),
    Ranking(Ranking),
    Text(Text),
    Regions(Regions),
    Each(Each),
    Record(Record),
}

impl Shape {
    pub(crate) fn kind(&self) -> &dyn Kind {
        match self {
            Self::Any(kind) => kind,
            Self::Category(kind) => kind,
            Self::Ordinal(kind) => kind,
            Self::Number(kind) => kind,
            Self::Set(kind) => kind,
            Self::Ranking(kind) => kind,
            Self::Text(kind) => kind,
            Self::Regions(kind) => kind,
            Self::Each(kind) => kind,
            Self::Record(kind) => kind,
        }
    }

    pub(crate) fn record(&self) -> Option<&Record> {
        match self {
            Self::Record(record) => Some(record),
            _ => None,
        }
    }
}
