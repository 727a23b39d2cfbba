//! Accuracy of annotators on gold tasks: the newest answers of each annotator in each workflow.
//!
//! The log contains the scores. It also shows which revision of a workflow was newest at each
//! answer (the newest on which a task had been started). Replaying the log therefore flags the same
//! annotators at the same events. Each drop is reported once, by the event of the answer that
//! caused it, and again only after the annotator has recovered.
//!
//! If the workflow says so, a flagged annotator is paused by an operator command. Its id is derived
//! from the event, and it is written in the transaction of the step. The inbox keeps the id for
//! good, so replaying the log pauses nobody again, whatever an operator has done since. When an
//! operator resumes an annotator, earlier answers no longer count. When the rule no longer applies,
//! its own operator command ends the pause.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    MessageBuilder,
    command::{OperatorCommand, OperatorEnvelope},
    config::GoldConfig,
    consensus::{Bounds, CONFIDENCE_DEFAULT, wilson_interval},
    events::{StoredEvent, WorkflowEvent},
    ids::{RevisionId, UserId, WorkflowId},
    plan_operator_command,
    quality::{GoldRecord, RuleAction},
    state::WorkflowRef,
    store::{
        AnnotatorPause, EventStoreError, LogEntry, ProjectionRows, ProjectionWrite, Store,
        WorkflowConfigStore,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    pace::{Follows, PageOutcome, fold_page, follow},
    rounds::Rounds,
};
use crate::{
    failpoints::Failpoints,
    wire::{CloudEventMessages, data::AnnotatorFlagged},
};

/// The projection's name in the table of checkpoints.
pub const PROJECTION: &str = "gold";

/// Tracks the accuracy of annotators on the gold tasks of the log.
pub struct GoldProjector {
    store: Arc<dyn Store>,
    messages: CloudEventMessages,
    /// The gold configuration by revision; revisions never change.
    rules: Mutex<HashMap<RevisionId, Option<GoldConfig>>>,
    failpoints: Failpoints,
}

impl GoldProjector {
    /// A projector; several processes may each have one.
    pub fn new(store: Arc<dyn Store>, messages: CloudEventMessages) -> Self {
        Self {
            store,
            messages,
            rules: Mutex::default(),
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

    /// Processes at most one page of new log entries.
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
        let mut fold = Fold {
            messages: &self.messages,
            rows,
            pauses: Vec::new(),
            write: ProjectionWrite::default(),
        };
        let is_about_gold = |entry: &Arc<LogEntry>| {
            matches!(
                entry.event.event,
                WorkflowEvent::WorkflowStarted(_) | WorkflowEvent::GoldScored { .. }
            )
        };
        if entries.iter().any(is_about_gold) {
            fold.pauses = self.store.annotator_pauses(None).await?;
        }
        for entry in entries {
            let workflow = &entry.workflow;
            if is_about_gold(entry) && !fold.rows.contains_key(&test_key(workflow)) {
                // Rows of earlier builds were judged by a bare share.
                fold.set(test_key(workflow), Value::from("binomial"));
                let rule = match newest(&fold.rows, workflow) {
                    Some(newest) => self.rule(newest.revision_id).await?,
                    None => None,
                };
                fold.change_rule(&entry.event, workflow, rule.as_ref());
            }
            match &entry.event.event {
                WorkflowEvent::WorkflowStarted(started) => {
                    let newest = newest(&fold.rows, workflow);
                    if newest.is_none_or(|newest| newest.revision < started.workflow.revision) {
                        let row = serde_json::to_value(&started.workflow).unwrap_or_default();
                        fold.set(newest_key(workflow), row);
                        let rule = self.rule(started.workflow.revision_id).await?;
                        fold.change_rule(&entry.event, workflow, rule.as_ref());
                    }
                }
                WorkflowEvent::GoldScored {
                    user_id, correct, ..
                } => {
                    let rule = match newest(&fold.rows, workflow) {
                        Some(newest) => self.rule(newest.revision_id).await?,
                        None => None,
                    };
                    if let Some(rule) = rule {
                        fold.answer(&entry.event, workflow, (*user_id, *correct), &rule);
                    }
                }
                _ => {}
            }
        }
        Ok(fold.write)
    }

    /// The gold configuration of a revision.
    async fn rule(&self, revision: RevisionId) -> Result<Option<GoldConfig>, EventStoreError> {
        let rules = || self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rule) = rules().get(&revision) {
            return Ok(rule.clone());
        }
        let config = WorkflowConfigStore::load(&*self.store, revision.0).await?;
        let rule = config.and_then(|config| config.gold);
        rules().insert(revision, rule.clone());
        Ok(rule)
    }
}

/// A step in progress.
struct Fold<'a> {
    messages: &'a CloudEventMessages,
    rows: ProjectionRows,
    /// All pauses of annotators so far.
    pauses: Vec<AnnotatorPause>,
    write: ProjectionWrite,
}

impl Fold<'_> {
    fn set(&mut self, key: String, row: Value) {
        self.write.rows.insert(key.clone(), Some(row.clone()));
        self.rows.insert(key, row);
    }

    /// The record of an annotator at the time of an event.
    fn record(&self, workflow: &WorkflowId, user: UserId, at: DateTime<Utc>) -> GoldRecord {
        let row = self.rows.get(&record_key(workflow, user));
        let mut record = row.and_then(|row| GoldRecord::deserialize(row).ok());
        let record = record.get_or_insert_default();
        record.judge_from(resumed(&self.pauses, workflow, user, Some(at)));
        record.clone()
    }

    fn answer(
        &mut self,
        event: &StoredEvent,
        workflow: &WorkflowId,
        (user, correct): (UserId, bool),
        rule: &GoldConfig,
    ) {
        let mut record = self.record(workflow, user, event.occurred_at);
        let falls = record.add(correct, rule);
        let rule_action = record.next_action(Some(rule));
        if let Some(fall) = falls {
            let flagged = AnnotatorFlagged {
                workflow: workflow.clone(),
                user_id: user,
                accuracy: fall.accuracy,
                min_accuracy: rule.min_accuracy.unwrap_or_default(),
                right: fall.right,
                answers: fall.answers,
                p_value: fall.p_value,
                flagged_at: event.occurred_at,
                paused: record.paused,
            };
            let message = self.messages.annotator_flagged(&flagged, event.event_id);
            self.write.messages.extend(message);
        }
        self.keep(event, workflow, user, &record, rule_action);
    }

    /// Applies the new rule of a workflow to its annotators.
    fn change_rule(
        &mut self,
        event: &StoredEvent,
        workflow: &WorkflowId,
        rule: Option<&GoldConfig>,
    ) {
        let prefix = record_key_of(workflow);
        let known: Vec<UserId> = self
            .rows
            .range(prefix.clone()..)
            .map_while(|(key, _)| key.strip_prefix(&prefix))
            .filter_map(|user| user.parse().ok().map(UserId))
            .collect();
        for user in known {
            let before = self.record(workflow, user, event.occurred_at);
            let mut record = before.clone();
            record.forgive(rule);
            let rule_action = record.next_action(rule);
            if record != before {
                self.keep(event, workflow, user, &record, rule_action);
            }
        }
    }

    fn keep(
        &mut self,
        event: &StoredEvent,
        workflow: &WorkflowId,
        user: UserId,
        record: &GoldRecord,
        rule_action: Option<RuleAction>,
    ) {
        let row = serde_json::to_value(record).unwrap_or_default();
        self.set(record_key(workflow, user), row);
        if let Some(rule_action) = rule_action {
            let operator_command = operator_command_of(rule_action, event, workflow, user, record);
            let messages: Arc<dyn MessageBuilder> = Arc::new(self.messages.clone());
            self.write
                .operator_commands
                .push(plan_operator_command(operator_command, &messages));
        }
    }
}

/// The operator command of a rule. Its id is derived from the event, so it is the same however
/// often and by whichever process the event is read.
fn operator_command_of(
    rule_action: RuleAction,
    event: &StoredEvent,
    workflow: &WorkflowId,
    user_id: UserId,
    record: &GoldRecord,
) -> OperatorEnvelope {
    let workflow = workflow.clone();
    let (right, answers) = (record.right(), record.answers.len());
    let p_value = record.p_value;
    let p_value = p_value.map_or_else(String::new, |p| format!(" (p = {p:.4})"));
    let right = format!("{right} of the newest {answers} answers to gold tasks are right{p_value}");
    let (what, operator_command) = match rule_action {
        RuleAction::Pause => (
            "paused",
            OperatorCommand::AnnotatorPause {
                workflow,
                user_id,
                reason: Some(right),
                fallen_at: Some(event.occurred_at),
            },
        ),
        RuleAction::Resume => (
            "resumed",
            OperatorCommand::AnnotatorResume {
                workflow,
                user_id,
                reason: Some(right),
                by_rule: true,
            },
        ),
    };
    let name = format!("annotator.{what}/{user_id}");
    OperatorEnvelope::new(
        Uuid::new_v5(&event.event_id, name.as_bytes()),
        operator_command,
    )
}

/// When an operator last resumed an annotator, up to a time.
fn resumed(
    pauses: &[AnnotatorPause],
    workflow: &WorkflowId,
    user: UserId,
    until: Option<DateTime<Utc>>,
) -> Option<DateTime<Utc>> {
    let of_person = pauses
        .iter()
        .filter(|pause| pause.workflow == *workflow && pause.user_id == user && pause.judged_anew);
    of_person
        .filter_map(|pause| pause.ended_at)
        .filter(|at| until.is_none_or(|until| *at <= until))
        .max()
}

/// The reliability of an annotator in a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnnotatorReliability {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The annotator.
    pub user_id: UserId,
    /// The number of newest answers to gold tasks that count.
    pub answers: usize,
    /// How many of them are correct.
    pub right: usize,
    /// The share of correct ones; null if there are none.
    pub accuracy: Option<f64>,
    /// The 95 % interval of the true share; null if there are no answers.
    pub interval: Option<Bounds>,
    /// How probable so few correct answers are of somebody at the limit of the workflow; null without
    /// a limit, or with fewer than five answers.
    pub p_value: Option<f64>,
    /// Whether the person was found to be below the limit: `p_value` is at most 0.05.
    pub flagged: bool,
    /// The open pause, during which the workflow offers no slots to the annotator; null if there is
    /// none.
    pub paused: Option<AnnotatorPause>,
}

/// Annotators who have answered gold tasks or are paused, by workflow and id.
pub async fn reliabilities(
    store: &dyn Store,
) -> Result<Vec<AnnotatorReliability>, EventStoreError> {
    let rows = store.projection_rows(PROJECTION).await?;
    let history = store.annotator_pauses(None).await?;
    let mut records: BTreeMap<(WorkflowId, UserId), GoldRecord> = BTreeMap::new();
    for (key, row) in &rows {
        let of = key.strip_prefix(RECORDS).and_then(|of| of.split_once('/'));
        if let Some((workflow, user)) = of
            && let (Ok(workflow), Ok(user)) = (WorkflowId::new(workflow), user.parse())
            && let Ok(record) = GoldRecord::deserialize(row)
        {
            records.insert((workflow, UserId(user)), record);
        }
    }
    for pause in history.iter().filter(|pause| pause.is_open()) {
        records
            .entry((pause.workflow.clone(), pause.user_id))
            .or_default();
    }
    let reliability = |((workflow, user_id), mut record): ((WorkflowId, UserId), GoldRecord)| {
        record.judge_from(resumed(&history, &workflow, user_id, None));
        let of_person = |p: &&AnnotatorPause| p.workflow == workflow && p.user_id == user_id;
        let paused = history
            .iter()
            .filter(|pause| pause.is_open())
            .find(of_person);
        AnnotatorReliability {
            paused: paused.cloned(),
            workflow,
            user_id,
            answers: record.answers.len(),
            right: record.right(),
            accuracy: record.accuracy(),
            interval: wilson_interval(record.right(), record.answers.len(), CONFIDENCE_DEFAULT)
                .ok(),
            p_value: record.p_value,
            flagged: record.flagged,
        }
    };
    Ok(records.into_iter().map(reliability).collect())
}

impl Follows for GoldProjector {
    const NAME: &'static str = PROJECTION;
    const POLL: Duration = Duration::from_secs(1);

    async fn next(&self) -> Result<PageOutcome, EventStoreError> {
        self.step().await
    }
}

fn newest_key(workflow: &WorkflowId) -> String {
    format!("revision/{workflow}")
}

/// The key of the row that says by which test the records of a workflow were judged.
fn test_key(workflow: &WorkflowId) -> String {
    format!("test/{workflow}")
}

/// The prefix of the keys of records.
const RECORDS: &str = "annotator/";

fn record_key_of(workflow: &WorkflowId) -> String {
    format!("{RECORDS}{workflow}/")
}

fn record_key(workflow: &WorkflowId, user: UserId) -> String {
    format!("{}{user}", record_key_of(workflow))
}

/// The newest revision on which a task has been started so far.
fn newest(rows: &ProjectionRows, workflow: &WorkflowId) -> Option<WorkflowRef> {
    serde_json::from_value(rows.get(&newest_key(workflow))?.clone()).ok()
}
