//! What must happen later: derived from a task's state, performed outside, then decided.
//!
//! [`derive_timers`] says what a state waits for, [`effect_of`] what is to be done before that is
//! decided. Both are pure; whoever runs timers asks them.

mod children;
mod derive;
mod effect;

pub use derive::{derive_timers, timer_command_id};
pub use effect::{Effect, HandlerCall, effect_of};

pub(crate) use derive::{is_suspended, order_kind};
pub(crate) use effect::{asked, call_input, pending_call};
