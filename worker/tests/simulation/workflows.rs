//! The shapes of workflows that a run chooses from.

use std::sync::LazyLock;

use glyph_workflow_engine::{WorkflowConfig, parse_workflow};

/// A shape: its file, and the steps to which people submit.
pub(crate) struct Shape {
    pub(crate) id: &'static str,
    pub(crate) steps: &'static [&'static str],
    yaml: &'static str,
}

impl Shape {
    /// Whether it, or a workflow that it runs, has goals.
    pub(crate) fn has_goals(&self) -> bool {
        self.yaml.contains("goals:") || self.yaml.contains("workflow: single")
    }
}

pub(crate) static SHAPES: [Shape; 8] = [
    Shape {
        id: "single",
        steps: &["annotate"],
        yaml: "
workflow:
  id: single
  steps: [{ id: annotate, type: annotation }]
goals: [{ id: all, type: volume, target: 3, on_complete: [notify] }]
",
    },
    Shape {
        id: "overlap",
        steps: &["annotate"],
        yaml: "
workflow:
  id: overlap
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { field: label, on_disagreement: { strategy: majority_vote } }
goals:
  - { id: all, type: volume, target: 2, on_complete: [notify] }
  - { id: agreed, type: quality, metric: agreement, target: 0.5, min_samples: 2, on_complete: [notify] }
",
    },
    Shape {
        id: "adjudicated",
        steps: &["annotate", "adjudicate"],
        yaml: "
workflow:
  id: adjudicated
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { metric: percent_agreement, field: label }
    - { id: adjudicate, type: adjudication }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
",
    },
    Shape {
        id: "reviewed",
        steps: &["annotate", "review"],
        yaml: "
workflow:
  id: reviewed
  steps:
    - { id: annotate, type: annotation, field: label }
    - { id: review, type: review }
    - { id: expert, type: adjudication }
  transitions:
    - { from: annotate, to: review }
    - { from: review, to: _complete, condition: { type: on_agreement } }
    - from: review
      to: annotate
      condition: { type: on_disagreement }
      loop: { max_iterations: 2, on_exhausted: expert }
    - { from: expert, to: _complete }
",
    },
    Shape {
        id: "called",
        steps: &["annotate"],
        yaml: "
workflow:
  id: called
  steps:
    - { id: suggest, type: auto_process, handler: webhook, config: { url: 'https://models.example.org/' } }
    - { id: annotate, type: annotation, field: label }
    - { id: done, type: auto_process, handler: finalize }
  transitions:
    - { from: suggest, to: annotate }
    - { from: annotate, to: done }
    - { from: done, to: _complete }
",
    },
    Shape {
        id: "timed",
        steps: &["annotate"],
        yaml: "
workflow:
  id: timed
  steps:
    - id: annotate
      type: annotation
      completion:
        type: annotation_count
        count: 3
        min_required: 1
        timeout: 20s
        timeout_action: proceed
      consensus: { field: label, on_disagreement: { strategy: majority_vote } }
",
    },
    Shape {
        id: "outer",
        steps: &["begin"],
        yaml: "
workflow:
  id: outer
  steps:
    - { id: begin, type: annotation, field: label }
    - { id: inner, type: sub_workflow, workflow: single }
  transitions:
    - { from: begin, to: inner }
    - { from: inner, to: _complete }
",
    },
    Shape {
        id: "sure",
        steps: &["annotate"],
        yaml: "
workflow:
  id: sure
  steps:
    - id: annotate
      type: annotation
      field: label
      completion: { type: confidence, target: 0.9, min: 2, max: 3 }
",
    },
];

/// The shapes, read and checked once: reading a file takes longer than a run.
pub(crate) static CONFIGS: LazyLock<Vec<WorkflowConfig>> = LazyLock::new(|| {
    let read = |shape: &Shape| match parse_workflow(shape.yaml) {
        Ok(config) => config,
        Err(error) => panic!("{}: {error}", shape.id),
    };
    SHAPES.iter().map(read).collect()
});
