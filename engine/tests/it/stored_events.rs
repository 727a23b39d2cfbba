//! Every form of event that was ever written still loads. The files of `fixtures/events/v*` are
//! streams as stored, and are never edited.

mod stories;

use std::collections::BTreeSet;

use glyph_workflow_engine::{
    StateRebuilder, WorkflowEvent, WorkflowSnapshot,
    events::{EVENT_SCHEMA_VERSION, StoredEvent, upcast},
    state::TaskStatus,
};
use serde_json::Value;

use self::stories::stories;

/// A task as it was first stored.
const V1: &str = include_str!("../fixtures/events/v1/stream.jsonl");
/// Tasks with every type of event, one after the other.
const EVERY_TYPE: &str = include_str!("../fixtures/events/v1/every_type.jsonl");
/// What this build writes of the same tasks. Optional keys may be added to a form of a version: then
/// this file is made anew by `UPDATE_SCHEMAS=1`, while the others stay as they were written.
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

/// The streams of a file that has every type of event.
pub(crate) fn every_type() -> Vec<Vec<StoredEvent>> {
    let events: Vec<StoredEvent> = EVERY_TYPE.lines().map(stored).collect();
    let streams = events.chunk_by(|_, next| next.version != 1);
    streams.map(<[_]>::to_vec).collect()
}

/// The last states of the streams of a file. Each begins with version 1.
fn replayed(file: &str) -> Vec<WorkflowSnapshot> {
    let events: Vec<StoredEvent> = file.lines().map(stored).collect();
    let streams = events.chunk_by(|_, next| next.version != 1);
    streams
        .map(|stream| {
            let state = StateRebuilder::rebuild(stream).unwrap().unwrap();
            assert_eq!(state.version, u64::try_from(stream.len()).unwrap());
            state
        })
        .collect()
}

#[test]
fn the_golden_streams_replay_to_their_end() {
    let first = replayed(V1);
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].output.as_ref().unwrap()["result"], "b");
    let told: Vec<_> = stories()
        .into_iter()
        .filter_map(|story| story.state)
        .collect();
    for state in &told {
        assert_ne!(state.status, TaskStatus::Running, "{:?}", state.workflow);
    }
    for file in [EVERY_TYPE, WRITTEN] {
        assert_eq!(replayed(file), told);
    }
}

#[test]
fn a_golden_stream_has_every_type() {
    for file in [EVERY_TYPE, WRITTEN] {
        let types = file.lines().map(|line| stored(line).event.event_type());
        assert_eq!(
            types.collect::<BTreeSet<_>>(),
            BTreeSet::from(WorkflowEvent::TYPES)
        );
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "it writes the file of a new form"
)]
fn what_this_build_writes_is_what_it_stored_before() {
    let written: Vec<String> = stories()
        .iter()
        .flat_map(|story| &story.log)
        .map(|event| serde_json::to_value(event).unwrap().to_string())
        .collect();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/events/v1/written.jsonl"
        );
        std::fs::write(path, written.join("\n") + "\n").unwrap();
        return;
    }
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
fn an_event_of_a_visit_that_is_not_there_is_refused() {
    let mut refused = BTreeSet::new();
    for stream in every_type() {
        for (at, event) in stream.iter().enumerate() {
            let mut row = serde_json::to_value(event).unwrap();
            let Some(visit) = row["event_data"].get_mut("visit") else {
                continue;
            };
            *visit = Value::from(99);
            let mut stream = stream[..at].to_vec();
            stream.push(stored(&row.to_string()));
            if StateRebuilder::rebuild(&stream).is_err() {
                refused.insert(event.event.event_type());
            } else {
                // An incident only names the visit.
                let name = event.event.event_type();
                assert!(name.starts_with("incident_"), "{name}");
            }
        }
    }
    assert!(
        refused.contains("gold_scored") && refused.len() > 15,
        "{refused:?}"
    );
}

#[test]
fn a_later_schema_version_is_refused_by_name() {
    let error = upcast("step_completed", EVENT_SCHEMA_VERSION + 1, "{}").unwrap_err();
    assert!(error.to_string().contains("step_completed"), "{error}");
}
