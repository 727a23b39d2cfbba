//! Messages between commit and confirm.
//!
//! The process that commits a message usually publishes it at once ([`crate::pipeline`]). The relay
//! publishes the rest: messages left by a crash or a refusal, or queued behind older messages that
//! another publisher has leased.

mod deletions;
mod publication;
mod relay;

pub(crate) use deletions::{Deletions, start_deletions};
pub(crate) use publication::publication_of;
pub(crate) use relay::{Relay, judge, relay_id, release};
