//! Asks a worker over HTTP.

use std::{fmt, time::Duration};

use glyph_workflow_engine::ids::CommandId;
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION},
    redirect,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::CliError;
use crate::{
    http::{OUTCOME, REQUEST_TIMEOUT},
    settings::{ApiToken, ApiUrl, Settings},
    telemetry,
};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a worker may be silent: longer than a request may take there.
const SILENCE_MAX: Duration = Duration::from_secs(REQUEST_TIMEOUT.as_secs() + 10);
/// Bytes of an answer that is read at once; a worker ends its pages and states far below.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes of a refusal.
const REFUSAL_BYTES_MAX: usize = 1 << 20;
/// Attempts of a call whose answer was lost; its key makes repeating safe.
const ATTEMPTS_MAX: u32 = 3;

/// One operation with what it is asked.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: Method,
    /// The parts of the path below `/api/v1`.
    path: Vec<String>,
    query: Vec<(String, String)>,
    body: Option<(&'static str, Vec<u8>)>,
    key: Option<CommandId>,
    /// The type of the answer, where it is not the usual one.
    accept: Option<&'static str>,
}

impl Call {
    fn new(method: Method, path: &[&dyn fmt::Display]) -> Self {
        Self {
            method,
            path: path.iter().map(ToString::to_string).collect(),
            query: Vec::new(),
            body: None,
            key: None,
            accept: None,
        }
    }

    /// An operation that reads.
    pub(super) fn get(path: &[&dyn fmt::Display]) -> Self {
        Self::new(Method::GET, path)
    }

    /// An operation that changes something.
    pub(super) fn post(path: &[&dyn fmt::Display]) -> Self {
        Self::new(Method::POST, path)
    }

    /// An operation that sets something.
    pub(super) fn put(path: &[&dyn fmt::Display]) -> Self {
        Self::new(Method::PUT, path)
    }

    /// Adds a parameter, if it has a value.
    pub(super) fn query(mut self, name: &str, value: Option<impl fmt::Display>) -> Self {
        let value = value.map(|value| (name.to_owned(), value.to_string()));
        self.query.extend(value);
        self
    }

    /// Sends a body of JSON.
    pub(super) fn json(mut self, body: &impl Serialize) -> Self {
        // Plain data with string keys always serializes.
        let body = serde_json::to_vec(body).unwrap_or_default();
        self.body = Some(("application/json", body));
        self
    }

    /// Sends a workflow file.
    pub(super) fn yaml(mut self, file: Vec<u8>) -> Self {
        self.body = Some(("application/yaml", file));
        self
    }

    /// Is a command of this id: repeating it has no effect.
    pub(super) fn key(mut self, command: CommandId) -> Self {
        self.key = Some(command);
        self
    }

    /// Asks what became of a command, in place of what the operation else answers.
    pub(super) fn asks_outcome(self) -> Self {
        Self {
            accept: Some(OUTCOME),
            ..self
        }
    }

    fn is_repeatable(&self) -> bool {
        self.method == Method::GET || self.key.is_some()
    }
}

/// The HTTP API of a worker.
#[derive(Clone, Debug)]
pub(super) struct Api {
    client: Client,
    url: ApiUrl,
    token: Option<ApiToken>,
}

/// What a worker answers in place of a document.
#[derive(Deserialize)]
struct Refusal {
    code: String,
    detail: String,
    #[serde(default)]
    diagnostics: Vec<serde_json::Value>,
}

impl Api {
    /// The API of the settings, if they name one.
    pub(super) fn of(settings: &Settings) -> Result<Option<Self>, CliError> {
        let url = settings.api.clone();
        url.map(|url| Self::new(url, settings.token.clone()))
            .transpose()
    }

    fn new(url: ApiUrl, token: Option<ApiToken>) -> Result<Self, CliError> {
        // A second installation in one process is refused and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_MAX)
            // A token goes to the address that was given, and nowhere else.
            .redirect(redirect::Policy::none())
            .referer(false)
            .build()
            .map_err(|error| CliError::failed("failed", telemetry::chain(&error)))?;
        Ok(Self { client, url, token })
    }

    /// What the worker answers to a call; null where it answers nothing.
    pub(super) async fn ask<D: DeserializeOwned>(&self, call: &Call) -> Result<D, CliError> {
        let answer = self.send(call).await?;
        self.document(answer).await
    }

    /// The document of an answer; null where it has none.
    pub(super) async fn document<D: DeserializeOwned>(
        &self,
        mut answer: Response,
    ) -> Result<D, CliError> {
        let body = self.body(&mut answer, ANSWER_BYTES_MAX).await?;
        let body = if body.is_empty() { b"null" } else { &body[..] };
        serde_json::from_slice(body).map_err(|error| {
            let why = format!(
                "the answer of the worker at {} cannot be read, so it is probably of another version \
                 than this program ({}): {error}",
                self.url,
                env!("CARGO_PKG_VERSION"),
            );
            CliError::failed("other_version", why)
        })
    }

    /// The answer to a call, of which only the head has been read.
    pub(super) async fn send(&self, call: &Call) -> Result<Response, CliError> {
        let mut attempt = 1;
        loop {
            match self.request(call).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => return Err(self.refused(answer).await),
                // Nobody there, rather than an answer that was lost.
                Err(error) if error.is_connect() => return Err(self.unreachable(&error)),
                Err(_) if call.is_repeatable() && attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) => return Err(self.unreachable(&error)),
            }
        }
    }

    /// The next part of an answer; none at its end.
    pub(super) async fn part(&self, answer: &mut Response) -> Result<Option<Vec<u8>>, CliError> {
        let part = answer.chunk().await;
        let part = part.map_err(|error| self.unreachable(&error))?;
        Ok(part.map(|part| part.to_vec()))
    }

    fn request(&self, call: &Call) -> RequestBuilder {
        let path: Vec<&str> = call.path.iter().map(String::as_str).collect();
        let mut url = self.url.operation(&path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request = self.client.request(call.method.clone(), url);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.header());
        }
        if let Some(key) = call.key {
            request = request.header("idempotency-key", key.to_string());
        }
        if let Some(media_type) = call.accept {
            request = request.header(ACCEPT, media_type);
        }
        if let Some((media_type, body)) = &call.body {
            request = request.header(CONTENT_TYPE, *media_type).body(body.clone());
        }
        request
    }

    async fn body(&self, answer: &mut Response, max: usize) -> Result<Vec<u8>, CliError> {
        let mut body = Vec::new();
        while let Some(part) = self.part(answer).await? {
            body.extend_from_slice(&part);
            if body.len() > max {
                let why = format!("{} answers more than {} MiB", self.url, max >> 20);
                return Err(CliError::failed("too_large", why));
            }
        }
        Ok(body)
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        // The outermost error only repeats the address.
        let cause = std::error::Error::source(error);
        let why = cause.map_or_else(|| error.to_string(), telemetry::chain);
        CliError::Unreachable(format!(
            "GLYPH_API: {} cannot be reached: {why}; start the worker there, or name another with --api",
            self.url
        ))
    }

    /// Why a call was refused, as the command says it that reads the store itself.
    async fn refused(&self, mut answer: Response) -> CliError {
        let status = answer.status();
        let elsewhere = answer.headers().get(LOCATION);
        let elsewhere = elsewhere.and_then(|place| place.to_str().ok().map(str::to_owned));
        let body = match self.body(&mut answer, REFUSAL_BYTES_MAX).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        let Ok(refusal) = serde_json::from_slice::<Refusal>(&body) else {
            let elsewhere = elsewhere.map(|place| format!(" and points to {place}"));
            let why = format!(
                "GLYPH_API: {} answers {status}{}, and not as a worker does: is it a worker's address?",
                self.url,
                elsewhere.unwrap_or_default()
            );
            return if status.is_server_error() {
                CliError::Unreachable(why)
            } else {
                CliError::failed("no_worker", why)
            };
        };
        let Refusal {
            code,
            detail,
            diagnostics,
        } = refusal;
        match status {
            StatusCode::UNAUTHORIZED => {
                let cure = match self.token {
                    None => "set GLYPH_TOKEN, or GLYPH_TOKEN_FILE to a file that holds the token",
                    Some(_) => "the token of GLYPH_TOKEN or GLYPH_TOKEN_FILE is not taken there",
                };
                CliError::failed(code, format!("{}: {detail}; {cure}", self.url))
            }
            StatusCode::NOT_FOUND if code == "not_found" => CliError::failed(
                "other_version",
                format!(
                    "the worker at {} cannot do this: it is of another version than this program ({})",
                    self.url,
                    env!("CARGO_PKG_VERSION")
                ),
            ),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                CliError::Unreachable(format!("the worker at {}: {detail}", self.url))
            }
            StatusCode::UNPROCESSABLE_ENTITY if !diagnostics.is_empty() => {
                CliError::InvalidFile(detail)
            }
            _ => CliError::failed(code, detail),
        }
    }
}
