//! `glyph rejected`: commands rejected by the state or the rules; their payload is kept.

use clap::Subcommand;
use glyph_workflow_engine::{
    ids::{CommandId, TaskId},
    limits::PAGE_MAX,
    store::{CommandPage, CommandRow, RecordedOutcome, Store},
};
use uuid::Uuid;

use super::{
    CliError, Output,
    connect::{open_store, orchestrator},
    output::{Table, clipped},
    submit::{envelope_of, show_outcome, submit},
};
use crate::settings::Settings;

/// Maximum replays of one command; if more are needed, the reason deserves a look.
const REPLAYS_MAX: u32 = 1_000;

/// Verbs on rejected commands.
#[derive(Clone, Debug, Subcommand)]
pub enum RejectedVerb {
    /// List rejected commands, newest first
    List {
        /// Only commands of this task
        #[arg(long, value_name = "TASK")]
        task: Option<Uuid>,
        /// Continue after this command
        #[arg(long, value_name = "COMMAND_ID")]
        after: Option<Uuid>,
        /// Maximum number of commands
        #[arg(long, value_name = "N", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
        limit: u32,
    },
    /// Show one rejected command with its payload
    Show {
        /// Command id
        command_id: Uuid,
    },
    /// Run a rejected command again, under an id derived from its own
    Replay {
        /// Command id
        command_id: Uuid,
    },
}

pub(super) async fn run(
    verb: RejectedVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let store = open_store(settings).await?;
    match verb {
        RejectedVerb::List { task, after, limit } => {
            let page = store
                .rejected(task.map(TaskId), after.map(CommandId), limit)
                .await?;
            output.result(&page, || list_text(&page));
        }
        RejectedVerb::Show { command_id } => {
            let row = rejected(&*store, CommandId(command_id)).await?;
            output.result(&row, || show_text(&row));
        }
        RejectedVerb::Replay { command_id } => {
            let row = rejected(&*store, CommandId(command_id)).await?;
            let payload = row.payload.as_ref().ok_or_else(|| {
                CliError::failed(
                    "no_payload",
                    format!("command {command_id} kept no payload"),
                )
            })?;
            let id = next_replay(&*store, row.command_id).await?;
            let command = envelope_of(payload, id)?;
            let task_id = command.command.task_id();
            let outcome = submit(&orchestrator(&store, settings), command).await?;
            output.note(&format!("replayed as command {id}"));
            show_outcome(task_id, id, outcome, output)?;
        }
    }
    Ok(())
}

async fn rejected(store: &dyn Store, id: CommandId) -> Result<CommandRow, CliError> {
    let row = store.command(id).await?;
    let row = row.ok_or_else(|| CliError::not_found("command", id))?;
    match row.outcome {
        RecordedOutcome::Rejected { .. } => Ok(row),
        RecordedOutcome::Applied { .. } => Err(CliError::failed(
            "not_rejected",
            format!("command {id} was applied"),
        )),
    }
}

/// The first unused id derived from the command and a counter: a replay that was interrupted is not
/// repeated, and one that was rejected again can be.
async fn next_replay(store: &dyn Store, id: CommandId) -> Result<CommandId, CliError> {
    for count in 1..=REPLAYS_MAX {
        let derived = CommandId(Uuid::new_v5(&id.0, count.to_string().as_bytes()));
        match store.command(derived).await? {
            Some(CommandRow {
                outcome: RecordedOutcome::Applied { .. },
                ..
            }) => {
                return Err(CliError::failed(
                    "already_replayed",
                    format!("command {id} was replayed as {derived}, and that was applied"),
                ));
            }
            Some(_) => {}
            None => return Ok(derived),
        }
    }
    let text = format!("command {id} was replayed {REPLAYS_MAX} times and rejected each time");
    Err(CliError::failed("replays_exhausted", text))
}

fn reason_of(row: &CommandRow) -> (&str, &str) {
    match &row.outcome {
        RecordedOutcome::Rejected { reason, detail } => (reason, detail),
        RecordedOutcome::Applied { .. } => ("", ""),
    }
}

fn list_text(page: &CommandPage) -> String {
    if page.commands.is_empty() {
        return "no rejected commands".to_owned();
    }
    let mut table = Table::new(&["command", "type", "task", "reason", "at", "detail"]);
    for row in &page.commands {
        let (reason, detail) = reason_of(row);
        table.row([
            row.command_id.to_string(),
            row.command_type.clone(),
            row.task_id.map(|task| task.to_string()).unwrap_or_default(),
            reason.to_owned(),
            row.decided_at.format("%F %T").to_string(),
            clipped(detail, 60),
        ]);
    }
    let more = page
        .next_after
        .map(|id| format!("\nmore: add --after {id}"));
    format!("{}{}", table.render(0), more.unwrap_or_default())
}

fn show_text(row: &CommandRow) -> String {
    let (reason, detail) = reason_of(row);
    let mut table = Table::plain();
    table.row(["command", &row.command_id.to_string()]);
    table.row(["type", &row.command_type]);
    table.row([
        "task",
        &row.task_id.map(|task| task.to_string()).unwrap_or_default(),
    ]);
    table.row(["reason", reason]);
    table.row(["detail", detail]);
    table.row(["at", &row.decided_at.to_rfc3339()]);
    let payload = row
        .payload
        .as_ref()
        .and_then(|p| serde_json::to_string_pretty(p).ok());
    format!("{}\n\n{}", table.render(0), payload.unwrap_or_default())
}
