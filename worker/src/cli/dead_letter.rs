//! `glyph dead-letter`: commands that could not be read or decided, kept for an operator.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    CliError, Output,
    connect::dead_letters,
    output::{Table, clipped},
};
use crate::{
    broker::{DeadLetter, DeadLetters},
    settings::Settings,
};

/// Verbs on dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum DeadLetterVerb {
    /// List dead letters, oldest first
    List {
        /// Maximum number of dead letters
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        limit: usize,
        /// List commands that were set aside instead: they are not dead, and tried again each minute
        #[arg(long)]
        set_aside: bool,
    },
    /// Show one dead letter with its body
    Show {
        /// Command id, as shown by `list`
        command_id: String,
    },
    /// Enqueue dead letters again
    Replay(Selection),
    /// Delete dead letters
    Drop(Selection),
}

/// Which dead letters.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Selection {
    /// Command ids, as shown by `list`
    command_ids: Vec<String>,
    /// All with this reason, as task_not_found
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// All
    #[arg(long)]
    all: bool,
}

impl Selection {
    fn picks(&self, letter: &DeadLetter, ids: &BTreeSet<String>) -> bool {
        self.all
            || self
                .reason
                .as_ref()
                .is_some_and(|reason| *reason == letter.reason)
            || letter
                .command_id
                .as_ref()
                .is_some_and(|id| ids.contains(&id.to_lowercase()))
    }

    /// The commands that are named. Fails if one of them is not a dead letter, before anything is
    /// done.
    async fn known_ids(&self, queue: &dyn DeadLetters) -> Result<BTreeSet<String>, CliError> {
        let mut missing = self.ids();
        if !missing.is_empty() {
            for letter in queue.list(usize::MAX).await? {
                missing.remove(&letter.command_id.unwrap_or_default().to_lowercase());
            }
        }
        match missing.first() {
            None => Ok(self.ids()),
            Some(id) => Err(CliError::not_found("dead_letter", id)),
        }
    }

    fn ids(&self) -> BTreeSet<String> {
        // Ids of unreadable commands can be any text; a UUID is normalized to one spelling.
        self.command_ids
            .iter()
            .map(|id| id.to_lowercase())
            .collect()
    }

    /// Fails if the selection names something and nothing matched.
    fn check_any(&self, count: usize) -> Result<(), CliError> {
        if count == 0 && !self.all {
            let text = "no dead letter matches; `glyph dead-letter list` shows them";
            return Err(CliError::failed("dead_letter_not_found", text));
        }
        Ok(())
    }
}

pub(super) async fn run(
    verb: DeadLetterVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let queue = dead_letters(settings).await?;
    match verb {
        DeadLetterVerb::List { limit, set_aside } => {
            let letters = if set_aside {
                queue.set_aside(limit).await?
            } else {
                queue.list(limit).await?
            };
            output.result(&json!({"dead_letters": letters}), || list_text(&letters));
        }
        DeadLetterVerb::Show { command_id } => {
            let names = |letter: &DeadLetter| {
                letter
                    .command_id
                    .as_ref()
                    .is_some_and(|id| id.eq_ignore_ascii_case(&command_id))
            };
            let letter = queue.list(usize::MAX).await?.into_iter().find(names);
            let letter = letter.ok_or_else(|| CliError::not_found("dead_letter", &command_id))?;
            output.result(&letter, || show_text(&letter));
        }
        DeadLetterVerb::Replay(selection) => {
            let ids = selection.known_ids(&*queue).await?;
            let count = queue
                .replay(&|letter| selection.picks(letter, &ids))
                .await?;
            selection.check_any(count)?;
            output.result(&json!({"replayed": count}), || {
                format!("{count} enqueued again")
            });
        }
        DeadLetterVerb::Drop(selection) => {
            let ids = selection.known_ids(&*queue).await?;
            // Called through its trait: `Box` has a `drop` of its own.
            let picks = |letter: &DeadLetter| selection.picks(letter, &ids);
            let count = DeadLetters::drop(&*queue, &picks).await?;
            selection.check_any(count)?;
            output.result(&json!({"dropped": count}), || {
                format!("{count} thrown away")
            });
        }
    }
    Ok(())
}

fn list_text(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "none".to_owned();
    }
    let mut table = Table::new(&[
        "command",
        "key",
        "reason",
        "attempts",
        "first failed",
        "error",
    ]);
    for letter in letters {
        table.row([
            letter.command_id.clone().unwrap_or_else(|| "-".to_owned()),
            letter.routing_key.clone(),
            letter.reason.clone(),
            letter.attempts.to_string(),
            letter
                .first_failed_at
                .clone()
                .unwrap_or_else(|| "-".to_owned()),
            clipped(letter.error.as_deref().unwrap_or_default(), 60),
        ]);
    }
    table.render(0)
}

fn show_text(letter: &DeadLetter) -> String {
    let mut table = Table::plain();
    table.row(["command", letter.command_id.as_deref().unwrap_or("-")]);
    table.row(["key", &letter.routing_key]);
    table.row(["reason", &letter.reason]);
    table.row(["error", letter.error.as_deref().unwrap_or("-")]);
    table.row(["attempts", &letter.attempts.to_string()]);
    table.row([
        "first failed",
        letter.first_failed_at.as_deref().unwrap_or("-"),
    ]);
    table.row(["bytes", &letter.bytes.to_string()]);
    format!("{}\n\n{}", table.render(0), letter.body)
}
