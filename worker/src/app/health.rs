//! Keeps readiness up to date: database, broker, intake.

use std::{collections::BTreeSet, time::Duration};

use glyph_workflow_engine::store::EventStoreError;
use tokio::sync::watch;

use super::database::Database;
use crate::{
    broker::BrokerState,
    http::{Health, PartState},
    pipeline::IntakePauseReason,
    telemetry,
};

/// How often the database is probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A database that does not answer within this time counts as unreachable.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Probes the database periodically.
pub(super) async fn probe_database(database: Database, health: Health) {
    loop {
        let probed = tokio::time::timeout(PROBE_TIMEOUT, database.recheck()).await;
        health.update(|readiness| match probed {
            Ok(Ok(())) => {
                readiness.database = PartState::ready();
                readiness.migrations = PartState::ready();
            }
            Ok(Err(error @ EventStoreError::NotMigrated { .. })) => {
                readiness.database = PartState::ready();
                readiness.migrations = PartState::not_ready(error.to_string());
            }
            Ok(Err(error)) => {
                readiness.database = PartState::not_ready(telemetry::chain(&error));
            }
            Err(_) => {
                let seconds = PROBE_TIMEOUT.as_secs();
                readiness.database = PartState::not_ready(format!("no answer within {seconds} s"));
            }
        });
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Follows the state of consumer and publisher.
pub(super) async fn watch_broker(
    mut source: Option<watch::Receiver<BrokerState>>,
    mut publisher: watch::Receiver<BrokerState>,
    health: Health,
) {
    loop {
        let consuming = source
            .as_mut()
            .map(|source| source.borrow_and_update().clone());
        let publishing = publisher.borrow_and_update().clone();
        health.update(|readiness| readiness.broker = broker_part(consuming, publishing));
        let source_changed = async {
            match &mut source {
                Some(source) => source.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = source_changed => if changed.is_err() { return },
            changed = publisher.changed() => if changed.is_err() { return },
        }
    }
}

fn broker_part(consuming: Option<BrokerState>, publishing: BrokerState) -> PartState {
    let fault = |what: &str, state: BrokerState| {
        PartState::not_ready(match state.reason {
            Some(reason) => format!("{what}: {reason}"),
            None => what.to_owned(),
        })
    };
    match consuming {
        Some(state) if !state.consuming => fault("not consuming", state),
        _ if !publishing.publishing => fault("not publishing", publishing),
        _ if publishing.missing.is_some() => {
            PartState::not_ready(publishing.missing.unwrap_or_default())
        }
        _ if publishing.blocked => fault("the broker holds publishers back", publishing),
        _ => PartState::ready(),
    }
}

/// Follows the reasons for which intake is paused.
pub(super) async fn watch_intake(
    mut intake_pauses: watch::Receiver<BTreeSet<IntakePauseReason>>,
    health: Health,
) {
    loop {
        let reasons: Vec<String> = intake_pauses
            .borrow_and_update()
            .iter()
            .map(|why| why.as_str().to_owned())
            .collect();
        health.update(|readiness| {
            readiness.intake = match reasons.as_slice() {
                [] => PartState::ready(),
                reasons => PartState::not_ready(reasons.join(", ")),
            };
        });
        if intake_pauses.changed().await.is_err() {
            return;
        }
    }
}
