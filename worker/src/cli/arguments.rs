//! What can be typed.

use clap::{Parser, Subcommand};

use super::{
    annotator::AnnotatorVerb, bench::BenchArgs, config::ConfigVerb, dead_letter::DeadLetterVerb,
    demo::DemoArgs, goal::GoalVerb, outbox::OutboxVerb, output::Format, publish::PublishArgs,
    rebuild::RebuildArgs, rejected::RejectedVerb, task::TaskVerb, worker::WorkerArgs,
    workflow::WorkflowVerb,
};
use crate::settings::SettingsFlags;

/// Queue-driven annotation workflows.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 invalid input file, 4 a service
/// cannot be reached.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "glyph",
    version,
    propagate_version = true,
    after_help = "Without any service: glyph demo",
    infer_subcommands = false
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Verb,
    /// Form of the output; json is stable for scripts
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Format,
    /// Where services are, and how to use them
    #[command(flatten)]
    pub settings: SettingsFlags,
}

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Consume commands, publish messages, do due work, serve HTTP
    Worker(WorkerArgs),
    /// Show everything at work on sample data, without any service
    Demo(DemoArgs),
    /// Bring the database to what this build needs
    Migrate,
    /// Validate, try, create, list and show workflows
    #[command(subcommand)]
    Workflow(WorkflowVerb),
    /// Start, work on, look at and control tasks
    #[command(subcommand)]
    Task(TaskVerb),
    /// Enqueue commands from a file of JSON lines
    Publish(PublishArgs),
    /// Commands that could not be read or decided
    #[command(subcommand)]
    DeadLetter(DeadLetterVerb),
    /// Messages that wait for the broker
    #[command(subcommand)]
    Outbox(OutboxVerb),
    /// Commands that the state or the rules forbade
    #[command(subcommand)]
    Rejected(RejectedVerb),
    /// How annotators stand, and pausing them
    #[command(subcommand)]
    Annotator(AnnotatorVerb),
    /// Goals and their progress
    #[command(subcommand)]
    Goal(GoalVerb),
    /// Make everything derived anew, from the log
    Rebuild(RebuildArgs),
    /// Measure the whole road under load
    Bench(BenchArgs),
    /// Settings
    #[command(subcommand)]
    Config(ConfigVerb),
}
