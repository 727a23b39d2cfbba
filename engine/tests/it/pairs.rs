//! Pairs of constructs that meet in one workflow: one must not disturb the other.
//!
//! | pair | test |
//! |---|---|
//! | parallel × loop | `a_loop_in_a_branch_keeps_the_join_waiting_until_it_ends`, `a_loop_around_branches_forks_anew` |
//! | timeout × submission | `a_submission_and_the_end_of_its_claim_race_both_ways` |
//! | loop × review | `whoever_annotated_in_any_round_reviews_in_none` |
//! | migration × parallel | `branches_and_the_join_that_waits_move_together`, `a_join_that_waits_is_asked_anew_by_the_revision` |
//! | migration × loop | `how_often_a_loop_has_fired_moves_along` |
//! | review × parallel | `nobody_reviews_what_their_branch_brought_to_a_join` |
//! | pause × timer | `scenarios::a_pause_stops_the_clock_of_claims`, `scenarios::a_join_goes_on_when_its_patience_ends` |

use std::sync::Arc;

use chrono::TimeDelta;
use glyph_workflow_engine::{
    Outcome, ProcessResult, WorkflowOrchestrator,
    command::{
        AnnotationInput, Command, CommandEnvelope, Migrate, RejectionCode, Start, Submission,
    },
    ids::{TaskId, WorkflowSelector},
    store::MemoryStore,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scenario::{Scenario, TASK, user};

const LOOP_IN_BRANCH: &str = "
workflow:
  id: looped-branch
  settings: { allow_parallel_steps: true }
  steps:
    - { id: begin, type: auto_process, handler: finalize }
    - { id: text, type: annotation }
    - { id: check, type: review }
    - { id: image, type: annotation }
    - { id: merge, type: auto_process, handler: result_merger }
  transitions:
    - { from: begin, to: text }
    - { from: begin, to: image }
    - { from: text, to: check }
    - { from: check, to: merge, condition: { type: on_agreement } }
    - { from: check, to: text, condition: { type: on_disagreement }, loop: { max_iterations: 1, on_exhausted: merge } }
    - { from: image, to: merge }
";

#[test]
fn a_loop_in_a_branch_keeps_the_join_waiting_until_it_ends() {
    let mut scenario = Scenario::new(LOOP_IN_BRANCH);
    scenario.start(json!({}));
    scenario.label("image", 9, "i");
    scenario.label("text", 1, "first");
    assert_eq!(
        scenario.review("check", 2, "reject"),
        "advanced [text] | annotation_submitted, step_completed, transition_occurred, \
         step_activated",
        "the join goes on waiting"
    );
    scenario.label("text", 1, "second");
    assert_eq!(
        scenario.review("check", 2, "reject"),
        "completed | annotation_submitted, step_completed, transition_occurred, step_activated, \
         step_completed, workflow_completed",
        "the loop has run out, and its way out arrives at the join"
    );
}

#[test]
fn a_loop_around_branches_forks_anew() {
    let mut scenario = Scenario::new(
        "
workflow:
  id: branches-in-loop
  settings: { allow_parallel_steps: true }
  steps:
    - { id: begin, type: auto_process, handler: finalize }
    - { id: text, type: annotation }
    - { id: image, type: annotation }
    - { id: check, type: review, join_mode: all }
  transitions:
    - { from: begin, to: text }
    - { from: begin, to: image }
    - { from: text, to: check }
    - { from: image, to: check }
    - { from: check, to: begin, condition: { type: on_disagreement }, loop: { max_iterations: 2, on_exhausted: _failed } }
    - { from: check, to: _complete, condition: { type: on_agreement } }
",
    );
    scenario.start(json!({}));
    for round in 1..=2 {
        assert!(
            scenario
                .label("image", 1, "i")
                .starts_with("advanced [text]"),
            "round {round}"
        );
        assert!(
            scenario
                .label("text", 1, "t")
                .starts_with("advanced [check]"),
            "round {round}"
        );
        assert_eq!(
            scenario.review("check", 2, "reject"),
            "advanced [image, text] | annotation_submitted, step_completed, transition_occurred, \
             step_activated, step_completed, transition_occurred, transition_occurred, \
             step_activated, step_activated"
        );
    }
    scenario.label("text", 1, "t");
    scenario.label("image", 1, "i");
    assert!(scenario.review("check", 2, "reject").starts_with("failed"));
    let state = scenario.state.as_ref().unwrap();
    assert_eq!(
        state.steps["check"].visits.len(),
        3,
        "each join fired once a round"
    );
}

#[test]
fn a_submission_and_the_end_of_its_claim_race_both_ways() {
    const ONE: &str = "
workflow:
  id: one
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2, timeout: 1h } }
";
    // The submission comes first: the timer finds nothing to do.
    let mut scenario = Scenario::started(ONE);
    scenario.assign("annotate", 1);
    scenario.now += TimeDelta::hours(1);
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );
    assert!(scenario.pass(TimeDelta::hours(1)).is_empty());

    // The timer comes first: the slot is free again, and the late submission takes it.
    let mut scenario = Scenario::started(ONE);
    scenario.assign("annotate", 1);
    assert_eq!(
        scenario.pass(TimeDelta::hours(1)),
        ["waiting annotate | task_stalled, task_released"]
    );
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );

    // Another person was faster.
    let mut scenario = Scenario::started(ONE);
    scenario.assign("annotate", 1);
    scenario.pass(TimeDelta::hours(1));
    scenario.label("annotate", 2, "a");
    assert!(scenario.label("annotate", 3, "a").starts_with("completed"));
    assert_eq!(scenario.label("annotate", 1, "a"), "rejected surplus");
}

#[test]
fn whoever_annotated_in_any_round_reviews_in_none() {
    let mut scenario =
        Scenario::started("workflow: { id: refine, template: iterative_refinement }");
    scenario.label("annotate", 1, "a");
    scenario.review("review", 2, "request_changes");
    scenario.label("annotate", 3, "b");
    assert_eq!(
        scenario.review("review", 1, "approve"),
        "rejected self_review",
        "of the first round"
    );
    assert_eq!(
        scenario.review("review", 3, "approve"),
        "rejected self_review"
    );
    assert!(
        scenario
            .review("review", 2, "approve")
            .starts_with("completed")
    );
    assert_eq!(scenario.output()["result"], json!({"label": "b"}));
    let state = scenario.state.as_ref().unwrap();
    let rounds = &state.steps["annotate"].visits;
    assert_eq!(rounds.len(), 2);
    assert_eq!(
        rounds[1].annotations.len(),
        1,
        "each round has annotations of its own"
    );
}

#[tokio::test]
async fn branches_and_the_join_that_waits_move_together() {
    let store = Arc::new(MemoryStore::new());
    let orchestrator = WorkflowOrchestrator::new(store.clone(), store);
    orchestrator.create_workflow(LOOP_IN_BRANCH).await.unwrap();
    let task_id = TaskId(Uuid::from_u128(1));
    let mut commands = 0;
    let mut run = async |command: Command| {
        commands += 1;
        let envelope = CommandEnvelope::new(Uuid::from_u128(0xC000 + commands), command);
        let report = orchestrator.process_batch(vec![envelope], None).await;
        report.unwrap().outcomes.remove(0)
    };
    let label = |step: &str, who: u128| {
        Command::Submission(Submission {
            task_id,
            step_id: Some(step.to_owned()),
            annotation: AnnotationInput {
                annotation_id: None,
                user_id: user(who),
                data: json!({"label": step}),
                decision: Some("approve".to_owned()),
                submitted_at: None,
                roles: None,
                confidence: None,
            },
            workflow: None,
        })
    };
    let migrate = |steps: &[(&str, &str)]| {
        let pairs = steps.iter();
        Command::Migrate(Migrate {
            task_id,
            to: "looped-branch@2".parse().unwrap(),
            steps: pairs
                .map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()))
                .collect(),
        })
    };
    let start = Command::Start(Start {
        task_id,
        workflow: "looped-branch".parse().unwrap(),
        input: None,
        labels: None,
        expected: None,
    });
    run(start).await;
    run(label("image", 9)).await;
    run(label("text", 1)).await;
    let renamed = LOOP_IN_BRANCH
        .replace("id: check", "id: verify")
        .replace("from: check", "from: verify")
        .replace("to: check", "to: verify")
        .replace("id: merge", "id: together")
        .replace("to: merge", "to: together")
        .replace("on_exhausted: merge", "on_exhausted: together");
    orchestrator.create_workflow(&renamed).await.unwrap();
    assert!(
        matches!(
            run(migrate(&[("check", "verify")])).await,
            Outcome::Rejected(r) if r.code == RejectionCode::MigrationUnmapped
        ),
        "the join that waits is mapped as active steps are"
    );
    let moved = run(migrate(&[("check", "verify"), ("merge", "together")])).await;
    assert!(
        matches!(moved, Outcome::Applied(ProcessResult::Waiting { .. })),
        "{moved:?}"
    );
    let end = run(label("verify", 2)).await;
    let Outcome::Applied(ProcessResult::Completed { output }) = end else {
        panic!("{end:?}")
    };
    assert_eq!(output["result"]["image"], json!({"label": "image"}));
}

#[test]
fn how_often_a_loop_has_fired_moves_along() {
    let looped = |most: u32| {
        format!(
            "
workflow:
  id: looped
  steps: [{{ id: a, type: annotation }}, {{ id: r, type: review }}]
  transitions:
    - {{ from: a, to: r }}
    - {{ from: r, to: _complete, condition: {{ type: on_agreement }} }}
    - {{ from: r, to: a, condition: {{ type: on_disagreement }}, loop: {{ max_iterations: {most}, on_exhausted: _failed }} }}
"
        )
    };
    let mut scenario = Scenario::started(&looped(1));
    scenario.label("a", 1, "x");
    scenario.review("r", 2, "reject");
    let to = scenario.revise(&looped(2));
    assert_eq!(
        scenario.run(migrate(to)),
        "waiting a | workflow_migrated",
        "and its event can be read again"
    );
    scenario.label("a", 1, "y");
    assert!(
        scenario
            .review("r", 2, "reject")
            .starts_with("advanced [a]")
    );
    scenario.label("a", 1, "z");
    assert!(scenario.review("r", 2, "reject").starts_with("failed"));
}

fn migrate(to: WorkflowSelector) -> Command {
    Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [].into(),
    })
}

#[test]
fn a_join_that_waits_is_asked_anew_by_the_revision() {
    let joined = |join: &str| {
        format!(
            "
workflow:
  id: joined
  settings: {{ allow_parallel_steps: true }}
  steps:
    - {{ id: s, type: auto_process, handler: finalize }}
    - {{ id: a, type: annotation }}
    - {{ id: b, type: annotation }}
    - {{ id: c, type: annotation }}
    - {{ id: m, type: annotation{join} }}
  transitions:
    - {{ from: s, to: a }}
    - {{ from: s, to: b }}
    - {{ from: s, to: c }}
    - {{ from: a, to: m }}
    - {{ from: b, to: m }}
    - {{ from: c, to: m }}
"
        )
    };
    let timed = ", join_timeout: 60s";
    let moved = |from: &str, to: &str, branches: &[&str]| {
        let mut scenario = Scenario::new(&joined(from));
        scenario.start(json!({}));
        for (branch, who) in branches.iter().zip(1..) {
            scenario.label(branch, who, "x");
        }
        scenario.now += TimeDelta::seconds(20);
        let to = scenario.revise(&joined(to));
        let answer = scenario.run(migrate(to));
        (scenario, answer)
    };
    let seconds_left = |scenario: &Scenario| -> Vec<i64> {
        let due = scenario.due();
        due.iter()
            .map(|row| (row.due_at - scenario.now).num_seconds())
            .collect()
    };

    let (scenario, _) = moved(timed, "", &["a"]);
    assert!(
        seconds_left(&scenario).is_empty(),
        "nobody waits for a time any more"
    );
    let (scenario, _) = moved("", timed, &["a"]);
    assert_eq!(seconds_left(&scenario), [60], "from now");
    let (scenario, _) = moved(timed, ", join_timeout: 90s", &["a"]);
    assert_eq!(seconds_left(&scenario), [70], "from the first arrival");
    let (mut scenario, _) = moved(timed, ", join_timeout: 10s", &["a"]);
    assert!(
        scenario.pass(TimeDelta::zero())[0].contains("step_activated"),
        "at once"
    );

    let (_, answer) = moved("", ", join_mode: any", &["a"]);
    assert!(
        answer.ends_with("step_withdrawn, step_withdrawn, step_activated"),
        "{answer}"
    );
    let two = ", join_mode: n_of_m, join_count: 2";
    let (_, answer) = moved("", two, &["a"]);
    assert!(!answer.contains("step_activated"), "{answer}");
    let (_, answer) = moved("", two, &["a", "b"]);
    assert!(
        answer.ends_with("step_withdrawn, step_activated"),
        "{answer}"
    );

    // The join is paused, and evaluated when it resumes.
    let mut scenario = Scenario::new(&joined(""));
    scenario.start(json!({}));
    scenario.label("a", 1, "x");
    scenario.pause(None);
    let to = scenario.revise(&joined(", join_mode: any"));
    assert!(!scenario.run(migrate(to)).contains("step_activated"));
    assert!(
        scenario
            .control(Command::Resume)
            .ends_with("step_activated")
    );
}

#[test]
fn nobody_reviews_what_their_branch_brought_to_a_join() {
    let yaml = |merged: bool| {
        let (merge, to) = if merged {
            (
                "- { id: m, type: auto_process, handler: result_merger }",
                "m",
            )
        } else {
            ("", "r")
        };
        let way = if merged { "- { from: m, to: r }" } else { "" };
        format!(
            "
workflow:
  id: merged
  settings: {{ allow_parallel_steps: true }}
  steps:
    - {{ id: s, type: auto_process, handler: finalize }}
    - {{ id: a, type: annotation }}
    - {{ id: b, type: annotation }}
    {merge}
    - {{ id: r, type: review }}
  transitions:
    - {{ from: s, to: a }}
    - {{ from: s, to: b }}
    - {{ from: a, to: {to} }}
    - {{ from: b, to: {to} }}
    {way}
"
        )
    };
    for merged in [true, false] {
        let mut scenario = Scenario::new(&yaml(merged));
        scenario.start(json!({}));
        scenario.label("a", 1, "x");
        scenario.label("b", 3, "y");
        for who in [1, 3] {
            assert_eq!(scenario.review("r", who, "approve"), "rejected self_review");
            assert_eq!(scenario.assign("r", who), "rejected self_review");
        }
        assert!(scenario.review("r", 2, "approve").starts_with("completed"));
    }
}

#[test]
fn a_correction_needs_a_value_and_has_no_words_of_the_review() {
    let yaml = "
workflow:
  id: corrected
  steps: [{ id: a, type: annotation }, { id: r, type: review }]
  transitions:
    - { from: a, to: r }
    - { from: r, to: _complete, condition: { type: on_agreement } }
    - { from: r, to: _failed, condition: { type: on_disagreement } }
";
    let fix = |data| {
        let mut scenario = Scenario::started(yaml);
        scenario.label("a", 1, "x");
        let answer = scenario.submit("r", 2, data);
        (answer, scenario)
    };
    for empty in [
        json!({"decision": "fix"}),
        json!({"decision": "fix", "reason": "typo"}),
    ] {
        assert_eq!(fix(empty).0, "rejected invalid_annotation");
    }
    let (_, scenario) = fix(json!({"decision": "fix", "label": "y", "reason": "typo"}));
    assert_eq!(scenario.output()["result"], json!({"label": "y"}));
    let mut scenario = Scenario::started(yaml);
    scenario.label("a", 1, "x");
    let answer = scenario.submit_with("r", 2, Value::Null, |s| {
        s.annotation.decision = Some("fix".to_owned());
    });
    assert_eq!(answer, "rejected invalid_annotation");
}
