//! `glyph bench`: measures the whole pipeline, from the queue to the confirmed message, and beside
//! it, if asked, a program without logic that does the same work.
//!
//! Each run has an own process, prefix and schema. Numbers of one call can be compared with each
//! other, since machine and services are the same; those of two calls hardly can.

mod paced;
mod processes;
mod report;
mod run;
mod subject;
mod tables;
mod workload;
mod workspace;

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use self::{
    report::{ratios, text},
    run::Run,
    subject::{Subject, Work},
    workload::Workload,
    workspace::Workspace,
};
use super::{CliError, Output};
use crate::{
    settings::{Services, Settings},
    telemetry,
};

/// Options of the benchmark.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Shapes of work, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WORKLOADS", default_values = ["single", "overlap10"])]
    workload: Vec<Workload>,
    /// Commands to enqueue before the worker starts
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    commands: u64,
    /// How often everything is run
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of the second part of each run, at half the speed of the first, in seconds; 0 skips it.
    /// It measures latency, on RabbitMQ only
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    paced_secs: u64,
    /// Workers that share the queues
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=16))]
    workers: u64,
    /// A program without logic to compare with, run in turn: `cargo build --release -p
    /// glyph-bench-floor` makes target/release/glyph-bench-floor
    #[arg(long, value_name = "PROGRAM")]
    floor: Option<PathBuf>,
}

pub(super) async fn run(
    args: BenchArgs,
    mut settings: Settings,
    output: Output,
) -> Result<(), CliError> {
    if settings.log == "info" {
        "warn".clone_into(&mut settings.log);
    }
    telemetry::init(&settings);
    let workers = Subject::Workers(usize::try_from(args.workers).unwrap_or(1));
    let mut runs: Vec<Run> = Vec::new();
    for round in 1..=args.rounds {
        for workload in &args.workload {
            let measured = one(&args, &settings, &workers, *workload, None, output).await?;
            let (work, pace) = (measured.work, measured.commands_per_second / 2.0);
            runs.push(Run { round, ..measured });
            if let Some(floor) = floor(&args, &settings, work)? {
                let measured = one(&args, &settings, &floor, *workload, Some(pace), output).await?;
                runs.push(Run { round, ..measured });
            }
        }
    }
    let ratios = ratios(&runs);
    output.result(&json!({"runs": runs, "ratios": ratios}), || {
        text(&runs, &ratios)
    });
    Ok(())
}

/// The floor, where one is asked for.
fn floor(args: &BenchArgs, settings: &Settings, work: Work) -> Result<Option<Subject>, CliError> {
    let Some(program) = args.floor.clone() else {
        return Ok(None);
    };
    if matches!(settings.services(), Ok(Services::Embedded { .. })) {
        let text = "--floor needs PostgreSQL and RabbitMQ: DATABASE_URL and AMQP_URL";
        return Err(CliError::Usage(text.to_owned()));
    }
    Ok(Some(Subject::Floor { program, work }))
}

/// A run in a workspace of its own.
async fn one(
    args: &BenchArgs,
    settings: &Settings,
    subject: &Subject,
    workload: Workload,
    pace: Option<f64>,
    output: Output,
) -> Result<Run, CliError> {
    let mut settings = settings.clone();
    let workspace = Workspace::make(&mut settings).await?;
    let measured = run::run(args, &settings, subject, workload, pace, output).await;
    let removed = workspace.remove(&settings).await;
    let measured = measured?;
    removed?;
    Ok(measured)
}
