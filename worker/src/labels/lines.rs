//! Labels as lines of a file.

use std::io::{self, Write};

use super::{Label, write_csv_header, write_csv_row};

/// Formats of exported labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LinesFormat {
    /// One JSON object a line
    #[default]
    Jsonl,
    /// RFC 4180, with a header
    Csv,
}

/// How labels become lines.
#[derive(Clone, Copy, Debug, Default)]
pub struct LabelLines {
    /// The format.
    pub format: LinesFormat,
    /// Whether it is told who submitted each vote.
    pub with_annotators: bool,
    /// Whether known answers of gold tasks are left out.
    pub without_gold: bool,
}

impl LinesFormat {
    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "jsonl" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// The name that [`from_name`](Self::from_name) reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/jsonl",
            Self::Csv => "text/csv",
        }
    }
}

impl LabelLines {
    /// Writes what comes before the first label.
    ///
    /// # Errors
    ///
    /// `to` cannot be written.
    pub fn begin(self, to: &mut dyn Write) -> io::Result<()> {
        match self.format {
            LinesFormat::Jsonl => Ok(()),
            LinesFormat::Csv => write_csv_header(to),
        }
    }

    /// Writes the line of a label.
    ///
    /// # Errors
    ///
    /// `to` cannot be written.
    pub fn write(self, to: &mut dyn Write, mut label: Label) -> io::Result<()> {
        if !self.with_annotators {
            label.without_annotators();
        }
        if self.without_gold {
            label.without_gold();
        }
        match self.format {
            LinesFormat::Jsonl => {
                serde_json::to_writer(&mut *to, &label)?;
                to.write_all(b"\n")
            }
            LinesFormat::Csv => write_csv_row(to, &label),
        }
    }
}
