//! From arguments to an exit code.

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use super::{
    Cli, CliError, Output, annotator, arguments::Verb, bench, config, dead_letter, demo, goal,
    migrate, outbox, publish, rebuild, rejected, task, worker, workflow,
};
use crate::settings::Settings;

/// Parses the arguments of the process, runs the verb, and says how it went.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // clap prints what is wrong with the arguments and ends with 2, as everybody expects.
    let cli = Cli::parse_from(arguments);
    let output = Output::new(cli.output);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output.fault("failed", &format!("the runtime cannot be started: {error}"));
            return ExitCode::from(1);
        }
    };
    let result = runtime.block_on(run(cli));
    // Not waiting: what still runs has been asked to end and had its time.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_shown() {
                output.fault(error.code(), &error.to_string());
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// Runs one verb.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    let output = Output::new(cli.output);
    let settings = Settings::load(&cli.settings, std::env::vars())?;
    match cli.command {
        Verb::Worker(args) => worker::run(args, settings).await,
        Verb::Demo(args) => demo::run(args, settings, output).await,
        Verb::Migrate => migrate::run(&settings, output).await,
        Verb::Workflow(verb) => workflow::run(verb, &settings, output).await,
        Verb::Task(verb) => task::run(verb, &settings, output).await,
        Verb::Publish(args) => publish::run(&args, &settings, output).await,
        Verb::DeadLetter(verb) => dead_letter::run(verb, &settings, output).await,
        Verb::Outbox(verb) => outbox::run(verb, &settings, output).await,
        Verb::Rejected(verb) => rejected::run(verb, &settings, output).await,
        Verb::Annotator(verb) => annotator::run(verb, &settings, output).await,
        Verb::Goal(verb) => goal::run(verb, &settings, output).await,
        Verb::Rebuild(args) => rebuild::run(args, &settings, output).await,
        Verb::Bench(args) => bench::run(args, settings, output).await,
        Verb::Config(verb) => config::run(verb, &settings, output),
    }
}
