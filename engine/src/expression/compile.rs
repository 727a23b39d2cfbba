//! From source to a checked program.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use cel::{
    Env, IdedExpr, ParseErrors,
    common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators},
};

use super::{
    ExpressionError,
    fields::{StepReference, check_fields, step_references},
    hints,
    names::{FUNCTIONS, REFUSED_MACROS, TYPES, VARIABLES, nearest},
    scan::{self, Token},
    stack::on_large_stack,
};

/// A checked expression, compiled once; clones share the program.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    source: String,
    tree: IdedExpr,
    depth: usize,
    variables: Vec<&'static str>,
    steps: Vec<StepReference>,
}

/// The tree of a source. Macros stay the calls that they are written as.
fn parse(plain: &str) -> Result<IdedExpr, ParseErrors> {
    static ENVIRONMENT: LazyLock<Env> =
        LazyLock::new(|| Env::default().with_optional_support(false));
    ENVIRONMENT.parser().parse(plain)
}

impl Expression {
    /// Compiles and checks `source`; a leading `$.` on a name is accepted.
    ///
    /// # Errors
    ///
    /// All faults that can be found before evaluation: bounds, syntax, unknown variables and
    /// functions, macros that are not offered. Compiling takes milliseconds: do it once for each revision of a workflow.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        let plain = scan::plain_source(source)?;
        let tokens = scan::bounded_tokens(&plain)?;
        if let Some(error) = hints::hyphenated(&plain, &tokens, |_| false) {
            return Err(error);
        }
        let (tree, facts) = on_large_stack(|| {
            let tree = parse(&plain).map_err(|errors| {
                hints::slip(&plain, &tokens).unwrap_or_else(|| hints::syntax_error(&plain, &errors))
            })?;
            let mut facts = Facts::default();
            facts.visit(&tree, 1);
            Ok((tree, facts))
        })??;
        let variables = check_names(&facts, &plain, &tokens)?;
        check_fields(&tokens)?;
        let steps = step_references(&tokens);
        Ok(Self(Arc::new(Compiled {
            source: source.to_owned(),
            tree,
            depth: facts.depth,
            variables,
            steps,
        })))
    }

    /// Compiles a condition: also refuses expressions that evidently yield no boolean, such as
    /// `agreement + 1`.
    pub fn compile_bool(source: &str) -> Result<Self, ExpressionError> {
        let expression = Self::compile(source)?;
        match never_bool(&expression.0.tree.expr) {
            Some(found) => Err(ExpressionError::NeverBool { found }),
            None => Ok(expression),
        }
    }

    /// The source as written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Steps that the expression references by a literal.
    pub fn step_references(&self) -> &[StepReference] {
        &self.0.steps
    }

    /// The variables that the expression reads.
    pub fn variables(&self) -> &[&'static str] {
        &self.0.variables
    }

    pub(super) fn tree(&self) -> &IdedExpr {
        &self.0.tree
    }

    /// How deep evaluation recurses.
    pub(super) fn depth(&self) -> usize {
        self.0.depth
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.0.source).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.0.source == other.0.source
    }
}

/// Facts collected in one walk over the tree.
#[derive(Default)]
struct Facts {
    depth: usize,
    names: Vec<String>,
    functions: Vec<String>,
    structs: Vec<String>,
    /// The elements that `exists` and `all` name around the current node.
    elements: Vec<String>,
    /// A function that is not written as it should be, and how it should be.
    misuse: Option<(String, String)>,
}

impl Facts {
    fn visit(&mut self, node: &IdedExpr, depth: usize) {
        self.depth = self.depth.max(depth);
        let below = depth + 1;
        match &node.expr {
            // There are no comprehensions, since no macro is expanded.
            Expr::Unspecified | Expr::Literal(_) | Expr::Comprehension(_) => {}
            Expr::Ident(name) => {
                if !self.elements.contains(name) {
                    self.names.push(name.clone());
                }
            }
            Expr::Call(call) => self.call(call, below),
            Expr::List(list) => list
                .elements
                .iter()
                .for_each(|child| self.visit(child, below)),
            Expr::Select(select) => self.visit(&select.operand, below),
            Expr::Map(map) => map
                .entries
                .iter()
                .for_each(|entry| self.entry(&entry.expr, below)),
            Expr::Struct(made) => {
                self.structs.push(made.type_name.clone());
                made.entries
                    .iter()
                    .for_each(|entry| self.entry(&entry.expr, below));
            }
        }
    }

    fn call(&mut self, call: &CallExpr, below: usize) {
        let name = call.func_name.as_str();
        self.functions.push(name.to_owned());
        let wrong = match name {
            "sample" => bad_sample(call),
            "has" => bad_has(call),
            "all" | "exists" => bad_visit(call),
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.misuse.get_or_insert((name.to_owned(), wrong));
            return;
        }
        if let Some(target) = &call.target {
            self.visit(target, below);
        }
        if REFUSED_MACROS.contains(&name) && call.target.is_some() {
            return;
        }
        match (name, call.args.as_slice()) {
            ("all" | "exists", [element, condition]) => {
                if let Expr::Ident(element) = &element.expr {
                    self.elements.push(element.clone());
                    self.visit(condition, below);
                    self.elements.pop();
                }
            }
            (_, arguments) => arguments.iter().for_each(|child| self.visit(child, below)),
        }
    }

    fn entry(&mut self, entry: &EntryExpr, depth: usize) {
        match entry {
            EntryExpr::StructField(field) => self.visit(&field.value, depth),
            EntryExpr::MapEntry(entry) => {
                self.visit(&entry.key, depth);
                self.visit(&entry.value, depth);
            }
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is no number in the source is checked when it is evaluated"
)]
fn bad_sample(call: &CallExpr) -> Option<String> {
    let (None, [_, share]) = (&call.target, call.args.as_slice()) else {
        return Some("`sample` takes a key and a share: `sample(input, 0.1)`".to_owned());
    };
    let in_bounds = match &share.expr {
        Expr::Literal(LiteralValue::Double(share)) => (0.0..=1.0).contains(share.inner()),
        Expr::Literal(LiteralValue::Int(share)) => (0..=1).contains(share.inner()),
        _ => true,
    };
    (!in_bounds).then(|| "the share of `sample` goes from 0 to 1".to_owned())
}

fn bad_has(call: &CallExpr) -> Option<String> {
    let asks_for_key = |node: &IdedExpr| match &node.expr {
        Expr::Select(_) => true,
        Expr::Call(call) => call.func_name == operators::INDEX,
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::Ident(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => false,
    };
    match (&call.target, call.args.as_slice()) {
        (None, [asked]) if asks_for_key(asked) => None,
        _ => Some("`has` asks for one key: `has(input.language)`".to_owned()),
    }
}

fn bad_visit(call: &CallExpr) -> Option<String> {
    let name = call.func_name.as_str();
    let example = format!("annotations.{name}(a, a.flag == true)");
    let (Some(_), [element, _]) = (&call.target, call.args.as_slice()) else {
        return Some(format!("`{name}` is written `{example}`"));
    };
    let Expr::Ident(element) = &element.expr else {
        return Some(format!("`{name}` names an element first: `{example}`"));
    };
    let is_taken = VARIABLES.contains(&element.as_str()) || TYPES.contains(&element.as_str());
    is_taken.then(|| {
        format!("`{element}` has a meaning already: name the element of `{name}` otherwise")
    })
}

fn check_names(
    facts: &Facts,
    plain: &str,
    tokens: &[Token<'_>],
) -> Result<Vec<&'static str>, ExpressionError> {
    let offset_of = |name: &str| {
        let token = tokens.iter().find(|token| token.text == name);
        token.map_or(0, |token| token.offset)
    };
    let mut called = facts.functions.iter();
    if let Some(name) = called.find(|name| REFUSED_MACROS.contains(&name.as_str())) {
        return Err(ExpressionError::Loop {
            name: name.clone(),
            offset: offset_of(name),
        });
    }
    let mut variables = Vec::new();
    for name in &facts.names {
        if let Some(known) = VARIABLES.iter().find(|known| *known == name) {
            if !variables.contains(known) {
                variables.push(*known);
            }
        } else if !TYPES.contains(&name.as_str()) {
            let hint = hints::hyphenated(plain, tokens, |part| part == name);
            return Err(hint.unwrap_or_else(|| ExpressionError::UnknownVariable {
                name: name.clone(),
                offset: root_offset(tokens, name),
                suggestion: nearest(name, &VARIABLES),
            }));
        }
    }
    let called = facts.functions.iter().filter(|name| is_name(name));
    for name in called.chain(&facts.structs) {
        if FUNCTIONS.contains(&name.as_str()) && !facts.structs.contains(name) {
            continue;
        }
        return Err(ExpressionError::UnknownFunction {
            name: name.clone(),
            offset: offset_of(name),
            suggestion: nearest(name, &FUNCTIONS),
        });
    }
    if let Some((name, message)) = &facts.misuse {
        return Err(ExpressionError::Syntax {
            message: message.clone(),
            offset: offset_of(name),
            suggestion: None,
        });
    }
    Ok(variables)
}

/// Whether a function has a plain name. Operators are functions named by signs: `_+_`, `@in`.
fn is_name(function: &str) -> bool {
    function
        .chars()
        .all(|c| c.is_alphanumeric() || c == '_' || c == '.')
        && function.chars().any(char::is_alphanumeric)
}

/// The byte at which `name` appears as a root, not after a dot.
fn root_offset(tokens: &[Token<'_>], name: &str) -> usize {
    tokens
        .iter()
        .enumerate()
        .find(|(at, token)| token.text == name && (*at == 0 || tokens[at - 1].text != "."))
        .map_or(0, |(_, token)| token.offset)
}

/// What an expression yields, if its outermost operation cannot yield a boolean.
fn never_bool(expr: &Expr) -> Option<&'static str> {
    match expr {
        Expr::Literal(LiteralValue::String(_)) => Some("a text"),
        Expr::Literal(LiteralValue::Null) => Some("null"),
        Expr::Literal(LiteralValue::Bytes(_)) => Some("bytes"),
        Expr::Literal(LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_)) => {
            Some("a number")
        }
        Expr::List(_) => Some("a list"),
        Expr::Map(_) | Expr::Struct(_) => Some("a mapping"),
        Expr::Ident(name) => match name.as_str() {
            "agreement" | "threshold" => Some("a number"),
            "result" | "step" | "context" | "labels" | "task" => Some("a mapping"),
            "annotations" => Some("a list"),
            "task_id" => Some("a text"),
            _ => None,
        },
        Expr::Call(call) => match call.func_name.as_str() {
            operators::ADD => Some("a sum"),
            operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | "size"
            | "int"
            | "uint"
            | "double" => Some("a number"),
            "string" => Some("a text"),
            "bytes" => Some("bytes"),
            "type" => Some("a type"),
            _ => None,
        },
        Expr::Unspecified
        | Expr::Literal(LiteralValue::Boolean(_))
        | Expr::Select(_)
        | Expr::Comprehension(_) => None,
    }
}
