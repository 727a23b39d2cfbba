//! A database connection that breaks leaves nothing undone and does nothing twice.

use tokio::process::Child;

use crate::support::{
    aftermath, eventually,
    proxy::{Cable, Proxy},
    services::Services,
};

/// The real binary, and the proxy to its database.
async fn worker(services: &Services) -> (Child, Proxy) {
    let proxy = Proxy::start(&services.database_url, 5432, Cable::Whole).await;
    // In plain text, so that the proxy can read the traffic.
    let url = format!("{}&sslmode=disable", proxy.url());
    let mut command = services.worker_process();
    let worker = command.env("DATABASE_URL", url).spawn().unwrap();
    (worker, proxy)
}

/// Without the reply to its COMMIT it is unknown whether a batch was written: the batch is decided
/// again and finds its own commands. A worker that assumed failure would send its commands up the
/// retry ladder; one that assumed success would lose a batch that was rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_to_commit_change_nothing() {
    let services = Services::new().await;
    let (worker, proxy) = worker(&services).await;
    let tap = services.tap().await;
    proxy.set(Cable::LosesReplyTo("COMMIT"));
    let commands = aftermath::commands();
    services.send(&commands).await;
    aftermath::check(&services, &tap, &commands, "lost replies").await;
    assert!(proxy.lost() >= 3, "only {} replies were lost", proxy.lost());
    services.end(worker).await;
}

/// Silent connections are given up and replaced, and do not occupy the pool for good: work resumes
/// once the link is restored, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_link_is_survived() {
    let services = Services::new().await;
    let (worker, proxy) = worker(&services).await;
    let tap = services.tap().await;
    let commands = aftermath::commands();
    let (first, rest) = commands.split_at(commands.len() / 2);
    services.send(first).await;
    eventually("something decided", || async {
        let decided = services.count("SELECT count(*) FROM commands").await;
        (decided > 0).then_some(())
    })
    .await;
    proxy.set(Cable::Silent);
    services.send(rest).await;
    // Each lane, and the background tasks, have sent a query that is never answered.
    let swallowed = proxy.swallowed();
    eventually("questions without an answer", || async {
        (proxy.swallowed() >= swallowed + 4).then_some(())
    })
    .await;
    proxy.set(Cable::Whole);
    aftermath::check(&services, &tap, &commands, "a silent link").await;
    services.end(worker).await;
}
