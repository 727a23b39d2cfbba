//! Stretches of a text.

use serde_json::{Map, Value, json};

use super::{
    regions::{Place, number},
    segments::stretch,
};
use crate::answer::{
    error::{AnswerError, Problem},
    form::Exact,
    reader::Reader,
};

/// `{"start", "end"}`: Unicode code points before the span and up to its end, half open, so that it ends
/// after it starts.
pub(super) fn read(
    region: &Map<String, Value>,
    reader: &mut Reader<'_>,
) -> Result<(Place, Vec<Exact>), AnswerError> {
    let start = offset(region, "start", reader)?;
    let end = offset(region, "end", reader)?;
    stretch(start, end, reader)
}

/// Whole numbers from 0 that a double holds exactly; `4.0` is one.
fn offset(
    region: &Map<String, Value>,
    key: &'static str,
    reader: &mut Reader<'_>,
) -> Result<Exact, AnswerError> {
    const LAST: i128 = 1 << 53;
    let given = number("span", region, key, || None, reader)?;
    if matches!(given, Exact::Whole(0..=LAST)) {
        return Ok(given);
    }
    reader.at_key(key, |reader| {
        Err(reader.wrong(Problem::Unfit {
            found: given.to_json().to_string(),
            expected: "number of code points",
            hint: Some("give a whole number from 0".to_owned()),
        }))
    })
}

pub(super) fn schema() -> Map<String, Value> {
    ["start", "end"]
        .map(|key| (key.to_owned(), json!({"type": "integer", "minimum": 0})))
        .into_iter()
        .collect()
}
