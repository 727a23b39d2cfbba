//! Children that fail, are unknown, or cannot get their input.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, Start},
    state::{TaskStatus, VisitStatus},
};
use serde_json::json;
use uuid::Uuid;

use super::{EXTRACT, Family, NEST, ROOT};

#[tokio::test]
async fn a_child_that_does_not_complete_is_an_incident_and_retry_asks_for_another() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let first = family.child("fields").await;
    family.control(first, Command::Cancel).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    let incident = state.incident_of("fields").unwrap();
    assert_eq!(incident.code.as_str(), "child_failed");
    assert!(
        incident.reason.contains(&first.to_string()) && incident.reason.contains("cancelled"),
        "{}",
        incident.reason
    );
    family.control(ROOT, Command::Retry).await;
    let second = family.child("fields").await;
    assert_eq!(second.0, Uuid::new_v5(&ROOT.0, b"fields/1/2"));
    family.settle().await;
    family.submit(second, "mark", 3, json!({"fields": 2})).await;
    family.settle().await;
    assert_eq!(family.state(ROOT).await.context["fields"], 2);
}

#[tokio::test]
async fn a_child_that_does_not_complete_is_skipped_where_the_file_says_so() {
    let skip = NEST.replace(
        "type: sub_workflow",
        "type: sub_workflow\n      on_error: skip",
    );
    let failing = "
workflow:
  id: extract
  steps: [{ id: mark, type: annotation }]
  transitions: [{ from: mark, to: _failed }]
";
    let mut family = Family::started(&[failing, &skip], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    family.submit(child, "mark", 3, json!(1)).await;
    assert_eq!(family.state(child).await.status, TaskStatus::Failed);
    family.settle().await;
    let state = family.state(ROOT).await;
    let visit = state.current_visit("fields").unwrap();
    assert_eq!(visit.status, VisitStatus::Skipped);
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert!(!state.context.contains_key("fields"));
}

#[tokio::test]
async fn an_unknown_workflow_is_tried_again_and_then_an_incident() {
    let mut family = Family::started(&[NEST], "nest").await;
    family.triage().await;
    for seconds in [1, 4, 16] {
        family.settle().await;
        assert!(family.state(ROOT).await.incidents.is_empty());
        family.pass(TimeDelta::seconds(seconds) - TimeDelta::milliseconds(1));
        assert!(family.rows().await.is_empty(), "not before its time");
        family.pass(TimeDelta::milliseconds(1));
    }
    family.settle().await;
    let state = family.state(ROOT).await;
    let incident = state.incident_of("fields").unwrap();
    assert_eq!(incident.code.as_str(), "child_failed");
    assert!(incident.reason.contains("WorkflowNotFound"), "{incident:?}");
    family.orchestrator.create_workflow(EXTRACT).await.unwrap();
    family.control(ROOT, Command::Retry).await;
    family.settle().await;
    let child = family.child("fields").await;
    assert_eq!(family.state(child).await.status, TaskStatus::Running);
}

#[tokio::test]
async fn a_task_that_is_somebody_elses_is_no_child() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let child = family.child("fields").await;
    let start = Start {
        task_id: child,
        workflow: "extract".parse().unwrap(),
        input: None,
        labels: None,
        expected: None,
    };
    family.run(Command::Start(start)).await;
    for _ in 0..4 {
        family.settle().await;
        family.pass(TimeDelta::minutes(1));
    }
    let state = family.state(ROOT).await;
    let incident = state.incident_of("fields").unwrap();
    assert!(
        incident.reason.contains("already_started"),
        "{}",
        incident.reason
    );
    // The foreign task neither obeys, nor is its report accepted.
    family.control(ROOT, Command::Cancel).await;
    family.settle().await;
    assert_eq!(family.state(child).await.status, TaskStatus::Running);
}

#[tokio::test]
async fn an_input_that_cannot_be_mapped_is_an_incident() {
    let missing = NEST.replace("input.text", "input.title");
    let mut family = Family::started(&[EXTRACT, &missing], "nest").await;
    family.triage().await;
    let state = family.state(ROOT).await;
    let incident = state.incident_of("fields").unwrap();
    assert_eq!(incident.code.as_str(), "expression_failed");
    assert!(
        incident.reason.contains("input.title"),
        "{}",
        incident.reason
    );
    assert!(family.rows().await.is_empty());
    family.control(ROOT, Command::Retry).await;
    let opened = family.state(ROOT).await.incidents_opened;
    assert_eq!(opened, 2, "evaluated again, and failed again");
}
