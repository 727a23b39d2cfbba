//! Files of tokens, of settings, and to import.

use std::{fs, path::PathBuf};

use chrono::Utc;
use glyph_worker::{
    broker::Properties,
    operations::import::{Import, ImportRequest, Imported, Mapping},
    settings::{Settings, SettingsFlags, Tokens},
    wire::read_delivery,
};
use glyph_workflow_engine::parse_workflow;
use tempfile::TempDir;

use super::{Target, check_text, files, kind_of};

/// A password that no message may show.
const SECRET: &str = "hunter2-Zq8kP";

/// The input as a file.
fn written(input: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, input).unwrap();
    (folder, path)
}

pub(super) fn tokens() -> Target {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let file = format!(
        "# people\noperator:{hash} name=ops\nannotator:{hash}:0190a1b2-0000-7000-8000-000000000001 roles=a+b skills=c expires=2099-01-01T00:00:00Z\n\nviewer:{hash}\n"
    );
    Target {
        name: "tokens",
        samples: vec![file.into_bytes()],
        words: &[
            "operator:",
            "annotator:",
            "viewer:",
            "producer:",
            "root:",
            ":",
            "#",
            " ",
            "name=",
            "roles=",
            "skills=+",
            "expires=",
            "2020-01-01T00:00:00Z",
            "\n",
            "\r\n",
            "\u{feff}",
            "\u{0}",
            "hunter2-Zq8kP",
            "00",
        ],
        check: |input| {
            let (_folder, path) = written(input);
            match Tokens::from_file(&path) {
                Ok(tokens) => {
                    let lines = input.split(|byte| *byte == b'\n').count();
                    assert!(tokens.len() <= lines);
                    assert!(tokens.required() && tokens.holder("x", Utc::now()).is_err());
                    assert_eq!(tokens.reload(), Ok(None));
                    format!("{} tokens", tokens.len())
                }
                Err(error) => {
                    let text = error
                        .to_string()
                        .replace(&path.display().to_string(), "FILE");
                    check_text(&text);
                    // A token may stand where its hash belongs.
                    assert!(!text.contains(SECRET), "{text}");
                    let mut digits = text.split(|c: char| !c.is_ascii_hexdigit());
                    assert!(digits.all(|digits| digits.len() < 16), "{text}");
                    kind_of(&text)
                }
            }
        },
    }
}

pub(super) fn settings() -> Target {
    let file = "database_url = \"postgres://app:hunter2-Zq8kP@db.example.org:5432/glyph?sslmode=require\"\namqp_url = \"amqps://app:hunter2-Zq8kP@mq.example.org:5671/%2f\"\nhttp_addr = \"127.0.0.1:8080\"\nprefix = \"glyph\"\nlanes = 4\nbatch_max = 64\nbatch_wait = \"5ms\"\nlog = \"info\"\npublish = \"all\"\n";
    Target {
        name: "settings",
        samples: vec![file.as_bytes().to_vec()],
        words: &[
            "database_url = ",
            "amqp_url = ",
            "api_tokens_file = ",
            "webhook_secret_file = ",
            "cors_origins = ",
            "schema = ",
            "queues = ",
            "prefetch = ",
            "outbox_max = ",
            "drain = ",
            "sqlite://",
            "embedded:",
            "://",
            "@",
            ":",
            "?",
            "&password=",
            "%",
            "%zz",
            "#",
            "[",
            "]",
            "\"",
            "'''",
            "\n",
            "= 1",
            "= -1",
            "= true",
            "= [1]",
            "= {a = 1}",
            "9223372036854775808",
        ],
        check: |input| {
            let (_folder, path) = written(input);
            let flags = SettingsFlags {
                config: Some(path.clone()),
                ..SettingsFlags::default()
            };
            // Only where it still is a password may it not be shown.
            let text = String::from_utf8_lossy(input).into_owned();
            let is_password = is_password_only(&text);
            let check_secret = |shown: &str| {
                assert!(!is_password || !shown.contains(SECRET), "{shown}");
            };
            match Settings::load(&flags, []) {
                Ok(settings) => {
                    check_secret(&format!("{settings:?}"));
                    for line in settings.describe() {
                        check_secret(&line.value.unwrap_or_default());
                    }
                    let services = settings.services();
                    services.err().map_or("read".to_owned(), |error| {
                        check_secret(&error.to_string());
                        kind_of(&error.to_string())
                    })
                }
                Err(error) => {
                    assert!(!error.faults.is_empty());
                    for fault in &error.faults {
                        check_text(fault);
                        check_secret(fault);
                    }
                    let first = error.faults[0].replace(&path.display().to_string(), "FILE");
                    format!("{} faults, {}", error.faults.len(), kind_of(&first))
                }
            }
        },
    }
}

/// Whether the secret stands as a password of a URL only, on a line that sets a URL.
fn is_password_only(text: &str) -> bool {
    let is_url = |line: &str| {
        ["database_url = \"", "amqp_url = \""].iter().any(|key| {
            let value = line
                .strip_prefix(key)
                .and_then(|rest| rest.strip_suffix('"'));
            let parts = value.and_then(|value| value.split_once("://app:hunter2-Zq8kP@"));
            parts.is_some_and(|(scheme, rest)| {
                let is_plain = |text: &str| !text.contains(['"', '\\', '\r', '@', '?']);
                is_plain(scheme) && is_plain(rest) && !rest.contains(SECRET)
            })
        })
    };
    text.split('\n')
        .all(|line| !line.contains("hunter2") || is_url(line))
}

pub(super) fn imports() -> Target {
    let mut samples = files("worker/tests/fixtures/exports", "");
    samples.push(b"id,user,label\n1,ann,yes\n2,\"b \"\"o\"\" b\",no\n".to_vec());
    samples.push(
        b"{\"id\":1,\"user\":\"ann\",\"label\":\"yes\"}\n{\"id\":2,\"label\":null}\n".to_vec(),
    );
    Target {
        name: "imports",
        samples,
        words: &[
            "id",
            "user",
            "label",
            "text",
            "null",
            "[]",
            "{}",
            "\"",
            ",",
            "\t",
            ";",
            "\r\n",
            "\n",
            "\u{feff}",
            "\u{0}",
            "-1",
            "1e400",
            "true",
            "annotations",
            "completed_by",
            "result",
            "choices",
            "bbox",
            "\\ud800",
            "_worker_id",
            "accept",
        ],
        check: |input| {
            let (_folder, path) = written(input);
            let workflow = include_str!("../../../../examples/sentiment-dual.yaml");
            let workflow = parse_workflow(workflow).unwrap();
            let step = workflow.step("annotate").unwrap();
            let mapping = Mapping {
                id_field: Some("id".to_owned()),
                user_field: Some("user".to_owned()),
                answer_fields: vec!["label".to_owned()],
                ..Mapping::default()
            };
            let request = ImportRequest {
                file: &path,
                format: None,
                mapping,
                workflow: "sentiment-dual".to_owned(),
                step,
            };
            let refused = |text: String| {
                let text = text.replace(&path.display().to_string(), "FILE");
                check_text(&text);
                kind_of(&text)
            };
            let import = match Import::open(request) {
                Ok(import) => import,
                Err(error) => return refused(error.to_string()),
            };
            let rows = match Imported::of(&import) {
                Ok(rows) => rows,
                Err(error) => return refused(error.to_string()),
            };
            let (mut commands, mut last) = (0, String::new());
            for row in rows {
                let row = match row {
                    Ok(row) => row,
                    Err(error) => return refused(error.to_string()),
                };
                // A worker reads what an import writes.
                for command in row.commands {
                    let read = read_delivery(command.body.as_bytes(), &Properties::default());
                    let read = read.unwrap_or_else(|error| panic!("{error}: {}", command.body));
                    assert_eq!(read.envelope.command_id, command.command_id);
                    commands += 1;
                }
                if let Some(refusal) = row.refused.first() {
                    last = refused(refusal.reason.clone());
                }
            }
            format!("{:?}, {}, {last}", import.format(), commands.min(8))
        },
    }
}
