//! Unknown, missing and mistyped keys, found with the JSON Schema generated from the types.
//!
//! The checker understands what `schemars` generates for plain types: objects, maps, lists, texts
//! with a pattern, numbers with a range, closed sets of words, and each of these or null. A unit
//! test walks the schemas and fails on anything else.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    document::{self, CheckSchema},
    fault::{Faults, Spot},
    report::DiagnosticCode as Code,
    resolve::quoted,
    suggest::Suggester,
    tree::{Content, Node},
};
use crate::{config::ConfigDuration, ids::Slug};

const SLUG: &str = r"^[a-z0-9][a-z0-9_-]{0,63}$";
const TARGET: &str = r"^(_complete|_failed|[a-z0-9][a-z0-9_-]{0,63})$";
const DURATION: &str = "^[0-9]{1,9}[smhd]$";
const SECRET: &str = "^[A-Za-z0-9_-]{1,64}$";
const TIME_HINT: &str = "write it as `2031-05-17T12:00:00Z`";
const UUID_HINT: &str = "write the id of a person, like 0190a6c0-0000-7000-8000-000000000001";

/// What happens to a node in the mapping or list that contains it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    /// The node cannot be typed; reported.
    Bad,
    /// The node is null, which means left out.
    LeftOut,
}

/// Checks `node` against `schema` and repairs what it can.
pub(super) fn check(
    node: &mut Node,
    schema: &CheckSchema,
    suggester: &Suggester,
    faults: &mut Faults,
) {
    let mut checker = Checker {
        schema,
        suggester,
        faults,
    };
    if checker.visit(node, &schema.root) == Outcome::Bad {
        node.broken = true;
    }
}

struct Checker<'a> {
    schema: &'a CheckSchema,
    suggester: &'a Suggester,
    faults: &'a mut Faults,
}

impl<'a> Checker<'a> {
    fn visit(&mut self, node: &mut Node, schema: &'a Value) -> Outcome {
        let name = CheckSchema::name(schema);
        let schema = self.schema.resolve(schema);
        if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            if node.is_null() {
                return Outcome::LeftOut;
            }
            // Of a text and a mapping that stands in for it, the one that is written counts.
            let is_mapping = |option: &&Value| self.schema.resolve(option)["type"] == "object";
            let written = options
                .iter()
                .find(|option| node.map().is_some() && is_mapping(option));
            let inner = written.or_else(|| options.iter().find(|option| option["type"] != "null"));
            return inner.map_or(Outcome::Good, |inner| self.visit(node, inner));
        }
        if let Some(words) = words(schema) {
            return self.word(node, &words);
        }
        if let Some((words, mapping)) = variants(schema) {
            return self.variant(node, &words, mapping);
        }
        let (kind, nullable) = kind(schema);
        if nullable && node.is_null() {
            return Outcome::LeftOut;
        }
        match kind {
            Some("object") => self.mapping(node, schema, name),
            Some("array") => self.list(node, schema),
            Some("string") => self.text(node, schema),
            Some("integer") => self.number(node, schema, true),
            Some("number") => self.number(node, schema, false),
            Some("boolean") if matches!(node.content, Content::Scalar(Value::Bool(_))) => {
                Outcome::Good
            }
            Some("boolean") => self.mistyped(node, "true or false"),
            _ => Outcome::Good,
        }
    }

    fn mapping(&mut self, node: &mut Node, schema: &'a Value, name: Option<&str>) -> Outcome {
        if node.map().is_none() {
            let hint = node.as_str().and_then(|text| self.as_mapping(text, schema));
            return self.mistyped_with(node, "a mapping", hint);
        }
        let no_properties = serde_json::Map::new();
        let properties = schema["properties"].as_object();
        let others = Some(&schema["additionalProperties"]).filter(|other| **other != false);
        let mut excused = node.partial;
        if others.is_none() {
            excused |= self.unknown_keys(node, schema, properties.unwrap_or(&no_properties), name);
        }
        let required: Vec<&str> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut outcome = Outcome::Good;
        for key in &required {
            if node.get(key).is_none() {
                outcome = Outcome::Bad;
                if !excused {
                    self.missing(node, key, properties.and_then(|p| p.get(*key)), name);
                }
            }
        }
        let Some(entries) = node.map_mut() else {
            return Outcome::Bad;
        };
        entries.retain(|key, child| {
            let schema = properties.and_then(|p| p.get(key)).or(others);
            let Some(schema) = schema else { return true };
            match self.visit(child, schema) {
                Outcome::Good => true,
                Outcome::LeftOut => false,
                Outcome::Bad => {
                    child.broken = true;
                    if required.contains(&key.as_str()) {
                        outcome = Outcome::Bad;
                    }
                    true
                }
            }
        });
        outcome
    }

    /// A suggestion for a text where a mapping of `schema` is expected, if its meaning is clear.
    fn as_mapping(&self, text: &str, schema: &'a Value) -> Option<String> {
        let properties = schema["properties"].as_object()?;
        let named = |key: &str| {
            let words = words(self.plain(properties.get(key)?))?;
            let meant = self.suggester.nearest(text, words)?;
            Some(format!("write `{{ {key}: {meant} }}`"))
        };
        // The keys that define the kind of the mapping.
        let named = ["type", "method", "strategy"].into_iter().find_map(named);
        let asked = || {
            let kind = match (properties.get("expression"), properties.get("type")) {
                (None, _) => return None,
                (Some(_), None) => "",
                (Some(_), Some(_)) => "type: expression, ",
            };
            let text = Value::from(text);
            Some(format!("write `{{ {kind}expression: {text} }}`"))
        };
        named.or_else(asked)
    }

    /// The schema of a value, with references followed and `null` alternatives removed.
    fn plain(&self, schema: &'a Value) -> &'a Value {
        let options = schema.get("anyOf").and_then(Value::as_array);
        let inner = options.and_then(|all| all.iter().find(|option| option["type"] != "null"));
        self.schema.resolve(inner.unwrap_or(schema))
    }

    /// Where `key` belongs, if that is one mapping further in or out. `handler` is the handler of
    /// the mapping.
    fn elsewhere(
        &self,
        key: &str,
        schema: &'a Value,
        name: Option<&str>,
        handler: Option<&str>,
    ) -> Option<Elsewhere> {
        let has_key = |schema: &Value| schema["properties"].get(key).is_some();
        if name == Some("WorkflowBody") && has_key(&self.schema.root) {
            return Some(Elsewhere {
                hint: format!("`{key}` stands beside `workflow`, not inside"),
                inside: None,
            });
        }
        let of_handler = handler.and_then(document::handler_schema);
        if of_handler.is_some_and(|settings| has_key(&settings.root)) {
            return Some(Elsewhere::inside(key, "config"));
        }
        let inside = schema["properties"].as_object()?.iter();
        let inside = inside.filter(|(_, property)| has_key(self.plain(property)));
        let inside: Vec<&String> = inside.map(|(name, _)| name).collect();
        match inside.as_slice() {
            [] => None,
            [only] => Some(Elsewhere::inside(key, only)),
            several => Some(Elsewhere {
                hint: format!("`{key}` stands inside one of {}", quoted(several)),
                inside: None,
            }),
        }
    }

    /// Reports keys that do not exist. A misspelled key is used in place of a missing key that it
    /// resembles, and a misplaced one where it belongs. Returns whether a misspelled `ref` or
    /// `template` explains other missing keys.
    fn unknown_keys(
        &mut self,
        node: &mut Node,
        schema: &'a Value,
        properties: &serde_json::Map<String, Value>,
        name: Option<&str>,
    ) -> bool {
        let resolved_before: &[&str] = match name {
            Some("StepConfig") => &["ref", "overrides"],
            Some("WorkflowBody") => &["template", "overrides"],
            _ => &[],
        };
        let mut excused = false;
        let Some(entries) = node.map_mut() else {
            return false;
        };
        let unknown: Vec<String> = entries
            .keys()
            .filter(|key| !properties.contains_key(*key))
            .cloned()
            .collect();
        for key in unknown {
            if self.faults.is_full() {
                break;
            }
            let Some(child) = entries.remove(&key) else {
                continue;
            };
            let known = properties
                .keys()
                .map(String::as_str)
                .chain(resolved_before.iter().copied());
            let handler = entries.get("handler").and_then(Node::as_str);
            let elsewhere = self.elsewhere(&key, schema, name, handler);
            let near = match elsewhere {
                Some(_) => None,
                None => self.suggester.nearest(&key, known),
            };
            let fault = self
                .faults
                .add(
                    Code::UnknownKey,
                    &child.origin,
                    format!("there is no key `{key}` here"),
                )
                .at(Spot::Key)
                .value_of(&child);
            match (near, &elsewhere) {
                (Some(near), _) => fault.did_you_mean(Some(near)),
                (None, Some(elsewhere)) => fault.suggest(elsewhere.hint.as_str()),
                (None, None) if name == Some("ExpressionConfig") && key == "type" => {
                    fault.suggest("leave it out: a conditional step always asks an expression")
                }
                (None, None) if key == "<<" => {
                    fault.suggest("merge keys are not supported; repeat the keys")
                }
                (None, None) if properties.len() <= 12 => {
                    let known: Vec<&String> = properties.keys().collect();
                    let verb = if known.len() == 1 { "is" } else { "are" };
                    fault.suggest(format!("known {verb} {}", quoted(&known)))
                }
                (None, None) => fault,
            };
            match near {
                Some(near) if resolved_before.contains(&near) => excused = true,
                Some(near) if !entries.contains_key(near) => {
                    entries.insert(near.to_owned(), child);
                }
                Some(_) => {}
                None => {
                    if let Some(inside) = elsewhere.and_then(|elsewhere| elsewhere.inside) {
                        move_into(entries, inside, key, child);
                    }
                }
            }
        }
        excused
    }

    fn missing(&mut self, node: &Node, key: &str, schema: Option<&Value>, name: Option<&str>) {
        let what = match name {
            Some("StepConfig" | "LibraryStep") => "the step",
            Some("TransitionConfig") => "the transition",
            Some("WorkflowBody") => "the workflow",
            Some("GoalConfig") => "the goal",
            Some("ConditionConfig" | "ExpressionConfig") => "the condition",
            Some(_) => "this mapping",
            None => "the file",
        };
        let message = format!("{what} lacks the key `{key}`");
        let fault = self.faults.add(Code::MissingKey, &node.origin, message);
        let schema = schema.map(|schema| self.schema.resolve(schema));
        match schema.and_then(words) {
            Some(words) => fault.suggest(format!("add `{key}`: one of {}", quoted(&words))),
            None => fault.suggest(format!("add `{key}`")),
        };
    }

    fn list(&mut self, node: &mut Node, schema: &'a Value) -> Outcome {
        let Content::List(items) = &mut node.content else {
            // A single entry stands for a list of one, if it could be an entry.
            let entry = self.schema.resolve(&schema["items"]);
            let is_text = kind(entry).0 == Some("string")
                || words(entry).is_some()
                || variants(entry).is_some()
                || CheckSchema::name(&schema["items"]) == Some("Hook");
            let entry = node.as_str().filter(|_| is_text);
            let hint = entry.map(|text| format!("write `[{text}]`"));
            return self.mistyped_with(node, "a list", hint);
        };
        let count = items.len() as u64;
        for item in items.iter_mut() {
            match self.visit(item, &schema["items"]) {
                Outcome::Good => {}
                Outcome::LeftOut | Outcome::Bad => item.broken = true,
            }
        }
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let message = match (bound("minItems"), bound("maxItems")) {
            (Some(min), _) if count < min => format!("the list needs at least {min} entry"),
            (_, Some(max)) if count > max => {
                format!("the list has {count} entries, more than {max}")
            }
            _ => return Outcome::Good,
        };
        self.faults.add(Code::OutOfRange, &node.origin, message);
        Outcome::Bad
    }

    fn text(&mut self, node: &Node, schema: &Value) -> Outcome {
        let pattern = schema.get("pattern").and_then(Value::as_str);
        let Some(text) = node.as_str() else {
            let scalar = match &node.content {
                Content::Scalar(scalar @ (Value::Bool(_) | Value::Number(_))) => scalar.to_string(),
                Content::Scalar(_) | Content::Map(_) | Content::List(_) => String::new(),
            };
            let quotes = || Some(format!("write it in quotes: \"{scalar}\""));
            let (expected, hint) = match pattern {
                _ if scalar.is_empty() => ("a text", None),
                Some(DURATION) => ("a duration", duration_of(&scalar)),
                _ if schema["format"] == "date-time" => {
                    ("a point in time", Some(TIME_HINT.to_owned()))
                }
                Some(SLUG | TARGET) if Slug::new(&scalar).is_err() => (
                    "a text",
                    slug_of(&scalar).map(|slug| format!("write `{slug}`")),
                ),
                _ => ("a text", quotes()),
            };
            return self.mistyped_with(node, expected, hint);
        };
        let formatted = match schema["format"].as_str() {
            Some("date-time") => Some((
                chrono::DateTime::parse_from_rfc3339(text).is_ok(),
                "a point in time",
                TIME_HINT,
            )),
            Some("uuid") => Some((uuid::Uuid::parse_str(text).is_ok(), "a UUID", UUID_HINT)),
            _ => None,
        };
        if let Some((is_one, expected, hint)) = formatted {
            if is_one {
                return Outcome::Good;
            }
            let message = format!("`{text}` is not {expected}");
            self.faults
                .add(Code::InvalidValue, &node.origin, message)
                .value(text)
                .suggest(hint);
            return Outcome::Bad;
        }
        match pattern {
            Some(SLUG) => self.id(node, text, &[]),
            Some(TARGET) => self.id(node, text, &["_complete", "_failed"]),
            Some(DURATION) => match text.parse::<ConfigDuration>() {
                Ok(_) => Outcome::Good,
                Err(error) => {
                    let fault = self
                        .faults
                        .add(Code::InvalidValue, &node.origin, error.to_string())
                        .value(text);
                    if let Some(hint) = duration_of(text) {
                        fault.suggest(hint);
                    }
                    Outcome::Bad
                }
            },
            Some(SECRET) => {
                let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
                    return Outcome::Good;
                }
                let message = format!("`{text}` is no name of a secret");
                self.faults
                    .add(Code::InvalidValue, &node.origin, message)
                    .value(text)
                    .suggest("a name has up to 64 letters, digits, `-` and `_`");
                Outcome::Bad
            }
            _ => Outcome::Good,
        }
    }

    fn id(&mut self, node: &Node, text: &str, terminals: &[&str]) -> Outcome {
        if terminals.contains(&text) || Slug::new(text).is_ok() {
            return Outcome::Good;
        }
        let message = match Slug::new(text) {
            _ if text.is_empty() => "an id cannot be empty".to_owned(),
            _ if matches!(text, "_complete" | "_failed") => {
                let message = format!("`{text}` is an end, not a step");
                self.faults
                    .add(Code::InvalidId, &node.origin, message)
                    .value(text)
                    .suggest("name a step");
                return Outcome::Bad;
            }
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        };
        let near = self
            .suggester
            .nearest(text, terminals.iter().copied())
            .map(str::to_owned);
        let near = near.or_else(|| slug_of(text));
        self.faults
            .add(Code::InvalidId, &node.origin, message)
            .value(text)
            .did_you_mean(near.as_deref());
        Outcome::Bad
    }

    fn number(&mut self, node: &mut Node, schema: &Value, whole: bool) -> Outcome {
        let expected = if whole { "a whole number" } else { "a number" };
        let Content::Scalar(Value::Number(number)) = &node.content else {
            return self.mistyped(node, expected);
        };
        let number = number.clone();
        let value = number.as_f64().unwrap_or(f64::NAN);
        if whole && !number.is_i64() && !number.is_u64() {
            // The number exceeds 64 bits; no number of the language is as large.
            if value.abs() >= i64::MAX as f64 {
                let message = "the number is out of bounds: it is beyond 64 bits";
                self.faults
                    .add(Code::OutOfRange, &node.origin, message)
                    .value_of(node);
                return Outcome::Bad;
            }
            // `2.0` is a whole number, as it is to JSON Schema.
            let Ok(integer) = format!("{value:.0}").parse::<i64>() else {
                return self.mistyped(node, expected);
            };
            if value.fract() != 0.0 {
                return self.mistyped(node, expected);
            }
            node.content = Content::Scalar(integer.into());
        }
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let (min, max) = (bound("minimum"), bound("maximum"));
        if min.is_none_or(|min| value >= min) && max.is_none_or(|max| value <= max) {
            return Outcome::Good;
        }
        let range = match (min, max) {
            (Some(min), Some(max)) => format!("from {min} to {max}"),
            (Some(min), None) => format!("{min} or more"),
            (None, Some(max)) => format!("{max} or less"),
            (None, None) => "within bounds".to_owned(),
        };
        self.faults
            .add(
                Code::OutOfRange,
                &node.origin,
                format!("{number} is out of bounds: it must be {range}"),
            )
            .value_of(node);
        Outcome::Bad
    }

    fn word(&mut self, node: &mut Node, words: &[&str]) -> Outcome {
        let Some(text) = node.as_str() else {
            return self.mistyped(node, &format!("one of {}", quoted(words)));
        };
        if words.contains(&text) {
            return Outcome::Good;
        }
        let near = self.suggester.meant(text, words);
        let message = format!("`{text}` is none of {}", quoted(words));
        self.faults
            .add(Code::InvalidValue, &node.origin, message)
            .value(text)
            .did_you_mean(near);
        match near {
            // Checking continues with the probable word.
            Some(near) => {
                node.content = Content::Scalar(Value::String(near.to_owned()));
                Outcome::Good
            }
            None => Outcome::Bad,
        }
    }

    /// A word, or a mapping of one word to its settings. A word without its settings is checked as
    /// if they were empty, so that missing keys are reported.
    fn variant(&mut self, node: &mut Node, words: &[&str], mapping: &'a Value) -> Outcome {
        if node.map().is_some() {
            return self.mapping(node, mapping, None);
        }
        let outcome = self.word(node, words);
        let has_settings = |word: &&str| mapping["properties"].get(word).is_some();
        match node.as_str().filter(has_settings).map(str::to_owned) {
            Some(word) if outcome == Outcome::Good => {
                let settings = Node::new(node.origin.clone(), Content::Map([].into()));
                node.content = Content::Map([(word, settings)].into());
                self.mapping(node, mapping, None)
            }
            _ => outcome,
        }
    }

    fn mistyped(&mut self, node: &Node, expected: &str) -> Outcome {
        self.mistyped_with(node, expected, None)
    }

    fn mistyped_with(&mut self, node: &Node, expected: &str, hint: Option<String>) -> Outcome {
        let message = format!("expected {expected}, found {}", node.what());
        let fault = self
            .faults
            .add(Code::WrongType, &node.origin, message)
            .value_of(node);
        if let Some(hint) = hint {
            fault.suggest(hint);
            return Outcome::Bad;
        }
        match &node.content {
            Content::Scalar(Value::String(text))
                if expected == "a whole number" && text.parse::<i64>().is_ok()
                    || expected == "a number" && is_number(text)
                    || expected == "true or false" && matches!(text.as_str(), "true" | "false") =>
            {
                fault.suggest(format!("write it without quotes: {text}"));
            }
            Content::Scalar(Value::String(text)) if expected == "true or false" => {
                match text.to_lowercase().as_str() {
                    "yes" | "on" | "y" => fault.suggest("write `true`"),
                    "no" | "off" | "n" => fault.suggest("write `false`"),
                    _ => fault,
                };
            }
            Content::Scalar(_) | Content::Map(_) | Content::List(_) => {}
        }
        Outcome::Bad
    }
}

/// Where a key belongs that does not exist where it stands.
struct Elsewhere {
    hint: String,
    /// The key of the mapping that should hold it, beside it.
    inside: Option<String>,
}

impl Elsewhere {
    fn inside(key: &str, inside: &str) -> Self {
        Self {
            hint: format!("`{key}` stands inside `{inside}`"),
            inside: Some(inside.to_owned()),
        }
    }
}

/// Moves `child` into the mapping `inside`, unless that has such a key. What a mapping made for it
/// lacks is not reported, except for a handler's `config`, which was not there at all.
fn move_into(entries: &mut BTreeMap<String, Node>, inside: String, key: String, child: Node) {
    let partial = inside != "config";
    let mapping = entries.entry(inside).or_insert_with(|| Node {
        partial,
        ..Node::new(child.origin.clone(), Content::Map([].into()))
    });
    if let Some(keys) = mapping.map_mut() {
        keys.entry(key).or_insert(child);
    }
}

/// How the number or text would be written as a duration, if that is clear.
fn duration_of(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at(digits);
    let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
    let unit = match unit.trim_start() {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 's',
        "m" | "min" | "mins" | "minute" | "minutes" => 'm',
        "h" | "hour" | "hours" => 'h',
        "d" | "day" | "days" => 'd',
        _ => return None,
    };
    let written = format!("{count}{unit}");
    let is_duration = written.parse::<ConfigDuration>().is_ok();
    is_duration.then(|| format!("write `{written}`"))
}

/// Whether the text would be a number without its quotes.
fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// The closed set of words of a schema, if it is one.
fn words(schema: &Value) -> Option<Vec<&str>> {
    let single = |option: &'_ Value| option.get("const").is_some();
    if let Some(options) = schema.get("oneOf").and_then(Value::as_array) {
        return options.iter().all(single).then(|| {
            options
                .iter()
                .filter_map(|option| option["const"].as_str())
                .collect()
        });
    }
    let words = schema.get("enum").and_then(Value::as_array)?;
    Some(words.iter().filter_map(Value::as_str).collect())
}

/// The words of a schema in which some words have settings (listed last), and the schema of the
/// mapping from these words to their settings.
fn variants(schema: &Value) -> Option<(Vec<&str>, &Value)> {
    let options = schema.get("oneOf").and_then(Value::as_array)?;
    let mapping = options.iter().find(|option| option["type"] == "object")?;
    let words = options.iter().filter_map(|option| option["const"].as_str());
    let others = mapping["properties"]
        .as_object()?
        .keys()
        .map(String::as_str);
    Some((words.chain(others).collect(), mapping))
}

/// The type of a schema, and whether null stands for left out.
fn kind(schema: &Value) -> (Option<&str>, bool) {
    match schema.get("type") {
        Some(Value::String(kind)) => (Some(kind), false),
        Some(Value::Array(kinds)) => {
            let kind = kinds
                .iter()
                .filter_map(Value::as_str)
                .find(|kind| *kind != "null");
            (kind, kinds.iter().any(|kind| kind == "null"))
        }
        _ => (None, false),
    }
}

/// An id derived from the text.
fn slug_of(text: &str) -> Option<String> {
    let plain: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                c
            } else {
                '-'
            }
        })
        .collect();
    let plain = plain.trim_matches(['-', '_']);
    Slug::new(plain).is_ok().then(|| plain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::BUILT_IN_HANDLERS, parser::document};

    /// A type whose schema uses a new keyword needs support for it in the checker.
    #[test]
    fn every_keyword_of_the_schemas_is_understood() {
        const KNOWN: [&str; 21] = [
            "$schema",
            "$defs",
            "$ref",
            "title",
            "description",
            "default",
            "type",
            "properties",
            "required",
            "additionalProperties",
            "items",
            "minItems",
            "maxItems",
            "oneOf",
            "anyOf",
            "const",
            "enum",
            "pattern",
            "format",
            "minimum",
            "maximum",
        ];
        fn walk(schema: &Value) {
            let Some(entries) = schema.as_object() else {
                return;
            };
            for (key, value) in entries {
                assert!(KNOWN.contains(&key.as_str()), "{key} in {schema}");
                match key.as_str() {
                    "properties" | "$defs" => {
                        value.as_object().unwrap().values().for_each(walk);
                    }
                    "items" | "additionalProperties" => walk(value),
                    "oneOf" => match variants(schema) {
                        Some((words, mapping)) => {
                            assert_eq!(words.len(), value.as_array().unwrap().len(), "{schema}");
                            walk(mapping);
                        }
                        None => assert!(words(schema).is_some(), "{schema}"),
                    },
                    "anyOf" => {
                        let options = value.as_array().unwrap();
                        // A value that may be left out, or a text with a mapping in its place.
                        let [first, second] = options.as_slice() else {
                            panic!("{schema}");
                        };
                        let of_text = first["type"] == "string" && second.get("$ref").is_some();
                        assert!(second["type"] == "null" || of_text, "{schema}");
                        walk(first);
                    }
                    "pattern" => assert!(
                        [SLUG, TARGET, DURATION, SECRET].contains(&value.as_str().unwrap()),
                        "{value}"
                    ),
                    "format" => assert!(
                        ["date-time", "double", "uint32", "int32", "uuid"]
                            .contains(&value.as_str().unwrap()),
                        "{value}"
                    ),
                    _ => {}
                }
            }
        }
        walk(&document::file_schema().root);
        walk(&document::script_schema().root);
        let with_schema = BUILT_IN_HANDLERS.iter().filter(|name| **name != "queue");
        for handler in with_schema {
            walk(&document::handler_schema(handler).unwrap().root);
        }
    }
}
