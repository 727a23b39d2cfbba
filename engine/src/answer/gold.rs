//! Answers to gold tasks.

use serde_json::{Map, Value};

use super::{
    Question,
    agreement::reaches,
    form::Form,
    kinds::{Field, Record, Shape},
    question::data_of,
    reader::value_at,
    value::{Answer, Slot},
    work::Work,
};
use crate::config::FieldMode;

/// What becomes of an answer to a gold task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Whether it counts as right.
    pub correct: bool,
    /// How like the known answer it is, 0 to 1.
    pub similarity: f64,
}

impl Question {
    /// Whether `data` give the answer that is `known`: whether it is as like as `threshold` says; where
    /// that is left out, as the step's own threshold, if its measure is a similarity, else equal. None
    /// where the known answer says nothing of this step.
    ///
    /// An object as the known answer holds the answers by field, so that one task can be gold for several
    /// steps; where the step takes one field and the object lacks it, it is only compared with an answer
    /// that is an object itself. Of a record those fields count that the known answer has; of a step that
    /// takes all data, further keys do not count. Any other known answer is that of the step's field.
    pub fn judge(
        &self,
        data: &Value,
        known: &Value,
        input: &Value,
        threshold: Option<f64>,
    ) -> Option<Verdict> {
        let mut work = Work::of_decision();
        if let Some(record) = self.shape.record() {
            return self.judge_record(record, (data, known, input), threshold, &mut work);
        }
        let (given, known) = match self.field() {
            Some(field) => {
                let given = value_at(data, Some(field))?;
                (given.clone(), known_of_field(known, field, given)?.clone())
            }
            // Which key is meant cannot be told.
            None if data.is_object() != known.is_object() => return None,
            None => (data.clone(), known.clone()),
        };
        let (given, known) = match (&self.shape, given, known) {
            (Shape::Any(_), Value::Object(given), Value::Object(known)) if self.field.is_none() => {
                let only_known = |(key, _): &(String, Value)| known.contains_key(key);
                let given: Map<String, Value> = given.into_iter().filter(only_known).collect();
                (Value::Object(given), Value::Object(known))
            }
            (_, given, known) => (given, known),
        };
        let similarity = self.likeness_to_known(&given, &known, input, &mut work);
        let threshold = threshold.unwrap_or(self.gold_threshold());
        Some(Verdict {
            correct: reaches(Some(similarity), threshold),
            similarity,
        })
    }

    /// As [`judge`](Self::judge), of the value that a step has ended with.
    pub fn judge_value(
        &self,
        value: &Value,
        known: &Value,
        input: &Value,
        threshold: Option<f64>,
    ) -> Option<Verdict> {
        self.judge(&data_of(self.field(), value), known, input, threshold)
    }

    /// Whether two values that steps have ended with are the same answer. What is no answer to the
    /// question can only be equal.
    pub fn same_value(&self, a: &Value, b: &Value, input: &Value) -> bool {
        match (self.read_value(a, input), self.read_value(b, input)) {
            (Ok(a), Ok(b)) => a == b,
            _ => Form::of(a) == Form::of(b),
        }
    }

    /// What a threshold means for one answer: nothing, where it is one of a coefficient, or one that
    /// any two answers reach.
    fn gold_threshold(&self) -> f64 {
        if self.metric.corrects_for_chance() || self.threshold <= 0.0 {
            1.0
        } else {
            self.threshold
        }
    }

    fn likeness_to_known(
        &self,
        given: &Value,
        known: &Value,
        input: &Value,
        work: &mut Work,
    ) -> f64 {
        // What is no answer to the question can only be equal: the question may have changed since.
        let read = |value| self.read_value(value, input);
        match (read(given), read(known)) {
            (Ok(given), Ok(known)) => self.similarity(&given, &known, work).unwrap_or(0.0),
            _ => f64::from(u8::from(Form::of(given) == Form::of(known))),
        }
    }

    fn judge_record(
        &self,
        record: &Record,
        (data, known, input): (&Value, &Value, &Value),
        threshold: Option<f64>,
        work: &mut Work,
    ) -> Option<Verdict> {
        // The known record may stand at the answer's place, or be the record itself.
        let known = match self.field() {
            Some(field) => value_at(known, Some(field))
                .filter(|k| k.is_object())
                .unwrap_or(known),
            None => known,
        };
        let answer = self.read(data, input).ok();
        let given = value_at(data, self.field())?;
        let (mut sum, mut weights, mut all) = (0.0, 0.0, true);
        for (index, field) in record.fields.iter().enumerate() {
            let Some(known) = known_field(known, &field.path) else {
                continue;
            };
            let Some(alike) =
                likeness_of_field(field, index, (answer.as_ref(), given, known), input, work)
            else {
                continue;
            };
            sum += field.weight * alike;
            weights += field.weight;
            all &= reaches(Some(alike), field.question.gold_threshold());
        }
        if weights <= 0.0 {
            return None;
        }
        let similarity = (sum / weights).clamp(0.0, 1.0);
        let correct = match (threshold, record.mode) {
            (Some(threshold), _) => reaches(Some(similarity), threshold),
            (None, FieldMode::Weighted) => reaches(Some(similarity), self.gold_threshold()),
            (None, FieldMode::AllOrNothing | FieldMode::FieldByField) => all,
        };
        Some(Verdict {
            correct,
            similarity,
        })
    }
}

/// How like the known one the field of an answer is; none where the person was not asked for it.
fn likeness_of_field(
    field: &Field,
    index: usize,
    (answer, given, known): (Option<&Answer>, &Value, &Value),
    input: &Value,
    work: &mut Work,
) -> Option<f64> {
    match answer.and_then(|answer| answer.slots().get(index)) {
        Some(Slot::Nothing) if field.when.is_some() => None,
        Some(Slot::Nothing | Slot::Missing) => Some(0.0),
        Some(Slot::Given(answer)) => Some(field.question.likeness_to_known(
            &answer.json,
            known,
            input,
            work,
        )),
        None => {
            let given = value_at(given, Some(&field.path)).unwrap_or(&Value::Null);
            Some(field.question.likeness_to_known(given, known, input, work))
        }
    }
}

/// The known answer of a field, by its path as one key or as keys inside keys.
fn known_field<'k>(known: &'k Value, field: &str) -> Option<&'k Value> {
    let known = known.get(field).or_else(|| value_at(known, Some(field)));
    known.filter(|known| !known.is_null())
}

fn known_of_field<'k>(known: &'k Value, field: &str, given: &Value) -> Option<&'k Value> {
    if !known.is_object() {
        return Some(known);
    }
    known_field(known, field).or_else(|| given.is_object().then_some(known))
}
