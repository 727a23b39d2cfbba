//! The comparison of a visit's annotations: their agreement and the resulting value.

use serde_json::{Map, Value};

use crate::{
    config::{
        AgreementMethod, ConsensusConfig, DisagreementStrategy, Fallback, FieldMode, FieldRule,
        Level, Metric, StepConfig, TieBreaker,
    },
    events::{ConsensusCalculated, ConsensusMethod, FieldCalculated, Vote, WeightsUsed},
    executor::{
        AgreementReport, ExecutionContext,
        agreement::{boxes, spans},
        annotators::{ModelKey, weighs_votes},
        measure_agreement,
        value::value_at,
        vote::{heaviest, merge_boxes, merge_spans, tally, tied, weigh},
    },
    ids::UserId,
    state::{ResolvedBy, Visit},
};

/// The annotations to compare.
#[derive(Clone, Copy)]
pub(in crate::executor) struct ComparedVisit<'a> {
    /// The step that people submitted them to.
    pub(in crate::executor) step: &'a StepConfig,
    /// The visit.
    pub(in crate::executor) visit: &'a Visit,
}

/// Compares the annotations of `judged` and finds their value, for the current visit. `exhausted`:
/// the visit is closed early, so the best answer available decides.
pub(in crate::executor) fn resolve(
    context: &ExecutionContext<'_>,
    consensus: &ConsensusConfig,
    judged: ComparedVisit<'_>,
    exhausted: bool,
) -> ConsensusCalculated {
    let rule = Rule {
        context,
        consensus,
        exhausted,
    };
    let mut calculated = ConsensusCalculated {
        field: consensus.field.clone(),
        ..not_compared(context, consensus, rule.method(true))
    };
    if consensus.per_field.is_some() {
        by_field(&rule, judged, &mut calculated);
        return calculated;
    }
    let field = consensus.field.as_deref();
    let compared = rule.compare(consensus.metric, consensus.level, field, judged);
    calculated.agreed = compared.reaches(consensus.threshold);
    calculated.method = rule.method(calculated.agreed);
    (calculated.value, calculated.resolved_by) = rule.find(calculated.method, &compared).unzip();
    calculated.tied = rule.is_tied(calculated.method, &compared);
    calculated.votes = compared.votes;
    calculated.weights = compared.weights;
    calculated.agreement = compared.report.agreement;
    // An omitted part is no disagreement with the others, but it makes the whole value different.
    let differs = calculated.agreed && calculated.tied && calculated.value.is_none();
    let differ = "all that two of them say agrees, but the values differ in what is left out, and none has most votes";
    let differs = (differs && compared.report.note.is_none()).then(|| differ.to_owned());
    calculated.note = compared.report.note.or(differs);
    calculated.units = compared.report.units;
    calculated.pairs = compared.report.pairs;
    calculated
}

/// The comparison recorded for the current visit before anything was compared.
pub(super) fn not_compared(
    context: &ExecutionContext<'_>,
    consensus: &ConsensusConfig,
    method: ConsensusMethod,
) -> ConsensusCalculated {
    ConsensusCalculated {
        step_id: context.step.id.clone(),
        visit: context.visit.number,
        metric: consensus.metric,
        level: consensus.level,
        field: None,
        agreement: None,
        note: None,
        threshold: consensus.threshold,
        units: 0,
        pairs: 0,
        agreed: true,
        method,
        votes: Vec::new(),
        tied: false,
        more: None,
        value: None,
        resolved_by: None,
        mode: None,
        fields: Vec::new(),
        posterior: None,
        weights: None,
    }
}

/// Compares field by field and combines the verdicts by `consensus.mode`.
fn by_field(rule: &Rule<'_>, judged: ComparedVisit<'_>, calculated: &mut ConsensusCalculated) {
    let consensus = rule.consensus;
    let mode = consensus.mode.unwrap_or_default();
    let compared: Vec<(FieldRule<'_>, Compared<'_>)> = consensus
        .field_rules()
        .map(|field| {
            let compared = rule.compare(field.metric, field.level, Some(field.field), judged);
            (field, compared)
        })
        .collect();
    let defined = || {
        compared
            .iter()
            .filter_map(|(field, compared)| Some((field.weight, compared.report.agreement?)))
    };
    let weights: f64 = defined().map(|(weight, _)| weight).sum();
    let sum: f64 = defined()
        .map(|(weight, agreement)| weight * agreement)
        .sum();
    calculated.agreement = (weights > 0.0).then(|| without_rounding_noise(sum / weights));
    calculated.note = undefined_fields(&compared);
    calculated.agreed = match mode {
        FieldMode::AllOrNothing | FieldMode::FieldByField => compared
            .iter()
            .all(|(field, compared)| compared.reaches(field.threshold)),
        FieldMode::Weighted => {
            compared
                .iter()
                .all(|(_, compared)| compared.report.readable)
                && reaches(calculated.agreement, consensus.threshold)
        }
    };
    calculated.method = rule.method(calculated.agreed);
    calculated.mode = Some(mode);
    for (field, compared) in compared {
        let agreed = compared.reaches(field.threshold);
        let method = match mode {
            FieldMode::AllOrNothing | FieldMode::Weighted => calculated.method,
            FieldMode::FieldByField => rule.method(agreed),
        };
        let (value, resolved_by) = rule.find(method, &compared).unzip();
        let tied = rule.is_tied(method, &compared);
        let report = compared.report;
        calculated.units += report.units;
        calculated.pairs += report.pairs;
        calculated.tied |= tied && value.is_none();
        calculated.fields.push(FieldCalculated {
            field: field.field.to_owned(),
            metric: field.metric,
            level: field.level,
            agreement: report.agreement,
            note: report.note,
            threshold: field.threshold,
            weight: field.weight,
            units: report.units,
            pairs: report.pairs,
            agreed,
            method,
            votes: compared.votes,
            tied,
            value,
            resolved_by,
            weights: compared.weights,
        });
    }
    let fields = &calculated.fields;
    calculated.value = fields
        .iter()
        .map(|field| Some((field.field.clone(), field.value.clone()?)))
        .collect::<Option<Map<String, Value>>>()
        .map(Value::Object);
    // If fields were settled by different methods, the most expensive one is reported.
    calculated.resolved_by = calculated.value.as_ref().and_then(|_| {
        let disputed = fields
            .iter()
            .find(|field| field.method == calculated.method);
        disputed.or_else(|| fields.first())?.resolved_by
    });
}

/// Rounds to twelve digits: weights such as 0.1 have no exact form, and their sum must not miss a
/// threshold by the last bit.
fn without_rounding_noise(mean: f64) -> f64 {
    const DIGITS: f64 = 1e12;
    (mean * DIGITS).round() / DIGITS
}

/// Lists the fields that are not in the mean.
fn undefined_fields(compared: &[(FieldRule<'_>, Compared<'_>)]) -> Option<String> {
    let undefined: Vec<String> = compared
        .iter()
        .filter(|(_, compared)| compared.report.agreement.is_none())
        .map(|(field, _)| format!("`{}`", field.field))
        .collect();
    if undefined.len() == compared.len() {
        return Some("agreement is defined for none of the fields".to_owned());
    }
    (!undefined.is_empty()).then(|| {
        let names = undefined.join(", ");
        format!("agreement is not defined for {names}, which the mean leaves out")
    })
}

/// An undefined agreement is not a disagreement: one annotation, or no variation at all.
fn reaches(agreement: Option<f64>, threshold: f64) -> bool {
    agreement.is_none_or(|agreement| agreement >= threshold)
}

/// One value of each annotator, with their comparison.
struct Compared<'v> {
    metric: Metric,
    values: Vec<&'v Value>,
    report: AgreementReport,
    votes: Vec<Vote>,
    weights: Option<WeightsUsed>,
}

impl Compared<'_> {
    fn reaches(&self, threshold: f64) -> bool {
        self.report.readable && reaches(self.report.agreement, threshold)
    }
}

/// The rules of a consensus block for finding a value.
struct Rule<'c> {
    context: &'c ExecutionContext<'c>,
    consensus: &'c ConsensusConfig,
    /// Whether the visit is closed early.
    exhausted: bool,
}

impl Rule<'_> {
    fn compare<'v>(
        &self,
        metric: Metric,
        level: Level,
        field: Option<&str>,
        judged: ComparedVisit<'v>,
    ) -> Compared<'v> {
        static MISSING: Value = Value::Null;
        let annotations = &judged.visit.annotations;
        let values: Vec<&Value> = annotations
            .iter()
            .map(|a| value_at(&a.data, field).unwrap_or(&MISSING))
            .collect();
        let report = measure_agreement(metric, level, &values);
        let mut votes = tally(&values);
        let weights = weighs_votes(self.consensus)
            .then(|| {
                let users: Vec<UserId> = annotations.iter().map(|a| a.user_id).collect();
                let context = self.context;
                let key = ModelKey::new(&context.workflow.id, judged.step, field);
                let item = (context.state.task_id, judged.visit.number);
                let weights = context.annotators.weights(&key, item, &users)?;
                let given = users.iter().copied().zip(values.iter().copied());
                weigh(&mut votes, given, &weights);
                Some(weights)
            })
            .flatten();
        Compared {
            metric,
            values,
            report,
            votes,
            weights,
        }
    }

    fn method(&self, agreed: bool) -> ConsensusMethod {
        if agreed {
            ConsensusMethod::Agreement(self.consensus.on_agreement.method)
        } else {
            ConsensusMethod::Disagreement(self.consensus.on_disagreement.strategy)
        }
    }

    /// Whether votes are weighted rather than counted.
    fn weighs(&self, method: ConsensusMethod) -> bool {
        let asks_on = ConsensusMethod::Disagreement(DisagreementStrategy::AdditionalAnnotators);
        method == ConsensusMethod::Agreement(AgreementMethod::WeightedVote)
            || method == ConsensusMethod::Disagreement(DisagreementStrategy::WeightedVote)
            || (method == asks_on
                && self.consensus.on_disagreement.fallback == Some(Fallback::WeightedVote))
    }

    fn is_tied(&self, method: ConsensusMethod, compared: &Compared<'_>) -> bool {
        if self.weighs(method) {
            compared.votes.len() > 1 && heaviest(&compared.votes).is_none()
        } else {
            tied(&compared.votes)
        }
    }

    /// The value found by `method`.
    fn find(
        &self,
        method: ConsensusMethod,
        compared: &Compared<'_>,
    ) -> Option<(Value, ResolvedBy)> {
        let votes = &compared.votes;
        match method {
            _ if self.exhausted => self
                .elect(method, compared)
                .map(|(value, _)| (value, ResolvedBy::Exhausted)),
            ConsensusMethod::Agreement(
                AgreementMethod::MajorityVote | AgreementMethod::WeightedVote,
            )
            | ConsensusMethod::Disagreement(
                DisagreementStrategy::MajorityVote | DisagreementStrategy::WeightedVote,
            ) => self.elect(method, compared),
            ConsensusMethod::Agreement(AgreementMethod::Unanimous) => match votes.as_slice() {
                [only] => Some((only.value.clone(), ResolvedBy::Unanimous)),
                _ => None,
            },
            // The posterior has a rule of its own, which does not use the agreement.
            ConsensusMethod::Posterior(_)
            | ConsensusMethod::Disagreement(
                DisagreementStrategy::Adjudication | DisagreementStrategy::Escalate,
            ) => None,
            // The method that decides if nobody else may be asked.
            ConsensusMethod::Disagreement(DisagreementStrategy::AdditionalAnnotators) => {
                match self.consensus.on_disagreement.fallback {
                    Some(Fallback::MajorityVote | Fallback::WeightedVote) => {
                        self.elect(method, compared)
                    }
                    None | Some(Fallback::Adjudication | Fallback::Escalate) => None,
                }
            }
        }
    }

    /// The candidate with the most votes or weight; `None` on an unbroken tie.
    fn elect(
        &self,
        method: ConsensusMethod,
        compared: &Compared<'_>,
    ) -> Option<(Value, ResolvedBy)> {
        let votes = &compared.votes;
        if !self.is_tied(method, compared) {
            return if self.weighs(method) {
                Some((heaviest(votes)?.value.clone(), ResolvedBy::WeightedVote))
            } else {
                Some((votes.first()?.value.clone(), ResolvedBy::MajorityVote))
            };
        }
        // Regions that overlap enough are one answer even if their edges differ.
        if matches!(method, ConsensusMethod::Agreement(_))
            && let Some(merged) = merge_regions(compared.metric, &compared.values)
        {
            return Some((merged, ResolvedBy::MajorityVote));
        }
        if self.weighs(method) || self.consensus.tie_breaker != TieBreaker::QualityWeighted {
            return None;
        }
        let most = votes.first()?.count;
        let level = votes.partition_point(|vote| vote.count == most);
        let best = heaviest(&votes[..level])?;
        Some((best.value.clone(), ResolvedBy::WeightedVote))
    }
}

fn merge_regions(metric: Metric, values: &[&Value]) -> Option<Value> {
    match metric {
        Metric::SpanIou | Metric::SpanF1 => {
            serde_json::to_value(merge_spans(&spans(values).ok()?)).ok()
        }
        Metric::BoxIou => serde_json::to_value(merge_boxes(&boxes(values).ok()?)).ok(),
        Metric::PercentAgreement
        | Metric::CohenKappa
        | Metric::FleissKappa
        | Metric::KrippendorffAlpha
        | Metric::GwetAc1
        | Metric::TokenF1 => None,
    }
}
