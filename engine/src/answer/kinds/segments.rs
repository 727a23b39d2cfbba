//! Stretches of a recording.

use serde_json::{Map, Value, json};

use super::regions::{Place, backwards, number};
use crate::answer::{error::AnswerError, form::Exact, reader::Reader};

/// `{"start", "end"}`: seconds, of any fraction; it ends after it starts.
pub(super) fn read(
    region: &Map<String, Value>,
    reader: &mut Reader<'_>,
) -> Result<(Place, Vec<Exact>), AnswerError> {
    let start = number("segment", region, "start", || None, reader)?;
    let end = number("segment", region, "end", || None, reader)?;
    stretch(start, end, reader)
}

/// A stretch that is not empty.
pub(super) fn stretch(
    start: Exact,
    end: Exact,
    reader: &Reader<'_>,
) -> Result<(Place, Vec<Exact>), AnswerError> {
    // As doubles, in which overlaps are calculated.
    if start.to_f64() >= end.to_f64() {
        return Err(reader.wrong(backwards(("start", start), ("end", end))));
    }
    let place = Place::Stretch {
        start: start.to_f64(),
        end: end.to_f64(),
    };
    Ok((place, vec![start, end]))
}

/// Common length over the length that either covers.
pub(super) fn iou(a: (f64, f64), b: (f64, f64)) -> f64 {
    let common = a.1.min(b.1) - a.0.max(b.0);
    if common <= 0.0 {
        return 0.0;
    }
    common / (a.1.max(b.1) - a.0.min(b.0))
}

pub(super) fn schema() -> Map<String, Value> {
    ["start", "end"]
        .map(|key| (key.to_owned(), json!({"type": "number"})))
        .into_iter()
        .collect()
}
