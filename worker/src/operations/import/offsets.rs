//! Offsets in texts: code points here, UTF-16 units in browsers.

/// Remark where a text is marked at another place than the export quotes.
pub(super) const MISQUOTED: &str = "a span quotes another text than it marks; its offsets are kept";

/// Offsets in code points, of offsets that count them or the units of UTF-16; none where neither marks
/// what is quoted.
pub(super) fn code_points(text: &str, start: u64, end: u64, quoted: &str) -> Option<(u64, u64)> {
    let by = |width: fn(char) -> u64| {
        let from = byte_at(text, start, width)?;
        let marked = text.get(from..byte_at(text, end, width)?)?;
        let before = text[..from].chars().count() as u64;
        let length = marked.chars().count() as u64;
        is_quoted(marked, quoted).then_some((before, before + length))
    };
    by(|_| 1).or_else(|| by(|c| c.len_utf16() as u64))
}

/// What is marked from one code point to another, if it is what is quoted.
pub(super) fn marked<'t>(text: &'t str, start: u64, end: u64, quoted: &str) -> Option<&'t str> {
    let marked = text.get(byte_at(text, start, |_| 1)?..byte_at(text, end, |_| 1)?)?;
    is_quoted(marked, quoted).then_some(marked)
}

/// Whether a quotation is what is marked. Label Studio writes line breaks in it as a backslash and an
/// n, and browsers make one space of several.
fn is_quoted(marked: &str, quoted: &str) -> bool {
    let joined = |text: &str| {
        let mut joined = String::with_capacity(text.len());
        for c in text.chars() {
            if !c.is_whitespace() {
                joined.push(c);
            } else if !joined.ends_with(' ') {
                joined.push(' ');
            }
        }
        joined
    };
    marked == quoted || joined(marked) == joined(&quoted.replace("\\n", "\n"))
}

/// The byte behind so many units, of which a character has `width`.
fn byte_at(text: &str, units: u64, width: fn(char) -> u64) -> Option<usize> {
    let mut left = units;
    for (at, c) in text.char_indices() {
        if left == 0 {
            return Some(at);
        }
        left = left.checked_sub(width(c))?;
    }
    (left == 0).then_some(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quotation_tells_which_units_are_counted() {
        let text = "🙂 Ann met 🙂 Bob";
        assert_eq!(code_points(text, 2, 5, "Ann"), Some((2, 5)));
        assert_eq!(code_points(text, 3, 6, "Ann"), Some((2, 5)));
        assert_eq!(code_points(text, 14, 17, "Bob"), Some((12, 15)));
        assert_eq!(code_points(text, 12, 15, "Bob"), Some((12, 15)));
        assert_eq!(code_points(text, 3, 6, "Bob"), None);
        assert_eq!(code_points(text, 1, 6, "Ann"), None, "inside an emoji");
        assert_eq!(code_points(text, 90, 99, "Bob"), None);
        assert_eq!(code_points(text, 6, 3, "Ann"), None);
    }

    #[test]
    fn a_quotation_is_recognized_without_its_line_breaks_and_given_with_them() {
        let text = "🙂 Ann\nmet  Bob";
        for quoted in ["Ann\\nmet Bob", "Ann met Bob", "Ann\nmet  Bob"] {
            assert_eq!(code_points(text, 3, 15, quoted), Some((2, 14)));
            assert_eq!(marked(text, 2, 14, quoted), Some("Ann\nmet  Bob"));
        }
        assert_eq!(marked(text, 2, 14, "Ann"), None);
    }
}
