//! Text files that other programs wrote: their encoding, and their lines.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Why a file cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TextFileFault(pub String);

/// Opens a file as [`skip_mark`] does.
pub fn open(file: &Path) -> Result<Box<dyn BufRead + Send>, TextFileFault> {
    let opened = File::open(file).map_err(|error| io_fault(file, &error))?;
    let mut reader: Box<dyn BufRead + Send> = Box::new(BufReader::new(opened));
    skip_mark(file, &mut reader)?;
    Ok(reader)
}

/// Reads on after a byte order mark of UTF-8; refuses what cannot be UTF-8 by its first bytes. `file`
/// names it in messages.
pub fn skip_mark(file: &Path, reader: &mut dyn BufRead) -> Result<(), TextFileFault> {
    let head = reader.fill_buf().map_err(|error| io_fault(file, &error))?;
    if head.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
        return Ok(());
    }
    let name = file.display();
    match foreign(head) {
        Some(why) => Err(TextFileFault(format!("{name}: {why}"))),
        None => Ok(()),
    }
}

/// What a file is that begins so, if it is no UTF-8.
fn foreign(head: &[u8]) -> Option<String> {
    let utf16 = match head {
        [0xff, 0xfe, ..] | [_, 0, _, 0, ..] => Some("UTF-16LE"),
        [0xfe, 0xff, ..] | [0, _, 0, _, ..] => Some("UTF-16BE"),
        _ => None,
    };
    if let Some(encoding) = utf16 {
        return Some(format!(
            "the file is {encoding}, and UTF-8 is read here; save it as UTF-8, or: iconv -f \
             {encoding} -t UTF-8 FILE"
        ));
    }
    match head {
        [0x1f, 0x8b, ..] => Some("the file is compressed; unpack it with gunzip".to_owned()),
        [b'P', b'K', 3, 4, ..] => Some(
            "the file is a zip archive (a workbook of Excel, too, is one); unpack it, or save it as \
             CSV in UTF-8"
                .to_owned(),
        ),
        _ => None,
    }
}

/// An error of the system about a file.
pub fn io_fault(file: &Path, error: &io::Error) -> TextFileFault {
    TextFileFault(format!("{}: {error}", file.display()))
}

/// Bytes as text; the error says where they stop being UTF-8.
pub fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| {
        format!(
            "not UTF-8 after byte {}; if the file is Latin-1: iconv -f ISO-8859-1 -t UTF-8 FILE",
            error.valid_up_to()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use super::*;

    fn read(bytes: &[u8]) -> Result<String, String> {
        let mut reader = Cursor::new(bytes);
        skip_mark(Path::new("f"), &mut reader).map_err(|fault| fault.to_string())?;
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn a_mark_is_skipped_and_other_encodings_are_named() {
        assert_eq!(read(b"\xef\xbb\xbfid\n").unwrap(), "id\n");
        assert_eq!(read(b"").unwrap(), "");
        assert_eq!(read(b"a").unwrap(), "a");
        let error = |bytes: &[u8]| read(bytes).unwrap_err();
        assert!(error(b"\xff\xfei\0d\0").contains("iconv -f UTF-16LE -t UTF-8"));
        assert!(error(b"i\0d\0\n\0").contains("UTF-16LE"));
        assert!(error(b"\xfe\xff\0i\0d").contains("UTF-16BE"));
        assert!(error(b"\x1f\x8b\x08").contains("gunzip"));
        assert!(error(b"PK\x03\x04").contains("CSV"));
        assert_eq!(utf8("ä".as_bytes()), Ok("ä"));
        assert!(utf8(b"ab\xe4").unwrap_err().contains("after byte 2"));
    }
}
