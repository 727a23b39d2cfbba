//! The documented accounts suffice for a worker, and permit no more.

use std::{fs::File, process::Stdio};

use lapin::{Connection, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use sqlx::{AssertSqlSafe, ConnectOptions, raw_sql};

use crate::support::{aftermath, eventually, private::PrivateService, services::Services};

pub(crate) const GRANTS: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../migrations/postgres/runtime_role.sql"
));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_needs_no_more_than_the_runtime_role_and_its_own_prefix() {
    let broker = PrivateService::start("rabbitmq");
    let services = Services::on(broker.url.clone()).await;
    let prefix = services.prefix.clone();
    broker.rabbitmqctl(&["add_user", "worker", "of-the-test"]);
    let own = format!(r"^{prefix}\..*");
    let write = format!(r"^({prefix}\..*|amq\.default)$");
    broker.rabbitmqctl(&["set_permissions", "worker", &own, &write, &own]);
    let role = format!("{prefix}_worker");
    let pool = services.store.pool();
    let grants = GRANTS.replace(":role", &role).replace(":schema", "public");
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'of the test'; {grants}");
    raw_sql(AssertSqlSafe(create)).execute(pool).await.unwrap();

    let options = pool.connect_options();
    let options = options.as_ref().clone().username(&role);
    let database = options.password("of the test").to_url_lossy();
    let amqp = broker.url.replace("guest:guest", "worker:of-the-test");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut worker = services
        .process(&["worker", "--no-http", "--no-migrate"])
        .env("DATABASE_URL", database.as_str())
        .env("AMQP_URL", &amqp)
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let tap = services.tap().await;
    let commands = aftermath::commands();
    services.send(&commands).await;
    aftermath::check(&services, &tap, &commands, "least privilege").await;
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();
    let log = std::fs::read_to_string(&log).unwrap().to_lowercase();
    for refusal in ["permission denied", "access_refused", "access refused"] {
        assert!(!log.contains(refusal), "{log}");
    }

    let connection = Connection::connect(&amqp, ConnectionProperties::default());
    let channel = connection.await.unwrap().create_channel().await.unwrap();
    let foreign = channel.queue_declare(
        "another.queue".into(),
        QueueDeclareOptions::default(),
        FieldTable::default(),
    );
    assert!(foreign.await.is_err());
    let drop = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    raw_sql(AssertSqlSafe(drop)).execute(pool).await.unwrap();
    services.remove().await;
}

/// The broker's account may declare nothing: an operator does, and a worker says what it misses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_may_not_declare_says_what_is_missing_and_goes_on_once_it_is_there() {
    let broker = PrivateService::start("rabbitmq");
    let services = Services::on(broker.url.clone()).await;
    let prefix = services.prefix.clone();
    broker.rabbitmqctl(&["add_user", "worker", "of-the-test"]);
    let all = format!(r"^({prefix}\..*|amq\.default)$");
    broker.rabbitmqctl(&["set_permissions", "worker", "^$", &all, &all]);
    let amqp = broker.url.replace("guest:guest", "worker:of-the-test");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut worker = services
        .process(&["worker", "--no-http"])
        .env("AMQP_URL", &amqp)
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    eventually("it says what is missing", async || {
        let said = said();
        let names = said.contains(&format!("queue {prefix}.dead"));
        (names && said.contains("glyph topology declare")).then_some(())
    })
    .await;

    let declare = services.process(&["topology", "declare"]).output();
    let declared = declare.await.unwrap();
    let text = String::from_utf8(declared.stdout).unwrap();
    assert!(declared.status.success(), "{text}");
    assert!(
        text.contains(&format!("made         queue {prefix}.dead")),
        "{text}"
    );
    let again = services.process(&["topology", "declare"]).output();
    let text = String::from_utf8(again.await.unwrap().stdout).unwrap();
    assert_eq!(text.trim(), "everything is there, as it is to be");
    let tap = services.tap().await;
    let commands = aftermath::commands();
    services.send(&commands).await;
    aftermath::check(&services, &tap, &commands, "declared by an operator").await;
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();

    // Another database with the same prefix is refused, and told how to have it nevertheless.
    let other = Services::on(broker.url.clone()).await;
    let refused = other
        .process(&["worker", "--no-http"])
        .env("GLYPH_PREFIX", &prefix)
        .output();
    let refused = refused.await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("glyph topology adopt"), "{said}");
    let adopt = other
        .process(&["topology", "adopt"])
        .env("GLYPH_PREFIX", &prefix)
        .status();
    assert!(adopt.await.unwrap().success());
    other.remove().await;
    services.remove().await;
}
