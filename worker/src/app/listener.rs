//! A listener with bounds: callers that say nothing, or nothing more, shut nobody out.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::http::REQUEST_TIMEOUT;

/// The bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListenerBounds {
    /// Connections at a time; further ones wait until one ends.
    pub(super) connections: usize,
    /// How long a connection may take for the head of a request, the time before its first byte
    /// included: an idle connection is closed after it.
    pub(super) head: Duration,
    /// How long a connection may be open before it is closed after the request under way. A caller
    /// who does not read its answer holds a connection no longer than that.
    pub(super) lifetime: Duration,
}

/// Connections of the API at most.
const API_CONNECTIONS_MAX: usize = 512;
/// Connections for metrics and health at most: probes and scrapers.
const PROBE_CONNECTIONS_MAX: usize = 32;
/// Descriptors of which one listener may use one at most; the others are for the database, the
/// broker and the other listener.
const DESCRIPTORS_FOR_ONE: usize = 4;
const HEAD: Duration = Duration::from_secs(15);
/// The same while more than half of the connections are taken.
const HEAD_UNDER_LOAD: Duration = Duration::from_secs(2);
const LIFETIME: Duration = Duration::from_mins(10);
/// How long accepting waits after it has failed: usually there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often a full listener is logged.
const WARNS_EVERY: Duration = Duration::from_mins(1);

impl ListenerBounds {
    /// Bounds of the API.
    pub(super) fn of_api() -> Self {
        Self::up_to(API_CONNECTIONS_MAX)
    }

    /// Bounds of a listener for probes and scrapers.
    pub(super) fn of_probes() -> Self {
        Self::up_to(PROBE_CONNECTIONS_MAX)
    }

    fn up_to(most: usize) -> Self {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let descriptors = descriptors(&limits).unwrap_or(usize::MAX);
        Self {
            connections: most.min(descriptors / DESCRIPTORS_FOR_ONE).max(1),
            head: HEAD,
            lifetime: LIFETIME,
        }
    }
}

/// The soft limit of open files, from the text of `/proc/self/limits`; none if there is no limit.
fn descriptors(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// Serves a router until `stopping`, then waits for the requests under way.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: ListenerBounds,
    stopping: CancellationToken,
) {
    let free = Arc::new(Semaphore::new(bounds.connections));
    let connections = TaskTracker::new();
    let accepting = async {
        let mut warned: Option<Instant> = None;
        loop {
            if free.available_permits() == 0
                && warned.is_none_or(|warned| warned.elapsed() > WARNS_EVERY)
            {
                warned = Some(Instant::now());
                let most = bounds.connections;
                tracing::warn!(
                    most,
                    "all connections of the listener are taken; callers wait"
                );
            }
            let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let crowded = free.available_permits() < bounds.connections / 2;
                    let head = if crowded {
                        HEAD_UNDER_LOAD.min(bounds.head)
                    } else {
                        bounds.head
                    };
                    let bounds = ListenerBounds { head, ..bounds };
                    let router = router.clone();
                    let stopping = stopping.clone();
                    connections.spawn(connection(stream, router, bounds, stopping, permit));
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stopping.run_until_cancelled(accepting).await;
    connections.close();
    connections.wait().await;
}

/// Serves one connection.
async fn connection(
    stream: TcpStream,
    router: Router,
    bounds: ListenerBounds,
    stopping: CancellationToken,
    _permit: OwnedSemaphorePermit,
) {
    // Small answers go out at once.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.into_service::<Incoming>());
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(served);
    tokio::select! {
        // What goes wrong with a connection concerns its caller alone.
        _ = served.as_mut() => return,
        () = stopping.cancelled() => {}
        () = sleep(bounds.lifetime) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = timeout(REQUEST_TIMEOUT, served).await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn silent_and_idle_connections_end_and_let_others_in() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = CancellationToken::new();
        let bounds = ListenerBounds {
            connections: 3,
            head: Duration::from_millis(300),
            lifetime: Duration::from_mins(1),
        };
        let router = Router::new().route("/", get(async || "hello"));
        let serving = tokio::spawn(serve(listener, router, bounds, stopping.clone()));

        let silent = TcpStream::connect(address).await.unwrap();
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n")
            .await
            .unwrap();
        let mut idle = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        idle.write_all(request).await.unwrap();
        // All places are taken, and an honest caller is answered all the same.
        let answer = timeout(Duration::from_secs(20), ask(address))
            .await
            .unwrap();
        assert!(answer.ends_with("hello"), "{answer}");
        for mut stream in [silent, half, idle] {
            let mut rest = Vec::new();
            let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
            assert!(read.is_ok(), "the connection stays open");
        }
        stopping.cancel();
        timeout(Duration::from_secs(20), serving)
            .await
            .unwrap()
            .unwrap();
    }

    #[test]
    fn the_number_of_connections_stays_well_below_that_of_descriptors() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            256                  4096                 files\n";
        assert_eq!(descriptors(limits), Some(256));
        assert_eq!(
            descriptors("Max open files  unlimited unlimited files"),
            None
        );
    }
}
