//! Commands as producers send them.

use glyph_worker::{
    broker::Properties,
    wire::{UnreadableCode, read_delivery},
};
use serde_json::{Value, json};

use super::{Target, check_text, kind_of};

pub(super) fn target() -> Target {
    let id = "0190a1b2-0000-7000-8000-000000000001";
    let person = "0190a1b2-0000-7000-8000-0000000000aa";
    let command = |kind: &str, fields: Value| {
        let mut command = json!({"type": kind, "command_id": id, "task_id": id});
        let all = command.as_object_mut().unwrap();
        all.extend(fields.as_object().cloned().unwrap());
        command.to_string().into_bytes()
    };
    let work = json!({"user_id": person, "data": {"label": "yes", "spans": [{"start": 1, "end": 2.5}]},
        "time_spent_ms": 1200, "roles": ["expert"], "confidence": 0.75});
    Target {
        name: "commands",
        samples: vec![
            command(
                "start",
                json!({"workflow": "a@2", "input": {"text": "…", "n": 1e300}, "labels": {"a": "b"}}),
            ),
            command(
                "start",
                json!({"workflow": {"id": "a", "revision": 3}, "expected": {"label": "x"}}),
            ),
            command(
                "submission",
                json!({"step_id": "annotate", "annotation": work, "workflow": "a"}),
            ),
            command(
                "advance",
                json!({"step_id": "job", "result": {"value": [1, null, true]}, "reason": "r"}),
            ),
            command(
                "assign",
                json!({"step_id": "annotate", "user_id": person, "roles": ["a"]}),
            ),
            command("release", json!({"step_id": "annotate", "user_id": person})),
            command(
                "activity",
                json!({"step_id": "annotate", "user_id": person, "draft": {"label": "y"}}),
            ),
            command(
                "pause",
                json!({"reason": "lunch", "until": "2026-01-01T00:00:00Z"}),
            ),
            command("resume", json!({"reason": "back", "step_id": "annotate"})),
            command("cancel", json!({"reason": "no"})),
            command("retry", json!({"step_id": "call"})),
            command("migrate", json!({"to": 4, "steps": {"a": "b"}})),
        ],
        words: &[
            "null",
            "true",
            "[]",
            "{}",
            "\"\"",
            "0",
            "-1",
            "1e400",
            "18446744073709551616",
            "0.1",
            "\"type\":\"submission\",",
            "\"task_id\"",
            "\"step_id\":\"\",",
            "\\u0000",
            "\\ud800",
            "\u{feff}",
            "[[[[[[[[",
            "{\"a\":",
            "\"annotation\":",
            "dry_run",
            "start",
            "migrate",
        ],
        check,
    }
}

fn check(input: &[u8]) -> String {
    let properties = Properties::default();
    let read = match read_delivery(input, &properties) {
        Ok(read) => read,
        Err(refused) => {
            check_text(&refused.error);
            let is_large = input.len() > glyph_workflow_engine::limits::COMMAND_BYTES_MAX;
            assert_eq!(refused.code == UnreadableCode::TooLarge, is_large);
            return format!("{}: {}", refused.code.as_str(), kind_of(&refused.error));
        }
    };
    let kind = read.envelope.command.type_name();
    let mut printed = read.envelope.command.payload();
    printed["type"] = kind.into();
    printed["command_id"] = json!(read.envelope.command_id);
    let again = read_delivery(printed.to_string().as_bytes(), &properties)
        .unwrap_or_else(|refused| panic!("{refused}, in {printed}"));
    assert_eq!(again.envelope.command, read.envelope.command);
    assert_eq!(again.envelope.content_hash, read.envelope.content_hash);
    assert_eq!(again.ignored.paths, Vec::<String>::new());
    format!("{kind}, ignored {}", read.ignored.count)
}
