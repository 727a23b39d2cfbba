//! `glyph bench`: measures the whole pipeline, from the queue to the confirmed message, and beside
//! it, if asked, a program without logic that does the same work.
//!
//! Each run has an own process, prefix and schema. Numbers of one call can be compared with each
//! other, since machine and services are the same; those of two calls hardly can.

mod arguments;
mod paced;
mod processes;
mod report;
mod run;
mod subject;
mod tables;
mod workload;
mod workspace;

use serde_json::json;

pub(super) use self::arguments::BenchArgs;

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
            let asked = args.pace.map(f64::from);
            let measured = one(&args, &settings, &workers, *workload, asked, output).await?;
            let half = measured.commands_per_second / 2.0;
            let (work, pace) = (measured.work, asked.unwrap_or(half));
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
