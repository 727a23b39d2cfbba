//! Parallel branches, and the joins where they meet.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, FireTimer},
    store::TimerKind,
};
use serde_json::json;

use super::forked;
use crate::scenario::Scenario;

#[test]
fn branches_run_side_by_side_and_meet() {
    let mut scenario = Scenario::started(&forked(""));
    assert_eq!(
        scenario.label("read", 1, "x"),
        "advanced [entities, topic] | annotation_submitted, step_completed, transition_occurred, \
         transition_occurred, step_activated, step_activated"
    );
    assert_eq!(
        scenario.label("", 1, "x"),
        "rejected step_not_active",
        "which one is meant?"
    );
    assert_eq!(
        scenario.label("topic", 1, "t"),
        "advanced [entities] | annotation_submitted, step_completed, transition_occurred"
    );
    scenario.label("entities", 1, "e");
    assert_eq!(
        scenario.label("entities", 2, "f"),
        "completed | annotation_submitted, step_completed, transition_occurred, step_activated, \
         step_completed, workflow_completed"
    );
    let merged = json!({"entities": [{"label": "e"}, {"label": "f"}], "topic": {"label": "t"}});
    assert_eq!(scenario.output()["result"], merged);
}

#[test]
fn the_first_branch_may_withdraw_the_others() {
    for merge in [", join_mode: any", ", join_mode: n_of_m, join_count: 1"] {
        let mut scenario = Scenario::started(&forked(merge));
        scenario.label("read", 1, "x");
        scenario.label("entities", 1, "e");
        assert_eq!(
            scenario.label("topic", 1, "t"),
            "completed | annotation_submitted, step_completed, transition_occurred, \
             step_withdrawn, step_activated, step_completed, workflow_completed"
        );
        assert_eq!(
            scenario.output()["result"],
            json!({"topic": {"label": "t"}})
        );
        assert_eq!(scenario.label("entities", 2, "e"), "rejected task_finished");
    }
}

#[test]
fn a_join_goes_on_when_its_patience_ends() {
    let mut scenario = Scenario::started(&forked(", join_mode: all, join_timeout: 1h"));
    scenario.label("read", 1, "x");
    scenario.label("topic", 1, "t");
    scenario.pass(TimeDelta::minutes(30));
    scenario.pause(None);
    scenario.pass(TimeDelta::hours(3));
    scenario.control(Command::Resume);
    assert!(
        scenario.pass(TimeDelta::minutes(29)).is_empty(),
        "a pause does not count"
    );
    assert_eq!(
        scenario.pass(TimeDelta::minutes(2)),
        ["completed | step_withdrawn, step_activated, step_completed, workflow_completed"]
    );
}

#[test]
fn the_patience_of_a_join_that_has_met_does_not_begin_it_again() {
    let merge = "type: auto_process, handler: result_merger, join_timeout: 1h }";
    let yaml = forked(", join_timeout: 1h")
        .replace(
            merge,
            "type: annotation, join_timeout: 1h }\n    - { id: last, type: annotation }",
        )
        .replace(
            "{ from: topic, to: merge }",
            "{ from: topic, to: merge }\n    - { from: merge, to: last }",
        );
    let mut scenario = Scenario::started(&yaml);
    scenario.label("read", 1, "x");
    scenario.label("topic", 1, "t");
    let late = scenario.due().remove(0);
    assert_eq!(late.kind, TimerKind::JoinTimeout);
    scenario.label("entities", 1, "e");
    scenario.label("entities", 2, "e");
    scenario.label("merge", 3, "m");
    scenario.now += TimeDelta::hours(2);
    let answer = scenario.run(Command::FireTimer(FireTimer::alone(late)));
    assert!(!answer.contains('|'), "{answer}");
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
    let mut scenario = Scenario::started(yaml);
    scenario.label("read", 1, "x");
    assert_eq!(
        scenario.review("a", 2, "approve"),
        "advanced [b] | annotation_submitted, step_completed, transition_occurred"
    );
    assert_eq!(
        scenario.review("b", 3, "reject"),
        "advanced [both] | annotation_submitted, step_completed, transition_occurred, \
         step_activated",
        "the end of a branch is not the end of the task"
    );
    assert!(
        scenario
            .review("both", 4, "approve")
            .starts_with("completed")
    );
}

#[test]
fn a_failing_branch_fails_the_task() {
    let yaml = forked("").replace(
        "- { from: topic, to: merge }",
        "- { from: topic, to: merge, condition: { type: expression, expression: 'annotation.label != \"bad\"' } }
    - { from: topic, to: _failed, condition: { type: expression, expression: 'annotation.label == \"bad\"' } }",
    );
    let mut scenario = Scenario::started(&yaml);
    scenario.label("read", 1, "x");
    let end = scenario.label("topic", 1, "bad");
    assert!(end.starts_with("failed"), "{end}");
    assert!(
        end.ends_with("transition_occurred, step_withdrawn, workflow_failed"),
        "{end}"
    );
}

#[test]
fn two_transitions_to_one_step_begin_one_visit() {
    let mut scenario = Scenario::started(
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
        scenario.label("annotate", 1, "a"),
        "advanced [check] | annotation_submitted, step_completed, transition_occurred, \
         transition_occurred, step_activated"
    );
    assert!(
        scenario
            .review("check", 2, "approve")
            .starts_with("completed")
    );
}

#[test]
fn branches_of_a_question_and_ways_out_of_a_loop_meet_like_others() {
    let mut scenario = Scenario::started(
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
    assert!(
        scenario
            .label("prepare", 1, "a")
            .starts_with("advanced [text]")
    );
    assert!(
        scenario
            .label("text", 1, "a")
            .starts_with("advanced [check]")
    );
    assert!(
        scenario
            .review("check", 2, "approve")
            .starts_with("advanced [text]")
    );
    assert!(
        scenario
            .label("text", 1, "a")
            .starts_with("advanced [check]")
    );
    assert_eq!(
        scenario.review("check", 2, "approve"),
        "advanced [merge] | annotation_submitted, step_completed, transition_occurred, \
         step_activated",
        "the join has waited for the way out of the loop"
    );
}
