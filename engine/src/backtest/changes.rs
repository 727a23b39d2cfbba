//! A workflow with some of its settings changed.

use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    config::{StepLibrary, WorkflowConfig},
    ids::WorkflowId,
    parser::{ParseError, Severity, Suggester, check_workflow_bytes, parse_value},
};

/// Why the settings of a workflow cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is not written `PATH=VALUE`.
    #[error("`{text}`: {reason}")]
    Unreadable {
        /// The text.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// The workflow has no such place.
    #[error("`{path}`: {reason}")]
    NoPlace {
        /// The path.
        path: String,
        /// What there is instead.
        reason: String,
    },
    /// The path names no step, and more than one step has it.
    #[error("`{path}` is ambiguous: say which step, as {}", .steps.join(" or "))]
    Ambiguous {
        /// The path.
        path: String,
        /// The full paths that it may mean.
        steps: Vec<String>,
    },
    /// The settings would make it another workflow.
    #[error("a backtest of `{expected}` cannot rename it to `{found}`")]
    OtherWorkflow {
        /// The workflow.
        expected: WorkflowId,
        /// Its id after the changes.
        found: WorkflowId,
    },
    /// The parser refuses the changed workflow.
    #[error("the changed workflow is not valid: {0}")]
    Invalid(#[from] ParseError),
}

/// One changed setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingChange {
    /// Its full path in the expanded workflow: `steps.annotate.completion.target`.
    pub path: String,
    /// The value before; null where the file says nothing.
    pub before: Value,
    /// The value now; null takes the setting out.
    pub after: Value,
}

/// A workflow with changed settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangedWorkflow {
    /// The workflow. It keeps the revision of the one that it comes from.
    pub config: WorkflowConfig,
    /// The settings, in the order in which they were applied.
    pub changes: Vec<SettingChange>,
}

/// Reads a setting `PATH=VALUE`, whose value is YAML.
///
/// # Errors
///
/// [`ChangeError::Unreadable`].
pub fn read_setting(text: &str) -> Result<(String, Value), ChangeError> {
    let unreadable = |reason: String| ChangeError::Unreadable {
        text: text.to_owned(),
        reason,
    };
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| unreadable("write PATH=VALUE, as completion.target=0.9".to_owned()))?;
    let value = parse_value(value).map_err(|reason| unreadable(format!("the value: {reason}")))?;
    Ok((path.trim().to_owned(), value))
}

/// Changes settings of a checked workflow, by their paths in the expanded workflow, and checks it
/// again by the rules of any workflow file.
///
/// Segments of a path are joined by dots. Steps and goals are named by their id, or by their index
/// as in `transitions[0]`. A path that begins with no key of the workflow is one of a step: of the
/// only one that has it, else the only one that may have it. A null takes a setting out.
///
/// # Errors
///
/// [`ChangeError`].
pub fn change_settings(
    config: &WorkflowConfig,
    settings: &[(String, Value)],
    library: &StepLibrary,
    handlers: &[&str],
) -> Result<ChangedWorkflow, ChangeError> {
    let mut document = Document::of(config, library, handlers);
    let mut applied = Vec::new();
    let mut open = Vec::new();
    for (path, value) in settings {
        match document.place(path)? {
            Some(place) => applied.push(document.set(&place, value)?),
            None => open.push((path, value)),
        }
    }
    // What no step says yet may depend on what has been set before.
    for (path, value) in open {
        let place = document.place_where_allowed(path, value)?;
        applied.push(document.set(&place, value)?);
    }
    let mut changed = document.check()?;
    if changed.id != config.id {
        return Err(ChangeError::OtherWorkflow {
            expected: config.id.clone(),
            found: changed.id,
        });
    }
    changed.revision = config.revision;
    changed.revision_id = config.revision_id;
    Ok(ChangedWorkflow {
        config: changed,
        changes: applied,
    })
}

/// A workflow in the shape of a file, fully expanded.
struct Document<'a> {
    workflow: Value,
    library: &'a StepLibrary,
    handlers: &'a [&'a str],
}

/// A part of a path.
#[derive(Clone, Debug, PartialEq)]
enum Segment {
    /// A key of an object, or the id of a list's element.
    Name(String),
    /// The index of a list's element.
    Index(usize),
}

/// Where a setting is.
struct Place {
    path: String,
    segments: Vec<Segment>,
}

impl Place {
    fn of(path: &str) -> Result<Self, ChangeError> {
        let bad = || ChangeError::NoPlace {
            path: path.to_owned(),
            reason: "a path is keys joined by dots, as steps.annotate.completion.target".to_owned(),
        };
        let mut segments = Vec::new();
        for part in path.split('.') {
            let mut parts = part.split('[');
            let name = parts.next().filter(|name| !name.is_empty());
            segments.push(Segment::Name(name.ok_or_else(bad)?.to_owned()));
            for index in parts {
                let index = index.strip_suffix(']').and_then(|text| text.parse().ok());
                segments.push(Segment::Index(index.ok_or_else(bad)?));
            }
        }
        Ok(Self {
            path: path.to_owned(),
            segments,
        })
    }
}

impl<'a> Document<'a> {
    fn of(config: &WorkflowConfig, library: &'a StepLibrary, handlers: &'a [&'a str]) -> Self {
        Self {
            // Plain data with string keys always serializes.
            workflow: serde_json::to_value(config).unwrap_or_default(),
            library,
            handlers,
        }
    }

    fn check(&self) -> Result<WorkflowConfig, ParseError> {
        let mut workflow = self.workflow.clone();
        let goals = workflow
            .as_object_mut()
            .and_then(|keys| keys.remove("goals"));
        let file = json!({"workflow": workflow, "goals": goals.unwrap_or_else(|| json!([]))});
        let file = serde_json::to_vec(&file).unwrap_or_default();
        let checked = check_workflow_bytes(&file, self.library, self.handlers).into_result();
        checked.map_err(|mut error| {
            error
                .diagnostics
                .retain(|fault| fault.severity == Severity::Error);
            for fault in &mut error.diagnostics {
                // Nobody has seen the text of this file; the path says where it is.
                (fault.line, fault.column) = (None, None);
            }
            error
        })
    }

    fn step_ids(&self) -> Vec<String> {
        let steps = self.workflow["steps"].as_array().into_iter().flatten();
        let ids = steps.filter_map(|step| step["id"].as_str());
        ids.map(str::to_owned).collect()
    }

    fn of_step(step: &str, path: &str) -> Result<Place, ChangeError> {
        Place::of(&format!("steps.{step}.{path}"))
    }

    /// The place of a path; none if it is one of a step that no step has yet.
    fn place(&self, path: &str) -> Result<Option<Place>, ChangeError> {
        let place = Place::of(path)?;
        let of_workflow = |name: &str| {
            let schema = schema_for!(WorkflowConfig);
            let keys = schema.get("properties").and_then(Value::as_object);
            keys.is_some_and(|keys| keys.contains_key(name))
        };
        if matches!(place.segments.first(), Some(Segment::Name(name)) if of_workflow(name)) {
            return Ok(Some(place));
        }
        let mut having = Vec::new();
        for step in self.step_ids() {
            let place = Self::of_step(&step, path)?;
            if get(&self.workflow, &place.segments).is_some() {
                having.push(place);
            }
        }
        only(path, having)
    }

    /// The place of a path in the only step where the parser allows the value.
    fn place_where_allowed(&self, path: &str, value: &Value) -> Result<Place, ChangeError> {
        let (mut allowed, mut refused) = (Vec::new(), None);
        for step in self.step_ids() {
            let place = Self::of_step(&step, path)?;
            let mut trial = Document {
                workflow: self.workflow.clone(),
                ..*self
            };
            if trial.set(&place, value).is_err() {
                continue;
            }
            match trial.check() {
                Ok(_) => allowed.push(place),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if let Some(place) = only(path, allowed)? {
            return Ok(place);
        }
        let known = self.paths();
        let suggester = Suggester::default();
        let near = suggester.nearest(path, known.iter().map(String::as_str));
        Err(match (near, refused) {
            (Some(near), _) => no_place(path, format!("no step has it; did you mean `{near}`?")),
            // Of one step, the parser says best what is wrong.
            (None, Some(error)) if self.step_ids().len() == 1 => ChangeError::Invalid(error),
            (None, _) => no_place(
                path,
                format!(
                    "neither the workflow nor one of its steps {} can have it; `glyph workflow show \
                     --expanded` lists every path",
                    self.step_ids().join(", ")
                ),
            ),
        })
    }

    /// Every path within a step.
    fn paths(&self) -> Vec<String> {
        fn walk(value: &Value, path: &str, found: &mut Vec<String>) {
            for (key, value) in value.as_object().into_iter().flatten() {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                walk(value, &path, found);
                found.push(path);
            }
        }
        let mut found = Vec::new();
        for step in self.workflow["steps"].as_array().into_iter().flatten() {
            walk(step, "", &mut found);
        }
        found.sort();
        found.dedup();
        found
    }

    fn set(&mut self, place: &Place, value: &Value) -> Result<SettingChange, ChangeError> {
        let refuse = |reason| no_place(&place.path, reason);
        let (last, way) = place
            .segments
            .split_last()
            .ok_or_else(|| refuse("the path is empty".to_owned()))?;
        let before = get(&self.workflow, &place.segments).cloned();
        let mut at = &mut self.workflow;
        for segment in way {
            at = enter(at, segment).map_err(refuse)?;
        }
        match (at, last) {
            (Value::Object(keys), Segment::Name(name)) => {
                if value.is_null() {
                    keys.remove(name);
                } else {
                    keys.insert(name.clone(), value.clone());
                }
            }
            (items @ Value::Array(_), segment) => {
                *enter(items, segment).map_err(refuse)? = value.clone();
            }
            (other, _) => return Err(refuse(format!("there is no key inside `{other}`"))),
        }
        Ok(SettingChange {
            path: place.path.clone(),
            before: before.unwrap_or_default(),
            after: value.clone(),
        })
    }
}

fn no_place(path: &str, reason: String) -> ChangeError {
    ChangeError::NoPlace {
        path: path.to_owned(),
        reason,
    }
}

/// The only one of some places; none if there is none.
fn only(path: &str, mut places: Vec<Place>) -> Result<Option<Place>, ChangeError> {
    if places.len() > 1 {
        return Err(ChangeError::Ambiguous {
            path: path.to_owned(),
            steps: places.into_iter().map(|place| place.path).collect(),
        });
    }
    Ok(places.pop())
}

fn get<'v>(value: &'v Value, segments: &[Segment]) -> Option<&'v Value> {
    segments
        .iter()
        .try_fold(value, |value, segment| match segment {
            Segment::Name(name) => match value.as_array() {
                Some(items) => items.iter().find(|item| item["id"] == **name),
                None => value.get(name),
            },
            Segment::Index(index) => value.get(index),
        })
}

/// The part of a value that a segment names; a key that is missing is added.
fn enter<'v>(value: &'v mut Value, segment: &Segment) -> Result<&'v mut Value, String> {
    match (value, segment) {
        (Value::Object(keys), Segment::Name(name)) => {
            let part = keys.entry(name.clone()).or_insert(Value::Null);
            if part.is_null() {
                *part = Value::Object(Map::new());
            }
            Ok(part)
        }
        (Value::Array(items), Segment::Name(id)) => {
            let known: Vec<&str> = items
                .iter()
                .filter_map(|item| item["id"].as_str())
                .collect();
            let missing = match known.as_slice() {
                [] => format!("`{id}` stands where a list is: name an element by its index"),
                known => match Suggester::default().nearest(id, known.iter().copied()) {
                    Some(near) => format!("there is no `{id}`; did you mean `{near}`?"),
                    None => format!("there is no `{id}`, only {}", known.join(", ")),
                },
            };
            let found = items.iter_mut().find(|item| item["id"] == **id);
            found.ok_or(missing)
        }
        (Value::Array(items), Segment::Index(index)) => {
            let count = items.len();
            items
                .get_mut(*index)
                .ok_or_else(|| format!("there is no element {index} of {count}, counted from 0"))
        }
        (other, _) => Err(format!("there is no key inside `{other}`")),
    }
}
