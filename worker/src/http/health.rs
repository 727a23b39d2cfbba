//! Liveness and readiness of the process.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The state of one part that the worker needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PartState {
    /// Whether the part is ready.
    pub ready: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl PartState {
    /// The part is ready.
    pub fn ready() -> Self {
        Self {
            ready: true,
            reason: None,
        }
    }

    /// The part is not ready, for this reason.
    pub fn not_ready(reason: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason: Some(reason.into()),
        }
    }
}

/// The last known state of the parts that the worker needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Readiness {
    /// The database answers.
    pub database: PartState,
    /// The database schema is the one that this build needs.
    pub migrations: PartState,
    /// The broker is usable as far as this process uses it.
    pub broker: PartState,
    /// The process takes commands; false while it drains.
    pub intake: PartState,
}

impl Readiness {
    /// The state before any part has been checked.
    pub fn starting() -> Self {
        let waiting = || PartState::not_ready("not looked at yet");
        Self {
            database: waiting(),
            migrations: waiting(),
            broker: waiting(),
            intake: PartState::ready(),
        }
    }

    fn parts(&self) -> [(&'static str, &PartState); 4] {
        [
            ("database", &self.database),
            ("migrations", &self.migrations),
            ("broker", &self.broker),
            ("intake", &self.intake),
        ]
    }

    /// Whether all parts are ready.
    pub fn is_ready(&self) -> bool {
        self.parts().iter().all(|(_, part)| part.ready)
    }
}

/// The readiness of the process; clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    readiness: Arc<watch::Sender<Readiness>>,
    draining: CancellationToken,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            readiness: Arc::new(watch::Sender::new(Readiness::starting())),
            draining: CancellationToken::new(),
        }
    }
}

impl Health {
    /// Updates the readiness; logs each part that changes.
    pub fn update(&self, change: impl FnOnce(&mut Readiness)) {
        self.readiness.send_if_modified(|readiness| {
            let before = readiness.clone();
            change(readiness);
            for ((name, was), (_, is)) in before.parts().into_iter().zip(readiness.parts()) {
                if was.ready != is.ready {
                    let reason = is.reason.as_deref();
                    tracing::info!(part = name, ready = is.ready, reason, "readiness changed");
                }
            }
            *readiness != before
        });
    }

    /// The process takes no commands any more, because it is about to end.
    pub fn drain(&self) {
        self.update(|readiness| {
            readiness.intake = PartState::not_ready("the worker is shutting down");
        });
        self.draining.cancel();
    }

    /// Whether the process is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Returns once the process is about to end.
    pub fn drained(&self) -> WaitForCancellationFutureOwned {
        self.draining.clone().cancelled_owned()
    }

    /// The current readiness, and every change.
    pub fn watch(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }
}

/// Liveness of the process.
#[derive(Serialize, JsonSchema)]
pub(super) struct Liveness {
    /// `alive`.
    status: &'static str,
}

/// Readiness of the process.
#[derive(Serialize, JsonSchema)]
pub(super) struct ReadinessDocument {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// The names of the parts that are not ready.
    not_ready: Vec<&'static str>,
    /// Every part.
    parts: Readiness,
}

/// The process runs. Services are left out: restarting the process would not bring them back.
pub(super) async fn livez() -> impl IntoResponse {
    Json(Liveness { status: "alive" })
}

/// Readiness, with the parts that are missing.
pub(super) async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let parts = health.readiness.borrow().clone();
    let not_ready: Vec<&str> = parts
        .parts()
        .into_iter()
        .filter_map(|(name, part)| (!part.ready).then_some(name))
        .collect();
    let (code, status) = if not_ready.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not_ready")
    };
    let document = ReadinessDocument {
        status,
        not_ready,
        parts,
    };
    (code, Json(document))
}
