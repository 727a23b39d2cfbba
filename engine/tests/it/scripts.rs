//! Dry-run scripts: errors in a script are reported, and so is any result that it does not expect.

use glyph_workflow_engine::{
    WorkflowConfig,
    command::RejectionCode,
    config::{ExpectedEnd, ExpectedOutcome},
    parse_workflow,
    parser::check_script,
    simulation::{NotOffered, Trace, play, play_with},
    state::StepResult,
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
    faults_of(DUAL, script)
}

fn faults_of(workflow: &str, script: &str) -> Vec<String> {
    let (_, faults) = check_script(script.as_bytes(), &parse_workflow(workflow).unwrap());
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
            "missing_key moves[3] 6:5 add one of `submit`, `assign`, `next`, `release`, `activity`, \
             `advance`, `pause`, `resume`, `cancel`, `retry`, `migrate`, `workflow_pause`, …",
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
    // A script starts its task once, and its step names are checked first.
    let never = ["unknown_step", "already_started"];
    for code in RejectionCode::ALL {
        let known = serde_json::from_value::<ExpectedOutcome>(json!(code.as_str())).is_ok();
        assert_eq!(known, !never.contains(&code.as_str()), "{code}");
    }
}

/// The trace of a script on a workflow, with the revisions to which it migrates.
fn trace(workflow: &str, revisions: &[(&str, &str)], script: &str) -> Trace {
    let workflow = parse_workflow(workflow).unwrap();
    let (script, faults) = check_script(script.as_bytes(), &workflow);
    assert_eq!(faults, []);
    let script = script.unwrap();
    assert_eq!(
        script.revisions(),
        revisions.iter().map(|(file, _)| *file).collect::<Vec<_>>()
    );
    let revisions = revisions.iter().map(|(file, text)| {
        let config: WorkflowConfig = parse_workflow(text).unwrap();
        ((*file).to_owned(), config)
    });
    play_with(vec![workflow], revisions.collect(), &script).unwrap()
}

fn mismatches(trace: &Trace) -> Vec<&str> {
    let of_moves = trace.steps.iter().flat_map(|step| &step.mismatches);
    let all = of_moves.chain(&trace.mismatches);
    all.map(String::as_str).collect()
}

#[test]
fn within_names_a_step_that_has_a_child() {
    assert_eq!(
        faults("moves:\n  - { pass: 1h, within: adjudicate }\n  - { pass: 1h, within: anotate }\n"),
        [
            "unknown_step moves[0].within 2:25 remove `within`: the workflow has no sub_workflow step",
            "unknown_step moves[1].within 3:25 did you mean `annotate`?",
        ]
    );
    let parent = "
workflow:
  id: parent
  steps:
    - { id: triage, type: annotation }
    - { id: extract, type: sub_workflow, workflow: fields }
  transitions: [{ from: triage, to: extract }]
";
    assert_eq!(
        faults_of(
            parent,
            "moves:\n  - { pass: 1h, within: extract/inner }\n  - { pass: 1h, within: triage }\n"
        ),
        ["unknown_step moves[1].within 3:25 the only sub_workflow step is `extract`"]
    );
}

#[test]
fn a_misspelt_key_of_the_end_is_told_whatever_is_expected_of_it() {
    assert_eq!(
        faults(
            "moves: []
expect:
  output: { reslt: null, status: completed, steps: { anotate: null, annotate: { agrement: null } } }
  exactly: { context: {}, resolved-by: null }
"
        ),
        [
            "unknown_key expect.output.reslt 3:13 did you mean `result`?",
            "unknown_key expect.output.status 3:26 `status` stands beside `output`, not inside",
            "unknown_step expect.output.steps.anotate 3:54 did you mean `annotate`?",
            "unknown_key expect.output.steps.annotate.agrement 3:81 did you mean `agreement`?",
            "unknown_key expect.exactly.resolved-by 4:27 did you mean `resolved_by`?",
        ]
    );
}

#[test]
fn what_is_offered_is_expected_of_a_request_for_work_only() {
    assert_eq!(
        faults("moves:\n  - { pass: 1h, offered: annotate }\n  - { pass: 1h, expect: nothing }\n"),
        [
            "misplaced_key moves[0].offered 2:17 remove it",
            "invalid_value moves[1].expect 3:25 expect `waiting`, `advanced`, `completed`, `failed`, \
             `rejected` or the code of a rejection",
        ]
    );
}

#[test]
fn the_keys_of_outputs_and_results_are_known() {
    let played = trace(
        DUAL,
        &[],
        "moves: [{ submit: { by: ann, data: { label: a } } }, { submit: { by: bob, data: { label: a } } }]",
    );
    let output = played.output.unwrap();
    for key in output.as_object().unwrap().keys() {
        assert!(ExpectedEnd::OUTPUT_KEYS.contains(&key.as_str()), "{key}");
    }
    let result = schemars::schema_for!(StepResult).to_value();
    let schema = result["properties"].as_object().unwrap().keys();
    let shown = output["steps"]["annotate"].as_object().unwrap().keys();
    for key in schema.chain(shown) {
        assert!(ExpectedEnd::RESULT_KEYS.contains(&key.as_str()), "{key}");
    }
}

#[test]
fn nothing_else_can_be_expected() {
    let moves = "
moves:
  - submit: { by: ann, data: { label: { kind: a, sure: true } } }
  - submit: { by: bob, data: { label: { kind: a, sure: true } } }
";
    let expecting = |end: &str| trace(DUAL, &[], &format!("{moves}expect: {end}\n"));
    let same = expecting(
        "{ output: { result: { kind: a } }, exactly: { result: { kind: a, sure: true }, context: {} } }",
    );
    assert!(same.as_expected(), "{:?}", mismatches(&same));
    let other =
        expecting("{ exactly: { result: { kind: a } }, output: { result: { knd: null } } }");
    assert_eq!(
        mismatches(&other),
        [
            "expected output.result.knd to be null, there is no such key; did you mean `kind`?",
            "expected no output.result.sure, it is true",
        ]
    );
}

const REVIEWED: &str = "
workflow:
  id: reviewed
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, timeout: 1h, timeout_action: reassign } }
    - id: review
      type: review
      assignment: { required_roles: [reviewer], required_skills: [dutch] }
  transitions: [{ from: annotate, to: review }, { from: review, to: _complete }]
";

#[test]
fn people_are_offered_what_a_worker_would_offer_them() {
    let played = trace(
        REVIEWED,
        &[],
        "
people:
  ann: { roles: [reviewer], skills: [dutch] }
  bob: { roles: [reviewer] }
  cem: {}
  eva: { roles: [reviewer], skills: [dutch, french] }
moves:
  - next: { by: cem }
    offered: annotate
  - next: { by: cem }
    expect: duplicate_annotator
  - next: { by: bob }
    expect: surplus
  - release: { by: cem, reason: too hard }
  - next: { by: cem }
    expect: offered
  - pass: 1h
  - next: { by: cem }
    expect: reassigned
  - workflow_pause: { reason: the guidelines change }
  - next: { by: ann }
    expect: task_paused
  - workflow_resume: {}
  - next: { by: ann, step: review }
    expect: not_waiting
  - submit: { by: ann, data: a }
  - next: { by: cem }
    expect: role_required
  - next: { by: bob }
    expect: skill_required
  - next: { by: ann }
    expect: self_review
  - next: { by: ann }
    expect: nothing
  - next: { by: eva }
    offered: review
  - submit: { by: eva, decision: approve }
  - next: { by: eva }
    expect: task_finished
expect: { status: completed, output: { result: a } }
",
    );
    assert!(played.as_expected(), "{:?}", mismatches(&played));
    assert_eq!(played.steps[1].detail.as_deref(), Some("annotate, visit 1"));
    assert_eq!(
        played.steps[4].happened[0].text,
        "task released annotate by cem: reason too hard"
    );
    let not = trace(
        REVIEWED,
        &[],
        "moves: [{ next: { by: ann }, offered: review }, { next: { by: bob } }]",
    );
    assert_eq!(
        mismatches(&not),
        [
            "expected review to be offered, it is annotate",
            "expected no refusal, came to surplus",
        ]
    );
}

#[test]
fn every_reason_for_offering_nothing_can_be_expected() {
    for why in [
        NotOffered::TaskFinished,
        NotOffered::NotWaiting,
        NotOffered::TaskPaused,
        NotOffered::StepNotActive,
        NotOffered::DuplicateAnnotator,
        NotOffered::Reassigned,
        NotOffered::Surplus,
        NotOffered::RoleRequired,
        NotOffered::SkillRequired,
        NotOffered::SelfReview,
        NotOffered::MaxConcurrent,
    ] {
        let read = serde_json::from_value::<ExpectedOutcome>(json!(why.as_str()));
        assert_eq!(read.unwrap().as_str(), why.as_str());
    }
}

#[test]
fn nobody_holds_more_places_than_a_step_allows() {
    let two = "
workflow:
  id: two
  settings: { allow_parallel_steps: true }
  steps:
    - { id: begin, type: auto_process, handler: finalize }
    - { id: a, type: annotation, assignment: { max_concurrent: 1 } }
    - { id: b, type: annotation, assignment: { max_concurrent: 1 } }
    - { id: merge, type: auto_process, handler: result_merger, join_mode: all }
  transitions:
    - { from: begin, to: a }
    - { from: begin, to: b }
    - { from: a, to: merge }
    - { from: b, to: merge }
";
    let played = trace(
        two,
        &[],
        "
moves:
  - next: { by: ann }
    offered: a
  - next: { by: ann, step: b }
    expect: max_concurrent
  - submit: { step: a, by: ann, data: x }
  - next: { by: ann }
    offered: b
",
    );
    assert!(played.as_expected(), "{:?}", mismatches(&played));
}

#[test]
fn a_task_moves_to_another_revision() {
    let renamed = DUAL
        .replace("annotate", "label")
        .replace("count: 2", "count: 1");
    let played = trace(
        DUAL,
        &[("second.yaml", &renamed), ("other.yaml", REVIEWED)],
        "
moves:
  - submit: { by: ann, data: { label: a } }
    active: [annotate]
  - migrate: { to: second.yaml }
    expect: migration_unmapped
  - migrate: { to: second.yaml, steps: { annotate: label } }
    expect: completed # the new revision asks for one person
    active: []
  - migrate: { to: other.yaml }
    expect: task_finished
expect: { status: completed, exactly: { result: a } }
",
    );
    assert!(played.as_expected(), "{:?}", mismatches(&played));
    let absent = parse_workflow(DUAL).unwrap();
    let (script, _) = check_script(b"moves: [{ migrate: { to: second.yaml } }]", &absent);
    let played = play(vec![absent], &script.unwrap()).unwrap();
    assert_eq!(
        mismatches(&played),
        ["the file `second.yaml` is not at hand"]
    );
    assert_eq!(
        faults(
            "moves: [{ migrate: { to: x.yaml, steps: { anotate: label } } }, { submit: { step: label, by: ann } }]"
        ),
        ["unknown_step moves[0].migrate.steps.anotate 1:43 did you mean `annotate`?"]
    );
}

#[test]
fn a_whole_workflow_is_paused_archived_and_restored() {
    let played = trace(
        REVIEWED,
        &[],
        "
moves:
  - assign: { by: ann }
  - pass: 50m
  - workflow_pause: { reason: the guidelines change, lasting: 2d }
    expect: waiting
  - submit: { by: ann, data: a }
    expect: task_paused
  - workflow_restore: {}
    expect: not_waiting
  - pass: 2d # the pause ends by itself; ann has ten minutes left
  - workflow_resume: {}
    expect: not_waiting
  - pass: 9m
  - workflow_archive: { reason: over }
  - pass: 30d
  - submit: { by: ann, data: a }
    expect: task_paused
  - workflow_pause: {}
    expect: not_waiting
  - workflow_resume: {}
    expect: not_waiting
  - workflow_restore: {}
  - activity: { by: ann }
  - submit: { by: ann, data: a }
    active: [review]
",
    );
    assert!(played.as_expected(), "{:?}", mismatches(&played));
    let stalled = |step: &glyph_workflow_engine::simulation::TraceStep| {
        step.happened
            .iter()
            .any(|event| event.event["event_type"] == "task_stalled")
    };
    assert!(
        !played.steps.iter().any(stalled),
        "no timeout ran in a pause"
    );
    let unknown = trace(
        REVIEWED,
        &[],
        "moves: [{ workflow_pause: { workflow: child } }]",
    );
    assert_eq!(
        mismatches(&unknown),
        ["there is no workflow `child`: name its file in `workflows`"]
    );
}

#[test]
fn a_child_waits_while_its_own_workflow_is_paused() {
    let parent = parse_workflow(
        "workflow:
  id: parent
  steps: [{ id: extract, type: sub_workflow, workflow: reviewed }]
",
    )
    .unwrap();
    let (script, faults) = check_script(
        b"moves:
  - workflow_archive: { workflow: reviewed }
  - next: { by: ann }
    expect: task_paused
  - workflow_restore: { workflow: reviewed }
  - next: { by: ann }
    offered: extract/annotate
  - submit: { by: ann, data: a }
    within: extract
  - next: { by: bob }
    within: extract
    expect: role_required
",
        &parent,
    );
    assert_eq!(faults, []);
    let child = parse_workflow(REVIEWED).unwrap();
    let played = play(vec![parent, child], &script.unwrap()).unwrap();
    assert!(played.as_expected(), "{:?}", mismatches(&played));
}
