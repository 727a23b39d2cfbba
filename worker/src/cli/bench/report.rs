//! What was measured, for people, and the ratios of workers to the floor.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    super::output::{Table, grouped},
    run::Run,
};

/// A worker's figures over those of the floor in the same call: medians over the rounds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Ratio {
    pub(super) workload: &'static str,
    /// Commands a second; more is better.
    pub(super) throughput: f64,
    /// Processor time of a command, worker and services together; less is better.
    pub(super) processor: Option<f64>,
    /// The 99th percentile until the commit, and until the receipt; less is better.
    pub(super) p99_to_commit: Option<f64>,
    pub(super) p99_to_receipt: Option<f64>,
}

/// The ratios of each workload that both have run.
pub(super) fn ratios(runs: &[Run]) -> Vec<Ratio> {
    let mut workloads: Vec<&'static str> = runs.iter().map(|run| run.workload).collect();
    workloads.dedup();
    workloads.sort_unstable();
    workloads.dedup();
    let of = |workload: &'static str| {
        let over = |figure: &dyn Fn(&Run) -> Option<f64>| {
            let median_of = |subject: &str| {
                let own = runs
                    .iter()
                    .filter(|run| run.workload == workload && run.subject == subject);
                median(own.filter_map(figure).collect())
            };
            let ratio = median_of("worker")? / median_of("floor")?;
            ratio.is_finite().then_some(ratio)
        };
        Some(Ratio {
            workload,
            throughput: over(&|run| Some(run.commands_per_second))?,
            processor: over(&|run| run.processor.sum()),
            p99_to_commit: over(&|run| Some(run.latency.as_ref()?.to_commit.p99_ms)),
            p99_to_receipt: over(&|run| Some(run.latency.as_ref()?.to_receipt.p99_ms)),
        })
    };
    workloads.into_iter().filter_map(of).collect()
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => None,
        count if count % 2 == 1 => Some(figures[middle]),
        _ => Some(f64::midpoint(figures[middle - 1], figures[middle])),
    }
}

pub(super) fn text(runs: &[Run], ratios: &[Ratio]) -> String {
    let mut table = Table::new(&[
        "workload",
        "subject",
        "commands/s",
        "messages/s",
        "a batch",
        "µs worker",
        "postgres",
        "rabbitmq",
        "WAL bytes",
        "MiB",
        "p50 commit",
        "p99",
        "p50 receipt",
        "p99",
        "late p99",
    ]);
    let number = |value: Option<f64>| match value {
        Some(value) => whole(value),
        None => "-".to_owned(),
    };
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0} ms"));
    for run in runs {
        let latency = run.latency.as_ref();
        table.row([
            run.workload.to_owned(),
            run.subject.to_owned(),
            whole(run.commands_per_second),
            whole(run.messages_per_second),
            number(run.commands_per_batch),
            number(run.processor.subject),
            number(run.processor.postgres),
            number(run.processor.rabbitmq),
            number(run.wal_bytes),
            number(
                run.peak_memory_bytes
                    .map(|bytes| bytes as f64 / f64::from(1 << 20)),
            ),
            ms(latency.map(|latency| latency.to_commit.p50_ms)),
            ms(latency.map(|latency| latency.to_commit.p99_ms)),
            ms(latency.map(|latency| latency.to_receipt.p50_ms)),
            ms(latency.map(|latency| latency.to_receipt.p99_ms)),
            ms(latency.map(|latency| latency.to_publish.p99_ms)),
        ]);
    }
    let mut text = table.render(0);
    let times = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
    for ratio in ratios {
        let _ = write!(
            text,
            "\n{} over the floor: {:.2} of its throughput, {} times its processor time, {} and {} times \
             its p99 to commit and receipt",
            ratio.workload,
            ratio.throughput,
            times(ratio.processor),
            times(ratio.p99_to_commit),
            times(ratio.p99_to_receipt),
        );
    }
    text
}

fn whole(value: f64) -> String {
    let text = format!("{value:.0}");
    text.parse().map_or(text, grouped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), Some(3.0));
    }
}
