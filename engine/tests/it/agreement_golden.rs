//! Agreement coefficients against the published worked examples, digit by digit.
//!
//! If `GLYPH_DATA` names a folder with `golden_agreement.json` and `snow2008/`, the reference
//! values of the 8,000 RTE labels of Snow et al. (2008) are checked as well; that set is too large
//! to keep here.

#![expect(
    clippy::disallowed_methods,
    reason = "the large label set is found by environment and read from disk, outside the library"
)]
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be read is a failed test"
)]

use std::collections::BTreeMap;
use std::path::Path;

use glyph_workflow_engine::consensus::{
    ConsensusError, Stopping, Weighting, cohens_kappa, cohens_kappa_weighted,
    cohens_kappa_with_weights, dawid_skene, fleiss_kappa, fleiss_kappa_ratings, gwet_ac1,
    krippendorffs_alpha_interval, krippendorffs_alpha_nominal, krippendorffs_alpha_ordinal,
    krippendorffs_alpha_ratio, mean_cohens_kappa, percent_agreement, percent_agreement_detailed,
};
use serde_json::Value;

const PUBLISHED: &str = include_str!("../fixtures/agreement/published.json");
/// The reference values have twelve digits.
const TOLERANCE: f64 = 1e-9;
/// Iterated results depend on where the iteration stops.
const TOLERANCE_EM: f64 = 1e-5;

type Codes = Vec<Vec<Option<u32>>>;

fn published(family: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(PUBLISHED).unwrap();
    all[family].as_array().unwrap().clone()
}

#[track_caller]
fn check(what: &str, found: Result<f64, ConsensusError>, expected: &Value) {
    close(what, found.unwrap(), expected, TOLERANCE);
}

#[track_caller]
fn close(what: &str, found: f64, expected: &Value, tolerance: f64) {
    let expected = expected
        .as_f64()
        .unwrap_or_else(|| panic!("{what}: no reference value"));
    assert!(
        (found - expected).abs() <= tolerance,
        "{what}: {found} is not {expected}"
    );
}

/// The last digits of logarithms differ between machines and may change the number of iterations by
/// one.
#[track_caller]
fn same_rounds(found: usize, expected: &Value) {
    assert!(
        (found as u64).abs_diff(expected.as_u64().unwrap()) <= 1,
        "{found} is not {expected}"
    );
}

/// The paper quotes few digits: the full value must round to them.
#[track_caller]
fn check_rounded(what: &str, found: Result<f64, ConsensusError>, quoted: &Value) {
    let text = quoted.to_string();
    let digits = text
        .split_once('.')
        .map_or(0, |(_, decimals)| decimals.len());
    let half = 0.5 * 0.1_f64.powi(i32::try_from(digits).unwrap());
    let (found, quoted) = (found.unwrap(), quoted.as_f64().unwrap());
    assert!(
        (found - quoted).abs() <= half * 1.01,
        "{what}: {found} does not round to {quoted}"
    );
}

/// Positions of the values in their sorted list, as the coefficients of codes expect them.
fn codes(rows: &Value) -> Codes {
    let rows: Vec<&Vec<Value>> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r.as_array().unwrap())
        .collect();
    // The numbers have one digit, so that sorting them as text sorts them as numbers.
    let mut scale: Vec<String> = rows
        .iter()
        .flat_map(|row| row.iter())
        .filter(|v| !v.is_null())
        .map(Value::to_string)
        .collect();
    scale.sort();
    scale.dedup();
    let code = |v: &Value| {
        scale
            .binary_search(&v.to_string())
            .ok()
            .map(|k| u32::try_from(k).unwrap())
    };
    rows.iter()
        .map(|row| row.iter().map(code).collect())
        .collect()
}

fn numbers(rows: &Value) -> Vec<Vec<Option<f64>>> {
    let row = |row: &Value| row.as_array().unwrap().iter().map(Value::as_f64).collect();
    rows.as_array().unwrap().iter().map(row).collect()
}

fn counts(table: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(table.clone()).unwrap()
}

/// The two lists of codes behind a table of counts.
fn expand(table: &[Vec<u32>]) -> (Vec<u32>, Vec<u32>) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for (i, row) in (0_u32..).zip(table) {
        for (j, &count) in (0_u32..).zip(row) {
            a.extend(vec![i; count as usize]);
            b.extend(vec![j; count as usize]);
        }
    }
    (a, b)
}

fn as_numbers(ratings: &Codes) -> Vec<Vec<Option<f64>>> {
    ratings
        .iter()
        .map(|row| row.iter().map(|code| code.map(f64::from)).collect())
        .collect()
}

#[test]
fn krippendorffs_examples() {
    let examples = published("krippendorff_alpha");
    assert_eq!(examples.len(), 4);
    for example in examples {
        let name = example["name"].as_str().unwrap();
        let rows = &example["ratings_by_rater"];
        let (codes, numbers) = (codes(rows), numbers(rows));
        for (level, expected) in example["alpha"].as_object().unwrap() {
            let alpha = || match level.as_str() {
                "nominal" => krippendorffs_alpha_nominal(&codes),
                "ordinal" => krippendorffs_alpha_ordinal(&codes),
                "interval" => krippendorffs_alpha_interval(&numbers),
                "ratio" => krippendorffs_alpha_ratio(&numbers),
                other => panic!("{name}: unknown level {other}"),
            };
            check(&format!("{name} {level}"), alpha(), expected);
            if let Some(quoted) = example["published"].get(level) {
                check_rounded(&format!("{name} {level}"), alpha(), quoted);
            }
        }
        if let Some(expected) = example.get("cohen_kappa") {
            let row = |k: usize| {
                codes[k]
                    .iter()
                    .map(|code| code.unwrap())
                    .collect::<Vec<_>>()
            };
            check(name, cohens_kappa(&row(0), &row(1)), expected);
        }
        if let Some(expected) = example.get("gwet_ac1") {
            check(name, gwet_ac1(&codes), expected);
            check_rounded(
                name,
                gwet_ac1(&codes),
                &example["published_gwet2014"]["gwet_ac1"],
            );
            check(
                name,
                fleiss_kappa_ratings(&codes),
                &example["fleiss_kappa_missing"],
            );
            check_rounded(
                name,
                fleiss_kappa_ratings(&codes),
                &example["published_gwet2014"]["fleiss_kappa_missing"],
            );
        }
    }
}

#[test]
fn cohens_examples() {
    let examples = published("cohen_kappa");
    assert_eq!(examples.len(), 10);
    for example in examples {
        let name = example["name"].as_str().unwrap();
        let (a, b) = expand(&counts(&example["table_rows_rater1_cols_rater2"]));
        assert_eq!(Some(a.len() as u64), example["n"].as_u64(), "{name}");
        let ratings: Codes = [&a, &b]
            .map(|row| row.iter().copied().map(Some).collect())
            .to_vec();
        let linear = cohens_kappa_weighted(&a, &b, Weighting::Linear);

        check(name, cohens_kappa(&a, &b), &example["kappa"]);
        check(
            name,
            mean_cohens_kappa(&ratings, None).map(|mean| mean.value),
            &example["kappa"],
        );
        check(name, linear, &example["kappa_linear"]);
        check(
            name,
            cohens_kappa_weighted(&a, &b, Weighting::Quadratic),
            &example["kappa_quadratic"],
        );
        check(
            name,
            percent_agreement(&ratings),
            &example["percent_agreement"],
        );
        let alpha = &example["alpha"];
        check(
            name,
            krippendorffs_alpha_nominal(&ratings),
            &alpha["nominal"],
        );
        check(
            name,
            krippendorffs_alpha_ordinal(&ratings),
            &alpha["ordinal"],
        );
        check(
            name,
            krippendorffs_alpha_interval(&as_numbers(&ratings)),
            &alpha["interval"],
        );
        if let Some(expected) = example.get("scott_pi") {
            check(name, fleiss_kappa_ratings(&ratings), expected);
        }
        if let Some(expected) = example.get("gwet_ac1") {
            check(name, gwet_ac1(&ratings), expected);
        }
        if let Some(expected) = example.get("kappa_custom_weights") {
            let weights = numbers(&example["custom_disagreement_weights"]);
            let custom =
                cohens_kappa_with_weights(&a, &b, |i, j| weights[i as usize][j as usize].unwrap());
            check(name, custom, expected);
            check_rounded(
                name,
                custom,
                &example["published_custom_weights"]["kappa_w"],
            );
        }
        for (what, quoted) in example["published"].as_object().unwrap() {
            let found = match what.as_str() {
                "kappa" => cohens_kappa(&a, &b),
                "kappa_linear" => linear,
                "percent_agreement" => percent_agreement(&ratings),
                "scott_pi" => fleiss_kappa_ratings(&ratings),
                other => panic!("{name}: unknown value {other}"),
            };
            check_rounded(&format!("{name} {what}"), found, quoted);
        }
    }
}

#[test]
fn fleiss_examples() {
    let examples = published("fleiss_kappa");
    assert_eq!(examples.len(), 2);
    for example in examples {
        let name = example["name"].as_str().unwrap();
        let counts = counts(&example["counts_items_by_category"]);
        // The paper does not say who rated what, nor does it matter: the ratings of an item are
        // listed by category.
        let raters: u32 = counts[0].iter().sum();
        let ratings: Codes = (0..raters as usize)
            .map(|k| {
                counts
                    .iter()
                    .map(|row| expand(std::slice::from_ref(row)).1.get(k).copied())
                    .collect()
            })
            .collect();
        check(name, fleiss_kappa(&counts), &example["fleiss_kappa"]);
        check_rounded(
            name,
            fleiss_kappa(&counts),
            &example["published"]["fleiss_kappa"],
        );
        check(
            name,
            fleiss_kappa_ratings(&ratings),
            &example["fleiss_kappa"],
        );
        check(
            name,
            krippendorffs_alpha_nominal(&ratings),
            &example["alpha_nominal"],
        );
        check(
            name,
            percent_agreement(&ratings),
            &example["percent_agreement"],
        );
        check(name, gwet_ac1(&ratings), &example["gwet_ac1"]);
    }
}

#[test]
fn dawid_and_skenes_anaesthetists() {
    let all: Value = serde_json::from_str(PUBLISHED).unwrap();
    let example = &all["dawid_skene_1979"];
    let observers: Vec<u32> = serde_json::from_value(example["columns_observer"].clone()).unwrap();
    let rows = counts(&example["ratings"]);
    let labels: Vec<(u32, u32, u32)> = (0..)
        .zip(&rows)
        .flat_map(|(patient, row)| {
            observers
                .iter()
                .zip(row)
                .map(move |(&observer, &grade)| (patient, observer, grade))
        })
        .collect();
    let model = dawid_skene(
        &labels,
        Stopping {
            tolerance: 1e-13,
            rounds_max: 20_000,
        },
    )
    .unwrap();
    assert!(model.converged());
    same_rounds(model.rounds(), &example["iterations"]);
    close(
        "log likelihood",
        model.log_likelihood(),
        &example["log_likelihood"],
        TOLERANCE_EM,
    );
    for (k, &prior) in model.priors().iter().enumerate() {
        close(
            "class frequency",
            prior,
            &example["class_marginals"][k],
            TOLERANCE_EM,
        );
        check_rounded(
            "class frequency",
            Ok(prior),
            &example["published"]["class_marginals"][k],
        );
    }
    for (k, observer) in (1..=5).enumerate() {
        for (j, grade) in (1..=4).enumerate() {
            let expected = &example["error_rates_observer_true_observed"][k][j];
            for (l, &rate) in model
                .error_rates(observer, grade)
                .unwrap()
                .iter()
                .enumerate()
            {
                close(
                    &format!("rate {observer} {grade} {l}"),
                    rate,
                    &expected[l],
                    TOLERANCE_EM,
                );
            }
        }
    }
    for patient in 0..45 {
        let (grade, probability) = model.label(patient).unwrap();
        let row = patient as usize;
        assert_eq!(
            Some(u64::from(grade)),
            example["most_probable_class"][row].as_u64()
        );
        close(
            "posterior",
            probability,
            &example["max_posterior"][row],
            TOLERANCE_EM,
        );
    }

    let others: Codes = (3..7)
        .map(|column| rows.iter().map(|row| Some(row[column])).collect())
        .collect();
    let alpha = &example["krippendorff_alpha_obs2_to_obs5"];
    check(
        "observers 2 to 5",
        krippendorffs_alpha_nominal(&others),
        &alpha["nominal"],
    );
    check(
        "observers 2 to 5",
        krippendorffs_alpha_ordinal(&others),
        &alpha["ordinal"],
    );
    check(
        "observers 2 to 5",
        krippendorffs_alpha_interval(&as_numbers(&others)),
        &alpha["interval"],
    );
    let grades: Vec<Vec<u32>> = rows
        .iter()
        .map(|row| {
            (1..=4)
                .map(|g| u32::try_from(row[3..].iter().filter(|&&x| x == g).count()).unwrap())
                .collect()
        })
        .collect();
    check(
        "observers 2 to 5",
        fleiss_kappa(&grades),
        &example["fleiss_kappa_obs2_to_obs5"],
    );
}

/// The RTE labels: names of items and annotators in order of appearance, and (item, annotator,
/// code) triples.
struct Rte {
    items: Vec<String>,
    annotators: Vec<String>,
    labels: Vec<(u32, u32, u32)>,
}

impl Rte {
    fn read(path: &Path) -> Self {
        let mut rte = Self {
            items: Vec::new(),
            annotators: Vec::new(),
            labels: Vec::new(),
        };
        let (mut items, mut annotators) = (BTreeMap::new(), BTreeMap::new());
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            let item = position(&mut items, &mut rte.items, row["task"].as_str().unwrap());
            let annotator = position(
                &mut annotators,
                &mut rte.annotators,
                row["annotator"].as_str().unwrap(),
            );
            rte.labels.push((
                item,
                annotator,
                row["label"].as_str().unwrap().parse().unwrap(),
            ));
        }
        rte
    }

    fn ratings(&self) -> Codes {
        let mut ratings = vec![vec![None; self.items.len()]; self.annotators.len()];
        for &(item, annotator, code) in &self.labels {
            ratings[annotator as usize][item as usize] = Some(code);
        }
        ratings
    }

    fn item(&self, name: &str) -> u32 {
        u32::try_from(self.items.iter().position(|item| item == name).unwrap()).unwrap()
    }

    fn annotator(&self, name: &str) -> u32 {
        u32::try_from(
            self.annotators
                .iter()
                .position(|item| item == name)
                .unwrap(),
        )
        .unwrap()
    }
}

fn position(seen: &mut BTreeMap<String, u32>, names: &mut Vec<String>, name: &str) -> u32 {
    *seen.entry(name.to_owned()).or_insert_with(|| {
        names.push(name.to_owned());
        u32::try_from(names.len() - 1).unwrap()
    })
}

#[test]
fn the_rte_labels_when_the_data_are_there() {
    let Ok(folder) = std::env::var("GLYPH_DATA") else {
        return;
    };
    let folder = Path::new(&folder);
    let golden: Value = serde_json::from_str(
        &std::fs::read_to_string(folder.join("golden_agreement.json")).unwrap(),
    )
    .unwrap();
    let golden = &golden["rte"];
    let rte = Rte::read(&folder.join("snow2008/rte.labels.jsonl"));
    rte_coefficients(&rte, golden);
    rte_pairs(&rte, &golden["cohen_pairwise"]);
    rte_dawid_skene(&rte, &golden["aggregation"]["dawid_skene_plain_em"], folder);
}

fn rte_coefficients(rte: &Rte, golden: &Value) {
    let ratings = rte.ratings();
    assert_eq!(
        Some(rte.labels.len() as u64),
        golden["counts"]["labels"].as_u64()
    );
    check(
        "alpha",
        krippendorffs_alpha_nominal(&ratings),
        &golden["krippendorff_alpha"]["nominal"],
    );
    let percent = percent_agreement_detailed(&ratings).unwrap();
    let expected = &golden["percent_agreement"];
    check("percent", Ok(percent.value), &expected["mean_over_items"]);
    assert_eq!(
        Some(percent.units as u64),
        expected["items_with_2_or_more"].as_u64()
    );
    assert_eq!(Some(percent.pairs), expected["label_pairs"].as_u64());
    let expected = &golden["multi_rater"];
    check("AC1", gwet_ac1(&ratings), &expected["gwet_ac1"]);
    check(
        "Fleiss",
        fleiss_kappa_ratings(&ratings),
        &expected["fleiss_kappa_irrcac"],
    );
    let mut counts = vec![vec![0_u32; 2]; rte.items.len()];
    for &(item, _, code) in &rte.labels {
        counts[item as usize][code as usize] += 1;
    }
    check(
        "Fleiss",
        fleiss_kappa(&counts),
        &expected["fleiss_kappa_statsmodels"],
    );
}

fn rte_pairs(rte: &Rte, golden: &Value) {
    let ratings = rte.ratings();
    let mean = mean_cohens_kappa(&ratings, None).unwrap();
    check("mean kappa", Ok(mean.value), &golden["mean_kappa"]);
    assert_eq!(Some(mean.pairs), golden["pairs_with_overlap"].as_u64());

    let (mut percent, mut weighted, mut overlap) = (Vec::new(), 0.0, 0.0);
    for (k, a) in ratings.iter().enumerate() {
        for b in &ratings[k + 1..] {
            let pair = [a.clone(), b.clone()];
            let Ok(agreement) = percent_agreement_detailed(&pair) else {
                continue;
            };
            percent.push(agreement.value);
            let kappa = mean_cohens_kappa(&pair, None).unwrap();
            weighted += kappa.value * kappa.units as f64;
            overlap += kappa.units as f64;
        }
    }
    let mean_percent = percent.iter().sum::<f64>() / percent.len() as f64;
    check(
        "mean percent",
        Ok(mean_percent),
        &golden["mean_percent_agreement"],
    );
    check(
        "weighted",
        Ok(weighted / overlap),
        &golden["mean_kappa_weighted_by_overlap"],
    );

    let named = golden["named_pairs"].as_array().unwrap();
    assert_eq!(named.len(), 5);
    for expected in named {
        let row = |key: &str| &ratings[rte.annotator(expected[key].as_str().unwrap()) as usize];
        let (a, b): (Vec<u32>, Vec<u32>) = row("a")
            .iter()
            .zip(row("b"))
            .filter_map(|(x, y)| Some(((*x)?, (*y)?)))
            .unzip();
        assert_eq!(Some(a.len() as u64), expected["common_items"].as_u64());
        check("kappa", cohens_kappa(&a, &b), &expected["kappa"]);
        let pair = [row("a").clone(), row("b").clone()];
        check(
            "percent",
            percent_agreement(&pair),
            &expected["percent_agreement"],
        );
    }
}

fn rte_dawid_skene(rte: &Rte, golden: &Value, folder: &Path) {
    let model = dawid_skene(&rte.labels, Stopping::default()).unwrap();
    assert!(model.converged());
    same_rounds(model.rounds(), &golden["iterations"]);
    close(
        "log likelihood",
        model.log_likelihood(),
        &golden["log_likelihood"],
        TOLERANCE_EM,
    );
    for (class, &prior) in model.priors().iter().enumerate() {
        close(
            "prior",
            prior,
            &golden["priors_last_m_step"][class.to_string()],
            TOLERANCE_EM,
        );
    }
    for (task, expected) in golden["posterior_first_tasks"].as_object().unwrap() {
        for (class, &p) in model.posterior(rte.item(task)).unwrap().iter().enumerate() {
            close(task, p, &expected[class.to_string()], TOLERANCE_EM);
        }
    }
    for (name, expected) in golden["confusion_true_to_observed"].as_object().unwrap() {
        for true_class in 0..2 {
            let rates = model.error_rates(rte.annotator(name), true_class).unwrap();
            for (label, &rate) in rates.iter().enumerate() {
                let expected = &expected[true_class.to_string()][label.to_string()];
                close(name, rate, expected, TOLERANCE_EM);
            }
        }
    }
    let (mut correct, mut zeros, mut unsure) = (0_u64, 0_u64, 0_u64);
    for line in std::fs::read_to_string(folder.join("snow2008/rte.gold.jsonl"))
        .unwrap()
        .lines()
    {
        let gold: Value = serde_json::from_str(line).unwrap();
        let (class, probability) = model
            .label(rte.item(gold["task"].as_str().unwrap()))
            .unwrap();
        correct += u64::from(gold["label"].as_str() == Some(&class.to_string()));
        zeros += u64::from(class == 0);
        unsure += u64::from(probability < 0.9);
    }
    assert_eq!(Some(correct), golden["correct"].as_u64());
    assert_eq!(Some(zeros), golden["label_counts"]["0"].as_u64());
    assert_eq!(
        Some(unsure),
        golden["items_with_max_posterior_below_0.9"].as_u64()
    );
}
