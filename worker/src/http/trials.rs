//! Trials: a made-up crowd works on a workflow.

use std::time::Duration;

use axum::{Json, extract::State};
use tokio::sync::Semaphore;

use super::{
    Api, Problem,
    access::Access,
    operation::Operation,
    request::{Limited, Path, read_json},
    workflows::named,
};
use crate::operations::trial::{Trial, TrialRequest, children_of, trial};

/// How long tasks are played for a request: well below the time in which it must be answered.
const PLAYS_FOR: Duration = Duration::from_secs(3);

/// A trial keeps a core busy, so a process plays one at a time; others wait for their turn.
static TURN: Semaphore = Semaphore::const_new(1);

/// The operations on trials.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/api/v1/workflows/{id}/trial", "try_workflow", run)
            .access(Access::READ)
            .summary(
                "Let made-up people, who err as often as the request says, work on made-up tasks of \
                 a revision; stores nothing",
            )
            .reads::<TrialRequest>("Who answers, and what to change in the workflow")
            .problems(&[404, 422, 503])
            .answers::<Trial>(200, "How many labels the tasks took, and where they ended"),
    ]
}

async fn run(
    State(api): State<Api>,
    Path(id): Path<String>,
    Limited(body): Limited,
) -> Result<Json<Trial>, Problem> {
    let request: TrialRequest = read_json(&body)?;
    let workflow = named(&api, &id).await?;
    let children = children_of(&*api.store, &workflow).await?;
    let orchestrator = &api.orchestrator;
    let handlers: Vec<&str> = orchestrator.handler_registry.own_names().collect();
    let rules = (&*orchestrator.step_library, &*handlers);
    let turn = TURN.acquire().await;
    let _turn = turn.map_err(|_| Problem::internal())?;
    let trial = trial(workflow, children, request, rules, Some(PLAYS_FOR));
    Ok(Json(trial.await?))
}
