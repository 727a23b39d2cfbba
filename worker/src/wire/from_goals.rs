//! Builds the messages of projections: goals, agreement over time, gold tasks.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{config::GoalType, goals::GoalAlert, ids::LogIds, store::NewMessage};
use serde::Serialize;
use uuid::Uuid;

use super::{
    data::{AgreementProgress, AnnotatorFlagged},
    envelope::Message,
    goals::{AlertReport, GoalReport},
    message_types::MessageType,
    messages::CloudEventMessages,
};

/// The step of a projection that sends a message.
#[derive(Clone, Copy, Debug)]
pub struct ToldIn<'l> {
    /// The log that it reads. What happens anew after a restore is told under new ids; what happened
    /// before keeps its own.
    pub log: &'l LogIds,
    /// Its time.
    pub now: DateTime<Utc>,
}

impl CloudEventMessages {
    /// Builds the message about a goal's progress.
    pub fn goal_progressed(&self, goal: &GoalReport, step: ToldIn<'_>) -> Option<NewMessage> {
        // A count only grows, so it identifies the progress. A measured value may return to an
        // earlier value, so its message is identified by the time.
        let cause = match (goal.kind, goal.current) {
            (GoalType::Volume, Some(current)) => format!("progressed/{current}"),
            _ => format!("progressed/at/{}", step.now.timestamp_micros()),
        };
        let id = step.log.present.message_id(goal_message_id(goal, &cause));
        self.for_goal(MessageType::GoalProgressed, id, goal, goal, step.now)
    }

    /// Builds the message that a goal is reached.
    pub fn goal_completed(&self, goal: &GoalReport, step: ToldIn<'_>) -> Option<NewMessage> {
        let log = step.log.at(goal.completed_at.unwrap_or(step.now));
        let id = log.message_id(goal_message_id(goal, "completed"));
        self.for_goal(MessageType::GoalCompleted, id, goal, goal, step.now)
    }

    /// Builds the message that an alert was raised.
    pub fn goal_alert(
        &self,
        alert: &GoalAlert,
        goal: GoalReport,
        step: ToldIn<'_>,
    ) -> Option<NewMessage> {
        let data = AlertReport {
            alert: alert.name.clone(),
            n: alert.n,
            raised_at: alert.at,
            goal,
        };
        let id = step.log.at(alert.at).message_id(alert.id());
        self.for_goal(MessageType::GoalAlert, id, &data.goal, &data, step.now)
    }

    fn for_goal<D: Serialize>(
        &self,
        kind: MessageType,
        id: Uuid,
        goal: &GoalReport,
        data: &D,
        now: DateTime<Utc>,
    ) -> Option<NewMessage> {
        let subject = format!("{}/{}", goal.workflow, goal.goal);
        let message = Message {
            kind,
            id,
            workflow: Some(&goal.workflow),
            step: None,
            task: None,
            subject: &subject,
            time: now,
            version: None,
            correlation_id: &id.to_string(),
            causation_id: None,
            traceparent: None,
        };
        self.row(&message, data)
    }

    /// Builds the message that the agreement of a step has changed; `cause` is the event of the
    /// newest item.
    pub fn agreement_progressed(
        &self,
        agreement: &AgreementProgress,
        cause: Uuid,
        now: DateTime<Utc>,
    ) -> Option<NewMessage> {
        let (workflow, step) = (&agreement.workflow, &agreement.step_id);
        let subject = match &agreement.field {
            Some(field) => format!("{workflow}/{step}/{field}"),
            None => format!("{workflow}/{step}"),
        };
        let id = format!("agreement/{}/{subject}", agreement.measure.as_str());
        let id = Uuid::new_v5(&cause, id.as_bytes());
        let message = Message {
            kind: MessageType::AgreementProgressed,
            id,
            workflow: Some(workflow),
            step: Some(step),
            task: None,
            subject: &subject,
            time: now,
            version: None,
            correlation_id: &id.to_string(),
            causation_id: None,
            traceparent: None,
        };
        self.row(&message, agreement)
    }

    /// Builds the message that an annotator fell below the limit on gold tasks; `cause` is the
    /// event of the answer.
    pub fn annotator_flagged(&self, flagged: &AnnotatorFlagged, cause: Uuid) -> Option<NewMessage> {
        let id = Uuid::new_v5(&cause, b"annotator.flagged");
        let message = Message {
            kind: MessageType::AnnotatorFlagged,
            id,
            workflow: Some(&flagged.workflow),
            step: None,
            task: None,
            subject: &flagged.user_id.to_string(),
            time: flagged.flagged_at,
            version: None,
            correlation_id: &id.to_string(),
            causation_id: None,
            traceparent: None,
        };
        self.row(&message, flagged)
    }
}

/// The id of a message about a goal, derived from its cause. The derivation must never change, or
/// messages would be sent twice.
fn goal_message_id(goal: &GoalReport, cause: &str) -> Uuid {
    let GoalReport {
        workflow,
        goal,
        epoch,
        ..
    } = goal;
    let name = format!("glyph/goals/{workflow}/{goal}/{epoch}/{cause}");
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use glyph_workflow_engine::{
        config::GoalConfig,
        goals::{GoalDefinition, GoalProgress, GoalTracker},
        ids::{FormerLogId, LogId, Slug},
        store::ProjectionRows,
    };
    use serde_json::Value;

    use super::*;

    fn body(row: &NewMessage) -> Value {
        serde_json::from_str(&row.body).unwrap()
    }

    #[test]
    fn a_goal_is_told_once_for_each_count_and_once_when_reached() {
        let mut config = GoalConfig::new(Slug::new("volume").unwrap(), GoalType::Volume);
        config.target = Some(800.0);
        let definition = GoalDefinition {
            workflow: Slug::new("w").unwrap(),
            revision: 1,
            since: Utc::now(),
            config,
        };
        let mut tracker =
            GoalTracker::resume(ProjectionRows::new(), vec![definition], Vec::new()).unwrap();
        tracker.advance(Utc::now());
        let goals = tracker.finish().unwrap().goals;
        let goal = |count: u64| {
            let goal = GoalProgress {
                count,
                ..goals.values().next().unwrap().clone()
            };
            GoalReport::of(&goal, &goals, Utc::now())
        };
        let log = |id| LogIds {
            present: LogId(Uuid::from_u128(id)),
            ..LogIds::default()
        };
        let one = log(1);
        let now = || ToldIn {
            log: &one,
            now: Utc::now(),
        };
        let messages = CloudEventMessages::default();
        let progressed = |count| messages.goal_progressed(&goal(count), now()).unwrap();
        assert_eq!(progressed(3).message_id, progressed(3).message_id);
        assert_ne!(progressed(3).message_id, progressed(4).message_id);
        let completed = messages.goal_completed(&goal(800), now()).unwrap();
        // After a restore it is completed anew, unless it was before.
        for (before, is_same) in [(false, false), (true, true)] {
            let mut other = log(2);
            other.former.push(FormerLogId {
                log_id: one.present,
                until: if before {
                    Utc::now() + TimeDelta::hours(1)
                } else {
                    DateTime::UNIX_EPOCH
                },
            });
            let told = ToldIn {
                log: &other,
                ..now()
            };
            let anew = messages.goal_completed(&goal(800), told).unwrap();
            assert_eq!(completed.message_id == anew.message_id, is_same);
        }
        assert_eq!(completed.routing_key, "goal.completed.w");
        assert_eq!(body(&completed)["data"]["target"], 800.0);
        assert!(completed.task_id.is_none() && body(&completed).get("sequence").is_none());
    }
}
