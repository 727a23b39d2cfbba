//! Progress of goals, folded from the log.

use chrono::{DateTime, Utc};

use super::{CompletionAction, GoalDefinition, VolumeUnit};
use crate::{events::StoredEvent, ids::WorkflowId, store::GoalProgressRow};

/// Counts towards goals.
///
/// It begins with the progress stored so far, counts events, and ends with the rows that changed
/// and with what is to happen because of it. Who stores rows, actions and the place in the log in
/// one transaction counts every event exactly once.
#[derive(Clone, Debug, Default)]
pub struct GoalTracker {
    tracked: Vec<Tracked>,
    actions: Vec<CompletionAction>,
}

#[derive(Clone, Debug)]
struct Tracked {
    definition: GoalDefinition,
    /// None until the goal has been opened: its count would lack what happened before.
    progress: Option<GoalProgressRow>,
    changed: bool,
}

/// What a tracker found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GoalProgress {
    /// Rows that changed.
    pub changed: Vec<GoalProgressRow>,
    /// What is to happen, once for each epoch.
    pub actions: Vec<CompletionAction>,
}

impl GoalTracker {
    /// Begins with the stored `progress` of the goals; rows of goals that are not defined stay as
    /// they are. In a new epoch the count goes on, and the goal can be met again: at once, where its
    /// new target has already been reached.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the tracker takes the rows over"
    )]
    pub fn new(definitions: Vec<GoalDefinition>, progress: Vec<GoalProgressRow>) -> Self {
        let with_progress = definitions.into_iter().map(|definition| {
            let of_goal = |p: &&GoalProgressRow| {
                p.workflow == definition.workflow && p.goal == definition.goal
            };
            let progress = progress.iter().find(of_goal).cloned();
            Tracked {
                definition,
                progress,
                changed: false,
            }
        });
        let mut tracker = Self {
            tracked: with_progress.collect(),
            actions: Vec::new(),
        };
        for tracked in &mut tracker.tracked {
            tracked.follow_definition();
            tracker
                .actions
                .extend(tracked.settle(tracked.definition.since));
        }
        tracker
    }

    /// The goals that have no progress yet. Their count must begin with the log.
    pub fn missing(&self) -> impl Iterator<Item = &GoalDefinition> {
        self.tracked
            .iter()
            .filter(|t| t.progress.is_none())
            .map(|t| &t.definition)
    }

    /// Opens the missing goals at 0; right only before the first event of the log.
    pub fn open_missing(&mut self) {
        for tracked in self.tracked.iter_mut().filter(|t| t.progress.is_none()) {
            let GoalDefinition {
                workflow,
                goal,
                target,
                epoch,
                ..
            } = &tracked.definition;
            tracked.progress = Some(GoalProgressRow {
                workflow: workflow.clone(),
                goal: goal.clone(),
                epoch: *epoch,
                target: *target,
                current: 0.0,
                completed_at: None,
            });
            tracked.changed = true;
        }
    }

    /// Counts an event of a task of `workflow`. What happens to gold tasks is no output.
    pub fn apply(&mut self, workflow: &WorkflowId, event: &StoredEvent) {
        if event.metadata.gold {
            return;
        }
        if let Some(unit) = VolumeUnit::counted_by(&event.event) {
            self.count(workflow, unit, event.occurred_at);
        }
    }

    /// Counts one `unit` of `workflow`, at the time of the event it comes from: a rebuild then
    /// finds the goal met at the same instant.
    pub fn count(&mut self, workflow: &WorkflowId, unit: VolumeUnit, at: DateTime<Utc>) {
        let counting =
            |t: &&mut Tracked| t.definition.unit == unit && t.definition.workflow == *workflow;
        for tracked in self.tracked.iter_mut().filter(counting) {
            if let Some(progress) = &mut tracked.progress {
                progress.current += 1.0;
                tracked.changed = true;
            }
            self.actions.extend(tracked.settle(at));
        }
    }

    /// What changed.
    pub fn finish(self) -> GoalProgress {
        let changed = self.tracked.into_iter().filter(|t| t.changed);
        GoalProgress {
            changed: changed.filter_map(|t| t.progress).collect(),
            actions: self.actions,
        }
    }
}

impl Tracked {
    /// Goes over to the epoch of the definition.
    fn follow_definition(&mut self) {
        let GoalDefinition { epoch, target, .. } = self.definition;
        if let Some(progress) = self.progress.as_mut().filter(|p| p.epoch != epoch) {
            progress.epoch = epoch;
            progress.target = target;
            progress.completed_at = None;
            self.changed = true;
        }
    }

    /// Marks the goal as met if it has just been reached, and says what follows.
    fn settle(&mut self, at: DateTime<Utc>) -> Vec<CompletionAction> {
        let Some(progress) = &mut self.progress else {
            return Vec::new();
        };
        if progress.completed_at.is_some() || progress.current < progress.target {
            return Vec::new();
        }
        progress.completed_at = Some(at.max(self.definition.since));
        self.changed = true;
        let actions = self.definition.on_complete.iter();
        actions
            .map(|&action| CompletionAction {
                action,
                progress: progress.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::CompletionActionConfig,
        goals::{GoalEvaluator, GoalVerdict},
        ids::Slug,
    };

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    fn slug(text: &str) -> Slug {
        Slug::new(text).unwrap()
    }

    fn goal(target: f64, unit: VolumeUnit) -> GoalDefinition {
        GoalDefinition {
            workflow: slug("w"),
            goal: slug("volume"),
            unit,
            target,
            epoch: 1,
            since: at(0),
            deadline: None,
            on_complete: vec![CompletionActionConfig::Notify],
        }
    }

    /// Opens the goal and counts `n` completed tasks, one a second.
    fn counted(definition: &GoalDefinition, n: i64) -> GoalProgress {
        let mut tracker = GoalTracker::new(vec![definition.clone()], Vec::new());
        tracker.open_missing();
        for second in 1..=n {
            tracker.count(&slug("w"), VolumeUnit::Tasks, at(second));
        }
        tracker.finish()
    }

    #[test]
    fn a_goal_is_met_once_at_the_event_that_reaches_it() {
        let progress = counted(&goal(3.0, VolumeUnit::Tasks), 5);
        assert_eq!(progress.actions.len(), 1);
        assert_eq!(progress.changed[0].completed_at, Some(at(3)));
        assert!((progress.changed[0].current - 5.0).abs() < f64::EPSILON);
        assert!(
            (progress.changed[0].ratio() - 1.0).abs() < f64::EPSILON,
            "the ratio is capped"
        );

        let mut again = GoalTracker::new(vec![goal(3.0, VolumeUnit::Tasks)], progress.changed);
        again.count(&slug("w"), VolumeUnit::Tasks, at(6));
        assert!(again.finish().actions.is_empty());
    }

    #[test]
    fn other_workflows_and_units_do_not_count() {
        let mut tracker = GoalTracker::new(vec![goal(3.0, VolumeUnit::Annotations)], Vec::new());
        tracker.open_missing();
        tracker.count(&slug("w"), VolumeUnit::Tasks, at(1));
        tracker.count(&slug("other"), VolumeUnit::Annotations, at(1));
        tracker.count(&slug("w"), VolumeUnit::Annotations, at(1));
        assert!((tracker.finish().changed[0].current - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn gold_tasks_are_no_output() {
        let event = |gold: bool| -> StoredEvent {
            serde_json::from_value(serde_json::json!({
                "event_id": uuid::Uuid::nil(),
                "stream_id": uuid::Uuid::nil(),
                "version": 9,
                "occurred_at": at(1),
                "metadata": {
                    "command_id": uuid::Uuid::nil(), "correlation_id": "c", "schema_version": 1,
                    "gold": gold,
                },
                "event_type": "workflow_completed",
                "event_data": {"output": null},
            }))
            .unwrap()
        };
        let mut tracker = GoalTracker::new(vec![goal(3.0, VolumeUnit::Tasks)], Vec::new());
        tracker.open_missing();
        for gold in [true, false, true] {
            tracker.apply(&slug("w"), &event(gold));
        }
        assert!((tracker.finish().changed[0].current - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_changed_target_opens_an_epoch_with_actions_of_its_own() {
        let first = counted(&goal(3.0, VolumeUnit::Tasks), 4);
        let goal = |target, epoch| GoalDefinition {
            epoch,
            since: at(9),
            ..goal(target, VolumeUnit::Tasks)
        };
        let raised = GoalTracker::new(vec![goal(5.0, 2)], first.changed.clone()).finish();
        assert_eq!(raised.changed[0].epoch, 2);
        assert_eq!(raised.changed[0].completed_at, None);
        assert!(raised.actions.is_empty());

        let lowered = GoalTracker::new(vec![goal(4.0, 3)], raised.changed).finish();
        assert_eq!(lowered.changed[0].epoch, 3);
        assert_eq!(
            lowered.changed[0].completed_at,
            Some(at(9)),
            "not before the target was set"
        );
        assert_ne!(lowered.actions[0].id(), first.actions[0].id());

        let recounted = counted(&goal(4.0, 3), 4);
        assert_eq!(recounted.changed, lowered.changed);
    }

    #[test]
    fn a_goal_that_is_not_open_counts_nothing_and_says_so() {
        let mut tracker = GoalTracker::new(vec![goal(1.0, VolumeUnit::Tasks)], Vec::new());
        assert_eq!(tracker.missing().count(), 1);
        tracker.count(&slug("w"), VolumeUnit::Tasks, at(1));
        assert_eq!(tracker.finish(), GoalProgress::default());
    }

    #[test]
    fn verdicts_depend_on_the_instant_of_reaching_not_of_asking() {
        let mut definition = goal(3.0, VolumeUnit::Tasks);
        definition.deadline = Some(at(3));
        let reached = counted(&definition, 3).changed.remove(0);
        let short = counted(&definition, 2).changed.remove(0);
        let late = GoalEvaluator::new(at(100));
        assert_eq!(late.judge(&definition, &reached), GoalVerdict::Met);
        assert_eq!(late.judge(&definition, &short), GoalVerdict::Missed);
        assert_eq!(
            GoalEvaluator::new(at(2)).judge(&definition, &short),
            GoalVerdict::Pending
        );
    }
}
