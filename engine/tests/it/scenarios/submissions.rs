//! Rejected submissions, and the order in which the reasons are checked.

use glyph_workflow_engine::{command::Command, ids::WorkflowSelector};
use serde_json::{Value, json};

use super::DUAL;
use crate::scenario::Scenario;

#[test]
fn rejections_are_asked_in_their_order() {
    let mut scenario = Scenario::started(DUAL);
    assert_eq!(scenario.label("anotate", 1, "a"), "rejected unknown_step");
    assert_eq!(
        scenario.label("adjudicate", 1, "a"),
        "rejected step_not_active"
    );
    assert_eq!(
        scenario.submit("annotate", 1, json!({})),
        "rejected invalid_annotation"
    );
    assert_eq!(
        scenario.submit("annotate", 1, json!({"label": null})),
        "rejected invalid_annotation"
    );
    scenario.label("annotate", 1, "a");
    assert_eq!(
        scenario.label("annotate", 1, "b"),
        "rejected duplicate_annotator"
    );
    scenario.pause(None);
    assert_eq!(
        scenario.label("annotate", 1, "b"),
        "rejected duplicate_annotator"
    );
    assert_eq!(scenario.label("annotate", 2, "a"), "rejected task_paused");
    scenario.control(Command::Resume);
    scenario.label("annotate", 2, "a");
    assert_eq!(
        scenario.label("annotate", 2, "b"),
        "rejected duplicate_annotator"
    );
    assert_eq!(scenario.label("annotate", 3, "b"), "rejected surplus");
    assert_eq!(scenario.label("", 3, "b"), "rejected task_finished");
    assert_eq!(
        scenario.label("adjudicate", 3, "b"),
        "rejected task_finished"
    );
    assert_eq!(scenario.advance("", None), "rejected task_finished");
    assert_eq!(scenario.start(json!(null)), "rejected already_started");
}

#[test]
fn an_unknown_task_is_undecided_and_a_rejected_submission_starts_nothing() {
    let mut scenario = Scenario::new(DUAL);
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "Undecided(TaskNotFound)"
    );
    assert_eq!(scenario.advance("", None), "Undecided(TaskNotFound)");
    assert_eq!(scenario.control(Command::Cancel), "Undecided(TaskNotFound)");
    let named = |scenario: &mut Scenario, data: Value, workflow: &str| {
        let workflow: WorkflowSelector = workflow.parse().unwrap();
        scenario.submit_with("annotate", 1, data, |s| s.workflow = Some(workflow))
    };
    assert_eq!(
        named(&mut scenario, json!({}), "dual"),
        "rejected invalid_annotation"
    );
    assert!(scenario.state.is_none(), "nothing was started");
    assert_eq!(
        named(&mut scenario, json!({"label": "a"}), "other"),
        "Dead(WorkflowNotFound(\"other\"))"
    );
    assert_eq!(
        named(&mut scenario, json!({"label": "a"}), "dual"),
        "waiting annotate | workflow_started, step_activated, annotation_submitted"
    );
    assert_eq!(
        scenario.submit_with("annotate", 2, json!({"label": "a"}), |s| {
            s.workflow = Some("other".parse().unwrap());
        }),
        "rejected already_started"
    );
    assert_eq!(
        scenario.start(json!({"text": "x"})),
        "waiting annotate | task_details_supplied"
    );
    assert_eq!(
        scenario.state.as_ref().unwrap().input,
        Some(json!({"text": "x"}))
    );
    assert_eq!(
        scenario.start(json!({"text": "y"})),
        "rejected already_started"
    );
}
