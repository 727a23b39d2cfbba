//! Values that may contain a secret, and how they are displayed.

use std::fmt;

/// A URL that may contain a password, which is masked wherever the URL is displayed.
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

/// The URL with `***` for its password and for every parameter whose name sounds like a secret.
pub(super) fn redacted(url: &str) -> String {
    let (place, query) = url
        .split_once('?')
        .map_or((url, None), |(p, q)| (p, Some(q)));
    // The last `@`: a password may contain one unescaped, and hiding too much is the safe mistake.
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

/// The value of an `OTEL_*` variable with possible secrets masked.
pub(super) fn shown_otel(name: &str, value: &str) -> String {
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
