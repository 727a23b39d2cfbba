//! Dry-run scripts: errors in a script are reported, and so is any result that it does not expect.

use glyph_workflow_engine::{
    command::RejectionCode, config::ExpectedOutcome, parse_workflow, parser::check_script,
    simulation::play,
};
use serde_json::json;

const DUAL: &str = "
workflow:
  id: dual
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 }, consensus: { field: label } }
    - { id: adjudicate, type: adjudication }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
";

fn faults(script: &str) -> Vec<String> {
    let (_, faults) = check_script(script.as_bytes(), &parse_workflow(DUAL).unwrap());
    let line = |d: &glyph_workflow_engine::ValidationError| {
        let (line, column) = (d.line.unwrap_or(0), d.column.unwrap_or(0));
        let hint = d.suggestion.as_deref().unwrap_or_default();
        format!("{} {} {line}:{column} {hint}", d.code, d.path)
    };
    faults.iter().map(line).collect()
}

#[test]
fn every_fault_of_a_script_is_told_with_its_place() {
    assert_eq!(faults("moves: []"), [""; 0]);
    assert_eq!(
        faults(
            "people: { ann: {}, robert: {} }
moves:
  - submit: { stp: annotate, by: ann }
  - submit: { step: anotate, by: robret }
  - { pass: 2h, retry: {} }
  - { expect: waiting }
  - { pass: soon, active: [adjudicat] }
  - { advance: { step: annotate }, expect: advnced }
handlers: { anotate: [{ output: 1, error: x }] }
expect: { satus: completed }
"
        ),
        [
            "unknown_key moves[0].submit.stp 3:15 did you mean `step`?",
            "unknown_step moves[1].submit.step 4:21 did you mean `annotate`?",
            "invalid_value moves[1].submit.by 4:34 did you mean `robert`?",
            "conflicting_keys moves[2] 5:5 make a move of each",
            "missing_key moves[3] 6:5 add one of `submit`, `assign`, `release`, `activity`, \
             `advance`, `pause`, `resume`, `cancel`, `retry`, `pass`",
            "invalid_value moves[4].pass 7:13 ",
            "unknown_step moves[4].active[0] 7:28 did you mean `adjudicate`?",
            "invalid_value moves[5].expect 8:44 did you mean `advanced`?",
            "unknown_step handlers.anotate 9:13 did you mean `annotate`?",
            "conflicting_keys handlers.anotate[0] 9:23 write `output: …` or `error: …`",
            "unknown_key expect.satus 10:11 did you mean `status`?",
        ]
    );
    assert_eq!(faults("")[0].split(' ').next(), Some("empty_file"));
    assert_eq!(faults("- 1")[0].split(' ').next(), Some("wrong_type"));
    assert_eq!(faults("moves: [")[0].split(' ').next(), Some("yaml_syntax"));
}

#[test]
fn what_is_not_expected_is_seen() {
    let workflow = parse_workflow(DUAL).unwrap();
    let (script, faults) = check_script(
        b"moves:
  - submit: { by: ann, data: { label: a } }
    expect: advanced
  - submit: { by: ann, data: { label: b } }
  - submit: { by: bob, data: { label: a } }
    expect: rejected
    active: [adjudicate]
expect: { status: failed, output: { result: b, steps: { annotate: { agreement: 1.0 } } }, incidents: [no_transition] }
",
        &workflow,
    );
    assert_eq!(faults, []);
    let trace = play(vec![workflow], &script.unwrap()).unwrap();
    assert!(!trace.as_expected());
    let of_moves: Vec<&[String]> = trace
        .steps
        .iter()
        .map(|s| s.mismatches.as_slice())
        .collect();
    assert_eq!(
        of_moves,
        [
            &[][..],
            &["expected advanced, came to waiting".to_owned()],
            &["expected no refusal, came to duplicate_annotator".to_owned()],
            &[
                "expected rejected, came to completed".to_owned(),
                "expected to stand at adjudicate, stands at none".to_owned()
            ],
        ]
    );
    assert_eq!(
        trace.mismatches,
        [
            "expected the task failed, it is completed",
            "expected the incidents no_transition, found none",
            "expected output.result to be \"b\", it is \"a\"",
        ]
    );
    let shown = serde_json::to_value(&trace).unwrap();
    assert_eq!(shown["steps"][1]["outcome"], "waiting");
    assert_eq!(
        shown["steps"][1]["happened"][0]["event_type"],
        "annotation_submitted"
    );
    assert_eq!(
        shown["steps"][1]["happened"][0]["text"],
        "annotation submitted annotate by ann: data {\"label\":\"a\"}"
    );
    assert_eq!(shown["output"]["result"], json!("a"));
}

#[test]
fn a_script_can_expect_every_refusal_that_a_move_can_meet() {
    // A script starts its task once and never migrates it, and its step names are checked first.
    let never = ["unknown_step", "already_started", "migration_unmapped"];
    for code in RejectionCode::ALL {
        let known = serde_json::from_value::<ExpectedOutcome>(json!(code.as_str())).is_ok();
        assert_eq!(known, !never.contains(&code.as_str()), "{code}");
    }
}
