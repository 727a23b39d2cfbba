//! Benchmarks agreement: whole sets at once, and one more item in a moving window.
//!
//! Run with `cargo bench -p glyph-workflow-engine --bench agreement`. `scripts/compare-agreement`
//! compares the same measures with those of Python packages.

use std::{collections::VecDeque, hint::black_box};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use glyph_workflow_engine::{
    consensus::{
        StreamingAlpha, StreamingKappa, fleiss_kappa, gwet_ac1, krippendorffs_alpha_interval,
        krippendorffs_alpha_nominal, krippendorffs_alpha_ordinal, krippendorffs_alpha_ratio,
        mean_cohens_kappa, percent_agreement,
    },
    reliability::{Classes, ReliabilityModel, simulation::Random},
};

const ITEMS: usize = 10_000;
const ANNOTATORS: usize = 10;
const CATEGORIES: usize = 5;

/// The label of one annotator for an item of class `truth`: correct three times out of four.
fn label(random: &mut Random, truth: usize) -> u32 {
    let said = if random.unit() < 0.75 {
        truth
    } else {
        random.below(CATEGORIES)
    };
    u32::try_from(said).unwrap_or_default()
}

fn item(random: &mut Random, annotators: usize) -> Vec<u32> {
    let truth = random.below(CATEGORIES);
    (0..annotators).map(|_| label(random, truth)).collect()
}

fn whole_sets(criterion: &mut Criterion) {
    let mut random = Random::new(1);
    let items: Vec<Vec<u32>> = (0..ITEMS).map(|_| item(&mut random, ANNOTATORS)).collect();
    let codes: Vec<Vec<Option<u32>>> = (0..ANNOTATORS)
        .map(|annotator| items.iter().map(|item| Some(item[annotator])).collect())
        .collect();
    let numbers: Vec<Vec<Option<f64>>> = codes
        .iter()
        .map(|row| row.iter().map(|code| code.map(f64::from)).collect())
        .collect();
    let counts: Vec<Vec<u32>> = items
        .iter()
        .map(|item| {
            let mut counts = vec![0; CATEGORIES];
            for &code in item {
                counts[code as usize] += 1;
            }
            counts
        })
        .collect();

    let mut group = criterion.benchmark_group(format!("{ITEMS} items x {ANNOTATORS} annotators"));
    group.sample_size(20);
    group.bench_function("percent agreement", |b| {
        b.iter(|| percent_agreement(black_box(&codes)));
    });
    group.bench_function("Fleiss' kappa", |b| {
        b.iter(|| fleiss_kappa(black_box(&counts)));
    });
    group.bench_function("Cohen's kappa, mean of 45 pairs", |b| {
        b.iter(|| mean_cohens_kappa(black_box(&codes), None));
    });
    group.bench_function("Gwet's AC1", |b| b.iter(|| gwet_ac1(black_box(&codes))));
    group.bench_function("alpha, nominal", |b| {
        b.iter(|| krippendorffs_alpha_nominal(black_box(&codes)));
    });
    group.bench_function("alpha, ordinal", |b| {
        b.iter(|| krippendorffs_alpha_ordinal(black_box(&codes)));
    });
    group.bench_function("alpha, interval", |b| {
        b.iter(|| krippendorffs_alpha_interval(black_box(&numbers)));
    });
    group.bench_function("alpha, ratio", |b| {
        b.iter(|| krippendorffs_alpha_ratio(black_box(&numbers)));
    });
    group.finish();
}

/// The oldest item leaves and a new one enters. The cost must not grow with the items in the window
/// or before it.
fn moving_windows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one more item in a window of");
    for length in [1_000, 1_000_000] {
        let mut random = Random::new(2);
        let mut window: VecDeque<Vec<u32>> = (0..length).map(|_| item(&mut random, 3)).collect();
        let (mut alpha, mut kappa) = (StreamingAlpha::new(), StreamingKappa::new());
        for item in &window {
            alpha.add(item);
            kappa.add(item[0], item[1]);
        }
        group.bench_function(BenchmarkId::new("alpha", length), |b| {
            b.iter(|| {
                window.rotate_left(1);
                if let Some(item) = window.back() {
                    alpha.remove(item).expect("the item is inside");
                    alpha.add(item);
                }
                black_box(alpha.agreement())
            });
        });
        group.bench_function(BenchmarkId::new("kappa", length), |b| {
            b.iter(|| {
                window.rotate_left(1);
                if let Some(item) = window.back() {
                    kappa.remove(item[0], item[1]).expect("the item is inside");
                    kappa.add(item[0], item[1]);
                }
                black_box(kappa.agreement())
            });
        });
    }
    group.finish();
}

/// Four labels of a new item, refits included: refits are rare enough to cost a constant per label.
fn reliability(criterion: &mut Criterion) {
    const PEOPLE: usize = 50;
    let people: Vec<String> = (0..PEOPLE).map(|n| format!("annotator {n}")).collect();
    let classes: Vec<String> = (0..CATEGORIES).map(|n| format!("class {n}")).collect();
    let mut group = criterion.benchmark_group("four labels of a new item, after so many items");
    group.sample_size(10);
    for history in [1_000, 20_000] {
        let mut random = Random::new(3);
        let mut model =
            ReliabilityModel::new(Classes::Open).expect("an open set of classes is allowed");
        let mut items = 0_usize;
        let mut next = |model: &mut ReliabilityModel| {
            items += 1;
            let (name, first) = (format!("item {items}"), random.below(PEOPLE));
            for (n, said) in item(&mut random, 4).into_iter().enumerate() {
                let who = &people[(first + n) % PEOPLE];
                model
                    .observe(&name, who, &classes[said as usize])
                    .expect("the label is allowed");
            }
            model.close(&name);
        };
        for _ in 0..history {
            next(&mut model);
        }
        group.bench_function(BenchmarkId::from_parameter(history), |b| {
            b.iter(|| next(&mut model));
        });
    }
    group.finish();
}

criterion_group!(benches, whole_sets, moving_windows, reliability);
criterion_main!(benches);
