//! Calls external handlers.

use std::sync::Arc;

use async_trait::async_trait;
use glyph_workflow_engine::{
    HandlerCall,
    command::EffectOutcome,
    config::{ConfigDuration, WebhookConfig},
};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    metrics::Metrics,
    telemetry,
    webhook::{CALL_TIMEOUT_DEFAULT, WebhookClient, WebhookError, WebhookRequest},
};

/// Performs calls to handlers. A trait, so that tests can observe the calls and their times.
#[async_trait]
pub trait Handlers: Send + Sync {
    /// Makes one attempt.
    async fn call(&self, call: &HandlerCall) -> EffectOutcome;
}

/// The built-in handlers.
#[derive(Debug)]
pub struct ExternalHandlers {
    webhooks: WebhookClient,
    metrics: Arc<Metrics>,
}

impl ExternalHandlers {
    /// Handlers that call webhooks with this client.
    pub fn new(webhooks: WebhookClient, metrics: Arc<Metrics>) -> Self {
        Self { webhooks, metrics }
    }

    async fn webhook(&self, call: &HandlerCall) -> Result<Value, WebhookError> {
        let config: WebhookConfig =
            serde_json::from_value(call.config.clone()).map_err(|error| WebhookError::Request {
                reason: format!("`config` of the webhook cannot be used: {error}"),
            })?;
        let body = serde_json::to_value(call).unwrap_or_default();
        self.webhooks
            .call(WebhookRequest {
                id: call.idempotency_key,
                url: &config.url,
                headers: &config.headers,
                timeout: config
                    .timeout
                    .map_or(CALL_TIMEOUT_DEFAULT, ConfigDuration::get),
                body: &body,
            })
            .await
    }
}

#[async_trait]
impl Handlers for ExternalHandlers {
    async fn call(&self, call: &HandlerCall) -> EffectOutcome {
        let began = Instant::now();
        let (handler, answer) = match call.handler.as_str() {
            "webhook" => ("webhook", self.webhook(call).await),
            name => {
                let reason = format!("there is no handler `{name}` that is called outside");
                ("custom", Err(WebhookError::Request { reason }))
            }
        };
        self.metrics
            .handler(handler, answer.is_ok(), began.elapsed());
        match answer {
            Ok(output) => EffectOutcome::Done { output },
            Err(error) => EffectOutcome::Failed {
                error: telemetry::chain(&error),
                is_final: error.is_final(),
                retry_after: error.retry_after(),
            },
        }
    }
}
