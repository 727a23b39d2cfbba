//! Why traces cannot be exported.

use opentelemetry_otlp::ExporterBuildError;

/// The exporter cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The HTTP client cannot be built.
    #[error("the client for traces cannot be made")]
    Client(#[from] reqwest::Error),
    /// The exporter rejects its configuration.
    #[error("traces cannot be exported")]
    Exporter(#[from] ExporterBuildError),
}
