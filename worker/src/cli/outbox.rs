//! `glyph outbox`: messages that wait for the broker.

use clap::Subcommand;
use glyph_workflow_engine::{limits::PAGE_MAX, store::FailedOutboxRow};
use serde_json::{Value, json};

use super::{
    CliError, Output,
    connect::open_store,
    output::{Table, clipped},
};
use crate::settings::Settings;

/// Verbs on messages that wait.
#[derive(Clone, Debug, Subcommand)]
pub enum OutboxVerb {
    /// List messages that the broker has refused, oldest first, with the reason; each is retried, and
    /// delays the later messages of its task
    List {
        /// Maximum number of messages
        #[arg(long, value_name = "N", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
        limit: u32,
    },
}

pub(super) async fn run(
    verb: OutboxVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let OutboxVerb::List { limit } = verb;
    let store = open_store(settings).await?;
    let pending = store.outbox_stats().await?.pending;
    let refused = store.outbox_failed(limit).await?;
    let rows: Vec<Value> = refused.iter().map(document).collect();
    output.result(&json!({"pending": pending, "refused": rows}), || {
        let waiting = format!("{pending} wait to be published");
        if refused.is_empty() {
            return format!("{waiting}; the broker has refused none");
        }
        format!("{}\n{waiting}", list_text(&refused))
    });
    Ok(())
}

fn document(FailedOutboxRow { row, error }: &FailedOutboxRow) -> Value {
    json!({
        "message_id": row.message_id,
        "task_id": row.task_id,
        "routing_key": row.routing_key,
        "attempts": row.attempts,
        "error": error,
    })
}

fn list_text(refused: &[FailedOutboxRow]) -> String {
    let mut table = Table::new(&["message", "task", "key", "attempts", "error"]);
    for FailedOutboxRow { row, error } in refused {
        table.row([
            row.message_id.to_string(),
            row.task_id
                .map_or_else(|| "-".to_owned(), |id| id.to_string()),
            row.routing_key.clone(),
            row.attempts.to_string(),
            clipped(error, 60),
        ]);
    }
    table.render(0)
}
