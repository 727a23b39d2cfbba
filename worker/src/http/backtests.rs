//! Backtests: recorded tasks, decided again under other settings.

use std::time::Duration;

use axum::{Json, extract::State};
use glyph_workflow_engine::backtest::BacktestReport;
use tokio::sync::Semaphore;

use super::{
    Api, Problem,
    operation::Operation,
    request::{Limited, read_json},
    workflows::named,
};
use crate::operations::backtest::{BacktestRequest, backtest};

/// How long a request reads the log: well below the time in which it must be answered.
const READS_FOR: Duration = Duration::from_secs(10);

/// A backtest keeps a core busy, so a process runs one at a time.
static TURN: Semaphore = Semaphore::const_new(1);

/// The operations on backtests.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/api/v1/backtests", "backtest", run)
            .summary(
                "Decide recorded tasks again under other settings, and compare; reads the log for \
                 some seconds, and says whether that was all of it",
            )
            .reads::<BacktestRequest>("The workflow, and what to change")
            .problems(&[404, 422, 503, 504])
            .answers::<BacktestReport>(200, "As recorded, and as it would have been"),
    ]
}

pub(super) async fn run(
    State(api): State<Api>,
    Limited(body): Limited,
) -> Result<Json<BacktestReport>, Problem> {
    let request: BacktestRequest = read_json(&body)?;
    let workflow = named(&api, &request.workflow).await?;
    let _turn = TURN.try_acquire().map_err(|_| {
        Problem::unavailable("another backtest is running in this process; try again")
    })?;
    let plan = request.plan(workflow);
    let report = backtest(
        &*api.store,
        &api.orchestrator,
        plan,
        Some(READS_FOR),
        |_| {},
    );
    Ok(Json(report.await?))
}
