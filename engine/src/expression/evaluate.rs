//! From a compiled expression and its variables to a value.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use cel::{Context, ExecutionError, Value as CelValue};
use serde_json::Value;

use super::{Expression, ExpressionError, compile::environment, stack::on_large_stack};
use crate::canonical;

/// Depth up to which the caller's stack is enough. A level takes up to 30 KiB in a debug build, so
/// this uses an eighth of a thread's usual 2 MiB. Typical conditions are 3 to 5 deep.
const INLINE_DEPTH_MAX: usize = 8;
/// Most characters of a value that an error shows.
const SHOWN_MAX: usize = 200;

impl Expression {
    /// The value of the expression, given an object from variable to value.
    ///
    /// # Errors
    ///
    /// [`ExpressionError::Evaluation`] with the reason: a missing key (ask with `has(…)` or `in`),
    /// incompatible operands, or a variable missing from `variables`.
    pub fn evaluate(&self, variables: &Value) -> Result<Value, ExpressionError> {
        // A panic inside the interpreter must fail this expression only.
        let run = || {
            catch_unwind(AssertUnwindSafe(|| self.run(variables))).unwrap_or_else(|_| {
                Err(ExpressionError::Evaluation {
                    reason: "the interpreter panicked".to_owned(),
                })
            })
        };
        if self.depth() <= INLINE_DEPTH_MAX {
            run()
        } else {
            on_large_stack(run)?
        }
    }

    /// The value of the expression as a boolean.
    ///
    /// # Errors
    ///
    /// As [`Expression::evaluate`], and [`ExpressionError::NotBool`] for any other value.
    pub fn evaluate_bool(&self, variables: &Value) -> Result<bool, ExpressionError> {
        let found = self.evaluate(variables)?;
        found.as_bool().ok_or_else(|| ExpressionError::NotBool {
            found: cut(&found.to_string()),
        })
    }

    fn run(&self, variables: &Value) -> Result<Value, ExpressionError> {
        let mut context = Context::with_env(environment());
        // This fails only if another function has the name, and none has.
        let _ = context.add_function("sample", sample);
        for name in self.variables() {
            if let Some(value) = variables.get(name) {
                context.add_variable_from_value(*name, to_cel(value));
            }
        }
        let value = self
            .program()
            .execute(&context)
            .map_err(|error| failed(&error))?;
        let json = value.json().map_err(|_| ExpressionError::Evaluation {
            reason: format!(
                "the expression yields a {}, which no step can use",
                value.type_of()
            ),
        })?;
        if contains_nul(&json) {
            let reason =
                "the expression yields the NUL character, which no database keeps".to_owned();
            return Err(ExpressionError::Evaluation { reason });
        }
        Ok(json)
    }
}

/// Whether `key` belongs to a sample of `share` of all keys. The same key always gets the same
/// result. The first eight bytes of the SHA-256 of the key as canonical JSON (keys sorted, no
/// blanks; a text with its quotes) are a number below 2^64; the key is in the sample if the number
/// is below `share` × 2^64. A larger sample contains every smaller one.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the interpreter calls"
)]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a share is a number, whatever else the interpreter knows"
)]
fn sample(key: CelValue, share: CelValue) -> Result<bool, ExecutionError> {
    let fault = |message: &str| Err(ExecutionError::function_error("sample", message));
    let share = match share {
        CelValue::Float(share) => share,
        CelValue::Int(0) => 0.0,
        CelValue::Int(1) => 1.0,
        _ => return fault("the share must be a number from 0 to 1"),
    };
    if !(0.0..=1.0).contains(&share) {
        return fault("the share goes from 0 to 1");
    }
    let Ok(key) = key.json() else {
        return fault("the key must be plain data");
    };
    let hash = canonical::hash(&key);
    let number = hash[..8]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    // A share is a 64-bit float, which distinguishes 53 bits.
    let number = number >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let part = number as f64 / (1_u64 << 53) as f64;
    Ok(part < share)
}

/// Whether a text or a key contains NUL. Variables never contain it, but expressions can create it.
fn contains_nul(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(contains_nul),
        Value::Object(entries) => entries
            .iter()
            .any(|(key, value)| key.contains('\0') || contains_nul(value)),
    }
}

/// CEL's own conversion turns JSON integers into unsigned ones, which cannot be added to literals.
fn to_cel(value: &Value) -> CelValue {
    match value {
        Value::Null => CelValue::Null,
        Value::Bool(b) => CelValue::Bool(*b),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => CelValue::Int(int),
            (None, Some(float)) => CelValue::Float(float),
            (None, None) => CelValue::Null,
        },
        Value::String(text) => CelValue::String(Arc::new(text.clone())),
        Value::Array(items) => CelValue::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(entries) => CelValue::Map(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), to_cel(value)))
                .collect::<HashMap<String, CelValue>>()
                .into(),
        ),
    }
}

/// The kind of a value, for messages.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the values that JSON has; the interpreter has others"
)]
fn named(value: &CelValue) -> &'static str {
    match value {
        CelValue::Null => "null",
        CelValue::Bool(_) => "a truth value",
        CelValue::Int(_) | CelValue::UInt(_) => "a whole number",
        CelValue::Float(_) => "a decimal number",
        CelValue::String(_) => "a text",
        CelValue::Bytes(_) => "bytes",
        CelValue::List(_) => "a list",
        CelValue::Map(_) => "a mapping",
        _ => "something else",
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the rest say of themselves what they are"
)]
fn failed(error: &ExecutionError) -> ExpressionError {
    let reason = match error {
        ExecutionError::NoSuchKey(key) => {
            format!("there is no key `{key}`; ask with `has(…)` or `in` where it may be missing")
        }
        ExecutionError::UndeclaredReference(name) => format!("`{name}` has no value here"),
        ExecutionError::IndexOutOfBounds(_) => "the index is outside of the list".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            let sign = match *operator {
                "add" => "+",
                "sub" => "-",
                "mul" => "*",
                "div" => "/",
                "rem" => "%",
                other => other,
            };
            format!(
                "`{sign}` does not take {} and {}",
                named(left),
                named(right)
            )
        }
        ExecutionError::NoSuchOverload(call) => {
            // Operators are named by signs between marks: `_>_`, `@in`.
            let name = call.function().trim_matches(['_', '@']);
            let types = call.argument_types().join(" and ");
            format!("`{name}` does not take {types}")
        }
        ExecutionError::UnexpectedType { got, want } => {
            format!("found a value of type {got} where {want} is needed")
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("{} and {} have no order", named(left), named(right))
        }
        ExecutionError::UnsupportedIndex(index, of) => {
            format!("{} is no index of {}", named(index), named(of))
        }
        ExecutionError::FunctionError { function, message } => format!("`{function}`: {message}"),
        ExecutionError::Overflow(..) => "the number is too large".to_owned(),
        other => other.to_string(),
    };
    ExpressionError::Evaluation {
        reason: cut(&reason),
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expression::StepReference;

    fn value(source: &str) -> Result<Value, ExpressionError> {
        Expression::compile(source)?.evaluate(&json!({
            "agreement": 0.5,
            "threshold": 1,
            "result": {"decision": "reject", "value": null},
            "input": {"n": 3, "f": 3.0, "big": u64::MAX, "tags": ["a", "b"], "deep": {"x": {}}},
            "step": {"annotate": {"visits": 2}},
            "context": {},
        }))
    }

    fn answer(source: &str) -> bool {
        value(source).unwrap_or_else(|error| panic!("{source}: {error}")) == json!(true)
    }

    #[test]
    fn whole_and_decimal_numbers_compare_naturally() {
        for source in [
            "input.n == 3",
            "input.n == 3.0",
            "input.f == 3",
            "input.f == 3.0",
            "input.n + 1 == 4",
            "agreement >= 0.5",
            "agreement < 1",
            "agreement < threshold",
            "threshold >= 0.5",
            "input.n in [1, 2, 3]",
            "input.f in [3]",
            "input.big > 3",
            "type(input.n) == int",
            "input.n - 4 < 0",
            "-input.n == -3",
        ] {
            assert!(answer(source), "{source}");
        }
    }

    #[test]
    fn the_root_sign_is_optional() {
        assert!(answer("$.result.decision == 'reject'"));
        assert!(answer("result.decision == 'reject' && $.agreement == 0.5"));
        assert!(answer("'$.result' != \"$.agreement\""));
    }

    #[test]
    fn missing_keys_are_faults_unless_asked_for() {
        assert!(answer("!has(input.nope)"));
        assert!(answer(
            "has(input.n) && !('x' in input) && 'a' in input.tags"
        ));
        assert!(answer("!has(input.deep.x.y)"));
        let error = value("input.nope == 1").unwrap_err();
        assert!(
            error.to_string().contains("there is no key `nope`"),
            "{error}"
        );
        let error = value("annotation.label == 1").unwrap_err();
        assert!(
            error.to_string().contains("`annotation` has no value here"),
            "{error}"
        );
    }

    #[test]
    fn a_question_with_another_answer_is_a_fault() {
        let facts = json!({"input": {"n": 3, "long": "x".repeat(5_000)}});
        let error = Expression::compile("input.n")
            .unwrap()
            .evaluate_bool(&facts)
            .unwrap_err();
        assert_eq!(
            error,
            ExpressionError::NotBool {
                found: "3".to_owned()
            }
        );
        let error = Expression::compile("input.long")
            .unwrap()
            .evaluate_bool(&facts)
            .unwrap_err();
        assert!(error.to_string().len() < 400, "{error}");
        for source in [
            "agreement",
            "1 + 1",
            "'yes'",
            "[true]",
            "size(input.tags)",
            "null",
        ] {
            assert!(
                matches!(
                    Expression::compile_bool(source),
                    Err(ExpressionError::NeverBool { .. })
                ),
                "{source}"
            );
        }
        for source in [
            "true",
            "input.flag",
            "input.n == 3",
            "!input.flag",
            "has(input.a)",
        ] {
            Expression::compile_bool(source).unwrap();
        }
    }

    #[test]
    fn a_sample_is_always_the_same_share() {
        let taken = |key: String, share: &str| {
            let source = format!("sample({key}, {share})");
            Expression::compile_bool(&source)
                .unwrap()
                .evaluate_bool(&json!({}))
                .unwrap()
        };
        // The first bytes of SHA-256 of `"a"`, quotes included, are ac 8d: 0.674 of all.
        assert!(taken("'a'".to_owned(), "0.68") && !taken("'a'".to_owned(), "0.67"));
        assert!(!taken("'a'".to_owned(), "0") && taken("'a'".to_owned(), "1"));
        assert_eq!(
            taken("{'b': 1, 'a': [2]}".to_owned(), "0.5"),
            taken("{'a': [2], 'b': 1}".to_owned(), "0.5")
        );
        let count = (0..2_000).filter(|n| taken(n.to_string(), "0.1")).count();
        assert!((160..=240).contains(&count), "{count}");
        for source in [
            "sample('a')",
            "sample('a', 10)",
            "sample('a', -1)",
            "'a'.sample(0.1)",
            "sample('a', 1.5)",
        ] {
            let error = Expression::compile(source).unwrap_err();
            assert!(
                matches!(error, ExpressionError::Syntax { .. }),
                "{source}: {error}"
            );
        }
        let error = Expression::compile("sample('a', 'b')")
            .unwrap()
            .evaluate(&json!({}))
            .unwrap_err();
        assert!(
            error.to_string().contains("a number from 0 to 1"),
            "{error}"
        );
    }

    #[test]
    fn what_no_database_keeps_is_a_fault() {
        for source in [r"'a\u0000'", r"['b', {'\u0000': 1}]"] {
            let error = Expression::compile(source).unwrap().evaluate(&json!({}));
            assert!(error.unwrap_err().to_string().contains("NUL"), "{source}");
        }
    }

    #[test]
    fn null_compares_only_for_equality() {
        assert!(answer("result.value == null"));
        assert!(answer("agreement != null"));
        assert!(matches!(
            value("result.value > 1"),
            Err(ExpressionError::Evaluation { .. })
        ));
    }

    #[test]
    fn unknown_names_are_refused_with_the_nearest() {
        let error = Expression::compile("1 == 1 && agrement > 1").unwrap_err();
        assert_eq!(error.offset(), Some(10));
        assert_eq!(error.suggestion(), Some("agreement"));
        let error = Expression::compile("startWith('a', 'b')").unwrap_err();
        assert_eq!(error.suggestion(), Some("startsWith"));
        for source in [
            "now() > 1",
            "input.foo(1)",
            "'a'.matches('b')",
            "optional.of(1) == 1",
            "Foo{a: 1} == 1",
        ] {
            assert!(
                matches!(
                    Expression::compile(source),
                    Err(ExpressionError::UnknownFunction { .. }
                        | ExpressionError::UnknownVariable { .. })
                ),
                "{source}: {:?}",
                Expression::compile(source)
            );
        }
    }

    #[test]
    fn fields_that_never_exist_are_refused_with_the_nearest() {
        for (source, offset, near) in [
            ("result.decison == 'reject'", 7, Some("decision")),
            ("$.result.agrement > 0.5", 9, Some("agreement")),
            ("result['valu'] == 1", 8, Some("value")),
            ("step.a.visit > 1", 7, Some("visits")),
            (
                "step['a'].result.resolvedby == 'x'",
                17,
                Some("resolved_by"),
            ),
            ("step['a'].banana", 10, None),
        ] {
            let error = Expression::compile(source).unwrap_err();
            assert!(
                matches!(error, ExpressionError::UnknownField { .. }),
                "{error:?}"
            );
            assert_eq!(
                (error.offset(), error.suggestion()),
                (Some(offset), near),
                "{source}"
            );
        }
        for source in [
            "result.value.decison == 1",
            "input.result.decison == 1",
            "step['a'].result.value.x == 1 && result['decision'] == 'x'",
            "annotation.step.b == 1",
            "size(result) > 1 && has(step.b)",
        ] {
            Expression::compile(source).unwrap();
        }
    }

    #[test]
    fn loops_are_refused() {
        for source in [
            "input.tags.all(t, t == 'a')",
            "input.tags.exists(t, t == 'a')",
            "input.tags.map(t, t) == []",
            "input.tags.filter(t, t == 'a') == []",
            "input.tags.exists_one(t, t == 'a')",
            "size([1].map(x, [2].map(y, x * y))) == 1",
        ] {
            let error = Expression::compile(source).unwrap_err();
            assert!(
                matches!(error, ExpressionError::Loop { .. }),
                "{source}: {error}"
            );
        }
    }

    #[test]
    fn faults_of_the_grammar_have_a_place() {
        for (source, offset) in [
            ("agreement >", 11),
            ("agreement = 1", 10),
            ("(agreement > 1", 14),
            ("agreement > 1)", 13),
            ("'abc", 0),
            ("$.agreement >= >= 1", 15),
            ("ä", 0),
        ] {
            let error = Expression::compile(source).unwrap_err();
            assert_eq!(error.offset(), Some(offset), "{source}: {error:?}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        assert_eq!(
            Expression::compile(" // no more "),
            Err(ExpressionError::Empty)
        );
    }

    #[test]
    fn named_steps_are_listed() {
        let expression =
            Expression::compile("step[\"a\"].visits > 1 && step.b.completed && input.step.c == 1")
                .unwrap();
        let named = |id: &str, offset| StepReference {
            id: id.to_owned(),
            offset,
        };
        assert_eq!(
            expression.step_references(),
            [named("a", 6), named("b", 29)]
        );
        assert_eq!(expression.variables(), ["step", "input"]);
    }

    /// The worst expressions within the bounds, valid or not, must neither overflow a stack nor
    /// take long. This runs in debug builds, whose frames are largest.
    #[test]
    fn the_worst_allowed_expressions_do_not_overflow() {
        let chain = |item: &str, sign: &str| [item].repeat(256).join(sign);
        let nested = |open: &str, close: &str| format!("{}1{}", open.repeat(32), close.repeat(32));
        let worst = [
            chain("1", "+"),
            chain("1", "<"),
            chain("true", "&&"),
            chain("true", "?1:"),
            chain("1", " in "),
            chain("[1]", "+").chars().take(1_020).collect(),
            format!("input{}", ".a".repeat(255)),
            format!("input{}", "[0]".repeat(170)),
            format!("input{}", ".size()".repeat(127)),
            format!("{}true", "!".repeat(511)),
            format!("{}1", "-".repeat(511)),
            format!("{}1", "- ".repeat(511)),
            nested("(", ")"),
            nested("[", "]"),
            nested("1+(", ")"),
            nested("int(", ")"),
            nested("1+1+1+1+1+1+(", ")"),
            nested("{1:", "}"),
            nested("-(-(", "))").replace("((", "("),
            nested("true?1:(", ")"),
            nested("size([", "])"),
            "(".repeat(32),
            "!(".repeat(32),
            "[{".repeat(16),
            format!("{}{}", "input[".repeat(32), "]".repeat(32)),
            "'".repeat(2_048),
            "a".repeat(2_048),
            "\\".repeat(512),
            "?".repeat(512),
            "1?".repeat(256),
            "ü".repeat(512),
            format!("'{}'", "x".repeat(2_046)),
        ];
        for source in worst {
            if let Ok(expression) = Expression::compile(&source) {
                let _ = expression.evaluate(&json!({"input": []}));
            }
        }
        for source in [
            chain("1", "+") + "+1+1",
            "a".repeat(2_049),
            nested("[", "]").replace('1', "[1]"),
        ] {
            assert!(
                matches!(
                    Expression::compile(&source),
                    Err(ExpressionError::TooLong { .. }
                        | ExpressionError::TooDeep { .. }
                        | ExpressionError::TooComplex { .. })
                ),
                "{source}"
            );
        }
    }

    #[test]
    fn expressions_go_between_threads() {
        fn shared<T: Send + Sync + Clone>(_: &T) {}
        shared(&Expression::compile("true").unwrap());
    }
}
