//! Where an import sends its commands: to the broker, or to a worker over HTTP.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use glyph_workflow_engine::ids::TaskId;
use serde_json::{Map, Value};

use super::{
    CliError,
    api::{Api, Call},
    connect::Publisher,
    publish::{command_publication, publish_window},
    submit::operation_of,
};
use crate::{
    operations::{import::ImportedCommand, outcome::CommandOutcome},
    settings::Settings,
};

/// Tasks whose commands are at a worker at a time.
const TASKS_AT_ONCE: usize = 16;

/// Where commands go.
pub(super) enum Sink {
    /// To the queues.
    Broker(Publisher),
    /// To a worker, which decides each at once.
    Api(Api),
}

/// What became of commands that were sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) count: u64,
    /// Those that were rejected; none where they are decided later.
    pub(super) rejected: Option<u64>,
}

impl Sent {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            rejected: match (self.rejected, other.rejected) {
                (Some(one), Some(two)) => Some(one + two),
                (one, two) => one.or(two),
            },
        }
    }
}

impl Sink {
    pub(super) async fn open(settings: &Settings) -> Result<Self, CliError> {
        match Api::of(settings)? {
            Some(api) => Ok(Self::Api(api)),
            None => Publisher::connect(settings).await.map(Self::Broker),
        }
    }

    /// Sends commands. Returns once the broker has confirmed them all, or a worker has decided them.
    pub(super) async fn send(&self, window: Vec<ImportedCommand>) -> Result<Sent, CliError> {
        match self {
            Self::Broker(broker) => {
                let window = window.into_iter().map(|command| {
                    let id = command.command_id.to_string();
                    command_publication(command.command_type, id, command.body.into_bytes().into())
                });
                let count = publish_window(broker.get(), window.collect()).await?;
                Ok(Sent {
                    count,
                    rejected: None,
                })
            }
            Self::Api(api) => {
                let mut tasks: BTreeMap<TaskId, Vec<ImportedCommand>> = BTreeMap::new();
                for command in window {
                    tasks.entry(command.task_id).or_default().push(command);
                }
                let tasks =
                    stream::iter(tasks.into_values().map(|commands| in_order(api, commands)));
                let sent = tasks.buffer_unordered(TASKS_AT_ONCE);
                sent.try_fold(Sent::default(), async |all, sent| Ok(all.and(sent)))
                    .await
            }
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Broker(broker) => broker.close().await,
            Self::Api(_) => {}
        }
    }
}

/// Has the commands of a task decided one after the other: the first one starts it.
async fn in_order(api: &Api, commands: Vec<ImportedCommand>) -> Result<Sent, CliError> {
    let mut all = Sent::default();
    for command in commands {
        let mut body: Map<String, Value> = serde_json::from_str(&command.body)
            .map_err(|error| CliError::failed("bug", error.to_string()))?;
        // The path and the header say them.
        for said in ["type", "task_id", "command_id"] {
            body.remove(said);
        }
        let operation = operation_of(command.command_type);
        let call = Call::post(&[&"tasks", &command.task_id, &operation]).json(&body);
        let call = call.key(command.command_id).asks_outcome();
        let outcome: CommandOutcome = api.ask(&call).await?;
        all = all.and(Sent {
            count: 1,
            rejected: Some(u64::from(outcome.reason.is_some())),
        });
    }
    Ok(all)
}
