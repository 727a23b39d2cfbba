//! Hooks: calls around the work of a step, and everything that can happen in between.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta};
use glyph_workflow_engine::{
    HandlerCall,
    command::{
        Advance, AnnotationInput, Command, EffectOutcome, FireTimer, Migrate, Start, Submission,
    },
    config::StepLibrary,
    ids::{TaskId, WorkflowSelector},
    parse_workflow,
    parser::check_workflow,
    simulation::Simulation,
    state::{Slots, Visit},
};
use serde_json::{Value, json};

use crate::scenario::{Scenario, TASK, user};

/// One person labels, with these hooks; a second step follows.
fn labelling(hooks: &str, more: &str) -> String {
    format!(
        "
workflow:
  id: hooked
  steps:
    - id: label
      type: annotation
      field: label
      hooks: {{ {hooks} }}
      {more}
    - {{ id: look, type: review }}
  transitions:
    - {{ from: label, to: look }}
"
    )
}

const WEBHOOK: &str = "{ handler: webhook, config: { url: 'https://a.org/x' } }";
const QUEUE: &str = "{ handler: queue, config: { model: m }, timeout: 10m }";

fn hooked(stage: &str, hooks: &[&str]) -> String {
    labelling(&format!("{stage}: [{}]", hooks.join(", ")), "")
}

fn done(output: Value) -> EffectOutcome {
    EffectOutcome::Done { output }
}

fn failed(error: &str) -> EffectOutcome {
    EffectOutcome::Failed {
        error: error.to_owned(),
        is_final: true,
        retry_after: None,
    }
}

fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

fn visit(scenario: &Scenario) -> &Visit {
    scenario
        .state
        .as_ref()
        .unwrap()
        .current_visit("label")
        .unwrap()
}

fn open_slots(scenario: &Scenario) -> usize {
    Slots::from(scenario.state.as_ref().unwrap()).open.len()
}

fn stages(calls: &[HandlerCall]) -> Vec<&'static str> {
    calls
        .iter()
        .map(|c| c.hook.map_or("step", |hook| hook.as_str()))
        .collect()
}

#[test]
fn a_step_opens_once_what_comes_before_is_done() {
    let mut scenario = Scenario::new(&hooked("pre_process", &[WEBHOOK, WEBHOOK]));
    assert_eq!(
        scenario.start(json!({"text": "x"})),
        "waiting label | workflow_started, step_activated, handler_requested"
    );
    assert_eq!(scenario.label("label", 1, "a"), "rejected step_not_active");
    assert_eq!(scenario.assign("label", 1), "rejected step_not_active");
    assert_eq!(open_slots(&scenario), 0);
    scenario
        .answers
        .extend([done(json!({"guess": "a"})), done(json!({"guess": "b"}))]);
    assert_eq!(
        scenario.pass(seconds(0)),
        [
            "waiting label | hook_ended, handler_requested",
            "waiting label | hook_ended, step_opened"
        ]
    );
    assert_eq!(open_slots(&scenario), 1);
    // The second hook uses the result of the first.
    assert_eq!(stages(&scenario.calls), ["pre_process", "pre_process"]);
    assert_eq!(scenario.calls[0].input["input"], json!({"text": "x"}));
    assert_eq!(scenario.calls[1].input["prepared"], json!({"guess": "a"}));
    assert_ne!(
        scenario.calls[0].idempotency_key,
        scenario.calls[1].idempotency_key
    );
    assert_eq!(visit(&scenario).prepared, Some(json!({"guess": "b"})));
    assert_eq!(
        scenario.label("label", 1, "a"),
        "advanced [look] | annotation_submitted, step_completed, transition_occurred, step_activated"
    );
}

#[test]
fn an_empty_answer_keeps_what_was_made_ready() {
    let mut scenario = Scenario::started(&hooked("pre_process", &[WEBHOOK, WEBHOOK]));
    scenario.answers.extend([done(json!(1)), done(Value::Null)]);
    scenario.pass(seconds(0));
    assert_eq!(visit(&scenario).prepared, Some(json!(1)));
}

#[test]
fn a_result_is_final_once_what_comes_after_is_done() {
    let mut scenario = Scenario::started(&hooked("post_process", &[WEBHOOK, "finalize"]));
    assert_eq!(
        scenario.label("label", 1, "a"),
        "waiting label | annotation_submitted, result_found, handler_requested"
    );
    // The submission closed the visit; who has already submitted gets that reason first.
    assert_eq!(scenario.label("label", 2, "b"), "rejected surplus");
    assert_eq!(
        scenario.label("label", 1, "b"),
        "rejected duplicate_annotator"
    );
    assert_eq!(open_slots(&scenario), 0);
    scenario.answers.push_back(done(json!("A")));
    assert_eq!(
        scenario.pass(seconds(0)),
        [
            "advanced [look] | hook_ended, hook_ended, step_completed, transition_occurred, step_activated"
        ]
    );
    assert_eq!(scenario.calls[0].input["result"]["value"], "a");
    let result = visit(&scenario).result.clone().unwrap();
    assert_eq!(result.value, Some(json!("A")));
    assert_eq!(result.annotations.len(), 1);
}

#[test]
fn an_empty_answer_keeps_the_value() {
    let mut scenario = Scenario::started(&hooked("post_process", &[WEBHOOK]));
    scenario.label("label", 1, "a");
    scenario.answers.push_back(done(Value::Null));
    scenario.pass(seconds(0));
    assert_eq!(
        visit(&scenario).result.as_ref().unwrap().value,
        Some(json!("a"))
    );
}

#[test]
fn what_only_tells_holds_nothing() {
    let hooks = format!("on_start: [{WEBHOOK}], on_complete: [{WEBHOOK}, queue]");
    let mut scenario = Scenario::new(&labelling(&hooks, ""));
    assert_eq!(
        scenario.start(Value::Null),
        "waiting label | workflow_started, step_activated, handler_requested"
    );
    assert_eq!(
        scenario.label("label", 1, "a"),
        "advanced [look] | annotation_submitted, step_completed, handler_requested, \
         handler_requested, transition_occurred, step_activated"
    );
    assert!(
        scenario
            .review("look", 2, "approve")
            .starts_with("completed |")
    );
    // All hooks are called although the task has completed. Nobody answers the job.
    assert_eq!(scenario.due().len(), 2);
    assert_eq!(
        scenario.pass(seconds(0)),
        ["completed | hook_ended", "completed | hook_ended"]
    );
    scenario.calls.sort_by_key(|call| call.call);
    assert_eq!(stages(&scenario.calls), ["on_start", "on_complete"]);
    assert_eq!(scenario.calls[1].input["result"]["value"], "a");
    assert!(scenario.due().is_empty());
}

#[test]
fn what_tells_is_tried_again_and_then_given_up_visibly() {
    let mut scenario = Scenario::started(&hooked("on_complete", &[WEBHOOK]));
    scenario.label("label", 1, "a");
    scenario.review("look", 2, "approve");
    let failing = || EffectOutcome::Failed {
        error: "down".to_owned(),
        is_final: false,
        retry_after: None,
    };
    scenario.answers.extend((0..4).map(|_| failing()));
    let failed = "completed | handler_failed";
    assert_eq!(
        scenario.pass(seconds(21)),
        [
            failed,
            failed,
            failed,
            "completed | handler_failed, hook_ended"
        ]
    );
    let given_up = &visit(&scenario).hooks_failed;
    assert_eq!(given_up.len(), 1);
    assert_eq!(given_up[0].hook.to_string(), "on_complete[0]");
    assert_eq!(given_up[0].error, "failed after 4 attempts: down");
    assert!(scenario.due().is_empty());
}

#[test]
fn a_failed_hook_holds_its_step_until_it_is_tried_again() {
    for stage in ["pre_process", "post_process"] {
        let mut scenario = Scenario::started(&hooked(stage, &["finalize", WEBHOOK]));
        if stage == "post_process" {
            scenario.label("label", 1, "a");
        }
        scenario.answers.push_back(failed("no"));
        assert_eq!(
            scenario.pass(seconds(0)),
            ["waiting label | handler_failed, incident_opened"]
        );
        let state = scenario.state.as_ref().unwrap();
        let reason = &state.incidents[0].reason;
        assert_eq!(
            *reason,
            format!("hook `{stage}[1]`: failed after 1 attempt: no")
        );
        // Continues from the failed hook, under another key.
        assert_eq!(
            scenario.control(Command::Retry),
            "waiting label | incident_resolved, handler_requested"
        );
        scenario.pass(seconds(0));
        assert_eq!(scenario.calls.len(), 2);
        assert_ne!(
            scenario.calls[0].idempotency_key,
            scenario.calls[1].idempotency_key
        );
        assert!(visit(&scenario).current_hook().is_none());
    }
}

#[test]
fn on_error_skip_goes_on_without_the_hook() {
    let hooks = format!("pre_process: [{WEBHOOK}, {WEBHOOK}], post_process: [{WEBHOOK}]");
    let mut scenario = Scenario::started(&labelling(&hooks, "on_error: skip"));
    scenario
        .answers
        .extend([failed("no"), done(json!("ready")), failed("no")]);
    assert_eq!(
        scenario.pass(seconds(0)),
        [
            "waiting label | handler_failed, hook_ended, handler_requested",
            "waiting label | hook_ended, step_opened"
        ]
    );
    assert_eq!(visit(&scenario).prepared, Some(json!("ready")));
    scenario.label("label", 1, "a");
    assert_eq!(
        scenario.pass(seconds(0)),
        [
            "advanced [look] | handler_failed, hook_ended, step_completed, transition_occurred, step_activated"
        ]
    );
    assert_eq!(
        visit(&scenario).result.as_ref().unwrap().value,
        Some(json!("a"))
    );
    assert_eq!(visit(&scenario).hooks_failed.len(), 2);
}

#[test]
fn an_advance_answers_a_job_of_a_hook() {
    let hooks = format!("pre_process: [{QUEUE}], post_process: [{QUEUE}]");
    let mut scenario = Scenario::started(&labelling(&hooks, ""));
    assert_eq!(
        scenario.advance("", Some(json!({"guess": "a"}))),
        "waiting label | hook_ended, step_opened"
    );
    assert_eq!(visit(&scenario).prepared, Some(json!({"guess": "a"})));
    // The step is open and waits for people: an `advance` is no longer an answer to the hook.
    assert_eq!(scenario.advance("", None), "rejected not_waiting");
    scenario.label("label", 1, "a");
    assert_eq!(
        scenario.advance("label", Some(json!("A"))),
        "advanced [look] | hook_ended, step_completed, transition_occurred, step_activated"
    );
    assert_eq!(
        visit(&scenario).result.as_ref().unwrap().value,
        Some(json!("A"))
    );
}

#[test]
fn an_unanswered_job_is_published_again() {
    let mut scenario = Scenario::started(&hooked("pre_process", &[QUEUE]));
    assert_eq!(
        scenario.pass(TimeDelta::minutes(10)),
        ["waiting label | handler_failed, handler_requested"]
    );
    let call = visit(&scenario).call.clone().unwrap();
    assert_eq!((call.attempt, call.n), (2, 1));
    scenario.pass(TimeDelta::minutes(30));
    assert_eq!(scenario.state.as_ref().unwrap().incidents.len(), 1);
}

#[test]
fn hooks_wait_while_the_task_is_paused() {
    let hooks = format!("pre_process: [{WEBHOOK}], on_start: [{WEBHOOK}]");
    let mut scenario = Scenario::started(&labelling(&hooks, ""));
    scenario.pause(None);
    assert!(scenario.due().is_empty());
    scenario.now += seconds(60);
    scenario.control(Command::Resume);
    let due = scenario.due();
    assert_eq!((due.len(), due[0].due_at), (1, scenario.now));
    scenario.pass(seconds(0));
    // The step is open, and its `on_start` hook waits, too.
    scenario.pause(None);
    scenario.now += seconds(60);
    assert!(scenario.pass(seconds(5)).is_empty());
    scenario.control(Command::Resume);
    scenario.pass(seconds(0));
    assert_eq!(stages(&scenario.calls), ["pre_process", "on_start"]);
}

#[test]
fn an_answer_that_was_overtaken_changes_nothing() {
    let mut scenario = Scenario::started(&hooked("pre_process", &[WEBHOOK]));
    let row = scenario.due()[0].clone();
    let late = FireTimer {
        row,
        outcome: Some(done(json!("late"))),
    };
    assert_eq!(
        scenario.advance("label", Some(json!("quick"))),
        "waiting label | hook_ended, step_opened"
    );
    assert_eq!(scenario.run(Command::FireTimer(late)), "waiting label");
    assert_eq!(visit(&scenario).prepared, Some(json!("quick")));
}

#[test]
fn a_cancelled_task_tells_no_more_that_its_step_has_begun() {
    let hooks = format!("on_start: [{WEBHOOK}]");
    let mut scenario = Scenario::started(&labelling(&hooks, ""));
    scenario.control(Command::Cancel);
    assert!(scenario.due().is_empty());
    // A completed step stays completed.
    let mut scenario = Scenario::started(&hooked("on_complete", &[WEBHOOK]));
    scenario.label("label", 1, "a");
    scenario.control(Command::Cancel);
    assert_eq!(scenario.pass(seconds(0)).len(), 1);
    assert_eq!(stages(&scenario.calls), ["on_complete"]);
}

#[test]
fn every_visit_of_a_loop_has_its_hooks() {
    let mut scenario = Scenario::started(&format!(
        "
workflow:
  id: hooked
  steps:
    - {{ id: label, type: annotation, field: label, hooks: {{ pre_process: [{WEBHOOK}] }} }}
    - {{ id: look, type: review }}
  transitions:
    - {{ from: label, to: look }}
    - {{ from: look, to: _complete, condition: {{ type: on_agreement }} }}
    - {{ from: look, to: label, condition: {{ type: on_disagreement }}, loop: {{ max_iterations: 2, on_exhausted: _failed }} }}
"
    ));
    scenario.pass(seconds(0));
    scenario.label("label", 1, "a");
    scenario.review("look", 2, "reject");
    assert!(visit(&scenario).opening && visit(&scenario).prepared.is_none());
    scenario.pass(seconds(0));
    assert_eq!(visit(&scenario).number, 2);
    assert!(visit(&scenario).is_open());
    assert_eq!(scenario.calls.len(), 2);
    assert_ne!(
        scenario.calls[0].idempotency_key,
        scenario.calls[1].idempotency_key
    );
}

#[test]
fn hooks_of_one_branch_hold_no_other() {
    let mut scenario = Scenario::new(&format!(
        "
workflow:
  id: hooked
  settings: {{ allow_parallel_steps: true }}
  steps:
    - {{ id: begin, type: auto_process, handler: finalize }}
    - {{ id: label, type: annotation, field: label, hooks: {{ pre_process: [{WEBHOOK}], on_start: [{WEBHOOK}] }} }}
    - {{ id: other, type: annotation, field: label }}
    - {{ id: join, type: auto_process, handler: result_merger, join_mode: any }}
  transitions:
    - {{ from: begin, to: label }}
    - {{ from: begin, to: other }}
    - {{ from: label, to: join }}
    - {{ from: other, to: join }}
"
    ));
    scenario.start(Value::Null);
    // The join continues without the branch whose hooks are running, and they lapse with it.
    let ended = scenario.label("other", 1, "a");
    assert!(ended.starts_with("completed |"), "{ended}");
    assert!(scenario.due().is_empty());
}

#[test]
fn hooks_surround_steps_without_people_too() {
    let hooks = format!("pre_process: [{WEBHOOK}], post_process: [{WEBHOOK}]");
    let mut scenario = Scenario::started(&format!(
        "
workflow:
  id: hooked
  steps:
    - {{ id: label, type: auto_process, handler: webhook, config: {{ url: 'https://a.org/y' }}, hooks: {{ {hooks} }} }}
"
    ));
    scenario.answers.extend([
        done(json!("ready")),
        done(json!("made")),
        done(json!("final")),
    ]);
    let last = scenario.pass(seconds(0)).pop().unwrap();
    assert_eq!(
        last,
        "completed | hook_ended, step_completed, workflow_completed"
    );
    assert_eq!(
        stages(&scenario.calls),
        ["pre_process", "step", "post_process"]
    );
    assert_eq!(scenario.calls[1].input["prepared"], "ready");
    assert_eq!(scenario.calls[1].config["url"], "https://a.org/y");
    assert_eq!(scenario.calls[2].input["result"]["value"], "made");
    assert_eq!(scenario.output()["result"], "final");
}

/// Claims end when the result is found, so no inactivity is reported for their holder.
#[test]
fn claims_end_when_the_result_is_found() {
    let hooks = format!("post_process: [{WEBHOOK}]");
    let more = "completion: { type: annotation_count, count: 2, min_required: 1, timeout: 1h }";
    let mut scenario = Scenario::started(&labelling(&hooks, more));
    scenario.label("label", 1, "a");
    scenario.assign("label", 2);
    scenario.advance("label", None);
    assert!(visit(&scenario).assignments.is_empty());
    assert_eq!(scenario.activity("label", 2), "rejected not_waiting");
    assert_eq!(scenario.label("label", 2, "b"), "rejected step_not_active");
    scenario.answers.push_back(failed("no"));
    scenario.pass(seconds(7200));
    let incidents: Vec<_> = scenario
        .state
        .as_ref()
        .unwrap()
        .incidents
        .iter()
        .map(|i| i.code.as_str())
        .collect();
    assert_eq!(incidents, ["handler_failed"]);
}

#[test]
fn a_task_whose_hooks_are_at_work_moves_to_another_revision() {
    let mut scenario = Scenario::started(&hooked("pre_process", &[WEBHOOK, WEBHOOK]));
    let migrate = |task_id: TaskId, to: &WorkflowSelector| {
        Command::Migrate(Migrate {
            task_id,
            to: to.clone(),
            steps: [].into(),
        })
    };
    let to = scenario.revise(&hooked("pre_process", &[WEBHOOK]));
    scenario.run(migrate(TASK, &to));
    scenario.pass(seconds(0));
    // The new revision has only one hook, which is done with the first answer.
    assert!(visit(&scenario).is_open());
    assert_eq!(scenario.calls.len(), 1);

    let mut scenario = Scenario::started(&hooked("pre_process", &[WEBHOOK]));
    let to = scenario.revise(&labelling("on_start: [queue]", ""));
    let row = scenario.due()[0].clone();
    assert_eq!(
        scenario.run(migrate(TASK, &to)),
        "waiting label | workflow_migrated, step_opened, handler_requested"
    );
    // The answer to a hook that the new revision does not have comes too late.
    let late = FireTimer {
        row,
        outcome: Some(done(json!("late"))),
    };
    assert_eq!(scenario.run(Command::FireTimer(late)), "waiting label");
    assert!(visit(&scenario).is_open() && visit(&scenario).prepared.is_none());
}

#[test]
fn what_is_told_of_a_step_that_is_no_more_lapses() {
    let yaml = hooked("on_complete", &[WEBHOOK]);
    let mut scenario = Scenario::started(&yaml);
    scenario.submit("label", 1, json!({"label": "a"}));
    let to = scenario.revise("workflow: { id: hooked, steps: [{ id: look, type: review }] }");
    scenario.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [].into(),
    }));
    assert_eq!(scenario.pass(seconds(0)), ["waiting look | hook_ended"]);
    assert!(scenario.due().is_empty());
}

#[test]
fn a_hook_held_by_an_incident_is_not_asked_again_by_a_migration() {
    let yaml = hooked("pre_process", &[WEBHOOK]);
    let mut scenario = Scenario::started(&yaml);
    scenario.answers.push_back(failed("404"));
    scenario.pass(seconds(0));
    assert_eq!(scenario.state.as_ref().unwrap().incidents.len(), 1);
    let to = scenario.revise(&yaml);
    let answer = scenario.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [].into(),
    }));
    assert_eq!(answer, "waiting label | workflow_migrated");
    assert!(scenario.due().is_empty());
    assert_eq!(
        scenario.control(Command::Retry),
        "waiting label | incident_resolved, handler_requested"
    );
    assert_eq!(
        scenario.pass(seconds(0)),
        ["waiting label | hook_ended, step_opened"]
    );
}

#[test]
fn a_command_without_a_step_finds_the_one_that_is_open() {
    let yaml = format!(
        "
workflow:
  id: forked
  settings: {{ allow_parallel_steps: true }}
  steps:
    - {{ id: begin, type: auto_process, handler: finalize }}
    - {{ id: label, type: annotation, hooks: {{ pre_process: [{WEBHOOK}] }} }}
    - {{ id: other, type: annotation }}
    - {{ id: merge, type: auto_process, handler: result_merger }}
  transitions:
    - {{ from: begin, to: label }}
    - {{ from: begin, to: other }}
    - {{ from: label, to: merge }}
    - {{ from: other, to: merge }}
"
    );
    let mut scenario = Scenario::new(&yaml);
    scenario.start(json!({}));
    let answer = scenario.submit("", 1, json!({"label": "o"}));
    assert!(answer.starts_with("advanced [label]"), "{answer}");
}

#[test]
fn a_step_whose_child_has_ended_waits_for_its_hook_in_peace() {
    let parent = parse_workflow(
        "
workflow:
  id: outer
  steps:
    - { id: run, type: sub_workflow, workflow: inner, hooks: { post_process: [queue] } }
",
    );
    let child = "workflow: { id: inner, steps: [{ id: label, type: annotation }] }";
    let workflows = vec![parent.unwrap(), parse_workflow(child).unwrap()];
    let mut simulation = Simulation::new(workflows, DateTime::UNIX_EPOCH).unwrap();
    simulation.run(Command::Start(Start {
        task_id: TASK,
        workflow: WorkflowSelector::Latest("outer".parse().unwrap()),
        input: None,
        labels: None,
        expected: None,
    }));
    let task_id = TASK.child(&"run".parse().unwrap(), 1, 1);
    let played = simulation.run(Command::Submission(Submission {
        task_id,
        step_id: None,
        annotation: AnnotationInput {
            annotation_id: None,
            user_id: user(1),
            data: json!("a"),
            decision: None,
            submitted_at: None,
            roles: None,
            confidence: None,
        },
        workflow: None,
    }));
    // The child's submission, its report, and the notification of the parent; nothing is repeated.
    assert!(played.len() < 10, "{} commands", played.len());
    simulation.run(Command::Advance(Advance {
        task_id: TASK,
        step_id: None,
        output: Some(json!("b")),
    }));
    let output = simulation.state(TASK).unwrap().output.clone().unwrap();
    assert_eq!(output["result"], "b");
}

#[test]
fn a_child_is_given_what_was_prepared() {
    let parent = format!(
        "
workflow:
  id: outer
  steps:
    - id: run
      type: sub_workflow
      workflow: inner
      input_mapping: {{ guess: 'step[\"run\"].prepared.label' }}
      hooks: {{ pre_process: [{WEBHOOK}] }}
"
    );
    let mut scenario = Scenario::started(&parent);
    scenario.answers.push_back(done(json!({"label": "cat"})));
    scenario.pass(seconds(0));
    let visit = scenario
        .state
        .as_ref()
        .unwrap()
        .current_visit("run")
        .unwrap();
    let child = visit.child.as_ref().unwrap();
    assert_eq!(child.input, Some(json!({"guess": "cat"})));
}

#[test]
fn a_hook_makes_no_agreement_of_a_refusal() {
    let yaml = format!(
        "
workflow:
  id: judged
  steps:
    - {{ id: label, type: annotation }}
    - {{ id: look, type: review, hooks: {{ post_process: [{WEBHOOK}] }} }}
    - {{ id: again, type: annotation }}
  transitions:
    - {{ from: label, to: look }}
    - {{ from: look, to: _complete, condition: {{ type: on_agreement }} }}
    - {{ from: look, to: again, condition: {{ type: on_disagreement }} }}
"
    );
    let mut scenario = Scenario::started(&yaml);
    scenario.submit("label", 1, json!("a"));
    scenario.review("look", 2, "reject");
    scenario.pass(seconds(0));
    let state = scenario.state.as_ref().unwrap();
    assert!(state.steps.contains_key("again"), "{:?}", state.output);
}

#[test]
fn chains_through_steps_with_hooks_are_warned_of() {
    let mut yaml = "workflow:\n  id: long\n  steps:\n".to_owned();
    for at in 0..300 {
        let hooks = "hooks: { on_complete: [queue] }";
        writeln!(
            yaml,
            "    - {{ id: s{at}, type: auto_process, handler: finalize, {hooks} }}"
        )
        .unwrap();
    }
    yaml.push_str("  transitions:\n");
    for at in 0..299 {
        writeln!(yaml, "    - {{ from: s{at}, to: s{} }}", at + 1).unwrap();
    }
    yaml.push_str("    - { from: s299, to: _complete }\n");
    let library = StepLibrary::built_in();
    let report = check_workflow(&yaml, &library, &[]);
    let codes: Vec<&str> = report.diagnostics.iter().map(|d| d.code.as_str()).collect();
    assert_eq!(codes, ["long_chain"]);
}
