//! Calls to external handlers: requested, answered, retried, abandoned.

use std::time::Duration;

use super::{builder::DecisionBuilder, decision::Refusal};
use crate::{
    command::{EffectOutcome, FireTimer},
    config::{ExternalHandler, HookId, OnError, StepConfig},
    events::{HandlerRequested, Job, WorkflowEvent},
    executor::Closing,
    limits::{RETRY_DELAY_FIRST, RETRY_DELAY_MAX, TEXT_BYTES_MAX},
    state::{IncidentCode, PendingCall},
    timers::{HandlerCall, asked, call_input, pending_call},
};

/// Applies the answer to a call if the state still waits for it; a late answer changes nothing.
pub(super) fn answered(
    builder: &mut DecisionBuilder<'_>,
    command: &FireTimer,
) -> Result<(), Refusal> {
    let row = &command.row;
    let Some((step_id, call)) = pending_call(builder.current(), row) else {
        return Ok(());
    };
    let (step_id, call) = (step_id.clone(), call.clone());
    // A notification hook outlasts its visit, so after a migration the revision may no longer have
    // the step.
    let step = builder.config().step(&step_id);
    builder.subject = Some(step_id.clone());
    let wanted = |step: &StepConfig| {
        asked(step, call.hook).is_some_and(|(handler, _)| handler == call.handler)
    };
    let Some(step) = step.filter(|step| wanted(step)) else {
        // The new revision has another handler here, or none.
        match (call.hook, step) {
            (Some(hook), _) if !hook.stage.blocks_step() => {
                let error = "the revision that the task runs on has no such hook".to_owned();
                builder.hook_ended(&step_id, row.visit, hook, Some(call.n), Err(error));
            }
            (_, Some(step)) => builder.go_on(step, None),
            (_, None) => {}
        }
        return Ok(());
    };
    match &command.outcome {
        None => return Err(Refusal::NotPerformed),
        Some(EffectOutcome::Done { output }) => match call.hook {
            None => builder.go_on(step, Some(Closing::Advance(Some(output)))),
            Some(hook) => {
                let output = Ok(Some(output.clone()));
                builder.hook_ended(&step_id, row.visit, hook, Some(call.n), output);
                if hook.stage.blocks_step() {
                    builder.go_on(step, None);
                }
            }
        },
        Some(EffectOutcome::Failed {
            error,
            is_final,
            retry_after,
        }) => {
            let again = !is_final && call.attempt <= builder.config().settings.max_retries;
            let pause = retry_delay(call.attempt).max(retry_after.unwrap_or_default());
            let retry_at = again.then(|| builder.now + pause.min(RETRY_DELAY_MAX));
            builder.call_failed(step, row.visit, &call, &kept(error), retry_at);
        }
    }
    Ok(())
}

/// Handles a job that was not answered in time: publishes it again, or abandons it.
pub(super) fn unanswered(builder: &mut DecisionBuilder<'_>, command: &FireTimer) {
    let row = &command.row;
    let Some((step_id, call)) = pending_call(builder.current(), row) else {
        return;
    };
    let (step, call) = (builder.step(step_id), call.clone());
    let (attempt, since) = (call.attempt, call.since);
    builder.subject = Some(step.id.clone());
    let again = attempt <= builder.config().settings.max_retries;
    let error = format!("attempt {attempt} of a job from {since} has no answer");
    let retry_at = again.then_some(builder.now);
    builder.call_failed(step, row.visit, &call, &error, retry_at);
    if again {
        let handler = ExternalHandler::Queue;
        builder.request(step, handler, call.hook, call.n, attempt + 1);
    }
}

/// The delay before the attempt that follows attempt number `failed`: 1 s, 4 s, 16 s, …
fn retry_delay(failed: u32) -> Duration {
    let factor = 4_u32.saturating_pow(failed.saturating_sub(1));
    RETRY_DELAY_FIRST
        .saturating_mul(factor)
        .min(RETRY_DELAY_MAX)
}

/// The part of an error that an event stores: bounded, and without characters that stores refuse.
fn kept(error: &str) -> String {
    let mut end = error.len().min(TEXT_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error[..end].replace('\0', "\u{fffd}")
}

impl DecisionBuilder<'_> {
    /// Requests the first attempt of a new call to an external handler, for the step or one of its
    /// hooks.
    pub(super) fn request_first(
        &mut self,
        step: &StepConfig,
        handler: ExternalHandler,
        hook: Option<HookId>,
    ) {
        let n = self.visit(&step.id).calls_made + 1;
        self.request(step, handler, hook, n, 1);
    }

    fn request(
        &mut self,
        step: &StepConfig,
        handler: ExternalHandler,
        hook: Option<HookId>,
        n: u32,
        attempt: u32,
    ) {
        let visit = self.visit(&step.id);
        let number = visit.number;
        let config = asked(step, hook).and_then(|(_, config)| config);
        let job = (handler == ExternalHandler::Queue).then(|| Job {
            idempotency_key: HandlerCall::key(self.task_id(), &step.id, number, n),
            config: config.cloned().unwrap_or_default(),
            input: call_input(self.current(), visit),
        });
        let timeout = match hook {
            None => step.completion.as_ref().and_then(|c| c.timeout),
            // A job of a notification hook expects no answer.
            Some(hook) if !hook.stage.blocks_step() => None,
            Some(hook) => step.hook(hook).and_then(|hook| hook.timeout),
        };
        let due_at = match handler {
            ExternalHandler::Webhook => Some(self.now),
            ExternalHandler::Queue => timeout.map(|timeout| self.now + timeout.get()),
        };
        self.emit(WorkflowEvent::HandlerRequested(HandlerRequested {
            step_id: step.id.clone(),
            visit: number,
            n,
            handler,
            hook,
            attempt,
            due_at,
            job,
        }));
    }

    /// Records a failed attempt. After the last one, the step's `on_error` applies; a notification
    /// hook is abandoned.
    fn call_failed(
        &mut self,
        step: &StepConfig,
        visit: u32,
        call: &PendingCall,
        error: &str,
        retry_at: Option<chrono::DateTime<chrono::Utc>>,
    ) {
        let (n, attempt) = (call.n, call.attempt);
        self.emit(WorkflowEvent::HandlerFailed {
            step_id: step.id.clone(),
            visit,
            n,
            attempt,
            error: error.to_owned(),
            retry_at,
        });
        if retry_at.is_some() {
            return;
        }
        let attempts = if attempt == 1 { "attempt" } else { "attempts" };
        let reason = format!("failed after {attempt} {attempts}: {error}");
        match call.hook {
            None => {
                if self.step_failed(step, IncidentCode::HandlerFailed, reason) {
                    self.leave(step.id.clone());
                }
            }
            Some(hook) if hook.stage.blocks_step() => {
                if self.hook_failed(step, hook, Some(n), &reason) {
                    self.go_on(step, None);
                }
            }
            Some(hook) => self.hook_ended(&step.id, visit, hook, Some(n), Err(reason)),
        }
    }

    /// Applies `on_error` to a step that failed. Returns whether the step has ended.
    pub(super) fn step_failed(
        &mut self,
        step: &StepConfig,
        code: IncidentCode,
        reason: String,
    ) -> bool {
        match step.on_error.unwrap_or(self.config().settings.on_error) {
            OnError::Skip => {
                let visit = self.visit(&step.id).number;
                self.emit(WorkflowEvent::StepSkipped {
                    step_id: step.id.clone(),
                    visit,
                    reason,
                });
                true
            }
            OnError::Pause => {
                self.open_incident(&step.id, code, reason);
                false
            }
            OnError::Escalate => {
                self.escalate(&step.id, code, reason);
                false
            }
        }
    }
}
