//! The feed of the log.

use std::{collections::BTreeSet, time::Duration};

use axum::{Json, extract::State};
use glyph_workflow_engine::{
    events::LogPosition,
    ids::{Slug, WorkflowId},
};
use schemars::{json_schema, schema_for};
use tokio::time::{Instant, sleep};

use super::{
    Api, Problem,
    auth::Caller,
    operation::Operation,
    request::{Parameters, page_limit},
};
use crate::operations::{
    feed::{FeedFilter, FeedForm, FeedPage, feed},
    secrets::hide_in_event,
};

/// The longest time that a request waits for something new: well within the time limit of requests.
const WAIT_MAX: u64 = 20;
/// How often a waiting request looks.
const LOOK: Duration = Duration::from_millis(250);

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/events", "list_events", read)
            .summary("The log: everything that has happened, in the order in which it was committed")
            .query(
                "after",
                "The `next_after` of the previous page; `start` (the default), or `end` for what comes \
                 from now on.",
                json_schema!({"type": "string", "default": "start"}),
            )
            .query(
                "as",
                "`events` as they are stored, or the `messages` that consumers got, under the same \
                 ids. Messages without an event are in both.",
                json_schema!({"enum": ["events", "messages"], "default": "events"}),
            )
            .query("workflow", "Of this workflow.", schema_for!(WorkflowId))
            .query(
                "type",
                "Of these types, with commas between them: `step_completed,workflow_completed`.",
                schema_for!(String),
            )
            .query(
                "wait",
                "How many seconds to wait for something new at the end of the log.",
                json_schema!({"type": "integer", "minimum": 0, "maximum": WAIT_MAX, "default": 0}),
            )
            .query(
                "limit",
                "Items per page; fewer where they are large, or where few match.",
                page_limit(),
            )
            .answers::<FeedPage>(200, "A page of the feed, oldest first")
            .problems(&[410]),
    ]
}

async fn read(
    State(api): State<Api>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<FeedPage>, Problem> {
    let after = parameters.take(
        "after",
        "`start`, `end` or a `next_after`",
        |text| match text {
            "start" => Some(Some(LogPosition::default())),
            "end" => Some(None),
            position => position.parse().ok().map(Some),
        },
    )?;
    let form = parameters.take("as", "`events` or `messages`", FeedForm::from_name)?;
    let workflow = parameters.take("workflow", "the id of a workflow", |text| {
        Slug::new(text).ok()
    })?;
    let types = parameters.take("type", "types with commas between them", |text| {
        let types = text.split(',').map(|kind| kind.trim().replace('.', "_"));
        Some(types.collect::<BTreeSet<_>>()).filter(|types| !types.contains(""))
    })?;
    let expected = format!("seconds from 0 to {WAIT_MAX}");
    let wait = parameters.take("wait", &expected, |text| {
        text.parse::<u64>()
            .ok()
            .filter(|seconds| *seconds <= WAIT_MAX)
    })?;
    let limit = parameters.take_limit()?;
    parameters.finish()?;
    let filter = FeedFilter {
        form: form.unwrap_or_default(),
        workflow,
        types: types.unwrap_or_default(),
    };
    let mut after = match after {
        None => LogPosition::default(),
        Some(Some(position)) => position,
        Some(None) => api.store.log_end().await?,
    };
    // Of every kind, whether or not this deployment publishes it: who reads the log asks for all.
    let messages = api.messages.of_every_kind();
    let until = Instant::now() + Duration::from_secs(wait.unwrap_or_default());
    // A worker that drains answers at once, so nobody holds it up.
    let is_over = || Instant::now() >= until || api.health.is_draining();
    loop {
        let end = api.store.log_end().await?;
        let page = feed(&*api.store, &messages, &filter, after, limit, |event| {
            if !caller.sees_everything() {
                hide_in_event(event);
            }
        })
        .await?;
        if !page.items.is_empty() || !page.archived.is_empty() || is_over() {
            return Ok(Json(page));
        }
        after = page.next_after.parse().unwrap_or(after);
        while !is_over() && api.store.log_end().await? == end {
            sleep(LOOK).await;
        }
    }
}
