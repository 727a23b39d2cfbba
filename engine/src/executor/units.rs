//! The units of comparison: the fields of an object, the elements of a list, or the value itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::value::{order, same};

/// Values of several annotators over the same units.
pub(crate) struct Units<'v> {
    /// `rows[annotator][unit]`.
    rows: Vec<Vec<Said<'v>>>,
}

/// The answer of one annotator for one unit.
#[derive(Clone, Copy)]
enum Said<'v> {
    Value(&'v Value),
    /// No answer: a null, or an omitted field.
    Nothing,
    /// The unit does not exist: the annotator's list has ended.
    NoUnit,
}

impl<'v> Said<'v> {
    fn of(value: Option<&'v Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Nothing,
            Some(value) => Self::Value(value),
        }
    }

    fn value(self) -> Option<&'v Value> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing | Self::NoUnit => None,
        }
    }
}

impl<'v> Units<'v> {
    /// Objects are compared field by field and lists element by element if all values are objects
    /// or all are lists; otherwise each value is one unit. A null is a missing value.
    pub(crate) fn new(values: &[&'v Value]) -> Self {
        let rows = if values.iter().all(|v| v.is_object()) {
            let mut fields: BTreeMap<&str, usize> = BTreeMap::new();
            for key in values
                .iter()
                .filter_map(|v| v.as_object())
                .flat_map(|o| o.keys())
            {
                fields.entry(key).or_default();
            }
            let row =
                |value: &'v Value| fields.keys().map(|key| Said::of(value.get(*key))).collect();
            values.iter().map(|v| row(v)).collect()
        } else if values.iter().all(|v| v.is_array()) {
            let units = values
                .iter()
                .filter_map(|v| v.as_array())
                .map(Vec::len)
                .max();
            let row = |value: &'v Value| {
                (0..units.unwrap_or(0))
                    .map(|unit| value.get(unit).map_or(Said::NoUnit, |v| Said::of(Some(v))))
                    .collect()
            };
            values.iter().map(|v| row(v)).collect()
        } else {
            values.iter().map(|v| vec![Said::of(Some(v))]).collect()
        };
        Self { rows }
    }

    /// The number of units with answers from at least two annotators; with `with_ends`, the end of
    /// a list counts as an answer.
    pub(crate) fn comparable(&self, with_ends: bool) -> usize {
        let units = self.rows.first().map_or(0, Vec::len);
        (0..units)
            .filter(|unit| {
                let says = |row: &&Vec<Said<'_>>| match row[*unit] {
                    Said::Value(_) => true,
                    Said::NoUnit => with_ends,
                    Said::Nothing => false,
                };
                self.rows.iter().filter(says).count() >= 2
            })
            .count()
    }

    /// Codes: positions in the ordered list of all categories. The end of a list has the last code.
    pub(crate) fn codes(&self) -> Vec<Vec<Option<u32>>> {
        self.coded(true)
    }

    /// Codes whose order is meaningful: the end of a list has no rank and is missing.
    pub(crate) fn ranks(&self) -> Vec<Vec<Option<u32>>> {
        self.coded(false)
    }

    fn coded(&self, with_ends: bool) -> Vec<Vec<Option<u32>>> {
        let said = self.rows.iter().flatten();
        let mut categories: Vec<&Value> = said.filter_map(|said| said.value()).collect();
        categories.sort_by(|a, b| order(a, b));
        categories.dedup_by(|a, b| same(a, b));
        let code = |said: &Said<'_>| {
            let position = match said {
                Said::Nothing => None,
                Said::NoUnit => with_ends.then_some(categories.len()),
                Said::Value(value) => categories.iter().position(|other| same(other, value)),
            };
            u32::try_from(position?).ok()
        };
        self.rows
            .iter()
            .map(|row| row.iter().map(code).collect())
            .collect()
    }

    /// Numbers; `None` if some value is not a number.
    pub(crate) fn numbers(&self) -> Option<Vec<Vec<Option<f64>>>> {
        let number = |said: &Said<'_>| match said.value() {
            None => Some(None),
            Some(value) => value.as_f64().map(Some),
        };
        self.rows
            .iter()
            .map(|row| row.iter().map(number).collect())
            .collect()
    }
}
