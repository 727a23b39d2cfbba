//! Compares submissions to gold tasks with the known answer.

use serde_json::Value;

use super::{
    Selection,
    value::{same, value_at},
};

/// Whether `data` contains the `expected` answer; `None` if the known answer does not cover this
/// step.
///
/// If the known answer is an object, it contains the answers by field, so one task can be gold for
/// several steps:
///
/// - A step that takes one field is compared by that field. If the object lacks the field, it is
///   compared only with an answer that is itself an object.
/// - A step that takes several fields is compared by the fields in the known answer.
/// - For a step that takes all data, keys that the known answer lacks do not count.
///
/// Any other known answer is that of the step's field.
pub(crate) fn is_expected(
    selection: &Selection<'_>,
    data: &Value,
    expected: &Value,
) -> Option<bool> {
    let known = |field: &str| {
        let known = expected
            .get(field)
            .or_else(|| value_at(expected, Some(field)));
        known.filter(|known| !known.is_null())
    };
    match selection {
        Selection::Field(field) => {
            let given = value_at(data, Some(field))?;
            let whole = || (given.is_object() == expected.is_object()).then_some(expected);
            let known = if expected.is_object() {
                known(field).or_else(whole)
            } else {
                Some(expected)
            };
            Some(same(given, known?))
        }
        Selection::Fields(fields) => {
            let known: Vec<(&str, &Value)> = fields
                .iter()
                .filter_map(|field| Some((*field, known(field)?)))
                .collect();
            let gives = |(field, known): &(&str, &Value)| {
                value_at(data, Some(field)).is_some_and(|given| same(given, known))
            };
            (!known.is_empty()).then(|| known.iter().all(gives))
        }
        Selection::All => match (data, expected) {
            (Value::Object(given), Value::Object(known)) => Some(
                known
                    .iter()
                    .all(|(key, known)| given.get(key).is_some_and(|given| same(given, known))),
            ),
            (Value::Object(_), _) | (_, Value::Object(_)) => None,
            (given, known) => Some(same(given, known)),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_known_answer_stands_for_the_field_or_names_it() {
        let label = Selection::Field("label");
        let data = json!({"label": "a", "time": 3});
        let compared = |expected: Value| is_expected(&label, &data, &expected);
        assert_eq!(compared(json!("a")), Some(true));
        assert_eq!(compared(json!("b")), Some(false));
        assert_eq!(compared(json!({"label": "a"})), Some(true));
        assert_eq!(compared(json!({"label": "b", "spans": []})), Some(false));
        assert_eq!(
            compared(json!({"spans": []})),
            None,
            "gold for another step"
        );
        let nested = json!({"label": {"x": 1.0}});
        assert_eq!(is_expected(&label, &nested, &json!({"x": 1})), Some(true));
        assert_eq!(
            is_expected(
                &Selection::Field("a.b"),
                &json!({"a": {"b": 1}}),
                &json!({"a.b": 1})
            ),
            Some(true)
        );
    }

    #[test]
    fn of_several_fields_those_count_that_are_known() {
        let fields = Selection::Fields(vec!["a", "b"]);
        let data = json!({"a": 1, "b": 2});
        let compared = |expected: Value| is_expected(&fields, &data, &expected);
        assert_eq!(compared(json!({"a": 1, "b": 2})), Some(true));
        assert_eq!(compared(json!({"a": 1})), Some(true));
        assert_eq!(compared(json!({"a": 1, "b": 3})), Some(false));
        assert_eq!(compared(json!({"c": 1})), None);
        assert_eq!(compared(json!(1)), None);
    }

    #[test]
    fn without_a_field_all_known_keys_count() {
        let compared =
            |data: Value, expected: Value| is_expected(&Selection::All, &data, &expected);
        assert_eq!(
            compared(json!({"x": 1, "y": 2}), json!({"x": 1})),
            Some(true)
        );
        assert_eq!(compared(json!({"x": 1}), json!({"x": 2})), Some(false));
        assert_eq!(
            compared(json!({"x": 1}), json!(1)),
            None,
            "no telling which key is meant"
        );
        assert_eq!(compared(json!(["a"]), json!(["a"])), Some(true));
    }
}
