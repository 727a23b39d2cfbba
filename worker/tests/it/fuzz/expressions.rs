//! Expressions of conditions.

use std::sync::LazyLock;

use glyph_workflow_engine::expression::{Expression, ExpressionError, VARIABLES};
use serde_json::{Value, json};

use super::{Target, check_text, kind_of};

/// Values of all variables.
static VALUES: LazyLock<Value> = LazyLock::new(|| {
    let result = json!({"kind": "agreed", "value": {"label": "yes", "n": 3}, "agreement": 0.75, "decision": "true",
        "annotations": [{"label": "yes"}, {"label": "no"}]});
    let mut values = json!({"agreement": 0.75, "result": result, "annotation": {"label": "yes", "n": 1.5, "list": [1, 2, 3]}});
    for name in VARIABLES {
        if values.get(name).is_none() {
            values[name] =
                json!({"annotate": result, "id": "x", "label": "yes", "n": [1, {"a": null}]});
        }
    }
    values
});

pub(super) fn target() -> Target {
    let samples = [
        "agreement >= 0.8 && result.decision == \"true\"",
        "annotation.label in [\"yes\", 'no'] || !has(annotation.note)",
        "size(annotation.list) > 2 ? annotation.n + 1.0 : double(annotation.list[0])",
        "step[\"annotate\"].result.value.label == annotation.label",
        "annotation.list.map(x, x * 2).filter(x, x > 2).exists(x, x == 4)",
        "result.value.n - 9223372036854775807 < 0 && string(result.value.n).matches('^[0-9]+$')",
        "$.annotation.label.startsWith(\"y\") && [1, 2] + [3] == [1, 2, 3]",
        "{\"a\": 1, 'b': [null, true, b'x', r\"\\d\"]}.a == 1 && 1u < 2u",
    ];
    Target {
        name: "expressions",
        samples: samples.map(|text| text.as_bytes().to_vec()).into(),
        words: &[
            "&&",
            "||",
            "!",
            "==",
            "<=",
            " in ",
            "?",
            ":",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ".",
            "-",
            "%",
            "/ 0",
            "0",
            "1u",
            "9223372036854775807",
            "-9223372036854775808",
            "1e308",
            "0x7f",
            "'",
            "\"\"\"",
            "r'",
            "b'",
            "\\u0000",
            "\\ud800",
            "null",
            "has(",
            "size(",
            "matches(",
            "contains(",
            "all(x, ",
            "exists_one(",
            "map(x, ",
            "filter(x, ",
            "duration('1h')",
            "timestamp(",
            "annotation",
            "agreement",
            "result",
            "step",
            "task",
            "input",
            "context",
            "string(",
            "int(",
            "double(",
            "((((((((((",
            "+ [1]",
            "\u{1f600}",
            "// x\n",
        ],
        check,
    }
}

fn check(input: &[u8]) -> String {
    let source = String::from_utf8_lossy(input);
    let compiled = match Expression::compile(&source) {
        Ok(compiled) => compiled,
        Err(error) => return refused(&source, &error),
    };
    assert_eq!(compiled.source(), source);
    let again = Expression::compile(compiled.source()).unwrap();
    assert_eq!(again.variables(), compiled.variables());
    let value = compiled.evaluate(&*VALUES);
    match (&value, again.evaluate(&*VALUES)) {
        (Ok(one), Ok(two)) => assert_eq!(*one, two),
        (Err(one), Err(two)) => assert_eq!(one.to_string(), two.to_string()),
        (one, two) => panic!("{one:?} and then {two:?}"),
    }
    match value {
        Ok(value) => {
            let size = value.to_string().len();
            assert!(size <= 4 << 20, "a value of {size} bytes");
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "text",
                Value::Array(_) => "list",
                Value::Object(_) => "mapping",
            };
            format!("{kind} of {:?}", compiled.variables())
        }
        Err(error) => refused(&source, &error),
    }
}

/// A text, and a place that is in the source.
fn refused(source: &str, error: &ExpressionError) -> String {
    let text = error.to_string();
    check_text(&text);
    error.suggestion().into_iter().for_each(check_text);
    if let Some(offset) = error.offset() {
        assert!(source.is_char_boundary(offset), "{error:?} of {source:?}");
    }
    kind_of(&text)
}
