//! What the worker declared it declares again when it is gone, and it stops when the prefix belongs
//! to another deployment.
//!
//! Each connection looks every few seconds whether the prefix is still its own. The publishing one
//! also looks whether anything is missing. A deleted command queue or exchange mostly breaks a
//! connection before that, and each new connection declares everything; but nothing breaks where a
//! dead, retry or event queue is deleted, or a binding: that shows up when a message is returned.

use std::time::Duration;

use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    connection::Link,
    declare::{claim_prefix, declare, log, missing},
    moves,
    settings::AmqpSettings,
};
use crate::{
    broker::{BrokerError, BrokerState},
    telemetry,
};

/// How often the topology is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long a look may take before the connection counts as broken.
const LOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Looks whether the prefix is still its own, until it is not or the connection fails.
pub(super) async fn watch_prefix(settings: &AmqpSettings, link: &Link) -> BrokerError {
    let mut looks = looks();
    loop {
        looks.tick().await;
        if let Err(error) = in_time(claim_prefix(settings, link)).await {
            return error;
        }
    }
}

/// Keeps the topology whole, until the prefix is another's or the connection fails. What is missing
/// and may not be declared is reported to `state`.
pub(super) async fn keep_whole(
    settings: &AmqpSettings,
    link: &Link,
    returned: &Notify,
    state: &watch::Sender<BrokerState>,
) -> BrokerError {
    let mut looks = looks();
    let mut looked_at = Instant::now();
    let mut is_returned = false;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = returned.notified() => {
                is_returned = true;
                // A message may have no queue because its consumer is gone, and comes back again
                // and again: the next look is soon enough.
                if looked_at.elapsed() < LOOK {
                    continue;
                }
            }
        }
        looked_at = Instant::now();
        let looked = async {
            claim_prefix(settings, link).await?;
            let missing = missing(settings.topology(), link).await?;
            if missing.is_empty() && !is_returned {
                return Ok(());
            }
            if !missing.is_empty() {
                let missing = missing.join(", ");
                tracing::warn!(missing, "gone from the broker; declaring it again");
            }
            declare_all(settings, link).await
        };
        let looked = in_time(looked).await;
        is_returned = false;
        let missing = match looked {
            Ok(()) => None,
            Err(error @ BrokerError::Missing { .. }) => Some(telemetry::chain(&error)),
            Err(error) => return error,
        };
        state.send_if_modified(|state| {
            let changed = state.missing != missing;
            state.missing = missing;
            changed
        });
    }
}

/// Declares everything and says in the log what an operator should know of it. Who has declared a
/// missing queue puts back the commands that did not find it, and nobody else: while somebody
/// searches the dead queue, others wait.
pub(super) async fn declare_all(settings: &AmqpSettings, link: &Link) -> Result<(), BrokerError> {
    let declared = declare(settings, link).await?;
    log(&declared, settings.topology());
    if declared.had_gaps(settings.topology()) {
        // By itself: it takes longer than a connection may to be ready. If the process ends before,
        // the commands are dead letters that an operator can replay.
        tokio::spawn(put_back(settings.clone()));
    }
    Ok(())
}

async fn put_back(settings: AmqpSettings) {
    match moves::put_back(&settings).await {
        Ok(0) => {}
        Ok(count) => tracing::warn!(
            count,
            "commands whose queue was missing are put back from the dead queue"
        ),
        Err(error) => {
            let reason = telemetry::chain(&error);
            tracing::warn!(reason, "the dead queue was not searched for lost commands");
        }
    }
}

fn looks() -> tokio::time::Interval {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.reset();
    looks
}

async fn in_time<T>(look: impl Future<Output = Result<T, BrokerError>>) -> Result<T, BrokerError> {
    timeout(LOOK_TIMEOUT, look).await.unwrap_or_else(|_| {
        Err(BrokerError::Unconfirmed {
            action: "a look at the topology".to_owned(),
            seconds: LOOK_TIMEOUT.as_secs(),
        })
    })
}
