//! Benchmarks adaptive overlap: accuracy and labels per task against majority vote and batch
//! Dawid-Skene.
//!
//! ```text
//! GLYPH_DATA=folder cargo run --release --example adaptive_overlap [-- ORDERS [SET…]]
//! GLYPH_DATA=folder cargo run --release --example adaptive_overlap -- --road [ORDERS [SET…]]
//! ```
//!
//! `--road` runs the full pipeline. It offers the labels to a step that completes by `confidence`,
//! as commands to a `WorkflowOrchestrator` with a store in memory: one at a time, and only while
//! the task still asks for labels. A task that runs out of labels is closed by an `advance`.
//! Without the option, the model is called directly.
//!
//! Reads the public sets `snow2008/{rte,temp,wsd}` and `bluebirds` below the folder (one JSON
//! object per line: `labels.jsonl` with `task`, `annotator`, `label`; `gold.jsonl` with `task`,
//! `label`) and generates the other sets. Without the variable, runs only the generated sets. The
//! tasks come in `ORDERS` seeded orders (default 20), the labels of a task one by one in file
//! order, until the posterior reaches 0.95 or ten are used. `LEARN=25` asks for all ten on the first
//! 25 tasks of each order.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program: it reads files and its arguments, and prints"
)]

use std::{collections::BTreeMap, env, sync::Arc, time::Instant};

use glyph_workflow_engine::{
    ProcessResult, WorkflowOrchestrator,
    consensus::{Stopping, dawid_skene},
    executor::AnnotationData,
    reliability::{
        Classes, ReliabilityModel,
        simulation::{Labelled, Random},
    },
    store::MemoryStore,
};
use serde_json::json;
use uuid::Uuid;

mod sets;

use sets::Set;

const TARGET: f64 = 0.95;
const MIN: usize = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let by_road = arguments.first().is_some_and(|first| first == "--road");
    if by_road {
        arguments.remove(0);
    }
    let orders: u64 = arguments.first().map_or(Ok(20), |text| text.parse())?;
    let wanted = arguments.get(1..).unwrap_or_default();
    let folder = env::var("GLYPH_DATA").ok();
    let sets = sets::all(folder.as_deref())?;
    println!(
        "| set | tasks | classes | MV, all labels | DS, all labels | MV, as many labels | one coin | labels | **adaptive** | labels | p above MV | p below MV | ECE | looked back |"
    );
    println!(
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    );
    for set in &sets {
        if wanted.is_empty() || wanted.iter().any(|text| set.name.contains(text.as_str())) {
            report(set, orders, by_road)?;
        }
    }
    match sets.first() {
        Some(set) if env::var_os("TIMES").is_some() => times(set),
        _ => Ok(()),
    }
}

/// Measures the parts on all labels of a set.
fn times(set: &Set) -> Result<(), Box<dyn std::error::Error>> {
    let mut model = ReliabilityModel::new(Classes::Open)?;
    let labels = || {
        set.data
            .labels
            .iter()
            .enumerate()
            .flat_map(|(task, labels)| {
                labels
                    .iter()
                    .map(move |(k, c)| (task.to_string(), k.to_string(), c.to_string()))
            })
    };
    let count = u32::try_from(labels().count())?;
    let started = Instant::now();
    for (task, annotator, class) in labels() {
        model.observe(&task, &annotator, &class)?;
    }
    println!(
        "\n{}: {count} labels, {:?} a label with refits",
        set.name,
        started.elapsed() / count
    );
    let started = Instant::now();
    model.refit();
    println!("refit {:?}", started.elapsed());
    let three: Vec<_> = labels().take(3).collect();
    let three: Vec<_> = three
        .iter()
        .map(|(_, k, c)| (k.as_str(), c.as_str()))
        .collect();
    let started = Instant::now();
    for n in 0..1000_u32 {
        let task = n.to_string();
        model.observe(&task, "nobody", "1")?;
    }
    println!("observe {:?}, with refits", started.elapsed() / 1000);
    let started = Instant::now();
    for n in 0..1000_u32 {
        model.posterior_for(&n.to_string(), &three)?;
    }
    println!("posterior of three labels {:?}", started.elapsed() / 1000);
    let started = Instant::now();
    let text = serde_json::to_string(&model)?;
    println!("checkpoint of {} bytes {:?}", text.len(), started.elapsed());
    Ok(())
}

/// Expected accuracy, on one task, of a majority vote that breaks ties at random.
fn majority(labels: &[(usize, usize)], classes: usize, truth: Option<usize>) -> f64 {
    let mut counts = vec![0_u32; classes];
    for &(_, class) in labels {
        counts[class] += 1;
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    let winners = counts.iter().filter(|&&count| count == most).count();
    match truth {
        Some(truth) if counts[truth] == most => 1.0 / winners as f64,
        _ => 0.0,
    }
}

/// Sums over orders: correct answers by task, accuracy and labels per task by order.
#[derive(Default)]
struct Outcome {
    right: Vec<f64>,
    accuracy: Vec<f64>,
    labels: Vec<f64>,
    /// Accuracy by order when the model is asked again at the end.
    again: Vec<f64>,
    /// Confidence, and whether the answer is right.
    sure: Vec<(f64, bool)>,
    /// Right answers, tasks and labels of the rare class.
    rare: (f64, f64, f64),
}

/// Offers the labels of each task until `decide` accepts an answer.
///
/// `decide(task, labels so far)` returns the best answer and its probability; `learn` receives the
/// labels used.
fn run(
    set: &Set,
    (order, learn_first): (&[usize], usize),
    outcome: &mut Outcome,
    mut decide: impl FnMut(usize, &[(usize, usize)]) -> (usize, f64),
    mut learn: impl FnMut(usize, &[(usize, usize)]),
) {
    let (mut hits, mut used) = (0.0, 0.0);
    for (n, &task) in order.iter().enumerate() {
        let all = &set.data.labels[task];
        let all = &all[..all.len().min(set.max)];
        let (mut answer, mut count, mut sure) = (None, 0, 0.0);
        for end in 1..=all.len() {
            let (best, confidence) = decide(task, &all[..end]);
            (answer, sure) = (Some(best), confidence);
            count = end;
            if end >= MIN && confidence >= TARGET && n >= learn_first {
                break;
            }
        }
        learn(task, &all[..count]);
        let right = answer.is_some() && answer == set.data.truth[task];
        let hit = f64::from(u8::from(right));
        if set.data.truth[task].is_some() {
            outcome.sure.push((sure, right));
        }
        if set.rare.is_some() && set.data.truth[task] == set.rare {
            let (found, tasks, labels) = outcome.rare;
            outcome.rare = (found + hit, tasks + 1.0, labels + count as f64);
        }
        outcome.right[task] += hit;
        hits += hit;
        used += count as f64;
    }
    outcome.accuracy.push(hits / order.len() as f64);
    outcome.labels.push(used / order.len() as f64);
}

fn adaptive(
    set: &Set,
    (order, learn_first): (&[usize], usize),
    outcome: &mut Outcome,
) -> Result<(), String> {
    let model = ReliabilityModel::new(Classes::Open).map_err(|error| error.to_string())?;
    let model = std::cell::RefCell::new(model);
    let decide = |task: usize, labels: &[(usize, usize)]| {
        let mut model = model.borrow_mut();
        let task = task.to_string();
        let names: Vec<(String, String)> = labels
            .iter()
            .map(|(k, c)| (k.to_string(), c.to_string()))
            .collect();
        let names: Vec<(&str, &str)> = names
            .iter()
            .map(|(k, c)| (k.as_str(), c.as_str()))
            .collect();
        let (annotator, class) = names[names.len() - 1];
        let posterior = model
            .posterior_for(&task, &names)
            .map(|evidence| evidence.posterior());
        // Labels count as soon as they are given, including those of open tasks.
        let _ = model.observe(&task, annotator, class);
        posterior.map_or((usize::MAX, 0.0), |posterior| {
            let best = posterior.best.and_then(|best| best.parse().ok());
            (best.unwrap_or(usize::MAX), posterior.confidence)
        })
    };
    run(set, (order, learn_first), outcome, decide, |task, _| {
        model.borrow_mut().close(&task.to_string());
    });
    let mut model = model.into_inner();
    model.refit();
    let now = |task: &usize| {
        let best = model.posterior(&task.to_string())?.best?;
        Some(f64::from(u8::from(
            best.parse().ok() == set.data.truth[*task],
        )))
    };
    let right: f64 = order.iter().filter_map(now).sum();
    outcome.again.push(right / order.len() as f64);
    Ok(())
}

/// The same through the full pipeline: commands, decisions and the log.
async fn road(
    set: &Set,
    order: &[usize],
    outcome: &mut Outcome,
) -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(MemoryStore::new());
    let orchestrator = WorkflowOrchestrator::new(store.clone(), store);
    let workflow = orchestrator
        .create_workflow(&format!(
            "workflow:\n  id: road\n  steps:\n    - id: annotate\n      type: annotation\n      \
             field: label\n      completion: {{ type: confidence, target: {TARGET}, min: {MIN}, max: {} }}\n",
            set.max
        ))
        .await?;
    let (mut hits, mut used) = (0.0, 0_u32);
    for &task in order {
        let id = Uuid::from_u128(task as u128 + 1);
        orchestrator.start_task(id, workflow.revision_id.0).await?;
        let mut output = None;
        for (annotator, class) in &set.data.labels[task] {
            let annotation = AnnotationData::new(
                Uuid::from_u128(used.into()),
                Uuid::from_u128(*annotator as u128),
                json!({"label": class.to_string()}),
            );
            used += 1;
            let answer = orchestrator
                .process_submission(id, "annotate", annotation)
                .await?;
            if let ProcessResult::Completed { output: found } = answer {
                output = Some(found);
                break;
            }
        }
        if output.is_none() {
            orchestrator.advance_task(id).await?;
            let state = orchestrator.get_task_state(id).await?;
            output.clone_from(&state.snapshot().output);
        }
        let answer = output.and_then(|output| output["result"].as_str()?.parse().ok());
        let hit = f64::from(u8::from(answer.is_some() && answer == set.data.truth[task]));
        outcome.right[task] += hit;
        hits += hit;
    }
    outcome.accuracy.push(hits / order.len() as f64);
    outcome.labels.push(f64::from(used) / order.len() as f64);
    Ok(())
}

/// A baseline that trusts itself: one accuracy per annotator, estimated from its own answers.
fn one_coin(set: &Set, order: &[usize], outcome: &mut Outcome) {
    let classes = set.data.classes;
    let counts = std::cell::RefCell::new(BTreeMap::<usize, (f64, f64)>::new());
    let posterior = |labels: &[(usize, usize)]| {
        let counts = counts.borrow();
        let mut probabilities = vec![1.0; classes];
        for (annotator, label) in labels {
            let (right, all) = counts.get(annotator).copied().unwrap_or_default();
            let accuracy = (right + 3.0) / (all + 4.0);
            for (class, probability) in probabilities.iter_mut().enumerate() {
                let wrong = (1.0 - accuracy) / (classes - 1) as f64;
                *probability *= if class == *label { accuracy } else { wrong };
            }
        }
        let sum: f64 = probabilities.iter().sum();
        probabilities
            .into_iter()
            .map(|p| p / sum)
            .collect::<Vec<_>>()
    };
    let decide = |_, labels: &[(usize, usize)]| {
        let mut best = (0, 0.0);
        for (class, probability) in posterior(labels).into_iter().enumerate() {
            if probability > best.1 {
                best = (class, probability);
            }
        }
        best
    };
    let learn = |_, labels: &[(usize, usize)]| {
        let probabilities = posterior(labels);
        for (annotator, label) in labels {
            let mut counts = counts.borrow_mut();
            let (right, all) = counts.entry(*annotator).or_default();
            *right += probabilities[*label];
            *all += 1.0;
        }
    };
    run(set, (order, 0), outcome, decide, learn);
}

fn report(set: &Set, orders: u64, by_road: bool) -> Result<(), Box<dyn std::error::Error>> {
    let data = &set.data;
    let tasks = data.labels.len();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let first = |task: usize, count: usize| {
        let labels = &data.labels[task];
        majority(
            &labels[..count.min(labels.len())],
            data.classes,
            data.truth[task],
        )
    };
    let empty = || Outcome {
        right: vec![0.0; tasks],
        ..Outcome::default()
    };
    let learn_first = env::var("LEARN").map_or(Ok(0), |text| text.parse())?;
    let (mut ours, mut coin) = (empty(), empty());
    for seed in 0..orders {
        let mut order: Vec<usize> = (0..tasks).collect();
        Random::new(77 + seed).shuffle(&mut order);
        if by_road {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()?
                .block_on(road(set, &order, &mut ours))?;
        } else {
            adaptive(set, (&order, learn_first), &mut ours)?;
        }
        one_coin(set, &order, &mut coin);
    }
    // Majority vote at equal cost: the first k labels of each task, or k + 1, mixed to the same
    // mean.
    let labels = mean(&ours.labels);
    let rest = labels.fract();
    let floor = (1..=set.max)
        .rev()
        .find(|&k| k as f64 <= labels)
        .unwrap_or(1);
    let equal: Vec<f64> = (0..tasks)
        .map(|task| (1.0 - rest) * first(task, floor) + rest * first(task, floor + 1))
        .collect();
    let gaps: Vec<f64> = ours
        .right
        .iter()
        .zip(&equal)
        .map(|(right, equal)| right / orders as f64 - equal)
        .collect();
    let z = mean(&gaps) / error_of_mean(&gaps).max(f64::MIN_POSITIVE);
    let mut rare = String::new();
    if let Some(class) = set.rare {
        let ones: Vec<f64> = (0..tasks)
            .filter(|&task| data.truth[task] == Some(class))
            .map(|task| equal[task])
            .collect();
        let (found, tasks, labels) = ours.rare;
        rare = format!(
            " recall {:.3}, MV with as many labels {:.3}, labels on positives {:.2}",
            found / tasks,
            mean(&ones),
            labels / tasks
        );
    }
    let all: Vec<f64> = (0..tasks).map(|task| first(task, usize::MAX)).collect();
    println!(
        "| {} | {tasks} | {} | {:.3} | {:.3} | {:.3} | {:.3} | {:.2} | **{:.4}** ± {:.4} | {:.2} ± {:.2} | {:.3} | {:.3} | {:.3} | {:.3} |{}",
        set.name,
        data.classes,
        mean(&all),
        batch(data)?,
        mean(&equal),
        mean(&coin.accuracy),
        mean(&coin.labels),
        mean(&ours.accuracy),
        error_of_mean(&ours.accuracy),
        labels,
        error_of_mean(&ours.labels),
        tail(z),
        tail(-z),
        calibration_error(&ours.sure),
        mean(&ours.again),
        rare,
    );
    Ok(())
}

/// Expected calibration error: the mean gap between confidence and accuracy, over ten bins of
/// confidence (Naeini, Cooper and Hauskrecht 2015).
fn calibration_error(sure: &[(f64, bool)]) -> f64 {
    let mut bins = [0.0; 10];
    for (confidence, right) in sure {
        let bin = (1..10_u8).take_while(|n| *confidence >= f64::from(*n) / 10.0);
        bins[bin.count()] += confidence - f64::from(u8::from(*right));
    }
    bins.iter().map(|gap: &f64| gap.abs()).sum::<f64>() / sure.len().max(1) as f64
}

fn error_of_mean(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    if n > 1.0 {
        (squares / (n - 1.0) / n).sqrt()
    } else {
        0.0
    }
}

/// Probability that a standard normal exceeds `z` (Abramowitz and Stegun 26.2.17, error below
/// 1e-7).
fn tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = [
        1.330_274_429,
        -1.821_255_978,
        1.781_477_937,
        -0.356_563_782,
        0.319_381_530,
    ]
    .iter()
    .fold(0.0, |sum, coefficient| (sum + coefficient) * t);
    let upper = (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt() * series;
    if z < 0.0 { 1.0 - upper } else { upper }
}

/// Accuracy of Dawid and Skene's model on all labels.
fn batch(data: &Labelled) -> Result<f64, String> {
    let number = |n: usize| u32::try_from(n).map_err(|error| error.to_string());
    let mut labels = Vec::new();
    for (task, ones) in data.labels.iter().enumerate() {
        for &(annotator, class) in ones {
            labels.push((number(task)?, number(annotator)?, number(class)?));
        }
    }
    let stopping = Stopping {
        tolerance: 1e-6,
        rounds_max: 2000,
    };
    let model = dawid_skene(&labels, stopping).map_err(|error| error.to_string())?;
    let mut hits = 0.0;
    for (task, truth) in data.truth.iter().enumerate() {
        let label = model.label(number(task)?).map(|(class, _)| class as usize);
        hits += f64::from(u8::from(label.is_some() && label == *truth));
    }
    Ok(hits / data.truth.len() as f64)
}
