//! What a decision may look up.

use std::{collections::HashMap, hash::BuildHasher};

use super::{LearntModel, ModelKey};
use crate::{
    events::{AnnotatorWeight, LogPosition, WeightsUsed},
    ids::{TaskId, UserId},
    reliability::{Evidence, ReliabilityError},
};

/// Models at hand.
pub trait KnownModels {
    /// The model of `key`, as far as it has been learnt.
    fn learnt(&self, key: &ModelKey) -> Option<&LearntModel>;
}

impl<S: BuildHasher> KnownModels for HashMap<ModelKey, LearntModel, S> {
    fn learnt(&self, key: &ModelKey) -> Option<&LearntModel> {
        self.get(key)
    }
}

/// What is known of annotators when a decision is made. The item that it is about is always left out
/// of what its labels are judged by.
///
/// Without a model, as at the beginning of a workflow, everybody is an average annotator.
#[derive(Clone, Copy, Default)]
pub struct Annotators<'a>(Option<&'a dyn KnownModels>);

impl<'a> Annotators<'a> {
    /// Those that `models` know.
    pub fn new(models: &'a dyn KnownModels) -> Self {
        Self(Some(models))
    }

    /// What the labels of one visit say, annotator and class each, in order of acceptance.
    ///
    /// # Errors
    ///
    /// [`ReliabilityError`] where a label is none of the declared classes, or one class too many.
    pub fn evidence(
        self,
        key: &ModelKey,
        (task, visit): (TaskId, u32),
        labels: &[(String, String)],
    ) -> Result<(Evidence, LogPosition), ReliabilityError> {
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(annotator, class)| (annotator.as_str(), class.as_str()))
            .collect();
        self.look(key, |learnt| {
            let item = LearntModel::item(task, visit);
            let evidence = learnt.model().posterior_for(&item, &labels)?;
            Ok((evidence, learnt.position()))
        })
    }

    /// What the votes of `users` count in one visit, each person once.
    pub fn weights(
        self,
        key: &ModelKey,
        (task, visit): (TaskId, u32),
        users: &[UserId],
    ) -> Option<WeightsUsed> {
        let mut annotators: Vec<AnnotatorWeight> = Vec::new();
        self.look(key, |learnt| {
            let item = LearntModel::item(task, visit);
            for &user_id in users {
                if annotators.iter().any(|known| known.user_id == user_id) {
                    continue;
                }
                let accuracy = learnt.model().accuracy_for(&item, &user_id.to_string());
                annotators.push(AnnotatorWeight {
                    user_id,
                    accuracy,
                    weight: learnt.model().weight_at(accuracy),
                });
            }
            let position = learnt.position();
            Ok(WeightsUsed {
                position,
                annotators,
            })
        })
        .ok()
    }

    fn look<T>(
        self,
        key: &ModelKey,
        look: impl FnOnce(&LearntModel) -> Result<T, ReliabilityError>,
    ) -> Result<T, ReliabilityError> {
        match self.0.and_then(|models| models.learnt(key)) {
            Some(learnt) => look(learnt),
            None => look(&LearntModel::new(key.clone())?),
        }
    }
}
