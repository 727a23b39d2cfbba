//! A list of possible values.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::answer::{
    error::{Problem, kind_of, listed, shown},
    form::Form,
};

/// Distinct scalars in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Values {
    list: Vec<Value>,
    positions: BTreeMap<Form, usize>,
}

/// Why a list of values is none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ValuesFault {
    Empty,
    TooMany,
    NotScalar(usize),
    Twice(usize),
}

impl Values {
    pub(crate) fn new(list: &[Value]) -> Result<Self, ValuesFault> {
        if list.is_empty() {
            return Err(ValuesFault::Empty);
        }
        if list.len() > crate::limits::ANSWER_VALUES_MAX {
            return Err(ValuesFault::TooMany);
        }
        let mut positions = BTreeMap::new();
        for (position, value) in list.iter().enumerate() {
            let form = Form::of(value);
            if !form.is_scalar() {
                return Err(ValuesFault::NotScalar(position));
            }
            if positions.insert(form, position).is_some() {
                return Err(ValuesFault::Twice(position));
            }
        }
        Ok(Self {
            list: list.to_vec(),
            positions,
        })
    }

    pub(crate) fn list(&self) -> &[Value] {
        &self.list
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn position(&self, form: &Form) -> Option<usize> {
        self.positions.get(form).copied()
    }

    /// The value's form, where it is one of the list.
    pub(crate) fn check(&self, value: &Value) -> Result<Form, Problem> {
        let form = scalar(value)?;
        if self.positions.contains_key(&form) {
            return Ok(form);
        }
        Err(Problem::Unknown {
            given: shown(value),
            known: listed(self.list.iter()),
            hint: self.nearest(value),
        })
    }

    /// The value that a slip of the pen or another type of JSON hides.
    fn nearest(&self, value: &Value) -> Option<String> {
        const TEXT_MAX: usize = 96;
        let text = |value: &Value| match value {
            Value::String(text) => text.to_lowercase(),
            _ => value.to_string(),
        };
        let given = text(value);
        if given.len() > TEXT_MAX {
            return None;
        }
        let candidates = self.list.iter().filter_map(|known| {
            let plain = text(known);
            let near = plain.len().min(given.len()).div_ceil(3).min(4);
            let distance = strsim::osa_distance(&given, &plain);
            (plain.len() <= TEXT_MAX && distance <= near).then_some((distance, known))
        });
        let (_, known) = candidates.min_by_key(|(distance, _)| *distance)?;
        Some(format!("did you mean {}?", shown(known)))
    }
}

/// The form of a scalar; null and lists are none.
pub(super) fn scalar(value: &Value) -> Result<Form, Problem> {
    match value {
        Value::Null => Err(Problem::Missing),
        Value::Array(_) | Value::Object(_) => Err(Problem::Unfit {
            found: kind_of(value).to_owned(),
            expected: "category",
            hint: Some("give a text, a number, true or false".to_owned()),
        }),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(Form::of(value)),
    }
}

/// The schema of one value.
pub(super) fn schema(values: Option<&Values>) -> Value {
    match values {
        Some(values) => serde_json::json!({"enum": values.list}),
        None => serde_json::json!({"type": ["string", "number", "boolean"]}),
    }
}
