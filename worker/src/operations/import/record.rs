//! What a record of an export says of one task, whatever tool wrote it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Number, Value};

/// A row, or a part of it, that cannot be imported: where, why, and how to mend it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Line of the file where the row begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Which part of the row, such as `annotation 7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Why.
    pub reason: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Refusal {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            ..Self::default()
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Names the part of the row, unless it is named already.
    pub(super) fn at(self, place: &str) -> Self {
        Self {
            place: self.place.or_else(|| Some(place.to_owned())),
            ..self
        }
    }

    pub(super) fn on(self, line: Option<u64>) -> Self {
        Self { line, ..self }
    }
}

/// One task of the file, with the judgements of it that the record holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// The id of the task in the other system.
    pub(super) key: String,
    /// The item.
    pub(super) input: Map<String, Value>,
    /// Labels to search by.
    pub(super) labels: BTreeMap<String, String>,
    /// The known answer.
    pub(super) expected: Option<Parts>,
    pub(super) judgements: Vec<Judgement>,
    /// Judgements that were withdrawn or left open in the other system: why.
    pub(super) skipped: Vec<&'static str>,
    /// Judgements that cannot be imported; the task can.
    pub(super) refused: Vec<Refusal>,
    /// Remarks that do not keep the record out.
    pub(super) notes: Vec<&'static str>,
}

/// What one person said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Judgement {
    /// The person's id in the other system.
    pub(super) user: Option<String>,
    pub(super) parts: Parts,
    /// When, as RFC 3339.
    pub(super) submitted_at: Option<String>,
    /// Which part of the row it is.
    pub(super) place: Option<String>,
}

/// The parts of an answer by the names that the file gives them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parts {
    pub(super) by_name: BTreeMap<String, Part>,
    /// Whether the names are paths in `annotation.data`, since the user has said so.
    pub(super) mapped: bool,
    /// The part that is the answer, where the user has named it.
    pub(super) main: Option<String>,
    /// Whether regions that are not there mean that there is nothing to mark.
    pub(super) absent_is_empty: bool,
}

/// A part of an answer as tools know it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    /// JSON that stays as it is.
    Json(Value),
    /// The text of a cell, which has no type.
    Cell(String),
    /// What was chosen from a list: one or several.
    Choices(Vec<Value>),
    /// What was marked.
    Regions(Vec<Region>),
}

/// One region.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Region {
    pub(super) outline: Outline,
    pub(super) class: Option<Value>,
    /// Whatever else is known of it.
    pub(super) attributes: Map<String, Value>,
}

/// Where a region is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outline {
    /// Of a text or recording.
    Stretch {
        start: Number,
        end: Number,
    },
    Rectangle(Rectangle),
    /// Corners.
    Polygon(Vec<[f64; 2]>),
}

/// A rectangle by its upper left corner; `rotation` is in degrees, clockwise around that corner.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rectangle {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) rotation: f64,
}

impl Parts {
    /// Parts of a tool in which regions are lists that may be empty.
    pub(super) fn of_tool() -> Self {
        Self {
            absent_is_empty: true,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, name: impl Into<String>, part: Part) {
        self.by_name.insert(name.into(), part);
    }

    /// Parts of a single one.
    pub(super) fn one(name: impl Into<String>, part: Part) -> Self {
        let mut parts = Self::of_tool();
        parts.add(name, part);
        parts
    }
}

/// The key of a task or person as text: a text or a whole number.
pub(super) fn key_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::String(_)
        | Value::Number(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Array(_)
        | Value::Object(_) => None,
    }
}

/// A value at a name, or else at a path with dots.
pub(super) fn lookup<'v>(row: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    if let Some(found) = row.get(path) {
        return Some(found);
    }
    let (first, rest) = path.split_once('.')?;
    glyph_workflow_engine::answer::value_at(row.get(first)?, Some(rest))
}

/// Like [`lookup`], for a value that must be there.
pub(super) fn required<'v>(row: &'v Map<String, Value>, path: &str) -> Result<&'v Value, Refusal> {
    let found = lookup(row, path).filter(|value| !value.is_null());
    found.ok_or_else(|| absent(path, row.keys().map(String::as_str)))
}

/// The refusal of a row that lacks a name.
pub(super) fn absent<'n>(path: &str, names: impl IntoIterator<Item = &'n str>) -> Refusal {
    let names: Vec<&str> = names.into_iter().collect();
    let refusal = Refusal::new(format!("there is no `{path}`"));
    match nearest(path, &names) {
        Some(name) => refusal.hint(format!("did you mean `{name}`?")),
        None => refusal.hint(format!("there are: {}", listed(&names))),
    }
}

/// Names for people.
pub(super) fn listed(names: &[&str]) -> String {
    const LISTED_MAX: usize = 20;
    let shown = names
        .iter()
        .take(LISTED_MAX)
        .map(|name| format!("`{name}`"));
    let mut shown: Vec<String> = shown.collect();
    if names.len() > LISTED_MAX {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

/// The name that was probably meant.
pub(super) fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    const LENGTH_MAX: usize = 96;
    let plain = |text: &str| -> String {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters
            .flat_map(char::to_lowercase)
            .take(LENGTH_MAX)
            .collect()
    };
    let wanted = plain(name);
    let near = names.iter().map(|known| {
        let known_plain = plain(known);
        (
            strsim::osa_distance(&wanted, &known_plain),
            known_plain,
            *known,
        )
    });
    let least = near.min_by_key(|(distance, ..)| *distance)?;
    let (distance, known_plain, known) = least;
    let length = wanted.chars().count().min(known_plain.chars().count());
    (distance <= length.div_ceil(3).min(4)).then_some(known)
}

/// A number as JSON: whole ones without a fraction.
pub(super) fn number(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT_MAX {
        let text = format!("{value:.0}");
        if let Ok(whole) = text.parse::<i64>() {
            return whole.into();
        }
    }
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_looked_up_as_they_are_before_their_dots_count() {
        let row = json!({"q.1": "a", "data": {"text": "t", "list": ["x"]}});
        let row = row.as_object().unwrap();
        let found = |path: &str| lookup(row, path).cloned();
        assert_eq!(found("q.1"), Some(json!("a")));
        assert_eq!(found("data.text"), Some(json!("t")));
        assert_eq!(found("data.list.0"), Some(json!("x")));
        assert_eq!(found("data.none"), None);
        let refusal = required(row, "q1").unwrap_err();
        assert_eq!(refusal.hint.as_deref(), Some("did you mean `q.1`?"));
        let refusal = required(row, "worker").unwrap_err();
        assert_eq!(refusal.hint.as_deref(), Some("there are: `data`, `q.1`"));
    }

    #[test]
    fn keys_are_texts_and_whole_numbers() {
        assert_eq!(key_text(&json!(7)), Some("7".to_owned()));
        assert_eq!(key_text(&json!("7")), Some("7".to_owned()));
        for none in [json!(7.5), json!(""), json!(null), json!(true), json!([1])] {
            assert_eq!(key_text(&none), None, "{none}");
        }
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        assert_eq!(number(3.0).to_string(), "3");
        assert_eq!(number(-0.0).to_string(), "0");
        assert_eq!(number(3.25).to_string(), "3.25");
        assert_eq!(number(f64::NAN), Value::Null);
    }
}
