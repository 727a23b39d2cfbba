//! The HTTP client of webhooks.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use glyph_workflow_engine::config::{HeaderText, SecretName};
use reqwest::{
    Client, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT},
    redirect::Policy,
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    ANSWER_BYTES_MAX, CALL_TIMEOUT_MAX, WebhookError, WebhookSettings, WebhookSetupError,
    addresses::{AddressKind, kind_of},
    error::AnswerFault,
    settings::normal,
    signature,
};
use crate::wire::check_storable;

/// Headers that the client sets itself, or that would change how the receiver parses the request.
const RESERVED_HEADERS: [&str; 6] = [
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "transfer-encoding",
    "connection",
];

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct WebhookRequest<'a> {
    /// The idempotency key and `webhook-id`: the same for every attempt.
    pub id: Uuid,
    /// The target URL; `http` or `https`.
    pub url: &'a str,
    /// Additional headers.
    pub headers: &'a BTreeMap<String, HeaderText>,
    /// The time limit of the whole call, at most [`CALL_TIMEOUT_MAX`].
    pub timeout: Duration,
    /// The body, sent as JSON.
    pub body: &'a Value,
}

/// Calls webhooks, each over a connection of its own.
#[derive(Clone, Debug)]
pub struct WebhookClient {
    settings: Arc<WebhookSettings>,
    /// None if no call is allowed.
    http: Option<Client>,
}

impl WebhookClient {
    /// A client for these settings.
    pub fn new(settings: WebhookSettings) -> Result<Self, WebhookSetupError> {
        let settings = Arc::new(settings);
        let http = if settings.hosts.is_empty() {
            None
        } else {
            Some(client(&settings)?)
        };
        Ok(Self { settings, http })
    }

    /// Makes one attempt and returns the answer; null if the answer is empty. The caller decides
    /// whether to try again.
    pub async fn call(&self, request: WebhookRequest<'_>) -> Result<Value, WebhookError> {
        let target = Target::read(request.url)?;
        let http = self.check(&target)?;
        let key = self
            .settings
            .secret
            .as_ref()
            .ok_or(WebhookError::NoSecret)?;
        // Plain data with string keys always serializes.
        let body = serde_json::to_vec(request.body).unwrap_or_default();
        let timestamp = Utc::now().timestamp();
        let mut headers = self.own_headers(request.headers)?;
        let mut insert = |name, value: String| {
            // Ids, numbers and base64 are always valid in a header.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let id = request.id.to_string();
        let signed = signature(key.key(), &id, timestamp, &body);
        insert("idempotency-key", id.clone());
        insert("webhook-id", id);
        insert("webhook-timestamp", timestamp.to_string());
        insert("webhook-signature", signed);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "glyph/",
                env!("CARGO_PKG_VERSION")
            )));
        let sent = http
            .post(target.url.clone())
            .headers(headers)
            .body(body)
            .send();
        let after = request.timeout.min(CALL_TIMEOUT_MAX);
        let host = target.place();
        let answered = tokio::time::timeout(after, async {
            let response = sent.await.map_err(|error| failed(&host, &error))?;
            read(&host, response).await
        });
        answered.await.unwrap_or(Err(WebhookError::Timeout {
            host: host.clone(),
            after,
        }))
    }

    /// The HTTP client, if the target is on the list and, given as an address, may be called.
    fn check(&self, target: &Target) -> Result<&Client, WebhookError> {
        let hosts = &self.settings.hosts;
        let allowed = hosts
            .iter()
            .any(|host| host.allows(&target.host, target.port, target.is_default_port));
        let Some(http) = self.http.as_ref().filter(|_| allowed) else {
            return Err(WebhookError::NotAllowed {
                host: target.place(),
                hosts: hosts.clone(),
            });
        };
        if let Some(address) = target.address {
            self.settings.check_address(&target.host, address)?;
        }
        Ok(http)
    }
}

impl WebhookSettings {
    /// The text of a header. A secret is read anew for each call, so that it can be changed without
    /// a restart.
    fn header(&self, text: &HeaderText) -> Result<String, WebhookError> {
        let name = match text {
            HeaderText::Plain(text) => return Ok(text.clone()),
            HeaderText::Secret(SecretName { secret }) => secret,
        };
        let refused = |why: String| WebhookError::Request {
            reason: format!("the secret `{name}` cannot be used: {why}"),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(refused(
                "a name has letters, digits, `-` and `_`".to_owned(),
            ));
        }
        let folder = self.secrets_dir.as_ref();
        let folder = folder.ok_or_else(|| refused("set GLYPH_SECRETS_DIR".to_owned()))?;
        let path = folder.join(name);
        let read = std::fs::read_to_string(&path);
        let text = read.map_err(|error| refused(format!("{}: {error}", path.display())))?;
        Ok(text.trim().to_owned())
    }

    fn check_address(&self, host: &str, address: IpAddr) -> Result<(), WebhookError> {
        let kind = kind_of(address);
        let private = self.allow_private && self.hosts.iter().any(|h| h.may_be_private(host));
        if kind == AddressKind::Public || (kind == AddressKind::Private && private) {
            return Ok(());
        }
        Err(WebhookError::AddressRefused {
            host: host.to_owned(),
            address,
            never: kind == AddressKind::Never,
        })
    }
}

fn client(settings: &Arc<WebhookSettings>) -> Result<Client, WebhookSetupError> {
    // Installing it twice in one process fails and changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .dns_resolver(Checked(Arc::clone(settings)))
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        // No connection is used again. HTTP/1.1 tells answers apart only by their order, so what a
        // server, or a proxy in front of it, sends too late or twice would be taken for the answer
        // to the next call, and become the output of another task.
        .pool_max_idle_per_host(0)
        .build()?;
    Ok(client)
}

/// Resolves a name and returns only the addresses that may be called. The connection goes to a
/// checked address, even if the name resolves differently a moment later.
struct Checked(Arc<WebhookSettings>);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let settings = Arc::clone(&self.0);
        Box::pin(async move {
            let host = normal(name.as_str());
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let mut refused = None;
            let mut allowed = Vec::with_capacity(found.len());
            for address in found {
                match settings.check_address(&host, address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                Some(error) if allowed.is_empty() => Err(error.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// The target of a call.
struct Target {
    url: Url,
    host: String,
    port: u16,
    is_default_port: bool,
    /// The host if it is an address, which needs no name resolution.
    address: Option<IpAddr>,
}

impl Target {
    fn read(text: &str) -> Result<Self, WebhookError> {
        let refused = |why: &str| WebhookError::Request {
            // The URL may hold a token, and the reason is shown to whoever sees the task.
            reason: format!("the webhook's URL cannot be called: {why}"),
        };
        let url = Url::parse(text).map_err(|error| refused(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("the scheme must be http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused("a URL must hold no name and no password"));
        }
        let host = normal(url.host_str().ok_or_else(|| refused("it has no host"))?);
        let port = url
            .port_or_known_default()
            .ok_or_else(|| refused("it has no port"))?;
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            is_default_port: url.port().is_none(),
            address: literal.parse().ok(),
            url,
            host,
            port,
        })
    }

    fn place(&self) -> String {
        let mut place = self.host.clone();
        if !self.is_default_port {
            // Writing to a String does not fail.
            let _ = write!(place, ":{}", self.port);
        }
        place
    }
}

impl WebhookClient {
    /// The headers added by the caller.
    fn own_headers(&self, given: &BTreeMap<String, HeaderText>) -> Result<HeaderMap, WebhookError> {
        let mut headers = HeaderMap::with_capacity(given.len() + 8);
        for (name, value) in given {
            let value = self.settings.header(value)?;
            let lower = name.to_ascii_lowercase();
            if RESERVED_HEADERS.contains(&lower.as_str()) || lower.starts_with("webhook-") {
                let reason =
                    format!("the header `{name}` is set by the worker and cannot be given");
                return Err(WebhookError::Request { reason });
            }
            let (Ok(name), Ok(value)) = (
                HeaderName::from_bytes(lower.as_bytes()),
                HeaderValue::from_str(&value),
            ) else {
                let reason = format!("the header `{name}` cannot be sent as it is");
                return Err(WebhookError::Request { reason });
            };
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

/// The error of a request without an answer. The causes show whether its address was refused.
fn failed(host: &str, error: &reqwest::Error) -> WebhookError {
    let mut causes = Vec::new();
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = source {
        if let Some(WebhookError::AddressRefused {
            host,
            address,
            never,
        }) = cause.downcast_ref()
        {
            return WebhookError::AddressRefused {
                host: host.clone(),
                address: *address,
                never: *never,
            };
        }
        source = cause.source();
        // The outermost error only repeats the URL, whose query may contain secrets that must not
        // reach logs.
        if !std::ptr::addr_eq(cause, error) {
            causes.push(cause.to_string());
        }
    }
    WebhookError::Connection {
        host: host.to_owned(),
        reason: causes.join(": "),
    }
}

/// Reads an answer up to the size limit.
async fn read(host: &str, mut response: Response) -> Result<Value, WebhookError> {
    let status = response.status();
    if !status.is_success() {
        return Err(WebhookError::Status {
            host: host.to_owned(),
            status: status.as_u16(),
            retry_after: retry_after(response.headers()),
        });
    }
    let fault = |what| WebhookError::Answer {
        host: host.to_owned(),
        what,
    };
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| failed(host, &error))?
    {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(fault(AnswerFault::TooLarge));
        }
        body.extend_from_slice(&chunk);
    }
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    let answer: Value = serde_json::from_slice(&body)
        .map_err(|error| fault(AnswerFault::NotJson(error.to_string())))?;
    check_storable(&answer).map_err(|why| fault(AnswerFault::NotStorable(why)))?;
    Ok(answer)
}

/// `Retry-After` in seconds; a date is ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}
