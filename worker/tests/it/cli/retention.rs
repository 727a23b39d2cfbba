//! `glyph retention`, `glyph task import --archive` and `glyph rejected export`, on a SQLite file.

use std::{fs, sync::Arc};

use chrono::Utc;
use glyph_workflow_engine::{WorkflowOrchestrator, store::SqliteEventStore};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Glyph, code, path, stderr};
use crate::support::engine::{DUAL, envelope, submission, task};

/// A database with three tasks that have ended, and two rejected commands. Without messages, which
/// would wait for a worker.
async fn with_ended_tasks() -> Glyph {
    let glyph = Glyph::new();
    glyph.done(&["migrate"]);
    let file = glyph.folder.path().join("glyph.db");
    let store = Arc::new(
        SqliteEventStore::open(&file, Arc::new(Utc::now))
            .await
            .unwrap(),
    );
    let orchestrator = WorkflowOrchestrator::new(store.clone(), store.clone());
    orchestrator.create_workflow(DUAL).await.unwrap();
    for n in 1..=3 {
        for user in 1..=if n == 3 { 2 } else { 3 } {
            let work = envelope(&submission(task(n), "annotate", user, "yes"));
            orchestrator.process_batch(vec![work], None).await.unwrap();
        }
    }
    store.close().await;
    glyph
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_task_says_so_and_takes_no_commands_until_it_is_brought_back() {
    let glyph = with_ended_tasks().await;
    let archive = glyph.folder.path().join("archive.jsonl");
    let verb = [
        "retention",
        "--finished-before",
        "0s",
        "--archive",
        path(&archive),
    ];
    let id = task(1).to_string();
    let history = glyph.json(&["task", "history", &id]);
    let state = glyph.json(&["task", "state", &id]);
    let counted = glyph.json(&["retention", "--finished-before", "0s", "--dry-run"]);
    assert_eq!(counted["archive"]["tasks"], 3, "{counted}");
    assert!(
        counted["archive"]["bytes"].as_u64().unwrap() > 500,
        "{counted}"
    );
    assert!(!archive.exists());
    let since = glyph.json(&["retention", "--finished-before", "1d", "--dry-run"]);
    assert_eq!(since["archive"]["tasks"], 0, "{since}");

    let done = glyph.json(&verb);
    for part in ["tasks", "events", "commands", "bytes"] {
        assert_eq!(done["archive"][part], counted["archive"][part], "{part}");
    }
    let again = glyph.run(&verb);
    assert_eq!(code(&again), 1, "{}", stderr(&again));
    assert_eq!(fs::read_to_string(&archive).unwrap().lines().count(), 4);

    let now = glyph.json(&["task", "state", &id]);
    assert_eq!(
        (&now["status"], &now["archived"]["ended"]),
        (&json!("archived"), &json!("completed"))
    );
    assert_eq!(now["output"], state["output"]);
    assert_eq!(now["version"], state["version"]);
    let said = glyph.done(&["task", "state", &id]);
    assert!(
        said.contains("was archived on") && said.contains("import --archive"),
        "{said}"
    );
    let explained = glyph.json(&["task", "explain", &id]);
    assert_eq!(explained["status"], "archived");
    assert!(!explained["decisions"].as_array().unwrap().is_empty());
    let earlier = glyph.run(&["task", "state", &id, "--at-version", "2"]);
    assert_eq!(code(&earlier), 1);
    assert!(
        stderr(&earlier).contains("was archived on"),
        "{}",
        stderr(&earlier)
    );
    let last = state["version"].to_string();
    assert_eq!(
        glyph.json(&["task", "state", &id, "--at-version", &last]),
        now
    );
    let listed = glyph.json(&["task", "list", "--status", "archived"]);
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 3);
    let left = glyph.json(&["task", "history", &id]);
    assert!(left["archived"].is_string());
    assert!(left["events"].as_array().unwrap().len() < history["events"].as_array().unwrap().len());
    let tail = glyph.run(&["events", "tail"]);
    assert!(
        stderr(&tail).contains("3 of these tasks are archived"),
        "{}",
        stderr(&tail)
    );

    // New commands, and one that was applied before.
    let user = Uuid::from_u128(9).to_string();
    let data = json!({"label": "no"}).to_string();
    let submit = ["task", "submit", &id, "--user", &user, "--data", &data];
    let refused = glyph.run(&submit);
    assert!(
        stderr(&refused).contains("archived on"),
        "{}",
        stderr(&refused)
    );
    let applied = submission(task(1), "annotate", 1, "yes")["command_id"].clone();
    let applied = applied.as_str().unwrap();
    for verb in ["submit", "cancel", "pause", "retry"] {
        let mut arguments = vec!["task", verb, &id, "--command-id", applied];
        if verb == "submit" {
            arguments.extend(["--user", &user, "--data", &data]);
        }
        let refused = glyph.run(&[&arguments[..], &["--output", "json"]].concat());
        assert_ne!(code(&refused), 0);
    }
    assert_eq!(glyph.json(&["task", "history", &id]), left);
    let rebuilt = glyph.json(&["rebuild"]);
    assert_eq!(
        (&rebuilt["tasks"], &rebuilt["tasks_changed"]),
        (&json!(3), &json!(0))
    );

    let import = ["task", "import", "--archive", path(&archive)];
    let back = glyph.json(&import);
    assert_eq!(
        (&back["restored"], &back["unchanged"]),
        (&json!(3), &json!(0))
    );
    let back = glyph.json(&import);
    assert_eq!(
        (&back["restored"], &back["unchanged"]),
        (&json!(0), &json!(3))
    );
    assert_eq!(glyph.json(&["task", "history", &id]), history);
    assert_eq!(glyph.json(&["task", "state", &id]), state);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_foreign_archive_is_refused_by_its_line_and_nothing_is_done() {
    let glyph = with_ended_tasks().await;
    let archive = glyph.folder.path().join("archive.jsonl");
    glyph.done(&[
        "retention",
        "--finished-before",
        "0s",
        "--archive",
        path(&archive),
    ]);
    let text = fs::read_to_string(&archive).unwrap();
    let archived = || glyph.json(&["task", "list", "--status", "archived"])["tasks"].clone();
    let all = archived();
    let refused = |text: &str| {
        let file = glyph.file("damaged.jsonl", text);
        let refused = glyph.run(&["task", "import", "--archive", path(&file)]);
        assert_eq!(code(&refused), 3, "{}", stderr(&refused));
        assert_eq!(archived(), all);
        stderr(&refused)
    };
    let told = refused(&text.replacen("annotation_submitted", "annotation_submitteD", 3));
    assert!(
        told.contains("line 2") && told.contains("SHA-256"),
        "{told}"
    );
    let last_line = text.lines().last().unwrap();
    let told = refused(&text.replace(last_line, "{}"));
    assert!(told.contains("line 4"), "{told}");
    let told = refused(text.trim_end());
    assert!(
        told.contains("line 4") && told.contains("ends in the middle"),
        "{told}"
    );
    let told = refused(&text.replacen("\"glyph_archive\":1", "\"glyph_archive\":2", 1));
    assert!(told.contains("line 1") && told.contains("form 2"), "{told}");

    // The same tasks in another database are other ones.
    let other = with_ended_tasks().await;
    let told = other.run(&["task", "import", "--archive", path(&archive)]);
    assert_eq!(code(&told), 3);
    assert!(stderr(&told).contains("line 2") && stderr(&told).contains("is of the log"));
    // In its own, under a new id of the log, they are the same.
    glyph.done(&["restore"]);
    let back = glyph.json(&["task", "import", "--archive", path(&archive)]);
    assert_eq!(back["restored"], 3, "{back}");
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_are_deleted_once_they_are_exported() {
    let glyph = with_ended_tasks().await;
    let named = glyph.run(&["retention"]);
    assert_eq!(code(&named), 2);
    assert!(
        stderr(&named).contains("--rejected-payloads"),
        "{}",
        stderr(&named)
    );
    let without = glyph.run(&["retention", "--finished-before", "0s"]);
    assert_eq!(code(&without), 2, "{}", stderr(&without));
    let verb = [
        "retention",
        "--rejected-payloads",
        "--drafts",
        "--snapshots",
    ];
    let nothing = glyph.json(&verb);
    assert_eq!(nothing["rejected_payloads"]["rows"], 0, "{nothing}");

    let file = glyph.folder.path().join("rejected.jsonl");
    let export = ["rejected", "export", path(&file)];
    assert_eq!(glyph.json(&export)["exported"], 2);
    assert_eq!(code(&glyph.run(&export)), 1, "it does not overwrite");
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines
            .iter()
            .all(|line| line["payload"]["type"] == "submission")
    );
    let dry = glyph.json(&["retention", "--rejected-payloads", "--dry-run"]);
    assert_eq!(
        glyph.json(&verb)["rejected_payloads"],
        dry["rejected_payloads"]
    );
    assert_eq!(dry["rejected_payloads"]["rows"], 2);
    let listed = glyph.json(&["rejected", "list"]);
    assert_eq!(listed["commands"].as_array().unwrap().len(), 2);
    assert!(listed["commands"][0].get("payload").is_none());
    let id = lines[0]["command_id"].as_str().unwrap();
    let replayed = glyph.run(&["rejected", "replay", id]);
    assert!(
        stderr(&replayed).contains("no payload"),
        "{}",
        stderr(&replayed)
    );
}
