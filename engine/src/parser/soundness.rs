//! Warnings about what can happen along the edges of a workflow, however its steps end.
//!
//! A task can get stuck, although every person and handler responds, in four ways:
//!
//! 1. a step ends and no transition matches (`ending_checks` reports this);
//! 2. a loop has run out and has no `on_exhausted` (`loops`);
//! 3. a branch reaches a step at which another branch still is (`branches`);
//! 4. more transitions follow one another than a command may cause (`chains`).
//!
//! A workflow without any of these warnings is sound. A task that has not ended has a step that
//! waits for a person or handler (joins never wait for each other, see `transition/joins.rs`).
//! Every step that ends leads on. Since every cycle is bounded, a task whose people all respond
//! ends; then nothing is active, as a task completes only once no branch has anything left to do.
//!
//! A task that ends can still end with the wrong result; `verdicts` and `branches` warn of that.

use super::{branches, chains, fault::Faults, loops, map::Map, outcomes::Ends, verdicts};

/// Adds the warnings. The file must have no errors: a faulty graph allows no conclusions about what
/// happens along it.
pub(super) fn check(ends: &Ends<'_, '_>, faults: &mut Faults) {
    let map = Map::of(ends);
    loops::check(&map, ends, faults);
    chains::check(&map, ends, faults);
    branches::check(&map, ends, faults);
    verdicts::check(&map, ends, faults);
}
