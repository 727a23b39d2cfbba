//! Imports data sets and the exports of annotation tools: each record becomes the commands that start
//! its task and submit the judgements in it.
//!
//! ```text
//! file ─> rows ─> converter of the format ─> record ─> question of the step ─> commands
//! ```
//!
//! A converter knows one tool. It says what a record holds ([`Part`](record::Part)s by name) and nothing
//! of workflows; the question of the step decides how an answer is written and whether it is one.
//! Rows are read one at a time, so that the length of a file does not matter.

mod coco;
mod commands;
mod crowd;
mod detect;
mod doccano;
mod fit;
mod gathering;
mod label_studio;
mod mapping;
mod offsets;
mod plain;
mod prodigy;
mod question;
mod reading;
mod record;
mod rows;
mod time;

pub use commands::ImportedCommand;
pub use detect::ImportFormat;
pub use gathering::{Gathered, Imported};
pub use mapping::{ImportOnly, MapTarget, Mapping, parse_map, parse_offset};
pub use question::StepQuestion;
pub use reading::{Import, ImportFault, ImportRequest};
pub use record::Refusal;
