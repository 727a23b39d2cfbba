//! Moving many tasks of a workflow to another revision, page by page.
//!
//! Each task is moved by a command of its own through the normal pipeline. The command's id is
//! derived from the ids of the migration and the task, so an interrupted migration continues where
//! it stopped, and repeating a page changes nothing. Tasks already on the target revision get no
//! command.

use std::collections::{BTreeMap, HashMap};

use glyph_workflow_engine::{
    OrchestrationError, Preview, WorkflowConfig, WorkflowEvent, WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Dead, Migrate, Outcome},
    ids::{CommandId, RevisionId, StepId, TaskId, WorkflowId, WorkflowSelector},
    state::TaskStatus,
    store::{RecordedOutcome, Store, TaskFilter, WorkflowConfigStore},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// Which tasks of a workflow move, and where to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrationRequest {
    /// The target revision: `id`, `id@revision` or a revision UUID.
    pub to: WorkflowSelector,
    /// Old step to new step, for steps that have another id in the target revision.
    #[serde(default)]
    pub steps: BTreeMap<StepId, StepId>,
    /// Only tasks on this revision.
    #[serde(default)]
    pub from: Option<u32>,
    /// Only tasks with this status: `running` when left out, or `paused`.
    #[serde(default)]
    pub status: Option<TaskStatus>,
    /// Only tasks that wait in this step.
    #[serde(default)]
    pub step: Option<StepId>,
    /// Only tasks with these labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether to only report what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// The last task of the previous page.
    #[serde(default)]
    pub after: Option<TaskId>,
    /// Tasks per page.
    #[serde(default)]
    #[schemars(range(min = 1, max = MIGRATION_PAGE_MAX))]
    pub limit: Option<u32>,
}

/// Maximum number of tasks per page; all are decided in one batch.
pub const MIGRATION_PAGE_MAX: u32 = 200;

/// What happened, or would happen, to the tasks of one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationPage {
    /// The id of the migration; repeating a migration under its id moves no task twice.
    pub migration_id: CommandId,
    /// The workflow.
    pub workflow: WorkflowId,
    /// The revision that tasks move to.
    pub to_revision: u32,
    /// The UUID of that revision. Pass it as `to` for further pages: a `to` without a revision may
    /// resolve to a newer one.
    pub to_revision_id: RevisionId,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The tasks, by id.
    pub tasks: Vec<TaskMigration>,
    /// The last task of this page; null where there are no more.
    pub next_after: Option<TaskId>,
}

/// What happened, or would happen, to one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskMigration {
    /// The task.
    pub task_id: TaskId,
    /// The revision that it was on.
    pub from_revision: u32,
    /// What happened to it.
    pub outcome: MigrationOutcome,
    /// The code of a rejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rejection as text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// In a dry run: the steps where the task would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_at: Option<Vec<StepId>>,
    /// In a dry run: what would follow at once, such as `step_completed annotate`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<String>,
    /// The result of the command, where it was applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
}

/// What happened to one task, or would happen in a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MigrationOutcome {
    /// It was moved to the revision.
    Moved,
    /// It would move.
    WouldMove,
    /// It was already on the revision.
    AlreadyThere,
    /// It was not moved.
    Rejected,
    /// It would not be moved.
    WouldBeRejected,
    /// The command could not be decided; retry.
    Undecided,
}

impl MigrationOutcome {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::WouldMove => "would_move",
            Self::AlreadyThere => "already_there",
            Self::Rejected => "rejected",
            Self::WouldBeRejected => "would_be_rejected",
            Self::Undecided => "undecided",
        }
    }

    /// Whether the task is not on the target revision and would not be moved to it.
    pub fn is_failure(self) -> bool {
        matches!(
            self,
            Self::Rejected | Self::WouldBeRejected | Self::Undecided
        )
    }
}

/// A migration request that cannot be executed.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// `to` names a revision of another workflow.
    #[error("`{to}` is a revision of `{found}`: tasks of `{workflow}` can only move within it")]
    OtherWorkflow {
        /// The selector of the request.
        to: WorkflowSelector,
        /// The workflow that owns the revision.
        found: WorkflowId,
        /// The workflow whose tasks are to move.
        workflow: WorkflowId,
    },
    /// `to` names no workflow or revision.
    #[error("there is no workflow `{0}`")]
    NoRevision(WorkflowSelector),
    /// `from` names no revision.
    #[error("`{workflow}` has no revision {revision}: its newest is {newest}")]
    UnknownRevision {
        /// The workflow whose tasks are to move.
        workflow: WorkflowId,
        /// The revision of the request.
        revision: u32,
        /// The newest revision.
        newest: u32,
    },
    /// `step` names no step of any revision.
    #[error("no revision of `{workflow}` has a step `{step}`")]
    UnknownStep {
        /// The workflow whose tasks are to move.
        workflow: WorkflowId,
        /// The step of the request.
        step: StepId,
    },
    /// `status` selects tasks that have ended; they do not move.
    #[error("tasks that are {0} do not move: `status` is `running` or `paused`")]
    Ended(TaskStatus),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] OrchestrationError),
}

impl MigrationRequest {
    /// Reads one page of tasks of `workflow` and moves them by `run`, which executes the commands
    /// of a page and returns an outcome for each.
    pub async fn page<E: From<MigrationError>>(
        &self,
        workflow: &WorkflowId,
        migration_id: CommandId,
        store: &dyn Store,
        orchestrator: &WorkflowOrchestrator,
        run: impl AsyncFnOnce(Vec<CommandEnvelope>) -> Result<Vec<Outcome>, E>,
    ) -> Result<MigrationPage, E> {
        let status = self.status.unwrap_or(TaskStatus::Running);
        if status.is_final() {
            return Err(MigrationError::Ended(status).into());
        }
        let target = self.target(workflow, store).await?;
        let filter = TaskFilter {
            workflow: Some(workflow.clone()),
            status: Some(status),
            step: self.step.clone(),
            labels: self.labels.clone(),
            after: self.after,
            limit: self
                .limit
                .unwrap_or(MIGRATION_PAGE_MAX)
                .clamp(1, MIGRATION_PAGE_MAX),
            ..TaskFilter::default()
        };
        let found = store.tasks(filter).await.map_err(engine)?;
        let mut tasks: Vec<TaskMigration> = found
            .tasks
            .iter()
            .filter(|row| self.from.is_none_or(|from| row.revision == from))
            .map(|row| TaskMigration::unmoved(row.task_id, row.revision))
            .collect();
        if tasks.is_empty() && self.after.is_none() {
            self.require_known(workflow, store).await?;
        }
        let moving = tasks
            .iter()
            .filter(|task| task.from_revision != target.revision);
        let commands: Vec<CommandEnvelope> = moving
            .map(|task| self.command(task.task_id, migration_id, &target))
            .collect();
        let ids: Vec<TaskId> = commands.iter().map(|c| c.command.task_id()).collect();
        let mut changes: HashMap<TaskId, Change> = if self.dry_run {
            let previews = orchestrator
                .preview(commands)
                .await
                .map_err(MigrationError::from)?;
            ids.into_iter()
                .zip(
                    previews
                        .into_iter()
                        .map(|preview| Change::Previewed(preview.into())),
                )
                .collect()
        } else {
            let outcomes = run(commands).await?;
            ids.into_iter()
                .zip(outcomes.into_iter().map(Change::Made))
                .collect()
        };
        for task in &mut tasks {
            match changes.remove(&task.task_id) {
                None => {}
                Some(Change::Made(outcome)) => task.made(outcome),
                Some(Change::Previewed(preview)) => task.previewed(*preview),
            }
        }
        Ok(MigrationPage {
            migration_id,
            workflow: workflow.clone(),
            to_revision: target.revision,
            to_revision_id: target.revision_id,
            dry_run: self.dry_run,
            tasks,
            next_after: found.next_after,
        })
    }

    /// Refuses a revision or step that the workflow never had: a typo would pass as "no such
    /// tasks".
    async fn require_known(
        &self,
        workflow: &WorkflowId,
        store: &dyn Store,
    ) -> Result<(), MigrationError> {
        let revisions = store.revisions(Some(workflow)).await.map_err(engine)?;
        if let Some(from) = self.from
            && revisions.iter().all(|row| row.revision != from)
        {
            return Err(MigrationError::UnknownRevision {
                workflow: workflow.clone(),
                revision: from,
                newest: revisions.first().map_or(0, |row| row.revision),
            });
        }
        let Some(step) = &self.step else {
            return Ok(());
        };
        for row in &revisions {
            let config = WorkflowConfigStore::load(store, row.id.0).await;
            let config = config.map_err(engine)?;
            if config.is_some_and(|config| config.step(step).is_some()) {
                return Ok(());
            }
        }
        Err(MigrationError::UnknownStep {
            workflow: workflow.clone(),
            step: step.clone(),
        })
    }

    async fn target(
        &self,
        workflow: &WorkflowId,
        store: &dyn Store,
    ) -> Result<WorkflowConfig, MigrationError> {
        let found = super::workflows::resolve_one(store, &self.to.to_string())
            .await
            .map_err(engine)?;
        let target = found.ok_or_else(|| MigrationError::NoRevision(self.to.clone()))?;
        if target.id != *workflow {
            return Err(MigrationError::OtherWorkflow {
                to: self.to.clone(),
                found: target.id,
                workflow: workflow.clone(),
            });
        }
        Ok(target)
    }

    /// Names the revision by its UUID: the latest revision may change between two pages.
    fn command(
        &self,
        task_id: TaskId,
        migration_id: CommandId,
        target: &WorkflowConfig,
    ) -> CommandEnvelope {
        let of = if self.dry_run {
            dry_run_id(migration_id)
        } else {
            migration_id
        };
        let id = Uuid::new_v5(&of.0, task_id.0.as_bytes());
        let migrate = Migrate {
            task_id,
            to: WorkflowSelector::Revision(target.revision_id),
            steps: self.steps.clone(),
        };
        let mut envelope = CommandEnvelope::new(id, Command::Migrate(migrate));
        envelope.correlation_id = Some(migration_id.to_string());
        envelope
    }
}

/// The id of a dry run. It differs from the migration's, which may already have been executed.
pub fn dry_run_id(migration: CommandId) -> CommandId {
    CommandId(Uuid::new_v5(&migration.0, b"dry run"))
}

enum Change {
    Made(Outcome),
    Previewed(Box<Preview>),
}

impl TaskMigration {
    fn unmoved(task_id: TaskId, from_revision: u32) -> Self {
        Self {
            task_id,
            from_revision,
            outcome: MigrationOutcome::AlreadyThere,
            reason: None,
            detail: None,
            stands_at: None,
            then: Vec::new(),
            result: None,
        }
    }

    /// What would happen to a task that is on `from_revision` now.
    pub fn of_preview(task_id: TaskId, from_revision: u32, preview: Preview) -> Self {
        let mut task = Self::unmoved(task_id, from_revision);
        task.previewed(preview);
        task
    }

    fn made(&mut self, outcome: Outcome) {
        self.outcome = MigrationOutcome::Moved;
        match outcome {
            Outcome::Applied(result) => self.result = serde_json::to_value(result).ok(),
            Outcome::Duplicate(RecordedOutcome::Applied { result }) => self.result = Some(result),
            Outcome::Duplicate(RecordedOutcome::Rejected { reason, detail }) => {
                self.refused(MigrationOutcome::Rejected, reason, detail);
            }
            other => self.not_applied(MigrationOutcome::Rejected, &other),
        }
    }

    fn previewed(&mut self, preview: Preview) {
        let Outcome::Applied(_) = preview.outcome else {
            self.not_applied(MigrationOutcome::WouldBeRejected, &preview.outcome);
            return;
        };
        self.stands_at = preview.state.map(|state| state.current_steps());
        let events = preview.events.iter().map(|stored| &stored.event);
        let mut after = events
            .skip_while(|e| !matches!(e, WorkflowEvent::WorkflowMigrated(_)))
            .peekable();
        self.outcome = match after.peek() {
            Some(_) => MigrationOutcome::WouldMove,
            None => MigrationOutcome::AlreadyThere,
        };
        let named = |event: &WorkflowEvent| match event.step_id() {
            Some(step) => format!("{} {step}", event.event_type()),
            None => event.event_type().to_owned(),
        };
        self.then = after.skip(1).map(named).collect();
    }

    fn not_applied(&mut self, rejected: MigrationOutcome, outcome: &Outcome) {
        match outcome {
            Outcome::Rejected(rejection) => self.refused(
                rejected,
                rejection.code.as_str().to_owned(),
                rejection.detail.clone(),
            ),
            Outcome::Dead(Dead::CommandIdReused) => {
                let detail = "a migration with this id has moved the task elsewhere".to_owned();
                self.refused(rejected, "command_id_reused".to_owned(), detail);
            }
            other => {
                self.outcome = MigrationOutcome::Undecided;
                self.detail = Some(format!("the command ended {}", other.name()));
            }
        }
    }

    fn refused(&mut self, outcome: MigrationOutcome, reason: String, detail: String) {
        self.outcome = outcome;
        self.reason = Some(reason);
        self.detail = Some(detail);
    }
}

fn engine(error: glyph_workflow_engine::store::EventStoreError) -> MigrationError {
    MigrationError::Engine(error.into())
}
