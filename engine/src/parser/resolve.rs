//! Expands templates, library steps and defaults, so that the file refers to nothing outside.

use std::collections::BTreeMap;

use super::{
    fault::{Faults, Spot},
    path::Path,
    report::DiagnosticCode as Code,
    source_map::Refused,
    suggest::Suggester,
    tree::{Content, Node},
};
use crate::{
    config::{StepLibrary, Template},
    limits::WORKFLOW_NODES_MAX,
};

/// Keys allowed beside `ref`.
const BESIDE_REF: [&str; 5] = ["id", "name", "description", "ref", "overrides"];
/// Keys that `template` defines, so that they are not allowed beside it.
const FROM_TEMPLATE: [&str; 2] = ["steps", "transitions"];

/// Resolves everything in `root` in place.
pub(super) fn resolve(
    root: &mut Node,
    library: &StepLibrary,
    suggester: &Suggester,
    faults: &mut Faults,
) -> Result<(), Refused> {
    let own_steps = root.map_mut().and_then(|root| root.get_mut("step_library"));
    for step in own_steps
        .and_then(Node::map_mut)
        .into_iter()
        .flat_map(BTreeMap::values_mut)
    {
        flatten(step, library, faults);
        spell_out_hooks(step);
    }
    let own_library = root.get("step_library").cloned();
    let Some(body) = root.map_mut().and_then(|root| root.get_mut("workflow")) else {
        return Ok(());
    };
    let weight = body.weight();
    let mut resolver = Resolver {
        library,
        own: own_library.as_ref().and_then(Node::map),
        suggester,
        faults,
        weight,
    };
    if body.map().is_none() {
        return Ok(());
    }
    resolver.template(body)?;
    if let Some(Content::List(steps)) = body
        .map_mut()
        .and_then(|body| body.get_mut("steps"))
        .map(|steps| &mut steps.content)
    {
        for step in steps {
            resolver.step(step)?;
            spell_out_hooks(step);
        }
    }
    default_entry(body);
    Ok(())
}

/// Refuses a library step that builds on another one. It is read as what it would be, as far as it
/// builds on a built-in step, so that nothing else is reported for it.
fn flatten(step: &mut Node, library: &StepLibrary, faults: &mut Faults) {
    let Some(keys) = step.map_mut() else { return };
    let Some(reference) = keys.remove("ref") else {
        return;
    };
    let name = reference.as_str().unwrap_or_default();
    faults
        .add(
            Code::UnknownKey,
            &reference.origin,
            "library steps cannot build on each other",
        )
        .at(Spot::Key)
        .value_of(&reference)
        .suggest(format!("write the keys of `{name}` out here"));
    let overrides = keys.remove("overrides");
    let own = std::mem::replace(&mut step.content, Content::Map(BTreeMap::new()));
    let origin = step.origin.clone();
    if let Some(base) = library.get(name) {
        *step = Node::taken(base, &reference.origin);
    }
    step.partial = true;
    for node in overrides.into_iter().filter(|node| node.map().is_some()) {
        step.merge(node);
    }
    step.merge(Node::new(origin, own));
}

/// Turns a hook written as the name of its handler into a mapping.
fn spell_out_hooks(step: &mut Node) {
    let hooks = step.map_mut().and_then(|step| step.get_mut("hooks"));
    let stages = hooks.and_then(Node::map_mut);
    for stage in stages.into_iter().flat_map(BTreeMap::values_mut) {
        let Content::List(hooks) = &mut stage.content else {
            continue;
        };
        for hook in hooks.iter_mut().filter(|hook| hook.as_str().is_some()) {
            let entries = [("handler".to_owned(), hook.clone())].into();
            *hook = Node::new(hook.origin.clone(), Content::Map(entries));
        }
    }
}

struct Resolver<'a> {
    library: &'a StepLibrary,
    /// The file's own `step_library`.
    own: Option<&'a BTreeMap<String, Node>>,
    suggester: &'a Suggester,
    faults: &'a mut Faults,
    /// Weight of the workflow so far; grows with every part taken from a template or library.
    weight: usize,
}

impl Resolver<'_> {
    /// Replaces `template` and `overrides` of the workflow by their expansion.
    fn template(&mut self, body: &mut Node) -> Result<(), Refused> {
        let origin = body.origin.clone();
        let Some(keys) = body.map_mut() else {
            return Ok(());
        };
        let overrides = keys.remove("overrides");
        let Some(template) = keys.remove("template") else {
            if let Some(overrides) = overrides {
                self.faults
                    .add(
                        Code::MissingKey,
                        &origin,
                        "`overrides` stands here without `template`",
                    )
                    .suggest(format!("add `template`: one of {}", template_names()))
                    .value_of(&overrides);
            }
            return Ok(());
        };
        for key in FROM_TEMPLATE {
            if keys.remove(key).is_some() {
                let message = format!("`{key}` stands beside `template`, which brings its own");
                let suggestion = format!("move `{key}` under `overrides`, or drop `template`");
                self.faults
                    .add(Code::ConflictingKeys, &origin, message)
                    .suggest(suggestion);
            }
        }
        let Some(found) = self.find_template(&template) else {
            body.partial = true;
            return Ok(());
        };
        let mut expanded = Node::taken(&found.expand(), &template.origin);
        self.resolve_taken_steps(&mut expanded)?;
        let own = std::mem::take(keys);
        expanded.merge(Node::new(origin, Content::Map(own)));
        if let Some(overrides) = overrides {
            self.overrides(&mut expanded, overrides)?;
        }
        *body = expanded;
        Ok(())
    }

    fn find_template(&mut self, node: &Node) -> Option<Template> {
        let Some(name) = node.as_str() else {
            let message = format!("`template` must be a text, but is {}", node.what());
            self.faults
                .add(Code::WrongType, &node.origin, message)
                .value_of(node);
            return None;
        };
        let by_name = |name: &str| {
            Template::ALL
                .into_iter()
                .find(|known| known.as_str() == name)
        };
        by_name(name).or_else(|| {
            let near = self
                .suggester
                .nearest(name, Template::ALL.map(Template::as_str));
            self.faults
                .add(
                    Code::UnknownTemplate,
                    &node.origin,
                    format!("there is no template `{name}`"),
                )
                .value(name)
                .suggest(format!("known are {}", template_names()))
                .did_you_mean(near);
            near.and_then(by_name)
        })
    }

    fn resolve_taken_steps(&mut self, body: &mut Node) -> Result<(), Refused> {
        let steps = body.map_mut().and_then(|body| body.get_mut("steps"));
        if let Some(Content::List(steps)) = steps.map(|steps| &mut steps.content) {
            for step in steps {
                self.step(step)?;
            }
        }
        Ok(())
    }

    /// Merges `overrides` into an expanded template.
    fn overrides(&mut self, body: &mut Node, mut overrides: Node) -> Result<(), Refused> {
        let Some(keys) = overrides.map_mut() else {
            self.not_a_mapping(&overrides);
            return Ok(());
        };
        for key in ["id", "template", "overrides"] {
            if let Some(node) = keys.remove(key) {
                let message = format!("`{key}` cannot be overridden");
                self.faults
                    .add(Code::MisplacedKey, &node.origin, message)
                    .at(Spot::Key)
                    .value_of(&node);
            }
        }
        let steps = keys.remove("steps");
        body.merge(overrides);
        let Some(mut patches) = steps else {
            return Ok(());
        };
        let Some(patches) = patches.map_mut().map(std::mem::take) else {
            self.not_a_mapping(&patches);
            return Ok(());
        };
        for (id, patch) in patches {
            self.patch_step(body, &id, patch)?;
        }
        Ok(())
    }

    fn patch_step(&mut self, body: &mut Node, id: &str, mut patch: Node) -> Result<(), Refused> {
        let steps = body.map_mut().and_then(|body| body.get_mut("steps"));
        let Some(Content::List(steps)) = steps.map(|steps| &mut steps.content) else {
            return Ok(());
        };
        let ids: Vec<String> = steps
            .iter()
            .filter_map(|s| s.get("id")?.as_str().map(str::to_owned))
            .collect();
        let mut at = ids.iter().position(|known| known == id);
        if at.is_none() {
            let near = self.suggester.nearest(id, ids.iter().map(String::as_str));
            self.faults
                .add(
                    Code::UnknownStep,
                    &patch.origin,
                    format!("the template has no step `{id}`"),
                )
                .at(Spot::Key)
                .value(id)
                .suggest(format!("its steps are {}", quoted(&ids)))
                .did_you_mean(near);
            at = ids.iter().position(|known| Some(known.as_str()) == near);
        }
        let Some(step) = at.and_then(|at| steps.get_mut(at)) else {
            return Ok(());
        };
        let origin = patch.origin.clone();
        let Some(keys) = patch.map_mut() else {
            self.not_a_mapping(&patch);
            return Ok(());
        };
        if let Some(node) = keys.remove("id") {
            self.faults
                .add(
                    Code::MisplacedKey,
                    &node.origin,
                    "the id of a template's step cannot be overridden",
                )
                .at(Spot::Key)
                .value_of(&node);
        }
        if let Some(reference) = keys.remove("ref") {
            // The override replaces the step by a library step; everything but the id comes from
            // there.
            let mut taken = BTreeMap::from([("ref".to_owned(), reference)]);
            taken.extend(
                keys.remove("overrides")
                    .map(|node| ("overrides".to_owned(), node)),
            );
            taken.extend(step.get("id").map(|id| ("id".to_owned(), id.clone())));
            let mut other = Node::new(origin, Content::Map(taken));
            self.step(&mut other)?;
            *step = other;
        }
        step.merge(patch);
        Ok(())
    }

    /// Replaces `ref` and `overrides` of a step by their expansion.
    fn step(&mut self, step: &mut Node) -> Result<(), Refused> {
        let origin = step.origin.clone();
        let Some(keys) = step.map_mut() else {
            return Ok(());
        };
        let overrides = keys.remove("overrides");
        let Some(reference) = keys.remove("ref") else {
            if overrides.is_some() {
                self.faults
                    .add(
                        Code::MissingKey,
                        &origin,
                        "`overrides` stands here without `ref`",
                    )
                    .suggest(
                        "name a step of the library with `ref`, or write the keys into the step",
                    );
            }
            return Ok(());
        };
        let beside: Vec<String> = keys
            .keys()
            .filter(|key| !BESIDE_REF.contains(&key.as_str()))
            .cloned()
            .collect();
        if !beside.is_empty() {
            let message = format!("{} cannot stand beside `ref`", quoted(&beside));
            self.faults
                .add(Code::ConflictingKeys, &origin, message)
                .suggest("move what differs from the library's step under `overrides`");
        }
        let own = std::mem::take(keys);
        let mut resolved = self.find_library_step(&reference)?.unwrap_or_else(|| Node {
            partial: true,
            ..Node::new(origin.clone(), Content::Map(BTreeMap::new()))
        });
        if let Some(keys) = resolved.map_mut() {
            keys.remove("id");
        }
        if let Some(overrides) = overrides {
            if overrides.map().is_some() {
                resolved.merge(overrides);
            } else {
                self.not_a_mapping(&overrides);
            }
        }
        resolved.merge(Node::new(origin, Content::Map(own)));
        *step = resolved;
        Ok(())
    }

    fn find_library_step(&mut self, reference: &Node) -> Result<Option<Node>, Refused> {
        let Some(name) = reference.as_str() else {
            let message = format!("`ref` must be a text, but is {}", reference.what());
            self.faults
                .add(Code::WrongType, &reference.origin, message)
                .value_of(reference);
            return Ok(None);
        };
        let mut found = self.library_step(name, &reference.origin);
        if found.is_none() {
            let own = self
                .own
                .into_iter()
                .flat_map(BTreeMap::keys)
                .map(String::as_str);
            let near = self
                .suggester
                .nearest(name, own.chain(self.library.names()));
            let message = format!("the step library has no step `{name}`");
            self.faults
                .add(Code::UnknownLibraryStep, &reference.origin, message)
                .value(name)
                .did_you_mean(near);
            found = near.and_then(|near| self.library_step(near, &reference.origin));
        }
        if let Some(step) = &found {
            self.weight += step.weight();
            if self.weight > WORKFLOW_NODES_MAX {
                let message = format!(
                    "the workflow has more than {WORKFLOW_NODES_MAX} parts, counting library steps \
                     wherever they are taken"
                );
                self.faults.add(Code::TooLarge, &reference.origin, message);
                return Err(Refused);
            }
        }
        Ok(found)
    }

    /// A step of the file's own library keeps its own location.
    fn library_step(&self, name: &str, reference: &Path) -> Option<Node> {
        match self.own.and_then(|own| own.get(name)) {
            Some(own) if own.map().is_some() => Some(own.clone()),
            Some(_) => None,
            None => self
                .library
                .get(name)
                .map(|step| Node::taken(step, reference)),
        }
    }

    fn not_a_mapping(&mut self, node: &Node) {
        // An empty `overrides:` counts as left out.
        if !node.is_null() {
            let message = format!("expected a mapping, found {}", node.what());
            self.faults
                .add(Code::WrongType, &node.origin, message)
                .value_of(node);
        }
    }
}

/// Sets `entry_step` to the first step when left out.
fn default_entry(body: &mut Node) {
    let Some(keys) = body.map_mut() else { return };
    if keys.get("entry_step").is_some_and(|node| !node.is_null()) {
        return;
    }
    let first = keys
        .get("steps")
        .and_then(Node::list)
        .and_then(<[Node]>::first);
    if let Some(id) = first
        .and_then(|step| step.get("id"))
        .filter(|id| id.as_str().is_some())
    {
        let id = Node::text(id.origin.clone(), id.as_str().unwrap_or_default());
        keys.insert("entry_step".to_owned(), id);
    }
}

fn template_names() -> String {
    quoted(&Template::ALL.map(Template::as_str))
}

/// The names in backticks, separated by commas; long lists are cut.
pub(super) fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    let mut shown: Vec<String> = names
        .iter()
        .take(12)
        .map(|name| format!("`{}`", name.as_ref()))
        .collect();
    if names.len() > shown.len() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resolved(file: Value) -> (Value, Vec<String>) {
        let mut faults = Faults::default();
        let mut root = Node::written(file, Path::root());
        let library = StepLibrary::built_in();
        let _ = resolve(&mut root, &library, &Suggester::default(), &mut faults);
        let codes = faults
            .into_vec()
            .iter()
            .map(|f| format!("{} {}", f.code, f.path))
            .collect();
        (root.get("workflow").unwrap().to_value(), codes)
    }

    #[test]
    fn a_step_keeps_its_id_and_takes_the_rest_from_the_library() {
        let (workflow, faults) = resolved(json!({
            "workflow": {"id": "x", "steps": [
                {"id": "a", "name": "A", "ref": "dual-annotation", "overrides": {"completion": {"count": 3}}},
                {"id": "b", "ref": "own"},
            ]},
            "step_library": {"own": {"id": "other", "type": "review"}}
        }));
        assert_eq!(faults, [""; 0]);
        let steps = &workflow["steps"];
        assert_eq!(steps[0]["id"], "a");
        assert_eq!(steps[0]["name"], "A");
        assert_eq!(
            steps[0]["completion"],
            json!({"type": "annotation_count", "count": 3, "unique_annotators": true})
        );
        assert_eq!(steps[1], json!({"id": "b", "type": "review"}));
        assert_eq!(workflow["entry_step"], "a");
    }

    #[test]
    fn overrides_of_a_template_merge_deeply_and_replace_lists() {
        let (workflow, faults) = resolved(json!({"workflow": {
            "id": "x",
            "template": "multi_adjudication",
            "overrides": {
                "entry_step": "adjudicate",
                "steps": {
                    "annotate": {"consensus": {"field": "label"}, "completion": {"count": 3}},
                    "adjudicate": {"ref": "review", "overrides": {"field": "label"}}
                },
                "transitions": [{"from": "annotate", "to": "adjudicate"}]
            }
        }}));
        assert_eq!(faults, [""; 0]);
        assert_eq!(workflow["id"], "x");
        assert_eq!(workflow["entry_step"], "adjudicate");
        assert_eq!(workflow["steps"][0]["consensus"]["field"], "label");
        assert_eq!(workflow["steps"][0]["consensus"]["threshold"], 1.0);
        assert_eq!(workflow["steps"][0]["completion"]["count"], 3);
        assert_eq!(workflow["steps"][1]["id"], "adjudicate");
        assert_eq!(workflow["steps"][1]["type"], "review");
        assert_eq!(workflow["steps"][1]["field"], "label");
        assert_eq!(workflow["transitions"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_taken_is_reported_where_it_stands() {
        let (_, faults) = resolved(json!({"workflow": {
            "id": "x",
            "template": "single",
            "steps": [],
            "overrides": {"id": "y", "steps": {"annotate": {"id": "z"}, "nobody": {}}}
        }}));
        assert_eq!(
            faults,
            [
                "conflicting_keys workflow",
                "misplaced_key workflow.overrides.id",
                "misplaced_key workflow.overrides.steps.annotate.id",
                "unknown_step workflow.overrides.steps.nobody",
            ]
        );
        let (_, faults) = resolved(json!({"workflow": {
            "overrides": {},
            "steps": [{"id": "a", "ref": "review", "type": "review"}, {"overrides": {}}, {"ref": 5}]
        }}));
        assert_eq!(
            faults,
            [
                "missing_key workflow",
                "conflicting_keys workflow.steps[0]",
                "missing_key workflow.steps[1]",
                "wrong_type workflow.steps[2].ref",
            ]
        );
    }
}
