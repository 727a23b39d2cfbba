//! What a cancel ends.

use chrono::TimeDelta;
use glyph_workflow_engine::command::{Command, Control};

use super::DUAL;
use crate::scenario::{Scenario, TASK};

#[test]
fn cancel_withdraws_what_waits() {
    let mut scenario = Scenario::started(DUAL);
    scenario.assign("annotate", 1);
    assert_eq!(
        scenario.control(Command::Cancel),
        "failed cancelled | step_withdrawn, workflow_cancelled"
    );
    assert_eq!(scenario.control(Command::Cancel), "rejected task_finished");
    assert!(
        scenario.pass(TimeDelta::days(1)).is_empty(),
        "no timers is left"
    );
}

#[test]
fn the_state_says_why_a_task_has_ended_without_an_output() {
    let mut cancelled = Scenario::started(DUAL);
    cancelled.run(Command::Cancel(Control {
        task_id: TASK,
        step_id: None,
        reason: Some("a duplicate".to_owned()),
    }));
    assert_eq!(
        cancelled.state.unwrap().error.as_deref(),
        Some("a duplicate")
    );
    let mut failed = Scenario::started(
        "workflow: { id: fails, steps: [{ id: a, type: annotation }], transitions: [{ from: a, to: _failed }] }",
    );
    let answer = failed.label("a", 1, "x");
    let error = failed.state.unwrap().error.unwrap();
    assert!(
        answer.starts_with(&format!("failed {error} | ")),
        "{answer}"
    );
}

#[test]
fn a_cancel_that_names_another_step_ends_nothing() {
    let mut scenario = Scenario::started(DUAL);
    let cancel = |step: &str| {
        Command::Cancel(Control {
            task_id: TASK,
            step_id: Some(step.to_owned()),
            reason: None,
        })
    };
    assert_eq!(scenario.run(cancel("elsewhere")), "rejected unknown_step");
    assert!(
        scenario
            .run(cancel("annotate"))
            .starts_with("failed cancelled")
    );
}
