//! Labels: the likely errors first, and looking back.

use std::time::{Duration, Instant};

use chrono::Utc;
use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator,
    ids::{TaskId, WorkflowId},
    limits::PAGE_MAX,
    store::Store,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    labels::{
        LabelFilter, LabelPage, LabelReader, StepCalibration, Suspect, Suspects, newest_revision,
        revisions_of,
    },
    wire::CloudEventMessages,
};

/// Why labels cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LabelsError {
    /// There is no such workflow.
    #[error("there is no workflow `{0}`")]
    UnknownWorkflow(WorkflowId),
    /// The engine or the store failed.
    #[error(transparent)]
    Engine(#[from] OrchestrationError),
}

/// How much to look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    /// The task to go on after.
    pub after: Option<TaskId>,
    /// For how long to look; without limit if absent. At least one page is looked at.
    pub within: Option<Duration>,
}

/// The answers that are most likely wrong.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct SuspectList {
    /// The likely errors first.
    pub suspects: Vec<Suspect>,
    /// Completed tasks that were looked at.
    pub tasks: u64,
    /// Null if all tasks were looked at. Otherwise the time was up: go on after this task, and put
    /// the lists together.
    pub next_after: Option<TaskId>,
}

impl SuspectList {
    /// The list of these and of what comes after them.
    #[must_use]
    pub fn and(mut self, after: Self, limit: u32) -> Self {
        self.suspects.extend(after.suspects);
        let most_likely = |one: &Suspect, other: &Suspect| {
            other.error_probability.total_cmp(&one.error_probability)
        };
        self.suspects.sort_by(most_likely);
        self.suspects.truncate(limit as usize);
        Self {
            suspects: self.suspects,
            tasks: self.tasks + after.tasks,
            next_after: after.next_after,
        }
    }
}

/// What a look back found.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct LookReport {
    /// Completed tasks that were looked at.
    pub tasks: u64,
    /// Their answers that a model of the annotators knows.
    pub answers: u64,
    /// Answers that would be other ones now. Each is told once by a message `answer.revised`.
    pub revised: u64,
    /// Null if all tasks were looked at. Otherwise the time was up: go on after this task.
    pub next_after: Option<TaskId>,
}

impl LookReport {
    /// The report of this and of what comes after it.
    #[must_use]
    pub fn and(&self, after: &Self) -> Self {
        Self {
            tasks: self.tasks + after.tasks,
            answers: self.answers + after.answers,
            revised: self.revised + after.revised,
            next_after: after.next_after,
        }
    }
}

/// How often answers of a stated probability are right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CalibrationList {
    /// The steps with gold or audited tasks.
    pub calibration: Vec<StepCalibration>,
}

/// A reader of the labels of a workflow that exists.
pub async fn label_reader<'a>(
    store: &'a dyn Store,
    orchestrator: &'a WorkflowOrchestrator,
    filter: LabelFilter,
) -> Result<LabelReader<'a>, LabelsError> {
    let newest = newest_revision(orchestrator, &filter.workflow).await?;
    if newest.is_none() {
        return Err(LabelsError::UnknownWorkflow(filter.workflow));
    }
    Ok(LabelReader::new(store, orchestrator, filter))
}

/// The `limit` answers that are most likely wrong.
pub async fn suspects(
    mut reader: LabelReader<'_>,
    limit: u32,
    extent: Extent,
) -> Result<SuspectList, LabelsError> {
    let mut found = Suspects::new(limit);
    let mut tasks = 0;
    let mut pages = Pages::of(extent);
    while let Some(page) = pages.next(&mut reader).await? {
        tasks += u64::from(page.tasks);
        for label in &page.labels {
            found.add(label);
        }
    }
    Ok(SuspectList {
        suspects: found.into_sorted(),
        tasks,
        next_after: pages.after,
    })
}

/// Looks back at completed tasks: sends a message for each answer that would be another one now.
pub async fn look(
    store: &dyn Store,
    messages: &CloudEventMessages,
    mut reader: LabelReader<'_>,
    extent: Extent,
) -> Result<LookReport, LabelsError> {
    let mut report = LookReport {
        tasks: 0,
        answers: 0,
        revised: 0,
        next_after: None,
    };
    let mut pages = Pages::of(extent);
    while let Some(page) = pages.next(&mut reader).await? {
        let found = revisions_of(&page.labels, Utc::now());
        report.tasks += u64::from(page.tasks);
        report.answers += found.answers;
        report.revised += u64::try_from(found.revised.len()).unwrap_or(u64::MAX);
        let told = found.revised.iter();
        let told = told.filter_map(|revised| messages.answer_revised(revised));
        let sent = store.enqueue(told.collect()).await;
        sent.map_err(OrchestrationError::from)?;
    }
    report.next_after = pages.after;
    Ok(report)
}

/// Pages of labels, within a time.
struct Pages {
    began: Instant,
    within: Option<Duration>,
    after: Option<TaskId>,
    is_first: bool,
}

impl Pages {
    fn of(extent: Extent) -> Self {
        Self {
            began: Instant::now(),
            within: extent.within,
            after: extent.after,
            is_first: true,
        }
    }

    /// The next page; none if there is no more, or the time is up.
    async fn next(
        &mut self,
        reader: &mut LabelReader<'_>,
    ) -> Result<Option<LabelPage>, LabelsError> {
        let is_over = self
            .within
            .is_some_and(|within| self.began.elapsed() >= within);
        if !self.is_first && (self.after.is_none() || is_over) {
            return Ok(None);
        }
        self.is_first = false;
        let page = reader.page(self.after, PAGE_MAX).await?;
        self.after = page.next_after;
        Ok(Some(page))
    }
}
