//! The environment as text.

use std::ffi::OsString;

use super::{error::SettingsError, names::is_read};

/// The variables of the process. Those that are not text are left out, unless they are read here.
pub(super) fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, SettingsError> {
    let mut text = Vec::new();
    let mut faults = Vec::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else {
            continue;
        };
        match value.into_string() {
            Ok(value) => text.push((name, value)),
            Err(_) if is_read(&name) => {
                faults.push(format!("{name} (the environment): is not UTF-8 text"));
            }
            Err(_) => {}
        }
    }
    if faults.is_empty() {
        Ok(text)
    } else {
        Err(SettingsError { faults })
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn bytes(bytes: &[u8]) -> OsString {
        OsString::from_vec(bytes.to_vec())
    }

    #[test]
    fn only_variables_that_are_read_must_be_text() {
        let others = [
            (bytes(b"\xff"), bytes(b"x")),
            (bytes(b"LS_COLORS"), bytes(b"\xfe")),
            (bytes(b"GLYPH_LANES"), bytes(b"3")),
        ];
        let read = environment(others).unwrap();
        assert_eq!(read, [("GLYPH_LANES".to_owned(), "3".to_owned())]);
        for name in [
            "GLYPH_LANES",
            "DATABASE_URL_FILE",
            "PGSSLMODE",
            "OTEL_SERVICE_NAME",
        ] {
            let refused = environment([(name.into(), bytes(b"\xff"))]).unwrap_err();
            assert!(refused.faults[0].starts_with(name), "{refused}");
        }
    }
}
