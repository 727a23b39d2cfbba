//! Retention on Postgres: archives beside a worker, what stays the same, what comes back, and who may.

use std::{
    collections::BTreeSet,
    fs,
    ops::RangeInclusive,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::Utc;
use glyph_worker::operations::archive::{ArchiveWriter, read_archive};
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    store::{Deployment, PgEventStore, ProjectionStore, Retention, TaskIndex, ToArchive},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, raw_sql};
use tokio::process::Command;
use uuid::Uuid;

use crate::{
    least_privilege::GRANTS,
    support::{
        engine::{envelope, submission, task},
        eventually,
        services::Services,
    },
};

const KEPT: &str = "
workflow:
  id: kept
  gold: { share: 0.1, min_accuracy: 0.7, window: 5 }
  steps:
    - id: annotate
      type: annotation
      completion: { type: confidence, target: 0.9, min: 3, max: 3 }
      answer: { field: label, kind: category, values: [cat, dog] }
goals:
  - { id: half, type: volume, target: 8, on_complete: [notify] }
  - { id: quality, type: quality, target: 0.9, metric: agreement, on_complete: [notify] }
";

const PARENT: &str = "
workflow:
  id: parent
  steps:
    - { id: nested, type: sub_workflow, workflow: child }
";

const CHILD: &str = "
workflow:
  id: child
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 1 } }
";

/// What a task of `kept` gets: three answers; every third task is gold. Drafts and claims beside them
/// are of no use afterwards.
fn work(n: u128) -> Vec<Value> {
    let task_id = task(n);
    let id = |name: &str| Uuid::new_v5(&task_id, name.as_bytes());
    let expected = n.is_multiple_of(3).then_some("cat");
    let mut commands = vec![json!({
        "type": "start", "command_id": id("start"), "task_id": task_id, "workflow": "kept",
        "expected": expected,
    })];
    for user in 1..=3_u128 {
        let who =
            json!({"task_id": task_id, "step_id": "annotate", "user_id": Uuid::from_u128(user)});
        let with = |kind: &str, more: Value| {
            let mut command = who.clone();
            command["type"] = json!(kind);
            command["command_id"] = json!(id(&format!("{kind} {user}")));
            let more = more.as_object().unwrap().clone();
            command.as_object_mut().unwrap().extend(more);
            command
        };
        let label = if (n + user).is_multiple_of(5) {
            "dog"
        } else {
            "cat"
        };
        commands.push(with("assign", json!({})));
        commands.push(with(
            "activity",
            json!({"draft": {"label": "?", "long": "…".repeat(200)}}),
        ));
        let mut submitted = with("submission", json!({}));
        submitted["annotation"] =
            json!({"user_id": Uuid::from_u128(user), "data": {"label": label}});
        commands.push(submitted);
    }
    commands
}

/// Sends the work of tasks once they have started: what overtakes its start, in a queue of its own,
/// would wait on the ladder.
async fn send_work(services: &Services, tasks: RangeInclusive<u128>) {
    let until = i64::try_from(*tasks.end()).unwrap();
    let (starts, more): (Vec<_>, Vec<_>) = tasks
        .flat_map(work)
        .partition(|command| command["type"] == "start");
    services.send(&starts).await;
    eventually("tasks start", async || {
        let started = services.count("SELECT count(*) FROM tasks").await;
        (started == until).then_some(())
    })
    .await;
    services.send(&more).await;
}

async fn json_of(mut command: Command) -> Value {
    let output = command.args(["--output", "json"]).output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn refused(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?}");
    (output.status.code(), told)
}

/// All rows of a statement, as text.
async fn rows(store: &PgEventStore, sql: &str) -> Vec<String> {
    let sql = format!("SELECT row_to_json(found)::text FROM ({sql}) AS found");
    let query = sqlx::query_scalar(AssertSqlSafe(sql));
    query.fetch_all(store.pool()).await.unwrap()
}

/// What projections and models have made of the log, without when they have told of it.
async fn derived(services: &Services) -> BTreeSet<String> {
    json_of(services.process(&["rebuild"])).await;
    let mut derived = BTreeSet::new();
    for name in ["agreement", "goals", "gold", "labels"] {
        let mut rows = services.store.projection_rows(name).await.unwrap();
        assert!(!rows.is_empty(), "{name}");
        // When goals have told of themselves.
        rows.retain(|key, _| key != "clock" && !key.starts_with("told/"));
        for (key, row) in &mut rows {
            if let Some(row) = row.as_object_mut() {
                row.remove("told");
            }
            derived.insert(format!("{name} {key} {row}"));
        }
    }
    let models = "SELECT model, entry, position, state::text FROM annotator_models ORDER BY model";
    derived.extend(rows(&services.store, models).await);
    let mut labels = services.process(&["labels", "export", "--workflow", "kept"]);
    let labels = labels.output().await.unwrap();
    assert!(labels.status.success());
    let labels = String::from_utf8(labels.stdout).unwrap();
    assert!(labels.lines().count() > 10);
    derived.extend(labels.lines().map(str::to_owned));
    derived
}

fn assert_same(one: &BTreeSet<String>, other: &BTreeSet<String>) {
    let differ: Vec<_> = one.symmetric_difference(other).collect();
    assert!(differ.is_empty(), "{differ:#?}");
}

/// Everything that is stored of tasks.
async fn stored(store: &PgEventStore) -> [Vec<String>; 4] {
    [
        rows(
            store,
            "SELECT * FROM workflow_events ORDER BY batch, position",
        )
        .await,
        rows(store, "SELECT * FROM commands ORDER BY command_id").await,
        rows(
            store,
            "SELECT * FROM drafts ORDER BY task_id, step_id, visit, user_id",
        )
        .await,
        rows(store, "SELECT * FROM tasks ORDER BY task_id").await,
    ]
}

fn in_file(path: &Path) -> BTreeSet<Uuid> {
    let tasks = read_archive(path).unwrap();
    tasks.map(|one| one.unwrap().whole.task.task_id.0).collect()
}

async fn ended(services: &Services, count: i64) {
    let sql = "
        SELECT count(*) FROM tasks t WHERE status NOT IN ('running', 'paused')
        AND NOT EXISTS (SELECT FROM timers WHERE task_id = t.task_id)
        AND NOT EXISTS (SELECT FROM outbox WHERE task_id = t.task_id)";
    eventually("tasks end", async || {
        (services.count(sql).await == count).then_some(())
    })
    .await;
}

async fn archived(services: &Services) -> BTreeSet<Uuid> {
    let sql = "SELECT task_id FROM tasks WHERE status = 'archived'";
    let found = sqlx::query_scalar(sql).fetch_all(services.store.pool());
    found.await.unwrap().into_iter().collect()
}

fn archive(services: &Services, path: &Path) -> Command {
    let path = path.to_str().unwrap();
    services.process(&["retention", "--finished-before", "0s", "--archive", path])
}

fn import(services: &Services, path: &Path) -> Command {
    services.process(&["task", "import", "--archive", path.to_str().unwrap()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_archived_beside_a_worker_changes_no_result_and_comes_back_whole() {
    let services = Services::new().await;
    let orchestrator = services.orchestrator();
    orchestrator.create_workflow(KEPT).await.unwrap();
    let mut worker = services.worker_process().spawn().unwrap();
    services.tap().await;
    send_work(&services, 1..=20).await;
    ended(&services, 20).await;
    // The worker has other tasks at hand while those that have ended are archived.
    send_work(&services, 21..=40).await;
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["one", "two"].map(|name| folder.path().join(name));
    let report = json_of(archive(&services, &first)).await;
    let tasks = report["archive"]["tasks"].as_u64().unwrap();
    assert!(tasks >= 20, "{report}");
    assert_eq!(in_file(&first).len() as u64, tasks, "{report}");
    assert_eq!(in_file(&first), archived(&services).await);
    assert_eq!(
        fs::metadata(&first).unwrap().permissions().mode() & 0o777,
        0o600
    );
    ended(&services, 40).await;
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();

    let some = derived(&services).await;
    let report = json_of(archive(&services, &second)).await;
    assert_eq!(
        report["archive"]["tasks"].as_u64().unwrap() + tasks,
        40,
        "{report}"
    );
    assert_eq!(archived(&services).await.len(), 40);
    let events = services.count("SELECT count(*) FROM workflow_events").await;
    let all = derived(&services).await;
    assert_same(&some, &all);
    assert_eq!(
        archived(&services).await.len(),
        40,
        "a rebuild begins at their last states"
    );

    let (code, told) = refused(archive(&services, &second)).await;
    assert_eq!(code, Some(1));
    assert!(told.contains("exists"), "{told}");
    for (path, count) in [(&second, 40 - tasks), (&first, tasks)] {
        let report = json_of(import(&services, path)).await;
        assert_eq!(report["restored"], count, "{report}");
    }
    let whole = stored(&services.store).await;
    let more = whole[0].len() - usize::try_from(events).unwrap();
    assert!(more >= 40, "{more}");
    assert_same(&some, &derived(&services).await);
    assert_eq!(
        stored(&services.store).await,
        whole,
        "a rebuild finds the same"
    );
    let report = json_of(import(&services, &first)).await;
    assert_eq!(report["unchanged"], tasks, "{report}");

    // Once more, now that all is known: what comes back is what left.
    let third = folder.path().join("three");
    json_of(archive(&services, &third)).await;
    assert_ne!(stored(&services.store).await, whole);
    json_of(import(&services, &third)).await;
    assert_eq!(stored(&services.store).await, whole);
    services.remove().await;
}

/// Decisions without messages, so nothing waits for a relay.
fn silent(store: &PgEventStore) -> WorkflowOrchestrator {
    WorkflowOrchestrator::new(Arc::new(store.clone()), Arc::new(store.clone()))
}

/// Tasks that have ended, without a worker and without messages.
async fn finish(orchestrator: &WorkflowOrchestrator, tasks: std::ops::Range<u128>) {
    for n in tasks {
        let each = [1, 2].map(|user| envelope(&submission(task(n), "annotate", user, "yes")));
        orchestrator.process_batch(each.into(), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_while_tasks_are_archived_loses_none() {
    const TASKS: u128 = 500;
    let services = Services::new().await;
    let store = &services.store;
    let orchestrator = silent(store);
    finish(&orchestrator, 0..TASKS).await;
    let whole = stored(store).await;
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["one", "two"].map(|name| folder.path().join(name));

    let mut killed = archive(&services, &first).spawn().unwrap();
    eventually("some are archived", async || {
        let done = services.count("SELECT count(*) FROM archived_tasks").await > 0;
        done.then_some(())
    })
    .await;
    killed.start_kill().unwrap();
    killed.wait().await.unwrap();
    // A transaction that was sent is committed even so, or it is not.
    let gone = "
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()";
    eventually("its sessions end", async || {
        (services.count(gone).await == 0).then_some(())
    })
    .await;
    cut(&services, &first).await;
    let (in_first, away) = (in_file(&first), archived(&services).await);
    assert!(
        away.is_subset(&in_first),
        "each is in the file before it is deleted"
    );

    json_of(archive(&services, &second)).await;
    assert_eq!(archived(&services).await.len() as u128, TASKS);
    let both: BTreeSet<Uuid> = in_first.union(&in_file(&second)).copied().collect();
    assert_eq!(both.len() as u128, TASKS);
    for path in [&first, &second] {
        json_of(import(&services, path)).await;
    }
    assert_eq!(stored(store).await, whole);
    services.remove().await;
}

/// Takes the line away in the middle of which a run was killed, as the refusal says.
async fn cut(services: &Services, path: &Path) {
    let mut text = fs::read(path).unwrap();
    if text.last() != Some(&b'\n') {
        let (code, told) = refused(import(services, path)).await;
        assert_eq!(code, Some(3));
        assert!(told.contains("ends in the middle"), "{told}");
        let end = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        text.truncate(end);
        fs::write(path, text).unwrap();
    }
}

/// The worst moment: everything is written, and nothing deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_was_written_and_not_deleted_is_in_two_files_and_comes_back_once() {
    let services = Services::new().await;
    let store = &services.store;
    let orchestrator = silent(store);
    finish(&orchestrator, 0..3).await;
    let whole = stored(store).await;
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["one", "two"].map(|name| folder.path().join(name));
    let log = store.log_id().await.unwrap();
    let file = fs::File::create(&first).unwrap();
    let mut writer = ArchiveWriter::new(file, log);
    for task in store.archivable(Utc::now(), None, 10).await.unwrap() {
        writer
            .task(&store.whole_task(task).await.unwrap().unwrap())
            .unwrap();
    }
    writer.sync().unwrap();
    drop(writer);
    assert!(archived(&services).await.is_empty());
    let report = json_of(import(&services, &first)).await;
    assert_eq!(
        (&report["restored"], &report["unchanged"]),
        (&json!(0), &json!(3))
    );
    json_of(archive(&services, &second)).await;
    for (path, restored) in [(&first, 3), (&second, 0)] {
        assert_eq!(json_of(import(&services, path)).await["restored"], restored);
    }
    assert_eq!(stored(store).await, whole);
    services.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_are_archived_after_their_parents() {
    let services = Services::new().await;
    let orchestrator = services.orchestrator();
    orchestrator.create_workflow(CHILD).await.unwrap();
    orchestrator.create_workflow(PARENT).await.unwrap();
    let mut worker = services.worker_process().spawn().unwrap();
    services.tap().await;
    let start = |n: u128| {
        json!({"type": "start", "command_id": Uuid::from_u128(n), "task_id": task(n),
               "workflow": "parent"})
    };
    services.send(&[start(1), start(2)]).await;
    eventually("the parents", async || {
        let sql = "SELECT count(*) FROM tasks WHERE workflow = 'parent'";
        (services.count(sql).await == 2).then_some(())
    })
    .await;
    let children = eventually("the children", async || {
        let sql = "SELECT task_id FROM tasks WHERE workflow = 'child'";
        let found = sqlx::query_scalar::<_, Uuid>(sql).fetch_all(services.store.pool());
        let found = found.await.unwrap();
        (found.len() == 2).then_some(found)
    })
    .await;
    // The first child has ended and its parent with it; the second parent goes on.
    let ends = |child: Uuid| {
        let mut work = submission(child, "annotate", 1, "yes");
        work["workflow"] = Value::Null;
        work
    };
    services.send(&[ends(children[0])]).await;
    ended(&services, 2).await;
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["one", "two"].map(|name| folder.path().join(name));
    let report = json_of(archive(&services, &first)).await;
    assert_eq!(report["archive"]["tasks"], 2, "{report}");
    services.send(&[ends(children[1])]).await;
    ended(&services, 4).await;
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();
    // A parent that has begun nothing else keeps its child until it is archived itself.
    let parents = "UPDATE tasks SET updated_at = now() + interval '1 day' WHERE workflow = 'parent'
                   AND status = 'completed'";
    raw_sql(parents)
        .execute(services.store.pool())
        .await
        .unwrap();
    let report = json_of(archive(&services, &second)).await;
    assert_eq!(report["archive"]["tasks"], 0, "{report}");
    assert_eq!(report["archive"]["children_left"], 1, "{report}");
    services.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_deletes() {
    let services = Services::new().await;
    let store = &services.store;
    let orchestrator = silent(store);
    finish(&orchestrator, 0..1).await;
    let pool = store.pool();
    let role = format!("{}_worker", services.prefix);
    let grants = GRANTS.replace(":role", &role).replace(":schema", "public");
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'of the test'; {grants}");
    raw_sql(AssertSqlSafe(create)).execute(pool).await.unwrap();
    let options = pool.connect_options().as_ref().clone();
    let url = options
        .username(&role)
        .password("of the test")
        .to_url_lossy();
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("archive");
    for verb in [
        services.process(&["retention", "--drafts"]),
        services.process(&["retention", "--snapshots", "--dry-run"]),
        archive(&services, &path),
    ] {
        let mut verb = verb;
        verb.env("DATABASE_URL", url.as_str());
        let (_, told) = refused(verb).await;
        assert!(
            told.contains(&role) && told.contains("as the owner"),
            "{told}"
        );
    }
    assert!(!path.exists());

    // Neither the setting, nor the right to delete, nor functions of its own open the log.
    let grant = format!(
        "GRANT DELETE ON stored_events TO {role};
         CREATE SCHEMA evil AUTHORIZATION {role};"
    );
    raw_sql(AssertSqlSafe(grant)).execute(pool).await.unwrap();
    let mut own = PgConnection::connect(url.as_str()).await.unwrap();
    let evil = "
        CREATE FUNCTION evil.pg_has_role(name, oid, text) RETURNS boolean
            LANGUAGE sql AS 'SELECT true';
        SET search_path = evil, pg_catalog, public;
        SET glyph.retention = 'on'";
    raw_sql(evil).execute(&mut own).await.unwrap();
    let error = raw_sql("DELETE FROM public.stored_events")
        .execute(&mut own)
        .await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("append-only: DELETE refused"), "{error}");
    // The owner needs the setting.
    let error = raw_sql("DELETE FROM stored_events").execute(pool).await;
    assert!(error.unwrap_err().to_string().contains("append-only"));
    let error = raw_sql("BEGIN; SET LOCAL glyph.retention = 'on'; TRUNCATE stored_events; COMMIT");
    assert!(
        error
            .execute(pool)
            .await
            .unwrap_err()
            .to_string()
            .contains("append-only")
    );
    drop(own);
    let drop_role = format!("DROP SCHEMA evil CASCADE; DROP OWNED BY {role}; DROP ROLE {role}");
    raw_sql(AssertSqlSafe(drop_role))
        .execute(pool)
        .await
        .unwrap();
    let one = store.archivable(Utc::now(), None, 1).await.unwrap()[0];
    let whole = store.whole_task(one).await.unwrap().unwrap();
    let state = whole.last_state().unwrap();
    assert_eq!(
        store.archive(&[ToArchive { whole, state }]).await.unwrap(),
        [one]
    );
    assert!(store.task(one).await.unwrap().unwrap().status.is_final());
    services.remove().await;
}
