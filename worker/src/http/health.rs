//! Whether the process lives, and whether it can work.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;

/// One thing that the worker needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PartState {
    /// Whether it is in order.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl PartState {
    /// In order.
    pub fn ready() -> Self {
        Self {
            ready: true,
            reason: None,
        }
    }

    /// Not in order, and why.
    pub fn not_ready(reason: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason: Some(reason.into()),
        }
    }
}

/// What the worker needs, as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Readiness {
    /// The database answers.
    pub database: PartState,
    /// Its schema is the one that this build works on.
    pub migrations: PartState,
    /// The broker can be used for what this process does with it.
    pub broker: PartState,
    /// The process takes work (it does not, while it drains).
    pub intake: PartState,
}

impl Readiness {
    /// Nothing has been looked at yet.
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

    /// Whether everything is in order.
    pub fn is_ready(&self) -> bool {
        self.parts().iter().all(|(_, part)| part.ready)
    }
}

/// What the process knows of its own state; clones share it.
#[derive(Clone, Debug)]
pub struct Health {
    readiness: Arc<watch::Sender<Readiness>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            readiness: Arc::new(watch::Sender::new(Readiness::starting())),
        }
    }
}

impl Health {
    /// Changes what is known; logs each part that comes or goes.
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

    /// What is known now, and every change.
    pub fn watch(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }
}

/// That the process lives.
#[derive(Serialize, JsonSchema)]
pub(super) struct Liveness {
    /// `alive`.
    status: &'static str,
}

/// Whether the process can work.
#[derive(Serialize, JsonSchema)]
pub(super) struct ReadinessDocument {
    /// `ready` or `not_ready`.
    status: &'static str,
    /// The parts that are not in order.
    not_ready: Vec<&'static str>,
    /// Every part.
    parts: Readiness,
}

/// The process runs. It says nothing about services: restarting does not bring them back.
pub(super) async fn livez() -> impl IntoResponse {
    Json(Liveness { status: "alive" })
}

/// Whether the process can work, and what is missing.
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
