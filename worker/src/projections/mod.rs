//! What is folded from the log, each projection at its own pace.

pub mod agreement;
mod goals;
mod pace;
mod window;

pub use agreement::AgreementProjector;
pub use goals::{GoalProjector, StepOutcome};
