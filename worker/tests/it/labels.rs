//! Looking back on Postgres and RabbitMQ.

use std::process::Stdio;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{engine::task, services::Services};

const ADAPTIVE: &str = "
workflow:
  id: adaptive
  steps:
    - id: annotate
      type: annotation
      completion: { type: confidence, target: 0.9, min: 3, max: 3 }
      answer: { field: label, kind: category, values: [cat, dog] }
";

/// The commands of a task: three people's answers, to a gold task if `expected` is there. Answers to
/// a gold task do not start it: one that overtakes the `start` waits for it.
fn commands(n: u128, expected: Option<&str>, votes: [&str; 3]) -> Vec<Value> {
    let task_id = task(n);
    let id = |name: &str| Uuid::new_v5(&task_id, name.as_bytes());
    let mut commands = vec![json!({
        "type": "start",
        "command_id": id("start"),
        "task_id": task_id,
        "workflow": "adaptive",
        "expected": expected,
    })];
    for (user, label) in (1..).zip(votes) {
        commands.push(json!({
            "type": "submission",
            "command_id": id(&format!("{user}")),
            "task_id": task_id,
            "workflow": expected.is_none().then_some("adaptive"),
            "annotation": {"user_id": Uuid::from_u128(user), "data": {"label": label}},
        }));
    }
    commands
}

fn is(message: &Value, kind: &str) -> bool {
    message["type"] == format!("dev.glyph.{kind}.v1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_back_is_told_through_the_outbox_and_exported() {
    const GOLD: u128 = 20;
    let services = Services::new().await;
    let orchestrator = services.orchestrator();
    orchestrator.create_workflow(ADAPTIVE).await.unwrap();
    let worker = services.worker_process().spawn().unwrap();
    let tap = services.tap().await;
    let completed = |count: usize| {
        move |all: &[Value]| {
            let ended = all
                .iter()
                .filter(|message| is(message, "workflow.completed"));
            ended.count() >= count
        }
    };
    services
        .send(&commands(0, None, ["cat", "dog", "dog"]))
        .await;
    services.take_until(&tap, completed(1)).await;
    for n in 1..=GOLD {
        let (right, wrong) = if n % 2 == 0 {
            ("cat", "dog")
        } else {
            ("dog", "cat")
        };
        services
            .send(&commands(n, Some(right), [right, wrong, wrong]))
            .await;
    }
    let gold = usize::try_from(GOLD).unwrap();
    services.take_until(&tap, completed(gold)).await;

    let run = async |arguments: &[&str]| {
        let arguments = [arguments, &["--output", "json"]].concat();
        let mut command = services.process(&arguments);
        let output = command.stderr(Stdio::inherit()).output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let look = run(&["labels", "look", "--workflow", "adaptive"]).await;
    let look: Value = serde_json::from_str(&look).unwrap();
    assert_eq!((&look["answers"], &look["revised"]), (&json!(1), &json!(1)));
    let revised = |all: &[Value]| all.iter().any(|message| is(message, "answer.revised"));
    let told = services.take_until(&tap, revised).await;
    let told = told.iter().find(|message| is(message, "answer.revised"));
    let data = &told.unwrap()["data"];
    assert_eq!(data["task_id"], json!(task(0)));
    assert_eq!(
        (&data["before"], &data["now"]),
        (&json!("dog"), &json!("cat"))
    );

    let lines = run(&["labels", "export", "--workflow", "adaptive"]).await;
    let labels = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    let labels: Vec<Value> = labels.collect();
    assert_eq!(labels.len() as u128, GOLD + 1);
    let first = labels.iter().find(|one| one["task_id"] == json!(task(0)));
    let first = first.unwrap();
    assert_eq!(
        (&first["value"], &first["value_now"]),
        (&json!("dog"), &json!("cat"))
    );
    services.end(worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_looks_back_when_a_goal_is_reached() {
    const GOLD: u128 = 20;
    let services = Services::new().await;
    let orchestrator = services.orchestrator();
    let goal = "goals: [{ id: enough, type: volume, target: 2, unit: tasks }]\n";
    let yaml = format!("{ADAPTIVE}{goal}");
    orchestrator.create_workflow(&yaml).await.unwrap();
    let worker = services.worker_process().spawn().unwrap();
    let tap = services.tap().await;
    let are_ended = |count: usize| {
        move |all: &[Value]| {
            let ends = all.iter().filter(|one| is(one, "workflow.completed"));
            ends.count() >= count
        }
    };
    // Before anything is known of the people, so that its answer is another one afterwards.
    services
        .send(&commands(0, None, ["cat", "dog", "dog"]))
        .await;
    services.take_until(&tap, are_ended(1)).await;
    let mut gold = Vec::new();
    for n in 1..=GOLD {
        let (right, wrong) = if n % 2 == 0 {
            ("cat", "dog")
        } else {
            ("dog", "cat")
        };
        gold.extend(commands(n, Some(right), [right, wrong, wrong]));
    }
    services.send(&gold).await;
    let ended = usize::try_from(GOLD).unwrap();
    services.take_until(&tap, are_ended(ended)).await;
    let last = commands(GOLD + 1, None, ["cat", "cat", "cat"]);
    services.send(&last).await;
    let told = |all: &[Value]| all.iter().any(|message| is(message, "answer.revised"));
    let told = services.take_until(&tap, told).await;
    let told = told.iter().find(|message| is(message, "answer.revised"));
    let data = &told.unwrap()["data"];
    assert_eq!(data["task_id"], json!(task(0)));
    assert_eq!(
        (&data["before"], &data["now"]),
        (&json!("dog"), &json!("cat"))
    );
    services.end(worker).await;
}
