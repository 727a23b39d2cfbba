//! What a process owes those who start it: it minds no variable of others, says when its output
//! was not written, and is held up by nobody who reads its log.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{PipeWriter, Read, Write, pipe},
    net::TcpListener,
    os::unix::{ffi::OsStringExt, fs::PermissionsExt},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::support::{DEADLINE, eventually, services::Services};

const DUAL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/sentiment-dual.yaml"
);
/// Verbs that need no more than a database file.
const VERBS: [&[&str]; 9] = [
    &["settings"],
    &["config", "check"],
    &["workflow", "validate", DUAL],
    &["workflow", "list"],
    &["task", "list"],
    &["goal", "list"],
    &["annotator", "list"],
    &[
        "labels",
        "export",
        "--workflow",
        "sentiment-dual",
        "--format",
        "csv",
    ],
    &["dead-letter", "list"],
];

/// The binary on a database file in `folder`, without the caller's settings. `setsid` takes it from
/// the caller's terminal.
fn glyph(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("setsid");
    command.arg(env!("CARGO_BIN_EXE_glyph")).args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GLYPH_") {
            command.env_remove(name);
        }
    }
    let database = format!("sqlite://{}", folder.join("glyph.db").display());
    command
        .env("DATABASE_URL", database)
        .env("AMQP_URL", "embedded:")
        .stdin(Stdio::null());
    command
}

/// A folder with a migrated database that holds the example.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["migrate"][..], &["workflow", "create", DUAL]] {
        let output = glyph(folder.path(), arguments).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
    }
    folder
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn bytes(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

#[test]
fn variables_of_others_may_hold_any_bytes() {
    let folder = folder();
    for verb in VERBS {
        let output = glyph(folder.path(), verb)
            .env(bytes(b"NAME\xff"), bytes(b"value"))
            .env("LS_COLORS", bytes(b"\xfe\xff"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{verb:?}: {}", told(&output));
        let output = glyph(folder.path(), verb)
            .env("GLYPH_PREFIX", bytes(b"glyph\xff"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{verb:?}");
        assert!(told(&output).contains("GLYPH_PREFIX"), "{}", told(&output));
    }
}

#[test]
fn output_that_was_not_written_is_a_failure_and_a_closed_pipe_is_none() {
    let folder = folder();
    let help: &[&str] = &["help"];
    for verb in VERBS.into_iter().chain([help]) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = glyph(folder.path(), verb).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb:?}: {}", told(&output));
        assert!(
            told(&output).contains("standard output"),
            "{verb:?}: {}",
            told(&output)
        );
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let output = glyph(folder.path(), verb).stdout(writer).output().unwrap();
        assert!(output.status.success(), "{verb:?}: {}", told(&output));
    }
}

#[test]
fn what_is_written_can_be_read_by_its_owner_alone() {
    let folder = folder();
    let labels = folder.path().join("labels.jsonl");
    let out = labels.to_str().unwrap();
    let export = [
        "labels",
        "export",
        "--workflow",
        "sentiment-dual",
        "--out",
        out,
    ];
    let output = glyph(folder.path(), &export).output().unwrap();
    assert!(output.status.success(), "{}", told(&output));
    for entry in fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let rights = entry.metadata().unwrap().permissions().mode();
        assert_eq!(rights & 0o077, 0, "{:?}", entry.file_name());
    }
}

/// A worker that serves health on a port of its own.
struct Worker {
    process: Child,
    port: u16,
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Worker {
    fn start(mut command: Command) -> Self {
        let port = free_port();
        command.env("GLYPH_METRICS_ADDR", format!("127.0.0.1:{port}"));
        Self {
            process: command.spawn().unwrap(),
            port,
        }
    }

    /// An answer of the health listener, once it answers.
    async fn get(&self, path: &str) -> String {
        eventually(path, async || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            let request =
                format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            let read = stream.read_to_string(&mut answer);
            timeout(DEADLINE, read).await.ok()?.ok()?;
            Some(answer)
        })
        .await
    }

    async fn until(&self, path: &str, part: &str) {
        eventually(part, async || {
            self.get(path).await.contains(part).then_some(())
        })
        .await;
    }

    fn signal(&self, name: &str) {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    }

    async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the worker does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps a pipe full.
fn fill(mut to: PipeWriter) {
    thread::spawn(move || while to.write_all(&[b'x'; 4096]).is_ok() {});
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_holds_nothing_up() {
    let folder = folder();
    let (reader, writer) = pipe().unwrap();
    fill(writer.try_clone().unwrap());
    let mut command = glyph(folder.path(), &["worker", "--no-http"]);
    command.env("GLYPH_LOG", "debug").stderr(writer);
    let mut worker = Worker::start(command);
    worker.until("/readyz", "200 OK").await;
    worker
        .until("/metrics", "glyph_log_lines_dropped_total")
        .await;
    worker.signal("-TERM");
    assert_eq!(worker.ended().await.code(), Some(0));
    drop(reader);
}

/// Reads until a part has come.
fn read_until(from: &mut impl Read, part: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(part) {
        let length = from.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "`{part}` has not come: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_reads_the_log_filter_of_the_file_again() {
    let folder = folder();
    let file = folder.path().join("glyph.toml");
    fs::write(&file, "log = \"info\"").unwrap();
    let arguments = ["worker", "--no-http", "--config", file.to_str().unwrap()];
    for (variable, told) in [
        (None, "the log filter was read again"),
        (Some("info"), "does not change the log filter"),
    ] {
        let mut command = glyph(folder.path(), &arguments);
        if let Some(variable) = variable {
            command.env("GLYPH_LOG", variable);
        }
        let (mut reader, writer) = pipe().unwrap();
        command.stderr(writer);
        let mut worker = Worker::start(command);
        worker.until("/readyz", "200 OK").await;
        worker.signal("-HUP");
        tokio::task::spawn_blocking(move || {
            read_until(&mut reader, told);
            thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
        })
        .await
        .unwrap();
        worker.until("/livez", "alive").await;
        worker.signal("-TERM");
        assert_eq!(worker.ended().await.code(), Some(0));
    }
}

/// A worker on services, with health.
fn on_services(services: &Services) -> Worker {
    let command = services.worker_process().into_std();
    Worker::start(command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_only_reads_is_not_ready_before_a_command_comes() {
    let services = Services::new().await;
    let mut worker = on_services(&services);
    worker.until("/readyz", "200 OK").await;
    services
        .set_for_database("default_transaction_read_only = on")
        .await;
    worker.until("/readyz", "takes no writes").await;
    services
        .set_for_database("default_transaction_read_only = off")
        .await;
    worker.until("/readyz", "200 OK").await;
    worker.signal("-TERM");
    assert_eq!(worker.ended().await.code(), Some(0));
    services.remove().await;
}
