//! Rules that a compiler does not check: layers, cycles, invariants, vocabulary.

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use imports::{Import, Sources, room_of};

/// A crate and the rules for its modules.
struct House {
    /// The folder below the workspace.
    folder: &'static str,
    crate_name: &'static str,
    /// Modules by layer, lowest first. A module imports only modules of lower layers. The same
    /// table is in ARCHITECTURE.md, without the crate's roots.
    layers: &'static [&'static [&'static str]],
    /// The start of the line above that table.
    table: &'static str,
    /// Known imports against the layers; each is justified where it is listed.
    known_upward: &'static [(&'static str, &'static str)],
    /// Known cycles between files, still to be removed.
    known_circles: &'static [&'static [&'static str]],
}

const ENGINE: House = House {
    folder: "engine",
    crate_name: "glyph_workflow_engine",
    layers: &[
        &["canonical", "ids", "limits", "consensus"],
        &["config", "expression", "reliability"],
        &["answer", "state"],
        &["events", "parser"],
        &["store", "transition", "assignment", "quality"],
        &["executor", "goals"],
        &["command"],
        &["timers"],
        &["decide"],
        &["orchestrator"],
        &["backtest", "simulation"],
        &["lib"],
    ],
    table: "Modules of the engine by layer",
    known_upward: &[
        // `events` re-exports the stores under the names that users of an event store look for.
        ("events", "store"),
    ],
    // A record's fields are questions, and a record is a kind of answer that a question asks for.
    known_circles: &[&[
        "answer/agreement.rs",
        "answer/ballot.rs",
        "answer/kinds/any.rs",
        "answer/kinds/boxes.rs",
        "answer/kinds/category.rs",
        "answer/kinds/each.rs",
        "answer/kinds/mod.rs",
        "answer/kinds/number.rs",
        "answer/kinds/ordinal.rs",
        "answer/kinds/polygons.rs",
        "answer/kinds/ranking.rs",
        "answer/kinds/record.rs",
        "answer/kinds/regions.rs",
        "answer/kinds/segments.rs",
        "answer/kinds/set.rs",
        "answer/kinds/spans.rs",
        "answer/kinds/text.rs",
        "answer/question.rs",
        "answer/unite.rs",
        "answer/value.rs",
    ]],
};

const WORKER: House = House {
    folder: "worker",
    crate_name: "glyph_worker",
    layers: &[
        &[
            "backoff",
            "broker",
            "diagram",
            "failpoints",
            "printable",
            "shutdown",
            "verbs",
        ],
        &["poll", "wire"],
        &["dead_letters", "labels", "metrics", "webhook"],
        &["settings"],
        &["telemetry"],
        &["amqp", "embedded", "outbox", "projections", "traces"],
        &["operations", "pipeline"],
        &["jobs", "timers"],
        &["http"],
        &["app"],
        &["cli"],
        &["lib", "main"],
    ],
    table: "Modules of the worker by layer",
    known_upward: &[],
    known_circles: &[],
};

const HOUSES: [&House; 2] = [&ENGINE, &WORKER];

impl House {
    fn source(&self) -> PathBuf {
        workspace().join(self.folder).join("src")
    }

    fn read(&self) -> Sources {
        let source = self.source();
        let mut found = Vec::new();
        files(&source, &mut found);
        let found: Vec<(String, String)> = found
            .into_iter()
            .map(|(path, text)| {
                let path = path.strip_prefix(&source).unwrap();
                let parts = path.components().map(|part| part.as_os_str().to_str());
                (parts.collect::<Option<Vec<_>>>().unwrap().join("/"), text)
            })
            .collect();
        Sources::read(
            self.crate_name,
            found
                .iter()
                .map(|(path, text)| (path.as_str(), text.as_str())),
        )
    }
}

/// Names of types, files and tables that were replaced by one word for one thing (the glossary of
/// ARCHITECTURE.md). They must not come back; plain English words may.
const RETIRED_TYPES: [&str; 44] = [
    "AckBook",
    "AckLane",
    "Act",
    "ActEnvelope",
    "ActLog",
    "AnnotatorStanding",
    "ChildStanding",
    "ChildTold",
    "ClaimedPlace",
    "Desk",
    "Doubt",
    "Due",
    "DueKind",
    "DueLane",
    "DueQueue",
    "DueRow",
    "DueRunner",
    "DueStats",
    "FreePlace",
    "GoalStep",
    "Guilty",
    "HeldPlace",
    "HookStanding",
    "Judged",
    "JudgedAnnotation",
    "Keeper",
    "KnownModels",
    "LearntModel",
    "LearntRow",
    "LearntTo",
    "OpenPlace",
    "OutsideHandler",
    "ParentTold",
    "PauseKeeper",
    "PlaceHolder",
    "PlaceIndex",
    "PlaceOrder",
    "PlaceQuery",
    "PlannedAct",
    "Prepared",
    "StepOutcome",
    "Unread",
    "WorkflowAct",
    "Worth",
];
const RETIRED_FILES: [&str; 9] = [
    "acts",
    "desk",
    "doubt",
    "due",
    "faults",
    "judgement",
    "keeper",
    "places",
    "unread",
];
const RETIRED_TABLES: [&str; 2] = ["places", "learnt_models"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[expect(clippy::disallowed_methods, reason = "reads the documentation")]
fn architecture() -> String {
    fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "reads the source")]
fn files(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// Imports of a room that is not below the importing one, by the path itself or by the definition
/// that the path resolves to.
fn upward<'i>(
    layers: &[&[&str]],
    known: &[(&str, &str)],
    imports: impl IntoIterator<Item = &'i Import>,
) -> BTreeSet<String> {
    let layer: BTreeMap<&str, usize> = layers
        .iter()
        .enumerate()
        .flat_map(|(level, rooms)| rooms.iter().map(move |room| (*room, level)))
        .collect();
    let mut faults = BTreeSet::new();
    for import in imports {
        let from = room_of(&import.from);
        for to in [import.named.as_deref(), Some(room_of(&import.to))] {
            // A path that names no room names something that the crate's root re-exports.
            let Some(to) = to.filter(|to| *to != from && layer.contains_key(to)) else {
                continue;
            };
            let is_below = layer.get(from).is_some_and(|level| layer[to] < *level);
            if !is_below && !known.contains(&(from, to)) {
                let Import { from, name, .. } = import;
                faults.insert(format!("{from} takes `{name}` from `{to}`"));
            }
        }
    }
    faults
}

/// The modules by layer as listed in the page.
fn layers_of_page<'p>(page: &'p str, heading: &str) -> Vec<BTreeSet<&'p str>> {
    let (_, after) = page
        .split_once(heading)
        .unwrap_or_else(|| panic!("ARCHITECTURE.md has `{heading}`"));
    after
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        // The header of the table, and the line below it.
        .skip(2)
        .enumerate()
        .map(|(level, row)| {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [number, modules, _] = cells.as_slice() else {
                panic!("three columns: {row}")
            };
            assert_eq!(*number, level.to_string(), "layers are numbered: {row}");
            names(modules).into_iter().collect()
        })
        .collect()
}

/// Names in backticks in a table cell.
fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_invariant_names_what_enforces_and_what_pins_it() {
    let root = workspace();
    let page = architecture();
    let mut sources = Vec::new();
    for folder in ["engine/src", "engine/tests", "worker/src", "worker/tests"] {
        files(&root.join(folder), &mut sources);
    }
    let code: String = sources.into_iter().map(|(_, text)| text).collect();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| INV-"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(
        rows.len() >= 15,
        "the table of invariants is read: {}",
        rows.len()
    );
    for row in &rows {
        let [id, _, enforced, pinned] = row.as_slice() else {
            panic!("four columns: {row:?}")
        };
        assert!(!enforced.is_empty(), "{id} is enforced by something");
        assert!(!names(pinned).is_empty(), "{id} is pinned by a test");
        for test in names(pinned) {
            assert!(
                code.contains(&format!("fn {test}(")),
                "{id} names the test `{test}`"
            );
        }
    }
    // An assertion that names an invariant must name one of the table.
    for (at, assertion) in code.match_indices("expect(\"INV-") {
        let at = at + assertion.len() - "INV-".len();
        let id = &code[at..at + "INV-00".len()];
        assert!(
            rows.iter().any(|row| row[0].trim() == id),
            "`{id}` is in the table"
        );
    }
}

#[test]
fn every_module_has_one_layer() {
    for house in HOUSES {
        let sources = house.read();
        let rooms: BTreeSet<&str> = sources.files().into_iter().map(room_of).collect();
        let listed: Vec<&str> = house.layers.concat();
        let known: BTreeSet<&str> = listed.iter().copied().collect();
        assert_eq!(known.len(), listed.len(), "no module is listed twice");
        assert_eq!(rooms, known, "modules of `{}`", house.folder);
    }
}

#[test]
fn modules_import_only_lower_layers() {
    for house in HOUSES {
        let imports = house.read().imports();
        assert!(imports.len() > 100, "the imports are read");
        let faults = upward(house.layers, house.known_upward, &imports);
        assert!(faults.is_empty(), "{}: {faults:#?}", house.folder);
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for house in HOUSES {
        let found = house.read().circles();
        let (known, new): (Vec<_>, Vec<_>) = found.into_iter().partition(|circle| {
            // What remains of a known cycle counts as known.
            let is_in = |known: &[&str]| circle.iter().all(|file| known.contains(&file.as_str()));
            house.known_circles.iter().any(|known| is_in(known))
        });
        println!("{}: known circles: {known:#?}", house.folder);
        assert!(new.is_empty(), "{}: {new:#?}", house.folder);
    }
}

#[test]
fn the_page_shows_the_layers() {
    let page = architecture();
    for house in HOUSES {
        let shown = layers_of_page(&page, house.table);
        let roots = ["lib", "main"];
        let checked: Vec<BTreeSet<&str>> = house
            .layers
            .iter()
            .map(|rooms| rooms.iter().copied().filter(|r| !roots.contains(r)))
            .map(Iterator::collect)
            .filter(|rooms: &BTreeSet<&str>| !rooms.is_empty())
            .collect();
        assert_eq!(shown, checked, "layers of `{}`", house.folder);
    }
}

/// The names that a source declares as types.
fn declared_types(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    text.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        let keyword = words.find(|word| !word.starts_with("pub") && *word != "async")?;
        let name = words.next()?;
        let declares = matches!(keyword, "struct" | "enum" | "trait" | "type");
        declares.then(|| name.split(|c| !is_name(c)).next().unwrap_or_default())
    })
}

#[test]
#[expect(clippy::disallowed_methods, reason = "reads the migrations")]
fn retired_words_name_nothing() {
    let root = workspace();
    let mut sources = Vec::new();
    for folder in ["engine/src", "engine/tests", "worker/src", "worker/tests"] {
        files(&root.join(folder), &mut sources);
    }
    for (path, text) in &sources {
        let stem = path.file_stem().unwrap().to_string_lossy();
        assert!(!RETIRED_FILES.contains(&&*stem), "{}", path.display());
        // The tracker of goals has an enum of its own for what is due.
        let is_private = path.ends_with("goals/tracker.rs");
        let retired: Vec<&str> = declared_types(text)
            .filter(|name| RETIRED_TYPES.contains(name) && !(is_private && *name == "Due"))
            .collect();
        assert!(retired.is_empty(), "{}: {retired:?}", path.display());
    }
    let mut tables = 0;
    for folder in ["postgres", "sqlite", "embedded_queue"] {
        for entry in fs::read_dir(root.join("migrations").join(folder)).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            for (_, after) in text
                .match_indices("CREATE TABLE ")
                .map(|(at, m)| (at, &text[at + m.len()..]))
            {
                let name = after.split([' ', '(']).next().unwrap_or_default();
                assert!(!RETIRED_TABLES.contains(&name), "table `{name}`");
                tables += 1;
            }
        }
    }
    assert!(tables > 20, "the migrations are read: {tables}");
    assert_eq!(
        declared_types("pub(super) struct Desk<'a> {\n  let x = enum_of();\n").collect::<Vec<_>>(),
        ["Desk"]
    );
}

#[test]
fn a_planted_upward_import_is_found() {
    let layers: &[&[&str]] = &[&["low"], &["middle", "beside"], &["high"], &["lib"]];
    let faults = |files: &[(&str, &str)], known: &[(&str, &str)]| {
        let imports = Sources::read("house", files.iter().copied()).imports();
        upward(layers, known, &imports)
    };
    let mut files = [
        (
            "lib.rs",
            "mod low; mod middle; mod beside; mod high; pub use high::High;",
        ),
        ("low.rs", "pub struct Low;"),
        ("middle.rs", "use crate::low::Low; pub struct Middle(Low);"),
        ("beside.rs", "pub struct Beside;"),
        (
            "high.rs",
            "pub struct High(crate::middle::Middle, crate::low::Low);",
        ),
    ];
    assert_eq!(faults(&files, &[]), BTreeSet::new());

    files[1].1 = "pub struct Low; fn f(_: crate::high::High) {}";
    let planted = ["low.rs takes `High` from `high`".to_owned()];
    assert_eq!(faults(&files, &[]), planted.clone().into());
    assert_eq!(faults(&files, &[("low", "high")]), BTreeSet::new());

    // The same by the name that the crate's root gives it.
    files[1].1 = "use crate::High; pub struct Low; fn f(_: High) {}";
    assert_eq!(faults(&files, &[]), planted.into());

    files[1].1 = "pub struct Low;";
    files[2].1 = "use crate::beside::Beside; pub struct Middle(Beside);";
    let planted = "middle.rs takes `Beside` from `beside`".to_owned();
    assert_eq!(faults(&files, &[]), [planted].into());
}
