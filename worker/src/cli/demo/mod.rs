//! `glyph demo`: the whole worker on sample data, without services and without configuration.
//!
//! Queue, pipeline, store and outbox are the real ones, in embedded mode. Only the people are
//! simulated: annotators of different quality, who make the same mistakes in every run.

mod people;
mod run;
mod scenario;
mod summary;

pub(super) use run::{DemoArgs, run};
