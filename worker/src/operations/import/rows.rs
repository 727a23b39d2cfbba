//! Rows of a file, one at a time: of CSV, of JSON Lines, of a JSON array.

use std::{
    cell::Cell,
    io::{self, BufRead, Read},
    rc::Rc,
};

use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value};

use super::record::{Refusal, listed};
use crate::{operations::text_file::utf8, wire::too_large_integer};

/// Bytes of one row; what is longer is no row but a fault of the file.
pub(super) const ROW_BYTES_MAX: u64 = 16 << 20;

/// A row of the file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// The line where it begins.
    pub(super) line: Option<u64>,
    pub(super) fields: Map<String, Value>,
}

/// A row that cannot be read; reading goes on behind it unless the fault is one of the whole file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RowFault {
    Row(Refusal),
    /// What is wrong with the file, and where.
    File(String),
}

impl From<Refusal> for RowFault {
    fn from(refusal: Refusal) -> Self {
        Self::Row(refusal)
    }
}

pub(super) type Rows = Box<dyn Iterator<Item = Result<Row, RowFault>>>;

fn io_fault(error: &io::Error) -> RowFault {
    RowFault::File(error.to_string())
}

/// One JSON object per line; blank lines are skipped.
pub(super) fn json_lines(reader: Box<dyn BufRead + Send>) -> Rows {
    let lines = Lines { reader, line: 0 };
    let blank = |line: &Result<(u64, Vec<u8>), RowFault>| matches!(line, Ok((_, bytes)) if bytes.iter().all(u8::is_ascii_whitespace));
    Box::new(lines.filter(move |line| !blank(line)).map(|line| {
        let (line, bytes) = line?;
        Ok(object(line, &bytes)?)
    }))
}

/// The lines of a file, with their numbers.
struct Lines {
    reader: Box<dyn BufRead + Send>,
    line: u64,
}

impl Iterator for Lines {
    type Item = Result<(u64, Vec<u8>), RowFault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line += 1;
        let mut bytes = Vec::new();
        let mut bounded = self.reader.by_ref().take(ROW_BYTES_MAX + 1);
        match bounded.read_until(b'\n', &mut bytes) {
            Ok(0) => None,
            Ok(_) if bytes.len() as u64 > ROW_BYTES_MAX => {
                Some(Err(RowFault::File(too_long(self.line, "the line"))))
            }
            Ok(_) => Some(Ok((self.line, bytes))),
            Err(error) => Some(Err(io_fault(&error))),
        }
    }
}

fn too_long(line: u64, what: &str) -> String {
    format!(
        "line {line}: {what} does not end within {} MiB",
        ROW_BYTES_MAX >> 20
    )
}

/// A JSON object that begins in a line.
fn object(line: u64, bytes: &[u8]) -> Result<Row, Refusal> {
    let refuse = |reason: String| Refusal::new(reason).on(Some(line));
    let text = utf8(bytes).map_err(refuse)?.trim();
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        let at = line + (error.line() as u64).saturating_sub(1);
        let refusal = refuse(format!(
            "not JSON: {what}, at line {at}, column {}",
            error.column()
        ));
        if text.contains("NaN") || text.contains("Infinity") {
            return refusal.hint("JSON has no NaN and no Infinity: write null");
        }
        refusal
    })?;
    if let Some((_, number)) = too_large_integer(text) {
        let reason = format!("{number} has more than 64 bits and would be rounded");
        return Err(refuse(reason).hint("write it as a text, in quotation marks"));
    }
    match value {
        Value::Object(fields) => Ok(Row {
            line: Some(line),
            fields,
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(refuse("a row is a JSON object, {…}".to_owned()))
        }
    }
}

/// The elements of a JSON array.
pub(super) fn json_array(reader: Box<dyn BufRead + Send>) -> Rows {
    let elements = Elements {
        reader,
        line: 1,
        state: ArrayState::Before,
    };
    Box::new(elements.map(|element| {
        let (line, bytes) = element?;
        Ok(object(line, &bytes)?)
    }))
}

#[derive(Clone, Copy, PartialEq)]
enum ArrayState {
    /// Before the opening bracket.
    Before,
    /// Where an element begins; the first may be missing.
    First,
    Next,
    /// Behind the closing bracket, or behind a fault.
    Done,
}

/// Cuts an array into its elements without reading all of it: the parser sees one at a time.
struct Elements {
    reader: Box<dyn BufRead + Send>,
    line: u64,
    state: ArrayState,
}

impl Elements {
    fn byte(&mut self) -> Result<Option<u8>, RowFault> {
        let byte = match self.reader.fill_buf() {
            Ok(buffer) => buffer.first().copied(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.byte(),
            Err(error) => return Err(io_fault(&error)),
        };
        if let Some(byte) = byte {
            self.reader.consume(1);
            self.line += u64::from(byte == b'\n');
        }
        Ok(byte)
    }

    /// The next byte that is no white space.
    fn visible(&mut self) -> Result<Option<u8>, RowFault> {
        loop {
            match self.byte()? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                byte => return Ok(byte),
            }
        }
    }

    fn cut_off(&self) -> RowFault {
        let line = self.line;
        RowFault::File(format!(
            "line {line}: the array is not closed; the file has been cut off"
        ))
    }

    /// The next element with the line where it begins; none at the end of the array.
    fn element(&mut self) -> Result<Option<(u64, Vec<u8>)>, RowFault> {
        if self.state == ArrayState::Before {
            self.state = ArrayState::First;
            if self.visible()? != Some(b'[') {
                let fault = "the file does not begin with [".to_owned();
                return Err(RowFault::File(fault));
            }
        }
        let Some(first) = self.visible()? else {
            return Err(self.cut_off());
        };
        let line = self.line;
        if first == b']' && self.state == ArrayState::First {
            return self.end();
        }
        if matches!(first, b']' | b',') {
            let fault = format!("line {line}: a comma without an element");
            return Err(RowFault::File(fault));
        }
        self.state = ArrayState::Next;
        let mut bytes = Vec::new();
        let (mut depth, mut in_text, mut escaped) = (0_u32, false, false);
        let mut byte = first;
        loop {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b',' if depth == 0 => return Ok(Some((line, bytes))),
                b']' if depth == 0 => {
                    self.end()?;
                    return Ok(Some((line, bytes)));
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            bytes.push(byte);
            if bytes.len() as u64 > ROW_BYTES_MAX {
                return Err(RowFault::File(too_long(line, "the element")));
            }
            byte = self.byte()?.ok_or_else(|| self.cut_off())?;
        }
    }

    /// Nothing may follow the array.
    fn end(&mut self) -> Result<Option<(u64, Vec<u8>)>, RowFault> {
        self.state = ArrayState::Done;
        match self.visible()? {
            None => Ok(None),
            Some(_) => Err(RowFault::File(format!(
                "line {}: something follows the end of the array; a file holds one",
                self.line
            ))),
        }
    }
}

impl Iterator for Elements {
    type Item = Result<(u64, Vec<u8>), RowFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.state == ArrayState::Done {
            return None;
        }
        let element = self.element();
        if element.is_err() {
            self.state = ArrayState::Done;
        }
        element.transpose()
    }
}

/// A CSV file with its header read.
pub(super) struct Table {
    reader: csv::Reader<Metered>,
    pub(super) columns: Vec<String>,
    left: Rc<Cell<u64>>,
}

/// Fails where a row goes on without end, as behind a quotation mark that is never closed.
struct Metered {
    reader: Box<dyn BufRead + Send>,
    left: Rc<Cell<u64>>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left.set(left.ok_or_else(|| {
            io::Error::other(format!(
                "a row does not end within {} MiB; a quotation mark may be open",
                ROW_BYTES_MAX >> 20
            ))
        })?);
        Ok(read)
    }
}

/// Reads the header; `delimiter` is between the cells of a line.
pub(super) fn csv(reader: Box<dyn BufRead + Send>, delimiter: u8) -> Result<Table, String> {
    let left = Rc::new(Cell::new(ROW_BYTES_MAX));
    let metered = Metered {
        reader,
        left: Rc::clone(&left),
    };
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_reader(metered);
    let header = reader.byte_headers().map_err(|error| error.to_string())?;
    let mut columns = Vec::new();
    for cell in header {
        columns.push(
            utf8(cell)
                .map_err(|why| format!("line 1: {why}"))?
                .trim()
                .to_owned(),
        );
    }
    if columns.iter().all(String::is_empty) {
        return Err("the file is empty; its first line names the columns".to_owned());
    }
    let twice = |(at, name): (usize, &String)| !name.is_empty() && columns[..at].contains(name);
    if let Some(at) = columns.iter().enumerate().position(twice) {
        return Err(format!(
            "line 1: the column `{}` is there twice; rename one",
            columns[at]
        ));
    }
    Ok(Table {
        reader,
        columns,
        left,
    })
}

impl Table {
    /// The rows; an empty cell is no field.
    pub(super) fn rows(mut self) -> Rows {
        let mut is_done = false;
        Box::new(std::iter::from_fn(move || {
            if is_done {
                return None;
            }
            let row = self.row();
            is_done = matches!(row, Some(Err(RowFault::File(_))));
            row
        }))
    }

    fn row(&mut self) -> Option<Result<Row, RowFault>> {
        self.left.set(ROW_BYTES_MAX);
        let mut record = ByteRecord::new();
        match self.reader.read_byte_record(&mut record) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => return Some(Err(RowFault::File(error.to_string()))),
        }
        let line = record.position().map(csv::Position::line);
        Some(
            self.cells(&record)
                .map(|fields| Row { line, fields })
                .map_err(|r| r.on(line).into()),
        )
    }

    fn cells(&self, record: &ByteRecord) -> Result<Map<String, Value>, Refusal> {
        if record.len() != self.columns.len() {
            let (found, wanted) = (record.len(), self.columns.len());
            let columns: Vec<&str> = self.columns.iter().map(String::as_str).collect();
            let refusal = Refusal::new(format!("{found} cells, and the header has {wanted}"));
            return Err(refusal.hint(format!(
                "put quotation marks around a cell that holds the delimiter; the columns are {}",
                listed(&columns)
            )));
        }
        let mut fields = Map::new();
        for (column, cell) in self.columns.iter().zip(record) {
            let text =
                utf8(cell).map_err(|why| Refusal::new(format!("column `{column}`: {why}")))?;
            if !text.is_empty() && !column.is_empty() {
                fields.insert(column.clone(), text.into());
            }
        }
        Ok(fields)
    }
}

/// What separates the cells, by the header: of the usual ones the most frequent outside quotation
/// marks.
pub(super) fn delimiter_of(header: &str) -> u8 {
    let mut quoted = false;
    let mut counts = [(b',', 0_u32), (b';', 0), (b'\t', 0), (b'|', 0)];
    for byte in header.bytes() {
        quoted ^= byte == b'"';
        for (delimiter, count) in &mut counts {
            *count += u32::from(!quoted && byte == *delimiter);
        }
    }
    // Of equally frequent ones the first.
    let most = counts.iter().rev().max_by_key(|(_, count)| *count);
    most.map_or(b',', |(delimiter, _)| *delimiter)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use serde_json::json;

    use super::*;

    fn reader(text: &str) -> Box<dyn BufRead + Send> {
        Box::new(Cursor::new(text.as_bytes().to_vec()))
    }

    /// Lines and fields, or why not.
    fn told(rows: Rows) -> Vec<Result<(u64, Value), String>> {
        rows.map(|row| match row {
            Ok(row) => Ok((row.line.unwrap(), Value::Object(row.fields))),
            Err(RowFault::Row(refusal)) => {
                Err(format!("{}: {}", refusal.line.unwrap(), refusal.reason))
            }
            Err(RowFault::File(fault)) => Err(format!("file: {fault}")),
        })
        .collect()
    }

    #[test]
    fn lines_are_objects_and_faults_are_told_by_line() {
        let found = told(json_lines(reader(
            "{\"a\":1}\r\n\n[1]\n{\"a\":\n{\"n\":18446744073709551616}\n{\"b\":NaN}",
        )));
        assert_eq!(found[0], Ok((1, json!({"a": 1}))));
        let errors: Vec<_> = found[1..].iter().map(|e| e.as_ref().unwrap_err()).collect();
        assert!(
            errors[0].starts_with("3: a row is a JSON object"),
            "{errors:?}"
        );
        assert!(errors[1].starts_with("4: not JSON: EOF"), "{errors:?}");
        assert!(
            errors[2].starts_with("5: 18446744073709551616 has more than 64 bits"),
            "{errors:?}"
        );
        assert!(errors[3].starts_with("6: not JSON"), "{errors:?}");
    }

    #[test]
    fn elements_of_an_array_come_one_by_one_however_it_is_written() {
        let text = "\n[\n  {\"a\": \"],{\\\"\"},\n  {\n    \"b\": [1, {}]\n  }\n]\n";
        let found = told(json_array(reader(text)));
        assert_eq!(
            found,
            [
                Ok((3, json!({"a": "],{\""}))),
                Ok((4, json!({"b": [1, {}]}))),
            ]
        );
        assert_eq!(told(json_array(reader(" [ ] "))), []);
        let last = |text: &str| told(json_array(reader(text))).pop().unwrap().unwrap_err();
        assert!(last("[{},").contains("cut off"));
        assert!(last("[{}").contains("cut off"));
        assert!(last("[{},]").contains("comma without an element"));
        assert!(last("[{}] [").contains("follows the end"));
        assert!(last("[{} {}]").contains("trailing characters"));
        assert!(last("{}").contains("does not begin with ["));
        let missing = told(json_array(reader("[{\"a\":\n 1 \"b\"}, {}]")));
        assert!(
            missing[0]
                .as_ref()
                .unwrap_err()
                .contains("at line 2, column 4"),
            "{missing:?}"
        );
        assert!(missing[1].is_ok());
    }

    #[test]
    fn cells_are_texts_and_empty_ones_are_absent() {
        let text = "id, text ,n\n1,\"a, \"\"b\"\"\nc\",\n2,x\n3,y,7\n";
        let table = csv(reader(text), b',').ok().unwrap();
        assert_eq!(table.columns, ["id", "text", "n"]);
        let found = told(table.rows());
        assert_eq!(found[0], Ok((2, json!({"id": "1", "text": "a, \"b\"\nc"}))));
        assert!(
            found[1]
                .as_ref()
                .unwrap_err()
                .starts_with("4: 2 cells, and the header has 3"),
            "{found:?}"
        );
        assert_eq!(found[2], Ok((5, json!({"id": "3", "text": "y", "n": "7"}))));
        let error = |text: &str| csv(reader(text), b',').err().unwrap();
        assert!(error("").contains("empty"));
        assert!(error("a,b,a\n").contains("`a` is there twice"));
    }

    #[test]
    fn a_quotation_mark_that_is_never_closed_ends_the_reading() {
        let length = usize::try_from(2 * ROW_BYTES_MAX).unwrap();
        let text = format!("id,text\n1,\"{}", "x\n".repeat(length));
        let found = told(csv(reader(&text), b',').ok().unwrap().rows());
        assert_eq!(found.len(), 1);
        assert!(
            found[0].as_ref().unwrap_err().contains("quotation mark"),
            "{found:?}"
        );
    }

    #[test]
    fn the_delimiter_is_found_in_the_header() {
        assert_eq!(delimiter_of("id,text"), b',');
        assert_eq!(delimiter_of("id;text;\"a,b,c\""), b';');
        assert_eq!(delimiter_of("id\ttext, more\tlabel"), b'\t');
        assert_eq!(delimiter_of("id"), b',');
    }
}
