//! The pipeline on Postgres and RabbitMQ.

use std::{collections::BTreeSet, sync::Arc};

use glyph_worker::{
    amqp::{AmqpDeadLetters, Topology},
    broker::RetryDelay,
    dead_letters::DeadLetters as _,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::support::{
    engine::{Unruly, submission, task},
    eventually,
    services::{Services, assert_first_deliveries_in_order},
};

fn is(message: &Value, kind: &str) -> bool {
    message["type"] == format!("dev.glyph.{kind}.v1")
}

fn count(messages: &[Value], kind: &str) -> usize {
    let of_kind = messages.iter().filter(|message| is(message, kind));
    of_kind
        .map(|message| message["id"].as_str().unwrap())
        .collect::<BTreeSet<_>>()
        .len()
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_change_nothing_and_publish_nothing() {
    let services = Services::new().await;
    let worker = services.worker(services.orchestrator());
    let tap = services.tap().await;
    let mut commands = Vec::new();
    for n in 0..20 {
        for user in [1, 2] {
            commands.push(submission(task(n), "annotate", user, "yes"));
        }
    }
    let doubled: Vec<_> = commands.iter().chain(&commands).cloned().collect();
    services.send(&doubled).await;
    let messages = services
        .take_until(&tap, |all| count(all, "workflow.completed") == 20)
        .await;
    services.outbox_empty().await;
    assert_first_deliveries_in_order(&messages);
    assert_eq!(count(&messages, "step.completed"), 20);
    eventually("every copy counted", || async {
        let text = worker.metrics.encode();
        text.contains(r#"glyph_commands_total{outcome="duplicate",type="submission"} 40"#)
            .then_some(())
    })
    .await;
    assert_eq!(services.count("SELECT count(*) FROM commands").await, 40);
    worker.stop().await;
    services.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_on_the_same_tasks_agree() {
    let services = Services::new().await;
    let workers = [
        services.worker(services.orchestrator()),
        services.worker(services.orchestrator()),
    ];
    let tap = services.tap().await;
    // Twenty people race for two slots of each task.
    let mut commands = Vec::new();
    for user in 1..=20 {
        commands.extend((0..10).map(|n| submission(task(n), "annotate", user, "yes")));
    }
    services.send(&commands).await;
    let decided = "SELECT count(*) FROM commands";
    eventually("every command decided", || async {
        (services.count(decided).await == 200).then_some(())
    })
    .await;
    let messages = services
        .take_until(&tap, |all| count(all, "command.rejected") == 180)
        .await;
    services.outbox_empty().await;
    assert_eq!(count(&messages, "step.completed"), 10);
    assert_first_deliveries_in_order(&messages);
    let applied = "SELECT count(*) FROM commands WHERE outcome = 'applied'";
    assert_eq!(services.count(applied).await, 20);
    let gaps = "SELECT count(*) FROM (SELECT stream_id FROM workflow_events GROUP BY stream_id
                HAVING count(*) <> max(version)) AS with_gaps";
    assert_eq!(services.count(gaps).await, 0);
    for worker in workers {
        worker.stop().await;
    }
    services.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_dead_lettered_alone() {
    let services = Services::new().await;
    let unruly = Arc::new(Unruly::new(services.orchestrator()));
    *unruly.poison.lock().unwrap() = Some("arsenic");
    let worker = services.worker(unruly);
    let tap = services.tap().await;
    let mut commands: Vec<_> = (0..50)
        .map(|n| submission(task(n), "annotate", 1, "yes"))
        .collect();
    commands.insert(25, submission(task(99), "annotate", 1, "arsenic"));
    services.send(&commands).await;
    services.send_bytes("submission", b"{not json").await;
    services
        .send_bytes("submission", &vec![b' '; (1 << 20) + 1])
        .await;
    services
        .take_until(&tap, |all| count(all, "workflow.started") == 50)
        .await;
    let mut dead = Vec::new();
    while dead.len() < 2 {
        dead.extend(services.take(&services.topology.dead()).await);
    }
    let reasons: BTreeSet<_> = dead
        .iter()
        .map(|letter| {
            let headers = letter.properties.headers().as_ref().unwrap().inner();
            let reason = headers.get("x-glyph-reason").unwrap();
            String::from_utf8(reason.as_long_string().unwrap().as_bytes().to_vec()).unwrap()
        })
        .collect();
    assert_eq!(
        reasons,
        ["malformed".to_owned(), "too_large".to_owned()].into()
    );
    // The poison command is on the retry ladder, for the first time or again; it went there alone.
    eventually("the poison on the ladder", || async {
        let text = worker.metrics.encode();
        (!text.contains(r#"glyph_retries_total{reason="panicked"} 0"#)).then_some(())
    })
    .await;
    assert_eq!(services.count("SELECT count(*) FROM commands").await, 50);
    worker.stop().await;
    services.remove().await;
}

/// An operator's open transaction, say. Intake goes on, and so does every other task.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_keeps_back_its_own_task_only() {
    let services = Services::new().await;
    let worker = services.worker(services.orchestrator());
    let _tap = services.tap().await;
    let decided = async |count| {
        eventually("decided", || async {
            (services.count("SELECT count(*) FROM commands").await == count).then_some(())
        })
        .await;
    };
    let first: Vec<_> = (0..40)
        .map(|n| submission(task(n), "annotate", 1, "yes"))
        .collect();
    services.send(&first).await;
    decided(40).await;
    let mut operator = PgConnection::connect(&services.database_url).await.unwrap();
    let mut lock = operator.begin().await.unwrap();
    sqlx::query("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE")
        .bind(task(7))
        .execute(&mut *lock)
        .await
        .unwrap();
    let second: Vec<_> = (0..40)
        .map(|n| submission(task(n), "annotate", 2, "yes"))
        .collect();
    services.send(&second).await;
    decided(79).await;
    let letters = AmqpDeadLetters::new(services.amqp_settings());
    let aside = eventually("set aside", || async {
        let aside = letters.set_aside(10).await.unwrap();
        (!aside.is_empty()).then_some(aside)
    })
    .await;
    assert_eq!((aside.len(), aside[0].reason.as_str()), (1, "blocked"));
    assert_eq!(
        aside[0].command_id.as_deref(),
        second[7]["command_id"].as_str()
    );
    assert!(aside[0].first_failed_at.is_some());
    assert!(letters.list(10).await.unwrap().is_empty());
    assert!(worker.pipeline.intake_pauses().borrow().is_empty());
    lock.rollback().await.unwrap();
    // Free again: the next command of the task is decided at once.
    services
        .send(&[submission(task(7), "annotate", 3, "yes")])
        .await;
    decided(80).await;
    worker.stop().await;
    services.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_overtakes_its_start_waits_on_the_ladder() {
    let services = Services::new().await;
    let worker = services.worker(services.orchestrator());
    let tap = services.tap().await;
    let mut early = submission(task(1), "annotate", 1, "yes");
    early["workflow"] = Value::Null;
    services.send(std::slice::from_ref(&early)).await;
    eventually("a retry", || async {
        let text = worker.metrics.encode();
        text.contains(r#"glyph_retries_total{reason="task_not_found"} 1"#)
            .then_some(())
    })
    .await;
    let start = json!({"type": "start", "command_id": Uuid::now_v7(), "task_id": task(1),
        "workflow": "sentiment-dual"});
    let second = submission(task(1), "annotate", 2, "yes");
    services.send(&[start, second]).await;
    let messages = services
        .take_until(&tap, |all| count(all, "workflow.completed") == 1)
        .await;
    assert_first_deliveries_in_order(&messages);
    assert!(
        services
            .take(&services.topology.retry(RetryDelay::S4))
            .await
            .is_empty()
    );
    worker.stop().await;
    services.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_benchmark_leaves_nothing_behind() {
    let services = Services::new().await;
    let arguments = [
        "bench",
        "-n",
        "200",
        "--paced-secs",
        "1",
        "--output",
        "json",
    ];
    let run = services.process(&arguments).output().await.unwrap();
    assert!(run.status.success(), "{run:?}");
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    let runs = report["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{report}");
    for run in runs {
        assert_eq!(
            (&run["subject"], &run["commands"]),
            (&json!("worker"), &json!(200))
        );
        assert!(run["messages"].as_f64() > Some(0.0), "{run}");
        assert!(run["latency"]["commands"].as_u64() > Some(0), "{run}");
        assert!(
            run["latency"]["to_receipt"]["p50_ms"].as_f64() > Some(0.0),
            "{run}"
        );
    }
    assert_eq!(services.count("SELECT count(*) FROM tasks").await, 0);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%bench%'";
    assert_eq!(services.count(schemas).await, 0);
    let bench = Topology::new(&format!("{}-bench", services.prefix));
    for queue in bench.queues() {
        assert!(!services.queue_exists(&queue).await, "{queue}");
    }
    services.remove().await;
}
