//! Why traces cannot be exported.

use opentelemetry_otlp::ExporterBuildError;

/// The exporter cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The HTTP client cannot be made.
    #[error("the client for traces cannot be made")]
    Client(#[from] reqwest::Error),
    /// The exporter refuses what it was given.
    #[error("traces cannot be exported")]
    Exporter(#[from] ExporterBuildError),
}
