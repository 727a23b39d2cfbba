//! Sends spans to the collector.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

use super::error::TraceError;
use crate::{settings::TraceSettings, telemetry};

/// Maximum number of bytes read of an answer; a collector answers with next to nothing.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Posts spans. The exporter runs on its own thread, which has no I/O driver, so each post is a
/// task of the worker's runtime.
#[derive(Debug)]
pub(super) struct CollectorClient {
    client: reqwest::Client,
    runtime: Handle,
    /// Whether the last post succeeded: an outage and its end are logged once each.
    answers: Arc<AtomicBool>,
}

impl CollectorClient {
    /// A client for the current runtime.
    pub(super) fn new(settings: &TraceSettings) -> Result<Self, TraceError> {
        // A second installation in one process is refused and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(settings.timeout)
            .referer(false)
            .build()?;
        Ok(Self {
            client,
            runtime: Handle::current(),
            answers: Arc::new(AtomicBool::new(true)),
        })
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let answer = self
            .runtime
            .spawn(async move { post(&client, request).await });
        let answer = answer.await?;
        let fault = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) => Some(telemetry::chain(error)),
        };
        let answered = self.answers.swap(fault.is_none(), Ordering::Relaxed);
        match fault {
            Some(reason) if answered => {
                tracing::warn!(
                    reason,
                    "the trace collector takes no spans; they are dropped"
                );
            }
            None if !answered => tracing::info!("the trace collector takes spans again"),
            _ => {}
        }
        Ok(answer?)
    }
}

async fn post(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> Result<Response<Bytes>, reqwest::Error> {
    // Errors leave out the URL, which may contain a password.
    let mut answer = client
        .execute(request)
        .await
        .map_err(reqwest::Error::without_url)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}
