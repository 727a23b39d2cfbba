//! A worker that dies at any point of the pipeline leaves nothing undone and does nothing twice.

use std::os::unix::process::ExitStatusExt;

use glyph_worker::failpoints::CrashPoint;
use tokio::{process::Child, time::timeout};

use crate::support::{DEADLINE, aftermath, services::Services};

/// The signal of `abort`.
const SIGABRT: i32 = 6;

fn worker(services: &Services, crash_at: Option<CrashPoint>) -> Child {
    let mut command = services.worker_process();
    if let Some(point) = crash_at {
        // Crash at the second pass, so that one pass has succeeded before.
        command.env("GLYPH_CRASH_AT", format!("{point}:2"));
    }
    command.spawn().unwrap()
}

async fn crash_and_recover(point: CrashPoint) {
    let services = Services::new().await;
    let mut crashing = worker(&services, Some(point));
    let tap = services.tap().await;
    let commands = aftermath::commands();
    services.send(&commands).await;
    let ended = timeout(DEADLINE, crashing.wait()).await;
    let ended = ended
        .unwrap_or_else(|_| panic!("{point} was not reached"))
        .unwrap();
    assert_eq!(ended.signal(), Some(SIGABRT), "{point}: {ended}");

    let mut healthy = worker(&services, None);
    aftermath::check(&services, &tap, &commands, &point.to_string()).await;
    healthy.start_kill().unwrap();
    healthy.wait().await.unwrap();
    services.remove().await;
}

/// In parallel, as each waits until the leases of the dead worker expire.
#[tokio::test(flavor = "multi_thread")]
async fn every_crash_point_heals() {
    let armed = cfg!(feature = "faults");
    assert!(
        armed,
        "the worker has no crash points: run with --features glyph-worker/faults"
    );
    // Those of projections are tested in `goals_survive`.
    let points: Vec<_> = CrashPoint::ALL
        .into_iter()
        .filter(|point| point.is_on_the_road())
        .map(|point| (point, tokio::spawn(crash_and_recover(point))))
        .collect();
    for (point, run) in points {
        run.await
            .unwrap_or_else(|failed| panic!("{point}: {failed}"));
    }
}
