//! `glyph rejected`: commands rejected by the state or the rules; their payload is kept.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use glyph_workflow_engine::{
    ids::{CommandId, TaskId},
    limits::PAGE_MAX,
    store::{CommandPage, CommandRow, RecordedOutcome, RejectedFilter, Store},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    CliError, Output, account,
    api::Call,
    connect::{open_store, orchestrator},
    dead_letter::reasons_text,
    deployment::Deployment,
    edit::{EditArgs, edited},
    job::{ReplayArgs, create_and_follow},
    output::{Table, clipped, grouped},
    retention::{new_file, unwritten},
    submit::{show_outcome, submit},
};
use crate::{
    jobs::{JobKind, Selection, command_of, first_replay},
    operations::{letters::Dropped, outcome::CommandOutcome},
    settings::Settings,
};

/// Verbs on rejected commands.
#[derive(Clone, Debug, Subcommand)]
pub enum RejectedVerb {
    /// List rejected commands, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Count them by reason instead
        #[arg(long)]
        by_reason: bool,
        /// Continue after this command
        #[arg(long, value_name = "COMMAND_ID")]
        after: Option<Uuid>,
        /// Maximum number of commands
        #[arg(long, value_name = "N", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
        limit: u32,
    },
    /// Show one rejected command with its payload
    Show {
        /// Command id
        command_id: Uuid,
    },
    /// Run a rejected command again with a changed payload, under an id derived from its own
    Edit {
        /// Command id
        command_id: Uuid,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Run rejected commands again, under ids derived from their own; many as a job: one, ten, a
    /// hundredth, then the rest. It stops by itself
    Replay {
        #[command(flatten)]
        selection: RejectedSelection,
        #[command(flatten)]
        replay: ReplayArgs,
    },
    /// Take rejected commands out of the list. Their ids stay known
    Drop(RejectedSelection),
    /// Write rejected commands that were not exported yet to a file, payload and all, and mark them:
    /// `glyph retention --rejected-payloads` deletes the payloads of those alone
    Export {
        /// The file, of JSON lines; it must not exist
        file: PathBuf,
    },
}

/// Which rejected commands, by what they are.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Only with this reason, as surplus
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only of tasks of this workflow
    #[arg(long, value_name = "WORKFLOW")]
    workflow: Option<String>,
    /// Only of this task
    #[arg(long, value_name = "TASK")]
    task: Option<Uuid>,
}

impl Filter {
    fn says_nothing(&self) -> bool {
        self.reason.is_none() && self.workflow.is_none() && self.task.is_none()
    }

    /// A page of those that it leaves, newest first.
    async fn page(
        &self,
        deployment: &Deployment,
        after: Option<CommandId>,
        limit: u32,
    ) -> Result<CommandPage, CliError> {
        let call = Call::get(&[&"rejected"])
            .query("reason", self.reason.as_ref())
            .query("workflow", self.workflow.as_ref())
            .query("task", self.task)
            .query("after", after)
            .query("limit", Some(limit));
        let of_store = async |store: &Arc<dyn Store>| {
            let filter = RejectedFilter {
                task: self.task.map(TaskId),
                workflow: self.workflow.clone(),
                reason: self.reason.clone(),
                not_exported: false,
                oldest_first: false,
            };
            Ok(store.rejected(&filter, after, limit).await?)
        };
        deployment.ask(call, of_store).await
    }
}

/// Which rejected commands.
#[derive(Clone, Debug, Args)]
pub struct RejectedSelection {
    /// Command ids
    #[arg(value_name = "COMMAND_ID", conflicts_with_all = ["reason", "workflow", "task", "all"])]
    ids: Vec<Uuid>,
    #[command(flatten)]
    filter: Filter,
    /// All
    #[arg(long, conflicts_with_all = ["reason", "workflow", "task"])]
    all: bool,
}

impl RejectedSelection {
    fn check(&self) -> Result<(), CliError> {
        if self.ids.is_empty() && self.filter.says_nothing() && !self.all {
            let text = "say which: command ids, --reason, --workflow, --task or --all";
            return Err(CliError::Usage(text.to_owned()));
        }
        Ok(())
    }

    fn selection(&self) -> Selection {
        Selection {
            ids: self.ids.iter().map(ToString::to_string).collect(),
            reason: self.filter.reason.clone(),
            task: self.filter.task,
            workflow: self.filter.workflow.clone(),
        }
    }

    /// Those that are chosen, page by page. Fails if one that is named is not rejected.
    async fn each(
        &self,
        deployment: &Deployment,
        mut on: impl FnMut(Vec<CommandRow>),
    ) -> Result<(), CliError> {
        if !self.ids.is_empty() {
            let mut rows = Vec::new();
            for id in &self.ids {
                rows.push(rejected(deployment, CommandId(*id)).await?);
            }
            on(rows);
            return Ok(());
        }
        let mut after = None;
        loop {
            let page = self.filter.page(deployment, after, PAGE_MAX).await?;
            on(page.commands);
            match page.next_after {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn reasons(&self, deployment: &Deployment) -> Result<BTreeMap<String, u64>, CliError> {
        let mut counts = BTreeMap::new();
        self.each(deployment, |rows| {
            for row in rows {
                *counts.entry(reason_of(&row).0.to_owned()).or_default() += 1;
            }
        })
        .await?;
        Ok(counts)
    }
}

pub(super) async fn run(
    verb: RejectedVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let deployment = Deployment::open(settings).await?;
    match verb {
        RejectedVerb::List {
            filter,
            by_reason: true,
            ..
        } => {
            let all = RejectedSelection {
                ids: Vec::new(),
                filter,
                all: true,
            };
            let counts = all.reasons(&deployment).await?;
            output.result(&json!({"reasons": counts}), || reasons_text(&counts));
        }
        RejectedVerb::List {
            filter,
            after,
            limit,
            ..
        } => {
            let page = filter
                .page(&deployment, after.map(CommandId), limit)
                .await?;
            output.result(&page, || list_text(&page));
        }
        RejectedVerb::Show { command_id } => {
            let row = rejected(&deployment, CommandId(command_id)).await?;
            output.result(&row, || show_text(&row));
        }
        RejectedVerb::Edit { command_id, edit } => {
            let row = rejected(&deployment, CommandId(command_id)).await?;
            let body = edited(payload_of(&row)?.to_string().as_bytes(), &edit)?;
            let payload = serde_json::from_slice(&body)
                .map_err(|error| CliError::failed("malformed", format!("not JSON: {error}")))?;
            replay_now(&deployment, settings, row.command_id, &payload, output).await?;
        }
        RejectedVerb::Replay { selection, replay } => {
            selection.check()?;
            if let ([id], false) = (selection.ids.as_slice(), replay.dry_run) {
                let row = rejected(&deployment, CommandId(*id)).await?;
                let payload = payload_of(&row)?;
                return replay_now(&deployment, settings, row.command_id, payload, output).await;
            }
            let reasons = selection.reasons(&deployment).await?;
            let total: u64 = reasons.values().sum();
            if replay.dry_run || total == 0 {
                let document = json!({"would_replay": total, "reasons": reasons});
                output.result(&document, || {
                    let said = "would be replayed, but for those that were replayed before";
                    format!("{} {said}\n{}", grouped(total), reasons_text(&reasons))
                });
                return Ok(());
            }
            let spec = replay.spec(JobKind::ReplayRejected, selection.selection());
            create_and_follow(&deployment, &spec, &replay, output).await?;
        }
        RejectedVerb::Export { file } => {
            let store = open_store(settings).await?;
            export(&*store, &file, output).await?;
        }
        RejectedVerb::Drop(selection) => {
            selection.check()?;
            // Read before anything is dropped, so that pages do not shift.
            let mut ids = Vec::new();
            let named = |rows: Vec<CommandRow>| ids.extend(rows.iter().map(|row| row.command_id));
            selection.each(&deployment, named).await?;
            let mut dropped = 0;
            for page in ids.chunks(PAGE_MAX as usize) {
                let call = Call::post(&[&"rejected", &"drop"]).json(&json!({"ids": page}));
                let of_store = async |store: &Arc<dyn Store>| {
                    let dropped = store.drop_rejected(page, &account::actor()).await?;
                    Ok(Dropped { dropped })
                };
                dropped += deployment.ask(call, of_store).await?.dropped;
            }
            output.result(&json!({"dropped": dropped}), || {
                format!("{} taken out of the list", grouped(dropped))
            });
        }
    }
    Ok(())
}

/// Writes page by page; a page is on the disk before it is marked.
async fn export(store: &dyn Store, path: &Path, output: Output) -> Result<(), CliError> {
    let filter = RejectedFilter {
        not_exported: true,
        oldest_first: true,
        ..RejectedFilter::default()
    };
    let failed = |error: io::Error| unwritten(path, &error);
    let mut file = BufWriter::new(new_file(path)?);
    let (actor, mut exported, mut after) = (account::actor(), 0, None);
    loop {
        let page = store.rejected(&filter, after, PAGE_MAX).await?;
        for row in &page.commands {
            let line = serde_json::to_string(row).map_err(|error| failed(error.into()))?;
            writeln!(file, "{line}").map_err(failed)?;
        }
        file.flush().map_err(failed)?;
        file.get_ref().sync_data().map_err(failed)?;
        let ids: Vec<CommandId> = page.commands.iter().map(|row| row.command_id).collect();
        exported += store.mark_exported(&ids, &actor).await?;
        match page.next_after {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    output.result(&json!({"exported": exported, "file": path}), || {
        format!("{} written to {}", grouped(exported), path.display())
    });
    Ok(())
}

fn payload_of(row: &CommandRow) -> Result<&Value, CliError> {
    row.payload.as_ref().ok_or_else(|| {
        let text = format!("command {} kept no payload", row.command_id);
        CliError::failed("no_payload", text)
    })
}

/// Runs one command under the first unused id derived from its own.
async fn replay_now(
    deployment: &Deployment,
    settings: &Settings,
    source: CommandId,
    payload: &Value,
    output: Output,
) -> Result<(), CliError> {
    let call = Call::post(&[&"rejected", &source, &"replay"]).asks_outcome();
    let call = call.json(&json!({"payload": payload}));
    let of_store = async |store: &Arc<dyn Store>| {
        let id = first_replay(&**store, source)
            .await?
            .map_err(|why| CliError::failed(why.code(), why.to_string()))?;
        let command = command_of(payload, id)
            .map_err(|error| CliError::failed(error.code.as_str(), error.to_string()))?;
        let task_id = command.command.task_id();
        let outcome = submit(&orchestrator(store, settings), command).await?;
        Ok(CommandOutcome::of(task_id, id, outcome)?)
    };
    let outcome: CommandOutcome = deployment.ask(call, of_store).await?;
    output.note(&format!("replayed as command {}", outcome.command_id));
    show_outcome(outcome, output)
}

async fn rejected(deployment: &Deployment, id: CommandId) -> Result<CommandRow, CliError> {
    let of_store = async |store: &Arc<dyn Store>| {
        let row = store.command(id).await?;
        let row = row.ok_or_else(|| CliError::not_found("command", id))?;
        match row.outcome {
            RecordedOutcome::Rejected { .. } => Ok(row),
            RecordedOutcome::Applied { .. } => Err(CliError::failed(
                "not_rejected",
                format!("command {id} was applied"),
            )),
        }
    };
    deployment
        .ask(Call::get(&[&"rejected", &id]), of_store)
        .await
}

fn reason_of(row: &CommandRow) -> (&str, &str) {
    match &row.outcome {
        RecordedOutcome::Rejected { reason, detail } => (reason, detail),
        RecordedOutcome::Applied { .. } => ("", ""),
    }
}

fn list_text(page: &CommandPage) -> String {
    if page.commands.is_empty() {
        return "no rejected commands".to_owned();
    }
    let mut table = Table::new(&["command", "type", "task", "reason", "at", "detail"]);
    for row in &page.commands {
        let (reason, detail) = reason_of(row);
        table.row([
            row.command_id.to_string(),
            row.command_type.clone(),
            row.task_id.map(|task| task.to_string()).unwrap_or_default(),
            reason.to_owned(),
            row.decided_at.format("%F %T").to_string(),
            clipped(detail, 60),
        ]);
    }
    let more = page
        .next_after
        .map(|id| format!("\nmore: add --after {id}"));
    format!("{}{}", table.render(0), more.unwrap_or_default())
}

fn show_text(row: &CommandRow) -> String {
    let (reason, detail) = reason_of(row);
    let mut table = Table::plain();
    table.row(["command", &row.command_id.to_string()]);
    table.row(["type", &row.command_type]);
    table.row([
        "task",
        &row.task_id.map(|task| task.to_string()).unwrap_or_default(),
    ]);
    table.row(["reason", reason]);
    table.row(["detail", detail]);
    table.row(["at", &row.decided_at.to_rfc3339()]);
    let payload = row
        .payload
        .as_ref()
        .and_then(|p| serde_json::to_string_pretty(p).ok());
    format!("{}\n\n{}", table.render(0), payload.unwrap_or_default())
}
