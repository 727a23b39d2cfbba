//! Several judgements of one kind in one answer.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Found, How, Kind, Number, Ordinal};
use crate::{
    answer::{
        ballot::{Ballot, Member, exceeds},
        error::{AnswerError, Problem},
        form::Form,
        reader::Reader,
        value::{Answer, Parts},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, Metric},
};

/// A scalar, or a scalar under every key of an object or at every position of a list: what a `level`
/// without a `kind` asks for. Null is a judgement that was not made.
///
/// Two answers are as alike as their units in the mean, over the units that either has; united it is unit
/// by unit, with those units that more than half of the people have.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Each {
    pub(crate) unit: Unit,
}

/// What each unit is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unit {
    Ordinal(Ordinal),
    Number(Number),
}

/// Where a unit stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::answer) enum At {
    Whole,
    Key(String),
    Index(usize),
}

impl Unit {
    pub(crate) fn kind(&self) -> &dyn Kind {
        match self {
            Self::Ordinal(kind) => kind,
            Self::Number(kind) => kind,
        }
    }

    fn check(&self, value: &Value) -> Result<Form, Problem> {
        match self {
            Self::Ordinal(kind) => kind.check(value),
            Self::Number(kind) => kind.check(value),
        }
    }

    fn likeness(&self, metric: Metric, a: &Form, b: &Form) -> f64 {
        match self {
            Self::Ordinal(kind) => kind.likeness(metric, a, b),
            Self::Number(kind) => kind.likeness(a, b),
        }
    }
}

/// The units of an answer that are judged.
pub(in crate::answer) fn units(form: &Form) -> Vec<(At, &Form)> {
    let units: Vec<(At, &Form)> = match form {
        Form::List(items) => items
            .iter()
            .enumerate()
            .map(|(i, v)| (At::Index(i), v))
            .collect(),
        Form::Object(entries) => entries
            .iter()
            .map(|(k, v)| (At::Key(k.clone()), v))
            .collect(),
        _ => vec![(At::Whole, form)],
    };
    let judged = |(_, form): &(At, &Form)| **form != Form::Null;
    units.into_iter().filter(judged).collect()
}

/// As [`units`], as they were written.
fn written(answer: &Answer) -> Vec<(At, &Value)> {
    let units: Vec<(At, &Value)> = match &answer.json {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, v)| (At::Index(i), v))
            .collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| (At::Key(crate::answer::form::nfc(key)), value))
            .collect(),
        value => vec![(At::Whole, value)],
    };
    units
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect()
}

impl Kind for Each {
    fn name(&self) -> AnswerKind {
        self.unit.kind().name()
    }

    fn metrics(&self) -> &'static [Metric] {
        self.unit.kind().metrics()
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        self.unit.kind().methods()
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        let read = |value: &Value, reader: &mut Reader<'_>| {
            if value.is_null() {
                return Ok(Form::Null);
            }
            self.unit
                .check(value)
                .map_err(|problem| reader.wrong(problem))
        };
        let form = match value {
            Value::Null => return Err(reader.wrong(Problem::Missing)),
            Value::Array(items) => {
                let mut forms = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    forms.push(reader.at_index(index, |reader| read(item, reader))?);
                }
                Form::List(forms)
            }
            Value::Object(entries) => {
                let mut forms = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let form = reader.at_key(key, |reader| read(value, reader))?;
                    forms.push((crate::answer::form::nfc(key), form));
                }
                Form::object(forms)
            }
            scalar => read(scalar, reader)?,
        };
        Ok(Answer::new(form, value, Parts::None))
    }

    fn similarity(
        &self,
        metric: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch> {
        if a == b {
            return Ok(1.0);
        }
        work.spend(8 * (a.size + b.size))?;
        let (a, b) = (units(&a.form), units(&b.form));
        let (mut sum, mut count) = (0.0, 0_usize);
        let (mut i, mut j) = (0, 0);
        while i < a.len() || j < b.len() {
            let order = match (a.get(i), b.get(j)) {
                (Some(a), Some(b)) => a.0.cmp(&b.0),
                (Some(_), None) => std::cmp::Ordering::Less,
                _ => std::cmp::Ordering::Greater,
            };
            if order.is_eq() {
                sum += self.unit.likeness(metric, a[i].1, b[j].1);
            }
            count += 1;
            i += usize::from(order.is_le());
            j += usize::from(order.is_ge());
        }
        // Nobody judges anything: they differ in what is left out, and in nothing else.
        Ok(if count == 0 { 1.0 } else { sum / count as f64 })
    }

    fn unite(&self, ballot: &Ballot<'_>, how: How, work: &mut Work) -> Result<Found, TooMuch> {
        let strength = ballot.strength(how.weighted);
        let mut total = 0.0;
        let mut units: BTreeMap<At, Vec<(Answer, f64, f64)>> = BTreeMap::new();
        for member in ballot.candidates.iter().flat_map(|c| &c.members) {
            work.spend(16 * member.answer.size)?;
            total += strength(member);
            for (at, value) in written(member.answer) {
                let unit = (Answer::plain(value), member.weight, strength(member));
                units.entry(at).or_default().push(unit);
            }
        }
        let mut found: Vec<(At, Value)> = Vec::new();
        for (at, given) in units {
            if !exceeds(given.iter().map(|(_, _, s)| s).sum(), total, 0.5) {
                continue;
            }
            let members = given
                .iter()
                .enumerate()
                .map(|(place, (answer, weight, _))| Member {
                    answer,
                    place,
                    weight: *weight,
                });
            let ballot = Ballot::of_members(members.collect());
            let unit = crate::answer::unite::by_method(self.unit.kind(), &ballot, how, work)?;
            match unit.value {
                Some(value) => found.push((at, value)),
                // A unit without a winner leaves the whole without one.
                None => {
                    return Ok(Found {
                        value: None,
                        ..unit
                    });
                }
            }
        }
        Ok(match joined(found) {
            Some(value) => Found::value(value),
            None => Found::default(),
        })
    }

    fn schema(&self) -> Value {
        let unit = self.unit.kind().schema();
        let judged = json!({"anyOf": [unit, {"type": "null"}]});
        json!({"anyOf": [
            unit,
            {"type": "array", "items": judged},
            {"type": "object", "additionalProperties": judged},
        ]})
    }
}

/// One value of its units; none where they are of different shapes, or there is none.
fn joined(units: Vec<(At, Value)>) -> Option<Value> {
    match units.first()?.0 {
        At::Whole => {
            (units.len() == 1).then(|| units.into_iter().next().map(|(_, value)| value))?
        }
        At::Key(_) => {
            let entries = units.into_iter().map(|(at, value)| match at {
                At::Key(key) => Some((key, value)),
                At::Whole | At::Index(_) => None,
            });
            entries
                .collect::<Option<Map<String, Value>>>()
                .map(Value::Object)
        }
        At::Index(_) => {
            let mut list = Vec::new();
            for (at, value) in units {
                let At::Index(index) = at else { return None };
                list.resize(index, Value::Null);
                list.push(value);
            }
            Some(Value::Array(list))
        }
    }
}
