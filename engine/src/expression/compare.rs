//! Equality and order of values.

use std::cmp::Ordering;

use super::{
    budget::Budget,
    value::{List, Mapping, Val},
};

/// Whether two values are equal: numbers by exact value, lists in order, mappings by key. Values of
/// different kinds are not equal.
pub(super) fn same(a: &Val<'_>, b: &Val<'_>, budget: &mut Budget) -> Result<bool, String> {
    budget.spend(1)?;
    Ok(match (a, b) {
        (Val::Null, Val::Null) => true,
        (Val::Bool(a), Val::Bool(b)) => a == b,
        (Val::Type(a), Val::Type(b)) => a == b,
        (Val::Bytes(a), Val::Bytes(b)) => a == b,
        (Val::Text(a), Val::Text(b)) => {
            if a.len() == b.len() {
                budget.read(a.len())?;
            }
            **a == **b
        }
        (Val::List(a), Val::List(b)) => same_lists(a, b, budget)?,
        (Val::Mapping(a), Val::Mapping(b)) => same_mappings(a, b, budget)?,
        _ => match (a.number(), b.number()) {
            (Some(a), Some(b)) => a.order(b).is_some_and(Ordering::is_eq),
            _ => false,
        },
    })
}

fn same_lists(a: &List<'_>, b: &List<'_>, budget: &mut Budget) -> Result<bool, String> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (a, b) in a.items().zip(b.items()) {
        if !same(&a, &b, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_mappings(a: &Mapping<'_>, b: &Mapping<'_>, budget: &mut Budget) -> Result<bool, String> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for (key, value) in a.entries() {
        budget.spend(b.lookup_steps())?;
        match b.get(&key) {
            Some(other) if same(&value, &other, budget)? => {}
            Some(_) | None => return Ok(false),
        }
    }
    Ok(true)
}

/// The order of two values; `None` where they have none.
pub(super) fn order(
    a: &Val<'_>,
    b: &Val<'_>,
    budget: &mut Budget,
) -> Result<Option<Ordering>, String> {
    Ok(match (a, b) {
        (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
        (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
        (Val::Text(a), Val::Text(b)) => {
            budget.read(a.len().min(b.len()))?;
            Some((**a).cmp(&**b))
        }
        _ => match (a.number(), b.number()) {
            (Some(a), Some(b)) => a.order(b),
            _ => None,
        },
    })
}
