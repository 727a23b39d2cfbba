//! Tasks, commands and messages to store.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    config::WorkflowConfig,
    events::{
        EVENT_SCHEMA_VERSION, EventMetadata, StateRebuilder, StoredEvent, WorkflowEvent, upcast,
    },
    ids::{CommandId, LogId, Slug, TaskId, UserId},
    state::{AnnotationData, Slots, WorkflowSnapshot},
    store::{
        CommandRecord, EventStore, NewMessage, OpenBatch, OpenRequest, OpenedTask, OutboxMessage,
        PublisherId, RecordedOutcome, SnapshotRow, Store, TaskRow, TaskWrite, WorkflowConfigStore,
    },
};
use serde_json::{Value, json};
use uuid::Uuid;

/// The same id for the same name.
pub(super) fn id(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

pub(super) fn task(name: &str) -> TaskId {
    TaskId(id(name))
}

/// Tasks whose ids ascend with their numbers.
pub(super) fn numbered(n: u32) -> TaskId {
    TaskId(Uuid::from_u128(0x7000_8000_0000_0000_0000 | u128::from(n)))
}

pub(super) fn command(name: &str) -> CommandId {
    CommandId(id(&format!("command {name}")))
}

pub(super) fn publisher(name: &str) -> PublisherId {
    PublisherId(id(&format!("publisher {name}")))
}

pub(super) fn slug(text: &str) -> Slug {
    Slug::new(text).unwrap()
}

pub(super) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 123_456_000).unwrap()
}

/// A task that starts in the step `annotate` of `workflow`.
pub(super) fn started(workflow: &str, labels: &[(&str, &str)]) -> Vec<WorkflowEvent> {
    let labels: BTreeMap<_, _> = labels.iter().copied().collect();
    // As stored: fields added later have defaults.
    let event = |event_type: &str, data: Value| -> WorkflowEvent {
        upcast(event_type, EVENT_SCHEMA_VERSION, &data.to_string()).unwrap()
    };
    vec![
        event(
            "workflow_started",
            json!({
                "workflow_id": id(workflow),
                "workflow": workflow,
                "revision": 1,
                "content_hash": "0".repeat(64),
                "input": {"text": "Grüße 👋", "number": 1.0, "large": 1e17, "small": 1e-9},
                "labels": labels,
            }),
        ),
        event("step_activated", json!({"step_id": "annotate", "visit": 1})),
    ]
}

pub(super) fn annotated(data: Value) -> WorkflowEvent {
    WorkflowEvent::AnnotationSubmitted {
        step_id: slug("annotate"),
        visit: 1,
        annotation: AnnotationData::new(id("annotation"), UserId(id("ann")), data).into(),
        closes_at: None,
    }
}

/// The state of a stream as it was opened.
pub(super) fn fold(opened: OpenedTask) -> Option<WorkflowSnapshot> {
    let mut rebuilder = opened
        .snapshot
        .map_or_else(StateRebuilder::new, StateRebuilder::from_snapshot);
    for event in &opened.tail {
        rebuilder.apply(event).unwrap();
    }
    let state = rebuilder.finish();
    assert_eq!(
        state.as_ref().map_or(0, |state| state.version),
        opened.version
    );
    state
}

/// A write that advances `state` by `events`.
pub(super) fn write_on(
    state: Option<WorkflowSnapshot>,
    task: TaskId,
    now: DateTime<Utc>,
    events: Vec<WorkflowEvent>,
) -> (TaskWrite, Option<WorkflowSnapshot>) {
    let expected_version = state.as_ref().map_or(0, |state| state.version);
    let before = state.as_ref().map(Slots::from).unwrap_or_default();
    let mut rebuilder = state.map_or_else(StateRebuilder::new, StateRebuilder::from_snapshot);
    let stored: Vec<_> = events
        .into_iter()
        .zip(expected_version + 1..)
        .map(|(event, version)| StoredEvent {
            event_id: LogId::default().event_id(task, version),
            task_id: task,
            version,
            occurred_at: now,
            metadata: EventMetadata {
                command_id: command("cause"),
                correlation_id: "order-66".to_owned(),
                traceparent: Some(
                    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
                ),
                actor: Some("cli:ann".to_owned()),
                schema_version: EVENT_SCHEMA_VERSION,
                gold: false,
            },
            event,
        })
        .collect();
    for event in &stored {
        rebuilder.apply(event).unwrap();
    }
    let state = rebuilder.finish();
    let after = state.as_ref().map(Slots::from).unwrap_or_default();
    let slots = after.since(&before);
    let row = if stored.is_empty() {
        None
    } else {
        state.as_ref().map(TaskRow::from)
    };
    let write = TaskWrite {
        task_id: task,
        expected_version,
        events: stored,
        task: row,
        commands: Vec::new(),
        outbox: Vec::new(),
        timers_set: Vec::new(),
        timers_unset: Vec::new(),
        slots,
        drafts: Vec::new(),
        snapshot: None,
    };
    (write, state)
}

/// Opens one stream, of which the caller has no cached state.
pub(super) async fn open(
    store: &dyn Store,
    tasks: &[TaskId],
    publisher: Option<PublisherId>,
) -> OpenBatch {
    let tasks: HashMap<_, _> = tasks.iter().map(|task| (*task, 0)).collect();
    store
        .open(OpenRequest {
            tasks,
            publisher,
            ..OpenRequest::default()
        })
        .await
        .unwrap()
}

/// A batch in which a task may start on a workflow whose tasks are counted.
pub(super) fn counting(workflow: &str, most: u32, name: &str) -> OpenRequest {
    OpenRequest {
        tasks: HashMap::from([(task(name), 0)]),
        counted: BTreeMap::from([(workflow.parse().unwrap(), most)]),
        ..OpenRequest::default()
    }
}

/// Appends to a stream in its own batch, with a message for each event.
pub(super) async fn append(
    store: &dyn Store,
    task: TaskId,
    publisher: Option<PublisherId>,
    events: Vec<WorkflowEvent>,
) -> Vec<OutboxMessage> {
    append_with(store, task, publisher, events, |_, _| {}).await
}

/// The same, with more to write.
pub(super) async fn append_with(
    store: &dyn Store,
    task: TaskId,
    publisher: Option<PublisherId>,
    events: Vec<WorkflowEvent>,
    more: impl FnOnce(&mut TaskWrite, Option<&WorkflowSnapshot>),
) -> Vec<OutboxMessage> {
    let mut batch = open(store, &[task], publisher).await;
    let state = fold(batch.take_task(task));
    let (mut write, state) = write_on(state, task, batch.now, events);
    write.outbox = write.events.iter().map(message_of).collect();
    more(&mut write, state.as_ref());
    batch.commit(vec![write]).await.unwrap()
}

pub(super) fn snapshot_of(state: &WorkflowSnapshot) -> SnapshotRow {
    SnapshotRow {
        task_id: state.task_id,
        version: state.version,
        state: state.clone(),
    }
}

pub(super) fn message_of(event: &StoredEvent) -> NewMessage {
    NewMessage {
        version: Some(event.version),
        ..message(event.event_id, Some(event.task_id))
    }
}

pub(super) fn message(message_id: Uuid, task_id: Option<TaskId>) -> NewMessage {
    NewMessage {
        message_id,
        task_id,
        version: None,
        routing_key: "step.completed.flow.annotate".to_owned(),
        message_type: "step.completed",
        body: format!("{{\"id\":\"{message_id}\"}}").into(),
    }
}

pub(super) fn applied(name: &str, task: Option<TaskId>) -> CommandRecord {
    CommandRecord {
        command_id: command(name),
        task_id: task,
        command_type: "submission",
        content_hash: [7; 32],
        outcome: RecordedOutcome::Applied {
            result: json!({"status": "waiting", "n": 1.5}),
        },
        payload: None,
        decided_at: at(1),
    }
}

pub(super) fn rejected(name: &str, task: Option<TaskId>, when: DateTime<Utc>) -> CommandRecord {
    CommandRecord {
        outcome: RecordedOutcome::Rejected {
            reason: "surplus".to_owned(),
            detail: "the visit was closed by its count".to_owned(),
        },
        payload: Some(json!({"type": "submission", "annotation": {"data": [1, "a", null]}})),
        decided_at: when,
        ..applied(name, task)
    }
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// A checked workflow with one step.
pub(super) fn workflow(name: &str, description: &str) -> WorkflowConfig {
    serde_json::from_value(json!({
        "id": name,
        "description": description,
        "entry_step": "annotate",
        "settings": {"context": {"threshold": 1.0, "large": 1e17}},
        "steps": [{"id": "annotate", "type": "annotation"}],
    }))
    .unwrap()
}

/// The states of tasks.
pub(super) async fn states(
    store: &dyn Store,
    tasks: &[TaskId],
) -> HashMap<TaskId, WorkflowSnapshot> {
    EventStore::load(store, tasks).await.unwrap()
}

/// A stored revision.
pub(super) async fn revision(store: &dyn Store, id: Uuid) -> Option<WorkflowConfig> {
    WorkflowConfigStore::load(store, id).await.unwrap()
}
