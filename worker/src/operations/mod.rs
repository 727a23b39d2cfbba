//! Operations shared by HTTP and the command line, so that both give the same answers.
//!
//! An operation takes the store or the orchestrator and returns a document or a typed error. The
//! caller decides how the document looks as a page or a table, and which status or exit code an
//! error becomes.

pub mod agreement;
pub mod annotators;
pub mod answers;
pub mod archive;
pub mod assignments;
pub mod backtest;
pub mod explain;
pub mod feed;
pub mod goals;
pub mod import;
pub mod incidents;
pub mod jobs;
pub mod labels;
pub mod letters;
pub mod migration;
pub mod outbox;
pub mod outcome;
pub mod own_work;
pub mod secrets;
pub mod status;
pub mod stuck;
pub mod tasks;
pub mod text_file;
pub mod trial;
pub mod waiting;
pub mod workflows;
