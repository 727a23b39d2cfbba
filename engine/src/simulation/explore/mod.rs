//! Plays the telling cases of a workflow without a script.
//!
//! A case begins as usual: people agree, reviewers approve, handlers answer. Wherever it gets, the other
//! things that could happen there become cases of their own, each played once, with everything before as
//! it was and everything after as usual. So each way of ending each step is seen on the shortest way to
//! it, and the number of cases grows with the number of steps, not with that of their combinations.
//!
//! A crowd plays many tasks in the same way, with people who err as often as they are said to.

mod answers;
mod cases;
mod course;
mod crowd;
mod drive;
mod guide;
mod outcome;
mod readings;
mod trial;

pub use answers::plausible_answers;
pub use cases::explore;
pub use crowd::{Crowd, CrowdError};
pub use outcome::{Exploration, ExploredCase, GoldAnswers, Mark, Wait};
pub use trial::{CrowdEdge, CrowdEnd, CrowdReport, CrowdStep, play_crowd};
