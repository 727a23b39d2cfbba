//! Compares what happened with what a script expects.

use serde_json::Value;

use crate::{
    config::{ExpectedEnd, ExpectedOutcome},
    parser::Suggester,
    state::WorkflowSnapshot,
};

/// Outcomes of moves that are no refusals.
const APPLIED: [&str; 5] = ["waiting", "advanced", "completed", "failed", "offered"];

/// A refusal that the script did not expect; without an expectation, any refusal is one.
pub(super) fn unexpected_outcome(
    outcome: &str,
    expected: Option<ExpectedOutcome>,
) -> Option<String> {
    let applied = APPLIED.contains(&outcome);
    let good = match expected {
        None => applied,
        Some(ExpectedOutcome::Rejected | ExpectedOutcome::Nothing) => !applied,
        Some(expected) => expected.as_str() == outcome,
    };
    let expected = expected.map_or("no refusal", ExpectedOutcome::as_str);
    (!good).then(|| format!("expected {expected}, came to {outcome}"))
}

/// Where the end of a task differs from the expected one.
pub(super) fn compare_end(
    expect: &ExpectedEnd,
    state: Option<&WorkflowSnapshot>,
    mismatches: &mut Vec<String>,
) {
    let status = state.map_or("not started", |state| state.status.as_str());
    if let Some(expected) = expect.status.filter(|expected| expected.as_str() != status) {
        mismatches.push(format!(
            "expected the task {}, it is {status}",
            expected.as_str()
        ));
    }
    if let Some(incidents) = &expect.incidents {
        let open = state.map(|state| &state.incidents);
        let mut found: Vec<String> = open
            .into_iter()
            .flatten()
            .map(|incident| incident.code.to_string())
            .collect();
        found.sort();
        let mut wanted = incidents.clone();
        wanted.sort();
        if found != wanted {
            mismatches.push(format!(
                "expected the incidents {}, found {}",
                listed(&wanted),
                listed(&found)
            ));
        }
    }
    let null = Value::Null;
    let output = state
        .and_then(|state| state.output.as_ref())
        .unwrap_or(&null);
    let mut compare = |expected, whole| {
        for (key, value) in Option::into_iter(expected).flatten() {
            let path = format!("output.{key}");
            differences(&path, value, &output[key], whole, mismatches);
        }
    };
    compare(expect.output.as_ref(), false);
    compare(expect.exactly.as_ref(), true);
}

/// Where `found` lacks or differs from `expected`: mappings by key, numbers by value. `whole`: a
/// mapping has no further keys.
fn differences(
    path: &str,
    expected: &Value,
    found: &Value,
    whole: bool,
    mismatches: &mut Vec<String>,
) {
    let (Value::Object(wanted), Value::Object(given)) = (expected, found) else {
        if !same(expected, found) {
            mismatches.push(format!("expected {path} to be {expected}, it is {found}"));
        }
        return;
    };
    for (key, value) in wanted {
        if let Some(found) = given.get(key) {
            differences(&format!("{path}.{key}"), value, found, whole, mismatches);
            continue;
        }
        // A key that is misspelt is missing as well: a null is taken for one that is left out only
        // where no other key is meant.
        let others = given.keys().filter(|other| !wanted.contains_key(*other));
        let near = Suggester::default().nearest(key, others.map(String::as_str));
        if value.is_null() && !whole && near.is_none() {
            continue;
        }
        let hint = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        mismatches.push(format!(
            "expected {path}.{key} to be {value}, there is no such key{hint}"
        ));
    }
    if whole {
        for (key, value) in given.iter().filter(|(key, _)| !wanted.contains_key(*key)) {
            mismatches.push(format!("expected no {path}.{key}, it is {value}"));
        }
    }
}

/// Whether two values are equal; numbers by value, since `1` and `1.0` are one.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() || b.is_f64() => {
            matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if (a - b).abs() < 1e-9)
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let in_b = |(key, value): (&String, &Value)| b.get(key).is_some_and(|b| same(value, b));
            a.len() == b.len() && a.iter().all(in_b)
        }
        (a, b) => a == b,
    }
}

/// Names in one line.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn compared(expected: &Value, found: &Value, whole: bool) -> Vec<String> {
        let mut mismatches = Vec::new();
        differences("output.result", expected, found, whole, &mut mismatches);
        mismatches
    }

    #[test]
    fn mappings_may_have_further_keys_unless_nothing_else_is_expected() {
        let found = json!({"a": 1, "b": {"c": 2, "d": null}});
        let expected = json!({"a": 1.0, "b": {"c": 2}});
        assert_eq!(compared(&expected, &found, false), [""; 0]);
        assert_eq!(
            compared(&expected, &found, true),
            ["expected no output.result.b.d, it is null"]
        );
        let whole = json!({"a": 1, "b": {"c": 2, "d": null}});
        assert_eq!(compared(&whole, &found, true), [""; 0]);
    }

    #[test]
    fn a_misspelt_key_is_told_also_where_null_is_expected() {
        let found = json!({"label": null, "other": 1});
        assert_eq!(
            compared(&json!({"lable": null}), &found, false),
            [
                "expected output.result.lable to be null, there is no such key; did you mean `label`?"
            ]
        );
        assert_eq!(compared(&json!({"spans": null}), &found, false), [""; 0]);
        assert_eq!(
            compared(
                &json!({"spans": null, "label": null, "other": 1}),
                &found,
                true
            ),
            ["expected output.result.spans to be null, there is no such key"]
        );
        // A key that is expected itself is not meant by another one.
        let both = json!({"label": null, "labels": null});
        assert_eq!(compared(&both, &found, false), [""; 0]);
    }

    #[test]
    fn whole_numbers_are_compared_exactly_and_others_by_value() {
        let (a, b) = (
            json!(999_000_011_000_001_104_u64),
            json!(999_000_011_000_001_109_u64),
        );
        assert!(!same(&a, &b) && same(&a, &a));
        assert!(same(&json!([0.1, {"n": 1}]), &json!([0.1, {"n": 1.0}])));
        assert!(!same(&json!([1]), &json!([1, 2])));
    }
}
