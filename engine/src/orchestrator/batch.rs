//! A batch of commands: lock, read, decide, commit.
//!
//! Decisions are made under the locks of their streams, so a batch loses no race about a task that
//! exists: events that another process has written meanwhile are read under the lock before the
//! decision. The cached state only saves reading the older events. As a backstop, the write
//! compares the version once more.
//!
//! A task that does not exist has nothing to lock. Where two batches start the same one, the second
//! to commit writes nothing and is decided again, under the lock of the head that is there by then.

use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use super::{
    BatchReport, OrchestrationError, WorkflowOrchestrator,
    chain::{ChainEnd, Run},
    live_models::ModelsInUse,
};
use crate::{
    command::{Command, CommandEnvelope},
    executor::annotators::{Annotators, ModelKey},
    ids::{RevisionId, TaskId, WorkflowId, WorkflowSelector},
    limits::{DECIDING_MAX, DECISION_MAX},
    state::WorkflowSnapshot,
    store::{EventStoreError, OnLocked, OpenBatch, OpenRequest, PublisherId, SplitReason},
    transition::CompiledWorkflow,
};

type Compiled = Arc<CompiledWorkflow>;

/// How often a batch is decided that loses races about new tasks. A task about which it lost one
/// exists from then on, so only another new one can make it lose again.
const RUNS_MAX: u32 = 4;

/// Whether another batch has committed the same new key first.
fn is_lost_race(error: &OrchestrationError) -> bool {
    matches!(
        error,
        OrchestrationError::EventStoreError(EventStoreError::Hindered {
            reason: SplitReason::Conflict,
            ..
        })
    )
}

impl WorkflowOrchestrator {
    /// Runs a batch: one outcome for each command, in order. Commands of one task see the effects
    /// of those before them; a second copy of an id is a duplicate of the first.
    ///
    /// Once the decisions have taken [`DECIDING_MAX`], the batch is committed as far as it got, and
    /// the outcome of the rest is [`Undecided::OutOfTime`](crate::command::Undecided::OutOfTime):
    /// run it again. The first command is always decided.
    ///
    /// # Errors
    ///
    /// Nothing was written, unless the [verdict](OrchestrationError::verdict) is `Unknown`. The
    /// same batch, or parts of it, may be run again with the same ids: commands that were written
    /// are then duplicates.
    pub async fn process_batch(
        &self,
        batch: Vec<CommandEnvelope>,
        publisher: Option<PublisherId>,
    ) -> Result<BatchReport, OrchestrationError> {
        let batch = batch.into_iter().map(Arc::new).collect();
        self.process_batch_with(batch, publisher, OnLocked::Wait)
            .await
    }

    /// As [`process_batch`](Self::process_batch), for a caller that has other batches to run. Where it
    /// passes over locked tasks, the outcome of their commands is
    /// [`Undecided::Locked`](crate::command::Undecided::Locked): run them again, in their order.
    ///
    /// # Errors
    ///
    /// Those of [`process_batch`](Self::process_batch).
    pub async fn process_batch_with(
        &self,
        batch: Vec<Arc<CommandEnvelope>>,
        publisher: Option<PublisherId>,
        on_locked: OnLocked,
    ) -> Result<BatchReport, OrchestrationError> {
        let mut runs = 1;
        loop {
            let report = self.decide_and_commit(&batch, publisher, on_locked).await;
            let Err(error) = &report else {
                return report;
            };
            self.forget(&batch);
            if runs == RUNS_MAX || !is_lost_race(error) {
                return report;
            }
            runs += 1;
        }
    }

    fn forget(&self, commands: &[Arc<CommandEnvelope>]) {
        for envelope in commands {
            self.states.forget(envelope.command.task_id());
        }
    }

    /// Runs one part of a batch: all of it, or nothing.
    async fn decide_and_commit(
        &self,
        commands: &[Arc<CommandEnvelope>],
        publisher: Option<PublisherId>,
        on_locked: OnLocked,
    ) -> Result<BatchReport, OrchestrationError> {
        if commands.is_empty() {
            return Ok(BatchReport::default());
        }
        let batch = self.batch(commands, publisher, on_locked).await?;
        let Decided { open, run, ends } = self.decide_batch(&batch, true).await?;
        if let Some(task) = run.too_slow.filter(|_| commands.len() > 1) {
            return Err(EventStoreError::Hindered {
                reason: SplitReason::TooSlow,
                tasks: [task].into(),
                source: format!("a decision took longer than {DECISION_MAX:?}").into(),
            }
            .into());
        }
        let mut writes = Vec::with_capacity(ends.len());
        let mut states = Vec::with_capacity(ends.len());
        for (task, end) in ends {
            states.push((task, end.state));
            writes.extend(end.write);
        }
        let messages = open.commit(writes).await?;
        for (task, state) in states {
            match state {
                Some(state) => self.states.put(state),
                None => self.states.forget(task),
            }
        }
        Ok(BatchReport {
            messages,
            outcomes: run.outcomes.into_iter().flatten().collect(),
            stats: run.stats,
        })
    }

    /// Decides a batch under its locks, and writes nothing. If `is_limited`, it stops after
    /// [`DECIDING_MAX`].
    pub(super) async fn decide_batch<'a>(
        &'a self,
        batch: &'a Batch<'a>,
        is_limited: bool,
    ) -> Result<Decided<'a>, OrchestrationError> {
        let mut models = ModelsInUse::default();
        let mut questions = self.questions(batch).await?;
        loop {
            // Before the locks are taken, because reading the log needs its own connection.
            self.models.prepare(&mut models, questions).await?;
            let mut opened = self.open(batch).await?;
            questions = self.still_asked(&opened, &models);
            if questions.is_empty() {
                if is_limited {
                    opened.run.stop_at(self.facts.stopwatch() + DECIDING_MAX);
                }
                return Ok(opened.decide(&models));
            }
            // The workflow of a task that was not cached is known only now, and uses a model that
            // is not prepared. Nothing is decided; the locks are released while the model is
            // prepared.
        }
    }

    /// Gathers what is needed for a batch before its locks are taken.
    pub(super) async fn batch<'a>(
        &self,
        commands: &'a [Arc<CommandEnvelope>],
        publisher: Option<PublisherId>,
        on_locked: OnLocked,
    ) -> Result<Batch<'a>, OrchestrationError> {
        let chains = chains(commands);
        let cached: HashMap<TaskId, Arc<WorkflowSnapshot>> = chains
            .iter()
            .filter_map(|(task, _)| Some((*task, self.states.get(*task)?)))
            .collect();
        // Resolved for every batch: the meaning of a workflow name is never cached.
        let named = self
            .workflows
            .resolve(&selectors(commands, &cached))
            .await?;
        let counted = named.values().map(|workflow| &**workflow.config());
        Ok(Batch {
            commands,
            publisher,
            chains,
            cached,
            counted: self.started.to_count(counted),
            named,
            on_locked,
        })
    }

    /// Takes the locks of a batch and brings the state of each of its tasks up to date.
    async fn open<'a>(&'a self, batch: &'a Batch<'a>) -> Result<Opened<'a>, OrchestrationError> {
        let mut open = self.event_store.open(batch.request()).await?;
        self.started.counted(&open.started);
        let mut run = Run::new(self, batch.commands, batch.named.clone(), &open);
        let mut states = Vec::with_capacity(batch.chains.len());
        for (task, chain) in &batch.chains {
            if open.passed_over.contains(task) {
                run.pass_over(chain);
                continue;
            }
            let state = run.catch_up(batch.cached.get(task), open.take_task(*task))?;
            run.load_workflow(state.as_ref()).await?;
            states.push((*task, chain.as_slice(), state));
        }
        Ok(Opened { open, run, states })
    }

    /// The models that the workflows of an opened batch use and `models` lacks.
    fn still_asked(&self, opened: &Opened<'_>, models: &ModelsInUse) -> Vec<ModelKey> {
        opened
            .run
            .workflows
            .values()
            .flat_map(|workflow| self.models.questions(workflow.config()).to_vec())
            .filter(|question| !models.has(question))
            .collect()
    }

    /// The models used by tasks whose workflow is known before the locks are taken.
    async fn questions(&self, batch: &Batch<'_>) -> Result<Vec<ModelKey>, OrchestrationError> {
        let mut workflows: HashMap<RevisionId, Compiled> = batch
            .named
            .values()
            .map(|workflow| (workflow.config().revision_id, Arc::clone(workflow)))
            .collect();
        for state in batch.cached.values() {
            let id = state.workflow.revision_id;
            if let Entry::Vacant(entry) = workflows.entry(id) {
                entry.insert(self.compiled(id.0).await?);
            }
        }
        let questions = workflows
            .values()
            .flat_map(|workflow| self.models.questions(workflow.config()).to_vec());
        Ok(questions.collect())
    }
}

/// The commands of each task, as positions in the batch; tasks in order of first appearance.
type Chains = Vec<(TaskId, Vec<usize>)>;

/// A batch before its locks are taken.
pub(super) struct Batch<'a> {
    commands: &'a [Arc<CommandEnvelope>],
    publisher: Option<PublisherId>,
    chains: Chains,
    /// Cached states; another process may have advanced their tasks since.
    cached: HashMap<TaskId, Arc<WorkflowSnapshot>>,
    /// What the selectors that a decision may need mean now.
    named: HashMap<WorkflowSelector, Compiled>,
    /// Workflows whose started tasks are counted.
    counted: BTreeMap<WorkflowId, u32>,
    on_locked: OnLocked,
}

impl Batch<'_> {
    fn request(&self) -> OpenRequest {
        let version = |task| self.cached.get(task).map_or(0, |state| state.version);
        let tasks = self.chains.iter().map(|(task, _)| (*task, version(task)));
        let ids = self.commands.iter().map(|envelope| envelope.command_id);
        let decided = |(task, state): (&TaskId, &Arc<WorkflowSnapshot>)| (*task, state.updated_at);
        OpenRequest {
            tasks: tasks.collect(),
            last_decided: self.cached.iter().map(decided).collect(),
            commands: ids.collect(),
            publisher: self.publisher,
            counted: self.counted.clone(),
            claimant: None,
            on_locked: self.on_locked,
        }
    }
}

/// A batch under its locks, not decided yet. Dropping it writes nothing.
struct Opened<'a> {
    open: OpenBatch,
    run: Run<'a>,
    /// Each task whose lock the batch has, with its commands and its state at the version under the
    /// lock.
    states: Vec<(TaskId, &'a [usize], Option<WorkflowSnapshot>)>,
}

impl<'a> Opened<'a> {
    /// Decides every chain, off the threads that serve everything else.
    fn decide(mut self, models: &ModelsInUse) -> Decided<'a> {
        let mut ends = Vec::with_capacity(self.states.len());
        models.look(|looked| {
            let annotators = Annotators::new(looked);
            for (task, chain, state) in self.states {
                let open = &self.open;
                let end = self.run.run_chain(task, state, chain, open, annotators);
                ends.push((task, end));
            }
        });
        Decided {
            open: self.open,
            run: self.run,
            ends,
        }
    }
}

fn chains(commands: &[Arc<CommandEnvelope>]) -> Chains {
    let mut positions: HashMap<TaskId, usize> = HashMap::new();
    let mut chains: Chains = Vec::new();
    for (index, envelope) in commands.iter().enumerate() {
        let task = envelope.command.task_id();
        let position = *positions.entry(task).or_insert_with(|| {
            chains.push((task, Vec::new()));
            chains.len() - 1
        });
        chains[position].1.push(index);
    }
    chains
}

/// The selectors that a decision may need: those for tasks that may not have been started, those of
/// migrations, and those by UUID, because their text does not contain the workflow id.
fn selectors(
    commands: &[Arc<CommandEnvelope>],
    cached: &HashMap<TaskId, Arc<WorkflowSnapshot>>,
) -> Vec<WorkflowSelector> {
    let needed = commands.iter().filter_map(|envelope| {
        let selector = envelope.command.workflow()?;
        match (cached.get(&envelope.command.task_id()), selector) {
            (None, _) => Some(selector),
            _ if matches!(envelope.command, Command::Migrate(_)) => Some(selector),
            (Some(state), WorkflowSelector::Revision(id)) => {
                (*id != state.workflow.revision_id).then_some(selector)
            }
            (Some(_), WorkflowSelector::Latest(_) | WorkflowSelector::Numbered(..)) => None,
        }
    });
    needed
        .cloned()
        .collect::<HashSet<_>>()
        .into_iter()
        .collect()
}

/// A batch that is decided and still under its locks. Dropping it writes nothing.
pub(super) struct Decided<'a> {
    open: OpenBatch,
    pub(super) run: Run<'a>,
    /// The end of each chain whose task the batch has locked; tasks in order of first appearance.
    pub(super) ends: Vec<(TaskId, ChainEnd)>,
}
