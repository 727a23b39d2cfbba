//! Cases that are played without a script: which they are, how they end, and what is said of them.

use std::collections::BTreeSet;

use glyph_workflow_engine::{
    config::{HandlerAnswer, Script},
    parse_workflow,
    simulation::{Exploration, ExploredCase, GoldAnswers, Mark, explore},
    state::TaskStatus,
};
use serde_json::{Value, json};

fn explored(workflow: &str) -> Exploration {
    explored_with(&[workflow], &Script::default())
}

fn explored_with(workflows: &[&str], circumstances: &Script) -> Exploration {
    let parsed = || {
        let workflows = workflows.iter();
        workflows
            .map(|text| parse_workflow(text).unwrap())
            .collect()
    };
    let explored = explore(parsed(), circumstances).unwrap();
    assert_eq!(
        explore(parsed(), circumstances).unwrap(),
        explored,
        "the same once more"
    );
    let cases = explored.ends.iter().flat_map(|end| &end.cases);
    let distinct: BTreeSet<&String> = cases.clone().collect();
    assert_eq!(distinct.len(), cases.count(), "each case is told once");
    for (at, end) in explored.ends.iter().enumerate() {
        let is_silent = end.status == TaskStatus::Running
            && end.waits.is_empty()
            && end.incidents.is_empty()
            && end.marks.is_empty();
        assert!(!is_silent, "it says what it waits for: {end:#?}");
        let completed = end.status == TaskStatus::Completed;
        assert_eq!(
            end.marks.contains(&Mark::NoValue),
            completed && end.value.is_null(),
            "{at}: {end:#?}"
        );
        assert_eq!(
            end.marks.contains(&Mark::Incident),
            !end.incidents.is_empty()
        );
    }
    explored
}

/// The end of a case.
fn end<'e>(explored: &'e Exploration, case: &str) -> &'e ExploredCase {
    let mut ends = explored.ends.iter();
    ends.find(|end| end.cases.iter().any(|known| known == case))
        .unwrap_or_else(|| panic!("no case `{case}` in {:#?}", cases(explored)))
}

fn cases(explored: &Exploration) -> Vec<&str> {
    let cases = explored.ends.iter().flat_map(|end| &end.cases);
    cases.map(String::as_str).collect()
}

fn path(end: &ExploredCase) -> String {
    end.path.join(" > ")
}

const DUAL: &str = "
workflow:
  id: dual
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 }, consensus: { field: label } }
    - { id: adjudicate, type: adjudication, assignment: { required_roles: [expert] } }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
";

#[test]
fn people_agree_differ_decide_or_do_not_come() {
    let explored = explored(DUAL);
    assert_eq!(
        cases(&explored),
        [
            "straight on",
            "annotate: two differ",
            "annotate: all differ",
            "annotate: nobody comes",
            "annotate: two differ, then adjudicate: nobody comes",
        ]
    );
    let agreed = end(&explored, "straight on");
    assert_eq!(
        (path(agreed).as_str(), agreed.status, agreed.agreement),
        ("annotate", TaskStatus::Completed, Some(1.0))
    );
    assert_eq!(agreed.resolved_by.as_deref(), Some("majority_vote"));
    let differ = end(&explored, "annotate: two differ");
    assert_eq!(
        (
            path(differ).as_str(),
            differ.agreement,
            differ.resolved_by.as_deref()
        ),
        ("annotate > adjudicate", Some(0.0), Some("adjudication"))
    );
    assert_eq!(
        differ.cases.len(),
        2,
        "of two people one differs or all do: it is the same"
    );
    let nobody = end(
        &explored,
        "annotate: two differ, then adjudicate: nobody comes",
    );
    assert_eq!(nobody.status, TaskStatus::Running);
    assert_eq!(
        serde_json::to_value(&nobody.waits).unwrap(),
        json!([{"step": "adjudicate", "waits_for": "1 person with the role expert"}])
    );
    assert!(explored.ends.iter().all(|end| end.marks.is_empty()));
    assert!(
        explored.made_up[0].contains("the file lists no values"),
        "{:?}",
        explored.made_up
    );
    assert_eq!(explored.not_played, [""; 0]);
}

#[test]
fn a_reviewer_approves_rejects_requests_fixes_and_rejects_every_time() {
    let explored = explored(
        "
workflow:
  id: reviewed
  steps: [{ id: annotate, type: annotation, field: label }, { id: review, type: review }]
  transitions:
    - { from: annotate, to: review }
    - { from: review, to: _complete, condition: { type: on_agreement } }
    - { from: review, to: annotate, condition: { type: on_disagreement }, loop: { max_iterations: 2 } }
",
    );
    let once = end(&explored, "review: rejects");
    assert_eq!(path(once), "annotate > review > annotate #2 > review #2");
    assert_eq!(once.cases, ["review: rejects", "review: requests changes"]);
    let approved = end(&explored, "straight on");
    assert!(approved.cases.contains(&"review: fixes".to_owned()));
    let never = end(&explored, "review: rejects every time");
    assert_eq!(never.marks, [Mark::Incident]);
    assert!(
        never.incidents[0].starts_with("loop_exhausted at review"),
        "{never:?}"
    );
    assert_eq!(never.path.len(), 6);
}

#[test]
fn an_end_without_a_value_and_a_refusal_are_marked() {
    let explored = explored(
        "
workflow:
  id: careless
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 }, consensus: { field: label } }
",
    );
    // Nothing leads on: the step ends without a value, and so does the task.
    assert_eq!(path(end(&explored, "straight on")), "annotate");
    let differ = end(&explored, "annotate: two differ");
    assert_eq!(differ.marks, [Mark::NoValue]);
    let nothing_to_approve = self::explored(
        "
workflow:
  id: approves
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 }, consensus: { field: label } }
    - { id: review, type: review }
  transitions: [{ from: annotate, to: review }, { from: review, to: _complete }]
",
    );
    let differ = end(&nothing_to_approve, "annotate: two differ");
    assert_eq!(differ.marks, [Mark::Refused], "there is nothing to approve");
    assert_eq!(
        differ.status,
        TaskStatus::Completed,
        "the reviewer fixes instead: {differ:?}"
    );
    let missing = self::explored(
        "
workflow:
  id: no-way-on
  steps: [{ id: a, type: annotation }, { id: b, type: annotation }]
  transitions:
    - { from: a, to: b, condition: { type: expression, expression: \"annotation.kind == 'x'\" } }
    - { from: b, to: _complete }
",
    );
    let stuck = end(&missing, "a: kind = \"something else\"");
    assert_eq!(stuck.marks, [Mark::Incident]);
    assert!(
        stuck.incidents[0].starts_with("no_transition at a"),
        "{stuck:?}"
    );
}

#[test]
fn timeouts_joins_and_early_closing_are_played() {
    let explored = explored(
        "
workflow:
  id: timed
  settings: { allow_parallel_steps: true }
  steps:
    - { id: begin, type: auto_process, handler: finalize }
    - id: crowd
      type: annotation
      completion: { type: annotation_count, count: 3, min_required: 2, timeout: 1h, timeout_action: proceed }
      consensus: { field: label, threshold: 0.3, on_disagreement: { strategy: majority_vote } }
    - { id: expert, type: annotation, completion: { type: annotation_count, timeout: 1h, timeout_action: escalate } }
    - { id: merge, type: auto_process, handler: result_merger, join_mode: all, join_timeout: 7d }
  transitions:
    - { from: begin, to: crowd }
    - { from: begin, to: expert }
    - { from: crowd, to: merge }
    - { from: expert, to: merge }
",
    );
    let all = "begin > crowd > expert > merge";
    assert_eq!(path(end(&explored, "straight on")), all);
    let early = end(&explored, "crowd: closed early by `advance`, 2 agree");
    assert!(
        early.cases.contains(&"crowd: a claim times out".to_owned()),
        "{early:?}"
    );
    assert_eq!((path(early).as_str(), early.agreement), (all, Some(1.0)));
    let differ = end(&explored, "crowd: closed early by `advance`, 2 differ");
    assert_eq!(differ.agreement, Some(0.0));
    let nobody = end(&explored, "crowd: nobody comes");
    assert_eq!(path(nobody), "begin > crowd (withdrawn) > expert > merge");
    assert_eq!(nobody.status, TaskStatus::Completed, "the join runs out");
    let escalated = end(&explored, "expert: a claim times out");
    assert_eq!(
        path(escalated),
        "begin > crowd > expert (withdrawn) > merge"
    );
}

#[test]
fn handlers_answer_fail_or_never_answer() {
    let workflow = "
workflow:
  id: machines
  settings: { max_retries: 1 }
  steps:
    - { id: score, type: auto_process, handler: webhook, config: { url: https://example.org }, on_error: skip }
    - { id: job, type: auto_process, handler: queue, completion: { type: auto, timeout: 1h } }
    - id: label
      type: annotation
      hooks: { pre_process: [{ handler: webhook, config: { url: https://example.org } }] }
    - { id: check, type: annotation }
  transitions:
    - { from: score, to: label, condition: { type: expression, expression: \"result.value.confidence < 0.9\" } }
    - { from: score, to: job }
    - { from: job, to: label }
    - { from: label, to: check, condition: { type: expression, expression: \"step.label.prepared.doubtful\" } }
    - { from: label, to: _complete }
    - { from: check, to: _complete }
";
    let explored = explored(workflow);
    let sure = end(&explored, "straight on");
    assert_eq!(path(sure), "score > job > label > check");
    let unsure = end(&explored, "score: answers confidence = 0.45");
    assert_eq!(path(unsure), "score > label > check");
    let skipped = end(&explored, "score: fails");
    assert_eq!(skipped.path[0], "score (skipped)");
    let never = end(&explored, "job: never answers");
    assert_eq!(never.marks, [Mark::Incident]);
    assert!(
        never.incidents[0].starts_with("handler_failed at job"),
        "{never:?}"
    );
    let hook = end(&explored, "label.pre_process[0]: fails");
    assert!(
        hook.incidents[0].starts_with("handler_failed at label"),
        "{hook:?}"
    );
    let plain = end(&explored, "label.pre_process[0]: answers doubtful = false");
    assert_eq!(path(plain), "score > job > label");
    assert!(
        explored
            .made_up
            .contains(&"what `webhook` answers in `score`".to_owned()),
        "{:?}",
        explored.made_up
    );

    // What a script says of a handler is not made up.
    let answer = HandlerAnswer {
        output: Some(json!({"confidence": 0.1})),
        ..HandlerAnswer::default()
    };
    let circumstances = Script {
        handlers: [("score".to_owned(), vec![answer])].into(),
        ..Script::default()
    };
    let scripted = explored_with(&[workflow], &circumstances);
    assert_eq!(path(end(&scripted, "straight on")), "score > label > check");
    assert!(cases(&scripted).iter().all(|case| !case.contains("score")));
}

#[test]
fn the_input_follows_from_what_is_read_of_it_or_from_a_script() {
    let workflow = "
workflow:
  id: routed
  steps:
    - id: route
      type: conditional
      condition: { expression: \"has(input.length) && input.length > 100\" }
      true_branch: long
      false_branch: short
    - { id: long, type: annotation }
    - { id: short, type: annotation }
";
    let explored = explored(workflow);
    assert_eq!(explored.input, json!({"length": 101}));
    assert_eq!(path(end(&explored, "straight on")), "route > long");
    let short = end(&explored, "input: length = 100");
    assert_eq!(path(short), "route > short");
    assert!(short.cases.contains(&"input: without length".to_owned()));
    let circumstances = Script {
        input: Some(json!({"length": 3})),
        ..Script::default()
    };
    let given = explored_with(&[workflow], &circumstances);
    assert_eq!(cases(&given), ["straight on", "short: nobody comes"]);
    assert_eq!(given.input, json!({"length": 3}));
    assert!(given.made_up.iter().all(|what| !what.contains("input")));
}

#[test]
fn answers_follow_from_what_a_step_says_that_it_asks_for() {
    let explored = explored(
        "
workflow:
  id: asking
  steps:
    - id: mark
      type: annotation
      completion: { type: annotation_count, count: 2 }
      answer:
        kind: record
        fields:
          severity: { kind: ordinal, values: [none, mild, severe] }
          names: { kind: spans, tag: label, text: input.text, values: [PER, ORG] }
      consensus: {}
    - { id: judge, type: adjudication }
  transitions:
    - { from: mark, to: _complete, condition: { type: on_agreement } }
    - { from: mark, to: judge, condition: { type: on_disagreement } }
    - { from: judge, to: _complete }
",
    );
    assert!(explored.input["text"].is_string(), "spans stand in a text");
    let value = json!({"severity": "none", "names": [{"start": 0, "end": 4, "label": "PER"}]});
    assert_eq!(end(&explored, "straight on").value, value);
    let partly = end(&explored, "mark: one field differs");
    let apart = end(&explored, "mark: two differ");
    assert_eq!(path(partly), "mark > judge");
    assert!(partly.agreement > apart.agreement, "{partly:?} {apart:?}");
    assert_eq!(partly.value, value, "the adjudicator is asked the same");
    assert!(explored.ends.iter().all(|end| end.marks.is_empty()));
}

#[test]
fn labels_and_lists_of_annotations_are_read_as_well() {
    let explored = explored(
        "
workflow:
  id: labelled
  steps:
    - { id: a, type: annotation, completion: { type: annotation_count, count: 2 } }
    - { id: b, type: annotation }
    - { id: c, type: annotation }
  transitions:
    - { from: a, to: b, priority: 2, condition: { type: expression, expression: \"annotations.exists(x, x.flag == true)\" } }
    - { from: a, to: c, priority: 1, condition: { type: expression, expression: \"labels.lang == 'de' && sample(task_id, 0.5)\" } }
    - { from: a, to: _complete }
    - { from: b, to: _complete }
    - { from: c, to: _complete }
",
    );
    assert_eq!(path(end(&explored, "straight on")), "a > b");
    let plain = end(&explored, "a: flag = false");
    assert_eq!(plain.path[0], "a");
    assert_ne!(plain.path.get(1).map(String::as_str), Some("b"));
    assert!(cases(&explored).contains(&"labels: lang = \"something else\""));
    assert!(
        explored.not_played[0].starts_with("other ids of the task"),
        "{:?}",
        explored.not_played
    );
}

#[test]
fn gold_is_answered_right_and_wrong_where_a_workflow_has_gold() {
    let gold = DUAL.replace("  id: dual\n", "  id: dual\n  gold: { share: 0.1 }\n");
    let explored = explored(&gold);
    assert_eq!(
        end(&explored, "gold, answered right").gold,
        Some(GoldAnswers { right: 2, wrong: 0 })
    );
    assert_eq!(
        end(&explored, "gold, answered wrong").gold,
        Some(GoldAnswers { right: 0, wrong: 2 })
    );
    assert_eq!(end(&explored, "straight on").gold, None);
}

#[test]
fn children_are_played_if_their_file_is_at_hand() {
    let parent = "
workflow:
  id: parent
  steps:
    - { id: extract, type: sub_workflow, workflow: dual, output_mapping: { label: result } }
    - { id: link, type: annotation }
  transitions: [{ from: extract, to: link }]
";
    let both = explored_with(&[parent, DUAL], &Script::default());
    assert_eq!(
        path(end(&both, "straight on")),
        "extract > extract/annotate > link"
    );
    assert_eq!(
        path(end(&both, "extract/annotate: two differ")),
        "extract > extract/annotate > extract/adjudicate > link"
    );
    let nobody = end(&both, "extract/annotate: nobody comes");
    assert_eq!(
        serde_json::to_value(&nobody.waits).unwrap(),
        json!([{"step": "extract/annotate", "waits_for": "2 people"}])
    );
    assert_eq!(both.not_played, [""; 0]);
    let alone = explored(parent);
    assert_eq!(path(end(&alone, "straight on")), "extract > link");
    let holder = parent.replace(
        "output_mapping",
        "assignment: { propagate_assignment: true }, output_mapping",
    );
    let holder = holder.replace(
        "  steps:\n",
        "  steps:\n    - { id: triage, type: annotation }\n",
    );
    let holder = holder.replace(
        "transitions: [",
        "transitions: [{ from: triage, to: extract }, ",
    );
    let reserved = explored_with(&[&holder, DUAL], &Script::default());
    assert_eq!(
        path(end(&reserved, "extract/annotate: two differ")),
        "triage > extract > extract/annotate > extract/adjudicate > link",
        "who holds the slot fills it"
    );
    assert!(reserved.ends.iter().all(|end| end.marks.is_empty()));
    assert!(
        alone.not_played[0].contains("workflow `dual` is not at hand"),
        "{alone:?}"
    );
    let failed = end(&alone, "extract: fails");
    assert!(
        failed.incidents[0].starts_with("child_failed at extract"),
        "{failed:?}"
    );
}

#[test]
fn the_number_of_cases_is_bounded_and_what_is_left_out_is_told() {
    use std::fmt::Write as _;

    let mut workflow = String::from("workflow:\n  id: long\n  steps:\n");
    for step in 0..80 {
        let _ = writeln!(workflow, "    - {{ id: s{step}, type: review }}");
    }
    workflow.push_str("  transitions:\n");
    for step in 1..80 {
        let _ = writeln!(workflow, "    - {{ from: s{}, to: s{step} }}", step - 1);
    }
    let workflow = workflow.replacen("type: review", "type: annotation", 1);
    let explored = explored(&workflow);
    assert_eq!(explored.played, 150);
    assert!(
        explored.not_played[0].ends_with("no more than 150 are played"),
        "{:?}",
        explored.not_played
    );
}

#[test]
fn every_example_is_explored_without_a_refusal_and_ends() {
    for (name, text) in examples() {
        let explored = explored(&text);
        for end in &explored.ends {
            let odd = [Mark::Refused, Mark::Stuck, Mark::Unfinished];
            assert!(
                odd.iter().all(|mark| !end.marks.contains(mark)),
                "{name}: {end:#?}"
            );
        }
        let usual = end(&explored, "straight on");
        assert_eq!(usual.status, TaskStatus::Completed, "{name}: {usual:#?}");
        assert_ne!(usual.value, Value::Null, "{name}");
    }
}

#[expect(clippy::disallowed_methods, reason = "examples are files")]
fn examples() -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|ext| ext == "yaml"));
    let read = files.map(|path| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text)
    });
    read.collect()
}
