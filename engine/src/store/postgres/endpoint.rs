//! Where a server is, and how much of the link to it is verified.

use std::{fmt, net::IpAddr, str::FromStr};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{super::EventStoreError, error::classify};

/// The parameters of a URL that the driver reads, besides `options[…]`.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The URL of a Postgres server cannot be used. No text repeats the URL, which holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PgUrlError {
    /// More than one host.
    #[error(
        "names several hosts, and one is taken: give the address of the primary, or one that \
         follows it (a proxy, a virtual address, a DNS name)"
    )]
    SeveralHosts,
    /// What follows the `?` is not `name=value`, joined by `&`.
    #[error(
        "has a `?` that is not followed by `name=value`, joined by `&`: write a `?` inside a \
         password as %3F, and an `@` after the `?` as %40"
    )]
    Parameters,
    /// `PGSSLMODE` is not one of the modes.
    #[error(
        "goes with PGSSLMODE, which must be disable, allow, prefer, require, verify-ca or \
         verify-full"
    )]
    SslMode,
    /// Any other fault.
    #[error("is no valid URL: {0}")]
    Invalid(String),
}

/// The address of a Postgres server and the rules of the link to it, read from a URL.
#[derive(Clone)]
pub struct PgEndpoint {
    options: PgConnectOptions,
    unread: Vec<String>,
}

// Written by hand: the options contain the password.
impl fmt::Debug for PgEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgEndpoint")
            .field("host", &self.options.get_host())
            .field("port", &self.options.get_port())
            .field("ssl_mode", &self.options.get_ssl_mode())
            .finish_non_exhaustive()
    }
}

impl PgEndpoint {
    /// Reads a URL. Beyond this machine the link is `verify-full`, unless the URL says something
    /// else (`sslmode`), or else `ssl_mode` does, the value of `PGSSLMODE`.
    pub fn read(url: &str, ssl_mode: Option<&str>) -> Result<Self, PgUrlError> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let authority = place.split_once("://").map_or("", |(_, rest)| rest);
        let hosts = authority.split(['/', '#']).next().unwrap_or_default();
        let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
        let mut read = Vec::new();
        let mut unread = Vec::new();
        let mut names_mode = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(PgUrlError::Parameters)?;
            if key.is_empty() || pair.contains('@') {
                return Err(PgUrlError::Parameters);
            }
            names_mode |= matches!(key, "sslmode" | "ssl-mode");
            if matches!(key, "host" | "hostaddr" | "port") && value.contains(',') {
                return Err(PgUrlError::SeveralHosts);
            }
            if PARAMETERS.contains(&key) || key.starts_with("options[") {
                read.push(pair);
            } else {
                // The driver would log it, with its value.
                unread.push(key.to_owned());
            }
        }
        if hosts.contains(',') {
            return Err(PgUrlError::SeveralHosts);
        }
        let url = format!("{place}?{}", read.join("&"));
        let mut options = PgConnectOptions::from_str(&url)
            .map_err(|error| PgUrlError::Invalid(innermost(&error)))?;
        if options.get_host().contains(',') {
            return Err(PgUrlError::SeveralHosts);
        }
        let address = options.get_host();
        let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']'));
        if let Some(address) = address.map(str::to_owned) {
            options = options.host(&address);
        }
        if !names_mode {
            let mode = match ssl_mode {
                Some(mode) => mode.parse().map_err(|_| PgUrlError::SslMode)?,
                None if is_local(&options) => PgSslMode::Prefer,
                None => PgSslMode::VerifyFull,
            };
            options = options.ssl_mode(mode);
        }
        Ok(Self { options, unread })
    }

    /// Whether the server is on this machine: a socket, `localhost`, or an address of loopback.
    pub fn is_local(&self) -> bool {
        is_local(&self.options)
    }

    /// What an operator should know: a link that is weaker than it could be, parameters without
    /// effect. Each begins in the middle of a sentence, after the name of the setting.
    pub fn warnings(&self) -> Vec<String> {
        let mode = self.options.get_ssl_mode();
        let weakness = match mode {
            PgSslMode::Disable | PgSslMode::Allow => {
                Some("is not encrypted: whoever is on the way can read it")
            }
            PgSslMode::Prefer => Some(
                "is encrypted only if the server offers it, and never verified: whoever is on the \
                 way can read it",
            ),
            PgSslMode::Require => {
                Some("is encrypted, but the server is not verified: another can pose as it")
            }
            PgSslMode::VerifyCa => Some(
                "verifies the certificate, but not the name: another server of the same authority \
                 can pose as it",
            ),
            PgSslMode::VerifyFull => None,
        };
        let weakness = weakness.filter(|_| !self.is_local());
        let weakness =
            weakness.map(|why| format!("has a link that {why}; `sslmode=verify-full` cures it"));
        let unread = self.unread.iter();
        let unread = unread.map(|key| format!("has a parameter that nothing reads: `{key}`"));
        weakness.into_iter().chain(unread).collect()
    }

    /// The options of a connection that also poolers accept: no start-up parameter beyond those
    /// that every pooler knows.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.options.clone().extra_float_digits(None::<i8>)
    }
}

/// Whether the server is on this machine.
pub(super) fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The TLS handshake failed, or the server offers none.
#[derive(Debug, thiserror::Error)]
#[error(
    "the link to the server is refused: name its certificate authority with `sslrootcert=FILE`, or \
     allow a weaker link with `sslmode=`: `verify-ca` (any name), `require` (any certificate), \
     `prefer` or `disable` (no encryption)"
)]
struct LinkRefused(#[source] sqlx::Error);

/// Classifies an error of connecting; a link that TLS refuses is told with its cure.
pub(super) fn unconnected(error: sqlx::Error) -> EventStoreError {
    let refused = if let sqlx::Error::Io(io) = &error {
        // The handshake itself fails in the socket.
        io.kind() == std::io::ErrorKind::InvalidData
    } else {
        matches!(error, sqlx::Error::Tls(_))
    };
    if refused {
        EventStoreError::Unavailable(Box::new(LinkRefused(error)))
    } else {
        classify(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str, variable: Option<&str>) -> PgSslMode {
        PgEndpoint::read(url, variable)
            .unwrap()
            .options
            .get_ssl_mode()
    }

    #[test]
    fn a_link_beyond_this_machine_is_verified_unless_told_otherwise() {
        for url in [
            "postgres://u:p@db.example.org/d",
            "postgres://u@10.0.0.1/d",
            "postgres://u@[2001:db8::1]:5432/d",
            "postgres:///d?host=db",
        ] {
            assert!(matches!(mode(url, None), PgSslMode::VerifyFull), "{url}");
            assert!(matches!(mode(url, Some("require")), PgSslMode::Require));
            let said = format!(
                "{url}{}sslmode=prefer",
                if url.contains('?') { '&' } else { '?' }
            );
            assert!(matches!(mode(&said, None), PgSslMode::Prefer), "{said}");
            assert!(matches!(mode(&said, Some("disable")), PgSslMode::Prefer));
            let warnings = PgEndpoint::read(&said, None).unwrap().warnings();
            assert!(warnings[0].contains("verify-full"), "{warnings:?}");
        }
        for url in [
            "postgres://u@localhost/d",
            "postgres://u@127.0.0.2/d",
            "postgres://u@[::1]/d",
            "postgres://u@%2Fvar%2Frun%2Fpostgresql/d",
            "postgres:///d?host=/tmp",
        ] {
            assert!(matches!(mode(url, None), PgSslMode::Prefer), "{url}");
            assert_eq!(PgEndpoint::read(url, None).unwrap().warnings(), [""; 0]);
        }
        let misspelt = PgEndpoint::read("postgres://h/d", Some("verify_full"));
        assert_eq!(misspelt.unwrap_err(), PgUrlError::SslMode);
    }

    #[test]
    fn several_hosts_are_refused_in_every_form() {
        for url in [
            "postgres://h1,h2/d",
            "postgres://u:a,b@h1:1,h2:2/d?target_session_attrs=read-write",
            "postgres:///d?host=h1,h2",
            "postgres://h1/d?port=1,2",
        ] {
            let refused = PgEndpoint::read(url, None).unwrap_err();
            assert_eq!(refused, PgUrlError::SeveralHosts, "{url}");
        }
        assert!(PgEndpoint::read("postgres://u:a,b@h1/d", None).is_ok());
    }

    #[test]
    fn an_ipv6_address_loses_its_brackets() {
        let endpoint = PgEndpoint::read("postgres://u@[::1]:5433/d", None).unwrap();
        assert_eq!(endpoint.options.get_host(), "::1");
        assert_eq!(endpoint.options.get_port(), 5433);
    }

    #[test]
    fn a_password_with_a_question_mark_is_no_parameter_and_no_text_repeats_it() {
        for url in [
            "postgres://glyph:2024?Secret@host/db",
            "postgres://glyph:2024?Secret=x@host/db",
            "postgres://host/db?password=Secret@x",
        ] {
            let refused = PgEndpoint::read(url, None).unwrap_err();
            assert_eq!(refused, PgUrlError::Parameters, "{url}");
        }
        let url = "postgres://u:Secret@h/d?keepalives=Secret&sslmode=require";
        let endpoint = PgEndpoint::read(url, None).unwrap();
        assert!(!format!("{endpoint:?} {:?}", endpoint.warnings()).contains("Secret"));
        assert_eq!(endpoint.unread, ["keepalives"]);
    }
}
