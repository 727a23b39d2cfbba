//! One run: queues are filled, a subject drains them, and then keeps up with a steady pace.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use uuid::Uuid;

use super::{
    super::{
        CliError, Output,
        connect::{Publisher, amqp, orchestrator},
        publish::{WINDOW, command_publication, publish_window},
    },
    arguments::BenchArgs,
    paced::{self, Latency},
    processes::{peak_memory, processor_seconds, processor_seconds_of},
    subject::{Processes, Subject, Work},
    tables::Tables,
    workload::Workload,
};
use crate::{
    amqp::AmqpTap,
    app::Database,
    operations::workflows::WorkflowDocument,
    settings::{Services, Settings},
    telemetry,
};

/// How often the tables are asked how far the run is. Rates come from the times of the rows.
const POLL: Duration = Duration::from_millis(200);
/// Between two looks at how far a run is.
const POLL_MAX: Duration = Duration::from_secs(2);
/// A run without progress for this long is given up.
const STUCK_AFTER: Duration = Duration::from_mins(1);
/// Messages whose size is looked at.
const SIZED: usize = 20;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Run {
    pub(super) subject: &'static str,
    pub(super) workload: &'static str,
    pub(super) round: u32,
    pub(super) commands: u64,
    pub(super) preload_seconds: f64,
    pub(super) decided_seconds: f64,
    pub(super) commands_per_second: f64,
    pub(super) messages: f64,
    pub(super) messages_per_second: f64,
    /// Until the last message was confirmed.
    pub(super) published_seconds: f64,
    /// Commands of a batch, on average; of workers only.
    pub(super) commands_per_batch: Option<f64>,
    /// Processor time of a command.
    pub(super) processor: Processor,
    /// Bytes of a command in the server's log.
    pub(super) wal_bytes: Option<f64>,
    /// Images of whole pages a command among them, which follow each checkpoint.
    pub(super) wal_page_images: Option<f64>,
    /// Of the process with the most.
    pub(super) peak_memory_bytes: Option<u64>,
    /// What a command led to, on average.
    pub(super) work: Work,
    /// Measured at a steady pace: the one that was asked for, or half the speed of the worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency: Option<Latency>,
}

/// Microseconds a command, from the start of the processes to the last confirm; none for a service
/// that runs elsewhere. Of the services everything counts, whoever uses them.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Processor {
    pub(super) subject: Option<f64>,
    pub(super) postgres: Option<f64>,
    pub(super) rabbitmq: Option<f64>,
}

impl Processor {
    /// Seconds since the machine started.
    fn now(processes: &Processes) -> Self {
        Self {
            subject: processes.ids().map(processor_seconds).sum(),
            postgres: processor_seconds_of("postgres"),
            rabbitmq: processor_seconds_of("beam.smp"),
        }
    }

    fn since(self, before: Self, commands: u64) -> Self {
        let each = |now: Option<f64>, then: Option<f64>| {
            Some((now? - then.unwrap_or_default()) * 1e6 / commands.max(1) as f64)
        };
        Self {
            subject: each(self.subject, Some(0.0)),
            postgres: each(self.postgres, before.postgres),
            rabbitmq: each(self.rabbitmq, before.rabbitmq),
        }
    }

    /// All together, where all are known.
    pub(super) fn sum(self) -> Option<f64> {
        Some(self.subject? + self.postgres? + self.rabbitmq?)
    }
}

/// Runs a subject in a workspace that is empty.
pub(super) async fn run(
    args: &BenchArgs,
    settings: &Settings,
    subject: &Subject,
    workload: Workload,
    pace: Option<f64>,
    output: Output,
) -> Result<Run, CliError> {
    let services = settings.services()?;
    let database = Database::open(&services, settings).await?;
    if let Subject::Workers(_) = subject {
        database.migrate().await?;
        let store = database.store();
        WorkflowDocument::create(
            workload.workflow().as_bytes(),
            None,
            &orchestrator(&store, settings),
        )
        .await
        .map_err(|error| CliError::failed("workflow", telemetry::chain(&error)))?;
    }
    let tables = Tables::of(&database);
    let preload_seconds = preload(args.commands, workload, settings, output).await?;

    let idle = Processor {
        subject: None,
        postgres: processor_seconds_of("postgres"),
        rabbitmq: processor_seconds_of("beam.smp"),
    };
    let wal_before = tables.wal().await;
    let mut processes = Processes::start(subject, settings)?;
    let begun = await_decided(&tables, &mut processes, args.commands, output).await?;
    let decided = tables.decided().await?;
    while tables.outbox().await? > 0 {
        processes.check()?;
        tokio::time::sleep(POLL).await;
    }
    let published_seconds = begun.elapsed().as_secs_f64().max(decided.seconds);
    let processor = Processor::now(&processes).since(idle, decided.commands);
    let wal = wal_before.zip(tables.wal().await);
    let a_command = |value: f64| value / decided.commands.max(1) as f64;
    let metrics = processes.metrics().await;
    let work = match subject {
        Subject::Floor { work, .. } => *work,
        Subject::Workers(_) => {
            let messages = sum_of(&metrics, "glyph_messages_published_total");
            Work {
                messages: a_command(messages),
                message_bytes: message_bytes(&services, settings).await?,
                ..tables.events(decided.commands).await?
            }
        }
    };
    let messages = work.messages * decided.commands as f64;
    let batches = sum_of(&metrics, "glyph_batch_commands_count");
    let mut run = Run {
        subject: subject.as_str(),
        workload: workload.as_str(),
        round: 0,
        commands: decided.commands,
        preload_seconds,
        decided_seconds: decided.seconds,
        commands_per_second: decided.per_second,
        messages,
        messages_per_second: messages / published_seconds,
        published_seconds,
        commands_per_batch: (batches > 0.0)
            .then(|| sum_of(&metrics, "glyph_batch_commands_sum") / batches),
        processor,
        wal_bytes: wal.map(|(before, after)| a_command(after.0 - before.0)),
        wal_page_images: wal.map(|(before, after)| a_command(after.1 - before.1)),
        peak_memory_bytes: processes.ids().filter_map(peak_memory).max(),
        work,
        latency: None,
    };
    if args.paced_secs > 0
        && let Services::Postgres { broker, .. } = &services
    {
        let pace = pace.unwrap_or(decided.per_second / 2.0);
        let measured = paced::measure(settings, broker, workload, pace, args.paced_secs).await?;
        run.latency = Some(measured);
    }
    processes.stop().await;
    Ok(run)
}

async fn preload(
    commands: u64,
    workload: Workload,
    settings: &Settings,
    output: Output,
) -> Result<f64, CliError> {
    let publisher = Publisher::connect(settings).await?;
    let bar = output.progress(Some(commands), "preloading");
    let (started, run) = (Instant::now(), Uuid::now_v7());
    let mut window = Vec::with_capacity(WINDOW);
    for index in 0..commands {
        let load = workload.load(run, index);
        let body: Arc<[u8]> = load.body.into();
        window.push(command_publication(load.kind, load.id.to_string(), body));
        if window.len() == WINDOW {
            bar.inc(publish_window(publisher.get(), std::mem::take(&mut window)).await?);
        }
    }
    publish_window(publisher.get(), window).await?;
    publisher.close().await;
    bar.finish_and_clear();
    Ok(started.elapsed().as_secs_f64())
}

/// Waits until all commands are decided. Returns when the first was seen to be.
async fn await_decided(
    tables: &Tables,
    processes: &mut Processes,
    commands: u64,
    output: Output,
) -> Result<Instant, CliError> {
    let bar = output.progress(Some(commands), "draining");
    let mut begun: Option<Instant> = None;
    let mut last = (0, Instant::now());
    loop {
        processes.check()?;
        // A floor that has just been started has no tables yet.
        let done = tables.count().await.unwrap_or_default();
        bar.set_position(done);
        if done > 0 {
            begun.get_or_insert_with(Instant::now);
        }
        if done >= commands {
            bar.finish_and_clear();
            return Ok(begun.unwrap_or_else(Instant::now));
        }
        // Counting reads the whole table, and what it costs is counted too: so seldom, until little is left.
        let left = (commands - done) as f64 / done.max(1) as f64;
        let pause = begun.map_or(POLL, |begun| begun.elapsed().mul_f64(left.min(1.0) / 2.0));
        if done > last.0 {
            last = (done, Instant::now());
        } else if last.1.elapsed() > STUCK_AFTER {
            let text = format!("{done} of {commands} commands done, and nothing moves any more");
            return Err(CliError::failed("stuck", text));
        }
        tokio::time::sleep(pause.clamp(POLL, POLL_MAX)).await;
    }
}

/// The mean size of some messages of a run.
async fn message_bytes(services: &Services, settings: &Settings) -> Result<f64, CliError> {
    let Services::Postgres { broker, .. } = services else {
        return Ok(0.0);
    };
    let amqp = amqp(broker, settings)?;
    let queues = [
        amqp.topology().step_completed(),
        amqp.topology().transition_occurred(),
    ];
    let mut tap = AmqpTap::open(&amqp, &queues).await?;
    let (mut bytes, mut count) = (0, 0_u32);
    while (count as usize) < SIZED
        && let Ok(Ok(tapped)) = tokio::time::timeout(Duration::from_secs(1), tap.next()).await
    {
        bytes += tapped.bytes;
        count += 1;
    }
    tap.close().await;
    Ok(bytes as f64 / f64::from(count.max(1)))
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
