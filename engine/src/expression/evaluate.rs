//! From a compiled expression and its variables to a value.

use cel::common::ast::IdedExpr;
use serde_json::Value;

use super::{
    Expression, ExpressionError,
    interpreter::Interpreter,
    stack::on_large_stack,
    variables::{Variable, Variables},
};

/// Depth up to which the caller's stack is enough, also in a debug build (a test has half a MiB).
/// Typical conditions are 3 to 5 deep.
const INLINE_DEPTH_MAX: usize = 24;
/// Most characters of a value that an error shows.
const SHOWN_MAX: usize = 200;
/// Most characters of a reason.
const REASON_MAX: usize = 500;

impl Expression {
    /// The value of the expression. Only the variables that it names are asked for.
    ///
    /// # Errors
    ///
    /// [`ExpressionError::Evaluation`] with the reason: a missing key (ask with `has(…)` or `in`),
    /// incompatible operands, a variable without a value here, or more work than
    /// [`limits`](crate::limits) allow.
    pub fn evaluate(&self, variables: &dyn Variables) -> Result<Value, ExpressionError> {
        self.guarded(|| self.run(variables))
    }

    /// Does `work` on a stack that is large enough for the expression.
    pub(super) fn guarded<T: Send>(
        &self,
        work: impl FnOnce() -> Result<T, ExpressionError> + Send,
    ) -> Result<T, ExpressionError> {
        if self.depth() <= INLINE_DEPTH_MAX {
            work()
        } else {
            on_large_stack(work)?
        }
    }

    /// The value of the expression as a boolean.
    ///
    /// # Errors
    ///
    /// As [`Expression::evaluate`], and [`ExpressionError::NotBool`] for any other value.
    pub fn evaluate_bool(&self, variables: &dyn Variables) -> Result<bool, ExpressionError> {
        let found = self.evaluate(variables)?;
        found.as_bool().ok_or_else(|| ExpressionError::NotBool {
            found: cut(&found.to_string(), SHOWN_MAX),
        })
    }

    fn run(&self, variables: &dyn Variables) -> Result<Value, ExpressionError> {
        let given = given(self.variables(), variables);
        let json = Interpreter::new(&given)
            .json(self.tree())
            .map_err(|reason| failed(&reason))?;
        if contains_nul(&json) {
            return Err(failed(
                "the expression yields the NUL character, which no database keeps",
            ));
        }
        Ok(json)
    }
}

/// The value of a part of an expression that reads the variables `names`; none if JSON has no form
/// for it, as for a type.
pub(super) fn value_of(
    part: &IdedExpr,
    names: &[&'static str],
    variables: &dyn Variables,
) -> Result<Option<Value>, ExpressionError> {
    let given = given(names, variables);
    let found = Interpreter::new(&given).json_if_any(part);
    found.map_err(|reason| failed(&reason))
}

/// The variables that an expression names, as far as they have a value.
fn given<'v>(
    names: &[&'static str],
    variables: &'v dyn Variables,
) -> Vec<(&'static str, Variable<'v>)> {
    let asked = names.iter();
    asked
        .filter_map(|name| Some((*name, variables.variable(name)?)))
        .collect()
}

fn failed(reason: &str) -> ExpressionError {
    ExpressionError::Evaluation {
        reason: cut(reason, REASON_MAX),
    }
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

fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
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
            error
                .to_string()
                .contains("there is no key `nope` in `input`; ask `has(input.nope)` first"),
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
