//! Pauses of a task, of a whole workflow and of one step, and the clocks they stop.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, FireTimer},
    derive_timers,
};
use serde_json::json;

use super::{DUAL, forked};
use crate::desk::Desk;

#[test]
fn a_pause_stops_the_clock_of_claims() {
    let mut desk = Desk::started(DUAL);
    desk.assign("annotate", 1);
    desk.pass(TimeDelta::minutes(40));
    let until = desk.now + TimeDelta::hours(5);
    assert_eq!(
        desk.pause(Some(until)),
        "waiting annotate | workflow_paused"
    );
    assert_eq!(
        desk.pass(TimeDelta::hours(5)),
        ["waiting annotate | workflow_resumed"]
    );
    assert!(
        desk.pass(TimeDelta::minutes(19)).is_empty(),
        "20 minutes were left"
    );
    assert_eq!(
        desk.pass(TimeDelta::minutes(2)),
        ["waiting annotate | task_stalled, task_released"]
    );
}

#[test]
fn a_paused_task_can_be_cancelled_and_given_back_but_not_worked_on() {
    let mut desk = Desk::started(DUAL);
    desk.assign("annotate", 1);
    assert_eq!(desk.control(Command::Resume), "rejected not_waiting");
    desk.pause(None);
    assert_eq!(desk.pause(None), "rejected task_paused");
    assert_eq!(desk.assign("annotate", 2), "rejected task_paused");
    assert_eq!(
        desk.release("annotate", 1),
        "waiting annotate | task_released"
    );
    assert_eq!(
        desk.control(Command::Cancel),
        "failed cancelled | step_withdrawn, workflow_cancelled"
    );
}

// Pausing a whole workflow ---------------------------------------------------------------------

#[test]
fn tasks_of_a_paused_workflow_are_not_worked_on() {
    let mut desk = Desk::started(DUAL);
    assert_eq!(
        desk.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );
    desk.assign("annotate", 2);
    desk.pause_workflow(None);
    let version = desk.state.as_ref().unwrap().version;
    // What the person or the slot forbids comes first, as for a paused task.
    assert_eq!(
        desk.label("annotate", 1, "b"),
        "rejected duplicate_annotator"
    );
    assert_eq!(desk.label("annotate", 3, "b"), "rejected surplus");
    for refused in [
        desk.label("annotate", 2, "b"),
        desk.advance("annotate", None),
        desk.activity("annotate", 2),
        desk.control(Command::Retry),
    ] {
        assert_eq!(refused, "rejected task_paused");
    }
    assert_eq!(desk.state.as_ref().unwrap().version, version);
    // What operators do to the task itself is not held up.
    assert_eq!(
        desk.release("annotate", 2),
        "waiting annotate | task_released"
    );
    assert_eq!(desk.pause(None), "waiting annotate | workflow_paused");
    assert_eq!(
        desk.control(Command::Resume),
        "waiting annotate | workflow_resumed"
    );
    desk.resume_workflow();
    assert_eq!(
        desk.label("annotate", 2, "a"),
        "completed | annotation_submitted, consensus_calculated, step_completed, \
         transition_occurred, workflow_completed"
    );
}

#[test]
fn a_task_may_be_started_and_cancelled_while_its_workflow_is_paused() {
    let mut desk = Desk::new(DUAL);
    desk.pause_workflow(None);
    assert_eq!(
        desk.start(json!(null)),
        "waiting annotate | workflow_started, step_activated"
    );
    assert_eq!(desk.label("annotate", 1, "a"), "rejected task_paused");
    assert!(
        desk.control(Command::Cancel)
            .starts_with("failed cancelled")
    );
}

#[test]
fn nothing_runs_by_itself_in_a_paused_workflow() {
    let mut desk = Desk::new(
        "workflow: { id: dual, steps: [{ id: f, type: auto_process, handler: finalize }] }",
    );
    desk.pause_workflow(None);
    assert_eq!(desk.start(json!(null)), "rejected task_paused");
    assert!(desk.state.is_none() && desk.log.is_empty());
    desk.resume_workflow();
    assert!(desk.start(json!(null)).starts_with("completed"));
}

#[test]
fn a_submission_starts_nothing_in_a_paused_workflow() {
    let mut desk = Desk::new(DUAL);
    desk.pause_workflow(None);
    let answer = desk.submit_with("annotate", 1, json!({"label": "a"}), |submission| {
        submission.workflow = Some("dual".parse().unwrap());
    });
    assert_eq!(answer, "rejected task_paused");
    assert!(desk.state.is_none() && desk.log.is_empty());
}

/// Half an hour of one has passed when the workflow is paused; what fires late finds the rest.
#[test]
fn a_paused_workflow_stops_the_clock_of_claims() {
    let mut desk = Desk::started(DUAL);
    desk.assign("annotate", 1);
    desk.now += TimeDelta::minutes(30);
    desk.pause_workflow(None);
    // Stores do not claim timers of a paused workflow; what was claimed before is put off and
    // leaves no outcome, so it comes again.
    desk.now += TimeDelta::hours(10);
    let row = derive_timers(desk.state.as_ref().unwrap()).remove(0);
    assert_eq!(
        desk.run(Command::FireTimer(Due::alone(row))),
        "Undecided(Held)"
    );
    desk.resume_workflow();
    assert_eq!(
        desk.pass(TimeDelta::minutes(29)),
        ["waiting annotate | timers_rearmed"]
    );
    assert_eq!(
        desk.pass(TimeDelta::minutes(1)),
        ["waiting annotate | task_stalled, task_released"]
    );
}

/// Whatever touches the task first gives the time back, and nothing gives it back twice.
#[test]
fn paused_time_is_given_back_once() {
    let mut desk = Desk::started(DUAL);
    desk.assign("annotate", 1);
    let until = desk.now + TimeDelta::hours(3);
    desk.pause_workflow(Some(until));
    desk.now += TimeDelta::hours(2);
    // In the middle of the pause, and after it ran out by itself.
    assert_eq!(
        desk.pause(None),
        "waiting annotate | timers_rearmed, workflow_paused"
    );
    desk.now += TimeDelta::hours(2);
    assert_eq!(
        desk.control(Command::Resume),
        "waiting annotate | workflow_resumed"
    );
    desk.now += TimeDelta::minutes(1);
    assert_eq!(
        desk.assign("annotate", 2),
        "waiting annotate | task_assigned"
    );
    // Claimed at 0:00 for an hour; held by one pause or the other until 4:00.
    let expires =
        desk.state.as_ref().unwrap().steps["annotate"].visits[0].assignments[0].expires_at;
    assert_eq!(expires, until + TimeDelta::hours(2));
}

// Pausing one step ------------------------------------------------------------------------------

#[test]
fn a_paused_step_waits_while_other_branches_go_on() {
    let mut desk = Desk::started(&forked(""));
    desk.label("read", 1, "x");
    desk.assign("entities", 2);
    desk.now += TimeDelta::minutes(30);
    assert_eq!(
        desk.pause_step("entities", None),
        "waiting entities | workflow_paused"
    );
    for refused in [
        desk.label("entities", 3, "x"),
        desk.activity("entities", 2),
        desk.assign("entities", 3),
        desk.advance("entities", None),
        desk.pause_step("entities", None),
    ] {
        assert_eq!(refused, "rejected task_paused");
    }
    assert_eq!(desk.resume_step("topic"), "rejected not_waiting");
    assert_eq!(desk.pause_step("read", None), "rejected step_not_active");
    assert_eq!(desk.pause_step("none", None), "rejected unknown_step");
    // The other branch can be meant without being named, and goes on.
    assert_eq!(
        desk.label("", 3, "sport"),
        "advanced [entities] | annotation_submitted, step_completed, transition_occurred"
    );
    assert_eq!(desk.label("", 3, "x"), "rejected task_paused");
    // Nothing runs out meanwhile; an hour and a half was left.
    assert!(desk.pass(TimeDelta::days(2)).is_empty());
    assert_eq!(
        desk.resume_step("entities"),
        "waiting entities | workflow_resumed"
    );
    assert!(desk.pass(TimeDelta::minutes(89)).is_empty());
    assert_eq!(
        desk.pass(TimeDelta::minutes(1)),
        ["waiting entities | task_stalled, task_released"]
    );
}

#[test]
fn a_steps_pause_ends_by_itself_and_around_those_of_its_task_and_workflow() {
    let mut desk = Desk::started(&forked(""));
    desk.label("read", 1, "x");
    let claimed = desk.now;
    desk.assign("entities", 2);
    desk.pause_step("entities", Some(claimed + TimeDelta::hours(3)));
    desk.now += TimeDelta::hours(1);
    desk.pause(None);
    assert_eq!(desk.resume_step("entities"), "rejected task_paused");
    desk.pause_workflow(Some(claimed + TimeDelta::hours(2)));
    desk.now += TimeDelta::hours(3);
    assert_eq!(
        desk.control(Command::Resume),
        "waiting entities | workflow_resumed"
    );
    // Its `until` has passed while the task was paused.
    assert_eq!(
        desk.pass(TimeDelta::zero()),
        ["waiting entities | workflow_resumed"]
    );
    let visit = &desk.state.as_ref().unwrap().steps["entities"].visits[0];
    let expected = claimed + TimeDelta::hours(2) + TimeDelta::hours(4);
    assert_eq!(visit.assignments[0].expires_at, expected);
    assert!(visit.pause.is_none());
}

#[test]
fn a_cancelled_task_has_no_paused_step() {
    let mut desk = Desk::started(&forked(""));
    desk.label("read", 1, "x");
    desk.pause_step("entities", Some(desk.now + TimeDelta::hours(3)));
    assert!(
        desk.control(Command::Cancel)
            .starts_with("failed cancelled")
    );
    assert!(derive_timers(desk.state.as_ref().unwrap()).is_empty());
}
