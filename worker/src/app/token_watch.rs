//! Reads the tokens file again when its content has changed, and on SIGHUP.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::{metrics::Metrics, settings::Tokens, shutdown::Shutdown};

/// How often the content is compared. Whoever takes a token out waits so long at most.
const LOOKS_EVERY: Duration = Duration::from_secs(5);

/// Runs until the shutdown begins.
pub(super) async fn watch(tokens: Tokens, metrics: &Metrics, shutdown: Shutdown) {
    let mut ticks = interval(LOOKS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_error = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.reload_requested() => tracing::info!("reload requested"),
            () = shutdown.wait() => return,
        }
        let error = match tokens.reload() {
            Ok(changed) => {
                if let Some(tokens) = changed {
                    tracing::info!(tokens, "the tokens file has changed and is in force");
                }
                None
            }
            Err(error) => Some(error),
        };
        metrics.tokens_file_valid(error.is_none());
        if let Some(error) = error
            .as_ref()
            .filter(|error| last_error.as_ref() != Some(*error))
        {
            tracing::error!(%error, "the tokens read before stay in force");
        }
        last_error = error;
    }
}
