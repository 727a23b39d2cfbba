//! `glyph job`: bulk work that the workers do. Also how other verbs create such work and follow it.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use glyph_workflow_engine::store::{JobItemState, JobRow, JobState, Store};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    CliError, Output, account,
    api::Call,
    deployment::Deployment,
    output::{Table, clipped, grouped},
};
use crate::{
    jobs::{JobKind, JobSettings, JobSpec, Selection},
    operations::jobs::{FailedItem, JobDocument, JobList, StartedJob},
    settings::Settings,
};

/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How long no worker may have taken a job before that is said.
const UNCLAIMED: Duration = Duration::from_secs(10);

/// Verbs on jobs.
#[derive(Clone, Debug, Subcommand)]
pub enum JobVerb {
    /// List jobs, newest first
    List {
        /// Maximum number of jobs
        #[arg(long, value_name = "N", default_value_t = 20,
              value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Show one job, with its first failed items
    Show {
        /// Job id, as shown by `list`
        job: Uuid,
    },
    /// Stop a job: what was not tried goes back to where it came from
    Stop {
        /// Job id, as shown by `list`
        job: Uuid,
    },
}

/// How a replay runs.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// Stop when more than this share has failed, of all or of the newest thousand
    #[arg(long, value_name = "PERCENT", default_value = "1%", value_parser = share)]
    pub(super) stop_at: f64,
    /// Only say what would be replayed
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    pub(super) no_wait: bool,
}

impl ReplayArgs {
    /// The job that this asks for.
    pub(super) fn spec(&self, kind: JobKind, select: Selection) -> JobSpec {
        JobSpec {
            kind,
            actor: account::actor(),
            settings: JobSettings {
                select,
                stop_at: self.stop_at,
            },
        }
    }
}

/// A share in percent: `1%`, `0.5 %`, `2`.
fn share(text: &str) -> Result<f64, String> {
    let number = text.trim().trim_end_matches('%').trim_end();
    let percent: f64 = number
        .parse()
        .map_err(|_| "write percent, as 1%".to_owned())?;
    if (0.0..=100.0).contains(&percent) {
        Ok(percent / 100.0)
    } else {
        Err("write percent between 0 and 100".to_owned())
    }
}

pub(super) async fn run(
    verb: JobVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let deployment = Deployment::open(settings).await?;
    match verb {
        JobVerb::List { limit } => {
            let call = Call::get(&[&"jobs"]).query("limit", Some(limit));
            let of_store = async |store: &Arc<dyn Store>| {
                let jobs = store.jobs(limit).await?;
                Ok(JobList { jobs })
            };
            let list = deployment.ask(call, of_store).await?;
            output.result(&list, || list_text(&list.jobs));
        }
        JobVerb::Show { job } => show(&job_of(&deployment, job).await?, output),
        JobVerb::Stop { job } => {
            let call = Call::post(&[&"jobs", &job, &"stop"]);
            let of_store = async |store: &Arc<dyn Store>| {
                let row = row_of(&**store, job).await?;
                if store.stop_job(job, &account::actor()).await? {
                    return Ok(StartedJob { job });
                }
                let text = format!("job {job} has ended ({})", row.state.as_str());
                Err(CliError::failed("job_ended", text))
            };
            let StartedJob { job } = deployment.ask(call, of_store).await?;
            output.result(&json!({"job": job, "stopping": true}), || {
                format!("stops; what was not tried goes back. glyph job show {job}")
            });
        }
    }
    Ok(())
}

async fn row_of(store: &dyn Store, id: Uuid) -> Result<JobRow, CliError> {
    let row = store.job(id).await?;
    row.ok_or_else(|| CliError::not_found("job", id))
}

async fn job_of(deployment: &Deployment, id: Uuid) -> Result<JobDocument, CliError> {
    let of_store = async |store: &Arc<dyn Store>| {
        let row = row_of(&**store, id).await?;
        Ok(JobDocument::of(row, &**store).await?)
    };
    deployment.ask(Call::get(&[&"jobs", &id]), of_store).await
}

/// Creates a job.
async fn create(deployment: &Deployment, spec: &JobSpec) -> Result<Uuid, CliError> {
    let of = match spec.kind {
        JobKind::ReplayDeadLetters => "dead-letters",
        JobKind::ReplayRejected => "rejected",
    };
    let JobSettings { select, stop_at } = &spec.settings;
    let chosen = chosen(select, Some(*stop_at));
    let of_store = async |store: &Arc<dyn Store>| {
        let job = spec.new_job();
        let id = job.id;
        store.create_job(job).await?;
        Ok(StartedJob { job: id })
    };
    let call = Call::post(&[&of, &"replay"]).json(&chosen);
    Ok(deployment.ask(call, of_store).await?.job)
}

/// What is chosen, as operations take it.
pub(super) fn chosen(select: &Selection, stop_at: Option<f64>) -> Value {
    json!({
        "ids": select.ids,
        "reason": select.reason,
        "task": select.task,
        "workflow": select.workflow,
        "all": *select == Selection::default(),
        "stop_at": stop_at,
    })
}

/// Creates a job, and follows it to its end unless told not to. The job does not need the caller.
pub(super) async fn create_and_follow(
    deployment: &Deployment,
    spec: &JobSpec,
    args: &ReplayArgs,
    output: Output,
) -> Result<(), CliError> {
    let id = create(deployment, spec).await?;
    if args.no_wait {
        output.result(&json!({"job": id}), || {
            format!("job {id} goes on; glyph job show {id}, glyph job stop {id}")
        });
        return Ok(());
    }
    output.note(&format!("job {id}"));
    let document = tokio::select! {
        document = followed(deployment, id, output) => document?,
        _ = tokio::signal::ctrl_c() => {
            let text = format!(
                "the job goes on: `glyph job show {id}` shows it, `glyph job stop {id}` stops it"
            );
            return Err(CliError::failed("interrupted", text));
        }
    };
    show(&document, output);
    let row = &document.job;
    let failed = row.state != JobState::Done || row.count(JobItemState::Failed) > 0;
    if failed { Err(CliError::Shown) } else { Ok(()) }
}

/// Waits for the end of a job and shows its progress.
async fn followed(
    deployment: &Deployment,
    id: Uuid,
    output: Output,
) -> Result<JobDocument, CliError> {
    let began = Instant::now();
    let mut told = false;
    let bar = output.progress(Some(0), "tried");
    loop {
        let document = job_of(deployment, id).await?;
        let row = &document.job;
        if row.state != JobState::Running {
            bar.finish_and_clear();
            return Ok(document);
        }
        if row.phase.is_empty() && began.elapsed() > UNCLAIMED && !told {
            told = true;
            output.note("no worker has taken the job yet; it begins once one runs");
        }
        bar.set_length(row.items());
        bar.set_position(row.count(JobItemState::Succeeded) + row.count(JobItemState::Failed));
        sleep(LOOK).await;
    }
}

fn show(document: &JobDocument, output: Output) {
    let JobDocument { job, failed } = document;
    output.result(&json!({"job": job, "failed": failed}), || {
        show_text(job, failed)
    });
}

/// What became of the items, in a sentence.
fn summary(row: &JobRow) -> String {
    let counts = JobItemState::ALL.into_iter().filter_map(|state| {
        let count = row.count(state);
        (count > 0).then(|| format!("{} {}", grouped(count), state.as_str()))
    });
    let counts: Vec<_> = counts.collect();
    if counts.is_empty() {
        "nothing".to_owned()
    } else {
        counts.join(", ")
    }
}

fn state_of(row: &JobRow) -> &str {
    match row.state {
        JobState::Running if row.phase.is_empty() => "waiting",
        JobState::Running => &row.phase,
        JobState::Stopped | JobState::Done => row.state.as_str(),
    }
}

fn list_text(jobs: &[JobRow]) -> String {
    if jobs.is_empty() {
        return "no jobs".to_owned();
    }
    let mut table = Table::new(&["job", "what", "by", "state", "created", "items"]);
    for row in jobs {
        table.row([
            row.id.to_string(),
            row.kind.clone(),
            row.actor.clone(),
            state_of(row).to_owned(),
            row.created_at.format("%F %TZ").to_string(),
            summary(row),
        ]);
    }
    table.render(0)
}

fn show_text(row: &JobRow, failed: &[FailedItem]) -> String {
    let mut table = Table::plain();
    table.row(["job", &row.id.to_string()]);
    table.row(["what", &row.kind]);
    table.row(["by", &row.actor]);
    table.row(["state", state_of(row)]);
    if let Some(reason) = &row.reason {
        table.row(["because", reason]);
    }
    table.row(["items", &summary(row)]);
    table.row(["created", &row.created_at.format("%F %TZ").to_string()]);
    table.row(["changed", &row.changed_at.format("%F %TZ").to_string()]);
    let mut text = table.render(0);
    if !failed.is_empty() {
        let mut table = Table::new(&["item", "task", "why"]);
        for item in failed {
            table.row([
                item.item.to_string(),
                item.task_id.clone().unwrap_or_else(|| "-".to_owned()),
                clipped(item.detail.as_deref().unwrap_or_default(), 120),
            ]);
        }
        text = format!("{text}\n\n{}", table.render(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_in_percent() {
        for (text, expected) in [("1%", 0.01), ("0.5 %", 0.005), ("100", 1.0), ("0%", 0.0)] {
            assert_eq!(share(text), Ok(expected), "{text}");
        }
        for text in ["", "x", "-1", "101%", "NaN"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
