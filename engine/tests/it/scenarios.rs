//! Given a workflow and what has happened, when a command comes, then these events and no others.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, Control, Due, Migrate},
    due_work,
    ids::WorkflowSelector,
    state::{IncidentCode, TaskStatus},
};
use serde_json::{Value, json};

use crate::desk::{Desk, TASK};

const DUAL: &str = "
workflow:
  id: dual
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2, timeout: 1h }
      consensus: { field: label }
    - { id: adjudicate, type: adjudication, assignment: { required_roles: [adjudicator] } }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
";

fn adjudicate(desk: &mut Desk, who: u128, label: &str) -> String {
    desk.submit_with("adjudicate", who, json!({"label": label}), |s| {
        s.annotation.roles = Some(vec!["adjudicator".to_owned()]);
    })
}

fn with_completion(completion: &str, rest: &str) -> String {
    format!(
        "workflow:\n  id: one\n  steps:\n    - id: annotate\n      type: annotation\n      \
         completion: {completion}\n{rest}"
    )
}

#[test]
fn two_who_agree_complete_the_task() {
    let mut desk = Desk::new(DUAL);
    assert_eq!(
        desk.start(json!({"text": "x"})),
        "waiting annotate | workflow_started, step_activated"
    );
    assert_eq!(
        desk.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );
    assert_eq!(
        desk.label("annotate", 2, "a"),
        "completed | annotation_submitted, consensus_calculated, step_completed, \
         transition_occurred, workflow_completed"
    );
    let output = desk.output();
    assert_eq!(output["result"], "a");
    assert_eq!(output["agreement"], 1.0);
    assert_eq!(output["resolved_by"], "majority_vote");
    assert_eq!(output["steps"]["annotate"]["kind"], "consensus");
}

#[test]
fn two_who_differ_are_judged_by_a_third() {
    let mut desk = Desk::started(DUAL);
    desk.label("annotate", 1, "a");
    assert_eq!(
        desk.label("annotate", 2, "b"),
        "advanced [adjudicate] | annotation_submitted, consensus_calculated, step_completed, \
         transition_occurred, step_activated"
    );
    assert_eq!(desk.label("adjudicate", 3, "b"), "rejected role_required");
    assert_eq!(adjudicate(&mut desk, 1, "a"), "rejected self_review");
    assert_eq!(
        desk.submit_with("adjudicate", 3, json!({"x": 1}), |s| {
            s.annotation.roles = Some(vec!["adjudicator".to_owned()]);
        }),
        "rejected invalid_annotation"
    );
    assert_eq!(
        adjudicate(&mut desk, 3, "b"),
        "completed | annotation_submitted, step_completed, transition_occurred, workflow_completed"
    );
    assert_eq!(desk.output()["result"], "b");
    assert_eq!(desk.output()["resolved_by"], "adjudication");
    assert_eq!(
        desk.output()["agreement"],
        0.0,
        "of the last consensus step passed"
    );
}

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

#[test]
fn a_claim_reserves_a_place() {
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
        "the other place is claimed"
    );
    assert!(desk.label("annotate", 1, "a").starts_with("completed"));
}

#[test]
fn inactivity_frees_the_place_and_activity_keeps_it() {
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
fn a_lapsed_timer_is_applied_without_events() {
    let mut desk = Desk::started(DUAL);
    desk.assign("annotate", 1);
    let row = due_work(desk.state.as_ref().unwrap()).remove(0);
    desk.label("annotate", 1, "a");
    assert_eq!(desk.run(Command::Due(Due::alone(row))), "waiting annotate");
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
fn an_escalated_stall_is_resolved_by_retry() {
    let mut desk = Desk::started(&with_completion(
        "{ type: annotation_count, count: 1, timeout: 1h, timeout_action: escalate }",
        "",
    ));
    desk.assign("annotate", 1);
    desk.pass(TimeDelta::hours(1));
    assert_eq!(
        desk.control(Command::Retry),
        "waiting annotate | incident_resolved"
    );
    assert_eq!(desk.control(Command::Retry), "rejected not_waiting");
}

#[test]
fn advance_closes_with_the_best_answer_once_enough_are_there() {
    let yaml = with_completion(
        "{ type: annotation_count, count: 5, min_required: 3 }\n      consensus: { field: label }",
        "",
    );
    let mut desk = Desk::started(&yaml);
    desk.label("annotate", 1, "a");
    desk.label("annotate", 2, "b");
    assert_eq!(desk.advance("", None), "rejected not_waiting");
    desk.label("annotate", 3, "a");
    assert_eq!(
        desk.advance("", None),
        "completed | consensus_calculated, step_completed, workflow_completed"
    );
    assert_eq!(desk.output()["result"], "a");
    assert_eq!(desk.output()["resolved_by"], "exhausted");
    assert_eq!(
        desk.label("annotate", 4, "a"),
        "rejected task_finished",
        "not closed by its count"
    );
}

#[test]
fn without_a_rule_values_are_kept_as_they_are() {
    let mut desk = Desk::started(&with_completion("{ type: annotation_count, count: 2 }", ""));
    desk.label("annotate", 1, "a");
    desk.label("annotate", 2, "b");
    assert_eq!(
        desk.output()["result"],
        json!([{"label": "a"}, {"label": "b"}])
    );
    assert_eq!(desk.output()["agreement"], Value::Null);
}

#[test]
fn one_person_may_submit_twice_where_the_file_says_so() {
    let mut desk = Desk::started(&with_completion(
        "{ type: annotation_count, count: 2, unique_annotators: false }",
        "",
    ));
    desk.label("annotate", 1, "a");
    assert!(desk.label("annotate", 1, "b").starts_with("completed"));
}

#[test]
fn ties_and_majorities() {
    let vote = |rule: &str, labels: &[&str]| {
        let yaml = with_completion(
            &format!(
                "{{ type: annotation_count, count: {} }}\n      consensus: {{ field: label, {rule} }}",
                labels.len()
            ),
            "  transitions:\n    - { from: annotate, to: _complete, condition: { type: on_agreement } }\n    \
             - { from: annotate, to: _failed, condition: { type: on_disagreement } }\n",
        );
        let mut desk = Desk::started(&yaml);
        for (who, label) in (1..).zip(labels) {
            desk.label("annotate", who, label);
        }
        desk.state
            .unwrap()
            .output
            .map(|output| (output["result"].clone(), output["resolved_by"].clone()))
    };
    let majority = "on_disagreement: { strategy: majority_vote }";
    let won = |by: &str| Some((json!("a"), json!(by)));
    assert_eq!(vote(majority, &["a", "b", "a"]), won("majority_vote"));
    assert_eq!(vote(majority, &["a", "b"]), None, "a tie is unresolved");
    assert_eq!(
        vote("threshold: 0.3", &["a", "b", "a"]),
        won("majority_vote")
    );
    assert_eq!(
        vote(
            "threshold: 0.3, on_agreement: { method: unanimous }",
            &["a", "b", "a"]
        ),
        None
    );
    assert_eq!(
        vote("on_agreement: { method: unanimous }", &["a", "a"]),
        won("unanimous")
    );
    assert_eq!(vote("threshold: 1.0", &["a", "b", "a"]), None);
    assert_eq!(
        vote("metric: krippendorff_alpha", &["a"]),
        won("majority_vote"),
        "one agrees"
    );
}

#[test]
fn spans_that_overlap_enough_are_merged() {
    let yaml = with_completion(
        "{ type: annotation_count, count: 2 }\n      consensus: { field: spans, metric: span_iou, threshold: 0.7 }",
        "",
    );
    let mut desk = Desk::started(&yaml);
    desk.submit(
        "annotate",
        1,
        json!({"spans": [{"start": 0, "end": 10, "tag": "PER"}]}),
    );
    desk.submit(
        "annotate",
        2,
        json!({"spans": [{"start": 1, "end": 10, "tag": "PER"}]}),
    );
    assert_eq!(desk.output()["agreement"], 0.9);
    assert_eq!(
        desk.output()["result"],
        json!([{"start": 0, "end": 10, "tag": "PER"}])
    );
}

const REFINEMENT: &str = "workflow: { id: refine, template: iterative_refinement, overrides: { steps: { annotate: { consensus: { field: label } } } } }";

#[test]
fn requested_changes_go_back_and_the_loop_is_bounded() {
    let mut desk = Desk::started(REFINEMENT);
    for round in 1..=3 {
        desk.label("annotate", round, "a");
        assert_eq!(
            desk.review("review", 1, "approve").as_str(),
            "rejected self_review"
        );
        assert_eq!(
            desk.review("review", 50, "request_changes"),
            "advanced [annotate] | annotation_submitted, step_completed, transition_occurred, \
             step_activated"
        );
    }
    desk.label("annotate", 4, "a");
    let end = desk.review("review", 50, "request_changes");
    assert!(end.starts_with("failed"), "{end}");
}

#[test]
fn a_review_approves_fixes_or_rejects() {
    let review = |decision: &str, data: Value| {
        let mut desk = Desk::started(REFINEMENT);
        desk.label("annotate", 1, "a");
        assert_eq!(
            desk.submit("review", 2, json!({})),
            "rejected invalid_annotation"
        );
        desk.submit_with("review", 2, data, |s| {
            s.annotation.decision = Some(decision.to_owned());
        });
        desk.state
            .unwrap()
            .output
            .map(|output| output["result"].clone())
    };
    assert_eq!(review("approve", json!({})), Some(json!("a")));
    assert_eq!(review("fix", json!({"label": "c"})), Some(json!("c")));
    assert_eq!(review("fix", json!({})), None, "a fix needs its value");
    assert_eq!(review("reject", json!({})), None);
}

const ROUTED: &str = "
workflow:
  id: routed
  steps:
    - { id: annotate, type: annotation }
    - id: sure
      type: conditional
      condition: { expression: 'annotation.confidence >= 0.5' }
      true_branch: done
      false_branch: review
    - { id: review, type: review }
    - { id: done, type: auto_process, handler: finalize, config: { fields: [label] } }
  transitions:
    - { from: annotate, to: sure }
    - { from: review, to: done, condition: { type: expression, expression: 'result.decision == \"approve\"' } }
    - { from: done, to: _complete }
";

#[test]
fn an_expression_chooses_the_way() {
    let mut desk = Desk::started(ROUTED);
    let answer = desk.submit(
        "annotate",
        1,
        json!({"label": "a", "confidence": 0.9, "x": 1}),
    );
    assert!(answer.starts_with("completed"), "{answer}");
    assert_eq!(desk.output()["result"], json!({"label": "a"}));

    let mut desk = Desk::started(ROUTED);
    let answer = desk.submit("annotate", 1, json!({"label": "a", "confidence": 0.1}));
    assert!(answer.starts_with("advanced [review]"), "{answer}");
    assert_eq!(
        desk.review("review", 2, "reject"),
        "waiting review | annotation_submitted, step_completed, incident_opened",
        "no transition matches"
    );
    assert_eq!(
        desk.control(Command::Retry),
        "waiting review | incident_resolved, incident_opened"
    );
    assert_eq!(
        desk.control(Command::Cancel),
        "failed cancelled | incident_resolved, workflow_cancelled"
    );
}

#[test]
fn a_failed_expression_is_an_incident_that_an_operator_can_answer() {
    let mut desk = Desk::started(ROUTED);
    assert_eq!(
        desk.submit("annotate", 1, json!({"label": "a"})),
        "waiting sure | annotation_submitted, step_completed, transition_occurred, step_activated, \
         incident_opened"
    );
    let incident = &desk.state.as_ref().unwrap().incidents[0];
    assert!(
        incident.reason.contains("confidence"),
        "{}",
        incident.reason
    );
    assert_eq!(
        desk.control(Command::Retry),
        "waiting sure | incident_resolved, incident_opened",
        "the facts are the same"
    );
    let answer = desk.advance("sure", Some(json!(true)));
    assert!(
        answer.starts_with("completed | incident_resolved, step_completed"),
        "{answer}"
    );
}

#[test]
fn handlers_merge_and_compare() {
    let yaml = "
workflow:
  id: handled
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 3 } }
    - { id: check, type: auto_process, handler: consensus_calculator, config: { field: label, threshold: 0.3 } }
    - { id: merge, type: auto_process, handler: result_merger, config: { steps: [check] } }
  transitions:
    - { from: annotate, to: check }
    - { from: check, to: merge }
";
    let mut desk = Desk::started(yaml);
    for (who, label) in [(1, "a"), (2, "b"), (3, "a")] {
        desk.label("annotate", who, label);
    }
    assert_eq!(desk.output()["result"], json!({"check": "a"}));
    assert_eq!(desk.output()["agreement"], 1.0 / 3.0);
    assert_eq!(desk.output()["steps"]["check"]["kind"], "consensus");
}

#[test]
fn priority_comes_before_file_order() {
    let yaml = "
workflow:
  id: ranked
  steps:
    - { id: annotate, type: annotation }
    - { id: first, type: review }
    - { id: second, type: review }
  transitions:
    - { from: annotate, to: first, condition: { type: expression, expression: 'annotation.n > 0' } }
    - { from: annotate, to: second, priority: 5, condition: { type: expression, expression: 'annotation.n > 1' } }
    - { from: annotate, to: _complete, priority: -1 }
";
    let way = |n: u32| Desk::started(yaml).submit("annotate", 1, json!({"n": n}));
    assert!(way(2).starts_with("advanced [second]"));
    assert!(way(1).starts_with("advanced [first]"));
    assert!(way(0).starts_with("completed"));
}

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
        "no due work is left"
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

/// Annotates, then two branches side by side, which meet in `merge`.
fn forked(merge: &str) -> String {
    format!(
        "
workflow:
  id: forked
  settings: {{ allow_parallel_steps: true }}
  steps:
    - {{ id: read, type: annotation }}
    - {{ id: entities, type: annotation, completion: {{ type: annotation_count, count: 2 }} }}
    - {{ id: topic, type: annotation }}
    - {{ id: merge, type: auto_process, handler: result_merger{merge} }}
  transitions:
    - {{ from: read, to: entities }}
    - {{ from: read, to: topic }}
    - {{ from: entities, to: merge }}
    - {{ from: topic, to: merge }}
"
    )
}

#[test]
fn branches_run_side_by_side_and_meet() {
    let mut desk = Desk::started(&forked(""));
    assert_eq!(
        desk.label("read", 1, "x"),
        "advanced [entities, topic] | annotation_submitted, step_completed, transition_occurred, \
         transition_occurred, step_activated, step_activated"
    );
    assert_eq!(
        desk.label("", 1, "x"),
        "rejected step_not_active",
        "which one is meant?"
    );
    assert_eq!(
        desk.label("topic", 1, "t"),
        "advanced [entities] | annotation_submitted, step_completed, transition_occurred"
    );
    desk.label("entities", 1, "e");
    assert_eq!(
        desk.label("entities", 2, "f"),
        "completed | annotation_submitted, step_completed, transition_occurred, step_activated, \
         step_completed, workflow_completed"
    );
    let merged = json!({"entities": [{"label": "e"}, {"label": "f"}], "topic": {"label": "t"}});
    assert_eq!(desk.output()["result"], merged);
}

#[test]
fn the_first_branch_may_withdraw_the_others() {
    for merge in [", join_mode: any", ", join_mode: n_of_m, join_count: 1"] {
        let mut desk = Desk::started(&forked(merge));
        desk.label("read", 1, "x");
        desk.label("entities", 1, "e");
        assert_eq!(
            desk.label("topic", 1, "t"),
            "completed | annotation_submitted, step_completed, transition_occurred, \
             step_withdrawn, step_activated, step_completed, workflow_completed"
        );
        assert_eq!(desk.output()["result"], json!({"topic": {"label": "t"}}));
        assert_eq!(desk.label("entities", 2, "e"), "rejected task_finished");
    }
}

#[test]
fn a_join_goes_on_when_its_patience_ends() {
    let mut desk = Desk::started(&forked(", join_mode: all, join_timeout: 1h"));
    desk.label("read", 1, "x");
    desk.label("topic", 1, "t");
    desk.pass(TimeDelta::minutes(30));
    desk.pause(None);
    desk.pass(TimeDelta::hours(3));
    desk.control(Command::Resume);
    assert!(
        desk.pass(TimeDelta::minutes(29)).is_empty(),
        "a pause does not count"
    );
    assert_eq!(
        desk.pass(TimeDelta::minutes(2)),
        ["completed | step_withdrawn, step_activated, step_completed, workflow_completed"]
    );
}

#[test]
fn a_branch_that_goes_elsewhere_is_not_waited_for() {
    let yaml = "
workflow:
  id: elsewhere
  settings: { allow_parallel_steps: true }
  steps:
    - { id: read, type: annotation }
    - { id: a, type: review }
    - { id: b, type: review }
    - { id: both, type: review }
  transitions:
    - { from: read, to: a }
    - { from: read, to: b }
    - { from: a, to: both }
    - { from: b, to: both, condition: { type: on_agreement } }
    - { from: b, to: _complete, condition: { type: on_disagreement } }
    - { from: both, to: _complete }
";
    let mut desk = Desk::started(yaml);
    desk.label("read", 1, "x");
    assert_eq!(
        desk.review("a", 2, "approve"),
        "advanced [b] | annotation_submitted, step_completed, transition_occurred"
    );
    assert_eq!(
        desk.review("b", 3, "reject"),
        "advanced [both] | annotation_submitted, step_completed, transition_occurred, \
         step_activated",
        "the end of a branch is not the end of the task"
    );
    assert!(desk.review("both", 4, "approve").starts_with("completed"));
}

#[test]
fn a_failing_branch_fails_the_task() {
    let yaml = forked("").replace(
        "- { from: topic, to: merge }",
        "- { from: topic, to: merge, condition: { type: expression, expression: 'annotation.label != \"bad\"' } }
    - { from: topic, to: _failed, condition: { type: expression, expression: 'annotation.label == \"bad\"' } }",
    );
    let mut desk = Desk::started(&yaml);
    desk.label("read", 1, "x");
    let end = desk.label("topic", 1, "bad");
    assert!(end.starts_with("failed"), "{end}");
    assert!(
        end.ends_with("transition_occurred, step_withdrawn, workflow_failed"),
        "{end}"
    );
}

#[test]
fn a_loop_inside_one_branch_leaves_the_other_alone() {
    let yaml = "
workflow:
  id: looping
  settings: { allow_parallel_steps: true }
  steps:
    - { id: read, type: annotation }
    - { id: a, type: annotation }
    - { id: check, type: review }
    - { id: b, type: annotation }
    - { id: merge, type: auto_process, handler: result_merger, config: { steps: [a, b] } }
  transitions:
    - { from: read, to: a }
    - { from: read, to: b }
    - { from: a, to: check }
    - { from: check, to: a, condition: { type: on_disagreement }, loop: { max_iterations: 2, on_exhausted: _failed } }
    - { from: check, to: merge, condition: { type: on_agreement } }
    - { from: b, to: merge }
";
    let mut desk = Desk::started(yaml);
    desk.label("read", 1, "x");
    desk.label("a", 1, "a1");
    let back = desk.review("check", 9, "request_changes");
    assert!(back.starts_with("advanced [a, b]"), "{back}");
    desk.label("a", 1, "a2");
    assert!(
        desk.review("check", 9, "approve")
            .starts_with("advanced [b]")
    );
    assert!(desk.label("b", 1, "b").starts_with("completed"));
    assert_eq!(
        desk.output()["result"],
        json!({"a": {"label": "a2"}, "b": {"label": "b"}})
    );
}

#[test]
fn two_transitions_to_one_step_begin_one_visit() {
    let mut desk = Desk::started(
        "
workflow:
  id: twice
  settings: { allow_parallel_steps: true }
  steps:
    - { id: annotate, type: annotation }
    - { id: check, type: review }
  transitions:
    - { from: annotate, to: check, condition: { type: expression, expression: 'annotation.label == \"a\"' } }
    - { from: annotate, to: check }
    - { from: check, to: _complete }
",
    );
    assert_eq!(
        desk.label("annotate", 1, "a"),
        "advanced [check] | annotation_submitted, step_completed, transition_occurred, \
         transition_occurred, step_activated"
    );
    assert!(desk.review("check", 2, "approve").starts_with("completed"));
}

#[test]
fn branches_of_a_question_and_ways_out_of_a_loop_meet_like_others() {
    let mut desk = Desk::started(
        "
workflow:
  id: meeting
  settings: { allow_parallel_steps: true }
  steps:
    - { id: prepare, type: annotation }
    - { id: route, type: conditional, condition: { expression: 'has(annotation.label)' }, true_branch: merge, false_branch: _failed }
    - { id: text, type: annotation }
    - { id: check, type: review }
    - { id: merge, type: annotation }
  transitions:
    - { from: prepare, to: route }
    - { from: prepare, to: text }
    - { from: text, to: check }
    - { from: check, to: text, loop: { max_iterations: 1, on_exhausted: merge } }
",
    );
    assert!(desk.label("prepare", 1, "a").starts_with("advanced [text]"));
    assert!(desk.label("text", 1, "a").starts_with("advanced [check]"));
    assert!(
        desk.review("check", 2, "approve")
            .starts_with("advanced [text]")
    );
    assert!(desk.label("text", 1, "a").starts_with("advanced [check]"));
    assert_eq!(
        desk.review("check", 2, "approve"),
        "advanced [merge] | annotation_submitted, step_completed, transition_occurred, \
         step_activated",
        "the join has waited for the way out of the loop"
    );
}

#[test]
fn a_skipped_step_that_leads_nowhere_is_tried_again() {
    let mut desk = Desk::new(
        "
workflow:
  id: nowhere
  settings: { on_error: skip }
  steps:
    - { id: ask, type: conditional, condition: { expression: 'input.n > 1' } }
    - { id: annotate, type: annotation }
  transitions:
    - { from: ask, to: annotate, condition: { type: expression, expression: 'has(input.n)' } }
",
    );
    let answer = desk.start(json!({}));
    assert_eq!(
        answer,
        "waiting ask | workflow_started, step_activated, step_skipped, incident_opened"
    );
    assert_eq!(
        desk.control(Command::Retry),
        "waiting ask | incident_resolved, incident_opened"
    );
}

#[test]
fn more_people_are_asked_one_at_a_time_until_it_is_settled() {
    let asked = |rule: &str| {
        Desk::started(&with_completion(
            &format!(
                "{{ type: annotation_count, count: 2 }}\n      consensus: {{ field: label, threshold: 0.5, {rule} }}"
            ),
            "",
        ))
    };
    let strategy = "on_disagreement: { strategy: additional_annotators, max_additional: 2";
    let more = "waiting annotate | annotation_submitted, consensus_calculated, places_added";
    let mut desk = asked(&format!("{strategy} }}"));
    desk.label("annotate", 1, "a");
    assert_eq!(desk.label("annotate", 2, "b"), more);
    assert_eq!(desk.label("annotate", 3, "c"), more);
    assert!(
        desk.label("annotate", 4, "d").starts_with("completed"),
        "the bound ends it"
    );
    assert_eq!(desk.output()["result"], Value::Null);

    let mut desk = asked(&format!("{strategy}, fallback: majority_vote }}"));
    for (who, label) in [(1, "a"), (2, "b"), (3, "c"), (4, "a")] {
        desk.label("annotate", who, label);
    }
    assert_eq!(desk.output()["result"], "a");

    let mut desk =
        asked("on_disagreement: { strategy: majority_vote }, tie_breaker: additional_annotator");
    desk.label("annotate", 1, "a");
    assert_eq!(desk.label("annotate", 2, "b"), more);
    desk.label("annotate", 3, "b");
    assert_eq!(desk.output()["result"], "b");
}

#[test]
fn a_failing_step_may_be_skipped() {
    let yaml = "
workflow:
  id: skipping
  steps:
    - { id: annotate, type: annotation }
    - { id: ask, type: conditional, on_error: skip, condition: { expression: 'annotation.missing > 1' } }
    - { id: done, type: auto_process, handler: finalize }
  transitions:
    - { from: annotate, to: ask }
    - { from: ask, to: done }
";
    let mut desk = Desk::started(yaml);
    assert_eq!(
        desk.label("annotate", 1, "a"),
        "completed | annotation_submitted, step_completed, transition_occurred, step_activated, \
         step_skipped, transition_occurred, step_activated, step_completed, workflow_completed"
    );
    assert_eq!(desk.output()["result"], json!({"label": "a"}));
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
    // What the person or the place forbids comes first, as for a paused task.
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
    // Stores do not claim due work of a paused workflow; what was claimed before is put off and
    // leaves no outcome, so it comes again.
    desk.now += TimeDelta::hours(10);
    let row = due_work(desk.state.as_ref().unwrap()).remove(0);
    assert_eq!(desk.run(Command::Due(Due::alone(row))), "Undecided(Held)");
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
    assert!(due_work(desk.state.as_ref().unwrap()).is_empty());
}

/// What is approved is what the reviewer saw: what an adjudicator or another reviewer has made of
/// the judged value, or the merge of what branches came to.
#[test]
fn a_review_approves_what_has_become_of_the_judged_value() {
    let mut desk = Desk::started(
        "
workflow:
  id: judged
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { field: label }
    - { id: adjudicate, type: adjudication }
    - { id: second, type: review }
    - { id: third, type: review }
  transitions:
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: annotate, to: second, condition: { type: on_agreement } }
    - { from: adjudicate, to: second }
    - { from: second, to: third }
",
    );
    desk.label("annotate", 1, "a");
    desk.label("annotate", 2, "b");
    desk.label("adjudicate", 3, "c");
    desk.review("second", 4, "approve");
    let value = |desk: &Desk, step: &str| {
        let state = desk.state.as_ref().unwrap();
        state
            .current_visit(step)
            .unwrap()
            .result
            .as_ref()
            .unwrap()
            .value
            .clone()
    };
    assert_eq!(value(&desk, "second"), Some(json!("c")));
    desk.submit_with("third", 5, json!({"label": "d"}), |s| {
        s.annotation.decision = Some("fix".to_owned());
    });
    assert_eq!(desk.output()["result"], "d");

    let mut desk = Desk::new(
        "
workflow:
  id: merged
  settings: { allow_parallel_steps: true }
  steps:
    - { id: begin, type: auto_process, handler: finalize }
    - { id: one, type: annotation, field: label }
    - { id: two, type: annotation, field: label }
    - { id: merge, type: auto_process, handler: result_merger }
    - { id: look, type: review }
  transitions:
    - { from: begin, to: one }
    - { from: begin, to: two }
    - { from: one, to: merge }
    - { from: two, to: merge }
    - { from: merge, to: look }
",
    );
    desk.start(Value::Null);
    desk.label("one", 1, "a");
    desk.label("two", 2, "b");
    desk.review("look", 3, "approve");
    assert_eq!(desk.output()["result"], json!({"one": "a", "two": "b"}));
}

#[test]
fn a_conditional_asks_of_the_step_left_whatever_other_branches_come_to() {
    let mut desk = Desk::new(
        "
workflow:
  id: branches
  settings: { allow_parallel_steps: true }
  steps:
    - { id: begin, type: auto_process, handler: finalize }
    - { id: one, type: annotation }
    - { id: two, type: annotation }
    - { id: route, type: conditional, condition: { expression: 'result.value.kind == 1' }, true_branch: _complete, false_branch: _failed }
  transitions:
    - { from: begin, to: one }
    - { from: begin, to: two }
    - { from: one, to: route }
    - { from: two, to: _complete }
",
    );
    desk.start(Value::Null);
    desk.submit("one", 1, json!({"other": 2}));
    desk.submit("two", 2, json!({"kind": 1}));
    desk.control(Command::Retry);
    let state = desk.state.as_ref().unwrap();
    assert_eq!(state.status, TaskStatus::Running);
    assert_eq!(state.incidents[0].code, IncidentCode::ExpressionFailed);
}

#[test]
fn a_review_judges_the_visit_that_has_ended_where_a_loop_begins_another() {
    let mut desk = Desk::new(
        "
workflow:
  id: again
  settings: { allow_parallel_steps: true }
  steps:
    - { id: label, type: annotation, field: label }
    - { id: look, type: review }
  transitions:
    - { from: label, to: label, loop: { max_iterations: 1, on_exhausted: _complete } }
    - { from: label, to: look }
",
    );
    desk.start(Value::Null);
    desk.label("label", 1, "a");
    let state = desk.state.as_ref().unwrap();
    let judges = state.current_visit("look").unwrap().judges.clone().unwrap();
    assert_eq!(judges.visit, 1);
}

#[test]
fn a_step_that_ends_resolves_that_somebody_was_inactive_on_it() {
    let mut desk = Desk::started(
        "
workflow:
  id: told
  steps:
    - id: label
      type: annotation
      completion: { type: annotation_count, count: 1, timeout: 1h, timeout_action: escalate }
",
    );
    desk.assign("label", 1);
    desk.pass(TimeDelta::hours(1));
    assert_eq!(desk.state.as_ref().unwrap().incidents.len(), 1);
    let ended = desk.label("label", 2, "a");
    assert!(
        ended.starts_with("completed |") && ended.contains("incident_resolved"),
        "{ended}"
    );
}

// What a task makes itself ----------------------------------------------------------------------

#[test]
fn a_value_that_grows_or_nests_without_end_is_an_incident() {
    let looped = "
workflow:
  id: dual
  steps:
    - { id: ann, type: annotation }
    - { id: merge, type: auto_process, handler: result_merger, config: { steps: [ann, merge] } }
    - { id: check, type: annotation }
  transitions:
    - { from: ann, to: merge }
    - { from: merge, to: merge, loop: { max_iterations: 150, on_exhausted: check } }
    - { from: check, to: _complete }
";
    let mergers = (0..20).map(|n| {
        let before: Vec<String> = (0..n).map(|k| format!(", m{k}")).collect();
        let steps = format!("ann{}", before.concat());
        format!(
            "    - {{ id: m{n}, type: auto_process, handler: result_merger, config: {{ steps: [{steps}] }} }}\n"
        )
    });
    let mergers = mergers.collect::<Vec<_>>().concat();
    let ways = (0..19).map(|n| format!("    - {{ from: m{n}, to: m{} }}\n", n + 1));
    let ways = ways.collect::<Vec<_>>().concat();
    let doubled = format!(
        "workflow:\n  id: dual\n  steps:\n    - {{ id: ann, type: annotation }}\n{mergers}  transitions:\n    - \
         {{ from: ann, to: m0 }}\n{ways}"
    );
    for (yaml, data, reason) in [
        (looped, json!(1), "it nests deeper than 64"),
        (
            &doubled,
            json!("x".repeat(1_000)),
            "it would have more than 1048576 bytes",
        ),
    ] {
        let mut desk = Desk::started(yaml);
        let answer = desk.submit("ann", 1, data);
        assert!(answer.ends_with("incident_opened"), "{answer}");
        let incident = &desk.state.as_ref().unwrap().incidents[0];
        assert_eq!(incident.code, IncidentCode::HandlerFailed);
        assert!(incident.reason.contains(reason), "{}", incident.reason);
    }
}

#[test]
fn null_is_no_value_before_it_is_written_either() {
    let mut desk = Desk::started(
        "
workflow:
  id: dual
  steps: [{ id: ann, type: annotation }, { id: rv, type: review }, { id: bad, type: annotation }]
  transitions:
    - { from: ann, to: rv }
    - { from: rv, to: _complete, condition: { type: on_agreement } }
    - { from: rv, to: bad }
    - { from: bad, to: _complete }
",
    );
    desk.submit("ann", 1, Value::Null);
    assert!(
        desk.review("rv", 2, "approve")
            .starts_with("advanced [bad]")
    );
}

#[test]
fn a_migration_leaves_a_place_for_whoever_is_still_asked() {
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
