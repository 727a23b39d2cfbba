//! What a caller may report beside a coefficient.

use serde::{Deserialize, Serialize};

/// A coefficient together with the amount of data behind it.
///
/// A value of 0.8 from three pairs and one from thirty thousand are different findings; the counts
/// make this visible.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Agreement {
    /// The coefficient.
    pub value: f64,
    /// Items with two values or more: those that entered the comparison.
    pub units: usize,
    /// Unordered pairs of values inside those items (saturating).
    pub pairs: u64,
}
