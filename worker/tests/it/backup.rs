//! A database that is restored goes on: its dump in another cluster, and a restore to an earlier
//! time.

use std::path::{Path, PathBuf};

use glyph_worker::projections::read_goals;
use glyph_workflow_engine::store::{Deployment, PgEventStore, PgSettings};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, raw_sql};
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::support::{
    engine::{submission, task},
    eventually,
    private::PrivateService,
    services::{Services, Taken},
};

const WORKFLOW: &str = "
workflow:
  id: counted
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { field: label, on_disagreement: { strategy: majority_vote } }
goals:
  - { id: half, type: volume, target: 4, on_complete: [notify] }
  - { id: all, type: volume, target: 8, on_complete: [notify] }
";

/// Two submissions for each of four tasks.
fn work(tasks: std::ops::Range<u128>) -> Vec<Value> {
    let each = tasks.flat_map(|n| [1, 2].map(|user| submission(task(n), "annotate", user, "yes")));
    let mut commands: Vec<Value> = each.collect();
    for command in &mut commands {
        command["workflow"] = json!("counted");
    }
    commands
}

async fn run(command: &mut Command) -> String {
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

/// The goals that are reached, once nothing is left to do.
async fn reached(store: &PgEventStore, count: usize) {
    eventually("goals are reached", async || {
        let goals = read_goals(store).await.unwrap();
        let done = goals.values().filter(|goal| goal.completed_at.is_some());
        (done.count() == count).then_some(())
    })
    .await;
}

/// Id, version and type of the events of a task.
async fn events(pool: &PgPool, of: Uuid) -> Vec<(Uuid, i64, String)> {
    let sql = "
        SELECT event_id, version, event_type FROM workflow_events
        WHERE stream_id = $1 ORDER BY version";
    sqlx::query_as(sql).bind(of).fetch_all(pool).await.unwrap()
}

/// The programs of each major version that is installed, newest first.
fn versions() -> Vec<PathBuf> {
    let installed = Path::new("/usr/lib/postgresql").read_dir();
    let folders = installed.into_iter().flatten().flatten();
    let mut found: Vec<_> = folders.map(|folder| folder.path().join("bin")).collect();
    found.retain(|bin| bin.join("pg_ctl").exists());
    found.sort();
    found.reverse();
    found
}

/// A worker that has done with four tasks and published everything, and the tap of its messages.
async fn worked(services: &Services) -> (Child, String) {
    services
        .orchestrator()
        .create_workflow(WORKFLOW)
        .await
        .unwrap();
    let worker = services.worker_process().spawn().unwrap();
    let tap = services.tap().await;
    services.send(&work(0..4)).await;
    reached(&services.store, 1).await;
    services.outbox_empty().await;
    (worker, tap)
}

/// A dump, and what consumers have seen since.
struct Drill {
    services: Services,
    dump: PathBuf,
    tap: String,
    seen: Vec<Value>,
    /// The events of a task that began after the dump.
    later: Vec<(Uuid, i64, String)>,
}

impl Drill {
    async fn goes_on(&mut self, fresh: PrivateService) {
        let mut admin = PgConnection::connect(&fresh.url).await.unwrap();
        raw_sql("CREATE DATABASE restored")
            .execute(&mut admin)
            .await
            .unwrap();
        let base = fresh
            .url
            .split_once('?')
            .map_or(&*fresh.url, |(base, _)| base);
        let url = format!("{}/restored", base.rsplit_once('/').unwrap().0);
        let mut pg_restore = Command::new("pg_restore");
        pg_restore.args(["--no-owner", "--exit-on-error", "--dbname", &url]);
        run(pg_restore.arg(&self.dump)).await;
        let restored = PgEventStore::connect(&url, PgSettings::default())
            .await
            .unwrap();
        restored.check_whole().await.unwrap();
        assert_eq!(
            restored.log_id().await.unwrap(),
            self.services.store.log_id().await.unwrap()
        );

        // It is earlier than what consumers have seen, so it becomes another log.
        let told = run(self
            .services
            .process(&["restore", "--output", "json"])
            .env("DATABASE_URL", &url))
        .await;
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            told["log_id"],
            restored.log_id().await.unwrap().0.to_string()
        );
        let mut worker = self
            .services
            .worker_process()
            .env("DATABASE_URL", &url)
            .spawn()
            .unwrap();
        self.services.send(&work(4..8)).await;
        reached(&restored, 2).await;
        let anew = events(restored.pool(), task(4)).await;
        let kinds = |events: &[(Uuid, i64, String)]| -> Vec<(i64, String)> {
            events
                .iter()
                .map(|(_, version, kind)| (*version, kind.clone()))
                .collect()
        };
        assert_eq!(kinds(&anew), kinds(&self.later));
        assert!(
            anew.iter()
                .zip(&self.later)
                .all(|(anew, later)| anew.0 != later.0)
        );
        let goal_all = |messages: &[Value]| {
            messages.iter().any(|message| {
                message["data"]["goal"] == "all"
                    && message["type"].as_str().unwrap().contains("completed")
            })
        };
        let after = self.services.take_until(&self.tap, goal_all).await;
        // What tells of agreement is named by the event that it tells of, which may be in the dump.
        let is_new = |message: &&Value| !message["type"].as_str().unwrap().contains("agreement");
        let again = after
            .iter()
            .filter(is_new)
            .find(|message| self.seen.contains(&message["id"]));
        assert_eq!(again, None);
        let ids = after.iter().map(|message| message["id"].clone());
        self.seen.extend(ids);

        // Made anew from the log, the goals are the same.
        let live = read_goals(&restored).await.unwrap();
        worker.start_kill().unwrap();
        worker.wait().await.unwrap();
        run(self
            .services
            .process(&["rebuild"])
            .env("DATABASE_URL", &url))
        .await;
        let mut worker = self
            .services
            .worker_process()
            .env("DATABASE_URL", &url)
            .spawn()
            .unwrap();
        reached(&restored, 2).await;
        assert_eq!(read_goals(&restored).await.unwrap(), live);
        // What was told of them before the restore, and since, is not told again.
        eventually("everything is published", async || {
            let waiting = sqlx::query_scalar("SELECT count(*) FROM outbox");
            let waiting: i64 = waiting.fetch_one(restored.pool()).await.unwrap();
            (waiting == 0).then_some(())
        })
        .await;
        let again = self.services.take(&self.tap).await;
        let body = |taken: &Taken| serde_json::from_slice::<Value>(&taken.body).unwrap();
        let again: Vec<Value> = again.iter().map(body).collect();
        let is_completion = |message: &&Value| {
            let kind = message["type"].as_str().unwrap();
            kind.contains("goal.completed")
        };
        assert_eq!(again.iter().find(is_completion), None);
        worker.start_kill().unwrap();
        worker.wait().await.unwrap();
        restored.pool().close().await;
    }
}

/// What the operations page tells operators to do, with a cluster that has never seen these
/// transaction ids, while somebody keeps a transaction open and while the worker works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_goes_on_in_another_cluster_and_an_earlier_one_under_new_ids() {
    let services = Services::new().await;
    let mut foreign = PgConnection::connect(&services.database_url).await.unwrap();
    raw_sql("BEGIN; SELECT pg_current_xact_id()")
        .execute(&mut foreign)
        .await
        .unwrap();
    let (mut worker, tap) = worked(&services).await;

    // The dump is taken at work; what is sent after it is not in it.
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump");
    let mut pg_dump = Command::new("pg_dump");
    pg_dump.args(["--format=custom", "--file"]).arg(&dump);
    run(pg_dump.arg(&services.database_url)).await;
    services.send(&work(4..6)).await;
    eventually("later tasks are done", async || {
        let done = "SELECT count(*) FROM tasks WHERE workflow = 'counted' AND status = 'completed'";
        (services.count(done).await == 6).then_some(())
    })
    .await;
    services.outbox_empty().await;
    let before = services.take(&tap).await;
    let id = |taken: &Taken| serde_json::from_slice::<Value>(&taken.body).unwrap()["id"].clone();
    let before: Vec<Value> = before.iter().map(id).collect();
    let later = events(services.store.pool(), task(4)).await;
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();

    let mut drill = Drill {
        services,
        dump,
        tap,
        seen: before,
        later,
    };
    let versions = versions();
    for programs in &versions {
        drill.goes_on(PrivateService::postgres_of(programs)).await;
    }
    if versions.len() < 2 {
        println!("left out: a restore into another major version, as only one is installed");
    }
    foreign.close().await.unwrap();
    drill.services.remove().await;
}

/// Half a restore is told before a command is decided on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_not_start_on_tables_that_do_not_fit_the_log() {
    let services = Services::new().await;
    let pool = services.store.pool();
    let faults = [
        (
            "INSERT INTO projections (name, entry, position) VALUES ('goals', 9, 9)",
            "the projection `goals` has read to entry 9, and the log ends at 0",
        ),
        (
            "DELETE FROM projections; INSERT INTO log_batches (batch, has_events) OVERRIDING SYSTEM VALUE VALUES (7, true)",
            "the sequence of `log_batches` is behind the table",
        ),
    ];
    for (fault, sentence) in faults {
        raw_sql(AssertSqlSafe(fault)).execute(pool).await.unwrap();
        let output = services
            .process(&["worker", "--no-http"])
            .output()
            .await
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(
            told.contains(sentence) && told.contains("`glyph restore`"),
            "{told}"
        );
    }
    // The test's own sessions are a worker's to it.
    let refused = services.process(&["restore"]).output().await.unwrap();
    assert!(
        refused.status.success() || {
            let told = String::from_utf8(refused.stderr).unwrap();
            told.contains("stop every one of them first")
        }
    );
    services.store.restored().await.unwrap();
    services.store.check_whole().await.unwrap();
    services.remove().await;
}

/// A consumer that begins late gets what others got, from the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_sent_again_as_they_were() {
    let services = Services::new().await;
    let (mut worker, tap) = worked(&services).await;
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();
    let sent = services.take(&tap).await;

    let nowhere = services
        .process(&["events", "replay", "--to", "nowhere"])
        .output()
        .await
        .unwrap();
    let told = String::from_utf8(nowhere.stderr).unwrap();
    assert!(
        told.contains("nowhere") && told.contains("--from 0.0"),
        "{told}"
    );
    let told =
        run(&mut services.process(&["events", "replay", "--to", &tap, "--output", "json"])).await;
    let told: Value = serde_json::from_str(&told).unwrap();
    let again = services.take(&tap).await;
    assert_eq!(told["sent"], again.len());
    let by_id = |taken: Vec<Taken>| -> std::collections::BTreeMap<String, Vec<u8>> {
        let id = |taken: &Taken| taken.properties.message_id().as_ref().unwrap().to_string();
        taken
            .into_iter()
            .map(|taken| (id(&taken), taken.body))
            .collect()
    };
    // A message that was still to be published when the worker ended may be there as well.
    let again = by_id(again);
    for (id, body) in by_id(sent) {
        assert_eq!(again.get(&id), Some(&body), "{id}");
    }

    // From where it ended there is nothing; `tail` prints one line for each event.
    let through = told["through"].as_str().unwrap();
    let rest = run(&mut services.process(&["events", "tail", "--from", through])).await;
    assert_eq!(rest, "");
    let arguments = [
        "events",
        "tail",
        "--type",
        "workflow_started",
        "--workflow",
        "counted",
    ];
    let started = run(&mut services.process(&arguments)).await;
    assert_eq!(started.lines().count(), 4);
    services.remove().await;
}
