//! The HTTP listeners of the process, and the slot through which they reach the pipeline.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use axum::Router;
use glyph_workflow_engine::command::{CommandEnvelope, Outcome};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    error::AppError,
    listener::{ListenerBounds, serve},
    parts::WorkerParts,
    phases::CLOSE_TIMEOUT,
};
use crate::{
    http::{Api, CommandSink, NotTaken, operations_router, router},
    pipeline::PipelineHandle,
    settings::Settings,
};

/// Where HTTP submits commands; empty until the pipeline runs.
#[derive(Clone, Default)]
pub(super) struct PipelineSlot(Arc<OnceLock<PipelineHandle>>);

impl PipelineSlot {
    /// Sets the pipeline.
    pub(super) fn fill(&self, pipeline: &PipelineHandle) {
        let _ = self.0.set(pipeline.clone());
    }
}

#[async_trait]
impl CommandSink for PipelineSlot {
    async fn submit(&self, command: CommandEnvelope) -> Result<Outcome, NotTaken> {
        let Some(pipeline) = self.0.get() else {
            let reason = "the worker is starting; send the command again with the same id";
            return Err(NotTaken {
                reason: reason.to_owned(),
            });
        };
        pipeline.submit(command).await.map_err(|stopped| NotTaken {
            reason: stopped.to_string(),
        })
    }
}

/// The listeners of the process.
#[derive(Default)]
pub(super) struct Servers {
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Servers {
    /// Listens on the configured addresses.
    pub(super) async fn start(
        &self,
        settings: &Settings,
        parts: WorkerParts,
        api: &Api,
    ) -> Result<(), AppError> {
        if parts.http {
            let setting = "GLYPH_HTTP_ADDR";
            let bounds = ListenerBounds::of_api();
            self.serve(settings.http_addr, setting, router(api.clone()), bounds)
                .await?;
        }
        if let Some(address) = settings.metrics_addr {
            let router = operations_router(api.clone());
            let bounds = ListenerBounds::of_probes();
            self.serve(address, "GLYPH_METRICS_ADDR", router, bounds)
                .await?;
        }
        Ok(())
    }

    async fn serve(
        &self,
        address: SocketAddr,
        setting: &'static str,
        router: Router,
        bounds: ListenerBounds,
    ) -> Result<(), AppError> {
        let refused = |source| AppError::Listen {
            address,
            setting,
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        tracing::info!(%address, setting, "listening");
        let stopping = self.stopping.clone();
        self.tasks.spawn(serve(listener, router, bounds, stopping));
        Ok(())
    }

    /// Waits briefly for requests under way.
    pub(super) async fn stop(self) {
        self.stopping.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.tasks.wait()).await;
    }
}
