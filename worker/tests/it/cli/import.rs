//! Files of other systems: imported, published, refused with a way out; and keys of one's own.

use glyph_workflow_engine::ids::{TaskId, UserId};

use super::*;

fn exported(name: &str) -> String {
    format!(
        "{}/tests/fixtures/exports/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// A workflow file with one step.
fn one_step(glyph: &Glyph, consensus: &str) -> PathBuf {
    let source = format!(
        "workflow:\n  id: one\n  steps:\n    - id: annotate\n      type: annotation\n      \
         completion: {{ type: annotation_count, count: 2 }}\n      consensus: {consensus}\n"
    );
    glyph.file("one.yaml", &source)
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn keys_of_ones_own_name_tasks_and_people() {
    let glyph = Glyph::with_dual();
    let (task, user) = (TaskId::of_key("item-1"), UserId::of_key("ann@example.org"));
    let text = glyph.done(&["task", "start", "--key", "item-1", "-w", "sentiment-dual"]);
    assert!(
        text.starts_with(&format!("task {task}, of the key `item-1`")),
        "{text}"
    );
    let submit = [
        "task",
        "submit",
        "--key",
        "item-1",
        "--user-key",
        "ann@example.org",
        "--data",
        "{\"label\":\"a\"}",
    ];
    assert_eq!(glyph.json(&submit)["task_id"], json!(task));
    let by_key = glyph.json(&["task", "state", "--key", "item-1"]);
    assert_eq!(by_key, glyph.json(&["task", "state", &task.to_string()]));
    let history = glyph.done(&["task", "history", "--key", "item-1", "--output", "json"]);
    assert!(history.contains(&user.to_string()), "{history}");
    glyph.done(&["task", "explain", "--key", "item-1"]);
    glyph.done(&[
        "task",
        "migrate",
        "--key",
        "item-1",
        "--to",
        "sentiment-dual",
        "--dry-run",
    ]);

    let shown = glyph.json(&["task", "id", "item-1", "item-2"]);
    assert_eq!(shown["ids"][0], json!({"key": "item-1", "id": task}));
    let shown = glyph.done(&["task", "id", "--user", "ann@example.org"]);
    assert!(shown.contains(&user.to_string()), "{shown}");

    let wrong = |arguments: &[&str]| {
        let refused = glyph.run(arguments);
        assert_eq!(code(&refused), 2);
        stderr(&refused)
    };
    assert!(wrong(&["task", "state", "item-1"]).contains("--key"));
    assert!(wrong(&["task", "state"]).contains("--key"));
    let both = wrong(&["task", "state", "--key", "a", &task.to_string()]);
    assert!(both.contains("cannot be used with"), "{both}");
    let mail = [
        "task",
        "assign",
        "--key",
        "item-1",
        "--user",
        "ann@example.org",
    ];
    assert!(wrong(&mail).contains("--user-key"));
    let until = wrong(&[
        "task",
        "pause",
        "--key",
        "item-1",
        "--until",
        "2026-03-09 10:00",
    ]);
    assert!(until.contains("no offset from UTC"), "{until}");
}

#[test]
fn the_rule_of_keys_is_on_the_page_as_in_the_help() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/from-your-export.md");
    let page = std::fs::read_to_string(page).unwrap();
    let help = Glyph::new().done(&["task", "id", "--help"]);
    let python: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.contains("import uuid"))
        .take(3)
        .map(str::trim)
        .collect();
    assert!(python[1].starts_with("def glyph_id(kind, key):"), "{help}");
    for line in &python {
        let code = line.split("  #").next().unwrap().trim();
        assert!(page.contains(code), "{code}");
    }
    for key in ["item-1", "ann@example.org"] {
        let kind = if key == "item-1" { "task" } else { "user" };
        let name = format!("glyph:{kind}:{key}");
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes());
        assert!(page.contains(&id.to_string()), "{name} is {id}");
    }
}

#[test]
fn a_file_of_commands_is_read_whatever_saved_it_or_refused_with_a_way_out() {
    let glyph = Glyph::with_dual();
    let (id, task) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let start =
        json!({"type": "start", "command_id": id, "task_id": task, "workflow": "sentiment-dual"});
    let marked = glyph.file("marked.jsonl", &format!("\u{feff}{start}\r\n"));
    assert_eq!(glyph.json(&["publish", path(&marked)])["published"], 1);
    let error = |name: &str, content: &[u8]| {
        let file = glyph.folder.path().join(name);
        std::fs::write(&file, content).unwrap();
        let refused = glyph.run(&["publish", path(&file)]);
        assert_eq!(code(&refused), 3);
        stderr(&refused)
    };
    let array = error("array.json", format!("[\n  {start}\n]\n").as_bytes());
    assert!(
        array.contains("jq -c '.[]'") && array.lines().count() == 1,
        "{array}"
    );
    let pretty = error("pretty.json", b"{\n  \"type\": \"start\"\n}\n");
    assert!(
        pretty.contains("jq -c .") && pretty.lines().count() == 1,
        "{pretty}"
    );
    let wide: Vec<u8> = "\u{feff}{}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert!(error("wide.jsonl", &wide).contains("iconv -f UTF-16LE -t UTF-8"));
    let with = |key: &str, value: &str| {
        let mut submission = json!({
            "type": "submission", "command_id": id, "task_id": task,
            "annotation": {"user_id": Uuid::from_u128(3), "data": {}},
        });
        submission["annotation"][key] = json!(value);
        error("submission.jsonl", submission.to_string().as_bytes())
    };
    let mail = with("user_id", "ann@example.org");
    assert!(
        mail.contains("no UUID") && mail.contains("glyph task id --user"),
        "{mail}"
    );
    let local = with("submitted_at", "2026-03-09 10:00:00");
    assert!(
        local.contains("2026-03-09T10:00:00Z") && local.contains("RFC 3339"),
        "{local}"
    );
}

#[test]
fn every_tool_is_recognised_and_checked_without_a_service() {
    let glyph = Glyph::new();
    let boxes = "{ metric: box_iou, field: boxes }";
    let spans = "{ metric: span_f1, field: spans }";
    let label = "{ field: relation }";
    let cases = [
        (
            "label-studio.json",
            boxes,
            "--label=set=a",
            "label-studio",
            [4_u64, 8, 0],
        ),
        (
            "prodigy.jsonl",
            spans,
            "--label=set=a",
            "prodigy",
            [4, 12, 0],
        ),
        ("crowd.csv", label, "--label=set=a", "crowd-csv", [5, 20, 1]),
        ("doccano.jsonl", spans, "--user=ann", "doccano", [2, 2, 0]),
        ("coco.json", boxes, "--as-gold", "coco", [2, 0, 2]),
    ];
    for (name, consensus, more, format, counts) in cases {
        let workflow = one_step(&glyph, consensus);
        let file = exported(name);
        let import = ["task", "import", &file, "-w", path(&workflow), "--dry-run"];
        let done = glyph.json(&[&import[..], &[more]].concat());
        assert_eq!(done["format"], format, "{done}");
        let found = [&done["tasks"], &done["submissions"], &done["gold_tasks"]];
        assert_eq!(found.map(|count| count.as_u64().unwrap()), counts, "{done}");
    }
    assert!(!glyph.folder.path().join("glyph.db").exists());
    let workflow = one_step(&glyph, spans);
    let prodigy = exported("prodigy.jsonl");
    let text = glyph.done(&[
        "task",
        "import",
        &prodigy,
        "-w",
        path(&workflow),
        "--dry-run",
    ]);
    assert!(text.contains("1 judgement left out: ignored"), "{text}");
    assert!(
        text.contains("4 tasks with more judgements than the 2"),
        "{text}"
    );
    let out = glyph.done(&[
        "task",
        "import",
        &prodigy,
        "-w",
        path(&workflow),
        "--out",
        "-",
    ]);
    assert_eq!(lines(&out).len(), 16);
    let nobody = exported("doccano.jsonl");
    let refused = glyph.run(&[
        "task",
        "import",
        &nobody,
        "-w",
        path(&workflow),
        "--dry-run",
    ]);
    assert_eq!(code(&refused), 3);
    assert!(
        stderr(&refused).contains("--user NAME"),
        "{}",
        stderr(&refused)
    );
}

#[test]
fn an_import_is_sent_once_however_often_it_is_made() {
    let glyph = Glyph::with_dual();
    let file = glyph.file(
        "items.csv",
        "\u{feff}id;text;worker;label\r\n1;good;ann;positive\r\n1;good;bob;positive\r\n2;bad;ann;negative\r\n",
    );
    let import = [
        "task",
        "import",
        path(&file),
        "-w",
        "sentiment-dual",
        "--id-field",
        "id",
        "--user-field",
        "worker",
        "--answer-field",
        "label",
    ];
    let out = glyph.folder.path().join("commands.jsonl");
    let written = glyph.json(&[&import[..], &["--out", path(&out)]].concat());
    assert_eq!(written["written"], 5);
    let first = std::fs::read_to_string(&out).unwrap();
    assert_eq!(
        lines(&first)[0]["input"],
        json!({"id": "1", "text": "good"})
    );
    assert_eq!(glyph.json(&import)["published"], 5);
    assert_eq!(
        glyph.json(&["publish", path(&out)])["published"],
        5,
        "the same commands"
    );
    glyph.json(&[&import[..], &["--out", path(&out)]].concat());
    assert_eq!(std::fs::read_to_string(&out).unwrap(), first);
}

#[test]
fn what_cannot_be_imported_is_told_before_anything_is_sent() {
    let glyph = Glyph::with_dual();
    let workflow = one_step(&glyph, "{ metric: span_f1, field: spans }");
    let good = json!({"id": "a", "who": "ann", "spans": [{"start": 0, "end": 2, "tag": "X"}]});
    let bad = json!({"id": "b", "who": "ann", "spans": [{"start": 2, "end": 0, "tag": "X"}]});
    let label = json!({"id": "c", "who": "ann", "spans": [{"start": 0, "end": 2, "label": "X"}]});
    let file = glyph.file("spans.jsonl", &format!("{good}\n{bad}\n{label}\nno json\n"));
    let import = [
        "task",
        "import",
        path(&file),
        "-w",
        path(&workflow),
        "--id-field",
        "id",
        "--user-field",
        "who",
        "--answer-field",
        "spans",
        "--out",
        "-",
    ];
    let refused = glyph.run(&import);
    assert_eq!((code(&refused), refused.stdout.len()), (3, 0));
    let text = stderr(&refused);
    assert!(
        text.contains("3 rows or judgements cannot be imported, so nothing was sent"),
        "{text}"
    );
    assert!(text.contains("spans.jsonl:2: `spans[0]`"), "{text}");
    assert!(
        text.contains("spans.jsonl:3: ") && text.contains("did you mean `tag`?"),
        "{text}"
    );
    assert!(text.contains("spans.jsonl:4: not JSON"), "{text}");
    let json = glyph.run(&[&import[..], &["--output", "json"]].concat());
    assert_eq!(code(&json), 3);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["refused"], &json["refusals"][0]["line"]),
        (&json!(3), &json!(2))
    );
    let others = glyph.done(&[&import[..], &["--skip-bad"]].concat());
    let types: Vec<Value> = lines(&others)
        .iter()
        .map(|line| line["type"].clone())
        .collect();
    assert_eq!(types, ["start", "submission", "start", "start"]);

    let table = glyph.file("items.csv", "id,text\n1,a\n");
    let error = |arguments: &[&str], expected: i32| {
        let import = ["task", "import", path(&table), "-w", "sentiment-dual"];
        let refused = glyph.run(&[&import[..], arguments].concat());
        assert_eq!(code(&refused), expected, "{}", stderr(&refused));
        stderr(&refused)
    };
    assert!(error(&["--id-field", "ID"], 3).contains("did you mean `id`?"));
    assert!(error(&[], 2).contains("--id-field"));
    assert!(error(&["--id-field", "id", "--step", "label"], 2).contains("`annotate`"));
    let unstored = [
        "task",
        "import",
        path(&table),
        "-w",
        path(&workflow),
        "--id-field",
        "id",
    ];
    let refused = glyph.run(&unstored);
    assert_eq!(code(&refused), 2);
    assert!(
        stderr(&refused).contains("glyph workflow create"),
        "{}",
        stderr(&refused)
    );
    let unknown = glyph.run(&[
        "task",
        "import",
        path(&table),
        "-w",
        "nobody",
        "--id-field",
        "id",
    ]);
    assert_eq!(code(&unknown), 1);
    let missing = glyph.run(&["task", "import", "/nowhere.csv", "-w", "sentiment-dual"]);
    assert_eq!(code(&missing), 3);
}
