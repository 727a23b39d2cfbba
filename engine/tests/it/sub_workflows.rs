//! Sub-workflows: parents and children on one store, with due work between them performed in any
//! order, twice, half, or late.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::{
    Effect, Outcome, WorkflowEvent, WorkflowOrchestrator, WorkflowSnapshot,
    command::{
        Act, ActEnvelope, Advance, AnnotationInput, Command, CommandEnvelope, Control, Due,
        EffectOutcome, Migrate, Pause, Start, Submission,
    },
    due_command_id, due_work,
    ids::{TaskId, UserId, WorkflowId},
    state::{TaskStatus, VisitStatus},
    store::{DueKind, DueLane, DueQueue, DueRow, EventStore, MemoryStore, RecordedOutcome},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

const EXTRACT: &str = "
workflow:
  id: extract
  steps:
    - { id: mark, type: annotation }
";

const NEST: &str = "
workflow:
  id: nest
  settings: { context: { project: p1 } }
  steps:
    - { id: triage, type: annotation, completion: { type: annotation_count, count: 2 } }
    - id: fields
      type: sub_workflow
      workflow: extract
      input_mapping: { text: input.text, kind: 'annotation.kind' }
      output_mapping: { fields: result.fields, by: $.resolved_by, nothing: result.none }
    - { id: link, type: annotation }
  transitions:
    - { from: triage, to: fields }
    - { from: fields, to: link }
";

const PARALLEL: &str = "
workflow:
  id: parallel
  settings: { allow_parallel_steps: true }
  steps:
    - { id: triage, type: annotation }
    - { id: left, type: sub_workflow, workflow: extract }
    - { id: right, type: sub_workflow, workflow: extract }
    - { id: check, type: review, join_mode: all }
  transitions:
    - { from: triage, to: left }
    - { from: triage, to: right }
    - { from: left, to: check }
    - { from: right, to: check }
    - { from: check, to: triage, condition: { type: expression, expression: \"result.decision == 'request_changes'\" }, loop: { max_iterations: 2, on_exhausted: _failed } }
    - { from: check, to: _complete, condition: { type: expression, expression: \"result.decision != 'request_changes'\" } }
";

const ROOT: TaskId = TaskId(Uuid::from_u128(0x7A5C));

/// Tasks on a store in memory, with a clock set by hand and nobody who performs due work unasked.
struct Family {
    store: Arc<MemoryStore>,
    orchestrator: WorkflowOrchestrator,
    clock: Arc<Mutex<DateTime<Utc>>>,
    commands: u128,
}

/// What telling another task something came to, as a worker passes it on.
fn told(outcome: Outcome) -> EffectOutcome {
    let failed = |error: String, is_final| EffectOutcome::Failed {
        error,
        is_final,
        retry_after: None,
    };
    match outcome {
        Outcome::Applied(_) | Outcome::Duplicate(RecordedOutcome::Applied { .. }) => {
            EffectOutcome::Done {
                output: Value::Null,
            }
        }
        Outcome::Undecided(undecided) => failed(format!("{undecided:?}"), false),
        other => failed(format!("{other:?}"), true),
    }
}

impl Family {
    async fn of(workflows: &[&str]) -> Self {
        let clock = Arc::new(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let read = Arc::clone(&clock);
        let store = Arc::new(MemoryStore::with_clock(Arc::new(move || {
            *read.lock().unwrap()
        })));
        let orchestrator = WorkflowOrchestrator::new(store.clone(), store.clone());
        for yaml in workflows {
            orchestrator.create_workflow(yaml).await.unwrap();
        }
        Self {
            store,
            orchestrator,
            clock,
            commands: 0,
        }
    }

    /// One whose root task has been started and entered.
    async fn started(workflows: &[&str], root: &str) -> Self {
        let mut family = Self::of(workflows).await;
        family.start(root, json!({"text": "t"})).await;
        family
    }

    fn pass(&self, time: TimeDelta) {
        *self.clock.lock().unwrap() += time;
    }

    async fn run(&mut self, command: Command) -> Outcome {
        self.commands += 1;
        let id = Uuid::from_u128(0xC000_0000 + self.commands);
        self.envelope(CommandEnvelope::new(id, command)).await
    }

    async fn envelope(&self, envelope: CommandEnvelope) -> Outcome {
        let report = self.orchestrator.process_batch(vec![envelope], None).await;
        report.unwrap().outcomes.remove(0)
    }

    async fn start(&mut self, workflow: &str, input: Value) -> Outcome {
        self.run(Command::Start(Start {
            task_id: ROOT,
            workflow: workflow.parse().unwrap(),
            input: Some(input),
            labels: Some([("project".to_owned(), "p1".to_owned())].into()),
            expected: None,
        }))
        .await
    }

    async fn submit(&mut self, task: TaskId, step: &str, who: u128, data: Value) -> Outcome {
        self.submit_with(task, step, who, data, |_| {}).await
    }

    async fn submit_with(
        &mut self,
        task_id: TaskId,
        step: &str,
        who: u128,
        data: Value,
        change: impl FnOnce(&mut Submission),
    ) -> Outcome {
        let mut submission = Submission {
            task_id,
            step_id: Some(step.to_owned()),
            annotation: AnnotationInput {
                annotation_id: None,
                user_id: user(who),
                data,
                decision: None,
                submitted_at: None,
                roles: None,
                confidence: None,
            },
            workflow: None,
        };
        change(&mut submission);
        self.run(Command::Submission(submission)).await
    }

    async fn control(&mut self, task_id: TaskId, command: fn(Control) -> Command) -> Outcome {
        let control = Control {
            task_id,
            step_id: None,
            reason: None,
        };
        self.run(command(control)).await
    }

    async fn pause(&mut self, task_id: TaskId, until: Option<DateTime<Utc>>) -> Outcome {
        let pause = Pause {
            task_id,
            step_id: None,
            reason: None,
            until,
        };
        self.run(Command::Pause(pause)).await
    }

    async fn act(&mut self, act: Act) {
        self.commands += 1;
        let id = Uuid::from_u128(0xC000_0000 + self.commands);
        let act = ActEnvelope::new(id, act);
        self.orchestrator.act(&*self.store, act).await.unwrap();
    }

    /// The rows that are due now, left where they are.
    async fn rows(&self) -> Vec<DueRow> {
        let lease = std::time::Duration::ZERO;
        let rows = self.store.claim_due(DueLane::Decisions, lease, 1_000).await;
        rows.unwrap()
    }

    /// Performs what a row asks for, as a worker does.
    async fn effect(&self, row: &DueRow) -> Option<EffectOutcome> {
        match self.orchestrator.effect_of(row).await.unwrap()? {
            Effect::Command(envelope) => Some(told(self.envelope(*envelope).await)),
            Effect::Call(call) => panic!("{call:?}"),
        }
    }

    /// Performs a row and settles it.
    async fn perform(&self, row: &DueRow) -> Outcome {
        let outcome = self.effect(row).await;
        let row = row.clone();
        let id = due_command_id(&row);
        let due = Command::Due(Due { row, outcome });
        self.envelope(CommandEnvelope::new(id, due)).await
    }

    /// Performs everything that is due, and what that leads to.
    async fn settle(&self) {
        for _ in 0..100 {
            let rows = self.rows().await;
            if rows.is_empty() {
                return;
            }
            for row in rows {
                self.perform(&row).await;
            }
        }
        panic!("due work never ends: {:?}", self.rows().await);
    }

    async fn state(&self, task: TaskId) -> WorkflowSnapshot {
        let state = self.orchestrator.get_task_state(task.0).await;
        state.unwrap().into_snapshot()
    }

    async fn exists(&self, task: TaskId) -> bool {
        self.orchestrator.get_task_state(task.0).await.is_ok()
    }

    async fn events(&self, task: TaskId) -> Vec<&'static str> {
        let page = self.store.events(task, 0, 1_000).await.unwrap();
        page.events.iter().map(|e| e.event.event_type()).collect()
    }

    /// The events of a task after the first `skip`, as one line.
    async fn story(&self, task: TaskId, skip: usize) -> String {
        self.events(task).await[skip..].join(", ")
    }

    /// The last child that the last visit of a step asked for.
    async fn child(&self, step: &str) -> TaskId {
        let state = self.state(ROOT).await;
        let child = state.current_visit(step).unwrap().child.as_ref();
        child.expect("the visit has a child").task_id
    }

    /// Two people pass `triage` of [`NEST`].
    async fn triage(&mut self) {
        self.submit(ROOT, "triage", 1, json!({"kind": "letter"}))
            .await;
        self.submit(ROOT, "triage", 2, json!({"kind": "invoice"}))
            .await;
    }
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(0xA000 + n))
}

fn code(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Applied(result) => serde_json::to_value(result).unwrap()["status"].to_string(),
        Outcome::Rejected(rejection) => rejection.code.to_string(),
        other => format!("{other:?}"),
    }
    .replace('"', "")
}

#[tokio::test]
async fn a_child_runs_and_its_output_goes_on_in_the_parent() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let child = family.child("fields").await;
    let name = "fields/1".as_bytes();
    assert_eq!(child.0, Uuid::new_v5(&ROOT.0, name), "as promised");
    assert!(!family.exists(child).await, "its start is due work");

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
    assert_eq!(start.kind, DueKind::ChildStart);
    // A crash after the child's commit, before the parent's: twice.
    family.effect(&start).await;
    family.effect(&start).await;
    family.settle().await;
    // Late copies of what has been settled.
    assert_eq!(family.effect(&start).await, None, "nobody asks any more");
    assert_eq!(family.perform(&start).await.name(), "duplicate");
    assert_eq!(
        family.story(child, 0).await,
        "workflow_started, step_activated"
    );

    family.submit(child, "mark", 3, json!({"fields": 1})).await;
    let report = family.rows().await.remove(0);
    assert_eq!(report.kind, DueKind::ChildReport);
    family.effect(&report).await;
    family.effect(&report).await;
    family.settle().await;
    assert_eq!(family.perform(&report).await.name(), "duplicate");
    let ends = family.events(ROOT).await;
    let ends = ends.iter().filter(|event| **event == "child_ended").count();
    assert_eq!(ends, 1);
}

#[tokio::test]
async fn due_work_without_its_effect_stays_due() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let row = family.rows().await.remove(0);
    let due = Command::Due(Due::alone(row.clone()));
    let outcome = family
        .envelope(CommandEnvelope::new(due_command_id(&row), due))
        .await;
    assert_eq!(outcome.name(), "undecided");
    assert_eq!(family.rows().await, [row]);
}

#[tokio::test]
async fn two_children_meet_in_a_join_and_a_loop_asks_for_new_ones() {
    let mut family = Family::started(&[EXTRACT, PARALLEL], "parallel").await;
    family.submit(ROOT, "triage", 1, json!(1)).await;
    family.settle().await;
    let (left, right) = (family.child("left").await, family.child("right").await);
    assert_ne!(left, right);
    assert_eq!(family.state(left).await.input, Some(json!({"text": "t"})));
    family.submit(left, "mark", 1, json!("l")).await;
    family.settle().await;
    assert_eq!(family.state(ROOT).await.current_steps().len(), 1);
    family.submit(right, "mark", 1, json!("r")).await;
    family.settle().await;
    assert_eq!(
        family.state(ROOT).await.current_steps()[0].as_str(),
        "check"
    );
    let again = |s: &mut Submission| s.annotation.decision = Some("request_changes".to_owned());
    family.submit_with(ROOT, "check", 2, json!({}), again).await;
    family.submit(ROOT, "triage", 1, json!(2)).await;
    let second = family.child("left").await;
    assert_eq!(second.0, Uuid::new_v5(&ROOT.0, b"left/2"));
    family.settle().await;
    for (step, value) in [("left", "l2"), ("right", "r2")] {
        let child = family.child(step).await;
        family.submit(child, "mark", 1, json!(value)).await;
    }
    family.settle().await;
    let approve = |s: &mut Submission| s.annotation.decision = Some("approve".to_owned());
    family
        .submit_with(ROOT, "check", 2, json!({}), approve)
        .await;
    let output = family.state(ROOT).await.output.unwrap();
    assert_eq!(output["steps"]["left"]["value"], "l2");
    assert_eq!(output["steps"]["right"]["value"], "r2");
}

#[tokio::test]
async fn the_child_of_a_branch_that_came_too_late_is_cancelled() {
    let first_wins = PARALLEL.replace("join_mode: all", "join_mode: any");
    let mut family = Family::started(&[EXTRACT, &first_wins], "parallel").await;
    family.submit(ROOT, "triage", 1, json!(1)).await;
    family.settle().await;
    let (left, right) = (family.child("left").await, family.child("right").await);
    family.submit(left, "mark", 1, json!("l")).await;
    family.settle().await;
    assert_eq!(
        family.state(ROOT).await.current_steps()[0].as_str(),
        "check"
    );
    assert_eq!(family.state(right).await.status, TaskStatus::Cancelled);
}

#[tokio::test]
async fn a_child_that_does_not_complete_is_an_incident_and_retry_asks_for_another() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let first = family.child("fields").await;
    family.control(first, Command::Cancel).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    let incident = state.incident_of("fields").unwrap();
    assert_eq!(incident.code.as_str(), "child_failed");
    assert!(
        incident.reason.contains(&first.to_string()) && incident.reason.contains("cancelled"),
        "{}",
        incident.reason
    );
    family.control(ROOT, Command::Retry).await;
    let second = family.child("fields").await;
    assert_eq!(second.0, Uuid::new_v5(&ROOT.0, b"fields/1/2"));
    family.settle().await;
    family.submit(second, "mark", 3, json!({"fields": 2})).await;
    family.settle().await;
    assert_eq!(family.state(ROOT).await.context["fields"], 2);
}

#[tokio::test]
async fn a_child_that_does_not_complete_is_skipped_where_the_file_says_so() {
    let skip = NEST.replace(
        "type: sub_workflow",
        "type: sub_workflow\n      on_error: skip",
    );
    let failing = "
workflow:
  id: extract
  steps: [{ id: mark, type: annotation }]
  transitions: [{ from: mark, to: _failed }]
";
    let mut family = Family::started(&[failing, &skip], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    family.submit(child, "mark", 3, json!(1)).await;
    assert_eq!(family.state(child).await.status, TaskStatus::Failed);
    family.settle().await;
    let state = family.state(ROOT).await;
    let visit = state.current_visit("fields").unwrap();
    assert_eq!(visit.status, VisitStatus::Skipped);
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert!(!state.context.contains_key("fields"));
}

#[tokio::test]
async fn an_unknown_workflow_is_tried_again_and_then_an_incident() {
    let mut family = Family::started(&[NEST], "nest").await;
    family.triage().await;
    for seconds in [1, 4, 16] {
        family.settle().await;
        assert!(family.state(ROOT).await.incidents.is_empty());
        family.pass(TimeDelta::seconds(seconds) - TimeDelta::milliseconds(1));
        assert!(family.rows().await.is_empty(), "not before its time");
        family.pass(TimeDelta::milliseconds(1));
    }
    family.settle().await;
    let state = family.state(ROOT).await;
    let incident = state.incident_of("fields").unwrap();
    assert_eq!(incident.code.as_str(), "child_failed");
    assert!(incident.reason.contains("WorkflowNotFound"), "{incident:?}");
    family.orchestrator.create_workflow(EXTRACT).await.unwrap();
    family.control(ROOT, Command::Retry).await;
    family.settle().await;
    let child = family.child("fields").await;
    assert_eq!(family.state(child).await.status, TaskStatus::Running);
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

const DEEP: &str = "
workflow:
  id: deep
  settings: { max_sub_workflow_depth: 2 }
  steps: [{ id: down, type: sub_workflow, workflow: deep }]
";

#[tokio::test]
async fn children_nest_as_deep_as_the_root_allows() {
    let mut family = Family::of(&[DEEP]).await;
    family.start("deep", json!(1)).await;
    // A later revision would allow more; the root's bound holds for all below it.
    let more = DEEP.replace("depth: 2", "depth: 9");
    family.orchestrator.create_workflow(&more).await.unwrap();
    family.settle().await;
    let down = "down".parse().unwrap();
    let (first, second) = (
        ROOT.child(&down, 1, 1),
        ROOT.child(&down, 1, 1).child(&down, 1, 1),
    );
    assert!(family.state(first).await.incidents.is_empty());
    let state = family.state(second).await;
    assert_eq!(state.parent.as_ref().unwrap().root_task_id, ROOT);
    let incident = state.incident_of("down").unwrap();
    assert_eq!(incident.code.as_str(), "child_failed");
    assert!(
        incident.reason.contains("nest 2 deep"),
        "{}",
        incident.reason
    );
    // Cancelled from above, all the way down.
    family.control(ROOT, Command::Cancel).await;
    family.settle().await;
    for task in [ROOT, first, second] {
        assert_eq!(family.state(task).await.status, TaskStatus::Cancelled);
    }
    assert!(
        !family.events(ROOT).await.contains(&"child_ended"),
        "its report lapsed"
    );
}

#[tokio::test]
async fn a_child_whose_start_is_on_its_way_is_cancelled_too() {
    for performed in [false, true] {
        let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
        family.triage().await;
        let child = family.child("fields").await;
        let start = family.rows().await.remove(0);
        if performed {
            family.effect(&start).await;
        }
        family.control(ROOT, Command::Cancel).await;
        family.settle().await;
        assert_eq!(family.state(child).await.status, TaskStatus::Cancelled);
        assert!(family.rows().await.is_empty());
    }
}

#[tokio::test]
async fn a_report_for_a_visit_that_is_over_lapses() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    family.submit(child, "mark", 3, json!(1)).await;
    family.control(ROOT, Command::Cancel).await;
    let before = family.events(ROOT).await.len();
    family.settle().await;
    assert_eq!(family.story(ROOT, before).await, "child_told");
    assert_eq!(family.state(child).await.status, TaskStatus::Completed);
    assert!(family.state(child).await.report_due.is_none());
}

#[tokio::test]
async fn a_pause_goes_down_and_a_resume_after_it() {
    let mut family = Family::started(&[EXTRACT, PARALLEL], "parallel").await;
    family.submit(ROOT, "triage", 1, json!(1)).await;
    family.settle().await;
    let (left, right) = (family.child("left").await, family.child("right").await);
    family.pause(right, None).await;
    family.pause(ROOT, None).await;
    family.settle().await;
    for child in [left, right] {
        assert_eq!(family.state(child).await.status, TaskStatus::Paused);
    }
    let refused = family.submit(left, "mark", 1, json!(1)).await;
    assert_eq!(code(&refused), "task_paused");
    family.control(ROOT, Command::Resume).await;
    family.settle().await;
    assert_eq!(family.state(left).await.status, TaskStatus::Running);
    let by_hand = family.state(right).await;
    assert_eq!(by_hand.status, TaskStatus::Paused, "paused on its own");

    // A pause that is still on its way when the parent goes on is followed by its resume.
    family.pause(ROOT, None).await;
    let pause = family.rows().await;
    assert_eq!(pause.len(), 2, "{pause:?}");
    for row in &pause {
        family.effect(row).await;
    }
    family.control(ROOT, Command::Resume).await;
    family.settle().await;
    assert_eq!(family.state(left).await.status, TaskStatus::Running);
}

#[tokio::test]
async fn a_pause_of_one_step_holds_its_child_alone() {
    let mut family = Family::started(&[EXTRACT, PARALLEL], "parallel").await;
    family.submit(ROOT, "triage", 1, json!(1)).await;
    family.settle().await;
    let (left, right) = (family.child("left").await, family.child("right").await);
    let pause = Pause {
        task_id: ROOT,
        step_id: Some("left".to_owned()),
        reason: None,
        until: None,
    };
    // The child may end before it hears of the pause; the step holds the outcome.
    family.run(Command::Pause(pause)).await;
    family.submit(left, "mark", 1, json!("l")).await;
    family.settle().await;
    assert_eq!(family.state(right).await.status, TaskStatus::Running);
    let left_of = |state: &WorkflowSnapshot| state.current_visit("left").unwrap().status;
    assert_eq!(left_of(&family.state(ROOT).await), VisitStatus::Active);
    let resume = Control {
        task_id: ROOT,
        step_id: Some("left".to_owned()),
        reason: None,
    };
    family.run(Command::Resume(resume)).await;
    family.settle().await;
    assert_eq!(left_of(&family.state(ROOT).await), VisitStatus::Completed);

    let pause = Pause {
        task_id: ROOT,
        step_id: Some("right".to_owned()),
        reason: None,
        until: None,
    };
    family.run(Command::Pause(pause)).await;
    family.settle().await;
    assert_eq!(family.state(right).await.status, TaskStatus::Paused);
}

#[tokio::test]
async fn what_a_child_ends_with_waits_while_its_parent_is_paused() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    let until = *family.clock.lock().unwrap() + TimeDelta::hours(1);
    family.pause(ROOT, Some(until)).await;
    family.submit(child, "mark", 3, json!({"fields": 1})).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.status, TaskStatus::Paused);
    assert_eq!(state.current_steps()[0].as_str(), "fields");
    family.pass(TimeDelta::hours(1));
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert_eq!(state.context["fields"], 1);
}

#[tokio::test]
async fn what_a_child_ends_with_waits_while_the_parents_workflow_is_paused() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    family.submit(child, "mark", 3, json!({"fields": 1})).await;
    let report = family.rows().await.remove(0);
    let workflow: WorkflowId = "nest".parse().unwrap();
    let pause = Act::WorkflowPause {
        workflow: workflow.clone(),
        reason: None,
        until: None,
    };
    let resume = Act::WorkflowResume {
        workflow,
        reason: None,
        ran_out: None,
    };
    family.act(pause).await;
    family.perform(&report).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "fields");
    assert!(family.state(child).await.report_due.is_none(), "told");
    family.act(resume).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert_eq!(state.context["fields"], 1);
}

#[tokio::test]
async fn an_advance_with_an_output_stands_in_for_the_child() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    family.settle().await;
    let child = family.child("fields").await;
    let advance = |output| {
        Command::Advance(Advance {
            task_id: ROOT,
            step_id: Some("fields".to_owned()),
            output,
        })
    };
    let refused = family.run(advance(None)).await;
    assert_eq!(code(&refused), "not_waiting");
    let went_on = family
        .run(advance(Some(json!({"fields": "by hand"}))))
        .await;
    assert_eq!(code(&went_on), "advanced");
    family.settle().await;
    assert_eq!(family.state(child).await.status, TaskStatus::Cancelled);
    let state = family.state(ROOT).await;
    let result = state
        .current_visit("fields")
        .unwrap()
        .result
        .clone()
        .unwrap();
    assert_eq!(result.value, Some(json!({"fields": "by hand"})));
    assert_eq!(state.context["fields"], "by hand");
}

#[tokio::test]
async fn a_step_that_is_called_otherwise_keeps_its_child() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let renamed = NEST
        .replace("id: fields", "id: entities")
        .replace("to: fields", "to: entities")
        .replace("from: fields", "from: entities");
    family.orchestrator.create_workflow(&renamed).await.unwrap();
    let child = family.child("fields").await;
    let start = family.rows().await.remove(0);
    family.effect(&start).await;
    let migrate = Migrate {
        task_id: ROOT,
        to: "nest@2".parse().unwrap(),
        steps: [("fields".parse().unwrap(), "entities".parse().unwrap())].into(),
    };
    let outcome = family.run(Command::Migrate(migrate)).await;
    assert_eq!(code(&outcome), "waiting");
    family.settle().await;
    assert_eq!(family.child("entities").await, child);
    family.submit(child, "mark", 3, json!({"fields": 1})).await;
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert_eq!(state.context["fields"], 1);
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
async fn a_task_that_is_somebody_elses_is_no_child() {
    let mut family = Family::started(&[EXTRACT, NEST], "nest").await;
    family.triage().await;
    let child = family.child("fields").await;
    let start = Start {
        task_id: child,
        workflow: "extract".parse().unwrap(),
        input: None,
        labels: None,
        expected: None,
    };
    family.run(Command::Start(start)).await;
    for _ in 0..4 {
        family.settle().await;
        family.pass(TimeDelta::minutes(1));
    }
    let state = family.state(ROOT).await;
    let incident = state.incident_of("fields").unwrap();
    assert!(
        incident.reason.contains("already_started"),
        "{}",
        incident.reason
    );
    // Neither does it obey, nor is it believed.
    family.control(ROOT, Command::Cancel).await;
    family.settle().await;
    assert_eq!(family.state(child).await.status, TaskStatus::Running);
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
    let holders: Vec<UserId> = held.iter().map(|place| place.user_id).collect();
    assert_eq!(holders, [user(1)], "who lacks the role gets no place");
    assert_eq!(state.current_visit("mark").unwrap().free_places(), Some(1));
}

#[tokio::test]
async fn an_input_that_cannot_be_mapped_is_an_incident() {
    let missing = NEST.replace("input.text", "input.title");
    let mut family = Family::started(&[EXTRACT, &missing], "nest").await;
    family.triage().await;
    let state = family.state(ROOT).await;
    let incident = state.incident_of("fields").unwrap();
    assert_eq!(incident.code.as_str(), "expression_failed");
    assert!(
        incident.reason.contains("input.title"),
        "{}",
        incident.reason
    );
    assert!(family.rows().await.is_empty());
    family.control(ROOT, Command::Retry).await;
    let opened = family.state(ROOT).await.incidents_opened;
    assert_eq!(opened, 2, "evaluated again, and failed again");
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

/// What a person, an operator, a worker or a crash may do next.
#[derive(Clone, Debug)]
enum Move {
    /// Answers the nth waiting step.
    Answer(usize, u128),
    /// Performs the nth due row.
    Perform(usize),
    /// Performs the effect of the nth due row, and crashes.
    Half(usize),
    /// Performs a row that was due once.
    Stale(usize),
    Pause(usize),
    Resume(usize),
    Cancel(usize),
    Retry(usize),
    Advance,
    Pass(i64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let n = 0_usize..16;
    let one = prop_oneof![
        8 => (n.clone(), 1_u128..4).prop_map(|(n, who)| Move::Answer(n, who)),
        12 => n.clone().prop_map(Move::Perform),
        6 => n.clone().prop_map(Move::Half),
        6 => n.clone().prop_map(Move::Stale),
        2 => n.clone().prop_map(Move::Pause),
        4 => n.clone().prop_map(Move::Resume),
        1 => n.clone().prop_map(Move::Cancel),
        2 => n.prop_map(Move::Retry),
        1 => Just(Move::Advance),
        3 => (1_i64..40).prop_map(Move::Pass),
    ];
    prop::collection::vec(one, 1..80)
}

impl Family {
    /// The root and every child that it or one of its children has asked for and that exists.
    async fn tasks(&self) -> Vec<TaskId> {
        let (mut tasks, mut at) = (vec![ROOT], 0);
        while let Some(task) = tasks.get(at).copied() {
            at += 1;
            for event in self.store.events(task, 0, 1_000).await.unwrap().events {
                if let WorkflowEvent::ChildRequested(requested) = event.event
                    && self.exists(requested.task_id).await
                {
                    tasks.push(requested.task_id);
                }
            }
        }
        tasks
    }

    async fn nth_task(&self, n: usize) -> TaskId {
        let tasks = self.tasks().await;
        tasks[n % tasks.len()]
    }

    /// Answers the nth step that waits for a person; `who` also chooses a reviewer's decision.
    async fn answer(&mut self, n: usize, who: u128) -> bool {
        let mut waiting = Vec::new();
        for task in self.tasks().await {
            let state = self.state(task).await;
            let steps = state.current_steps().into_iter();
            let of_people = steps.filter(|id| state.current_visit(id).unwrap().places.is_some());
            waiting.extend(of_people.map(|id| (task, id)));
        }
        if waiting.is_empty() {
            return false;
        }
        let (task, step) = waiting[n % waiting.len()].clone();
        let decide = |s: &mut Submission| {
            s.annotation.decision = Some(["approve", "request_changes"][who as usize % 2].into());
        };
        self.submit_with(task, &step, who, json!({"n": n}), decide)
            .await;
        true
    }

    async fn play(&mut self, seen: &mut Vec<DueRow>, one: &Move) {
        let rows = self.rows().await;
        for row in &rows {
            if !seen.contains(row) {
                seen.push(row.clone());
            }
        }
        let nth = |rows: &[DueRow], n: usize| rows.get(n % rows.len().max(1)).cloned();
        match one {
            Move::Answer(n, who) => drop(self.answer(*n, *who).await),
            Move::Perform(n) => {
                if let Some(row) = nth(&rows, *n) {
                    self.perform(&row).await;
                }
            }
            Move::Half(n) => {
                if let Some(row) = nth(&rows, *n) {
                    self.effect(&row).await;
                }
            }
            Move::Stale(n) => {
                if let Some(row) = nth(seen, *n) {
                    self.perform(&row).await;
                }
            }
            Move::Pause(n) => {
                let task = self.nth_task(*n).await;
                self.pause(task, None).await;
            }
            Move::Resume(n) => {
                let task = self.nth_task(*n).await;
                self.control(task, Command::Resume).await;
            }
            Move::Cancel(n) => {
                let task = self.nth_task(*n).await;
                self.control(task, Command::Cancel).await;
            }
            Move::Retry(n) => {
                let task = self.nth_task(*n).await;
                self.control(task, Command::Retry).await;
            }
            Move::Advance => {
                let advance = Advance {
                    task_id: ROOT,
                    step_id: Some("left".to_owned()),
                    output: Some(json!("by hand")),
                };
                self.run(Command::Advance(advance)).await;
            }
            Move::Pass(seconds) => self.pass(TimeDelta::seconds(*seconds)),
        }
    }

    /// What must hold after every move: replay equals live, and due work follows from the states.
    async fn check(&self) {
        let mut rows = 0;
        for task in self.tasks().await {
            let events = self.store.events(task, 0, 1_000).await.unwrap().events;
            let replayed = glyph_workflow_engine::StateRebuilder::rebuild(&events).unwrap();
            let state = self.state(task).await;
            assert_eq!(replayed.as_ref(), Some(&state), "replay equals live");
            rows += due_work(&state).len();
        }
        let stored = self.store.due_stats().await.unwrap().total;
        assert_eq!(
            usize::try_from(stored),
            Ok(rows),
            "due work follows from state"
        );
    }

    /// Everybody answers, and everything that holds a task is mended: then all of it ends.
    async fn finish(&mut self) {
        for round in 0..60 {
            self.settle().await;
            self.pass(TimeDelta::minutes(1));
            let tasks = self.tasks().await;
            let mut open = false;
            for task in tasks {
                let state = self.state(task).await;
                open |= !state.status.is_final();
                self.control(task, Command::Resume).await;
                self.control(task, Command::Retry).await;
            }
            if !open {
                return;
            }
            self.settle().await;
            // Odd people ask for changes; a loop has its bound.
            self.answer(round, 2 * (round as u128 + 10)).await;
        }
        panic!("it never ends: {:#?}", self.state(ROOT).await);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn parent_and_children_agree_whatever_is_lost_repeated_or_late(
        any in any::<bool>(),
        moves in moves(),
    ) {
        let first_wins = PARALLEL.replace("join_mode: all", "join_mode: any");
        let workflow = if any { &first_wins } else { PARALLEL };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut family = Family::started(&[EXTRACT, workflow], "parallel").await;
            let mut seen = Vec::new();
            for one in &moves {
                family.play(&mut seen, one).await;
                family.check().await;
            }
            family.finish().await;
            family.settle().await;
            family.check().await;
            assert!(family.rows().await.is_empty());
            for task in family.tasks().await {
                let state = family.state(task).await;
                assert!(state.status.is_final(), "nobody is left behind: {state:#?}");
                let events = family.events(task).await;
                let count = |name| events.iter().filter(|event| **event == name).count();
                assert!(count("parent_told") <= 1);
                let completed = state.steps.values().flat_map(|step| &step.visits);
                let completed = completed.filter(|v| v.status == VisitStatus::Completed).count();
                assert_eq!(count("step_completed"), completed, "one completion a visit");
            }
        });
    }
}

#[tokio::test]
async fn the_example_of_nested_extraction_runs_to_its_end() {
    let field_extraction = include_str!("../../../examples/field-extraction.yaml");
    let nested_extraction = include_str!("../../../examples/nested-extraction.yaml");
    let examples = [field_extraction, nested_extraction];
    let mut family = Family::started(&examples, "nested-extraction").await;
    family
        .submit(ROOT, "triage", 1, json!({"kind": "invoice"}))
        .await;
    family.settle().await;
    let child = family.child("extract").await;
    let state = family.state(child).await;
    assert_eq!(
        state.input,
        Some(json!({"document": {"text": "t"}, "kind": "invoice"}))
    );
    let reserved = &state.current_visit("mark").unwrap().assignments;
    assert_eq!(reserved[0].user_id, user(1));
    let fields = json!({"total": "12.50"});
    for who in [1, 2] {
        family
            .submit(child, "mark", who, json!({"fields": fields}))
            .await;
    }
    family.settle().await;
    let state = family.state(ROOT).await;
    assert_eq!(state.current_steps()[0].as_str(), "link");
    assert_eq!(state.context["fields"], fields);
    assert_eq!(state.context["sure"], 1.0);
    family
        .submit(ROOT, "link", 1, json!({"total": "record-7"}))
        .await;
    let output = family.state(ROOT).await.output.unwrap();
    let merged = json!({"extract": fields, "link": {"total": "record-7"}});
    assert_eq!(output["result"], merged);
    assert_eq!(
        output["agreement"],
        Value::Null,
        "of this task's own consensus steps"
    );
}
