//! Which format a file has: by its name, and by how it begins.

use std::path::Path;

use serde_json::{Map, Value};

use super::{crowd, rows::delimiter_of};
use crate::operations::text_file::utf8;

/// Bytes at the beginning of a file that are looked at.
pub(super) const HEAD_BYTES: u64 = 64 << 10;

/// The formats of files that can be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ImportFormat {
    /// Rows with a header; one row is one task, or with --user-field one judgement
    Csv,
    /// One JSON object per line
    Jsonl,
    /// An array of JSON objects
    Json,
    /// The JSON export of Label Studio
    LabelStudio,
    /// The JSONL export of doccano
    Doccano,
    /// The JSONL of Prodigy's db-out
    Prodigy,
    /// One row per judgement, with the columns of CrowdFlower and Appen, Mechanical Turk or Toloka
    CrowdCsv,
    /// COCO: images, annotations with bbox, categories (CVAT and others export it)
    Coco,
}

impl ImportFormat {
    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::LabelStudio => "label-studio",
            Self::Doccano => "doccano",
            Self::Prodigy => "prodigy",
            Self::CrowdCsv => "crowd-csv",
            Self::Coco => "coco",
        }
    }

    fn is_table(self) -> bool {
        matches!(self, Self::Csv | Self::CrowdCsv)
    }
}

/// How rows are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// Cells with this delimiter.
    Table(u8),
    Lines,
    Array,
    /// One JSON object.
    Document,
}

/// The format, unless it is `wanted` already, and how the rows are written down.
pub(super) fn detect(
    file: &Path,
    head: &[u8],
    wanted: Option<ImportFormat>,
    delimiter: Option<u8>,
) -> Result<(ImportFormat, Container), String> {
    let text = readable(head)?;
    let extension = file
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default();
    let extension = extension.to_ascii_lowercase();
    let is_named_table = matches!(extension.as_str(), "csv" | "tsv" | "tab");
    let first = text.chars().find(|c| !c.is_whitespace());
    let is_json = matches!(first, Some('{' | '['));
    let Some(first) = first else {
        return Err("the file is empty".to_owned());
    };
    let table = wanted.map_or(is_named_table || !is_json, ImportFormat::is_table);
    if table && is_json && !is_named_table {
        return Err("the file holds JSON, not rows with a header; leave out --format".to_owned());
    }
    if !table && !is_json {
        return Err(format!(
            "the file does not begin with {{ or [, so it is no JSON{}",
            if is_named_table {
                "; leave out --format"
            } else {
                ""
            }
        ));
    }
    if table {
        let header = text.lines().next().unwrap_or_default();
        let by_name = (extension != "csv" && is_named_table).then_some(b'\t');
        let delimiter = delimiter
            .or(by_name)
            .unwrap_or_else(|| delimiter_of(header));
        let format = wanted.unwrap_or_else(|| {
            if crowd::is_crowd(header, char::from(delimiter)) {
                ImportFormat::CrowdCsv
            } else {
                ImportFormat::Csv
            }
        });
        return Ok((format, Container::Table(delimiter)));
    }
    let keys = top_keys(text, first == '[');
    let container = if first == '[' {
        Container::Array
    } else if has_lines(text) {
        Container::Lines
    } else if is_coco(&keys) {
        Container::Document
    } else if is_pretty(text) {
        return Err(
            "the file is one JSON object over several lines, and no COCO; write one object per \
             line (jq -c . FILE), or an array"
                .to_owned(),
        );
    } else {
        Container::Lines
    };
    let plain = match container {
        Container::Array => ImportFormat::Json,
        Container::Table(_) | Container::Lines | Container::Document => ImportFormat::Jsonl,
    };
    let format = wanted.unwrap_or_else(|| match container {
        Container::Document => ImportFormat::Coco,
        Container::Table(_) | Container::Lines | Container::Array => {
            of_keys(text, &keys).unwrap_or(plain)
        }
    });
    let is_document = container == Container::Document;
    if is_document != (format == ImportFormat::Coco) {
        return Err(if is_document {
            "the file holds `images` and `annotations` as COCO has them; leave out --format"
                .to_owned()
        } else {
            "COCO is one JSON object with `images`, `annotations` and `categories`".to_owned()
        });
    }
    Ok((format, container))
}

/// The head as text; a character that it cuts in two is left out.
fn readable(head: &[u8]) -> Result<&str, String> {
    match std::str::from_utf8(head) {
        Ok(text) => Ok(text),
        Err(error) if error.error_len().is_none() => utf8(&head[..error.valid_up_to()]),
        // Faults of single rows are told with their lines.
        Err(error) if error.valid_up_to() > 0 => utf8(&head[..error.valid_up_to()]),
        Err(_) => utf8(head),
    }
}

fn is_coco(keys: &[String]) -> bool {
    let has = |key: &str| keys.iter().any(|k| k == key);
    has("images") && (has("annotations") || has("categories"))
        || has("annotations") && has("categories")
        // Large files begin with one of these, and the others are far behind.
        || has("info") && has("licenses")
        || has("images") && !has("id")
}

/// Whether the first line is a whole object, and others follow.
fn has_lines(text: &str) -> bool {
    let first = text.trim_start().split_once('\n');
    first.is_some_and(|(line, rest)| {
        serde_json::from_str::<Map<String, Value>>(line).is_ok() && !rest.trim().is_empty()
    })
}

/// Whether the object at the beginning goes on over lines.
fn is_pretty(text: &str) -> bool {
    let text = text.trim_start();
    let Some((line, rest)) = text.split_once('\n') else {
        return false;
    };
    serde_json::from_str::<Value>(line).is_err()
        && !rest.trim().is_empty()
        && matches!(line.trim_end().chars().last(), Some('{' | ',' | '[' | ':'))
}

/// The keys of the first object, as far as the head goes.
fn top_keys(text: &str, in_array: bool) -> Vec<String> {
    let (wanted, mut depth) = (if in_array { 2 } else { 1 }, 0);
    let mut keys: Vec<String> = Vec::new();
    let mut texts = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                texts.clear();
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => texts.extend(chars.next()),
                        '"' => break,
                        c => texts.push(c),
                    }
                }
            }
            ':' if depth == wanted => keys.push(std::mem::take(&mut texts)),
            '{' | '[' => depth += 1,
            '}' | ']' => {
                depth -= 1;
                if depth < wanted && !keys.is_empty() {
                    break;
                }
            }
            _ => {}
        }
    }
    keys
}

/// The tool that writes objects of such keys.
fn of_keys(text: &str, keys: &[String]) -> Option<ImportFormat> {
    let has = |key: &str| keys.iter().any(|k| k == key);
    if has("data")
        && ["annotations", "completions", "predictions"]
            .into_iter()
            .any(has)
    {
        return Some(ImportFormat::LabelStudio);
    }
    if has("_input_hash") || has("_task_hash") {
        return Some(ImportFormat::Prodigy);
    }
    let first = text.lines().find(|line| line.trim_start().starts_with('{'));
    let first = first.and_then(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    let is_spans = |key: &str| {
        let value = first.as_ref().and_then(|row| row.get(key));
        let list = value.and_then(Value::as_array);
        list.and_then(|list| list.first()).is_some_and(|one| {
            let triple = one
                .as_array()
                .is_some_and(|t| t.len() == 3 && t[0].is_u64() && t[1].is_u64());
            triple || one.get("start_offset").is_some()
        })
    };
    let is_doccano = has("text")
        && ["label", "labels", "entities", "annotations"]
            .into_iter()
            .any(is_spans)
        || has("text") && has("Comments");
    is_doccano.then_some(ImportFormat::Doccano)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, head: &str) -> Result<(ImportFormat, Container), String> {
        detect(Path::new(name), head.as_bytes(), None, None)
    }

    #[test]
    fn files_are_recognised_by_what_they_hold() {
        use Container::{Array, Document, Lines, Table};
        let cases = [
            ("a.csv", "id,text\n1,x\n", ImportFormat::Csv, Table(b',')),
            ("a.csv", "id;text\n1;x\n", ImportFormat::Csv, Table(b';')),
            ("a.tsv", "id\ttext\n", ImportFormat::Csv, Table(b'\t')),
            (
                "a.csv",
                "_unit_id,_worker_id,q\n",
                ImportFormat::CrowdCsv,
                Table(b','),
            ),
            ("a.txt", "id,text\n", ImportFormat::Csv, Table(b',')),
            (
                "a.jsonl",
                "{\"id\": 1, \"label\": [\"a\"]}\n",
                ImportFormat::Jsonl,
                Lines,
            ),
            ("a.json", "[\n  {\"id\": 1}\n]", ImportFormat::Json, Array),
            ("a.jsonl", "[{\"id\": 1}]", ImportFormat::Json, Array),
            (
                "a.json",
                "[{\"id\":1,\"annotations\":[{\"x\":{}}],\"data\":{\"t\":1}}]",
                ImportFormat::LabelStudio,
                Array,
            ),
            (
                "a.jsonl",
                "{\"text\":\"a: \\\"b\\\"\",\"_input_hash\":1}\n",
                ImportFormat::Prodigy,
                Lines,
            ),
            (
                "a.jsonl",
                "{\"id\":1,\"text\":\"x\",\"label\":[[0,1,\"P\"]]}\n",
                ImportFormat::Doccano,
                Lines,
            ),
            (
                "a.jsonl",
                "{\"id\":1,\"text\":\"x\",\"entities\":[{\"start_offset\":0}]}\n",
                ImportFormat::Doccano,
                Lines,
            ),
            (
                "a.jsonl",
                "{\"images\":[\"u\"]}\n{\"images\":[]}\n",
                ImportFormat::Jsonl,
                Lines,
            ),
            (
                "a.json",
                "{\n \"images\": [{\"id\": 1}],\n \"annotations\": []}",
                ImportFormat::Coco,
                Document,
            ),
            (
                "a.json",
                "{\"info\":{},\"licenses\":[],\"images\":[{",
                ImportFormat::Coco,
                Document,
            ),
        ];
        for (name, head, format, container) in cases {
            assert_eq!(found(name, head), Ok((format, container)), "{head}");
        }
        assert!(
            found("a.json", "{\n  \"id\": 1\n}\n")
                .unwrap_err()
                .contains("jq -c")
        );
        assert!(found("a.csv", " \n").unwrap_err().contains("empty"));
    }

    #[test]
    fn a_wanted_format_must_fit_the_file() {
        let wanted =
            |head: &str, format| detect(Path::new("f"), head.as_bytes(), Some(format), None);
        assert!(wanted("{\"id\":1}\n", ImportFormat::Csv).is_err());
        assert!(wanted("id,text\n", ImportFormat::Jsonl).is_err());
        assert!(wanted("{\"id\":1}\n", ImportFormat::Coco).is_err());
        assert!(wanted("{\"images\":[],\"annotations\":[]}", ImportFormat::Doccano).is_err());
        let lines = wanted("{\"id\":1,\"data\":{}}\n", ImportFormat::LabelStudio);
        assert_eq!(lines, Ok((ImportFormat::LabelStudio, Container::Lines)));
        let cut = "{\"a\": \"ä".as_bytes();
        assert!(detect(Path::new("f"), &cut[..cut.len() - 1], None, None).is_ok());
    }
}
