//! What a decision may look up about annotators.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::BuildHasher,
};

use super::{AnnotatorModel, ModelKey};
use crate::{
    events::{AnnotatorWeight, LogPosition, WeightsUsed},
    ids::{TaskId, UserId},
    reliability::{Evidence, Label, ReliabilityError},
    state::AnnotationData,
};

/// A label to weigh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenLabel {
    annotator: String,
    class: String,
    group: Option<String>,
}

impl GivenLabel {
    /// The label that an annotation gives.
    pub fn new(annotation: &AnnotationData, class: String) -> Self {
        Self {
            annotator: annotation.user_id.to_string(),
            class,
            group: annotation.group.clone(),
        }
    }

    fn as_label(&self) -> Label<'_> {
        Label {
            annotator: &self.annotator,
            class: &self.class,
            group: self.group.as_deref(),
        }
    }
}

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

    /// The evidence of the labels of one visit, in order of acceptance.
    ///
    /// # Errors
    ///
    /// [`ReliabilityError`] if a label is not a declared class, or there is one class too many.
    pub fn evidence(
        self,
        key: &ModelKey,
        (task, visit): (TaskId, u32),
        labels: &[GivenLabel],
    ) -> Result<(Evidence, LogPosition), ReliabilityError> {
        let labels: Vec<Label<'_>> = labels.iter().map(GivenLabel::as_label).collect();
        self.look(key, |learnt| {
            let item = AnnotatorModel::item(task, visit);
            let evidence = learnt.model().posterior_for(&item, &labels)?;
            Ok((evidence, learnt.position()))
        })
    }

    /// The weights of the votes of people in one visit, each once, with the group of each. The
    /// votes of a group weigh together what its labels are worth in a posterior.
    pub fn weights(
        self,
        key: &ModelKey,
        (task, visit): (TaskId, u32),
        people: &[(UserId, Option<&str>)],
    ) -> Option<WeightsUsed> {
        let mut once = BTreeSet::new();
        let people = people.iter().filter(|(user, _)| once.insert(*user));
        let people: Vec<_> = people.collect();
        let mut members: BTreeMap<&str, u32> = BTreeMap::new();
        for group in people.iter().filter_map(|(_, group)| *group) {
            *members.entry(group).or_default() += 1;
        }
        let mut annotators: Vec<AnnotatorWeight> = Vec::new();
        self.look(key, |learnt| {
            let (model, item) = (learnt.model(), AnnotatorModel::item(task, visit));
            for &(user_id, group) in people {
                let accuracy = model.accuracy_for(&item, &user_id.to_string());
                let share = group.map_or(1.0, |group| {
                    let labels = members.get(group).copied().unwrap_or(1);
                    model.worth(group, labels) / f64::from(labels)
                });
                annotators.push(AnnotatorWeight {
                    user_id,
                    accuracy,
                    weight: model.weight_at(accuracy) * share,
                });
            }
            Ok(WeightsUsed {
                position: learnt.position(),
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
                let reliability = |name: &str| learnt.model().reliability(name);
                Ok(Reliability {
                    low: reliability(&user.to_string()).low,
                    // No annotator has this name.
                    expected: reliability("").accuracy,
                    position: learnt.position(),
                })
            });
            let one = one.ok()?;
            mean.low += one.low / keys.len() as f64;
            mean.expected += one.expected / keys.len() as f64;
            mean.position = mean.position.max(one.position);
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
