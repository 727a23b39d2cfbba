//! The verbs that an operator has for a task: for each, the decision that it would get now.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{DecideContext, decide};
use crate::{
    command::{Advance, Assign, Command, CommandEnvelope, Control, Outcome, Pause, Release},
    ids::{StepId, TaskId, UserId},
    state::WorkflowSnapshot,
};

/// A verb, and whether it would be accepted.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct OfferedVerb {
    /// The type of the command.
    pub verb: &'static str,
    /// The step that the command names; none for the whole task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_id: Option<StepId>,
    /// The person whom the command names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Fields that the command must have beside those.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<&'static str>,
    /// Whether the task's state and rules allow it.
    pub accepted: bool,
    /// The code of the rejection that it would get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Why it would be rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The verbs on a task and on each step that it waits in. Each is decided on the state, and nothing
/// comes of it: so what is offered is what is accepted, as long as the state is the same.
pub fn offered_verbs(state: &WorkflowSnapshot, context: &DecideContext<'_>) -> Vec<OfferedVerb> {
    let task = Offering { state, context };
    let mut verbs = vec![
        task.control("retry", None),
        task.pause(None),
        task.control("resume", None),
        task.control("cancel", None),
    ];
    for step in state.current_steps() {
        verbs.push(task.control("retry", Some(&step)));
        verbs.push(task.advance(&step));
        verbs.push(task.pause(Some(&step)));
        verbs.push(task.control("resume", Some(&step)));
        verbs.extend(task.assign(&step));
        let claims = state.current_visit(&step).map(|visit| &visit.assignments);
        let people = claims.into_iter().flatten().map(|claim| claim.user_id);
        verbs.extend(people.map(|person| task.release(&step, person)));
    }
    verbs
}

struct Offering<'a> {
    state: &'a WorkflowSnapshot,
    context: &'a DecideContext<'a>,
}

impl Offering<'_> {
    fn task_id(&self) -> TaskId {
        self.state.task_id
    }

    /// The verb of a command, with the decision that it gets.
    fn decided(&self, step: Option<&StepId>, command: Command) -> OfferedVerb {
        let verb = command.type_name();
        let envelope = CommandEnvelope::new(Uuid::nil(), command);
        let outcome = decide(Some(self.state), &envelope, self.context).outcome;
        let (accepted, code, detail) = match outcome {
            Outcome::Applied(_) | Outcome::Duplicate(_) => (true, None, None),
            Outcome::Rejected(rejection) => {
                let code = Some(rejection.code.as_str());
                (false, code, Some(rejection.detail))
            }
            Outcome::Undecided(why) => (false, None, Some(why.to_string())),
            Outcome::Dead(why) => (false, None, Some(why.to_string())),
        };
        OfferedVerb {
            verb,
            step_id: step.cloned(),
            user_id: None,
            needs: Vec::new(),
            accepted,
            code,
            detail,
        }
    }

    fn control(&self, verb: &str, step: Option<&StepId>) -> OfferedVerb {
        let control = Control {
            task_id: self.task_id(),
            step_id: step.map(ToString::to_string),
            reason: None,
        };
        let command = match verb {
            "retry" => Command::Retry(control),
            "resume" => Command::Resume(control),
            _ => Command::Cancel(control),
        };
        self.decided(step, command)
    }

    fn pause(&self, step: Option<&StepId>) -> OfferedVerb {
        let pause = Pause {
            task_id: self.task_id(),
            step_id: step.map(ToString::to_string),
            reason: None,
            until: None,
        };
        self.decided(step, Command::Pause(pause))
    }

    /// An `advance`; one that is accepted with an output only says so.
    fn advance(&self, step: &StepId) -> OfferedVerb {
        let advance = |output| {
            let advance = Advance {
                task_id: self.task_id(),
                step_id: Some(step.to_string()),
                output,
            };
            self.decided(Some(step), Command::Advance(advance))
        };
        let bare = advance(None);
        if bare.accepted {
            return bare;
        }
        let with_output = advance(Some(Value::Null));
        if with_output.accepted {
            OfferedVerb {
                needs: vec!["output"],
                ..with_output
            }
        } else {
            bare
        }
    }

    /// An `assign` of somebody who was not here before and has the roles that the step asks for; none
    /// where the step is not for people.
    fn assign(&self, step: &StepId) -> Option<OfferedVerb> {
        let config = self.context.workflow?.config().step(step)?;
        if !config.kind.takes_submissions() {
            return None;
        }
        let assign = Assign {
            task_id: self.task_id(),
            step_id: Some(step.to_string()),
            user_id: UserId(Uuid::nil()),
            roles: Some(config.required_roles().to_vec()),
            offered: None,
        };
        let mut needs = vec!["user_id"];
        if !config.required_roles().is_empty() {
            needs.push("roles");
        }
        Some(OfferedVerb {
            needs,
            ..self.decided(Some(step), Command::Assign(assign))
        })
    }

    fn release(&self, step: &StepId, person: UserId) -> OfferedVerb {
        let release = Release {
            task_id: self.task_id(),
            step_id: Some(step.to_string()),
            user_id: person,
            reason: None,
        };
        OfferedVerb {
            user_id: Some(person),
            ..self.decided(Some(step), Command::Release(release))
        }
    }
}
