//! The functions that an expression may call. Macros, which see more than values, are not among them.

use std::rc::Rc;

use serde_json::Value;

use super::{
    budget::Budget,
    json::to_json,
    value::{Number, Text, Val},
};
use crate::canonical;

/// How each function is written.
const FORMS: [(&str, &str); 13] = [
    ("bool", "bool(text)"),
    ("bytes", "bytes(text)"),
    ("contains", "text.contains(part)"),
    ("double", "double(number or text)"),
    ("dyn", "dyn(value)"),
    ("endsWith", "text.endsWith(part)"),
    ("int", "int(number or text)"),
    ("sample", "sample(key, share)"),
    ("size", "size(text, list or mapping)"),
    ("startsWith", "text.startsWith(part)"),
    ("string", "string(value)"),
    ("type", "type(value)"),
    ("uint", "uint(number or text)"),
];

/// Whether the function does not mind null.
pub(super) fn takes_null(name: &str) -> bool {
    matches!(name, "dyn" | "sample" | "type")
}

/// Calls `name` with `arguments`; the first of them is `text` where it is written `text.name(…)`.
pub(super) fn call<'a>(
    name: &str,
    is_method: bool,
    arguments: &[Val<'a>],
    budget: &mut Budget,
) -> Result<Val<'a>, String> {
    for argument in arguments {
        if let Val::Text(text) = argument {
            budget.read(text.len())?;
        }
    }
    let found = match (name, is_method, arguments) {
        ("size", _, [of]) => size(of),
        ("contains", true, [Val::Text(text), Val::Text(part)]) => {
            Some(Val::Bool(text.contains(&**part)))
        }
        ("startsWith", true, [Val::Text(text), Val::Text(part)]) => {
            Some(Val::Bool(text.starts_with(&**part)))
        }
        ("endsWith", true, [Val::Text(text), Val::Text(part)]) => {
            Some(Val::Bool(text.ends_with(&**part)))
        }
        ("dyn", false, [of]) => Some(of.clone()),
        ("type", false, [of]) => Some(Val::Type(of.type_name())),
        ("sample", false, [key, share]) => Some(Val::Bool(sample(key, share, budget)?)),
        ("bool", false, [of]) => truth(of)?,
        ("int", false, [of]) => int(of)?,
        ("uint", false, [of]) => uint(of)?,
        ("double", false, [of]) => double(of)?,
        ("string", false, [of]) => string(of, budget)?,
        ("bytes", false, [of]) => bytes(of, budget)?,
        _ => None,
    };
    found.ok_or_else(|| {
        let kinds: Vec<&str> = arguments.iter().map(Val::kind).collect();
        let form = FORMS.iter().find(|(known, _)| *known == name);
        let form = form.map_or(name, |(_, form)| form);
        format!("`{form}` does not take {}", kinds.join(" and "))
    })
}

fn size<'a>(of: &Val<'a>) -> Option<Val<'a>> {
    let size = match of {
        Val::Text(text) => text.chars().count(),
        Val::Bytes(bytes) => bytes.len(),
        Val::List(list) => list.len(),
        Val::Mapping(mapping) => mapping.len(),
        Val::Null | Val::Bool(_) | Val::Int(_) | Val::UInt(_) | Val::Double(_) | Val::Type(_) => {
            return None;
        }
    };
    i64::try_from(size).ok().map(Val::Int)
}

fn truth<'a>(of: &Val<'a>) -> Result<Option<Val<'a>>, String> {
    if let Val::Bool(truth) = of {
        return Ok(Some(Val::Bool(*truth)));
    }
    let Val::Text(text) = of else {
        return Ok(None);
    };
    match &**text {
        "1" | "t" | "true" | "TRUE" | "True" => Ok(Some(Val::Bool(true))),
        "0" | "f" | "false" | "FALSE" | "False" => Ok(Some(Val::Bool(false))),
        _ => Err(unreadable("bool", text)),
    }
}

fn int<'a>(of: &Val<'a>) -> Result<Option<Val<'a>>, String> {
    if let Val::Text(text) = of {
        let number = text.parse().map_err(|_| unreadable("int", text))?;
        return Ok(Some(Val::Int(number)));
    }
    let number = match of.number() {
        None => return Ok(None),
        Some(Number::Whole(whole)) => i64::try_from(whole).ok(),
        Some(Number::Double(double)) => whole_part(double)
            // As CEL has it, the lowest number is out of reach.
            .filter(|whole| *whole != i64::MIN.into())
            .and_then(|whole| i64::try_from(whole).ok()),
    };
    let number = number.ok_or("`int` takes numbers of 64 bits with a sign")?;
    Ok(Some(Val::Int(number)))
}

fn uint<'a>(of: &Val<'a>) -> Result<Option<Val<'a>>, String> {
    if let Val::Text(text) = of {
        let number = text.parse().map_err(|_| unreadable("uint", text))?;
        return Ok(Some(Val::UInt(number)));
    }
    let number = match of.number() {
        None => return Ok(None),
        Some(Number::Whole(whole)) => u64::try_from(whole).ok(),
        Some(Number::Double(double)) => whole_part(double)
            .filter(|_| double >= 0.0)
            .and_then(|whole| u64::try_from(whole).ok()),
    };
    let number = number.ok_or("`uint` takes numbers of 64 bits without a sign")?;
    Ok(Some(Val::UInt(number)))
}

/// A double without its fraction; `None` where it is far beyond 64 bits, or no number.
#[expect(clippy::cast_possible_truncation, reason = "it is below 2^65")]
fn whole_part(double: f64) -> Option<i128> {
    const END: f64 = 36_893_488_147_419_103_232.0;
    (double.abs() < END).then_some(double as i128)
}

fn double<'a>(of: &Val<'a>) -> Result<Option<Val<'a>>, String> {
    if let Val::Text(text) = of {
        let number = text.parse().map_err(|_| unreadable("double", text))?;
        return Ok(Some(Val::Double(number)));
    }
    Ok(of.number().map(|number| Val::Double(number.to_f64())))
}

fn string<'a>(of: &Val<'a>, budget: &mut Budget) -> Result<Option<Val<'a>>, String> {
    if let Val::Text(_) = of {
        return Ok(Some(of.clone()));
    }
    if let Val::Bytes(bytes) = of {
        budget.copy(bytes.len())?;
        let text = std::str::from_utf8(bytes).map_err(|_| "the bytes are no text in UTF-8")?;
        return Ok(Some(Val::text(text)));
    }
    let is_scalar = matches!(of, Val::Bool(_)) || of.number().is_some();
    let text = of.key_text().filter(|_| is_scalar);
    Ok(text.map(|text| Val::text(&text)))
}

fn bytes<'a>(of: &Val<'a>, budget: &mut Budget) -> Result<Option<Val<'a>>, String> {
    if let Val::Bytes(_) = of {
        return Ok(Some(of.clone()));
    }
    let Val::Text(text) = of else {
        return Ok(None);
    };
    budget.copy(text.len())?;
    Ok(Some(Val::Bytes(Rc::from(text.as_bytes()))))
}

/// Whether `key` belongs to a sample of `share` of all keys. The same key always gets the same
/// result. The first eight bytes of the SHA-256 of the key as canonical JSON (keys sorted, no
/// blanks; a text with its quotes) are a number below 2^64; the key is in the sample if the number
/// is below `share` × 2^64. A larger sample contains every smaller one.
fn sample(key: &Val<'_>, share: &Val<'_>, budget: &mut Budget) -> Result<bool, String> {
    let share = share
        .number()
        .ok_or("`sample`: the share must be a number from 0 to 1")?
        .to_f64();
    if !(0.0..=1.0).contains(&share) {
        return Err("`sample`: the share goes from 0 to 1".to_owned());
    }
    let key: Value = to_json(key, budget)?;
    let hash = canonical::hash(&key);
    let number = hash[..8]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    // A share is a 64-bit float, which distinguishes 53 bits.
    let number = number >> 11;
    let part = number as f64 / (1_u64 << 53) as f64;
    Ok(part < share)
}

fn unreadable(function: &str, text: &Text<'_>) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("`{function}` cannot read `{shown}`")
}
