//! `glyph workflow`: validate, create, list, show.

use std::{
    error::Error,
    fmt::{self, Write as _},
    io::Read,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use glyph_workflow_engine::{
    ValidationError, WorkflowConfig,
    config::StepLibrary,
    ids::Slug,
    parser::{Report, Severity, check_workflow_bytes},
    store::WorkflowRow,
};
use miette::{
    Diagnostic, GraphicalReportHandler, LabeledSpan, NamedSource, SourceCode, SourceSpan,
};
use serde_json::json;

use super::{CliError, Output, connect::open_store, output::Table};
use crate::{
    http::{WorkflowDocument, resolve_one},
    settings::Settings,
};

/// Verbs on workflows.
#[derive(Clone, Debug, Subcommand)]
pub enum WorkflowVerb {
    /// Check a file and tell every fault; needs no service
    Validate {
        /// YAML file; `-` for standard input
        file: PathBuf,
    },
    /// Store a file as a new revision
    Create {
        /// YAML file; `-` for standard input
        file: PathBuf,
    },
    /// All revisions
    List {
        /// Revisions of this workflow
        #[arg(long, short, value_name = "ID")]
        workflow: Option<Slug>,
    },
    /// One, with templates and library steps resolved
    Show {
        /// Workflow id, id@revision or the revision's UUID
        workflow: String,
    },
}

pub(super) async fn run(
    verb: WorkflowVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    match verb {
        WorkflowVerb::Validate { file } => validate(&file, output),
        WorkflowVerb::Create { file } => create(&file, settings, output).await,
        WorkflowVerb::List { workflow } => {
            let revisions = open_store(settings)
                .await?
                .revisions(workflow.as_ref())
                .await?;
            output.result(&json!({"workflows": revisions}), || list_text(&revisions));
            Ok(())
        }
        WorkflowVerb::Show { workflow } => {
            let store = open_store(settings).await?;
            let config = resolve_one(&*store, &workflow).await?;
            let config = config.ok_or_else(|| CliError::not_found("workflow", &workflow))?;
            output.result(&WorkflowDocument::from(config.clone()), || {
                show_text(&config)
            });
            Ok(())
        }
    }
}

/// A file's name and content.
fn read(file: &Path) -> Result<(String, Vec<u8>), CliError> {
    let (name, content) = if file.as_os_str() == "-" {
        let mut content = Vec::new();
        let read = std::io::stdin().lock().read_to_end(&mut content);
        ("standard input".to_owned(), read.map(|_| content))
    } else {
        (file.display().to_string(), std::fs::read(file))
    };
    match content {
        Ok(content) => Ok((name, content)),
        Err(error) => Err(CliError::InvalidFile(format!("{name}: {error}"))),
    }
}

fn check(source: &[u8]) -> Report {
    check_workflow_bytes(source, &StepLibrary::built_in(), &[])
}

fn validate(file: &Path, output: Output) -> Result<(), CliError> {
    let (name, source) = read(file)?;
    let report = check(&source);
    let document = json!({"valid": report.is_valid(), "diagnostics": report.diagnostics});
    if !output.is_json() {
        output.diagnostics(&render(&name, &source, &report.diagnostics));
    }
    if report.is_valid() || output.is_json() {
        output.result(&document, || {
            format!("{name} is valid{}", warnings_text(&report))
        });
    }
    if report.is_valid() {
        Ok(())
    } else {
        Err(invalid(&name, &report, output))
    }
}

fn warnings_text(report: &Report) -> String {
    match report.diagnostics.len() {
        0 => String::new(),
        1 => ", with 1 warning".to_owned(),
        n => format!(", with {n} warnings"),
    }
}

fn invalid(name: &str, report: &Report, output: Output) -> CliError {
    if output.is_json() {
        return CliError::InvalidFileShown;
    }
    let errors = report
        .diagnostics
        .iter()
        .filter(|d| d.severity == Severity::Error)
        .count();
    let errors = if errors == 1 {
        "1 error".to_owned()
    } else {
        format!("{errors} errors")
    };
    CliError::InvalidFile(format!("{name} is not valid: {errors}"))
}

async fn create(file: &Path, settings: &Settings, output: Output) -> Result<(), CliError> {
    let (name, source) = read(file)?;
    let report = check(&source);
    if !output.is_json() {
        output.diagnostics(&render(&name, &source, &report.diagnostics));
    }
    if !report.is_valid() {
        let document = json!({"valid": false, "diagnostics": report.diagnostics});
        if output.is_json() {
            output.result(&document, String::new);
        }
        return Err(invalid(&name, &report, output));
    }
    let store = open_store(settings).await?;
    let created = WorkflowDocument::create(&source, &StepLibrary::built_in(), &*store).await;
    let (document, new) = created.map_err(|error| {
        use crate::http::CreateError;
        match error {
            CreateError::Store(error) => CliError::from(error),
            other => CliError::failed("workflow", crate::telemetry::chain(&other)),
        }
    })?;
    output.result(&document, || {
        let what = if new {
            "stored"
        } else {
            "unchanged, it is already stored"
        };
        format!(
            "{}@{} {what} ({})",
            document.workflow, document.revision, document.id
        )
    });
    Ok(())
}

fn list_text(revisions: &[WorkflowRow]) -> String {
    if revisions.is_empty() {
        return "no workflows; `glyph workflow create FILE` stores one".to_owned();
    }
    let mut table = Table::new(&["workflow", "revision", "id", "created"]);
    for row in revisions {
        table.row([
            row.workflow.to_string(),
            row.revision.to_string(),
            row.id.to_string(),
            row.created_at.format("%F %T UTC").to_string(),
        ]);
    }
    table.render(0)
}

fn show_text(config: &WorkflowConfig) -> String {
    let mut facts = Table::plain();
    facts.row(["workflow", &format!("{}@{}", config.id, config.revision)]);
    facts.row(["name", config.name.as_deref().unwrap_or("-")]);
    facts.row(["id", &config.revision_id.to_string()]);
    facts.row(["entry step", config.entry_step.as_str()]);
    let mut steps = Table::new(&["step", "type", "submissions", "roles", "handler"]);
    for step in &config.steps {
        let places = step
            .places()
            .map_or_else(|| "-".to_owned(), |n| n.to_string());
        steps.row([
            step.id.to_string(),
            step.kind.as_str().to_owned(),
            places,
            step.required_roles().join(", "),
            step.handler.clone().unwrap_or_default(),
        ]);
    }
    let mut transitions = Table::new(&["from", "to", "condition", "loop"]);
    for transition in &config.transitions {
        let condition = transition.condition.as_ref().map_or_else(
            || "always".to_owned(),
            |c| {
                c.expression
                    .clone()
                    .unwrap_or_else(|| c.kind.as_str().to_owned())
            },
        );
        let bound = transition.loop_bound.as_ref();
        transitions.row([
            transition.from.to_string(),
            transition.to.to_string(),
            condition,
            bound.map_or_else(String::new, |b| format!("at most {}", b.max_iterations)),
        ]);
    }
    let mut text = format!("{}\n\n{}\n\n", facts.render(0), steps.render(0));
    text.push_str(&transitions.render(0));
    if !config.goals.is_empty() {
        let mut goals = Table::new(&["goal", "type", "target", "unit"]);
        for goal in &config.goals {
            goals.row([
                goal.id.to_string(),
                goal.kind.as_str().to_owned(),
                goal.target
                    .map(|target| target.to_string())
                    .unwrap_or_default(),
                goal.unit.clone().unwrap_or_default(),
            ]);
        }
        text.push_str("\n\n");
        text.push_str(&goals.render(0));
    }
    text.push_str("\n\nthe whole configuration: --output json");
    text
}

/// Diagnostics with the lines they are about, as compilers show them.
fn render(name: &str, source: &[u8], diagnostics: &[ValidationError]) -> String {
    let text = String::from_utf8_lossy(source).into_owned();
    let source = NamedSource::new(name, text).with_language("yaml");
    let handler = GraphicalReportHandler::new();
    let mut rendered = String::new();
    for fault in diagnostics {
        // Writing to a string does not fail; what miette cannot render is told in one line.
        if handler
            .render_report(
                &mut rendered,
                &Excerpt {
                    fault,
                    source: &source,
                },
            )
            .is_err()
        {
            let _ = write!(rendered, "{name}:{fault}");
        }
        rendered.push('\n');
    }
    rendered
}

/// One fault with the file it is in.
struct Excerpt<'a> {
    fault: &'a ValidationError,
    source: &'a NamedSource<String>,
}

impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.fault, f)
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fault.path.is_empty() {
            f.write_str(&self.fault.message)
        } else {
            write!(f, "{}: {}", self.fault.path, self.fault.message)
        }
    }
}

impl Error for Excerpt<'_> {}

impl Diagnostic for Excerpt<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.fault.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.fault.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.fault
            .suggestion
            .as_ref()
            .map(|hint| Box::new(hint) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.fault.line?;
        let span = SourceSpan::new(self.fault.offset.into(), self.fault.length);
        let label = LabeledSpan::new_primary_with_span(None, span);
        Some(Box::new(std::iter::once(label)))
    }
}
