//! Behaviour of the engine through its public API, one module for each area.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agreement_golden;
mod desk;
mod fields;
mod gold;
mod orchestrator;
mod parser_diagnostics;
mod properties;
mod reliability;
mod scenarios;
mod stored_events;
mod stores;
mod sub_workflows;
mod tidy;
