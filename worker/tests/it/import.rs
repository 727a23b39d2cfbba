//! Exports of annotation tools, imported over RabbitMQ and worked to their end. What people agree on
//! is calculated a second time from the files themselves.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use glyph_workflow_engine::{ids::TaskId, store::EventStore};
use serde_json::{Value, json};

use crate::support::{eventually, services::Services};

const BOXES: &str = "field: boxes, kind: boxes, format: xywh, tag: label";
const ENTITIES: &str = "field: entities, kind: spans, tag: label, text: input.text";
const RELATIONS: &str = "field: relation, kind: category, values: [treats, causes, none]";

/// One step for `people`, whose agreement is measured and decides nothing.
fn workflow(id: &str, people: u32, answer: &str, metric: &str) -> String {
    format!(
        "
workflow:
  id: {id}
  steps:
    - id: annotate
      type: annotation
      completion: {{ type: annotation_count, count: {people} }}
      answer: {{ {answer} }}
      consensus: {{ metric: {metric}, threshold: 0.0 }}
"
    )
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/exports")
        .join(name)
}

fn text(name: &str) -> String {
    let text = std::fs::read_to_string(fixture(name)).unwrap();
    text.trim_start_matches('\u{feff}').to_owned()
}

/// What one person marked: two coordinates on each axis, and a class.
type Marked = (Vec<[f64; 2]>, String);

/// Share that two regions have in common of what either covers.
fn overlap(a: &Marked, b: &Marked) -> f64 {
    if a.1 != b.1 {
        return 0.0;
    }
    let size = |axes: &[[f64; 2]]| axes.iter().map(|[low, high]| high - low).product::<f64>();
    let common: Vec<[f64; 2]> =
        a.0.iter()
            .zip(&b.0)
            .map(|(x, y)| [x[0].max(y[0]), x[1].min(y[1])])
            .collect();
    if common.iter().any(|[low, high]| low >= high) {
        return 0.0;
    }
    size(&common) / (size(&a.0) + size(&b.0) - size(&common))
}

/// The overlaps of the best matching with at least `least` each, by trying all of them.
fn matching(a: &[Marked], b: &[Marked], least: f64) -> Vec<f64> {
    let Some((first, rest)) = a.split_first() else {
        return Vec::new();
    };
    let sum = |list: &Vec<f64>| list.iter().sum::<f64>();
    let mut best = matching(rest, b, least);
    for (index, other) in b.iter().enumerate() {
        let share = overlap(first, other);
        if share > 0.0 && share >= least {
            let mut left = b.to_vec();
            left.remove(index);
            let mut found = matching(rest, &left, least);
            found.push(share);
            if sum(&found) > sum(&best) {
                best = found;
            }
        }
    }
    best
}

fn mean_overlap(a: &[Marked], b: &[Marked]) -> f64 {
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    let matched = matching(a, b, 0.0);
    matched.iter().sum::<f64>() / (a.len() + b.len() - matched.len()) as f64
}

fn f1(a: &[Marked], b: &[Marked]) -> f64 {
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    2.0 * matching(a, b, 0.5).len() as f64 / (a.len() + b.len()) as f64
}

fn mean_of_pairs<T>(answers: &[T], alike: impl Fn(&T, &T) -> f64) -> f64 {
    let mut all = Vec::new();
    for (index, a) in answers.iter().enumerate() {
        all.extend(answers[index + 1..].iter().map(|b| alike(a, b)));
    }
    all.iter().sum::<f64>() / all.len() as f64
}

/// Agreement on the boxes of Label Studio, by task.
fn of_label_studio() -> BTreeMap<String, f64> {
    let tasks: Vec<Value> = serde_json::from_str(&text("label-studio.json")).unwrap();
    let marked = |result: &Value| {
        let value = &result["value"];
        let side = |from: &str, length: &str| {
            let low = value[from].as_f64().unwrap();
            [low, low + value[length].as_f64().unwrap()]
        };
        let class = value["rectanglelabels"][0].as_str().unwrap().to_owned();
        (vec![side("x", "width"), side("y", "height")], class)
    };
    let of_task = |task: &Value| {
        let annotations = task["annotations"].as_array().unwrap().iter();
        let valid = annotations.filter(|one| one["was_cancelled"] == false);
        let answers: Vec<Vec<Marked>> = valid
            .map(|one| {
                one["result"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(marked)
                    .collect()
            })
            .collect();
        (
            task["id"].to_string(),
            mean_of_pairs(&answers, |a, b| mean_overlap(a, b)),
        )
    };
    tasks.iter().map(of_task).collect()
}

/// Agreement on the spans of Prodigy, by the hash of the input.
fn of_prodigy() -> BTreeMap<String, f64> {
    let mut answers: BTreeMap<String, Vec<Vec<Marked>>> = BTreeMap::new();
    for line in text("prodigy.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        if row["answer"] != "accept" {
            continue;
        }
        let marked = |span: &Value| {
            let stretch = [
                span["start"].as_f64().unwrap(),
                span["end"].as_f64().unwrap(),
            ];
            (vec![stretch], span["label"].as_str().unwrap().to_owned())
        };
        let spans = row["spans"]
            .as_array()
            .unwrap()
            .iter()
            .map(marked)
            .collect();
        answers
            .entry(row["_input_hash"].to_string())
            .or_default()
            .push(spans);
    }
    let of_task = |(key, answers): (String, Vec<Vec<Marked>>)| {
        (key, mean_of_pairs(&answers, |a, b| f1(a, b)))
    };
    answers.into_iter().map(of_task).collect()
}

/// Agreement on the relations of the crowd, by unit: the share of pairs of people who say the same.
fn of_crowd() -> BTreeMap<String, f64> {
    let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text("crowd.csv").lines().skip(1) {
        // Only the sentence has commas, and it comes after the relation.
        let cells: Vec<&str> = line.split(',').collect();
        answers
            .entry(cells[0].to_owned())
            .or_default()
            .push(cells[6].to_owned());
    }
    let of_task = |(key, answers): (String, Vec<String>)| {
        (
            key,
            mean_of_pairs(&answers, |a, b| if a == b { 1.0 } else { 0.0 }),
        )
    };
    answers.into_iter().map(of_task).collect()
}

/// Imports a file with the real binary.
async fn import(services: &Services, arguments: &[&str]) -> Value {
    let arguments = [&["task", "import"], arguments, &["--output", "json"]].concat();
    let run = services.process(&arguments).output().await.unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    serde_json::from_slice(&run.stdout).unwrap()
}

/// The agreement that the log of a task has.
async fn agreement(services: &Services, key: &str) -> f64 {
    let page = services
        .store
        .events(TaskId::of_key(key), 0, 1_000)
        .await
        .unwrap();
    let events = page
        .events
        .iter()
        .map(|event| serde_json::to_value(event).unwrap());
    let found: Vec<Value> = events
        .filter(|event| event["event_type"] == "consensus_calculated")
        .collect();
    assert_eq!(found.len(), 1, "{key}");
    found[0]["event_data"]["agreement"].as_f64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_of_three_tools_are_imported_and_agreed_on_as_calculated_by_hand() {
    let services = Services::new().await;
    let orchestrator = services.orchestrator();
    for source in [
        workflow("boxes", 2, BOXES, "box_iou"),
        workflow("entities", 3, ENTITIES, "span_f1"),
        workflow("relations", 4, RELATIONS, "percent_agreement"),
    ] {
        orchestrator.create_workflow(&source).await.unwrap();
    }
    let worker = services.worker(orchestrator);
    let tap = services.tap().await;

    let file = |name: &str| fixture(name).to_str().unwrap().to_owned();
    let (boxes, entities, relations) = (
        file("label-studio.json"),
        file("prodigy.jsonl"),
        file("crowd.csv"),
    );
    let runs = [
        ([boxes.as_str(), "-w", "boxes"], json!([4, 8, 0])),
        ([entities.as_str(), "-w", "entities"], json!([4, 12, 0])),
        ([relations.as_str(), "-w", "relations"], json!([5, 20, 1])),
    ];
    let mut sent = 0;
    for (arguments, counts) in &runs {
        let done = import(&services, arguments).await;
        let found = json!([done["tasks"], done["submissions"], done["gold_tasks"]]);
        assert_eq!(found, *counts, "{done}");
        sent += done["published"].as_i64().unwrap();
    }
    assert_eq!(sent, 13 + 40);
    // Once more: nothing counts twice.
    import(&services, &runs[0].0).await;

    let completed = "SELECT count(*) FROM tasks WHERE status = 'completed'";
    eventually("every task completed", || async {
        (services.count(completed).await == 13).then_some(())
    })
    .await;
    eventually("every command settled", || async {
        services.queues_empty().await.then_some(())
    })
    .await;
    services.outbox_empty().await;
    assert_eq!(services.count("SELECT count(*) FROM commands").await, sent);
    let refused = "SELECT count(*) FROM commands WHERE outcome <> 'applied'";
    assert_eq!(services.count(refused).await, 0);
    assert!(services.take(&services.topology.dead()).await.is_empty());
    assert!(!services.take(&tap).await.is_empty());

    for (tool, expected) in [of_label_studio(), of_prodigy(), of_crowd()]
        .into_iter()
        .enumerate()
    {
        assert!(expected.len() >= 4, "the file is read");
        for (key, expected) in expected {
            let found = agreement(&services, &key).await;
            assert!(
                (found - expected).abs() < 1e-9,
                "{tool}/{key}: {found}, not {expected}"
            );
        }
    }
    worker.stop().await;
    services.remove().await;
}
