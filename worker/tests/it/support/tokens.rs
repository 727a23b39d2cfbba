//! A worker on a SQLite file, with a file of tokens.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
};

use sha2::{Digest, Sha256};
use tokio::process::Command;

/// A line of the tokens file; `rest` follows the hash.
pub(crate) fn line(role: &str, token: &str, rest: &str) -> String {
    let digest = Sha256::digest(token);
    let hash = digest
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    format!("{role}:{hash}{rest}\n")
}

/// A free port; nothing else takes it in the moment between.
pub(crate) fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A worker without a controlling terminal, as a service runs: there SIGHUP asks for a reload.
pub(crate) fn worker(folder: &Path, tokens: &Path, address: SocketAddr) -> Command {
    let database = format!("sqlite://{}", folder.join("glyph.db").display());
    let mut worker = Command::new("setsid");
    worker
        .args([env!("CARGO_BIN_EXE_glyph"), "worker"])
        .env("DATABASE_URL", database)
        .env("AMQP_URL", "embedded:")
        .env("GLYPH_HTTP_ADDR", address.to_string())
        .env("GLYPH_API_TOKENS_FILE", tokens)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    worker
}
