//! The table of verbs against the routes, the commands and the console; `docs/verbs.md` shows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory;
use glyph_worker::{
    cli::Cli,
    http::operation_names,
    verbs::{TOPICS, Verb},
};

fn verbs() -> impl Iterator<Item = &'static Verb> {
    TOPICS.iter().flat_map(|topic| topic.verbs)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The commands below a command, each with the words before it.
pub(crate) fn commands(of: &clap::Command, before: &str) -> Vec<String> {
    let below = of.get_subcommands().flat_map(|command| {
        let words = format!("{before}{}", command.get_name());
        if command.has_subcommands() {
            commands(command, &format!("{words} "))
        } else {
            vec![words]
        }
    });
    below.collect()
}

/// What is in one set alone.
fn assert_same(what: &str, named: &BTreeSet<String>, there: &BTreeSet<String>) {
    let unnamed: Vec<_> = there.difference(named).collect();
    let gone: Vec<_> = named.difference(there).collect();
    assert!(
        unnamed.is_empty() && gone.is_empty(),
        "{what} that worker/src/verbs.rs does not name: {unnamed:?}; that it names and are not there: {gone:?}"
    );
}

#[test]
fn every_operation_is_in_the_table() {
    let named = verbs()
        .flat_map(|verb| verb.http)
        .map(|&name| name.to_owned());
    let served = operation_names().into_iter().collect();
    assert_same("operations", &named.collect(), &served);
}

#[test]
fn every_command_is_in_the_table() {
    let named = verbs()
        .flat_map(|verb| verb.cli)
        .map(|&name| name.to_owned());
    let there = commands(&Cli::command(), "").into_iter().collect();
    assert_same("commands", &named.collect(), &there);
}

#[test]
fn a_verb_of_one_side_says_why() {
    for verb in verbs() {
        let is_on_both = !verb.http.is_empty() && !verb.cli.is_empty();
        assert_eq!(verb.one_side.is_none(), is_on_both, "{}", verb.does);
    }
}

/// A path with `{}` in place of each parameter, and without what is asked of it.
fn shape(path: &str) -> Vec<String> {
    let path = path.split('?').next().unwrap_or_default();
    let is_parameter = |part: &str| part.contains(['{', '$']);
    let parts = path.trim_matches('/').split('/');
    parts
        .map(|part| if is_parameter(part) { "{}" } else { part }.to_owned())
        .collect()
}

/// Whether a call that names a part in a variable may mean an operation.
fn means(called: &[String], operation: &[String]) -> bool {
    let alike = |(one, other): (&String, &String)| one == "{}" || one == other || other == "{}";
    called.len() == operation.len() && called.iter().zip(operation).all(alike)
}

/// The paths that a page of the console calls, below `/api/v1`.
fn calls(page: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for name in ["get(", "getText(", "post(", "all(", "address("] {
        for (at, _) in page.match_indices(name) {
            let before = page[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '.') {
                continue;
            }
            let rest = &page[at + name.len()..];
            let Some(quote) = rest.chars().next().filter(|c| ['\'', '`'].contains(c)) else {
                continue;
            };
            let path = rest[1..].split(quote).next().unwrap_or_default();
            found.push(shape(&format!("api/v1/{path}")));
        }
    }
    found
}

#[test]
fn the_console_does_what_the_table_says_and_nothing_else() {
    let mut pages: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    for verb in verbs() {
        for page in verb.console {
            let paths = verb.http.iter().map(|name| name.split(' ').nth(1).unwrap());
            pages.entry(page).or_default().extend(paths.map(shape));
        }
    }
    let folder = root().join("worker/src/http/ui");
    for (page, operations) in pages {
        let file = folder.join(format!("{page}.js"));
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let mut called = calls(&text);
        // The status comes by the stream that all pages share.
        if text.contains("onStatus(") {
            called.push(shape("ui/events"));
        }
        // Where the path begins in a variable, it is one of two kinds of list.
        if page == "letters" {
            for kind in ["dead-letters", "rejected"] {
                called
                    .extend(["replay", "drop"].map(|verb| shape(&format!("api/v1/{kind}/{verb}"))));
            }
            called.retain(|path| path.get(2).is_some_and(|part| part != "{}"));
        }
        for path in &called {
            let is_named = operations.iter().any(|operation| means(path, operation));
            assert!(is_named, "{page} calls {path:?}, which is not in the table");
        }
        for operation in &operations {
            let is_status = operation.last().is_some_and(|part| part == "status");
            let is_called = called.iter().any(|path| means(path, operation));
            assert!(is_called || is_status, "{page} does not call {operation:?}");
        }
    }
}

fn cell(names: &[&str], of: impl Fn(&str) -> String) -> String {
    let names: Vec<String> = names.iter().map(|name| of(name)).collect();
    if names.is_empty() {
        "–".to_owned()
    } else {
        names.join("<br>")
    }
}

#[test]
fn the_page_shows_the_table() {
    let mut generated = String::new();
    for topic in TOPICS {
        write!(
            generated,
            "\n## {}\n\n| what | HTTP | command | console | on one side, since it |\n|---|---|---|---|---|\n",
            topic.title
        )
        .unwrap();
        for verb in topic.verbs {
            let http = cell(verb.http, |name| format!("`{name}`"));
            let cli = cell(verb.cli, |name| format!("`glyph {name}`"));
            let console = cell(verb.console, str::to_owned);
            let reason = verb.one_side.unwrap_or_default();
            writeln!(
                generated,
                "| {} | {http} | {cli} | {console} | {reason} |",
                verb.does
            )
            .unwrap();
        }
    }
    let file = root().join("docs/verbs.md");
    let mut text = fs::read_to_string(&file).unwrap();
    let (begin, end) = ("<!-- verbs: generated -->\n", "\n<!-- end -->");
    let from = text.find(begin).unwrap() + begin.len();
    let to = from + text[from..].find(end).unwrap();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        text.replace_range(from..to, &generated);
        fs::write(&file, text).unwrap();
        return;
    }
    assert_eq!(
        &text[from..to],
        generated,
        "docs/verbs.md: run the test with UPDATE_SCHEMAS=1"
    );
}
