//! Calibration against gold tasks, and looks back at completed answers.
//!
//! The projection counts completed visits by step. When they have doubled since the last look back
//! at the step (and from [`LOOK_FROM`] on), it looks at all of the step's completed tasks again,
//! page by page, and sends a message for each answer that would be another one now. A page and the
//! place to go on from are one transaction, so a look that was interrupted goes on where it ended.
//! The id of a message is derived from the answers, and ids are kept: however often tasks are
//! looked at, by whomever, a changed answer is told once.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator,
    answer::Questions,
    config::WorkflowConfig,
    events::WorkflowEvent,
    ids::{RevisionId, StepId, TaskId, WorkflowId},
    state::ResultKind,
    store::{
        EventStore, EventStoreError, LogEntry, NewOutboxRow, ProjectionRows, ProjectionWrite, Store,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use super::pace::{Follows, PageOutcome, commit, fold_page, follow};
use crate::{
    failpoints::Failpoints,
    labels::{
        CalibrationCounts, LabelFilter, LabelPage, LabelReader, StepCalibration, gold_of,
        probability_at_completion, revisions_of,
    },
    wire::CloudEventMessages,
};

/// The projection's name in the table of checkpoints.
pub const PROJECTION: &str = "labels";

/// Completed visits of a step from which it is looked back at.
pub const LOOK_FROM: u64 = 100;

/// Tasks of a page of a look back.
const LOOK_PAGE: u32 = 100;

/// How long, and how often, messages wait for another process that writes to the projection.
const TURN: Duration = Duration::from_millis(100);
const TURNS_MAX: u32 = 100;

const COMPLETED: &str = "completed/";
const CALIBRATION: &str = "calibration/";

/// Follows the log for [`PROJECTION`], and looks back.
pub struct LabelsProjector {
    store: Arc<dyn Store>,
    orchestrator: Arc<WorkflowOrchestrator>,
    messages: CloudEventMessages,
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
        self.completed >= LOOK_FROM && self.completed >= self.looked.saturating_mul(2)
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
            failpoints: Failpoints::default(),
        }
    }

    /// Adds the crash points of the tests.
    #[must_use]
    pub fn with_failpoints(mut self, failpoints: Failpoints) -> Self {
        self.failpoints = failpoints;
        self
    }

    /// Runs until stopped.
    pub async fn run(self, stopping: CancellationToken) {
        follow(&self, &stopping).await;
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
        entries: &[LogEntry],
    ) -> Result<ProjectionWrite, EventStoreError> {
        let mut completed: BTreeMap<String, LookProgress> = BTreeMap::new();
        let mut calibration: BTreeMap<String, CalibrationCounts> = BTreeMap::new();
        let mut revisions = HashMap::new();
        for entry in entries {
            let WorkflowEvent::StepCompleted {
                step_id, result, ..
            } = &entry.event.event
            else {
                continue;
            };
            let of = format!("{}/{step_id}", entry.workflow);
            if entry.event.metadata.gold {
                if let Some((stated, right)) = self.judged(entry, &mut revisions).await? {
                    let key = format!("{CALIBRATION}{of}");
                    let counts = calibration
                        .entry(key)
                        .or_insert_with_key(|key| row(&rows, key));
                    counts.add(stated, right);
                }
            } else if result.kind == ResultKind::Consensus {
                let key = format!("{COMPLETED}{of}");
                let counts = completed
                    .entry(key)
                    .or_insert_with_key(|key| row(&rows, key));
                counts.completed += 1;
            }
        }
        let completed = completed.into_iter().map(|(key, row)| (key, json(&row)));
        let calibration = calibration.into_iter().map(|(key, row)| (key, json(&row)));
        Ok(ProjectionWrite {
            rows: completed.chain(calibration).collect(),
            ..ProjectionWrite::default()
        })
    }

    /// The stated probability of an answer to a gold task, and whether it is right.
    async fn judged(
        &self,
        entry: &LogEntry,
        revisions: &mut HashMap<RevisionId, Option<(WorkflowConfig, Questions)>>,
    ) -> Result<Option<(f64, bool)>, EventStoreError> {
        let WorkflowEvent::StepCompleted {
            step_id,
            visit,
            result,
            ..
        } = &entry.event.event
        else {
            return Ok(None);
        };
        let Some(stated) = probability_at_completion(result) else {
            return Ok(None);
        };
        let task = entry.event.task_id;
        let Some(state) = EventStore::load(&*self.store, &[task]).await?.remove(&task) else {
            return Ok(None);
        };
        let id = state.workflow.revision_id;
        if let Entry::Vacant(unknown) = revisions.entry(id) {
            let config = self.orchestrator.config_store.load(id.0).await?;
            unknown.insert(config.map(|config| {
                let questions = Questions::of(&config).unwrap_or_default();
                (config, questions)
            }));
        }
        let right = || {
            let (config, questions) = revisions.get(&id)?.as_ref()?;
            let step = config.steps.iter().find(|step| step.id == *step_id)?;
            let visit = state.visit(step_id, *visit)?;
            gold_of(config, questions, &state, step, (visit, result))?.right
        };
        Ok(right().map(|right| (stated, right)))
    }

    /// Looks at one page of the completed tasks of a step that is due. Returns whether there was
    /// one.
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
        Ok(false)
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
        if now.looked != seen.looked || now.look != seen.look {
            // Another process has looked at the same page.
            return Ok(());
        }
        now.look = page.next_after.map(|after| LookUnderWay { of, after });
        if now.look.is_none() {
            now.looked = of;
        }
        let messages = found.revised.iter();
        let write = ProjectionWrite {
            rows: BTreeMap::from_iter([(key.to_owned(), json(&now))]),
            once: messages
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

/// Sends messages about revised answers, each only once however often it is asked for. Waits for
/// its turn where another process writes to the projection.
pub async fn send_once(
    store: &dyn Store,
    messages: Vec<NewOutboxRow>,
) -> Result<(), EventStoreError> {
    if messages.is_empty() {
        return Ok(());
    }
    for _ in 0..TURNS_MAX {
        if let Some(opened) = store.open_projection(PROJECTION, 0).await? {
            let write = ProjectionWrite {
                once: messages,
                ..ProjectionWrite::default()
            };
            return opened.commit(write).await;
        }
        tokio::time::sleep(TURN).await;
    }
    let reason = "another process holds the projection `labels`";
    Err(EventStoreError::Unavailable(reason.into()))
}

/// Calibration of each step with gold tasks, by workflow and step.
pub async fn calibrations(
    store: &dyn Store,
    workflow: Option<&WorkflowId>,
) -> Result<Vec<StepCalibration>, EventStoreError> {
    let rows = store.projection_rows(PROJECTION).await?;
    let of = rows.range(CALIBRATION.to_owned()..);
    let known = of.map_while(|(key, value)| {
        let (workflow, step) = step_of(key, CALIBRATION)?;
        let counts = CalibrationCounts::deserialize(value).unwrap_or_default();
        Some(StepCalibration::of(workflow, step, &counts))
    });
    Ok(known
        .filter(|one| workflow.is_none_or(|workflow| one.workflow == *workflow))
        .collect())
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
        match self.step().await? {
            PageOutcome::CaughtUp if self.look().await? => Ok(PageOutcome::Read(1)),
            outcome => Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_due_when_what_is_completed_has_doubled() {
        let is_due = |completed, looked| {
            let looked = LookProgress {
                completed,
                looked,
                look: None,
            };
            looked.is_due()
        };
        assert!(!is_due(99, 0) && is_due(100, 0));
        assert!(!is_due(199, 100) && is_due(200, 100));
    }

    #[test]
    fn keys_name_workflow_and_step() {
        let (workflow, step) = step_of("completed/w-1/annotate", COMPLETED).unwrap();
        assert_eq!((&*workflow, &*step), ("w-1", "annotate"));
        assert!(step_of("calibration/w/s", COMPLETED).is_none());
    }
}
