//! Positions in the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A position in the log. No event can be written before it any more.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct LogPosition {
    /// The entry: transactions in the order in which they became visible, numbered from 1. Where a
    /// store has one writer at a time, each event is one.
    #[serde(alias = "transaction")]
    pub entry: i64,
    /// Position within the entry.
    pub position: i64,
}
