//! Handlers outside: they answer, fail, or take long.

use std::sync::Arc;

use async_trait::async_trait;
use glyph_worker::timers::Handlers;
use glyph_workflow_engine::{HandlerCall, command::EffectOutcome};
use serde_json::json;

use super::process::Process;

pub(crate) struct SimulatedHandlers(pub(crate) Arc<Process>);

#[async_trait]
impl Handlers for SimulatedHandlers {
    async fn call(&self, call: &HandlerCall) -> EffectOutcome {
        let key = call.idempotency_key;
        self.0
            .step(format!("calls {key}, attempt {}", call.attempt))
            .await;
        let world = &self.0.world;
        let (fails, takes) = {
            let mut state = world.state();
            let fails = state.strikes("failed call", world.plan.faults.calls_fail);
            (fails, state.random.millis(0, 800))
        };
        tokio::time::sleep(takes).await;
        self.0.step(format!("{key} answers; fails: {fails}")).await;
        if fails {
            EffectOutcome::Failed {
                error: "503".to_owned(),
                is_final: false,
                retry_after: None,
            }
        } else {
            EffectOutcome::Done {
                output: json!({"label": "yes"}),
            }
        }
    }
}
