//! Recordings of whole crowds, compared with live runs under the other settings.

#![expect(clippy::disallowed_methods, reason = "data that may be on the machine")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use glyph_workflow_engine::{
    OrchestrationError, WorkflowOrchestrator,
    backtest::{Backtest, BacktestOptions, BacktestReport, UnknownKind},
    executor::{AnnotationData, HandlerRegistry},
    ids::TaskId,
    limits::PAGE_MAX,
    parse_workflow,
    reliability::simulation::Crowd,
    store::{LogPosition, MemoryStore, ReliabilityStore},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{changed, unknown};

/// Labels to record: (task, annotator, label) in the order in which they are offered, and what is
/// known.
struct Recording {
    labels: Vec<(TaskId, Uuid, String)>,
    known: HashMap<TaskId, Value>,
}

fn task(n: usize) -> TaskId {
    TaskId(Uuid::from_u128(n as u128 + 1))
}

impl Recording {
    /// Twelve tasks at a time, one label after the other of each.
    fn of(labels: &[Vec<(String, String)>], truth: &[Option<String>]) -> Self {
        let mut order = Vec::new();
        let tasks: Vec<usize> = (0..labels.len()).collect();
        for block in tasks.chunks(12) {
            let most = block.iter().map(|&n| labels[n].len()).max().unwrap_or(0);
            for round in 0..most {
                for &n in block {
                    if let Some((annotator, label)) = labels[n].get(round) {
                        let user = Uuid::new_v5(&Uuid::NAMESPACE_OID, annotator.as_bytes());
                        order.push((task(n), user, label.clone()));
                    }
                }
            }
        }
        let known = truth.iter().enumerate();
        let known = known.filter_map(|(n, label)| Some((task(n), json!(label.as_ref()?))));
        Self {
            labels: order,
            known: known.collect(),
        }
    }

    fn of_crowd(crowd: &Crowd, seed: u64) -> Self {
        let labelled = crowd.label(seed);
        let text = |(annotator, class): &(usize, usize)| (annotator.to_string(), class.to_string());
        let labels = labelled.labels.iter();
        let labels: Vec<Vec<_>> = labels.map(|of| of.iter().map(text).collect()).collect();
        let truth = labelled.truth.iter();
        let truth: Vec<_> = truth.map(|class| class.map(|c| c.to_string())).collect();
        Self::of(&labels, &truth)
    }

    /// Feeds a live orchestrator; what it refuses is lost.
    async fn live(&self, yaml: &str) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        let orchestrator = WorkflowOrchestrator::new(store.clone(), store.clone());
        let workflow = orchestrator.create_workflow(yaml).await.unwrap();
        let mut started = HashSet::new();
        for (n, (task, user, label)) in self.labels.iter().enumerate() {
            if started.insert(*task) {
                let revision = workflow.revision_id.0;
                orchestrator.start_task(task.0, revision).await.unwrap();
            }
            let id = Uuid::from_u128(0xA_0000_0000 + n as u128);
            let annotation = AnnotationData::new(id, *user, json!({"label": label}));
            let given = orchestrator.process_submission(task.0, "annotate", annotation);
            match given.await {
                Ok(_) | Err(OrchestrationError::Rejected(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        store
    }

    /// A backtest of what is in a store.
    async fn backtest(&self, store: &MemoryStore, yaml: &str, settings: &[&str]) -> BacktestReport {
        let options = BacktestOptions {
            known: self.known.clone(),
            ..BacktestOptions::default()
        };
        let registry = HandlerRegistry::built_in();
        let mut backtest = Backtest::new(changed(yaml, settings), registry, options).unwrap();
        let mut after = LogPosition::default();
        loop {
            let page = store.read_workflow_log(backtest.filter(), after, PAGE_MAX);
            let page = page.await.unwrap();
            for revision in backtest.unknown_revisions(&page) {
                let mut config = parse_workflow(yaml).unwrap();
                config.revision_id = revision;
                backtest.know(Arc::new(config));
            }
            backtest.read(&page);
            after = page.through;
            if page.is_last {
                return backtest.finish(true);
            }
        }
    }
}

const ALL: &str = "
workflow:
  id: adaptive
  steps:
    - id: annotate
      type: annotation
      field: label
      completion: { type: annotation_count, count: 8 }
      consensus: { threshold: 0.0 }
";

/// The accuracy and annotations per task of a live run: as recorded, in a backtest of it.
fn figures(report: &BacktestReport) -> (f64, f64) {
    let accuracy = report.gold.recorded.accuracy.unwrap();
    (accuracy, report.recorded.annotations_per_task.unwrap())
}

fn simulated(report: &BacktestReport) -> (f64, f64) {
    let accuracy = report.gold.simulated.accuracy.unwrap();
    (accuracy, report.simulated.annotations_per_task.unwrap())
}

#[tokio::test]
async fn a_recording_with_all_labels_equals_a_fresh_run() {
    let crowd = Crowd {
        items: 84,
        labels: 8,
        skill: (1.4, 1.0),
        spammers: 0.2,
        ..Crowd::default()
    };
    let recording = Recording::of_crowd(&crowd, 7);
    let recorded = recording.live(ALL).await;
    for target in ["0.8", "0.95"] {
        let completion = format!("{{type: confidence, target: {target}, min: 2, max: 8}}");
        let setting = format!("completion={completion}");
        let report = recording
            .backtest(&recorded, ALL, &[&setting, "consensus=null"])
            .await;
        let fresh = ALL.replace("{ type: annotation_count, count: 8 }", &completion);
        let fresh = fresh.replace("      consensus: { threshold: 0.0 }\n", "");
        let live = recording.live(&fresh).await;
        let live = recording.backtest(&live, &fresh, &[]).await;
        assert_eq!(simulated(&report), figures(&live), "target {target}");
        assert_eq!(report.simulated.steps, live.recorded.steps);
        assert_eq!(report.simulated.unsure, live.recorded.unsure);
        assert_eq!(report.gold.simulated, live.gold.recorded);
        assert_eq!(unknown(&report), []);
        // What was recorded under the setting is the same under it.
        assert_eq!(live.simulated, live.recorded);
        assert_eq!(live.answers.same, live.answers.both);
        assert!(report.simulated.annotations < report.recorded.annotations);
    }
}

#[tokio::test]
async fn labels_that_were_not_asked_for_leave_tasks_open() {
    let crowd = Crowd {
        items: 60,
        labels: 8,
        ..Crowd::default()
    };
    let recording = Recording::of_crowd(&crowd, 3);
    let yaml = ALL
        .replace(
            "annotation_count, count: 8",
            "confidence, target: 0.7, min: 2, max: 8",
        )
        .replace("      consensus: { threshold: 0.0 }\n", "");
    let recorded = recording.live(&yaml).await;
    let report = recording
        .backtest(&recorded, &yaml, &["completion.target=0.99"])
        .await;
    assert!(report.open.tasks > 0, "{report:#?}");
    assert_eq!(report.open.tasks, report.simulated.running);
    let wanted = report
        .unknown
        .iter()
        .find(|one| one.kind == UnknownKind::MoreAnnotations);
    let wanted = wanted.unwrap();
    assert_eq!(
        (wanted.tasks, wanted.count),
        (report.open.tasks, report.open.tasks)
    );
    assert_eq!(report.open.answers_if_closed, report.open.tasks);
    let both = report.gold.simulated_of_both;
    assert_eq!(both.answers, report.gold.recorded_of_both.answers);
    assert_eq!(both.answers + report.open.tasks, report.gold.tasks);
}

#[tokio::test]
async fn other_tasks_teach_the_models_without_being_reported() {
    let crowd = Crowd {
        items: 40,
        labels: 8,
        ..Crowd::default()
    };
    let recording = Recording::of_crowd(&crowd, 5);
    let store = recording.live(ALL).await;
    let completion = "completion={type: confidence, target: 0.9, min: 2, max: 8}";
    let settings = ["consensus=null", completion];
    let all = recording.backtest(&store, ALL, &settings).await;
    let mut parts = Vec::new();
    for odd in [0, 1] {
        let tasks = (0..40).filter(|n| n % 2 == odd).map(task).collect();
        let options = BacktestOptions {
            tasks: Some(tasks),
            ..BacktestOptions::default()
        };
        let registry = HandlerRegistry::built_in();
        let mut backtest = Backtest::new(changed(ALL, &settings), registry, options).unwrap();
        let mut after = LogPosition::default();
        loop {
            let page = store
                .read_workflow_log(backtest.filter(), after, PAGE_MAX)
                .await
                .unwrap();
            backtest.read(&page);
            after = page.through;
            if page.read < PAGE_MAX {
                break;
            }
        }
        parts.push(backtest.finish(true));
    }
    assert_eq!((parts[0].tasks, parts[1].tasks), (20, 20));
    let sum = parts[0].simulated.annotations + parts[1].simulated.annotations;
    assert_eq!(sum, all.simulated.annotations);
}

/// The labels and gold answers of RTE, if the data are there.
fn rte() -> Option<Recording> {
    let folder = std::env::var("GLYPH_DATA").ok()?;
    let read = |file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(Path::new(&folder).join("snow2008").join(file)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect()
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut tasks = BTreeMap::<String, Vec<(String, String)>>::new();
    for line in read("rte.labels.jsonl") {
        let label = (text(&line["annotator"]), text(&line["label"]));
        tasks.entry(text(&line["task"])).or_default().push(label);
    }
    let gold: HashMap<String, String> = read("rte.gold.jsonl")
        .iter()
        .map(|line| (text(&line["task"]), text(&line["label"])))
        .collect();
    let truth: Vec<_> = tasks.keys().map(|name| gold.get(name).cloned()).collect();
    let labels: Vec<_> = tasks.into_values().collect();
    Some(Recording::of(&labels, &truth))
}

#[tokio::test]
async fn rte_equals_a_fresh_run_when_the_data_are_there() {
    let Some(recording) = rte() else { return };
    let all = ALL.replace("count: 8", "count: 10");
    let recorded = recording.live(&all).await;
    for target in ["0.9", "0.95"] {
        let completion = format!("{{type: confidence, target: {target}, min: 2, max: 10}}");
        let setting = format!("completion={completion}");
        let report = recording
            .backtest(&recorded, &all, &[&setting, "consensus=null"])
            .await;
        let fresh = all.replace("{ type: annotation_count, count: 10 }", &completion);
        let fresh = fresh.replace("      consensus: { threshold: 0.0 }\n", "");
        let live = recording.live(&fresh).await;
        let live = recording.backtest(&live, &fresh, &[]).await;
        let ((accuracy, labels), (as_live, labels_live)) = (simulated(&report), figures(&live));
        assert!(
            (accuracy - as_live).abs() <= 0.005,
            "{accuracy} and {as_live}"
        );
        assert!(
            (labels - labels_live).abs() <= 0.05,
            "{labels} and {labels_live}"
        );
        eprintln!("target {target}: {accuracy} with {labels}, live {as_live} with {labels_live}");
    }
}
