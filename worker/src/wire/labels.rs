//! Builds the message about an answer that a look back finds to be another one.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    events::LogPosition,
    ids::{RevisionId, StepId, TaskId, WorkflowId},
    state::SoftLabels,
    store::NewMessage,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{envelope::Message, message_types::MessageType, messages::CloudEventMessages};

/// With what is known of the annotators now, another answer is more probable than the one that a
/// task was completed with. The task stays as it is; who uses its answer decides what to do.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AnswerRevised {
    /// The task.
    pub task_id: TaskId,
    /// The UUID of the workflow's revision.
    pub workflow_id: RevisionId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The number of the workflow's revision.
    pub revision: u32,
    /// The step.
    pub step_id: StepId,
    /// The visit.
    pub visit: u32,
    /// The field, if the answer is one of a record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The answer that the task was completed with.
    pub before: Value,
    /// The most probable one of the given answers now.
    pub now: Value,
    /// Probability of each answer when the task was completed; null if the step does not complete
    /// by confidence.
    pub posterior_before: Option<SoftLabels>,
    /// Probability of each answer now.
    pub posterior_now: SoftLabels,
    /// How much the annotator model has learned.
    pub model_position: LogPosition,
    /// When it was looked at.
    pub looked_at: DateTime<Utc>,
}

impl AnswerRevised {
    /// The id of its message: one for each task and changed answer, whoever looks and how often.
    /// The derivation must never change, or messages would be sent twice.
    pub fn message_id(&self) -> Uuid {
        let name = serde_json::json!([
            "glyph/answers",
            self.task_id,
            self.step_id,
            self.visit,
            self.field,
            self.before,
            self.now,
        ]);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.to_string().as_bytes())
    }
}

impl CloudEventMessages {
    /// Builds the message that an answer would be another one now. It belongs to no version of its
    /// task, so it has no sequence.
    pub fn answer_revised(&self, revised: &AnswerRevised) -> Option<NewMessage> {
        let id = revised.message_id();
        let message = Message {
            kind: MessageType::AnswerRevised,
            id,
            workflow: Some(&revised.workflow),
            step: Some(&revised.step_id),
            task: None,
            subject: &revised.task_id.to_string(),
            time: revised.looked_at,
            version: None,
            correlation_id: &id.to_string(),
            causation_id: None,
            traceparent: None,
        };
        self.row(&message, revised)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn revised(before: &str, now: &str) -> AnswerRevised {
        AnswerRevised {
            task_id: TaskId(Uuid::from_u128(1)),
            workflow_id: RevisionId(Uuid::from_u128(2)),
            workflow: WorkflowId::new("w").unwrap(),
            revision: 1,
            step_id: StepId::new("annotate").unwrap(),
            visit: 1,
            field: None,
            before: json!(before),
            now: json!(now),
            posterior_before: None,
            posterior_now: SoftLabels {
                confidence: 0.9,
                classes: vec![json!("cat"), json!("dog")],
                probabilities: vec![0.1, 0.9],
                unseen: 0.0,
            },
            model_position: LogPosition::default(),
            looked_at: Utc::now(),
        }
    }

    #[test]
    fn a_changed_answer_is_told_once_whenever_it_is_looked_at() {
        let messages = CloudEventMessages::default();
        let row = |before, now| messages.answer_revised(&revised(before, now)).unwrap();
        let told = row("cat", "dog");
        assert_eq!(told.message_id, row("cat", "dog").message_id);
        assert_ne!(told.message_id, row("cat", "cow").message_id);
        assert_eq!(told.routing_key, "answer.revised.w.annotate");
        let body: Value = serde_json::from_str(&told.body).unwrap();
        assert_eq!(body["type"], "dev.glyph.answer.revised.v1");
        assert_eq!(body["subject"], json!(Uuid::from_u128(1)));
        assert!(told.task_id.is_none() && body.get("sequence").is_none());
        assert_eq!(body["data"]["before"], "cat");
        assert_eq!(body["data"]["model_position"]["entry"], 0);
    }
}
