//! Plays the telling cases of a workflow without a script.
//!
//! A case begins as usual: people agree, reviewers approve, handlers answer. Wherever it gets, the other
//! things that could happen there become cases of their own, each played once, with everything before as
//! it was and everything after as usual. So each way of ending each step is seen on the shortest way to
//! it, and the number of cases grows with the number of steps, not with that of their combinations.

mod answers;
mod cases;
mod course;
mod drive;
mod guide;
mod outcome;
mod readings;

pub use answers::plausible_answers;
pub use cases::explore;
pub use outcome::{Exploration, ExploredCase, GoldAnswers, Mark, Wait};
