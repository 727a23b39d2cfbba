//! `glyph outbox`: messages that wait for the broker.

use std::{collections::HashMap, sync::Arc};

use clap::Subcommand;
use glyph_workflow_engine::{
    MessageBuilder,
    limits::PAGE_MAX,
    store::{FailedOutboxRow, OutboxMessage},
};
use serde_json::{Value, json};

use super::{
    CliError, Output,
    connect::open_store,
    output::{Table, clipped},
};
use crate::{outbox::rebuild_messages, settings::Settings, wire::CloudEventMessages};

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
    // Every kind of message, whatever is published now: the operator sees what a row is about.
    let builder: Arc<dyn MessageBuilder> = Arc::new(CloudEventMessages::default());
    let rows = refused.iter().map(|failed| failed.row.clone()).collect();
    let rebuilt = rebuild_messages(&*store, &builder, rows).await?;
    let mut first: HashMap<i64, OutboxMessage> = HashMap::new();
    for message in rebuilt.messages {
        first.entry(message.position).or_insert(message);
    }
    let documents: Vec<Value> = refused
        .iter()
        .map(|failed| document(failed, first.get(&failed.row.position)))
        .collect();
    output.result(&json!({"pending": pending, "refused": documents}), || {
        let waiting = format!("{pending} wait to be published");
        if refused.is_empty() {
            return format!("{waiting}; the broker has refused none");
        }
        format!("{}\n{waiting}", list_text(&refused, &first))
    });
    Ok(())
}

/// The message that was refused is the first of its row; the others wait behind it. None if it
/// cannot be built.
fn document(
    FailedOutboxRow { row, error }: &FailedOutboxRow,
    message: Option<&OutboxMessage>,
) -> Value {
    let range = row.content.events();
    json!({
        "message_id": message.map(|message| message.message_id),
        "task_id": row.task_id,
        "from_version": range.map(|range| range.from),
        "to_version": range.map(|range| range.to),
        "routing_key": message.map(|message| &message.routing_key),
        "attempts": row.attempts,
        "error": error,
    })
}

fn list_text(refused: &[FailedOutboxRow], first: &HashMap<i64, OutboxMessage>) -> String {
    let mut table = Table::new(&["message", "task", "key", "attempts", "error"]);
    for FailedOutboxRow { row, error } in refused {
        let message = first.get(&row.position);
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            or_none(message.map(|message| message.message_id.to_string())),
            or_none(row.task_id.map(|id| id.to_string())),
            or_none(message.map(|message| message.routing_key.clone())),
            row.attempts.to_string(),
            clipped(error, 60),
        ]);
    }
    table.render(0)
}
