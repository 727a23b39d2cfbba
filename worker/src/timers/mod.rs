//! Timers, and the actions of reached goals.
//!
//! A timer that is due becomes a command, with an id derived from its row, and goes through the
//! same pipeline as any other. The transaction that settles the command also deletes the row, so a
//! crash at any point repeats nothing: the row is claimed again, and its command is a duplicate.
//!
//! The actions of reached goals work the same way, with rows of their own.
//!
//! If a row requires an effect (a call, a command to another task), the effect is performed first,
//! without a transaction, and its outcome goes with the command. A crash in between repeats the
//! effect under the same idempotency key. If two processes perform it at once, the outcome that is
//! committed first counts for both.

mod goal_actions;
mod handlers;
mod pauses;
mod runner;

pub use goal_actions::GoalActionRunner;
pub use handlers::{ExternalHandlers, Handlers};
pub use pauses::PauseExpirer;
pub use runner::TimerRunner;
