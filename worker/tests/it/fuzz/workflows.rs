//! Workflow files.

use glyph_worker::operations::workflows::file_of;
use glyph_workflow_engine::{
    StepLibrary,
    config::WorkflowConfig,
    limits::WORKFLOW_BYTES_MAX,
    parser::{ValidationError, check_workflow_bytes, content_hash, yaml_of},
};

use super::{Target, check_text, files};

pub(super) fn target() -> Target {
    let mut samples = files("examples", ".yaml");
    samples.extend(files("engine/tests/fixtures/diagnostics", ".yaml"));
    let hostile = glyph_hostile_files::files().into_iter();
    samples.extend(
        hostile
            .map(|(_, file)| file)
            .filter(|file| file.len() < 2_000),
    );
    Target {
        name: "workflows",
        samples,
        words: &[
            "workflow:",
            "steps:",
            "transitions:",
            "goals:",
            "- ",
            "  ",
            "\n",
            "{",
            "}",
            "[",
            "]",
            ": ",
            "&a ",
            "*a",
            "!!binary ",
            "<<: ",
            "'",
            "\"",
            "#",
            "|\n",
            "\t",
            "\u{feff}",
            "null",
            "~",
            "-1",
            "1e99",
            ".inf",
            "annotation",
            "adjudication",
            "conditional",
            "auto_process",
            "sub_workflow",
            "_complete",
            "_fail",
            "type:",
            "id:",
            "completion:",
            "consensus:",
            "condition:",
            "expression",
            "loop:",
            "max_iterations:",
            "count: 18446744073709551615",
            "timeout: 1h",
            "timeout: -1d",
            "\u{202e}",
            "agreement >= 0.5",
        ],
        check,
    }
}

fn check(input: &[u8]) -> String {
    let library = StepLibrary::built_in();
    let report = check_workflow_bytes(input, &library, &[]);
    for fault in &report.diagnostics {
        check_fault(input, fault);
    }
    let Some(config) = &report.config else {
        let faults = report.diagnostics.iter().map(|fault| fault.code.as_str());
        let faults: std::collections::BTreeSet<_> = faults.collect();
        assert!(!faults.is_empty(), "a file is refused without a reason");
        return format!("{faults:?}");
    };
    let stored = serde_json::to_string(config).unwrap();
    let read: WorkflowConfig = serde_json::from_str(&stored).unwrap();
    assert_eq!(read, *config);
    let shown = yaml_of(&file_of(config));
    if shown.len() <= WORKFLOW_BYTES_MAX {
        let again = check_workflow_bytes(shown.as_bytes(), &library, &[]);
        let Some(again) = again.config else {
            panic!("what is shown is refused: {:?}\n{shown}", again.diagnostics);
        };
        assert_eq!(content_hash(&again), content_hash(config), "{shown}");
    }
    format!(
        "{} steps, {} warnings",
        config.steps.len(),
        report.diagnostics.len()
    )
}

/// A code, a place in the file, and a text; where it ends.
fn check_fault(input: &[u8], fault: &ValidationError) {
    assert!(!fault.code.as_str().is_empty());
    check_text(&fault.message);
    fault.suggestion.as_deref().into_iter().for_each(check_text);
    assert!(fault.offset + fault.length <= input.len(), "{fault:?}");
    let lines = 1 + input
        .iter()
        .filter(|byte| matches!(byte, b'\n' | b'\r'))
        .count();
    match (fault.line, fault.column) {
        (Some(line), Some(column)) => {
            assert!((1..=lines).contains(&line), "{fault:?} of {lines} lines");
            assert!((1..=input.len() + 1).contains(&column), "{fault:?}");
        }
        (None, None) => assert!(input.is_empty(), "no place: {fault:?}"),
        (Some(_), None) | (None, Some(_)) => panic!("half a place: {fault:?}"),
    }
}
