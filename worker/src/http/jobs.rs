//! Bulk work that operators have asked for.

use axum::{Json, extract::State, http::StatusCode};
use glyph_workflow_engine::store::JobRow;
use schemars::{JsonSchema, json_schema};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Api, Problem,
    auth::Caller,
    operation::Operation,
    request::{Parameters, Path, path_uuid, read_json},
};
use crate::{
    jobs::{JobKind, JobSettings, JobSpec, Selection},
    operations::jobs::{JobDocument, JobList, StartedJob},
};

/// Jobs that are listed.
const LISTED_MAX: u32 = 1_000;
/// The share of failures beyond which a replay stops, if nothing is said.
const STOP_AT: f64 = 0.01;

/// The operations on jobs.
pub(super) fn operations() -> Vec<Operation> {
    let limit =
        json_schema!({"type": "integer", "minimum": 1, "maximum": LISTED_MAX, "default": 20});
    vec![
        Operation::get("/api/v1/jobs", "list_jobs", list)
            .summary("Bulk work of operators, newest first")
            .query("limit", "Jobs to list.", limit)
            .answers::<JobList>(200, "The jobs"),
        Operation::get("/api/v1/jobs/{job}", "show_job", show)
            .summary("One job, with its first failed items")
            .answers::<JobDocument>(200, "The job")
            .problems(&[404]),
        Operation::post("/api/v1/jobs/{job}/stop", "stop_job", stop)
            .summary("Stop a job: what was not tried goes back to where it came from")
            .answers::<StartedJob>(202, "It stops")
            .problems(&[404, 409]),
    ]
}

/// Which letters or rejected commands. Everything that is said must hold; something must be said.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Chosen {
    /// Command ids, or handles of letters.
    #[serde(default)]
    pub(super) ids: Vec<String>,
    /// With this reason.
    pub(super) reason: Option<String>,
    /// Of this task.
    pub(super) task: Option<Uuid>,
    /// Of tasks of this workflow (rejected commands only).
    pub(super) workflow: Option<String>,
    /// All of them.
    #[serde(default)]
    pub(super) all: bool,
    /// The share of failures beyond which a replay stops; 0.01 if left out.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(super) stop_at: Option<f64>,
}

impl Chosen {
    /// What is chosen, from a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        let chosen: Self = read_json(body)?;
        let says_nothing = chosen.ids.is_empty()
            && chosen.reason.is_none()
            && chosen.task.is_none()
            && chosen.workflow.is_none();
        if says_nothing != chosen.all {
            return Err(Problem::malformed(
                "say which: `ids`, `reason`, `task` or `workflow`; or `all` alone",
            ));
        }
        let texts = [&chosen.reason, &chosen.workflow].into_iter().flatten();
        if texts.chain(&chosen.ids).any(|text| text.contains('\0')) {
            return Err(Problem::malformed("no text may have the NUL character"));
        }
        if chosen
            .stop_at
            .is_some_and(|share| !(0.0..=1.0).contains(&share))
        {
            return Err(Problem::malformed("`stop_at` is a share between 0 and 1"));
        }
        Ok(chosen)
    }

    pub(super) fn selection(&self) -> Selection {
        Selection {
            ids: self.ids.clone(),
            reason: self.reason.clone(),
            task: self.task,
            workflow: self.workflow.clone(),
        }
    }

    /// Creates the job that replays what is chosen.
    pub(super) async fn replay(
        &self,
        kind: JobKind,
        api: &Api,
        caller: &Caller,
    ) -> Result<(StatusCode, Json<StartedJob>), Problem> {
        let spec = JobSpec {
            kind,
            actor: caller.holder.name.clone(),
            settings: JobSettings {
                select: self.selection(),
                stop_at: self.stop_at.unwrap_or(STOP_AT),
            },
        };
        let job = spec.new_job();
        let id = job.id;
        api.store.create_job(job).await?;
        Ok((StatusCode::ACCEPTED, Json(StartedJob { job: id })))
    }
}

async fn list(
    State(api): State<Api>,
    mut parameters: Parameters,
) -> Result<Json<JobList>, Problem> {
    let expected = format!("a whole number from 1 to {LISTED_MAX}");
    let limit = parameters.take("limit", &expected, |text| {
        text.parse()
            .ok()
            .filter(|limit| (1..=LISTED_MAX).contains(limit))
    })?;
    parameters.finish()?;
    let jobs = api.store.jobs(limit.unwrap_or(20)).await?;
    Ok(Json(JobList { jobs }))
}

/// The job that a path names.
async fn named(api: &Api, text: &str) -> Result<JobRow, Problem> {
    let id = path_uuid("job", text)?;
    let row = api.store.job(id).await?;
    row.ok_or_else(|| Problem::not_found("job", id))
}

async fn show(
    State(api): State<Api>,
    Path(job): Path<String>,
    parameters: Parameters,
) -> Result<Json<JobDocument>, Problem> {
    parameters.finish()?;
    let job = named(&api, &job).await?;
    Ok(Json(JobDocument::of(job, &*api.store).await?))
}

async fn stop(
    State(api): State<Api>,
    caller: Caller,
    Path(job): Path<String>,
) -> Result<(StatusCode, Json<StartedJob>), Problem> {
    let row = named(&api, &job).await?;
    if !api.store.stop_job(row.id, &caller.holder.name).await? {
        let detail = format!("job {} has ended ({})", row.id, row.state.as_str());
        return Err(Problem::rejected("job_ended", detail));
    }
    Ok((StatusCode::ACCEPTED, Json(StartedJob { job: row.id })))
}
