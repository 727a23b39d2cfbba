//! `glyph retention`: deletes what is of no further use, and archives tasks that have ended.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::Args;
use glyph_workflow_engine::{
    config::ConfigDuration,
    ids::TaskId,
    limits::PAGE_MAX,
    state::{TaskStatus, WorkflowSnapshot},
    store::{Leftover, Store, ToArchive, WorkflowConfigStore},
};
use serde::Serialize;

use super::{
    CliError, Output,
    connect::open_store,
    output::{Table, grouped},
};
use crate::{operations::archive::ArchiveWriter, settings::Settings, telemetry};

/// Tasks that are archived in one transaction.
const BATCH_TASKS: usize = 100;
/// Bytes of their lines after which a batch ends.
const BATCH_BYTES: u64 = 4 << 20;

pub(super) const HELP: &str = "\
Nothing is deleted unless a flag names it. Workers may be at work meanwhile; what is interrupted can
be run again.

  glyph retention --snapshots --drafts --dry-run
  glyph retention --finished-before 90d --archive /backup/glyph-2026-01.jsonl
  glyph rejected export /backup/rejected.jsonl && glyph retention --rejected-payloads

docs/retention.md says what an archived task leaves.";

/// What to delete.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct RetentionArgs {
    /// Snapshots that are older than the newest one of their task
    #[arg(long)]
    snapshots: bool,
    /// Drafts of tasks that have ended
    #[arg(long)]
    drafts: bool,
    /// Payloads of rejected commands that `glyph rejected export` has written to a file
    #[arg(long)]
    rejected_payloads: bool,
    /// Archive tasks that have ended and in which nothing has happened for this long, as 90d, or since
    /// this date or RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = Before::read)]
    finished_before: Option<Before>,
    /// The file for what is archived, as JSON lines; it must not exist
    #[arg(long, value_name = "FILE", requires = "finished_before")]
    archive: Option<PathBuf>,
    /// Count, and delete nothing
    #[arg(long)]
    dry_run: bool,
}

/// A time in the past.
#[derive(Clone, Copy, Debug)]
enum Before {
    Ago(ConfigDuration),
    At(DateTime<Utc>),
}

impl Before {
    fn read(text: &str) -> Result<Self, String> {
        if let Ok(ago) = text.parse() {
            return Ok(Self::Ago(ago));
        }
        if let Ok(date) = text.parse::<NaiveDate>() {
            return Ok(Self::At(date.and_time(NaiveTime::MIN).and_utc()));
        }
        DateTime::parse_from_rfc3339(text)
            .map(|at| Self::At(at.to_utc()))
            .map_err(|_| "write a duration as 90d or 12h, a date, or an RFC 3339 time".to_owned())
    }

    fn at(self) -> DateTime<Utc> {
        match self {
            Self::Ago(ago) => Utc::now() - ago.get(),
            Self::At(at) => at,
        }
    }
}

/// What was deleted, or would be.
#[derive(Debug, Default, Serialize)]
struct Report {
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<Archived>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshots: Option<Deleted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drafts: Option<Deleted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected_payloads: Option<Deleted>,
}

#[derive(Debug, Default, Serialize)]
struct Deleted {
    rows: u64,
    bytes: u64,
}

#[derive(Debug, Default, Serialize)]
struct Archived {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    tasks: u64,
    /// Events that left the log.
    events: u64,
    /// Commands in the file. Rejected ones with a payload that was not exported stay as well.
    commands: u64,
    /// Bytes of the JSON of these events and commands.
    bytes: u64,
    /// Children whose parents are not archived yet.
    children_left: u64,
    /// Tasks that moved while they were written, or are still being written to by somebody.
    busy: u64,
    /// Tasks whose events do not lead to their row.
    damaged: BTreeSet<TaskId>,
}

pub(super) async fn run(
    args: RetentionArgs,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let leftovers = args.snapshots || args.drafts || args.rejected_payloads;
    if !leftovers && args.finished_before.is_none() {
        let text = "say what to delete: --snapshots, --drafts, --rejected-payloads, or \
                    --finished-before with --archive";
        return Err(CliError::Usage(text.to_owned()));
    }
    if args.finished_before.is_some() && args.archive.is_none() && !args.dry_run {
        let text = "--finished-before needs --archive FILE, which what leaves the database goes to";
        return Err(CliError::Usage(text.to_owned()));
    }
    let store = open_store(settings).await?;
    store.check_owner().await?;
    let mut report = Report {
        dry_run: args.dry_run,
        ..Report::default()
    };
    if let Some(before) = args.finished_before {
        let file = args.archive.filter(|_| !args.dry_run);
        let archived = archive(&*store, before.at(), file.as_deref(), output).await?;
        report.archive = Some(Archived { file, ..archived });
    }
    let delete = |kind| delete(&*store, kind, args.dry_run);
    if args.snapshots {
        report.snapshots = Some(delete(Leftover::Snapshots).await?);
    }
    if args.drafts {
        report.drafts = Some(delete(Leftover::Drafts).await?);
    }
    if args.rejected_payloads {
        report.rejected_payloads = Some(delete(Leftover::RejectedPayloads).await?);
    }
    output.result(&report, || text(&report));
    Ok(())
}

/// Deletes leftovers page by page.
async fn delete(store: &dyn Store, kind: Leftover, dry_run: bool) -> Result<Deleted, CliError> {
    let (mut deleted, mut after) = (Deleted::default(), None);
    loop {
        let page = store.leftovers(kind, after, PAGE_MAX, !dry_run).await?;
        deleted.rows += page.rows;
        deleted.bytes += page.bytes;
        match page.next_after {
            Some(next) => after = Some(next),
            None => return Ok(deleted),
        }
    }
}

/// A file of its own, for its owner alone. Its name is on the disk before anything is deleted.
pub(super) fn new_file(path: &Path) -> Result<File, CliError> {
    let made = || {
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        let folder = path.parent().filter(|folder| *folder != Path::new(""));
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(file)
    };
    made().map_err(|error: io::Error| unwritten(path, &error))
}

pub(super) fn unwritten(path: &Path, error: &io::Error) -> CliError {
    CliError::failed("file", format!("{}: {error}", path.display()))
}

/// Archives tasks that have ended, in bounded batches; without a file only counts.
async fn archive(
    store: &dyn Store,
    before: DateTime<Utc>,
    path: Option<&Path>,
    output: Output,
) -> Result<Archived, CliError> {
    let writer = match path {
        Some(path) => Some((
            path,
            ArchiveWriter::new(new_file(path)?, store.log_id().await?),
        )),
        None => None,
    };
    let bar = output.progress(None, "archiving");
    let mut archiver = Archiver {
        store,
        writer,
        batch: Vec::new(),
        batch_bytes: 0,
        done: BTreeSet::new(),
        is_first_pass: true,
        report: Archived::default(),
    };
    // A child goes after its parent, whatever their ids: pass by pass, down from the roots.
    loop {
        let tasks_before = archiver.report.tasks;
        archiver.report.children_left = 0;
        archiver.report.busy = 0;
        let mut after = None;
        loop {
            let page = store.archivable(before, after, PAGE_MAX).await?;
            for task in &page {
                archiver.take(*task).await?;
                bar.set_position(archiver.report.tasks);
            }
            match page.last() {
                Some(last) => after = Some(*last),
                None => break,
            }
        }
        archiver.commit().await?;
        archiver.is_first_pass = false;
        bar.set_position(archiver.report.tasks);
        let progress = archiver.report.tasks > tasks_before;
        if archiver.report.children_left == 0 || !progress {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(archiver.report)
}

struct Archiver<'a> {
    store: &'a dyn Store,
    /// None where everything is only counted.
    writer: Option<(&'a Path, ArchiveWriter)>,
    /// Written, and not deleted yet.
    batch: Vec<ToArchive>,
    batch_bytes: u64,
    /// Parents and children that a dry run has counted: they stay archivable. Others are counted on the
    /// first pass alone.
    done: BTreeSet<TaskId>,
    is_first_pass: bool,
    report: Archived,
}

impl Archiver<'_> {
    async fn take(&mut self, task: TaskId) -> Result<(), CliError> {
        if self.report.damaged.contains(&task) {
            return Ok(());
        }
        let Some(whole) = self.store.whole_task(task).await? else {
            return Ok(());
        };
        let state = match whole.last_state() {
            Ok(state) => state,
            Err(error) => {
                let error = telemetry::chain(&error);
                tracing::warn!(%task, error, "a task is not archived: run `glyph rebuild`");
                self.report.damaged.insert(task);
                return Ok(());
            }
        };
        if let Some(parent) = &state.parent
            && !self.is_gone(parent.task_id).await?
        {
            self.report.children_left += 1;
            return Ok(());
        }
        if self.writer.is_none() {
            let is_counted = if has_relatives(&state) {
                !self.done.insert(task)
            } else {
                !self.is_first_pass
            };
            if is_counted {
                return Ok(());
            }
        }
        let one = ToArchive { whole, state };
        if let Some((path, writer)) = &mut self.writer {
            let revision = one.state.workflow.revision_id;
            if writer.lacks(revision)
                && let Some(config) = WorkflowConfigStore::load(self.store, revision.0).await?
            {
                let written = writer.revision(&config);
                written.map_err(|error| unwritten(path, &error))?;
            }
            let written = writer.task(&one.whole);
            self.batch_bytes += written.map_err(|error| unwritten(path, &error))?;
        }
        self.batch.push(one);
        if self.batch.len() >= BATCH_TASKS || self.batch_bytes >= BATCH_BYTES {
            self.commit().await?;
        }
        Ok(())
    }

    /// Whether a parent needs its child no more.
    async fn is_gone(&self, parent: TaskId) -> Result<bool, CliError> {
        if self.done.contains(&parent) {
            return Ok(true);
        }
        let row = self.store.task(parent).await?;
        Ok(row.is_none_or(|row| row.status == TaskStatus::Archived))
    }

    /// Deletes what is safe in the file.
    async fn commit(&mut self) -> Result<(), CliError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if batch.is_empty() {
            return Ok(());
        }
        let archived: BTreeSet<TaskId> = match &mut self.writer {
            Some((path, writer)) => {
                writer.sync().map_err(|error| unwritten(path, &error))?;
                self.store.archive(&batch).await?.into_iter().collect()
            }
            None => batch.iter().map(|one| one.whole.task.task_id).collect(),
        };
        for ToArchive { whole, .. } in &batch {
            if !archived.contains(&whole.task.task_id) {
                self.report.busy += 1;
                continue;
            }
            let leaving: BTreeSet<u64> = whole.leaving().into_iter().collect();
            let events = whole.events.iter();
            let events = events.filter(|event| leaving.contains(&event.version));
            let event_bytes: usize = events
                .map(|event| event.event_data.get().len() + event.metadata.get().len())
                .sum();
            let commands = serde_json::to_string(&whole.commands).unwrap_or_default();
            self.report.tasks += 1;
            self.report.events += leaving.len() as u64;
            self.report.commands += whole.commands.len() as u64;
            self.report.bytes += (event_bytes + commands.len()) as u64;
        }
        Ok(())
    }
}

/// Whether the task is a child or has had one.
fn has_relatives(state: &WorkflowSnapshot) -> bool {
    let mut visits = state.steps.values().flat_map(|step| &step.visits);
    state.parent.is_some() || visits.any(|visit| visit.child.is_some())
}

fn text(report: &Report) -> String {
    let mut table = Table::plain();
    let mut row = |what: &str, count: u64, bytes: u64| {
        let size = format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        table.row([what.to_owned(), grouped(count), size]);
    };
    if let Some(archive) = &report.archive {
        row("tasks archived", archive.tasks, archive.bytes);
        row("events that left the log", archive.events, 0);
        row("commands", archive.commands, 0);
        let left = [
            (
                "children whose parents are not archived",
                archive.children_left,
            ),
            ("tasks that were busy", archive.busy),
            ("tasks that are damaged", archive.damaged.len() as u64),
        ];
        for (what, count) in left.into_iter().filter(|(_, count)| *count > 0) {
            row(what, count, 0);
        }
    }
    let leftovers = [
        ("old snapshots", &report.snapshots),
        ("drafts of ended tasks", &report.drafts),
        ("payloads of rejected commands", &report.rejected_payloads),
    ];
    for (what, deleted) in leftovers {
        if let Some(Deleted { rows, bytes }) = deleted {
            row(what, *rows, *bytes);
        }
    }
    let head = if report.dry_run {
        "would be deleted:\n"
    } else {
        ""
    };
    format!("{head}{}", table.render(0))
}
