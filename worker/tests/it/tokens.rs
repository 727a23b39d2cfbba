//! The tokens file of a running worker, and the files that it makes.
#![cfg(target_os = "linux")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use tokio::process::Command;

use crate::support::{
    eventually,
    tokens::{free, line, worker},
};

/// Puts a file in the place of another one, as mounted secrets are swapped.
fn swap(path: &Path, text: &str) {
    let next = path.with_extension("next");
    fs::write(&next, text).unwrap();
    fs::rename(&next, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_read_again_while_the_worker_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    swap(&file, &line("viewer", "one", ""));
    let (address, metrics) = (free(), free());
    let mut worker = worker(folder.path(), &file, address)
        .env("GLYPH_METRICS_ADDR", metrics.to_string())
        .spawn()
        .unwrap();
    let pid = worker.id().unwrap().to_string();
    let hang_up = async || {
        let sent = Command::new("kill").args(["-HUP", &pid]).status().await;
        assert!(sent.unwrap().success());
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let status = async |token: &str| {
        let request = client.get(format!("http://{address}/api/v1/tasks"));
        let answer = request.bearer_auth(token).send().await.ok()?;
        Some(answer.status().as_u16())
    };
    let valid = async |value: u8| {
        let request = client.get(format!("http://{metrics}/metrics"));
        let text = request.send().await.ok()?.text().await.ok()?;
        let line = format!("glyph_tokens_file_valid {value}");
        text.contains(&line).then_some(())
    };
    eventually("ready", || async {
        let request = client.get(format!("http://{address}/readyz"));
        let answer = request.send().await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    assert_eq!(status("one").await, Some(200));
    eventually("a good file", || valid(1)).await;
    assert_eq!(status("two").await, Some(401));
    for path in ["glyph.db", "glyph.db-wal", "glyph.db.lock"] {
        let of = fs::metadata(folder.path().join(path)).unwrap();
        assert_eq!(of.permissions().mode() & 0o777, 0o600, "{path}");
    }

    // On SIGHUP.
    swap(&file, &line("viewer", "two", ""));
    hang_up().await;
    eventually("the new token", || async {
        (status("two").await == Some(200)).then_some(())
    })
    .await;
    assert_eq!(status("one").await, Some(401), "a token is revoked");
    // A bad file changes nothing, and a metric says so.
    swap(&file, "viewer:three\n");
    hang_up().await;
    eventually("a bad file", || valid(0)).await;
    assert_eq!(status("two").await, Some(200));
    // Without a signal, when the content has changed.
    swap(&file, &line("viewer", "four", ""));
    eventually("the newest token", || async {
        (status("four").await == Some(200)).then_some(())
    })
    .await;
    eventually("a good file", || valid(1)).await;
    worker.kill().await.unwrap();
}
