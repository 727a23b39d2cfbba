//! The options.

use std::path::PathBuf;

use clap::Args;

use super::workload::Workload;

/// Options of the benchmark.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Shapes of work, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WORKLOADS", default_values = ["single", "overlap10"])]
    pub(super) workload: Vec<Workload>,
    /// Commands to enqueue before the worker starts
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(super) commands: u64,
    /// How often everything is run
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) rounds: u32,
    /// Length of the second part of each run, at a steady pace, in seconds; 0 skips it. It measures
    /// latency, on RabbitMQ only
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub(super) paced_secs: u64,
    /// Commands a second of the second part; half the speed of the first if not given
    #[arg(long, value_name = "COMMANDS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) pace: Option<u32>,
    /// Workers that share the queues
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=16))]
    pub(super) workers: u64,
    /// A program without logic to compare with, run in turn: `cargo build --release -p
    /// glyph-bench-floor` makes target/release/glyph-bench-floor
    #[arg(long, value_name = "PROGRAM")]
    pub(super) floor: Option<PathBuf>,
}
