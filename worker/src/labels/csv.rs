//! Labels as CSV, RFC 4180: a header, lines that end in CR LF, cells in quotation marks where they
//! need them.

use std::io::{self, Write};

use csv::{Terminator, WriterBuilder};
use serde::Serialize;
use serde_json::Value;

use super::label::Label;

/// The columns, in order. New ones are added at the end.
pub const COLUMNS: [&str; 20] = [
    "task_id",
    "labels",
    "revision",
    "step",
    "visit",
    "completed_at",
    "value",
    "resolved_by",
    "agreement",
    "result_of",
    "confidence",
    "posterior",
    "value_now",
    "confidence_now",
    "posterior_now",
    "model_position",
    "fields_now",
    "votes",
    "gold",
    "difficulty_now",
];

/// Writes the line with the names of the columns.
pub fn write_csv_header(to: &mut dyn Write) -> io::Result<()> {
    write_line(to, COLUMNS)
}

/// Writes the line of a label. Texts and numbers are written as they are, null as an empty cell,
/// anything else as JSON.
pub fn write_csv_row(to: &mut dyn Write, label: &Label) -> io::Result<()> {
    let fields = json(label);
    let cells = COLUMNS.map(|column| cell(fields.get(column).unwrap_or(&Value::Null)));
    write_line(to, cells)
}

/// Plain data with string keys always serializes.
fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn write_line(to: &mut dyn Write, cells: [impl AsRef<[u8]>; COLUMNS.len()]) -> io::Result<()> {
    let mut writer = WriterBuilder::new()
        .terminator(Terminator::CRLF)
        .from_writer(to);
    writer.write_record(cells)?;
    writer.flush()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use glyph_workflow_engine::{
        ids::{RevisionId, Slug, TaskId, UserId},
        state::WorkflowRef,
    };
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::labels::label::{GoldAnswer, LabelContext, LabelVote};

    fn label(value: Value) -> Label {
        Label {
            task_id: TaskId(Uuid::from_u128(1)),
            labels: BTreeMap::new(),
            revision: 1,
            step: Slug::new("annotate").unwrap(),
            visit: 1,
            completed_at: None,
            value: Some(value),
            resolved_by: None,
            agreement: Some(0.5),
            result_of: None,
            confidence: None,
            posterior: None,
            value_now: None,
            confidence_now: None,
            posterior_now: None,
            model_position: None,
            fields_now: Vec::new(),
            votes: Vec::new(),
            gold: None,
            difficulty_now: None,
            context: LabelContext {
                workflow: WorkflowRef {
                    workflow: Slug::new("w").unwrap(),
                    revision: 1,
                    revision_id: RevisionId(Uuid::from_u128(2)),
                },
                is_gold: false,
                is_replaced: false,
            },
        }
    }

    fn line(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn csv_row(label: &Label) -> String {
        line(|to| write_csv_row(to, label))
    }

    #[test]
    fn the_columns_are_the_fields_of_a_line_of_json_in_the_same_order() {
        let text = serde_json::to_string(&label(json!("cat"))).unwrap();
        let mut at = 0;
        for column in COLUMNS {
            let name = format!("\"{column}\":");
            let found = text[at..].find(&name).unwrap_or_else(|| panic!("{column}"));
            at += found + name.len();
        }
        let fields = json(&label(json!("cat")));
        assert_eq!(fields.as_object().unwrap().len(), COLUMNS.len());
    }

    #[test]
    fn cells_with_marks_commas_and_line_breaks_are_quoted() {
        let text = "he said \"no\",\r\nand left";
        let row = csv_row(&label(json!(text)));
        assert!(
            row.contains(",\"he said \"\"no\"\",\r\nand left\","),
            "{row}"
        );
        assert!(row.ends_with("\r\n"));
        let plain = csv_row(&label(json!("=1+1")));
        assert!(plain.contains(",=1+1,,0.5,"), "nothing is changed: {plain}");
        let header = line(|to| write_csv_header(to));
        assert!(header.ends_with("gold,difficulty_now\r\n"), "{header}");
        assert_eq!(header.split(',').count(), COLUMNS.len());
    }

    #[test]
    fn nested_values_are_json_and_people_are_left_out_where_they_are_not_asked_for() {
        let mut one = label(json!({"a": [1, 2]}));
        one.votes.push(LabelVote {
            annotator: Some(UserId(Uuid::from_u128(0xA))),
            value: Some(json!("cat")),
            decision: None,
            roles: vec!["expert".to_owned()],
            submitted_at: None,
        });
        one.gold = Some(GoldAnswer {
            expected: json!("cat"),
            right: Some(true),
        });
        assert!(csv_row(&one).contains("\"{\"\"a\"\":[1,2]}\""));
        assert!(csv_row(&one).contains("annotator"));
        one.without_annotators();
        one.without_gold();
        let row = csv_row(&one);
        assert!(
            !row.contains("annotator") && !row.contains("expected"),
            "{row}"
        );
        assert!(row.contains("expert") && row.ends_with(",\r\n"), "{row}");
    }
}
