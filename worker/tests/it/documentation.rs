//! The pages for people: all of them are in the book, their links lead somewhere, and each command
//! line that they show is one that the binary takes.

mod shell;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use clap::CommandFactory as _;
use glyph_worker::cli::Cli;

/// The folder that mdBook reads, with links to what the pages link to.
const BOOK: &str = "book";

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap()
}

/// A page as it stands in the repository.
struct Page {
    /// Below the root, as `docs/running.md`.
    path: String,
    text: String,
}

/// A fenced block.
struct Block<'p> {
    /// What follows the fence, as `console`.
    kind: &'p str,
    lines: Vec<&'p str>,
}

impl Page {
    /// The lines outside of fenced blocks, and the blocks.
    fn split(&self) -> (Vec<&str>, Vec<Block<'_>>) {
        let (mut prose, mut blocks) = (Vec::new(), Vec::<Block<'_>>::new());
        let mut is_inside = false;
        for line in self.text.lines() {
            if let Some(kind) = line.trim_start().strip_prefix("```") {
                is_inside = !is_inside;
                if is_inside {
                    let lines = Vec::new();
                    blocks.push(Block { kind, lines });
                }
            } else if let Some(block) = blocks.last_mut().filter(|_| is_inside) {
                block.lines.push(line);
            } else {
                prose.push(line);
            }
        }
        assert!(!is_inside, "{}: a block does not end", self.path);
        (prose, blocks)
    }

    /// What is in backticks outside of blocks, lines joined; and the text without it.
    fn spans(&self) -> (Vec<String>, String) {
        let (mut spans, mut rest) = (Vec::new(), String::new());
        // A paragraph at a time, so that an odd backtick spoils one only.
        for paragraph in self.split().0.join("\n").split("\n\n") {
            for (index, part) in paragraph.split('`').enumerate() {
                if index % 2 == 1 {
                    spans.push(part.split_whitespace().collect::<Vec<_>>().join(" "));
                } else {
                    rest.push_str(part);
                }
            }
            rest.push_str("\n\n");
        }
        (spans, rest)
    }

    /// Targets of links to other files and to headings.
    fn links(&self) -> Vec<String> {
        let (_, text) = self.spans();
        let targets = text.split("](").skip(1);
        targets
            .filter_map(|target| target.split_once(')'))
            .map(|(target, _)| target.to_owned())
            .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
            .collect()
    }

    /// The anchors of its headings, as both GitHub and mdBook name them.
    fn anchors(&self) -> BTreeSet<String> {
        let (prose, _) = self.split();
        let titles = prose.iter().filter(|line| line.starts_with('#'));
        let mut seen = BTreeMap::new();
        titles
            .map(|line| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                let kept = title.chars().filter_map(|c| match c {
                    ' ' => Some('-'),
                    c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                    _ => None,
                });
                let anchor: String = kept.collect();
                let before = seen.entry(anchor.clone()).or_insert(0);
                *before += 1;
                match *before {
                    1 => anchor,
                    again => format!("{anchor}-{}", again - 1),
                }
            })
            .collect()
    }

    /// The path below the root of what a link names, and its anchor.
    fn resolve(&self, link: &str) -> (String, Option<String>) {
        let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
        let anchor = (!anchor.is_empty()).then(|| anchor.to_owned());
        if file.is_empty() {
            return (self.path.clone(), anchor);
        }
        let folder = Path::new(&self.path).parent().unwrap();
        let mut parts = Vec::new();
        for part in folder.join(file).components() {
            match part {
                Component::ParentDir => assert!(parts.pop().is_some(), "{}: {link}", self.path),
                part => parts.push(part.as_os_str().to_str().unwrap().to_owned()),
            }
        }
        (parts.join("/"), anchor)
    }
}

/// Every page of the repository, but for the templates of a forge.
fn pages() -> Vec<Page> {
    fn find(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                let is_ours = !name.starts_with('.') && !["target", "node_modules"].contains(&name);
                if is_ours && !path.ends_with(BOOK) {
                    find(&path, found);
                }
            } else if path.extension().is_some_and(|ending| ending == "md") {
                found.push(path);
            }
        }
    }
    let (root, mut found) = (root(), Vec::new());
    find(&root, &mut found);
    found.sort();
    let below = |path: &PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
    found
        .iter()
        .map(|path| Page {
            path: below(path),
            text: fs::read_to_string(path).unwrap(),
        })
        .collect()
}

/// The pages that the book's table of contents lists.
fn listed() -> Vec<String> {
    let path = format!("{BOOK}/SUMMARY.md");
    let text = fs::read_to_string(root().join(&path)).unwrap();
    let summary = Page { path, text };
    let links = summary.links();
    links
        .iter()
        .map(|link| {
            let (path, anchor) = summary.resolve(link);
            assert_eq!(anchor, None, "{link}: mdBook lists whole pages");
            path.strip_prefix("book/").unwrap().to_owned()
        })
        .collect()
}

#[test]
fn every_page_of_the_docs_is_in_the_book_once() {
    let listed = listed();
    let distinct: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len(), "{listed:?}");
    for page in pages() {
        if page.path.starts_with("docs/") {
            assert!(distinct.contains(&page.path), "{} is missing", page.path);
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_that_is_there() {
    let (pages, listed) = (pages(), listed());
    let anchors: BTreeMap<&str, BTreeSet<String>> = pages
        .iter()
        .map(|page| (&*page.path, page.anchors()))
        .collect();
    let (mut faults, mut followed) = (Vec::new(), 0);
    for page in &pages {
        let is_in_the_book = listed.contains(&page.path);
        for link in page.links() {
            let (path, anchor) = page.resolve(&link);
            let is_file = root().join(&path).is_file();
            // A folder is a page of a forge, and nothing in the book.
            if !is_file || is_in_the_book && !root().join(BOOK).join(&path).is_file() {
                let what = if is_file {
                    "not in the book"
                } else {
                    "no file"
                };
                faults.push(format!("{}: {link}: {what}", page.path));
            }
            let is_there =
                |anchor: &String| anchors.get(&*path).is_some_and(|a| a.contains(anchor));
            if anchor.is_some_and(|anchor| !is_there(&anchor)) {
                faults.push(format!("{}: {link}: no such heading", page.path));
            }
            let is_page = Path::new(&path)
                .extension()
                .is_some_and(|ending| ending == "md");
            if is_in_the_book && is_page && !listed.contains(&path) {
                faults.push(format!("{}: {link}: no page of the book", page.path));
            }
            followed += 1;
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(followed > 200, "{followed} links");
}

/// The arguments of `glyph` in a simple command, by whatever program it is started.
fn of_glyph(words: &[String]) -> Option<Vec<String>> {
    let is_glyph = |word: &String| word == "glyph" || word.ends_with("/glyph");
    let is_cargo_run = words.starts_with(&["cargo".to_owned(), "run".to_owned()]);
    let names_another = ["-p", "--package", "--bin", "--example"];
    let at = match words.first()?.as_str() {
        "docker" | "kubectl" => words.iter().position(is_glyph)?,
        "cargo" if is_cargo_run && !words.iter().any(|word| names_another.contains(&&**word)) => {
            words.iter().position(|word| word == "--")?
        }
        _ => words.first().filter(|word| is_glyph(word)).map(|_| 0)?,
    };
    let own = words.iter().skip(at + 1).cloned();
    Some(["glyph".to_owned()].into_iter().chain(own).collect())
}

#[test]
fn every_command_line_of_the_pages_is_one_that_the_binary_takes() {
    let (mut taken, mut faults) = (0, Vec::new());
    for page in pages() {
        for block in page.split().1 {
            let script: Vec<&str> = match block.kind {
                // What a prompt begins and what a backslash continues; the rest is output.
                "console" => {
                    let mut goes_on = false;
                    let lines = block.lines.iter().filter_map(|line| {
                        let line = line.trim_start();
                        let typed = line.strip_prefix("$ ").or(goes_on.then_some(line));
                        goes_on = typed.is_some_and(|typed| typed.ends_with('\\'));
                        typed
                    });
                    lines.collect()
                }
                "sh" | "bash" => block.lines,
                _ => continue,
            };
            for words in shell::commands(&script.join("\n")) {
                let Some(arguments) = of_glyph(&words) else {
                    continue;
                };
                taken += 1;
                // Help that is asked for is no fault, and not written to standard error.
                let read = Cli::read(arguments.iter().map(Into::into));
                if let Some(error) = read.err().filter(clap::Error::use_stderr) {
                    faults.push(format!("{}: {}: {error}", page.path, arguments.join(" ")));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(taken > 40, "{taken} commands");
}

/// In prose a command may lack what it needs; its verb and its flags are there.
#[test]
fn every_verb_and_flag_that_the_prose_names_exists() {
    let (mut named, mut faults) = (0, Vec::new());
    let mut whole = Cli::command();
    whole.build();
    for page in pages() {
        // What was renamed keeps its name in the history.
        if page.path == "CHANGELOG.md" {
            continue;
        }
        for span in page
            .spans()
            .0
            .iter()
            .filter(|span| span.starts_with("glyph "))
        {
            named += 1;
            let mut verb = &whole;
            for words in shell::commands(span).iter().take(1) {
                let mut words = words.iter().skip(1).peekable();
                while let Some(below) = words.peek().and_then(|word| verb.find_subcommand(word)) {
                    verb = below;
                    words.next();
                }
                if let Some(word) = words.peek()
                    && verb.has_subcommands()
                    && word.starts_with(|c: char| c.is_ascii_lowercase())
                {
                    faults.push(format!("{}: `{span}`: no verb {word}", page.path));
                }
                for word in words.filter(|word| word.starts_with("--") && word.len() > 2) {
                    let flag = word.trim_start_matches("--");
                    let flag = flag.split('=').next().unwrap_or(flag);
                    let is_of = |command: &clap::Command| {
                        command.get_arguments().any(|a| a.get_long() == Some(flag))
                    };
                    if !is_of(verb) && !is_of(&whole) {
                        faults.push(format!("{}: `{span}`: no flag {word}", page.path));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(named > 80, "{named} commands");
}
