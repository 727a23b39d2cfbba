//! Parts of an expression as they are written, for messages.

use std::fmt::Write as _;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

/// Most characters of a part that a message repeats.
const PATH_MAX: usize = 80;

/// An operand as it is written, if it is a chain of keys: `annotation.score`, `step["a"].result`.
pub(super) fn path(node: &IdedExpr) -> Option<String> {
    let mut text = String::new();
    append(node, &mut text)?;
    (text.chars().count() <= PATH_MAX).then_some(text)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else the language has is no chain of keys"
)]
fn append(node: &IdedExpr, text: &mut String) -> Option<()> {
    match &node.expr {
        Expr::Ident(name) => text.push_str(name),
        Expr::Select(select) => {
            append(&select.operand, text)?;
            text.push('.');
            text.push_str(&select.field);
        }
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [of, index] = call.args.as_slice() else {
                return None;
            };
            append(of, text)?;
            text.push('[');
            match &index.expr {
                Expr::Literal(LiteralValue::String(key)) => {
                    write!(text, "{:?}", key.inner()).ok()?;
                }
                Expr::Literal(LiteralValue::Int(at)) => write!(text, "{}", at.inner()).ok()?,
                _ => append(index, text)?,
            }
            text.push(']');
        }
        _ => return None,
    }
    Some(())
}
