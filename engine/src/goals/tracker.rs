//! Folds the progress of goals from the log, the revisions of workflows and people's statements.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    AlertState, CompletionAction, GoalAlert, GoalCompletion, GoalDefinition, GoalProgress, Goals,
    Recent, definition::target_count, quality::Measurement,
};
use crate::{
    config::{GoalConfig, GoalOperator, GoalType, QualityMetric, VolumeUnit},
    events::WorkflowEvent,
    ids::{Slug, StepId, WorkflowId},
    quality::{ComparedVisit, History, millionths},
    state::{ResultKind, StepResult},
    store::{KEPT_EVENTS, LogEntry, ProjectionRows},
};

/// A late alert is cleared once the remaining work needs no more than this share of the time left.
/// So a rate that hovers around the deadline raises the alert only once.
const RECOVERED_SHARE: f64 = 0.9;

/// Folds events into the progress of goals.
///
/// It starts from the stored rows, applies events, and returns the changed rows and the effects to
/// run. If the rows and the position in the log are stored in one transaction, every event counts
/// exactly once.
///
/// Effects of time occur at instants that follow from earlier events: a deadline passes at the
/// deadline; a target has been met for an hour one hour after it was first met.
/// [`advance`](Self::advance) finds these instants. So it does not matter how often it is called:
/// folding live and rebuilding give the same result.
#[derive(Clone, Debug)]
pub struct GoalTracker {
    /// The instant up to which everything is folded.
    clock: DateTime<Utc>,
    /// Whether an event has moved it. Those that follow in the log may have occurred before, and
    /// count at the same instant wherever a page of the log ends.
    is_moved: bool,
    goals: Goals,
    volumes: BTreeMap<WorkflowId, Volume>,
    /// Workflows with a goal that counts each person's annotations once.
    deduped: BTreeSet<WorkflowId>,
    /// Definitions not yet in force, the next one last.
    definitions: Vec<GoalDefinition>,
    /// Statements of people not yet applied, the next one last.
    completions: Vec<GoalCompletion>,
    /// The rows as stored.
    stored: ProjectionRows,
    effects: Vec<GoalEffect>,
}

/// An effect to run once.
#[derive(Clone, Debug, PartialEq)]
pub enum GoalEffect {
    /// A goal was reached.
    Completed(CompletionAction),
    /// An alert was raised.
    Alert(GoalAlert),
}

/// The result of a tracker.
#[derive(Clone, Debug, Default)]
pub struct GoalFold {
    /// Rows that changed, by key.
    pub rows: ProjectionRows,
    /// Effects to run, in order.
    pub effects: Vec<GoalEffect>,
    /// The goals as they are now.
    pub goals: Goals,
}

/// The output of a workflow, independent of its goals: a new goal includes what was counted before
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Volume {
    /// Tasks completed.
    #[serde(default)]
    tasks: u64,
    /// Annotations accepted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<StepId, u64>,
    /// Annotations accepted from people who had not yet submitted to that step of that task; `None`
    /// if no goal needs it, because counting it costs a read of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    distinct: Option<BTreeMap<StepId, u64>>,
    /// Visits of steps completed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    visits: BTreeMap<StepId, u64>,
}

impl Volume {
    /// What counts towards a goal, by step and in total.
    fn towards(&self, config: &GoalConfig) -> (u64, BTreeMap<StepId, u64>) {
        let mut steps = match (config.unit.unwrap_or_default(), config.dedupe) {
            (VolumeUnit::Tasks, _) => return (self.tasks, self.visits.clone()),
            (VolumeUnit::Annotations, false) => self.annotations.clone(),
            (VolumeUnit::Annotations, true) => self.distinct.clone().unwrap_or_default(),
        };
        if let Some(step) = &config.step {
            steps.retain(|id, _| id == step);
        }
        (steps.values().sum(), steps)
    }
}

/// Effects of time, in the order in which they occur at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The target has been met for long enough.
    Sustained,
    /// A measurement leaves the window.
    Leaves,
    /// At the current rate the deadline will be missed.
    Late,
    /// The deadline has passed.
    Missed,
}

const CLOCK: &str = "clock";
const GOALS: &str = "goal/";
const VOLUMES: &str = "volume/";

/// The goals among the rows of the projection.
///
/// # Errors
///
/// A row was not written by this or an earlier build.
pub fn goals_of(rows: &ProjectionRows) -> Result<Goals, serde_json::Error> {
    let goals = rows.iter().filter(|(key, _)| key.starts_with(GOALS));
    goals
        .map(|(_, row)| {
            let goal = GoalProgress::deserialize(row)?;
            Ok(((goal.workflow.clone(), goal.goal().clone()), goal))
        })
        .collect()
}

fn keyed<K: Ord, V: DeserializeOwned>(
    rows: &ProjectionRows,
    prefix: &str,
    key: impl Fn(&str) -> Option<K>,
) -> Result<BTreeMap<K, V>, serde_json::Error> {
    rows.iter()
        .filter_map(|(name, row)| Some((key(name.strip_prefix(prefix)?)?, row)))
        .map(|(key, row)| Ok((key, V::deserialize(row)?)))
        .collect()
}

impl GoalTracker {
    /// Resumes from the stored rows, with the goals of all revisions and all statements of people.
    /// Definitions already in force and statements already applied have no effect.
    ///
    /// # Errors
    ///
    /// A row was not written by this or an earlier build.
    pub fn resume(
        stored: ProjectionRows,
        mut definitions: Vec<GoalDefinition>,
        mut completions: Vec<GoalCompletion>,
    ) -> Result<Self, serde_json::Error> {
        let goals = goals_of(&stored)?;
        let deduped = definitions.iter().filter(|d| d.config.dedupe);
        let deduped = deduped.map(|d| d.workflow.clone()).collect();
        definitions.retain(|definition| {
            let key = (definition.workflow.clone(), definition.config.id.clone());
            goals
                .get(&key)
                .is_none_or(|goal| goal.revision < definition.revision)
        });
        definitions.sort_by_key(|d| Reverse((d.since, d.workflow.clone(), d.revision)));
        completions.sort_by_key(|c| Reverse((c.at, c.command_id)));
        let clock = stored.get(CLOCK).map(DateTime::<Utc>::deserialize);
        Ok(Self {
            clock: clock.transpose()?.unwrap_or(DateTime::UNIX_EPOCH),
            is_moved: false,
            volumes: keyed(&stored, VOLUMES, |key| WorkflowId::new(key).ok())?,
            deduped,
            goals,
            definitions,
            completions,
            stored,
            effects: Vec::new(),
        })
    }

    /// Whether a goal needs data that was not recorded when the log was read. If so, the projection
    /// must be rebuilt from the beginning of the log.
    pub fn must_begin_anew(&self) -> bool {
        let lacks_distinct = self.deduped.iter().any(|workflow| {
            let volume = self.volumes.get(workflow);
            volume.is_some_and(|volume| volume.distinct.is_none())
        });
        // Rows of earlier builds hold the mean of each task, of which no interval can be made.
        let lacks_answers = self
            .goals
            .values()
            .any(|goal| goal.config.kind == GoalType::Quality && goal.quality.is_none());
        let lacks_history = self.goals.values().any(|goal| goal.history.is_none());
        lacks_distinct || lacks_answers || lacks_history
    }

    /// Whether the next event is an annotation for which [`apply`](Self::apply) needs to know
    /// whether it is its annotator's first.
    pub fn asks_for_first(&self, entry: &LogEntry) -> bool {
        let event = &entry.event;
        !event.metadata.gold
            && matches!(event.event, WorkflowEvent::AnnotationSubmitted { .. })
            && self.deduped.contains(&entry.workflow)
    }

    /// Folds the next event of the log. For an accepted annotation, `is_first` states whether its
    /// annotator had not yet submitted to that step of that task; for other events it is ignored.
    ///
    /// Events that go when their task is archived do not move the clock either: of events that
    /// overlap in time, the later ones would be counted at another instant without them.
    pub fn apply(&mut self, entry: &LogEntry, is_first: bool) {
        let event = &entry.event;
        if !KEPT_EVENTS.contains(&event.event.event_type()) {
            return;
        }
        self.is_moved |= event.occurred_at > self.clock;
        self.advance(event.occurred_at);
        // A gold task measures its annotators; it does not count as output.
        if let WorkflowEvent::GoldScored {
            step_id, correct, ..
        } = &event.event
        {
            let (metric, hit) = (QualityMetric::GoldAccuracy, Measurement::Hit(*correct));
            self.measure(&entry.workflow, step_id, metric, hit);
        } else if !event.metadata.gold {
            self.apply_output(entry, is_first);
        }
        self.settle();
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "goals count and measure these events alone"
    )]
    fn apply_output(&mut self, entry: &LogEntry, is_first: bool) {
        let workflow = &entry.workflow;
        match &entry.event.event {
            WorkflowEvent::AnnotationSubmitted { step_id, .. } => {
                let volume = self.volume(workflow);
                *volume.annotations.entry(step_id.clone()).or_default() += 1;
                if let Some(distinct) = volume.distinct.as_mut().filter(|_| is_first) {
                    *distinct.entry(step_id.clone()).or_default() += 1;
                }
                self.recount(workflow);
            }
            WorkflowEvent::StepCompleted {
                step_id, result, ..
            } => {
                *self
                    .volume(workflow)
                    .visits
                    .entry(step_id.clone())
                    .or_default() += 1;
                self.recount(workflow);
                if let Some(approved) = approved(result) {
                    let hit = Measurement::Hit(approved);
                    self.measure(workflow, step_id, QualityMetric::ApprovalRate, hit);
                }
            }
            WorkflowEvent::ConsensusCalculated(_) => {
                if let Some(visit) = ComparedVisit::of(&entry.event) {
                    let compared = Measurement::Compared(&visit);
                    self.measure(workflow, visit.step_id, QualityMetric::Agreement, compared);
                }
            }
            WorkflowEvent::WorkflowCompleted { .. } => {
                self.volume(workflow).tasks += 1;
                self.recount(workflow);
                let took = entry.event.occurred_at - entry.started_at;
                self.time(workflow, took.as_seconds_f64());
            }
            _ => {}
        }
    }

    /// Advances to an instant: applies the definitions and statements up to it, and finds the
    /// effects of time. Has no effect for an instant in the past.
    pub fn advance(&mut self, to: DateTime<Utc>) {
        let to = to.max(self.clock);
        loop {
            let definition = self.definitions.last().map(|d| d.since);
            let completion = self.completions.last().map(|c| c.at);
            let next = definition.into_iter().chain(completion).min();
            let Some(next) = next.filter(|next| *next <= to) else {
                break;
            };
            self.pass(next);
            if definition == Some(next) {
                while let Some(definition) = self.definitions.pop_if(|d| d.since == next) {
                    self.define(definition);
                }
            } else if let Some(completion) = self.completions.pop() {
                self.hear(completion);
            }
            self.settle();
        }
        self.pass(to);
    }

    /// The changed rows and the effects to run.
    ///
    /// # Errors
    ///
    /// Plain data always serializes.
    pub fn finish(self) -> Result<GoalFold, serde_json::Error> {
        let mut rows = ProjectionRows::new();
        for ((workflow, goal), progress) in &self.goals {
            let key = format!("{GOALS}{workflow}/{goal}");
            rows.insert(key, serde_json::to_value(progress)?);
        }
        for (workflow, volume) in &self.volumes {
            rows.insert(
                format!("{VOLUMES}{workflow}"),
                serde_json::to_value(volume)?,
            );
        }
        rows.retain(|key, row| self.stored.get(key) != Some(row));
        if self.is_moved || !rows.is_empty() {
            rows.insert(CLOCK.to_owned(), json!(self.clock));
        }
        Ok(GoalFold {
            rows,
            effects: self.effects,
            goals: self.goals,
        })
    }

    fn volume(&mut self, workflow: &WorkflowId) -> &mut Volume {
        let is_deduped = self.deduped.contains(workflow);
        let volume = self.volumes.entry(workflow.clone());
        volume.or_insert_with(|| Volume {
            distinct: is_deduped.then(BTreeMap::new),
            ..Volume::default()
        })
    }

    fn of_workflow<'a>(
        goals: &'a mut Goals,
        workflow: &WorkflowId,
    ) -> impl Iterator<Item = &'a mut GoalProgress> {
        goals
            .values_mut()
            .filter(move |goal| goal.workflow == *workflow)
    }

    /// Updates the counts of a workflow's goals to its output.
    fn recount(&mut self, workflow: &WorkflowId) {
        let Some(volume) = self.volumes.get(workflow) else {
            return;
        };
        let counting = Self::of_workflow(&mut self.goals, workflow).filter(|g| g.config.counts());
        for goal in counting {
            let (count, steps) = volume.towards(&goal.config);
            let new = count.saturating_sub(goal.count);
            if new > 0 {
                goal.recent.get_or_insert_default().add(self.clock, new);
            }
            (goal.count, goal.steps) = (count, steps);
            if new > 0 {
                goal.note(self.clock);
            }
        }
    }

    /// Adds a measurement to the goals that use it.
    fn measure(
        &mut self,
        workflow: &WorkflowId,
        step: &StepId,
        metric: QualityMetric,
        measurement: Measurement<'_>,
    ) {
        let measuring = Self::of_workflow(&mut self.goals, workflow).filter(|goal| {
            goal.config.metric == Some(metric)
                && goal.config.step.as_ref().is_none_or(|id| id == step)
        });
        for goal in measuring {
            if let Some(window) = &mut goal.quality {
                window.add(&goal.config, self.clock, measurement);
            }
            goal.note(self.clock);
        }
    }

    /// Adds the duration of a task.
    fn time(&mut self, workflow: &WorkflowId, seconds: f64) {
        let timing = Self::of_workflow(&mut self.goals, workflow)
            .filter(|goal| goal.config.kind == GoalType::Duration);
        for goal in timing {
            if let Some(window) = &mut goal.window {
                window.add(&goal.config, self.clock, millionths(seconds));
            }
            goal.note(self.clock);
        }
    }

    /// Puts a definition in force.
    fn define(&mut self, definition: GoalDefinition) {
        let GoalDefinition {
            workflow,
            revision,
            since,
            config,
        } = definition;
        let key = (workflow.clone(), config.id.clone());
        let fresh = || {
            GoalProgress::new(GoalDefinition {
                workflow: workflow.clone(),
                revision,
                since,
                config: config.clone(),
            })
        };
        let mut goal = match self.goals.remove(&key) {
            None => fresh(),
            Some(known) if known.revision >= revision => known,
            Some(known) => {
                let same_target = known.config.has_target_of(&config);
                let same_measure = known.config.measures_like(&config);
                let base = if same_target { known.clone() } else { fresh() };
                let (epoch, measured) = (known.epoch, known);
                GoalProgress {
                    epoch: epoch + u32::from(!same_target),
                    recent: if same_measure {
                        measured.recent
                    } else {
                        base.recent
                    },
                    window: if same_measure {
                        measured.window
                    } else {
                        base.window
                    },
                    quality: if same_measure {
                        measured.quality
                    } else {
                        base.quality
                    },
                    history: base
                        .history
                        .filter(|_| same_measure)
                        .or_else(|| Some(History::default())),
                    revision,
                    config: config.clone(),
                    ..base
                }
            }
        };
        // What was counted before belongs to no rate.
        if let Some(volume) = self.volumes.get(&workflow).filter(|_| config.counts()) {
            (goal.count, goal.steps) = volume.towards(&config);
        }
        goal.evaluate(self.clock);
        goal.note(self.clock);
        self.goals.insert(key, goal);
    }

    /// Applies a person's statement; has no effect if the goal is reached or is not completed by
    /// hand.
    fn hear(&mut self, completion: GoalCompletion) {
        let key = (completion.workflow.clone(), completion.goal.clone());
        let Some(goal) = self.goals.get_mut(&key) else {
            return;
        };
        // A statement about an earlier target does not apply to this one.
        let is_current = completion.at >= goal.since;
        if goal.completed_at.is_none() && is_current && goal.config.is_by_hand() {
            let at = completion.at;
            goal.completed_by = Some(completion);
            complete(goal, at, &mut self.effects);
        }
    }

    /// Advances to `to` through all effects of time, in order.
    fn pass(&mut self, to: DateTime<Utc>) {
        if to <= self.clock {
            return;
        }
        while let Some((at, due, key)) = self.next_due(to) {
            self.clock = self.clock.max(at);
            self.bring_about(due, &key, at);
            self.settle();
        }
        self.clock = to;
    }

    /// The next effect of time, up to `to`.
    fn next_due(&self, to: DateTime<Utc>) -> Option<(DateTime<Utc>, Due, Key)> {
        let found = self.goals.iter().flat_map(|(key, goal)| {
            let config = &goal.config;
            let is_open = goal.completed_at.is_none() && goal.missed_at.is_none();
            let sustained = goal.sustained_at().filter(|_| is_open);
            let leaves = goal.leaves_at();
            // Something that happens exactly at the deadline is still in time.
            let missed = config.deadline.filter(|at| is_open && *at < to);
            let late = self.late_at(goal, to).filter(|_| is_open);
            let due = [
                (sustained, Due::Sustained),
                (leaves, Due::Leaves),
                (late, Due::Late),
                (missed, Due::Missed),
            ];
            due.into_iter()
                .filter_map(move |(at, due)| Some((at?, due, key)))
        });
        let next = found.filter(|(at, ..)| *at <= to).min();
        next.map(|(at, due, key)| (at, due, key.clone()))
    }

    /// The first instant after the clock and up to `to` at which the goal is forecast to be late.
    /// Without events a forecast only moves away, so bisection finds that instant.
    fn late_at(&self, goal: &GoalProgress, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let deadline = goal.config.deadline?;
        let is_asked = goal.config.alerts.as_ref().is_some_and(|a| a.late);
        let is_raised = goal.alerts.get("late").is_some_and(|alert| alert.active);
        if !is_asked || is_raised {
            return None;
        }
        let first = Recent::next_look(self.clock);
        let last = Recent::last_look(to.min(deadline));
        let is_late = |at| goal.forecast(&self.goals, at).is_later_than(deadline);
        if first > last || !is_late(last) {
            return None;
        }
        let looks = Recent::looks_between(first, last);
        let (mut low, mut high) = (0, looks);
        while low < high {
            let middle = low + (high - low) / 2;
            if is_late(Recent::look(first, middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(Recent::look(first, low))
    }

    fn bring_about(&mut self, due: Due, key: &Key, at: DateTime<Utc>) {
        let Some(goal) = self.goals.get_mut(key) else {
            return;
        };
        match due {
            Due::Sustained => complete(goal, at, &mut self.effects),
            Due::Leaves => goal.leave(at),
            Due::Late => raise(goal, "late", at, &mut self.effects),
            Due::Missed => {
                goal.missed_at = Some(at.max(goal.since));
                raise(goal, "missed", at, &mut self.effects);
            }
        }
    }

    /// Applies the consequences of changes at the current instant: goals reached, goals that wait
    /// for these, alerts.
    fn settle(&mut self) {
        let now = self.clock;
        for goal in self.goals.values_mut() {
            let is_open = goal.completed_at.is_none() && goal.missed_at.is_none();
            let is_counted = goal.config.counts() && goal.count >= target_count(&goal.config);
            let is_held = goal.sustained_at().is_some_and(|at| at <= now);
            if is_open && (is_counted || is_held) {
                complete(goal, now, &mut self.effects);
            }
        }
        // Goals wait for each other without cycles, so this ends: each round settles the goals that
        // wait for those of the previous round.
        while self.settle_waiting() {}
        self.settle_alerts();
    }

    /// Updates goals that wait for others; returns whether anything changed.
    fn settle_waiting(&mut self) -> bool {
        let mut changed = false;
        let waiting: Vec<Key> = self
            .goals
            .iter()
            .filter(|(_, goal)| !goal.config.goals.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in waiting {
            let Some(goal) = self.goals.get(&key) else {
                continue;
            };
            let parts: Vec<&GoalProgress> = goal
                .config
                .goals
                .iter()
                .filter_map(|id| self.goals.get(&(key.0.clone(), id.clone())))
                .collect();
            let shares: BTreeMap<_, _> = parts
                .iter()
                .map(|part| (part.goal().clone(), part.ratio()))
                .collect();
            let is_or = goal.config.operator == Some(GoalOperator::Or);
            let all = parts.len() == goal.config.goals.len();
            let done = |part: &&GoalProgress| part.completed_at.is_some();
            let lost =
                |part: &&GoalProgress| part.completed_at.is_none() && part.missed_at.is_some();
            let is_reached = if is_or {
                parts.iter().any(done)
            } else {
                all && parts.iter().all(done)
            };
            let is_lost = if is_or {
                all && parts.iter().all(lost)
            } else {
                parts.iter().any(lost)
            };
            let Some(goal) = self.goals.get_mut(&key) else {
                continue;
            };
            if goal.parts != shares {
                goal.parts = shares;
                goal.note(self.clock);
                changed = true;
            }
            let is_deadline = goal.config.kind == GoalType::Deadline;
            let is_open = goal.completed_at.is_none() && !(is_deadline && goal.missed_at.is_some());
            if is_open && is_reached {
                goal.missed_at = None;
                complete(goal, self.clock, &mut self.effects);
                changed = true;
            } else if !is_deadline && goal.completed_at.is_none() {
                // A part with a new target can still be reached again.
                let missed_at = is_lost.then(|| goal.missed_at.unwrap_or(self.clock));
                changed |= goal.missed_at != missed_at;
                goal.missed_at = missed_at;
            }
        }
        changed
    }

    fn settle_alerts(&mut self) {
        let now = self.clock;
        let recovered: BTreeSet<Key> = self.recovered_from_late();
        for (key, goal) in &mut self.goals {
            let Some(alerts) = goal.config.alerts.clone() else {
                continue;
            };
            let ratio = goal.ratio();
            for share in alerts.progress {
                let name = format!("progress/{share}");
                if ratio >= share && !goal.alerts.contains_key(&name) {
                    raise(goal, &name, now, &mut self.effects);
                }
            }
            if recovered.contains(key) {
                lower(goal, "late");
            }
            if goal.samples().is_none() {
                continue;
            }
            let name = if alerts.below.is_some() {
                "below"
            } else {
                "above"
            };
            let is_active = goal.alerts.get(name).is_some_and(|alert| alert.active);
            if !is_active && goal.alarms() == Some(true) {
                raise(goal, name, now, &mut self.effects);
            } else if is_active && goal.is_at_target() == Some(true) {
                lower(goal, name);
            }
        }
    }

    /// Goals that were late and are now well within reach, or reached.
    fn recovered_from_late(&self) -> BTreeSet<Key> {
        let is_late = |goal: &GoalProgress| goal.alerts.get("late").is_some_and(|a| a.active);
        let late = self.goals.iter().filter(|(_, goal)| is_late(goal));
        late.filter(|(_, goal)| {
            let (Some(deadline), Some(eta)) = (
                goal.config.deadline,
                goal.forecast(&self.goals, self.clock).eta,
            ) else {
                return false;
            };
            let seconds = |to: DateTime<Utc>| (to - self.clock).as_seconds_f64();
            goal.completed_at.is_some() || seconds(eta) <= RECOVERED_SHARE * seconds(deadline)
        })
        .map(|(key, _)| key.clone())
        .collect()
    }
}

type Key = (WorkflowId, Slug);

fn complete(goal: &mut GoalProgress, at: DateTime<Utc>, effects: &mut Vec<GoalEffect>) {
    goal.completed_at = Some(at.max(goal.since));
    let actions = goal.config.on_complete.iter().cloned();
    effects.extend(actions.map(|action| {
        GoalEffect::Completed(CompletionAction {
            action,
            progress: goal.clone(),
        })
    }));
}

fn raise(goal: &mut GoalProgress, name: &str, at: DateTime<Utc>, effects: &mut Vec<GoalEffect>) {
    let times = goal.alerts.get(name).map_or(0, |alert| alert.times) + 1;
    let state = AlertState {
        times,
        raised_at: at,
        active: true,
    };
    goal.alerts.insert(name.to_owned(), state);
    effects.push(GoalEffect::Alert(GoalAlert {
        name: name.to_owned(),
        n: times,
        at,
        progress: goal.clone(),
    }));
}

fn lower(goal: &mut GoalProgress, name: &str) {
    if let Some(alert) = goal.alerts.get_mut(name) {
        alert.active = false;
    }
}

/// Whether a review approved the value unchanged; none if it was no review.
fn approved(result: &StepResult) -> Option<bool> {
    let decision = result.decision.as_deref()?;
    (result.kind == ResultKind::Review).then(|| decision == "approve")
}
