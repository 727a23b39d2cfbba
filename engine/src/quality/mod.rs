//! Quality of the work over time: agreement on the newest items of a question, and submissions to
//! gold tasks. Pure calculation on events; the readers of the log store the results.
//!
//! [`ComparedVisit`] reads a comparison from an event, a [`Series`] holds the newest ones of one
//! question and says how far people agree on it. Both agreement over time and quality goals stand on
//! them. `docs/statistics.md` says in plain words what is estimated how.

mod agreement;
mod gold;
mod history;
mod item;
mod sample;
mod series;

pub use agreement::{AgreementProgress, ClassAgreement, KappaOf, Question, Window};
pub use gold::{GoldFall, GoldRecord, RuleAction};
pub use history::{History, millionths, whole};
pub use sample::{ComparedVisit, Given, Sample};
pub use series::Series;
