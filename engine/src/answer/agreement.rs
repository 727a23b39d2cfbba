//! How far several answers agree.

use super::{
    Question,
    ballot::Ballot,
    form::Form,
    kinds::{Field, Record, Shape, Unit, each},
    value::{Answer, Slot},
    work::{TooMuch, Work},
};
use crate::{
    config::{Coefficient, DistanceWeights, FieldMode, Level},
    consensus::{self, ConsensusError, Weighting},
};

/// The agreement of several answers, with how much it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// The agreement; none where it is not defined.
    pub agreement: Option<f64>,
    /// Why it is not defined, or why another measure stands in.
    pub note: Option<String>,
    /// Whether the answers could be compared at all. Agreement that is not defined for sound answers is
    /// no disagreement; what was too much to compare is no agreement.
    pub comparable: bool,
    /// Whether it reaches the threshold of the question; of a record by its mode.
    pub agreed: bool,
    /// Units compared: fields or elements of `any` and of several judgements, else 1.
    pub units: usize,
    /// Pairs compared: of answers where similarity is measured, else of values inside units.
    pub pairs: u64,
    /// The fields of a record, in their order.
    pub fields: Vec<FieldAgreement>,
}

/// The agreement on one field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldAgreement {
    /// Its path inside the record.
    pub field: String,
    /// What it is.
    pub agreement: Agreement,
}

impl Agreement {
    fn undefined(note: String) -> Self {
        Self {
            agreement: None,
            note: Some(note),
            comparable: true,
            agreed: true,
            units: 0,
            pairs: 0,
            fields: Vec::new(),
        }
    }

    fn incomparable(note: String) -> Self {
        Self {
            comparable: false,
            agreed: false,
            ..Self::undefined(note)
        }
    }

    fn judged(mut self, threshold: f64) -> Self {
        self.agreed = self.comparable && reaches(self.agreement, threshold);
        self
    }
}

/// An undefined agreement is no disagreement: one answer, or no variation at all. What is missing by
/// rounding only is not missing.
pub(super) fn reaches(agreement: Option<f64>, threshold: f64) -> bool {
    agreement.is_none_or(|agreement| agreement >= threshold - 1e-12)
}

/// A measured value.
struct Measured {
    agreement: Option<f64>,
    note: Option<String>,
    units: usize,
    pairs: u64,
}

/// Why nothing was measured.
enum Unmeasured {
    Undefined(String),
    Incomparable(String),
}

impl From<TooMuch> for Unmeasured {
    fn from(error: TooMuch) -> Self {
        Self::Incomparable(error.to_string())
    }
}

impl From<ConsensusError> for Unmeasured {
    fn from(error: ConsensusError) -> Self {
        if error.is_undefined() {
            Self::Undefined(error.to_string())
        } else {
            Self::Incomparable(error.to_string())
        }
    }
}

impl Question {
    /// How far answers, one of each person, agree: the mean similarity over all pairs, or the
    /// coefficient that the question names. What a third person answers changes nothing between two.
    ///
    /// A coefficient that corrects for chance needs two units with values; with one the mean similarity
    /// stands in, and the note says so. One answer agrees with nothing: the agreement is not defined. Of
    /// a record it is the mean over its fields, by their weights.
    pub fn agreement(&self, answers: &[&Answer], work: &mut Work) -> Agreement {
        if let Some(record) = self.shape.record() {
            return self.of_record(record, answers, work);
        }
        self.of_answers(answers, 0, work)
    }

    /// `missing`: people who left out the answer where that is one of its own.
    fn of_answers(&self, answers: &[&Answer], missing: usize, work: &mut Work) -> Agreement {
        match answers.len() + missing {
            0 => return Agreement::undefined("nobody has given an answer".to_owned()),
            1 => {
                return Agreement::undefined("one annotation has nothing to agree with".to_owned());
            }
            _ => {}
        }
        let measured = match self.metric.coefficient() {
            Some(coefficient) if missing == 0 => self.coefficient(coefficient, answers, work),
            _ => self.mean_similarity(answers, missing, work),
        };
        match measured {
            Ok(measured) => Agreement {
                agreement: measured.agreement,
                note: measured.note,
                comparable: true,
                agreed: true,
                units: measured.units,
                pairs: measured.pairs,
                fields: Vec::new(),
            }
            .judged(self.threshold),
            Err(Unmeasured::Undefined(note)) => Agreement::undefined(note),
            Err(Unmeasured::Incomparable(note)) => Agreement::incomparable(note),
        }
    }

    fn mean_similarity(
        &self,
        answers: &[&Answer],
        missing: usize,
        work: &mut Work,
    ) -> Result<Measured, Unmeasured> {
        let ballot = Ballot::new(answers, None);
        let pairs_of = |count: usize| (count * count.saturating_sub(1) / 2) as f64;
        let mut sum = pairs_of(missing);
        for (i, one) in ballot.candidates.iter().enumerate() {
            sum += pairs_of(one.count());
            for other in &ballot.candidates[i + 1..] {
                let alike = self.similarity(one.answer(), other.answer(), work)?;
                sum += alike * (one.count() * other.count()) as f64;
            }
        }
        let people = answers.len() + missing;
        Ok(Measured {
            agreement: Some((sum / pairs_of(people)).clamp(0.0, 1.0)),
            note: None,
            units: self.units(answers),
            pairs: (people * (people - 1) / 2) as u64,
        })
    }

    /// Fields or elements that some answer has.
    fn units(&self, answers: &[&Answer]) -> usize {
        if !matches!(self.shape, Shape::Any(_) | Shape::Each(_)) {
            return 1;
        }
        match Layout::of(answers) {
            Layout::Objects => keys(answers).len(),
            Layout::Lists => answers.iter().map(|a| length(a)).max().unwrap_or(0),
            Layout::Whole => 1,
        }
    }

    fn coefficient(
        &self,
        coefficient: Coefficient,
        answers: &[&Answer],
        work: &mut Work,
    ) -> Result<Measured, Unmeasured> {
        // In their own order, so that sums are the same to the last bit whoever came first.
        let mut sorted = answers.to_vec();
        sorted.sort();
        let answers = sorted.as_slice();
        let table = Table::new(answers, work)?;
        if table.comparable() < 2 && !self.has_ends(answers) {
            return self.stand_in(answers, work);
        }
        if self.has_ends(answers) {
            return self.by_pair(coefficient, answers, work);
        }
        let agreement = self.measure(coefficient, &table, work)?;
        Ok(Measured {
            agreement: Some(agreement.value),
            note: None,
            units: agreement.units,
            pairs: agreement.pairs,
        })
    }

    fn stand_in(&self, answers: &[&Answer], work: &mut Work) -> Result<Measured, Unmeasured> {
        let mut measured = self.mean_similarity(answers, 0, work)?;
        measured.note = Some(format!(
            "observed agreement stands in: {} needs at least two units with values",
            self.metric.as_str()
        ));
        Ok(measured)
    }

    /// Whether lists of categories end before others do, which is an answer, too.
    fn has_ends(&self, answers: &[&Answer]) -> bool {
        let first = answers.first().map(|answer| length(answer));
        matches!(self.shape, Shape::Any(_))
            && Layout::of(answers) == Layout::Lists
            && answers.iter().any(|answer| Some(length(answer)) != first)
    }

    /// The mean of the coefficient over pairs of lists, each over the longer of the two: where two have
    /// ended, a third that goes on makes them no more alike.
    fn by_pair(
        &self,
        coefficient: Coefficient,
        answers: &[&Answer],
        work: &mut Work,
    ) -> Result<Measured, Unmeasured> {
        let ballot = Ballot::new(answers, None);
        let (mut sum, mut defined, mut undefined) = (0.0, 0_u64, None);
        let mut units = 0;
        for (i, one) in ballot.candidates.iter().enumerate() {
            for (j, other) in ballot.candidates.iter().enumerate().skip(i) {
                let times = if i == j {
                    one.count() * (one.count() - 1) / 2
                } else {
                    one.count() * other.count()
                };
                if times == 0 {
                    continue;
                }
                let pair = [one.answer(), other.answer()];
                let table = Table::with_ends(&pair, work)?;
                units = units.max(table.columns);
                let value = if table.comparable() < 2 {
                    Ok(self.similarity(pair[0], pair[1], work)?)
                } else {
                    self.measure(coefficient, &table, work)
                        .map(|agreement| agreement.value)
                };
                match value {
                    Ok(value) => {
                        sum += value * times as f64;
                        defined += times as u64;
                    }
                    Err(Unmeasured::Undefined(note)) => undefined = Some(note),
                    Err(error) => return Err(error),
                }
            }
        }
        if defined == 0 {
            let note = undefined.unwrap_or_else(|| "no two lists to compare".to_owned());
            return Err(Unmeasured::Undefined(note));
        }
        Ok(Measured {
            agreement: Some(sum / defined as f64),
            note: Some(format!(
                "lists of different length: the mean of {} over pairs, each over the longer of its two",
                self.metric.as_str()
            )),
            units,
            pairs: defined,
        })
    }

    fn measure(
        &self,
        coefficient: Coefficient,
        table: &Table<'_>,
        work: &mut Work,
    ) -> Result<consensus::Agreement, Unmeasured> {
        let ordinal = match &self.shape {
            Shape::Ordinal(kind) => Some(kind),
            Shape::Each(each) => match &each.unit {
                Unit::Ordinal(kind) => Some(kind),
                Unit::Number(_) => None,
            },
            Shape::Any(_)
            | Shape::Category(_)
            | Shape::Number(_)
            | Shape::Set(_)
            | Shape::Ranking(_)
            | Shape::Text(_)
            | Shape::Regions(_)
            | Shape::Record(_) => None,
        };
        let numbers = matches!(self.shape, Shape::Number(_))
            || matches!(&self.shape, Shape::Each(each) if matches!(each.unit, Unit::Number(_)));
        if numbers {
            let rows = table.numbers();
            return Ok(if self.level == Level::Ratio {
                let distinct = table.categories.len() as u64;
                work.spend(4 * distinct.saturating_mul(distinct))?;
                consensus::krippendorffs_alpha_ratio_detailed(&rows)?
            } else {
                consensus::krippendorffs_alpha_interval_detailed(&rows)?
            });
        }
        let scale = ordinal.and_then(|kind| kind.values.as_ref());
        let codes = table.codes(|form| scale.map(|values| values.position(form)));
        let pairs = (codes.len() * codes.len().saturating_sub(1) / 2) as u64;
        Ok(match coefficient {
            Coefficient::CohenKappa => {
                work.spend(pairs.saturating_mul(16 * (1 + table.columns as u64)))?;
                let weighting = self.weights.map(|weights| match weights {
                    DistanceWeights::Linear => Weighting::Linear,
                    DistanceWeights::Quadratic => Weighting::Quadratic,
                });
                consensus::mean_cohens_kappa(&codes, weighting)?
            }
            Coefficient::FleissKappa => consensus::fleiss_kappa_ratings_detailed(&codes)?,
            Coefficient::GwetAc1 => {
                // Yes and no are two categories, whether anybody says no or not.
                let known = if table.only_booleans() { 2 } else { 0 };
                let categories = table.used().max(known);
                consensus::gwet_ac1_with_categories(&codes, categories)?
            }
            Coefficient::KrippendorffAlpha => {
                if ordinal.is_some() {
                    consensus::krippendorffs_alpha_ordinal_detailed(&codes)?
                } else {
                    consensus::krippendorffs_alpha_nominal_detailed(&codes)?
                }
            }
        })
    }

    fn of_record(&self, record: &Record, answers: &[&Answer], work: &mut Work) -> Agreement {
        let fields: Vec<(&Field, Agreement)> = record
            .fields
            .iter()
            .enumerate()
            .map(|(index, field)| {
                let slots = answers
                    .iter()
                    .filter_map(|answer| answer.slots().get(index));
                let (mut given, mut missing) = (Vec::new(), 0);
                for slot in slots {
                    match slot {
                        Slot::Given(answer) => given.push(answer),
                        Slot::Missing => missing += 1,
                        Slot::Nothing => {}
                    }
                }
                (field, field.question.of_answers(&given, missing, work))
            })
            .collect();
        let defined = || {
            let defined = fields.iter();
            defined.filter_map(|(field, found)| Some((field.weight, found.agreement?)))
        };
        let weights: f64 = defined().map(|(weight, _)| weight).sum();
        let sum: f64 = defined()
            .map(|(weight, agreement)| weight * agreement)
            .sum();
        let agreement = (weights > 0.0).then(|| without_rounding_noise(sum / weights));
        let comparable = fields.iter().all(|(_, found)| found.comparable);
        let agreed = match record.mode {
            FieldMode::AllOrNothing | FieldMode::FieldByField => {
                fields.iter().all(|(_, found)| found.agreed)
            }
            FieldMode::Weighted => comparable && reaches(agreement, self.threshold),
        };
        Agreement {
            agreement,
            note: undefined_fields(&fields, answers.len()),
            comparable,
            agreed,
            units: fields.iter().map(|(_, found)| found.units).sum(),
            pairs: fields.iter().map(|(_, found)| found.pairs).sum(),
            fields: fields
                .into_iter()
                .map(|(field, agreement)| FieldAgreement {
                    field: field.path.clone(),
                    agreement,
                })
                .collect(),
        }
    }

    /// The agreements that so many people can reach where answers are equal or not: shares of agreeing
    /// pairs, from low to high. A threshold between two of them means the higher one.
    pub fn reachable_agreements(people: u32) -> Vec<f64> {
        /// More people reach more values than anybody compares with a threshold.
        const PEOPLE_MAX: u32 = 30;
        let people = people.min(PEOPLE_MAX);
        let pairs = |count: u32| count * count.saturating_sub(1) / 2;
        if people < 2 {
            return Vec::new();
        }
        // Agreeing pairs by people: a group of equal answers, and what the rest reaches.
        let mut reached: Vec<std::collections::BTreeSet<u32>> = vec![[0].into()];
        for count in 1..=people {
            let mut sums = std::collections::BTreeSet::new();
            for group in 1..=count {
                let rest = &reached[(count - group) as usize];
                sums.extend(rest.iter().map(|rest| rest + pairs(group)));
            }
            reached.push(sums);
        }
        let total = f64::from(pairs(people));
        let last = reached.pop().unwrap_or_default();
        last.into_iter().map(|sum| f64::from(sum) / total).collect()
    }
}

/// Says which fields are not in the mean.
fn undefined_fields(fields: &[(&Field, Agreement)], people: usize) -> Option<String> {
    if people < 2 {
        return Some("one annotation has nothing to agree with".to_owned());
    }
    let undefined: Vec<String> = fields
        .iter()
        .filter(|(_, found)| found.agreement.is_none())
        .map(|(field, _)| format!("`{}`", field.path))
        .collect();
    if undefined.len() == fields.len() {
        return Some("agreement is defined for none of the fields".to_owned());
    }
    (!undefined.is_empty()).then(|| {
        let names = undefined.join(", ");
        format!("agreement is not defined for {names}, which the mean leaves out")
    })
}

/// Weights such as 0.1 have no exact form, and what they add up to must not miss a threshold by the
/// last bit: twelve digits are kept.
fn without_rounding_noise(mean: f64) -> f64 {
    const DIGITS: f64 = 1e12;
    (mean * DIGITS).round() / DIGITS
}

/// What all answers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Objects,
    Lists,
    Whole,
}

impl Layout {
    fn of(answers: &[&Answer]) -> Self {
        if answers.iter().all(|a| matches!(a.form, Form::Object(_))) {
            Self::Objects
        } else if answers.iter().all(|a| matches!(a.form, Form::List(_))) {
            Self::Lists
        } else {
            Self::Whole
        }
    }
}

fn keys<'a>(answers: &[&'a Answer]) -> Vec<&'a str> {
    let entries = answers.iter().flat_map(|answer| match &answer.form {
        Form::Object(entries) => entries.as_slice(),
        _ => &[],
    });
    let mut keys: Vec<&str> = entries.map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn length(answer: &Answer) -> usize {
    match &answer.form {
        Form::List(items) => items.len(),
        _ => 0,
    }
}

/// What each person says of each unit.
struct Table<'a> {
    rows: Vec<Vec<Said<'a>>>,
    columns: usize,
    /// Different values, sorted.
    categories: Vec<&'a Form>,
}

#[derive(Clone, Copy)]
enum Said<'a> {
    Nothing,
    /// The list has ended, where that is an answer.
    Ended,
    Value(&'a Form),
}

impl<'a> Table<'a> {
    /// Objects by field and lists by element where all answers are such; else one unit.
    fn new(answers: &[&'a Answer], work: &mut Work) -> Result<Self, TooMuch> {
        let layout = Layout::of(answers);
        let keys = if layout == Layout::Objects {
            keys(answers)
        } else {
            Vec::new()
        };
        let columns = match layout {
            Layout::Objects => keys.len(),
            Layout::Lists => answers.iter().map(|a| length(a)).max().unwrap_or(0),
            Layout::Whole => 1,
        };
        // Cells take memory beside time.
        work.spend(32 * (answers.len() as u64).saturating_mul(1 + columns as u64))?;
        let row = |answer: &&'a Answer| {
            let mut row = vec![Said::Nothing; columns];
            if layout == Layout::Whole {
                row[0] = said(&answer.form);
                return row;
            }
            for (at, form) in each::units(&answer.form) {
                let column = match at {
                    each::At::Whole => Some(0),
                    each::At::Index(index) => Some(index),
                    each::At::Key(key) => keys.binary_search(&key.as_str()).ok(),
                };
                if let Some(cell) = column.and_then(|column| row.get_mut(column)) {
                    *cell = said(form);
                }
            }
            row
        };
        let rows = answers.iter().map(row).collect();
        Ok(Self::of_rows(rows, columns))
    }

    /// Two lists, over the longer one; the end of the other is an answer of its own.
    fn with_ends(answers: &[&'a Answer; 2], work: &mut Work) -> Result<Self, TooMuch> {
        let mut table = Self::new(answers, work)?;
        for (row, answer) in table.rows.iter_mut().zip(answers) {
            for cell in row.iter_mut().skip(length(answer)) {
                *cell = Said::Ended;
            }
        }
        Ok(table)
    }

    fn of_rows(rows: Vec<Vec<Said<'a>>>, columns: usize) -> Self {
        let values = rows.iter().flatten().filter_map(|said| match said {
            Said::Value(form) => Some(*form),
            Said::Nothing | Said::Ended => None,
        });
        let mut categories: Vec<&Form> = values.collect();
        categories.sort_unstable();
        categories.dedup();
        Self {
            rows,
            columns,
            categories,
        }
    }

    /// Units of which two people or more say something.
    fn comparable(&self) -> usize {
        let said = |row: &&Vec<Said<'_>>, column: usize| !matches!(row[column], Said::Nothing);
        (0..self.columns)
            .filter(|column| self.rows.iter().filter(|row| said(row, *column)).count() >= 2)
            .count()
    }

    fn only_booleans(&self) -> bool {
        self.categories
            .iter()
            .all(|form| matches!(form, Form::Bool(_)))
    }

    /// Categories that are used, the end of a list included.
    fn used(&self) -> usize {
        let ended = self
            .rows
            .iter()
            .flatten()
            .any(|said| matches!(said, Said::Ended));
        self.categories.len() + usize::from(ended)
    }

    /// Codes: positions on the scale, where there is one, else among the sorted values. The end of a list
    /// comes last.
    fn codes(&self, scale: impl Fn(&Form) -> Option<Option<usize>>) -> Vec<Vec<Option<u32>>> {
        let code = |said: &Said<'_>| {
            let position = match said {
                Said::Nothing => None,
                Said::Ended => Some(self.categories.len()),
                Said::Value(form) => {
                    scale(form).unwrap_or_else(|| self.categories.binary_search(form).ok())
                }
            };
            u32::try_from(position?).ok()
        };
        let rows = self.rows.iter();
        rows.map(|row| row.iter().map(code).collect()).collect()
    }

    fn numbers(&self) -> Vec<Vec<Option<f64>>> {
        let number = |said: &Said<'_>| match said {
            Said::Value(form) => form.number().map(super::form::Exact::to_f64),
            Said::Nothing | Said::Ended => None,
        };
        let rows = self.rows.iter();
        rows.map(|row| row.iter().map(number).collect()).collect()
    }
}

fn said(form: &Form) -> Said<'_> {
    match form {
        Form::Null => Said::Nothing,
        form => Said::Value(form),
    }
}
