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

#[test]
fn templates_are_valid_without_warnings() {
    for template in [
        "single",
        "multi_adjudication",
        "review_required",
        "iterative_refinement",
    ] {
        let report = check(format!("workflow: {{ id: x, template: {template} }}").as_bytes());
        assert_eq!(report.diagnostics, [], "{template}");
    }
}

#[test]
fn built_in_library_steps_are_valid_without_warnings() {
    for name in StepLibrary::built_in().names() {
        let source = format!(
            "workflow:
  id: x
  steps: [{{ id: a, ref: dual-annotation }}, {{ id: b, ref: {name} }}]
  transitions: [{{ from: a, to: b }}]
"
        );
        assert_eq!(check(source.as_bytes()).diagnostics, [], "{name}");
    }
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
             completion: {{ type: annotation_count, count: 2 }}\n      consensus: {consensus}\n"
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
