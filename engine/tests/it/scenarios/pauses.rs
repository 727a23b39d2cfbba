//! Pauses of a task, of a whole workflow and of one step, and the clocks they stop.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, FireTimer, Migrate},
    derive_timers,
};
use serde_json::json;

use super::{DUAL, forked, slug};
use crate::scenario::{Scenario, TASK};

#[test]
fn a_pause_stops_the_clock_of_claims() {
    let mut scenario = Scenario::started(DUAL);
    scenario.assign("annotate", 1);
    scenario.pass(TimeDelta::minutes(40));
    let until = scenario.now + TimeDelta::hours(5);
    assert_eq!(
        scenario.pause(Some(until)),
        "waiting annotate | workflow_paused"
    );
    assert_eq!(
        scenario.pass(TimeDelta::hours(5)),
        ["waiting annotate | workflow_resumed"]
    );
    assert!(
        scenario.pass(TimeDelta::minutes(19)).is_empty(),
        "20 minutes were left"
    );
    assert_eq!(
        scenario.pass(TimeDelta::minutes(2)),
        ["waiting annotate | task_stalled, task_released"]
    );
}

#[test]
fn a_paused_task_can_be_cancelled_and_given_back_but_not_worked_on() {
    let mut scenario = Scenario::started(DUAL);
    scenario.assign("annotate", 1);
    assert_eq!(scenario.control(Command::Resume), "rejected not_waiting");
    scenario.pause(None);
    assert_eq!(scenario.pause(None), "rejected task_paused");
    assert_eq!(scenario.assign("annotate", 2), "rejected task_paused");
    assert_eq!(
        scenario.release("annotate", 1),
        "waiting annotate | task_released"
    );
    assert_eq!(
        scenario.control(Command::Cancel),
        "failed cancelled | step_withdrawn, workflow_cancelled"
    );
}

// Pausing a whole workflow ---------------------------------------------------------------------

#[test]
fn tasks_of_a_paused_workflow_are_not_worked_on() {
    let mut scenario = Scenario::started(DUAL);
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );
    scenario.assign("annotate", 2);
    scenario.pause_workflow(None);
    let version = scenario.state.as_ref().unwrap().version;
    // A rejection for the person or the slot takes precedence, as for a paused task.
    assert_eq!(
        scenario.label("annotate", 1, "b"),
        "rejected duplicate_annotator"
    );
    assert_eq!(scenario.label("annotate", 3, "b"), "rejected surplus");
    for refused in [
        scenario.label("annotate", 2, "b"),
        scenario.advance("annotate", None),
        scenario.activity("annotate", 2),
        scenario.control(Command::Retry),
    ] {
        assert_eq!(refused, "rejected task_paused");
    }
    assert_eq!(scenario.state.as_ref().unwrap().version, version);
    // Operator commands on the task itself are not blocked.
    assert_eq!(
        scenario.release("annotate", 2),
        "waiting annotate | task_released"
    );
    assert_eq!(scenario.pause(None), "waiting annotate | workflow_paused");
    assert_eq!(
        scenario.control(Command::Resume),
        "waiting annotate | workflow_resumed"
    );
    scenario.resume_workflow();
    assert_eq!(
        scenario.label("annotate", 2, "a"),
        "completed | annotation_submitted, consensus_calculated, step_completed, \
         transition_occurred, workflow_completed"
    );
}

#[test]
fn a_task_may_be_started_and_cancelled_while_its_workflow_is_paused() {
    let mut scenario = Scenario::new(DUAL);
    scenario.pause_workflow(None);
    assert_eq!(
        scenario.start(json!(null)),
        "waiting annotate | workflow_started, step_activated"
    );
    assert_eq!(scenario.label("annotate", 1, "a"), "rejected task_paused");
    assert!(
        scenario
            .control(Command::Cancel)
            .starts_with("failed cancelled")
    );
}

#[test]
fn nothing_runs_by_itself_in_a_paused_workflow() {
    let mut scenario = Scenario::new(
        "workflow: { id: dual, steps: [{ id: f, type: auto_process, handler: finalize }] }",
    );
    scenario.pause_workflow(None);
    assert_eq!(scenario.start(json!(null)), "rejected task_paused");
    assert!(scenario.state.is_none() && scenario.log.is_empty());
    scenario.resume_workflow();
    assert!(scenario.start(json!(null)).starts_with("completed"));
}

#[test]
fn a_submission_starts_nothing_in_a_paused_workflow() {
    let mut scenario = Scenario::new(DUAL);
    scenario.pause_workflow(None);
    let answer = scenario.submit_with("annotate", 1, json!({"label": "a"}), |submission| {
        submission.workflow = Some("dual".parse().unwrap());
    });
    assert_eq!(answer, "rejected task_paused");
    assert!(scenario.state.is_none() && scenario.log.is_empty());
}

/// Half an hour of the claim has passed when the workflow is paused; the late timer finds the rest.
#[test]
fn a_paused_workflow_stops_the_clock_of_claims() {
    let mut scenario = Scenario::started(DUAL);
    scenario.assign("annotate", 1);
    scenario.now += TimeDelta::minutes(30);
    scenario.pause_workflow(None);
    // Stores do not claim timers of a paused workflow. One claimed before is postponed without an
    // outcome, so it fires again.
    scenario.now += TimeDelta::hours(10);
    let row = derive_timers(scenario.state.as_ref().unwrap()).remove(0);
    assert_eq!(
        scenario.run(Command::FireTimer(FireTimer::alone(row))),
        "Undecided(Paused)"
    );
    scenario.resume_workflow();
    assert_eq!(
        scenario.pass(TimeDelta::minutes(29)),
        ["waiting annotate | timers_rearmed"]
    );
    assert_eq!(
        scenario.pass(TimeDelta::minutes(1)),
        ["waiting annotate | task_stalled, task_released"]
    );
}

/// The first change of the task credits the paused time, and it is credited only once.
#[test]
fn paused_time_is_given_back_once() {
    let mut scenario = Scenario::started(DUAL);
    scenario.assign("annotate", 1);
    let until = scenario.now + TimeDelta::hours(3);
    scenario.pause_workflow(Some(until));
    scenario.now += TimeDelta::hours(2);
    // In the middle of the pause, and after the pause has expired.
    assert_eq!(
        scenario.pause(None),
        "waiting annotate | timers_rearmed, workflow_paused"
    );
    scenario.now += TimeDelta::hours(2);
    assert_eq!(
        scenario.control(Command::Resume),
        "waiting annotate | workflow_resumed"
    );
    scenario.now += TimeDelta::minutes(1);
    assert_eq!(
        scenario.assign("annotate", 2),
        "waiting annotate | task_assigned"
    );
    // Claimed at 0:00 for an hour; paused by one or the other pause until 4:00.
    let expires =
        scenario.state.as_ref().unwrap().steps["annotate"].visits[0].assignments[0].expires_at;
    assert_eq!(expires, until + TimeDelta::hours(2));
}

// Pausing one step ------------------------------------------------------------------------------

#[test]
fn a_paused_step_waits_while_other_branches_go_on() {
    let mut scenario = Scenario::started(&forked(""));
    scenario.label("read", 1, "x");
    scenario.assign("entities", 2);
    scenario.now += TimeDelta::minutes(30);
    assert_eq!(
        scenario.pause_step("entities", None),
        "waiting entities | workflow_paused"
    );
    for refused in [
        scenario.label("entities", 3, "x"),
        scenario.activity("entities", 2),
        scenario.assign("entities", 3),
        scenario.advance("entities", None),
        scenario.pause_step("entities", None),
    ] {
        assert_eq!(refused, "rejected task_paused");
    }
    assert_eq!(scenario.resume_step("topic"), "rejected not_waiting");
    assert_eq!(
        scenario.pause_step("read", None),
        "rejected step_not_active"
    );
    assert_eq!(scenario.pause_step("none", None), "rejected unknown_step");
    // The only other active branch is found without being named, and continues.
    assert_eq!(
        scenario.label("", 3, "sport"),
        "advanced [entities] | annotation_submitted, step_completed, transition_occurred"
    );
    assert_eq!(scenario.label("", 3, "x"), "rejected task_paused");
    // Nothing expires meanwhile; an hour and a half was left.
    assert!(scenario.pass(TimeDelta::days(2)).is_empty());
    assert_eq!(
        scenario.resume_step("entities"),
        "waiting entities | workflow_resumed"
    );
    assert!(scenario.pass(TimeDelta::minutes(89)).is_empty());
    assert_eq!(
        scenario.pass(TimeDelta::minutes(1)),
        ["waiting entities | task_stalled, task_released"]
    );
}

#[test]
fn a_steps_pause_ends_by_itself_and_around_those_of_its_task_and_workflow() {
    let mut scenario = Scenario::started(&forked(""));
    scenario.label("read", 1, "x");
    let claimed = scenario.now;
    scenario.assign("entities", 2);
    scenario.pause_step("entities", Some(claimed + TimeDelta::hours(3)));
    scenario.now += TimeDelta::hours(1);
    scenario.pause(None);
    assert_eq!(scenario.resume_step("entities"), "rejected task_paused");
    scenario.pause_workflow(Some(claimed + TimeDelta::hours(2)));
    scenario.now += TimeDelta::hours(3);
    assert_eq!(
        scenario.control(Command::Resume),
        "waiting entities | workflow_resumed"
    );
    // Its `until` has passed while the task was paused.
    assert_eq!(
        scenario.pass(TimeDelta::zero()),
        ["waiting entities | workflow_resumed"]
    );
    let visit = &scenario.state.as_ref().unwrap().steps["entities"].visits[0];
    let expected = claimed + TimeDelta::hours(2) + TimeDelta::hours(4);
    assert_eq!(visit.assignments[0].expires_at, expected);
    assert!(visit.pause.is_none());
}

/// The end of the join's patience, `minutes` from now and not before.
fn join_ends_in(scenario: &mut Scenario, minutes: i64) {
    assert!(
        scenario
            .pass(TimeDelta::minutes(minutes - 1))
            .iter()
            .all(|f| !f.contains("withdrawn"))
    );
    let fired = scenario.pass(TimeDelta::minutes(1)).join("; ");
    assert!(
        fired.ends_with("step_withdrawn, step_activated, step_completed, workflow_completed"),
        "{fired}"
    );
}

/// Both branches are open, and the one of `topic` has arrived if `arrived`.
fn meeting(arrived: bool) -> Scenario {
    let mut scenario = Scenario::started(&forked(", join_timeout: 1h"));
    scenario.label("read", 1, "x");
    if arrived {
        scenario.label("topic", 1, "t");
    }
    scenario
}

#[test]
fn a_join_is_patient_with_a_paused_step() {
    let mut scenario = meeting(true);
    scenario.pass(TimeDelta::minutes(30));
    let row = scenario.due().remove(0);
    scenario.pause_step("entities", None);
    assert!(scenario.pass(TimeDelta::days(2)).is_empty());
    // A timer that was leased before is postponed, so that it fires again.
    assert_eq!(
        scenario.run(Command::FireTimer(FireTimer::alone(row))),
        "Undecided(Paused)"
    );
    scenario.resume_step("entities");
    join_ends_in(&mut scenario, 30);
}

#[test]
fn a_join_that_begins_to_wait_for_a_paused_step_is_patient_too() {
    let mut scenario = meeting(false);
    let until = scenario.now + TimeDelta::hours(5);
    scenario.pause_step("entities", Some(until));
    scenario.pass(TimeDelta::hours(1));
    scenario.label("topic", 1, "t");
    assert_eq!(
        scenario.pass(TimeDelta::hours(4)),
        ["waiting entities | workflow_resumed"],
        "the pause has ended by itself"
    );
    join_ends_in(&mut scenario, 60);

    // Whoever comes in time is not withdrawn.
    let mut scenario = meeting(false);
    scenario.pause_step("entities", None);
    scenario.label("topic", 1, "t");
    scenario.pass(TimeDelta::hours(5));
    scenario.resume_step("entities");
    scenario.pass(TimeDelta::minutes(59));
    scenario.label("entities", 2, "e");
    assert!(scenario.label("entities", 3, "f").starts_with("completed"));
}

#[test]
fn a_join_counts_no_pause_twice() {
    let mut scenario = meeting(true);
    scenario.pass(TimeDelta::minutes(30));
    scenario.pause_step("entities", None);
    scenario.now += TimeDelta::hours(1);
    scenario.pause(None);
    scenario.now += TimeDelta::hours(1);
    scenario.pause_workflow(Some(scenario.now + TimeDelta::hours(1)));
    scenario.now += TimeDelta::hours(2);
    scenario.control(Command::Resume);
    scenario.pause_workflow(Some(scenario.now + TimeDelta::hours(1)));
    scenario.now += TimeDelta::hours(2);
    scenario.resume_step("entities");
    join_ends_in(&mut scenario, 30);
}

#[test]
fn a_migration_finds_which_joins_a_paused_step_holds() {
    let yaml = forked(", join_timeout: 1h");
    let migrate = |scenario: &mut Scenario, yaml: &str, steps: &[(&str, &str)]| {
        let to = scenario.revise(yaml);
        let steps = steps.iter().map(|(from, to)| (slug(from), slug(to)));
        let answer = scenario.run(Command::Migrate(Migrate {
            task_id: TASK,
            to,
            steps: steps.collect(),
        }));
        assert!(answer.contains("workflow_migrated"), "{answer}");
    };
    // The paused step has another name.
    let mut renamed = meeting(true);
    renamed.pause_step("entities", None);
    renamed.now += TimeDelta::hours(2);
    let names = yaml
        .replace("entities", "names")
        .replace("id: merge", "id: unite")
        .replace("to: merge", "to: unite");
    migrate(
        &mut renamed,
        &names,
        &[("entities", "names"), ("merge", "unite")],
    );
    assert!(renamed.pass(TimeDelta::hours(2)).is_empty());
    renamed.resume_step("names");
    join_ends_in(&mut renamed, 60);

    // The paused step leads to the join no more: the join waits for nobody.
    let mut apart = meeting(true);
    apart.pause_step("entities", None);
    apart.now += TimeDelta::hours(2);
    let lone = yaml.replace(
        "{ from: entities, to: merge }",
        "{ from: entities, to: _complete }",
    );
    let to = apart.revise(&lone);
    let answer = apart.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [].into(),
    }));
    assert!(answer.contains("step_activated"), "{answer}");

    // The new revision gives the join a timeout while the step is paused.
    let mut given = Scenario::started(&forked(""));
    given.label("read", 1, "x");
    given.label("topic", 1, "t");
    given.pause_step("entities", None);
    given.now += TimeDelta::hours(2);
    migrate(&mut given, &yaml, &[]);
    assert!(given.pass(TimeDelta::hours(2)).is_empty());
    given.resume_step("entities");
    join_ends_in(&mut given, 60);
}

#[test]
fn a_cancelled_task_has_no_paused_step() {
    let mut scenario = Scenario::started(&forked(""));
    scenario.label("read", 1, "x");
    scenario.pause_step("entities", Some(scenario.now + TimeDelta::hours(3)));
    assert!(
        scenario
            .control(Command::Cancel)
            .starts_with("failed cancelled")
    );
    assert!(derive_timers(scenario.state.as_ref().unwrap()).is_empty());
}
