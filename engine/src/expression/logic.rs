//! What can be said about expressions before they are asked: with only a part of the variables
//! known, and about several of them together. It reads the syntax tree, never the text.

use std::collections::BTreeMap;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators},
};
use serde_json::{Map, Value, json};

use super::{Expression, ExpressionError, evaluate::value_of, names::VARIABLES};

/// Most different questions that several expressions may ask to be compared as a whole: every
/// combination of answers is tried.
const QUESTIONS_MAX: usize = 8;

/// What is known of a variable, or of a part of one.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// Nothing.
    Open,
    /// Its value.
    Is(Value),
    /// It is a mapping with exactly these keys.
    Keys(BTreeMap<String, Self>),
}

/// The variables by name, as far as they are known; the others are open.
pub type KnownVariables = BTreeMap<&'static str, Known>;

/// What an expression yields when a part of its variables is known.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// This value, whatever the open parts are.
    Is(Value),
    /// It fails, whatever the open parts are.
    Fails(ExpressionError),
    /// It depends on the open parts.
    Open,
}

impl Settled {
    fn is(&self, answer: bool) -> bool {
        matches!(self, Self::Is(Value::Bool(found)) if *found == answer)
    }
}

impl Expression {
    /// Evaluates as far as the known variables allow.
    pub fn settle(&self, variables: &KnownVariables) -> Settled {
        let is_read = |(name, known): (&&'static str, &Known)| {
            *known != Known::Open && self.variables().contains(name)
        };
        if !self.variables().is_empty() && !variables.iter().any(is_read) {
            return Settled::Open;
        }
        let placeholders: Map<String, Value> = variables
            .iter()
            .map(|(name, known)| ((*name).to_owned(), placeholder(known)))
            .collect();
        let partial = Partial {
            expression: self,
            variables,
            placeholders: placeholders.into(),
        };
        let settled = self.guarded(|| Ok(partial.settle(self.tree())));
        settled.unwrap_or_else(Settled::Fails)
    }

    /// The numbers with which the expression compares the agreement (`agreement` and
    /// `result.agreement`). `None` where it does anything else with the agreement.
    pub fn agreement_bounds(&self) -> Option<Vec<f64>> {
        let mut bounds = Vec::new();
        let found = self.guarded(|| Ok(collect_bounds(self.tree(), &mut bounds)));
        (found == Ok(true)).then_some(bounds)
    }
}

/// Whether at least one of the expressions is true whenever none of them fails, judging by their
/// form: `x > 1` and `x <= 1`, or `x`, `!x && y` and `!y`.
pub fn one_is_true(expressions: &[&Expression]) -> bool {
    let some_holds = |holds: &[bool]| holds.contains(&true);
    always(expressions, some_holds).unwrap_or_else(|| {
        let mut pairs = expressions
            .iter()
            .enumerate()
            .flat_map(|(at, one)| expressions[..at].iter().map(move |other| [*one, *other]));
        pairs.any(|pair| always(&pair, some_holds) == Some(true))
    })
}

/// Whether two expressions are never true together, judging by their form.
pub fn exclude_each_other(one: &Expression, other: &Expression) -> bool {
    let not_all = |holds: &[bool]| holds.contains(&false);
    always(&[one, other], not_all) == Some(true)
}

/// Whether `test` passes for every combination of answers to what the expressions ask; `None` where
/// they ask too much.
fn always(expressions: &[&Expression], test: impl Fn(&[bool]) -> bool) -> Option<bool> {
    let mut questions = Questions::default();
    let mut formulas = Vec::new();
    for expression in expressions {
        let formula = expression.guarded(|| Ok(questions.formula(expression.tree())));
        formulas.push(formula.ok()?);
    }
    let count = questions.0.len();
    (count <= QUESTIONS_MAX).then(|| {
        (0..1_u32 << count).all(|answers| {
            let holds: Vec<bool> = formulas
                .iter()
                .map(|formula| formula.holds(answers))
                .collect();
            test(&holds)
        })
    })
}

/// A value in place of what is known. Open parts are null and are never read.
fn placeholder(known: &Known) -> Value {
    match known {
        Known::Open => Value::Null,
        Known::Is(value) => value.clone(),
        Known::Keys(keys) => keys
            .iter()
            .map(|(key, known)| (key.clone(), placeholder(known)))
            .collect::<Map<_, _>>()
            .into(),
    }
}

/// A value that an expression reads by a path of keys from a variable.
enum Reading<'k> {
    Of(&'k Known),
    /// A part of a known value, or a key that is known to be missing.
    Decided,
}

struct Partial<'e> {
    expression: &'e Expression,
    variables: &'e KnownVariables,
    placeholders: Value,
}

impl Partial<'_> {
    fn settle(&self, node: &IdedExpr) -> Settled {
        if self.is_known(node) {
            return match value_of(node, self.expression.variables(), &self.placeholders) {
                // A part may have a value that JSON lacks: a type, bytes.
                Ok(value) => value.map_or(Settled::Open, Settled::Is),
                Err(error) => Settled::Fails(error),
            };
        }
        if is_loop(node) {
            return Settled::Open;
        }
        let Expr::Call(call) = &node.expr else {
            // A failing part fails the whole; a select of an open value is open.
            return self.first_failure(children(node)).unwrap_or(Settled::Open);
        };
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [one, other]) => self.either(one, other, false),
            (operators::LOGICAL_OR, [one, other]) => self.either(one, other, true),
            (operators::LOGICAL_NOT, [inner]) => match self.settle(inner) {
                Settled::Is(Value::Bool(answer)) => Settled::Is((!answer).into()),
                settled @ (Settled::Fails(_) | Settled::Is(_) | Settled::Open) => settled,
            },
            (operators::CONDITIONAL, [asked, yes, no]) => match self.settle(asked) {
                Settled::Is(Value::Bool(answer)) => self.settle(if answer { yes } else { no }),
                Settled::Fails(error) => Settled::Fails(error),
                Settled::Is(_) | Settled::Open => {
                    let (yes, no) = (self.settle(yes), self.settle(no));
                    let same =
                        yes == no || matches!((&yes, &no), (Settled::Fails(_), Settled::Fails(_)));
                    if same { yes } else { Settled::Open }
                }
            },
            _ => {
                let failure = self.first_failure(children(node));
                failure.unwrap_or_else(|| self.operation(call))
            }
        }
    }

    fn first_failure<'n>(&self, parts: impl IntoIterator<Item = &'n IdedExpr>) -> Option<Settled> {
        let mut settled = parts.into_iter().map(|part| self.settle(part));
        settled.find(|part| matches!(part, Settled::Fails(_)))
    }

    /// `&&` and `||`: `deciding` on one side settles it, even if the other side fails.
    fn either(&self, one: &IdedExpr, other: &IdedExpr, deciding: bool) -> Settled {
        let (one, other) = (self.settle(one), self.settle(other));
        if one.is(deciding) || other.is(deciding) {
            return Settled::Is(deciding.into());
        }
        match (one, other) {
            (Settled::Open, _) | (_, Settled::Open) => Settled::Open,
            (Settled::Fails(error), _) | (_, Settled::Fails(error)) => Settled::Fails(error),
            (Settled::Is(_), Settled::Is(other)) => Settled::Is(other),
        }
    }

    /// A comparison or calculation with one open operand: it fails if it fails for an operand of
    /// every type, as `null < x` does.
    fn operation(&self, call: &CallExpr) -> Settled {
        const SIGNS: [&str; 10] = [
            operators::LESS,
            operators::LESS_EQUALS,
            operators::GREATER,
            operators::GREATER_EQUALS,
            operators::ADD,
            operators::SUBSTRACT,
            operators::MULTIPLY,
            operators::DIVIDE,
            operators::MODULO,
            operators::NEGATE,
        ];
        if call.target.is_some() || !SIGNS.contains(&call.func_name.as_str()) {
            return Settled::Open;
        }
        // The names of variables stand in for the operands.
        let operands = &VARIABLES[..call.args.len().min(VARIABLES.len())];
        let mut given = Map::new();
        let mut open = None;
        for (name, operand) in operands.iter().zip(&call.args) {
            match self.settle(operand) {
                Settled::Is(value) => drop(given.insert((*name).to_owned(), value)),
                Settled::Open if open.is_none() => open = Some(*name),
                Settled::Open | Settled::Fails(_) => return Settled::Open,
            }
        }
        let Some(open) = open else {
            return Settled::Open;
        };
        let part = IdedExpr {
            id: 0,
            expr: Expr::Call(CallExpr {
                func_name: call.func_name.clone(),
                target: None,
                args: operands.iter().map(|name| ident(name)).collect(),
            }),
        };
        let mut failure = None;
        for sample in [
            json!(0.5),
            json!(1),
            json!("a"),
            json!(true),
            json!(null),
            json!([]),
            json!({}),
        ] {
            given.insert(open.to_owned(), sample);
            let given = Value::Object(given.clone());
            match value_of(&part, operands, &given) {
                Ok(_) => return Settled::Open,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Settled::Open, Settled::Fails)
    }

    fn is_known(&self, node: &IdedExpr) -> bool {
        match self.reading(node) {
            Some(Reading::Decided) => true,
            Some(Reading::Of(known)) => is_whole(known),
            None => {
                !matches!(node.expr, Expr::Unspecified | Expr::Comprehension(_))
                    && !is_loop(node)
                    && children(node).into_iter().all(|child| self.is_known(child))
            }
        }
    }

    /// What is known of the value that a path of keys names; `None` for other expressions.
    fn reading(&self, node: &IdedExpr) -> Option<Reading<'_>> {
        static OPEN: Known = Known::Open;
        let (operand, key, asks) = match &node.expr {
            Expr::Ident(name) if !VARIABLES.contains(&name.as_str()) => {
                return Some(Reading::Decided);
            }
            Expr::Ident(name) => {
                let known = self.variables.get(name.as_str());
                return Some(Reading::Of(known.unwrap_or(&OPEN)));
            }
            Expr::Select(select) => (&*select.operand, select.field.as_str(), select.test),
            Expr::Call(call) => {
                let (operand, key) = indexed(call)?;
                (operand, key, false)
            }
            Expr::Unspecified
            | Expr::Comprehension(_)
            | Expr::List(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Struct(_) => return None,
        };
        Some(match self.reading(operand)? {
            Reading::Decided | Reading::Of(Known::Is(_)) => Reading::Decided,
            Reading::Of(Known::Open) => Reading::Of(&OPEN),
            Reading::Of(Known::Keys(keys)) => match keys.get(key) {
                None => Reading::Decided,
                // Whether `has` counts a null is the interpreter's affair.
                Some(Known::Open) => Reading::Of(&OPEN),
                Some(_) if asks => Reading::Decided,
                Some(known) => Reading::Of(known),
            },
        })
    }
}

/// Whether the node asks every element of a list, by a name of its own for the element.
fn is_loop(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Call(call)
        if call.target.is_some() && ["exists", "all"].contains(&call.func_name.as_str()))
}

fn is_whole(known: &Known) -> bool {
    match known {
        Known::Open => false,
        Known::Is(_) => true,
        Known::Keys(keys) => keys.values().all(is_whole),
    }
}

fn ident(name: &str) -> IdedExpr {
    IdedExpr {
        id: 0,
        expr: Expr::Ident(name.to_owned()),
    }
}

/// The operand and key of `operand["key"]`.
fn indexed(call: &CallExpr) -> Option<(&IdedExpr, &str)> {
    let [operand, key] = call.args.as_slice() else {
        return None;
    };
    match &key.expr {
        Expr::Literal(LiteralValue::String(key)) if call.func_name == operators::INDEX => {
            Some((operand, key.inner()))
        }
        Expr::Literal(_)
        | Expr::Unspecified
        | Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => None,
    }
}

/// The parts of a node. Loops and structs are refused when an expression is compiled.
fn children(node: &IdedExpr) -> Vec<&IdedExpr> {
    match &node.expr {
        Expr::Unspecified
        | Expr::Ident(_)
        | Expr::Literal(_)
        | Expr::Comprehension(_)
        | Expr::Struct(_) => Vec::new(),
        Expr::Call(call) => call
            .target
            .as_deref()
            .into_iter()
            .chain(&call.args)
            .collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::Map(map) => map
            .entries
            .iter()
            .flat_map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
                EntryExpr::StructField(field) => vec![&field.value],
            })
            .collect(),
    }
}

fn is_variable(node: &IdedExpr, name: &str) -> bool {
    matches!(&node.expr, Expr::Ident(found) if found == name)
}

/// Whether the node is `agreement` or `result.agreement`.
fn is_agreement(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Ident(name) => name == "agreement",
        Expr::Select(select) => {
            !select.test && select.field == "agreement" && is_variable(&select.operand, "result")
        }
        Expr::Call(call) => indexed(call)
            .is_some_and(|(operand, key)| key == "agreement" && is_variable(operand, "result")),
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => false,
    }
}

fn number(node: &IdedExpr) -> Option<f64> {
    match &node.expr {
        Expr::Literal(LiteralValue::Int(number)) => Some(*number.inner() as f64),
        Expr::Literal(LiteralValue::Double(number)) => Some(*number.inner()),
        Expr::Call(call) if call.func_name == operators::NEGATE => {
            call.args.first().and_then(number).map(|number| -number)
        }
        Expr::Unspecified
        | Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => None,
    }
}

/// Adds the numbers that the agreement is compared with. Returns false where it is read otherwise.
fn collect_bounds(node: &IdedExpr, bounds: &mut Vec<f64>) -> bool {
    if is_agreement(node) {
        return false;
    }
    if let Expr::Call(call) = &node.expr
        && let [left, right] = call.args.as_slice()
        && Comparison::of(&call.func_name).is_some()
    {
        let with = match (is_agreement(left), is_agreement(right)) {
            (true, _) => Some(right),
            (false, true) => Some(left),
            (false, false) => None,
        };
        if let Some(with) = with {
            bounds.extend(number(with));
            let is_null = matches!(with.expr, Expr::Literal(LiteralValue::Null));
            return number(with).is_some() || is_null || is_variable(with, "threshold");
        }
    }
    // `result` as a whole includes its agreement.
    let reads_key = |inner: &IdedExpr| is_variable(inner, "result");
    match &node.expr {
        Expr::Select(select) if reads_key(&select.operand) => true,
        Expr::Call(call) if indexed(call).is_some_and(|(operand, _)| reads_key(operand)) => true,
        Expr::Ident(name) => name != "result",
        Expr::Unspecified
        | Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => children(node)
            .into_iter()
            .all(|child| collect_bounds(child, bounds)),
    }
}

/// Comparisons, each as one of two basic ones: possibly with its sides exchanged, and negated.
#[derive(Clone, Copy)]
struct Comparison {
    sign: &'static str,
    exchanged: bool,
    negated: bool,
}

impl Comparison {
    fn of(function: &str) -> Option<Self> {
        let of = |sign, exchanged, negated| {
            Some(Self {
                sign,
                exchanged,
                negated,
            })
        };
        match function {
            operators::EQUALS => of(operators::EQUALS, false, false),
            operators::NOT_EQUALS => of(operators::EQUALS, false, true),
            operators::LESS => of(operators::LESS, false, false),
            operators::GREATER => of(operators::LESS, true, false),
            // `a >= b` is `!(a < b)`, and `a <= b` is `!(b < a)`.
            operators::GREATER_EQUALS => of(operators::LESS, false, true),
            operators::LESS_EQUALS => of(operators::LESS, true, true),
            _ => None,
        }
    }
}

/// The different questions that expressions ask: what `&&`, `||`, `!` and `? :` connect.
#[derive(Default)]
struct Questions(Vec<String>);

/// An expression as connections of questions.
enum Formula {
    Constant(bool),
    Question(usize),
    Not(Box<Self>),
    All(Box<Self>, Box<Self>),
    Any(Box<Self>, Box<Self>),
    /// `asked ? yes : no`.
    Choice(Box<[Self; 3]>),
}

impl Formula {
    /// Whether it holds, with one answer a bit.
    fn holds(&self, answers: u32) -> bool {
        match self {
            Self::Constant(answer) => *answer,
            Self::Question(at) => answers & (1 << at) != 0,
            Self::Not(inner) => !inner.holds(answers),
            Self::All(one, other) => one.holds(answers) && other.holds(answers),
            Self::Any(one, other) => one.holds(answers) || other.holds(answers),
            Self::Choice(parts) => {
                let [asked, yes, no] = &**parts;
                if asked.holds(answers) { yes } else { no }.holds(answers)
            }
        }
    }
}

impl Questions {
    fn formula(&mut self, node: &IdedExpr) -> Formula {
        if let Expr::Literal(LiteralValue::Boolean(answer)) = &node.expr {
            return Formula::Constant(*answer.inner());
        }
        let Expr::Call(call) = &node.expr else {
            return self.question(&form(node));
        };
        let function = call.func_name.as_str();
        match (function, call.args.as_slice()) {
            (operators::LOGICAL_NOT, [inner]) => Formula::Not(self.formula(inner).into()),
            (operators::LOGICAL_AND, [one, other]) => {
                Formula::All(self.formula(one).into(), self.formula(other).into())
            }
            (operators::LOGICAL_OR, [one, other]) => {
                Formula::Any(self.formula(one).into(), self.formula(other).into())
            }
            (operators::CONDITIONAL, [asked, yes, no]) => {
                Formula::Choice([asked, yes, no].map(|part| self.formula(part)).into())
            }
            (_, [left, right]) => {
                let Some(comparison) = Comparison::of(function) else {
                    return self.question(&form(node));
                };
                let (mut left, mut right) = (operand(left), operand(right));
                let symmetric = comparison.sign == operators::EQUALS;
                if comparison.exchanged || symmetric && right < left {
                    (left, right) = (right, left);
                }
                let question = self.question(&format!("{left} {} {right}", comparison.sign));
                if comparison.negated {
                    Formula::Not(question.into())
                } else {
                    question
                }
            }
            _ => self.question(&form(node)),
        }
    }

    fn question(&mut self, form: &str) -> Formula {
        let known = self.0.iter().position(|known| known == form);
        Formula::Question(known.unwrap_or_else(|| {
            self.0.push(form.to_owned());
            self.0.len() - 1
        }))
    }
}

/// The form of an operand of a comparison, to which `1` and `1.0` are one number.
fn operand(node: &IdedExpr) -> String {
    number(node).map_or_else(|| form(node), |number| format!("{number:?}"))
}

/// The node without its positions in the source.
fn form(node: &IdedExpr) -> String {
    let parts = || {
        let parts: Vec<String> = children(node).into_iter().map(form).collect();
        parts.join(", ")
    };
    match &node.expr {
        Expr::Ident(name) => name.clone(),
        Expr::Literal(literal) => format!("{literal:?}"),
        Expr::Select(select) => format!("({}).{:?}?{}", parts(), select.field, select.test),
        Expr::Call(call) => match indexed(call) {
            // `a["b"]` reads what `a.b` reads.
            Some((operand, key)) => format!("({}).{key:?}?false", form(operand)),
            None => format!("{:?}{}({})", call.func_name, call.target.is_some(), parts()),
        },
        Expr::List(_) => format!("[{}]", parts()),
        Expr::Map(_) => format!("{{{}}}", parts()),
        Expr::Unspecified | Expr::Comprehension(_) | Expr::Struct(_) => format!("{:?}", node.expr),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(source: &str) -> Expression {
        Expression::compile(source).unwrap_or_else(|error| panic!("{source}: {error}"))
    }

    fn settled(source: &str) -> Settled {
        let keys = |entries: &[(&str, Known)]| {
            let entries = entries.iter().cloned();
            Known::Keys(
                entries
                    .map(|(key, known)| (key.to_owned(), known))
                    .collect(),
            )
        };
        let result = keys(&[
            ("decision", Known::Is(json!("reject"))),
            ("value", Known::Open),
            ("agreement", Known::Is(Value::Null)),
        ]);
        let variables = KnownVariables::from([
            ("agreement", Known::Is(Value::Null)),
            ("threshold", Known::Is(json!(0.5))),
            ("result", result.clone()),
            (
                "step",
                keys(&[
                    ("look", keys(&[("result", result)])),
                    ("label", Known::Open),
                ]),
            ),
        ]);
        compiled(source).settle(&variables)
    }

    #[test]
    fn what_is_known_settles_an_expression_or_leaves_it_open() {
        for (source, answer) in [
            ("result.decision == 'reject'", true),
            ("result['decision'] in ['approve', 'fix']", false),
            ("result.decision == 'approve' && annotation.sure", false),
            ("annotation.sure && result.decision == 'approve'", false),
            ("result.decision == 'reject' || annotation.sure > 1", true),
            ("!(result.decision == 'reject')", false),
            (
                "result.decision == 'reject' ? threshold < 1 : input.x",
                true,
            ),
            ("step.look.result.decision == 'reject'", true),
            ("has(result.agreement)", true),
            ("agreement == null", true),
            ("true", true),
        ] {
            assert_eq!(settled(source), Settled::Is(answer.into()), "{source}");
        }
        for source in [
            "annotation.sure",
            "result.value == 1",
            "has(result.value)",
            "annotation.x < 1 || agreement < 0.8",
            "agreement < 0.8 && annotation.x == 1",
            "step.label.visits > 1",
            "annotation.n + 1 > 2",
            "input[result.decision] == 1",
            "annotation.ok ? result.decision == 'a' : result.decision == 'reject'",
            "'a' in annotation.tags",
            "result == null",
        ] {
            assert_eq!(settled(source), Settled::Open, "{source}");
        }
        for source in [
            "agreement < 0.8",
            "result.agreement >= threshold",
            "agreement < annotation.least",
            "agreement < 0.8 || agreement > 2",
            "result.decision == 'reject' && agreement < 0.8",
            "[agreement * 2] == annotation.list",
            "annotation.ok ? agreement < 1 : -agreement < 1",
        ] {
            assert!(matches!(settled(source), Settled::Fails(_)), "{source}");
        }
    }

    #[test]
    fn bounds_of_the_agreement_are_those_it_is_compared_with() {
        let bounds = |source: &str| compiled(source).agreement_bounds();
        assert_eq!(bounds("agreement >= 0.8 && input.x"), Some(vec![0.8]));
        assert_eq!(
            bounds("-1 < result.agreement || agreement == null"),
            Some(vec![-1.0])
        );
        assert_eq!(bounds("result['agreement'] < threshold"), Some(vec![]));
        assert_eq!(bounds("result.value.agreement > input.x"), Some(vec![]));
        assert_eq!(bounds("agreement * 2 > 1"), None);
        assert_eq!(bounds("agreement < input.x"), None);
        assert_eq!(bounds("size(result) > 2"), None);
    }

    #[test]
    fn opposites_are_found_by_their_form() {
        let complete = |sources: &[&str]| {
            let expressions: Vec<Expression> = sources.iter().map(|s| compiled(s)).collect();
            one_is_true(&expressions.iter().collect::<Vec<_>>())
        };
        for sources in [
            &["input.n > 1", "input.n <= 1"][..],
            &["input.n > 1", "1 >= input.n"],
            &["input.n  >= 1", "input['n'] < 1.0"],
            &["input.x", "!(input.x)"],
            &["!input.x", "(input.x)"],
            &["input.a && input.b", "!input.a || !input.b"],
            &["input.a", "!input.a && input.b", "!input.a && !input.b"],
            &["result.value == 1", "1 != result.value"],
            &["has(input.a) && input.a", "!has(input.a)", "!input.a"],
            &["input.a ? input.b : true", "input.a && !input.b"],
            &["true"],
        ] {
            assert!(complete(sources), "{sources:?}");
        }
        for sources in [
            &["annotation.t == 'a<b'", "annotation.t == 'a>=b'"][..],
            &["input.n > 1", "input.n < 1"],
            &["input.n > 1 && input.m", "input.n <= 1 && input.m"],
            &["result.value == 1", "result.value == 2"],
            &["input.a", "!input.b"],
            &["has(input.a)", "!input.a"],
            &["input.a.contains('x')", "!input.b.contains('x')"],
            &["input.a"],
            &[],
        ] {
            assert!(!complete(sources), "{sources:?}");
        }
        let exclusive =
            |one: &str, other: &str| exclude_each_other(&compiled(one), &compiled(other));
        assert!(exclusive("input.n > 1", "input.n <= 1 && input.m"));
        assert!(exclusive("input.a", "!input.a"));
        assert!(!exclusive("input.n > 1", "input.n > 2"));
        // Too many questions to try every combination: opposites are still found.
        let many: Vec<String> = (0..20).map(|n| format!("input.q{n}")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(!complete(&many));
        many.push("!input.q7");
        assert!(complete(&many));
    }
}
