//! `glyph demo`: everything at work on sample data, without any service and without configuration.
//!
//! What runs is the real thing, queue, pipeline, store and outbox, on its embedded parts. Only the
//! people are made up: annotators of different quality, whose slips are the same in every run.

mod people;
mod run;
mod scenario;
mod summary;

pub(super) use run::{DemoArgs, run};
