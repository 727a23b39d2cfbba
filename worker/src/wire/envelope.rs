//! The envelope of every message: CloudEvents 1.0 in structured JSON.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    events::StoredEvent,
    ids::{CommandId, RevisionId, Slug, StepId, TaskId},
    state::{ParentTask, WorkflowRef},
};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{links::Links, message_types::MessageType};

/// Bytes of a message's data; larger data is replaced by a reference to the history over HTTP.
pub const DATA_BYTES_MAX: usize = 1 << 20;

/// The content type of every message.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// A message without its data.
pub(super) struct Message<'a> {
    pub(super) kind: MessageType,
    pub(super) id: Uuid,
    pub(super) workflow: Option<&'a Slug>,
    pub(super) step: Option<&'a StepId>,
    pub(super) task: Option<TaskId>,
    pub(super) subject: &'a str,
    pub(super) time: DateTime<Utc>,
    pub(super) version: Option<u64>,
    pub(super) correlation_id: &'a str,
    pub(super) causation_id: Option<CommandId>,
    pub(super) traceparent: Option<&'a str>,
}

impl Message<'_> {
    /// The length limit of slugs keeps it below the 255 bytes that AMQP allows.
    pub(super) fn routing_key(&self) -> String {
        let mut key = self.kind.as_str().to_owned();
        for part in [self.workflow, self.step].into_iter().flatten() {
            key.push('.');
            key.push_str(part);
        }
        key
    }

    pub(super) fn body<D: Serialize>(&self, data: &D, links: &Links) -> String {
        let whole = to_json(&self.envelope(Some(data), None, links));
        // The exact size is computed only if the data could be too large.
        if whole.len() <= DATA_BYTES_MAX || to_json(data).len() <= DATA_BYTES_MAX {
            return whole;
        }
        to_json(&self.envelope::<D>(None, self.data_ref(links), links))
    }

    /// Where the same content is in the HTTP API.
    fn data_ref(&self, links: &Links) -> Option<String> {
        let task = self.task?;
        let after = self.version?.saturating_sub(1);
        let path = format!("/api/v1/tasks/{task}/events?after={after}&limit=1");
        Some(links.to(&path))
    }

    fn envelope<'a, D>(
        &'a self,
        data: Option<&'a D>,
        dataref: Option<String>,
        links: &Links,
    ) -> Envelope<'a, D> {
        Envelope {
            specversion: "1.0",
            id: self.id,
            source: match self.workflow {
                Some(workflow) => format!("/glyph/workflows/{workflow}"),
                None => "/glyph/commands".to_owned(),
            },
            event_type: self.kind.event_type(),
            subject: self.subject,
            time: self.time,
            datacontenttype: "application/json",
            dataschema: links.schema_name(self.kind.schema_path()),
            sequence: self.version.map(|version| format!("{version:020}")),
            partitionkey: self.subject,
            correlationid: self.correlation_id,
            causationid: self.causation_id,
            traceparent: self.traceparent,
            dataref,
            data,
        }
    }
}

/// Plain data with string keys always serializes. If it ever failed, every schema would reject the
/// empty body, which is better than a panic inside a transaction.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A CloudEvents 1.0 message in structured JSON.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Message")]
pub struct Envelope<'a, D> {
    /// Always `1.0`.
    specversion: &'a str,
    /// The event's id; the same in every delivery of the message.
    id: Uuid,
    /// The workflow, as a path.
    source: String,
    /// The kind of message and its version.
    #[serde(rename = "type")]
    event_type: &'a str,
    /// What the message is about: the task, goal, workflow, annotator, or the step whose agreement
    /// it reports.
    subject: &'a str,
    /// When the event was decided.
    time: DateTime<Utc>,
    /// Always `application/json`.
    datacontenttype: &'a str,
    /// The schema of `data`: its address below the public URL of the API, or else its name.
    dataschema: String,
    /// The version of the task after this event, 20 digits; grows within a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<String>,
    /// The key of messages that belong together and are published in order.
    partitionkey: &'a str,
    /// The correlation id: given by the producer, or else the command's id.
    correlationid: &'a str,
    /// The command that caused the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<CommandId>,
    /// W3C trace context of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    /// Where `data` is in the HTTP API, if it is too large for a message: below its public URL, or
    /// else the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    dataref: Option<String>,
    /// The data of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a D>,
}

/// The common fields in the data of every message about a task.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct TaskFields<'a> {
    /// The task.
    task_id: TaskId,
    /// The UUID of the workflow's revision.
    workflow_id: RevisionId,
    /// The workflow.
    workflow: &'a Slug,
    /// The number of the workflow's revision.
    revision: u32,
    /// The version of the task after this event.
    version: u64,
    /// The parent task, if this task runs a sub-workflow; otherwise absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_task_id: Option<TaskId>,
    /// The top-level ancestor, if this task runs a sub-workflow; otherwise absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    root_task_id: Option<TaskId>,
}

impl<'a> TaskFields<'a> {
    pub(super) fn new(
        workflow: &'a WorkflowRef,
        parent: Option<&ParentTask>,
        event: &StoredEvent,
    ) -> Self {
        Self {
            task_id: event.task_id,
            workflow_id: workflow.revision_id,
            workflow: &workflow.workflow,
            revision: workflow.revision,
            version: event.version,
            parent_task_id: parent.map(|parent| parent.task_id),
            root_task_id: parent.map(|parent| parent.root_task_id),
        }
    }
}
