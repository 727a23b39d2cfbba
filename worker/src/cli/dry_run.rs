//! `glyph workflow dry-run`: simulates a workflow with a script and prints a trace, or plays its
//! telling cases and prints their ends; needs no service.

use std::{fmt::Write as _, path::Path};

use glyph_workflow_engine::{
    WorkflowConfig,
    config::Script,
    parser::check_script,
    simulation::{self, Exploration, ExploredCase, Mark, Trace, TraceStep, play_with},
    state::TaskStatus,
};
use serde_json::{Value, json};

use super::{
    CliError, Output,
    diagnostics::{check, errors_of, read, render, workflow_of},
    output::{Table, clipped},
};

/// The script format, for `--help`.
pub(super) const HELP: &str = "\
With --explore no script is needed: the telling cases are played (all agree, one differs, a reviewer
refuses, nobody comes, a handler fails, ...), and the end of each is printed. Input, answers and replies
of handlers are made up from the file. With a script beside it, its input, labels, handlers, workflows
and known answer are used, and its moves are not made.

A script is YAML: what happens to one task, move by move, and what is expected of it.

  description: Two differ, a third decides
  input: { text: Nice weather }            # what is to be labelled; also labels, expected, clock
  people: { ann: {}, bob: {}, cleo: { roles: [adjudicator] } }         # or leave it out
  moves:                                   # each has one of submit, assign, next, release, activity,
    - submit: { step: annotate, by: ann, data: { label: positive } }     # advance, pause, resume,
    - assign: { step: annotate, by: bob }                                # cancel, retry, migrate,
    - pass: 30m                            # time passes; what falls due happens
    - submit: { by: bob, data: { label: negative } }
      active: [adjudicate]                 # where the task must stand now
    - next: { by: ann }                    # asks for the next task
      expect: role_required                # waiting | advanced | completed | failed | rejected | CODE
    - next: { by: cleo }
      offered: adjudicate                  # the step that must be offered
    - submit: { by: cleo, data: { label: positive } }
  expect: { status: completed, exactly: { result: positive }, output: { agreement: 0 } }

`output` compares mappings key by key; under `exactly` a mapping has the keys written there and no others.
`handlers: { STEP: [{ error: timeout }, { output: {} }] }` says what handlers outside answer, call by
call; `workflows: [FILE]` names the files of sub-workflows, and a move with `within: STEP` is about the
child task of that step. `migrate: { to: FILE }` moves the task to another revision;
`workflow_pause`, `workflow_resume`, `workflow_archive` and `workflow_restore` are about the whole
workflow. Time and ids are made up, always alike: the same files give the same trace.
The JSON Schema is schemas/script.v1.json.

Exit codes: 0 all as expected, or explored, 1 something else happened, 3 a file is not valid.";

/// Plays the script of one file on the workflow of another.
pub(super) fn run(file: &Path, script: &Path, output: Output) -> Result<(), CliError> {
    let workflow = workflow_of(file, output)?;
    let script = Scripted::read(script, workflow, output)?;
    let revisions = script
        .parsed
        .revisions()
        .into_iter()
        .map(|file| Ok((file.to_owned(), script.beside(file, output)?)))
        .collect::<Result<_, CliError>>()?;
    let trace = play_with(script.workflows, revisions, &script.parsed)
        .map_err(|error| CliError::failed("expression", error.to_string()))?;
    output.result(&trace, || text_of(&trace, &script.parsed));
    if trace.as_expected() {
        Ok(())
    } else {
        Err(CliError::Shown)
    }
}

/// Plays the telling cases of a workflow; a script says the circumstances.
pub(super) fn explore(file: &Path, script: Option<&Path>, output: Output) -> Result<(), CliError> {
    let (name, source) = read(file)?;
    let report = check(&source);
    if !output.is_json() {
        output.diagnostics(&render(&name, &source, &report.diagnostics));
    }
    let Some(workflow) = report.config else {
        if output.is_json() {
            let document = json!({"valid": false, "diagnostics": report.diagnostics});
            output.result(&document, String::new);
        }
        return Err(errors_of(&name, &report.diagnostics, output));
    };
    let (workflows, circumstances) = match script {
        Some(script) => {
            let script = Scripted::read(script, workflow, output)?;
            (script.workflows, script.parsed)
        }
        None => (vec![workflow], Script::default()),
    };
    let explored = simulation::explore(workflows, &circumstances)
        .map_err(|error| CliError::failed("expression", error.to_string()))?;
    let document = json!({"warnings": report.diagnostics, "exploration": explored});
    output.result(&document, || explored_text(&explored));
    Ok(())
}

/// A script that has been read, with the workflows that it is about.
struct Scripted<'p> {
    path: &'p Path,
    parsed: Script,
    /// The workflow, and those that it runs as children.
    workflows: Vec<WorkflowConfig>,
}

impl<'p> Scripted<'p> {
    fn read(path: &'p Path, workflow: WorkflowConfig, output: Output) -> Result<Self, CliError> {
        let (name, source) = read(path)?;
        let (parsed, faults) = check_script(&source, &workflow);
        if !output.is_json() {
            output.diagnostics(&render(&name, &source, &faults));
        }
        let Some(parsed) = parsed else {
            if output.is_json() {
                let lines: Vec<String> = faults
                    .iter()
                    .map(|fault| format!("{name}:{fault}"))
                    .collect();
                let document =
                    json!({"valid": false, "diagnostics": faults, "text": lines.join("\n")});
                output.result(&document, String::new);
            }
            return Err(errors_of(&name, &faults, output));
        };
        let mut script = Self {
            path,
            parsed,
            workflows: vec![workflow],
        };
        for other in script.parsed.workflows.clone() {
            let child = script.beside(&other, output)?;
            script.workflows.push(child);
        }
        Ok(script)
    }

    /// The workflow of a file that the script names.
    fn beside(&self, file: &str, output: Output) -> Result<WorkflowConfig, CliError> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        workflow_of(&folder.join(file), output)
    }
}

/// Most characters of a cell of the table.
const CELL_MAX: usize = 72;

/// The ends as a table: each with its cases one below the other, and below them what else there is to
/// say.
fn explored_text(explored: &Exploration) -> String {
    let mut table = Table::new(&["", "case", "path", "end", "value", "agreement", "by"]);
    // Lines as wide as they need, after so many rows of the table.
    let mut notes: Vec<(usize, String)> = Vec::new();
    let (mut rows, mut marked) = (1, 0);
    for end in &explored.ends {
        marked += usize::from(!end.marks.is_empty());
        let mut cases = end.cases.iter().map(|case| shortened(case));
        table.row([
            if end.marks.is_empty() { "" } else { "!" }.to_owned(),
            cases.next().unwrap_or_default(),
            clipped(&end.path.join(" > "), CELL_MAX),
            end.status.as_str().to_owned(),
            value_text(end),
            end.agreement.map_or(String::new(), |a| format!("{a:.2}")),
            end.resolved_by.clone().unwrap_or_default(),
        ]);
        for case in cases {
            table.row([String::new(), case]);
            rows += 1;
        }
        rows += 1;
        notes.extend(notes_of(end).into_iter().map(|note| (rows, note)));
    }
    let mut text = format!(
        "{}: {} cases, {} ends\n\n",
        explored.workflow,
        explored.played,
        explored.ends.len()
    );
    let rendered = table.render(0);
    for (row, line) in rendered.lines().enumerate() {
        let _ = writeln!(text, "{line}");
        for (_, note) in notes.iter().filter(|(after, _)| *after == row + 1) {
            let _ = writeln!(text, "       {note}");
        }
    }
    text.push_str(
        "\nstraight on: people agree, reviewers approve, handlers answer. Other cases say where they differ.\n",
    );
    if marked > 0 {
        let _ = writeln!(
            text,
            "! {marked} of {} ends need a look: an incident, an end without a value, a refusal, or no end.",
            explored.ends.len()
        );
    }
    for (title, lines) in [
        ("Made up:", &explored.made_up),
        ("Not played:", &explored.not_played),
    ] {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{title}");
        }
        for line in lines {
            let _ = writeln!(text, "- {line}");
        }
    }
    text
}

fn value_text(end: &ExploredCase) -> String {
    if !end.value.is_null() {
        clipped(&end.value.to_string(), CELL_MAX / 2)
    } else if end.status == TaskStatus::Completed {
        "no value".to_owned()
    } else {
        String::new()
    }
}

/// A case that takes too much room without its first turns: the last one distinguishes it.
fn shortened(case: &str) -> String {
    const TURN: &str = ", then ";
    let mut kept = case;
    while kept.chars().count() > CELL_MAX
        && let Some((_, rest)) = kept.split_once(TURN)
    {
        kept = rest;
    }
    if kept.len() == case.len() {
        clipped(case, CELL_MAX)
    } else {
        clipped(&format!("…{TURN}{kept}"), CELL_MAX)
    }
}

/// What else there is to say of an end, line by line.
fn notes_of(end: &ExploredCase) -> Vec<String> {
    let failed = end.error.iter().map(|error| format!("because {error}"));
    let incidents = end.incidents.iter().map(|i| format!("incident {i}"));
    let refused = end.refused.iter().cloned();
    let waits = end.waits.iter();
    let waits = waits.map(|wait| format!("{} waits for {}", wait.step, wait.waits_for));
    let gold = end.gold.iter();
    let gold = gold.map(|gold| format!("gold: {} right, {} wrong", gold.right, gold.wrong));
    let marks = end.marks.iter().filter_map(|mark| match mark {
        Mark::Stuck => Some("nobody is left who could let it go on".to_owned()),
        Mark::Unfinished => Some("broken off: it came to no end".to_owned()),
        Mark::NoValue => Some("`result` of the output is null".to_owned()),
        Mark::Incident | Mark::Refused => None,
    });
    let before = failed.chain(incidents).chain(refused).chain(waits);
    let all = before.chain(gold).chain(marks);
    all.map(|line| clipped(&line, 2 * CELL_MAX)).collect()
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
    let result = trace.output.as_ref().map(|output| &output["result"]);
    if result.is_some_and(Value::is_null) {
        let _ = writeln!(text, "the task ended without a value: `result` is null");
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
