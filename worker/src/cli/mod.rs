//! The command line: one file for each group of verbs, and `output.rs` for everything printed.

mod annotator;
mod answers;
mod arguments;
mod assignment;
mod bench;
mod config;
mod connect;
mod dead_letter;
mod demo;
mod diagnostics;
mod dry_run;
mod error;
mod expanded;
mod explain;
mod goal;
mod labels;
mod migrate;
mod migration;
mod outbox;
mod output;
mod publish;
mod rebuild;
mod rejected;
mod run;
mod settings;
mod submit;
mod task;
mod values;
mod visualize;
mod worker;
mod workflow;

pub use arguments::Cli;
pub use error::CliError;
pub use output::{Format, Output};
pub use run::{main, run};
