//! `glyph task import`: a data set, or the export of an annotation tool, as commands.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use chrono::FixedOffset;
use clap::Args;
use glyph_workflow_engine::{
    WorkflowConfig,
    config::{StepConfig, StepType},
    ids::Slug,
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{
    CliError, Output, bring_back,
    diagnostics::workflow_of,
    files::private_file,
    output::grouped,
    publish::WINDOW,
    sink::{Sent, Sink},
    values::pair,
    visualize::{is_file, stored},
};
use crate::{
    operations::import::{
        Import, ImportFault, ImportFormat, ImportOnly, ImportRequest, Imported, ImportedCommand,
        MapTarget, Mapping, Refusal, parse_map, parse_offset,
    },
    settings::Settings,
};

/// Refusals that are shown; the others are counted.
const REFUSALS_SHOWN: usize = 20;
/// Refusals of one cause that are shown.
const ALIKE_SHOWN: u32 = 3;
/// Windows of commands that are read ahead of their publication.
const WINDOWS_AHEAD: usize = 4;

const HELP: &str = "\
The format is found out; --format names it. Names may be paths with dots, as `meta.id`.

  glyph task import items.csv -w sentiment --id-field id
  glyph task import all.csv -w sentiment --id-field item --user-field who --answer-field label
  glyph task import label-studio.json -w boxes --dry-run
  glyph task import doccano.jsonl -w entities --user ann

Each item starts one task, each judgement is a submission to the step. Answers are written as
the step asks for them, and are checked before anything is sent. Ids follow from the content:
importing a file again changes nothing. More is in docs/from-your-export.md.

Ids and users that are no UUIDs become UUIDv5; `glyph help task id` has the rule.";

/// What says how to read other files, which an archive says itself.
const ARCHIVE_ALONE: [&str; 6] = ["workflow", "step", "format", "dry_run", "out", "skip_bad"];

/// What to import.
#[derive(Clone, Debug, Args)]
#[command(after_help = HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct ImportArgs {
    /// The file
    file: PathBuf,
    /// Workflow id, id@revision or revision UUID; a file, too, with --dry-run or --out
    #[arg(
        long,
        short,
        value_name = "WORKFLOW",
        required_unless_present = "archive"
    )]
    workflow: Option<String>,
    /// The file is an archive of `glyph retention`: bring its tasks back
    #[arg(long, conflicts_with_all = ARCHIVE_ALONE)]
    archive: bool,
    /// Step of the judgements [default: the entry step, or the only annotation step]
    #[arg(long, value_name = "ID")]
    step: Option<Slug>,
    /// Format of the file [default: found out]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<ImportFormat>,
    /// Name of the item's id; tools have one of their own
    #[arg(long, value_name = "NAME")]
    id_field: Option<String>,
    /// Text before every item's id, so that data sets that count from 1 stay apart
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    key_prefix: String,
    /// Name of the user's id; tools have one of their own
    #[arg(long, value_name = "NAME")]
    user_field: Option<String>,
    /// The user, where the file names none
    #[arg(long, value_name = "KEY")]
    user: Option<String>,
    /// Text before every user's id
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    user_prefix: String,
    /// Name of an answer; may be repeated
    #[arg(long = "answer-field", value_name = "NAME")]
    answer_fields: Vec<String>,
    /// What goes where: text=NAME into the input, answer.KEY=NAME, expected.KEY=NAME, label.KEY=NAME;
    /// may be repeated
    #[arg(long = "map", value_name = "TARGET=NAME", value_parser = parse_map)]
    maps: Vec<(MapTarget, String)>,
    /// Name of a value that becomes a label of the task to search by; may be repeated
    #[arg(long = "label-field", value_name = "NAME")]
    label_fields: Vec<String>,
    /// Label of every task; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Name of the known answer, which makes a task gold
    #[arg(long, value_name = "NAME")]
    expected_field: Option<String>,
    /// Name of the time of a judgement
    #[arg(long, value_name = "NAME")]
    time_field: Option<String>,
    /// Zone of times that name none, as +02:00
    #[arg(long, value_name = "OFFSET", value_parser = parse_offset, allow_hyphen_values = true)]
    utc_offset: Option<FixedOffset>,
    /// Role of every user; may be repeated
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// What separates the members of a list inside one cell [default: a line break]
    #[arg(long, value_name = "TEXT")]
    list_separator: Option<String>,
    /// What separates the cells of a line: one character, or `tab` [default: found out]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Convert Label Studio's percent to pixels
    #[arg(long)]
    pixels: bool,
    /// The answers in the file are the known ones: tasks become gold
    #[arg(long, conflicts_with_all = ["only_tasks", "only_answers"])]
    as_gold: bool,
    /// Leave out the judgements in the file
    #[arg(long, conflicts_with = "only_answers")]
    only_tasks: bool,
    /// Import judgements of tasks that have been started before
    #[arg(long)]
    only_answers: bool,
    /// Leave out what cannot be imported, and send the others
    #[arg(long)]
    skip_bad: bool,
    /// Check the file and count; send nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the commands to a file for `glyph publish`, or to `-`; send nothing
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    out: Option<PathBuf>,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err("write one character of ASCII, or `tab`".to_owned()),
    }
}

impl ImportArgs {
    /// The workflow, which only an archive does without.
    fn workflow(&self) -> &str {
        self.workflow.as_deref().unwrap_or_default()
    }

    fn mapping(&self) -> Mapping {
        Mapping {
            id_field: self.id_field.clone(),
            key_prefix: self.key_prefix.clone(),
            user_field: self.user_field.clone(),
            user: self.user.clone(),
            user_prefix: self.user_prefix.clone(),
            answer_fields: self.answer_fields.clone(),
            maps: self.maps.clone(),
            label_fields: self.label_fields.clone(),
            labels: self.labels.iter().cloned().collect(),
            expected_field: self.expected_field.clone(),
            time_field: self.time_field.clone(),
            utc_offset: self.utc_offset,
            roles: self.roles.clone(),
            list_separator: self.list_separator.clone(),
            delimiter: self.delimiter,
            as_gold: self.as_gold,
            pixels: self.pixels,
            only: match (self.only_tasks, self.only_answers) {
                (true, _) => ImportOnly::Tasks,
                (false, true) => ImportOnly::Answers,
                (false, false) => ImportOnly::All,
            },
        }
    }
}

/// What a file holds, and what became of it.
#[derive(Debug, Default, Serialize)]
struct Summary {
    format: &'static str,
    workflow: String,
    step: String,
    tasks: u64,
    gold_tasks: u64,
    submissions: u64,
    /// Why judgements were left out that are none.
    skipped: BTreeMap<&'static str, u64>,
    /// Remarks, and how often each was made.
    notes: BTreeMap<&'static str, u64>,
    /// Tasks with more judgements than the step asks for.
    crowded_tasks: u64,
    refused: u64,
    refusals: Vec<Refusal>,
    dry_run: bool,
    /// Commands written to a file.
    written: u64,
    /// Commands published and confirmed, or decided by a worker that was asked.
    published: u64,
    /// Those that this worker rejected; absent where commands are decided later.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<u64>,
}

impl Summary {
    fn text(&self, slots: Option<u32>) -> String {
        let mut text = format!("{}: {}", self.format, counted(self.tasks, "task"));
        // Writing to a string never fails.
        if self.gold_tasks > 0 {
            let _ = write!(text, ", {} of them gold", grouped(self.gold_tasks));
        }
        let (submissions, step) = (counted(self.submissions, "submission"), &self.step);
        let _ = write!(text, "; {submissions} to `{step}` of {}", self.workflow);
        if self.refused > 0 {
            let refused = grouped(self.refused);
            let _ = write!(text, "\n{refused} left out, which cannot be imported");
        }
        for (why, count) in &self.skipped {
            let _ = write!(text, "\n{} left out: {why}", counted(*count, "judgement"));
        }
        for (note, count) in &self.notes {
            let _ = write!(text, "\n{}: {note}", counted(*count, "time"));
        }
        if let (true, Some(slots)) = (self.crowded_tasks > 0, slots) {
            let _ = write!(
                text,
                "\n{} with more judgements than the {slots} that the step asks for; the later ones may \
                 be rejected as surplus",
                counted(self.crowded_tasks, "task")
            );
        }
        text
    }

    /// What cannot be imported, as a compiler shows it.
    fn refusals_text(&self, file: &Path) -> String {
        let mut text = String::new();
        let mut hints = BTreeSet::new();
        for refusal in &self.refusals {
            let line = refusal
                .line
                .map(|line| format!(":{line}"))
                .unwrap_or_default();
            let place = refusal.place.as_ref().map(|place| format!("{place}: "));
            let _ = write!(
                text,
                "\n{}{line}: {}{}",
                file.display(),
                place.unwrap_or_default(),
                refusal.reason
            );
            if let Some(hint) = refusal.hint.as_deref().filter(|hint| hints.insert(*hint)) {
                let _ = write!(text, "\n  help: {hint}");
            }
        }
        let more = self.refused - self.refusals.len() as u64;
        if more > 0 {
            let _ = write!(text, "\nand {} more", grouped(more));
        }
        text
    }
}

/// A number of things.
fn counted(count: u64, one: &str) -> String {
    let several = if count == 1 { "" } else { "s" };
    format!("{} {one}{several}", grouped(count))
}

impl From<ImportFault> for CliError {
    fn from(fault: ImportFault) -> Self {
        match fault {
            ImportFault::Usage(why) => Self::Usage(why),
            ImportFault::File(why) => Self::InvalidFile(why),
        }
    }
}

pub(super) async fn run(
    args: ImportArgs,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    if args.archive {
        return bring_back::run(&args.file, settings, output).await;
    }
    let sends = !args.dry_run && args.out.is_none();
    if sends && settings.api.is_none() {
        settings.services()?;
    }
    let (config, named) = workflow(&args, sends, settings, output).await?;
    let step = step_of(&config, args.step.as_ref())?;
    let slots = step.most_submissions().or_else(|| step.slots());
    let request = ImportRequest {
        file: &args.file,
        format: args.format,
        mapping: args.mapping(),
        workflow: named,
        step,
    };
    let import = Arc::new(Import::open(request)?);
    let mut summary = check(&import).await?;
    summary.workflow = config.id.to_string();
    summary.step = step.id.to_string();
    summary.dry_run = args.dry_run;
    if summary.refused > 0 && !args.skip_bad {
        return Err(not_imported(&summary, &args.file, output));
    }
    if summary.refused > 0 && !output.is_json() {
        output.diagnostics(&format!(
            "{}\n",
            summary.refusals_text(&args.file).trim_start()
        ));
    }
    let started = Instant::now();
    let commands = summary.tasks + summary.submissions;
    if let Some(out) = &args.out {
        summary.written = write_all(import, out.clone()).await?;
        if out.as_os_str() == "-" {
            // Standard output holds the commands.
            output.diagnostics(&format!("{}\n", summary.text(slots)));
            return Ok(());
        }
    } else if sends {
        let sink = Sink::open(settings).await?;
        let bar = output.progress(Some(commands), "importing");
        let sent = send_all(import, &sink, &bar).await;
        sink.close().await;
        bar.finish_and_clear();
        let sent = sent?;
        summary.published = sent.count;
        summary.rejected = sent.rejected;
    }
    let seconds = started.elapsed().as_secs_f64();
    output.result(&summary, || {
        let end = match &args.out {
            Some(out) => {
                let written = counted(summary.written, "command");
                format!("{written} written to {}", out.display())
            }
            None if args.dry_run => format!("{}; nothing was sent", counted(commands, "command")),
            None => {
                let published = counted(summary.published, "command");
                let how = match summary.rejected {
                    None => "published and confirmed".to_owned(),
                    Some(rejected) => format!("decided, {} of them rejected,", grouped(rejected)),
                };
                format!("{published} {how} in {seconds:.1} s")
            }
        };
        format!("{}\n{end}", summary.text(slots))
    });
    Ok(())
}

/// The workflow, and the name that commands give it.
async fn workflow(
    args: &ImportArgs,
    sends: bool,
    settings: &Settings,
    output: Output,
) -> Result<(WorkflowConfig, String), CliError> {
    if !is_file(args.workflow()) {
        let config = stored(args.workflow(), settings).await?;
        return Ok((config, args.workflow().to_owned()));
    }
    if sends {
        return Err(CliError::Usage(format!(
            "{} is a file, and tasks start in stored workflows; store it with `glyph workflow create`, \
             or only check against it with --dry-run or --out",
            args.workflow()
        )));
    }
    let config = workflow_of(Path::new(args.workflow()), output)?;
    let name = config.id.to_string();
    Ok((config, name))
}

/// The step that judgements go to.
fn step_of<'c>(
    config: &'c WorkflowConfig,
    wanted: Option<&Slug>,
) -> Result<&'c StepConfig, CliError> {
    let takes = |step: &&StepConfig| step.kind == StepType::Annotation;
    let annotation: Vec<&StepConfig> = config.steps.iter().filter(takes).collect();
    let names = || {
        let names: Vec<String> = annotation
            .iter()
            .map(|step| format!("`{}`", step.id))
            .collect();
        names.join(", ")
    };
    if let Some(wanted) = wanted {
        let found = annotation.iter().find(|step| step.id == *wanted);
        return found.copied().ok_or_else(|| {
            CliError::Usage(format!(
                "`{}` has no annotation step `{wanted}`; there are: {}",
                config.id,
                names()
            ))
        });
    }
    let entry = annotation.iter().find(|step| step.id == config.entry_step);
    match (entry, annotation.as_slice()) {
        (Some(entry), _) => Ok(entry),
        (None, [one]) => Ok(one),
        (None, []) => Err(CliError::Usage(format!(
            "`{}` has no annotation step",
            config.id
        ))),
        (None, _) => Err(CliError::Usage(format!(
            "`{}` has several annotation steps; say which with --step: {}",
            config.id,
            names()
        ))),
    }
}

fn not_imported(summary: &Summary, file: &Path, output: Output) -> CliError {
    if output.is_json() {
        output.result(summary, String::new);
        return CliError::InvalidFileShown;
    }
    let count = grouped(summary.refused);
    let are = if summary.refused == 1 {
        "row or judgement"
    } else {
        "rows or judgements"
    };
    let refusals = summary.refusals_text(file);
    CliError::InvalidFile(format!(
        "{count} {are} cannot be imported, so nothing was sent; --skip-bad sends the others{refusals}"
    ))
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CliError> + Send + 'static,
) -> Result<T, CliError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(CliError::failed("bug", format!("reading failed: {error}"))))
}

/// Reads the whole file once: nothing is sent before every row is known.
async fn check(import: &Arc<Import>) -> Result<Summary, CliError> {
    let import = Arc::clone(import);
    in_background(move || {
        let mut summary = Summary {
            format: import.format().as_str(),
            ..Summary::default()
        };
        // As many as are shown, and those of them that are alike.
        let mut causes: BTreeMap<String, u32> = BTreeMap::new();
        for gathered in Imported::of(&import)? {
            let gathered = gathered?;
            for command in &gathered.commands {
                if command.command_type == "start" {
                    summary.tasks += 1;
                } else {
                    summary.submissions += 1;
                }
            }
            summary.gold_tasks += u64::from(gathered.is_gold);
            summary.crowded_tasks += u64::from(gathered.is_crowded);
            summary.refused += gathered.refused.len() as u64;
            for refusal in gathered.refused {
                if summary.refusals.len() == REFUSALS_SHOWN {
                    break;
                }
                let cause = refusal.hint.as_ref().unwrap_or(&refusal.reason);
                let alike = causes.entry(cause.clone()).or_insert(0);
                *alike += 1;
                if *alike <= ALIKE_SHOWN {
                    summary.refusals.push(refusal);
                }
            }
            for why in gathered.skipped {
                *summary.skipped.entry(why).or_default() += 1;
            }
            for note in gathered.notes {
                *summary.notes.entry(note).or_default() += 1;
            }
        }
        Ok(summary)
    })
    .await
}

/// Writes every command on a line of its own.
async fn write_all(import: Arc<Import>, out: PathBuf) -> Result<u64, CliError> {
    in_background(move || {
        let failed = |error: io::Error| {
            CliError::failed("not_written", format!("{}: {error}", out.display()))
        };
        let to_stdout = out.as_os_str() == "-";
        let file: Box<dyn Write> = if to_stdout {
            Box::new(io::stdout().lock())
        } else {
            Box::new(private_file(&out).map_err(failed)?)
        };
        let mut file = BufWriter::new(file);
        let mut count = 0;
        for gathered in Imported::of(&import)? {
            for command in gathered?.commands {
                match writeln!(file, "{}", command.body) {
                    Ok(()) => count += 1,
                    // A reader that has closed the pipe (`| head`) is not an error.
                    Err(error) if to_stdout && error.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(count);
                    }
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        match file.flush() {
            Err(error) if !to_stdout || error.kind() != io::ErrorKind::BrokenPipe => {
                Err(failed(error))
            }
            _ => Ok(count),
        }
    })
    .await
}

/// Sends every command while the next ones are read.
async fn send_all(
    import: Arc<Import>,
    sink: &Sink,
    bar: &indicatif::ProgressBar,
) -> Result<Sent, CliError> {
    let (sender, mut windows) = mpsc::channel::<Vec<ImportedCommand>>(WINDOWS_AHEAD);
    let reading = in_background(move || {
        let mut window = Vec::with_capacity(WINDOW);
        for gathered in Imported::of(&import)? {
            for command in gathered?.commands {
                window.push(command);
                if window.len() == WINDOW
                    && sender.blocking_send(std::mem::take(&mut window)).is_err()
                {
                    // Sending has failed, and says why.
                    return Ok(());
                }
            }
        }
        let _ = sender.blocking_send(window);
        Ok(())
    });
    let sending = async {
        let mut all = Sent::default();
        while let Some(window) = windows.recv().await {
            all = all.and(sink.send(window).await?);
            bar.set_position(all.count);
        }
        // A sender that waits is let go.
        drop(windows);
        Ok::<Sent, CliError>(all)
    };
    let (read, sent) = tokio::join!(reading, sending);
    let sent = sent?;
    read.map(|()| sent)
}
