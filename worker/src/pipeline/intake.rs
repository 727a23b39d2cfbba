//! Reads deliveries and hands each to its lane.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::job::Incoming;
use crate::{broker::CommandSource, metrics::Metrics};

/// Runs until the source has been stopped and is empty.
pub(super) async fn run(
    source: Arc<dyn CommandSource>,
    lanes: Vec<mpsc::Sender<Incoming>>,
    metrics: Arc<Metrics>,
) {
    while let Some(delivery) = source.next().await {
        metrics.commands_held(1);
        let receipt = delivery.receipt;
        let (incoming, ignored) = Incoming::read(delivery);
        if ignored > 0 {
            metrics.unknown_fields(ignored);
        }
        let lane = incoming.lane(lanes.len());
        // A full lane also blocks the others. That is rare: a lane's queue is longer than the
        // broker's prefetch.
        if lanes[lane].send(incoming).await.is_err() {
            source.give_back(&[receipt]);
            metrics.commands_held(-1);
        }
    }
}
