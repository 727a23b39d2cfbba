//! Merges the layers and reads every setting out of them.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use figment::Figment;

use super::{
    defaults::{
        AGREEMENT_WINDOW_DEFAULT, BATCH_MAX_DEFAULT, BATCH_WAIT_DEFAULT, DRAIN_DEFAULT,
        LANES_DEFAULT, OUTBOX_MAX_DEFAULT, PREFETCH_DEFAULT,
    },
    environment::environment,
    error::SettingsError,
    flags::SettingsFlags,
    layers::{FILE, FILE_LAYER, Layer},
    names::{PG_SSL_MODE, names},
    text::{
        address, api_token, api_url, boolean, broker_url, cors_origins, database_url, event_queues,
        log_filter, log_format, prefix, public_url, publish, schema, text_of, webhook_hosts,
        within,
    },
    traces::TraceSettings,
    values::{EventQueues, LogFormat, Publish, Settings},
};
use crate::webhook::{WebhookSecret, WebhookSettings};

impl Settings {
    /// The settings of this process: flags, its environment, and the file.
    pub fn of_process(flags: &SettingsFlags) -> Result<Self, SettingsError> {
        Self::load(flags, environment(std::env::vars_os())?)
    }

    /// Reads everything again: the file, and the files of secrets, may have changed.
    pub fn again(&self) -> Result<Self, SettingsError> {
        Self::of_process(&self.flags)
    }

    /// What sets the filter of the log, if it is neither the file nor the default: then reading the
    /// file again changes nothing.
    pub fn log_is_set_by(&self) -> Option<&str> {
        let origin = self.origins.get("log")?;
        (!origin.starts_with(FILE_LAYER)).then_some(origin)
    }

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
        // The OpenTelemetry specification defines their names, so they are read from the
        // environment alone.
        let otel = environment
            .iter()
            .filter(|(name, _)| name.starts_with("OTEL_"));
        let otel: BTreeMap<String, String> = otel.cloned().collect();
        let traces = TraceSettings::read(&otel);
        let pg_ssl_mode = environment
            .iter()
            .find(|(name, value)| name == PG_SSL_MODE && !value.trim().is_empty())
            .map(|(_, value)| value.trim().to_owned());
        merged = merged
            .merge(Layer::from_environment(environment)?)
            .merge(Layer::from_texts("the flags", flags.values())?);
        let mut reader = SettingsReader {
            merged,
            faults: traces.as_ref().err().cloned().unwrap_or_default(),
            origins: BTreeMap::new(),
            pg_ssl_mode,
        };
        let settings = reader.settings();
        if reader.faults.is_empty() {
            Ok(Self {
                origins: reader.origins,
                traces: traces.unwrap_or_default(),
                otel,
                pg_ssl_mode: reader.pg_ssl_mode,
                flags: flags.clone(),
                ..settings
            })
        } else {
            Err(SettingsError {
                faults: reader.faults,
            })
        }
    }
}

/// Reads values out of the merged layers and collects the errors.
struct SettingsReader {
    merged: Figment,
    faults: Vec<String>,
    origins: BTreeMap<&'static str, String>,
    pg_ssl_mode: Option<String>,
}

impl SettingsReader {
    /// All settings. An invalid one gets its default, and its error is collected.
    fn settings(&mut self) -> Settings {
        let ssl_mode = self.pg_ssl_mode.clone();
        Settings {
            database: self.read("database_url", |text| {
                database_url(text, ssl_mode.as_deref())
            }),
            pg_ssl_mode: None,
            broker: self.read("amqp_url", broker_url),
            api: self.read("api", api_url),
            token: self.read("token", api_token),
            http_addr: self
                .read("http_addr", address)
                .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080))),
            links: self.read("public_url", public_url).unwrap_or_default(),
            metrics_addr: self.read("metrics_addr", address),
            cors_origins: self.read("cors_origins", cors_origins).unwrap_or_default(),
            api_tokens_file: self.read("api_tokens_file", |text| Ok(PathBuf::from(text))),
            prefix: self
                .read("prefix", prefix)
                .unwrap_or_else(|| "glyph".to_owned()),
            schema: self
                .read("schema", schema)
                .unwrap_or_else(|| "public".to_owned()),
            publish: self.read("publish", publish).unwrap_or(Publish::All),
            queues: self
                .read("queues", event_queues)
                .unwrap_or(EventQueues::Default),
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
                secrets_dir: self.read("secrets_dir", |text| Ok(PathBuf::from(text))),
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
            flags: SettingsFlags::default(),
        }
    }

    /// The value of `key`, if it is set and valid.
    fn read<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.merged.find_value(key).ok()?;
        let origin = self.merged.find_metadata(key).map_or_else(
            // A dict has no tag of its own; its entries have one.
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
