//! What is folded from the log, each projection at its own pace.

mod goals;

pub use goals::{GoalProjector, StepOutcome};
