//! The fields that each type of command knows, from the schema of its struct.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use glyph_workflow_engine::command::{
    Activity, Advance, Assign, Command, Control, Migrate, Pause, Release, Start, Submission,
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::unreadable::{CommandFault, clip};

/// The paths of ignored fields that are kept to be told; of more only the number is known.
const IGNORED_PATHS_MAX: usize = 16;

/// The fields of a command that its type does not know. They change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IgnoredFields {
    /// How many there are.
    pub count: u64,
    /// Their paths, such as `annotation.lable`; the first sixteen.
    pub paths: Vec<String>,
}

impl IgnoredFields {
    fn note(&mut self, parent: &str, key: &str) {
        self.count += 1;
        if self.paths.len() < IGNORED_PATHS_MAX {
            self.paths.push(format!("{parent}{}", clip(key)));
        }
    }
}

/// The names that a command type knows, from the schema of its struct.
struct KnownFields {
    fields: BTreeSet<String>,
    annotation: BTreeSet<String>,
}

static KNOWN_FIELDS: LazyLock<BTreeMap<&'static str, KnownFields>> = LazyLock::new(|| {
    Command::TYPES
        .into_iter()
        .filter_map(|name| Some((name, KnownFields::of(command_schema(name)?))))
        .collect()
});

impl KnownFields {
    fn of(schema: schemars::Schema) -> Self {
        let schema = schema.to_value();
        let names = |pointer: &str| {
            let properties = schema.pointer(pointer).and_then(Value::as_object);
            properties
                .into_iter()
                .flat_map(Map::keys)
                .cloned()
                .collect()
        };
        let annotation = names("/$defs/AnnotationInput/properties");
        Self {
            fields: names("/properties"),
            annotation,
        }
    }
}

/// The schema of the struct behind a command type, without `type` and `command_id`.
pub(super) fn command_schema(command_type: &str) -> Option<schemars::Schema> {
    fn schema<T: JsonSchema>(generator: SchemaGenerator) -> schemars::Schema {
        generator.into_root_schema_for::<T>()
    }
    let generator = SchemaSettings::draft2020_12()
        .for_deserialize()
        .into_generator();
    Some(match command_type {
        "start" => schema::<Start>(generator),
        "submission" => schema::<Submission>(generator),
        "advance" => schema::<Advance>(generator),
        "assign" => schema::<Assign>(generator),
        "release" => schema::<Release>(generator),
        "activity" => schema::<Activity>(generator),
        "pause" => schema::<Pause>(generator),
        "resume" | "cancel" | "retry" => schema::<Control>(generator),
        "migrate" => schema::<Migrate>(generator),
        _ => return None,
    })
}

/// Removes unknown fields (and returns them), and every null. An absent field and a null one are
/// the same command, even if the field's type does not allow null.
pub(super) fn keep_known(
    fields: &mut Map<String, Value>,
    command_type: &str,
) -> Result<IgnoredFields, CommandFault> {
    let known = KNOWN_FIELDS
        .get(command_type)
        .ok_or_else(|| unknown_type(command_type))?;
    let mut ignored = IgnoredFields::default();
    let mut keep = |names: &BTreeSet<String>, parent: &str, key: &str, value: &Value| {
        let is_known = names.contains(key);
        if !is_known && key != "type" && key != "command_id" {
            ignored.note(parent, key);
        }
        is_known && !value.is_null()
    };
    fields.retain(|key, value| keep(&known.fields, "", key, value));
    if let Some(Value::Object(annotation)) = fields.get_mut("annotation") {
        annotation.retain(|key, value| keep(&known.annotation, "annotation.", key, value));
    }
    Ok(ignored)
}

/// The fields that a body of another kind does not know.
pub(super) fn unknown_fields(
    fields: &Map<String, Value>,
    known: &BTreeSet<String>,
) -> IgnoredFields {
    let mut ignored = IgnoredFields::default();
    let unknown = fields.keys().filter(|key| !known.contains(*key));
    unknown.for_each(|key| ignored.note("", key));
    ignored
}

/// The names of the fields of a body.
pub(super) fn field_names<T: JsonSchema>() -> BTreeSet<String> {
    let generator = SchemaSettings::draft2020_12()
        .for_deserialize()
        .into_generator();
    KnownFields::of(generator.into_root_schema_for::<T>()).fields
}

pub(super) fn unknown_type(name: &str) -> CommandFault {
    CommandFault::malformed(format!(
        "type: `{}` is none of {}",
        clip(name),
        Command::TYPES.join(", ")
    ))
}
