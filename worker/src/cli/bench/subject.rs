//! What is measured: workers, or the floor.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};

use super::super::CliError;
use crate::settings::{Services, Settings};

/// How long a process may take to end.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);

/// What drains the queues.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    /// This many `glyph worker`.
    Workers(usize),
    /// A program without logic that does the same work.
    Floor { program: PathBuf, work: Work },
}

/// What a command leads to, on average.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Work {
    /// Events of a command.
    pub(super) events: f64,
    /// Bytes of an event.
    pub(super) event_bytes: f64,
    /// Messages of a command.
    pub(super) messages: f64,
    /// Bytes of a message.
    pub(super) message_bytes: f64,
}

impl Subject {
    /// The name in reports.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Workers(_) => "worker",
            Self::Floor { .. } => "floor",
        }
    }
}

/// The processes of a subject; they end with this value.
pub(super) struct Processes(Vec<(Child, u32, Option<u16>)>);

impl Processes {
    /// Starts the processes on the services of `settings`.
    pub(super) fn start(subject: &Subject, settings: &Settings) -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::failed("process", error.to_string());
        let mut started = Vec::new();
        let count = match subject {
            Subject::Workers(count) => *count,
            Subject::Floor { .. } => 1,
        };
        for _ in 0..count {
            let (mut command, port) = match subject {
                Subject::Workers(_) => {
                    let port = free_port().map_err(failed)?;
                    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
                    command.args(["worker", "--no-http", "--metrics-addr"]);
                    command.arg(format!("127.0.0.1:{port}"));
                    (command, Some(port))
                }
                Subject::Floor { program, work } => {
                    let mut command = Command::new(program);
                    command
                        .env("FLOOR_EVENTS", work.events.to_string())
                        .env("FLOOR_EVENT_BYTES", format!("{:.0}", work.event_bytes))
                        .env("FLOOR_MESSAGES", work.messages.to_string())
                        .env("FLOOR_MESSAGE_BYTES", format!("{:.0}", work.message_bytes));
                    (command, None)
                }
            };
            environment(&mut command, settings)?;
            let child = command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| {
                    let program = command.as_std().get_program().to_string_lossy();
                    CliError::failed("process", format!("{program}: {error}"))
                })?;
            let id = child.id().unwrap_or_default();
            started.push((child, id, port));
        }
        Ok(Self(started))
    }

    /// Process ids.
    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|(_, id, _)| *id)
    }

    /// Fails if a process has ended.
    pub(super) fn check(&mut self) -> Result<(), CliError> {
        for (child, id, _) in &mut self.0 {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(CliError::failed(
                    "process",
                    format!("process {id} ended early ({status}); its log is above"),
                ));
            }
        }
        Ok(())
    }

    /// The metrics of all workers, one text after the other.
    pub(super) async fn metrics(&self) -> String {
        let mut texts = String::new();
        for port in self.0.iter().filter_map(|(_, _, port)| *port) {
            if let Ok(text) = metrics_at(port).await {
                texts.push_str(&text);
            }
        }
        texts
    }

    /// Asks all to end, and waits for it.
    pub(super) async fn stop(self) {
        for (mut child, id, _) in self.0 {
            let asked = Command::new("kill").arg(id.to_string()).status().await;
            let ended = tokio::time::timeout(STOP_TIMEOUT, child.wait()).await;
            if asked.is_err() || ended.is_err() {
                // It changes nothing that was measured.
                let _ = child.kill().await;
            }
        }
    }
}

/// The settings that matter, in the environment: a password is in no list of processes.
fn environment(command: &mut Command, settings: &Settings) -> Result<(), CliError> {
    let (database, broker) = match settings.services()? {
        Services::Postgres { database, broker } => {
            (database.expose().to_owned(), broker.expose().to_owned())
        }
        Services::Embedded { database } => (database.expose().to_owned(), "embedded:".to_owned()),
    };
    command
        .env("DATABASE_URL", database)
        .env("AMQP_URL", broker)
        .env("GLYPH_PREFIX", &settings.prefix)
        .env("GLYPH_SCHEMA", &settings.schema)
        .env("GLYPH_LANES", settings.lanes.to_string())
        .env("GLYPH_BATCH_MAX", settings.batch_max.to_string())
        .env(
            "GLYPH_BATCH_WAIT_MS",
            settings.batch_wait.as_millis().to_string(),
        )
        .env("GLYPH_PREFETCH", settings.prefetch.to_string())
        .env("GLYPH_OUTBOX_MAX", settings.outbox_max.to_string())
        .env("GLYPH_PUBLISH", settings.publish.to_string())
        .env("GLYPH_QUEUES", settings.queues.as_str())
        .env("GLYPH_LOG", "warn");
    Ok(())
}

/// The metrics of a worker, in the text format of Prometheus, after the head of the answer.
async fn metrics_at(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A port that is free now.
fn free_port() -> std::io::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}
