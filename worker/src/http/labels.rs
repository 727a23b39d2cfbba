//! Labels: what tasks were completed with, and what is known of it now.

use std::{collections::BTreeMap, io, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use futures::stream;
use glyph_workflow_engine::ids::{Slug, StepId, TaskId, WorkflowId};
use schemars::{JsonSchema, json_schema, schema_for};
use serde::Serialize;

use super::{
    Api, Problem,
    auth::Caller,
    operation::Operation,
    request::{Parameters, page_limit},
};
use crate::{
    labels::{Label, LabelFilter, LabelLines, LabelReader, LinesFormat},
    operations::labels::{
        CalibrationList, Extent, LabelsError, LookReport, SuspectList, label_reader, look, suspects,
    },
    projections::labels::calibrations,
    telemetry,
};

/// Bytes of labels after which a page ends.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// Tasks that are read at once: a page is at most that much longer than [`PAGE_BYTES_MAX`] says.
const TASKS_AT_ONCE: u32 = 20;

/// How long a request looks at tasks: well below the time in which it must be answered.
const LOOKS_FOR: Duration = Duration::from_secs(10);

/// The operations on labels.
pub(super) fn operations() -> Vec<Operation> {
    let selected = |operation: Operation| {
        operation
            .query(
                "workflow",
                "Of this workflow, in all its revisions; required.",
                schema_for!(WorkflowId),
            )
            .query("step", "Of this step.", schema_for!(StepId))
            .query(
                "label.*",
                "Of tasks with these key-value pairs, as `label.project=p1`.",
                schema_for!(String),
            )
            .query(
                "since",
                "Of tasks that ended at this time or later.",
                schema_for!(DateTime<Utc>),
            )
            .query(
                "after",
                "The last task of the previous page.",
                schema_for!(TaskId),
            )
            .problems(&[404])
    };
    vec![
        selected(Operation::get("/api/v1/labels", "list_labels", list))
            .summary("Labels of completed tasks, as delivered and as known now, in pages")
            .query("limit", "Tasks per page.", page_limit())
            .query(
                "with_annotators",
                "Include who submitted each vote.",
                json_schema!({"type": "boolean", "default": false}),
            )
            .answers::<LabelList>(200, "The labels, by task"),
        selected(Operation::get(
            "/api/v1/labels/export",
            "export_labels",
            export,
        ))
        .summary(
            "All labels of completed tasks as lines of JSON or CSV, as `GET /api/v1/labels` lists \
                 them. An answer that breaks off is not whole: go on with `after`",
        )
        .query(
            "format",
            "JSON lines, or CSV with a header.",
            json_schema!({"enum": ["jsonl", "csv"], "default": "jsonl"}),
        )
        .query(
            "with_annotators",
            "Include who submitted each vote.",
            json_schema!({"type": "boolean", "default": false}),
        )
        .answers_text(
            LinesFormat::Jsonl.media_type(),
            "The labels, one a line, by task",
        )
        .answers_text(
            LinesFormat::Csv.media_type(),
            "The labels, one a line, by task",
        ),
        selected(Operation::get(
            "/api/v1/labels/suspect",
            "list_suspect_labels",
            suspect,
        ))
        .summary("Labels that are most likely wrong, with what is known now")
        .query("limit", "Labels to list.", page_limit())
        .query(
            "seconds",
            "Look at tasks for about this time at the most.",
            json_schema!({
                "type": "number", "minimum": 0, "maximum": LOOKS_FOR.as_secs(), "default": LOOKS_FOR.as_secs()
            }),
        )
        .answers::<SuspectList>(200, "The likely errors first"),
        selected(Operation::post(
            "/api/v1/labels/look",
            "look_back",
            look_back,
        ))
        .summary(
            "Look back at completed tasks: a message for each answer that would be another one now",
        )
        .answers::<LookReport>(200, "What was looked at and found"),
        Operation::get("/api/v1/calibration", "list_calibration", calibration)
            .summary("How often answers of a stated probability are right on gold tasks, by step")
            .query(
                "workflow",
                "Only of this workflow.",
                schema_for!(WorkflowId),
            )
            .answers::<CalibrationList>(200, "The steps with answers to gold tasks"),
    ]
}

/// A page of labels.
#[derive(Serialize, JsonSchema)]
pub(super) struct LabelList {
    /// The labels, by task and then in the order of the workflow's steps.
    labels: Vec<Label>,
    /// The task after which the next page starts; null on the last page.
    next_after: Option<TaskId>,
}

pub(super) async fn list(
    State(api): State<Api>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Json<LabelList>, Problem> {
    let (filter, mut after) = read_filter(&mut parameters)?;
    let mut left = parameters.take_limit()?;
    let with_annotators = parameters
        .take("with_annotators", "true or false", |text| text.parse().ok())?
        .unwrap_or(false);
    parameters.finish()?;
    let shows_gold = caller.sees_everything();
    let mut reader = label_reader(&*api.store, &api.orchestrator, filter).await?;
    let (mut labels, mut bytes) = (Vec::new(), 0);
    loop {
        let page = reader
            .page(after, left.min(TASKS_AT_ONCE))
            .await
            .map_err(LabelsError::from)?;
        left = left.saturating_sub(page.tasks);
        for mut label in page.labels {
            if !with_annotators {
                label.without_annotators();
            }
            if !shows_gold {
                label.without_gold();
            }
            bytes += serde_json::to_string(&label).map_or(0, |text| text.len());
            labels.push(label);
        }
        after = page.next_after;
        if after.is_none() || left == 0 || bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Ok(Json(LabelList {
        labels,
        next_after: after,
    }))
}

/// Answers with all labels, a page of tasks at a time: what is in memory does not grow with their
/// number. An answer that cannot be finished breaks off, so that nobody takes it for the whole.
async fn export(
    State(api): State<Api>,
    caller: Caller,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let (filter, after) = read_filter(&mut parameters)?;
    let format = parameters.take("format", "jsonl or csv", LinesFormat::from_name)?;
    let with_annotators =
        parameters.take("with_annotators", "true or false", |text| text.parse().ok())?;
    parameters.finish()?;
    let lines = LabelLines {
        format: format.unwrap_or_default(),
        with_annotators: with_annotators.unwrap_or(false),
        without_gold: !caller.sees_everything(),
    };
    // What is wrong with the request is said before the answer begins.
    label_reader(&*api.store, &api.orchestrator, filter.clone()).await?;
    let export = Export {
        api,
        filter,
        lines,
        next: Next::First(after),
    };
    let pages = stream::try_unfold(export, |mut export| async move {
        let page = export.page().await?;
        Ok::<_, io::Error>(page.map(|page| (page, export)))
    });
    let media_type = [(header::CONTENT_TYPE, lines.format.media_type())];
    Ok((media_type, Body::from_stream(pages)).into_response())
}

/// An export under way.
struct Export {
    api: Api,
    filter: LabelFilter,
    lines: LabelLines,
    next: Next,
}

/// The next page of an export.
#[derive(Clone, Copy)]
enum Next {
    First(Option<TaskId>),
    After(TaskId),
    Nothing,
}

impl Export {
    /// The next page; none at the end. It fails if the labels cannot be read or the worker is
    /// shutting down.
    async fn page(&mut self) -> io::Result<Option<Bytes>> {
        let mut text = Vec::new();
        let after = match self.next {
            Next::First(after) => {
                self.lines.begin(&mut text)?;
                after
            }
            Next::After(task) => Some(task),
            Next::Nothing => return Ok(None),
        };
        let (store, orchestrator) = (&*self.api.store, &*self.api.orchestrator);
        let mut reader = LabelReader::new(store, orchestrator, self.filter.clone());
        let page = tokio::select! {
            // First: an answer whose pages are all at hand ends early, too.
            biased;
            () = self.api.health.drained() => {
                return Err(io::Error::other("the worker is shutting down"));
            }
            page = reader.page(after, TASKS_AT_ONCE) => page,
        };
        let page = page.map_err(|error| {
            tracing::warn!(
                error = telemetry::chain(&error),
                "an export of labels has ended early"
            );
            io::Error::other(error)
        })?;
        for label in page.labels {
            self.lines.write(&mut text, label)?;
        }
        self.next = page.next_after.map_or(Next::Nothing, Next::After);
        Ok(Some(text.into()))
    }
}

pub(super) async fn suspect(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<SuspectList>, Problem> {
    let (filter, after) = read_filter(&mut parameters)?;
    let limit = parameters.take_limit()?;
    let seconds = parameters.take("seconds", "a number from 0 to 10", |text| {
        let seconds = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
        (seconds <= LOOKS_FOR).then_some(seconds)
    })?;
    parameters.finish()?;
    let reader = label_reader(&*api.store, &api.orchestrator, filter).await?;
    let extent = Extent {
        after,
        within: Some(seconds.unwrap_or(LOOKS_FOR)),
    };
    Ok(Json(suspects(reader, limit, extent).await?))
}

pub(super) async fn look_back(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<LookReport>, Problem> {
    let (filter, after) = read_filter(&mut parameters)?;
    parameters.finish()?;
    let reader = label_reader(&*api.store, &api.orchestrator, filter).await?;
    let extent = Extent {
        after,
        within: Some(LOOKS_FOR),
    };
    Ok(Json(
        look(&*api.store, &api.messages, reader, extent).await?,
    ))
}

pub(super) async fn calibration(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<CalibrationList>, Problem> {
    let workflow = parameters.take("workflow", "a workflow id", |text| Slug::new(text).ok())?;
    parameters.finish()?;
    let calibration = calibrations(&*api.store, workflow.as_ref()).await?;
    Ok(Json(CalibrationList { calibration }))
}

fn read_filter(parameters: &mut Parameters) -> Result<(LabelFilter, Option<TaskId>), Problem> {
    let slug = |text: &str| Slug::new(text).ok();
    let workflow = parameters.take("workflow", "a workflow id", slug)?;
    let workflow = workflow
        .ok_or_else(|| Problem::malformed("say which workflow: add the parameter `workflow`"))?;
    let filter = LabelFilter {
        workflow,
        step: parameters.take("step", "a step id", slug)?,
        labels: parameters
            .take_prefixed("label.")?
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        since: parameters.take("since", "a time as in RFC 3339", |text| {
            let time = DateTime::parse_from_rfc3339(text).ok()?;
            Some(time.with_timezone(&Utc))
        })?,
    };
    let after = parameters.take("after", "a task id", |text| text.parse::<TaskId>().ok())?;
    Ok((filter, after))
}
