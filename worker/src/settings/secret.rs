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
/// Where it is unclear what belongs to the password, more is hidden.
pub(super) fn redacted(url: &str) -> String {
    let (place, query) = match url.split_once('?') {
        // An `@` further on: the `?` is part of a password, unless what follows looks like
        // parameters, too.
        Some((_, rest)) if rest.contains('@') => {
            let Some((scheme, _)) = url.split_once("://").filter(|_| rest.contains('=')) else {
                return without_password(url);
            };
            return format!("{scheme}://***");
        }
        Some((place, query)) => (place, Some(query)),
        None => (url, None),
    };
    let mut shown = without_password(place);
    if let Some(query) = query {
        let hidden = query.split('&').map(|pair| match pair.split_once('=') {
            Some((key, _)) if sounds_secret(key) => format!("{key}=***"),
            Some(_) => pair.to_owned(),
            None => "***".to_owned(),
        });
        shown.push('?');
        shown.push_str(&hidden.collect::<Vec<_>>().join("&"));
    }
    shown
}

fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["pass", "pwd", "secret", "token"]
        .iter()
        .any(|word| key.contains(word))
}

/// Hides what is between the first `:` of the user's part and the last `@`: a password may contain
/// an `@` unescaped.
fn without_password(place: &str) -> String {
    match (place.split_once("://"), place.rfind('@')) {
        (Some((scheme, _)), Some(at)) if at > scheme.len() + 2 && scheme != "sqlite" => {
            let user = &place[scheme.len() + 3..at];
            let (user, secret) = match user.split_once(':') {
                Some((user, _)) => (user, ":***"),
                None => (user, ""),
            };
            format!("{scheme}://{user}{secret}{}", &place[at..])
        }
        _ => place.to_owned(),
    }
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
