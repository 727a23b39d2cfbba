//! Prints results to standard output, errors and progress to standard error. Uses `writeln!`:
//! `println!` panics if the reader has closed the pipe.

use std::{
    io::{self, IsTerminal, Write},
    sync::OnceLock,
    time::Duration,
};

use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::{printable::printable, telemetry};

/// Output formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For scripts; its shape is stable.
    Json,
}

/// Why a part of the results could not be written, from the first failure on.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Prints a line to standard output, at once: what is left at the end of the process would be
/// written without anybody who hears of a failure.
fn print(line: &str) {
    let mut to = io::stdout().lock();
    note_failure(writeln!(to, "{line}").and_then(|()| to.flush()));
}

/// Keeps a failure to write for [`Output::unwritten`].
pub(super) fn note_failure(written: io::Result<()>) {
    match written {
        // A reader that has closed the pipe (`| head`) is not an error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = UNWRITTEN.set(error.to_string());
        }
        _ => {}
    }
}

/// Prints in one format.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Prints in `format`.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether the output is JSON for scripts.
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints the result: `value` as JSON, `text` for people.
    pub fn result(self, value: &impl Serialize, text: impl FnOnce() -> String) {
        let line = match self.format {
            // Plain data with string keys always serializes.
            Format::Json => json(&serde_json::to_string_pretty(value).unwrap_or_default()),
            Format::Text => printable(text().trim_end()).into_owned(),
        };
        print(&line);
    }

    /// Prints a line of a stream of results, the same in every format.
    pub fn line(text: &str) {
        print(text);
    }

    /// Why a part of what was printed has not been written, in a sentence.
    pub fn unwritten() -> Option<String> {
        let why = UNWRITTEN.get()?;
        Some(format!("standard output could not be written: {why}"))
    }

    /// Prints a note that is not part of the result.
    pub fn note(self, text: &str) {
        if self.format == Format::Text {
            print(&printable(text));
        }
    }

    /// Prints an error.
    pub fn fault(self, code: &str, message: &str) {
        match self.format {
            Format::Json => {
                let fault = serde_json::json!({"error": {"code": code, "message": message}});
                telemetry::print_line(&json(&fault.to_string()));
            }
            Format::Text => {
                telemetry::print_line(&format!("error: {}", printable(message)));
            }
        }
    }

    /// Prints ready-made text for people to standard error, such as diagnostics with excerpts.
    pub fn diagnostics(self, text: &str) {
        let _ = write!(io::stderr(), "{text}");
    }

    /// A progress bar over `length` things, or a counter if their number is unknown. It is hidden
    /// in JSON mode.
    pub fn progress(self, length: Option<u64>, what: &'static str) -> ProgressBar {
        if self.is_json() || !io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(length, ProgressDrawTarget::hidden());
        }
        let template = match length {
            Some(_) => "  {msg} {bar:32.cyan/dim} {human_pos}/{human_len} {per_sec:>14} {eta:>4}",
            None => "  {msg} {spinner} {human_pos} {per_sec}",
        };
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─");
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        bar.set_style(style);
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}

/// JSON as a terminal may show it: what is left of control characters in it (those after ASCII)
/// stands in strings, and is escaped as JSON does.
fn json(text: &str) -> String {
    let is_left = |c: char| c.is_control() && !c.is_ascii_control() || c == '\u{7f}';
    if !text.contains(is_left) {
        return text.to_owned();
    }
    let escape = |c: char| {
        if is_left(c) {
            format!("\\u{:04x}", u32::from(c))
        } else {
            c.to_string()
        }
    };
    text.chars().map(escape).collect()
}

/// Aligned columns: an optional header and rows of the same width.
#[derive(Clone, Debug)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headers.
    pub(super) fn new(heads: &[&str]) -> Self {
        Self {
            rows: vec![heads.iter().map(|head| head.to_uppercase()).collect()],
        }
    }

    /// A table without headers, for names and values.
    pub(super) fn plain() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        // A line break in a cell would break the table.
        let clean = |cell: String| cell.replace(['\n', '\r', '\t'], " ");
        self.rows
            .push(cells.into_iter().map(|cell| clean(cell.into())).collect());
    }

    /// The text, each line indented by `indent`.
    pub(super) fn render(&self, indent: usize) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, &width)| format!("{cell:<width$}"));
            let cells = cells.collect::<Vec<_>>().join("  ");
            format!("{:indent$}{}", "", cells.trim_end())
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// A value in at most `max` characters.
pub(super) fn clipped(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A time in whole seconds.
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%F %T UTC").to_string()
}

/// A share between 0 and 1 in percent: `12.3 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A whole number with thousands separators: `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["task", "n"]);
        table.row(["ä", "1"]);
        table.row(["longer", "22"]);
        assert_eq!(table.render(2), "  TASK    N\n  ä       1\n  longer  22");
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let all = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "1,234,567"]);
    }
}
