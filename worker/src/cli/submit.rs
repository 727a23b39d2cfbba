//! Submits one command and shows its outcome.

use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{CommandEnvelope, Outcome, ProcessResult},
    ids::{CommandId, Slug, TaskId},
    store::RecordedOutcome,
};
use serde_json::{Value, json};

use super::{CliError, Output, account};

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

/// Prints the outcome of a command; a rejected one is a failure.
pub(super) fn show_outcome(
    task_id: TaskId,
    command_id: CommandId,
    outcome: Outcome,
    output: Output,
) -> Result<(), CliError> {
    let name = outcome.name();
    let (result, repeated) = match outcome {
        Outcome::Applied(result) => (serde_json::to_value(result).unwrap_or_default(), false),
        Outcome::Duplicate(RecordedOutcome::Applied { result }) => (result, true),
        Outcome::Rejected(rejection) => {
            let (code, detail) = (rejection.code.as_str(), rejection.detail.as_str());
            return refused((task_id, command_id), name, (code, detail), output);
        }
        Outcome::Duplicate(RecordedOutcome::Rejected { reason, detail }) => {
            return refused((task_id, command_id), name, (&reason, &detail), output);
        }
        Outcome::Undecided(undecided) => return Err(undecided.into()),
        Outcome::Dead(dead) => return Err(dead.into()),
    };
    let document = json!({
        "task_id": task_id, "command_id": command_id, "outcome": name, "result": result,
    });
    output.result(&document, || {
        let text = result_text(result);
        if repeated {
            format!("{text} (this command was applied before)")
        } else {
            text
        }
    });
    Ok(())
}

fn refused(
    (task_id, command_id): (TaskId, CommandId),
    outcome: &str,
    (code, detail): (&str, &str),
    output: Output,
) -> Result<(), CliError> {
    if !output.is_json() {
        return Err(CliError::failed(
            code,
            format!("rejected, {code}: {detail}"),
        ));
    }
    let document = json!({
        "task_id": task_id, "command_id": command_id, "outcome": outcome, "reason": code,
        "detail": detail,
    });
    output.result(&document, String::new);
    Err(CliError::Shown)
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
