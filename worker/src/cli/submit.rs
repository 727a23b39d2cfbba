//! Submits one command and shows its outcome.

use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{CommandEnvelope, Outcome, ProcessResult},
    ids::Slug,
    store::RecordedOutcome,
};
use serde_json::Value;

use super::{CliError, Output, account, api::Call, connect::orchestrator, deployment::ask};
use crate::{operations::outcome::CommandOutcome, settings::Settings};

/// Attempts of a command whose commit is unknown or whose database is briefly away.
const ATTEMPTS_MAX: u32 = 3;

/// Runs one command of the account that uses the command line, again while its commit is unknown; its id makes that safe.
pub(super) async fn submit(
    orchestrator: &WorkflowOrchestrator,
    command: CommandEnvelope,
) -> Result<Outcome, CliError> {
    let command = CommandEnvelope {
        sender: account::sender(),
        ..command
    };
    let mut attempt = 1;
    loop {
        match orchestrator
            .process_batch(vec![command.clone()], None)
            .await
        {
            Ok(mut report) => {
                return report
                    .outcomes
                    .pop()
                    .ok_or_else(|| CliError::failed("bug", "the command had no outcome"));
            }
            Err(error) if error.is_passing() && attempt < ATTEMPTS_MAX => {
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The last part of the path of the operation that takes commands of a type.
pub(super) fn operation_of(command_type: &str) -> &str {
    match command_type {
        "submission" => "submit",
        named => named,
    }
}

/// Has a command to a task carried out, by a worker where `call` can be sent to one.
pub(super) async fn carry_out(
    call: Call,
    command: CommandEnvelope,
    settings: &Settings,
) -> Result<CommandOutcome, CliError> {
    let (task_id, command_id) = (command.command.task_id(), command.command_id);
    ask(
        settings,
        call.key(command_id).asks_outcome(),
        async |store| {
            let outcome = submit(&orchestrator(store, settings), command).await?;
            Ok(CommandOutcome::of(task_id, command_id, outcome)?)
        },
    )
    .await
}

/// Prints the outcome of a command; a rejected one is a failure.
pub(super) fn show_outcome(told: CommandOutcome, output: Output) -> Result<(), CliError> {
    if output.is_json() {
        output.result(&told, String::new);
        return told.reason.map_or(Ok(()), |_| Err(CliError::Shown));
    }
    let is_repeated = told.outcome == "duplicate";
    let result = told.into_result().map_err(|(code, detail)| {
        let text = format!("rejected, {code}: {detail}");
        CliError::failed(code, text)
    })?;
    let text = result_text(result);
    let again = if is_repeated {
        " (this command was applied before)"
    } else {
        ""
    };
    output.result(&(), || format!("{text}{again}"));
    Ok(())
}

/// The result of an operator command.
pub(super) fn applied(outcome: RecordedOutcome) -> Result<Value, CliError> {
    match outcome {
        RecordedOutcome::Applied { result } => Ok(result),
        RecordedOutcome::Rejected { reason, detail } => Err(CliError::failed(reason, detail)),
    }
}

fn result_text(result: Value) -> String {
    match serde_json::from_value(result) {
        Ok(ProcessResult::Waiting { step_id, reason }) => format!("waits in {step_id}: {reason}"),
        Ok(ProcessResult::Advanced { next_steps, .. }) => {
            let steps: Vec<_> = next_steps.iter().map(Slug::as_str).collect();
            format!("waits in {}", steps.join(", "))
        }
        Ok(ProcessResult::Completed { output }) => {
            format!(
                "completed: {}",
                output.get("result").unwrap_or(&Value::Null)
            )
        }
        Ok(ProcessResult::Failed { error }) => format!("failed: {error}"),
        Err(error) => format!("applied, with a result that cannot be read: {error}"),
    }
}
