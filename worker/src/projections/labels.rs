//! Calibration against gold tasks, and looks back at completed answers.
//!
//! The projection counts completed visits by step. When they have doubled since the last look back
//! at the step (and from [`LOOK_FROM`] on), it looks at all of the step's completed tasks again,
//! page by page, and sends a message for each answer that would be another one now. It does so too
//! for every step of a workflow that has reached a goal of volume or quality: once for each goal and
//! epoch, as a row says. A page and the place to go on from are one transaction, and so are a
//! reached goal and the looks it asks for, so what was interrupted goes on where it ended. The id of
//! a message is derived from the answers, and ids are kept: however often tasks are looked at, by
//! whomever, a changed answer is told once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator,
    config::GoalType,
    events::WorkflowEvent,
    executor::annotators::ModelKey,
    goals::GoalProgress,
    ids::{RevisionId, StepId, TaskId, WorkflowId},
    state::{ResultKind, StepResult},
    store::{EventStore, EventStoreError, LogEntry, ProjectionRows, ProjectionWrite, Store},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use super::{
    goals::read_goals,
    pace::{Follows, PageOutcome, commit, fold_page, follow},
    rounds::Rounds,
};
use crate::{
    failpoints::Failpoints,
    labels::{
        CalibratedAgainst, CalibrationCounts, LabelFilter, LabelPage, LabelReader, Revision,
        StepCalibration, newest_revision, probability_at_completion, revisions_of,
    },
    wire::CloudEventMessages,
};

/// The projection's name in the table of checkpoints.
pub const PROJECTION: &str = "labels";

/// Completed visits of a step from which it is looked back at.
pub const LOOK_FROM: u64 = 100;

/// Tasks of a page of a look back, and gold tasks whose states are in memory at once.
const LOOK_PAGE: u32 = 100;

const COMPLETED: &str = "completed/";
const CALIBRATION: &str = "calibration/";
const AUDITS: &str = "audits/";
/// Prefix of the rows that say for which epoch of a goal steps were looked at.
const GOAL: &str = "goal/";

/// Follows the log for [`PROJECTION`], and looks back.
pub struct LabelsProjector {
    store: Arc<dyn Store>,
    orchestrator: Arc<WorkflowOrchestrator>,
    messages: CloudEventMessages,
    /// What revisions with gold tasks ask; they never change.
    revisions: Mutex<HashMap<RevisionId, Option<Arc<Revision>>>>,
    failpoints: Failpoints,
}

/// Completed visits of a step, and how many of them the last look back has seen.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LookProgress {
    completed: u64,
    #[serde(default)]
    looked: u64,
    /// The look under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    look: Option<LookUnderWay>,
    /// Whether a goal has been reached since the last look began.
    #[serde(default, skip_serializing_if = "is_false")]
    asked: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LookUnderWay {
    /// Completed visits when it began.
    of: u64,
    /// The last task of the previous page.
    after: TaskId,
}

impl LookProgress {
    fn is_due(&self) -> bool {
        let has_doubled =
            self.completed >= LOOK_FROM && self.completed >= self.looked.saturating_mul(2);
        has_doubled || self.asked
    }

    /// Whether nobody has looked since `seen`.
    fn is_as(&self, seen: &Self) -> bool {
        (self.looked, &self.look, self.asked) == (seen.looked, &seen.look, seen.asked)
    }
}

/// A visit of a gold task that ended with an answer of a stated probability.
struct Stated<'e> {
    entry: &'e LogEntry,
    step: &'e StepId,
    visit: u32,
    result: &'e StepResult,
    probability: f64,
}

impl<'e> Stated<'e> {
    fn of(entry: &'e LogEntry) -> Option<Self> {
        let WorkflowEvent::StepCompleted {
            step_id,
            visit,
            result,
            ..
        } = &entry.event.event
        else {
            return None;
        };
        Some(Self {
            entry,
            step: step_id,
            visit: *visit,
            result,
            probability: probability_at_completion(result).filter(|_| entry.event.metadata.gold)?,
        })
    }
}

impl LabelsProjector {
    /// A projector; several processes may each have one.
    pub fn new(
        store: Arc<dyn Store>,
        orchestrator: Arc<WorkflowOrchestrator>,
        messages: CloudEventMessages,
    ) -> Self {
        Self {
            store,
            orchestrator,
            messages,
            revisions: Mutex::default(),
            failpoints: Failpoints::default(),
        }
    }

    /// Adds the crash points of the tests.
    #[must_use]
    pub fn with_failpoints(mut self, failpoints: Failpoints) -> Self {
        self.failpoints = failpoints;
        self
    }

    /// Runs until stopped, in step with the other projections of `rounds`.
    pub async fn run(self, rounds: Rounds, stopping: CancellationToken) {
        follow(&self, &rounds, &stopping).await;
    }

    /// Processes at most one page of new log entries, without looking back.
    pub async fn step(&self) -> Result<PageOutcome, EventStoreError> {
        fold_page(
            &*self.store,
            PROJECTION,
            &self.failpoints,
            async |rows, entries| self.fold(rows, entries).await,
        )
        .await
    }

    async fn fold(
        &self,
        rows: ProjectionRows,
        entries: &[Arc<LogEntry>],
    ) -> Result<ProjectionWrite, EventStoreError> {
        let mut completed: BTreeMap<String, LookProgress> = BTreeMap::new();
        let mut calibration: BTreeMap<String, CalibrationCounts> = BTreeMap::new();
        for entry in entries {
            let WorkflowEvent::StepCompleted {
                step_id, result, ..
            } = &entry.event.event
            else {
                continue;
            };
            if entry.event.metadata.gold {
                continue;
            }
            if result.kind == ResultKind::Consensus {
                let key = step_key(COMPLETED, &entry.workflow, step_id);
                let counts = completed
                    .entry(key)
                    .or_insert_with_key(|key| row(&rows, key));
                counts.completed += 1;
            }
            if let Some(audit) = &result.audit
                && let Some(stated) = probability_at_completion(result)
            {
                let key = step_key(AUDITS, &entry.workflow, step_id);
                let counts = calibration
                    .entry(key)
                    .or_insert_with_key(|key| row(&rows, key));
                counts.add(stated, audit.value == result.value);
            }
        }
        let stated: Vec<Stated<'_>> = entries
            .iter()
            .filter_map(|entry| Stated::of(entry))
            .collect();
        for some in stated.chunks(LOOK_PAGE as usize) {
            for (one, right) in self.judged(some).await? {
                let key = step_key(CALIBRATION, &one.entry.workflow, one.step);
                let counts = calibration
                    .entry(key)
                    .or_insert_with_key(|key| row(&rows, key));
                counts.add(one.probability, right);
            }
        }
        let completed = completed.into_iter().map(|(key, row)| (key, json(&row)));
        let calibration = calibration.into_iter().map(|(key, row)| (key, json(&row)));
        Ok(ProjectionWrite {
            rows: completed.chain(calibration).collect(),
            ..ProjectionWrite::default()
        })
    }

    /// Answers to gold tasks, and whether each is right; those of which that cannot be said are
    /// left out.
    async fn judged<'s, 'e>(
        &self,
        answers: &'s [Stated<'e>],
    ) -> Result<Vec<(&'s Stated<'e>, bool)>, EventStoreError> {
        let tasks: BTreeSet<TaskId> = answers.iter().map(|one| one.entry.event.task_id).collect();
        let tasks: Vec<TaskId> = tasks.into_iter().collect();
        let states = EventStore::load(&*self.store, &tasks).await?;
        let mut judged = Vec::new();
        for one in answers {
            let Some(state) = states.get(&one.entry.event.task_id) else {
                continue;
            };
            let revision = self.revision(state.workflow.revision_id).await?;
            let right =
                revision.and_then(|known| known.is_right(state, one.step, one.visit, one.result));
            judged.extend(right.map(|right| (one, right)));
        }
        Ok(judged)
    }

    async fn revision(&self, id: RevisionId) -> Result<Option<Arc<Revision>>, EventStoreError> {
        let revisions = || {
            self.revisions
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(known) = revisions().get(&id) {
            return Ok(known.clone());
        }
        let found = match self.orchestrator.workflow(id.0).await {
            Ok(config) => Some(Arc::new(Revision::of(config))),
            Err(OrchestrationError::ConfigNotFound(_)) => None,
            Err(error) => return Err(store_error(error)),
        };
        revisions().insert(id, found.clone());
        Ok(found)
    }

    /// Looks at one page of the completed tasks of a step that is due; where none is, notes which
    /// steps reached goals make due. Returns whether there was anything to do.
    pub async fn look(&self) -> Result<bool, EventStoreError> {
        let rows = self.store.projection_rows(PROJECTION).await?;
        for (key, value) in rows.range(COMPLETED.to_owned()..) {
            let Some((workflow, step)) = step_of(key, COMPLETED) else {
                break;
            };
            let seen = LookProgress::deserialize(value).unwrap_or_default();
            if seen.look.is_some() || seen.is_due() {
                self.look_at(key, &seen, workflow, step).await?;
                return Ok(true);
            }
        }
        self.take_goals(&rows).await
    }

    /// Makes the steps of workflows due that have reached a goal. Returns whether there were any.
    async fn take_goals(&self, rows: &ProjectionRows) -> Result<bool, EventStoreError> {
        let mut reached = read_goals(&*self.store).await?;
        reached.retain(|_, goal| asks_for_a_look(goal) && !is_taken(rows, goal));
        if reached.is_empty() {
            return Ok(false);
        }
        let mut steps = Vec::new();
        let workflows: BTreeSet<&WorkflowId> = reached.keys().map(|(id, _)| id).collect();
        for workflow in workflows {
            let newest = newest_revision(&self.orchestrator, workflow).await;
            let Some(config) = newest.map_err(store_error)? else {
                continue;
            };
            let known = config.steps.iter();
            let known = known.filter(|step| !ModelKey::of_answers(&config, step).is_empty());
            steps.extend(known.map(|step| (workflow, step.id.clone())));
        }
        let Some(opened) = self.store.open_projection(PROJECTION, 0).await? else {
            return Ok(false);
        };
        let mut write = ProjectionWrite::default();
        for goal in reached.values() {
            // Else another process has taken it meanwhile.
            if is_taken(&opened.rows, goal) {
                continue;
            }
            write.rows.insert(goal_key(goal), json(&goal.epoch));
            for (_, step) in steps.iter().filter(|(of, _)| **of == goal.workflow) {
                let key = step_key(COMPLETED, &goal.workflow, step);
                let mut progress: LookProgress = row(&opened.rows, &key);
                progress.asked = true;
                write.rows.insert(key, json(&progress));
            }
        }
        commit(opened, write, &self.failpoints).await?;
        Ok(true)
    }

    async fn look_at(
        &self,
        key: &str,
        seen: &LookProgress,
        workflow: WorkflowId,
        step: StepId,
    ) -> Result<(), EventStoreError> {
        let filter = LabelFilter {
            step: Some(step),
            ..LabelFilter::new(workflow)
        };
        let after = seen.look.as_ref().map(|look| look.after);
        let of = seen.look.as_ref().map_or(seen.completed, |look| look.of);
        // Before the projection is opened: what is read of the models may be kept in the store,
        // which has one writer at a time.
        let page = self.page(filter, after).await.map_err(store_error)?;
        let found = revisions_of(&page.labels, Utc::now());
        let Some(opened) = self.store.open_projection(PROJECTION, 0).await? else {
            return Ok(());
        };
        let mut now: LookProgress = row(&opened.rows, key);
        if !now.is_as(seen) {
            // Another process has looked at the same page, or a goal was reached.
            return Ok(());
        }
        if now.look.is_none() {
            now.asked = false;
        }
        now.look = page.next_after.map(|after| LookUnderWay { of, after });
        if now.look.is_none() {
            now.looked = of;
        }
        let messages = found.revised.iter();
        let write = ProjectionWrite {
            rows: BTreeMap::from_iter([(key.to_owned(), json(&now))]),
            messages: messages
                .filter_map(|revised| self.messages.answer_revised(revised))
                .collect(),
            ..ProjectionWrite::default()
        };
        commit(opened, write, &self.failpoints).await
    }

    async fn page(
        &self,
        filter: LabelFilter,
        after: Option<TaskId>,
    ) -> Result<LabelPage, OrchestrationError> {
        let mut reader = LabelReader::new(&*self.store, &self.orchestrator, filter);
        if reader.has_models().await? {
            reader.page(after, LOOK_PAGE).await
        } else {
            Ok(LabelPage::default())
        }
    }
}

/// Calibration of each step against gold tasks, and then against audits, by workflow and step.
pub async fn calibrations(
    store: &dyn Store,
    workflow: Option<&WorkflowId>,
) -> Result<Vec<StepCalibration>, EventStoreError> {
    let rows = store.projection_rows(PROJECTION).await?;
    let against = |prefix: &'static str, against: CalibratedAgainst| {
        let of = rows.range(prefix.to_owned()..);
        of.map_while(move |(key, value)| {
            let (workflow, step) = step_of(key, prefix)?;
            let counts = CalibrationCounts::deserialize(value).unwrap_or_default();
            Some(StepCalibration::of((workflow, step), against, &counts))
        })
    };
    let gold = against(CALIBRATION, CalibratedAgainst::Gold);
    let known = gold.chain(against(AUDITS, CalibratedAgainst::Audit));
    Ok(known
        .filter(|one| workflow.is_none_or(|workflow| one.workflow == *workflow))
        .collect())
}

fn asks_for_a_look(goal: &GoalProgress) -> bool {
    matches!(goal.config.kind, GoalType::Volume | GoalType::Quality) && goal.completed_at.is_some()
}

/// Whether the steps were made due when the goal was reached.
fn is_taken(rows: &ProjectionRows, goal: &GoalProgress) -> bool {
    row::<u32>(rows, &goal_key(goal)) >= goal.epoch
}

fn goal_key(goal: &GoalProgress) -> String {
    format!("{GOAL}{}/{}", goal.workflow, goal.goal())
}

fn step_key(prefix: &str, workflow: &WorkflowId, step: &StepId) -> String {
    format!("{prefix}{workflow}/{step}")
}

/// The workflow and step of a row whose key begins with `prefix`.
fn step_of(key: &str, prefix: &str) -> Option<(WorkflowId, StepId)> {
    let (workflow, step) = key.strip_prefix(prefix)?.split_once('/')?;
    Some((WorkflowId::new(workflow).ok()?, StepId::new(step).ok()?))
}

fn row<T: DeserializeOwned + Default>(rows: &ProjectionRows, key: &str) -> T {
    let row = rows.get(key).and_then(|row| T::deserialize(row).ok());
    row.unwrap_or_default()
}

/// Plain data with string keys always serializes.
fn json(row: &impl Serialize) -> Option<serde_json::Value> {
    serde_json::to_value(row).ok()
}

fn store_error(error: OrchestrationError) -> EventStoreError {
    match error {
        OrchestrationError::EventStoreError(error) => error,
        error => EventStoreError::Data(Box::new(error)),
    }
}

impl Follows for LabelsProjector {
    const NAME: &'static str = PROJECTION;
    const POLL: Duration = Duration::from_secs(5);

    async fn next(&self) -> Result<PageOutcome, EventStoreError> {
        let outcome = self.step().await?;
        let is_at_end = !matches!(outcome, PageOutcome::MORE | PageOutcome::Elsewhere);
        if is_at_end && self.look().await? {
            return Ok(PageOutcome::MORE);
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_due_when_what_is_completed_has_doubled() {
        let progress = |completed, looked| LookProgress {
            completed,
            looked,
            ..LookProgress::default()
        };
        assert!(!progress(99, 0).is_due() && progress(100, 0).is_due());
        assert!(!progress(199, 100).is_due() && progress(200, 100).is_due());
        let asked = LookProgress {
            asked: true,
            ..progress(7, 7)
        };
        assert!(asked.is_due() && !asked.is_as(&progress(7, 7)));
    }

    #[test]
    fn keys_name_workflow_and_step() {
        let (workflow, step) = step_of("completed/w-1/annotate", COMPLETED).unwrap();
        assert_eq!((&*workflow, &*step), ("w-1", "annotate"));
        assert!(step_of("calibration/w/s", COMPLETED).is_none());
    }
}
