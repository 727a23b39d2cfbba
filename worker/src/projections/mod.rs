//! Projections: state folded from the log, each projection at its own pace.

pub mod agreement;
pub mod flow;
mod goals;
pub mod gold;
pub mod labels;
mod pace;
mod rounds;

pub use agreement::AgreementProjector;
pub use flow::FlowProjector;
pub use goals::{GOALS, GoalProjector, find_goal, read_goals};
pub use gold::GoldProjector;
pub use labels::LabelsProjector;
pub use pace::PageOutcome;
pub use rounds::Rounds;
