//! `docs/messages.md`, the examples of messages, and `schemas/asyncapi.yaml`: what they say is what
//! is sent and declared. `UPDATE_SCHEMAS=1` writes the generated parts anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use glyph_worker::{
    amqp::{Topology, asyncapi_document},
    wire::{DeadReason, MessageType},
};
use glyph_workflow_engine::command::{Command, RejectionCode};
use serde_json::Value;

use crate::support::schemas::{assert_message, assert_valid};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/messages.md")).unwrap()
}

/// A message of a run; `./test clients --record messages` writes them.
fn example(kind: MessageType) -> Value {
    let name = format!("schemas/examples/{}.json", kind.schema_name());
    let text = fs::read_to_string(root().join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_str(&text).unwrap()
}

/// The routing key that the message had.
fn routing_key(kind: MessageType, message: &Value) -> String {
    let data = &message["data"];
    let workflow = message["source"].as_str().unwrap();
    let workflow = workflow.strip_prefix("/glyph/workflows/").unwrap();
    let step = data
        .get("from_step")
        .filter(|_| kind == MessageType::TransitionOccurred);
    let step = step.or_else(|| data.get("step_id")).and_then(Value::as_str);
    let parts = [Some(kind.as_str()), Some(workflow), step];
    parts.into_iter().flatten().collect::<Vec<_>>().join(".")
}

#[test]
fn every_message_has_an_example_that_matches_its_schema() {
    let mut names = BTreeSet::new();
    for kind in MessageType::ALL {
        let message = example(*kind);
        assert_message(&message);
        assert_eq!(message["type"], kind.event_type());
        let parts = routing_key(*kind, &message);
        let parts = parts
            .strip_prefix(kind.as_str())
            .unwrap()
            .split('.')
            .skip(1)
            .count();
        assert!(
            (1..=kind.key_parts().len()).contains(&parts),
            "{kind}: {parts} parts of the routing key"
        );
        names.insert(format!("{}.json", kind.schema_name()));
    }
    let files = fs::read_dir(root().join("schemas/examples")).unwrap();
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), names);
}

/// Compares a generated part of the page with what stands there, or writes it.
fn assert_generated(part: &str, generated: &str) {
    let (begin, end) = (format!("<!-- {part}: generated -->\n"), "<!-- end -->");
    let mut text = page();
    let from = text.find(&begin).unwrap() + begin.len();
    let to = from + text[from..].find(end).unwrap();
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        text.replace_range(from..to, generated);
        fs::write(root().join("docs/messages.md"), text).unwrap();
    } else {
        assert_eq!(
            &text[from..to],
            generated,
            "{part}: run the test with UPDATE_SCHEMAS=1"
        );
    }
}

#[test]
fn the_page_shows_every_message_and_every_rejection() {
    let completed = example(MessageType::StepCompleted);
    let whole = serde_json::to_string_pretty(&completed).unwrap();
    let key = routing_key(MessageType::StepCompleted, &completed);
    assert_generated(
        "message",
        &format!("\nRouting key `{key}`:\n\n```json\n{whole}\n```\n\n"),
    );

    let mut rejections = "\n| reason | |\n|---|---|\n".to_owned();
    for code in RejectionCode::ALL {
        writeln!(rejections, "| `{code}` | {} |", about(code)).unwrap();
    }
    assert_generated("rejections", &format!("{rejections}\n"));

    let mut messages = String::new();
    for kind in MessageType::ALL {
        let (message, name) = (example(*kind), kind.schema_name());
        let data = serde_json::to_string_pretty(&message["data"]).unwrap();
        let key = routing_key(*kind, &message);
        writeln!(
            messages,
            "\n### `{kind}`\n\n{}\n\nRouting key `{key}` · [schema](../schemas/messages/{name}.v1.json) · \
             [whole message](../schemas/examples/{name}.json)\n\n```json\n{data}\n```",
            kind.about()
        )
        .unwrap();
    }
    assert_generated("messages", &format!("{messages}\n"));
}

/// What a rejection means, for producers.
fn about(code: RejectionCode) -> &'static str {
    match code {
        RejectionCode::UnknownStep => "the workflow has no such step",
        RejectionCode::DuplicateAnnotator => "the person has already submitted to this visit",
        RejectionCode::Surplus => {
            "the visit has all the submissions that it asks for, or its slots are taken"
        }
        RejectionCode::TaskFinished => "the task has ended, or is archived",
        RejectionCode::TaskPaused => "the task, its step or its workflow is paused",
        RejectionCode::StepNotActive => {
            "the step does not wait for work, or the command must name one"
        }
        RejectionCode::RoleRequired => "the person lacks a role that the step requires",
        RejectionCode::SelfReview => "the person would judge own work",
        RejectionCode::InvalidAnnotation => "the annotation is not what the step asks for",
        RejectionCode::NotWaiting => "nothing waits for this command",
        RejectionCode::AlreadyStarted => "the task is started, or runs in another workflow",
        RejectionCode::MigrationUnmapped => "the migration leaves out an active step",
    }
}

/// Blocks of the page with this information string.
fn blocks(page: &str, kind: &str) -> Vec<Value> {
    let fence = format!("\n```{kind}\n");
    let blocks = page.split(&fence).skip(1);
    blocks
        .map(|rest| serde_json::from_str(rest.split("\n```").next().unwrap()).unwrap())
        .collect()
}

#[test]
fn commands_and_answers_of_the_page_match_their_schemas() {
    let page = page();
    let commands = blocks(&page, "json command");
    assert!(commands.len() >= 3);
    for command in commands {
        let kind = command["type"].as_str().unwrap();
        assert_valid(&format!("commands/{kind}.v1.json"), &command);
    }
    let replies = blocks(&page, "json reply");
    assert!(replies.len() >= 3);
    for reply in replies {
        assert_valid("messages/reply.v1.json", &reply);
    }
    for reason in DeadReason::ALL {
        assert!(
            page.contains(&format!("\n| `{}` |", reason.as_str())),
            "{reason:?}"
        );
    }
    for command in Command::TYPES {
        assert!(page.contains(&format!("`{command}`")), "{command}");
    }
}

#[test]
fn the_asyncapi_document_is_up_to_date_and_names_what_is_declared() {
    let path = root().join("schemas/asyncapi.yaml");
    let document = asyncapi_document(example);
    let generated = format!(
        "# Made of what is declared and sent: UPDATE_SCHEMAS=1 cargo test\n{}",
        serde_yaml::to_string(&document).unwrap()
    );
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        generated,
        "run the test with UPDATE_SCHEMAS=1"
    );

    let topology = Topology::new("glyph");
    let channels = document["channels"].as_object().unwrap();
    let queues = channels
        .values()
        .filter_map(|channel| channel["bindings"]["amqp"]["queue"]["name"].as_str());
    // The queue that only marks whose the prefix is takes no messages.
    let declared = topology
        .queues()
        .into_iter()
        .filter(|name| *name != topology.deployment());
    assert_eq!(
        queues.map(ToOwned::to_owned).collect::<BTreeSet<_>>(),
        declared.collect()
    );
    let mut exchanges = BTreeMap::new();
    each(&document, &mut |key, value| {
        if let (true, Some(name)) = (key == "exchange", value["name"].as_str()) {
            exchanges.insert(name.to_owned(), value["type"].clone());
        }
        if let Some(path) = value.as_str().filter(|_| key == "$ref") {
            let is_there = match path.strip_prefix('#') {
                Some(pointer) => document.pointer(pointer).is_some(),
                None => root().join("schemas").join(path).is_file(),
            };
            assert!(is_there, "{path} leads nowhere");
        }
    });
    let names = exchanges.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names, topology.exchanges().into_iter().collect());
    assert!(
        exchanges.values().all(|kind| kind != "default"),
        "{exchanges:?}"
    );
}

/// Visits every entry of every object.
fn each(value: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(entries) => {
            for (key, inner) in entries {
                visit(key, inner);
                each(inner, visit);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each(item, visit)),
        _ => {}
    }
}
