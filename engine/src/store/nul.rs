//! U+0000 in JSON: Postgres has no text with it, so what holds one is refused before it is written.

use super::EventStoreError;

#[derive(Debug, thiserror::Error)]
#[error("a text holds U+0000")]
struct Nul;

/// Whether a text of JSON, as `serde_json` writes it, has U+0000 in a string.
fn holds_nul(json: &str) -> bool {
    let is_escape = |at: usize| {
        let before = json.as_bytes()[..at].iter().rev();
        // An even number of backslashes before it are pairs, each of them one backslash.
        before.take_while(|byte| **byte == b'\\').count() % 2 == 0
    };
    let mut found = json.match_indices("\\u0000");
    found.any(|(at, _)| is_escape(at))
}

/// Refuses JSON with U+0000 in a string, as content that cannot be stored.
pub(super) fn refuse_nul(json: &str) -> Result<(), EventStoreError> {
    if holds_nul(json) {
        return Err(EventStoreError::Data(Box::new(Nul)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_character_itself_is_refused() {
        let written = |text: &str| json!({ "a": [text] }).to_string();
        assert!(holds_nul(&written("a\0b")));
        assert!(holds_nul(&written("\\\0")));
        assert!(holds_nul(&json!({ "\0": 1 }).to_string()));
        for text in ["", "0", "\\u0000", "\\\\u0000", "\u{1}\u{10000}"] {
            assert!(!holds_nul(&written(text)), "{text:?}");
        }
    }
}
