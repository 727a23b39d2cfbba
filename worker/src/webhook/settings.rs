//! The hosts that webhooks may call, and the secret that signs calls.

use std::{fmt, path::PathBuf, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Bytes of a secret: shorter ones can be guessed, longer ones add nothing.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=512;
/// The prefix of a secret in base64.
const SECRET_PREFIX: &str = "whsec_";

/// The hosts that webhooks may call, and the secret that signs calls.
#[derive(Clone, Debug, Default)]
pub struct WebhookSettings {
    /// The hosts that may be called; if there is none, no call is allowed.
    pub hosts: Vec<Host>,
    /// Whether hosts that are listed with their port may have private addresses.
    pub allow_private: bool,
    /// The secret that signs calls; without it, no call is allowed.
    pub secret: Option<WebhookSecret>,
    /// The folder whose files hold the secrets that workflows name.
    pub secrets_dir: Option<PathBuf>,
}

/// A host that may be called: `example.org` (at 443, or at 80 without TLS), `example.org:8080`
/// (at that port), `*.example.org` (any name below it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
    below: bool,
}

impl Host {
    /// Whether it allows a call to `name` at `port`. `is_default_port` says whether the URL's
    /// scheme implies that port.
    pub(super) fn allows(&self, name: &str, port: u16, is_default_port: bool) -> bool {
        self.covers(name) && self.port.map_or(is_default_port, |p| p == port)
    }

    /// Whether it allows `name` to have private addresses, if the setting allows them at all.
    pub(super) fn may_be_private(&self, name: &str) -> bool {
        self.port.is_some() && !self.below && self.covers(name)
    }

    fn covers(&self, name: &str) -> bool {
        if self.below {
            name.strip_suffix(self.name.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            name == self.name
        }
    }
}

/// The text is not a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no host: write a name or address without scheme and path, as `example.org`, \
     `example.org:8443`, `[::1]:8080` or `*.example.org`"
)]
pub struct InvalidHost {
    /// The rejected text.
    pub text: String,
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = || InvalidHost {
            text: text.to_owned(),
        };
        let (below, place) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if place.contains(['/', '@', '?', '#', '*', ' ']) {
            return Err(invalid());
        }
        // The URL parser normalises names and addresses, so that they compare equal to those of
        // URLs. With `https` it would drop port 443; with this scheme it drops no port that
        // matters.
        let url = reqwest::Url::parse(&format!("http://{place}")).map_err(|_| invalid())?;
        let name = normal(url.host_str().ok_or_else(invalid)?);
        let is_address = url.domain().is_none();
        if name.is_empty() || (below && is_address) {
            return Err(invalid());
        }
        let written = place
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'));
        let port = match written {
            None => None,
            Some((_, port)) => Some(port.parse().map_err(|_| invalid())?),
        };
        Ok(Self { name, port, below })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below = if self.below { "*." } else { "" };
        write!(f, "{below}{}", self.name)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// A host's name without the trailing dot of the root.
pub(super) fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_owned()
}

/// The secret that signs calls; never shown in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// A secret: `whsec_` and base64, the form of Standard Webhooks, or any other text, whose bytes
    /// are then the key. The error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let key = match text.strip_prefix(SECRET_PREFIX) {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|_| format!("what follows `{SECRET_PREFIX}` must be base64"))?,
            None => text.as_bytes().to_vec(),
        };
        if SECRET_BYTES.contains(&key.len()) {
            Ok(Self(key))
        } else {
            Err(format!(
                "has {} bytes; from {} to {} are needed",
                key.len(),
                SECRET_BYTES.start(),
                SECRET_BYTES.end()
            ))
        }
    }

    /// The key.
    pub(super) fn key(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(host: &str, name: &str, port: u16, is_default: bool) -> bool {
        host.parse::<Host>().unwrap().allows(name, port, is_default)
    }

    #[test]
    fn a_host_allows_itself_at_its_port() {
        assert!(allows("example.org", "example.org", 443, true));
        assert!(allows("Example.ORG.", "example.org", 443, true));
        assert!(!allows("example.org", "example.org", 8080, false));
        assert!(!allows("example.org", "evil-example.org", 443, true));
        assert!(!allows("example.org", "a.example.org", 443, true));
        assert!(allows("example.org:8080", "example.org", 8080, false));
        assert!(!allows("example.org:8080", "example.org", 443, true));
        assert!(allows("*.example.org", "a.b.example.org", 443, true));
        assert!(!allows("*.example.org", "example.org", 443, true));
        assert!(!allows("*.example.org", "evilexample.org", 443, true));
        assert!(allows("[::1]:80", "[::1]", 80, true));
        assert!(allows("127.1:9000", "127.0.0.1", 9000, false));
    }

    #[test]
    fn only_a_host_with_its_port_may_be_private() {
        let may = |host: &str| host.parse::<Host>().unwrap().may_be_private("a.org");
        assert!(may("a.org:80"));
        assert!(!may("a.org"));
        assert!(!may("b.org:80"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "https://a.org",
            "a.org/x",
            "u@a.org",
            "a.org:",
            "a.org:99999",
            "*",
            "*.1.2.3.4",
            "a b",
        ] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn secrets_are_read_in_both_forms_and_never_shown() {
        let encoded = WebhookSecret::new("whsec_MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
        assert_eq!(encoded, WebhookSecret::new("0123456789abcdef").unwrap());
        assert_eq!(format!("{encoded:?}"), "***");
        assert!(WebhookSecret::new("short").is_err());
        assert!(WebhookSecret::new("whsec_?").is_err());
    }
}
