//! Settings: flags over environment over a TOML file, checked once, with every fault told at once.
//!
//! Each setting has one name in three spellings: `http_addr` in the file, `GLYPH_HTTP_ADDR` in the
//! environment, `--http-addr` as a flag. A secret may also be named by a file that holds it
//! (`database_url_file`, `DATABASE_URL_FILE`, `--database-url-file`); whichever of the two the
//! higher layer sets wins.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use figment::{
    Figment, Metadata, Profile, Provider,
    providers::{Format, Toml},
    value::{Dict, Map, Value},
};

use crate::{
    traces::TraceSettings,
    webhook::{Host, WebhookSecret, WebhookSettings},
    wire::{CloudEventMessages, MessageType},
};

/// Deliveries in flight a channel: two batches of every lane, with room for what waits for acks.
const PREFETCH_DEFAULT: u16 = 2_048;
/// Commands of a batch; beyond it the next batch begins.
const BATCH_MAX_DEFAULT: usize = 256;
/// How long a batch that is not full waits for more commands.
const BATCH_WAIT_DEFAULT: Duration = Duration::from_millis(2);
/// Batches under way at a time.
const LANES_DEFAULT: usize = 2;
/// Messages that may wait for the broker before intake pauses.
const OUTBOX_MAX_DEFAULT: u64 = 100_000;
/// How long a drain may take; shorter than the 30 s that orchestrators wait before they kill.
const DRAIN_DEFAULT: Duration = Duration::from_secs(25);
/// Items over which the agreement of a step is followed; what a window holds is read and written as one.
const AGREEMENT_WINDOW_DEFAULT: usize = 1_000;

/// A setting and its names.
struct Setting {
    /// In the file; with dashes, the flag.
    key: &'static str,
    /// In the environment.
    env: &'static str,
    /// Whether `{key}_file` may name a file that holds it.
    secret: bool,
}

const fn setting(key: &'static str, env: &'static str) -> Setting {
    Setting {
        key,
        env,
        secret: false,
    }
}

const fn secret(key: &'static str, env: &'static str) -> Setting {
    Setting {
        key,
        env,
        secret: true,
    }
}

const SETTINGS: [Setting; 20] = [
    secret("database_url", "DATABASE_URL"),
    secret("amqp_url", "AMQP_URL"),
    setting("http_addr", "GLYPH_HTTP_ADDR"),
    setting("metrics_addr", "GLYPH_METRICS_ADDR"),
    setting("api_tokens_file", "GLYPH_API_TOKENS_FILE"),
    setting("prefix", "GLYPH_PREFIX"),
    setting("schema", "GLYPH_SCHEMA"),
    setting("publish", "GLYPH_PUBLISH"),
    setting("prefetch", "GLYPH_PREFETCH"),
    setting("batch_max", "GLYPH_BATCH_MAX"),
    setting("batch_wait_ms", "GLYPH_BATCH_WAIT_MS"),
    setting("lanes", "GLYPH_LANES"),
    setting("outbox_max", "GLYPH_OUTBOX_MAX"),
    setting("drain_secs", "GLYPH_DRAIN_SECS"),
    setting("agreement_window", "GLYPH_AGREEMENT_WINDOW"),
    setting("webhook_hosts", "GLYPH_WEBHOOK_HOSTS"),
    setting("webhook_allow_private", "GLYPH_WEBHOOK_ALLOW_PRIVATE"),
    secret("webhook_secret", "GLYPH_WEBHOOK_SECRET"),
    setting("log", "GLYPH_LOG"),
    setting("log_format", "GLYPH_LOG_FORMAT"),
];

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
    origins: BTreeMap<&'static str, String>,
    /// The `OTEL_*` variables that are set.
    otel: BTreeMap<String, String>,
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

/// A URL that may hold a password: it shows itself only without.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// Wraps a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole URL, for the client that connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.0))
    }
}

/// The URL with `***` for its password and for every parameter that sounds like a secret.
fn redacted(url: &str) -> String {
    let (place, query) = url
        .split_once('?')
        .map_or((url, None), |(p, q)| (p, Some(q)));
    // The last `@`: a password may hold one unescaped, and hiding too much is the safe mistake.
    let mut shown = match (place.split_once("://"), place.rfind('@')) {
        (Some((scheme, _)), Some(at)) if at > scheme.len() => {
            let user = place[scheme.len() + 3..at]
                .split(':')
                .next()
                .unwrap_or_default();
            let secret = if place[scheme.len() + 3..at].contains(':') {
                ":***"
            } else {
                ""
            };
            format!("{scheme}://{user}{secret}{}", &place[at..])
        }
        _ => place.to_owned(),
    };
    if let Some(query) = query {
        let hidden = query.split('&').map(|pair| match pair.split_once('=') {
            Some((key, _)) if key.contains("pass") || key.contains("secret") => {
                format!("{key}=***")
            }
            _ => pair.to_owned(),
        });
        shown.push('?');
        shown.push_str(&hidden.collect::<Vec<_>>().join("&"));
    }
    shown
}

/// An `OTEL_*` variable without what may be a secret.
fn shown_otel(name: &str, value: &str) -> String {
    if name.ends_with("_ENDPOINT") {
        return redacted(value);
    }
    if !name.ends_with("_HEADERS") {
        return value.to_owned();
    }
    let headers = value.split(',').map(|header| match header.split_once('=') {
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    });
    headers.collect::<Vec<_>>().join(",")
}

/// What is wrong with the settings: every fault at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsError {
    /// The faults, each one line: what, where, how to mend it.
    pub faults: Vec<String>,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.faults.join("\n"))
    }
}

impl SettingsError {
    fn one(fault: impl Into<String>) -> Self {
        Self {
            faults: vec![fault.into()],
        }
    }
}

/// Flags that set what the environment and the file also set.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct SettingsFlags {
    /// TOML file with settings; environment and flags go before it
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// postgres://… or sqlite://…
    #[arg(long, value_name = "URL", global = true)]
    pub database_url: Option<String>,
    /// File that holds the database URL
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    pub database_url_file: Option<String>,
    /// amqp://…, amqps://… or embedded:
    #[arg(long, value_name = "URL", global = true)]
    pub amqp_url: Option<String>,
    /// File that holds the AMQP URL
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    pub amqp_url_file: Option<String>,
    /// Where the HTTP API listens [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", global = true, hide_short_help = true)]
    pub http_addr: Option<String>,
    /// Own listener for metrics and health only [default: none]
    #[arg(long, value_name = "ADDR", global = true, hide_short_help = true)]
    pub metrics_addr: Option<String>,
    /// Who may call the HTTP API: lines `role:sha256hex[:user_uuid]`
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    pub api_tokens_file: Option<String>,
    /// Prefix of every exchange and queue [default: glyph]
    #[arg(long, value_name = "NAME", global = true, hide_short_help = true)]
    pub prefix: Option<String>,
    /// Postgres schema [default: public]
    #[arg(long, value_name = "NAME", global = true, hide_short_help = true)]
    pub schema: Option<String>,
    /// Message types to publish, separated by commas [default: all]
    #[arg(long, value_name = "TYPES", global = true, hide_short_help = true)]
    pub publish: Option<String>,
    /// Deliveries in flight a channel [default: 2048]
    #[arg(long, value_name = "N", global = true, hide_short_help = true)]
    pub prefetch: Option<String>,
    /// Commands of a batch at most [default: 256]
    #[arg(long, value_name = "N", global = true, hide_short_help = true)]
    pub batch_max: Option<String>,
    /// Milliseconds that a batch waits for more commands [default: 2]
    #[arg(long, value_name = "MS", global = true, hide_short_help = true)]
    pub batch_wait_ms: Option<String>,
    /// Batches under way at a time [default: 2]
    #[arg(long, value_name = "N", global = true, hide_short_help = true)]
    pub lanes: Option<String>,
    /// Messages that may wait for the broker before intake pauses [default: 100000]
    #[arg(long, value_name = "N", global = true, hide_short_help = true)]
    pub outbox_max: Option<String>,
    /// Seconds that a drain may take [default: 25]
    #[arg(long, value_name = "SECONDS", global = true, hide_short_help = true)]
    pub drain_secs: Option<String>,
    /// Items over which the agreement of a step is followed [default: 1000]
    #[arg(long, value_name = "N", global = true, hide_short_help = true)]
    pub agreement_window: Option<String>,
    /// Hosts that webhooks may call, separated by commas: a.org, a.org:8443, *.a.org [default: none]
    #[arg(long, value_name = "HOSTS", global = true, hide_short_help = true)]
    pub webhook_hosts: Option<String>,
    /// Whether webhook hosts that are listed with a port may have private addresses [default: false]
    #[arg(long, value_name = "BOOL", global = true, hide_short_help = true)]
    pub webhook_allow_private: Option<String>,
    /// What webhooks are signed with: whsec_ and base64, or any text of 16 bytes or more
    #[arg(long, value_name = "SECRET", global = true, hide_short_help = true)]
    pub webhook_secret: Option<String>,
    /// File that holds the webhook secret
    #[arg(long, value_name = "FILE", global = true, hide_short_help = true)]
    pub webhook_secret_file: Option<String>,
    /// Filter of the log, as `info,glyph_worker=debug` [default: info]
    #[arg(long, value_name = "FILTER", global = true, hide_short_help = true)]
    pub log: Option<String>,
    /// Form of the log: json or pretty [default: pretty]
    #[arg(long, value_name = "FORM", global = true, hide_short_help = true)]
    pub log_format: Option<String>,
}

impl SettingsFlags {
    fn values(&self) -> BTreeMap<String, String> {
        let all = [
            ("database_url", &self.database_url),
            ("database_url_file", &self.database_url_file),
            ("amqp_url", &self.amqp_url),
            ("amqp_url_file", &self.amqp_url_file),
            ("http_addr", &self.http_addr),
            ("metrics_addr", &self.metrics_addr),
            ("api_tokens_file", &self.api_tokens_file),
            ("prefix", &self.prefix),
            ("schema", &self.schema),
            ("publish", &self.publish),
            ("prefetch", &self.prefetch),
            ("batch_max", &self.batch_max),
            ("batch_wait_ms", &self.batch_wait_ms),
            ("lanes", &self.lanes),
            ("outbox_max", &self.outbox_max),
            ("drain_secs", &self.drain_secs),
            ("agreement_window", &self.agreement_window),
            ("webhook_hosts", &self.webhook_hosts),
            ("webhook_allow_private", &self.webhook_allow_private),
            ("webhook_secret", &self.webhook_secret),
            ("webhook_secret_file", &self.webhook_secret_file),
            ("log", &self.log),
            ("log_format", &self.log_format),
        ];
        let given = all
            .into_iter()
            .filter_map(|(key, value)| Some((key, value.as_ref()?)));
        given
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect()
    }
}

/// One layer of settings as figment merges it; a higher layer replaces whole values.
struct Layer {
    name: String,
    values: Dict,
}

/// The key under which a layer keeps the file that holds a secret.
const FILE: &str = "file";

impl Layer {
    /// `{key}_file` becomes a value of `key`, so that merging lets the higher layer win whichever
    /// of the two spellings each layer used.
    fn new(name: impl Into<String>, mut values: Dict) -> Result<Self, SettingsError> {
        let name = name.into();
        for Setting { key, .. } in SETTINGS.iter().filter(|s| s.secret) {
            let Some(file) = values.remove(&format!("{key}_file")) else {
                continue;
            };
            if values.contains_key(*key) {
                return Err(SettingsError::one(format!(
                    "{name}: both `{key}` and `{key}_file` are set; keep one of them"
                )));
            }
            values.insert(
                (*key).to_owned(),
                Dict::from([(FILE.to_owned(), file)]).into(),
            );
        }
        Ok(Self { name, values })
    }

    fn from_texts(
        name: impl Into<String>,
        values: BTreeMap<String, String>,
    ) -> Result<Self, SettingsError> {
        Self::new(
            name,
            values
                .into_iter()
                .map(|(key, value)| (key, value.into()))
                .collect(),
        )
    }

    fn from_environment(
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let keys: BTreeMap<String, String> = SETTINGS
            .iter()
            .flat_map(|s| {
                let file = s
                    .secret
                    .then(|| (format!("{}_FILE", s.env), format!("{}_file", s.key)));
                [(s.env.to_owned(), s.key.to_owned())]
                    .into_iter()
                    .chain(file)
            })
            .collect();
        // An empty variable counts as not set, as compose files write `GLYPH_LOG: ${GLYPH_LOG-}`.
        let given = environment
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty());
        let values = given
            .filter_map(|(name, value)| Some((keys.get(&name)?.clone(), value)))
            .collect();
        Self::from_texts("the environment", values)
    }

    fn from_file(path: &Path) -> Result<Self, SettingsError> {
        let name = format!("file {}", path.display());
        let refused = |why: &dyn fmt::Display| SettingsError::one(format!("{name}: {why}"));
        let text = std::fs::read_to_string(path)
            .map_err(|error| refused(&format_args!("cannot be read: {error}")))?;
        let mut profiles = Toml::string(&text)
            .data()
            .map_err(|error| refused(&error))?;
        let values = profiles.remove(&Profile::Default).unwrap_or_default();
        let unknown: Vec<_> = values
            .keys()
            .filter(|key| !is_known(key))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            let faults = unknown.iter().map(|key| {
                let hint = nearest(key).map(|k| format!("; did you mean `{k}`?"));
                format!(
                    "{name}: there is no setting `{key}`{}",
                    hint.unwrap_or_default()
                )
            });
            return Err(SettingsError {
                faults: faults.collect(),
            });
        }
        Self::new(name, values)
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::error::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

fn is_known(key: &str) -> bool {
    SETTINGS.iter().any(|s| {
        s.key == key || (s.secret && key.strip_suffix("_file").is_some_and(|stem| stem == s.key))
    })
}

fn nearest(key: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .map(|s| (strsim::jaro_winkler(s.key, key), s.key))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
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

/// Reads values out of the merged layers and collects what is wrong with them.
struct Reader {
    merged: Figment,
    faults: Vec<String>,
    origins: BTreeMap<&'static str, String>,
}

impl Reader {
    fn settings(&mut self) -> Settings {
        Settings {
            database: self.read("database_url", database_url),
            broker: self.read("amqp_url", broker_url),
            http_addr: self
                .read("http_addr", address)
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            metrics_addr: self.read("metrics_addr", address),
            api_tokens_file: self.read("api_tokens_file", |text| Ok(PathBuf::from(text))),
            prefix: self
                .read("prefix", prefix)
                .unwrap_or_else(|| "glyph".to_owned()),
            schema: self
                .read("schema", schema)
                .unwrap_or_else(|| "public".to_owned()),
            publish: self.read("publish", publish).unwrap_or(Publish::All),
            prefetch: self
                .read("prefetch", |text| within(text, &(1..=u16::MAX)))
                .unwrap_or(PREFETCH_DEFAULT),
            batch_max: self
                .read("batch_max", |text| within(text, &(1..=4_096)))
                .unwrap_or(BATCH_MAX_DEFAULT),
            batch_wait: self
                .read("batch_wait_ms", |text| within(text, &(0..=1_000)))
                .map_or(BATCH_WAIT_DEFAULT, Duration::from_millis),
            lanes: self
                .read("lanes", |text| within(text, &(1..=16)))
                .unwrap_or(LANES_DEFAULT),
            outbox_max: self
                .read("outbox_max", |text| within(text, &(1..=100_000_000)))
                .unwrap_or(OUTBOX_MAX_DEFAULT),
            drain: self
                .read("drain_secs", |text| within(text, &(0..=3_600)))
                .map_or(DRAIN_DEFAULT, Duration::from_secs),
            agreement_window: self
                .read("agreement_window", |text| within(text, &(10..=10_000)))
                .unwrap_or(AGREEMENT_WINDOW_DEFAULT),
            webhooks: WebhookSettings {
                hosts: self
                    .read("webhook_hosts", webhook_hosts)
                    .unwrap_or_default(),
                allow_private: self
                    .read("webhook_allow_private", boolean)
                    .unwrap_or_default(),
                secret: self.read("webhook_secret", WebhookSecret::new),
            },
            log: self
                .read("log", log_filter)
                .unwrap_or_else(|| "info".to_owned()),
            log_format: self
                .read("log_format", log_format)
                .unwrap_or(LogFormat::Pretty),
            traces: None,
            origins: BTreeMap::new(),
            otel: BTreeMap::new(),
        }
    }

    /// The value of `key`, if it is set and right.
    fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.merged.find_value(key).ok()?;
        let origin = self.merged.find_metadata(key).map_or_else(
            // A dict carries no tag of its own; its content does.
            || {
                self.merged
                    .find_metadata(&format!("{key}.{FILE}"))
                    .map(|m| m.name.to_string())
            },
            |metadata| Some(metadata.name.to_string()),
        );
        let origin = origin.unwrap_or_else(|| "the settings".to_owned());
        let parsed = text_of(&value).and_then(|text| parse(text.trim()));
        match parsed {
            Ok(parsed) => {
                self.origins.insert(key, origin);
                Some(parsed)
            }
            Err(why) => {
                self.faults
                    .push(format!("{} ({origin}): {why}", names(key)));
                None
            }
        }
    }
}

fn names(key: &str) -> String {
    let env = SETTINGS
        .iter()
        .find(|s| s.key == key)
        .map_or(key, |s| s.env);
    format!("{env} or --{}", key.replace('_', "-"))
}

/// A value as text: numbers, lists of texts and files with secrets included.
fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::String(_, text) => Ok(text.clone()),
        Value::Bool(_, flag) => Ok(flag.to_string()),
        Value::Num(_, number) => number
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| number.to_f64().map(|n| n.to_string()))
            .ok_or_else(|| "is no number that this setting can take".to_owned()),
        Value::Array(_, parts) => {
            let texts: Result<Vec<_>, _> = parts.iter().map(text_of).collect();
            texts.map(|texts| texts.join(","))
        }
        Value::Dict(_, dict) => match dict.get(FILE) {
            Some(Value::String(_, path)) => std::fs::read_to_string(path)
                .map_err(|error| format!("the file `{path}` cannot be read: {error}")),
            _ => Err("is a table, but should be a single value".to_owned()),
        },
        Value::Char(_, c) => Ok(c.to_string()),
        Value::Empty(..) => Err("is empty".to_owned()),
    }
}

fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    let invalid = |why: sqlx::Error| format!("is no valid URL: {}", innermost(&why));
    match text.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => sqlx::postgres::PgConnectOptions::from_str(text)
            .map(|_| DatabaseUrl::Postgres(SecretUrl::new(text)))
            .map_err(invalid),
        Some("sqlite") if text.contains(":memory:") || text.contains("mode=memory") => {
            Err("needs a file: what is in memory is gone with the process".to_owned())
        }
        Some("sqlite") => sqlx::sqlite::SqliteConnectOptions::from_str(text)
            .map(|_| DatabaseUrl::Sqlite(SecretUrl::new(text)))
            .map_err(invalid),
        _ => Err("must begin with `postgres://` or `sqlite://`".to_owned()),
    }
}

fn broker_url(text: &str) -> Result<BrokerUrl, String> {
    match text.split_once(':').map(|(scheme, _)| scheme) {
        Some("amqp" | "amqps") => text
            .parse::<lapin::uri::AMQPUri>()
            .map(|_| BrokerUrl::Amqp(SecretUrl::new(text)))
            .map_err(|why| format!("is no valid URL: {}", why.replace(text, "it"))),
        Some("embedded") if matches!(text, "embedded:" | "embedded://") => Ok(BrokerUrl::Embedded),
        Some("embedded") => {
            Err("`embedded:` takes no address: the queue is in the SQLite file".to_owned())
        }
        _ => Err("must begin with `amqp://` or `amqps://`, or be `embedded:`".to_owned()),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map_err(|_| {
        format!("`{text}` is no address: write an IP address and a port, as 127.0.0.1:8080")
    })
}

fn prefix(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no prefix: 1 to 64 letters, digits, `-`, `_` and `.`"
        ))
    }
}

fn schema(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts = text
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    if starts && text.len() <= 63 && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no schema name: 1 to 63 of a-z, 0-9 and `_`, no digit first"
        ))
    }
}

fn publish(text: &str) -> Result<Publish, String> {
    if text == "all" {
        return Ok(Publish::All);
    }
    let names = text
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty());
    let types: Result<BTreeSet<MessageType>, _> = names.map(str::parse).collect();
    types
        .map(Publish::Only)
        .map_err(|unknown| unknown.to_string())
}

fn within<T>(text: &str, range: &RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + fmt::Display,
{
    let number = text.replace('_', "").parse::<T>().ok();
    number.filter(|n| range.contains(n)).ok_or_else(|| {
        format!(
            "`{text}` must be a whole number from {} to {}",
            range.start(),
            range.end()
        )
    })
}

fn webhook_hosts(text: &str) -> Result<Vec<Host>, String> {
    let hosts = text
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty());
    let hosts: Result<Vec<Host>, _> = hosts.map(str::parse).collect();
    hosts.map_err(|invalid| invalid.to_string())
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{text}` must be `true` or `false`")),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|why| format!("`{text}` is no filter, as `info,glyph_worker=debug` is: {why}"))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "pretty" => Ok(LogFormat::Pretty),
        _ => Err(format!("`{text}` must be `json` or `pretty`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let pairs = environment
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        Settings::load(&SettingsFlags::default(), pairs)
    }

    #[test]
    fn passwords_are_never_shown() {
        for (url, shown) in [
            ("postgres://u:p@h:5432/d", "postgres://u:***@h:5432/d"),
            ("postgres://u:p@ss/w@h/d", "postgres://u:***@h/d"),
            (
                "postgres://u@h/d?password=p&x=1",
                "postgres://u@h/d?password=***&x=1",
            ),
            ("amqp://h", "amqp://h"),
            ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ] {
            assert_eq!(redacted(url), shown);
            assert!(!format!("{:?}", SecretUrl::new(url)).contains("p@"));
        }
    }

    #[test]
    fn variables_for_traces_are_shown_without_keys() {
        let settings = load(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://u:p@h:4318"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20key,x=y",
            ),
            ("OTEL_SERVICE_NAME", "mine"),
        ]);
        let lines = settings.unwrap().describe();
        let shown: Vec<_> = lines
            .iter()
            .filter(|line| line.key.starts_with("OTEL_"))
            .map(|line| line.value.as_deref().unwrap())
            .collect();
        let expected = ["https://u:***@h:4318", "authorization=***,x=***", "mine"];
        assert_eq!(shown, expected);
        let faults = load(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "h"),
            ("GLYPH_LANES", "many"),
        ]);
        assert_eq!(faults.unwrap_err().faults.len(), 2);
    }

    #[test]
    fn pairs_that_do_not_go_together_are_refused() {
        let services = |database: &str, broker: &str| {
            load(&[("DATABASE_URL", database), ("AMQP_URL", broker)])
                .unwrap()
                .services()
        };
        assert!(services("sqlite:///a.db", "embedded:").is_ok());
        assert!(services("postgres://h/d", "amqps://h").is_ok());
        assert!(services("sqlite:///a.db", "amqp://h").is_err());
        assert!(services("postgres://h/d", "embedded:").is_err());
        assert_eq!(load(&[]).unwrap().services().unwrap_err().faults.len(), 3);
    }

    #[test]
    fn every_fault_is_told_at_once_with_the_names_of_the_setting() {
        let faults = load(&[("GLYPH_LANES", "many"), ("GLYPH_PUBLISH", "step.done")]);
        let faults = faults.unwrap_err().faults;
        assert_eq!(faults.len(), 2);
        assert!(
            faults
                .iter()
                .any(|fault| fault.starts_with("GLYPH_LANES or --lanes"))
        );
    }

    #[test]
    fn an_open_address_needs_tokens() {
        let open = ("GLYPH_HTTP_ADDR", "0.0.0.0:8080");
        assert!(load(&[open]).unwrap().check_http().is_err());
        assert!(
            load(&[open, ("GLYPH_API_TOKENS_FILE", "t")])
                .unwrap()
                .check_http()
                .is_ok()
        );
        assert!(load(&[]).unwrap().check_http().is_ok());
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        assert_eq!(load(&[("GLYPH_PREFIX", " ")]).unwrap().prefix, "glyph");
    }
}
