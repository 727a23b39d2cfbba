//! Decides the commands of one task in order; each sees the effects of the ones before it.
//!
//! A decision is pure. This module gathers what the store writes for it: events, inbox, messages,
//! timers, slots and a snapshot.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

use super::{
    BatchStats, OrchestrationError, WorkflowOrchestrator, messages::MessageContext,
    sampling::sampling,
};
use crate::{
    command::{Command, CommandEnvelope, Dead, Outcome, Undecided, operator::with_actor},
    config::{ExternalHandler, Sampling},
    decide::{DecideContext, decide},
    events::{StoredEvent, WorkflowEvent, evolve},
    executor::annotators::Annotators,
    ids::{CommandId, LogId, RevisionId, TaskId, WorkflowId, WorkflowSelector},
    limits::{DECISION_MAX, SNAPSHOT_EVERY},
    state::{Draft, Slots, WorkflowPause, WorkflowSnapshot},
    store::{
        CommandRecord, NewMessage, OpenBatch, OpenedTask, RecordedOutcome, SnapshotRow, TaskRow,
        TaskWrite, Timer,
    },
    timers::derive_timers,
    transition::CompiledWorkflow,
};

/// A batch whose chains are being decided.
pub(super) struct Run<'a> {
    orchestrator: &'a WorkflowOrchestrator,
    commands: &'a [Arc<CommandEnvelope>],
    now: DateTime<Utc>,
    log: LogId,
    pauses: Vec<WorkflowPause>,
    /// How many tasks have started on the workflows that are counted.
    started: BTreeMap<WorkflowId, u32>,
    named: HashMap<WorkflowSelector, Arc<CompiledWorkflow>>,
    /// Every revision that a task of the batch runs on or may be started with.
    pub(super) workflows: HashMap<RevisionId, Arc<CompiledWorkflow>>,
    /// When to stop deciding; none to decide everything.
    stop_at: Option<Instant>,
    has_decided: bool,
    /// The task whose decision took longer than [`DECISION_MAX`].
    pub(super) too_slow: Option<TaskId>,
    /// Ids that the batch has more than once.
    repeated: HashSet<CommandId>,
    /// Outcomes of those that are decided, for their second copies.
    decided: HashMap<CommandId, ([u8; 32], RecordedOutcome)>,
    pub(super) outcomes: Vec<Option<Outcome>>,
    pub(super) stats: BatchStats,
}

/// The end of a chain.
pub(super) struct ChainEnd {
    pub(super) state: Option<WorkflowSnapshot>,
    pub(super) write: Option<TaskWrite>,
}

/// What a write needs of the state before the chain, since the state itself is advanced.
struct DerivedBefore {
    version: u64,
    due: Vec<Timer>,
    slots: Slots,
}

impl DerivedBefore {
    fn of(state: Option<&WorkflowSnapshot>) -> Self {
        Self {
            version: state.map_or(0, |state| state.version),
            due: state.map(derive_timers).unwrap_or_default(),
            slots: state.map(Slots::from).unwrap_or_default(),
        }
    }
}

/// The writes that a chain has gathered so far.
#[derive(Default)]
struct GatheredBatch {
    events: Vec<StoredEvent>,
    records: Vec<CommandRecord>,
    outbox: Vec<NewMessage>,
    drafts: Vec<Draft>,
    fired: Vec<Timer>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        orchestrator: &'a WorkflowOrchestrator,
        commands: &'a [Arc<CommandEnvelope>],
        named: HashMap<WorkflowSelector, Arc<CompiledWorkflow>>,
        open: &OpenBatch,
    ) -> Self {
        Self {
            orchestrator,
            commands,
            now: open.now,
            log: open.log,
            pauses: open.pauses.clone(),
            started: open.started.clone(),
            workflows: named
                .values()
                .map(|w| (w.config().revision_id, Arc::clone(w)))
                .collect(),
            named,
            stop_at: None,
            has_decided: false,
            too_slow: None,
            repeated: repeated(commands),
            decided: HashMap::new(),
            outcomes: vec![None; commands.len()],
            stats: BatchStats::default(),
        }
    }

    /// Stops deciding at that time; the first command is decided whatever it takes.
    pub(super) fn stop_at(&mut self, deadline: Instant) {
        self.stop_at = Some(deadline);
    }

    fn is_out_of_time(&self) -> bool {
        let deadline = self.stop_at.filter(|_| self.has_decided);
        deadline.is_some_and(|deadline| self.orchestrator.facts.stopwatch() >= deadline)
    }

    /// Leaves the commands of a task for later, because another transaction has locked it.
    pub(super) fn pass_over(&mut self, chain: &[usize]) {
        for &index in chain {
            self.outcomes[index] = Some(Outcome::Undecided(Undecided::Locked));
        }
    }

    /// The state at the version under the lock: the cached state brought up to date.
    pub(super) fn catch_up(
        &mut self,
        cached: Option<&Arc<WorkflowSnapshot>>,
        opened: OpenedTask,
    ) -> Result<Option<WorkflowSnapshot>, OrchestrationError> {
        let cached = cached.filter(|_| !opened.anew);
        match cached {
            Some(_) if opened.tail.is_empty() => self.stats.cache_hits += 1,
            Some(_) => self.stats.cache_stale += 1,
            None if opened.version > 0 => self.stats.cache_misses += 1,
            None => {}
        }
        let mut state = match (opened.snapshot, cached) {
            (Some(snapshot), _) => Some(snapshot),
            (None, Some(cached)) => Some(WorkflowSnapshot::clone(cached)),
            (None, None) => None,
        };
        for event in &opened.tail {
            evolve(&mut state, event)?;
        }
        Ok(state)
    }

    /// Ensures that the revision of a task is loaded.
    pub(super) async fn load_workflow(
        &mut self,
        state: Option<&WorkflowSnapshot>,
    ) -> Result<(), OrchestrationError> {
        let Some(id) = state.map(|state| state.workflow.revision_id) else {
            return Ok(());
        };
        if !self.workflows.contains_key(&id) {
            self.workflows
                .insert(id, self.orchestrator.compiled(id.0).await?);
        }
        Ok(())
    }

    /// Decides the commands of one task in order; each sees the effects of the ones before it.
    pub(super) fn run_chain(
        &mut self,
        task: TaskId,
        mut state: Option<WorkflowSnapshot>,
        chain: &[usize],
        open: &OpenBatch,
        annotators: Annotators<'_>,
    ) -> ChainEnd {
        let before = DerivedBefore::of(state.as_ref());
        let mut gathered = GatheredBatch::default();
        for &index in chain {
            let envelope = &self.commands[index];
            let outcome = match self.seen(envelope, open) {
                Some(outcome) => outcome,
                None if self.is_out_of_time() => Outcome::Undecided(Undecided::OutOfTime),
                None => self.decide_one(envelope, &mut state, annotators, &mut gathered),
            };
            self.outcomes[index] = Some(outcome);
        }
        let write = self.write(task, &before, state.as_ref(), gathered);
        ChainEnd { state, write }
    }

    /// The outcome of a command whose id is known, from the inbox or from earlier in this batch.
    fn seen(&self, envelope: &CommandEnvelope, open: &OpenBatch) -> Option<Outcome> {
        let (hash, recorded) =
            if let Some((hash, recorded)) = self.decided.get(&envelope.command_id) {
                (hash, recorded)
            } else {
                let row = open.known(envelope.command_id)?;
                (&row.content_hash, &row.outcome)
            };
        Some(if *hash == envelope.content_hash {
            Outcome::Duplicate(recorded.clone())
        } else {
            Outcome::Dead(Dead::CommandIdReused)
        })
    }

    /// Decides one command on `state` and gathers its writes.
    fn decide_one(
        &mut self,
        envelope: &CommandEnvelope,
        state: &mut Option<WorkflowSnapshot>,
        annotators: Annotators<'_>,
        gathered: &mut GatheredBatch,
    ) -> Outcome {
        self.has_decided = true;
        let workflow = state
            .as_ref()
            .and_then(|state| self.workflows.get(&state.workflow.revision_id));
        let named = envelope
            .command
            .workflow()
            .and_then(|selector| self.named.get(selector));
        let context = DecideContext {
            workflow: workflow.map(AsRef::as_ref),
            named: named.map(AsRef::as_ref),
            handlers: &self.orchestrator.handler_registry,
            annotators,
            sampling: match named {
                Some(named) if state.is_none() => self.sampling(envelope, named),
                Some(_) | None => Sampling::default(),
            },
            now: self.now,
            log: self.log,
            pauses: &self.pauses,
        };
        let facts = &self.orchestrator.facts;
        let begun = facts.stopwatch();
        // A decision only reads `state`, so a panic leaves nothing half done: the other commands
        // keep their outcomes.
        let decided = catch_unwind(AssertUnwindSafe(|| {
            decide(state.as_ref(), envelope, &context)
        }));
        if facts.stopwatch() - begun > DECISION_MAX {
            self.too_slow = Some(envelope.command.task_id());
        }
        let decision = match decided {
            Ok(decision) => decision,
            Err(panic) => return Outcome::Undecided(Undecided::Panicked(panic_text(&*panic))),
        };
        match &decision.outcome {
            Outcome::Applied(result) => {
                let result = serde_json::to_value(result).unwrap_or_default();
                self.record(envelope, RecordedOutcome::Applied { result }, gathered);
            }
            Outcome::Rejected(rejection) => {
                let reference = state.as_ref().map(|state| &state.workflow);
                let messages = &self.orchestrator.messages;
                gathered
                    .outbox
                    .extend(messages.for_rejection(reference, envelope, rejection, self.now));
                let recorded = RecordedOutcome::Rejected {
                    reason: rejection.code.as_str().to_owned(),
                    detail: rejection.detail.clone(),
                };
                self.record(envelope, recorded, gathered);
            }
            Outcome::Duplicate(_) | Outcome::Undecided(_) | Outcome::Dead(_) => {}
        }
        if let Command::FireTimer(due) = &envelope.command {
            gathered.fired.push(due.row.clone());
        }
        let before = std::mem::replace(state, decision.state);
        if before.is_none()
            && let Some(state) = state
            && let Some(started) = self.started.get_mut(&state.workflow.workflow)
        {
            *started += 1;
        }
        let mut context = MessageContext::of(before.as_ref());
        for event in &decision.events {
            context = context.after(&event.event);
            gathered
                .outbox
                .extend(context.message(&*self.orchestrator.messages, event));
            *self
                .stats
                .events
                .entry(event.event.event_type())
                .or_default() += 1;
            if let WorkflowEvent::ConsensusCalculated(consensus) = &event.event
                && !event.metadata.gold
                && !consensus.again
            {
                self.stats.agreements.extend(consensus.agreement);
            }
            self.stats.jobs.extend(ended_job(before.as_ref(), event));
        }
        gathered.events.extend(decision.events);
        gathered.drafts.extend(decision.draft);
        decision.outcome
    }

    fn sampling(&self, envelope: &CommandEnvelope, named: &CompiledWorkflow) -> Sampling {
        let config = named.config();
        let started = self.started.get(&config.id).copied();
        sampling(envelope.command.task_id(), config, started)
    }

    fn record(
        &mut self,
        envelope: &CommandEnvelope,
        outcome: RecordedOutcome,
        gathered: &mut GatheredBatch,
    ) {
        let rejected = matches!(outcome, RecordedOutcome::Rejected { .. });
        if self.repeated.contains(&envelope.command_id) {
            let known = (envelope.content_hash, outcome.clone());
            self.decided.insert(envelope.command_id, known);
        }
        gathered.records.push(CommandRecord {
            command_id: envelope.command_id,
            task_id: Some(envelope.command.task_id()),
            command_type: envelope.command.type_name(),
            content_hash: envelope.content_hash,
            outcome,
            payload: rejected
                .then(|| with_actor(envelope.command.payload(), envelope.sender.name.as_deref())),
            decided_at: self.now,
        });
    }

    /// The write of the chain; none if there is nothing to write.
    fn write(
        &mut self,
        task: TaskId,
        before: &DerivedBefore,
        after: Option<&WorkflowSnapshot>,
        gathered: GatheredBatch,
    ) -> Option<TaskWrite> {
        let GatheredBatch {
            events,
            records,
            outbox,
            drafts,
            fired,
        } = gathered;
        if events.is_empty() && records.is_empty() {
            return None;
        }
        let changed = !events.is_empty();
        let DerivedBefore {
            version: expected_version,
            due: timers_before,
            slots,
        } = before;
        let expected_version = *expected_version;
        let timers_after = after.map(derive_timers).unwrap_or_default();
        // A fired row that the state still has was only moved: it is written with its new time.
        let timers_set = timers_after
            .iter()
            .filter(|row| !timers_before.contains(row) || fired.iter().any(|f| f.id == row.id))
            .cloned()
            .collect();
        let timers_unset = timers_before
            .iter()
            .chain(&fired)
            .map(|row| row.id)
            .filter(|id| timers_after.iter().all(|row| row.id != *id))
            .collect();
        let snapshot = after.filter(|state| {
            changed && state.version / SNAPSHOT_EVERY > expected_version / SNAPSHOT_EVERY
        });
        self.stats.snapshots += u64::from(snapshot.is_some());
        Some(TaskWrite {
            task_id: task,
            expected_version,
            events,
            task: after.filter(|_| changed).map(TaskRow::from),
            commands: records,
            outbox,
            timers_set,
            timers_unset,
            slots: after.map(Slots::from).unwrap_or_default().since(slots),
            drafts,
            snapshot: snapshot.map(|state| SnapshotRow {
                task_id: task,
                version: state.version,
                state: state.clone(),
            }),
        })
    }
}

fn repeated(commands: &[Arc<CommandEnvelope>]) -> HashSet<CommandId> {
    let mut seen = HashSet::with_capacity(commands.len());
    let ids = commands.iter().map(|envelope| envelope.command_id);
    ids.filter(|id| !seen.insert(*id)).collect()
}

/// Whether a job that the event ends was answered, and how long after its first publication.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a job ends by these events alone"
)]
fn ended_job(before: Option<&WorkflowSnapshot>, event: &StoredEvent) -> Option<(bool, Duration)> {
    let before = before?;
    let (call, answered) = match &event.event {
        WorkflowEvent::StepCompleted { step_id, visit, .. }
        | WorkflowEvent::ResultFound { step_id, visit, .. } => {
            let call = before.visit(step_id, *visit)?.call.as_ref();
            (call.filter(|call| call.hook.is_none())?, true)
        }
        WorkflowEvent::HookEnded(ended) if ended.error.is_none() => {
            let visit = before.visit(&ended.step_id, ended.visit)?;
            (visit.pending_call(ended.n?)?, true)
        }
        WorkflowEvent::HandlerFailed {
            step_id,
            visit,
            n,
            retry_at: None,
            ..
        } => (before.visit(step_id, *visit)?.pending_call(*n)?, false),
        _ => return None,
    };
    let took = event.occurred_at - call.since;
    let is_job = call.handler == ExternalHandler::Queue;
    is_job.then(|| (answered, took.to_std().unwrap_or_default()))
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned()
}
