//! What is refused, and in which order the reasons are looked at.

use glyph_workflow_engine::{command::Command, ids::WorkflowSelector};
use serde_json::{Value, json};

use super::DUAL;
use crate::desk::Desk;

#[test]
fn rejections_are_asked_in_their_order() {
    let mut desk = Desk::started(DUAL);
    assert_eq!(desk.label("anotate", 1, "a"), "rejected unknown_step");
    assert_eq!(desk.label("adjudicate", 1, "a"), "rejected step_not_active");
    assert_eq!(
        desk.submit("annotate", 1, json!({})),
        "rejected invalid_annotation"
    );
    assert_eq!(
        desk.submit("annotate", 1, json!({"label": null})),
        "rejected invalid_annotation"
    );
    desk.label("annotate", 1, "a");
    assert_eq!(
        desk.label("annotate", 1, "b"),
        "rejected duplicate_annotator"
    );
    desk.pause(None);
    assert_eq!(
        desk.label("annotate", 1, "b"),
        "rejected duplicate_annotator"
    );
    assert_eq!(desk.label("annotate", 2, "a"), "rejected task_paused");
    desk.control(Command::Resume);
    desk.label("annotate", 2, "a");
    assert_eq!(
        desk.label("annotate", 2, "b"),
        "rejected duplicate_annotator"
    );
    assert_eq!(desk.label("annotate", 3, "b"), "rejected surplus");
    assert_eq!(desk.label("", 3, "b"), "rejected task_finished");
    assert_eq!(desk.label("adjudicate", 3, "b"), "rejected task_finished");
    assert_eq!(desk.advance("", None), "rejected task_finished");
    assert_eq!(desk.start(json!(null)), "rejected already_started");
}

#[test]
fn an_unknown_task_is_undecided_and_a_rejected_submission_starts_nothing() {
    let mut desk = Desk::new(DUAL);
    assert_eq!(desk.label("annotate", 1, "a"), "Undecided(TaskNotFound)");
    assert_eq!(desk.advance("", None), "Undecided(TaskNotFound)");
    assert_eq!(desk.control(Command::Cancel), "Undecided(TaskNotFound)");
    let named = |desk: &mut Desk, data: Value, workflow: &str| {
        let workflow: WorkflowSelector = workflow.parse().unwrap();
        desk.submit_with("annotate", 1, data, |s| s.workflow = Some(workflow))
    };
    assert_eq!(
        named(&mut desk, json!({}), "dual"),
        "rejected invalid_annotation"
    );
    assert!(desk.state.is_none(), "nothing was started");
    assert_eq!(
        named(&mut desk, json!({"label": "a"}), "other"),
        "Dead(WorkflowNotFound(\"other\"))"
    );
    assert_eq!(
        named(&mut desk, json!({"label": "a"}), "dual"),
        "waiting annotate | workflow_started, step_activated, annotation_submitted"
    );
    assert_eq!(
        desk.submit_with("annotate", 2, json!({"label": "a"}), |s| {
            s.workflow = Some("other".parse().unwrap());
        }),
        "rejected already_started"
    );
    assert_eq!(
        desk.start(json!({"text": "x"})),
        "waiting annotate | task_details_supplied"
    );
    assert_eq!(
        desk.state.as_ref().unwrap().input,
        Some(json!({"text": "x"}))
    );
    assert_eq!(desk.start(json!({"text": "y"})), "rejected already_started");
}
