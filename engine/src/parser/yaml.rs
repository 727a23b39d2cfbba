//! The only file that knows `serde_yaml`, which is no longer developed.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Why a text is not YAML.
pub(super) struct YamlFault {
    pub(super) message: String,
    /// Line and column, from 1, where known.
    pub(super) place: Option<(usize, usize)>,
}

/// Reads the values of a document whose bounds have been checked.
pub(super) fn read(source: &str) -> Result<Value, YamlFault> {
    let read = serde_yaml::from_str(source).map(|Plain(value)| value);
    read.map_err(|error| {
        let message = error.to_string();
        // The location is reported separately.
        let message = match message.split(" at line ").next().unwrap_or(&message) {
            tag if tag.contains("invalid type: enum") => "tags such as `!name` are not supported",
            other => other,
        };
        let message = message.to_owned();
        YamlFault {
            message,
            place: error.location().map(|at| (at.line(), at.column())),
        }
    })
}

/// Reads one value, as it would stand behind a key: `0.9`, `[a, b]`, `{ type: confidence }`. An
/// empty text is null.
///
/// # Errors
///
/// Why it is no value.
pub fn parse_value(text: &str) -> Result<Value, String> {
    read(text).map_err(|fault| fault.message)
}

/// A value as YAML, with the keys that name a thing before those that describe it.
pub fn yaml_of(value: &Value) -> String {
    // Values of JSON under text keys always serialize.
    serde_yaml::to_string(&Named(value)).unwrap_or_default()
}

/// The keys that come first, in order; the others follow by name.
const NAMING_KEYS: [&str; 9] = [
    "workflow",
    "id",
    "name",
    "description",
    "type",
    "entry_step",
    "from",
    "to",
    "settings",
];

/// A value whose keys come in the order of [`NAMING_KEYS`].
struct Named<'v>(&'v Value);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(entries) => {
                let rank = |key: &str| NAMING_KEYS.iter().position(|name| *name == key);
                let mut entries: Vec<(&String, &Value)> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| (rank(key).unwrap_or(NAMING_KEYS.len()), *key));
                to.collect_map(entries.into_iter().map(|(key, value)| (key, Named(value))))
            }
            Value::Array(items) => to.collect_seq(items.iter().map(Named)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.0.serialize(to)
            }
        }
    }
}

/// A value as JSON has it. Whole numbers beyond 64 bits become decimal numbers. `.inf` and `.nan`,
/// which JSON lacks, stay texts, so that a key that takes a number refuses them at their location.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok((value as f64).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(match value {
            value if value.is_finite() => value.into(),
            value if value.is_nan() => ".nan".into(),
            value if value > 0.0 => ".inf".into(),
            _ => "-.inf".into(),
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Plain(value))) = entries.next_entry()? {
            map.insert(key, value);
        }
        Ok(map.into())
    }
}
