//! Tasks whose streams hold every type of event.

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{
        ChildCommand, ChildReport, ChildStart, Command, EffectOutcome, FireTimer, Migrate, Start,
    },
    ids::{RevisionId, Slug, TaskId},
    state::{ParentTask, TaskStatus, WorkflowRef},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scenario::{Scenario, TASK, user};

const OTHER: TaskId = TaskId(Uuid::from_u128(0x07E4));

/// All of them, each told once.
pub(super) fn stories() -> Vec<Scenario> {
    vec![
        adjudicated(),
        hooked(),
        known_late(),
        left_lying(),
        given_up(),
        unsure_and_migrated(),
        overtaken(),
        skipped(),
        parent(),
        child(),
    ]
}

fn adjudicated() -> Scenario {
    let mut story = Scenario::started(
        "workflow: { id: golden, template: multi_adjudication, overrides: { steps: { annotate: { consensus: { field: label } } } } }",
    );
    story.assign("annotate", 1);
    story.activity("annotate", 1);
    story.label("annotate", 1, "a");
    story.pause(None);
    story.control(Command::Resume);
    story.label("annotate", 2, "b");
    story.label("adjudicate", 3, "b");
    story
}

/// A call that fails once, and hooks before and after the people.
fn hooked() -> Scenario {
    let mut story = Scenario::started(
        "
workflow:
  id: hooked
  steps:
    - id: label
      type: annotation
      field: label
      hooks:
        pre_process: [{ handler: webhook, config: { url: 'https://a.org/x' } }]
        post_process: [{ handler: webhook, config: { url: 'https://a.org/y' } }]
",
    );
    story.answers.extend([
        failed("down"),
        done(json!({"guess": "a"})),
        done(json!("A")),
    ]);
    story.pass(TimeDelta::minutes(1));
    story.label("label", 1, "a");
    story.pass(TimeDelta::minutes(1));
    story
}

/// The known answer comes after somebody's; then the task is cancelled.
fn known_late() -> Scenario {
    let mut story = Scenario::new(&one_step("{ type: annotation_count, count: 2 }"));
    story.submit_with("annotate", 1, json!({"label": "a"}), |submission| {
        submission.workflow = Some("one".parse().unwrap());
    });
    story.run(Command::Start(Start {
        task_id: TASK,
        workflow: "one".parse().unwrap(),
        input: Some(json!({"text": "t"})),
        labels: Some([("project".to_owned(), "p1".to_owned())].into()),
        expected: Some(json!("a")),
    }));
    story.control(Command::Cancel);
    story
}

/// A claim that runs out is an incident; another one outlives a pause of the whole workflow.
fn left_lying() -> Scenario {
    let mut story = Scenario::started(&one_step(
        "{ type: annotation_count, count: 1, timeout: 1h, timeout_action: escalate }",
    ));
    story.assign("annotate", 1);
    story.pass(TimeDelta::hours(1));
    story.control(Command::Retry);
    story.assign("annotate", 2);
    story.pause_workflow(None);
    story.now += TimeDelta::hours(9);
    story.resume_workflow();
    story.pass(TimeDelta::zero());
    story.release("annotate", 2);
    story.label("annotate", 3, "a");
    story
}

/// A claim that runs out fails the task.
fn given_up() -> Scenario {
    let mut story = Scenario::started(&one_step(
        "{ type: annotation_count, count: 1, timeout: 1h, timeout_action: fail }",
    ));
    story.assign("annotate", 1);
    story.pass(TimeDelta::hours(1));
    story
}

/// More people are asked, and the task moves to another revision.
fn unsure_and_migrated() -> Scenario {
    let asking = one_step("{ type: confidence, target: 0.99, min: 2, max: 4 }");
    let mut story = Scenario::started(&asking);
    story.label("annotate", 1, "a");
    story.label("annotate", 2, "b");
    let to = story.revise(&asking.replace("annotate", "mark"));
    let slug = |name| Slug::new(name).unwrap();
    story.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [(slug("annotate"), slug("mark"))].into(),
    }));
    story.label("mark", 3, "a");
    story.label("mark", 4, "a");
    story
}

/// One branch ends the other.
fn overtaken() -> Scenario {
    let mut story = Scenario::started(
        "
workflow:
  id: forked
  settings: { allow_parallel_steps: true }
  steps:
    - { id: read, type: annotation }
    - { id: topic, type: annotation }
    - { id: names, type: annotation }
    - { id: check, type: review, join_mode: any }
  transitions:
    - { from: read, to: topic }
    - { from: read, to: names }
    - { from: topic, to: check }
    - { from: names, to: check }
",
    );
    story.label("read", 1, "a");
    story.label("topic", 2, "b");
    story.review("check", 3, "approve");
    story
}

fn skipped() -> Scenario {
    let mut story = Scenario::started(
        "
workflow:
  id: skipping
  steps:
    - { id: annotate, type: annotation }
    - { id: ask, type: conditional, on_error: skip, condition: { expression: 'annotation.missing > 1' } }
    - { id: done, type: auto_process, handler: finalize }
  transitions:
    - { from: annotate, to: ask }
    - { from: ask, to: done }
",
    );
    story.label("annotate", 1, "a");
    story
}

/// A child that starts at the second try, and reports.
fn parent() -> Scenario {
    let mut story = Scenario::started(
        "
workflow:
  id: nest
  steps:
    - { id: triage, type: annotation }
    - { id: fields, type: sub_workflow, workflow: extract, output_mapping: { fields: result.fields } }
  transitions:
    - { from: triage, to: fields }
",
    );
    story.label("triage", 1, "a");
    between_tasks(&mut story, failed("not yet"));
    between_tasks(&mut story, done(Value::Null));
    let visit = story.state.as_ref().unwrap().current_visit("fields");
    let child_task_id = visit.unwrap().child.as_ref().unwrap().task_id;
    story.run(Command::Child(ChildCommand::Report(ChildReport {
        task_id: TASK,
        child_task_id,
        status: TaskStatus::Completed,
        workflow: WorkflowRef {
            revision_id: RevisionId(Uuid::from_u128(0xE0)),
            workflow: "extract".parse().unwrap(),
            revision: 1,
        },
        output: Some(json!({"result": {"fields": 2}, "agreement": 0.5})),
        error: None,
        people: vec![user(2)],
    })));
    story
}

/// A child that tells its parent how it ended.
fn child() -> Scenario {
    let mut story = Scenario::new(&one_step("{ type: annotation_count, count: 1 }"));
    story.run(Command::Child(ChildCommand::Start(ChildStart {
        task_id: TASK,
        workflow: "one".parse().unwrap(),
        input: Some(json!({"text": "t"})),
        labels: [("project".to_owned(), "p1".to_owned())].into(),
        holders: Vec::new(),
        parent: ParentTask {
            task_id: OTHER,
            step_id: Slug::new("fields").unwrap(),
            visit: 1,
            root_task_id: OTHER,
            correlation_id: Some("order-7".to_owned()),
            depth: 1,
            depth_max: 3,
        },
    })));
    story.label("annotate", 1, "a");
    between_tasks(&mut story, done(Value::Null));
    story
}

fn one_step(completion: &str) -> String {
    format!(
        "workflow: {{ id: one, steps: [ {{ id: annotate, type: annotation, field: label, completion: {completion} }} ] }}"
    )
}

fn done(output: Value) -> EffectOutcome {
    EffectOutcome::Done { output }
}

fn failed(error: &str) -> EffectOutcome {
    EffectOutcome::Failed {
        error: error.to_owned(),
        is_final: false,
        retry_after: None,
    }
}

/// Fires the timer that sends a command to another task, with what became of it.
fn between_tasks(story: &mut Scenario, outcome: EffectOutcome) {
    let row = story
        .due()
        .into_iter()
        .find(|row| row.kind.is_between_tasks());
    let row = row.expect("something is to be sent");
    story.now = story.now.max(row.due_at);
    story.run(Command::FireTimer(FireTimer {
        row,
        outcome: Some(outcome),
    }));
}
