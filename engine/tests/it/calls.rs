//! External handlers: called, answered, retried, given up, and everything that can happen in
//! between.

use std::time::Duration;

use chrono::TimeDelta;
use glyph_workflow_engine::{
    StateRebuilder,
    command::{Command, CommandEnvelope, Control, EffectOutcome, FireTimer, Migrate, Pause},
    events::{StoredEvent, WorkflowEvent},
    ids::{CommandId, WorkflowSelector},
    state::{Incident, PendingCall},
    store::{Timer, TimerKind},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scenario::{Scenario, TASK};

fn calling(step: &str) -> String {
    format!(
        "
workflow:
  id: calling
  steps:
    - {{ id: call, type: auto_process, {step} }}
    - {{ id: done, type: auto_process, handler: finalize }}
  transitions:
    - {{ from: call, to: done }}
"
    )
}

fn webhook(more: &str) -> String {
    calling(&format!(
        "handler: webhook, config: {{ url: 'https://a.org/x' }}{more}"
    ))
}

fn queue(more: &str) -> String {
    calling(&format!("handler: queue, config: {{ model: m }}{more}"))
}

fn failed(error: &str) -> EffectOutcome {
    EffectOutcome::Failed {
        error: error.to_owned(),
        is_final: false,
        retry_after: None,
    }
}

fn failed_for_good(error: &str) -> EffectOutcome {
    EffectOutcome::Failed {
        error: error.to_owned(),
        is_final: true,
        retry_after: None,
    }
}

fn pending(scenario: &Scenario) -> Option<PendingCall> {
    let state = scenario.state.as_ref().unwrap();
    state.current_visit("call").unwrap().call.clone()
}

fn incidents(scenario: &Scenario) -> Vec<Incident> {
    scenario.state.as_ref().unwrap().incidents.clone()
}

/// The row of the pending call, as a runner has claimed it.
fn claimed(scenario: &Scenario) -> Timer {
    let rows = scenario.due();
    let [row] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert!(row.due_at <= scenario.now && row.kind == TimerKind::HandlerCall);
    row.clone()
}

fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

#[test]
fn the_answer_of_a_webhook_is_the_value() {
    let mut scenario = Scenario::new(&webhook(""));
    assert_eq!(
        scenario.start(json!({"text": "x"})),
        "waiting call | workflow_started, step_activated, handler_requested"
    );
    scenario.answers.push_back(EffectOutcome::Done {
        output: json!({"label": "a"}),
    });
    assert_eq!(
        scenario.pass(seconds(0)),
        [
            "completed | step_completed, transition_occurred, step_activated, step_completed, \
          workflow_completed"
        ]
    );
    let output = scenario.output();
    assert_eq!(output["result"], json!({"label": "a"}));
    assert_eq!(output["steps"]["call"]["kind"], "auto");
    assert_eq!(output["steps"]["call"]["resolved_by"], "handler");
    let call = &scenario.calls[0];
    assert_eq!(call.config["url"], "https://a.org/x");
    assert_eq!((call.call, call.attempt), (1, 1));
    assert_eq!(call.input["input"], json!({"text": "x"}));
}

#[test]
fn an_empty_answer_ends_the_step_without_a_value() {
    let mut scenario = Scenario::started(&webhook(""));
    scenario.answers.push_back(EffectOutcome::Done {
        output: Value::Null,
    });
    scenario.pass(seconds(0));
    let call = &scenario.output()["steps"]["call"];
    assert!(call["value"].is_null() && call["resolved_by"].is_null());
}

#[test]
fn a_failing_call_is_tried_after_1_4_and_16_seconds_and_then_held() {
    let mut scenario = Scenario::started(&webhook(""));
    let began = scenario.now;
    scenario.answers.extend(["a", "b", "c", "d"].map(failed));
    let retried = "waiting call | handler_failed";
    assert_eq!(scenario.pass(seconds(0)), [retried]);
    let call = pending(&scenario).unwrap();
    assert_eq!((call.attempt, call.due_at), (2, Some(began + seconds(1))));
    assert_eq!(call.last_error.as_deref(), Some("a"));
    assert_eq!(scenario.pass(seconds(20)), [retried, retried]);
    assert_eq!(
        pending(&scenario).unwrap().due_at,
        Some(began + seconds(21))
    );
    assert_eq!(
        scenario.pass(seconds(1)),
        ["waiting call | handler_failed, incident_opened"]
    );
    assert!(scenario.due().is_empty());
    let held = &incidents(&scenario)[0];
    assert_eq!(held.code.as_str(), "handler_failed");
    assert_eq!(held.reason, "failed after 4 attempts: d");
    assert!(!held.escalated);
    let attempts: Vec<u32> = scenario.calls.iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    let key = scenario.calls[0].idempotency_key;
    assert!(
        scenario
            .calls
            .iter()
            .all(|call| call.idempotency_key == key)
    );

    // `retry` starts a new series of attempts.
    assert_eq!(
        scenario.control(Command::Retry),
        "waiting call | incident_resolved, handler_requested"
    );
    assert!(scenario.pass(seconds(0))[0].starts_with("completed"));
    let again = &scenario.calls[4];
    assert_eq!((again.call, again.attempt), (2, 1));
    assert_ne!(again.idempotency_key, key);
}

#[test]
fn max_retries_bounds_the_series_and_what_is_final_ends_it() {
    let yaml = webhook("").replace("  steps:", "  settings: { max_retries: 0 }\n  steps:");
    let mut scenario = Scenario::started(&yaml);
    scenario.answers.push_back(failed("a"));
    assert_eq!(
        scenario.pass(seconds(60)),
        ["waiting call | handler_failed, incident_opened"]
    );
    assert_eq!(incidents(&scenario)[0].reason, "failed after 1 attempt: a");

    let mut scenario = Scenario::started(&webhook(""));
    scenario.answers.push_back(failed_for_good("404"));
    assert_eq!(
        scenario.pass(seconds(60)),
        ["waiting call | handler_failed, incident_opened"]
    );
}

#[test]
fn on_error_says_what_a_failed_call_leads_to() {
    let mut scenario = Scenario::started(&webhook(", on_error: skip"));
    scenario.answers.push_back(failed_for_good("404"));
    assert_eq!(
        scenario.pass(seconds(0)),
        [
            "completed | handler_failed, step_skipped, transition_occurred, step_activated, \
          step_completed, workflow_completed"
        ]
    );

    let mut scenario = Scenario::started(&webhook(", on_error: escalate"));
    scenario.answers.push_back(failed_for_good("404"));
    scenario.pass(seconds(0));
    assert!(incidents(&scenario)[0].escalated);
}

#[test]
fn whoever_fails_may_ask_for_more_time_but_not_for_ever() {
    for (asked, waited) in [(0, 1), (30, 30), (1_000_000, 3_600)] {
        let mut scenario = Scenario::started(&webhook(""));
        scenario.answers.push_back(EffectOutcome::Failed {
            error: "busy".to_owned(),
            is_final: false,
            retry_after: Some(Duration::from_secs(asked)),
        });
        scenario.pass(seconds(0));
        let due_at = pending(&scenario).unwrap().due_at;
        assert_eq!(due_at, Some(scenario.now + seconds(waited)), "{asked}");
    }
}

/// Events between a call and its answer, after which the answer changes nothing.
fn overtaken(yaml: &str, between: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = Scenario::started(yaml);
    let row = claimed(&scenario);
    let late = scenario.perform(row);
    scenario.now += seconds(3);
    between(&mut scenario);
    let answer = scenario.run(Command::FireTimer(late));
    assert!(
        !answer.contains('|'),
        "a late answer changes nothing: {answer}"
    );
    scenario
}

#[test]
fn a_call_under_way_lapses_when_the_task_is_cancelled() {
    let scenario = overtaken(&webhook(""), |scenario| {
        assert!(scenario.control(Command::Cancel).contains("step_withdrawn"));
    });
    assert!(scenario.due().is_empty());
}

#[test]
fn a_call_under_way_lapses_when_somebody_gives_the_answer() {
    let scenario = overtaken(&webhook(""), |scenario| {
        assert!(
            scenario
                .advance("call", Some(json!("mine")))
                .starts_with("completed")
        );
    });
    assert_eq!(scenario.output()["result"], "mine");
}

#[test]
fn an_advance_without_output_ends_the_wait_without_a_value() {
    let scenario = overtaken(&webhook(""), |scenario| {
        assert!(scenario.advance("", None).starts_with("completed"));
    });
    assert!(scenario.output()["result"].is_null());
}

#[test]
fn a_call_under_way_lapses_with_a_pause_and_is_made_again_after_it() {
    let mut scenario = overtaken(&webhook(""), |scenario| {
        scenario.pause(None);
        assert!(scenario.due().is_empty());
        scenario.now += seconds(60);
        scenario.control(Command::Resume);
    });
    // It is due at once, as the same attempt under the same key.
    assert!(scenario.pass(seconds(0))[0].starts_with("completed"));
    assert_eq!(
        scenario.calls[0].idempotency_key,
        scenario.calls[1].idempotency_key
    );
    assert_eq!(scenario.calls[1].attempt, 1);
    // It also lapses while the task is still paused.
    overtaken(&webhook(""), |scenario| drop(scenario.pause(None)));
}

#[test]
fn a_call_under_way_lapses_with_a_pause_of_its_step() {
    let pause = Command::Pause(Pause {
        task_id: TASK,
        step_id: Some("call".to_owned()),
        reason: None,
        until: None,
    });
    let resume = Command::Resume(Control {
        task_id: TASK,
        step_id: Some("call".to_owned()),
        reason: None,
    });
    overtaken(&webhook(""), |scenario| {
        scenario.run(pause.clone());
        assert!(scenario.due().is_empty());
    });
    let mut scenario = overtaken(&webhook(""), |scenario| {
        scenario.run(pause);
        scenario.now += seconds(60);
        scenario.run(resume);
    });
    assert!(scenario.pass(seconds(0))[0].starts_with("completed"));
    assert_eq!(
        scenario.calls[0].idempotency_key,
        scenario.calls[1].idempotency_key
    );
}

#[test]
fn a_pause_stops_the_clock_of_the_next_attempt() {
    let mut scenario = Scenario::started(&webhook(""));
    scenario.answers.extend(["a", "b"].map(failed));
    scenario.pass(seconds(2));
    assert_eq!(pending(&scenario).unwrap().attempt, 3);
    let left = pending(&scenario).unwrap().due_at.unwrap() - scenario.now;
    scenario.pause(None);
    assert!(scenario.pass(seconds(100)).is_empty());
    scenario.control(Command::Resume);
    assert_eq!(
        pending(&scenario).unwrap().due_at,
        Some(scenario.now + left)
    );
    assert!(scenario.pass(left)[0].starts_with("completed"));
}

#[test]
fn a_call_under_way_lapses_with_a_migration_and_is_made_again() {
    let mut scenario = overtaken(&webhook(""), |scenario| {
        let mut migrate = Migrate {
            task_id: TASK,
            to: WorkflowSelector::Latest("calling".parse().unwrap()),
            steps: [].into(),
        };
        // It is there already.
        let answer = scenario.run(Command::Migrate(migrate.clone()));
        assert_eq!(answer, "waiting call");
        migrate.to = scenario.revise(&webhook(""));
        let answer = scenario.run(Command::Migrate(migrate));
        assert_eq!(answer, "waiting call | workflow_migrated");
    });
    assert!(scenario.pass(seconds(0))[0].starts_with("completed"));
    assert_eq!(
        scenario.calls[0].idempotency_key,
        scenario.calls[1].idempotency_key
    );
}

#[test]
fn a_call_held_by_an_incident_is_not_made_again_by_a_migration() {
    let mut scenario = Scenario::started(&webhook(""));
    scenario.answers.push_back(EffectOutcome::Failed {
        error: "404".to_owned(),
        is_final: true,
        retry_after: None,
    });
    scenario.pass(seconds(0));
    let to = scenario.revise(&webhook(""));
    let answer = scenario.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [].into(),
    }));
    assert_eq!(answer, "waiting call | workflow_migrated");
    assert!(scenario.due().is_empty());
    scenario.control(Command::Retry);
    assert!(scenario.pass(seconds(0))[0].starts_with("completed"));
}

#[test]
fn a_failed_call_beside_another_is_not_made_again_by_a_migration_either() {
    let yaml = "
workflow:
  id: calling
  settings: { allow_parallel_steps: true }
  steps:
    - { id: read, type: annotation }
    - { id: left, type: auto_process, handler: webhook, config: { url: 'https://a.org/x' } }
    - { id: right, type: auto_process, handler: webhook, config: { url: 'https://a.org/x' } }
    - { id: done, type: auto_process, handler: finalize }
  transitions:
    - { from: read, to: left }
    - { from: read, to: right }
    - { from: left, to: done }
    - { from: right, to: done }
";
    let mut scenario = Scenario::started(yaml);
    scenario.label("read", 1, "a");
    scenario
        .answers
        .extend([failed_for_good("404"), failed_for_good("404")]);
    scenario.pass(seconds(0));
    assert_eq!(scenario.state.as_ref().unwrap().incidents.len(), 2);
    let to = scenario.revise(yaml);
    let answer = scenario.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [].into(),
    }));
    assert!(answer.ends_with("| workflow_migrated"), "{answer}");
}

#[test]
fn a_call_of_a_visit_that_is_over_is_no_event_of_the_task() {
    let annotated = webhook("").replace("auto_process, handler: finalize", "annotation");
    let mut scenario = Scenario::started(&annotated);
    scenario.pass(seconds(0));
    let mut log = scenario.log.clone();
    let is_request =
        |event: &&StoredEvent| matches!(event.event, WorkflowEvent::HandlerRequested(_));
    let request = log.iter().find(is_request).cloned().unwrap();
    let version = scenario.state.unwrap().version + 1;
    log.push(StoredEvent { version, ..request });
    let error = StateRebuilder::rebuild(&log).unwrap_err();
    assert!(error.to_string().contains("call"), "{error}");
}

#[test]
fn two_who_made_the_same_call_are_duplicates_of_each_other() {
    let scenario = Scenario::started(&webhook(""));
    let row = claimed(&scenario);
    let of = |outcome| {
        let row = row.clone();
        let id = CommandId(Uuid::from_u128(1));
        CommandEnvelope::new(id, Command::FireTimer(FireTimer { row, outcome })).content_hash
    };
    assert_eq!(of(None), of(Some(failed("a"))));
}

#[test]
fn a_call_that_nobody_made_is_not_settled() {
    let mut scenario = Scenario::started(&webhook(""));
    let row = claimed(&scenario);
    let answer = scenario.run(Command::FireTimer(FireTimer::alone(row)));
    assert_eq!(answer, "Undecided(NotPerformed)");
    assert_eq!(scenario.due().len(), 1);
}

#[test]
fn a_job_is_published_and_answered_by_an_advance() {
    let mut scenario = Scenario::new(&queue(""));
    assert_eq!(
        scenario.start(json!({"text": "x"})),
        "waiting call | workflow_started, step_activated, handler_requested"
    );
    let WorkflowEvent::HandlerRequested(requested) = &scenario.log[2].event else {
        panic!("{:?}", scenario.log[2])
    };
    let job = requested.job.as_ref().unwrap();
    assert_eq!(job.config, json!({"model": "m"}));
    assert_eq!(job.input["input"], json!({"text": "x"}));
    // Without a timeout there is no limit.
    assert!(scenario.due().is_empty());
    assert!(
        scenario
            .advance("call", Some(json!(7)))
            .starts_with("completed")
    );
    assert_eq!(scenario.output()["result"], 7);
    assert_eq!(
        scenario.advance("call", Some(json!(8))),
        "rejected task_finished"
    );
}

#[test]
fn a_job_without_an_answer_is_published_again_and_then_held() {
    let mut scenario = Scenario::started(&queue(", completion: { type: auto, timeout: 10m }"));
    let again = "waiting call | handler_failed, handler_requested";
    assert_eq!(scenario.pass(TimeDelta::minutes(30)), [again, again, again]);
    let call = pending(&scenario).unwrap();
    assert_eq!((call.n, call.attempt), (1, 4));
    let keys: Vec<Uuid> = scenario
        .log
        .iter()
        .filter_map(|event| match &event.event {
            WorkflowEvent::HandlerRequested(e) => Some(e.job.as_ref()?.idempotency_key),
            _ => None,
        })
        .collect();
    assert_eq!(keys.len(), 4);
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(
        scenario.pass(TimeDelta::minutes(10)),
        ["waiting call | handler_failed, incident_opened"]
    );
    // A late answer is accepted, and resolves the incident.
    assert!(
        scenario
            .advance("call", Some(json!(7)))
            .starts_with("completed")
    );
    assert!(incidents(&scenario).is_empty());
}

#[test]
fn operators_are_told_of_a_disagreement_and_the_task_goes_on() {
    let yaml = "
workflow:
  id: told
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { field: label, on_disagreement: { strategy: escalate } }
    - { id: adjudicate, type: adjudication }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
";
    let mut scenario = Scenario::started(yaml);
    scenario.label("annotate", 1, "a");
    assert_eq!(
        scenario.label("annotate", 2, "b"),
        "advanced [adjudicate] | annotation_submitted, consensus_calculated, step_completed, \
         incident_opened, incident_resolved, transition_occurred, step_activated"
    );
    let told = scenario.log.iter().find_map(|event| match &event.event {
        WorkflowEvent::IncidentOpened {
            code, escalated, ..
        } => Some((code.as_str(), *escalated)),
        _ => None,
    });
    assert_eq!(told, Some(("disagreement", true)));
    assert!(incidents(&scenario).is_empty());

    // If no transition matches, the incident stays open.
    let stuck = yaml.replace(
        "condition: { type: on_disagreement }",
        "condition: { type: expression, expression: 'agreement > 2.0' }",
    );
    let mut scenario = Scenario::started(&stuck);
    scenario.label("annotate", 1, "a");
    scenario.label("annotate", 2, "b");
    let open: Vec<_> = incidents(&scenario)
        .iter()
        .map(|i| i.code.as_str())
        .collect();
    assert_eq!(open, ["disagreement", "no_transition"]);

    let fallback = yaml.replace(
        "strategy: escalate",
        "strategy: additional_annotators, max_additional: 1, fallback: escalate",
    );
    let mut scenario = Scenario::started(&fallback);
    scenario.label("annotate", 1, "a");
    assert!(scenario.label("annotate", 2, "b").contains("places_added"));
    assert!(
        scenario
            .label("annotate", 3, "c")
            .contains("incident_opened")
    );

    let mut scenario = Scenario::started(yaml);
    scenario.label("annotate", 1, "a");
    assert!(!scenario.label("annotate", 2, "a").contains("incident"));
}
