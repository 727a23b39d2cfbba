//! Tasks: search, state, history, explanation.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use glyph_workflow_engine::{
    WorkflowEvent, WorkflowSnapshot,
    events::StoredEvent,
    ids::{Slug, TaskId},
    state::TaskStatus,
    store::{EventPage, TaskFilter, TaskPage},
};

use super::{
    Api, Problem,
    auth::Caller,
    request::{Parameters, TaskPath},
};
use crate::operations::{
    explain::Explanation,
    tasks::{StateDocument, explain_task},
};

/// A state with its version as `ETag`.
pub(super) fn state_response(status: StatusCode, state: &WorkflowSnapshot) -> Response {
    let etag = [(header::ETAG, format!("\"{}\"", state.version))];
    (status, etag, Json(StateDocument::from(state))).into_response()
}

pub(super) async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<TaskPage>, Problem> {
    let slug = |text: &str| Slug::new(text).ok();
    let filter = TaskFilter {
        workflow: parameters.take("workflow", "a workflow id", slug)?,
        status: parameters.take(
            "status",
            "running, paused, completed, failed or cancelled",
            TaskStatus::from_name,
        )?,
        step: parameters.take("step", "a step id", slug)?,
        labels: parameters
            .take_prefixed("label.")?
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        after: parameters.take("after", "a task id", |text| text.parse::<TaskId>().ok())?,
        limit: parameters.take_limit()?,
    };
    parameters.finish()?;
    Ok(Json(api.store.tasks(filter).await?))
}

pub(super) async fn state(
    State(api): State<Api>,
    TaskPath(task): TaskPath,
    caller: Caller,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let version = parameters.take("at_version", "a version, from 1", |text| {
        text.parse::<u64>().ok().filter(|version| *version > 0)
    })?;
    parameters.finish()?;
    let state = api.orchestrator.state_at(task.0, version).await?;
    let etag = format!("\"{}\"", state.version());
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let is_known = |tag: &str| {
        let tag = tag.trim();
        tag == "*" || tag.trim_start_matches("W/") == etag
    };
    if known.is_some_and(|known| known.split(',').any(is_known)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let mut state = state.into_snapshot();
    if caller.is_annotator() {
        state.expected = None;
    }
    Ok(state_response(StatusCode::OK, &state))
}

pub(super) async fn events(
    State(api): State<Api>,
    TaskPath(task): TaskPath,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<EventPage>, Problem> {
    let after = parameters.take("after", "a version", |text| text.parse::<u64>().ok())?;
    let limit = parameters.take_limit()?;
    parameters.finish()?;
    let mut page = api.store.events(task, after.unwrap_or(0), limit).await?;
    // An empty page may be the end of a history, or of a task that does not exist.
    if page.events.is_empty() && api.store.task(task).await?.is_none() {
        return Err(Problem::task_not_found(task));
    }
    if caller.is_annotator() {
        page.events = page.events.into_iter().filter_map(without_gold).collect();
    }
    Ok(Json(page))
}

/// An event as an annotator may see it; none if it is only about gold.
fn without_gold(mut stored: StoredEvent) -> Option<StoredEvent> {
    stored.metadata.gold = false;
    match &mut stored.event {
        WorkflowEvent::GoldScored { .. } => return None,
        WorkflowEvent::WorkflowStarted(started) => started.expected = None,
        WorkflowEvent::TaskDetailsSupplied { expected, .. } => *expected = None,
        _ => {}
    }
    Some(stored)
}

pub(super) async fn explain(
    State(api): State<Api>,
    TaskPath(task): TaskPath,
    parameters: Parameters,
) -> Result<Json<Explanation>, Problem> {
    parameters.finish()?;
    let state = api.orchestrator.get_task_state(task.0).await?;
    Ok(Json(explain_task(&*api.store, state.snapshot()).await?))
}
