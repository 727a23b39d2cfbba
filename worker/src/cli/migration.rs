//! `glyph task migrate`: moves one task, or all tasks of a workflow, to another revision, or
//! reports what would happen.

use std::{collections::BTreeMap, sync::Arc};

use clap::Args;
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Migrate, Outcome, Undecided},
    ids::{CommandId, StepId, WorkflowId, WorkflowSelector},
    state::TaskStatus,
    store::Store,
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    CliError, Output, account,
    api::Call,
    connect::orchestrator,
    deployment::{Deployment, ask},
    keys::{task_of, task_uuid},
    output::Table,
    submit::{carry_out, show_outcome},
    values::{pair, status},
};
use crate::{
    operations::migration::{
        MigrationError, MigrationOutcome, MigrationPage, MigrationRequest, TaskMigration,
        dry_run_id,
    },
    settings::Settings,
};

/// Attempts of a page whose commit is unknown; its command ids make repeating safe.
const ATTEMPTS_MAX: u32 = 5;

/// Which tasks, and the target revision.
#[derive(Clone, Debug, Args)]
pub struct MigrateArgs {
    /// Task id; use --workflow for several tasks
    #[arg(required_unless_present_any = ["workflow", "key"], conflicts_with_all = ["workflow", "key"],
          value_parser = task_uuid)]
    task: Option<Uuid>,
    /// Key of your own for the task, in place of its id
    #[arg(long, value_name = "KEY", conflicts_with = "workflow")]
    key: Option<String>,
    /// Id of the command, or of a whole migration: an interrupted one continues under the same id
    /// [default: a new UUID]
    #[arg(long, value_name = "UUID")]
    command_id: Option<Uuid>,
    /// Target revision: workflow id, id@revision or revision UUID
    #[arg(long, value_name = "WORKFLOW")]
    to: WorkflowSelector,
    /// Step that has another id in the target revision; may be repeated
    #[arg(long = "step", value_name = "OLD=NEW", value_parser = steps)]
    steps: Vec<(StepId, StepId)>,
    /// Migrate all running and paused tasks of this workflow
    #[arg(long, short, value_name = "ID")]
    workflow: Option<WorkflowId>,
    /// Only tasks on this revision
    #[arg(long, value_name = "REVISION", requires = "workflow")]
    from: Option<u32>,
    /// Only tasks with this status
    #[arg(long, value_name = "STATUS", value_parser = status, requires = "workflow")]
    status: Option<TaskStatus>,
    /// Only tasks that wait in this step
    #[arg(long, value_name = "STEP", requires = "workflow")]
    at: Option<StepId>,
    /// Only tasks with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair, requires = "workflow")]
    labels: Vec<(String, String)>,
    /// Only show what would happen
    #[arg(long)]
    dry_run: bool,
}

fn steps(text: &str) -> Result<(StepId, StepId), String> {
    let (old, new) = pair(text)?;
    let step = |id: &str| StepId::new(id).map_err(|error| error.to_string());
    Ok((step(&old)?, step(&new)?))
}

/// What happened, or would happen, to all tasks.
#[derive(Default, Serialize)]
struct Summary {
    migration_id: Option<CommandId>,
    dry_run: bool,
    moved: u64,
    would_move: u64,
    already_there: u64,
    rejected: u64,
    would_be_rejected: u64,
    undecided: u64,
    /// Tasks that were not, or would not be, moved; in a dry run also those that would move.
    tasks: Vec<TaskMigration>,
}

/// Maximum number of tasks listed in the summary; the others are only counted.
const NAMED_MAX: usize = 1_000;

impl Summary {
    fn count(&mut self, task: TaskMigration) {
        let count = match task.outcome {
            MigrationOutcome::Moved => &mut self.moved,
            MigrationOutcome::WouldMove => &mut self.would_move,
            MigrationOutcome::AlreadyThere => &mut self.already_there,
            MigrationOutcome::Rejected => &mut self.rejected,
            MigrationOutcome::WouldBeRejected => &mut self.would_be_rejected,
            MigrationOutcome::Undecided => &mut self.undecided,
        };
        *count += 1;
        let named = task.outcome.is_failure() || task.outcome == MigrationOutcome::WouldMove;
        if named && self.tasks.len() < NAMED_MAX {
            self.tasks.push(task);
        }
    }

    fn failures(&self) -> u64 {
        self.rejected + self.would_be_rejected + self.undecided
    }

    fn text(&self) -> String {
        let mut table = Table::new(&["task", "from", "outcome", "why, or where to"]);
        for task in &self.tasks {
            let steps = task.stands_at.iter().flatten().map(ToString::to_string);
            let stands = steps.collect::<Vec<_>>().join(", ");
            let why = match (&task.reason, &task.detail) {
                (Some(reason), Some(detail)) => format!("{reason}: {detail}"),
                (None, Some(detail)) => detail.clone(),
                _ if task.then.is_empty() => format!("stands at {stands}"),
                _ => format!("{}; then stands at {stands}", task.then.join(", ")),
            };
            table.row([
                task.task_id.to_string(),
                task.from_revision.to_string(),
                task.outcome.as_str().to_owned(),
                why,
            ]);
        }
        let counts = [
            (self.moved, "moved"),
            (self.would_move, "would move"),
            (self.already_there, "there already"),
            (self.rejected, "rejected"),
            (self.would_be_rejected, "would be rejected"),
            (self.undecided, "undecided"),
        ];
        let counts = counts.iter().filter(|(n, _)| *n > 0);
        let counts: Vec<String> = counts.map(|(n, what)| format!("{n} {what}")).collect();
        let counts = if counts.is_empty() {
            "no such tasks".to_owned()
        } else {
            counts.join(", ")
        };
        if self.tasks.is_empty() {
            return counts;
        }
        format!("{}\n{counts}", table.render(0))
    }
}

pub(super) async fn run(
    args: MigrateArgs,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let id = CommandId(args.command_id.unwrap_or_else(Uuid::now_v7));
    let Some(workflow) = args.workflow.clone() else {
        return one(args, id, settings, output).await;
    };
    let deployment = Deployment::open(settings).await?;
    let statuses = match args.status {
        Some(status) => vec![status],
        None => vec![TaskStatus::Running, TaskStatus::Paused],
    };
    let bar = output.progress(None, "looking at tasks");
    let mut summary = Summary {
        migration_id: (!args.dry_run).then_some(id),
        dry_run: args.dry_run,
        ..Summary::default()
    };
    let mut to = args.to.clone();
    for status in statuses {
        let mut request = MigrationRequest {
            to: to.clone(),
            steps: args.steps.iter().cloned().collect(),
            from: args.from,
            status: Some(status),
            step: args.at.clone(),
            labels: args.labels.iter().cloned().collect(),
            dry_run: args.dry_run,
            after: None,
            limit: None,
        };
        loop {
            let call = Call::post(&[&"workflows", &workflow, &"migrate"]).key(id);
            let of_store = async |store: &Arc<dyn Store>| {
                let orchestrator = orchestrator(store, settings);
                let run = async |batch: Vec<CommandEnvelope>| run_page(&orchestrator, batch).await;
                request
                    .page(&workflow, id, &**store, &orchestrator, run)
                    .await
            };
            let page: MigrationPage = deployment.ask(call.json(&request), of_store).await?;
            bar.inc(u64::try_from(page.tasks.len()).unwrap_or_default());
            request.after = page.next_after;
            // Fix the revision for the remaining pages: the latest one may change meanwhile.
            to = WorkflowSelector::Revision(page.to_revision_id);
            request.to = to.clone();
            page.tasks.into_iter().for_each(|task| summary.count(task));
            if request.after.is_none() {
                break;
            }
        }
    }
    bar.finish_and_clear();
    output.result(&summary, || summary.text());
    match summary.failures() {
        0 => Ok(()),
        failures => Err(CliError::failed(
            "not_moved",
            format!("{failures} tasks have not moved, or would not"),
        )),
    }
}

/// Runs the commands of a page, again while their commit is unknown.
async fn run_page(
    orchestrator: &WorkflowOrchestrator,
    mut batch: Vec<CommandEnvelope>,
) -> Result<Vec<Outcome>, CliError> {
    for command in &mut batch {
        command.sender = account::sender();
    }
    let out_of_time = Outcome::Undecided(Undecided::OutOfTime);
    let mut attempt = 1;
    loop {
        match orchestrator.process_batch(batch.clone(), None).await {
            // What was decided is a duplicate the next time.
            Ok(report) if report.outcomes.contains(&out_of_time) => {}
            Ok(report) => return Ok(report.outcomes),
            Err(error) if error.is_passing() && attempt < ATTEMPTS_MAX => {
                attempt += 1;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Migrates one task by a single command.
async fn one(
    args: MigrateArgs,
    id: CommandId,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let task_id = task_of(args.task, args.key.as_deref());
    let body = json!({
        "to": args.to,
        "steps": args.steps.iter().cloned().collect::<BTreeMap<_, _>>(),
        "dry_run": args.dry_run,
    });
    let call = Call::post(&[&"tasks", &task_id, &"migrate"]).json(&body);
    let migrate = Migrate {
        task_id,
        to: args.to,
        steps: args.steps.into_iter().collect(),
    };
    let command_id = if args.dry_run { dry_run_id(id) } else { id };
    let command = CommandEnvelope::new(command_id.0, Command::Migrate(migrate));
    if !args.dry_run {
        return show_outcome(carry_out(call, command, settings).await?, output);
    }
    let task: TaskMigration = ask(settings, call.key(id), async |store| {
        previewed(&**store, &orchestrator(store, settings), command).await
    })
    .await?;
    let mut summary = Summary {
        dry_run: true,
        ..Summary::default()
    };
    summary.count(task);
    output.result(&summary, || summary.text());
    match summary.failures() {
        0 => Ok(()),
        _ => Err(CliError::failed("not_moved", "the task would not move")),
    }
}

/// What would happen to a task.
async fn previewed(
    store: &dyn Store,
    orchestrator: &WorkflowOrchestrator,
    command: CommandEnvelope,
) -> Result<TaskMigration, CliError> {
    let task_id = command.command.task_id();
    let from_revision = store.task(task_id).await?.map_or(0, |row| row.revision);
    let mut previews = orchestrator.preview(vec![command]).await?;
    let preview = previews
        .pop()
        .ok_or_else(|| CliError::failed("bug", "the command had no outcome"))?;
    match preview.outcome {
        Outcome::Undecided(undecided) => Err(undecided.into()),
        Outcome::Dead(dead) => Err(dead.into()),
        Outcome::Applied(_) | Outcome::Rejected(_) | Outcome::Duplicate(_) => {
            Ok(TaskMigration::of_preview(task_id, from_revision, preview))
        }
    }
}

impl From<MigrationError> for CliError {
    fn from(error: MigrationError) -> Self {
        match error {
            MigrationError::Engine(error) => error.into(),
            error @ MigrationError::NoRevision(_) => {
                Self::failed("workflow_not_found", error.to_string())
            }
            error @ (MigrationError::OtherWorkflow { .. }
            | MigrationError::UnknownRevision { .. }
            | MigrationError::UnknownStep { .. }
            | MigrationError::Ended(_)) => Self::Usage(error.to_string()),
        }
    }
}
