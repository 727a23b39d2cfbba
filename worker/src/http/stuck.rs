//! Why tasks do not go on.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::State,
    response::{IntoResponse, Response},
};
use tokio::{sync::Mutex, time::Instant};

use super::{Api, Problem, operation::Operation, request::Parameters};
use crate::operations::stuck::{Stuck, stuck};

/// What was read is answered again for so long, and ten times as long as reading took.
const FRESH: Duration = Duration::from_secs(2);
const FRESH_FACTOR: u32 = 10;

/// The newest look; who asks while one is under way waits for it. Clones share it.
#[derive(Clone, Default)]
pub(super) struct StuckBoard(Arc<Mutex<Option<Look>>>);

struct Look {
    found: Arc<Stuck>,
    fresh_until: Instant,
}

impl StuckBoard {
    async fn look(&self, api: &Api) -> Result<Arc<Stuck>, Problem> {
        let mut newest = self.0.lock().await;
        let begun = Instant::now();
        if let Some(look) = newest.as_ref().filter(|look| begun < look.fresh_until) {
            return Ok(Arc::clone(&look.found));
        }
        let found = Arc::new(stuck(&*api.store, &api.orchestrator).await?);
        let now = Instant::now();
        *newest = Some(Look {
            found: Arc::clone(&found),
            fresh_until: now + FRESH.max((now - begun) * FRESH_FACTOR),
        });
        Ok(found)
    }
}

/// The operations on what is stuck.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/stuck", "show_stuck", show)
            .summary("Why tasks do not go on, grouped by cause, and who holds slots")
            .answers::<Stuck>(200, "The groups, some seconds old at most"),
    ]
}

async fn show(
    State(api): State<Api>,
    Extension(board): Extension<StuckBoard>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let found = board.look(&api).await?;
    Ok(Json(&*found).into_response())
}
