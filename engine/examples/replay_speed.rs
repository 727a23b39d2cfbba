//! Measures how long reading the state of a task from Postgres takes, from all its events and from a
//! snapshot.
//!
//! ```text
//! DATABASE_URL=postgres://… cargo run --release --example replay_speed [-- EVENTS]
//! ```
//!
//! In a schema of its own, which it removes, one person takes a place and gives it back until the
//! task has so many events (default 1,000). Prints the median and the 99th percentile of 500 reads.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program: it reads its environment and the clock, and prints"
)]

use std::{env, error::Error, sync::Arc, time::Instant};

use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{Command, CommandEnvelope},
    ids::CommandId,
    store::{PgEventStore, PgSettings},
};
use serde_json::json;
use sqlx::raw_sql;
use uuid::Uuid;

const SCHEMA: &str = "glyph_replay_speed";
const READS: usize = 500;

const WORKFLOW: &str = "
workflow:
  id: replay
  steps:
    - { id: annotate, type: annotation, completion: { type: annotation_count, count: 2 } }
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let events: usize = env::args().nth(1).map_or(Ok(1_000), |text| text.parse())?;
    let url = env::var("DATABASE_URL").map_err(|_| "DATABASE_URL names no database")?;
    let settings = PgSettings {
        schema: SCHEMA.to_owned(),
        ..PgSettings::default()
    };
    let store = PgEventStore::connect(&url, settings).await?;
    let measured = measure(&store, events).await;
    raw_sql("DROP SCHEMA IF EXISTS glyph_replay_speed CASCADE")
        .execute(store.pool())
        .await?;
    measured
}

async fn measure(store: &PgEventStore, events: usize) -> Result<(), Box<dyn Error>> {
    store.migrate().await?;
    let shared = Arc::new(store.clone());
    let orchestrator = WorkflowOrchestrator::new(shared.clone(), shared);
    orchestrator.create_workflow(WORKFLOW).await?;
    let task = Uuid::from_u128(1);
    let start = json!({"task_id": task, "workflow": "replay"});
    let place = json!({"task_id": task, "user_id": Uuid::from_u128(2)});
    let mut commands = vec![Command::Start(serde_json::from_value(start)?)];
    for n in 0..events {
        let place = place.clone();
        commands.push(if n % 2 == 0 {
            Command::Assign(serde_json::from_value(place)?)
        } else {
            Command::Release(serde_json::from_value(place)?)
        });
    }
    let envelopes: Vec<_> = (1_u128..)
        .zip(commands)
        .map(|(n, command)| CommandEnvelope::new(CommandId(Uuid::from_u128(n)), command))
        .collect();
    // Several batches, as in a life of many days: snapshots are taken between them.
    for batch in envelopes.chunks(50) {
        orchestrator.process_batch(batch.to_vec(), None).await?;
    }
    let version = orchestrator.get_task_state(task).await?.version();
    read(
        &orchestrator,
        task,
        &format!("{version} events, from the last snapshot"),
    )
    .await?;
    raw_sql("DELETE FROM workflow_snapshots")
        .execute(store.pool())
        .await?;
    read(
        &orchestrator,
        task,
        &format!("{version} events, from the first"),
    )
    .await
}

async fn read(
    orchestrator: &WorkflowOrchestrator,
    task: Uuid,
    what: &str,
) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::with_capacity(READS);
    for _ in 0..READS {
        let began = Instant::now();
        orchestrator.get_task_state(task).await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let (median, p99) = (times[READS / 2], times[READS * 99 / 100]);
    println!("{what}: median {median:?}, p99 {p99:?}");
    Ok(())
}
