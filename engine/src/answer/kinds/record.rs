//! Several answers by field.

use serde_json::{Map, Value, json};

use super::{Found, How, Kind};
use crate::{
    answer::{
        Question,
        ballot::Ballot,
        error::{AnswerError, Problem, kind_of},
        form::Form,
        reader::{Reader, value_at},
        value::{Answer, Parts, Slot},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, FieldMode, Metric, MissingField},
    expression::Expression,
};

/// An object with a question of its own under each field. Its similarity is the mean over the fields that
/// both gave, by the weights of the fields; keys that are no field are kept and not compared.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Sorted by path.
    pub(crate) fields: Vec<Field>,
    pub(crate) mode: FieldMode,
}

/// One field.
#[derive(Clone)]
pub(crate) struct Field {
    /// Path inside the record.
    pub(crate) path: String,
    pub(crate) question: Question,
    pub(crate) weight: f64,
    pub(crate) missing: MissingField,
    /// Where it is asked for; always when left out.
    pub(crate) when: Option<Expression>,
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Field")
            .field("path", &self.path)
            .field("question", &self.question)
            .field("weight", &self.weight)
            .field("missing", &self.missing)
            .field("when", &self.when.as_ref().map(Expression::source))
            .finish()
    }
}

impl Field {
    /// Whether the field is asked for beside the rest of the data. What its condition cannot be asked of,
    /// since something it names is missing, does not ask for it.
    fn is_asked(&self, data: &Value, input: &Value) -> bool {
        self.when.as_ref().is_none_or(|when| {
            let facts = json!({"annotation": data, "input": input});
            when.evaluate_bool(&facts).unwrap_or(false)
        })
    }

    /// As [`Field::is_asked`], where it can be told.
    pub(in crate::answer) fn is_asked_beside(&self, data: &Value, input: &Value) -> Option<bool> {
        let when = self.when.as_ref()?;
        when.evaluate_bool(&json!({"annotation": data, "input": input}))
            .ok()
    }
}

impl Kind for Record {
    fn name(&self) -> AnswerKind {
        AnswerKind::Record
    }

    /// Each field has its own.
    fn metrics(&self) -> &'static [Metric] {
        &[]
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        &[AgreementMethod::MajorityVote]
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        if value.is_null() {
            return Err(reader.wrong(Problem::Missing));
        }
        if !value.is_object() {
            return Err(reader.wrong(Problem::Unfit {
                found: kind_of(value).to_owned(),
                expected: "record",
                hint: Some("give an object with the fields of the question".to_owned()),
            }));
        }
        let mut slots = Vec::with_capacity(self.fields.len());
        for field in &self.fields {
            let given = value_at(value, Some(&field.path)).filter(|value| !value.is_null());
            let slot = if !field.is_asked(reader.data, reader.input) {
                Slot::Nothing
            } else if let Some(given) = given {
                let kind = field.question.shape.kind();
                Slot::Given(reader.at_key(&field.path, |reader| kind.read(given, reader))?)
            } else {
                match field.missing {
                    MissingField::Refuse => {
                        return reader
                            .at_key(&field.path, |reader| Err(reader.wrong(Problem::Missing)));
                    }
                    MissingField::LeaveOut => Slot::Nothing,
                    MissingField::OwnAnswer => Slot::Missing,
                }
            };
            slots.push(slot);
        }
        // What is not asked for has no key, what is missing as an answer has null.
        let entries = self.fields.iter().zip(&slots).filter_map(|(field, slot)| {
            let form = match slot {
                Slot::Given(answer) => answer.form.clone(),
                Slot::Missing => Form::Null,
                Slot::Nothing => return None,
            };
            Some((field.path.clone(), form))
        });
        let form = Form::object(entries);
        Ok(Answer::new(form, value, Parts::Fields(slots)))
    }

    fn similarity(
        &self,
        _: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch> {
        if a == b {
            return Ok(1.0);
        }
        let (mut sum, mut weights) = (0.0, 0.0);
        for (field, slots) in self.fields.iter().zip(a.slots().iter().zip(b.slots())) {
            work.spend(1)?;
            let alike = match slots {
                (Slot::Given(a), Slot::Given(b)) => field.question.similarity(a, b, work)?,
                (Slot::Missing, Slot::Missing) => 1.0,
                (Slot::Missing, Slot::Given(_)) | (Slot::Given(_), Slot::Missing) => 0.0,
                (Slot::Nothing, _) | (_, Slot::Nothing) => continue,
            };
            sum += field.weight * alike;
            weights += field.weight;
        }
        Ok(if weights > 0.0 {
            (sum / weights).clamp(0.0, 1.0)
        } else {
            0.0
        })
    }

    /// Fields may each go another way: see [`Question::unite_fields`].
    fn unite(&self, _: &Ballot<'_>, _: How, _: &mut Work) -> Result<Found, TooMuch> {
        Ok(Found::default())
    }

    fn schema(&self) -> Value {
        let mut schema = Map::new();
        for field in &self.fields {
            let mut value = field.question.shape.kind().schema();
            let optional = field.when.is_some() || field.missing != MissingField::Refuse;
            if optional {
                value = json!({"anyOf": [value, {"type": "null"}]});
            }
            insert(&mut schema, &field.path, value, !optional);
        }
        schema.entry("type").or_insert_with(|| json!("object"));
        Value::Object(schema)
    }
}

/// Puts the schema of what stands at a path into the schema of an object.
pub(in crate::answer) fn insert(
    schema: &mut Map<String, Value>,
    path: &str,
    value: Value,
    required: bool,
) {
    let path = path.strip_prefix("$.").unwrap_or(path);
    let (key, rest) = path
        .split_once('.')
        .map_or((path, None), |(a, b)| (a, Some(b)));
    schema.insert("type".to_owned(), json!("object"));
    if required {
        let keys = schema.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(keys) = keys
            && !keys.iter().any(|known| known == key)
        {
            keys.push(json!(key));
        }
    }
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    let Value::Object(properties) = properties else {
        return;
    };
    match rest {
        None => {
            properties.insert(key.to_owned(), value);
        }
        Some(rest) => {
            let inner = properties.entry(key).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value, required);
            }
        }
    }
}
