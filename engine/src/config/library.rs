//! Reusable steps and whole-workflow templates, as YAML values.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Steps by name, without an `id`; a workflow takes one by `ref: NAME`.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLibrary {
    steps: BTreeMap<String, Value>,
}

impl Default for StepLibrary {
    fn default() -> Self {
        Self::built_in()
    }
}

impl StepLibrary {
    /// A library without steps.
    pub fn empty() -> Self {
        Self {
            steps: BTreeMap::new(),
        }
    }

    /// The steps that every workflow can reference: `standard-annotation`, `dual-annotation`,
    /// `review`, `adjudication`, `agreement-check`.
    pub fn built_in() -> Self {
        let mut library = Self::empty();
        library.insert(
            "standard-annotation",
            json!({"type": "annotation", "completion": {"type": "annotation_count", "count": 1}}),
        );
        library.insert(
            "dual-annotation",
            json!({
                "type": "annotation",
                "completion": {"type": "annotation_count", "count": 2, "unique_annotators": true},
                "consensus": {
                    "metric": "percent_agreement",
                    "threshold": 1.0,
                    "on_agreement": {"method": "majority_vote"},
                    "on_disagreement": {"strategy": "adjudication"}
                }
            }),
        );
        library.insert(
            "review",
            json!({"type": "review", "assignment": {"prevent_reassignment": true}}),
        );
        library.insert(
            "adjudication",
            json!({"type": "adjudication", "assignment": {"prevent_reassignment": true}}),
        );
        library.insert(
            "agreement-check",
            json!({"type": "auto_process", "handler": "consensus_calculator"}),
        );
        library
    }

    /// Adds or replaces a step: a mapping with the keys of a step but `id`.
    pub fn insert(&mut self, name: &str, step: Value) {
        self.steps.insert(name.to_owned(), step);
    }

    /// The step of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.steps.get(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.steps.keys().map(String::as_str)
    }
}

/// Whole workflows that a file can start from with `template: NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// One person annotates.
    Single,
    /// Two people annotate; an adjudicator decides where they differ.
    MultiAdjudication,
    /// One person annotates, another reviews; a rejection fails the task.
    ReviewRequired,
    /// One person annotates, another reviews; requested changes go back, three times at most.
    IterativeRefinement,
}

impl Template {
    /// Every template.
    pub const ALL: [Self; 4] = [
        Self::Single,
        Self::MultiAdjudication,
        Self::ReviewRequired,
        Self::IterativeRefinement,
    ];

    /// The name in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::MultiAdjudication => "multi_adjudication",
            Self::ReviewRequired => "review_required",
            Self::IterativeRefinement => "iterative_refinement",
        }
    }

    /// The keys of `workflow:` that the template stands for (without `id`).
    pub fn expand(self) -> Value {
        let annotate = |step: &str| json!({"id": "annotate", "ref": step});
        let decided = |decision: &str| json!({"type": "expression", "expression": format!("result.decision == '{decision}'")});
        match self {
            Self::Single => json!({
                "entry_step": "annotate",
                "steps": [annotate("standard-annotation")],
                "transitions": [{"from": "annotate", "to": "_complete"}]
            }),
            Self::MultiAdjudication => json!({
                "entry_step": "annotate",
                "steps": [annotate("dual-annotation"), {"id": "adjudicate", "ref": "adjudication"}],
                "transitions": [
                    {"from": "annotate", "to": "_complete", "condition": {"type": "on_agreement"}},
                    {"from": "annotate", "to": "adjudicate", "condition": {"type": "on_disagreement"}},
                    {"from": "adjudicate", "to": "_complete"}
                ]
            }),
            Self::ReviewRequired => json!({
                "entry_step": "annotate",
                "steps": [annotate("standard-annotation"), {"id": "review", "ref": "review"}],
                "transitions": [
                    {"from": "annotate", "to": "review"},
                    {"from": "review", "to": "_complete", "condition": {"type": "on_agreement"}},
                    {"from": "review", "to": "_failed", "condition": {"type": "on_disagreement"}}
                ]
            }),
            Self::IterativeRefinement => json!({
                "entry_step": "annotate",
                "steps": [annotate("standard-annotation"), {"id": "review", "ref": "review"}],
                "transitions": [
                    {"from": "annotate", "to": "review"},
                    {"from": "review", "to": "_complete", "condition": {"type": "on_agreement"}},
                    {
                        "from": "review", "to": "annotate",
                        "condition": decided("request_changes"),
                        "loop": {"max_iterations": 3, "on_exhausted": "_failed"}
                    },
                    {"from": "review", "to": "_failed", "condition": decided("reject")}
                ]
            }),
        }
    }
}
