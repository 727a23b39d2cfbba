//! Crowds of made-up people: what they come to is what arithmetic says.

use glyph_workflow_engine::{
    parse_workflow,
    simulation::{Crowd, CrowdError, CrowdReport, play_crowd},
    state::TaskStatus,
};

const DUAL: &str = "
workflow:
  id: dual
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 },
        answer: { field: label, kind: category, values: [yes, no] }, consensus: { threshold: 1.0 } }
    - { id: adjudicate, type: adjudication, assignment: { required_roles: [expert] } }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: _complete }
";
const SURE: &str = "
workflow:
  id: sure
  steps:
    - { id: annotate, type: annotation, answer: { field: label, kind: category, values: [yes, no] },
        completion: { type: confidence, target: 0.95, min: 2, max: 10 } }
";
const LOOP: &str = "
workflow:
  id: again
  steps:
    - { id: write, type: annotation, answer: { field: label, kind: category, values: [yes, no] } }
    - { id: check, type: review }
  transitions:
    - { from: write, to: check }
    - { from: check, to: write, condition: { type: expression, expression: 'result.decision == \"reject\"' },
        loop: { max_iterations: 5, on_exhausted: _failed } }
    - { from: check, to: _complete }
";

/// Annotators who are all as good, and experts who never err.
const PLAIN: Crowd = Crowd {
    tasks: 1_000,
    people: 12,
    accuracy: 0.8,
    spread: 0.0,
    hard: 0.0,
    expert_accuracy: 1.0,
    seed: 7,
};

fn played(workflow: &str, crowd: &Crowd) -> CrowdReport {
    let report = play_crowd(vec![parse_workflow(workflow).unwrap()], crowd, || true).unwrap();
    assert_eq!(report.refused, [] as [String; 0]);
    assert_eq!(report.labels_by_tasks.iter().sum::<u32>(), report.tasks);
    let ended: u32 = report.ends.iter().map(|end| end.tasks).sum();
    assert_eq!(ended, report.tasks);
    report
}

/// How far a share of so many may be from what is expected: four standard deviations.
fn is_near(count: u64, of: u64, expected: f64) -> bool {
    let of = of as f64;
    let deviation = (expected * (1.0 - expected) / of).sqrt();
    (count as f64 / of - expected).abs() <= 4.0 * deviation
}

#[test]
fn two_people_agree_as_often_as_they_should_and_experts_settle_the_rest() {
    let report = played(DUAL, &PLAIN);
    assert_eq!((report.tasks, report.labels), (1_000, 2_000));
    let annotate = &report.steps[0];
    assert_eq!((annotate.compared, annotate.submissions), (1_000, 2_000));
    // Both right or both wrong.
    assert!(
        is_near(annotate.agreed, 1_000, 0.8 * 0.8 + 0.2 * 0.2),
        "{annotate:?}"
    );
    // Wrong are those in which both are wrong.
    assert!(is_near(report.wrong.into(), 1_000, 0.2 * 0.2), "{report:?}");
    assert_eq!(report.right + report.wrong, 1_000);
    assert_eq!(report.decisions, 1_000 - annotate.agreed);
    let went = |from: &str, to: &str| {
        let mut edges = report.edges.iter();
        let edge = edges.find(|edge| edge.from == from && edge.to == to);
        edge.map_or(0, |edge| edge.count)
    };
    assert_eq!(went("annotate", "_complete"), annotate.agreed);
    assert_eq!(went("annotate", "adjudicate"), report.decisions);
    assert_eq!(went("adjudicate", "_complete"), report.decisions);
}

#[test]
fn the_same_numbers_give_the_same_and_another_seed_does_not() {
    assert_eq!(played(DUAL, &PLAIN), played(DUAL, &PLAIN));
    let other = Crowd { seed: 8, ..PLAIN };
    assert_ne!(played(DUAL, &PLAIN), played(DUAL, &other));
}

#[test]
fn better_people_need_fewer_labels_where_a_step_asks_until_it_is_sure() {
    let labels = |accuracy| {
        let crowd = Crowd {
            tasks: 300,
            accuracy,
            ..PLAIN
        };
        let report = played(SURE, &crowd);
        assert!(report.labels_by_tasks[..2].iter().all(|tasks| *tasks == 0));
        (report.labels, report.right)
    };
    let ((good, good_right), (poor, poor_right)) = (labels(0.95), labels(0.7));
    assert!(good < poor && good_right > poor_right, "{good} {poor}");
    assert!(good_right > 280, "{good_right} of 300");
}

#[test]
fn on_hard_tasks_people_only_guess() {
    let hard = Crowd {
        accuracy: 1.0,
        hard: 1.0,
        ..PLAIN
    };
    let report = played(DUAL, &hard);
    assert!(
        is_near(report.steps[0].agreed, 1_000, 0.5),
        "{:?}",
        report.steps
    );
}

#[test]
fn what_a_reviewer_refuses_comes_back_until_it_is_right() {
    let report = played(LOOP, &PLAIN);
    let failed: u32 = report
        .ends
        .iter()
        .filter(|end| end.status == TaskStatus::Failed)
        .map(|end| end.tasks)
        .sum();
    assert_eq!(report.wrong, 0);
    assert_eq!(report.right + failed, 1_000);
    // A label is right at the first, second, … try.
    assert!(
        is_near(1_000, report.labels, 0.8),
        "{} labels",
        report.labels
    );
}

#[test]
fn tasks_wait_where_there_are_too_few_people() {
    let alone = Crowd {
        tasks: 3,
        people: 1,
        ..PLAIN
    };
    let report = played(DUAL, &alone);
    assert_eq!(report.ends.len(), 1);
    let end = &report.ends[0];
    assert_eq!((end.status, end.tasks), (TaskStatus::Running, 3));
    assert_eq!(end.step.as_deref(), Some("annotate"));
    assert_eq!(end.reason.as_deref(), Some("1 person"));
    assert_eq!(report.without_value, 0, "they have not ended");
}

#[test]
fn what_a_machine_makes_up_is_neither_right_nor_wrong() {
    let workflow = "
workflow:
  id: enriched
  steps:
    - { id: annotate, type: annotation, answer: { field: label, kind: category, values: [yes, no] } }
    - { id: enrich, type: auto_process, handler: queue }
  transitions:
    - { from: annotate, to: enrich }
    - { from: enrich, to: _complete }
";
    let report = played(workflow, &PLAIN);
    assert_eq!(
        (report.right, report.wrong, report.by_machine),
        (0, 0, 1_000)
    );
}

#[test]
fn what_is_broken_off_says_how_far_it_came() {
    let mut asked = 0;
    let until = || {
        asked += 1;
        asked < 5
    };
    let workflow = parse_workflow(DUAL).unwrap();
    assert_eq!(play_crowd(vec![workflow], &PLAIN, until).unwrap().tasks, 5);
}

#[test]
fn a_number_out_of_its_range_is_named() {
    for (name, crowd) in [
        ("tasks", Crowd { tasks: 0, ..PLAIN }),
        (
            "tasks",
            Crowd {
                tasks: 2_001,
                ..PLAIN
            },
        ),
        ("people", Crowd { people: 0, ..PLAIN }),
        (
            "accuracy",
            Crowd {
                accuracy: f64::NAN,
                ..PLAIN
            },
        ),
        (
            "spread",
            Crowd {
                spread: 0.6,
                ..PLAIN
            },
        ),
        (
            "hard",
            Crowd {
                hard: -0.1,
                ..PLAIN
            },
        ),
        (
            "expert_accuracy",
            Crowd {
                expert_accuracy: 1.1,
                ..PLAIN
            },
        ),
    ] {
        let refused = play_crowd(vec![parse_workflow(DUAL).unwrap()], &crowd, || true);
        let Err(CrowdError::OutOfRange(named, ..)) = refused else {
            panic!("{crowd:?}: {refused:?}");
        };
        assert_eq!(named, name);
    }
}
