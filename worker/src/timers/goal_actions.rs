//! Actions that reached goals trigger outside the transaction: webhook calls, and pausing or
//! archiving workflows.
//!
//! An action is a row. The transaction that found the goal reached writes it, under an id derived
//! from goal, epoch and action. The row is claimed, performed without a transaction, and settled.
//! After a crash in between, its lease runs out and it is performed again under the same id: an
//! operator command finds the id in the inbox, and a webhook gets it as idempotency key.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use glyph_workflow_engine::{
    WorkflowOrchestrator,
    command::{OperatorCommand, OperatorEnvelope},
    config::{ConfigDuration, WebhookConfig},
    store::{EventStoreError, GoalActionOutcome, GoalActionRow, RecordedOutcome, Store},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    failpoints::{CrashPoint, Failpoints},
    metrics::Metrics,
    poll::{Every, Found, poll},
    telemetry,
    webhook::{CALL_TIMEOUT_DEFAULT, WebhookClient, WebhookRequest},
};

const EVERY: Every = Every {
    idle: Duration::from_secs(1),
    longest: Duration::from_secs(30),
};
/// Longer than the longest call.
const LEASE: Duration = Duration::from_mins(2);
/// Actions performed at a time.
const BATCH: u32 = 16;
/// The first waits grow by powers of 4: 1 s, 4 s, 16 s, ...; later ones are an hour.
const PAUSE_MAX: Duration = Duration::from_hours(1);
/// Attempts before an action is given up: about a day.
const ATTEMPTS_MAX: u32 = 30;

/// Performs the actions of goals; several processes may each run one.
pub struct GoalActionRunner {
    store: Arc<dyn Store>,
    orchestrator: Arc<WorkflowOrchestrator>,
    webhooks: WebhookClient,
    metrics: Arc<Metrics>,
    failpoints: Failpoints,
}

/// The data of a webhook call.
#[derive(Deserialize)]
struct Call {
    config: WebhookConfig,
    body: Value,
}

/// Why an attempt failed.
struct ActionFault {
    error: String,
    is_final: bool,
    retry_after: Option<Duration>,
}

impl ActionFault {
    fn passing(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            error: telemetry::chain(error),
            is_final: false,
            retry_after: None,
        }
    }

    fn for_good(error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            is_final: true,
            retry_after: None,
        }
    }
}

impl GoalActionRunner {
    /// A runner that calls webhooks with this client.
    pub fn new(
        store: Arc<dyn Store>,
        orchestrator: Arc<WorkflowOrchestrator>,
        webhooks: WebhookClient,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            orchestrator,
            webhooks,
            metrics,
            failpoints: Failpoints::default(),
        }
    }

    /// Adds the crash points of the tests.
    #[must_use]
    pub fn with_failpoints(mut self, failpoints: Failpoints) -> Self {
        self.failpoints = failpoints;
        self
    }

    /// Runs until stopped.
    pub async fn run(self, stopping: CancellationToken) {
        let look = || async { Ok(Found::more_if(self.step().await? > 0)) };
        poll(EVERY, &stopping, look, |error: EventStoreError| {
            let error = telemetry::chain(&error);
            tracing::warn!(error, "actions of goals could not be read; trying again");
        })
        .await;
    }

    /// Performs the actions that are due; returns how many there were.
    pub async fn step(&self) -> Result<usize, EventStoreError> {
        let due = self.store.claim_goal_actions(LEASE, BATCH).await?;
        let performed = due.iter().map(|row| async move {
            self.failpoints.pass(CrashPoint::BeforeAction);
            let outcome = self.perform(row).await;
            self.failpoints.pass(CrashPoint::AfterAction);
            // If this fails, the lease runs out and the action is performed again.
            self.store.settle_goal_action(row.action.id, outcome).await
        });
        let performed = join_all(performed).await;
        performed.into_iter().collect::<Result<Vec<()>, _>>()?;
        Ok(due.len())
    }

    async fn perform(&self, row: &GoalActionRow) -> GoalActionOutcome {
        let action = &row.action;
        let done = match action.action.as_str() {
            "trigger_webhook" => self.call(row).await,
            "pause" | "archive" => self.pause(row).await,
            other => Err(ActionFault::for_good(format!(
                "there is no action `{other}`"
            ))),
        };
        let Err(fault) = done else {
            return GoalActionOutcome::Done;
        };
        let attempts = row.attempts + 1;
        let is_last = fault.is_final || attempts >= ATTEMPTS_MAX;
        let (workflow, goal) = (&action.workflow, &action.goal);
        let (what, error) = (&action.action, &fault.error);
        tracing::warn!(%workflow, %goal, what, error, is_last, "an action of a goal failed");
        if is_last {
            return GoalActionOutcome::Failed { error: fault.error };
        }
        let pause = Duration::from_secs(4_u64.saturating_pow(row.attempts)).min(PAUSE_MAX);
        GoalActionOutcome::Retry {
            error: fault.error,
            after: fault.retry_after.map_or(pause, |asked| asked.max(pause)),
        }
    }

    async fn call(&self, row: &GoalActionRow) -> Result<(), ActionFault> {
        let call = Call::deserialize(&row.action.payload)
            .map_err(|error| ActionFault::for_good(error.to_string()))?;
        let began = Instant::now();
        let answer = self
            .webhooks
            .call(WebhookRequest {
                id: row.action.id,
                url: &call.config.url,
                headers: &call.config.headers,
                timeout: call
                    .config
                    .timeout
                    .map_or(CALL_TIMEOUT_DEFAULT, ConfigDuration::get),
                body: &call.body,
            })
            .await;
        self.metrics
            .handler("webhook", answer.is_ok(), began.elapsed());
        // The content of the answer is not used.
        answer.map(drop).map_err(|error| ActionFault {
            is_final: error.is_final(),
            retry_after: error.retry_after(),
            ..ActionFault::passing(&error)
        })
    }

    /// Pauses the workflow, or archives it.
    async fn pause(&self, row: &GoalActionRow) -> Result<(), ActionFault> {
        let workflow = row.action.workflow.clone();
        let reason = Some(format!("the goal `{}` is reached", row.action.goal));
        let operator_command = if row.action.action == "archive" {
            OperatorCommand::WorkflowArchive { workflow, reason }
        } else {
            OperatorCommand::WorkflowPause {
                workflow,
                reason,
                until: None,
            }
        };
        let operator_command = OperatorEnvelope::new(row.action.id, operator_command);
        match self
            .orchestrator
            .operator_command(&*self.store, operator_command)
            .await
        {
            Ok(RecordedOutcome::Applied { .. }) => Ok(()),
            // If it was archived meanwhile, perhaps by the same goal, it is already paused.
            Ok(RecordedOutcome::Rejected { .. }) if self.is_archived(row).await? => Ok(()),
            Ok(RecordedOutcome::Rejected { detail, .. }) => Err(ActionFault::for_good(detail)),
            Err(error) => Err(ActionFault::passing(&error)),
        }
    }

    async fn is_archived(&self, row: &GoalActionRow) -> Result<bool, ActionFault> {
        let pauses = self.store.workflow_pauses().await;
        let pauses = pauses.map_err(|error| ActionFault::passing(&error))?.active;
        let mut of_workflow = pauses
            .iter()
            .filter(|pause| pause.workflow == row.action.workflow);
        Ok(of_workflow.any(|pause| pause.archived))
    }
}
