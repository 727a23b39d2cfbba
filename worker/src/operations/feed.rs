//! The feed of the log: all events, or all messages, in the order in which they were committed.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    MessageBuilder, RebuildMessagesError,
    events::{LogPosition, StoredEvent},
    ids::{TaskId, WorkflowId},
    messages_of,
    store::{EventRange, EventStoreError, LogEntry, LoggedMessage, NewMessage, Store},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::tasks::{Budget, READ_AT_ONCE};

/// Items that are looked at before a page is returned, whether or not they match the filter.
const LOOKED_AT_MAX: u32 = 5_000;

/// How often a page reads again what was archived while it was read.
const READ_AGAIN_MAX: u32 = 8;

/// What the feed is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FeedForm {
    /// The stored events of tasks, and the messages that no event stands for.
    #[default]
    Events,
    /// The messages, with the ids and bodies that consumers got.
    Messages,
}

impl FeedForm {
    /// Reads `events` or `messages`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "events" => Some(Self::Events),
            "messages" => Some(Self::Messages),
            _ => None,
        }
    }

    /// The name that [`from_name`](Self::from_name) reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Messages => "messages",
        }
    }
}

/// Which part of the feed is asked for.
#[derive(Clone, Debug, Default)]
pub struct FeedFilter {
    /// In which form.
    pub form: FeedForm,
    /// Only of this workflow.
    pub workflow: Option<WorkflowId>,
    /// Only of these types, as `step_completed` or `step.completed`; all if empty.
    pub types: BTreeSet<String>,
}

impl FeedFilter {
    fn takes_type(&self, kind: &str) -> bool {
        self.types.is_empty() || self.types.contains(&kind.replace('.', "_"))
    }

    fn takes_workflow(&self, workflow: Option<&str>) -> bool {
        let wanted = self.workflow.as_deref();
        wanted.is_none() || wanted == workflow
    }
}

/// One item of the feed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FeedItem {
    /// Where it is in the log.
    pub position: String,
    /// The workflow that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The event; none for a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<StoredEvent>,
    /// The id of the message, as it is in the message itself.
    #[serde(skip)]
    pub message_id: Option<Uuid>,
    /// The routing key of the message, without prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<String>,
    /// The message; none for an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Value>")]
    pub message: Option<Box<RawValue>>,
}

/// A page of the feed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FeedPage {
    /// In the order of the log.
    pub items: Vec<FeedItem>,
    /// Tasks of this part of the log that are archived: their other events, and the messages of those,
    /// are in the archive alone. Whatever types were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archived: Vec<ArchivedInFeed>,
    /// The position after which the next page begins. It moves on past items that do not match, and
    /// stays where it was at the end of the log.
    pub next_after: String,
    /// The id of the log. It changes after a restore to an earlier time: positions of another log
    /// mean nothing in this one.
    pub log: Uuid,
}

/// A task whose history is in an archive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ArchivedInFeed {
    /// The task.
    pub task_id: TaskId,
    /// When it was archived.
    pub archived_at: DateTime<Utc>,
}

/// The feed cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] EventStoreError),
    /// The position is one of another log.
    #[error(
        "the log ends at entry {end}, before {after}: the database was restored to an earlier time; \
         begin at `start`, and compare the ids of what comes with what is known"
    )]
    Beyond {
        /// What was asked for.
        after: LogPosition,
        /// The last entry.
        end: i64,
    },
    /// The messages of a task's events cannot be built.
    #[error("the messages of task {task} cannot be built")]
    Unbuilt {
        /// The task.
        task: TaskId,
        /// Why.
        #[source]
        source: RebuildMessagesError,
    },
    /// The body of a message is not JSON: no build writes such a body.
    #[error("the body of message {id} is not JSON")]
    Body {
        /// The message.
        id: Uuid,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What is at one position.
enum Found {
    Event(Box<LogEntry>),
    Message(LoggedMessage),
}

/// A page of the feed after a position: at most `limit` items, and fewer where they are large or few
/// match. `hide` removes from an event what the caller may not see.
pub async fn feed(
    store: &dyn Store,
    messages: &dyn MessageBuilder,
    filter: &FeedFilter,
    after: LogPosition,
    limit: u32,
    hide: impl Fn(&mut StoredEvent),
) -> Result<FeedPage, FeedError> {
    let end = store.log_end().await?;
    if after > end {
        let end = end.entry;
        return Err(FeedError::Beyond { after, end });
    }
    let log = store.log_id().await?.0;
    let mut items = Vec::new();
    let mut tasks = BTreeSet::new();
    let mut through = after;
    let mut budget = Budget::of_a_page();
    let mut looked_at = 0;
    let mut tries = READ_AGAIN_MAX;
    'page: while looked_at < LOOKED_AT_MAX {
        let found = read(store, through, READ_AT_ONCE).await?;
        if found.is_empty() {
            break;
        }
        looked_at += READ_AT_ONCE;
        let built = match filter.form {
            FeedForm::Events => BTreeMap::new(),
            FeedForm::Messages => match build(store, messages, filter, &found, &hide).await {
                // Archived since it was read: what is left of it is read again.
                Err(FeedError::Unbuilt { task, .. })
                    if store.archived(&[task]).await?.contains_key(&task) && tries > 0 =>
                {
                    tries -= 1;
                    continue;
                }
                built => built?,
            },
        };
        for (position, found) in found {
            if items.len() >= limit as usize || budget.is_spent() {
                break 'page;
            }
            through = position;
            let item = match found {
                Found::Event(entry) if !filter.takes_workflow(Some(&entry.workflow)) => None,
                Found::Event(entry) => {
                    tasks.insert(entry.event.task_id);
                    of_event(filter, position, *entry, &built, &hide)?
                }
                Found::Message(message) => of_message(filter, position, message)?,
            };
            if let Some(item) = item {
                budget.spend(&item);
                items.push(item);
            }
        }
    }
    let tasks: Vec<TaskId> = tasks.into_iter().collect();
    let archived = store.archived(&tasks).await?.into_iter();
    let archived = archived.map(|(task_id, archived_at)| ArchivedInFeed {
        task_id,
        archived_at,
    });
    let mut archived: Vec<_> = archived.collect();
    archived.sort_by_key(|one| one.task_id);
    Ok(FeedPage {
        items,
        archived,
        next_after: through.to_string(),
        log,
    })
}

/// The next events and messages of the log. Both are read up to the same end, which is asked for
/// first: whatever is at or before it stays as it is, so nothing is passed over.
async fn read(
    store: &dyn Store,
    after: LogPosition,
    limit: u32,
) -> Result<Vec<(LogPosition, Found)>, EventStoreError> {
    let mut through = store.log_end().await?;
    let mut events = store.read_log(after, limit).await?;
    events.retain(|entry| entry.position <= through);
    // Fewer events than asked for may be there because they are large.
    if let Some(last) = events.last() {
        through = last.position;
    }
    let messages = store.logged_messages(after, through, limit).await?;
    if let Some((last, _)) = messages.get(limit.saturating_sub(1) as usize) {
        through = *last;
    }
    let events = events
        .into_iter()
        .filter(|entry| entry.position <= through)
        .map(|entry| (entry.position, Found::Event(Box::new(entry))));
    let messages = messages
        .into_iter()
        .map(|(position, message)| (position, Found::Message(message)));
    let mut found: Vec<_> = events.chain(messages).collect();
    found.sort_by_key(|(position, _)| *position);
    Ok(found)
}

/// The messages of the events that were found, by task and version.
async fn build(
    store: &dyn Store,
    messages: &dyn MessageBuilder,
    filter: &FeedFilter,
    found: &[(LogPosition, Found)],
    hide: &impl Fn(&mut StoredEvent),
) -> Result<BTreeMap<(TaskId, u64), NewMessage>, FeedError> {
    // Versions of archived tasks have gaps, and a range has none.
    let mut ranges: Vec<EventRange> = Vec::new();
    let mut newest: BTreeMap<TaskId, usize> = BTreeMap::new();
    for (_, found) in found {
        let Found::Event(entry) = found else { continue };
        if !filter.takes_workflow(Some(&entry.workflow)) {
            continue;
        }
        let (task_id, version) = (entry.event.task_id, entry.event.version);
        let last = newest.get(&task_id).and_then(|at| ranges.get_mut(*at));
        if let Some(range) = last.filter(|range| range.to + 1 == version) {
            range.to = version;
            continue;
        }
        newest.insert(task_id, ranges.len());
        ranges.push(EventRange {
            task_id,
            from: version,
            to: version,
        });
    }
    let read = store.events_of(&ranges).await?;
    let mut built = BTreeMap::new();
    for (range, read) in ranges.into_iter().zip(read) {
        let task = range.task_id;
        let mut read = read?;
        read.events.iter_mut().for_each(hide);
        let of_task = messages_of(messages, range, &read)
            .map_err(|source| FeedError::Unbuilt { task, source })?;
        let known = of_task.into_iter().filter_map(|message| {
            let version = message.version?;
            Some(((task, version), message))
        });
        built.extend(known);
    }
    Ok(built)
}

fn of_event(
    filter: &FeedFilter,
    position: LogPosition,
    entry: LogEntry,
    built: &BTreeMap<(TaskId, u64), NewMessage>,
    hide: &impl Fn(&mut StoredEvent),
) -> Result<Option<FeedItem>, FeedError> {
    let LogEntry {
        workflow,
        mut event,
        ..
    } = entry;
    let workflow = Some(workflow.to_string());
    match filter.form {
        FeedForm::Events if filter.takes_type(event.event.event_type()) => {
            hide(&mut event);
            Ok(Some(FeedItem {
                position: position.to_string(),
                workflow,
                event: Some(event),
                message_id: None,
                routing_key: None,
                message: None,
            }))
        }
        FeedForm::Events => Ok(None),
        FeedForm::Messages => {
            let message = built.get(&(event.task_id, event.version));
            let Some(message) = message.filter(|m| filter.takes_type(m.message_type)) else {
                return Ok(None);
            };
            Ok(Some(FeedItem {
                position: position.to_string(),
                workflow,
                event: None,
                message_id: Some(message.message_id),
                routing_key: Some(message.routing_key.clone()),
                message: Some(raw(message.message_id, &message.body)?),
            }))
        }
    }
}

fn of_message(
    filter: &FeedFilter,
    position: LogPosition,
    message: LoggedMessage,
) -> Result<Option<FeedItem>, FeedError> {
    // The routing key is the kind, in two words, and then the workflow where there is one.
    let workflow = message.routing_key.split('.').nth(2).map(str::to_owned);
    if !filter.takes_type(&message.message_type) || !filter.takes_workflow(workflow.as_deref()) {
        return Ok(None);
    }
    let body = raw(message.message_id, &message.body)?;
    Ok(Some(FeedItem {
        position: position.to_string(),
        workflow,
        event: None,
        message_id: Some(message.message_id),
        routing_key: Some(message.routing_key),
        message: Some(body),
    }))
}

/// The same bytes that consumers got.
fn raw(id: Uuid, body: &str) -> Result<Box<RawValue>, FeedError> {
    RawValue::from_string(body.to_owned()).map_err(|source| FeedError::Body { id, source })
}
