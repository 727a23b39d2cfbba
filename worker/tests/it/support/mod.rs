//! Shared helpers.

pub(crate) mod aftermath;
pub(crate) mod broker;
pub(crate) mod engine;
pub(crate) mod openapi;
pub(crate) mod private;
pub(crate) mod proxy;
pub(crate) mod schemas;
pub(crate) mod services;
pub(crate) mod tokens;

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Waits until `condition` returns a value.
pub(crate) async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
