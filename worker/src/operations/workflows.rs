//! Workflows: create, list, look up.

use std::collections::BTreeSet;

use glyph_workflow_engine::{
    OrchestrationError, ValidationError, WorkflowConfig, WorkflowConfigStore, WorkflowOrchestrator,
    ids::{RevisionId, WorkflowId, WorkflowSelector},
    store::{StorageError, Store, WorkflowPause, WorkflowRow},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::projections::flow::Flow;

/// A stored revision with its content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowDocument {
    /// The revision's UUID.
    pub id: RevisionId,
    /// The workflow's id.
    pub workflow: WorkflowId,
    /// The revision's number.
    pub revision: u32,
    /// The configuration, with templates and library steps resolved.
    pub config: WorkflowConfig,
    /// Warnings: parts of the workflow that are probably mistakes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warnings: Option<Vec<ValidationError>>,
    /// The pause of all tasks of the workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<WorkflowPause>,
}

impl From<WorkflowConfig> for WorkflowDocument {
    fn from(config: WorkflowConfig) -> Self {
        Self {
            id: config.revision_id,
            workflow: config.id.clone(),
            revision: config.revision,
            config,
            warnings: None,
            paused: None,
        }
    }
}

impl WorkflowDocument {
    /// A stored revision with the current pause of its workflow.
    pub async fn with_pause(
        config: WorkflowConfig,
        store: &dyn Store,
    ) -> Result<Self, StorageError> {
        let active = store.workflow_pauses().await?.active;
        let paused = active.into_iter().find(|p| p.workflow == config.id);
        Ok(Self {
            paused,
            ..config.into()
        })
    }

    /// The same, as it was before it was sent: a configuration does not say which revision it is.
    #[must_use]
    pub fn with_revision(mut self) -> Self {
        self.config.revision_id = self.id;
        self.config.revision = self.revision;
        self
    }

    /// Validates a file and stores it as a new revision, unless its content equals the newest, and
    /// keeps who did it. Returns whether it is new.
    pub async fn create(
        source: &[u8],
        actor: Option<&str>,
        orchestrator: &WorkflowOrchestrator,
    ) -> Result<(Self, bool), OrchestrationError> {
        let created = orchestrator.create_workflow_from(source, actor).await?;
        let document = Self {
            warnings: Some(created.warnings),
            ..created.config.into()
        };
        Ok((document, created.is_new))
    }
}

/// The revision that `text` names now, if there is one.
pub async fn resolve_one(
    store: &dyn Store,
    text: &str,
) -> Result<Option<WorkflowConfig>, StorageError> {
    let Ok(selector) = text.parse::<WorkflowSelector>() else {
        return Ok(None);
    };
    let found = store.resolve(std::slice::from_ref(&selector)).await?;
    match found.get(&selector) {
        Some(id) => WorkflowConfigStore::load(store, id.0).await,
        None => Ok(None),
    }
}

/// A configuration as JSON in the shape of a file, in which goals stand beside the workflow.
pub fn file_of(config: &WorkflowConfig) -> Value {
    // Plain data with string keys always serializes.
    let mut workflow = serde_json::to_value(config).unwrap_or_default();
    let keys = workflow.as_object_mut();
    let goals = keys.and_then(|keys| keys.remove("goals"));
    let mut file = Map::from_iter([("workflow".to_owned(), workflow)]);
    file.extend(goals.map(|goals| ("goals".to_owned(), goals)));
    file.into()
}

/// How two revisions differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowDiff {
    /// The one, as `id@revision`; the id alone if it is not stored.
    pub from: String,
    /// The other.
    pub to: String,
    /// What differs, by path.
    pub changes: Vec<Change>,
}

/// A value that differs. It is absent on the side that does not have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The path, as `workflow.steps[annotate].completion.count`: items with an id are named by it, and
    /// transitions by the steps that they join.
    pub path: String,
    /// The value before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The value after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

impl WorkflowDiff {
    /// How `to` differs from `from`. `hide` takes out of a file what the caller may not see, and leaves
    /// its shape: that a secret differs is told, and not what it is.
    pub fn of(from: &WorkflowConfig, to: &WorkflowConfig, hide: impl Fn(&mut Value)) -> Self {
        let name = |config: &WorkflowConfig| match config.revision {
            0 => config.id.to_string(),
            revision => format!("{}@{revision}", config.id),
        };
        let shown = |file: &Value| {
            let mut shown = file.clone();
            hide(&mut shown);
            shown
        };
        let (old, new) = (file_of(from), file_of(to));
        let (old_shown, new_shown) = (shown(&old), shown(&new));
        let old = Part {
            value: &old,
            shown: &old_shown,
        };
        let new = Part {
            value: &new,
            shown: &new_shown,
        };
        let mut changes = Vec::new();
        compare(String::new(), Some(old), Some(new), &mut changes);
        Self {
            from: name(from),
            to: name(to),
            changes,
        }
    }
}

/// A part of a file, and what is shown of it.
#[derive(Clone, Copy)]
struct Part<'a> {
    value: &'a Value,
    shown: &'a Value,
}

impl Part<'_> {
    fn key(self, key: &str) -> Option<Self> {
        let (value, shown) = (self.value.get(key)?, self.shown.get(key)?);
        Some(Self { value, shown })
    }

    fn item(self, name: &str) -> Option<Self> {
        let items = self.value.as_array()?;
        let at = items
            .iter()
            .position(|item| name_of(item).as_deref() == Some(name))?;
        let (value, shown) = (items.get(at)?, self.shown.get(at)?);
        Some(Self { value, shown })
    }

    /// The names of its items, if each has one of its own.
    fn names(self) -> Option<Vec<String>> {
        let items = self.value.as_array()?;
        let names: Vec<String> = items.iter().map(name_of).collect::<Option<_>>()?;
        let distinct: BTreeSet<&String> = names.iter().collect();
        (distinct.len() == names.len()).then_some(names)
    }
}

fn compare(path: String, old: Option<Part<'_>>, new: Option<Part<'_>>, changes: &mut Vec<Change>) {
    if old.map(|part| part.value) == new.map(|part| part.value) {
        return;
    }
    if let (Some(old), Some(new)) = (old, new) {
        if let (Value::Object(before), Value::Object(after)) = (old.value, new.value) {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                let below = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                compare(below, old.key(key), new.key(key), changes);
            }
            return;
        }
        if let (Some(before), Some(after)) = (old.names(), new.names()) {
            let mut seen = BTreeSet::new();
            for name in before
                .iter()
                .chain(&after)
                .filter(|name| seen.insert(*name))
            {
                compare(
                    format!("{path}[{name}]"),
                    old.item(name),
                    new.item(name),
                    changes,
                );
            }
            // The order decides between transitions of one priority, and where a task begins.
            let both = |names: &[String], others: &[String]| -> Vec<String> {
                names
                    .iter()
                    .filter(|name| others.contains(name))
                    .cloned()
                    .collect()
            };
            let (before, after) = (both(&before, &after), both(&after, &before));
            if before != after {
                changes.push(Change {
                    path: format!("{path}[]"),
                    from: Some(before.into()),
                    to: Some(after.into()),
                });
            }
            return;
        }
    }
    changes.push(Change {
        path,
        from: old.map(|part| part.shown.clone()),
        to: new.map(|part| part.shown.clone()),
    });
}

/// What an item is known by: its id, or the steps that it joins.
fn name_of(item: &Value) -> Option<String> {
    let text = |key: &str| item.get(key).and_then(Value::as_str);
    let joins = || Some(format!("{} to {}", text("from")?, text("to")?));
    text("id").map(str::to_owned).or_else(joins)
}

/// Stored revisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowList {
    /// By id, newest first.
    pub workflows: Vec<ListedWorkflow>,
}

/// How many tasks of a workflow went which way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlowDocument {
    /// The workflow.
    pub workflow: WorkflowId,
    /// The ways, by the step left and what was entered.
    pub flow: Vec<Flow>,
}

/// A revision with the pause of its workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListedWorkflow {
    #[serde(flatten)]
    row: WorkflowRow,
    /// The pause of all tasks of the workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<WorkflowPause>,
}

impl ListedWorkflow {
    /// All revisions, or those of one workflow: by id, newest first. Archived workflows are left
    /// out, unless they are requested or the workflow is named.
    pub async fn list(
        store: &dyn Store,
        workflow: Option<&WorkflowId>,
        archived: bool,
    ) -> Result<Vec<Self>, StorageError> {
        let rows = store.revisions(workflow).await?;
        let active = store.workflow_pauses().await?.active;
        let listed = rows.into_iter().map(|row| Self {
            paused: active.iter().find(|p| p.workflow == row.workflow).cloned(),
            row,
        });
        let is_archived = |one: &Self| one.paused.as_ref().is_some_and(|pause| pause.archived);
        let shown = |one: &Self| archived || workflow.is_some() || !is_archived(one);
        Ok(listed.filter(shown).collect())
    }

    /// The revision.
    pub fn row(&self) -> &WorkflowRow {
        &self.row
    }

    /// The pause of its workflow.
    pub fn paused(&self) -> Option<&WorkflowPause> {
        self.paused.as_ref()
    }
}
