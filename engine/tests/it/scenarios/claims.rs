//! Claims, their time limits, and who may still submit.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, FireTimer, Migrate},
    derive_timers,
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
    assert_eq!(
        stalled("proceed").1,
        format!("completed | {both}, step_completed, workflow_completed")
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
