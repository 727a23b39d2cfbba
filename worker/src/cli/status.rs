//! `glyph status`: the deployment at a glance, as the database and the broker tell it, or a worker.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    state::{TaskStatus, WorkflowPause},
    store::Store,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CliError, Output,
    api::Call,
    connect::queues,
    deployment::{Deployment, ask},
    output::{Table, clipped, grouped},
};
use crate::{
    broker::QueueDepth,
    operations::status::{Figures, figures},
    settings::Settings,
};

/// Why this command does not know whether a worker is ready.
const NOT_ASKED: &str = "no worker was asked; each answers at /readyz";

/// The deployment at a glance, in the shape of `GET /api/v1/status`.
#[derive(Serialize, Deserialize)]
struct Status {
    at: DateTime<Utc>,
    /// The version of the worker, or of this program where none was asked.
    version: String,
    /// Whether the worker is ready; null where none was asked.
    ready: Option<bool>,
    /// The parts that the worker needs; null where none was asked.
    parts: Option<Value>,
    queues: Option<Vec<QueueDepth>>,
    /// What the database says; null where the worker has not read it yet.
    database: Option<Figures>,
    /// Why the worker's figures of the database are old.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
    /// What is not known where no worker was asked, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<Unknown>,
}

#[derive(Serialize, Deserialize)]
struct Unknown {
    what: String,
    why: String,
}

pub(super) async fn run(settings: &Settings, output: Output) -> Result<(), CliError> {
    let status = ask(settings, Call::get(&[&"status"]), async |store| {
        of_store(&**store, settings).await
    })
    .await?;
    output.result(&status, || text(&status));
    Ok(())
}

/// The workflows that are paused or archived.
pub(super) async fn pauses(deployment: &Deployment) -> Result<Vec<WorkflowPause>, CliError> {
    match deployment {
        Deployment::Store(store) => Ok(store.workflow_pauses().await?.active),
        Deployment::Api(api) => {
            let status: Status = api.ask(&Call::get(&[&"status"])).await?;
            let unread =
                || CliError::Unreachable("the worker has not read its database yet".to_owned());
            let known = status.database.ok_or_else(unread)?;
            Ok(known.paused)
        }
    }
}

async fn of_store(store: &dyn Store, settings: &Settings) -> Result<Status, CliError> {
    let database = figures(store, None).await?;
    let mut unknown: Vec<Unknown> = ["ready", "parts"]
        .map(|what| Unknown {
            what: what.to_owned(),
            why: NOT_ASKED.to_owned(),
        })
        .into();
    // A broker that is away is a part of what one looks for.
    let queues = match queues(settings).await {
        Ok(queues) => Some(queues),
        Err(error) => {
            unknown.push(Unknown {
                what: "queues".to_owned(),
                why: error.to_string(),
            });
            None
        }
    };
    Ok(Status {
        at: Utc::now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: None,
        parts: None,
        queues,
        database: Some(database),
        unread: None,
        unknown,
    })
}

fn text(status: &Status) -> String {
    let Some(database) = &status.database else {
        return "the worker has not read its database yet: ask again".to_owned();
    };
    let asked = match status.ready {
        None => NOT_ASKED,
        Some(true) => "the one that was asked is ready",
        Some(false) => "the one that was asked is not ready",
    };
    let mut facts = Table::plain();
    let tasks = TaskStatus::ALL.into_iter().filter_map(|status| {
        let count = *database.tasks.get(status.as_str())?;
        (count != 0).then(|| format!("{} {}", count_text(count), status.as_str()))
    });
    let tasks: Vec<String> = tasks.collect();
    let or_none = |text: String| {
        if text.is_empty() {
            "none".to_owned()
        } else {
            text
        }
    };
    facts.row(["tasks", &or_none(tasks.join(", "))]);
    let waits = |count: i64, seconds: f64, what: &str| {
        if count == 0 {
            return "none".to_owned();
        }
        format!(
            "{} {what}, the oldest for {}",
            count_text(count),
            duration(seconds)
        )
    };
    let outbox = &database.outbox;
    facts.row([
        "outbox",
        &waits(
            outbox.pending,
            outbox.oldest_seconds,
            "wait to be published",
        ),
    ]);
    let timers = &database.timers;
    facts.row([
        "timers",
        &waits(timers.due, timers.oldest_seconds, "are due"),
    ]);
    let with_incidents: u64 = database.steps.iter().map(|step| step.with_incidents).sum();
    if with_incidents > 0 {
        let text = format!("{} tasks; `glyph incident list`", grouped(with_incidents));
        facts.row(["incidents", &text]);
    }
    let consumed = status.queues.as_deref().and_then(consumers);
    let consumed = consumed.map(|consumers| format!("{consumers}; {asked}"));
    facts.row(["workers", &consumed.unwrap_or_else(|| asked.to_owned())]);
    let mut text = facts.render(0);
    if let Some(queues) = &status.queues {
        let _ = write!(text, "\n\n{}", queue_table(queues).render(0));
    }
    if !database.steps.is_empty() {
        let mut table = Table::new(&[
            "workflow",
            "step",
            "running",
            "paused",
            "incidents",
            "oldest",
        ]);
        for step in &database.steps {
            let oldest = step
                .oldest_at
                .map(|at| (status.at - at).num_seconds() as f64);
            table.row([
                format!("{}@{}", step.workflow, step.revision),
                step.step_id.to_string(),
                grouped(step.running),
                grouped(step.paused),
                grouped(step.with_incidents),
                oldest.map_or_else(|| "-".to_owned(), duration),
            ]);
        }
        let _ = write!(text, "\n\n{}", table.render(0));
    }
    for pause in &database.paused {
        let reason = pause.reason.as_deref().unwrap_or("no reason given");
        let _ = write!(
            text,
            "\n\nworkflow {} is {} ({reason})",
            pause.workflow,
            pause.word()
        );
    }
    for refused in &outbox.refused {
        let task = refused
            .task_id
            .map_or_else(String::new, |task| format!(" of task {task}"));
        let error = clipped(&refused.error, 80);
        let _ = write!(
            text,
            "\n\nthe broker refuses a message{task} ({error}); `glyph outbox list` shows it"
        );
    }
    for unknown in status
        .unknown
        .iter()
        .filter(|unknown| unknown.what == "queues")
    {
        let _ = write!(text, "\n\nthe queues are not known: {}", unknown.why);
    }
    if let Some(why) = &status.unread {
        let _ = write!(text, "\n\nthe figures are old: {why}");
    }
    text
}

/// Whether somebody takes commands; none where consumers are not counted.
fn consumers(queues: &[QueueDepth]) -> Option<String> {
    let commands = queues.iter().find(|queue| queue.queue == "submission")?;
    Some(match commands.consumers? {
        0 => "nobody takes commands".to_owned(),
        1 => "one consumer takes commands".to_owned(),
        count => format!("{count} consumers take commands"),
    })
}

fn queue_table(queues: &[QueueDepth]) -> Table {
    let mut table = Table::new(&["queue", "messages", "consumers"]);
    for queue in queues {
        table.row([
            queue.queue.clone(),
            queue.messages.map_or_else(|| "missing".to_owned(), grouped),
            queue
                .consumers
                .map_or_else(|| "-".to_owned(), |count| count.to_string()),
        ]);
    }
    table
}

fn count_text(count: i64) -> String {
    u64::try_from(count).map_or_else(|_| count.to_string(), grouped)
}

/// A time in its largest unit, as `3 min`.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{:.0} s", s.max(0.0)),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let all = [0.4, 119.0, 600.0, 7_200.0, 864_000.0].map(duration);
        assert_eq!(all, ["0 s", "119 s", "10 min", "2 h", "10 d"]);
    }
}
