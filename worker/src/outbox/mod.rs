//! Messages between commit and confirm.
//!
//! Who commits a message usually publishes it at once ([`crate::pipeline`]); what that leaves
//! behind (a crash, a refusal, another owner of older messages) is the relay's.

mod deletions;
mod publication;
mod relay;

pub(crate) use deletions::{Deletions, start_deletions};
pub(crate) use publication::publication_of;
pub(crate) use relay::{Relay, judge, relay_id, release};
