//! Verbs of operators beside those on single tasks.

use serde_json::json;
use uuid::Uuid;

use super::{DUAL, Glyph, code, path, stderr};
use crate::support::engine::HELD;

#[test]
fn the_status_is_told_without_a_worker_and_says_what_it_cannot_know() {
    let glyph = Glyph::with_dual();
    let task = Uuid::from_u128(1).to_string();
    glyph.done(&["task", "start", &task, "--workflow", "sentiment-dual"]);
    let status = glyph.json(&["status"]);
    assert_eq!(status["database"]["tasks"]["running"], 1);
    assert_eq!(status["database"]["steps"][0]["step_id"], "annotate");
    assert!(status["database"]["outbox"]["pending"].as_i64().unwrap() > 0);
    let queues = status["queues"].as_array().unwrap();
    assert!(queues.iter().any(|queue| queue["queue"] == "submission"));
    assert!(status["ready"].is_null() && status["parts"].is_null());
    let unknown = status["unknown"].as_array().unwrap();
    assert_eq!((&unknown[0]["what"], unknown.len()), (&json!("ready"), 2));
    let text = glyph.done(&["status"]);
    for part in [
        "1 running",
        "sentiment-dual@1",
        "wait to be published",
        "no worker was asked",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn incidents_are_listed_by_code_and_tasks_by_what_holds_them() {
    let glyph = Glyph::with_dual();
    let file = glyph.file("held.yaml", HELD);
    glyph.done(&["workflow", "create", path(&file)]);
    let [stands, waits] = [1, 2].map(|n| Uuid::from_u128(n).to_string());
    for task in [&waits, &stands] {
        glyph.done(&["task", "start", task, "--workflow", "held"]);
    }
    let ann = Uuid::from_u128(7).to_string();
    assert!(
        glyph
            .done(&["incident", "list"])
            .contains("no open incidents")
    );
    let submit = [
        "task",
        "submit",
        &stands,
        "--user",
        &ann,
        "--data",
        r#"{"label":"no"}"#,
    ];
    glyph.done(&submit);
    let listed = glyph.json(&["incident", "list", "--code", "no_transition"]);
    assert_eq!(
        listed["groups"][0]["incidents"][0]["task_id"],
        json!(stands)
    );
    assert!(
        glyph
            .done(&["incident", "list"])
            .contains("no_transition: 1")
    );
    assert!(
        glyph
            .done(&["stuck"])
            .contains("held by an incident, no_transition")
    );
    assert_eq!(glyph.json(&["stuck"])["groups"][0]["code"], "no_transition");
    let found = |more: &[&str]| {
        let page = glyph.json(&[&["task", "list"], more].concat());
        let tasks = page["tasks"].as_array().unwrap().iter();
        tasks
            .map(|task| task["task_id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&["--incident"]), [stands.as_str()]);
    assert_eq!(found(&["--incident", "no_transition"]), [stands.as_str()]);
    assert!(found(&["--incident", "child_failed"]).is_empty());
    assert_eq!(found(&["--oldest"]), [waits.as_str(), &stands]);
    let unknown = glyph.run(&["task", "list", "--incident", "bogus"]);
    assert_eq!(code(&unknown), 2);
    assert!(
        stderr(&unknown).contains("no_transition, "),
        "{}",
        stderr(&unknown)
    );

    // The next task of a person, with a draft kept in it.
    let next = ["assignment", "next", "--user", &ann, "--workflow", "held"];
    let claimed = glyph.json(&next);
    assert_eq!(claimed["claim"]["task_id"], json!(waits));
    assert_eq!(found(&["--held-by", &ann]), [waits.as_str()]);
    let activity = [
        "task",
        "activity",
        &waits,
        "--user",
        &ann,
        "--draft",
        r#"{"label":"?"}"#,
    ];
    glyph.done(&activity);
    assert_eq!(glyph.json(&next)["claim"]["draft"], json!({"label": "?"}));
    let bob = Uuid::from_u128(8).to_string();
    let nothing = ["assignment", "next", "--user", &bob, "--workflow", "held"];
    assert_eq!(glyph.json(&nothing), json!({"claim": null, "reason": null}));
    assert!(glyph.done(&nothing).contains("no slot is open"));
}

#[test]
fn a_revision_comes_back_as_a_file_and_is_compared() {
    let glyph = Glyph::with_dual();
    let yaml = glyph.done(&["workflow", "yaml", "sentiment-dual"]);
    let file = glyph.file("again.yaml", &yaml);
    let again = glyph.json(&["workflow", "create", path(&file)]);
    assert_eq!(again["revision"], 1, "the same revision");
    let changed = glyph.file("changed.yaml", &yaml.replace("count: 2", "count: 3"));
    let diff = glyph.json(&["workflow", "diff", DUAL, path(&changed)]);
    let change = json!({"path": "workflow.steps[annotate].completion.count", "from": 2, "to": 3});
    assert_eq!(diff["changes"], json!([change]));
    glyph.done(&["workflow", "create", path(&changed)]);
    let diff = glyph.json(&["workflow", "diff", "sentiment-dual@1", "sentiment-dual"]);
    assert_eq!(diff["to"], "sentiment-dual@2");
    assert_eq!(diff["changes"], json!([change]));
    let same = glyph.done(&["workflow", "diff", "sentiment-dual@1", DUAL]);
    assert!(same.contains("are the same"), "{same}");
    assert_eq!(
        code(&glyph.run(&["workflow", "diff", "sentiment-dual", "nobody"])),
        1
    );
}

#[test]
fn every_example_is_the_same_when_it_is_written_out() {
    let glyph = Glyph::with_dual();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let is_yaml = |file: &std::path::PathBuf| file.extension().is_some_and(|kind| kind == "yaml");
    let mut count = 0;
    for file in files.filter(is_yaml) {
        let yaml = glyph.done(&["workflow", "yaml", path(&file)]);
        let written = glyph.file("written.yaml", &yaml);
        let diff = glyph.json(&["workflow", "diff", path(&file), path(&written)]);
        assert_eq!(diff["changes"], json!([]), "{}", file.display());
        count += 1;
    }
    assert!(count > 10, "{count}");
}

#[test]
fn completions_and_man_pages_know_every_verb() {
    let glyph = Glyph::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = glyph.done(&["completions", shell]);
        assert!(
            script.contains("dead-letter") && script.contains("completions"),
            "{shell}"
        );
    }
    assert_eq!(code(&glyph.run(&["completions", "tcsh"])), 2);
    let folder = glyph.folder.path().join("man");
    let written = glyph.json(&["man", path(&folder)]);
    let files = written["files"].as_array().unwrap();
    for name in ["glyph.1", "glyph-task-submit.1", "glyph-status.1"] {
        assert!(files.contains(&json!(name)), "{name}");
        let page = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(page.contains(".SH NAME"), "{name}");
    }
    let page = std::fs::read_to_string(folder.join("glyph-outbox-drop.1")).unwrap();
    assert!(page.contains("no consumer gets it"), "{page}");
    let file = glyph.file("file", "");
    let refused = glyph.run(&["man", path(&file)]);
    assert_eq!(code(&refused), 1);
}

#[test]
fn goals_and_messages_that_are_not_there_are_told() {
    let glyph = Glyph::with_dual();
    let file = glyph.file("held.yaml", HELD);
    glyph.done(&["workflow", "create", path(&file)]);
    let unknown = glyph.run(&["goal", "complete", "held", "nothing"]);
    assert_eq!(code(&unknown), 1);
    assert!(
        stderr(&unknown).contains("no goal `held/nothing`"),
        "{}",
        stderr(&unknown)
    );
    let done = glyph.json(&["goal", "complete", "held", "sign-off", "--reason", "enough"]);
    assert_eq!(done["outcome"], "applied");
    let again = glyph.run(&["goal", "complete", "held", "sign-off"]);
    assert!(
        stderr(&again).contains("reached since"),
        "{}",
        stderr(&again)
    );
    assert_eq!(glyph.json(&["agreement"]), json!({"agreement": []}));
    let id = Uuid::from_u128(5).to_string();
    let drop = glyph.run(&["outbox", "drop", &id]);
    assert_eq!(code(&drop), 1);
    assert!(
        stderr(&drop).contains("glyph outbox list"),
        "{}",
        stderr(&drop)
    );
}
