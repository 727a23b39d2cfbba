//! What is done: workflows, and the commands of their tasks.

use clap::ValueEnum;
use serde_json::{Value, json};
use uuid::Uuid;

/// A shape of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Workload {
    /// One annotator a task: each command leads to the whole life of a task
    Single,
    /// Ten annotators a task
    Overlap10,
    /// Few tasks with many racers: fifty annotators a task, whose commands come mixed
    Hot,
    /// Three annotators who disagree in one of three tasks, an adjudication, an automatic step, and a
    /// step that ends by confidence
    Mixed,
    /// Long streams: a place given and taken back two hundred times a task
    Replay,
    /// One annotator a task, with 100 KB of data
    Large,
}

/// A command, ready to be enqueued.
pub(super) struct Load {
    /// Its type, and routing key.
    pub(super) kind: &'static str,
    /// Its id.
    pub(super) id: Uuid,
    /// Its body.
    pub(super) body: Vec<u8>,
}

/// Tasks of [`Workload::Hot`] that are worked on at a time.
const HOT_TASKS: u64 = 16;
/// Bytes of the data of [`Workload::Large`].
const LARGE_BYTES: usize = 100_000;

const SINGLE: &str = "
workflow:
  id: glyph-bench
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: COUNT }
      consensus: { field: label, threshold: 0.0 }
";
const MIXED: &str = "
workflow:
  id: glyph-bench
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 3 }
      consensus: { field: label, threshold: 0.9, on_disagreement: { strategy: adjudication } }
    - { id: expert, type: adjudication }
    - { id: merge, type: auto_process, handler: result_merger }
    - id: check
      type: annotation
      completion: { type: confidence, target: 0.6, min: 1, max: 2 }
      answer: { field: label, kind: category, values: [positive, negative, neutral] }
  transitions:
    - { from: annotate, to: merge, condition: { type: on_agreement } }
    - { from: annotate, to: expert, condition: { type: on_disagreement } }
    - { from: expert, to: merge }
    - { from: merge, to: check }
    - { from: check, to: _complete }
";

impl Workload {
    /// The name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Overlap10 => "overlap10",
            Self::Hot => "hot",
            Self::Mixed => "mixed",
            Self::Replay => "replay",
            Self::Large => "large",
        }
    }

    /// The workflow's file.
    pub(super) fn workflow(self) -> String {
        let count = |count: u64| SINGLE.replace("COUNT", &count.to_string());
        match self {
            Self::Single | Self::Large | Self::Replay => count(1),
            Self::Overlap10 => count(10),
            Self::Hot => count(50),
            Self::Mixed => MIXED.to_owned(),
        }
    }

    /// Command `index` of a run.
    pub(super) fn load(self, run: Uuid, index: u64) -> Load {
        match self {
            Self::Single => submission(run, index, 0, "annotate", &label(index)),
            Self::Overlap10 => submission(run, index / 10, index % 10, "annotate", &label(index)),
            Self::Hot => {
                // Rounds of the same tasks, so that neighbours in the queue race for different
                // places of a few tasks.
                let of_group = HOT_TASKS * 50;
                let (group, at) = (index / of_group, index % of_group);
                let task = group * HOT_TASKS + at % HOT_TASKS;
                submission(run, task, at / HOT_TASKS, "annotate", &label(index))
            }
            Self::Mixed => {
                let (task, at) = (index / 5, index % 5);
                let disagrees = task % 3 == 0;
                let text = if disagrees && at == 1 {
                    "negative"
                } else {
                    "positive"
                };
                let step = match at {
                    0..3 => "annotate",
                    // Where all agree nobody adjudicates: a second person checks.
                    3 if disagrees => "expert",
                    _ => "check",
                };
                submission(run, task, at, step, &json!({ "label": text }))
            }
            Self::Replay => {
                let (task, at) = (index / 200, index % 200);
                match at {
                    0 => command("start", json!({"workflow": "glyph-bench"}), run, task),
                    at if at % 2 == 1 => command("assign", place(0), run, task),
                    _ => command("release", place(0), run, task),
                }
            }
            Self::Large => {
                let text = "x".repeat(LARGE_BYTES);
                let data = json!({"label": "positive", "note": text});
                submission(run, index, 0, "annotate", &data)
            }
        }
    }
}

fn label(index: u64) -> Value {
    let labels = ["positive", "negative", "neutral"];
    json!({"label": labels[usize::from((index % 7).min(2) as u8)]})
}

fn person(number: u64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes())
}

fn place(number: u64) -> Value {
    json!({"step_id": "annotate", "user_id": person(number)})
}

fn submission(run: Uuid, task: u64, by: u64, step: &str, data: &Value) -> Load {
    let body = json!({
        "step_id": step,
        "workflow": "glyph-bench",
        "annotation": {"user_id": person(by), "data": data},
    });
    command("submission", body, run, task)
}

fn command(kind: &'static str, mut body: Value, run: Uuid, task: u64) -> Load {
    let id = Uuid::now_v7();
    body["type"] = json!(kind);
    body["command_id"] = json!(id);
    body["task_id"] = json!(Uuid::new_v5(&run, &task.to_be_bytes()));
    Load {
        kind,
        id,
        body: body.to_string().into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use glyph_workflow_engine::parser::parse_workflow;

    use super::*;

    #[test]
    fn every_workload_has_a_sound_workflow_and_readable_commands() {
        for workload in Workload::value_variants() {
            let parsed = parse_workflow(&workload.workflow());
            assert!(parsed.is_ok(), "{workload:?}: {:?}", parsed.err());
            for index in 0..300 {
                let load = workload.load(Uuid::nil(), index);
                let body: Value = serde_json::from_slice(&load.body).unwrap();
                assert_eq!(body["type"], load.kind);
            }
        }
    }
}
