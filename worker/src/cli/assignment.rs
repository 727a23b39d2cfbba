//! `glyph assignment`: what people hold.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;
use glyph_workflow_engine::{
    ids::{CommandId, UserId},
    limits::PAGE_MAX,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    CliError, Output, account,
    connect::{open_store, orchestrator},
    output::Table,
    submit::submit,
};
use crate::{
    operations::assignments::{HeldSlot, ReleaseAll, ReleasedSlots, held_slots},
    settings::Settings,
};

/// Verbs on claimed slots.
#[derive(Clone, Debug, Subcommand)]
pub enum AssignmentVerb {
    /// List the slots that a person has claimed; `release` frees all, `glyph task release` one
    List {
        /// User id of the person
        #[arg(long, short, value_name = "USER")]
        user: Uuid,
    },
    /// Release all slots that a person has claimed
    Release {
        /// User id of the person
        #[arg(long, short, value_name = "USER")]
        user: Uuid,
        /// Reason
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

pub(super) async fn run(
    verb: AssignmentVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        AssignmentVerb::List { user } => {
            let store = open_store(settings).await?;
            let (mut held, mut after) = (Vec::new(), None);
            loop {
                let page = held_slots(&*store, UserId(user), after, PAGE_MAX).await?;
                held.extend(page.assignments);
                after = page.next_after;
                if after.is_none() {
                    break;
                }
            }
            output.result(&json!({"assignments": held}), || list_text(&held));
            Ok(())
        }
        AssignmentVerb::Release { user, reason } => {
            let store = open_store(settings).await?;
            let id = CommandId(Uuid::now_v7());
            let release = ReleaseAll {
                user: UserId(user),
                reason,
                id,
                correlation_id: id.to_string(),
                sender: account::sender(),
            };
            let orchestrator = orchestrator(&store, settings);
            let mut report = ReleasedSlots::default();
            for (slot, command) in release.commands(&*store).await? {
                report.add(slot, submit(&orchestrator, command).await?);
            }
            output.result(&report, || released_text(&report));
            Ok(())
        }
    }
}

fn released_text(report: &ReleasedSlots) -> String {
    let mut text = format!("{} released", report.released.len());
    for kept in &report.kept {
        let (task, step, code) = (kept.slot.task_id, &kept.slot.step_id, &kept.code);
        // Writing to a String does not fail.
        let _ = write!(text, "\nkept: step {step} of task {task} ({code})");
    }
    text
}

fn list_text(held: &[HeldSlot]) -> String {
    if held.is_empty() {
        return "the person has claimed nothing".to_owned();
    }
    let mut table = Table::new(&["task", "workflow", "step", "visit", "since", "expires", ""]);
    for slot in held {
        table.row([
            slot.task_id.to_string(),
            format!("{}@{}", slot.workflow, slot.revision),
            slot.step_id.to_string(),
            slot.visit.to_string(),
            time(slot.since),
            time(slot.expires_at),
            slot.draft.as_ref().map_or("", |_| "draft").to_owned(),
        ]);
    }
    table.render(0)
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
