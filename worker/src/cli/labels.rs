//! `glyph labels`: export, likely errors, looking back, calibration.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use glyph_workflow_engine::{
    ids::{Slug, WorkflowId},
    limits::PAGE_MAX,
};
use serde_json::{Value, json};

use super::{
    CliError, Output,
    api::Call,
    connect::orchestrator,
    deployment::{Deployment, ask},
    files::private_file,
    output::{Table, clipped, grouped, percent},
    values::{pair, time},
};
use crate::{
    labels::{
        COLUMNS, CalibratedAgainst, LabelFilter, LabelLines, LinesFormat, StepCalibration, Suspect,
    },
    operations::labels::{
        CalibrationList, Extent, LookReport, SuspectList, label_reader, look, suspects,
    },
    projections::labels::calibrations,
    settings::Settings,
};

/// Verbs on labels.
#[derive(Clone, Debug, Subcommand)]
pub enum LabelsVerb {
    /// Export the labels of completed tasks, one line each, as delivered and as known now
    #[command(after_help = export_help())]
    Export {
        #[command(flatten)]
        selection: Selection,
        /// Format of the lines
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: LinesFormat,
        /// Include who submitted each vote; left out without it
        #[arg(long)]
        with_annotators: bool,
        /// File to write, replaced if it exists [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List the labels that are most likely wrong, with what is known now
    Suspect {
        #[command(flatten)]
        selection: Selection,
        /// Maximum number of labels
        #[arg(long, value_name = "N", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(1..=i64::from(PAGE_MAX)))]
        limit: u32,
    },
    /// Look back at completed tasks: one message `answer.revised` for each answer that would be
    /// another one now. No task changes
    Look {
        #[command(flatten)]
        selection: Selection,
    },
    /// Show how often answers of a stated probability are right on gold tasks
    Calibration {
        /// Only of this workflow
        #[arg(long, short, value_name = "ID")]
        workflow: Option<Slug>,
    },
}

fn export_help() -> String {
    let columns = COLUMNS.join(", ");
    format!("Columns, in order: {columns}. What is nested is JSON in its cell; see docs/labels.md")
}

/// Which labels.
#[derive(Clone, Debug, Args)]
pub struct Selection {
    /// Workflow id
    #[arg(long, short, value_name = "ID")]
    workflow: Slug,
    /// Only of this step
    #[arg(long, value_name = "ID")]
    step: Option<Slug>,
    /// Only of tasks that ended at this time or later, as an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// Only of tasks with this label; may be repeated
    #[arg(long = "label", visible_alias = "where", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
}

impl Selection {
    /// The call with what is selected.
    fn asked_of(&self, call: Call) -> Call {
        let call = call
            .query("workflow", Some(&self.workflow))
            .query("step", self.step.as_ref())
            .query("since", self.since.map(|since| since.to_rfc3339()));
        let labels = self.labels.iter();
        labels.fold(call, |call, (key, value)| {
            call.query(&format!("label.{key}"), Some(value))
        })
    }
}

impl From<Selection> for LabelFilter {
    fn from(selection: Selection) -> Self {
        Self {
            workflow: selection.workflow,
            step: selection.step,
            labels: selection.labels.into_iter().collect(),
            since: selection.since,
        }
    }
}

pub(super) async fn run(
    verb: LabelsVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        LabelsVerb::Export {
            selection,
            format,
            with_annotators,
            out,
        } => {
            let lines = LabelLines {
                format,
                with_annotators,
                ..LabelLines::default()
            };
            export(selection, lines, out.as_deref(), settings, output).await
        }
        LabelsVerb::Suspect { selection, limit } => {
            let found = suspects_of(selection, limit, settings).await?;
            output.result(&found, || suspects_text(&found));
            Ok(())
        }
        LabelsVerb::Look { selection } => {
            let report = looked(selection, settings).await?;
            output.result(&report, || look_text(&report));
            Ok(())
        }
        LabelsVerb::Calibration { workflow } => {
            let workflow = workflow.as_ref();
            let call = Call::get(&[&"calibration"]).query("workflow", workflow);
            let list: CalibrationList = ask(settings, call, async |store| {
                let calibration = calibrations(&**store, workflow).await?;
                Ok(CalibrationList { calibration })
            })
            .await?;
            output.result(&list, || calibration_text(&list.calibration, workflow));
            Ok(())
        }
    }
}

/// The labels that are most likely wrong. A worker looks for some seconds at a time.
async fn suspects_of(
    selection: Selection,
    limit: u32,
    settings: &Settings,
) -> Result<SuspectList, CliError> {
    let mut found: Option<SuspectList> = None;
    loop {
        let after = found.as_ref().and_then(|found| found.next_after);
        let call = selection.asked_of(Call::get(&[&"labels", &"suspect"]));
        let call = call.query("limit", Some(limit)).query("after", after);
        let list: SuspectList = ask(settings, call, async |store| {
            let orchestrator = orchestrator(store, settings);
            let filter = selection.clone().into();
            let reader = label_reader(&**store, &orchestrator, filter).await?;
            Ok(suspects(reader, limit, Extent::default()).await?)
        })
        .await?;
        let all = match found {
            None => list,
            Some(known) => known.and(list, limit),
        };
        if all.next_after.is_none() {
            return Ok(all);
        }
        found = Some(all);
    }
}

/// Looks back. A worker looks for some seconds at a time.
async fn looked(selection: Selection, settings: &Settings) -> Result<LookReport, CliError> {
    let mut all = LookReport::default();
    loop {
        let call = selection.asked_of(Call::post(&[&"labels", &"look"]));
        let call = call.query("after", all.next_after);
        let report: LookReport = ask(settings, call, async |store| {
            let orchestrator = orchestrator(store, settings);
            let filter = selection.clone().into();
            let reader = label_reader(&**store, &orchestrator, filter).await?;
            let messages = settings.messages();
            Ok(look(&**store, &messages, reader, Extent::default()).await?)
        })
        .await?;
        all = all.and(&report);
        if all.next_after.is_none() {
            return Ok(all);
        }
    }
}

async fn export(
    selection: Selection,
    lines: LabelLines,
    out: Option<&Path>,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let deployment = Deployment::open(settings).await?;
    let Some(path) = out else {
        let mut to = BufWriter::new(io::stdout());
        return match write_all(&deployment, selection, lines, &mut to, settings, output).await {
            Ok(_) => Ok(()),
            // A reader that has closed the pipe (`| head`) is not an error.
            Err(WriteError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(error.into_cli("standard output")),
        };
    };
    // Written beside it first: a file of that name is always complete.
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let name = path.display().to_string();
    let file = private_file(&part).map_err(|error| WriteError::Io(error).into_cli(&name))?;
    let mut to = BufWriter::new(file);
    let written = write_all(&deployment, selection, lines, &mut to, settings, output).await;
    drop(to);
    let moved = written.and_then(|counts| {
        fs::rename(&part, path)?;
        Ok(counts)
    });
    let (tasks, labels) = moved.map_err(|error| {
        // What is left of it is of no use.
        let _ = fs::remove_file(&part);
        error.into_cli(&name)
    })?;
    output.result(
        &json!({"file": name, "tasks": tasks, "labels": labels}),
        || {
            let (tasks, labels) = (grouped(tasks), grouped(labels));
            format!("{labels} labels of {tasks} tasks in {name}")
        },
    );
    Ok(())
}

enum WriteError {
    Io(io::Error),
    Read(CliError),
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl WriteError {
    fn into_cli(self, name: &str) -> CliError {
        match self {
            Self::Io(error) => CliError::failed("not_written", format!("{name}: {error}")),
            Self::Read(error) => error,
        }
    }
}

impl From<CliError> for WriteError {
    fn from(error: CliError) -> Self {
        Self::Read(error)
    }
}

/// Writes all labels. Returns how many tasks and labels there were.
async fn write_all(
    deployment: &Deployment,
    selection: Selection,
    lines: LabelLines,
    to: &mut (impl Write + Send),
    settings: &Settings,
    output: Output,
) -> Result<(u64, u64), WriteError> {
    let bar = output.progress(None, "exporting");
    let counts = match deployment {
        Deployment::Store(store) => {
            let orchestrator = orchestrator(store, settings);
            let reader = label_reader(&**store, &orchestrator, selection.into()).await;
            let mut reader = reader.map_err(CliError::from)?;
            let (mut tasks, mut labels, mut after) = (0, 0, None);
            lines.begin(to)?;
            loop {
                let page = reader.page(after, PAGE_MAX).await.map_err(CliError::from)?;
                tasks += u64::from(page.tasks);
                bar.inc(u64::from(page.tasks));
                for label in page.labels {
                    labels += 1;
                    lines.write(to, label)?;
                }
                after = page.next_after;
                if after.is_none() {
                    break (tasks, labels);
                }
            }
        }
        Deployment::Api(api) => {
            let call = selection.asked_of(Call::get(&[&"labels", &"export"]));
            let call = call
                .query("format", Some(lines.format.as_str()))
                .query("with_annotators", Some(lines.with_annotators));
            let mut answer = api.send(&call).await?;
            let mut rows = Rows::of(lines.format);
            while let Some(part) = api.part(&mut answer).await? {
                to.write_all(&part)?;
                rows.read(&part);
                bar.set_position(rows.tasks);
            }
            (rows.tasks, rows.labels)
        }
    };
    to.flush()?;
    bar.finish_and_clear();
    Ok(counts)
}

/// Counts the labels of an export and their tasks, as its parts come.
struct Rows {
    format: LinesFormat,
    /// The header of CSV has not been read.
    header: bool,
    /// Within quotation marks of CSV, where a line break ends no row.
    quoted: bool,
    row: Vec<u8>,
    /// The beginning of the last row, which names its task.
    task: Vec<u8>,
    tasks: u64,
    labels: u64,
}

/// Characters with which a row begins, in which its task is named.
const NAMES_TASK: usize = "{\"task_id\":\"00000000-0000-0000-0000-000000000000".len();

impl Rows {
    fn of(format: LinesFormat) -> Self {
        Self {
            format,
            header: format == LinesFormat::Csv,
            quoted: false,
            row: Vec::new(),
            task: Vec::new(),
            tasks: 0,
            labels: 0,
        }
    }

    fn read(&mut self, part: &[u8]) {
        for &byte in part {
            self.quoted ^= byte == b'"' && self.format == LinesFormat::Csv;
            if byte == b'\n' && !self.quoted {
                self.end();
            } else if self.row.len() < NAMES_TASK {
                self.row.push(byte);
            }
        }
    }

    fn end(&mut self) {
        let row = std::mem::take(&mut self.row);
        if std::mem::take(&mut self.header) {
            return;
        }
        self.labels += 1;
        let task = match self.format {
            LinesFormat::Jsonl => row,
            LinesFormat::Csv => row
                .split(|&byte| byte == b',')
                .next()
                .unwrap_or_default()
                .to_vec(),
        };
        self.tasks += u64::from(task != self.task);
        self.task = task;
    }
}

fn shown(value: Option<&Value>) -> String {
    const CHARACTERS: usize = 40;
    let text = match value {
        None => return "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    clipped(&text, CHARACTERS)
}

fn suspects_text(found: &SuspectList) -> String {
    if found.suspects.is_empty() {
        let tasks = grouped(found.tasks);
        return format!(
            "no answers of the {tasks} completed tasks are known to a model: steps that complete by \
             confidence or weigh votes have one"
        );
    }
    let mut table = Table::new(&[
        "task",
        "step",
        "field",
        "wrong",
        "answer",
        "then",
        "now",
        "now",
        "difficulty",
    ]);
    for one in &found.suspects {
        let Suspect {
            task_id,
            step,
            field,
            value,
            error_probability,
            confidence,
            confidence_now,
            value_now,
            difficulty_now,
            ..
        } = one;
        table.row([
            task_id.to_string(),
            step.to_string(),
            field.clone().unwrap_or_default(),
            percent(*error_probability),
            shown(Some(value)),
            confidence.map_or("-".to_owned(), percent),
            percent(*confidence_now),
            shown(value_now.as_ref()),
            difficulty_now.map_or("-".to_owned(), |share| format!("{share:.2}")),
        ]);
    }
    table.render(0)
}

fn look_text(report: &LookReport) -> String {
    let LookReport {
        tasks,
        answers,
        revised,
        ..
    } = report;
    format!(
        "{} of {} answers of {} completed tasks would be other ones now; each is told once",
        grouped(*revised),
        grouped(*answers),
        grouped(*tasks)
    )
}

fn calibration_text(steps: &[StepCalibration], workflow: Option<&WorkflowId>) -> String {
    if steps.is_empty() {
        let of = workflow.map_or_else(String::new, |workflow| format!(" of `{workflow}`"));
        return format!(
            "no gold task{of}, and none that is audited, has been completed in a step that completes \
             by confidence"
        );
    }
    let mut parts = Vec::new();
    for step in steps {
        let mut table = Table::new(&["stated", "answers", "mean", "right", "95 % interval"]);
        for bin in step.bins.iter().filter(|bin| bin.answers > 0) {
            let interval = bin.low.zip(bin.high);
            let interval =
                interval.map(|(low, high)| format!("{} to {}", percent(low), percent(high)));
            table.row([
                format!("{:.1} to {:.1}", bin.from, bin.to),
                grouped(bin.answers),
                bin.mean_confidence.map_or("-".to_owned(), percent),
                bin.share.map_or("-".to_owned(), percent),
                interval.unwrap_or_default(),
            ]);
        }
        let error = step
            .expected_calibration_error
            .map_or("-".to_owned(), percent);
        let against = match step.against {
            CalibratedAgainst::Gold => "gold answers",
            CalibratedAgainst::Audit => "audited answers, against what all people say",
        };
        parts.push(format!(
            "{}, {}: {} {against}, expected calibration error {error}\n{}",
            step.workflow,
            step.step_id,
            grouped(step.answers),
            table.render(2)
        ));
    }
    parts.join("\n\n")
}
