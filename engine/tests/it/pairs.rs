//! Constructs that meet: what one does must not disturb the other.
//!
//! | pair | test |
//! |---|---|
//! | parallel × loop | `a_loop_in_a_branch_keeps_the_join_waiting_until_it_ends`, `a_loop_around_branches_forks_anew` |
//! | timeout × submission | `a_submission_and_the_end_of_its_claim_race_both_ways` |
//! | loop × review | `whoever_annotated_in_any_round_reviews_in_none` |
//! | migration × parallel | `branches_and_the_join_that_waits_move_together` |
//! | pause × timer | `scenarios::a_pause_stops_the_clock_of_claims`, `scenarios::a_join_goes_on_when_its_patience_ends` |

use std::sync::Arc;

use chrono::TimeDelta;
use glyph_workflow_engine::{
    Outcome, ProcessResult, WorkflowOrchestrator,
    command::{
        AnnotationInput, Command, CommandEnvelope, Migrate, RejectionCode, Start, Submission,
    },
    ids::TaskId,
    store::MemoryStore,
};
use serde_json::json;
use uuid::Uuid;

use crate::desk::{Desk, user};

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
    let mut desk = Desk::new(LOOP_IN_BRANCH);
    desk.start(json!({}));
    desk.label("image", 9, "i");
    desk.label("text", 1, "first");
    assert_eq!(
        desk.review("check", 2, "reject"),
        "advanced [text] | annotation_submitted, step_completed, transition_occurred, \
         step_activated",
        "the join goes on waiting"
    );
    desk.label("text", 1, "second");
    assert_eq!(
        desk.review("check", 2, "reject"),
        "completed | annotation_submitted, step_completed, transition_occurred, step_activated, \
         step_completed, workflow_completed",
        "the loop has run out, and its way out arrives at the join"
    );
}

#[test]
fn a_loop_around_branches_forks_anew() {
    let mut desk = Desk::new(
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
    desk.start(json!({}));
    for round in 1..=2 {
        assert!(
            desk.label("image", 1, "i").starts_with("advanced [text]"),
            "round {round}"
        );
        assert!(
            desk.label("text", 1, "t").starts_with("advanced [check]"),
            "round {round}"
        );
        assert_eq!(
            desk.review("check", 2, "reject"),
            "advanced [image, text] | annotation_submitted, step_completed, transition_occurred, \
             step_activated, step_completed, transition_occurred, transition_occurred, \
             step_activated, step_activated"
        );
    }
    desk.label("text", 1, "t");
    desk.label("image", 1, "i");
    assert!(desk.review("check", 2, "reject").starts_with("failed"));
    let state = desk.state.as_ref().unwrap();
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
    let mut desk = Desk::started(ONE);
    desk.assign("annotate", 1);
    desk.now += TimeDelta::hours(1);
    assert_eq!(
        desk.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );
    assert!(desk.pass(TimeDelta::hours(1)).is_empty());

    // The timer comes first: the place is free again, and the late submission takes it.
    let mut desk = Desk::started(ONE);
    desk.assign("annotate", 1);
    assert_eq!(
        desk.pass(TimeDelta::hours(1)),
        ["waiting annotate | task_stalled, task_released"]
    );
    assert_eq!(
        desk.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );

    // Somebody else was quicker than the late one.
    let mut desk = Desk::started(ONE);
    desk.assign("annotate", 1);
    desk.pass(TimeDelta::hours(1));
    desk.label("annotate", 2, "a");
    assert!(desk.label("annotate", 3, "a").starts_with("completed"));
    assert_eq!(desk.label("annotate", 1, "a"), "rejected surplus");
}

#[test]
fn whoever_annotated_in_any_round_reviews_in_none() {
    let mut desk = Desk::started("workflow: { id: refine, template: iterative_refinement }");
    desk.label("annotate", 1, "a");
    desk.review("review", 2, "request_changes");
    desk.label("annotate", 3, "b");
    assert_eq!(
        desk.review("review", 1, "approve"),
        "rejected self_review",
        "of the first round"
    );
    assert_eq!(desk.review("review", 3, "approve"), "rejected self_review");
    assert!(desk.review("review", 2, "approve").starts_with("completed"));
    assert_eq!(desk.output()["result"], json!({"label": "b"}));
    let state = desk.state.as_ref().unwrap();
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
