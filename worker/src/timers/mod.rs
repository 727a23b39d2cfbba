//! Work whose time has come.
//!
//! A timer becomes a command with an id derived from the row and goes along the same road as
//! any other. The transaction that settles the command also deletes the row, so a crash at any
//! point repeats nothing: the row is claimed again, and its command is a duplicate.
//!
//! What reached goals set off outside is work of the same kind, with rows of its own.
//!
//! Where a row asks for something outside (a call, a command to another task), that is done first,
//! without a transaction, and its outcome goes along with the command. A crash in between repeats
//! the effect under the same idempotency key; two who did it at once agree on whose outcome came
//! first.

mod goal_actions;
mod handlers;
mod pauses;
mod runner;

pub use goal_actions::GoalActionRunner;
pub use handlers::{ExternalHandlers, Handlers};
pub use pauses::PauseExpirer;
pub use runner::TimerRunner;
