//! The floor under `glyph bench`: a program that does the work of a worker without its logic.
//!
//! For each command it reads a message, locks the head of its task, writes events, the head, a row
//! of the inbox and a row of the outbox in one transaction a batch, publishes messages and waits for
//! their confirms, deletes the outbox row, and acks. Durability is that of the worker: synchronous
//! commits, persistent messages, confirms, quorum queues. How many events and messages a command
//! has, and how large they are, it is told; so a worker is compared with the same work.
//!
//! `glyph bench --floor PROGRAM` starts it, with everything in its environment, and ends it by
//! SIGTERM. It promises nothing: it is no worker.

mod batch;
mod lane;
mod setup;

use std::error::Error;

use tokio::signal::unix::{SignalKind, signal};

/// Everything that goes wrong ends the program.
type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Fallible<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let setup = setup::Setup::from_environment()?;
        setup.make_tables().await?;
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = lane::run(&setup) => ended,
            _ = terminated.recv() => Ok(()),
        }
    })
}
