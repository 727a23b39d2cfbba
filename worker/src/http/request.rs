//! Reads requests: bodies, ids, keys and queries. Each is refused with a problem document.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{self, FromRequest, FromRequestParts, Query, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
};
use futures::StreamExt;
use glyph_workflow_engine::{
    ids::{CommandId, TaskId},
    limits::{COMMAND_BYTES_MAX, PAGE_MAX},
};
use schemars::{Schema, json_schema};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Problem, auth::Caller, error::bad_parameter};

/// Identifies the command; the same key again returns the first outcome.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that names the paths of the body that were ignored, where the answer has no room.
pub(super) const IGNORED: &str = "x-glyph-ignored";
/// The header that says why no slot is offered, if more is known than that none is open.
pub const REASON: &str = "x-glyph-reason";
/// The type of an answer that is the outcome of a command, for callers that accept this one first.
pub const OUTCOME: &str = "application/vnd.glyph.outcome+json";
/// Correlates messages and logs of one piece of work.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Maximum bytes of a refused body that are read before the answer is sent.
const SWALLOWED_BYTES_MAX: usize = 16 << 20;
/// How long a refused body is read at most.
const SWALLOWED_WITHIN: Duration = Duration::from_secs(5);

/// Default number of rows in a page.
const PAGE_DEFAULT: u32 = 100;

/// The schema of a page size.
pub(super) fn page_limit() -> Schema {
    json_schema!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT})
}

/// A body of at most [`COMMAND_BYTES_MAX`] bytes.
pub(super) struct Limited(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Limited {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        // A body whose declared length is too large is not kept at all.
        let type_name = request
            .headers()
            .get("content-length")
            .and_then(|v| v.to_str().ok());
        if type_name
            .and_then(|v| v.parse::<u64>().ok())
            .is_some_and(|n| n > COMMAND_BYTES_MAX as u64)
        {
            swallow(request.into_body()).await;
            return Err(Problem::too_large(COMMAND_BYTES_MAX));
        }
        read(request.into_body()).await.map(Self)
    }
}

/// What a body of JSON says. The problem names the place of what is wrong; nothing may follow the document.
pub(super) fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let document = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| Problem::malformed(error.to_string()))?;
    reader
        .end()
        .map_err(|error| Problem::malformed(error.to_string()))?;
    Ok(document)
}

/// Reads a refused body to its end, within bounds: a client that still writes when the connection
/// closes would see a broken connection instead of the answer.
async fn swallow(body: Body) {
    let all = async {
        let mut body = body.into_data_stream();
        let mut read = 0;
        while let Some(Ok(part)) = body.next().await {
            read += part.len();
            if read > SWALLOWED_BYTES_MAX {
                break;
            }
        }
    };
    // A client that is slower than that sees a closed connection.
    let _ = timeout(SWALLOWED_WITHIN, all).await;
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    to_bytes(body, COMMAND_BYTES_MAX).await.map_err(|error| {
        let too_long = std::error::Error::source(&error)
            .is_some_and(|source| source.to_string().contains("length limit"));
        if too_long {
            Problem::too_large(COMMAND_BYTES_MAX)
        } else {
            Problem::malformed("the body ended early")
        }
    })
}

/// The parameters of the path.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|extract::Path(read)| Self(read))
            .map_err(|rejection| Problem::malformed(rejection.body_text()))
    }
}

/// A part of the path that is a UUID; `what` names it in the problem.
pub(super) fn path_uuid(what: &str, text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::malformed(format!("the {what} `{text}` is no UUID")))
}

/// The task id of the path.
pub(super) struct TaskPath(pub(super) TaskId);

impl<S: Send + Sync> FromRequestParts<S> for TaskPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await?;
        Ok(Self(TaskId(path_uuid("task id", &text)?)))
    }
}

/// Whether a caller accepts the outcome of a command first.
pub(super) fn asks_outcome(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    accepted.is_some_and(|types| types.starts_with(OUTCOME.as_bytes()))
}

/// The headers of a command.
pub(super) struct CommandHeaders {
    pub(super) command_id: CommandId,
    pub(super) correlation_id: Option<String>,
    pub(super) traceparent: Option<String>,
}

impl CommandHeaders {
    /// Reads the headers; a missing key is generated.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let text = |name: &HeaderName| {
            let value = headers.get(name).map(HeaderValue::to_str).transpose();
            let value = value.map_err(|_| Problem::malformed(format!("{name} is not ASCII")))?;
            Ok::<_, Problem>(value.map(str::trim))
        };
        let command_id = match text(&IDEMPOTENCY_KEY)? {
            None => Uuid::now_v7(),
            Some(key) => Uuid::parse_str(key).map_err(|_| {
                Problem::malformed(format!("the Idempotency-Key `{key}` is no UUID"))
            })?,
        };
        Ok(Self {
            command_id: CommandId(command_id),
            correlation_id: text(&CORRELATION_ID)?.map(str::to_owned),
            traceparent: text(&TRACEPARENT)?.map(str::to_owned),
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for CommandHeaders {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.headers)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // `admit` sets it on every route that needs a token.
        let caller = parts.extensions.get().cloned();
        caller.ok_or_else(Problem::internal)
    }
}

/// The parameters of a query. They are taken out by name; any left over are mistakes of the caller.
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        query
            .map(|Query(pairs)| Self(pairs))
            .map_err(|e| Problem::malformed(e.body_text()))
    }
}

impl Parameters {
    /// The value of `name`, parsed by `parse`; an empty one counts as not given.
    pub(super) fn take<T>(
        &mut self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(index) = self.0.iter().position(|(key, _)| key == name) else {
            return Ok(None);
        };
        let (_, value) = self.0.remove(index);
        if value.is_empty() {
            return Ok(None);
        }
        parse(&value)
            .map(Some)
            .ok_or_else(|| bad_parameter(name, &value, expected))
    }

    /// The page size, as [`page_limit`] says.
    pub(super) fn take_limit(&mut self) -> Result<u32, Problem> {
        let expected = format!("a whole number from 1 to {PAGE_MAX}");
        let limit = self.take("limit", &expected, |text| {
            text.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n))
        })?;
        Ok(limit.unwrap_or(PAGE_DEFAULT))
    }

    /// Every `{prefix}key=value`.
    pub(super) fn take_prefixed(&mut self, prefix: &str) -> Result<Vec<(String, String)>, Problem> {
        let (with, without): (Vec<_>, Vec<_>) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(key, _)| key.len() > prefix.len() && key.starts_with(prefix));
        self.0 = without;
        with.into_iter()
            .map(|(key, value)| {
                // No database stores this character, so no label can match.
                if key.contains('\0') || value.contains('\0') {
                    let name = key.replace('\0', "\u{fffd}");
                    let value = value.replace('\0', "\u{fffd}");
                    return Err(bad_parameter(
                        &name,
                        &value,
                        "text without the NUL character",
                    ));
                }
                Ok((key[prefix.len()..].to_owned(), value))
            })
            .collect()
    }

    /// Refuses unknown parameters: a misspelt filter would return everything.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(Problem::malformed(format!(
                "there is no parameter `{key}`, or it came twice"
            ))),
        }
    }
}
