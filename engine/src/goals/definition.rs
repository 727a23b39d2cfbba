//! A goal that can be tracked: checked, with its workflow.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{
    config::{CompletionActionConfig, GoalConfig, GoalType},
    events::WorkflowEvent,
    ids::{Slug, WorkflowId},
};

/// A volume goal of a workflow; it spans the workflow's revisions.
#[derive(Clone, Debug, PartialEq)]
pub struct GoalDefinition {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The goal.
    pub goal: Slug,
    /// What counts.
    pub unit: VolumeUnit,
    /// How many are asked for.
    pub target: f64,
    /// Counts the targets that the goal has had, from 1.
    pub epoch: u32,
    /// When this target was set; a goal is not met before that.
    pub since: DateTime<Utc>,
    /// When it must be met; never, where there is none.
    pub deadline: Option<DateTime<Utc>>,
    /// What happens once it is met.
    pub on_complete: Vec<CompletionActionConfig>,
}

/// What a volume goal counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VolumeUnit {
    /// Tasks that have completed.
    Tasks,
    /// Annotations that were accepted.
    Annotations,
}

impl VolumeUnit {
    /// What an event adds one of.
    pub fn counted_by(event: &WorkflowEvent) -> Option<Self> {
        match event {
            WorkflowEvent::WorkflowCompleted { .. } => Some(Self::Tasks),
            WorkflowEvent::AnnotationSubmitted { .. } => Some(Self::Annotations),
            WorkflowEvent::WorkflowStarted(_)
            | WorkflowEvent::TaskDetailsSupplied { .. }
            | WorkflowEvent::StepActivated(_)
            | WorkflowEvent::TaskAssigned { .. }
            | WorkflowEvent::ActivityRecorded { .. }
            | WorkflowEvent::TaskReleased { .. }
            | WorkflowEvent::TaskStalled { .. }
            | WorkflowEvent::GoldScored { .. }
            | WorkflowEvent::PlacesAdded { .. }
            | WorkflowEvent::ChildRequested(_)
            | WorkflowEvent::ChildTold { .. }
            | WorkflowEvent::ChildStartFailed { .. }
            | WorkflowEvent::ChildEnded(_)
            | WorkflowEvent::ParentTold {}
            | WorkflowEvent::ConsensusCalculated(_)
            | WorkflowEvent::StepCompleted { .. }
            | WorkflowEvent::StepFailed { .. }
            | WorkflowEvent::StepSkipped { .. }
            | WorkflowEvent::StepWithdrawn { .. }
            | WorkflowEvent::TransitionOccurred(_)
            | WorkflowEvent::IncidentOpened { .. }
            | WorkflowEvent::IncidentResolved { .. }
            | WorkflowEvent::WorkflowPaused { .. }
            | WorkflowEvent::WorkflowResumed { .. }
            | WorkflowEvent::TimersRearmed { .. }
            | WorkflowEvent::WorkflowMigrated(_)
            | WorkflowEvent::WorkflowFailed { .. }
            | WorkflowEvent::WorkflowCancelled { .. } => None,
        }
    }
}

impl GoalDefinition {
    /// The goal as configured; `None` for kinds that count nothing, and for a goal without target.
    pub fn of(workflow: &WorkflowId, config: &GoalConfig) -> Option<Self> {
        match config.kind {
            GoalType::Volume => Some(Self {
                workflow: workflow.clone(),
                goal: config.id.clone(),
                unit: match config.unit.as_deref() {
                    Some("annotations") => VolumeUnit::Annotations,
                    _ => VolumeUnit::Tasks,
                },
                target: config.target?,
                epoch: 1,
                since: DateTime::UNIX_EPOCH,
                deadline: config.deadline,
                on_complete: config.on_complete.clone(),
            }),
            GoalType::Quality
            | GoalType::Deadline
            | GoalType::Duration
            | GoalType::Composite
            | GoalType::Manual => None,
        }
    }

    /// The goals of a workflow over all its revisions, oldest first, each with the time at which
    /// it was stored: a goal is as the last revision that has it says, and every change of its
    /// target opened an epoch. Epochs thus follow from the revisions and survive a recount.
    pub fn across<'a>(
        workflow: &WorkflowId,
        revisions: impl IntoIterator<Item = (&'a [GoalConfig], DateTime<Utc>)>,
    ) -> Vec<Self> {
        let mut goals: BTreeMap<Slug, Self> = BTreeMap::new();
        for (configs, since) in revisions {
            for goal in configs
                .iter()
                .filter_map(|config| Self::of(workflow, config))
            {
                let goal = match goals.get(&goal.goal) {
                    None => Self { since, ..goal },
                    Some(known) => goal.following(known, since),
                };
                goals.insert(goal.goal.clone(), goal);
            }
        }
        goals.into_values().collect()
    }

    #[expect(clippy::float_cmp, reason = "a target is copied, never computed")]
    fn following(self, known: &Self, since: DateTime<Utc>) -> Self {
        if self.target == known.target {
            Self {
                epoch: known.epoch,
                since: known.since,
                ..self
            }
        } else {
            Self {
                epoch: known.epoch + 1,
                since,
                ..self
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_the_target_opens_an_epoch() {
        let workflow = Slug::new("w").unwrap();
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        let config = |target: f64| {
            vec![GoalConfig {
                id: Slug::new("volume").unwrap(),
                kind: GoalType::Volume,
                description: None,
                target: Some(target),
                unit: None,
                deadline: None,
                window: None,
                on_complete: Vec::new(),
            }]
        };
        let revisions = [
            config(3.0),
            config(3.0),
            Vec::new(),
            config(5.0),
            config(3.0),
        ];
        let across = |n: usize| {
            let stored = revisions[..n]
                .iter()
                .zip(1..)
                .map(|(goals, s)| (goals.as_slice(), at(s)));
            let goal = GoalDefinition::across(&workflow, stored).remove(0);
            (goal.epoch, goal.since)
        };
        assert_eq!(
            (1..=5).map(across).collect::<Vec<_>>(),
            [(1, at(1)), (1, at(1)), (1, at(1)), (2, at(4)), (3, at(5)),]
        );
    }
}
