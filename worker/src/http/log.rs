//! The filter of the worker's log, changed while it runs.

use axum::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Problem,
    operation::Operation,
    request::{Limited, read_json},
};
use crate::telemetry::{self, LogFilterError};

/// The filter of the log.
#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogFilter {
    /// A level, and levels of parts, as `info,glyph_worker=debug`.
    filter: String,
}

/// The filter before and after a change.
#[derive(Serialize, JsonSchema)]
pub(super) struct LogFilterChange {
    /// The filter in force.
    filter: String,
    /// The one before.
    before: String,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::put("/api/v1/log", "set_log_filter", set)
            .summary("Set what the worker logs, until it is restarted or reads its settings again")
            .reads::<LogFilter>("The filter")
            .answers::<LogFilterChange>(200, "The filter in force, and the one before"),
    ]
}

async fn set(Limited(body): Limited) -> Result<Json<LogFilterChange>, Problem> {
    let asked: LogFilter = read_json(&body)?;
    let filter = asked.filter.trim();
    let before = telemetry::set_filter(filter).map_err(|error| match error {
        LogFilterError::Invalid(_) => Problem::malformed(error.to_string()),
        LogFilterError::NoLog => Problem::unavailable(error.to_string()),
    })?;
    tracing::warn!(filter, before, "the log filter was set over HTTP");
    Ok(Json(LogFilterChange {
        filter: filter.to_owned(),
        before,
    }))
}
