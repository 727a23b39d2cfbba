//! The command-line arguments.

use std::{ffi::OsString, iter::successors};

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{
    agreement::AgreementArgs,
    annotator::AnnotatorVerb,
    assignment::AssignmentVerb,
    backtest,
    backtest::BacktestArgs,
    bench::BenchArgs,
    completions::{CompletionsArgs, ManArgs},
    config::ConfigVerb,
    dead_letter::DeadLetterVerb,
    demo::DemoArgs,
    events::EventsVerb,
    goal::GoalVerb,
    incident::IncidentVerb,
    job::JobVerb,
    labels::LabelsVerb,
    needs,
    outbox::OutboxVerb,
    output::Format,
    publish::PublishArgs,
    rebuild::RebuildArgs,
    rejected::RejectedVerb,
    retention::RetentionArgs,
    settings,
    task::TaskVerb,
    topology::TopologyVerb,
    worker::WorkerArgs,
    workflow::WorkflowVerb,
};
use crate::{settings::SettingsFlags, verbs::operations_of};

/// Queue-driven annotation workflows.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 invalid input file, 4 a service
/// cannot be reached.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "glyph",
    version,
    propagate_version = true,
    after_help = TRY,
    infer_subcommands = false
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Verb,
    /// Output format; json is stable for scripts
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// The words of the verb, as `task start`.
    #[arg(skip)]
    pub(super) verb: String,
    /// Where services are, and how to use them
    #[command(flatten)]
    pub settings: SettingsFlags,
}

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Run the worker: consume commands, publish messages, run timers, serve HTTP
    Worker(WorkerArgs),
    /// Run sample data through the whole pipeline, without any service
    Demo(DemoArgs),
    /// Show the deployment at a glance; needs no running worker
    Status,
    /// Migrate the database to the schema of this version
    Migrate,
    /// Validate, simulate, store, list, draw and pause workflows
    #[command(subcommand)]
    Workflow(WorkflowVerb),
    /// Start, inspect and control tasks, and submit work
    #[command(subcommand)]
    Task(TaskVerb),
    /// List open incidents
    #[command(subcommand)]
    Incident(IncidentVerb),
    /// Tell why tasks do not go on, grouped by cause, and who holds slots
    Stuck,
    /// Enqueue commands from a file of JSON lines
    Publish(PublishArgs),
    /// List, show, edit, replay and drop commands that could not be read or decided
    #[command(subcommand)]
    DeadLetter(DeadLetterVerb),
    /// Print the log as it grows, and send messages of it again
    #[command(subcommand)]
    Events(EventsVerb),
    /// List messages that the broker has refused, and give one up
    #[command(subcommand)]
    Outbox(OutboxVerb),
    /// Declare the exchanges and queues on RabbitMQ, or take a prefix over
    #[command(subcommand)]
    Topology(TopologyVerb),
    /// List, show, edit, replay and drop commands that were rejected
    #[command(subcommand)]
    Rejected(RejectedVerb),
    /// List, show and stop bulk work of the workers, such as replays
    #[command(subcommand)]
    Job(JobVerb),
    /// Export labels, list likely errors, look back, show calibration
    #[command(subcommand)]
    Labels(LabelsVerb),
    /// Decide recorded tasks again under other settings, and compare
    #[command(after_help = backtest::HELP)]
    Backtest(BacktestArgs),
    /// List and show annotators with their accuracy, pause and resume them
    #[command(subcommand)]
    Annotator(AnnotatorVerb),
    /// Show agreement of annotators over the newest items of each step and field
    Agreement(AgreementArgs),
    /// List the slots that a person has claimed, claim the next one, release them
    #[command(subcommand)]
    Assignment(AssignmentVerb),
    /// List goals and their progress, and complete one by hand
    #[command(subcommand)]
    Goal(GoalVerb),
    /// Rebuild all derived data from the event log
    Rebuild(RebuildArgs),
    /// Show how large each table of the database is
    Storage,
    /// Delete what is of no further use, and archive tasks that have ended
    Retention(RetentionArgs),
    /// Make a database that was restored to an earlier time fit to go on
    ///
    /// Stop every worker first. The log gets a new id, so that what happens anew has new ids for
    /// consumers; checkpoints beyond the log, leases and jobs of before are ended.
    Restore,
    /// Benchmark the full pipeline
    Bench(BenchArgs),
    /// Check the settings
    #[command(subcommand)]
    Config(ConfigVerb),
    /// List every setting with its flag, environment variable and default
    #[command(after_help = settings::help())]
    Settings,
    /// Print completions for a shell
    Completions(CompletionsArgs),
    /// Write man pages, one for each command
    Man(ManArgs),
}

/// Where to begin.
const TRY: &str = "Try it without any service: glyph demo";
/// Appended to the help of every verb, which shows only the verb's own arguments.
const POINTER: &str =
    "Settings, such as --database-url, or --api to ask a worker over HTTP: glyph help settings";

impl Cli {
    /// The commands, each with what its help says.
    pub(super) fn documented() -> clap::Command {
        let command = Self::command().mut_subcommands(|verb| pointing(verb, ""));
        command.after_help(format!("{TRY}\n\n{POINTER}"))
    }

    /// Reads the arguments of a process.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::documented();
        let mut matches = command.try_get_matches_from_mut(arguments)?;
        let verb = words(&matches);
        let read = Self::from_arg_matches_mut(&mut matches);
        let read = read.map_err(|error| error.format(&mut command))?;
        Ok(Self { verb, ..read })
    }
}

/// The words of the verb that was given.
fn words(matches: &ArgMatches) -> String {
    let chain = successors(matches.subcommand(), |(_, below)| below.subcommand());
    chain.map(|(word, _)| word).collect::<Vec<_>>().join(" ")
}

/// Appends to the help of a command and of its verbs what they need, which operations do the same,
/// and [`POINTER`]. `path` has the
/// words before the command, each with a space behind it.
fn pointing(command: clap::Command, path: &str) -> clap::Command {
    let verb = format!("{path}{}", command.get_name());
    let below = format!("{verb} ");
    let command = command.mut_subcommands(|verb| pointing(verb, &below));
    let need = needs::of(&verb).map(|need| format!("Needs: {need}"));
    let operations = operations_of(&verb);
    let over_http = (!operations.is_empty()).then(|| format!("HTTP: {}", operations.join(", ")));
    let pointer = (verb != "settings").then(|| POINTER.to_owned());
    let told: Vec<String> = [need, over_http, pointer].into_iter().flatten().collect();
    let help = command.get_after_help().map(ToString::to_string);
    let help: Vec<String> = help.into_iter().chain([told.join("\n")]).collect();
    command.after_help(help.join("\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help_of(arguments: &[&str]) -> String {
        let arguments = arguments.iter().map(OsString::from);
        let shown = Cli::read(arguments.chain(["--help".into()])).unwrap_err();
        shown.render().to_string()
    }

    #[test]
    fn the_help_of_a_verb_shows_what_it_takes_and_where_settings_are_explained() {
        let submit = help_of(&["glyph", "task", "submit"]);
        assert!(submit.contains("--decision <DECISION>") && submit.contains("--output <FORMAT>"));
        for verb in [
            &["glyph"][..],
            &["glyph", "worker"],
            &["glyph", "workflow", "dry-run"],
        ] {
            let help = help_of(verb);
            assert!(!help.contains("--database-url <URL>"), "{help}");
            assert!(help.trim_end().ends_with(POINTER), "{help}");
        }
    }

    #[test]
    fn settings_are_explained_in_one_place_and_taken_everywhere() {
        let asked = ["glyph", "help", "settings"].map(OsString::from);
        let shown = Cli::read(asked).unwrap_err().render().to_string();
        for setting in SettingsFlags::documented() {
            assert!(shown.contains(&setting.flag), "{}", setting.flag);
        }
        let given = ["glyph", "task", "list", "--lanes", "3"].map(OsString::from);
        assert_eq!(
            Cli::read(given).unwrap().settings.lanes.as_deref(),
            Some("3")
        );
    }
}
