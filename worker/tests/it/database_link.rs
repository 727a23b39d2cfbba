//! A link to the database that breaks leaves nothing undone and does nothing twice.

use tokio::process::Child;

use crate::support::{
    aftermath, eventually,
    proxy::{Cable, Proxy},
    services::Services,
};

/// The real binary, and the cable at the other end of which is its database.
async fn worker(services: &Services) -> (Child, Proxy) {
    let proxy = Proxy::start(&services.database_url, 5432, Cable::Whole).await;
    // In plain text, so that the proxy can tell what it carries.
    let url = format!("{}&sslmode=disable", proxy.url());
    let mut command = services.worker_process();
    let worker = command.env("DATABASE_URL", url).spawn().unwrap();
    (worker, proxy)
}

async fn end(mut worker: Child, services: Services) {
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();
    services.remove().await;
}

/// Whether a batch was written is not known without the answer to its COMMIT: it is decided again,
/// and finds its own commands. A worker that took it for failed would send its commands up the retry
/// ladder, one that took it for done would lose what was rolled back.
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
    end(worker, services).await;
}

/// Connections over which nothing comes back any more are given up and replaced, and do not take up
/// the pool for good: work goes on once the cable is whole, without a restart.
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
    // Each lane has asked something that it never gets an answer to, and so have those beside them.
    let swallowed = proxy.swallowed();
    eventually("questions without an answer", || async {
        (proxy.swallowed() >= swallowed + 4).then_some(())
    })
    .await;
    proxy.set(Cable::Whole);
    aftermath::check(&services, &tap, &commands, "a silent link").await;
    end(worker, services).await;
}
