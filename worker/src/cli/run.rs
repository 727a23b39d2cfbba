//! From arguments to an exit code.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use super::{
    Cli, CliError, Format, Output, agreement, annotator, arguments::Verb, assignment, backtest,
    bench, completions, config, dead_letter, demo, events, goal, incident, job, labels, migrate,
    needs, outbox, output::note_failure, publish, rebuild, rejected, restore, retention, settings,
    status, storage, task, topology, worker, workflow,
};
use crate::{settings::Settings, telemetry, verbs::only_here};

/// Parses the arguments of the process, runs the verb and returns its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::read(arguments.iter().cloned()) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && asks_for_json(&arguments) => {
            let text = error.render().to_string();
            let text = text.trim_start_matches("error: ").trim_end();
            Output::new(Format::Json).fault("usage", text);
            return ExitCode::from(2);
        }
        // Help, or a usage error, which ends with 2, the usual code.
        Err(error) => {
            note_failure(error.print().and_then(|()| io::stdout().flush()));
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return written().map_or(ExitCode::from(code), |failed| {
                failed.show(Output::new(Format::Text))
            });
        }
    };
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
    // Does not wait: tasks that still run were asked to end and had their time.
    runtime.shutdown_background();
    let code = match result.err().or_else(written) {
        None => ExitCode::SUCCESS,
        Some(error) => error.show(output),
    };
    telemetry::flush();
    code
}

/// The failure that a part of what was printed has not been written.
fn written() -> Option<CliError> {
    Output::unwritten().map(|why| CliError::failed("not_written", why))
}

impl CliError {
    /// Prints it, if that has not been done, and gives its exit code.
    fn show(&self, output: Output) -> ExitCode {
        if !self.is_shown() {
            output.fault(self.code(), &self.to_string());
        }
        ExitCode::from(self.exit_code())
    }
}

/// Whether arguments that could not be parsed ask for JSON.
fn asks_for_json(arguments: &[OsString]) -> bool {
    let after = |pair: &[OsString]| pair[0] == "--output" && pair[1] == "json";
    arguments.windows(2).any(after) || arguments.iter().any(|argument| argument == "--output=json")
}

/// Refuses a verb that needs a service and has no operation, where a worker is to be asked.
fn check_served(verb: &str) -> Result<(), CliError> {
    let need = needs::of(verb).unwrap_or(needs::NOTHING);
    match only_here(verb).filter(|_| need != needs::NOTHING) {
        None => Ok(()),
        Some(reason) => Err(CliError::Usage(format!(
            "no worker does `glyph {verb}` over HTTP, since it {reason}: leave --api and GLYPH_API \
             out, and give what it needs: {need}"
        ))),
    }
}

/// Runs one verb.
pub async fn run(cli: Cli) -> Result<(), CliError> {
    let output = Output::new(cli.output);
    let settings = Settings::of_process(&cli.settings)?;
    if settings.api.is_some() {
        check_served(&cli.verb)?;
    }
    match cli.command {
        Verb::Worker(args) => worker::run(args, settings).await,
        Verb::Demo(args) => Box::pin(demo::run(args, settings, output)).await,
        Verb::Status => status::run(&settings, output).await,
        Verb::Migrate => migrate::run(&settings, output).await,
        Verb::Workflow(verb) => workflow::run(verb, &settings, output).await,
        Verb::Task(verb) => task::run(verb, &settings, output).await,
        Verb::Incident(verb) => incident::run(verb, &settings, output).await,
        Verb::Stuck => incident::run_stuck(&settings, output).await,
        Verb::Publish(args) => publish::run(&args, &settings, output).await,
        Verb::DeadLetter(verb) => dead_letter::run(verb, &settings, output).await,
        Verb::Events(verb) => events::run(verb, &settings, output).await,
        Verb::Outbox(verb) => outbox::run(verb, &settings, output).await,
        Verb::Topology(verb) => topology::run(verb, &settings, output).await,
        Verb::Rejected(verb) => rejected::run(verb, &settings, output).await,
        Verb::Job(verb) => job::run(verb, &settings, output).await,
        Verb::Labels(verb) => labels::run(verb, &settings, output).await,
        Verb::Backtest(args) => backtest::run(args, &settings, output).await,
        Verb::Annotator(verb) => annotator::run(verb, &settings, output).await,
        Verb::Agreement(args) => agreement::run(args, &settings, output).await,
        Verb::Assignment(verb) => assignment::run(verb, &settings, output).await,
        Verb::Goal(verb) => goal::run(verb, &settings, output).await,
        Verb::Rebuild(args) => rebuild::run(args, &settings, output).await,
        Verb::Retention(args) => retention::run(args, &settings, output).await,
        Verb::Restore => restore::run(&settings, output).await,
        Verb::Storage => storage::run(&settings, output).await,
        Verb::Bench(args) => bench::run(args, settings, output).await,
        Verb::Config(verb) => config::run(verb, &settings, output),
        Verb::Settings => {
            settings::run(output);
            Ok(())
        }
        Verb::Completions(args) => {
            completions::completions(&args, Cli::documented(), output);
            Ok(())
        }
        Verb::Man(args) => completions::man(&args, Cli::documented(), output),
    }
}
