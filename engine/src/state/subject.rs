//! What a review or adjudication is about.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::UserId;

/// What a review or adjudication is about, settled when its visit begins. The visits whose
/// annotations led to it stand beside it in the visit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// The value that `approve` keeps; none if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Everyone whose work is in it, sorted: people who submitted, in any visit, to a step that led
    /// to it, adjudicators, reviewers who fixed it, and the people of child tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<UserId>,
    /// What annotators agree on, if an adjudicator is asked for the rest only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreed: Option<Value>,
    /// What annotators do not agree on: paths of a record's fields, members of a set, or regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disputed: Option<Value>,
}
