//! Agreement over time: a window of the newest items of each question, as a gauge and as messages.
//!
//! The first comparison of each visit is one item, except those of gold tasks. Rows, messages and
//! checkpoint are committed together, so after any crash a row equals the result of
//! reading the log from its beginning to the checkpoint. The row also records when the last message
//! was sent, so that another process can take over.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use glyph_workflow_engine::{
    limits::FOLDED_MAX,
    quality::{AgreementProgress, ComparedVisit, History, Question, Window, millionths, whole},
    store::{EventStoreError, LogEntry, NewMessage, ProjectionRows, ProjectionWrite, Store},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    pace::{Follows, PageOutcome, commit, follow},
    rounds::Rounds,
};
use crate::{failpoints::Failpoints, wire::CloudEventMessages};

/// The projection's name in the table of checkpoints.
pub const PROJECTION: &str = "agreement";

/// The form of the rows. Rows of another form are made anew from the log.
const FORM: u32 = 4;

/// The most questions of one step; annotators name the fields of objects.
const QUESTIONS_MAX: usize = 200;
/// Answers of which the history of a question tells.
const CLASSES_PAST_MAX: usize = 6;

/// At most one message per question in this time; the next message includes the changes in between.
const TELL_EVERY: TimeDelta = TimeDelta::seconds(5);

/// Follows agreement through the log.
pub struct AgreementProjector {
    store: Arc<dyn Store>,
    /// None for a recount by an operator, which sends no messages.
    messages: Option<CloudEventMessages>,
    /// The most items in a window.
    length: usize,
    /// Whether the stored windows have this length. Checked only once: processes with different
    /// lengths must not keep changing each other's windows.
    fitted: AtomicBool,
    failpoints: Failpoints,
}

impl Follows for AgreementProjector {
    const NAME: &'static str = PROJECTION;
    const POLL: Duration = Duration::from_secs(1);

    async fn next(&self) -> Result<PageOutcome, EventStoreError> {
        self.step().await
    }
}

/// The row of one question.
#[derive(Serialize, Deserialize)]
struct Row {
    form: u32,
    question: Question,
    summary: AgreementProgress,
    /// The event of the newest item.
    cause: Uuid,
    /// The event of the newest item in the last message about the question, and the time of that
    /// message.
    #[serde(rename = "told")]
    notified: Option<(Uuid, DateTime<Utc>)>,
    window: Window,
    history: History<PastAgreement>,
}

/// Agreement at an earlier time, in whole millionths, so that reading and writing it changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PastAgreement {
    agreement: Option<i64>,
    alpha: Option<i64>,
    /// On the most frequent answers then.
    classes: Vec<(Value, i64)>,
}

impl PastAgreement {
    fn of(summary: &AgreementProgress) -> Self {
        let classes = summary.classes.iter().take(CLASSES_PAST_MAX);
        Self {
            agreement: summary.agreement.map(millionths),
            alpha: summary.alpha.map(millionths),
            classes: classes
                .map(|class| (class.value.clone(), millionths(class.agreement)))
                .collect(),
        }
    }
}

/// Agreement at an earlier time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgreementPoint {
    /// The time.
    pub at: DateTime<Utc>,
    /// Mean of `measure` over the items that were in the window then.
    pub agreement: Option<f64>,
    /// Krippendorff's alpha over them.
    pub alpha: Option<f64>,
    /// Agreement on the answers that were most frequent then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassPoint>,
}

/// Agreement on one answer at an earlier time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassPoint {
    /// The answer.
    pub value: Value,
    /// How often another person gave it to an item to which somebody gave it.
    pub agreement: f64,
}

/// Agreement of a question, and how it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgreementCourse {
    /// Now.
    #[serde(flatten)]
    pub now: AgreementProgress,
    /// Earlier, oldest first: at most 96 points, the further apart the longer it goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<AgreementPoint>,
}

impl AgreementProjector {
    /// A projector over windows of `length` items; several processes may each have one.
    pub fn new(store: Arc<dyn Store>, messages: CloudEventMessages, length: usize) -> Self {
        Self {
            store,
            messages: Some(messages),
            length,
            fitted: AtomicBool::new(false),
            failpoints: Failpoints::default(),
        }
    }

    /// Turns messages off.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.messages = None;
        self
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

    /// Processes at most one page of new log entries.
    pub async fn step(&self) -> Result<PageOutcome, EventStoreError> {
        let Some(mut step) = self.store.open_projection(PROJECTION, FOLDED_MAX).await? else {
            return Ok(PageOutcome::Elsewhere);
        };
        let mut rows = std::mem::take(&mut step.rows);
        let outcome = PageOutcome::of(&step);
        if rows.values().any(|row| row["form"] != FORM) {
            drop(step);
            tracing::info!("agreement over time is made anew: its rows are of an earlier form");
            self.store.reset_projection(PROJECTION).await?;
            return Ok(PageOutcome::MORE);
        }
        let mut changed = BTreeMap::new();
        if !self.fitted.load(Ordering::Relaxed) {
            self.fit(&mut rows, &mut changed);
        }
        for entry in &step.entries {
            self.take_in(entry, &mut rows, &mut changed);
        }
        let messages = self.notify(&rows, &mut changed, step.now);
        if outcome == PageOutcome::CaughtUp && changed.is_empty() {
            self.fitted.store(true, Ordering::Relaxed);
            return Ok(outcome);
        }
        let write = ProjectionWrite {
            rows: changed
                .into_iter()
                .map(|(key, row)| (key, serde_json::to_value(row).ok()))
                .collect(),
            messages,
            ..ProjectionWrite::default()
        };
        commit(step, write, &self.failpoints).await?;
        self.fitted.store(true, Ordering::Relaxed);
        Ok(outcome)
    }

    fn take_in(
        &self,
        entry: &LogEntry,
        rows: &mut ProjectionRows,
        changed: &mut BTreeMap<String, Row>,
    ) {
        let Some(visit) = ComparedVisit::of(&entry.event) else {
            return;
        };
        for sample in &visit.samples {
            let field = sample.field.as_deref();
            let question = Question::new(&entry.workflow, visit.step_id, field, sample.metric);
            let at = entry.event.occurred_at;
            let key = question.key();
            let is_known = changed.contains_key(&key) || rows.contains_key(&key);
            if !is_known && questions_of(rows, changed, &question) >= QUESTIONS_MAX {
                continue;
            }
            let row = match changed.entry(key) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) => {
                    let stored = rows.remove(free.key()).and_then(read_row);
                    free.insert(stored.unwrap_or_else(|| Row {
                        form: FORM,
                        summary: Window::default().summary(&question, self.length, at),
                        question,
                        cause: entry.event.event_id,
                        notified: None,
                        window: Window::default(),
                        history: History::default(),
                    }))
                }
            };
            row.window.add(sample, self.length);
            row.cause = entry.event.event_id;
            row.summary.updated_at = at;
            if row.history.is_due(at) {
                let summary = row.window.summary(&row.question, self.length, at);
                row.history.note(at, PastAgreement::of(&summary));
            }
        }
    }

    /// Changes stored windows of another length, from an earlier setting, to this length.
    fn fit(&self, rows: &mut ProjectionRows, changed: &mut BTreeMap<String, Row>) {
        let other = |row: &&Value| row["summary"]["window"] != self.length;
        let keys = rows
            .iter()
            .filter(|(_, row)| other(row))
            .map(|(key, _)| key.clone());
        for key in keys.collect::<Vec<_>>() {
            if let Some(mut row) = rows.remove(&key).and_then(read_row) {
                row.window.fit(self.length);
                changed.insert(key, row);
            }
        }
    }

    /// Updates the summaries of changed rows and builds the messages that are due, including those
    /// that were delayed before.
    fn notify(
        &self,
        rows: &ProjectionRows,
        changed: &mut BTreeMap<String, Row>,
        now: DateTime<Utc>,
    ) -> Vec<NewMessage> {
        for row in changed.values_mut() {
            let at = row.summary.updated_at;
            row.summary = row.window.summary(&row.question, self.length, at);
        }
        for (key, value) in rows {
            if is_debounced(value, now)
                && let Some(row) = read_row(value.clone())
            {
                changed.insert(key.clone(), row);
            }
        }
        let mut messages = Vec::new();
        for row in changed.values_mut() {
            match (&self.messages, row.notified) {
                (Some(_), Some((cause, at))) if now - at < TELL_EVERY || cause == row.cause => {}
                (sender, _) => {
                    let progress = sender
                        .as_ref()
                        .and_then(|m| m.agreement_progressed(&row.summary, row.cause, now));
                    messages.extend(progress);
                    row.notified = Some((row.cause, now));
                }
            }
        }
        messages
    }
}

/// The summaries of all questions, in the order of their keys.
pub async fn summaries(store: &dyn Store) -> Result<Vec<AgreementProgress>, EventStoreError> {
    /// The part of a row that callers need.
    #[derive(Deserialize)]
    struct Head {
        summary: AgreementProgress,
    }
    let rows = store.projection_rows(PROJECTION).await?;
    let heads = rows
        .into_values()
        .filter_map(|row| serde_json::from_value::<Head>(row).ok());
    Ok(heads.map(|head| head.summary).collect())
}

/// The same, with how each went.
pub async fn courses(store: &dyn Store) -> Result<Vec<AgreementCourse>, EventStoreError> {
    /// The part of a row that callers need.
    #[derive(Deserialize)]
    struct Head {
        summary: AgreementProgress,
        history: History<PastAgreement>,
    }
    let rows = store.projection_rows(PROJECTION).await?;
    let heads = rows
        .into_values()
        .filter_map(|row| serde_json::from_value::<Head>(row).ok());
    let point = |(at, past): (DateTime<Utc>, &PastAgreement)| AgreementPoint {
        at,
        agreement: past.agreement.map(whole),
        alpha: past.alpha.map(whole),
        classes: past
            .classes
            .iter()
            .map(|(value, agreement)| ClassPoint {
                value: value.clone(),
                agreement: whole(*agreement),
            })
            .collect(),
    };
    let courses = heads.map(|head| AgreementCourse {
        history: head.history.points().map(point).collect(),
        now: head.summary,
    });
    Ok(courses.collect())
}

/// A row that cannot be read starts empty.
fn read_row(value: Value) -> Option<Row> {
    serde_json::from_value(value).ok()
}

/// How many questions of the same step have a row.
fn questions_of(
    rows: &ProjectionRows,
    changed: &BTreeMap<String, Row>,
    question: &Question,
) -> usize {
    let prefix = format!("{}/{}/", question.workflow, question.step_id);
    let of_step = |key: &&String| key.starts_with(&prefix);
    rows.keys().filter(of_step).count() + changed.keys().filter(of_step).count()
}

/// Whether a stored row has a change whose message is due.
fn is_debounced(row: &Value, now: DateTime<Utc>) -> bool {
    #[derive(Deserialize)]
    struct Notified<'r>(&'r str, DateTime<Utc>);
    let Ok(Some(Notified(cause, at))) = Option::<Notified<'_>>::deserialize(&row["told"]) else {
        return true;
    };
    row["cause"] != *cause && now - at >= TELL_EVERY
}
