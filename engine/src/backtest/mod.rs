//! Backtests: recorded tasks, decided again under other settings.
//!
//! The log is the input of a fresh run. What came to a task from outside (its start, annotations,
//! outcomes of handlers, acts of operators) becomes a command to a simulated task of the changed
//! workflow, in the order of the log. It is decided by the same [`decide`](crate::decide()) as in
//! production, and the models of annotators learn from what was simulated. So a backtest says what
//! a worker would have said that was fed the same annotations, and offered those that the tasks
//! would have refused as well.
//!
//! What was not recorded is not made up. A task that asks for more than the recording has stays
//! open, and [`BacktestReport::unknown`] lists what cannot be known, with counts.
//!
//! Claims and pauses are not simulated. Time is: a visit that is closed when nobody submits for a
//! while is closed between two recorded events. A task is in memory only while its recording goes
//! on, and as its start alone until something happens to it.
//!
//! ```
//! use glyph_workflow_engine::{backtest::{change_settings, read_setting}, config::StepLibrary, parse_workflow};
//!
//! let workflow = parse_workflow(
//!     "workflow:
//!   id: adaptive
//!   steps:
//!     - { id: annotate, type: annotation, completion: { type: confidence, target: 0.99 } }
//!     - { id: check, type: review }
//!   transitions:
//!     - { from: annotate, to: check }
//!     - { from: check, to: _complete }
//! ").unwrap();
//! let settings = [read_setting("completion.target=0.9").unwrap()];
//! let changed = change_settings(&workflow, &settings, &StepLibrary::built_in(), &[]).unwrap();
//! assert_eq!(changed.changes[0].path, "steps.annotate.completion.target");
//! ```

mod changes;
mod course;
mod player;
mod report;
mod task;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde_json::Value;

pub use changes::{ChangeError, ChangedWorkflow, SettingChange, change_settings, read_setting};
pub use report::{
    Accuracy, AnnotationUse, AnswerComparison, BacktestReport, Figures, GoldComparison, OpenTasks,
    Prices, StepFigures, Unknown, UnknownKind,
};

use self::{
    course::{Asked, Course},
    player::Player,
    report::{Counts, UnknownKey, incident},
    task::{Replay, ReplayedTask},
};
use crate::{
    command::{Advance, Command},
    config::{LoadBalancing, Performer, WorkflowConfig},
    events::{StoredEvent, WorkflowEvent},
    executor::HandlerRegistry,
    ids::{CommandId, LogId, RevisionId, StepId, TaskId},
    reliability::ReliabilityError,
    state::{VisitStatus, WorkflowSnapshot},
    store::{LogFilter, LogPage, content_hash},
    transition::{CompileError, CompiledWorkflow},
};

/// Recorded tasks of one workflow, decided again while their log is read.
///
/// Feed it the pages of the log in order, from its beginning: for each page, first the revisions
/// that it [asks for](Self::unknown_revisions), then the [page](Self::read). At the end of the log,
/// [`finish`](Self::finish).
pub struct Backtest {
    player: Player,
    changes: Vec<SettingChange>,
    options: BacktestOptions,
    revisions: HashMap<RevisionId, Asked>,
    asked: Asked,
    tasks: HashMap<TaskId, Box<ReplayedTask>>,
    gathered: Gathered,
    /// The time of the last event.
    now: Option<DateTime<Utc>>,
}

/// What to report, and how.
#[derive(Clone, Debug, Default)]
pub struct BacktestOptions {
    /// The tasks to report; all of them if absent. The others are decided as well where models of
    /// annotators learn from them.
    pub tasks: Option<HashSet<TaskId>>,
    /// Answers that became known after the task: they measure the accuracy, and nothing learns
    /// from them.
    pub known: HashMap<TaskId, Value>,
    /// Prices of annotations.
    pub prices: Prices,
}

/// Why a workflow cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// The parser has not checked it.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It declares classes that no model takes.
    #[error(transparent)]
    Model(#[from] ReliabilityError),
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Gathered {
    tasks: u64,
    events: u64,
    recorded: Counts,
    simulated: Counts,
    annotations: AnnotationUse,
    answers: AnswerComparison,
    gold: GoldComparison,
    open: OpenTasks,
    unknown: BTreeMap<UnknownKey, (u64, u64)>,
}

impl fmt::Debug for Backtest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backtest")
            .field("tasks", &self.tasks.len())
            .field("gathered", &self.gathered)
            .finish_non_exhaustive()
    }
}

impl Backtest {
    /// The event types that it reads.
    pub const EVENTS: [&'static str; 15] = [
        "workflow_started",
        "task_details_supplied",
        "step_activated",
        "annotation_submitted",
        "child_ended",
        "handler_failed",
        "hook_ended",
        "result_found",
        "step_completed",
        "incident_resolved",
        "workflow_migrated",
        "workflow_resumed",
        "workflow_completed",
        "workflow_failed",
        "workflow_cancelled",
    ];

    /// A backtest of a changed workflow.
    ///
    /// # Errors
    ///
    /// A workflow that the parser has not checked.
    pub fn new(
        changed: ChangedWorkflow,
        handlers: HandlerRegistry,
        mut options: BacktestOptions,
    ) -> Result<Self, BacktestError> {
        let config = Arc::new(changed.config);
        options.prices.groups = config.reliability.clone();
        let hash = content_hash(&config);
        let workflow = CompiledWorkflow::new(Arc::clone(&config), hash)?;
        Ok(Self {
            player: Player::new(workflow, handlers)?,
            changes: changed.changes,
            options,
            revisions: HashMap::new(),
            asked: Asked::of(config),
            tasks: HashMap::new(),
            gathered: Gathered::default(),
            now: None,
        })
    }

    /// The part of the log to read.
    pub fn filter(&self) -> LogFilter {
        LogFilter {
            workflow: self.player.config().id.clone(),
            event_types: Self::EVENTS.to_vec(),
        }
    }

    /// The revisions that tasks of a page run on, as far as they are not known yet.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "revisions are named by these events alone"
    )]
    pub fn unknown_revisions(&self, page: &LogPage) -> BTreeSet<RevisionId> {
        let events = page.entries.iter().map(|(_, event)| &event.event);
        let named = events.filter_map(|event| match event {
            WorkflowEvent::WorkflowStarted(started) => Some(started.workflow.revision_id),
            WorkflowEvent::WorkflowMigrated(migrated) => Some(migrated.workflow.revision_id),
            _ => None,
        });
        named
            .filter(|revision| !self.revisions.contains_key(revision))
            .collect()
    }

    /// Makes a stored revision known: it says what its tasks were asked.
    pub fn know(&mut self, revision: Arc<WorkflowConfig>) {
        let id = revision.revision_id;
        self.revisions.insert(id, Asked::of(revision));
    }

    /// Reads the next page.
    pub fn read(&mut self, page: &LogPage) {
        self.gathered.events += u64::from(page.read);
        for (_, event) in &page.entries {
            // The first event of a command is told by what is read of it.
            if Self::EVENTS.contains(&event.event.event_type()) {
                self.take(event);
            }
        }
    }

    /// Events that were read.
    pub fn events(&self) -> u64 {
        self.gathered.events
    }

    fn take(&mut self, event: &StoredEvent) {
        self.now = Some(event.occurred_at);
        let id = event.task_id;
        if let WorkflowEvent::WorkflowStarted(started) = &event.event {
            let tasks = self.options.tasks.as_ref();
            let is_reported = tasks.is_none_or(|tasks| tasks.contains(&id));
            if is_reported || self.player.has_models() {
                let known = self.options.known.get(&id).cloned();
                let task = ReplayedTask::started(event, started, is_reported, known, &self.player);
                self.tasks.insert(id, Box::new(task));
            }
            return;
        }
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        if task.is_reported {
            let recorded = &mut self.gathered.recorded;
            recorded.take(&event.event, &self.options.prices);
        }
        let mut replay = Replay {
            player: &mut self.player,
            counts: &mut self.gathered.simulated,
            prices: &self.options.prices,
        };
        if task.take(event, &mut replay)
            && let Some(task) = self.tasks.remove(&id)
        {
            self.end(task, event.occurred_at);
        }
    }

    /// The recording of a task is over.
    fn end(&mut self, mut task: Box<ReplayedTask>, at: DateTime<Utc>) {
        let mut replay = Replay {
            player: &mut self.player,
            counts: &mut self.gathered.simulated,
            prices: &self.options.prices,
        };
        task.wake(at, &mut replay);
        if !task.is_reported {
            return;
        }
        let gathered = &mut self.gathered;
        gathered.tasks += 1;
        gathered.recorded.ended(task.recorded.ended);
        gathered.simulated.ended(task.simulated.ended);
        let recorded_on = self.revisions.get(&task.revision);
        gathered.compare(&task, recorded_on, &self.asked);
        if task.recorded.ended.is_none() {
            task.note((UnknownKind::Unfinished, None, None));
        } else if task.simulated.ended.is_none() {
            gathered.open(&mut task, &self.player, &self.asked, at);
        }
        gathered.uses(&mut task);
        for (key, count) in std::mem::take(&mut task.unknown) {
            let counts = gathered.unknown.entry(key).or_default();
            counts.0 += 1;
            counts.1 += count;
        }
    }

    /// The report. `read_to_end`: whether the whole log was read.
    pub fn finish(mut self, read_to_end: bool) -> BacktestReport {
        let tasks = std::mem::take(&mut self.tasks);
        // In the order of the tasks, not of the map: a report can be repeated.
        let mut tasks: Vec<(TaskId, Box<ReplayedTask>)> = tasks.into_iter().collect();
        tasks.sort_by_key(|(id, _)| *id);
        if let Some(now) = self.now {
            for (_, task) in tasks {
                self.end(task, now);
            }
        }
        let config = self.player.config();
        let mut gathered = self.gathered;
        for step in &config.steps {
            if step.load_balancing() == LoadBalancing::QualityWeighted {
                let key = (UnknownKind::ChosenByQuality, Some(step.id.clone()), None);
                gathered
                    .unknown
                    .insert(key, (gathered.tasks, gathered.tasks));
            }
        }
        if !read_to_end {
            let key = (UnknownKind::NotRead, None, None);
            gathered.unknown.insert(key, (0, 0));
        }
        let prices = &self.options.prices;
        let unknown = gathered.unknown.into_iter();
        BacktestReport {
            workflow: config.id.clone(),
            revision: config.revision,
            changes: self.changes,
            tasks: gathered.tasks,
            recorded: gathered.recorded.finish(gathered.tasks, prices),
            simulated: gathered.simulated.finish(gathered.tasks, prices),
            annotations: gathered.annotations,
            answers: gathered.answers,
            gold: gathered.gold.finish(),
            open: OpenTasks {
                gold_if_closed: gathered.open.gold_if_closed.finish(),
                ..gathered.open
            },
            unknown: unknown
                .map(|(key, (tasks, count))| Unknown::new(key, tasks, count))
                .collect(),
            events: gathered.events,
            read_to_end,
        }
    }
}

impl Gathered {
    /// Compares the answers of both sides, with each other and with the known one.
    fn compare(&mut self, task: &ReplayedTask, recorded_on: Option<&Asked>, asked: &Asked) {
        let recorded = task.recorded.final_answer();
        let simulated = task.simulated.final_answer();
        self.answers.recorded += u64::from(recorded.is_some());
        self.answers.simulated += u64::from(simulated.is_some());
        let known = task.known.as_deref();
        if let Some((recorded, simulated)) = recorded.zip(simulated) {
            let input = known.map_or(&Value::Null, |known| &known.input);
            self.answers.both += 1;
            self.answers.same += u64::from(asked.same(simulated, &recorded.value, input));
        }
        let Some(known) = known else { return };
        self.gold.tasks += 1;
        let then = recorded.map(|answer| recorded_on.and_then(|on| on.judge(answer, known)));
        let now = simulated.map(|answer| asked.judge(answer, known));
        self.gold.recorded.add(then.flatten());
        self.gold.simulated.add(now.flatten());
        if let Some((then, now)) = then.flatten().zip(now.flatten()) {
            self.gold.recorded_of_both.add(Some(then));
            self.gold.simulated_of_both.add(Some(now));
        }
    }

    /// A task that would have asked for more than was recorded.
    fn open(&mut self, task: &mut ReplayedTask, player: &Player, asked: &Asked, at: DateTime<Utc>) {
        let Some(state) = task.state.take() else {
            return;
        };
        self.open.tasks += 1;
        for (step_id, wanted) in waits_for(&state, player) {
            if wanted.0.0 == UnknownKind::MoreAnnotations {
                self.open.annotations_wanted += wanted.1;
            }
            let (kind, _, code) = wanted.0;
            *task.unknown.entry((kind, Some(step_id), code)).or_default() += wanted.1;
        }
        let mut course = Course::default();
        course.answer.clone_from(&task.simulated.answer);
        close_all(*state, &mut course, player, at);
        if let Some(answer) = course.final_answer() {
            self.open.answers_if_closed += 1;
            let known = task.known.as_deref();
            if let Some(known) = known {
                self.open.gold_if_closed.add(asked.judge(answer, known));
            }
        }
    }

    /// What became of the recorded annotations.
    fn uses(&mut self, task: &mut ReplayedTask) {
        let reached = [UnknownKind::NotReached, UnknownKind::UnknownStep];
        let mut saved = task.saved;
        if task.simulated.ended.is_some() {
            // The task has ended without them.
            let never: Vec<UnknownKey> = task
                .unknown
                .keys()
                .filter(|(kind, _, _)| reached.contains(kind))
                .cloned()
                .collect();
            for key in never {
                saved += task.unknown.remove(&key).unwrap_or_default();
            }
        }
        let unusable = task.unknown.iter().filter(|((kind, _, _), _)| {
            let lost = [UnknownKind::OtherSubject, UnknownKind::Refused];
            reached.contains(kind) || lost.contains(kind)
        });
        self.annotations.used += task.used;
        self.annotations.saved += saved;
        self.annotations.unusable += unusable.map(|(_, count)| count).sum::<u64>();
    }
}

/// What each active step of an open task waits for, and how much of it.
fn waits_for(state: &WorkflowSnapshot, player: &Player) -> Vec<(StepId, (UnknownKey, u64))> {
    let config = player.config();
    let steps = state.current_steps().into_iter();
    steps
        .filter_map(|id| {
            if let Some(open) = state.incident_of(&id) {
                let key = incident(&id, open.code);
                return Some((id, (key, 1)));
            }
            let step = config.step(&id)?;
            let visit = state.current_visit(&id)?;
            let by_people = matches!(
                step.kind.spec().performer,
                Performer::Annotators | Performer::Person
            );
            let (kind, count) = if by_people && visit.is_open() {
                let wanted = visit.free_slots().unwrap_or(1).max(1);
                (UnknownKind::MoreAnnotations, u64::from(wanted))
            } else {
                (UnknownKind::NoOutcome, 1)
            };
            let key = (kind, Some(id.clone()), None);
            Some((id, (key, count)))
        })
        .collect()
}

/// Closes every step of an open task with the annotations it has.
fn close_all(state: WorkflowSnapshot, course: &mut Course, player: &Player, at: DateTime<Utc>) {
    let mut state = Some(state);
    let mut closed = BTreeSet::new();
    while let Some(open) = &state {
        let closable = open.steps.iter().find_map(|(id, step)| {
            let visit = step.current()?;
            let is_open = visit.status == VisitStatus::Active && visit.is_open();
            let fresh = !closed.contains(&(id.clone(), visit.number));
            (is_open && fresh && !visit.annotations.is_empty()).then(|| (id.clone(), visit.number))
        });
        let Some((step_id, number)) = closable else {
            break;
        };
        let advance = Command::Advance(Advance {
            task_id: open.task_id,
            step_id: Some(step_id.to_string()),
            output: None,
        });
        let id = CommandId(LogId::default().event_id(open.task_id, open.version));
        let decision = player.preview(Some(open), id, advance, at);
        for event in &decision.events {
            course.take(&event.event);
        }
        closed.insert((step_id, number));
        state = decision.state;
    }
}
