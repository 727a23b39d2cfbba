//! Messages between commit and confirm.
//!
//! The process that commits a message usually publishes it at once ([`crate::pipeline`]), from
//! memory. The relay publishes the rest: messages left by a crash or a refusal, or queued behind
//! older messages that another publisher has leased. It builds them anew from their events.

mod deletions;
#[cfg(test)]
mod model;
mod publication;
mod rebuilding;
mod relay;
mod verdict;

pub(crate) use deletions::{Deletions, start_deletions};
pub(crate) use publication::{publication, publication_of};
pub(crate) use rebuilding::rebuild_messages;
pub(crate) use relay::{Relay, relay_id};
pub(crate) use verdict::{judge, release, whole_row};
