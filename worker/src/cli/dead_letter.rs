//! `glyph dead-letter`: commands that could not be read or decided, kept for an operator.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    CliError, Output, account,
    connect::{dead_letters, open_store},
    edit::{EditArgs, edited, marked},
    job::{ReplayArgs, create_and_follow},
    output::{Table, clipped, grouped},
};
use crate::{
    dead_letters::{DeadLetter, DeadLetters, Letter, Visit},
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
    async fn check(&self, queue: &dyn DeadLetters) -> Result<BTreeMap<String, u64>, CliError> {
        let selection = self.selection();
        let mut missing: BTreeSet<String> = self.ids.iter().cloned().collect();
        let mut reasons = BTreeMap::new();
        queue
            .visit(&mut |handle, letter| {
                if selection.picks(handle, letter) {
                    *reasons.entry(letter.reason()).or_default() += 1;
                    let id = letter.command_id().unwrap_or_default();
                    missing.retain(|named| named != handle && !named.eq_ignore_ascii_case(&id));
                }
                Visit::Leave
            })
            .await?;
        if let Some(id) = missing.first() {
            return Err(CliError::not_found("dead_letter", id));
        }
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
    let queue = dead_letters(settings).await?;
    match verb {
        DeadLetterVerb::List {
            limit,
            reason,
            by_reason,
            set_aside,
        } => {
            if by_reason {
                let counts = count_by_reason(&*queue, reason.as_deref()).await?;
                output.result(&json!({"reasons": counts}), || reasons_text(&counts));
                return Ok(());
            }
            let letters = if set_aside {
                queue.set_aside(limit).await?
            } else {
                listed(&*queue, limit, reason.as_deref()).await?
            };
            output.result(&json!({"dead_letters": letters}), || list_text(&letters));
        }
        DeadLetterVerb::Show { letter } => {
            let (handle, letter) = find(&*queue, &letter).await?;
            let letter = letter.shown(&handle);
            output.result(&letter, || show_text(&letter));
        }
        DeadLetterVerb::Edit { letter, edit } => {
            let (handle, letter) = find(&*queue, &letter).await?;
            edit_letter(&*queue, &handle, letter, &edit, output).await?;
        }
        DeadLetterVerb::Replay { selection, replay } => {
            let reasons = selection.check(&*queue).await?;
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
            let store = open_store(settings).await?;
            let spec = replay.spec(JobKind::ReplayDeadLetters, selection.selection());
            create_and_follow(&*store, &spec, &replay, output).await?;
        }
        DeadLetterVerb::Drop(selection) => {
            selection.check(&*queue).await?;
            let picked = selection.selection();
            let count = queue
                .remove(&|handle, letter| picked.picks(handle, letter))
                .await?;
            tracing::info!(count, actor = account::actor(), "dead letters were dropped");
            output.result(&json!({"dropped": count}), || {
                format!("{count} thrown away")
            });
        }
    }
    Ok(())
}

async fn listed(
    queue: &dyn DeadLetters,
    limit: usize,
    reason: Option<&str>,
) -> Result<Vec<DeadLetter>, CliError> {
    let mut letters = Vec::new();
    queue
        .visit(&mut |handle, letter| {
            if letters.len() >= limit {
                return Visit::End;
            }
            if reason.is_none_or(|reason| reason == letter.reason()) {
                letters.push(letter.shown(handle));
            }
            Visit::Leave
        })
        .await?;
    Ok(letters)
}

async fn count_by_reason(
    queue: &dyn DeadLetters,
    reason: Option<&str>,
) -> Result<BTreeMap<String, u64>, CliError> {
    let mut counts = BTreeMap::new();
    queue
        .visit(&mut |_, letter| {
            let found = letter.reason();
            if reason.is_none_or(|reason| reason == found) {
                *counts.entry(found).or_default() += 1;
            }
            Visit::Leave
        })
        .await?;
    Ok(counts)
}

/// The letter of that handle, or else the oldest one of that command id.
async fn find(queue: &dyn DeadLetters, named: &str) -> Result<(String, Letter), CliError> {
    let selection = Selection {
        ids: vec![named.to_owned()],
        ..Selection::default()
    };
    let mut found: Option<(String, Letter)> = None;
    queue
        .visit(&mut |handle, letter| {
            if handle == named || found.is_none() && selection.picks(handle, letter) {
                found = Some((handle.to_owned(), letter.clone()));
            }
            if handle == named {
                Visit::End
            } else {
                Visit::Leave
            }
        })
        .await?;
    found.ok_or_else(|| CliError::not_found("dead_letter", named))
}

async fn edit_letter(
    queue: &dyn DeadLetters,
    handle: &str,
    letter: Letter,
    edit: &EditArgs,
    output: Output,
) -> Result<(), CliError> {
    let body = edited(&letter.body, edit)?;
    if body == letter.body {
        return Err(CliError::failed(
            "unchanged",
            "the body is the same; nothing was changed",
        ));
    }
    let letter = letter.edited(body, &account::actor()).map_err(|error| {
        CliError::failed(error.code.as_str(), format!("{error}; nothing was changed"))
    })?;
    let body = letter.body.clone();
    if !queue.replace(handle, letter).await? {
        return Err(CliError::not_found("dead_letter", handle));
    }
    // It has another content, and so another handle.
    let now = queue.handle_of(&body).await?;
    output.result(&json!({"letter": now, "edited": handle}), || match &now {
        Some(now) => format!("edited; try it: glyph dead-letter replay {now}"),
        None => "edited".to_owned(),
    });
    Ok(())
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
