//! Recorded tasks, decided again under other settings.

mod live;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::TimeDelta;
use glyph_workflow_engine::{
    WorkflowConfig,
    backtest::{
        Backtest, BacktestOptions, BacktestReport, ChangeError, ChangedWorkflow, Prices,
        UnknownKind, change_settings, read_setting,
    },
    command::{Command, EffectOutcome, Start},
    config::StepLibrary,
    events::StoredEvent,
    executor::HandlerRegistry,
    ids::WorkflowSelector,
    parse_workflow,
    store::{LogPage, LogPosition},
};
use serde_json::{Value, json};

use crate::scenario::{Scenario, TASK};

fn changed(yaml: &str, settings: &[&str]) -> ChangedWorkflow {
    let config = parse_workflow(yaml).unwrap_or_else(|e| panic!("{:#?}", e.diagnostics));
    change(&config, settings).unwrap()
}

fn change(config: &WorkflowConfig, settings: &[&str]) -> Result<ChangedWorkflow, ChangeError> {
    let settings: Result<Vec<_>, _> = settings.iter().map(|text| read_setting(text)).collect();
    change_settings(config, &settings?, &StepLibrary::built_in(), &[])
}

/// A log as a page.
fn page(log: &[StoredEvent]) -> LogPage {
    let position = |position| LogPosition { entry: 0, position };
    LogPage {
        entries: (1..).map(position).zip(log.iter().cloned()).collect(),
        through: position(i64::try_from(log.len()).unwrap()),
        read: u32::try_from(log.len()).unwrap(),
        is_last: true,
    }
}

/// The log of a task that ran on `recorded`, under another workflow.
fn backtested(
    recorded: &str,
    log: &[StoredEvent],
    changed: ChangedWorkflow,
    options: BacktestOptions,
) -> BacktestReport {
    let mut backtest = Backtest::new(changed, HandlerRegistry::built_in(), options).unwrap();
    let page = page(log);
    for revision in backtest.unknown_revisions(&page) {
        let mut config = parse_workflow(recorded).unwrap();
        config.revision_id = revision;
        backtest.know(Arc::new(config));
    }
    backtest.read(&page);
    backtest.finish(true)
}

pub(crate) fn plain(recorded: &str, scenario: &Scenario, settings: &[&str]) -> BacktestReport {
    let options = BacktestOptions::default();
    backtested(
        recorded,
        &scenario.log,
        changed(recorded, settings),
        options,
    )
}

/// The task of a scenario, under another workflow.
pub(crate) fn under(recorded: &str, scenario: &Scenario, other: &str) -> BacktestReport {
    let options = BacktestOptions::default();
    backtested(recorded, &scenario.log, changed(other, &[]), options)
}

/// What cannot be known, with its counts.
pub(crate) fn unknown(report: &BacktestReport) -> Vec<(UnknownKind, &str, u64)> {
    let unknown = report.unknown.iter();
    unknown
        .map(|one| (one.kind, one.step.as_deref().unwrap_or_default(), one.count))
        .collect()
}

/// Used, saved and unusable annotations.
pub(crate) fn uses(report: &BacktestReport) -> (u64, u64, u64) {
    let uses = report.annotations;
    (uses.used, uses.saved, uses.unusable)
}

const VOTES: &str = "
workflow:
  id: votes
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 3 }
      consensus: { field: label, threshold: 0.5 }
    - id: adjudicate
      type: adjudication
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
";

fn voted(labels: &[&str]) -> Scenario {
    let mut scenario = Scenario::started(VOTES);
    for (who, label) in (1..).zip(labels) {
        scenario.label("annotate", who, label);
    }
    scenario
}

#[test]
fn what_is_not_asked_for_any_more_is_saved() {
    let scenario = voted(&["a", "a", "a"]);
    let report = plain(VOTES, &scenario, &["completion.count=2"]);
    assert_eq!(report.changes[0].path, "steps.annotate.completion.count");
    assert_eq!(report.changes[0].before, json!(3));
    assert_eq!(uses(&report), (2, 1, 0));
    assert_eq!(
        (report.recorded.annotations, report.simulated.annotations),
        (3, 2)
    );
    assert_eq!(
        (report.recorded.completed, report.simulated.completed),
        (1, 1)
    );
    assert_eq!((report.answers.both, report.answers.same), (1, 1));
    assert_eq!(unknown(&report), []);
    // Without changes it is the same as recorded.
    let same = plain(VOTES, &scenario, &[]);
    assert_eq!(same.recorded, same.simulated);
}

#[test]
fn more_than_was_recorded_stays_open_and_is_counted_apart() {
    let scenario = voted(&["a", "a", "a"]);
    let options = BacktestOptions {
        known: HashMap::from([(TASK, json!("a"))]),
        ..BacktestOptions::default()
    };
    let changed = changed(
        VOTES,
        &["completion={type: annotation_count, count: 5, min_required: 1}"],
    );
    let report = backtested(VOTES, &scenario.log, changed, options);
    assert_eq!(
        unknown(&report),
        [(UnknownKind::MoreAnnotations, "annotate", 2)]
    );
    assert_eq!((report.open.tasks, report.open.annotations_wanted), (1, 2));
    assert_eq!(
        (report.simulated.completed, report.simulated.running),
        (0, 1)
    );
    assert_eq!(
        (report.gold.recorded.right, report.gold.simulated.answers),
        (1, 0)
    );
    assert_eq!(report.open.answers_if_closed, 1);
    assert_eq!(report.open.gold_if_closed.right, 1);
}

#[test]
fn an_adjudication_counts_where_it_would_have_been_asked_for() {
    let mut scenario = voted(&["a", "b", "c"]);
    scenario.label("adjudicate", 9, "b");
    assert_eq!(scenario.output()["result"], "b");
    // Two of them disagree as well: the same question, with fewer annotations behind it.
    let report = plain(VOTES, &scenario, &["completion.count=2"]);
    assert_eq!(uses(&report), (3, 1, 0));
    assert_eq!(
        unknown(&report),
        [(UnknownKind::ShownOtherwise, "adjudicate", 1)]
    );
    assert_eq!(report.answers.same, 1);
    // One alone agrees with itself, so nobody adjudicates.
    let report = plain(VOTES, &scenario, &["completion.count=1"]);
    assert_eq!(uses(&report), (1, 3, 0));
    assert_eq!((report.answers.both, report.answers.same), (1, 0));
    // Four would have been asked first.
    let report = plain(VOTES, &scenario, &["completion.count=4"]);
    assert_eq!(uses(&report), (3, 0, 1));
    let expected = [
        (UnknownKind::MoreAnnotations, "annotate", 1),
        (UnknownKind::NotReached, "adjudicate", 1),
    ];
    assert_eq!(unknown(&report), expected);
}

#[test]
fn a_review_of_another_value_says_nothing() {
    const REVIEWED: &str = "
workflow:
  id: votes
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 3 }
      consensus: { field: label, threshold: 0.3 }
    - id: check
      type: review
  transitions:
    - { from: annotate, to: check }
";
    let mut scenario = Scenario::started(REVIEWED);
    for (who, label) in [(1, "b"), (2, "a"), (3, "a")] {
        scenario.label("annotate", who, label);
    }
    scenario.review("check", 9, "approve");
    assert_eq!(scenario.output()["result"], "a");
    let report = plain(REVIEWED, &scenario, &["completion.count=1"]);
    assert_eq!(uses(&report), (1, 2, 1));
    let expected = [
        (UnknownKind::MoreAnnotations, "check", 1),
        (UnknownKind::OtherSubject, "check", 1),
    ];
    assert_eq!(unknown(&report), expected);
    // A revision without the review does without it.
    let (without, _) = REVIEWED.split_once("    - id: check").unwrap();
    let ends = "transitions: [{ from: annotate, to: _complete }]";
    let report = under(REVIEWED, &scenario, &format!("{without}  {ends}\n"));
    assert_eq!((uses(&report), report.answers.same), ((3, 1, 0), 1));
    assert_eq!(unknown(&report), []);
    // One that knows another step instead waits for it.
    let renamed = REVIEWED
        .replace("id: check", "id: audit")
        .replace("to: check", "to: audit");
    let report = under(REVIEWED, &scenario, &renamed);
    let expected = [
        (UnknownKind::MoreAnnotations, "audit", 1),
        (UnknownKind::UnknownStep, "check", 1),
    ];
    assert_eq!(
        (uses(&report), unknown(&report)),
        ((3, 0, 1), expected.to_vec())
    );
}

#[test]
fn annotations_that_the_changed_workflow_refuses_are_told_with_their_code() {
    let scenario = voted(&["a", "b", "a"]);
    let report = plain(
        VOTES,
        &scenario,
        &["steps.annotate.answer={field: label, kind: category, values: [a, c]}"],
    );
    let refused = report
        .unknown
        .iter()
        .find(|one| one.kind == UnknownKind::Refused);
    assert_eq!(refused.unwrap().code.as_deref(), Some("invalid_annotation"));
    assert_eq!(uses(&report), (2, 0, 1));
    let report = plain(
        VOTES,
        &scenario,
        &["steps.annotate.assignment.required_roles=[expert]"],
    );
    let refused = report
        .unknown
        .iter()
        .find(|one| one.kind == UnknownKind::Refused);
    assert_eq!(refused.unwrap().code.as_deref(), Some("role_required"));
    assert_eq!(uses(&report), (0, 0, 3));
}

const CALLS: &str = "
workflow:
  id: votes
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 3 }
      consensus: { field: label, threshold: 0.3 }
    - id: enrich
      type: auto_process
      handler: webhook
      config: { url: https://example.org/enrich }
  transitions:
    - { from: annotate, to: enrich }
";

fn called(labels: &[&str], answers: Vec<EffectOutcome>) -> Scenario {
    let mut scenario = Scenario::started(CALLS);
    scenario.answers = answers.into();
    for (who, label) in (1..).zip(labels) {
        scenario.label("annotate", who, label);
    }
    scenario.pass(TimeDelta::hours(2));
    scenario
}

#[test]
fn outcomes_of_handlers_count_for_the_same_input() {
    let scenario = called(&["a", "a", "b"], vec![]);
    assert_eq!(scenario.output()["result"], "answer");
    let report = plain(CALLS, &scenario, &["completion.count=2"]);
    assert_eq!((uses(&report), report.answers.same), ((2, 1, 0), 1));
    assert_eq!(unknown(&report), []);
    // The first two do not agree, so the handler would have been told something else.
    let scenario = called(&["a", "b", "b"], vec![]);
    let report = plain(CALLS, &scenario, &["steps.annotate.completion.count=1"]);
    let expected = [
        (UnknownKind::NoOutcome, "enrich", 1),
        (UnknownKind::OtherInput, "enrich", 1),
    ];
    assert_eq!(unknown(&report), expected);
    assert_eq!(report.open.tasks, 1);
}

#[test]
fn a_call_that_failed_for_good_fails_again() {
    let failed = || EffectOutcome::Failed {
        error: "no".to_owned(),
        is_final: true,
        retry_after: None,
    };
    let mut scenario = called(&["a", "a", "a"], vec![failed()]);
    let report = plain(CALLS, &scenario, &["completion.count=2"]);
    assert_eq!(unknown(&report), [(UnknownKind::Unfinished, "", 1)]);
    scenario.control(Command::Retry);
    scenario.pass(TimeDelta::hours(2));
    assert_eq!(scenario.output()["result"], "answer");
    let report = plain(CALLS, &scenario, &["completion.count=2"]);
    assert_eq!((uses(&report), report.answers.same), ((2, 1, 0), 1));
    assert_eq!(unknown(&report), []);
    scenario = called(&["a", "a", "a"], vec![failed()]);
    scenario.control(Command::Cancel);
    let report = plain(CALLS, &scenario, &["completion.count=2"]);
    assert_eq!(
        (report.recorded.cancelled, report.simulated.cancelled),
        (1, 1)
    );
}

#[test]
fn who_closes_a_step_early_closes_it_again() {
    let early = VOTES.replace("count: 3 }", "count: 3, min_required: 2 }");
    let mut scenario = Scenario::started(&early);
    scenario.label("annotate", 1, "a");
    scenario.label("annotate", 2, "a");
    scenario.advance("annotate", None);
    assert_eq!(scenario.output()["resolved_by"], "exhausted");
    let report = plain(&early, &scenario, &["completion.count=4"]);
    assert_eq!((uses(&report), report.answers.same), ((2, 0, 0), 1));
    let report = plain(&early, &scenario, &["completion.min_required=3"]);
    let expected = [
        (UnknownKind::MoreAnnotations, "annotate", 1),
        (UnknownKind::NotClosed, "annotate", 1),
    ];
    assert_eq!(unknown(&report), expected);
}

#[test]
fn time_passes_in_a_backtest_as_well() {
    let scenario = {
        let mut scenario = Scenario::started(VOTES);
        scenario.label("annotate", 1, "a");
        scenario.label("annotate", 2, "a");
        scenario.now += TimeDelta::hours(5);
        scenario.label("annotate", 3, "b");
        scenario
    };
    let closing = "completion={type: annotation_count, count: 3, min_required: 2, timeout: 2h, timeout_action: proceed}";
    let report = plain(VOTES, &scenario, &[closing]);
    assert_eq!((uses(&report), report.answers.simulated), ((2, 1, 0), 1));
}

#[test]
fn a_task_started_by_a_submission_gets_its_details_later() {
    let mut scenario = Scenario::new(VOTES);
    let workflow = WorkflowSelector::Latest("votes".parse().unwrap());
    scenario.submit_with("annotate", 1, json!({"label": "a"}), |submission| {
        submission.workflow = Some(workflow);
    });
    scenario.start(json!({"text": "x"}));
    scenario.label("annotate", 2, "a");
    scenario.label("annotate", 3, "a");
    for (settings, used) in [(vec![], 3), (vec!["completion.count=1"], 1)] {
        let report = plain(VOTES, &scenario, &settings);
        assert_eq!(
            (uses(&report), report.answers.same),
            ((used, 3 - used, 0), 1)
        );
        assert_eq!(unknown(&report), []);
    }
}

#[test]
fn conditions_see_the_input_and_labels_of_the_task() {
    const ROUTED: &str = "
workflow:
  id: votes
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 }, consensus: { field: label, threshold: 0 } }
    - { id: check, type: review }
  transitions:
    - { from: annotate, to: check, condition: { type: expression, expression: 'labels.kind == \"hard\" && input.n > 1' } }
    - { from: annotate, to: _complete }
";
    for (kind, completed) in [("hard", 0), ("easy", 1)] {
        let mut scenario = Scenario::new(ROUTED);
        scenario.run(Command::Start(Start {
            task_id: TASK,
            workflow: WorkflowSelector::Latest("votes".parse().unwrap()),
            input: Some(json!({"n": 2})),
            labels: Some(BTreeMap::from([("kind".to_owned(), kind.to_owned())])),
            expected: None,
        }));
        scenario.label("annotate", 1, "a");
        scenario.label("annotate", 2, "a");
        let report = plain(ROUTED, &scenario, &["steps.annotate.completion.count=1"]);
        assert_eq!(
            (uses(&report).0, report.simulated.completed),
            (1, completed),
            "{kind}"
        );
    }
}

#[test]
fn what_is_running_and_what_was_not_read_is_told() {
    let scenario = voted(&["a"]);
    let report = plain(VOTES, &scenario, &["completion.count=2"]);
    assert_eq!(unknown(&report), [(UnknownKind::Unfinished, "", 1)]);
    assert_eq!((report.recorded.running, report.open.tasks), (1, 0));
    let by_quality = "
workflow:
  id: votes
  steps:
    - id: annotate
      type: annotation
      answer: { field: label, kind: category, values: [a, b] }
      completion: { type: confidence }
      assignment: { load_balancing: quality_weighted }
";
    let registry = HandlerRegistry::built_in();
    let options = BacktestOptions::default();
    let mut backtest = Backtest::new(changed(by_quality, &[]), registry, options).unwrap();
    backtest.read(&page(&scenario.log));
    let report = backtest.finish(false);
    let expected = [
        (UnknownKind::ChosenByQuality, "annotate", 1),
        (UnknownKind::Unfinished, "", 1),
        (UnknownKind::NotRead, "", 0),
    ];
    assert_eq!(unknown(&report), expected);
    assert!(!report.read_to_end);
}

#[test]
fn annotations_cost_what_their_roles_cost() {
    let mut scenario = Scenario::started(VOTES);
    for (who, roles) in [
        (1, vec!["model"]),
        (2, vec!["crowd", "expert"]),
        (3, vec![]),
    ] {
        scenario.submit_with("annotate", who, json!({"label": "a"}), |submission| {
            submission.annotation.roles = Some(roles.into_iter().map(str::to_owned).collect());
        });
    }
    let prices = |each| BacktestOptions {
        prices: Prices {
            each,
            roles: BTreeMap::from([("model".to_owned(), 0.5), ("expert".to_owned(), 2.0)]),
            ..Prices::default()
        },
        ..BacktestOptions::default()
    };
    let two = || changed(VOTES, &["completion.count=2"]);
    let report = backtested(VOTES, &scenario.log, two(), prices(None));
    assert_eq!(
        (report.recorded.cost, report.recorded.unpriced),
        (Some(2.5), 1)
    );
    assert_eq!(
        (report.simulated.cost, report.simulated.unpriced),
        (Some(2.5), 0)
    );
    let report = backtested(VOTES, &scenario.log, two(), prices(Some(0.25)));
    assert_eq!(
        (report.recorded.cost, report.recorded.unpriced),
        (Some(2.75), 0)
    );
    let report = backtested(VOTES, &scenario.log, two(), BacktestOptions::default());
    assert_eq!((report.recorded.cost, report.recorded.unpriced), (None, 0));
}

#[test]
fn a_setting_is_named_by_its_path() {
    const TWO: &str = "
workflow:
  id: two
  steps:
    - { id: draft, type: annotation, completion: { type: confidence, target: 0.9 } }
    - { id: final, type: annotation, completion: { type: confidence, target: 0.9 } }
  transitions:
    - { from: draft, to: final }
    - { from: final, to: _complete }
goals:
  - { id: volume, type: volume, target: 800, unit: tasks }
";
    let two = parse_workflow(TWO).unwrap();
    let refused = |setting: &str| change(&two, &[setting]).unwrap_err().to_string();
    let ambiguous = refused("completion.target=0.8");
    let both = "steps.draft.completion.target or steps.final.completion.target";
    assert!(ambiguous.contains(both), "{ambiguous}");
    assert!(refused("completion.max=5").contains("steps.final.completion.max"));
    assert!(refused("steps.daft.completion.target=0.8").contains("did you mean `draft`?"));
    assert!(refused("complition.target=0.8").contains("did you mean `completion.target`?"));
    assert!(refused("steps.draft.completion.target=2").contains("target"));
    assert!(refused("steps.draft.completion.tarte=0.8").contains("tarte"));
    assert!(refused("steps[7].completion.target=0.8").contains("no element 7"));
    assert!(refused("zebra=1").contains("glyph workflow show --expanded"));
    assert!(refused("a..b=1").contains("keys joined by dots"));
    assert!(refused("target").contains("PATH=VALUE"));
    assert!(refused("id=three").contains("cannot rename"));
    let done = |settings: &[&str]| change(&two, settings).unwrap();
    let changed = done(&[
        "steps.draft.completion.target=0.8",
        "steps[1].completion.targets={yes: 0.99}",
        "settings.max_retries=5",
        "goals.volume.target=900",
    ]);
    let draft = changed.config.step("draft").unwrap();
    assert!((draft.confidence_target(None) - 0.8).abs() < 1e-12);
    let last = changed.config.step("final").unwrap();
    assert!((last.confidence_target(Some("yes")) - 0.99).abs() < 1e-12);
    assert_eq!(changed.config.settings.max_retries, 5);
    assert_eq!(changed.changes[1].before, Value::Null);
    assert_eq!(changed.config.revision_id, two.revision_id);
    // A null takes a setting out, which leaves the default.
    let removed = done(&["steps.draft.completion.target=null"]);
    let draft = removed.config.step("draft").unwrap();
    assert!((draft.confidence_target(None) - 0.95).abs() < 1e-12);
    // The parser says where a setting belongs, whatever the order.
    let one = parse_workflow(VOTES).unwrap();
    let settings = [
        "completion.target=0.8",
        "completion.type=confidence",
        "completion.count=null",
    ];
    let changed = change(&one, &settings).unwrap();
    let annotate = changed.config.step("annotate").unwrap();
    assert!((annotate.confidence_target(None) - 0.8).abs() < 1e-12);
}
