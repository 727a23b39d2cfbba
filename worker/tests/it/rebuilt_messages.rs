//! Messages that are built anew from their events are those that the lane would have sent.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use glyph_worker::{
    broker::Destination,
    failpoints::Failpoints,
    metrics::Metrics,
    operations::outbox::{OutboxList, drop_refused},
    pipeline::{Pipeline, PipelineHandle, PipelineParts, PipelineSettings},
    traces::Traces,
    wire::{CloudEventMessages, MessageType},
};
use glyph_workflow_engine::{
    MessageBuilder, WorkflowEvent, WorkflowOrchestrator,
    events::{EVENT_SCHEMA_VERSION, EventMetadata, StoredEvent, upcast},
    ids::{CommandId, LogId, RevisionId, Slug, TaskId},
    messages_of,
    state::{ParentTask, SlotsChange, TaskStatus, WorkflowRef},
    store::{
        EventRange, MemoryStore, NewMessage, OpenRequest, Outbox, PublisherId, ReleasedRow,
        SqliteEventStore, Store, TaskRow, TaskWrite,
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{
    DEADLINE,
    broker::FakeBroker,
    engine::{DUAL, envelope, submission, task},
    eventually,
    services::Services,
};

const LEASE: Duration = Duration::from_mins(1);

/// Kinds of message that are about no event of a task.
const WITHOUT_EVENT: [&str; 5] = [
    "command.rejected",
    "goal.",
    "agreement.",
    "annotator.",
    "answer.",
];

/// Numbers that a database could write in another way, and text of every plane.
fn odd() -> Value {
    json!({"z": 1.0, "a": 1e17, "large": u64::MAX, "small": 1e-9, "third": 1.0 / 3.0,
           "text": "Grüße 👋 \"quoted\" \\ \u{2028}", "list": [null, true, -3, {"b": 1, "a": 2}]})
}

fn parent() -> Value {
    json!({"task_id": Uuid::from_u128(70), "step_id": "outer", "visit": 2,
           "root_task_id": Uuid::from_u128(71), "correlation_id": "order-7", "depth": 1,
           "depth_max": 3})
}

/// Every kind of event that has a message, events that tell what messages name, and some of the
/// others between them.
fn kinds() -> Vec<(&'static str, Value)> {
    let user = Uuid::from_u128(5);
    let revision = |n: u32| {
        json!({"workflow_id": Uuid::from_u128(n.into()), "workflow": "w", "revision": n,
               "content_hash": "h"})
    };
    let with = |mut data: Value, more: Value| {
        let more = more.as_object().unwrap().clone();
        data.as_object_mut().unwrap().extend(more);
        data
    };
    let of_step = |more: Value| with(json!({"step_id": "annotate", "visit": 1}), more);
    let at = "2026-01-02T03:04:05.000001Z";
    vec![
        (
            "workflow_started",
            with(
                revision(1),
                json!({"input": odd(), "labels": {"k": "v"}, "expected": "secret",
                       "context": {"c": 1}, "by_submission": true}),
            ),
        ),
        ("step_activated", of_step(json!({"places": 2}))),
        (
            "task_details_supplied",
            json!({"input": odd(), "expected": 1, "parent": parent()}),
        ),
        (
            "step_opened",
            of_step(json!({"places": 2, "from_step": "before"})),
        ),
        (
            "task_assigned",
            of_step(json!({"n": 1, "user_id": user, "roles": ["r"], "expires_at": at})),
        ),
        (
            "activity_recorded",
            of_step(json!({"user_id": user, "expires_at": at, "draft": true})),
        ),
        (
            "task_stalled",
            of_step(json!({"user_id": user, "action": "requeue"})),
        ),
        (
            "task_released",
            of_step(json!({"user_id": user, "cause": "inactivity", "reason": "r"})),
        ),
        (
            "consensus_calculated",
            of_step(json!({
                "field": "label", "level": "nominal", "method": "adjudication",
                "metric": "percent_agreement", "pairs": 1, "resolved_by": null, "threshold": 1.0,
                "tied": true, "units": 1, "value": null, "agreed": false, "agreement": 1.0 / 3.0,
                "votes": [{"count": 1, "value": odd(), "weight": 0.1}],
            })),
        ),
        (
            "handler_requested",
            of_step(json!({
                "n": 1, "handler": "queue", "attempt": 1,
                "job": {"idempotency_key": Uuid::from_u128(8), "config": odd(), "input": odd()},
            })),
        ),
        (
            "incident_opened",
            of_step(json!({
                "incident_id": Uuid::from_u128(9), "code": "no_transition", "reason": "r",
            })),
        ),
        (
            "incident_resolved",
            of_step(json!({"incident_id": Uuid::from_u128(9), "resolution": "retry"})),
        ),
        ("workflow_paused", json!({"reason": "audit", "until": at})),
        (
            "workflow_migrated",
            with(revision(2), json!({"from_revision": 1})),
        ),
        ("workflow_resumed", json!({"step_id": "annotate"})),
        (
            "step_completed",
            of_step(json!({"result": {
                "kind": "consensus", "value": odd(), "agreement": 1.0,
                "resolved_by": "majority_vote", "annotations": [],
            }})),
        ),
        (
            "transition_occurred",
            json!({"from_step": "annotate", "from_visit": 1, "to_step": "_complete",
                   "condition_met": "on_agreement", "transition": 0}),
        ),
        ("step_failed", of_step(json!({"error": "e"}))),
        ("step_skipped", of_step(json!({"reason": "s"}))),
        ("step_withdrawn", of_step(json!({"reason": "w"}))),
        (
            "workflow_migrated",
            with(revision(3), json!({"from_revision": 2})),
        ),
        ("workflow_failed", json!({"error": "e"})),
        ("workflow_cancelled", json!({"reason": "c"})),
        ("workflow_completed", json!({"output": odd()})),
    ]
}

fn stream(task_id: TaskId) -> Vec<StoredEvent> {
    let stored = |(index, (event_type, data)): (usize, (&str, Value))| {
        let version = u64::try_from(index).unwrap() + 1;
        StoredEvent {
            event_id: LogId::default().event_id(task_id, version),
            task_id,
            version,
            occurred_at: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
            metadata: EventMetadata {
                command_id: CommandId(Uuid::from_u128(index as u128)),
                correlation_id: "order \"7\"".to_owned(),
                actor: Some("somebody".to_owned()),
                traceparent: (index % 2 == 0).then(|| "00-4bf9-00f0-01".to_owned()),
                schema_version: EVENT_SCHEMA_VERSION,
                gold: index % 3 == 0,
            },
            event: upcast(event_type, EVENT_SCHEMA_VERSION, &data.to_string()).unwrap(),
        }
    };
    kinds().into_iter().enumerate().map(stored).collect()
}

/// The messages as a lane builds them: each with the revision and the parent of that time.
fn built(events: &[StoredEvent]) -> Vec<NewMessage> {
    let builder = CloudEventMessages::default();
    let parent: ParentTask = serde_json::from_value(parent()).unwrap();
    let mut workflow = WorkflowRef {
        revision_id: RevisionId(Uuid::from_u128(1)),
        workflow: Slug::new("w").unwrap(),
        revision: 1,
    };
    let mut messages = Vec::new();
    for event in events {
        if let WorkflowEvent::WorkflowMigrated(migrated) = &event.event {
            workflow = migrated.workflow.clone();
        }
        let parent = (event.version >= 3).then_some(&parent);
        messages.extend(builder.for_event(&workflow, parent, event));
    }
    messages
}

async fn write(store: &dyn Store, task_id: TaskId) -> Vec<NewMessage> {
    let events = stream(task_id);
    let messages = built(&events);
    let request = OpenRequest {
        tasks: [(task_id, 0)].into(),
        ..OpenRequest::default()
    };
    let batch = store.open(request).await.unwrap();
    let row = TaskRow {
        task_id,
        workflow: Slug::new("w").unwrap(),
        revision: 3,
        revision_id: RevisionId(Uuid::from_u128(3)),
        version: events.len() as u64,
        status: TaskStatus::Completed,
        current_steps: Vec::new(),
        labels: [].into(),
        incidents: 0,
        started_at: batch.now,
        updated_at: batch.now,
    };
    let write = TaskWrite {
        task_id,
        expected_version: 0,
        events,
        task: Some(row),
        commands: Vec::new(),
        outbox: messages.clone(),
        timers_set: Vec::new(),
        timers_unset: Vec::new(),
        slots: SlotsChange::default(),
        drafts: Vec::new(),
        snapshot: None,
    };
    batch.commit(vec![write]).await.unwrap();
    messages
}

/// From whichever version on: a row begins where the last publisher came to.
async fn every_message_is_built_again(store: &dyn Store) {
    let task_id = TaskId(task(1));
    let messages = write(store, task_id).await;
    let builder = CloudEventMessages::default();
    let rows = store.claim(PublisherId(Uuid::nil()), LEASE, 10);
    let row = rows.await.unwrap().pop().unwrap();
    let whole = row.content.events().unwrap();
    assert_eq!(whole.task_id, task_id);
    for from in whole.from..=whole.to {
        let range = EventRange { from, ..whole };
        let read = store.events_of(&[range]).await.unwrap().remove(0).unwrap();
        let again = messages_of(&builder, range, &read).unwrap();
        let is_left = |message: &&NewMessage| message.version >= Some(from);
        let left: Vec<_> = messages.iter().filter(is_left).cloned().collect();
        assert_eq!(again, left, "from {from}");
    }
    let kinds: BTreeSet<_> = messages.iter().map(|m| m.message_type).collect();
    let expected = MessageType::ALL.iter().map(|kind| kind.as_str());
    let about_events = expected.filter(|kind| {
        !WITHOUT_EVENT
            .iter()
            .any(|without| kind.starts_with(without))
    });
    assert_eq!(kinds, about_events.collect());
}

#[tokio::test]
async fn messages_are_built_again_from_memory_and_a_file() {
    every_message_is_built_again(&MemoryStore::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(&folder).await;
    every_message_is_built_again(&store).await;
}

#[tokio::test]
async fn messages_are_built_again_from_postgres() {
    let services = Services::new().await;
    every_message_is_built_again(&services.store).await;
    services.remove().await;
}

async fn sqlite(folder: &tempfile::TempDir) -> SqliteEventStore {
    let file = folder.path().join("glyph.db");
    let store = SqliteEventStore::open(file, Arc::new(chrono::Utc::now)).await;
    let store = store.unwrap();
    store.migrate().await.unwrap();
    store
}

fn pipeline(
    store: &SqliteEventStore,
    orchestrator: &Arc<WorkflowOrchestrator>,
    broker: &Arc<FakeBroker>,
) -> PipelineHandle {
    Pipeline::start(PipelineParts {
        orchestrator: Arc::clone(orchestrator) as _,
        store: Arc::new(store.clone()),
        source: None,
        publisher: Some(Arc::clone(broker) as _),
        settings: PipelineSettings::default(),
        metrics: Arc::new(Metrics::new().unwrap()),
        failpoints: Failpoints::default(),
        traces: Traces::default(),
    })
}

/// A store with a workflow, and who decides on it and sends messages.
async fn with_messages(
    folder: &tempfile::TempDir,
) -> (SqliteEventStore, Arc<WorkflowOrchestrator>) {
    let store = sqlite(folder).await;
    let shared = Arc::new(store.clone());
    let orchestrator = WorkflowOrchestrator::new(shared.clone(), shared)
        .with_messages(Arc::new(CloudEventMessages::default()));
    orchestrator.create_workflow(DUAL).await.unwrap();
    (store, Arc::new(orchestrator))
}

/// The damage is in one event of one task. Its messages wait, and are sent once it is mended.
/// Gives up what cannot be read: nothing of it is sent, and what comes later is.
#[tokio::test]
async fn what_cannot_be_read_is_given_up_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let (store, orchestrator) = with_messages(&folder).await;
    let submit = async |user: u128| {
        let command = envelope(&submission(task(1), "annotate", user, "yes"));
        let done = orchestrator.process_batch(vec![command], None).await;
        done.unwrap();
    };
    submit(1).await;
    let url = format!("sqlite://{}", folder.path().join("glyph.db").display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    for sql in [
        "DROP TRIGGER stored_events_are_never_changed",
        "UPDATE stored_events SET event_data = '{}' WHERE event_type = 'step_activated'",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    let broker = FakeBroker::new();
    let pipeline = pipeline(&store, &orchestrator, &broker);
    let held = eventually("the damaged row is listed", || async {
        let list = OutboxList::read(&store, 10).await.unwrap();
        list.refused.into_iter().next()
    })
    .await;
    assert_eq!(held.routing_key, None);
    assert_eq!(held.from_version, Some(1));
    let dropped = eventually("it is not being sent at this moment", || async {
        drop_refused(&store, held.message_id).await.ok()
    })
    .await;
    assert!(
        dropped.consequence.contains("versions 1 to"),
        "{}",
        dropped.consequence
    );
    assert_eq!(store.outbox_stats().await.unwrap().pending, 0);
    assert!(broker.events().is_empty());
    assert!(pipeline.drain(Instant::now() + DEADLINE).await);
}

#[tokio::test]
async fn an_event_that_cannot_be_read_holds_its_own_task_only() {
    let folder = tempfile::tempdir().unwrap();
    let (store, orchestrator) = with_messages(&folder).await;
    // Nobody publishes what this process commits.
    for n in 1..=2 {
        for user in 1..=2 {
            let command = envelope(&submission(task(n), "annotate", user, "yes"));
            orchestrator
                .process_batch(vec![command], None)
                .await
                .unwrap();
        }
    }
    let file = folder.path().join("glyph.db");
    let url = format!("sqlite://{}", file.display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    let run = async |sql: String| {
        let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await;
        done.unwrap().rows_affected()
    };
    run("DROP TRIGGER stored_events_are_never_changed".to_owned()).await;
    let spoil = |from: &str, to: &str| {
        format!(
            "UPDATE stored_events SET event_type = '{to}'
             WHERE event_type = '{from}' AND stream_id = '{}'",
            task(1)
        )
    };
    assert_eq!(run(spoil("workflow_completed", "workflow_spoilt")).await, 1);

    let broker = FakeBroker::new();
    let pipeline = pipeline(&store, &orchestrator, &broker);
    let of_task = |n: u128| {
        let events = broker.events();
        let subject = task(n).to_string();
        let of_task = events
            .into_iter()
            .filter(|event| event["subject"] == subject.as_str());
        of_task.collect::<Vec<_>>()
    };
    let ends = |events: &[Value]| {
        let last = events.last().map(|event| event["type"].clone());
        last == Some(json!("dev.glyph.workflow.completed.v1"))
    };
    let failed = eventually("the damaged row is listed", || async {
        let failed = store.outbox_failed(10).await.unwrap().pop();
        failed.filter(|_| ends(&of_task(2)))
    })
    .await;
    assert_eq!(failed.row.task_id, Some(TaskId(task(1))));
    assert!(failed.error.contains("cannot be read"), "{}", failed.error);
    // The first row of the task was whole.
    assert!(!of_task(1).is_empty() && !ends(&of_task(1)));
    eventually("only the damaged row waits", || async {
        (store.outbox_stats().await.unwrap().pending == 1).then_some(())
    })
    .await;

    run(spoil("workflow_spoilt", "workflow_completed")).await;
    eventually("the mended row is published", || async {
        (store.outbox_stats().await.unwrap().pending == 0).then_some(())
    })
    .await;
    let kinds = |n| {
        of_task(n)
            .iter()
            .map(|e| e["type"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(1), kinds(2));
    assert!(broker.sent(|to| *to != Destination::Events).is_empty());
    assert!(pipeline.drain(Instant::now() + DEADLINE).await);
}

/// What was confirmed before a message that failed is not sent again.
#[tokio::test]
async fn a_relay_goes_on_where_the_last_publisher_came_to() {
    let folder = tempfile::tempdir().unwrap();
    let (store, orchestrator) = with_messages(&folder).await;
    let command = envelope(&submission(task(1), "annotate", 1, "yes"));
    let dead = PublisherId(Uuid::from_u128(1));
    let report = orchestrator.process_batch(vec![command], Some(dead)).await;
    let messages = report.unwrap().messages;
    assert!(messages.len() > 1);
    let (sent, left) = (&messages[0], &messages[1..]);
    let released = ReleasedRow {
        position: sent.position,
        from_version: left[0].version,
    };
    let failed = Some(("returned".to_owned(), Duration::ZERO));
    store.release(&[released], failed).await.unwrap();

    let broker = FakeBroker::new();
    let pipeline = pipeline(&store, &orchestrator, &broker);
    eventually("an empty outbox", || async {
        (store.outbox_stats().await.unwrap().pending == 0).then_some(())
    })
    .await;
    let published = broker.sent(|to| *to == Destination::Events);
    let published: Vec<_> = published
        .iter()
        .map(|(message, _)| (message.message_id.clone(), message.body.to_vec()))
        .collect();
    let expected: Vec<_> = left
        .iter()
        .map(|message| {
            (
                message.message_id.to_string(),
                message.body.as_bytes().to_vec(),
            )
        })
        .collect();
    assert_eq!(published, expected);
    assert!(pipeline.drain(Instant::now() + DEADLINE).await);
}
