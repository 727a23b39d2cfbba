//! Steps that complete by confidence: in the scenario, with unknown annotators, and in the full
//! pipeline with the annotator model that it learns.

use std::sync::Arc;

use chrono::DateTime;
use glyph_workflow_engine::{
    ProcessResult, WorkflowEvent, WorkflowOrchestrator,
    command::{AnnotationInput, Command, CommandEnvelope, Outcome, Start, Submission},
    events::ConsensusCalculated,
    executor::annotators::ModelKey,
    ids::{TaskId, UserId, WorkflowSelector},
    parse_workflow,
    parser::Severity,
    reliability::{
        Classes, Posterior, ReliabilityModel,
        simulation::{Crowd, Labelled},
    },
    store::{LogPosition, MemoryStore, SqliteEventStore, Store},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scenario::{Scenario, user};

const ASKS: &str = "
workflow:
  id: adaptive
  steps:
    - id: annotate
      type: annotation
      field: label
      completion: { type: confidence, target: 0.95, min: 2, max: 4 }
";

fn with_completion(completion: &str) -> String {
    ASKS.replace("target: 0.95, min: 2, max: 4", completion)
}

fn compared(scenario: &Scenario) -> Vec<&ConsensusCalculated> {
    let events = scenario.log.iter().filter_map(|event| match &event.event {
        WorkflowEvent::ConsensusCalculated(compared) => Some(compared),
        _ => None,
    });
    events.collect()
}

#[test]
fn it_asks_one_by_one_until_the_most() {
    let mut scenario = Scenario::started(ASKS);
    assert_eq!(
        scenario
            .state
            .as_ref()
            .unwrap()
            .current_visit("annotate")
            .unwrap()
            .slots,
        Some(2)
    );
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "waiting annotate | annotation_submitted"
    );
    let asks_on = "waiting annotate | annotation_submitted, consensus_calculated, places_added";
    assert_eq!(scenario.label("annotate", 2, "b"), asks_on);
    assert_eq!(scenario.label("annotate", 3, "a"), asks_on);
    let visit = scenario
        .state
        .as_ref()
        .unwrap()
        .current_visit("annotate")
        .unwrap();
    assert_eq!((visit.slots, visit.free_slots()), (Some(4), Some(1)));
    assert_eq!(
        scenario.label("annotate", 4, "b"),
        "completed | annotation_submitted, consensus_calculated, step_completed, workflow_completed"
    );
    // Two for one answer and two for the other: a tie has no value.
    assert_eq!(scenario.output()["resolved_by"], Value::Null);
    assert_eq!(scenario.output()["result"], Value::Null);
    let result = &scenario.output()["steps"]["annotate"];
    assert_eq!(result["kind"], "consensus");
    assert_eq!(result["reached"], false);
    assert_eq!(result["posterior"]["classes"], json!(["a", "b"]));
    let confidence = result["posterior"]["confidence"].as_f64().unwrap();
    assert!(confidence < 0.5 && confidence > 0.3, "{confidence}");
    assert_eq!(scenario.label("annotate", 5, "a"), "rejected surplus");
    assert_eq!(
        scenario.label("annotate", 4, "a"),
        "rejected duplicate_annotator"
    );
}

#[test]
fn an_answer_may_have_a_target_of_its_own() {
    let rule = "target: 0.99, targets: { b: 0.6 }, min: 2, max: 9, classes: [a, b]";
    for (label, ends) in [("a", false), ("b", true)] {
        let mut scenario = Scenario::started(&with_completion(rule));
        scenario.label("annotate", 1, label);
        let came = scenario.label("annotate", 2, label);
        assert_eq!(came.starts_with("completed"), ends, "{label}: {came}");
    }
}

#[test]
fn who_is_unsure_at_the_most_ends_as_the_file_says() {
    for (on_unsure, value) in [("best", json!("a")), ("disagreement", Value::Null)] {
        let rule =
            format!("target: 0.999, on_unsure: {on_unsure}, min: 2, max: 3, classes: [a, b]");
        let mut scenario = Scenario::started(&with_completion(&rule));
        for (person, label) in [(1, "a"), (2, "b"), (3, "a")] {
            scenario.label("annotate", person, label);
        }
        assert_eq!(scenario.output()["result"], value, "{on_unsure}");
        assert_eq!(scenario.output()["steps"]["annotate"]["reached"], false);
    }
}

#[test]
fn a_target_within_reach_is_reached_at_the_least() {
    let mut scenario = Scenario::started(&with_completion(
        "target: 0.6, min: 2, max: 9, classes: [a, b]",
    ));
    scenario.label("annotate", 1, "b");
    assert_eq!(
        scenario.label("annotate", 2, "b"),
        "completed | annotation_submitted, consensus_calculated, step_completed, workflow_completed"
    );
    assert_eq!(scenario.output()["result"], "b");
    assert_eq!(scenario.output()["agreement"], 1.0);
    let posterior = &scenario.output()["steps"]["annotate"]["posterior"];
    assert_eq!(posterior["unseen"], 0.0);
    let probabilities = posterior["probabilities"].as_array().unwrap();
    let sum: f64 = probabilities.iter().filter_map(Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 1e-9);
    assert_eq!(scenario.label("annotate", 3, "b"), "rejected surplus");
}

#[test]
fn what_is_recorded_explains_each_decision() {
    let mut scenario = Scenario::started(ASKS);
    for (who, label) in [(1, "a"), (2, "b"), (3, "a"), (4, "a")] {
        scenario.label("annotate", who, label);
    }
    let compared = compared(&scenario);
    assert_eq!(compared.len(), 3);
    for (number, compared) in (2..).zip(&compared) {
        let recorded = compared.posterior.as_ref().unwrap();
        assert_eq!((recorded.target, recorded.max), (0.95, 4));
        assert_eq!(recorded.evidence.labels.len(), number);
        let follows = recorded.evidence.posterior();
        assert_eq!(follows.probabilities, recorded.soft_labels.probabilities);
        assert_eq!(
            follows.confidence.to_bits(),
            recorded.soft_labels.confidence.to_bits()
        );
        assert_eq!(recorded.evidence.labels[0].annotator, user(1).to_string());
        let ends = number == 4;
        assert_eq!(
            (compared.more, compared.value.is_some()),
            ((!ends).then_some(1), ends)
        );
    }
}

#[test]
fn it_is_closed_with_its_best_answer_once_the_least_is_there() {
    let mut scenario = Scenario::started(ASKS);
    scenario.label("annotate", 1, "a");
    assert_eq!(scenario.advance("annotate", None), "rejected not_waiting");
    scenario.label("annotate", 2, "a");
    let closed = scenario.advance("annotate", None);
    assert_eq!(
        closed,
        "completed | consensus_calculated, step_completed, workflow_completed"
    );
    assert_eq!(scenario.output()["result"], "a");
    assert_eq!(scenario.output()["resolved_by"], "exhausted");
    assert!(scenario.output()["steps"]["annotate"]["posterior"]["confidence"].is_number());
}

#[test]
fn claims_hold_what_it_asks_for_and_labels_up_to_the_most_are_heard() {
    let mut scenario = Scenario::started(ASKS);
    assert_eq!(
        scenario.assign("annotate", 1),
        "waiting annotate | task_assigned"
    );
    assert_eq!(
        scenario.assign("annotate", 2),
        "waiting annotate | task_assigned"
    );
    // At least two people are asked, and two have claimed a slot; a third might not be needed.
    assert_eq!(scenario.assign("annotate", 3), "rejected surplus");
    assert_eq!(
        scenario.label("annotate", 3, "a"),
        "waiting annotate | annotation_submitted"
    );
    // Both slots stay claimed, so one of the four is left.
    let asks_on = "waiting annotate | annotation_submitted, consensus_calculated, places_added";
    assert_eq!(scenario.label("annotate", 4, "b"), asks_on);
    assert_eq!(scenario.label("annotate", 5, "b"), "rejected surplus");
    assert_eq!(scenario.assign("annotate", 5), "rejected surplus");
    assert_eq!(scenario.label("annotate", 1, "a"), asks_on);
    assert!(scenario.label("annotate", 2, "a").starts_with("completed"));
}

#[test]
fn an_answer_is_a_category() {
    let mut scenario = Scenario::started(ASKS);
    for data in [
        json!({}),
        json!({"label": null}),
        json!({"label": ["a"]}),
        json!({"label": {"a": 1}}),
        json!({"label": "x".repeat(300)}),
        json!("a"),
    ] {
        assert_eq!(
            scenario.submit("annotate", 1, data),
            "rejected invalid_annotation"
        );
    }
    assert!(
        scenario
            .submit("annotate", 1, json!({"label": 1}))
            .starts_with("waiting")
    );
    // The same number in another form, and a text that looks like a number.
    assert!(
        scenario
            .submit("annotate", 2, json!({"label": 1.0}))
            .starts_with("waiting")
    );
    assert!(
        scenario
            .submit("annotate", 3, json!({"label": "1"}))
            .starts_with("waiting")
    );
    let compared = compared(&scenario);
    let last = compared.last().unwrap().posterior.as_ref().unwrap();
    assert_eq!(last.soft_labels.classes, [json!(1), json!("1")]);

    let mut scenario = Scenario::started(&with_completion("classes: [true, false, 2]"));
    assert_eq!(
        scenario.label("annotate", 1, "true"),
        "rejected invalid_annotation"
    );
    assert!(
        scenario
            .submit("annotate", 1, json!({"label": true}))
            .starts_with("waiting")
    );
    assert!(
        scenario
            .submit("annotate", 2, json!({"label": 2.0}))
            .starts_with("waiting")
    );
}

#[test]
fn without_a_field_all_of_data_is_the_answer() {
    let mut scenario = Scenario::started(&ASKS.replace("field: label", "name: Answer"));
    assert_eq!(
        scenario.label("annotate", 1, "a"),
        "rejected invalid_annotation"
    );
    assert!(
        scenario
            .submit("annotate", 1, json!("a"))
            .starts_with("waiting")
    );
    scenario.submit("annotate", 2, json!("a"));
    scenario.advance("annotate", None);
    assert_eq!(scenario.output()["result"], "a");
}

#[test]
fn agreement_is_reported_by_the_metric_of_its_consensus_block() {
    let yaml = ASKS.replace("      field: label\n", "").replace(
        "max: 4 }",
        "max: 4 }\n      consensus: { metric: gwet_ac1, field: label }",
    );
    let mut scenario = Scenario::started(&yaml);
    scenario.label("annotate", 1, "a");
    scenario.label("annotate", 2, "b");
    let compared = compared(&scenario);
    assert_eq!(compared[0].agreement, Some(0.0));
    assert_eq!(compared[0].field.as_deref(), Some("label"));
    assert!(!compared[0].agreed);
}

#[test]
fn a_vote_between_strangers_stays_tied() {
    for (consensus, votes) in [
        ("on_disagreement: { strategy: weighted_vote }", "weighted"),
        (
            "on_disagreement: { strategy: majority_vote }\n        tie_breaker: quality_weighted",
            "majority",
        ),
    ] {
        let yaml = format!(
            "workflow:\n  id: weighed\n  steps:\n    - id: annotate\n      type: annotation\n      \
             completion: {{ type: annotation_count, count: 2 }}\n      consensus:\n        field: label\n        {consensus}\n"
        );
        let mut scenario = Scenario::started(&yaml);
        scenario.label("annotate", 1, "a");
        scenario.label("annotate", 2, "b");
        assert_eq!(scenario.output()["result"], Value::Null, "{votes}");
        let compared = compared(&scenario);
        let weights = compared[0].weights.as_ref().unwrap();
        assert_eq!(weights.annotators.len(), 2);
        assert_eq!(
            weights.annotators[0].weight.to_bits(),
            weights.annotators[1].weight.to_bits()
        );
        assert!(compared[0].tied);
    }
}

// --- the full pipeline -------------------------------------------------------------------------

/// Submits labels to the tasks of one workflow, one command at a time.
pub(crate) struct Road {
    orchestrator: Arc<WorkflowOrchestrator>,
    store: Arc<dyn Store>,
    workflow: WorkflowSelector,
    commands: u128,
}

/// The result of a label.
pub(crate) enum Answer {
    AsksOn,
    Done { result: Value, confidence: f64 },
    Rejected(String),
}

impl Road {
    pub(crate) async fn new(store: Arc<dyn Store>, yaml: &str) -> Self {
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _);
        let config = orchestrator.create_workflow(yaml).await.unwrap();
        Self {
            orchestrator: Arc::new(orchestrator),
            store,
            workflow: WorkflowSelector::Latest(config.id),
            commands: 0,
        }
    }

    /// Another process that works on the same tasks.
    pub(crate) fn another(&self, number: u128) -> Self {
        Self {
            orchestrator: Arc::new(WorkflowOrchestrator::new(
                Arc::clone(&self.store) as _,
                Arc::clone(&self.store) as _,
            )),
            store: Arc::clone(&self.store),
            workflow: self.workflow.clone(),
            commands: number << 64,
        }
    }

    /// Another caller of the same process.
    pub(crate) fn beside(&self, number: u128) -> Self {
        Self {
            orchestrator: Arc::clone(&self.orchestrator),
            ..self.another(number)
        }
    }

    async fn run(&mut self, command: Command) -> Outcome {
        self.commands += 1;
        let envelope = CommandEnvelope::new(Uuid::from_u128(self.commands), command);
        let report = self.orchestrator.process_batch(vec![envelope], None).await;
        report.unwrap().outcomes.pop().unwrap()
    }

    pub(crate) async fn start(&mut self, task: usize, expected: Option<Value>) {
        let outcome = self
            .run(Command::Start(Start {
                task_id: task_id(task),
                workflow: self.workflow.clone(),
                input: None,
                labels: None,
                expected,
            }))
            .await;
        assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    }

    pub(crate) async fn label(&mut self, task: usize, annotator: usize, class: usize) -> Answer {
        let outcome = self
            .run(Command::Submission(Submission {
                task_id: task_id(task),
                step_id: None,
                annotation: labelled(annotator, &class.to_string()),
                workflow: Some(self.workflow.clone()),
            }))
            .await;
        answer(outcome)
    }

    /// Every comparison in the log, in order.
    async fn compared(&self) -> Vec<ConsensusCalculated> {
        let mut found = Vec::new();
        let mut after = LogPosition::default();
        loop {
            let page = self.store.read_log(after, 1_000).await.unwrap();
            let Some(last) = page.last() else {
                return found;
            };
            after = last.position;
            found.extend(
                page.into_iter()
                    .filter_map(|entry| match entry.event.event {
                        WorkflowEvent::ConsensusCalculated(compared) => Some(compared),
                        _ => None,
                    }),
            );
        }
    }
}

fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Applied(ProcessResult::Waiting { .. }) => Answer::AsksOn,
        Outcome::Applied(ProcessResult::Completed { output }) => Answer::Done {
            confidence: output["steps"]["annotate"]["posterior"]["confidence"]
                .as_f64()
                .unwrap_or(f64::NAN),
            result: output["result"].clone(),
        },
        Outcome::Rejected(rejection) => Answer::Rejected(rejection.code.to_string()),
        other => panic!("{other:?}"),
    }
}

fn labelled(annotator: usize, label: &str) -> AnnotationInput {
    AnnotationInput {
        annotation_id: None,
        user_id: annotator_id(annotator),
        data: json!({"label": label}),
        decision: None,
        submitted_at: None,
        roles: None,
        confidence: None,
    }
}

pub(crate) fn task_id(task: usize) -> TaskId {
    TaskId(Uuid::from_u128(0x7000 + task as u128))
}

fn annotator_id(annotator: usize) -> UserId {
    UserId(Uuid::from_u128(0xA000 + annotator as u128))
}

pub(crate) fn crowd(items: usize) -> Labelled {
    let crowd = Crowd {
        items,
        annotators: 12,
        labels: 6,
        frequencies: vec![2.0, 1.0, 1.0],
        spammers: 0.2,
        class_effects: 0.5,
        ..Crowd::default()
    };
    crowd.label(7)
}

pub(crate) const ROAD: &str = "
workflow:
  id: road
  steps:
    - id: annotate
      type: annotation
      completion: { type: confidence, target: 0.95, min: 2, max: 5 }
      consensus: { field: label }
";

/// The result of each task: labels used, best answer, probability of the most probable one.
pub(crate) type Came = Vec<(usize, Option<String>, f64)>;

/// The most probable of the answers that somebody gave; none on a tie.
fn best_given(posterior: &Posterior, labels: &[(&str, &str)]) -> Option<String> {
    let of = |class: &String| labels.iter().any(|(_, given)| given == class);
    let classes = posterior.classes.iter().zip(&posterior.probabilities);
    let mut given: Vec<_> = classes.filter(|(class, _)| of(class)).collect();
    given.sort_by(|a, b| b.1.total_cmp(a.1));
    match given.as_slice() {
        [first, second, ..] if *second.1 >= first.1 * 0.99 => None,
        [first, ..] => Some(first.0.clone()),
        [] => None,
    }
}

/// The model alone, updated as the documentation of adaptive overlap describes.
pub(crate) fn by_model(data: &Labelled) -> Came {
    let mut model = ReliabilityModel::new(Classes::Open).unwrap();
    let mut came = Vec::new();
    for (task, labels) in data.labels.iter().enumerate() {
        let task = task.to_string();
        let labels: Vec<(String, String)> = labels
            .iter()
            .take(5)
            .map(|(k, c)| (k.to_string(), c.to_string()))
            .collect();
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, c)| (&**k, &**c)).collect();
        for used in 1..=labels.len() {
            let posterior = model
                .posterior_for(&task, &labels[..used])
                .unwrap()
                .posterior();
            model
                .observe(&task, labels[used - 1].0, labels[used - 1].1)
                .unwrap();
            if used == labels.len() || (used >= 2 && posterior.confidence >= 0.95) {
                let best = best_given(&posterior, &labels[..used]);
                came.push((used, best, posterior.confidence));
                break;
            }
        }
        model.close(&task);
    }
    came
}

pub(crate) async fn by_road(
    road: &mut Road,
    data: &Labelled,
    tasks: std::ops::Range<usize>,
) -> Came {
    let mut came = Vec::new();
    for task in tasks {
        for (used, (annotator, class)) in (1..).zip(&data.labels[task]) {
            match road.label(task, *annotator, *class).await {
                Answer::AsksOn => {}
                Answer::Done { result, confidence } => {
                    came.push((used, result.as_str().map(str::to_owned), confidence));
                    break;
                }
                Answer::Rejected(code) => panic!("{code}"),
            }
        }
    }
    came
}

#[tokio::test]
async fn the_road_decides_as_the_model_does() {
    let data = crowd(60);
    let expected = by_model(&data);
    assert!(expected.iter().any(|(used, ..)| *used == 2));
    assert!(expected.iter().any(|(used, ..)| *used == 5));
    let folder = tempfile::tempdir().unwrap();
    let sqlite =
        SqliteEventStore::open(&folder.path().join("road.db"), Arc::new(DateTime::default))
            .await
            .unwrap();
    sqlite.migrate().await.unwrap();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), Arc::new(sqlite)];
    for store in stores {
        let mut road = Road::new(store, ROAD).await;
        assert_eq!(by_road(&mut road, &data, 0..60).await, expected);
    }
}

#[tokio::test]
async fn processes_and_restarts_go_on_from_what_others_learnt() {
    let data = crowd(260);
    let one = Road::new(Arc::new(MemoryStore::new()), ROAD).await;
    let expected = {
        let mut alone = one;
        let came = by_road(&mut alone, &data, 0..260).await;
        assert_eq!(came, by_model(&data));
        came
    };
    // Another store, with two processes that take turns: one that is behind and one that is new.
    let mut first = Road::new(Arc::new(MemoryStore::new()), ROAD).await;
    let mut second = first.another(1);
    let mut came = by_road(&mut first, &data, 0..20).await;
    came.extend(by_road(&mut second, &data, 20..40).await);
    came.extend(by_road(&mut first, &data, 40..200).await);
    came.extend(by_road(&mut second, &data, 200..230).await);
    let model = kept(&first).await.expect("kept after 500 labels");
    let mut third = first.another(2);
    came.extend(by_road(&mut third, &data, 230..240).await);
    // Rebuilt from nothing, it is the same.
    first.store.forget_models().await.unwrap();
    let mut fourth = first.another(3);
    came.extend(by_road(&mut fourth, &data, 240..260).await);
    assert_eq!(came, expected);
    assert_ne!(kept(&fourth).await, Some(model));

    // A rebuild gives what all processes have by now.
    let learnt = fourth.orchestrator.relearn().await.unwrap();
    assert_eq!(learnt, 1);
    let rebuilt = kept(&fourth).await.unwrap();
    fourth.store.forget_models().await.unwrap();
    fourth.another(4).orchestrator.relearn().await.unwrap();
    assert_eq!(kept(&fourth).await, Some(rebuilt));
}

/// The only model in the store.
async fn kept(road: &Road) -> Option<String> {
    let config = road.store.load_by_name("road").await.unwrap().unwrap();
    let keys = ModelKey::all_of(&config);
    let row = road.store.model_checkpoint(keys[0].id()).await.unwrap()?;
    Some(row.state)
}

#[tokio::test]
async fn a_task_that_is_not_at_hand_is_decided_on_what_was_learnt() {
    let data = crowd(40);
    let mut first = Road::new(Arc::new(MemoryStore::new()), ROAD).await;
    by_road(&mut first, &data, 0..39).await;
    first.label(39, 100, 0).await;
    // This process knows neither the task nor its workflow, and the command does not name them.
    let mut second = first.another(1);
    let outcome = second
        .run(Command::Submission(Submission {
            task_id: task_id(39),
            step_id: None,
            annotation: labelled(101, "0"),
            workflow: None,
        }))
        .await;
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
    let compared = second.compared().await;
    let posterior = compared.last().unwrap().posterior.as_ref().unwrap();
    let labels = u64::try_from(compared.len() + 39).unwrap();
    assert!(posterior.evidence.position >= labels, "{labels}");
    assert!(posterior.position > LogPosition::default());
}

#[tokio::test]
async fn gold_teaches_whom_to_believe_and_is_not_used_for_its_own_answer() {
    // Three people who agree with each other, and one who is right; only gold can tell them apart.
    let labels = |task: usize, truth: usize| {
        let other = 1 - truth;
        [(0, other), (1, other), (2, other), (3, truth)].map(|(k, class)| (task, k, class))
    };
    let yaml = ROAD.replace("min: 2, max: 5", "min: 4, max: 4");
    let mut weights = Vec::new();
    for has_gold in [false, true] {
        let mut road = Road::new(Arc::new(MemoryStore::new()), &yaml).await;
        for n in 0..30 {
            let truth = n % 2;
            let expected = has_gold.then(|| json!({"label": truth.to_string()}));
            road.start(n, expected).await;
            for (task, annotator, class) in labels(n, truth) {
                let answer = road.label(task, annotator, class).await;
                if n == 0
                    && let Answer::Done { result, .. } = &answer
                {
                    assert_eq!(*result, json!("1"), "the expected answer is not looked at");
                }
            }
        }
        road.start(99, None).await;
        for (task, annotator, class) in labels(99, 0) {
            if let Answer::Done { result, .. } = road.label(task, annotator, class).await {
                weights.push(result);
            }
        }
    }
    assert_eq!(weights, [json!("1"), json!("0")]);
}

#[tokio::test]
async fn a_weighted_vote_believes_those_who_were_right() {
    let yaml = "
workflow:
  id: weighed
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 3 }
      consensus:
        field: label
        on_disagreement: { strategy: weighted_vote }
";
    let mut road = Road::new(Arc::new(MemoryStore::new()), yaml).await;
    for task in 0..40 {
        // One is right, one agrees most of the time, and one does not look.
        let truth = task % 2;
        let second = if task % 8 == 0 { 1 - truth } else { truth };
        road.label(task, 0, truth).await;
        road.label(task, 1, second).await;
        road.label(task, 2, task % 3 % 2).await;
    }
    let before = road.compared().await.len();
    // Two who never looked against one who always did.
    for task in 40..60 {
        road.label(task, 0, task % 2).await;
        road.label(task, 1, task % 2).await;
        road.label(task, 3, task / 2 % 2).await;
    }
    road.label(99, 2, 1).await;
    road.label(99, 3, 1).await;
    let Answer::Done { result, .. } = road.label(99, 0, 0).await else {
        panic!("the task is done")
    };
    let compared = road.compared().await;
    assert!(compared.len() > before);
    let last = compared.last().unwrap();
    let weights = last.weights.as_ref().unwrap();
    assert!(weights.position > LogPosition::default());
    assert_eq!(weights.annotators.len(), 3);
    let sum: f64 = weights.annotators[..2].iter().map(|one| one.weight).sum();
    let vote = |value: &str| {
        let found = last.votes.iter().find(|vote| vote.value == *value);
        found.map(|vote| (vote.count, vote.weight)).unwrap()
    };
    assert_eq!(vote("1"), (2, sum));
    assert_eq!(vote("0"), (1, weights.annotators[2].weight));
    assert_eq!(result, json!("0"), "{weights:?}");
}

#[tokio::test]
async fn racers_for_the_last_slot_get_one() {
    let mut road = Road::new(Arc::new(MemoryStore::new()), ROAD).await;
    let mut answers = Vec::new();
    for annotator in 0..5 {
        // Nobody agrees, so the maximum is requested.
        answers.push(road.label(0, annotator, annotator).await);
    }
    assert!(matches!(answers.last(), Some(Answer::Done { .. })));
    let late = Submission {
        task_id: task_id(0),
        step_id: Some("annotate".to_owned()),
        annotation: labelled(6, "0"),
        workflow: None,
    };
    let late = answer(road.run(Command::Submission(late)).await);
    assert!(matches!(late, Answer::Rejected(code) if code == "surplus"));

    // All in one batch.
    let envelope = |n: u128| {
        let submission = Submission {
            task_id: task_id(1),
            step_id: None,
            annotation: labelled(usize::try_from(n).unwrap(), &n.to_string()),
            workflow: Some(road.workflow.clone()),
        };
        CommandEnvelope::new(
            Uuid::from_u128((9 << 100) + n),
            Command::Submission(submission),
        )
    };
    let batch = (0..8).map(envelope).collect();
    let report = road.orchestrator.process_batch(batch, None).await.unwrap();
    let used = report
        .outcomes
        .iter()
        .filter(|o| matches!(o, Outcome::Applied(_)));
    assert_eq!(used.count(), 5);
}

#[test]
fn what_cannot_be_asked_is_named_when_the_workflow_is_created() {
    let of = |yaml: &str| -> Vec<String> {
        let Err(error) = parse_workflow(yaml) else {
            return Vec::new();
        };
        let errors = error.diagnostics.iter();
        let errors = errors.filter(|d| d.severity == Severity::Error);
        errors.map(|d| format!("{} {}", d.code, d.path)).collect()
    };
    let at = |path: &str| format!("workflow.steps[0]{path}");
    for (completion, expected) in [
        (
            "target: 1.0",
            format!("out_of_range {}", at(".completion.target")),
        ),
        (
            "targets: { c: 0.9 }, classes: [a, b]",
            format!("invalid_value {}", at(".completion.targets.c")),
        ),
        (
            "targets: { a: 1 }, classes: [a, b]",
            format!("out_of_range {}", at(".completion.targets.a")),
        ),
        (
            "min: 5, max: 4",
            format!("conflicting_keys {}", at(".completion")),
        ),
        (
            "classes: [a]",
            format!("out_of_range {}", at(".completion.classes")),
        ),
        (
            "classes: [1, 1.0]",
            format!("invalid_value {}", at(".completion.classes[1]")),
        ),
        (
            "classes: [a, [b]]",
            format!("invalid_value {}", at(".completion.classes[1]")),
        ),
        (
            "unique_annotators: false",
            format!("conflicting_keys {}", at(".completion")),
        ),
        (
            "count: 2",
            format!("misplaced_key {}", at(".completion.count")),
        ),
    ] {
        assert_eq!(of(&with_completion(completion)), [expected], "{completion}");
    }
    for consensus in ["{ field: other }", "{ per_field: { a: {}, b: {} } }"] {
        let yaml = ASKS.replace(
            "field: label",
            &format!("field: label\n      consensus: {consensus}"),
        );
        assert!(
            of(&yaml).contains(&format!("conflicting_keys {}", at(""))),
            "{consensus}"
        );
    }
    assert!(
        of(&with_completion(
            "timeout_action: proceed, classes: [a, 1, true]"
        ))
        .is_empty()
    );
}
