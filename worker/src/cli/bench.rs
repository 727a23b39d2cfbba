//! `glyph bench`: measures the speed of the full pipeline, from the queue to the confirmed message.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use futures::{StreamExt, stream::FuturesUnordered};
use glyph_workflow_engine::{
    ids::{CommandId, TaskId},
    state::TaskStatus,
    store::{PgEventStore, PgSettings, Store},
};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{
    CliError, Output,
    connect::{Publisher, amqp, orchestrator, sqlite_file},
    files::private_folder,
    output::{Table, grouped},
    publish::{WINDOW, command_publication, publish_window},
};
use crate::{
    amqp::delete_topology,
    app::{Database, RunningWorker, WorkerParts},
    metrics::Metrics,
    operations::workflows::WorkflowDocument,
    settings::{BrokerUrl, DatabaseUrl, SecretUrl, Services, Settings},
    telemetry,
    wire::commands::{CommandRequest, read_request},
};

const WORKFLOW: &str = "
workflow:
  id: glyph-bench
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: ANNOTATORS }
      consensus: { field: label, threshold: 0.0 }
";
/// How often progress is read from the store; it bounds the error of the measured time.
const POLL: Duration = Duration::from_millis(50);
/// A run without progress for this long is given up.
const STUCK_AFTER: Duration = Duration::from_mins(1);
/// Commands under way at a time in the paced part.
const IN_FLIGHT_MAX: usize = 4_096;

/// Options of the load generator.
#[derive(Clone, Copy, Debug, Args)]
pub struct BenchArgs {
    /// Commands to enqueue before the worker starts
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20_000,
          value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    commands: u64,
    /// Annotators per task
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=1_000))]
    annotators: u64,
    /// Length of the second part, at half the speed of the first, in seconds; 0 skips it
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    paced_secs: u64,
}

pub(super) async fn run(
    args: BenchArgs,
    mut settings: Settings,
    output: Output,
) -> Result<(), CliError> {
    if settings.log == "info" {
        "warn".clone_into(&mut settings.log);
    }
    telemetry::init(&settings);
    let workspace = BenchWorkspace::make(&mut settings)?;
    let measured = measure(args, &settings, output).await;
    let removed = workspace.remove(&settings).await;
    let report = measured?;
    output.result(&report, || report_text(&report));
    removed
}

/// Where a run happens: separate from existing data, and removed afterwards.
enum BenchWorkspace {
    /// A prefix on the broker and a schema of the database.
    Services,
    /// A folder with a file.
    Folder(PathBuf),
}

impl BenchWorkspace {
    /// Creates it and points `settings` to it. A deployment on the same services must not take the
    /// commands of a run, nor see its tasks.
    fn make(settings: &mut Settings) -> Result<Self, CliError> {
        settings.prefix.push_str("-bench");
        settings.schema.push_str("_bench");
        let beside = match (&settings.database, &settings.broker) {
            (None, None) => std::env::temp_dir(),
            // The same folder as the configured file, so that the same disk is measured.
            (Some(DatabaseUrl::Sqlite(url)), _) => {
                let file = sqlite_file(url)?;
                file.parent()
                    .map_or_else(std::env::temp_dir, Path::to_owned)
            }
            _ => return Ok(Self::Services),
        };
        let folder = beside.join(format!("glyph-bench-{}", Uuid::now_v7()));
        private_folder(&folder).map_err(|error| {
            CliError::failed("folder", format!("{}: {error}", folder.display()))
        })?;
        let url = format!("sqlite://{}", folder.join("glyph.db").display());
        settings.database = Some(DatabaseUrl::Sqlite(SecretUrl::new(url)));
        settings.broker.get_or_insert(BrokerUrl::Embedded);
        Ok(Self::Folder(folder))
    }

    async fn remove(self, settings: &Settings) -> Result<(), CliError> {
        match self {
            Self::Folder(folder) => {
                let _ = std::fs::remove_dir_all(folder);
            }
            Self::Services => {
                let Services::Postgres { database, broker } = settings.services()? else {
                    return Ok(());
                };
                let pg = PgSettings {
                    schema: settings.schema.clone(),
                    ssl_mode: settings.pg_ssl_mode.clone(),
                    ..PgSettings::default()
                };
                let store = PgEventStore::connect(database.expose(), pg).await?;
                let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", settings.schema);
                let dropped = sqlx::query(AssertSqlSafe(drop)).execute(store.pool()).await;
                dropped.map_err(|error| CliError::failed("schema", error.to_string()))?;
                delete_topology(&amqp(&broker, settings)?).await?;
            }
        }
        Ok(())
    }
}

async fn measure(args: BenchArgs, settings: &Settings, output: Output) -> Result<Value, CliError> {
    let services = settings.services()?;
    let database = Database::open(&services, settings).await?;
    database.migrate().await?;
    let store = database.store();
    let source = WORKFLOW.replace("ANNOTATORS", &args.annotators.to_string());
    let orchestrator = orchestrator(&store, settings);
    WorkflowDocument::create(source.as_bytes(), &orchestrator)
        .await
        .map_err(|error| CliError::failed("workflow", telemetry::chain(&error)))?;
    let done_before = completed(&*store).await?;
    let preload_seconds = preload(args, settings, output).await?;

    let metrics = Arc::new(Metrics::new().map_err(crate::app::AppError::Metrics)?);
    let parts = WorkerParts {
        http: false,
        ..WorkerParts::default()
    };
    let started = Instant::now();
    let running = RunningWorker::start(
        &database,
        &services,
        settings,
        parts,
        Arc::new(orchestrator),
        Arc::clone(&metrics),
    )
    .await?;
    let tasks = args.commands / args.annotators;
    let drained = async {
        await_completed(&*store, done_before, tasks, output).await?;
        let decided_seconds = started.elapsed().as_secs_f64();
        while store.outbox_stats().await?.pending > 0 {
            tokio::time::sleep(POLL).await;
        }
        Ok::<_, CliError>((decided_seconds, started.elapsed().as_secs_f64()))
    };
    let (decided_seconds, published_seconds) = drained.await?;
    let per_second = args.commands as f64 / decided_seconds;
    let text = metrics.encode();
    let batches = sum_of(&text, "glyph_batch_commands_count");
    let published = sum_of(&text, "glyph_messages_published_total");
    let mut report = json!({
        "commands": args.commands,
        "tasks": tasks,
        "preload_seconds": preload_seconds,
        "decided_seconds": decided_seconds,
        "commands_per_second": per_second,
        "messages": published,
        "messages_per_second": published / published_seconds,
        "published_seconds": published_seconds,
        "batches": batches,
        "commands_per_batch": sum_of(&text, "glyph_batch_commands_sum") / batches.max(1.0),
    });
    if args.paced_secs > 0 {
        report["latency"] = paced(args, &running, per_second / 2.0).await?;
    }
    running
        .drain(tokio::time::Instant::now() + settings.drain)
        .await?;
    Ok(report)
}

/// Command `index` of a run. The annotators of a task follow each other; the label depends on the
/// index, so that votes differ.
fn command(run: Uuid, index: u64, annotators: u64) -> (CommandId, TaskId, Value) {
    let (task, annotator) = (index / annotators, index % annotators);
    let body = json!({
        "type": "submission",
        "command_id": Uuid::now_v7(),
        "task_id": Uuid::new_v5(&run, &task.to_be_bytes()),
        "workflow": "glyph-bench",
        "annotation": {
            "user_id": Uuid::new_v5(&Uuid::NAMESPACE_OID, &annotator.to_be_bytes()),
            "data": {"label": (["positive", "negative", "neutral"])[usize::from((index % 7).min(2) as u8)]},
        },
    });
    let id = |key: &str| body[key].as_str().and_then(|id| Uuid::parse_str(id).ok());
    let (command_id, task_id) = (id("command_id"), id("task_id"));
    (
        CommandId(command_id.unwrap_or_default()),
        TaskId(task_id.unwrap_or_default()),
        body,
    )
}

async fn preload(args: BenchArgs, settings: &Settings, output: Output) -> Result<f64, CliError> {
    let publisher = Publisher::connect(settings).await?;
    let bar = output.progress(Some(args.commands), "preloading");
    let (started, run) = (Instant::now(), Uuid::now_v7());
    let mut window = Vec::with_capacity(WINDOW);
    for index in 0..args.commands {
        let (id, _, body) = command(run, index, args.annotators);
        let body = body.to_string().into_bytes();
        window.push(command_publication(
            "submission",
            id.to_string(),
            body.into(),
        ));
        if window.len() == WINDOW {
            bar.inc(publish_window(publisher.get(), std::mem::take(&mut window)).await?);
        }
    }
    publish_window(publisher.get(), window).await?;
    publisher.close().await;
    bar.finish_and_clear();
    Ok(started.elapsed().as_secs_f64())
}

async fn completed(store: &dyn Store) -> Result<u64, CliError> {
    let counts = store.task_counts().await?;
    let completed = counts.get(&TaskStatus::Completed).copied().unwrap_or(0);
    Ok(u64::try_from(completed).unwrap_or(0))
}

async fn await_completed(
    store: &dyn Store,
    before: u64,
    tasks: u64,
    output: Output,
) -> Result<(), CliError> {
    let bar = output.progress(Some(tasks), "draining");
    let mut last = (0, Instant::now());
    loop {
        let done = completed(store).await?.saturating_sub(before);
        bar.set_position(done);
        if done >= tasks {
            bar.finish_and_clear();
            return Ok(());
        }
        if done > last.0 {
            last = (done, Instant::now());
        } else if last.1.elapsed() > STUCK_AFTER {
            let text = format!("{done} of {tasks} tasks done, and nothing moves any more");
            return Err(CliError::failed("stuck", text));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Latency from handing a command to this process until its commit, at a steady pace.
async fn paced(
    args: BenchArgs,
    running: &RunningWorker,
    per_second: f64,
) -> Result<Value, CliError> {
    let run = Uuid::now_v7();
    let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)
        .map_err(|error| CliError::failed("bug", error.to_string()))?;
    let mut under_way = FuturesUnordered::new();
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second.max(1.0)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let end = Instant::now() + Duration::from_secs(args.paced_secs);
    let mut index = 0;
    while Instant::now() < end || !under_way.is_empty() {
        let sends = Instant::now() < end && under_way.len() < IN_FLIGHT_MAX;
        tokio::select! {
            due = ticks.tick(), if sends => {
                let (id, task, body) = command(run, index, args.annotators);
                index += 1;
                let read = read_request(&CommandRequest {
                    command_type: "submission",
                    task_id: task,
                    command_id: id,
                    correlation_id: None,
                    traceparent: None,
                    body: body.to_string().as_bytes(),
                });
                let command = read.map_err(|error| CliError::failed("bug", error.to_string()))?;
                let pipeline = running.pipeline.clone();
                under_way.push(tokio::spawn(async move {
                    let outcome = pipeline.submit(command.envelope).await;
                    // Measured from the scheduled time: a slow pipeline does not slow the clock.
                    outcome.map(|_| due.elapsed())
                }));
            }
            Some(done) = under_way.next() => {
                if let Ok(Ok(latency)) = done {
                    let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                    latencies.saturating_record(micros);
                }
            }
        }
    }
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(json!({
        "commands": latencies.len(),
        "commands_per_second": per_second,
        "p50_ms": at(0.5),
        "p90_ms": at(0.9),
        "p99_ms": at(0.99),
        "max_ms": latencies.max() as f64 / 1_000.0,
    }))
}

/// The sum of all series of a metric in the Prometheus text format.
fn sum_of(text: &str, name: &str) -> f64 {
    let series = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with([' ', '{']))
    });
    series
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn report_text(report: &Value) -> String {
    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or(0.0)
    };
    let whole = |pointer: &str| {
        let text = format!("{:.0}", number(pointer));
        text.parse().map_or(text, grouped)
    };
    let mut table = Table::plain();
    table.row([
        "decided".to_owned(),
        format!(
            "{} commands of {} tasks in {:.2} s",
            whole("/commands"),
            whole("/tasks"),
            number("/decided_seconds")
        ),
    ]);
    table.row(["commands/s".to_owned(), whole("/commands_per_second")]);
    table.row([
        "published".to_owned(),
        format!(
            "{} messages in {:.2} s, {}/s",
            whole("/messages"),
            number("/published_seconds"),
            whole("/messages_per_second")
        ),
    ]);
    table.row([
        "batches".to_owned(),
        format!(
            "{} of {:.0} commands each",
            whole("/batches"),
            number("/commands_per_batch")
        ),
    ]);
    let mut text = table.render(0);
    if report.get("latency").is_some() {
        let _ = write!(
            text,
            "\nto commit   p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms at {}/s",
            number("/latency/p50_ms"),
            number("/latency/p90_ms"),
            number("/latency/p99_ms"),
            number("/latency/max_ms"),
            whole("/latency/commands_per_second")
        );
    }
    text
}
