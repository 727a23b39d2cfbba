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
    // The last `@`: a password may contain one unescaped, and a `?` too. Hiding too much is the safe
    // mistake.
    let (user, place) = match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, _)), Some(at)) if at > scheme.len() + 3 => {
            let credentials = &url[scheme.len() + 3..at];
            let (user, secret) = match credentials.split_once(':') {
                Some((user, _)) => (user, ":***"),
                None => (credentials, ""),
            };
            (format!("{scheme}://{user}{secret}"), &url[at..])
        }
        _ => (String::new(), url),
    };
    let (place, query) = place
        .split_once('?')
        .map_or((place, None), |(p, q)| (p, Some(q)));
    let mut shown = format!("{user}{place}");
    if let Some(query) = query {
        let hidden = query.split('&').map(|pair| match pair.split_once('=') {
            Some((key, _)) if sounds_secret(key) => format!("{key}=***"),
            _ => pair.to_owned(),
        });
        shown.push('?');
        shown.push_str(&hidden.collect::<Vec<_>>().join("&"));
    }
    shown
}

fn sounds_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.contains("pass") || key.contains("secret") || key.contains("token")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_urls_show_no_secret() {
        for url in [
            "postgres://user:12?34secretX@host/db",
            "amqp://u:12?secretX@h",
            "amqp://u:a@secretX@h/v",
            "postgres://u@h/db?Password=secretX&x=1",
            "postgres://u@h/db?sslpassword=secretX",
        ] {
            let shown = redacted(url);
            assert!(
                shown.contains("***") && !shown.contains("secretX"),
                "{shown}"
            );
        }
        let plain = "postgres://u@h/db?sslmode=verify-full";
        assert_eq!(redacted(plain), plain);
    }
}
