//! What expressions mean, in many small cases.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{
    Expression, ExpressionError, Variable, Variables,
    names::{FUNCTIONS, VARIABLES},
};
use crate::limits::EXPRESSION_VISITS_MAX;

fn facts() -> Value {
    json!({
        "agreement": null,
        "result": {"kind": "annotation", "value": null, "decision": null},
        "annotation": {
            "label": "cat", "score": 3, "share": 0.5, "nothing": null, "tags": ["a", "b"],
            "x": null, "größe": 7, "first-pass": true, "deep": {"list": [{"y": 1}]},
        },
        "annotations": [
            {"flag": true, "score": 3}, {"flag": false, "score": 1.5}, {"score": null},
        ],
        "step": {"first-pass": {"visits": 1, "completed": true}},
        "input": {"large": u64::MAX, "near": u64::MAX - 1, "low": i64::MIN},
        "context": {},
        "labels": {"lang": "de"},
        "task": {"id": "t1"},
        "task_id": "t1",
    })
}

fn value(source: &str) -> Result<Value, ExpressionError> {
    Expression::compile(source)?.evaluate(&facts())
}

fn assert_true(source: &str) {
    assert_eq!(value(source), Ok(json!(true)), "{source}");
}

/// The fault of an expression, at compiling or when it is evaluated.
fn fault(source: &str) -> String {
    match value(source) {
        Ok(value) => panic!("{source}: {value}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn whole_numbers_and_doubles_meet() {
    for (source, expected) in [
        ("3 * 0.5", json!(1.5)),
        ("annotation.score * 0.5", json!(1.5)),
        ("annotation.score + annotation.share", json!(3.5)),
        ("0.5 - 1", json!(-0.5)),
        ("1 / 2.0", json!(0.5)),
        ("7 % 2.5", json!(2.0)),
        ("3 / 2", json!(1)),
        ("-3 / 2", json!(-1)),
        ("-3 % 2", json!(-1)),
        ("3.0 / 2", json!(1.5)),
        ("1u + 1", json!(2)),
        ("1u + 0.5", json!(1.5)),
        ("input.large - 1 == input.near", json!(true)),
        ("input.near + 1", json!(u64::MAX)),
        ("-(0.0)", json!(-0.0)),
    ] {
        assert_eq!(value(source), Ok(expected), "{source}");
    }
    for source in [
        "1 < 1.5",
        "2 > 1.5",
        "1.5 <= 2",
        "annotation.score >= 2.5",
        "annotations[0].score > annotations[1].score",
        "3 in [3.0]",
        "[1, {'a': 2.0}] == [1.0, {'a': 2}]",
        "{1: 'a'}[1.0] == 'a'",
        "annotation.tags[1.0] == 'b'",
    ] {
        assert_true(source);
    }
    for (source, part) in [
        ("9223372036854775807 + 1", "too large"),
        ("input.large + 1", "too large"),
        ("-input.large", "too large"),
        ("1u - 2u", "too large"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("1 / 0.0", "JSON does not have"),
        ("0.0 / 0.0 > 1", "no order"),
    ] {
        assert!(fault(source).contains(part), "{source}: {}", fault(source));
    }
}

#[test]
fn numbers_are_equal_by_exact_value() {
    for source in [
        "1 == 1.0",
        "1u == 1",
        "-0.0 == 0",
        "9007199254740992 == 9007199254740992.0",
        "9007199254740993 != 9007199254740992.0",
        "9007199254740993 > 9007199254740992.0",
        "9007199254740993 != 9007199254740992",
        "9223372036854775807 != 9223372036854775808.0",
        "input.large != input.near",
        "input.large > input.near",
        "input.large != 18446744073709551616.0",
        "input.large == 18446744073709551615u",
        "input.low == -9223372036854775808.0",
        "!(9007199254740993 in [9007199254740992.0, 9007199254740992])",
        "0.0 / 0.0 != 0.0 / 0.0",
        "1 != '1' && 1 != true && null != 0",
    ] {
        assert_true(source);
    }
}

#[test]
fn has_is_false_where_anything_on_the_way_is_missing_or_null() {
    for source in [
        "has(annotation.label)",
        "has(annotation.x)",
        "!has(annotation.x.y)",
        "!has(annotation.x.y.z)",
        "!has(annotation.nope)",
        "!has(annotation.nope.y)",
        "!has(annotation.label.y)",
        "!has(annotation.tags.y)",
        "!has(agreement.y)",
        "!has(result.posterior)",
        "!has(result.posterior.confidence)",
        "has(annotation['größe'])",
        "has(annotation.tags[1]) && !has(annotation.tags[2])",
        "has(annotation.deep.list[0].y) && !has(annotation.deep.list[1].y)",
        "has(labels.lang) && !has(labels.nope)",
        "has({'a': 1}.a)",
        "has(annotation.x.y) || true",
    ] {
        assert_true(source);
    }
    for source in [
        "has(annotation)",
        "has(1)",
        "has(annotation.a, annotation.b)",
        "has()",
        "annotation.has(label)",
        "has(annotation.a == 1)",
    ] {
        let error = Expression::compile(source).unwrap_err();
        assert!(
            error.to_string().contains("`has(input.language)`"),
            "{source}: {error}"
        );
    }
    // A fault in the key that is asked for, or a variable without a value, is not merely missing.
    assert!(fault("has(annotation[1 / 0])").contains("division"));
    assert!(fault("has(threshold.x)").contains("`threshold` has no value here"));
}

#[test]
fn faults_name_the_part_and_how_to_ask() {
    for (source, reason) in [
        (
            "annotation.x > 1",
            "`annotation.x` is null, which `>` does not take; ask `annotation.x != null` first",
        ),
        (
            "1 + annotation['x']",
            "`annotation[\"x\"]` is null, which `+` does not take; ask `annotation[\"x\"] != null` first",
        ),
        (
            "agreement < 0.5",
            "`agreement` is null, which `<` does not take; ask `agreement != null` first",
        ),
        (
            "annotation.x.y == 1",
            "`annotation.x` is null, so it has no `y`; ask `has(annotation.x.y)` first where it may be missing",
        ),
        (
            "annotation.tags[0].size() + size(annotation.x)",
            "`annotation.x` is null, which `size` does not take; ask `annotation.x != null` first",
        ),
        (
            "annotation.deep.list[0].z",
            "there is no key `z` in `annotation.deep.list[0]`; ask `has(annotation.deep.list[0].z)` first where it may be missing",
        ),
        (
            "labels.nope == 'x'",
            "there is no key `nope` in `labels`; ask `has(labels.nope)` first where it may be missing",
        ),
        (
            "[1][1]",
            "the index is outside of the list, which has 1 elements",
        ),
        (
            "annotation.label.x",
            "a text (`annotation.label`) has no key `x`",
        ),
        (
            "annotation.tags.x",
            "a list (`annotation.tags`) has no key `x`",
        ),
        (
            "annotation.tags['x']",
            "a list (`annotation.tags`) has no key `x`",
        ),
        (
            "annotation.label[0]",
            "a whole number is no index of a text (`annotation.label`)",
        ),
        (
            "annotation.label + 1",
            "`+` does not take a text (`annotation.label`) and a whole number; `string(…)` makes a text of a number",
        ),
        (
            "annotation.label < 1",
            "`<` finds no order of a text (`annotation.label`) and a whole number",
        ),
        (
            "'a' in annotation.label",
            "`in` looks in a list or a mapping, not in a text (`annotation.label`); ask a text with `contains`",
        ),
        (
            "'a' in annotation.x",
            "`annotation.x` is null, which `in` does not take; ask `annotation.x != null` first",
        ),
        (
            "!annotation.label",
            "`!` asks for true or false, not a text (`annotation.label`)",
        ),
        (
            "annotation.label ? 1 : 2",
            "`?` asks for true or false, not a text (`annotation.label`)",
        ),
        (
            "annotation.x && true",
            "`annotation.x` is null, which `&&` does not take; ask `annotation.x != null` first",
        ),
        (
            "-annotation.label",
            "`-` does not take a text (`annotation.label`)",
        ),
        ("int('x')", "`int` cannot read `x`"),
        (
            "'abc'.contains(1)",
            "`text.contains(part)` does not take a text and a whole number",
        ),
        ("{'a': 1, 'a': 2}", "the mapping has the key `a` twice"),
        ("{1.5: 1}", "a decimal number is no key of a mapping"),
        (
            "annotations.all(a, a.nope == true)",
            "there is no key `nope` in `a`; ask `has(a.nope)` first where it may be missing",
        ),
        (
            "annotations.exists(a, a.score > 5)",
            "`a.score` is null, which `>` does not take; ask `a.score != null` first",
        ),
        (
            "type(1)",
            "the expression yields a type, which no step can use",
        ),
    ] {
        assert_eq!(fault(source), reason, "{source}");
    }
    let key = "k".repeat(900);
    let long = format!("annotation['{key}'] == annotation['{key}']");
    assert!(fault(&long).len() < 600, "{}", fault(&long));
}

#[test]
fn keys_that_need_quotes_are_hinted_at() {
    for (source, offset, hint) in [
        (
            "step.first-pass.result.value.x > 1",
            5,
            "step[\"first-pass\"]",
        ),
        ("$.step.first-pass.completed", 7, "step[\"first-pass\"]"),
        ("step.first-input.completed", 5, "step[\"first-input\"]"),
        ("step.pass-2.visits > 1", 5, "step[\"pass-2\"]"),
        (
            "1 < annotation.first-pass",
            15,
            "annotation[\"first-pass\"]",
        ),
        (
            "annotation.deep.list[0].a-b-c == 1",
            24,
            "annotation.deep.list[0][\"a-b-c\"]",
        ),
        ("annotation.größe > 5", 11, "annotation[\"größe\"]"),
        (
            "annotation['x'].größe.y > 5",
            16,
            "annotation['x'][\"größe\"]",
        ),
        ("has(annotation.größe)", 15, "annotation[\"größe\"]"),
        ("annotation.2nd == 1", 11, "annotation[\"2nd\"]"),
        ("annotation.in == 1", 11, "annotation[\"in\"]"),
    ] {
        let error = Expression::compile(source).unwrap_err();
        assert_eq!(error.suggestion(), Some(hint), "{source}: {error:?}");
        assert_eq!(error.offset(), Some(offset), "{source}: {error:?}");
    }
    for source in [
        "annotation.score-annotation.share > 1.0",
        "annotation.score-2 == 1",
        "annotation.score - 2 == 1",
        "annotation[\"größe\"] == 7 && annotation['first-pass']",
        "step[\"first-pass\"].visits-1 == 0",
    ] {
        assert_true(source);
    }
}

#[test]
fn exists_and_all_ask_of_every_element() {
    for source in [
        "annotations.exists(a, has(a.flag) && a.flag)",
        "!annotations.all(a, has(a.flag) && a.flag)",
        "annotations.all(a, has(a.score))",
        "!annotations.exists(a, has(a.nope))",
        // An element that decides makes up for faults at others, before and after it.
        "annotations.exists(a, a.flag == true)",
        "annotations.exists(a, a.score < 2)",
        "!annotations.all(a, a.score > 2)",
        "![].exists(x, x) && [].all(x, x)",
        "annotation.tags.exists(t, t == 'b') && !annotation.tags.all(t, t == 'b')",
        "annotations.exists(a, annotation.tags.exists(t, t == 'a' && has(a.flag)))",
        "[1, 2].all(x, [3, 4].exists(y, y - x == 2))",
        "[1].all(x, [2].all(x, x == 2) && x == 1)",
        "labels.exists(key, key == 'lang' && labels[key] == 'de')",
        "annotations.exists(a, a == {'flag': true, 'score': 3.0})",
        "size(annotations) == 3 && annotations[0].flag",
        "['result'].exists(r, r == 'result')",
    ] {
        assert_true(source);
    }
    assert_eq!(
        Expression::compile("annotations.exists(a, a.flag == input.flag)")
            .unwrap()
            .variables(),
        ["annotations", "input"]
    );
    for (source, part) in [
        (
            "annotation.label.exists(x, x == 'c')",
            "`exists` visits a list, not a text",
        ),
        (
            "annotation.x.all(x, x)",
            "`annotation.x` is null, which `all` does not take",
        ),
        (
            "annotation.tags.all(t, t)",
            "`all` asks for true or false, not a text (`t`)",
        ),
        ("annotations.exists(a, b.flag)", "no variable `b`"),
        ("annotations.exists(a, true) && a.flag", "no variable `a`"),
        (
            "annotations.exists(result, result.flag)",
            "`result` has a meaning already",
        ),
        (
            "annotations.exists(int, int == 1)",
            "`int` has a meaning already",
        ),
        (
            "annotations.exists(a)",
            "annotations.exists(a, a.flag == true)",
        ),
        (
            "annotations.all(1, true)",
            "annotations.all(a, a.flag == true)",
        ),
        (
            "exists(annotations, a)",
            "annotations.exists(a, a.flag == true)",
        ),
    ] {
        assert!(fault(source).contains(part), "{source}: {}", fault(source));
    }
}

#[test]
fn other_macros_are_refused() {
    for source in [
        "annotation.tags.map(t, t) == []",
        "annotation.tags.filter(t, t == 'a') == []",
        "annotation.tags.map(t, t == 'a', t) == []",
        "annotation.tags.exists_one(t, t == 'a')",
        "annotation.tags.existsOne(t, t == 'a')",
        "size([1].map(x, [2].map(y, x * y))) == 1",
        "annotations.exists(a, a.tags.map(t, t) == [])",
    ] {
        let error = Expression::compile(source).unwrap_err();
        assert!(
            matches!(error, ExpressionError::Loop { .. }),
            "{source}: {error}"
        );
        assert!(error.to_string().contains("annotations.exists("), "{error}");
    }
}

#[test]
fn labels_and_the_task_can_be_read() {
    for source in [
        "labels.lang == 'de' || task.id == 'x'",
        "labels['lang'] == 'de' && 'lang' in labels && size(labels) == 1",
        "task_id == 't1' && task.id == task_id",
        "sample(task_id, 1)",
    ] {
        assert_true(source);
    }
    for source in ["labels", "annotations", "task", "task_id"] {
        let error = Expression::compile_bool(source).unwrap_err();
        assert!(
            matches!(error, ExpressionError::NeverBool { .. }),
            "{source}: {error}"
        );
    }
    for (source, offset, near) in [
        ("result.posterior.confidnce < 0.9", 17, Some("confidence")),
        ("step.a.result.posterior['unsen'] > 0.1", 25, Some("unseen")),
        ("result.postrior.confidence < 0.9", 7, Some("posterior")),
        ("task.name == 'x'", 5, None),
        ("anotations.all(a, a.x)", 0, Some("annotations")),
    ] {
        let error = Expression::compile(source).unwrap_err();
        assert_eq!(
            (error.offset(), error.suggestion()),
            (Some(offset), near),
            "{source}"
        );
    }
    Expression::compile_bool("has(result.posterior) && result.posterior.confidence < 0.9").unwrap();
}

/// Tells which variables were asked for.
struct Asked(Mutex<Vec<String>>);

impl Variables for Asked {
    fn variable(&self, name: &str) -> Option<Variable<'_>> {
        self.0.lock().unwrap().push(name.to_owned());
        Some(Variable::Made(json!(1)))
    }
}

#[test]
fn only_variables_that_are_named_are_asked_for() {
    let asked = Asked(Mutex::new(Vec::new()));
    let expression =
        Expression::compile("agreement + input == 2 && [1].all(a, a == input)").unwrap();
    assert_eq!(expression.evaluate(&asked), Ok(json!(true)));
    assert_eq!(*asked.0.lock().unwrap(), ["agreement", "input"]);
}

/// A task of a mebibyte: one long text, one list of many numbers, many annotations.
fn large() -> Value {
    json!({
        "input": {"text": "x".repeat(500_000), "list": vec![1; 250_000]},
        "annotations": (0..1_000).map(|n| json!({"n": n, "tags": ["a", "b"]})).collect::<Vec<_>>(),
        "task_id": "t",
    })
}

#[test]
fn ordinary_questions_to_a_large_task_are_answered() {
    let facts = large();
    let ask = |source: &str| Expression::compile(source).unwrap().evaluate(&facts);
    for source in [
        "size(input.text) == 500000 && size(input.list) == 250000",
        "input.text == input.text && input.list == input.list",
        "!input.text.contains('y') && !(2 in input.list)",
        "annotations.all(a, a.n >= 0 && a.n < 1000 && size(a.tags) == 2 && 'a' in a.tags)",
        "annotations.exists(a, a.n == 999 && a.tags.exists(t, t == 'b'))",
        "sample(input, 1)",
    ] {
        assert_eq!(ask(source), Ok(json!(true)), "{source}");
    }
    let keywords: Vec<String> = (0..40)
        .map(|n| format!("input.text.contains('{n}')"))
        .collect();
    assert_eq!(ask(&keywords.join(" || ")), Ok(json!(false)));
    assert_eq!(ask("input").map(|input| input == facts["input"]), Ok(true));
}

#[test]
fn an_evaluation_ends_soon_whatever_it_meets() {
    let facts = large();
    let chain = |part: &str, sign: &str, n: usize| vec![part; n].join(sign);
    let nested = |depth: usize| {
        let open: Vec<String> = (0..depth)
            .map(|n| format!("input.list.all(x{n}, "))
            .collect();
        let open = open.concat();
        format!("{open}true{}", ")".repeat(depth))
    };
    let literal = format!("[{}]", chain("1", ",", 30));
    for source in [
        format!("size({}) > 0", chain("input.text", "+", 100)),
        format!("size({}) > 0", chain("input.list", "+", 100)),
        format!("{} == 1", chain("sample(input, 0)", "||", 50).replace("||", " ? 0 : ") + " ? 0 : 1"),
        nested(1),
        nested(6),
        format!("{literal}.all(a, {literal}.all(b, {literal}.all(c, a == b || true)))"),
        "annotations.all(a, annotations.all(b, a == b || true))".to_owned(),
        "annotations.all(a, sample(input.text, 1))".to_owned(),
        "annotations.all(a, input == input)".to_owned(),
        "annotations.all(a, size(input.text) > 0)".to_owned(),
        "annotations.all(a, input.text + 'a' != '')".to_owned(),
        "annotations.all(a, !(a in input.list))".to_owned(),
        "annotations.all(a, [input, input] != [])".to_owned() + " && annotations.all(a, {input.text: a} != {})"
            + " && annotations.all(a, input.text < input.text || true)",
        format!("[{}]", chain("input", ",", 60)),
        // What ran out of steps is not made up for.
        "annotations.exists(a, input == [a] || input.list != [a] && input.list == input.list && false) || true"
            .to_owned(),
        format!("{} || true", nested(2)),
    ] {
        let expression = Expression::compile(&source).unwrap();
        let error = expression.evaluate(&facts).unwrap_err().to_string();
        assert!(
            error.contains("steps on this task") || error.contains("elements"),
            "{source}: {error}"
        );
    }
    let visits = |n: usize| {
        let facts = json!({"input": vec![1; n]});
        Expression::compile("input.all(x, x == 1)")
            .unwrap()
            .evaluate(&facts)
    };
    assert_eq!(visits(EXPRESSION_VISITS_MAX), Ok(json!(true)));
    let error = visits(EXPRESSION_VISITS_MAX + 1).unwrap_err().to_string();
    assert!(
        error.contains(&EXPRESSION_VISITS_MAX.to_string()),
        "{error}"
    );
}

/// The stack of the caller is enough for what is evaluated on it.
#[test]
fn expressions_that_are_not_deep_need_little_stack() {
    let nested =
        |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for source in [
        nested("-", "", 22).replace("--", "- -"),
        nested("[", "]", 22),
        nested("1+(", ")", 22),
        nested("int(", ")", 22),
        nested("true?1:(", ")", 22),
        nested("[1].all(x, 1 == ", ")", 10),
        format!("has(input{})", ".a".repeat(20)),
    ] {
        let expression = Expression::compile(&source).unwrap();
        std::thread::Builder::new()
            .stack_size(512 << 10)
            .spawn(move || drop(expression.evaluate(&json!({"input": null}))))
            .unwrap()
            .join()
            .unwrap();
    }
}

const PAGE: &str = include_str!("../../../docs/language.md");

/// The cells of the table with this heading.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, rows) = PAGE.split_once(heading).expect("the page has the table");
    rows.lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// What stands in backticks.
fn codes(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn the_page_lists_all_functions_and_its_examples_are_true() {
    let rows = table("| function | what it says | true, for example |");
    assert!(rows.len() >= 10, "the table is read");
    let facts = json!({
        "annotation": {"label": "cat", "tags": ["a", "b"], "place": null},
        "annotations": [{"flag": true}, {"flag": false}],
        "input": {"id": "item-1"},
    });
    let mut named = Vec::new();
    for row in rows {
        let [functions, _, examples] = row.as_slice() else {
            panic!("three columns: {row:?}")
        };
        named.extend(codes(functions).map(|form| {
            let form = form.split('(').next().unwrap_or_default();
            form.rsplit('.').next().unwrap_or_default()
        }));
        assert!(codes(examples).next().is_some(), "{row:?}");
        for example in codes(examples) {
            let expression = Expression::compile_bool(example).unwrap();
            assert_eq!(expression.evaluate(&facts), Ok(json!(true)), "{example}");
        }
    }
    for function in FUNCTIONS {
        assert!(named.contains(&function), "`{function}` is on the page");
    }
    let variables: Vec<&str> = table("| variable | value |")
        .into_iter()
        .flat_map(|row| codes(row[0]))
        .map(|name| name.split(['[', '.']).next().unwrap_or_default())
        .collect();
    for variable in VARIABLES {
        assert!(variables.contains(&variable), "`{variable}` is on the page");
    }
}

mod beside_the_crate {
    //! Where nothing else is wanted an expression means what it means to the crate's interpreter.

    use super::*;

    fn to_cel(value: &Value) -> cel::Value {
        match value {
            Value::Null => cel::Value::Null,
            Value::Bool(truth) => cel::Value::Bool(*truth),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => cel::Value::Int(whole),
                (None, double) => cel::Value::Float(double.unwrap()),
            },
            Value::String(text) => cel::Value::String(Arc::new(text.clone())),
            Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(to_cel).collect())),
            Value::Object(entries) => {
                let entries = entries
                    .iter()
                    .map(|(key, value)| (key.clone(), to_cel(value)));
                cel::Value::Map(entries.collect::<std::collections::HashMap<_, _>>().into())
            }
        }
    }

    /// What the crate makes of an expression over `input`; `None` for a fault.
    fn expected(program: &cel::Program, env: &Arc<cel::Env>, input: &Value) -> Option<Value> {
        let mut context = cel::Context::with_env(Arc::clone(env));
        context.add_variable_from_value("input", to_cel(input));
        program.execute(&context).ok()?.json().ok()
    }

    fn assert_alike(source: &str, inputs: &[Value], is_other: impl Fn(&Value) -> bool) {
        let env = Arc::new(cel::Env::stdlib().with_optional_support(false));
        let program = env.compile(source).unwrap();
        let ours = Expression::compile(source).unwrap();
        for input in inputs.iter().filter(|input| !is_other(input)) {
            let found = ours.evaluate(&json!({"input": input}));
            let expected = expected(&program, &env, input);
            // The crate has null for numbers that JSON does not have.
            let no_number = found
                .as_ref()
                .is_err_and(|error| error.to_string().contains("JSON"));
            if !(no_number && expected == Some(Value::Null)) {
                assert_eq!(
                    found.clone().ok(),
                    expected,
                    "{source} of {input}: {found:?}"
                );
            }
        }
    }

    fn samples() -> Vec<Value> {
        vec![
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(1),
            json!(-7),
            json!(i64::MAX),
            json!(i64::MIN),
            json!(0.0),
            json!(1.0),
            json!(2.5),
            json!(-1e300),
            json!(""),
            json!("a"),
            json!("abä"),
            json!("12"),
            json!("true"),
            json!([]),
            json!(["a", 1, null]),
            json!([1.0]),
            json!({}),
            json!({"a": 1}),
            json!({"a": [1, {"b": null}]}),
        ]
    }

    #[test]
    fn operators_mean_the_same() {
        let samples = samples();
        let pairs: Vec<Value> = samples
            .iter()
            .flat_map(|a| samples.iter().map(move |b| json!({"a": a, "b": b})))
            .collect();
        let is_mixed = |pair: &Value| {
            pair["a"].is_number()
                && pair["b"].is_number()
                && (pair["a"].is_f64() || pair["b"].is_f64())
        };
        let is_large = |value: &Value| value.as_i64().is_some_and(|n| n.unsigned_abs() > 1 << 53);
        for sign in ["==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"] {
            // Large whole numbers beside doubles are exact here.
            let is_other =
                |pair: &Value| is_mixed(pair) && (is_large(&pair["a"]) || is_large(&pair["b"]));
            assert_alike(&format!("input.a {sign} input.b"), &pairs, is_other);
        }
        for sign in ["+", "-", "*", "/", "%"] {
            // Numbers meet here, and a list takes no keys of a mapping.
            let is_other = |pair: &Value| {
                let is_double = pair["a"].is_f64() && pair["b"].is_f64() && sign != "%";
                is_mixed(pair) && !is_double || pair["a"].is_array() && pair["b"].is_object()
            };
            assert_alike(&format!("input.a {sign} input.b"), &pairs, is_other);
        }
        for source in [
            "input.a[input.b]",
            "input.a.contains(input.b)",
            "input.a.startsWith(input.b)",
            "input.a.endsWith(input.b)",
            "input.a ? input.b : 'no'",
            "[input.a, {'k': input.b}] == [input.b, {'k': input.a}]",
            "{input.a: input.b}",
        ] {
            assert_alike(source, &pairs, |_| false);
        }
    }

    #[test]
    fn functions_mean_the_same() {
        let samples = samples();
        for source in [
            "-input",
            "!input",
            "size(input)",
            "input.size()",
            "int(input)",
            "uint(input)",
            "double(input)",
            "string(input)",
            "bool(input)",
            "bytes(input)",
            "dyn(input)",
            "string(bytes(input)) == input",
            "size(bytes(input)) == size(input)",
            "type(input) == int || type(input) == list",
            "type(input) == type(1.5) || type(input) == null_type",
            "type(type(input)) == type",
            "input.a",
            "input.a[0]",
            "input['a'][1].b",
            "[input, 1u, b'a', \"x\", 1.5, null, true]",
            "{1: input, 2u: 2, true: 3, 'x': 4}",
            "'é' + r'\\n' + '\\n' < 'f'",
            "input.exists(x, x == 1)",
            "input.all(x, x == 1)",
            "input.exists(x, x < 'b')",
        ] {
            assert_alike(source, &samples, |_| false);
        }
        // `has` asks for a key wherever it may be missing.
        assert_alike("has(input.a)", &samples, |input| !input.is_object());
    }
}
