//! What is compared: the fields of an object, the elements of a list, or the value itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::value::{order, same};

/// Values of several annotators over the same units.
pub(crate) struct Units<'v> {
    /// `rows[annotator][unit]`.
    rows: Vec<Vec<Option<&'v Value>>>,
}

impl<'v> Units<'v> {
    /// Objects are compared field by field and lists element by element where every value is one;
    /// else each value is one unit. A null is a missing value.
    pub(crate) fn new(values: &[&'v Value]) -> Self {
        let present = |value: &'v Value| (!value.is_null()).then_some(value);
        let rows = if values.iter().all(|v| v.is_object()) {
            let mut fields: BTreeMap<&str, usize> = BTreeMap::new();
            for key in values
                .iter()
                .filter_map(|v| v.as_object())
                .flat_map(|o| o.keys())
            {
                fields.entry(key).or_default();
            }
            let row = |value: &'v Value| {
                fields
                    .keys()
                    .map(|key| value.get(*key).and_then(present))
                    .collect()
            };
            values.iter().map(|v| row(v)).collect()
        } else if values.iter().all(|v| v.is_array()) {
            let units = values
                .iter()
                .filter_map(|v| v.as_array())
                .map(Vec::len)
                .max();
            let row = |value: &'v Value| {
                (0..units.unwrap_or(0))
                    .map(|unit| value.get(unit).and_then(present))
                    .collect()
            };
            values.iter().map(|v| row(v)).collect()
        } else {
            values.iter().map(|v| vec![present(v)]).collect()
        };
        Self { rows }
    }

    /// Units with two values or more.
    pub(crate) fn comparable(&self) -> usize {
        let units = self.rows.first().map_or(0, Vec::len);
        (0..units)
            .filter(|unit| self.rows.iter().filter(|row| row[*unit].is_some()).count() >= 2)
            .count()
    }

    /// Codes: positions in the ordered list of all categories.
    pub(crate) fn codes(&self) -> Vec<Vec<Option<u32>>> {
        let mut categories: Vec<&Value> = self.rows.iter().flatten().flatten().copied().collect();
        categories.sort_by(|a, b| order(a, b));
        categories.dedup_by(|a, b| same(a, b));
        let code = |value: &Value| {
            let position = categories
                .iter()
                .position(|category| same(category, value))?;
            u32::try_from(position).ok()
        };
        self.rows
            .iter()
            .map(|row| row.iter().map(|v| v.and_then(code)).collect())
            .collect()
    }

    /// Numbers; `None` where some value is not one.
    pub(crate) fn numbers(&self) -> Option<Vec<Vec<Option<f64>>>> {
        let number = |value: Option<&Value>| match value {
            None => Some(None),
            Some(value) => value.as_f64().map(Some),
        };
        self.rows
            .iter()
            .map(|row| row.iter().map(|value| number(*value)).collect())
            .collect()
    }
}
