//! What is known about the people who annotate.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator,
    config::AnnotatorGroup,
    events::LogPosition,
    executor::annotators::{AnnotatorModel, ModelKey},
    ids::{StepId, TaskId, UserId, WorkflowId},
    reliability::{self, AnnotatorNow, CONFUSION_CLASSES_MAX, Survey, value_of},
    state::WorkflowSnapshot,
    store::{EventStore, EventStoreError, Store},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    labels::newest_revision,
    projections::gold::{AnnotatorReliability, reliabilities},
};

/// Labels of the same person after which a label counts half in the accuracy of late.
pub const HALF_LIFE: u32 = 100;

/// Tasks whose states are in memory at once.
const TASKS_AT_ONCE: usize = 100;

/// Annotators, and where a workflow is named, what the models of its questions know of them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AnnotatorList {
    /// The newest answers to gold tasks, and pauses, by workflow.
    pub annotators: Vec<AnnotatorReliability>,
    /// How reliable each annotator is, by question and then by user id; left out unless a workflow
    /// is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracies: Option<Vec<QuestionAccuracy>>,
    /// The groups of annotators that the newest revision names; left out unless a workflow is named
    /// that has any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, AnnotatorGroup>,
    /// Pairs who agree more than their accuracy explains, by question, the most suspicious first;
    /// left out unless a workflow is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspicious_pairs: Option<Vec<SuspiciousPair>>,
}

/// What is known about an annotator.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct AnnotatorReport {
    /// The annotator.
    pub user_id: UserId,
    /// By workflow, step and field, where the person has given labels that are categories.
    pub questions: Vec<QuestionReport>,
    /// The newest answers to gold tasks, and pauses, by workflow.
    pub workflows: Vec<AnnotatorReliability>,
}

/// What is known about an annotator's answers to one question.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct QuestionReport {
    #[serde(flatten)]
    accuracy: QuestionAccuracy,
    /// The answers, in the order of the rows and columns of `confusion`.
    pub classes: Vec<Value>,
    /// For each true answer (row) the probability that the person gives each answer (column). Empty
    /// where there are more answers than a model learns pairs of.
    pub confusion: Vec<Vec<f64>>,
    /// How far others agree with the person about each answer, over the tasks that the model holds
    /// one by one.
    pub agreement_by_class: Vec<ClassAgreement>,
    /// Others with whom the person agrees more than the accuracy of both explains, the most
    /// suspicious first: copies of each other, models of one family. Who is in one group with the
    /// person is not listed.
    pub suspicious: Vec<SuspiciousPartner>,
}

/// How far others agree with an annotator about one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassAgreement {
    /// The answer.
    pub value: Value,
    /// Comparisons with the label of another person in the same visit in which both gave it.
    pub both: u64,
    /// Those in which one of the two gave it.
    pub one: u64,
    /// If one of the two gives it, how often the other does: 2 both / (2 both + one); null without
    /// comparisons.
    pub agreement: Option<f64>,
}

/// Somebody with whom an annotator agrees suspiciously.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SuspiciousPartner {
    /// The other person.
    pub user_id: UserId,
    #[serde(flatten)]
    evidence: PairEvidence,
}

/// Two annotators who agree on one question more than their accuracy explains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SuspiciousPair {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step_id: StepId,
    /// The path of the answer in `annotation.data`; null where it is all of the data.
    pub field: Option<String>,
    /// The two people.
    pub user_ids: [UserId; 2],
    #[serde(flatten)]
    evidence: PairEvidence,
}

/// Why two annotators are suspected.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PairEvidence {
    /// Visits that both labelled.
    pub items: u64,
    /// On how many of them they gave the same answer.
    pub alike: u64,
    /// On how many of them two people of their accuracy who err independently would.
    pub alike_expected: f64,
    /// The correlation of their errors that explains the labels best: 1 for copies.
    pub correlation: f64,
    /// Natural logarithm of how much more probable the labels are with that correlation than
    /// without.
    pub log_evidence: f64,
}

/// How often an annotator is right of late: a label counts half as much as one `half_life` labels
/// later.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccuracyLately {
    /// In labels of the same person.
    pub half_life: u32,
    /// The expected share of right labels.
    pub accuracy: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end of its 95 % interval.
    pub high: f64,
}

/// Where the accuracy of an annotator changed most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccuracyChange {
    /// The task of the first label after the change.
    pub task_id: TaskId,
    /// Its visit.
    pub visit: u32,
    /// When that label was submitted, as the producer says; else when the visit began. Null if the
    /// task is no longer there.
    pub since: Option<DateTime<Utc>>,
    /// Labels of the person before it, of the newest thousand.
    pub labels_before: u64,
    /// Labels of the person from it on.
    pub labels_since: u64,
    /// Share of right labels before.
    pub before: f64,
    /// Share of right labels after.
    pub now: f64,
    /// Natural logarithm of how much more probable the labels are with the change than without.
    pub log_evidence: f64,
}

/// A group of annotators, and what is known of it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupNow {
    /// Its name in the workflow.
    pub name: String,
    /// How strongly errors in it go together: 0 not at all, 1 for copies.
    pub correlation: f64,
}

/// How reliable an annotator is on one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QuestionAccuracy {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The step.
    pub step_id: StepId,
    /// The path of the answer in `annotation.data`; null where it is all of the data.
    pub field: Option<String>,
    /// The annotator.
    pub user_id: UserId,
    /// The group of annotators whose errors go together that the person belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupNow>,
    /// Labels, those on gold tasks included.
    pub labels: u64,
    /// The expected share of right labels.
    pub accuracy: f64,
    /// Lower end of its 95 % interval.
    pub low: f64,
    /// Upper end of its 95 % interval.
    pub high: f64,
    /// Labels on gold tasks.
    pub gold_answers: u64,
    /// Right ones.
    pub gold_right: u64,
    /// Comparisons with the label of another person in the same visit.
    pub compared: u64,
    /// The share of them in which both gave the same answer; null without any.
    pub agreement_with_others: Option<f64>,
    /// How much the model has learned.
    pub model_position: LogPosition,
    /// The accuracy of late.
    pub lately: AccuracyLately,
    /// Where the accuracy changed; null where no change is beyond chance.
    pub change: Option<AccuracyChange>,
}

impl PairEvidence {
    fn of(pair: &reliability::SuspiciousPair) -> Self {
        Self {
            items: pair.items,
            alike: pair.alike,
            alike_expected: pair.alike_expected,
            correlation: pair.correlation,
            log_evidence: pair.log_evidence,
        }
    }
}

impl SuspiciousPartner {
    /// Why the person is suspected.
    pub fn evidence(&self) -> PairEvidence {
        self.evidence
    }
}

impl SuspiciousPair {
    /// Why the two are suspected.
    pub fn evidence(&self) -> PairEvidence {
        self.evidence
    }
}

impl AccuracyChange {
    /// The time is filled in later: a model knows none.
    fn of(change: &reliability::Change) -> Option<Self> {
        let (task_id, visit) = AnnotatorModel::visit_of(&change.item)?;
        Some(Self {
            task_id,
            visit,
            since: None,
            labels_before: change.labels_before,
            labels_since: change.labels_since,
            before: change.before,
            now: change.now,
            log_evidence: change.log_evidence,
        })
    }
}

impl QuestionAccuracy {
    /// None if the person has given no label.
    fn of(known: &AnnotatorModel, survey: &Survey<'_>, user_id: UserId) -> Option<Self> {
        let name = user_id.to_string();
        let AnnotatorNow {
            whole: reliability,
            lately,
            change,
        } = survey.annotator(&name, f64::from(HALF_LIFE));
        if reliability.labels == 0 {
            return None;
        }
        let peers = known.agreement_with_others(&name);
        let key = known.key();
        Some(Self {
            workflow: key.workflow.clone(),
            step_id: key.step.clone(),
            field: key.field.clone(),
            user_id,
            group: known
                .model()
                .group_of(&name)
                .map(|(name, correlation)| GroupNow {
                    name: name.to_owned(),
                    correlation,
                }),
            labels: reliability.labels,
            accuracy: reliability.accuracy,
            low: reliability.low,
            high: reliability.high,
            gold_answers: reliability.gold_labels,
            gold_right: reliability.gold_right,
            compared: peers.compared,
            agreement_with_others: (peers.compared > 0)
                .then(|| peers.equal as f64 / peers.compared as f64),
            model_position: known.position(),
            lately: AccuracyLately {
                half_life: HALF_LIFE,
                accuracy: lately.accuracy,
                low: lately.low,
                high: lately.high,
            },
            change: change.as_ref().and_then(AccuracyChange::of),
        })
    }
}

impl QuestionReport {
    /// How reliable the person is.
    pub fn accuracy(&self) -> &QuestionAccuracy {
        &self.accuracy
    }

    fn of(known: &AnnotatorModel, user: UserId) -> Option<Self> {
        let model = known.model();
        let survey = model.survey();
        let accuracy = QuestionAccuracy::of(known, &survey, user)?;
        let name = user.to_string();
        let confusion = if model.classes().len() <= CONFUSION_CLASSES_MAX {
            model.confusion(&name)
        } else {
            Vec::new()
        };
        let agreement = survey.agreement(&name).into_iter();
        let pairs = model.suspicious_pairs();
        let partner = |pair: &reliability::SuspiciousPair| {
            let other = match (&pair.first, &pair.second) {
                (first, second) if *first == name => second,
                (first, second) if *second == name => first,
                _ => return None,
            };
            Some(SuspiciousPartner {
                user_id: person(other)?,
                evidence: PairEvidence::of(pair),
            })
        };
        Some(Self {
            accuracy,
            classes: model.classes().iter().map(|name| value_of(name)).collect(),
            confusion,
            agreement_by_class: agreement
                .map(|one| ClassAgreement {
                    value: value_of(&one.class),
                    both: one.both,
                    one: one.one,
                    agreement: one.agreement,
                })
                .collect(),
            suspicious: pairs.iter().filter_map(partner).collect(),
        })
    }
}

/// The report of one annotator, in one workflow or in all.
pub async fn annotator_report(
    store: &dyn Store,
    orchestrator: &WorkflowOrchestrator,
    user: UserId,
    workflow: Option<&WorkflowId>,
) -> Result<AnnotatorReport, OrchestrationError> {
    let mut questions = Vec::new();
    for key in keys(orchestrator, workflow).await? {
        let report = ask(orchestrator, key, move |known| {
            QuestionReport::of(known, user)
        });
        questions.extend(report.await?.flatten());
    }
    let accuracies = questions.iter_mut().map(|one| &mut one.accuracy);
    tell_when(store, accuracies).await?;
    let mut workflows = reliabilities(store).await?;
    workflows.retain(|one| {
        one.user_id == user && workflow.is_none_or(|workflow| one.workflow == *workflow)
    });
    Ok(AnnotatorReport {
        user_id: user,
        questions,
        workflows,
    })
}

/// Annotators, of one workflow or of all, or only one of them.
pub async fn annotator_list(
    store: &dyn Store,
    orchestrator: &WorkflowOrchestrator,
    workflow: Option<&WorkflowId>,
    user: Option<UserId>,
) -> Result<AnnotatorList, OrchestrationError> {
    let mut annotators = reliabilities(store).await?;
    annotators.retain(|one| {
        workflow.is_none_or(|id| one.workflow == *id) && user.is_none_or(|id| one.user_id == id)
    });
    let mut list = AnnotatorList {
        annotators,
        accuracies: None,
        groups: BTreeMap::new(),
        suspicious_pairs: None,
    };
    let Some(named) = workflow else {
        return Ok(list);
    };
    if let Some(newest) = newest_revision(orchestrator, named).await? {
        list.groups = newest.reliability.groups.clone();
    }
    let (mut accuracies, mut pairs) = (Vec::new(), Vec::new());
    for key in keys(orchestrator, workflow).await? {
        let known = ask(orchestrator, key, move |known| of_question(known, user));
        if let Some((known, suspicious)) = known.await? {
            accuracies.extend(known);
            pairs.extend(suspicious);
        }
    }
    tell_when(store, accuracies.iter_mut()).await?;
    list.accuracies = Some(accuracies);
    list.suspicious_pairs = Some(pairs);
    Ok(list)
}

/// What a model knows of all annotators, or of one.
fn of_question(
    known: &AnnotatorModel,
    user: Option<UserId>,
) -> (Vec<QuestionAccuracy>, Vec<SuspiciousPair>) {
    let model = known.model();
    let people: BTreeSet<UserId> = match user {
        Some(user) => BTreeSet::from([user]),
        None => model.annotators().filter_map(person).collect(),
    };
    let survey = model.survey();
    let accuracies = people
        .into_iter()
        .filter_map(|user| QuestionAccuracy::of(known, &survey, user));
    let pairs = model.suspicious_pairs();
    let pairs = pairs.iter().filter_map(|pair| {
        let user_ids = [person(&pair.first)?, person(&pair.second)?];
        let is_asked = user.is_none_or(|user| user_ids.contains(&user));
        is_asked.then(|| SuspiciousPair {
            workflow: known.key().workflow.clone(),
            step_id: known.key().step.clone(),
            field: known.key().field.clone(),
            user_ids,
            evidence: PairEvidence::of(pair),
        })
    });
    (accuracies.collect(), pairs.collect())
}

/// The person of that name in a model; not everything that is known by name there is one.
fn person(name: &str) -> Option<UserId> {
    name.parse().ok().map(UserId)
}

/// Asks a copy of a model, beside the threads that serve everybody: an answer about many people
/// takes up to a second or so.
async fn ask<T: Send + 'static>(
    orchestrator: &WorkflowOrchestrator,
    key: ModelKey,
    question: impl FnOnce(&AnnotatorModel) -> T + Send + 'static,
) -> Result<Option<T>, OrchestrationError> {
    let known = orchestrator.known_annotators([key.clone()]).await?;
    let copy = known.look(|models| models.model(&key).cloned());
    drop(known);
    let Some(copy) = copy else { return Ok(None) };
    let asked = tokio::task::spawn_blocking(move || question(&copy)).await;
    let asked = asked.map_err(|error| EventStoreError::Unavailable(Box::new(error)))?;
    Ok(Some(asked))
}

/// Fills in when changes began, from the tasks.
async fn tell_when(
    store: &dyn Store,
    accuracies: impl Iterator<Item = &mut QuestionAccuracy>,
) -> Result<(), OrchestrationError> {
    let mut changed: Vec<&mut QuestionAccuracy> =
        accuracies.filter(|one| one.change.is_some()).collect();
    for some in changed.chunks_mut(TASKS_AT_ONCE) {
        let tasks: BTreeSet<TaskId> = some
            .iter()
            .filter_map(|one| one.change.map(|change| change.task_id))
            .collect();
        let tasks: Vec<TaskId> = tasks.into_iter().collect();
        let states = EventStore::load(store, &tasks).await?;
        for one in some {
            let (step, user) = (&one.step_id, one.user_id);
            if let Some(change) = &mut one.change {
                let state = states.get(&change.task_id);
                change.since = state.and_then(|state| labelled_at(state, step, change.visit, user));
            }
        }
    }
    Ok(())
}

fn labelled_at(
    state: &WorkflowSnapshot,
    step: &StepId,
    visit: u32,
    user: UserId,
) -> Option<DateTime<Utc>> {
    let visit = state.visit(step, visit)?;
    let label = visit.annotations.iter().find(|one| one.user_id == user);
    let submitted = label.and_then(|label| label.submitted_at);
    Some(submitted.unwrap_or(visit.activated_at))
}

/// The questions of the newest revisions: of one workflow all whose answers are categories, of all
/// workflows only those whose models decisions use. A model that no decision uses reads the whole
/// log once, which is not done for every workflow at once.
async fn keys(
    orchestrator: &WorkflowOrchestrator,
    workflow: Option<&WorkflowId>,
) -> Result<BTreeSet<ModelKey>, OrchestrationError> {
    let mut keys = BTreeSet::new();
    if let Some(workflow) = workflow {
        if let Some(config) = newest_revision(orchestrator, workflow).await? {
            let steps = config.steps.iter();
            keys.extend(steps.flat_map(|step| ModelKey::of_report(&config, step)));
        }
        return Ok(keys);
    }
    let mut newest = None;
    for row in orchestrator.config_store.revisions(None).await? {
        if newest.as_ref() != Some(&row.workflow) {
            let config = orchestrator.workflow(row.id.0).await?;
            let offers = config.steps.iter();
            keys.extend(ModelKey::all_of(&config));
            keys.extend(offers.flat_map(|step| ModelKey::of_offers(&config.id, step)));
            newest = Some(row.workflow);
        }
    }
    Ok(keys)
}
