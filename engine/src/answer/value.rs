//! One answer of one person.

use serde_json::Value;

use super::{form::Form, kinds::regions::Region};
use crate::{canonical, limits::CLASS_BYTES_MAX, reliability};

/// One answer in canonical form. Two answers to one question are equal where they are the same answer:
/// numbers by exact value, texts by Unicode NFC, objects in any order of keys, lists in order; members
/// of a set and regions in any order.
///
/// Made once by [`Question::read`](super::Question::read), or by [`Answer::plain`] for JSON of which no
/// question is known.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) form: Form,
    pub(super) size: u64,
    /// As given.
    pub(super) json: Value,
    pub(super) parts: Parts,
}

/// What a kind of answer has read beside the canonical form.
#[derive(Clone, Debug)]
pub(super) enum Parts {
    None,
    /// Sorted, each once.
    Regions(Vec<Region>),
    /// One for each field of the record, in their order.
    Fields(Vec<Slot>),
}

/// What a person gave for a field of a record.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Given(Answer),
    /// Not asked for, or left out where that is allowed.
    Nothing,
    /// Left out where that is an answer of its own.
    Missing,
}

impl Answer {
    pub(super) fn new(form: Form, json: &Value, parts: Parts) -> Self {
        Self {
            size: form.size(),
            form,
            json: json.clone(),
            parts,
        }
    }

    /// Any JSON as an answer.
    pub fn plain(json: &Value) -> Self {
        Self::new(Form::of(json), json, Parts::None)
    }

    /// The answer as it was given.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The answer as JSON in its canonical form: the same for equal answers.
    pub fn canonical_json(&self) -> Value {
        self.form.to_json()
    }

    /// A name that equal answers share and others do not: a scalar's class, else the canonical text.
    /// None for null and beyond [`CLASS_BYTES_MAX`] bytes.
    pub fn name(&self) -> Option<String> {
        let json = self.form.to_json();
        match &self.form {
            Form::List(_) | Form::Object(_) => {
                Some(canonical::text(&json)).filter(|name| name.len() <= CLASS_BYTES_MAX)
            }
            _ => reliability::class_of(&json).ok(),
        }
    }

    pub(super) fn regions(&self) -> &[Region] {
        match &self.parts {
            Parts::Regions(regions) => regions,
            Parts::None | Parts::Fields(_) => &[],
        }
    }

    pub(super) fn slots(&self) -> &[Slot] {
        match &self.parts {
            Parts::Fields(slots) => slots,
            Parts::None | Parts::Regions(_) => &[],
        }
    }
}

impl PartialEq for Answer {
    fn eq(&self, other: &Self) -> bool {
        self.form == other.form
    }
}

impl Eq for Answer {}

impl PartialOrd for Answer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Answer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.form.cmp(&other.form)
    }
}

impl std::hash::Hash for Answer {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.form.hash(state);
    }
}
