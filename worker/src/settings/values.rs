//! Everything that can be set, merged and checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use figment::Figment;

use super::{
    error::SettingsError,
    flags::SettingsFlags,
    layers::Layer,
    names::{SETTINGS, Setting},
    read::Reader,
    secret::{SecretUrl, shown_otel},
};
use crate::{
    traces::TraceSettings,
    webhook::WebhookSettings,
    wire::{CloudEventMessages, MessageType},
};

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where truth is kept.
    pub database: Option<DatabaseUrl>,
    /// Where commands come from.
    pub broker: Option<BrokerUrl>,
    /// Where the HTTP API listens.
    pub http_addr: SocketAddr,
    /// Where only metrics and health listen, besides.
    pub metrics_addr: Option<SocketAddr>,
    /// Who may call the HTTP API.
    pub api_tokens_file: Option<PathBuf>,
    /// Prefix of every exchange and queue.
    pub prefix: String,
    /// Postgres schema.
    pub schema: String,
    /// Message types that are published.
    pub publish: Publish,
    /// Deliveries in flight a channel.
    pub prefetch: u16,
    /// Commands of a batch.
    pub batch_max: usize,
    /// How long a batch that is not full waits for more.
    pub batch_wait: Duration,
    /// Batches under way at a time.
    pub lanes: usize,
    /// Messages that may wait for the broker before intake pauses.
    pub outbox_max: u64,
    /// How long a drain may take.
    pub drain: Duration,
    /// Items over which the agreement of a step is followed.
    pub agreement_window: usize,
    /// Where webhooks may go, and what they are signed with.
    pub webhooks: WebhookSettings,
    /// Where traces go, by the `OTEL_*` variables of the environment.
    pub traces: Option<TraceSettings>,
    /// Filter of the log.
    pub log: String,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Where each value that is no default comes from, by key.
    pub(super) origins: BTreeMap<&'static str, String>,
    /// The `OTEL_*` variables that are set.
    pub(super) otel: BTreeMap<String, String>,
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

/// The pairs of database and broker that go together.
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

impl Publish {
    /// Makes the messages of these types.
    pub fn messages(&self) -> CloudEventMessages {
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

impl Settings {
    /// Merges flags, environment and file, and checks the result.
    pub fn load(
        flags: &SettingsFlags,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let mut merged = Figment::new();
        if let Some(path) = &flags.config {
            merged = merged.merge(Layer::from_file(path)?);
        }
        let environment: Vec<(String, String)> = environment.into_iter().collect();
        // Their names are a standard's: they stand in the environment alone.
        let otel = environment
            .iter()
            .filter(|(name, _)| name.starts_with("OTEL_"));
        let otel: BTreeMap<String, String> = otel.cloned().collect();
        let traces = TraceSettings::read(&otel);
        merged = merged
            .merge(Layer::from_environment(environment)?)
            .merge(Layer::from_texts("the flags", flags.values())?);
        let mut reader = Reader {
            merged,
            faults: traces.as_ref().err().cloned().unwrap_or_default(),
            origins: BTreeMap::new(),
        };
        let settings = reader.settings();
        if reader.faults.is_empty() {
            Ok(Self {
                origins: reader.origins,
                traces: traces.unwrap_or_default(),
                otel,
                ..settings
            })
        } else {
            Err(SettingsError {
                faults: reader.faults,
            })
        }
    }

    /// The database.
    pub fn database(&self) -> Result<&DatabaseUrl, SettingsError> {
        self.database
            .as_ref()
            .ok_or_else(|| SettingsError::one(no_database()))
    }

    /// Database and broker, if they are set and go together.
    pub fn services(&self) -> Result<Services, SettingsError> {
        match (&self.database, &self.broker) {
            (Some(DatabaseUrl::Postgres(database)), Some(BrokerUrl::Amqp(broker))) => {
                Ok(Services::Postgres {
                    database: database.clone(),
                    broker: broker.clone(),
                })
            }
            (Some(DatabaseUrl::Sqlite(database)), Some(BrokerUrl::Embedded)) => {
                Ok(Services::Embedded {
                    database: database.clone(),
                })
            }
            (Some(DatabaseUrl::Postgres(_)), Some(BrokerUrl::Embedded)) => Err(SettingsError::one(
                "AMQP_URL `embedded:` is a queue in a SQLite file and goes with DATABASE_URL \
                 `sqlite://…`; with `postgres://…` set AMQP_URL to `amqp://…` or `amqps://…`",
            )),
            (Some(DatabaseUrl::Sqlite(_)), Some(BrokerUrl::Amqp(_))) => Err(SettingsError::one(
                "DATABASE_URL `sqlite://…` goes with AMQP_URL `embedded:`; with RabbitMQ set \
                 DATABASE_URL to `postgres://…`",
            )),
            (None, None) => Err(SettingsError {
                faults: vec![
                    no_database(),
                    no_broker(),
                    "`glyph demo` needs neither of them".to_owned(),
                ],
            }),
            (None, Some(_)) => Err(SettingsError::one(no_database())),
            (Some(_), None) => Err(SettingsError::one(no_broker())),
        }
    }

    /// Whether the HTTP API may listen where it is told to.
    pub fn check_http(&self) -> Result<(), SettingsError> {
        if self.api_tokens_file.is_some() || self.http_addr.ip().is_loopback() {
            return Ok(());
        }
        Err(SettingsError::one(format!(
            "GLYPH_HTTP_ADDR `{}` can be reached from other machines, and there are no tokens: set \
             GLYPH_API_TOKENS_FILE, or listen on 127.0.0.1 or [::1]",
            self.http_addr
        )))
    }

    /// Where webhooks may go. A host without a secret is a fault: nobody could tell the worker's
    /// calls from anybody's.
    pub fn check_webhooks(&self) -> Result<WebhookSettings, SettingsError> {
        if self.webhooks.hosts.is_empty() || self.webhooks.secret.is_some() {
            return Ok(self.webhooks.clone());
        }
        Err(SettingsError::one(
            "GLYPH_WEBHOOK_HOSTS is set and GLYPH_WEBHOOK_SECRET is not: webhooks are signed, so \
             give a secret of 16 bytes or more, which the receivers know too",
        ))
    }

    /// Every setting as text with secrets masked: key, value, where it comes from.
    pub fn describe(&self) -> Vec<SettingLine> {
        let value = |key: &str| match key {
            "database_url" => self.database.as_ref().map(|url| match url {
                DatabaseUrl::Postgres(url) | DatabaseUrl::Sqlite(url) => url.to_string(),
            }),
            "amqp_url" => self.broker.as_ref().map(|url| match url {
                BrokerUrl::Amqp(url) => url.to_string(),
                BrokerUrl::Embedded => "embedded:".to_owned(),
            }),
            "http_addr" => Some(self.http_addr.to_string()),
            "metrics_addr" => self.metrics_addr.map(|addr| addr.to_string()),
            "api_tokens_file" => self
                .api_tokens_file
                .as_ref()
                .map(|path| path.display().to_string()),
            "prefix" => Some(self.prefix.clone()),
            "schema" => Some(self.schema.clone()),
            "publish" => Some(self.publish.to_string()),
            "prefetch" => Some(self.prefetch.to_string()),
            "batch_max" => Some(self.batch_max.to_string()),
            "batch_wait_ms" => Some(self.batch_wait.as_millis().to_string()),
            "lanes" => Some(self.lanes.to_string()),
            "outbox_max" => Some(self.outbox_max.to_string()),
            "drain_secs" => Some(self.drain.as_secs().to_string()),
            "agreement_window" => Some(self.agreement_window.to_string()),
            "webhook_hosts" => (!self.webhooks.hosts.is_empty()).then(|| {
                let hosts = self.webhooks.hosts.iter().map(ToString::to_string);
                hosts.collect::<Vec<_>>().join(",")
            }),
            "webhook_allow_private" => Some(self.webhooks.allow_private.to_string()),
            "webhook_secret" => self.webhooks.secret.as_ref().map(|_| "***".to_owned()),
            "log" => Some(self.log.clone()),
            _ => Some(
                match self.log_format {
                    LogFormat::Json => "json",
                    LogFormat::Pretty => "pretty",
                }
                .to_owned(),
            ),
        };
        let line = |s: &Setting| SettingLine {
            key: s.key.to_owned(),
            environment: s.env.to_owned(),
            value: value(s.key),
            origin: self
                .origins
                .get(s.key)
                .cloned()
                .unwrap_or_else(|| "default".to_owned()),
        };
        let otel = self.otel.iter().map(|(name, value)| SettingLine {
            key: name.clone(),
            environment: name.clone(),
            value: Some(shown_otel(name, value)),
            origin: "the environment".to_owned(),
        });
        SETTINGS.iter().map(line).chain(otel).collect()
    }
}

/// One setting as `glyph config check` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SettingLine {
    /// Its name in the file; that in the environment where it stands only there.
    pub key: String,
    /// Its name in the environment.
    pub environment: String,
    /// Its value, with secrets masked.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: String,
}

fn no_database() -> String {
    "DATABASE_URL is not set: give `postgres://user:password@host/database` or \
     `sqlite:///path/glyph.db`, in the environment, with --database-url, or in the file of --config"
        .to_owned()
}

fn no_broker() -> String {
    "AMQP_URL is not set: give `amqp://user:password@host:5672`, or `embedded:` with a SQLite \
     DATABASE_URL"
        .to_owned()
}
