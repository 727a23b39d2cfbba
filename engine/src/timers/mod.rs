//! What must happen later: derived from a task's state, performed outside, then decided.
//!
//! [`due_work`] says what a state waits for, [`effect_of`] what is to be done before that is
//! decided. Both are pure; whoever runs timers asks them.

mod children;
mod derive;
mod effect;

pub use derive::{due_command_id, due_work};
pub use effect::{Effect, HandlerCall, effect_of};

pub(crate) use derive::{is_held, order_kind};
pub(crate) use effect::{asked, call_input, pending_call};
