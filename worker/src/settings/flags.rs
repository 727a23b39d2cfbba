//! Settings as flags of the command line.

use std::{collections::BTreeMap, path::PathBuf};

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
    /// The flags that were given, by key.
    pub(super) fn values(&self) -> BTreeMap<String, String> {
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
