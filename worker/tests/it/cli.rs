//! The binary as people and scripts call it, on a SQLite file without services.

mod backtest;
mod import;
mod over_http;
mod retention;
mod verbs;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use uuid::Uuid;

const DUAL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/sentiment-dual.yaml"
);

struct Glyph {
    folder: tempfile::TempDir,
}

impl Glyph {
    /// A folder without a database.
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A folder with a migrated database that holds the example.
    fn with_dual() -> Self {
        let glyph = Self::new();
        glyph.done(&["migrate"]);
        glyph.done(&["workflow", "create", DUAL]);
        glyph
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glyph"));
        // Removes the caller's settings, so that only those of the test apply.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("GLYPH_")) {
            command.env_remove(name);
        }
        let database = format!("sqlite://{}", self.folder.path().join("glyph.db").display());
        command
            .args(arguments)
            .env_remove("DATABASE_URL_FILE")
            .env_remove("AMQP_URL_FILE")
            .env("DATABASE_URL", database)
            .env("AMQP_URL", "embedded:")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.done(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_a_person_holds_is_listed() {
    let glyph = Glyph::with_dual();
    let task = Uuid::from_u128(1).to_string();
    let ann = Uuid::from_u128(7).to_string();
    let list = ["assignment", "list", "--user", &ann];
    assert_eq!(glyph.json(&list)["assignments"], json!([]));
    glyph.done(&["task", "start", &task, "--workflow", "sentiment-dual"]);
    glyph.done(&[
        "task", "assign", &task, "--step", "annotate", "--user", &ann,
    ]);
    let held = glyph.json(&list);
    assert_eq!(held["assignments"][0]["task_id"], task);
    assert_eq!(held["assignments"][0]["step_id"], "annotate");
    assert!(glyph.done(&list).contains("sentiment-dual@1"));
    glyph.done(&[
        "task", "release", &task, "--step", "annotate", "--user", &ann,
    ]);
    assert!(glyph.done(&list).contains("claimed nothing"));
}

#[test]
fn a_task_is_worked_on_from_the_command_line() {
    let glyph = Glyph::with_dual();
    let task = Uuid::from_u128(1).to_string();
    let users: Vec<String> = (1..=3).map(|n| Uuid::from_u128(n).to_string()).collect();
    let label = |label: &str| json!({"label": label}).to_string();
    glyph.done(&[
        "task",
        "start",
        &task,
        "--workflow",
        "sentiment-dual",
        "--label",
        "p=1",
    ]);
    let id = Uuid::from_u128(100).to_string();
    let submit = [
        "task",
        "submit",
        &task,
        "--user",
        &users[0],
        "--data",
        &label("positive"),
        "--command-id",
        &id,
    ];
    assert_eq!(glyph.json(&submit)["outcome"], "applied");
    assert_eq!(glyph.json(&submit)["outcome"], "duplicate");
    let second = glyph.json(&[
        "task",
        "submit",
        &task,
        "--user",
        &users[1],
        "--data",
        &label("negative"),
    ]);
    assert_eq!(second["result"]["next_step"], "adjudicate");

    let refused = glyph.run(&[
        "task",
        "submit",
        &task,
        "--user",
        &users[2],
        "--data",
        &label("positive"),
    ]);
    assert_eq!(code(&refused), 1);
    assert!(
        stderr(&refused).contains("role_required"),
        "{}",
        stderr(&refused)
    );
    let end = [
        "task",
        "submit",
        &task,
        "--user",
        &users[2],
        "--data",
        &label("positive"),
        "--role",
        "adjudicator",
    ];
    assert!(glyph.done(&end).contains("completed"));

    assert_eq!(
        glyph.json(&["task", "state", &task])["output"]["result"],
        "positive"
    );
    assert_eq!(
        glyph.json(&["task", "state", &task, "--at-version", "2"])["version"],
        2
    );
    assert_eq!(
        glyph.json(&["task", "list", "--status", "completed", "--label", "p=1"])["tasks"][0]["task_id"],
        task
    );
    let history = glyph.json(&["task", "history", &task, "--limit", "1"]);
    assert_eq!(
        (&history["events"][0]["version"], &history["next_after"]),
        (&json!(1), &json!(1))
    );
    assert!(
        glyph
            .done(&["task", "history", &task])
            .contains("consensus_calculated")
    );
}

#[test]
fn tasks_move_to_another_revision_from_the_command_line() {
    let glyph = Glyph::with_dual();
    let tasks: Vec<String> = (1..=3).map(|n| Uuid::from_u128(n).to_string()).collect();
    for task in &tasks {
        glyph.done(&["task", "start", task, "--workflow", "sentiment-dual"]);
    }
    glyph.done(&["task", "pause", &tasks[2]]);
    let changed = std::fs::read_to_string(DUAL).unwrap().replace("800", "900");
    let changed = glyph.file("changed.yaml", &changed);
    glyph.done(&["workflow", "create", path(&changed)]);

    let to = ["--to", "sentiment-dual@2"];
    let one = [&["task", "migrate", &tasks[0]], &to[..], &["--dry-run"]].concat();
    let text = glyph.done(&one);
    assert!(
        text.contains("stands at annotate") && text.contains("1 would move"),
        "{text}"
    );
    let all = [
        &["task", "migrate", "--workflow", "sentiment-dual"],
        &to[..],
    ]
    .concat();
    let dry = glyph.json(&[&all[..], &["--dry-run"]].concat());
    assert_eq!((&dry["would_move"], &dry["moved"]), (&json!(3), &json!(0)));
    let refused = glyph.run(&[&all[..], &["--dry-run", "--step", "annotate=adjudicate"]].concat());
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("3 tasks have not moved, or would not"));
    let moved = glyph.json(&all);
    assert_eq!(
        (&moved["moved"], &moved["rejected"]),
        (&json!(3), &json!(0))
    );
    let again = glyph.json(&all);
    assert_eq!(
        (&again["moved"], &again["already_there"]),
        (&json!(0), &json!(3))
    );
    let state = glyph.json(&["task", "state", &tasks[2]]);
    assert_eq!(
        (&state["revision"], &state["status"]),
        (&json!(2), &json!("paused"))
    );
    let slip = glyph.run(&[&all[..], &["--at", "annotat"]].concat());
    assert_eq!(code(&slip), 2);
    assert!(stderr(&slip).contains("has a step `annotat`"));
    // A dry run under the migration's own id does not count as the migration.
    let id = ["--command-id", &tasks[0]];
    glyph.done(
        &[
            &["task", "migrate", &tasks[1]],
            &["--to", "sentiment-dual@1"][..],
            &id,
        ]
        .concat(),
    );
    let looked = [
        &["task", "migrate", &tasks[1]],
        &to[..],
        &id,
        &["--dry-run"],
    ]
    .concat();
    assert_eq!(glyph.json(&looked)["would_move"], 1);
    // Tasks can be selected in one way only.
    assert_eq!(
        code(&glyph.run(&["task", "migrate", "--to", "sentiment-dual"])),
        2
    );
    let both = [
        "task",
        "migrate",
        &tasks[0],
        "--workflow",
        "sentiment-dual",
        "--to",
        "x",
    ];
    assert_eq!(code(&glyph.run(&both)), 2);
}

#[test]
fn rejected_work_is_kept_and_can_be_replayed() {
    let glyph = Glyph::with_dual();
    let (task, user) = (
        Uuid::from_u128(1).to_string(),
        Uuid::from_u128(2).to_string(),
    );
    glyph.done(&["task", "start", &task, "--workflow", "sentiment-dual"]);
    glyph.done(&["task", "pause", &task, "--reason", "lunch"]);
    let submit = [
        "task",
        "submit",
        &task,
        "--user",
        &user,
        "--data",
        "{\"label\":\"a\"}",
        "--output",
        "json",
    ];
    let refused = glyph.run(&submit);
    assert_eq!(code(&refused), 1);
    let refused: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(refused["reason"], "task_paused");

    let listed = glyph.json(&["rejected", "list", "--task", &task]);
    assert_eq!(listed["commands"].as_array().unwrap().len(), 1);
    let id = refused["command_id"].as_str().unwrap();
    assert_eq!(
        glyph.json(&["rejected", "show", id])["payload"]["annotation"]["user_id"],
        user
    );
    assert_eq!(
        code(&glyph.run(&["rejected", "replay", id])),
        1,
        "still paused"
    );
    glyph.done(&["task", "resume", &task]);
    let replayed = glyph.json(&["rejected", "replay", id]);
    let second = Uuid::new_v5(&id.parse().unwrap(), b"2");
    assert_eq!(
        (&replayed["outcome"], &replayed["command_id"]),
        (&json!("applied"), &json!(second))
    );
    let again = glyph.run(&["rejected", "replay", id]);
    assert!(stderr(&again).contains("was applied"), "{}", stderr(&again));
}

#[test]
fn exit_codes_say_who_must_act() {
    let glyph = Glyph::new();
    let with_url = |url: &str, arguments: &[&str]| {
        code(
            &glyph
                .command(arguments)
                .env("DATABASE_URL", url)
                .output()
                .unwrap(),
        )
    };
    assert_eq!(code(&glyph.run(&["task", "fly"])), 2);
    assert_eq!(code(&glyph.run(&["--help"])), 0);
    assert_eq!(
        code(&glyph.run(&["task", "list"])),
        4,
        "there is no database yet"
    );
    glyph.done(&["migrate"]);
    assert_eq!(
        code(&glyph.run(&["task", "state", &Uuid::nil().to_string()])),
        1
    );
    assert_eq!(
        code(&glyph.run(&["workflow", "validate", "/nowhere.yaml"])),
        3
    );
    assert_eq!(with_url("postgres://127.0.0.1:1/x", &["task", "list"]), 4);
    assert_eq!(with_url("mysql://x", &["task", "list"]), 2);
    assert_eq!(
        with_url("postgres://127.0.0.1:1/x", &["worker"]),
        2,
        "embedded: goes with sqlite"
    );
    let bare = glyph
        .command(&["worker"])
        .env_remove("DATABASE_URL")
        .env_remove("AMQP_URL")
        .output()
        .unwrap();
    assert_eq!(code(&bare), 2);
    assert!(stderr(&bare).contains("DATABASE_URL") && stderr(&bare).contains("AMQP_URL"));
    let open = glyph
        .command(&["worker"])
        .env("GLYPH_HTTP_ADDR", "0.0.0.0:0")
        .output()
        .unwrap();
    assert_eq!(code(&open), 2, "an open API needs tokens");
}

#[test]
fn a_faulty_workflow_is_shown_where_it_is_faulty() {
    let glyph = Glyph::new();
    let source = std::fs::read_to_string(DUAL)
        .unwrap()
        .replace("to: adjudicate", "to: adjudicat");
    let file = glyph.file("bad.yaml", &source);
    let shown = glyph.run(&["workflow", "validate", path(&file)]);
    assert_eq!(code(&shown), 3);
    let text = stderr(&shown);
    assert!(
        text.contains("bad.yaml:") && text.contains("did you mean `adjudicate`?"),
        "{text}"
    );
    let json = glyph.run(&["workflow", "validate", path(&file), "--output", "json"]);
    assert_eq!(code(&json), 3);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["valid"], false);
    assert_eq!(json["diagnostics"][0]["path"], "workflow.transitions[1].to");
    assert_eq!(glyph.json(&["workflow", "validate", DUAL])["valid"], true);
}

#[test]
fn settings_are_layered_and_secrets_are_masked() {
    let glyph = Glyph::new();
    let file = glyph.file("glyph.toml", "prefix = \"file\"\nlanes = 3\nprefetch = 7\n");
    let secret = glyph.file("url", "amqp://me:sesame@broker\n");
    let output = glyph
        .command(&[
            "config",
            "check",
            "--config",
            path(&file),
            "--prefix",
            "flag",
            "--output",
            "json",
        ])
        .env("GLYPH_PREFIX", "environment")
        .env("GLYPH_LANES", "4")
        .env("DATABASE_URL", "postgres://me:sesame@db/x?password=sesame")
        .env_remove("AMQP_URL")
        .env("AMQP_URL_FILE", &secret)
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("sesame"), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    let value = |key: &str| {
        let lines = document["settings"].as_array().unwrap();
        lines.iter().find(|line| line["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(
        ["prefix", "lanes", "prefetch", "amqp_url"].map(value),
        ["flag", "4", "7", "amqp://me:***@broker"].map(Value::from)
    );

    let typo = glyph.file("typo.toml", "prefx = \"x\"\n");
    let refused = glyph.run(&["config", "check", "--config", path(&typo)]);
    assert_eq!(code(&refused), 2);
    assert!(
        stderr(&refused).contains("did you mean `prefix`?"),
        "{}",
        stderr(&refused)
    );
    let wrong = glyph
        .command(&["config", "check"])
        .env("GLYPH_LANES", "0")
        .env("GLYPH_LOG_FORMAT", "xml")
        .output()
        .unwrap();
    assert_eq!(code(&wrong), 2);
    assert!(stderr(&wrong).contains("GLYPH_LANES") && stderr(&wrong).contains("GLYPH_LOG_FORMAT"));
    let slip = glyph
        .command(&["config", "check"])
        .env("GLYPH_LANE", "4")
        .env("GLYPH_HOME", "/")
        .output()
        .unwrap();
    let text = String::from_utf8(slip.stdout).unwrap();
    assert!(text.contains("did you mean GLYPH_LANES?"), "{text}");
    assert!(!text.contains("GLYPH_HOME"), "{text}");
}

#[test]
fn a_file_is_published_whole_or_not_at_all() {
    let glyph = Glyph::with_dual();
    let start = |n: u128| {
        let (id, task) = (Uuid::from_u128(1000 + n), Uuid::from_u128(n));
        json!({"type": "start", "command_id": id, "task_id": task, "workflow": "sentiment-dual"})
            .to_string()
    };
    let bad = glyph.file(
        "bad.jsonl",
        &format!("{}\n\n{{\"type\": \"start\"}}\nno json\n", start(1)),
    );
    let refused = glyph.run(&["publish", path(&bad)]);
    assert_eq!(code(&refused), 3);
    let text = stderr(&refused);
    assert!(
        text.contains("bad.jsonl:3:") && text.contains("bad.jsonl:4:"),
        "{text}"
    );

    let good = glyph.file("good.jsonl", &format!("{}\n{}\n", start(1), start(2)));
    assert_eq!(glyph.json(&["publish", path(&good)])["published"], 2);
    let mut child = glyph
        .command(&["publish", "-", "--output", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(start(3).as_bytes())
        .unwrap();
    assert_eq!(code(&child.wait_with_output().unwrap()), 0);
    assert_eq!(
        glyph.json(&["dead-letter", "list"])["dead_letters"],
        json!([])
    );
}

#[test]
fn the_demo_completes_its_tasks_and_leaves_them_to_look_at() {
    let glyph = Glyph::new();
    let summary = glyph.json(&["demo"]);
    assert_eq!(summary["tasks"], json!({"completed": 200}));
    assert!(summary["adjudicated"].as_u64().unwrap() > 0);
    assert!(summary["results_right"].as_f64() > summary["annotations_right"].as_f64());
    let url = summary["database_url"].as_str().unwrap();
    let goals = || {
        let mut goals = glyph.json(&["goal", "list", "--database-url", url]);
        // The forecast depends on the time of the query.
        goals["goals"][0]["forecast"]["eta"].take();
        goals["goals"][0]["forecast"]["reason"].take();
        goals
    };
    let live = goals();
    assert_eq!(live["goals"][0]["current"], 140.0);
    let before = glyph.json(&["task", "list", "--limit", "1000", "--database-url", url]);
    let rebuilt = glyph.json(&["rebuild", "--database-url", url]);
    for unchanged in ["tasks_changed", "snapshots_changed", "due_changed"] {
        assert_eq!(rebuilt[unchanged], 0, "{rebuilt}");
    }
    assert_eq!(
        glyph.json(&["task", "list", "--limit", "1000", "--database-url", url]),
        before
    );
    assert_eq!(goals(), live);
    let example = summary["adjudicated_task"].as_str().unwrap();
    let explained = glyph.json(&["task", "explain", example, "--database-url", url]);
    let decisions = explained["decisions"].as_array().unwrap();
    assert!(decisions.iter().any(|one| one["step_id"] == "adjudicate"));
    std::fs::remove_dir_all(summary["folder"].as_str().unwrap()).unwrap();
}

#[test]
fn dead_letters_are_chosen_in_one_way() {
    let glyph = Glyph::new();
    glyph.done(&["migrate"]);
    for mixed in [
        ["dead-letter", "drop", "--all", "--reason", "malformed"].as_slice(),
        &["dead-letter", "replay", "x", "--all"],
        &["dead-letter", "drop", "x", "--reason", "malformed"],
    ] {
        assert_eq!(code(&glyph.run(mixed)), 2, "{mixed:?}");
    }
    let told = glyph.run(&["--output", "json", "task", "list", "--status", "bogus"]);
    assert_eq!(code(&told), 2);
    let told: Value = serde_json::from_str(&stderr(&told)).unwrap();
    assert_eq!(told["error"]["code"], "usage");
    let unknown = glyph.run(&["dead-letter", "drop", "x", "y"]);
    assert_eq!(code(&unknown), 1);
    assert!(stderr(&unknown).contains("no dead_letter `x`"));
    let waiting = glyph.json(&["outbox", "list"]);
    assert_eq!(waiting, json!({"pending": 0, "refused": []}));
}

#[test]
fn dead_letters_are_shown_edited_and_replayed() {
    let glyph = Glyph::with_dual();
    let (task, id) = (Uuid::from_u128(1), Uuid::from_u128(1001));
    let start = json!({
        "type": "start", "command_id": id, "task_id": task, "workflow": "no-such-workflow",
    });
    let file = glyph.file("start.jsonl", &format!("{start}\n"));
    glyph.done(&["publish", path(&file)]);
    let mut worker = glyph
        .command(&["worker", "--no-http"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let dead = loop {
        let listed = glyph.json(&["dead-letter", "list"]);
        if let [letter] = listed["dead_letters"].as_array().unwrap().as_slice() {
            break letter.clone();
        }
        assert!(std::time::Instant::now() < deadline, "{listed}");
    };
    assert_eq!(dead["reason"], "workflow_not_found");
    let handle = dead["letter"].as_str().unwrap();
    let reasons = glyph.json(&["dead-letter", "list", "--by-reason"]);
    assert_eq!(reasons, json!({"reasons": {"workflow_not_found": 1}}));
    let planned = glyph.json(&["dead-letter", "replay", handle, "--dry-run"]);
    assert_eq!(planned["would_replay"], 1);

    // It fails again: the job says so, and the letter is back, with another handle.
    let failed = glyph.run(&["dead-letter", "replay", handle]);
    assert_eq!(code(&failed), 1);
    let said = String::from_utf8(failed.stdout).unwrap();
    assert!(
        said.contains("1 of 1 failed") && said.contains("workflow_not_found"),
        "{said}"
    );
    let jobs = glyph.json(&["job", "list"]);
    assert_eq!(jobs["jobs"][0]["state"], "stopped");
    assert_eq!(jobs["jobs"][0]["counts"], json!({"failed": 1}));

    let wrong = glyph.run(&[
        "dead-letter",
        "edit",
        &id.to_string(),
        "--set",
        "task_id=none",
    ]);
    assert_eq!(code(&wrong), 1);
    assert!(
        stderr(&wrong).contains("nothing was changed"),
        "{}",
        stderr(&wrong)
    );
    let how = ["--set", "workflow=sentiment-dual"];
    let id = id.to_string();
    let edited = glyph.json(&[&["dead-letter", "edit", &id][..], &how].concat());
    let handle = edited["letter"].as_str().unwrap();
    let shown = glyph.json(&["dead-letter", "show", handle]);
    let by = shown["headers"]["x-glyph-edited-by"].as_str().unwrap();
    assert!(by.starts_with("cli:"), "{shown}");
    assert_eq!(
        (&shown["command_id"], &shown["attempts"]),
        (&json!(id), &json!(2))
    );
    let done = glyph.json(&["dead-letter", "replay", "--all"]);
    assert_eq!(done["job"]["state"], "done", "{done}");
    assert_eq!(done["job"]["counts"], json!({"succeeded": 1}));
    assert_eq!(
        glyph.json(&["dead-letter", "list"])["dead_letters"],
        json!([])
    );
    let task = task.to_string();
    assert_eq!(glyph.json(&["task", "state", &task])["status"], "running");
    worker.kill().unwrap();
    worker.wait().unwrap();
    let gone = glyph.run(&["job", "stop", &Uuid::nil().to_string()]);
    assert_eq!(code(&gone), 1);
}

#[test]
fn a_benchmark_leaves_nothing_behind() {
    let glyph = Glyph::with_dual();
    let before = glyph.done(&["workflow", "list"]);
    let report = glyph.json(&["bench", "-n", "100", "--paced-secs", "0"]);
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{report}");
    for run in runs {
        assert_eq!(run["commands"], 100);
        assert!(run["commands_per_second"].as_f64() > Some(0.0), "{run}");
    }
    let floor = ["bench", "-n", "1", "--floor", "nothing"];
    assert!(stderr(&glyph.run(&floor)).contains("--floor needs PostgreSQL"));
    assert_eq!(glyph.done(&["workflow", "list"]), before);
    let left: Vec<_> = std::fs::read_dir(glyph.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains("bench"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_script_is_played_without_any_service() {
    let glyph = Glyph::new();
    let example = |name: &str| format!("{}/../examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let script = example("scripts/sentiment-dual.yaml");
    let text = glyph.done(&["workflow", "dry-run", DUAL, "--script", &script]);
    assert!(
        text.contains("submit by bob") && text.contains("self_review"),
        "{text}"
    );
    assert!(text.trim_end().ends_with("all as expected"), "{text}");
    assert_eq!(
        text,
        glyph.done(&["workflow", "dry-run", DUAL, "--script", &script]),
        "the same once more"
    );
    let trace = glyph.json(&["workflow", "dry-run", DUAL, "--script", &script]);
    assert_eq!(trace["status"], "completed");
    assert_eq!(trace["steps"][3]["outcome"], "duplicate_annotator");

    let other = glyph.file(
        "other.yaml",
        "moves: [{ submit: { by: ann, data: { label: a } }, expect: completed }]",
    );
    let output = glyph.run(&["workflow", "dry-run", DUAL, "--script", path(&other)]);
    assert_eq!(code(&output), 1);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("! expected completed, came to waiting"),
        "{text}"
    );

    let wrong = glyph.file(
        "wrong.yaml",
        "moves:\n  - submit: { stp: annotate, by: ann }\n",
    );
    let output = glyph.run(&["workflow", "dry-run", DUAL, "--script", path(&wrong)]);
    assert_eq!(code(&output), 3);
    assert!(
        stderr(&output).contains("did you mean `step`?"),
        "{}",
        stderr(&output)
    );
    assert!(
        stderr(&output).contains("wrong.yaml:2:15"),
        "{}",
        stderr(&output)
    );
    let output = glyph.run(&["workflow", "dry-run", path(&wrong), "--script", &script]);
    assert_eq!(code(&output), 3);
    assert!(!glyph.folder.path().join("glyph.db").exists());
}

#[test]
fn the_telling_cases_are_played_without_a_script() {
    let glyph = Glyph::new();
    let text = glyph.done(&["workflow", "dry-run", DUAL, "--explore"]);
    assert!(
        text.starts_with("sentiment-dual: 5 cases, 4 ends"),
        "{text}"
    );
    assert!(
        text.contains("annotate: two differ") && text.contains("annotate > adjudicate"),
        "{text}"
    );
    assert!(
        text.contains("adjudicate waits for 1 person with the role adjudicator"),
        "{text}"
    );
    assert!(!text.contains("valid") && !text.contains('!'), "{text}");
    let explored = glyph.json(&["workflow", "dry-run", DUAL, "--explore"]);
    assert_eq!(explored["warnings"], json!([]));
    let ends = &explored["exploration"]["ends"];
    assert_eq!(ends[0]["cases"], json!(["straight on"]));
    assert_eq!(ends[1]["path"], json!(["annotate", "adjudicate"]));

    // Without an adjudicator, a disagreement ends without a value.
    let careless = glyph.file(
        "careless.yaml",
        "workflow:
  id: careless
  steps: [{ id: annotate, type: annotation, completion: { type: annotation_count, count: 2 }, consensus: { field: label } }]
",
    );
    let text = glyph.done(&["workflow", "dry-run", path(&careless), "--explore"]);
    assert!(text.contains("! 1 of 3 ends need a look"), "{text}");
    assert!(text.contains("no value"), "{text}");
    let explored = glyph.json(&["workflow", "dry-run", path(&careless), "--explore"]);
    assert_eq!(
        explored["exploration"]["ends"][1]["marks"],
        json!(["no_value"])
    );

    // A script says the circumstances, and its moves are not made.
    let example = |name: &str| format!("{}/../examples/{name}", env!("CARGO_MANIFEST_DIR"));
    let (nested, script) = (
        example("nested-extraction.yaml"),
        example("scripts/nested-extraction.yaml"),
    );
    let both = [
        "workflow",
        "dry-run",
        &nested,
        "--explore",
        "--script",
        &script,
    ];
    let explored = glyph.json(&both);
    assert_eq!(explored["exploration"]["not_played"], json!([]));

    let wrong = glyph.file("wrong.yaml", "workflow: { id: x, steps: [] }");
    let output = glyph.run(&["workflow", "dry-run", path(&wrong), "--explore"]);
    assert_eq!(code(&output), 3);
    assert_eq!(code(&glyph.run(&["workflow", "dry-run", DUAL])), 2);
}

#[test]
fn a_script_moves_its_task_to_the_revision_of_another_file() {
    let glyph = Glyph::new();
    let revision = |count: u32| {
        format!(
            "workflow:
  id: coding
  steps: [{{ id: annotate, type: annotation, completion: {{ type: annotation_count, count: {count} }} }}]
"
        )
    };
    let first = glyph.file("first.yaml", &revision(2));
    glyph.file("second.yaml", &revision(1));
    let script = |to: &str| {
        format!(
            "moves:
  - submit: {{ by: ann, data: a }}
  - migrate: {{ to: {to} }}
    expect: completed
expect: {{ exactly: {{ result: a }} }}
"
        )
    };
    let moved = glyph.file("script.yaml", &script("second.yaml"));
    let text = glyph.done(&[
        "workflow",
        "dry-run",
        path(&first),
        "--script",
        path(&moved),
    ]);
    assert!(text.contains("migrate to second.yaml  completed"), "{text}");
    let lost = glyph.file("lost.yaml", &script("third.yaml"));
    let output = glyph.run(&["workflow", "dry-run", path(&first), "--script", path(&lost)]);
    assert_eq!(code(&output), 3);
    assert!(
        stderr(&output).contains("third.yaml"),
        "{}",
        stderr(&output)
    );

    let misspelt = glyph.file(
        "misspelt.yaml",
        "moves: []\nexpect: { output: { reslt: null } }\n",
    );
    let both = [
        "--output",
        "json",
        "workflow",
        "dry-run",
        path(&first),
        "--script",
        path(&misspelt),
    ];
    let output = glyph.run(&both);
    assert_eq!(code(&output), 3);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = told["text"].as_str().unwrap();
    assert!(
        text.contains("misspelt.yaml:2") && text.contains("reslt"),
        "{text}"
    );
}

#[test]
fn a_workflow_is_drawn() {
    let glyph = Glyph::with_dual();
    let draw = |workflow: &str, format: &str| {
        glyph.done(&["workflow", "visualize", workflow, "--format", format])
    };
    let mermaid = draw(DUAL, "mermaid");
    assert!(mermaid.contains("flowchart TD"), "{mermaid}");
    assert!(mermaid.contains("n1 -->|\"disagreement\"| n2"), "{mermaid}");
    assert_eq!(
        draw("sentiment-dual", "mermaid"),
        mermaid,
        "stored and file are one"
    );
    let dot = draw(DUAL, "dot");
    assert!(dot.starts_with("digraph workflow {"), "{dot}");
    assert!(
        dot.contains("n1 -> n2 [label=\"disagreement\", style=solid];"),
        "{dot}"
    );
    let svg = draw(DUAL, "svg");
    assert!(
        svg.starts_with("<svg xmlns=") && svg.trim_end().ends_with("</svg>"),
        "{svg}"
    );
    for text in [
        "annotate",
        "annotation by 2",
        "adjudicator",
        "disagreement",
        "completed",
    ] {
        assert!(svg.contains(&format!(">{text}<")), "{text}: {svg}");
    }
    let json = glyph.json(&["workflow", "visualize", DUAL, "--format", "svg"]);
    assert_eq!(
        json["drawing"].as_str().map(str::trim_end),
        Some(svg.trim_end())
    );
    assert_eq!(code(&glyph.run(&["workflow", "visualize", "nobody"])), 1);
    assert_eq!(
        code(&glyph.run(&["workflow", "visualize", "nobody.yaml"])),
        3
    );
}

#[test]
fn every_value_is_shown_with_its_origin() {
    let glyph = Glyph::with_dual();
    let file = glyph.file(
        "mine.yaml",
        "workflow:
  id: mine
  template: multi_adjudication
  overrides:
    steps:
      annotate: { consensus: { field: label } }
      adjudicate: { ref: strict }
step_library:
  strict: { type: adjudication, assignment: { required_roles: [lead] } }
",
    );
    let shown = glyph.json(&["workflow", "show", path(&file), "--expanded"]);
    let origin = |path: &str| {
        let values = shown["values"].as_array().unwrap();
        let found = values.iter().find(|value| value["path"] == path);
        found.unwrap_or_else(|| panic!("{path}: {shown}"))["origin"].clone()
    };
    let template = json!({"from": "template", "name": "multi_adjudication"});
    assert_eq!(origin("id"), json!({"from": "file", "line": 2}));
    assert_eq!(origin("transitions[0].to"), template);
    assert_eq!(origin("steps[0].completion.count"), template);
    assert_eq!(
        origin("steps[0].consensus.field"),
        json!({"from": "file", "line": 6})
    );
    assert_eq!(
        origin("steps[1].assignment.required_roles[0]"),
        json!({"from": "library", "name": "strict", "line": 9})
    );
    assert_eq!(origin("settings.max_retries"), json!({"from": "default"}));
    let dual = glyph.file(
        "dual.yaml",
        "workflow: { id: x, steps: [{ id: a, ref: review }] }\n",
    );
    let text = glyph.done(&["workflow", "show", path(&dual), "--expanded"]);
    assert!(text.contains("library review"), "{text}");
    assert!(
        text.lines()
            .any(|line| line.starts_with("entry_step") && line.ends_with("default")),
        "{text}"
    );
    let stored = glyph.done(&["workflow", "show", "sentiment-dual", "--expanded"]);
    assert!(stored.contains("steps[0].completion.count"), "{stored}");
    assert!(stored.contains("sentiment-dual@1"), "{stored}");
}

#[test]
fn labels_are_exported_as_lines_of_json_and_as_csv() {
    let glyph = Glyph::with_dual();
    let task = Uuid::from_u128(7).to_string();
    let start = [
        "task",
        "start",
        &task,
        "-w",
        "sentiment-dual",
        "--label",
        "project=p1",
    ];
    glyph.done(&start);
    for user in [1, 2] {
        let user = Uuid::from_u128(user).to_string();
        let data = r#"{"label": "positive"}"#;
        glyph.done(&["task", "submit", &task, "--user", &user, "--data", data]);
    }
    let export = ["labels", "export", "--workflow", "sentiment-dual"];
    let lines = glyph.done(&export);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let label: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(
        (&label["task_id"], &label["value"]),
        (&json!(task), &json!("positive"))
    );
    assert!(label["votes"][0].get("annotator").is_none(), "{label}");
    let people = glyph.done(&[&export[..], &["--with-annotators"]].concat());
    assert!(people.contains(&Uuid::from_u128(1).to_string()), "{people}");

    let file = glyph.folder.path().join("labels.csv");
    let to_file = [&export[..], &["--format", "csv", "--out", path(&file)]].concat();
    let told = glyph.json(&to_file);
    assert_eq!((&told["tasks"], &told["labels"]), (&json!(1), &json!(1)));
    let csv = std::fs::read_to_string(&file).unwrap();
    let rows: Vec<&str> = csv.split("\r\n").collect();
    assert!(rows[0].starts_with("task_id,labels,revision,step,visit,completed_at,value,"));
    let begin = format!("{task},\"{{\"\"project\"\":\"\"p1\"\"}}\",1,annotate,1,");
    assert!(rows[1].starts_with(&begin), "{csv}");
    assert_eq!((rows.len(), rows[2]), (3, ""));
    let nothing = glyph.done(&[&export[..], &["--where", "project=p2"]].concat());
    assert_eq!(nothing, "");
    let unwritable = [&export[..], &["--out", "/nowhere/labels.csv"]].concat();
    assert_eq!(code(&glyph.run(&unwritable)), 1);
    let unknown = glyph.run(&["labels", "export", "--workflow", "nobody"]);
    assert_eq!(code(&unknown), 1);
    assert!(stderr(&unknown).contains("there is no workflow `nobody`"));
}

#[test]
fn what_is_known_of_labels_and_annotators_is_shown() {
    let glyph = Glyph::new();
    glyph.done(&["migrate"]);
    let file = glyph.file(
        "adaptive.yaml",
        "workflow:
  id: adaptive
  steps:
    - id: annotate
      type: annotation
      completion: { type: confidence, target: 0.9, min: 2, max: 2 }
      answer: { field: label, kind: category, values: [cat, dog] }
",
    );
    glyph.done(&["workflow", "create", path(&file)]);
    let (task, ann) = (
        Uuid::from_u128(7).to_string(),
        Uuid::from_u128(1).to_string(),
    );
    glyph.done(&["task", "start", &task, "-w", "adaptive"]);
    for user in [1, 2] {
        let user = Uuid::from_u128(user).to_string();
        let data = r#"{"label": "cat"}"#;
        glyph.done(&["task", "submit", &task, "--user", &user, "--data", data]);
    }
    let suspects = glyph.json(&["labels", "suspect", "-w", "adaptive"]);
    assert_eq!(suspects["suspects"][0]["value_now"], "cat", "{suspects}");
    assert!(
        glyph
            .done(&["labels", "suspect", "-w", "adaptive"])
            .contains(&task)
    );
    let look = glyph.json(&["labels", "look", "-w", "adaptive"]);
    assert_eq!((&look["answers"], &look["revised"]), (&json!(1), &json!(0)));
    assert!(
        glyph
            .done(&["labels", "look", "-w", "adaptive"])
            .starts_with("0 of 1 answers")
    );
    assert_eq!(
        glyph.json(&["labels", "calibration"]),
        json!({"calibration": []})
    );
    let report = glyph.json(&["annotator", "show", &ann]);
    let question = &report["questions"][0];
    assert_eq!(
        (&question["labels"], &question["compared"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(question["agreement_with_others"], 1.0);
    let shown = glyph.done(&["annotator", "show", &ann]);
    assert!(
        shown.contains("95 % INTERVAL") && shown.contains("\"cat\""),
        "{shown}"
    );
    assert!(
        shown.contains("lately (a label counts half after 100 more)")
            && shown.contains("\"cat\"  100.0 %  1 both, 0 one of two"),
        "{shown}"
    );
    assert_eq!(question["suspicious"], json!([]));
    let listed = glyph.json(&["annotator", "list", "-w", "adaptive"]);
    assert_eq!(
        listed["accuracies"].as_array().unwrap().len(),
        2,
        "{listed}"
    );
    assert_eq!(listed["suspicious_pairs"], json!([]));
    let listed = glyph.done(&["annotator", "list", "-w", "adaptive"]);
    assert!(
        listed.contains("LATELY") && listed.contains("CHANGE"),
        "{listed}"
    );
    let help = glyph.done(&["labels", "export", "--help"]);
    assert!(help.contains("votes, gold, difficulty_now."), "{help}");
}
