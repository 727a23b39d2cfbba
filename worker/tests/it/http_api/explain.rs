//! Why a task waits: what its child waits for, how far a job has come, who is missing, what helps.

use std::{sync::Arc, time::Duration};

use axum::http::StatusCode;
use glyph_worker::settings::Tokens;
use glyph_workflow_engine::{
    Effect, WorkflowEvent, WorkflowOrchestrator,
    command::{Command, CommandEnvelope, EffectOutcome, FireTimer, Outcome},
    ids::TaskId,
    store::{EventStore, MemoryStore, Outbox, PublisherId, ReleasedRow, TimerLane, TimerQueue},
    timer_command_id,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Server, work};

const CHILD: &str = "
workflow:
  id: inner
  steps:
    - { id: mark, type: annotation }
    - { id: check, type: review }
  transitions:
    - { from: mark, to: check }
    - { from: check, to: _complete, condition: { type: on_agreement } }
";
const PARENT: &str = "
workflow:
  id: outer
  steps: [{ id: run, type: sub_workflow, workflow: inner }]
";

async fn created(server: &Server, yaml: &str) {
    let created = server.post("/api/v1/workflows", yaml.to_owned(), &[]).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
}

async fn started(server: &Server, workflow: &str) -> Uuid {
    let task = Uuid::new_v5(&Uuid::NAMESPACE_OID, workflow.as_bytes());
    let answer = server
        .verb(task, "start", &json!({"workflow": workflow}))
        .await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.json);
    task
}

/// The first step that waits, and its reason.
async fn waits(server: &Server, task: Uuid) -> (Value, String) {
    let explained = server.get(&format!("/api/v1/tasks/{task}/explain")).await;
    let waiting = explained.json["waiting"][0].clone();
    let reason = waiting["reason"].as_str().unwrap().to_owned();
    let summary = explained.json["summary"].as_str().unwrap();
    assert!(summary.contains(&reason), "{summary}");
    (waiting, reason)
}

/// Carries the due commands between parent and child, once.
async fn carry(store: &Arc<MemoryStore>) {
    let engine = WorkflowOrchestrator::new(Arc::clone(store) as _, Arc::clone(store) as _);
    let lane = TimerLane::Decisions;
    for row in store
        .claim_timers(lane, Duration::from_secs(1), 10)
        .await
        .unwrap()
    {
        let Some(Effect::Command(command)) = engine.effect_of(&row).await.unwrap() else {
            panic!("only commands to other tasks are due: {row:?}");
        };
        let report = engine.process_batch(vec![*command], None).await.unwrap();
        let outcome = match &report.outcomes[0] {
            Outcome::Applied(_) => EffectOutcome::Done {
                output: json!(null),
            },
            other => EffectOutcome::Failed {
                error: format!("{other:?}"),
                is_final: false,
                retry_after: None,
            },
        };
        let fired = Command::FireTimer(FireTimer {
            row: row.clone(),
            outcome: Some(outcome),
        });
        let fired = CommandEnvelope::new(timer_command_id(&row).0, fired);
        engine.process_batch(vec![fired], None).await.unwrap();
    }
}

#[tokio::test]
async fn a_parent_says_what_its_child_waits_for() {
    let (server, store) = Server::with_store(Tokens::default());
    created(&server, CHILD).await;
    created(&server, PARENT).await;
    let task = started(&server, "outer").await;
    let child = Uuid::new_v5(&task, b"run/1");
    let operator = async |verb: &str| {
        let path = format!("/api/v1/workflows/inner/{verb}");
        let body = json!({"reason": "guidelines"}).to_string();
        assert_eq!(server.post(&path, body, &[]).await.status, StatusCode::OK);
    };

    let (waiting, _) = waits(&server, task).await;
    assert_eq!(waiting["child"]["status"], Value::Null);
    operator("pause").await;
    let (waiting, reason) = waits(&server, task).await;
    assert_eq!(waiting["child"]["workflow_pause"]["reason"], "guidelines");
    assert!(
        reason.contains("workflow is paused (guidelines)"),
        "{reason}"
    );
    operator("resume").await;
    carry(&store).await;

    let (waiting, reason) = waits(&server, task).await;
    assert_eq!(waiting["child"]["status"], "running");
    assert!(
        reason.contains("it waits in `mark`: 0 of 1 submissions"),
        "{reason}"
    );
    for (verb, word) in [
        ("pause", "paused"),
        ("resume", ""),
        ("archive", "archived"),
        ("restore", ""),
    ] {
        operator(verb).await;
        let (waiting, reason) = waits(&server, task).await;
        let held = waiting["child"].get("workflow_pause").is_some();
        assert_eq!(held, !word.is_empty(), "{verb}");
        assert!(
            reason.contains(&format!("workflow is {word}")) == held,
            "{reason}"
        );
    }

    // The child has an incident of its own.
    server.verb(child, "submit", &work(1, "a", &[])).await;
    let reject =
        json!({"annotation": {"user_id": Uuid::from_u128(2), "data": {}, "decision": "reject"}});
    server.verb(child, "submit", &reject).await;
    let (waiting, reason) = waits(&server, task).await;
    assert_eq!(waiting["child"]["incidents"], 1);
    assert!(
        reason.contains("held by an incident, no_transition"),
        "{reason}"
    );
    assert!(reason.contains("`migrate` the task"), "{reason}");
}

#[tokio::test]
async fn a_job_says_whether_a_queue_has_taken_it() {
    let (server, store) = Server::with_messages();
    created(
        &server,
        "workflow: { id: queued, steps: [{ id: call, type: auto_process, handler: queue }] }",
    )
    .await;
    let task = started(&server, "queued").await;
    let (waiting, reason) = waits(&server, task).await;
    assert_eq!(waiting["job"]["taken"], false, "{waiting}");
    assert!(reason.contains("waits in the outbox"), "{reason}");

    let relay = PublisherId(Uuid::from_u128(1));
    let rows = store
        .claim(relay, Duration::from_mins(1), 100)
        .await
        .unwrap();
    let id = TaskId(task);
    let row = rows.iter().find(|row| row.task_id == Some(id)).unwrap();
    let stream = store.events(id, 0, 100).await.unwrap().events;
    let job = stream
        .iter()
        .find(|event| matches!(event.event, WorkflowEvent::HandlerRequested(_)))
        .unwrap();
    assert_eq!(waiting["job"]["message_id"], job.event_id.to_string());
    // What comes before the job is confirmed; the job itself is refused.
    let refused = ReleasedRow {
        position: row.position,
        from_version: Some(job.version),
    };
    let failed = Some(("no queue is bound".to_owned(), Duration::ZERO));
    store.release(&[refused], failed).await.unwrap();
    let (waiting, reason) = waits(&server, task).await;
    assert_eq!(waiting["job"]["attempts"], 1);
    assert!(reason.contains("no queue has taken its job"), "{reason}");

    store.confirmed(&[row.position]).await.unwrap();
    let (waiting, reason) = waits(&server, task).await;
    assert_eq!(waiting["job"]["taken"], true);
    assert!(reason.contains("a queue has taken its job"), "{reason}");
}

#[tokio::test]
async fn a_role_or_skill_that_nobody_has_shown_is_named() {
    const YAML: &str = "
workflow:
  id: experts
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      assignment: { required_roles: [expert], required_skills: [icd] }
";
    let server = Server::new(Tokens::default());
    created(&server, YAML).await;
    let task = started(&server, "experts").await;
    let (waiting, reason) = waits(&server, task).await;
    assert_eq!(waiting["nobody_has"], json!(["expert", "icd"]));
    assert!(
        reason.contains(
            "no annotator with role `expert` and skill `icd` has submitted or claimed in this \
             workflow yet"
        ),
        "{reason}"
    );
    let done = server
        .verb(task, "submit", &work(1, "a", &["expert"]))
        .await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.json);
    let (waiting, reason) = waits(&server, task).await;
    assert!(waiting.get("nobody_has").is_none(), "{waiting}");
    assert!(reason.contains("1 of 2 submissions"), "{reason}");
}

#[tokio::test]
async fn an_incident_says_what_helps() {
    const LOOPED: &str = "
workflow:
  id: looped
  steps:
    - { id: annotate, type: annotation }
    - { id: review, type: review }
  transitions:
    - { from: annotate, to: review }
    - { from: review, to: _complete, condition: { type: on_agreement } }
    - { from: review, to: annotate, condition: { type: on_disagreement }, loop: { max_iterations: 1 } }
";
    const ASKS: &str = "
workflow:
  id: asks
  steps:
    - { id: annotate, type: annotation }
    - { id: ask, type: conditional, condition: { expression: 'annotation.n > 1' } }
  transitions:
    - { from: annotate, to: ask }
    - { from: ask, to: _complete }
";
    let server = Server::new(Tokens::default());
    created(&server, LOOPED).await;
    created(&server, ASKS).await;
    let task = started(&server, "looped").await;
    for _ in 0..2 {
        server.verb(task, "submit", &work(1, "a", &[])).await;
        let reject = json!({"annotation": {"user_id": Uuid::from_u128(2), "data": {}, "decision": "reject"}});
        server.verb(task, "submit", &reject).await;
    }
    let (_, reason) = waits(&server, task).await;
    assert!(reason.contains("`retry` meets the same bound"), "{reason}");

    let task = started(&server, "asks").await;
    server.verb(task, "submit", &work(1, "a", &[])).await;
    let (_, reason) = waits(&server, task).await;
    assert!(reason.contains("an `advance` with `output`"), "{reason}");
    let advanced = server.verb(task, "advance", &json!({"output": true})).await;
    assert_eq!(advanced.json["status"], "completed", "{}", advanced.json);
}
