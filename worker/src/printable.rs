//! Texts of strangers, for terminals and logs: what they contain is shown and never obeyed.

use std::{borrow::Cow, fmt::Write as _};

/// The text without control characters: each is replaced by its escape, as `\\u{1b}`, but for line
/// breaks and tabs. Marks that turn the direction of a text count as control characters: a terminal
/// would show the rest of the line in another order.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_control(c) && !matches!(c, '\n' | '\t'))
}

/// The same on one line: line breaks and tabs are escaped too.
pub fn printable_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_control)
}

fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, escapes: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&escapes) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if escapes(c) {
            // Writing to a String does not fail.
            let _ = write!(shown, "{}", c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_lines_stay() {
        let text = "a\u{1b}]0;PWNED\u{7}\u{9b}31m\r\n\tb\u{202e}ü";
        assert_eq!(
            printable(text),
            "a\\u{1b}]0;PWNED\\u{7}\\u{9b}31m\\r\n\tb\\u{202e}ü"
        );
        assert_eq!(printable_line("a\nb"), "a\\nb");
        assert!(matches!(printable("plain\ntext"), Cow::Borrowed(_)));
    }
}
