//! The items of the demo and their annotators: made up, and the same in every run.

use glyph_workflow_engine::ids::TaskId;
use serde_json::{Value, json};
use uuid::Uuid;

/// The workflows, by id.
pub(super) const WORKFLOWS: [(&str, &str); 3] = [
    (
        "sentiment-dual",
        include_str!("../../../../examples/sentiment-dual.yaml"),
    ),
    ("review", include_str!("../../../../examples/review.yaml")),
    ("single", include_str!("../../../../examples/single.yaml")),
];

/// Tasks of each workflow.
const DUAL_TASKS: usize = 140;
const REVIEW_TASKS: usize = 40;
const SINGLE_TASKS: usize = 20;

/// What customers write, and the right label.
const SAMPLES: [(&str, &str); 12] = [
    ("Arrived a day early and works perfectly.", "positive"),
    ("Stopped charging after a week.", "negative"),
    ("It is a lamp. It lights up.", "neutral"),
    ("My daughter has not put it down since.", "positive"),
    ("The manual is in a language I cannot name.", "negative"),
    ("Box was larger than expected.", "neutral"),
    ("Best kettle I have ever owned!", "positive"),
    ("Great, another cable that frays.", "negative"),
    ("Same as the one it replaces.", "neutral"),
    ("Support answered within minutes, on a Sunday.", "positive"),
    ("Would give zero stars if I could.", "negative"),
    ("Ordered two, got two.", "neutral"),
];
const LABELS: [&str; 3] = ["positive", "negative", "neutral"];

/// Annotators, with how many of a hundred items each labels right.
const ANNOTATORS: [(&str, u64); 6] = [
    ("Ada", 97),
    ("Ben", 92),
    ("Chi", 89),
    ("Dag", 85),
    ("Eve", 78),
    ("Fox", 66),
];

/// One item to label, with the right answer.
pub(super) struct Item {
    pub(super) task: TaskId,
    pub(super) workflow: &'static str,
    text: &'static str,
    pub(super) truth: &'static str,
}

/// All items to label.
pub(super) fn items() -> Vec<Item> {
    let counts = [
        ("sentiment-dual", DUAL_TASKS),
        ("review", REVIEW_TASKS),
        ("single", SINGLE_TASKS),
    ];
    let workflows = counts
        .into_iter()
        .flat_map(|(name, count)| std::iter::repeat_n(name, count));
    workflows
        .enumerate()
        .map(|(index, workflow)| {
            let (text, truth) = SAMPLES[index % SAMPLES.len()];
            let task = TaskId(derived(&format!("task/{index}")));
            Item {
                task,
                workflow,
                text,
                truth,
            }
        })
        .collect()
}

/// An id that is the same in every run.
fn derived(name: &str) -> Uuid {
    Uuid::new_v5(
        &Uuid::NAMESPACE_OID,
        format!("glyph/demo/{name}").as_bytes(),
    )
}

/// A number below `bound` that is the same in every run.
fn draw(name: &str, bound: u64) -> u64 {
    let bytes = derived(name).into_bytes();
    u64::from_be_bytes([
        bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15],
    ]) % bound
}

/// An annotator's answer: mostly the truth, else one of the other labels.
fn answer(annotator: (&str, u64), item: &Item) -> &'static str {
    let (name, quality) = annotator;
    let draw = |what: &str, bound| draw(&format!("{what}/{name}/{}", item.task), bound);
    if draw("slip", 100) < quality {
        return item.truth;
    }
    let others: Vec<_> = LABELS
        .into_iter()
        .filter(|label| *label != item.truth)
        .collect();
    if draw("which", 2) == 0 {
        others[0]
    } else {
        others[1]
    }
}

/// The command that submits a person's work.
pub(super) fn submission(
    item: &Item,
    user: &str,
    roles: &[&str],
    data: &Value,
    decision: Option<&str>,
) -> Value {
    json!({
        "type": "submission",
        "command_id": Uuid::now_v7(),
        "task_id": item.task,
        "annotation": {
            "user_id": derived(&format!("user/{user}")),
            "data": data,
            "decision": decision,
            "roles": roles,
        },
    })
}

/// The commands that start all tasks, and the annotators' submissions.
pub(super) fn first_work(items: &[Item]) -> Vec<Value> {
    let starts = items.iter().map(|item| {
        json!({
            "type": "start",
            "command_id": Uuid::now_v7(),
            "task_id": item.task,
            "workflow": item.workflow,
            "input": {"text": item.text},
            "labels": {"project": "demo"},
        })
    });
    let work = items.iter().enumerate().flat_map(|(index, item)| {
        let annotators = if item.workflow == "sentiment-dual" {
            2
        } else {
            1
        };
        (0..annotators).map(move |n| {
            let annotator = ANNOTATORS[(index + n * (1 + index / 6 % 5)) % ANNOTATORS.len()];
            let data = json!({"label": answer(annotator, item)});
            submission(item, annotator.0, &["annotator"], &data, None)
        })
    });
    starts.chain(work).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotators_are_as_good_as_they_are_said_to_be() {
        let items = items();
        for (name, quality) in ANNOTATORS {
            let right = items
                .iter()
                .filter(|item| answer((name, quality), item) == item.truth);
            let share = right.count() as f64 / items.len() as f64 * 100.0;
            assert!((share - quality as f64).abs() < 9.0, "{name}: {share}");
        }
    }

    #[test]
    fn two_annotators_of_a_task_are_two_people() {
        for command in first_work(&items())
            .chunks(2)
            .skip(items().len() / 2)
            .take(DUAL_TASKS)
        {
            assert_eq!(command[0]["task_id"], command[1]["task_id"]);
            let user = |n: usize| command[n]["annotation"]["user_id"].clone();
            assert_ne!(user(0), user(1));
        }
    }
}
