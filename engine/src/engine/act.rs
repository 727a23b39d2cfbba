//! What operators do that belongs to no task.
//!
//! An act is recorded like a command, in the inbox under its id, and its effect is derived from the
//! acts alone: the same function follows them live and when everything is made anew.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::outcome::{Rejection, RejectionCode};
use crate::{
    canonical,
    goals::{GoalCompletion, GoalStatement},
    ids::{CommandId, Slug, WorkflowId},
    store::{CommandRow, RecordedOutcome, WorkflowPause},
};

/// What an operator (or a rule that acts for one) does to something that is no task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Act {
    /// Hold all tasks of a workflow. Of a paused one, changes reason and `until`.
    WorkflowPause {
        /// The workflow, in all its revisions.
        workflow: WorkflowId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When it goes on by itself, in whole microseconds of the store's clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
    },
    /// Let all tasks of a workflow go on.
    WorkflowResume {
        /// The workflow.
        workflow: WorkflowId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Where a pause has run out by itself: its `until`. A pause that was changed meanwhile is
        /// left alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ran_out: Option<DateTime<Utc>>,
    },
    /// Say that a goal is reached. Whether the goal takes the person's word is asked before.
    GoalComplete {
        /// The workflow.
        workflow: WorkflowId,
        /// The goal.
        goal: Slug,
        /// What the person says.
        #[serde(flatten)]
        statement: GoalStatement,
    },
}

/// An act with what makes it safe to send twice.
#[derive(Clone, Debug)]
pub struct ActEnvelope {
    /// The idempotency key: the same id again changes nothing.
    pub command_id: CommandId,
    /// What the caller uses to follow a piece of work.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What is done.
    pub act: Act,
}

impl ActEnvelope {
    /// An envelope without correlation or trace.
    pub fn new(command_id: impl Into<CommandId>, act: Act) -> Self {
        Self {
            command_id: command_id.into(),
            correlation_id: None,
            traceparent: None,
            act,
        }
    }

    /// The act by which a pause that has run out is recorded as ended: whoever notices it, and how
    /// often, names it alike.
    pub fn of_lapsed(pause: &WorkflowPause) -> Option<Self> {
        let ran_out = pause.until?;
        let id = Uuid::new_v5(
            &pause.pause_id.0,
            format!("until/{}", ran_out.timestamp_micros()).as_bytes(),
        );
        Some(Self::new(
            id,
            Act::WorkflowResume {
                workflow: pause.workflow.clone(),
                reason: Some("the pause has run out".to_owned()),
                ran_out: Some(ran_out),
            },
        ))
    }
}

impl Act {
    /// The type in the inbox and in answers.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::WorkflowPause { .. } => "workflow_pause",
            Self::WorkflowResume { .. } => "workflow_resume",
            Self::GoalComplete { .. } => "goal_complete",
        }
    }

    /// The workflow that it is about.
    pub fn workflow(&self) -> &WorkflowId {
        match self {
            Self::WorkflowPause { workflow, .. }
            | Self::WorkflowResume { workflow, .. }
            | Self::GoalComplete { workflow, .. } => workflow,
        }
    }

    /// The act as JSON, with `type`: what is hashed, and kept in the inbox.
    pub fn payload(&self) -> Value {
        // Plain data with string keys always serializes.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// SHA-256 of [`Act::payload`] in canonical JSON.
    pub fn content_hash(&self) -> [u8; 32] {
        canonical::hash(&self.payload())
    }

    /// The same, with times as precise as stores keep them.
    pub(super) fn rounded(mut self) -> Self {
        match &mut self {
            Self::WorkflowPause { until: time, .. }
            | Self::WorkflowResume { ran_out: time, .. } => {
                *time = time.map(|time| time.trunc_subsecs(6));
            }
            Self::GoalComplete { .. } => {}
        }
        self
    }
}

/// What an applied act leads to.
pub(super) struct Effect {
    /// Pauses to write or to change, in this order.
    pub(super) pauses: Vec<WorkflowPause>,
    /// What the caller is told.
    pub(super) result: Value,
}

/// Decides an act. `open` is the pause of its workflow that has not been recorded as ended.
pub(super) fn decide(
    act: &Act,
    id: CommandId,
    open: Option<WorkflowPause>,
    now: DateTime<Utc>,
) -> Result<Effect, Rejection> {
    let not_waiting = |detail: String| {
        Err(Rejection {
            code: RejectionCode::NotWaiting,
            detail,
        })
    };
    match act {
        Act::WorkflowPause {
            workflow,
            reason,
            until,
        } => {
            if until.is_some_and(|until| until <= now) {
                return not_waiting(
                    "`until` is not in the future: there would be nothing to wait for".to_owned(),
                );
            }
            let (over, since, pause_id) = match open {
                Some(open) if open.holds_at(now) => (None, open.since, open.pause_id),
                over => (over, now, id),
            };
            let pause = WorkflowPause {
                pause_id,
                workflow: workflow.clone(),
                reason: reason.clone(),
                since,
                until: *until,
                ended_at: None,
            };
            let result = json!({"workflow": workflow, "paused": pause});
            let over = over.map(|over| ended(over, now));
            Ok(Effect {
                pauses: over.into_iter().chain([pause]).collect(),
                result,
            })
        }
        Act::WorkflowResume {
            workflow, ran_out, ..
        } => match open {
            Some(open) if ran_out.is_none() || *ran_out == open.until => Ok(Effect {
                pauses: vec![ended(open, now)],
                result: json!({"workflow": workflow, "paused": null}),
            }),
            _ => not_waiting(format!("the workflow `{workflow}` is not paused")),
        },
        Act::GoalComplete { workflow, goal, .. } => Ok(Effect {
            pauses: Vec::new(),
            result: json!({
                "workflow": workflow, "goal": goal, "completed": true, "completed_at": now,
            }),
        }),
    }
}

/// A pause ends when somebody resumes the workflow, or at its `until` before that.
fn ended(pause: WorkflowPause, now: DateTime<Utc>) -> WorkflowPause {
    let ended_at = pause.until.map_or(now, |until| until.min(now));
    WorkflowPause {
        ended_at: Some(ended_at),
        ..pause
    }
}

/// What people have said of goals, by all applied acts.
pub fn completions_of(acts: &[CommandRow]) -> Vec<GoalCompletion> {
    let applied = acts
        .iter()
        .filter(|row| matches!(row.outcome, RecordedOutcome::Applied { .. }));
    applied
        .filter_map(|row| {
            let act = serde_json::from_value(row.payload.clone()?).ok()?;
            let Act::GoalComplete {
                workflow,
                goal,
                statement,
            } = act
            else {
                return None;
            };
            Some(GoalCompletion {
                command_id: row.command_id,
                at: row.decided_at,
                workflow,
                goal,
                statement,
            })
        })
        .collect()
}

/// The pauses of workflows that follow from all applied acts, oldest first.
pub fn pauses_of(acts: &[CommandRow]) -> Vec<WorkflowPause> {
    let mut pauses: Vec<WorkflowPause> = Vec::new();
    for row in acts {
        let applied = matches!(row.outcome, RecordedOutcome::Applied { .. });
        let payload = row.payload.clone().unwrap_or_default();
        let Some(act) = serde_json::from_value::<Act>(payload)
            .ok()
            .filter(|_| applied)
        else {
            continue;
        };
        let open = pauses
            .iter()
            .find(|pause| pause.workflow == *act.workflow() && pause.ended_at.is_none())
            .cloned();
        let Ok(effect) = decide(&act, row.command_id, open, row.decided_at) else {
            continue;
        };
        for changed in effect.pauses {
            match pauses.iter_mut().find(|p| p.pause_id == changed.pause_id) {
                Some(pause) => *pause = changed,
                None => pauses.push(changed),
            }
        }
    }
    pauses
}
