//! The deployment at a glance, once and as a stream.
//!
//! One task of the process reads it for all who look, as long as somebody looks. What a reading costs
//! does not grow with the number of pages that are open.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension, Json,
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use chrono::{DateTime, Utc};
use futures::stream;
use glyph_workflow_engine::ids::TaskId;
use schemars::{JsonSchema, schema_for};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Api, Problem, Readiness, operation::Operation, request::Parameters};
use crate::{
    broker::QueueDepth,
    operations::status::{Figures, figures},
    telemetry,
};

/// How long nothing is read after a quick reading, so that what is shown is younger than two seconds.
const EVERY: Duration = Duration::from_millis(1500);
/// A slow reading is repeated only after this many times as long as it took, but for [`EVERY_MAX`].
const PAUSE_FACTOR: u32 = 25;
const EVERY_MAX: Duration = Duration::from_secs(10);
/// A database that does not answer within this time is left out.
const READING_MAX: Duration = Duration::from_secs(5);
/// A stream ends after so long; the page asks again. It is well below what a connection may last.
const STREAM_FOR: Duration = Duration::from_mins(5);
/// How often a stream says that it is alive while nothing is new.
const ALIVE_EVERY: Duration = Duration::from_secs(10);

/// The operations on the status.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/v1/status", "show_status", show)
            .summary("The deployment at a glance: parts, tasks by step, queues, what waits to be published")
            .answers::<Status>(200, "The status, as a rule at most two seconds old while somebody looks"),
        // A stream has no end that a client made from the document would wait for.
        Operation::get("/ui/events", "watch_status", watch_status)
            .unlisted()
            .summary("The status as server-sent events: `status` every one and a half seconds, or less often where reading it takes long; `task` when a task changes")
            .query(
                "task",
                "Also tell when this task changes.",
                schema_for!(TaskId),
            )
            .answers_text("text/event-stream", "The stream; it ends after some minutes"),
    ]
}

/// The deployment at a glance.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Status {
    /// When it was read.
    at: DateTime<Utc>,
    /// The version of this worker.
    version: &'static str,
    /// Whether this worker is ready.
    ready: bool,
    /// The parts that this worker needs.
    parts: Readiness,
    /// How full the queues are; null where the broker did not say.
    queues: Option<Vec<QueueDepth>>,
    /// What the database says; null where it has not answered yet.
    database: Option<Arc<Figures>>,
    /// Why the figures of the database are old.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
}

/// The newest status, and who reads it. Clones share it.
#[derive(Clone, Default)]
pub(super) struct StatusBoard(Arc<Board>);

#[derive(Default)]
struct Board {
    newest: watch::Sender<Option<Arc<Status>>>,
    /// Whether a task reads.
    reads: Mutex<bool>,
}

impl StatusBoard {
    /// The newest status and every change of it, as long as the receiver is kept.
    fn watch(&self, api: &Api) -> watch::Receiver<Option<Arc<Status>>> {
        let receiver = self.0.newest.subscribe();
        let mut reads = self.0.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reads {
            *reads = true;
            // What was read for others is old.
            self.0.newest.send_replace(None);
            tokio::spawn(self.clone().read_on(api.clone()));
        }
        receiver
    }

    /// Reads the status again and again, until nobody looks.
    async fn read_on(self, api: Api) {
        let mut last = None;
        loop {
            let begun = Instant::now();
            let status = read(&api, last.take()).await;
            last.clone_from(&status.database);
            self.0.newest.send_replace(Some(Arc::new(status)));
            let pause = (begun.elapsed() * PAUSE_FACTOR).clamp(EVERY, EVERY_MAX);
            tokio::select! {
                () = sleep(pause) => {}
                () = api.health.drained() => {}
            }
            // Whoever begins to look holds a receiver before taking this lock.
            let mut reads = self.0.reads.lock().unwrap_or_else(PoisonError::into_inner);
            if self.0.newest.receiver_count() == 0 || api.health.is_draining() {
                *reads = false;
                return;
            }
        }
    }
}

/// Reads the status. Figures that the database does not give are those of `last`.
async fn read(api: &Api, last: Option<Arc<Figures>>) -> Status {
    let queues = async {
        let broker = api.broker.get()?;
        broker.publisher.queues().await
    };
    let figures = timeout(READING_MAX, figures(&*api.store, last.as_deref()));
    let (queues, figures) = tokio::join!(queues, figures);
    let (database, unread) = match figures {
        Ok(Ok(figures)) => (Some(Arc::new(figures)), None),
        Ok(Err(error)) => {
            tracing::debug!(
                error = telemetry::chain(&error),
                "the status cannot be read"
            );
            (last, Some("the database cannot be read".to_owned()))
        }
        Err(_) => (
            last,
            Some("the database does not answer in time".to_owned()),
        ),
    };
    let parts = api.health.watch().borrow().clone();
    Status {
        at: Utc::now(),
        version: env!("CARGO_PKG_VERSION"),
        ready: parts.is_ready(),
        parts,
        queues,
        database,
        unread,
    }
}

async fn show(
    State(api): State<Api>,
    Extension(board): Extension<StatusBoard>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    parameters.finish()?;
    let mut status = board.watch(&api);
    let read = status.wait_for(Option::is_some).await;
    let read = read.ok().and_then(|read| read.clone());
    let status = read.ok_or_else(|| Problem::unavailable("the worker is shutting down"))?;
    Ok(Json(&*status).into_response())
}

async fn watch_status(
    State(api): State<Api>,
    Extension(board): Extension<StatusBoard>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let task = parameters.take("task", "a task id", |text| text.parse::<TaskId>().ok())?;
    parameters.finish()?;
    let mut status = board.watch(&api);
    status.mark_changed();
    let looking = Looking {
        status,
        api,
        task,
        version: None,
        events: VecDeque::new(),
        ends: Instant::now() + STREAM_FOR,
    };
    let events = stream::unfold(looking, |mut looking| async move {
        let event = looking.next().await?;
        Some((Ok::<_, Infallible>(event), looking))
    });
    let alive = KeepAlive::new().interval(ALIVE_EVERY);
    Ok(Sse::new(events).keep_alive(alive).into_response())
}

/// Somebody who looks.
struct Looking {
    status: watch::Receiver<Option<Arc<Status>>>,
    api: Api,
    task: Option<TaskId>,
    /// The version of the task that was told last.
    version: Option<u64>,
    /// Not told yet.
    events: VecDeque<Event>,
    ends: Instant,
}

/// A task has changed.
#[derive(Serialize)]
struct TaskChange {
    task_id: TaskId,
    version: u64,
}

impl Looking {
    /// The next event; none at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let draining = self.api.health.drained();
            tokio::select! {
                seen = self.status.changed() => seen.ok()?,
                () = sleep_until(self.ends) => return None,
                () = draining => return None,
            }
            let status = self.status.borrow_and_update().clone();
            let Some(status) = status else { continue };
            self.events.extend(event("status", &*status));
            self.look_at_task().await;
        }
    }

    /// One row of the database; one that cannot be read is read the next time.
    async fn look_at_task(&mut self) {
        let Some(task_id) = self.task else { return };
        let Ok(Some(row)) = self.api.store.task(task_id).await else {
            return;
        };
        let version = row.version;
        if self.version.replace(version) != Some(version) {
            self.events
                .extend(event("task", &TaskChange { task_id, version }));
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> Option<Event> {
    let event = Event::default().event(name).json_data(data);
    event.ok()
}
