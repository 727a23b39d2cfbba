//! What a job is asked to do.

use glyph_workflow_engine::{
    command::CommandEnvelope,
    ids::{CommandId, TaskId},
    store::{CommandLog, EventStoreError, NewJob, RecordedOutcome, RejectedFilter},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    dead_letters::Letter,
    wire::{CommandRequest, Unreadable, UnreadableCode, read_request},
};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    /// Tries dead letters again.
    ReplayDeadLetters,
    /// Tries rejected commands again.
    ReplayRejected,
}

impl JobKind {
    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReplayDeadLetters => "replay_dead_letters",
            Self::ReplayRejected => "replay_rejected",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::ReplayDeadLetters, Self::ReplayRejected]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// Which items. Everything that is said must hold; nothing said picks all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Selection {
    /// Command ids, or handles of letters; none said picks any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// With this reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of this task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Uuid>,
    /// Of tasks of this workflow (rejected commands only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
}

impl Selection {
    /// Whether it picks a letter.
    pub fn picks(&self, handle: &str, letter: &Letter) -> bool {
        let named = || {
            let id = letter.command_id();
            self.ids.iter().any(|named| {
                named == handle || id.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(named))
            })
        };
        let of_task = |task: Uuid| {
            let found = letter.task().and_then(|found| Uuid::parse_str(&found).ok());
            found == Some(task)
        };
        (self.ids.is_empty() || named())
            && self
                .reason
                .as_ref()
                .is_none_or(|reason| *reason == letter.reason())
            && self.task.is_none_or(of_task)
    }

    /// It as the inbox searches, but for ids.
    pub fn of_rejected(&self) -> RejectedFilter {
        RejectedFilter {
            task: self.task.map(TaskId),
            workflow: self.workflow.clone(),
            reason: self.reason.clone(),
            not_exported: false,
            oldest_first: true,
        }
    }
}

/// What the runner of a job has to know.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct JobSettings {
    /// Which items.
    pub select: Selection,
    /// The share of failures beyond which it stops.
    pub stop_at: f64,
}

/// A job to create.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// What it does.
    pub kind: JobKind,
    /// Who asks for it.
    pub actor: String,
    /// What its runner has to know.
    pub settings: JobSettings,
}

impl JobSpec {
    /// The row to create, under a new id.
    pub fn new_job(&self) -> NewJob {
        NewJob {
            id: Uuid::now_v7(),
            kind: self.kind.as_str().to_owned(),
            actor: self.actor.clone(),
            settings: serde_json::to_value(&self.settings).unwrap_or_default(),
        }
    }
}

/// Maximum replays of one command; if more are needed, the reason deserves a look.
const REPLAYS_MAX: u32 = 1_000;

/// The id of the `count`th replay of a rejected command: a replay that was interrupted is not
/// repeated, and one that was rejected again can be.
pub fn replay_of(id: CommandId, count: u32) -> CommandId {
    CommandId(Uuid::new_v5(&id.0, count.to_string().as_bytes()))
}

/// Why a rejected command is not run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayed {
    /// A replay of it was applied.
    #[error("command {command} was replayed as {replay}, and that was applied")]
    Applied {
        /// The command.
        command: CommandId,
        /// Its replay.
        replay: CommandId,
    },
    /// Every replay of it was rejected.
    #[error("command {0} was replayed {max} times and rejected each time", max = REPLAYS_MAX)]
    Exhausted(CommandId),
}

impl NotReplayed {
    /// The code of the problem.
    pub fn code(self) -> &'static str {
        match self {
            Self::Applied { .. } => "already_replayed",
            Self::Exhausted(_) => "replays_exhausted",
        }
    }
}

/// The first id of a replay that is not known.
pub async fn first_replay<S: CommandLog + ?Sized>(
    store: &S,
    command: CommandId,
) -> Result<Result<CommandId, NotReplayed>, EventStoreError> {
    for count in 1..=REPLAYS_MAX {
        let replay = replay_of(command, count);
        match store.command(replay).await?.map(|row| row.outcome) {
            Some(RecordedOutcome::Applied { .. }) => {
                return Ok(Err(NotReplayed::Applied { command, replay }));
            }
            Some(RecordedOutcome::Rejected { .. }) => {}
            None => return Ok(Ok(replay)),
        }
    }
    Ok(Err(NotReplayed::Exhausted(command)))
}

/// A kept payload as a command under another id.
pub(crate) fn command_of(payload: &Value, id: CommandId) -> Result<CommandEnvelope, Unreadable> {
    let text = |name: &str| {
        payload
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let task = text("task_id");
    let unreadable = |error| Unreadable {
        code: UnreadableCode::Malformed,
        error,
        command_id: Some(id),
    };
    let body = payload.to_string();
    let request = CommandRequest {
        command_type: text("type"),
        task_id: task
            .parse()
            .map_err(|_| unreadable(format!("task_id: `{task}` is no task id")))?,
        command_id: id,
        correlation_id: None,
        traceparent: None,
        body: body.as_bytes(),
    };
    Ok(read_request(&request)?.envelope)
}
