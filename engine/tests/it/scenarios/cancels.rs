//! What a cancel ends.

use chrono::TimeDelta;
use glyph_workflow_engine::command::{Command, Control};

use super::DUAL;
use crate::desk::{Desk, TASK};

#[test]
fn cancel_withdraws_what_waits() {
    let mut desk = Desk::started(DUAL);
    desk.assign("annotate", 1);
    assert_eq!(
        desk.control(Command::Cancel),
        "failed cancelled | step_withdrawn, workflow_cancelled"
    );
    assert_eq!(desk.control(Command::Cancel), "rejected task_finished");
    assert!(
        desk.pass(TimeDelta::days(1)).is_empty(),
        "no timers is left"
    );
}

#[test]
fn a_cancel_that_names_another_step_ends_nothing() {
    let mut desk = Desk::started(DUAL);
    let cancel = |step: &str| {
        Command::Cancel(Control {
            task_id: TASK,
            step_id: Some(step.to_owned()),
            reason: None,
        })
    };
    assert_eq!(desk.run(cancel("elsewhere")), "rejected unknown_step");
    assert!(desk.run(cancel("annotate")).starts_with("failed cancelled"));
}
