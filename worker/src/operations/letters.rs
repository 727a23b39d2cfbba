//! What becomes of commands that failed, as both sides show it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dead_letters::DeadLetter;

/// Dead letters.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct LetterList {
    /// The letters, oldest first.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters that were looked at, by reason; nothing of commands that were set aside.
    pub reasons: BTreeMap<String, u64>,
    /// Whether there are more than were looked at.
    pub more: bool,
}

/// A letter that was edited.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct EditedLetter {
    /// Its handle before.
    pub edited: String,
    /// Its handle now; null if somebody has taken it meanwhile.
    pub letter: Option<String>,
}

/// What was dropped.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// How many.
    pub dropped: u64,
}
