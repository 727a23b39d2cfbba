//! `glyph task import --archive`: brings archived tasks back.

use std::path::Path;

use glyph_workflow_engine::store::{BroughtBack, Store, WorkflowConfigStore};
use serde::Serialize;
use uuid::Uuid;

use super::{CliError, Output, connect::open_store, output::grouped};
use crate::{
    operations::archive::{ArchiveFault, ArchiveTask, read_archive},
    settings::Settings,
    telemetry,
};

/// What became of an archive.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Tasks in the file.
    tasks: u64,
    /// Tasks that are whole again.
    restored: u64,
    /// Tasks that were whole already.
    unchanged: u64,
}

pub(super) async fn run(path: &Path, settings: &Settings, output: Output) -> Result<(), CliError> {
    // Nothing is brought back unless every line can be read.
    for task in tasks(path)? {
        task.map_err(|fault| invalid(path, &fault))?;
    }
    let store = open_store(settings).await?;
    store.check_owner().await?;
    let log = store.log_id().await?.0;
    let bar = output.progress(None, "bringing back");
    let mut report = Report::default();
    for task in tasks(path)? {
        let task = task.map_err(|fault| invalid(path, &fault))?;
        let brought = bring_back(&*store, &task).await?;
        report.tasks += 1;
        match brought {
            Some(BroughtBack::Restored) => report.restored += 1,
            Some(BroughtBack::AlreadyWhole) => report.unchanged += 1,
            Some(BroughtBack::NotThere | BroughtBack::Another) | None => {
                bar.finish_and_clear();
                let why = refusal(&task, log, brought.is_some());
                let done = format!("{} tasks were brought back before it", report.restored);
                let message = format!("{}: line {}: {why}; {done}", path.display(), task.line);
                return Err(CliError::InvalidFile(message));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    output.result(&report, || {
        format!(
            "{} of {} tasks brought back; {} were whole already",
            grouped(report.restored),
            grouped(report.tasks),
            grouped(report.unchanged)
        )
    });
    Ok(())
}

fn tasks(path: &Path) -> Result<impl Iterator<Item = Result<ArchiveTask, ArchiveFault>>, CliError> {
    read_archive(path)
        .map_err(|error| CliError::InvalidFile(format!("{}: {error}", path.display())))
}

fn invalid(path: &Path, fault: &ArchiveFault) -> CliError {
    let fault = telemetry::chain(fault);
    CliError::InvalidFile(format!("{}: {fault}", path.display()))
}

/// Brings a task back; none if its revision is not stored.
async fn bring_back(
    store: &dyn Store,
    task: &ArchiveTask,
) -> Result<Option<BroughtBack>, CliError> {
    let revision = task.state.workflow.revision_id.0;
    if WorkflowConfigStore::load(store, revision).await?.is_none() {
        return Ok(None);
    }
    Ok(Some(store.bring_back(&task.whole).await?))
}

/// Why a task is not brought back.
fn refusal(task: &ArchiveTask, log: Uuid, has_revision: bool) -> String {
    let id = task.whole.task.task_id;
    if task.log != log {
        format!(
            "task {id} is of the log {}, and this one is {log}: an archive goes back where it came \
             from",
            task.log
        )
    } else if has_revision {
        format!("task {id} is not as it was archived: its events here are others")
    } else {
        let workflow = &task.state.workflow;
        let (name, revision) = (&workflow.workflow, workflow.revision);
        format!("the revision {name}@{revision} of task {id} is not stored here")
    }
}
