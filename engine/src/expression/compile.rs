//! From source to a checked program.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use cel::{
    Env, IdedExpr, ParseErrors, Program,
    common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators},
};

use super::{
    ExpressionError,
    error::Fields,
    names::{FUNCTIONS, VARIABLES},
    scan::{self, Kind, Token},
    stack::on_large_stack,
};

/// Names of types, used as values in comparisons such as `type(result.value) == string`.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// Macros that visit every element.
const LOOPS: [&str; 6] = ["all", "exists", "exists_one", "existsOne", "filter", "map"];

/// A checked expression, compiled once; clones share the program.
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    source: String,
    program: Program,
    depth: usize,
    variables: Vec<&'static str>,
    steps: Vec<StepReference>,
}

/// A reference to a step by a literal: `step["annotate"]` or `step.annotate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReference {
    /// The step's id.
    pub id: String,
    /// Byte of the id in the source.
    pub offset: usize,
}

/// The standard environment without optional values, shared by all expressions.
pub(super) fn environment() -> Arc<Env> {
    static ENVIRONMENT: OnceLock<Arc<Env>> = OnceLock::new();
    Arc::clone(ENVIRONMENT.get_or_init(|| Arc::new(Env::stdlib().with_optional_support(false))))
}

impl Expression {
    /// Compiles and checks `source`; a leading `$.` on a name is accepted.
    ///
    /// # Errors
    ///
    /// All faults that can be found before evaluation: bounds, syntax, unknown variables and
    /// functions, loops. Compiling takes milliseconds: do it once for each revision of a workflow.
    pub fn compile(source: &str) -> Result<Self, ExpressionError> {
        let plain = scan::plain_source(source)?;
        let tokens = scan::bounded_tokens(&plain)?;
        let (program, facts) = on_large_stack(|| {
            let program = environment()
                .compile(&plain)
                .map_err(|errors| slip(&tokens).unwrap_or_else(|| syntax_error(&plain, &errors)))?;
            let mut facts = Facts::default();
            facts.visit(program.expression(), 1);
            Ok((program, facts))
        })??;
        let variables = check_names(&facts, &tokens)?;
        if let Some(message) = facts.bad_sample {
            let named = tokens.iter().find(|token| token.text == "sample");
            return Err(ExpressionError::Syntax {
                message: message.to_owned(),
                offset: named.map_or(0, |token| token.offset),
            });
        }
        check_fields(&tokens)?;
        let steps = step_references(&tokens);
        Ok(Self(Arc::new(Compiled {
            source: source.to_owned(),
            program,
            depth: facts.depth,
            variables,
            steps,
        })))
    }

    /// Compiles a condition: also refuses expressions that evidently yield no boolean, such as
    /// `agreement + 1`.
    pub fn compile_bool(source: &str) -> Result<Self, ExpressionError> {
        let expression = Self::compile(source)?;
        match never_bool(&expression.0.program.expression().expr) {
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

    pub(super) fn program(&self) -> &Program {
        &self.0.program
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
    loops: bool,
    /// What is wrong with a call of `sample`.
    bad_sample: Option<&'static str>,
}

impl Facts {
    fn visit(&mut self, node: &IdedExpr, depth: usize) {
        self.depth = self.depth.max(depth);
        let below = depth + 1;
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.names.push(name.clone()),
            Expr::Call(call) => {
                self.functions.push(call.func_name.clone());
                if call.func_name == "sample" {
                    self.bad_sample = self.bad_sample.or(bad_sample(call));
                }
                for child in call.target.as_deref().into_iter().chain(&call.args) {
                    self.visit(child, below);
                }
            }
            // The parts of the call are skipped: it is refused as a whole.
            Expr::Comprehension(_) => self.loops = true,
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
fn bad_sample(call: &CallExpr) -> Option<&'static str> {
    let (None, [_, share]) = (&call.target, call.args.as_slice()) else {
        return Some("`sample` takes a key and a share: `sample(input, 0.1)`");
    };
    let in_bounds = match &share.expr {
        Expr::Literal(LiteralValue::Double(share)) => (0.0..=1.0).contains(share.inner()),
        Expr::Literal(LiteralValue::Int(share)) => (0..=1).contains(share.inner()),
        _ => true,
    };
    (!in_bounds).then_some("the share of `sample` goes from 0 to 1")
}

fn check_names(facts: &Facts, tokens: &[Token<'_>]) -> Result<Vec<&'static str>, ExpressionError> {
    if facts.loops {
        let (name, offset) = tokens
            .iter()
            .find(|token| LOOPS.contains(&token.text))
            .map_or(("map", 0), |token| (token.text, token.offset));
        return Err(ExpressionError::Loop {
            name: name.to_owned(),
            offset,
        });
    }
    let mut variables = Vec::new();
    for name in &facts.names {
        if let Some(known) = VARIABLES.iter().find(|known| *known == name) {
            if !variables.contains(known) {
                variables.push(*known);
            }
        } else if !TYPES.contains(&name.as_str()) {
            return Err(ExpressionError::UnknownVariable {
                name: name.clone(),
                offset: root_offset(tokens, name),
                suggestion: nearest(name, &VARIABLES),
            });
        }
    }
    let called = facts.functions.iter().filter(|name| is_name(name));
    for name in called.chain(&facts.structs) {
        if FUNCTIONS.contains(&name.as_str()) && !facts.structs.contains(name) {
            continue;
        }
        let offset = tokens
            .iter()
            .find(|token| token.text == name)
            .map_or(0, |token| token.offset);
        let name = name.clone();
        return Err(if LOOPS.contains(&name.as_str()) {
            ExpressionError::Loop { name, offset }
        } else {
            let suggestion = nearest(&name, &FUNCTIONS);
            ExpressionError::UnknownFunction {
                name,
                offset,
                suggestion,
            }
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

fn nearest(name: &str, known: &[&str]) -> Option<String> {
    known
        .iter()
        .map(|candidate| (strsim::osa_distance(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

fn step_references(tokens: &[Token<'_>]) -> Vec<StepReference> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let is_root = at == 0 || tokens[at - 1].text != ".";
        if token.text != "step" || !is_root {
            continue;
        }
        let (Some(opening), Some(name)) = (tokens.get(at + 1), tokens.get(at + 2)) else {
            continue;
        };
        match (opening.text, name.kind) {
            (".", Kind::Name) => {
                found.push(StepReference {
                    id: name.text.to_owned(),
                    offset: name.offset,
                });
            }
            // Ids need no escapes; a literal with escapes is left to evaluation.
            ("[", Kind::Text) if !name.text.contains('\\') => {
                let id = name.text.trim_matches(['"', '\'']);
                found.push(StepReference {
                    id: id.to_owned(),
                    offset: name.offset + 1,
                });
            }
            _ => {}
        }
    }
    found
}

/// Refuses keys that a result or the state of a step never has. The keys of values, annotations and
/// inputs are not known before evaluation.
fn check_fields(tokens: &[Token<'_>]) -> Result<(), ExpressionError> {
    for (at, token) in tokens.iter().enumerate() {
        let is_root = at == 0 || tokens[at - 1].text != ".";
        if !is_root {
            continue;
        }
        match token.text {
            "result" => check_field(tokens, at + 1, Fields::Result).map(drop)?,
            "step" => {
                let Some((_, behind)) = field_at(tokens, at + 1) else {
                    continue;
                };
                if check_field(tokens, behind, Fields::Step)? == Some("result") {
                    let behind = field_at(tokens, behind).map_or(behind, |(_, behind)| behind);
                    check_field(tokens, behind, Fields::Result)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The key read at `at`, as `.key` or `["key"]`, and the index of the token after it.
fn field_at<'t, 's>(tokens: &'t [Token<'s>], at: usize) -> Option<(&'t Token<'s>, usize)> {
    let (opening, name) = (tokens.get(at)?, tokens.get(at + 1)?);
    match (opening.text, name.kind) {
        (".", Kind::Name) => Some((name, at + 2)),
        ("[", Kind::Text) if tokens.get(at + 2)?.text == "]" => Some((name, at + 3)),
        _ => None,
    }
}

fn check_field(
    tokens: &[Token<'_>],
    at: usize,
    of: Fields,
) -> Result<Option<&'static str>, ExpressionError> {
    let Some((token, behind)) = field_at(tokens, at) else {
        return Ok(None);
    };
    let name = token.text.trim_matches(['"', '\'']);
    let is_call = tokens.get(behind).is_some_and(|next| next.text == "(");
    if is_call || name.contains('\\') {
        return Ok(None);
    }
    let known = of.keys();
    let found = known.iter().find(|key| **key == name).copied();
    if found.is_some() {
        return Ok(found);
    }
    Err(ExpressionError::UnknownField {
        of,
        name: name.to_owned(),
        offset: token.offset + usize::from(token.kind == Kind::Text),
        suggestion: nearest(name, known),
    })
}

/// A hint for syntax from other languages, in an expression that cannot be parsed.
fn slip(tokens: &[Token<'_>]) -> Option<ExpressionError> {
    let touches = |at: usize, signs: &str| {
        let is_sign = |token: &Token<'_>| token.kind == Kind::Sign && signs.contains(token.text);
        let before = at.checked_sub(1).map(|at| &tokens[at]);
        let after = tokens.get(at + 1);
        before.is_some_and(|token| is_sign(token) && token.offset + 1 == tokens[at].offset)
            || after.is_some_and(|token| is_sign(token) && tokens[at].offset + 1 == token.offset)
    };
    let message = |at: usize| {
        let token = &tokens[at];
        let is_field = at > 0 && tokens[at - 1].text == ".";
        Some(match (token.kind, token.text) {
            (Kind::Sign, "=") if !touches(at, "=!<>") => "`=` compares nothing: write `==`",
            (Kind::Sign, "&") if !touches(at, "&") => "write `&&`",
            (Kind::Sign, "|") if !touches(at, "|") => "write `||`",
            (Kind::Name, "and" | "AND") if !is_field => "write `&&`",
            (Kind::Name, "or" | "OR") if !is_field => "write `||`",
            (Kind::Name, "not" | "NOT") if !is_field => "write `!`",
            (Kind::Text, text) if is_open(text) => "the text has no closing quote",
            _ => return None,
        })
    };
    (0..tokens.len()).find_map(|at| {
        Some(ExpressionError::Syntax {
            message: message(at)?.to_owned(),
            offset: tokens[at].offset,
        })
    })
}

/// Whether a literal lacks its closing quote.
fn is_open(literal: &str) -> bool {
    let body = literal.trim_start_matches(['r', 'R', 'b', 'B']);
    match body.chars().next() {
        Some(quote) => body.len() < 2 || !body.ends_with(quote),
        None => false,
    }
}

/// The first fault, with its byte. The parser counts lines and columns in characters, from 1.
fn syntax_error(source: &str, errors: &ParseErrors) -> ExpressionError {
    // The error recovery of the grammar reports the first real fault among followers.
    let first = errors.errors.iter().min_by_key(|error| error.pos);
    let (line, column, message) = first.map_or((1, 1, ""), |error| {
        (error.pos.0, error.pos.1, error.msg.as_str())
    });
    let line = usize::try_from(line).unwrap_or(1).max(1) - 1;
    let column = usize::try_from(column).unwrap_or(1).max(1) - 1;
    let line_start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let in_line = &source[line_start.min(source.len())..];
    let offset = line_start
        + in_line
            .char_indices()
            .nth(column)
            .map_or(in_line.trim_end().len(), |(at, _)| at);
    ExpressionError::Syntax {
        message: readable(message),
        offset,
    }
}

/// The grammar's message without its list of a dozen expected tokens.
fn readable(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message
        .split(" expecting {")
        .next()
        .unwrap_or(message)
        .trim();
    let unexpected = [
        "mismatched input ",
        "extraneous input ",
        "no viable alternative at input ",
        "token recognition error at: ",
    ];
    let found = unexpected
        .iter()
        .find_map(|start| Some(message.strip_prefix(start)?.trim_matches('\'').trim()));
    let text = match message {
        "" => "the expression cannot be read",
        _ if found == Some("<EOF>") => "the expression ends too early",
        text if text.contains("Incomplete `ExprContext` for `_?_:_`") => {
            "a condition `a ? b : c` is not complete"
        }
        text if text.contains("Incomplete `") => "the expression is not complete here",
        text if text.contains("Recursion limit") => "the expression nests too deeply",
        "invalid int literal" | "invalid uint literal" => "the number is too large",
        text => text,
    };
    let text = match found {
        Some(found) if found != "<EOF>" => format!("`{found}` is not expected here"),
        _ => text.to_owned(),
    };
    text.chars().take(200).collect()
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
        Expr::Ident(name) if matches!(name.as_str(), "agreement" | "threshold") => Some("a number"),
        Expr::Ident(name) if matches!(name.as_str(), "result" | "step" | "context") => {
            Some("a mapping")
        }
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
        | Expr::Ident(_)
        | Expr::Select(_)
        | Expr::Comprehension(_) => None,
    }
}
