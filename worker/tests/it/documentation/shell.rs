//! As much of the shell's grammar as the pages use.

use std::{iter::Peekable, str::Chars};

/// What stands in a word for the output of another command.
const OUTPUT: char = '…';

/// The simple commands of a script as words, in the order in which they end: quotes removed, comments,
/// assignments and redirections left out, `$(…)` as a command of its own.
pub(super) fn commands(script: &str) -> Vec<Vec<String>> {
    let mut reader = Reader {
        rest: script.chars().peekable(),
        found: Vec::new(),
    };
    reader.read(None);
    reader.found
}

struct Reader<'s> {
    rest: Peekable<Chars<'s>>,
    found: Vec<Vec<String>>,
}

/// A command as far as it has been read.
#[derive(Default)]
struct Begun {
    words: Vec<String>,
    word: Option<String>,
    /// The next word names a file.
    is_redirected: bool,
}

impl Begun {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else {
            return;
        };
        let is_assignment = self.words.is_empty()
            && word.split_once('=').is_some_and(|(name, _)| {
                name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            });
        if !is_assignment && !self.is_redirected {
            self.words.push(word);
        }
        self.is_redirected = false;
    }

    fn redirect(&mut self) {
        let is_descriptor = |word: &String| word.chars().all(|c| c.is_ascii_digit());
        self.word = self.word.take().filter(|word| !is_descriptor(word));
        self.end_word();
        self.is_redirected = true;
    }
}

impl Reader<'_> {
    /// Reads to the end, or past `until`.
    fn read(&mut self, until: Option<char>) {
        let mut begun = Begun::default();
        while let Some(c) = self.rest.next() {
            match c {
                '\'' => self.read_quoted(&mut begun),
                '"' => self.read_double_quoted(&mut begun),
                '$' if self.rest.next_if_eq(&'(').is_some() => self.read_substitution(&mut begun),
                '\\' => {
                    if let Some(next) = self.rest.next().filter(|next| *next != '\n') {
                        begun.push(next);
                    }
                }
                '#' if begun.word.is_none() => self.skip(|next| next != '\n'),
                ' ' | '\t' => begun.end_word(),
                '<' | '>' => {
                    self.skip(|next| matches!(next, '<' | '>' | '&'));
                    begun.redirect();
                }
                '\n' | ';' | '&' | '|' | '(' | ')' => {
                    self.end_command(&mut begun);
                    if until == Some(c) {
                        return;
                    }
                }
                c => begun.push(c),
            }
        }
        self.end_command(&mut begun);
    }

    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) {
        while self.rest.next_if(|next| is_skipped(*next)).is_some() {}
    }

    fn end_command(&mut self, begun: &mut Begun) {
        begun.end_word();
        let words = std::mem::take(begun).words;
        if !words.is_empty() {
            self.found.push(words);
        }
    }

    fn read_quoted(&mut self, begun: &mut Begun) {
        begun.word.get_or_insert_default();
        for c in self.rest.by_ref().take_while(|c| *c != '\'') {
            begun.push(c);
        }
    }

    fn read_double_quoted(&mut self, begun: &mut Begun) {
        begun.word.get_or_insert_default();
        while let Some(c) = self.rest.next().filter(|c| *c != '"') {
            match c {
                '\\' => {
                    if let Some(next) = self.rest.next() {
                        begun.push(next);
                    }
                }
                '$' if self.rest.next_if_eq(&'(').is_some() => self.read_substitution(begun),
                c => begun.push(c),
            }
        }
    }

    fn read_substitution(&mut self, begun: &mut Begun) {
        self.read(Some(')'));
        begun.push(OUTPUT);
    }
}

#[test]
fn commands_are_read_as_a_shell_reads_them() {
    let script = r#"A=1 B="2 3" glyph publish f.jsonl > 'o ut' 2>&1 # a comment
echo "user:$(glyph task id --user "ann b" | awk '{print $2}') name=#1" >> tokens && \
  ls -l; (cd node; npm install)"#;
    let expected: [&[&str]; 6] = [
        &["glyph", "publish", "f.jsonl"],
        &["glyph", "task", "id", "--user", "ann b"],
        &["awk", "{print $2}"],
        &["echo", "user:… name=#1"],
        &["ls", "-l"],
        &["cd", "node"],
    ];
    assert_eq!(commands(script)[..6], expected);
}
