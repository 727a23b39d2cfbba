//! A file, and what each of its rows says.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::{Path, PathBuf},
};

use glyph_workflow_engine::config::StepConfig;
use serde_json::{Map, Value};

use super::{
    coco, crowd,
    detect::{Container, HEAD_BYTES, ImportFormat, detect},
    doccano, label_studio,
    mapping::{ImportOnly, Mapping},
    plain::{Columns, mapped_input},
    prodigy,
    question::StepQuestion,
    record::{Part, Parts, Record, Refusal, absent, listed, lookup},
    rows::{self, RowFault, Rows},
};
use crate::operations::text_file::{TextFileFault, io_fault, open};

/// Why a file cannot be imported as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportFault {
    /// The options do not fit each other, or say too little.
    #[error("{0}")]
    Usage(String),
    /// The file cannot be read, or is another than the options say.
    #[error("{0}")]
    File(String),
}

impl From<TextFileFault> for ImportFault {
    fn from(fault: TextFileFault) -> Self {
        Self::File(fault.to_string())
    }
}

/// What is to be imported, and where to.
#[derive(Clone, Debug)]
pub struct ImportRequest<'r> {
    /// The file.
    pub file: &'r Path,
    /// Its format; found out when left out.
    pub format: Option<ImportFormat>,
    /// What the names in it mean.
    pub mapping: Mapping,
    /// The workflow, as commands name it.
    pub workflow: String,
    /// The step that judgements are submitted to.
    pub step: &'r StepConfig,
}

/// A file whose beginning was looked at.
#[derive(Debug)]
pub struct Import {
    file: PathBuf,
    format: ImportFormat,
    container: Container,
    pub(super) mapping: Mapping,
    /// Of rows whose names the user explains.
    columns: Option<Columns>,
    pub(super) question: StepQuestion,
    pub(super) workflow: String,
    pub(super) step: StepConfig,
}

impl Import {
    /// Looks at the beginning of a file; a table must have the columns that are named.
    pub fn open(request: ImportRequest<'_>) -> Result<Self, ImportFault> {
        let ImportRequest {
            file,
            format,
            mapping,
            workflow,
            step,
        } = request;
        let named = |why: String| ImportFault::File(format!("{}: {why}", file.display()));
        let metadata = std::fs::metadata(file).map_err(|error| io_fault(file, &error))?;
        if !metadata.is_file() {
            let why = "no regular file; an import reads it twice, so write it to a file first";
            return Err(named(why.to_owned()));
        }
        let mut head = Vec::new();
        let mut beginning = open(file)?.take(HEAD_BYTES);
        beginning
            .read_to_end(&mut head)
            .map_err(|error| io_fault(file, &error))?;
        let (format, container) = detect(file, &head, format, mapping.delimiter).map_err(named)?;
        let separator = mapping.list_separator.clone();
        let mut import = Self {
            file: file.to_owned(),
            format,
            container,
            mapping,
            columns: None,
            question: StepQuestion::of_step(step, separator.as_deref()),
            workflow,
            step: step.clone(),
        };
        import.columns = import.columns()?;
        import.check_options()?;
        Ok(import)
    }

    /// The format, as said or found.
    pub fn format(&self) -> ImportFormat {
        self.format
    }

    fn columns(&self) -> Result<Option<Columns>, ImportFault> {
        let mapping = &self.mapping;
        let header = match self.container {
            Container::Table(delimiter) => {
                let table = rows::csv(open(&self.file)?, delimiter);
                table.map_err(|why| self.fault(&why))?.columns
            }
            Container::Lines | Container::Array | Container::Document => Vec::new(),
        };
        let columns = match self.format {
            ImportFormat::Csv => Columns::named(mapping, true),
            ImportFormat::Jsonl | ImportFormat::Json => Columns::named(mapping, false),
            ImportFormat::CrowdCsv => crowd::columns(&header, mapping),
            ImportFormat::LabelStudio
            | ImportFormat::Doccano
            | ImportFormat::Prodigy
            | ImportFormat::Coco => return Ok(None),
        };
        let names: Vec<&str> = header.iter().map(String::as_str).collect();
        let columns = match columns {
            Ok(columns) => columns,
            Err(why) if names.is_empty() => {
                let keys = self.keys_of_first_row()?;
                let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                let keys = listed(&keys);
                return Err(ImportFault::Usage(format!(
                    "{why}; the first row has {keys}"
                )));
            }
            Err(why) => {
                let columns = listed(&names);
                return Err(ImportFault::Usage(format!(
                    "{why}; the columns are {columns}"
                )));
            }
        };
        if !header.is_empty() {
            let labels = mapping.labelled();
            let labels = labels.iter().map(|(_, name)| *name);
            for name in columns.names().into_iter().chain(labels) {
                if !names.contains(&name) {
                    let refusal = absent(name, names.iter().copied());
                    let hint = refusal.hint.unwrap_or_default();
                    return Err(self.fault(&format!("there is no column `{name}`; {hint}")));
                }
            }
        }
        Ok(Some(columns))
    }

    fn keys_of_first_row(&self) -> Result<Vec<String>, ImportFault> {
        let first = self.rows()?.next();
        match first {
            Some(Ok(row)) => Ok(row.fields.keys().cloned().collect()),
            Some(Err(RowFault::Row(refusal))) => Err(self.fault(&refusal.reason)),
            Some(Err(RowFault::File(why))) => Err(self.fault(&why)),
            None => Err(self.fault("there are no rows")),
        }
    }

    pub(super) fn fault(&self, why: &str) -> ImportFault {
        ImportFault::File(format!("{}: {why}", self.file.display()))
    }

    /// Options that leave open who answered what.
    fn check_options(&self) -> Result<(), ImportFault> {
        let mapping = &self.mapping;
        let usage = |why: &str| Err(ImportFault::Usage(why.to_owned()));
        if mapping.pixels && self.format != ImportFormat::LabelStudio {
            return usage("--pixels converts percent of Label Studio; the file has another format");
        }
        let Some(columns) = &self.columns else {
            return Ok(());
        };
        let has_user = columns.user.is_some() || mapping.user.is_some();
        let wants_answers = mapping.only != ImportOnly::Tasks;
        if wants_answers && columns.has_answers() && !has_user && !mapping.as_gold {
            return usage(
                "who answered? name the column or key of the person with --user-field, or one \
                 person for all with --user; --as-gold makes the answers known ones, and \
                 --only-tasks leaves them out",
            );
        }
        if wants_answers && has_user && !columns.has_answers() {
            return usage("what was answered? name the column or key with --answer-field");
        }
        if mapping.only == ImportOnly::Answers && !columns.has_answers() {
            return usage("--only-answers: name what was answered with --answer-field");
        }
        Ok(())
    }

    /// Reads the file from the beginning.
    pub(super) fn rows(&self) -> Result<Rows, ImportFault> {
        let reader = open(&self.file)?;
        Ok(match self.container {
            Container::Table(delimiter) => rows::csv(reader, delimiter)
                .map_err(|why| self.fault(&why))?
                .rows(),
            Container::Lines => rows::json_lines(reader),
            Container::Array => rows::json_array(reader),
            Container::Document => coco::rows(reader).map_err(|why| self.fault(&why))?,
        })
    }

    /// What a row says.
    pub(super) fn record(&self, row: &Map<String, Value>) -> Result<Record, Refusal> {
        let mapping = &self.mapping;
        let mut record = match (self.format, &self.columns) {
            (_, Some(columns)) => columns.record(row, mapping)?,
            (ImportFormat::LabelStudio, None) => label_studio::record(row, mapping)?,
            (ImportFormat::Doccano, None) => doccano::record(row, mapping)?,
            (ImportFormat::Prodigy, None) => prodigy::record(row, mapping)?,
            (ImportFormat::Coco, None) => {
                coco::record(row, mapping, self.question.wants_polygons())?
            }
            (
                ImportFormat::Csv
                | ImportFormat::Jsonl
                | ImportFormat::Json
                | ImportFormat::CrowdCsv,
                None,
            ) => return Err(Refusal::new("the names of the row are not explained")),
        };
        record.labels = self.labels(row, &record.input)?;
        if self.columns.is_none() {
            self.map_tool(row, &mut record)?;
        }
        if mapping.as_gold {
            match record.judgements.as_slice() {
                [] => {}
                [one] => record.expected = Some(one.parts.clone()),
                several => {
                    let reason = format!("{} answers, and one is the known one", several.len());
                    let hint = "import it without --as-gold, or name one person's file";
                    return Err(Refusal::new(reason).hint(hint));
                }
            }
            record.judgements.clear();
        }
        if mapping.only == ImportOnly::Tasks {
            record.judgements.clear();
            record.refused.clear();
            record.skipped.clear();
        }
        Ok(record)
    }

    fn labels(
        &self,
        row: &Map<String, Value>,
        input: &Map<String, Value>,
    ) -> Result<BTreeMap<String, String>, Refusal> {
        let mut labels = self.mapping.labels.clone();
        for (key, name) in self.mapping.labelled() {
            let value = lookup(row, name).or_else(|| lookup(input, name));
            let text = match value {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => text.clone(),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
                Some(Value::Array(_) | Value::Object(_)) => {
                    let reason = format!("`{name}` is no text, and labels are texts");
                    return Err(Refusal::new(reason));
                }
            };
            labels.insert(key.to_owned(), text);
        }
        Ok(labels)
    }

    /// Applies to the record of a tool what the user says of names.
    fn map_tool(&self, row: &Map<String, Value>, record: &mut Record) -> Result<(), Refusal> {
        let mapping = &self.mapping;
        let answers = mapping.answers();
        let judged = record
            .judgements
            .iter_mut()
            .map(|judgement| &mut judgement.parts);
        for parts in judged.chain(record.expected.as_mut()) {
            if !answers.is_empty() {
                let renamed = answers.iter().filter_map(|(to, from)| {
                    Some(((*to).to_owned(), parts.by_name.get(*from)?.clone()))
                });
                parts.by_name = renamed.collect();
                parts.mapped = true;
            } else if let [main] = mapping.answer_fields.as_slice() {
                parts.main = Some(main.clone());
            } else if !mapping.answer_fields.is_empty() {
                parts
                    .by_name
                    .retain(|name, _| mapping.answer_fields.contains(name));
            }
        }
        let find = |name: &str| {
            lookup(row, name)
                .or_else(|| lookup(&record.input, name))
                .cloned()
        };
        let known = mapping.known_answers();
        if !known.is_empty() {
            let mut parts = Parts {
                mapped: true,
                ..Parts::default()
            };
            for (to, from) in known {
                if let Some(value) = find(from).filter(|value| !value.is_null()) {
                    parts.add(to, Part::Json(value));
                }
            }
            record.expected = (!parts.by_name.is_empty()).then_some(parts);
        } else if let Some(name) = &mapping.expected_field
            && let Some(value) = find(name).filter(|value| !value.is_null())
        {
            record.expected = Some(Parts::one("expected", Part::Json(value)));
            record.input.remove(name);
        }
        let input = mapping.input();
        if !input.is_empty() {
            record.input = mapped_input(&record.input, &input)?;
        }
        Ok(())
    }
}
