//! Operator commands: those for workflows, annotators and goals instead of a task.
//!
//! An operator command is recorded in the inbox under its id, like a task command. Its effect is
//! derived from the recorded operator commands alone, by the same function live and in a rebuild.

use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::outcome::{Rejection, RejectionCode};
use crate::{
    canonical,
    goals::{GoalCompletion, GoalStatement},
    ids::{CommandId, Slug, UserId, WorkflowId},
    store::{
        AnnotatorPause, CommandRow, OperatorFacts, OperatorSubject, Pauses, RecordedOutcome,
        WorkflowPause,
    },
};

/// A command by an operator, or by a rule on an operator's behalf, that concerns no single task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OperatorCommand {
    /// Pause all tasks of a workflow. If it is paused already, change the reason and `until`.
    WorkflowPause {
        /// The workflow, in all its revisions.
        workflow: WorkflowId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// When the workflow resumes by itself, in whole microseconds of the store's clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
    },
    /// Resume all tasks of a workflow.
    WorkflowResume {
        /// The workflow.
        workflow: WorkflowId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// The `until` of a pause that has expired. A pause that was changed in the meantime is not
        /// ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ran_out: Option<DateTime<Utc>>,
    },
    /// Pause a workflow until it is restored, and leave it out of lists. If it is archived already,
    /// change the reason. A pause in progress becomes part of the archiving.
    WorkflowArchive {
        /// The workflow, in all its revisions.
        workflow: WorkflowId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Take a workflow out of the archive: its tasks resume.
    WorkflowRestore {
        /// The workflow.
        workflow: WorkflowId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Offer an annotator no more slots in a workflow. If the annotator is paused already, change
    /// the reason.
    AnnotatorPause {
        /// The workflow, in all its revisions.
        workflow: WorkflowId,
        /// The person.
        user_id: UserId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// If a rule of the workflow paused the annotator: when the answer was given that took the
        /// annotator below the limit. A later resume by an operator overrides the rule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallen_at: Option<DateTime<Utc>>,
    },
    /// Offer slots to an annotator again. After a resume by an operator, the rule starts afresh
    /// with later gold answers.
    AnnotatorResume {
        /// The workflow.
        workflow: WorkflowId,
        /// The person.
        user_id: UserId,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Whether a rule resumes the annotator because its limit is met again. It does not end a
        /// pause by an operator.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_rule: bool,
    },
    /// Declare a goal reached. The caller has checked before that the goal allows this.
    GoalComplete {
        /// The workflow.
        workflow: WorkflowId,
        /// The goal.
        goal: Slug,
        /// The declaration.
        #[serde(flatten)]
        statement: GoalStatement,
    },
}

/// An operator command with its idempotency key and tracing ids.
#[derive(Clone, Debug)]
pub struct OperatorEnvelope {
    /// The idempotency key: sending the same id again changes nothing.
    pub command_id: CommandId,
    /// Correlation id of the caller, for tracing a piece of work.
    pub correlation_id: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Who sends it; none for a rule of a workflow.
    pub actor: Option<String>,
    /// The operator command.
    pub operator_command: OperatorCommand,
}

impl OperatorEnvelope {
    /// An envelope without correlation or trace.
    pub fn new(command_id: impl Into<CommandId>, operator_command: OperatorCommand) -> Self {
        Self {
            command_id: command_id.into(),
            correlation_id: None,
            traceparent: None,
            actor: None,
            operator_command,
        }
    }

    /// The operator command as the inbox keeps it: with `actor`, where that is known.
    pub fn payload(&self) -> Value {
        with_actor(self.operator_command.payload(), self.actor.as_deref())
    }

    /// The operator command that records the end of a pause whose `until` has passed. Its id is
    /// derived from the pause, so several processes can record the same end without effect.
    pub fn of_lapsed(pause: &WorkflowPause) -> Option<Self> {
        let ran_out = pause.until?;
        let id = Uuid::new_v5(
            &pause.pause_id.0,
            format!("until/{}", ran_out.timestamp_micros()).as_bytes(),
        );
        Some(Self::new(
            id,
            OperatorCommand::WorkflowResume {
                workflow: pause.workflow.clone(),
                reason: Some("the pause has run out".to_owned()),
                ran_out: Some(ran_out),
            },
        ))
    }
}

impl OperatorCommand {
    /// The type in the inbox and in responses.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::WorkflowPause { .. } => "workflow_pause",
            Self::WorkflowResume { .. } => "workflow_resume",
            Self::WorkflowArchive { .. } => "workflow_archive",
            Self::WorkflowRestore { .. } => "workflow_restore",
            Self::AnnotatorPause { .. } => "annotator_pause",
            Self::AnnotatorResume { .. } => "annotator_resume",
            Self::GoalComplete { .. } => "goal_complete",
        }
    }

    /// The workflow concerned.
    pub fn workflow(&self) -> &WorkflowId {
        match self {
            Self::WorkflowPause { workflow, .. }
            | Self::WorkflowResume { workflow, .. }
            | Self::WorkflowArchive { workflow, .. }
            | Self::WorkflowRestore { workflow, .. }
            | Self::AnnotatorPause { workflow, .. }
            | Self::AnnotatorResume { workflow, .. }
            | Self::GoalComplete { workflow, .. } => workflow,
        }
    }

    /// The workflow, annotator or goal concerned.
    pub fn subject(&self) -> OperatorSubject {
        let user_id = match self {
            Self::AnnotatorPause { user_id, .. } | Self::AnnotatorResume { user_id, .. } => {
                Some(*user_id)
            }
            Self::WorkflowPause { .. }
            | Self::WorkflowResume { .. }
            | Self::WorkflowArchive { .. }
            | Self::WorkflowRestore { .. }
            | Self::GoalComplete { .. } => None,
        };
        OperatorSubject {
            workflow: self.workflow().clone(),
            user_id,
        }
    }

    /// The operator command as JSON, with `type`. This is hashed and stored in the inbox.
    pub fn payload(&self) -> Value {
        // Plain data with string keys always serializes.
        serde_json::to_value(self).unwrap_or_default()
    }

    /// SHA-256 of [`OperatorCommand::payload`] in canonical JSON.
    pub fn content_hash(&self) -> [u8; 32] {
        canonical::hash(&self.payload())
    }

    /// The same command with times rounded to the precision of the stores.
    pub(crate) fn rounded(mut self) -> Self {
        match &mut self {
            Self::WorkflowPause { until: time, .. }
            | Self::WorkflowResume { ran_out: time, .. }
            | Self::AnnotatorPause {
                fallen_at: time, ..
            } => {
                *time = time.map(|time| time.trunc_subsecs(6));
            }
            Self::WorkflowArchive { .. }
            | Self::WorkflowRestore { .. }
            | Self::AnnotatorResume { .. }
            | Self::GoalComplete { .. } => {}
        }
        self
    }
}

/// The payload of a command with the name of its sender. The name is no part of the content: who
/// repeats a command under its id gets the first outcome.
pub(crate) fn with_actor(mut payload: Value, actor: Option<&str>) -> Value {
    if let (Value::Object(fields), Some(actor)) = (&mut payload, actor) {
        fields.insert("actor".to_owned(), actor.into());
    }
    payload
}

/// The effect of an applied operator command.
pub(crate) struct Effect {
    /// Pauses to write or to change.
    pub(crate) pauses: Pauses,
    /// The result for the caller.
    pub(crate) result: Value,
}

/// Decides an operator command.
pub(crate) fn decide(
    operator_command: &OperatorCommand,
    id: CommandId,
    facts: OperatorFacts,
) -> Result<Effect, Rejection> {
    let OperatorFacts {
        now,
        pause: open,
        annotator,
    } = facts;
    let not_waiting = |detail: String| {
        Err(Rejection {
            code: RejectionCode::NotWaiting,
            detail,
        })
    };
    match operator_command {
        OperatorCommand::WorkflowPause {
            workflow,
            reason,
            until,
        } => {
            if until.is_some_and(|until| until <= now) {
                return not_waiting(
                    "`until` is not in the future: there would be nothing to wait for".to_owned(),
                );
            }
            if open.as_ref().is_some_and(|open| open.archived) {
                return not_waiting(format!(
                    "the workflow `{workflow}` is archived, and so held already"
                ));
            }
            let pause = WorkflowPause {
                pause_id: id,
                workflow: workflow.clone(),
                reason: reason.clone(),
                since: now,
                until: *until,
                archived: false,
                ended_at: None,
            };
            Ok(paused(pause, open))
        }
        OperatorCommand::WorkflowArchive { workflow, reason } => {
            let pause = WorkflowPause {
                pause_id: id,
                workflow: workflow.clone(),
                reason: reason.clone(),
                since: now,
                until: None,
                archived: true,
                ended_at: None,
            };
            Ok(paused(pause, open))
        }
        OperatorCommand::WorkflowResume {
            workflow, ran_out, ..
        } => match open {
            Some(open) if open.archived => not_waiting(format!(
                "the workflow `{workflow}` is archived: `restore` lets it go on"
            )),
            Some(open) if ran_out.is_none() || *ran_out == open.until => Ok(let_go(open, now)),
            _ => not_waiting(format!("the workflow `{workflow}` is not paused")),
        },
        OperatorCommand::WorkflowRestore { workflow, .. } => match open {
            Some(open) if open.archived => Ok(let_go(open, now)),
            _ => not_waiting(format!("the workflow `{workflow}` is not archived")),
        },
        OperatorCommand::AnnotatorPause {
            workflow,
            user_id,
            reason,
            fallen_at,
        } => {
            let by_rule = fallen_at.is_some();
            let pause = match annotator {
                // A rule does not change a pause that is open already; an operator takes over
                // the pause of a rule.
                Some(open) if open.is_open() && by_rule => open,
                Some(open) if open.is_open() => AnnotatorPause {
                    reason: reason.clone(),
                    by_rule,
                    ..open
                },
                Some(over) if over.judged_anew && over.ended_at >= *fallen_at && by_rule => {
                    return not_waiting(format!(
                        "annotator {user_id} was let go on after the fall, and is judged anew"
                    ));
                }
                _ => AnnotatorPause {
                    pause_id: id,
                    workflow: workflow.clone(),
                    user_id: *user_id,
                    reason: reason.clone(),
                    by_rule,
                    since: now,
                    ended_at: None,
                    judged_anew: false,
                },
            };
            Ok(of_annotator(workflow, *user_id, pause))
        }
        OperatorCommand::AnnotatorResume {
            workflow,
            user_id,
            by_rule,
            ..
        } => match annotator {
            Some(open) if open.is_open() && (open.by_rule || !by_rule) => {
                let pause = AnnotatorPause {
                    ended_at: Some(now),
                    judged_anew: !by_rule,
                    ..open
                };
                Ok(of_annotator(workflow, *user_id, pause))
            }
            _ => not_waiting(format!(
                "annotator {user_id} is not paused in the workflow `{workflow}`"
            )),
        },
        OperatorCommand::GoalComplete { workflow, goal, .. } => Ok(Effect {
            pauses: Pauses::default(),
            result: json!({
                "workflow": workflow, "goal": goal, "completed": true, "completed_at": now,
            }),
        }),
    }
}

/// Pauses a workflow from now on: changes the pause in force, and ends one that has expired.
fn paused(wanted: WorkflowPause, open: Option<WorkflowPause>) -> Effect {
    let now = wanted.since;
    let (over, pause) = match open {
        Some(open) if open.applies_at(now) => {
            let pause = WorkflowPause {
                pause_id: open.pause_id,
                since: open.since,
                ..wanted
            };
            (None, pause)
        }
        over => (over, wanted),
    };
    let result = json!({"workflow": pause.workflow, "paused": pause});
    let over = over.map(|over| ended(over, now));
    Effect {
        pauses: Pauses {
            workflows: over.into_iter().chain([pause]).collect(),
            ..Pauses::default()
        },
        result,
    }
}

/// Resumes a workflow.
fn let_go(open: WorkflowPause, now: DateTime<Utc>) -> Effect {
    let result = json!({"workflow": open.workflow, "paused": null});
    Effect {
        pauses: Pauses {
            workflows: vec![ended(open, now)],
            ..Pauses::default()
        },
        result,
    }
}

/// The effect of an operator command on the pause of an annotator.
fn of_annotator(workflow: &WorkflowId, user_id: UserId, pause: AnnotatorPause) -> Effect {
    let open = Some(&pause).filter(|pause| pause.is_open());
    let result = json!({"workflow": workflow, "user_id": user_id, "paused": open});
    Effect {
        pauses: Pauses {
            annotators: vec![pause],
            ..Pauses::default()
        },
        result,
    }
}

/// A pause ends when the workflow is resumed, or at its `until` if that is earlier.
fn ended(pause: WorkflowPause, now: DateTime<Utc>) -> WorkflowPause {
    let ended_at = pause.until.map_or(now, |until| until.min(now));
    WorkflowPause {
        ended_at: Some(ended_at),
        ..pause
    }
}

/// The goals that people have declared reached, from all applied operator commands.
pub fn completions_of(operator_commands: &[CommandRow]) -> Vec<GoalCompletion> {
    let applied = operator_commands
        .iter()
        .filter(|row| matches!(row.outcome, RecordedOutcome::Applied { .. }));
    applied
        .filter_map(|row| {
            let operator_command = serde_json::from_value(row.payload.clone()?).ok()?;
            let OperatorCommand::GoalComplete {
                workflow,
                goal,
                statement,
            } = operator_command
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

/// The pauses that result from all applied operator commands, each kind oldest first.
pub fn pauses_of(operator_commands: &[CommandRow]) -> Pauses {
    let mut pauses = Pauses::default();
    for row in operator_commands {
        let applied = matches!(row.outcome, RecordedOutcome::Applied { .. });
        let payload = row.payload.clone().unwrap_or_default();
        let Some(operator_command) = serde_json::from_value::<OperatorCommand>(payload)
            .ok()
            .filter(|_| applied)
        else {
            continue;
        };
        let OperatorSubject { workflow, user_id } = operator_command.subject();
        let pause = pauses
            .workflows
            .iter()
            .find(|pause| pause.workflow == workflow && pause.ended_at.is_none());
        let annotator = pauses
            .annotators
            .iter()
            .filter(|pause| pause.workflow == workflow && Some(pause.user_id) == user_id)
            .max_by_key(|pause| pause.age());
        let facts = OperatorFacts {
            now: row.decided_at,
            pause: pause.cloned(),
            annotator: annotator.cloned(),
        };
        let Ok(effect) = decide(&operator_command, row.command_id, facts) else {
            continue;
        };
        for changed in effect.pauses.workflows {
            put(&mut pauses.workflows, changed, |pause| pause.pause_id);
        }
        for changed in effect.pauses.annotators {
            put(&mut pauses.annotators, changed, |pause| pause.pause_id);
        }
    }
    pauses
}

/// Replaces the row with the same key, or appends the row.
fn put<T, K: PartialEq>(rows: &mut Vec<T>, row: T, key: impl Fn(&T) -> K) {
    match rows.iter_mut().find(|known| key(known) == key(&row)) {
        Some(known) => *known = row,
        None => rows.push(row),
    }
}
