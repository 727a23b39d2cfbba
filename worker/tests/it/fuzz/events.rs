//! Stored events: rows of a stream, one a line.

use glyph_workflow_engine::{
    StateRebuilder, WorkflowSnapshot, derive_timers,
    events::{EVENT_SCHEMA_VERSION, StoredEvent, upcast},
};
use serde_json::Value;

use super::{Target, check_text, files, kind_of};

pub(super) fn target() -> Target {
    Target {
        name: "events",
        samples: files("engine/tests/fixtures/events/v1", ".jsonl"),
        words: &[
            "null",
            "true",
            "{}",
            "[]",
            "\"\"",
            "0",
            "-1",
            "1e300",
            "4294967296",
            "18446744073709551615",
            "\\u0000",
            "\"visit\":2",
            "\"schema_version\":0",
            "\"schema_version\":2",
            "workflow_started",
            "step_completed",
            "step_activated",
            "annotation_submitted",
            "task_assigned",
            "workflow_completed",
            "workflow_paused",
            "incident_opened",
            "annotate",
            "adjudicate",
            "_complete",
            "\n",
            "2026-01-01T00:00:00Z",
        ],
        check,
    }
}

fn check(input: &[u8]) -> String {
    let mut rebuilder = StateRebuilder::new();
    let (mut version, mut happened) = (0, String::new());
    let rows = input.split(|byte| *byte == b'\n');
    for row in rows.filter_map(|line| serde_json::from_slice::<Value>(line).ok()) {
        let (Some(event_type), Some(schema)) = (
            row["event_type"].as_str(),
            row["metadata"]["schema_version"].as_u64(),
        ) else {
            continue;
        };
        let schema = u16::try_from(schema).unwrap_or(u16::MAX);
        let event = match upcast(event_type, schema, &row["event_data"].to_string()) {
            Ok(event) => event,
            Err(error) => {
                check_text(&error.to_string());
                return format!("unread: {}", kind_of(&error.to_string()));
            }
        };
        // In its newest form it is the same event.
        let newest = serde_json::to_value(&event).unwrap();
        let (data, newest_type) = (newest["event_data"].to_string(), event.event_type());
        assert_eq!(
            upcast(newest_type, EVENT_SCHEMA_VERSION, &data).unwrap(),
            event
        );
        let read = |key: &str| row[key].clone();
        let (Ok(event_id), Ok(task_id), Ok(metadata), Ok(occurred_at)) = (
            serde_json::from_value(read("event_id")),
            serde_json::from_value(read("stream_id")),
            serde_json::from_value(read("metadata")),
            serde_json::from_value(read("occurred_at")),
        ) else {
            continue;
        };
        version += 1;
        let stored = StoredEvent {
            event_id,
            task_id,
            version,
            occurred_at,
            metadata,
            event,
        };
        if let Err(error) = rebuilder.apply(&stored) {
            check_text(&error.to_string());
            happened = format!(", then {}", kind_of(&error.to_string()));
            break;
        }
    }
    let Some(state) = rebuilder.finish() else {
        return format!("nothing{happened}");
    };
    derive_timers(&state);
    let kept = serde_json::to_string(&state).unwrap();
    let read: WorkflowSnapshot = serde_json::from_str(&kept).unwrap();
    assert_eq!(read, state, "a snapshot is read as it is written");
    format!("{:?} at {version}{happened}", state.status)
}
