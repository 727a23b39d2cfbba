//! The model asked again: how probable each answer to a visit is now.

use glyph_workflow_engine::{
    AnnotationData,
    answer::{Answer, value_at},
    events::LogPosition,
    executor::annotators::{Annotators, GivenLabel, ModelKey, ModelSource},
    ids::TaskId,
    reliability::{Posterior, value_of},
    state::{SoftLabels, Visit},
};
use serde_json::Value;

/// What a model of the annotators says of an answer now.
pub(super) struct PosteriorNow {
    /// The most probable of the given answers, by the rule that completes a step; null where two are
    /// equally probable.
    pub(super) value: Option<Value>,
    /// Probability of the answer that the task was completed with; null if it has none.
    pub(super) confidence: Option<f64>,
    /// Probability of each answer.
    pub(super) soft_labels: SoftLabels,
    /// How much the model has learned.
    pub(super) model_position: LogPosition,
    /// Expected share of labels that are guesses; null if the model holds the visit no more.
    pub(super) difficulty: Option<f64>,
}

impl PosteriorNow {
    /// Asks the model of `key` about the labels of a visit that ended with `value`. None if no
    /// label is an answer that the model knows.
    pub(super) fn of(
        models: &dyn ModelSource,
        key: &ModelKey,
        (task, visit): (TaskId, &Visit),
        value: Option<&Value>,
    ) -> Option<Self> {
        let labels = labels_of(key, visit);
        if labels.is_empty() {
            return None;
        }
        let item = (task, visit.number);
        let asked = Annotators::new(models).evidence(key, item, &labels);
        let (evidence, at) = asked.ok()?;
        let found = evidence.posterior();
        Some(Self {
            value: found.best_given(&evidence.labels).map(value_of),
            confidence: value.and_then(|value| probability(&found, value)),
            soft_labels: SoftLabels::from(&found),
            model_position: at,
            difficulty: models
                .model(key)
                .and_then(|known| known.difficulty(task, visit.number)),
        })
    }
}

/// The labels that the model learns from.
fn labels_of(key: &ModelKey, visit: &Visit) -> Vec<GivenLabel> {
    let label = |given: &AnnotationData| {
        let answer = value_at(&given.data, key.field.as_deref())?;
        let class = Answer::plain(answer).name()?;
        let declared = key.classes.as_ref();
        declared
            .is_none_or(|classes| classes.contains(&class))
            .then(|| GivenLabel::new(given, class))
    };
    visit.annotations.iter().filter_map(|a| label(a)).collect()
}

/// The probability of an answer; that of any unknown one, if nobody has ever given it.
fn probability(found: &Posterior, value: &Value) -> Option<f64> {
    let class = Answer::plain(value).name()?;
    let at = found.classes.iter().position(|known| *known == class);
    Some(match at {
        Some(at) => found.probabilities.get(at).copied().unwrap_or(0.0),
        None => found.unseen,
    })
}

/// The probability that soft labels give to an answer.
pub(super) fn probability_in(soft: &SoftLabels, value: &Value) -> f64 {
    let answer = Answer::plain(value);
    let same = |class: &Value| Answer::plain(class) == answer;
    let at = soft.classes.iter().position(same);
    let known = at.and_then(|at| soft.probabilities.get(at));
    known.copied().unwrap_or(soft.unseen)
}
