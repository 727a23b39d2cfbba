//! Bulk work of operators, done by the workers: whatever dies meanwhile, each item is done once.
//!
//! A caller creates a job ([`JobSpec`]); a worker leases it ([`JobRunner`]), and another one goes on
//! where it stopped. Every kind has three phases:
//!
//! - **freezing**: what the selection picks becomes the items of the job. Dead letters leave the dead
//!   queue page by page: stored first, then removed. A letter that was stored by a process that died
//!   before removing it is only removed.
//! - **replaying**: the items go through the pipeline of the worker, as commands of HTTP and timers
//!   do, and [`Canary`] says how many at a time. The inbox makes one of an item that is sent again.
//! - **returning**: what was not tried when a job stops goes back to where it came from.
//!
//! Letters that are put back carry the job and the number of their item (`x-glyph-replay`). A process
//! that goes on after another one looks for them, and so puts none back twice.

mod canary;
mod error;
mod fate;
mod freeze;
mod put_back;
mod replay;
mod runner;
mod spec;

pub use canary::Canary;
pub use runner::JobRunner;
pub(crate) use spec::command_of;
pub use spec::{JobKind, JobSettings, JobSpec, NotReplayed, Selection, first_replay, replay_of};
