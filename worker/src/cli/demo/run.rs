//! Runs the demo from a fresh folder to its summary.

use std::{collections::HashSet, path::Path, sync::Arc, time::Instant};

use clap::Args;
use uuid::Uuid;

use super::{
    people::People,
    scenario::{WORKFLOWS, first_work, items},
    summary::Summary,
};
use crate::{
    app::{AppError, Database, RunningWorker, WorkerParts},
    cli::{
        CliError, Output,
        connect::{Publisher, orchestrator},
        files::private_folder,
        worker::serve,
    },
    metrics::Metrics,
    operations::workflows::WorkflowDocument,
    projections::{GoalProjector, PageOutcome},
    settings::{BrokerUrl, DatabaseUrl, SecretUrl, Settings},
    telemetry,
};

/// Options of the demo.
#[derive(Clone, Copy, Debug, Args)]
pub struct DemoArgs {
    /// Keep running afterwards, with the HTTP API
    #[arg(long)]
    serve: bool,
}

pub(in crate::cli) async fn run(
    args: DemoArgs,
    mut settings: Settings,
    output: Output,
) -> Result<(), CliError> {
    let folder = std::env::temp_dir().join(format!("glyph-demo-{}", Uuid::now_v7().simple()));
    private_folder(&folder)
        .map_err(|error| CliError::failed("folder", format!("{}: {error}", folder.display())))?;
    let url = format!("sqlite://{}", folder.join("glyph.db").display());
    settings.database = Some(DatabaseUrl::Sqlite(SecretUrl::new(&url)));
    settings.broker = Some(BrokerUrl::Embedded);
    settings.api = None;
    if settings.log == "info" {
        // Log lines would tear the progress bar; GLYPH_LOG still raises the level.
        "warn".clone_into(&mut settings.log);
    }
    telemetry::init(&settings);
    output.note(&format!("Everything is kept in {}\n", folder.display()));
    let summary = play(&settings, output).await?;
    let document = summary.document(&folder, &url);
    output.result(&document, || summary.text(&url, &program()));
    if args.serve {
        output.note(&format!(
            "\nThe console: http://{}/ui (Ctrl-C ends it)",
            settings.http_addr
        ));
        serve(settings, WorkerParts::default()).await?;
    }
    Ok(())
}

/// How to call this program from here, for the commands in the summary.
fn program() -> String {
    let Ok(path) = std::env::current_exe() else {
        return "glyph".to_owned();
    };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&folders).any(|folder| Some(folder.as_path()) == path.parent()) {
        return "glyph".to_owned();
    }
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or(path).display().to_string()
}

/// Creates workflows, enqueues work, and lets worker and people finish it.
async fn play(settings: &Settings, output: Output) -> Result<Summary, CliError> {
    let services = settings.services()?;
    let database = Database::open(&services, settings).await?;
    database.migrate().await?;
    let store = database.store();
    let orchestrator = Arc::new(orchestrator(&store, settings));
    for (name, source) in WORKFLOWS {
        WorkflowDocument::create(source.as_bytes(), None, &orchestrator)
            .await
            .map_err(|error| {
                CliError::failed("workflow", format!("{name}: {}", telemetry::chain(&error)))
            })?;
    }
    let publisher = Publisher::connect(settings).await?;
    let metrics = Arc::new(Metrics::new().map_err(AppError::Metrics)?);
    let running = RunningWorker::start(
        &database,
        &services,
        settings,
        WorkerParts {
            http: false,
            ..WorkerParts::default()
        },
        Arc::clone(&orchestrator),
        metrics,
    )
    .await?;
    let mut people = People {
        publisher,
        orchestrator,
        store,
        sent: 0,
        answered: HashSet::new(),
    };
    let started = Instant::now();
    let items = items();
    let bar = output.progress(Some(items.len() as u64), "tasks");
    people.enqueue(first_work(&items)).await?;
    let played = people.work_until_done(&items, &bar).await;
    bar.finish_and_clear();
    played?;
    let seconds = started.elapsed().as_secs_f64();
    running
        .drain(tokio::time::Instant::now() + settings.drain)
        .await?;
    // The projection runs at its own pace; catch up, so that goals read next are complete.
    let goals = GoalProjector::new(Arc::clone(&people.store), settings.messages());
    while let PageOutcome::Read { .. } = goals.step().await? {}
    Summary::of(&people, &items, seconds).await
}
