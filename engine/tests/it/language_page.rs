//! Checks the pages that teach the language: their examples are valid, and behave as described.
//!
//! A `yaml` block is a whole file, valid without warnings; a `yaml script` block that follows it is
//! run on it. A `yaml child` block between them is the file of a sub-workflow, and `yaml revision` a
//! file to which the script migrates. A `yaml step` block contains keys of an annotation step.

use glyph_workflow_engine::{
    WorkflowConfig,
    config::StepLibrary,
    parser::{check_script, check_workflow},
    simulation::play_with,
};

const LANGUAGE: &str = include_str!("../../../docs/language.md");
pub(crate) const ANSWERS: &str = include_str!("../../../docs/answers.md");

/// The fenced blocks: the info string of the fence, and the text.
fn blocks(page: &'static str) -> Vec<(&'static str, &'static str)> {
    let parts: Vec<&str> = page.split("\n```").collect();
    // Text and blocks alternate; an opening fence names the kind of its block.
    parts
        .iter()
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'))
        .collect()
}

fn workflow(source: &str) -> WorkflowConfig {
    let report = check_workflow(source, &StepLibrary::built_in(), &[]);
    assert_eq!(report.diagnostics, [], "{source}");
    report.config.unwrap()
}

#[test]
fn what_the_pages_show_is_valid_and_happens() {
    assert!(played(LANGUAGE) >= 8);
    assert!(played(ANSWERS) >= 2);
}

/// How many scripts of a page have been played.
fn played(page: &'static str) -> usize {
    // The last workflow, with the children shown after it, and whether a script has played it.
    let mut shown: Option<(WorkflowConfig, bool)> = None;
    let mut children = Vec::new();
    let mut revisions = Vec::new();
    let mut played = 0;
    for (kind, text) in blocks(page) {
        match kind {
            "yaml" => {
                if let Some((workflow, played)) = &shown {
                    assert!(played, "{:?} is not played", workflow.id);
                }
                children.clear();
                shown = Some((workflow(text), false));
            }
            "yaml child" => children.push(workflow(text)),
            "yaml revision" => revisions.push(workflow(text)),
            "yaml script" => {
                let (workflow, is_played) = shown.as_mut().expect("a script follows a workflow");
                let (script, faults) = check_script(text.as_bytes(), workflow);
                assert_eq!(faults, [], "{text}");
                *is_played = true;
                let script = script.unwrap();
                let workflows = std::iter::once(workflow.clone()).chain(children.iter().cloned());
                let files = script.revisions().into_iter().map(str::to_owned);
                let revisions = files.zip(revisions.drain(..));
                let trace = play_with(workflows.collect(), revisions.collect(), &script).unwrap();
                assert!(trace.as_expected(), "{text}\n{trace:#?}");
                played += 1;
            }
            "yaml step" => {
                let keys = text.replace('\n', "\n      ");
                workflow(&format!(
                    "workflow:\n  id: x\n  steps:\n    - id: a\n      type: annotation\n      completion: {{ type: \
                     annotation_count, count: 2 }}\n      {keys}\n  transitions:\n    - {{ from: a, to: _complete }}\n"
                ));
            }
            "console" => {}
            other => panic!("a block of `{other}`"),
        }
    }
    assert!(
        shown.is_none_or(|(_, played)| played),
        "the last workflow is not played"
    );
    played
}
