//! `glyph assignment`: what people hold.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;
use glyph_workflow_engine::{ids::UserId, limits::PAGE_MAX};
use serde_json::json;
use uuid::Uuid;

use super::{CliError, Output, connect::open_store, output::Table};
use crate::{
    operations::assignments::{HeldSlot, held_slots},
    settings::Settings,
};

/// Verbs on claimed slots.
#[derive(Clone, Debug, Subcommand)]
pub enum AssignmentVerb {
    /// List the slots that a person has claimed; `glyph task release` frees one
    List {
        /// User id of the person
        #[arg(long, short, value_name = "USER")]
        user: Uuid,
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
    }
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
