//! Tasks and people on the command line: by their UUID, or by a key of one's own.

use clap::Args;
use glyph_workflow_engine::ids::{TaskId, UserId};
use serde_json::json;
use uuid::Uuid;

use super::{Output, output::Table};

/// How keys become ids, for help.
pub(super) const RULE: &str = "\
The id of a task is the UUIDv5 of `glyph:task:KEY` in the URL namespace, that of a person the UUIDv5
of `glyph:user:KEY`. A key that is a UUID with its hyphens stands for itself. In Python:

  import uuid
  def glyph_id(kind, key):                       # kind is \"task\" or \"user\"
      return uuid.uuid5(uuid.NAMESPACE_URL, f\"glyph:{kind}:{key}\")";

/// The task.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct TaskArg {
    /// Task id
    #[arg(value_name = "TASK", value_parser = task_uuid)]
    task: Option<Uuid>,
    /// Key of your own for the task, in place of its id (`glyph help task id` says how it becomes one)
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

/// The person.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct UserArg {
    /// User
    #[arg(long, value_name = "UUID", value_parser = user_uuid)]
    user: Option<Uuid>,
    /// Key of your own for the user, such as a number or an e-mail address, in place of the UUID
    #[arg(long, value_name = "KEY")]
    user_key: Option<String>,
}

/// Which ids to show.
#[derive(Clone, Debug, Args)]
pub struct IdArgs {
    /// Keys of your own
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// They are keys of users, not of tasks
    #[arg(long)]
    user: bool,
}

impl TaskArg {
    /// The task's id; one that comes from a key is shown.
    pub(super) fn shown(&self, output: Output) -> TaskId {
        let id = task_of(self.task, self.key.as_deref());
        if let Some(key) = &self.key {
            output.note(&format!("task {id}, of the key `{key}`"));
        }
        id
    }
}

impl UserArg {
    pub(super) fn id(&self) -> UserId {
        let of_key = || UserId::of_key(self.user_key.as_deref().unwrap_or_default());
        self.user.map_or_else(of_key, UserId)
    }
}

/// The id of a task that is named in one of two ways; clap sees to it that it is.
pub(super) fn task_of(task: Option<Uuid>, key: Option<&str>) -> TaskId {
    task.map_or_else(|| TaskId::of_key(key.unwrap_or_default()), TaskId)
}

/// A task's UUID.
pub(super) fn task_uuid(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| {
        "no UUID (as 0190a6e0-7c1e-7d43-9a35-5f0c2f1b6c11); a key of your own is given by --key"
            .to_owned()
    })
}

/// A person's UUID.
fn user_uuid(text: &str) -> Result<Uuid, String> {
    Uuid::try_parse(text).map_err(|_| {
        "no UUID (as 0190a6e0-7c1e-7d43-9a35-5f0c2f1b6c11); a number, a name or an e-mail address of \
         your own is given by --user-key"
            .to_owned()
    })
}

/// `glyph task id`.
pub(super) fn show(args: &IdArgs, output: Output) {
    let kind = if args.user { "user" } else { "task" };
    let id = |key: &str| {
        if args.user {
            UserId::of_key(key).0
        } else {
            TaskId::of_key(key).0
        }
    };
    let ids: Vec<(&String, Uuid)> = args.keys.iter().map(|key| (key, id(key))).collect();
    let named = ids.iter().map(|(key, id)| json!({"key": key, "id": id}));
    let document = json!({
        "kind": kind,
        "namespace": Uuid::NAMESPACE_URL,
        "name": format!("glyph:{kind}:KEY"),
        "ids": named.collect::<Vec<_>>(),
    });
    output.result(&document, || {
        let mut table = Table::plain();
        for (key, id) in &ids {
            table.row([key.as_str(), &id.to_string()]);
        }
        table.render(0)
    });
}
