//! Handlers outside: asked, answered, tried again, given up; and whatever comes between.

use std::time::Duration;

use chrono::TimeDelta;
use glyph_workflow_engine::{
    command::{Command, CommandEnvelope, Control, EffectOutcome, FireTimer, Migrate, Pause},
    events::WorkflowEvent,
    ids::{CommandId, WorkflowSelector},
    state::{Incident, PendingCall},
    store::{Timer, TimerKind},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::desk::{Desk, TASK};

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

fn pending(desk: &Desk) -> Option<PendingCall> {
    let state = desk.state.as_ref().unwrap();
    state.current_visit("call").unwrap().call.clone()
}

fn incidents(desk: &Desk) -> Vec<Incident> {
    desk.state.as_ref().unwrap().incidents.clone()
}

/// The row of the call that is due, as a runner has claimed it.
fn claimed(desk: &Desk) -> Timer {
    let rows = desk.due();
    let [row] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    assert!(row.due_at <= desk.now && row.kind == TimerKind::HandlerCall);
    row.clone()
}

fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

#[test]
fn the_answer_of_a_webhook_is_the_value() {
    let mut desk = Desk::new(&webhook(""));
    assert_eq!(
        desk.start(json!({"text": "x"})),
        "waiting call | workflow_started, step_activated, handler_requested"
    );
    desk.answers.push_back(EffectOutcome::Done {
        output: json!({"label": "a"}),
    });
    assert_eq!(
        desk.pass(seconds(0)),
        [
            "completed | step_completed, transition_occurred, step_activated, step_completed, \
          workflow_completed"
        ]
    );
    let output = desk.output();
    assert_eq!(output["result"], json!({"label": "a"}));
    assert_eq!(output["steps"]["call"]["kind"], "auto");
    assert_eq!(output["steps"]["call"]["resolved_by"], "handler");
    let call = &desk.calls[0];
    assert_eq!(call.config["url"], "https://a.org/x");
    assert_eq!((call.call, call.attempt), (1, 1));
    assert_eq!(call.input["input"], json!({"text": "x"}));
}

#[test]
fn an_empty_answer_ends_the_step_without_a_value() {
    let mut desk = Desk::started(&webhook(""));
    desk.answers.push_back(EffectOutcome::Done {
        output: Value::Null,
    });
    desk.pass(seconds(0));
    let call = &desk.output()["steps"]["call"];
    assert!(call["value"].is_null() && call["resolved_by"].is_null());
}

#[test]
fn a_failing_call_is_tried_after_1_4_and_16_seconds_and_then_held() {
    let mut desk = Desk::started(&webhook(""));
    let began = desk.now;
    desk.answers.extend(["a", "b", "c", "d"].map(failed));
    let retried = "waiting call | handler_failed";
    assert_eq!(desk.pass(seconds(0)), [retried]);
    let call = pending(&desk).unwrap();
    assert_eq!((call.attempt, call.due_at), (2, Some(began + seconds(1))));
    assert_eq!(call.last_error.as_deref(), Some("a"));
    assert_eq!(desk.pass(seconds(20)), [retried, retried]);
    assert_eq!(pending(&desk).unwrap().due_at, Some(began + seconds(21)));
    assert_eq!(
        desk.pass(seconds(1)),
        ["waiting call | handler_failed, incident_opened"]
    );
    assert!(desk.due().is_empty());
    let held = &incidents(&desk)[0];
    assert_eq!(held.code.as_str(), "handler_failed");
    assert_eq!(held.reason, "failed after 4 attempts: d");
    assert!(!held.escalated);
    let attempts: Vec<u32> = desk.calls.iter().map(|call| call.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4]);
    let key = desk.calls[0].idempotency_key;
    assert!(desk.calls.iter().all(|call| call.idempotency_key == key));

    // `retry` begins a series of its own.
    assert_eq!(
        desk.control(Command::Retry),
        "waiting call | incident_resolved, handler_requested"
    );
    assert!(desk.pass(seconds(0))[0].starts_with("completed"));
    let again = &desk.calls[4];
    assert_eq!((again.call, again.attempt), (2, 1));
    assert_ne!(again.idempotency_key, key);
}

#[test]
fn max_retries_bounds_the_series_and_what_is_final_ends_it() {
    let yaml = webhook("").replace("  steps:", "  settings: { max_retries: 0 }\n  steps:");
    let mut desk = Desk::started(&yaml);
    desk.answers.push_back(failed("a"));
    assert_eq!(
        desk.pass(seconds(60)),
        ["waiting call | handler_failed, incident_opened"]
    );
    assert_eq!(incidents(&desk)[0].reason, "failed after 1 attempt: a");

    let mut desk = Desk::started(&webhook(""));
    desk.answers.push_back(failed_for_good("404"));
    assert_eq!(
        desk.pass(seconds(60)),
        ["waiting call | handler_failed, incident_opened"]
    );
}

#[test]
fn on_error_says_what_a_failed_call_leads_to() {
    let mut desk = Desk::started(&webhook(", on_error: skip"));
    desk.answers.push_back(failed_for_good("404"));
    assert_eq!(
        desk.pass(seconds(0)),
        [
            "completed | handler_failed, step_skipped, transition_occurred, step_activated, \
          step_completed, workflow_completed"
        ]
    );

    let mut desk = Desk::started(&webhook(", on_error: escalate"));
    desk.answers.push_back(failed_for_good("404"));
    desk.pass(seconds(0));
    assert!(incidents(&desk)[0].escalated);
}

#[test]
fn whoever_fails_may_ask_for_more_time_but_not_for_ever() {
    for (asked, waited) in [(0, 1), (30, 30), (1_000_000, 3_600)] {
        let mut desk = Desk::started(&webhook(""));
        desk.answers.push_back(EffectOutcome::Failed {
            error: "busy".to_owned(),
            is_final: false,
            retry_after: Some(Duration::from_secs(asked)),
        });
        desk.pass(seconds(0));
        let due_at = pending(&desk).unwrap().due_at;
        assert_eq!(due_at, Some(desk.now + seconds(waited)), "{asked}");
    }
}

/// What comes between a call and its answer, which then changes nothing.
fn overtaken(yaml: &str, between: impl FnOnce(&mut Desk)) -> Desk {
    let mut desk = Desk::started(yaml);
    let row = claimed(&desk);
    let late = desk.perform(row);
    desk.now += seconds(3);
    between(&mut desk);
    let answer = desk.run(Command::FireTimer(late));
    assert!(
        !answer.contains('|'),
        "a late answer changes nothing: {answer}"
    );
    desk
}

#[test]
fn a_call_under_way_lapses_when_the_task_is_cancelled() {
    let desk = overtaken(&webhook(""), |desk| {
        assert!(desk.control(Command::Cancel).contains("step_withdrawn"));
    });
    assert!(desk.due().is_empty());
}

#[test]
fn a_call_under_way_lapses_when_somebody_gives_the_answer() {
    let desk = overtaken(&webhook(""), |desk| {
        assert!(
            desk.advance("call", Some(json!("mine")))
                .starts_with("completed")
        );
    });
    assert_eq!(desk.output()["result"], "mine");
}

#[test]
fn an_advance_without_output_ends_the_wait_without_a_value() {
    let desk = overtaken(&webhook(""), |desk| {
        assert!(desk.advance("", None).starts_with("completed"));
    });
    assert!(desk.output()["result"].is_null());
}

#[test]
fn a_call_under_way_lapses_with_a_pause_and_is_made_again_after_it() {
    let mut desk = overtaken(&webhook(""), |desk| {
        desk.pause(None);
        assert!(desk.due().is_empty());
        desk.now += seconds(60);
        desk.control(Command::Resume);
    });
    // It is due at once, as the same attempt under the same key.
    assert!(desk.pass(seconds(0))[0].starts_with("completed"));
    assert_eq!(desk.calls[0].idempotency_key, desk.calls[1].idempotency_key);
    assert_eq!(desk.calls[1].attempt, 1);
    // While the task is still paused, it lapses as well.
    overtaken(&webhook(""), |desk| drop(desk.pause(None)));
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
    overtaken(&webhook(""), |desk| {
        desk.run(pause.clone());
        assert!(desk.due().is_empty());
    });
    let mut desk = overtaken(&webhook(""), |desk| {
        desk.run(pause);
        desk.now += seconds(60);
        desk.run(resume);
    });
    assert!(desk.pass(seconds(0))[0].starts_with("completed"));
    assert_eq!(desk.calls[0].idempotency_key, desk.calls[1].idempotency_key);
}

#[test]
fn a_pause_stops_the_clock_of_the_next_attempt() {
    let mut desk = Desk::started(&webhook(""));
    desk.answers.extend(["a", "b"].map(failed));
    desk.pass(seconds(2));
    assert_eq!(pending(&desk).unwrap().attempt, 3);
    let left = pending(&desk).unwrap().due_at.unwrap() - desk.now;
    desk.pause(None);
    assert!(desk.pass(seconds(100)).is_empty());
    desk.control(Command::Resume);
    assert_eq!(pending(&desk).unwrap().due_at, Some(desk.now + left));
    assert!(desk.pass(left)[0].starts_with("completed"));
}

#[test]
fn a_call_under_way_lapses_with_a_migration_and_is_made_again() {
    let mut desk = overtaken(&webhook(""), |desk| {
        let mut migrate = Migrate {
            task_id: TASK,
            to: WorkflowSelector::Latest("calling".parse().unwrap()),
            steps: [].into(),
        };
        // It is there already.
        let answer = desk.run(Command::Migrate(migrate.clone()));
        assert_eq!(answer, "waiting call");
        migrate.to = desk.revise(&webhook(""));
        let answer = desk.run(Command::Migrate(migrate));
        assert_eq!(answer, "waiting call | workflow_migrated");
    });
    assert!(desk.pass(seconds(0))[0].starts_with("completed"));
    assert_eq!(desk.calls[0].idempotency_key, desk.calls[1].idempotency_key);
}

#[test]
fn a_call_held_by_an_incident_is_not_made_again_by_a_migration() {
    let mut desk = Desk::started(&webhook(""));
    desk.answers.push_back(EffectOutcome::Failed {
        error: "404".to_owned(),
        is_final: true,
        retry_after: None,
    });
    desk.pass(seconds(0));
    let to = desk.revise(&webhook(""));
    let answer = desk.run(Command::Migrate(Migrate {
        task_id: TASK,
        to,
        steps: [].into(),
    }));
    assert_eq!(answer, "waiting call | workflow_migrated");
    assert!(desk.due().is_empty());
    desk.control(Command::Retry);
    assert!(desk.pass(seconds(0))[0].starts_with("completed"));
}

#[test]
fn two_who_made_the_same_call_are_duplicates_of_each_other() {
    let desk = Desk::started(&webhook(""));
    let row = claimed(&desk);
    let of = |outcome| {
        let row = row.clone();
        let id = CommandId(Uuid::from_u128(1));
        CommandEnvelope::new(id, Command::FireTimer(FireTimer { row, outcome })).content_hash
    };
    assert_eq!(of(None), of(Some(failed("a"))));
}

#[test]
fn a_call_that_nobody_made_is_not_settled() {
    let mut desk = Desk::started(&webhook(""));
    let row = claimed(&desk);
    let answer = desk.run(Command::FireTimer(Due::alone(row)));
    assert_eq!(answer, "Undecided(NotPerformed)");
    assert_eq!(desk.due().len(), 1);
}

#[test]
fn a_job_is_published_and_answered_by_an_advance() {
    let mut desk = Desk::new(&queue(""));
    assert_eq!(
        desk.start(json!({"text": "x"})),
        "waiting call | workflow_started, step_activated, handler_requested"
    );
    let WorkflowEvent::HandlerRequested(requested) = &desk.log[2].event else {
        panic!("{:?}", desk.log[2])
    };
    let job = requested.job.as_ref().unwrap();
    assert_eq!(job.config, json!({"model": "m"}));
    assert_eq!(job.input["input"], json!({"text": "x"}));
    // Without a timeout it may take as long as it likes.
    assert!(desk.due().is_empty());
    assert!(
        desk.advance("call", Some(json!(7)))
            .starts_with("completed")
    );
    assert_eq!(desk.output()["result"], 7);
    assert_eq!(
        desk.advance("call", Some(json!(8))),
        "rejected task_finished"
    );
}

#[test]
fn a_job_without_an_answer_is_published_again_and_then_held() {
    let mut desk = Desk::started(&queue(", completion: { type: auto, timeout: 10m }"));
    let again = "waiting call | handler_failed, handler_requested";
    assert_eq!(desk.pass(TimeDelta::minutes(30)), [again, again, again]);
    let call = pending(&desk).unwrap();
    assert_eq!((call.n, call.attempt), (1, 4));
    let keys: Vec<Uuid> = desk
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
        desk.pass(TimeDelta::minutes(10)),
        ["waiting call | handler_failed, incident_opened"]
    );
    // An answer that comes after all is taken, and resolves the incident.
    assert!(
        desk.advance("call", Some(json!(7)))
            .starts_with("completed")
    );
    assert!(incidents(&desk).is_empty());
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
    let mut desk = Desk::started(yaml);
    desk.label("annotate", 1, "a");
    assert_eq!(
        desk.label("annotate", 2, "b"),
        "advanced [adjudicate] | annotation_submitted, consensus_calculated, step_completed, \
         incident_opened, incident_resolved, transition_occurred, step_activated"
    );
    let told = desk.log.iter().find_map(|event| match &event.event {
        WorkflowEvent::IncidentOpened {
            code, escalated, ..
        } => Some((code.as_str(), *escalated)),
        _ => None,
    });
    assert_eq!(told, Some(("disagreement", true)));
    assert!(incidents(&desk).is_empty());

    // Where no way leads on, it stays open.
    let stuck = yaml.replace(
        "condition: { type: on_disagreement }",
        "condition: { type: expression, expression: 'agreement > 2.0' }",
    );
    let mut desk = Desk::started(&stuck);
    desk.label("annotate", 1, "a");
    desk.label("annotate", 2, "b");
    let open: Vec<_> = incidents(&desk).iter().map(|i| i.code.as_str()).collect();
    assert_eq!(open, ["disagreement", "no_transition"]);

    let fallback = yaml.replace(
        "strategy: escalate",
        "strategy: additional_annotators, max_additional: 1, fallback: escalate",
    );
    let mut desk = Desk::started(&fallback);
    desk.label("annotate", 1, "a");
    assert!(desk.label("annotate", 2, "b").contains("places_added"));
    assert!(desk.label("annotate", 3, "c").contains("incident_opened"));

    let mut desk = Desk::started(yaml);
    desk.label("annotate", 1, "a");
    assert!(!desk.label("annotate", 2, "a").contains("incident"));
}
