//! Claims, their time limits, and who may still submit.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, FireTimer, Migrate},
    derive_timers,
    store::TimerKind,
};

use super::{DUAL, with_completion};
use crate::scenario::{Scenario, TASK};

#[test]
fn a_claim_reserves_a_slot() {
    let mut scenario = Scenario::started(DUAL);
    assert_eq!(
        scenario.assign("annotate", 1),
        "waiting annotate | task_assigned"
    );
    assert_eq!(
        scenario.assign("annotate", 1),
        "waiting annotate | activity_recorded"
    );
    assert_eq!(
        scenario.assign("annotate", 2),
        "waiting annotate | task_assigned"
    );
    assert_eq!(scenario.assign("annotate", 3), "rejected surplus");
    assert_eq!(scenario.label("annotate", 3, "a"), "rejected surplus");
    assert_eq!(
        scenario.release("annotate", 2),
        "waiting annotate | task_released"
    );
    assert_eq!(scenario.release("annotate", 2), "rejected not_waiting");
    assert_eq!(
        scenario.label("annotate", 3, "a"),
        "waiting annotate | annotation_submitted"
    );
    assert_eq!(
        scenario.label("annotate", 2, "a"),
        "rejected surplus",
        "the other slot is claimed"
    );
    assert!(scenario.label("annotate", 1, "a").starts_with("completed"));
}

#[test]
fn inactivity_frees_the_slot_and_activity_keeps_it() {
    let mut scenario = Scenario::started(DUAL);
    scenario.assign("annotate", 1);
    assert!(scenario.pass(TimeDelta::minutes(50)).is_empty());
    assert_eq!(
        scenario.activity("annotate", 1),
        "waiting annotate | activity_recorded"
    );
    assert!(scenario.pass(TimeDelta::minutes(50)).is_empty());
    assert_eq!(
        scenario.pass(TimeDelta::minutes(20)),
        ["waiting annotate | task_stalled, task_released"]
    );
    assert_eq!(scenario.activity("annotate", 1), "rejected not_waiting");
    assert!(
        scenario.pass(TimeDelta::days(9)).is_empty(),
        "without an assignment nothing times out"
    );
}

#[test]
fn a_lapsed_timer_is_applied_without_events() {
    let mut scenario = Scenario::started(DUAL);
    scenario.assign("annotate", 1);
    let row = derive_timers(scenario.state.as_ref().unwrap()).remove(0);
    scenario.label("annotate", 1, "a");
    assert_eq!(
        scenario.run(Command::FireTimer(FireTimer::alone(row))),
        "waiting annotate"
    );
}

#[test]
fn timeout_actions() {
    let stalled = |action: &str| {
        let mut scenario = Scenario::started(&with_completion(
            &format!(
                "{{ type: annotation_count, count: 3, min_required: 1, timeout: 1h, \
                 timeout_action: {action} }}"
            ),
            "",
        ));
        scenario.label("annotate", 1, "a");
        scenario.assign("annotate", 2);
        let fired = scenario.pass(TimeDelta::hours(1)).join("; ");
        (scenario, fired)
    };
    let both = "task_stalled, task_released";
    assert_eq!(stalled("requeue").1, format!("waiting annotate | {both}"));
    assert_eq!(stalled("reassign").1, format!("waiting annotate | {both}"));
    assert_eq!(
        stalled("escalate").1,
        format!("waiting annotate | {both}, incident_opened")
    );
    let (scenario, fired) = stalled("fail");
    assert!(fired.starts_with("failed"), "{fired}");
    assert!(
        fired.ends_with(&format!("{both}, step_failed, workflow_failed")),
        "{fired}"
    );
    assert!(scenario.state.unwrap().active_steps().next().is_none());
}

#[test]
fn whoever_lost_a_slot_to_others_takes_no_part_in_the_visit() {
    let mut scenario = Scenario::started(&with_completion(
        "{ type: annotation_count, count: 2, timeout: 1h, timeout_action: reassign }",
        "",
    ));
    scenario.assign("annotate", 1);
    scenario.pass(TimeDelta::hours(1));
    assert_eq!(scenario.label("annotate", 1, "a"), "rejected surplus");
    assert_eq!(scenario.assign("annotate", 1), "rejected surplus");
    // Others may, and the other slot is no way in either.
    assert!(scenario.label("annotate", 2, "a").starts_with("waiting"));
    assert_eq!(scenario.label("annotate", 1, "a"), "rejected surplus");
    assert!(scenario.label("annotate", 3, "a").starts_with("completed"));
}

#[test]
fn a_released_slot_may_be_taken_again() {
    let mut scenario = Scenario::started(DUAL);
    for _ in 0..2 {
        scenario.assign("annotate", 1);
        scenario.release("annotate", 1);
    }
    let visit = &scenario.state.as_ref().unwrap().steps["annotate"].visits[0];
    assert_eq!(visit.released.len(), 1);
    assert!(scenario.label("annotate", 1, "a").starts_with("waiting"));
}

// Closing a step early --------------------------------------------------------------------------

const PROCEEDS: &str =
    "{ type: annotation_count, count: 4, min_required: 2, timeout: 1h, timeout_action: proceed }";
const CLOSED: &str = "completed | step_completed, workflow_completed";

/// Two have submitted, which is enough.
fn enough() -> Scenario {
    let mut scenario = Scenario::started(&with_completion(PROCEEDS, ""));
    scenario.label("annotate", 1, "a");
    assert!(scenario.due().is_empty(), "one is too few");
    scenario.label("annotate", 2, "a");
    scenario
}

#[test]
fn a_step_with_enough_submissions_is_closed_when_nobody_comes() {
    let mut scenario = enough();
    assert!(scenario.pass(TimeDelta::minutes(59)).is_empty());
    assert_eq!(scenario.pass(TimeDelta::minutes(1)), [CLOSED]);
    assert_eq!(scenario.output()["resolved_by"], "exhausted");
    assert!(scenario.due().is_empty());
}

#[test]
fn a_submission_and_activity_put_the_closing_off() {
    let mut scenario = enough();
    scenario.pass(TimeDelta::minutes(40));
    scenario.label("annotate", 3, "a");
    assert!(scenario.pass(TimeDelta::minutes(50)).is_empty());
    scenario.assign("annotate", 4);
    scenario.activity("annotate", 4);
    assert!(scenario.pass(TimeDelta::minutes(59)).is_empty());
    let fired = scenario.pass(TimeDelta::minutes(1)).join("; ");
    assert!(fired.contains("step_completed"), "{fired}");
}

#[test]
fn a_claim_alone_does_not_put_it_off_and_its_end_brings_it_forward() {
    let mut scenario = enough();
    scenario.pass(TimeDelta::minutes(50));
    scenario.assign("annotate", 3);
    assert_eq!(scenario.pass(TimeDelta::minutes(10)), [CLOSED]);
    assert_eq!(scenario.label("annotate", 3, "a"), "rejected task_finished");

    let mut scenario = Scenario::started(&with_completion(PROCEEDS, ""));
    scenario.assign("annotate", 3);
    scenario.pass(TimeDelta::minutes(30));
    scenario.label("annotate", 1, "a");
    scenario.label("annotate", 2, "a");
    assert_eq!(
        scenario.pass(TimeDelta::minutes(30)),
        ["completed | task_stalled, task_released, step_completed, workflow_completed"]
    );
}

#[test]
fn the_time_to_a_closing_stands_still_in_every_pause() {
    let begin = || {
        let mut scenario = enough();
        scenario.pass(TimeDelta::minutes(30));
        scenario
    };
    let ends = |mut scenario: Scenario| {
        assert!(
            scenario
                .pass(TimeDelta::minutes(29))
                .iter()
                .all(|f| !f.contains("completed"))
        );
        let fired = scenario.pass(TimeDelta::minutes(1)).join("; ");
        assert!(fired.ends_with(CLOSED), "{fired}");
    };
    let mut scenario = begin();
    scenario.pause(None);
    assert!(scenario.pass(TimeDelta::hours(9)).is_empty());
    scenario.control(Command::Resume);
    ends(scenario);

    let mut scenario = begin();
    scenario.pause_step("annotate", None);
    assert!(scenario.pass(TimeDelta::hours(9)).is_empty());
    scenario.resume_step("annotate");
    ends(scenario);

    let mut scenario = begin();
    scenario.pause_workflow(None);
    let row = scenario.due().remove(0);
    scenario.now += TimeDelta::hours(9);
    assert_eq!(
        scenario.run(Command::FireTimer(FireTimer::alone(row))),
        "Undecided(Paused)"
    );
    scenario.resume_workflow();
    // The late timer finds that half an hour is left.
    assert_eq!(
        scenario.pass(TimeDelta::zero()),
        ["waiting annotate | timers_rearmed"]
    );
    ends(scenario);
}

#[test]
fn a_step_that_has_its_result_is_not_closed_while_hooks_refine_it() {
    let mut scenario = Scenario::started(&with_completion(
        PROCEEDS,
        "      hooks: { post_process: [{ handler: webhook, config: { url: 'https://a.org/x' } }] }\n",
    ));
    for who in 1..=4 {
        scenario.label("annotate", who, "a");
    }
    let due: Vec<_> = scenario.due().into_iter().map(|row| row.kind).collect();
    assert_eq!(due, [TimerKind::HandlerCall]);
}

#[test]
fn a_step_that_is_not_sure_is_closed_with_its_best_answer() {
    let mut scenario = Scenario::started(&with_completion(
        "{ type: confidence, target: 0.99, min: 2, max: 6, timeout: 1h, timeout_action: proceed }",
        "      field: label\n",
    ));
    scenario.label("annotate", 1, "a");
    assert!(scenario.due().is_empty());
    let asked = scenario.label("annotate", 2, "a");
    assert!(asked.ends_with("places_added"), "{asked}");
    scenario.pass(TimeDelta::minutes(30));
    scenario.label("annotate", 3, "b");
    assert!(scenario.pass(TimeDelta::minutes(59)).is_empty());
    let closed = scenario.pass(TimeDelta::minutes(1)).join("; ");
    assert!(closed.starts_with("completed"), "{closed}");
}

#[test]
fn a_migration_sets_moves_and_ends_the_time_to_a_closing() {
    let yaml = |action: &str| {
        let completion =
            format!("{{ type: annotation_count, count: 4, min_required: 2, {action} }}");
        with_completion(&completion, "")
    };
    let migrate = |scenario: &mut Scenario, action: &str| {
        let to = scenario.revise(&yaml(action));
        scenario.run(Command::Migrate(Migrate {
            task_id: TASK,
            to,
            steps: [].into(),
        }));
    };
    let mut moved = enough();
    moved.pass(TimeDelta::minutes(30));
    migrate(&mut moved, "timeout: 2h, timeout_action: proceed");
    assert!(moved.pass(TimeDelta::minutes(89)).is_empty());
    assert_eq!(moved.pass(TimeDelta::minutes(1)), [CLOSED]);

    let mut ended = enough();
    let late = ended.due().remove(0);
    migrate(&mut ended, "timeout: 1h");
    assert!(ended.due().is_empty());
    ended.now += TimeDelta::hours(2);
    assert_eq!(
        ended.run(Command::FireTimer(FireTimer::alone(late))),
        "waiting annotate"
    );

    let mut set = Scenario::started(&yaml("timeout: 1h"));
    set.label("annotate", 1, "a");
    set.label("annotate", 2, "a");
    set.pause(None);
    set.now += TimeDelta::hours(5);
    migrate(&mut set, "timeout: 1h, timeout_action: proceed");
    set.now += TimeDelta::hours(5);
    set.control(Command::Resume);
    assert!(set.pass(TimeDelta::minutes(59)).is_empty());
    assert_eq!(set.pass(TimeDelta::minutes(1)), [CLOSED]);
}

#[test]
fn a_migration_leaves_a_slot_for_whoever_is_still_asked() {
    let yaml = "
workflow:
  id: dual
  steps:
    - id: ann
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus:
        field: label
        on_disagreement: { strategy: additional_annotators, max_additional: 2, fallback: majority_vote }
";
    let mut scenario = Scenario::started(yaml);
    for (who, label) in [(1, "a"), (2, "b"), (3, "c")] {
        scenario.label("ann", who, label);
    }
    let to = scenario.revise(yaml);
    scenario.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [].into(),
    }));
    assert!(scenario.label("ann", 4, "a").starts_with("completed"));
}
