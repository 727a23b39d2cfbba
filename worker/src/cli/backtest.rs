//! `glyph backtest`: recorded tasks, decided again under other settings.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::BufRead,
    path::{Path, PathBuf},
};

use clap::Args;
use glyph_workflow_engine::{
    backtest::{Accuracy, BacktestReport, Figures, Prices, read_setting},
    ids::TaskId,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    CliError, Output,
    api::Call,
    connect::orchestrator,
    deployment::ask,
    diagnostics::workflow_of,
    output::{Table, clipped, grouped},
    values::pair,
    visualize::is_file,
};
use crate::{
    operations::{
        backtest::{BacktestPlan, BacktestRequest, backtest},
        text_file,
        workflows::resolve_one,
    },
    settings::Settings,
};

/// Characters of a changed value that are shown.
const VALUE_MAX: usize = 40;

pub(super) const HELP: &str = "\
A path names a value of the expanded workflow (glyph workflow show --expanded lists them all), with
steps by their id: steps.annotate.completion.target. The step may be left out if only one has it.

  glyph backtest -w sentiment --set completion.target=0.9
  glyph backtest -w sentiment --set 'completion={type: confidence, target: 0.95, max: 5}' --price 0.05
  glyph backtest -w new-revision.yaml --where project=p1 --gold known-answers.jsonl

What cannot be known from the recording is listed, and is in no other figure; see docs/backtest.md";

/// What to backtest.
#[derive(Clone, Debug, Args)]
pub struct BacktestArgs {
    /// Workflow id, `id@revision`, or a file with a revision that need not be stored
    #[arg(long, short, value_name = "ID|FILE")]
    workflow: String,
    /// Setting to change; the value is YAML, and null takes the setting out. May be repeated
    #[arg(long = "set", value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Report only tasks with this label; may be repeated
    #[arg(long = "where", visible_alias = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// File with answers that became known later, one JSON object a line: {"task_id": …,
    /// "expected": …}, or "key" in place of "task_id"
    #[arg(long, value_name = "FILE")]
    gold: Option<PathBuf>,
    /// Price of an annotation, or of one by an annotator with a role; may be repeated
    #[arg(long = "price", value_name = "[ROLE=]PRICE", value_parser = price)]
    prices: Vec<(Option<String>, f64)>,
}

fn price(text: &str) -> Result<(Option<String>, f64), String> {
    let (role, number) = match text.split_once('=') {
        Some((role, number)) => (Some(role.to_owned()), number),
        None => (None, text),
    };
    let price: f64 = number
        .parse()
        .map_err(|_| format!("`{number}` is not a number; write 0.05 or expert=0.05"))?;
    if price.is_finite() && price >= 0.0 {
        Ok((role, price))
    } else {
        Err("a price is a number of at least 0".to_owned())
    }
}

pub(super) async fn run(
    args: BacktestArgs,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let set = args.set.iter().map(|text| read_setting(text));
    let set = set.collect::<Result<Vec<_>, _>>();
    let set = set.map_err(|error| CliError::Usage(format!("--set {error}")))?;
    let known = args.gold.as_deref().map(known_answers).transpose()?;
    let file = is_file(&args.workflow)
        .then(|| workflow_of(Path::new(&args.workflow), output))
        .transpose()?;
    let mut prices = Prices::default();
    for (role, price) in args.prices {
        match role {
            Some(role) => drop(prices.roles.insert(role, price)),
            None => prices.each = Some(price),
        }
    }
    let request = BacktestRequest {
        workflow: args.workflow,
        set: set.iter().cloned().collect(),
        labels: args.labels.into_iter().collect(),
        prices,
        known: known.unwrap_or_default(),
    };
    if file.is_some() && settings.api.is_some() {
        return Err(CliError::Usage(
            "a worker backtests revisions that are stored: store the file by `glyph workflow \
             create`, and name it"
                .to_owned(),
        ));
    }
    let bar = output.progress(None, "reading events");
    let call = Call::post(&[&"backtests"]).json(&request);
    let report: BacktestReport = ask(settings, call, async |store| {
        let workflow = match file {
            Some(workflow) => workflow,
            None => resolve_one(&**store, &request.workflow)
                .await?
                .ok_or_else(|| CliError::not_found("workflow", &request.workflow))?,
        };
        let orchestrator = orchestrator(store, settings);
        let told = |events| bar.set_position(events);
        let plan = BacktestPlan {
            set,
            ..request.plan(workflow)
        };
        Ok(backtest(&**store, &orchestrator, plan, None, told).await?)
    })
    .await?;
    bar.finish_and_clear();
    output.result(&report, || report_text(&report));
    Ok(())
}

/// A line of a file with known answers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownLine {
    task_id: Option<TaskId>,
    key: Option<String>,
    expected: Value,
}

fn known_answers(file: &Path) -> Result<HashMap<TaskId, Value>, CliError> {
    let bad = |text: String| CliError::InvalidFile(text);
    let reader = text_file::open(file).map_err(|fault| bad(fault.to_string()))?;
    let mut known = HashMap::new();
    for (n, line) in (1..).zip(reader.lines()) {
        let line = line.map_err(|error| bad(text_file::io_fault(file, &error).to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let at = |what: &str| bad(format!("{}:{n}: {what}", file.display()));
        let read: KnownLine = serde_json::from_str(&line).map_err(|e| at(&e.to_string()))?;
        let task = match (read.task_id, read.key) {
            (Some(task), None) => task,
            (None, Some(key)) => TaskId::of_key(&key),
            _ => return Err(at("give either `task_id` or `key`")),
        };
        if known.insert(task, read.expected).is_some() {
            return Err(at(&format!("task {task} has an answer already")));
        }
    }
    Ok(known)
}

fn number(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$}")
}

fn percent(accuracy: &Accuracy) -> String {
    let ends = accuracy.accuracy.zip(accuracy.low.zip(accuracy.high));
    ends.map_or_else(
        || "-".to_owned(),
        |(share, (low, high))| {
            format!(
                "{:.1} % ({:.1} to {:.1})",
                share * 100.0,
                low * 100.0,
                high * 100.0
            )
        },
    )
}

/// Rows of recorded, simulated and difference.
struct Comparison(Table);

impl Comparison {
    fn counts(&mut self, name: &str, recorded: u64, simulated: u64) {
        let difference = i128::from(simulated) - i128::from(recorded);
        let difference = match difference {
            0 => String::new(),
            _ => format!("{difference:+}"),
        };
        let (recorded, simulated) = (grouped(recorded), grouped(simulated));
        self.0
            .row([name.to_owned(), recorded, simulated, difference]);
    }

    fn numbers(&mut self, name: &str, sides: (Option<f64>, Option<f64>), decimals: usize) {
        let (Some(recorded), Some(simulated)) = sides else {
            return;
        };
        let difference = format!("{:+.decimals$}", simulated - recorded);
        let (recorded, simulated) = (number(recorded, decimals), number(simulated, decimals));
        self.0
            .row([name.to_owned(), recorded, simulated, difference]);
    }

    fn accuracies(&mut self, name: &str, recorded: &Accuracy, simulated: &Accuracy) {
        let shares = recorded.accuracy.zip(simulated.accuracy);
        let difference = shares.map(|(recorded, simulated)| (simulated - recorded) * 100.0);
        let difference = difference.map_or_else(String::new, |points| format!("{points:+.1}"));
        let (recorded, simulated) = (percent(recorded), percent(simulated));
        self.0
            .row([name.to_owned(), recorded, simulated, difference]);
    }
}

fn report_text(report: &BacktestReport) -> String {
    let mut parts = vec![heading(report), figures_text(report)];
    parts.push(annotations_text(report));
    if report.open.tasks > 0 {
        parts.push(open_text(report));
    }
    if report.unknown.is_empty() {
        parts.push("Nothing is unknown: every question was answered in the recording.".to_owned());
    } else {
        let mut table = Table::new(&["tasks", "count", "what"]);
        for one in &report.unknown {
            table.row([grouped(one.tasks), grouped(one.count), one.text.clone()]);
        }
        parts.push(format!("What cannot be known:\n{}", table.render(2)));
    }
    parts.join("\n\n")
}

fn heading(report: &BacktestReport) -> String {
    let name = match report.revision {
        0 => report.workflow.to_string(),
        revision => format!("{}@{revision}", report.workflow),
    };
    let (tasks, events) = (grouped(report.tasks), grouped(report.events));
    let mut text = format!("{tasks} tasks of `{name}`, decided again from {events} events");
    for change in &report.changes {
        let before = clipped(&change.before.to_string(), VALUE_MAX);
        let after = clipped(&change.after.to_string(), VALUE_MAX);
        let _ = write!(text, "\n  {}: {before} -> {after}", change.path);
    }
    text
}

fn figures_text(report: &BacktestReport) -> String {
    let (then, now) = (&report.recorded, &report.simulated);
    let table = Table::new(&["", "recorded", "would have been", "difference"]);
    let mut rows = Comparison(table);
    let count = |figures: &Figures| {
        [
            figures.completed,
            figures.running,
            figures.failed,
            figures.cancelled,
        ]
    };
    let names = [
        "tasks completed",
        "tasks not ended",
        "tasks failed",
        "tasks cancelled",
    ];
    for (n, (name, (then, now))) in names
        .iter()
        .zip(count(then).iter().zip(count(now)))
        .enumerate()
    {
        if n == 0 || *then > 0 || now > 0 {
            rows.counts(name, *then, now);
        }
    }
    rows.counts(
        "tasks with an answer",
        report.answers.recorded,
        report.answers.simulated,
    );
    rows.counts("annotations", then.annotations, now.annotations);
    let each = (then.annotations_per_task, now.annotations_per_task);
    rows.numbers("annotations per task", each, 2);
    rows.numbers("cost", (then.cost, now.cost), 2);
    if then.unpriced > 0 || now.unpriced > 0 {
        rows.counts("annotations without a price", then.unpriced, now.unpriced);
    }
    rows.counts("answers below the target", then.unsure, now.unsure);
    rows.counts("disagreements", then.disagreements, now.disagreements);
    let gold = &report.gold;
    if gold.tasks > 0 {
        rows.accuracies("accuracy where known", &gold.recorded, &gold.simulated);
        let of_both = (&gold.recorded_of_both, &gold.simulated_of_both);
        if gold.recorded.answers != of_both.0.answers {
            rows.accuracies("accuracy, answered on both sides", of_both.0, of_both.1);
        }
    }
    rows.0.render(0)
}

fn annotations_text(report: &BacktestReport) -> String {
    let uses = &report.annotations;
    let answers = &report.answers;
    let mut text = format!(
        "Of the recorded annotations {} would have been asked for, {} would not, and nothing can be \
         made of {}. {} of {} answers stay the same.",
        grouped(uses.used),
        grouped(uses.saved),
        grouped(uses.unusable),
        grouped(answers.same),
        grouped(answers.both),
    );
    if report.gold.tasks > 0 {
        let known = grouped(report.gold.tasks);
        let _ = write!(
            text,
            " The answer of {known} tasks is known; accuracies have 95 % intervals."
        );
    }
    text
}

fn open_text(report: &BacktestReport) -> String {
    let open = &report.open;
    let mut text = format!(
        "{} tasks would have gone on and ask for {} more annotations next. Closed with what they \
         have, {} of them have an answer",
        grouped(open.tasks),
        grouped(open.annotations_wanted),
        grouped(open.answers_if_closed)
    );
    if open.gold_if_closed.answers > 0 {
        let _ = write!(text, ", right in {}", percent(&open.gold_if_closed));
    }
    text.push_str("; these answers are in no figure above.");
    text
}
