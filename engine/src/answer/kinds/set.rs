//! Several values whose order is nothing.

use std::{cmp::Ordering, collections::BTreeMap};

use serde_json::{Map, Value, json};

use super::{Found, How, Kind, Values, values};
use crate::{
    answer::{
        ballot::{Ballot, exceeds},
        error::{AnswerError, Problem, kind_of, shown},
        form::{Form, most_written},
        reader::Reader,
        value::{Answer, Parts},
        work::{TooMuch, Work},
    },
    config::{AgreementMethod, AnswerKind, Metric},
};

/// A list of distinct scalars, in any order.
///
/// # Similarity
///
/// `jaccard`: members in both over members in either; two empty sets are alike (1).
///
/// ```text
/// J(A, B) = |A and B| / |A or B|
/// ```
///
/// Jaccard, P. (1912). The distribution of the flora in the alpine zone. *New Phytologist* 11(2), 37-50.
///
/// `masi`: J times 1 for equal sets, 2/3 where one contains the other, 1/3 where they share some
/// members, 0 where they share none.
///
/// Passonneau, R. (2006). Measuring agreement on set-valued items (MASI) for semantic and pragmatic
/// annotation. *Proceedings of LREC 2006*, 831-836.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Set {
    pub(crate) values: Option<Values>,
    /// A member is in the united set where more than this share of the votes hold it.
    pub(crate) share: f64,
}

impl Set {
    /// Members as they are listed in the united value: in the order of the file, else their own.
    fn order(&self, a: &Form, b: &Form) -> Ordering {
        let position = |form| self.values.as_ref().and_then(|v| v.position(form));
        position(a).cmp(&position(b)).then_with(|| a.cmp(b))
    }
}

/// Members of a set in canonical form, which are sorted.
fn members(answer: &Answer) -> &[Form] {
    match &answer.form {
        Form::List(members) => members,
        _ => &[],
    }
}

/// How many members two sorted lists share.
fn shared(a: &[Form], b: &[Form]) -> usize {
    let (mut i, mut j, mut shared) = (0, 0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        let order = x.cmp(y);
        shared += usize::from(order.is_eq());
        i += usize::from(order.is_le());
        j += usize::from(order.is_ge());
    }
    shared
}

impl Kind for Set {
    fn name(&self) -> AnswerKind {
        AnswerKind::Set
    }

    fn metrics(&self) -> &'static [Metric] {
        &[Metric::Jaccard, Metric::Masi]
    }

    fn methods(&self) -> &'static [AgreementMethod] {
        &[AgreementMethod::MajorityVote, AgreementMethod::MostVotes]
    }

    fn read(&self, value: &Value, reader: &mut Reader<'_>) -> Result<Answer, AnswerError> {
        let items = match value {
            Value::Array(items) => items,
            Value::Null => return Err(reader.wrong(Problem::Missing)),
            _ => {
                let scalar = !value.is_object();
                return Err(reader.wrong(Problem::Unfit {
                    found: kind_of(value).to_owned(),
                    expected: "set",
                    hint: Some(if scalar {
                        format!(
                            "give a list, [{}] for one member",
                            shown(value).replace('`', "")
                        )
                    } else {
                        "give a list of texts, numbers, true or false".to_owned()
                    }),
                }));
            }
        };
        let mut members: BTreeMap<Form, ()> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            let form = reader.at_index(index, |reader| {
                let form = match &self.values {
                    Some(values) => values.check(item),
                    None => values::scalar(item),
                };
                let form = form.map_err(|problem| reader.wrong(problem))?;
                if members.contains_key(&form) {
                    let given = shown(item);
                    return Err(reader.wrong(Problem::Twice { given }));
                }
                Ok(form)
            })?;
            members.insert(form, ());
        }
        let form = Form::List(members.into_keys().collect());
        Ok(Answer::new(form, value, Parts::None))
    }

    fn similarity(
        &self,
        metric: Metric,
        a: &Answer,
        b: &Answer,
        work: &mut Work,
    ) -> Result<f64, TooMuch> {
        work.spend(a.size + b.size)?;
        let (a, b) = (members(a), members(b));
        let both = shared(a, b);
        let either = a.len() + b.len() - both;
        if either == 0 {
            return Ok(1.0);
        }
        let jaccard = both as f64 / either as f64;
        if metric != Metric::Masi {
            return Ok(jaccard);
        }
        let lie = if a.len() == either && b.len() == either {
            1.0
        } else if both == a.len().min(b.len()) {
            2.0 / 3.0
        } else {
            1.0 / 3.0
        };
        Ok(jaccard * lie)
    }

    /// Every member that more than `share` of the votes (or of their weight) hold.
    fn unite(&self, ballot: &Ballot<'_>, how: How, work: &mut Work) -> Result<Found, TooMuch> {
        let strength = ballot.strength(how.weighted);
        let mut total = 0.0;
        let mut votes: BTreeMap<Form, (f64, Vec<Value>)> = BTreeMap::new();
        for member in ballot.candidates.iter().flat_map(|c| &c.members) {
            work.spend(4 * member.answer.size)?;
            total += strength(member);
            for item in member.answer.json.as_array().into_iter().flatten() {
                let vote = votes.entry(Form::of(item)).or_default();
                vote.0 += strength(member);
                vote.1.push(item.clone());
            }
        }
        let mut sorted: Vec<(Form, (f64, Vec<Value>))> = votes.into_iter().collect();
        sorted.sort_by(|(a, _), (b, _)| self.order(a, b));
        let (mut kept, mut open) = (Vec::new(), Vec::new());
        for (form, (held, written)) in sorted {
            let position = self.values.as_ref().and_then(|v| v.position(&form));
            let value = match (&self.values, position) {
                (Some(values), Some(position)) => values.list()[position].clone(),
                _ => most_written(&written),
            };
            if exceeds(held, total, self.share) {
                kept.push(value);
            } else {
                open.push(value);
            }
        }
        Ok(Found {
            value: Some(Value::Array(kept)),
            tied: false,
            open,
        })
    }

    fn schema(&self) -> Value {
        let mut schema = Map::new();
        schema.insert("type".to_owned(), json!("array"));
        schema.insert("uniqueItems".to_owned(), json!(true));
        schema.insert("items".to_owned(), values::schema(self.values.as_ref()));
        Value::Object(schema)
    }
}
