//! The outcome of a script, move by move.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::{
    events::StoredEvent,
    ids::{TaskId, UserId, WorkflowId},
    state::TaskStatus,
};

/// The outcome of a script.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The task.
    pub task_id: TaskId,
    /// Every move, after the start.
    pub steps: Vec<TraceStep>,
    /// The final status of the task.
    pub status: Option<TaskStatus>,
    /// The output of a completed task.
    pub output: Option<Value>,
    /// The reason of a failed or cancelled task.
    pub error: Option<String>,
    /// Open incidents at the end: `CODE at STEP: reason`.
    pub incidents: Vec<String>,
    /// Differences between the end and the script's expectations.
    pub mismatches: Vec<String>,
}

impl Trace {
    /// Whether every move and the end match the script's expectations.
    pub fn as_expected(&self) -> bool {
        self.mismatches.is_empty() && self.steps.iter().all(|step| step.mismatches.is_empty())
    }
}

/// The outcome of one move.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceStep {
    /// Its position among the script's moves, from 1; 0 for the start.
    pub number: usize,
    /// The move, such as `submit to annotate by ada`.
    pub action: String,
    /// When it was made.
    pub at: DateTime<Utc>,
    /// The outcome: `waiting`, `advanced`, `completed`, `failed`, or the code of a rejection.
    pub outcome: String,
    /// What the task waits for, or why the move was rejected.
    pub detail: Option<String>,
    /// The events.
    pub happened: Vec<Happening>,
    /// The active steps afterwards.
    pub active: Vec<String>,
    /// Differences from the script's expectations.
    pub mismatches: Vec<String>,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Happening {
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The task: the script's own, or a child.
    pub task_id: TaskId,
    /// For a child, the path of steps to it: `outer/inner`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Its version after the event.
    pub version: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Value,
    /// The same in one line for people.
    pub text: String,
}

impl Happening {
    pub(super) fn of(
        event: &StoredEvent,
        within: Option<String>,
        people: &BTreeMap<UserId, String>,
    ) -> Self {
        // Plain data with string keys always serializes.
        let value = serde_json::to_value(&event.event).unwrap_or_default();
        Self {
            at: event.occurred_at,
            task_id: event.task_id,
            within,
            version: event.version,
            text: text_of(event.event.event_type(), &value["event_data"], people),
            event: value,
        }
    }
}

/// An event in one line: its kind, its step, and what distinguishes it from others of its kind.
fn text_of(kind: &str, data: &Value, people: &BTreeMap<UserId, String>) -> String {
    let text = |key: &str| data[key].as_str().map(str::to_owned);
    let mut parts = vec![kind.replace('_', " ")];
    let slot = text("step_id").or_else(|| text("from_step"));
    if let Some(step) = slot {
        let visit = data["visit"].as_u64().filter(|visit| *visit > 1);
        parts.push(match visit {
            Some(visit) => format!("{step}, visit {visit}"),
            None => step,
        });
    }
    if let Some(to) = text("to_step") {
        let condition = text("condition_met").unwrap_or_default();
        parts.push(format!("-> {to} ({condition})"));
    }
    let annotation = &data["annotation"];
    let who = data["user_id"]
        .as_str()
        .or_else(|| annotation["user_id"].as_str());
    if let Some(who) = who {
        let name = people.iter().find(|(id, _)| id.to_string() == who);
        parts.push(format!(
            "by {}",
            name.map_or(who, |(_, name)| name.as_str())
        ));
    }
    let mut facts: Vec<String> = Vec::new();
    let mut fact = |name: &str, value: &Value| {
        if !value.is_null() {
            facts.push(format!("{name} {}", shown(value)));
        }
    };
    fact("decision", &annotation["decision"]);
    if !annotation.is_null() {
        fact("data", &annotation["data"]);
    }
    let result = &data["result"];
    for (name, value) in [
        ("decision", &result["decision"]),
        ("value", &result["value"]),
        ("agreement", &result["agreement"]),
        ("resolved by", &result["resolved_by"]),
        ("agreement", &data["agreement"]),
        ("threshold", &data["threshold"]),
        ("slots", &data["places"]),
        ("expires at", &data["expires_at"]),
        ("action", &data["action"]),
        ("code", &data["code"]),
        ("reason", &data["reason"]),
        ("error", &data["error"]),
        ("until", &data["until"]),
        ("retry at", &data["retry_at"]),
    ] {
        fact(name, value);
    }
    if !facts.is_empty() {
        let last = parts.pop().unwrap_or_default();
        parts.push(format!("{last}: {}", facts.join(", ")));
    }
    parts.join(" ")
}

/// The maximum number of characters of a value in a line.
const SHOWN_MAX: usize = 80;

fn shown(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
