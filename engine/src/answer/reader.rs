//! Reading an answer, with the place where it is.

use serde_json::Value;

use super::{
    error::{AnswerError, Problem},
    work::Work,
};

/// What a reader knows beside the value: where it is, what the task is about, how much may be done.
pub(crate) struct Reader<'a> {
    /// The task's input.
    pub(crate) input: &'a Value,
    /// All of `annotation.data`.
    pub(crate) data: &'a Value,
    place: String,
    work: Work,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(data: &'a Value, input: &'a Value) -> Self {
        Self {
            input,
            data,
            place: String::new(),
            work: Work::of_reading(),
        }
    }

    /// Reads a part that stands under a key.
    pub(crate) fn at_key<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self) -> Result<T, AnswerError>,
    ) -> Result<T, AnswerError> {
        let dot = if self.place.is_empty() { "" } else { "." };
        self.inside(&format!("{dot}{key}"), read)
    }

    /// Reads an element of a list.
    pub(crate) fn at_index<T>(
        &mut self,
        index: usize,
        read: impl FnOnce(&mut Self) -> Result<T, AnswerError>,
    ) -> Result<T, AnswerError> {
        self.inside(&format!("[{index}]"), read)
    }

    fn inside<T>(
        &mut self,
        part: &str,
        read: impl FnOnce(&mut Self) -> Result<T, AnswerError>,
    ) -> Result<T, AnswerError> {
        let length = self.place.len();
        self.place.push_str(part);
        let result = read(self);
        self.place.truncate(length);
        result
    }

    /// The problem, here.
    pub(crate) fn wrong(&self, problem: Problem) -> AnswerError {
        let place = if self.place.is_empty() {
            "annotation.data"
        } else {
            self.place.trim_start_matches('.')
        };
        AnswerError {
            place: place.to_owned(),
            problem,
        }
    }

    pub(crate) fn spend(&mut self, steps: u64) -> Result<(), AnswerError> {
        let spent = self.work.spend(steps);
        spent.map_err(|_| self.wrong(Problem::TooDetailed))
    }
}

/// The value at a path of keys with dots between them (`label`, `entities.0.tag`); a leading `$.`
/// is accepted. All of `data` where there is no path.
pub fn value_at<'v>(data: &'v Value, path: Option<&str>) -> Option<&'v Value> {
    let Some(path) = path else { return Some(data) };
    let path = path.strip_prefix("$.").unwrap_or(path);
    path.split('.').try_fold(data, |value, key| match value {
        Value::Object(entries) => entries.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}
