//! `glyph events`: the log as a feed, and messages sent again from it.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use glyph_workflow_engine::{events::LogPosition, ids::WorkflowId, limits::PAGE_MAX, store::Store};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    CliError, Output,
    api::Call,
    connect::{Publisher, open_store},
    deployment::Deployment,
    output::grouped,
};
use crate::{
    broker::{Destination, MessagePublisher, Publication, PublishOutcome, headers::ROUTING_KEY},
    operations::feed::{FeedError, FeedFilter, FeedForm, FeedItem, FeedPage, feed},
    outbox::publication,
    settings::Settings,
    telemetry,
    wire::CloudEventMessages,
};

/// How often `tail --follow` looks at the end of the log.
const LOOK: Duration = Duration::from_millis(500);
/// How long a message that the broker did not confirm is tried again.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Verbs on the log.
#[derive(Clone, Debug, Subcommand)]
pub enum EventsVerb {
    /// Print the log as JSON lines, oldest first; each line has the position to go on from
    Tail {
        #[command(flatten)]
        select: Select,
        /// Whether to print events as they are stored, or the messages that consumers got
        #[arg(long = "as", value_name = "FORM", default_value = "events")]
        form: Form,
        /// Go on with what comes, until interrupted
        #[arg(long, short)]
        follow: bool,
        /// Maximum number of lines
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Send messages of the log to a queue again, in order, with the ids and bodies of the first time
    ///
    /// For a consumer that begins late or has lost what it had. Every message is confirmed by the
    /// broker; if that fails, the position to go on from is printed.
    Replay {
        #[command(flatten)]
        select: Select,
        /// The queue; it must exist
        #[arg(long, value_name = "QUEUE")]
        to: String,
    },
}

/// Which part of the log.
#[derive(Clone, Debug, Args)]
pub struct Select {
    /// After this position: `start`, `end`, or a position that was printed
    #[arg(long, value_name = "POSITION", default_value = "start")]
    from: From,
    /// Of this workflow
    #[arg(long, short, value_name = "WORKFLOW")]
    workflow: Option<WorkflowId>,
    /// Of these types, as `step_completed`
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
enum From {
    At(LogPosition),
    End,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(position) => position.fmt(f),
            Self::End => f.write_str("end"),
        }
    }
}

impl std::str::FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "start" => Ok(Self::At(LogPosition::default())),
            "end" => Ok(Self::End),
            text => match text.parse() {
                Ok(position) => Ok(Self::At(position)),
                Err(error) => Err(format!("{error}; or `start`, or `end`")),
            },
        }
    }
}

/// What is printed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Form {
    /// Stored events, and messages without an event.
    Events,
    /// Messages.
    Messages,
}

impl Select {
    fn filter(&self, form: FeedForm) -> FeedFilter {
        let types = self.types.iter().map(|kind| kind.replace('.', "_"));
        FeedFilter {
            form,
            workflow: self.workflow.clone(),
            types: types.collect::<BTreeSet<_>>(),
        }
    }

    async fn begin(&self, store: &dyn Store) -> Result<LogPosition, CliError> {
        Ok(match self.from {
            From::At(position) => position,
            From::End => store.log_end().await?,
        })
    }
}

pub(super) async fn run(
    verb: EventsVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let messages = settings.messages().of_every_kind();
    match verb {
        EventsVerb::Tail {
            select,
            form,
            follow,
            limit,
        } => {
            let form = match form {
                Form::Events => FeedForm::Events,
                Form::Messages => FeedForm::Messages,
            };
            let deployment = Deployment::open(settings).await?;
            tail(
                &deployment,
                &messages,
                &select,
                form,
                (follow, limit),
                output,
            )
            .await
        }
        EventsVerb::Replay { select, to } => {
            let store = open_store(settings).await?;
            replay(&*store, &messages, settings, &select, &to, output).await
        }
    }
}

async fn page(
    store: &dyn Store,
    messages: &CloudEventMessages,
    filter: &FeedFilter,
    after: LogPosition,
) -> Result<(FeedPage, LogPosition), CliError> {
    // Who reads the database itself sees everything.
    let page = feed(store, messages, filter, after, PAGE_MAX, |_| {}).await;
    let page = page.map_err(|error| match error {
        FeedError::Store(error) => error.into(),
        FeedError::Beyond { .. } => CliError::failed("beyond_the_log", error.to_string()),
        FeedError::Unbuilt { .. } | FeedError::Body { .. } => {
            CliError::failed("feed", telemetry::chain(&error))
        }
    })?;
    let next = page.next_after.parse().unwrap_or(after);
    Ok((page, next))
}

/// A page of the log, from the beginning that was asked for where there is none before it.
async fn next_page(
    deployment: &Deployment,
    messages: &CloudEventMessages,
    select: &Select,
    form: FeedForm,
    after: Option<LogPosition>,
) -> Result<FeedPage, CliError> {
    let begin = after.map_or(select.from, From::At);
    let types = (!select.types.is_empty()).then(|| select.types.join(","));
    let call = Call::get(&[&"events"])
        .query("after", Some(begin))
        .query("as", Some(form.as_str()))
        .query("workflow", select.workflow.as_ref())
        .query("type", types)
        .query("limit", Some(PAGE_MAX));
    let of_store = async |store: &Arc<dyn Store>| {
        let after = match begin {
            From::At(position) => position,
            From::End => store.log_end().await?,
        };
        let (page, _) = page(&**store, messages, &select.filter(form), after).await?;
        Ok(page)
    };
    deployment.ask(call, of_store).await
}

async fn tail(
    deployment: &Deployment,
    messages: &CloudEventMessages,
    select: &Select,
    form: FeedForm,
    (follow, limit): (bool, Option<u64>),
    output: Output,
) -> Result<(), CliError> {
    let mut after = None;
    let mut left = limit.unwrap_or(u64::MAX);
    let mut archived = BTreeSet::new();
    while left > 0 && Output::unwritten().is_none() {
        let page = next_page(deployment, messages, select, form, after).await?;
        for item in page
            .items
            .iter()
            .take(usize::try_from(left).unwrap_or(usize::MAX))
        {
            // Plain data with string keys always serializes.
            Output::line(&serde_json::to_string(item).unwrap_or_default());
            left -= 1;
        }
        archived.extend(page.archived.iter().map(|one| one.task_id));
        let next = page.next_after.parse().ok().or(after);
        let is_end = next == after;
        after = next;
        if is_end {
            if !follow {
                break;
            }
            sleep(LOOK).await;
        }
    }
    note_archived(archived.len(), output);
    Ok(())
}

/// Says that something is missing, and where it is.
fn note_archived(tasks: usize, output: Output) {
    if tasks > 0 {
        let tasks = grouped(tasks as u64);
        output.diagnostics(&format!(
            "{tasks} of these tasks are archived: some of their events, and the messages of those, are in \
             the archive alone; `glyph task import --archive` brings them back\n"
        ));
    }
}

async fn replay(
    store: &dyn Store,
    messages: &CloudEventMessages,
    settings: &Settings,
    select: &Select,
    to: &str,
    output: Output,
) -> Result<(), CliError> {
    let filter = select.filter(FeedForm::Messages);
    let begin = select.begin(store).await?;
    // What comes meanwhile is sent to the queue by its own binding, if it has one.
    let end = store.log_end().await?;
    let broker = Publisher::connect(settings).await?;
    let bar = output.progress(None, "replaying");
    let (mut after, mut sent, mut through) = (begin, 0_u64, begin);
    let mut archived = BTreeSet::new();
    let done = async {
        while after < end {
            let (page, next) = page(store, messages, &filter, after).await?;
            archived.extend(page.archived.iter().map(|one| one.task_id));
            let window = page.items.iter().filter(|item| {
                let position = item.position.parse::<LogPosition>();
                position.is_ok_and(|position| position <= end)
            });
            for items in window.collect::<Vec<_>>().chunks(256) {
                let messages: Vec<_> = items.iter().filter_map(|item| message(item, to)).collect();
                send(broker.get(), &messages, to).await?;
                sent += messages.len() as u64;
                if let Some(last) = items.last() {
                    through = last.position.parse().unwrap_or(through);
                }
                bar.set_position(sent);
            }
            if next == after {
                break;
            }
            after = next;
            through = through.max(next.min(end));
        }
        Ok(())
    };
    let done: Result<(), CliError> = done.await;
    broker.close().await;
    bar.finish_and_clear();
    if let Err(error) = done {
        let message = format!(
            "{error}; {} messages were sent and confirmed, go on with --from {through}",
            grouped(sent)
        );
        return Err(CliError::failed("replay", message));
    }
    note_archived(archived.len(), output);
    let archived = archived.len();
    output.result(
        &json!({
            "sent": sent, "queue": to, "through": through.to_string(), "archived_tasks": archived,
        }),
        || format!("{} messages sent to {to}, through {through}", grouped(sent)),
    );
    Ok(())
}

/// The message of an item, for a queue; none for an event.
fn message(item: &FeedItem, queue: &str) -> Option<Publication> {
    let (message, key) = (item.message.as_ref()?, item.routing_key.as_ref()?);
    let id = item.message_id.as_ref()?;
    let mut publication = publication(id.to_string(), queue.to_owned(), message.get().into());
    publication.destination = Destination::Queue(queue.to_owned());
    let key = (ROUTING_KEY.to_owned(), key.clone());
    publication.headers.extend([key]);
    Some(publication)
}

/// Publishes until each is confirmed, in order; a queue that does not exist ends it.
async fn send(
    broker: &dyn MessagePublisher,
    messages: &[Publication],
    queue: &str,
) -> Result<(), CliError> {
    let give_up = Instant::now() + PATIENCE;
    let mut rest = messages;
    while !rest.is_empty() {
        let outcomes = broker.publish(0, rest).await;
        let confirmed = outcomes
            .iter()
            .take_while(|outcome| matches!(outcome, PublishOutcome::Confirmed))
            .count();
        rest = &rest[confirmed.min(rest.len())..];
        match outcomes.get(confirmed) {
            Some(PublishOutcome::Returned(_)) => {
                return Err(CliError::not_found("queue", queue));
            }
            _ if rest.is_empty() => {}
            _ if Instant::now() >= give_up => {
                let message = format!("the broker does not confirm messages to {queue}");
                return Err(CliError::Unreachable(message));
            }
            _ => sleep(PAUSE).await,
        }
    }
    Ok(())
}
