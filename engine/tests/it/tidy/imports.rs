//! Finds out which file of a crate takes names from which other file.
//!
//! The text is scanned, not compiled: comments and literals are dropped, modules under
//! `#[cfg(test)]` are skipped, and the rest is searched for `use` declarations and paths. A path is
//! followed through modules and re-exports to the file that defines its name, as far as text
//! allows: methods are not seen, and a name made by a macro counts as its module's.

use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of re-exports followed in a row.
const REEXPORTS_MAX: usize = 16;

/// A module path below the crate's root.
type ModulePath = Vec<String>;

/// A name that a file takes from elsewhere in its crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    /// The importing file.
    pub(crate) from: String,
    /// The room (the module below the crate's root) that the path names, if it names one.
    pub(crate) named: Option<String>,
    /// The file that defines it.
    pub(crate) to: String,
    /// The name.
    pub(crate) name: String,
    /// Whether the file only re-exports the name.
    pub(crate) passes_on: bool,
}

/// The files of a crate and their imports.
pub(crate) struct Sources {
    modules: BTreeMap<ModulePath, Module>,
}

/// A module: a file, or a block within one.
#[derive(Default)]
struct Module {
    file: String,
    /// Names defined here.
    defined: BTreeSet<String>,
    /// Child modules, without those of tests.
    children: BTreeSet<String>,
    uses: Vec<Use>,
    /// Paths of at least two segments outside of `use`.
    paths: BTreeSet<Vec<String>>,
    /// Every word outside of `use`.
    words: BTreeSet<String>,
}

/// One name that a `use` brings into scope.
#[derive(Clone, Debug)]
struct Use {
    path: Vec<String>,
    /// The name in scope; `*` for all.
    name: String,
    is_public: bool,
}

/// A name, and the module that defines it.
type Found = (ModulePath, String);

impl Sources {
    /// Scans the files of a crate, given as paths below `src` with `/`, and their text. Paths that
    /// begin with `crate_name` are paths of the crate itself, as in its binary.
    pub(crate) fn read<'t>(
        crate_name: &str,
        files: impl IntoIterator<Item = (&'t str, &'t str)>,
    ) -> Self {
        let mut modules = BTreeMap::new();
        let mut tests = BTreeSet::new();
        for (file, text) in files {
            let mut tokens = tokens(text);
            for token in &mut tokens {
                if token == crate_name {
                    "crate".clone_into(token);
                }
            }
            let module = Reader {
                file,
                tokens: &tokens,
                modules: &mut modules,
                tests: &mut tests,
            };
            module.read(module_path(file));
        }
        modules.retain(|path: &ModulePath, _| {
            !(1..=path.len()).any(|length| tests.contains(&path[..length]))
        });
        Self { modules }
    }

    /// The scanned files.
    pub(crate) fn files(&self) -> BTreeSet<&str> {
        self.modules
            .values()
            .map(|module| module.file.as_str())
            .collect()
    }

    /// All names that files take from other files.
    pub(crate) fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (path, module) in &self.modules {
            let mut take = |segments: &[String], passes_on: bool| {
                let Some((definer, name)) = self.follow(path, segments, 0) else {
                    return;
                };
                let to = &self.modules[&definer].file;
                let own = module.file == *to;
                let named = self.named(path, segments);
                if own && named.as_deref().is_none_or(|room| room == room_of(to)) {
                    return;
                }
                imports.insert(Import {
                    from: module.file.clone(),
                    named,
                    to: to.clone(),
                    name,
                    passes_on,
                });
            };
            for import in &module.uses {
                let passes_on = import.is_public && !module.words.contains(&import.name);
                take(&import.path, passes_on);
            }
            for segments in &module.paths {
                take(segments, false);
            }
        }
        imports
    }

    /// Files that depend on each other, directly or through others: each group once, sorted.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let imports = self.imports();
        for import in &imports {
            if !import.passes_on && import.from != import.to {
                edges.entry(&import.from).or_default().insert(&import.to);
            }
        }
        let reached: BTreeMap<&str, BTreeSet<&str>> = edges
            .keys()
            .map(|from| {
                let mut seen = BTreeSet::new();
                let mut next = vec![*from];
                while let Some(file) = next.pop() {
                    let targets = edges.get(file).into_iter().flatten();
                    next.extend(targets.filter(|target| seen.insert(**target)));
                }
                (*from, seen)
            })
            .collect();
        let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
        for (from, seen) in &reached {
            let circle: Vec<String> = seen
                .iter()
                .filter(|file| reached.get(*file).is_some_and(|back| back.contains(from)))
                .map(|file| (*file).to_owned())
                .collect();
            if !circle.is_empty() {
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    /// The room that a path names explicitly.
    fn named(&self, from: &[String], segments: &[String]) -> Option<String> {
        let (base, rest) = self.base(from, segments)?;
        base.iter().chain(rest).next().cloned()
    }

    /// The module in which a path begins, and the rest of the path; none for other crates.
    fn base<'s>(
        &self,
        from: &[String],
        segments: &'s [String],
    ) -> Option<(ModulePath, &'s [String])> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => Some((Vec::new(), rest)),
            "self" => Some((from.to_vec(), rest)),
            "super" => {
                let mut base = from.to_vec();
                let mut rest = segments;
                while let Some(("super", after)) = rest.split_first().map(|(s, r)| (s.as_str(), r))
                {
                    base.pop()?;
                    rest = after;
                }
                Some((base, rest))
            }
            name => {
                let module = self.modules.get(from)?;
                let is_known = module.children.contains(name)
                    || module.uses.iter().any(|import| import.name == name);
                is_known.then(|| (from.to_vec(), segments))
            }
        }
    }

    /// Follows a path from a module to the name that it refers to; none if it ends in a module or
    /// outside of the crate.
    fn follow(&self, from: &[String], segments: &[String], depth: usize) -> Option<Found> {
        if depth > REEXPORTS_MAX {
            return None;
        }
        let (mut at, rest) = self.base(from, segments)?;
        for (index, segment) in rest.iter().enumerate() {
            if segment == "*" || segment == "self" {
                break;
            }
            let module = self.modules.get(&at)?;
            if module.children.contains(segment) {
                at.push(segment.clone());
                continue;
            }
            if module.defined.contains(segment) {
                return Some((at, segment.clone()));
            }
            let after = &rest[index + 1..];
            // An import of the very path that is being followed leads nowhere.
            let leads =
                |import: &&Use| import.name == *segment && !(at == from && import.path == segments);
            if let Some(import) = module.uses.iter().find(leads) {
                let path: Vec<String> = import.path.iter().chain(after).cloned().collect();
                return self.follow(&at, &path, depth + 1);
            }
            for import in module.uses.iter().filter(|import| import.name == "*") {
                let mut path = import.path.clone();
                path.pop();
                path.push(segment.clone());
                let found = self.follow(&at, &path, depth + 1);
                if found
                    .as_ref()
                    .is_some_and(|(definer, name)| self.modules[definer].defined.contains(name))
                {
                    return found;
                }
            }
            // Probably made by a macro; the text does not show it.
            return (at != from || segments.len() > 1).then(|| (at, segment.clone()));
        }
        None
    }
}

/// The room of a file: its first folder, or the file itself.
pub(crate) fn room_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or_default();
    first.trim_end_matches(".rs")
}

fn module_path(file: &str) -> ModulePath {
    let mut path: ModulePath = file
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if path.last().is_some_and(|last| last == "mod") || path == ["lib"] {
        path.pop();
    }
    path
}

/// Scans the modules of one file.
struct Reader<'a, 't> {
    file: &'a str,
    tokens: &'a [String],
    modules: &'t mut BTreeMap<ModulePath, Module>,
    tests: &'t mut BTreeSet<ModulePath>,
}

impl Reader<'_, '_> {
    fn read(mut self, path: ModulePath) {
        let end = self.tokens.len();
        self.module(path, 0, end);
    }

    fn is(&self, at: usize, token: &str) -> bool {
        self.tokens.get(at).is_some_and(|found| found == token)
    }

    /// The end of the group that opens at `at`.
    fn end_of_group(&self, at: usize) -> usize {
        let mut depth = 0_usize;
        for index in at..self.tokens.len() {
            match self.tokens[index].as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return index + 1;
            }
        }
        self.tokens.len()
    }

    fn module(&mut self, path: ModulePath, begin: usize, end: usize) {
        let mut module = Module {
            file: self.file.to_owned(),
            ..Module::default()
        };
        let (mut at, mut depth, mut is_test, mut is_public) = (begin, 0_usize, false, false);
        while at < end {
            let token = self.tokens[at].as_str();
            match token {
                "#" => {
                    let open = at + 1 + usize::from(self.is(at + 1, "!"));
                    let after = self.end_of_group(open);
                    let attribute = &self.tokens[open..after];
                    is_test |= attribute == ["[", "cfg", "(", "test", ")", "]"];
                    self.words(&mut module, open, after);
                    at = after;
                    continue;
                }
                "pub" => {
                    is_public = true;
                    at += 1;
                    if self.is(at, "(") {
                        at = self.end_of_group(at);
                    }
                    continue;
                }
                "mod" if depth == 0 && self.is(at + 2, ";") => {
                    let name = self.tokens[at + 1].clone();
                    if is_test {
                        self.tests.insert([path.as_slice(), &[name]].concat());
                    } else {
                        module.children.insert(name);
                    }
                    at += 2;
                }
                "mod" if depth == 0 && self.is(at + 2, "{") => {
                    let name = self.tokens[at + 1].clone();
                    let after = self.end_of_group(at + 2);
                    if !is_test {
                        let child = [path.as_slice(), std::slice::from_ref(&name)].concat();
                        module.children.insert(name);
                        self.module(child, at + 3, after - 1);
                    }
                    at = after - 1;
                }
                "use" => {
                    let semicolon = (at..end).find(|at| self.is(*at, ";")).unwrap_or(end);
                    use_tree(
                        &self.tokens[at + 1..semicolon],
                        &[],
                        is_public,
                        &mut module.uses,
                    );
                    at = semicolon;
                }
                "struct" | "enum" | "trait" | "fn" | "const" | "static" | "type" | "union"
                    if depth == 0 =>
                {
                    if let Some(name) = self.tokens.get(at + 1).filter(|name| is_word(name)) {
                        module.defined.insert(name.clone());
                    }
                }
                "macro_rules" if self.is(at + 1, "!") => {
                    module.defined.insert(self.tokens[at + 2].clone());
                }
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                word if is_word(word) => {
                    at = self.path(&mut module, at);
                    // A modifier of an item does not tell its kind yet.
                    if !matches!(word, "async" | "unsafe") {
                        (is_test, is_public) = (false, false);
                    }
                    continue;
                }
                _ => {}
            }
            (is_test, is_public) = (false, false);
            at += 1;
        }
        self.modules.insert(path, module);
    }

    /// Words and paths of a range without items.
    fn words(&self, module: &mut Module, begin: usize, end: usize) {
        let mut at = begin;
        while at < end {
            at = if is_word(&self.tokens[at]) {
                self.path(module, at)
            } else {
                at + 1
            };
        }
    }

    /// Records the word at `at`, with the path that it begins; returns the end of the path.
    fn path(&self, module: &mut Module, at: usize) -> usize {
        let continues = at > 0 && matches!(self.tokens[at - 1].as_str(), "." | "::");
        let mut segments = vec![self.tokens[at].clone()];
        let mut end = at + 1;
        while self.is(end, "::") && self.tokens.get(end + 1).is_some_and(|token| is_word(token)) {
            segments.push(self.tokens[end + 1].clone());
            end += 2;
        }
        if !continues {
            module.words.insert(segments[0].clone());
            if segments.len() > 1 {
                module.paths.insert(segments);
            }
        }
        end
    }
}

/// The names of a `use`, as full paths.
fn use_tree(tokens: &[String], prefix: &[String], is_public: bool, uses: &mut Vec<Use>) {
    let mut path = prefix.to_vec();
    let mut name = None;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "::" => {}
            "as" => {
                name = tokens.get(at + 1).cloned();
                at += 1;
            }
            "{" => {
                let inner = &tokens[at + 1..tokens.len() - 1];
                let (mut depth, mut begin) = (0_usize, 0);
                for index in 0..=inner.len() {
                    match inner.get(index).map(String::as_str) {
                        Some("{") => depth += 1,
                        Some("}") => depth -= 1,
                        Some(",") | None if depth == 0 => {
                            if begin < index {
                                use_tree(&inner[begin..index], &path, is_public, uses);
                            }
                            begin = index + 1;
                        }
                        _ => {}
                    }
                }
                return;
            }
            segment => path.push(segment.to_owned()),
        }
        at += 1;
    }
    if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    if let Some(last) = path.last().cloned() {
        uses.push(Use {
            name: name.unwrap_or(last),
            path,
            is_public,
        });
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::` and single symbols of a text; comments and literals are left out.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    let starts = |at: usize, what: &str| {
        what.chars()
            .enumerate()
            .all(|(index, c)| chars.get(at + index) == Some(&c))
    };
    while let Some(c) = chars.get(at).copied() {
        if starts(at, "//") {
            while chars.get(at).is_some_and(|c| *c != '\n') {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 0_usize;
            loop {
                if starts(at, "/*") {
                    depth += 1;
                    at += 2;
                } else if starts(at, "*/") {
                    depth -= 1;
                    at += 2;
                } else {
                    at += 1;
                }
                if depth == 0 || at >= chars.len() {
                    break;
                }
            }
        } else if c == '"' {
            at = end_of_text(&chars, at);
        } else if c == '\'' {
            at = end_of_char(&chars, at);
        } else if c.is_alphabetic() || c == '_' {
            let begin = at;
            while chars
                .get(at)
                .is_some_and(|c| c.is_alphanumeric() || *c == '_')
            {
                at += 1;
            }
            let word: String = chars[begin..at].iter().collect();
            let hashes = chars[at..].iter().take_while(|c| **c == '#').count();
            if matches!(word.as_str(), "r" | "br" | "cr") && chars.get(at + hashes) == Some(&'"') {
                at = end_of_raw_text(&chars, at + hashes + 1, hashes);
            } else if word == "r" && hashes == 1 {
                // A raw identifier: what follows is the word.
                at += 1;
            } else if !(word == "b" && matches!(chars.get(at), Some('"' | '\''))) {
                tokens.push(word);
            }
        } else if c.is_ascii_digit() {
            while chars
                .get(at)
                .is_some_and(|c| c.is_alphanumeric() || *c == '_')
            {
                at += 1;
            }
        } else if starts(at, "::") {
            tokens.push("::".to_owned());
            at += 2;
        } else {
            if !c.is_whitespace() {
                tokens.push(c.to_string());
            }
            at += 1;
        }
    }
    tokens
}

fn end_of_text(chars: &[char], open: usize) -> usize {
    let mut at = open + 1;
    while let Some(c) = chars.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

fn end_of_raw_text(chars: &[char], begin: usize, hashes: usize) -> usize {
    let is_end = |at: usize| {
        chars[at] == '"' && (1..=hashes).all(|index| chars.get(at + index) == Some(&'#'))
    };
    (begin..chars.len())
        .find(|at| is_end(*at))
        .map_or(chars.len(), |at| at + hashes + 1)
}

/// The position after a character literal, or after the quote of a lifetime.
fn end_of_char(chars: &[char], open: usize) -> usize {
    match (chars.get(open + 1), chars.get(open + 2)) {
        (Some('\\'), _) => {
            let close = (open + 3..chars.len()).find(|at| chars[*at] == '\'');
            close.map_or(chars.len(), |at| at + 1)
        }
        (Some(_), Some('\'')) => open + 3,
        _ => open + 1,
    }
}

fn sources(files: &[(&str, &str)]) -> Sources {
    Sources::read("house", files.iter().copied())
}

/// The imports as lines: which file takes which name from where.
fn lines(files: &[(&str, &str)]) -> Vec<String> {
    let imports = sources(files).imports();
    let line = |i: &Import| format!("{} <- {} {}", i.from, i.to, i.name);
    let taken = imports.iter().filter(|import| !import.passes_on);
    let mut lines: Vec<String> = taken.map(line).collect();
    lines.sort();
    lines
}

#[test]
fn a_name_is_followed_to_the_file_that_defines_it() {
    let found = lines(&[
        ("lib.rs", "mod low; mod high; pub use low::Brick;"),
        ("low/mod.rs", "mod brick; mod kiln; pub use brick::Brick;"),
        ("low/brick.rs", "pub struct Brick;"),
        ("low/kiln.rs", "use super::Brick; pub fn fire(_: Brick) {}"),
        (
            "high.rs",
            "use crate::{Brick, low::{self, Brick as Stone}};
             fn wall(_: Brick, _: Stone) { low::kiln::fire(crate::low::Brick) }",
        ),
    ]);
    assert_eq!(
        found,
        [
            "high.rs <- low/brick.rs Brick",
            "high.rs <- low/brick.rs Brick",
            "high.rs <- low/kiln.rs fire",
            "low/kiln.rs <- low/brick.rs Brick",
        ]
    );
}

#[test]
fn comments_literals_and_tests_are_no_imports() {
    let found = lines(&[
        ("lib.rs", "mod a; mod b; mod c; #[cfg(test)] mod planted;"),
        ("a.rs", "pub struct A; pub const N: usize = 1;"),
        ("planted.rs", "use crate::a::A; fn f(_: A) {}"),
        (
            "b.rs",
            r#"//! `crate::a::A`
            /* crate::a::A /* */ crate::a::A */
            const TEXT: &str = "crate::a::A"; const RAW: &str = r"crate::a::A\";
            fn f<'a>(c: &'a char) -> bool { *c == '"' }
            #[cfg(test)]
            mod tests { use crate::a::A; fn f(_: A) {} }"#,
        ),
        // The code after a test module is still scanned, and an attribute may take a name.
        (
            "c.rs",
            "#[cfg(test)] mod tests { } #[error(super::a::N)] struct C; use crate::a::A; fn f(_: A) {}",
        ),
    ]);
    assert_eq!(found, ["c.rs <- a.rs A", "c.rs <- a.rs N"]);
    assert_eq!(
        tokens("r#\"a::b\"\"#; b'c' r#type::d"),
        [";", "type", "::", "d"]
    );
}

#[test]
fn a_planted_circle_is_found_and_a_facade_is_none() {
    let facade = [
        ("lib.rs", "mod room;"),
        ("room/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("room/a.rs", "pub struct A;"),
        ("room/b.rs", "use super::A; pub struct B(A);"),
    ];
    assert_eq!(sources(&facade).circles(), Vec::<Vec<String>>::new());

    let mut planted = facade;
    planted[2].1 = "use super::B; pub struct A(Box<B>);";
    assert_eq!(sources(&planted).circles(), [["room/a.rs", "room/b.rs"]]);

    // A facade that also uses what it re-exports is part of a cycle.
    let mut planted = facade;
    planted[1].1 = "mod a; mod b; pub use a::A; pub use b::B; pub struct Wall; fn f(_: B) {}";
    planted[3].1 = "use super::{A, Wall}; pub struct B(A, Wall);";
    assert_eq!(sources(&planted).circles(), [["room/b.rs", "room/mod.rs"]]);
}

#[test]
fn a_circle_of_many_files_is_one() {
    let planted = [
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "pub struct A(Box<crate::b::B>);"),
        ("b.rs", "use crate::c; pub struct B(c::C);"),
        ("c.rs", "use house::a::A; pub struct C(A);"),
        ("d.rs", "use crate::a::A; pub struct D(A);"),
    ];
    assert_eq!(sources(&planted).circles(), [["a.rs", "b.rs", "c.rs"]]);
}

#[test]
fn what_is_passed_on_is_told_apart() {
    let read = sources(&[
        ("lib.rs", "mod low; mod high;"),
        ("low.rs", "pub use crate::high::High;"),
        ("high.rs", "pub struct High;"),
    ]);
    let imports: Vec<Import> = read.imports().into_iter().collect();
    let [import] = imports.as_slice() else {
        panic!("one import: {imports:?}")
    };
    assert!(import.passes_on);
    assert_eq!(import.named.as_deref(), Some("high"));
    assert_eq!(
        (room_of(&import.from), room_of(&import.to)),
        ("low", "high")
    );
}
