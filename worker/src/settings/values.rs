//! All settings, as plain data.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use axum::http::HeaderValue;
use reqwest::Url;

use super::{flags::SettingsFlags, secret::SecretUrl, traces::TraceSettings};
use crate::{
    webhook::WebhookSettings,
    wire::{CloudEventMessages, Links, MessageType},
};

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database.
    pub database: Option<DatabaseUrl>,
    /// How much of the link to Postgres is verified where the URL does not say it (`PGSSLMODE`).
    pub pg_ssl_mode: Option<String>,
    /// Where commands come from.
    pub broker: Option<BrokerUrl>,
    /// The HTTP API that commands ask, in place of database and broker.
    pub api: Option<ApiUrl>,
    /// The token for it.
    pub token: Option<ApiToken>,
    /// Where the HTTP API listens.
    pub http_addr: SocketAddr,
    /// Links to the API, by the address at which others reach it.
    pub links: Links,
    /// Where a second listener serves only metrics and health.
    pub metrics_addr: Option<SocketAddr>,
    /// Who may call the HTTP API.
    pub api_tokens_file: Option<PathBuf>,
    /// Origins whose web pages may call the HTTP API.
    pub cors_origins: Vec<HeaderValue>,
    /// Prefix of every exchange and queue.
    pub prefix: String,
    /// Postgres schema.
    pub schema: String,
    /// Message types that are published.
    pub publish: Publish,
    /// Whether the queues of events are declared.
    pub queues: EventQueues,
    /// Unacknowledged deliveries per channel.
    pub prefetch: u16,
    /// Maximum number of commands in a batch.
    pub batch_max: usize,
    /// How long a batch that is not full waits for more.
    pub batch_wait: Duration,
    /// Batches that run at the same time.
    pub lanes: usize,
    /// Rows of the outbox that may wait for the broker before intake pauses.
    pub outbox_max: u64,
    /// How long a drain may take.
    pub drain: Duration,
    /// Newest items over which the agreement of a step is measured.
    pub agreement_window: usize,
    /// Where webhooks may go, and the secret that signs them.
    pub webhooks: WebhookSettings,
    /// Where traces go, from the `OTEL_*` variables of the environment.
    pub traces: Option<TraceSettings>,
    /// Filter of the log.
    pub log: String,
    /// Form of the log.
    pub log_format: LogFormat,
    /// The origin of each value that is not a default, by key.
    pub(super) origins: BTreeMap<&'static str, String>,
    /// The `OTEL_*` variables that are set.
    pub(super) otel: BTreeMap<String, String>,
    /// The flags, to read everything again.
    pub(super) flags: SettingsFlags,
}

impl Settings {
    /// Makes the messages that are published.
    pub fn messages(&self) -> CloudEventMessages {
        self.publish.messages().with_links(self.links.clone())
    }
}

/// Which database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `postgres://…`
    Postgres(SecretUrl),
    /// `sqlite://…`
    Sqlite(SecretUrl),
}

/// Which broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerUrl {
    /// `amqp://…` or `amqps://…`
    Amqp(SecretUrl),
    /// `embedded:`, the queue in the SQLite file.
    Embedded,
}

/// The address of a worker's HTTP API: scheme, host, and the path that a proxy may put before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUrl(pub(super) Url);

impl ApiUrl {
    /// The address of an operation, whose path below `/api/v1` has these parts.
    pub fn operation(&self, parts: &[&str]) -> Url {
        let mut url = self.0.clone();
        // An address with a host, which is all that is read, can have a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(parts);
        }
        url
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// A token, which is displayed nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken(pub(super) HeaderValue);

impl ApiToken {
    /// The header that sends it.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The supported pairs of database and broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Services {
    /// Postgres and RabbitMQ.
    Postgres {
        /// The database.
        database: SecretUrl,
        /// The broker.
        broker: SecretUrl,
    },
    /// One SQLite file, with the queue in it.
    Embedded {
        /// The database.
        database: SecretUrl,
    },
}

/// Which message types are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Every one.
    All,
    /// Only these.
    Only(BTreeSet<MessageType>),
}

/// Which queues of events are part of the topology.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventQueues {
    /// `{p}.step-completed` and `{p}.transition-occurred`; a message for them that reaches no queue
    /// is tried again.
    Default,
    /// None: consumers bind queues of their own, and no message must reach one.
    None,
}

impl EventQueues {
    /// Whether there are any.
    pub fn are_declared(self) -> bool {
        self == Self::Default
    }

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::None => "none",
        }
    }
}

impl Publish {
    /// Makes the messages of these types.
    fn messages(&self) -> CloudEventMessages {
        match self {
            Self::All => CloudEventMessages::default(),
            Self::Only(types) => CloudEventMessages::only(|name| {
                MessageType::from_name(name).is_some_and(|kind| types.contains(&kind))
            }),
        }
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Only(types) => f.write_str(
                &types
                    .iter()
                    .map(|t| t.as_str())
                    .collect::<Vec<_>>()
                    .join(","),
            ),
        }
    }
}

/// Forms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}
