//! From what a step says to the question it asks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Number, Value};

use super::{
    Question,
    form::{Exact, Form},
    kinds::{
        Any, Category, Each, Field, Number as NumberKind, Ordinal, Outline, Ranking, Record,
        Regions, Set, Shape, Text, Unit, Values, ValuesFault,
    },
};
use crate::{
    config::{
        AnswerConfig, AnswerField, AnswerKind, BoxFormat, ConsensusConfig, DistanceWeights,
        FieldConsensus, FieldMode, Level, Metric, MissingField, StepConfig,
    },
    expression::Expression,
    limits::{ANSWER_VALUES_MAX, FIELDS_MAX},
};

/// Overlap from which two regions are the same one, where nothing is said.
const MIN_IOU: f64 = 0.5;
/// Share of the votes that a member of a set needs more than, where nothing is said.
const SHARE: f64 = 0.5;

/// What a step says about its question, in all the places where it can.
#[derive(Clone, Debug, Default)]
pub struct Asked<'a> {
    /// `answer` of the step.
    pub answer: Option<&'a AnswerConfig>,
    /// `field` of the step.
    pub field: Option<&'a str>,
    /// `completion.classes`.
    pub classes: Option<&'a [Value]>,
    /// `consensus` of the step, or the like of another.
    pub comparison: Option<Comparison<'a>>,
}

/// How answers are compared, as `consensus` says it.
#[derive(Clone, Debug, Default)]
pub struct Comparison<'a> {
    /// Where the answer is.
    pub field: Option<&'a str>,
    /// What measures agreement, where it is said.
    pub metric: Option<Metric>,
    /// Level of measurement, where it is said.
    pub level: Option<Level>,
    /// What disagreement weighs by its distance.
    pub weights: Option<DistanceWeights>,
    /// Agreement at which people agree; 1 where it is not said.
    pub threshold: Option<f64>,
    /// Metric, threshold and weight of single fields.
    pub per_field: Option<&'a BTreeMap<String, FieldConsensus>>,
    /// How fields join into one verdict.
    pub mode: Option<FieldMode>,
}

impl<'a> From<&'a ConsensusConfig> for Comparison<'a> {
    fn from(consensus: &'a ConsensusConfig) -> Self {
        Self {
            field: consensus.field.as_deref(),
            metric: consensus.metric,
            level: consensus.level,
            weights: consensus.weights,
            threshold: Some(consensus.threshold),
            per_field: consensus.per_field.as_ref(),
            mode: consensus.mode,
        }
    }
}

impl StepConfig {
    /// What the step asks people for.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with what it says, as [`Question::resolve`].
    pub fn question(&self) -> Result<Question, Vec<QuestionFault>> {
        let classes = self.completion.as_ref().and_then(|c| c.classes.as_deref());
        Question::resolve(&Asked {
            answer: self.answer.as_ref(),
            field: self.field.as_deref(),
            classes,
            comparison: self.consensus.as_ref().map(Comparison::from),
        })
    }

    /// What a comparison by `consensus` asks of the answers to this step. A `field` or `per_field`
    /// of its own stands for another question about the same data.
    ///
    /// # Errors
    ///
    /// As [`StepConfig::question`].
    pub fn question_compared_by(
        &self,
        consensus: &ConsensusConfig,
    ) -> Result<Question, Vec<QuestionFault>> {
        let comparison = Comparison::from(consensus);
        if comparison.field.is_some() || comparison.per_field.is_some() {
            return Question::resolve(&Asked {
                comparison: Some(comparison),
                ..Asked::default()
            });
        }
        let of_consensus = || self.consensus.as_ref()?.field.as_deref();
        Question::resolve(&Asked {
            answer: self.answer.as_ref(),
            field: self.field.as_deref().or_else(of_consensus),
            classes: self.completion.as_ref().and_then(|c| c.classes.as_deref()),
            comparison: Some(comparison),
        })
    }
}

/// What is wrong with a question, or odd about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {message}")]
pub struct QuestionFault {
    /// Its kind.
    pub code: FaultCode,
    /// Where in the step, as `answer.fields.codes.metric`; of two keys at odds, the one that gives way.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub suggestion: Option<String>,
}

/// Kinds of faults; the last four are no more than odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultCode {
    /// Two keys that say different things.
    ConflictingKeys,
    /// A value that means nothing here.
    InvalidValue,
    /// A number out of bounds.
    OutOfRange,
    /// A key that is needed.
    MissingKey,
    /// A key of another kind of answer.
    MisplacedKey,
    /// A condition that cannot be asked.
    BadExpression,
    /// A threshold that so many people cannot reach exactly.
    OddThreshold,
    /// Unlike fields in one coefficient.
    PooledFields,
    /// A value that YAML reads as a number among texts.
    NumberLikeValue,
    /// An ordinal answer whose scale is not listed.
    UnorderedScale,
}

impl FaultCode {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConflictingKeys => "conflicting_keys",
            Self::InvalidValue => "invalid_value",
            Self::OutOfRange => "out_of_range",
            Self::MissingKey => "missing_key",
            Self::MisplacedKey => "misplaced_key",
            Self::BadExpression => "bad_expression",
            Self::OddThreshold => "odd_threshold",
            Self::PooledFields => "pooled_fields",
            Self::NumberLikeValue => "number_like_value",
            Self::UnorderedScale => "unordered_scale",
        }
    }
}

#[derive(Default)]
struct Faults(Vec<QuestionFault>);

impl Faults {
    fn add(
        &mut self,
        code: FaultCode,
        path: impl Into<String>,
        message: impl Into<String>,
        suggestion: Option<String>,
    ) {
        self.0.push(QuestionFault {
            code,
            path: path.into(),
            message: message.into(),
            suggestion,
        });
    }
}

/// What is said about one answer: of the step, or of a field.
#[derive(Clone, Default)]
struct Said<'a> {
    /// Path of the keys of `answer`.
    at: String,
    /// Path of the keys of `consensus`.
    compared_at: String,
    kind: Option<AnswerKind>,
    values: Option<&'a [Value]>,
    values_at: String,
    min: Option<&'a Number>,
    max: Option<&'a Number>,
    tolerance: Option<f64>,
    share: Option<f64>,
    tag: Option<&'a str>,
    text: Option<&'a str>,
    compare: &'a [String],
    format: Option<BoxFormat>,
    min_iou: Option<f64>,
    metric: Option<Metric>,
    level: Option<Level>,
    weights: Option<DistanceWeights>,
    threshold: f64,
}

impl Question {
    /// What a step asks for. `field`, `consensus.field`, `completion.classes` and `consensus.per_field`
    /// are short forms of `answer`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it; two keys that say different things are `conflicting_keys`.
    pub fn resolve(asked: &Asked<'_>) -> Result<Self, Vec<QuestionFault>> {
        let mut faults = Faults::default();
        let question = question(asked, &mut faults);
        match question {
            Some(question) if faults.0.is_empty() => Ok(question),
            _ => Err(faults.0),
        }
    }

    /// What is odd about the question, of so many people.
    pub fn warnings(&self, people: Option<u32>) -> Vec<QuestionFault> {
        let mut faults = Faults::default();
        self.warn("answer", people, &mut faults);
        for field in self.fields() {
            let at = format!("answer.fields.{}", field.path);
            // Where only the mean over the fields has to reach a threshold, those of fields decide nothing.
            let people = people.filter(|_| self.mode() != Some(FieldMode::Weighted));
            field.question.warn(&at, people, &mut faults);
        }
        faults.0
    }

    fn warn(&self, at: &str, people: Option<u32>, faults: &mut Faults) {
        let unordered = match &self.shape {
            Shape::Ordinal(kind) => kind.values.is_none(),
            Shape::Each(each) => {
                matches!(&each.unit, Unit::Ordinal(kind) if kind.values.is_none())
            }
            _ => false,
        };
        if unordered {
            faults.add(
                FaultCode::UnorderedScale,
                at,
                "an ordinal answer without `values`: only numbers have an order, and how far apart two are is not known",
                Some("list the scale in `values`, from low to high".to_owned()),
            );
        }
        let values = self.values().unwrap_or_default();
        if values.iter().any(Value::is_string) {
            for (index, value) in values.iter().enumerate().filter(|(_, v)| !v.is_string()) {
                faults.add(
                    FaultCode::NumberLikeValue,
                    format!("{at}.values[{index}]"),
                    format!("{value} is no text, and stands among texts"),
                    Some(format!(
                        "write \"{value}\" in quotation marks where a text is meant"
                    )),
                );
            }
        }
        let several = matches!(self.shape, Shape::Any(_) | Shape::Each(_));
        if self.metric.corrects_for_chance() && several && self.field.is_none() {
            faults.add(
                FaultCode::PooledFields,
                at,
                format!(
                    "the answer is all of `annotation.data`, and {} takes its fields as judgements \
                     of one kind",
                    self.metric.as_str()
                ),
                Some(
                    "compare unlike fields one by one: `answer: { kind: record, fields: … }`"
                        .to_owned(),
                ),
            );
        }
        let below_one = self.threshold > 0.0 && self.threshold < 1.0;
        if below_one && matches!(self.shape, Shape::Any(_)) && self.field.is_none() {
            faults.add(
                FaultCode::OddThreshold,
                at,
                format!(
                    "the answer is all of `annotation.data`: people can agree to {} on its parts, \
                     while the whole answers differ and none has most votes, which is a disagreement",
                    self.threshold
                ),
                Some("name the `field` that is compared, or ask for a record: `answer: { kind: record, fields: … }`".to_owned()),
            );
        }
        if below_one && matches!(self.shape, Shape::Text(_)) && people == Some(2) {
            faults.add(
                FaultCode::OddThreshold,
                at,
                format!(
                    "two people can agree to {} with different texts, of which none is more \
                     like the other: there is no value then",
                    self.threshold
                ),
                Some(
                    "ask three people, or let an adjudicator follow where there is no value"
                        .to_owned(),
                ),
            );
        }
        let one_value = matches!(self.shape, Shape::Category(_))
            || (matches!(self.shape, Shape::Any(_)) && self.field.is_some());
        let by_heads = one_value && self.metric == Metric::PercentAgreement;
        if let Some(people) = people.filter(|people| by_heads && *people > 2) {
            let reachable = Self::reachable_agreements(people);
            // One a little below what can be reached means that.
            let near = |value: &f64| (-0.005..0.05).contains(&(value - self.threshold));
            if self.threshold < 1.0 && self.threshold > 0.0 && !reachable.iter().any(near) {
                let values: Vec<String> = reachable.iter().map(|v| format!("{v:.3}")).collect();
                faults.add(
                    FaultCode::OddThreshold,
                    at,
                    format!(
                        "{people} people who give one value each cannot agree to {}: they reach {}",
                        self.threshold,
                        values.join(", ")
                    ),
                    Some("agreement is the share of agreeing pairs, not of people: choose one of these".to_owned()),
                );
            }
        }
    }
}

fn question(asked: &Asked<'_>, faults: &mut Faults) -> Option<Question> {
    let nothing = AnswerConfig::default();
    let answer = asked.answer.unwrap_or(&nothing);
    let comparison = asked.comparison.clone().unwrap_or_default();
    let field = field(asked, answer, &comparison, faults);
    refuse_place(asked, &comparison, faults);
    let is_record = answer.fields.is_some()
        || comparison.per_field.is_some()
        || answer.kind == Some(AnswerKind::Record);
    let threshold = comparison.threshold.unwrap_or(1.0);
    let said = Said {
        at: "answer".to_owned(),
        compared_at: "consensus".to_owned(),
        kind: answer.kind,
        values: answer.values.as_deref().or(asked.classes),
        values_at: if answer.values.is_some() {
            "answer.values".to_owned()
        } else {
            "completion.classes".to_owned()
        },
        min: answer.min.as_ref(),
        max: answer.max.as_ref(),
        tolerance: answer.tolerance,
        share: answer.share,
        tag: answer.tag.as_deref(),
        text: answer.text.as_deref(),
        compare: &answer.compare,
        format: answer.format,
        min_iou: answer.min_iou,
        metric: comparison.metric,
        level: comparison.level,
        weights: comparison.weights,
        threshold,
    };
    if let (Some(values), Some(classes)) = (&answer.values, asked.classes) {
        let set = |values: &[Value]| values.iter().map(Form::of).collect::<BTreeSet<_>>();
        if set(values) != set(classes) {
            faults.add(
                FaultCode::ConflictingKeys,
                "completion.classes",
                "`completion.classes` and `answer.values` list different answers",
                Some("keep `answer.values`".to_owned()),
            );
        }
    }
    if !is_record {
        if comparison.mode.is_some() {
            faults.add(
                FaultCode::MisplacedKey,
                "consensus.mode",
                "`mode` joins the fields of a record, and this answer is none",
                Some("remove `mode`".to_owned()),
            );
        }
        let question = one(&said, faults)?;
        return Some(Question { field, ..question });
    }
    record(&said, field, (answer, &comparison), faults)
}

/// The one place of the answer.
fn field(
    asked: &Asked<'_>,
    answer: &AnswerConfig,
    comparison: &Comparison<'_>,
    faults: &mut Faults,
) -> Option<String> {
    let named = [
        ("answer.field", answer.field.as_deref()),
        ("field", asked.field),
        ("consensus.field", comparison.field),
    ];
    let mut found: Option<(&str, &str)> = None;
    for (key, path) in named {
        let Some(path) = path else { continue };
        check_path(key, path, faults);
        let path = path.strip_prefix("$.").unwrap_or(path);
        match found {
            None => found = Some((key, path)),
            Some((first, known)) if known != path => {
                faults.add(
                    FaultCode::ConflictingKeys,
                    key,
                    format!(
                        "`{first}` says that the answer is `{known}`, `{key}` that it is `{path}`"
                    ),
                    Some(format!("keep `{first}` and remove `{key}`")),
                );
            }
            Some(_) => {}
        }
    }
    found.map(|(_, path)| path.to_owned())
}

/// Fields of `per_field` are paths in all of the data, so no other key can name a place for them.
fn refuse_place(asked: &Asked<'_>, comparison: &Comparison<'_>, faults: &mut Faults) {
    if comparison.per_field.is_some() && (asked.field.is_some() || comparison.field.is_some()) {
        let place = if asked.field.is_some() {
            "field"
        } else {
            "consensus.per_field"
        };
        faults.add(
            FaultCode::ConflictingKeys,
            place,
            "`field` compares one value and `per_field` several",
            Some("name every field under `per_field`, or remove it".to_owned()),
        );
    }
}

fn check_path(key: &str, path: &str, faults: &mut Faults) {
    let plain = path.strip_prefix("$.").unwrap_or(path);
    if plain.split('.').any(|part| part.trim().is_empty()) {
        let hint = "write keys with dots between them, as `label` or `answer.label`".to_owned();
        let message = format!("`{path}` is no path of keys");
        faults.add(FaultCode::InvalidValue, key, message, Some(hint));
    } else if plain.contains(['[', ']']) {
        let dotted = plain.replace('[', ".").replace(']', "");
        faults.add(
            FaultCode::InvalidValue,
            key,
            format!("`{path}` is no path: elements of lists are named with a dot, too"),
            Some(format!("write `{dotted}`")),
        );
    }
}

fn record(
    said: &Said<'_>,
    field: Option<String>,
    (answer, comparison): (&AnswerConfig, &Comparison<'_>),
    faults: &mut Faults,
) -> Option<Question> {
    if let Some(kind) = answer.kind.filter(|kind| *kind != AnswerKind::Record) {
        let key = if answer.fields.is_some() {
            "answer.fields"
        } else {
            "consensus.per_field"
        };
        faults.add(
            FaultCode::ConflictingKeys,
            key,
            format!(
                "`{key}` makes a record, and `answer.kind` says `{}`",
                kind.as_str()
            ),
            Some("remove one of the two".to_owned()),
        );
    }
    misplaced(said, AnswerKind::Record, faults);
    let mut fields: BTreeMap<&str, Said<'_>> = BTreeMap::new();
    let mut conditions: BTreeMap<&str, &AnswerField> = BTreeMap::new();
    let mut weights: BTreeMap<&str, f64> = BTreeMap::new();
    match (&answer.fields, comparison.per_field) {
        (Some(_), Some(_)) => faults.add(
            FaultCode::ConflictingKeys,
            "consensus.per_field",
            "`answer.fields` and `consensus.per_field` both say what the fields are",
            Some(
                "keep `answer.fields`: it takes `metric`, `threshold` and `weight`, too".to_owned(),
            ),
        ),
        (None, None) => faults.add(
            FaultCode::MissingKey,
            "answer",
            "a record needs `fields`",
            Some("add `fields: { severity: { kind: ordinal, … } }`".to_owned()),
        ),
        (Some(own), None) => {
            for (path, own) in own {
                let at = format!("answer.fields.{path}");
                check_path(&at, path, faults);
                weights.insert(path, own.weight.unwrap_or(1.0));
                conditions.insert(path, own);
                fields.insert(path, field_said(&at, own, said));
            }
        }
        (None, Some(own)) => {
            for (path, own) in own {
                let at = format!("consensus.per_field.{path}");
                check_path(&at, path, faults);
                weights.insert(path, own.weight);
                let field = Said {
                    compared_at: at.clone(),
                    at,
                    metric: own.metric.or(said.metric),
                    level: own.level.or(said.level),
                    weights: own.weights.or(said.weights),
                    threshold: own.threshold.unwrap_or(said.threshold),
                    ..Said::default()
                };
                fields.insert(path, field);
            }
        }
    }
    let named = answer.fields.is_some() || comparison.per_field.is_some();
    if named && (fields.is_empty() || fields.len() > FIELDS_MAX) {
        let at = if answer.fields.is_some() {
            "answer.fields"
        } else {
            "consensus.per_field"
        };
        let message = format!(
            "{} fields; there may be from 1 to {FIELDS_MAX}",
            fields.len()
        );
        faults.add(FaultCode::OutOfRange, at, message, None);
        return None;
    }
    let resolved: Vec<Option<Field>> = fields
        .into_iter()
        .map(|(path, said)| {
            let own = conditions.get(path).copied();
            let weight = weights.get(path).copied().unwrap_or(1.0);
            if !(weight > 0.0 && weight.is_finite()) {
                let at = format!("{}.weight", said.at);
                faults.add(FaultCode::OutOfRange, at, "a weight is above 0", None);
            }
            let when = own.and_then(|own| condition(&said.at, own, faults));
            let question = one(&said, faults)?;
            Some(Field {
                path: path.strip_prefix("$.").unwrap_or(path).to_owned(),
                question: Question {
                    field: Some(path.to_owned()),
                    ..question
                },
                weight,
                missing: own
                    .and_then(|own| own.missing)
                    .unwrap_or(MissingField::Refuse),
                when,
            })
        })
        .collect();
    let fields = resolved.into_iter().collect::<Option<Vec<Field>>>()?;
    Some(Question {
        field,
        shape: Shape::Record(Record {
            fields,
            mode: comparison.mode.unwrap_or_default(),
        }),
        metric: said.metric.unwrap_or(Metric::PercentAgreement),
        level: Level::Nominal,
        weights: None,
        threshold: said.threshold,
    })
}

/// What a field says, with what it takes from the block where it names none itself and says no kind.
fn field_said<'a>(at: &str, own: &'a AnswerField, block: &Said<'_>) -> Said<'a> {
    let inherits = own.kind.is_none() && own.values.is_none();
    Said {
        at: at.to_owned(),
        compared_at: at.to_owned(),
        kind: own.kind,
        values: own.values.as_deref(),
        values_at: format!("{at}.values"),
        min: own.min.as_ref(),
        max: own.max.as_ref(),
        tolerance: own.tolerance,
        share: own.share,
        tag: own.tag.as_deref(),
        text: own.text.as_deref(),
        compare: &own.compare,
        format: own.format,
        min_iou: own.min_iou,
        metric: own.metric.or(block.metric.filter(|_| inherits)),
        level: own.level.or(block.level.filter(|_| inherits)),
        weights: own.weights.or(block.weights.filter(|_| inherits)),
        threshold: own.threshold.unwrap_or(block.threshold),
    }
}

fn condition(at: &str, own: &AnswerField, faults: &mut Faults) -> Option<Expression> {
    let source = own.when.as_deref()?;
    let at = format!("{at}.when");
    match Expression::compile_bool(source) {
        Ok(expression) => {
            let known = ["annotation", "input"];
            let foreign = expression.variables().iter().find(|v| !known.contains(v));
            if let Some(foreign) = foreign {
                faults.add(
                    FaultCode::BadExpression,
                    at,
                    format!("`when` sees `annotation` and `input`, not `{foreign}`"),
                    None,
                );
                return None;
            }
            Some(expression)
        }
        Err(error) => {
            let suggestion = error.suggestion().map(str::to_owned);
            faults.add(FaultCode::BadExpression, at, error.to_string(), suggestion);
            None
        }
    }
}

/// The question of one answer that is no record.
fn one(said: &Said<'_>, faults: &mut Faults) -> Option<Question> {
    let before = faults.0.len();
    let kind = said.kind.unwrap_or_else(|| implied_kind(said));
    // A level without a kind asks for several judgements.
    let each = said.kind.is_none() && judges_each(said);
    if kind == AnswerKind::Record {
        let message = "a field of a record is no record itself";
        let hint = "name the fields inside by their paths: `address.street`".to_owned();
        faults.add(
            FaultCode::InvalidValue,
            format!("{}.kind", said.at),
            message,
            Some(hint),
        );
        return None;
    }
    misplaced(said, kind, faults);
    bounds(said, faults);
    let shape = shape(said, kind, faults)?;
    let shape = match (each, shape) {
        (true, Shape::Ordinal(kind)) => Shape::Each(Each {
            unit: Unit::Ordinal(kind),
        }),
        (true, Shape::Number(kind)) => Shape::Each(Each {
            unit: Unit::Number(kind),
        }),
        (_, shape) => shape,
    };
    let metric = metric(said, kind, &shape, faults);
    let level = level(said, kind, faults);
    if said.weights.is_some() && metric != Metric::CohenKappa {
        faults.add(
            FaultCode::MisplacedKey,
            format!("{}.weights", said.compared_at),
            "`weights` goes with `metric: cohen_kappa`",
            None,
        );
    }
    (faults.0.len() == before).then_some(Question {
        field: None,
        shape,
        metric,
        level,
        weights: said.weights,
        threshold: said.threshold,
    })
}

/// The kind of answer that what is said implies.
fn implied_kind(said: &Said<'_>) -> AnswerKind {
    let by_metric = said.metric.and_then(|metric| match metric {
        Metric::SpanIou | Metric::SpanF1 => Some(AnswerKind::Spans),
        Metric::SegmentIou | Metric::SegmentF1 => Some(AnswerKind::Segments),
        Metric::BoxIou => Some(AnswerKind::Boxes),
        Metric::PolygonIou => Some(AnswerKind::Polygons),
        Metric::TokenF1 | Metric::EditSimilarity | Metric::RougeL => Some(AnswerKind::Text),
        Metric::Jaccard | Metric::Masi => Some(AnswerKind::Set),
        Metric::KendallTau => Some(AnswerKind::Ranking),
        Metric::OrdinalAgreement => Some(AnswerKind::Ordinal),
        Metric::Within => Some(AnswerKind::Number),
        Metric::PercentAgreement
        | Metric::CohenKappa
        | Metric::FleissKappa
        | Metric::KrippendorffAlpha
        | Metric::GwetAc1 => None,
    });
    by_metric.unwrap_or(match said.level {
        Some(Level::Ordinal) => AnswerKind::Ordinal,
        Some(Level::Interval | Level::Ratio) => AnswerKind::Number,
        Some(Level::Nominal) | None if said.weights.is_some() => AnswerKind::Ordinal,
        Some(Level::Nominal) | None if said.values.is_some() => AnswerKind::Category,
        Some(Level::Nominal) | None => AnswerKind::Any,
    })
}

fn judges_each(said: &Said<'_>) -> bool {
    let level = matches!(
        said.level,
        Some(Level::Ordinal | Level::Interval | Level::Ratio)
    );
    level || said.weights.is_some()
}

/// Keys that do not go with a kind.
fn misplaced(said: &Said<'_>, kind: AnswerKind, faults: &mut Faults) {
    use AnswerKind::{Boxes, Category, Number, Ordinal, Ranking, Set, Spans};
    let number = kind == Number;
    let regions = kind.is_regions();
    let takes_values = matches!(kind, Category | Ordinal | Set | Ranking) || regions;
    let given = [
        ("values", said.values.is_some(), takes_values),
        ("min", said.min.is_some(), number),
        ("max", said.max.is_some(), number),
        ("tolerance", said.tolerance.is_some(), number),
        ("share", said.share.is_some(), kind == Set),
        ("tag", said.tag.is_some(), regions),
        ("compare", !said.compare.is_empty(), regions),
        ("min_iou", said.min_iou.is_some(), regions),
        ("text", said.text.is_some(), kind == Spans),
        ("format", said.format.is_some(), kind == Boxes),
    ];
    for (key, given, takes) in given {
        if given && !takes {
            let path = if key == "values" {
                said.values_at.clone()
            } else {
                format!("{}.{key}", said.at)
            };
            let message = format!(
                "`{key}` does not go with an answer of kind `{}`",
                kind.as_str()
            );
            faults.add(
                FaultCode::MisplacedKey,
                path,
                message,
                Some(format!("remove `{key}`")),
            );
        }
    }
}

/// Numbers that are out of bounds.
fn bounds(said: &Said<'_>, faults: &mut Faults) {
    let mut check = |key: &str, at: &str, fits: bool, must: &str| {
        if !fits {
            let message = format!("`{key}` must be {must}");
            faults.add(FaultCode::OutOfRange, format!("{at}.{key}"), message, None);
        }
    };
    let least = |value: f64| value >= 0.0 && value.is_finite();
    let at = &said.at;
    check(
        "tolerance",
        at,
        said.tolerance.is_none_or(least),
        "0 or more",
    );
    let share = said.share.is_none_or(|share| (0.0..1.0).contains(&share));
    check("share", at, share, "from 0 to below 1");
    let iou = said.min_iou.is_none_or(|iou| iou > 0.0 && iou <= 1.0);
    check("min_iou", at, iou, "above 0 and at most 1");
    let threshold = (-1.0..=1.0).contains(&said.threshold);
    check("threshold", &said.compared_at, threshold, "from -1 to 1");
    if let (Some(min), Some(max)) = (said.min, said.max) {
        check(
            "min",
            at,
            Exact::of(min) <= Exact::of(max),
            "no greater than `max`",
        );
    }
}

fn values(said: &Said<'_>, faults: &mut Faults) -> Option<Values> {
    let list = said.values?;
    let at = &said.values_at;
    match Values::new(list) {
        Ok(values) => return Some(values),
        Err(ValuesFault::Empty) => {
            faults.add(
                FaultCode::OutOfRange,
                at,
                "there must be a value at least",
                None,
            );
        }
        Err(ValuesFault::TooMany) => {
            let message = format!(
                "{} values; at most {ANSWER_VALUES_MAX} are allowed",
                list.len()
            );
            faults.add(FaultCode::OutOfRange, at, message, None);
        }
        Err(ValuesFault::NotScalar(index)) => faults.add(
            FaultCode::InvalidValue,
            format!("{at}[{index}]"),
            "a value is a text, a number, true or false",
            None,
        ),
        Err(ValuesFault::Twice(index)) => faults.add(
            FaultCode::InvalidValue,
            format!("{at}[{index}]"),
            format!("the value {} is listed twice", list[index]),
            Some("remove one of the two".to_owned()),
        ),
    }
    None
}

fn shape(said: &Said<'_>, kind: AnswerKind, faults: &mut Faults) -> Option<Shape> {
    let values = values(said, faults);
    Some(match kind {
        AnswerKind::Any | AnswerKind::Record => Shape::Any(Any),
        AnswerKind::Category => Shape::Category(Category { values }),
        AnswerKind::Ordinal => Shape::Ordinal(Ordinal { values }),
        AnswerKind::Number => {
            let zero = Number::from(0_u8);
            // On a ratio scale nothing is below zero.
            let ratio = said.level == Some(Level::Ratio);
            let above = |min: &&Number| !ratio || Exact::of(min) > Exact::of(&zero);
            let min = said.min.filter(above).cloned();
            Shape::Number(NumberKind {
                min: min.or_else(|| ratio.then_some(zero)),
                max: said.max.cloned(),
                tolerance: said.tolerance.unwrap_or(0.0),
            })
        }
        AnswerKind::Set => Shape::Set(Set {
            values,
            share: said.share.unwrap_or(SHARE),
        }),
        AnswerKind::Ranking => {
            let Some(values) = values else {
                if said.values.is_none() {
                    let message = "a ranking needs `values`: what is to be ranked";
                    faults.add(FaultCode::MissingKey, &said.at, message, None);
                }
                return None;
            };
            Shape::Ranking(Ranking { values })
        }
        AnswerKind::Text => Shape::Text(Text),
        AnswerKind::Spans => regions(Outline::Spans(text(said, faults)), values, said, faults),
        AnswerKind::Segments => regions(Outline::Segments, values, said, faults),
        AnswerKind::Boxes => {
            let format = said.format.unwrap_or_default();
            regions(Outline::Boxes(format), values, said, faults)
        }
        AnswerKind::Polygons => regions(Outline::Polygons, values, said, faults),
    })
}

/// Path of the text that spans are in.
fn text(said: &Said<'_>, faults: &mut Faults) -> Option<String> {
    let path = said.text?;
    let plain = path.strip_prefix("$.").unwrap_or(path);
    let at = format!("{}.text", said.at);
    check_path(&at, path, faults);
    if !matches!(plain.split('.').next(), Some("input" | "annotation")) {
        faults.add(
            FaultCode::InvalidValue,
            at,
            format!("`{path}` names no text: it begins with `input.`"),
            Some(format!("write `input.{plain}`")),
        );
    }
    Some(plain.to_owned())
}

fn regions(
    outline: Outline,
    values: Option<Values>,
    said: &Said<'_>,
    faults: &mut Faults,
) -> Shape {
    let tag = said.tag.unwrap_or("tag").to_owned();
    let own = outline.keys();
    if own.contains(&tag.as_str()) || tag.is_empty() {
        let message = format!("`{tag}` says where a region is, not what");
        faults.add(
            FaultCode::InvalidValue,
            format!("{}.tag", said.at),
            message,
            None,
        );
    }
    let mut seen = BTreeSet::new();
    for (index, key) in said.compare.iter().enumerate() {
        let problem = if own.contains(&key.as_str()) || *key == tag {
            "is compared in any case"
        } else if !seen.insert(key) {
            "is listed twice"
        } else {
            continue;
        };
        faults.add(
            FaultCode::InvalidValue,
            format!("{}.compare[{index}]", said.at),
            format!("`{key}` {problem}"),
            Some("remove it".to_owned()),
        );
    }
    Shape::Regions(Regions {
        outline,
        tag,
        values,
        compare: said.compare.to_vec(),
        min_iou: said.min_iou.unwrap_or(MIN_IOU),
    })
}

fn metric(said: &Said<'_>, kind: AnswerKind, shape: &Shape, faults: &mut Faults) -> Metric {
    let known = shape.kind().metrics();
    let default = known.first().copied().unwrap_or(Metric::PercentAgreement);
    // Weights by distance are Cohen's.
    let default = if said.weights.is_some() {
        Metric::CohenKappa
    } else {
        default
    };
    let Some(metric) = said.metric else {
        return default;
    };
    if !known.contains(&metric) {
        let names: Vec<String> = known.iter().map(|m| format!("`{}`", m.as_str())).collect();
        faults.add(
            FaultCode::ConflictingKeys,
            format!("{}.metric", said.compared_at),
            format!(
                "`{}` does not measure answers of kind `{}`",
                metric.as_str(),
                kind.as_str()
            ),
            Some(format!("they are measured by {}", names.join(", "))),
        );
    }
    metric
}

fn level(said: &Said<'_>, kind: AnswerKind, faults: &mut Faults) -> Level {
    let fits: &[Level] = match kind {
        AnswerKind::Ordinal => &[Level::Ordinal],
        AnswerKind::Number => &[Level::Interval, Level::Ratio],
        _ => &[Level::Nominal],
    };
    let Some(level) = said.level else {
        return fits[0];
    };
    if !fits.contains(&level) {
        faults.add(
            FaultCode::ConflictingKeys,
            format!("{}.level", said.compared_at),
            format!(
                "`level` contradicts the kind of answer, `{}`",
                kind.as_str()
            ),
            Some("remove `level`: the kind says it".to_owned()),
        );
    }
    level
}
