//! What an expression is evaluated with.

use serde_json::{Map, Value};

/// The values of variables, asked for by name. An expression asks only for those that it names.
pub trait Variables: Sync {
    /// The value of a variable; `None` where it has none here, and an expression that reads it fails.
    fn variable(&self, name: &str) -> Option<Variable<'_>>;
}

/// The value of one variable.
#[derive(Clone, Debug, PartialEq)]
pub enum Variable<'a> {
    /// Data that is there already. It is read in place, however large it is.
    Value(&'a Value),
    /// A mapping that is there already.
    Mapping(&'a Map<String, Value>),
    /// A list of data that is there already.
    List(Vec<&'a Value>),
    /// A value made for the expression.
    Made(Value),
}

/// An object from variable to value.
impl Variables for Value {
    fn variable(&self, name: &str) -> Option<Variable<'_>> {
        self.get(name).map(Variable::Value)
    }
}
