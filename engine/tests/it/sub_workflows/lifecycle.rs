//! From the start of a child to the result that its end gives the parent.

use glyph_workflow_engine::{
    Effect, Outcome,
    command::{Command, CommandEnvelope, FireTimer, Submission},
    ids::UserId,
    state::TaskStatus,
    store::TimerKind,
    timer_command_id,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{EXTRACT, Family, NEST, ROOT, code, user};

#[tokio::test]
async fn a_child_runs_and_its_output_goes_on_in_the_parent() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let child = family.child("fields").await;
    let name = "fields/1".as_bytes();
    assert_eq!(child.0, Uuid::new_v5(&ROOT.0, name), "as promised");
    assert!(!family.exists(child).await, "its start is timers");

    family.settle().await;
    let state = family.state(child).await;
    assert_eq!(state.input, Some(json!({"text": "t", "kind": "invoice"})));
    assert_eq!(state.labels["project"], "p1");
    let parent = state.parent.unwrap();
    assert_eq!((parent.task_id, parent.root_task_id), (ROOT, ROOT));
    assert_eq!((parent.depth, parent.depth_max), (1, 5));
    assert!(family.rows().await.is_empty());

    let end = family
        .submit(child, "mark", 3, json!({"fields": ["a"]}))
        .await;
    assert_eq!(code(&end), "completed");
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "link");
    let context = json!({"project": "p1", "fields": ["a"], "by": "annotation", "nothing": null});
    assert_eq!(Value::Object(state.context), context);

    family.submit(ROOT, "link", 4, json!("linked")).await;
    let state = family.state(ROOT).await;
    let output = state.output.unwrap();
    assert_eq!(output["result"], "linked");
    let fields = &output["steps"]["fields"];
    assert_eq!(fields["kind"], "sub_workflow");
    assert_eq!(fields["resolved_by"], "sub_workflow");
    assert_eq!(fields["value"], json!({"fields": ["a"]}));
    assert_eq!(output["context"]["fields"], json!(["a"]));
    family.settle().await;
    assert_eq!(
        family.story(ROOT, 7).await,
        "child_requested, child_told, child_ended, step_completed, transition_occurred, \
         step_activated, annotation_submitted, step_completed, workflow_completed"
    );
    assert_eq!(
        family.story(child, 0).await,
        "workflow_started, step_activated, annotation_submitted, step_completed, \
         workflow_completed, parent_told"
    );
}

#[tokio::test]
async fn whatever_is_performed_twice_or_by_halves_happens_once() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let child = family.child("fields").await;
    let start = family.rows().await.remove(0);
    assert_eq!(start.kind, TimerKind::ChildStart);
    // A crash after the child's commit and before the parent's: the row runs twice.
    family.effect(&start).await;
    family.effect(&start).await;
    family.settle().await;
    // Late copies of rows that are settled.
    assert_eq!(family.effect(&start).await, None, "nobody asks any more");
    assert_eq!(family.perform(&start).await.name(), "duplicate");
    assert_eq!(
        family.story(child, 0).await,
        "workflow_started, step_activated"
    );

    family.submit(child, "mark", 3, json!({"fields": 1})).await;
    let report = family.rows().await.remove(0);
    assert_eq!(report.kind, TimerKind::ChildReport);
    family.effect(&report).await;
    family.effect(&report).await;
    family.settle().await;
    assert_eq!(family.perform(&report).await.name(), "duplicate");
    let ends = family.events(ROOT).await;
    let ends = ends.iter().filter(|event| **event == "child_ended").count();
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn timers_without_its_effect_stays_due() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let row = family.rows().await.remove(0);
    let due = Command::FireTimer(FireTimer::alone(row.clone()));
    let outcome = family
        .envelope(CommandEnvelope::new(timer_command_id(&row), due))
        .await;
    assert_eq!(outcome.name(), "undecided");
    assert_eq!(family.rows().await, [row]);
}

#[tokio::test]
async fn a_child_runs_the_newest_revision_there_is_when_it_starts() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let newer = EXTRACT.replace("mark", "label");
    family.orchestrator.create_workflow(&newer).await.unwrap();
    family.settle().await;
    let child = family.child("fields").await;
    assert_eq!(family.state(child).await.workflow.revision, 2);
    family.submit(child, "label", 3, json!(1)).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    let child = state
        .current_visit("fields")
        .unwrap()
        .child
        .clone()
        .unwrap();
    assert_eq!(child.outcome.unwrap().workflow.unwrap().revision, 2);
}

#[tokio::test]
async fn a_person_may_be_quicker_than_the_parents_start() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let child = family.child("fields").await;
    let by_name = |s: &mut Submission| s.workflow = Some("extract".parse().unwrap());
    let end = family
        .submit_with(child, "mark", 3, json!({"fields": 1}), by_name)
        .await;
    assert_eq!(code(&end), "completed");
    family.settle().await;
    let state = family.state(child).await;
    assert_eq!(state.parent.unwrap().task_id, ROOT);
    assert_eq!(family.state(ROOT).await.context["fields"], 1);
}

#[tokio::test]
async fn a_start_that_comes_again_under_another_id_is_no_other_start() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let row = family.rows().await.remove(0);
    let effect = family.orchestrator.effect_of(&row).await.unwrap();
    let Some(Effect::Command(start)) = effect else {
        panic!("{effect:?}")
    };
    family.effect(&row).await;
    // As after its row of the inbox was deleted for its age.
    let again = CommandEnvelope::new(Uuid::from_u128(7), start.command);
    let outcome = family.envelope(again).await;
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    let child = family.child("fields").await;
    assert_eq!(family.state(child).await.parent.unwrap().task_id, ROOT);
}

#[tokio::test]
async fn people_of_the_step_before_get_places_in_the_child() {
    let two = EXTRACT.replace(
        "type: annotation",
        "type: annotation, completion: { type: annotation_count, count: 2 }, assignment: { required_roles: [coder] }",
    );
    let propagating = NEST.replace(
        "workflow: extract",
        "workflow: extract\n      assignment: { propagate_assignment: true }",
    );
    let mut family = Family::started(&[&two, &propagating], "nest").await;
    for (who, role) in [(1, "coder"), (2, "reader")] {
        let role = |s: &mut Submission| s.annotation.roles = Some(vec![role.to_owned()]);
        family
            .submit_with(ROOT, "triage", who, json!({"kind": "letter"}), role)
            .await;
    }
    family.settle().await;
    let child = family.child("fields").await;
    let state = family.state(child).await;
    let held = &state.current_visit("mark").unwrap().assignments;
    let holders: Vec<UserId> = held.iter().map(|slot| slot.user_id).collect();
    assert_eq!(holders, [user(1)], "who lacks the role gets no slot");
    assert_eq!(held[0].n, 1, "the first claim of the visit");
    let parent = family.state(ROOT).await;
    let told = parent.current_visit("fields").unwrap().child.as_ref();
    assert!(told.unwrap().holders.is_empty(), "the child knows them now");
    assert_eq!(state.current_visit("mark").unwrap().free_slots(), Some(1));
}

#[tokio::test]
async fn a_child_that_needs_nobody_ends_where_it_starts() {
    let machine = "
workflow:
  id: extract
  settings: { context: { seen: true } }
  steps: [{ id: merge, type: auto_process, handler: finalize }]
";
    let parent = "
workflow:
  id: nest
  steps:
    - { id: fields, type: sub_workflow, workflow: extract, output_mapping: { seen: context.seen } }
";
    let family = Family::started(&[machine, parent], "nest").await;
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.status, TaskStatus::Completed);
    let output = state.output.unwrap();
    assert_eq!(
        output["result"],
        Value::Null,
        "the child ended without a value"
    );
    assert_eq!(output["context"]["seen"], true);
}
