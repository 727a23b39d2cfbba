//! Given a workflow and a history, a command leads to exactly these events.

mod agreement;
mod cancels;
mod claims;
mod expressions;
mod incidents;
mod joins;
mod loops;
mod pauses;
mod reviews;
mod routing;
mod subjects;
mod submissions;

use glyph_workflow_engine::ids::Slug;

fn slug(name: &str) -> Slug {
    Slug::new(name).unwrap()
}

/// Two people label, and a third decides if they differ.
const DUAL: &str = "
workflow:
  id: dual
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2, timeout: 1h }
      consensus: { field: label }
    - { id: adjudicate, type: adjudication, assignment: { required_roles: [adjudicator] } }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
";

/// One annotation step with this `completion`; `rest` follows it.
fn with_completion(completion: &str, rest: &str) -> String {
    format!(
        "workflow:\n  id: one\n  steps:\n    - id: annotate\n      type: annotation\n      \
         completion: {completion}\n{rest}"
    )
}

/// Labelling and review in a loop.
const REFINEMENT: &str = "workflow: { id: refine, template: iterative_refinement, overrides: { steps: { annotate: { consensus: { field: label } } } } }";

/// A confident answer is final, an unsure one is reviewed first.
const ROUTED: &str = "
workflow:
  id: routed
  steps:
    - { id: annotate, type: annotation }
    - id: sure
      type: conditional
      condition: { expression: 'annotation.confidence >= 0.5' }
      true_branch: done
      false_branch: review
    - { id: review, type: review }
    - { id: done, type: auto_process, handler: finalize, config: { fields: [label] } }
  transitions:
    - { from: annotate, to: sure }
    - { from: review, to: done, condition: { type: expression, expression: 'result.decision == \"approve\"' } }
    - { from: done, to: _complete }
";

/// Annotates, then two parallel branches, which meet in `merge`.
fn forked(merge: &str) -> String {
    format!(
        "
workflow:
  id: forked
  settings: {{ allow_parallel_steps: true }}
  steps:
    - {{ id: read, type: annotation }}
    - {{ id: entities, type: annotation, completion: {{ type: annotation_count, count: 2 }} }}
    - {{ id: topic, type: annotation }}
    - {{ id: merge, type: auto_process, handler: result_merger{merge} }}
  transitions:
    - {{ from: read, to: entities }}
    - {{ from: read, to: topic }}
    - {{ from: entities, to: merge }}
    - {{ from: topic, to: merge }}
"
    )
}
