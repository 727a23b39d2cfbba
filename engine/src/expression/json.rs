//! From a value of an expression to JSON.

use serde_json::{Map, Number, Value};

use super::{
    budget::Budget,
    value::{List, Mapping, Text, Val},
};

/// The value as JSON.
pub(super) fn to_json(value: &Val<'_>, budget: &mut Budget) -> Result<Value, String> {
    budget.spend(1)?;
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(truth) => (*truth).into(),
        Val::Int(whole) => (*whole).into(),
        Val::UInt(whole) => (*whole).into(),
        Val::Double(double) => Number::from_f64(*double)
            .ok_or(
                "the expression yields a number that JSON does not have: it is infinite, or none",
            )?
            .into(),
        Val::Text(text) => {
            budget.copy(text.len())?;
            match text {
                Text::Borrowed(text) => (*text).into(),
                Text::Made(text) => (**text).into(),
            }
        }
        // The text that CEL makes of bytes in JSON.
        Val::Bytes(bytes) => {
            budget.copy(bytes.len())?;
            let bytes = cel::Value::Bytes(std::sync::Arc::new(bytes.to_vec()));
            bytes.json().map_err(|_| unusable(value))?
        }
        Val::List(List::Borrowed(items)) => Value::Array(
            items
                .iter()
                .map(|item| copied(item, budget))
                .collect::<Result<_, _>>()?,
        ),
        Val::List(List::Made(items)) => Value::Array(
            items
                .iter()
                .map(|item| to_json(item, budget))
                .collect::<Result<_, _>>()?,
        ),
        Val::Mapping(Mapping::Borrowed(entries)) => Value::Object(copied_entries(entries, budget)?),
        Val::Mapping(Mapping::Made(entries)) => {
            let mut made = Map::new();
            for (key, value) in entries.iter() {
                let key = key.key_text().ok_or_else(|| unusable(key))?;
                budget.copy(key.len())?;
                made.insert(key, to_json(value, budget)?);
            }
            Value::Object(made)
        }
        Val::Type(_) => return Err(unusable(value)),
    })
}

fn unusable(value: &Val<'_>) -> String {
    format!(
        "the expression yields {}, which no step can use",
        value.kind()
    )
}

fn copied(value: &Value, budget: &mut Budget) -> Result<Value, String> {
    budget.spend(1)?;
    Ok(match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => {
            budget.copy(text.len())?;
            value.clone()
        }
        Value::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| copied(item, budget))
                .collect::<Result<_, _>>()?,
        ),
        Value::Object(entries) => Value::Object(copied_entries(entries, budget)?),
    })
}

fn copied_entries(
    entries: &Map<String, Value>,
    budget: &mut Budget,
) -> Result<Map<String, Value>, String> {
    entries
        .iter()
        .map(|(key, value)| {
            budget.copy(key.len())?;
            Ok((key.clone(), copied(value, budget)?))
        })
        .collect()
}
