//! Every verb by both ways, against one deployment: by its store, and by a worker's HTTP API.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::Instant,
};

use chrono::Utc;
use clap::CommandFactory;
use glyph_worker::{
    cli::Cli,
    embedded::{EmbeddedDeadLetters, EmbeddedPublisher, EmbeddedQueue},
    http::{Api, BrokerSlot, Health, router},
    settings::Tokens,
    verbs::only_here,
    wire::{CloudEventMessages, Links},
};
use glyph_workflow_engine::{WorkflowOrchestrator, store::SqliteEventStore};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{DUAL, Glyph, code, path, stderr};
use crate::{
    http_api::Direct,
    support::{DEADLINE, engine::HELD, tokens::line},
    verbs::commands,
};

const TOKEN: &str = "of-the-test";
const NAME: &str = "ada";

/// Verbs that need no service, and so ask no worker.
const ALONE: [&str; 8] = [
    "completions",
    "config check",
    "demo",
    "man",
    "settings",
    "task id",
    "workflow dry-run",
    "workflow validate",
];

/// Verbs that no worker does, each with what it has to be given.
const REFUSED: [(&str, &[&str]); 12] = [
    ("bench", &[]),
    ("events replay", &["--to", "nowhere"]),
    ("migrate", &[]),
    ("publish", &["nothing.jsonl"]),
    ("rebuild", &[]),
    ("rejected export", &["nothing.jsonl"]),
    ("restore", &[]),
    ("retention", &[]),
    ("storage", &[]),
    ("topology adopt", &[]),
    ("topology declare", &[]),
    ("worker", &[]),
];

fn id(n: u128) -> String {
    Uuid::from_u128(n).to_string()
}

/// What is done by both ways, in this order; `{n}` is the UUID of a number. What a reader sees of one
/// verb is what the verbs before have left, so both ways must leave the same.
const DONE: &str = r"
status
stuck
task list
task list --workflow sentiment-dual --status running --label batch=a --limit 2
task list --incident no_transition
task list --incident --oldest
task list --held-by {13}
task state {1}
task state {2}
task state {1} --at-version 2
task state {99}
task history {1}
task history {2} --after 1 --limit 2
task history {99}
task explain {1}
task explain {2}
task explain {7}
incident list
incident list --code no_transition --workflow held
workflow list
workflow list --workflow sentiment-dual
workflow show sentiment-dual
workflow show sentiment-dual@1 --expanded
workflow show nobody
workflow yaml sentiment-dual@1
workflow diff sentiment-dual@1 held
workflow answers sentiment-dual
workflow visualize held
workflow flow sentiment-dual
workflow trial sentiment-dual --tasks 20
goal list
goal show held sign-off
goal show held nothing
agreement
agreement --workflow sentiment-dual --class positive
annotator list
annotator list --workflow sentiment-dual
annotator show {11}
labels calibration
labels export --workflow sentiment-dual
labels export --workflow sentiment-dual --format csv --with-annotators
labels export --workflow nobody
labels suspect --workflow sentiment-dual
backtest --workflow sentiment-dual --set steps.annotate.completion.count=3
events tail
events tail --as messages --type task.completed,step_completed --workflow sentiment-dual
events tail --from end
outbox list
outbox drop {99}
rejected list
rejected list --reason duplicate_submission --limit 1
rejected list --by-reason
rejected show {1004}
rejected show {99}
dead-letter list
dead-letter list --by-reason
dead-letter list --set-aside
dead-letter show {1005}
dead-letter show {99}
job list
job show {99}
assignment list --user {13}
task import {items} -w sentiment-dual --id-field item --user-field who --answer-field label --dry-run
";

/// What changes something: each line once, as JSON.
const CHANGES: &str = r#"
task start {50} --workflow sentiment-dual --label batch=b --input {"text":"x"} --command-id {2001}
task start {50} --workflow sentiment-dual --label batch=b --input {"text":"x"} --command-id {2001}
task start {51} --workflow nobody --command-id {2002}
task assign {50} --user {21} --command-id {2003}
task activity {50} --user {21} --draft {"label":"?"} --command-id {2004}
task release {50} --user {21} --reason lunch --command-id {2005}
task submit {50} --user {21} --data {"label":"positive"} --command-id {2006}
task submit {50} --user {21} --data {"label":"positive"} --command-id {2007}
task pause {50} --reason later --command-id {2008}
task resume {50} --command-id {2009}
task advance {50} --command-id {2010}
task retry {7} --command-id {2011}
task retry {50} --command-id {2012}
task migrate {3} --to sentiment-dual@1 --dry-run --command-id {2013}
task migrate {3} --to sentiment-dual@1 --command-id {2014}
task migrate --workflow sentiment-dual --to sentiment-dual --dry-run --command-id {2015}
task migrate --workflow sentiment-dual --to nobody --command-id {2016}
task cancel {50} --reason enough --command-id {2017}
assignment next --user {22} --workflow sentiment-dual --command-id {2018}
assignment list --user {22}
assignment release --user {22} --reason gone
annotator pause sentiment-dual {22} --reason break --command-id {2019}
assignment next --user {22} --workflow sentiment-dual --command-id {2020}
annotator resume sentiment-dual {22} --command-id {2021}
workflow create {file}
workflow pause sentiment-dual --reason holidays --command-id {2022}
assignment next --user {22} --workflow sentiment-dual --command-id {2029}
task submit {3} --user {23} --data {"label":"positive"} --command-id {2023}
workflow list
workflow resume sentiment-dual --command-id {2024}
workflow archive held --command-id {2025}
workflow list --archived
workflow restore held --command-id {2026}
goal complete held sign-off --reason done --command-id {2027}
goal complete held sign-off --command-id {2028}
labels look --workflow sentiment-dual
rejected edit {1004} --set annotation.user_id={24}
rejected replay {1006} --dry-run
rejected replay {1006}
rejected drop {1006}
rejected drop --all
dead-letter edit {1005} --set workflow=held
dead-letter replay {1005} --dry-run
dead-letter replay {1005} --no-wait
dead-letter drop --all
dead-letter drop --all
job list
job stop {99}
task state {50}
task history {50}
"#;

/// A deployment with something of everything: tasks that ended, wait and are held, rejected and dead
/// commands, and what the projections make of them.
fn seeded() -> Glyph {
    let glyph = Glyph::with_dual();
    let held = glyph.file("held.yaml", HELD);
    glyph.done(&["workflow", "create", path(&held)]);
    let start = |n: u128, workflow: &str| {
        json!({
            "type": "start", "command_id": id(100 + n), "task_id": id(n), "workflow": workflow,
            "labels": {"batch": "a"}, "input": {"text": format!("text {n}")},
        })
    };
    let submit = |command: u128, task: u128, step: &str, user: u128, label: &str| {
        json!({
            "type": "submission", "command_id": id(command), "task_id": id(task), "step_id": step,
            "annotation": {"user_id": id(user), "data": {"label": label}},
        })
    };
    let mut lines: Vec<Value> = (1..=6).map(|n| start(n, "sentiment-dual")).collect();
    lines.extend([
        start(7, "held"),
        submit(1001, 1, "annotate", 11, "positive"),
        submit(1002, 1, "annotate", 12, "positive"),
        submit(1003, 2, "annotate", 11, "positive"),
        submit(1004, 2, "annotate", 11, "negative"),
        submit(1007, 2, "annotate", 12, "negative"),
        submit(1008, 7, "label", 11, "no"),
        submit(1006, 1, "annotate", 13, "negative"),
        json!({"type": "assign", "command_id": id(1009), "task_id": id(4), "user_id": id(13)}),
        json!({"type": "start", "command_id": id(1005), "task_id": id(8), "workflow": "no-such"}),
    ]);
    let lines = lines
        .iter()
        .flat_map(|line| [line.to_string(), "\n".to_owned()]);
    let lines: String = lines.collect();
    let file = glyph.file("commands.jsonl", &lines);
    glyph.done(&["publish", path(&file)]);
    let mut worker = glyph
        .command(&["worker", "--no-http"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + DEADLINE;
    let is_done = || {
        let count = |verb: &[&str], list: &str| {
            let found = glyph.json(verb);
            found[list].as_array().map_or(0, Vec::len)
        };
        count(&["dead-letter", "list"], "dead_letters") == 1
            && count(&["agreement"], "agreement") > 0
            && count(&["goal", "list"], "goals") > 0
            && count(&["annotator", "list"], "annotators") == 0
            && count(&["incident", "list"], "groups") == 1
            && glyph.json(&["outbox", "list"])["pending"] == 0
    };
    while !is_done() {
        assert!(Instant::now() < deadline, "the seed is not worked through");
    }
    let ended = Command::new("kill").arg(worker.id().to_string()).status();
    assert!(ended.unwrap().success());
    assert!(worker.wait().unwrap().success());
    glyph
}

/// What is stored and imported.
struct Files {
    changed: PathBuf,
    items: PathBuf,
}

impl Files {
    fn of(glyph: &Glyph) -> Self {
        let workflow = fs::read_to_string(DUAL).unwrap();
        let items = "item,text,who,label\na,good,x,positive\na,good,y,positive\nb,bad,x,negative\n";
        Self {
            changed: glyph.file("changed.yaml", &workflow.replace("count: 2", "count: 3")),
            items: glyph.file("items.csv", items),
        }
    }
}

/// A copy of a deployment.
fn copied(from: &Glyph) -> Glyph {
    let glyph = Glyph::new();
    for file in fs::read_dir(from.folder.path()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), glyph.folder.path().join(file.file_name())).unwrap();
    }
    glyph
}

/// Serves the deployment of a folder. Returns its address.
async fn serve(folder: &Path) -> String {
    let tokens = folder.join("tokens");
    let operator = line("operator", TOKEN, &format!(" name={NAME}"));
    let viewer = line("viewer", "of-a-viewer", " name=eve");
    fs::write(&tokens, format!("{operator}{viewer}")).unwrap();
    let store = SqliteEventStore::open(folder.join("glyph.db"), Arc::new(Utc::now));
    let store = store.await.unwrap();
    let queue = EmbeddedQueue::open(store.clone()).await.unwrap();
    let broker = BrokerSlot::default();
    let letters = Arc::new(EmbeddedDeadLetters::new(queue.clone()));
    broker.fill(EmbeddedPublisher::new(queue), letters);
    let store = Arc::new(store);
    let messages = CloudEventMessages::default();
    let orchestrator = WorkflowOrchestrator::new(Arc::clone(&store) as _, Arc::clone(&store) as _)
        .with_messages(Arc::new(messages.clone()));
    let orchestrator = Arc::new(orchestrator);
    let api = Api {
        store,
        commands: Arc::new(Direct(Arc::clone(&orchestrator))),
        orchestrator,
        messages,
        tokens: Tokens::from_file(&tokens).unwrap(),
        links: Links::default(),
        cors_origins: [].into(),
        health: Health::default(),
        broker,
        metrics: Arc::new(String::new),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router(api)).await.unwrap() });
    format!("http://{address}")
}

/// The verb with a worker's API in place of database and broker.
fn over_http(glyph: &Glyph, url: &str, token: Option<&str>, arguments: &[&str]) -> Command {
    let mut command = glyph.command(arguments);
    command
        .env_remove("DATABASE_URL")
        .env_remove("AMQP_URL")
        .env("GLYPH_API", url);
    if let Some(token) = token {
        command.env("GLYPH_TOKEN", token);
    }
    command
}

fn with_format<'a>(given: &'a [String], format: &'a str) -> Vec<&'a str> {
    let given = given.iter().map(String::as_str);
    given.chain(["--output", format]).collect()
}

/// The arguments of a line.
fn arguments(line: &str, files: &Files) -> Vec<String> {
    let mut given = Vec::new();
    for word in line.split(' ') {
        let number = word.find('{').and_then(|at| {
            let (number, _) = word[at + 1..].split_once('}')?;
            Some((format!("{{{number}}}"), number.parse().ok()?))
        });
        given.push(match number {
            Some((named, number)) => word.replace(&named, &id(number)),
            None => word
                .replace("{file}", path(&files.changed))
                .replace("{items}", path(&files.items)),
        });
    }
    given
}

/// A text without what differs from call to call: times, ids that were drawn, who did it.
fn masked(text: &str) -> String {
    let text = text.replace(NAME, "<who>");
    let mut shown = String::new();
    let mut drawn: BTreeMap<String, usize> = BTreeMap::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        if let Some(uuid) = rest.get(..36).filter(|text| Uuid::parse_str(text).is_ok()) {
            // Of version 7: drawn at the time. Others are derived or given.
            let count = drawn.len();
            match uuid.as_bytes()[14] {
                b'7' => {
                    let n = *drawn.entry(uuid.to_owned()).or_insert(count);
                    shown.extend(["<drawn ", &n.to_string(), ">"]);
                }
                _ => shown.push_str(uuid),
            }
            rest = &rest[36..];
        } else if rest.get(..HANDLE).is_some_and(is_handle) {
            // The hash of a letter, which says who has edited it, and when.
            shown.push_str("<letter>");
            rest = &rest[HANDLE..];
        } else if let Some(length) = time(rest) {
            shown.push_str("<time>");
            rest = &rest[length..];
        } else if rest.starts_with("cli:") {
            shown.push_str("<who>");
            rest = rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == ':');
        } else {
            shown.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    shown
}

/// Characters of the handle of a letter.
const HANDLE: usize = 12;

fn is_handle(text: &str) -> bool {
    let of_hash = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.bytes().all(of_hash)
}

/// The length of the time with which a text begins.
fn time(text: &str) -> Option<usize> {
    let date = text.get(..10)?;
    let is_date = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    if !is_date {
        return None;
    }
    let clock = &text[10..];
    let of_clock = |c: char| c.is_ascii_digit() || ":.TZ+ UC".contains(c);
    let length = clock.find(|c| !of_clock(c)).unwrap_or(clock.len());
    Some(10 + clock[..length].trim_end().len())
}

/// What both ways must say alike.
#[derive(Debug, PartialEq)]
struct Said {
    code: i32,
    output: String,
    error: String,
}

impl Said {
    fn of(output: &Output, is_json: bool) -> Self {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let error = match serde_json::from_str::<Value>(&stderr(output)) {
            // Where the cure of an error is, differs; what it is does not.
            Ok(fault) => fault["error"]["code"].to_string(),
            Err(_) if is_json => stderr(output),
            Err(_) => String::new(),
        };
        Self {
            code: code(output),
            output: masked(&without_worker(&text)),
            error,
        }
    }
}

/// A status without what only a worker knows, and without ages.
fn without_worker(text: &str) -> String {
    let Ok(mut status) = serde_json::from_str::<Value>(text) else {
        let is_unlike =
            |line: &&str| line.starts_with("workers") || line.contains("the oldest for");
        let lines = text.lines().filter(|line| !is_unlike(line));
        let aged = lines
            .map(|line| line.trim_end_matches(|c: char| " s".contains(c) || c.is_ascii_digit()));
        return aged.collect::<Vec<_>>().join("\n");
    };
    if status.get("queues").is_none() {
        return text.to_owned();
    }
    for unlike in ["version", "ready", "parts", "unknown"] {
        status.as_object_mut().unwrap().remove(unlike);
    }
    for part in ["outbox", "timers"] {
        status["database"][part]["oldest_seconds"] = Value::Null;
    }
    serde_json::to_string_pretty(&status).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_verb_does_over_http_what_it_does_by_the_store() {
    let seed = seeded();
    let (direct, served) = (copied(&seed), copied(&seed));
    let url = serve(served.folder.path()).await;
    let files = Files::of(&seed);
    let both = |line: &str, format: &str| {
        let given = arguments(line, &files);
        let given = with_format(&given, format);
        let is_json = format == "json";
        let (one, other) = thread::scope(|scope| {
            let one = scope.spawn(|| direct.run(&given));
            let mut asked = over_http(&served, &url, Some(TOKEN), &given);
            let other = asked.output().unwrap();
            (
                Said::of(&one.join().unwrap(), is_json),
                Said::of(&other, is_json),
            )
        });
        (one != other).then(|| format!("{line}\n  by the store {one:?}\n  over HTTP {other:?}"))
    };
    let reads = lines(DONE).flat_map(|line| ["json", "text"].map(|format| (line, format)));
    let changes = lines(CHANGES).map(|line| (line, "json"));
    let unlike = reads
        .chain(changes)
        .filter_map(|(line, format)| both(line, format));
    let unlike: Vec<String> = unlike.collect();
    assert!(unlike.is_empty(), "{}", unlike.join("\n"));

    let known = verbs_of_the_cli();
    let of_line = |line| known.iter().find(|verb| begins(line, verb)).cloned();
    let compared = lines(DONE).chain(lines(CHANGES)).filter_map(of_line);

    let named = compared
        .chain(ALONE.map(str::to_owned))
        .chain(REFUSED.iter().map(|(verb, _)| (*verb).to_owned()));
    let named: BTreeSet<String> = named.collect();
    let missing: Vec<_> = known.difference(&named).collect();
    assert!(
        missing.is_empty(),
        "neither compared here, nor refused over HTTP, nor without need of a service: {missing:?}"
    );
}

fn verbs_of_the_cli() -> BTreeSet<String> {
    commands(&Cli::command(), "").into_iter().collect()
}

fn lines(of: &'static str) -> impl Iterator<Item = &'static str> {
    of.lines().filter(|line| !line.is_empty())
}

fn begins(line: &str, verb: &str) -> bool {
    line.strip_prefix(verb)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_is_imported_command_by_command() {
    let glyph = Glyph::with_dual();
    let url = serve(glyph.folder.path()).await;
    let files = Files::of(&glyph);
    let line = "task import {items} -w sentiment-dual --id-field item --user-field who --answer-field label";
    let import = |format: &str| {
        let given = arguments(line, &files);
        let given = with_format(&given, format);
        let output = over_http(&glyph, &url, Some(TOKEN), &given)
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let told: Value = serde_json::from_str(&import("json")).unwrap();
    assert_eq!(
        (&told["published"], &told["rejected"]),
        (&json!(5), &json!(0)),
        "{told}"
    );
    let statuses = || {
        let tasks = glyph.json(&["task", "list"]);
        let tasks = tasks["tasks"].as_array().unwrap().iter();
        let mut statuses: Vec<String> = tasks.map(|task| task["status"].to_string()).collect();
        statuses.sort();
        statuses
    };
    assert_eq!(statuses(), [r#""completed""#, r#""running""#]);
    // Again: every command is known.
    assert!(import("text").contains("5 commands decided, 0 of them rejected"));
    assert_eq!(statuses().len(), 2);
}

#[test]
fn a_verb_that_no_worker_does_says_why_and_what_to_do() {
    let glyph = Glyph::with_dual();
    for (verb, arguments) in REFUSED {
        let words: Vec<&str> = verb.split(' ').chain(arguments.iter().copied()).collect();
        // The database of the environment must not be taken in its place.
        let mut asked = glyph.command(&words);
        let refused = asked
            .env("GLYPH_API", "http://127.0.0.1:9")
            .output()
            .unwrap();
        let said = stderr(&refused);
        assert_eq!(code(&refused), 2, "{verb}: {said}");
        let reason = only_here(verb).unwrap();
        assert!(
            said.contains(reason) && said.contains("GLYPH_API"),
            "{verb}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_keeps_a_worker_from_answering_is_said_with_the_cure() {
    let glyph = Glyph::with_dual();
    let url = serve(glyph.folder.path()).await;
    let said = |url: &str, token: Option<&str>, verb: &[&str]| {
        let output = over_http(&glyph, url, token, verb).output().unwrap();
        (code(&output), stderr(&output))
    };
    let list = ["task", "list"];
    let (ended, text) = said("http://127.0.0.1:9", None, &list);
    assert_eq!(ended, 4, "{text}");
    assert!(
        text.contains("http://127.0.0.1:9") && text.contains("--api"),
        "{text}"
    );
    let (ended, text) = said(&url, None, &list);
    assert!(ended == 1 && text.contains("GLYPH_TOKEN_FILE"), "{text}");
    let (ended, text) = said(&url, Some("unknown"), &list);
    assert!(ended == 1 && text.contains("is not taken there"), "{text}");
    let (ended, text) = said(
        &url,
        Some("of-a-viewer"),
        &["workflow", "pause", "sentiment-dual"],
    );
    assert!(ended == 1 && text.contains("roles operator"), "{text}");
    let (ended, text) = said("https://user@127.0.0.1", None, &list);
    assert!(ended == 2 && text.contains("GLYPH_TOKEN"), "{text}");
    // Somebody else who answers there.
    let (ended, text) = said(&format!("{url}/elsewhere"), Some(TOKEN), &list);
    assert!(ended == 1 && text.contains("another version"), "{text}");

    let token = glyph.file("token", &format!("{TOKEN}\n"));
    let mut by_file = over_http(
        &glyph,
        &url,
        None,
        &["task", "list", "--token-file", path(&token)],
    );
    assert_eq!(code(&by_file.output().unwrap()), 0);
    // The worker that is named counts, and not the database of the environment.
    let mut both = glyph.command(&[
        "--api", &url, "--token", TOKEN, "status", "--output", "json",
    ]);
    let status: Value = serde_json::from_slice(&both.output().unwrap().stdout).unwrap();
    assert_eq!(status["ready"], false, "{status}");
}
