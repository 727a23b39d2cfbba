//! Settings of the adapter. The URL's credentials never appear in any text.

use std::{fmt, time::Duration};

use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::time::timeout;
use uuid::Uuid;

use super::topology::Topology;
use crate::broker::BrokerError;

/// How to reach a broker and how to use it.
#[derive(Clone)]
pub struct AmqpSettings {
    uri: AMQPUri,
    topology: Topology,
    /// The deployment that the prefix has to belong to; without one nobody is asked.
    pub deployment: Option<Uuid>,
    /// The most unsettled deliveries on each of the three command queues. The source asks for fewer
    /// where commands are large.
    pub prefetch: u16,
    /// Whether this process takes commands.
    pub consume: bool,
    /// Channels that publish: one for each lane, and others that must not wait for each other.
    pub publish_channels: usize,
    /// How long a window may wait for its confirms before their outcome is unknown.
    pub confirm_timeout: Duration,
    /// How long one attempt to connect may take, from name lookup to an open connection.
    pub connect_timeout: Duration,
    /// After this time without a delivery, and with none at work, a queue is subscribed to anew.
    pub silence_max: Duration,
}

/// The URL cannot be used. The error does not repeat the URL, because it contains a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmqpUrlError {
    /// Neither `amqp` nor `amqps`.
    #[error("the broker's URL must begin with amqp:// or amqps://")]
    Scheme,
    /// Any other fault of the URL.
    #[error("the broker's URL is not of the form amqp://user:password@host:port/vhost")]
    Form,
}

impl AmqpSettings {
    /// Unsettled deliveries on a queue, by default.
    pub const PREFETCH: u16 = 2_048;
    /// Publishing channels, by default.
    pub const PUBLISH_CHANNELS: usize = 4;
    /// Seconds between heartbeats, unless the URL sets them. A frozen broker is noticed after twice
    /// that time; the broker itself proposes 60.
    pub const HEARTBEAT_SECONDS: u16 = 10;

    /// Settings for the broker at `url`, with every name beginning with `prefix`.
    pub fn new(url: &str, prefix: &str) -> Result<Self, AmqpUrlError> {
        if !(url.starts_with("amqp://") || url.starts_with("amqps://")) {
            return Err(AmqpUrlError::Scheme);
        }
        // The parser's own message may quote the URL.
        let mut uri: AMQPUri = url.parse().map_err(|_| AmqpUrlError::Form)?;
        if let Some(host) = ipv6_host(url) {
            // The parser accepts only host names, and for anything else silently connects to
            // localhost.
            host.clone_into(&mut uri.authority.host);
        }
        uri.query.heartbeat.get_or_insert(Self::HEARTBEAT_SECONDS);
        Ok(Self {
            uri,
            topology: Topology::new(prefix),
            deployment: None,
            prefetch: Self::PREFETCH,
            consume: true,
            publish_channels: Self::PUBLISH_CHANNELS,
            confirm_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            silence_max: Duration::from_secs(30),
        })
    }

    /// The same, with or without the queues of events; see [`Topology::with_event_queues`].
    #[must_use]
    pub fn with_event_queues(mut self, declared: bool) -> Self {
        self.topology = self.topology.with_event_queues(declared);
        self
    }

    /// Every name on the broker.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Host and port, without credentials.
    pub fn address(&self) -> String {
        let authority = &self.uri.authority;
        if authority.host.contains(':') {
            format!("[{}]:{}", authority.host, authority.port)
        } else {
            format!("{}:{}", authority.host, authority.port)
        }
    }

    pub(super) fn uri(&self) -> AMQPUri {
        self.uri.clone()
    }

    /// Waits for the broker's answer to `action`, as long as for a confirm.
    pub(super) async fn answered<T>(
        &self,
        action: &str,
        answer: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        timeout(self.confirm_timeout, answer)
            .await
            .unwrap_or_else(|_| {
                Err(BrokerError::Unconfirmed {
                    action: action.to_owned(),
                    seconds: self.confirm_timeout.as_secs(),
                })
            })
    }

    /// The broker's refusal of `action`, or the loss of the connection.
    pub(super) fn refused(&self, action: &str, error: lapin::Error) -> BrokerError {
        if error.is_amqp_error() {
            BrokerError::Refused {
                action: action.to_owned(),
                source: error.into(),
            }
        } else {
            self.unreachable(error)
        }
    }

    pub(super) fn unreachable(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> BrokerError {
        BrokerError::Unreachable {
            address: self.address(),
            source: source.into(),
        }
    }
}

impl fmt::Debug for AmqpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AmqpSettings")
            .field("address", &self.address())
            .field("tls", &(self.uri.scheme == AMQPScheme::AMQPS))
            .field("vhost", &self.uri.vhost)
            .field("prefix", &self.topology.prefix())
            .field("deployment", &self.deployment)
            .field("prefetch", &self.prefetch)
            .field("consume", &self.consume)
            .field("publish_channels", &self.publish_channels)
            .field("confirm_timeout", &self.confirm_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// The host of a URL that names it as `[IPv6 address]`.
fn ipv6_host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    host.strip_prefix('[')?
        .split_once(']')
        .map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_shows_the_credentials() {
        let settings =
            AmqpSettings::new("amqps://planted-user:planted-secret@host:1/vh", "p").unwrap();
        let error = settings.unreachable(std::io::Error::other("gone"));
        for text in [
            format!("{settings:?}"),
            format!("{error:?}"),
            error.to_string(),
        ] {
            assert!(!text.contains("planted"), "{text}");
        }
        for url in [
            "amqp:planted-secret",
            "planted-secret@host",
            "amqp://u:planted@host:99999/",
        ] {
            let error = AmqpSettings::new(url, "p").unwrap_err();
            assert!(!format!("{error:?} {error}").contains("planted"), "{url}");
        }
    }

    #[test]
    fn an_ipv6_host_is_not_taken_for_localhost() {
        let settings = AmqpSettings::new("amqp://a:b@[::2]:7/%2f?heartbeat=3", "p").unwrap();
        assert_eq!(settings.address(), "[::2]:7");
        assert_eq!(settings.uri().query.heartbeat, Some(3));
        let settings = AmqpSettings::new("amqp://localhost", "p").unwrap();
        assert_eq!(settings.address(), "localhost:5672");
        assert_eq!(
            settings.uri().query.heartbeat,
            Some(AmqpSettings::HEARTBEAT_SECONDS)
        );
    }
}
