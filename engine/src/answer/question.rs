//! What a step asks for, resolved.

use serde_json::{Map, Value};

use super::{
    error::AnswerError,
    kinds::{Shape, record},
    reader::{Reader, value_at},
    value::{Answer, Slot},
    work::{TooMuch, Work},
};
use crate::config::{
    AgreementMethod, AnswerKind, DistanceWeights, FieldMode, Level, Metric, MissingField,
};

/// What a step asks for: where in the data the answer is, what it may be, and what makes two alike.
///
/// Made by [`Question::resolve`], once for each step of a revision.
#[derive(Clone, Debug)]
pub struct Question {
    pub(super) field: Option<String>,
    pub(super) shape: Shape,
    pub(super) metric: Metric,
    pub(super) level: Level,
    pub(super) weights: Option<DistanceWeights>,
    pub(super) threshold: f64,
}

/// A field of a record, as a question of its own.
#[derive(Clone, Copy, Debug)]
pub struct FieldQuestion<'q> {
    /// Path inside the record; the key of the field in a united value.
    pub path: &'q str,
    /// What is asked.
    pub question: &'q Question,
    /// Weight in agreement and similarity.
    pub weight: f64,
}

impl Question {
    /// Path of the answer in `annotation.data`; all of data where there is none.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The kind of answer. Where a `level` without a kind asks for several judgements, that of each.
    pub fn kind(&self) -> AnswerKind {
        self.shape.kind().name()
    }

    /// What measures agreement; of a record each field has its own.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Level of measurement of the answer.
    pub fn level(&self) -> Level {
        self.level
    }

    /// What disagreement weighs by its distance (`cohen_kappa`).
    pub fn weights(&self) -> Option<DistanceWeights> {
        self.weights
    }

    /// Agreement at which people agree.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// The possible answers or members, where the file lists them.
    pub fn values(&self) -> Option<&[Value]> {
        let values = match &self.shape {
            Shape::Category(kind) => kind.values.as_ref(),
            Shape::Ordinal(kind) => kind.values.as_ref(),
            Shape::Set(kind) => kind.values.as_ref(),
            Shape::Ranking(kind) => Some(&kind.values),
            Shape::Regions(kind) => kind.values.as_ref(),
            _ => None,
        };
        values.map(super::kinds::Values::list)
    }

    /// The fields of a record, sorted by path; empty for any other kind.
    pub fn fields(&self) -> Vec<FieldQuestion<'_>> {
        let fields = self.shape.record().map_or(&[][..], |record| &record.fields);
        let view = fields.iter().map(|field| FieldQuestion {
            path: &field.path,
            question: &field.question,
            weight: field.weight,
        });
        view.collect()
    }

    /// The answers to one field of a record, each under the mark of the record it stands in.
    pub fn answers_to<'a, T: Copy>(
        &self,
        path: &str,
        answers: &[(T, &'a Answer)],
    ) -> Vec<(T, &'a Answer)> {
        let fields = self.shape.record().map_or(&[][..], |record| &record.fields);
        let Some(index) = fields.iter().position(|field| field.path == path) else {
            return Vec::new();
        };
        let given =
            answers
                .iter()
                .filter_map(|(mark, answer)| match answer.slots().get(index)? {
                    Slot::Given(given) => Some((*mark, given)),
                    Slot::Nothing | Slot::Missing => None,
                });
        given.collect()
    }

    /// How the fields of a record join into one verdict.
    pub fn mode(&self) -> Option<FieldMode> {
        self.shape.record().map(|record| record.mode)
    }

    /// Whether the kind of answer can be united so; a record takes what any of its fields takes.
    pub fn takes_method(&self, method: AgreementMethod) -> bool {
        let always = matches!(
            method,
            AgreementMethod::MajorityVote
                | AgreementMethod::WeightedVote
                | AgreementMethod::Unanimous
        );
        always
            || self.shape.kind().methods().contains(&method)
            || self
                .fields()
                .iter()
                .any(|f| f.question.takes_method(method))
    }

    /// Whether an answer is one of several categories, so that a person is right or wrong about it.
    pub fn is_categorical(&self) -> bool {
        matches!(
            self.shape,
            Shape::Any(_) | Shape::Category(_) | Shape::Ordinal(_)
        )
    }

    /// The questions whose answers are categories, with the paths of their answers in
    /// `annotation.data`: this one, or those fields of a record that are.
    pub fn categorical(&self) -> Vec<(Option<String>, &Question)> {
        let Some(record) = self.shape.record() else {
            let own = self.is_categorical().then(|| (self.field.clone(), self));
            return own.into_iter().collect();
        };
        let fields = record.fields.iter().filter(|f| f.question.is_categorical());
        fields
            .map(|field| (Some(self.path_of(&field.path)), &field.question))
            .collect()
    }

    /// The path of a record's field in `annotation.data`.
    pub fn path_of(&self, field: &str) -> String {
        let outer = self.field.iter().map(String::as_str);
        outer.chain([field]).collect::<Vec<_>>().join(".")
    }

    /// The answer in `annotation.data`. `input` is the task's, against which spans are checked and
    /// conditions of fields are asked.
    ///
    /// # Errors
    ///
    /// What is wrong, where, and how to mend it.
    pub fn read(&self, data: &Value, input: &Value) -> Result<Answer, AnswerError> {
        let mut reader = Reader::new(data, input);
        let value = value_at(data, self.field()).unwrap_or(&Value::Null);
        let read = |reader: &mut Reader<'_>| self.shape.kind().read(value, reader);
        match self.field() {
            Some(field) => reader.at_key(field, read),
            None => read(&mut reader),
        }
    }

    /// As [`Question::read`], of a value that is the answer itself, such as a united one.
    ///
    /// # Errors
    ///
    /// As [`Question::read`].
    pub fn read_value(&self, value: &Value, input: &Value) -> Result<Answer, AnswerError> {
        let data = data_of(self.field(), value);
        let mut reader = Reader::new(&data, input);
        self.shape.kind().read(value, &mut reader)
    }

    /// How alike two answers are by the question's measure: 0 to 1, the same in both directions, 1 for
    /// equal ones. Where the measure corrects for chance, by what it corrects.
    ///
    /// # Errors
    ///
    /// [`TooMuch`] where it takes more than `work` has left.
    pub fn similarity(&self, a: &Answer, b: &Answer, work: &mut Work) -> Result<f64, TooMuch> {
        self.shape.kind().similarity(self.metric, a, b, work)
    }

    /// The same question, with the answer at another place in the data.
    #[must_use]
    pub fn at(&self, field: &str) -> Self {
        let field = field.strip_prefix("$.").unwrap_or(field);
        Self {
            field: Some(field.to_owned()),
            ..self.clone()
        }
    }

    /// The question as an adjudicator is asked it who decides what is disputed only: of a record the other
    /// fields may be left out. Any other question stays as it is.
    #[must_use]
    pub fn for_disputed(&self, disputed: &[&str]) -> Self {
        let mut question = self.clone();
        if let Shape::Record(record) = &mut question.shape {
            let settled = |field: &&mut super::kinds::Field| !disputed.contains(&&*field.path);
            for field in record.fields.iter_mut().filter(settled) {
                field.missing = MissingField::LeaveOut;
            }
        }
        question
    }

    /// The class that an answer stands for in models of reliability; none where it is no category.
    pub fn class(&self, answer: &Answer) -> Option<String> {
        self.shape.kind().class(answer)
    }

    /// JSON Schema of `annotation.data`, for those who build the client. Further keys may be given.
    pub fn data_schema(&self) -> Value {
        let answer = self.shape.kind().schema();
        let Some(field) = self.field() else {
            return answer;
        };
        let mut schema = Map::new();
        record::insert(&mut schema, field, answer, true);
        Value::Object(schema)
    }
}

/// Data that hold nothing but a value at a path.
pub fn data_of(field: Option<&str>, value: &Value) -> Value {
    let path = field.map(|field| field.strip_prefix("$.").unwrap_or(field));
    let keys = path.into_iter().flat_map(|path| path.rsplit('.'));
    keys.fold(value.clone(), |value, key| {
        Value::Object(Map::from_iter([(key.to_owned(), value)]))
    })
}
