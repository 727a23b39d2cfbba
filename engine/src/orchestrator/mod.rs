//! Loads, decides and commits: the only way to change a task.

mod batch;
mod candidates;
mod chain;
mod claim;
mod compute;
mod error;
mod facts;
mod known_annotators;
mod live_models;
mod messages;
mod offer;
mod operator;
mod preview;
mod quality;
mod report;
mod sampling;
mod state_cache;
mod workflow_cache;

use std::{fmt, sync::Arc};

use serde_json::Value;
use uuid::Uuid;

pub use error::OrchestrationError;
pub use facts::{FactSource, SystemFacts};
pub use known_annotators::KnownAnnotators;
pub use messages::{MessageBuilder, NoMessages, RebuildMessagesError, messages_of};
pub use operator::plan_operator_command;
pub use preview::Preview;
pub use report::{BatchReport, BatchStats};
pub(crate) use sampling::sampling;

use self::{
    live_models::LiveModels, sampling::StartedTasks, state_cache::StateCache,
    workflow_cache::WorkflowCache,
};
use crate::{
    command::{
        Advance, AnnotationInput, Command, CommandEnvelope, Outcome, ProcessResult, Start,
        Submission, next_step,
    },
    config::{StepLibrary, WorkflowConfig},
    events::{EventStore, StateRebuilder},
    executor::{AnnotationData, HandlerRegistry, annotators::ModelKey},
    ids::{CommandId, RevisionId, TaskId, WorkflowSelector},
    limits::PAGE_MAX,
    parser::{ValidationError, check_workflow_bytes},
    state::{Archived, WorkflowStateManager},
    store::{RecordedOutcome, Timer, WorkflowConfigStore},
    timers::{Effect, effect_of},
    transition::CompiledWorkflow,
};

/// Runs commands against tasks: loads what a decision needs, decides, and commits events, inbox,
/// messages and timers in one transaction.
///
/// Cheap to share behind an `Arc`. Any number of orchestrators, in any number of processes, may use
/// one store: a batch keeps the locks of its streams from reading to commit.
pub struct WorkflowOrchestrator {
    /// Where revisions of workflows are kept.
    pub config_store: Arc<dyn WorkflowConfigStore>,
    /// Where streams are kept.
    pub event_store: Arc<dyn EventStore>,
    /// Handlers of automatic steps.
    pub handler_registry: Arc<HandlerRegistry>,
    /// Reusable steps.
    pub step_library: Arc<StepLibrary>,
    facts: Arc<dyn FactSource>,
    messages: Arc<dyn MessageBuilder>,
    workflows: WorkflowCache,
    states: StateCache,
    started: StartedTasks,
    models: LiveModels,
}

/// A workflow that was created from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct CreatedWorkflow {
    /// The stored revision.
    pub config: WorkflowConfig,
    /// Whether the revision is new; otherwise the newest revision has the same content.
    pub is_new: bool,
    /// Probable mistakes, in the order of the file.
    pub warnings: Vec<ValidationError>,
}

impl fmt::Debug for WorkflowOrchestrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkflowOrchestrator")
            .field("handler_registry", &self.handler_registry)
            .field("step_library", &self.step_library)
            .finish_non_exhaustive()
    }
}

impl WorkflowOrchestrator {
    /// An orchestrator with the built-in handlers, templates and steps, and the system's facts.
    pub fn new(
        config_store: Arc<dyn WorkflowConfigStore>,
        event_store: Arc<dyn EventStore>,
    ) -> Self {
        Self {
            workflows: WorkflowCache::new(Arc::clone(&config_store)),
            models: LiveModels::new(Arc::clone(&event_store)),
            config_store,
            event_store,
            handler_registry: Arc::new(HandlerRegistry::built_in()),
            step_library: Arc::new(StepLibrary::built_in()),
            facts: Arc::new(SystemFacts),
            messages: Arc::new(NoMessages),
            states: StateCache::default(),
            started: StartedTasks::default(),
        }
    }

    /// An orchestrator on a Postgres pool, whose database has been migrated.
    #[cfg(feature = "postgres")]
    pub fn with_pool(pool: sqlx::PgPool) -> Self {
        let store = Arc::new(crate::store::PgEventStore::from_pool(pool));
        Self::new(Arc::clone(&store) as _, store)
    }

    /// Replaces the source of facts.
    #[must_use]
    pub fn with_facts(mut self, facts: Arc<dyn FactSource>) -> Self {
        self.facts = facts;
        self
    }

    /// Adds a builder of messages for decisions.
    #[must_use]
    pub fn with_messages(mut self, messages: Arc<dyn MessageBuilder>) -> Self {
        self.messages = messages;
        self
    }

    /// The builder of messages.
    pub fn messages(&self) -> Arc<dyn MessageBuilder> {
        Arc::clone(&self.messages)
    }

    /// Replaces the handlers.
    #[must_use]
    pub fn with_handlers(mut self, handlers: HandlerRegistry) -> Self {
        self.handler_registry = Arc::new(handlers);
        self
    }

    /// Parses, checks and stores a workflow. If the newest revision has the same content, returns
    /// that one.
    ///
    /// # Errors
    ///
    /// [`OrchestrationError::ParseError`] with all errors of the file at once.
    pub async fn create_workflow(&self, yaml: &str) -> Result<WorkflowConfig, OrchestrationError> {
        let created = self.create_workflow_from(yaml.as_bytes(), None).await?;
        Ok(created.config)
    }

    /// As [`create_workflow`](Self::create_workflow), from bytes that may not be text, by somebody
    /// whose name is kept. Also returns the warnings and whether the revision is new.
    ///
    /// # Errors
    ///
    /// [`OrchestrationError::ParseError`] with all errors of the file at once.
    pub async fn create_workflow_from(
        &self,
        source: &[u8],
        actor: Option<&str>,
    ) -> Result<CreatedWorkflow, OrchestrationError> {
        let handlers: Vec<&str> = self.handler_registry.own_names().collect();
        let report = check_workflow_bytes(source, &self.step_library, &handlers);
        let warnings = report.diagnostics.clone();
        let config = report.into_result()?;
        let newest = self.config_store.load_by_name(&config.id).await?;
        let id = self.config_store.save_by(&config, actor).await?;
        let stored = self.workflow(id).await?;
        Ok(CreatedWorkflow {
            is_new: newest.is_none_or(|newest| newest.revision_id.0 != id),
            config: WorkflowConfig::clone(&stored),
            warnings,
        })
    }

    /// A stored revision.
    pub async fn workflow(&self, id: Uuid) -> Result<Arc<WorkflowConfig>, OrchestrationError> {
        Ok(Arc::clone(self.compiled(id).await?.config()))
    }

    async fn compiled(&self, id: Uuid) -> Result<Arc<CompiledWorkflow>, OrchestrationError> {
        let workflow = self.workflows.get(RevisionId(id)).await?;
        workflow.ok_or(OrchestrationError::ConfigNotFound(id))
    }

    /// Binds a task to a revision and enters it.
    pub async fn start_task(
        &self,
        task_id: Uuid,
        workflow_id: Uuid,
    ) -> Result<(), OrchestrationError> {
        self.compiled(workflow_id).await?;
        self.run(Command::Start(Start {
            task_id: TaskId(task_id),
            workflow: WorkflowSelector::Revision(RevisionId(workflow_id)),
            input: None,
            labels: None,
            expected: None,
        }))
        .await
        .map(|_| ())
    }

    /// Accepts a person's work.
    pub async fn process_submission(
        &self,
        task_id: Uuid,
        step_id: &str,
        annotation: AnnotationData,
    ) -> Result<ProcessResult, OrchestrationError> {
        self.run(Command::Submission(Submission {
            task_id: TaskId(task_id),
            step_id: Some(step_id.to_owned()),
            annotation: AnnotationInput {
                annotation_id: Some(annotation.annotation_id),
                user_id: annotation.user_id,
                data: annotation.data,
                decision: annotation.decision,
                submitted_at: annotation.submitted_at,
                roles: (!annotation.roles.is_empty()).then_some(annotation.roles),
                confidence: annotation.confidence,
            },
            workflow: None,
        }))
        .await
    }

    /// Ends the step that waits for a machine, an operator or enough people. Returns the step that
    /// the task waits in now; none once it has ended.
    pub async fn advance_task(&self, task_id: Uuid) -> Result<Option<String>, OrchestrationError> {
        let advance = Advance {
            task_id: TaskId(task_id),
            step_id: None,
            output: None,
        };
        Ok(next_step(&self.run(Command::Advance(advance)).await?))
    }

    /// The state of a task, rebuilt from its stream.
    pub async fn get_task_state(
        &self,
        task_id: Uuid,
    ) -> Result<WorkflowStateManager, OrchestrationError> {
        let task_id = TaskId(task_id);
        let state = self.event_store.load(&[task_id]).await?.remove(&task_id);
        state
            .map(WorkflowStateManager::new)
            .ok_or(OrchestrationError::TaskNotFound(task_id))
    }

    /// The state of a task as it was at a version.
    pub async fn state_at(
        &self,
        task_id: Uuid,
        version: Option<u64>,
    ) -> Result<WorkflowStateManager, OrchestrationError> {
        let Some(wanted) = version else {
            return self.get_task_state(task_id).await;
        };
        let now = self.get_task_state(task_id).await?;
        let task_id = TaskId(task_id);
        if let Some(Archived { at, .. }) = now.snapshot().archived
            && wanted <= now.version()
        {
            // Its events do not lead anywhere: most are in an archive.
            return if wanted == now.version() {
                Ok(now)
            } else {
                Err(OrchestrationError::TaskArchived { task_id, at })
            };
        }
        let (mut rebuilder, mut after) = (StateRebuilder::new(), 0);
        loop {
            let page = self.event_store.events(task_id, after, PAGE_MAX).await?;
            for event in page
                .events
                .iter()
                .take_while(|event| event.version <= wanted)
            {
                rebuilder.apply(event)?;
            }
            match page.next_after.filter(|next| *next < wanted) {
                Some(next) => after = next,
                None => break,
            }
        }
        let state = rebuilder
            .finish()
            .ok_or(OrchestrationError::TaskNotFound(task_id))?;
        if state.version < wanted {
            let version = state.version;
            return Err(OrchestrationError::VersionNotFound {
                task_id,
                version,
                wanted,
            });
        }
        Ok(WorkflowStateManager::new(state))
    }

    /// The effect that a timer needs before its decision, found by [`effect_of`] from the task's
    /// state and revision. None if its [`FireTimer`](crate::command::FireTimer) command needs only
    /// a decision.
    pub async fn effect_of(&self, row: &Timer) -> Result<Option<Effect>, OrchestrationError> {
        if !row.kind.has_effect() {
            return Ok(None);
        }
        // Read from the store: a cached state may be older than the row.
        let mut states = self.event_store.load(&[row.task_id]).await?;
        let Some(state) = states.remove(&row.task_id) else {
            return Ok(None);
        };
        let workflow = self.compiled(state.workflow.revision_id.0).await?;
        Ok(effect_of(&state, &workflow, row))
    }

    /// Deletes all model checkpoints and learns the annotator models of the newest revisions again
    /// from the log. Returns the number of models. Running processes keep the models that they
    /// have in memory, which are the same.
    pub async fn relearn(&self) -> Result<usize, OrchestrationError> {
        self.event_store.forget_models().await?;
        let mut questions = Vec::new();
        let mut newest = None;
        for row in self.config_store.revisions(None).await? {
            if newest.as_ref() != Some(&row.workflow) {
                let workflow = self.compiled(row.id.0).await?;
                let config = workflow.config();
                questions.extend(self.models.questions(config).to_vec());
                let offers = config.steps.iter();
                questions.extend(offers.flat_map(|step| ModelKey::of_offers(&config.id, step)));
                newest = Some(row.workflow);
            }
        }
        questions.sort();
        questions.dedup();
        let count = questions.len();
        let models = LiveModels::new(Arc::clone(&self.event_store));
        models.keep(questions).await?;
        Ok(count)
    }

    /// Runs one command under a fresh id.
    async fn run(&self, command: Command) -> Result<ProcessResult, OrchestrationError> {
        let envelope = CommandEnvelope::new(CommandId(self.facts.new_id()), command);
        let mut report = self.process_batch(vec![envelope], None).await?;
        match report.outcomes.pop() {
            Some(Outcome::Applied(result)) => Ok(result),
            Some(Outcome::Rejected(rejection)) => Err(OrchestrationError::Rejected(rejection)),
            Some(Outcome::Undecided(undecided)) => Err(OrchestrationError::Undecided(undecided)),
            Some(Outcome::Dead(dead)) => Err(OrchestrationError::Dead(dead)),
            // A fresh id can only be in the inbox after an unknown commit of this same call.
            Some(Outcome::Duplicate(RecordedOutcome::Applied { result })) => {
                Ok(recorded_result(result))
            }
            Some(Outcome::Duplicate(RecordedOutcome::Rejected { detail, .. })) => {
                Ok(ProcessResult::Failed { error: detail })
            }
            None => Ok(ProcessResult::Failed {
                error: "the batch had no outcome".to_owned(),
            }),
        }
    }
}

/// Reads a recorded result; one that cannot be read becomes the text of a failure.
fn recorded_result(result: Value) -> ProcessResult {
    let text = result.to_string();
    serde_json::from_value(result).unwrap_or(ProcessResult::Failed { error: text })
}
