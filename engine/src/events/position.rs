//! Positions in the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A position in the log. No event can be written before it any more.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct LogPosition {
    /// Transaction that wrote the event (0 if the store has only one writer).
    pub transaction: i64,
    /// Position among all events.
    pub position: i64,
}
