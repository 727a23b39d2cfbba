//! Settings as flags of the command line.
//!
//! Every verb accepts all of them, so the help of a verb hides them: `glyph help settings` lists
//! them, by [`SettingsFlags::documented`].

use std::{collections::BTreeMap, path::PathBuf};

use super::names::environment_of;

/// Flags for the settings that the environment and the file can also set.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SettingsFlags {
    /// TOML file with settings; flags and environment variables override it
    #[arg(long, value_name = "FILE", global = true, hide = true)]
    pub config: Option<PathBuf>,
    /// The database: postgres://… or sqlite://…
    #[arg(long, value_name = "URL", global = true, hide = true)]
    pub database_url: Option<String>,
    /// File that holds the database URL
    #[arg(long, value_name = "FILE", global = true, hide = true)]
    pub database_url_file: Option<String>,
    /// The broker: amqp://… or amqps://…, or embedded: for a queue in the SQLite file
    #[arg(long, value_name = "URL", global = true, hide = true)]
    pub amqp_url: Option<String>,
    /// File that holds the AMQP URL
    #[arg(long, value_name = "FILE", global = true, hide = true)]
    pub amqp_url_file: Option<String>,
    /// A worker's HTTP API, as https://glyph.example.org: commands ask it and need neither database nor broker [default: none]
    #[arg(long, value_name = "URL", global = true, hide = true)]
    pub api: Option<String>,
    /// Token for that API. Whoever lists the processes of this machine reads it: rather set GLYPH_TOKEN, or name a file
    #[arg(long, value_name = "TOKEN", global = true, hide = true)]
    pub token: Option<String>,
    /// File that holds the token
    #[arg(long, value_name = "FILE", global = true, hide = true)]
    pub token_file: Option<String>,
    /// Address of the HTTP API [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", global = true, hide = true)]
    pub http_addr: Option<String>,
    /// Address of the HTTP API as others reach it, for links, which are relative without it [default: none]
    #[arg(long, value_name = "URL", global = true, hide = true)]
    pub public_url: Option<String>,
    /// Address of a second listener that serves only metrics and health [default: none]
    #[arg(long, value_name = "ADDR", global = true, hide = true)]
    pub metrics_addr: Option<String>,
    /// File of tokens that may call the HTTP API, one `role:sha256-hex[:user]` a line, then keys as roles=a+b; read again when it changes [default: none]
    #[arg(long, value_name = "FILE", global = true, hide = true)]
    pub api_tokens_file: Option<String>,
    /// Origins whose web pages may call the HTTP API, separated by commas, as https://app.example.org [default: none]
    #[arg(long, value_name = "ORIGINS", global = true, hide = true)]
    pub cors_origins: Option<String>,
    /// Prefix of the names of all exchanges and queues [default: glyph]
    #[arg(long, value_name = "NAME", global = true, hide = true)]
    pub prefix: Option<String>,
    /// Postgres schema [default: public]
    #[arg(long, value_name = "NAME", global = true, hide = true)]
    pub schema: Option<String>,
    /// Message types to publish, separated by commas [default: all]
    #[arg(long, value_name = "TYPES", global = true, hide = true)]
    pub publish: Option<String>,
    /// Whether the queues step-completed and transition-occurred are declared, and their messages must reach a queue: default, or none, where consumers bind queues of their own [default: default]
    #[arg(long, value_name = "QUEUES", global = true, hide = true)]
    pub queues: Option<String>,
    /// Maximum number of unacknowledged deliveries per queue; fewer while commands are large [default: 2048]
    #[arg(long, value_name = "N", global = true, hide = true)]
    pub prefetch: Option<String>,
    /// Maximum number of commands in a batch [default: 256]
    #[arg(long, value_name = "N", global = true, hide = true)]
    pub batch_max: Option<String>,
    /// How long a batch that is not full waits for more commands, in milliseconds [default: 2]
    #[arg(long, value_name = "MS", global = true, hide = true)]
    pub batch_wait_ms: Option<String>,
    /// Batches that run at the same time [default: 2]
    #[arg(long, value_name = "N", global = true, hide = true)]
    pub lanes: Option<String>,
    /// Rows of the outbox, one for each task and batch with unpublished messages, at which the worker stops
    /// taking commands [default: 100000]
    #[arg(long, value_name = "N", global = true, hide = true)]
    pub outbox_max: Option<String>,
    /// How long a shutdown may take to finish its work, in seconds [default: 25]
    #[arg(long, value_name = "SECONDS", global = true, hide = true)]
    pub drain_secs: Option<String>,
    /// Newest items over which the agreement of each step is measured [default: 1000]
    #[arg(long, value_name = "N", global = true, hide = true)]
    pub agreement_window: Option<String>,
    /// Hosts that webhooks may call, separated by commas, as a.org,a.org:8443,*.a.org [default: none]
    #[arg(long, value_name = "HOSTS", global = true, hide = true)]
    pub webhook_hosts: Option<String>,
    /// Whether webhook hosts listed with a port may have private addresses: true or false [default: false]
    #[arg(long, value_name = "BOOL", global = true, hide = true)]
    pub webhook_allow_private: Option<String>,
    /// Secret that signs webhooks: whsec_ followed by base64, or any text of at least 16 bytes
    #[arg(long, value_name = "SECRET", global = true, hide = true)]
    pub webhook_secret: Option<String>,
    /// File that holds the webhook secret
    #[arg(long, value_name = "FILE", global = true, hide = true)]
    pub webhook_secret_file: Option<String>,
    /// Folder whose files hold the secrets that headers of workflows name, one a file [default: none]
    #[arg(long, value_name = "FOLDER", global = true, hide = true)]
    pub secrets_dir: Option<String>,
    /// Log filter, as info,glyph_worker=debug [default: info]
    #[arg(long, value_name = "FILTER", global = true, hide = true)]
    pub log: Option<String>,
    /// Log format: json or pretty [default: pretty]
    #[arg(long, value_name = "FORM", global = true, hide = true)]
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
            ("api", &self.api),
            ("token", &self.token),
            ("token_file", &self.token_file),
            ("http_addr", &self.http_addr),
            ("public_url", &self.public_url),
            ("metrics_addr", &self.metrics_addr),
            ("api_tokens_file", &self.api_tokens_file),
            ("cors_origins", &self.cors_origins),
            ("prefix", &self.prefix),
            ("schema", &self.schema),
            ("publish", &self.publish),
            ("queues", &self.queues),
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
            ("secrets_dir", &self.secrets_dir),
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

/// A setting as help shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SettingHelp {
    /// The flag with the name of its value, as `--http-addr <ADDR>`.
    pub flag: String,
    /// The environment variable; none for settings that are flags only.
    pub environment: Option<String>,
    /// What it sets, and its default.
    pub about: String,
}

impl SettingsFlags {
    /// Every setting, in the order of help.
    pub fn documented() -> Vec<SettingHelp> {
        let command = <Self as clap::Args>::augment_args(clap::Command::new("settings"));
        let flags = command.get_arguments().map(|argument| {
            let key = argument.get_id().as_str();
            let values = argument.get_value_names().into_iter().flatten();
            let values = values.map(|name| format!(" <{name}>"));
            let about = argument.get_help().map(ToString::to_string);
            SettingHelp {
                flag: format!("--{}{}", key.replace('_', "-"), values.collect::<String>()),
                environment: environment_of(key),
                about: about.unwrap_or_default(),
            }
        });
        flags.collect()
    }
}
