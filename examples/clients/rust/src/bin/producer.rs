//! Starts a task for each line of a file, as often as it is run: the same line is the same task and
//! the same command.
//!
//! ```console
//! $ AMQP_URL=amqp://guest:guest@localhost:5672 cargo run -p glyph-example-clients --bin producer -- sentiment-dual items.jsonl
//! ```
//!
//! A line is `{"key": "review-17", "input": {"text": "…"}}`. Prints one line for each outcome that
//! is not as wanted. Ends with 0 if every task is started, else with 1. Settings: `AMQP_URL`,
//! `GLYPH_PREFIX` (`glyph`).

#![expect(clippy::print_stdout, reason = "it talks to whoever has started it")]

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, future::try_join_all};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

/// The broker keeps answers to this queue with the connection, and nobody declares it.
const REPLIES: &str = "amq.rabbitmq.reply-to";
const ANSWER_MAX: Duration = Duration::from_secs(30);
const ROUNDS_MAX: u32 = 10;
/// How many messages may be on their way to the broker.
const WINDOW: usize = 500;

/// Everything that goes wrong with a connection ends it, and another one is made.
type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;
/// Commands without an answer, by their ids.
type Waiting = BTreeMap<String, Value>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Fallible<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [workflow, path] = &arguments[..] else {
        return Err("name a workflow and a file".into());
    };
    let mut waiting = commands(workflow, &fs::read_to_string(path)?)?;
    let mut failed = false;
    // An answer is sent once and can be lost. Then the same command is sent again, and answered
    // again.
    for round in 0..ROUNDS_MAX {
        if let Err(error) = send(&mut waiting, &mut failed).await {
            eprintln!("{error}");
            tokio::time::sleep(Duration::from_secs(2_u64.pow(round).min(30))).await;
        }
        if waiting.is_empty() {
            break;
        }
    }
    for command in waiting.values() {
        println!(
            "{}: no answer; the command may be on its way",
            text(&command["task_id"])
        );
    }
    let well = !failed && waiting.is_empty();
    Ok(if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The commands by their ids.
fn commands(workflow: &str, lines: &str) -> Fallible<Waiting> {
    let lines = lines.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| command_of(workflow, line)).collect()
}

/// The command of a line, with its id. Ids are made of the key, so that whoever sends a line again
/// sends the same command.
fn command_of(workflow: &str, line: &str) -> Fallible<(String, Value)> {
    let item: Value = serde_json::from_str(line)?;
    let name = format!("glyph:task:{}", text(&item["key"])); // as `glyph task id KEY`
    let task = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
    let id = Uuid::new_v5(&task, b"start").to_string();
    let command = json!({
        "type": "start", "command_id": id, "task_id": task, "workflow": workflow, "input": item["input"],
    });
    Ok((id, command))
}

/// Publishes every command that has no answer yet, and takes the answers, until all are there or
/// the time is over.
async fn send(waiting: &mut Waiting, failed: &mut bool) -> Fallible<()> {
    let set = |name: &str, or: &str| env::var(name).unwrap_or_else(|_| or.to_owned());
    let url = set("AMQP_URL", "amqp://guest:guest@localhost:5672");
    let exchange = format!("{}.commands", set("GLYPH_PREFIX", "glyph"));
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let unacknowledged = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    // Before the first command: the broker accepts `reply_to` only from who consumes.
    let mut answers = channel
        .basic_consume(
            REPLIES.into(),
            "".into(),
            unacknowledged,
            FieldTable::default(),
        )
        .await?;
    let all: Vec<_> = waiting.iter().collect();
    for window in all.chunks(WINDOW) {
        try_join_all(
            window
                .iter()
                .map(|(id, command)| publish(&channel, &exchange, id, command)),
        )
        .await?;
    }
    let deadline = Instant::now() + ANSWER_MAX;
    while !waiting.is_empty() {
        let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await else {
            break;
        };
        let answer = answer?;
        let id = answer
            .properties
            .correlation_id()
            .as_ref()
            .map(ToString::to_string);
        let Some(command) = waiting.remove(&id.unwrap_or_default()) else {
            continue;
        };
        *failed |= !is_as_wanted(&command, &serde_json::from_slice(&answer.data)?);
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Returns once the broker has the command safely.
async fn publish(channel: &Channel, exchange: &str, id: &str, command: &Value) -> Fallible<()> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_timestamp(since.as_secs())
        .with_message_id(id.into())
        .with_correlation_id(id.into())
        .with_reply_to(REPLIES.into());
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let (key, body) = (text(&command["type"]), command.to_string());
    let confirm = channel
        .basic_publish(
            exchange.into(),
            key.into(),
            mandatory,
            body.as_bytes(),
            properties,
        )
        .await?;
    match confirm.await? {
        Confirmation::Ack(None) => Ok(()),
        // The broker acknowledges what it returns, too.
        Confirmation::Ack(Some(_)) => Err("no queue takes the command: is a worker set up?".into()),
        Confirmation::Nack(_) | Confirmation::NotRequested => Err("the broker refuses it".into()),
    }
}

/// Says what is not as wanted. A duplicate has the outcome of the first time: a result, or the
/// reason of its rejection.
fn is_as_wanted(command: &Value, reply: &Value) -> bool {
    let task = text(&command["task_id"]);
    for path in reply["ignored"].as_array().into_iter().flatten() {
        println!("{task}: `{}` was ignored", text(path));
    }
    if reply.get("result").is_some() || reply.get("result_bytes").is_some() {
        return true;
    }
    let [outcome, reason, detail] =
        ["outcome", "reason", "detail"].map(|field| text(&reply[field]));
    println!("{task}: {outcome}, {reason}: {detail}");
    false
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
