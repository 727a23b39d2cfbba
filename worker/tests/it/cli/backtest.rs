//! `glyph backtest`.

use serde_json::json;
use uuid::Uuid;

use super::{Glyph, code, path, stderr};

#[test]
fn a_backtest_says_what_other_settings_would_have_done() {
    const VOTES: &str = "workflow:
  id: votes
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 3 }
      consensus: { field: label, threshold: 0.3 }
    - { id: check, type: review }
  transitions:
    - { from: annotate, to: check }
";
    let glyph = Glyph::new();
    glyph.done(&["migrate"]);
    let file = glyph.file("votes.yaml", VOTES);
    glyph.done(&["workflow", "create", path(&file)]);
    let mut known = Vec::new();
    for (n, labels) in [(1, ["cat", "cat", "dog"]), (2, ["dog", "cat", "cat"])] {
        let key = format!("item-{n}");
        let project = format!("project=p{n}");
        let start = [
            "task", "start", "--key", &key, "-w", "votes", "--label", &project,
        ];
        glyph.done(&start);
        let submit = |user: u128, arguments: &[&str]| {
            let user = Uuid::from_u128(user).to_string();
            glyph.done(
                &[
                    &["task", "submit", "--key", &key, "--user", &user][..],
                    arguments,
                ]
                .concat(),
            );
        };
        for (user, label) in (1..).zip(labels) {
            submit(user, &["--data", &format!(r#"{{"label": "{label}"}}"#)]);
        }
        submit(
            9,
            &["--step", "check", "--decision", "approve", "--data", "{}"],
        );
        known.push(json!({"key": key, "expected": "cat"}).to_string());
    }
    let known = glyph.file("known.jsonl", &known.join("\n"));
    let one = [
        "backtest",
        "-w",
        "votes",
        "--set",
        "completion.count=1",
        "--gold",
        path(&known),
        "--price",
        "0.5",
    ];
    let report = glyph.json(&one);
    let changed = json!({"path": "steps.annotate.completion.count", "before": 3, "after": 1});
    assert_eq!(report["changes"], json!([changed]));
    assert_eq!(report["recorded"]["annotations"], 8);
    assert_eq!(
        report["annotations"],
        json!({"used": 3, "saved": 4, "unusable": 1})
    );
    assert_eq!(
        (&report["recorded"]["cost"], &report["simulated"]["cost"]),
        (&json!(4.0), &json!(1.5))
    );
    assert_eq!(report["gold"]["recorded"]["right"], 2);
    assert_eq!(report["gold"]["simulated"]["answers"], 1);
    let kinds = report["unknown"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].as_str());
    let kinds: Vec<_> = kinds.flatten().collect();
    assert_eq!(
        kinds,
        ["more_annotations", "other_subject", "shown_otherwise"]
    );
    let text = glyph.done(&one);
    for part in [
        "2 tasks of `votes@1`",
        "steps.annotate.completion.count: 3 -> 1",
        "annotations per task",
        "100.0 %",
        "What cannot be known:",
        "looked at another value",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Of one task, by a file that is not stored.
    let revised = glyph.file("revised.yaml", &VOTES.replace("count: 3", "count: 2"));
    let report = glyph.json(&["backtest", "-w", path(&revised), "--where", "project=p1"]);
    assert_eq!(
        (&report["tasks"], &report["revision"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(report["annotations"]["saved"], 1);

    let refused = |arguments: &[&str], exit: i32, part: &str| {
        let output = glyph.run(&[&["backtest"], arguments].concat());
        assert_eq!(code(&output), exit, "{arguments:?}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(part),
            "{part}: {}",
            stderr(&output)
        );
    };
    refused(&["-w", "nobody"], 1, "there is no workflow `nobody`");
    refused(
        &["-w", "votes", "--set", "completion.cuont=1"],
        2,
        "did you mean `completion.count`?",
    );
    refused(
        &[
            "-w",
            "votes",
            "--set",
            "steps.annotate.completion.count=zero",
        ],
        3,
        "count",
    );
    refused(
        &["-w", "votes", "--price", "cheap"],
        2,
        "write 0.05 or expert=0.05",
    );
    let strange = glyph.file("strange.yaml", &VOTES.replace("id: votes", "id: strange"));
    refused(&["-w", path(&strange)], 1, "there is no workflow `strange`");
    let bad = glyph.file("bad.jsonl", "{\"expected\": 1}\n");
    refused(
        &["-w", "votes", "--gold", path(&bad)],
        3,
        "bad.jsonl:1: give either",
    );
}
