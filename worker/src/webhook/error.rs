//! Why a call failed.

use std::{net::IpAddr, time::Duration};

use super::{ANSWER_BYTES_MAX, Host};

/// The configuration of webhooks is invalid.
#[derive(Debug, thiserror::Error)]
#[error("webhooks cannot be set up")]
pub struct WebhookSetupError(#[from] pub(super) reqwest::Error);

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The allow-list is empty, or does not contain this host and port.
    #[error(
        "no webhook may be called at `{host}`; {}",
        allowed(.hosts)
    )]
    NotAllowed {
        /// The host and port.
        host: String,
        /// The allowed hosts.
        hosts: Vec<Host>,
    },
    /// There is no secret to sign with.
    #[error("webhooks are signed, and there is no secret: set GLYPH_WEBHOOK_SECRET")]
    NoSecret,
    /// The host is allowed but its address is not.
    #[error(
        "`{host}` is at {address}, which is no public address; {}",
        private_hint(*.never)
    )]
    AddressRefused {
        /// The host.
        host: String,
        /// The address.
        address: IpAddr,
        /// Whether no setting can allow it.
        never: bool,
    },
    /// The URL or a header cannot be used.
    #[error("{reason}")]
    Request {
        /// The fault, and how to fix it.
        reason: String,
    },
    /// The connection failed, before or after the request was sent.
    #[error("`{host}` could not be reached: {reason}")]
    Connection {
        /// The host.
        host: String,
        /// Why.
        reason: String,
    },
    /// No complete answer in time.
    #[error("`{host}` gave no whole answer within {} s", .after.as_secs())]
    Timeout {
        /// The host.
        host: String,
        /// How long the client waited.
        after: Duration,
    },
    /// The receiver answered with an error status.
    #[error("`{host}` answered {status}{}", redirect_hint(*.status))]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// How long the receiver asks to wait.
        retry_after: Option<Duration>,
    },
    /// The receiver answered with success, but the answer cannot be used.
    #[error("`{host}` answered with {what}")]
    Answer {
        /// The host.
        host: String,
        /// The fault of the answer.
        what: AnswerFault,
    },
}

/// The fault of an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerFault {
    /// Longer than allowed.
    #[error("more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    /// Not JSON.
    #[error("something that is no JSON: {0}; answer with JSON, or with nothing")]
    NotJson(String),
    /// JSON that not every store can keep.
    #[error("JSON that cannot be kept: {0}")]
    NotStorable(String),
}

impl WebhookError {
    /// Whether the same call would always fail again.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NotAllowed { .. }
            | Self::NoSecret
            | Self::AddressRefused { .. }
            | Self::Request { .. }
            | Self::Answer { .. } => true,
            Self::Connection { .. } | Self::Timeout { .. } => false,
            // 408 and 425 ask for another attempt; 429 for a later one.
            Self::Status { status, .. } => {
                (300..500).contains(status) && !matches!(status, 408 | 425 | 429)
            }
        }
    }

    /// How long the receiver asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn allowed(hosts: &[Host]) -> String {
    if hosts.is_empty() {
        return "GLYPH_WEBHOOK_HOSTS lists the hosts that may be, and is empty".to_owned();
    }
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    format!(
        "GLYPH_WEBHOOK_HOSTS lists the hosts that may be: {}",
        hosts.join(", ")
    )
}

fn private_hint(never: bool) -> &'static str {
    if never {
        "no setting allows it"
    } else {
        "list the host with its port in GLYPH_WEBHOOK_HOSTS and set GLYPH_WEBHOOK_ALLOW_PRIVATE \
         to allow it"
    }
}

fn redirect_hint(status: u16) -> &'static str {
    if (300..400).contains(&status) {
        "; redirects are not followed: name the place that it leads to"
    } else {
        ""
    }
}
