//! Every form of event that was ever written still loads. The files of `fixtures/events/v*` are
//! streams as stored, and are never edited.

use glyph_workflow_engine::{
    StateRebuilder, WorkflowEvent,
    events::{EVENT_SCHEMA_VERSION, StoredEvent, upcast},
};
use serde_json::Value;

use crate::scenario::Scenario;

const V1: &str = include_str!("../fixtures/events/v1/stream.jsonl");
/// What this build writes. Optional keys may be added to a form of a version: then this file is
/// made anew, while the others stay as they were written.
const WRITTEN: &str = include_str!("../fixtures/events/v1/written.jsonl");

fn stored(line: &str) -> StoredEvent {
    let row: Value = serde_json::from_str(line).unwrap();
    let version = u16::try_from(row["metadata"]["schema_version"].as_u64().unwrap()).unwrap();
    let event = upcast(
        row["event_type"].as_str().unwrap(),
        version,
        &row["event_data"].to_string(),
    )
    .unwrap();
    StoredEvent {
        event_id: serde_json::from_value(row["event_id"].clone()).unwrap(),
        task_id: serde_json::from_value(row["stream_id"].clone()).unwrap(),
        version: row["version"].as_u64().unwrap(),
        occurred_at: serde_json::from_value(row["occurred_at"].clone()).unwrap(),
        metadata: serde_json::from_value(row["metadata"].clone()).unwrap(),
        event,
    }
}

#[test]
fn the_golden_streams_replay_to_their_end() {
    for stream in [V1, WRITTEN] {
        let events: Vec<StoredEvent> = stream.lines().map(stored).collect();
        let state = StateRebuilder::rebuild(&events).unwrap().unwrap();
        assert_eq!(state.version, u64::try_from(events.len()).unwrap());
        assert_eq!(state.output.unwrap()["result"], "b");
    }
}

#[test]
fn what_this_build_writes_is_what_it_stored_before() {
    let written: Vec<String> = golden_scenario()
        .log
        .iter()
        .map(|e| serde_json::to_value(e).unwrap().to_string())
        .collect();
    let stored: Vec<String> = WRITTEN
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap().to_string())
        .collect();
    assert_eq!(
        written, stored,
        "a changed form needs a new schema version and an upcaster"
    );
}

#[test]
fn a_later_schema_version_is_refused_by_name() {
    let error = upcast("step_completed", EVENT_SCHEMA_VERSION + 1, "{}").unwrap_err();
    assert!(error.to_string().contains("step_completed"), "{error}");
}

#[test]
fn every_type_is_listed() {
    for event in golden_scenario().log {
        assert!(WorkflowEvent::TYPES.contains(&event.event.event_type()));
    }
}

/// The task whose stream is the golden file.
fn golden_scenario() -> Scenario {
    let mut scenario = Scenario::started(
        "workflow: { id: golden, template: multi_adjudication, overrides: { steps: { annotate: { consensus: { field: label } } } } }",
    );
    scenario.assign("annotate", 1);
    scenario.activity("annotate", 1);
    scenario.label("annotate", 1, "a");
    scenario.pause(None);
    scenario.control(glyph_workflow_engine::command::Command::Resume);
    scenario.label("annotate", 2, "b");
    scenario.label("adjudicate", 3, "b");
    scenario
}
