//! Parses the text of one setting into its value, or says what is wrong with it.

use std::{collections::BTreeSet, fmt, net::SocketAddr, ops::RangeInclusive, str::FromStr};

use axum::http::HeaderValue;
use figment::value::Value;
use glyph_workflow_engine::store::PgEndpoint;

use super::{
    layers::FILE,
    secret::SecretUrl,
    values::{ApiToken, ApiUrl, BrokerUrl, DatabaseUrl, EventQueues, LogFormat, Publish},
};
use crate::{
    webhook::Host,
    wire::{InvalidPublicUrl, Links, MessageType},
};

/// A value as text: numbers, lists of texts and files with secrets included.
pub(super) fn text_of(value: &Value) -> Result<String, String> {
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
                .map_err(|error| format!("the file `{path}` cannot be read: {error}"))
                .and_then(|text| secret_of(&text, path)),
            _ => Err("is a table, but should be a single value".to_owned()),
        },
        Value::Char(_, c) => Ok(c.to_string()),
        Value::Empty(..) => Err("is empty".to_owned()),
    }
}

/// The secret in a file, without the mark that some editors write first. Quotation marks would be
/// part of it, and never are.
fn secret_of(text: &str, path: &str) -> Result<String, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    let quoted = ['"', '\''].iter().any(|mark| {
        let inner = text.strip_prefix(*mark);
        inner.is_some_and(|inner| inner.ends_with(*mark))
    });
    if quoted {
        return Err(format!(
            "the file `{path}` begins and ends with a quotation mark: write the value alone"
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn database_url(text: &str, ssl_mode: Option<&str>) -> Result<DatabaseUrl, String> {
    let invalid = |why: sqlx::Error| format!("is no valid URL: {}", innermost(&why));
    match text.split_once(':').map(|(scheme, _)| scheme) {
        Some("postgres" | "postgresql") => PgEndpoint::read(text, ssl_mode)
            .map(|_| DatabaseUrl::Postgres(SecretUrl::new(text)))
            .map_err(|why| why.to_string()),
        Some("sqlite") if text.contains(":memory:") || text.contains("mode=memory") => {
            Err("needs a file: what is in memory is gone with the process".to_owned())
        }
        Some("sqlite") => sqlx::sqlite::SqliteConnectOptions::from_str(text)
            .map(|_| DatabaseUrl::Sqlite(SecretUrl::new(text)))
            .map_err(invalid),
        _ => Err("must begin with `postgres://` or `sqlite://`".to_owned()),
    }
}

pub(super) fn broker_url(text: &str) -> Result<BrokerUrl, String> {
    match text.split_once(':').map(|(scheme, _)| scheme) {
        Some("amqp" | "amqps") => {
            let query = text.split_once('?').map_or("", |(_, query)| query);
            let mut pairs = query.split('&').filter(|pair| !pair.is_empty());
            if pairs.any(|pair| pair.contains('@') || !pair.contains('=')) {
                return Err(
                    "has a `?` that is not followed by `name=value`, joined by `&`: write a `?` \
                     inside a password as %3F"
                        .to_owned(),
                );
            }
            let uri: lapin::uri::AMQPUri = text
                .parse()
                .map_err(|why: String| format!("is no valid URL: {}", why.replace(text, "it")))?;
            if uri.vhost.is_empty() {
                return Err(
                    "ends with a `/`, which names a virtual host without a name: write `/%2f` for \
                     the default one, or leave the `/` out"
                        .to_owned(),
                );
            }
            Ok(BrokerUrl::Amqp(SecretUrl::new(text)))
        }
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

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.replacen("localhost:", "127.0.0.1:", 1);
    text.parse().map_err(|_| {
        format!("`{text}` is no address: write an IP address and a port, as 127.0.0.1:8080")
    })
}

/// The address of an API. An error quotes nothing of it: what is wrong with it may be a token.
pub(super) fn api_url(text: &str) -> Result<ApiUrl, String> {
    let url = reqwest::Url::parse(text).map_err(|why| format!("is no valid URL: {why}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with `https://` or `http://`".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("names a user: a token goes into GLYPH_TOKEN".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "has a `?` or a `#`: write where the worker is, as `https://glyph.example.org`"
                .to_owned(),
        );
    }
    Ok(ApiUrl(url))
}

pub(super) fn api_token(text: &str) -> Result<ApiToken, String> {
    let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let header = is_token.then(|| HeaderValue::from_str(&format!("Bearer {text}")).ok());
    let mut header = header
        .flatten()
        .ok_or("must be the token alone: visible ASCII without blanks")?;
    header.set_sensitive(true);
    Ok(ApiToken(header))
}

pub(super) fn public_url(text: &str) -> Result<Links, String> {
    text.parse()
        .map_err(|invalid: InvalidPublicUrl| invalid.to_string())
}

pub(super) fn prefix(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let only_dots = text.chars().all(|c| c == '.');
    if format!("{text}.").starts_with("amq.") {
        Err(format!(
            "`{text}` is no prefix: the broker keeps names that begin with `amq.` for itself"
        ))
    } else if (1..=64).contains(&text.len()) && text.chars().all(plain) && !only_dots {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no prefix: 1 to 64 letters, digits, `-`, `_` and `.`, other than `amq`"
        ))
    }
}

pub(super) fn schema(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts = text
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    if text.starts_with("pg_") || text == "information_schema" {
        Err(format!(
            "`{text}` is no schema for it: the server keeps it for itself"
        ))
    } else if starts && text.len() <= 63 && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no schema name: 1 to 63 of a-z, 0-9 and `_`, no digit first, none of the \
             database's own"
        ))
    }
}

pub(super) fn publish(text: &str) -> Result<Publish, String> {
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

pub(super) fn within<T>(text: &str, range: &RangeInclusive<T>) -> Result<T, String>
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

pub(super) fn webhook_hosts(text: &str) -> Result<Vec<Host>, String> {
    let hosts = text
        .split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty());
    let hosts: Result<Vec<Host>, _> = hosts.map(str::parse).collect();
    hosts.map_err(|invalid| invalid.to_string())
}

pub(super) fn cors_origins(text: &str) -> Result<Vec<HeaderValue>, String> {
    let origins = text.split(',').map(str::trim).filter(|o| !o.is_empty());
    let read = |origin: &str| {
        let url = reqwest::Url::parse(origin).ok();
        // What a browser sends: scheme, host and a port that is not the scheme's own.
        let is_origin = url.is_some_and(|url| {
            matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == origin
        });
        let origin = is_origin
            .then(|| HeaderValue::from_str(origin).ok())
            .flatten();
        origin.ok_or_else(|| {
            "must be origins separated by commas, as a browser sends them: \
             `https://app.example.org`, without a path"
                .to_owned()
        })
    };
    origins.map(read).collect()
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{text}` must be `true` or `false`")),
    }
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|why| format!("`{text}` is no filter, as `info,glyph_worker=debug` is: {why}"))
}

pub(super) fn event_queues(text: &str) -> Result<EventQueues, String> {
    match text {
        "default" => Ok(EventQueues::Default),
        "none" => Ok(EventQueues::None),
        _ => Err(format!("`{text}` must be `default` or `none`")),
    }
}

pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "pretty" => Ok(LogFormat::Pretty),
        _ => Err(format!("`{text}` must be `json` or `pretty`")),
    }
}
