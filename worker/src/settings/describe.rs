//! Settings as `glyph config check` shows them.

use super::{
    names::{PG_SSL_MODE, SETTINGS, Setting},
    secret::shown_otel,
    values::{BrokerUrl, DatabaseUrl, LogFormat, Settings},
};

/// One setting as `glyph config check` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SettingLine {
    /// Its name in the file, or in the environment if it can be set only there.
    pub key: String,
    /// Its name in the environment.
    pub environment: String,
    /// Its value, with secrets masked.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: String,
}

impl Settings {
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
            "api" => self.api.as_ref().map(ToString::to_string),
            "token" => self.token.as_ref().map(|_| "***".to_owned()),
            "http_addr" => Some(self.http_addr.to_string()),
            "public_url" => self.links.public_url().map(str::to_owned),
            "metrics_addr" => self.metrics_addr.map(|addr| addr.to_string()),
            "api_tokens_file" => self
                .api_tokens_file
                .as_ref()
                .map(|path| path.display().to_string()),
            "cors_origins" => (!self.cors_origins.is_empty()).then(|| {
                let origins = self.cors_origins.iter();
                let origins = origins.map(|origin| String::from_utf8_lossy(origin.as_bytes()));
                origins.collect::<Vec<_>>().join(",")
            }),
            "prefix" => Some(self.prefix.clone()),
            "schema" => Some(self.schema.clone()),
            "publish" => Some(self.publish.to_string()),
            "queues" => Some(self.queues.as_str().to_owned()),
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
            "secrets_dir" => {
                let folder = self.webhooks.secrets_dir.as_ref();
                folder.map(|path| path.display().to_string())
            }
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
        let ssl_mode = self.pg_ssl_mode.iter().map(|mode| SettingLine {
            key: PG_SSL_MODE.to_owned(),
            environment: PG_SSL_MODE.to_owned(),
            value: Some(mode.clone()),
            origin: "the environment".to_owned(),
        });
        SETTINGS
            .iter()
            .map(line)
            .chain(ssl_mode)
            .chain(otel)
            .collect()
    }
}
