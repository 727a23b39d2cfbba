//! Chains of keys that can be checked before an expression is evaluated.

use super::{
    ExpressionError,
    error::Fields,
    names::nearest,
    scan::{Kind, Token},
};

/// A reference to a step by a literal: `step["annotate"]` or `step.annotate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReference {
    /// The step's id.
    pub id: String,
    /// Byte of the id in the source.
    pub offset: usize,
}

pub(super) fn step_references(tokens: &[Token<'_>]) -> Vec<StepReference> {
    let mut found = Vec::new();
    for at in roots(tokens, "step") {
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

/// Where a variable is read: its name, not after a dot.
fn roots<'t>(tokens: &'t [Token<'_>], name: &'t str) -> impl Iterator<Item = usize> + 't {
    let is_root = |at: usize| at == 0 || tokens[at - 1].text != ".";
    (0..tokens.len()).filter(move |at| tokens[*at].text == name && is_root(*at))
}

/// Refuses keys that a result, the state of a step or the task never has. The keys of values,
/// annotations and inputs are not known before evaluation.
pub(super) fn check_fields(tokens: &[Token<'_>]) -> Result<(), ExpressionError> {
    for at in roots(tokens, "result") {
        check_result(tokens, at + 1)?;
    }
    for at in roots(tokens, "task") {
        check_field(tokens, at + 1, Fields::Task)?;
    }
    for at in roots(tokens, "step") {
        let Some((_, behind)) = field_at(tokens, at + 1) else {
            continue;
        };
        if check_field(tokens, behind, Fields::Step)? == Some("result") {
            let behind = field_at(tokens, behind).map_or(behind, |(_, behind)| behind);
            check_result(tokens, behind)?;
        }
    }
    Ok(())
}

fn check_result(tokens: &[Token<'_>], at: usize) -> Result<(), ExpressionError> {
    if check_field(tokens, at, Fields::Result)? == Some("posterior") {
        let behind = field_at(tokens, at).map_or(at, |(_, behind)| behind);
        check_field(tokens, behind, Fields::Posterior)?;
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
