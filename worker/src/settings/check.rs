//! Checks settings that are valid one by one but may contradict each other.

use std::net::IpAddr;

use glyph_workflow_engine::store::PgEndpoint;

use super::{
    error::SettingsError,
    values::{ApiUrl, BrokerUrl, DatabaseUrl, Services, Settings},
};
use crate::webhook::WebhookSettings;

impl Settings {
    /// The database.
    pub fn database(&self) -> Result<&DatabaseUrl, SettingsError> {
        self.check_direct()?;
        self.database
            .as_ref()
            .ok_or_else(|| SettingsError::one(no_database()))
    }

    /// Database and broker, if they are set and can be combined.
    pub fn services(&self) -> Result<Services, SettingsError> {
        self.check_direct()?;
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

    /// Fails where a worker is to be asked: whoever names one may have left the address of another
    /// deployment's database in the environment.
    fn check_direct(&self) -> Result<(), SettingsError> {
        if self.api.is_none() {
            return Ok(());
        }
        Err(SettingsError::one(
            "GLYPH_API or --api is set, and this needs the database itself: leave them out, and set \
             DATABASE_URL",
        ))
    }

    /// What an operator should know of the links to database and broker: those that are weaker than
    /// they could be, and parameters without effect.
    pub fn link_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(DatabaseUrl::Postgres(url)) = &self.database {
            let endpoint = PgEndpoint::read(url.expose(), self.pg_ssl_mode.as_deref());
            let told = endpoint.map(|endpoint| endpoint.warnings());
            let told = told.unwrap_or_default().into_iter();
            warnings.extend(told.map(|why| format!("DATABASE_URL {why}")));
        }
        if let Some(BrokerUrl::Amqp(url)) = &self.broker {
            let told = broker_warnings(url.expose()).into_iter();
            warnings.extend(told.map(|why| format!("AMQP_URL {why}")));
        }
        let is_open = |ApiUrl(url): &ApiUrl| {
            url.scheme() == "http" && !url.host_str().is_some_and(is_loopback)
        };
        if self.token.is_some() && self.api.as_ref().is_some_and(is_open) {
            warnings.push(
                "GLYPH_API has a link that is not encrypted: whoever is on the way can read the \
                 token and the answers; `https://` cures it"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Whether the HTTP API may listen on the configured address.
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

    /// Where webhooks may go. Hosts without a secret are an error: receivers could not tell the
    /// worker's calls from forged ones.
    pub fn check_webhooks(&self) -> Result<WebhookSettings, SettingsError> {
        if self.webhooks.hosts.is_empty() || self.webhooks.secret.is_some() {
            return Ok(self.webhooks.clone());
        }
        Err(SettingsError::one(
            "GLYPH_WEBHOOK_HOSTS is set and GLYPH_WEBHOOK_SECRET is not: webhooks are signed, so \
             give a secret of 16 bytes or more, which the receivers know too",
        ))
    }
}

/// Parameters of the broker's URL that the client reads.
const BROKER_PARAMETERS: [&str; 4] = ["heartbeat", "channel_max", "frame_max", "auth_mechanism"];

fn broker_warnings(url: &str) -> Vec<String> {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, authority) = place.split_once("://").unwrap_or_default();
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = authority.split('/').next().unwrap_or_default();
    let host = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, _)) => address,
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_local = host.is_empty() || is_loopback(host);
    let mut warnings = Vec::new();
    if scheme == "amqp" && !is_local {
        warnings.push(
            "has a link that is not encrypted: whoever is on the way can read passwords and \
             answers; `amqps://` cures it"
                .to_owned(),
        );
    }
    let keys = query.split('&').filter_map(|pair| pair.split_once('='));
    let unread = keys.filter(|(key, _)| !BROKER_PARAMETERS.contains(key));
    warnings.extend(unread.map(|(key, _)| {
        format!(
            "has a parameter that nothing reads: `{key}` (certificates are always verified, by the \
             system's authorities or those of the file that SSL_CERT_FILE names)"
        )
    }));
    warnings
}

/// Whether a host is this machine; an address of IPv6 may have its brackets.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
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
