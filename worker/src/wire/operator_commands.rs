//! Operator commands from HTTP and the CLI.

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    command::{OperatorCommand, OperatorEnvelope},
    goals::GoalStatement,
    ids::{CommandId, Slug, UserId, WorkflowId},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    body::{parse_or_empty, typed},
    bounds::{check_reason, check_time},
    unreadable::{CommandFault, Unreadable},
};

/// An operator command on a workflow, or on an annotator in it: verb, workflow and id come from
/// outside the body.
#[derive(Clone, Debug)]
pub struct OperatorRequest<'a> {
    /// The operation.
    pub verb: PauseVerb,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The idempotency key.
    pub command_id: CommandId,
    /// The correlation id, by which the caller follows a piece of work.
    pub correlation_id: Option<&'a str>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// Who sends it.
    pub actor: Option<&'a str>,
    /// The JSON; an empty body is an empty object.
    pub body: &'a [u8],
}

/// Operations on a whole workflow, and on annotators in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseVerb {
    /// Pauses all its tasks.
    Pause,
    /// Resumes all its tasks.
    Resume,
    /// Pauses all its tasks until it is restored, and leaves it out of lists.
    Archive,
    /// Restores it from the archive.
    Restore,
    /// Offers no more slots to an annotator.
    PauseAnnotator(UserId),
    /// Offers slots to an annotator again.
    ResumeAnnotator(UserId),
}

/// The body of a command that needs only a reason.
#[derive(Deserialize, JsonSchema)]
pub struct ReasonBody {
    /// Why.
    reason: Option<String>,
}

/// The body of an operator command.
#[derive(Deserialize, JsonSchema)]
pub struct OperatorBody {
    /// Why.
    reason: Option<String>,
    /// When a pause ends by itself, RFC 3339.
    until: Option<DateTime<Utc>>,
}

/// Reads a body that holds only a reason.
pub fn read_reason(command_id: CommandId, body: &[u8]) -> Result<Option<String>, Unreadable> {
    let read = || -> Result<Option<String>, CommandFault> {
        let ReasonBody { reason } = typed(parse_or_empty(body)?)?;
        check_reason(reason.as_deref())?;
        Ok(reason)
    };
    read().map_err(|fault| fault.into_unreadable(Some(command_id)))
}

/// Reads an operator command on a workflow; unknown fields are ignored, as in commands.
pub fn read_operator_command(
    request: &OperatorRequest<'_>,
) -> Result<OperatorEnvelope, Unreadable> {
    let read = || -> Result<OperatorCommand, CommandFault> {
        let OperatorBody { reason, until } = typed(parse_or_empty(request.body)?)?;
        check_reason(reason.as_deref())?;
        check_time("until", until)?;
        let workflow = request.workflow.clone();
        Ok(match request.verb {
            PauseVerb::Pause => OperatorCommand::WorkflowPause {
                workflow,
                reason,
                until,
            },
            PauseVerb::Resume => OperatorCommand::WorkflowResume {
                workflow,
                reason,
                ran_out: None,
            },
            PauseVerb::Archive => OperatorCommand::WorkflowArchive { workflow, reason },
            PauseVerb::Restore => OperatorCommand::WorkflowRestore { workflow, reason },
            PauseVerb::PauseAnnotator(user_id) => OperatorCommand::AnnotatorPause {
                workflow,
                user_id,
                reason,
                fallen_at: None,
            },
            PauseVerb::ResumeAnnotator(user_id) => OperatorCommand::AnnotatorResume {
                workflow,
                user_id,
                reason,
                by_rule: false,
            },
        })
    };
    let operator_command =
        read().map_err(|fault| fault.into_unreadable(Some(request.command_id)))?;
    Ok(OperatorEnvelope {
        command_id: request.command_id,
        correlation_id: request.correlation_id.map(str::to_owned),
        traceparent: request.traceparent.map(str::to_owned),
        actor: request.actor.map(str::to_owned),
        operator_command,
    })
}

/// Reads a person's confirmation that a goal is reached: the operator command, and the person's
/// comment.
pub fn read_completion(
    request: &CompletionRequest<'_>,
) -> Result<(OperatorEnvelope, GoalStatement), Unreadable> {
    let read = || -> Result<GoalStatement, CommandFault> {
        let mut statement: GoalStatement = typed(parse_or_empty(request.body)?)?;
        check_reason(statement.reason.as_deref())?;
        statement.user_id = request.user.or(statement.user_id);
        Ok(statement)
    };
    let statement = read().map_err(|fault| fault.into_unreadable(Some(request.command_id)))?;
    let operator_command = OperatorCommand::GoalComplete {
        workflow: request.workflow.clone(),
        goal: request.goal.clone(),
        statement: statement.clone(),
    };
    let envelope = OperatorEnvelope {
        command_id: request.command_id,
        correlation_id: request.correlation_id.map(str::to_owned),
        traceparent: request.traceparent.map(str::to_owned),
        actor: request.actor.map(str::to_owned),
        operator_command,
    };
    Ok((envelope, statement))
}

/// A person's confirmation that a goal is reached: goal and id come from outside the body.
#[derive(Clone, Debug)]
pub struct CompletionRequest<'a> {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal.
    pub goal: Slug,
    /// The user of the caller's token.
    pub user: Option<UserId>,
    /// The idempotency key.
    pub command_id: CommandId,
    /// The correlation id, by which the caller follows a piece of work.
    pub correlation_id: Option<&'a str>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// Who sends it.
    pub actor: Option<&'a str>,
    /// The JSON; an empty body is an empty object.
    pub body: &'a [u8],
}
