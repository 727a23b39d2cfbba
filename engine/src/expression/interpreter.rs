//! Evaluates the tree of an expression on borrowed data, step by step within a budget.
//!
//! The crate `cel` reads the source; it does not evaluate it. Its own interpreter knows no bound on
//! the work of an evaluation, copies data, takes no whole number beside a double, and compares large
//! whole numbers as doubles. Everything else is as there, which a test compares.

use std::{cmp::Ordering, rc::Rc};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, operators};
use serde_json::Value;

use super::{
    budget::Budget,
    compare::{order, same},
    functions,
    json::to_json,
    names::TYPES,
    number::{self, Operator},
    path::path,
    value::{List, Mapping, Number, Text, Val, same_key},
    variables::Variable,
};

/// A value, or why there is none.
type Evaluated<'a> = Result<Val<'a>, String>;

/// One evaluation.
pub(super) struct Interpreter<'a> {
    given: Vec<(&'static str, Val<'a>)>,
    /// The elements that `exists` and `all` look at, innermost last.
    elements: Vec<(&'a str, Val<'a>)>,
    budget: Budget,
}

impl<'a> Interpreter<'a> {
    pub(super) fn new(given: &'a [(&'static str, Variable<'_>)]) -> Self {
        let given = given.iter();
        Self {
            given: given
                .map(|(name, variable)| (*name, Val::of_variable(variable)))
                .collect(),
            elements: Vec::new(),
            budget: Budget::new(),
        }
    }

    /// The value of the expression as JSON.
    pub(super) fn json(&mut self, node: &'a IdedExpr) -> Result<Value, String> {
        let value = self.value(node)?;
        to_json(&value, &mut self.budget)
    }

    /// As [`Self::json`]; none if JSON has no form for the value.
    pub(super) fn json_if_any(&mut self, node: &'a IdedExpr) -> Result<Option<Value>, String> {
        let value = self.value(node)?;
        Ok(to_json(&value, &mut self.budget).ok())
    }

    fn value(&mut self, node: &'a IdedExpr) -> Evaluated<'a> {
        self.budget.spend(1)?;
        match &node.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => self.named(name),
            Expr::Select(select) => {
                let of = self.value(&select.operand)?;
                let key = Val::Text(Text::Borrowed(&select.field));
                self.key_of(&of, &key, &select.operand, node)
            }
            Expr::Call(call) => self.call(call, node),
            Expr::List(list) => {
                let items = list.elements.iter().map(|item| self.value(item));
                let items = items.collect::<Result<_, _>>()?;
                Ok(Val::List(List::Made(items)))
            }
            Expr::Map(map) => self.mapping(map),
            // Compiling has refused them.
            Expr::Unspecified | Expr::Struct(_) | Expr::Comprehension(_) => {
                Err("the expression has a part that cannot be evaluated".to_owned())
            }
        }
    }

    fn named(&self, name: &str) -> Evaluated<'a> {
        let element = self.elements.iter().rev().find(|(known, _)| *known == name);
        let given = || self.given.iter().find(|(known, _)| *known == name);
        if let Some(value) = element
            .map(|(_, value)| value)
            .or_else(|| given().map(|(_, value)| value))
        {
            return Ok(value.clone());
        }
        let of_type = TYPES.iter().copied().find(|known| *known == name);
        of_type
            .map(Val::Type)
            .ok_or_else(|| format!("`{name}` has no value here"))
    }

    fn mapping(&mut self, map: &'a MapExpr) -> Evaluated<'a> {
        let mut entries: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(map.entries.len());
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err("the mapping has an entry without a key".to_owned());
            };
            let key = self.value(&entry.key)?;
            if !key.is_key() || matches!(key, Val::Double(_)) {
                return Err(format!("{} is no key of a mapping", key.kind()));
            }
            self.budget.spend(1 + entries.len())?;
            if entries.iter().any(|(known, _)| same_key(known, &key)) {
                let key = key.shown_key().unwrap_or_default();
                return Err(format!("the mapping has the key `{key}` twice"));
            }
            let value = self.value(&entry.value)?;
            entries.push((key, value));
        }
        Ok(Val::Mapping(Mapping::Made(entries.into())))
    }

    fn call(&mut self, call: &'a CallExpr, node: &'a IdedExpr) -> Evaluated<'a> {
        if call.target.is_none() {
            match (call.func_name.as_str(), call.args.as_slice()) {
                (operators::CONDITIONAL, [condition, yes, no]) => {
                    return if self.truth(condition, "?")? {
                        self.value(yes)
                    } else {
                        self.value(no)
                    };
                }
                (operators::LOGICAL_AND, [left, right]) => {
                    return self.connect("&&", false, left, right);
                }
                (operators::LOGICAL_OR, [left, right]) => {
                    return self.connect("||", true, left, right);
                }
                (operators::LOGICAL_NOT, [of]) => return Ok(Val::Bool(!self.truth(of, "!")?)),
                (operators::NEGATE, [of]) => return self.negated(of),
                (operators::INDEX, [of, index]) => {
                    let value = self.value(of)?;
                    let index = self.value(index)?;
                    return self.key_of(&value, &index, of, node);
                }
                ("has", [asked]) => return self.has(asked),
                (sign, [left, right]) => {
                    if let Some(found) = self.operator(sign, left, right) {
                        return found;
                    }
                }
                _ => {}
            }
        }
        match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
            ("exists", Some(of), [element, condition]) => {
                self.visit("exists", true, of, element, condition)
            }
            ("all", Some(of), [element, condition]) => {
                self.visit("all", false, of, element, condition)
            }
            _ => self.function(call),
        }
    }

    fn function(&mut self, call: &'a CallExpr) -> Evaluated<'a> {
        let name = call.func_name.as_str();
        let nodes = call.target.as_deref().into_iter().chain(&call.args);
        let mut arguments = Vec::with_capacity(call.args.len() + 1);
        for node in nodes {
            let value = self.value(node)?;
            if value.is_null() && !functions::takes_null(name) {
                return Err(null_beside(node, name));
            }
            arguments.push(value);
        }
        functions::call(name, call.target.is_some(), &arguments, &mut self.budget)
    }

    /// `&&` and `||`: a side that decides alone makes up for a fault of the other one.
    fn connect(
        &mut self,
        sign: &str,
        decisive: bool,
        left: &'a IdedExpr,
        right: &'a IdedExpr,
    ) -> Evaluated<'a> {
        let left = self.truth(left, sign);
        if left == Ok(decisive) {
            return Ok(Val::Bool(decisive));
        }
        match (left, self.truth(right, sign)) {
            (_, Ok(right)) if right == decisive => Ok(Val::Bool(decisive)),
            (Err(fault), _) | (Ok(_), Err(fault)) => Err(fault),
            (Ok(_), Ok(right)) => Ok(Val::Bool(right)),
        }
    }

    /// The value of a part that is asked for true or false.
    fn truth(&mut self, node: &'a IdedExpr, sign: &str) -> Result<bool, String> {
        let value = self.value(node)?;
        if let Val::Bool(truth) = value {
            return Ok(truth);
        }
        Err(if value.is_null() {
            null_beside(node, sign)
        } else {
            format!(
                "`{sign}` asks for true or false, not {}",
                named(&value, node)
            )
        })
    }

    fn negated(&mut self, node: &'a IdedExpr) -> Evaluated<'a> {
        let value = self.value(node)?;
        if value.is_null() {
            return Err(null_beside(node, "-"));
        }
        number::negated(&value)
            .unwrap_or_else(|| Err(format!("`-` does not take {}", named(&value, node))))
    }

    /// The value of an operator between two values; `None` where there is none of that sign.
    fn operator(
        &mut self,
        sign: &str,
        left: &'a IdedExpr,
        right: &'a IdedExpr,
    ) -> Option<Evaluated<'a>> {
        Some(match sign {
            operators::EQUALS => self.is_same(left, right).map(Val::Bool),
            operators::NOT_EQUALS => self.is_same(left, right).map(|same| Val::Bool(!same)),
            operators::LESS => self.compared("<", left, right, Ordering::is_lt),
            operators::LESS_EQUALS => self.compared("<=", left, right, Ordering::is_le),
            operators::GREATER => self.compared(">", left, right, Ordering::is_gt),
            operators::GREATER_EQUALS => self.compared(">=", left, right, Ordering::is_ge),
            operators::ADD => self.calculated(Operator::Add, left, right),
            operators::SUBSTRACT => self.calculated(Operator::Subtract, left, right),
            operators::MULTIPLY => self.calculated(Operator::Multiply, left, right),
            operators::DIVIDE => self.calculated(Operator::Divide, left, right),
            operators::MODULO => self.calculated(Operator::Remainder, left, right),
            operators::IN => self.contained(left, right),
            _ => return None,
        })
    }

    fn is_same(&mut self, left: &'a IdedExpr, right: &'a IdedExpr) -> Result<bool, String> {
        let (a, b) = (self.value(left)?, self.value(right)?);
        same(&a, &b, &mut self.budget)
    }

    fn compared(
        &mut self,
        sign: &str,
        left: &'a IdedExpr,
        right: &'a IdedExpr,
        holds: fn(Ordering) -> bool,
    ) -> Evaluated<'a> {
        let (a, b) = self.both(sign, left, right)?;
        match order(&a, &b, &mut self.budget)? {
            Some(order) => Ok(Val::Bool(holds(order))),
            None => Err(format!(
                "`{sign}` finds no order of {} and {}",
                named(&a, left),
                named(&b, right)
            )),
        }
    }

    fn calculated(
        &mut self,
        operator: Operator,
        left: &'a IdedExpr,
        right: &'a IdedExpr,
    ) -> Evaluated<'a> {
        let sign = operator.sign();
        let (a, b) = self.both(sign, left, right)?;
        if let Some(result) = number::calculate(operator, &a, &b) {
            return result;
        }
        match (operator, &a, &b) {
            (Operator::Add, Val::Text(a), Val::Text(b)) => {
                self.budget.copy(a.len() + b.len())?;
                Ok(Val::text(&[&**a, &**b].concat()))
            }
            (Operator::Add, Val::Bytes(a), Val::Bytes(b)) => {
                self.budget.copy(a.len() + b.len())?;
                Ok(Val::Bytes(Rc::from([&**a, &**b].concat())))
            }
            (Operator::Add, Val::List(a), Val::List(b)) => {
                // An element takes as much room as many characters.
                self.budget.spend(2 * (a.len() + b.len()))?;
                Ok(Val::List(List::Made(a.items().chain(b.items()).collect())))
            }
            _ => {
                let mut reason = format!(
                    "`{sign}` does not take {} and {}",
                    named(&a, left),
                    named(&b, right)
                );
                let is_text = |value: &Val<'_>| matches!(value, Val::Text(_));
                if operator == Operator::Add && is_text(&a) != is_text(&b) {
                    reason.push_str("; `string(…)` makes a text of a number");
                }
                Err(reason)
            }
        }
    }

    /// The values on both sides of an operator that does not take null.
    fn both(
        &mut self,
        sign: &str,
        left: &'a IdedExpr,
        right: &'a IdedExpr,
    ) -> Result<(Val<'a>, Val<'a>), String> {
        let (a, b) = (self.value(left)?, self.value(right)?);
        for (value, node) in [(&a, left), (&b, right)] {
            if value.is_null() {
                return Err(null_beside(node, sign));
            }
        }
        Ok((a, b))
    }

    fn contained(&mut self, left: &'a IdedExpr, right: &'a IdedExpr) -> Evaluated<'a> {
        let (item, of) = (self.value(left)?, self.value(right)?);
        match &of {
            Val::List(list) => {
                for element in list.items() {
                    if same(&element, &item, &mut self.budget)? {
                        return Ok(Val::Bool(true));
                    }
                }
                Ok(Val::Bool(false))
            }
            Val::Mapping(mapping) if item.is_key() => {
                self.budget.spend(mapping.lookup_steps())?;
                Ok(Val::Bool(mapping.get(&item).is_some()))
            }
            Val::Mapping(_) => Err(format!("{} is no key of a mapping", named(&item, left))),
            Val::Null => Err(null_beside(right, "in")),
            Val::Text(_) => Err(format!(
                "`in` looks in a list or a mapping, not in {}; ask a text with `contains`",
                named(&of, right)
            )),
            Val::Bool(_)
            | Val::Int(_)
            | Val::UInt(_)
            | Val::Double(_)
            | Val::Bytes(_)
            | Val::Type(_) => Err(format!(
                "`in` looks in a list or a mapping, not in {}",
                named(&of, right)
            )),
        }
    }

    /// The element of `of` at `key`. `whole` is the part of the expression that reads it, `operand`
    /// its part that yields `of`.
    fn key_of(
        &mut self,
        of: &Val<'a>,
        key: &Val<'a>,
        operand: &'a IdedExpr,
        whole: &'a IdedExpr,
    ) -> Evaluated<'a> {
        if let Some(found) = self.found_at(of, key)? {
            return Ok(found);
        }
        let ask = path(whole).map_or_else(
            || "ask with `has(…)` or `in` where it may be missing".to_owned(),
            |whole| format!("ask `has({whole})` first where it may be missing"),
        );
        Err(match (of, key.shown_key()) {
            (Val::Null, key) => {
                let null = path(operand).map_or_else(
                    || "a part of the expression is null".to_owned(),
                    |operand| format!("`{operand}` is null"),
                );
                let key = key.map_or_else(String::new, |key| format!(", so it has no `{key}`"));
                format!("{null}{key}; {ask}")
            }
            (Val::Mapping(_), Some(key)) => {
                let place = path(operand).map_or_else(String::new, |path| format!(" in `{path}`"));
                format!("there is no key `{key}`{place}; {ask}")
            }
            (Val::List(list), Some(_)) if key.number().is_some() => format!(
                "the index is outside of the list, which has {} elements",
                list.len()
            ),
            (_, Some(shown)) if matches!(key, Val::Text(_)) => {
                format!("{} has no key `{shown}`", named(of, operand))
            }
            _ => format!("{} is no index of {}", key.kind(), named(of, operand)),
        })
    }

    /// The element of `of` at `key`, if there is one.
    fn found_at(&mut self, of: &Val<'a>, key: &Val<'a>) -> Result<Option<Val<'a>>, String> {
        Ok(match (of, key.number()) {
            (Val::Mapping(mapping), _) => {
                self.budget.spend(mapping.lookup_steps())?;
                mapping.get(key)
            }
            (Val::List(list), Some(number)) => index(number).and_then(|at| list.get(at)),
            _ => None,
        })
    }

    /// `has(a.b)` and `has(a["b"])`: whether `a` is there and has the key.
    fn has(&mut self, asked: &'a IdedExpr) -> Evaluated<'a> {
        Ok(Val::Bool(self.find(asked)?.is_some()))
    }

    /// The value of a chain of keys; `None` where one of them is missing, or a part of the chain is
    /// nothing that has keys.
    fn find(&mut self, node: &'a IdedExpr) -> Result<Option<Val<'a>>, String> {
        let (operand, key) = match &node.expr {
            Expr::Select(select) => {
                let key = Val::Text(Text::Borrowed(&select.field));
                (&*select.operand, key)
            }
            Expr::Call(call) if call.func_name == operators::INDEX => {
                let [operand, index] = call.args.as_slice() else {
                    return self.value(node).map(Some);
                };
                (operand, self.value(index)?)
            }
            Expr::Call(_)
            | Expr::Ident(_)
            | Expr::Literal(_)
            | Expr::List(_)
            | Expr::Map(_)
            | Expr::Struct(_)
            | Expr::Comprehension(_)
            | Expr::Unspecified => return self.value(node).map(Some),
        };
        self.budget.spend(1)?;
        match self.find(operand)? {
            Some(of) => self.found_at(&of, &key),
            None => Ok(None),
        }
    }

    /// `exists` and `all`: whether the condition is `decisive` for one of the elements. An element
    /// that decides makes up for faults at others.
    fn visit(
        &mut self,
        name: &str,
        decisive: bool,
        of: &'a IdedExpr,
        element: &'a IdedExpr,
        condition: &'a IdedExpr,
    ) -> Evaluated<'a> {
        let Expr::Ident(element) = &element.expr else {
            return Err(format!("`{name}` names an element first"));
        };
        let value = self.value(of)?;
        let list = match &value {
            Val::List(list) => list.clone(),
            Val::Mapping(mapping) => {
                self.budget.spend(mapping.len())?;
                List::Made(mapping.entries().map(|(key, _)| key).collect())
            }
            Val::Null => return Err(null_beside(of, name)),
            Val::Bool(_)
            | Val::Int(_)
            | Val::UInt(_)
            | Val::Double(_)
            | Val::Text(_)
            | Val::Bytes(_)
            | Val::Type(_) => {
                return Err(format!("`{name}` visits a list, not {}", named(&value, of)));
            }
        };
        let mut failed = None;
        for item in list.items() {
            self.budget.visit()?;
            self.elements.push((element, item));
            let answer = self.truth(condition, name);
            self.elements.pop();
            match answer {
                Ok(answer) if answer == decisive => return Ok(Val::Bool(decisive)),
                Ok(_) => {}
                Err(reason) if self.budget.is_spent() => return Err(reason),
                Err(reason) => {
                    failed.get_or_insert(reason);
                }
            }
        }
        failed.map_or(Ok(Val::Bool(!decisive)), Err)
    }
}

fn of_literal(literal: &LiteralValue) -> Val<'_> {
    match literal {
        LiteralValue::Null => Val::Null,
        LiteralValue::Boolean(truth) => Val::Bool(*truth.inner()),
        LiteralValue::Int(whole) => Val::Int(*whole.inner()),
        LiteralValue::UInt(whole) => Val::UInt(*whole.inner()),
        LiteralValue::Double(double) => Val::Double(*double.inner()),
        LiteralValue::String(text) => Val::Text(Text::Borrowed(text.inner())),
        LiteralValue::Bytes(bytes) => Val::Bytes(Rc::from(bytes.inner())),
    }
}

/// The position in a list; whole doubles count.
fn index(number: Number) -> Option<usize> {
    match number {
        Number::Whole(whole) => usize::try_from(whole).ok(),
        Number::Double(double) => {
            // 2^53: no list is as long.
            let is_whole =
                double.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&double);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number from 0 to 2^53"
            )]
            is_whole.then_some(double as usize)
        }
    }
}

/// Why an operator or a function has no value beside null, and how to ask.
fn null_beside(node: &IdedExpr, sign: &str) -> String {
    match path(node) {
        Some(path) => {
            format!("`{path}` is null, which `{sign}` does not take; ask `{path} != null` first")
        }
        None => format!("a part beside `{sign}` is null; ask `… != null` first"),
    }
}

/// The kind of a value, and the part that yielded it.
fn named(value: &Val<'_>, node: &IdedExpr) -> String {
    match path(node) {
        Some(path) => format!("{} (`{path}`)", value.kind()),
        None => value.kind().to_owned(),
    }
}
