//! The consequences of a goal: actions when it is reached, alerts along the way, and completion by
//! hand.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{GoalProgress, GoalStatement};
use crate::config::CompletionActionConfig;

/// An action to run once, because a goal was reached.
#[derive(Clone, Debug, PartialEq)]
pub struct CompletionAction {
    /// The action to run.
    pub action: CompletionActionConfig,
    /// The progress that reached the goal.
    pub progress: GoalProgress,
}

impl CompletionAction {
    /// The same id for the same goal, epoch and action, however often it is derived; an action
    /// already run under this id is not run again.
    pub fn id(&self) -> Uuid {
        let what = match &self.action {
            // A goal may call several webhooks.
            CompletionActionConfig::TriggerWebhook(config) => {
                format!("trigger_webhook/{}", config.url)
            }
            action @ (CompletionActionConfig::Notify
            | CompletionActionConfig::Pause
            | CompletionActionConfig::Archive) => action.as_str().to_owned(),
        };
        derived_id(&self.progress, &what)
    }
}

/// An alert for people, because a goal is progressing or at risk.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalAlert {
    /// The name: `progress/0.5`, `below`, `above`, `late` or `missed`.
    pub name: String,
    /// How often this alert was raised in the epoch, from 1.
    pub n: u32,
    /// When it was raised.
    pub at: DateTime<Utc>,
    /// The progress that raised it.
    pub progress: GoalProgress,
}

impl GoalAlert {
    /// The same id for the same goal, epoch, alert and number.
    pub fn id(&self) -> Uuid {
        derived_id(&self.progress, &format!("alert/{}/{}", self.name, self.n))
    }
}

/// The id of an effect of a goal.
fn derived_id(progress: &GoalProgress, what: &str) -> Uuid {
    let GoalProgress {
        workflow, epoch, ..
    } = progress;
    let name = format!("glyph/goals/{workflow}/{}/{epoch}/{what}", progress.goal());
    Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
}

/// Why a person's statement cannot complete a goal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompletionRefusal {
    /// It is reached by events, not by hand.
    #[error("a goal of type `{kind}` is not completed by hand{hint}")]
    NotByHand {
        /// The kind of goal.
        kind: &'static str,
        /// What would allow it.
        hint: &'static str,
    },
    /// It is already reached.
    #[error("the goal is reached since {at}")]
    AlreadyReached {
        /// When it was reached.
        at: DateTime<Utc>,
    },
    /// The person lacks the role.
    #[error("one of these roles is needed: {}", .roles.join(", "))]
    RoleRequired {
        /// The roles; one of them is enough.
        roles: Vec<String>,
    },
    /// Items of the checklist are not confirmed.
    #[error("the checklist is not whole: {}", .items.join("; "))]
    Unconfirmed {
        /// The missing items.
        items: Vec<String>,
    },
    /// The statement confirms items that are not on the checklist.
    #[error("not on the checklist: {}", .items.join("; "))]
    UnknownItems {
        /// The items.
        items: Vec<String>,
    },
    /// The goal requires a reason.
    #[error("the goal needs a `reason`")]
    ReasonRequired,
}

impl GoalProgress {
    /// Checks that `statement` may complete the goal.
    ///
    /// # Errors
    ///
    /// The first reason against it.
    pub fn accepts(&self, statement: &GoalStatement) -> Result<(), CompletionRefusal> {
        let config = &self.config;
        if !config.is_by_hand() {
            let is_composite = config.kind == crate::config::GoalType::Composite;
            return Err(CompletionRefusal::NotByHand {
                kind: config.kind.as_str(),
                hint: if is_composite {
                    " unless it has `override: true`"
                } else {
                    ""
                },
            });
        }
        if let Some(at) = self.completed_at {
            return Err(CompletionRefusal::AlreadyReached { at });
        }
        let required = &config.required_roles;
        if !required.is_empty() && !required.iter().any(|r| statement.roles.contains(r)) {
            return Err(CompletionRefusal::RoleRequired {
                roles: required.clone(),
            });
        }
        let lacking = |wanted: &[String], given: &[String]| -> Vec<String> {
            let given: BTreeSet<&String> = given.iter().collect();
            let lacking = wanted.iter().filter(|item| !given.contains(item));
            lacking.cloned().collect()
        };
        let unknown = lacking(&statement.checklist, &config.checklist);
        if !unknown.is_empty() {
            return Err(CompletionRefusal::UnknownItems { items: unknown });
        }
        let unconfirmed = lacking(&config.checklist, &statement.checklist);
        if !unconfirmed.is_empty() {
            return Err(CompletionRefusal::Unconfirmed { items: unconfirmed });
        }
        let is_silent = |reason: &Option<String>| {
            reason
                .as_deref()
                .is_none_or(|reason| reason.trim().is_empty())
        };
        if config.require_reason && is_silent(&statement.reason) {
            return Err(CompletionRefusal::ReasonRequired);
        }
        Ok(())
    }
}
