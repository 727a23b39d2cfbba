//! Tasks: search, state, history, explanation.

use std::{collections::BTreeMap, io};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use glyph_workflow_engine::{
    OfferedVerb, WorkflowSnapshot,
    ids::{Slug, TaskId, UserId},
    state::TaskStatus,
    store::{EventPage, TaskFilter, TaskPage},
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Api, Problem,
    auth::Caller,
    incidents::incident_code,
    request::{Parameters, TaskPath},
};
use crate::operations::{
    explain::Explanation,
    incidents::tasks_with,
    own_work::{OwnTask, own_history, own_task},
    secrets::hide_in_event,
    tasks::{StateDocument, bounded, explain_task, history},
};

/// The state of a task, as far as the caller sees it.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "the schema of two answers")]
pub(super) enum SeenState {
    Whole(StateDocument<'static>),
    Own(OwnTask),
}

/// Why a task is where it is, and what an operator can do about it.
#[derive(Serialize, JsonSchema)]
pub(super) struct ExplainedTask {
    #[serde(flatten)]
    explanation: Explanation,
    /// The verbs that an operator has, each with the answer that it would get in this version.
    verbs: Vec<OfferedVerb>,
}

/// Bytes of JSON in which a state is answered. What is larger is read as its history, in pages.
const STATE_BYTES_MAX: usize = 16 << 20;

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
            "running, paused, completed, failed, cancelled or archived",
            TaskStatus::from_name,
        )?,
        or_archived: false,
        step: parameters.take("step", "a step id", slug)?,
        incidents: parameters
            .take("incidents", "true or false", |text| text.parse().ok())?
            .unwrap_or(false),
        held_by: parameters.take("held_by", "a UUID", |text| text.parse().ok().map(UserId))?,
        oldest_first: parameters
            .take("oldest", "true or false", |text| text.parse().ok())?
            .unwrap_or(false),
        labels: parameters
            .take_prefixed("label.")?
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        after: parameters.take("after", "a task id", |text| text.parse::<TaskId>().ok())?,
        limit: parameters.take_limit()?,
    };
    let code = incident_code(&mut parameters, "incident")?;
    parameters.finish()?;
    if filter.oldest_first && filter.after.is_some() {
        let detail = "the oldest are one page: leave `after` out, or `oldest`";
        return Err(Problem::malformed(detail));
    }
    let oldest_first = filter.oldest_first;
    let page = match code {
        Some(code) => tasks_with(&*api.store, filter, code).await?,
        None => api.store.tasks(filter).await?,
    };
    let mut page = bounded(page);
    page.next_after = page.next_after.filter(|_| !oldest_first);
    Ok(Json(page))
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
    if let Some(user) = caller.annotator() {
        if version.is_some() {
            let why = "an annotator sees a task as it is now: leave `at_version` out";
            return Err(Problem::forbidden(why));
        }
        let state = api.orchestrator.get_task_state(task.0).await?;
        let own = own_task(&*api.store, state.snapshot(), user).await?;
        return Ok(Json(own).into_response());
    }
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
    let mut json = BoundedJson(Vec::new());
    if serde_json::to_writer(&mut json, &StateDocument::from(state.snapshot())).is_err() {
        return Err(Problem::state_too_large(STATE_BYTES_MAX));
    }
    let headers = [
        (header::ETAG, etag),
        (header::CONTENT_TYPE, "application/json".to_owned()),
    ];
    Ok((headers, json.0).into_response())
}

/// JSON of at most [`STATE_BYTES_MAX`]; writing more fails.
struct BoundedJson(Vec<u8>);

impl io::Write for BoundedJson {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > STATE_BYTES_MAX {
            return Err(io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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
    let after = after.unwrap_or(0);
    let mut page = match caller.annotator() {
        Some(user) => own_history(&*api.store, task, user, after, limit).await?,
        None => history(&*api.store, task, after, limit).await?,
    };
    // An empty page may be the end of a history, or of a task that does not exist.
    if page.events.is_empty() && api.store.task(task).await?.is_none() {
        return Err(Problem::task_not_found(task));
    }
    if !caller.sees_everything() {
        page.events.iter_mut().for_each(hide_in_event);
    }
    Ok(Json(page))
}

pub(super) async fn explain(
    State(api): State<Api>,
    TaskPath(task): TaskPath,
    parameters: Parameters,
) -> Result<Json<ExplainedTask>, Problem> {
    parameters.finish()?;
    let state = api.orchestrator.get_task_state(task.0).await?;
    let state = state.snapshot();
    let pauses = api.store.workflow_pauses().await?.active;
    Ok(Json(ExplainedTask {
        explanation: explain_task(&*api.store, state).await?,
        verbs: api.orchestrator.verbs(state, &pauses, Utc::now()).await?,
    }))
}
