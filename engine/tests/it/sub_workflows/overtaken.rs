//! Children whose parent has gone on, and commands that come too late.

use glyph_workflow_engine::{
    command::{Advance, Command, Migrate},
    state::TaskStatus,
};
use serde_json::json;

use super::{EXTRACT, Family, NEST, PARALLEL, ROOT, code};

#[tokio::test]
async fn the_child_of_a_branch_that_came_too_late_is_cancelled() {
    let first_wins = PARALLEL.replace("join_mode: all", "join_mode: any");
    let mut family = Family::started(&[EXTRACT, &first_wins], "parallel").await;
    family.submit(ROOT, "triage", 1, json!(1)).await;
    family.settle().await;
    let (left, right) = (family.child("left").await, family.child("right").await);
    family.submit(left, "mark", 1, json!("l")).await;
    family.settle().await;
    assert_eq!(
        family.state(ROOT).await.current_steps()[0].as_str(),
        "check"
    );
    assert_eq!(family.state(right).await.status, TaskStatus::Cancelled);
}

#[tokio::test]
async fn a_child_whose_start_is_on_its_way_is_cancelled_too() {
    for performed in [false, true] {
        let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
        family.triage().await;
        let child = family.child("fields").await;
        let start = family.rows().await.remove(0);
        if performed {
            family.effect(&start).await;
        }
        family.control(ROOT, Command::Cancel).await;
        family.settle().await;
        assert_eq!(family.state(child).await.status, TaskStatus::Cancelled);
        assert!(family.rows().await.is_empty());
    }
}

#[tokio::test]
async fn a_report_for_a_visit_that_is_over_lapses() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    family.submit(child, "mark", 3, json!(1)).await;
    family.control(ROOT, Command::Cancel).await;
    let before = family.events(ROOT).await.len();
    family.settle().await;
    assert_eq!(family.story(ROOT, before).await, "child_told");
    assert_eq!(family.state(child).await.status, TaskStatus::Completed);
    assert!(family.state(child).await.report_due.is_none());
}

#[tokio::test]
async fn an_advance_with_an_output_stands_in_for_the_child() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    let advance = |output| {
        Command::Advance(Advance {
            task_id: ROOT,
            step_id: Some("fields".to_owned()),
            output,
        })
    };
    let refused = family.run(advance(None)).await;
    assert_eq!(code(&refused), "not_waiting");
    let went_on = family
        .run(advance(Some(json!({"fields": "by hand"}))))
        .await;
    assert_eq!(code(&went_on), "advanced");
    family.settle().await;
    assert_eq!(family.state(child).await.status, TaskStatus::Cancelled);
    let state = family.state(ROOT).await;
    let result = state
        .current_visit("fields")
        .unwrap()
        .result
        .clone()
        .unwrap();
    assert_eq!(result.value, Some(json!({"fields": "by hand"})));
    assert_eq!(state.context["fields"], "by hand");
}

#[tokio::test]
async fn a_step_that_is_called_otherwise_keeps_its_child() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let renamed = NEST
        .replace("id: fields", "id: entities")
        .replace("to: fields", "to: entities")
        .replace("from: fields", "from: entities");
    family.orchestrator.create_workflow(&renamed).await.unwrap();
    let child = family.child("fields").await;
    let start = family.rows().await.remove(0);
    family.effect(&start).await;
    let migrate = Migrate {
        task_id: ROOT,
        to: "nest@2".parse().unwrap(),
        steps: [("fields".parse().unwrap(), "entities".parse().unwrap())].into(),
    };
    let outcome = family.run(Command::Migrate(migrate)).await;
    assert_eq!(code(&outcome), "waiting");
    family.settle().await;
    assert_eq!(family.child("entities").await, child);
    family.submit(child, "mark", 3, json!({"fields": 1})).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert_eq!(state.context["fields"], 1);
}
