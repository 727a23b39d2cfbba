//! Timers: derived from a task's state, their effects performed outside the decision, then decided.
//!
//! [`derive_timers`] lists the timers of a state; [`effect_of`] finds what must be done before a
//! timer is decided. Both are pure; the timer runner calls them.

mod children;
mod derive;
mod effect;

pub use derive::{derive_timers, timer_command_id};
pub use effect::{Effect, HandlerCall, effect_of};

pub(crate) use derive::{is_suspended, order_kind};
pub(crate) use effect::{asked, call_input, pending_call};
