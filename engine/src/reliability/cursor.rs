//! How far a refit has come.

use serde::{Deserialize, Serialize};

/// How far a refit has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// The experts one after another, then the ties between labels, then difficulties.
    pub(super) part: usize,
    pub(super) pass: usize,
    /// The next item.
    pub(super) item: u64,
}
