//! Every diagnostic code has a file that triggers it and a near miss that does not.
//!
//! The files are in `fixtures/diagnostics`. Their first lines list the expected diagnostics, in the
//! order of the file: `# expect: CODE PATH LINE:COLUMN SUGGESTION`, with `-` for the file as a
//! whole. The list is complete: an unexpected diagnostic fails the test.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use glyph_workflow_engine::{
    config::StepLibrary,
    parser::{
        DiagnosticCode, Report, Severity, ValidationError, check_workflow, check_workflow_bytes,
        parse_workflow, workflow_file_schema,
    },
};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/diagnostics")
}

#[expect(clippy::disallowed_methods, reason = "fixtures are files")]
fn read(name: &str) -> Vec<u8> {
    let path = fixtures().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn check(source: &[u8]) -> Report {
    check_workflow_bytes(source, &StepLibrary::built_in(), &[])
}

fn expected(source: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(source)
        .lines()
        .map_while(|line| line.strip_prefix("# expect: ").map(str::to_owned))
        .collect()
}

fn line_of(diagnostic: &ValidationError) -> String {
    let path = if diagnostic.path.is_empty() {
        "-"
    } else {
        &diagnostic.path
    };
    let place = |number: Option<usize>| number.map_or("?".to_owned(), |n| n.to_string());
    let (line, column) = (place(diagnostic.line), place(diagnostic.column));
    let suggestion = diagnostic.suggestion.as_deref().unwrap_or_default();
    let text = format!("{} {path} {line}:{column} {suggestion}", diagnostic.code);
    text.trim_end().to_owned()
}

#[test]
fn every_code_has_a_file_that_triggers_it_and_a_near_miss() {
    for code in DiagnosticCode::ALL {
        let faulty = read(&format!("{code}.yaml"));
        let report = check(&faulty);
        let found: Vec<String> = report.diagnostics.iter().map(line_of).collect();
        assert_eq!(
            found,
            expected(&faulty),
            "{code}.yaml\n{:#?}",
            report.diagnostics
        );
        assert!(
            report.diagnostics.iter().any(|d| d.code == *code),
            "{code}.yaml has no {code}"
        );
        assert_eq!(
            report.is_valid(),
            code.severity() == Severity::Warning,
            "{code}.yaml"
        );

        let near = read(&format!("{code}.ok.yaml"));
        let report = check(&near);
        let found: Vec<String> = report.diagnostics.iter().map(line_of).collect();
        assert_eq!(
            found,
            expected(&near),
            "{code}.ok.yaml\n{:#?}",
            report.diagnostics
        );
        assert!(
            report.diagnostics.iter().all(|d| d.code != *code),
            "{code}.ok.yaml has {code}"
        );
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "fixtures are files")]
fn every_file_belongs_to_a_code() {
    let known: BTreeSet<String> = DiagnosticCode::ALL
        .iter()
        .flat_map(|code| [format!("{code}.yaml"), format!("{code}.ok.yaml")])
        .collect();
    let found: BTreeSet<String> = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, known);
}

/// Expressions are assumed to leave a gap unless one of them is the negation of another.
#[test]
fn outcomes_that_no_expression_takes_are_warned_of() {
    let warned = |conditions: &[&str]| {
        let way = |condition: &&str| {
            format!("    - {{ from: a, to: _complete, condition: {condition} }}")
        };
        let transitions = conditions.iter().map(way).collect::<Vec<_>>().join("\n");
        let text = format!(
            "workflow:\n  id: w\n  steps:\n    - {{ id: a, type: annotation, completion: {{ type: annotation_count, \
             count: 2 }}, consensus: {{ field: l }} }}\n  transitions:\n{transitions}"
        );
        let report = check(text.as_bytes());
        assert!(report.is_valid(), "{:#?}", report.diagnostics);
        report
            .diagnostics
            .iter()
            .any(|d| d.code == DiagnosticCode::UnhandledOutcome)
    };
    let expression = |source: &str| format!("{{ type: expression, expression: \"{source}\" }}");
    let both = |one: &str, other: &str| warned(&[&expression(one), &expression(other)]);
    assert!(both("result.value == 1", "result.value == 2"));
    assert!(both("input.n > 1", "input.n < 1"));
    assert!(both("input.n > 1 && input.m", "input.n <= 1 && input.m"));
    assert!(!both("result.value == 1", "result.value != 1"));
    assert!(!both("input.n  >= 1", "input.n < 1"));
    assert!(!both("!(input.x)", "input.x"));
    assert!(warned(&["{ type: on_agreement }", &expression("input.x")]));
    assert!(!warned(&[
        "{ type: on_agreement }",
        &expression("input.x"),
        "{ type: always }"
    ]));
    let three = ["input.x", "!input.x && input.y", "!(input.x || input.y)"];
    assert!(!warned(
        &three.map(expression).each_ref().map(String::as_str)
    ));
}

/// Hooks of a step are checked like its handler; a name alone is enough.
#[test]
fn hooks_are_checked_like_handlers() {
    let report = check(
        b"workflow:
  id: demo
  steps:
    - id: annotate
      type: annotation
      hooks:
        pre_process: [finalise, { handler: webhook }, { handlr: queue }]
        on_start: [finalize, { handler: queue, timeout: 5m }]
        post_proces: [finalize]
        on_complete: [{ handler: webhook, config: { url: ftp://a.org } }]
    - { id: ask, type: conditional, hooks: {}, condition: { expression: 'true' }, true_branch: done, false_branch: done }
    - { id: done, type: auto_process, handler: finalize, hooks: { post_process: [{ handler: queue, timeout: 400d }] } }
  transitions:
    - { from: annotate, to: ask }
",
    );
    let found: Vec<String> = report.diagnostics.iter().map(line_of).collect();
    let hooks = "workflow.steps[0].hooks";
    assert_eq!(
        found,
        [
            format!("unknown_handler {hooks}.pre_process[0] 7:23 did you mean `finalize`?"),
            format!("missing_key {hooks}.pre_process[1] 7:33 add `url`"),
            format!("unknown_key {hooks}.pre_process[2].handlr 7:57 did you mean `handler`?"),
            format!("invalid_value {hooks}.on_start[0] 8:20 `on_start` calls `webhook`, `queue`"),
            format!(
                "misplaced_key {hooks}.on_start[1].timeout 8:48 an attempt at a webhook has its \
                 `timeout` in `config`"
            ),
            format!("unknown_key {hooks}.post_proces 9:9 did you mean `post_process`?"),
            format!(
                "invalid_value {hooks}.on_complete[0].config.url 10:58 write a URL as \
                 `https://example.org/path`"
            ),
            "misplaced_key workflow.steps[1].hooks 11:37 move them to the steps before or after it"
                .to_owned(),
            "out_of_range workflow.steps[2].hooks.post_process[0].timeout 12:109".to_owned(),
        ]
    );
}

#[test]
fn codes_are_named_and_explained() {
    for code in DiagnosticCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        assert!(code.explanation().ends_with('.'), "{code}");
    }
}

#[test]
fn diagnostics_have_these_keys_and_no_others() {
    let report = check(b"workflow: { id: x, stepz: 1 }");
    let value = serde_json::to_value(&report.diagnostics[0]).unwrap();
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    let wanted = [
        "code",
        "column",
        "line",
        "message",
        "path",
        "severity",
        "suggestion",
        "value",
    ];
    assert_eq!(
        keys.into_iter()
            .map(String::as_str)
            .collect::<BTreeSet<_>>(),
        BTreeSet::from(wanted)
    );
    assert_eq!(value["severity"], "error");
}

#[test]
fn only_an_empty_file_has_no_place() {
    let empty = check(b"");
    assert_eq!(empty.diagnostics.len(), 1);
    assert_eq!(
        (empty.diagnostics[0].line, empty.diagnostics[0].column),
        (None, None)
    );
    for source in [
        "\n",
        "# x",
        "~",
        "\u{feff}",
        "---\n",
        "[]",
        "a: !x y",
        "workflow:",
        "\t",
        "{",
    ] {
        let report = check(source.as_bytes());
        assert!(!report.is_valid(), "{source:?}");
        for diagnostic in &report.diagnostics {
            assert!(diagnostic.line >= Some(1), "{source:?}: {diagnostic:?}");
            assert!(diagnostic.column >= Some(1), "{source:?}: {diagnostic:?}");
        }
    }
}

/// A typo in each kind of name gets the intended name as its suggestion.
#[test]
fn did_you_mean() {
    let source = "workflow:
  id: slips
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, cuont: 2 }
      consensus: { metric: krippendorf_alpha, on_disagreement: { strategy: adjudicate } }
    - { id: check, ref: reveiw }
    - { id: done, type: auto_process, handler: result_merge }
  transitions:
    - { from: anotate, to: check }
    - { from: check, to: _complet, condition: { type: on_agrement } }
    - { from: check, to: done, condition: { type: expression, expression: 'result.decison == \"reject\"' } }
    - { from: done, to: _complete, condition: { type: expression, expression: 'step[\"chek\"].completed' } }
    - { from: done, to: _failed, condition: { type: expression, expression: 'step[\"check\"].visit > 1' } }
";
    let report = check(source.as_bytes());
    let suggestions: Vec<&str> = report
        .diagnostics
        .iter()
        .filter_map(|d| {
            d.suggestion
                .as_deref()?
                .strip_prefix("did you mean `")?
                .strip_suffix("`?")
        })
        .collect();
    assert_eq!(
        suggestions,
        [
            "count",
            "krippendorff_alpha",
            "adjudication",
            "review",
            "result_merger",
            "annotate",
            "_complete",
            "on_agreement",
            "decision",
            "check",
            "visits",
        ],
        "{:#?}",
        report.diagnostics
    );
}

#[test]
fn one_slip_does_not_hide_the_others() {
    let report = check(
        b"workflow:
  id: many
  steps:
    - id: annotate
      typ: annotation
      complition: { type: annotation_count, count: 2, min_required: 5 }
    - id: reveiw
      type: review
    - id: lonely
      type: auto_process
      handler: finalise
  transitions:
    - { from: annotate, to: review, condition: { type: expression, expression: 'agrement > 1' } }
    - { from: annotate, to: _complete }
",
    );
    let found: Vec<String> = report.diagnostics.iter().map(line_of).collect();
    assert_eq!(
        found,
        [
            "unknown_key workflow.steps[0].typ 5:7 did you mean `type`?",
            "unknown_key workflow.steps[0].complition 6:7 did you mean `completion`?",
            "conflicting_keys workflow.steps[0].complition 6:19 lower `min_required` or raise `count`",
            "unreachable_step workflow.steps[2] 9:7",
            "unknown_handler workflow.steps[2].handler 11:16 did you mean `finalize`?",
            "unknown_step workflow.transitions[0].to 13:29 did you mean `reveiw`?",
            "bad_expression workflow.transitions[0].condition.expression 13:81 did you mean `agreement`?",
        ]
    );
    let error = parse_workflow("workflow: { id: x, stepz: 1 }").unwrap_err();
    assert_eq!(
        error.to_string(),
        "1:20: workflow.stepz: there is no key `stepz` here; did you mean `steps`?  (and 1 more)"
            .replace("  ", " ")
    );
}

#[test]
fn faults_inside_a_template_or_library_step_point_to_what_took_them() {
    let report = check(
        b"workflow:
  id: demo
  template: multi_adjudication
  overrides:
    steps:
      annotate: { completion: { min_required: 3, kount: 1 } }
      reveiw: {}
    transitions:
      - { from: annotate, to: _complete }
",
    );
    let found: Vec<String> = report.diagnostics.iter().map(line_of).collect();
    assert_eq!(
        found,
        [
            "unreachable_step workflow.template 3:13",
            "conflicting_keys workflow.overrides.steps.annotate.completion 6:31 lower `min_required` or raise `count`",
            "unknown_key workflow.overrides.steps.annotate.completion.kount 6:50 did you mean `count`?",
            "unknown_step workflow.overrides.steps.reveiw 7:7 its steps are `annotate`, `adjudicate`",
        ]
    );
}

/// Mistakes that no similar name explains, each with its message and its fix.
#[test]
fn common_slips_are_explained() {
    let steps = |steps: &str| format!("workflow:\n  id: w\n  steps:\n    - {steps}\n");
    let annotation = |keys: &str| steps(&format!("{{ id: a, type: annotation, {keys} }}"));
    let conditional = |keys: &str| {
        let other = "{ id: b, type: annotation }";
        steps(&format!(
            "{{ id: a, type: conditional, {keys} }}\n    - {other}"
        ))
    };
    let asking = |expression: &str| {
        let condition = format!("condition: {{ expression: \"{expression}\" }}");
        conditional(&format!(
            "{condition}, true_branch: b, false_branch: _failed"
        ))
    };
    let way = |way: &str| format!("{}  transitions:\n    - {way}\n", annotation(""));
    for (source, said) in [
        (
            annotation("timeout: 3h"),
            "`timeout` stands inside `completion`",
        ),
        (
            annotation("consensus: { method: majority_vote }"),
            "`method` stands inside `on_agreement`",
        ),
        (
            annotation("") + "  goals: []\n",
            "`goals` stands beside `workflow`, not inside",
        ),
        (
            annotation("") + "steps: []\n",
            "`steps` stands inside `workflow`",
        ),
        (
            annotation("consensus: { on_agreement: unanimous }"),
            "write `{ method: unanimous }`",
        ),
        (annotation("completion: manual"), "write `{ type: manual }`"),
        (
            annotation("assignment: { required_roles: nurse }"),
            "write `[nurse]`",
        ),
        (
            way("{ from: a, to: _complete, condition: on_agreement }"),
            "write `{ type: on_agreement }`",
        ),
        (
            way("{ from: a, to: _complete, condition: \"input.x\" }"),
            "write `{ type: expression, expression: \"input.x\" }`",
        ),
        (
            way("{ from: _complete, to: a }"),
            "`_complete` is an end, not a step",
        ),
        (
            conditional("condition: \"input.x\", true_branch: b"),
            "write `{ expression: \"input.x\" }`",
        ),
        (
            conditional("condition: { type: expression, expression: \"input.x\" }, true_branch: b"),
            "leave it out: a conditional step always asks an expression",
        ),
        (
            conditional("condition: { expression: \"input.x\" }, true_branch: b"),
            "nothing follows when the condition is false",
        ),
        (asking("input.x = 1"), "`=` compares nothing: write `==`"),
        (asking("input.x and input.y"), "write `&&`"),
        (asking("input.x | input.y"), "write `||`"),
        (asking("not input.x"), "write `!`"),
        (asking("input.x == 'a"), "the text has no closing quote"),
        (
            asking("input.x matches 'a'"),
            "`matches` is not expected here",
        ),
        (asking("input.x =="), "the expression ends too early"),
        (asking("input["), "the expression is not complete here"),
        (
            asking("99999999999999999999 > input.x"),
            "the number is too large",
        ),
        (asking("lower(input.x) == 'a'"), "known are all, bool, "),
        (
            asking("step.first-pass.completed"),
            "did you mean `step[\"first-pass\"]`?",
        ),
        (
            asking("annotation.größe > 1"),
            "did you mean `annotation[\"größe\"]`?",
        ),
        (
            asking("input.tags.map(t, t) == []"),
            "annotations.exists(a, a.flag == true)",
        ),
        (
            asking("agreement > 'x'"),
            "the expression fails whenever it is asked",
        ),
        (
            asking("1 + 'a' == 2"),
            "the expression fails whenever it is asked",
        ),
        (
            annotation("join_mode: all, join_timeout: 0s"),
            "a join may wait from 1s to 366d",
        ),
        (
            annotation("consensus: { on_disagreement: adjudication }"),
            "write `{ strategy: adjudication }`",
        ),
        (
            annotation("completion: { type: confidence, target: .inf }"),
            "expected a number, found a text",
        ),
        (
            annotation(
                "typ: x, completion: { type: annotation_count, count: 18446744073709551617 }",
            ),
            "it is beyond 64 bits",
        ),
        (
            annotation("completion: { type: annotation_count, count: two }")
                + "goals:\n  - { id: g, type: composite, \
             operator: and, goals: [g] }\n",
            "there is no other goal: remove it",
        ),
    ] {
        let found = check(source.as_bytes()).diagnostics;
        let says = |d: &ValidationError| {
            let suggestion = d.suggestion.as_deref().unwrap_or_default();
            d.message.contains(said) || suggestion.contains(said)
        };
        assert!(found.iter().any(says), "{source}{found:#?}");
    }
    // A transition that was only guessed closes no cycle.
    let looped = way("{ from: a, to: alfa, loop: { max_iterations: 2, on_exhausted: alpa } }")
        .replace(
            "  transitions",
            "    - { id: alfa, type: annotation }\n  transitions",
        );
    let found = check(looped.as_bytes()).diagnostics;
    assert_eq!(found.len(), 1, "{found:#?}");
    let back = looped.replace("from: a, to: alfa", "from: alfa, to: alfa");
    let found = check(back.as_bytes()).diagnostics;
    assert!(
        found
            .iter()
            .all(|d| d.code != DiagnosticCode::UnmarkedCycle),
        "{found:#?}"
    );
    // A value that is reported as another error is no basis for a warning.
    let counted = "workflow:
  id: w
  steps:
    - { id: a, type: annotation, completion: { type: annotation_count, count: two }, consensus: { field: l } }
    - { id: b, type: adjudication }
  transitions:
    - { from: a, to: _complete, condition: { type: on_agreement } }
    - { from: a, to: b, condition: { type: on_disagreement } }
";
    let found: Vec<_> = check(counted.as_bytes()).diagnostics;
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn a_programs_own_handlers_and_steps_are_known() {
    let source = "workflow:
  id: own
  steps:
    - { id: label, ref: house-style }
    - { id: notify, type: auto_process, handler: send-mail, config: { to: someone } }
  transitions:
    - { from: label, to: notify }
";
    let mut library = StepLibrary::empty();
    library.insert("house-style", serde_json::json!({"type": "annotation"}));
    let report = check_workflow(source, &library, &["send-mail"]);
    assert_eq!(report.diagnostics, []);
    assert!(!check_workflow(source, &library, &[]).is_valid());
}

fn codes_of(source: &str) -> Vec<&'static str> {
    let diagnostics = check(source.as_bytes()).diagnostics;
    diagnostics.iter().map(|d| d.code.as_str()).collect()
}

/// No template can know the roles of a team, so the one with an adjudicator asks for them.
#[test]
fn templates_are_valid_and_warn_of_missing_roles_only() {
    for (template, warnings) in [
        ("single", &[][..]),
        ("multi_adjudication", &["late_verdict"]),
        ("review_required", &[]),
        ("iterative_refinement", &[]),
    ] {
        let source = format!("workflow: {{ id: x, template: {template} }}");
        assert_eq!(codes_of(&source), warnings, "{template}");
    }
    let roles = "{ steps: { adjudicate: { assignment: { required_roles: [lead] } } } }";
    let source = format!("workflow: {{ id: x, template: multi_adjudication, overrides: {roles} }}");
    assert_eq!(codes_of(&source), [""; 0]);
}

/// As the last step of a workflow that nothing follows.
#[test]
fn built_in_library_steps_are_valid_and_warn_of_what_is_left_open() {
    for name in StepLibrary::built_in().names() {
        let source = format!(
            "workflow:
  id: x
  steps: [{{ id: a, ref: dual-annotation }}, {{ id: b, ref: {name} }}]
  transitions: [{{ from: a, to: b }}]
"
        );
        let warnings: &[&str] = match name {
            "adjudication" => &["late_verdict"],
            "dual-annotation" => &["unhandled_outcome"],
            "review" => &["refused_output"],
            _ => &[],
        };
        assert_eq!(codes_of(&source), warnings, "{name}");
    }
}

/// A workflow with these steps and transitions, one a line.
fn workflow(settings: &str, steps: &[&str], transitions: &[&str]) -> String {
    let lines = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| format!("    - {line}\n")).collect();
        lines.concat()
    };
    format!(
        "workflow:\n  id: w\n  settings: {{ {settings} }}\n  steps:\n{}  transitions:\n{}",
        lines(steps),
        lines(transitions)
    )
}

/// The hints of one kind of diagnostic.
fn hints_of(source: &str, code: DiagnosticCode) -> Vec<String> {
    let found = check(source.as_bytes()).diagnostics.into_iter();
    found
        .filter(|d| d.code == code)
        .map(|d| d.suggestion.unwrap_or_default())
        .collect()
}

const LABEL: &str = "{ id: a, type: annotation, completion: { type: annotation_count, count: 2 }, consensus: { field: l } }";
const PARALLEL: &str = "allow_parallel_steps: true";

/// An expression that fails whenever it is asked at its place is an error, as one that fails
/// everywhere is.
#[test]
fn expressions_that_fail_where_they_stand_are_refused() {
    let one = "{ id: a, type: annotation, field: l }";
    let asks = |step: &str, expression: &str| {
        let condition = format!("condition: {{ type: expression, expression: \"{expression}\" }}");
        let source = workflow(
            "",
            &[step, "{ id: b, type: annotation }"],
            &[
                &format!("{{ from: a, to: b, {condition} }}"),
                "{ from: a, to: _complete }",
            ],
        );
        codes_of(&source)
    };
    for failing in [
        "agreement < 0.8",
        "result.agreement >= 0.5 || agreement < 0.2",
        "agreement > annotation.least",
    ] {
        assert_eq!(asks(one, failing), ["bad_expression"], "{failing}");
    }
    for fine in [
        "agreement == null || agreement < 0.8",
        "annotation.sure || agreement < 0.8",
        "result.value.x == 1",
    ] {
        assert_eq!(asks(one, fine), [""; 0], "{fine}");
    }
    assert_eq!(
        asks(one, "agreement != null && agreement < 0.8"),
        ["dead_transition"],
        "it does not fail, and never holds"
    );
    assert_eq!(
        asks(LABEL, "agreement < 0.8"),
        [""; 0],
        "two people agree to a degree"
    );

    // The same for the expression of a conditional step, by the steps before it.
    let routes = |step: &str, expression: &str| {
        let route = format!(
            "{{ id: route, type: conditional, condition: {{ expression: \"{expression}\" }}, true_branch: b, \
             false_branch: _complete }}"
        );
        let steps = [step, &route, "{ id: b, type: annotation }"];
        codes_of(&workflow("", &steps, &["{ from: a, to: route }"]))
    };
    assert_eq!(routes(one, "agreement >= 0.8"), ["bad_expression"]);
    assert_eq!(routes(LABEL, "agreement >= 0.8"), [""; 0]);
    let first = |expression: &str| {
        let route = format!(
            "{{ id: route, type: conditional, condition: {{ expression: \"{expression}\" }}, true_branch: b, \
             false_branch: _complete }}"
        );
        codes_of(&workflow("", &[&route, "{ id: b, type: annotation }"], &[]))
    };
    assert_eq!(
        first("annotation.x == 1"),
        ["bad_expression"],
        "nobody has annotated"
    );
    assert_eq!(first("input.x == 1"), [""; 0]);

    // And for the input of a child.
    let child = |mapped: &str| {
        let child = format!(
            "{{ id: c, type: sub_workflow, workflow: other, input_mapping: {{ x: \"{mapped}\" }} }}"
        );
        codes_of(&workflow("", &[one, &child], &["{ from: a, to: c }"]))
    };
    assert_eq!(child("agreement * 2.0"), ["bad_expression"]);
    assert_eq!(child("agreement"), [""; 0], "null is an input");
}

/// Whether a decision or an agreement decides an expression is read from its syntax.
#[test]
fn expressions_are_decided_by_what_a_step_can_end_with() {
    let review = |conditions: &[&str]| {
        let ways: Vec<String> = conditions
            .iter()
            .map(|condition| format!("{{ from: r, to: _failed, condition: {condition} }}"))
            .collect();
        let mut transitions = vec!["{ from: a, to: r }"];
        transitions.extend(ways.iter().map(String::as_str));
        codes_of(&workflow(
            "",
            &[LABEL, "{ id: r, type: review }"],
            &transitions,
        ))
    };
    let expression = |source: &str| format!("{{ type: expression, expression: \"{source}\" }}");
    let of = |sources: &[&str]| {
        let conditions: Vec<String> = sources.iter().map(|source| expression(source)).collect();
        review(&conditions.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(
        of(&[
            "result['decision'] in ['approve', 'fix']",
            "result.decision.startsWith('re')"
        ]),
        [""; 0]
    );
    assert_eq!(
        of(&["result.decision == 'approved'"]),
        ["dead_transition", "unhandled_outcome"]
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
    );
    assert_eq!(
        of(&["result.value == null", "result.value != null"]),
        [""; 0],
        "one is the opposite of the other"
    );
    assert_eq!(
        of(&[
            "agreement == null || agreement < 0.5",
            "agreement != null && agreement >= 0.5"
        ]),
        [""; 0]
    );
    assert_eq!(
        of(&[
            "agreement == null || agreement < 0.5",
            "agreement != null && agreement > 0.5"
        ]),
        ["unhandled_outcome"],
        "0.5 itself"
    );
    // Texts with signs of comparison in them are texts.
    assert_eq!(
        of(&["annotation.t == 'a<b'", "annotation.t == 'a>=b'"]),
        ["unhandled_outcome"]
    );
}

#[test]
fn hints_of_warnings_help() {
    let dead = |source: &str| hints_of(source, DiagnosticCode::DeadTransition);
    let open = |source: &str| hints_of(source, DiagnosticCode::UnhandledOutcome);
    let b = "{ id: b, type: annotation }";
    let c = "{ id: c, type: annotation }";
    // What never happens is not helped by a priority.
    let list = "{ id: a, type: annotation, completion: { type: annotation_count, count: 3 } }";
    let source = workflow(
        "",
        &[list, b],
        &[
            "{ from: a, to: _complete, condition: { type: on_agreement } }",
            "{ from: a, to: b, condition: { type: on_disagreement } }",
        ],
    );
    assert_eq!(
        dead(&source),
        ["remove it, or let `consensus` compare the annotations"]
    );
    let source = workflow(
        "",
        &[LABEL, b],
        &[
            "{ from: a, to: b }",
            "{ from: a, to: _complete, condition: { type: on_agreement } }",
        ],
    );
    assert_eq!(dead(&source), ["raise its `priority`, or remove it"]);
    // Raised, it would make the other one dead.
    let source = workflow(
        "",
        &[LABEL, b],
        &[
            "{ from: a, to: b, condition: { type: always } }",
            "{ from: a, to: _complete, condition: { type: always } }",
        ],
    );
    assert_eq!(dead(&source), ["remove one of the two"]);

    // Where every match fires, a last transition without condition would fork.
    let asks = |source: &str| format!("condition: {{ type: expression, expression: '{source}' }}");
    let ways = [
        format!("{{ from: a, to: b, {} }}", asks("annotation.k == 1")),
        format!("{{ from: a, to: c, {} }}", asks("annotation.k == 2")),
    ];
    let ways: Vec<&str> = ways.iter().map(String::as_str).collect();
    let one = "{ id: a, type: annotation }";
    assert_eq!(
        open(&workflow(PARALLEL, &[one, b, c], &ways)),
        ["add a transition for the rest: `!(annotation.k == 1) && !(annotation.k == 2)`"]
    );
    assert_eq!(
        open(&workflow("", &[one, b, c], &ways)),
        ["add a transition for it, or a last one without condition"]
    );
    let forks = [
        "{ from: a, to: b, condition: { type: on_agreement } }",
        "{ from: a, to: c, condition: { type: on_agreement } }",
    ];
    assert_eq!(
        open(&workflow(PARALLEL, &[LABEL, b, c], &forks)),
        ["add a transition with `condition: { type: on_disagreement }`"]
    );
}

/// An adjudicator always gives a value, so `approve` behind one ends with a value.
#[test]
fn a_review_has_a_value_to_approve_where_one_was_made() {
    let steps = |judge: &str| {
        let review = "{ id: review, type: review }";
        let ways = [
            "{ from: a, to: review, condition: { type: on_agreement } }",
            "{ from: a, to: judge, condition: { type: on_disagreement } }",
            "{ from: judge, to: review }",
            "{ from: review, to: _complete, condition: { type: on_agreement } }",
            "{ from: review, to: _failed, condition: { type: expression, expression: \"result.decision in ['reject', 'request_changes']\" } }",
        ];
        codes_of(&workflow("", &[LABEL, judge, review], &ways))
    };
    let judge = "{ id: judge, type: adjudication, assignment: { required_roles: [lead] } }";
    assert_eq!(steps(judge), [""; 0]);
    // A handler may make nothing of it.
    let machine = "{ id: judge, type: auto_process, handler: finalize }";
    assert_eq!(steps(machine), ["unhandled_outcome"]);
}

#[test]
fn settings_that_change_nothing_side_by_side_are_warned_of() {
    let paths = |source: &str| -> Vec<String> {
        let found = check(source.as_bytes()).diagnostics.into_iter();
        let found = found.filter(|d| d.code == DiagnosticCode::NoEffect);
        found.map(|d| d.path).collect()
    };
    let steps = [
        "{ id: a, type: annotation }",
        "{ id: b, type: annotation, join_timeout: 1h }",
        "{ id: c, type: annotation, join_timeout: 1h }",
    ];
    let line = ["{ from: a, to: b }", "{ from: b, to: c }"];
    assert_eq!(
        paths(&workflow(PARALLEL, &steps, &line)),
        [
            "workflow.settings.allow_parallel_steps",
            "workflow.steps[1].join_timeout",
            "workflow.steps[2].join_timeout"
        ]
    );
    let fork = [
        "{ from: a, to: b, priority: 5 }",
        "{ from: a, to: c }",
        "{ from: b, to: c }",
    ];
    assert_eq!(
        paths(&workflow(PARALLEL, &steps, &fork)),
        [
            "workflow.steps[1].join_timeout",
            "workflow.transitions[0].priority"
        ]
    );
    assert_eq!(
        paths(&workflow("", &steps, &line)),
        [
            "workflow.steps[1].join_timeout",
            "workflow.steps[2].join_timeout"
        ]
    );
    // Opposite conditions fork nothing.
    let choice = [
        "{ from: a, to: b, condition: { type: on_agreement } }",
        "{ from: a, to: c, condition: { type: on_disagreement } }",
    ];
    let both = [
        LABEL,
        "{ id: b, type: annotation }",
        "{ id: c, type: annotation }",
    ];
    assert_eq!(
        paths(&workflow(PARALLEL, &both, &choice)),
        ["workflow.settings.allow_parallel_steps"]
    );
}

#[test]
fn a_calculator_asks_nobody() {
    let hints = |config: &str| {
        let calculator = format!(
            "{{ id: c, type: auto_process, handler: consensus_calculator, config: {{ {config} }} }}"
        );
        let source = workflow(
            "",
            &[
                "{ id: a, type: annotation, completion: { type: annotation_count, count: 3 } }",
                &calculator,
            ],
            &["{ from: a, to: c }"],
        );
        hints_of(&source, DiagnosticCode::NoEffect)
    };
    let beside = "or move the rule to the `consensus` of the annotation step";
    assert_eq!(
        hints("on_disagreement: { strategy: additional_annotators, fallback: majority_vote }"),
        [format!(
            "write `majority_vote` and remove `fallback`, {beside}"
        )]
    );
    assert_eq!(
        hints("on_disagreement: { strategy: majority_vote }, tie_breaker: additional_annotator"),
        [format!("write `adjudication`, {beside}")]
    );
    assert_eq!(
        hints("on_disagreement: { strategy: majority_vote }"),
        [""; 0]
    );
}

/// A hint that is followed leads to no other error.
#[test]
fn hints_for_values_can_be_followed() {
    let hints = |source: &str| -> Vec<String> {
        let found = check(source.as_bytes()).diagnostics;
        assert_eq!(found.len(), 1, "{source}{found:#?}");
        found.into_iter().filter_map(|d| d.suggestion).collect()
    };
    let annotation = |keys: &str| {
        workflow(
            "",
            &[&format!("{{ id: a, type: annotation, {keys} }}")],
            &[],
        )
    };
    let timeout = |value: &str| {
        annotation(&format!(
            "completion: {{ type: annotation_count, timeout: {value} }}"
        ))
    };
    assert_eq!(hints(&timeout("90")), ["write `90s`"]);
    assert_eq!(hints(&timeout("\"90\"")), ["write `90s`"]);
    assert_eq!(hints(&timeout("2 hours")), ["write `2h`"]);
    assert_eq!(hints(&timeout("1.5")), [""; 0]);
    assert_eq!(hints(&timeout("soon")), [""; 0]);
    assert_eq!(hints(&annotation("name: 5")), ["write it in quotes: \"5\""]);
    let count = |value: &str| {
        annotation(&format!(
            "completion: {{ type: annotation_count, count: {value} }}"
        ))
    };
    assert_eq!(hints(&count("\"2\"")), ["write it without quotes: 2"]);
    assert_eq!(hints(&count("\"2.5\"")), [""; 0]);
    assert_eq!(hints(&count("2.5")), [""; 0]);
    assert_eq!(
        codes_of(&count("2.0")),
        [""; 0],
        "a whole number, as to JSON Schema"
    );
    assert_eq!(
        hints("workflow: { id: 1, steps: [{ id: a, type: annotation }] }"),
        ["write it in quotes: \"1\""]
    );
    assert_eq!(
        hints("workflow: { id: -1.5, steps: [{ id: a, type: annotation }] }"),
        ["write `1-5`"]
    );
    let found = check(b"workflow: { id: x, steps: a }").diagnostics;
    assert_eq!(found[0].suggestion, None, "{found:#?}");
}

/// One slip draws no faults of other parts after it.
#[test]
fn one_slip_is_one_fault() {
    let faults = |source: &str| -> Vec<String> {
        let report = check(source.as_bytes());
        let lines = report.diagnostics.iter().map(line_of);
        lines.collect()
    };
    // A step that cannot be named leads somewhere unknown.
    let numbered = workflow(
        "",
        &[
            "{ id: 1, type: annotation }",
            "{ id: two, type: annotation }",
            "{ id: three, type: annotation }",
        ],
        &["{ from: 1, to: two }", "{ from: two, to: 3 }"],
    );
    let found = faults(&numbered);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found.iter().all(|fault| fault.starts_with("wrong_type ")),
        "{found:#?}"
    );
    let nowhere = workflow(
        "",
        &["{ id: a, type: annotation }", "{ id: b, type: annotation }"],
        &["{ from: a, to: banana }"],
    );
    assert_eq!(
        faults(&nowhere),
        ["unknown_step workflow.transitions[0].to 8:22 the steps are `a`, `b`"]
    );

    // A key that stands beside its mapping is read where it belongs.
    let hook = workflow(
        "",
        &[
            "{ id: a, type: annotation, hooks: { post_process: [{ handler: webhook, url: https://x.org }] } }",
        ],
        &[],
    );
    assert_eq!(
        faults(&hook),
        [
            "unknown_key workflow.steps[0].hooks.post_process[0].url 5:78 `url` stands inside `config`"
        ]
    );
    let handler = workflow(
        "",
        &["{ id: a, type: auto_process, handler: webhook, url: https://x.org, timeout: 61s }"],
        &[],
    );
    let found = faults(&handler);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[2].starts_with("out_of_range workflow.steps[0].timeout"),
        "{found:#?}"
    );
    let cycle = workflow(
        "",
        &["{ id: a, type: annotation }", "{ id: r, type: review }"],
        &[
            "{ from: a, to: r }",
            "{ from: r, to: _complete, condition: { type: on_agreement } }",
            "{ from: r, to: a, condition: { type: on_disagreement }, max_iterations: 3 }",
        ],
    );
    let found = faults(&cycle);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].ends_with("`max_iterations` stands inside `loop`"),
        "{found:#?}"
    );

    // Library steps are flat.
    let library = "workflow:
  id: lib
  steps:
    - { id: one, ref: triple, overrides: { consensus: { threshold: 0.5 } } }
    - { id: two, ref: odd }
  transitions:
    - { from: one, to: two }
step_library:
  triple: { ref: dual-annotation, overrides: { completion: { count: 3 } } }
  odd: { ref: triple }
";
    assert_eq!(
        faults(library),
        [
            "unknown_key step_library.triple.ref 9:13 write the keys of `dual-annotation` out here",
            "unknown_key step_library.odd.ref 10:10 write the keys of `triple` out here",
        ]
    );
}

/// What is written over a template or library step is at fault, not what was there before.
#[test]
fn bad_overrides_are_reported_where_they_are_written() {
    let report = check(
        b"workflow:
  id: demo
  template: multi_adjudication
  overrides:
    steps:
      annotate: { type: review }
      adjudicate: { completion: { type: annotation_count } }
",
    );
    let found: Vec<String> = report.diagnostics.iter().map(line_of).collect();
    assert_eq!(
        found,
        [
            "misplaced_key workflow.overrides.steps.annotate.type 6:25 leave its type as it is, or take another \
             step with `ref`",
            "misplaced_key workflow.overrides.steps.adjudicate.completion.type 7:41 it completes by `review_decision`",
        ]
    );
    assert!(
        report.diagnostics[0]
            .message
            .contains("`consensus`, `completion`"),
        "{:?}",
        report.diagnostics[0]
    );
    let report = check(
        b"workflow:
  id: demo
  steps:
    - id: a
      ref: dual-annotation
      overrides: { completion: { type: confidence } }
    - { id: b, ref: own, overrides: { type: annotation } }
  transitions: [{ from: a, to: b }]
step_library:
  own: { type: auto_process, handler: finalize }
",
    );
    let found: Vec<String> = report.diagnostics.iter().map(line_of).collect();
    let goes = "with it go `target`, `targets`, `min`, `max`, `classes`, `on_unsure`, `unique_annotators`, `timeout`, `timeout_action`";
    assert_eq!(
        found,
        [
            format!("misplaced_key workflow.steps[0].overrides.completion.type 6:34 {goes}"),
            "misplaced_key workflow.steps[1].overrides.type 7:45 leave its type as it is, or take another step \
             with `ref`".to_owned(),
        ]
    );
}

/// A refusal is heard where the way on depends on it, however it is asked.
#[test]
fn refusals_that_nobody_hears_are_warned_of() {
    let steps = |route: &str| {
        let route = format!(
            "{{ id: route, type: conditional, condition: {{ expression: \"{route}\" }}, true_branch: _complete, \
             false_branch: again }}"
        );
        let steps = [
            "{ id: a, type: annotation }",
            "{ id: look, type: review }",
            "{ id: note, type: auto_process, handler: finalize }",
            &route,
            "{ id: again, type: annotation }",
        ];
        let ways = [
            "{ from: a, to: look }",
            "{ from: look, to: note }",
            "{ from: note, to: route }",
        ];
        codes_of(&workflow("", &steps, &ways))
    };
    assert_eq!(
        steps("step.look.result.decision in ['approve', 'fix']"),
        [""; 0]
    );
    assert_eq!(steps("step['look'].result.value != null"), [""; 0]);
    assert_eq!(
        steps("step.look.result.decision != 'reject'"),
        ["refused_output"]
    );
    assert_eq!(steps("input.done"), ["refused_output"]);
}

/// Limits keep the work small; the deadline is generous, as debug builds on busy machines are slow.
#[test]
fn hostile_files_are_refused_quickly() {
    for (name, source) in glyph_hostile_files::files() {
        #[expect(
            clippy::disallowed_methods,
            reason = "measures the parser, not the engine's time"
        )]
        let start = Instant::now();
        let report = check(&source);
        #[expect(
            clippy::disallowed_methods,
            reason = "measures the parser, not the engine's time"
        )]
        let spent = start.elapsed();
        assert!(!report.is_valid(), "{name}");
        assert!(
            !report.diagnostics.is_empty() && report.diagnostics.len() <= 500,
            "{name}"
        );
        let length: usize = report.diagnostics.iter().map(|d| d.to_string().len()).sum();
        assert!(length < 1 << 20, "{name}: {length} bytes of messages");
        assert!(spent < Duration::from_secs(20), "{name}: {spent:?}");
    }
}

#[test]
fn the_schema_for_editors_describes_what_is_written() {
    let schema = workflow_file_schema();
    let step = &schema["$defs"]["StepConfig"];
    for key in ["id", "type", "ref", "overrides", "completion"] {
        assert!(step["properties"][key].is_object(), "{key}");
        assert!(
            step["properties"][key]["description"].is_string()
                || step["properties"][key]["$ref"].is_string(),
            "{key}"
        );
    }
    let body = &schema["$defs"]["WorkflowBody"];
    assert!(
        body["properties"]["template"]["enum"]
            .as_array()
            .is_some_and(|names| names.len() == 4)
    );
    let text = schema.to_string();
    for name in text
        .split("\"#/$defs/")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        assert!(schema["$defs"][name].is_object(), "{name} is not defined");
    }
}

#[test]
fn rules_for_single_fields_are_checked() {
    let found = |consensus: &str| -> Vec<String> {
        let yaml = format!(
            "workflow:\n  id: demo\n  steps:\n    - id: annotate\n      type: annotation\n      \
             completion: {{ type: annotation_count, count: 2 }}\n      consensus: {consensus}\n  \
             transitions: [{{ from: annotate, to: _complete }}]\n"
        );
        let diagnostics = check(yaml.as_bytes()).diagnostics;
        let short = |d: &ValidationError| {
            let path = d.path.replace("workflow.steps[0].consensus", "~");
            format!("{} {path} {}", d.code, d.column.unwrap_or_default())
        };
        diagnostics.iter().map(short).collect()
    };
    let nothing: [&str; 0] = [];
    assert_eq!(found("{ per_field: { label: {} } }"), nothing);
    assert_eq!(
        found("{ mode: weighted, per_field: { a.b: { weight: 2, threshold: 0.5 }, c: {} } }"),
        nothing
    );
    assert_eq!(
        found("{ level: ordinal, per_field: { a: { metric: krippendorff_alpha } } }"),
        ["unordered_scale ~.per_field.a 52"],
        "the field takes the level of the block"
    );
    assert_eq!(found("{ mode: weighted }"), ["misplaced_key ~.mode 20"]);
    assert_eq!(
        found("{ field: label, per_field: { label: {} } }"),
        ["conflicting_keys ~ 18"]
    );
    assert_eq!(found("{ per_field: {} }"), ["out_of_range ~.per_field 31"]);
    let many: Vec<String> = (0..101).map(|n| format!("f{n}: {{}}")).collect();
    let many = format!("{{ per_field: {{ {} }} }}", many.join(", "));
    assert_eq!(found(&many), ["out_of_range ~.per_field 31"]);
    assert_eq!(
        found("{ per_field: { a..b: {} } }"),
        ["invalid_value ~.per_field[\"a..b\"] 33"]
    );
    for weight in ["0", "-1", "1001"] {
        let rule = format!("{{ mode: weighted, per_field: {{ a: {{ weight: {weight} }} }} }}");
        assert_eq!(
            found(&rule),
            ["out_of_range ~.per_field.a.weight 62"],
            "{weight}"
        );
    }
    assert_eq!(
        found("{ per_field: { a: { metrik: cohen_kappa } } }"),
        ["unknown_key ~.per_field.a.metrik 38"]
    );
    assert_eq!(
        found("{ per_field: { a: { level: ordinal } } }"),
        ["unordered_scale ~.per_field.a 36"]
    );
    assert_eq!(
        found("{ mode: some, per_field: { a: {} } }"),
        ["invalid_value ~.mode 26"]
    );
}

#[test]
fn a_value_by_half_its_name_is_suggested_in_full() {
    let yaml = "workflow:
  id: x
  steps:
    - { id: a, type: annotation, completion: { type: count, count: 2 }, consensus: { metric: kappa } }
  transitions: [{ from: a, to: _complete }]
";
    let report = check(yaml.as_bytes());
    let found: Vec<String> = report.diagnostics.iter().map(line_of).collect();
    assert_eq!(
        found,
        [
            "invalid_value workflow.steps[0].completion.type 4:54 did you mean `annotation_count`?",
            "invalid_value workflow.steps[0].consensus.metric 4:94 did you mean `cohen_kappa`?",
        ]
    );
}

/// The largest files allowed, in the most expensive shape: all steps in parallel with each other.
#[test]
fn the_largest_files_are_checked_quickly() {
    let steps = |keys: &str| -> String {
        (0..500).fold(String::new(), |steps, n| {
            steps + &format!("    - {{ id: s{n}, {keys} }}\n")
        })
    };
    let file = |steps: String, transitions: String| {
        format!(
            "workflow:\n  id: x\n  settings: {{ allow_parallel_steps: true }}\n  steps:\n{steps}  \
             transitions:\n{transitions}"
        )
    };
    let way = |from: usize, to: usize, rest: &str| {
        format!("    - {{ from: s{from}, to: s{to}{rest} }}\n")
    };
    let fan: String = (1..499)
        .flat_map(|n| {
            let back = ", condition: { type: on_disagreement }, loop: { max_iterations: 2, on_exhausted: _failed }";
            [way(0, n, ""), way(n, 499, ""), way(n, n, back), way(n, (n % 498) + 1, back)]
        })
        .collect();
    let layers: String = (0..1_990)
        .map(|n| way(n / 4, (n / 4 + 1 + n % 4).min(499), ""))
        .collect();
    let rounds: String = (0..499)
        .flat_map(|n| {
            let back = ", condition: { type: expression, expression: 'input.again' }, loop: { max_iterations: 1000, on_exhausted: _failed }";
            [way(n, n + 1, ""), way(n, n / 2, back), way(n, n / 3, back)]
        })
        .collect();
    let people = "type: review";
    let machines = "type: auto_process, handler: finalize";
    for (name, source) in [
        ("fan", file(steps(people), fan.clone())),
        (
            "fan of joins",
            file(
                steps("type: annotation, join_mode: any").replacen(", join_mode: any", "", 1),
                fan,
            ),
        ),
        ("layers", file(steps(people), layers)),
        ("rounds", file(steps(machines), rounds.clone())),
        (
            "rounds of one branch",
            file(steps(machines), rounds).replace("true", "false"),
        ),
    ] {
        #[expect(
            clippy::disallowed_methods,
            reason = "measures the parser, not the engine's time"
        )]
        let start = Instant::now();
        let report = check(source.as_bytes());
        #[expect(
            clippy::disallowed_methods,
            reason = "measures the parser, not the engine's time"
        )]
        let spent = start.elapsed();
        let codes: BTreeSet<&str> = report.diagnostics.iter().map(|d| d.code.as_str()).collect();
        println!("{name}: {spent:?} {codes:?}");
        assert!(
            report.is_valid(),
            "{name}: {:#?}",
            report.diagnostics.first()
        );
        assert!(spent < Duration::from_secs(20), "{name}: {spent:?}");
    }
}

#[test]
fn the_nul_character_is_refused_wherever_it_stands() {
    let file = "workflow: {id: w, name: \"a\\0b\", \
                steps: [{id: a, type: annotation, classes: [\"\\0\", b], \"k\\0\": 1}]}\n";
    let report = check(file.as_bytes());
    let faults: Vec<(&str, &str)> = report
        .diagnostics
        .iter()
        .map(|d| (d.code.as_str(), d.message.as_str()))
        .collect();
    let text = ("invalid_value", "the text holds the NUL character");
    let key = ("invalid_value", "the key holds the NUL character");
    assert_eq!(faults[0], text);
    assert!(faults.contains(&key), "{faults:?}");
    assert_eq!(faults.iter().filter(|fault| **fault == text).count(), 2);
    let escaped = file.replace("\\0", "\\\\0").replace(", \"k\\\\0\": 1", "");
    let faults = check(escaped.as_bytes()).diagnostics;
    assert!(
        faults.iter().all(|d| !d.message.contains("NUL")),
        "{faults:?}"
    );
}

#[test]
fn the_value_of_a_header_is_a_text_or_names_a_secret() {
    let faults = |value: &str| {
        let yaml = format!(
            "workflow:\n  id: w\n  steps:\n    - id: a\n      type: auto_process\n      handler: webhook\n      config: {{ url: 'https://h.example/', headers: {{ Authorization: {value} }} }}\n"
        );
        let report = check_workflow(&yaml, &StepLibrary::built_in(), &[]);
        let told = report.diagnostics.iter();
        told.map(|one| one.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(faults("Bearer"), Vec::<String>::new());
    assert_eq!(faults("{ secret: TOKEN-1 }"), Vec::<String>::new());
    assert_eq!(faults("{ secret: a b }"), ["`a b` is no name of a secret"]);
    assert_eq!(faults("{ secrets: a }"), ["there is no key `secrets` here"]);
    assert_eq!(faults("[a]").len(), 1);
}
