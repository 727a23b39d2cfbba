//! Claims, their time limits, and who may still answer.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, FireTimer, Migrate},
    derive_timers,
};

use super::{DUAL, with_completion};
use crate::desk::{Desk, TASK};

#[test]
fn a_claim_reserves_a_slot() {
    let mut desk = Desk::started(DUAL);
    assert_eq!(
        desk.assign("annotate", 1),
        "waiting annotate | task_assigned"
    );
    assert_eq!(
        desk.assign("annotate", 1),
        "waiting annotate | activity_recorded"
    );
    assert_eq!(
        desk.assign("annotate", 2),
        "waiting annotate | task_assigned"
    );
    assert_eq!(desk.assign("annotate", 3), "rejected surplus");
    assert_eq!(desk.label("annotate", 3, "a"), "rejected surplus");
    assert_eq!(
        desk.release("annotate", 2),
        "waiting annotate | task_released"
    );
    assert_eq!(desk.release("annotate", 2), "rejected not_waiting");
    assert_eq!(
        desk.label("annotate", 3, "a"),
        "waiting annotate | annotation_submitted"
    );
    assert_eq!(
        desk.label("annotate", 2, "a"),
        "rejected surplus",
        "the other slot is claimed"
    );
    assert!(desk.label("annotate", 1, "a").starts_with("completed"));
}

#[test]
fn inactivity_frees_the_slot_and_activity_keeps_it() {
    let mut desk = Desk::started(DUAL);
    desk.assign("annotate", 1);
    assert!(desk.pass(TimeDelta::minutes(50)).is_empty());
    assert_eq!(
        desk.activity("annotate", 1),
        "waiting annotate | activity_recorded"
    );
    assert!(desk.pass(TimeDelta::minutes(50)).is_empty());
    assert_eq!(
        desk.pass(TimeDelta::minutes(20)),
        ["waiting annotate | task_stalled, task_released"]
    );
    assert_eq!(desk.activity("annotate", 1), "rejected not_waiting");
    assert!(
        desk.pass(TimeDelta::days(9)).is_empty(),
        "without an assignment nothing times out"
    );
}

#[test]
fn a_lapsed_timer_is_applied_without_events() {
    let mut desk = Desk::started(DUAL);
    desk.assign("annotate", 1);
    let row = derive_timers(desk.state.as_ref().unwrap()).remove(0);
    desk.label("annotate", 1, "a");
    assert_eq!(
        desk.run(Command::FireTimer(Due::alone(row))),
        "waiting annotate"
    );
}

#[test]
fn timeout_actions() {
    let stalled = |action: &str| {
        let mut desk = Desk::started(&with_completion(
            &format!(
                "{{ type: annotation_count, count: 3, min_required: 1, timeout: 1h, \
                 timeout_action: {action} }}"
            ),
            "",
        ));
        desk.label("annotate", 1, "a");
        desk.assign("annotate", 2);
        let fired = desk.pass(TimeDelta::hours(1)).join("; ");
        (desk, fired)
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
    let (desk, fired) = stalled("fail");
    assert!(fired.starts_with("failed"), "{fired}");
    assert!(
        fired.ends_with(&format!("{both}, step_failed, workflow_failed")),
        "{fired}"
    );
    assert!(desk.state.unwrap().active_steps().next().is_none());
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
    let mut desk = Desk::started(yaml);
    for (who, label) in [(1, "a"), (2, "b"), (3, "c")] {
        desk.label("ann", who, label);
    }
    let to = desk.revise(yaml);
    desk.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [].into(),
    }));
    assert!(desk.label("ann", 4, "a").starts_with("completed"));
}
