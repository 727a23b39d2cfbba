//! Groups of annotators, the first tasks, audits, and judgements of others' answers.

use std::{collections::HashMap, sync::Arc};

use glyph_workflow_engine::{
    WorkflowEvent, WorkflowOrchestrator,
    command::{Command, CommandEnvelope, Outcome, Start},
    config::{AskedOn, Sampling, StepLibrary},
    events::{ConsensusCalculated, Judgement},
    executor::annotators::{AnnotatorModel, ModelKey},
    ids::{TaskId, WorkflowSelector},
    parse_workflow,
    parser::check_workflow,
    reliability::judge_name,
    state::StepVisit,
    store::{KEPT_EVENTS, LogPosition, MemoryStore, Store},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scenario::{Scenario, user};

const ASKS: &str = "
workflow:
  id: sampled
  reliability:
    learn: { first: 2 }
    audit: { share: 0.5 }
    groups: { models: { roles: [model], kind: model, price: 0.002 } }
  steps:
    - id: annotate
      type: annotation
      field: label
      completion: { type: confidence, target: 0.6, min: 2, max: 4, classes: [a, b] }
";

fn compared(scenario: &Scenario) -> Vec<&ConsensusCalculated> {
    let events = scenario.log.iter().filter_map(|event| match &event.event {
        WorkflowEvent::ConsensusCalculated(compared) => Some(compared),
        _ => None,
    });
    events.collect()
}

fn sampled(sampling: Sampling) -> Scenario {
    let mut scenario = Scenario::new(ASKS);
    scenario.sampling = sampling;
    scenario.start(json!(null));
    scenario
}

#[test]
fn the_first_tasks_ask_everybody_and_end_with_what_all_say() {
    let mut scenario = sampled(Sampling {
        ordinal: Some(2),
        audited: true,
    });
    for (person, label) in [(1, "b"), (2, "b"), (3, "a")] {
        let came = scenario.label("annotate", person, label);
        assert!(came.starts_with("waiting"), "{came}");
    }
    let came = scenario.label("annotate", 4, "b");
    assert!(came.starts_with("completed"), "{came}");
    let asked_on: Vec<_> = compared(&scenario).iter().map(|one| one.asked_on).collect();
    assert_eq!(asked_on[0], Some(AskedOn::Learn));
    let result = &scenario.output()["steps"]["annotate"];
    assert_eq!(result["value"], "b");
    assert_eq!(result["annotations"].as_array().unwrap().len(), 4);

    // The third task is none of the first two.
    let mut scenario = sampled(Sampling {
        ordinal: Some(3),
        audited: false,
    });
    scenario.label("annotate", 1, "b");
    let came = scenario.label("annotate", 2, "b");
    assert!(came.starts_with("completed"), "{came}");
}

#[test]
fn an_audited_task_ends_with_the_answer_that_was_sure_first() {
    let mut scenario = sampled(Sampling {
        ordinal: None,
        audited: true,
    });
    scenario.label("annotate", 1, "b");
    let came = scenario.label("annotate", 2, "b");
    assert_eq!(
        came,
        "waiting annotate | annotation_submitted, consensus_calculated, places_added"
    );
    let first = compared(&scenario)[0].clone();
    assert_eq!(first.asked_on, Some(AskedOn::Audit));
    assert_eq!((first.reached, first.value), (Some(true), None));
    let promised = first.posterior.unwrap().soft_labels.confidence;
    scenario.label("annotate", 3, "a");
    let came = scenario.label("annotate", 4, "a");
    assert!(came.starts_with("completed"), "{came}");
    let result = &scenario.output()["steps"]["annotate"];
    assert_eq!(result["value"], "b");
    assert_eq!(result["resolved_by"], "posterior");
    assert_eq!(result["reached"], true);
    assert_eq!(result["posterior"]["confidence"], promised);
    assert_eq!(result["annotations"].as_array().unwrap().len(), 2);
    let audit = &result["audit"];
    assert_eq!(audit["votes"], json!([{"value": "a", "count": 2}]));
    // Two say "a" and two say "b".
    assert_eq!(audit["value"], Value::Null);
}

#[test]
fn an_audit_that_is_closed_early_keeps_the_answer() {
    let mut scenario = sampled(Sampling {
        ordinal: None,
        audited: true,
    });
    scenario.label("annotate", 1, "b");
    scenario.label("annotate", 2, "b");
    let came = scenario.advance("annotate", None);
    assert!(came.starts_with("completed"), "{came}");
    let result = &scenario.output()["steps"]["annotate"];
    assert_eq!(
        (&result["value"], &result["reached"]),
        (&json!("b"), &json!(true))
    );
    assert_eq!(result["audit"]["votes"], json!([]));
}

#[test]
fn a_task_that_is_not_sampled_says_nothing_of_it() {
    let mut scenario = sampled(Sampling::default());
    scenario.label("annotate", 1, "b");
    scenario.label("annotate", 2, "b");
    let stored = serde_json::to_string(&scenario.log).unwrap();
    for key in ["sampling", "asked_on", "audit"] {
        assert!(!stored.contains(key), "{key}: {stored}");
    }
}

#[test]
fn the_labels_of_a_group_are_worth_fewer_votes_than_they_are() {
    let ask = |role: &str| {
        let mut scenario = Scenario::started(&ASKS.replace("target: 0.6", "target: 0.99"));
        for person in 1..=3 {
            let data = json!({"label": "a"});
            scenario.submit_with("annotate", person, data, |submission| {
                submission.annotation.roles = Some(vec![role.to_owned()]);
            });
        }
        let last = compared(&scenario).last().copied().cloned().unwrap();
        last.posterior.unwrap()
    };
    let (people, models) = (ask("expert"), ask("model"));
    assert!(people.evidence.groups.is_empty());
    let [group] = models.evidence.groups.as_slice() else {
        panic!("{:?}", models.evidence.groups);
    };
    assert_eq!((group.group.as_str(), group.labels), ("models", 3));
    assert!(group.votes < 1.2, "{group:?}");
    let (sure, less_sure) = (people.soft_labels.confidence, models.soft_labels.confidence);
    assert!(less_sure < sure - 0.02, "{less_sure} against {sure}");
}

const JUDGED: &str = "
workflow:
  id: judged
  steps:
    - id: annotate
      type: annotation
      answer: { kind: record, fields: { mood: { kind: category, values: [good, bad] }, tone: { kind: category, values: [a, b] } } }
      completion: { type: annotation_count, count: 2 }
      consensus:
        on_disagreement: { strategy: adjudication, scope: disputed }
    - id: decide
      type: adjudication
    - id: review
      type: review
  transitions:
    - { from: annotate, to: decide, condition: { type: on_disagreement } }
    - { from: annotate, to: review, condition: { type: on_agreement } }
    - { from: decide, to: _complete }
    - { from: review, to: _complete }
";

fn judgement(scenario: &Scenario, step: &str) -> Option<Judgement> {
    scenario.log.iter().find_map(|event| match &event.event {
        WorkflowEvent::StepCompleted {
            step_id, judgement, ..
        } if **step_id == *step => judgement.as_deref().cloned(),
        _ => None,
    })
}

/// What the model of one field has learned from the log of a scenario.
fn learned(scenario: &Scenario, field: &str) -> AnnotatorModel {
    let config = parse_workflow(JUDGED).unwrap();
    let step = config.step("annotate").unwrap();
    let question = step.question().unwrap();
    let key = ModelKey::new(&config.id, step, &question, Some(field));
    let mut model = AnnotatorModel::new(key).unwrap();
    for (event, position) in scenario.log.iter().zip(1..) {
        let position = LogPosition {
            position,
            ..LogPosition::default()
        };
        model.learn(position, event);
    }
    model
}

#[test]
fn what_an_adjudicator_decides_is_evidence_about_those_who_differ() {
    let mut scenario = Scenario::started(JUDGED);
    scenario.submit("annotate", 1, json!({"mood": "good", "tone": "a"}));
    scenario.submit("annotate", 2, json!({"mood": "bad", "tone": "a"}));
    scenario.submit("decide", 3, json!({"mood": "bad"}));
    let annotate = StepVisit {
        step_id: "annotate".parse().unwrap(),
        visit: 1,
    };
    assert_eq!(
        judgement(&scenario, "decide"),
        Some(Judgement {
            of: annotate,
            user_id: user(3),
            field: None,
            only: Some(vec!["mood".to_owned()]),
        })
    );
    let mood = learned(&scenario, "mood");
    let judge = judge_name(&user(3).to_string());
    assert_eq!(mood.model().reliability(&judge).labels, 1);
    let accuracy = |n| mood.model().reliability(&user(n).to_string()).accuracy;
    assert!(accuracy(2) > accuracy(1));
    // On the tone annotators agreed: nobody was asked to judge it.
    let tone = learned(&scenario, "tone");
    assert_eq!(tone.model().reliability(&judge).labels, 0);
}

#[test]
fn an_approval_judges_every_field_and_a_refusal_none() {
    for (decision, judged) in [("approve", 1), ("reject", 0)] {
        let mut scenario = Scenario::started(JUDGED);
        scenario.submit("annotate", 1, json!({"mood": "good", "tone": "a"}));
        scenario.submit("annotate", 2, json!({"mood": "good", "tone": "a"}));
        scenario.review("review", 3, decision);
        let judge = judge_name(&user(3).to_string());
        for field in ["mood", "tone"] {
            let model = learned(&scenario, field);
            let labels = model.model().reliability(&judge).labels;
            assert_eq!(labels, judged, "{decision} {field}");
        }
    }
}

/// Starts tasks in batches of one, in the order given, and returns the sampling of each.
async fn started(
    orchestrator: &WorkflowOrchestrator,
    tasks: std::ops::Range<u128>,
) -> Vec<Sampling> {
    let mut commands = Vec::new();
    for n in tasks.clone() {
        let command = Command::Start(Start {
            task_id: TaskId(Uuid::from_u128(n)),
            workflow: WorkflowSelector::Latest("sampled".parse().unwrap()),
            input: None,
            labels: None,
            expected: None,
        });
        commands.push(CommandEnvelope::new(Uuid::from_u128(0x5000 + n), command));
    }
    let report = orchestrator.process_batch(commands, None).await.unwrap();
    assert!(
        report
            .outcomes
            .iter()
            .all(|o| matches!(o, Outcome::Applied(_)))
    );
    let ids: Vec<TaskId> = tasks.map(|n| TaskId(Uuid::from_u128(n))).collect();
    let states: HashMap<_, _> = orchestrator.event_store.load(&ids).await.unwrap();
    ids.iter().map(|id| states[id].sampling).collect()
}

#[tokio::test]
async fn tasks_are_numbered_as_they_start_over_batches_revisions_and_processes() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let process = || WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
    let (one, two) = (process(), process());
    one.create_workflow(&ASKS.replace("first: 2", "first: 4"))
        .await
        .unwrap();
    let ordinals = |all: Vec<Sampling>| all.iter().map(|one| one.ordinal).collect::<Vec<_>>();
    assert_eq!(ordinals(started(&one, 1..3).await), [Some(1), Some(2)]);
    one.create_workflow(&ASKS.replace("first: 2", "first: 5"))
        .await
        .unwrap();
    assert_eq!(ordinals(started(&two, 3..4).await), [Some(3)]);
    let later = ordinals(started(&one, 4..8).await);
    assert_eq!(later, [Some(4), Some(5), None, None]);
    assert_eq!(ordinals(started(&two, 8..9).await), [None]);
    let audited = started(&one, 100..300).await;
    let audited = audited.iter().filter(|one| one.audited).count();
    assert!(
        (70..=130).contains(&audited),
        "{audited} of 200 at one half"
    );
}

#[test]
fn groups_that_overlap_or_are_empty_and_samples_of_nothing_are_told() {
    let faults = |reliability: &str, completion: &str| {
        let yaml = format!(
            "workflow:\n  id: w\n  reliability: {reliability}\n  steps:\n    - {{ id: a, type: annotation, field: label, completion: {completion} }}\n  transitions: [{{ from: a, to: _complete }}]\n"
        );
        let report = check_workflow(&yaml, &StepLibrary::default(), &[]);
        let told = report
            .diagnostics
            .iter()
            .map(|one| format!("{}: {}", one.code.as_str(), one.message));
        told.collect::<Vec<_>>()
    };
    let confident = "{ type: confidence }";
    let counted = "{ type: annotation_count, count: 2 }";
    let ann = "0190a6c0-0000-7000-8000-000000000001";
    assert_eq!(
        faults(
            "{ groups: { a: { roles: [model] }, b: { roles: [model, other] } } }",
            confident
        ),
        ["conflicting_keys: `model` belongs to the group `a` already"]
    );
    assert_eq!(
        faults(
            &format!("{{ groups: {{ a: {{ users: [{ann}, {ann}] }} }} }}"),
            confident
        ),
        [format!("conflicting_keys: `{ann}` is listed twice")]
    );
    assert_eq!(
        faults("{ groups: { a: { kind: model } } }", confident),
        ["missing_key: a group without members"]
    );
    assert_eq!(
        faults("{ learn: { first: 9 }, audit: { share: 0.1 } }", counted),
        [
            "no_effect: `learn` does nothing: no step completes by `confidence`",
            "no_effect: `audit` does nothing: no step completes by `confidence`",
        ]
    );
    assert_eq!(faults("{ audit: { share: 1.5 } }", confident).len(), 1);
}

#[test]
fn what_models_learn_from_stays_when_tasks_are_archived() {
    for learned in AnnotatorModel::EVENTS {
        assert!(KEPT_EVENTS.contains(&learned), "{learned}");
    }
}
