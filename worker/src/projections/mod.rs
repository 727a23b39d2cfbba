//! What is folded from the log, each projection at its own pace.

pub mod agreement;
mod goal_actions;
mod goals;
pub mod gold;
mod pace;

pub use agreement::AgreementProjector;
pub use goal_actions::GoalActionRunner;
pub use goals::{GOALS, GoalProjector, StepOutcome, find_goal, read_goals};
pub use gold::GoldProjector;
