//! Children of children, and loops and joins around them.

use glyph_workflow_engine::{
    command::{Command, Submission},
    state::TaskStatus,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{EXTRACT, Family, PARALLEL, ROOT, user};

#[tokio::test]
async fn two_children_meet_in_a_join_and_a_loop_asks_for_new_ones() {
    let mut family = Family::started(&[EXTRACT, PARALLEL], "parallel").await;
    family.submit(ROOT, "triage", 1, json!(1)).await;
    family.settle().await;
    let (left, right) = (family.child("left").await, family.child("right").await);
    assert_ne!(left, right);
    assert_eq!(family.state(left).await.input, Some(json!({"text": "t"})));
    family.submit(left, "mark", 1, json!("l")).await;
    family.settle().await;
    assert_eq!(family.state(ROOT).await.current_steps().len(), 1);
    family.submit(right, "mark", 1, json!("r")).await;
    family.settle().await;
    assert_eq!(
        family.state(ROOT).await.current_steps()[0].as_str(),
        "check"
    );
    let again = |s: &mut Submission| s.annotation.decision = Some("request_changes".to_owned());
    family.submit_with(ROOT, "check", 2, json!({}), again).await;
    family.submit(ROOT, "triage", 1, json!(2)).await;
    let second = family.child("left").await;
    assert_eq!(second.0, Uuid::new_v5(&ROOT.0, b"left/2"));
    family.settle().await;
    for (step, value) in [("left", "l2"), ("right", "r2")] {
        let child = family.child(step).await;
        family.submit(child, "mark", 1, json!(value)).await;
    }
    family.settle().await;
    let approve = |s: &mut Submission| s.annotation.decision = Some("approve".to_owned());
    family
        .submit_with(ROOT, "check", 2, json!({}), approve)
        .await;
    let output = family.state(ROOT).await.output.unwrap();
    assert_eq!(output["steps"]["left"]["value"], "l2");
    assert_eq!(output["steps"]["right"]["value"], "r2");
}

const DEEP: &str = "
workflow:
  id: deep
  settings: { max_sub_workflow_depth: 2 }
  steps: [{ id: down, type: sub_workflow, workflow: deep }]
";

#[tokio::test]
async fn children_nest_as_deep_as_the_root_allows() {
    let mut family = Family::of(&[DEEP]).await;
    family.start("deep", json!(1)).await;
    // A later revision would allow more; the root's bound applies to all tasks below it.
    let more = DEEP.replace("depth: 2", "depth: 9");
    family.orchestrator.create_workflow(&more).await.unwrap();
    family.settle().await;
    let down = "down".parse().unwrap();
    let (first, second) = (
        ROOT.child(&down, 1, 1),
        ROOT.child(&down, 1, 1).child(&down, 1, 1),
    );
    assert!(family.state(first).await.incidents.is_empty());
    let state = family.state(second).await;
    assert_eq!(state.parent.as_ref().unwrap().root_task_id, ROOT);
    let incident = state.incident_of("down").unwrap();
    assert_eq!(incident.code.as_str(), "child_failed");
    assert!(
        incident.reason.contains("nest 2 deep"),
        "{}",
        incident.reason
    );
    // Cancelled from the root, down all levels.
    family.control(ROOT, Command::Cancel).await;
    family.settle().await;
    for task in [ROOT, first, second] {
        assert_eq!(family.state(task).await.status, TaskStatus::Cancelled);
    }
    assert!(
        !family.events(ROOT).await.contains(&"child_ended"),
        "its report lapsed"
    );
}

#[tokio::test]
async fn the_example_of_nested_extraction_runs_to_its_end() {
    let field_extraction = include_str!("../../../../examples/field-extraction.yaml");
    let nested_extraction = include_str!("../../../../examples/nested-extraction.yaml");
    let examples = [field_extraction, nested_extraction];
    let mut family = Family::started(&examples, "nested-extraction").await;
    family
        .submit(ROOT, "triage", 1, json!({"kind": "invoice"}))
        .await;
    family.settle().await;
    let child = family.child("extract").await;
    let state = family.state(child).await;
    assert_eq!(
        state.input,
        Some(json!({"document": {"text": "t"}, "kind": "invoice"}))
    );
    let reserved = &state.current_visit("mark").unwrap().assignments;
    assert_eq!(reserved[0].user_id, user(1));
    let fields = json!({"total": "12.50"});
    for who in [1, 2] {
        family
            .submit(child, "mark", who, json!({"fields": fields}))
            .await;
    }
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert_eq!(state.context["fields"], fields);
    assert_eq!(state.context["sure"], 1.0);
    family
        .submit(ROOT, "link", 1, json!({"total": "record-7"}))
        .await;
    let output = family.state(ROOT).await.output.unwrap();
    let merged = json!({"extract": fields, "link": {"total": "record-7"}});
    assert_eq!(output["result"], merged);
    assert_eq!(
        output["agreement"],
        Value::Null,
        "of this task's own consensus steps"
    );
}
