//! Pauses of parents and children, and the timers that wait for them.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    WorkflowSnapshot,
    command::{Command, Control, OperatorCommand, Pause},
    ids::WorkflowId,
    state::{ChildOrder, TaskStatus, VisitStatus},
};
use serde_json::json;

use super::{EXTRACT, Family, NEST, PARALLEL, ROOT, code};

#[tokio::test]
async fn a_pause_goes_down_and_a_resume_after_it() {
    let mut family = Family::started(&[EXTRACT, PARALLEL], "parallel").await;
    family.submit(ROOT, "triage", 1, json!(1)).await;
    family.settle().await;
    let (left, right) = (family.child("left").await, family.child("right").await);
    family.pause(right, None).await;
    family.pause(ROOT, None).await;
    let parent = family.state(ROOT).await;
    let order = parent.current_visit("left").unwrap().child.as_ref();
    let order = order.unwrap().order.as_ref().unwrap();
    assert_eq!((order.order, order.failures), (ChildOrder::Pause, 0));
    family.settle().await;
    for child in [left, right] {
        assert_eq!(family.state(child).await.status, TaskStatus::Paused);
    }
    let refused = family.submit(left, "mark", 1, json!(1)).await;
    assert_eq!(code(&refused), "task_paused");
    family.control(ROOT, Command::Resume).await;
    family.settle().await;
    assert_eq!(family.state(left).await.status, TaskStatus::Running);
    let by_hand = family.state(right).await;
    assert_eq!(by_hand.status, TaskStatus::Paused, "paused on its own");

    // If the parent resumes while the pause is still on its way, the resume follows it.
    family.pause(ROOT, None).await;
    let pause = family.rows().await;
    assert_eq!(pause.len(), 2, "{pause:?}");
    for row in &pause {
        family.effect(row).await;
    }
    family.control(ROOT, Command::Resume).await;
    family.settle().await;
    assert_eq!(family.state(left).await.status, TaskStatus::Running);
}

#[tokio::test]
async fn a_pause_of_one_step_holds_its_child_alone() {
    let mut family = Family::started(&[EXTRACT, PARALLEL], "parallel").await;
    family.submit(ROOT, "triage", 1, json!(1)).await;
    family.settle().await;
    let (left, right) = (family.child("left").await, family.child("right").await);
    let pause = Pause {
        task_id: ROOT,
        step_id: Some("left".to_owned()),
        reason: None,
        until: None,
    };
    // The child may end before the pause reaches it; the step keeps the outcome.
    family.run(Command::Pause(pause)).await;
    family.submit(left, "mark", 1, json!("l")).await;
    family.settle().await;
    assert_eq!(family.state(right).await.status, TaskStatus::Running);
    let left_of = |state: &WorkflowSnapshot| state.current_visit("left").unwrap().status;
    assert_eq!(left_of(&family.state(ROOT).await), VisitStatus::Active);
    let resume = Control {
        task_id: ROOT,
        step_id: Some("left".to_owned()),
        reason: None,
    };
    family.run(Command::Resume(resume)).await;
    family.settle().await;
    assert_eq!(left_of(&family.state(ROOT).await), VisitStatus::Completed);

    let pause = Pause {
        task_id: ROOT,
        step_id: Some("right".to_owned()),
        reason: None,
        until: None,
    };
    family.run(Command::Pause(pause)).await;
    family.settle().await;
    assert_eq!(family.state(right).await.status, TaskStatus::Paused);
}

#[tokio::test]
async fn what_a_child_ends_with_waits_while_its_parent_is_paused() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    let until = *family.clock.lock().unwrap() + TimeDelta::hours(1);
    family.pause(ROOT, Some(until)).await;
    family.submit(child, "mark", 3, json!({"fields": 1})).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.status, TaskStatus::Paused);
    assert_eq!(state.current_steps()[0].as_str(), "fields");
    family.pass(TimeDelta::hours(1));
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert_eq!(state.context["fields"], 1);
}

#[tokio::test]
async fn what_a_child_ends_with_waits_while_the_parents_workflow_is_paused() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    family.submit(child, "mark", 3, json!({"fields": 1})).await;
    let report = family.rows().await.remove(0);
    let workflow: WorkflowId = "nest".parse().unwrap();
    let pause = OperatorCommand::WorkflowPause {
        workflow: workflow.clone(),
        reason: None,
        until: None,
    };
    let resume = OperatorCommand::WorkflowResume {
        workflow,
        reason: None,
        ran_out: None,
    };
    family.operator_command(pause).await;
    family.perform(&report).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "fields");
    assert!(family.state(child).await.report_due.is_none(), "told");
    family.operator_command(resume).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert_eq!(state.context["fields"], 1);
}
