//! `glyph outbox`: messages that wait for the broker.

use clap::Subcommand;
use glyph_workflow_engine::limits::PAGE_MAX;
use uuid::Uuid;

use super::{
    CliError, Output, account,
    api::Call,
    deployment::ask,
    output::{Table, clipped},
};
use crate::{
    operations::outbox::{DropFailure, DroppedMessage, HeldMessage, OutboxList, drop_refused},
    settings::Settings,
};

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
    /// Give up one message that the broker has refused, or what cannot be read: no consumer gets it, and
    /// the later messages of its task go out. The task stays as it is, and `events replay` can send the
    /// message later
    Drop {
        /// Message id, as shown by `list`
        message_id: Uuid,
    },
}

pub(super) async fn run(
    verb: OutboxVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        OutboxVerb::List { limit } => {
            let call = Call::get(&[&"outbox"]).query("limit", Some(limit));
            let list: OutboxList = ask(settings, call, async |store| {
                Ok(OutboxList::read(&**store, limit).await?)
            })
            .await?;
            output.result(&list, || list_text(&list));
        }
        OutboxVerb::Drop { message_id } => {
            let call = Call::post(&[&"outbox", &message_id, &"drop"]);
            let dropped: DroppedMessage = ask(settings, call, async |store| {
                let dropped = drop_refused(&**store, message_id).await?;
                let (actor, key) = (account::actor(), key_of(&dropped));
                tracing::warn!(%message_id, routing_key = key, actor, "a refused message was given up");
                Ok(dropped)
            })
            .await?;
            output.result(&dropped, || {
                let key = key_of(&dropped);
                format!("given up: {key} {message_id}\n{}", dropped.consequence)
            });
        }
    }
    Ok(())
}

/// What kind of message was given up.
fn key_of(dropped: &DroppedMessage) -> &str {
    dropped.routing_key.as_deref().unwrap_or("unreadable")
}

impl From<DropFailure> for CliError {
    fn from(failure: DropFailure) -> Self {
        match failure {
            DropFailure::NotRefused(_) => Self::failed(
                "refused_message_not_found",
                format!("{failure}; `glyph outbox list` shows them"),
            ),
            DropFailure::BeingSent(_) => Self::failed("being_sent", failure.to_string()),
            DropFailure::Store(error) => error.into(),
        }
    }
}

fn list_text(list: &OutboxList) -> String {
    let waiting = format!("{} wait to be published", list.pending);
    if list.refused.is_empty() {
        return format!("{waiting}; the broker has refused none");
    }
    let mut table = Table::new(&["message", "task", "key", "attempts", "error"]);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for HeldMessage {
        message_id,
        task_id,
        routing_key,
        attempts,
        error,
        ..
    } in &list.refused
    {
        table.row([
            message_id.to_string(),
            or_none(task_id.map(|id| id.to_string())),
            or_none(routing_key.clone()),
            attempts.to_string(),
            clipped(error, 60),
        ]);
    }
    format!("{}\n{waiting}", table.render(0))
}
