//! `glyph workflow dry-run`: simulates a workflow with a script and prints a trace; needs no
//! service.

use std::{fmt::Write as _, path::Path};

use glyph_workflow_engine::{
    config::Script,
    parser::check_script,
    simulation::{Trace, TraceStep, play},
};

use super::{
    CliError, Output,
    diagnostics::{errors_of, read, render, workflow_of},
};

/// The script format, for `--help`.
pub(super) const HELP: &str = "\
A script is YAML: what happens to one task, move by move, and what is expected of it.

  description: Two differ, a third decides
  input: { text: Nice weather }            # what is to be labelled; also labels, expected, clock
  people: { ann: {}, bob: {}, cleo: { roles: [adjudicator] } }         # or leave it out
  moves:                                   # each has one of submit, assign, release, activity,
    - submit: { step: annotate, by: ann, data: { label: positive } }     # advance, pause, resume,
    - assign: { step: annotate, by: bob }                                # cancel, retry, pass
    - pass: 30m                            # time passes; what falls due happens
    - submit: { by: bob, data: { label: negative } }
      active: [adjudicate]                 # where the task must stand now
    - submit: { by: ann, data: { label: positive } }
      expect: role_required                # waiting | advanced | completed | failed | rejected | CODE
    - submit: { by: cleo, data: { label: positive } }
  expect: { status: completed, output: { result: positive } }

`handlers: { STEP: [{ error: timeout }, { output: {} }] }` says what handlers outside answer, call by
call; `workflows: [FILE]` names the files of sub-workflows, and a move with `within: STEP` is about the
child task of that step. Time and ids are made up, always alike: the same files give the same trace.
The JSON Schema is schemas/script.v1.json.

Exit codes: 0 all as expected, 1 something else happened, 3 a file is not valid.";

/// Plays the script of one file on the workflow of another.
pub(super) fn run(file: &Path, script: &Path, output: Output) -> Result<(), CliError> {
    let workflow = workflow_of(file, output)?;
    let (name, source) = read(script)?;
    let (parsed, faults) = check_script(&source, &workflow);
    if !output.is_json() {
        output.diagnostics(&render(&name, &source, &faults));
    }
    let Some(parsed) = parsed else {
        if output.is_json() {
            output.result(
                &serde_json::json!({"valid": false, "diagnostics": faults}),
                String::new,
            );
        }
        return Err(errors_of(&name, &faults, output));
    };
    let mut workflows = vec![workflow];
    for other in &parsed.workflows {
        let beside = script.parent().unwrap_or(Path::new("."));
        workflows.push(workflow_of(&beside.join(other), output)?);
    }
    let trace = play(workflows, &parsed)
        .map_err(|error| CliError::failed("expression", error.to_string()))?;
    output.result(&trace, || text_of(&trace, &parsed));
    if trace.as_expected() {
        Ok(())
    } else {
        Err(CliError::Shown)
    }
}

fn text_of(trace: &Trace, script: &Script) -> String {
    let mut text = String::new();
    if let Some(description) = &script.description {
        let _ = writeln!(text, "{description}\n");
    }
    let width = trace
        .steps
        .iter()
        .map(|step| step.action.chars().count())
        .max();
    for step in &trace.steps {
        step_text(&mut text, step, width.unwrap_or(0));
    }
    let status = trace.status.map_or("not started", |status| status.as_str());
    let _ = write!(text, "\nthe task is {status}");
    if let Some(error) = &trace.error {
        let _ = write!(text, ": {error}");
    }
    let _ = writeln!(text);
    for incident in &trace.incidents {
        let _ = writeln!(text, "incident {incident}");
    }
    if let Some(output) = &trace.output {
        let output = serde_json::to_string_pretty(output).unwrap_or_default();
        let _ = writeln!(text, "output {output}");
    }
    for mismatch in &trace.mismatches {
        let _ = writeln!(text, "! {mismatch}");
    }
    let moves = trace
        .steps
        .iter()
        .filter(|step| !step.mismatches.is_empty())
        .count();
    let _ = match (moves, trace.mismatches.len()) {
        (0, 0) => write!(text, "all as expected"),
        (moves, ends) => write!(text, "not as expected in {} places", moves + ends),
    };
    text
}

fn step_text(text: &mut String, step: &TraceStep, width: usize) {
    let at = step.at.format("%F %T");
    let _ = write!(text, "{at}  {:<width$}  {}", step.action, step.outcome);
    if let Some(detail) = &step.detail {
        let _ = write!(text, " ({detail})");
    }
    let _ = writeln!(text);
    for happening in &step.happened {
        let child = happening
            .within
            .as_ref()
            .map_or(String::new(), |step| format!("[{step}] "));
        let later = if happening.at == step.at {
            String::new()
        } else {
            format!("{}  ", happening.at.format("%F %T"))
        };
        let _ = writeln!(text, "    {later}{child}{}", happening.text);
    }
    for mismatch in &step.mismatches {
        let _ = writeln!(text, "  ! {mismatch}");
    }
}
