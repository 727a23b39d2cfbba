//! Shows the errors of files that people wrote, in the manner of compilers.

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write as _},
    io::Read,
    path::Path,
};

use glyph_workflow_engine::{
    ValidationError, WorkflowConfig,
    config::StepLibrary,
    limits::WORKFLOW_BYTES_MAX,
    parser::{Report, Severity, check_workflow_bytes},
};
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, NamedSource, SourceCode, SourceSpan, SpanContents,
};

use super::{CliError, Output};
use crate::printable::printable;

/// Maximum size of an excerpt in bytes; longer lines are cut around the reported span.
const EXCERPT_BYTES_MAX: usize = 1_000;
/// Bytes shown before and after the span in a line that is cut.
const AROUND_BYTES: usize = 40;
/// Bytes of a span that are underlined in a line that is cut.
const SPAN_BYTES_MAX: usize = 80;

/// A file's name and content; reads no more than the allowed size.
pub(super) fn read(file: &Path) -> Result<(String, Vec<u8>), CliError> {
    let all = |from: &mut dyn Read| {
        let mut content = Vec::new();
        let mut bounded = from.take(WORKFLOW_BYTES_MAX as u64 + 1);
        bounded.read_to_end(&mut content).map(|_| content)
    };
    let (name, content) = if file.as_os_str() == "-" {
        (
            "standard input".to_owned(),
            all(&mut std::io::stdin().lock()),
        )
    } else {
        let content = std::fs::File::open(file).and_then(|mut file| all(&mut file));
        (file.display().to_string(), content)
    };
    match content {
        Ok(content) => Ok((name, content)),
        Err(error) => Err(CliError::InvalidFile(format!("{name}: {error}"))),
    }
}

/// The diagnostics of a workflow file.
pub(super) fn check(source: &[u8]) -> Report {
    check_workflow_bytes(source, &StepLibrary::built_in(), &[])
}

/// The error to return once the diagnostics of a file have been shown.
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

/// The workflow of a file; its diagnostics are shown.
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
    let is_hostile = |name: &str| matches!(printable(name), Cow::Owned(_));
    let hostile = is_hostile(name) || is_hostile(&text);
    let source = LongLines(NamedSource::new(name, text).with_language("yaml"));
    // Colours are control characters: an excerpt that has its own ones is shown without colours.
    let handler = if hostile {
        GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
    } else {
        GraphicalReportHandler::new()
    };
    let mut rendered = String::new();
    for fault in diagnostics {
        // Writing to a string does not fail; if miette cannot render, one line is shown.
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
    if hostile {
        printable(&rendered).into_owned()
    } else {
        rendered
    }
}

/// One diagnostic with its file.
struct Excerpt<'a> {
    fault: &'a ValidationError,
    source: &'a LongLines,
}

/// The last character boundary at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A file whose long lines are cut around the reported span.
struct LongLines(NamedSource<String>);

impl SourceCode for LongLines {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let whole = self.0.read_span(span, before, after)?;
        if whole.data().len() <= EXCERPT_BYTES_MAX {
            return Ok(whole);
        }
        let text = self.0.inner();
        let at = boundary(text, span.offset());
        let line = text[..at].bytes().filter(|byte| *byte == b'\n').count();
        let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let line_end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let start = boundary(text, line_start.max(at.saturating_sub(AROUND_BYTES)));
        let end = (at + span.len() + AROUND_BYTES).min(line_end);
        let end = boundary(text, end.min(start + EXCERPT_BYTES_MAX)).max(start);
        let cut = MietteSpanContents::new_named(
            self.0.name().to_owned(),
            &text.as_bytes()[start..end],
            (start, end - start).into(),
            line,
            0,
            1,
        );
        Ok(Box::new(cut.with_language("yaml")))
    }
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
        let (text, start) = (self.source.0.inner(), self.fault.offset);
        let mut length = self.fault.length;
        let place = text.get(start..start + length).unwrap_or_default();
        if place.lines().any(|line| line.len() > SPAN_BYTES_MAX) {
            length = boundary(text, start + SPAN_BYTES_MAX) - start;
        }
        let span = SourceSpan::new(start.into(), length);
        let label = LabeledSpan::new_primary_with_span(None, span);
        Some(Box::new(std::iter::once(label)))
    }
}
