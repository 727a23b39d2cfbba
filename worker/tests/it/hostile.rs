//! Hostile files, given to the real binary under resource limits of the kernel.
#![cfg(target_os = "linux")]

use std::{
    collections::BTreeSet,
    net::TcpListener,
    process::{Command, Stdio},
};

use reqwest::StatusCode;
use serde_json::Value;
use tokio::time::timeout;

use crate::support::{DEADLINE, eventually};

/// Address space in KiB. Threads reserve most of it and never touch it.
const ADDRESSES_KIB: u32 = 1 << 20;
/// Processor time for one file, in seconds. A release build takes less than a second for the worst;
/// tests are debug builds.
const SECONDS: u32 = 20;
/// Maximum size of the report of one file in bytes.
const REPORT_BYTES_MAX: usize = 2 << 20;

/// The binary under these limits.
fn bounded(seconds: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -v \"$1\" && ulimit -t \"$2\" && shift 2 && exec \"$@\"",
            "sh",
        ])
        .args([ADDRESSES_KIB.to_string(), seconds.to_string()])
        .arg(env!("CARGO_BIN_EXE_glyph"))
        .args(arguments)
        // Threads reserve address space in proportion to the cores, which is not what is measured
        // here.
        .env("TOKIO_WORKER_THREADS", "2")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

#[test]
fn files_are_refused_within_bounds_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.yaml");
    for (name, source) in glyph_hostile_files::files() {
        std::fs::write(&path, source).unwrap();
        let file = path.to_str().unwrap();
        for form in ["text", "json"] {
            let arguments = ["workflow", "validate", "--output", form, file];
            let output = bounded(SECONDS, &arguments).output().unwrap();
            let said = output.stdout.len() + output.stderr.len();
            assert_eq!(output.status.code(), Some(3), "{name}: {output:?}");
            assert!(said < REPORT_BYTES_MAX, "{name}: {said} bytes as {form}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_refused_within_bounds_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("glyph.db");
    // A free port; nothing else takes it in the moment between.
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut worker = tokio::process::Command::from(bounded(10 * SECONDS, &["worker"]));
    let mut worker = worker
        .env("DATABASE_URL", format!("sqlite://{}", database.display()))
        .env("AMQP_URL", "embedded:")
        .env("GLYPH_HTTP_ADDR", address.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // Every client needs a provider, whether or not it will use TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let url = |path: &str| format!("http://{address}{path}");
    eventually("ready", || async {
        let answer = client.get(url("/readyz")).send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let mut codes = BTreeSet::new();
    for (name, source) in glyph_hostile_files::files() {
        let request = client
            .post(url("/api/v1/workflows"))
            .header("content-type", "application/yaml")
            .body(source);
        let answer = timeout(DEADLINE, request.send()).await;
        let answer = answer
            .unwrap_or_else(|_| panic!("{name}: no answer"))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let refused = [
            StatusCode::UNPROCESSABLE_ENTITY,
            StatusCode::PAYLOAD_TOO_LARGE,
        ];
        assert!(refused.contains(&answer.status()), "{name}: {answer:?}");
        let body = answer.bytes().await.unwrap();
        assert!(
            body.len() < REPORT_BYTES_MAX,
            "{name}: {} bytes",
            body.len()
        );
        let problem: Value = serde_json::from_slice(&body).unwrap();
        codes.insert(problem["code"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        codes,
        ["invalid_workflow", "too_large"].map(str::to_owned).into()
    );
    // The process survives.
    let alive = client.get(url("/livez")).send().await.unwrap();
    assert_eq!(alive.status(), StatusCode::OK);
    worker.kill().await.unwrap();
}
