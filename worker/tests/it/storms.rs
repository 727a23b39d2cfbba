//! Storms of restarts, broken links, outages and crashes: nothing is dead but what is to blame, and
//! nothing is lost.
//!
//! `GLYPH_STORM=full` makes them as long as an operator may see them: 30 restarts, 50 cuts, a minute
//! without the database.
#![cfg(target_os = "linux")]

use std::{os::unix::process::ExitStatusExt, time::Duration};

use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::{Instant, timeout},
};

use crate::support::{
    DEADLINE, aftermath,
    engine::{submission, task},
    eventually,
    private::PrivateService,
    proxy::{Cable, Proxy},
    services::Services,
};

/// How much of a storm.
struct Scale {
    restarts: usize,
    cuts: usize,
    outage: Duration,
}

impl Scale {
    fn of_environment() -> Self {
        if std::env::var("GLYPH_STORM").is_ok_and(|scale| scale == "full") {
            return Self {
                restarts: 30,
                cuts: 50,
                outage: Duration::from_mins(1),
            };
        }
        Self {
            restarts: 3,
            cuts: 6,
            outage: Duration::from_secs(9),
        }
    }
}

/// Services behind links that can break.
struct Links {
    services: Services,
    database: Proxy,
    broker: Proxy,
}

impl Links {
    async fn to(services: Services, broker_url: &str) -> Self {
        Self {
            database: Proxy::start(&services.database_url, 5432, Cable::Whole).await,
            broker: Proxy::start(broker_url, 5672, Cable::Whole).await,
            services,
        }
    }

    /// A worker behind the links, connected.
    async fn worker(&self, drain_secs: u32) -> Child {
        let before = self.broker.accepted();
        let child = self
            .services
            .worker_process()
            .env("DATABASE_URL", self.database.url())
            .env("AMQP_URL", self.broker.url())
            .env("GLYPH_DRAIN_SECS", drain_secs.to_string())
            .spawn()
            .unwrap();
        self.connected_since(before).await;
        child
    }

    /// Waits for both connections to the broker, made after so many.
    async fn connected_since(&self, accepted: u64) {
        eventually("two connections to the broker", async || {
            (self.broker.accepted() >= accepted + 2).then_some(())
        })
        .await;
    }

    /// Breaks the links to the broker once.
    async fn cut(&self) {
        let before = self.broker.accepted();
        self.broker.set(Cable::Cut);
        eventually("no connection", async || {
            (self.broker.open() == 0).then_some(())
        })
        .await;
        self.broker.set(Cable::Whole);
        self.connected_since(before).await;
    }
}

/// Asks a worker to drain; returns how long it took.
async fn drained(mut worker: Child) -> (Option<i32>, Duration) {
    let begun = Instant::now();
    let id = worker.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status().await;
    assert!(sent.unwrap().success());
    let ended = timeout(DEADLINE, worker.wait()).await.unwrap().unwrap();
    (ended.code(), begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_cuts_and_outages_make_no_command_dead() {
    let scale = Scale::of_environment();
    let broker = PrivateService::start("rabbitmq");
    // The broker takes back what is not acknowledged within two seconds, and looks each second.
    for (name, millis) in [
        ("consumer_timeout", 2_000),
        ("channel_tick_interval", 1_000),
    ] {
        let set = format!("application:set_env(rabbit, {name}, {millis}).");
        broker.rabbitmqctl(&["eval", &set]);
    }
    let links = Links::to(Services::on(broker.url.clone()).await, &broker.url).await;
    let mut worker = links.worker(20).await;
    let tap = links.services.tap().await;
    let commands = aftermath::commands();
    let mut chunks = commands.chunks(commands.len().div_ceil(scale.restarts + scale.cuts + 1));

    for _ in 0..scale.restarts {
        links.services.send(chunks.next().unwrap_or_default()).await;
        let (code, _) = drained(worker).await;
        assert_eq!(code, Some(0));
        worker = links.worker(20).await;
    }
    for _ in 0..scale.cuts {
        links.services.send(chunks.next().unwrap_or_default()).await;
        links.cut().await;
    }
    links.database.set(Cable::Cut);
    let begun = Instant::now();
    for chunk in chunks {
        links.services.send(chunk).await;
    }
    while begun.elapsed() < scale.outage {
        links.cut().await;
    }
    links.database.set(Cable::Whole);
    aftermath::check(&links.services, &tap, &commands, "storm").await;
    worker.start_kill().unwrap();
    worker.wait().await.unwrap();
    links.services.remove().await;
}

/// Everything that a worker waits for is silent: the store, which has a batch, and the broker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_in_its_time_whatever_waits_and_loses_nothing() {
    const DRAIN_SECS: u32 = 4;
    let url = crate::support::services::amqp_url();
    let links = Links::to(Services::new().await, &url).await;
    let worker = links.worker(DRAIN_SECS).await;
    let tap = links.services.tap().await;
    let commands = aftermath::commands();
    links.database.set(Cable::Silent);
    links.services.send(&commands).await;
    eventually("a request that nobody answers", async || {
        (links.database.swallowed() > 0).then_some(())
    })
    .await;
    links.broker.set(Cable::Silent);
    let (_, took) = drained(worker).await;
    let most = Duration::from_secs(u64::from(DRAIN_SECS) + 2);
    assert!(took < most, "{took:?}");

    // Cut first: the broker would keep what it has delivered until it misses the heartbeat.
    for link in [&links.database, &links.broker] {
        link.set(Cable::Cut);
        link.set(Cable::Whole);
    }
    let mut healthy = links.worker(DRAIN_SECS).await;
    aftermath::check(&links.services, &tap, &commands, "drain").await;
    healthy.start_kill().unwrap();
    healthy.wait().await.unwrap();
    links.services.remove().await;
}

/// The one among two thousand gets the process killed whenever a batch has it. The others go past.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_kills_the_process_keeps_back_nobody_for_long() {
    /// By then it is alone in its batches, behind everybody else.
    const DEATHS_MAX: usize = 8;
    const GOOD: u128 = 2_000;
    const DEADLY: u128 = 9_999;
    let services = Services::new().await;
    let start = async || {
        services
            .worker_process()
            .env("GLYPH_CRASH_ON_TASK", task(DEADLY).to_string())
            .env("GLYPH_BATCH_MAX", "256")
            .spawn()
            .unwrap()
    };
    let mut worker = start().await;
    let _tap = services.tap().await;
    let mut commands: Vec<Value> = (0..GOOD)
        .map(|n| submission(task(n), "annotate", 1, "yes"))
        .collect();
    commands.insert(700, submission(task(DEADLY), "annotate", 1, "yes"));
    services.send(&commands).await;

    let mut deaths = 0;
    let applied = "SELECT count(*) FROM commands WHERE outcome = 'applied'";
    let mut applied_after = None;
    let queue = services.topology.dead();
    let dead = loop {
        if let Some(ended) = worker.try_wait().unwrap() {
            assert_eq!(ended.signal(), Some(6), "{ended}");
            deaths += 1;
            assert!(deaths <= 40, "it kills for ever");
            worker = start().await;
        }
        let all = services.count(applied).await == i64::try_from(GOOD).unwrap();
        if all && applied_after.is_none() {
            applied_after = Some(deaths);
        }
        let dead = services.take(&queue).await;
        if !dead.is_empty() {
            break dead;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // What the broker itself moved at the delivery limit has been delivered in vain so many times.
    let bodies: Vec<Value> = dead
        .iter()
        .map(|letter| serde_json::from_slice(&letter.body).unwrap())
        .collect();
    let tasks: Vec<&str> = bodies
        .iter()
        .map(|body| body["task_id"].as_str().unwrap())
        .collect();
    assert_eq!(tasks, [task(DEADLY).to_string()]);
    let applied_after: usize = applied_after.expect("the others are applied before");
    assert!(applied_after <= DEATHS_MAX, "{applied_after} deaths");
    println!("all others were applied after {applied_after} deaths");
    services.end(worker).await;
}
