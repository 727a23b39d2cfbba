//! Links to services fail closed: a wrong authority, an expired certificate, another host's
//! certificate, no TLS at all.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use glyph_worker::webhook::{WebhookClient, WebhookRequest, WebhookSecret, WebhookSettings};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::{
    DEADLINE, eventually,
    private::{Authority, Certificate, PrivateService},
};

fn glyph(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glyph"));
    command
        .args(arguments)
        .env_remove("PGSSLMODE")
        .env("DATABASE_URL", "postgres://root@127.0.0.1/none")
        .stdin(Stdio::null());
    command
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Gives a certificate to a server of Postgres, which reads it at the next reload.
async fn install(server: &PrivateService, certificate: &Certificate) {
    let data = server.data();
    let owner = fs::metadata(&data).unwrap();
    for (from, name) in [
        (&certificate.certificate, "server.crt"),
        (&certificate.key, "server.key"),
    ] {
        let to = data.join(name);
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let mut conn = PgConnection::connect(&server.url).await.unwrap();
    for sql in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
        raw_sql(sql).execute(&mut conn).await.unwrap();
    }
    conn.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_used_only_with_the_right_certificate() {
    let server = PrivateService::start("postgres");
    let (authority, other) = (Authority::new(), Authority::new());
    let migrate = |mode: &str, authority: &Authority| {
        let url = server.url.replace("127.0.0.1", "localhost");
        let root = authority.file();
        let url = format!("{url}?sslmode={mode}&sslrootcert={}", root.display());
        let output = glyph(&["migrate"]).env("DATABASE_URL", url).output();
        let output = output.unwrap();
        (output.status.code(), told(&output))
    };
    // The server reads a new certificate some time after it was told to.
    let becomes = async |mode: &str, authority: &Authority, code: i32, why: &str| {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (ended, text) = migrate(mode, authority);
            if ended == Some(code) && text.contains(why) {
                return text;
            }
            assert!(Instant::now() < deadline, "{mode}, {why}: {text}");
        }
    };
    let plain = becomes("verify-full", &authority, 4, "does not support TLS").await;
    for cure in [
        "sslrootcert=FILE",
        "verify-ca",
        "require",
        "prefer",
        "disable",
    ] {
        assert!(plain.contains(cure), "{plain}");
    }
    install(&server, &authority.issue("localhost", false)).await;
    becomes("verify-full", &authority, 0, "").await;
    becomes("verify-full", &other, 4, "UnknownIssuer").await;
    becomes("require", &other, 0, "").await;
    install(&server, &authority.issue("localhost", true)).await;
    becomes("verify-full", &authority, 4, "expired").await;
    install(&server, &authority.issue("db.example.org", false)).await;
    becomes("verify-full", &authority, 4, "not valid for name").await;
    becomes("verify-ca", &authority, 0, "").await;
}

/// A server that ends TLS with a certificate, and sends something that is no protocol of ours.
struct TlsServer {
    process: Child,
    port: u16,
}

impl TlsServer {
    async fn start(certificate: &Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-quiet", "-accept", &port.to_string(), "-cert"])
            .arg(&certificate.certificate)
            .arg("-key")
            .arg(&certificate.key)
            // Its input goes to clients; it ends with it.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().unwrap();
        eventually("a server with TLS", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .ok()
        })
        .await;
        Self { process, port }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_is_used_only_with_the_right_certificate() {
    let (authority, other) = (Authority::new(), Authority::new());
    let list = |port: u16, root: &Path| {
        let url = format!("amqps://guest:guest@localhost:{port}/%2f");
        let output = glyph(&["dead-letter", "list"])
            .env("AMQP_URL", url)
            .env("SSL_CERT_FILE", root)
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(4), "{}", told(&output));
        told(&output)
    };
    for (certificate, root, why) in [
        (authority.issue("localhost", false), &other, "UnknownIssuer"),
        (authority.issue("localhost", true), &authority, "expired"),
        (
            authority.issue("mq.example.org", false),
            &authority,
            "not valid for name",
        ),
    ] {
        let server = TlsServer::start(&certificate).await;
        let text = list(server.port, &root.file());
        assert!(text.contains(why), "{why}: {text}");
    }
    // A server without TLS hangs up on a greeting that it does not know.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepting = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"AMQP\0\0\x09\x01").await;
        }
    });
    let root = authority.file();
    tokio::task::spawn_blocking(move || list(port, &root))
        .await
        .unwrap();
    accepting.abort();
}

/// Set for a run of the test below in a process of its own: the port that it calls. The authorities
/// that are trusted are read once in a process.
const CALLED_PORT: &str = "GLYPH_TEST_CALLED_PORT";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_goes_only_to_a_server_with_the_right_certificate() {
    let call = async |port: u16, timeout| {
        let place = format!("localhost:{port}");
        let client = WebhookClient::new(WebhookSettings {
            hosts: vec![place.parse().unwrap()],
            allow_private: true,
            secret: Some(WebhookSecret::new("a secret of the tests").unwrap()),
            secrets_dir: None,
        });
        let refused = client
            .unwrap()
            .call(WebhookRequest {
                id: Uuid::from_u128(7),
                url: &format!("https://{place}/"),
                headers: &BTreeMap::new(),
                timeout,
                body: &json!({}),
            })
            .await;
        format!("{:?}", refused.unwrap_err())
    };
    if let Ok(port) = std::env::var(CALLED_PORT) {
        let why = call(port.parse().unwrap(), Duration::from_secs(2)).await;
        println!("it failed: {why}");
        return;
    }
    let (authority, other) = (Authority::new(), Authority::new());
    let plain = wiremock::MockServer::start().await;
    let why = call(plain.address().port(), DEADLINE).await;
    assert!(
        why.contains("corrupt message") || why.contains("InvalidMessage"),
        "{why}"
    );
    assert_eq!(plain.received_requests().await.unwrap().len(), 0);
    for (certificate, trusted, reason) in [
        (authority.issue("localhost", false), &other, "UnknownIssuer"),
        (authority.issue("localhost", true), &authority, "xpired"),
        (
            authority.issue("models.example.org", false),
            &authority,
            "not valid for name",
        ),
        // The right one: the call gets through to a server that says nothing.
        (authority.issue("localhost", false), &authority, "Timeout"),
    ] {
        let server = TlsServer::start(&certificate).await;
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("links::a_webhook_goes_only_to_a_server_with_the_right_certificate")
            .env(CALLED_PORT, server.port.to_string())
            .env("SSL_CERT_FILE", trusted.file())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        let why = said.lines().find(|line| line.contains("it failed: "));
        assert!(
            why.is_some_and(|why| why.contains(reason)),
            "{reason}: {said}"
        );
    }
}

/// What a server without `fsync` has acknowledged is gone with its machine. On this machine that is
/// the tester's own affair. The address of any interface is none of loopback, and leads there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_sync_is_refused_beyond_this_machine() {
    let server = PrivateService::start("postgres");
    let far = server.url.replace("127.0.0.1", "0.0.0.0");
    let far = format!("{far}?sslmode=disable");
    let migrate = |url: &str| {
        let output = glyph(&["migrate"]).env("DATABASE_URL", url).output();
        let output = output.unwrap();
        (output.status.code(), told(&output))
    };
    for (set, fits) in [("on", true), ("off", false), ("on", true)] {
        let mut conn = PgConnection::connect(&server.url).await.unwrap();
        for sql in [
            format!("ALTER SYSTEM SET fsync = {set}"),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            raw_sql(AssertSqlSafe(sql))
                .execute(&mut conn)
                .await
                .unwrap();
        }
        conn.close().await.unwrap();
        eventually("the setting", async || {
            let mut conn = PgConnection::connect(&server.url).await.unwrap();
            let shown: String = sqlx::query_scalar("SHOW fsync")
                .fetch_one(&mut conn)
                .await
                .unwrap();
            (shown == set).then_some(())
        })
        .await;
        let (code, text) = migrate(&far);
        assert_eq!(code == Some(0), fits, "{text}");
        assert!(fits || text.contains("fsync = off"), "{text}");
        assert_eq!(migrate(&server.url).0, Some(0));
    }
}
