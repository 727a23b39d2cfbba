//! One value of several answers.

use serde_json::{Map, Value};

use super::{
    Agreement, Question,
    ballot::{Ballot, Candidate, equal, exceeds},
    form::Form,
    kinds::{Found, How, Kind, Record, Shape},
    question::data_of,
    reader::value_at,
    value::{Answer, Slot},
    work::{TooMuch, Work},
};
use crate::config::{AgreementMethod, AnswerKind};

/// How answers are united.
#[derive(Clone, Debug, Default)]
pub struct Rule<'w> {
    /// The method. One that the kind of answer does not take stands for `majority_vote`, so that a record
    /// can have fields of several kinds.
    pub method: AgreementMethod,
    /// The weight of each person, in the order of the answers; 1 where there are none.
    pub weights: Option<&'w [f64]>,
    /// Whether weights decide between what is tied by heads.
    pub weights_break_ties: bool,
}

/// One value of several answers, or why there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct United {
    /// The value; of a record, fields without a winner are null in it.
    pub value: Option<Value>,
    /// There is no value because two are equally good; of a record, some field has none for that reason.
    pub tied: bool,
    /// Weights have decided, not heads.
    pub weighted: bool,
    /// Fields of a record without a winner, by their paths.
    pub disputed: Vec<String>,
    /// Members of a set and regions that somebody gave and that are not in the value.
    pub open: Vec<Value>,
    /// The fields of a record, in their order; those that nobody was asked for are left out.
    pub fields: Vec<UnitedField>,
    /// Why there is no value, where it is neither a tie nor a lack of answers.
    pub note: Option<String>,
}

/// One field of a united record.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitedField {
    /// Its path inside the record.
    pub field: String,
    /// What became of it. That it is missing, where that is an answer and won, is the value null.
    pub united: United,
}

impl United {
    fn too_much(error: TooMuch) -> Self {
        Self {
            note: Some(error.to_string()),
            ..Self::default()
        }
    }
}

impl Question {
    /// One value of `answers`, the same in every order of people and of the elements of their lists. A
    /// record is united field by field, each by `rule`. `input` is the task's, beside which conditions of
    /// fields are asked of the united record.
    pub fn unite(
        &self,
        answers: &[&Answer],
        rule: &Rule<'_>,
        input: &Value,
        work: &mut Work,
    ) -> United {
        self.unite_fields(answers, |_| Some(rule.clone()), input, work)
    }

    /// As [`Question::unite`], with a rule for each field of a record, by its path; a field without a rule
    /// is left without a winner. Any other question asks for the rule of the empty path.
    pub fn unite_fields<'w>(
        &self,
        answers: &[&Answer],
        rule_of: impl Fn(&str) -> Option<Rule<'w>>,
        input: &Value,
        work: &mut Work,
    ) -> United {
        if let Some(record) = self.shape.record() {
            return self.unite_record(record, answers, rule_of, input, work);
        }
        match rule_of("") {
            Some(rule) => self.unite_answers(answers, &[], &rule, work),
            None => United::default(),
        }
    }

    /// `missing`: weights of those whose answer is that there is none.
    fn unite_answers(
        &self,
        answers: &[&Answer],
        missing: &[f64],
        rule: &Rule<'_>,
        work: &mut Work,
    ) -> United {
        let ballot = Ballot::new(answers, rule.weights);
        let found = match decide_on_missing(&ballot, missing, self.method(rule), rule) {
            Missing::Wins => Ok((Found::value(Value::Null), false)),
            Missing::Ties => Ok((Found::tie(), false)),
            Missing::Loses => self.find(&ballot, rule, work),
        };
        match found {
            Ok((found, weighted)) => United {
                value: found.value,
                tied: found.tied,
                weighted,
                open: found.open,
                ..United::default()
            },
            Err(error) => United::too_much(error),
        }
    }

    /// What the rule's method is for this kind of answer.
    fn method(&self, rule: &Rule<'_>) -> AgreementMethod {
        let methods = self.shape.kind().methods();
        match rule.method {
            AgreementMethod::Unanimous => AgreementMethod::Unanimous,
            method if methods.contains(&method) => method,
            _ => methods[0],
        }
    }

    fn find(
        &self,
        ballot: &Ballot<'_>,
        rule: &Rule<'_>,
        work: &mut Work,
    ) -> Result<(Found, bool), TooMuch> {
        let method = self.method(rule);
        if method == AgreementMethod::Unanimous {
            return Ok(match ballot.candidates.as_slice() {
                [only] => (Found::value(self.written(only, work)?), false),
                _ => (Found::default(), false),
            });
        }
        let how = How {
            method,
            weighted: rule.method == AgreementMethod::WeightedVote,
            metric: self.metric,
        };
        let found = self.by_how(ballot, how, work)?;
        let breaks = rule.weights_break_ties && rule.weights.is_some() && !how.weighted;
        if !found.tied || !breaks {
            return Ok((found, how.weighted));
        }
        let broken = if method == AgreementMethod::MostVotes && !self.judges_units() {
            match ballot.elect_among_first() {
                Some(winner) => Found::value(self.written(winner, work)?),
                None => Found::tie(),
            }
        } else {
            let how = How {
                weighted: true,
                ..how
            };
            self.by_how(ballot, how, work)?
        };
        let decided = broken.value.is_some();
        Ok((broken, decided))
    }

    fn by_how(&self, ballot: &Ballot<'_>, how: How, work: &mut Work) -> Result<Found, TooMuch> {
        if self.judges_units() {
            return self.shape.kind().unite(ballot, how, work);
        }
        if how.method == AgreementMethod::MostVotes
            && let Some(winner) = ballot.elect(how.weighted)
        {
            return Ok(Found::value(self.written(winner, work)?));
        }
        by_method(self.shape.kind(), ballot, how, work)
    }

    /// Whether the votes are about the units of an answer, and not about the whole.
    fn judges_units(&self) -> bool {
        matches!(self.shape, Shape::Each(_))
    }

    /// A candidate as its people wrote it.
    fn written(&self, candidate: &Candidate<'_>, work: &mut Work) -> Result<Value, TooMuch> {
        match &self.shape {
            Shape::Regions(regions) => regions.as_given(candidate, work),
            Shape::Set(_) => {
                // The order of a set is nothing: one order whoever is asked.
                let how = How {
                    method: AgreementMethod::MajorityVote,
                    weighted: false,
                    metric: self.metric,
                };
                let ballot = Ballot::of_members(candidate.members.clone());
                let found = self.shape.kind().unite(&ballot, how, work)?;
                Ok(found.value.unwrap_or_default())
            }
            _ => Ok(candidate.value()),
        }
    }

    fn unite_record<'w>(
        &self,
        record: &Record,
        answers: &[&Answer],
        rule_of: impl Fn(&str) -> Option<Rule<'w>>,
        input: &Value,
        work: &mut Work,
    ) -> United {
        let mut fields: Vec<UnitedField> = Vec::new();
        for (index, field) in record.fields.iter().enumerate() {
            let rule = rule_of(&field.path);
            let weights = rule.as_ref().and_then(|rule| rule.weights);
            let weight =
                |place: usize| weights.map_or(1.0, |w| w.get(place).copied().unwrap_or(0.0));
            let (mut given, mut given_weights, mut missing) = (Vec::new(), Vec::new(), Vec::new());
            for (place, answer) in answers.iter().enumerate() {
                match answer.slots().get(index) {
                    Some(Slot::Given(answer)) => {
                        given.push(answer);
                        given_weights.push(weight(place));
                    }
                    Some(Slot::Missing) => missing.push(weight(place)),
                    Some(Slot::Nothing) | None => {}
                }
            }
            if given.is_empty() && missing.is_empty() {
                continue;
            }
            let united = rule.map_or_else(United::default, |rule| {
                let rule = Rule {
                    weights: weights.map(|_| given_weights.as_slice()),
                    ..rule
                };
                field.question.unite_answers(&given, &missing, &rule, work)
            });
            fields.push(UnitedField {
                field: field.path.clone(),
                united,
            });
        }
        self.without_unasked(record, answers, &mut fields, input);
        let winners = fields.iter().filter_map(|field| {
            let value = field.united.value.clone()?;
            Some((field.field.clone(), value))
        });
        let mut value: Map<String, Value> = winners.collect();
        let found = !value.is_empty();
        let disputed: Vec<String> = fields
            .iter()
            .filter(|field| field.united.value.is_none())
            .map(|field| field.field.clone())
            .collect();
        for field in &disputed {
            value.insert(field.clone(), Value::Null);
        }
        United {
            value: found.then_some(Value::Object(value)),
            tied: fields.iter().any(|field| field.united.tied),
            weighted: fields.iter().any(|field| field.united.weighted),
            disputed,
            open: Vec::new(),
            note: fields.iter().find_map(|field| field.united.note.clone()),
            fields,
        }
    }

    /// Takes out what the united record does not ask for. Where that cannot be told of it, what most
    /// people gave stays.
    fn without_unasked(
        &self,
        record: &Record,
        answers: &[&Answer],
        fields: &mut Vec<UnitedField>,
        input: &Value,
    ) {
        let conditional = record
            .fields
            .iter()
            .enumerate()
            .filter(|(_, f)| f.when.is_some());
        let conditional: Vec<_> = conditional.collect();
        if conditional.is_empty() {
            return;
        }
        let mut united = Value::Object(Map::new());
        for field in fields.iter() {
            put(
                &mut united,
                &field.field,
                field.united.value.clone().unwrap_or_default(),
            );
        }
        let data = data_of(self.field(), &united);
        for (index, field) in conditional {
            let gave =
                |answer: &&&Answer| !matches!(answer.slots().get(index), Some(Slot::Nothing));
            let most = || answers.iter().filter(gave).count() * 2 > answers.len();
            if !field.is_asked_beside(&data, input).unwrap_or_else(most) {
                fields.retain(|united| united.field != field.path);
            }
        }
    }

    /// The value of a step whose only answer this is: of a record, an object with the paths of its
    /// fields as keys, as a united one; else the answer as it was given.
    pub fn value_of(&self, answer: &Answer, input: &Value) -> Value {
        if self.shape.record().is_none() {
            return answer.json.clone();
        }
        let mut work = Work::of_decision();
        let united = self.unite(&[answer], &Rule::default(), input, &mut work);
        united.value.unwrap_or_else(|| answer.json.clone())
    }

    /// What is settled and what is not, for an adjudicator who is asked for the rest only: of a record the
    /// fields that agree and have a winner, and the paths of the others; of sets and regions what is in
    /// the united value, and what somebody gave beside it. None for other kinds.
    pub fn settled(&self, agreement: &Agreement, united: &United) -> Option<(Value, Value)> {
        if self.shape.record().is_some() {
            let reaches = |path: &str| {
                let of_field = agreement.fields.iter().find(|field| field.field == path);
                of_field.is_none_or(|field| field.agreement.agreed)
            };
            let (mut agreed, mut disputed) = (Map::new(), Vec::new());
            for field in &united.fields {
                match &field.united.value {
                    Some(value) if reaches(&field.field) => {
                        agreed.insert(field.field.clone(), value.clone());
                    }
                    _ => disputed.push(Value::String(field.field.clone())),
                }
            }
            return Some((Value::Object(agreed), Value::Array(disputed)));
        }
        if !matches!(self.shape, Shape::Set(_) | Shape::Regions(_)) {
            return None;
        }
        let agreed = united
            .value
            .clone()
            .unwrap_or_else(|| Value::Array(Vec::new()));
        Some((agreed, Value::Array(united.open.clone())))
    }

    /// Lays what an adjudicator gives over what is settled: fields replace, members and regions are added.
    /// Of any other kind the given value stands.
    pub fn lay_over(&self, agreed: &Value, given: &Value, input: &Value) -> Value {
        if let Some(record) = self.shape.record() {
            let mut value = agreed.as_object().cloned().unwrap_or_default();
            for field in &record.fields {
                if let Some(given) = value_at(given, Some(&field.path)) {
                    value.insert(field.path.clone(), given.clone());
                }
            }
            return Value::Object(value);
        }
        let (Value::Array(agreed), Value::Array(added)) = (agreed, given) else {
            return given.clone();
        };
        match self.kind() {
            AnswerKind::Set => {
                let mut forms: Vec<Form> = agreed.iter().map(Form::of).collect();
                forms.sort();
                let is_new = |item: &&Value| forms.binary_search(&Form::of(item)).is_err();
                let all = agreed.iter().chain(added.iter().filter(is_new)).cloned();
                Value::Array(all.collect())
            }
            kind if kind.is_regions() => {
                let all = Value::Array(agreed.iter().chain(added).cloned().collect());
                let Ok(answer) = self.read_value(&all, input) else {
                    return all;
                };
                let member = Ballot::new(&[&answer], None);
                let written = self.written(&member.candidates[0], &mut Work::of_decision());
                written.unwrap_or(all)
            }
            _ => given.clone(),
        }
    }
}

/// Puts a value at a path of keys.
fn put(whole: &mut Value, path: &str, value: Value) {
    let path = path.strip_prefix("$.").unwrap_or(path);
    let Value::Object(entries) = whole else {
        return;
    };
    match path.split_once('.') {
        None => {
            entries.insert(path.to_owned(), value);
        }
        Some((key, rest)) => {
            let inner = entries
                .entry(key)
                .or_insert_with(|| Value::Object(Map::new()));
            put(inner, rest, value);
        }
    }
}

enum Missing {
    Wins,
    Ties,
    Loses,
}

/// Whether that the answer is missing, which some gave as their answer, is the value.
fn decide_on_missing(
    ballot: &Ballot<'_>,
    missing: &[f64],
    method: AgreementMethod,
    rule: &Rule<'_>,
) -> Missing {
    if missing.is_empty() {
        return Missing::Loses;
    }
    if ballot.candidates.is_empty() {
        return Missing::Wins;
    }
    if method == AgreementMethod::Unanimous {
        // Neither all gave one nor all gave none: whichever way, there is no value.
        return Missing::Ties;
    }
    let weighted = rule.method == AgreementMethod::WeightedVote;
    let strength_of = |weights: &[f64]| -> f64 {
        if weighted {
            weights.iter().map(|weight| weight.max(0.0)).sum()
        } else {
            weights.len() as f64
        }
    };
    let held = strength_of(missing);
    let strengths: Vec<f64> = ballot
        .candidates
        .iter()
        .map(|candidate| {
            let weights: Vec<f64> = candidate.members.iter().map(|m| m.weight).collect();
            strength_of(&weights)
        })
        .collect();
    if method == AgreementMethod::MostVotes {
        let best = strengths.iter().copied().fold(0.0, f64::max);
        return if equal(held, best) {
            Missing::Ties
        } else if held > best {
            Missing::Wins
        } else {
            Missing::Loses
        };
    }
    let total = held + strengths.iter().sum::<f64>();
    if exceeds(held, total, 0.5) {
        Missing::Wins
    } else {
        Missing::Loses
    }
}

/// Unites by a method of the kind, `most_votes` included.
pub(super) fn by_method(
    kind: &dyn Kind,
    ballot: &Ballot<'_>,
    how: How,
    work: &mut Work,
) -> Result<Found, TooMuch> {
    if how.method != AgreementMethod::MostVotes {
        return kind.unite(ballot, how, work);
    }
    Ok(match ballot.elect(how.weighted) {
        Some(winner) => Found::value(winner.value()),
        None if ballot.candidates.is_empty() => Found::default(),
        None => Found::tie(),
    })
}
