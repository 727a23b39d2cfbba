//! The comparison of a visit's annotations: their agreement and the resulting value.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    answer::{Agreement, Answer, AnswerError, Ballot, Question, Rule, United, Work},
    config::{
        AgreementMethod, AnswerKind, ConsensusConfig, DisagreementStrategy, Fallback, FieldMode,
        StepConfig, TieBreaker,
    },
    events::{
        ConsensusCalculated, ConsensusMethod, FieldCalculated, KnownAnswers, Vote, WeightsUsed,
    },
    executor::{
        ExecutionContext,
        annotators::{ModelKey, weighs_votes},
    },
    ids::UserId,
    state::{AnnotationData, ResolvedBy, Visit},
};

/// The annotations to compare.
#[derive(Clone, Copy)]
pub(in crate::executor) struct ComparedVisit<'a> {
    /// The step that people submitted them to.
    pub(in crate::executor) step: &'a StepConfig,
    /// The visit.
    pub(in crate::executor) visit: &'a Visit,
    /// What they are answers to.
    pub(in crate::executor) question: &'a Question,
}

/// A comparison, and what it leaves to an adjudicator.
pub(in crate::executor) struct Comparison {
    /// Every number, as the event records it.
    pub(in crate::executor) calculated: ConsensusCalculated,
    /// What annotators agree on, if an adjudicator is asked for the rest only.
    pub(in crate::executor) agreed: Option<Value>,
    /// What they do not agree on.
    pub(in crate::executor) disputed: Option<Value>,
}

/// Compares annotations and finds their value, for the current visit. `exhausted`: the visit is
/// closed early, so no more people are asked. Otherwise the rules are the same.
pub(in crate::executor) fn compare(
    context: &ExecutionContext<'_>,
    consensus: &ConsensusConfig,
    compared: ComparedVisit<'_>,
    exhausted: bool,
) -> Comparison {
    let rules = Rules {
        consensus,
        exhausted,
    };
    let question = compared.question;
    let input = context.state.input.as_ref().unwrap_or(&Value::Null);
    let given = GivenAnswers::read(question, &compared.visit.annotations, input);
    let answers = given.answers();
    let mut work = Work::of_decision();
    let mut agreement = question.agreement(&answers, &mut work);
    if answers.len() < 2 && !given.left_out.is_empty() {
        // What cannot be compared is no agreement.
        agreement.comparable = false;
        agreement.agreed = false;
        agreement.note = given.note();
    }
    let weights = Weights::of(context, consensus, compared, &given);
    let mut verdict = Verdict {
        agreed: agreement.agreed,
        method: rules.method(agreement.agreed),
        note: agreement.note.clone(),
    };
    let unite = |verdict: &Verdict, work: &mut Work| {
        question.unite_fields(
            &answers,
            |path| {
                let method = rules.method_of_field(question, &agreement, verdict, path);
                Some(rules.rule(method, weights.of_field(path)))
            },
            input,
            work,
        )
    };
    let mut united = unite(&verdict, &mut work);
    // Parts of a value can agree while the whole values are tied.
    if verdict.agreed
        && united.tied
        && united.value.is_none()
        && matches!(question.kind(), AnswerKind::Any | AnswerKind::Category)
    {
        verdict = Verdict {
            agreed: false,
            method: rules.method(false),
            note: verdict.note.or_else(|| Some(TIED.to_owned())),
        };
        united = unite(&verdict, &mut work);
    }
    let note = verdict
        .note
        .clone()
        .or_else(|| united.note.clone())
        .or_else(|| given.note());
    let found = agreement.comparable
        && (rules.finds(verdict.method) || (verdict.agreed && question.mode().is_some()));
    let value = united.value.clone().filter(|_| found);
    let resolved_by = value
        .as_ref()
        .map(|_| rules.resolved_by(verdict.method, &united));
    let (agreed, disputed) = left_over(consensus, question, &agreement, &united, found);
    let fields = fields(
        &rules, question, &agreement, &united, &verdict, &weights, &given,
    );
    let whole = question.mode().is_none();
    let votes = if whole {
        votes(&given.whole(), weights.of_field(""))
    } else {
        Vec::new()
    };
    let plain = not_compared(context, question, verdict.method);
    let calculated = ConsensusCalculated {
        field: question.field().map(str::to_owned),
        known: known_answers(question, &votes),
        annotators: people_of(compared.visit, plain.again),
        agreement: agreement.agreement,
        note,
        units: agreement.units,
        pairs: agreement.pairs,
        agreed: verdict.agreed,
        tied: united.tied,
        votes,
        value,
        resolved_by,
        mode: question.mode(),
        fields,
        weights: weights.used(""),
        ..plain
    };
    Comparison {
        calculated,
        agreed,
        disputed,
    }
}

const TIED: &str =
    "parts of the answers agree, but the whole answers are tied, which is a disagreement";

/// The comparison recorded for the current visit before anything was compared.
pub(super) fn not_compared(
    context: &ExecutionContext<'_>,
    question: &Question,
    method: ConsensusMethod,
) -> ConsensusCalculated {
    let asked_at_first = context.step.slots();
    let (slots, visit) = (context.visit.slots, context.visit.number);
    ConsensusCalculated {
        step_id: context.step.id.clone(),
        visit,
        metric: question.metric(),
        level: question.level(),
        field: None,
        agreement: None,
        note: None,
        threshold: question.threshold(),
        units: 0,
        pairs: 0,
        agreed: true,
        method,
        votes: Vec::new(),
        known: None,
        annotators: Vec::new(),
        tied: false,
        again: slots
            .zip(asked_at_first)
            .is_some_and(|(now, first)| now > first),
        reached: None,
        more: None,
        asked_on: None,
        audited: None,
        value: None,
        resolved_by: None,
        mode: None,
        fields: Vec::new(),
        posterior: None,
        weights: None,
    }
}

/// The answers in a visit's annotations. Those that are none, because another revision asked for
/// something else, are left out.
pub(super) struct GivenAnswers<'a> {
    read: Vec<(u32, &'a AnnotationData, Answer)>,
    /// What is wrong with those that are no answer.
    left_out: Vec<AnswerError>,
}

impl<'a> GivenAnswers<'a> {
    pub(super) fn read(
        question: &Question,
        annotations: &'a [std::sync::Arc<AnnotationData>],
        input: &Value,
    ) -> Self {
        let (mut read, mut left_out) = (Vec::new(), Vec::new());
        for (place, annotation) in (0..).zip(annotations) {
            match question.read(&annotation.data, input) {
                Ok(answer) => read.push((place, &**annotation, answer)),
                Err(error) => left_out.push(error),
            }
        }
        Self { read, left_out }
    }

    pub(super) fn answers(&self) -> Vec<&Answer> {
        self.read.iter().map(|(_, _, answer)| answer).collect()
    }

    /// Each answer with the annotation that gives it.
    pub(super) fn with_annotations(&self) -> impl Iterator<Item = (&AnnotationData, &Answer)> {
        let read = self.read.iter();
        read.map(|(_, annotation, answer)| (*annotation, answer))
    }

    /// The answers as a whole, with their position among the annotations.
    pub(super) fn whole(&self) -> Vec<(u32, &Answer)> {
        let read = self.read.iter();
        read.map(|(place, _, answer)| (*place, answer)).collect()
    }

    /// Why fewer answers were compared than there are annotations.
    pub(super) fn note(&self) -> Option<String> {
        let first = self.left_out.first()?;
        let left_out = self.left_out.len();
        Some(format!(
            "{left_out} of {} annotations do not answer what is asked, and were left out: {first}",
            left_out + self.read.len()
        ))
    }
}

/// Counts equal answers, most votes first. `weights` are those of the people, in the order of the
/// answers.
pub(super) fn votes(answers: &[(u32, &Answer)], weights: Option<&[f64]>) -> Vec<Vote> {
    let plain: Vec<&Answer> = answers.iter().map(|(_, answer)| *answer).collect();
    let ballot = Ballot::new(&plain, weights);
    let place = |position: usize| answers.get(position).map_or(0, |(place, _)| *place);
    let mut votes: Vec<Vote> = ballot
        .by_votes()
        .into_iter()
        .map(|candidate| Vote {
            value: candidate.value(),
            count: u32::try_from(candidate.count()).unwrap_or(u32::MAX),
            by: candidate.by().into_iter().map(place).collect(),
            weight: candidate.weight(),
        })
        .collect();
    // In the order of the annotations the positions say nothing.
    let listed = votes.iter().flat_map(|vote| &vote.by).copied();
    if listed.eq(0..u32::try_from(answers.len()).unwrap_or(u32::MAX)) {
        for vote in &mut votes {
            vote.by.clear();
        }
    }
    votes
}

/// What is known of the possible answers beforehand, for statistics over many tasks.
pub(super) fn known_answers(question: &Question, votes: &[Vote]) -> Option<KnownAnswers> {
    let values = question.values().filter(|_| question.is_categorical());
    let mut ranks = Vec::new();
    if let (AnswerKind::Ordinal, Some(scale)) = (question.kind(), values) {
        let scale: BTreeMap<Answer, u32> = scale.iter().map(Answer::plain).zip(0..).collect();
        let rank = |vote: &Vote| scale.get(&Answer::plain(&vote.value)).copied();
        // A value beside the scale was given to another revision's question.
        ranks = votes
            .iter()
            .map(rank)
            .collect::<Option<_>>()
            .unwrap_or_default();
    }
    let known = KnownAnswers {
        categories: values.and_then(|values| u32::try_from(values.len()).ok()),
        ranks,
        weights: question.weights(),
    };
    (known != KnownAnswers::default()).then_some(known)
}

/// Those who submitted, in the order of acceptance. A later comparison of a visit is not one of the
/// statistics, which need to know them.
pub(super) fn people_of(visit: &Visit, again: bool) -> Vec<UserId> {
    if again {
        return Vec::new();
    }
    visit
        .annotations
        .iter()
        .map(|given| given.user_id)
        .collect()
}

/// Whether annotators agree, and what follows.
struct Verdict {
    agreed: bool,
    method: ConsensusMethod,
    note: Option<String>,
}

/// The rules of a consensus block for finding a value.
#[derive(Clone, Copy)]
struct Rules<'c> {
    consensus: &'c ConsensusConfig,
    /// Whether the visit is closed early.
    exhausted: bool,
}

impl<'c> Rules<'c> {
    fn method(self, agreed: bool) -> ConsensusMethod {
        if agreed {
            ConsensusMethod::Agreement(self.consensus.on_agreement.method)
        } else {
            ConsensusMethod::Disagreement(self.consensus.on_disagreement.strategy)
        }
    }

    /// The method for one field of a record; for any other answer, that of the verdict.
    fn method_of_field(
        self,
        question: &Question,
        agreement: &Agreement,
        verdict: &Verdict,
        path: &str,
    ) -> ConsensusMethod {
        let of_field = agreement.fields.iter().find(|field| field.field == path);
        match (question.mode(), of_field) {
            (Some(FieldMode::FieldByField), Some(field)) => self.method(field.agreement.agreed),
            (Some(_) | None, _) => verdict.method,
        }
    }

    /// Whether the method can find a value. The others leave it to an adjudicator.
    fn finds(self, method: ConsensusMethod) -> bool {
        match method {
            ConsensusMethod::Agreement(_) => true,
            ConsensusMethod::Disagreement(strategy) => self.vote_on(strategy).is_some(),
            // The posterior has a rule of its own, which does not use the agreement.
            ConsensusMethod::Posterior(_) => false,
        }
    }

    /// How a strategy votes on disagreement, if it does.
    fn vote_on(self, strategy: DisagreementStrategy) -> Option<AgreementMethod> {
        match strategy {
            DisagreementStrategy::MajorityVote => Some(AgreementMethod::MajorityVote),
            DisagreementStrategy::WeightedVote => Some(AgreementMethod::WeightedVote),
            DisagreementStrategy::Adjudication | DisagreementStrategy::Escalate => None,
            // The method that decides if nobody else may be asked.
            DisagreementStrategy::AdditionalAnnotators => {
                match self.consensus.on_disagreement.fallback? {
                    Fallback::MajorityVote => Some(AgreementMethod::MajorityVote),
                    Fallback::WeightedVote => Some(AgreementMethod::WeightedVote),
                    Fallback::Adjudication | Fallback::Escalate => None,
                }
            }
        }
    }

    /// The rule of a method. One that finds no value counts as a majority vote, which says whether
    /// the answers are tied and what is in dispute.
    fn rule(self, method: ConsensusMethod, weights: Option<&'c [f64]>) -> Rule<'c> {
        let method = match method {
            ConsensusMethod::Agreement(method) => method,
            ConsensusMethod::Disagreement(strategy) => self.vote_on(strategy).unwrap_or_default(),
            ConsensusMethod::Posterior(_) => AgreementMethod::default(),
        };
        Rule {
            method,
            weights,
            weights_break_ties: self.consensus.tie_breaker == TieBreaker::QualityWeighted,
        }
    }

    fn resolved_by(self, method: ConsensusMethod, united: &United) -> ResolvedBy {
        if self.exhausted {
            return ResolvedBy::Exhausted;
        }
        if united.weighted {
            return ResolvedBy::WeightedVote;
        }
        match method {
            ConsensusMethod::Agreement(method) => match method {
                AgreementMethod::Unanimous => ResolvedBy::Unanimous,
                AgreementMethod::MostVotes => ResolvedBy::MostVotes,
                AgreementMethod::Median => ResolvedBy::Median,
                AgreementMethod::Mean => ResolvedBy::Mean,
                AgreementMethod::Medoid => ResolvedBy::Medoid,
                AgreementMethod::Borda => ResolvedBy::Borda,
                AgreementMethod::MajorityVote | AgreementMethod::WeightedVote => {
                    ResolvedBy::MajorityVote
                }
            },
            ConsensusMethod::Disagreement(_) | ConsensusMethod::Posterior(_) => {
                ResolvedBy::MajorityVote
            }
        }
    }
}

/// The weights of a visit's annotators: one set for each field of a record, else one, under the
/// empty path.
struct Weights {
    of: Vec<(String, WeightsUsed, Vec<f64>)>,
}

impl Weights {
    fn of(
        context: &ExecutionContext<'_>,
        consensus: &ConsensusConfig,
        compared: ComparedVisit<'_>,
        given: &GivenAnswers<'_>,
    ) -> Self {
        if !weighs_votes(consensus) {
            return Self { of: Vec::new() };
        }
        let keys = ModelKey::of_question(&context.workflow.id, compared.step, compared.question);
        let given = given.with_annotations();
        let people = given.map(|(given, _)| (given.user_id, given.group.as_deref()));
        let people: Vec<_> = people.collect();
        let item = (context.state.task_id, compared.visit.number);
        let of = keys.into_iter().filter_map(|(key, path)| {
            let used = context.annotators.weights(&key, item, &people)?;
            let weight = |(user, _): &(UserId, _)| {
                let known = used.annotators.iter().find(|known| known.user_id == *user);
                known.map_or(0.0, |known| known.weight)
            };
            let weights = people.iter().map(weight).collect();
            Some((path.unwrap_or_default(), used, weights))
        });
        Self { of: of.collect() }
    }

    /// The weights of the people, in the order of their answers.
    fn of_field(&self, path: &str) -> Option<&[f64]> {
        let found = self.of.iter().find(|(of, _, _)| of == path);
        found.map(|(_, _, weights)| weights.as_slice())
    }

    /// The weights as the event records them.
    fn used(&self, path: &str) -> Option<WeightsUsed> {
        let found = self.of.iter().find(|(of, _, _)| of == path);
        found.map(|(_, used, _)| used.clone())
    }
}

/// What is agreed and what is disputed. Fields without a winner are always listed; what is agreed
/// is given if an adjudicator is asked for the rest only.
fn left_over(
    consensus: &ConsensusConfig,
    question: &Question,
    agreement: &Agreement,
    united: &United,
    found: bool,
) -> (Option<Value>, Option<Value>) {
    if found {
        let disputed = united.disputed.iter().cloned().map(Value::String);
        let disputed: Vec<Value> = disputed.collect();
        return (None, (!disputed.is_empty()).then_some(disputed.into()));
    }
    if !consensus.asks_disputed_only() {
        return (None, None);
    }
    question.settled(agreement, united).unzip()
}

/// The comparison of each field of a record.
fn fields(
    rules: &Rules<'_>,
    question: &Question,
    agreement: &Agreement,
    united: &United,
    verdict: &Verdict,
    weights: &Weights,
    given: &GivenAnswers<'_>,
) -> Vec<FieldCalculated> {
    let whole = given.whole();
    let mut found = Vec::new();
    for field in question.fields() {
        let of_field = agreement.fields.iter().find(|of| of.field == field.path);
        let Some(measured) = of_field.map(|of_field| &of_field.agreement) else {
            continue;
        };
        let method = rules.method_of_field(question, agreement, verdict, field.path);
        let of_field = united.fields.iter().find(|of| of.field == field.path);
        let nothing = United::default();
        let joined = of_field.map_or(&nothing, |of_field| &of_field.united);
        let value = joined.value.clone().filter(|_| rules.finds(method));
        let answers = question.answers_to(field.path, &whole);
        let of_people = weights.of_field(field.path).map(|weights| {
            let place = |place: &u32| whole.iter().position(|(at, _)| at == place);
            let weight = |(at, _): &(u32, &Answer)| weights[place(at).unwrap_or(0)];
            answers.iter().map(weight).collect::<Vec<f64>>()
        });
        let votes = votes(&answers, of_people.as_deref());
        found.push(FieldCalculated {
            known: known_answers(field.question, &votes),
            field: question.path_of(field.path),
            metric: field.question.metric(),
            level: field.question.level(),
            agreement: measured.agreement,
            note: measured.note.clone().or_else(|| joined.note.clone()),
            threshold: field.question.threshold(),
            weight: field.weight,
            units: measured.units,
            pairs: measured.pairs,
            agreed: measured.agreed,
            method,
            votes,
            tied: joined.tied,
            resolved_by: value.as_ref().map(|_| rules.resolved_by(method, joined)),
            value,
            weights: weights.used(field.path),
        });
    }
    found
}

/// The value of one person's data: the answer in it, laid over what is already agreed if the person
/// was asked for the rest only. Data that another revision accepted keep what stands at the
/// answer's place.
pub(super) fn value_of(
    question: &Question,
    data: &Value,
    agreed: Option<&Value>,
    input: &Value,
) -> Option<Value> {
    let Ok(answer) = question.read(data, input) else {
        return crate::answer::value_at(data, question.field()).cloned();
    };
    let value = match agreed {
        Some(agreed) => question.lay_over(agreed, answer.json(), input),
        None => question.value_of(&answer, input),
    };
    Some(value)
}
