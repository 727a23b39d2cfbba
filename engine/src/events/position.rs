//! Positions in the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A place in the log that nothing can be written behind any more.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct LogPosition {
    /// Transaction that wrote the event (0 where the store has but one writer).
    pub transaction: i64,
    /// Place within all events.
    pub position: i64,
}
