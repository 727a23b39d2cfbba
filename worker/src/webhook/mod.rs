//! Calls to external HTTP servers: signed, bounded, and only to hosts that the operator allows.
//!
//! A workflow file names the URL, so anyone who may create workflows could make the worker reach
//! into the network that it runs in. Therefore:
//!
//! - Only hosts of an allow-list may be called.
//! - A name is resolved once, and the connection goes to a checked address.
//! - Private, link-local and metadata ranges are refused.
//! - Redirects are not followed.
//! - The size of the answer and the time of the call are limited.
//!
//! Calls are signed according to [Standard Webhooks](https://www.standardwebhooks.com).

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

/// How long a call may take by default, from resolving the name to the last byte.
pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The longest time limit that a call may have.
pub const CALL_TIMEOUT_MAX: Duration = limits::WEBHOOK_TIMEOUT_MAX;
/// The most bytes of an answer; a longer one fails the call.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
