//! Computes the agreement of one set of ratings and measures the time: the engine's half of
//! `scripts/compare-agreement`.
//!
//! Reads a JSON list of rows from standard input, one row per annotator, with a whole number or
//! null for each item. Prints a JSON object from measure to `[value, seconds]`, where the seconds
//! are those of the fastest of five runs.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program: it takes the time, and prints"
)]

use std::{collections::BTreeMap, io::stdin, time::Instant};

use glyph_workflow_engine::consensus::{
    ConsensusError, Weighting, krippendorffs_alpha_interval, krippendorffs_alpha_nominal,
    krippendorffs_alpha_ordinal, krippendorffs_alpha_ratio, mean_cohens_kappa,
};

const RUNS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let codes: Vec<Vec<Option<u32>>> = serde_json::from_reader(stdin().lock())?;
    let numbers: Vec<Vec<Option<f64>>> = codes
        .iter()
        .map(|row| row.iter().map(|code| code.map(f64::from)).collect())
        .collect();
    let kappa = |weighting| mean_cohens_kappa(&codes, weighting).map(|found| found.value);
    let mut found = BTreeMap::new();
    let mut measure = |name, compute: &dyn Fn() -> Result<f64, ConsensusError>| {
        found.insert(name, timed(compute)?);
        Ok::<(), ConsensusError>(())
    };
    measure("alpha nominal", &|| krippendorffs_alpha_nominal(&codes))?;
    measure("alpha ordinal", &|| krippendorffs_alpha_ordinal(&codes))?;
    measure("alpha interval", &|| krippendorffs_alpha_interval(&numbers))?;
    measure("alpha ratio", &|| krippendorffs_alpha_ratio(&numbers))?;
    measure("kappa, mean of pairs", &|| kappa(None))?;
    measure("kappa linear, mean of pairs", &|| {
        kappa(Some(Weighting::Linear))
    })?;
    measure("kappa quadratic, mean of pairs", &|| {
        kappa(Some(Weighting::Quadratic))
    })?;
    println!("{}", serde_json::to_string(&found)?);
    Ok(())
}

fn timed(compute: &dyn Fn() -> Result<f64, ConsensusError>) -> Result<(f64, f64), ConsensusError> {
    let mut fastest = f64::INFINITY;
    let mut value = 0.0;
    for _ in 0..RUNS {
        let started = Instant::now();
        value = std::hint::black_box(compute()?);
        fastest = fastest.min(started.elapsed().as_secs_f64());
    }
    Ok((value, fastest))
}
