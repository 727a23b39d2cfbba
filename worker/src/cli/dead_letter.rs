//! `glyph dead-letter`: commands that could not be read or decided, kept for an operator.

use std::{collections::BTreeMap, fmt::Write as _};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    CliError, Output,
    deployment::Deployment,
    edit::{EditArgs, edited, marked},
    job::{ReplayArgs, create_and_follow},
    letters::Letters,
    output::{Table, clipped, grouped},
};
use crate::{
    dead_letters::DeadLetter,
    jobs::{JobKind, Selection},
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
        /// Only those with this reason
        #[arg(long, value_name = "REASON")]
        reason: Option<String>,
        /// Count them by reason instead
        #[arg(long, conflicts_with = "set_aside")]
        by_reason: bool,
        /// List commands that were set aside instead: they are not dead, and tried again each minute
        #[arg(long, conflicts_with = "reason")]
        set_aside: bool,
    },
    /// Show one dead letter with its body, properties and headers
    Show {
        /// Letter or command id, as shown by `list`
        letter: String,
    },
    /// Change the body of a dead letter; everything else stays, and it can be replayed then
    Edit {
        /// Letter or command id, as shown by `list`
        letter: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Try dead letters again: one, ten, a hundredth, then the rest. Stops by itself
    Replay {
        #[command(flatten)]
        selection: LetterSelection,
        #[command(flatten)]
        replay: ReplayArgs,
    },
    /// Delete dead letters
    Drop(LetterSelection),
}

/// Which dead letters.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct LetterSelection {
    /// Letters or command ids, as shown by `list`
    #[arg(value_name = "LETTER")]
    ids: Vec<String>,
    /// All with this reason, as task_not_found
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// All
    #[arg(long)]
    all: bool,
}

impl LetterSelection {
    fn selection(&self) -> Selection {
        Selection {
            ids: self.ids.clone(),
            reason: self.reason.clone(),
            ..Selection::default()
        }
    }

    /// What it picks, by reason. Fails if one that is named is no dead letter, or if something is
    /// said and nothing matches, before anything is done.
    async fn check(
        &self,
        letters: &Letters,
        output: Output,
    ) -> Result<BTreeMap<String, u64>, CliError> {
        let reasons = letters.count(&self.selection(), output).await?;
        if reasons.is_empty() && !self.all {
            let text = "no dead letter matches; `glyph dead-letter list` shows them";
            return Err(CliError::failed("dead_letter_not_found", text));
        }
        Ok(reasons)
    }
}

pub(super) async fn run(
    verb: DeadLetterVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let letters = Letters::open(settings).await?;
    match verb {
        DeadLetterVerb::List {
            reason,
            by_reason: true,
            ..
        } => {
            let of_reason = Selection {
                reason,
                ..Selection::default()
            };
            let counts = letters.count(&of_reason, output).await?;
            output.result(&json!({"reasons": counts}), || reasons_text(&counts));
        }
        DeadLetterVerb::List {
            limit,
            reason,
            set_aside,
            ..
        } => {
            let found = if set_aside {
                letters.set_aside(limit).await?
            } else {
                letters.list(limit, reason.as_deref(), output).await?
            };
            output.result(&json!({"dead_letters": found}), || list_text(&found));
        }
        DeadLetterVerb::Show { letter } => {
            let letter = letters.find(&letter).await?;
            output.result(&letter, || show_text(&letter));
        }
        DeadLetterVerb::Edit { letter, edit } => {
            let change = |body: &[u8]| changed(body, &edit);
            let (before, now) = letters.edit(&letter, change).await?;
            output.result(&json!({"letter": now, "edited": before}), || match &now {
                Some(now) => format!("edited; try it: glyph dead-letter replay {now}"),
                None => "edited".to_owned(),
            });
        }
        DeadLetterVerb::Replay { selection, replay } => {
            let reasons = selection.check(&letters, output).await?;
            let total: u64 = reasons.values().sum();
            if replay.dry_run || total == 0 {
                let document = json!({"would_replay": total, "reasons": reasons});
                output.result(&document, || {
                    format!(
                        "{} would be replayed\n{}",
                        grouped(total),
                        reasons_text(&reasons)
                    )
                });
                return Ok(());
            }
            let deployment = Deployment::open(settings).await?;
            let spec = replay.spec(JobKind::ReplayDeadLetters, selection.selection());
            create_and_follow(&deployment, &spec, &replay, output).await?;
        }
        DeadLetterVerb::Drop(selection) => {
            selection.check(&letters, output).await?;
            let count = letters.remove(&selection.selection()).await?;
            output.result(&json!({"dropped": count}), || {
                format!("{count} thrown away")
            });
        }
    }
    Ok(())
}

/// The new body of a letter, which must be another one.
fn changed(body: &[u8], edit: &EditArgs) -> Result<Vec<u8>, CliError> {
    let changed = edited(body, edit)?;
    if changed == body {
        let text = "the body is the same; nothing was changed";
        return Err(CliError::failed("unchanged", text));
    }
    Ok(changed)
}

pub(super) fn reasons_text(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let mut table = Table::new(&["reason", "count"]);
    for (reason, count) in counts {
        table.row([reason.clone(), grouped(*count)]);
    }
    table.render(0)
}

fn list_text(letters: &[DeadLetter]) -> String {
    if letters.is_empty() {
        return "none".to_owned();
    }
    let mut table = Table::new(&[
        "letter",
        "command",
        "key",
        "reason",
        "attempts",
        "first failed",
        "error",
    ]);
    for letter in letters {
        table.row([
            letter.letter.clone(),
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
    table.row(["letter", &letter.letter]);
    table.row(["command", letter.command_id.as_deref().unwrap_or("-")]);
    table.row(["task", letter.task_id.as_deref().unwrap_or("-")]);
    table.row(["key", &letter.routing_key]);
    table.row(["reason", &letter.reason]);
    table.row(["error", letter.error.as_deref().unwrap_or("-")]);
    table.row(["attempts", &letter.attempts.to_string()]);
    table.row([
        "first failed",
        letter.first_failed_at.as_deref().unwrap_or("-"),
    ]);
    table.row(["bytes", &letter.bytes.to_string()]);
    let mut text = table.render(0);
    let mut section = |name: &str, fields: Vec<(&String, &serde_json::Value)>| {
        if fields.is_empty() {
            return;
        }
        let mut table = Table::plain();
        for (name, value) in fields {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            table.row([name.clone(), value]);
        }
        let _ = write!(text, "\n\n{name}\n{}", table.render(2));
    };
    section("properties", letter.properties.iter().collect());
    section("headers", letter.producers_headers().collect());
    let body = marked(&letter.body, letter.error.as_deref());
    format!("{text}\n\n{body}")
}
