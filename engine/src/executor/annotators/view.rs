//! What a decision may look up about annotators.

use std::{collections::HashMap, hash::BuildHasher};

use super::{AnnotatorModel, ModelKey, ModelPosition};
use crate::{
    events::{AnnotatorWeight, LogPosition, WeightsUsed},
    ids::{TaskId, UserId},
    reliability::{Evidence, ReliabilityError},
};

/// The available models.
pub trait ModelSource {
    /// The model of `key`, in its current state.
    fn model(&self, key: &ModelKey) -> Option<&AnnotatorModel>;
}

impl<S: BuildHasher> ModelSource for HashMap<ModelKey, AnnotatorModel, S> {
    fn model(&self, key: &ModelKey) -> Option<&AnnotatorModel> {
        self.get(key)
    }
}

/// What is known about annotators when a decision is made. The item under decision is always
/// excluded from the estimates used for its labels.
///
/// Without a model, as at the beginning of a workflow, everyone is an average annotator.
#[derive(Clone, Copy, Default)]
pub struct Annotators<'a>(Option<&'a dyn ModelSource>);

/// The reliability of a person who asks for work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    /// How often the person is right: lower end of the central 95 % credible interval.
    pub low: f64,
    /// The expected accuracy of an unknown annotator.
    pub expected: f64,
    /// The position in the log up to which the model had learned.
    pub position: LogPosition,
    /// The number of events beyond that position.
    pub beyond: u32,
}

impl Reliability {
    /// Whether the person is known to be right more often than an unknown annotator; uncertain
    /// knowledge does not count.
    pub fn is_reliable(&self) -> bool {
        self.low > self.expected
    }
}

impl<'a> Annotators<'a> {
    /// Annotators as known by `models`.
    pub fn new(models: &'a dyn ModelSource) -> Self {
        Self(Some(models))
    }

    /// The evidence of the labels of one visit, (annotator, class) each, in order of acceptance.
    ///
    /// # Errors
    ///
    /// [`ReliabilityError`] if a label is not a declared class, or there is one class too many.
    pub fn evidence(
        self,
        key: &ModelKey,
        (task, visit): (TaskId, u32),
        labels: &[(String, String)],
    ) -> Result<(Evidence, ModelPosition), ReliabilityError> {
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(annotator, class)| (annotator.as_str(), class.as_str()))
            .collect();
        self.look(key, |learnt| {
            let item = AnnotatorModel::item(task, visit);
            let evidence = learnt.model().posterior_for(&item, &labels)?;
            Ok((evidence, learnt.model_position()))
        })
    }

    /// The weights of the votes of `users` in one visit, each person once.
    pub fn weights(
        self,
        key: &ModelKey,
        (task, visit): (TaskId, u32),
        users: &[UserId],
    ) -> Option<WeightsUsed> {
        let mut annotators: Vec<AnnotatorWeight> = Vec::new();
        self.look(key, |learnt| {
            let item = AnnotatorModel::item(task, visit);
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
            let ModelPosition { position, beyond } = learnt.model_position();
            Ok(WeightsUsed {
                position,
                beyond,
                annotators,
            })
        })
        .ok()
    }

    /// The reliability of a person who asks for work; over several questions, the mean of each
    /// number.
    pub fn reliability(self, keys: &[ModelKey], user: UserId) -> Option<Reliability> {
        let mut mean = Reliability::default();
        for key in keys {
            let one = self.look(key, |learnt| {
                let ModelPosition { position, beyond } = learnt.model_position();
                let reliability = |name: &str| learnt.model().reliability(name);
                Ok(Reliability {
                    low: reliability(&user.to_string()).low,
                    // No annotator has this name.
                    expected: reliability("").accuracy,
                    position,
                    beyond,
                })
            });
            let one = one.ok()?;
            mean.low += one.low / keys.len() as f64;
            mean.expected += one.expected / keys.len() as f64;
            mean.position = mean.position.max(one.position);
            mean.beyond = mean.beyond.max(one.beyond);
        }
        (!keys.is_empty()).then_some(mean)
    }

    /// The confidence in the best answer of a visit, given the labels in the log; for several
    /// questions, the lowest. `None` if the labels give no information.
    pub fn confidence(self, keys: &[ModelKey], (task, visit): (TaskId, u32)) -> Option<f64> {
        let item = AnnotatorModel::item(task, visit);
        let confidences = keys.iter().map(|key| {
            let models = self.0?;
            let posterior = models.model(key)?.model().posterior(&item)?;
            Some(posterior.confidence)
        });
        let known: Option<Vec<f64>> = confidences.collect();
        known?.into_iter().reduce(f64::min)
    }

    fn look<T>(
        self,
        key: &ModelKey,
        look: impl FnOnce(&AnnotatorModel) -> Result<T, ReliabilityError>,
    ) -> Result<T, ReliabilityError> {
        match self.0.and_then(|models| models.model(key)) {
            Some(learnt) => look(learnt),
            None => look(&AnnotatorModel::new(key.clone())?),
        }
    }
}
