//! Calls to handlers outside: asked for, answered, tried again, given up.

use std::time::Duration;

use super::{Refusal, work::Work};
use crate::{
    config::{OnError, OutsideHandler, StepConfig},
    engine::{
        command::{Due, EffectOutcome},
        effect::{HandlerCall, call_input, pending_call},
    },
    events::{HandlerRequested, Job, WorkflowEvent},
    executor::Closing,
    limits::{RETRY_DELAY_FIRST, RETRY_DELAY_MAX, TEXT_BYTES_MAX},
    state::IncidentCode,
};

/// The answer to a call, if the state still waits for it: a late one changes nothing.
pub(super) fn answered(work: &mut Work<'_>, command: &Due) -> Result<(), Refusal> {
    let row = &command.row;
    let Some((step_id, call)) = pending_call(work.current(), row) else {
        return Ok(());
    };
    let (step, handler, attempt) = (work.step(step_id).clone(), call.handler, call.attempt);
    work.subject = Some(step.id.clone());
    if step.outside_handler() != Some(handler) {
        // The revision that the task has moved to does the step in another way.
        work.go_on(&step, None);
        return Ok(());
    }
    match &command.outcome {
        None => return Err(Refusal::NotPerformed),
        Some(EffectOutcome::Done { output }) => {
            work.go_on(&step, Some(Closing::Advance(Some(output))));
        }
        Some(EffectOutcome::Failed {
            error,
            is_final,
            retry_after,
        }) => {
            let again = !is_final && attempt <= work.config().settings.max_retries;
            let pause = retry_delay(attempt).max(retry_after.unwrap_or_default());
            let retry_at = again.then(|| work.now + pause.min(RETRY_DELAY_MAX));
            work.call_failed(&step, &kept(error), retry_at);
        }
    }
    Ok(())
}

/// A job went unanswered for too long: it is published again, or given up.
pub(super) fn unanswered(work: &mut Work<'_>, command: &Due) {
    let Some((step_id, call)) = pending_call(work.current(), &command.row) else {
        return;
    };
    let (step, n, attempt, since) = (work.step(step_id).clone(), call.n, call.attempt, call.since);
    work.subject = Some(step.id.clone());
    let again = attempt <= work.config().settings.max_retries;
    let error = format!("attempt {attempt} of a job from {since} has no answer");
    work.call_failed(&step, &error, again.then_some(work.now));
    if again {
        work.request(&step, OutsideHandler::Queue, n, attempt + 1);
    }
}

/// The pause before the attempt that follows attempt number `failed`: 1 s, 4 s, 16 s, …
fn retry_delay(failed: u32) -> Duration {
    let factor = 4_u32.saturating_pow(failed.saturating_sub(1));
    RETRY_DELAY_FIRST
        .saturating_mul(factor)
        .min(RETRY_DELAY_MAX)
}

/// The part of an error that an event keeps: bounded, and without what stores refuse.
fn kept(error: &str) -> String {
    let mut end = error.len().min(TEXT_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    error[..end].replace('\0', "\u{fffd}")
}

impl Work<'_> {
    /// Asks a handler outside to do the step, in a series of attempts of its own.
    pub(super) fn request_first(&mut self, step: &StepConfig, handler: OutsideHandler) {
        let n = self.visit(&step.id).calls_made + 1;
        self.request(step, handler, n, 1);
    }

    fn request(&mut self, step: &StepConfig, handler: OutsideHandler, n: u32, attempt: u32) {
        let visit = self.visit(&step.id);
        let (number, job) = match handler {
            OutsideHandler::Webhook => (visit.number, None),
            OutsideHandler::Queue => {
                let job = Job {
                    idempotency_key: HandlerCall::key(self.task_id(), &step.id, visit.number, n),
                    config: step.config.clone().unwrap_or_default(),
                    input: call_input(self.current()),
                };
                (visit.number, Some(job))
            }
        };
        let timeout = step.completion.as_ref().and_then(|c| c.timeout);
        let due_at = match handler {
            OutsideHandler::Webhook => Some(self.now),
            OutsideHandler::Queue => timeout.map(|timeout| self.now + timeout.get()),
        };
        self.emit(WorkflowEvent::HandlerRequested(HandlerRequested {
            step_id: step.id.clone(),
            visit: number,
            n,
            handler,
            attempt,
            due_at,
            job,
        }));
    }

    /// Records a failed attempt; the last one ends as the step's `on_error` says.
    fn call_failed(
        &mut self,
        step: &StepConfig,
        error: &str,
        retry_at: Option<chrono::DateTime<chrono::Utc>>,
    ) {
        let visit = self.visit(&step.id);
        let Some((n, attempt)) = visit.call.as_ref().map(|call| (call.n, call.attempt)) else {
            return;
        };
        let number = visit.number;
        self.emit(WorkflowEvent::HandlerFailed {
            step_id: step.id.clone(),
            visit: number,
            n,
            attempt,
            error: error.to_owned(),
            retry_at,
        });
        if retry_at.is_none() {
            let attempts = if attempt == 1 { "attempt" } else { "attempts" };
            let reason = format!("failed after {attempt} {attempts}: {error}");
            if self.step_failed(step, IncidentCode::HandlerFailed, reason) {
                self.leave(step.id.clone());
            }
        }
    }

    /// What `on_error` makes of a step that failed. Answers whether the step has ended.
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
