//! Quality of the work over time: agreement on the newest items of a question, and submissions to
//! gold tasks. Pure calculation on events; the readers of the log store the results.

mod agreement;
mod gold;

pub use agreement::{AgreementProgress, Question, Window};
pub use gold::{GoldRecord, RuleAction};
