//! Files that people wrote, and what is wrong with them: as compilers show it.

use std::{
    error::Error,
    fmt::{self, Write as _},
    io::Read,
    path::Path,
};

use glyph_workflow_engine::{
    ValidationError, WorkflowConfig,
    config::StepLibrary,
    parser::{Report, Severity, check_workflow_bytes},
};
use miette::{
    Diagnostic, GraphicalReportHandler, LabeledSpan, NamedSource, SourceCode, SourceSpan,
};

use super::{CliError, Output};

/// A file's name and content.
pub(super) fn read(file: &Path) -> Result<(String, Vec<u8>), CliError> {
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

/// What is wrong with a workflow file.
pub(super) fn check(source: &[u8]) -> Report {
    check_workflow_bytes(source, &StepLibrary::built_in(), &[])
}

/// The failure that a file's errors are, once they have been shown.
pub(super) fn errors_of(name: &str, diagnostics: &[ValidationError], output: Output) -> CliError {
    if output.is_json() {
        return CliError::InvalidFileShown;
    }
    let errors = diagnostics
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

/// The workflow of a file; its faults are shown.
pub(super) fn workflow_of(file: &Path, output: Output) -> Result<WorkflowConfig, CliError> {
    let (name, source) = read(file)?;
    let report = check(&source);
    if let Some(config) = report.config {
        return Ok(config);
    }
    if output.is_json() {
        output.result(
            &serde_json::json!({"valid": false, "diagnostics": report.diagnostics}),
            String::new,
        );
    } else {
        output.diagnostics(&render(&name, &source, &report.diagnostics));
    }
    Err(errors_of(&name, &report.diagnostics, output))
}

/// Diagnostics with the lines they are about, as compilers show them.
pub(super) fn render(name: &str, source: &[u8], diagnostics: &[ValidationError]) -> String {
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
