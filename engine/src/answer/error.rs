//! Why data are not the answer that a step asks for.

use serde_json::Value;

use crate::limits::POLYGON_POINTS_MAX;

/// Data that are not what the step asks for: what, where, and how to mend it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{place}`: {problem}")]
pub struct AnswerError {
    /// Where in `annotation.data`, as `entities[2].end`; `annotation.data` itself where all of it is
    /// meant.
    pub place: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with an answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// There is nothing, or null.
    #[error("there is no value here, and the step asks for one")]
    Missing,
    /// Another kind of JSON.
    #[error("{found} is no {expected}{}", after_colon(.hint.as_deref()))]
    Unfit {
        /// What it is.
        found: String,
        /// What was asked for.
        expected: &'static str,
        /// How to mend it.
        hint: Option<String>,
    },
    /// Not one of the values.
    #[error("{given} is none of the values {known}{}", after_colon(.hint.as_deref()))]
    Unknown {
        /// What was given.
        given: String,
        /// The values, shortened.
        known: String,
        /// What may have been meant.
        hint: Option<String>,
    },
    /// A number below the least or above the greatest.
    #[error("{given} is {side} {bound}")]
    OutOfRange {
        /// The number.
        given: String,
        /// On which side.
        side: &'static str,
        /// The bound.
        bound: String,
    },
    /// Given more than once.
    #[error("{given} is listed twice; once is enough")]
    Twice {
        /// What.
        given: String,
    },
    /// A ranking without all values.
    #[error("{missing} is not ranked; a ranking lists every value once")]
    NotRanked {
        /// One that lacks.
        missing: String,
    },
    /// A region without a key that it needs.
    #[error("a {region} needs `{key}`{}", after_colon(.hint.as_deref()))]
    NoKey {
        /// What it is to be.
        region: &'static str,
        /// The key.
        key: &'static str,
        /// How to mend it.
        hint: Option<String>,
    },
    /// A region that seems to have its class under another key.
    #[error(
        "a {region} has no `{tag}` but `{key}`: did you mean `{tag}`? Rename the key, or set `answer.tag: {key}`"
    )]
    OtherTag {
        /// What it is.
        region: &'static str,
        /// The key that holds the class.
        tag: String,
        /// The key that is there.
        key: String,
    },
    /// A region that ends where it starts or before.
    #[error(
        "`{end_key}` is {end} and `{start_key}` {start}: {start_key} must be less than {end_key}"
    )]
    Backwards {
        /// Key of the lower edge.
        start_key: &'static str,
        /// The lower edge.
        start: String,
        /// Key of the upper edge.
        end_key: &'static str,
        /// The upper edge.
        end: String,
    },
    /// A span beyond the end of the text.
    #[error("the span ends at {end}, but the text has {length} code points")]
    OutsideText {
        /// Where it ends.
        end: String,
        /// Code points of the text.
        length: usize,
    },
    /// Not a position that can be calculated with.
    #[error("{given} is too far out to be calculated with")]
    TooFar {
        /// The number.
        given: String,
    },
    /// Too few corners.
    #[error("a polygon has three corners or more, not {count}")]
    FewCorners {
        /// Different corners given.
        count: usize,
    },
    /// Too many corners.
    #[error("a polygon of {count} corners; at most {POLYGON_POINTS_MAX} are allowed")]
    ManyCorners {
        /// Corners given.
        count: usize,
    },
    /// A polygon whose edges meet outside their common corners.
    #[error(
        "edges {first} and {second} of the polygon touch or cross: draw it without crossing itself"
    )]
    Crossing {
        /// One edge, from 0.
        first: usize,
        /// The other.
        second: usize,
    },
    /// A region that covers nothing.
    #[error("the {region} covers no area")]
    NoArea {
        /// What it is.
        region: &'static str,
    },
    /// More than can be checked.
    #[error("the answer is too detailed to be checked")]
    TooDetailed,
}

fn after_colon(hint: Option<&str>) -> String {
    hint.map_or_else(String::new, |hint| format!(": {hint}"))
}

/// What a value is, for people.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value as people recognise it, shortened.
pub(super) fn shown(value: &Value) -> String {
    const SHOWN_MAX: usize = 60;
    let text = match value {
        Value::Array(_) | Value::Object(_) => return kind_of(value).to_owned(),
        _ => value.to_string(),
    };
    if text.chars().count() <= SHOWN_MAX {
        return format!("`{text}`");
    }
    let start: String = text.chars().take(SHOWN_MAX).collect();
    format!("`{start}…`")
}

/// A list of values, shortened.
pub(super) fn listed<'v>(values: impl ExactSizeIterator<Item = &'v Value>) -> String {
    const LISTED_MAX: usize = 8;
    let count = values.len();
    let mut text: Vec<String> = values.take(LISTED_MAX).map(shown).collect();
    if count > LISTED_MAX {
        text.push("…".to_owned());
    }
    text.join(", ")
}
