//! How good the work is over time: agreement on the newest items of a question, and answers to gold
//! tasks. Plain calculation on what the log says; whoever follows the log keeps the results.

mod agreement;
mod gold;

pub use agreement::{AgreementProgress, Question, Window};
pub use gold::{GoldRecord, RuleAction};
