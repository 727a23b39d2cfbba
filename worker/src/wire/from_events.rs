//! Builds the messages of task events, of rejections and of operator commands.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    MessageBuilder,
    command::{CommandEnvelope, OperatorCommand, OperatorEnvelope, Rejection},
    config::AskedOn,
    events::{StoredEvent, WorkflowEvent},
    ids::{CommandId, Slug, WorkflowSelector},
    state::{ParentTask, WorkflowRef},
    store::NewMessage,
};
use uuid::Uuid;

use super::{
    data::{
        CommandRejected, ConsensusCalculated, InTask, IncidentOpened, IncidentResolved,
        JobRequested, StepActivated, StepCompleted, StepEnded, StepFailed, TaskAssigned,
        TaskReleased, TaskStalled, TransitionOccurred, WholeWorkflow, WorkflowCancelled,
        WorkflowCompleted, WorkflowFailed, WorkflowMigrated, WorkflowPaused, WorkflowReleased,
        WorkflowStarted,
    },
    envelope::{Message, TaskFields},
    message_types::MessageType,
    messages::CloudEventMessages,
};

impl MessageBuilder for CloudEventMessages {
    fn for_event(
        &self,
        workflow: &WorkflowRef,
        parent: Option<&ParentTask>,
        event: &StoredEvent,
    ) -> Option<NewMessage> {
        let task_id = event.task_id.to_string();
        let message = |kind| Message {
            kind,
            id: event.event_id,
            workflow: Some(&workflow.workflow),
            step: event.event.step_id(),
            task: Some(event.task_id),
            subject: &task_id,
            time: event.occurred_at,
            version: Some(event.version),
            correlation_id: &event.metadata.correlation_id,
            causation_id: Some(event.metadata.command_id),
            traceparent: event.metadata.traceparent.as_deref(),
        };
        let task = TaskFields::new(workflow, parent, event);
        // A macro, because `row` is generic over the data: each arm serializes its own type
        // directly.
        macro_rules! row {
            ($kind:ident, $data:expr) => {
                self.row(
                    &message(MessageType::$kind),
                    &InTask {
                        task,
                        detail: $data,
                    },
                )
            };
        }
        match &event.event {
            // Hooks run first: the step is announced once it opens.
            WorkflowEvent::StepActivated(e) if e.opening => None,
            WorkflowEvent::StepActivated(e) => row!(StepActivated, StepActivated::from(e)),
            WorkflowEvent::StepOpened(e) => row!(StepActivated, StepActivated::from(e)),
            WorkflowEvent::StepCompleted {
                step_id,
                visit,
                result,
                ..
            } => {
                row!(
                    StepCompleted,
                    StepCompleted {
                        step_id,
                        visit: *visit,
                        result
                    }
                )
            }
            WorkflowEvent::StepFailed {
                step_id,
                visit,
                error,
            } => {
                row!(
                    StepFailed,
                    StepFailed {
                        step_id,
                        visit: *visit,
                        error
                    }
                )
            }
            WorkflowEvent::StepSkipped {
                step_id,
                visit,
                reason,
            } => {
                row!(
                    StepSkipped,
                    StepEnded {
                        step_id,
                        visit: *visit,
                        reason
                    }
                )
            }
            WorkflowEvent::StepWithdrawn {
                step_id,
                visit,
                reason,
            } => {
                row!(
                    StepWithdrawn,
                    StepEnded {
                        step_id,
                        visit: *visit,
                        reason
                    }
                )
            }
            WorkflowEvent::TransitionOccurred(e) => {
                row!(TransitionOccurred, TransitionOccurred::from(e))
            }
            // An answer that is being audited is not published before the audit is done.
            WorkflowEvent::ConsensusCalculated(e) if e.asked_on == Some(AskedOn::Audit) => None,
            WorkflowEvent::ConsensusCalculated(e) => {
                row!(ConsensusCalculated, ConsensusCalculated::from(e))
            }
            WorkflowEvent::WorkflowStarted(e) => row!(WorkflowStarted, WorkflowStarted::from(e)),
            WorkflowEvent::WorkflowCompleted { output } => {
                row!(
                    WorkflowCompleted,
                    WorkflowCompleted {
                        output,
                        gold: event.metadata.gold
                    }
                )
            }
            WorkflowEvent::WorkflowFailed { error } => {
                row!(WorkflowFailed, WorkflowFailed { error })
            }
            WorkflowEvent::WorkflowPaused {
                step_id,
                reason,
                until,
                ..
            } => {
                row!(
                    WorkflowPaused,
                    WorkflowPaused {
                        step_id: step_id.as_ref(),
                        reason: reason.as_deref(),
                        until: *until
                    }
                )
            }
            WorkflowEvent::WorkflowResumed { step_id, reason } => {
                row!(
                    WorkflowResumed,
                    WorkflowReleased {
                        step_id: step_id.as_ref(),
                        reason: reason.as_deref()
                    }
                )
            }
            WorkflowEvent::WorkflowCancelled { reason } => {
                row!(
                    WorkflowCancelled,
                    WorkflowCancelled {
                        reason: reason.as_deref()
                    }
                )
            }
            WorkflowEvent::WorkflowMigrated(e) => row!(
                WorkflowMigrated,
                WorkflowMigrated {
                    from_revision: e.from_revision,
                    steps: &e.steps
                }
            ),
            WorkflowEvent::TaskAssigned {
                step_id,
                visit,
                n: _,
                user_id,
                roles,
                expires_at,
                offered: _,
            } => row!(
                TaskAssigned,
                TaskAssigned {
                    step_id,
                    visit: *visit,
                    user_id: *user_id,
                    roles,
                    expires_at: *expires_at
                }
            ),
            WorkflowEvent::TaskReleased {
                step_id,
                visit,
                user_id,
                cause,
                reason,
            } => row!(
                TaskReleased,
                TaskReleased {
                    step_id,
                    visit: *visit,
                    user_id: *user_id,
                    cause: *cause,
                    reason: reason.as_deref()
                }
            ),
            WorkflowEvent::TaskStalled {
                step_id,
                visit,
                user_id,
                action,
            } => row!(
                TaskStalled,
                TaskStalled {
                    step_id,
                    visit: *visit,
                    user_id: *user_id,
                    action: *action
                }
            ),
            WorkflowEvent::IncidentOpened {
                incident_id,
                step_id,
                visit,
                code,
                reason,
                escalated,
            } => row!(
                IncidentOpened,
                IncidentOpened {
                    incident_id: *incident_id,
                    step_id,
                    visit: *visit,
                    code: *code,
                    reason,
                    escalated: *escalated
                }
            ),
            WorkflowEvent::HandlerRequested(e) => {
                JobRequested::of(e).and_then(|job| row!(JobRequested, job))
            }
            WorkflowEvent::IncidentResolved {
                incident_id,
                step_id,
                visit,
                resolution,
            } => row!(
                IncidentResolved,
                IncidentResolved {
                    incident_id: *incident_id,
                    step_id,
                    visit: *visit,
                    resolution
                }
            ),
            // Internal bookkeeping of the task that nobody outside acts on. Consumers see
            // submissions through the events that follow from them.
            WorkflowEvent::TaskDetailsSupplied { .. }
            | WorkflowEvent::ActivityRecorded { .. }
            | WorkflowEvent::GoldScored { .. }
            | WorkflowEvent::TimersRearmed { .. }
            | WorkflowEvent::HandlerFailed { .. }
            | WorkflowEvent::HookEnded(_)
            | WorkflowEvent::ResultFound { .. }
            | WorkflowEvent::SlotsAdded { .. }
            | WorkflowEvent::ChildRequested(_)
            | WorkflowEvent::ChildNotified { .. }
            | WorkflowEvent::ChildStartFailed { .. }
            | WorkflowEvent::ChildEnded(_)
            | WorkflowEvent::ParentNotified {}
            | WorkflowEvent::AnnotationSubmitted { .. } => None,
        }
    }

    fn for_rejection(
        &self,
        workflow: Option<&WorkflowRef>,
        command: &CommandEnvelope,
        rejection: &Rejection,
        now: DateTime<Utc>,
    ) -> Option<NewMessage> {
        let task_id = command.command.task_id();
        let command_id = command.command_id.to_string();
        // A producer may name a step that no workflow could have; such a name stays out of the
        // routing key.
        let step = command
            .command
            .step_id()
            .and_then(|step| Slug::new(step).ok());
        // If the command would have started the task, the command names the workflow.
        let named = match command.command.workflow() {
            Some(WorkflowSelector::Latest(id) | WorkflowSelector::Numbered(id, _)) => Some(id),
            Some(WorkflowSelector::Revision(_)) | None => None,
        };
        let of_workflow = workflow.map(|w| &w.workflow).or(named);
        let message = Message {
            kind: MessageType::CommandRejected,
            id: rejection_id(command.command_id),
            workflow: of_workflow,
            step: step.as_ref().filter(|_| of_workflow.is_some()),
            task: Some(task_id),
            subject: &task_id.to_string(),
            time: now,
            version: None,
            correlation_id: command.correlation_id.as_deref().unwrap_or(&command_id),
            causation_id: Some(command.command_id),
            traceparent: command.traceparent.as_deref(),
        };
        let data = CommandRejected {
            task_id,
            workflow_id: workflow.map(|w| w.revision_id),
            workflow: of_workflow,
            revision: workflow.map(|w| w.revision),
            command_id: command.command_id,
            command_type: command.command.type_name(),
            step_id: command.command.step_id(),
            reason: rejection.code,
            detail: &rejection.detail,
        };
        self.row(&message, &data)
    }

    fn for_operator_command(
        &self,
        operator_command: &OperatorEnvelope,
        now: DateTime<Utc>,
    ) -> Option<NewMessage> {
        let workflow = operator_command.operator_command.workflow();
        let (kind, data) = match &operator_command.operator_command {
            // A completed goal is reported by the projection, once it finds the goal reached. An
            // automatic pause of an annotator is reported by the message that flags the annotator.
            OperatorCommand::GoalComplete { .. }
            | OperatorCommand::AnnotatorPause { .. }
            | OperatorCommand::AnnotatorResume { .. } => {
                return None;
            }
            OperatorCommand::WorkflowPause { reason, until, .. } => (
                MessageType::WorkflowPaused,
                WholeWorkflow::paused(workflow, reason.as_deref(), *until),
            ),
            OperatorCommand::WorkflowArchive { reason, .. } => (
                MessageType::WorkflowPaused,
                WholeWorkflow::archived(workflow, reason.as_deref()),
            ),
            OperatorCommand::WorkflowResume { reason, .. }
            | OperatorCommand::WorkflowRestore { reason, .. } => (
                MessageType::WorkflowResumed,
                WholeWorkflow::resumed(workflow, reason.as_deref()),
            ),
        };
        let command_id = operator_command.command_id.to_string();
        let message = Message {
            kind,
            id: Uuid::new_v5(&operator_command.command_id.0, kind.as_str().as_bytes()),
            workflow: Some(workflow),
            step: None,
            task: None,
            subject: workflow,
            time: now,
            version: None,
            correlation_id: operator_command
                .correlation_id
                .as_deref()
                .unwrap_or(&command_id),
            causation_id: Some(operator_command.command_id),
            traceparent: operator_command.traceparent.as_deref(),
        };
        self.row(&message, &data)
    }
}

/// The id of the message about a rejected command. It is derived, so that deciding the same command
/// twice cannot create a second message.
fn rejection_id(command: CommandId) -> Uuid {
    Uuid::new_v5(&command.0, b"command.rejected")
}

#[cfg(test)]
mod tests {
    use glyph_workflow_engine::{
        command::{Command, RejectionCode},
        events::EventMetadata,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::{Links, envelope::DATA_BYTES_MAX};

    const TASK: &str = "0190a6e0-0000-7000-8000-0000000000aa";

    fn workflow() -> WorkflowRef {
        serde_json::from_value(json!({
            "workflow_id": "0190a6e0-0000-7000-8000-0000000000ff",
            "workflow": "sentiment-dual", "revision": 2,
        }))
        .unwrap()
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers write the value in place"
    )]
    fn event(event_type: &str, event_data: Value) -> StoredEvent {
        let event = json!({"event_type": event_type, "event_data": event_data});
        StoredEvent {
            event_id: Uuid::from_u128(1),
            task_id: TASK.parse().unwrap(),
            version: 7,
            occurred_at: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
            metadata: EventMetadata {
                command_id: CommandId(Uuid::from_u128(2)),
                correlation_id: "order-7".to_owned(),
                actor: None,
                traceparent: Some(
                    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
                ),
                schema_version: 1,
                gold: false,
            },
            event: serde_json::from_value(event).unwrap(),
        }
    }

    fn completed(value: &Value) -> StoredEvent {
        event(
            "step_completed",
            json!({"step_id": "annotate", "visit": 1, "result": {
                "kind": "consensus", "value": value, "agreement": 1.0,
                "resolved_by": "majority_vote", "annotations": [],
            }}),
        )
    }

    fn body(row: &NewMessage) -> Value {
        serde_json::from_str(&row.body).unwrap()
    }

    #[test]
    fn a_completed_step_looks_as_promised() {
        let event = completed(&json!("positive"));
        let row = CloudEventMessages::default()
            .for_event(&workflow(), None, &event)
            .unwrap();
        assert_eq!(row.message_id, event.event_id);
        assert_eq!(row.task_id, Some(event.task_id));
        assert_eq!(row.message_type, "step.completed");
        assert_eq!(row.routing_key, "step.completed.sentiment-dual.annotate");
        let expected = json!({
            "specversion": "1.0",
            "id": "00000000-0000-0000-0000-000000000001",
            "source": "/glyph/workflows/sentiment-dual",
            "type": "dev.glyph.step.completed.v1",
            "subject": TASK,
            "time": "2026-01-02T03:04:05.678901Z",
            "datacontenttype": "application/json",
            "dataschema": "https://glyph.dev/schemas/messages/step_completed.v1.json",
            "sequence": "00000000000000000007",
            "partitionkey": TASK,
            "correlationid": "order-7",
            "causationid": "00000000-0000-0000-0000-000000000002",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "data": {
                "task_id": TASK,
                "workflow_id": "0190a6e0-0000-7000-8000-0000000000ff",
                "workflow": "sentiment-dual", "revision": 2, "version": 7,
                "step_id": "annotate", "visit": 1,
                "result": {
                    "kind": "consensus", "value": "positive", "agreement": 1.0,
                    "resolved_by": "majority_vote", "annotations": [],
                },
            },
        });
        assert_eq!(body(&row), expected);
    }

    #[test]
    fn a_transition_names_the_step_left() {
        let event = event(
            "transition_occurred",
            json!({"from_step": "annotate", "from_visit": 1, "to_step": "_complete",
                   "condition_met": "on_agreement", "transition": 0}),
        );
        let row = CloudEventMessages::default()
            .for_event(&workflow(), None, &event)
            .unwrap();
        assert_eq!(
            row.routing_key,
            "transition.occurred.sentiment-dual.annotate"
        );
        let data = &body(&row)["data"];
        assert_eq!(data["from_step"], "annotate");
        assert_eq!(data["to_step"], "_complete");
        assert_eq!(data["condition_met"], "on_agreement");
        assert_eq!(data["version"], 7);
    }

    #[test]
    fn a_started_task_does_not_tell_the_known_answer() {
        let started = json!({
            "workflow_id": "0190a6e0-0000-7000-8000-0000000000ff", "workflow": "sentiment-dual",
            "revision": 2, "content_hash": "x", "input": {"text": "t"}, "expected": "secret",
        });
        let event = event("workflow_started", started);
        let row = CloudEventMessages::default()
            .for_event(&workflow(), None, &event)
            .unwrap();
        assert_eq!(row.routing_key, "workflow.started.sentiment-dual");
        assert!(!row.body.contains("secret"));
    }

    #[test]
    fn bookkeeping_and_unwanted_kinds_make_no_message() {
        let resumed = event("workflow_resumed", json!({}));
        let supplied = event("task_details_supplied", json!({}));
        let only = CloudEventMessages::only(|name| name == "step.completed");
        assert!(only.for_event(&workflow(), None, &resumed).is_none());
        assert!(
            only.for_event(&workflow(), None, &completed(&json!(1)))
                .is_some()
        );
        assert!(
            CloudEventMessages::default()
                .for_event(&workflow(), None, &supplied)
                .is_none()
        );
    }

    #[test]
    fn data_over_a_mebibyte_becomes_a_reference() {
        let rest = {
            let row =
                CloudEventMessages::default().for_event(&workflow(), None, &completed(&json!("")));
            body(&row.unwrap())["data"].to_string().len()
        };
        let of_size = |bytes: usize| {
            let event = completed(&json!("x".repeat(bytes - rest)));
            body(
                &CloudEventMessages::default()
                    .for_event(&workflow(), None, &event)
                    .unwrap(),
            )
        };
        assert!(of_size(DATA_BYTES_MAX)["data"].is_object());
        let referenced = of_size(DATA_BYTES_MAX + 1);
        assert!(referenced.get("data").is_none());
        let path = format!("/api/v1/tasks/{TASK}/events?after=6&limit=1");
        assert_eq!(referenced["dataref"], path);
        let links: Links = "https://example.org".parse().unwrap();
        let linking = CloudEventMessages::default().with_links(links);
        let event = completed(&json!("x".repeat(DATA_BYTES_MAX)));
        let linked = body(&linking.for_event(&workflow(), None, &event).unwrap());
        assert_eq!(linked["dataref"], format!("https://example.org{path}"));
    }

    #[test]
    fn a_rejection_is_named_after_its_command_and_keeps_bad_steps_out_of_the_key() {
        let command = |step: &str| {
            let advance = json!({"task_id": TASK, "step_id": step});
            let advance = serde_json::from_value(advance).unwrap();
            CommandEnvelope::new(CommandId(Uuid::from_u128(9)), Command::Advance(advance))
        };
        let rejection = Rejection {
            code: RejectionCode::UnknownStep,
            detail: "no such step".to_owned(),
        };
        let messages = CloudEventMessages::default();
        let row = |workflow: Option<&WorkflowRef>, step: &str| {
            messages
                .for_rejection(workflow, &command(step), &rejection, Utc::now())
                .unwrap()
        };
        let workflow = workflow();
        let plain = row(Some(&workflow), "annotate");
        assert_eq!(
            plain.routing_key,
            "command.rejected.sentiment-dual.annotate"
        );
        assert_eq!(
            plain.message_id,
            row(Some(&workflow), "annotate").message_id
        );
        assert_eq!(
            row(Some(&workflow), "No Step!").routing_key,
            "command.rejected.sentiment-dual"
        );
        assert_eq!(row(None, "annotate").routing_key, "command.rejected");
        let body = body(&plain);
        assert!(body.get("sequence").is_none());
        assert_eq!(body["correlationid"], body["causationid"]);
        assert_eq!(body["data"]["reason"], "unknown_step");
        assert_eq!(body["data"]["type"], "advance");
    }

    #[test]
    fn a_paused_workflow_is_told_of_once_for_each_act() {
        let operator_command = OperatorEnvelope::new(
            CommandId(Uuid::from_u128(9)),
            OperatorCommand::WorkflowPause {
                workflow: Slug::new("w").unwrap(),
                reason: Some("audit".to_owned()),
                until: None,
            },
        );
        let messages = CloudEventMessages::default();
        let row = messages
            .for_operator_command(&operator_command, Utc::now())
            .unwrap();
        assert_eq!(row.routing_key, "workflow.paused.w");
        assert_eq!(
            row.message_id,
            messages
                .for_operator_command(&operator_command, Utc::now())
                .unwrap()
                .message_id
        );
        let body = body(&row);
        assert!(row.task_id.is_none() && body.get("sequence").is_none());
        assert_eq!(body["subject"], "w");
        assert_eq!(body["data"], json!({"workflow": "w", "reason": "audit"}));
    }
}
