//! How a visit of a step can end, as far as its keys tell.
//!
//! The executors decide how a visit does end. This is the one place that says how it can, for
//! everything that reasons about workflows; `tests/it/sound_workflows.rs` holds the two together.

use serde_json::Value;

use super::{
    CompletionType, ConsensusConfig, DisagreementStrategy, EndsWith, Fallback, FieldMode,
    InternalHandler, Performer, StepConfig,
};

/// One way in which a visit can end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ending {
    /// Whether it ends with a value.
    pub value: EndingValue,
    /// The agreement that its result carries.
    pub agreement: EndingAgreement,
    /// The decision of a review, or the verdict of a conditional step.
    pub decision: Option<&'static str>,
}

/// Whether a visit ends with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndingValue {
    /// With one of its own.
    Made,
    /// With the value of its subject, if that has one.
    OfSubject,
    /// Without one.
    Absent,
}

/// The agreement that a result carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EndingAgreement {
    /// None.
    Undefined,
    /// A number below this one.
    Below(f64),
    /// This number or a larger one.
    AtLeast(f64),
    /// Any number, or none.
    Any,
    /// That of its subject; none without a subject.
    OfSubject,
}

impl EndingAgreement {
    /// Whether a result that ends so can carry this agreement. What a subject carries is not known
    /// here.
    pub fn admits(self, agreement: Option<f64>) -> bool {
        match self {
            Self::Undefined => agreement.is_none(),
            Self::Below(bound) => agreement.is_some_and(|agreement| agreement < bound),
            Self::AtLeast(bound) => agreement.is_some_and(|agreement| agreement >= bound),
            Self::Any | Self::OfSubject => true,
        }
    }
}

impl Ending {
    const fn new(value: EndingValue, agreement: EndingAgreement) -> Self {
        Self {
            value,
            agreement,
            decision: None,
        }
    }

    /// The endings of a handler about which nothing is known.
    pub fn of_any_handler() -> Vec<Self> {
        with_or_without(EndingAgreement::Any).into()
    }
}

fn with_or_without(agreement: EndingAgreement) -> [Ending; 2] {
    [
        Ending::new(EndingValue::Made, agreement),
        Ending::new(EndingValue::Absent, agreement),
    ]
}

/// The decisions of a reviewer, and the value with which the review then ends.
const DECISIONS: [(&str, EndingValue); 4] = [
    ("approve", EndingValue::OfSubject),
    ("fix", EndingValue::Made),
    ("reject", EndingValue::Absent),
    ("request_changes", EndingValue::Absent),
];

impl StepConfig {
    /// How a visit of the step can end when those who work on it do, and nothing fails. An
    /// `advance` with an output can also end it with any value.
    pub fn endings(&self) -> Vec<Ending> {
        match self.kind.spec().ends_with {
            EndsWith::Annotations => self.endings_of_annotations(),
            EndsWith::Value => vec![Ending::new(EndingValue::Made, EndingAgreement::OfSubject)],
            EndsWith::ValueOrNone if self.kind.spec().performer == Performer::Handler => {
                self.endings_of_handler()
            }
            EndsWith::ValueOrNone => with_or_without(EndingAgreement::Any).into(),
            EndsWith::Decision => DECISIONS
                .iter()
                .map(|(decision, value)| Ending {
                    value: *value,
                    agreement: EndingAgreement::OfSubject,
                    decision: Some(decision),
                })
                .collect(),
            EndsWith::Verdict => ["true", "false"]
                .into_iter()
                .map(|verdict| Ending {
                    decision: Some(verdict),
                    ..Ending::new(EndingValue::Absent, EndingAgreement::Undefined)
                })
                .collect(),
        }
    }

    fn endings_of_annotations(&self) -> Vec<Ending> {
        let completion = self.completion_type();
        if completion == CompletionType::Confidence {
            // A tie has no value, and an unsure answer only where the file says so.
            return with_or_without(EndingAgreement::Any).into();
        }
        let asks_one = completion == CompletionType::AnnotationCount && !self.asks_several();
        match self.consensus.as_ref().filter(|_| !asks_one) {
            Some(consensus) => {
                let has_fields = self
                    .answer
                    .as_ref()
                    .is_some_and(|asked| asked.fields.is_some());
                endings_of_comparison(consensus, has_fields)
            }
            // An `advance` can close a manual step before anyone has submitted.
            None if completion == CompletionType::Manual => {
                with_or_without(EndingAgreement::Undefined).into()
            }
            None => vec![Ending::new(EndingValue::Made, EndingAgreement::Undefined)],
        }
    }

    fn endings_of_handler(&self) -> Vec<Ending> {
        if self.external_handler().is_some() {
            return with_or_without(EndingAgreement::Undefined).into();
        }
        let handler = self.handler.as_deref();
        match handler.and_then(InternalHandler::from_name) {
            // An object, even if nothing has arrived.
            Some(InternalHandler::ResultMerger) => {
                vec![Ending::new(EndingValue::Made, EndingAgreement::Undefined)]
            }
            Some(InternalHandler::Finalize) => with_or_without(EndingAgreement::Undefined).into(),
            Some(InternalHandler::ConsensusCalculator) => {
                let config = self.config.as_ref().unwrap_or(&Value::Null);
                let consensus = ConsensusConfig::of_calculator(config);
                let consensus = consensus.map_or_else(|_| ConsensusConfig::default(), |(_, c)| c);
                endings_of_comparison(&consensus, false)
            }
            None => Ending::of_any_handler(),
        }
    }
}

/// The endings of a comparison of annotations. A vote can be tied at any agreement. `has_fields`:
/// the answer is a record by the step's own `answer`.
fn endings_of_comparison(consensus: &ConsensusConfig, has_fields: bool) -> Vec<Ending> {
    // The thresholds of single fields imply nothing about the mean over all fields.
    let is_record = has_fields || consensus.per_field.is_some();
    let mean_decides = !is_record || consensus.mode == Some(FieldMode::Weighted);
    if !mean_decides || settles_disagreement(consensus) {
        return with_or_without(EndingAgreement::Any).into();
    }
    let threshold = consensus.threshold;
    let below = EndingAgreement::Below(threshold);
    let agreed = [
        EndingAgreement::AtLeast(threshold),
        EndingAgreement::Undefined,
    ];
    std::iter::once(Ending::new(EndingValue::Absent, below))
        .chain(agreed.into_iter().flat_map(with_or_without))
        .collect()
}

/// Whether a vote can find a value although the annotators disagree.
fn settles_disagreement(consensus: &ConsensusConfig) -> bool {
    let rule = &consensus.on_disagreement;
    match rule.strategy {
        DisagreementStrategy::MajorityVote | DisagreementStrategy::WeightedVote => true,
        DisagreementStrategy::Adjudication | DisagreementStrategy::Escalate => false,
        DisagreementStrategy::AdditionalAnnotators => match rule.fallback {
            Some(Fallback::MajorityVote | Fallback::WeightedVote) => true,
            None | Some(Fallback::Adjudication | Fallback::Escalate) => false,
        },
    }
}
