//! Calls to other people's HTTP servers: signed, bounded, and only where the operator allows it.
//!
//! A workflow file names the URL, so whoever may create workflows could make the worker reach into
//! the network that it runs in. Therefore: only hosts of an allow-list; a name is resolved once and
//! the connection goes to an address that was checked; private, link-local and metadata ranges are
//! refused; no redirect is followed; the answer is capped, and so is the time.
//!
//! Calls are signed as [Standard Webhooks](https://www.standardwebhooks.com) says.

mod addresses;
mod client;
mod error;
mod settings;
mod signature;

pub use client::{WebhookClient, WebhookRequest};
pub use error::{WebhookError, WebhookSetupError};
pub use settings::{Host, InvalidHost, WebhookSecret, WebhookSettings};
pub use signature::signature;

use std::time::Duration;

use glyph_workflow_engine::limits;

/// How long a call may take, from resolving the name to the last byte, when nobody says otherwise.
pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest time that a call may be given.
pub const CALL_TIMEOUT_MAX: Duration = limits::WEBHOOK_TIMEOUT_MAX;
/// Bytes of an answer; a longer one fails the call.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
