//! Labels, what is known of them now, and of the people who gave them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::http::StatusCode;
use glyph_worker::{
    projections::{GoalProjector, LabelsProjector, PageOutcome, labels},
    settings::Tokens,
    wire::CloudEventMessages,
};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    store::{MemoryStore, Outbox, ProjectionStore, PublisherId},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Server, access::one_token_for_each_role, assert_problem, work};
use crate::support::schemas::assert_message;

const ADAPTIVE: &str = "
workflow:
  id: adaptive
  steps:
    - id: annotate
      type: annotation
      completion: { type: confidence, target: 0.9, min: 3, max: 3 }
      answer: { field: label, kind: category, values: [cat, dog] }
";

/// Good at it, and two who say the opposite of the truth.
const GOOD: u128 = 0xA1;
const BAD: [u128; 2] = [0xB1, 0xB2];

/// The task that was completed before anybody was known.
const FIRST: u128 = 1;
const GOLD: u128 = 30;

struct Scene {
    server: Server,
    store: Arc<MemoryStore>,
}

impl Scene {
    async fn new(tokens: Tokens, operator: Option<&'static str>) -> Self {
        Self::of(ADAPTIVE, tokens, operator).await
    }

    async fn of(yaml: &str, tokens: Tokens, operator: Option<&'static str>) -> Self {
        let (mut server, store) = Server::with_store(tokens);
        server.token = operator;
        let created = server.post("/api/v1/workflows", yaml.to_owned(), &[]).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
        Self { server, store }
    }

    async fn task(&self, n: u128, start: &Value, votes: &[(u128, &str)]) {
        let task = Uuid::from_u128(n);
        let started = self.server.verb(task, "start", start).await;
        assert_eq!(started.status, StatusCode::CREATED, "{}", started.json);
        for (user, label) in votes {
            let done = self
                .server
                .verb(task, "submit", &work(*user, label, &[]))
                .await;
            assert_eq!(done.status, StatusCode::OK, "{}", done.json);
        }
    }

    /// One task that two unknown people decide against a third, then gold tasks that tell who of
    /// them is right.
    async fn play(&self) {
        let start = json!({"workflow": "adaptive", "labels": {"project": "p1"}});
        let votes = [(BAD[0], "dog"), (BAD[1], "dog"), (GOOD, "cat")];
        self.task(FIRST, &start, &votes).await;
        for n in 0..GOLD {
            let (right, wrong) = if n % 2 == 0 {
                ("cat", "dog")
            } else {
                ("dog", "cat")
            };
            let start = json!({"workflow": "adaptive", "expected": right});
            let votes = [(GOOD, right), (BAD[0], wrong), (BAD[1], wrong)];
            self.task(1_000 + n, &start, &votes).await;
        }
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.server.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json
    }

    /// Messages about revised answers since the last call.
    async fn told(&self) -> Vec<Value> {
        let publisher = PublisherId(Uuid::nil());
        let rows = self.store.claim(publisher, Duration::from_mins(1), 1_000);
        let rows = rows.await.unwrap();
        let positions: Vec<_> = rows.iter().map(|row| row.position).collect();
        self.store.confirmed(&positions).await.unwrap();
        let read = |body: &str| {
            let body: Value = serde_json::from_str(body).unwrap();
            assert_message(&body);
            body
        };
        let carried = rows.iter().filter_map(|row| row.content.message());
        let told = carried.filter(|message| message.message_type == "answer.revised");
        told.map(|message| read(&message.body)).collect()
    }

    fn projector(&self) -> LabelsProjector {
        let store = &self.store;
        let orchestrator =
            WorkflowOrchestrator::new(Arc::clone(store) as _, Arc::clone(store) as _);
        let messages = CloudEventMessages::default();
        LabelsProjector::new(Arc::clone(store) as _, Arc::new(orchestrator), messages)
    }

    async fn follow(&self) {
        while let PageOutcome::Read { .. } = self.projector().step().await.unwrap() {}
    }

    async fn count_goals(&self) {
        let store = Arc::clone(&self.store) as _;
        let projector = GoalProjector::new(store, CloudEventMessages::default());
        while let PageOutcome::Read { .. } = projector.step().await.unwrap() {}
    }

    /// Looks back until nothing is due, each time with a projector that knows only what is stored,
    /// as after a crash. Returns how often there was something to do.
    async fn look(&self) -> usize {
        let mut times = 0;
        while self.projector().look().await.unwrap() {
            times += 1;
        }
        times
    }
}

fn of_first(labels: &Value) -> &Value {
    let task = json!(Uuid::from_u128(FIRST));
    let labels = labels["labels"].as_array().unwrap();
    labels.iter().find(|one| one["task_id"] == task).unwrap()
}

#[tokio::test]
async fn a_label_shows_what_was_delivered_and_what_is_known_now() {
    let scene = Scene::new(Tokens::default(), None).await;
    scene.play().await;
    let mut seen = BTreeSet::new();
    let mut path = "/api/v1/labels?workflow=adaptive&limit=7".to_owned();
    loop {
        let page = scene.get(&path).await;
        let labels = page["labels"].as_array().unwrap();
        assert!(labels.len() <= 7);
        seen.extend(
            labels
                .iter()
                .map(|one| one["task_id"].as_str().unwrap().to_owned()),
        );
        let Some(after) = page["next_after"].as_str() else {
            break;
        };
        path = format!("/api/v1/labels?workflow=adaptive&limit=7&after={after}");
    }
    assert_eq!(seen.len() as u128, 1 + GOLD);

    let page = scene
        .get("/api/v1/labels?workflow=adaptive&label.project=p1")
        .await;
    assert_eq!(page["labels"].as_array().unwrap().len(), 1);
    let one = of_first(&page);
    assert_eq!(
        (&one["step"], &one["visit"]),
        (&json!("annotate"), &json!(1))
    );
    assert_eq!(one["value"], "dog");
    assert_eq!(one["resolved_by"], "posterior");
    assert_eq!(one["result_of"], json!({"step": "annotate", "visit": 1}));
    assert_eq!(one["gold"], Value::Null);
    assert!(one["confidence"].as_f64().unwrap() > 0.5, "{one}");
    assert_eq!(one["value_now"], "cat");
    assert!(one["confidence_now"].as_f64().unwrap() < 0.5, "{one}");
    assert_eq!(one["posterior_now"]["classes"], json!(["cat", "dog"]));
    assert!(one["model_position"]["position"].is_i64(), "{one}");
    let votes = one["votes"].as_array().unwrap();
    let values: Vec<&Value> = votes.iter().map(|vote| &vote["value"]).collect();
    assert_eq!(values, ["dog", "dog", "cat"]);
    assert!(votes.iter().all(|vote| vote.get("annotator").is_none()));

    let path = "/api/v1/labels?workflow=adaptive&with_annotators=true";
    let page = scene.get(path).await;
    let vote = &of_first(&page)["votes"][2];
    assert_eq!(vote["annotator"], json!(Uuid::from_u128(GOOD)));
    let gold = page["labels"].as_array().unwrap();
    let gold: Vec<&Value> = gold.iter().filter(|one| !one["gold"].is_null()).collect();
    assert_eq!(gold.len() as u128, GOLD);
    assert!(gold.iter().any(|one| one["gold"]["right"] == true));
    assert!(gold.iter().any(|one| one["gold"]["right"] == false));
    let late = "/api/v1/labels?workflow=adaptive&since=2999-01-01T00:00:00Z";
    assert_eq!(scene.get(late).await["labels"], json!([]));
}

#[tokio::test]
async fn the_likely_error_comes_first_and_is_told_once() {
    let scene = Scene::new(Tokens::default(), None).await;
    scene.play().await;
    for n in 0..3 {
        let start = json!({"workflow": "adaptive"});
        let votes = [(GOOD, "cat"), (BAD[0], "dog"), (BAD[1], "dog")];
        scene.task(2_000 + n, &start, &votes).await;
    }
    let found = scene.get("/api/v1/labels/suspect?workflow=adaptive").await;
    assert_eq!(found["next_after"], Value::Null);
    assert_eq!(found["tasks"], json!(GOLD + 4));
    let suspects = found["suspects"].as_array().unwrap();
    assert_eq!(suspects.len(), 4, "gold tasks are no output");
    let first = &suspects[0];
    assert_eq!(first["task_id"], json!(Uuid::from_u128(FIRST)));
    assert_eq!(
        (&first["value"], &first["value_now"]),
        (&json!("dog"), &json!("cat"))
    );
    assert!(first["error_probability"].as_f64().unwrap() > 0.5);
    assert!(
        suspects[1]["error_probability"].as_f64().unwrap() < 0.5,
        "{found}"
    );
    let one = scene
        .get("/api/v1/labels/suspect?workflow=adaptive&limit=1")
        .await;
    assert_eq!(one["suspects"].as_array().unwrap().len(), 1);
    let short = "/api/v1/labels/suspect?workflow=adaptive&seconds=0";
    assert_eq!(scene.get(short).await["tasks"], found["tasks"], "one page");
    for wrong in ["11", "-1", "NaN", "x"] {
        let path = format!("/api/v1/labels/suspect?workflow=adaptive&seconds={wrong}");
        let answer = scene.server.get(&path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.json);
    }

    let look = async || {
        let answer = scene
            .server
            .post("/api/v1/labels/look?workflow=adaptive", String::new(), &[])
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json
    };
    let report = look().await;
    assert_eq!(
        (&report["answers"], &report["revised"]),
        (&json!(4), &json!(1))
    );
    let told = scene.told().await;
    assert_eq!(told.len(), 1);
    let data = &told[0]["data"];
    assert_eq!(data["task_id"], json!(Uuid::from_u128(FIRST)));
    assert_eq!(
        (&data["before"], &data["now"]),
        (&json!("dog"), &json!("cat"))
    );
    assert!(data["posterior_before"]["confidence"].as_f64().unwrap() > 0.5);
    assert!(data["posterior_now"]["probabilities"][0].as_f64().unwrap() > 0.5);
    assert_eq!(told[0].get("sequence"), None);
    assert_eq!(look().await["revised"], 1);
    assert!(
        scene.told().await.is_empty(),
        "a changed answer is told once"
    );
    let state = scene
        .get(&format!("/api/v1/tasks/{}/state", Uuid::from_u128(FIRST)))
        .await;
    assert_eq!(
        state["output"]["result"], "dog",
        "looking back edits nothing"
    );
}

#[tokio::test]
async fn completed_tasks_are_looked_at_by_themselves_once_there_are_enough() {
    let scene = Scene::new(Tokens::default(), None).await;
    scene.play().await;
    for n in 0..98 {
        let start = json!({"workflow": "adaptive"});
        let label = if n % 2 == 0 { "cat" } else { "dog" };
        let votes = [(0xC1, label), (0xC2, label), (0xC3, label)];
        scene.task(3_000 + n, &start, &votes).await;
    }
    scene.follow().await;
    assert!(
        !scene.projector().look().await.unwrap(),
        "99 are not enough"
    );
    let start = json!({"workflow": "adaptive"});
    let votes = [(0xC1, "cat"), (0xC2, "cat"), (0xC3, "cat")];
    scene.task(4_000, &start, &votes).await;
    scene.follow().await;
    let mut pages = 0;
    // A fresh projector knows only what is stored, as after a crash.
    while scene.projector().look().await.unwrap() {
        pages += 1;
    }
    assert_eq!(pages, 2, "130 tasks, 100 a page");
    let told = scene.told().await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["data"]["now"], "cat");
    assert!(!scene.projector().look().await.unwrap());
}

#[tokio::test]
async fn a_reached_goal_has_the_steps_of_its_workflow_looked_at_once() {
    let goal = "goals: [{ id: enough, type: volume, target: 3, unit: tasks }]\n";
    let scene = Scene::of(&format!("{ADAPTIVE}{goal}"), Tokens::default(), None).await;
    scene.play().await;
    let more = async |n: u128| {
        let start = json!({"workflow": "adaptive"});
        let votes = [(0xC1, "cat"), (0xC2, "cat"), (0xC3, "cat")];
        scene.task(3_000 + n, &start, &votes).await;
    };
    more(1).await;
    scene.count_goals().await;
    scene.follow().await;
    assert_eq!(scene.look().await, 0, "two of three are no end");
    more(2).await;
    // The goal is counted before the completion is: neither waits for the other.
    scene.count_goals().await;
    assert_eq!(
        scene.look().await,
        2,
        "the goal is noted, and one page read"
    );
    let told = scene.told().await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["data"]["task_id"], json!(Uuid::from_u128(FIRST)));
    scene.follow().await;
    more(3).await;
    scene.count_goals().await;
    scene.follow().await;
    assert_eq!(scene.look().await, 0, "a goal ends once");

    // Counted anew from the log, it is looked at again, and nothing is told twice.
    let reset = scene.store.reset_projection(labels::PROJECTION).await;
    reset.unwrap();
    scene.follow().await;
    assert_eq!(scene.look().await, 2);
    assert!(scene.told().await.is_empty());
}

#[tokio::test]
async fn copies_are_suspected_and_changes_are_told() {
    const ITEMS: u128 = 100;
    const COPIES: [u128; 2] = [0xC1, 0xC2];
    const TIRED: u128 = 0xD1;
    let yaml = ADAPTIVE.replace("min: 3, max: 3", "min: 5, max: 5");
    let scene = Scene::of(&yaml, Tokens::default(), None).await;
    for n in 0..ITEMS {
        let (right, wrong) = if n % 2 == 0 {
            ("cat", "dog")
        } else {
            ("dog", "cat")
        };
        let copied = if n % 5 == 0 { wrong } else { right };
        let tired = if n >= 60 && n % 4 < 2 { wrong } else { right };
        let good = |errs: bool| if errs { wrong } else { right };
        let votes = [
            (0xA1, good(n % 11 == 3)),
            (0xA2, good(n % 13 == 6)),
            (COPIES[0], copied),
            (COPIES[1], copied),
            (TIRED, tired),
        ];
        scene
            .task(1_000 + n, &json!({"workflow": "adaptive"}), &votes)
            .await;
    }
    let path = "/api/v1/annotators?workflow=adaptive";
    let list = scene.get(path).await;
    assert_eq!(list["accuracies"].as_array().unwrap().len(), 5);
    let pairs = list["suspicious_pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    let pair = &pairs[0];
    assert_eq!(pair["user_ids"], json!(COPIES.map(Uuid::from_u128)));
    assert_eq!(
        (&pair["step_id"], &pair["field"]),
        (&json!("annotate"), &json!("label"))
    );
    assert_eq!(
        (&pair["items"], &pair["alike"]),
        (&json!(ITEMS), &json!(ITEMS))
    );
    let number = |of: &Value| of.as_f64().unwrap();
    assert!(number(&pair["alike_expected"]) < 85.0, "{pair}");
    assert!(number(&pair["correlation"]) > 0.9 && number(&pair["log_evidence"]) > 5.0);

    let accuracy = |user: u128| {
        let all = list["accuracies"].as_array().unwrap();
        let user = json!(Uuid::from_u128(user));
        all.iter().find(|one| one["user_id"] == user).unwrap()
    };
    assert_eq!(accuracy(0xA1)["change"], Value::Null);
    let tired = accuracy(TIRED);
    let change = &tired["change"];
    assert!(
        number(&change["before"]) > 0.9 && number(&change["now"]) < 0.7,
        "{change}"
    );
    let since = change["labels_since"].as_u64().unwrap();
    assert!((30..=50).contains(&since), "{change}");
    let first = 1_000 + ITEMS - u128::from(since);
    assert_eq!(change["task_id"], json!(Uuid::from_u128(first)));
    assert!(change["since"].is_string(), "{change}");
    let lately = &tired["lately"];
    assert_eq!(lately["half_life"], 100);
    assert!(
        number(&lately["accuracy"]) < number(&tired["accuracy"]),
        "{tired}"
    );
    assert!(number(&lately["low"]) < number(&lately["accuracy"]));

    let of_one = format!("{path}&user_id={}", Uuid::from_u128(0xA1));
    let one = scene.get(&of_one).await;
    assert_eq!(one["accuracies"], json!([accuracy(0xA1)]));
    assert_eq!(one["suspicious_pairs"], json!([]));
    let all = scene.get("/api/v1/annotators").await;
    assert_eq!(
        all,
        json!({"annotators": []}),
        "without a workflow, gold and pauses"
    );

    let report = async |user: u128| {
        let path = format!("/api/v1/annotators/{}", Uuid::from_u128(user));
        scene.get(&path).await["questions"][0].clone()
    };
    let copy = report(COPIES[1]).await;
    let partners = copy["suspicious"].as_array().unwrap();
    assert_eq!(partners.len(), 1, "{copy}");
    assert_eq!(partners[0]["user_id"], json!(Uuid::from_u128(COPIES[0])));
    assert_eq!(partners[0]["log_evidence"], pair["log_evidence"]);
    let good = report(0xA1).await;
    assert_eq!(good["suspicious"], json!([]));
    let cat = &good["agreement_by_class"][0];
    assert_eq!(cat["value"], "cat");
    let (both, one) = (number(&cat["both"]), number(&cat["one"]));
    let agreement = number(&cat["agreement"]);
    assert!((agreement - 2.0 * both / (2.0 * both + one)).abs() < 1e-12);
    // Half of the tasks are cats; four others each: two are wrong in a fifth of them.
    assert!(both > 120.0 && one > 0.0, "{cat}");

    // Where people differ, the question was difficult.
    let labels = scene.get("/api/v1/labels?workflow=adaptive").await;
    let difficulty = |n: u128| {
        let task = json!(Uuid::from_u128(1_000 + n));
        let labels = labels["labels"].as_array().unwrap();
        let label = labels.iter().find(|one| one["task_id"] == task).unwrap();
        number(&label["difficulty_now"])
    };
    assert!(
        difficulty(80) > 2.0 * difficulty(1),
        "{} {}",
        difficulty(80),
        difficulty(1)
    );
    let suspects = scene
        .get("/api/v1/labels/suspect?workflow=adaptive&limit=1")
        .await;
    assert!(
        suspects["suspects"][0]["difficulty_now"].is_f64(),
        "{suspects}"
    );
}

#[tokio::test]
async fn stated_probabilities_are_compared_with_gold() {
    let scene = Scene::new(Tokens::default(), None).await;
    scene.play().await;
    assert_eq!(
        scene.get("/api/v1/calibration").await,
        json!({"calibration": []})
    );
    scene.follow().await;
    let all = scene.get("/api/v1/calibration?workflow=adaptive").await;
    let step = &all["calibration"][0];
    assert_eq!(
        (&step["workflow"], &step["step_id"]),
        (&json!("adaptive"), &json!("annotate"))
    );
    assert_eq!(step["answers"], json!(GOLD));
    let bins = step["bins"].as_array().unwrap();
    let sum = |key: &str| {
        bins.iter()
            .map(|bin| bin[key].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((bins.len(), u128::from(sum("answers"))), (10, GOLD));
    assert_eq!(step["right"], json!(sum("right")));
    for bin in bins.iter().filter(|bin| bin["answers"] != 0) {
        let of = |key: &str| bin[key].as_f64().unwrap();
        assert!(
            of("low") <= of("share") && of("share") <= of("high"),
            "{bin}"
        );
        assert!(of("from") <= of("mean_confidence") && of("mean_confidence") <= of("to"));
    }
    let other = scene.get("/api/v1/calibration?workflow=other").await;
    assert_eq!(other["calibration"], json!([]));
}

#[tokio::test]
async fn a_report_tells_how_reliable_an_annotator_is() {
    let scene = Scene::new(Tokens::default(), None).await;
    scene.play().await;
    let report = async |user: u128| {
        let user = Uuid::from_u128(user);
        scene.get(&format!("/api/v1/annotators/{user}")).await
    };
    let good = report(GOOD).await;
    assert_eq!(good["questions"].as_array().unwrap().len(), 1);
    let good = &good["questions"][0];
    let question = (&good["workflow"], &good["step_id"], &good["field"]);
    assert_eq!(
        question,
        (&json!("adaptive"), &json!("annotate"), &json!("label"))
    );
    assert_eq!(good["labels"], json!(GOLD + 1));
    assert_eq!(
        (&good["gold_answers"], &good["gold_right"]),
        (&json!(GOLD), &json!(GOLD))
    );
    assert_eq!(good["compared"], json!(2 * (GOLD + 1)));
    assert_eq!(good["agreement_with_others"], 0.0);
    assert_eq!(good["classes"], json!(["cat", "dog"]));
    let cell =
        |of: &Value, row: usize, column: usize| of["confusion"][row][column].as_f64().unwrap();
    assert!(cell(good, 0, 0) > 0.8 && cell(good, 1, 1) > 0.8, "{good}");

    let bad = report(BAD[0]).await;
    let bad = &bad["questions"][0];
    assert_eq!(bad["gold_right"], 0);
    assert_eq!(bad["agreement_with_others"], 0.5);
    assert!(cell(bad, 0, 1) > 0.5, "{bad}");
    assert!(bad["high"].as_f64().unwrap() < good["low"].as_f64().unwrap());

    let nobody = report(0xDEAD).await;
    assert_eq!(nobody["questions"], json!([]));
    let elsewhere = format!(
        "/api/v1/annotators/{}?workflow=other",
        Uuid::from_u128(GOOD)
    );
    assert_eq!(scene.get(&elsewhere).await["questions"], json!([]));
    let malformed = scene.server.get("/api/v1/annotators/ann").await;
    assert_problem(&malformed, 400, "malformed");
}

#[tokio::test]
async fn steps_without_a_model_have_labels_and_their_annotators_a_report_by_workflow() {
    let server = Server::with_dual().await;
    let task = Uuid::from_u128(5);
    server.start(task).await;
    for user in [1, 2] {
        server
            .verb(task, "submit", &work(user, "positive", &[]))
            .await;
    }
    let page = server.get("/api/v1/labels?workflow=sentiment-dual").await;
    let one = &page.json["labels"][0];
    assert_eq!(
        (&one["value"], &one["agreement"]),
        (&json!("positive"), &json!(1.0))
    );
    assert_eq!(
        (&one["value_now"], &one["posterior"]),
        (&Value::Null, &Value::Null)
    );
    let suspects = server
        .get("/api/v1/labels/suspect?workflow=sentiment-dual")
        .await;
    assert_eq!(suspects.json["suspects"], json!([]));
    let path = format!("/api/v1/annotators/{}", Uuid::from_u128(1));
    assert_eq!(server.get(&path).await.json["questions"], json!([]));
    let report = server.get(&format!("{path}?workflow=sentiment-dual")).await;
    assert_eq!(report.json["questions"][0]["labels"], 1, "{}", report.json);
}

#[tokio::test]
async fn an_answer_that_a_later_step_replaced_is_not_looked_back_at() {
    let (server, _) = Server::with_store(Tokens::default());
    let yaml = "
workflow:
  id: adaptive
  steps:
    - id: annotate
      type: annotation
      completion: { type: confidence, target: 0.9, min: 3, max: 3 }
      answer: { field: label, kind: category, values: [cat, dog] }
    - { id: check, type: review }
  transitions:
    - { from: annotate, to: check }
    - { from: check, to: _complete }
";
    let created = server.post("/api/v1/workflows", yaml.to_owned(), &[]).await;
    assert_eq!(created.status, StatusCode::CREATED, "{}", created.json);
    for (n, review) in [
        (
            1,
            json!({"user_id": Uuid::from_u128(9), "decision": "approve", "data": {}}),
        ),
        (
            2,
            json!({"user_id": Uuid::from_u128(9), "decision": "fix", "data": {"label": "cat"}}),
        ),
    ] {
        let task = Uuid::from_u128(n);
        server
            .verb(task, "start", &json!({"workflow": "adaptive"}))
            .await;
        for user in [1, 2, 3] {
            server.verb(task, "submit", &work(user, "dog", &[])).await;
        }
        let done = server
            .verb(task, "submit", &json!({"annotation": review}))
            .await;
        assert_eq!(done.status, StatusCode::OK, "{}", done.json);
    }
    let found = server.get("/api/v1/labels/suspect?workflow=adaptive").await;
    let suspects = found.json["suspects"].as_array().unwrap();
    assert_eq!(suspects.len(), 1, "{}", found.json);
    assert_eq!(suspects[0]["task_id"], json!(Uuid::from_u128(1)));
    let page = server
        .get("/api/v1/labels?workflow=adaptive&step=check")
        .await;
    assert_eq!(
        page.json["labels"].as_array().unwrap().len(),
        2,
        "{}",
        page.json
    );
}

#[tokio::test]
async fn who_may_read_labels_is_decided_by_the_token() {
    let user = Uuid::from_u128(1);
    let mut scene = Scene::new(one_token_for_each_role(), Some("operator")).await;
    scene.play().await;
    let paths = [
        "/api/v1/labels?workflow=adaptive".to_owned(),
        "/api/v1/labels/suspect?workflow=adaptive".to_owned(),
        "/api/v1/calibration".to_owned(),
        "/api/v1/annotators?workflow=adaptive".to_owned(),
        format!("/api/v1/annotators/{user}"),
    ];
    scene.server.token = Some("annotator");
    for path in &paths {
        assert_problem(&scene.server.get(path).await, 403, "forbidden");
    }
    scene.server.token = Some("viewer");
    for path in &paths {
        assert_eq!(
            scene.server.get(path).await.status,
            StatusCode::OK,
            "{path}"
        );
    }
    let shown = scene.server.get(&paths[0]).await;
    assert!(!shown.text.contains("expected"), "{}", shown.text);
    let look = "/api/v1/labels/look?workflow=adaptive";
    assert_problem(
        &scene.server.post(look, String::new(), &[]).await,
        403,
        "forbidden",
    );
    scene.server.token = Some("operator");
    let shown = scene.server.get(&paths[0]).await;
    assert!(shown.text.contains("expected"));

    let unknown = scene.server.get("/api/v1/labels?workflow=nothing").await;
    assert_problem(&unknown, 404, "workflow_not_found");
    assert_problem(&scene.server.get("/api/v1/labels").await, 400, "malformed");
    let odd = scene
        .server
        .get("/api/v1/labels?workflow=adaptive&since=now")
        .await;
    assert_problem(&odd, 400, "malformed");
}
