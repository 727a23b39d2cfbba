//! Behaviour of the engine through its public API, one module for each area.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod agreement_golden;
mod answers;
mod backtest;
mod calls;
mod confidence;
mod crowd;
mod examples;
mod explore;
mod fields;
mod goals;
mod gold;
mod hooks;
mod judges;
mod language_page;
mod offered_verbs;
mod orchestrator;
mod pairs;
mod parser_diagnostics;
mod properties;
mod reliability;
mod sampling;
mod scenario;
mod scenarios;
mod scripts;
mod sound_workflows;
mod stored_events;
mod stores;
mod sub_workflows;
mod tidy;
