//! Every file in `examples/` is valid without warnings, and its scripts pass.
//!
//! `examples/scripts/NAME.yaml` and `NAME.WHAT.yaml` are scripts for `examples/NAME.yaml`; a script
//! names the files of the sub-workflows that it needs.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use glyph_workflow_engine::{
    config::{Script, StepLibrary, WorkflowConfig},
    parser::{ValidationError, check_script, check_workflow_bytes},
    simulation::{Trace, play},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[expect(clippy::disallowed_methods, reason = "examples are files")]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the YAML files of a folder, without their extension.
#[expect(clippy::disallowed_methods, reason = "examples are files")]
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".yaml").map(str::to_owned)
        })
        .collect()
}

fn workflow(path: &Path) -> WorkflowConfig {
    let report = check_workflow_bytes(&read(path), &StepLibrary::built_in(), &[]);
    assert_eq!(report.diagnostics, [], "{}", path.display());
    report.config.unwrap()
}

fn script(name: &str, workflow: &WorkflowConfig) -> Script {
    let path = folder().join("scripts").join(format!("{name}.yaml"));
    let (script, faults): (_, Vec<ValidationError>) = check_script(&read(&path), workflow);
    assert_eq!(faults, [], "{name}");
    script.unwrap()
}

fn played(name: &str) -> Trace {
    let example = name.split('.').next().unwrap_or_default();
    let main = workflow(&folder().join(format!("{example}.yaml")));
    let script = script(name, &main);
    let others = script.workflows.iter();
    let others = others.map(|file| workflow(&folder().join("scripts").join(file)));
    let workflows = std::iter::once(main).chain(others).collect();
    play(workflows, &script).unwrap()
}

#[test]
fn every_example_does_what_its_scripts_say() {
    let scripts = names(&folder().join("scripts"));
    for name in &scripts {
        let trace = played(name);
        let faults: Vec<String> = trace
            .steps
            .iter()
            .flat_map(|step| {
                let at = format!("move {}, {}", step.number, step.action);
                step.mismatches
                    .iter()
                    .map(move |fault| format!("{at}: {fault}"))
            })
            .chain(trace.mismatches.iter().cloned())
            .collect();
        assert!(faults.is_empty(), "{name}: {faults:#?}");
        assert_eq!(played(name), trace, "{name}: the same once more");
    }
    for name in names(&folder()) {
        assert_eq!(workflow(&folder().join(format!("{name}.yaml"))).id, *name);
        assert!(scripts.contains(&name), "{name} has no script");
    }
}

#[test]
fn a_script_expects_an_end() {
    for name in names(&folder().join("scripts")) {
        let example = name.split('.').next().unwrap_or_default();
        let main = workflow(&folder().join(format!("{example}.yaml")));
        let script = script(&name, &main);
        assert!(script.description.is_some(), "{name}");
        let end = script.expect.expect(&name);
        assert!(end.status.is_some() && end.output.is_some(), "{name}");
    }
}
