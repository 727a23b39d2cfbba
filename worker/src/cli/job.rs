//! `glyph job`: bulk work that the workers do. Also how other verbs create such work and follow it.

use std::time::Duration;

use clap::{Args, Subcommand};
use glyph_workflow_engine::store::{JobItem, JobItemState, JobRow, JobState, Store};
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    CliError, Output, account,
    connect::open_store,
    output::{Table, clipped, grouped},
};
use crate::{
    jobs::{JobKind, JobSettings, JobSpec, Selection},
    settings::Settings,
};

/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// How long no worker may have taken a job before that is said.
const UNCLAIMED: Duration = Duration::from_secs(10);
/// Failed items that `show` lists.
const FAILED_SHOWN: u32 = 100;

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
    let store = open_store(settings).await?;
    match verb {
        JobVerb::List { limit } => {
            let jobs = store.jobs(limit).await?;
            output.result(&json!({"jobs": jobs}), || list_text(&jobs));
        }
        JobVerb::Show { job } => {
            let row = job_of(&*store, job).await?;
            show(&*store, &row, output).await?;
        }
        JobVerb::Stop { job } => {
            let row = job_of(&*store, job).await?;
            if !store.stop_job(job, &account::actor()).await? {
                let text = format!("job {job} has ended ({})", row.state.as_str());
                return Err(CliError::failed("job_ended", text));
            }
            output.result(&json!({"job": job, "stopping": true}), || {
                format!("stops; what was not tried goes back. glyph job show {job}")
            });
        }
    }
    Ok(())
}

async fn job_of(store: &dyn Store, id: Uuid) -> Result<JobRow, CliError> {
    let row = store.job(id).await?;
    row.ok_or_else(|| CliError::not_found("job", id))
}

/// Creates a job, and follows it to its end unless told not to. The job does not need the caller.
pub(super) async fn create_and_follow(
    store: &dyn Store,
    spec: &JobSpec,
    args: &ReplayArgs,
    output: Output,
) -> Result<(), CliError> {
    let job = spec.new_job();
    let id = job.id;
    store.create_job(job).await?;
    if args.no_wait {
        output.result(&json!({"job": id}), || {
            format!("job {id} goes on; glyph job show {id}, glyph job stop {id}")
        });
        return Ok(());
    }
    output.note(&format!("job {id}"));
    let row = tokio::select! {
        row = followed(store, id, output) => row?,
        _ = tokio::signal::ctrl_c() => {
            let text = format!(
                "the job goes on: `glyph job show {id}` shows it, `glyph job stop {id}` stops it"
            );
            return Err(CliError::failed("interrupted", text));
        }
    };
    show(store, &row, output).await?;
    let failed = row.state != JobState::Done || row.count(JobItemState::Failed) > 0;
    if failed { Err(CliError::Shown) } else { Ok(()) }
}

/// Waits for the end of a job and shows its progress.
async fn followed(store: &dyn Store, id: Uuid, output: Output) -> Result<JobRow, CliError> {
    let began = Instant::now();
    let mut told = false;
    let bar = output.progress(Some(0), "tried");
    loop {
        let row = job_of(store, id).await?;
        if row.state != JobState::Running {
            bar.finish_and_clear();
            return Ok(row);
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

async fn show(store: &dyn Store, row: &JobRow, output: Output) -> Result<(), CliError> {
    let failed = store.job_items(row.id, JobItemState::Failed, 0, FAILED_SHOWN);
    let failed = failed.await?;
    let items: Vec<_> = failed
        .iter()
        .map(|item| json!({"item": item.ordinal, "task_id": item.order_key, "detail": item.detail}))
        .collect();
    output.result(&json!({"job": row, "failed": items}), || {
        show_text(row, &failed)
    });
    Ok(())
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

fn show_text(row: &JobRow, failed: &[JobItem]) -> String {
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
                item.ordinal.to_string(),
                item.order_key.clone().unwrap_or_else(|| "-".to_owned()),
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
