//! From text to checked values.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use figment::{Figment, value::Value};

use super::{
    layers::FILE,
    names::names,
    secret::SecretUrl,
    values::{BrokerUrl, DatabaseUrl, LogFormat, Publish, Settings},
};
use crate::{
    webhook::{Host, WebhookSecret, WebhookSettings},
    wire::MessageType,
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

/// Reads values out of the merged layers and collects what is wrong with them.
pub(super) struct Reader {
    pub(super) merged: Figment,
    pub(super) faults: Vec<String>,
    pub(super) origins: BTreeMap<&'static str, String>,
}

impl Reader {
    /// All of them; where one is wrong, its default, and a fault.
    pub(super) fn settings(&mut self) -> Settings {
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
